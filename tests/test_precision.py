"""Half precision, where an evaluation asks for it: the network computes in it, and the score stays where it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mpq_fixtures.datasets import load_dataset
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.suite import Evaluation
from mpq_fixtures.suite.file import load_suite

EVALUATIONS = load_suite(Path(__file__).parents[1] / "evaluations" / "suites" / "pocket.toml")
SAMPLES = {"vit_pocket": 24, "segformer_pocket": 8, "whisper_pocket": 24, "demucs_pocket": 1}
WITHIN = {"top1": 0.05, "miou": 0.01, "word_accuracy": 0.02, "sdr": 0.1}
"""How far the score may move: one picture of 24, and twice the metric's tolerance for the others."""


def in_precision(evaluation: Evaluation, precision: str) -> Evaluation:
    return replace(evaluation, model_options={**evaluation.model_options, "precision": precision})


def score(evaluation: Evaluation) -> tuple[float, set[torch.dtype]]:
    """Return the metric on some originals, and the types of what the network's linear layers and convolutions gave."""
    model = OpenModel(evaluation, "cpu", 2)
    dataset = evaluation.task.align(load_dataset(evaluation, SAMPLES[evaluation.name]), evaluation, lambda: model.labels)
    ready: Any = model.ready()
    found: set[torch.dtype] = set()
    for module in ready._model.modules():
        if isinstance(module, torch.nn.Linear | torch.nn.Conv1d | torch.nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: found.add(output.dtype))
    answers = ready.predict([sample.signal() for sample in dataset.samples])
    metric = evaluation.task.metric(dataset, **evaluation.options)
    statistics = [metric.observe(answer, sample.target()) for answer, sample in zip(answers, dataset.samples, strict=True)]
    return metric.value(statistics), found


@pytest.mark.parametrize("evaluation", EVALUATIONS, ids=lambda evaluation: evaluation.name)
class TestHalfPrecision:
    def test_is_computed_in_and_moves_the_score_little(self, evaluation: Evaluation) -> None:
        whole, types = score(evaluation)
        assert types == {torch.float32}
        half, types = score(in_precision(evaluation, "bfloat16"))
        assert types == {torch.bfloat16}
        metric = evaluation.task.metric(load_dataset(evaluation, 1), **evaluation.options)
        assert half == pytest.approx(whole, abs=WITHIN[metric.name])

    def test_is_another_model_to_the_store(self, evaluation: Evaluation) -> None:
        precisions = ("float32", "float16", "bfloat16")
        assert len({OpenModel(in_precision(evaluation, precision), "cpu").fingerprint for precision in precisions}) == 3
