"""``mpq compare``: a run held against another, or against baselines, by the rules of the gate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trial_records import EVALUATION, hits, record

from mpq_fixtures.__main__ import main
from mpq_fixtures.gate.baseline_files import baseline_file
from mpq_fixtures.gate.baselines import write_baselines
from mpq_fixtures.gate.measured import of_record
from mpq_fixtures.record import Record
from mpq_fixtures.results.files import PASSED, Result, write_results
from mpq_fixtures.rows import Failure
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.suite import Case

Compared = Callable[..., tuple[int, list[str]]]


def write_run(folder: Path, records: Sequence[Record], provenance: dict[str, Any] | None = None) -> Path:
    results = [Result(Case(EVALUATION, one.codec, one.quality), PASSED, one) for one in records]
    write_results(folder, results, {"provenance": provenance or {}})
    return folder


@pytest.fixture
def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compared:
    def run(before: Sequence[Record], after: Sequence[Record], *options: str) -> tuple[int, list[str]]:
        folders = [write_run(tmp_path / name, records) for name, records in (("before", before), ("after", after))]
        status = main(["compare", *map(str, folders), *options])
        return status, capsys.readouterr().out.splitlines()

    return run


@pytest.fixture(autouse=True)
def _outside_of_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


class TestComparingRuns:
    def test_is_quiet_when_nothing_moved(self, compared: Compared) -> None:
        assert compared([record(hits(90, 10))], [record(hits(90, 10))]) == (0, ["1 case: 1 same"])

    def test_says_the_worst_first_with_the_samples_that_fell(self, compared: Compared) -> None:
        before = [record(hits(480, 20), quality=quality) for quality in ("q5", "q10", "q20")]
        after = [
            record(hits(480, 20), quality="q5"),
            record([0.0] * 25 + hits(455, 20), quality="q10"),
            record(hits(480, 20), 99.0, quality="q20"),
        ]
        status, lines = compared(before, after)
        assert status == 1
        assert lines[0] == "regressed: tried-jpeg-q10"
        assert lines[1].startswith("    top1 0.9100, approved 0.9600: -0.0500 accuracy [")
        assert "    fell: s0, s1, s2, s3, s4 and 20 more" in lines
        assert lines[-1] == "3 cases: 1 regressed, 1 improved, 1 same"

    def test_names_the_layer(self, compared: Compared) -> None:
        moved = record(hits(480, 20))
        moved.rows = Rows.of([replace(row, chain=row.chain | {"decoded": "9" * 16, "given": "9" * 16}) for row in moved.rows])
        status, lines = compared([record(hits(480, 20))], [moved])
        assert status == 0
        assert lines[0] == "same: tried-jpeg-q5"
        assert lines[1].startswith("    decoder: decoded signals differ in 500 of 500, bitstreams in none, answers in none")

    def test_fails_when_a_rate_rose(self, compared: Compared) -> None:
        status, lines = compared([record(hits(9, 1))], [record(hits(9, 1), size=102)])
        assert (status, lines[0]) == (1, "rate: tried-jpeg-q5")

    def test_fails_when_the_rates_of_a_codec_rose_together(self, compared: Compared) -> None:
        qualities = ("q5", "q10", "q20")
        before = [record(hits(9, 1), size=1000, quality=quality) for quality in qualities]
        status, lines = compared(before, [record(hits(9, 1), size=1008, quality=quality) for quality in qualities])
        assert (status, lines[0]) == (1, "rate: jpeg")
        assert lines[1] == "    jpeg, 3 cases together: rate +0.8 % on average, margin 0.5 %"
        assert lines[-1] == "3 cases: 3 same"

    def test_fails_when_a_ladder_fell_together(self, compared: Compared) -> None:
        qualities = ("q5", "q10", "q20", "q50", "q90")
        before = [record(hits(1000, 0), quality=quality) for quality in qualities]
        fallen = [record([1.0] * 40 * number + [0.0] * 18 + hits(982 - 40 * number, 0), quality=q) for number, q in enumerate(qualities)]
        status, lines = compared(before, fallen)
        assert (status, lines[0]) == (1, "regressed: tried-jpeg")
        assert lines[1].startswith("    tried-jpeg, 5 cases together: top1 -0.0180 on average")
        _, lines = compared(before, fallen, "--json")
        assert [group["name"] for group in json.loads("\n".join(lines))["pooled"]] == ["tried-jpeg"]

    def test_takes_the_further_steps_of_holm_as_a_run_does(self, compared: Compared) -> None:
        # 4 of 40 turned wrong: p is .00069, above .005 / 9 and below .005 / 5, which counts once four others are known to have fallen.
        qualities = [f"q{number}" for number in range(1, 10)]
        before = [record(hits(40, 0), quality=quality) for quality in qualities]
        wrong = [20, 20, 20, 20, 4, 0, 0, 0, 0]
        after = [record(hits(40 - count, count), quality=quality) for count, quality in zip(wrong, qualities, strict=True)]
        status, lines = compared(before, after)
        assert (status, lines[-1]) == (1, "9 cases: 5 regressed, 4 same")
        assert "    in the light of the other cases that is a fall beyond the margin" in lines

    def test_fails_when_a_signal_metric_lost_values(self, compared: Compared) -> None:
        lost = record(hits(9, 1))
        lost.rows = Rows.of([replace(row, scores=row.scores | {"psnr": math.nan}) if row.sample == "s3" else row for row in lost.rows])
        status, lines = compared([record(hits(9, 1))], [lost])
        assert (status, lines[:2]) == (1, ["regressed: tried-jpeg-q5", "    psnr has no value any more for 1 of 10 samples"])

    def test_fails_when_a_signal_metric_lost_all_values(self, compared: Compared) -> None:
        lost = record(hits(9, 1))
        lost.rows = Rows.of([replace(row, scores=row.scores | {"psnr": math.nan}) for row in lost.rows])
        both = [record(hits(9, 1)), record(hits(9, 1), quality="q10")]
        status, lines = compared(both, [lost, both[1]])
        assert (status, lines[:2]) == (1, ["regressed: tried-jpeg-q5", "    psnr has no value any more for 10 of 10 samples"])

    def test_takes_no_suite_for_another(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for suite, right in (("tests", 9), ("worse", 1)):
            file = baseline_file(tmp_path / "baselines", suite, "tried")
            write_baselines(file, [of_record(record(hits(right, 10 - right)))], [], only_new=False)
        run = write_run(tmp_path / "run", [record(hits(9, 1))])
        assert main(["compare", str(tmp_path / "baselines"), str(run)]) == 0
        assert capsys.readouterr().out == "1 case: 1 same\n"

    @pytest.mark.parametrize("command", ["compare", "approve"])
    def test_says_what_results_of_another_mpq_lack(self, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
        run = write_run(tmp_path / "run", [record(hits(9, 1))])
        file = run / "results.json"
        content = json.loads(file.read_text())
        del content["cases"][0]["metrics"]["top1"]["version"]
        file.write_text(json.dumps(content))
        assert main([command, str(run), *([str(run)] if command == "compare" else [])]) == 2
        assert capsys.readouterr().err.endswith("lacks 'version' of tried-jpeg-q5: it was written by another mpq, or changed; run again\n")

    def test_fails_when_a_value_is_no_number(self, compared: Compared) -> None:
        assert compared([record(hits(9, 1))], [record([*hits(9, 0), math.nan])])[0] == 1

    def test_fails_when_a_case_is_missing(self, compared: Compared) -> None:
        before = [record(hits(9, 1)), record(hits(9, 1), quality="q10")]
        status, lines = compared(before, before[:1])
        assert status == 1
        assert lines[:2] == ["missing: tried-jpeg-q10", "    not measured by the second run"]

    def test_fails_when_more_samples_failed(self, compared: Compared) -> None:
        failed = record(hits(9, 0))
        failed.failures = [Failure("s9", "decode", "ValueError: cut")]
        status, lines = compared([record(hits(9, 1))], [failed])
        assert status == 1
        assert "    1 sample failed; the first is 's9', at decode: ValueError: cut" in lines

    def test_pairs_by_id_and_source(self, compared: Compared) -> None:
        other = record(hits(9, 1))
        first, *others = other.rows
        other.rows = Rows.of([replace(first, source="f" * 64), *others])
        status, lines = compared([record(hits(9, 1))], [other])
        assert status == 1
        assert "    1 (s0) of the 10 samples were never approved, or have another source now" in lines
        assert "    1 (s0) of the 10 approved samples were not measured" in lines

    def test_takes_a_choice_of_cases_for_no_fault(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        both = [record(hits(9, 1)), record(hits(9, 1), quality="q10")]
        write_run(tmp_path / "before", both)
        write_run(tmp_path / "after", both[:1], {"options": {"chosen": ["*-q5"]}})
        assert main(["compare", str(tmp_path / "before"), str(tmp_path / "after")]) == 0
        assert capsys.readouterr().out == "1 case: 1 same\n"

    def test_passes_new_cases(self, compared: Compared) -> None:
        assert compared([record(hits(9, 1))], [record(hits(9, 1)), record(hits(1, 9), quality="q10")])[0] == 0

    def test_fails_when_there_are_new_cases_alone(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        write_run(tmp_path / "before", [record(hits(9, 1), quality="q10")])
        write_run(tmp_path / "after", [record(hits(0, 10))], {"options": {"chosen": ["*-q5"]}})
        assert main(["compare", str(tmp_path / "before"), str(tmp_path / "after")]) == 1
        assert capsys.readouterr().out.splitlines()[-1] == "1 case: 1 new; nothing could be compared"

    def test_fails_when_nothing_was_measured(self, compared: Compared) -> None:
        assert compared([], [])[0] == 1


class TestForms:
    def test_json_has_every_case_with_its_figures(self, compared: Compared) -> None:
        status, lines = compared([record(hits(480, 20))], [record([0.0] * 25 + hits(455, 20))], "--json")
        content = json.loads("\n".join(lines))
        (case,) = content["cases"]
        assert status == 1
        assert (case["case"], case["verdict"], case["red"], case["layer"]) == ("tried-jpeg-q5", "regressed", True, "model")
        assert case["fell"] == [f"s{number}" for number in range(25)]
        assert (case["change"]["effect"]["worse"], case["change"]["effect"]["better"]) == (25, 0)

    def test_markdown_is_a_table_in_which_no_text_is_markup(self, compared: Compared) -> None:
        failed = record(hits(9, 0))
        failed.failures = [Failure("s9", "decode", "<b>|`x`")]
        status, lines = compared([record(hits(9, 1))], [failed], "--markdown")
        assert status == 1
        assert lines[0] == "**1 case: 1 regressed**"
        assert lines[2].startswith("| case | verdict |")
        assert len([line for line in lines if line.startswith("| `tried-jpeg-q5` | **regressed** |")]) == 1
        assert "<b>" not in "\n".join(lines)

    def test_a_step_s_summary_gets_the_table(self, compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
        compared([record(hits(9, 1))], [record(hits(9, 1), size=102)])
        assert "| `tried-jpeg-q5` | **rate** |" in (tmp_path / "summary.md").read_text()


class TestBaselinesAsTheFirstSide:
    def test_are_read_from_their_folder(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = baseline_file(tmp_path / "baselines", "tests", "tried")
        write_baselines(file, [of_record(record(hits(480, 20)))], ["jpeg-q5"], only_new=False)
        run = write_run(tmp_path / "run", [record([0.0] * 25 + hits(455, 20))])
        assert main(["compare", str(tmp_path / "baselines"), str(run)]) == 1
        assert capsys.readouterr().out.startswith("regressed: tried-jpeg-q5\n")


class TestFolders:
    @pytest.mark.parametrize(
        ("content", "says"),
        [(None, "no results.json in"), ("[]", "not what a run writes"), ("{", "damaged"), ('{"schema": 9, "cases": []}', "has schema 9")],
    )
    @pytest.mark.parametrize("command", ["compare", "report"])
    def test_say_what_is_not_a_run(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: str | None, says: str
    ) -> None:
        if content is not None:
            (tmp_path / "results.json").write_text(content)
        assert main([command, *[str(tmp_path)] * (2 if command == "compare" else 1)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"mpq {command}: ")
        assert says in error
        assert error.count("\n") == 1

    @pytest.mark.parametrize("samples", [b"PAR1", None])
    def test_say_that_a_run_s_samples_are_damaged_or_gone(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], samples: bytes | None
    ) -> None:
        write_run(tmp_path, [record(hits(3, 1))])
        file: Any = tmp_path / "samples.parquet"
        file.unlink() if samples is None else file.write_bytes(samples)
        assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "samples.parquet cannot be read" in error
        assert error.count("\n") == 1

    def test_say_that_a_report_s_samples_are_damaged(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "results.json").write_text('{"schema": 1, "cases": []}')
        (tmp_path / "samples.parquet").write_bytes(b"PAR1")
        assert main(["report", str(tmp_path)]) == 2
        assert "samples.parquet cannot be read" in capsys.readouterr().err
