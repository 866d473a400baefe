"""What many small samples cost with a model that costs nothing: cold, warm, in files and in calls to the file system.

10,000 pictures of 64x64 at six points (the originals and JPEG's ladder), in one process, and the same with 100: the difference is
what samples cost, the rest is start and end. So that pictures of a usual size have their say, too, as many of 500x375.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from bench_libraries import FOLDER, library_seconds
from figures import Rows
from pytest_benchmark.fixture import BenchmarkFixture
from workloads import BRIGHTNESS, Project, Spent, files_in, scaled, write_pictures

QUALITIES = (5, 10, 20, 50, 90)
POINTS = 1 + len(QUALITIES)
FEW = 100
YOUNG = 2.0
"""Seconds: what the list of a folder says of files that changed less than so long ago is not believed, and it is opened anew next time."""


@dataclass(frozen=True)
class Measured:
    """A project of so many samples with its store, and what it took to fill it."""

    project: Project
    store: Path
    samples: int
    cold: Spent

    def warm(self, prefix: tuple[str, ...] = ()) -> Spent:
        return self.project.run(self.store, prefix=prefix)


def fill(folder: Path, samples: int, size: tuple[int, int] = (64, 64)) -> Measured:
    project = Project(folder).declare("python:brightness:load", FOLDER, {"jpeg": [f"q{quality}" for quality in QUALITIES]})
    (folder / "brightness.py").write_text(BRIGHTNESS)
    write_pictures(folder / "photos", samples, size)
    time.sleep(2 * YOUNG)
    return Measured(project, folder / "store", samples, project.run(folder / "store"))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return fill(tmp_path_factory.mktemp("few"), FEW)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return fill(tmp_path_factory.mktemp("many"), scaled(10_000, 2 * FEW))


@pytest.mark.benchmark(group="a model that costs nothing")
class TestManySmallSamples:
    def test_a_warm_run_computes_nothing_and_takes_next_to_no_time(
        self, few: Measured, many: Measured, benchmark: BenchmarkFixture, row: Rows
    ) -> None:
        start = few.warm()
        warm = benchmark.pedantic(many.warm, rounds=1)
        computed = many.project.results()["work"]["computed"]
        assert not any(computed.values()), computed
        each = (warm.seconds - start.seconds) / (many.samples - few.samples) / POINTS
        name = f"warm, {many.samples:,} samples x {POINTS}"
        row(f"... {name}: start and end of it", None, warm.seconds - each * many.samples * POINTS, "s")
        row(f"... {name}: all of it a sample and point", None, 1e6 * warm.seconds / many.samples / POINTS, "us")
        row(f"... {name}: all of it over cold", None, warm.seconds / many.cold.seconds)
        row(f"{name}, a sample and point", 40.0, 1e6 * each, "us")

    def test_beside_pictures_of_a_usual_size_it_is_nothing(self, tmp_path: Path, row: Rows) -> None:
        many = fill(tmp_path, scaled(10_000, 2 * FEW), (500, 375))
        warm = many.warm()
        computed = many.project.results()["work"]["computed"]
        assert not any(computed.values()), computed
        name = f"{many.samples:,} samples of 500x375 x {POINTS}"
        row(f"... cold, {name}", None, many.cold.seconds, "s")
        row(f"warm, {name}, over cold", 1 / 30, warm.seconds / many.cold.seconds)

    def test_the_store_has_few_files(self, many: Measured, row: Rows) -> None:
        row(f"store files, {many.samples:,} samples x {POINTS}", 2000, files_in(many.store), "files")

    def test_a_cold_run_works_little_more_than_its_libraries(self, few: Measured, many: Measured, tmp_path: Path, row: Rows) -> None:
        files = sorted(map(str, (many.project.folder / "photos").rglob("*.jpg")))[:500]
        points = [library_seconds({"task": "image_classification", "files": files, "quality": quality}, tmp_path) for quality in QUALITIES]
        read = sum(steps["read"] for steps in points) / len(points)
        libraries = (sum(sum(steps.values()) for steps in points) + read) / POINTS
        ours = (many.cold.worked - few.cold.worked) / (many.samples - few.samples) / POINTS
        row("... read, encode, decode and compare by the libraries, 64x64, a sample and point", None, 1000 * libraries, "ms")
        row("CPU a sample and point, cold, 64x64, a free model, over the libraries' own", 2.0, ours / libraries)

    @pytest.mark.skipif(shutil.which("strace") is None, reason="calls are counted by strace, which is not here")
    def test_a_filled_store_is_asked_little(self, few: Measured, tmp_path: Path, row: Rows) -> None:
        more = fill(tmp_path / "more", max(2 * FEW, scaled(1000)))
        counts = [calls_of(one, tmp_path / f"{one.samples}.txt") for one in (few, more)]
        each = (counts[1] - counts[0]) / (more.samples - few.samples) / POINTS
        row("file-system calls a sample and point on a filled store", 8, each, "calls")


def calls_of(filled: Measured, report: Path) -> int:
    """Return how many system calls on files and descriptors a warm run makes, all its threads and children together."""
    filled.warm(("strace", "-f", "-c", "-e", "trace=%file,%desc", "-o", str(report)))
    total = re.search(r"^100\.00\s+\S+\s+\S+\s+(\d+)(?:\s+\d+)?\s+total$", report.read_text(), re.MULTILINE)
    assert total is not None, report.read_text()
    return int(total[1])
