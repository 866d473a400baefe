"""Paired tests against published examples, scipy, exhaustive sums, permutations and what simulation gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats

from mpq_fixtures.gate.paired import (
    JITTER,
    Effect,
    cluster_mean,
    clusters_of,
    detectable_by_counts,
    effect_of,
    effect_of_shares,
    fewest_found,
    holm,
    interval_of_pairs,
    mcnemar_mid_p,
    needed_by_counts,
    p_of_counts,
    p_of_jitter,
    score_of_pairs,
    shares,
)
from mpq_fixtures.gate.pooling import CaseEffect, judge_run, level_of_case, p_of_wrong_turns
from mpq_fixtures.metrics import Metric, Statistic
from mpq_fixtures.metrics.mean_average_precision import MeanAveragePrecision
from mpq_fixtures.metrics.miou import MeanIoU
from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.si_sdr import SISDR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.word_accuracy import WordAccuracy

LEVEL = level_of_case(100)


def hits(text: str) -> list[Statistic]:
    return [np.array(float(letter)) for letter in text]


def alone(samples: Sequence[object]) -> list[str]:
    return [""] * len(samples)


def paired_effect(
    metric: Metric, before: Sequence[Statistic], after: Sequence[Statistic], groups: Sequence[str], margin: float, level: float
) -> Effect:
    return effect_of_shares(shares(metric, before, after), groups, margin, level)


class TestRightAndWrong:
    def test_interval_of_a_published_table(self) -> None:
        """Bentur et al. 2009, 21 patients of whom 1 and 7 changed: Fagerland, Lydersen and Laake 2014, table 7, Tango's interval."""
        assert interval_of_pairs(7, 1, 21) == pytest.approx((-0.517, -0.026), abs=0.0005)

    def test_interval_of_the_package_propcis(self) -> None:
        """``scoreci.mp(25, 28, 618, 0.9)`` of R's PropCIs."""
        low, high = interval_of_pairs(25, 28, 618, z=scipy.stats.norm.ppf(0.95))
        assert (low, high) == pytest.approx((-0.0148, 0.0247), abs=0.00005)

    @pytest.mark.parametrize(("fell", "rose", "samples"), [(7, 1, 21), (0, 3, 40), (30, 20, 60), (0, 0, 100), (5, 0, 5)])
    def test_interval_mirrors_and_holds_the_estimate(self, fell: int, rose: int, samples: int) -> None:
        low, high = interval_of_pairs(fell, rose, samples)
        assert -1 <= low <= (rose - fell) / samples <= high <= 1
        assert interval_of_pairs(rose, fell, samples) == pytest.approx((-high, -low), abs=1e-12)

    def test_score_without_a_difference_is_mcnemars(self) -> None:
        assert score_of_pairs(12, 5, 100, 0.0) == pytest.approx((12 - 5) / math.sqrt(12 + 5))

    def test_score_is_of_the_likeliest_share(self) -> None:
        """The share that falls, by a search over the likelihood of three counts."""
        rose, fell, samples, difference = 4, 11, 90, -0.03
        share = np.linspace(0.0301, 0.5, 100_000)
        likelihood = fell * np.log(share) + rose * np.log(share + difference) + 75 * np.log(1 - 2 * share - difference)
        best = share[likelihood.argmax()]
        variance = samples * (2 * best + difference - difference**2)
        expected = (rose - fell - samples * difference) / math.sqrt(variance)
        assert score_of_pairs(rose, fell, samples, difference) == pytest.approx(expected, abs=1e-4)

    def test_interval_covers_the_truth(self) -> None:
        generator = np.random.default_rng(0)
        counts = generator.multinomial(200, (0.06, 0.03, 0.91), size=4000)
        covered = [low <= -0.03 <= high for low, high in (interval_of_pairs(int(fell), int(rose), 200) for fell, rose, _ in counts)]
        assert np.mean(covered) == pytest.approx(0.95, abs=0.015)

    def test_mid_p_of_a_published_table(self) -> None:
        """The same patients: McNemar's exact test gives 0.070, mid-p 0.039 (Fagerland, Lydersen and Laake 2013, table 3), on two sides."""
        assert 2 * mcnemar_mid_p(7, 1) == pytest.approx(0.039, abs=0.0005)

    @pytest.mark.parametrize(("fell", "rose"), [(1, 0), (7, 1), (30, 5), (4, 9), (60, 12)])
    def test_mid_p_is_scipys_binomial_test_less_half_a_point(self, fell: int, rose: int) -> None:
        exact = scipy.stats.binomtest(fell, fell + rose, alternative="greater").pvalue
        expected = exact - scipy.stats.binom.pmf(fell, fell + rose, 0.5) / 2
        assert mcnemar_mid_p(fell, rose) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize(("fell", "samples"), [(1, 1), (3, 3), (5, 5), (16, 500), (40, 240)])
    def test_chance_of_jitter_is_scipys_binomial_test(self, fell: int, samples: int) -> None:
        expected = scipy.stats.binomtest(fell, samples, JITTER, alternative="greater").pvalue
        assert p_of_jitter(fell, samples) == pytest.approx(expected, rel=1e-9)

    def test_tiny_chances_are_right(self) -> None:
        assert p_of_jitter(5, 5) == pytest.approx(1e-10)
        expected = sum(math.comb(240, k) * 0.01**k * 0.99 ** (240 - k) for k in range(20, 241))
        assert p_of_jitter(20, 240) == pytest.approx(expected, rel=1e-9)
        assert p_of_jitter(20, 240) < 1e-12

    @pytest.mark.parametrize("samples", [20, 100, 500])
    @pytest.mark.parametrize("rate", [0.002, 0.01, 0.03, 0.1, 0.3])
    def test_is_held_when_answers_turn_both_ways(self, samples: int, rate: float) -> None:
        """Exact sums over all counts; mid-p may exceed the level by a little."""
        for level in (0.05, 0.005, LEVEL):
            assert self.chance_of_red(samples, rate, rate, level) <= 1.5 * max(level, self.without_a_rise(samples, rate, level))

    @pytest.mark.parametrize("samples", [5, 20, 100, 500])
    def test_is_held_when_answers_turn_one_way(self, samples: int) -> None:
        for level in (0.05, 0.005, LEVEL):
            assert self.chance_of_red(samples, JITTER, 0.0, level) <= level

    @staticmethod
    def chance_of_red(samples: int, falling: float, rising: float, level: float) -> float:
        """Return the exact chance: those that rise, and of the others as many falls as are found."""
        rose = np.arange(samples + 1)
        least = np.array([fewest_found(samples, int(count), 0.0, level) for count in rose])
        enough = scipy.stats.binom.sf(least - 1, samples - rose, falling / (1 - rising))
        return float(scipy.stats.binom.pmf(rose, samples, rising) @ enough)

    @staticmethod
    def without_a_rise(samples: int, rate: float, level: float) -> float:
        """The price of asking jitter alone where nothing rose: the chance that all who moved fell, and enough of them."""
        least = fewest_found(samples, 0, 0.0, level)
        none_rose = (1 - rate) ** samples
        return none_rose * float(scipy.stats.binom.sf(least - 1, samples, rate / (1 - rate)))

    def test_detectable_falls_are_found_in_four_of_five(self) -> None:
        fall = detectable_by_counts(300, 0, 0.02, LEVEL)
        fell = np.random.default_rng(1).binomial(300, fall, 20_000)
        found = [count > 6 and p_of_counts(int(count), 0, 300) <= LEVEL for count in fell]
        assert np.mean(found) == pytest.approx(0.8, abs=0.01)

    def test_needed_samples_are_enough_and_no_fewer(self) -> None:
        needed = needed_by_counts(0.0, 0.02, LEVEL)
        assert detectable_by_counts(needed, 0, 0.02, LEVEL) <= 0.04
        assert all(detectable_by_counts(fewer, 0, 0.02, LEVEL) > 0.04 for fewer in range(50, needed - 60))

    def test_a_fall_within_the_jitter_is_never_found(self) -> None:
        assert needed_by_counts(0.0, 0.0, LEVEL) == 0
        assert detectable_by_counts(1, 0, 0.02, LEVEL) == math.inf


class TestShares:
    @staticmethod
    def pair(metric: Metric, samples: int = 40) -> tuple[list[Statistic], list[Statistic]]:
        generator = np.random.default_rng(3)
        match metric:
            case Top1():
                sets = generator.integers(0, 2, (2, samples)).astype(float)
            case MeanIoU(classes=classes):
                both = generator.integers(0, 90, (2, samples, classes))
                sets = np.stack([both + 50, both + generator.integers(0, 60, both.shape), both], axis=2).astype(float)
            case WordAccuracy():
                words = generator.integers(3, 20, samples)
                sets = np.stack([np.stack([generator.binomial(words, rate), words], axis=1) for rate in (0.1, 0.3)]).astype(float)
            case SDR():
                sets = generator.normal(6, 3, (2, samples, 4, 5))
            case ImagePSNR():
                sets = generator.normal(30, 4, (2, samples))
            case _:
                sets = np.stack([generator.normal(30, 4, (2, samples)), np.ones((2, samples))], axis=2)
        return list(sets[0]), list(sets[1])

    @pytest.mark.parametrize("metric", [Top1(), MeanIoU(4), WordAccuracy(), SISDR(), ImagePSNR()], ids=lambda metric: metric.name)
    def test_their_mean_is_the_change_of_the_value(self, metric: Metric) -> None:
        before, after = self.pair(metric)
        assert shares(metric, before, after).mean() == pytest.approx(metric.value(after) - metric.value(before), rel=1e-9)

    @pytest.mark.parametrize("metric", [MeanIoU(4), WordAccuracy(), SDR(1)], ids=lambda metric: metric.name)
    def test_turn_with_the_direction(self, metric: Metric) -> None:
        before, after = self.pair(metric)
        np.testing.assert_allclose(shares(metric, before, after), -shares(metric, after, before), rtol=1e-9, atol=1e-12)

    def test_a_sample_that_did_not_change_has_none(self) -> None:
        before, after = self.pair(MeanIoU(4))
        after[:30] = before[:30]
        found = shares(MeanIoU(4), before, after)
        assert not found[:30].any()
        assert np.count_nonzero(found[30:]) == 10

    def test_two_samples_have_shapleys_values(self) -> None:
        metric = WordAccuracy()
        before, after = [np.array([1.0, 5]), np.array([2.0, 9])], [np.array([3.0, 5]), np.array([2.0, 4])]
        value = {
            flags: metric.value([(before, after)[flag][i] for i, flag in enumerate(flags)]) for flags in itertools.product((0, 1), (0, 1))
        }
        first = (value[1, 0] - value[0, 0] + value[1, 1] - value[0, 1]) / 2
        second = (value[0, 1] - value[0, 0] + value[1, 1] - value[1, 0]) / 2
        np.testing.assert_allclose(shares(metric, before, after), [2 * first, 2 * second])

    def test_of_words_spread_no_less_than_the_jackknifes(self) -> None:
        """Leaving out samples one by one takes long texts for part of the chance, which shares do not: they spread a little more."""
        metric = WordAccuracy()
        before, after = self.pair(metric, 200)
        ways = [[metric.value(kept[:i] + kept[i + 1 :]) for i in range(200)] for kept in (before, after)]
        jackknife = -199 * (np.array(ways[1]) - np.array(ways[0]))
        assert 1 <= shares(metric, before, after).std() / jackknife.std() < 1.2

    def test_lower_is_better_turns_them(self) -> None:
        class Distance(SISDR):
            higher_is_better = False

        assert shares(Distance(), [np.array([1.0, 1.0])], [np.array([2.0, 1.0])]) == -1

    def test_right_and_wrong_are_whole_numbers(self) -> None:
        before, after = self.pair(Top1(), 239)
        assert set(shares(Top1(), before, after)) == {-1.0, 0.0, 1.0}

    def test_samples_without_a_value_are_left_out(self) -> None:
        silent, loud, louder = np.full((4, 3), np.nan), np.full((4, 3), 5.0), np.full((4, 3), 5.5)
        found = shares(SDR(1), [silent, loud, loud, loud], [silent, louder, silent, loud])
        np.testing.assert_array_equal(found, [np.nan, 0.5, np.nan, 0.0])
        assert effect_of_shares(found, alone(found), 0.05, LEVEL).samples == 2
        failed = [np.array(1.0), np.array(np.nan), np.array(0.0)]
        np.testing.assert_array_equal(shares(Top1(), failed, hits("011")), [-1, np.nan, 1])

    def test_a_silent_original_has_no_share(self) -> None:
        before, after = [np.zeros(2), np.array([3.0, 1.0])], [np.zeros(2), np.array([2.0, 1.0])]
        np.testing.assert_allclose(shares(SISDR(), before, after), [0, -2])


class TestClusters:
    def test_numbers_leave_samples_without_a_group_alone(self) -> None:
        clusters = clusters_of(["a", "", "b", "a", ""])
        assert clusters is not None
        assert clusters.tolist() == [0, 1, 2, 0, 3]
        assert clusters_of(["a", "b", "", ""]) is None

    def test_of_one_sample_each_are_scipys_t_test(self) -> None:
        values = np.random.default_rng(0).normal(-0.02, 0.1, 40)
        expected = scipy.stats.ttest_1samp(values, -0.01, alternative="less")
        mean = cluster_mean(values, None)
        assert mean.p_below(-0.01) == pytest.approx(expected.pvalue)
        interval = scipy.stats.ttest_1samp(values, 0).confidence_interval()
        assert mean.interval() == pytest.approx((interval.low, interval.high))

    def test_of_equal_size_are_the_t_test_of_their_means(self) -> None:
        values = np.random.default_rng(1).normal(-0.02, 0.1, 60)
        mean = cluster_mean(values, np.repeat(np.arange(12), 5))
        assert mean.p_below(0.0) == pytest.approx(scipy.stats.ttest_1samp(values.reshape(12, 5).mean(axis=1), 0, alternative="less").pvalue)

    def test_agree_with_permutations(self) -> None:
        """Signs of whole clusters are turned at random."""
        generator = np.random.default_rng(2)
        clusters = np.repeat(np.arange(25), 4)
        values = generator.normal(size=25)[clusters] + generator.normal(-0.4, 1, 100)
        sums = np.bincount(clusters, values)
        turned = (generator.choice([-1, 1], (40_000, 25)) * sums).sum(axis=1)
        assert cluster_mean(values, clusters).p_below(0.0) == pytest.approx((turned <= sums.sum()).mean(), abs=0.01)

    def test_error_agrees_with_the_bootstrap_over_clusters(self) -> None:
        generator = np.random.default_rng(3)
        clusters = np.sort(generator.integers(0, 60, 400))
        clusters = np.unique(clusters, return_inverse=True)[1]
        values = generator.normal(size=60)[clusters] + generator.normal(size=400)
        sums, sizes = np.bincount(clusters, values), np.bincount(clusters)
        drawn = generator.integers(0, len(sums), (5000, len(sums)))
        means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
        assert cluster_mean(values, clusters).error == pytest.approx(means.std(), rel=0.06)

    def test_hold_their_level_where_a_naive_test_does_not(self) -> None:
        generator = np.random.default_rng(4)
        clusters = np.repeat(np.arange(20), 10)
        ours = naive = 0
        for _ in range(2000):
            values = generator.normal(size=20)[clusters] + generator.normal(size=200)
            ours += cluster_mean(values, clusters).p_below(0.0) <= 0.05
            naive += scipy.stats.ttest_1samp(values, 0, alternative="less").pvalue <= 0.05
        assert ours / 2000 == pytest.approx(0.05, abs=0.015)
        assert naive / 2000 > 0.15

    def test_detectable_falls_are_found_in_four_of_five(self) -> None:
        generator, margin, level = np.random.default_rng(5), 0.05, 1e-4
        fall = cluster_mean(generator.normal(0, 0.3, 10_000), None)
        error = fall.error * math.sqrt(10_000 / 60)
        detectable = type(fall)(0.0, error, 60).detectable(margin, level)
        found = 0
        for _ in range(2000):
            mean = cluster_mean(generator.normal(-detectable, 0.3, 60), None)
            found += mean.mean < -margin and mean.p_below(-margin / 2) <= level
        assert found / 2000 == pytest.approx(0.8, abs=0.05)


class TestPairedEffect:
    def test_counts_right_and_wrong(self) -> None:
        effect = paired_effect(Top1(), hits("1111100000"), hits("1110000001"), alone("0123456789"), 0.02, LEVEL)
        assert (effect.change, effect.samples, effect.clusters, effect.worse, effect.better) == (pytest.approx(-0.1), 10, 10, 2, 1)
        assert effect.p_worse == p_of_counts(2, 1, 10)
        assert effect.p_better == p_of_counts(1, 2, 10)
        assert (effect.low, effect.high) == interval_of_pairs(2, 1, 10)

    def test_five_of_five_that_turned_wrong_are_no_luck(self) -> None:
        assert paired_effect(Top1(), hits("11111"), hits("00000"), alone("11111"), 0.02, LEVEL).p_worse == pytest.approx(1e-10)

    def test_three_tracks_of_three_that_fell_are_no_luck(self) -> None:
        before = [np.full((4, 3), value) for value in (5.0, 7.0, 9.0)]
        after = [statistic - fall for statistic, fall in zip(before, (0.1, 3.0, 1.0), strict=True)]
        effect = paired_effect(SDR(1), before, after, alone(before), 0.05, LEVEL)
        assert effect.p_worse == pytest.approx(2e-6)
        assert effect.change == pytest.approx(-4.1 / 3)
        assert effect.p_better > 0.5

    def test_as_many_that_rose_as_fell_are(self) -> None:
        generator = np.random.default_rng(0)
        worst = [
            effect_of_shares(generator.permutation(np.repeat([-1.0, 1.0, 0.0], (25, 25, 450))), alone(range(500)), 0.02, LEVEL).p_worse
            for _ in range(3)
        ]
        assert min(worst) > 0.4

    def test_what_falls_one_way_rises_the_other(self) -> None:
        generator = np.random.default_rng(0)
        moved, groups = generator.normal(0.03, 0.1, 80), [f"g{n // 4}" for n in range(80)]
        up, down = effect_of_shares(moved, groups, 0.02, LEVEL), effect_of_shares(-moved, groups, 0.02, LEVEL)
        assert (up.change, up.low, up.high) == pytest.approx((-down.change, -down.high, -down.low))
        assert (up.p_better, up.worse, up.clusters) == (down.p_worse, down.better, 20)

    def test_shared_groups_leave_right_and_wrong_to_their_clusters(self) -> None:
        """One speaker's ten answers turned wrong: ten of 100 by themselves, one of ten together."""
        moved = np.repeat([-1.0] + [0.0] * 9, 10)
        by_speaker = effect_of_shares(moved, [f"speaker{n // 10}" for n in range(100)], 0.02, LEVEL)
        assert effect_of_shares(moved, alone(range(100)), 0.02, LEVEL).p_worse < 1e-7
        assert by_speaker.p_worse > 0.1
        assert by_speaker.clusters == 10

    @pytest.mark.parametrize("metric", [Top1(), SDR(1)], ids=lambda metric: metric.name)
    def test_nothing_changed(self, metric: Metric) -> None:
        before = hits("110") if isinstance(metric, Top1) else [np.full((4, 2), 3.0)] * 3
        effect = paired_effect(metric, before, before, alone(before), 0.02, LEVEL)
        assert (effect.change, effect.worse, effect.better, effect.p_worse, effect.p_better) == (0, 0, 0, 1, 1)

    @pytest.mark.parametrize("samples", [1, 2])
    def test_few_samples_are_no_proof(self, samples: int) -> None:
        before = [np.full((4, 2), 3.0)] * samples
        effect = paired_effect(SDR(1), before, [statistic - 0.5 for statistic in before], alone(before), 0.05, LEVEL)
        assert effect.change == -0.5
        assert effect.p_worse == pytest.approx(2 * JITTER**samples)
        assert math.isinf(effect.detectable) == (samples == 1)
        assert not effect.low > -0.05  # true of NaN: nothing is known of one sample's spread

    def test_no_values_are_no_effect(self) -> None:
        effect = paired_effect(Top1(), [np.array(np.nan)] * 4, hits("1111"), alone("1111"), 0.02, LEVEL)
        assert (effect.samples, effect.p_worse, effect.p_better, effect.needed) == (0, 1, 1, 0)
        assert math.isnan(effect.change)
        assert paired_effect(SDR(1), [], [], [], 0.05, LEVEL).samples == 0

    def test_all_fell_alike(self) -> None:
        before = [np.array([value, 1.0]) for value in range(40)]
        effect = paired_effect(SISDR(), before, [statistic - [0.3, 0] for statistic in before], alone(before), 0.05, LEVEL)
        assert effect.change == pytest.approx(-0.3)
        assert effect.p_worse < 1e-70


def ranked(right: float, wrong: float) -> list[Statistic]:
    """Pictures with an object that is found at a score of ``right``, and as many of another class with a false find at ``wrong``."""
    found = np.array([[0, 1, 0, 0, 0], [0, 0, right, 1023, 0]])
    other = np.array([[1, 1, 0, 0, 0], [1, 0, 0.9, 1023, 0], [0, 0, wrong, 0, 1023]])
    return [found, other] * 100


class TestValuesThatAreNoMeans:
    @staticmethod
    def effect(metric: Metric, before: Sequence[Statistic], after: Sequence[Statistic], level: float = LEVEL) -> Effect:
        was, is_now = metric.condense_all(before), metric.condense_all(after)
        groups = alone(before)
        return effect_of(metric, was, is_now, shares(metric, before, after), groups, metric.tolerance, level)

    def test_a_ranking_that_turned_fell_though_no_picture_did(self) -> None:
        """Every find of the first class below a false one: a precision of a half or less, where it was one."""
        effect = self.effect(MeanAveragePrecision(), ranked(0.9, 0.1), ranked(0.3, 0.8))
        assert effect.change == pytest.approx(-0.25)
        assert (effect.worse, effect.better) == (0, 0)
        assert effect.low < -0.25 < effect.high < -0.01
        assert effect.p_worse < LEVEL

    def test_a_median_fell_though_one_track_raised_the_mean(self) -> None:
        before = np.random.default_rng(1).normal(6, 1, 30)
        after = before - 0.5
        after[0] += 20
        effect = self.effect(SDR(1), before.reshape(-1, 1, 1), after.reshape(-1, 1, 1))
        assert effect.change == pytest.approx(np.median(after) - np.median(before))
        assert effect.p_worse < LEVEL

    def test_tracks_that_fell_though_the_median_did_not_are_found(self) -> None:
        before = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
        after = before - [0.1, 2, 2, 2, 2, 0, 2, 2, 2, 2, 2]
        after[[6, 7]] = before[[6, 7]] - 0.9
        effect = self.effect(SDR(1), before.reshape(-1, 1, 1), after.reshape(-1, 1, 1))
        assert np.median(after) - np.median(before) > (after - before).mean()
        assert effect.change == pytest.approx((after - before).mean())
        assert effect.p_worse < LEVEL

    def test_nothing_but_noise_is_red_no_more_often_than_promised(self) -> None:
        generator, level, red = np.random.default_rng(0), 0.05, 0
        for _ in range(200):
            before = generator.normal(6, 3, (30, 1, 1))
            effect = self.effect(SDR(1), before, before + generator.normal(0, 1, before.shape), level)
            red += effect.change < -0.05 and effect.p_worse <= level
        assert red <= scipy.stats.binom.ppf(0.999, 200, level)

    def test_of_one_track_or_group_nothing_is_known(self) -> None:
        effect = self.effect(SDR(1), [np.full((1, 1), 3.0)], [np.full((1, 1), 2.0)])
        assert effect.change == -1
        assert effect.p_worse > LEVEL


class TestHolm:
    def test_steps_down(self) -> None:
        """Holm 1979: 0.01 <= 0.05/4, 0.015 <= 0.05/3, 0.03 > 0.05/2."""
        assert holm([0.01, 0.04, 0.03, 0.015], 0.05) == [True, False, False, True]

    def test_refuses_what_is_no_number(self) -> None:
        assert holm([math.nan, 0.001], 0.05) == [False, True]
        assert holm([], 0.05) == []


def case(shares: Sequence[float], codec: str = "jpeg", quality: str = "q5", evaluation: str = "vit", **further: object) -> CaseEffect:
    moved = np.array(shares)
    fields: dict[str, object] = {
        "case": f"{evaluation}-{codec}-{quality}", "evaluation": evaluation, "codec": codec, "quality": quality, "metric": "top1",
        "margin": 0.02, "samples": [str(n) for n in range(len(moved))], "groups": [""] * len(moved), "shares": moved,
        "p_worse": 1.0,
    }  # fmt: skip
    return CaseEffect(**{**fields, "change": float(moved[~np.isnan(moved)].sum()) / len(moved), **further})  # type: ignore[arg-type]


def falls(count: int, samples: int, start: int = 0) -> list[float]:
    moved = np.zeros(samples)
    moved[start : start + count] = -1
    return moved.tolist()


class TestEndOfRun:
    def test_takes_further_steps(self) -> None:
        first, second = (case([0, -1.0], quality=quality, p_worse=p) for quality, p in (("q5", 0.001), ("q10", 0.004)))
        assert judge_run([first, second], 2).regressed == ["vit-jpeg-q5", "vit-jpeg-q10"]
        assert judge_run([second], 2).regressed == []  # 0.004 > 0.005 / 2
        assert judge_run([first, case([0, -0.01], quality="q10", p_worse=0.004)], 2).regressed == ["vit-jpeg-q5"]  # within its margin

    def test_sees_what_is_common_to_a_ladder(self) -> None:
        ladder = [case(falls(9, 500, 60 * number), quality=f"q{number}") for number in range(5)]
        judged = judge_run(ladder, 5)
        assert judged.regressed == []
        assert [(group.name, group.fails) for group in judged.groups] == [("vit-jpeg", True)]
        assert str(judged.groups[0]).startswith("vit-jpeg, 5 cases together: top1 -0.0180 on average (-0.0")
        assert judged.red

    def test_counts_a_sample_that_falls_everywhere_once(self) -> None:
        ladder = [case(falls(9, 500), quality=f"q{number}") for number in range(5)]
        (group,) = judge_run(ladder, 5).groups
        assert group.change == pytest.approx(-0.018)
        assert not group.fails

    def test_names_ladders_evaluations_and_codecs(self) -> None:
        points = [("vit", "jpeg", "q5"), ("vit", "jpeg", "q10"), ("vit", "webp", "q5"), ("vit", "original", ""), ("beans", "webp", "q5")]
        effects = [case([0, 0], codec, quality, evaluation) for evaluation, codec, quality in points]
        groups = judge_run(effects, 5).groups
        assert [(group.name, len(group.cases)) for group in groups] == [("vit-jpeg", 2), ("vit", 4), ("webp (top1)", 2)]

    def test_samples_of_other_evaluations_are_others(self) -> None:
        both = [case([-1.0, 0, 0, 0], evaluation=evaluation) for evaluation in ("vit", "beans")]
        (group,) = judge_run(both, 2).groups
        one = cluster_mean(np.array([-1.0, 0, 0, 0, -1, 0, 0, 0]), None)
        assert (group.low, group.high) == pytest.approx(one.interval())

    def test_pairs_by_sample_where_cases_lack_some(self) -> None:
        whole = case([-1.0, 0, 1, np.nan])
        part = case([-1.0, 0], quality="q10", samples=["2", "0"], groups=["", ""])
        (group,) = judge_run([whole, part], 2).groups
        expected = cluster_mean(np.array([-0.5, 0, 0]), None)  # of "0", "1" and "2"
        assert (group.change, group.low, group.high) == pytest.approx((expected.mean, *expected.interval()))

    def test_without_values_says_nothing(self) -> None:
        (group,) = judge_run([case([np.nan], change=np.nan), case([np.nan], quality="q10", change=np.nan)], 2).groups
        assert not group.fails
        assert group.p == 1

    @pytest.mark.parametrize(("samples", "groups"), [(100, ["one speaker"] * 100), (1, [""])])
    def test_tells_nothing_of_one_cluster(self, samples: int, groups: list[str]) -> None:
        """The cases of one speaker, a tenth of whose answers turned, say no more of others together than each of them does."""
        fallen = max(1, samples // 8)
        ladder = [case(falls(fallen, samples), quality=f"q{number}", groups=groups) for number in range(3)]
        judged = judge_run(ladder, 3)
        (group,) = judged.groups
        assert (group.change, group.p, group.fails, judged.red) == (pytest.approx(-fallen / samples), 1.0, False, False)

    def test_design_effect_of_turns_that_come_together(self) -> None:
        """Answers that turn in all five cases or in none count for a fifth each, as Rao and Scott have it."""
        table = np.tile(np.array(falls(9, 500)), (5, 1))
        assert p_of_wrong_turns(table, None) == pytest.approx(p_of_jitter(9, 500), rel=0.1)
        apart = np.array([falls(9, 500, 60 * number) for number in range(5)])
        assert p_of_wrong_turns(apart, None) == pytest.approx(p_of_jitter(45, 2500))

    def test_clusters_that_fell_whole_count_once(self) -> None:
        table, speakers = np.full((5, 200), -1.0), np.repeat(np.arange(2), 100)
        assert p_of_wrong_turns(table, speakers) == pytest.approx(JITTER**2)
        assert p_of_wrong_turns(table[:, :3], None) == pytest.approx(JITTER**3)
        assert p_of_wrong_turns(np.zeros((5, 200)), speakers) == 1

    def test_level_is_half_of_the_budget_over_the_cases(self) -> None:
        assert level_of_case(100) == pytest.approx(0.00005)
