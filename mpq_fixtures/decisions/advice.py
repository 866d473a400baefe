"""What is advised: of each codec the quality that is enough with what it costs, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.decisions.search import Found, Probe
from mpq_fixtures.metrics import Metric
from mpq_fixtures.record import Record
from mpq_fixtures.rows import Failure
from mpq_fixtures.statistics.intervals import rate_interval, retention_interval
from mpq_fixtures.statistics.resampling import take
from mpq_fixtures.statistics.retention import retention
from mpq_fixtures.suite import Evaluation

ENOUGH, LOWEST, OUT_OF_REACH, UNTOLD, UNUSABLE = "enough", "lowest", "out of reach", "cannot tell", "unusable"
"""What can become of a codec: a quality is enough; its lowest one is; none is; the samples cannot tell; it could not be measured."""


class Figures(NamedTuple):
    """What is needed of the samples that were measured at a point, in their order; ``seconds`` are 0 of pictures."""

    ids: list[str]
    groups: list[str]
    statistics: Sequence[Any]
    floors: Sequence[Any]
    bytes: NDArray[np.int64]
    elements: NDArray[np.int64]
    seconds: NDArray[np.float64]
    failures: list[Failure]

    @staticmethod
    def of(record: Record) -> Figures:
        """Take them from a record, whose rows may lie in a file."""
        rows, failures = record.rows, record.failures
        if not len(rows):
            return Figures([], [], [], [], np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), failures)
        sizes, elements = (np.asarray(rows.numbers(name), np.int64) for name in ("bytes", "elements"))
        seconds = np.nan_to_num(np.asarray(rows.numbers("seconds"), np.float64))
        return Figures(rows.samples, rows.groups, rows.statistics(), rows.floors(), sizes, elements, seconds, failures)

    def at(self, places: Sequence[int]) -> Figures:
        """Return those of some samples, by their places."""
        floors = take(self.floors, places) if len(self.floors) == len(self.ids) else self.floors
        return self._replace(
            ids=take(self.ids, places),
            groups=take(self.groups, places),
            statistics=take(self.statistics, places),
            floors=floors,
            bytes=take(self.bytes, places),
            elements=take(self.elements, places),
            seconds=take(self.seconds, places),
        )


def describe_failure(failures: Sequence[Failure]) -> str:
    """Return what became of the first sample that failed; "" where none did."""
    return f"{failures[0].sample} failed to {failures[0].step}: {failures[0].reason}" if failures else ""


@dataclass(frozen=True)
class Point:
    """A codec at a quality on the samples that it and the originals have: what is kept, what it costs, and what that saves.

    Sizes are in bytes: ``stored`` those of the samples' files as they are today, ``raw`` those of 8-bit RGB or 16-bit PCM. ``kbps`` is in
    1,000 bits a second of sound for every bit an audio sample, NaN for pictures.
    """

    quality: str
    samples: int = 0
    failed: int = 0
    value: float = math.nan
    reference: float = math.nan
    retention: float = math.nan
    retention_low: float = math.nan
    retention_high: float = math.nan
    rate: float = math.nan
    rate_low: float = math.nan
    rate_high: float = math.nan
    kbps: float = math.nan
    bytes: int = 0
    stored: int = 0
    elements: int = 0

    @staticmethod
    def of(quality: str, figures: Figures, original: Figures, metric: Metric, level: float) -> Point:
        """Compare a point with the originals, sample by sample."""
        place = {name: number for number, name in enumerate(original.ids)}
        pairs = [(number, place[name]) for number, name in enumerate(figures.ids) if name in place]
        failed = len({one.sample for one in (*figures.failures, *original.failures)})
        if not pairs:
            return Point(quality, failed=failed)
        own, base = figures.at([pair[0] for pair in pairs]), original.at([pair[1] for pair in pairs])
        value, reference = metric.value(own.statistics), metric.value(base.statistics)
        floor = metric.value(base.floors) if len(base.floors) else None
        kept = retention_interval(metric, own.statistics, base.statistics, base.floors, own.groups, level)
        rate = rate_interval(own.bytes, own.elements, own.groups, level)
        total, elements = int(own.bytes.sum()), int(own.elements.sum())
        seconds = math.fsum(own.seconds)
        per_second = elements / seconds / 1000 if seconds else math.nan
        return Point(
            quality, len(pairs), failed, value, reference, retention(value, reference, floor, metric.higher_is_better), kept.low, kept.high,
            8 * total / elements, rate.low, rate.high, per_second, total, int(base.bytes.sum()), elements,
        )  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What became of a codec: the search, its points beside the probes, their command lines; or the ``problem`` that it cannot be measured.

    ``qualities`` is how many there are, and ``failure`` says why the first sample failed that did.
    """

    codec: str
    found: Found | None = None
    points: tuple[Point, ...] = ()
    commands: tuple[str, ...] = ()
    qualities: int = 0
    problem: str = ""
    failure: str = ""

    @property
    def kind(self) -> str:
        """What became of it, in a word."""
        if self.found is None:
            return UNUSABLE
        if self.found.sure is not None:
            return LOWEST if self.found.lowest else ENOUGH
        return OUT_OF_REACH if self.found.out_of_reach else UNTOLD

    @property
    def probes(self) -> tuple[Probe, ...]:
        """What was tried, in the order of `points`."""
        return self.found.probes if self.found else ()

    def at(self, probe: Probe | None) -> Point | None:
        """Return what was measured at a quality that was tried."""
        return None if probe is None or self.found is None else self.points[self.found.probes.index(probe)]

    @property
    def best(self) -> Point | None:
        """The lowest quality that is sure to be enough."""
        return self.at(self.found.sure) if self.found else None

    @property
    def likely(self) -> Point | None:
        """A cheaper one that is likely to be enough, or the likely one where none is sure."""
        if self.found is None or self.found.likely is self.found.sure:
            return None
        return self.at(self.found.likely)

    @property
    def highest(self) -> Point | None:
        """The best quality that was tried."""
        return self.points[-1] if self.points else None

    @property
    def command(self) -> str:
        """The command line of the best quality."""
        return self.commands[self.points.index(self.best)] if self.best else ""


@dataclass(frozen=True)
class Advice:
    """The answers of all codecs, the cheapest first, and what they were measured on."""

    evaluation: str
    suite: str
    task: str
    model: str
    dataset: str
    targets: str
    device: str
    metric: str
    rate_unit: str
    raw_bits: int
    keep: float
    level: float
    samples: int
    failed: int
    reference: float
    stored: int
    elements: int
    answers: tuple[Answer, ...]
    notes: tuple[str, ...] = ()
    failure: str = ""

    @staticmethod
    def of(
        evaluation: Evaluation,
        metric: Metric,
        original: Figures,
        answers: Sequence[Answer],
        keep: float,
        level: float,
        device: str,
        notes: tuple[str, ...],
    ) -> Advice:
        """Put the answers in order: what is enough before what is not, the cheapest first."""
        modality = evaluation.task.modality
        order = [ENOUGH, LOWEST, UNTOLD, OUT_OF_REACH, UNUSABLE]

        def rank(answer: Answer) -> tuple[float, ...]:
            point = answer.best or answer.likely or answer.highest
            return (0 if answer.best else order.index(answer.kind), point.rate if point else math.inf)

        return Advice(
            evaluation=evaluation.name,
            suite=evaluation.suite,
            task=evaluation.task.name,
            model=evaluation.model_name,
            dataset=evaluation.dataset_name,
            targets=evaluation.targets,
            device=device,
            metric=metric.name,
            rate_unit=modality.rate_unit,
            raw_bits=modality.raw_bits,
            keep=keep,
            level=level,
            samples=len(original.ids),
            failed=len(original.failures),
            reference=metric.value(original.statistics),
            stored=int(original.bytes.sum()),
            elements=int(original.elements.sum()),
            answers=tuple(sorted(answers, key=rank)),
            notes=notes,
            failure=describe_failure(original.failures),
        )

    @property
    def enough(self) -> list[Answer]:
        """The codecs with a quality that is enough, the cheapest first; those that lost samples behind those that did not."""
        return sorted(
            (answer for answer in self.answers if answer.best), key=lambda answer: bool(answer.best and answer.best.failed > self.failed)
        )

    @property
    def best(self) -> Answer | None:
        """The codec that is advised."""
        return next(iter(self.enough), None)

    @property
    def runner_up(self) -> Answer | None:
        """The next one."""
        return next(iter(self.enough[1:]), None)
