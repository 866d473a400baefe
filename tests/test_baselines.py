"""Baselines and verdicts: what is approved, what a record is held against, and what a failure says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mpq_fixtures.gate.baselines import (
    IMPROVED,
    NEW,
    REGRESSED,
    SAME,
    Baseline,
    BaselineError,
    Verdict,
    baseline_file,
    judge,
    read_baseline,
    update_baselines,
)
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.record import Failure, Record, Row, summarise
from mpq_fixtures.suite import Case, Evaluation, Threshold
from mpq_fixtures.tasks import TASKS

ORDER = ["original", "jpeg-q5", "jpeg-q10", "webp-q0"]
APPROVE = "pytest evaluations -k x --mpq-update-baselines"
EVALUATION = Evaluation("tried", "tests", TASKS["image_classification"], "a/model", {"path": "a/set"}, (), Path())


def record(hits: str, point: str = "jpeg-q5", size: int = 100) -> Record:
    """A record of one sample for each character, a hit where it is 1, each ``size`` bytes for 100 pixels."""
    codec, _, quality = point.partition("-")
    spent = {"payload": size, "container": 0, "side": 0}
    rows = [Row(f"s{n}", size + n, 100, "", "", float(hit), {}, {"top1": float(hit)}, spent) for n, hit in enumerate(hits)]
    return summarise(Case(EVALUATION, codec, quality), rows, [], Top1(), [])


def with_value(content: Record, value: float) -> Record:
    return replace(content, metrics={"top1": replace(content.metrics["top1"], value=value)})


def with_failure(content: Record) -> Record:
    return replace(content, failures=[Failure("s7", "decode", "ValueError: no stream")])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return baseline_file(tmp_path, "tests", "tried")


def read(file: Path, point: str = "jpeg-q5", samples: int = 4) -> Baseline | None:
    return read_baseline(file, point, [f"s{n}" for n in range(samples)], Top1())


def points(file: Path) -> list[str]:
    return list(json.loads(file.read_text())["cases"])


class TestVerdict:
    """Top-1 may move by 0.012, a rate by 1 %."""

    @staticmethod
    def judged(value: float, rate: float, higher: bool = True) -> Verdict:
        measured = record("1100")
        measure = replace(measured.metrics["top1"], value=value, higher_is_better=higher)
        return judge(replace(measured, metrics={"top1": measure}, rate=rate), Baseline(0.8, 2.0), [], APPROVE)

    @pytest.mark.parametrize(
        ("value", "rate", "name"),
        [
            (0.8, 2.0, SAME),
            (0.789, 2.0, SAME),
            (0.811, 2.0, SAME),
            (0.8, 2.019, SAME),
            (0.8, 1.981, SAME),
            (0.787, 2.0, REGRESSED),
            (0.8, 2.021, REGRESSED),
            (0.9, 2.021, REGRESSED),
            (0.787, 1.0, REGRESSED),
            (math.nan, 2.0, REGRESSED),
            (0.8, math.nan, REGRESSED),
            (-math.inf, 2.0, REGRESSED),
            (0.813, 2.0, IMPROVED),
            (0.8, 1.979, IMPROVED),
        ],
    )
    def test_follows_from_value_and_rate(self, value: float, rate: float, name: str) -> None:
        verdict = self.judged(value, rate)
        assert verdict.name == name
        assert verdict.passes == (name != REGRESSED)

    def test_turns_round_where_lower_is_better(self) -> None:
        assert self.judged(0.9, 2.0, higher=False).name == REGRESSED
        assert self.judged(0.7, 2.0, higher=False).name == IMPROVED

    def test_is_new_without_a_baseline(self) -> None:
        assert judge(record("1100"), None, [], APPROVE) == Verdict(NEW)

    def test_without_a_baseline_fails_when_strict_unless_this_run_approves(self) -> None:
        verdict = judge(record("1100"), None, [], APPROVE, strict=True)
        assert not verdict.passes
        assert verdict.message == f"tried-jpeg-q5: no baseline; approve one: {APPROVE}=new"
        assert judge(record("1100"), None, [], APPROVE, "new", strict=True).passes

    def test_passes_in_the_run_that_approves(self) -> None:
        measured = record("1100")
        assert judge(measured, Baseline(0.8, 2.0), [], APPROVE, "all") == Verdict(REGRESSED)
        assert not judge(measured, Baseline(0.8, 2.0), [], APPROVE, "new").passes

    def test_against_a_baseline_of_nan_is_a_regression(self) -> None:
        assert judge(record("1100"), Baseline(math.nan, 8.12), [], APPROVE).name == REGRESSED


class TestMessage:
    def test_of_a_value_says_all_there_is_to_know(self) -> None:
        message = judge(with_value(record("1100"), 0.75), Baseline(0.8, record("1100").rate), [], APPROVE).message
        assert message == (
            "tried-jpeg-q5: top1 0.7500 against the baseline's 0.8000: -0.0500 accuracy, tolerance 0.012\n"
            f"If this is meant, approve it: {APPROVE}"
        )

    def test_of_a_rate_says_all_there_is_to_know(self) -> None:
        message = judge(replace(record("1100"), rate=2.1), Baseline(0.5, 2.0), [], APPROVE).message
        assert message == (
            f"tried-jpeg-q5: rate 2.1000 bpp against the baseline's 2.0000: +5.0%, tolerance 1%\nIf this is meant, approve it: {APPROVE}"
        )

    def test_names_value_and_rate_where_both_are_worse(self) -> None:
        message = judge(replace(record("1000"), rate=2.1), Baseline(0.5, 2.0), [], APPROVE).message
        assert "top1 0.2500" in message
        assert "rate 2.1000" in message
        assert message.count(APPROVE) == 1

    def test_of_a_threshold_says_bound_and_figure(self) -> None:
        measured = replace(record("1100"), retention=0.625)
        thresholds = [Threshold("value", ">=", 0.6), Threshold("retention", ">=", 0.9), Threshold("rate", "<=", 100.0)]
        assert judge(measured, None, thresholds, APPROVE).message.splitlines() == [
            "tried-jpeg-q5: threshold of the suite missed: value >= 0.6, measured 0.5",
            "tried-jpeg-q5: threshold of the suite missed: retention >= 0.9, measured 0.625",
        ]

    def test_of_a_threshold_stays_when_baselines_are_approved(self) -> None:
        assert not judge(record("1100"), None, [Threshold("value", ">=", 0.6)], APPROVE, "all").passes

    def test_of_failed_samples_counts_them_and_names_the_first(self) -> None:
        message = judge(with_failure(record("1100")), Baseline(0.5, record("1100").rate), [], APPROVE, "all").message
        assert message == "tried-jpeg-q5: 1 of 5 samples failed; the first is 's7', at decode: ValueError: no stream"

    def test_of_nan_says_that_there_is_no_number_even_when_approving(self) -> None:
        verdict = judge(with_value(record("1100"), math.nan), None, [], APPROVE, "all")
        assert verdict.message == "tried-jpeg-q5: top1 is nan: the model or the metric gave no number"


class TestUpdate:
    def test_is_read_back_as_it_was_measured(self, file: Path) -> None:
        measured = record("1101")
        assert update_baselines(file, [measured], ORDER, only_new=False) == ["tried-jpeg-q5"]
        assert read(file) == Baseline(0.75, measured.rate)

    def test_holds_a_subset_against_the_same_subset(self, file: Path) -> None:
        update_baselines(file, [record("1101")], ORDER, only_new=False)
        baseline = read_baseline(file, "jpeg-q5", ["s3", "s2"], Top1())
        assert baseline == Baseline(0.5, 8 * (103 + 102) / 200)

    @pytest.mark.parametrize(("samples", "says"), [(5, "1 of the 5 samples, the first of them 's4'"), (9, "5 of the 9 samples")])
    def test_over_other_samples_is_no_baseline_and_says_so(self, file: Path, samples: int, says: str) -> None:
        update_baselines(file, [record("1101")], ORDER, only_new=False)
        with pytest.raises(BaselineError, match=rf"jpeg-q5: approved without {says}.*--mpq-update-baselines"):
            read(file, samples=samples)

    def test_knows_nothing_of_other_points(self, file: Path) -> None:
        update_baselines(file, [record("1101")], ORDER, only_new=False)
        assert read(file, "jpeg-q10") is None
        assert read(file.with_name("other.json")) is None

    def test_merges_in_the_order_of_the_suite_one_case_a_line(self, file: Path) -> None:
        update_baselines(file, [record("1111", "webp-q0")], ORDER, only_new=False)
        before = file.read_text().splitlines()
        update_baselines(file, [record("1100"), record("1111", "original")], ORDER, only_new=False)
        lines = file.read_text().splitlines()
        assert points(file) == ["original", "jpeg-q5", "webp-q0"]
        assert [line.split('"')[1] for line in lines if line.startswith("  ")] == points(file)
        assert [line for line in before if "webp" in line] == [line for line in lines if "webp" in line]

    def test_keeps_points_that_the_suite_has_no_more(self, file: Path) -> None:
        update_baselines(file, [record("1111", "webp-q0"), record("1111", "jpeg-q5")], ORDER, only_new=False)
        update_baselines(file, [record("1100", "jpeg-q5")], ORDER[:2], only_new=False)
        assert points(file) == ["jpeg-q5", "webp-q0"]

    def test_of_new_ones_leaves_the_old(self, file: Path) -> None:
        update_baselines(file, [record("1111")], ORDER, only_new=False)
        assert update_baselines(file, [record("0000"), record("1100", "webp-q0")], ORDER, only_new=True) == ["tried-webp-q0"]
        assert read(file) == Baseline(1.0, record("1111").rate)
        assert read(file, "webp-q0") == Baseline(0.5, record("1111").rate)

    def test_replaces_what_is_measured_again(self, file: Path) -> None:
        update_baselines(file, [record("1111")], ORDER, only_new=False)
        update_baselines(file, [record("1100", size=50)], ORDER, only_new=False)
        assert read(file) == Baseline(0.5, record("1100", size=50).rate)

    def test_of_the_same_changes_not_a_byte(self, file: Path) -> None:
        update_baselines(file, [record("1101")], ORDER, only_new=False)
        before = file.read_bytes()
        assert update_baselines(file, [record("1101")], ORDER, only_new=False) == []
        assert file.read_bytes() == before

    def test_leaves_out_what_is_broken(self, file: Path) -> None:
        broken = [with_failure(record("1100")), with_value(record("1100", "webp-q0"), math.nan)]
        assert update_baselines(file, broken, ORDER, only_new=False) == []
        assert not file.exists()

    def test_knows_a_data_set_that_grew(self, file: Path) -> None:
        update_baselines(file, [record("11"), record("10", "webp-q0")], ORDER, only_new=False)
        update_baselines(file, [record("1110")], ORDER, only_new=False)
        assert read(file) == Baseline(0.75, record("1110").rate)
        assert read(file, "webp-q0", samples=2) == Baseline(0.5, record("10").rate)
        with pytest.raises(BaselineError, match="approved without 2 of the 4 samples"):
            read(file, "webp-q0")

    def test_keeps_every_sample_s_statistic(self, file: Path) -> None:
        from mpq_fixtures.statistics import unpack

        update_baselines(file, [record("1101")], ORDER, only_new=False)
        case = json.loads(file.read_text())["cases"]["jpeg-q5"]
        assert np.array(unpack(case["statistics"])).tolist() == [1, 1, 0, 1]
        assert np.array(unpack(case["counts"])).tolist() == [[100, 100], [101, 100], [102, 100], [103, 100]]
        assert (case["value"], case["samples"]) == (0.75, 4)


class TestDamagedFile:
    @pytest.mark.parametrize(
        "content",
        ["", '{"schema": 1', "[]", "{}", '{"schema": 99, "cases": {}}', '{"schema": 1, "cases": []}', "\x00\x01"],
        ids=["empty", "cut", "list", "nothing", "later schema", "cases of another type", "no text"],
    )
    def test_is_said_in_a_sentence(self, file: Path, content: str) -> None:
        file.parent.mkdir(parents=True)
        file.write_text(content)
        for action in (lambda: read(file), lambda: update_baselines(file, [record("11")], ORDER, only_new=False)):
            with pytest.raises(BaselineError, match=r"tried\.json: not .*restore it, or delete it") as caught:
                action()
            assert "\n" not in str(caught.value)

    def test_that_is_none_is_said_in_a_sentence(self, file: Path) -> None:
        file.parent.write_text("not a folder")
        with pytest.raises(BaselineError, match=r"tried\.json: cannot be read: Not a directory; .*--mpq-baselines"):
            read(file)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"statistics": "', '"statistics": "damaged'),
            ('"counts"', '"count"'),
            ('"counts": "', '"counts": 5, "x": "'),
            ('{"metric"', '5, "x": {"metric"'),
        ],
        ids=["statistics", "no counts", "counts of another type", "case of another type"],
    )
    def test_case_is_said_in_a_sentence(self, file: Path, old: str, new: str) -> None:
        update_baselines(file, [record("1101")], ORDER, only_new=False)
        content = file.read_text()
        assert old in content
        file.write_text(content.replace(old, new))
        with pytest.raises(BaselineError, match=r"tried\.json: jpeg-q5: not a baseline .*restore it, or write it anew") as caught:
            read(file)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(("old", "new"), [('"metric": "top1"', '"metric": "top5"'), ('"version": 1', '"version": 2')])
    def test_case_of_another_metric_is_said_in_a_sentence(self, file: Path, old: str, new: str) -> None:
        update_baselines(file, [record("1101"), record("1111", "webp-q0")], ORDER, only_new=False)
        file.write_text(file.read_text().replace(old, new, 1))
        with pytest.raises(BaselineError, match=r"jpeg-q5: approved by top. in version ., and scored by top1 in version 1 now") as caught:
            read(file)
        assert "--mpq-update-baselines" in str(caught.value)
        assert read(file, "webp-q0") == Baseline(1.0, record("1111", "webp-q0").rate)

    def test_that_lacks_its_samples_is_said_in_a_sentence(self, file: Path) -> None:
        update_baselines(file, [record("1101")], ORDER, only_new=False)
        content = json.loads(file.read_text())
        del content["samples"]
        file.write_text(json.dumps(content))
        for action in (lambda: read(file), lambda: update_baselines(file, [record("11")], ORDER, only_new=False)):
            with pytest.raises(BaselineError):
                action()
