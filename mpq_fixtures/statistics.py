"""Intervals and retention from the statistics of samples. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Metric, Statistic

SEED = 2401
"""What resampling starts from unless told otherwise, so that an interval can be computed again."""

CELLS = 2**20
"""Indices that are drawn at once, so that an interval over 10,000 samples takes no more memory than one over 1,000."""

SUMS = 2**22
"""Sums of statistics that are held at once: 32 MB, whatever the size of a statistic."""


def bootstrap_interval(
    metric: Metric,
    statistics: Sequence[Statistic],
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = SEED,
    groups: Sequence[str] = (),
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of a metric over samples (Efron and Tibshirani 1993, chapter 13).

    Whole samples are drawn with replacement, for source separation whole tracks. Where ``groups`` names one for some of the samples (a
    speaker, a patient), samples of one are no independent evidence: whole groups are drawn, as many as there are (Davison and Hinkley
    1997, section 3.8), and a sample whose group is "" is one of its own. Resamples where the metric is undefined, such as
    one of silent tracks alone, are left out. ``(nan, nan)`` when there are fewer than two to draw from, which say nothing of
    their spread, or when the metric itself is NaN. The same seed gives the same interval on every machine.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, and is not {level}")
    if groups and len(groups) != len(statistics):
        raise ValueError(f"each sample has a group or is alone: {len(groups)} groups do not fit {len(statistics)} samples")
    members = clusters(groups or [""] * len(statistics))
    if len(members) < 2 or not math.isfinite(metric.value(statistics)):
        return math.nan, math.nan
    values = np.concatenate(_resampled(metric, statistics, resamples, seed, members))
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clusters(groups: Sequence[str]) -> list[list[int]]:
    """Return the positions of each group's samples, in the order in which groups first occur; "" is no group, but a sample alone."""
    members: dict[str | int, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group or position, []).append(position)
    return list(members.values())


def _resampled(
    metric: Metric, statistics: Sequence[Statistic], resamples: int, seed: int, members: Sequence[Sequence[int]] = ()
) -> list[NDArray[np.float64]]:
    """Return the metric over all resamples, drawn and taken in parts; of whole clusters, where ``members`` has some of several samples."""
    units = len(members) or len(statistics)
    generator, step = np.random.RandomState(seed), max(1, CELLS // len(statistics))
    sizes = [min(step, resamples - start) for start in range(0, resamples, step)]
    drawn = (_draw(generator, units, size) for size in sizes)
    if units == len(statistics):
        return [resampled_values(metric, statistics, index) for index in drawn]
    return [_values_of_clusters(metric, statistics, members, index) for index in drawn]


def _values_of_clusters(
    metric: Metric, statistics: Sequence[Statistic], members: Sequence[Sequence[int]], index: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the metric over each resample of clusters, ``[resamples]``: all samples of each, however many these are."""
    condensed = [metric.condense(statistic) for statistic in statistics]
    if not isinstance(metric, Additive):
        return np.array([metric.value([condensed[i] for cluster in row for i in members[cluster]]) for row in index])
    sums = np.stack([np.sum([condensed[i] for i in cluster], axis=0, dtype=np.float64) for cluster in members])
    samples = np.array([len(cluster) for cluster in members])[index].sum(axis=1)
    step = max(1, SUMS // sums.size)
    totals = np.concatenate([sums[index[start : start + step]].sum(axis=1) for start in range(0, len(index), step)])
    values = np.empty(len(index))
    for count in np.unique(samples):
        values[samples == count] = metric.score(totals[samples == count], int(count))
    return values


def draws(samples: int, resamples: int, seed: int = SEED) -> NDArray[np.int64]:
    """Return which samples each resample holds, indices ``[resamples, samples]``."""
    # The legacy generator: numpy promises its stream for good (NEP 19), and not that of the newer one.
    return _draw(np.random.RandomState(seed), samples, resamples)


def _draw(generator: np.random.RandomState, samples: int, resamples: int) -> NDArray[np.int64]:
    """Return the generator's next resamples; some and then others are those that would have come together."""
    return generator.randint(0, samples, size=(resamples, samples), dtype=np.int64)


def resampled_values(metric: Metric, statistics: Sequence[Statistic], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the metric over each resample, ``[resamples]``, for rows of indices ``[resamples, any number]``."""
    condensed = [metric.condense(statistic) for statistic in statistics]
    if not isinstance(metric, Additive):
        return np.array([metric.value([condensed[i] for i in row]) for row in index])
    stack = np.stack(condensed).astype(np.float64)
    if not np.array_equal(stack, np.rint(stack)):
        return metric.score(stack[index].sum(axis=1), index.shape[1])
    # Whole numbers add up exactly in any order, so the fast product is the same everywhere.
    flat = stack.reshape(len(stack), -1)
    step = max(1, SUMS // flat.shape[1])
    values = []
    for start in range(0, len(index), step):
        rows = index[start : start + step]
        cells = rows + len(stack) * np.arange(len(rows))[:, None]
        counts = np.bincount(cells.ravel(), minlength=len(rows) * len(stack)).reshape(len(rows), len(stack))
        totals = counts.astype(np.float64) @ flat
        values.append(metric.score(totals.reshape(len(rows), *stack.shape[1:]), index.shape[1]))
    return np.concatenate(values)


def retention(value: float, reference: float, floor: float | None = None) -> float:
    """Return the share of the reference that is left, both taken above ``floor`` when there is one (the SDR of the unseparated mixture).

    NaN when either is NaN, or when the reference is not above the floor (or 0), so that there is nothing to retain.
    """
    base = 0.0 if floor is None else floor
    if not reference > base:
        return math.nan
    return (value - base) / (reference - base)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over ``points``, with the interval that resampled samples give it."""

    rho: float
    ci_low: float
    ci_high: float
    points: int


FEWEST_POINTS = 4
"""A rank correlation of three points is -1, -0.5, 0.5 or 1, whatever is measured."""


def values_of_points(metric: Metric, points: Sequence[Sequence[Statistic]], resamples: int = 1000, seed: int = SEED) -> NDArray[np.float64]:
    """Return a metric over the same samples at several points: ``[1 + resamples, points]``, of all samples and then of each resample.

    Every point has the same samples in the same order, and a resample holds the same ones at every point, so that what is hard about a
    sample is hard everywhere. The same seed gives the same resamples for another metric of these samples.
    """
    if len({len(statistics) for statistics in points}) != 1 or not len(points[0]):
        raise ValueError(f"points need the same samples, at least one, not {[len(statistics) for statistics in points]} of them")
    columns = [[np.array([metric.value(statistics)]), *_resampled(metric, statistics, resamples, seed)] for statistics in points]
    return np.stack([np.concatenate(column) for column in columns], axis=1)


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64], level: float = 0.95) -> Correlation | None:
    """Return how the values of two metrics go together over points (Spearman's rho), from two of `values_of_points`.

    The interval is the percentile bootstrap's over samples: it says how far rho depends on which samples were measured, at these very
    points, and nothing of other codecs. Points where a value is NaN are left out; None where fewer than four remain, or where one
    metric is the same at all of them. Resamples without a rho are left out of the interval.
    """
    measured = np.isfinite(first[0]) & np.isfinite(second[0])
    if measured.sum() < FEWEST_POINTS:
        return None
    rho = _spearman(first[:, measured], second[:, measured])
    if not math.isfinite(rho[0]):
        return None
    drawn = rho[1:][np.isfinite(rho[1:])]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if len(drawn) else (math.nan, math.nan)
    return Correlation(float(rho[0]), float(low), float(high), int(measured.sum()))


def _spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation of the ranks in each row, ties at their mean rank; NaN for a row with NaN or without differences."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=1, nan_policy="propagate") for values in (first, second)]
    x, y = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.clip((x * y).sum(axis=1) / np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1)), -1, 1))
