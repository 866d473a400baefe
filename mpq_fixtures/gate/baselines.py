"""Baselines, the records that were last approved, and the verdict on a new record. Pure functions and JSON files.

A baseline keeps every sample's statistic and bytes, so that a run over some of the samples is held against the baseline's value
over those very samples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpq_fixtures.files import write_atomically
from mpq_fixtures.metrics import Metric
from mpq_fixtures.record import Measure, Record
from mpq_fixtures.statistics import pack, unpack
from mpq_fixtures.suite import Threshold

SCHEMA = 1
SAME, REGRESSED, IMPROVED, UNDERPOWERED, NEW = "same", "regressed", "improved", "underpowered", "new"
RATE_TOLERANCE = 0.01
"""The share by which a rate may move: builds of one codec differ by less, a changed setting by more."""


class BaselineError(ValueError):
    """A baseline file that cannot be read."""


@dataclass(frozen=True)
class Baseline:
    """What was approved of a case, over the samples of a run: the metric's value and the rate."""

    value: float
    rate: float


@dataclass(frozen=True)
class Verdict:
    """How a record stands against its baseline and its suite's thresholds. ``message`` says why it fails, and is empty when it passes."""

    name: str
    message: str = ""

    @property
    def passes(self) -> bool:
        """Tell whether the case passes."""
        return not self.message


def baseline_file(folder: Path, suite: str, evaluation: str) -> Path:
    """Return where an evaluation's baselines lie."""
    return folder / suite / f"{evaluation}.json"


def read_baseline(file: Path, point: str, samples: Sequence[str], metric: Metric) -> Baseline | None:
    """Return what was approved of an operating point over ``samples``; None where nothing was.

    Raises `BaselineError` for a damaged file, and for what cannot be held against: approved over other samples, or by another metric or
    version of it.
    """
    content = _read(file)
    case = content["cases"].get(point)
    if case is None:
        return None
    try:
        kept = case["metric"], case["version"]
        index = {sample: number for number, sample in enumerate(case.get("ids") or content["samples"])}
        missing = [sample for sample in samples if sample not in index]
        chosen = [index[sample] for sample in samples if sample in index]
        statistics, counts = unpack(case["statistics"]), np.stack(unpack(case["counts"]))[chosen]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BaselineError(
            f"{file}: {point}: not a baseline ({error}); restore it, or write it anew with --mpq-update-baselines"
        ) from error
    if missing:
        raise BaselineError(
            f"{file}: {point}: approved without {len(missing)} of the {len(samples)} samples, the first of them {missing[0]!r}: "
            "the data set changed; approve it anew with --mpq-update-baselines"
        )
    if kept != (metric.name, metric.version):
        raise BaselineError(
            f"{file}: {point}: approved by {kept[0]} in version {kept[1]}, and scored by {metric.name} in version {metric.version} now: "
            f"approve it anew with --mpq-update-baselines"
        )
    return Baseline(metric.value([statistics[number] for number in chosen]), float(8 * counts[:, 0].sum() / counts[:, 1].sum()))


def judge(
    record: Record, baseline: Baseline | None, thresholds: Iterable[Threshold], approve: str, approving: str = "", strict: bool = False
) -> Verdict:
    """Hold a record against its baseline and its thresholds.

    ``approve`` is the command that would accept the record as it is; ``approving`` is ``all`` in a run that does. With ``strict`` a
    case without a baseline fails, unless this run approves new ones, and so does one that lacks a signal metric that was asked for.
    """
    measure = record.metrics[record.metric]
    complaints = []
    if record.failures:
        first = record.failures[0]
        complaints.append(
            f"{len(record.failures)} of {len(record.failures) + record.samples} samples failed; "
            f"the first is {first.sample!r}, at {first.step}: {first.reason}"
        )
    if not math.isfinite(measure.value):
        complaints.append(f"{record.metric} is {measure.value}: the model or the metric gave no number")
    if strict:
        complaints += [
            f"{name} could not be measured of any sample: {other.why_missing}"
            for name, other in record.metrics.items()
            if other.missing and other.missing == record.samples
        ]
    figures = {"value": measure.value, "retention": record.retention, "rate": record.rate}
    for threshold in thresholds:
        if not threshold.holds(figures[threshold.figure]):
            complaints.append(f"threshold of the suite missed: {threshold}, measured {figures[threshold.figure]:.4g}")
    name = NEW
    if baseline is not None:
        name, drift = hold_against(baseline, record.metric, measure, record.rate, record.rate_unit)
        if drift and approving != "all":
            complaints.append(f"{drift}\nIf this is meant, approve it: {approve}")
    elif strict and not approving:
        complaints.append(f"no baseline; approve one: {approve}=new")
    return Verdict(name, "\n".join(f"{record.case}: {complaint}" for complaint in complaints))


def hold_against(baseline: Baseline, metric: str, measure: Measure, rate: float, rate_unit: str) -> tuple[str, str]:
    """Return the verdict's name for a value and a rate, and what is wrong when it is a regression."""
    sign = 1 if measure.higher_is_better else -1
    gain = sign * (measure.value - baseline.value)
    saving = (baseline.rate - rate) / baseline.rate if baseline.rate else math.nan
    wrong = []
    # Written as "not at least", so that NaN is a regression.
    if not gain >= -measure.tolerance:
        wrong.append(
            f"{metric} {measure.value:.4f} against the baseline's {baseline.value:.4f}: "
            f"{measure.value - baseline.value:+.4f} {measure.unit}, tolerance {measure.tolerance:g}"
        )
    if not saving >= -RATE_TOLERANCE:
        wrong.append(
            f"rate {rate:.4f} {rate_unit} against the baseline's {baseline.rate:.4f}: {-saving:+.1%}, tolerance {RATE_TOLERANCE:.0%}"
        )
    if wrong:
        return REGRESSED, "; ".join(wrong)
    return (IMPROVED if gain > measure.tolerance or saving > RATE_TOLERANCE else SAME), ""


def update_baselines(file: Path, records: Sequence[Record], order: Sequence[str], only_new: bool) -> list[str]:
    """Write the records of one evaluation into its baseline file, keep every other case, and return the cases that changed.

    Records with failed samples or without a value are left out: what is broken cannot be approved.
    """
    content = _read(file)
    points: dict[str, Any] = dict(content["cases"])
    changed = []
    for record in records:
        point = record.case.removeprefix(f"{record.evaluation}-")
        if record.failures or not math.isfinite(record.value) or (only_new and point in points):
            continue
        points[point] = {
            "metric": record.metric,
            "version": record.metrics[record.metric].version,
            "value": round(record.value, 6),
            "rate": round(record.rate, 6),
            "samples": record.samples,
            "counts": pack([np.array([row.bytes, row.elements], float) for row in record.rows]),
            "statistics": pack([np.asarray(row.statistic, float) for row in record.rows]),
        }
        ids = [row.sample for row in record.rows]
        if not content["samples"]:
            content["samples"] = ids
        if ids != content["samples"]:
            points[point]["ids"] = ids
        if points[point] != content["cases"].get(point):
            changed.append(record.case)
    if changed:
        rank = {point: number for number, point in enumerate(order)}
        content["cases"] = {key: points[key] for key in sorted(points, key=lambda key: (rank.get(key, 10**6), key))}
        _write(file, content)
    return changed


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"schema": SCHEMA, "samples": [], "cases": {}}
    except OSError as error:
        raise BaselineError(f"{file}: cannot be read: {error.strerror or error}; give another folder with --mpq-baselines") from error
    except ValueError as error:
        raise BaselineError(f"{file}: not valid JSON ({error}); restore it, or delete it and use --mpq-update-baselines") from error
    kinds = {"cases": dict, "samples": list}
    if not isinstance(content, dict) or content.get("schema") != SCHEMA or not all(isinstance(content.get(k), kinds[k]) for k in kinds):
        raise BaselineError(f"{file}: not a baseline file of schema {SCHEMA}; restore it, or delete it and use --mpq-update-baselines")
    return content


def _write(file: Path, content: dict[str, Any]) -> None:
    """Write one case per line, so that a diff shows which cases changed."""
    cases = ",\n".join(f"  {json.dumps(point)}: {json.dumps(case)}" for point, case in content["cases"].items())
    text = f'{{\n "schema": {content["schema"]},\n "samples": {json.dumps(content["samples"])},\n "cases": {{\n{cases}\n }}\n}}\n'
    write_atomically(file, text.encode())
