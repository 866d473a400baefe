"""The store: whole entries or none, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pyarrow as pa
import pytest
from chaos_kinds import flip, remove, replace_by_folder, replace_by_loop, swap, truncate, zero

from mpq_fixtures.store import (
    BITSTREAM,
    PREDICTION,
    STATISTIC,
    DamagedEntry,
    OlderFormat,
    Scope,
    Store,
    StoreError,
    key_of,
    local,
    local_scope,
    open_store,
    packs,
    sqlite_files,
)
from mpq_fixtures.store.local import LocalStore
from mpq_fixtures.store.packs import sample_key

KEY = key_of(source="abc", quality=5)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(params=["folder", "file", "memory"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store in a folder, and at URLs."""
    where = {"folder": str(tmp_path / "store"), "file": (tmp_path / "store").as_uri(), "memory": f"memory://{uuid.uuid4()}"}
    return open_store(where[request.param])


def script(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def source(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def payload(number: int) -> bytes:
    """Some bytes that only this sample has."""
    return hashlib.sha512(b"%d" % number).digest() * (1 + number % 3)


def table(numbers: Sequence[int]) -> pa.Table:
    keys = pa.array([bytes.fromhex(source(number)) for number in numbers], pa.binary(32))
    return pa.table({"source": keys, "payload": [payload(number) for number in numbers], "number": numbers})


def contents(scope: Scope, numbers: Sequence[int]) -> dict[int, bytes]:
    """What a scope has of some samples; each is there once, and under its own source."""
    rows = [row for found in scope.read(map(source, numbers)) for row in found.to_pylist()]
    assert [row["source"].hex() for row in rows] == [source(row["number"]) for row in rows]
    assert len({row["number"] for row in rows}) == len(rows)
    return {row["number"]: row["payload"] for row in rows}


def expected(numbers: Sequence[int]) -> dict[int, bytes]:
    return {number: payload(number) for number in numbers}


class TestKey:
    def test_is_the_same_for_the_same_parts_in_any_order(self) -> None:
        assert key_of(a=1, b=["x", {"c": None}]) == key_of(b=["x", {"c": None}], a=1)

    def test_differs_where_anything_differs(self) -> None:
        keys = [key_of(a=1), key_of(a="1"), key_of(b=1), key_of(a=1, b=1), key_of(a=[1]), key_of(a=1.5), key_of(a="")]
        assert len(set(keys)) == len(keys)

    def test_of_a_sample_is_its_digest(self) -> None:
        assert sample_key("0f" * 32) == b"\x0f" * 32

    @pytest.mark.parametrize("text", ["", "photo-17", "g" * 64, "0f" * 31 + " 0", " " * 64, "0f" * 33], ids=repr)
    def test_of_a_sample_is_made_where_its_source_is_no_digest(self, text: str) -> None:
        assert sample_key(text) == hashlib.sha256(text.encode()).digest()


class TestPack:
    def test_of_any_columns_comes_back(self) -> None:
        columns = {
            "source": pa.array([b"\0" * 32, b"\1" * 32], pa.binary(32)),
            "statistic": pa.array([[1.0, float("inf")], None], pa.list_(pa.float64())),
            "shape": pa.array([[2], []], pa.list_(pa.int32())),
            "prediction": ["a cat", None],
            "payload": [b"", bytes(range(256))],
        }
        whole = pa.table(columns).replace_schema_metadata({"shape": "[2, 3]"})
        again = packs.from_bytes(packs.to_bytes(whole))
        assert again.equals(whole, check_metadata=True)
        assert packs.from_bytes(packs.to_bytes(whole), ["prediction", "other"]).column_names == ["source", "prediction"]

    def test_above_the_limit_is_split(self) -> None:
        big = table(range(1000))
        parts = list(packs.split(big, 20_000))
        assert len(parts) > 4
        assert all(0 < part.nbytes <= 20_000 for part in parts)
        assert pa.concat_tables(parts).equals(big)
        assert [part.num_rows for part in packs.split(big, 1)] == [1] * 1000


class TestScope:
    def test_has_what_was_written(self, any_store: Store) -> None:
        any_store.scope(BITSTREAM, KEY).write(table(range(10)))
        any_store.scope(BITSTREAM, KEY).write(table(range(10, 15)))
        for again in (any_store, type(any_store)(getattr(any_store, "folder", any_store.location))):
            scope = again.scope(BITSTREAM, KEY)
            assert contents(scope, range(20)) == expected(range(15))
            assert contents(scope, [3, 12, 17]) == expected([3, 12])
            assert scope.found(map(source, [0, 14, 15])) == {source(0), source(14)}

    def test_is_empty_where_nothing_was_written(self, any_store: Store) -> None:
        scope = any_store.scope(BITSTREAM, KEY)
        assert (contents(scope, [1, 2]), scope.found([source(1)])) == ({}, set())
        scope.write(table([]))
        assert (contents(scope, [1, 2]), scope.found([])) == ({}, set())

    def test_belongs_to_its_layer_and_key(self, any_store: Store) -> None:
        any_store.scope(BITSTREAM, KEY).write(table([1]))
        assert contents(any_store.scope(PREDICTION, KEY), [1]) == {}
        assert contents(any_store.scope(BITSTREAM, key_of(other=1)), [1]) == {}

    def test_gives_the_columns_that_are_asked_for(self, any_store: Store) -> None:
        scope = any_store.scope(BITSTREAM, KEY)
        scope.write(table(range(4)))
        (found,) = scope.read([source(2)], ["number"])
        assert found.to_pylist() == [{"source": bytes.fromhex(source(2)), "number": 2}]

    def test_keeps_one_entry_of_a_sample(self, any_store: Store) -> None:
        scope = any_store.scope(BITSTREAM, KEY)
        scope.write(table([1, 2, 1]))
        any_store.scope(BITSTREAM, KEY).write(table([2, 3]))
        assert contents(scope, range(5)) == expected([1, 2, 3])

    def test_keeps_the_older_entry(self, store: LocalStore) -> None:
        scope = store.scope(BITSTREAM, KEY)
        scope.write(table([1]))
        other = table([1, 2]).set_column(1, "payload", [[b"other", b"new"]])
        scope.write(other)
        assert contents(scope, [1, 2]) == {1: payload(1), 2: b"new"}

    def test_takes_samples_whose_source_is_no_digest(self, any_store: Store) -> None:
        scope = any_store.scope(BITSTREAM, KEY)
        scope.write(pa.table({"source": pa.array([sample_key("photo 1")], pa.binary(32)), "payload": [b"bits"]}))
        assert scope.found(["photo 1", "photo 2"]) == {"photo 1"}
        assert [found.column("payload").to_pylist() for found in scope.read(["photo 1"])] == [[b"bits"]]

    def test_is_counted_by_samples_where_it_is_written(self, any_store: Store) -> None:
        scope = any_store.scope(BITSTREAM, KEY)
        scope.write(table(range(7)))
        contents(scope, range(3))
        scope.found([source(1)])
        assert (dict(any_store.computed), dict(any_store.reused)) == ({BITSTREAM: 7}, {})

    def test_of_more_than_a_pack_holds_is_whole(self, any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(packs.split, "__defaults__", (5_000,))
        scope = any_store.scope(BITSTREAM, KEY)
        scope.write(table(range(300)))
        assert contents(any_store.scope(BITSTREAM, KEY), range(300)) == expected(range(300))

    def test_of_large_packs_is_kept_in_pieces(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local_scope, "PIECE", 1000)
        scope = store.scope(BITSTREAM, KEY)
        for _ in range(2):
            scope.write(table(range(100)))
        assert contents(scope, range(100)) == expected(range(100))
        store.close()
        with closing(sqlite3.connect(store.path_of(BITSTREAM, KEY))) as connection, connection:
            assert {pack for (pack,) in connection.execute("SELECT pack FROM more")} == {1}
            connection.execute("DELETE FROM more WHERE number = 1")
        with pytest.warns(DamagedEntry):
            assert contents(scope, range(100)) == {}

    @pytest.mark.parametrize("asked", [range(700), range(100, 130), range(0, 700, 2)], ids=["all", "some", "every other"])
    def test_of_many_small_packs_becomes_few(self, store: LocalStore, asked: range) -> None:
        scope = store.scope(BITSTREAM, KEY)
        for number in range(0, 700, 3):
            scope.write(table(range(number, min(number + 4, 700))))  # each shares a sample with the one before
        assert contents(scope, asked) == expected(asked)
        assert len(list(scope.read(map(source, range(700))))) < 2 * local_scope.MERGED

    def test_of_packs_that_are_large_unpacked_becomes_several(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local_scope, "HELD", 10 * table(range(4)).nbytes)
        scope = store.scope(BITSTREAM, KEY)
        for number in range(0, 4 * local_scope.MERGED, 4):
            scope.write(table(range(number, number + 4)))
        assert contents(scope, range(4 * local_scope.MERGED)) == expected(range(4 * local_scope.MERGED))
        sizes = [len(one) for one in scope.read(map(source, range(4 * local_scope.MERGED)))]
        assert max(sizes) == 40
        assert len(sizes) < 10

    def test_of_packs_that_were_put_together_is_left_alone(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """However small they are on the disk: else all that there is would be written again and again."""

        def zeros(numbers: Sequence[int], kind: str) -> pa.Table:
            keys = pa.array([bytes.fromhex(source(number)) for number in numbers], pa.binary(32))
            return pa.table({"source": keys, kind: [bytes(10_000)] * len(numbers)})

        written: list[int] = []
        add = local_scope._add_pack
        monkeypatch.setattr(local_scope, "_add_pack", lambda file, data, rows: written.append(rows) or add(file, data, rows))
        scope = store.scope(BITSTREAM, KEY)
        count = 12 * local_scope.MERGED
        for number in range(count):
            scope.write(zeros([number], "payload" if number % 2 else "other"))
        merged = sum(rows for rows in written if rows > 1)
        assert count / 2 < merged < 2 * count
        assert sum(len(one) for one in scope.read(map(source, range(count)))) == count

    def test_is_read_while_its_packs_are_merged(self, store: LocalStore) -> None:
        """Who has looked a sample's pack up finds the sample in another one, and never another sample."""
        scope = store.scope(BITSTREAM, KEY)
        for number in range(local_scope.MERGED - 1):
            scope.write(table([number]))
        reading = scope.read(map(source, range(local_scope.MERGED)))
        found = [next(reading)]
        scope.write(table([local_scope.MERGED - 1]))  # merges
        found += reading
        assert sorted(number for one in found for number in one.column("number").to_pylist()) == list(range(local_scope.MERGED - 1))
        assert sum(1 for _ in scope.read(map(source, range(local_scope.MERGED)))) == 1

    def test_says_what_it_belongs_to(self, any_store: Store) -> None:
        """Also that of a case that found everything there."""
        first, second = {"suite": "a", "case": "x-jpeg-q5"}, {"suite": "b", "case": "y-jpeg-q5"}
        any_store.scope(BITSTREAM, KEY, first).write(table([1]))
        contents(any_store.scope(BITSTREAM, KEY, second), [1])
        (part,) = any_store.parts()
        assert (part.layer, part.key, part.entries) == (BITSTREAM, KEY, 1)
        assert sorted(part.about, key=json.dumps) == [first, second]

    def test_takes_one_file(self, store: LocalStore) -> None:
        for first in range(0, 5000, 50):
            store.scope(BITSTREAM, KEY).write(table(range(first, first + 50)))
        store.close()
        assert [path.name for path in store.folder.rglob("*") if path.is_file() and path.parent.name != "locks"] == [
            "mpq-store.json",
            f"{KEY}.db",
        ]

    def test_is_used_by_many_threads(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """And by more scopes than stay open."""
        monkeypatch.setattr(local, "OPEN_FILES", 2)
        wrong: list[object] = []

        def work(first: int) -> None:
            for number in range(first, 120, 4):
                scope = store.scope(BITSTREAM, key_of(number=number % 5))
                scope.write(table([number]))
                if contents(scope, [number]) != expected([number]):
                    wrong.append(number)

        threads = [threading.Thread(target=work, args=[first]) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        for rest in range(5):
            assert contents(store.scope(BITSTREAM, key_of(number=rest)), range(120)) == expected(range(rest, 120, 5))

    def test_is_used_on_after_a_fork(self, store: LocalStore) -> None:
        scope = store.scope(BITSTREAM, KEY)
        scope.write(table([1]))
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = int(contents(scope, [1]) != expected([1]))
                scope.write(table([2]))
            finally:
                os._exit(code)
        scope.write(table([3]))
        assert os.waitpid(child, 0)[1] == 0
        assert contents(scope, range(5)) == expected([1, 2, 3])


class TestManyProcesses:
    WRITE = f"""
import sys, random
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import BITSTREAM, KEY, contents, expected, open_store, source, table
store, seed = open_store(sys.argv[1]), int(sys.argv[2])
scope, chance = store.scope(BITSTREAM, KEY, {{"suite": sys.argv[2]}}), random.Random(seed)
print("begun", flush=True)
for _ in range(int(sys.argv[3])):
    first = chance.randrange(0, 1000, 5)
    scope.write(table(range(first, first + 5)))
    print(first, flush=True)
    asked = chance.sample(range(1000), 50)
    found = contents(scope, asked)
    assert found == expected(found), "mixed"
    assert contents(scope, range(first, first + 5)) == expected(range(first, first + 5)), "lost"
"""

    @pytest.mark.parametrize("where", ["folder", "file"])
    def test_write_and_read_one_scope(self, tmp_path: Path, where: str) -> None:
        location = str(tmp_path / "store") if where == "folder" else (tmp_path / "store").as_uri()
        writers = [script(self.WRITE, location, seed, 40) for seed in range(4)]
        written = set()
        for writer in writers:
            output, errors = writer.communicate(timeout=120)
            assert (errors, writer.returncode) == ("", 0)
            written.update(number for first in output.split()[1:] for number in range(int(first), int(first) + 5))
        store = open_store(location)
        assert contents(store.scope(BITSTREAM, KEY), range(1000)) == expected(sorted(written))
        assert store.damaged == []

    @pytest.mark.parametrize("where", ["folder", "file"])
    def test_that_are_killed_lose_nothing(self, tmp_path: Path, where: str) -> None:
        location = str(tmp_path / "store") if where == "folder" else (tmp_path / "store").as_uri()
        written: set[int] = set()
        for seed in range(4):
            writers = [script(self.WRITE, location, 10 * seed + number, 100_000) for number in range(2)]
            for writer in writers:
                assert writer.stdout is not None
                said = [writer.stdout.readline() for _ in range(5 + 10 * seed)]
                time.sleep(0.002 * seed)
                writer.kill()
                said += writer.stdout
                _, errors = writer.communicate(timeout=60)
                assert (errors, writer.returncode) == ("", -signal.SIGKILL)
                firsts = [int(line) for line in said[1:] if line.endswith("\n")]
                written.update(number for first in firsts for number in range(first, first + 5))
        store = open_store(location)
        found = contents(store.scope(BITSTREAM, KEY), range(1000))
        assert found == expected(found)
        assert found.keys() >= written
        assert all(found.keys() >= set(range(number - number % 5, number - number % 5 + 5)) for number in found)  # whole packs
        assert store.damaged == []
        assert len(written) > 50


class TestDamagedInUse:
    """Files of a store that are damaged, exchanged and removed while processes read and write them."""

    USE = f"""
import random, sys, warnings
sys.path.insert(0, {str(Path(__file__).parent)!r})
from mpq_fixtures.store import AUDIT, STATISTIC, key_of, open_store
from test_store import contents, expected, table
warnings.simplefilter("ignore")
store, numbers = open_store(sys.argv[1]), random.Random(int(sys.argv[2]))
print("begun", flush=True)
for _ in range(1200):
    which, first = numbers.randrange(4), numbers.randrange(140)
    scope = store.scope(STATISTIC, key_of(scope=which))
    found = contents(scope, range(150))
    assert found == expected(sorted(found)), "others' rows"
    scope.write(table(range(first, first + 10)))
    assert store.get(AUDIT, key_of(entry=which)) in (None, b"entry %d" % which), "another's entry"
    store.put(AUDIT, key_of(entry=which), b"entry %d" % which)
"""

    def test_cost_what_they_held_and_nothing_else(self, tmp_path: Path) -> None:
        users = [script(self.USE, tmp_path / "store", seed) for seed in range(2)]
        for user in users:
            assert user.stdout is not None
            assert user.stdout.readline() == "begun\n"
        generator, hows, times = random.Random(0), (flip, zero, truncate, swap, remove, replace_by_folder, replace_by_loop), 0
        while any(user.poll() is None for user in users):
            time.sleep(generator.uniform(0, 0.05))
            if files := [file for file in sorted(tmp_path.glob("store/format-*/*/*.db")) if file.is_file()]:
                with suppress(OSError):  # it was being made again
                    generator.choice(hows)(generator.choice(files), generator)
                    times += 1
        for user in users:
            _, errors = user.communicate(timeout=60)
            assert (errors, user.returncode) == ("", 0)
        assert times > 10


class TestDamagedScope:
    @pytest.fixture
    def file(self, store: LocalStore) -> Path:
        """The file of a scope that nobody has open: two packs."""
        store.scope(STATISTIC, KEY).write(table(range(100)))
        store.scope(STATISTIC, KEY).write(table(range(100, 200)))
        store.close()
        return store.path_of(STATISTIC, KEY)

    def is_mended(self, store: LocalStore, lost: Sequence[int]) -> None:
        scope = store.scope(STATISTIC, KEY)
        with pytest.warns(DamagedEntry, match="damaged statistic"):
            found = contents(scope, range(200))
        assert found == expected([number for number in range(200) if number not in lost])
        assert store.damaged == [f"{STATISTIC} {KEY[:12]}"]
        assert scope.found(map(source, range(200))) == set(map(source, found))
        scope.write(table(range(200)))
        assert contents(store.scope(STATISTIC, KEY), range(200)) == expected(range(200))
        assert len(store.damaged) == 1

    def test_byte_of_a_pack(self, store: LocalStore, file: Path) -> None:
        content = bytearray(file.read_bytes())
        with closing(sqlite3.connect(file)) as connection:
            (data,) = connection.execute("SELECT data FROM packs WHERE id = 2").fetchone()
        place = content.index(data[:200])
        content[place + 150] ^= 1
        file.write_bytes(content)
        self.is_mended(store, range(100, 200))

    @pytest.mark.parametrize("column", ["pack", "place"])
    def test_member(self, store: LocalStore, file: Path, column: str) -> None:
        """A sample that leads to another's row: SQLite keeps no digest of its pages."""
        with closing(sqlite3.connect(file)) as connection, connection:
            other = "1" if column == "pack" else "((place + 1) % 100)"
            connection.execute(f"UPDATE members SET {column} = {other} WHERE sample = ?", (sample_key(source(150)),))
        self.is_mended(store, {"pack": [*range(100), 150], "place": range(100, 200)}[column])

    def test_pack_to_which_no_sample_leads_is_dropped_with_the_next_merging(self, store: LocalStore, file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("DELETE FROM members WHERE pack = 1")
        scope = store.scope(STATISTIC, KEY)
        for number in range(200, 200 + local_scope.MERGED):
            scope.write(table([number]))
        assert contents(scope, range(300)) == expected(range(100, 200 + local_scope.MERGED))
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT count(*) FROM packs WHERE id = 1").fetchone() == (0,)

    def test_of_single_entries_in_its_place_and_the_other_way_round(self, store: LocalStore, file: Path) -> None:
        store.put(STATISTIC, "a" * 64, b"an entry")
        store.close()
        entries = file.with_name("entries.db")
        between = entries.rename(file.with_suffix(".between"))
        file.rename(entries)
        between.rename(file)
        self.is_mended(store, range(200))
        with pytest.warns(DamagedEntry, match=r"damaged statistic entries\.db"):
            assert store.get(STATISTIC, "a" * 64) is None
        store.put(STATISTIC, "a" * 64, b"an entry")
        assert store.get(STATISTIC, "a" * 64) == b"an entry"

    def test_of_another_kind_that_comes_while_it_is_open(self, store: LocalStore, file: Path) -> None:
        store.put(STATISTIC, "a" * 64, b"an entry")
        assert contents(store.scope(STATISTIC, KEY), range(200)) == expected(range(200))
        with closing(sqlite3.connect(file)) as connection, connection:  # as if written over in place
            connection.executescript("DROP TABLE packs; DROP TABLE members; DROP TABLE more;")
        self.is_mended(store, range(200))

    CHANGES = ("truncated", "empty", "another file", "a page of zeros", "a later schema", "another column", "a name that is no text")

    @pytest.mark.parametrize("change", CHANGES)
    def test_file(self, store: LocalStore, file: Path, change: str) -> None:
        content = file.read_bytes()
        half, page = len(content) // 2, sqlite_files.PAGE
        changed = {
            "truncated": content[: half - half % page],
            "empty": b"",
            "another file": b"not a database " * 5000,
            "a page of zeros": content[:page] + bytes(page * 3) + content[4 * page :],
            "a later schema": content[:47] + b"\x09" + content[48:],
            "another column": content.replace(b"place INTEGER", b"plate INTEGER"),
            "a name that is no text": content.replace(b"membersmembers", b"memb\xffrsmemb\xffrs"),
        }
        assert changed[change] != content
        file.write_bytes(changed[change])
        self.is_mended(store, range(200))

    def test_file_that_sqlite_would_only_read(self, store: LocalStore, file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[:18] + b"\x09" + content[19:])
        scope = store.scope(STATISTIC, KEY)
        assert contents(scope, range(200)) == expected(range(200))
        with pytest.warns(DamagedEntry, match="damaged statistic"):
            scope.write(table(range(150, 250)))
        assert contents(scope, range(300)) == expected(range(150, 250))

    def test_pack_that_is_no_bytes(self, store: LocalStore, file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("UPDATE packs SET data = 'text' WHERE id = 2")
        self.is_mended(store, range(200))

    def test_file_while_others_have_it_open(self, store: LocalStore, file: Path) -> None:
        other = LocalStore(store.folder)
        assert len(contents(other.scope(STATISTIC, KEY), range(200))) == 200
        store.run(file, lambda connection: connection.execute("PRAGMA user_version = 99"))
        store.close()
        self.is_mended(store, range(200))
        assert contents(other.scope(STATISTIC, KEY), range(200)) == expected(range(200))
        other.close()
        assert contents(store.scope(STATISTIC, KEY), range(200)) == expected(range(200))

    def test_file_that_is_taken_away_does_not_leave_its_log_to_the_next(self, store: LocalStore) -> None:
        store.scope(STATISTIC, KEY).write(table(range(100)))
        store.path_of(STATISTIC, KEY).unlink()
        other = LocalStore(store.folder)
        other.scope(STATISTIC, KEY).write(table(range(100, 200)))
        assert contents(other.scope(STATISTIC, KEY), range(200)) == expected(range(100, 200))
        assert contents(store.scope(STATISTIC, KEY), range(200)) == expected(range(100, 200))
        assert other.damaged == store.damaged == []

    def test_file_of_another_scope(self, store: LocalStore, file: Path) -> None:
        """Its packs are whole, and of the same samples."""
        other = key_of(source="abc", quality=6)
        store.scope(STATISTIC, other).write(table(range(200)))
        store.close()
        shutil.copy(store.path_of(STATISTIC, other), file)
        self.is_mended(store, range(200))

    def test_pack_that_nobody_can_read(self, store: LocalStore, file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            data = (10**6).to_bytes(8, "little") + b"no frame of zstd"
            connection.execute("UPDATE packs SET digest = ?, bytes = ?, data = ? WHERE id = 2", (packs.digest_of(data), len(data), data))
        self.is_mended(store, range(100, 200))

    @pytest.mark.parametrize("what", ["a folder", "a loop of links", "a link to nothing"])
    def test_file_whose_place_is_taken(self, store: LocalStore, file: Path, what: str) -> None:
        file.unlink()
        if what == "a folder":
            (file / "within").mkdir(parents=True)
        else:
            file.symlink_to(file if what == "a loop of links" else file.with_name("nothing"))
        scope = store.scope(STATISTIC, KEY)
        assert contents(scope, range(200)) == {}
        scope.write(table(range(200)))
        assert contents(store.scope(STATISTIC, KEY), range(200)) == expected(range(200))

    def test_object_of_another_scope(self, tmp_path: Path) -> None:
        store, other = open_store((tmp_path / "store").as_uri()), key_of(source="abc", quality=6)
        store.scope(STATISTIC, other).write(table(range(100)))
        (object_,) = (tmp_path / "store").rglob("*.pack")
        (folder := object_.parent.with_name(KEY)).mkdir()
        shutil.copy(object_, folder)
        scope = store.scope(STATISTIC, KEY)
        with pytest.warns(DamagedEntry, match="damaged statistic"):
            assert contents(scope, range(100)) == {}
        scope.write(table(range(100)))
        assert contents(store.scope(STATISTIC, KEY), range(100)) == expected(range(100))

    def test_object(self, tmp_path: Path) -> None:
        store = open_store((tmp_path / "store").as_uri())
        store.scope(STATISTIC, KEY).write(table(range(100)))
        store.scope(STATISTIC, KEY).write(table(range(100, 200)))
        first, second = (tmp_path / "store").rglob("*.pack")
        first.write_bytes(first.read_bytes()[:-1])  # uploaded in part
        content = bytearray(second.read_bytes())
        content[40] ^= 1
        second.write_bytes(content)
        scope = store.scope(STATISTIC, KEY)
        with pytest.warns(DamagedEntry, match="damaged statistic"):
            assert contents(scope, range(200)) == {}
        assert store.damaged == [f"{STATISTIC} {KEY[:12]}"] * 2
        scope.write(table(range(200)))
        assert contents(store.scope(STATISTIC, KEY), range(200)) == expected(range(200))

    def test_beginning_of_an_object(self, tmp_path: Path) -> None:
        store = open_store((tmp_path / "store").as_uri())
        store.scope(STATISTIC, KEY).write(table(range(100)))
        (file,) = (tmp_path / "store").rglob("*.pack")
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.warns(DamagedEntry):
            assert store.scope(STATISTIC, KEY).found([source(1)]) == set()


class TestEntry:
    @pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 4096], ids=["empty", "a byte", "a megabyte"])
    def test_comes_back_as_it_was_put(self, any_store: Store, payload: bytes) -> None:
        any_store.put(BITSTREAM, KEY, payload)
        assert any_store.get(BITSTREAM, KEY) == payload
        any_store.put(BITSTREAM, KEY, b"another")
        assert any_store.get(BITSTREAM, KEY) == b"another"

    def test_is_none_where_nothing_was_put(self, any_store: Store) -> None:
        assert any_store.get(BITSTREAM, KEY) is None

    def test_belongs_to_its_layer(self, any_store: Store) -> None:
        any_store.put(BITSTREAM, KEY, b"bits")
        assert any_store.get(PREDICTION, KEY) is None
        assert any_store.get(STATISTIC, KEY) is None

    def test_is_counted(self, any_store: Store) -> None:
        any_store.put(BITSTREAM, KEY, b"bits")
        any_store.get(BITSTREAM, KEY)
        any_store.get(BITSTREAM, KEY)
        any_store.get(PREDICTION, KEY)
        assert (dict(any_store.computed), dict(any_store.reused)) == ({BITSTREAM: 1}, {BITSTREAM: 2})

    def test_is_readable_to_others_as_any_new_file(self, store: LocalStore, tmp_path: Path) -> None:
        store.put(BITSTREAM, KEY, b"bits")
        (plain := tmp_path / "plain").touch()
        assert {path.stat().st_mode for path in store.folder.rglob("*.db*")} == {plain.stat().st_mode}


class TestDamagedEntry:
    @pytest.fixture(params=["flipped payload", "flipped digest", "truncated", "not a database"])
    def damaged(self, request: pytest.FixtureRequest, store: LocalStore) -> LocalStore:
        store.put(STATISTIC, KEY, b"0123456789" * 10)
        store.close()
        (file,) = store.folder.rglob("entries.db")
        with closing(sqlite3.connect(file)) as connection, connection:
            match request.param:
                case "flipped payload":
                    connection.execute("UPDATE entries SET payload = CAST(x'31' || substr(payload, 2) AS BLOB)")
                case "flipped digest":
                    connection.execute("UPDATE entries SET digest = CAST(x'00' || substr(digest, 2) AS BLOB)")
                case "truncated":
                    connection.execute("UPDATE entries SET payload = substr(payload, 1, 99)")
        if request.param == "not a database":
            file.write_bytes(b"no" + file.read_bytes()[2:])
        return store

    def test_is_noticed_and_dropped(self, damaged: LocalStore) -> None:
        with pytest.warns(DamagedEntry, match="damaged statistic"):
            assert damaged.get(STATISTIC, KEY) is None
        assert damaged.damaged in ([f"statistic {KEY[:12]}"], ["statistic entries"])
        assert not damaged.reused

    def test_is_whole_once_it_is_made_again(self, damaged: LocalStore) -> None:
        with pytest.warns(DamagedEntry):
            damaged.get(STATISTIC, KEY)
        assert damaged.get(STATISTIC, KEY) is None
        damaged.put(STATISTIC, KEY, b"again")
        assert damaged.get(STATISTIC, KEY) == b"again"


class TestLock:
    MAKE = """
import sys, time
from pathlib import Path
from mpq_fixtures.store import BITSTREAM, open_store
store = open_store(Path(sys.argv[1]))
while not Path(sys.argv[3]).exists():  # all at once
    time.sleep(.001)
with store.lock(BITSTREAM, sys.argv[2]):
    if store.get(BITSTREAM, sys.argv[2]) is None:
        time.sleep(.2)
        store.put(BITSTREAM, sys.argv[2], b"made")
print(store.computed[BITSTREAM], store.reused[BITSTREAM])
"""

    def test_lets_one_of_many_processes_make_an_entry(self, store: LocalStore, tmp_path: Path) -> None:
        processes = [script(self.MAKE, store.folder, KEY, tmp_path / "go") for _ in range(4)]
        (tmp_path / "go").touch()
        outputs = [process.communicate(timeout=60) for process in processes]
        assert [error for _, error in outputs if error] == []
        assert sorted(output.strip() for output, _ in outputs) == ["0 1", "0 1", "0 1", "1 0"]

    def test_holds_between_threads_too(self, any_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        inside, most = [], []

        def work() -> None:
            with any_store.lock(BITSTREAM, KEY):
                inside.append(1)
                most.append(len(inside))
                threading.Event().wait(0.02)
                inside.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1, 1, 1, 1]

    def test_is_free_again_when_its_holder_is_killed(self, store: LocalStore) -> None:
        hold = "import sys, time; from pathlib import Path; from mpq_fixtures.store import open_store\n"
        hold += "with open_store(Path(sys.argv[1])).lock('bitstream', sys.argv[2]): print('held', flush=True); time.sleep(60)"
        holder = script(hold, store.folder, KEY)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.communicate()
        with store.lock(BITSTREAM, KEY):
            pass

    def test_leaves_few_files(self, store: LocalStore) -> None:
        for number in range(600):
            with store.lock(BITSTREAM, key_of(number=number)):
                pass
        assert len(list(store.folder.rglob("*.lock"))) <= 256


class TestFormat:
    @staticmethod
    def write_older(folder: Path) -> None:
        """What mpq left before it had packs: a file for each entry."""
        for layer in (BITSTREAM, STATISTIC):
            (folder / layer / "00").mkdir(parents=True)
            (folder / layer / "00" / "11").write_bytes(bytes(1500))

    def test_older_one_is_said_once_and_left_alone(self, store: LocalStore) -> None:
        self.write_older(store.folder)
        with pytest.warns(OlderFormat, match=r"also holds 3.0 kB in 2 files of an older mpq's.* mpq store prune --old") as said:
            store.scope(BITSTREAM, KEY).write(table([1]))
        assert len([one for one in said if one.category is OlderFormat]) == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            LocalStore(store.folder).scope(PREDICTION, KEY).write(table([1]))
        assert store.get(BITSTREAM, "0011") is None
        assert [(part.layer, part.entries) for part in store.parts()] == [(BITSTREAM, 1), (PREDICTION, 1)]
        assert len(list(store.folder.glob("*/00/11"))) == 2

    @pytest.mark.parametrize("marker", ['{"format": 3, "by": "mpq 9.1"}', '{"format": 99}', "", "[]"])
    def test_newer_one_is_refused(self, any_store: Store, marker: str) -> None:
        any_store.put(BITSTREAM, KEY, b"x")
        if isinstance(any_store, LocalStore):
            (any_store.folder / "mpq-store.json").write_text(marker)
        else:
            any_store._files()[0].pipe_file(any_store.path("mpq-store.json"), marker.encode())  # type: ignore[attr-defined]
        store = open_store(any_store.location)
        scope = store.scope(BITSTREAM, KEY)
        for action in (
            lambda: store.put(BITSTREAM, KEY, b"x"),
            lambda: store.get(BITSTREAM, KEY),
            lambda: scope.write(table([1])),
            lambda: contents(scope, [1]),
            lambda: scope.found([source(1)]),
        ):
            with pytest.raises(StoreError, match="--mpq-cache") as caught:
                action()
            assert store.location in str(caught.value)
            assert "\n" not in str(caught.value)
        if "mpq 9.1" in marker:
            assert "written by mpq 9.1, in format 3; this mpq knows 2" in str(caught.value)


class TestFolderThatCannotBeUsed:
    @staticmethod
    def is_one_sentence(error: StoreError, store: LocalStore, reason: str) -> bool:
        message = str(error)
        return str(store.folder) in message and reason in message and "--mpq-cache" in message and "\n" not in message

    @pytest.mark.parametrize("place", ["store", "store/format-2", "store/format-2/bitstream"])
    def test_that_is_a_file(self, tmp_path: Path, place: str) -> None:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text("not a folder")
        store = LocalStore(tmp_path / "store")
        for action in (lambda: store.put(BITSTREAM, KEY, b"x"), lambda: store.scope(BITSTREAM, KEY).write(table([1]))):
            with pytest.raises(StoreError) as caught:
                action()
            assert self.is_one_sentence(caught.value, store, "")
        if place == "store":
            for action in (lambda: store.get(BITSTREAM, KEY), store.lock(BITSTREAM, KEY).__enter__):
                with pytest.raises(StoreError):
                    action()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_that_is_read_only(self, store: LocalStore) -> None:
        store.folder.mkdir()
        store.folder.chmod(0o555)
        with pytest.raises(StoreError) as caught:
            store.put(BITSTREAM, KEY, b"x")
        assert self.is_one_sentence(caught.value, store, "Permission denied")

    READ = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import BITSTREAM, KEY, StoreError, contents, expected, open_store, table
os.setgid(65534); os.setuid(65534)
scope = open_store(sys.argv[1]).scope(BITSTREAM, KEY, {{"suite": "another"}})
assert contents(scope, range(9)) == expected(range(5))
try:
    scope.write(table([7]))
except StoreError as error:
    print(error)
"""

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
    def test_that_belongs_to_somebody_else_is_read(self, tmp_path: Path) -> None:
        """A store that may only be read gives what it has; the log is empty, since its writer is done."""
        import tempfile

        with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own folders are private
            Path(folder).chmod(0o755)
            store = LocalStore(Path(folder, "store"))
            store.scope(BITSTREAM, KEY).write(table(range(5)))
            store.close()
            output, errors = script(self.READ, store.folder).communicate(timeout=60)
            assert errors == ""
            assert self.is_one_sentence(StoreError(output.strip()), store, "Permission denied")

    WRITE_UNTIL_FULL = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import BITSTREAM, KEY, StoreError, open_store, table
from pathlib import Path
import pyarrow as pa, os
scope = open_store(sys.argv[1]).scope(BITSTREAM, KEY)
for number in range(1000):
    try:
        scope.write(table([number]).append_column("noise", pa.array([os.urandom(200_000)])))
    except StoreError as error:
        print(error)
        break
    print(number)
"""

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
    def test_that_is_full(self, tmp_path: Path) -> None:
        (disk := tmp_path / "disk").mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "mpq", disk], capture_output=True)
        if mounted.returncode:
            pytest.skip("no disk can be mounted here")
        try:
            output, errors = script(self.WRITE_UNTIL_FULL, disk / "store").communicate(timeout=60)
            assert errors == ""
            *written, message = output.splitlines()
            store = LocalStore(disk / "store")
            assert self.is_one_sentence(StoreError(message), store, "No space left on device")
            assert message.endswith("; free some room or choose another folder with --mpq-cache")
            assert len(written) > 3
            assert contents(store.scope(BITSTREAM, KEY), range(1000)) == expected(range(len(written)))
            assert store.damaged == []
            store.close()
        finally:
            subprocess.run(["umount", disk], check=True)

    def test_whose_files_cannot_grow(self, store: LocalStore) -> None:
        # The kernel refuses to let a file grow beyond the limit, in the middle of the write, as a full disk would.
        code = """
import resource, sys
from pathlib import Path
from mpq_fixtures.store import StoreError, open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
store = open_store(Path(sys.argv[1]))
store.put("bitstream", "00small", b"x")
try:
    store.put("bitstream", sys.argv[2], bytes(1_000_000))
except StoreError as error:
    print(error)
"""
        output, errors = script(code, store.folder, KEY).communicate(timeout=60)
        assert errors == ""
        assert self.is_one_sentence(StoreError(output.strip()), store, "disk I/O error")
        assert store.get(BITSTREAM, KEY) is None
        assert store.get(BITSTREAM, "00small") == b"x"
        assert not list(store.folder.rglob("*.part"))  # no piece stays behind


class TestKilledProcess:
    # The kernel kills the process when it writes beyond the limit: in the middle of an entry, every time.
    PUT = """
import resource, signal, sys
from pathlib import Path
from mpq_fixtures.store import open_store
store, (key, limit) = open_store(Path(sys.argv[1])), sys.argv[2:]
store.put("bitstream", key, b"before")
print("put", flush=True)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
store.put("bitstream", key, bytes(8_000_000))
"""

    MAKE = """
import resource, signal, sys
from pathlib import Path
from mpq_fixtures.store import open_store
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
open_store(Path(sys.argv[1])).put("bitstream", sys.argv[2], b"x")
"""

    def test_leaves_no_piece_of_a_new_file_for_long(self, store: LocalStore) -> None:
        process = script(self.MAKE, store.folder, KEY)
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGXFSZ
        assert list(store.folder.rglob(".*.part*"))
        store.put(BITSTREAM, KEY, b"x")
        assert not list(store.folder.rglob(".*.part*"))

    @pytest.mark.parametrize("written", [40_000, 70_001, 1_000_000, 8_000_031])
    def test_leaves_the_entry_as_it_was(self, store: LocalStore, written: int) -> None:
        process = script(self.PUT, store.folder, KEY, written)
        output, errors = process.communicate(timeout=60)
        assert (output, errors, process.returncode) == ("put\n", "", -signal.SIGXFSZ)
        assert store.get(BITSTREAM, KEY) == b"before"
        assert store.damaged == []
        store.put(BITSTREAM, KEY, b"after")
        assert store.get(BITSTREAM, KEY) == b"after"
