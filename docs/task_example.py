"""A task of one's own in one file: how far away each pixel is, as any `AutoModelForDepthEstimation` that answers in metres says.

``PYTHONPATH=docs pytest -p task_example evaluations --mpq-suite rooms.toml`` evaluates it: defining the classes is all that there is to do.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from mpq_fixtures.datasets.columns import Files, Table, Targets, digest_of_text, files_of
from mpq_fixtures.examples import Part, image_example, signal_example
from mpq_fixtures.metrics import Additive, Statistic
from mpq_fixtures.models import checkpoints
from mpq_fixtures.signals import Dataset, Image, Signal
from mpq_fixtures.tasks import IMAGE, Task


class Delta1(Additive):
    """The share of pixels whose depth is off by a factor below 1.25 (Eigen et al., 2014). Statistic: ``[such pixels, measured pixels]``."""

    name, unit, bounds, tolerance = "delta1", "share", (0.0, 1.0), 0.01

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two depth maps in metres, ``[height, width]``; what is not above 0 in the target was not measured."""
        if prediction.shape != target.shape:
            raise ValueError(f"delta1 compares maps of one size, not {list(prediction.shape)} with {list(target.shape)}")
        measured = target > 0
        found, wanted = prediction[measured].astype(np.float64), target[measured]
        with np.errstate(divide="ignore"):
            near = np.maximum(found / wanted, wanted / found) < 1.25
        good = (near & (found > 0)).sum() if np.isfinite(found).all() else np.nan
        return np.array([good, found.size], np.float64)

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return the share over all measured pixels; NaN where there are none."""
        with np.errstate(invalid="ignore"):
            return np.asarray(total[..., 0] / total[..., 1])


class DepthEstimation(Task):
    """How far away each pixel is; delta1. ``scale`` is the value in the maps of the data that stands for a metre."""

    name, title = "depth_estimation", "depth estimation"
    modality, columns = IMAGE, ("image", "depth")
    packages = ("torch", "transformers", "pillow")
    options: Mapping[str, Any] = {"scale": 1000}
    model_options: Mapping[str, Any] = {}
    answer_bytes = 2.0

    def targets(self, table: Table) -> tuple[Targets, tuple[str, ...]]:
        """Return depth maps, of which no classes are the index."""
        return _DepthMaps(files_of(table, table.column("depth"), "depth"), table.evaluation.options["scale"]), ()

    def check(self, source: str, **options: Any) -> None:
        """Raise `AssetError` where a folder holds no such checkpoint, or not all of it."""
        checkpoints.check(source, "ForDepthEstimation", checkpoints.WEIGHTS, checkpoints.PROCESSOR)

    def load(self, source: str, device: str, **options: Any) -> DepthEstimator:
        """Load a model from a local folder; mpq has brought it there where it is from the hub."""
        return DepthEstimator(source, device)

    def metric(self, dataset: Dataset, **options: Any) -> Delta1:
        """Return delta1; `ValueError` says what is wrong with an option."""
        if not isinstance(options["scale"], int | float) or not options["scale"] > 0:
            raise ValueError(f"scale: {options['scale']!r} must be a number above 0, such as 1000 for millimetres")
        return Delta1()

    def example(self, signal: Signal, prediction: Any, target: Any, labels: Sequence[str], level: Signal | None) -> list[Part]:
        """Return the picture and how near the model holds its pixels to be, from the nearest in white to what is far in black."""
        near = 1 / np.maximum(prediction.astype(np.float64), 1e-3)
        grey = np.uint8(255 * near / near.max())
        return [signal_example(signal), image_example(Image(np.stack([grey] * 3, -1)), "how near the model holds it to be")]


class DepthEstimator:
    """A model on a device with its image processor."""

    def __init__(self, source: str, device: str) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        self._model = AutoModelForDepthEstimation.from_pretrained(source, dtype=torch.float32).eval().to(device)
        self._processor, self._device = AutoImageProcessor.from_pretrained(source, backend="pil"), device

    def predict(self, signals: Sequence[Image]) -> list[NDArray[np.float16]]:
        """Return the depth of each picture's pixels in metres; three digits are far more than the metric looks at."""
        import torch

        with torch.inference_mode():
            return [self._depth(signal.pixels).astype(np.float16) for signal in signals]

    def _depth(self, pixels: NDArray[np.uint8]) -> Any:
        values = self._processor(PILImage.fromarray(pixels), return_tensors="pt").to(self._device)
        answer = self._processor.post_process_depth_estimation(self._model(**values), target_sizes=[pixels.shape[:2]])
        return answer[0]["predicted_depth"].float().cpu().numpy()


class _DepthMaps(Targets):
    """Depth maps in metres, from pictures of one channel or arrays that numpy saved."""

    def __init__(self, files: Files, scale: float) -> None:
        self.files, self._scale = (files,), scale

    def digests(self, row: int) -> Iterator[bytes]:
        yield from (self.files[0].digest(row)[0], digest_of_text(f"{self._scale} a metre"))

    def __getitem__(self, row: int) -> NDArray[np.float64]:
        data = self.files[0][row]
        values = np.load(io.BytesIO(data)) if data.startswith(b"\x93NUMPY") else np.array(PILImage.open(io.BytesIO(data)))
        return values.astype(np.float64) / self._scale
