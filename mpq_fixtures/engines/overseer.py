"""Who oversees the processes of a session and measures nothing: what it is held up by, what they died of, and what they did until then.

pytest's controller oversees its workers. Without workers the process that was started oversees a copy of itself, which runs the tests:
a crash in a library ends the copy, and the next one goes on from the store.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import sys
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock

from mpq_fixtures.engines.local import LocalEngine
from mpq_fixtures.engines.work_data import forget, lock_of, look_up
from mpq_fixtures.processes import under_way
from mpq_fixtures.processes.endings import end_with_parent, kill_with_descendants, once, stopping_signals
from mpq_fixtures.processes.temporary import TemporaryFolder
from mpq_fixtures.processes.under_way import NOTES, Notes, UnderWay

_LOOK = 0.5
"""Seconds between two looks at what processes are at."""


class Overseer:
    """Oversees the processes of a session, which share a folder for their claims; raises `OSError` where that cannot be written.

    A ``temporary`` folder is removed at the end.
    """

    def __init__(self, folder: Path, session: str, temporary: TemporaryFolder | None = None) -> None:
        self.folder, self.session, self._temporary = folder, session, temporary
        self.process = os.getpid()
        self._seen: dict[tuple[int, int], tuple[int, int]] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        file = lock_of(folder, session)
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(file)
        while True:
            self._lock.acquire()
            if file.exists():
                break
            self._lock.release()  # somebody took it for a dead one's, in the moment before it was held

    def watch(self, processes: Callable[[], Iterable[int]]) -> None:
        """End processes that are at a sample for too long, in a thread; ``processes`` names those that are ours to end."""

        def look() -> None:
            while not self._stopped.wait(_LOOK):
                self.look(processes())

        self._thread = threading.Thread(target=look, name="mpq-overseer", daemon=True)
        self._thread.start()

    def look(self, processes: Iterable[int]) -> None:
        """End those of some processes that are at a sample for too long.

        What counts is how often a process was looked at there, so that no time passes while all of them are stopped.
        """
        ours, seen = set(processes), {}
        for file, notes in self._notes():
            if notes.pid not in ours:
                continue
            for slot in notes.slots:
                written, looks = self._seen.get((notes.pid, slot.number), (slot.written, 0))
                looks = looks + 1 if written == slot.written else 0
                seen[notes.pid, slot.number] = slot.written, looks
                if slot.seconds and looks * _LOOK > slot.seconds and under_way.mark_late(file, slot):
                    kill_with_descendants(notes.pid)
        self._seen = seen

    def note_end(self, process: int, code: int) -> Notes | None:
        """Note how a process ended, as `subprocess` has it, and return what it was at; None where it left by itself."""
        for file, notes in self._notes():
            if notes.pid == process and not notes.ended:
                under_way.note_end(file, code)
                return under_way.read(file.with_suffix(""))
        return None

    def _notes(self) -> Iterable[tuple[Path, Notes]]:
        for file in self.folder.glob(f"workers/*{NOTES}"):
            if (notes := under_way.read(file.with_suffix(""))) and notes.session == self.session:
                yield file.with_suffix(""), notes

    def deaths(self) -> list[str]:
        """Return a sentence for each process that died in this session, as far as others have noted it."""
        return [words for (words,) in self._query("select words from deaths where session = ? order by rowid")]

    def accounts(self) -> list[dict[str, Any]]:
        """Return what the dead would have said of themselves at their end, as of when they last wrote something."""
        return [json.loads(account) for (account,) in self._query("select account from accounts where session = ?")]

    def _query(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return look_up(self.folder, query, self.session)
        except sqlite3.Error:  # no worker came so far
            return []

    def close(self) -> None:
        """Oversee no more."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(sqlite3.Error):
            forget(self.folder, self.session)
        self._lock.release()
        with suppress(OSError):
            lock_of(self.folder, self.session).unlink(missing_ok=True)
        if self._temporary is not None:
            self._temporary.close()


def can_be_copied(*programs: str) -> bool:
    """Tell whether this process can go on as a copy of itself: it is one of these programs, by name or by module, and nothing else.

    Not where others look over its shoulder, where threads would be lost, of torch's and a GPU's libraries too, or on systems that cannot.
    """
    main = getattr(sys.modules.get("__main__"), "__spec__", None)
    other = (main.name if main else Path(sys.argv[0]).stem) not in programs  # which goes on after what it called
    watched = sys.gettrace() is not None or sys.getprofile() is not None
    lost = threading.active_count() > 1 or "torch" in sys.modules
    return hasattr(os, "fork") and hasattr(signal, "sigwaitinfo") and not (other or watched or lost)


def engine_of_command(say: Callable[[str], None]) -> tuple[LocalEngine, UnderWay]:
    """Return what completes cases in a command of one process, in a copy of this one where that can be, and its notes."""
    notes = UnderWay()
    if not can_be_copied("mpq", "mpq_fixtures.__main__"):
        return LocalEngine(), notes
    folder = TemporaryFolder("work")
    overseer = Overseer(folder.path, uuid.uuid4().hex, folder)
    go_on_as_copy(overseer, lambda words: say(f"{words}; going on from the store"))
    engine = LocalEngine(overseer.folder, overseer.session, 1, notes)
    engine.join()
    return engine, notes


def go_on_as_copy(overseer: Overseer, say: Callable[[str], None]) -> int:
    """Return in a copy of this process, and in another one after it when that dies at something; never in this process itself.

    This one ends as the last copy did. ``say`` is told of each death. What is returned is how many copies there were before.
    """
    signals = {*stopping_signals(), signal.SIGCHLD, signal.SIGALRM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    for number in itertools.count():
        sys.stdout.flush()
        sys.stderr.flush()
        copy = os.fork()
        if copy == 0:
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                signal.signal(signal.SIGINT, once(signal.default_int_handler))
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            end_with_parent(overseer.process)
            return number
        code = os.waitstatus_to_exitcode(_wait(overseer, copy, signals))
        left = overseer.note_end(copy, code)
        if left is None or not (left.slots or left.test):  # it left by itself, or was at nothing that could be left out
            _end(overseer, code)
        say(under_way.told(left))
    raise AssertionError


def _wait(overseer: Overseer, copy: int, signals: set[int]) -> int:
    """Wait until a copy has ended, and hand on what comes meanwhile; return its status.

    What a terminal sends comes to the copy too, as to all processes in front of it. A timer says when to look: a wait that ends by itself
    returns a signal that never came where the process was suspended past its end, as CPython's ``signal.sigtimedwait`` does.
    """
    signal.setitimer(signal.ITIMER_REAL, _LOOK, _LOOK)
    while True:
        came = signal.sigwaitinfo(signals)
        if came.si_signo not in (signal.SIGCHLD, signal.SIGALRM) and came.si_pid:
            with suppress(ProcessLookupError):
                os.kill(copy, came.si_signo)
        ended, status = os.waitpid(copy, os.WNOHANG)
        if ended:
            return status
        if came.si_signo == signal.SIGALRM:
            overseer.look([copy])


def _end(overseer: Overseer, code: int) -> NoReturn:
    """End as a copy did."""
    overseer.close()
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {-code})
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)
