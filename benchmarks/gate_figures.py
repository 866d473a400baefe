"""The gate, known by its figures: how often it is red without a change, and how often it finds one that there is.

Run with ``python benchmarks/gate_figures.py``: it prints tables as Markdown. ``tests/test_gate_figures.py`` holds the same simulations
against what the project promises. Nights are simulated from what each sample scored, the gate's own functions judge them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.gate.baselines import read_baselines
from mpq_fixtures.gate.paired import clusters_of, effect_of_shares, fewest_found, shares
from mpq_fixtures.gate.pooling import CaseEffect, judge_run, level_of_case
from mpq_fixtures.metrics import Metric, restore_metric
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.si_sdr import SISDR
from mpq_fixtures.metrics.top1 import Top1

Array = NDArray[np.float64]

POCKET = Path(__file__).parents[1] / "evaluations" / "baselines" / "pocket"
TURNED = 0.01
"""The share of answers that jitter turns."""
FIXED = {"top1": 0.012, "word_accuracy": 0.01, "miou": 0.005, "sdr": 0.05}
"""Fixed tolerances against a mean, as the gate held them before."""
NONE, NIGHT, BOTH = "no jitter", "1 % of the night's answers turn", "1 % of the baseline's and 1 % of the night's turn"


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
    shared: float = 0.0
    """How far a group's samples move together from night to night, up as often as down, though nothing is better or worse: the
    standard deviation, in shares of the answers or in dB."""

    @property
    def case(self) -> str:
        return "-".join(part for part in (self.evaluation, self.codec, self.quality) if part)


def read_points(folder: Path) -> list[Point]:
    """Return the approved points of a suite. The only place that knows how baselines are kept."""
    points = []
    for file in sorted(folder.glob("*.json")):
        for point, approved in read_baselines(file).items():
            codec, _, quality = point.partition("-")
            metric = restore_metric(approved.metric, approved.settings)
            assert metric is not None
            statistics = np.stack(approved.statistics)
            points.append(Point(file.stem, codec, quality, metric, approved.samples, approved.groups, statistics))
    return points


def synthetic_points(seed: int = 7) -> list[Point]:
    """Return 40 points of four evaluations with two codecs of five qualities: 500 pictures, 50 tracks, and 50 speakers of 10 clips twice.

    What is hard about a sample is hard at every point. The speakers' clips have shared effects.
    """
    generator = np.random.default_rng(seed)
    voices = [f"speaker{number // 10}" for number in range(500)]
    points = []
    for evaluation, size, groups, shared in (
        ("pictures", 500, [""] * 500, 0.0),
        ("tracks", 50, [""] * 50, 0.0),
        ("commands", 500, voices, 0.1),
        ("voices", 500, voices, 0.2),
    ):
        metric = Top1() if evaluation in ("pictures", "commands") else SISDR()
        samples, easy = [f"{evaluation}{number}" for number in range(size)], generator.normal(size=size)
        for codec in ("jpeg", "webp") if evaluation == "pictures" else ("opus", "mp3"):
            for quality, level in enumerate((0.2, 0.6, 0.9, 1.2, 1.6) if evaluation == "pictures" else (0.0, 0.2, 0.4, 0.6, 0.8)):
                score = easy + level + generator.normal(0, 0.3, size)
                kept = (score > 0).astype(float) if isinstance(metric, Top1) else np.stack([6 + 3 * score, np.ones(size)], axis=1)
                points.append(Point(evaluation, codec, f"q{quality}", metric, samples, groups, kept, shared))
    return points


# Nights -------------------------------------------------------------------------------------------------------------------------------


class Suite:
    """Points that are measured every night; those of one evaluation have the same samples."""

    def __init__(self, points: Sequence[Point]) -> None:
        self.points = list(points)
        self.siblings: dict[str, list[Point]] = {}
        for point in points:
            self.siblings.setdefault(point.evaluation, []).append(point)
        self.level = level_of_case(len(points))

    def night(self, generator: np.random.Generator, turned: bool) -> list[Array]:
        """Return what every point would score with 1 % of the answers turned; the very same array where none was."""
        ends = np.cumsum([len(point.statistics) for point in self.points])
        hits = np.flatnonzero(generator.random(ends[-1]) < TURNED) if turned else np.empty(0, int)
        parts = np.split(hits, np.searchsorted(hits, ends[:-1]))
        starts = ends - [len(point.statistics) for point in self.points]
        return [
            self.turn(point, part - start, generator) if len(part) else point.statistics
            for point, part, start in zip(self.points, parts, starts, strict=True)
        ]

    def turn(self, point: Point, places: NDArray[np.intp], generator: np.random.Generator) -> Array:
        """Return a point's statistics with some turned: right for wrong, others as they are at another point of the evaluation."""
        statistics = point.statistics.copy()
        if isinstance(point.metric, Top1):
            statistics[places] = 1.0 - statistics[places]
            return statistics
        others = [other for other in self.siblings[point.evaluation] if other is not point]
        for place, number in zip(places, generator.integers(len(others), size=len(places)), strict=True):
            statistics[place] = others[number].statistics[place]
        return statistics

    def swayed(self, after: Sequence[Array], generator: np.random.Generator) -> list[Array]:
        """Return what was scored after the groups moved together, half of it at all points of an evaluation alike."""
        alike: dict[str, Array] = {}
        swayed = []
        for point, statistics in zip(self.points, after, strict=True):
            if not point.shared:
                swayed.append(statistics)
                continue
            clusters = clusters_of(point.groups)
            assert clusters is not None
            common = alike.setdefault(point.evaluation, generator.normal(size=clusters.max() + 1))
            moves = point.shared * ((common + generator.normal(size=len(common))) / math.sqrt(2))[clusters]
            swayed.append(sway(statistics, moves, generator))
        return swayed


def sway(statistics: Array, moves: Array, generator: np.random.Generator) -> Array:
    """Return statistics moved by as much as ``moves`` says of each sample, on average over right and wrong ones."""
    if statistics.ndim > 1:
        return statistics + np.stack([moves + generator.normal(0, 0.1, len(moves)), np.zeros(len(moves))], axis=1)
    right = statistics.mean()
    chance = np.where(moves < 0, -moves / right * (statistics == 1), moves / (1 - right) * (statistics == 0))
    return np.where(generator.random(len(moves)) < chance, 1 - statistics, statistics)


def effect_of(point: Point, before: Array, after: Array, level: float) -> CaseEffect:
    """Hold a night's statistics against the baseline's, as the gate does within a test."""
    moved = np.zeros(len(before)) if after is before else shares(point.metric, before, after)
    return effect_of_moved(point, moved, point.groups, level)


def effect_of_moved(point: Point, moved: Array, groups: Sequence[str], level: float) -> CaseEffect:
    margin = point.metric.tolerance
    effect = effect_of_shares(moved, groups, margin, level) if moved.any() else None
    p, change = (effect.p_worse, effect.change) if effect else (1.0, 0.0)
    name, metric = point.case, point.metric.name
    return CaseEffect(name, point.evaluation, point.codec, point.quality, metric, margin, point.samples, point.groups, moved, p, change)


def fell(effect: CaseEffect, level: float) -> bool:
    """Tell whether a case is red by itself."""
    return effect.change < -effect.margin and effect.p_worse <= level


def p_of_welch(before: Array, after: Array) -> float:
    """Return Welch's one-sided p of a fall of the samples' own values, as if the two measurements were of different samples."""
    from scipy.special import stdtr

    old, new = (float(values.var(ddof=1)) / len(values) for values in (before, after))
    if not old + new:
        return 1.0
    freedom = (old + new) ** 2 / (old**2 / (len(before) - 1) + new**2 / (len(after) - 1))
    return float(stdtr(freedom, (after.mean() - before.mean()) / math.sqrt(old + new)))


@dataclass
class Tally:
    """In how many nights something was red: by the gate, and by other rules over the same nights.

    ``cases`` and ``groups`` are the gate's two halves. ``doubtful`` is the gate if a fall beyond the margin that may be luck were red too,
    ``fixed`` a tolerance against the mean, ``ungrouped`` the gate's test of single cases with every sample taken for itself.
    """

    nights: int = 0
    cases: int = 0
    groups: int = 0
    gate: int = 0
    doubtful: int = 0
    fixed: int = 0
    ungrouped: int = 0

    def share(self, rule: str) -> float:
        """Return the share of nights that were red by a rule."""
        return float(getattr(self, rule)) / self.nights


def quiet_nights(suite: Suite, jitter: str, nights: int = 1000, seed: int = 1) -> Tally:
    """Judge nights in which nothing changed but that answers turned."""
    generator, tally, level = np.random.default_rng(seed), Tally(), suite.level
    still = [effect_of(point, point.statistics, point.statistics, level) for point in suite.points]
    for _ in range(nights):
        before = suite.night(generator, jitter == BOTH)
        after = suite.swayed(suite.night(generator, jitter != NONE), generator)
        effects = [
            unmoved if old is new else effect_of(point, old, new, level)
            for point, unmoved, old, new in zip(suite.points, still, before, after, strict=True)
        ]
        judged = judge_run(effects, len(effects))
        tally.nights += 1
        tally.cases += bool(judged.regressed)
        tally.groups += any(group.fails for group in judged.groups)
        tally.gate += judged.red
        tally.doubtful += judged.red or any(effect.change < -effect.margin for effect in effects)
        tally.fixed += any(effect.change < -FIXED.get(effect.metric, effect.margin) for effect in effects)
        tally.ungrouped += any(
            fell(effect_of_moved(point, effect.shares, [""] * len(effect.shares), level) if point.shared else effect, level)
            for point, effect in zip(suite.points, effects, strict=True)
        )
    return tally


# Faults -------------------------------------------------------------------------------------------------------------------------------


@dataclass
class Found:
    """In which share of the nights a fault was found: by the gate, and by other rules at the same level."""

    gate: float
    welch: float = math.nan
    alone: float = math.nan


def faults_in_hits(
    fall: float, samples: int, jitter: str, exact: bool = False, accuracy: float = 0.9, cases: int = 100, repeats: int = 1000, seed: int = 2
) -> Found:
    """Let right answers turn wrong in one case of many, so that accuracy falls by ``fall`` on average."""
    generator, gate, welch = np.random.default_rng(seed), 0, 0
    for _ in range(repeats):
        truth = (generator.random(samples) < accuracy).astype(float)
        point = Point("pictures", "jpeg", "q5", Top1(), [str(n) for n in range(samples)], [""] * samples, truth)
        before, after = jittered(truth, jitter == BOTH, generator), jittered(truth, jitter != NONE, generator)
        after = fallen(after, fall / accuracy, exact, generator)
        effect = effect_of(point, before, after, level_of_case(cases))
        gate += judge_run([effect], cases).red
        welch += effect.change < -effect.margin and p_of_welch(before, after) <= level_of_case(cases)
    return Found(gate / repeats, welch / repeats)


def faults_in_ladders(fall: float, samples: int, jitter: str, exact: bool = False, repeats: int = 1000, seed: int = 3) -> Found:
    """Let accuracy fall by ``fall`` on average at the five points of one codec of 20, in a run of 100 cases of four evaluations.

    Which answers turn is drawn at each point anew. ``alone`` is how often any of the five would be red by itself.
    """
    generator, gate, alone = np.random.default_rng(seed), 0, 0
    ids, groups = [str(n) for n in range(samples)], [""] * samples
    others = [
        Point(f"pictures{number // 25}", f"codec{number // 5 % 5}", f"q{number % 5}", Top1(), ids, groups, np.zeros(samples))
        for number in range(100)
    ]
    level = level_of_case(len(others))
    still = [effect_of(point, point.statistics, point.statistics, level) for point in others]
    hard = np.linspace(0.75, 0.95, 5)
    for _ in range(repeats):
        easy, effects = generator.random(samples), []
        for point, accuracy in zip(others[:5], hard, strict=True):
            truth = (easy < accuracy).astype(float)
            before, after = jittered(truth, jitter == BOTH, generator), jittered(truth, jitter != NONE, generator)
            after = fallen(after, fall / accuracy, exact, generator)
            effects.append(effect_of(point, before, after, level))
        judged = judge_run(effects + still[5:], len(others))
        gate += judged.red
        alone += any(fell(effect, level) for effect in effects)
    return Found(gate / repeats, alone=alone / repeats)


def faults_in_sounds(fall: float, tracks: int, scatter: float, cases: int = 100, repeats: int = 1000, seed: int = 4) -> Found:
    """Let the SDR of every track fall by ``fall`` dB on average, with a standard deviation of ``scatter`` dB between tracks."""
    generator, gate, welch = np.random.default_rng(seed), 0, 0
    ids, groups, metric, level = [str(n) for n in range(tracks)], [""] * tracks, SDR(1), level_of_case(cases)
    for _ in range(repeats):
        before = generator.normal(6, 3, (tracks, 4, 1))
        after = before - generator.normal(fall, scatter, (tracks, 1, 1))
        point = Point("songs", "opus", "q0", metric, ids, groups, before)
        effect = effect_of(point, before, after, level)
        gate += judge_run([effect], cases).red
        welch += effect.change < -effect.margin and p_of_welch(before.mean(axis=(1, 2)), after.mean(axis=(1, 2))) <= level
    return Found(gate / repeats, welch / repeats)


def jittered(truth: Array, turned: bool, generator: np.random.Generator) -> Array:
    """Return answers of which 1 % turned."""
    return np.abs(truth - (generator.random(len(truth)) < TURNED)) if turned else truth


def fallen(answers: Array, share: float, exact: bool, generator: np.random.Generator) -> Array:
    """Return answers of which a share of the right ones turned wrong: each by chance, or exactly so many."""
    if not exact:
        return answers * (generator.random(len(answers)) >= share)
    right = np.flatnonzero(answers)
    answers = answers.copy()
    answers[generator.choice(right, round(share * len(right)), replace=False)] = 0.0
    return answers


def smallest_fall(samples: int, cases: int, power: float = 0.95) -> float:
    """Return the smallest fall of right answers that is found in a share ``power`` of runs of ``cases``, no answer turning right."""
    from scipy.special import betaincinv

    least = fewest_found(samples, 0, Top1.tolerance, level_of_case(cases))
    return float(betaincinv(least, samples - least + 1, power)) if least <= samples else math.inf


# Tables -------------------------------------------------------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)) + "\n"


def percent(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.1%}".replace("%", " %")


def main() -> None:
    """Print all tables."""
    kinds = (NONE, NIGHT, BOTH)
    rules = ("gate", "doubtful", "fixed", "ungrouped")
    suites = {"pocket, 106 cases": Suite(read_points(POCKET)), "synthetic, 40 cases": Suite(synthetic_points())}
    nights = []
    for name, suite in suites.items():
        for jitter in (NIGHT, BOTH):
            tally = quiet_nights(suite, jitter)
            nights.append([name, jitter, *(percent(tally.share(rule)) for rule in rules)])
    print("Red nights of 1,000 in which nothing changed but jitter:\n")
    print(table(["suite", "jitter", "the gate", "doubtful falls red too", "a fixed tolerance", "without groups"], nights))
    faults = []
    for exact, how in ((True, "exactly"), (False, "on average")):
        hits = [faults_in_hits(0.05, 500, jitter, exact) for jitter in kinds]
        shares_found = [percent(found.gate) for found in hits]
        faults.append([f"{how} 5 points on 500 samples, one case of 100", *shares_found, percent(hits[0].welch), ""])
        for samples in (500, 1000):
            ladders = [faults_in_ladders(0.02, samples, jitter, exact) for jitter in kinds]
            shares_found = [percent(found.gate) for found in ladders]
            faults.append([f"{how} 2 points at each of 5 qualities, {samples} samples", *shares_found, "", percent(ladders[0].alone)])
    for scatter in (0.1, 0.2, 0.3, 0.4):
        sounds = faults_in_sounds(0.3, 50, scatter)
        faults.append([f"0.3 dB of SDR on 50 tracks that differ by {scatter} dB", percent(sounds.gate), "", "", percent(sounds.welch), ""])
    print("Nights of 1,000 in which a fault is found:\n")
    print(table(["fault", *kinds, "Welch's test, no jitter", "each case alone, no jitter"], faults))
    sizes = (50, 100, 240, 500, 1000)
    print("The smallest fall of right answers, in points, that is found in 95 %:\n")
    rows = [[f"{cases} cases", *(f"{100 * smallest_fall(samples, cases):.1f}" for samples in sizes)] for cases in (1, 20, 100, 2000)]
    print(table(["run of", *(f"{samples} samples" for samples in sizes)], rows))


if __name__ == "__main__":
    main()
