"""What it costs that a crash costs one sample: the pocket suite with and without notes of what its workers are at, in turn."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pytest
from bench_pocket import pocket
from figures import Rows
from pytest_benchmark.fixture import BenchmarkFixture
from workloads import ROOT, scaled

CASES = "vit_pocket and (jpeg or webp)"
UNSEEN = """
from mpq_fixtures import plugin

with_notes = plugin._local_engine


def without_notes(config, session, workers, at):
    engine = with_notes(config, session, workers, at)
    engine._at = None
    return engine


plugin._local_engine = without_notes
"""


@pytest.mark.benchmark(group="oversight")
def test_taking_notes_costs_next_to_nothing(tmp_path: Path, benchmark: BenchmarkFixture, row: Rows) -> None:
    """Pairs of runs, the first of which changes each time, so that a machine that becomes slower or faster does so for both."""
    (tmp_path / "unseen.py").write_text(UNSEEN)
    pairs, passed, worked = scaled(10), [], []

    def run(number: int, seen: bool) -> tuple[float, float]:
        without = [] if seen else ["-p", "unseen"]
        spent = pocket(ROOT, tmp_path / f"{number}-{seen}", "-k", CASES, *without, modules=tmp_path)
        return spent.passed, spent.worked

    run(-1, True)  # what is imported is compiled, what is read is in memory
    for number in range(pairs):
        spent = {seen: run(number, seen) for seen in ((True, False) if number % 2 else (False, True))}
        for ratios, one, other in zip((passed, worked), spent[True], spent[False], strict=True):
            ratios.append(math.log(one / other))
    benchmark.pedantic(run, args=(pairs, True), rounds=1)
    for what, ratios in (("time", passed), ("CPU", worked)):
        middle, error = statistics.mean(ratios), statistics.stdev(ratios) / math.sqrt(pairs)
        row(f"the pocket suite with notes of what is under way over that without, {what}", 1.02, math.exp(middle))
        for side, end in (("less", middle - 2 * error), ("and", middle + 2 * error)):
            row(f"... its mean over {pairs} pairs of {CASES} {side} twice its standard error", None, math.exp(end))
