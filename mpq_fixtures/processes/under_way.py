"""What a process is at, in a file that outlives it: where a library takes the whole process along, others know at which sample that was.

A note costs some microseconds, since the file is mapped into memory, which the system keeps when a process ends, however it ends. What is
mapped has its room on the disk before: a full one would end the process (SIGBUS). Beside it Python writes what it knows of a crash
(`faulthandler`), and who oversees the process how it ended. Only the files of a process that did not leave by itself stay.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import mmap
import os
import re
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

NOTES, FAULTS = ".at", ".fault"

STEPS = ("", "read", "encode", "decode", "predict", "score")
_HEAD = struct.Struct("<IIfBB")
"""Which note this is, bytes of its text, 0 where nothing is under way, seconds that it may take, the step, and whether it took longer."""
_SLOTS, _SIZE = 257, 2**16
"""The first slot tells of the process; of the others each thread takes one while it is at something. What nobody writes takes no room."""
_OWN = Path(__file__).parents[1]
_ENDED = "Ended: "
_KILLED = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
"""What is sent from outside, or by the system for want of memory."""
_FRAME = re.compile(r'^  File "(.*)", line (\d+) in ', re.MULTILINE)


class Place:
    """A thread's place in the file, while it is at some samples; a context manager."""

    __slots__ = ("_free", "_number", "_numbers", "_seconds", "_start", "_view")

    def __init__(self, view: mmap.mmap, number: int, free: list[int], numbers: Iterator[int], seconds: float) -> None:
        self._view, self._number, self._free, self._numbers, self._seconds = view, number, free, numbers, seconds
        self._start = number * _SIZE

    def note(self, step: str, ids: Sequence[str]) -> None:
        """Note a step and the samples: these first, so that nothing half written is taken for a note."""
        self._head("", 0)
        self._head(step, _write(self._view, self._start, "\0".join(ids)))

    def _head(self, step: str, size: int) -> None:
        _HEAD.pack_into(self._view, self._start, next(self._numbers) % 2**32, size, self._seconds, STEPS.index(step), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._head("", 0)
        self._free.append(self._number)


class _Nowhere(Place):
    """The place of a process of which nothing is noted."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def note(self, step: str, ids: Sequence[str]) -> None:
        pass

    def __exit__(self, *raised: object) -> None:
        pass


_NOWHERE = _Nowhere()


class UnderWay:
    """The notes of this process; nothing is noted before `open`."""

    def __init__(self) -> None:
        self._view: mmap.mmap | None = None
        self._file: Path | None = None
        self._notes: Any = None
        self._roomy: set[int] = set()  # places that have their room on the disk
        self._faults: Any = None
        self._free: list[int] = []
        self._numbers = itertools.count(1)
        self._about: dict[str, Any] = {}

    def open(self, file: Path, session: str) -> None:
        """Begin to take notes, of which ``file`` is the name without its ending, for who oversees this session; raises `OSError`."""
        self._notes = file.with_suffix(NOTES).open("w+b", buffering=0)  # open as long as the process
        self._notes.truncate(_SLOTS * _SIZE)
        self._make_room(0)
        self._view = mmap.mmap(self._notes.fileno(), _SLOTS * _SIZE)
        self._file, self._free = file, list(range(_SLOTS - 1, 0, -1))
        self._faults = file.with_suffix(FAULTS).open("w")  # open as long as the process
        faulthandler.enable(self._faults)
        self.about(session=session, pid=os.getpid())

    def about(self, **what: Any) -> None:
        """Note of the process as a whole: its ``test``, its ``work`` and to which ``series`` of cases that belongs, ``trial``."""
        if self._view is None or all(self._about.get(name) == value for name, value in what.items()):
            return
        self._about |= what
        _HEAD.pack_into(self._view, 0, 0, 0, 0, 0, 0)
        _HEAD.pack_into(self._view, 0, 0, _write(self._view, 0, json.dumps(self._about)), 0, 0, 0)

    def at(self, step: str, ids: Sequence[str], seconds: float = 0) -> Place:
        """Note that this thread is at a step of samples, which may take so long each, for ever where that is 0, until the place is left."""
        if self._view is None or not self._free:
            return _NOWHERE
        number = self._free.pop()
        try:
            self._make_room(number)
        except OSError:  # a full disk, which whoever writes what was measured will say
            self._free.append(number)
            return _NOWHERE
        place = Place(self._view, number, self._free, self._numbers, seconds * max(1, len(ids)))
        place.note(step, ids)
        return place

    def _make_room(self, number: int) -> None:
        if number not in self._roomy:
            os.pwrite(self._notes.fileno(), bytes(_SIZE), number * _SIZE)
            self._roomy.add(number)

    def close(self) -> None:
        """Leave nothing behind: this process ends by itself."""
        if self._view is None or self._file is None:
            return
        faulthandler.disable()
        with suppress(AttributeError, OSError, ValueError):
            faulthandler.enable(sys.__stderr__ or sys.stderr)
        self._view = None
        self._notes.close()
        self._faults.close()
        remove(self._file)


def _write(view: mmap.mmap, start: int, text: str) -> int:
    content = text.encode(errors="surrogateescape")[: _SIZE - _HEAD.size]
    view[start + _HEAD.size : start + _HEAD.size + len(content)] = content
    return len(content)


@dataclass(frozen=True)
class Slot:
    """What a thread was at: a step, the ids of samples, what that may take, and whether it took longer."""

    number: int
    written: int
    step: str
    samples: tuple[str, ...]
    seconds: float
    late: bool


@dataclass(frozen=True)
class Notes:
    """What a process noted of itself, how it ``ended``, in words, and ``fault``, its crash: nothing where it was killed from outside.

    Both are empty where nobody knows.
    """

    session: str
    pid: int
    test: str
    work: str
    series: str
    trial: bool
    slots: tuple[Slot, ...]
    ended: str
    fault: str


def read(file: Path) -> Notes | None:
    """Return the notes of a process that lives or died, of which ``file`` is the name without its ending; None where there are none."""
    try:
        with file.with_suffix(NOTES).open("rb", buffering=0) as notes:  # not mapped: even to look at a page takes room on some disks
            (_, text, *_), *others = (_slot(notes.fileno(), number) for number in range(_SLOTS))
    except (OSError, ValueError):  # there is none, or not all of it
        return None
    try:
        about = json.loads(text)
        session, pid = str(about["session"]), int(about["pid"])
    except (ValueError, TypeError, KeyError):
        return None
    slots = []
    for number, (written, said, seconds, step, late) in enumerate(others, 1):
        if said:
            slots.append(Slot(number, written, STEPS[step % len(STEPS)], tuple(said.split("\0")), seconds, bool(late)))
    known = {name: str(about.get(name, "")) for name in ("test", "work", "series")}
    ended, fault = _end(file.with_suffix(FAULTS))
    return Notes(session, pid, **known, trial=bool(about.get("trial")), slots=tuple(slots), ended=ended, fault=fault)


def note_end(file: Path, code: int) -> None:
    """Note how a process ended, of which ``file`` is the name without its ending: with an exit code, or by a signal, below 0."""
    words = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
    with file.with_suffix(FAULTS).open("a") as faults:
        faults.write(f"\n{_ENDED}{words}\n")


def remove(file: Path) -> None:
    """Remove the notes of a process, of which ``file`` is the name without its ending."""
    for ending in (NOTES, FAULTS):
        file.with_suffix(ending).unlink(missing_ok=True)


def told(notes: Notes) -> str:
    """Say in a sentence what a dead process was at."""
    late = [slot for slot in notes.slots if slot.late]
    how = "was ended, since it took too long," if late else f"died ({notes.fault or notes.ended or 'nobody knows of what'})"
    samples = [sample for slot in late or notes.slots for sample in slot.samples]
    if not samples:
        return f"a process {how}{f' in {notes.test}' if notes.test else ''}"
    return f"a process {how} at {', '.join(samples[:3])}{' and others' if len(samples) > 3 else ''} of {notes.work.rpartition(' ')[0]}"


def _slot(notes: int, number: int) -> tuple[int, str, float, int, int]:
    written, size, seconds, step, late = _head(notes, number)
    text = os.pread(notes, min(size, _SIZE - _HEAD.size), number * _SIZE + _HEAD.size) if size else b""
    return written, text.decode(errors="surrogateescape"), seconds, step, late


def _head(notes: int, number: int) -> tuple[int, int, float, int, int]:
    head = os.pread(notes, _HEAD.size, number * _SIZE)
    if len(head) < _HEAD.size:
        raise ValueError("the file is cut off")
    return _HEAD.unpack(head)


def mark_late(file: Path, slot: Slot) -> bool:
    """Note for whoever looks at a process that is ended now that this was why; return whether it still was at that."""
    with file.with_suffix(NOTES).open("r+b", buffering=0) as notes:
        written, size, seconds, step, _ = _head(notes.fileno(), slot.number)
        if written != slot.written:
            return False
        os.pwrite(notes.fileno(), _HEAD.pack(written, size, seconds, step, 1), slot.number * _SIZE)
    return True


def _end(file: Path) -> tuple[str, str]:
    """Return how a process ended, and its crash with the line of somebody's code: ``Segmentation fault, in codec.py, line 12``."""
    try:
        text = file.read_text(errors="replace")
    except OSError:
        return "", ""
    end = re.search(f"^{_ENDED}(.*)$", text, re.MULTILINE)
    ended = end[1] if end else ""
    what = re.search(r"^Fatal Python error: (.*)$", text, re.MULTILINE)
    if what is None:
        return ended, "" if ended in _KILLED else ended
    own = text[text.find("Current thread") :].partition("\n\n")[0]
    installed = {"site-packages", "dist-packages", Path(sysconfig.get_path("stdlib")).name}
    frames = [(Path(frame[1]), frame[2]) for frame in _FRAME.finditer(own)]
    frames = [(path, line) for path, line in frames if not (installed & set(path.parts) or path.is_relative_to(_OWN) or "<" in path.name)]
    return ended, what[1] + (f", in {frames[0][0].name}, line {frames[0][1]}" if frames else "")
