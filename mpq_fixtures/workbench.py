"""What a process evaluates with: the store, the clock, threads, an engine, and the signals that it has read already."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mpq_fixtures.clock import Clock
from mpq_fixtures.engines import Engine
from mpq_fixtures.signals import Audio, Image
from mpq_fixtures.store import Store
from mpq_fixtures.under_way import UnderWay

if TYPE_CHECKING:
    from pathlib import Path

Progress = Callable[[str, int, int], None]
"""Told the case, how many of its samples are done, and how many there are."""

_MOST_REMEMBERED = 2**30
_SHARE_OF_MEMORY = 10


class Memory:
    """What was read of samples, kept for the next point where the whole data set fits.

    Points are worked on one after the other: of a data set that does not fit nothing would still be there when its turn comes again.
    """

    def __init__(self, budget: int) -> None:
        """Take how many bytes may be kept."""
        self.budget = budget
        self._kept: dict[tuple[str, str], Any] = {}
        self._held, self._guard = 0, threading.Lock()

    def read(self, kind: str, source: str, samples: int, read: Callable[[], Any]) -> Any:
        """Return what ``read`` returns for the sample with this source, of ``samples`` in all."""
        if (found := self._kept.get((kind, source))) is not None:
            return found
        content = read()
        size = _bytes_of(content)
        with self._guard:
            if size * samples <= self.budget and self._held + size <= self.budget:
                self._kept[kind, source] = content
                self._held += size
        return content

    def forget(self) -> None:
        """Give the memory back."""
        with self._guard:
            self._kept.clear()
            self._held = 0


def _bytes_of(content: Any) -> int:
    """Return how much memory a signal or a target takes."""
    if isinstance(content, dict):
        return sum(map(_bytes_of, content.values()))
    array = content.pixels if isinstance(content, Image) else content.waveform if isinstance(content, Audio) else content
    return 100 + int(getattr(array, "nbytes", len(array) if isinstance(array, str) else 0))


def memory_for_signals(workers: int) -> int:
    """Return how many bytes of signals each of the workers of this machine may keep."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):  # not every system tells
        free = 2**31
    return min(_MOST_REMEMBERED, free // _SHARE_OF_MEMORY // max(1, workers))


def _alone() -> Engine:
    from mpq_fixtures.engines.local import LocalEngine

    return LocalEngine()


@dataclass(frozen=True, eq=False)
class Workbench:
    """What a case is evaluated with.

    ``threads`` encode and decode while the model predicts; ``parts`` is where rows are laid down; ``points`` says how many cases of each
    evaluation this run has; ``under_way`` notes what this process is at.
    """

    store: Store
    clock: Clock
    threads: int = 1
    progress: Progress = lambda case, done, total: None
    engine: Engine = field(default_factory=_alone)
    parts: Path | None = None
    memory: Memory = field(default_factory=lambda: Memory(0))
    points: dict[str, int] = field(default_factory=dict)
    under_way: UnderWay = field(default_factory=UnderWay)
