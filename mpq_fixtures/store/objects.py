"""Objects of a file system of fsspec's, written so that nobody ever sees a piece of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}  # an object is there whole or not at all


def is_atomic(files: Any) -> bool:
    """Tell whether an object is there whole or not at all, however it is written."""
    return not _ATOMIC.isdisjoint(protocols(files))


def protocols(files: Any) -> tuple[str, ...]:
    """Return the names that a file system goes by in URLs."""
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)


def write(files: Any, path: str, content: bytes) -> None:
    """Write an object, in place of one of its name."""
    if is_atomic(files):
        files.pipe_file(path, content)
        return
    with _piece_beside(files, path, content) as piece:
        files.mv(piece, path)


def create(files: Any, path: str, content: bytes) -> None:
    """Write an object unless there is one; of several who do so at once one does.

    The latter as far as a file system can: object stores that know conditions and folders with hard links.
    """
    if files.exists(path):
        return
    try:
        _create_at_once(files, path, content) if is_atomic(files) else _create_by_link(files, path, content)
    except Exception:
        if not files.exists(path):  # by another's hand, or this one's, whose answer was lost
            raise


def _create_at_once(files: Any, path: str, content: bytes) -> None:
    try:
        files.pipe_file(path, content, mode="create")
    except TypeError:  # it knows no such mode
        files.pipe_file(path, content)


def _create_by_link(files: Any, path: str, content: bytes) -> None:
    with _piece_beside(files, path, content) as piece:
        if "file" in protocols(files):
            with suppress(OSError):  # it is there, or there are no links
                os.link(piece, path)
        if files.exists(path):
            files.rm_file(piece)
        else:
            files.mv(piece, path)


@contextmanager
def _piece_beside(files: Any, path: str, content: bytes) -> Iterator[str]:
    """Write content under another name in the folder of a path, and remove it where the block fails."""
    folder, _, name = path.rpartition("/")
    files.makedirs(folder, exist_ok=True)
    piece = f"{folder}/.{name}.{uuid.uuid4().hex}.part"  # two containers may each have a process of the same number
    try:
        files.pipe_file(piece, content)
        yield piece
    except BaseException:
        with suppress(Exception):
            files.rm_file(piece)
        raise


def modified(info: Mapping[str, Any]) -> float:
    """Return when an object was written, in seconds; 0 where the file system does not say."""
    for name in ("LastModified", "last_modified", "updated", "mtime", "created"):
        value = info.get(name)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, str):
            from datetime import datetime

            return datetime.fromisoformat(value).timestamp()
        if value is not None:
            return float(value.timestamp())
    return 0.0
