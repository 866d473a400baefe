"""What commands that measure say meanwhile, and how they are stopped."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mpq_fixtures.processes.endings import once, stopping_signals
from mpq_fixtures.words import counted

_PAUSE_TERMINAL, _PAUSE_FILE = 0.5, 60.0


@contextmanager
def stoppable(progress: Progress) -> Iterator[None]:
    """Stop after the batch that is under way where somebody wants that or the machine is taken away; at once when told again."""

    def stop(number: int, frame: object) -> None:
        if progress.stopping:
            raise KeyboardInterrupt
        progress.stopping = True

    stop_once = once(stop)
    before = {number: signal.signal(number, stop_once) for number in stopping_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """Says on standard error how far a command is: in one line on a terminal, else once a minute and at the end of a case."""

    def __init__(self, command: str) -> None:
        """Take what its lines begin with."""
        self._command, self._live = command, sys.stderr.isatty()
        self._pause = _PAUSE_TERMINAL if self._live else _PAUSE_FILE
        self._case, self._there, self._said = "", 0, 0.0
        self.stopping = False

    def __call__(self, case: str, done: int, total: int) -> None:
        """Note how far a case is, between batches; raises `KeyboardInterrupt` where that is the end."""
        if self.stopping:
            raise KeyboardInterrupt
        if case != self._case:  # the others' samples count as done
            self._case, self._there = case, done
        own, now = total - self._there, time.monotonic()
        if own and (done == total or now - self._said > self._pause):
            self._said = now
            line = f"{self._command}: {case} {done - self._there}/{counted(own, 'sample')}"
            sys.stderr.write(f"\r{line}\x1b[K" if self._live else f"{line}\n")
            sys.stderr.flush()

    def say(self, *lines: str) -> None:
        """Write lines that stay."""
        if lines:
            self.end()
        for line in lines:
            sys.stderr.write(f"{self._command}: {line}\n")

    def clear(self) -> None:
        """Take the line that changes away."""
        if self._live and self._said:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._said = 0.0

    def end(self) -> None:
        """Leave the line that changes."""
        if self._live and self._said:
            sys.stderr.write("\n")
            self._said = 0.0
