"""Records to files: ``results.csv``, ``results.json`` and ``samples.parquet``. The columns are described in ``reports/README.md``."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mpq_fixtures.files import all_or_none
from mpq_fixtures.record import Record
from mpq_fixtures.results.samples import write_samples
from mpq_fixtures.suite import Case

SCHEMA = 2
COLUMNS = (
    "case", "suite", "evaluation", "task", "targets", "model", "dataset", "codec", "quality", "samples", "metric", "value", "ci_low",
    "ci_high", "reference", "retention", "retention_low", "retention_high", "rate", "rate_low", "rate_high", "rate_mean", "rate_unit",
    "kbps", "rate_nominal", "rate_without_container", "bytes", "bytes_payload", "bytes_container", "bytes_side", "compression_ratio",
    "baseline", "verdict", "reason", "notes", "layer", "suspect",
)  # fmt: skip
PASSED, FAILED, SKIPPED, NOT_RUN = "passed", "failed", "skipped", "not run"
STATUSES = ("failed", "regressed", "rate", "not run", "skipped", "underpowered", "new", "improved", "same", "passed")
"""What can have become of a case, worst first; ``passed`` is a case without a verdict."""


@dataclass
class Result:
    """What became of a case: its record where something was measured, the verdict, and why it did not pass.

    ``notes`` are said though they fail nothing, a sentence a line. ``layer`` is the first one of the chain that changed since the
    baseline, by who makes it, ``suspect`` what changed with it; ``change`` is `Comparison.to_dict`.
    """

    case: Case
    outcome: str = NOT_RUN
    record: Record | None = None
    verdict: str = ""
    baseline: float = math.nan
    baseline_rate: float = math.nan
    reason: str = ""
    notes: str = ""
    layer: str = ""
    suspect: str = ""
    change: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the case's row of ``results.csv``; figures that do not exist are None."""
        evaluation, record = self.case.evaluation, self.record
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row |= {
            "case": self.case.id,
            "suite": evaluation.suite,
            "evaluation": evaluation.name,
            "task": evaluation.task.name,
            "targets": evaluation.targets,
            "model": evaluation.model_name,
            "dataset": evaluation.dataset_name,
            "codec": self.case.codec,
            "quality": self.case.quality,
            "rate_unit": evaluation.task.modality.rate_unit,
            "samples": 0,
            "baseline": _figure(self.baseline),
            "verdict": self.verdict,
            "reason": self.reason,
            "notes": self.notes,
            "layer": self.layer,
            "suspect": self.suspect,
        }
        if record is None:
            return row
        main = record.metrics[record.metric]
        row |= {
            "samples": record.samples,
            "metric": record.metric,
            "value": _figure(main.value),
            "ci_low": _figure(main.ci_low),
            "ci_high": _figure(main.ci_high),
            "reference": _figure(record.reference),
            "retention": _figure(record.retention),
            "retention_low": _figure(record.retention_low),
            "retention_high": _figure(record.retention_high),
            "rate": _figure(record.rate),
            "rate_low": _figure(record.rate_low),
            "rate_high": _figure(record.rate_high),
            "rate_mean": _figure(record.rate_mean),
            "kbps": _figure(record.kbps),
            "rate_nominal": _figure(record.rate_nominal),
            "rate_without_container": _figure(record.rate_without_container),
            "bytes": record.bytes,
            **{f"bytes_{part}": count for part, count in record.ledger.items()},
            "compression_ratio": _figure(record.compression_ratio),
        }
        return row | {name: _figure(measure.value) for name, measure in record.metrics.items() if name != record.metric}

    def to_dict(self) -> dict[str, Any]:
        """Return the case's entry of ``results.json``."""
        record = self.record
        entry = self.row() | {"outcome": self.outcome, "baseline_rate": _figure(self.baseline_rate), "change": self.change}
        if record is None:
            return entry | {"metrics": {}, "failures": [], "seconds": {}, "tolerance": None}
        return entry | {
            "metrics": {name: _finite(asdict(measure)) for name, measure in record.metrics.items()},
            "codec_fingerprint": record.codec_fingerprint,
            "model_fingerprint": record.fingerprint,
            "tolerance": record.metrics[record.metric].tolerance,
            "margins": dict(self.case.evaluation.margins),
            "failures": [asdict(failure) for failure in record.failures],
            "seconds": {step: round(seconds, 3) for step, seconds in record.seconds.items()},
            "work": record.work,
            "flips": record.flips,
        }


def write_results(folder: Path, results: Sequence[Result], about: dict[str, Any]) -> None:
    """Write the three files of a run, all or none; ``about`` is what ``results.json`` says besides the cases."""
    rows = [result.row() for result in results]
    further = sorted({name for row in rows for name in row} - set(COLUMNS))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *further], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    document = {"schema": SCHEMA, **about, "cases": [result.to_dict() for result in results]}
    with all_or_none() as put:
        write_samples(put(folder / "samples.parquet"), [result.record for result in results if result.record is not None])
        put(folder / "results.json").write_bytes(json.dumps(document, indent=1, allow_nan=False).encode())
        put(folder / "results.csv").write_bytes(text.getvalue().encode(errors="backslashreplace"))


def read_results(folder: Path) -> dict[str, Any]:
    """Return the content of a run's ``results.json``; raises `ValueError`, with a sentence, where there is none."""
    file = folder / "results.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"no results.json in {folder} ({error.strerror}): give the folder that a run wrote, such as reports/latest"
        ) from None
    except ValueError as error:
        raise ValueError(f"{file} is damaged: {error}; run again, or give another folder") from None
    if not isinstance(content, dict) or not isinstance(content.get("cases"), list):
        raise ValueError(f"{file} is not what a run writes: give another folder")
    if mistake := _mistake(content):
        raise ValueError(f"{file} is not what a run writes: {mistake}; it was changed: run again, or give another folder")
    cases = [case | {"metrics": case.get("metrics") or {}, "failures": case.get("failures") or []} for case in content["cases"]]
    content |= {"cases": cases, "provenance": content.get("provenance") or {}}
    if content.get("schema") == 1:
        return _from_schema_1(content)
    if content.get("schema") != SCHEMA:
        raise ValueError(f"{file} has schema {content.get('schema')}, and this mpq reads {SCHEMA}: use the mpq that wrote it")
    return content


_Shape = dict[str, tuple[type, ...]]
_FIGURE, _TEXT, _TABLE = (int, float), (str,), (dict,)
_MEASURE: _Shape = {
    **dict.fromkeys(("value", "ci_low", "ci_high", "tolerance", "missing", "version"), _FIGURE),
    **dict.fromkeys(("unit", "why_missing", "method"), _TEXT),
    "higher_is_better": (bool,),
    "bounds": (list,),
    **dict.fromkeys(("settings", "packages"), _TABLE),
}
_CASE: _Shape = {
    **dict.fromkeys((*COLUMNS, "outcome", "codec_fingerprint", "model_fingerprint"), _TEXT),
    **dict.fromkeys(("value", "ci_low", "ci_high", "rate", "samples", "tolerance", "reference", "baseline"), _FIGURE),
    **dict.fromkeys((name for name in COLUMNS if name.startswith(("rate_", "retention", "bytes", "kbps", "compression_"))), _FIGURE),
    "rate_unit": _TEXT,
    **dict.fromkeys(("metrics", "margins", "seconds", "work", "flips", "change"), _TABLE),
    "failures": (list,),
}
_FAILURE: _Shape = dict.fromkeys(("sample", "step", "reason"), _TEXT)
_NAMED = ("case", "suite", "evaluation", "codec", "quality")


def _mistake(content: dict[str, Any]) -> str:
    """Say in which place results have something of another kind than a run writes there; "" where nowhere. What is absent may be."""
    if wrong := _unlike(content, {"provenance": _TABLE, "created": _TEXT}):
        return wrong
    if wrong := _unlike(content.get("provenance") or {}, {"machine": _TABLE, "options": _TABLE, "packages": _TABLE}):
        return f"provenance: {wrong}"
    for number, case in enumerate(content["cases"], 1):
        wrong = _unlike(case, _CASE) if isinstance(case, dict) else "no table"
        wrong = wrong or next((f"no {name}" for name in _NAMED if not isinstance(case.get(name), str)), "")
        for part, shape in (("metrics", _MEASURE), ("failures", _FAILURE)):
            inside = (not wrong and case.get(part)) or ()
            for one in inside.values() if isinstance(inside, dict) else inside:
                wrong = wrong or (f"{part}: {found}" if (found := _unlike(one, shape) if isinstance(one, dict) else "no table") else "")
        if wrong:
            return f"case {number}: {wrong}"
    return ""


def _unlike(content: dict[str, Any], shape: _Shape) -> str:
    """Name the first entry of another type than ``shape`` has for it."""
    for name, kinds in shape.items():
        value = content.get(name)
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            return f"{name} is {json.dumps(value)[:40]}"
    return ""


def _from_schema_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return results of schema 1 as of `SCHEMA`: ``bps`` was read as bits per second, and there was no ledger."""
    units = {"bps": "bits/sample"}
    cases = [case | {"rate_unit": units.get(case.get("rate_unit"), case.get("rate_unit"))} for case in content["cases"]]
    return content | {"schema": SCHEMA, "cases": cases}


def _figure(value: float | None) -> float | None:
    """Round to what a figure can mean, and leave out what does not exist."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _finite(content: dict[str, Any]) -> dict[str, Any]:
    """Replace what JSON has no word for."""

    def mend(value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return [mend(item) for item in value] if isinstance(value, (list, tuple)) else value

    return {key: mend(value) for key, value in content.items()}


def status_of(verdict: str, outcome: str) -> str:
    """Return one of `STATUSES`: the verdict, unless the outcome says something worse."""
    if verdict in ("regressed", "rate"):
        return verdict
    if outcome in ("failed", "not run", "skipped"):
        return outcome
    return verdict if verdict in STATUSES else outcome or "not run"
