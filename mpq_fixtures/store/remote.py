"""A store at a URL that fsspec understands: immutable objects, so that nothing has to be locked between machines.

Scopes are folders of packs (`mpq_fixtures.store.remote_scope`), single entries objects of their own: the payload's digest, 16 bytes, and
the payload.
"""

from __future__ import annotations

import errno
import json
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from filelock import FileLock

from mpq_fixtures.store import objects
from mpq_fixtures.store.base import DAY, FORMAT, MARKER, Part, Scope, Store, StoreError, mark, newer_format
from mpq_fixtures.store.objects import modified
from mpq_fixtures.store.packs import DIGEST_BYTES, digest_of
from mpq_fixtures.store.remote_scope import KeptTables, RemoteScope, is_pack, rows_in

PATIENCE = 120.0
"""Seconds that an object store may not answer."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 16.0
_KEPT = 64 * 2**20
"""Bytes of the tables last read that a store keeps in memory: batches are smaller than packs, and the next one has the same."""
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
        self.kept = KeptTables(_KEPT)
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
        payload = content[DIGEST_BYTES:]
        if digest_of(payload) == content[:DIGEST_BYTES]:
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
                if name.startswith(".") and name.endswith(".part") and 0 < modified(info) < time.time() - DAY:
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
        self.kept = KeptTables(_KEPT)

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
            match path.removeprefix(base).split("/"):
                case _, layer, key, _:
                    scopes[layer, key].append(info)
        for (layer, key), infos in scopes.items():
            names = [info["name"].removeprefix(base) for info in infos]
            abouts = [about for name in names if "/about-" in name and (about := self._about(name))]
            entries = len(infos) if key == "entries" else sum(rows_in(name) for name in names if is_pack(name.rpartition("/")[2]))
            size, used = sum(info["size"] or 0 for info in infos), max(map(modified, infos))
            yield Part(layer, "" if key == "entries" else key, size, len(infos), entries, used, abouts, names)

    def _about(self, name: str) -> dict[str, str] | None:
        """Return what an object says of its scope; None where it is damaged, or gone meanwhile."""
        try:
            about: dict[str, str] = json.loads(self.ask(lambda files: files.cat_file(self.path(name))))
        except (FileNotFoundError, ValueError):
            return None
        return about

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


def _may_pass(error: Exception) -> bool:
    """Tell whether an error may be over in a moment: the network's, not a program's."""
    module = type(error).__module__.partition(".")[0]
    return type(error).__name__ not in _HOPELESS and (isinstance(error, OSError) or module in _CLIENTS)
