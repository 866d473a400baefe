"""Folders and files that ``datasets`` has opened before: what it made of them is found again without asking it.

To open a folder ``datasets`` goes through it once for each of its patterns, some 40 times, also where its table is made already, which
takes 50 s for 50,000 files. Here the folder is listed once. Beside the tables of ``datasets`` (in ``HF_DATASETS_CACHE``) a small file
keeps a digest of that list (names, sizes, times of change) and says which Arrow files hold the table. Where the list is still the same
these are opened; where anything differs ``datasets`` opens the folder, as if there were no such file, and what it finds is what counts.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from filelock import FileLock

from mpq_fixtures import DISTRIBUTION
from mpq_fixtures.datasets.building import build, build_elsewhere
from mpq_fixtures.datasets.listing import listing_of
from mpq_fixtures.datasets.mapped import files_of, mapped
from mpq_fixtures.files import write_atomically
from mpq_fixtures.store import key_of

_FORMAT = 1


def cache_folder() -> Path:
    """Return the folder in which ``datasets`` keeps its tables at present, or where it will once it is imported."""
    if (datasets := sys.modules.get("datasets")) is not None:
        return Path(datasets.config.HF_DATASETS_CACHE)
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))  # noqa: PTH118
    return Path(os.environ.get("HF_DATASETS_CACHE", os.path.join(os.path.expanduser(home), "datasets")))  # noqa: PTH111, PTH118


def opened(path: str, settings: Mapping[str, Any], words: Mapping[str, str] = MappingProxyType({})) -> Mapping[Any, Any]:
    """Return the splits by name that ``datasets`` makes of what ``path`` and ``settings`` name: found again where nothing has changed.

    ``words`` names columns that are read as they are written, see `mpq_fixtures.datasets.building.as_written`.
    Of several processes that open the same for the first time one does, and the others wait for it. Raises whatever ``datasets`` does.
    """
    try:
        listing = listing_of(path, settings)
        memo = cache_folder() / "mpq" / f"{_key(path, settings, words)}.json"
        if listing is None:
            return _built(path, settings, words)[0]
        if (found := _load(memo, listing)) is not None:
            return found
        memo.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(memo.with_suffix(".lock"))
        lock.acquire()
    except OSError:  # a folder that may not be listed, or a cache that may not be written to: what comes of it says `datasets`
        return _built(path, settings, words)[0]
    try:
        if (found := _load(memo, listing)) is not None:
            return found
        splits, files = _built(path, settings, words)
        if files:
            _remember(memo, listing, files)
        return splits
    finally:
        lock.release()


def _built(path: str, settings: Mapping[str, Any], words: Mapping[str, str]) -> tuple[Mapping[Any, Any], dict[str, list[str]] | None]:
    """Return the splits, new, and the files that hold them, where these alone do."""
    if "datasets" not in sys.modules and (files := build_elsewhere(path, settings, words, cache_folder())) is not None:
        return {name: mapped(parts) for name, parts in files.items()}, files
    splits = build(path, settings, words)
    return splits, files_of(splits)


def _key(path: str, settings: Mapping[str, Any], words: Mapping[str, str]) -> str:
    versions = {package: version(package) for package in (DISTRIBUTION, "datasets", "pyarrow", "fsspec")}
    return key_of(path=path, settings=settings, words=dict(words), versions=versions, format=_FORMAT)


def _load(memo: Path, listing: str) -> dict[str, Any] | None:
    """Return the splits that were made of the same list of files; None where there are none, or they cannot be opened any more."""
    try:
        known = json.loads(memo.read_bytes())
        if known["listing"] != listing or any(_stamp(file) != stamp for files in known["splits"].values() for file, stamp in files):
            return None
        return {name: mapped([file for file, _ in files]) for name, files in known["splits"].items()}
    except Exception:  # whatever it is, `datasets` makes it again
        return None


def _remember(memo: Path, listing: str, files: Mapping[str, Sequence[str]]) -> None:
    """Note which files hold the splits."""
    with suppress(OSError):  # next time is as this one
        stamped = {name: [(file, _stamp(file)) for file in parts] for name, parts in files.items()}
        write_atomically(memo, json.dumps({"listing": listing, "splits": stamped}).encode())


def _stamp(file: str) -> list[int]:
    stat = os.stat(file)  # noqa: PTH116
    return [stat.st_size, stat.st_mtime_ns]
