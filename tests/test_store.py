"""The store: whole entries or none, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mpq_fixtures.store import BITSTREAM, PREDICTION, STATISTIC, DamagedEntry, Store, StoreError, key_of, open_store

KEY = key_of(source="abc", quality=5)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def entry(store: Store) -> Path:
    """The only file of the store."""
    (path,) = [path for path in store.folder.rglob("*") if path.is_file()]
    return path


def script(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a Python process of its own."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class TestKey:
    def test_is_the_same_for_the_same_parts_in_any_order(self) -> None:
        assert key_of(a=1, b=["x", {"c": None}]) == key_of(b=["x", {"c": None}], a=1)

    def test_differs_where_anything_differs(self) -> None:
        keys = [key_of(a=1), key_of(a="1"), key_of(b=1), key_of(a=1, b=1), key_of(a=[1]), key_of(a=1.5), key_of(a="")]
        assert len(set(keys)) == len(keys)


class TestEntry:
    @pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 4096], ids=["empty", "a byte", "a megabyte"])
    def test_comes_back_as_it_was_put(self, store: Store, payload: bytes) -> None:
        store.put(BITSTREAM, KEY, payload)
        assert open_store(store.folder).get(BITSTREAM, KEY) == payload

    def test_is_none_where_nothing_was_put(self, store: Store) -> None:
        assert store.get(BITSTREAM, KEY) is None

    def test_belongs_to_its_layer(self, store: Store) -> None:
        store.put(BITSTREAM, KEY, b"bits")
        assert store.get(PREDICTION, KEY) is None
        assert store.get(STATISTIC, KEY) is None

    def test_is_counted(self, store: Store) -> None:
        store.put(BITSTREAM, KEY, b"bits")
        store.get(BITSTREAM, KEY)
        store.get(BITSTREAM, KEY)
        store.get(PREDICTION, KEY)
        assert (dict(store.computed), dict(store.reused)) == ({BITSTREAM: 1}, {BITSTREAM: 2})

    def test_is_readable_to_others_as_any_new_file(self, store: Store, tmp_path: Path) -> None:
        store.put(BITSTREAM, KEY, b"bits")
        (plain := tmp_path / "plain").touch()
        assert entry(store).stat().st_mode == plain.stat().st_mode


class TestDamagedEntry:
    @pytest.fixture(params=["flipped payload", "flipped digest", "truncated", "cut into the digest", "empty"])
    def damaged(self, request: pytest.FixtureRequest, store: Store) -> Store:
        store.put(STATISTIC, KEY, b"0123456789" * 10)
        path = entry(store)
        content = bytearray(path.read_bytes())
        match request.param:
            case "flipped payload":
                content[70] ^= 1
            case "flipped digest":
                content[0] ^= 1
            case "truncated":
                del content[-1]
            case "cut into the digest":
                del content[10:]
            case "empty":
                content.clear()
        path.write_bytes(content)
        return store

    def test_is_noticed_and_dropped(self, damaged: Store) -> None:
        with pytest.warns(DamagedEntry, match="damaged statistic"):
            assert damaged.get(STATISTIC, KEY) is None
        assert damaged.damaged == [f"statistic {KEY[:12]}"]
        assert not damaged.reused

    def test_is_whole_once_it_is_made_again(self, damaged: Store) -> None:
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

    def test_lets_one_of_many_processes_make_an_entry(self, store: Store, tmp_path: Path) -> None:
        processes = [script(self.MAKE, store.folder, KEY, tmp_path / "go") for _ in range(4)]
        (tmp_path / "go").touch()
        outputs = [process.communicate(timeout=60) for process in processes]
        assert [error for _, error in outputs if error] == []
        assert sorted(output.strip() for output, _ in outputs) == ["0 1", "0 1", "0 1", "1 0"]

    def test_holds_between_threads_too(self, store: Store) -> None:
        inside, most = [], []

        def work() -> None:
            with store.lock(BITSTREAM, KEY):
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

    def test_is_free_again_when_its_holder_is_killed(self, store: Store) -> None:
        hold = "import sys, time; from pathlib import Path; from mpq_fixtures.store import open_store\n"
        hold += "with open_store(Path(sys.argv[1])).lock('bitstream', sys.argv[2]): print('held', flush=True); time.sleep(60)"
        holder = script(hold, store.folder, KEY)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.communicate()
        with store.lock(BITSTREAM, KEY):
            pass

    def test_leaves_few_files(self, store: Store) -> None:
        for number in range(600):
            with store.lock(BITSTREAM, key_of(number=number)):
                pass
        assert len(list(store.folder.rglob("*.lock"))) <= 256


class TestFolderThatCannotBeUsed:
    @staticmethod
    def is_one_sentence(error: StoreError, store: Store, reason: str) -> bool:
        message = str(error)
        return str(store.folder) in message and reason in message and "--mpq-cache" in message and "\n" not in message

    def test_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "store").write_text("not a folder")
        store = open_store(tmp_path / "store")
        for action in (lambda: store.get(BITSTREAM, KEY), lambda: store.put(BITSTREAM, KEY, b"x"), store.lock(BITSTREAM, KEY).__enter__):
            with pytest.raises(StoreError) as caught:
                action()
            assert self.is_one_sentence(caught.value, store, "")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_that_is_read_only(self, store: Store) -> None:
        store.folder.mkdir()
        store.folder.chmod(0o555)
        with pytest.raises(StoreError) as caught:
            store.put(BITSTREAM, KEY, b"x")
        assert self.is_one_sentence(caught.value, store, "Permission denied")

    def test_that_has_no_room(self, store: Store) -> None:
        # The kernel refuses to let a file grow beyond the limit, in the middle of the write, as a full disk would.
        code = """
import resource, sys
from pathlib import Path
from mpq_fixtures.store import StoreError, open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = open_store(Path(sys.argv[1]))
store.put("bitstream", "00small", b"x")
try:
    store.put("bitstream", sys.argv[2], bytes(1_000_000))
except StoreError as error:
    print(error)
"""
        output, errors = script(code, store.folder, KEY).communicate(timeout=60)
        assert errors == ""
        assert self.is_one_sentence(StoreError(output.strip()), store, "File too large")
        assert store.get(BITSTREAM, KEY) is None
        assert store.get(BITSTREAM, "00small") == b"x"
        assert len([path for path in store.folder.rglob("*") if path.is_file()]) == 1  # no piece stays behind


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

    @pytest.mark.parametrize("written", [1, 31, 32, 33, 1_000_000, 8_000_031])
    def test_leaves_the_entry_as_it_was(self, store: Store, written: int) -> None:
        process = script(self.PUT, store.folder, KEY, written)
        output, errors = process.communicate(timeout=60)
        assert (output, errors, process.returncode) == ("put\n", "", -signal.SIGXFSZ)
        (piece,) = store.folder.rglob("*.part")
        assert piece.stat().st_size == written
        assert store.get(BITSTREAM, KEY) == b"before"
        assert store.damaged == []
        store.put(BITSTREAM, KEY, b"after")
        assert store.get(BITSTREAM, KEY) == b"after"
