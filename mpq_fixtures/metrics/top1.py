"""Top-1 accuracy of classification."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Chance, Statistic


class Top1(Additive):
    """The share of samples whose predicted class is the target's (Russakovsky et al. 2015, with one guess). Statistic: 1 or 0, ``[]``.

    The tolerance, two answers in a hundred, is twice what near ties turn from one machine to another.
    """

    name = "top1"
    unit = "accuracy"
    bounds = (0.0, 1.0)
    tolerance = 0.02

    def __init__(self, classes: int | None = None) -> None:
        """Take the number of classes, which are ``0..classes - 1``; without it any index may be predicted."""
        self.classes = classes

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two class indices; a prediction of NaN or infinity gives NaN, and one of no class raises `ValueError`."""
        try:
            if isinstance(prediction, float | np.floating) and not math.isfinite(prediction):
                return np.array(np.nan)
            predicted, wanted = operator.index(prediction), operator.index(target)
        except TypeError:
            raise ValueError(f"top1 compares one class index with another, not {prediction!r} with {target!r}") from None
        if self.classes is not None and not 0 <= predicted < self.classes:
            raise ValueError(f"top1: the model answered class {predicted}, and its classes are 0 to {self.classes - 1}")
        return np.array(float(predicted == wanted))

    def chance(self, statistics: Sequence[Statistic], targets: Sequence[str]) -> Chance | None:
        """Return the share of the most frequent target."""
        if not targets:
            return None
        target, count = Counter(targets).most_common(1)[0]
        return Chance(count / len(targets), f"{target!r} for every sample")

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return hits over samples."""
        return np.asarray(total / samples)
