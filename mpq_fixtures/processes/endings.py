"""How processes end: what asks them to, and the end of those who started them, after which nobody waits for what they measure."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

_TOGETHER = 1.0
_EVERY = 0.5
"""Seconds between two looks."""


def stopping_signals() -> list[int]:
    """Return what asks a process to end; a hangup only where it is not ignored, which nohup asks for."""
    named: list[int] = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not every system has it
    return [*named, hangup] if hangup and signal.getsignal(hangup) is not signal.SIG_IGN else named


def once(handler: Callable[[int, FrameType | None], object]) -> Callable[[int, FrameType | None], None]:
    """Return a signal handler that takes signals within a second for one.

    What is sent to a group of processes comes to this one twice, where the one that it is a copy of hands it on as well.
    """
    last = -_TOGETHER

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        if last - before > _TOGETHER:
            handler(number, frame)

    return handle


def kill_with_descendants(process: int) -> None:
    """Kill a process and, where the system has ``/proc``, all that it started: commands lead sessions of their own, which no group holds.

    What was started by one that has ended before is not found. Raises nothing where they are gone already.
    """
    for one in (process, *_descendants(process)):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(one, signal.SIGKILL)


def _descendants(process: int) -> list[int]:
    started: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parent = file.read_text(errors="replace").rpartition(")")[2].split()[1]  # behind a name that may hold anything
            started.setdefault(int(parent), []).append(int(file.parent.name))
    found = [process]
    for one in found:  # which grows
        found += started.get(one, [])
    return found[1:]


def end_with_parent(parent: int | None = None) -> None:
    """Let this process end soon after the one that started it, whatever it is at: the store loses nothing by that.

    ``parent`` is that one's number, which may have ended before this is called.
    """
    started_by = parent or os.getppid()

    def watch() -> None:
        while os.getppid() == started_by:
            time.sleep(_EVERY)
        os._exit(1)

    threading.Thread(target=watch, name="mpq-orphans", daemon=True).start()
