"""Paired tests: whether a metric moved between two measurements of the same samples, by how much, and whether that is luck. Pure functions.

A fall is told from luck by two chances that a reader can check. *Jitter*: of the samples of a run in which nothing changed,
`JITTER` turn for the worse at most (another CPU, another build), so that those that fell follow a binomial distribution. *Both ways
alike*: a harmless change may turn many more, but then as many rise as fall (McNemar 1947). Where statistics are graded, Student's t
over clusters says the same of their mean.

The margin of a metric says what matters, the test what is not luck: a fall counts where the estimate is beyond the margin, and the
chance of it small. To ask instead for proof that the true fall is beyond the margin, at the level that a hundred cases a night need,
would leave a fall of 5 points on 500 samples with a margin of 2 unseen in half of all nights, whatever the test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Countable, Metric, Statistic
from mpq_fixtures.statistics.intervals import error_of_change

JITTER = 0.01
"""The share of answers that turn for the worse, at most, from one run to the next though nothing was changed."""

POWER = 0.8
"""How often a fall of the size called detectable is found."""

Z_POWER = 0.8416212335729143
"""The standard normal quantile of `POWER`."""

MOST = 2**20
"""Samples; where more would be needed, a change cannot be seen."""


@dataclass(frozen=True)
class Effect:
    """How a metric moved between two measurements of the same samples; positive is better, whatever the metric's direction.

    ``change`` is in the metric's unit, ``low`` and ``high`` its 95 % interval (NaN where nothing is known of its spread). For `Additive`
    metrics it is the change of the value, for others, such as SDR, that or the mean of the samples' own changes. ``samples`` are those
    with a value in both measurements, ``worse`` and ``better`` those that moved. ``p_worse`` is the chance of as clear a fall if nothing
    had changed but jitter, ``p_better`` that of a rise: without a look at the margin, so that a fall counts where ``change`` is below
    ``-margin`` *and* ``p_worse`` at most the level. ``detectable`` is the smallest true fall that would have been found so in 80 % of
    runs at the level asked for (infinite where none would), ``needed`` the samples with which a fall of twice the margin would be
    (0 where that cannot be said).
    """

    change: float
    low: float
    high: float
    samples: int
    clusters: int
    worse: int
    better: int
    p_worse: float
    p_better: float
    detectable: float
    needed: int


def effect_of(
    metric: Metric,
    before: Sequence[Statistic],
    after: Sequence[Statistic],
    shares: NDArray[np.float64],
    groups: Sequence[str],
    margin: float,
    level: float,
) -> Effect:
    """Return the effect between two measurements of the same samples, whose `shares` are given.

    A value that is no mean of its samples', such as a median or one of a ranking, may fall though these rise on average, and stay though
    they fall. The samples' own changes and the value's are both tested, each at half of the level, the latter by Student's t with the
    bootstrap's error over pairs; the change is the one that is beyond the margin, or may be, and the samples' own where that is both.
    """
    if isinstance(metric, Additive):
        return effect_of_shares(shares, groups, margin, level)
    own = effect_of_shares(shares, groups, margin, level / 2)
    change = (metric.value(after) - metric.value(before)) * (1.0 if metric.higher_is_better else -1.0)
    mean = ClusterMean(change, *error_of_change(metric, before, after, groups))
    if not (math.isfinite(change) and math.isfinite(mean.error)):
        return own
    own = replace(
        own,
        p_worse=min(1.0, 2 * min(own.p_worse, mean.p_below(-margin / 2))),
        p_better=min(1.0, 2 * min(own.p_better, (-mean).p_below(-margin / 2))),
    )
    low, high = mean.interval()
    needed = mean.needed(margin, level / 2) * own.samples // max(1, mean.clusters)
    value = replace(
        own, change=change, low=low, high=high, clusters=mean.clusters, detectable=mean.detectable(margin, level / 2), needed=needed
    )
    return min(own, value, key=lambda one: (not one.change < -margin, one.low > -margin))


def effect_of_shares(shares: NDArray[np.float64], groups: Sequence[str], margin: float, level: float) -> Effect:
    """Return the effect whose `shares` are given, NaN for samples to leave out.

    Where no group is shared and all shares are -1, 0 or 1, as of right and wrong answers, those who fell and rose are counted. Otherwise
    two tests stand side by side, each at half of the level: Student's t over clusters against half of the margin, and the count of
    clusters of which most samples moved by more than the margin on their own, which sees three tracks of three that fell.
    """
    measured = ~np.isnan(shares)
    count, worse, better = int(measured.sum()), int((shares < 0).sum()), int((shares > 0).sum())
    if not count:
        return Effect(math.nan, math.nan, math.nan, 0, 0, 0, 0, 1.0, 1.0, math.inf, 0)
    if count < len(shares):
        shares, groups = shares[measured], [group for group, there in zip(groups, measured, strict=True) if there]
    clusters = clusters_of(groups)
    if clusters is None and worse + better == np.count_nonzero(np.abs(shares) == 1.0):
        low, high = interval_of_pairs(worse, better, count)
        chances = p_of_counts(worse, better, count), p_of_counts(better, worse, count)
        seen = detectable_by_counts(count, better, margin, level), needed_by_counts(better / count, margin, level)
        return Effect((better - worse) / count, low, high, count, count, worse, better, *chances, *seen)
    mean = cluster_mean(shares, clusters)
    fell, rose = most_of(shares < -margin, clusters), most_of(shares > margin, clusters)
    p_worse = min(1.0, 2 * min(mean.p_below(-margin / 2), p_of_counts(fell, rose, mean.clusters)))
    p_better = min(1.0, 2 * min((-mean).p_below(-margin / 2), p_of_counts(rose, fell, mean.clusters)))
    seen = mean.detectable(margin, level / 2), mean.needed(margin, level / 2) * count // max(1, mean.clusters)
    return Effect(mean.mean, *mean.interval(), count, mean.clusters, worse, better, p_worse, p_better, *seen)


# What each sample has to do with a change ---------------------------------------------------------------------------------------------


def shares(metric: Metric, before: Sequence[Statistic], after: Sequence[Statistic]) -> NDArray[np.float64]:
    """Return each sample's share in the change of ``metric``, ``[samples]``, positive for the better: their mean is the change.

    For `Additive` metrics a share is what the value moves by when this sample alone is exchanged, times the number of samples: the mean
    of exchanging it in the first set and in the last, and an equal part of what remains, the interaction of several (Shapley's value for
    two samples). A sample that did not change has no share. For other metrics it is the change of the metric's value of this sample
    alone, whose mean is *not* the change of a value that is a median. NaN where a sample has no value in one of the measurements, or, as
    a silent track, in neither: such samples are to be left out.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    if not len(before):
        return np.empty(0)
    old, new = metric.condense_all(before), metric.condense_all(after)
    if isinstance(metric, Countable) and isinstance(old, np.ndarray) and isinstance(new, np.ndarray):
        return sign * (metric.values_alone(new) - metric.values_alone(old))
    if not isinstance(metric, Additive):
        return sign * np.array([_change_alone(metric, old, new) for old, new in zip(before, after, strict=True)])
    first, last = np.asarray(before, np.float64), np.asarray(after, np.float64)
    with np.errstate(invalid="ignore"):
        steps = (last - first).reshape(len(first), -1)  # finite where both are
    measured = np.isfinite(steps @ np.ones(steps.shape[1]))
    found = np.where(measured, 0.0, np.nan)
    moved = np.flatnonzero(steps.any(axis=1) & measured)
    if not len(moved):
        return found
    count = int(measured.sum())
    step = last[moved] - first[moved]
    start = first[measured].sum(axis=0)
    end = start + step.sum(axis=0)
    was, is_now, first_in, last_out = np.split(
        metric.score(np.concatenate([start[None], end[None], start + step, end - step]), count), [1, 2, 2 + len(moved)]
    )
    part = count / 2 * (first_in - was + is_now - last_out)
    part += (count * (is_now - was) - part.sum()) / len(moved)
    if step.ndim == 1 and (np.abs(part - step) <= 1e-9 * np.abs(step)).all():
        part = step  # of a plain mean: without rounding, so that right and wrong stay -1 and 1
    found[moved] = sign * part
    return found


def _change_alone(metric: Metric, before: Statistic, after: Statistic) -> float:
    if np.array_equal(before, after) and np.isfinite(before).all():
        return 0.0
    return metric.value([after]) - metric.value([before])


def clusters_of(groups: Sequence[str]) -> NDArray[np.intp] | None:
    """Return the number of each sample's cluster, ``[samples]``, a sample without a group in one of its own; None where all are alone."""
    return _clusters_of(tuple(groups)) if any(groups) else None


@lru_cache(maxsize=64)  # the cases of an evaluation have the same samples
def _clusters_of(groups: tuple[str, ...]) -> NDArray[np.intp] | None:
    named = [group for group in groups if group]
    if len(set(named)) == len(named):
        return None
    numbers: dict[str | int, int] = {}
    clusters = np.array([numbers.setdefault(group or place, len(numbers)) for place, group in enumerate(groups)], np.intp)
    clusters.flags.writeable = False
    return clusters


# Right and wrong ----------------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2**16)
def p_of_counts(fell: int, rose: int, samples: int) -> float:
    """Return the chance that as many of ``samples`` fall if nothing changed: the larger of those of jitter and of both ways alike.

    Where no sample rose at all, both ways alike is not what happened, and jitter alone is asked: with McNemar's test, five answers of
    five that turned wrong would be a chance of one in 32. The price: of 20 samples of which a fifth turn, both ways alike, one time in 50
    enough of them fall and none rises; from 200 samples on the level is held.
    """
    jitter = p_of_jitter(fell, samples)
    return max(jitter, mcnemar_mid_p(fell, rose)) if rose else jitter


def p_of_jitter(fell: float, samples: float, rate: float = JITTER) -> float:
    """Return the chance that at least ``fell`` of ``samples`` fall when each does at ``rate``: the tail of the binomial distribution.

    By the incomplete beta function (Abramowitz and Stegun 26.5.24), so that counts may be divided by a design effect.
    """
    from scipy.special import betainc

    return float(betainc(fell, samples - fell + 1, rate)) if fell > 0 else 1.0


def mcnemar_mid_p(fell: int, rose: int) -> float:
    """Return McNemar's one-sided mid-p: the chance of more falls among all that moved, and half that of as many (Fagerland et al. 2013)."""
    from scipy.special import bdtrc

    moved = fell + rose
    return float(bdtrc(fell - 1, moved, 0.5) + bdtrc(fell, moved, 0.5)) / 2 if fell else 1.0


@lru_cache(maxsize=2**16)
def interval_of_pairs(fell: int, rose: int, samples: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Return the score interval of the difference of paired proportions, ``(rose - fell) / samples`` (Tango 1998), 95 % unless told."""

    def end(rose: int, fell: int) -> float:
        """Return the upper end: the score falls from 0 at the estimate to below -z."""
        low, high = (rose - fell) / samples, 1.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if score_of_pairs(rose, fell, samples, middle) > -z else (low, middle)
        return (low + high) / 2

    return -end(fell, rose), end(rose, fell)


def score_of_pairs(rose: int, fell: int, samples: int, difference: float) -> float:
    """Return Tango's score of ``difference``, standard normal where it is the true one (Tango 1998, equations 15 to 17).

    The share that truly falls is unknown: it is taken where it makes the counts likeliest, given the difference.
    """
    linear = -rose - fell + (2 * samples - rose + fell) * difference
    constant = -fell * difference * (1 - difference)
    share = (math.sqrt(max(0.0, linear * linear - 8 * samples * constant)) - linear) / (4 * samples)
    variance = samples * (2 * share + difference * (1 - difference))
    distance = rose - fell - samples * difference
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)


@lru_cache(maxsize=2**16)
def detectable_by_counts(samples: int, rose: int, margin: float, level: float) -> float:
    """Return the smallest true fall that is found in 80 % of runs where ``rose`` of ``samples`` rise; infinite where there is none."""
    from scipy.special import betaincinv

    least = fewest_found(samples, rose, margin, level)
    return float(betaincinv(least, samples - least + 1, POWER)) - rose / samples if least <= samples else math.inf


def fewest_found(samples: int, rose: int, margin: float, level: float) -> int:
    """Return how many of ``samples`` must fall, where ``rose`` rise, to be beyond the margin and the level; above ``samples``: none do."""
    low, high = math.floor(margin * samples + 1e-9) + rose + 1, samples + 1
    while low < high:  # the chance falls with each that falls
        middle = (low + high) // 2
        low, high = (low, middle) if p_of_counts(middle, rose, samples) <= level else (middle + 1, high)
    return low


@lru_cache(maxsize=2**12)
def needed_by_counts(rising: float, margin: float, level: float) -> int:
    """Return the samples with which a fall of twice the margin is found in 80 % of runs where the share ``rising`` rises; 0 for never."""
    low, high = 1, MOST

    def seen(samples: int) -> bool:
        return detectable_by_counts(samples, round(rising * samples), margin, level) <= 2 * margin

    if not seen(high):
        return 0
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if seen(middle) else (middle + 1, high)
    return low


# Graded statistics --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClusterMean:
    """A mean over samples with its standard error over clusters (Liang and Zeger 1986, with ``G / (G - 1)``); NaN of one cluster."""

    mean: float
    error: float
    clusters: int

    def __neg__(self) -> ClusterMean:
        return ClusterMean(-self.mean, self.error, self.clusters)

    @property
    def spread(self) -> bool:
        """Tell whether the clusters differ: of two that fell by the very same nothing is known but their number."""
        return self.error > 1e-9 * abs(self.mean)

    def p_below(self, bound: float) -> float:
        """Return the chance of a mean as low if the true one were ``bound``, by Student's t; 1 where no spread is known."""
        from scipy.special import stdtr

        return float(stdtr(self.clusters - 1, (self.mean - bound) / self.error)) if self.spread else 1.0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval of the mean by Student's t; NaN of one cluster."""
        from scipy.special import stdtrit

        reach = float(stdtrit(self.clusters - 1, (1 + level) / 2)) * self.error if self.clusters > 1 else math.nan
        return self.mean - reach, self.mean + reach

    def detectable(self, margin: float, level: float) -> float:
        """Return the smallest fall found in 80 % of runs: beyond the margin, and at ``level`` beyond half of it; infinite of one."""
        from scipy.special import stdtrit

        if self.clusters < 2:
            return math.inf
        bar = float(stdtrit(self.clusters - 1, 1 - level)) * self.error
        return max(margin, margin / 2 + bar) + Z_POWER * self.error

    def needed(self, margin: float, level: float) -> int:
        """Return the clusters with which a fall of twice the margin is found in 80 % of runs; 0 where it cannot be said."""
        from scipy.special import ndtri

        if not (self.spread and margin > 0):
            return 0
        one = self.error * math.sqrt(self.clusters)  # of one cluster
        errors = max(Z_POWER / margin, (Z_POWER - float(ndtri(level))) / (1.5 * margin))
        return math.ceil((one * errors) ** 2)


def cluster_mean(values: NDArray[np.float64], clusters: NDArray[np.intp] | None) -> ClusterMean:
    """Return the mean of ``values``, ``[samples]``, and its error over ``clusters``, their numbers; None where each is its own."""
    mean = float(values.mean())
    residuals = values - mean
    sums = residuals if clusters is None else np.bincount(clusters, residuals)
    count = len(sums)
    error = math.sqrt(float(sums @ sums) * count / (count - 1)) / len(values) if count > 1 else math.nan
    return ClusterMean(mean, error, count)


def most_of(flags: NDArray[np.bool_], clusters: NDArray[np.intp] | None) -> int:
    """Return in how many clusters more than half of the samples have the flag."""
    return int(flags.sum() if clusters is None else (np.bincount(clusters, flags) > np.bincount(clusters) / 2).sum())


# Many tests ---------------------------------------------------------------------------------------------------------------------------


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Return which hypotheses are rejected with a chance of at most ``level`` that any is rejected wrongly (Holm 1979); NaN never is."""
    order = sorted(range(len(p_values)), key=lambda place: math.inf if math.isnan(p_values[place]) else p_values[place])
    rejected = [False] * len(p_values)
    for step, place in enumerate(order):
        if not p_values[place] <= level / (len(p_values) - step):
            break
        rejected[place] = True
    return rejected
