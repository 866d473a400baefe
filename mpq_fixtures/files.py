"""Files that are there whole or not at all."""

from __future__ import annotations

import io
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from mpq_fixtures.plain_text import is_utf8

# A temporary file is private; the result should be as readable as any other. The umask can only be read by setting it.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def for_arrow(path: Path, mode: Literal["rb", "wb"] = "rb") -> Path | io.FileIO:
    """Return a path as Arrow takes it: it knows no other names than UTF-8, and such a file is given to it open, without a buffer."""
    return path if is_utf8(os.fsencode(path)) else path.open(mode, buffering=0)


def check_regular(path: str | Path) -> os.stat_result:
    """Return what the system says of a file; raises ``OSError`` where there is none, or what reading may wait for, or never end, as pipes
    and devices."""
    found = os.stat(path)  # noqa: PTH116  # some 10,000 times over, and pathlib remembers every name that it has seen
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):  # of a folder, opening it says so
        raise OSError(f"{path} is no file, but a pipe or a device")
    return found


def read_regular(path: str | Path) -> bytes:
    """Return what a file holds; raises ``OSError`` where there is none, as `check_regular` does."""
    check_regular(path)
    with open(path, "rb") as file:  # noqa: PTH123  # as above
        return file.read()


def temporary_beside(path: Path) -> Path:
    """Make an empty temporary file in the folder of a path, which is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    os.close(descriptor)
    return Path(name)


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a temporary file its name, and make it as readable as any other."""
    temporary.chmod(0o666 & ~_UMASK)
    temporary.replace(path)


@contextmanager
def all_or_none() -> Iterator[Callable[[Path], Path]]:
    """Write several files: the block asks for each where to write it, and they get their names together once all of them are written."""
    temporary: dict[Path, Path] = {}

    def place(path: Path) -> Path:
        temporary[path] = temporary_beside(path)
        return temporary[path]

    try:
        yield place
        for path, piece in temporary.items():
            put_in_place(piece, path)
    finally:
        for piece in temporary.values():
            piece.unlink(missing_ok=True)


def write_atomically(path: Path, *parts: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, never a piece; its folder is made where it is missing."""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    except FileNotFoundError:  # seldom, and asking first would cost as much as the file
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
        put_in_place(Path(temporary), path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
