"""A scope of a store at a URL: one immutable object a pack.

``<url>/format-2/<layer>/<scope>/<digest>-<rows>.pack``: the digest of the samples, 16 bytes; the samples, 32 bytes each; the pack. The
digest in the name is that of the whole object: one that was uploaded in part is never taken. Who wants to know what there is lists the
scope and reads the beginnings of what is new.
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpq_fixtures.store import packs
from mpq_fixtures.store.base import DAY, FORMAT, Scope, Source, StoreError
from mpq_fixtures.store.objects import modified
from mpq_fixtures.store.packs import DIGEST_BYTES, KEY_BYTES, digest_of

if TYPE_CHECKING:
    import pyarrow as pa

    from mpq_fixtures.store.remote import RemoteStore

_TOGETHER, _TOGETHER_MOST = 64 * 2**20, 32  # bytes and objects that are fetched at once
_NAME = re.compile(r"([0-9a-f]{32})-(\d+)\.pack")


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
        names = {name: info for name, info in listed.items() if is_pack(name) and name not in self._bad}
        self._sizes = {name: int(info["size"] or 0) for name, info in names.items()}
        self._forget(self._members.keys() - names.keys())
        if not self._noted and names:
            about = listed.get(self._about_name())
            if about is None or time.time() - modified(about) > DAY:  # its time is the time of last use
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
        paths, ends = [self._path(name) for name in names], [DIGEST_BYTES + KEY_BYTES * rows_in(name) for name in names]
        contents = self.store.ask(lambda files: _there(files.cat_ranges(paths, [0] * len(names), ends, on_error="return")))
        for name, end, content in zip(names, ends, contents, strict=True):
            if content is None:
                continue
            if len(content) != end or digest_of(content[DIGEST_BYTES:]) != content[:DIGEST_BYTES]:
                self._drop(name)
            else:
                self._know(name, _cut(content[DIGEST_BYTES:]))

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
            end, table = DIGEST_BYTES + KEY_BYTES * rows_in(name), None
            if digest_of(content).hex() == name[: 2 * DIGEST_BYTES]:
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


class KeptTables:
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


def is_pack(name: str) -> bool:
    """Tell whether an object of this name is a pack."""
    return _NAME.fullmatch(name) is not None


def rows_in(name: str) -> int:
    """Return how many rows a pack has, by its name."""
    return int(name.rpartition("-")[2].removesuffix(".pack"))


def _cut(keys: bytes) -> list[bytes]:
    return [keys[start : start + KEY_BYTES] for start in range(0, len(keys), KEY_BYTES)]
