"""The engine of one machine: its workers share the batches of a case, and nobody waits while there is work."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpq_fixtures.clock import STEPS
from mpq_fixtures.endings import stopping_signals
from mpq_fixtures.engines.claims import Claims
from mpq_fixtures.errors import AssetError
from mpq_fixtures.pipeline import Outcome, Pipeline
from mpq_fixtures.signals import Sample
from mpq_fixtures.store import StoreError
from mpq_fixtures.under_way import UnderWay

if TYPE_CHECKING:
    from mpq_fixtures.rows import Failure

_STRETCH = 2.0
"""Seconds of work that are claimed at once: much more than a claim costs, and little to wait for at the end."""

_MOST_SAMPLES = 1024
_MOST_BYTES = 2**24
"""What is kept in memory before it is written."""

_PAUSE = 0.02
_REST = 0.5
_WORTH = 5.0
"""Seconds that a case must take one worker still for another to load its model."""


class LocalEngine:
    """Works on the batches that are free of a case, as many at once as take some seconds, fewer towards the end.

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
        self._pace: dict[str, float] = {}  # seconds a sample, by evaluation

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
        return self.claims.failures(pipeline.work)

    def seconds(self, pipeline: Pipeline) -> dict[str, float]:
        """Return the seconds that each step of a case has taken in this run, over all workers."""
        spent = self.claims.seconds(pipeline.work)
        return {step: spent.get(step, 0.0) for step in STEPS}

    def help(self, pipeline_of: Callable[[str], Pipeline | None]) -> None:
        """Work on the cases that others are at, until nobody has tests any more.

        ``pipeline_of`` returns None for a case that cannot be had here.
        """
        self.claims.rest()
        looked: dict[str, float] = {}
        while True:
            for case, seconds in self.claims.open_cases().items():
                if (seconds is not None and seconds < _WORTH) or time.monotonic() - looked.get(case, -_REST) < _REST:
                    continue
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
        size, work, evaluation = pipeline.batch_size, pipeline.work, pipeline.case.evaluation.name
        pending = sorted({position // size for position in lacking})
        seen, done_here = len(pending), 0  # how many there were when it was last seen what others did, and how many were done here since
        while pending:
            if self._workers > 1 and done_here and 2 * self._workers * done_here >= seen:
                pending = self._left(pipeline, pending, size, progress)
                seen, done_here = len(pending), 0
                continue
            pace = self._pace.get(evaluation)
            if pace is not None:
                self.claims.expect(pipeline.case.id, pace * size * len(pending))
            shared, steady = math.ceil(len(pending) / (2 * self._workers)), int(_STRETCH / (pace * size)) if pace else 1
            taken = self.claims.take(work, pending, max(1, min(shared, _MOST_SAMPLES // size, steady)))
            if not taken:  # others have them all
                if not wait:
                    return
                time.sleep(_PAUSE)
                pending = self._left(pipeline, pending, size, progress)
                continue
            start = time.perf_counter()
            if done := self._measure(pipeline, taken, size, progress):
                self._pace[evaluation] = (time.perf_counter() - start) / (done * size)
            gone = set(taken)
            pending = [number for number in pending if number not in gone]
            done_here += len(taken)

    def _measure(self, pipeline: Pipeline, taken: Sequence[int], size: int, progress: _Progress) -> int:
        """Measure claimed batches and write what became of them; return how many of them others had not done before."""
        before, work, outcome = pipeline.clock.seconds.copy(), pipeline.work, Outcome()
        failures: list[Failure] = []
        samples = pipeline.dataset.samples
        try:
            self._try_suspects(pipeline, pipeline.positions(taken, size))
            lacking = pipeline.lacking(self.claims.failures(work), pipeline.positions(taken, size))
            numbers, wanted = sorted({position // size for position in lacking}), set(pipeline.dataset.sources(lacking))
            died = self.claims.deaths.failed(work)
            batches: Iterator[Sequence[Sample]] = (samples[number * size : (number + 1) * size] for number in numbers)
            if died:
                batches = ([sample for sample in batch if sample.id not in died] for batch in batches)
            for measured in pipeline.measure(batches, wanted):
                outcome.add(measured)
                progress.done(len(measured.rows) + len(measured.failures))
                if outcome.size > _MOST_BYTES:
                    with uninterrupted():
                        pipeline.keep(outcome)
                    failures += outcome.failures
                    outcome = Outcome()
        finally:
            try:
                with uninterrupted():
                    pipeline.keep(outcome)
            finally:
                spent = {step: seconds - before[step] for step, seconds in pipeline.clock.seconds.items()}
                self.claims.give_back(work, taken, failures + outcome.failures, spent, self._account())
        if numbers:
            self.claims.deaths.progress(_series_of(pipeline))
        return len(numbers)

    def _try_suspects(self, pipeline: Pipeline, positions: Iterable[int]) -> None:
        """Send samples at which processes died through the steps alone; one at which this one dies too has failed.

        Nothing of it is kept, since a batch is predicted whole.
        """
        suspects = {name for name, one in self.claims.deaths.suspects(pipeline.work).items() if one.trial}
        for position in positions if suspects else ():
            if (sample := pipeline.dataset.samples[position]).id in suspects:
                pipeline.resources.under_way.about(trial=True)
                for _ in pipeline.measure([[sample]], {sample.source}):
                    pass
                self.claims.deaths.acquit(pipeline.work, sample.id)
                self.claims.deaths.progress(_series_of(pipeline))
        pipeline.resources.under_way.about(trial=False)

    def _left(self, pipeline: Pipeline, numbers: Sequence[int], size: int, progress: _Progress) -> list[int]:
        """Return the batches of which something is lacking still, and tell the progress."""
        lacking = pipeline.lacking(self.claims.failures(pipeline.work), pipeline.positions(numbers, size))
        left = sorted({position // size for position in lacking})
        progress.left(len(left) * size)
        return left


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
