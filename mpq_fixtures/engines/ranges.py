"""Ranges: the batches of a case that are claimed, or sent out, together."""

from __future__ import annotations

STRETCH = 2.0
"""Seconds of work in a range: much more than it costs to claim or to send it, and little to wait for, or to lose, at the end."""

MOST_SAMPLES = 512
"""Samples in a range, whose rows are objects until they are written."""


def batches_of_range(pace: float | None, size: int, most: int) -> int:
    """Return how many batches of ``size`` samples make a range, ``most`` at most and one at least.

    ``pace`` is what a sample of the case takes, in seconds. Where it is not known yet a range is one batch: what the originals or another
    codec took says nothing of it.
    """
    steady = int(STRETCH / (pace * size)) if pace else 1
    return max(1, min(most, MOST_SAMPLES // size, steady))
