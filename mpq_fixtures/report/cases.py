"""What the report says about cases: their verdicts in order and their figures.

Everything here is a pure function of the ``cases`` in ``results.json`` (see ``reports/README.md``). A figure that does not
exist is `None`; so is one that is not finite, since neither JSON nor a reader can do anything with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpq_fixtures.decisions.lowest import percent
from mpq_fixtures.decisions.points import series_of
from mpq_fixtures.results.figures import NAMELESS_UNITS, Measure, number, rate, text
from mpq_fixtures.results.files import STATUSES, status_of
from mpq_fixtures.suite import OWN_ANSWERS

RED = ("failed", "regressed", "rate")
"""What somebody has to look at."""

_WORDS = (
    "case", "suite", "evaluation", "task", "targets", "model", "dataset", "codec", "quality", "rate_unit", "outcome", "verdict", "reason",
    "notes", "layer", "suspect",
)  # fmt: skip
_FIGURES = (
    "reference", "retention", "rate", "kbps", "rate_nominal", "rate_without_container", "bytes", "bytes_payload", "bytes_container",
    "bytes_side", "compression_ratio", "baseline", "baseline_rate", "retention_low", "retention_high", "rate_low", "rate_high",
)  # fmt: skip
OFF = 0.1
"""The share by which a rate may miss the one that its quality names before the report flags it."""
STORED_RAW = 1.05
"""The ratio up to which originals count as not compressed."""


@dataclass(frozen=True)
class Case:
    """One case of ``results.json``, read once; the names are those of the columns."""

    case: str
    suite: str
    evaluation: str
    task: str
    targets: str
    model: str
    dataset: str
    codec: str
    quality: str
    samples: int
    main: Measure
    further: tuple[Measure, ...]
    reference: float | None
    retention: float | None
    retention_low: float | None
    retention_high: float | None
    rate: float | None
    rate_low: float | None
    rate_high: float | None
    rate_unit: str
    kbps: float | None
    rate_nominal: float | None
    rate_without_container: float | None
    bytes: float | None
    bytes_payload: float | None
    bytes_container: float | None
    bytes_side: float | None
    compression_ratio: float | None
    baseline: float | None
    baseline_rate: float | None
    outcome: str
    verdict: str
    reason: str
    notes: str
    layer: str
    suspect: str
    failures: tuple[Mapping[str, Any], ...]
    margin: float | None
    rate_margin: float | None
    seconds: Mapping[str, float]
    stored_ratio: float | None = None

    @property
    def original(self) -> bool:
        """Whether nothing was compressed here."""
        return self.case == f"{self.evaluation}-original" or self.codec == "original"

    @property
    def point(self) -> str:
        """The operating point: ``opus-6k``, or ``original``."""
        return "original" if self.original else f"{self.codec}-{self.quality}"

    @property
    def series(self) -> str:
        """The curve that the case lies on: its codec, at the scale that its quality names: ``jpeg``, ``jpeg@0.5x``."""
        return series_of(self.codec, self.quality)

    @property
    def rung(self) -> str:
        """The quality without the scale, which `series` has."""
        return self.quality.partition("@")[0]

    @property
    def nominal_change(self) -> float | None:
        """The measured rate over the one that the quality names, less one."""
        return None if self.rate is None or not self.rate_nominal else self.rate / self.rate_nominal - 1

    @property
    def is_off(self) -> bool:
        """Whether the measured rate misses the named one by more than `OFF`."""
        return self.nominal_change is not None and abs(self.nominal_change) > OFF

    def part(self, name: str) -> float | None:
        """Return the share of the bytes that goes into ``payload``, ``container`` or ``side``."""
        spent = getattr(self, f"bytes_{name}")
        return spent / self.bytes if spent is not None and self.bytes else None

    @property
    def status(self) -> str:
        """One of `STATUSES`."""
        return status_of(self.verdict, self.outcome)

    @property
    def is_red(self) -> bool:
        """Whether somebody has to look at it."""
        return self.status in RED

    @property
    def approved(self) -> float | None:
        """The approved value where the present one left it, to be shown beside it."""
        return self.baseline if self.status in ("regressed", "rate") else None

    @property
    def severity(self) -> float:
        """How bad it is: the fall over its margin, or the growth of the rate over its own, whichever is more."""
        fall = -(self.difference or 0.0) / self.margin if self.margin else 0.0
        growth = (self.rate_change or 0.0) / self.rate_margin if self.rate_margin else 0.0
        return max(fall, growth)

    @property
    def retention_interval(self) -> str:
        """The 95 % interval of the retention in brackets, in per cent, or an empty text."""
        if self.retention_low is None or self.retention_high is None:
            return ""
        return f"[{percent(self.retention_low, unit=False)}, {percent(self.retention_high, unit=False)}]"

    @property
    def rate_interval(self) -> str:
        """The 95 % interval of the rate in brackets, or an empty text."""
        return "" if self.rate_low is None or self.rate_high is None else f"[{rate(self.rate_low)}, {rate(self.rate_high)}]"

    @property
    def amount(self) -> float | None:
        """Megapixels or seconds of sound that were coded, all samples together, worked out from bytes and rate."""
        if not self.bytes or (not self.kbps and not self.rate):
            return None
        return 8 * self.bytes / (1000 * self.kbps) if self.kbps else 8 * self.bytes / (1e6 * (self.rate or 1.0))

    def pace(self, step: str) -> float | None:
        """Return the seconds that ``encode`` or ``decode`` took for a megapixel or a second of sound; None where they were not taken."""
        spent = self.seconds.get(step)
        return spent / self.amount if spent and self.amount and not self.original else None

    @property
    def sentences(self) -> list[str]:
        """What failed it and what was said of it, a sentence each, without its name in front."""
        lines = [*self.reason.splitlines(), *self.notes.splitlines()]
        return [line.removeprefix(f"{self.case}: ") for line in lines]

    @property
    def difference(self) -> float | None:
        """Value less baseline."""
        return None if self.main.value is None or self.baseline is None else self.main.value - self.baseline

    @property
    def rate_change(self) -> float | None:
        """The rate over the approved rate, less one."""
        return None if self.rate is None or not self.baseline_rate else self.rate / self.baseline_rate - 1


def by_evaluation(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Return the cases of each evaluation, in their order, by what it is called in addresses and names of pages: ``evaluation-1``, ..."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.suite, case.evaluation), []).append(case)
    return {f"evaluation-{number}": group for number, group in enumerate(groups.values(), 1)}


def read_case(record: Mapping[str, Any]) -> Case:
    """Read one entry of ``cases``; fields that are absent read as empty."""
    metric, metrics = text(record.get("metric")), record.get("metrics") or {}
    measures = {name: _measure(name, found or {}) for name, found in metrics.items()}
    columns = Measure(metric, number(record.get("value")), number(record.get("ci_low")), number(record.get("ci_high")), "")
    main = measures.pop(metric, columns)
    words = {name: text(record.get(name)) for name in _WORDS}
    change, work = record.get("change") or {}, record.get("work") or {}
    tolerance = number(record.get("tolerance"))
    # Of a case whose results were partly found in the store only a part of the time was taken.
    spent = {} if any((work.get("reused") or {}).values()) else record.get("seconds") or {}
    figures = {name: number(record.get(name)) for name in _FIGURES}
    return Case(
        samples=int(number(record.get("samples")) or 0),
        main=replace(
            columns,
            unit=main.unit or ("dB" if metric == "sdr" else ""),
            agreement=words["targets"] == OWN_ANSWERS,
            method=main.method,
        ),
        further=tuple(measures.values()),
        failures=tuple(record.get("failures") or ()),
        margin=number(change.get("margin")) or tolerance,
        rate_margin=number(change.get("rate_margin")),
        seconds={str(step): taken for step, value in spent.items() if (taken := number(value))},
        **words,  # type: ignore[arg-type]
        **figures,  # type: ignore[arg-type]
    )


def _measure(name: str, found: Mapping[str, Any]) -> Measure:
    unit = text(found.get("unit"))
    return Measure(
        name,
        number(found.get("value")),
        number(found.get("ci_low")),
        number(found.get("ci_high")),
        "" if unit in NAMELESS_UNITS else unit,
        int(number(found.get("missing")) or 0),
        text(found.get("why_missing")),
        method=text(found.get("method")),
    )


def read_cases(records: Iterable[Mapping[str, Any]]) -> list[Case]:
    """Read all cases; where an evaluation's originals are compressed already, each case gets its ratio against the files as stored."""
    cases = [read_case(record) for record in records]
    stored = {
        (case.suite, case.evaluation): case
        for case in cases
        if case.original and case.bytes and case.compression_ratio and case.compression_ratio > STORED_RAW
    }
    found = []
    for case in cases:
        of = stored.get((case.suite, case.evaluation))
        comparable = of is not None and of.bytes and case.bytes and case.samples == of.samples and not case.original
        found.append(replace(case, stored_ratio=of.bytes / case.bytes) if comparable and of and of.bytes and case.bytes else case)
    return found


def worst_first(cases: Iterable[Case]) -> list[Case]:
    """Order cases by `STATUSES`, red ones then by how bad it is and by name; all others that are alike stay in the order of the suite."""

    def key(case: Case) -> tuple[int, float, str]:
        place = STATUSES.index(case.status) if case.status in STATUSES else 0
        return (place, -case.severity, case.case) if case.is_red else (place, 0.0, "")

    return sorted(cases, key=key)


def count_statuses(cases: Iterable[Case]) -> dict[str, int]:
    """Count the cases of each status, worst first, without the statuses that none has."""
    statuses = [case.status for case in cases]
    return {status: statuses.count(status) for status in dict.fromkeys((*STATUSES, *statuses)) if status in statuses}


def sentence(cases: Sequence[Case], complete: bool = True) -> str:
    """Say in one sentence how the run ended: ``82 of 84 cases pass; 1 regressed; 1 not run.``"""
    passed = [case for case in cases if case.outcome == "passed"]
    others = count_statuses(case for case in cases if case.outcome != "passed")
    parts = [f"{len(passed)} of {len(cases)} {'case passes' if len(cases) == 1 else 'cases pass'}"]
    parts += [f"{count} {status}" for status, count in others.items()]
    if not any(case.main.value is not None for case in cases):
        parts.insert(0, "Nothing was measured")
    elif not complete and "not run" not in others:
        parts.append("the run is not complete")
    return "; ".join(parts) + "."
