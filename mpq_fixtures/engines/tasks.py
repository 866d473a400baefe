"""A stretch of a case as a task for a process on another machine: what is sent, what comes back, and what is done in between.

A process keeps one data set and one model from task to task. Nothing is shared with who sent a task: what the store has of its samples
comes along, and what is new goes back.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpq_fixtures.codecs import CodecError
from mpq_fixtures.engines.time_limit import TimeLimit
from mpq_fixtures.errors import AssetError
from mpq_fixtures.models.answers import Limit
from mpq_fixtures.opened import OpenEvaluation
from mpq_fixtures.pipeline import FIRST, Pipeline
from mpq_fixtures.processes.clock import Clock, peak_memory
from mpq_fixtures.processes.devices import cores, set_up_process
from mpq_fixtures.processes.prefetch import Hands
from mpq_fixtures.read_cache import ReadCache, budget_for
from mpq_fixtures.resources import Resources
from mpq_fixtures.results.provenance import loaded_libraries
from mpq_fixtures.store import BITSTREAM, PREDICTION, Scope, Store, key_of, packs
from mpq_fixtures.store.base import Part, Source
from mpq_fixtures.store.packs import keys_of
from mpq_fixtures.suite import Case, Evaluation, SuiteError
from mpq_fixtures.suite.file import load_suite

if TYPE_CHECKING:
    import pyarrow as pa

    from mpq_fixtures.rows import Failure

Place = tuple[str, str]
"""The layer and the key of a scope of the store."""

_STARTED = time.monotonic()


@dataclass(frozen=True)
class Task:
    """Batches of a case to measure; without ``numbers`` it asks only for the size of a batch.

    ``wanted`` are the positions in the data set of the samples to score, ``without`` those that are left out of their batch, at which
    workers died. ``packs`` are what the store has of these samples by layer and key, ``entries`` its single entries
    as far as they were asked for, None for one that it lacks.
    ``keys`` are those of the encoder's, the model's and the metrics' work where the task comes from, and
    ``digest`` that of the samples: elsewhere they must be the same. ``points`` is how many cases the run has of the evaluation.
    """

    suite: Path
    evaluation: str
    point: tuple[str, str]
    samples: int | None
    device: str
    keys: tuple[str, str, str]
    points: int
    path: tuple[str, ...]
    modules: tuple[tuple[str, str], ...]
    entries: Mapping[tuple[str, str], bytes | None]
    numbers: tuple[int, ...] = ()
    size: int = 0
    layout: str = ""
    wanted: frozenset[int] = frozenset()
    without: frozenset[int] = frozenset()
    digest: str = ""
    packs: Mapping[Place, Sequence[bytes]] = field(default_factory=dict)


@dataclass
class Done:
    """What came of a task: packs and single entries for the store, failures, what it took, or why nothing could be done.

    ``size`` and ``layout`` are those of batches (`mpq_fixtures.models.batching`). ``asked`` is an entry of the store that has to come
    along. ``seconds`` are by step, ``busy`` and ``took`` those in which a step was under way and of the task as a whole, ``alive`` those
    since the process began; ``memory`` is the most it held, in bytes.
    """

    worker: str
    size: int = 0
    layout: str = ""
    packs: list[tuple[Place, bytes]] = field(default_factory=list)
    entries: dict[tuple[str, str], bytes] = field(default_factory=dict)
    asked: tuple[str, str] | None = None
    failures: list[Failure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    busy: float = 0.0
    took: float = 0.0
    alive: float = 0.0
    memory: int = 0
    loaded: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    error: str = ""


def perform(task: Task, threads: int = 1) -> Done:
    """Do a task in this process; what cannot be had here is its ``error``, which names this machine."""
    return _place(threads).perform(task)


def digest_of_samples(sources: Iterable[str]) -> str:
    """Return what tells whether two machines speak of the same samples."""
    return key_of(sources=list(sources))


@cache
def _place(threads: int) -> _Place:
    return _Place(threads)


class _Place:
    """A process that does tasks."""

    def __init__(self, threads: int) -> None:
        set_up_process()
        self._threads, self._clock, self._store, self._limit = threads, Clock(), _Enclosed(), TimeLimit()
        self._read_cache = ReadCache(budget_for(cores() // threads))
        self._opened: OpenEvaluation | None = None
        self._about: tuple[Any, ...] = ()
        self._suites: dict[Path, dict[str, Evaluation]] = {}
        self._pipelines: dict[tuple[str, str], Pipeline] = {}
        self._hands: dict[tuple[str, str], Hands] = {}

    def perform(self, task: Task) -> Done:
        """Do a task."""
        started, busy, before = time.perf_counter(), self._clock.busy, self._clock.seconds.copy()
        done = Done(worker=f"{platform.node()} {os.getpid()}")
        try:
            self._store.enclose(task.packs, task.entries)
            pipeline = self._pipeline_of(task)
            with self._limit.kept(pipeline.patience * (task.size or FIRST)):
                if task.size:
                    pipeline.model.arrange(task.layout)
                done.size, done.layout = task.size or pipeline.batch_size, pipeline.model.layout
                if pipeline.model.limit is None:
                    pipeline.model.limit = Limit(done.size)
                if task.numbers:
                    done.failures = self._measure(pipeline, task)
        except _Asked as entry:
            done.asked = entry.layer, entry.key
        except (AssetError, CodecError, SuiteError) as error:
            done.error = f"on {platform.node()}: {error}"
        done.packs, done.entries = self._store.written, self._store.put_down
        done.seconds = {step: seconds - before[step] for step, seconds in self._clock.seconds.items()}
        done.busy, done.took = self._clock.busy - busy, time.perf_counter() - started
        done.alive, done.memory, done.loaded = time.monotonic() - _STARTED, peak_memory(), loaded_libraries()
        done.notes = self._opened.notes() if self._opened else []
        return done

    def _measure(self, pipeline: Pipeline, task: Task) -> list[Failure]:
        samples, size = pipeline.dataset.samples, task.size
        stretches = [pipeline.positions([number], size) for number in task.numbers]
        if digest_of_samples(samples[position].source for stretch in stretches for position in stretch) != task.digest:
            raise AssetError(f"{task.evaluation}: other samples than where pytest runs: the data set must be the same on all nodes")
        batches = [[samples[position] for position in stretch if position not in task.without] for stretch in stretches]
        failures: list[Failure] = []
        for outcome in pipeline.measure(filter(None, batches), {samples[position].source for position in task.wanted}):
            pipeline.keep(outcome)
            failures += outcome.failures
        return failures

    def _pipeline_of(self, task: Task) -> Pipeline:
        opened = self._open(task)
        if (evaluation := self._suites[task.suite].get(task.evaluation)) is None:
            raise SuiteError(f"{task.suite} has no evaluation {task.evaluation!r}: the suite must be the same on all nodes")
        if task.point not in self._pipelines:
            case = Case(evaluation, *task.point)
            if not case.is_original and task.point not in evaluation.points:
                raise SuiteError(f"{task.suite} has no case {case.id}: the suite must be the same on all nodes")
            points, at = {evaluation.name: task.points}, self._limit
            resources = Resources(
                self._store, self._clock, self._threads, read_cache=self._read_cache, points=points, under_way=at, hands=self._hands
            )
            pipeline = opened.pipeline(case, resources)
            for what, own, others in zip(_MADE_BY, keys_of_work(pipeline), task.keys, strict=True):
                if own != others:
                    raise AssetError(f"{case.id}: {what} not the same as where pytest runs: install the same on all nodes")
            self._pipelines[task.point] = pipeline
        return self._pipelines[task.point]

    def _open(self, task: Task) -> OpenEvaluation:
        about = task.suite, task.evaluation, task.samples, task.device
        if self._opened is None or about != self._about:
            sys.path += [entry for entry in task.path if entry not in sys.path]
            for name, file in task.modules:
                _import(name, file)
            if not task.suite.is_file():
                raise SuiteError(f"there is no {task.suite}: suites, models and data must lie at the same place on all nodes")
            if self._opened is None or about[2:] != self._about[2:]:
                self._opened = OpenEvaluation(task.device, 0, self._threads, task.samples, self._read_cache)
            if task.suite not in self._suites:
                self._suites[task.suite] = {evaluation.name: evaluation for evaluation in load_suite(task.suite)}
            self._pipelines.clear()
            self._hands.clear()
            self._about = about
        return self._opened


def scopes_to_read(pipeline: Pipeline) -> dict[Place, Scope]:
    """Return the scopes that the steps of a case read before they compute anything: of bitstreams and of answers."""
    scopes = {(PREDICTION, one.answering): one.answers for one in (pipeline, pipeline.reference) if one is not None}
    return scopes | ({(BITSTREAM, pipeline.encoding): pipeline.bitstreams} if pipeline.codec else {})


_MADE_BY = ("the codec or what reads signals is", "the model is", "the metrics are")


def keys_of_work(pipeline: Pipeline) -> tuple[str, str, str]:
    """Return what must be the same on all machines for what they make of a sample to be."""
    return pipeline.encoding, pipeline.answering, pipeline.scoring


def _import(name: str, file: str) -> None:
    """Import what registers a codec or a metric, as it was imported where the task comes from: by its name, or from its file."""
    if name in sys.modules:
        return
    if "." in name or not Path(file).is_file():
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise AssetError(f"{name}: {error}; it must be installed on all nodes") from error
        return
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


class _Asked(Exception):
    """An entry is needed of which nothing came along."""

    def __init__(self, layer: str, key: str) -> None:
        super().__init__(layer, key)
        self.layer, self.key = layer, key


class _Enclosed(Store):
    """A store that holds what came along with a task, and gathers what goes back."""

    def __init__(self) -> None:
        super().__init__("the memory of a task")
        self.enclose({}, {})

    def enclose(self, given: Mapping[Place, Sequence[bytes]], entries: Mapping[tuple[str, str], bytes | None]) -> None:
        """Begin anew with what came along."""
        self._given, self._entries = given, entries
        self.written: list[tuple[Place, bytes]] = []
        self.put_down: dict[tuple[str, str], bytes] = {}

    def tables(self, place: Place, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield what came along of a scope."""
        for data in self._given.get(place, ()):
            yield packs.from_bytes(data, columns)

    def scope(self, layer: str, key: str, about: Mapping[str, str] | None = None) -> Scope:
        """Return a scope, of what came along."""
        return _EnclosedScope(self, layer, key)

    def get(self, layer: str, key: str) -> bytes | None:
        """Return an entry, or None where the store that the task comes from has none."""
        if (layer, key) in self.put_down:
            return self.put_down[layer, key]
        if (layer, key) not in self._entries:
            raise _Asked(layer, key)
        return self._entries[layer, key]

    def put(self, layer: str, key: str, payload: bytes) -> None:
        """Send an entry back."""
        self.put_down[layer, key] = payload

    def lock(self, layer: str, key: str) -> AbstractContextManager[None]:
        """Let nobody else make an entry: there is nobody."""
        return nullcontext()

    def parts(self) -> Iterator[Part]:
        """Yield nothing: nothing lasts."""
        return iter(())

    def remove(self, part: Part) -> bool:
        """Remove nothing."""
        return False


class _EnclosedScope(Scope):
    def __init__(self, store: _Enclosed, layer: str, key: str) -> None:
        self._store, self.layer, self._place = store, layer, (layer, key)

    def found(self, sources: Iterable[Source]) -> set[Source]:
        sources = list(sources)
        there = {key for table in self._store.tables(self._place, []) for key in keys_of(table)}
        return {source for source, key in zip(sources, packs.keys_for(sources), strict=True) if key in there}

    def read(self, sources: Iterable[str] | Iterable[bytes], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        wanted = set(packs.keys_for(sources))
        for table in self._store.tables(self._place, columns):
            places = [place for place, key in enumerate(keys_of(table)) if key in wanted]
            if places:
                yield table.take(places)

    def write(self, table: pa.Table) -> None:
        self._store.written.append((self._place, packs.to_bytes(table)))
