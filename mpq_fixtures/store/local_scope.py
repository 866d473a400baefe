"""A scope of a store in a folder: packs of its samples, and which of them each sample is in, in one SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from mpq_fixtures.store import packs
from mpq_fixtures.store.base import Scope, Source
from mpq_fixtures.store.sqlite_files import damage, transaction

if TYPE_CHECKING:
    import pyarrow as pa

    from mpq_fixtures.store.local import LocalStore

SMALL, MERGED = 64 * 1024, 64
"""Packs below ``SMALL`` bytes are made into one when ``MERGED`` packs have been written: each costs as much to open as a hundred rows."""
HELD = 2**19
"""Bytes, unpacked, from which on packs are made into one without waiting for more of them: so much of them is in memory."""
PIECE = 2**29
"""Bytes of a pack in one field; what is beyond goes into table ``more``, since SQLite takes no field of a gigabyte."""
_ASKED = 500  # samples in one query
_TABLES = """
CREATE TABLE packs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX sizes ON packs (bytes, rows);
CREATE TABLE more (pack INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (pack, number)) WITHOUT ROWID;
CREATE TABLE members (sample BLOB PRIMARY KEY, pack INTEGER NOT NULL, place INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE about (entry TEXT PRIMARY KEY) WITHOUT ROWID;
"""  # an id never comes back, so that who still knows a pack that was merged finds none rather than another


class LocalScope(Scope):
    """A scope in a file of its own."""

    def __init__(self, store: LocalStore, layer: str, key: str, about: Mapping[str, str]) -> None:
        self.store, self.layer, self.key = store, layer, key
        self.path, self._bound = store.path_of(layer, key), f"{layer} {key}"
        self._about = json.dumps(about, sort_keys=True) if about else ""

    def found(self, sources: Iterable[Source]) -> set[Source]:
        """Return which of these samples have an entry."""
        sources = list(sources)
        keys = packs.keys_for(sources)
        there = {key for key, _, _ in self._places(keys)}
        return {source for source, key in zip(sources, keys, strict=True) if key in there}

    def read(self, sources: Iterable[str] | Iterable[bytes], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the entries of those samples that have one, pack by pack."""
        wanted = set(packs.keys_for(sources))
        seen: set[int] = set()
        while wanted:  # again for what was merged into other packs meanwhile
            rows: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
            for key, pack, place in self._places(wanted):
                rows[pack].append((place, key))
            wanted = set()
            for pack, members in rows.items():
                if pack in seen:
                    continue
                seen.add(pack)
                table = self._pack(pack, sorted(members), columns)
                if table is None:
                    wanted.update(key for _, key in members)
                else:
                    yield table

    def write(self, table: pa.Table) -> None:
        """Keep a table's rows."""
        for part in packs.split(table):
            data, keys = packs.to_bytes(part, self._bound), packs.keys_of(part)

            def insert(file: sqlite3.Connection, data: bytes = data, keys: Sequence[bytes] = keys) -> None:
                with transaction(file):
                    pack = _add_pack(file, data, len(keys))
                    rows = ((key, pack, place) for place, key in enumerate(keys))
                    if not file.executemany("INSERT OR IGNORE INTO members VALUES (?, ?, ?)", rows).rowcount:
                        file.execute("DELETE FROM more WHERE pack = ?", (pack,))
                        file.execute("DELETE FROM packs WHERE id = ?", (pack,))
                    elif pack % MERGED == 0:
                        self._merge(file)
                    self._note(file)

            self.store.run(self.path, insert, _TABLES)
            self.store.computed[self.layer] += part.num_rows

    def _places(self, keys: Iterable[bytes]) -> list[tuple[bytes, int, int]]:
        """Return sample, pack and place of those that have an entry."""
        wanted = keys if isinstance(keys, set | dict) else set(keys)

        def look_up(file: sqlite3.Connection) -> list[tuple[bytes, int, int]]:
            if self._about and not file.execute("SELECT 1 FROM about WHERE entry = ?", (self._about,)).fetchone():
                with suppress(sqlite3.OperationalError):  # who may only read does so
                    self._note(file)
            if len(wanted) > _ASKED and 4 * len(wanted) > (file.execute("SELECT sum(rows) FROM packs").fetchone()[0] or 0):
                return [row for row in file.execute("SELECT sample, pack, place FROM members") if row[0] in wanted]
            return _look_up(file, list(wanted))

        return self.store.run(self.path, look_up) or []

    def _pack(self, pack: int, members: Sequence[tuple[int, bytes]], columns: Sequence[str] | None) -> pa.Table | None:
        """Return some rows of a pack; None where it is there no more, or damaged and dropped."""
        found = self.store.run(self.path, lambda file: _data_of(file, pack))
        if found is None:
            return None
        digest, data = found
        table = packs.parsed(data, self._bound, columns) if packs.digest_of(data) == digest else None
        if table is not None:
            places = [place for place, _ in members]
            if places != list(range(table.num_rows)) and places[-1] < table.num_rows:
                table = table.take(places)
            if packs.keys_of(table) == [key for _, key in members]:
                return table
        self.store.drop(self.layer, self.key, f"pack {pack} of {self.path.name}")
        self.store.run(self.path, lambda file: _drop_pack(file, pack))
        return None

    def _merge(self, file: sqlite3.Connection) -> None:
        """Make one pack of the small ones, or several where they are large unpacked; one that is large unpacked already stays as it is."""
        alike: dict[bytes, list[pa.Table]] = defaultdict(list)
        held: Counter[bytes] = Counter()
        for (pack,) in file.execute("SELECT id FROM packs WHERE bytes < ?", (SMALL,)).fetchall():
            if _unpacked_size(file, pack) >= HELD or (found := _data_of(file, pack)) is None:
                continue
            digest, data = found
            table = packs.parsed(data, self._bound) if packs.digest_of(data) == digest else None
            if table is None:
                continue  # whoever reads it will say so
            places = sorted(place for _, lies, place in _look_up(file, packs.keys_of(table)) if lies == pack)
            file.execute("DELETE FROM packs WHERE id = ?", (pack,))
            if not places:  # all of them are in other packs
                continue
            if len(places) < table.num_rows:
                table = table.take(places)
            schema = table.schema.serialize().to_pybytes()
            alike[schema].append(table)
            held[schema] += table.nbytes
            if held[schema] >= HELD:
                self._put_together(file, alike.pop(schema))
                del held[schema]
        for tables in alike.values():
            self._put_together(file, tables)

    def _put_together(self, file: sqlite3.Connection, tables: list[pa.Table]) -> None:
        """Write tables of one schema that were in packs of their own."""
        import pyarrow as pa

        for merged in packs.split(pa.concat_tables(tables)):
            pack = _add_pack(file, packs.to_bytes(merged, self._bound), merged.num_rows)
            members = ((pack, place, key) for place, key in enumerate(packs.keys_of(merged)))
            file.executemany("UPDATE members SET pack = ?, place = ? WHERE sample = ?", members)

    def _note(self, file: sqlite3.Connection) -> None:
        if self._about:
            file.execute("INSERT OR IGNORE INTO about VALUES (?)", (self._about,))


def _add_pack(file: sqlite3.Connection, data: bytes, rows: int) -> int:
    pieces = [data] if len(data) <= PIECE else [data[start : start + PIECE] for start in range(0, len(data), PIECE)]
    row = packs.digest_of(data), rows, len(data), pieces[0]
    pack = file.execute("INSERT INTO packs (digest, rows, bytes, data) VALUES (?, ?, ?, ?)", row).lastrowid
    assert pack is not None
    file.executemany("INSERT INTO more VALUES (?, ?, ?)", ((pack, number, piece) for number, piece in enumerate(pieces[1:])))
    return pack


def _look_up(file: sqlite3.Connection, keys: Sequence[bytes]) -> list[tuple[bytes, int, int]]:
    """Return sample, pack and place of those that have an entry."""
    found: list[tuple[bytes, int, int]] = []
    for start in range(0, len(keys), _ASKED):
        asked = keys[start : start + _ASKED]
        marks = ",".join("?" * len(asked))
        found += file.execute(f"SELECT sample, pack, place FROM members WHERE sample IN ({marks})", asked).fetchall()
    return found


def _unpacked_size(file: sqlite3.Connection, pack: int) -> int:
    """Return how many bytes a pack takes unpacked, of which only its first bytes are read; 0 where it is damaged."""
    with suppress(sqlite3.OperationalError), file.blobopen("packs", "data", pack, readonly=True) as data:
        return packs.unpacked_size(data.read(8))
    return 0


def _data_of(file: sqlite3.Connection, pack: int) -> tuple[bytes, bytes] | None:
    """Return a pack's digest and bytes; None where it is there no more."""
    found = file.execute("SELECT digest, bytes, data FROM packs WHERE id = ?", (pack,)).fetchone()
    if found is None:
        return None
    digest, size, data = found
    if not isinstance(data, bytes) or not isinstance(size, int):
        raise damage("a pack is no bytes")
    if len(data) < size:
        data = b"".join([data, *(piece for (piece,) in file.execute("SELECT data FROM more WHERE pack = ? ORDER BY number", (pack,)))])
    return digest, data


def _drop_pack(file: sqlite3.Connection, pack: int) -> None:
    with transaction(file):
        file.execute("DELETE FROM members WHERE pack = ?", (pack,))
        file.execute("DELETE FROM more WHERE pack = ?", (pack,))
        file.execute("DELETE FROM packs WHERE id = ?", (pack,))
