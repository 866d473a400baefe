"""A store at a URL that fsspec understands: one immutable object a pack, so that nothing has to be locked between machines.

``<url>/format-2/<layer>/<scope>/<digest>-<rows>.pack``: the digest of the samples, 16 bytes; the samples, 32 bytes each; the pack. The
digest in the name is that of the whole object: one that was uploaded in part is never taken. Who wants to know what there is lists the
scope and reads the beginnings of what is new.
"""

from __future__ import annotations

import errno
import json
import os
import re
import time
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import platformdirs
from filelock import FileLock

from mpq_fixtures.store import objects, packs
from mpq_fixtures.store.base import FORMAT, MARKER, Part, Scope, Source, Store, StoreError, mark, newer_format
from mpq_fixtures.store.packs import KEY_BYTES, digest_of

if TYPE_CHECKING:
    import pyarrow as pa

PATIENCE = 120.0
"""Seconds that an object store may not answer."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 16.0
_TOGETHER, _TOGETHER_MOST = 64 * 2**20, 32  # bytes and objects that are fetched at once
_KEPT = 64 * 2**20
"""Bytes of the tables last read that a store keeps in memory: batches are smaller than packs, and the next one has the same."""
_DAY = 86_400
_DIGEST = 16
_NAME = re.compile(r"([0-9a-f]{32})-(\d+)\.pack")
_EXTRAS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs"}
_FINAL = (PermissionError, NotADirectoryError, IsADirectoryError, FileExistsError)
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_FINAL_NUMBERS = {errno.EROFS, *_NO_ROOM}  # which have no classes of their own
_CLIENTS = {"aiohttp", "aiobotocore", "botocore", "gcsfs", "google", "azure", "requests", "urllib3", "fsspec"}
_HOPELESS = {"NoCredentialsError", "PartialCredentialsError", "ParamValidationError", "InvalidRegionError"}

T = TypeVar("T")


class StoreDoesNotAnswer(UserWarning):
    """The object store does not answer for now; it is asked again."""


class RemoteStore(Store):
    """The store at a URL. ``settings`` are fsspec's for its file system; credentials come from where that looks for them."""

    def __init__(self, url: str, **settings: Any) -> None:
        super().__init__(url)
        self._settings = settings
        self._opened: tuple[int, Any, str] | None = None
        self._swept: set[str] = set()
        self.kept = _Kept(_KEPT)
        self._checked = self._marked = self._told = False

    def scope(self, layer: str, key: str, about: Mapping[str, str] | None = None) -> Scope:
        """Return the scope of a layer."""
        return RemoteScope(self, layer, key, about or {})

    def get(self, layer: str, key: str) -> bytes | None:
        """Return a single entry's payload, or None where there is none or it is damaged."""
        self._check()
        path = self._entry(layer, key)
        try:
            content: bytes = self.ask(lambda files: files.cat_file(self.path(path)))
        except FileNotFoundError:
            return None
        payload = content[_DIGEST:]
        if digest_of(payload) == content[:_DIGEST]:
            self.reused[layer] += 1
            return payload
        self.drop(layer, key, key)
        self.remove_objects([path])
        return None

    def put(self, layer: str, key: str, payload: bytes) -> None:
        """Write a single entry; afterwards it is there whole, whatever happens in between."""
        self.upload(self._entry(layer, key), digest_of(payload) + payload)
        self.computed[layer] += 1

    def settle(self, layer: str, key: str, payload: bytes) -> bytes:
        """Write a single entry unless there is one, of another machine too, and return the one that is there."""
        self._check(write=True)
        path, content = self.path(self._entry(layer, key)), digest_of(payload) + payload
        self._explained(lambda: self.ask(lambda files: objects.create(files, path, content)))
        return self.get(layer, key) or payload

    @contextmanager
    def lock(self, layer: str, key: str) -> Iterator[None]:
        """Keep other processes and threads of this machine from making the same entry; two machines that do leave one entry."""
        folder = Path(platformdirs.user_cache_dir("mpq", appauthor=False), "locks", digest_of(self.location.encode()).hex())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f"{layer}-{key[:2]}.lock")
            lock.acquire()
        except OSError as error:
            raise StoreError(f"cannot lock for the store {self.location} in {folder}: {error.strerror or error}") from error
        try:
            yield
        finally:
            lock.release()

    def path(self, name: str) -> str:
        """Return what the file system calls an object."""
        return f"{self._files()[1]}/{name}"

    def upload(self, name: str, content: bytes) -> None:
        """Write an object; who lists meanwhile sees it whole or not at all."""
        self._check(write=True)

        def write(files: Any) -> None:
            path = self.path(name)
            if not objects.is_atomic(files):
                self._sweep(files, path.rpartition("/")[0])
            objects.write(files, path, content)

        self._explained(lambda: self.ask(write))

    def _sweep(self, files: Any, folder: str) -> None:
        """Remove pieces that processes left which were killed while they wrote; nobody writes at one for a day."""
        if folder in self._swept:
            return
        self._swept.add(folder)
        with suppress(OSError):  # another process sweeps, too; and what keeps this one from it, who writes will say
            for info in files.ls(folder, detail=True):
                name = info["name"].rpartition("/")[2]
                if name.startswith(".") and name.endswith(".part") and 0 < _modified(info) < time.time() - _DAY:
                    files.rm_file(info["name"])

    def remove_objects(self, names: Sequence[str]) -> None:
        """Remove objects, those that are still there."""
        for name in names:

            def remove(files: Any, path: str = self.path(name)) -> None:
                if files.exists(path):
                    files.rm_file(path)

            self._explained(lambda remove=remove: self.ask(remove))  # type: ignore[misc]

    def listed(self, folder: str) -> dict[str, dict[str, Any]]:
        """Return what lies in a folder now, by name."""
        self._check()

        def look(files: Any) -> list[dict[str, Any]]:
            path = self.path(folder)
            files.invalidate_cache(path)
            found: list[dict[str, Any]] = files.ls(path, detail=True)
            return found

        try:
            found = self.ask(look)
        except FileNotFoundError:
            return {}
        return {info["name"].rpartition("/")[2]: info for info in found if info.get("type") != "directory"}

    def ask(self, action: Callable[[Any], T]) -> T:
        """Do something with the file system; what fails because it does not answer is done again, with growing waits."""
        began, wait = time.monotonic(), FIRST_WAIT
        while True:
            files, _ = self._files()
            try:
                return action(files)
            except FileNotFoundError:
                raise
            except Exception as error:
                if isinstance(error, _FINAL) or (isinstance(error, OSError) and error.errno in _FINAL_NUMBERS):
                    raise self._error_of(error) from error
                if not _may_pass(error):
                    raise self._error(f"{type(error).__name__}: {error}") from error
                if time.monotonic() - began + wait > PATIENCE:
                    raise self._error(f"it has not answered for {PATIENCE:.0f} s ({type(error).__name__}: {error})") from error
                if not self._told:
                    self._told = True
                    reason = f"{type(error).__name__}: {error}"
                    sentence = f"the store {self.location} does not answer ({reason}): trying again for up to {PATIENCE:.0f} s"
                    warnings.warn(StoreDoesNotAnswer(sentence), stacklevel=2)
                time.sleep(wait)
                wait = min(2 * wait, LONGEST_WAIT)

    def close(self) -> None:
        """Drop what is kept in memory."""
        self.kept = _Kept(_KEPT)

    def parts(self) -> Iterator[Part]:
        """Yield the scopes and single entries."""
        self._check()
        try:
            found = self.ask(lambda files: files.find(self.path(f"format-{FORMAT}"), detail=True))
        except FileNotFoundError:
            return
        base = self.path("")
        scopes: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
        for path, info in found.items():
            _, layer, key, _ = path.removeprefix(base).split("/")
            scopes[layer, key].append(info)
        for (layer, key), infos in scopes.items():
            names = [info["name"].removeprefix(base) for info in infos]
            abouts = [self.ask(lambda files, name=name: files.cat_file(self.path(name))) for name in names if "/about-" in name]  # type: ignore[misc]
            counts = [int(match[2]) for name in names if (match := _NAME.fullmatch(name.rpartition("/")[2]))]
            entries = len(infos) if key == "entries" else sum(counts)
            size, used = sum(info["size"] or 0 for info in infos), max(map(_modified, infos))
            yield Part(
                layer, "" if key == "entries" else key, size, len(infos), entries, used, [json.loads(content) for content in abouts], names
            )

    def remove(self, part: Part) -> bool:
        """Remove a part."""
        self.remove_objects(part.files_of)
        return True

    def _entry(self, layer: str, key: str) -> str:
        return f"format-{FORMAT}/{layer}/entries/{key}"

    def _check(self, write: bool = False) -> None:
        """Refuse a store of a newer format; ``write`` says whether to mark one that has no mark yet."""
        if not self._checked:
            try:
                message = newer_format(self.location, self.ask(lambda files: files.cat_file(self.path(MARKER))))
                self._marked = True
            except FileNotFoundError:
                message = ""
            if message:
                raise StoreError(message)
            self._checked = True
        if write and not self._marked:
            self._marked = True
            self.upload(MARKER, mark())

    def _files(self) -> tuple[Any, str]:
        """Return the file system and the store's path there; a process that was forked has its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            import fsspec  # type: ignore[import-untyped]

            protocol = self.location.partition("://")[0]
            try:
                files, path = fsspec.core.url_to_fs(self.location.rstrip("/"), **self._settings)
            except ImportError as error:
                package = _EXTRAS.get(protocol)
                how = f"pip install {package}" if package else str(error)
                raise StoreError(f"--mpq-cache {self.location}: {protocol}:// needs a package that is not here: {how}") from error
            except ValueError as error:
                raise StoreError(f"--mpq-cache {self.location}: {error}; give a folder, or a URL as s3://bucket/prefix") from error
            self._opened = os.getpid(), files, path
        return self._opened[1], self._opened[2]

    def _explained(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except StoreError:
            raise
        except OSError as error:
            raise self._error_of(error) from error

    def _error_of(self, error: OSError) -> StoreError:
        way = "free some room or " if error.errno in _NO_ROOM else ""
        return self._error(error.strerror or str(error) or type(error).__name__, way)

    def _error(self, reason: str, way: str = "") -> StoreError:
        return StoreError(f"cannot use the store {self.location}: {reason}; {way}give another one with --mpq-cache")


class RemoteScope(Scope):
    """A scope of immutable objects; what was learned of them is remembered."""

    def __init__(self, store: RemoteStore, layer: str, key: str, about: Mapping[str, str]) -> None:
        self.store, self.layer, self.key = store, layer, key
        self._folder, self._bound = f"format-{FORMAT}/{layer}/{key}", f"{layer} {key}"
        self._about = json.dumps(about, sort_keys=True).encode() if about else b""
        self._noted = not about
        self._members: dict[str, list[bytes]] = {}  # the samples of each object
        self._places: dict[bytes, str] = {}  # an object that has a sample
        self._sizes: dict[str, int] = {}
        self._bad: set[str] = set()

    def found(self, sources: Iterable[Source]) -> set[Source]:
        """Return which of these samples have an entry."""
        sources = list(sources)
        keys = packs.keys_for(sources)
        self._look_for(keys)
        return {source for source, key in zip(sources, keys, strict=True) if key in self._places}

    def read(self, sources: Iterable[str] | Iterable[bytes], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the entries of those samples that have one, object by object."""
        wanted = set(packs.keys_for(sources))
        self._look_for(wanted)
        while names := sorted({self._places[key] for key in wanted if key in self._places}):  # again where one was damaged or is gone
            for name, table in self._tables(names):
                keys = self._members.get(name, [])
                places = [place for place, key in enumerate(keys) if key in wanted]
                wanted.difference_update(keys)
                if columns is not None:
                    table = table.select([one for one in table.column_names if one in {packs.SOURCE, *columns}])
                if places:
                    yield table if len(places) == table.num_rows else table.take(places)

    def write(self, table: pa.Table) -> None:
        """Keep a table's rows."""
        for part in packs.split(packs.without_doubles(table)):
            keys = packs.keys_of(part)
            if not self._places.keys() >= set(keys):
                beginning = b"".join(keys)
                content = digest_of(beginning) + beginning + packs.to_bytes(part, self._bound)
                name = f"{digest_of(content).hex()}-{len(keys)}.pack"
                self.store.upload(f"{self._folder}/{name}", content)
                self._sizes[name] = len(content)
                self._know(name, keys)
                self._bad.discard(name)
                if not self._noted:
                    self._note()
            self.store.computed[self.layer] += part.num_rows

    def _look_for(self, keys: Iterable[bytes]) -> None:
        """List the scope, unless an object is known for each of some samples, and read the beginnings of what is new."""
        if self._places.keys() >= set(keys):
            return
        listed = self.store.listed(self._folder)
        names = {name: info for name, info in listed.items() if _NAME.fullmatch(name) and name not in self._bad}
        self._sizes = {name: int(info["size"] or 0) for name, info in names.items()}
        self._forget(self._members.keys() - names.keys())
        if not self._noted and names:
            about = listed.get(self._about_name())
            if about is None or time.time() - _modified(about) > _DAY:  # its time is the time of last use
                try:
                    self._note()
                except StoreError:  # who may only read does so
                    self._noted = True
            self._noted = True
        new = sorted(names.keys() - self._members.keys())
        for start in range(0, len(new), _TOGETHER_MOST):
            self._read_beginnings(new[start : start + _TOGETHER_MOST])

    def _read_beginnings(self, names: Sequence[str]) -> None:
        """Find out which samples objects have."""
        paths, ends = [self._path(name) for name in names], [_DIGEST + KEY_BYTES * _rows(name) for name in names]
        contents = self.store.ask(lambda files: _there(files.cat_ranges(paths, [0] * len(names), ends, on_error="return")))
        for name, end, content in zip(names, ends, contents, strict=True):
            if content is None:
                continue
            if len(content) != end or digest_of(content[_DIGEST:]) != content[:_DIGEST]:
                self._drop(name)
            else:
                self._know(name, _cut(content[_DIGEST:]))

    def _tables(self, names: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        """Yield the tables of objects that are still there and whole, those kept in memory first; the others are fetched, some together."""
        group: list[str] = []
        for name in names:
            if (table := self.store.kept.get(self._path(name))) is not None:
                yield name, table
                continue
            group.append(name)
            if sum(self._sizes.get(one, 0) for one in group) >= _TOGETHER or len(group) == _TOGETHER_MOST:
                yield from self._fetched(group)
                group = []
        if group:
            yield from self._fetched(group)

    def _fetched(self, names: Sequence[str]) -> Iterator[tuple[str, pa.Table]]:
        paths = [self._path(name) for name in names]

        def fetch(files: Any) -> dict[str, Any]:
            found: dict[str, Any] = files.cat(paths, on_error="return")
            return dict(zip(found, _there(found.values()), strict=True))

        contents = {path.rpartition("/")[2]: content for path, content in self.store.ask(fetch).items()}
        for name in names:
            if (content := contents.get(name)) is None:
                self._forget([name])
                continue
            end, table = _DIGEST + KEY_BYTES * _rows(name), None
            if digest_of(content).hex() == name[: 2 * _DIGEST]:
                table = packs.parsed(content[end:], self._bound)
            if table is None:
                self._drop(name)
                continue
            self.store.kept.put(self._path(name), table)
            yield name, table

    def _path(self, name: str) -> str:
        return self.store.path(f"{self._folder}/{name}")

    def _know(self, name: str, keys: list[bytes]) -> None:
        self._members[name] = keys
        self._places |= dict.fromkeys(keys, name)

    def _forget(self, names: Iterable[str]) -> None:
        """Forget objects; what is in others, too, is found there."""
        if gone := [name for name in names if self._members.pop(name, None) is not None]:
            self._places = {key: name for name, keys in self._members.items() for key in keys}
        for name in gone:
            self._sizes.pop(name, None)

    def _drop(self, name: str) -> None:
        self._bad.add(name)
        self._forget([name])
        self.store.drop(self.layer, self.key, f"{self.key[:12]}/{name}")
        self.store.remove_objects([f"{self._folder}/{name}"])

    def _about_name(self) -> str:
        return f"about-{digest_of(self._about).hex()}.json"

    def _note(self) -> None:
        self._noted = True
        self.store.upload(f"{self._folder}/{self._about_name()}", self._about)


class _Kept:
    """The tables of the objects last read, by their paths: an object never changes. Of at most so many bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._bytes = most, 0
        self._tables: OrderedDict[str, pa.Table] = OrderedDict()

    def get(self, path: str) -> pa.Table | None:
        """Return a table that is kept."""
        if path in self._tables:
            self._tables.move_to_end(path)
        return self._tables.get(path)

    def put(self, path: str, table: pa.Table) -> None:
        """Keep a table, and drop those that were not read for the longest time."""
        if path in self._tables:
            return
        self._tables[path] = table
        self._bytes += table.nbytes
        while self._bytes > self._most:
            self._bytes -= self._tables.popitem(last=False)[1].nbytes


def _there(contents: Iterable[Any]) -> list[bytes | None]:
    """Return what was read of objects, None of those that are gone; raises what else went wrong with one."""
    for content in (contents := list(contents)):
        if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
            raise content
    return [None if isinstance(content, Exception) else content for content in contents]


def _rows(name: str) -> int:
    match = _NAME.fullmatch(name)
    assert match is not None
    return int(match[2])


def _cut(keys: bytes) -> list[bytes]:
    return [keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)]


def _may_pass(error: Exception) -> bool:
    """Tell whether an error may be over in a moment: the network's, not a program's."""
    module = type(error).__module__.partition(".")[0]
    return type(error).__name__ not in _HOPELESS and (isinstance(error, OSError) or module in _CLIENTS)


def _modified(info: Mapping[str, Any]) -> float:
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
