"""Mean intersection over union of semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Chance, Statistic


class MeanIoU(Additive):
    """Intersection over union of each class, from one confusion matrix over the set, averaged over classes (Everingham et al. 2010, 4.1).

    Pixels whose target is ``ignored`` count nowhere; when ``ignored`` is one of the classes it has no part in the mean either. Classes that
    neither target nor prediction holds anywhere in the set are left out of the mean, as in the ADE20K benchmark's evaluation and in
    torchmetrics; a class that is only predicted counts as 0.

    Statistic: pixels of each class in the target, in the prediction and in both, ``[3, classes]``: the sums over rows and columns and
    the diagonal of the sample's confusion matrix, which is all that the union needs, and at 150 classes a fiftieth of its size.

    The tolerance is a two-hundredth: a shift of class boundaries in many pictures; rounding moves single pixels.
    """

    name = "miou"
    unit = "IoU"
    bounds = (0.0, 1.0)
    tolerance = 0.005
    version = 2

    def __init__(self, classes: int, ignored: int | None = None) -> None:
        """Take the number of classes, which are ``0..classes - 1``, and the target's label that is not scored, one of them or another."""
        if classes < 1:
            raise ValueError(f"mIoU needs at least one class, not {classes}")
        self.classes, self.ignored = classes, ignored

    @classmethod
    def restored(cls, settings: Mapping[str, Any] | None) -> MeanIoU | None:
        """Return the metric over as many classes; None where their number is not known."""
        return None if settings is None else cls(settings["classes"], settings["ignored"])

    @property
    def settings(self) -> dict[str, Any]:
        """Name the classes and the ignored label."""
        return {"classes": self.classes, "ignored": self.ignored}

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Count the pixels of two class maps ``[H, W]``; a prediction with NaN or infinity anywhere gives NaN throughout."""
        prediction, target = np.asarray(prediction), np.asarray(target)
        if target.ndim != 2 or prediction.shape != target.shape:
            raise ValueError(f"mIoU compares two class maps [H, W] of one shape, not {list(prediction.shape)} with {list(target.shape)}")
        if not np.all(np.isfinite(prediction)):
            return np.full((3, self.classes), np.nan)
        prediction, target = _labels(prediction, "prediction"), _labels(target, "target")
        if self.ignored is not None:
            scored = target != self.ignored
            prediction, target = prediction[scored], target[scored]
        for what, labels in (("prediction", prediction), ("target", target)):
            if labels.size and (labels.min() < 0 or labels.max() >= self.classes):
                raise ValueError(f"mIoU of {self.classes} classes: the {what} has labels from {labels.min()} to {labels.max()}")
        counted = (target, prediction, target[target == prediction])
        return np.stack([np.bincount(labels.ravel(), minlength=self.classes) for labels in counted]).astype(np.float64)

    def chance(self, statistics: Sequence[Statistic], targets: Sequence[str]) -> Chance | None:
        """Return what the best map of one class reaches: the most frequent one's share of the pixels, and 0 for every other class."""
        target = np.sum([statistic[0] for statistic in statistics], axis=0)
        if not len(statistics) or not target.sum() > 0:
            return None
        best = int(target.argmax())
        constant = np.stack([target, np.zeros_like(target), np.zeros_like(target)])
        constant[1, best], constant[2, best] = target.sum(), target[best]
        return Chance(float(self.score(constant, len(statistics))), f"class {best} for every pixel")

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return the mean over the classes that occur; NaN when none does."""
        target, prediction, intersection = np.moveaxis(total, -2, 0)
        union = target + prediction - intersection
        counted = union != 0  # true of NaN, so that a failed sample shows
        if self.ignored is not None and 0 <= self.ignored < self.classes:
            counted[..., self.ignored] = False
        with np.errstate(invalid="ignore"):
            ratios = np.where(counted, intersection / np.where(counted, union, 1.0), 0.0)
            return np.asarray(ratios.sum(axis=-1) / counted.sum(axis=-1))


def _labels(values: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Return a class map as integers, or say that it holds something else."""
    labels = values.astype(np.int64)
    if not np.array_equal(labels, values):
        raise ValueError(f"mIoU compares class indices; the {what} holds values that are not whole numbers")
    return labels
