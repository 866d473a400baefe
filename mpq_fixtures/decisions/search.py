"""Looking for the lowest rate at which a model keeps a share of what it does on the originals, by few qualities and on few samples.

`search` knows neither codecs nor models. It is given the qualities in order, the one of the lowest rate first, and a function that measures
one of them on the first so many samples. What is kept rises with the quality but for noise, so that the place where it begins to be enough
can be bracketed. A quality is *sure* where the lower bound of what it keeps reaches the share, it *fails* where the upper bound does not,
and in between the samples cannot tell; it is *likely* where the estimate itself reaches the share.

- The lowest quality that is sure is bracketed. The search looks where the codec's ladder is dense, since its rungs stand where something
  changes, and never so far from the middle that halving what is left could not end within the qualities that it may try, which are
  ``ceil(log2(qualities + 1))``, 7 of a hundred. Where the samples cannot tell of a quality, the curve may be flat, and the lowest sure one
  near: the search looks close above it, twice at most, before it halves again. It does not part such qualities of nearly the same rate.
- Each quality is begun with a part of the samples, the same ones everywhere, and is given up as soon as these foretell, at the level of the
  intervals, what all of them will say (stochastic curtailment: Lan, Simon and Halperin 1982). What is answered was measured on all.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

NEAR = 0.1
"""Rates that differ by no more are as good as each other where the samples cannot tell what they keep."""

CLOSE = 2
"""How many times the search looks close above a quality of which the samples cannot tell, one place on, then two."""

ROUGH, WIDE = 0.25, 0.5
"""How exactly the rate of the likely quality is looked for, which only stands beside the sure one; and from which distance on it is looked
for before the sure one is known to the end."""


class Estimate(NamedTuple):
    """What was measured at a quality: the share that is kept with its interval, and the rate, in any unit."""

    retention: float
    low: float
    high: float
    rate: float


PARTS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)
"""Of all samples, what a quality is begun with and goes on to."""

FEWEST = 24
"""Samples that a part has at least."""


def parts(samples: int) -> list[int]:
    """Return how many samples are measured at once of so many, ever more of them."""
    sizes = {math.ceil(part * samples) for part in PARTS}
    return sorted(size for size in sizes if size >= FEWEST or size == samples)


Measure = Callable[[str, int], Estimate]
"""Measures a quality on the first so many samples."""


@dataclass(frozen=True)
class Probe:
    """A quality that was tried, its place in the range, on how many samples, and what came of it.

    ``reaches`` is the verdict: it is sure, or, on a part of the samples, will be. ``rate`` is that on the first part, which all qualities
    have: what other samples take says nothing of the quality.
    """

    place: int
    quality: str
    samples: int
    estimate: Estimate
    reaches: bool
    rate: float


@dataclass(frozen=True)
class Found:
    """What a search came to: the probes in the order of the range, and what they say of the share to keep.

    ``sure`` is the lowest quality that is sure, None where none is. ``likely`` is the lowest one whose pooled estimate reaches the share;
    it is cheaper than ``sure``, or the same. ``failing`` is the highest one that certainly fails. ``out_of_reach`` tells that the best one
    does, ``lowest`` that ``sure`` is the lowest there is. ``disorder`` are two neighbours of which the lower one has the higher rate.
    ``work`` counts samples over all qualities.
    """

    keep: float
    probes: tuple[Probe, ...]
    sure: Probe | None
    likely: Probe | None
    failing: Probe | None
    lowest: bool
    out_of_reach: bool
    disorder: tuple[Probe, Probe] | None = None
    work: int = field(default=0, compare=False)

    @property
    def enough(self) -> int | None:
        """About how many samples would tell: that the likely quality is sure, or, where none is, that any is.

        The width of an interval falls as the square root of the samples, and as their number where nothing at all was lost. None where
        nothing is left to tell, where no quality is likely, where one sample or group has no interval, or where it would take more than a
        hundred times as many.
        """
        if self.likely is None or self.likely is self.sure:
            return None
        asked = [self.likely] if self.sure else [probe for probe in self.probes if probe.place >= self.likely.place]
        told = [probe for probe in asked if probe.estimate.retention > self.keep and math.isfinite(probe.estimate.low)]
        needed = [_enough(probe, self.keep) for probe in told]
        return least if needed and (least := min(needed)) <= 100 * self.likely.samples else None


def _enough(probe: Probe, keep: float) -> int:
    retention, low, *_ = probe.estimate
    wider = (retention - low) / (retention - keep)
    return math.ceil(probe.samples * (wider if retention == 1 else wider**2))


def search(qualities: Sequence[str], measure: Measure, samples: Sequence[int], keep: float, ladder: Sequence[str] = ()) -> Found:
    """Return where ``qualities``, the one of the lowest rate first, begin to keep the share ``keep``.

    ``samples`` are how many are measured at once, ever more of them, the last one all there are. ``ladder`` names the qualities around
    which the search looks.
    """
    return _Search(qualities, measure, samples, keep, ladder).run()


class _Search:
    def __init__(self, qualities: Sequence[str], measure: Measure, samples: Sequence[int], keep: float, ladder: Sequence[str]) -> None:
        self.qualities, self.measure, self.samples, self.keep = qualities, measure, samples, keep
        self.last = len(qualities) - 1
        self.marks = [-1, *sorted({qualities.index(rung) for rung in ladder if rung in qualities}), len(qualities)]
        self.tried: dict[int, Probe] = {}
        self.work = 0

    @property
    def probes(self) -> list[Probe]:
        return [self.tried[place] for place in sorted(self.tried)]

    @property
    def sure(self) -> Probe | None:
        """The lowest quality that is sure, or will be."""
        return next((probe for probe in self.probes if probe.reaches), None)

    @property
    def likely(self) -> Probe | None:
        """The lowest quality whose pooled estimate reaches the share."""
        pooled = pool([probe.estimate.retention for probe in self.probes], [probe.samples for probe in self.probes])
        return next((probe for probe, retention in zip(self.probes, pooled, strict=True) if retention >= self.keep), None)

    def run(self) -> Found:
        most = math.ceil(math.log2(len(self.qualities) + 1))
        while (place := self._next(most - len(self.tried))) is not None:
            self._try(place)
        probes, sure, likely = self.probes, self.sure, self.likely
        return Found(
            self.keep,
            tuple(probes),
            sure,
            sure if sure and (likely is None or likely.place > sure.place) else likely,
            next((probe for probe in reversed(probes) if self._fails(probe)), None),
            lowest=sure is not None and sure.place == 0,
            out_of_reach=sure is None and self.last in self.tried and self._fails(self.tried[self.last]),
            disorder=next(((a, b) for a, b in pairwise(probes) if b.rate < a.rate), None),
            work=self.work,
        )

    def _fails(self, probe: Probe) -> bool:
        return probe.estimate.high < self.keep

    def _next(self, left: int) -> int | None:
        """Return the place to look at, with so many qualities ``left`` to try, or one to measure on all samples; None where that is all."""
        if left > 0:
            if self.sure is None and self.last not in self.tried and not all(map(self._fails, self.probes)):
                return self.last  # not even the best one need be sure
            certain, probable = self._edge_of_sure(), self._edge_of_likely()
            if probable and probable.gap > max(WIDE, certain.gap if certain else 0.0):
                return self._between(probable, len(self.qualities))
            if certain:
                place = self._between(certain, 2 ** (left - 1))
                return min(place, certain.low + untold) if 0 < (untold := self._untold_below(certain)) <= CLOSE else place
        answered = self.sure or self.likely or self.tried.get(self.last)
        if answered and answered.samples < self.samples[-1]:
            return answered.place
        return self._between(probable, len(self.qualities)) if left > 0 and probable else None

    def _edge_of_sure(self) -> _Bracket | None:
        """Return where the lowest quality that is sure lies; None where that is known, or where there is none."""
        if self.sure is None and not all(map(self._fails, self.probes)):
            return None
        bracket = self._bracket(self.sure)
        plain = bracket.below is None or self.sure is None or self._fails(bracket.below)
        return bracket if bracket.open and (plain or bracket.gap > NEAR) else None

    def _untold_below(self, bracket: _Bracket) -> int:
        """Return how many of the qualities tried below a bracket the samples cannot tell of, where there is a sure one above."""
        if self.sure is None or bracket.below is None or self._fails(bracket.below):
            return 0
        return sum(probe.place < bracket.high and not self._fails(probe) for probe in self.probes)

    def _edge_of_likely(self) -> _Bracket | None:
        """Return where the lowest quality that is likely lies; None where that is known, or where it is the one that is sure."""
        likely = self.likely
        if likely is None or likely.reaches:
            return None
        bracket = self._bracket(likely)
        return bracket if bracket.open and bracket.gap > ROUGH else None

    def _bracket(self, above: Probe | None) -> _Bracket:
        high = above.place if above else len(self.qualities)
        below = next((probe for probe in reversed(self.probes) if probe.place < high), None)
        gap = above.rate / below.rate - 1 if above and below and below.rate > 0 else math.inf
        return _Bracket(below, high, gap)

    def _between(self, bracket: _Bracket, most: int) -> int:
        """Return the place to look at in a bracket, so near to both ends that ``most`` gaps at most are left on either side.

        It is the middle where the rungs of the ladder are taken to be equally far from each other.
        """
        middle = (self._along(bracket.low) + self._along(bracket.high)) / 2
        wanted = min(range(bracket.low + 1, bracket.high), key=lambda place: abs(self._along(place) - middle))
        if bracket.high - bracket.low > 2 * most:  # halving does not end in time any more
            return wanted
        return min(max(wanted, bracket.high - most), bracket.low + most)

    def _along(self, place: int) -> float:
        """Return how many rungs of the ladder lie below a place."""
        upper = min(max(bisect_left(self.marks, place), 1), len(self.marks) - 1)
        return upper - (self.marks[upper] - place) / (self.marks[upper] - self.marks[upper - 1])

    def _try(self, place: int) -> None:
        """Measure a quality on ever more samples until they tell; on all of them where a part told before."""
        known = self.tried.get(place)
        measured = known.samples if known else 0
        for samples in tuple(self.samples[-1:] if known else self.samples):
            estimate = self.measure(self.qualities[place], samples)
            self.work += samples - measured
            measured = samples
            verdict = self._verdict(estimate, samples)
            rate = known.rate if known else estimate.rate
            known = self.tried[place] = Probe(place, self.qualities[place], samples, estimate, bool(verdict), rate)
            if verdict is not None:
                return

    def _verdict(self, estimate: Estimate, samples: int) -> bool | None:
        """Tell whether a quality is sure; of a part of the samples what all will say, None where that is open.

        All of them will have an interval that is narrower by the root of their number, around an estimate that moves by what the others
        add.
        """
        share = samples / self.samples[-1]
        if share == 1:
            return estimate.low >= self.keep
        needed = self.keep + (estimate.retention - estimate.low) * math.sqrt(share)
        moves = math.sqrt(1 - share)
        if estimate.retention - moves * (estimate.retention - estimate.low) >= needed:
            return True
        return False if estimate.retention + moves * (estimate.high - estimate.retention) < needed else None


@dataclass(frozen=True)
class _Bracket:
    """What lies between two qualities, ``below`` and the one at ``high``; ``gap`` is by what share the upper one's rate is higher."""

    below: Probe | None
    high: int
    gap: float

    @property
    def low(self) -> int:
        return self.below.place if self.below else -1

    @property
    def open(self) -> bool:
        return self.high - self.low > 1


def pool(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the rising values that are nearest to ``values``: neighbours that fall are averaged until none does.

    Isotonic regression by pooling adjacent violators (Ayer et al. 1955; Barlow et al. 1972).
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        blocks.append((value, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m, i), (b, n, j) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n, i + j)]
    return [value for value, _, count in blocks for _ in range(count)]
