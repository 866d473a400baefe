"""How two metrics rank operating points, and how far that depends on which samples were measured. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over ``points``, with the interval that resampled samples give it."""

    rho: float
    ci_low: float
    ci_high: float
    points: int


FEWEST_POINTS = 4
"""A rank correlation of three points is -1, -0.5, 0.5 or 1, whatever is measured."""


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


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ranks in each row, ``[rows, n]`` from 1 on, ties at their mean, NaN for NaN; scipy.stats takes a second to import."""
    order, places = np.argsort(values, axis=1), np.arange(values.shape[1])
    ordered = np.take_along_axis(values, order, axis=1)
    starts = np.insert(ordered[:, 1:] != ordered[:, :-1], 0, True, axis=1)
    ends = np.append(starts[:, 1:], np.ones((len(values), 1), bool), axis=1)
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=1)
    last = np.minimum.accumulate(np.where(ends, places, len(places))[:, ::-1], axis=1)[:, ::-1]
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=1)
    return np.where(np.isnan(values), np.nan, ranks)


def _spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the correlation of the ranks in each row, ties at their mean rank; NaN for a row with NaN or without differences."""
    x, y = (rank - rank.mean(axis=1, keepdims=True) for rank in map(_ranks, (first, second)))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.clip((x * y).sum(axis=1) / np.sqrt(np.square(x).sum(axis=1) * np.square(y).sum(axis=1)), -1, 1))
