"""Where a series of runs moved to another level and stayed there: E-divisive with a filter, a pure function.

E-divisive (Matteson and James, *A nonparametric approach for multiple change point analysis of multivariate data*, JASA 109, 2014,
arXiv 1306.4933) splits a series where the energy distance between what lies before and after is largest, and again within the parts, as
long as shuffled series seldom have as large a one. As Apache Otava does (Fleming et al., *Hunter*, ICPE 2023, arXiv 2301.03034) it looks
through windows of a long series and keeps of what it found the changes of level that a t test confirms. Other than there, splits are
tested by permutation, as in the paper: a single spike, which makes a small variance look like a large change, is as likely in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

RARE, LEVEL = 0.01, 0.001
"""How many shuffled series may have as good a split as the series itself, and the level at which the t test confirms a change."""
WINDOW = 50
"""Runs that are looked at together; the next window begins half of it later."""
FEWEST = 3
"""Runs on each side of a change: one or two are a spike, or too few to tell."""
SHUFFLES = 999
"""Permutations of a window; shuffling ends once too many of them have reached what the series has, so most are never made."""
SEED = 2401
_AT_ONCE = 37  # shuffles; a divisor of SHUFFLES


@dataclass(frozen=True)
class ChangePoint:
    """A change of level: ``index`` is the first run after it, ``before`` and ``after`` are the means up to the neighbouring changes.

    ``runs_before`` and ``runs_after`` say over how many runs, ``p`` is the t test's.
    """

    index: int
    before: float
    after: float
    runs_before: int
    runs_after: int
    p: float


def change_points(values: Sequence[float], smallest: float = 0.0, seed: int = SEED) -> list[ChangePoint]:
    """Return the change points of a series in the order of runs; those smaller than ``smallest``, in the values' unit, are left out.

    The same series gives the same points. Raises `ValueError` for values that are not finite: leave such runs out.
    """
    series = np.asarray(values, np.float64)
    if not np.isfinite(series).all():
        raise ValueError("change points need finite values: leave out the runs that have none")
    random = np.random.RandomState(seed)  # the generator whose stream numpy promises for good (NEP 19)
    borders: set[int] = set()
    start = 0
    while start + 2 * FEWEST <= len(series):
        found = [start + border for border in _divide(series[start : start + WINDOW], random)]
        borders.update(found)
        start = max([start + WINDOW // 2, *found])
    return _confirmed(series, sorted(borders), smallest)


def energies(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the energy statistic of every split of a series, ``[..., split, end]``, from the distances of its runs ``[..., runs, runs]``.

    At ``[split, end]`` it is that between runs ``0..split-1`` and ``split..end-1``: ``nm / (n + m) (2 E|X-Y| - E|X-X'| - E|Y-Y'|)``,
    equations 5 and 7 of the paper with exponent 1; ``-inf`` where either side has fewer than `FEWEST` runs.
    """
    runs = distances.shape[-1]
    sums = np.zeros((*distances.shape[:-2], runs + 1, runs + 1))
    sums[..., 1:, 1:] = distances.cumsum(axis=-2).cumsum(axis=-1)  # over the first [i] runs against the first [j]
    upto = np.diagonal(sums, axis1=-2, axis2=-1)
    before, whole = upto[..., :, None], upto[..., None, :]
    split, end = np.arange(runs + 1.0)[:, None], np.arange(runs + 1.0)[None, :]
    after = end - split
    possible = (split >= FEWEST) & (after >= FEWEST)
    split, after = np.where(possible, split, 2.0), np.where(possible, after, 2.0)
    across = (sums - before) / (split * after)
    within = before / (split * (split - 1)) + (whole - 2 * sums + before) / (after * (after - 1))
    return np.where(possible, split * after / (split + after) * (2 * across - within), -np.inf)


def _divide(series: NDArray[np.float64], random: np.random.RandomState) -> list[int]:
    """Split a window again and again, until shuffling the runs within its parts does as well as the best split that is left."""
    borders = [0, len(series)]
    while True:
        parts = [series[low:high] for low, high in pairwise(borders)]
        best = [_best(_distances(part)) for part in parts]
        most = max(float(energy) for energy, _ in best)
        if not most > 0 or not _is_rare(parts, most, random):
            return borders[1:-1]
        place = next(number for number, (energy, _) in enumerate(best) if float(energy) == most)
        borders = sorted({*borders, borders[place] + int(best[place][1])})


def _distances(parts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.abs(parts[..., :, None] - parts[..., None, :])


def _best(distances: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Return the largest energy statistic and its split, over all splits and ends, of series ``[..., runs, runs]``."""
    found = energies(distances)
    flat = found.reshape(*found.shape[:-2], -1)
    return flat.max(axis=-1), flat.argmax(axis=-1) // found.shape[-1]


def _is_rare(parts: Sequence[NDArray[np.float64]], energy: float, random: np.random.RandomState) -> bool:
    """Tell whether at most `RARE` of the series with shuffled parts have a split as good; stops as soon as there are more."""
    allowed, reached = math.floor(RARE * (SHUFFLES + 1) + 1e-9) - 1, 0
    parts = [part for part in parts if len(part) >= 2 * FEWEST]
    for _ in range(SHUFFLES // _AT_ONCE):
        best = np.full(_AT_ONCE, -np.inf)
        for part in parts:
            order = random.random_sample((_AT_ONCE, len(part))).argsort(axis=1)
            best = np.maximum(best, _best(_distances(part[order]))[0])
        reached += int((best >= energy * (1 - 1e-9)).sum())  # sums in another order differ in their last digits
        if reached > allowed:
            return False
    return True


def _confirmed(series: NDArray[np.float64], borders: list[int], smallest: float) -> list[ChangePoint]:
    """Drop the weakest change point until the t test confirms all that are left and none is smaller than ``smallest``."""
    while True:
        edges = [0, *borders, len(series)]
        points = [_point(series, *edges[number : number + 3]) for number in range(len(borders))]
        doubtful = [point for point in points if point.p > LEVEL] or [
            point for point in points if abs(point.after - point.before) < smallest
        ]
        if not doubtful:
            return points
        borders.remove(max(doubtful, key=lambda point: (point.p, -abs(point.after - point.before))).index)


def _point(series: NDArray[np.float64], start: int, index: int, end: int) -> ChangePoint:
    left, right = series[start:index], series[index:end]
    return ChangePoint(index, float(left.mean()), float(right.mean()), len(left), len(right), _welch(left, right))


def _welch(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Return the two-sided p of Welch's t test, 0 for two different levels without any spread, 1 where there is nothing to test."""
    from scipy.special import stdtr  # scipy.stats would take a second to import

    difference = float(right.mean() - left.mean())
    if min(len(left), len(right)) < 2 or difference == 0:
        return 1.0
    shares = np.array([left.var(ddof=1) / len(left), right.var(ddof=1) / len(right)])
    if not shares.sum() > (1e-12 * difference) ** 2:
        return 0.0
    freedom = shares.sum() ** 2 / (shares**2 / [len(left) - 1, len(right) - 1]).sum()
    return float(2 * stdtr(freedom, -abs(difference) / math.sqrt(shares.sum())))
