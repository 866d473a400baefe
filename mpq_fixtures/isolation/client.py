"""A codec's own process, as seen from here: started once, spoken to, ended and started again when it dies or takes too long."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from mpq_fixtures.isolation import server
from mpq_fixtures.processes.endings import kill_with_descendants

SERVER = Path(server.__file__)
SECONDS = 120.0
"""What a call may take; what the first one may take is `STARTING`, since it waits for the libraries to be imported."""
STARTING = 300.0
_LAST_WORDS = 600  # characters of the process's error stream in a message


class ProcessError(RuntimeError):
    """The process died, took too long, or answered with an error; the message says which."""


class RemoteError(ProcessError):
    """What was called in the process raised; ``kind`` is the exception's type there."""

    def __init__(self, kind: str, message: str, where: str) -> None:
        super().__init__(message + (f" ({where})" if where else ""))
        self.kind, self.where = kind, where


class _UnreadError(ProcessError):
    """The process ended with a message unread, so that nothing in the message ended it."""


class CodecProcess:
    """A process that serves ``what`` (see `mpq_fixtures.isolation.server`) to one caller at a time.

    ``python`` is the interpreter, ``environment`` replaces or adds variables, and removes those that are None; ``folder`` is its working
    directory. It is started by the first call. A call that takes longer than ``seconds`` ends it; the next call starts it again.
    """

    def __init__(
        self,
        what: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        python: str | Path = sys.executable,
        environment: Mapping[str, str | None] | None = None,
        folder: Path | None = None,
        seconds: float = SECONDS,
    ) -> None:
        self.what, self.arguments, self.seconds = what, dict(arguments or {}), seconds
        self._command: Sequence[str] = [str(python), str(SERVER)]
        self._environment = {name: value for name, value in {**os.environ, **(environment or {})}.items() if value is not None}
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._errors: IO[bytes] | None = None
        self._owner = os.getpid()
        self._guard = threading.Lock()

    def call(self, method: str, payload: bytes | np.ndarray[Any, Any] = b"", **arguments: Any) -> tuple[Any, dict[str, Any]]:
        """Return what the method returned there, bytes or an array, and its fields; raises `ProcessError`."""
        if self._owner != os.getpid():  # the process of somebody whom this one is a fork of
            self._process, self._connection, self._owner, self._guard = None, None, os.getpid(), threading.Lock()
        with self._guard:
            if self._process is None or self._process.poll() is not None or self._has_hung_up():
                self._start()
            array, data = None, payload
            if isinstance(payload, np.ndarray):
                array, data = [payload.dtype.str, list(payload.shape)], np.ascontiguousarray(payload).reshape(-1)
            question = {"call": method, "arguments": arguments, "array": array}
            try:
                header, answer = self._exchange(question, data, self.seconds)
            except _UnreadError:  # the process was going when it was asked, which nothing showed yet
                self._start()
                header, answer = self._exchange(question, data, self.seconds)
            if header.get("array") is None:
                return bytes(answer), header.get("fields", {})
            kind, shape = header["array"]
            return np.frombuffer(answer, kind).reshape(shape), header["fields"]

    def _has_hung_up(self) -> bool:
        """Tell whether the process closed its end: it does so a moment before its exit can be seen."""
        assert self._connection is not None
        try:
            return self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if process is not None:
            try:
                process.wait(1)  # it ends by itself when nobody is there any more
            except subprocess.TimeoutExpired:
                _kill(process)
                process.wait()
        if self._errors is not None:
            self._errors.close()
            self._errors = None
        atexit.unregister(self.close)

    def _start(self) -> None:
        self.close()
        self._connection, theirs = socket.socketpair()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        command = [*self._command, str(theirs.fileno()), self.what, json.dumps(self.arguments)]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=self._errors,
                    stderr=self._errors,
                    pass_fds=[theirs.fileno()],
                    env=self._environment,
                    cwd=self._folder,
                    start_new_session=True,  # Ctrl-C ends it through us, when the sample under way is done or given up
                )
            except OSError as error:
                self.close()
                raise ProcessError(f"the codec's process cannot be started: {error}") from error
        atexit.register(self.close)
        try:
            self._exchange(None, b"", STARTING)
        except RemoteError:
            self.close()
            raise

    def _exchange(self, header: Mapping[str, Any] | None, payload: Any, seconds: float) -> tuple[dict[str, Any], bytearray]:
        """Send a message, where there is one, and return the next that comes; what goes wrong ends the process."""
        process, connection = self._process, self._connection
        assert process is not None
        assert connection is not None
        late = threading.Event()

        def expire() -> None:
            late.set()
            _kill(process)

        limit = threading.Timer(seconds, expire)
        limit.daemon = True
        limit.start()
        try:
            if header is not None:
                server.send(connection, header, payload)
            answer, data = server.receive(connection)
        except (EOFError, OSError, ValueError) as error:
            how = f"took longer than {seconds:g} s and was ended" if late.is_set() else ""
            unread = isinstance(error, (ConnectionResetError, BrokenPipeError)) and not late.is_set()
            kind = _UnreadError if unread else ProcessError
            raise kind(self._epitaph(process, how, stray=isinstance(error, ValueError))) from error
        except BaseException:  # interrupted amid a message: what comes next would be read out of step
            _kill(process)
            self.close()
            raise
        finally:
            limit.cancel()
        if "error" in answer:
            raise RemoteError(answer["error"], f"{answer['error']}: {answer['message']}".removesuffix(": "), answer["where"])
        return answer, data

    def _epitaph(self, process: subprocess.Popen[bytes], how: str, stray: bool) -> str:
        """End what is left of the process, and say how it ended and what it said last."""
        if stray:
            how = how or "wrote to the connection that its answers come through, and was ended"
        else:
            with suppress(subprocess.TimeoutExpired):  # the connection ends a moment before the process
                process.wait(1)
        _kill(process)
        code = process.wait()
        words = ""
        if self._errors is not None:
            size = self._errors.seek(0, os.SEEK_END)
            self._errors.seek(max(0, size - 8 * _LAST_WORDS))
            words = " ".join(self._errors.read().decode("utf-8", "replace").split())[-_LAST_WORDS:]
        self.close()
        how = how or (f"ended with {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}")
        return f"the codec's process {how}" + (f"; its last words: {words}" if words else "")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started; it leads a session of its own, and so do the commands that it runs."""
    if process.returncode is None:  # else its number may be another's by now
        kill_with_descendants(process.pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
