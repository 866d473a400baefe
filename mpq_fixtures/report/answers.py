"""The answers of an evaluation: which codec, at which quality, for each share of the score that a reader can ask to keep.

Where results hold ``decisions``, an answer says how sure it is: the decision was taken anew in every resample. Results of older runs do
not; their answers are the lowest measured rates alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpq_fixtures.decisions.lowest import SHARES
from mpq_fixtures.report.cases import Case
from mpq_fixtures.report.lowest_rates import lowest_rates
from mpq_fixtures.results.figures import Measure, number, rate, text


@dataclass(frozen=True)
class Answer:
    """What one codec needs; ``case`` is None where it keeps the share at no point.

    ``low`` to ``high`` is the interval of the rate decided on. ``reached`` and ``cheapest`` are shares of resamples: in which the codec
    keeps the share at some point, and in which it does so with fewer bits than all others.
    """

    codec: str
    case: Case | None
    low: float | None
    high: float | None
    reached: float | None
    cheapest: float | None
    note: str

    @property
    def shown_rate(self) -> str:
        """The rate, in kbit/s for sounds."""
        if self.case is None:
            return ""
        return rate(self.case.rate, self.case.rate_unit) if self.case.kbps is None else rate(self.case.kbps, "kbit/s")

    @property
    def interval(self) -> str:
        """The interval of the rate in brackets, in the unit of `shown_rate`."""
        if self.case is None or self.low is None or self.high is None:
            return ""
        scale = self.case.kbps / self.case.rate if self.case.kbps and self.case.rate else 1.0
        return f"[{rate(scale * self.low)}, {rate(scale * self.high)}]"


@dataclass(frozen=True)
class Answers:
    """All codecs of an evaluation at one ``share``, the cheapest first and those that do not keep it last."""

    share: float
    rows: list[Answer]

    @property
    def key(self) -> str:
        """The share as the page's address has it: ``95``."""
        return f"{100 * self.share:g}"

    @property
    def title(self) -> str:
        """The share as a reader sees it."""
        return f"{self.key} %"

    @property
    def dearest(self) -> float:
        """The highest rate among the answers, which the longest bar stands for."""
        return max((row.case.rate or 0.0 for row in self.rows if row.case), default=0.0)

    @property
    def sentence(self) -> str:
        """Say what to use: the cheapest codec's point, its rate, how sure that is, and who comes next."""
        found = [row for row in self.rows if row.case]
        if not found:
            return f"No codec keeps {self.title}." if self.rows else ""
        first, *others = found
        parts = [f"{_point(first)}, {' '.join(filter(None, (first.shown_rate, first.interval)))}, keeps {self.title}"]
        if first.cheapest is not None and others:
            parts.append(f"the cheapest codec in {whole(first.cheapest)} of resamples")
        elif first.reached is not None:
            parts.append(f"kept in {whole(first.reached)} of resamples")
        if others:
            parts.append(f"runner-up {_point(others[0])}, {others[0].shown_rate}")
        return "; ".join(parts) + "."


@dataclass(frozen=True)
class Delta:
    """A codec against an anchor, as text: bits at the same value, the value at the same bits; or a word where there is no number."""

    codec: str
    rate: str
    value: str


def answers(cases: Sequence[Case], decisions: Mapping[str, Any] | None) -> list[Answers]:
    """Return what to use at each of `SHARES`; ``decisions`` is the evaluation's entry in ``results.json``, None in older results."""
    return [Answers(share, _rows(cases, share, (decisions or {}).get("keep", {}).get(f"{share:g}"))) for share in SHARES]


def deltas(decisions: Mapping[str, Any] | None, measure: Measure, codecs: Sequence[str]) -> dict[str, list[Delta]]:
    """Return for each anchor how the other codecs compare; anchors in the order of ``codecs``."""

    def as_share(figure: float) -> str:
        return f"{100 * figure:+.0f}".replace("-", "\N{MINUS SIGN}")

    def as_value(figure: float) -> str:
        return measure.show(figure, sign=True, unit=False)

    found: dict[str, list[Delta]] = {codec: [] for codec in codecs}
    for entry in (decisions or {}).get("bjontegaard") or ():
        one = Delta(
            text(entry.get("codec")),
            _delta(entry.get("rate") or {}, as_share, " %"),
            _delta(entry.get("value") or {}, as_value, f" {measure.unit}" if measure.unit else ""),
        )
        found.setdefault(text(entry.get("anchor")), []).append(one)
    return {anchor: rows for anchor, rows in found.items() if rows}


def whole(share: float) -> str:
    """Write a share of resamples in whole per cent, never as all or none of them where it is not."""
    if 0 < share < 0.01:
        return "under 1 %"
    return f"{math.floor(100 * share + 0.5) if share < 0.985 else math.floor(100 * share + 1e-9)} %"


def _rows(cases: Sequence[Case], share: float, choices: Sequence[Mapping[str, Any]] | None) -> list[Answer]:
    lowest = {found.codec: found for found in lowest_rates(cases, share)}
    if choices is None:
        return [Answer(found.codec, found.case, None, None, None, None, found.note) for found in lowest.values()]
    known = {case.case: case for case in cases if case.rate is not None}
    rows = []
    for choice in choices:
        codec = text(choice.get("codec"))
        case = known.get(text(choice.get("case")))
        note = text(choice.get("note")) or (lowest[codec].note if codec in lowest and (case is None or lowest[codec].case is case) else "")
        low, high, reached, cheapest = (number(choice.get(name)) for name in ("rate_low", "rate_high", "reached", "cheapest"))
        rows.append(Answer(codec, case, low, high, reached, cheapest, note))
    return rows


def _point(row: Answer) -> str:
    return row.case.point if row.case else row.codec


def _delta(entry: Mapping[str, Any], show: Any, unit: str) -> str:
    delta, low, high = (number(entry.get(name)) for name in ("delta", "low", "high"))
    if delta is None:
        return text(entry.get("word")) or "\N{EN DASH}"
    interval = f" [{show(low)}, {show(high)}]" if low is not None and high is not None else ""
    return f"{show(delta)}{unit}{interval}"
