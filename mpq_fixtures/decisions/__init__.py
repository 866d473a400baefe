"""Decisions: how far can I compress, with which codec, and how sure is that. Each is taken anew in every resample of the samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpq_fixtures.decisions.bjontegaard import deltas
from mpq_fixtures.decisions.front import front
from mpq_fixtures.decisions.lowest import SHARES, choices
from mpq_fixtures.decisions.points import points_of
from mpq_fixtures.record import Record

__all__ = ["decide"]


def decide(records: Sequence[Record]) -> dict[str, Any]:
    """Return what ``results.json`` says under ``decisions`` of the records of one evaluation: see ``reports/README.md``."""
    about: dict[str, Any] = {"suite": records[0].suite, "evaluation": records[0].evaluation}
    try:
        points = points_of(records)
    except ValueError as error:
        nothing = {"samples": 0, "clusters": 0, "resamples": 0, "keep": {f"{share:g}": [] for share in SHARES}}
        return about | nothing | {"front": [], "bjontegaard": [], "note": str(error)}
    return about | {
        "samples": points.samples,
        "clusters": points.clusters,
        "resamples": points.resamples,
        "keep": {f"{share:g}": choices(points, share) for share in SHARES},
        "front": front(points),
        "bjontegaard": deltas(points),
        "note": points.note,
    }
