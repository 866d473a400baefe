"""Files of SQLite as a store uses them: opened late, shared by threads, and told apart from what else has their names."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

from mpq_fixtures.store.base import FORMAT

PATIENCE = 60.0
"""Seconds that a process waits for another's transaction."""
PAGE = 4096  # four times as much costs the same time, and small scopes more room
CACHE = 128
"""Kilobytes of an open file that SQLite holds: 2,000, its own choice, are hardly faster, and dozens of files are open."""
PARTS = ("-wal", "-shm", "")
"""What the names of a file's log, of its index and of itself end in."""


class SqliteFile:
    """A SQLite file that is opened when it is first used; ``lock`` lets one thread at a time use it."""

    def __init__(self, path: Path, inode: int) -> None:
        self.path, self.inode, self.lock, self.closed = path, inode, threading.RLock(), False
        self._connection: sqlite3.Connection | None = None

    def connection(self) -> sqlite3.Connection:
        """Return the connection, open from the first time on; raises `sqlite3.Error`."""
        if self._connection is None:
            connection = self._connection = open_file(self.path)
            connection.execute(f"PRAGMA cache_size = -{CACHE}")
            connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last packs, whole ones
            if connection.execute("PRAGMA user_version").fetchone() != (FORMAT,):
                raise damage("it has lost its tables")
        return self._connection

    def has(self, status: os.stat_result | None) -> bool:
        """Tell whether a status is of this file, and not of another one that has come into its place."""
        return status is not None and status.st_ino == self.inode

    def close(self) -> None:
        """Close it for good."""
        with self.lock:
            self.closed = True
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = None


def open_file(path: Path, patience: float = PATIENCE) -> sqlite3.Connection:
    """Open a file that is there; one in a folder that may only be read, where no log can be, as it is."""
    mode = "mode=rw"
    if not os.access(path.parent, os.W_OK):
        mode = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    name = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(name, timeout=patience, isolation_level=None, check_same_thread=False, uri=True)


def status_of(path: Path) -> os.stat_result | None:
    """Return the status of a file; what else has its name, a folder or a link that leads nowhere, is removed and counts as missing."""
    try:
        status = path.stat()
        if not S_ISDIR(status.st_mode):
            return status
    except FileNotFoundError:
        if not path.is_symlink():
            return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    if path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        with suppress(FileNotFoundError, NotADirectoryError):  # another process was first
            shutil.rmtree(path)
    return None


def remove_parts(path: Path, suffixes: Sequence[str] = PARTS) -> None:
    """Remove a file with its log and its index, or only those of its parts that are named."""
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink(missing_ok=True)


@contextmanager
def transaction(file: sqlite3.Connection) -> Iterator[None]:
    """Write all or nothing; the lock is taken at once, since one that is asked for later may be refused without waiting."""
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite has done it already, where the disk is full
            file.execute("ROLLBACK")
        raise


def code_of(error: Exception) -> int:
    """Return SQLite's primary code of an error, 0 where it is Python's own."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_damaged(error: Exception, path: Path) -> bool:
    """Tell whether a file is no more what it was: its bytes, its length, or its tables, where another's has come into its place."""
    code = getattr(error, "sqlite_errorcode", 0)
    return (
        code_of(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        or code == sqlite3.SQLITE_IOERR_SHORT_READ
        or (code == sqlite3.SQLITE_READONLY and _names_a_later_format(path))
        or str(error).startswith(("no such table", "no such column", "unsupported file format", "Could not decode"))
        or isinstance(error, UnicodeDecodeError)  # of a message that quotes what it found
    )


def damage(words: str) -> sqlite3.DatabaseError:
    """Return an error that says that a file is damaged, for what SQLite does not see."""
    error = sqlite3.DatabaseError(words)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _names_a_later_format(path: Path) -> bool:
    """Tell whether a file's header names a format that came after WAL, byte 18, as no file does: SQLite would only read it."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(19)[18:] > b"\x02"
    return False


def reason_of(error: sqlite3.Error) -> str:
    """Say what was wrong in the system's words where it has some."""
    match code_of(error):
        case sqlite3.SQLITE_FULL:
            return os.strerror(28)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return os.strerror(13)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"another process has held a file of it for {PATIENCE:.0f} s"
    return str(error)
