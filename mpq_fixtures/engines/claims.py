"""Who works on what: batches of cases that the workers of a session claim, so that any number of them share one case.

A claim stands as long as its owner lives: each holds a lock on a file of its own, which the system lets go when the process ends, however
it ends, and what a dead owner had claimed is free again at once; what it was at when it died (`mpq_fixtures.under_way`) is looked into
then. Sessions that use one store at the same time share their work, too; failures of samples, the time that was spent and the dead belong
to a session and end with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from mpq_fixtures import under_way
from mpq_fixtures.engines.deaths import IN_A_ROW, OTHERS_IN_A_ROW, TESTS_CRASHED, TESTS_KILLED, Suspect, consequences
from mpq_fixtures.rows import Failure
from mpq_fixtures.store import StoreError
from mpq_fixtures.under_way import Notes, UnderWay

_TABLES = """
create table if not exists workers (id text primary key, session text, resting integer default 0);
create table if not exists claims (work text, batch integer, owner text, primary key (work, batch)) without rowid;
create table if not exists failures (session text, work text, sample text, step text, reason text,
    primary key (session, work, sample)) without rowid;
create table if not exists spent (session text, work text, seconds text);
create table if not exists open (session text, owner text, case_id text, seconds real, primary key (session, owner, case_id)) without rowid;
create table if not exists suspects (session text, work text, sample text, kills integer, trial integer, tried integer,
    primary key (session, work, sample)) without rowid;
create table if not exists died (session text, work text, sample text, primary key (session, work, sample)) without rowid;
create table if not exists crashes (session text, series text, work text, count integer, words text,
    primary key (session, series, work)) without rowid;
create table if not exists tests (session text, test text, kills integer, words text, primary key (session, test)) without rowid;
create table if not exists deaths (session text, words text);
create table if not exists accounts (session text, owner text, account text, primary key (session, owner)) without rowid;
"""
_OF_SESSIONS = ("failures", "spent", "open", "suspects", "died", "crashes", "tests", "deaths", "accounts")
_PATIENCE = 60.0
"""Seconds to wait for another process that writes: each does for milliseconds."""
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
        self._lock: FileLock | None = None
        self._folder, self._at = folder, at
        with _explained(folder):
            self._data = _connect(":memory:") if folder is None else _connect_anew(folder)
            with self._writing():
                if folder is not None:
                    self._sweep(folder)
                    self._lock = FileLock(self._lock_of(self._id))
                    self._lock.acquire()
                self._data.execute("insert into workers (id, session) values (?, ?)", (self._id, self.session))
                if at is not None:  # so that the session lasts as long as its overseer
                    self._data.execute("insert or ignore into workers values (?, ?, 1)", (self.session, self.session))
                self._bury()
            if at is not None and folder is not None:
                at.open(self._notes_of(self._id), self.session)

    def take(self, work: str, batches: Sequence[int], most: int) -> list[int]:
        """Claim at most ``most`` of the batches that nobody has, in their order, and return them."""
        with self._writing():
            if time.monotonic() - self._looked > _LOOK:
                self._bury()
            held = {batch for (batch,) in self._data.execute("select batch from claims where work = ?", (work,))}
            taken = [batch for batch in batches if batch not in held][:most]
            self._data.executemany("insert into claims values (?, ?, ?)", [(work, batch, self._id) for batch in taken])
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
        with self._writing():
            self._data.executemany("delete from claims where work = ? and batch = ?", [(work, batch) for batch in batches])
            self._fail(self.session, work, failures)
            if seconds:
                self._data.execute("insert into spent values (?, ?, ?)", (self.session, work, json.dumps(dict(seconds))))
            if account:
                self._data.execute("insert or replace into accounts values (?, ?, ?)", (self.session, self._id, json.dumps(account)))

    def _fail(self, session: str, work: str, failures: Iterable[Failure]) -> None:
        rows = [(session, work, one.sample, one.step, one.reason) for one in failures]
        self._data.executemany("insert or replace into failures values (?, ?, ?, ?, ?)", rows)

    def suspects(self, work: str) -> dict[str, Suspect]:
        """Return the samples of a case at which processes died in this session and which have not failed, by their ids."""
        return self._suspects(self.session, work)

    def _suspects(self, session: str, work: str) -> dict[str, Suspect]:
        query = "select sample, kills, trial, tried from suspects where session = ? and work = ?"
        found = self._data.execute(query, (session, work))
        return {sample: Suspect(sample, kills, bool(trial), bool(tried)) for sample, kills, trial, tried in found}

    def acquit(self, work: str, sample: str) -> None:
        """Say that no process died at a sample that was tried alone."""
        with self._writing():
            query = "update suspects set kills = 0, trial = 0, tried = 1 where session = ? and work = ? and sample = ?"
            self._data.execute(query, (self.session, work, sample))

    def died(self, work: str) -> set[str]:
        """Return the ids of the samples of a case that failed since processes died at them: they are left out of their batches."""
        return {one for (one,) in self._data.execute("select sample from died where session = ? and work = ?", (self.session, work))}

    def hopeless(self, series: str, work: str) -> str:
        """Say why a case of a series is given up; nothing where it is not. Where others of the series were, it has fewer tries."""
        query = "select work, count, words from crashes where session = ? and series = ?"
        found = {case: (count, words) for case, count, words in self._data.execute(query, (self.session, series))}
        count, words = found.get(work, (0, ""))
        if count < (IN_A_ROW if sum(count for count, _ in found.values()) - count < IN_A_ROW else OTHERS_IN_A_ROW):
            return ""
        return f"{count} processes in a row died at it with nothing measured between, so it is given up; the last: {words}"

    def progress(self, series: str) -> None:
        """Say that a sample of a series of cases was measured."""
        if self._data.execute("select 1 from crashes where session = ? and series = ?", (self.session, series)).fetchone():
            with self._writing():
                self._data.execute("delete from crashes where session = ? and series = ?", (self.session, series))

    def doomed(self, test: str) -> str:
        """Say of a test at which processes died why it is not tried again; nothing of others."""
        with self._writing():
            self._bury()
        query = "select words from tests where session = ? and test = ? and kills >= ?"
        found = self._data.execute(query, (self.session, test, TESTS_KILLED)).fetchone()
        return str(found[0]) if found else ""

    def failures(self, work: str) -> dict[str, Failure]:
        """Return the samples of a case that failed in this session, by their ids."""
        found = self._data.execute("select sample, step, reason from failures where session = ? and work = ?", (self.session, work))
        return {sample: Failure(sample, step, reason) for sample, step, reason in found}

    def seconds(self, work: str) -> dict[str, float]:
        """Return the seconds that each step of a case took in this session, over all workers."""
        total: Counter[str] = Counter()
        for (spent,) in self._data.execute("select seconds from spent where session = ? and work = ?", (self.session, work)):
            total.update(json.loads(spent))
        return dict(total)

    @contextmanager
    def open(self, *cases: str) -> Iterator[None]:
        """Say that others may help with cases meanwhile."""
        rows = [(self.session, self._id, case) for case in cases]
        with self._writing():
            self._data.executemany("insert or ignore into open values (?, ?, ?, null)", rows)
        try:
            yield
        finally:
            with self._writing():
                self._data.executemany("delete from open where session = ? and owner = ? and case_id = ?", rows)

    def expect(self, case: str, seconds: float) -> None:
        """Say how long a case that is open will take still, so that nobody loads a model for the last second of it."""
        with self._writing():
            self._data.execute("update open set seconds = ? where session = ? and case_id = ?", (seconds, self.session, case))

    def open_cases(self) -> dict[str, float | None]:
        """Return the cases that others of this session are at, and how long each will take still, None where nobody knows."""
        query = "select case_id, max(seconds) from open where session = ? and owner != ? group by case_id"
        return dict(self._data.execute(query, (self.session, self._id)).fetchall())

    def rest(self) -> None:
        """Say that this worker has no tests left."""
        with self._writing():
            self._data.execute("update workers set resting = 1 where id = ?", (self._id,))

    def others_at_work(self) -> bool:
        """Tell whether others of this session still have tests."""
        with self._writing():
            self._bury()
        query = "select count(*) from workers where session = ? and id != ? and not resting"
        return bool(self._data.execute(query, (self.session, self._id)).fetchone()[0])

    def settle(self) -> None:
        """Say that this process gives its account itself."""
        with self._writing():
            self._data.execute("delete from accounts where session = ? and owner = ?", (self.session, self._id))

    def close(self) -> None:
        """Leave, and let go what is claimed still."""
        with closing(self._data), self._writing():
            self._remove(self._id)
        if self._at is not None:
            self._at.close()
        if self._lock is not None:
            self._lock.release()
            self._lock_of(self._id).unlink(missing_ok=True)

    def _bury(self) -> None:
        """Free what the dead have claimed, note what they died at, and forget sessions without workers."""
        self._looked = time.monotonic()
        for (worker,) in self._data.execute("select id from workers where id != ?", (self._id,)).fetchall():
            if self._lives(worker):
                continue
            if notes := under_way.read(self._notes_of(worker)):
                if not self._is_known(notes, worker):
                    continue
                self._look_into(notes)
                under_way.remove(self._notes_of(worker))
            self._remove(worker)

    def _sweep(self, folder: Path) -> None:
        """Remove files of workers that died before they were known; nobody else makes any while this one may write."""
        known = {worker for (worker,) in self._data.execute("select id from workers")}
        for worker in {path.stem for path in (folder / "workers").iterdir()} - known:
            if not self._lives(worker):
                under_way.remove(self._notes_of(worker))

    def _is_known(self, notes: Notes, worker: str) -> bool:
        """Tell whether how a process ended is as known as it will be: who oversees it says so at once, if that lives."""
        since = self._dead.setdefault(worker, self._looked)
        return bool(notes.ended) or self._looked - since > _PATIENCE_FOR_END or not self._lives(notes.session)

    def _look_into(self, notes: Notes) -> None:
        """Note what follows from a death."""
        session, work, words = notes.session, notes.work, under_way.told(notes)
        self._data.execute("insert into deaths values (?, ?)", (session, words))
        for one in consequences(notes, self._suspects(session, work)):
            if isinstance(one, Failure):
                self._fail(session, work, [one])
                self._data.execute("insert or ignore into died values (?, ?, ?)", (session, work, one.sample))
                self._data.execute("delete from suspects where session = ? and work = ? and sample = ?", (session, work, one.sample))
            else:
                values = (session, work, one.sample, one.kills, one.trial, one.tried)
                self._data.execute("insert or replace into suspects values (?, ?, ?, ?, ?, ?)", values)
        if notes.slots and notes.fault:
            add = "on conflict do update set count = count + 1, words = excluded.words"
            self._data.execute(f"insert into crashes values (?, ?, ?, 1, ?) {add}", (session, notes.series, work, words))
        elif notes.test and not notes.slots:
            kills = TESTS_KILLED // TESTS_CRASHED if notes.fault else 1
            add = "on conflict do update set kills = kills + excluded.kills, words = excluded.words"
            self._data.execute(f"insert into tests values (?, ?, ?, ?) {add}", (session, notes.test, kills, words))

    def _remove(self, worker: str) -> None:
        self._data.execute("delete from claims where owner = ?", (worker,))
        self._data.execute("delete from open where owner = ?", (worker,))
        self._data.execute("delete from workers where id = ?", (worker,))
        _forget_sessions(self._data)

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

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with _explained(self._folder):
            self._data.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._data.execute("rollback")
                raise
            self._data.execute("commit")


def _connect(place: Path | str) -> sqlite3.Connection:
    data = sqlite3.connect(place, _PATIENCE, isolation_level=None)
    try:
        data.execute("pragma journal_mode = wal")
        data.execute("pragma synchronous = off")  # nothing here outlives the machine
        data.executescript(_TABLES)
    except BaseException:
        data.close()
        raise
    return data


def _connect_anew(folder: Path) -> sqlite3.Connection:
    """Return the claims in a folder; what is damaged there is made anew, since it holds nothing that lasts."""
    (folder / "workers").mkdir(parents=True, exist_ok=True)
    file = folder / "claims.db"
    with FileLock(folder / "claims.lock"):  # so that nobody drops what another has made anew
        try:
            return _connect(file)
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError and not file.is_dir():  # a full disk, and the like
                raise
            for part in (file, *(file.with_name(file.name + ending) for ending in ("-wal", "-shm"))):
                if part.is_dir() and not part.is_symlink():
                    shutil.rmtree(part)
                else:
                    part.unlink(missing_ok=True)
        return _connect(file)


def forget(folder: Path, session: str) -> None:
    """Remove a session that is overseen no more, unless a worker of it is still there; raises `sqlite3.Error`."""
    file = folder / "claims.db"
    if file.exists():
        with closing(sqlite3.connect(file, _PATIENCE)) as data, data:
            data.execute("delete from workers where id = ?", (session,))
            _forget_sessions(data)


def _forget_sessions(data: sqlite3.Connection) -> None:
    """Remove what belongs to sessions without workers."""
    for table in _OF_SESSIONS:
        data.execute(f"delete from {table} where session not in (select session from workers)")


def lock_of(folder: Path, worker: str) -> Path:
    """Return the file that a worker, or who oversees a session, holds as long as it lives."""
    return folder / "workers" / f"{worker}.lock"


def folder_of(cache: Path | str) -> Path:
    """Return where the workers of this machine that use a store claim their work: in it, or in the user's cache where it is elsewhere."""
    if isinstance(cache, Path):
        return cache / "work"
    digest = hashlib.sha256(os.fsencode(cache)).hexdigest()[:16]
    return Path(platformdirs.user_cache_dir("mpq", appauthor=False)) / "work" / digest


@contextmanager
def _explained(folder: Path | None) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StoreError(f"workers cannot share their work in {folder}: {reason}; free some room or choose another --mpq-cache") from error
