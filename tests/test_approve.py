"""``mpq approve``: baselines from the folder of a finished run, and files of an older mpq taken over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_baselines import ORDER, PROVENANCE, chained, packed_as_in_schema_1, record, with_failure

from mpq_fixtures.__main__ import main
from mpq_fixtures.gate.baselines import read_baselines
from mpq_fixtures.gate.measured import of_results
from mpq_fixtures.record import Record
from mpq_fixtures.results.files import FAILED, PASSED, SKIPPED, Result, write_results
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task

EVALUATION = Evaluation("tried", "tests", find_task("image_classification"), "a/model", {"path": "a/set"}, (), Path())


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*records: Record, folder: str = "run", skipped: str = "", **options: Any) -> None:
    """Leave what a run leaves that measured these records."""
    results = [Result(Case(EVALUATION, one.codec, one.quality), FAILED if one.failures else PASSED, one) for one in records]
    if skipped:
        codec, _, quality = skipped.partition("-")
        results.append(Result(Case(EVALUATION, codec, quality), SKIPPED, reason="the codec is not here"))
    provenance = {**PROVENANCE, "options": {"samples": None, **options}}
    write_results(Path(folder), results, {"provenance": provenance})


def hits(which: str, point: str = "jpeg-q5", **links: Any) -> Record:
    return chained(record(which, point), **links)


def file(baselines: str = "evaluations/baselines") -> Path:
    return Path(baselines) / "tests" / "tried.json"


class TestApprove:
    def test_finds_the_baselines_of_the_checkout_that_it_is_in(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (here / "tests" / "baselines").mkdir(parents=True)
        run(hits("1101"), baselines={"tests": "tests/baselines"})
        monkeypatch.chdir(here / "tests")
        assert main(["approve", "../run"]) == 0
        assert (here / "tests" / "baselines" / "tests" / "tried.json").exists()

    def test_takes_over_what_a_run_measured(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(hits("1111", "original"), hits("1101"))
        assert main(["approve", "run"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "case            from      to  change  rate from      to  change  layer",
            "tried-original     -  1.0000       -          -  8.1200       -  new",
            "tried-jpeg-q5      -  0.7500       -          -  8.1200       -  new",
            "2 of 2 cases approved in evaluations/baselines",
        ]
        kept, measured = read_baselines(file())["jpeg-q5"], of_results(Path("run"))["tried-jpeg-q5"]
        assert (kept.value, kept.rate, kept.whole) == (0.75, pytest.approx(8.12), measured.whole)
        assert [one.tolist() for one in kept.statistics] == [one.tolist() for one in measured.statistics]
        assert kept.provenance["commit"] == PROVENANCE["commit"]

    def test_says_what_changes_and_which_layer_did_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(hits("1111", "original"), hits("1101"))
        main(["approve", "run"])
        capsys.readouterr()
        run(hits("1111", "original"), hits("1100", decoded="by another decoder"), folder="later")
        assert main(["approve", "later"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "case             from      to   change  rate from      to  change  layer",
            "tried-jpeg-q5  0.7500  0.5000  -0.2500     8.1200  8.1200  +0.00%  decoder",
            "1 of 2 cases approved in evaluations/baselines",
        ]

    def test_takes_a_case_that_is_red_because_it_changed(self) -> None:
        run(hits("1101"))
        main(["approve", "run"])
        content = json.loads(Path("run/results.json").read_text())
        content["cases"][0] |= {"outcome": "failed", "verdict": "regressed"}
        Path("run/results.json").write_text(json.dumps(content))
        assert main(["approve", "run"]) == 0

    def test_of_the_same_run_twice_writes_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(hits("1101"))
        main(["approve", "run"])
        before = file().read_bytes()
        capsys.readouterr()
        assert main(["approve", "run"]) == 0
        assert capsys.readouterr().out == "nothing to approve in evaluations/baselines: every case is as it was approved\n"
        assert file().read_bytes() == before

    def test_takes_the_cases_that_globs_name(self) -> None:
        run(hits("1111", "original"), hits("1101"), hits("1100", "webp-q0"), hits("1000", "jpeg-q10"))
        assert main(["approve", "run", "--case", "*-original", "--case", "tried-jpeg-q?"]) == 0
        assert list(read_baselines(file())) == ["original", "jpeg-q5"]

    def test_of_new_ones_leaves_the_others(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(hits("1101"))
        main(["approve", "run"])
        run(hits("0000"), hits("1100", "webp-q0"), folder="later")
        assert main(["approve", "later", "--new"]) == 0
        assert {point: one.value for point, one in read_baselines(file()).items()} == {"jpeg-q5": 0.75, "webp-q0": 0.5}
        capsys.readouterr()
        assert main(["approve", "later", "--new"]) == 0
        assert "every case has a baseline, and --new leaves those" in capsys.readouterr().out

    def test_keeps_the_order_of_the_suite_when_cases_come_later(self) -> None:
        run(hits("1111", "original"), hits("1100", "webp-q0"))
        main(["approve", "run"])
        run(*[hits("1100", point) for point in ORDER], folder="later")
        main(["approve", "later", "--new"])
        assert list(read_baselines(file())) == ORDER

    def test_writes_where_it_is_told_or_where_the_run_had_its_own(self) -> None:
        run(hits("1101"), baselines={"tests": "beside the suite"})
        assert main(["approve", "run"]) == 0
        assert main(["approve", "run", "--baselines", "elsewhere"]) == 0
        assert [file(folder).exists() for folder in ("beside the suite", "elsewhere", "evaluations/baselines")] == [True, True, False]

    def test_leaves_out_what_is_broken_says_why_and_takes_the_rest(self, capsys: pytest.CaptureFixture[str]) -> None:
        nothing = hits("1100", "webp-q0")
        broken = replace(nothing, metrics={**nothing.metrics, "top1": replace(nothing.metrics["top1"], value=float("nan"))})
        run(hits("1111", "original"), with_failure(hits("1101")), broken, skipped="jpeg-q10")
        assert main(["approve", "run"]) == 2
        said = capsys.readouterr()
        assert said.err.splitlines() == [
            "mpq approve: tried-jpeg-q5 is left out: 1 of 5 samples failed",
            "mpq approve: tried-webp-q0 is left out: top1 is nan and the rate 8.12: not numbers to hold anything against",
        ]
        assert "1 of 3 cases approved" in said.out
        assert list(read_baselines(file())) == ["original"]
        assert main(["approve", "run", "--case", "*original"]) == 0

    def test_of_some_samples_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(hits("1101"), samples=4)
        assert main(["approve", "run"]) == 2
        assert "run holds a run with --mpq-samples 4: a baseline holds every sample" in capsys.readouterr().err
        assert not file().exists()

    @pytest.mark.parametrize(
        ("damage", "says"),
        [
            (lambda folder: (folder / "results.json").unlink(), "no results.json in run"),
            (lambda folder: (folder / "results.json").write_text("{"), "results.json is damaged"),
            (lambda folder: (folder / "samples.parquet").unlink(), "samples.parquet cannot be read"),
            (lambda folder: (folder / "samples.parquet").write_bytes(b"PAR1"), "samples.parquet cannot be read"),
            (lambda folder: pq.write_table(pa.table({"case": ["a"]}), folder / "samples.parquet"), "written by an older mpq"),
        ],
    )
    def test_of_a_damaged_folder_is_said_in_a_sentence(
        self, damage: Callable[[Path], object], says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(hits("1101"))
        damage(Path("run"))
        assert main(["approve", "run"]) == 2
        said = capsys.readouterr().err
        assert says in said
        assert said.count("\n") == 1

    def test_of_a_case_that_was_not_measured_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(hits("1101"), skipped="webp-q0")
        assert main(["approve", "run", "--case", "*webp*"]) == 2
        assert "--case *webp*: fits none of the 1 cases that this run measured, such as tried-jpeg-q5" in capsys.readouterr().err

    def test_of_a_run_that_measured_nothing_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(skipped="webp-q0")
        assert main(["approve", "run"]) == 2
        assert "the run measured nothing" in capsys.readouterr().out

    def test_over_a_damaged_file_is_refused_and_leaves_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        run(hits("1101"))
        file().parent.mkdir(parents=True)
        file().write_text("{")
        assert main(["approve", "run"]) == 2
        assert "tried.json: not valid JSON" in capsys.readouterr().err
        assert file().read_text() == "{"

    @pytest.mark.parametrize("arguments", [[], ["run", "--migrate"], ["--migrate", "--new"], ["--migrate", "--case", "x"]])
    def test_of_what_does_not_go_together_is_refused(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["approve", *arguments]) == 2
        assert "name the folder of a run" in capsys.readouterr().err


class TestMigrate:
    @pytest.fixture
    def old(self) -> Path:
        case = {"metric": "top1", "version": 1, "value": 0.5, "rate": 8.0, "samples": 2}
        case |= {"counts": packed_as_in_schema_1([[50, 50], [100, 100]], "<u2"), "statistics": packed_as_in_schema_1([1, 0], "|u1")}
        file().parent.mkdir(parents=True)
        file().write_text(json.dumps({"schema": 1, "samples": ["s0", "s1"], "cases": {"original": case, "jpeg-q5": case}}))
        return file()

    def test_writes_files_anew_in_place(self, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["approve", "--migrate"]) == 0
        assert capsys.readouterr().out == f"{old}: 2 cases migrated from schema 1\n"
        assert {point: one.value for point, one in read_baselines(old).items()} == {"original": 0.5, "jpeg-q5": 0.5}
        assert np.array_equal(read_baselines(old)["original"].statistics, [1, 0])
        assert main(["approve", "--migrate"]) == 0
        assert capsys.readouterr().out == f"{old}: is of this schema already\n"

    def test_is_what_a_run_needs_before_it_is_approved(self, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run(hits("11"))
        assert main(["approve", "run"]) == 2
        assert "migrate it: mpq approve --migrate --baselines evaluations/baselines" in capsys.readouterr().err
        main(["approve", "--migrate"])
        capsys.readouterr()
        assert main(["approve", "run"]) == 0
        assert "tried-jpeg-q5  0.5000  1.0000  +0.5000     8.0000  8.0400  +0.50%  -" in capsys.readouterr().out

    def test_of_one_damaged_file_takes_the_others(self, old: Path, capsys: pytest.CaptureFixture[str]) -> None:
        damaged = old.with_name("damaged.json")
        damaged.write_text("[]")
        assert main(["approve", "--migrate"]) == 2
        said = capsys.readouterr()
        assert "damaged.json: not a baseline file" in said.err
        assert "tried.json: 2 cases migrated" in said.out

    def test_of_a_folder_without_any_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["approve", "--migrate", "--baselines", "nowhere"]) == 2
        assert (
            capsys.readouterr().err
            == "mpq approve: no baselines in nowhere: give their folder with --baselines, such as evaluations/baselines\n"
        )
