"""What was read of samples, kept for the next point in a file of this process, without a name.

The system holds the file in memory as long as there is room, and takes that back where it is needed: a process that keeps a gigabyte is no
larger than one that keeps nothing.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mpq_fixtures.signals import Audio, Image

_MOST = 2**30
_SHARE = 10
"""Of free memory and of the free disk this part is taken at most, by all workers together."""
_HEAD = 4  # bytes of the length of what says how the arrays are to be read


class ReadCache:
    """Signals and targets of the samples of an evaluation, kept where those of its whole data set fit into ``budget`` bytes.

    Points are worked on one after the other: of a data set that does not fit nothing would still be there when its turn comes again. A
    class or a text is as soon read again as looked up, and is not kept.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._kept: sqlite3.Connection | None = None
        self._kinds: set[str] = set()  # of which something is kept
        self._held, self._guard = 0, threading.Lock()

    def read(self, kind: str, source: str, samples: int, read: Callable[[], Any]) -> Any:
        """Return what ``read`` returns for the sample with this source, of ``samples`` in all; each time a copy of one's own."""
        if kind in self._kinds and (content := self._found(kind, source)) is not None:
            return content
        content = read()
        if not isinstance(content, int | str):
            self._keep(kind, source, samples, content)
        return content

    def forget(self) -> None:
        """Give back what it takes."""
        with self._guard:
            self._close()
            self._held = 0

    def _found(self, kind: str, source: str) -> Any:
        row = None
        with self._guard, suppress(sqlite3.Error):  # where the disk fails it is read again
            if self._kept is not None:
                row = self._kept.execute("select content from kept where source = ? and kind = ?", (source, kind)).fetchone()
        return _unpacked(row[0]) if row else None

    def _keep(self, kind: str, source: str, samples: int, content: Any) -> None:
        if self._held >= self.budget:
            return
        if (parts := _parts(content)) is None:
            return
        size = sum(memoryview(part).nbytes for part in parts)
        if size * samples > self.budget or self._held + size > self.budget:
            return  # before anything is copied: it may be ten minutes of stems
        data = b"".join(parts)
        with self._guard:
            try:
                self._kept = self._kept or _file_without_a_name()
                self._kept.execute("insert or ignore into kept values (?, ?, ?)", (source, kind, data))
                self._held += size
                self._kinds.add(kind)
            except sqlite3.Error:  # the disk is full: what is not kept is read again
                self._close()
                self._held = self.budget

    def _close(self) -> None:
        self._kinds.clear()
        if self._kept is not None:
            with suppress(sqlite3.Error):
                self._kept.close()
            self._kept = None


def _parts(content: Any) -> list[Any] | None:
    """Return signals, arrays and dictionaries of them as buffers, one behind the other; None for anything else."""
    import numpy as np

    heads: list[list[Any]] = []
    arrays: list[Any] = []
    for name, one in content.items() if isinstance(content, dict) else [("", content)]:
        array = one.pixels if isinstance(one, Image) else one.waveform if isinstance(one, Audio) else one
        if not isinstance(name, str) or not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            return None
        heads.append([name, type(one).__name__, array.dtype.str, array.shape, one.sample_rate if isinstance(one, Audio) else 0])
        arrays.append(np.ascontiguousarray(array))
    head = json.dumps([isinstance(content, dict), heads]).encode()
    return [len(head).to_bytes(_HEAD, "big"), head, *arrays]


def _unpacked(data: bytes) -> Any:
    """Restore what `_parts` was given, in arrays of its own."""
    import numpy as np

    place = _HEAD + int.from_bytes(data[:_HEAD], "big")
    several, heads = json.loads(data[_HEAD:place])
    found: dict[str, Any] = {}
    for name, kind, dtype, shape, rate in heads:
        array = np.frombuffer(data, dtype, math.prod(shape), place).reshape(shape).copy()
        found[name] = Image(array) if kind == "Image" else Audio(array, rate) if kind == "Audio" else array
        place += array.nbytes
    return found if several else found[""]


def _file_without_a_name() -> sqlite3.Connection:
    kept = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # which SQLite deletes when it is closed, however it is
    for setting in ("page_size = 16384", "cache_size = -512", "journal_mode = off", "synchronous = off", "locking_mode = exclusive"):
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
