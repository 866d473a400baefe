"""How large a store is and by what, and what of it may go."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpq_fixtures.store.base import Part
from mpq_fixtures.words import counted

RECENT = 600.0
"""Seconds that a part stays after it was last written: somebody may be at work on it."""
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_TIMES = {"h": 3600, "d": 86_400, "w": 7 * 86_400}


@dataclass(frozen=True)
class Size:
    """Bytes and files; ``whole`` is False where not everything was counted."""

    bytes: int
    files: int
    whole: bool = True

    def __str__(self) -> str:
        more = "" if self.whole else "more than "
        return f"{more}{in_bytes(self.bytes)} in {more}{counted(self.files, 'file')}"


def size_of(folders: Iterable[Path], seconds: float = float("inf")) -> Size:
    """Return the size of folders, as far as it can be counted in so many seconds."""
    size, files, until = 0, 0, time.monotonic() + seconds
    for entry in _files(folders):
        size, files = size + entry.stat(follow_symlinks=False).st_size, files + 1
        if time.monotonic() > until:
            return Size(size, files, whole=False)
    return Size(size, files)


def _files(folders: Iterable[Path]) -> Iterator[os.DirEntry[str]]:
    waiting: list[str | Path] = list(folders)
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    yield entry


@dataclass
class Share:
    """What an evaluation has in a layer; what several share is counted for each."""

    suite: str
    evaluation: str
    layer: str
    bytes: int = 0
    entries: int = 0
    parts: int = 0
    used: float = 0.0
    shared: bool = field(default=False)


def shares(parts: Iterable[Part]) -> list[Share]:
    """Return sizes by suite, evaluation and layer, the largest suite's first."""
    found: dict[tuple[str, str, str], Share] = {}
    totals: dict[str, int] = defaultdict(int)
    for part in parts:
        owners = sorted({(about.get("suite", ""), about.get("evaluation", "")) for about in part.about}) or [("", "")]
        for suite, evaluation in owners:
            share = found.setdefault((suite, evaluation, part.layer), Share(suite, evaluation, part.layer))
            share.bytes += part.bytes
            share.entries += part.entries
            share.parts += 1
            share.used = max(share.used, part.used)
            share.shared |= len(owners) > 1
            totals[suite] += part.bytes
    return sorted(found.values(), key=lambda share: (-totals[share.suite], share.suite, share.evaluation, share.layer))


def surplus(
    parts: Sequence[Part],
    now: float,
    older_than: float | None = None,
    named: Collection[str] | None = None,
    limit: int | None = None,
) -> list[Part]:
    """Return the parts that may go, least recently used first.

    Those unused for ``older_than`` seconds; those of which no case is ``named`` any more, where it is known whose they are; and then as
    many as it takes to come down to ``limit`` bytes. Never what was written within `RECENT` seconds.
    """
    gone: list[Part] = []
    left: list[Part] = []
    for part in sorted(parts, key=lambda part: (part.used, part.layer, part.key)):
        old = older_than is not None and now - part.used > older_than
        cases = {about["case"] for about in part.about if "case" in about}
        unnamed = named is not None and bool(cases) and cases.isdisjoint(named)
        (gone if old or unnamed else left).append(part)
    size = sum(part.bytes for part in left)
    for part in left if limit is not None else ():
        if limit is None or size <= limit:
            break
        gone.append(part)
        size -= part.bytes
    return [part for part in gone if now - part.used > RECENT]


def in_bytes(count: float) -> str:
    """Write a number of bytes: ``3.4 GB``."""
    for unit in _UNITS:
        if count < 1000 or unit == _UNITS[-1]:
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def duration(text: str) -> float:
    """Return the seconds of ``30d``, ``12h`` or ``2w``; raises `argparse.ArgumentTypeError` for anything else."""
    match = re.fullmatch(r"(\d+)([hdw])", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write 12h, 30d or 8w")
    return int(match[1]) * _TIMES[match[2]]


def amount(text: str) -> int:
    """Return the bytes of ``20GB``, ``500M`` or ``1.5T``; raises `argparse.ArgumentTypeError` for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kMGT]?)B?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write 500MB, 20GB or 1.5TB")
    return round(float(match[1]) * _SIZES[match[2]])
