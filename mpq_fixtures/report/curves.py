"""Rate against metric, one chart an evaluation: one description in Vega-Lite, drawn here as SVG and again by the page's script.

The SVG is what a reader without scripts, a printer or a strict browser gets. Colours hold on a light and on a dark
page (contrast of at least 3 to 1 on both) and stay apart under colour-vision deficiencies; each codec has a point shape too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from mpq_fixtures.decisions.lowest import percent
from mpq_fixtures.report.cases import Case
from mpq_fixtures.results.figures import UNIT_TITLES, rate

COLOURS = ("#0072b2", "#d55e00", "#779966", "#995566", "#0099ee", "#998899", "#bb3300", "#cc0099")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK, FAINT = "#5b6470", "#8a929c"
WIDTH, HEIGHT = 760, 360
SCHEMA = "https://vega.github.io/schema/vega-lite/v6.4.1.json"
"""What descriptions are written in: the version that Altair writes, too."""

CONFIG = {
    "background": "transparent",
    "font": FONT,
    "autosize": {"type": "fit", "contains": "padding"},
    "padding": 4,
    "view": {"continuousWidth": 300, "continuousHeight": 300, "stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "labelFontSize": 12,
        "titleFontSize": 13,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "gridColor": FAINT,
        "gridOpacity": 0.25,
        "domainColor": FAINT,
        "tickColor": FAINT,
    },
    "legend": {
        "orient": "top",
        "labelFontSize": 13,
        "labelColor": INK,
        "symbolSize": 90,
        "columns": 0,
        "columnPadding": 18,
        "offset": 12,
    },
}
"""The looks of the chart."""


def marks(cases: Sequence[Case]) -> dict[str, tuple[str, str]]:
    """Give each codec its colour and point shape, the same in every evaluation that uses it."""
    given: dict[str, tuple[str, str]] = {}
    for unit in dict.fromkeys(case.rate_unit for case in cases if not case.original):
        codecs = dict.fromkeys(case.series for case in cases if case.rate_unit == unit and not case.original)
        for index, codec in enumerate(codecs):
            given.setdefault(codec, (COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)]))
    return given


def curve(cases: Sequence[Case], style: Mapping[str, tuple[str, str]], front: Sequence[str] = ()) -> dict[str, Any] | None:
    """Describe the chart of one evaluation in Vega-Lite; None when no point was measured.

    ``style`` is what `marks` gave, ``front`` the ids of the cases on the Pareto front. The interval of each point is a bar, the original's
    level a labelled rule, a red point has a line from its approved place, which is hollow. Two parameters are for the page's script: the
    codecs that are ``hidden``, and ``zoom``. Written as it is: Altair would take longer to put it together than all the rest of the page.
    """
    points = [case for case in cases if not case.original and case.main.value is not None and case.rate is not None and case.rate > 0]
    if not points:
        return None
    main, unit = points[0].main, points[0].rate_unit
    bottom, top = _reach(cases)
    codecs = list(dict.fromkeys(case.series for case in points))
    approved = [_approved(case, style, (bottom, top)) for case in points if case.approved is not None]
    rates = [figure for row in approved for figure in (row["rate"], row["now"])] + [case.rate or 0.0 for case in points]
    level = _level(cases, (bottom, top))

    def by_codec(place: int) -> dict[str, Any]:
        scale = {"domain": codecs, "range": [style[codec][place] for codec in codecs]}
        return {"field": "codec", "type": "nominal", "legend": {"symbolOpacity": 1, "title": None}, "scale": scale}

    def layer(data: str, mark: Mapping[str, Any], **encoding: Any) -> dict[str, Any]:
        shown = {} if data == "level" else {"transform": [{"filter": "indexof(hidden, datum.codec) < 0"}]}
        return {"data": {"name": data}, **shown, "mark": {"clip": True, **mark}, "encoding": encoding}

    x = {
        "field": "rate",
        "type": "quantitative",
        "title": f"rate ({UNIT_TITLES.get(unit, unit)})",
        "scale": {"type": "log", "domain": _span(rates)},
        "axis": {"values": _ticks(rates), "format": "~g"},
    }
    y = {"field": "shown", "type": "quantitative", "title": main.axis, "scale": {"domain": [bottom, top], "nice": False}}
    low, high, colour, shape = {"field": "low", "type": "quantitative"}, {"field": "high"}, by_codec(0), by_codec(1)
    own_colour = {"field": "colour", "type": "nominal", "scale": None, "legend": None}
    original = [
        layer(
            "level",
            {"type": "rule", "strokeDash": [5, 4], "strokeWidth": 1.3, "color": INK},
            y=y,
            tooltip=_texts(label="level", interval_text="95 % interval"),
        ),
        layer(
            "level",
            {"type": "text", "align": "left", "baseline": "top", "dx": 4, "dy": 5, "fontSize": 12, "color": INK},
            x={"value": 0},
            y=y,
            text={"field": "label", "type": "nominal"},
        ),
    ]
    bit_rate = {"kbps_text": "bit rate"} if any(case.kbps is not None for case in points) else {}
    tooltip = _texts(
        case="case",
        rate_text="rate",
        **bit_rate,
        value_text=main.title,
        interval_text="95 % interval",
        retention_text="retention",
        status="verdict",
    )
    red = [
        layer("approved", {"type": "rule", "strokeWidth": 2}, x=x, y=y, x2={"field": "now"}, y2={"field": "end"}, color=own_colour),
        layer(
            "approved",
            {"type": "point", "filled": False, "size": 90, "strokeWidth": 2},
            x=x,
            y=y,
            color=own_colour,
            tooltip=_texts(case="approved", value_text=main.title, rate_text="rate"),
        ),
    ]
    on_front = [_row(case, (bottom, top)) for name in front for case in points if case.case == name]
    band = layer(
        "front", {"type": "line", "strokeWidth": 9, "strokeJoin": "round", "opacity": 0.22, "color": FAINT, "aria": False}, x=x, y=y
    )
    bars = layer("points", {"type": "rule", "strokeWidth": 1.4, "opacity": 0.45, "aria": False}, x=x, y=low, y2=high, color=colour)
    lines = layer("points", {"type": "line", "strokeWidth": 1.8, "opacity": 0.85, "aria": False}, x=x, y=y, color=colour)
    dots = layer(
        "points", {"type": "point", "filled": True, "opacity": 1, "size": 70}, x=x, y=y, color=colour, shape=shape, tooltip=tooltip
    )
    datasets = {"points": [_row(case, (bottom, top)) for case in points]}
    datasets |= {"level": [level]} if level else {}
    datasets |= {"front": on_front} if len(on_front) > 1 else {}
    datasets |= {"approved": approved} if approved else {}
    zooming = {"type": "interval", "encodings": ["x", "y"], "zoom": "wheel![event.ctrlKey || event.metaKey]"}
    return {
        "$schema": SCHEMA,
        "description": f"{main.axis} of {points[0].evaluation} against the rate, one line for each of {', '.join(codecs)}",
        "width": WIDTH,
        "height": HEIGHT,
        "datasets": datasets,
        "params": [{"name": "hidden", "value": []}, {"name": "zoom", "select": zooming, "bind": "scales", "views": ["dots"]}],
        "layer": [
            *([band] if "front" in datasets else []),
            *(original if level else []),
            bars,
            lines,
            *(red if approved else []),
            dots | {"name": "dots"},
        ],
        "config": CONFIG,
    }


def above(cases: Sequence[Case]) -> int:
    """Count the points that lie above the frame and are drawn at its top."""
    _, top = _reach(cases)
    return sum(case.main.value > top for case in cases if not case.original and case.main.value is not None)


def _texts(**titles: str) -> list[dict[str, str]]:
    return [{"field": field, "type": "nominal", "title": title} for field, title in titles.items()]


def _level(cases: Sequence[Case], frame: tuple[float, float]) -> dict[str, Any] | None:
    """Return the originals' level as a row; None where nothing says it."""
    original = next((case for case in cases if case.original and case.main.value is not None), None)
    measured = original or next((case for case in cases if case.reference is not None), None)
    level = None if measured is None else measured.main.value if original else measured.reference
    if measured is None or level is None:
        return None
    label = f"original {measured.main.show(level)}{', above' if level > frame[1] else ''}"
    return {"shown": _inside(level, frame), "label": label, "interval_text": measured.main.interval if original else ""}


def _row(case: Case, frame: tuple[float, float]) -> dict[str, Any]:
    main, value = case.main, case.main.value
    if value is None:
        raise ValueError(f"{case.case} was not measured")
    return {
        "case": case.case,
        "codec": case.series,
        "rate": case.rate,
        "shown": _inside(value, frame),
        "low": _inside(value if main.low is None else main.low, frame),
        "high": _inside(value if main.high is None else main.high, frame),
        "rate_text": " ".join(filter(None, (rate(case.rate, case.rate_unit), case.rate_interval))),
        "kbps_text": rate(case.kbps, "kbit/s"),
        "value_text": " ".join(filter(None, (main.show(value), main.error_rate))),
        "interval_text": main.interval,
        "retention_text": " ".join(filter(None, (percent(case.retention), case.retention_interval))),
        "status": case.status,
    }


def _approved(case: Case, style: Mapping[str, tuple[str, str]], frame: tuple[float, float]) -> dict[str, Any]:
    """Return where a red point was approved, and where it is ``now`` and ``end``s."""
    return {
        "case": case.case,
        "codec": case.series,
        "colour": style[case.series][0],
        "rate": case.baseline_rate or case.rate,
        "shown": _inside(case.baseline or 0.0, frame),
        "now": case.rate,
        "end": _inside(case.main.value or 0.0, frame),
        "value_text": case.main.show(case.baseline),
        "rate_text": rate(case.baseline_rate, case.rate_unit),
    }


def _inside(figure: float, frame: tuple[float, float]) -> float:
    """Move what lies above the frame to its top edge, a little below."""
    bottom, top = frame
    return min(figure, top - 0.015 * (top - bottom))


def _reach(cases: Sequence[Case]) -> tuple[float, float]:
    """Return the span of the values with their intervals and the original's level; a share stays between 0 and 1.

    In decibels, points that kept nearly everything lie far above all others, at 100 dB where a metric ends, and would flatten them: those
    beyond a gap wider than all that half of the points or more span stay outside.
    """
    share = not any(case.main.unit for case in cases)
    values = sorted(case.main.value for case in cases if case.main.value is not None and not case.original)
    gaps = [(above - below, place) for place, (below, above) in enumerate(pairwise(values), 1) if 2 * place >= len(values)]
    widest, place = max(gaps, default=(0.0, 0))
    span = values[place - 1] - values[0] if values else 0.0
    ceiling = values[place - 1] + span / 2 if not share and widest > span > 0 else math.inf  # room for intervals and approved values
    figures = [figure for case in cases for figure in (case.main.value, case.main.low, case.main.high, case.reference, case.approved)]
    inside = [figure for figure in figures if figure is not None and figure <= ceiling]
    low, high = min(inside), max(inside)
    room = 0.06 * (high - low) or 0.05
    if share and low >= 0 and high <= 1:
        return max(low - room, 0.0), min(high + room, 1.0)
    return low - room, high + room


def _span(rates: Sequence[float]) -> list[float]:
    return [min(rates) / 1.12, max(rates) * 1.12]


def _ticks(rates: Sequence[float]) -> list[float]:
    """Return the 1, 2, 5 of each decade inside the span: a log axis labelled by default is either crowded or bare.

    Of a short span these are all its numbers of one digit, or where it has not two of them its ends, nearly.
    """
    low, high = _span(rates)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5) if high / low < 3000 else (1,), range(1, 10)):
        ticks = [tick for tick in (float(f"{step}e{decade}") for decade in decades for step in steps) if low <= tick <= high]
        if len(ticks) > 1:
            return ticks
    return sorted({float(f"{rate:.2g}") for rate in (min(rates), max(rates))})
