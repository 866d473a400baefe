"""What the pocket suite promises: good models on the originals, codecs that hurt, and baselines that hold on other machines."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from projects import ROOT, places

from mpq_fixtures.datasets import load_dataset
from mpq_fixtures.suite import Evaluation
from mpq_fixtures.suite.file import load_suite

EVALUATIONS = load_suite(ROOT / "evaluations" / "suites" / "pocket.toml")
EVERY = pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda evaluation: evaluation.name)
CLEAN = {"image_classification": 0.95, "image_segmentation": 0.85, "speech_recognition": 0.95, "source_separation": 9.0}
LOSS = {"image_classification": 0.15, "image_segmentation": 0.15, "speech_recognition": 0.15, "source_separation": 3.0}
SAMPLES = {"image_classification": 200, "image_segmentation": 100, "speech_recognition": 100, "source_separation": 8}
# What a step of the ladder may fall by before it is more than noise: two standard errors of a difference at most of these sizes.
NOISE = {"image_classification": 0.03, "image_segmentation": 0.02, "speech_recognition": 0.03, "source_separation": 0.3}


def approved(evaluation: Evaluation) -> dict[str, Any]:
    cases: dict[str, Any] = json.loads((ROOT / "evaluations/baselines/pocket" / f"{evaluation.name}.json").read_text())["cases"]
    return cases


@EVERY
class TestThePocketSuite:
    def test_has_a_baseline_for_every_case(self, evaluation: Evaluation) -> None:
        known = {"original", *evaluation.codecs}
        here = [point for point in approved(evaluation) if point.partition("-")[0] in known]
        assert here == [case.point for case in evaluation.cases]
        elsewhere = {point.partition("-")[0] for point in approved(evaluation)} - known
        assert elsewhere <= {"lyra"}  # measured where its weights are

    def test_has_enough_samples(self, evaluation: Evaluation) -> None:
        assert len(load_dataset(evaluation).samples) >= SAMPLES[evaluation.task.name]
        assert {case["samples"] for case in approved(evaluation).values()} == {len(load_dataset(evaluation).samples)}

    def test_is_good_on_the_originals(self, evaluation: Evaluation) -> None:
        assert approved(evaluation)["original"]["value"] >= CLEAN[evaluation.task.name]

    def test_suffers_at_the_lowest_quality_of_the_worst_codec(self, evaluation: Evaluation) -> None:
        cases = approved(evaluation)
        worst = min(cases[f"{name}-{codec.ladder[0]}"]["value"] for name, codec in evaluation.codecs.items())
        assert cases["original"]["value"] - worst >= LOSS[evaluation.task.name]

    def test_rises_along_each_ladder_but_for_noise(self, evaluation: Evaluation) -> None:
        cases = approved(evaluation)
        for name, codec in evaluation.codecs.items():
            points = [cases[f"{name}-{quality}"] for quality in codec.ladder]
            for lower, higher in pairwise(points):
                assert higher["rate"] > lower["rate"], name
                assert higher["value"] >= lower["value"] - NOISE[evaluation.task.name], name


class TestThePocketFiles:
    def test_weigh_at_most_25_mb(self) -> None:
        names = subprocess.run(["git", "ls-files", "-z", "mpq_fixtures/pocket"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
        sizes = [(ROOT / name).stat().st_size for name in names.split("\0") if name]
        assert len(sizes) > 100
        assert sum(sizes) <= 25e6

    def test_hold_no_pickle(self) -> None:
        assert not [path for ending in ("bin", "pt", "pth", "th", "pkl") for path in (ROOT / "mpq_fixtures/pocket").rglob(f"*.{ending}")]


class TestTheCommittedBaselines:
    @pytest.mark.parametrize(
        "machine",
        [{"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"}, {"ATEN_CPU_CAPABILITY": "avx2", "OMP_NUM_THREADS": "3"}],
        ids=["plain-1-thread", "avx2-3-threads"],
    )
    def test_hold_with_other_instructions_and_thread_counts(self, machine: dict[str, str], tmp_path: Path) -> None:
        chosen = "original or (jpeg-q5 and not jpeg-q50) or opus-6k"
        run = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "evaluations",
                "-k",
                chosen,
                "--mpq-samples=12",
                "--mpq-strict",
                *places(tmp_path),
            ],
            cwd=ROOT,
            env={**os.environ, **machine},
            capture_output=True,
            text=True,
        )
        assert run.returncode == 0, run.stdout
        assert "8 passed" in run.stdout
