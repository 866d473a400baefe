"""Bjontegaard deltas against the package of that name and closed forms, and what is said where curves cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import bjontegaard
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from mpq_fixtures.decisions.bjontegaard import cubics, curves_of, deltas
from mpq_fixtures.decisions.points import Points

Curve = Sequence[tuple[float, float]]
"""Rates and values."""


def points(
    curves: dict[str, Curve | NDArray[np.float64]], originals: float | NDArray[np.float64] = np.nan, tolerance: float = 0.0
) -> Points:
    """Points of codecs: of each its curve, or curves of all samples and of resamples, ``[1 + resamples, points, 2]``."""
    stacks = {name: np.asarray(curve, float) for name, curve in curves.items()}
    stacks = {name: stack if stack.ndim == 3 else stack[None] for name, stack in stacks.items()}
    rows = next(len(stack) for stack in stacks.values())
    together = np.concatenate(list(stacks.values()), axis=1)
    series = [name for name, stack in stacks.items() for _ in range(stack.shape[1])]
    return Points(
        cases=[f"tried-{name}-q{number}" for number, name in enumerate(series)],
        series=series,
        qualities=[f"q{number}" for number in range(len(series))],
        rates=together[..., 0],
        values=together[..., 1],
        originals=np.broadcast_to(originals, rows).astype(float),
        floors=np.zeros(rows),
        tolerance=tolerance,
        raw_bits=24,
        samples=10,
        clusters=10,
        note="",
    )


def of(found: list[dict[str, Any]], codec: str, anchor: str) -> tuple[dict[str, Any], dict[str, Any]]:
    entry = next(one for one in found if (one["codec"], one["anchor"]) == (codec, anchor))
    return entry["rate"], entry["value"]


def words(curves: dict[str, Curve | NDArray[np.float64]], **about: Any) -> list[str]:
    """What is said of a against b: of the rate, of the value, and of the rate the other way round."""
    found = deltas(points(curves, **about))
    return [one["word"] for one in (*of(found, "a", "b"), of(found, "b", "a")[0])]


def rising(generator: np.random.Generator, count: int, low: float = 0.2) -> NDArray[np.float64]:
    """A curve that rises, of as many points."""
    rates = np.cumsum(generator.uniform(0.05, 0.5, count)) + generator.uniform(0, 0.1)
    return np.stack([rates, low + np.cumsum(generator.uniform(0.01, 0.2, count))], axis=1)


PACKAGE = {"method": "pchip", "require_matching_points": False, "min_overlap": 0.0}


class TestAgainstThePackage:
    @pytest.mark.parametrize("low", [0.2, -20.0], ids=["shares", "decibels"])
    @pytest.mark.parametrize("seed", range(8))
    def test_both_deltas_agree_to_a_millionth(self, seed: int, low: float, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mpq_fixtures.decisions.bjontegaard.figure", float)  # which rounds to what is written
        generator = np.random.default_rng(seed)
        a, b = rising(generator, int(generator.integers(4, 9)), low), rising(generator, int(generator.integers(4, 9)), low - 0.05)
        rate, value = of(deltas(points({"a": a, "b": b})), "a", "b")
        assert rate["delta"] == pytest.approx(bjontegaard.bd_rate(*b.T, *a.T, **PACKAGE) / 100, rel=1e-6, abs=1e-6)
        assert value["delta"] == pytest.approx(bjontegaard.bd_psnr(*b.T, *a.T, **PACKAGE), rel=1e-6, abs=1e-6)

    def test_two_points_are_a_line(self) -> None:
        a, b = np.array([(0.5, 0.3), (2.0, 0.7)]), np.array([(0.7, 0.2), (2.5, 0.8)])
        rate, _ = of(deltas(points({"a": a, "b": b})), "a", "b")
        assert rate["delta"] == pytest.approx(bjontegaard.bd_rate(*b.T, *a.T, **PACKAGE) / 100, abs=1e-6)


class TestCubics:
    def test_are_scipys_in_every_row(self) -> None:
        generator = np.random.default_rng(5)
        counts = generator.integers(2, 8, 40)
        x, y = np.zeros((2, 40, 7))
        for row, count in enumerate(counts):
            x[row, :count], y[row, :count] = rising(generator, count).T
            x[row, count:], y[row, count:] = x[row, count - 1], y[row, count - 1]
        low, high = x[:, 0] + 0.2 * (x[:, -1] - x[:, 0]), x[:, 0] + 0.9 * (x[:, -1] - x[:, 0])
        expected = [
            PchipInterpolator(x[row, :count], y[row, :count]).integrate(low[row], high[row]) / (high[row] - low[row])
            for row, count in enumerate(counts)
        ]
        np.testing.assert_allclose(cubics(x, y, counts).mean(low, high), expected, rtol=1e-12)


class TestDeltas:
    def test_half_the_rate_at_every_value_is_half_less(self) -> None:
        anchor = np.array([(1.0, 0.2), (2.0, 0.5), (4.0, 0.7)])
        rate, value = of(deltas(points({"a": anchor * [0.5, 1], "b": anchor})), "a", "b")
        assert rate["delta"] == pytest.approx(-0.5)
        assert value["delta"] > 0

    def test_the_same_rates_and_a_tenth_more_everywhere_is_a_tenth(self) -> None:
        anchor = np.array([(1.0, 0.2), (2.0, 0.5), (4.0, 0.7)])
        _, value = of(deltas(points({"a": np.add(anchor, [0, 0.1]), "b": anchor})), "a", "b")
        assert value["delta"] == pytest.approx(0.1)

    def test_turned_round_they_are_those_of_the_inverse(self) -> None:
        generator = np.random.default_rng(2)
        found = deltas(points({"a": rising(generator, 4), "b": rising(generator, 6)}))
        (rate, value), (back, fall) = of(found, "a", "b"), of(found, "b", "a")
        assert (1 + rate["delta"]) * (1 + back["delta"]) == pytest.approx(1, abs=1e-5)
        assert value["delta"] == -fall["delta"]

    def test_all_ordered_pairs_are_there(self) -> None:
        generator = np.random.default_rng(2)
        found = deltas(points({name: rising(generator, 4) for name in "abc"}))
        assert [(one["codec"], one["anchor"]) for one in found] == [(one, other) for one in "abc" for other in "abc" if one != other]
        assert deltas(points({"a": rising(generator, 4)})) == []

    def test_the_interval_is_that_of_the_resamples_deltas(self) -> None:
        """In every resample the rate is another share of the anchor's, so that its delta is known."""
        anchor = np.array([(1.0, 0.2), (2.0, 0.5), (4.0, 0.7)])
        shares = np.concatenate([[0.5], np.random.default_rng(4).uniform(0.4, 0.9, 500)])
        a = anchor * np.stack([shares, np.ones(501)], axis=1)[:, None, :]
        rate, _ = of(deltas(points({"a": a, "b": np.broadcast_to(anchor, a.shape)})), "a", "b")
        low, high = np.exp(np.quantile(np.log(shares[1:]), [0.025, 0.975])) - 1
        assert (rate["delta"], rate["low"], rate["high"]) == pytest.approx((-0.5, low, high), abs=1e-5)

    def test_without_most_resamples_there_is_no_interval(self) -> None:
        anchor = np.array([(1.0, 0.2), (2.0, 0.5), (4.0, 0.7)])
        a = np.repeat((anchor * [0.5, 1])[None], 11, axis=0)
        a[1:8, :, 1] += 1  # no shared value in 7 of 10
        rate, value = of(deltas(points({"a": a, "b": np.broadcast_to(anchor, a.shape)})), "a", "b")
        assert (rate["delta"], rate["low"], rate["high"]) == (pytest.approx(-0.5), None, None)
        assert value["low"] is not None

    def test_a_point_that_falls_is_pooled_with_the_one_before(self) -> None:
        generator = np.random.default_rng(6)
        b = rising(generator, 5)
        a = np.array([(0.1, 0.2), (0.4, 0.5), (0.9, 0.4), (1.6, 0.8)])
        pooled = np.array([(0.1, 0.2), (np.sqrt(0.4 * 0.9), 0.45), (1.6, 0.8)])
        assert deltas(points({"a": a, "b": b})) == deltas(points({"a": pooled, "b": b}))

    def test_nothing_above_saturation_counts(self) -> None:
        """Beyond the first saturated point what a codec spends buys nothing, and however much that is says nothing."""
        anchor = [(1.0, 0.2), (2.0, 0.5), (4.0, 0.99), (8.0, 1.0)]
        found = [
            deltas(points({"a": [(0.5, 0.2), (1.0, 0.5), (2.0, 0.99), (much, 1.0)], "b": anchor}, originals=1.0, tolerance=0.02))
            for much in (4.0, 40.0)
        ]
        assert found[0] == found[1]
        assert of(found[0], "a", "b")[0]["delta"] == pytest.approx(-0.5)


class TestCurves:
    def test_pool_as_sklearn_does(self) -> None:
        from sklearn.isotonic import IsotonicRegression

        generator = np.random.default_rng(9)
        rates, values = np.sort(generator.uniform(0.1, 3, (60, 9)), axis=1), generator.normal(0, 1, (60, 9))
        found = curves_of(rates, values, np.full(60, np.inf))
        for row in range(60):
            fitted = IsotonicRegression().fit_transform(np.arange(9), values[row])
            levels, first = np.unique(fitted.round(12), return_index=True)
            assert found.counts[row] == len(levels)
            np.testing.assert_allclose(found.values[row, : len(levels)], levels)
            logs = [part.mean() for part in np.split(np.log(rates[row]), first[1:])]
            np.testing.assert_allclose(found.rates[row, : len(levels)], logs)

    def test_points_of_one_rate_are_one(self) -> None:
        found = curves_of(np.array([[1.0, 1.0, 2.0]]), np.array([[0.2, 0.4, 0.5]]), np.array([np.inf]))
        assert found.counts.tolist() == [2]
        np.testing.assert_allclose(found.values[0], [0.3, 0.5, 0.5])

    def test_a_rate_of_nothing_and_a_nan_make_no_curve(self) -> None:
        rates, values = np.array([[0.0, 1.0], [1.0, 2.0]]), np.array([[0.1, 0.2], [np.nan, 0.2]])
        assert curves_of(rates, values, np.full(2, np.inf)).counts.tolist() == [0, 0]


class TestWords:
    def test_at_least_as_good_everywhere_for_fewer_bits(self) -> None:
        assert words({"a": [(0.1, 0.8), (0.5, 0.9)], "b": [(1.0, 0.5), (2.0, 0.7)]}) == ["dominates", "dominates", "dominated"]

    def test_better_and_dearer_is_no_comparison(self) -> None:
        assert words({"a": [(1.0, 0.8), (2.0, 0.9)], "b": [(0.1, 0.5), (0.5, 0.7)]}) == ["not comparable"] * 3

    def test_a_codec_that_is_as_good_as_the_originals_throughout(self) -> None:
        about: dict[str, Any] = {"originals": 1.0, "tolerance": 0.02}
        assert words({"a": [(1.0, 0.99), (2.0, 1.0)], "b": [(0.1, 0.5), (0.5, 0.7)]}, **about) == ["saturated"] * 3

    def test_both_saturated_the_cheaper_one_dominates(self) -> None:
        about: dict[str, Any] = {"originals": 1.0, "tolerance": 0.02}
        assert words({"a": [(1.0, 0.99)], "b": [(2.0, 1.0), (3.0, 1.0)]}, **about)[0] == "dominates"

    def test_one_point_is_no_curve(self) -> None:
        assert words({"a": [(1.0, 0.6)], "b": [(0.5, 0.5), (2.0, 0.7)]}) == ["one point"] * 3

    def test_one_point_that_is_beaten_is_dominated(self) -> None:
        assert words({"a": [(1.0, 0.4)], "b": [(0.5, 0.5), (2.0, 0.7)]})[0] == "dominated"

    def test_a_curve_that_falls(self) -> None:
        assert words({"a": [(0.4, 0.6), (2.0, 0.2)], "b": [(0.3, 0.5), (2.0, 0.7)]}) == ["does not rise"] * 3

    def test_a_shared_rate_and_no_shared_value(self) -> None:
        found = deltas(points({"a": [(1.0, 0.8), (2.0, 0.9)], "b": [(0.5, 0.5), (1.5, 0.7)]}))
        rate, value = of(found, "a", "b")
        assert rate["word"] == "not comparable"
        assert (value["word"], value["delta"] > 0.1) == ("", True)
