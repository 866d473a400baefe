"""Rows as columns: what goes in comes out, in memory and in files, and a million of them take no more room than a few."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mpq_fixtures.rows import Row
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.rows.tables import LINKS, columns_of, table_of
from mpq_fixtures.rows.writer import RowsWriter
from mpq_fixtures.store.packs import sample_key

SEVERAL = 7


def row(number: int, frames: int = 1) -> Row:
    """A row with everything in it that a row can have, some of it for every second sample alone."""
    even = number % 2 == 0
    return Row(
        sample=f"sample {number}",
        bytes=1000 + number,
        elements=64 * 64,
        prediction="eins\n" if even else "",
        target="zwei",
        statistic=np.full((2, frames), number / 3).tolist(),
        further={"psnr": [30.0 + number, 1.0], "map": [[1.0, 2.0], [3.0, float(number)]]} if even else {"map": [[0.0, 0.0], [0.0, 0.0]]},
        scores={"sdr": number / 3, "psnr": 30.0 + number, "map": 1.0} if even else {"sdr": number / 3, "map": 0.0},
        ledger={"payload": 900 + number, "container": 90, "side": 10},
        seconds=0.5 if even else None,
        nominal_bits=None if even else 6000.0,
        floor=[[-1.0], [float(number)]] if even else None,
        unmeasured={} if even else {"psnr": "too dark"},
        source=hashlib.sha256(b"%d" % number).hexdigest(),
        group="a speaker" if even else "",
        chain={layer: f"{number:016x}" for layer in LINKS},
    )


def in_a_file(rows: Sequence[Row], file: Path, at_once: int = 2) -> Rows:
    with RowsWriter(file) as writer:
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            writer.append(table_of(some), columns_of([(one.sample, one.group) for one in some], [one.source for one in some]))
    return Rows.opened(file)


Made = Callable[[Sequence[Row]], Rows]


@pytest.fixture(params=["in memory", "in a file", "sent as plain data"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    if request.param == "in a file":
        return lambda rows: in_a_file(rows, tmp_path / "parts" / "case.parquet")
    if request.param == "in memory":
        return Rows.of
    return lambda rows: Rows.from_plain(Rows.of(rows).to_plain())


class TestRows:
    @pytest.mark.parametrize("frames", [[1] * SEVERAL, range(1, SEVERAL + 1)], ids=["one shape", "several shapes"])
    def test_come_out_as_they_went_in(self, made: Made, frames: Sequence[int]) -> None:
        rows = [row(number, count) for number, count in enumerate(frames)]
        assert list(made(rows)) == rows
        assert len(made(rows)) == SEVERAL

    def test_hold_figures_to_the_last_bit(self, made: Made) -> None:
        figures = [0.1, -0.0, np.nextafter(1, 2), float("inf"), float("-inf"), float("nan"), 5e-324]
        found = made([replace(row(number), statistic=figure, scores={"sdr": figure}) for number, figure in enumerate(figures)])
        assert np.array(found.statistics()).tobytes() == found.numbers("sdr").tobytes() == np.array(figures).tobytes()

    def test_stack_statistics_of_one_shape(self, made: Made) -> None:
        rows = [row(number, frames=3) for number in range(SEVERAL)]
        found = made(rows).statistics()
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, np.array([one.statistic for one in rows]))

    def test_list_statistics_of_several_shapes(self, made: Made) -> None:
        rows = [row(number, frames) for number, frames in enumerate([2, 2, 2, 2, 0, 5, 2])]
        found = made(rows).statistics()
        assert [one.shape for one in found] == [(2, 2)] * 4 + [(2, 0), (2, 5), (2, 2)]
        assert all(np.array_equal(one, np.array(other.statistic).reshape(one.shape)) for one, other in zip(found, rows, strict=True))

    def test_say_what_a_signal_metric_could_measure(self, made: Made) -> None:
        rows = made([row(number) for number in range(SEVERAL)])
        statistics, measured = rows.further("psnr")
        assert np.flatnonzero(measured).tolist() == [0, 2, 4, 6]
        assert np.array_equal(statistics, [[30.0 + number, 1.0] for number in np.flatnonzero(measured)])
        assert rows.unmeasured("psnr") == (3, "too dark")
        assert np.shape(rows.further("map")[0]) == (SEVERAL, 2, 2)
        assert rows.unmeasured("map") == (0, "")
        assert (rows.signal_metrics, rows.scored) == (["psnr", "map"], ["sdr", "psnr", "map"])

    def test_of_a_metric_that_measured_nothing_have_no_score(self, made: Made) -> None:
        rows = made([row(number) for number in (1, 3, 5)])
        assert (rows.signal_metrics, rows.scored) == (["map", "psnr"], ["sdr", "map"])
        assert [part.tolist() for part in map(np.asarray, rows.further("psnr"))] == [[], [False] * 3]
        assert rows.unmeasured("psnr") == (3, "too dark")

    def test_have_columns_of_numbers_and_texts(self, made: Made) -> None:
        rows = [row(number) for number in range(SEVERAL)]
        found = made(rows)
        assert found.numbers("bytes").tolist() == [one.bytes for one in rows]
        assert found.numbers("bytes").dtype == np.int64
        assert np.array_equal(found.numbers("seconds"), [0.5, np.nan] * 3 + [0.5], equal_nan=True)
        assert (found.samples, found.groups) == ([one.sample for one in rows], [one.group for one in rows])
        assert np.array_equal(found.floors(), [one.floor for one in rows if one.floor])
        links = found.links("given")
        assert links is not None
        assert links.tolist() == list(range(SEVERAL))

    def test_lack_a_link_that_a_sample_lacks(self, made: Made) -> None:
        first, second = row(0), row(1)
        found = made([first, replace(second, chain={"given": "f" * 16, "answer": "0" * 16})])
        assert found.links("decoded") is None
        assert (given := found.links("given")) is not None
        assert given.tolist() == [0, 2**64 - 1]

    def test_count_different_texts(self, made: Made) -> None:
        found = made([row(number) for number in range(SEVERAL)])
        assert (found.different("target"), found.different("prediction"), found.different("given")) == (1, 2, SEVERAL)
        assert (found.all_alike("target"), found.all_alike("prediction")) == (True, False)
        assert (found.first("prediction"), found.first("target")) == ("eins\n", "zwei")

    def test_find_copies(self, made: Made) -> None:
        sources = ["a", "b", "a", "", "", "b" * 64, "a", "b"]
        copies = made([replace(row(number), source=source) for number, source in enumerate(sources)]).copies()
        assert [places.tolist() for places in copies] == [[0, 2, 6], [1, 7]]

    def test_find_no_copies_where_there_are_none(self, made: Made) -> None:
        assert made([replace(row(number), source=str(number)) for number in range(SEVERAL)]).copies() == made([]).copies() == []

    def test_show_texts_of_a_few(self, made: Made) -> None:
        found = made([row(number) for number in range(SEVERAL)])
        assert found.texts_at("sample", (SEVERAL - 1, 0)) == {place: found.samples[place] for place in (0, SEVERAL - 1)}

    @pytest.mark.parametrize("source", ["f" * 64, "F" * 64, "a" * 32, "train/0001.png", "", " ".join(["ab"] * 21) + "  "])
    def test_show_sources_as_the_data_set_has_them(self, made: Made, source: str) -> None:
        found = made([replace(row(0), source=source)])
        assert (found.sources(), found.sources(16)) == ([source], [source[:16]])
        assert len(sample_key(source)) == 32

    def test_may_be_none(self, made: Made) -> None:
        found = made([])
        assert (len(found), list(found), found.scored, found.samples) == (0, [], [], [])
        assert (len(found.statistics()), found.numbers("bytes").sum(), found.links("given")) == (0, 0, None)


class TestFiles:
    def test_are_read_where_they_are(self, tmp_path: Path) -> None:
        rows = [row(number) for number in range(SEVERAL)]
        sent = in_a_file(rows, tmp_path / "case.parquet").to_plain()
        assert sent == [str(tmp_path / "case.parquet"), SEVERAL]
        assert list(Rows.from_plain(sent)) == rows

    def test_know_their_length_when_they_are_gone(self, tmp_path: Path) -> None:
        content = in_a_file([row(0), row(1)], tmp_path / "case.parquet").to_plain()
        (tmp_path / "case.parquet").unlink()
        assert len(Rows.from_plain(content)) == 2

    def test_are_there_whole_or_not_at_all(self, tmp_path: Path) -> None:
        file = tmp_path / "case.parquet"
        in_a_file([row(0)], file)

        def stop() -> None:
            with RowsWriter(file) as writer:
                writer.append(table_of([row(1)] * 20_000), columns_of([("one", "")] * 20_000, [""] * 20_000))
                assert len(list(tmp_path.iterdir())) == 2
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            stop()
        assert [found.name for found in tmp_path.iterdir()] == ["case.parquet"]
        assert list(Rows.opened(file)) == [row(0)]

    def test_hold_rows_of_the_same_metrics(self, tmp_path: Path) -> None:
        rows = [row(0), replace(row(1), further={}, unmeasured={}, scores={"sdr": 1.0, "map": 1.0})]
        with pytest.raises(ValueError, match="other columns than those before them: map statistic, map unmeasured, psnr, psnr statistic"):
            in_a_file(rows, tmp_path / "case.parquet", at_once=1)

    def test_know_shapes_that_are_first_seen_late(self, tmp_path: Path) -> None:
        def measured(number: int, further: dict[str, object]) -> Row:
            return replace(row(number), further=further, unmeasured={} if further else {"map": "no", "one": "no"}, scores={"sdr": 1.0})

        rows = [measured(0, {}), measured(1, {"map": [[1.0, 2.0]], "one": [1.0]}), measured(2, {})]
        assert list(in_a_file(rows, tmp_path / "case.parquet", at_once=1)) == rows
        assert np.shape(Rows.of(rows).further("one")[0]) == (1, 1)

    def test_take_metrics_in_any_order(self, tmp_path: Path) -> None:
        rows = [row(1), row(0)]
        assert table_of(rows[:1]).column_names != table_of(rows[1:]).column_names
        assert list(in_a_file(rows, tmp_path / "case.parquet", at_once=1)) == rows

    def test_take_stretches_of_a_few_mb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mpq_fixtures.rows.writer.GROUP_BYTES", 2000)
        rows = [row(number) for number in range(40)]
        found = in_a_file(rows, tmp_path / "case.parquet", at_once=20)
        assert 3 <= len(lengths := [len(part) for part in found.parts("bytes")]) <= 40
        assert sum(lengths) == 40
        assert list(found) == rows


class TestTables:
    def test_have_the_types_that_a_store_keeps(self) -> None:
        schema = table_of([row(0), row(1)]).schema
        numbers, shape = pa.list_(pa.float64()), pa.list_(pa.int32())
        assert {one.name: one.type for one in schema} == {
            "source": pa.binary(32),
            **dict.fromkeys(("bytes", "elements", "payload", "container", "side"), pa.int64()),
            **dict.fromkeys(("seconds", "nominal_bits", "sdr", "psnr", "map"), pa.float64()),
            **dict.fromkeys(("prediction", "target", "psnr unmeasured", "map unmeasured", *LINKS), pa.string()),
            **dict.fromkeys(("statistic", "floor", "psnr statistic", "map statistic"), numbers),
            **dict.fromkeys(("statistic_shape", "floor_shape"), shape),
        }

    def test_have_the_same_columns_whatever_could_be_measured(self) -> None:
        kinds = [dict(zip(table.schema.names, table.schema.types, strict=True)) for table in map(table_of, ([row(0)], [row(1)]))]
        assert kinds[0] == kinds[1]

    def test_refuse_a_signal_metric_of_several_shapes(self) -> None:
        with pytest.raises(ValueError, match="statistics of psnr have several shapes"):
            table_of([row(0), replace(row(2), further={"psnr": [1.0]})])


MANY = """
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mpq_fixtures.processes.clock import peak_memory
from mpq_fixtures.gate.measured import of_record, of_results
from mpq_fixtures.record import Record
from mpq_fixtures.results.files import PASSED, Result, write_results
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.rows.tables import columns_of, table_of
from mpq_fixtures.rows.writer import RowsWriter
from mpq_fixtures.suite import Case
from tests.test_rows import row
from tests.trial_records import EVALUATION, record


def passed_through(samples, folder):
    table, results = table_of([replace(row(number), scores={"top1": 1.0}) for number in range(0, 1000, 2)]), []
    for number in range(4):
        case = Case(EVALUATION, "jpeg", f"q{number}")
        with RowsWriter(folder / "parts" / f"{case.id}.parquet") as writer:
            for start in range(0, samples, 500):
                writer.append(table, columns_of([(f"{place:060d}", "") for place in range(start, start + 500)], [""] * 500))
        crossed = Record.from_dict(replace(record([1.0]), case=case.id, rows=Rows.opened(writer.file)).to_dict())
        results.append(Result(case, PASSED, crossed))
    write_results(folder, results, {})
    return sum(len(one.samples) for one in of_results(folder).values())


folder = Path(sys.argv[1])
assert passed_through(1000, folder / "few") == 4000
before = peak_memory()
assert passed_through(50_000, folder / "many") == 200_000
print((peak_memory() - before) // 1024)
"""


class TestMemory:
    @pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of a process's memory from /proc")
    def test_does_not_grow_with_the_rows_of_a_run(self, tmp_path: Path) -> None:
        """200,000 rows of some 700 bytes: written, sent, put together, and read again case by case."""
        root = Path(__file__).parents[1]
        done = subprocess.run([sys.executable, "-c", MANY, str(tmp_path)], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) * 1024 < 180_000_000  # objects take as much again, and more
