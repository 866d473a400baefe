"""Intervals of right and wrong answers: of their share, and of the ratio of two shares over the same samples. Pure functions."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Metric, SignalMetric
from mpq_fixtures.statistics.units import NONE, Interval, Units

_Array = NDArray[np.float64]
WILSON, SCORE = "Wilson", "paired score"


def right_or_wrong(metric: Metric, stack: Any) -> bool:
    """Tell whether a metric is the mean of hits and misses; what compares signals has shares, which may all be whole by chance."""
    if not (isinstance(metric, Additive) and isinstance(stack, np.ndarray) and stack.ndim == 1 and len(stack)):
        return False
    if isinstance(metric, SignalMetric) or metric.bounds != (0.0, 1.0) or not ((stack == 0) | (stack == 1)).all():
        return False
    return bool(metric.score(np.array([1.0]), 4)[0] == 0.25)


def wilson(hits: _Array, units: Units) -> Interval:
    """Return Wilson's interval (1927). Over clusters, of as many answers as are independent, by their spread and at most all, with
    Student's t in place of the normal quantile (Korn and Graubard 1998); where all are right, or wrong, of as many as there are clusters.
    """
    right = float(hits.mean())
    if units.of_sample is None:
        return Interval(*_wilson_ends(right, len(hits), units.z), WILSON)
    effect = _design_effect(hits - right, units)
    return Interval(*_wilson_ends(right, len(hits) / effect if effect else units.number, units.t), f"{WILSON}, clusters")


def _wilson_ends(share: float, count: float, z: float) -> tuple[float, float]:
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return (0.0 if share == 0 else max(0.0, middle - reach)), (1.0 if share == 1 else min(1.0, middle + reach))


def _design_effect(residuals: _Array, units: Units) -> float:
    """Return by how much clusters differ more than as many independent samples would, at least 1; 0 where nothing differs."""
    alone = float(residuals @ residuals)
    if not alone:
        return 0.0
    left = len(residuals) - units.sizes()
    error = units.error(-units.sums(residuals[:, None])[:, 0] / left)
    return max(1.0, error * error * len(residuals) ** 2 / alone)


def interval_of_ratio(answers: _Array, originals: _Array, units: Units) -> Interval:
    """Return the score interval of a ratio of paired proportions (Tang, Tang and Chan 2003; Nam and Blackwelder 2002).

    Answers that are right of both and wrong of both count too, so that where nothing changed the interval still has the width that so few
    samples leave. Over clusters, counts are those of as many samples as are independent, and Student's t stands for the normal quantile.
    """
    if units.number < 2 or not originals.any():
        return NONE
    both, rose, fell = (float(np.count_nonzero(pair)) for pair in (answers * originals, answers > originals, answers < originals))
    samples, z, method = float(units.samples), units.z, SCORE
    if units.of_sample is not None:
        effect = _design_effect(answers - (both + rose) / (both + fell) * originals, units)
        scale = 1 / effect if effect else units.number / samples
        both, rose, fell, samples = (scale * count for count in (both, rose, fell, samples))
        z, method = units.t, f"{SCORE}, clusters"
    return Interval(*score_of_ratio_ends(both, rose, fell, samples, z), method)


@lru_cache(maxsize=2**16)
def score_of_ratio_ends(both: float, rose: float, fell: float, samples: float, z: float) -> tuple[float, float]:
    """Return the ratios of shares right after and before at which the score is ``z`` and ``-z``; it falls as the ratio rises."""

    def at(score: float, low: float, high: float) -> float:
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if score_of_ratio(both, rose, fell, samples, middle) > score else (low, middle)
        return math.sqrt(low * high)

    ratio = (both + rose) / (both + fell)
    start = ratio or 1.0
    low = at(z, start * 1e-9, start) if ratio else 0.0
    return low, at(-z, start if ratio else 1e-9, start * 1e9)


def score_of_ratio(both: float, rose: float, fell: float, samples: float, ratio: float) -> float:
    """Return the score of a ratio, standard normal where it is the true one: counts of answers that are right before and after, of those
    that became right and wrong, and of all. The share that truly falls is taken where it makes the counts likeliest, given the ratio.
    """
    seen = both + rose + fell
    square, linear = samples * (1 + ratio), (both + fell) * ratio * ratio - (both + rose + 2 * fell)
    constant = fell * (1 - ratio) * seen / samples
    share = (math.sqrt(max(0.0, linear * linear - 4 * square * constant)) - linear) / (2 * square)
    variance = samples * (1 + ratio) * share + seen * (ratio - 1)
    distance = both + rose - ratio * (both + fell)
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0
