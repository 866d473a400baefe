"""The gate by its figures: at most one quiet night in a hundred is red, and the faults that are promised to be found are found.

The simulations are those of ``benchmarks/gate_figures.py``, which prints what they give.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from gate_figures import (
    BOTH,
    NIGHT,
    NONE,
    POCKET,
    Suite,
    faults_in_hits,
    faults_in_ladders,
    faults_in_sounds,
    quiet_nights,
    read_points,
    smallest_fall,
    synthetic_points,
)

FALSE_ALARMS = 0.01
FOUND = 0.95


@pytest.fixture(scope="module")
def pocket() -> Suite:
    return Suite(read_points(POCKET))


class TestQuietNights:
    @pytest.mark.parametrize("jitter", [NIGHT, BOTH])
    def test_of_the_pocket_are_seldom_red(self, pocket: Suite, jitter: str) -> None:
        assert len(pocket.points) > 100
        nights = quiet_nights(pocket, jitter)
        assert nights.nights == 1000
        assert nights.share("gate") <= FALSE_ALARMS
        assert nights.share("doubtful") > 0.5  # why a fall that may be luck is not red unless a suite asks for it

    @pytest.mark.parametrize("jitter", [NIGHT, BOTH])
    def test_of_speakers_that_move_together_are_seldom_red(self, jitter: str) -> None:
        nights = quiet_nights(Suite(synthetic_points()), jitter)
        assert nights.nights == 1000
        assert nights.share("gate") <= FALSE_ALARMS
        assert nights.share("ungrouped") > 10 * FALSE_ALARMS  # the clusters are what holds it

    def test_one_percent_of_the_answers_turn(self, pocket: Suite) -> None:
        generator = np.random.default_rng(0)
        turned = answers = 0
        for _ in range(20):
            for point, after in zip(pocket.points, pocket.night(generator, True), strict=True):
                if point.metric.name == "top1":
                    turned += int((after != point.statistics).sum())
                    answers += len(after)
        assert turned / answers == pytest.approx(0.01, abs=0.001)


class TestFaults:
    @pytest.mark.parametrize("jitter", [NONE, NIGHT])
    @pytest.mark.parametrize("exact", [True, False])
    def test_five_points_on_500_samples_are_found_in_a_run_of_100_cases(self, jitter: str, exact: bool) -> None:
        assert faults_in_hits(0.05, 500, jitter, exact).gate >= FOUND

    def test_most_are_found_where_the_baseline_turned_too(self) -> None:
        assert faults_in_hits(0.05, 500, BOTH, exact=True).gate >= 0.75  # McNemar's test knows nothing of how rare turns are

    @pytest.mark.parametrize("jitter", [NONE, NIGHT, BOTH])
    def test_two_points_over_a_ladder_are_found_though_each_is_within_its_margin(self, jitter: str) -> None:
        found = faults_in_ladders(0.02, 500, jitter, exact=True, repeats=300)
        assert found.gate >= FOUND
        assert found.alone < found.gate

    def test_no_case_of_the_ladder_is_red_by_itself(self) -> None:
        assert faults_in_ladders(0.02, 500, NONE, exact=True, repeats=300).alone == 0

    def test_two_points_on_average_take_1000_samples(self) -> None:
        assert faults_in_ladders(0.02, 1000, NONE, repeats=200).gate >= FOUND

    @pytest.mark.parametrize("scatter", [0.1, 0.3])
    def test_three_tenths_of_a_decibel_are_found_on_50_tracks(self, scatter: float) -> None:
        """Between neighbours on the pocket's ladders the tracks' changes scatter by 12 to 47 % of their mean, here by up to all of it."""
        assert faults_in_sounds(0.3, 50, scatter, repeats=400).gate >= FOUND

    def test_unpaired_tests_find_next_to_nothing(self) -> None:
        assert faults_in_hits(0.05, 500, NONE).welch < 0.05

    @pytest.mark.parametrize("samples", [100, 500])
    def test_the_smallest_fall_is_found_as_often_as_said(self, samples: int) -> None:
        found = faults_in_hits(smallest_fall(samples, 100), samples, NONE).gate
        assert found == pytest.approx(FOUND, abs=0.021)  # three standard errors of 1,000
