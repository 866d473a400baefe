"""The way through: sample, encode, bytes, decode, signal, predict, score, record.

`evaluate` is the only place where codecs, models, metrics and the store meet.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from mpq_fixtures import chain, predictions
from mpq_fixtures.answers import Answer, ask
from mpq_fixtures.chain import digest, digest_of_signal
from mpq_fixtures.clock import Clock
from mpq_fixtures.codecs import Codec, Ledger
from mpq_fixtures.datasets.reading import readers
from mpq_fixtures.metrics import Metric, NotMeasurable, Statistic
from mpq_fixtures.models import OpenModel
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.report.examples import make_example
from mpq_fixtures.rows import ROW_FORMAT, Failure, Row, Rows
from mpq_fixtures.signals import Audio, Dataset, Image, Sample, Signal
from mpq_fixtures.step import SampleError, attempt
from mpq_fixtures.store import BITSTREAM, PREDICTION, STATISTIC, Store, key_of
from mpq_fixtures.suite import Case

_DIGEST = 8  # bytes of what the model was given, in front of its answer in the store

Progress = Callable[[str, int, int], None]
"""Told the case, how many of its samples are done, and how many there are."""


@dataclass(frozen=True, eq=False)
class Workbench:
    """What a case is evaluated with. ``threads`` encode and decode while the model predicts."""

    store: Store
    clock: Clock
    threads: int = 1
    progress: Progress = lambda case, done, total: None


@dataclass(frozen=True, eq=False)
class Received:
    """A signal as it came out of the decoder, with what it cost and how near it is to the original."""

    signal: Signal
    bytes: int
    elements: int
    seconds: float | None
    ledger: Ledger
    nominal_bits: float | None
    beside: dict[str, Statistic]
    unmeasured: dict[str, str]
    chain: dict[str, str]


def evaluate(case: Case, dataset: Dataset, model: OpenModel, codec: Codec | None, bench: Workbench) -> Record:
    """Measure a case: every sample from signal to statistic, whatever the store does not hold yet.

    A batch is a fixed stretch of the data set and is predicted whole, so that a run that was stopped and goes on later sees
    the model at work on the very same batches.
    """
    way = Way(case, dataset, model, codec, bench)
    samples = dataset.samples
    before = bench.clock.seconds.copy(), bench.store.computed.copy(), bench.store.reused.copy()
    outcomes: dict[str, Row | Failure] = way.stored_rows(samples)
    shown = samples[0]
    example = way.example(shown) if shown.id in outcomes else None
    if example is None:
        outcomes.pop(shown.id, None)
    bench.progress(case.id, len(outcomes), len(samples))
    todo = [batch for batch in _batches(samples, model, outcomes) if any(sample.id not in outcomes for sample in batch)]
    with _DroppingPool(bench.threads) as pool:
        for batch, received in _ahead(pool, way.receive, todo):
            answers = way.predict(batch, received)
            for sample, signal, answer in zip(batch, received, answers, strict=True):
                if sample.id not in outcomes:
                    outcomes[sample.id] = way.score(sample, signal, answer)
            bench.progress(case.id, len(outcomes), len(samples))
    with bench.clock.step("score"):
        rows = [row for sample in samples if isinstance(row := outcomes[sample.id], Row)]
        failures = [failure for sample in samples if isinstance(failure := outcomes[sample.id], Failure)]
        record = summarise(case, Rows.of(rows), failures, way.metric, way.beside, way.absent)
    if example is None and isinstance(outcomes[shown.id], Row):
        example = way.example(shown)
    record.example, record.example_sample = example or [], shown.id
    record.device, record.fingerprint = model.device, model.fingerprint
    record.codec_fingerprint, record.build = (codec.fingerprint(), codec.build()) if codec else ("", "")
    record.parts = way.parts()
    seconds, computed, reused = before
    record.seconds = {step: spent - seconds[step] for step, spent in bench.clock.seconds.items()}
    record.work = {"computed": dict(bench.store.computed - computed), "reused": dict(bench.store.reused - reused)}
    return record


class Way:
    """The steps of one case, each with its key in the store.

    ``encoded_by`` and ``answered_by`` are the fingerprints of the codec and the model in the keys: those of another codec and model lead to
    what these made of the same samples earlier, as far as the store still has it.
    """

    def __init__(self, case: Case, dataset: Dataset, model: OpenModel, codec: Codec | None, bench: Workbench) -> None:
        self.case, self.dataset, self.model, self.codec = case, dataset, model, codec
        self.store, self.clock = bench.store, bench.clock
        evaluation = case.evaluation
        self.metric = evaluation.task.metric(dataset, **evaluation.options)
        asked = evaluation.task.signal_metrics(evaluation.similarity)
        self.absent: dict[Metric, str] = {metric: lack for metric in asked if (lack := metric.missing())}
        self.beside = [metric for metric in asked if metric not in self.absent]
        self.encoded_by = codec.fingerprint() if codec else ""
        self._readers = readers(evaluation.task.modality)
        self.answered_by = model.fingerprint
        self._scoring = [_identity(metric) for metric in (self.metric, *self.beside)]

    def bitstream_key(self, sample: Sample) -> str:
        """Return the key of what the encoder made of a sample."""
        return key_of(source=sample.source, readers=self._readers, codec=self.encoded_by, quality=self.case.quality)

    def prediction_key(self, sample: Sample) -> str:
        """Return the key of what the model answered to that, decoded."""
        return key_of(signal=self.bitstream_key(sample), model=self.answered_by, entry=3)

    def statistic_key(self, sample: Sample) -> str:
        """Return the key of a sample's row."""
        return key_of(prediction=self.prediction_key(sample), scoring=self._scoring, group=sample.group, row=ROW_FORMAT)

    def parts(self) -> dict[str, dict[str, Any]]:
        """Return what the model, the codec and the metric are made of."""
        metric = {"packages": getattr(self.metric, "packages", {})}
        return {"model": self.model.parts, "metric": metric} | ({"codec": self.codec.parts()} if self.codec else {})

    def stored_rows(self, samples: Sequence[Sample]) -> dict[str, Row | Failure]:
        """Return the rows that the store has, by sample."""
        rows: dict[str, Row | Failure] = {}
        for sample in samples:
            content = self.store.get(STATISTIC, self.statistic_key(sample))
            if content is not None:
                rows[sample.id] = Row(**{**json.loads(content), "sample": sample.id})
        return rows

    def receive(self, sample: Sample) -> Received | SampleError:
        """Send a sample through the codec, or hand over the original."""
        try:
            signal = attempt("read", sample.signal).protected()
            links = {chain.SIGNAL: digest_of_signal(signal)}
            if self.codec is None:
                spent = Ledger(sample.stored_bytes)
                return Received(signal.copied(), sample.stored_bytes, signal.elements, signal.seconds, spent, None, {}, {}, links)
            data = self._bitstream(sample, signal, self.codec)
            decoded = self.decode(data, signal, self.codec)
            with self.clock.step("score"):
                ledger = _ledger(self.codec, data)
                nominal = attempt("score", self.codec.nominal_bits, signal, self.case.quality)
                beside, unmeasured = self._compare(decoded, signal)
                links |= {chain.BITSTREAM: digest(data), chain.DECODED: digest_of_signal(decoded)}
        except SampleError as error:
            return error
        return Received(decoded, len(data), signal.elements, signal.seconds, ledger, nominal, beside, unmeasured, links)

    def _compare(self, decoded: Signal, original: Signal) -> tuple[dict[str, Statistic], dict[str, str]]:
        """Return what the signal metrics keep of a decoded signal, and why some of them cannot measure it."""
        beside: dict[str, Statistic] = {}
        unmeasured: dict[str, str] = {}
        for metric in self.beside:
            try:
                beside[metric.name] = attempt("score", metric.observe, decoded, original)
            except SampleError as error:
                if not isinstance(error.__cause__, NotMeasurable):
                    raise
                unmeasured[metric.name] = str(error.__cause__)
        return beside, unmeasured

    def _bitstream(self, sample: Sample, signal: Signal, codec: Codec) -> bytes:
        key = self.bitstream_key(sample)
        if (data := self.store.get(BITSTREAM, key)) is not None:
            return data
        with self.store.lock(BITSTREAM, key):
            if (data := self.store.get(BITSTREAM, key)) is not None:
                return data
            with self.clock.step("encode"):
                encoded: bytes = attempt("encode", lambda: bytes(memoryview(codec.encode(signal, self.case.quality))))
            self.store.put(BITSTREAM, key, encoded)
            return encoded

    def stored_bitstream(self, sample: Sample) -> bytes | None:
        """Return what the encoder made of a sample, None where the store does not have it."""
        return self.store.get(BITSTREAM, self.bitstream_key(sample))

    def decode(self, data: bytes, original: Signal, codec: Codec) -> Signal:
        """Return what the codec makes of a bitstream; raises `SampleError` where it has not the shape of the original."""
        with self.clock.step("decode"):
            decoded: Signal = attempt("decode", codec.decode, data)
        if (shape := _shape(decoded)) != (expected := _shape(original)):
            raise SampleError("decode", f"came back as {shape}, not {expected}")
        return decoded.copied()  # a codec may use its buffer again

    def predict(self, batch: Sequence[Sample], received: Sequence[Received | SampleError]) -> list[Answer | SampleError]:
        """Return an answer, or a `SampleError`, for each sample of a batch."""
        keys = [self.prediction_key(sample) for sample in batch]
        answers = self._stored_answers(keys, received)
        if answers is None:
            with self.store.lock(PREDICTION, key_of(batch=keys)):
                answers = self._stored_answers(keys, received)
                if answers is None:
                    answers = self._answers(received)
                    for key, answer in zip(keys, answers, strict=True):
                        if isinstance(answer, Answer):
                            self.store.put(PREDICTION, key, bytes.fromhex(answer.given) + answer.data)
        return answers

    def stored_answer(self, key: str) -> Answer | None:
        """Return what a model answered, None where the store does not have it."""
        entry = self.store.get(PREDICTION, key)
        return None if entry is None else Answer(entry[:_DIGEST].hex(), entry[_DIGEST:])

    def _stored_answers(self, keys: Sequence[str], received: Sequence[Received | SampleError]) -> list[Answer | SampleError] | None:
        answers: list[Answer | SampleError] = []
        for key, signal in zip(keys, received, strict=True):
            answer = signal if isinstance(signal, SampleError) else self.stored_answer(key)
            if answer is None:
                return None
            answers.append(answer)
        return answers

    def _answers(self, received: Sequence[Received | SampleError]) -> list[Answer | SampleError]:
        """Ask the model for what came through of a batch; what stopped before stays as it is."""
        model = self.model.ready()
        signals = [item.signal for item in received if isinstance(item, Received)]
        with self.clock.step("predict"):
            found = iter(ask(model, signals))
            return [next(found) if isinstance(item, Received) else item for item in received]

    def score(self, sample: Sample, received: Received | SampleError, answer: Answer | SampleError) -> Row | Failure:
        """Turn a prediction into the sample's row, and keep it."""
        try:
            if isinstance(answer, SampleError):
                raise answer
            assert isinstance(received, Received)
            target = attempt("read", sample.target)
            prediction = predictions.from_bytes(answer.data)
            with self.clock.step("score"):
                statistic = attempt("score", self.metric.observe, prediction, target)
                floor = self.metric.floor(received.signal, target) if self.codec is None else None
                scores = {self.metric.name: self.metric.value([statistic])}
                scores |= {other.name: other.value([received.beside[other.name]]) for other in self.beside if other.name in received.beside}
        except SampleError as error:
            return Failure(sample.id, error.step, predictions.plain(str(error)))
        row = Row(
            sample=sample.id,
            bytes=received.bytes,
            elements=received.elements,
            seconds=received.seconds,
            ledger=asdict(received.ledger),
            nominal_bits=received.nominal_bits,
            prediction=predictions.describe(prediction, self.dataset.labels),
            target=predictions.describe(target, self.dataset.labels),
            statistic=statistic.tolist(),
            beside={name: beside.tolist() for name, beside in received.beside.items()},
            scores=scores,
            floor=None if floor is None else floor.tolist(),
            unmeasured=received.unmeasured,
            source=sample.source,
            group=sample.group,
            chain=received.chain | {chain.GIVEN: answer.given, chain.ANSWER: predictions.digest_of(prediction)},
        )
        self.store.put(STATISTIC, self.statistic_key(sample), json.dumps(asdict(row)).encode())
        return row

    def example(self, sample: Sample) -> list[dict[str, Any]] | None:
        """Return what the report shows of a sample at this point, or None where the store lacks what it takes."""
        answer = self.stored_answer(self.prediction_key(sample))
        data = self.store.get(BITSTREAM, self.bitstream_key(sample)) if self.codec else b""
        if answer is None or data is None:
            return None
        original = sample.signal()
        signal = self.codec.decode(data) if self.codec else original
        prediction, task = predictions.from_bytes(answer.data), self.case.evaluation.task.name
        return make_example(task, signal, prediction, sample.target(), self.dataset.labels, level=original)


def _ledger(codec: Codec, data: bytes) -> Ledger:
    ledger: Ledger = attempt("score", codec.ledger, data)
    if (total := ledger.payload + ledger.container + ledger.side) != len(data):
        raise SampleError("score", f"the codec's ledger adds up to {total} of {len(data)} bytes")
    return ledger


def _identity(metric: Metric) -> list[Any]:
    return [metric.name, metric.version, metric.settings, metric.packages]


def _shape(signal: object) -> str:
    if isinstance(signal, Image):
        return f"{signal.pixels.dtype} {list(signal.pixels.shape)}"
    if isinstance(signal, Audio):
        return f"{signal.waveform.dtype} {list(signal.waveform.shape)} at {signal.sample_rate} Hz"
    return type(signal).__name__


def _batches(samples: Sequence[Sample], model: OpenModel, done: dict[str, Any]) -> Iterable[Sequence[Sample]]:
    """Cut the data set into the model's batches; the model is not loaded when everything is done."""
    if len(done) == len(samples):
        return []
    size = model.batch_size
    return [samples[start : start + size] for start in range(0, len(samples), size)]


class _DroppingPool(ThreadPoolExecutor):
    """A thread pool that drops what has not begun when the caller is interrupted."""

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)


def _ahead(
    pool: ThreadPoolExecutor, action: Callable[[Sample], Received | SampleError], batches: Iterable[Sequence[Sample]]
) -> Iterator[tuple[Sequence[Sample], list[Received | SampleError]]]:
    """Run ``action`` over batches in the pool, one batch ahead of the one that is asked for."""
    under_way: deque[tuple[Sequence[Sample], list[Future[Received | SampleError]]]] = deque()
    for batch in batches:
        under_way.append((batch, [pool.submit(action, sample) for sample in batch]))
        if len(under_way) > 1:
            ready, futures = under_way.popleft()
            yield ready, [future.result() for future in futures]
    for ready, futures in under_way:
        yield ready, [future.result() for future in futures]
