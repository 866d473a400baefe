"""The verdict on a case: what fails it, what is only said, and in which words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mpq_fixtures.gate.comparison import Comparison
from mpq_fixtures.gate.paired import Effect
from mpq_fixtures.gate.rates import rise
from mpq_fixtures.record import Record
from mpq_fixtures.suite import Threshold

SAME, REGRESSED, RATE, IMPROVED, UNDERPOWERED, NEW = "same", "regressed", "rate", "improved", "underpowered", "new"
VERDICTS = (REGRESSED, RATE, UNDERPOWERED, NEW, IMPROVED, SAME)
"""Worst first."""


@dataclass(frozen=True)
class Verdict:
    """How a case stands. ``faults`` fail it, ``notes`` are said; both are sentences."""

    name: str
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def passes(self) -> bool:
        """Tell whether the case passes."""
        return not self.faults


@dataclass(frozen=True)
class Rules:
    """How a run judges: whether what was not measured fails, whether it approves (``new`` or ``all``), whether it measures some samples
    by choice, and the command that would approve the case."""

    approve: str
    strict: bool = False
    approving: str = ""
    some_samples: bool = False
    underpowered_fails: bool = False


def judge(record: Record, comparison: Comparison | None, thresholds: Iterable[Threshold], rules: Rules, level: float) -> Verdict:
    """Judge a record by itself, by its suite's thresholds, and by what was approved of it."""
    faults = [*_own_faults(record, rules), *_missed(record, thresholds)]
    if comparison is None:
        if rules.strict and not rules.approving:
            faults.append(f"no baseline; approve one: {rules.approve}=new")
        return Verdict(NEW, tuple(faults))
    name, worse, notes = hold(comparison, record.metric, record.metrics[record.metric].unit, record.rate_unit, level, rules)
    missed = [] if rules.some_samples else [lacking_samples(comparison)]
    for sentence in filter(None, (*missed, lost_metrics(comparison))):
        if rules.strict:
            worse.append(sentence)
        else:
            notes.append(f"{sentence}; under --mpq-strict that fails")
    if worse and rules.approving != "all":
        # Failed samples and what is no number cannot be approved.
        faults += [*worse, *([] if record.failures or math.isnan(record.value) else [f"to accept the new values: {rules.approve}"])]
    elif worse:
        notes += worse
    return Verdict(name, tuple(faults), tuple(notes))


def hold(comparison: Comparison, metric: str, unit: str, rate_unit: str, level: float, rules: Rules) -> tuple[str, list[str], list[str]]:
    """Return the verdict's name for what became of a case, what is wrong with it, and what is said of it all the same."""
    if comparison.unlike:
        return REGRESSED, [f"metric: {comparison.unlike}"], []
    other = _other_samples(comparison)
    if not comparison.shared:
        return REGRESSED, other or ["not one of the approved samples was measured"], []
    name, wrong, notes = _hold_value(comparison, metric, unit, level, rules)
    if signals := _hold_signals(comparison):
        name = REGRESSED
    dearer = rise(comparison.rate_before, comparison.rate_now)
    if not dearer <= comparison.margins.rate:
        name = name if name == REGRESSED else RATE
        signals.append(
            f"rate {comparison.rate_now:.4f} {rate_unit}, approved {comparison.rate_before:.4f}: {dearer:+.1%}, "
            f"margin {comparison.margins.rate:.3g}"
        )
    elif dearer < -comparison.margins.rate and name == SAME:
        name = IMPROVED
    if other:
        name = REGRESSED
    wrong = [*other, *wrong, *signals]
    said = [str(comparison.layer)] if comparison.layer else []
    (wrong if wrong else notes).extend([*said, *filter(None, [comparison.crossing])])
    return name, wrong, notes


def _other_samples(comparison: Comparison) -> list[str]:
    if not comparison.unapproved:
        return []
    total = len(comparison.shared) + len(comparison.unapproved)
    return [f"{_some(comparison.unapproved)} of the {total} samples were never approved, or have another source now"]


def _hold_value(comparison: Comparison, metric: str, unit: str, level: float, rules: Rules) -> tuple[str, list[str], list[str]]:
    """Hold the task's metric against what was approved: name, what is wrong, what is said."""
    effect, margin = comparison.effect, comparison.margins.value
    figures = f"{metric} {comparison.value_now:.4f}, approved {comparison.value_before:.4f}"
    if effect is None:
        return SAME, [], []
    if math.isfinite(comparison.value_before) and not math.isfinite(comparison.value_now):
        return REGRESSED, [figures], []
    figures += f": {_effect(effect, unit)}"
    if effect.change < -margin and effect.p_worse <= level:
        return REGRESSED, [f"{figures}, margin {margin:g}; {_chance(effect.p_worse)}"], []
    if effect.change > margin and effect.p_better <= level:
        return IMPROVED, [], [figures]
    if effect.low > -margin:
        return SAME, [], []
    doubt = [f"{figures}; cannot tell whether that is more than the margin, {margin:g}; {_power(effect, unit)}"]
    return (UNDERPOWERED, doubt, []) if rules.underpowered_fails and effect.change < -margin else (UNDERPOWERED, [], doubt)


def _hold_signals(comparison: Comparison) -> list[str]:
    """Say which signal metrics fell, or have no value any more."""
    return [
        f"{name} {shift.now:.4g}, approved {shift.before:.4g}: decoded signals are further from the originals by {-shift.change:.3g}, "
        f"margin {shift.margin:g}"
        for name, shift in comparison.similarity.items()
        if shift.fell
    ] + [
        f"{name} has no value any more for {shift.lost} of {len(comparison.shared)} samples"
        for name, shift in comparison.similarity.items()
        if shift.lost
    ]


def lacking_samples(comparison: Comparison) -> str:
    """Say which approved samples were not measured; "" when all were."""
    if not comparison.lacking or comparison.unlike:
        return ""
    return f"{_some(comparison.lacking)} of the {len(comparison.shared) + len(comparison.lacking)} approved samples were not measured"


def lost_metrics(comparison: Comparison) -> str:
    """Say which signal metrics were approved and are not measured any more; "" when all are."""
    return f"approved with {', '.join(comparison.lost)}, not measured now" if comparison.lost else ""


def _own_faults(record: Record, rules: Rules) -> list[str]:
    faults = []
    if record.failures:
        first = record.failures[0]
        faults.append(
            f"{len(record.failures)} of {len(record.failures) + record.samples} samples failed; "
            f"the first is {first.sample!r}, at {first.step}: {first.reason}"
        )
    if not math.isfinite(record.value):
        faults.append(f"{record.metric} is {record.value}: the model or the metric gave no number")
    faults += [
        f"{name} is {other.value}: decoded signals, or what it makes of them, are no numbers"
        for name, other in record.metrics.items()
        if name != record.metric and other.missing < record.samples and not math.isfinite(other.value)
    ]
    if rules.strict:
        faults += [
            f"{name} could not be measured of any sample: {other.why_missing}"
            for name, other in record.metrics.items()
            if other.missing and other.missing == record.samples
        ]
    return faults


def _missed(record: Record, thresholds: Iterable[Threshold]) -> list[str]:
    figures = {"value": record.value, "retention": record.retention, "rate": record.rate}
    return [
        f"threshold of the suite missed: {threshold}, measured {figures[threshold.figure]:.4g}"
        for threshold in thresholds
        if not threshold.holds(figures[threshold.figure])
    ]


def _effect(effect: Effect, unit: str) -> str:
    moved = f"{effect.worse} of {effect.samples} samples fell, {effect.better} rose"
    interval = f" [{effect.low:+.4f}, {effect.high:+.4f}]" if math.isfinite(effect.low) else ""
    return f"{effect.change:+.4f} {unit}{interval}; {moved}"


def _chance(p: float) -> str:
    """Say how often answers that turn at random would look like this."""
    if p < 1e-12:
        return "answers that turn at random do not look like this once in a million million runs"
    return f"answers that turn at random look like this in one of {1 / p:,.0f} runs"


def _power(effect: Effect, unit: str) -> str:
    if effect.clusters == 1:
        they = "one sample tells" if effect.samples == 1 else f"the {effect.samples} samples are of one group, which tells"
        return f"{they} nothing of others, and no fall would be found: measure {'more' if effect.samples == 1 else 'other groups too'}"
    seen = f"{effect.samples} samples show a fall from {effect.detectable:.3g} {unit} on"
    return seen + (f", {effect.needed:,} would show one of twice the margin" if effect.needed else "")


def _some(samples: Sequence[str]) -> str:
    named = ", ".join(samples[:3]) + (", ..." if len(samples) > 3 else "")
    return f"{len(samples):,} ({named})"
