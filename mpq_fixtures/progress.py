"""Progress of long cases on a terminal: samples done and time left, whichever process is at work.

Workers note where they are in small files; one thread of the controller shows them behind what pytest has written on the
current line, and takes the text away before pytest writes on. Without a terminal nothing is shown and nothing is noted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import pytest

from mpq_fixtures.processes.temporary import TemporaryFolder

_INTERVAL = 0.5


class ProgressWriter:
    """Notes one process's progress in its file."""

    def __init__(self, folder: str, worker: str) -> None:
        self._path = Path(folder, worker)
        self._case, self._started, self._first, self._noted = "", 0.0, 0, 0.0

    def __call__(self, case: str, done: int, total: int) -> None:
        """Note that ``done`` of ``total`` samples of a case are done; without a total, what it is at instead, "" for nothing."""
        now = time.monotonic()
        if case != self._case:
            self._case, self._started, self._first = case, now, done
        elif now - self._noted < _INTERVAL / 2 and done < total:
            return
        self._noted = now
        pace = (now - self._started) / (done - self._first) if done > self._first else None
        left = None if pace is None else pace * (total - done)
        part = self._path.with_suffix(".part")
        with contextlib.suppress(OSError):  # the board may be gone when a run is ending
            part.write_text(json.dumps({"case": case, "done": done, "total": total, "left": left}))
            part.replace(self._path)


class ProgressBoard:
    """Shows what the writers noted; does nothing unless standard output is a terminal."""

    def __init__(self) -> None:
        self.folder = ""
        self._temporary: TemporaryFolder | None = None
        self._file: int | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._shown = False
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if sys.__stdout__ is not None and sys.__stdout__.isatty() and os.environ.get("TERM", "dumb") != "dumb":
                # A descriptor of our own: while a test runs, pytest points the usual ones at its capture.
                self._file = os.dup(sys.__stdout__.fileno())
                self._temporary = TemporaryFolder("progress")
                self.folder = str(self._temporary.path)

    def writer(self) -> ProgressWriter | None:
        """Return the writer of the controller itself, which runs the cases where there are no workers."""
        return ProgressWriter(self.folder, "here") if self.folder else None

    def forget(self, worker: str) -> None:
        """Show nothing more of a worker that died."""
        if self.folder:
            Path(self.folder, worker).unlink(missing_ok=True)

    def start(self, config: pytest.Config) -> None:
        """Begin to show progress."""
        if self._file is None or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._show, args=(config.get_terminal_writer(),), daemon=True)
        self._thread.start()

    def clear(self) -> None:
        """Take the text away, so that pytest can write on."""
        with self._lock:
            if self._shown and self._file is not None:
                os.write(self._file, b"\x1b[K")
                self._shown = False

    def stop(self) -> None:
        """Show no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        self.clear()
        if self._temporary is not None:
            self._temporary.close()

    def _show(self, terminal: object) -> None:
        while not self._stopped.wait(_INTERVAL):
            room = shutil.get_terminal_size().columns - getattr(terminal, "width_of_current_line", 0) - 2
            text = " " + progress_line(Path(self.folder))
            if room < 20 or not text.strip() or self._file is None:
                continue
            with self._lock:
                # Save the cursor, write, clear the rest, restore: pytest goes on where it was.
                os.write(self._file, b"\x1b7" + text[:room].encode("ascii", "replace") + b"\x1b[K\x1b8")
                self._shown = True


def progress_line(folder: Path) -> str:
    """Return what the workers are at, in one line: ``whisper_pocket-opus-6k 32/120, 4 s left``."""
    parts = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        try:
            note = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # being replaced
        if not note["total"] and note["case"]:
            parts.append(note["case"])
        elif note["done"] < note["total"]:
            left = "" if note["left"] is None else f", {_duration(note['left'])} left"
            parts.append(f"{note['case']} {note['done']}/{note['total']}{left}")
    return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
