"""Image classification with ViT (Dosovitskiy et al., 2020, arXiv 2010.11929) and its kin: a picture in, a class index out.

Any checkpoint that `AutoModelForImageClassification` reads will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.models import checkpoints
from mpq_fixtures.signals import Image
from mpq_fixtures.tasks import IMAGE
from mpq_fixtures.tasks._classes import Classification
from mpq_fixtures.tasks._pictures import PictureModel, read


class ImageClassification(Classification):
    """Which of some classes is in the picture; top-1 accuracy."""

    name, title = "image_classification", "image classification"
    modality, columns = IMAGE, ("image", "label")
    packages = ("torch", "transformers", "pillow")

    def check(self, source: str, **options: Any) -> None:
        """Raise `AssetError` where a folder holds no such checkpoint, or not all of it, as far as shows without reading weights."""
        checkpoints.check(source, "ForImageClassification", checkpoints.WEIGHTS, checkpoints.PROCESSOR)

    def load(self, source: str, device: str, **options: Any) -> ImageClassifier:
        """Load a classifier for ``device`` from a local folder or a hub id with an optional ``@revision``.

        Raises what `check` does, and ``OSError`` when there is no such checkpoint.
        """
        self.check(source)
        return ImageClassifier(*read("AutoModelForImageClassification", source), device, **options)


class ImageClassifier(PictureModel):
    """An image classifier on a device; ``labels`` are the names of its classes."""

    def predict(self, signals: Sequence[Image]) -> list[int]:
        """Return the index of the most probable class of each picture."""
        return self.infer(self.prepare(signals))

    def prepare(self, signals: Sequence[Image]) -> list[NDArray[np.float32]]:
        """Return the pixel values of each picture, ``float32 [1, 3, height, width]``, each prepared alone."""
        return [self._pixel_values(signal) for signal in signals]

    def infer(self, prepared: Sequence[NDArray[np.float32]]) -> list[int]:
        """Return the index of the most probable class for what `prepare` made of each picture."""
        import torch

        with torch.inference_mode():
            return [int(logits.argmax()) for logits in self._logits(prepared)]
