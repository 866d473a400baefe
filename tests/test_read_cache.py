"""What was read is kept outside of the process's own memory, comes back as it was, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpq_fixtures.read_cache import ReadCache
from mpq_fixtures.signals import Audio, Image

NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
SOUND = Audio(NOISE[..., 0].astype(np.float32) / 255, 8000)


def arrays(content: Any) -> list[Any]:
    """Return what something consists of."""
    if isinstance(content, Image):
        return [content.pixels]
    if isinstance(content, Audio):
        return [content.waveform, content.sample_rate]
    return [[name, *arrays(one)] for name, one in content.items()] if isinstance(content, dict) else [content]


class Reader:
    """Counts how often something is read."""

    def __init__(self, content: Any) -> None:
        self.content, self.times = content, 0

    def __call__(self) -> Any:
        self.times += 1
        return self.content


@pytest.mark.parametrize(
    "content",
    [
        Image(NOISE),
        SOUND,
        NOISE[..., 0],
        {"drums": SOUND, "bass": Audio(-SOUND.waveform, 8000)},
        {"boxes": np.arange(396.0).reshape(99, 4), "crowd": np.zeros(0, bool), "labels": np.arange(3)},
        {},
    ],
    ids=["picture", "sound", "class map", "stems", "boxes", "nothing"],
)
def test_comes_back_as_it_was_and_is_nobody_elses(content: Any) -> None:
    cache, reader = ReadCache(10**6), Reader(content)
    first, second = (cache.read("signal", "a", 10, reader) for _ in range(2))
    np.testing.assert_equal(arrays(second), arrays(first))
    assert reader.times == 1
    assert second is not first
    for one in arrays(second):
        assert not isinstance(one, np.ndarray) or (one.flags.writeable and one.flags.aligned)
    for other in (("target", "a"), ("signal", "b")):
        cache.read(*other, 10, reader)
    assert reader.times == 3


def test_keeps_what_fits_with_its_whole_data_set() -> None:
    reader, size = Reader(Image(NOISE)), NOISE.nbytes
    for cache, samples in ((ReadCache(10 * size), 11), (ReadCache(0), 1), (ReadCache(size), 1)):
        for _ in range(2):
            cache.read("signal", "a", samples, reader)
    assert reader.times == 6
    cache = ReadCache(10 * size)
    for name in "abcdefghijklmnop":  # more than was said
        cache.read("signal", name, 2, reader)
    before = reader.times
    for name in "abcdefghijklmnop":
        cache.read("signal", name, 2, reader)
    assert reader.times == before + 16 - 9


def test_copies_nothing_of_what_does_not_fit() -> None:
    sound = Audio(np.ones((2, 2_000_000), np.float32), 48000)
    tracemalloc.start()
    try:
        assert ReadCache(sound.waveform.nbytes).read("signal", "a", 2, lambda: sound) is sound
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1e6


def test_forgets() -> None:
    cache, reader = ReadCache(10**6), Reader(Image(NOISE))
    for _ in range(2):
        cache.read("signal", "a", 10, reader)
        cache.forget()
    assert reader.times == 2
    cache.read("signal", "a", 10, reader)
    cache.read("signal", "a", 10, reader)
    assert reader.times == 3


@pytest.mark.parametrize("content", [7, "seven", {"text": "seven"}, {1: NOISE}, np.array(["seven", None])])
def test_does_not_keep_what_is_no_array(content: Any) -> None:
    reader = Reader(content)
    cache = ReadCache(10**6)
    assert all(cache.read("target", "a", 1, reader) is content for _ in range(2))
    assert reader.times == 2


def test_serves_several_threads() -> None:
    cache, readers = ReadCache(10**8), [Reader(Image(NOISE + np.uint8(number))) for number in range(50)]
    with ThreadPoolExecutor(8) as crew:
        found = list(crew.map(lambda number: cache.read("signal", str(number % 50), 50, readers[number % 50]), range(2000)))
    for number, picture in enumerate(found):
        np.testing.assert_array_equal(picture.pixels, NOISE + np.uint8(number % 50))
    assert sum(reader.times for reader in readers) < 200


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Return what starts a process that reads pictures into a cache and says how large it has become."""
    body = """if True:
        import os, resource, signal, sys
        import numpy as np
        from mpq_fixtures.processes.clock import peak_memory
        from mpq_fixtures.read_cache import ReadCache
        from mpq_fixtures.signals import Image

        count, most = int(sys.argv[1]), int(sys.argv[2])
        if most:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        cache, calls = ReadCache(2**30), []

        def picture(number):
            calls.append(number)
            return Image(np.full((100, 100, 3), number % 256, np.uint8))

        cache.read("signal", "first", count, lambda: picture(0))
        before = peak_memory()
        for _ in range(2):
            for number in range(count):
                found = cache.read("signal", f"{number:064}", count, lambda: picture(number))
                assert (found.pixels == number % 256).all()
        print(len(calls), peak_memory() - before, flush=True)
        sys.stdin.read()
    """

    def start(count: int, most: int = 0) -> subprocess.Popen[str]:
        environment = os.environ | {"SQLITE_TMPDIR": str(tmp_path)}
        command = [sys.executable, "-c", body, str(count), str(most)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    return start


@pytest.mark.skipif(sys.platform == "win32", reason="a limit for files and SIGKILL are POSIX")
def test_a_process_does_not_grow_and_leaves_nothing_when_it_is_killed(program: Callable[..., Any], tmp_path: Path) -> None:
    process = program(5000)
    calls, grown = map(int, process.stdout.readline().split())
    assert calls == 5001
    assert grown < 20e6  # of 150 MB that are kept
    assert not list(tmp_path.iterdir())
    assert any(str(tmp_path) in str(file.readlink()) for file in Path(f"/proc/{process.pid}/fd").glob("*")) or sys.platform != "linux"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="a limit for files is POSIX")
def test_a_full_disk_costs_no_more_than_reading_again(program: Callable[..., Any]) -> None:
    process = program(1000, 2**23)
    output, _ = process.communicate("", timeout=60)
    assert process.returncode == 0
    assert 1001 < int(output.split()[0]) <= 2001
