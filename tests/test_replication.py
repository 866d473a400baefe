"""The study's figures, and their table in the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures.report.html import render
from mpq_fixtures.report.replication import Row, reference, replicate
from mpq_fixtures.suite.file import load_suite

SUITES = Path(__file__).parents[1] / "evaluations" / "suites"


def record(evaluation: str, codec: str, quality: str, suite: str = "study", **figures: Any) -> dict[str, Any]:
    point = f"{codec}-{quality}" if quality else codec
    return {"case": f"{evaluation}-{point}", "suite": suite, "evaluation": evaluation, "codec": codec, "quality": quality, **figures}


def row(rows: tuple[Row, ...], evaluation: str, point: str) -> Row:
    return next(row for row in rows if (row.evaluation, row.point) == (evaluation, point))


class TestFigures:
    def test_all_six_evaluations_with_all_their_codecs_are_there(self) -> None:
        rows = replicate([]).rows
        assert len(rows) == 4 * 5 + 2 * 4
        assert {row.metric for row in rows} == {"top1", "miou", "word_accuracy", "sdr"}

    def test_evaluations_and_points_have_the_names_of_the_suite(self) -> None:
        evaluations = {evaluation.name: evaluation for evaluation in load_suite(SUITES / "study.toml")}
        for printed in reference()["evaluations"]:
            evaluation = evaluations[printed["name"]]
            assert evaluation.task.name in {"image_classification", "image_segmentation", "speech_recognition", "source_separation"}
            conventional = {case.point for case in evaluation.cases if not case.is_original}
            assert conventional <= {point["point"] for point in printed["points"]}

    @pytest.mark.parametrize(("evaluation", "bits"), [("vit_imagenet", 0.211), ("segformer_ade20k", 0.203), ("vit_xray", 0.087),
                                                      ("vit_beans", 0.229)])  # fmt: skip
    def test_hific_in_bits_costs_more_than_webp_and_mbt2018(self, evaluation: str, bits: float) -> None:
        rows = replicate([]).rows
        mended = row(rows, evaluation, "hific-lo").mended_rate
        assert mended == pytest.approx(bits, abs=5e-4)
        for cheaper in ("webp-q0", "mbt2018-q1"):
            assert mended > (row(rows, evaluation, cheaper).printed.rate or 1)

    def test_word_errors_are_shown_as_accuracy(self) -> None:
        rows = replicate([]).rows
        assert row(rows, "whisper_common_voice", "original").printed.value == pytest.approx(0.8489)
        assert row(rows, "whisper_common_voice", "opus-6k").printed.value == pytest.approx(0.7536)

    def test_each_correction_says_why_and_concerns_something(self) -> None:
        table = replicate([])
        assert all(reason.endswith(".") for reason in table.reasons)
        assert {number for row in table.rows for number in row.reasons} == set(range(1, len(table.reasons) + 1))


class TestMeasured:
    def test_a_run_stands_beside_the_study_with_its_mean_rate(self) -> None:
        cases = [record("vit_beans", "jpeg", "q5", rate=0.9, rate_mean=0.25, value=0.75, ci_low=0.7, ci_high=0.8, samples=133)]
        measured = row(replicate(cases).rows, "vit_beans", "jpeg-q5")
        assert (measured.measured.rate, measured.measured.value, measured.interval) == (0.25, 0.75, (0.7, 0.8))
        assert (measured.samples, measured.of) == (133, 133)

    def test_what_did_not_run_has_no_figure(self) -> None:
        unmeasured = row(replicate([record("vit_beans", "webp", "q0", value=None, samples=0)]).rows, "vit_beans", "webp-q0")
        assert not unmeasured.measured
        assert unmeasured.samples == 0

    def test_an_evaluation_of_another_suite_is_no_replication(self) -> None:
        assert not row(replicate([record("vit_beans", "jpeg", "q5", "mine", value=0.9)]).rows, "vit_beans", "jpeg-q5").measured


class TestPage:
    def test_only_the_study_has_the_table(self) -> None:
        def page(suite: str) -> str:
            return render({"cases": [record("vit_beans", "jpeg", "q5", suite, value=0.7543, rate_mean=0.2468, samples=133)]}, [])

        study = page("study")
        assert 'id="replication"' in study
        for text in ("0.7543", "0.2468", "0.7669", "0.2413", "0.2288", "bytes, not bits", "arXiv 2401.07957", "133 of 133"):
            assert text in study
        assert 'id="replication"' not in page("mine")
