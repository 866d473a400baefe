"""Semantic segmentation with SegFormer (Xie et al., 2021, arXiv 2105.15203): a picture in, a class map out.

Any checkpoint that `SegformerForSemanticSegmentation` reads will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.models import _checkpoints
from mpq_fixtures.models._pictures import PictureModel, read
from mpq_fixtures.signals import Image

VERSION = 1


class ImageSegmentation(PictureModel):
    """A SegFormer on a device; ``labels`` are the names of its classes."""

    cpu_batch = 8  # the maps of more outgrow the processor's caches

    def predict(self, signals: Sequence[Image]) -> list[NDArray[Any]]:
        """Return the class map of each picture, ``int [height, width]`` in the picture's own size.

        The logits, not the classes, are brought to that size, bilinearly, as the paper's evaluation does.
        """
        import torch

        with torch.inference_mode():
            return [self._map(logits, signal) for logits, signal in zip(self._logits(signals), signals, strict=True)]

    def _map(self, logits: Any, signal: Image) -> NDArray[Any]:
        """Upsample one picture's logits ``[classes, h, w]`` and take the greatest of each pixel."""
        from torch.nn.functional import interpolate

        height, width = signal.pixels.shape[:2]
        upsampled = interpolate(logits[None], size=(height, width), mode="bilinear", align_corners=False)[0]
        classes: NDArray[Any] = upsampled.max(0).indices.cpu().numpy()  # on a CPU five times faster than argmax over the first axis
        return classes.astype(np.uint8 if len(self.labels) <= 256 else np.int32)


def check(source: str, precision: str = "float32") -> None:
    """Raise `AssetError` where a local folder holds no such checkpoint, or not all of it, as far as shows without reading weights."""
    _checkpoints.check(source, "SegformerForSemanticSegmentation", _checkpoints.WEIGHTS, _checkpoints.PROCESSOR)


def load(source: str, device: str, precision: str = "float32") -> ImageSegmentation:
    """Load a SegFormer for ``device`` from a local folder or a hub id with an optional ``@revision``.

    Raises what `check` does, and ``OSError`` when there is no such checkpoint.
    """
    check(source)
    return ImageSegmentation(*read("SegformerForSemanticSegmentation", source), device, precision)
