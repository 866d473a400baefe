"""What intervals are made of: their ends, and the units that are independent, samples or clusters of them. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.statistics.resampling import clusters


class Interval(NamedTuple):
    """The ends of an interval, and the short name of how they were found; NaN and "" where there is none."""

    low: float
    high: float
    method: str

    def over(self, reference: float) -> Interval:
        """Return the interval of what it is an interval of as a share of ``reference``, which is known."""
        return Interval(self.low / reference, self.high / reference, self.method)


NONE = Interval(math.nan, math.nan, "")


class Units(NamedTuple):
    """What is independent: ``number`` samples, or clusters of them; ``of_sample`` then says which cluster each sample is in."""

    groups: Sequence[str]
    samples: int
    number: int
    of_sample: NDArray[np.intp] | None
    level: float

    @classmethod
    def of(cls, lengths: Sequence[int], groups: Sequence[str], level: float) -> Units:
        """Check that everything is of as many samples."""
        if not 0 < level < 1:
            raise ValueError(f"the level of an interval lies between 0 and 1, and is not {level}")
        if len(set(lengths)) > 1:
            raise ValueError(f"what an interval is taken of has the same samples, not {list(lengths)} of them")
        samples = lengths[0] if lengths else 0
        if len(groups) and len(groups) != samples:
            raise ValueError(f"each sample has a group or is alone: {len(groups)} groups do not fit {samples} samples")
        members = clusters(groups) if any(groups) else []
        if not len(members) or len(members) == samples:
            return cls((), samples, samples, None, level)
        of_sample = np.empty(samples, np.intp)
        for number, own in enumerate(members):
            of_sample[own] = number
        return cls(groups, samples, len(members), of_sample, level)

    @property
    def t(self) -> float:
        """The quantile of Student's t with one degree of freedom fewer than there are units."""
        return _quantile_of_t(self.number - 1, self.level)

    @property
    def z(self) -> float:
        """The normal quantile."""
        return NormalDist().inv_cdf((1 + self.level) / 2)

    def sums(self, columns: NDArray[Any]) -> NDArray[Any]:
        """Return the sums of ``[samples, columns]`` in each unit, ``[units, columns]``."""
        if self.of_sample is None:
            return columns
        return np.stack([np.bincount(self.of_sample, column, self.number) for column in columns.T], axis=1)

    def sizes(self) -> NDArray[np.int64]:
        """Return how many samples each unit has."""
        if self.of_sample is None:
            return np.broadcast_to(np.int64(1), self.number)  # which takes no memory
        return np.bincount(self.of_sample, minlength=self.number)

    def error(self, without: NDArray[np.float64]) -> float:
        """Return the jackknife's standard error of a figure, from what it is ``without`` each unit (Efron and Tibshirani 1993)."""
        distance = without - without.mean()
        return math.sqrt((self.number - 1) / self.number * float(distance @ distance))


@lru_cache(maxsize=4096)
def _quantile_of_t(freedom: int, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))
