"""What makes a run doubtful though nothing fails: a model that hears or sees nothing on the originals, and samples that are there twice.

No doubt is a verdict. A gate that compares a run with an earlier one cannot see what was wrong with both.
"""

from __future__ import annotations

from collections.abc import Sized

from mpq_fixtures.chain import ANSWER, SIGNAL
from mpq_fixtures.metrics import Chance, Metric
from mpq_fixtures.record import Record
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.rows.tables import SAMPLE
from mpq_fixtures.suite import OWN_ANSWERS

FEWEST = 3
"""Samples from which on something is said of the answers: two may be alike, or wrong, for no reason."""

_SHOWN = 3
"""Groups of copies that are named, and copies of each."""


def doubts(record: Record, metric: Metric) -> list[str]:
    """Return what there is to doubt about a record on the originals, a sentence each; ``metric`` is the task's, which scored it.

    The model answered the same for every sample, though their targets differ; or its value is not above chance, the best that an answer
    without a look at the signal reaches (`Metric.chance`, and where there is a floor, that): the record's 95 % interval reaches down to
    it. Or a model does not agree with itself, or samples are copies of others.
    """
    return [sentence for sentence in (_same(record) or _chance(record, metric), _itself(record), _copied(record.rows)) if sentence]


def _same(record: Record) -> str:
    """Say that all answers are one, where what was wanted is not; of maps and stems it counts whether the signals are."""
    rows = record.rows
    if len(rows) < FEWEST or not rows.all_alike(ANSWER, "prediction") or not rows.first(ANSWER, "prediction"):
        return ""
    named = not rows.all_alike("target") or bool(rows.first("target"))
    if (wanted := rows.different("target" if named else SIGNAL)) < 2:
        return ""
    said = rows.first("prediction")
    answer = f", {said!r}," if said or named else ""
    what = f"{wanted} different {'targets' if named else 'signals'}"
    return f"the model gave the same answer{answer} for all {len(rows)} samples on the originals, which have {what}"


def _itself(record: Record) -> str:
    """Say that a model does not agree with itself: what its answers to the originals are held against are these same answers."""
    measure = record.metrics[record.metric]
    best = measure.bounds[1 if measure.higher_is_better else 0]
    if measure.settings.get("targets") != OWN_ANSWERS or not len(record.rows) or measure.value == best:
        return ""
    return f"the originals held against themselves give {record.metric} {measure.value:.4g}, not {best:g}: the metric loses something"


def _chance(record: Record, metric: Metric) -> str:
    """Say that the value is not above what an answer without a look at the signal reaches, or not by enough to tell."""
    measure, rows = record.metrics[record.metric], record.rows
    best = metric.chance(rows.statistics(), rows.texts("target"))
    sign = 1 if measure.higher_is_better else -1
    if record.floor is not None and (best is None or sign * record.floor > sign * best.value):
        best = Chance(record.floor, "the signal itself")
    nearest = measure.ci_low if measure.higher_is_better else measure.ci_high
    # Without an interval, as of two samples or where the value is no number, nothing is said.
    if best is None or len(rows) < FEWEST or not sign * nearest <= sign * best.value:
        return ""
    beaten = sign * measure.value > sign * best.value
    says = f"cannot be told from chance with {len(rows)} samples" if beaten else "is no better than chance"
    interval = f"{measure.ci_low:.4g} to {measure.ci_high:.4g}"
    return f"{record.metric} {measure.value:.4g} ({interval}) on the originals {says}: {best.answer} reaches {best.value:.4g}"


def _copied(rows: Rows) -> str:
    """Say which samples are one and the same, signal and target."""
    groups = rows.copies()
    if not groups:
        return ""
    count, groups = sum(len(places) - 1 for places in groups), groups[: _SHOWN + 1]
    ids = rows.texts_at(SAMPLE, (int(place) for places in groups for place in places[:_SHOWN]))
    alike = [" and ".join([ids[int(place)] for place in places[:_SHOWN]] + _more(places)) for places in groups[:_SHOWN]]
    shown = ", ".join([*alike, *(["..."] if len(groups) > _SHOWN else [])])
    are = "1 of {} samples is a copy of another" if count == 1 else f"{count} of {{}} samples are copies of others"
    return f"{are.format(len(rows))} (same source): {shown}"


def _more(places: Sized) -> list[str]:
    return [f"{len(places) - _SHOWN} more"] if len(places) > _SHOWN else []
