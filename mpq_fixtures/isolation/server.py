"""What runs in a codec's own process: answers calls until the other end hangs up.

    python server.py DESCRIPTOR WHAT ARGUMENTS

``WHAT`` is ``module:callable`` or ``path/to/file.py:callable``; it is called once with the JSON object ``ARGUMENTS`` as keywords and
returns the object whose methods are then called. The file stands alone, with the standard library and numpy, since it also runs in
environments that do not have this package, on Python 3.8 and later.

A call is a JSON header ``{"call": method, "arguments": {...}, "array": [dtype, shape] or null}`` and a payload, which the method gets as
an array or as bytes. It returns bytes, an array, None, or one of these with a dictionary of plain fields. The answer is
``{"array": ..., "fields": {...}}`` and a payload, or ``{"error": type, "message": ..., "where": ...}``. What the codec's libraries
print goes to the standard error stream, never between the frames.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve what the command line names."""
    descriptor, what, arguments = int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    connection: Any = Connection(descriptor)
    try:
        served = _find(what)(**arguments)
        _send(connection, {"ready": os.getpid()}, b"")
    except BaseException as error:
        _send(connection, _told(error), b"")
        raise SystemExit(1) from error
    while True:
        try:
            header, payload = json.loads(connection.recv_bytes()), connection.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            answer = _call(served, header, payload)
        except Exception as error:
            answer = _told(error), b""
        _send(connection, *answer)


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


def _call(served: Any, header: Any, payload: bytes) -> Any:
    given: Any = payload
    if header["array"] is not None:
        import numpy as np

        kind, shape = header["array"]
        given = np.frombuffer(payload, kind).reshape(shape)
        given.flags.writeable = False
    answer = getattr(served, header["call"])(given, **header["arguments"])
    fields: Any = {}
    if isinstance(answer, tuple):
        answer, fields = answer
    if answer is None or isinstance(answer, (bytes, bytearray, memoryview)):
        return {"array": None, "fields": fields}, bytes(answer or b"")
    return {"array": [answer.dtype.str, list(answer.shape)], "fields": fields}, answer.tobytes()


def _told(error: BaseException) -> Any:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if "site-packages" not in frame.filename and "importlib" not in frame.filename] or frames
    where = "%s, line %s" % (Path(own[-1].filename).name, own[-1].lineno) if own else ""  # noqa: UP031
    return {"error": type(error).__name__, "message": " ".join(str(error).split())[:2000], "where": where}


def _send(connection: Any, header: Any, payload: bytes) -> None:
    connection.send_bytes(json.dumps(header).encode())
    connection.send_bytes(payload)


if __name__ == "__main__":
    main()
