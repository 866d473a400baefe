"""Verdicts: what fails a case, what is only said, and in which words."""

from __future__ import annotations

import math
from dataclasses import replace

from scipy.stats import poisson
from trial_records import EVALUATION, hits, record

from mpq_fixtures.gate.comparison import Comparison, compare, margins_of
from mpq_fixtures.gate.measured import Measured, of_record
from mpq_fixtures.gate.pooling import level_of_case
from mpq_fixtures.gate.rates import RateChange, pool_rates
from mpq_fixtures.gate.verdict import IMPROVED, NEW, RATE, REGRESSED, SAME, UNDERPOWERED, Rules, Verdict, judge
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.mean_average_precision import MeanAveragePrecision
from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.word_accuracy import WordAccuracy
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.rows import Failure
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.suite import Case, Threshold

APPROVE = "pytest evaluations --mpq-case x --mpq-update-baselines"
CASES = 100
"""In a run of so many, one case is judged at 5e-5."""


def held(before: Record, now: Record, metric: Metric | None = None, cases: int = CASES, **margins: float) -> Comparison:
    metric = metric or Top1()
    return compare(of_record(before), of_record(now), metric, margins_of(now.metrics, now.metric, margins), level_of_case(cases))


def judged(before: Record, now: Record, metric: Metric | None = None, rules: Rules | None = None, **margins: float) -> Verdict:
    return judge(now, held(before, now, metric, **margins), [], rules or Rules(APPROVE), level_of_case(CASES))


class TestValue:
    """Top-1 may fall by .02: by 10 of 500 samples."""

    def test_that_did_not_move_is_the_same(self) -> None:
        assert judged(record(hits(480, 20)), record(hits(480, 20))) == Verdict(SAME)

    def test_that_fell_by_five_points_is_red(self) -> None:
        verdict = judged(record(hits(480, 20)), record(hits(455, 45)))
        assert verdict.name == REGRESSED
        assert verdict.faults[0].startswith("top1 0.9100, approved 0.9600: -0.0500 accuracy [")
        assert "25 of 500 samples fell, 0 rose, margin 0.02" in verdict.faults[0]
        assert verdict.faults[-1] == f"to accept the new values: {APPROVE}"

    def test_that_rose_is_improved_and_passes(self) -> None:
        verdict = judged(record(hits(455, 45)), record(hits(480, 20)))
        assert (verdict.name, verdict.passes) == (IMPROVED, True)

    def test_that_moved_within_the_margin_is_the_same(self) -> None:
        assert judged(record(hits(4800, 200)), record(hits(4790, 210))).name == SAME

    def test_of_too_few_samples_cannot_be_told_and_says_how_many_would_do(self) -> None:
        verdict = judged(record(hits(24, 1)), record(hits(23, 2)))
        assert (verdict.name, verdict.passes) == (UNDERPOWERED, True)
        assert "cannot tell whether that is more than the margin, 0.02" in verdict.notes[0]
        assert "25 samples show a fall from" in verdict.notes[0]

    def test_of_one_group_cannot_be_told_and_says_so(self) -> None:
        before, now = record(hits(500, 0)), record(hits(0, 500))
        for one in (before, now):
            one.rows = Rows.of([replace(row, group="one speaker") for row in one.rows])
        verdict = judged(before, now)
        assert (verdict.name, verdict.passes) == (UNDERPOWERED, True)
        assert verdict.notes[0] == (
            "top1 0.0000, approved 1.0000: -1.0000 accuracy; 500 of 500 samples fell, 0 rose; "
            "cannot tell whether that is more than the margin, 0.02; "
            "the 500 samples are of one group, which tells nothing of others, and no fall would be found: measure other groups too"
        )
        assert not judged(before, now, rules=Rules(APPROVE, underpowered_fails=True)).passes

    def test_of_too_few_samples_fails_where_the_suite_says_so(self) -> None:
        rules = Rules(APPROVE, underpowered_fails=True)
        assert not judged(record(hits(24, 1)), record(hits(23, 2)), rules=rules).passes
        assert judged(record(hits(2400, 100)), record(hits(2395, 105)), rules=rules).passes

    def test_that_collapsed_is_red_however_few_the_samples(self) -> None:
        # Five independent turns at 1 % each, by hand: 1e-10.
        assert poisson.sf(4, 0.05) < level_of_case(CASES)
        assert judged(record(hits(5, 0)), record(hits(0, 5))).name == REGRESSED

    def test_has_the_margin_of_the_suite(self) -> None:
        assert judged(record(hits(480, 20)), record(hits(455, 45)), value=0.08).passes

    def test_that_is_no_number_is_red(self) -> None:
        broken = record([*hits(9, 0), math.nan])
        assert judged(record(hits(10, 0)), broken).name == REGRESSED

    def test_of_graded_scores_is_held_by_its_samples(self) -> None:
        before = record([[n % 3, 10] for n in range(200)], metric=WordAccuracy())
        worse = record([[n % 3 + (n % 2), 10] for n in range(200)], metric=WordAccuracy())
        verdict = judged(before, worse, WordAccuracy())
        assert verdict.name == REGRESSED
        assert "100 of 200 samples fell" in verdict.faults[0]
        assert judged(before, before, WordAccuracy()).name == SAME

    def test_that_fell_though_no_sample_did_is_red(self) -> None:
        """Finds of one class below a false one of another picture: a precision of a half or less, where it was one."""

        def ranked(right: float, wrong: float) -> Record:
            found = [[0, 1, 0, 0, 0], [0, 0, right, 1023, 0]]
            other = [[1, 1, 0, 0, 0], [1, 0, 0.9, 1023, 0], [0, 0, wrong, 0, 1023]]
            return record([found, other] * 100, metric=MeanAveragePrecision())

        verdict = judged(ranked(0.9, 0.1), ranked(0.3, 0.8), MeanAveragePrecision())
        assert verdict.name == REGRESSED
        assert verdict.faults[0].startswith("map 0.7500, approved 1.0000: -0.2500 AP [")


class TestRate:
    def test_that_rose_by_more_than_a_hundredth_is_a_verdict_of_its_own(self) -> None:
        verdict = judged(record(hits(9, 1)), record(hits(9, 1), size=101.1))
        assert (verdict.name, verdict.passes) == (RATE, False)
        assert "+1.1%, margin 0.01" in verdict.faults[0]

    def test_that_rose_by_less_passes(self) -> None:
        assert judged(record(hits(9, 1)), record(hits(9, 1), size=100.9)).passes

    def test_that_fell_is_improved(self) -> None:
        assert judged(record(hits(9, 1)), record(hits(9, 1), size=98)).name == IMPROVED

    def test_has_the_margin_of_the_suite(self) -> None:
        assert judged(record(hits(9, 1)), record(hits(9, 1), size=101.1), rate=0.02).passes

    def test_of_a_codec_s_cases_together_may_rise_by_half_of_that(self) -> None:
        (drift,) = pool_rates([RateChange(f"c{n}", "jpeg", 1.0, 1.008, 0.01) for n in range(3)])
        assert drift.fails
        assert str(drift) == "jpeg, 3 cases together: rate +0.8 % on average, margin 0.5 %"
        assert not pool_rates([RateChange(f"c{n}", "jpeg", 1.0, 1.004, 0.01) for n in range(3)])[0].fails
        assert pool_rates([RateChange("c", "jpeg", 1.0, 1.008, 0.01)]) == []


class TestSimilarity:
    def test_that_fell_in_every_sample_is_red_though_the_model_does_not_mind(self) -> None:
        verdict = judged(record(hits(9, 1)), record(hits(9, 1), psnr=29.7))
        assert verdict.name == REGRESSED
        assert verdict.faults[0].startswith("psnr 29.7, approved 30: decoded signals are further from the originals by 0.3, margin 0.05")

    def test_of_signals_that_are_no_numbers_is_red_though_the_model_does_not_mind(self) -> None:
        verdict = judged(record(hits(9, 1)), record(hits(9, 1), psnr=math.nan))
        assert verdict.faults[:2] == (
            "psnr is nan: decoded signals, or what it makes of them, are no numbers",
            "psnr has no value any more for 10 of 10 samples",
        )

    def test_that_no_sample_has_any_more_is_red_and_said(self) -> None:
        unmeasurable = record(hits(9, 1))
        rows = [replace(row, scores={"top1": row.scores["top1"]}, further={}, unmeasured={"psnr": "silence"}) for row in unmeasurable.rows]
        now = summarise(Case(EVALUATION, "jpeg", "q5"), Rows.of(rows), [], Top1(), [ImagePSNR()])
        verdict = judged(record(hits(9, 1)), now)
        assert verdict.name == REGRESSED
        assert verdict.faults[0] == "psnr has no value any more for 10 of 10 samples"

    def test_that_this_machine_lacks_is_said_and_fails_when_strict(self) -> None:
        before = record(hits(9, 1))
        rows = [replace(row, scores={"top1": row.scores["top1"]}, further={}) for row in before.rows]
        lacking = {ImagePSNR(): "psnr is not installed"}
        now = summarise(Case(EVALUATION, "jpeg", "q5"), Rows.of(rows), [], Top1(), [], lacking)
        assert judged(before, now).notes == ("approved with psnr, not measured now; under --mpq-strict that fails",)
        assert not judged(before, now, rules=Rules(APPROVE, strict=True)).passes

    def test_within_its_margin_passes(self) -> None:
        assert judged(record(hits(9, 1)), record(hits(9, 1), psnr=29.96)).passes
        assert judged(record(hits(9, 1)), record(hits(9, 1), psnr=29.7), psnr=0.5).passes

    def test_that_is_not_measured_any_more_is_said_and_fails_when_strict(self) -> None:
        before, now = record(hits(9, 1)), record(hits(9, 1))
        del now.metrics["psnr"]
        assert judged(before, now).notes == ("approved with psnr, not measured now; under --mpq-strict that fails",)
        assert judged(before, now, rules=Rules(APPROVE, strict=True)).faults[0] == "approved with psnr, not measured now"


class TestSamples:
    def test_that_lack_are_said_and_fail_when_strict(self) -> None:
        before, now = record(hits(60, 0)), record(hits(5, 0))
        assert judged(before, now).notes == (
            "55 (s5, s6, s7, ...) of the 60 approved samples were not measured; under --mpq-strict that fails",
        )
        strict = judged(before, now, rules=Rules(APPROVE, strict=True))
        assert strict.faults[0] == "55 (s5, s6, s7, ...) of the 60 approved samples were not measured"
        assert judged(before, now, rules=Rules(APPROVE, strict=True, some_samples=True)).passes

    def test_that_were_never_approved_are_red(self) -> None:
        verdict = judged(record(hits(5, 0)), record(hits(6, 0)))
        assert verdict.faults[0] == "1 (s5) of the 6 samples were never approved, or have another source now"

    def test_are_paired_by_id_whatever_their_order(self) -> None:
        before, now = record([1, 1, 0, 0]), record([1, 1, 0, 0])
        assert judged(before, replace(now, rows=Rows.of(list(now.rows)[::-1]))).name == SAME

    def test_with_another_source_are_other_samples(self) -> None:
        before, now = record(hits(4, 0)), record(hits(4, 0))
        first, second, *others = now.rows
        now.rows = Rows.of([first, replace(second, source="f" * 64), *others])
        comparison = held(before, now)
        assert (list(comparison.shared), list(comparison.lacking), list(comparison.unapproved)) == (["s0", "s2", "s3"], ["s1"], ["s1"])
        assert not judged(before, now).passes

    def test_of_which_none_is_shared_are_red(self) -> None:
        assert not judged(record(hits(5, 0)), record(hits(5, 0), first=5)).passes

    def test_that_all_failed_are_not_to_be_approved(self) -> None:
        before, failed = record(hits(9, 1)), record([])
        failed.failures = [Failure(row.sample, "encode", "no disc") for row in before.rows]
        verdict = judged(before, failed)
        assert verdict.name == REGRESSED
        assert verdict.faults[-1] == "not one of the approved samples was measured"


class TestUnlike:
    def test_metrics_or_settings_are_red(self) -> None:
        before, now = of_record(record(hits(4, 0))), of_record(record(hits(4, 0)))
        margins = margins_of(record(hits(4, 0)).metrics, "top1", {})

        def of(old: Measured, new: Measured) -> str:
            return compare(old, new, Top1(), margins, 0.01).unlike

        assert of(before, now) == ""
        assert of(replace(before, version=0), now) == "scored by top1 in version 0 before, and by top1 in version 1 now"
        assert of(replace(before, settings={"ignored": 0}), replace(now, settings={"ignored": None})) == (
            "scored with ignored = 0 before, and with ignored = None now"
        )
        assert of(replace(before, settings=None), replace(now, settings={"ignored": None})) == ""


class TestWithoutBaseline:
    def test_is_new(self) -> None:
        assert judge(record(hits(2, 2)), None, [], Rules(APPROVE), 0.01) == Verdict(NEW)

    def test_fails_when_strict_unless_this_run_approves(self) -> None:
        verdict = judge(record(hits(2, 2)), None, [], Rules(APPROVE, strict=True), 0.01)
        assert verdict.faults == (f"no baseline; approve one: {APPROVE}=new",)
        assert judge(record(hits(2, 2)), None, [], Rules(APPROVE, strict=True, approving="new"), 0.01).passes


class TestByItself:
    def test_a_record_fails_by_its_failures_and_its_thresholds(self) -> None:
        broken = replace(record(hits(3, 1)), failures=[Failure("s7", "decode", "ValueError: no stream")])
        verdict = judge(broken, None, [Threshold("value", ">=", 0.8), Threshold("rate", "<=", 9.0)], Rules(APPROVE), 0.01)
        assert verdict.faults == (
            "1 of 5 samples failed; the first is 's7', at decode: ValueError: no stream",
            "threshold of the suite missed: value >= 0.8, measured 0.75",
        )

    def test_a_run_that_approves_passes_what_it_accepts(self) -> None:
        verdict = judged(record(hits(480, 20)), record(hits(400, 100)), rules=Rules(APPROVE, approving="all"))
        assert (verdict.name, verdict.passes) == (REGRESSED, True)
        assert not judged(record(hits(480, 20)), record(hits(400, 100)), rules=Rules(APPROVE, approving="new")).passes
