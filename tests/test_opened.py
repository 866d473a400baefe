"""What a process has open: the data set and the model of the evaluation that it works on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mpq_fixtures.models.answers import Limit
from mpq_fixtures.opened import OpenEvaluation, OpenPipelines
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.read_cache import ReadCache
from mpq_fixtures.resources import Resources
from mpq_fixtures.store import open_store
from mpq_fixtures.suite import Evaluation
from mpq_fixtures.suite.file import load_suite

COUNTED = """
from mpq_fixtures.signals import Dataset, Sample

living = most = 0


def load(device):
    return Model()


class Model:
    batch_size = 4

    def __init__(self):
        global living, most
        living += 1
        most = max(most, living)

    def __del__(self):
        global living
        living -= 1

    def predict(self, signals):
        return [0] * len(signals)


def samples():
    return Dataset([Sample("one", "0" * 64, 3, lambda: None, lambda: 0)], ("none",))
"""
EVALUATION = '[[evaluation]]\nname = "{}"\ntask = "image_classification"\nmodel = "python:counted:load"\n'
EVALUATION += 'dataset = {{ path = "python:counted:{}" }}\ncodecs = []\n'


@pytest.fixture
def evaluations(tmp_path: Path) -> list[Evaluation]:
    (tmp_path / "counted.py").write_text(COUNTED)
    names = {"one": "samples", "two": "samples", "three": "samples", "four": "nowhere"}
    (tmp_path / "suite.toml").write_text('name = "own"\n' + "".join(EVALUATION.format(*pair) for pair in names.items()))
    return load_suite(tmp_path / "suite.toml")


@pytest.fixture
def opened(tmp_path: Path) -> OpenEvaluation:
    return OpenEvaluation("cpu", 0, 1, None, ReadCache(0))


class TestPipelines:
    def test_of_several_evaluations_in_turn_have_one_model_in_memory(
        self, evaluations: list[Evaluation], opened: OpenEvaluation, tmp_path: Path
    ) -> None:
        pipelines = OpenPipelines(opened, Resources(open_store(tmp_path / "store"), Clock()))
        for _ in range(2):
            for evaluation in evaluations[:3]:
                pipeline = pipelines.of(evaluation.cases[0])
                assert pipeline is not None
                assert pipeline is pipelines.of(evaluation.cases[0])
                model = type(pipeline.model.ready())
        assert sys.modules[model.__module__].most == 1

    def test_of_what_cannot_be_had_there_are_none(self, evaluations: list[Evaluation], opened: OpenEvaluation, tmp_path: Path) -> None:
        pipelines = OpenPipelines(opened, Resources(open_store(tmp_path / "store"), Clock()))
        assert pipelines.of(evaluations[3].cases[0]) is None


class TestNotes:
    def test_are_there_once_however_often_they_are_asked_for(self, evaluations: list[Evaluation], opened: OpenEvaluation) -> None:
        model = opened.model(evaluations[0])
        model.ready()
        model.limit = Limit(1, ["it gets one at a time"])
        assert [opened.notes() for _ in range(3)] == [["one: it gets one at a time"]] * 3
        assert len(opened._notes) == 1
