"""What the workers of a machine that use one store tell each other, in a folder of theirs: tables, and a lock for each that lives.

Nothing here outlives the machine, and what belongs to a session ends with it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from mpq_fixtures.store import StoreError

_TABLES = """
create table if not exists workers (id text primary key, session text, resting integer default 0);
create table if not exists claims (work text, batch integer, owner text, primary key (work, batch)) without rowid;
create table if not exists failed (number integer primary key autoincrement, session text, work text, sample text, step text, reason text,
    unique (session, work, sample));
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
_OF_SESSIONS = ("failed", "spent", "open", "suspects", "died", "crashes", "tests", "deaths", "accounts")
_FILE = "claims.db"
_PATIENCE = 60.0
"""Seconds to wait for another process that writes: each does for milliseconds."""


class WorkData:
    """The tables in a folder, or without one those of this process alone; raises `StoreError` where they cannot be read or written."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        with self.explained():
            self._data = _connect(":memory:") if folder is None else _connect_anew(folder)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with self.explained():
            return self._data.execute(query, values).fetchall()

    def write(self, query: str, *values: object) -> None:
        """Write one row, within `writing`."""
        self._data.execute(query, values)

    def write_all(self, query: str, rows: Iterable[Sequence[object]]) -> None:
        """Write some rows, within `writing`."""
        self._data.executemany(query, rows)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Write all of what is written inside, or nothing of it, while nobody else writes."""
        with self.explained():
            self._data.execute("begin immediate")
            try:
                yield
            except BaseException:
                self._data.execute("rollback")
                raise
            self._data.execute("commit")

    def forget_sessions(self) -> None:
        """Remove what belongs to sessions without workers."""
        _forget_sessions(self._data)

    def close(self) -> None:
        """Let the file go."""
        self._data.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise `StoreError` for what goes wrong inside with the folder."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or str(error)
            way = "free some room or choose another --mpq-cache"
            raise StoreError(f"workers cannot share their work in {self.folder}: {reason}; {way}") from error


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
    file = folder / _FILE
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


def look_up(folder: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Return what a query finds, for who has no part in the work and only reads; raises `sqlite3.Error`, also where nobody worked yet."""
    file = (folder / _FILE).absolute()
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as data:
        return data.execute(query, values).fetchall()


def forget(folder: Path, session: str) -> None:
    """Remove a session that is overseen no more, unless a worker of it is still there; raises `sqlite3.Error`."""
    file = folder / _FILE
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
