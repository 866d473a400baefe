"""The page's sections: one for each evaluation, with everything that is said of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpq_fixtures.report import curves
from mpq_fixtures.report.answers import Answers, Delta, answers, deltas
from mpq_fixtures.report.cases import Case, by_evaluation, count_statuses
from mpq_fixtures.report.flips import Flips
from mpq_fixtures.report.gallery import Example
from mpq_fixtures.report.history import OverTime, over_time
from mpq_fixtures.results import figures
from mpq_fixtures.results.courses import History
from mpq_fixtures.results.figures import Measure
from mpq_fixtures.tasks import title_of


@dataclass
class Section:
    """One evaluation as the page shows it; ``picture`` is its chart as SVG, drawn with those of the others."""

    key: str
    suite: str
    name: str
    task: str
    model: str
    dataset: str
    samples: int
    main: Measure
    original: Case | None
    reference: str
    answers: list[Answers]
    deltas: dict[str, list[Delta]]
    front: list[Case]
    decided: Mapping[str, Any]
    rate_unit: str
    chart: dict[str, Any] | None
    picture: str
    above: int
    ledger: list[Case]
    similarity: list[Similarity]
    history: OverTime | None
    cases: list[Case]
    example: Example | None = None
    flips: Flips | None = None

    @property
    def statuses(self) -> dict[str, int]:
        """How many cases have each status, worst first."""
        return count_statuses(self.cases)

    @property
    def paced(self) -> bool:
        """Whether coding was timed at any point."""
        return any(case.pace(step) is not None for case in self.cases for step in ("encode", "decode"))

    @property
    def amount(self) -> str:
        """What coding is timed by."""
        return "s of sound" if any(case.kbps for case in self.cases) else "megapixel"

    @property
    def stored(self) -> bool:
        """Whether the originals are compressed files, so that there is a ratio against them."""
        return any(case.stored_ratio is not None for case in self.cases)


@dataclass(frozen=True)
class Similarity:
    """How a signal metric orders an evaluation's points against the task's metric: Spearman's rho with its interval, and over what."""

    title: str
    rho: float | None
    low: float | None
    high: float | None
    points: int
    missing: str


def sections_of(cases: Sequence[Case], results: Mapping[str, Any], history: History | None) -> list[Section]:
    """Lay out the evaluations of a run, in the order of the suite, without their examples and pictures."""
    similarity = results.get("similarity") or ()
    decided = {(entry.get("suite"), entry.get("evaluation")): entry for entry in results.get("decisions") or ()}
    style = curves.marks(cases)
    sections = []
    for key, group in by_evaluation(cases).items():
        suite, name = group[0].suite, group[0].evaluation
        first = next((case for case in group if case.main.name), group[0])
        original = next((case for case in group if case.original), None)
        reference = next((case.reference for case in group if case.reference is not None), None)
        decisions = decided.get((suite, name))
        front = [case for one in (decisions or {}).get("front") or () for case in group if case.case == one]
        chart = curves.curve(group, style, [case.case for case in front])
        sections.append(
            Section(
                key=key,
                suite=suite,
                name=name,
                task=title_of(first.task),
                model=first.model,
                dataset=first.dataset,
                samples=max(case.samples for case in group),
                main=first.main,
                original=original,
                reference=first.main.show(original.main.value if original and original.main.value is not None else reference),
                answers=answers(group, decisions),
                deltas=deltas(decisions, first.main, list(dict.fromkeys(case.series for case in group if not case.original))),
                front=front,
                decided=decisions or {},
                rate_unit=next((case.rate_unit for case in group if case.rate_unit), ""),
                chart=chart,
                picture="",
                above=curves.above(group) if chart else 0,
                ledger=[case for case in group if not case.original and case.bytes_payload is not None],
                similarity=_similarity(similarity, suite, name, group),
                history=over_time(history, suite, name),
                cases=group,
            )
        )
    return sections


def _similarity(entries: Iterable[Mapping[str, Any]], suite: str, name: str, cases: Sequence[Case]) -> list[Similarity]:
    """Return how an evaluation's signal metrics go with its task's metric, the strongest first and those without a correlation last."""
    known = {str(entry.get("metric")): entry for entry in entries if (entry.get("suite"), entry.get("evaluation")) == (suite, name)}
    measures: dict[str, list[Measure]] = {}
    for case in cases:
        for measure in case.further:
            measures.setdefault(measure.name, []).append(measure)
    found = []
    for metric, own in measures.items():
        entry, missing = known.get(metric, {}), sum(measure.missing for measure in own)
        reason = next((measure.why_missing for measure in own if measure.missing), "")
        if entry or missing:
            found.append(
                Similarity(
                    title=own[0].title,
                    rho=figures.number(entry.get("rho")),
                    low=figures.number(entry.get("ci_low")),
                    high=figures.number(entry.get("ci_high")),
                    points=int(figures.number(entry.get("points")) or 0),
                    missing=f"{missing} of {sum(case.samples for case in cases if not case.original)}: {reason}" if missing else "",
                )
            )
    return sorted(found, key=lambda one: -math.inf if one.rho is None else one.rho, reverse=True)
