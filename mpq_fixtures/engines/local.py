"""The engine of one machine: its workers share the batches of a case, and nobody waits while there is work."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpq_fixtures.engines.claims import Claims
from mpq_fixtures.engines.ranges import MOST_SAMPLES, STRETCH, batches_of_range
from mpq_fixtures.errors import AssetError
from mpq_fixtures.pipeline import Outcome, Pipeline
from mpq_fixtures.processes.clock import STEPS
from mpq_fixtures.processes.endings import stopping_signals
from mpq_fixtures.processes.under_way import UnderWay
from mpq_fixtures.signals import Sample
from mpq_fixtures.store import StoreError

if TYPE_CHECKING:
    from mpq_fixtures.rows import Failure

_MOST_BYTES = 2**24
"""What is kept in memory before it is written."""

_PAUSE = 0.02
_REST = 0.5
_WORTH = 5.0
"""Seconds that a case must take one worker still for another to load its model."""


class LocalEngine:
    """Works on the batches that are free of a case, and claims as many at once as take some seconds, fewer towards the end.

    Without a folder for claims it works alone. ``at`` takes notes for who oversees the session, ``account`` says what this process did.
    """

    def __init__(
        self,
        folder: Path | None = None,
        session: str = "",
        workers: int = 1,
        at: UnderWay | None = None,
        account: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        self._folder, self._session, self._workers, self._at, self._account = folder, session, workers, at, account
        self._pace: dict[str, float] = {}  # seconds a sample, by case, and of the last one of each evaluation

    @property
    def session(self) -> str:
        """What the workers of a run have in common."""
        return self._session

    @property
    def overseen(self) -> bool:
        """Tell whether somebody oversees this process."""
        return self._at is not None

    @cached_property
    def claims(self) -> Claims:
        """Who works on what; made when it is first asked for, since a controller never does."""
        return Claims(self._folder, self._session, self._workers, self._at)

    def join(self) -> None:
        """Let the other workers of the session, and who oversees it, know of this one: before any may find that it has no test."""
        with suppress(StoreError):  # which every case will say
            _ = self.claims

    @contextmanager
    def at(self, *pipelines: Pipeline) -> Iterator[None]:
        """Let whoever has nothing else to do help with cases meanwhile."""
        with self.claims.open(*dict.fromkeys(pipeline.case.id for pipeline in pipelines)):
            yield

    def advance(self, pipeline: Pipeline) -> None:
        """Work on what is free of a case, and wait for nobody."""
        self._work(pipeline, wait=False)

    def complete(self, pipeline: Pipeline) -> dict[str, Failure]:
        """Return when every sample of a case has its row in the store or failed; return the failures by sample."""
        self._work(pipeline, wait=True)
        return dict(self.claims.failures(pipeline.work))

    def seconds(self, pipeline: Pipeline) -> dict[str, float]:
        """Return the seconds that each step of a case has taken in this run, over all workers."""
        spent = self.claims.seconds(pipeline.work)
        return {step: spent.get(step, 0.0) for step in STEPS}

    def help(self, pipeline_of: Callable[[str], Pipeline | None]) -> None:
        """Work on the cases that others are at, until nobody has tests any more.

        ``pipeline_of`` returns None for a case that cannot be had here. What goes wrong here is no fault of the run: who has the test
        measures that case, and says what goes wrong there.
        """
        with suppress(StoreError):  # which every case will say
            self.claims.rest()
            looked: dict[str, float] = {}
            while True:
                for case, seconds in self.claims.open_cases().items():
                    if (seconds is not None and seconds < _WORTH) or time.monotonic() - looked.get(case, -_REST) < _REST:
                        continue
                    looked[case] = math.inf  # never again, unless it goes well
                    with suppress(Exception):
                        if (pipeline := pipeline_of(case)) is not None:
                            self.advance(pipeline)
                        looked[case] = time.monotonic()
                if not self.claims.others_at_work():
                    return
                time.sleep(_PAUSE)

    def doomed(self, test: str) -> str:
        """Say of a test at which processes died, outside of its samples, why it is not tried again; nothing of others."""
        return self.claims.doomed(test)

    def settle(self) -> None:
        """Say that this process gives its account itself."""
        if "claims" in self.__dict__:
            with suppress(StoreError):  # the account is given all the same
                self.claims.settle()

    def close(self) -> None:
        """Let go what is claimed still."""
        if "claims" in self.__dict__:
            self.claims.close()

    def _work(self, pipeline: Pipeline, wait: bool) -> None:
        if reason := self.claims.deaths.hopeless(series := _series_of(pipeline), pipeline.work):
            raise AssetError(f"{pipeline.case.id}: {reason}")
        pipeline.resources.under_way.about(work=pipeline.work, series=series)
        pipeline.shunned = {*self.claims.deaths.suspects(pipeline.work), *self.claims.deaths.failed(pipeline.work)}
        lacking = pipeline.lacking(self.claims.failures(pipeline.work))
        progress = _Progress(pipeline, len(lacking))
        if not lacking:
            return
        turn = _Turn(pipeline, progress)
        turn.see(lacking)
        while turn.pending:
            if self._measure(turn):
                continue
            if not wait:  # others have them all
                return
            time.sleep(_PAUSE)
            self._look(turn)

    def _measure(self, turn: _Turn) -> bool:
        """Measure the batches that are free, and write every few seconds what became of them; return whether there were any."""
        pipeline, before = turn.pipeline, turn.taken
        work, evaluation = pipeline.work, pipeline.case.evaluation.name
        turn.spent, turn.since = pipeline.clock.seconds.copy(), time.perf_counter()
        try:
            batches = self._claimed(turn)
            if (first := next(batches, None)) is not None:  # no threads for nothing
                for measured in pipeline.measure(chain([first], batches), turn):
                    turn.add(measured)
                    seconds, samples = time.perf_counter() - turn.since, len(turn.done) * turn.size
                    if work not in self._pace or seconds > STRETCH or samples >= MOST_SAMPLES or turn.outcome.size > _MOST_BYTES:
                        self._pace[work] = self._pace[evaluation] = seconds / samples
                        turn.since += seconds
                        self._keep(turn, turn.done)
        finally:
            self._keep(turn, turn.claimed)
        return turn.taken > before

    def _claimed(self, turn: _Turn) -> Iterator[Sequence[Sample]]:
        """Claim what is free, a range at a time, and yield its batches, of which one is got ready while the model is at the one before.

        Where few are left none is claimed before that is done, since another worker may have nothing else.
        """
        pipeline, size, work = turn.pipeline, turn.size, turn.pipeline.work
        samples = pipeline.dataset.samples
        while turn.pending and not (turn.begun and self._workers > 1 and len(turn.pending) < 2 * self._workers):
            if self._workers > 1 and 2 * self._workers * (turn.taken - turn.taken_when_seen) >= turn.seen:
                self._look(turn)
                continue
            pace, left = self._pace.get(work), len(turn.pending)
            if (about := pace or self._pace.get(pipeline.case.evaluation.name)) is not None:
                self.claims.expect(pipeline.case.id, about * size * left)
            # By their first positions: a run of another scale may divide the same case otherwise.
            firsts = (number * size for number in turn.pending)
            most = batches_of_range(pace, size, math.ceil(left / (2 * self._workers)))
            taken = [position // size for position in self.claims.take(work, firsts, most)]
            if not taken:
                return
            turn.claimed += taken
            positions = pipeline.positions(taken, size)
            if suspects := self._suspects(pipeline, positions):
                if turn.begun:  # which would be under way, too
                    self._give_back(turn, taken)
                    return
                self._try(pipeline, suspects)
            turn.take(taken)
            lacking = pipeline.lacking(self.claims.failures(work), positions)
            wanted, died = set(pipeline.dataset.sources(lacking)), self.claims.deaths.failed(work)
            for number in sorted({position // size for position in lacking}):
                turn.begun.append((number, wanted))
                batch = samples[number * size : (number + 1) * size]
                yield [sample for sample in batch if sample.id not in died] if died else batch

    def _keep(self, turn: _Turn, batches: Sequence[int]) -> None:
        """Write what was measured, and give back what was claimed of it."""
        outcome, turn.outcome = turn.outcome, Outcome()
        measured, turn.done = len(turn.done), []
        try:
            with uninterrupted():
                turn.pipeline.keep(outcome)
        finally:
            self._give_back(turn, batches, outcome.failures)
        if measured:
            self.claims.deaths.progress(_series_of(turn.pipeline))

    def _give_back(self, turn: _Turn, batches: Sequence[int], failures: Sequence[Failure] = ()) -> None:
        if not batches:
            return
        now = turn.pipeline.clock.seconds.copy()
        spent = {step: seconds - turn.spent[step] for step, seconds in now.items()}
        firsts = [number * turn.size for number in batches]
        self.claims.give_back(turn.pipeline.work, firsts, failures, spent, self._account())
        turn.spent, gone = now, set(batches)
        turn.claimed = [number for number in turn.claimed if number not in gone]

    def _suspects(self, pipeline: Pipeline, positions: Iterable[int]) -> list[Sample]:
        """Return which of some samples are to be tried alone, since processes died at them."""
        suspects = {name for name, one in self.claims.deaths.suspects(pipeline.work).items() if one.trial}
        samples = pipeline.dataset.samples
        return [sample for position in positions if (sample := samples[position]).id in suspects] if suspects else []

    def _try(self, pipeline: Pipeline, suspects: Iterable[Sample]) -> None:
        """Send samples at which processes died through the steps alone; one at which this one dies too has failed.

        Nothing of it is kept, since a batch is predicted whole.
        """
        for sample in suspects:
            pipeline.resources.under_way.about(trial=True)
            for _ in pipeline.measure([[sample]], {sample.source}):
                pass
            self.claims.deaths.acquit(pipeline.work, sample.id)
            self.claims.deaths.progress(_series_of(pipeline))
        pipeline.resources.under_way.about(trial=False)

    def _look(self, turn: _Turn) -> None:
        """See which batches lack something still, and tell the progress."""
        pipeline = turn.pipeline
        turn.see(pipeline.lacking(self.claims.failures(pipeline.work), pipeline.positions(turn.pending, turn.size)))
        turn.progress.left((len(turn.pending) + len(turn.begun)) * turn.size)


class _Turn:
    """What a worker is at of a case; it holds the sources of the samples to score in the batch that the model is at.

    ``pending`` are the batches that may be free, ``claimed`` those of this worker, ``begun`` those of them that are got ready or with the
    model, ``done`` those whose ``outcome`` is not written yet. ``taken`` says how many it ever claimed, ``since`` when it last wrote, and
    ``spent`` the seconds that each step had taken by then.
    """

    def __init__(self, pipeline: Pipeline, progress: _Progress) -> None:
        self.pipeline, self.size, self.progress = pipeline, pipeline.batch_size, progress
        self.pending: list[int] = []
        self.claimed: list[int] = []
        self.begun: deque[tuple[int, Container[str]]] = deque()
        self.done: list[int] = []
        self.outcome = Outcome()
        self.taken = self.taken_when_seen = self.seen = 0
        self.since, self.spent = time.perf_counter(), pipeline.clock.seconds.copy()

    def __contains__(self, source: object) -> bool:
        return source in self.begun[0][1]

    def see(self, lacking: Iterable[int]) -> None:
        """Note which samples lack something still, and are not claimed here."""
        self.pending = sorted({position // self.size for position in lacking})
        self.seen, self.taken_when_seen = len(self.pending), self.taken

    def take(self, batches: Sequence[int]) -> None:
        """Note that batches are claimed, which stand near the beginning of those that may be free."""
        gone, end = set(batches), self.pending.index(batches[-1]) + 1
        self.pending[:end] = [number for number in self.pending[:end] if number not in gone]
        self.taken += len(batches)

    def add(self, outcome: Outcome) -> None:
        """Note what became of the batch that was begun first."""
        self.done.append(self.begun.popleft()[0])
        self.outcome.add(outcome)
        self.progress.done(len(outcome.rows) + len(outcome.failures))


def _series_of(pipeline: Pipeline) -> str:
    """Return what cases have in common at which one library may crash every time."""
    return f"{pipeline.case.evaluation.name}-{pipeline.case.codec}"


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let an interrupt wait until what was measured is written; elsewhere than in the main thread there is none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, frame: came.append(number)) for one in stopping_signals()}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler or signal.SIG_DFL)
        for number in came:
            signal.raise_signal(number)


class _Progress:
    """Tells how many samples of a case are done."""

    def __init__(self, pipeline: Pipeline, lacking: int) -> None:
        self._pipeline, self._total = pipeline, len(pipeline.dataset.samples)
        self.left(lacking)

    def left(self, lacking: int) -> None:
        """Note how many are lacking."""
        self._done = max(0, self._total - lacking)
        self.done(0)

    def done(self, count: int) -> None:
        """Note that so many more are done."""
        self._done = min(self._total, self._done + count)
        self._pipeline.resources.progress(self._pipeline.case.id, self._done, self._total)
