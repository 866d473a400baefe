"""The end of a run: its cases together. What is too small in each of them, and common to many, is seen here. Pure functions.

Half of a night's `FALSE_ALARMS` goes to single cases: in its test each is held against ``level_of_case``, the first step of Holm's
procedure, and the end of the run takes the further steps. The other half goes to groups: each codec's ladder in an evaluation, each
evaluation over its codecs, and each codec over the evaluations with one metric.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.gate.paired import cluster_mean, clusters_of, holm, p_of_jitter
from mpq_fixtures.suite import ORIGINAL

FALSE_ALARMS = 0.01
"""The share of runs in which anything is red though nothing was changed, at most."""

POOLED = 0.5
"""The margin of a group, as a share of that of its cases."""


@dataclass(frozen=True, eq=False)
class CaseEffect:
    """What the end of a run has to know of a case that was held against its baseline; ``samples``, ``groups``, ``shares`` are ``[n]``.

    ``shares`` are those of `mpq_fixtures.gate.paired.shares`, ``change`` and ``p_worse`` those of its `Effect`, positive for the better.
    """

    case: str
    evaluation: str
    codec: str
    quality: str
    metric: str
    margin: float
    samples: Sequence[str]
    groups: Sequence[str]
    shares: NDArray[np.float64]
    p_worse: float
    change: float


@dataclass(frozen=True)
class Pooled:
    """How the cases of a group moved on average, in the metric's unit and positive for the better, with the 95 % interval.

    ``significant`` tells whether Holm's procedure over all groups of the run rejects that nothing but jitter moved them.
    """

    name: str
    metric: str
    cases: tuple[str, ...]
    change: float
    low: float
    high: float
    margin: float
    p: float
    significant: bool

    @property
    def fails(self) -> bool:
        """Tell whether the fall is beyond the margin and no luck."""
        return self.significant and self.change < -self.margin

    def __str__(self) -> str:
        """Say it for people: ``vit-jpeg, 5 cases together: top1 -0.0210 on average (-0.0265 to -0.0155), margin 0.01``."""
        return (
            f"{self.name}, {len(self.cases)} cases together: {self.metric} {self.change:+.4f} on average "
            f"({self.low:+.4f} to {self.high:+.4f}), margin {self.margin:g}"
        )


@dataclass(frozen=True)
class EndOfRun:
    """The cases that fell, by all of Holm's steps, those of the first step among them; and all groups."""

    regressed: list[str]
    groups: list[Pooled]

    @property
    def red(self) -> bool:
        """Tell whether any case or group fell."""
        return bool(self.regressed) or any(group.fails for group in self.groups)


def level_of_case(cases: int) -> float:
    """Return the level at which a case is tested by itself in a run of ``cases``."""
    return FALSE_ALARMS / 2 / max(1, cases)


def judge_run(effects: Sequence[CaseEffect], cases: int) -> EndOfRun:
    """Judge all cases of a run together: ``effects`` of those that were held against a baseline, of ``cases`` that were selected."""
    absent = [1.0] * (cases - len(effects))
    rejected = holm([effect.p_worse for effect in effects] + absent, FALSE_ALARMS / 2)
    regressed = [effect.case for effect, no_luck in zip(effects, rejected, strict=False) if no_luck and effect.change < -effect.margin]
    groups = [_pooled(name, members) for name, members in groups_of(effects).items()]
    significant = holm([group.p for group in groups], FALSE_ALARMS / 2)
    return EndOfRun(regressed, [replace(group, significant=no_luck) for group, no_luck in zip(groups, significant, strict=True)])


def _pooled(name: str, members: Sequence[CaseEffect]) -> Pooled:
    change, low, high, p = pool(members)
    cases = tuple(effect.case for effect in members)
    return Pooled(name, members[0].metric, cases, change, low, high, margin_of(members), p, significant=False)


def groups_of(effects: Sequence[CaseEffect]) -> dict[str, list[CaseEffect]]:
    """Return the groups of a run by name: ladders of two points or more, evaluations of two codecs or more, codecs of two evaluations."""
    ladders: dict[str, list[CaseEffect]] = {}
    evaluations: dict[str, list[CaseEffect]] = {}
    codecs: dict[str, list[CaseEffect]] = {}
    for effect in effects:
        evaluations.setdefault(effect.evaluation, []).append(effect)
        if effect.codec != ORIGINAL:
            ladders.setdefault(f"{effect.evaluation}-{effect.codec}", []).append(effect)
            codecs.setdefault(f"{effect.codec} ({effect.metric})", []).append(effect)
    return {
        **{name: members for name, members in ladders.items() if len(members) > 1},
        **{name: members for name, members in evaluations.items() if len({e.codec for e in members} - {ORIGINAL}) > 1},
        **{name: members for name, members in codecs.items() if len({e.evaluation for e in members}) > 1},
    }


def margin_of(members: Sequence[CaseEffect]) -> float:
    """Return the margin of a group: half of the widest of its cases."""
    return POOLED * max(effect.margin for effect in members)


def pool(members: Sequence[CaseEffect]) -> tuple[float, float, float, float]:
    """Return the mean change of a group, its 95 % interval, and the chance of as clear a fall if nothing had changed but jitter.

    A sample's shares are averaged over the cases; clusters of samples are what is drawn at random, so that what a sample does in all
    cases counts once. Graded statistics are tested by Student's t against half of the group's margin. Of right and wrong answers two
    chances are taken, and the larger counts: Student's t against no change, and, since that says little of a few rare turns, the number
    of answers that turned wrong against `mpq_fixtures.gate.paired.JITTER`. One cluster tells nothing of others: the interval is NaN, and
    the chance 1.
    """
    if not any(effect.shares.any() for effect in members):
        return 0.0, 0.0, 0.0, 1.0
    table, groups = _table(members)
    if not table.size:
        return math.nan, math.nan, math.nan, 1.0
    clusters = clusters_of(groups)
    there = ~np.isnan(table)
    mean = cluster_mean(np.where(there, table, 0.0).sum(axis=0) / there.sum(axis=0), clusters)
    if mean.clusters < 2:
        return mean.mean, math.nan, math.nan, 1.0
    if not np.isin(table[there], (-1.0, 0.0, 1.0)).all():
        p = mean.p_below(-margin_of(members) / 2)
    else:
        p = p_of_wrong_turns(table, clusters)
        p = max(p, mean.p_below(0.0)) if mean.spread else p
    return mean.mean, *mean.interval(), p


def p_of_wrong_turns(table: NDArray[np.float64], clusters: NDArray[np.intp] | None) -> float:
    """Return the chance that jitter turns as many answers wrong: shares ``[cases, samples]`` of -1, 0, 1, NaN where there is none.

    Turns of one sample in several cases, or of one cluster, may come together: both counts are divided by the design effect, which is
    by how much the clusters differ more than independent turns would (Rao and Scott 1992); there are two clusters or more. Where all
    answers turned nothing differs, and each cluster counts once.
    """
    wrong, answers = (table == -1).sum(axis=0), (~np.isnan(table)).sum(axis=0)
    if clusters is not None:
        wrong, answers = np.bincount(clusters, wrong), np.bincount(clusters, answers)
    fell, total, count = float(wrong.sum()), float(answers.sum()), len(wrong)
    rate = fell / total
    residuals = wrong - rate * answers
    alone = total * rate * (1 - rate)
    effect = max(1.0, float(residuals @ residuals) * count / (count - 1) / alone) if alone else total / count
    return p_of_jitter(fell / effect, total / effect)


def _table(members: Sequence[CaseEffect]) -> tuple[NDArray[np.float64], Sequence[str]]:
    """Return the shares ``[cases, samples]``, NaN where a case lacks a sample or its value, and the samples' groups."""
    first = members[0]
    same = (effect.evaluation == first.evaluation and _equal(effect.samples, first.samples) for effect in members)
    if all(same):
        table, groups = np.stack([effect.shares for effect in members]), first.groups
    else:
        keys = [[(effect.evaluation, sample) for sample in effect.samples] for effect in members]
        place = {key: number for number, key in enumerate(dict.fromkeys(chain.from_iterable(keys)))}
        table, named = np.full((len(members), len(place)), np.nan), [""] * len(place)
        for row, effect, own in zip(table, members, keys, strict=True):
            index = [place[key] for key in own]
            row[index] = effect.shares
            for number, group in zip(index, effect.groups, strict=True):
                named[number] = f"{effect.evaluation}/{group}" if group else ""
        groups = named
    measured = np.flatnonzero(~np.isnan(table).all(axis=0))
    if len(measured) == len(groups):
        return table, groups
    return table[:, measured], [groups[int(place)] for place in measured]


def _equal(samples: Sequence[str], others: Sequence[str]) -> bool:
    return samples is others or list(samples) == list(others)
