"""Workers whose controller is gone: nobody waits for what they measure, and they end."""

from __future__ import annotations

import os
import threading
import time

_EVERY = 0.5
"""Seconds between two looks."""


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
