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


class OwnedFolder:
    """A folder at ``path`` that is there while it is made and not closed.

    Its owner holds a lock on a file in it, which the system lets go when the process ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: FileLock | None = None

    def make(self) -> None:
        """Make the folder and hold it; raises `OSError` where that cannot be."""
        while self._lock is None:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = _held(self.path)

    def close(self) -> None:
        """Delete the folder."""
        _remove(self.path)
        if self._lock is not None:
            self._lock.release()


class TemporaryFolder(OwnedFolder):
    """A folder ``path`` in the system's for temporary files, until it is closed; ``mpq-`` and ``name`` is what its name begins with.

    What a process that was killed has left there the next one that makes such a folder removes, or the end of a run.
    """

    def __init__(self, name: str) -> None:
        _remove_orphans_once()
        while True:
            super().__init__(Path(tempfile.mkdtemp(prefix=f"mpq-{name}-")))
            if (lock := _held(self.path)) is not None:
                self._lock = lock
                return

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def remove_orphans() -> None:
    """Remove what processes left that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"mpq-*/{_LOCK}"):
        _remove_orphan(lock)


def remove_orphans_in(folder: Path) -> bool:
    """Remove the folders there whose owners are gone; return whether others still have theirs."""
    for lock in folder.glob(f"*/{_LOCK}"):
        _remove_orphan(lock)
    left = [entry for entry in folder.glob("*") if entry.is_dir()]
    for entry in left:
        with suppress(OSError):  # of who was killed between its last two steps, or makes it now and will make it again
            entry.rmdir()
    return any(entry.is_dir() for entry in left)


def _held(folder: Path) -> FileLock | None:
    """Return the lock of a folder, held; None where somebody took it for an orphan in the moment before."""
    lock = FileLock(folder / _LOCK, thread_local=False)  # any thread may close it
    with suppress(FileNotFoundError):
        lock.acquire()
        if (folder / _LOCK).exists():
            return lock
        lock.release()
    return None


def _remove_orphan(lock: Path) -> None:
    with suppress(OSError):  # another user's, or somebody else removes it, too
        owner = FileLock(lock)
        with suppress(Timeout), owner.acquire(timeout=0):
            _remove(lock.parent)


def _remove(folder: Path) -> None:
    """Delete a folder, last what says that it had an owner: where that is interrupted, the rest is an orphan still."""
    with suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _LOCK:
                entry.unlink(missing_ok=True)
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()


_remove_orphans_once = cache(remove_orphans)  # in a process: the folder may be full of others' files
