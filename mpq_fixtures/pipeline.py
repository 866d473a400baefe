"""The steps of a case: its samples transcoded, predicted and scored, and where the store keeps what each of them made.

`Pipeline` is the only place where codecs, models and metrics meet.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mpq_fixtures import chain
from mpq_fixtures.codecs import Codec
from mpq_fixtures.datasets.reading import readers
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.agreement import agreement
from mpq_fixtures.models import predictions
from mpq_fixtures.models.answers import Answer, Limit, ask
from mpq_fixtures.models.batching import FEW, MANY, Choice, choose_batch, scale_of
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.plain_text import plain
from mpq_fixtures.processes.devices import clock_of, freed_memory_kept, large_blocks_given_back, machine_kind
from mpq_fixtures.processes.prefetch import Crew, ahead
from mpq_fixtures.processes.under_way import Place
from mpq_fixtures.resources import Resources
from mpq_fixtures.rows import ROW_FORMAT, Failure, Row
from mpq_fixtures.rows.tables import table_of
from mpq_fixtures.sample_errors import SampleError, attempt
from mpq_fixtures.signals import Dataset, Sample, Signal
from mpq_fixtures.store import AUDIT, BITSTREAM, PREDICTION, STATISTIC, Scope, key_of
from mpq_fixtures.store.packs import keys_of, sample_key
from mpq_fixtures.suite import BOTH, LABELS, Case
from mpq_fixtures.transcoding import Transcoded, Transcoder, Transcoding

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(eq=False)
class Outcome:
    """What became of some samples, and what the store does not have of it yet: bitstreams and answers by the samples' sources."""

    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    bitstreams: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)

    def add(self, other: Outcome) -> None:
        """Take in the outcome of further samples."""
        self.rows += other.rows
        self.failures += other.failures
        self.bitstreams |= other.bitstreams
        self.answers |= other.answers

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        return sum(map(len, self.bitstreams.values())) + sum(len(answer.data) for answer in self.answers.values()) + 1000 * len(self.rows)


class Pipeline:
    """The steps of one case, each with its scope in the store.

    ``encoded_by`` and ``answered_by`` are the fingerprints of the codec and the model in the keys: those of another codec and model lead to
    what these made of the same samples earlier, as far as the store still has it.
    """

    def __init__(self, case: Case, dataset: Dataset, model: OpenModel, codec: Codec | None, resources: Resources) -> None:
        self.case, self.dataset, self.model, self.codec = case, dataset, model, codec
        self.resources, self.store, self.clock = resources, resources.store, resources.clock
        evaluation = case.evaluation
        self.task = evaluation.task
        self.metric = self.task.metric(dataset, **evaluation.options)
        self.set_metric = None if case.is_original else self.task.set_metric()
        self.agreement = agreement(self.metric) if evaluation.targets == BOTH else None
        asked = self.task.signal_metrics(evaluation.similarity)
        self.absent: dict[Metric, str] = {metric: lack for metric in asked if (lack := metric.missing())}
        self.signal_metrics = [metric for metric in asked if metric not in self.absent]
        self.transcoder = Transcoder(case, codec, self.signal_metrics, len(dataset.samples), resources)
        self.encoded_by = codec.fingerprint() if codec else ""
        self.answered_by = model.fingerprint
        self.known: int | None = None  # rows that the store had when the run first looked
        self.needs_answers = False  # of all samples, to hold each against all others
        self.shunned: set[str] = set()  # ids of samples that processes died at
        self.hands = resources.hands_for(case)

    @cached_property
    def batch_size(self) -> int:
        """How many samples are a batch, the unit of work: a fixed stretch of the data set, of which the model gets some at once.

        How many it gets is chosen once a model, kind of machine and scale of runs, by the first worker to ask, and kept in the store; so a
        run on other workers sees the model at work on the very same signals together.
        """
        model, threads = self.model, self.resources.threads
        machine = {name: part for name, part in machine_kind(model.device, threads).items() if name != "threads"}
        keys = {
            scale: key_of(batch=3, model=model.fingerprint, most=model.most, machine=machine, scale=scale) for scale in range(FEW, MANY + 1)
        }
        calls = len(self.dataset.samples) * self.resources.points.get(self.case.evaluation.name, 1)
        key = keys[scale_of(calls)]
        with self.store.lock(AUDIT, key), self.clock.step("predict"):
            if (known := self.store.get(AUDIT, key)) is None:
                chosen = self._chosen_elsewhere(keys, scale_of(calls))
                if chosen is None:
                    model.ready()
                    with self.resources.under_way.at("predict", (), self.patience * FIRST) as at, freed_memory_kept():
                        chosen = choose_batch(model, self._originals(at), calls, clock=clock_of(model.device, threads))
                known = self.store.settle(AUDIT, key, chosen.to_bytes())  # of another machine's, perhaps
            choice = Choice.from_bytes(known)
        model.arrange(choice.layout)
        if model.limit is None:
            model.limit = Limit(choice.size, [choice.note] if choice.note else [])
        quick = int(_BATCH_MILLISECONDS / choice.milliseconds[choice.size]) if choice.size in choice.milliseconds else 0
        return choice.size * max(1, min(quick, _BATCH_SAMPLES) // choice.size)

    def _chosen_elsewhere(self, keys: Mapping[int, str], scale: int) -> Choice | None:
        """Return what runs of another scale chose, unless this one can try more; ``keys`` are those of the choices, by scale."""
        for other in sorted(keys.keys() - {scale}, reverse=True):
            if (known := self.store.get(AUDIT, keys[other])) is not None:
                choice = Choice.from_bytes(known)
                if other > scale or not choice.short:
                    return choice
        return None

    def _originals(self, at: Place) -> Iterator[Signal]:
        """Yield the signals that can be read, from the first on, and note that the process is at them."""
        seen = []
        for sample in self.dataset.samples:
            if sample.id in self.shunned:
                continue
            seen.append(sample.id)
            at.note("predict", seen)
            try:
                yield self.transcoder.read(sample)
            except SampleError:  # which its own failure says
                continue

    @property
    def patience(self) -> float:
        """Seconds that a step of a sample may take."""
        return self.case.evaluation.limits.step_seconds

    @cached_property
    def reference(self) -> Pipeline | None:
        """The steps of the originals, where what the model answers to them is a target; None where labels alone are."""
        case = self.case.evaluation.cases[0]
        if self.case.evaluation.targets == LABELS:
            return None
        return self if self.case.is_original else Pipeline(case, self.dataset, self.model, None, self.resources)

    @property
    def encoding(self) -> str:
        """The key of what the encoder makes of samples."""
        return key_of(readers=readers(self.task.modality), codec=self.encoded_by, quality=self.case.quality)

    @property
    def answering(self) -> str:
        """The key of what the model answers to that, decoded."""
        return key_of(signal=self.encoding, model=self.answered_by, entry=4)

    @property
    def scoring(self) -> str:
        """The key of the rows."""
        scored = [[metric.name, metric.version, metric.settings, metric.packages] for metric in (self.metric, *self.further)]
        held_against = [self.case.evaluation.targets, self.reference.answering] if self.reference else []
        return key_of(prediction=self.answering, scoring=scored, targets=held_against, row=ROW_FORMAT)

    @property
    def further(self) -> list[Metric]:
        """The metrics besides the task's: agreement, where it is not the task's own, and the signal metrics."""
        return [*([self.agreement] if self.agreement else []), *self.signal_metrics]

    @cached_property
    def work(self) -> str:
        """What workers call the case among themselves: two evaluations may have one key for rows of different samples."""
        return f"{self.case.id} {self.scoring}"

    @cached_property
    def bitstreams(self) -> Scope:
        """What the encoder made."""
        return self.store.scope(BITSTREAM, self.encoding, self.about())

    @cached_property
    def answers(self) -> Scope:
        """What the model answered."""
        return self.store.scope(PREDICTION, self.answering, self.about())

    @cached_property
    def rows(self) -> Scope:
        """What was measured."""
        return self.store.scope(STATISTIC, self.scoring, self.about())

    def about(self) -> dict[str, str]:
        """Say in names what the entries of this case in the store belong to."""
        case, evaluation = self.case, self.case.evaluation
        names = {"suite": evaluation.suite, "evaluation": evaluation.name, "case": case.id, "codec": case.codec, "quality": case.quality}
        return names | {"model": evaluation.model_name, "dataset": evaluation.dataset_name}

    def parts(self) -> dict[str, dict[str, Any]]:
        """Return what the model, the codec and the metric are made of."""
        metric = {"packages": self.metric.packages}
        return {"model": self.model.parts, "metric": metric} | ({"codec": self.codec.parts()} if self.codec else {})

    def positions(self, batches: Iterable[int], size: int) -> array[int]:
        """Return the positions in the data set of the samples of batches, which have ``size`` samples each, the last one fewer."""
        samples = len(self.dataset.samples)
        return array("q", (position for number in batches for position in range(number * size, min(samples, (number + 1) * size))))

    def lacking(self, failed: Collection[str], positions: Sequence[int] | None = None) -> Sequence[int]:
        """Return the positions, of all or of some, of samples that have no row in the store and did not fail.

        The first sample, which is shown, lacks something too where its answer or its bitstream is gone, and all do where theirs are needed.
        """
        first_look = positions is None and self.known is None
        positions = range(len(self.dataset.samples)) if positions is None else positions
        found = array("q")
        for start in range(0, len(positions), _LOOKED_UP):
            some = positions[start : start + _LOOKED_UP]
            keys = keys_of(self.dataset.columns.select(["source"]).take(np.asarray(some)))
            there = self.rows.found(keys)
            if self.needs_answers and self.reference is not None:
                there &= self.answers.found(keys) & self.reference.answers.found(keys)
            found.extend(place for place, key in zip(some, keys, strict=True) if key not in there or not (place or self._can_be_shown(key)))
        if failed:
            found = array("q", (position for position in found if self.dataset.samples[position].id not in failed))
        if first_look:
            self.known, here = self.resources.first(self.work, len(positions) - len(found) - len(failed))
            self.store.reused[STATISTIC] += self.known if here else 0
        return found

    def _can_be_shown(self, key: bytes) -> bool:
        return bool(self.answers.found([key])) and (self.codec is None or bool(self.bitstreams.found([key])))

    def measure(self, batches: Iterable[Sequence[Sample]], wanted: Container[str]) -> Iterator[Outcome]:
        """Send batches through the steps, each predicted whole, and score the samples whose sources are wanted.

        What the store has of bitstreams and answers is taken from there. While the model is at a batch, the next one is read, encoded
        and decoded.
        """
        with freed_memory_kept(), Crew(self.hands) as crew:
            for batch, transcoded in ahead(crew, self._transcodings(batches)):
                answers, asked = self._predict(batch, transcoded)
                outcome = Outcome(answers=asked)
                originals = self._originals_answers(batch, answers)
                for sample, signal, answer, original in zip(batch, transcoded, answers, originals, strict=True):
                    if isinstance(signal, Transcoded) and signal.encoded is not None:
                        outcome.bitstreams[sample.source] = signal.encoded
                    if sample.source in wanted:
                        with self.resources.under_way.at("score", [sample.id], self.patience):
                            scored = self.score(sample, signal, answer, original)
                        (outcome.rows if isinstance(scored, Row) else outcome.failures).append(scored)  # type: ignore[arg-type]
                with large_blocks_given_back():  # tables of many samples are written now and then
                    yield outcome

    def keep(self, outcome: Outcome) -> None:
        """Write what was measured to the store: rows last, since where there is a row nothing else is asked for."""
        if outcome.bitstreams:
            self.bitstreams.write(_payloads(outcome.bitstreams))
        if outcome.answers:
            self.answers.write(_payloads({source: bytes.fromhex(one.given) + one.data for source, one in outcome.answers.items()}))
        if outcome.rows:
            self.rows.write(table_of(outcome.rows))

    def _transcodings(self, batches: Iterable[Sequence[Sample]]) -> Iterator[tuple[Sequence[Sample], Transcoding]]:
        coming = iter(batches)
        while True:
            with large_blocks_given_back():  # finding out what is free takes lists of many samples
                if (batch := next(coming, None)) is None:
                    return
            yield batch, partial(self.transcoder.transcode, stored=self.stored_bitstreams(batch) if self.codec else {})

    def stored_bitstreams(self, samples: Sequence[Sample]) -> dict[str, bytes]:
        """Return what the encoder made of samples, by source, as far as the store has it."""
        return self._stored(self.bitstreams, samples)

    def stored_answers(self, samples: Sequence[Sample]) -> dict[str, Answer]:
        """Return what the model answered of samples, by source, as far as the store has it."""
        found = self._stored(self.answers, samples)
        return {source: Answer(entry[:_DIGEST].hex(), entry[_DIGEST:]) for source, entry in found.items()}

    def stored_predictions(self, sources: Sequence[str]) -> dict[str, Any]:
        """Return what the model answered, restored, by source, as far as the store has it."""
        keys = {sample_key(source): source for source in sources}
        tables = self.answers.read(sources)
        entries = (zip(keys_of(table), table.column("payload").to_pylist(), strict=True) for table in tables)
        return {keys[key]: self.task.from_bytes(entry[_DIGEST:]) for pairs in entries for key, entry in pairs}

    def _stored(self, scope: Scope, samples: Sequence[Sample]) -> dict[str, bytes]:
        sources = {sample_key(sample.source): sample.source for sample in samples}
        found: dict[str, bytes] = {}
        for table in scope.read(sources.values()):
            found |= zip((sources[key] for key in keys_of(table)), table.column("payload").to_pylist(), strict=True)
        self.store.reused[scope.layer] += len(found)
        return found

    def _predict(
        self, batch: Sequence[Sample], transcoded: Sequence[Transcoded | SampleError]
    ) -> tuple[list[Answer | SampleError], dict[str, Answer]]:
        """Return an answer, or a `SampleError`, for each sample of a batch, and what the model was asked for, by source."""
        stored = self.stored_answers(batch)
        came = [sample for sample, item in zip(batch, transcoded, strict=True) if isinstance(item, Transcoded)]
        if all(sample.source in stored for sample in came):
            return [
                stored[sample.source] if isinstance(item, Transcoded) else item for sample, item in zip(batch, transcoded, strict=True)
            ], {}
        self.model.ready()  # a crash in it is no sample's
        with self.resources.under_way.at("predict", [sample.id for sample in came], self.patience):
            answers = self.answer(transcoded)
        asked = {sample.source: one for sample, one in zip(batch, answers, strict=True) if isinstance(one, Answer)}
        return answers, asked

    def _originals_answers(self, batch: Sequence[Sample], answers: Sequence[Answer | SampleError]) -> Sequence[Answer | SampleError | None]:
        """Return what the model answers to the originals of a batch, of which it answered ``answers`` at this point; None: unasked."""
        if self.reference is None:
            return [None] * len(batch)
        return answers if self.reference is self else self.reference.answers_to(batch)

    def answers_to(self, batch: Sequence[Sample]) -> list[Answer | SampleError]:
        """Return what the model answers to a batch, predicted whole: from the store, or asked now and kept there."""
        stored = self.stored_answers(batch)
        if all(sample.source in stored for sample in batch):
            return [stored[sample.source] for sample in batch]
        answers, asked = self._predict(batch, self.transcoder.transcode(batch))
        self.keep(Outcome(answers=asked))
        return answers

    def answer(self, transcoded: Sequence[Transcoded | SampleError]) -> list[Answer | SampleError]:
        """Ask the model for what came through of a batch; what stopped before stays as it is."""
        model = self.model.ready()
        signals = [item.signal for item in transcoded if isinstance(item, Transcoded)]
        with self.clock.step("predict"):
            found = iter(ask(model, signals, self.task, self.model.limit))
            return [next(found) if isinstance(item, Transcoded) else item for item in transcoded]

    def score(
        self,
        sample: Sample,
        transcoded: Transcoded | SampleError,
        answer: Answer | SampleError,
        original: Answer | SampleError | None = None,
    ) -> Row | Failure:
        """Turn a prediction into the sample's row; ``original`` is the model's answer to the original, where that is a target."""
        try:
            if isinstance(answer, SampleError):
                raise answer
            assert isinstance(transcoded, Transcoded)
            own = None if original is None else self._own_target(sample, original)
            target = self._label(sample) if self.case.evaluation.has_labels else own
            prediction = self.task.from_bytes(answer.data)
            with self.clock.step("score"):
                statistic = attempt("score", self.metric.observe, prediction, target)
                floor = attempt("score", self.metric.floor, transcoded.signal, target) if self.codec is None else None
                scores = {self.metric.name: self.metric.value([statistic])}
                further = dict(transcoded.similarity)
                if self.agreement:
                    further[self.agreement.name] = attempt("score", self.agreement.observe, prediction, own)
                scores |= {other.name: other.value([further[other.name]]) for other in self.further if other.name in further}
        except SampleError as error:
            return Failure(sample.id, error.step, plain(error))
        spent = transcoded.ledger
        return Row(
            sample=sample.id,
            bytes=transcoded.size,
            elements=transcoded.elements,
            seconds=transcoded.seconds,
            ledger={"payload": spent.payload, "container": spent.container, "side": spent.side},
            nominal_bits=transcoded.nominal_bits,
            prediction=self.task.describe(prediction, self.dataset.labels),
            target=self.task.describe(target, self.dataset.labels),
            statistic=statistic.tolist(),
            further={name: statistic.tolist() for name, statistic in further.items()},
            scores=scores,
            floor=None if floor is None else floor.tolist(),
            unmeasured=transcoded.unmeasured,
            source=sample.source,
            group=sample.group,
            chain=transcoded.chain | {chain.GIVEN: answer.given, chain.ANSWER: predictions.digest_of(prediction)},
        )

    def _label(self, sample: Sample) -> Any:
        return self.resources.read_cache.read("target", sample.source, len(self.dataset.samples), lambda: attempt("read", sample.target))

    def _own_target(self, sample: Sample, original: Answer | SampleError) -> Any:
        """Return the model's answer to the original as a target."""
        if isinstance(original, SampleError):
            raise SampleError(original.step, f"the original, whose answer is the target: {original}")
        return self.task.as_target(self.task.from_bytes(original.data), self.transcoder.read(sample))

    def target(self, sample: Sample) -> Any:
        """Return what the sample's answer is held against; raises `SampleError` where that cannot be had."""
        if self.case.evaluation.has_labels:
            return self._label(sample)
        assert self.reference is not None
        return self._own_target(sample, self.reference.answers_to([sample])[0])


_BATCH_MILLISECONDS, _BATCH_SAMPLES = 250.0, 64
"""A batch takes about that long, or is so many samples, where the model's own is shorter: each costs some dozen calls of the system."""

FIRST = 100
"""Times the patience for a sample that finding out how many at once may take."""
_LOOKED_UP = 2**12  # samples at once
_DIGEST = 8  # bytes of what the model was given, in front of its answer in the store


def _payloads(entries: dict[str, bytes]) -> pa.Table:
    """Return entries as the table of a pack."""
    import pyarrow as pa

    keys = pa.array([sample_key(source) for source in entries], pa.binary(32))
    return pa.table({"source": keys, "payload": pa.array(list(entries.values()), pa.large_binary())})
