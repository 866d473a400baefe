"""What was read of samples, kept for the next point in a file of this process, without a name.

The system holds the file in memory as long as there is room, and takes that back where it is needed: a process that keeps a gigabyte is no
larger than one that keeps nothing.
"""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_MOST = 2**30
_SHARE = 10
"""Of free memory and of the free disk this part is taken at most, by all workers together."""
_SMALL = 500
"""Bytes below which something is as soon read again as looked up: a class, a text."""


class ReadCache:
    """Signals and targets of the samples of an evaluation, kept where those of its whole data set fit into ``budget`` bytes.

    Points are worked on one after the other: of a data set that does not fit nothing would still be there when its turn comes again.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: sqlite3.Connection | None = None
        self._held, self._guard = 0, threading.Lock()

    def read(self, kind: str, source: str, samples: int, read: Callable[[], Any]) -> Any:
        """Return what ``read`` returns for the sample with this source, of ``samples`` in all; each time a copy of one's own."""
        if (content := self._found(kind, source)) is None:
            self._keep(kind, source, samples, content := read())
        return content

    def forget(self) -> None:
        """Give back what it takes."""
        with self._guard:
            self._close()
            self._held = 0

    def _found(self, kind: str, source: str) -> Any:
        if self._kept is None:
            return None
        with self._guard:
            row = self._kept and self._kept.execute("select content from kept where source = ? and kind = ?", (source, kind)).fetchone()
        return pickle.loads(row[0]) if row else None  # noqa: S301 - this process wrote it, and no other can open the file

    def _keep(self, kind: str, source: str, samples: int, content: Any) -> None:
        if self._held >= self.budget:
            return
        try:
            data = pickle.dumps(content, protocol=5)
        except (pickle.PicklingError, TypeError, AttributeError):  # a task of somebody's own may have any target
            return
        if len(data) < _SMALL or len(data) * samples > self.budget or self._held + len(data) > self.budget:
            return
        with self._guard:
            try:
                self._kept = self._kept or _file_without_a_name()
                self._kept.execute("insert or ignore into kept values (?, ?, ?)", (source, kind, data))
                self._held += len(data)
            except sqlite3.Error:  # the disk is full: what is not kept is read again
                self._close()
                self._held = self.budget

    def _close(self) -> None:
        if self._kept is not None:
            with suppress(sqlite3.Error):
                self._kept.close()
            self._kept = None


def _file_without_a_name() -> sqlite3.Connection:
    kept = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # which SQLite deletes when it is closed, however it is
    for setting in ("page_size = 16384", "journal_mode = off", "synchronous = off", "locking_mode = exclusive"):
        kept.execute(f"pragma {setting}")
    kept.execute("create table kept (source text, kind text, content blob, primary key (source, kind))")
    return kept


def budget_for(workers: int) -> int:
    """Return how many bytes each of so many workers of this machine may keep of what it reads."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system tells
        free = 2**31
    with suppress(OSError):
        free = min(free, shutil.disk_usage(tempfile.gettempdir()).free)
    return min(_MOST, free // _SHARE // max(1, workers))
