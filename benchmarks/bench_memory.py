"""How much memory a run takes for how many samples: controller and workers, with pytest, xdist, results and report."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_libraries import FOLDER
from figures import Rows
from pytest_benchmark.fixture import BenchmarkFixture
from workloads import BRIGHTNESS, Project, Spent, scaled, write_pictures


@pytest.mark.benchmark(group="memory")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
def test_a_hundred_times_the_samples_take_little_more(tmp_path: Path, benchmark: BenchmarkFixture, row: Rows) -> None:
    def run(count: int) -> Spent:
        folder = tmp_path / str(count)
        project = Project(folder).declare("python:brightness:load", FOLDER, {"jpeg": ["q20"]})
        (folder / "brightness.py").write_text(BRIGHTNESS)
        write_pictures(folder / "photos", count, (32, 32), different=200)
        return project.run(folder / "store", "-n", "2", watch=True)

    counts = scaled(1000, 50), scaled(100_000, 500)
    few, many = run(counts[0]), benchmark.pedantic(run, args=(counts[1],), rounds=1)
    assert min(few.controller, few.worker) > 20  # it was watched
    for who in ("controller", "worker"):
        row(f"... memory of a {who}, {counts[0]:,} samples", None, getattr(few, who), "MB")
        row(f"... memory of a {who}, {counts[1]:,} samples", None, getattr(many, who), "MB")
    growth = max(many.controller / few.controller, many.worker / few.worker)
    row(f"memory of worker and controller, {counts[0]:,} to {counts[1]:,} samples", 1.10, growth)
