"""A codec as it is served in a process of its own by `mpq_fixtures.isolation.server`; this file is loaded there by its path.

The process has an empty working directory and an empty temporary folder. What Python code there opens is noted: files that were opened
for writing while encoding, and files that were opened for reading while decoding. What libraries open by themselves is not seen.
"""

from __future__ import annotations

import builtins
import importlib.util
import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mpq_fixtures.processes.clock import peak_memory


class CodecServer:
    """Makes the codec of ``address`` (`mpq_fixtures.codecs.from_address`) with the module search ``path`` of the process that asks.

    ``file`` is the source of the codec's module, for modules that are found by no path. ``stopped_clock`` are seconds since 1970 at
    which Python's clock stands still.
    """

    def __init__(self, address: dict[str, Any], path: list[str], file: str = "", stopped_clock: float | None = None) -> None:
        sys.path[:] = path
        if stopped_clock is not None:
            stop_clock(stopped_clock)
        _load(address["codec"].partition(":")[0], file)
        from mpq_fixtures.codecs import from_address

        self._codec: Any = from_address(address)
        self._watch = Watch()
        self._encoded = 0

    def ready(self, payload: bytes) -> None:
        """Answer, so that the caller knows that the process stands."""

    def encode(self, array: np.ndarray[Any, Any], quality: str, sample_rate: int | None = None) -> bytes:
        """Return the bytes of a picture, or of a sound where there is a sample rate."""
        from mpq_fixtures.signals import Audio, Image

        # The first encoding may fill caches of libraries; what a decoder is after is written by each.
        self._watch.reading, self._watch.writing = False, self._encoded > 0
        self._encoded += 1
        return bytes(memoryview(self._codec.encode(Image(array) if sample_rate is None else Audio(array, sample_rate), quality)))

    def decode(self, data: bytes) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
        """Return the array of what is decoded, and its sample rate where it is a sound."""
        from mpq_fixtures.conformance.signals import array_of

        self._watch.reading, self._watch.writing = True, False
        signal = self._codec.decode(bytes(data))
        array = array_of(signal)
        rate = getattr(signal, "sample_rate", None)
        return np.ascontiguousarray(array).reshape(array.shape), {"sample_rate": None if rate is None else int(rate)}

    def opened(self, payload: bytes) -> tuple[None, dict[str, list[str]]]:
        """Return the files that were written while encoding, and those that were read while decoding."""
        return None, {"written": sorted(self._watch.written), "read": sorted(self._watch.read)}

    def limit(self, data: bytes, memory: int) -> tuple[None, dict[str, float]]:
        """Let the process, and each of its workers, have ``memory`` bytes besides its libraries; return the seconds that ``data`` takes."""
        self._codec.decode(bytes(data))  # now the libraries stand
        started = time.monotonic()
        self._codec.decode(bytes(data))
        seconds = time.monotonic() - started
        with suppress(ImportError, OSError):  # only Linux says how much there is, and holds to it
            import resource

            for process in _processes():
                now = int(Path(f"/proc/{process}/statm").read_text().split()[0]) * resource.getpagesize()
                resource.prlimit(process, resource.RLIMIT_AS, (now + memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
        return None, {"seconds": seconds}

    def survive(self, data: bytes, refusal: str) -> tuple[None, dict[str, Any]]:
        """Decode damaged bytes, which may raise the built-in exception ``refusal``; return the fields of `fresh.Outcome`."""
        from mpq_fixtures.conformance.signals import array_of

        end, fault, started = "decoded", "", time.monotonic()
        try:
            signal = self._codec.decode(bytes(data))
        except Exception as error:
            end, fault = _end_of(error)
            if end == "refused" and not isinstance(error, getattr(builtins, refusal)):
                fault = f" raises {type(error).__name__}: {error}"
        else:
            try:
                array = array_of(signal)
                if array.dtype.kind == "f" and not (array.size and np.isfinite(array).all() and np.abs(array).max() <= 1):
                    fault = " decodes to values that are not finite or outside of -1..1"
            except TypeError as error:
                fault = f" decodes to something else: {error}"
        return None, {"end": end, "fault": fault, "seconds": time.monotonic() - started, "peak": _peak()}


class Watch:
    """Notes the files that Python code opens, by their real paths; those in the process's own folders by names that both sides share.

    ``written`` are those that encoding wrote, ``read`` those that decoding read and had not written itself.
    """

    def __init__(self) -> None:
        self.writing = self.reading = False
        self.written: set[str] = set()
        self.read: set[str] = set()
        self._by_decoding: set[str] = set()
        self._own = [
            (os.path.realpath(os.environ.get("TMPDIR", "/tmp")), "the temporary folder"),
            (os.path.realpath("."), "the working folder"),
        ]
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not (self.writing or self.reading):
            return
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            flags = int(arguments[2])
            to_write = bool(flags & (os.O_WRONLY | os.O_RDWR))
            self._note(arguments[0], to_write, not flags & os.O_WRONLY and not flags & os.O_TRUNC)
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._note(arguments[1], True, False)
        elif event == "sqlite3.connect" and isinstance(arguments[0], str | bytes):
            self._note(arguments[0], True, True)

    def _note(self, path: Any, to_write: bool, to_read: bool) -> None:
        name = self._name(path)
        if f"{os.sep}__pycache__{os.sep}" in name or name.startswith(("/proc/", "/dev/null", "/dev/urandom")):
            return
        if self.reading and to_read and name not in self._by_decoding:
            self.read.add(name)
        if to_write:
            (self.written if self.writing else self._by_decoding).add(name)

    def _name(self, path: Any) -> str:
        name = os.path.realpath(os.fsdecode(path))
        for folder, called in self._own:
            if name.startswith(folder + os.sep):
                return f"{name[len(folder) + 1 :]} in {called}"
        return name


def stop_clock(seconds: float) -> None:
    """Let Python's clock and calendar stand at ``seconds``; what measures how long something takes goes on."""
    calendar = {name: getattr(time, name) for name in ("gmtime", "localtime", "ctime")}
    stopped: dict[str, Any] = {"time": lambda: seconds, "time_ns": lambda: int(seconds * 1e9)}
    for name, real in calendar.items():
        stopped[name] = lambda given=None, real=real: real(seconds if given is None else given)
    stopped["strftime"] = lambda form, when=None, real=time.strftime: real(form, when or calendar["localtime"](seconds))
    for name, function in stopped.items():
        setattr(time, name, function)


def _load(module: str, file: str) -> None:
    """Load a module from its file where the path leads nowhere or to another file."""
    if not file or module in sys.modules:
        return
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is not None and spec.origin and os.path.realpath(spec.origin) == os.path.realpath(file):
        return
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is not None and spec.loader is not None:
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])


def _end_of(error: BaseException | None) -> tuple[str, str]:
    """Tell a refusal from a want of memory, which torch tells by words alone, and from the loss of a worker that did the decoding."""
    from mpq_fixtures.isolation.client import ProcessError, RemoteError

    while error is not None:
        if isinstance(error, MemoryError) or re.search("MemoryError|allocate memory|bad_alloc|OOM when", str(error)):
            return "memory", ""
        if isinstance(error, ProcessError) and not isinstance(error, RemoteError):
            return "lost", f": {error}"
        error = error.__cause__ or error.__context__
    return "refused", ""


def _processes() -> list[int]:
    """Return the numbers of this process and of its workers."""
    children = [file.read_text() for file in Path("/proc/self/task").glob("*/children")]
    return [os.getpid(), *map(int, " ".join(children).split())]


def _peak() -> int:
    """Return the most resident memory in bytes that this process or one of its workers has had; 0 where the system does not say."""
    with suppress(OSError):  # a thread that ended meanwhile
        return max(map(peak_memory, _processes()))
    return 0
