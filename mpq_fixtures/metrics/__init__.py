"""Metrics: a statistic for each sample, and a value for any set of samples.

Each metric is one file. Intervals, paired tests and partial runs resample statistics, so no metric needs code for them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.signals import Signal

Statistic = NDArray[np.float64]
"""What a metric keeps of one sample: an array of any shape, the same number of axes for every sample."""


class Metric(ABC):
    """A figure of merit with its unit, bounds and tolerance.

    ``tolerance`` is how far the value may move between machines and library builds before it counts as a change, in ``unit``.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]]
    tolerance: ClassVar[float]
    version: ClassVar[int] = 1  # raised when what is computed changes: part of the cache key

    @abstractmethod
    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Return the statistic of one sample; for a signal metric, prediction and target are the decoded and the original signal."""

    @abstractmethod
    def value(self, statistics: Sequence[Statistic]) -> float:
        """Return the metric over the samples that the statistics came from; NaN when it is undefined there."""

    def floor(self, signal: Signal, target: Any) -> Statistic | None:
        """Return the statistic of answering with the signal itself, where retention is counted from there; None for most metrics."""
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """Name the options that change what is computed; part of the cache key and of the record."""
        return {}
