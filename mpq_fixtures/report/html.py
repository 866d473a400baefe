"""Results into one HTML file that works offline and without scripts.

Whatever comes from data is text: Jinja escapes it in the page, JSON for the charts has no ``<`` in it, media are ``data:`` URIs of the
types in `gallery.MEDIA_TYPES`, and the page's own policy allows neither a connection nor a script but the two that were written here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpq_fixtures.chain import PLURAL
from mpq_fixtures.files import write_atomically
from mpq_fixtures.report import cases as reading
from mpq_fixtures.report import curves, drawing, replication
from mpq_fixtures.report.cases import Case, Lowest, Measure, read_case
from mpq_fixtures.report.changes import changes
from mpq_fixtures.report.flips import Flips, counts_of, flips_of, rows_of, wanted, weight_of
from mpq_fixtures.report.gallery import Example, examples_of, media_budget, share_budget, show_example, weight
from mpq_fixtures.report.history import OverTime, find_history, over_time
from mpq_fixtures.results.courses import History
from mpq_fixtures.results.files import read_results
from mpq_fixtures.results.samples import read_examples
from mpq_fixtures.tasks import title_of

if TYPE_CHECKING:
    import pandas as pd

MOST_FAILURES, ALL_FAILURES = 200, 10_000
"""Samples that are named for a case and for all of them together; all others are in samples.parquet."""

ROW_TEXT = 600
"""Characters that a point takes in the table of all points over time."""

FLIPS_SHARE = 2 / 3
"""Of the room for pictures and sounds, what flips may take; the rest is for the sample of every point."""

ATTENTION = ("failed", "regressed", "rate", "not run", "skipped", "underpowered")


def write_report(folder: Path, history: Path | None = None) -> Path:
    """Render ``report.html`` of a run's folder from its ``results.json`` and ``samples.parquet``, and return its path.

    ``history`` is the folder to which runs were added; by default the one that the run's options name, where it is still there.
    Raises `ValueError`, with a sentence, where one of the two cannot be read.
    """
    results, file = read_results(folder), folder / "samples.parquet"
    try:
        samples = read_examples(file, partial(wanted, results["cases"]))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file} cannot be read: {reason}; give the folder that a run wrote, such as reports/latest") from None
    page = render(results, samples, find_history(results, history))
    write_atomically(folder / "report.html", page.encode("utf-8", "replace"))
    return folder / "report.html"


def render(results: Mapping[str, Any], samples: pd.DataFrame, history: History | None = None) -> str:
    """Lay out the page from the content of ``results.json`` and ``samples.parquet``, as ``reports/README.md`` describes them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    here = Path(__file__).parent
    cases = [read_case(record) for record in results.get("cases", ())]
    with drawing.unchecked():
        sections = _sections(cases, results.get("similarity") or (), history)
    charted: list[tuple[Section | OverTime, Mapping[str, Any]]] = [(section, section.chart) for section in sections if section.chart]
    charted += [(section.history, section.history.drawn) for section in sections if section.history and section.history.drawn]
    for (shown, _), picture in zip(charted, drawing.pictures([chart for _, chart in charted]), strict=True):
        shown.picture = Markup(drawing.lighter(picture))
    scripts = [drawing.script()] if charted else []
    scripts.append("".join((here / name).read_text(encoding="utf-8") for name in ("report.js", "flips.js")))
    _show_samples(sections, cases, results, samples, sum(map(len, scripts)))
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {"rate": reading.rate, "ratio": reading.ratio, "percent": reading.percent, "sentence": _sentence, "key": _key}
    page: str = environment.get_template("report.html.j2").render(
        suites=list(dict.fromkeys(case.suite for case in cases if case.suite)),
        created=_moment(results.get("created")),
        sentence=reading.sentence(cases, bool(results.get("complete", True))),
        well=bool(cases) and all(case.outcome == "passed" for case in cases),
        statuses=reading.count_statuses(cases),
        changed=changes(results.get("cases", ())),
        pooled=results.get("pooled") or (),
        attention=[case for case in reading.worst_first(cases) if case.status in ATTENTION],
        sections=sections,
        replication=replication.replicate(results["cases"]) if replication.concerns(cases) else None,
        cases=reading.worst_first(cases),
        further=_further(cases),
        most_failures=max(1, min(MOST_FAILURES, ALL_FAILURES // max(1, sum(bool(case.failures) for case in cases)))),
        links=PLURAL,
        off=reading.OFF,
        kept=f"{reading.KEPT:.0%}".replace("%", " %"),
        provenance=results.get("provenance") or {},
        time=_time(results.get("seconds") or {}),
        work=_work(results.get("work") or {}),
        schema=results.get("schema"),
        exit_status=results.get("exit_status"),
        complete=results.get("complete"),
        css=Markup("".join((here / name).read_text(encoding="utf-8") for name in ("report.css", "flips.css"))),
        scripts=[Markup(script) for script in scripts],
        policy=" ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts),
    )
    return page


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
    lowest: list[Lowest]
    dearest: float
    rate_unit: str
    chart: dict[str, Any] | None
    picture: str
    ledger: list[Case]
    similarity: list[Similarity]
    history: OverTime | None
    cases: list[Case]
    example: Example | None = None
    flips: Flips | None = None


@dataclass(frozen=True)
class Similarity:
    """How a signal metric orders an evaluation's points against the task's metric: Spearman's rho with its interval, and over what."""

    title: str
    rho: float | None
    low: float | None
    high: float | None
    points: int
    missing: str


def _sections(cases: Sequence[Case], similarity: Sequence[Mapping[str, Any]], history: History | None) -> list[Section]:
    style = curves.marks(cases)
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.suite, case.evaluation), []).append(case)
    sections = []
    for index, ((suite, name), group) in enumerate(groups.items(), 1):
        first = next((case for case in group if case.main.name), group[0])
        original = next((case for case in group if case.original), None)
        reference = next((case.reference for case in group if case.reference is not None), None)
        lowest = reading.lowest_rates(group)
        chart = curves.curve(group, style)
        sections.append(
            Section(
                key=f"evaluation-{index}",
                suite=suite,
                name=name,
                task=title_of(first.task),
                model=first.model,
                dataset=first.dataset,
                samples=max(case.samples for case in group),
                main=first.main,
                original=original,
                reference=first.main.show(original.main.value if original and original.main.value is not None else reference),
                lowest=lowest,
                dearest=max((found.case.rate or 0.0 for found in lowest if found.case), default=0.0),
                rate_unit=next((case.rate_unit for case in group if case.rate_unit), ""),
                chart=chart,
                picture="",
                ledger=[case for case in group if not case.original and case.bytes_payload is not None],
                similarity=_similarity(similarity, suite, name, group),
                history=over_time(history, suite, name),
                cases=group,
            )
        )
    return sections


def _show_samples(
    sections: Sequence[Section], cases: Sequence[Case], results: Mapping[str, Any], samples: pd.DataFrame, others: int
) -> None:
    """Show each section's example and flips with as many media as the page has room for beside its charts and ``others`` characters."""
    for section in sections:
        others += len(section.picture) + len(json.dumps(section.chart))
        if history := section.history:
            others += len(history.picture) + len(json.dumps(history.chart)) + ROW_TEXT * len(history.rows)
    examples, counts = examples_of(samples), counts_of(results.get("cases", ()))
    left = media_budget(cases, others)
    weights = {section.key: sum(map(weight_of, rows_of(section.cases, samples))) for section in sections}
    budgets = share_budget(weights, int(FLIPS_SHARE * left))
    left -= sum(min(weights[key], budget) for key, budget in budgets.items())
    for section in sections:
        section.flips = flips_of(section.cases, samples, counts, budgets[section.key])
    weights = {
        section.key: sum(weight(examples[case.case]["example"]) for case in section.cases if case.case in examples) for section in sections
    }
    budgets = share_budget(weights, left)
    for section in sections:
        section.example = show_example(section.cases, examples, budgets[section.key])


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
                    rho=reading.number(entry.get("rho")),
                    low=reading.number(entry.get("ci_low")),
                    high=reading.number(entry.get("ci_high")),
                    points=int(reading.number(entry.get("points")) or 0),
                    missing=f"{missing} of {sum(case.samples for case in cases if not case.original)}: {reason}" if missing else "",
                )
            )
    return sorted(found, key=lambda one: -math.inf if one.rho is None else one.rho, reverse=True)


def _further(cases: Iterable[Case]) -> list[Measure]:
    """Return one measure of each further metric, in the order in which they come up."""
    return list({measure.name: measure for case in cases for measure in case.further}.values())


def _sentence(words: str) -> str:
    """Begin with a capital letter and leave the rest: ``mean IoU`` is no ``Mean iou``."""
    return words[:1].upper() + words[1:]


def _key(figure: float | None) -> str:
    """Write a figure to sort by, as exactly as anybody sees it; nothing where there is none."""
    return "" if figure is None else f"{figure:.7g}"


def _moment(created: Any) -> str:
    """Write an ISO 8601 time as ``23 November 2026, 18:15 UTC``; anything else as it is."""
    try:
        moment = datetime.fromisoformat(str(created))
    except ValueError:
        return reading.text(created)
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or 'UTC'}"


def _seconds(value: Any) -> str:
    """Write seconds as ``12.3 s`` or ``4 min 05 s``."""
    seconds = reading.number(value)
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else f"{math.floor(seconds / 60)} min {math.floor(seconds % 60):02d} s"


def _time(seconds: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, time, and share of the workers' lifetime for each entry of ``seconds``."""
    worker = reading.number(seconds.get("worker"))
    titles = {"busy": "any of these under way", "worker": "the workers' lifetime"}
    figures = [(name, reading.number(value)) for name, value in seconds.items() if name != "share"]
    return [
        (titles.get(name, name), _seconds(value), f"{value / worker:.0%}".replace("%", " %") if worker else "")
        for name, value in figures
        if value is not None
    ]


def _work(work: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, computed and reused for each kind of work, whichever of the two comes first in ``work``."""
    if set(work) <= {"computed", "reused"}:
        kinds = dict.fromkeys(kind for counts in work.values() if isinstance(counts, Mapping) for kind in counts)
        work = {kind: {how: counts.get(kind, 0) for how, counts in work.items()} for kind in kinds}
    return [
        (kind.replace("_", " "), reading.text(counts.get("computed", 0)), reading.text(counts.get("reused", 0)))
        for kind, counts in work.items()
        if isinstance(counts, Mapping)
    ]
