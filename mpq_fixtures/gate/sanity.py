"""What makes a run doubtful though nothing fails: a model that hears or sees nothing on the originals, and samples that are there twice.

No doubt is a verdict. A gate that compares a run with an earlier one cannot see what was wrong with both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpq_fixtures.chain import ANSWER, SIGNAL
from mpq_fixtures.metrics import Chance, Metric
from mpq_fixtures.record import Record
from mpq_fixtures.rows import Row

FEWEST = 3
"""Samples from which on something is said of the answers: two may be alike, or wrong, for no reason."""

_SHOWN = 3


def doubts(record: Record, metric: Metric) -> list[str]:
    """Return what there is to doubt about a record on the originals, a sentence each; ``metric`` is the task's, which scored it.

    The model answered the same for every sample, though their targets differ; or its value is not above chance, the best that an answer
    without a look at the signal reaches (`Metric.chance`, and where there is a floor, that): the record's 95 % interval reaches down to
    it. Or samples are copies of others.
    """
    rows = record.rows
    found = [sentence for sentence in (_same(record) or _chance(record, metric), _copied(rows)) if sentence]
    return found


def copies(rows: Sequence[Row]) -> list[list[str]]:
    """Return the ids of samples that are one and the same, signal and target: groups of two and more, in the order of the rows."""
    of_source: dict[str, list[str]] = {}
    for row in rows:
        if row.source:
            of_source.setdefault(row.source, []).append(row.sample)
    return [ids for ids in of_source.values() if len(ids) > 1]


def _same(record: Record) -> str:
    """Say that all answers are one, where what was wanted is not; of maps and stems it counts whether the signals are."""
    rows = record.rows
    answers = {row.chain.get(ANSWER) or row.prediction for row in rows}
    named = any(row.target for row in rows)
    wanted = {row.target if named else row.chain.get(SIGNAL) for row in rows}
    if len(rows) < FEWEST or len(answers) > 1 or answers == {""} or len(wanted) < 2:
        return ""
    answer = f", {rows[0].prediction!r}," if rows[0].prediction or named else ""
    what = f"{len(wanted)} different targets" if named else f"{len(wanted)} different signals"
    return f"the model gave the same answer{answer} for all {len(rows)} samples on the originals, which have {what}"


def _chance(record: Record, metric: Metric) -> str:
    """Say that the value is not above what an answer without a look at the signal reaches, or not by enough to tell."""
    measure, rows = record.metrics[record.metric], record.rows
    best = metric.chance([np.asarray(row.statistic, float) for row in rows], [row.target for row in rows])
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


def _copied(rows: Sequence[Row]) -> str:
    found = copies(rows)
    if not found:
        return ""
    count = sum(len(ids) - 1 for ids in found)
    shown = ", ".join(" and ".join(ids) for ids in found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
    are = "1 of {} samples is a copy of another" if count == 1 else f"{count} of {{}} samples are copies of others"
    return f"{are.format(len(rows))} (same source): {shown}"
