"""Limits in a suite file: thresholds that a figure must keep, margins by which it may get worse, and limits of signals and steps."""

from __future__ import annotations

import math
import re
from typing import Any

from mpq_fixtures.metrics import Metric, registered_signal_metrics
from mpq_fixtures.signals import Limits
from mpq_fixtures.suite import SuiteError, Threshold
from mpq_fixtures.suite.tables import check_keys, choice
from mpq_fixtures.tasks import Task

_BOUND = re.compile(r"\s*(>=|>|<=|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*", re.IGNORECASE)
_BOUNDED = ("value", "retention", "rate")


def read_thresholds(table: Any, metric: Metric, place: str) -> tuple[Threshold, ...]:
    """Return the bounds that a table sets; one that every result keeps, or none can, is a mistake."""
    if not isinstance(table, dict):
        raise SuiteError(f'{place}: write a table, {{ value = ">= 0.8" }}')
    check_keys(table, (), _BOUNDED, place)
    thresholds = []
    for figure, text in table.items():
        match = _BOUND.fullmatch(text) if isinstance(text, str) else None
        if match is None or not math.isfinite(float(match[2])):
            raise SuiteError(f'{place}: {figure}: {text!r} must be a relation and a number, such as ">= 0.8"')
        threshold = Threshold(figure, match[1], float(match[2]))
        kept = set(map(threshold.holds, _bounds(figure, metric)))
        if len(kept) == 1:
            what = "hold: no result keeps it" if kept == {False} else "be missed: every result keeps it"
            lies = "{} lies in {:g} to {:g}".format(metric.name if figure == "value" else figure, *_bounds(figure, metric))
            raise SuiteError(f"{place}: {threshold} can never {what}, since {lies}")
        thresholds.append(threshold)
    return tuple(thresholds)


def _bounds(figure: str, metric: Metric) -> tuple[float, float]:
    """Return the least and the greatest that a figure can be: what keeps both of them or neither keeps all or none between."""
    if figure == "value":
        return metric.bounds
    floored = figure == "retention" and metric.bounds[0] < 0  # where what is lost can be more than there was
    return -math.inf if floored else 0.0, math.inf


def read_limits(table: Any, place: str) -> Limits:
    """Return how large signals may be, and how long a step of a sample may take."""
    if not isinstance(table, dict):
        raise SuiteError(f"{place}: write a table, {{ pixels = 100_000_000, seconds = 7200, step_seconds = 600 }}")
    for name, value in table.items():
        choice(name, ("pixels", "seconds", "step_seconds"), place)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise SuiteError(f"{place}: {name}: {value!r} must be a number above 0")
    return Limits(**table)


def read_margins(table: Any, metric: Metric, task: Task, similarity: tuple[str, ...], place: str) -> dict[str, float]:
    """Return how much worse each figure may get; a margin that no fall can exceed is a mistake, as is one of what is not measured."""
    if not isinstance(table, dict):
        raise SuiteError(f"{place}: write a table, {{ value = 0.02, rate = 0.01 }}")
    measured = {other.name: other.bounds for other in task.signal_metrics(similarity)}
    widths = {name: high - low for name, (low, high) in {"value": metric.bounds, "rate": (0.0, 1.0), **measured}.items()}
    for figure, margin in table.items():
        if figure not in widths and figure in registered_signal_metrics(task.modality):
            raise SuiteError(f'{place}: {figure} is not measured here: add similarity = ["{figure}"], or leave it out')
        choice(figure, widths, place)
        if not isinstance(margin, int | float) or isinstance(margin, bool) or not 0 < margin < math.inf:
            raise SuiteError(f"{place}: {figure}: {margin!r} must be a number above 0")
        if margin >= widths[figure]:
            share = ", a share: 0.01 is 1 %" if figure == "rate" else ""
            raise SuiteError(f"{place}: {figure}: {margin:g} lets everything pass: write less than {widths[figure]:g}{share}")
    return {figure: float(margin) for figure, margin in table.items()}
