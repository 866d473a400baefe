"""Records: what a case measured, one row per sample and a summary. Plain data that crosses processes and goes to disk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from mpq_fixtures.metrics import Metric, Statistic, restore_metric
from mpq_fixtures.rows import Failure
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.rows.tables import LEDGER
from mpq_fixtures.signals import Modality
from mpq_fixtures.statistics.intervals import interval, rate_interval, retention_interval
from mpq_fixtures.statistics.resampling import take
from mpq_fixtures.statistics.retention import retention
from mpq_fixtures.statistics.units import NONE, Interval
from mpq_fixtures.suite import OWN_ANSWERS, Case


@dataclass(frozen=True)
class Measure:
    """A metric's value over a case with its 95 % interval, and what is needed to read it.

    ``method`` names how the interval was found (`mpq_fixtures.statistics.intervals`), "" where there is none. ``settings`` are the metric's
    options, ``packages`` the versions of what computed it (`Metric.packages`). ``missing`` samples have no value, the first of them for the
    reason ``why_missing``.
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
    method: str = ""


@dataclass
class Record:
    """What a case measured. ``metrics`` holds the task's metric first.

    Rates are in ``rate_unit``, ``kbps`` is in 1,000 bits per second of sound. ``rate`` counts all bytes, ``rate_without_container``
    leaves out what a file format puts around the signal, and ``rate_nominal`` is what the quality names. The 95 % intervals of rate and of
    retention are NaN where there are none.
    ``parts`` says of the ``model``, the ``codec`` and the ``metric`` what each is made of, so that a changed fingerprint can be explained.
    ``flips`` counts the samples whose answer got ``worse`` and ``better`` than on the original. ``shown`` are those that the report
    shows: ``{"sample", "why", "parts", "original_prediction", "original_score"}``, whose parts may lie in a file (`mpq_fixtures.flips`).
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
    rows: Rows
    failures: list[Failure]
    floor: float | None = None
    kbps: float = math.nan
    rate_without_container: float = math.nan
    rate_nominal: float = math.nan
    rate_low: float = math.nan
    rate_high: float = math.nan
    ledger: dict[str, int] = field(default_factory=dict)
    reference: float = math.nan
    retention: float = math.nan
    retention_low: float = math.nan
    retention_high: float = math.nan
    seconds: dict[str, float] = field(default_factory=dict)
    work: dict[str, dict[str, int]] = field(default_factory=dict)
    device: str = ""
    fingerprint: str = ""
    codec_fingerprint: str = ""
    build: str = ""
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    flips: dict[str, int] = field(default_factory=dict)
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The task's metric."""
        return self.metrics[self.metric].value

    @property
    def samples(self) -> int:
        """How many samples were measured."""
        return len(self.rows)

    def relate_to(self, original: Record) -> None:
        """Set the reference, and the retention with its interval, from the record on the originals."""
        self.reference = original.value
        self.retention = retention(self.value, original.value, original.floor, self.metrics[self.metric].higher_is_better)
        self.retention_low, self.retention_high, _ = self._retention_interval(original)

    def _retention_interval(self, original: Record) -> Interval:
        """Return the interval over the samples that both have: the originals keep all of themselves, whatever the samples."""
        metric = restore_metric(self.metric, self.metrics[self.metric].settings)
        if metric is None or not math.isfinite(self.retention):
            return NONE
        if self.case == original.case:
            return Interval(1.0, 1.0, "")
        own, others = self.rows, original.rows
        floors = others.floors() if original.floor is not None else ()
        statistics, before, groups = own.statistics(), others.statistics(), own.groups_if_any
        if not own.of_same_samples(others):
            samples, places = own.samples, {sample: place for place, sample in enumerate(others.samples)}
            here = [place for place, sample in enumerate(samples) if sample in places]
            there = [places[samples[place]] for place in here]
            statistics, groups = take(statistics, here), [groups[place] for place in here] if groups else []
            before, floors = take(before, there), take(floors, there) if len(floors) else ()
        return retention_interval(metric, statistics, before, floors, groups)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain dictionaries, lists, strings, numbers and bytes; of rows that lie in a file, where that is."""
        return asdict(replace(self, rows=self.rows.to_plain()))  # type: ignore[arg-type]

    @staticmethod
    def from_dict(content: dict[str, Any]) -> Record:
        """Restore what `to_dict` made."""
        return Record(
            **{
                **content,
                "metrics": {name: Measure(**measure) for name, measure in content["metrics"].items()},
                "rows": Rows.from_plain(content["rows"]),
                "failures": [Failure(**failure) for failure in content["failures"]],
            }
        )


def summarise(
    case: Case,
    rows: Rows,
    failures: list[Failure],
    metric: Metric,
    further: Sequence[Metric],
    absent: Mapping[Metric, str] | None = None,
) -> Record:
    """Turn the rows of a case into its record; ``absent`` says of signal metrics that were asked for what this machine lacks."""
    evaluation = case.evaluation
    groups = rows.groups_if_any
    rates = _rates(rows, groups, evaluation.task.modality)
    floors = rows.floors()
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
        # The originals against themselves: an infinite PSNR says nothing.
        metrics=_held_against(
            _measures(rows, groups, metric, *(([], {}) if case.is_original else (further, absent or {}))), metric, evaluation.targets
        ),
        rows=rows,
        failures=failures,
        floor=metric.value(floors) if len(floors) else None,
        **rates,
    )


def _rates(rows: Rows, groups: Sequence[str], modality: Modality) -> dict[str, Any]:
    """Return what a record says of bytes."""
    sizes, elements_of = rows.numbers("bytes"), rows.numbers("elements")
    total_bytes, elements = int(sizes.sum()), int(elements_of.sum())
    ledger = {part: int(rows.numbers(part).sum()) for part in LEDGER}
    seconds = math.fsum(np.nan_to_num(rows.numbers("seconds")))
    rate = rate_interval(sizes, elements_of, groups)
    return {
        "rate": 8 * total_bytes / elements if elements else math.nan,
        "rate_low": rate.low,
        "rate_high": rate.high,
        "rate_mean": float(np.mean(8 * sizes / elements_of)) if len(rows) else math.nan,
        "rate_unit": modality.rate_unit,
        "rate_without_container": 8 * (total_bytes - ledger["container"]) / elements if elements else math.nan,
        "rate_nominal": math.fsum(rows.numbers("nominal_bits")) / elements if elements else math.nan,
        "bytes": total_bytes,
        "compression_ratio": elements * modality.raw_bits / 8 / total_bytes if total_bytes else math.nan,
        "kbps": 8 * total_bytes / seconds / 1000 if seconds else math.nan,
        "ledger": ledger,
    }


def _held_against(measures: dict[str, Measure], metric: Metric, targets: str) -> dict[str, Measure]:
    """Return the measures with what the task's metric held answers against among its settings, where that is not labels."""
    if targets != OWN_ANSWERS:
        return measures
    main = measures[metric.name]
    return measures | {metric.name: replace(main, settings={**main.settings, "targets": targets})}


def _measures(
    rows: Rows, groups: Sequence[str], metric: Metric, further: Sequence[Metric], absent: Mapping[Metric, str]
) -> dict[str, Measure]:
    """Measure over all samples; a signal metric over those that it could measure, and the others are counted."""
    tried, measures = rows.signal_metrics, {metric.name: _measured(metric, rows.statistics(), groups)}
    for other in further:
        if other.name not in tried:
            measures[other.name] = _measured(other, (), ())
            continue
        statistics, there = rows.further(other.name)
        members = take(groups, np.flatnonzero(there)) if groups else []
        missing, why = rows.unmeasured(other.name)
        measures[other.name] = replace(_measured(other, statistics, members), missing=missing, why_missing=why)
    for other, lack in absent.items():
        measures[other.name] = replace(_measure(other, math.nan, NONE), missing=len(rows), why_missing=lack)
    return measures


def _measured(metric: Metric, statistics: Sequence[Statistic], groups: Sequence[str]) -> Measure:
    """Measure over the samples that a metric could measure, if there are any."""
    if not len(statistics):
        return _measure(metric, math.nan, NONE)
    return _measure(metric, metric.value(statistics), interval(metric, statistics, groups))


def _measure(metric: Metric, value: float, found: Interval) -> Measure:
    return Measure(
        value,
        found.low,
        found.high,
        metric.unit,
        metric.higher_is_better,
        metric.tolerance,
        metric.bounds,
        metric.settings,
        metric.version,
        packages=metric.packages,
        method=found.method,
    )
