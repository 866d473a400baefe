"""How the similarity of decoded signals goes with what the model keeps, over the operating points of an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Metric, Statistic, registered_signal_metrics
from mpq_fixtures.record import Record
from mpq_fixtures.statistics import FEWEST_POINTS, Correlation, rank_correlation, values_of_points
from mpq_fixtures.suite import ORIGINAL
from mpq_fixtures.tasks import TASKS

MOST = 0.5
"""The share of an evaluation's samples that a point needs, measured by both metrics, to count."""


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
    points = [record for record in records if record.codec != ORIGINAL and record.rows]
    if not points:
        return []
    task = TASKS[points[0].task]
    scoring = _task_metric(points[0])
    known = registered_signal_metrics(task.modality)
    names = dict.fromkeys(name for record in points for row in record.rows for name in row.beside if name in known)
    kept: dict[tuple[Any, ...], NDArray[np.float64]] = {}  # metrics that measure everything share the task's values
    return [_correlation(name, known[name](), scoring, points, kept) for name in names]


def _correlation(
    name: str, metric: Metric, scoring: Metric, records: Sequence[Record], kept: dict[tuple[Any, ...], NDArray[np.float64]]
) -> SimilarityCorrelation:
    everything = {row.sample for record in records for row in record.rows}
    tables = [{row.sample: row for row in record.rows if name in row.beside} for record in records]
    counted = [number for number, table in enumerate(tables) if len(table) >= MOST * len(everything)]
    common = [sample for sample in tables[counted[0]] if all(sample in tables[number] for number in counted)] if counted else []
    if len(counted) < FEWEST_POINTS or len(common) < 2:
        return SimilarityCorrelation(name, None, len(common))
    rows = [[tables[number][sample] for sample in common] for number in counted]
    place = (*counted, *common)
    if place not in kept:
        kept[place] = _oriented(scoring, [[np.asarray(row.statistic, float) for row in point] for point in rows])
    values = _oriented(metric, [[np.asarray(row.beside[name], float) for row in point] for point in rows])
    return SimilarityCorrelation(name, rank_correlation(values, kept[place]), len(common))


def _oriented(metric: Metric, points: Sequence[Sequence[Statistic]]) -> NDArray[np.float64]:
    return values_of_points(metric, points) * (1 if metric.higher_is_better else -1)


def _task_metric(record: Record) -> Metric:
    """Return the metric that scored a record, as far as values of statistics depend on it."""
    from mpq_fixtures.metrics.miou import MeanIoU
    from mpq_fixtures.metrics.sdr import SDR
    from mpq_fixtures.metrics.top1 import Top1
    from mpq_fixtures.metrics.word_accuracy import WordAccuracy

    settings = record.metrics[record.metric].settings
    makers: Mapping[str, Callable[[], Metric]] = {
        "top1": Top1,
        "miou": lambda: MeanIoU(settings["classes"], settings["ignored"]),
        "word_accuracy": WordAccuracy,
        "sdr": SDR,
    }
    return makers[record.metric]()
