"""How processes end: what asks them to, and the end of those who started them, after which nobody waits for what they measure."""

from __future__ import annotations

import os
import signal
import threading
import time

_EVERY = 0.5
"""Seconds between two looks."""


def stopping_signals() -> list[int]:
    """Return what asks a process to end; a hangup only where it is not ignored, which nohup asks for."""
    named: list[int] = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # not every system has it
    return [*named, hangup] if hangup and signal.getsignal(hangup) is not signal.SIG_IGN else named


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
