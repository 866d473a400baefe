"""Values of signal metrics rounded to levels: a byte a sample is enough, as their mean stands beside them exactly."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEVELS = 63
"""Steps into which a case's similarity is cut for each sample; one more says that the sample has none."""
EXACT = 1e-6  # to which figures are shown


def quantised(values: NDArray[np.float64]) -> tuple[float | None, list[float], NDArray[np.uint8]]:
    """Return the mean of a signal metric's values, their lowest and highest, and each as one of `LEVELS` in between, or one more for none.

    Each value is rounded up or down so that the mean of any stretch of samples is right to a step over its length: what one rounding
    leaves goes into the next (error diffusion).
    """
    there = np.isfinite(values)
    if not there.any():
        return None, [0.0, 0.0], np.full(len(values), LEVELS, np.uint8)
    found = values[there]
    low, high = float(f"{found.min():.6g}"), float(f"{found.max():.6g}")
    step = (high - low) / (LEVELS - 1)
    levels = np.full(len(values), LEVELS, np.uint8)
    sums = np.floor(np.cumsum(np.clip((found - low) / step, 0, LEVELS - 1)) + 0.5) if step > 0 else np.zeros(len(found))
    levels[there] = np.clip(np.diff(sums, prepend=0), 0, LEVELS - 1)
    return round(float(found.mean()), 6), [low, high], levels


def restored_values(mean: float | None, span: Sequence[float], levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what `quantised` was given, with its mean exact; raise ValueError where the mean does not follow from the levels."""
    there = levels < LEVELS
    if (mean is None) == bool(there.any()) or levels.max(initial=0) > LEVELS:
        raise ValueError("values without a mean, or a mean without values")
    low, high = span
    step = (high - low) / (LEVELS - 1)
    values = np.where(there, low + step * levels, np.nan)
    if mean is not None:
        off = mean - float(values[there].mean())
        # Half a step over all, what rounding to six digits moved the range by, and what it moved the mean by.
        if not abs(off) <= step / there.sum() + 1e-5 * max(abs(low), abs(high)) / 2 + EXACT:
            raise ValueError(f"a mean of {mean:g} is shown, and the samples give {mean - off:g}")
        values += off
    return values
