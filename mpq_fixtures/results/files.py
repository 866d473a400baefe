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

import numpy as np

from mpq_fixtures.chain import LAYERS, SOURCE
from mpq_fixtures.files import write_atomically
from mpq_fixtures.record import Record
from mpq_fixtures.suite import Case

SCHEMA = 2
COLUMNS = (
    "case", "suite", "evaluation", "task", "model", "dataset", "codec", "quality", "samples", "metric", "value", "ci_low", "ci_high",
    "reference", "retention", "rate", "rate_mean", "rate_unit", "kbps", "rate_nominal", "rate_without_container", "bytes",
    "bytes_payload", "bytes_container", "bytes_side", "compression_ratio", "baseline", "verdict", "reason", "notes", "layer", "suspect",
)  # fmt: skip
SHORT = 16
"""Hex digits of a sample's source that results keep, as many as the other links of its chain have."""
LEDGER = ("payload", "container", "side")
PASSED, FAILED, SKIPPED, NOT_RUN = "passed", "failed", "skipped", "not run"


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
            "rate": _figure(record.rate),
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
        }


def write_results(folder: Path, results: Sequence[Result], about: dict[str, Any]) -> None:
    """Write the three files of a run; ``about`` is what ``results.json`` says besides the cases."""
    rows = [result.row() for result in results]
    further = sorted({name for row in rows for name in row} - set(COLUMNS))
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *further], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "results.csv", text.getvalue().encode())
    document = {"schema": SCHEMA, **about, "cases": [result.to_dict() for result in results]}
    write_atomically(folder / "results.json", json.dumps(document, indent=1, allow_nan=False).encode())
    write_atomically(folder / "samples.parquet", _samples(results))


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
    if content.get("schema") == 1:
        return _from_schema_1(content)
    if content.get("schema") != SCHEMA:
        raise ValueError(f"{file} has schema {content.get('schema')}, and this mpq reads {SCHEMA}: use the mpq that wrote it")
    return content


def read_samples(folder: Path) -> Any:
    """Return a run's ``samples.parquet`` as a pandas table, without the examples; raises `ValueError`, with a sentence, where it cannot."""
    import pyarrow.parquet as pq

    file = folder / "samples.parquet"
    try:
        columns = [name for name in pq.read_schema(file).names if name != "example"]
        if "statistic_shape" not in columns:
            raise ValueError("it was written by an older mpq, without what a comparison needs")
        return pq.read_table(file, columns=columns).to_pandas()
    except (OSError, ValueError) as error:  # pyarrow's errors are one or the other
        raise ValueError(f"{file} cannot be read: {str(error) or type(error).__name__}; run again, or give another folder") from None


def _from_schema_1(content: dict[str, Any]) -> dict[str, Any]:
    """Return results of schema 1 as of `SCHEMA`: ``bps`` was read as bits per second, and there was no ledger."""
    units = {"bps": "bits/sample"}
    cases = [case | {"rate_unit": units.get(case.get("rate_unit"), case.get("rate_unit"))} for case in content["cases"]]
    return content | {"schema": SCHEMA, "cases": cases}


def _samples(results: Sequence[Result]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for result in results if result.record is not None for row in _sample_rows(result.record)]
    scores = sorted({name for row in rows for name in row["scores"]})
    part = pa.struct([("label", pa.string()), ("media_type", pa.string()), ("data", pa.binary())])
    columns: dict[str, tuple[Any, list[Any]]] = {
        "case": (pa.string(), [row["case"] for row in rows]),
        "sample": (pa.string(), [row["sample"] for row in rows]),
        "group": (pa.string(), [row.get("group") for row in rows]),
        **{layer: (pa.string(), [row.get("chain", {}).get(layer) for row in rows]) for layer in LAYERS[:-1]},
        "bytes": (pa.int64(), [row.get("bytes") for row in rows]),
        "elements": (pa.int64(), [row.get("elements") for row in rows]),
        **{f"bytes_{part}": (pa.int64(), [row.get("ledger", {}).get(part) for row in rows]) for part in LEDGER},
        "rate": (pa.float64(), [row.get("rate") for row in rows]),
        "prediction": (pa.string(), [row.get("prediction") for row in rows]),
        "target": (pa.string(), [row.get("target") for row in rows]),
        "score": (pa.float64(), [row.get("score") for row in rows]),
        **{name: (pa.float64(), [row["scores"].get(name) for row in rows]) for name in scores},
        "statistic": (pa.list_(pa.float64()), [row.get("statistic") for row in rows]),
        "statistic_shape": (pa.list_(pa.int32()), [row.get("statistic_shape") for row in rows]),
        "error": (pa.string(), [row.get("error") for row in rows]),
        "example": (pa.list_(part), [row.get("example") for row in rows]),
    }
    table = pa.table({name: pa.array(values, type=kind) for name, (kind, values) in columns.items()})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _sample_rows(record: Record) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {
            "case": record.case,
            "sample": row.sample,
            "bytes": row.bytes,
            "elements": row.elements,
            "ledger": row.ledger,
            "rate": 8 * row.bytes / row.elements,
            "prediction": row.prediction,
            "target": row.target,
            "score": row.scores[record.metric],
            "scores": {name: score for name, score in row.scores.items() if name != record.metric},
            "statistic": np.ravel(row.statistic).tolist(),
            "statistic_shape": np.shape(row.statistic),
            "group": row.group,
            "chain": {SOURCE: row.source[:SHORT], **row.chain},
        }
        for row in record.rows
    ]
    if rows and record.example:
        shown = next((row for row in rows if row["sample"] == record.example_sample), rows[0])
        shown["example"] = record.example
    return rows + [
        {"case": record.case, "sample": failure.sample, "scores": {}, "error": f"{failure.step}: {failure.reason}"}
        for failure in record.failures
    ]


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
