"""The study's figures beside those of a run: what its notebooks printed, what they give once mended, and what was measured.

The figures are in ``study.json`` with their source. ``mended`` is what the study's own outputs give without running anything again; where
an error cannot be undone that way, there is only its reason.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpq_fixtures.report.cases import Case
from mpq_fixtures.results.figures import number

SUITE = "study"
"""The suite whose evaluations have the names of the study's in ``study.json``."""


@dataclass(frozen=True)
class Figures:
    """A mean rate over samples, in bits per pixel or audio sample, and the metric; None where there is no figure."""

    rate: float | None = None
    value: float | None = None

    def __bool__(self) -> bool:
        return self.rate is not None or self.value is not None


@dataclass(frozen=True)
class Row:
    """One operating point of one evaluation; ``reasons`` are the numbers of the corrections that concern it, from 1.

    ``expected`` is what the model is said to reach on the originals, and by whom. ``samples`` is how many were measured of ``of``.
    """

    evaluation: str
    what: str
    codec: str
    point: str
    rate_unit: str
    metric: str
    printed: Figures
    mended_rate: float | None
    measured: Figures
    interval: tuple[float, float] | None
    samples: int
    of: int
    reasons: tuple[int, ...]
    expected: str


@dataclass(frozen=True)
class Replication:
    """The table, the reasons of its corrections in the order of their numbers, further notes, and where the figures come from."""

    rows: tuple[Row, ...]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    source: Mapping[str, str]


def concerns(cases: Iterable[Case]) -> bool:
    """Tell whether a run holds evaluations of the study's suite."""
    return any(case.suite == SUITE for case in cases)


def replicate(records: Sequence[Mapping[str, Any]]) -> Replication:
    """Set the ``cases`` of a run's ``results.json`` beside the study; points that the run does not hold are there without a measure."""
    study = reference()
    measured = {str(record["case"]): record for record in records if record.get("suite") == SUITE}
    rows = [
        _row(evaluation, point, study["corrections"], measured)
        for evaluation in study["evaluations"]
        for point in ({"codec": "none", "point": "original", "value": evaluation["original"]}, *evaluation["points"])
    ]
    reasons = tuple(correction["reason"] for correction in study["corrections"])
    return Replication(tuple(rows), reasons, tuple(study["notes"]), study["source"])


@functools.cache
def reference() -> dict[str, Any]:
    """Return the content of ``study.json``."""
    content: dict[str, Any] = json.loads(Path(__file__).with_name("study.json").read_text(encoding="utf-8"))
    return content


def _row(
    evaluation: Mapping[str, Any],
    point: Mapping[str, Any],
    corrections: Sequence[Mapping[str, Any]],
    measured: Mapping[str, Mapping[str, Any]],
) -> Row:
    name = point["point"]
    concerned = [
        (index, correction)
        for index, correction in enumerate(corrections, 1)
        if evaluation["name"] in correction["evaluations"] and (correction["points"] is None or name in correction["points"])
    ]
    value = 1 - point["value"] if evaluation["printed_as"] == "wer" else point["value"]
    factor = next((correction["rate_factor"] for _, correction in concerned if "rate_factor" in correction), None)
    record = measured.get(f"{evaluation['name']}-{name}", {})
    low, high = number(record.get("ci_low")), number(record.get("ci_high"))
    expected = evaluation["expected"] if name == "original" else None
    return Row(
        evaluation=evaluation["name"],
        what=evaluation["what"],
        codec=point["codec"],
        point=name,
        rate_unit=evaluation["rate_unit"],
        metric=evaluation["metric"],
        printed=Figures(point.get("rate"), value),
        mended_rate=point["rate"] * factor if factor else None,
        measured=Figures(number(record.get("rate_mean")), number(record.get("value"))),
        interval=None if low is None or high is None else (low, high),
        samples=int(record.get("samples") or 0),
        of=evaluation["samples"],
        reasons=tuple(index for index, _ in concerned),
        expected=f"{expected['value']:g}, {expected['of']}" if expected else "",
    )
