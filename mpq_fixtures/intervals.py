"""Intervals that hold: of a value, of retention and of a rate, from the statistics of samples. Pure functions, without chance.

What covers depends on what a metric is made of, and few samples or values near a bound break the interval that is right elsewhere:

- right and wrong answers: Wilson's score interval; over clusters of samples, with the number of independent answers that their spread says;
- what is computed from sums (words, pixels, means): Student's t with the jackknife's error, which leaves out one sample after the other, on
  a scale on which the metric has no bounds;
- everything else (medians over tracks, AP): Student's t with the bootstrap's error;
- retention, over pairs of an answer to the original and one to the decoded signal: the score interval of the ratio for right and wrong,
  else as above, over both at once.

Where samples share a group (a speaker, a track) they are no independent evidence: whole groups are left out and drawn. Coverage is shown by
simulation in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Metric, SignalMetric
from mpq_fixtures.statistics import Statistics, clusters, resampled, retentions, stacked

_TOGETHER = 2**16
"""Numbers of statistics that are worked on at once: half a megabyte."""

_MIDDLE = 2 * NormalDist().inv_cdf(0.9)
"""Standard errors in the middle 80 % of what is distributed normally."""

_WIDEST = 1000.0
"""The factor by which an interval of a rate may reach up and down, and still say something."""

_ROUNDING = 1e-12
"""The share of a value below which its spread is that of sums that were rounded."""


class Interval(NamedTuple):
    """The ends of an interval, and the short name of how they were found; NaN and "" where there is none."""

    low: float
    high: float
    method: str

    def over(self, reference: float) -> Interval:
        """Return the interval of what it is an interval of as a share of ``reference``, which is known."""
        return Interval(self.low / reference, self.high / reference, self.method)


NONE = Interval(math.nan, math.nan, "")
WILSON, JACKKNIFE, BOOTSTRAP, SCORE, UNVARIED = "Wilson", "jackknife t", "bootstrap t", "paired score", "no spread"

_Array = NDArray[np.float64]


def interval(metric: Metric, statistics: Statistics, groups: Sequence[str] = (), level: float = 0.95) -> Interval:
    """Return the interval of a metric's value, from its statistics of all samples.

    ``groups`` names one for each sample, "" for one that stands alone. There is none of fewer than two samples or groups, which say
    nothing of their spread, nor where the value is NaN. It lies within the metric's bounds and holds the value.
    """
    return _interval(metric, stacked(metric, statistics), _Units.of([len(statistics)], groups, level))


def retention_interval(
    metric: Metric,
    statistics: Statistics,
    originals: Statistics,
    floors: Statistics = (),
    groups: Sequence[str] = (),
    level: float = 0.95,
) -> Interval:
    """Return the interval of retention, the value over that on the originals, both above the value of ``floors`` where there are some.

    All are of the same samples in the same order. There is none where retention is NaN: where the originals are not above the floor, and
    where lower is better.
    """
    if not metric.higher_is_better:
        return NONE
    sets = [statistics, originals, *([floors] if len(floors) else [])]
    units = _Units.of([len(each) for each in sets], groups, level)
    stacks = [stacked(metric, each) for each in sets]
    if len(stacks) == 2 and all(_right_or_wrong(metric, stack) for stack in stacks):
        return _kept(stacks[0], stacks[1], units)
    found = _combined(metric, stacks, _share, units)
    if len(stacks) == 2 and found.low == found.high:
        return _without_spread(metric, stacks[0], metric.value(stacks[0]), units).over(metric.value(stacks[1]))
    positive = len(stacks) == 2 and metric.bounds[0] >= 0
    return found._replace(low=0.0) if positive and found.low < 0 else found


def combined_interval(
    metric: Metric,
    sets: Sequence[Statistics],
    combine: Callable[[Sequence[_Array]], _Array],
    groups: Sequence[str] = (),
    level: float = 0.95,
) -> Interval:
    """Return the interval of what ``combine`` makes of a metric's values over several sets of the same samples in the same order.

    ``combine`` takes values ``[any]``, one array for each set, and returns ``[any]``: a difference, a ratio.
    """
    units = _Units.of([len(each) for each in sets], groups, level)
    return _combined(metric, [stacked(metric, each) for each in sets], combine, units)


def error_of_change(metric: Metric, before: Statistics, after: Statistics, groups: Sequence[str] = ()) -> tuple[float, int]:
    """Return the bootstrap's standard error of how far a value moved between two sets of the same samples in the same order, and of how
    many samples or groups that is; NaN where no resample has a value in both.
    """
    units = _Units.of([len(before), len(after)], groups, 0.95)
    middle = _middle_of_resamples(metric, [stacked(metric, before), stacked(metric, after)], lambda values: values[1] - values[0], units)
    return middle / _MIDDLE, units.number


def rate_interval(bytes: NDArray[np.int64], elements: NDArray[np.int64], groups: Sequence[str] = (), level: float = 0.95) -> Interval:
    """Return the interval of all bits over all elements (pixels, audio samples), of the samples' ``bytes`` and ``elements``, ``[n]``.

    There is none where it would reach further than a factor of `_WIDEST` either way, as of icons with a single photograph among them: what
    one sample decides, the others tell nothing of.
    """
    units = _Units.of([len(bytes), len(elements)], groups, level)
    total, whole = float(bytes.sum()), float(elements.sum())
    if units.number < 2 or not (total > 0 and whole > 0):
        return NONE
    own_bytes, own_elements = (units.sums(column[:, None])[:, 0] for column in (bytes, elements))
    without = np.empty(units.number)
    for start in range(0, units.number, _TOGETHER):
        some = slice(start, start + _TOGETHER)
        left = whole - own_elements[some]
        if not left.all():
            return NONE
        without[some] = 8 * (total - own_bytes[some]) / left
    rate = 8 * total / whole
    reach = units.t * units.error(without) / rate
    if reach > math.log(_WIDEST):
        return NONE
    return Interval(rate * math.exp(-reach), rate * math.exp(reach), JACKKNIFE)


class _Units(NamedTuple):
    """What is independent: ``number`` samples, or clusters of them; ``of_sample`` then says which cluster each sample is in."""

    groups: Sequence[str]
    samples: int
    number: int
    of_sample: NDArray[np.intp] | None
    level: float

    @classmethod
    def of(cls, lengths: Sequence[int], groups: Sequence[str], level: float) -> _Units:
        """Check that everything is of as many samples."""
        if not 0 < level < 1:
            raise ValueError(f"the level of an interval lies between 0 and 1, and is not {level}")
        if len(set(lengths)) > 1:
            raise ValueError(f"what an interval is taken of has the same samples, not {list(lengths)} of them")
        samples = lengths[0] if lengths else 0
        if len(groups) and len(groups) != samples:
            raise ValueError(f"each sample has a group or is alone: {len(groups)} groups do not fit {samples} samples")
        members = clusters(groups) if any(groups) else []
        if not len(members) or len(members) == samples:
            return cls((), samples, samples, None, level)
        of_sample = np.empty(samples, np.intp)
        for number, own in enumerate(members):
            of_sample[own] = number
        return cls(groups, samples, len(members), of_sample, level)

    @property
    def t(self) -> float:
        """The quantile of Student's t with one degree of freedom fewer than there are units."""
        return _quantile_of_t(self.number - 1, self.level)

    @property
    def z(self) -> float:
        """The normal quantile."""
        return NormalDist().inv_cdf((1 + self.level) / 2)

    def sums(self, columns: NDArray[Any]) -> NDArray[Any]:
        """Return the sums of ``[samples, columns]`` in each unit, ``[units, columns]``."""
        if self.of_sample is None:
            return columns
        return np.stack([np.bincount(self.of_sample, column, self.number) for column in columns.T], axis=1)

    def sizes(self) -> NDArray[np.int64]:
        """Return how many samples each unit has."""
        if self.of_sample is None:
            return np.broadcast_to(np.int64(1), self.number)  # which takes no memory
        return np.bincount(self.of_sample, minlength=self.number)

    def error(self, without: _Array) -> float:
        """Return the jackknife's standard error of a figure, from what it is ``without`` each unit (Efron and Tibshirani 1993)."""
        distance = without - without.mean()
        return math.sqrt((self.number - 1) / self.number * float(distance @ distance))


@lru_cache(maxsize=4096)
def _quantile_of_t(freedom: int, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))


def _interval(metric: Metric, stack: Any, units: _Units) -> Interval:
    if units.number < 2 or not math.isfinite(value := metric.value(stack)):
        return NONE
    if _right_or_wrong(metric, stack):
        return _wilson(stack, units)
    if not (isinstance(metric, Additive) and isinstance(stack, np.ndarray)):
        found = _bootstrap(metric, [stack], _itself, metric.bounds, units)
        return _without_spread(metric, stack, value, units) if found.low == found.high else found
    without = _without_each(metric, stack, units)
    if not np.isfinite(without).all():
        return NONE  # one sample decides whether there is a value
    error = units.error(without)
    if not error > _ROUNDING * abs(value):
        return _without_spread(metric, stack, value, units)
    return Interval(*_unbounded(value, units.t * error, metric.bounds), JACKKNIFE)


def _combined(metric: Metric, stacks: Sequence[Any], combine: Callable[[Sequence[_Array]], _Array], units: _Units) -> Interval:
    if units.number < 2 or not math.isfinite(value := float(combine([np.array([metric.value(stack)]) for stack in stacks])[0])):
        return NONE
    if not (isinstance(metric, Additive) and all(isinstance(stack, np.ndarray) for stack in stacks)):
        return _bootstrap(metric, stacks, combine, (-math.inf, math.inf), units)
    without = combine([_without_each(metric, stack, units) for stack in stacks])
    if not np.isfinite(without).all():
        return NONE
    error = units.error(without)
    reach = units.t * error if error > _ROUNDING * abs(value) else 0.0
    return Interval(value - reach, value + reach, JACKKNIFE)


def _itself(values: Sequence[_Array]) -> _Array:
    return values[0]


def _share(values: Sequence[_Array]) -> _Array:
    """Return retention from values, those on the originals and those of the floor."""
    value, original, floor = values if len(values) == 3 else (*values, np.zeros(1))
    return retentions(value, original, floor)


# Right and wrong ----------------------------------------------------------------------------------------------------------------------


def _right_or_wrong(metric: Metric, stack: Any) -> bool:
    """Tell whether a metric is the mean of hits and misses; what compares signals has shares, which may all be whole by chance."""
    if not (isinstance(metric, Additive) and isinstance(stack, np.ndarray) and stack.ndim == 1 and len(stack)):
        return False
    if isinstance(metric, SignalMetric) or metric.bounds != (0.0, 1.0) or not ((stack == 0) | (stack == 1)).all():
        return False
    return bool(metric.score(np.array([1.0]), 4)[0] == 0.25)


def _wilson(hits: _Array, units: _Units) -> Interval:
    """Return Wilson's interval (1927). Over clusters, of as many answers as are independent, by their spread and at most all, with
    Student's t in place of the normal quantile (Korn and Graubard 1998); where all are right, or wrong, of as many as there are clusters.
    """
    right = float(hits.mean())
    if units.of_sample is None:
        return Interval(*_wilson_ends(right, len(hits), units.z), WILSON)
    effect = _design_effect(hits - right, units)
    return Interval(*_wilson_ends(right, len(hits) / effect if effect else units.number, units.t), f"{WILSON}, clusters")


def _wilson_ends(share: float, count: float, z: float) -> tuple[float, float]:
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return (0.0 if share == 0 else max(0.0, middle - reach)), (1.0 if share == 1 else min(1.0, middle + reach))


def _design_effect(residuals: _Array, units: _Units) -> float:
    """Return by how much clusters differ more than as many independent samples would, at least 1; 0 where nothing differs."""
    alone = float(residuals @ residuals)
    if not alone:
        return 0.0
    left = len(residuals) - units.sizes()
    error = units.error(-units.sums(residuals[:, None])[:, 0] / left)
    return max(1.0, error * error * len(residuals) ** 2 / alone)


def _kept(answers: _Array, originals: _Array, units: _Units) -> Interval:
    """Return the score interval of a ratio of paired proportions (Tang, Tang and Chan 2003; Nam and Blackwelder 2002).

    Answers that are right of both and wrong of both count too, so that where nothing changed the interval still has the width that so few
    samples leave. Over clusters, counts are those of as many samples as are independent, and Student's t stands for the normal quantile.
    """
    if units.number < 2 or not originals.any():
        return NONE
    both, rose, fell = (float(np.count_nonzero(pair)) for pair in (answers * originals, answers > originals, answers < originals))
    samples, z, method = float(units.samples), units.z, SCORE
    if units.of_sample is not None:
        effect = _design_effect(answers - (both + rose) / (both + fell) * originals, units)
        scale = 1 / effect if effect else units.number / samples
        both, rose, fell, samples = (scale * count for count in (both, rose, fell, samples))
        z, method = units.t, f"{SCORE}, clusters"
    return Interval(*score_of_ratio_ends(both, rose, fell, samples, z), method)


@lru_cache(maxsize=2**16)
def score_of_ratio_ends(both: float, rose: float, fell: float, samples: float, z: float) -> tuple[float, float]:
    """Return the ratios of shares right after and before at which the score is ``z`` and ``-z``; it falls as the ratio rises."""

    def at(score: float, low: float, high: float) -> float:
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if score_of_ratio(both, rose, fell, samples, middle) > score else (low, middle)
        return math.sqrt(low * high)

    ratio = (both + rose) / (both + fell)
    start = ratio or 1.0
    low = at(z, start * 1e-9, start) if ratio else 0.0
    return low, at(-z, start if ratio else 1e-9, start * 1e9)


def score_of_ratio(both: float, rose: float, fell: float, samples: float, ratio: float) -> float:
    """Return the score of a ratio, standard normal where it is the true one: counts of answers that are right before and after, of those
    that became right and wrong, and of all. The share that truly falls is taken where it makes the counts likeliest, given the ratio.
    """
    seen = both + rose + fell
    square, linear = samples * (1 + ratio), (both + fell) * ratio * ratio - (both + rose + 2 * fell)
    constant = fell * (1 - ratio) * seen / samples
    share = (math.sqrt(max(0.0, linear * linear - 4 * square * constant)) - linear) / (2 * square)
    variance = samples * (1 + ratio) * share + seen * (ratio - 1)
    distance = both + rose - ratio * (both + fell)
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0


# Sums ---------------------------------------------------------------------------------------------------------------------------------


def _without_each(metric: Additive, stack: _Array, units: _Units) -> _Array:
    """Return the metric without each of the units, ``[units]``."""
    shape, total = stack.shape[1:], stack.sum(axis=0)
    own = stack if units.of_sample is None else units.sums(stack.reshape(len(stack), -1)).reshape(units.number, *shape)
    sizes, found = units.sizes(), np.empty(units.number)
    step = max(1, _TOGETHER // max(1, math.prod(shape)))
    for start in range(0, units.number, step):
        left = units.samples - sizes[start : start + step]
        for count in np.unique(left):
            chosen = np.flatnonzero(left == count) + start
            found[chosen] = metric.score(total - own[chosen], int(count))
    return found


def _unbounded(value: float, reach: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """Return the ends ``reach`` off the value, on a scale without bounds: log odds between two, the logarithm from one."""
    low, high = bounds
    below, above = value - low, high - value
    if not (below > 0 and above > 0):
        return value, value
    if math.isinf(below) and math.isinf(above):
        return value - reach, value + reach
    if math.isinf(below):
        far = min(700.0, reach / above)
        least = min(0.0, value - reach)  # of two samples the logarithm would reach as far down as one likes
        return max(least, high - above * math.exp(far)), high - above * math.exp(-far)
    if math.isinf(above):
        far = min(700.0, reach / below)
        return low + below * math.exp(-far), low + below * math.exp(far)
    far = reach * (1 / below + 1 / above)
    odds, span = math.log(below) - math.log(above), high - low
    return tuple(low + span / (1 + math.exp(-min(700.0, max(-700.0, odds + move)))) for move in (-far, far))  # type: ignore[return-value]


def _without_spread(metric: Metric, stack: Any, value: float, units: _Units) -> Interval:
    """Return what is known where no sample differs.

    Figures that are measured (cosines, decibels) are then as good as certain: the signal came through as it was. Counts of right and wrong,
    and shares between 0 and 1, are not: of so many samples without a fault as large a share may still have one as Wilson's interval says,
    and be all wrong; or all right where these were all wrong.
    """
    counts = metric.bounds == (0.0, 1.0) or (isinstance(metric, Additive) and np.array_equal(stack, np.rint(stack)))
    if isinstance(metric, SignalMetric) or not counts:
        return Interval(value, value, UNVARIED)
    z = units.z
    share = z * z / (units.number + z * z)
    low, high = metric.bounds
    low = max(low, min(0.0, value))
    high = high if math.isfinite(high) else value
    return Interval(value - share * (value - low), value + share * (high - value), UNVARIED)


# Everything else ----------------------------------------------------------------------------------------------------------------------


def _bootstrap(
    metric: Metric,
    stacks: Sequence[Any],
    combine: Callable[[Sequence[_Array]], _Array],
    bounds: tuple[float, float],
    units: _Units,
) -> Interval:
    """Return Student's t with the bootstrap's standard error, which is taken from the middle 80 % of resampled values.

    Of a few tracks with one far away the others say little. The percentiles themselves are too near and lopsided where it matters: they
    lean to one side of a median over few, and to that of the bias of AP, which rises with every sample that is there twice. Resamples
    without a value are left out.
    """
    value = float(combine([np.array([metric.value(stack)]) for stack in stacks])[0])
    if math.isnan(middle := _middle_of_resamples(metric, stacks, combine, units)):
        return NONE
    reach = units.t * middle / _MIDDLE
    return Interval(max(value - reach, bounds[0]), min(value + reach, bounds[1]), BOOTSTRAP)


def _middle_of_resamples(metric: Metric, stacks: Sequence[Any], combine: Callable[[Sequence[_Array]], _Array], units: _Units) -> float:
    """Return how wide the middle 80 % of resampled values are; NaN where none is a number."""
    values = combine(resampled([(metric, stack) for stack in stacks], units.groups))
    if not (defined := np.isfinite(values)).any():
        return math.nan
    low, high = np.quantile(values[defined], [0.1, 0.9])
    return float(high - low)
