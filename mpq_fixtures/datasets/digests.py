"""Digests of files, which are known again as long as a file looks unchanged, as git knows what it has in its index.

Size, times of change and inode tell whether a file is the one that was hashed. A file that was changed less than two seconds before it was
hashed is not remembered ("racily clean": it may have changed again within the same tick of the clock). The table is a small SQLite file
beside the tables of ``datasets``; where it cannot be used, files are hashed, and nothing else is different.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path

from mpq_fixtures.datasets.listing import YOUNG
from mpq_fixtures.datasets.opened import cache_folder
from mpq_fixtures.files import check_regular
from mpq_fixtures.plain_text import is_utf8

_NEW = 512  # digests that are written at a time, and lost at most where a process is killed
_PARAMETERS = 500  # of one query; SQLite takes 999 at least
_SCHEMA = "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, size INT, mtime INT, ctime INT, inode TEXT, digest BLOB) WITHOUT ROWID"
_CACHE = "PRAGMA cache_size = -128"  # kilobytes: each file is looked up once
_Row = tuple[str, int, int, int, str, bytes]


def file_digests() -> FileDigests:
    """Return the digests beside the tables of ``datasets``."""
    return _at(cache_folder() / "mpq" / "digests.sqlite")


class FileDigests:
    """SHA-256 digests of whole files by their absolute paths, shared by all processes that name the same ``file``."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ahead: dict[str, _Row] = {}
        self._new: dict[str, _Row] = {}

    def look_ahead(self, paths: Iterable[str]) -> None:
        """Have ready what is known of files that will be asked for; none of them is touched."""
        wanted = [path for path in paths if path.isascii() or is_utf8(os.fsencode(path))]  # the table holds no other
        ahead: dict[str, _Row] = {}
        with suppress(sqlite3.Error, OSError), closing(self._open()) as table:  # without the table they are hashed
            for start in range(0, len(wanted), _PARAMETERS):
                some = wanted[start : start + _PARAMETERS]
                query = f"SELECT * FROM files WHERE path IN ({','.join('?' * len(some))})"  # nothing but question marks
                ahead.update((row[0], row) for row in table.execute(query, some))
        self._ahead = ahead

    def of(self, path: str) -> tuple[bytes, int]:
        """Return the digest of a file's content, 32 bytes, and its size; raises ``OSError`` where it cannot be read."""
        known, there = self._ahead.pop(path, None) or self._new.get(path), check_regular(path)
        if known is not None and _row(path, there, known[5]) == known:
            return known[5], known[1]
        with open(path, "rb") as file:  # noqa: PTH123  # some 10,000 times over
            now, before = time.time_ns(), os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").digest()
            size, after = file.tell(), os.fstat(file.fileno())
        found = _row(path, after, digest)
        still = found == _row(path, before, digest) and size == after.st_size and max(after.st_mtime_ns, after.st_ctime_ns) < now - YOUNG
        if still and is_utf8(os.fsencode(path)):
            self._new[path] = found
            if len(self._new) >= _NEW:
                self.keep()
        return digest, size

    def keep(self) -> None:
        """Write down what is new."""
        new, self._new = self._new, {}
        if new:
            with suppress(sqlite3.Error, OSError), closing(self._open()) as table, table:
                table.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?)", new.values())

    def _open(self) -> sqlite3.Connection:
        """Open the table anew: a connection must not pass from one thread or process to another."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        table = sqlite3.connect(self._file, timeout=10)
        try:
            table.execute(_CACHE)
            table.execute(_SCHEMA)
        except sqlite3.DatabaseError as error:
            table.close()
            if not isinstance(error, sqlite3.OperationalError):  # no table at all, or a damaged one
                self._file.unlink(missing_ok=True)
            raise
        return table


def _row(path: str, stat: os.stat_result, digest: bytes) -> _Row:
    return path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, str(stat.st_ino), digest


@lru_cache
def _at(file: Path) -> FileDigests:
    digests = FileDigests(file)
    atexit.register(digests.keep)
    return digests
