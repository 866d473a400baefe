"""Hybrids: a case with some of its steps old and the others new, as far as that can still be had.

Old answers are in the store for another metric, old bitstreams for another decoder and model. An old codec or model itself is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, SIGNAL, STATISTIC, digest, digest_of_signal
from mpq_fixtures.codecs import Codec, Ledger
from mpq_fixtures.gate.measured import WHOLE, Measured, whole
from mpq_fixtures.metrics import Metric, Statistic
from mpq_fixtures.models import predictions
from mpq_fixtures.models.answers import Answer
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.pipeline import Outcome, Pipeline
from mpq_fixtures.resources import Resources
from mpq_fixtures.sample_errors import SampleError
from mpq_fixtures.signals import Dataset, Sample, Signal
from mpq_fixtures.store import STATISTIC as STATISTICS
from mpq_fixtures.store import key_of
from mpq_fixtures.suite import Case
from mpq_fixtures.transcoding import Transcoded

ENCODING, DECODING, ANSWERING, SCORING = (SIGNAL, BITSTREAM), (DECODED,), (GIVEN, ANSWER), (STATISTIC,)
"""The stretches of the chain that can be old or new by themselves: what the store keeps lies between them."""
STRETCHES = (ENCODING, DECODING, ANSWERING, SCORING)

Corner = tuple[int, int, int, int]
"""Whether each stretch is old (0) or new (1)."""


class Hybrids:
    """The corners of a case between ``old`` and ``new``, two measurements over ``samples``, each worked out when it is first asked for.

    ``other_signals`` says that the reader moved, of which the store's keys know nothing.
    """

    def __init__(
        self,
        case: Case,
        dataset: Dataset,
        model: OpenModel,
        codec: Codec | None,
        resources: Resources,
        old: Measured,
        new: Measured,
        metric: Metric,
        samples: Sequence[Sample],
        other_signals: bool,
    ) -> None:
        self.case, self.dataset, self.model, self.codec, self.resources = case, dataset, model, codec, resources
        self.old, self.new, self.metric, self.samples, self.other_signals = old, new, metric, samples, other_signals
        self._known: dict[Corner, list[Statistic] | None] = {}
        self._former = self._former_metric()

    def statistics(self, corner: Corner) -> list[Statistic] | None:
        """Return what the metric keeps of each sample at a corner; None where that cannot be had."""
        if corner not in self._known:
            self._known[corner] = self._work_out(corner)
        return self._known[corner]

    def has_old_bitstreams(self) -> bool:
        """Tell whether the store has what the old encoder made of every sample."""
        pipeline = self._pipeline((0, 0, 0, 0))
        found = pipeline.stored_bitstreams(self.samples) if pipeline is not None else {}
        if any(sample.source not in found for sample in self.samples):
            return False
        return BITSTREAM not in self.old.links or self._are_the_old(BITSTREAM, (digest(found[sample.source]) for sample in self.samples))

    def decoder_moved(self, whole_digest: str) -> bool | None:
        """Tell whether the new decoder makes something else of the old bitstreams than the old one made; None where that cannot be had.

        ``whole_digest`` is the digest over all that the old one made, "" where none is known of just these samples.
        """
        pipeline = self._pipeline((0, 1, 1, 1))
        if pipeline is None or not self.has_old_bitstreams():
            return None
        digests = [digest_of_signal(decoded) for _, decoded in self._decoded(pipeline, self.samples)]
        if len(digests) < len(self.samples):
            return True  # what the old decoder read it cannot
        if DECODED in self.old.links:
            return not self._are_the_old(DECODED, digests)
        if whole_digest:
            return whole(np.array([int(one, 16) for one in digests], np.uint64)) != whole_digest
        return None

    def _work_out(self, corner: Corner) -> list[Statistic] | None:
        if corner == (0, 0, 0, 0):
            return list(self.old.statistics)
        if corner == (1, 1, 1, 1):
            return list(self.new.statistics)
        metric = self.metric if corner[3] else self._former
        pipeline = self._pipeline(corner)
        if metric is None or pipeline is None:
            return None
        answers = self._stored_answers(pipeline, corner)
        if answers is None and corner[:3] == (0, 1, 1) and self.codec is not None:
            answers = self._answer(pipeline)
        if answers is None:
            return None
        return [self._observe(metric, pipeline, sample, one) for sample, one in zip(self.samples, answers, strict=True)]

    def _stored_answers(self, pipeline: _HybridPipeline, corner: Corner) -> list[Answer] | None:
        """Return a corner's answers where the store has them all; of what the reader made the store's keys know nothing."""
        if self.other_signals and not corner[0] and any(corner[1:3]) and not (self.codec and self.has_old_bitstreams()):
            return None
        found = pipeline.stored_answers(self.samples)
        if any(sample.source not in found for sample in self.samples):
            return None
        answers = [found[sample.source] for sample in self.samples]
        if not any(corner[:3]) and ANSWER in self.old.links:
            made = (predictions.digest_of(self.case.evaluation.task.from_bytes(answer.data)) for answer in answers)
            if not self._are_the_old(ANSWER, made):
                return None
        return answers

    def _are_the_old(self, layer: str, digests: Iterable[str]) -> bool:
        """Tell whether digests are those that were approved."""
        shift = np.uint64(WHOLE - self.old.bits.get(layer, WHOLE))
        links = np.array([int(digest, 16) for digest in digests], np.uint64)
        return bool(np.array_equal(links >> shift, self.old.links[layer] >> shift))

    def _pipeline(self, corner: Corner) -> _HybridPipeline | None:
        """Return the steps of a corner; None for a new bitstream in an old decoder."""
        encoding, decoding, answering, _ = corner
        if encoding and not decoding:
            return None
        if not (self.old.model and self.new.model) or (self.codec is not None and not self.old.codec):
            return None
        pipeline = _HybridPipeline(self.case, self.dataset, self.model, self.codec, self.resources)
        pipeline.encoded_by = (self.old.codec, self.new.codec)[encoding]
        pipeline.decoded_by = (self.old.codec, self.new.codec)[decoding]
        pipeline.answered_by = (self.old.model, self.new.model)[answering]
        return pipeline

    def _answer(self, pipeline: _HybridPipeline) -> list[Answer] | None:
        """Send old bitstreams through the new decoder and the new model, batch by batch."""
        assert self.codec is not None
        if not self.has_old_bitstreams():
            return None
        answers: list[Answer] = []
        size = pipeline.batch_size
        for begin in range(0, len(self.samples), size):
            batch = self.samples[begin : begin + size]
            transcoded = [_transcoded(decoded) for _, decoded in self._decoded(pipeline, batch)]
            if len(transcoded) < len(batch):
                return None
            found = pipeline.answer(transcoded)
            known = [answer for answer in found if isinstance(answer, Answer)]
            if len(known) < len(batch):
                return None
            pipeline.keep(Outcome(answers={sample.source: answer for sample, answer in zip(batch, known, strict=True)}))
            answers += known
        return answers

    def _decoded(self, pipeline: _HybridPipeline, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Signal]]:
        """Yield what the new decoder makes of the old bitstreams, as long as it can."""
        assert self.codec is not None
        found = pipeline.stored_bitstreams(samples)
        for sample in samples:
            if sample.source not in found:
                return
            try:
                yield sample, pipeline.transcoder.decode(found[sample.source], sample.signal(), self.codec)
            except SampleError:
                return

    def _former_metric(self) -> Metric | None:
        """Return the metric as it was approved, where its options are all that changed."""
        if (self.old.metric, self.old.version) != (self.new.metric, self.new.version):
            return None
        evaluation = self.case.evaluation
        options = {name: (self.old.settings or {}).get(name, value) for name, value in evaluation.options.items()}
        former = evaluation.task.metric(self.dataset, **options)
        return former if dict(former.settings) == dict(self.old.settings or {}) else None

    def _observe(self, metric: Metric, pipeline: Pipeline, sample: Sample, answer: Answer) -> Statistic:
        key = key_of(
            crossed=pipeline.answering,
            sample=sample.source,
            metric=[metric.name, metric.version, metric.settings, getattr(metric, "packages", {})],
        )
        content = self.resources.store.get(STATISTICS, key)
        if content is not None:
            return np.asarray(json.loads(content), float)
        statistic = metric.observe(self.case.evaluation.task.from_bytes(answer.data), pipeline.target(sample))
        self.resources.store.put(STATISTICS, key, json.dumps(statistic.tolist()).encode())
        return statistic


class _HybridPipeline(Pipeline):
    """The steps of a case with an old encoder or model, as far as the store has what they made; ``decoded_by`` is the decoder's codec."""

    decoded_by = ""

    @property
    def answering(self) -> str:
        if self.decoded_by == self.encoded_by:
            return super().answering
        return key_of(signal=key_of(bitstream=self.encoding, decoder=self.decoded_by), model=self.answered_by, entry=4)


def _transcoded(signal: Signal) -> Transcoded:
    return Transcoded(signal, 0, signal.elements, signal.seconds, Ledger(0), None, {}, {}, {})
