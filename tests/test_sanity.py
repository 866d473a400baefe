"""Doubts about a run on the originals: each fault is seeded, and the pocket suite's approved records raise none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpq_fixtures.chain import ANSWER, SIGNAL
from mpq_fixtures.datasets import load_dataset
from mpq_fixtures.gate.baselines import read_baselines
from mpq_fixtures.gate.sanity import doubts
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.miou import MeanIoU
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.word_accuracy import WordAccuracy
from mpq_fixtures.models.predictions import describe, digest_of
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.rows import Row
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.signals import Audio, Dataset
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.suite.file import load_suite
from mpq_fixtures.tasks import find_task

EVALUATIONS = Path(__file__).parents[1] / "evaluations"
SPENT = {"payload": 8, "container": 2, "side": 0}
LABELS = ("cat", "dog", "fox")
RATE = 1000


def record(task: str, metric: Metric, pairs: Sequence[tuple[Any, Any]], mixtures: Sequence[Audio] = (), **settings: Any) -> Record:
    """A record on the originals of predictions and targets, as `mpq_fixtures.evaluate` would put it together."""
    rows = [
        Row(
            sample=f"s{number}",
            bytes=10,
            elements=100,
            prediction=describe(prediction, LABELS),
            target=describe(target, LABELS),
            statistic=metric.observe(prediction, target).tolist(),
            further={},
            scores={},
            ledger=SPENT,
            floor=metric.floor(mixtures[number], target).tolist() if mixtures else None,  # type: ignore[union-attr]
            source=f"{number:016x}",
            chain={SIGNAL: f"{number:016x}", ANSWER: digest_of(prediction)},
            **settings,
        )
        for number, (prediction, target) in enumerate(pairs)
    ]
    case = Case(Evaluation("tried", "tests", find_task(task), "python:a:b", {"path": "python:a:c"}, (), Path()), "original", "")
    return summarise(case, Rows.of(rows), [], metric, [])


def classes(answers: Sequence[int], targets: Sequence[int]) -> list[str]:
    return doubts(record("image_classification", Top1(), list(zip(answers, targets, strict=True))), Top1())


class TestSameAnswer:
    def test_for_different_classes_is_said_with_the_answer(self) -> None:
        assert classes([1, 1, 1, 1], [0, 1, 2, 0]) == [
            "the model gave the same answer, 'dog', for all 4 samples on the originals, which have 3 different targets"
        ]

    @pytest.mark.parametrize("heard", ["yes", ""])
    def test_for_different_texts(self, heard: str) -> None:
        pairs = [(heard, "yes"), (heard, "no"), (heard, "well")]
        (sentence,) = doubts(record("speech_recognition", WordAccuracy(), pairs), WordAccuracy())
        assert f"the same answer, {heard!r}, for all 3 samples" in sentence

    def test_for_different_pictures(self) -> None:
        generator = np.random.default_rng(0)
        pairs = [(np.zeros((4, 4), np.uint8), generator.integers(0, 3, (4, 4))) for _ in range(3)]
        (sentence,) = doubts(record("image_segmentation", MeanIoU(3), pairs), MeanIoU(3))
        assert "the same answer for all 3 samples on the originals, which have 3 different signals" in sentence

    def test_is_not_said_where_all_targets_are_one(self) -> None:
        assert not any("same answer" in sentence for sentence in classes([1] * 5, [1] * 5))

    def test_is_not_said_of_two_samples(self) -> None:
        assert classes([1, 1], [0, 1]) == []

    def test_is_not_said_where_one_answer_differs(self) -> None:
        assert not any("same answer" in sentence for sentence in classes([1, 1, 1, 2], [1, 0, 2, 2]))


class TestChance:
    def test_of_classes_is_the_most_frequent_target(self) -> None:
        targets = [0] * 60 + [1] * 40
        (sentence,) = classes([0] * 99 + [1], targets)  # 61 right, all but one of them by always saying "cat"
        assert sentence.startswith("top1 0.61 (")
        assert sentence.endswith(") on the originals cannot be told from chance with 100 samples: 'cat' for every sample reaches 0.6")
        (sentence,) = classes([1] * 99 + [0], targets)
        assert "is no better than chance" in sentence

    def test_of_classes_is_beaten_as_often_by_luck_as_the_interval_says(self) -> None:
        generator = np.random.default_rng(0)
        said = 0
        for _ in range(200):
            said += bool(classes(generator.integers(0, 2, 100).tolist(), [0, 1] * 50))
        assert said / 200 >= 0.95  # a coin is above half by its interval in 2.5 % of all cases

    def test_of_classes_is_left_behind_by_a_model_that_sees_something(self) -> None:
        generator = np.random.default_rng(0)
        targets = [0, 1] * 50
        seeing = [target if generator.random() < 0.8 else 1 - target for target in targets]
        assert classes(seeing, targets) == []
        assert classes([0, 1, 2], [0, 1, 2]) == []

    @pytest.mark.parametrize(("heard", "doubtful"), [("no", True), ("a b c d", True), ("one", False)])
    def test_of_words_is_nothing_heard(self, heard: str, doubtful: bool) -> None:
        pairs = [(f"{heard} {number}", f"one two {number + 5}") for number in range(4)]
        found = doubts(record("speech_recognition", WordAccuracy(), pairs), WordAccuracy())
        assert bool(found) == doubtful
        assert all("is no better than chance: no word at all reaches 0" in sentence for sentence in found)

    def test_of_stems_is_the_mixture_or_silence_whichever_is_better(self) -> None:
        generator = np.random.default_rng(0)
        loud = [{"voice": generator.normal(0, 0.3, (1, RATE * 3)), "band": generator.normal(0, 0.1, (1, RATE * 3))} for _ in range(4)]
        even = [{name: generator.normal(0, 0.1, (1, RATE * 3)) for name in "ab"} for _ in range(4)]
        for targets, answers, expected in (
            (loud, [{name: 0.001 * stem for name, stem in target.items()} for target in loud], ""),  # -> 0.009 dB, which is better
            (loud, [{name: stem[:, ::-1] for name, stem in target.items()} for target in loud], "silence for every stem reaches 0"),
            (even, [{name: stem + generator.normal(0, 0.01, stem.shape) for name, stem in target.items()} for target in even], ""),
        ):
            mixtures = [Audio(np.sum(list(target.values()), axis=0, dtype=np.float32), RATE) for target in targets]
            metric = SDR(RATE)
            found = doubts(record("source_separation", metric, list(zip(answers, targets, strict=True)), mixtures), metric)
            assert len(found) == bool(expected)
            assert all(sentence.endswith(expected) for sentence in found)

    def test_of_stems_that_are_nearly_the_mixture_is_the_mixture(self) -> None:
        generator = np.random.default_rng(0)
        targets = [{"a": generator.normal(0, 0.1, (1, RATE * 3))} for _ in range(4)]
        mixtures = [Audio((target["a"] + generator.normal(0, 0.02, target["a"].shape)).astype(np.float32), RATE) for target in targets]
        metric = SDR(RATE)
        pairs = [({"a": mixture.waveform}, target) for mixture, target in zip(mixtures, targets, strict=True)]
        (sentence,) = doubts(record("source_separation", metric, pairs, mixtures), metric)
        assert "is no better than chance: the signal itself reaches 1" in sentence  # 20 log10(0.1 / 0.02) is 14 dB

    @pytest.mark.parametrize("ignored", [None, 0])
    def test_of_maps_is_the_best_map_of_one_class(self, ignored: int | None) -> None:
        generator = np.random.default_rng(0)
        targets = [generator.choice(3, size=(20, 20), p=[0.5, 0.3, 0.2]) for _ in range(6)]
        metric = MeanIoU(3, ignored)
        constant = [metric.value([metric.observe(np.full((20, 20), label), target) for target in targets]) for label in range(3)]
        statistics = [metric.observe(target, target) for target in targets]
        chance = metric.chance(statistics, [""] * 6)
        assert chance is not None
        assert chance.value == pytest.approx(max(constant))
        assert chance.answer == f"class {int(np.argmax(constant))} for every pixel"
        maps = [np.full((20, 20), int(np.argmax(constant))) for _ in range(6)]
        for number, one in enumerate(maps):
            one[0, : number + 1] = 2  # no two are the same
        (sentence,) = doubts(record("image_segmentation", metric, list(zip(maps, targets, strict=True))), metric)
        assert "chance" in sentence
        assert doubts(record("image_segmentation", metric, [(target, target) for target in targets]), metric) == []

    def test_is_not_said_of_what_is_no_number_or_of_too_few(self) -> None:
        assert doubts(record("image_classification", Top1(), [(math.nan, 0), (1, 1), (0, 2)]), Top1()) == []
        assert classes([1, 0], [0, 1]) == []

    def test_may_be_told_by_a_metric_of_ones_own_where_lower_is_better(self) -> None:
        class Wrong(Top1):
            name, higher_is_better = "wrong", False

            def score(self, total: Any, samples: int) -> Any:
                return 1 - total / samples

            def chance(self, statistics: Any, targets: Any) -> Any:
                best = super().chance(statistics, targets)
                return best and best._replace(value=1 - best.value)

        for answers, doubtful in (([0, 1, 1, 0, 0, 1] * 5, True), ([0, 1, 0, 1, 0, 1] * 5, False)):
            found = doubts(record("image_classification", Wrong(), list(zip(answers, [0, 1] * 15, strict=True))), Wrong())
            assert bool(found) == doubtful

    def test_without_an_opinion_of_the_metrics_is_no_doubt(self) -> None:
        class Silent(Top1):
            def chance(self, statistics: Any, targets: Any) -> None:
                return None

        assert doubts(record("image_classification", Silent(), [(0, 1), (1, 2), (2, 0)]), Silent()) == []


class TestCopies:
    def given(self, *sources: str) -> Record:
        right = record("image_classification", Top1(), [(number % 3, number % 3) for number in range(len(sources))])
        return replace(right, rows=Rows.of([replace(row, source=source) for row, source in zip(right.rows, sources, strict=True)]))

    def test_are_counted_and_named(self) -> None:
        measured = self.given("a", "b", "a", "c", "b", "a")
        assert doubts(measured, Top1()) == ["3 of 6 samples are copies of others (same source): s0 and s2 and s5, s1 and s4"]

    def test_are_shown_up_to_three(self) -> None:
        (sentence,) = doubts(self.given(*"abcdabcd"), Top1())
        assert sentence.endswith("4 of 8 samples are copies of others (same source): s0 and s4, s1 and s5, s2 and s6, ...")

    def test_of_one_sample_are_named_up_to_three(self) -> None:
        (sentence,) = doubts(self.given(*"aabaaa"), Top1())
        assert sentence.endswith("4 of 6 samples are copies of others (same source): s0 and s1 and s3 and 2 more")

    def test_of_one_are_said_in_the_singular(self) -> None:
        (sentence,) = doubts(self.given("a", "a", "b"), Top1())
        assert sentence.endswith("1 of 3 samples is a copy of another (same source): s0 and s1")

    def test_are_none_where_sources_differ_or_are_unknown(self) -> None:
        assert doubts(self.given("a", "b", "c"), Top1()) == doubts(self.given("", "", ""), Top1()) == []


class TestPocket:
    """The approved statistics on the originals, with the sources and targets of the data that ship."""

    @pytest.mark.parametrize("evaluation", load_suite(EVALUATIONS / "suites" / "pocket.toml"), ids=lambda evaluation: evaluation.name)
    def test_raises_no_doubt(self, evaluation: Evaluation) -> None:
        dataset: Dataset = load_dataset(evaluation)
        approved = read_baselines(EVALUATIONS / "baselines" / "pocket" / f"{evaluation.name}.json")["original"]
        assert approved.samples == [sample.id for sample in dataset.samples]
        metric = evaluation.task.metric(dataset, **evaluation.options)
        named = evaluation.task.name in ("image_classification", "speech_recognition")
        rows = [
            Row(
                sample=sample.id,
                bytes=10,
                elements=100,
                prediction="",
                target=describe(sample.target(), dataset.labels) if named else "",
                statistic=statistic.tolist(),
                further={},
                scores={},
                ledger=SPENT,
                source=sample.source,
                chain={SIGNAL: sample.source[:16], ANSWER: sample.source[:16]},
            )
            for sample, statistic in zip(dataset.samples, approved.statistics, strict=True)
        ]
        measured = summarise(evaluation.cases[0], Rows.of(rows), [], metric, [])
        assert measured.value == pytest.approx(approved.value, abs=1e-6)
        assert doubts(measured, metric) == []
        blind = [replace(row, chain={**row.chain, ANSWER: "0" * 16}) for row in rows]
        assert len(doubts(replace(measured, rows=Rows.of(blind)), metric)) == 1
