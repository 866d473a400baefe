"""Folders and files that ``datasets`` has opened before: what it made of them is found again without asking it.

To open a folder ``datasets`` goes through it once for each of its patterns, some 40 times, also where its table is made already, which
takes 50 s for 50,000 files. Here the folder is listed once. Beside the tables of ``datasets`` (in ``HF_DATASETS_CACHE``) a small file
keeps a digest of that list (names, sizes, times of change) and says which Arrow files hold the table. Where the list is still the same
these are opened; where anything differs ``datasets`` opens the folder, as if there were no such file, and what it finds is what counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from mpq_fixtures.files import write_atomically
from mpq_fixtures.store import key_of
from mpq_fixtures.texts import is_utf8

if TYPE_CHECKING:
    import pyarrow as pa

YOUNG = 2_000_000_000
"""Nanoseconds: a file changed less than so long ago may change again within a tick of the clock, unseen (git: "racily clean")."""

_FORMAT = 1
_MAGIC = re.compile(r"[*?\[]")


def cache_folder() -> Path:
    """Return the folder in which ``datasets`` keeps its tables at present, or where it will once it is imported."""
    if (datasets := sys.modules.get("datasets")) is not None:
        return Path(datasets.config.HF_DATASETS_CACHE)
    home = os.environ.get("HF_HOME", os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface"))  # noqa: PTH118
    return Path(os.environ.get("HF_DATASETS_CACHE", os.path.join(os.path.expanduser(home), "datasets")))  # noqa: PTH111, PTH118


def opened(path: str, settings: Mapping[str, Any], build: Callable[[], Any]) -> Any:
    """Return the splits by name that ``build`` makes of what ``path`` and ``settings`` name: found again where nothing has changed.

    Of several processes that open the same for the first time one builds, and the others wait for it.
    """
    try:
        listing = _listing(path, settings)
        memo = cache_folder() / "mpq" / f"{_key(path, settings)}.json"
        if listing is None:
            return build()
        if (found := _load(memo, listing)) is not None:
            return found
        memo.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(memo.with_suffix(".lock"))
        lock.acquire()
    except OSError:  # a folder that may not be listed, or a cache that may not be written to: what comes of it says `datasets`
        return build()
    try:
        if (found := _load(memo, listing)) is None:
            found = build()
            _save(memo, listing, found)
        return found
    finally:
        lock.release()


def _key(path: str, settings: Mapping[str, Any]) -> str:
    versions = {package: version(package) for package in ("mpq", "datasets", "pyarrow", "fsspec")}
    return key_of(path=path, settings=settings, versions=versions, format=_FORMAT)


def _listing(path: str, settings: Mapping[str, Any]) -> str | None:
    """Return a digest of all files that may be meant: of more rather than of fewer; None where one was changed just now."""
    now, youngest, digest = time.time_ns(), 0, hashlib.sha256()
    for root, depth in _roots(path, settings):
        for name, stat in _files(root, depth):
            youngest = max(youngest, stat.st_mtime_ns, stat.st_ctime_ns)
            digest.update(f"{name}\0{stat.st_mode} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n".encode(errors="surrogateescape"))
    return None if youngest > now - YOUNG else digest.hexdigest()


def _roots(path: str, settings: Mapping[str, Any]) -> Iterator[tuple[str, int | None]]:
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
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        yield entry.path, entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            try:
                yield str(Path(entry.path).readlink()), entry.stat()
            except OSError:
                continue  # it leads nowhere
        elif entry.is_dir() and depth != 0:
            yield from _files(entry.path, None if depth is None else depth - 1)


def _load(memo: Path, listing: str) -> Any:
    """Return the splits that were made of the same list of files; None where there are none, or they cannot be opened any more."""
    try:
        known = json.loads(memo.read_bytes())
        if known["listing"] != listing or any(_stamp(file) != stamp for files in known["splits"].values() for file, stamp in files):
            return None
        return {name: _mapped([file for file, _ in files]) for name, files in known["splits"].items()}
    except Exception:  # whatever it is, `datasets` makes it again
        return None


def _save(memo: Path, listing: str, splits: Any) -> None:
    """Remember which files hold the splits, if they alone do."""
    files = {str(name): [part["filename"] for part in split.cache_files] for name, split in splits.items()}
    try:
        for name, split in splits.items():
            again = _mapped(files[str(name)])
            if len(again) != len(split) or _told(again.data.schema) != split.features.to_dict():
                return
        stamped = {name: [(file, _stamp(file)) for file in parts] for name, parts in files.items()}
        write_atomically(memo, json.dumps({"listing": listing, "splits": stamped}).encode())
    except Exception:  # next time is as this one
        return


def _mapped(files: Sequence[str]) -> Any:
    """Return the table in Arrow files, mapped from disk: where columns are nested by ``datasets``, which takes a second to import."""
    import pyarrow as pa

    data = pa.concat_tables([pa.ipc.open_stream(pa.memory_map(file)).read_all() for file in files])
    told = _told(data.schema)
    if all(one.get("_type") in _PLAIN for one in told.values()) and list(told) == data.column_names:
        return Mapped(data, {name: Feature(one["_type"], one.get("dtype", ""), one.get("names")) for name, one in told.items()})
    import datasets

    parts = [datasets.Dataset.from_file(file) for file in files]
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _told(schema: pa.Schema) -> dict[str, Any]:
    """Return the features that ``datasets`` wrote into a file."""
    features: dict[str, Any] = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    return features


_PLAIN = {"Value", "ClassLabel", "Image", "Audio"}
"""Types of features that hold no others."""


class Feature:
    """What ``datasets`` says of a column, as its own features have it; ``names`` are the classes of a ``ClassLabel``."""

    def __init__(self, kind: str, dtype: str, names: list[str] | None) -> None:
        self._type, self.names = kind, names
        self.dtype = {"ClassLabel": "int64", "Image": "PIL.Image.Image", "Audio": "dict"}.get(kind, dtype)


@dataclass(frozen=True)
class Mapped:
    """A table that is mapped from disk, with what data sets ask of a `datasets.Dataset`, and as there."""

    data: pa.Table
    features: Mapping[str, Feature]

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""
        return list(self.features)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def unique(self, column: str) -> list[Any]:
        """Return the values of a column, each once."""
        return list(self.data.column(column).unique().to_pylist())


def _stamp(file: str) -> list[int]:
    stat = os.stat(file)  # noqa: PTH116
    return [stat.st_size, stat.st_mtime_ns]


@contextmanager
def listed_once(path: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """Let ``datasets`` list each folder of the data once, not for each of its patterns, and see the same files but those with names
    that it cannot take."""
    import fsspec  # type: ignore[import-untyped]
    from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

    roots = tuple(os.path.join(os.path.realpath(root), "") for root, _ in _roots(path, settings))  # noqa: PTH118

    class Listed(LocalFileSystem):  # type: ignore[misc]
        """Local files as they were when they were first listed."""

        found: dict[tuple[str, int | None, bool], Any] = {}  # the class lives no longer than its one instance
        files: dict[str, Any] = {}

        def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any) -> Any:
            if not detail or kwargs or not f"{path.rstrip('/')}/".startswith(roots):
                return super().find(path, maxdepth, withdirs, detail, **kwargs)
            asked = path, maxdepth, withdirs
            if asked not in self.found:
                found = super().find(path, maxdepth, withdirs, detail)
                self.found[asked] = {name: about for name, about in found.items() if name.isascii() or is_utf8(os.fsencode(name))}
                self.files.update(self.found[asked])
            return dict(self.found[asked])

        def info(self, path: Any, **kwargs: Any) -> Any:
            known = self.files.get(path) if isinstance(path, str) else None
            return dict(known) if known and known["type"] == "file" else super().info(path, **kwargs)

    for protocol in ("file", "local"):
        fsspec.register_implementation(protocol, Listed, clobber=True)
    try:
        yield
    finally:
        for protocol in ("file", "local"):
            fsspec.register_implementation(protocol, LocalFileSystem, clobber=True)
