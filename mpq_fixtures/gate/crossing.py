"""Old and new crossed: where several layers moved at once, how much of the change is due to each.

A layer that moved is old or new, so that a case has as many hybrids as there are corners of a cube. Between what was approved, all old, and
what was measured, all new, lie those that can still be had: old answers are in the store for another metric, old bitstreams for another
decoder and model, and where the decoder, say, did not move, old and new are one there. A path from old to new over the corners that
there are gives each step its share of the change, in the order encoder, decoder, preprocessing, model, metric as far as the corners
allow. Where an edge of that order is missing another order is taken; layers between which no corner is left share their step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any

from mpq_fixtures.chain import BITSTREAM, DECODED, MADE_BY, SIGNAL, SOURCE
from mpq_fixtures.codecs import Codec
from mpq_fixtures.gate.hybrids import ANSWERING, DECODING, ENCODING, STRETCHES, Hybrids
from mpq_fixtures.gate.layers import Layer, layer_of
from mpq_fixtures.gate.measured import Measured, same_source
from mpq_fixtures.gate.suspects import changed
from mpq_fixtures.metrics import Metric, Statistic
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.resources import Resources
from mpq_fixtures.signals import Dataset
from mpq_fixtures.statistics.intervals import combined_interval
from mpq_fixtures.suite import Case


@dataclass(frozen=True)
class Share:
    """What a layer, or several that could not be told apart, contributed: in the metric's unit, positive where the value rose.

    ``low`` and ``high`` are its 95 % interval over samples, whole groups of them where there are some; NaN where there are fewer than two.
    """

    makers: tuple[str, ...]
    change: float
    low: float = math.nan
    high: float = math.nan

    def __str__(self) -> str:
        interval = f" ({self.low:+.4f} to {self.high:+.4f})" if math.isfinite(self.low) else ""
        return f"{' and '.join(self.makers)} {self.change:+.4f}{interval}"


@dataclass(frozen=True)
class Crossing:
    """How a change divides among the layers that moved, over ``samples`` that both have.

    ``shares`` add up to ``change``. ``interactions`` are what two layers changed together beyond what each did alone, where all four
    combinations could be had. ``gone`` says of what could not be crossed why. ``moved`` are the makers that moved, as far as crossing
    showed.
    """

    samples: int
    change: float
    shares: tuple[Share, ...]
    interactions: tuple[Share, ...]
    gone: tuple[str, ...]
    moved: tuple[str, ...]

    def __str__(self) -> str:
        """Say it in a sentence."""
        text = f"of {self.change:+.4f}: {', '.join(map(str, self.shares))}" if self.shares else "nothing moved that could be crossed"
        text += "".join(f"; {' and '.join(one.makers)} interact by {one.change:+.4f}" for one in self.interactions)
        return text + "".join(f"; {reason}" for reason in self.gone)


def cross(
    case: Case,
    dataset: Dataset,
    model: OpenModel,
    codec: Codec | None,
    resources: Resources,
    before: Measured,
    after: Measured,
    metric: Metric,
    original: tuple[Measured, Measured] | None = None,
) -> Crossing:
    """Divide a case's change among the layers that moved; what takes computing is kept in the store.

    ``before`` was approved with the codec and the model that its fingerprints name, ``after`` is this run's; ``original`` are the two of
    the evaluation's original case, which spare work: they tell of the model and the metric whether they moved at all.
    """
    places = {sample: number for number, sample in enumerate(before.samples)}
    here = [number for number, sample in enumerate(after.samples) if sample in places]
    paired = [number for number in here if same_source(before.sources[places[after.samples[number]]], after.sources[number])]
    old, new = before.take([places[after.samples[number]] for number in paired]), after.take(paired)
    gone = [f"{len(here) - len(paired)} samples have another source now and were left out"] if len(here) > len(paired) else []
    layer = layer_of(before, after, original)
    if not paired or layer is None:
        return Crossing(len(paired), 0.0, (), (), tuple(gone), layer.makers if layer else ())
    wanted = set(new.samples)
    samples = [sample for sample in dataset.samples if sample.id in wanted]
    if [sample.id for sample in samples] != list(new.samples):
        order = {sample.id: sample for sample in samples}
        if missing := [sample for sample in new.samples if sample not in order]:
            raise ValueError(f"{case.id}: the data set lacks {len(missing)} of the samples, the first of them {missing[0]!r}")
        samples = [order[sample] for sample in new.samples]
    decoded = before.whole.get(DECODED, "") if list(old.samples) == list(before.samples) else ""
    hybrids = Hybrids(case, dataset, model, codec, resources, old, new, metric, samples, other_signals=SIGNAL in layer.moved)
    return _Crossed(hybrids, layer, decoded).result(gone)


class _Crossed:
    """A change on its way from old to new over the corners that there are; ``decoded`` is the whole digest of what was decoded then."""

    def __init__(self, hybrids: Hybrids, layer: Layer, decoded: str) -> None:
        self.hybrids, self.old, self.new, self.decoded = hybrids, hybrids.old, hybrids.new, decoded
        self.moved = dict(layer.moved)
        self.open = [one for one in layer.open if hybrids.codec is not None or one not in (BITSTREAM, DECODED)]
        self.by_code = bool(changed(BITSTREAM, self.old, self.new, own=True))

    def result(self, gone: list[str]) -> Crossing:
        """Find a path from old to new over the corners that there are."""
        if self.hybrids.codec is not None:
            self._try_the_decoder()
        makers = tuple(dict.fromkeys(MADE_BY[one] for stretch in ((SOURCE,), *STRETCHES) for one in stretch if one in self.moved))
        if (self.old.metric, self.old.version) != (self.new.metric, self.new.version):
            kinds = [f"{one.metric} in version {one.version}" for one in (self.old, self.new)]
            gone.append(f"the old metric is gone: scored by {kinds[0]} then and {kinds[1]} now, whose figures are not of one kind")
            return Crossing(len(self.hybrids.samples), math.nan, (), (), tuple(gone), makers)
        dims = [number for number, stretch in enumerate(STRETCHES) if any(one in self.moved or one in self.open for one in stretch)]
        start, end = tuple(0 for _ in dims), tuple(1 for _ in dims)
        reached = {bits: found for bits in product((0, 1), repeat=len(dims)) if (found := self._corner(dims, bits)) is not None}
        path = _longest(start, end, [bits for bits in reached if bits not in (start, end)])
        steps = [(one, two, [dims[place] for place in range(len(dims)) if one[place] != two[place]]) for one, two in pairwise(path)]
        shares = [self._share(self._makers(flipped), [reached[two]], [reached[one]]) for one, two, flipped in steps]
        for _, _, flipped in steps:
            if len(together := self._makers(flipped)) > 1:
                gone.append(self._why(flipped, together))
        rank = {number: place for place, number in enumerate(dims)}
        shares = [
            share
            for _, share in sorted(
                zip([min(rank[one] for one in flipped) for *_, flipped in steps], shares, strict=True), key=lambda pair: pair[0]
            )
        ]
        change = float(self.hybrids.metric.value(reached[end]) - self.hybrids.metric.value(reached[start]))
        return Crossing(len(self.hybrids.samples), change, tuple(shares), tuple(self._interactions(dims, reached)), tuple(gone), makers)

    def _interactions(self, dims: Sequence[int], reached: Mapping[tuple[int, ...], list[Statistic]]) -> Iterator[Share]:
        """Yield what two stretches did together beyond each alone, the others all old, or all new where that is what there is."""
        for first, second in combinations(range(len(dims)), 2):
            for rest in (0, 1):
                four = [
                    tuple(a if k == first else b if k == second else rest for k in range(len(dims))) for a, b in product((0, 1), repeat=2)
                ]
                if all(corner in reached for corner in four):
                    neither, later, earlier, both = (reached[corner] for corner in four)
                    yield self._share((*self._makers([dims[first]]), *self._makers([dims[second]])), [both, neither], [earlier, later])
                    break

    def _makers(self, stretches: Sequence[int]) -> tuple[str, ...]:
        found = [one for number in stretches for one in STRETCHES[number] if one in self.moved or one in self.open]
        return tuple(dict.fromkeys(MADE_BY[one] for one in found))

    def _why(self, stretches: Sequence[int], makers: Sequence[str]) -> str:
        together = f"{' and '.join(makers)} moved together"
        names = [STRETCHES[number] for number in stretches]
        if ENCODING in names and not self.hybrids.has_old_bitstreams():
            return f"the old bitstreams are not in the store: {together}"
        if DECODING in names and len(names) > 1:
            return f"the old decoder is gone: {together}"
        if len(names) == 1:
            return f"{'the old signals are' if names == [ENCODING] else 'what the network was given is'} not kept: {together}"
        return (
            f"the old model's answers are not in the store: {together}"
            if ANSWERING in names
            else f"the old {makers[0]} is gone: {together}"
        )

    def _share(self, makers: Sequence[str], more: Sequence[list[Statistic]], less: Sequence[list[Statistic]]) -> Share:
        """Return a share: the values of some corners less those of others."""

        def change(values: Sequence[Any]) -> Any:
            return sum(values[: len(more)]) - sum(values[len(more) :])

        metric, corners = self.hybrids.metric, [*more, *less]
        low, high, _ = combined_interval(metric, corners, change, self.hybrids.new.groups)
        return Share(tuple(makers), float(change([metric.value(corner) for corner in corners])), low, high)

    def _corner(self, dims: Sequence[int], bits: Sequence[int]) -> list[Statistic] | None:
        """Return the statistics at a corner of the stretches that moved; in the others old and new are one, so that either will do."""
        if len(set(bits)) == 1:
            return self.hybrids.statistics((bits[0],) * 4)
        free = [(bits[dims.index(number)],) if number in dims else (1, 0) for number in range(len(STRETCHES))]
        for encoding, decoding, answering, scoring in product(*free):
            if (found := self.hybrids.statistics((encoding, decoding, answering, scoring))) is not None:
                return found
        return None

    def _try_the_decoder(self) -> None:
        """Settle whether the decoder moved: it did not where it makes of the old bitstreams what the old one made of them."""
        if DECODED not in self.open or (moved := self.hybrids.decoder_moved(self.decoded)) is None:
            return
        self.open.remove(DECODED)
        if moved:
            self.moved[DECODED] = "old bitstreams are decoded otherwise"
        elif BITSTREAM in self.open and self.by_code:  # the codec's own code changed, and not in its decoder
            self.open.remove(BITSTREAM)
            self.moved[BITSTREAM] = "the codec changed and its decoder did not move"


def _longest(start: tuple[int, ...], end: tuple[int, ...], between: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Return the path from old to new over the most corners, each newer than the one before; of several the one that
    turns the first stretches first.
    """
    best = [start, end] if start != end else [start]
    for size in range(len(start) - 1, 0, -1):
        for chosen in combinations(sorted(between, key=lambda bits: (sum(bits), tuple(-bit for bit in bits))), size):
            path = [start, *chosen, end]
            if all(one != two and all(a <= b for a, b in zip(one, two, strict=True)) for one, two in pairwise(path)):
                return path
    return best
