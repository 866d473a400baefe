"""A store in a folder: one SQLite file a scope, and one a layer for single entries.

SQLite's write-ahead log keeps its promises between the processes of one machine. Machines that share a folder give it as ``file:///...``,
which makes it a `mpq_fixtures.store.remote.RemoteStore`.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from mpq_fixtures.files import write_atomically
from mpq_fixtures.store import packs
from mpq_fixtures.store.base import AUDIT, DAY, FORMAT, LAYERS, MARKER, OlderFormat, Part, Scope, Store, StoreError, mark, newer_format
from mpq_fixtures.store.local_scope import LocalScope
from mpq_fixtures.store.sqlite_files import PAGE, PARTS, SqliteFile, code_of, is_damaged, open_file, reason_of, remove_parts, status_of
from mpq_fixtures.store.usage import size_of

OPEN_FILES = 32
_ENTRIES = "CREATE TABLE entries (key TEXT PRIMARY KEY, digest BLOB NOT NULL, payload BLOB NOT NULL);"
_left_to_the_parent: list[Any] = []  # connections from before a fork: neither used nor closed

T = TypeVar("T")


class LocalStore(Store):
    """The store in ``folder``, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder
        self._base = folder / f"format-{FORMAT}"
        self._marked = False
        self._swept: set[Path] = set()
        self._renew()

    def scope(self, layer: str, key: str, about: Mapping[str, str] | None = None) -> Scope:
        """Return the scope of a layer."""
        return LocalScope(self, layer, key, about or {})

    def get(self, layer: str, key: str) -> bytes | None:
        """Return a single entry's payload, or None where there is none or it is damaged."""
        path = self._entries(layer)
        query = "SELECT digest, payload FROM entries WHERE key = ?"
        found = self.run(path, lambda file: file.execute(query, (key,)).fetchone())
        if found is None:
            return None
        digest, payload = found
        if isinstance(payload, bytes) and packs.digest_of(payload) == digest:
            self.reused[layer] += 1
            return payload
        self.drop(layer, key, key)
        self.run(path, lambda file: file.execute("DELETE FROM entries WHERE key = ? AND digest = ?", (key, digest)))
        return None

    def put(self, layer: str, key: str, payload: bytes) -> None:
        """Write a single entry; afterwards it is there whole, whatever happens in between."""
        row = key, packs.digest_of(payload), payload
        self.run(self._entries(layer), lambda file: file.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", row), _ENTRIES)
        self.computed[layer] += 1

    @contextmanager
    def lock(self, layer: str, key: str) -> Iterator[None]:
        """Keep other processes and threads from making the same entry meanwhile."""
        path = self._base / "locks" / f"{layer}-{key[:2]}.lock"
        with self.explained():
            self._check()
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        """Close the files, which are opened again when they are needed; the last process to close one leaves no log."""
        for path, file in list(self._files.items()):
            self._forget(path, file)

    def parts(self) -> Iterator[Part]:
        """Yield the scopes and the files of single entries."""
        with self.explained():
            self._check()
            for path in sorted(self._base.glob("*/*.db")):
                files = {suffix: status for suffix in PARTS if (status := status_of(Path(f"{path}{suffix}")))}
                if "" not in files:
                    continue
                single = path == self._entries(path.parent.name)
                query = "SELECT count(*) FROM entries" if single else "SELECT sum(rows) FROM packs"
                about: list[dict[str, str]] = []
                try:
                    with closing(open_file(path)) as file:
                        (entries,) = file.execute(query).fetchone()
                        if not single:
                            about = [json.loads(entry) for (entry,) in file.execute("SELECT entry FROM about ORDER BY entry")]
                except (sqlite3.Error, ValueError):
                    entries = 0  # damaged: whoever reads it will say so
                size = sum(status.st_size for status in files.values())
                used = max(status.st_mtime for suffix, status in files.items() if suffix != "-shm")
                yield Part(path.parent.name, "" if single else path.stem, size, len(files), entries or 0, used, about, [str(path)])

    def remove(self, part: Part) -> bool:
        """Remove a part, unless a running process has it open."""
        (path,) = map(Path, part.files_of)
        with self.explained(), self.lock("files", "00"):
            try:
                with closing(open_file(path, patience=0)) as file:
                    if file.execute("PRAGMA journal_mode = DELETE").fetchone() != ("delete",):
                        return False  # SQLite leaves the log only when nobody else has the file open
                    file.execute("BEGIN EXCLUSIVE")  # who opens it now waits, and then sees that it is gone
                    with suppress(PermissionError):  # of systems that remove no open file
                        remove_parts(path)
                        return True
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if code_of(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    return False
                if not is_damaged(error, path) and path.exists():
                    raise
            remove_parts(path)
        return True

    def older(self) -> list[Path]:
        """Return the folders that an older mpq wrote, which this one never reads."""
        layers = [self.folder / name for name in (*LAYERS, AUDIT, "locks")]
        return [folder for folder in layers if folder.is_dir()]

    def _check(self) -> None:
        """Refuse a folder that a newer mpq wrote."""
        if self._marked:
            return
        try:
            message = newer_format(str(self.folder), (self.folder / MARKER).read_bytes())
        except FileNotFoundError:  # nothing is written yet
            return
        if message:
            raise StoreError(message)
        self._marked = True

    def path_of(self, layer: str, key: str) -> Path:
        """Return the file of a scope."""
        return self._base / layer / f"{key}.db"

    def _entries(self, layer: str) -> Path:
        return self._base / layer / "entries.db"

    def run(self, path: Path, action: Callable[[sqlite3.Connection], T], made_with: str = "") -> T | None:
        """Do something in a file, None where there is none; one that is missing is made where ``made_with`` says its tables.

        A file that is damaged is dropped and counts as missing.
        """
        while True:
            with self.explained():
                self._check()
                file = self._file(path)
                if file is None:
                    if not made_with:
                        return None
                    self._make(path, made_with)
                    continue
                with file.lock:
                    if file.closed:  # by another thread, which had too many open
                        continue
                    try:
                        done = action(file.connection())
                        if not made_with or file.has(status_of(path)):
                            return done
                        damaged = False  # it was pruned meanwhile, with what was written to it
                    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                        damaged = is_damaged(error, path)
                        if not damaged and file.has(status_of(path)):
                            raise
            if damaged:
                self._drop_file(path, file)
            else:  # it was removed, or exchanged for another, while it was being opened
                self._forget(path, file)

    def _file(self, path: Path) -> SqliteFile | None:
        if self._process != os.getpid():
            self._renew()
        status = status_of(path)
        with self._guard:
            file = self._files.get(path)
            gone = []
            if file is not None and not file.has(status):  # it was pruned, and perhaps made again
                gone.append(self._files.pop(path))
                file = None
            if file is None and status is not None:
                file = self._files[path] = SqliteFile(path, status.st_ino)
            if file is not None:
                self._files.move_to_end(path)
            gone += [self._files.popitem(last=False)[1] for _ in range(len(self._files) - OPEN_FILES)]
        for old in gone:
            old.close()
        if status is not None and time.time() - status.st_mtime > DAY:  # the time of last use, for `mpq store prune`
            with suppress(OSError):
                os.utime(path)
        return file

    def _make(self, path: Path, tables: str) -> None:
        """Make a file with its tables unless another process has; whoever sees it sees it whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.lock("files", "00"):
            if path.exists():
                return
            self._sweep(path.parent)
            if not (self.folder / MARKER).exists():
                self._begin()
            piece = path.with_name(f".{path.name}.{os.getpid()}.part")
            piece.unlink(missing_ok=True)
            try:
                with closing(sqlite3.connect(piece)) as connection:
                    connection.executescript(
                        f"PRAGMA page_size = {PAGE}; PRAGMA journal_mode = WAL; {tables} PRAGMA user_version = {FORMAT};"
                    )
                remove_parts(path, PARTS[:-1])  # of a file that was taken away: SQLite would read that log into this one
                with suppress(IsADirectoryError):  # it has just come there, and goes when the file is looked for again
                    piece.replace(path)
            except BaseException:
                remove_parts(piece)
                raise

    def _sweep(self, folder: Path) -> None:
        """Remove pieces that processes left which were killed while they made a file; who makes one now holds the lock, and is this one."""
        for place in {folder, self.folder} - self._swept:
            for piece in place.glob(".*.part*"):
                piece.unlink(missing_ok=True)
            self._swept.add(place)

    def _begin(self) -> None:
        """Mark the folder as this format's, and say what an older one left there."""
        if old := self.older():
            size = size_of(old, seconds=2)
            sentence = f"{self.folder} also holds {size} of an older mpq's, which are never read: mpq store prune --old removes them"
            warnings.warn(OlderFormat(sentence), stacklevel=2)
        write_atomically(self.folder / MARKER, mark())

    def _drop_file(self, path: Path, file: SqliteFile) -> None:
        """Remove a damaged file, unless another process has done so and made a new one."""
        self._forget(path, file)
        with self.explained(), self.lock("files", "00"):
            status = status_of(path)
            if status is not None and not file.has(status):
                return
            with suppress(IsADirectoryError):  # as in `_make`
                remove_parts(path)
        self.drop(path.parent.name, path.stem, path.name)

    def _forget(self, path: Path, file: SqliteFile) -> None:
        with self._guard:
            if self._files.get(path) is file:
                del self._files[path]
        file.close()

    def _renew(self) -> None:
        """Begin without open files, as a process does that was forked."""
        _left_to_the_parent.append(getattr(self, "_files", None))
        self._process, self._guard = os.getpid(), threading.Lock()
        self._files: OrderedDict[Path, SqliteFile] = OrderedDict()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise what the file system or SQLite says as a `StoreError`."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            raise self._error(error.strerror or str(error), error.errno in (errno.ENOSPC, errno.EDQUOT)) from error
        except sqlite3.Error as error:
            raise self._error(reason_of(error), code_of(error) == sqlite3.SQLITE_FULL) from error

    def _error(self, reason: str, full: bool) -> StoreError:
        way = f"{'free some room or ' if full else ''}choose another folder with --mpq-cache"
        return StoreError(f"cannot use the store {self.folder}: {reason}; {way}")
