"""A store in a folder: one SQLite file a scope, and one a layer for single entries.

SQLite's write-ahead log keeps its promises between the processes of one machine. Machines that share a folder give it as ``file:///...``,
which makes it a `mpq_fixtures.store.remote.RemoteStore`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import threading
import time
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from mpq_fixtures.files import write_atomically
from mpq_fixtures.store import packs
from mpq_fixtures.store.base import AUDIT, FORMAT, LAYERS, MARKER, OlderFormat, Part, Scope, Source, Store, StoreError, mark, newer_format
from mpq_fixtures.store.usage import size_of

if TYPE_CHECKING:
    import pyarrow as pa

PATIENCE = 60.0
"""Seconds that a process waits for another's transaction."""
OPEN_FILES = 32
SMALL, MERGED = 64 * 1024, 64
"""Packs below ``SMALL`` bytes are made into one when ``MERGED`` packs have been written: each costs as much to open as a hundred rows."""
HELD = 2**20
"""Bytes, unpacked, from which on packs are made into one without waiting for more of them: so much of them is in memory."""
PIECE = 2**29
"""Bytes of a pack in one field; what is beyond goes into table ``more``, since SQLite takes no field of a gigabyte."""
_DAY = 86_400
_ASKED = 500  # samples in one query
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_SCOPE = """
CREATE TABLE packs (
  id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL, rows INTEGER NOT NULL, bytes INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX sizes ON packs (bytes, rows);
CREATE TABLE more (pack INTEGER NOT NULL, number INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (pack, number)) WITHOUT ROWID;
CREATE TABLE members (sample BLOB PRIMARY KEY, pack INTEGER NOT NULL, place INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE about (entry TEXT PRIMARY KEY) WITHOUT ROWID;
"""  # an id never comes back, so that who still knows a pack that was merged finds none rather than another
_ENTRIES = "CREATE TABLE entries (key TEXT PRIMARY KEY, digest BLOB NOT NULL, payload BLOB NOT NULL);"
_left_to_the_parent: list[Any] = []  # connections from before a fork: neither used nor closed

T = TypeVar("T")


class LocalStore(Store):
    """The store in ``folder``, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder
        self._base = folder / f"format-{FORMAT}"
        self._marked = False
        self._swept: set[Path] = set()
        self._renew()

    def scope(self, layer: str, key: str, about: Mapping[str, str] | None = None) -> Scope:
        """Return the scope of a layer."""
        return LocalScope(self, layer, key, about or {})

    def get(self, layer: str, key: str) -> bytes | None:
        """Return a single entry's payload, or None where there is none or it is damaged."""
        path = self._entries(layer)
        query = "SELECT digest, payload FROM entries WHERE key = ?"
        found = self.run(path, lambda file: file.execute(query, (key,)).fetchone())
        if found is None:
            return None
        digest, payload = found
        if packs.digest_of(payload) == digest:
            self.reused[layer] += 1
            return bytes(payload)
        self.drop(layer, key, key)
        self.run(path, lambda file: file.execute("DELETE FROM entries WHERE key = ? AND digest = ?", (key, digest)))
        return None

    def put(self, layer: str, key: str, payload: bytes) -> None:
        """Write a single entry; afterwards it is there whole, whatever happens in between."""
        row = key, packs.digest_of(payload), payload
        self.run(self._entries(layer), lambda file: file.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", row), _ENTRIES)
        self.computed[layer] += 1

    @contextmanager
    def lock(self, layer: str, key: str) -> Iterator[None]:
        """Keep other processes and threads from making the same entry meanwhile."""
        path = self._base / "locks" / f"{layer}-{key[:2]}.lock"
        with self.explained():
            self._check()
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def close(self) -> None:
        """Close the files, which are opened again when they are needed; the last process to close one leaves no log."""
        for path, file in list(self._files.items()):
            self._forget(path, file)

    def parts(self) -> Iterator[Part]:
        """Yield the scopes and the files of single entries."""
        with self.explained():
            self._check()
            for path in sorted(self._base.glob("*/*.db")):
                files = {suffix: status for suffix in _PARTS if (status := _status(Path(f"{path}{suffix}")))}
                if "" not in files:
                    continue
                single = path == self._entries(path.parent.name)
                query = "SELECT count(*) FROM entries" if single else "SELECT sum(rows) FROM packs"
                about: list[dict[str, str]] = []
                try:
                    with closing(_open(path)) as file:
                        (entries,) = file.execute(query).fetchone()
                        if not single:
                            about = [json.loads(entry) for (entry,) in file.execute("SELECT entry FROM about ORDER BY entry")]
                except (sqlite3.Error, ValueError):
                    entries = 0  # damaged: whoever reads it will say so
                size = sum(status.st_size for status in files.values())
                used = max(status.st_mtime for suffix, status in files.items() if suffix != "-shm")
                yield Part(path.parent.name, "" if single else path.stem, size, len(files), entries or 0, used, about, [str(path)])

    def remove(self, part: Part) -> bool:
        """Remove a part, unless a running process has it open."""
        (path,) = map(Path, part.files_of)
        with self.explained(), self.lock("files", "00"):
            try:
                with closing(_open(path, patience=0)) as file:
                    if file.execute("PRAGMA journal_mode = DELETE").fetchone() != ("delete",):
                        return False  # SQLite leaves the log only when nobody else has the file open
            except sqlite3.Error as error:
                if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    return False
                if _code(error) not in _DAMAGED and path.exists():
                    raise
            for suffix in _PARTS:
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        return True

    def older(self) -> list[Path]:
        """Return the folders that an older mpq wrote, which this one never reads."""
        layers = [self.folder / name for name in (*LAYERS, AUDIT, "locks")]
        return [folder for folder in layers if folder.is_dir()]

    def _check(self) -> None:
        """Refuse a folder that a newer mpq wrote."""
        if self._marked:
            return
        try:
            message = newer_format(str(self.folder), (self.folder / MARKER).read_bytes())
        except FileNotFoundError:  # nothing is written yet
            return
        if message:
            raise StoreError(message)
        self._marked = True

    def path_of(self, layer: str, key: str) -> Path:
        """Return the file of a scope."""
        return self._base / layer / f"{key}.db"

    def _entries(self, layer: str) -> Path:
        return self._base / layer / "entries.db"

    def run(self, path: Path, action: Callable[[sqlite3.Connection], T], made_with: str = "") -> T | None:
        """Do something in a file, None where there is none; one that is missing is made where ``made_with`` says its tables.

        A file that is damaged is dropped and counts as missing.
        """
        while True:
            with self.explained():
                self._check()
                file = self._file(path)
                if file is None:
                    if not made_with:
                        return None
                    self._make(path, made_with)
                    continue
                with file.lock:
                    if file.closed:  # by another thread, which had too many open
                        continue
                    try:
                        return action(file.connection())
                    except sqlite3.DatabaseError as error:
                        if _code(error) not in _DAMAGED:
                            raise
            self._drop_file(path, file)

    def _file(self, path: Path) -> _File | None:
        if self._process != os.getpid():
            self._renew()
        status = _status(path)
        with self._guard:
            file = self._files.get(path)
            gone = []
            if file is not None and (status is None or status.st_ino != file.inode):  # it was pruned, and perhaps made again
                gone.append(self._files.pop(path))
                file = None
            if file is None and status is not None:
                file = self._files[path] = _File(path, status.st_ino)
            if file is not None:
                self._files.move_to_end(path)
            gone += [self._files.popitem(last=False)[1] for _ in range(len(self._files) - OPEN_FILES)]
        for old in gone:
            old.close()
        if status is not None and time.time() - status.st_mtime > _DAY:  # the time of last use, for `mpq store prune`
            with suppress(OSError):
                os.utime(path)
        return file

    def _make(self, path: Path, tables: str) -> None:
        """Make a file with its tables unless another process has; whoever sees it sees it whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.lock("files", "00"):
            if path.exists():
                return
            self._sweep(path.parent)
            if not (self.folder / MARKER).exists():
                self._begin()
            piece = path.with_name(f".{path.name}.{os.getpid()}.part")
            piece.unlink(missing_ok=True)
            try:
                with closing(sqlite3.connect(piece)) as connection:
                    connection.executescript(
                        f"PRAGMA page_size = {PAGE}; PRAGMA journal_mode = WAL; {tables} PRAGMA user_version = {FORMAT};"
                    )
                piece.replace(path)
            except BaseException:
                for suffix in _PARTS:
                    Path(f"{piece}{suffix}").unlink(missing_ok=True)
                raise

    def _sweep(self, folder: Path) -> None:
        """Remove pieces that processes left which were killed while they made a file; who makes one now holds the lock, and is this one."""
        for place in {folder, self.folder} - self._swept:
            for piece in place.glob(".*.part*"):
                piece.unlink(missing_ok=True)
            self._swept.add(place)

    def _begin(self) -> None:
        """Mark the folder as this format's, and say what an older one left there."""
        if old := self.older():
            size = size_of(old, seconds=2)
            sentence = f"{self.folder} also holds {size} of an older mpq's, which are never read: mpq store prune --old removes them"
            warnings.warn(OlderFormat(sentence), stacklevel=2)
        write_atomically(self.folder / MARKER, mark())

    def _drop_file(self, path: Path, file: _File) -> None:
        """Remove a damaged file, unless another process has done so and made a new one."""
        self._forget(path, file)
        with self.explained(), self.lock("files", "00"), suppress(FileNotFoundError):
            if path.stat().st_ino != file.inode:
                return
            for suffix in _PARTS:
                Path(f"{path}{suffix}").unlink(missing_ok=True)
        self.drop(path.parent.name, path.stem, path.name)

    def _forget(self, path: Path, file: _File) -> None:
        with self._guard:
            if self._files.get(path) is file:
                del self._files[path]
        file.close()

    def _renew(self) -> None:
        """Begin without open files, as a process does that was forked."""
        _left_to_the_parent.append(getattr(self, "_files", None))
        self._process, self._guard = os.getpid(), threading.Lock()
        self._files: OrderedDict[Path, _File] = OrderedDict()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise what the file system or SQLite says as a `StoreError`."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error
        except sqlite3.Error as error:
            raise self._error(_reason(error)) from error

    def _error(self, reason: str) -> StoreError:
        return StoreError(f"cannot use the store {self.folder}: {reason}; free some room or choose another folder with --mpq-cache")


PAGE = 4096  # four times as much costs the same time, and small scopes more room
_PARTS = ("-wal", "-shm", "")


class _File:
    """A SQLite file that is opened when it is first used; ``lock`` lets one thread at a time use it."""

    def __init__(self, path: Path, inode: int) -> None:
        self.path, self.inode, self.lock, self.closed = path, inode, threading.RLock(), False
        self._connection: sqlite3.Connection | None = None

    def connection(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = self._connection = _open(self.path)
            connection.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last packs, whole ones
            if connection.execute("PRAGMA user_version").fetchone() != (FORMAT,):
                error = sqlite3.DatabaseError("it has lost its tables")
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error
        return self._connection

    def close(self) -> None:
        with self.lock:
            self.closed = True
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
                self._connection = None


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
                with _transaction(file):
                    pack = _add_pack(file, data, len(keys))
                    rows = ((key, pack, place) for place, key in enumerate(keys))
                    if not file.executemany("INSERT OR IGNORE INTO members VALUES (?, ?, ?)", rows).rowcount:
                        file.execute("DELETE FROM more WHERE pack = ?", (pack,))
                        file.execute("DELETE FROM packs WHERE id = ?", (pack,))
                    elif pack % MERGED == 0:
                        self._merge(file)
                    self._note(file)

            self.store.run(self.path, insert, _SCOPE)
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
        """Make one pack of the small ones, or several where they are large unpacked."""
        alike: dict[bytes, list[pa.Table]] = defaultdict(list)
        held = 0
        for (pack,) in file.execute("SELECT id FROM packs WHERE bytes < ?", (SMALL,)).fetchall():
            if (found := _data_of(file, pack)) is None:
                continue
            digest, data = found
            table = packs.parsed(data, self._bound) if packs.digest_of(data) == digest else None
            if table is None:
                continue  # whoever reads it will say so
            places = sorted(place for _, lies, place in _look_up(file, packs.keys_of(table)) if lies == pack)
            if len(places) < table.num_rows:
                table = table.take(places)
            alike[table.schema.serialize().to_pybytes()].append(table)
            file.execute("DELETE FROM packs WHERE id = ?", (pack,))
            held += table.nbytes
            if held >= HELD:
                self._put_together(file, alike)
                held = 0
        self._put_together(file, alike)

    def _put_together(self, file: sqlite3.Connection, alike: dict[bytes, list[pa.Table]]) -> None:
        """Write tables that were in packs of their own, those of each schema together, and drop them."""
        import pyarrow as pa

        for tables in alike.values():
            for merged in packs.split(pa.concat_tables(tables)):
                pack = _add_pack(file, packs.to_bytes(merged, self._bound), merged.num_rows)
                members = ((pack, place, key) for place, key in enumerate(packs.keys_of(merged)))
                file.executemany("UPDATE members SET pack = ?, place = ? WHERE sample = ?", members)
        alike.clear()

    def _note(self, file: sqlite3.Connection) -> None:
        if self._about:
            file.execute("INSERT OR IGNORE INTO about VALUES (?)", (self._about,))


def _open(path: Path, patience: float = PATIENCE) -> sqlite3.Connection:
    """Open a file that is there; one in a folder that may only be read, where no log can be, as it is."""
    mode = "mode=rw"
    if not os.access(path.parent, os.W_OK):
        mode = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    name = f"{path.absolute().as_uri()}?{mode}"
    return sqlite3.connect(name, timeout=patience, isolation_level=None, check_same_thread=False, uri=True)


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a file; what else has its name, a folder or a link that leads nowhere, is removed and counts as missing."""
    try:
        status = path.stat()
        if not S_ISDIR(status.st_mode):
            return status
    except FileNotFoundError:
        if not path.is_symlink():
            return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    if path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
    return None


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


def _data_of(file: sqlite3.Connection, pack: int) -> tuple[bytes, bytes] | None:
    """Return a pack's digest and bytes; None where it is there no more."""
    found = file.execute("SELECT digest, bytes, data FROM packs WHERE id = ?", (pack,)).fetchone()
    if found is None:
        return None
    digest, size, data = found
    if len(data) < size:
        data = b"".join([data, *(piece for (piece,) in file.execute("SELECT data FROM more WHERE pack = ? ORDER BY number", (pack,)))])
    return digest, data


def _drop_pack(file: sqlite3.Connection, pack: int) -> None:
    with _transaction(file):
        file.execute("DELETE FROM members WHERE pack = ?", (pack,))
        file.execute("DELETE FROM more WHERE pack = ?", (pack,))
        file.execute("DELETE FROM packs WHERE id = ?", (pack,))


@contextmanager
def _transaction(file: sqlite3.Connection) -> Iterator[None]:
    """Write all or nothing; the lock is taken at once, since one that is asked for later may be refused without waiting."""
    file.execute("BEGIN IMMEDIATE")
    try:
        yield
        file.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite has done it already, where the disk is full
            file.execute("ROLLBACK")
        raise


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _reason(error: sqlite3.Error) -> str:
    match _code(error):
        case sqlite3.SQLITE_FULL:
            return os.strerror(28)
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return os.strerror(13)
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return f"another process has held a file of it for {PATIENCE:.0f} s"
    return str(error)
