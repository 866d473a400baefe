"""Records: what a case measured, one row per sample and a summary. Plain data that crosses processes and goes to disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from mpq_fixtures.metrics import Metric, Statistic
from mpq_fixtures.rows import Failure, Row
from mpq_fixtures.statistics import bootstrap_interval, retention
from mpq_fixtures.suite import Case


@dataclass(frozen=True)
class Measure:
    """A metric's value over a case with its 95 % interval, and what is needed to read it.

    ``settings`` are the metric's options, ``packages`` the versions of what computed it (`Metric.packages`). ``missing`` samples have no
    value, the first of them for the reason ``why_missing``.
    """

    value: float
    ci_low: float
    ci_high: float
    unit: str
    higher_is_better: bool
    tolerance: float
    bounds: tuple[float, float]
    settings: dict[str, Any]
    version: int = 1
    missing: int = 0
    why_missing: str = ""
    packages: dict[str, str] = field(default_factory=dict)


@dataclass
class Record:
    """What a case measured. ``metrics`` holds the task's metric first.

    Rates are in ``rate_unit``, ``kbps`` is in 1,000 bits per second of sound. ``rate`` counts all bytes, ``rate_without_container``
    leaves out what a file format puts around the signal, and ``rate_nominal`` is what the quality names.
    ``parts`` says of the ``model``, the ``codec`` and the ``metric`` what each is made of, so that a changed fingerprint can be explained.
    """

    case: str
    suite: str
    evaluation: str
    task: str
    model: str
    dataset: str
    codec: str
    quality: str
    metric: str
    metrics: dict[str, Measure]
    rate: float
    rate_mean: float
    rate_unit: str
    bytes: int
    compression_ratio: float
    rows: list[Row]
    failures: list[Failure]
    floor: float | None = None
    kbps: float = math.nan
    rate_without_container: float = math.nan
    rate_nominal: float = math.nan
    ledger: dict[str, int] = field(default_factory=dict)
    reference: float = math.nan
    retention: float = math.nan
    seconds: dict[str, float] = field(default_factory=dict)
    work: dict[str, dict[str, int]] = field(default_factory=dict)
    device: str = ""
    fingerprint: str = ""
    codec_fingerprint: str = ""
    build: str = ""
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    example: list[dict[str, Any]] = field(default_factory=list)
    example_sample: str = ""

    @property
    def value(self) -> float:
        """The task's metric."""
        return self.metrics[self.metric].value

    @property
    def samples(self) -> int:
        """How many samples were measured."""
        return len(self.rows)

    def relate_to(self, original: Record) -> None:
        """Set the reference and the retention from the record on the originals."""
        self.reference = original.value
        self.retention = retention(self.value, original.value, original.floor)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain dictionaries, lists, strings, numbers and bytes."""
        return asdict(self)

    @staticmethod
    def from_dict(content: dict[str, Any]) -> Record:
        """Restore what `to_dict` made."""
        return Record(
            **{
                **content,
                "metrics": {name: Measure(**measure) for name, measure in content["metrics"].items()},
                "rows": [Row(**row) for row in content["rows"]],
                "failures": [Failure(**failure) for failure in content["failures"]],
            }
        )


def summarise(
    case: Case,
    rows: list[Row],
    failures: list[Failure],
    metric: Metric,
    beside: Sequence[Metric],
    absent: Mapping[Metric, str] | None = None,
) -> Record:
    """Turn the rows of a case into its record; ``absent`` says of signal metrics that were asked for what this machine lacks."""
    evaluation = case.evaluation
    total_bytes, elements = sum(row.bytes for row in rows), sum(row.elements for row in rows)
    modality = evaluation.task.modality
    metrics = {metric.name: _measure(metric, [row.statistic for row in rows], [row.group for row in rows])}
    # The originals against themselves: an infinite PSNR says nothing.
    metrics |= {other.name: _signal_measure(other, rows) for other in beside if not case.is_original}
    if not case.is_original:
        metrics |= {
            other.name: replace(_measure(other, [], []), missing=len(rows), why_missing=lack) for other, lack in (absent or {}).items()
        }
    ledger = {part: sum(row.ledger[part] for row in rows) for part in ("payload", "container", "side")}
    seconds = sum(row.seconds or 0.0 for row in rows)
    nominal = [row.nominal_bits for row in rows if row.nominal_bits is not None]
    floors = [np.asarray(row.floor, float) for row in rows if row.floor is not None]
    return Record(
        case=case.id,
        suite=evaluation.suite,
        evaluation=evaluation.name,
        task=evaluation.task.name,
        model=evaluation.model_name,
        dataset=evaluation.dataset_name,
        codec=case.codec,
        quality=case.quality,
        metric=metric.name,
        metrics=metrics,
        rate=8 * total_bytes / elements if elements else math.nan,
        rate_mean=float(np.mean([8 * row.bytes / row.elements for row in rows])) if rows else math.nan,
        rate_unit=modality.rate_unit,
        bytes=total_bytes,
        compression_ratio=elements * modality.raw_bits / 8 / total_bytes if total_bytes else math.nan,
        rows=rows,
        failures=failures,
        floor=metric.value(floors) if floors else None,
        kbps=8 * total_bytes / seconds / 1000 if seconds else math.nan,
        rate_without_container=8 * (total_bytes - ledger["container"]) / elements if elements else math.nan,
        rate_nominal=sum(nominal) / elements if elements and len(nominal) == len(rows) else math.nan,
        ledger=ledger,
    )


def _signal_measure(metric: Metric, rows: Sequence[Row]) -> Measure:
    """Measure over the samples that the metric could measure, and count the others."""
    measured = [row for row in rows if metric.name in row.beside]
    measure = _measure(metric, [row.beside[metric.name] for row in measured], [row.group for row in measured])
    reasons = [row.unmeasured[metric.name] for row in rows if metric.name in row.unmeasured]
    return replace(measure, missing=len(reasons), why_missing=reasons[0] if reasons else "")


def _measure(metric: Metric, nested: list[Any], groups: list[str]) -> Measure:
    statistics: list[Statistic] = [np.asarray(statistic, float) for statistic in nested]
    value = metric.value(statistics) if statistics else math.nan
    low, high = bootstrap_interval(metric, statistics, groups=groups) if statistics else (math.nan, math.nan)
    return Measure(
        value,
        low,
        high,
        metric.unit,
        metric.higher_is_better,
        metric.tolerance,
        metric.bounds,
        metric.settings,
        metric.version,
        packages=metric.packages,
    )
