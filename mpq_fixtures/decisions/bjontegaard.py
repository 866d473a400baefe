"""Bjontegaard deltas between the codecs of an evaluation, with intervals through the whole computation.

Bjontegaard (2001, VCEG-M33) compares two curves by the mean distance between them: of the rate over the values that both reach, and of
the value over the rates that both have. Here curves are monotone piecewise cubics (Fritsch and Butland 1984, as in JCTVC-L1100) of
value over the logarithm of the rate and the other way round, through the measured points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.decisions.points import Points
from mpq_fixtures.decisions.quantiles import figure, quantiles

Rows = NDArray[np.float64]

DOMINATES, DOMINATED, SATURATED = "dominates", "dominated", "saturated"
NOT_COMPARABLE, ONE_POINT, FALLS = "not comparable", "one point", "does not rise"

ENOUGH = 0.5
"""The share of resamples that must have a delta for an interval to be shown."""


@dataclass(frozen=True)
class Curves:
    """Curves that rise, one in each row: ``[..., rows, knots]``, where knots from ``counts`` on repeat the last one."""

    rates: Rows
    """Logarithms of rates."""
    values: Rows
    counts: NDArray[np.intp]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Whether a curve has at least two knots."""
        return self.counts >= 2


def curves_of(rates: Rows, values: Rows, saturation: Rows) -> Curves:
    """Return the curves through points, ``[rows, points]``, in each row up to the first point at its ``saturation`` or above it.

    Points that fall are pooled with those before until values rise (pool adjacent violators): a pool is one knot, at the mean of its
    points' values and of their logarithms of rates. A row with a number that is not finite, or with a rate of 0, has no knots.
    """
    order = np.argsort(rates, axis=1, kind="stable")
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = (np.take_along_axis(numbers, order, axis=1) for numbers in (np.log(rates), values))
        good = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
    x, y = np.where(good[:, None], x, 0.0), np.where(good[:, None], y, 0.0)
    below = y < saturation[:, None]
    last_below = np.where(below.any(axis=1), x.shape[1] - 1 - below[:, ::-1].argmax(axis=1), -1)
    counts = np.where(good, np.minimum(last_below + 2, x.shape[1]), 0)
    rising = (np.diff(x) > 0) & (np.diff(y) > 0) | (np.arange(1, x.shape[1]) >= counts[:, None])
    wrong = np.flatnonzero(good & ~rising.all(axis=1))
    if len(wrong):
        x[wrong], y[wrong], counts[wrong] = _pooled(x[wrong], y[wrong], counts[wrong])
    reached = (y >= saturation[:, None]) & (np.arange(x.shape[1]) < counts[:, None])
    counts = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, counts)
    knots = np.minimum(np.arange(x.shape[1]), np.maximum(counts - 1, 0)[:, None])
    return Curves(np.take_along_axis(x, knots, axis=1), np.take_along_axis(y, knots, axis=1), counts)


def _pooled(x: Rows, y: Rows, counts: NDArray[np.intp]) -> tuple[Rows, Rows, NDArray[np.intp]]:
    """Pool what does not rise, all rows at once; returns the pools in front, and how many there are."""
    rows = np.arange(len(x))
    sums, sizes, pools = np.zeros((2, *x.shape)), np.zeros(x.shape), np.zeros(len(x), np.intp)
    for place in range(x.shape[1]):
        active = rows[place < counts]
        sums[:, active, pools[active]], sizes[active, pools[active]] = (x[active, place], y[active, place]), 1
        pools[active] += 1
        while True:
            active = active[pools[active] >= 2]
            before, last = pools[active] - 2, pools[active] - 1
            means = [sums[:, active, which] / sizes[active, which] for which in (before, last)]
            active = active[(means[1] <= means[0]).any(axis=0)]
            if not len(active):
                break
            before, last = pools[active] - 2, pools[active] - 1
            sums[:, active, before] += sums[:, active, last]
            sizes[active, before] += sizes[active, last]
            pools[active] -= 1
    x, y = sums / np.maximum(sizes, 1)
    return x, y, pools


@dataclass(frozen=True)
class Cubics:
    """Piecewise cubics through knots, one in each row: on each stretch ``sum of coefficients[k] * (t - knots)**k``.

    ``areas`` are those of all stretches before each one.
    """

    knots: Rows
    coefficients: Rows
    areas: Rows

    def mean(self, low: Rows, high: Rows) -> Rows:
        """Return the mean of each row's cubic between two places within its knots, ``[..., rows]``; NaN where these do not lie apart."""
        return (self._area(high) - self._area(low)) / np.where(high > low, high - low, np.nan)

    def _area(self, place: Rows) -> Rows:
        """Return the area from the first knot to a place."""
        stretch = (self.knots[..., 1:-1] <= place[..., None]).sum(axis=-1, keepdims=True)
        start, before, *coefficients = (
            np.take_along_axis(numbers, stretch, axis=-1)[..., 0] for numbers in (self.knots, self.areas, *self.coefficients)
        )
        return before + _area_of(place - start, *coefficients)


def _area_of(t: Rows, first: Rows, second: Rows, third: Rows, fourth: Rows) -> Rows:
    """Return the area under a cubic from 0 to ``t``."""
    return t * (first + t * (second / 2 + t * (third / 3 + t * fourth / 4)))


def cubics(x: Rows, y: Rows, counts: NDArray[np.intp]) -> Cubics:
    """Return the monotone cubics (PCHIP) through knots ``[..., rows, knots]`` that rise, of which each row has ``counts``."""
    slopes = np.zeros_like(x)
    for count in np.unique(counts[counts >= 2]):
        rows = counts == count
        slopes[rows, :count] = _slopes(x[rows, :count], y[rows, :count])
    width = np.diff(x)
    safe = np.where(width > 0, width, 1.0)
    secant = np.diff(y) / safe
    left, right = slopes[..., :-1], slopes[..., 1:]
    coefficients = np.stack([y[..., :-1], left, (3 * secant - 2 * left - right) / safe, (left + right - 2 * secant) / safe**2])
    areas = np.cumsum(_area_of(width, *coefficients), axis=-1)
    return Cubics(x, coefficients, np.concatenate([np.zeros_like(x[..., :1]), areas[..., :-1]], axis=-1))


def _slopes(x: Rows, y: Rows) -> Rows:
    """Return the slopes at knots ``[rows, knots]`` that rise: harmonic means inside, three-point formulas at the ends."""
    width = np.diff(x)
    secant = np.diff(y) / width
    if x.shape[1] == 2:
        return np.repeat(secant, 2, axis=1)
    before, after = width[:, 1:] + 2 * width[:, :-1], 2 * width[:, 1:] + width[:, :-1]
    inside = (before + after) / (after / secant[:, :-1] + before / secant[:, 1:])
    return np.concatenate([_end(width, secant), inside, _end(width[:, ::-1], secant[:, ::-1])], axis=1)


def _end(width: Rows, secant: Rows) -> Rows:
    """Return the slope at the first knot, ``[rows, 1]``, never below 0, so that the curve stays monotone."""
    near, far = width[:, :1], width[:, 1:2]
    slope = ((2 * near + far) * secant[:, :1] - near * secant[:, 1:2]) / (near + far)
    return np.asarray(np.where(slope > 0, slope, 0.0))


def deltas(points: Points) -> list[dict[str, Any]]:
    """Return how each series stands to each other one, its anchor: the mean change of the rate at the same value, and of the value at the
    same rate, both paired by sample, with 95 % percentile intervals over the resamples that have one; or a word.
    """
    ladders = points.ladders
    names, most = list(ladders), max(2, *map(len, ladders.values()))
    saturation = np.where(np.isfinite(points.originals), points.originals - points.tolerance, np.inf)
    made = [curves_of(points.rates[:, columns], points.values[:, columns], saturation) for columns in ladders.values()]

    def together(parts: list[Rows]) -> Rows:
        return np.stack([np.pad(part, ((0, 0), (0, most - part.shape[1])), mode="edge") for part in parts])

    curves = Curves(together([one.rates for one in made]), together([one.values for one in made]), np.stack([one.counts for one in made]))
    rate_of, value_of = cubics(curves.values, curves.rates, curves.counts), cubics(curves.rates, curves.values, curves.counts)
    found: dict[tuple[int, int], tuple[dict[str, Any], dict[str, Any]]] = {}
    for one in range(len(names) - 1):
        others = slice(one + 1, None)
        usable = curves.usable[one] & curves.usable[others]
        over_values = _shared(curves.values, one, others, usable, saturation)
        over_rates = _shared(curves.rates, one, others, usable, np.inf)
        own = slice(one, one + 1)
        rates = _of(rate_of, others).mean(*over_values) - _of(rate_of, own).mean(*over_values)
        values = _of(value_of, others).mean(*over_rates) - _of(value_of, own).mean(*over_rates)
        bounds = [_bounds(of_pairs) for of_pairs in (rates, values)]
        for number, other in enumerate(range(one + 1, len(names))):
            for codec, anchor, sign in ((other, one, 1), (one, other, -1)):
                word = ""
                if not np.isfinite([rates[number, 0], values[number, 0]]).all():
                    word = _word(points, ladders[names[codec]], ladders[names[anchor]], saturation[0])
                rate = _delta(sign * rates[number, 0], sign * bounds[0][number], word, logarithmic=True)
                value = _delta(sign * values[number, 0], sign * bounds[1][number], word)
                found[codec, anchor] = rate, value
    return [
        {"codec": names[codec], "anchor": names[anchor], "rate": rate, "value": value}
        for (codec, anchor), (rate, value) in sorted(found.items())
    ]


def _of(cubic: Cubics, which: slice) -> Cubics:
    return Cubics(cubic.knots[which], cubic.coefficients[:, which], cubic.areas[which])


def _shared(knots: Rows, one: int, others: slice, usable: NDArray[np.bool_], limit: Rows | float) -> tuple[Rows, Rows]:
    """Return the range that one curve has in common with each of the others, ``[others, rows]``, below a limit; NaN where there is none."""
    low = np.maximum(knots[one, :, 0], knots[others, :, 0])
    high = np.minimum(np.minimum(knots[one, :, -1], knots[others, :, -1]), limit)
    there = usable & (high > low)
    return np.where(there, low, np.nan), np.where(there, high, np.nan)


def _bounds(drawn: Rows) -> Rows:
    """Return the interval of deltas ``[pairs, 1 + resamples]``; NaN for a pair that fewer than `ENOUGH` of the resamples can compare."""
    resamples = drawn[:, 1:]
    enough = np.isfinite(resamples).sum(axis=1) >= ENOUGH * max(1, resamples.shape[1])
    return np.where(enough[:, None], quantiles(resamples), np.nan)


def _delta(delta: float, bounds: Rows, word: str, logarithmic: bool = False) -> dict[str, Any]:
    if not np.isfinite(delta):
        return {"delta": None, "low": None, "high": None, "word": word}
    shown = [figure(float(np.expm1(number) if logarithmic else number)) for number in (delta, *sorted(bounds))]
    return {**dict(zip(("delta", "low", "high"), shown, strict=True)), "word": ""}


def _word(points: Points, codec: NDArray[np.intp], anchor: NDArray[np.intp], saturation: float) -> str:
    """Say why two series have no delta on all samples: over what was measured, values above saturation being alike."""
    rates, values = points.rates[0], np.minimum(points.values[0], saturation)

    def covers(one: NDArray[np.intp], other: NDArray[np.intp]) -> bool:
        better = (values[one] >= values[other][:, None]) & (rates[one] <= rates[other][:, None])
        return bool(better.any(axis=1).all())

    if (ahead := covers(codec, anchor)) != covers(anchor, codec):
        return DOMINATES if ahead else DOMINATED
    if any((values[own] >= saturation).all() for own in (codec, anchor)):
        return SATURATED
    if min(len(codec), len(anchor)) < 2:
        return ONE_POINT
    return FALLS if any(_falls(rates[own], values[own]) for own in (codec, anchor)) else NOT_COMPARABLE


def _falls(rates: Rows, values: Rows) -> bool:
    return int(curves_of(rates[None], values[None], np.array([np.inf])).counts[0]) < 2
