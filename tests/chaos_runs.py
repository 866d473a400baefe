"""Runs as processes that are watched: who belongs to them, what they hold, how long they take and what they leave."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

from mpq_fixtures.engines.work_data import folder_of
from mpq_fixtures.processes.clock import peak_memory

LOOK = 0.1
_MARK = "CHAOS_RUN"
_OF_OTHERS = ("pytest-of-", "torchinductor_")
"""Temporary folders that pytest and PyTorch keep from run to run."""


_running: list[Run] = []


class Run:
    """A process that was started, and all that come of it, which a variable of theirs tells.

    ``most`` is the most memory in MB that one of them has held, ``seconds`` how long the first one ran, ``hung`` whether it was ended
    because it took longer than ``limit`` seconds, ``survivors`` what outlived it by more than ``grace`` seconds.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, limit: float, grace: float = 5.0
    ) -> None:
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        self._strangers: set[int] = set()
        self.log, self.limit, self.grace, self.started = log, limit, grace, time.monotonic()
        self.most, self.seconds, self.hung = 0.0, 0.0, False
        self.survivors: list[str] = []
        name, _, value = self._mark.partition("=")
        with log.open("w") as output:
            self.process = subprocess.Popen(
                command, cwd=folder, env={**environment, name: value}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        _running.append(self)

    def members(self) -> list[int]:
        """Return the processes of the run."""
        found = []
        for process in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            if process == self.process.pid:
                if self.process.poll() is None:
                    found.append(process)
            elif process not in self._strangers:
                try:
                    variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
                except OSError:  # it is gone, or another user's
                    variables = [b"", b""]
                if self._mark.encode() in variables:
                    found.append(process)
                elif len(variables) > 1:  # there are none for a moment while a process becomes another program
                    self._strangers.add(process)
        return found

    def others(self) -> list[int]:
        """Return the processes of the run but for the one that was started."""
        return [process for process in self.members() if process != self.process.pid]

    def wait(self, seconds: float) -> bool:
        """Watch the run for some seconds, or until it has ended or hangs; return whether it has ended."""
        until = time.monotonic() + seconds
        while True:
            self.most = max(self.most, *map(memory_of, self.members()), 0.0)
            if self.process.poll() is not None:
                return True
            now = time.monotonic()
            if now - self.started > self.limit:
                self.hung = True
                with self.log.open("a") as log:
                    log.write("".join(f"\nchaos: hung: {what_keeps(process)}" for process in self.members()))
                for process in self.members():
                    send(process, signal.SIGKILL)
                self.process.wait()
                return True
            if now >= until:
                return False
            time.sleep(min(LOOK, until - now))

    def end(self) -> int:
        """Wait for the run's end, and for its processes to be gone; return its exit code."""
        while not self.wait(self.limit):
            pass
        self.seconds, ended = time.monotonic() - self.started, time.monotonic()
        while (left := self.members()) and time.monotonic() - ended < self.grace:
            time.sleep(LOOK / 2)
        for process in left:
            self.survivors.append(f"process {name_of(process)}")
            send(process, signal.SIGKILL)
        _running.remove(self)
        return self.process.returncode

    def signal(self, number: int) -> None:
        """Send a signal: an interrupt to all, as a terminal does, another one to the process that was started."""
        with suppress(ProcessLookupError):
            (os.killpg if number == signal.SIGINT else os.kill)(self.process.pid, number)

    def output(self) -> str:
        """Return what it wrote to its outputs."""
        return self.log.read_text(errors="replace")


def end_all() -> None:
    """End the runs that nobody waits for any more."""
    for run in _running:
        for process in run.members():
            send(process, signal.SIGKILL)


def send(process: int, number: int) -> None:
    """Send a signal to a process that may be gone."""
    with suppress(ProcessLookupError):
        os.kill(process, number)


def memory_of(process: int) -> float:
    """Return the most memory in MB that a process has held, 0 once it is gone."""
    return peak_memory(process) / 2**20


def age_of(process: int) -> float:
    """Return the seconds since a process began, 0 once it is gone."""
    try:
        began = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began


def what_keeps(process: int) -> str:
    """Return what each thread of a process is at, and its Python stacks where py-spy is installed."""
    lines = [name_of(process)]
    for thread in Path(f"/proc/{process}/task").glob("*"):
        with suppress(OSError):
            state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
            lines.append(f"  thread {thread.name}, {state}, {(thread / 'wchan').read_text()}")
    if spy := shutil.which("py-spy", path=os.pathsep.join((str(Path(sys.executable).parent), os.defpath))):
        dump = subprocess.run([spy, "dump", "--pid", str(process)], capture_output=True, text=True, timeout=60)
        lines.append(dump.stdout or dump.stderr)
    return "\n".join(lines)


def name_of(process: int) -> str:
    """Return the command of a process, 80 characters of it."""
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
    return str(process)


def left_behind(place: Path) -> list[str]:
    """Return what is in a run's folder, after the end of a run that nobody stopped, that has no more use."""
    found = [str(path.relative_to(place)) for path in place.rglob("*.part")]
    found += [f"tmp/{path.name}" for path in (place / "tmp").glob("*") if not path.name.startswith(_OF_OTHERS)]
    found += [f"out/{path.name}" for path in (place / "out").glob("*") if path.name == "parts" or path.name.startswith(".")]
    for work in (folder_of(place / "store"), *(place / "home" / "cache" / "mpq").glob("work/*")):
        found += [str(path.relative_to(place)) for path in work.glob("workers/*")]
        found += [f"{count} rows of {table} in {work.relative_to(place)}/claims.db" for table, count in claimed(work).items() if count]
    return sorted(set(found))


def claimed(work: Path) -> dict[str, int]:
    """Return how many rows each table has in which workers say what they are at."""
    if not (work / "claims.db").exists():
        return {}
    with closing(sqlite3.connect(work / "claims.db")) as file:
        names = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: file.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}


def entries_in(place: Path) -> dict[str, int]:
    """Return how many entries each file of a store has."""
    found = {}
    for path in (place / "store").glob("format-*/*/*.db"):
        table = "entries" if path.stem == "entries" else "members"
        with closing(sqlite3.connect(path)) as file:
            found[f"{path.parent.name}/{path.stem[:12]}"] = file.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
    return found
