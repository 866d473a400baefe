"""Result files against hand values, and against what reports/README.md says of them."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.options import Options
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.results.files import COLUMNS, FAILED, NOT_RUN, PASSED, Result, read_results, write_results
from mpq_fixtures.results.samples import PARTS, Samples, read_examples, remove_parts
from mpq_fixtures.rows import Failure, Row
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.rows.tables import columns_of, table_of
from mpq_fixtures.rows.writer import RowsWriter
from mpq_fixtures.session.run import Run
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task

README = (Path(__file__).parents[1] / "reports" / "README.md").read_text()
EVALUATION = Evaluation("tried", "tests", find_task("image_classification"), "../a/model", {"path": "a/set", "split": "test"}, (), Path())
ORIGINAL, CODED, STOPPED, BROKEN = (
    Case(EVALUATION, *point) for point in (("original", ""), ("jpeg", "q5"), ("jpeg", "q10"), ("webp", "q0"))
)


def row(sample: str, size: int, hit: float, psnr: float | None = None) -> Row:
    scores = {"top1": hit} if psnr is None else {"top1": hit, "psnr": psnr}
    return Row(
        sample,
        size,
        100,
        'a "b",\nc',
        "<b>",
        hit,
        {} if psnr is None else {"psnr": psnr},
        scores,
        {"payload": size - 6, "container": 5, "side": 1},
        None,
        100.0,
    )


PART = {"label": "decoded", "media_type": "image/png", "data": b"\x89PNG"}
ORIGINAL_PART = {**PART, "label": "original decoded"}


def records() -> tuple[Record, Record]:
    """Four samples of 100 pixels on the originals, of which the codec loses one and the model mistakes one more."""
    rows = [row(f"s{n}", 300, 1.0) for n in range(4)]
    original = summarise(ORIGINAL, Rows.of(rows), [], Top1(), [ImagePSNR()])
    failures = [Failure("s3", "decode", "ValueError: cut")]
    coded = summarise(
        CODED, Rows.of([row("s0", 10, 1.0, 30.0), row("s1", 20, 0.0, 20.0), row("s2", 30, 1.0, 25.0)]), failures, Top1(), [ImagePSNR()]
    )
    for record in (original, coded):
        record.relate_to(original)
    coded.shown = [
        {"sample": "s2", "why": "example", "parts": [PART], "original_prediction": None, "original_score": None},
        {
            "sample": "s1",
            "why": "harmful",
            "parts": [PART, ORIGINAL_PART],
            "original_prediction": "<i>",
            "original_score": 1.0,
        },
    ]
    coded.flips = {"worse": 1, "better": 0}
    coded.seconds = {"encode": 0.12345, "decode": 1.0, "predict": 0.0, "score": 0.0}
    return original, coded


def results() -> list[Result]:
    original, coded = records()
    return [
        Result(ORIGINAL, PASSED, original, "same", 1.0, 24.0),
        Result(CODED, FAILED, coded, "regressed", 0.75, 1.5, "tried-jpeg-q5: 1 of 4 samples failed"),
        Result(STOPPED, NOT_RUN, reason="the run ended before this case"),
        Result(BROKEN, FAILED, reason="worker 'gw0' crashed"),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_results(tmp_path / "out", results(), {"created": "now", "share": 0.5})
    return tmp_path / "out"


class TestCsv:
    @pytest.fixture
    def table(self, folder: Path) -> dict[str, dict[str, str]]:
        return {line["case"]: line for line in csv.DictReader(io.StringIO((folder / "results.csv").read_text()))}

    def test_has_the_columns_of_the_contract(self, folder: Path) -> None:
        header = (folder / "results.csv").read_text().splitlines()[0]
        assert header == (
            "case,suite,evaluation,task,targets,model,dataset,codec,quality,samples,metric,value,ci_low,ci_high,reference,"
            "retention,retention_low,retention_high,rate,rate_low,rate_high,rate_mean,rate_unit,kbps,rate_nominal,rate_without_container,"
            "bytes,bytes_payload,bytes_container,bytes_side,"
            "compression_ratio,baseline,verdict,reason,notes,layer,suspect,psnr"
        )

    def test_has_columns_that_the_readme_describes(self) -> None:
        described = README[README.index("## results.csv") : README.index("## results.json")]
        assert set(COLUMNS) <= set(re.findall(r"`(\w+)`", described))

    def test_has_a_row_a_case_in_their_order(self, table: dict[str, dict[str, str]]) -> None:
        assert list(table) == ["tried-original", "tried-jpeg-q5", "tried-jpeg-q10", "tried-webp-q0"]

    def test_holds_the_figures(self, table: dict[str, dict[str, str]]) -> None:
        cells = table["tried-jpeg-q5"]
        low, high = float(cells.pop("ci_low")), float(cells.pop("ci_high"))
        assert 0 <= low < 2 / 3 < high <= 1
        low, high = float(cells.pop("retention_low")), float(cells.pop("retention_high"))
        assert 0 < low < 2 / 3 < high
        low, high = float(cells.pop("rate_low")), float(cells.pop("rate_high"))
        assert 0 < low < 1.6 < high
        assert cells == {
            "case": "tried-jpeg-q5", "suite": "tests", "evaluation": "tried", "task": "image_classification", "targets": "labels",
            "model": "model", "dataset": "a/set:test",
            "codec": "jpeg", "quality": "q5", "samples": "3", "metric": "top1", "value": "0.666667",
            "reference": "1.0", "retention": "0.666667", "rate": "1.6", "rate_mean": "1.6", "rate_unit": "bpp", "kbps": "",
            "rate_nominal": "1.0", "rate_without_container": "1.2", "bytes": "60",
            "bytes_payload": "42", "bytes_container": "15", "bytes_side": "3",
            "compression_ratio": "15.0", "baseline": "0.75", "verdict": "regressed", "reason": "tried-jpeg-q5: 1 of 4 samples failed",
            "notes": "", "layer": "", "suspect": "",
            "psnr": "25.0",
        }  # fmt: skip

    def test_holds_the_originals(self, table: dict[str, dict[str, str]]) -> None:
        cells = table["tried-original"]
        assert (cells["value"], cells["retention"], cells["rate"], cells["compression_ratio"]) == ("1.0", "1.0", "24.0", "1.0")
        assert (cells["quality"], cells["psnr"]) == ("", "")

    def test_leaves_cells_empty_where_nothing_was_measured(self, table: dict[str, dict[str, str]]) -> None:
        for case in ("tried-jpeg-q10", "tried-webp-q0"):
            filled = {name: cell for name, cell in table[case].items() if cell}
            assert filled["samples"] == "0"
            assert filled["reason"]
            assert not set(filled) & {
                "value",
                "ci_low",
                "ci_high",
                "reference",
                "retention",
                "retention_low",
                "rate",
                "rate_low",
                "bytes",
                "baseline",
                "verdict",
                "psnr",
            }

    def test_leaves_cells_empty_where_there_is_no_number(self, tmp_path: Path) -> None:
        _, coded = records()
        coded = replace(coded, metrics={"top1": replace(coded.metrics["top1"], value=math.nan)}, retention=math.inf)
        write_results(tmp_path, [Result(CODED, FAILED, coded)], {})
        (cells,) = csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text()))
        assert (cells["value"], cells["retention"], cells["baseline"]) == ("", "", "")

    def test_reads_what_an_earlier_mpq_wrote(self, folder: Path) -> None:
        content = json.loads((folder / "results.json").read_text())
        content["schema"], content["cases"][0]["rate_unit"] = 1, "bps"
        (folder / "results.json").write_text(json.dumps(content))
        read = read_results(folder)
        assert [case["rate_unit"] for case in read["cases"]] == ["bits/sample", "bpp", "bpp", "bpp"]

    def test_is_the_same_byte_for_byte_when_written_again(self, folder: Path, tmp_path: Path) -> None:
        write_results(tmp_path / "again", results(), {"created": "later"})
        for name in ("results.csv", "samples.parquet"):
            assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


class TestJson:
    @pytest.fixture
    def content(self, folder: Path) -> dict[str, Any]:
        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        content: dict[str, Any] = json.loads((folder / "results.json").read_text(), parse_constant=refuse)
        return content

    def test_has_schema_and_what_the_run_says_of_itself(self, content: dict[str, Any]) -> None:
        assert (content["schema"], content["created"], content["share"]) == (2, "now", 0.5)

    def test_has_the_cells_of_the_table(self, content: dict[str, Any], folder: Path) -> None:
        table = list(csv.DictReader(io.StringIO((folder / "results.csv").read_text())))
        for case, line in zip(content["cases"], table, strict=True):
            for name, cell in line.items():
                assert ("" if case.get(name) is None else str(case[name])) == cell

    def test_says_what_became_of_each_case(self, content: dict[str, Any]) -> None:
        assert [case["outcome"] for case in content["cases"]] == ["passed", "failed", "not run", "failed"]

    def test_has_metrics_failures_and_seconds(self, content: dict[str, Any]) -> None:
        case = content["cases"][1]
        assert list(case["metrics"]) == ["top1", "psnr"]
        top1 = case["metrics"]["top1"]
        described = {"value", "ci_low", "ci_high", "unit", "higher_is_better", "tolerance", "bounds", "settings", "version"}
        assert set(top1) == described | {"missing", "why_missing", "packages", "method"}
        assert (top1["value"], top1["unit"], top1["bounds"]) == (pytest.approx(2 / 3), "accuracy", [0, 1])
        assert case["failures"] == [{"sample": "s3", "step": "decode", "reason": "ValueError: cut"}]
        assert case["seconds"]["encode"] == 0.123
        assert (case["baseline_rate"], case["tolerance"]) == (1.5, Top1.tolerance)

    def test_has_null_where_there_is_no_number(self, tmp_path: Path) -> None:
        _, coded = records()
        broken = replace(coded.metrics["top1"], value=math.nan, ci_low=-math.inf, bounds=(-math.inf, 1.0))
        write_results(tmp_path, [Result(CODED, FAILED, replace(coded, metrics={"top1": broken}))], {})
        text = (tmp_path / "results.json").read_text()
        assert not re.search(r"\b(NaN|Infinity)\b", text)
        top1 = json.loads(text)["cases"][0]["metrics"]["top1"]
        assert (top1["value"], top1["ci_low"], top1["bounds"]) == (None, None, [None, 1.0])


class TestParquet:
    def test_has_the_columns_that_the_readme_describes(self, folder: Path) -> None:
        schema = pq.read_schema(folder / "samples.parquet")
        part = pa.struct([("label", pa.string()), ("media_type", pa.string()), ("data", pa.binary())])
        expected = {
            "case": pa.string(), "sample": pa.string(), "group": pa.string(),
            **dict.fromkeys(("source", "signal", "bitstream", "decoded", "given", "answer"), pa.string()),
            "bytes": pa.int64(), "elements": pa.int64(), "rate": pa.float64(),
            "bytes_payload": pa.int64(), "bytes_container": pa.int64(), "bytes_side": pa.int64(),
            "prediction": pa.string(), "target": pa.string(), "score": pa.float64(), "psnr": pa.float64(),
            "statistic": pa.list_(pa.float64()), "statistic_shape": pa.list_(pa.int32()), "error": pa.string(),
            "shown": pa.string(), "original_prediction": pa.string(), "original_score": pa.float64(), "example": pa.list_(part),
        }  # fmt: skip
        assert dict(zip(schema.names, schema.types, strict=True)) == expected
        described = README[README.index("## samples.parquet") :]
        assert set(expected) - {"psnr"} <= set(re.findall(r"`(\w+)`", described))

    def test_has_a_row_a_sample_and_case_failed_ones_too(self, folder: Path) -> None:
        table = pd.read_parquet(folder / "samples.parquet")
        assert table.groupby("case").size().to_dict() == {"tried-original": 4, "tried-jpeg-q5": 4}
        coded = table[table["case"] == "tried-jpeg-q5"].set_index("sample")
        assert coded["bytes"].dropna().to_dict() == {"s0": 10, "s1": 20, "s2": 30}
        assert coded["rate"].dropna().to_dict() == {"s0": 0.8, "s1": 1.6, "s2": 2.4}
        assert coded["score"].dropna().to_dict() == {"s0": 1.0, "s1": 0.0, "s2": 1.0}
        assert coded["psnr"].dropna().to_dict() == {"s0": 30.0, "s1": 20.0, "s2": 25.0}
        assert coded["error"].dropna().to_dict() == {"s3": "decode: ValueError: cut"}
        assert coded["prediction"]["s0"] == 'a "b",\nc'

    def test_has_what_is_shown_with_its_sample(self, folder: Path) -> None:
        table = pd.read_parquet(folder / "samples.parquet")
        shown = table[table["example"].notna()]
        assert shown["sample"].tolist() == ["s1", "s2"]
        assert shown["shown"].tolist() == ["harmful", "example"]
        assert shown["original_prediction"].fillna("").tolist() == ["<i>", ""]
        assert [[dict(part) for part in parts] for parts in shown["example"]] == [[PART, ORIGINAL_PART], [PART]]

    @pytest.mark.parametrize("stretch", [1, 500, 2**22])
    def test_is_what_the_rows_say_one_by_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stretch: int) -> None:
        """Whatever the stretches are in which it is put together, from rows in memory or in parts."""
        monkeypatch.setattr("mpq_fixtures.results.samples.GROUP_BYTES", stretch)
        monkeypatch.setattr("mpq_fixtures.rows.writer.GROUP_BYTES", stretch)
        original, coded = records()
        source = [f"{number:064x}" for number in range(3)]
        rows = [
            replace(one, source=digits, group="g", chain={"given": "1" * 16})
            for one, digits in zip(coded.rows, [*source[:2], "text"], strict=True)
        ]
        rows[1] = replace(rows[1], further={}, scores={"top1": 0.0}, unmeasured={"psnr": "black"}, statistic=[[1.0, 2.0]])
        with RowsWriter(tmp_path / PARTS / "coded.parquet") as writer:
            for one in rows:
                writer.append(table_of([one]), columns_of([(one.sample, one.group)], [one.source]))
        coded = replace(coded, rows=Rows.opened(writer.file))
        other = replace(
            original,
            case="other",
            metric="other",
            metrics={"other": original.metrics["top1"]},
            rows=Rows.of([row("x", 9, 0.5)]),
            shown=[{**coded.shown[0], "sample": "gone"}, {**coded.shown[0], "sample": "x"}],
        )
        write_results(tmp_path, [Result(ORIGINAL, PASSED, original), Result(CODED, FAILED, coded), Result(STOPPED, PASSED, other)], {})
        nothing = dict.fromkeys(pq.read_schema(tmp_path / "samples.parquet").names)
        example = {"shown": "example", "example": [PART]}
        harmful = {"shown": "harmful", "original_prediction": "<i>", "original_score": 1.0, "example": coded.shown[1]["parts"]}
        shown = {(CODED.id, "s1"): harmful, (CODED.id, "s2"): example, ("other", "x"): example}
        expected = [
            nothing
            | {"case": record.case, "sample": one.sample, "group": one.group, "source": one.source[:16], "given": one.chain.get("given")}
            | {"bytes": one.bytes, "elements": one.elements, "rate": 8 * one.bytes / one.elements}
            | {f"bytes_{part}": count for part, count in one.ledger.items()}
            | {"prediction": one.prediction, "target": one.target, "score": one.scores.get(record.metric), "psnr": one.scores.get("psnr")}
            | {"top1": one.scores["top1"] if record is other else None}
            | {"statistic": np.ravel(one.statistic).tolist(), "statistic_shape": list(np.shape(one.statistic))}
            | shown.get((record.case, one.sample), {})
            for record, of_record in ((original, list(original.rows)), (coded, rows), (other, list(other.rows)))
            for one in of_record
        ]
        expected.insert(7, nothing | {"case": CODED.id, "sample": "s3", "error": "decode: ValueError: cut"})
        assert pq.read_table(tmp_path / "samples.parquet").to_pylist() == expected
        found = Samples(tmp_path)
        assert found.cases == [ORIGINAL.id, CODED.id, "other"]
        assert {case: found.of(case)["sample"].to_pylist() for case in reversed(found.cases)} == {
            ORIGINAL.id: ["s0", "s1", "s2", "s3"],
            CODED.id: ["s0", "s1", "s2"],
            "other": ["x"],
        }
        assert [row["sample"] for row in read_examples(tmp_path / "samples.parquet")] == ["s1", "s2", "x"]

    def test_parts_are_removed_and_nothing_else(self, tmp_path: Path) -> None:
        parts = tmp_path / PARTS
        parts.mkdir()
        for name in ("one.parquet", ".two.part", "notes.txt"):
            (parts / name).touch()
        remove_parts(tmp_path)
        assert [file.name for file in parts.iterdir()] == ["notes.txt"]
        (parts / "notes.txt").unlink()
        remove_parts(tmp_path)
        remove_parts(tmp_path)
        assert not parts.exists()

    def test_parts_that_a_killed_run_left_are_gone_before_the_next_one_begins(self, tmp_path: Path) -> None:
        options = Options(["tests"], [EVALUATION], None, "cpu", tmp_path, tmp_path / "out", None, "", False)
        (options.out / PARTS).mkdir(parents=True)
        stale, made = options.out / PARTS / "stale.parquet", options.out / PARTS / "made.parquet"
        stale.touch()
        run = Run(options)
        run.expect([ORIGINAL])
        assert not stale.exists()
        made.parent.mkdir(exist_ok=True)
        made.touch()
        run.expect([ORIGINAL, CODED])  # as a worker does that takes the place of one that died
        assert made.exists()

    def test_a_run_that_begins_and_ends_in_the_folder_of_another_takes_nothing_from_it(
        self, tmp_path: Path, pytestconfig: pytest.Config
    ) -> None:
        options = Options(["tests"], [EVALUATION], None, "cpu", tmp_path, tmp_path / "out", None, "", False, history=tmp_path / "history")
        first, second = Run(options), Run(options)
        for run in (first, second):
            run.expect([ORIGINAL])
        original = records()[0]
        with RowsWriter(first.parts.path / "original.parquet") as writer:
            for one in original.rows:
                writer.append(table_of([one]), columns_of([(one.sample, one.group)], [one.source]))
        piece = options.out / ".results.part"
        piece.touch()
        second.finish(0, pytestconfig)
        assert len(pd.read_parquet(options.out / "samples.parquet")) == 0
        assert piece.exists()
        first.results[ORIGINAL.id] = Result(ORIGINAL, PASSED, replace(original, rows=Rows.opened(writer.file)))
        first.finish(0, pytestconfig)
        assert pd.read_parquet(options.out / "samples.parquet")["sample"].tolist() == ["s0", "s1", "s2", "s3"]
        assert {path.name for path in options.out.iterdir()} <= {"results.csv", "results.json", "samples.parquet", "report.html"}

    def test_is_there_when_nothing_was_measured(self, tmp_path: Path) -> None:
        write_results(tmp_path, [Result(STOPPED)], {})
        assert len(pd.read_parquet(tmp_path / "samples.parquet")) == 0
