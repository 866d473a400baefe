"""An object of a file system of fsspec's that whoever comes first writes, and nobody after."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import Any


def create(files: Any, path: str, content: bytes, whole: bool) -> None:
    """Write an object unless there is one, so that nobody sees a piece of it, and of several who do so at once one does.

    The latter as far as a file system can: object stores that know conditions and folders with hard links. ``whole`` tells that an object
    is there whole or not at all, however it is written.
    """
    if files.exists(path):
        return
    try:
        _write(files, path, content) if whole else _put(files, path, content)
    except Exception:
        if not files.exists(path):  # by another's hand, or this one's, whose answer was lost
            raise


def _write(files: Any, path: str, content: bytes) -> None:
    try:
        files.pipe_file(path, content, mode="create")
    except TypeError:  # it knows no such mode
        files.pipe_file(path, content)


def _put(files: Any, path: str, content: bytes) -> None:
    """Write it under another name first, and give it its own if that is free."""
    folder, _, name = path.rpartition("/")
    files.makedirs(folder, exist_ok=True)
    piece = f"{folder}/.{name}.{uuid.uuid4().hex}.part"
    files.pipe_file(piece, content)
    if "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol):
        with suppress(OSError):  # it is there, or there are no links
            os.link(piece, path)
    if files.exists(path):
        files.rm_file(piece)
    else:
        files.mv(piece, path)
