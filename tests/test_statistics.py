"""Resamples against scipy's bootstrap, numpy's draws and their own coverage; retention."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from trial_records import Wrong, record

from mpq_fixtures.metrics import Additive, Metric, Statistic
from mpq_fixtures.metrics.miou import MeanIoU
from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.si_sdr import SISDR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.word_accuracy import WordAccuracy
from mpq_fixtures.statistics.resampling import SEED, draws, resampled, resampled_values, values_of_points
from mpq_fixtures.statistics.retention import retention, retentions
from mpq_fixtures.suite import Threshold


def drawn(metric: Metric, samples: int, seed: int = 0) -> list[Statistic]:
    """Statistics such as the metric would keep."""
    generator = np.random.default_rng(seed)
    match metric:
        case Top1():
            return [np.array(float(hit)) for hit in generator.random(samples) < 0.8]
        case MeanIoU(classes=classes):
            confusions = [generator.integers(0, 90, (classes, classes)) + 900 * np.eye(classes) for _ in range(samples)]
            return [np.stack([matrix.sum(1), matrix.sum(0), np.diag(matrix)]) for matrix in confusions]
        case WordAccuracy():
            words = generator.integers(3, 20, samples)
            return [np.array([generator.binomial(count, 0.2), count], float) for count in words]
        case SDR():
            return [generator.normal(6, 3, (4, generator.integers(4, 9))) for _ in range(samples)]
        case SISDR():
            return [np.array([decibels, 1.0]) for decibels in generator.normal(12, 4, samples)]
    return [np.array(decibels) for decibels in generator.normal(30, 4, samples)]


def percentiles(
    metric: Metric,
    statistics: Sequence[Statistic],
    groups: Sequence[str] = (),
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = SEED,
) -> tuple[float, float]:
    """The percentile interval, which shows where resampled values lie."""
    (values,) = resampled([(metric, statistics)], groups, resamples, seed)
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


METRICS: list[Metric] = [Top1(), MeanIoU(4), WordAccuracy(), SDR(1), ImagePSNR(), SISDR()]
each_metric = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)


class TestResamples:
    @each_metric
    def test_have_scipys_percentile_interval(self, metric: Metric) -> None:
        statistics = [metric.condense(statistic) for statistic in drawn(metric, 60)]  # scipy's loop is slow enough

        def value(index: np.ndarray) -> float:
            return metric.value([statistics[i] for i in index])

        expected = scipy.stats.bootstrap(
            (np.arange(60),), value, vectorized=False, method="percentile", n_resamples=2000, rng=np.random.default_rng(1)
        ).confidence_interval
        low, high = percentiles(metric, statistics, resamples=2000)
        width = expected.high - expected.low
        assert low < metric.value(statistics) < high
        assert width > 0
        assert low == pytest.approx(expected.low, abs=0.15 * width)  # both carry the noise of 2000 resamples
        assert high == pytest.approx(expected.high, abs=0.15 * width)

    @each_metric
    def test_are_values_of_the_drawn_samples(self, metric: Metric) -> None:
        statistics = drawn(metric, 20)
        index = draws(20, 30)
        expected = [metric.value([statistics[i] for i in row]) for row in index]
        np.testing.assert_allclose(resampled_values(metric, statistics, index), expected, rtol=1e-12)

    def test_many_classes_are_taken_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        metric = MeanIoU(150)
        statistics = drawn(metric, 5)
        index = draws(5, 400)
        expected = [metric.value([statistics[i] for i in row]) for row in index]
        monkeypatch.setattr("mpq_fixtures.statistics.resampling.DRAWN", 5 * 37)
        np.testing.assert_allclose(resampled_values(metric, statistics, index), expected, rtol=1e-12)

    @pytest.mark.parametrize(("level", "margin"), [(0.95, 0.035), (0.80, 0.055)])
    def test_cover_the_truth_of_many_samples_as_often_as_they_say(self, level: float, margin: float) -> None:
        generator = np.random.default_rng(5)
        trials, metric = 400, ImagePSNR()
        hits = 0
        for _ in range(trials):
            low, high = percentiles(metric, list(generator.normal(30, 4, (80, 1)).reshape(80)), level=level, resamples=300)
            hits += low <= 30 <= high
        assert hits / trials == pytest.approx(level, abs=margin)

    def test_are_the_same_every_time(self) -> None:
        statistics = [np.array(float(number % 5 != 0)) for number in range(200)]
        assert percentiles(Top1(), statistics) == percentiles(Top1(), statistics)
        assert percentiles(Top1(), statistics) == pytest.approx((0.745, 0.855), abs=0.0051)  # the binomial's quantiles, within a hit

    def test_of_another_seed_are_others(self) -> None:
        statistics = drawn(ImagePSNR(), 50)
        assert percentiles(ImagePSNR(), statistics, seed=1) != percentiles(ImagePSNR(), statistics, seed=2)

    def test_do_not_depend_on_how_many_are_drawn_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        statistics = drawn(ImagePSNR(), 50)
        whole = percentiles(ImagePSNR(), statistics)
        monkeypatch.setattr("mpq_fixtures.statistics.resampling.DRAWN", 50 * 37)
        monkeypatch.setattr("mpq_fixtures.statistics.resampling.GATHERED", 190)
        assert percentiles(ImagePSNR(), statistics) == whole

    def test_the_draws_stay_what_they_were(self) -> None:
        index = draws(200, 1000)
        assert index[0, :8].tolist() == [23, 82, 153, 11, 126, 162, 123, 58]
        assert index[-1, -4:].tolist() == [166, 146, 104, 32]
        assert index.sum() == 19952050

    @each_metric
    def test_a_failed_sample_spoils_those_that_hold_it(self, metric: Metric) -> None:
        statistics = drawn(metric, 30)
        statistics[3] = np.full_like(statistics[3], -np.inf if isinstance(metric, SDR) else np.nan)
        (values,) = resampled([(metric, statistics)])
        assert np.isnan(values).tolist() == (draws(30, 1000) == 3).any(axis=1).tolist()

    def test_are_nan_without_a_value(self) -> None:
        statistics = [np.array([0.0, 0.0]), np.array([1.0, 4.0]), np.array([0.0, 4.0])]  # one without words
        (values,) = resampled([(WordAccuracy(), statistics)])
        assert np.isnan(values).tolist() == (draws(3, 1000) == 0).all(axis=1).tolist()
        assert (np.nanmin(values), np.nanmax(values)) == (0.75, 1.0)


def in_groups(groups: int, seed: int, most: int = 9) -> tuple[list[Statistic], list[str]]:
    """Hits of speakers with few or many samples each, whose own accuracies are far apart: 0.5 on average."""
    generator = np.random.default_rng(seed)
    statistics: list[Statistic] = []
    names: list[str] = []
    for group in range(groups):
        count, accuracy = int(generator.integers(1, most + 1)), generator.beta(0.5, 0.5)
        statistics += [np.array(float(hit)) for hit in generator.random(count) < accuracy]
        names += [f"speaker {group}"] * count
    return statistics, names


class TestGroups:
    @each_metric
    def test_of_one_sample_each_change_nothing(self, metric: Metric) -> None:
        statistics = drawn(metric, 40)
        alone = percentiles(metric, statistics)
        assert percentiles(metric, statistics, groups=[""] * 40) == alone
        assert percentiles(metric, statistics, groups=[f"speaker {number}" for number in range(40)]) == alone
        assert percentiles(metric, statistics, groups=["a", *[""] * 39]) == alone

    @each_metric
    def test_are_drawn_whole_as_scipys_bootstrap_over_groups(self, metric: Metric) -> None:
        statistics = [metric.condense(statistic) for statistic in drawn(metric, 60)]
        sizes = [1, 2, 3, 4, 5] * 4
        names = [str(group) for group, size in enumerate(sizes) for _ in range(size)]
        order = np.random.default_rng(3).permutation(60)  # the samples of a group need not stand together
        statistics, names = [statistics[i] for i in order], [names[i] for i in order]

        def value(index: np.ndarray) -> float:
            return metric.value([one for group in index for one, name in zip(statistics, names, strict=True) if name == str(group)])

        expected = scipy.stats.bootstrap(
            (np.arange(len(sizes)),), value, vectorized=False, method="percentile", n_resamples=2000, rng=np.random.default_rng(1)
        ).confidence_interval
        low, high = percentiles(metric, statistics, resamples=2000, groups=names)
        width = expected.high - expected.low
        assert low == pytest.approx(expected.low, abs=0.15 * width)
        assert high == pytest.approx(expected.high, abs=0.15 * width)

    def test_have_the_width_of_the_sandwich_estimator(self) -> None:
        statistics, names = in_groups(150, 7)
        hits = np.array(statistics)
        sums = {name: 0.0 for name in names}
        for hit, name in zip(hits - hits.mean(), names, strict=True):
            sums[name] += hit
        error = np.sqrt(np.square(list(sums.values())).sum()) / len(hits)  # Liang and Zeger 1986, of a mean
        low, high = percentiles(Top1(), statistics, resamples=4000, groups=names)
        assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)
        naive = percentiles(Top1(), statistics, resamples=4000)
        assert naive[1] - naive[0] < 0.75 * (high - low)

    def test_cover_the_truth_as_often_as_it_is_said_where_lone_samples_do_not(self) -> None:
        trials, whole, lone = 300, 0, 0
        for trial in range(trials):
            statistics, names = in_groups(60, 100 + trial)
            low, high = percentiles(Top1(), statistics, resamples=300, groups=names)
            whole += low <= 0.5 <= high
            low, high = percentiles(Top1(), statistics, resamples=300)
            lone += low <= 0.5 <= high
        assert whole / trials == pytest.approx(0.95, abs=0.04)
        assert lone / trials < 0.85

    def test_of_unlike_sizes_are_summed_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        metric = MeanIoU(150)
        statistics, names = drawn(metric, 12), [*"aaaaabbbcc", "", ""]
        whole = percentiles(metric, statistics, groups=names)
        monkeypatch.setattr("mpq_fixtures.statistics.resampling.DRAWN", 5 * 37)
        assert percentiles(metric, statistics, groups=names) == pytest.approx(whole, rel=1e-12)

    def test_must_be_as_many_as_samples(self) -> None:
        with pytest.raises(ValueError, match="2 groups do not fit 3 samples"):
            resampled([(Top1(), [np.array(1.0)] * 3)], groups=["a", "b"])


def plainly(metric: Metric, statistics: list[Statistic], groups: list[str]) -> list[float]:
    """The values as they are defined: numpy's own draws, numpy's own sums, one resample after the other."""
    members = list({group or str(number): [] for number, group in enumerate(groups)}.items())
    for number, group in enumerate(groups):
        dict(members)[group or str(number)].append(number)
    units = [own for _, own in members]
    values = []
    for row in np.random.RandomState(2401).randint(0, len(units), size=(1000, len(units)), dtype=np.int64):
        drawn = [units[unit] for unit in row]
        if isinstance(metric, Additive):
            sums = np.stack([np.stack([statistics[number] for number in own]).sum(axis=0) for own in drawn])
            values.append(float(metric.score(sums.sum(axis=0), sum(map(len, drawn)))))
        else:
            values.append(metric.value([statistics[number] for own in drawn for number in own]))
    return values


class TestMetricsTogether:
    @pytest.mark.parametrize("groups", [[""] * 70, [*"aabbcccccccccccccddd", *[""] * 50]], ids=["samples", "groups"])
    def test_have_the_values_of_the_definition_to_the_last_digit(self, groups: list[str]) -> None:
        metrics = [*METRICS, SISDR(), SISDR()]
        pairs = [(metric, drawn(metric, 70, seed)) for seed, metric in enumerate(metrics)]
        for values, (metric, statistics) in zip(resampled(pairs, groups), pairs, strict=True):
            assert values.tolist() == plainly(metric, statistics, groups)

    def test_may_be_stacked(self) -> None:
        pairs = [(metric, drawn(metric, 40)) for metric in METRICS if isinstance(metric, Additive)]
        stacked = resampled([(metric, np.stack(statistics)) for metric, statistics in pairs])
        assert all(map(np.array_equal, stacked, resampled(pairs)))

    def test_have_the_same_samples(self) -> None:
        with pytest.raises(ValueError, match=r"\[3, 4\]"):
            resampled([(Top1(), drawn(Top1(), 3)), (Top1(), drawn(Top1(), 4))])

    @pytest.mark.parametrize("samples", [1, 2, 3, 64, 65, 1000, 40_000, 65_536, 65_537])
    def test_draw_what_numpy_draws(self, samples: int) -> None:
        expected = np.random.RandomState(7).randint(0, samples, size=(5, samples), dtype=np.int64)
        assert np.array_equal(draws(samples, 5, seed=7), expected)

    def test_take_no_more_memory_for_more_resamples(self) -> None:
        generator = np.random.default_rng(0)
        pairs = [(Top1(), np.rint(generator.random(20_000))), (SISDR(), np.stack([generator.random(20_000), np.ones(20_000)], axis=1))]
        tracemalloc.start()
        resampled(pairs, resamples=2500)  # 50 million indices, 400 MB at once
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64e6


class TestValuesOfPoints:
    @each_metric
    def test_are_those_of_the_same_resamples_at_every_point(self, metric: Metric) -> None:
        points = [drawn(metric, 30, seed) for seed in range(12)]
        index = np.random.RandomState(2401).randint(0, 30, size=(20, 30), dtype=np.int64)
        expected = [[metric.value([point[i] for i in row]) for point in points] for row in (range(30), *index)]
        np.testing.assert_allclose(values_of_points(metric, points, resamples=20), expected, rtol=1e-12)

    def test_of_silent_stems_are_those_of_the_others(self) -> None:
        tracks = [np.array([[np.nan, 3.0], [1.0, 2.0]]), np.full((2, 2), np.nan), np.array([[4.0, 6.0], [np.nan, np.nan]])]
        index = draws(3, 50)
        with np.errstate(invalid="ignore"):
            expected = [SDR(1).value([tracks[i] for i in row]) for row in index]
        np.testing.assert_array_equal(resampled_values(SDR(1), tracks, index), expected)


class TestRetention:
    def test_is_the_share_that_is_left(self) -> None:
        assert retention(0.72, 0.96) == pytest.approx(0.75)
        assert retention(0.0, 0.5) == 0

    def test_is_none_where_lower_is_better(self) -> None:
        """An error that grew to two and a half times what it was keeps nothing that a threshold could hold."""
        assert math.isnan(retention(0.25, 0.1, higher_is_better=False))
        original, coded = record([0.1] * 50, metric=Wrong()), record([0.2] * 25 + [0.3] * 25, metric=Wrong(), quality="q10")
        coded.relate_to(original)
        assert np.isnan([coded.retention, coded.retention_low, coded.retention_high]).all()
        assert not Threshold("retention", ">=", 0.95).holds(coded.retention)

    def test_of_many_is_that_of_each(self) -> None:
        values, references, floors = np.random.default_rng(0).normal(0, 1, (3, 40))
        each = [retention(*three) for three in zip(values, references, floors, strict=True)]
        np.testing.assert_array_equal(retentions(values, references, floors), each)

    def test_is_taken_above_the_floor(self) -> None:
        assert retention(2.5, 10.0, floor=-5.0) == pytest.approx(0.5)
        assert retention(-5.0, 10.0, floor=-5.0) == 0
        assert retention(-6.5, 10.0, floor=-5.0) == pytest.approx(-0.1)

    @pytest.mark.parametrize(
        ("value", "reference", "floor"),
        [(1, 0, None), (1, -1, None), (1, 2, 2), (1, 2, 3), (math.nan, 1, None), (1, math.nan, None), (1, 2, math.nan)],
    )
    def test_is_nan_where_nothing_can_be_retained(self, value: float, reference: float, floor: float | None) -> None:
        assert math.isnan(retention(value, reference, floor))
