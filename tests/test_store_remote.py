"""A store at a URL: an object store that does not answer for a while, whose clients are missing, or that several machines write at once."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import fsspec
import pytest
from chaos_kinds import Disk, NoDisk
from fsspec.implementations.memory import MemoryFileSystem
from test_store import KEY, contents, expected, source, table

from mpq_fixtures.store import BITSTREAM, STATISTIC, DamagedEntry, StoreError, open_store, remote
from mpq_fixtures.store.remote import RemoteStore, StoreDoesNotAnswer


class Flaky(MemoryFileSystem):  # type: ignore[misc]
    """A file system in memory that answers some calls with an error."""

    protocol = "flaky"
    cachable = False
    errors: list[Exception] = []
    asked = listed = fetched = 0

    @classmethod
    def _fail(cls) -> None:
        Flaky.asked += 1
        if Flaky.errors:
            raise Flaky.errors.pop(0)

    def cat_file(self, *arguments: Any, **options: Any) -> Any:
        self._fail()
        content = super().cat_file(*arguments, **options)
        Flaky.fetched += len(content)
        return content

    def pipe_file(self, *arguments: Any, **options: Any) -> Any:
        self._fail()
        return super().pipe_file(*arguments, **options)

    def ls(self, *arguments: Any, **options: Any) -> Any:
        self._fail()
        Flaky.listed += 1
        return super().ls(*arguments, **options)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://")))


fsspec.register_implementation("flaky", Flaky, clobber=True)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a store that can be made to fail; whoever waits does so in no time."""
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(remote, "LONGEST_WAIT", 0.01)
    Flaky.errors, Flaky.asked, Flaky.listed, Flaky.fetched = [], 0, 0, 0
    yield f"flaky://{uuid.uuid4()}"
    Flaky.errors = []


class TestStoreThatDoesNotAnswer:
    @pytest.mark.parametrize("error", [OSError("503 Slow Down"), TimeoutError("timed out"), ConnectionResetError("reset")], ids=repr)
    def test_for_a_while_loses_nothing_and_is_said_once(self, flaky: str, error: Exception) -> None:
        scope = open_store(flaky).scope(BITSTREAM, KEY)
        Flaky.errors = [error] * 5
        with pytest.warns(StoreDoesNotAnswer, match=r"does not answer.*trying again for up to 120 s"):
            scope.write(table(range(5)))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it is said once
            for first in range(5, 50, 5):
                Flaky.errors = [error] * 2
                scope.write(table(range(first, first + 5)))
        store = open_store(flaky)
        Flaky.errors = [error] * 3
        with pytest.warns(StoreDoesNotAnswer):
            assert contents(store.scope(BITSTREAM, KEY), range(60)) == expected(range(50))
        assert store.damaged == []

    def test_for_longer_is_an_error(self, flaky: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(remote, "PATIENCE", 0.1)
        store = open_store(flaky)
        Flaky.errors = [OSError("503 Slow Down")] * 100_000
        with pytest.warns(StoreDoesNotAnswer), pytest.raises(StoreError) as caught:
            store.scope(BITSTREAM, KEY).write(table([1]))
        assert f"cannot use the store {flaky}: it has not answered for" in str(caught.value)
        assert "503 Slow Down" in str(caught.value)
        assert "--mpq-cache" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("error", [PermissionError(13, "Access Denied"), ValueError("no such bucket name")], ids=repr)
    def test_that_never_will_is_not_asked_again(self, flaky: str, error: Exception) -> None:
        store = open_store(flaky)
        Flaky.errors = [error] * 100
        with pytest.raises(StoreError, match=f"{flaky}.*(Access Denied|no such bucket name).*--mpq-cache"):
            store.scope(BITSTREAM, KEY).write(table([1]))
        assert Flaky.asked == 1

    def test_waits_longer_each_time(self, flaky: str, monkeypatch: pytest.MonkeyPatch) -> None:
        waits: list[float] = []
        monkeypatch.setattr(time, "sleep", waits.append)
        monkeypatch.setattr(remote, "FIRST_WAIT", 0.5)
        monkeypatch.setattr(remote, "LONGEST_WAIT", 16.0)
        Flaky.errors = [OSError("no")] * 8
        with pytest.warns(StoreDoesNotAnswer):
            open_store(flaky).get(BITSTREAM, KEY)
        assert waits == [0.5, 1, 2, 4, 8, 16, 16, 16]


class TestRequests:
    def test_are_few_for_a_scope_that_is_known(self, flaky: str) -> None:
        for first in range(0, 100, 10):
            open_store(flaky).scope(BITSTREAM, KEY).write(table(range(first, first + 10)))
        scope = open_store(flaky).scope(BITSTREAM, KEY)
        scope.found(map(source, range(100)))
        Flaky.asked = 0
        assert len(scope.found(map(source, range(100)))) == 100
        assert Flaky.asked == 0
        assert contents(scope, [5]) == expected([5])
        assert Flaky.asked == 1  # the one object
        assert contents(scope, [6]) == expected([6])
        assert Flaky.asked == 1  # which has that, too

    def test_fetch_each_object_once_where_batches_are_smaller(self, flaky: str) -> None:
        for first in range(0, 400, 20):
            open_store(flaky).scope(BITSTREAM, KEY).write(table(range(first, first + 20)))
        (part,) = open_store(flaky).parts()
        Flaky.listed = Flaky.fetched = 0
        scope = open_store(flaky).scope(BITSTREAM, KEY)
        for first in range(0, 400, 4):
            assert contents(scope, range(first, first + 4)) == expected(range(first, first + 4))
        assert Flaky.listed == 1
        assert Flaky.fetched < part.bytes + 20 * (16 + 20 * 32) + 1000  # beginnings, and the store's mark

    def test_keep_no_more_in_memory_than_is_said(self, flaky: str, monkeypatch: pytest.MonkeyPatch) -> None:
        limit = 3 * table(range(20)).nbytes
        monkeypatch.setattr(remote, "_KEPT", limit)
        for first in range(0, 400, 20):
            open_store(flaky).scope(BITSTREAM, KEY).write(table(range(first, first + 20)))
        store = open_store(flaky)
        assert isinstance(store, RemoteStore)
        scope = store.scope(BITSTREAM, KEY)
        for first in (*range(0, 400, 4), *range(0, 400, 50)):
            assert contents(scope, range(first, first + 4)) == expected(range(first, first + 4))
            assert 0 < sum(one.nbytes for one in store.kept._tables.values()) <= limit

    @pytest.mark.parametrize("damaged", [0, 1])
    def test_find_a_sample_in_another_object_where_one_is_damaged(self, flaky: str, damaged: int) -> None:
        one, other = (open_store(flaky).scope(BITSTREAM, KEY) for _ in range(2))
        assert other.found([source(1)]) == set()
        one.write(table([1, 2]))
        files, path = RemoteStore(flaky)._files()
        first = files.find(path)
        other.write(table([1, 3]))
        pack = ({*files.find(path)} - {*first}, {one for one in first if one.endswith(".pack")})[damaged].pop()
        content = files.cat_file(pack)
        files.pipe_file(pack, content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.warns(DamagedEntry):
            assert contents(open_store(flaky).scope(BITSTREAM, KEY), range(4)) == expected([[1, 2], [1, 3]][damaged])

    def test_find_what_another_wrote_meanwhile(self, flaky: str) -> None:
        one, other = (open_store(flaky).scope(BITSTREAM, KEY) for _ in range(2))
        one.write(table([1]))
        assert other.found([source(1), source(2)]) == {source(1)}
        one.write(table([2]))
        assert other.found([source(1), source(2)]) == {source(1), source(2)}
        assert contents(other, [1, 2]) == expected([1, 2])

    def test_write_the_same_pack_once(self, flaky: str) -> None:
        for _ in range(3):
            open_store(flaky).scope(BITSTREAM, KEY).write(table([1, 2]))
        (part,) = open_store(flaky).parts()
        assert (part.files, part.entries) == (1, 2)


class TestUrlThatCannotBe:
    @pytest.mark.parametrize(("url", "package"), [("s3://bucket/prefix", "s3fs"), ("gs://bucket", "gcsfs"), ("az://box", "adlfs")])
    def test_names_the_package_that_is_missing(self, monkeypatch: pytest.MonkeyPatch, url: str, package: str) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, url.partition("://")[0], raising=False)  # known clients
        with pytest.raises(StoreError, match=f"--mpq-cache {url}: .* needs a package that is not here: pip install {package}"):
            open_store(url).get(BITSTREAM, KEY)

    def test_is_of_no_kind(self) -> None:
        with pytest.raises(StoreError, match=r"--mpq-cache nowhere://x: .*s3://bucket/prefix"):
            open_store("nowhere://x").get(BITSTREAM, KEY)


class TestSharedFolder:
    def test_shows_no_piece_of_an_object(self, tmp_path: Path) -> None:
        """Who lists the folder while a large pack is written sees it whole or not at all."""
        store, done = open_store(tmp_path.as_uri()), threading.Event()
        import pyarrow as pa

        noise = pa.array([bytes(range(256)) * 40_000] * 2)

        def write() -> None:
            for first in range(0, 20, 2):
                store.scope(BITSTREAM, KEY).write(table([first, first + 1]).append_column("noise", noise))
            done.set()

        thread = threading.Thread(target=write)
        thread.start()
        reader = open_store(tmp_path.as_uri())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            while not done.is_set():
                found = contents(reader.scope(BITSTREAM, KEY), range(20))
                assert found == expected(found)
        thread.join()
        assert contents(reader.scope(BITSTREAM, KEY), range(20)) == expected(range(20))
        assert not list(tmp_path.rglob("*.part"))

    def test_is_begun_by_many_at_once(self, tmp_path: Path) -> None:
        """Threads have their process's number in common, as processes in containers may."""
        for number in range(20):
            url, start = (tmp_path / str(number)).as_uri(), threading.Barrier(4, timeout=30)

            def begin(url: str = url, start: threading.Barrier = start) -> None:
                store = open_store(url)
                start.wait()
                store.put(BITSTREAM, KEY, b"the same")

            with ThreadPoolExecutor(4) as threads:
                for done in [threads.submit(begin) for _ in range(4)]:
                    done.result()
            assert open_store(url).get(BITSTREAM, KEY) == b"the same"
        assert not list(tmp_path.rglob("*.part"))

    def test_keeps_no_piece_of_a_process_that_was_killed_a_day_ago(self, tmp_path: Path) -> None:
        open_store(tmp_path.as_uri()).scope(BITSTREAM, KEY).write(table([1]))
        (pack,) = tmp_path.rglob("*.pack")
        pieces = [pack.with_name(f".{pack.name}.{number}.part") for number in (1, 2)]
        for piece, hours in zip(pieces, (25, 23), strict=True):
            piece.write_bytes(b"half of it")
            os.utime(piece, (time.time() - 3600 * hours,) * 2)
        open_store(tmp_path.as_uri()).scope(BITSTREAM, KEY).write(table([2]))
        assert [piece.exists() for piece in pieces] == [False, True]
        assert contents(open_store(tmp_path.as_uri()).scope(BITSTREAM, KEY), range(3)) == expected([1, 2])

    def test_below_a_file_is_an_error_at_once(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        url = (tmp_path / "file" / "store").as_uri()
        uses = [lambda store: store.get(BITSTREAM, KEY), lambda store: store.put(BITSTREAM, KEY, b""), lambda store: [*store.parts()]]
        for use in uses:
            with pytest.raises(StoreError, match=f"cannot use the store {url}: Not a directory; give another one with --mpq-cache"):
                use(open_store(url))


@pytest.fixture
def disk() -> Iterator[Disk]:
    try:
        disk = Disk(2)
    except NoDisk as error:
        pytest.skip(str(error))
    with closing(disk):
        yield disk


class TestDisk:
    """A shared folder on a disk that is full, or that may only be read, which waiting does not change."""

    @pytest.mark.filterwarnings("error")
    def test_that_is_full_is_said_at_once_and_keeps_no_piece(self, disk: Disk) -> None:
        store = open_store(f"file://{disk.seen}/store")
        store.put(BITSTREAM, KEY, b"x")
        disk.fill(4096)
        with pytest.raises(StoreError, match="No space left on device; free some room or give another"):
            store.put(BITSTREAM, KEY, bytes(100_000))
        assert not list(disk.seen.rglob("*.part"))
        assert store.get(BITSTREAM, KEY) == b"x"

    @pytest.mark.filterwarnings("error")
    def test_that_may_only_be_read_is_read_at_once(self, disk: Disk) -> None:
        url = f"file://{disk.seen}/store"
        open_store(url).scope(STATISTIC, KEY, {"case": "one"}).write(table(range(3)))
        disk.read_only(True)
        scope = open_store(url).scope(STATISTIC, KEY, {"case": "another"})
        assert contents(scope, range(5)) == expected(range(3))
        with pytest.raises(StoreError, match="Read-only file system; give another"):
            scope.write(table([4]))


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def serve_s3(port: int) -> subprocess.Popen[bytes]:
    code = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', sys.argv[1]])"
    return subprocess.Popen([sys.executable, "-c", code, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    port = free_port()
    process = serve_s3(port)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not (importlib.util.find_spec("s3fs") and importlib.util.find_spec("moto")), reason="needs s3fs and moto[server]")
class TestS3:
    """A server of S3's protocol on this machine."""

    @pytest.fixture
    def environment(self, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a user sets for a store that is not Amazon's."""
        for name, value in {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL": server}.items():
            monkeypatch.setenv(name, value)

    def test_holds_what_was_written(self, environment: None) -> None:
        url = f"s3://mpq-{uuid.uuid4().hex[:8]}/results"
        fsspec.filesystem("s3").mkdir(url.split("/")[2])
        store = open_store(url)
        store.scope(STATISTIC, KEY, {"suite": "a", "case": "x"}).write(table(range(100)))
        store.scope(STATISTIC, KEY, {"suite": "a", "case": "x"}).write(table(range(100, 120)))
        store.put(BITSTREAM, KEY, b"one")
        again = RemoteStore(url)
        assert contents(again.scope(STATISTIC, KEY), range(130)) == expected(range(120))
        assert again.scope(STATISTIC, KEY).found([source(3), source(129)]) == {source(3)}
        assert again.get(BITSTREAM, KEY) == b"one"
        parts = {part.layer: part for part in again.parts()}
        assert (parts[STATISTIC].entries, parts[STATISTIC].about) == (120, [{"suite": "a", "case": "x"}])
        assert abs(parts[STATISTIC].used - time.time()) < 600
        assert again.remove(parts[STATISTIC])
        assert contents(RemoteStore(url).scope(STATISTIC, KEY), range(130)) == {}

    def test_without_its_bucket_is_an_error(self, environment: None) -> None:
        with pytest.raises(StoreError, match="--mpq-cache"):
            open_store("s3://mpq-no-such-bucket/x").scope(STATISTIC, KEY).write(table([1]))

    def test_that_does_not_listen_yet_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        port = free_port()
        for name, value in {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
            monkeypatch.setenv(name, value)
        started: list[subprocess.Popen[bytes]] = []
        timer = threading.Timer(2, lambda: started.append(serve_s3(port)))
        timer.start()
        try:
            once = {"retries": {"total_max_attempts": 1}}  # the client's own patience is not what is tried
            store = RemoteStore("s3://late/x", endpoint_url=f"http://127.0.0.1:{port}", config_kwargs=once)
            with pytest.warns(StoreDoesNotAnswer, match="trying again for up to 120 s"):
                assert store.get(BITSTREAM, KEY) is None
            store._files()[0].mkdir("late")
            store.put(BITSTREAM, KEY, b"x")
            assert store.get(BITSTREAM, KEY) == b"x"
        finally:
            timer.join()
            started[0].kill()
            started[0].wait()

    def test_that_never_listens_is_an_error(self, environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(remote, "PATIENCE", 1.0)
        store = RemoteStore("s3://never/x", endpoint_url=f"http://127.0.0.1:{free_port()}")
        with pytest.raises(StoreError, match="it has not answered"):
            store.get(BITSTREAM, KEY)


class TestSettled:
    @pytest.mark.parametrize("place", ["file://{}/shared", "memory://{}", "{}/folder"])
    def test_is_what_one_of_several_wrote_and_all_are_given_it(self, place: str, tmp_path: Path) -> None:
        url, found, together = place.format(tmp_path), [], threading.Barrier(8)
        open_store(url).put(STATISTIC, KEY, b"")

        def settle(number: int) -> None:
            store = open_store(url)
            together.wait()
            if "://" in url:  # as on several machines, which have no lock in common
                found.append(store.settle(BITSTREAM, KEY, b"%d" % number))
            else:
                with store.lock(BITSTREAM, KEY):
                    found.append(store.settle(BITSTREAM, KEY, b"%d" % number))

        threads = [threading.Thread(target=settle, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert {*found} == {open_store(url).get(BITSTREAM, KEY)}
        assert open_store(url).settle(BITSTREAM, KEY, b"too late") == found[0]
        assert not [path for path in tmp_path.rglob("*.part")]
