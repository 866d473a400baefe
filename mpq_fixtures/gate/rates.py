"""Rates of a codec's cases together: a rise that is below the margin in each of them, and common to all. Bytes do not jitter: no test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mpq_fixtures.gate.pooling import POOLED


def rise(before: float, now: float) -> float:
    """Return the share by which a rate rose; 0 where there was none and is none, infinite where there was none."""
    return now / before - 1 if before else (math.inf if now else 0.0)


@dataclass(frozen=True)
class RateChange:
    """A case's rate before and now, over the samples that both have, and the share by which it may rise."""

    case: str
    codec: str
    before: float
    now: float
    margin: float


@dataclass(frozen=True)
class PooledRate:
    """The mean rise of a codec's rates over its cases."""

    name: str
    cases: tuple[str, ...]
    rise: float
    margin: float

    @property
    def fails(self) -> bool:
        """Tell whether it is more than half of what a case alone may rise; NaN is."""
        return not self.rise <= self.margin

    def __str__(self) -> str:
        """Say it for people: ``jpeg, 5 cases together: rate +0.8 % on average, margin 0.5 %``."""
        return f"{self.name}, {len(self.cases)} cases together: rate {100 * self.rise:+.2g} % on average, margin {100 * self.margin:.2g} %"


def pool_rates(changes: Sequence[RateChange]) -> list[PooledRate]:
    """Return the mean rise of each codec that has two cases or more."""
    codecs: dict[str, list[RateChange]] = {}
    for change in changes:
        codecs.setdefault(change.codec, []).append(change)
    return [
        PooledRate(
            codec,
            tuple(change.case for change in members),
            sum(rise(change.before, change.now) for change in members) / len(members),
            POOLED * max(change.margin for change in members),
        )
        for codec, members in codecs.items()
        if len(members) > 1
    ]
