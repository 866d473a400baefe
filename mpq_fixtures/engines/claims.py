"""Who works on what: batches of cases that the workers of a session claim, so that any number of them share one case.

A claim stands as long as its owner lives: each holds a lock on a file of its own, which the system lets go when the process ends, however
it ends, and what a dead owner had claimed is free again at once; what it was at when it died (`mpq_fixtures.processes.under_way`) is looked
into then. Sessions that use one store at the same time share their work, too; failures of samples, the time that was spent and the dead
belong to a session and end with it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mpq_fixtures.engines.deaths import Deaths
from mpq_fixtures.engines.work_data import WorkData, lock_of
from mpq_fixtures.processes import under_way
from mpq_fixtures.processes.under_way import Notes, UnderWay
from mpq_fixtures.rows import Failure

_PATIENCE_FOR_END = 10.0
"""Seconds to wait for who oversees a session to say how one of its processes ended."""
_LOOK = 0.5
"""Seconds between two looks at whether the owners of claims are alive."""


class Claims:
    """The claims of this process in a folder that the workers of a machine share; without a folder it works alone.

    ``session`` is the same in all workers of a run. ``work`` is `mpq_fixtures.pipeline.Pipeline.work`. Where somebody oversees the session
    (`mpq_fixtures.engines.overseer`), this process notes ``at`` what it is.
    """

    def __init__(self, folder: Path | None = None, session: str = "", workers: int = 1, at: UnderWay | None = None) -> None:
        self.session, self.workers = session or uuid.uuid4().hex, workers
        self._id, self._looked = uuid.uuid4().hex, 0.0
        self._dead: dict[str, float] = {}  # since when
        self._failures: dict[str, Failure] = {}
        self._failures_of, self._failures_read = "", 0
        self._lock: FileLock | None = None
        self._folder, self._at = folder, at
        self._data = WorkData(folder)
        self.deaths = Deaths(self._data, self.session)
        with self._data.writing():
            if folder is not None:
                self._sweep(folder)
                self._lock = FileLock(self._lock_of(self._id))
                self._lock.acquire()
            self._data.write("insert into workers (id, session) values (?, ?)", self._id, self.session)
            if at is not None:  # so that the session lasts as long as its overseer
                self._data.write("insert or ignore into workers values (?, ?, 1)", self.session, self.session)
            self._bury()
        if at is not None and folder is not None:
            with self._data.explained():
                at.open(self._notes_of(self._id), self.session)

    def take(self, work: str, batches: Iterable[int], most: int) -> list[int]:
        """Claim at most ``most`` of the batches that nobody has, in their order, and return them."""
        self._look()
        with self._data.writing():
            held = {batch for (batch,) in self._data.rows("select batch from claims where work = ?", work)}
            taken = list(islice((batch for batch in batches if batch not in held), most))
            self._data.write_all("insert into claims values (?, ?, ?)", [(work, batch, self._id) for batch in taken])
        return taken

    def give_back(
        self,
        work: str,
        batches: Sequence[int],
        failures: Sequence[Failure] = (),
        seconds: Mapping[str, float] | None = None,
        account: Mapping[str, Any] | None = None,
    ) -> None:
        """Give up claims, done or not, with the samples that failed meanwhile and the seconds that each step took.

        ``account`` is what this process would say of itself at its end, if it comes to that.
        """
        with self._data.writing():
            self._data.write_all("delete from claims where work = ? and batch = ?", [(work, batch) for batch in batches])
            self._fail(self.session, work, failures)
            if seconds:
                self._data.write("insert into spent values (?, ?, ?)", self.session, work, json.dumps(dict(seconds)))
            if account:
                self._data.write("insert or replace into accounts values (?, ?, ?)", self.session, self._id, json.dumps(account))

    def _fail(self, session: str, work: str, failures: Iterable[Failure]) -> None:
        rows = [(session, work, one.sample, one.step, one.reason) for one in failures]
        self._data.write_all("insert or replace into failed values (null, ?, ?, ?, ?, ?)", rows)

    def failures(self, work: str) -> Mapping[str, Failure]:
        """Return the samples of a case that failed in this session, by their ids; of the case last asked for only what is new is read."""
        if work != self._failures_of:
            self._failures_of, self._failures_read, self._failures = work, 0, {}
        # Without the signs SQLite would go through all failures of the case.
        query = "select number, sample, step, reason from failed where number > ? and +session = ? and +work = ?"
        for number, sample, step, reason in self._data.rows(query, self._failures_read, self.session, work):
            self._failures[sample] = Failure(sample, step, reason)
            self._failures_read = max(self._failures_read, number)
        return self._failures

    def seconds(self, work: str) -> dict[str, float]:
        """Return the seconds that each step of a case took in this session, over all workers."""
        total: Counter[str] = Counter()
        for (spent,) in self._data.rows("select seconds from spent where session = ? and work = ?", self.session, work):
            total.update(json.loads(spent))
        return dict(total)

    @contextmanager
    def open(self, *cases: str) -> Iterator[None]:
        """Say that others may help with cases meanwhile."""
        rows = [(self.session, self._id, case) for case in cases]
        with self._data.writing():
            self._data.write_all("insert or ignore into open values (?, ?, ?, null)", rows)
        try:
            yield
        finally:
            with self._data.writing():
                self._data.write_all("delete from open where session = ? and owner = ? and case_id = ?", rows)

    def expect(self, case: str, seconds: float) -> None:
        """Say how long a case that is open will take still, so that nobody loads a model for the last second of it."""
        with self._data.writing():
            self._data.write("update open set seconds = ? where session = ? and case_id = ?", seconds, self.session, case)

    def open_cases(self) -> dict[str, float | None]:
        """Return the cases that others of this session are at, and how long each will take still, None where nobody knows."""
        query = "select case_id, max(seconds) from open where session = ? and owner != ? group by case_id"
        return dict(self._data.rows(query, self.session, self._id))

    def rest(self) -> None:
        """Say that this worker has no tests left."""
        with self._data.writing():
            self._data.write("update workers set resting = 1 where id = ?", self._id)

    def others_at_work(self) -> bool:
        """Tell whether others of this session still have tests; who died is among them for a moment."""
        self._look()
        query = "select count(*) from workers where session = ? and id != ? and not resting"
        return bool(self._data.rows(query, self.session, self._id)[0][0])

    def doomed(self, test: str) -> str:
        """Say of a test at which processes died why it is not tried again; nothing of others."""
        with self._data.writing():
            self._bury()
        return self.deaths.doomed(test)

    def settle(self) -> None:
        """Say that this process gives its account itself."""
        with self._data.writing():
            self._data.write("delete from accounts where session = ? and owner = ?", self.session, self._id)

    def close(self) -> None:
        """Leave, and let go what is claimed still."""
        with closing(self._data), self._data.writing():
            self._remove(self._id)
        if self._at is not None:
            self._at.close()
        if self._lock is not None:
            self._lock.release()
            self._lock_of(self._id).unlink(missing_ok=True)

    def _look(self) -> None:
        """Look every now and then whether the owners of claims live; nobody has to wait for that where all do."""
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            workers = self._data.rows("select id from workers where id != ?", self._id)
            if not all(self._lives(worker) for (worker,) in workers):
                with self._data.writing():
                    self._bury()

    def _bury(self) -> None:
        """Free what the dead have claimed, note what they died at, and forget sessions without workers."""
        self._looked = time.monotonic()
        for (worker,) in self._data.rows("select id from workers where id != ?", self._id):
            if self._lives(worker):
                continue
            if notes := under_way.read(self._notes_of(worker)):
                if not self._is_known(notes, worker):
                    continue
                self._fail(notes.session, notes.work, self.deaths.note(notes))
                under_way.remove(self._notes_of(worker))
            self._remove(worker)

    def _sweep(self, folder: Path) -> None:
        """Remove files of workers that died before they were known; nobody else makes any while this one may write."""
        known = {worker for (worker,) in self._data.rows("select id from workers")}
        for worker in {path.stem for path in (folder / "workers").iterdir()} - known:
            if not self._lives(worker):
                under_way.remove(self._notes_of(worker))

    def _is_known(self, notes: Notes, worker: str) -> bool:
        """Tell whether how a process ended is as known as it will be: who oversees it says so at once, if that lives."""
        since = self._dead.setdefault(worker, self._looked)
        return bool(notes.ended) or self._looked - since > _PATIENCE_FOR_END or not self._lives(notes.session)

    def _remove(self, worker: str) -> None:
        self._data.write("delete from claims where owner = ?", worker)
        self._data.write("delete from open where owner = ?", worker)
        self._data.write("delete from workers where id = ?", worker)
        self._data.forget_sessions()

    def _lives(self, worker: str) -> bool:
        """Tell whether a worker still holds its lock."""
        file = self._lock_of(worker)
        if not file.exists():
            return False
        try:
            with FileLock(file, timeout=0):
                pass
        except Timeout:
            return True
        file.unlink(missing_ok=True)
        return False

    def _lock_of(self, worker: str) -> Path:
        assert self._folder is not None
        return lock_of(self._folder, worker)

    def _notes_of(self, worker: str) -> Path:
        return self._lock_of(worker).with_suffix("")
