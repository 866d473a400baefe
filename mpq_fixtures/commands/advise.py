"""``mpq advise``: how far data can be compressed for a model, by which codec and at which quality, and how sure that is."""

from __future__ import annotations

import dataclasses
import datetime
import math
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from mpq_fixtures.codecs import Codec, CodecError
from mpq_fixtures.commands.advise_data import AdviceError, Asked, candidates, choose
from mpq_fixtures.commands.advise_words import as_json, as_text
from mpq_fixtures.commands.progress import Progress, stoppable
from mpq_fixtures.conformance.stored import audited
from mpq_fixtures.decisions.advice import Advice, Answer, Figures, Point, describe_failure
from mpq_fixtures.decisions.search import Estimate, parts, search
from mpq_fixtures.engines.overseer import engine_of_command
from mpq_fixtures.errors import AssetError, describe_error
from mpq_fixtures.evaluate import finish
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.opened import OpenEvaluation
from mpq_fixtures.options import available, store_location
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.processes.devices import set_up_process, threads_for_worker
from mpq_fixtures.processes.temporary import TemporaryFolder
from mpq_fixtures.read_cache import ReadCache, budget_for
from mpq_fixtures.record import Record
from mpq_fixtures.report.drawing import DrawingError
from mpq_fixtures.resources import Resources
from mpq_fixtures.signals import Dataset
from mpq_fixtures.store import StoreError, open_store
from mpq_fixtures.suite import ORIGINAL, Case, Evaluation, SuiteError
from mpq_fixtures.tasks import TaskError

ANSWERED, CANNOT, UNTOLD, STOPPED = 0, 2, 4, 130
COMMAND = "mpq advise"


class _Unusable(Exception):
    """A codec that cannot be measured on these samples; the message says why."""


def advise(
    asked: Asked, keep: float, level: float, cache: str | None, device: str, json: bool, out: Path | None, command: Sequence[str] = ()
) -> int:
    """Write the answer and return the exit code: 0, 4 where none could be told, 2 where it cannot be looked for, 130 when stopped."""
    set_up_process()
    progress = _Progress(COMMAND)
    try:
        store, device = open_store(store_location(cache)), available(device)
        found = candidates(asked)
    except (AdviceError, AssetError, SuiteError, CodecError, TaskError, StoreError) as error:
        return _cannot(str(error))
    except pytest.UsageError as error:
        return _cannot(str(error).replace("--mpq-", "--"))
    threads, read_cache = threads_for_worker(1), ReadCache(budget_for(1))
    engine, under_way = engine_of_command(progress.say)
    opened = OpenEvaluation(device, 0, threads, asked.samples, read_cache)
    with TemporaryFolder("advise") as parts:
        resources = Resources(store, Clock(), threads, progress, engine, parts, read_cache, under_way=under_way)
        try:
            with stoppable(progress):
                evaluation, dataset, notes = choose(asked, found, opened)
                resources.points[evaluation.name] = 1 + 7 * len(evaluation.codecs)
                looking = Looking(evaluation, dataset.take(dataset.seeded_order()), opened.model(evaluation), resources, keep, level)
                advice = looking.advice(notes)
            progress.clear()
            sys.stdout.write(as_json(advice) if json else as_text(advice))
            sys.stdout.flush()
            if out is not None and (problem := _written(out, looking, advice, command)):
                return _cannot(problem)
        except KeyboardInterrupt:
            progress.say("stopped; what was measured is in the store, and the same command goes on from there")
            return STOPPED
        except (AssetError, AdviceError, StoreError) as error:
            progress.end()
            return _cannot(str(error))
        except BrokenPipeError:  # nobody reads the answer any more, which `mpq` says by its exit code
            raise
        except OSError as error:
            progress.end()
            return _cannot(f"stopped, and the same command goes on from there: {describe_error(error)}")
        finally:
            resources.engine.close()
            opened.close()
            store.close()
    return ANSWERED if advice.best is not None else UNTOLD


class _Progress(Progress):
    """Says how far a quality is, of which only the first so many samples are ``wanted``."""

    wanted = 0

    def __call__(self, case: str, done: int, total: int) -> None:
        """Note how far a case is, between batches; raises `KeyboardInterrupt` where that is the end."""
        lacking = min(total - done, self.wanted)
        if lacking or self.stopping:
            super().__call__(case, self.wanted - lacking, self.wanted)


class _Beginning(Pipeline):
    """A case of which only the first so many samples are wanted; batches are those of all samples, so that more can follow."""

    def __init__(self, wanted: int, *others: Any) -> None:
        super().__init__(*others)
        self._wanted = wanted

    def lacking(self, failed: Collection[str], positions: Sequence[int] | None = None) -> Sequence[int]:
        """Return the positions of the wanted samples that have no row in the store and did not fail."""
        return [position for position in super().lacking(failed, positions) if position < self._wanted]


class Looking:
    """Measures codecs on the samples of an evaluation, some at a time, and says what came of it."""

    def __init__(self, evaluation: Evaluation, dataset: Dataset, model: OpenModel, resources: Resources, keep: float, level: float) -> None:
        self.evaluation, self.dataset, self.model, self.resources = evaluation, dataset, model, resources
        self.keep, self.level = keep, level
        self.metric = evaluation.task.metric(dataset, **evaluation.options)
        self._figures: dict[tuple[str, int], Figures] = {}
        self.sizes = parts(len(dataset.samples))

    def advice(self, notes: Sequence[str] = ()) -> Advice:
        """Look at each codec and return what is best; raises `AssetError` where the originals are nothing to compare with."""
        original = self._check_originals()
        answers = [self._answer(name, codec, original) for name, codec in self.evaluation.codecs.items()]
        return Advice.of(self.evaluation, self.metric, original, answers, self.keep, self.level, self.model.device, tuple(notes))

    def _check_originals(self) -> Figures:
        original = self._measured(ORIGINAL, "", None, self.sizes[-1])
        name = self.evaluation.name
        if not original.ids:
            raise AssetError(f"{name}: no sample could be measured; {describe_failure(original.failures)}")
        if not self.metric.higher_is_better:
            raise AssetError(f"{name}: of {self.metric.name} lower is better, so that there is no share of it to keep; use another metric")
        value = self.metric.value(original.statistics)
        floor = self.metric.value(original.floors) if len(original.floors) else 0.0
        if not value > floor:
            over = "no better than the unprocessed mixture" if len(original.floors) else "right of none"
            advice = (
                "; are the labels meant for this model? --no-labels holds its answers against its own" if self.evaluation.has_labels else ""
            )
            raise AssetError(f"{name}: on the {len(original.ids)} originals the model is {over}, so that there is nothing to keep{advice}")
        return original

    def _answer(self, name: str, codec: Codec, original: Figures) -> Answer:
        ladder = [quality for codec_name, quality in self.evaluation.points if codec_name == name]
        try:
            qualities = self._ready(name, codec)
            found = search(qualities, lambda *asked: self._estimate(name, codec, *asked), self.sizes, self.keep, ladder or codec.ladder)
        except _Unusable as error:
            return Answer(name, problem=str(error))
        points = tuple(self._point(name, codec, probe.quality, probe.samples) for probe in found.probes)
        commands = tuple(codec.command_line(probe.quality) for probe in found.probes)
        failures = [one for probe in found.probes for one in self._measured(name, probe.quality, codec, probe.samples).failures]
        return Answer(name, found, points, commands, len(qualities), failure=describe_failure(failures))

    def _ready(self, name: str, codec: Codec) -> Sequence[str]:
        """Return the qualities of a codec that is ready and honest; raises `_Unusable`."""
        case = Case(dataclasses.replace(self.evaluation, points=tuple((name, rung) for rung in codec.ladder)), name, codec.ladder[0])
        self.resources.under_way.about(test=name)
        if doomed := self.resources.engine.doomed(name):
            raise _Unusable(doomed)
        try:
            codec.prepare(case.siblings())
            if faults := audited(case, codec, self.dataset, self.resources):
                raise _Unusable(f"codec {faults[0]}")
        except AssetError as error:
            raise _Unusable(str(error).removeprefix(f"codec {name}: ")) from None
        for sample in self.dataset.samples:
            try:
                return list(codec.range(sample.signal()))
            except Exception:  # which the sample's own failure says
                continue
        return list(codec.range())

    def _estimate(self, name: str, codec: Codec, quality: str, samples: int) -> Estimate:
        point = self._point(name, codec, quality, samples)
        return Estimate(point.retention, point.retention_low, point.retention_high, point.rate)

    def _point(self, name: str, codec: Codec, quality: str, samples: int) -> Point:
        figures, original = self._measured(name, quality, codec, samples), self._measured(ORIGINAL, "", None, samples)
        point = Point.of(quality, figures, original, self.metric, self.level)
        if not point.samples:
            raise _Unusable(f"no sample could be measured at {quality}; {describe_failure([*figures.failures, *original.failures])}")
        if not math.isfinite(point.retention):
            raise _Unusable(f"{point.samples} samples have no {self.metric.name} at {quality} that could be compared with the originals'")
        return point

    def _measured(self, name: str, quality: str, codec: Codec | None, samples: int) -> Figures:
        case = Case(self.evaluation, name, quality)
        if (known := self._figures.get((case.id, samples))) is None:
            if isinstance(self.resources.progress, _Progress):
                self.resources.progress.wanted = samples
            self.resources.engine.complete(_Beginning(samples, case, self.dataset, self.model, codec, self.resources))
            beginning = self.dataset.take(range(samples))
            known = self._figures[case.id, samples] = Figures.of(finish(Pipeline(case, beginning, self.model, codec, self.resources)))
        return known

    def record(self, case: Case) -> Record:
        """Return what the store has of a case that was measured on all samples."""
        return finish(Pipeline(case, self.dataset, self.model, self.evaluation.codecs.get(case.codec), self.resources))


def _written(folder: Path, looking: Looking, advice: Advice, command: Sequence[str]) -> str:
    """Write results and report; return why that cannot be, of an answer that was given, "" where it is done."""
    try:
        write(folder, looking, advice, command)
    except OSError as error:
        return f"the answer stands, and {folder} could not be written: {error.strerror or error}"
    except DrawingError as error:
        return f"the answer stands, and the results are in {folder}, but not the report: {error}; try: mpq report {quote(str(folder))}"
    return ""


def write(folder: Path, looking: Looking, advice: Advice, command: Sequence[str]) -> None:
    """Write what was measured as the results of a run, and its report.

    Cases are the qualities that were measured on all samples, which can be compared; a note at the originals names those given up before.
    """
    from mpq_fixtures.decisions import decide
    from mpq_fixtures.report.html import write_report
    from mpq_fixtures.results.files import PASSED, Result, write_results
    from mpq_fixtures.results.provenance import loaded_libraries, origin_of

    whole, probes = len(looking.dataset.samples), [(answer.codec, probe) for answer in advice.answers for probe in answer.probes]
    points = tuple((codec, probe.quality) for codec, probe in probes if probe.samples == whole)
    given_up = [f"{codec} {probe.quality} on {probe.samples}" for codec, probe in probes if probe.samples < whole]
    evaluation = dataclasses.replace(looking.evaluation, points=points)
    records = [looking.record(case) for case in evaluation.cases]
    for record in records:
        record.relate_to(records[0])
    results = [Result(case, PASSED, record) for case, record in zip(evaluation.cases, records, strict=True)]
    if given_up:
        results[0].notes = f"given up on a part of the {whole} samples, which told enough, and not shown: {', '.join(given_up)}"
    asked = {
        "suite": [evaluation.suite],
        "keep": advice.keep,
        "level": advice.level,
        "samples": len(looking.dataset.samples),
        "device": looking.model.device,
    }
    about = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "complete": True,
        "exit_status": 0,
        "suites": [evaluation.suite],
        "provenance": origin_of(
            records,
            [evaluation],
            command,
            Path.cwd(),
            looking.model.device,
            asked,
            [loaded_libraries()],
        ),
        "seconds": looking.resources.clock.seconds,
        "decisions": [decide(records)] if points else [],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder, results, about)
    write_report(folder)


def _cannot(reason: str) -> int:
    sys.stderr.write(f"{COMMAND}: {reason}\n")
    return CANNOT
