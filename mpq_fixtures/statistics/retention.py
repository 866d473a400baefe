"""Retention: the share of what a model does on the originals that is left. Pure functions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def retention(value: float, reference: float, floor: float | None = None, higher_is_better: bool = True) -> float:
    """Return the share of the reference that is left, both taken above ``floor`` when there is one (the SDR of the unseparated mixture).

    NaN when either is NaN, when the reference is not above the floor (or 0), so that there is nothing to retain, and where lower is
    better: an error that grew is no share of what was there.
    """
    if not higher_is_better:
        return math.nan
    return float(retentions(np.array(value), np.array(reference), np.array(0.0 if floor is None else floor)))


def retentions(values: NDArray[np.float64], references: NDArray[np.float64], floors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the `retention` of many values, all of shapes that can be broadcast, where higher is better."""
    above, base = values - floors, references - floors
    share: NDArray[np.float64] = np.divide(above, base, out=np.full(np.broadcast_shapes(above.shape, base.shape), np.nan), where=base > 0)
    return share
