"""The gate, known by its figures: how often it is red without a change, and how often it finds one that there is.

Run with ``python benchmarks/gate_figures.py``: it prints tables as Markdown. ``tests/test_gate_figures.py`` holds the same simulations
against what the project promises. Nights are simulated from what each sample scored, the gate's own functions judge them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.gate.paired import clusters_of, effect_of_shares, shares
from mpq_fixtures.gate.pooling import CaseEffect, EndOfRun, judge_run, level_of_case
from mpq_fixtures.metrics import Metric, Statistic
from mpq_fixtures.metrics.miou import MeanIoU
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.word_accuracy import WordAccuracy
from mpq_fixtures.statistics import unpack

Array = NDArray[np.float64]

POCKET = Path(__file__).parents[1] / "evaluations" / "baselines" / "pocket"
TURNED = 0.01
"""The share of answers that jitter turns."""
FIXED = {"top1": 0.012, "word_accuracy": 0.01, "miou": 0.005, "sdr": 0.05}
"""The tolerances against a mean that the gate held before."""
NONE, NIGHT, BOTH = "none", "the night's", "both"
"""What jitter turns: nothing; 1 % of the night's answers, for the worse where they were right; 1 % of the baseline's and of the night's."""


@dataclass(eq=False)
class Point:
    """What was approved of a case: statistics ``[n, ...]``, and what else the gate has to know of it."""

    evaluation: str
    codec: str
    quality: str
    metric: Metric
    samples: list[str]
    groups: list[str]
    statistics: Array

    @property
    def case(self) -> str:
        return "-".join(part for part in (self.evaluation, self.codec, self.quality) if part)

    @cached_property
    def own(self) -> Array:
        """The value of each sample alone, for the tests that the gate is held against."""
        return np.array([self.metric.value([statistic]) for statistic in self.statistics])


def read_points(folder: Path) -> list[Point]:
    """Return the approved points of a suite. The only place that knows how baselines are kept."""
    points = []
    for file in sorted(folder.glob("*.json")):
        content = json.loads(file.read_text(encoding="utf-8"))
        for point, case in content["cases"].items():
            codec, _, quality = point.partition("-")
            statistics = np.stack(unpack(case["statistics"]))
            metric = {"top1": Top1(), "miou": MeanIoU(statistics.shape[-1]), "word_accuracy": WordAccuracy(), "sdr": SDR(1)}[case["metric"]]
            samples = case.get("ids", content["samples"])
            points.append(Point(file.stem, codec, quality, metric, samples, [""] * len(samples), statistics))
    return points


# Nights -------------------------------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Suite:
    """Points that are measured every night; those of one evaluation have the same samples."""

    points: list[Point]
    siblings: dict[str, list[Point]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for point in self.points:
            self.siblings.setdefault(point.evaluation, []).append(point)

    def turned(self, point: Point, statistics: Array, generator: np.random.Generator) -> Array:
        """Return the statistics with 1 % turned: right for wrong, others as they are at another point of the evaluation."""
        places = np.flatnonzero(generator.random(len(statistics)) < TURNED)
        if not len(places):
            return statistics
        statistics = statistics.copy()
        others = self.siblings[point.evaluation]
        for place in places:
            if isinstance(point.metric, Top1):
                statistics[place] = 1.0 - statistics[place]
            else:
                other = others[generator.integers(len(others) - 1)]
                statistics[place] = (others[-1] if other is point else other).statistics[place]
        return statistics


def effect_of(point: Point, before: Array, after: Array, cases: int) -> CaseEffect:
    """Hold a night's statistics against the baseline's, as the gate does within a test."""
    moved = np.zeros(len(before)) if after is before else shares(point.metric, before, after)
    margin = point.metric.tolerance
    effect = effect_of_shares(moved, point.groups, margin, level_of_case(cases)) if moved.any() else None
    p, change = (effect.p_worse, effect.change) if effect else (1.0, 0.0)
    name, metric = point.case, point.metric.name
    return CaseEffect(name, point.evaluation, point.codec, point.quality, metric, margin, point.samples, point.groups, moved, p, change)


@dataclass
class Tally:
    """In how many nights something was red: by the gate, and by simpler rules on the same nights."""

    nights: int = 0
    cases: int = 0
    groups: int = 0
    gate: int = 0
    doubtful: int = 0
    fixed: int = 0
    welch: int = 0
    naive: int = 0

    def add(self, effects: Sequence[CaseEffect], judged: EndOfRun, naive: bool) -> None:
        """Count a night."""
        self.nights += 1
        self.cases += bool(judged.regressed)
        self.groups += any(group.fails for group in judged.groups)
        self.gate += judged.red
        self.doubtful += judged.red or any(effect.change < -effect.margin for effect in effects)
        self.fixed += any(effect.change < -FIXED[effect.metric] for effect in effects)
        self.naive += naive

    def share(self, rule: str) -> float:
        """Return the share of nights that were red by a rule."""
        return float(getattr(self, rule)) / self.nights


def quiet_nights(suite: Suite, jitter: str, nights: int, seed: int) -> Tally:
    """Judge nights in which nothing changed but that answers turned."""
    generator, tally, cases = np.random.default_rng(seed), Tally(), len(suite.points)
    for _ in range(nights):
        effects, naive = [], False
        for point in suite.points:
            before = suite.turned(point, point.statistics, generator) if jitter == BOTH else point.statistics
            after = suite.turned(point, point.statistics, generator)
            effect = effect_of(point, before, after, cases)
            naive |= beyond(effect) and p_of_naive(effect.shares) <= level_of_case(cases)
            effects.append(effect)
        tally.add(effects, judge_run(effects, cases), naive)
    return tally


def beyond(effect: CaseEffect) -> bool:
    return effect.change < -effect.margin


def p_of_naive(moved: Array) -> float:
    """Return Student's p of a fall with each sample taken for itself, whatever its group."""
    from scipy.special import stdtr

    error = moved.std(ddof=1) / math.sqrt(len(moved))
    return float(stdtr(len(moved) - 1, moved.mean() / error)) if error else 1.0


if __name__ == "__main__":
    import time
    s = Suite(read_points(POCKET))
    for j in (BOTH, NIGHT):
        t = time.time()
        print(j, quiet_nights(s, j, 1000, 1), time.time() - t)
