"""The lowest rate that keeps a share of the originals' value: what it means, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.decisions.points import Points
from mpq_fixtures.decisions.quantiles import QUANTILES, figure, quantiles

SHARES = (0.99, 0.98, 0.95, 0.90)
"""Shares of the originals' value that the results have an answer for."""

KEPT = 0.95
"""The share that counts as kept where nobody asks for another."""

ROUNDING = 1e-9
"""How far a retention may be below a share and keep it: what rounding does."""


def keeps(retention: float | None, share: float) -> bool:
    """Whether a point keeps a share of the originals' value; one without a retention does not."""
    return retention is not None and retention >= share - ROUNDING


def lowest(rates: Any, retentions: Any, share: float) -> NDArray[np.intp]:
    """Return which point has the lowest rate among those that keep a share, ``[..., points]`` into ``[...]``; -1 where none does.

    Nothing is interpolated, and where retention does not rise with the rate a point above may keep less. Of points of one rate it is
    the first. A NaN, or a None, keeps nothing.
    """
    with np.errstate(invalid="ignore"):
        kept = np.where(np.asarray(retentions, float) >= share - ROUNDING, np.asarray(rates, float), np.inf)
    kept = np.where(np.isnan(kept), np.inf, kept)
    return np.where(np.isfinite(kept).any(axis=-1), kept.argmin(axis=-1), -1)


def choices(points: Points, share: float) -> list[dict[str, Any]]:
    """Return for each series the point of the lowest rate that keeps a share, cheapest first, those without one last.

    The choice is the one on all samples; its interval holds the rates that are chosen in the resamples where the series keeps the share
    at some point. ``cheapest`` counts the resamples in which no other series is cheaper; those that tie share one.
    """
    retentions, ladders = points.retentions, points.ladders
    chosen = np.full((len(ladders), len(points.rates)), np.nan)
    first = []
    for number, columns in enumerate(ladders.values()):
        found = lowest(points.rates[:, columns], retentions[:, columns], share)
        rows = np.flatnonzero(found >= 0)
        chosen[number, rows] = points.rates[rows, columns[found[rows]]]
        first.append(int(columns[found[0]]) if found[0] >= 0 else None)
    drawn = chosen[:, 1:]
    reached = np.isfinite(drawn)
    bounds = quantiles(drawn, QUANTILES)
    with np.errstate(invalid="ignore"):
        best = drawn == np.where(reached, drawn, np.inf).min(axis=0, initial=np.inf)
    cheapest = best / np.maximum(best.sum(axis=0), 1)
    entries = []
    for number, (name, columns) in enumerate(ladders.items()):
        place = first[number]
        rate = math.nan if place is None else float(points.rates[0, place])
        low, high = bounds[number] if place is not None else (math.nan, math.nan)
        entries.append(
            {
                "codec": name,
                "case": None if place is None else points.cases[place],
                "quality": None if place is None else points.qualities[place],
                "rate": figure(rate),
                "rate_low": figure(low),
                "rate_high": figure(high),
                "compression_ratio": figure(points.raw_bits / rate if rate else math.nan),
                "reached": figure(reached[number].mean()) if points.resamples else None,
                "cheapest": figure(cheapest[number].mean()) if points.resamples else None,
                "note": _note(points, columns, retentions[0, columns], place, share),
            }
        )
    return sorted(entries, key=lambda entry: math.inf if entry["rate"] is None else entry["rate"])


def _note(points: Points, columns: NDArray[np.intp], retentions: NDArray[np.float64], place: int | None, share: float) -> str:
    """Say what a reader of a choice should know of the ladder that it was taken from."""
    names: Sequence[str] = [points.qualities[column].partition("@")[0] for column in columns]
    if not np.isfinite(retentions).any():
        return "there is nothing to retain: the originals score nothing or were not measured, or lower is better"
    if place is None:
        most = int(np.nanargmax(retentions))
        return f"{names[most]} keeps most, {percent(retentions[most], [share])}"
    rates, rate = points.rates[0, columns], points.rates[0, place]
    below = [
        f"{name} keeps {percent(kept, [share])}"
        for name, kept, own in zip(names, retentions, rates, strict=True)
        if own > rate and not keeps(kept, share)
    ]
    notes = [f"not monotone: {', '.join(below)}"] if below else []
    return "; ".join([*notes, "the lowest point that was measured"] if rate == rates.min() else notes)


def percent(retention: float | None, shares: Sequence[float] = SHARES, *, unit: bool = True) -> str:
    """Write a retention as per cent with one decimal, never rounded up over one of ``shares``: ``94.9 %``; an empty text for None."""
    if retention is None:
        return ""
    if not math.isfinite(retention):
        return "nothing that is known"
    figure = round(100 * retention, 1)
    if any(not keeps(retention, share) and share <= figure / 100 for share in shares):
        figure = math.floor(1000 * retention + 1e-6) / 10
    return f"{figure:.1f}{' %' if unit else ''}".replace("-", "\N{MINUS SIGN}")
