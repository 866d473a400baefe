"""The lowest measured rate of each codec that keeps a share of the original's score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mpq_fixtures.decisions.lowest import KEPT, keeps, lowest, percent
from mpq_fixtures.report.cases import Case


@dataclass(frozen=True)
class Lowest:
    """The cheapest measured point of a codec that keeps a share of the original's score; ``case`` is None where none does."""

    codec: str
    case: Case | None
    note: str


def lowest_rates(cases: Iterable[Case], share: float = KEPT) -> list[Lowest]:
    """Find for each codec of one evaluation the lowest measured rate that keeps ``share``, cheapest codec first.

    Nothing is interpolated. A case with failed samples does not count, since its value leaves them out.
    """
    ladders: dict[str, list[Case]] = {}
    for case in cases:
        if not case.original:
            ladders.setdefault(case.series, []).append(case)
    found = [_lowest(codec, ladder, share) for codec, ladder in ladders.items()]
    return sorted(found, key=lambda lowest: math.inf if lowest.case is None else lowest.case.rate or 0.0)


def _lowest(codec: str, ladder: list[Case], share: float) -> Lowest:
    usable = [case for case in ladder if case.rate is not None and case.retention is not None and not case.failures]
    usable.sort(key=lambda case: case.rate or 0.0)
    left_out = [case for case in ladder if case not in usable]
    notes = [f"not counted: {', '.join(case.rung for case in left_out)} ({_why_left_out(left_out)})"] if left_out and usable else []
    if not usable:
        return Lowest(codec, None, _why_left_out(left_out))
    place = int(lowest([case.rate for case in usable], [case.retention for case in usable], share))
    best = usable[place] if place >= 0 else None
    if best is None:
        most = max(usable, key=lambda case: case.retention or 0.0)
        return Lowest(codec, None, "; ".join([f"{most.rung} keeps most, {percent(most.retention)}", *notes]))
    if best is usable[0]:
        notes.insert(0, "even its lowest point keeps it" if ladder[0] is best else "the lowest point that was measured")
    above = [case for case in usable[usable.index(best) + 1 :] if not keeps(case.retention, share)]
    if above:
        notes.insert(0, "not monotone: " + ", ".join(f"{case.rung} keeps {percent(case.retention)}" for case in above))
    return Lowest(codec, best, "; ".join(notes))


def _why_left_out(cases: Sequence[Case]) -> str:
    if any(case.failures for case in cases):
        return "samples failed"
    if any(case.main.value is not None and case.reference is None for case in cases):
        return "the originals were not measured"
    return "not measured"
