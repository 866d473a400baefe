"""Rate against metric, one chart an evaluation: one description in Vega-Lite, drawn here as SVG and again by the page's script.

The SVG is what a reader without scripts, a printer or a strict browser gets. Colours hold on a light and on a dark
page (contrast of at least 3 to 1 on both) and stay apart under colour-vision deficiencies; each codec has a point shape too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from mpq_fixtures.report.cases import UNIT_TITLES, Case, percent, rate

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


def curve(cases: Sequence[Case], style: Mapping[str, tuple[str, str]]) -> dict[str, Any] | None:
    """Describe the chart of one evaluation in Vega-Lite; None when no point was measured.

    ``style`` is what `marks` gave. The interval of each point is a bar, the original's level a labelled rule; a click in
    the legend brings one codec forward. Written as it is: Altair would take longer to put it together than all the rest of the page.
    """
    points = [case for case in cases if not case.original and case.main.value is not None and case.rate is not None and case.rate > 0]
    if not points:
        return None
    main, unit, level = points[0].main, points[0].rate_unit, _level(cases)
    codecs, rates = list(dict.fromkeys(case.series for case in points)), [case.rate or 0.0 for case in points]

    def by_codec(place: int) -> dict[str, Any]:
        scale = {"domain": codecs, "range": [style[codec][place] for codec in codecs]}
        return {"field": "codec", "type": "nominal", "legend": {"symbolOpacity": 1, "title": None}, "scale": scale}

    def layer(data: str, mark: Mapping[str, Any], picked: float = 1, others: float = 1, **encoding: Any) -> dict[str, Any]:
        fading = {"opacity": {"condition": [{"param": "picked", "value": picked}], "value": others}} if picked != others else {}
        return {"data": {"name": data}, "mark": dict(mark), "encoding": encoding | fading}

    x = {
        "field": "rate",
        "type": "quantitative",
        "title": f"rate ({UNIT_TITLES.get(unit, unit)})",
        "scale": {"type": "log", "domain": _span(rates)},
        "axis": {"values": _ticks(rates), "format": "~g"},
    }
    y = {"field": "value", "type": "quantitative", "title": main.axis, "scale": {"domain": _reach(cases), "nice": False}}
    low, high, colour, shape = {"field": "low", "type": "quantitative"}, {"field": "high"}, by_codec(0), by_codec(1)
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
    bars = layer("points", {"type": "rule", "strokeWidth": 1.4, "aria": False}, 0.45, 0.06, x=x, y=low, y2=high, color=colour)
    lines = layer("points", {"type": "line", "strokeWidth": 1.8, "aria": False}, 0.85, 0.1, x=x, y=y, color=colour)
    dots = layer("points", {"type": "point", "filled": True, "size": 70}, 1, 0.15, x=x, y=y, color=colour, shape=shape, tooltip=tooltip)
    return {
        "$schema": SCHEMA,
        "description": f"{main.axis} of {points[0].evaluation} against the rate, one line for each of {', '.join(codecs)}",
        "width": WIDTH,
        "height": HEIGHT,
        "datasets": {"points": [_row(case) for case in points]} | ({"level": [level]} if level else {}),
        "params": [{"name": "picked", "select": {"type": "point", "fields": ["codec"]}, "bind": "legend", "views": ["dots"]}],
        "layer": [*(original if level else []), bars, lines, dots | {"name": "dots"}],
        "config": CONFIG,
    }


def _texts(**titles: str) -> list[dict[str, str]]:
    return [{"field": field, "type": "nominal", "title": title} for field, title in titles.items()]


def _level(cases: Sequence[Case]) -> dict[str, Any] | None:
    """Return the originals' level as a row; None where nothing says it."""
    original = next((case for case in cases if case.original and case.main.value is not None), None)
    measured = original or next((case for case in cases if case.reference is not None), None)
    if measured is None:
        return None
    level = measured.main.value if original else measured.reference
    return {"value": level, "label": f"original {measured.main.show(level)}", "interval_text": measured.main.interval if original else ""}


def _row(case: Case) -> dict[str, Any]:
    main = case.main
    return {
        "case": case.case,
        "codec": case.series,
        "rate": case.rate,
        "value": main.value,
        "low": main.value if main.low is None else main.low,
        "high": main.value if main.high is None else main.high,
        "rate_text": rate(case.rate, case.rate_unit),
        "kbps_text": rate(case.kbps, "kbit/s"),
        "value_text": main.show(main.value),
        "interval_text": main.interval,
        "retention_text": percent(case.retention),
        "status": case.status,
    }


def _reach(cases: Sequence[Case]) -> list[float]:
    """Return the span of the values with their intervals and the original's level; a share stays between 0 and 1."""
    figures = [
        figure for case in cases for figure in (case.main.value, case.main.low, case.main.high, case.reference) if figure is not None
    ]
    low, high = min(figures), max(figures)
    room = 0.06 * (high - low) or 0.05
    share = not any(case.main.unit for case in cases) and low >= 0 and high <= 1
    return [max(low - room, 0.0), min(high + room, 1.0)] if share else [low - room, high + room]


def _span(rates: Sequence[float]) -> list[float]:
    return [min(rates) / 1.12, max(rates) * 1.12]


def _ticks(rates: Sequence[float]) -> list[float]:
    """Return the 1, 2, 5 of each decade inside the span: a log axis labelled by default is either crowded or bare."""
    low, high = _span(rates)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 3000 else (1,)
    return [tick for tick in (float(f"{step}e{decade}") for decade in decades for step in steps) if low <= tick <= high]
