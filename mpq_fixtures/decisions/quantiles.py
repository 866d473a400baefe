"""Quantiles over resamples, of which some may say nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.025, 0.975)
"""Between them lie 95 % of the resamples."""


def quantiles(values: NDArray[np.float64], at: Sequence[float] = QUANTILES) -> NDArray[np.float64]:
    """Return quantiles of the numbers in each row, ``[..., resamples]`` into ``[..., quantiles]``; NaN where a row has none.

    As `numpy.nanquantile` does, which goes from row to row.
    """
    if not values.shape[-1]:
        return np.full((*values.shape[:-1], len(at)), np.nan)
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=-1)  # NaN comes last
    last = np.isfinite(values).sum(axis=-1, keepdims=True) - 1
    place = np.maximum(last, 0) * np.asarray(at)
    below = np.floor(place).astype(np.intp)
    low, high = (np.take_along_axis(ordered, np.minimum(below + step, np.maximum(last, 0)), axis=-1) for step in (0, 1))
    return np.asarray(low + (high - low) * (place - below))


def figure(value: float) -> float | None:
    """Return a number with six digits, as results have them, and None for one that is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
