"""How the similarity of decoded signals goes with what the model keeps, over the operating points of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Metric, Statistic, registered_signal_metrics, restore_metric
from mpq_fixtures.record import Record
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.signals import Modality
from mpq_fixtures.statistics.correlations import FEWEST_POINTS, Correlation, rank_correlation
from mpq_fixtures.statistics.resampling import take, values_of_points
from mpq_fixtures.suite import ORIGINAL

MOST = 0.5
"""The share of an evaluation's samples that a point needs, measured by both metrics, to count."""

TOGETHER = 2**24
"""Bytes of statistics, about, that are in memory at once."""


@dataclass(frozen=True)
class SimilarityCorrelation:
    """How a similarity metric ranks an evaluation's points against how the task's metric does; both turned so that higher is better.

    ``correlation`` is None where it cannot be told: fewer than four points or two samples, or a metric that is the same at all points.
    ``samples`` is how many samples it is over: those that every counted point has. Retention, which rises with the task's metric, has the
    same ranks.
    """

    metric: str
    correlation: Correlation | None
    samples: int


def similarity_correlations(records: Sequence[Record]) -> list[SimilarityCorrelation]:
    """Return a correlation for each signal metric that the records of one evaluation hold, in the order of the records.

    Points where fewer than half of the samples have both values are left out, and of the others the samples that one of them lacks: what
    cannot be measured differs from point to point, and would be taken for a difference of the points.
    """
    points = [record for record in records if record.codec != ORIGINAL and len(record.rows)]
    if not points:
        return []
    known = registered_signal_metrics(next(kind for kind in Modality if kind.rate_unit == points[0].rate_unit))
    names = dict.fromkeys(name for record in points for name in record.rows.signal_metrics)
    first = points[0].metrics
    if (scoring := restore_metric(points[0].metric, first[points[0].metric].settings)) is None:
        return []
    others = {name: restore_metric(name, measure.settings) for name, measure in first.items() if name not in known}
    metrics = [known[name]() if name in known else others.get(name) for name in names]
    present, samples = _numbered([record.rows for record in points])
    evaluation = _Points([record.rows for record in points], present, samples, scoring, {})
    return [found for metric in metrics if metric is not None and (found := evaluation.correlation(metric)) is not None]


def _numbered(points: Sequence[Rows]) -> tuple[list[NDArray[np.int64]], int]:
    """Return the numbers of the samples of each point, the same ones wherever a sample is, and how many samples there are."""
    first = points[0].table("sample")
    if all(rows.table("sample").equals(first) for rows in points[1:]):
        return [np.arange(len(first))] * len(points), len(first)
    numbers: dict[str, int] = {}
    return [np.array([numbers.setdefault(sample, len(numbers)) for sample in rows.samples], np.int64) for rows in points], len(numbers)


@dataclass(frozen=True)
class _Points:
    """The points of an evaluation: of each its rows and the numbers of their samples, which are below ``samples``."""

    rows: Sequence[Rows]
    present: Sequence[NDArray[np.int64]]
    samples: int
    scoring: Metric
    kept: dict[tuple[Any, ...], NDArray[np.float64]]
    """Values of the task's metric, which metrics that measure everything share."""

    def correlation(self, metric: Metric) -> SimilarityCorrelation | None:
        """Return how a signal metric ranks the points; None where it could measure nothing."""
        measured = [
            present[rows.further(metric.name)[1]] if metric.name in rows.signal_metrics else present[:0]
            for rows, present in zip(self.rows, self.present, strict=True)
        ]
        if not any(map(len, measured)):
            return None
        counted = [number for number, of_point in enumerate(measured) if len(of_point) >= MOST * self.samples]
        times = np.sum([np.bincount(measured[number], minlength=self.samples) for number in counted], axis=0)
        common = measured[counted[0]] if counted else np.empty(0, np.int64)
        common = common[times[common] == len(counted)] if counted else common
        if len(counted) < FEWEST_POINTS or len(common) < 2:
            return SimilarityCorrelation(metric.name, None, len(common))
        place = (*counted, common.tobytes())
        if place not in self.kept:
            statistics = (_of(self.rows[number].statistics(), self.present[number], common) for number in counted)
            self.kept[place] = _oriented(self.scoring, statistics)
        values = _oriented(metric, (_of(self.rows[number].further(metric.name)[0], measured[number], common) for number in counted))
        return SimilarityCorrelation(metric.name, rank_correlation(values, self.kept[place]), len(common))


def _of(statistics: Sequence[Statistic], present: NDArray[np.int64], wanted: NDArray[np.int64]) -> Sequence[Statistic]:
    """Return the statistics of the samples that are wanted, in their order."""
    if np.array_equal(present, wanted):
        return statistics
    places = np.empty(int(present.max()) + 1, np.int64)
    places[present] = np.arange(len(present))
    return take(statistics, places[wanted])  # type: ignore[no-any-return]


def _oriented(metric: Metric, points: Iterable[Sequence[Statistic]]) -> NDArray[np.float64]:
    """Return the values of points, of as many together as fit `TOGETHER`: they share a draw."""
    values: list[NDArray[np.float64]] = []
    held: list[Sequence[Statistic]] = []
    for point in points:
        held.append(point)
        if sum(np.asarray(statistic).nbytes for kept in held for statistic in kept[:1]) * len(point) >= TOGETHER:
            values.append(values_of_points(metric, held))
            held = []
    values += [values_of_points(metric, held)] if held else []
    return np.concatenate(values, axis=1) * (1 if metric.higher_is_better else -1)
