"""What runs in a codec's own process: answers calls until the other end hangs up.

    python server.py DESCRIPTOR WHAT ARGUMENTS

``WHAT`` is ``module:callable`` or ``path/to/file.py:callable``; it is called once with the JSON object ``ARGUMENTS`` as keywords and
returns the object whose methods are then called. The file stands alone, with the standard library and numpy, since it also runs in
environments that do not have this package, on Python 3.8 and later.

A message is `MAGIC`, the lengths of its two parts (32 and 64 bits, big endian), a JSON header and a payload. A call has the header
``{"call": method, "arguments": {...}, "array": [dtype, shape] or null}``, and the method gets the payload as an array or as bytes. It
returns bytes, an array, None, or one of these with a dictionary of plain fields. The answer is ``{"array": ..., "fields": {...}}`` and a
payload, or ``{"error": type, "message": ..., "where": ...}``. What the codec's libraries print goes to the standard error stream, never
between the messages.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

MAGIC = b"mpq\x01"
_LENGTHS = struct.Struct(">4sIQ")
_LONGEST_HEADER, _LONGEST_PAYLOAD = 1 << 24, 1 << 34


class ProtocolError(ValueError):
    """Bytes between the messages that are none of them."""


def send(connection: socket.socket, header: Any, payload: Any) -> None:
    """Send a message; ``payload`` is anything contiguous that has bytes."""
    text, content = json.dumps(header).encode(), memoryview(payload)
    connection.sendall(_LENGTHS.pack(MAGIC, len(text), content.nbytes) + text)
    if content.nbytes:
        connection.sendall(content)


def receive(connection: socket.socket) -> tuple[Any, bytearray]:
    """Return the header and the payload of the next message; raises `EOFError` at the end and `ProtocolError` for anything else."""
    magic, header, payload = _LENGTHS.unpack(_read(connection, _LENGTHS.size))
    if magic != MAGIC or header > _LONGEST_HEADER or payload > _LONGEST_PAYLOAD:
        raise ProtocolError("these bytes are no message")
    return json.loads(_read(connection, header)), _read(connection, payload)


def _read(connection: socket.socket, size: int) -> bytearray:
    content = bytearray(size)
    view = memoryview(content)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]
    return content


def main() -> None:
    """Serve what the command line names."""
    descriptor, what, arguments = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    sys.path.remove(str(Path(__file__).parent))  # its files are no modules of the codec's
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    connection, alone = socket.socket(fileno=descriptor), threading.Event()
    atexit.register(_end_if, alone)  # what is registered first runs last, after the codec's own
    threading.Thread(target=_end_with_the_other, args=(descriptor,), daemon=True).start()
    try:
        served = _find(what)(**arguments)
    except BaseException as error:
        send(connection, _told(error), b"")
        raise SystemExit(1) from error
    send(connection, {"ready": os.getpid()}, b"")
    while True:
        try:
            header, payload = receive(connection)
        except (EOFError, OSError):
            alone.set()
            return
        try:
            answer = _call(served, header, payload)
        except Exception as error:
            answer = _told(error), b""
        send(connection, *answer)


def _end_with_the_other(descriptor: int) -> None:
    """Wait until nobody is there to answer to, and end this process, whatever it is doing, if it does not end by itself."""
    poll = select.poll()
    poll.register(descriptor, 0)  # a hang-up is always reported
    poll.poll()
    time.sleep(0.5)
    _end()


def _end_if(alone: threading.Event) -> None:
    if alone.is_set():
        _end()


def _end() -> None:
    """End this process and all that it started; it leads a session of its own."""
    if os.getsid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _find(what: str) -> Any:
    source, _, name = what.rpartition(":")
    if source.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(source).stem, source)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(source)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _call(served: Any, header: Any, payload: bytearray) -> Any:
    given: Any
    if header["array"] is None:
        given = bytes(payload)
    else:
        import numpy as np

        kind, shape = header["array"]
        given = np.frombuffer(payload, kind).reshape(shape)
        given.flags.writeable = False
    answer = getattr(served, header["call"])(given, **header["arguments"])
    fields: Any = {}
    if isinstance(answer, tuple):
        answer, fields = answer
    if answer is None or isinstance(answer, (bytes, bytearray, memoryview)):
        return {"array": None, "fields": fields}, answer or b""
    return {"array": [answer.dtype.str, list(answer.shape)], "fields": fields}, answer.tobytes()


def _told(error: BaseException) -> Any:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if "site-packages" not in frame.filename and "importlib" not in frame.filename] or frames
    where = "%s, line %s" % (Path(own[-1].filename).name, own[-1].lineno) if own else ""  # noqa: UP031
    return {"error": type(error).__name__, "message": " ".join(str(error).split())[:2000], "where": where}


if __name__ == "__main__":
    main()
