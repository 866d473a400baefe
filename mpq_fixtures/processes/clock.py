"""Where a worker's time goes, seconds of each step and the time in which at least one was under way, and how much memory it took."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STEPS = ("audit", "encode", "decode", "predict", "score")


class Clock:
    """Adds up the steps of a process over all its threads.

    ``seconds`` counts each step's own time, so with overlapping threads the sum can exceed the time that passed; ``busy`` is the
    time that passed while at least one step was under way.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(STEPS, 0.0)
        self._busy = 0.0
        self._under_way = 0
        self._since = 0.0
        self._guard = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count what happens inside as time of this step."""
        start = time.perf_counter()
        with self._guard:
            if self._under_way == 0:
                self._since = start
            self._under_way += 1
        try:
            yield
        finally:
            end = time.perf_counter()
            with self._guard:
                self.seconds[name] += end - start
                self._under_way -= 1
                if self._under_way == 0:
                    self._busy += end - self._since

    @property
    def busy(self) -> float:
        """Seconds in which at least one step was under way."""
        return self._busy


def peak_memory(process: int | None = None) -> int:
    """Return the most memory that a process, this one unless said, has held, in bytes; 0 where it is gone or the system does not say."""
    with contextlib.suppress(OSError, ValueError):  # Linux; its getrusage would count what the parent held before this process began
        for line in Path(f"/proc/{process or 'self'}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if process is not None:
        return 0
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
