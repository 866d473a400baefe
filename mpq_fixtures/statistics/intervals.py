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
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Metric, SignalMetric
from mpq_fixtures.statistics.proportions import interval_of_ratio, right_or_wrong, wilson
from mpq_fixtures.statistics.resampling import Statistics, resampled, stacked
from mpq_fixtures.statistics.retention import retentions
from mpq_fixtures.statistics.units import NONE, Interval, Units

_TOGETHER = 2**16
"""Numbers of statistics that are worked on at once: half a megabyte."""

_MIDDLE = 2 * NormalDist().inv_cdf(0.9)
"""Standard errors in the middle 80 % of what is distributed normally."""

_WIDEST = 1000.0
"""The factor by which an interval of a rate may reach up and down, and still say something."""

_ROUNDING = 1e-12
"""The share of a value below which its spread is that of sums that were rounded."""

_Array = NDArray[np.float64]
JACKKNIFE, BOOTSTRAP, UNVARIED = "jackknife t", "bootstrap t", "no spread"


def interval(metric: Metric, statistics: Statistics, groups: Sequence[str] = (), level: float = 0.95) -> Interval:
    """Return the interval of a metric's value, from its statistics of all samples.

    ``groups`` names one for each sample, "" for one that stands alone. There is none of fewer than two samples or groups, which say
    nothing of their spread, nor where the value is NaN. It lies within the metric's bounds and holds the value.
    """
    return _interval(metric, stacked(metric, statistics), Units.of([len(statistics)], groups, level))


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
    units = Units.of([len(each) for each in sets], groups, level)
    stacks = [stacked(metric, each) for each in sets]
    if len(stacks) == 2 and all(right_or_wrong(metric, stack) for stack in stacks):
        return interval_of_ratio(stacks[0], stacks[1], units)
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
    units = Units.of([len(each) for each in sets], groups, level)
    return _combined(metric, [stacked(metric, each) for each in sets], combine, units)


def error_of_change(metric: Metric, before: Statistics, after: Statistics, groups: Sequence[str] = ()) -> tuple[float, int]:
    """Return the bootstrap's standard error of how far a value moved between two sets of the same samples in the same order, and of how
    many samples or groups that is; NaN where no resample has a value in both.
    """
    units = Units.of([len(before), len(after)], groups, 0.95)
    middle = _middle_of_resamples(metric, [stacked(metric, before), stacked(metric, after)], lambda values: values[1] - values[0], units)
    return middle / _MIDDLE, units.number


def rate_interval(bytes: NDArray[np.int64], elements: NDArray[np.int64], groups: Sequence[str] = (), level: float = 0.95) -> Interval:
    """Return the interval of all bits over all elements (pixels, audio samples), of the samples' ``bytes`` and ``elements``, ``[n]``.

    There is none where it would reach further than a factor of `_WIDEST` either way, as of icons with a single photograph among them: what
    one sample decides, the others tell nothing of.
    """
    units = Units.of([len(bytes), len(elements)], groups, level)
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


def _interval(metric: Metric, stack: Any, units: Units) -> Interval:
    if units.number < 2 or not math.isfinite(value := metric.value(stack)):
        return NONE
    if right_or_wrong(metric, stack):
        return wilson(stack, units)
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


def _combined(metric: Metric, stacks: Sequence[Any], combine: Callable[[Sequence[_Array]], _Array], units: Units) -> Interval:
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


# Sums ---------------------------------------------------------------------------------------------------------------------------------


def _without_each(metric: Additive, stack: _Array, units: Units) -> _Array:
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


def _without_spread(metric: Metric, stack: Any, value: float, units: Units) -> Interval:
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
    units: Units,
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


def _middle_of_resamples(metric: Metric, stacks: Sequence[Any], combine: Callable[[Sequence[_Array]], _Array], units: Units) -> float:
    """Return how wide the middle 80 % of resampled values are; NaN where none is a number."""
    values = combine(resampled([(metric, stack) for stack in stacks], units.groups))
    if not (defined := np.isfinite(values)).any():
        return math.nan
    low, high = np.quantile(values[defined], [0.1, 0.9])
    return float(high - low)
