"""What a row costs on its way: written to a part, summed up, put together with others, and read again; in time, bytes and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow as pa
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mpq_fixtures.chain import digest
from mpq_fixtures.gate.measured import of_record, of_results
from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.results.files import PASSED, Result, write_results
from mpq_fixtures.rows import Row
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.rows.tables import LINKS, columns_of, table_of
from mpq_fixtures.rows.writer import RowsWriter
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task

ROWS, STRETCH = 20_000, 2_000
EVALUATION = Evaluation("tried", "bench", find_task("image_classification"), "a/model", {"path": "a/set"}, (), Path())


def rows(count: int) -> list[Row]:
    """Rows of a picture each, as a classification at an operating point leaves them."""
    return [
        Row(
            sample=f"sample-{number:07d}",
            bytes=4000 + number % 977,
            elements=500 * 375,
            prediction=f"class {number % 13}",
            target=f"class {number % 11}",
            statistic=float(number % 3 > 0),
            further={"psnr": 30.0 + number % 7},
            scores={"top1": float(number % 3 > 0), "psnr": 30.0 + number % 7},
            ledger={"payload": 3900, "container": 100 + number % 977, "side": 0},
            source="".join(digest(f"{number} {part}".encode()) for part in range(4)),
            chain={layer: digest(f"{number} {layer}".encode()) for layer in LINKS},
        )
        for number in range(count)
    ]


@cache
def stretches() -> list[tuple[pa.Table, list[str]]]:
    made = rows(ROWS)
    return [(table_of(some), [one.sample for one in some]) for some in (made[start : start + STRETCH] for start in range(0, ROWS, STRETCH))]


def write(file: Path, count: int = ROWS) -> Rows:
    with RowsWriter(file) as writer:
        for start in range(0, count, STRETCH):
            table, names = stretches()[start // STRETCH % len(stretches())]
            writer.append(table, columns_of([(f"{start} {name}", "") for name in names], [""] * STRETCH))
    return Rows.opened(file)


def record(found: Rows, quality: str) -> Record:
    return summarise(Case(EVALUATION, "jpeg", quality), found, [], Top1(), [ImagePSNR()])


@pytest.fixture
def timed(benchmark: BenchmarkFixture) -> Callable[..., None]:
    def measure(action: Callable[[], object], count: int, size: int = 0) -> None:
        benchmark.pedantic(action, rounds=3, warmup_rounds=1)
        if benchmark.enabled:
            benchmark.extra_info["us a row"] = round(1e6 * benchmark.stats.stats.median / count, 2)
            benchmark.extra_info["bytes a row"] = round(size / count)

    return measure


pytestmark = pytest.mark.benchmark(group=f"{ROWS} rows", timer=time.process_time)


def test_make(timed: Callable[..., None]) -> None:
    made = rows(STRETCH)
    timed(lambda: table_of(made), STRETCH)


def test_write(timed: Callable[..., None], tmp_path: Path) -> None:
    file = tmp_path / "part.parquet"
    assert len(write(file)) == ROWS
    timed(lambda: write(file), ROWS, file.stat().st_size)


def test_summarise(timed: Callable[..., None], tmp_path: Path) -> None:
    """Without the intervals, which have a benchmark of their own."""
    found = write(tmp_path / "part.parquet")
    columns = ("bytes", "elements", "payload", "container", "side", "seconds", "nominal_bits")
    timed(lambda: [found.statistics(), found.further("psnr"), found.groups, *map(found.numbers, columns)], ROWS)


def test_put_together(timed: Callable[..., None], tmp_path: Path) -> None:
    results = [
        Result(case := Case(EVALUATION, "jpeg", quality), PASSED, record(write(tmp_path / f"{case.id}.parquet", 4000), quality))
        for quality in ("q5", "q10", "q20", "q50", "q90")
    ]
    write_results(tmp_path, results, {})
    timed(lambda: write_results(tmp_path, results, {}), ROWS, (tmp_path / "samples.parquet").stat().st_size)
    assert sum(len(one.samples) for one in of_results(tmp_path).values()) == ROWS


def test_read_again(timed: Callable[..., None], tmp_path: Path) -> None:
    one = record(write(tmp_path / "part.parquet", 4000), "q5")
    write_results(tmp_path, [Result(Case(EVALUATION, "jpeg", "q5"), PASSED, one)], {})
    assert of_record(one).samples == of_results(tmp_path)["tried-jpeg-q5"].samples
    timed(lambda: list(of_results(tmp_path).values()), 4000)


def test_results_of_2000_cases(timed: Callable[..., None], tmp_path: Path) -> None:
    few = record(write(tmp_path / "part.parquet", STRETCH), "q5")
    few = Record(**{**vars(few), "rows": Rows.of(list(few.rows)[:6])})
    results = [Result(Case(EVALUATION, "jpeg", f"q{number}"), PASSED, few) for number in range(2000)]
    timed(lambda: write_results(tmp_path, results, {}), 12_000, (tmp_path / "part.parquet").stat().st_size)


PEAK = """
import sys
from pathlib import Path
from benchmarks.bench_rows import *

cases, samples = map(int, sys.argv[2:])
results = []
for number in range(cases):
    case = Case(EVALUATION, "jpeg", f"q{number}")
    one = Record(**{**vars(record(Rows.of(rows(2)), case.quality)), "case": case.id})
    one.rows = write(Path(sys.argv[1]) / f"{number}.parquet", samples)
    results.append(Result(case, PASSED, Record.from_dict(one.to_dict())))
write_results(Path(sys.argv[1]), results, {})
print(sum(len(one.samples) for one in of_results(Path(sys.argv[1])).values()))
print(next(int(line.split()[1]) // 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process's memory from /proc")
def test_memory(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """A million rows in ten cases: written, put together and read case by case, in no more than 1 GB."""
    if not benchmark.enabled:
        pytest.skip("takes a minute")

    def peak(cases: int, samples: int) -> int:
        command = [sys.executable, "-c", PEAK, str(tmp_path), str(cases), str(samples)]
        done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
        count, megabytes = map(int, done.stdout.split())
        assert count == cases * samples
        return megabytes

    few = peak(10, 2_000)
    many = benchmark.pedantic(peak, (10, 100_000), rounds=1)
    benchmark.extra_info["MB at 20,000 rows"], benchmark.extra_info["MB at 1,000,000 rows"] = few, many
    assert many < 1000
