"""Paired tests: whether a metric moved between two measurements of the same samples, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpq_fixtures.metrics import Metric, Statistic


@dataclass(frozen=True)
class Effect:
    """How a metric moved between two measurements of the same samples; positive is better, whatever the metric's direction.

    ``change`` is in the metric's unit, ``low`` and ``high`` its 95 % interval. ``worse`` and ``better`` count the samples that moved.
    ``p_worse`` is the chance of what was seen, or worse, if the metric had truly fallen by the margin and no more; ``p_better`` is that
    of a rise. ``detectable`` is the smallest fall that would have been found in 80 % of runs at the level asked for, ``needed`` the
    samples that a fall of twice the margin would take (0 where it cannot be said).
    """

    change: float
    low: float
    high: float
    samples: int
    clusters: int
    worse: int
    better: int
    p_worse: float
    p_better: float
    detectable: float
    needed: int


def paired_effect(
    metric: Metric, before: Sequence[Statistic], after: Sequence[Statistic], groups: Sequence[str], margin: float, level: float
) -> Effect:
    """Return how ``metric`` moved from the statistics ``before`` to those ``after``, sample by sample."""
    raise NotImplementedError
