"""An evaluation over time, for the page: a small chart for each of the points that moved most, and a table of all of them.

The charts have a scale of their own each: points lie far apart, and what a night changes is small. The drawing has lines and marks; the
description for the page's script has a tooltip for each run as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpq_fixtures.report.curves import FAINT, INK, SCHEMA
from mpq_fixtures.results.courses import Course, Entry, History, of_host
from mpq_fixtures.results.figures import Measure
from mpq_fixtures.results.history import host_of, read_history
from mpq_fixtures.results.times import moment, parse_moment

CHARTS, COLUMNS = 8, 4
"""Points that get a chart, and how many stand side by side."""
RUNS, READ = 50, 100
"""Runs that charts go back, and runs that are read, for change points and the table."""
BLUE, RED = "#0072b2", "#bb3300"
_WIDTH, _HEIGHT = 154, 84


@dataclass
class OverTime:
    """What the page shows of an evaluation over time; ``picture`` is the drawing of ``drawn``, ``chart`` is for the page's script."""

    host: str
    runs: int
    first: str
    chart: dict[str, Any] | None
    drawn: dict[str, Any] | None
    points: int
    versions: list[tuple[str, str, list[str]]]
    rows: list[Row]
    picture: str = ""


@dataclass(frozen=True)
class Row:
    """A point over all runs: its figures as text, and the figures themselves to sort by."""

    point: str
    runs: int
    first: str
    now: str
    lowest: str
    highest: str
    difference: float | None
    shown_difference: str
    status: str
    red_since: str
    changes: list[str]


def find_history(results: Any, folder: Path | None = None) -> History | None:
    """Return the last runs of a run's host up to that run, from ``folder`` or where the run's options say; None where there is none."""
    provenance = results.get("provenance") or {}
    place = folder or (provenance.get("options") or {}).get("history")
    if not place:
        return None
    try:
        found = read_history(Path(place), last=READ)
    except ValueError:
        return None
    created = parse_moment(results.get("created"))
    told = [run.host for runs in found.hosts.values() for run in runs if run.started == created]
    return of_host(found, told[0] if told else host_of(results), created)


def over_time(history: History | None, suite: str, evaluation: str) -> OverTime | None:
    """Return what the page shows of an evaluation over time; None where it was measured in fewer than two runs."""
    courses = [course for course in history.courses if (course.suite, course.evaluation) == (suite, evaluation)] if history else []
    runs = {entry.run.run: entry.run for course in courses for entry in course.entries if entry.value is not None}
    if len(runs) < 2:
        return None
    order = sorted({entry.run.run: entry for course in courses for entry in course.entries}, key=_order(history, courses))
    marks = _marks(courses, order)
    charted = _charted(courses)
    shown = order[-RUNS:]
    return OverTime(
        host=courses[0].host,
        runs=len(order),
        first=moment(next(iter(sorted(runs.values(), key=lambda run: order.index(run.run)))).started),
        chart=_describe(charted, shown, marks, live=True),
        drawn=_describe(charted, shown, marks, live=False),
        points=len(charted),
        versions=[(letter, moment(runs[run].started) if run in runs else "", texts) for run, (letter, texts) in marks.items()],
        rows=[_row(course) for course in courses],
    )


def _order(history: History | None, courses: Sequence[Course]) -> Any:
    """Return the key that puts runs as their host's history has them."""
    places = {run.run: place for place, run in enumerate(history.hosts[courses[0].host])} if history else {}
    return places.__getitem__


def _marks(courses: Sequence[Course], order: Sequence[str]) -> dict[str, tuple[str, list[str]]]:
    """Give each run in which versions changed a letter and what changed, for whom where not for all."""
    found: dict[str, dict[str, list[str]]] = {}
    for course in courses:
        for number, texts in course.versions.items():
            for text in texts:
                found.setdefault(course.entries[number].run.run, {}).setdefault(text, []).append(course.codec)
    marks = {}
    for place, run in enumerate(run for run in order if run in found):
        texts = [text + _whom(codecs, len(courses)) for text, codecs in found[run].items()]
        marks[run] = (_letter(place), texts)
    return marks


def _whom(codecs: Sequence[str], cases: int) -> str:
    return "" if len(codecs) == cases else f" ({', '.join(dict.fromkeys(codecs))})"


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else str(place + 1)


def _charted(courses: Sequence[Course]) -> list[Course]:
    """Return the originals, and the points that moved most: red ones first, then those with change points; in the order of the suite."""

    def weight(course: Course) -> tuple[bool, bool, bool, float]:
        values = [course.entries[number].value or 0.0 for number in course.comparable]
        tolerance = next((entry.tolerance for entry in reversed(course.entries) if entry.tolerance), 1.0)
        span = (max(values) - min(values)) / tolerance if values else -1.0
        return course.codec == "original", course.red_since is not None, bool(course.changes), span

    measured = [course for course in courses if course.comparable]
    chosen = sorted(measured, key=weight, reverse=True)[:CHARTS]
    return [course for course in courses if course in chosen]


def _describe(courses: Sequence[Course], runs: Sequence[str], marks: dict[str, tuple[str, list[str]]], live: bool) -> dict[str, Any] | None:
    """Describe a small chart for each course in Vega-Lite; every layer takes its part of one table, so that it is laid out once."""
    if not courses:
        return None
    entries = {entry.run.run: entry for course in courses for entry in course.entries}
    runs = [run for run in runs if run in entries]
    main = _measure(courses[0])
    days = [f"{entries[run].run.started.day} {entries[run].run.started:%b}" for run in (runs[0], runs[-1])]

    def layer(data: str, mark: Mapping[str, Any], **encoding: Any) -> dict[str, Any]:
        return {"transform": [{"filter": f"isValid(datum.{data})"}], "mark": mark, "encoding": encoding}

    labels = {"labelExpr": f"datum.value ? '{days[1]}' : '{days[0]}'", "labelFlush": True, "labelOverlap": False}
    x = _number("r") | {
        "title": None,
        "scale": {"domain": [-0.5, len(runs) - 0.5], "nice": False},
        "axis": {"values": [0, len(runs) - 1], "grid": False, **labels},
    }
    axis = {"tickCount": 3, "ticks": False, "domain": False}
    y = _number("v") | {"title": None, "scale": {"nice": False, "zero": False}, "axis": axis}
    events = _text("e") | {"legend": None}
    kinds = ["first red run", "change point"]
    colour = {**events, "scale": {"domain": kinds, "range": [RED, BLUE]}}
    shape = {**events, "scale": {"domain": kinds, "range": ["triangle-down", "diamond"]}}
    letter = {"type": "text", "color": INK, "baseline": "bottom", "dy": -2, "fontSize": 10, "aria": False}
    above = {"expr": "datum.e === 'first red run' ? -9 : 0"}
    what = [_text("w", "changed")]
    layers = [
        layer("top", {"type": "rule", "opacity": 0, "aria": False}, y=_number("bottom"), y2={"field": "top"}),
        layer("a", {"type": "rule", "color": INK, "strokeDash": [3, 3], "strokeWidth": 1, "aria": False}, x=x, tooltip=what),
        layer("a", letter, x=x, y={"value": 0}, text=_text("a"), tooltip=what),
        layer("v", {"type": "area", "color": BLUE, "opacity": 0.16, "aria": False}, x=x, y=_number("l"), y2={"field": "h"}),
        layer("v", {"type": "line", "color": BLUE, "strokeWidth": 1.6, "aria": False}, x=x, y=y),
        layer(
            "e",
            {"type": "point", "filled": True, "size": 80, "opacity": 1, "yOffset": above},
            x=x,
            y=_number("at"),
            shape=shape,
            color=colour,
            tooltip=[_text("e", "mark"), _text("about", "what")],
        ),
    ]
    tables: dict[str, Any] = {"rows": [row for course in courses for row in _table(course, runs, marks, main)]}
    transform: list[dict[str, Any]] = [{"flatten": [*_FLAT]}]
    if live:
        value = _number("v") | {"title": main.title, "format": ".4f"}
        tooltip = [_text("t", "run"), _text("c", "commit"), value, _text("s", "verdict")]
        layers.append(layer("v", {"type": "point", "filled": True, "size": 90, "opacity": 0, "aria": False}, x=x, y=y, tooltip=tooltip))
        about = [(number, entries[run].run) for number, run in enumerate(runs)]
        tables["runs"] = [{"r": number, "t": f"{moment(run.started)} UTC", "c": run.commit[:8]} for number, run in about]
        # Here and not in the layer: within facets Vega-Lite does not find the table.
        transform.append({"lookup": "r", "from": {"data": {"name": "runs"}, "key": "r", "fields": ["t", "c"]}})
    return {
        "$schema": SCHEMA,
        "description": f"{main.axis} of {courses[0].evaluation} over {len(runs)} runs, one chart for each of {len(courses)} points",
        "datasets": tables,
        "data": {"name": "rows"},
        "facet": _text("p") | {"title": None, "sort": [course.point for course in courses]},
        "columns": COLUMNS,
        "spacing": {"row": 18, "column": 24},
        "resolve": {"scale": {"y": "independent"}},
        "spec": {"width": _WIDTH, "height": _HEIGHT, "transform": transform, "layer": layers},
        "config": _CONFIG,
    }


def _number(field: str) -> dict[str, Any]:
    return {"field": field, "type": "quantitative"}


def _text(field: str, title: str = "") -> dict[str, Any]:
    return {"field": field, "type": "nominal"} | ({"title": title} if title else {})


_CONFIG = {
    "background": "transparent",
    "font": "sans-serif",
    "padding": 4,
    "view": {"continuousWidth": 300, "continuousHeight": 300, "stroke": None},
    "header": {"labelColor": INK, "labelFontSize": 12, "labelFontWeight": 600, "labelAnchor": "start", "labelPadding": 14},
    "axis": {
        "labelColor": INK,
        "labelFontSize": 10,
        "gridColor": FAINT,
        "gridOpacity": 0.25,
        "domainColor": FAINT,
        "tickColor": FAINT,
        "aria": False,
    },
}
"""The looks of the charts."""

_FLAT = ("r", "v", "l", "h", "s")


def _table(course: Course, runs: Sequence[str], marks: dict[str, tuple[str, list[str]]], measure: Measure) -> list[dict[str, Any]]:
    """Return what one chart shows, in rows of which ``p`` is the point and ``r`` are the places of runs.

    The first row holds all runs: value ``v``, interval ``l`` to ``h`` within the frame, verdict ``s``. Others are the frame, ``bottom`` to
    ``top``; changes of versions, letter ``a`` and words ``w``; events ``e`` at ``at``, with words ``about``.
    """
    numbers = {entry.run.run: number for number, entry in enumerate(course.entries)}
    shown = [(place, numbers[run], course.entries[numbers[run]]) for place, run in enumerate(runs) if run in numbers]
    usual = set(course.comparable)
    measured = [(place, number, entry, entry.value) for place, number, entry in shown if number in usual and entry.value is not None]
    bottom, top = _frame([value for *_, value in measured], measured[-1][2].tolerance if measured else None)
    values, events = [], []
    for place, number, entry, value in measured:
        low, high = (min(max(value if end is None else end, bottom), top) for end in (entry.ci_low, entry.ci_high))
        values.append((place, *map(_short, (value, low, high)), entry.verdict or entry.outcome))
        for change in course.changes:
            if (change.what, change.number) == (measure.name, number):
                step = f"{measure.show(change.point.before, unit=False)} \N{RIGHTWARDS ARROW} {measure.show(change.point.after)}"
                events.append(_mark(place, at=_short(value), e="change point", about=f"{step} at {moment(entry.run.started)}"))
        if number == course.red_since:
            about = f"{_status(entry)} at {moment(entry.run.started)}"
            events.append(_mark(place, at=_short(value), e="first red run", about=about))
    rows = [{name: [one[column] for one in values] for column, name in enumerate(_FLAT)}]
    rows += [_mark(0, bottom=_short(bottom), top=_short(top))]
    for place, number, entry in shown:
        if number in course.versions:
            rows.append(_mark(place, a=marks[entry.run.run][0], w="; ".join(course.versions[number])))
    return [{"p": course.point} | row for row in (*rows, *events)]


def _mark(place: int, **about: Any) -> dict[str, Any]:
    return {name: [None] for name in _FLAT} | {"r": [place]} | about


def _frame(values: Sequence[float], tolerance: float | None) -> tuple[float, float]:
    """Return the span of the values with room above and below, at least twice the tolerance: noise is not made to look like news."""
    low, high = (min(values), max(values)) if values else (0.0, 0.0)
    room = max(0.6 * (high - low), 2 * (tolerance or 0.0)) or 0.01
    return low - room, high + room


def _short(figure: float) -> float:
    """Round to what a chart can show."""
    return float(f"{figure:.5g}")


def _measure(course: Course) -> Measure:
    last = next(entry for entry in reversed(course.entries) if entry.value is not None)
    return Measure(last.metric, last.value, last.ci_low, last.ci_high, last.unit if last.unit == "dB" else "")


def _row(course: Course) -> Row:
    measured = [entry for entry in course.entries if entry.value is not None]
    last = course.entries[-1]
    status = _status(last)
    since = course.entries[course.red_since] if course.red_since is not None else None
    red_since = moment(since.run.started) if since else ""
    if not measured:
        return Row(course.point, 0, "", "", "", "", None, "", status, red_since, [])
    show = _measure(course).show
    values = [entry.value for entry in measured if entry.value is not None]
    steps = []
    for change in course.changes:
        figures = (change.point.before, change.point.after)
        before, after = (show(one, unit=False) if change.what == measured[-1].metric else f"{one:.4g}" for one in figures)
        steps.append(f"{moment(course.entries[change.number].run.started)}: {change.what} {before} \N{RIGHTWARDS ARROW} {after}")
    return Row(
        point=course.point,
        runs=len(measured),
        first=show(values[0], unit=False),
        now=show(values[-1], unit=False),
        lowest=show(min(values), unit=False),
        highest=show(max(values), unit=False),
        difference=values[-1] - values[0],
        shown_difference=show(values[-1] - values[0], sign=True, unit=False),
        status=status,
        red_since=red_since,
        changes=steps,
    )


def _status(entry: Entry) -> str:
    return (
        entry.verdict if entry.red and entry.verdict not in ("", "same") else entry.outcome if entry.outcome != "passed" else entry.verdict
    )
