"""Temporary folders that do not outlive their process for long, however it ends."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

_LOCK = ".owner"


class TemporaryFolder:
    """A folder ``path`` in the system's for temporary files, until it is closed; ``mpq-`` and ``name`` is what its name begins with.

    Its owner holds a lock on a file in it, which the system lets go when the process ends. What a process that was killed has left there
    the next one that makes such a folder removes, or the end of a run.
    """

    def __init__(self, name: str) -> None:
        _remove_orphans_once()
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=f"mpq-{name}-"))
            self._lock = FileLock(self.path / _LOCK, thread_local=False)  # any thread may close it
            with suppress(FileNotFoundError):  # somebody took it for an orphan, in the moment before it was locked
                self._lock.acquire()
                if (self.path / _LOCK).exists():
                    return
                self._lock.release()

    def close(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def remove_orphans() -> None:
    """Remove what processes left that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"mpq-*/{_LOCK}"):
        with suppress(OSError):  # another user's, or somebody else removes it, too
            owner = FileLock(lock)
            with suppress(Timeout), owner.acquire(timeout=0):
                shutil.rmtree(lock.parent, ignore_errors=True)


_remove_orphans_once = cache(remove_orphans)  # in a process: the folder may be full of others' files
