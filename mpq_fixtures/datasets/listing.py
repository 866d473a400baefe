"""The files that may be meant by what a suite file says of a data set, and a digest of their list."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

YOUNG = 2_000_000_000
"""Nanoseconds: a file changed less than so long ago may change again within a tick of the clock, unseen (git: "racily clean")."""

_MAGIC = re.compile(r"[*?\[]")


def listing_of(path: str, settings: Mapping[str, Any]) -> str | None:
    """Return a digest of all files that may be meant: of more rather than of fewer; None where one was changed just now."""
    now, youngest, digest = time.time_ns(), 0, hashlib.sha256()
    for root, depth in roots_of(path, settings):
        for name, stat in _files(root, depth):
            youngest = max(youngest, stat.st_mtime_ns, stat.st_ctime_ns)
            digest.update(f"{name}\0{stat.st_mode} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n".encode(errors="surrogateescape"))
    return None if youngest > now - YOUNG else digest.hexdigest()


def roots_of(path: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
    """Yield the folders and files in which the data lie, and down to which level; None: all."""
    if not (files := settings.get("data_files")):
        yield settings.get("data_dir") or path, None
        return
    if os.path.isdir(path):  # noqa: PTH112  # its own README may say how its files are read
        yield path, None
    for pattern in dict.fromkeys(pattern for patterns in files.values() for pattern in patterns):
        if (magic := _MAGIC.search(pattern)) is None:
            yield pattern, None
        else:
            root, _, rest = pattern[: magic.start()].rpartition("/")
            levels = f"{rest}{pattern[magic.start() :]}".count("/")
            yield root or "/", None if "**" in pattern else levels


def _files(root: str, depth: int | None) -> Iterator[tuple[str, os.stat_result]]:
    """Yield what is in a folder, or a file itself, in a fixed order; of a link both itself and what it leads to.

    As ``datasets`` does not, this does not follow links to folders either.
    """
    if not os.path.isdir(root):  # noqa: PTH112  # 50,000 times over, here and below
        yield root, os.stat(root)  # noqa: PTH116
        return
    with os.scandir(root) as found:
        entries = sorted(found, key=lambda entry: entry.name, reverse=True)
    while entries:
        entry = entries.pop()  # for good: it keeps what it is asked for, which is five times its name
        yield entry.path, entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            try:
                yield str(Path(entry.path).readlink()), entry.stat()
            except OSError:
                continue  # it leads nowhere
        elif entry.is_dir() and depth != 0:
            yield from _files(entry.path, None if depth is None else depth - 1)
