"""Ends a process of a cluster in which a step of a sample takes longer than it may: nobody else there oversees it."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mpq_fixtures.processes.under_way import Place, UnderWay

_STDERR = 2
_LOOK = 0.5
"""Seconds between two looks; so that no time passes while the process is stopped, they are what is counted."""


class TimeLimit(UnderWay):
    """Notes since when each thread is at a step, and ends this process where that takes too long."""

    def __init__(self) -> None:
        super().__init__()
        self._places: dict[_Timed, None] = {}

    def at(self, step: str, ids: Sequence[str], seconds: float = 0) -> Place:
        """Note that this thread is at a step of samples, which may take so long each, until the place is left."""
        return _Timed(self._places, seconds * max(1, len(ids)))

    @contextmanager
    def kept(self, longest: float) -> Iterator[None]:
        """End the process meanwhile where a step takes too long; ``longest`` are the seconds that any step may take.

        What never lets go of Python's lock is ended after as long, by a thread of the C library that needs no lock.
        """
        left = threading.Event()

        def look() -> None:
            while True:
                faulthandler.dump_traceback_later(longest + 2 * _LOOK, exit=True, file=_STDERR)
                if left.wait(_LOOK):
                    return
                for place in list(self._places):
                    if place.is_late(_LOOK):
                        faulthandler.dump_traceback(_STDERR)
                        os._exit(1)

        thread = threading.Thread(target=look, name="mpq-time-limit", daemon=True)
        thread.start()
        try:
            yield
        finally:
            left.set()
            thread.join()
            faulthandler.cancel_dump_traceback_later()


class _Timed(Place):
    """A thread's place, of which is known how long it has been at a step."""

    __slots__ = ("_all", "_allowed", "_spent")

    def __init__(self, places: dict[_Timed, None], allowed: float) -> None:
        self._all, self._allowed, self._spent = places, allowed, 0.0
        places[self] = None

    def is_late(self, more: float) -> bool:
        """Add some seconds, and tell whether it is there for too long now."""
        self._spent += more
        return 0 < self._allowed < self._spent

    def note(self, step: str, ids: Sequence[str]) -> None:
        self._spent = 0.0

    def step(self, name: str) -> None:
        self._spent = 0.0

    def __exit__(self, *raised: object) -> None:
        del self._all[self]
