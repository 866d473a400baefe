"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# A temporary file is private; the result should be as readable as any other. The umask can only be read by setting it.
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def readable(temporary: Path) -> None:
    """Let a temporary file be as readable as any other."""
    temporary.chmod(0o666 & ~_UMASK)


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
        readable(Path(temporary))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
