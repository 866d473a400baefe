"""Decisions against closed forms and against loops over resamples, and what is said where nothing can be decided."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from trial_records import Wrong

from mpq_fixtures.decisions import decide
from mpq_fixtures.decisions.lowest import lowest
from mpq_fixtures.decisions.points import points_of
from mpq_fixtures.decisions.quantiles import quantiles
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.rows import Failure, Row
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.statistics.resampling import draws, values_of_points
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task

EVALUATION = Evaluation("tried", "tests", find_task("image_classification"), "a/model", {"path": "a/set"}, (), Path())


def record(
    codec: str,
    quality: str,
    statistics: Sequence[Any],
    sizes: Sequence[int] | int = 100,
    *,
    names: Sequence[str] = (),
    groups: Sequence[str] = (),
    floors: Sequence[Any] = (),
    metric: Metric | None = None,
    failures: Sequence[Failure] = (),
) -> Record:
    """A record of one sample for each statistic, of 100 pixels each and so many bytes."""
    rows = [
        Row(
            sample=names[number] if names else f"s{number}",
            bytes=int(np.broadcast_to(sizes, len(statistics))[number]),
            elements=100,
            prediction="",
            target="",
            statistic=np.asarray(statistic, float).tolist(),
            further={},
            scores={},
            ledger={"payload": 1, "container": 0, "side": 0},
            floor=np.asarray(floors[number], float).tolist() if len(floors) else None,
            group=groups[number] if groups else "",
        )
        for number, statistic in enumerate(statistics)
    ]
    return summarise(Case(EVALUATION, codec, quality), Rows.of(rows), list(failures), metric or Top1(), [])


def hits(right: int, of: int = 10) -> list[float]:
    return [1.0] * right + [0.0] * (of - right)


def choice(found: dict[str, Any], codec: str, share: str = "0.95") -> dict[str, Any]:
    return next(one for one in found["keep"][share] if one["codec"] == codec)


@pytest.fixture(scope="module")
def noisy() -> list[Record]:
    """Two codecs of three points each over 40 samples, of which hard ones are hard everywhere, and whose sizes differ."""
    generator = np.random.default_rng(8)
    hard = generator.uniform(0, 1, 40)
    records = [record("original", "", hard < 0.95, 3000)]
    for codec, dearer in (("avif", 1.0), ("jpeg", 1.15)):
        for number, level in enumerate((0.8, 0.92, 0.94)):
            answers = hard + generator.normal(0, 0.05, 40) < level
            records.append(record(codec, f"q{number}", answers, generator.integers(50, 150, 40) * 2**number * dearer))
    return records


def table(records: Sequence[Record]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hits and bytes, ``[records, samples]``."""
    rows = [list(one.rows) for one in records]
    return np.array([[row.statistic for row in one] for one in rows], float), np.array([[row.bytes for row in one] for one in rows], float)


def by_loops(records: Sequence[Record], share: float, index: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    """The rate that each codec is chosen at in each resample, NaN where it keeps too little, one after the other."""
    found: dict[str, list[float]] = {}
    statistics, sizes = table(records)
    for drawn in index:
        original = statistics[0][drawn].mean()
        kept: dict[str, list[float]] = {one.codec: [] for one in records[1:]}
        for number, one in enumerate(records[1:], 1):
            if original > 0 and statistics[number][drawn].mean() / original >= share - 1e-9:
                kept[one.codec].append(8 * sizes[number][drawn].sum() / (100 * len(drawn)))
        for codec, rates in kept.items():
            found.setdefault(codec, []).append(min(rates, default=math.nan))
    return found


class TestLowest:
    def test_is_the_cheapest_that_keeps_the_share(self) -> None:
        assert lowest([1.0, 2.0, 3.0], [0.9, 0.96, 0.99], 0.95) == 1
        assert lowest([3.0, 2.0, 1.0], [0.99, 0.96, 0.9], 0.95) == 1

    def test_a_ladder_that_is_not_monotone_counts_as_it_was_measured(self) -> None:
        assert lowest([1.0, 2.0, 3.0], [0.96, 0.9, 0.99], 0.95) == 0

    def test_nothing_is_none(self) -> None:
        assert lowest([1.0, 2.0], [0.9, np.nan], 0.95) == -1
        assert lowest([1.0, np.nan, 2.0], [0.9, 1.0, None], 0.95) == -1

    def test_a_share_that_rounding_misses_is_kept(self) -> None:
        assert lowest([1.0], [0.95 - 1e-12], 0.95) == 0

    def test_many_rows_at_once(self) -> None:
        rates, retentions = np.random.default_rng(0).uniform(0, 1, (2, 50, 6))
        expected = [
            min((rate, place) for place, rate in enumerate(row) if kept[place] >= 0.5)[1] if max(kept) >= 0.5 else -1
            for row, kept in zip(rates, retentions, strict=True)
        ]
        assert lowest(rates, retentions, 0.5).tolist() == expected


class TestQuantiles:
    def test_are_numpys(self) -> None:
        values = np.random.default_rng(1).normal(0, 1, (7, 101))
        values[values > 1.5] = np.nan
        np.testing.assert_allclose(quantiles(values), np.nanquantile(values, [0.025, 0.975], axis=1).T)

    def test_of_nothing_are_nothing(self) -> None:
        assert np.isnan(quantiles(np.full((2, 5), np.nan))).all()
        assert np.isnan(quantiles(np.empty((2, 0)))).all()


class TestChoices:
    @pytest.mark.parametrize("share", ["0.99", "0.98", "0.95", "0.9"])
    def test_are_those_of_a_loop_over_resamples(self, noisy: list[Record], share: str) -> None:
        found = decide(noisy)
        expected = by_loops(noisy, float(share), draws(40, 1000).tolist())
        together = np.array([expected["avif"], expected["jpeg"]])
        best = np.nanmin(np.where(np.isnan(together), np.inf, together), axis=0)
        for number, codec in enumerate(("avif", "jpeg")):
            one, rates = choice(found, codec, share), together[number]
            assert one["reached"] == pytest.approx(np.isfinite(rates).mean())
            assert one["cheapest"] == pytest.approx((rates == best).mean())
            if one["case"] is not None:
                assert (one["rate_low"], one["rate_high"]) == pytest.approx(tuple(np.nanquantile(rates, [0.025, 0.975])), rel=1e-5)
        assert 0 < choice(found, "avif")["cheapest"] < 1  # or there was nothing to try

    def test_the_choice_is_that_on_all_samples(self, noisy: list[Record]) -> None:
        found = decide(noisy)
        for share in ("0.99", "0.98", "0.95", "0.9"):
            expected = by_loops(noisy, float(share), [list(range(40))])
            for codec, (rate,) in expected.items():
                assert choice(found, codec, share)["rate"] == (None if math.isnan(rate) else pytest.approx(rate, rel=1e-5))

    def test_say_where_and_how_much(self, noisy: list[Record]) -> None:
        one = choice(decide(noisy), "avif", "0.9")
        assert one["case"] == f"tried-avif-{one['quality']}"
        assert one["compression_ratio"] == pytest.approx(24 / one["rate"], rel=1e-5)

    def test_cheapest_first_and_none_last(self) -> None:
        records = [record("original", "", hits(10)), record("a", "q1", hits(5), 5), record("b", "q1", hits(10), 40)]
        records.append(record("c", "q1", hits(10), 20))
        found = decide(records)["keep"]["0.95"]
        assert [(one["codec"], one["rate"]) for one in found] == [("c", 1.6), ("b", 3.2), ("a", None)]
        assert found[2]["note"] == "q1 keeps most, 50.0 %"
        assert (found[2]["case"], found[2]["rate_low"], found[2]["compression_ratio"]) == (None, None, None)

    def test_two_that_cost_the_same_share_being_cheapest(self) -> None:
        records = [record("original", "", hits(10)), record("a", "q1", hits(10), 5), record("b", "q1", hits(10), 5)]
        assert [one["cheapest"] for one in decide(records)["keep"]["0.95"]] == [0.5, 0.5]

    def test_a_scaled_ladder_is_a_codec_of_its_own(self) -> None:
        records = [record("original", "", hits(10)), record("jpeg", "q1", hits(10), 50), record("jpeg", "q1@0.5x", hits(10), 20)]
        assert [one["codec"] for one in decide(records)["keep"]["0.95"]] == ["jpeg@0.5x", "jpeg"]

    def test_a_ladder_that_falls_says_so(self) -> None:
        records = [record("original", "", hits(10)), record("jpeg", "q1", hits(10), 10), record("jpeg", "q2", hits(8), 20)]
        assert choice(decide(records), "jpeg")["note"] == "not monotone: q2 keeps 80.0 %; the lowest point that was measured"

    def test_clusters_are_drawn_whole(self) -> None:
        """Ten samples of each of four speakers, alike within one: of forty that were independent the interval would be far narrower."""
        generator = np.random.default_rng(3)
        sizes = [np.repeat(generator.uniform(50, 150, 4), 10).astype(int) for _ in range(2)]
        groups = [f"speaker {number // 10}" for number in range(40)]
        records = [
            record("original", "", hits(40, 40), 3000, groups=groups),
            *(record(codec, "q1", hits(40, 40), size, groups=groups) for codec, size in zip(("a", "b"), sizes, strict=True)),
        ]
        found = decide(records)
        assert (found["samples"], found["clusters"]) == (40, 4)
        for codec, size in zip(("a", "b"), sizes, strict=True):
            drawn = [8 * size[::10][row].sum() / 400 for row in draws(4, 1000)]
            one = choice(found, codec)
            assert (one["rate_low"], one["rate_high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), rel=1e-5)

    def test_a_floor_is_taken_off_in_every_resample(self) -> None:
        generator = np.random.default_rng(7)
        above = generator.uniform(3, 9, (12, 1, 1))
        mixture, original = generator.normal(0, 2, (12, 1, 1)), None
        original = mixture + above
        point = mixture + above * generator.uniform(0.85, 1.05, (12, 1, 1))
        records = [record("original", "", original, 3000, floors=mixture, metric=SDR()), record("opus", "6k", point, metric=SDR())]
        found = points_of(records)
        for row, drawn in enumerate([range(12), *draws(12, 1000)]):
            value, reference, floor = (np.median(one.ravel()[list(drawn)]) for one in (point, original, mixture))
            expected = (value - floor) / (reference - floor) if reference > floor else np.nan
            assert found.retentions[row, 0] == pytest.approx(expected, nan_ok=True)

    def test_the_interval_of_the_rate_covers(self) -> None:
        """Of one point that keeps everything, so that its mean rate is known."""
        generator, covered = np.random.default_rng(11), 0
        for _ in range(60):
            sizes = generator.gamma(4, 250, 100).astype(int)
            one = choice(decide([record("original", "", hits(100, 100)), record("jpeg", "q1", hits(100, 100), sizes)]), "jpeg")
            covered += one["rate_low"] <= 8 * 999.5 / 100 <= one["rate_high"]
        assert 0.87 <= covered / 60 <= 1  # 95 %, less three deviations of 60 trials


class TestFront:
    def test_holds_what_nothing_beats(self) -> None:
        values = {("a", "q1"): (5, 10), ("a", "q2"): (8, 30), ("b", "q1"): (5, 20), ("b", "q2"): (7, 25), ("c", "q1"): (9, 30)}
        records = [record(codec, quality, hits(right), size) for (codec, quality), (right, size) in values.items()]
        assert decide(records)["front"] == ["tried-a-q1", "tried-b-q2", "tried-c-q1"]

    def test_is_that_of_a_comparison_of_all_with_all(self, noisy: list[Record]) -> None:
        beaten = {
            one.case
            for one in noisy[1:]
            for other in noisy[1:]
            if (other.rate <= one.rate and other.value > one.value) or (other.rate < one.rate and other.value >= one.value)
        }
        expected = sorted((one for one in noisy[1:] if one.case not in beaten), key=lambda one: one.rate)
        assert decide(noisy)["front"] == [one.case for one in expected]


class TestWhatCannotBeDecided:
    def test_no_sample_in_common(self) -> None:
        records = [record("original", "", hits(2, 2), names="ab"), record("jpeg", "q1", hits(2, 2), names="cd")]
        found = decide(records)
        assert (found["samples"], found["note"], found["front"], found["bjontegaard"]) == (0, "no sample is at all points", [], [])
        assert found["keep"] == {"0.99": [], "0.98": [], "0.95": [], "0.9": []}

    def test_only_samples_that_all_have_count(self) -> None:
        records = [
            record("original", "", [1, 1, 1, 1], names="abcd"),
            record("jpeg", "q1", [1, 0, 1], [10, 20, 30], names="dxb"),
            record("webp", "q1", [0, 1, 1], [10, 20, 60], names="abd"),
        ]
        found = decide(records)
        assert found["samples"] == 2
        assert found["note"] == "over the samples that all points have, 2 samples fewer than the most of them"
        assert [(one["codec"], one["rate"]) for one in found["keep"]["0.99"]] == [("jpeg", 1.6), ("webp", 3.2)]

    def test_points_with_failed_samples_take_no_part(self) -> None:
        failed = record("jpeg", "q0", hits(10), 1, failures=[Failure("s11", "decode", "why")])
        found = decide([record("original", "", hits(10)), failed, record("jpeg", "q1", hits(10), 10)])
        assert choice(found, "jpeg")["quality"] == "q1"
        assert found["note"] == "left out: tried-jpeg-q0 (1 sample failed)"

    def test_a_point_without_a_value_takes_no_part(self) -> None:
        nothing = record("jpeg", "q0", [float("nan")] * 10, 1)
        found = decide([record("original", "", hits(10)), nothing, record("jpeg", "q1", hits(10), 10)])
        assert (choice(found, "jpeg")["quality"], found["note"]) == ("q1", "left out: tried-jpeg-q0 (no value)")
        assert decide([record("original", "", hits(10)), nothing])["note"] == "no point was measured without failed samples"

    @pytest.mark.parametrize("originals", [[record("original", "", hits(0))], []], ids=["at 0", "not measured"])
    def test_nothing_to_retain(self, originals: list[Record]) -> None:
        found = decide([*originals, record("a", "q1", hits(5), 5), record("a", "q2", hits(6), 10), record("b", "q1", hits(6), 9)])
        assert [(one["case"], one["note"]) for one in found["keep"]["0.95"]] == [
            (None, "there is nothing to retain: the originals score nothing or were not measured, or lower is better")
        ] * 2
        assert found["front"] == ["tried-a-q1", "tried-b-q1"]
        assert ("the originals were not measured" in found["note"]) is (not originals)

    def test_nothing_is_kept_of_what_is_better_the_lower_it_is(self) -> None:
        original, coded = record("original", "", [0.1] * 9, metric=Wrong()), record("jpeg", "q1", [0.3] * 9, 10, metric=Wrong())
        found = decide([original, coded])
        assert choice(found, "jpeg")["case"] is None
        assert found["note"] == "of trial_error lower is better, so that there is no share of it to keep"

    def test_one_sample_has_no_interval(self) -> None:
        found = decide([record("original", "", [1.0]), record("jpeg", "q1", [1.0], 10)])
        one = choice(found, "jpeg")
        assert (one["rate"], one["rate_low"], one["reached"], one["cheapest"], found["resamples"]) == (0.8, None, None, None, 0)

    def test_one_cluster_has_no_interval(self) -> None:
        groups = ["one"] * 4
        found = decide([record("original", "", hits(4, 4), groups=groups), record("jpeg", "q1", hits(4, 4), 10, groups=groups)])
        assert (found["samples"], found["clusters"], found["resamples"]) == (4, 1, 0)

    def test_a_metric_that_is_not_here(self) -> None:
        one = record("jpeg", "q1", hits(4, 4))
        gone = replace(one, metric="gone", metrics={"gone": one.metrics["top1"]})
        assert decide([gone])["note"] == "this mpq cannot take gone of other samples"

    def test_everything_is_json_without_nan(self, noisy: list[Record]) -> None:
        for records in (noisy, noisy[1:], noisy[:2], [noisy[0]], [record("jpeg", "q1", hits(0)), record("webp", "q1", hits(0))]):
            json.dumps(decide(records), allow_nan=False)


class TestValuesOfPoints:
    def test_whole_clusters_are_drawn(self) -> None:
        generator = np.random.default_rng(2)
        points = generator.integers(0, 2, (3, 12)).astype(float)
        groups = ["a", "b", "a", "", "c", "c", "b", "a", "", "d", "d", "d"]
        members = [[0, 2, 7], [1, 6], [3], [4, 5], [8], [9, 10, 11]]
        found = values_of_points(Top1(), [[np.array(one) for one in point] for point in points], 200, groups=groups)
        for row, drawn in zip(found[1:], draws(6, 200), strict=True):
            whole = [place for unit in drawn for place in members[unit]]
            np.testing.assert_allclose(row, points[:, whole].mean(axis=1))
