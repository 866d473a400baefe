"""Old and new crossed: where several layers moved at once, how much of the change is due to each.

A layer that moved is old or new, so that a case has as many hybrids as there are corners of a cube. Between what was approved, all old, and
what was measured, all new, lie those that can still be had: old answers are in the store for another metric, old bitstreams for another
decoder and model, and where the decoder, say, did not move, old and new are one there. A path from old to new over the corners that
there are gives each step its share of the change, in the order encoder, decoder, preprocessing, model, metric as far as the corners
allow. Where an edge of that order is missing another order is taken; layers between which no corner is left share their step.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np

from mpq_fixtures import predictions
from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, MADE_BY, SIGNAL, SOURCE, STATISTIC, digest, digest_of_signal
from mpq_fixtures.codecs import Codec, Ledger
from mpq_fixtures.evaluate import Answer, Received, SampleError, Way, Workbench
from mpq_fixtures.gate.layers import Layer, changed, layer_of
from mpq_fixtures.gate.measured import WHOLE, Measured, same_source, whole
from mpq_fixtures.metrics import Metric, Statistic
from mpq_fixtures.models import OpenModel
from mpq_fixtures.signals import Dataset, Sample, Signal
from mpq_fixtures.statistics import draws, resampled_values
from mpq_fixtures.store import STATISTIC as STATISTICS
from mpq_fixtures.store import key_of
from mpq_fixtures.suite import Case

RESAMPLES = 1000
ENCODING, DECODING, ANSWERING, SCORING = (SIGNAL, BITSTREAM), (DECODED,), (GIVEN, ANSWER), (STATISTIC,)
"""The stretches of the chain that can be old or new by themselves: what the store keeps lies between them."""
STRETCHES = (ENCODING, DECODING, ANSWERING, SCORING)

Corner = tuple[int, int, int, int]
"""Whether each stretch is old (0) or new (1)."""


@dataclass(frozen=True)
class Share:
    """What a layer, or several that could not be told apart, contributed: in the metric's unit, positive where the value rose.

    ``low`` and ``high`` are its 95 % interval over resampled samples (percentile bootstrap), NaN where there are fewer than two.
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
    bench: Workbench,
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
    wholes = before.whole if list(old.samples) == list(before.samples) else {}
    return _Crossed(case, dataset, model, codec, bench, old, new, metric, samples, layer, wholes).result(gone)


class _Hybrid(Way):
    """The steps of a case with an old encoder or model, as far as the store has what they made; ``decoded_by`` is the decoder's codec."""

    decoded_by = ""

    def prediction_key(self, sample: Sample) -> str:
        if self.decoded_by == self.encoded_by:
            return super().prediction_key(sample)
        return key_of(signal=key_of(bitstream=self.bitstream_key(sample), decoder=self.decoded_by), model=self.answered_by, entry=2)


class _Crossed:
    """The corners of a case, each worked out when it is first asked for."""

    def __init__(
        self,
        case: Case,
        dataset: Dataset,
        model: OpenModel,
        codec: Codec | None,
        bench: Workbench,
        old: Measured,
        new: Measured,
        metric: Metric,
        samples: Sequence[Sample],
        layer: Layer,
        wholes: Mapping[str, str],
    ) -> None:
        self.case, self.dataset, self.model, self.codec, self.bench = case, dataset, model, codec, bench
        self.old, self.new, self.metric, self.samples, self.wholes = old, new, metric, samples, wholes
        self.moved = dict(layer.moved)
        self.open = [one for one in layer.open if codec is not None or one not in (BITSTREAM, DECODED)]
        self.by_code = bool(changed(BITSTREAM, old, new, own=True))
        self._known: dict[Corner, list[Statistic] | None] = {}
        self._former = self._former_metric()

    def result(self, gone: list[str]) -> Crossing:
        """Find a path from old to new over the corners that there are."""
        if self.codec is not None:
            self._try_the_decoder()
        makers = tuple(dict.fromkeys(MADE_BY[one] for stretch in ((SOURCE,), *STRETCHES) for one in stretch if one in self.moved))
        if (self.old.metric, self.old.version) != (self.new.metric, self.new.version):
            kinds = [f"{one.metric} in version {one.version}" for one in (self.old, self.new)]
            gone.append(f"the old metric is gone: scored by {kinds[0]} then and {kinds[1]} now, whose figures are not of one kind")
            return Crossing(len(self.samples), math.nan, (), (), tuple(gone), makers)
        dims = [number for number, stretch in enumerate(STRETCHES) if any(one in self.moved or one in self.open for one in stretch)]
        start, end = tuple(0 for _ in dims), tuple(1 for _ in dims)
        reached = {bits: found for bits in product((0, 1), repeat=len(dims)) if (found := self._corner(dims, bits)) is not None}
        path = _longest(start, end, [bits for bits in reached if bits not in (start, end)])
        steps = [(one, two, [dims[place] for place in range(len(dims)) if one[place] != two[place]]) for one, two in pairwise(path)]
        index = draws(len(self.samples), RESAMPLES) if len(self.samples) > 1 else None
        values = {bits: self._values(found, index) for bits, found in reached.items()}
        shares = [_share(self._makers(flipped), values[two] - values[one]) for one, two, flipped in steps]
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
        change = float(values[end][0] - values[start][0])
        return Crossing(len(self.samples), change, tuple(shares), tuple(self._interactions(dims, values)), tuple(gone), makers)

    def _interactions(self, dims: Sequence[int], values: Mapping[tuple[int, ...], Any]) -> Iterator[Share]:
        """Yield what two stretches did together beyond each alone, the others all old, or all new where that is what there is."""
        for first, second in combinations(range(len(dims)), 2):
            for rest in (0, 1):
                four = [
                    tuple(a if k == first else b if k == second else rest for k in range(len(dims))) for a, b in product((0, 1), repeat=2)
                ]
                if all(corner in values for corner in four):
                    neither, later, earlier, both = (values[corner] for corner in four)
                    yield _share((*self._makers([dims[first]]), *self._makers([dims[second]])), both - earlier - later + neither)
                    break

    def _makers(self, stretches: Sequence[int]) -> tuple[str, ...]:
        found = [one for number in stretches for one in STRETCHES[number] if one in self.moved or one in self.open]
        return tuple(dict.fromkeys(MADE_BY[one] for one in found))

    def _why(self, stretches: Sequence[int], makers: Sequence[str]) -> str:
        together = f"{' and '.join(makers)} moved together"
        names = [STRETCHES[number] for number in stretches]
        if ENCODING in names and not self._has_old_bitstreams():
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

    def _values(self, statistics: Sequence[Statistic], index: Any) -> Any:
        """Return the value over all samples and over each resample, ``[1 + RESAMPLES]``."""
        value = [self.metric.value(statistics)]
        return np.concatenate([value, resampled_values(self.metric, statistics, index)]) if index is not None else np.array(value)

    def _corner(self, dims: Sequence[int], bits: Sequence[int]) -> list[Statistic] | None:
        """Return the statistics at a corner of the stretches that moved; in the others old and new are one, so that either will do."""
        if len(set(bits)) == 1:
            return self._statistics((bits[0],) * 4)
        free = [(bits[dims.index(number)],) if number in dims else (1, 0) for number in range(len(STRETCHES))]
        for encoding, decoding, answering, scoring in product(*free):
            if (found := self._statistics((encoding, decoding, answering, scoring))) is not None:
                return found
        return None

    def _statistics(self, corner: Corner) -> list[Statistic] | None:
        if corner not in self._known:
            self._known[corner] = self._work_out(corner)
        return self._known[corner]

    def _work_out(self, corner: Corner) -> list[Statistic] | None:
        if corner == (0, 0, 0, 0):
            return list(self.old.statistics)
        if corner == (1, 1, 1, 1):
            return list(self.new.statistics)
        metric = self.metric if corner[3] else self._former
        way = self._way(corner)
        if metric is None or way is None:
            return None
        answers = self._stored_answers(way, corner)
        if answers is None and corner[:3] == (0, 1, 1) and self.codec is not None:
            answers = self._answer(way)
        if answers is None:
            return None
        keys = [way.prediction_key(sample) for sample in self.samples]
        return [self._observe(metric, key, sample, one) for key, sample, one in zip(keys, self.samples, answers, strict=True)]

    def _stored_answers(self, way: _Hybrid, corner: Corner) -> list[Answer] | None:
        """Return a corner's answers where the store has them all; of what the reader made the store's keys know nothing."""
        if SIGNAL in self.moved and not corner[0] and any(corner[1:3]) and not (self.codec and self._has_old_bitstreams()):
            return None
        answers = []
        for sample in self.samples:
            if (answer := way.stored_answer(way.prediction_key(sample))) is None:
                return None
            answers.append(answer)
        if not any(corner[:3]) and ANSWER in self.old.links:
            made = (predictions.digest_of(predictions.from_bytes(answer.data)) for answer in answers)
            if not self._are_the_old(ANSWER, made):
                return None
        return answers

    def _are_the_old(self, layer: str, digests: Iterable[str]) -> bool:
        """Tell whether digests are those that were approved."""
        shift = np.uint64(WHOLE - self.old.bits.get(layer, WHOLE))
        links = np.array([int(digest, 16) for digest in digests], np.uint64)
        return bool(np.array_equal(links >> shift, self.old.links[layer] >> shift))

    def _way(self, corner: Corner) -> _Hybrid | None:
        """Return the steps of a corner; None for a new bitstream in an old decoder."""
        encoding, decoding, answering, _ = corner
        if encoding and not decoding:
            return None
        if not (self.old.model and self.new.model) or (self.codec is not None and not self.old.codec):
            return None
        way = _Hybrid(self.case, self.dataset, self.model, self.codec, self.bench)
        way.encoded_by = (self.old.codec, self.new.codec)[encoding]
        way.decoded_by = (self.old.codec, self.new.codec)[decoding]
        way.answered_by = (self.old.model, self.new.model)[answering]
        return way

    def _has_old_bitstreams(self) -> bool:
        way = self._way((0, 0, 0, 0))
        found = [way.stored_bitstream(sample) for sample in self.samples] if way is not None else [None]
        if any(data is None for data in found):
            return False
        return BITSTREAM not in self.old.links or self._are_the_old(BITSTREAM, (digest(data) for data in found if data is not None))

    def _answer(self, way: _Hybrid) -> list[Answer] | None:
        """Send old bitstreams through the new decoder and the new model, batch by batch."""
        assert self.codec is not None
        if not self._has_old_bitstreams():
            return None
        answers: list[Answer] = []
        size = self.model.batch_size
        for begin in range(0, len(self.samples), size):
            batch = self.samples[begin : begin + size]
            received = [_received(decoded) for _, decoded in self._decoded(way, batch)]
            if len(received) < len(batch):
                return None
            for answer in way.predict(batch, received):
                if isinstance(answer, SampleError):
                    return None
                answers.append(answer)
        return answers

    def _decoded(self, way: _Hybrid, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Signal]]:
        """Yield what the new decoder makes of the old bitstreams, as long as it can."""
        assert self.codec is not None
        for sample in samples:
            data = way.stored_bitstream(sample)
            if data is None:
                return
            try:
                yield sample, way.decode(data, sample.signal(), self.codec)
            except SampleError:
                return

    def _try_the_decoder(self) -> None:
        """Settle whether the decoder moved: it did not where it makes of the old bitstreams what the old one made of them."""
        way = self._way((0, 1, 1, 1))
        if way is None or DECODED not in self.open or not self._has_old_bitstreams():
            return
        digests = [digest_of_signal(decoded) for _, decoded in self._decoded(way, self.samples)]
        if len(digests) < len(self.samples):
            same = False  # what the old decoder read it cannot
        elif DECODED in self.old.links:
            same = self._are_the_old(DECODED, digests)
        elif DECODED in self.wholes:
            same = whole(np.array([int(one, 16) for one in digests], np.uint64)) == self.wholes[DECODED]
        else:
            return
        self.open.remove(DECODED)
        if not same:
            self.moved[DECODED] = "old bitstreams are decoded otherwise"
        elif BITSTREAM in self.open and self.by_code:  # the codec's own code changed, and not in its decoder
            self.open.remove(BITSTREAM)
            self.moved[BITSTREAM] = "the codec changed and its decoder did not move"

    def _former_metric(self) -> Metric | None:
        """Return the metric as it was approved, where its options are all that changed."""
        if (self.old.metric, self.old.version) != (self.new.metric, self.new.version):
            return None
        evaluation = self.case.evaluation
        options = {name: (self.old.settings or {}).get(name, value) for name, value in evaluation.options.items()}
        former = evaluation.task.metric(self.dataset, **options)
        return former if dict(former.settings) == dict(self.old.settings or {}) else None

    def _observe(self, metric: Metric, prediction: str, sample: Sample, answer: Answer) -> Statistic:
        key = key_of(crossed=prediction, metric=[metric.name, metric.version, metric.settings, getattr(metric, "packages", {})])
        content = self.bench.store.get(STATISTICS, key)
        if content is not None:
            return np.asarray(json.loads(content), float)
        statistic = metric.observe(predictions.from_bytes(answer.data), sample.target())
        self.bench.store.put(STATISTICS, key, json.dumps(statistic.tolist()).encode())
        return statistic


def _received(signal: Signal) -> Received:
    return Received(signal, 0, signal.elements, signal.seconds, Ledger(0), None, {}, {}, {})


def _share(makers: Sequence[str], change: Any) -> Share:
    """Return a share from its value over all samples and over each resample."""
    resampled = change[1:][np.isfinite(change[1:])]
    low, high = np.quantile(resampled, [0.025, 0.975]) if len(resampled) else (math.nan, math.nan)
    return Share(tuple(makers), float(change[0]), float(low), float(high))


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
