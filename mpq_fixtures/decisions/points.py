"""The operating points of an evaluation over the samples that all of them have, measured anew in every resample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Metric, Statistic, restore_metric
from mpq_fixtures.record import Record
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.signals import Modality
from mpq_fixtures.statistics.resampling import Statistics, clusters, values_of_points, values_together
from mpq_fixtures.statistics.retention import retentions
from mpq_fixtures.suite import ORIGINAL
from mpq_fixtures.words import counted

RESAMPLES = 1000

TOGETHER = 2**27
"""Bytes of statistics and sizes, about, that are in memory at once."""

MOST_NAMED = 5

_COLUMNS = ("bytes", "elements", "statistic", "statistic_shape")


@dataclass(frozen=True)
class Points:
    """The points of one evaluation: in the first row over all samples that they share, in each further row over one resample of these.

    ``rates`` and ``values`` are ``[1 + resamples, points]``, values turned so that higher is better; ``originals`` and ``floors`` are
    ``[1 + resamples]``, NaN where the originals were not measured; floors are 0 where the metric has none, and NaN where lower is better,
    so that nothing is retained. ``tolerance`` is the metric's.
    There are no resamples where there are fewer than two clusters to draw from. ``note`` names the points that take no part, and why.
    """

    cases: list[str]
    series: list[str]
    qualities: list[str]
    rates: NDArray[np.float64]
    values: NDArray[np.float64]
    originals: NDArray[np.float64]
    floors: NDArray[np.float64]
    tolerance: float
    raw_bits: int
    samples: int
    clusters: int
    note: str

    @property
    def retentions(self) -> NDArray[np.float64]:
        """What is left of the originals' value at each point, ``[1 + resamples, points]``: see `mpq_fixtures.statistics.retention`."""
        return retentions(self.values, self.originals[:, None], self.floors[:, None])

    @property
    def ladders(self) -> dict[str, NDArray[np.intp]]:
        """The columns of each series, in the order of the suite."""
        names = np.array(self.series)
        return {name: np.flatnonzero(names == name) for name in dict.fromkeys(self.series)}

    @property
    def resamples(self) -> int:
        """How many resamples there are."""
        return len(self.rates) - 1


def series_of(codec: str, quality: str) -> str:
    """Return the curve on which a point lies: its codec, at the scale that its quality names: ``jpeg``, ``jpeg@0.5x``."""
    return codec + "".join(quality.partition("@")[1:])


def points_of(records: Sequence[Record], resamples: int = RESAMPLES) -> Points:
    """Measure the points of one evaluation together; raises `ValueError`, with a sentence, where there is nothing to decide from.

    Samples are drawn once for all: a resample holds the same ones at every point and on the originals, whole clusters of them where
    the rows name groups. Points with failed samples or without a value take no part.
    """
    originals = next((record for record in records if record.codec == ORIGINAL and len(record.rows)), None)
    coded = [record for record in records if record.codec != ORIGINAL]
    faults = {record.case: _fault(record) for record in coded}
    taking = [record for record in coded if not faults[record.case]]
    if not taking:
        raise ValueError("no point was measured without failed samples")
    main = taking[0].metrics[taking[0].metric]
    metric = restore_metric(taking[0].metric, main.settings)
    if metric is None:
        raise ValueError(f"this mpq cannot take {taking[0].metric} of other samples")
    held = [*taking, *([originals] if originals else [])]
    places = _common([record.rows for record in held])
    if not len(places[0]):
        raise ValueError("no sample is at all points")
    groups = held[0].rows.groups
    own = [groups[place] for place in places[0]] if any(groups) else []
    units = len(clusters(own)) if own else len(places[0])
    resamples = resamples if units > 1 else 0
    values, rates = _measure(metric, [record.rows for record in held], places, own, resamples)
    sign, nothing = 1 if metric.higher_is_better else -1, np.full(len(values), np.nan)
    return Points(
        cases=[record.case for record in taking],
        series=[series_of(record.codec, record.quality) for record in taking],
        qualities=[record.quality for record in taking],
        rates=rates[:, : len(taking)],
        values=sign * values[:, : len(taking)],
        originals=sign * values[:, len(taking)] if originals else nothing,
        floors=_floors(metric, originals, places[-1], own, resamples) if originals and metric.higher_is_better else nothing,
        tolerance=main.tolerance,
        raw_bits=next(kind for kind in Modality if kind.rate_unit == taking[0].rate_unit).raw_bits,
        samples=len(places[0]),
        clusters=units,
        note="; ".join(_notes(metric, faults, originals, max(len(record.rows) for record in held) - len(places[0]))),
    )


def _fault(record: Record) -> str:
    """Say why a point takes no part; "" where it does."""
    if record.failures:
        return f"{counted(len(record.failures), 'sample')} failed"
    return "" if len(record.rows) and np.isfinite(record.value) else "no value"


def _notes(metric: Metric, faults: Mapping[str, str], originals: Record | None, fewer: int) -> Iterator[str]:
    left_out = [f"{case} ({why})" for case, why in faults.items() if why]
    if left_out:
        named = ", ".join(left_out[:MOST_NAMED]) + (f" and {len(left_out) - MOST_NAMED} more" if len(left_out) > MOST_NAMED else "")
        yield f"left out: {named}"
    if originals is None:
        yield "the originals were not measured"
    if not metric.higher_is_better:
        yield f"of {metric.name} lower is better, so that there is no share of it to keep"
    if fewer:
        yield f"over the samples that all points have, {counted(fewer, 'sample')} fewer than the most of them"


def _common(points: Sequence[Rows]) -> list[NDArray[np.intp]]:
    """Return where each point has the samples that all have, in one order."""
    first = points[0].table("sample").column(0)
    if all(rows.table("sample").column(0).equals(first) for rows in points[1:]):  # which makes no object of each sample
        return [np.arange(len(first))] * len(points)
    numbers: dict[str, int] = {}
    present = [np.array([numbers.setdefault(one, len(numbers)) for one in rows.samples]) for rows in points]
    times = np.sum([np.bincount(own, minlength=len(numbers)) for own in present], axis=0)
    wanted = np.flatnonzero(times == len(points))
    places = np.zeros(len(numbers), np.intp)
    found: list[NDArray[np.intp]] = []
    for own in present:
        places[own] = np.arange(len(own))
        found.append(places[wanted])
    return found


def _floors(metric: Metric, originals: Record, wanted: NDArray[np.intp], groups: Sequence[str], resamples: int) -> NDArray[np.float64]:
    """Return the value of the unprocessed signals, ``[1 + resamples]``; 0 where the metric has no floor."""
    if originals.floor is None:
        return np.zeros(1 + resamples)
    floors = originals.rows.floors()
    if len(floors) != len(originals.rows):  # of some samples alone, and nobody knows of which
        return np.full(1 + resamples, originals.floor)
    return values_of_points(metric, [_taken(floors, wanted)], resamples, groups=groups)[:, 0]


class _Sum(Additive):
    """The sum of numbers."""

    def observe(self, prediction: Any, target: Any) -> Statistic:
        raise NotImplementedError

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        return total


def _measure(
    metric: Metric, points: Sequence[Rows], places: Sequence[NDArray[np.intp]], groups: Sequence[str], resamples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the metric and the rate at each point, ``[1 + resamples, points]``."""
    found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    drawing = _Drawing(metric)
    for rows, wanted in zip(points, places, strict=True):
        columns = Rows(table=rows.table(*_COLUMNS))  # read once
        sizes = (columns.numbers(name).astype(np.float64) for name in ("bytes", "elements"))
        drawing.add(_taken(columns.statistics(), wanted), *(_taken(size, wanted) for size in sizes))
        if drawing.nbytes >= TOGETHER:
            found.append(drawing.values(groups, resamples))
            drawing = _Drawing(metric)
    found += [drawing.values(groups, resamples)] if drawing.statistics else []
    values, rates = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    return values, rates


@dataclass
class _Drawing:
    """Points that are drawn together. Signals have the same size at most points, so that their elements are held once."""

    metric: Metric
    statistics: list[Statistics] = field(default_factory=list)
    bytes: list[NDArray[np.float64]] = field(default_factory=list)
    elements: list[NDArray[np.float64]] = field(default_factory=list)
    elements_of: list[int] = field(default_factory=list)
    nbytes: int = 0

    def add(self, statistics: Statistics, sizes: NDArray[np.float64], elements: NDArray[np.float64]) -> None:
        """Add what a point has of each sample."""
        known = next((number for number, other in enumerate(self.elements) if np.array_equal(other, elements)), None)
        if known is None:
            known = len(self.elements)
            self.elements.append(elements)
            self.nbytes += elements.nbytes
        self.elements_of.append(known)
        self.statistics.append(statistics)
        self.bytes.append(sizes)
        self.nbytes += sizes.nbytes
        self.nbytes += statistics.nbytes if isinstance(statistics, np.ndarray) else sum(np.asarray(one).nbytes for one in statistics)

    def values(self, groups: Sequence[str], resamples: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the values and the rates of the points, ``[1 + resamples, points]``."""
        pairs = [*((self.metric, one) for one in self.statistics), *((_SUM, one) for one in (*self.bytes, *self.elements))]
        values, amounts, elements = np.split(values_together(pairs, resamples, groups=groups), np.cumsum([len(self.bytes)] * 2), axis=1)
        return values, 8 * amounts / np.where(elements > 0, elements, np.nan)[:, self.elements_of]


def _taken(statistics: Any, places: NDArray[np.intp]) -> Any:
    """Return the statistics at these places, in their order."""
    if not isinstance(statistics, np.ndarray):
        return [statistics[place] for place in places]
    return statistics if np.array_equal(places, np.arange(len(statistics))) else statistics[places]


_SUM = _Sum()
