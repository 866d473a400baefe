"""Resamples of samples, and what a metric is over each. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Countable, Metric, Statistic

SEED = 2401
"""What resampling starts from unless told otherwise, so that an interval can be computed again."""

DRAWN = 2**20
"""Indices that are drawn at once: 4 MB, whatever the number of samples, unless one resample alone is larger."""

KEPT = 2**24
"""Indices, of two bytes each, that are kept for the next case of as many samples: those of 16,777 samples."""

GATHERED = 2**15
"""Figures that are looked up at once, as many as stay in a processor's cache."""

COUNTED = 8
"""Columns of whole numbers beyond which it is faster to count how often each sample was drawn than to look up what it has."""

COUNTS = 2**17
"""Counts of samples that a `Countable` metric is given at once: 1 MB, so that what it does for all sets it does seldom."""

TOGETHER = 8
"""Resamples whose counts are multiplied at once with what samples have, at least: one alone would wait for memory."""

Statistics = Sequence[Statistic] | NDArray[np.float64]
"""What a metric keeps of some samples: a sequence, or stacked ``[samples, *shape]``."""


def take(statistics: Sequence[Any] | NDArray[Any], places: Sequence[int] | NDArray[np.integer[Any]]) -> Any:
    """Return the statistics of some samples, by their places, in an array where they are in one."""
    if isinstance(statistics, np.ndarray):
        return statistics[np.asarray(places, np.intp)]
    return [statistics[place] for place in places]


def clusters(groups: Sequence[str]) -> list[list[int]]:
    """Return the positions of each group's samples, in the order in which groups first occur; "" is no group, but a sample alone."""
    members: dict[str | int, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group or position, []).append(position)
    return list(members.values())


def _shared(groups: Sequence[str], samples: int) -> list[list[int]] | None:
    """Return the clusters of samples; None where each is alone."""
    if len(groups) and len(groups) != samples:
        raise ValueError(f"each sample has a group or is alone: {len(groups)} groups do not fit {samples} samples")
    members = clusters(groups) if any(groups) else []
    return members if 0 < len(members) < samples else None


def resampled(
    pairs: Sequence[tuple[Metric, Statistics]], groups: Sequence[str] = (), resamples: int = 1000, seed: int = SEED
) -> list[NDArray[np.float64]]:
    """Return each metric over resamples of the same samples, ``[resamples]`` (Efron and Tibshirani 1993, chapter 13).

    ``pairs`` are metrics, each with its statistics of all samples in one order. The draw is shared, and the values are those that each
    metric gets alone. A metric that lacks some of the samples is drawn from those that it has, and so in a call of its own.

    Whole samples are drawn with replacement, for source separation whole tracks. Where ``groups`` names one for some of the samples (a
    speaker, a patient), samples of one are no independent evidence: whole groups are drawn, as many as there are (Davison and Hinkley
    1997, section 3.8), and a sample whose group is "" is one of its own. NaN where a metric is undefined, such as in a resample of silent
    tracks alone. The same seed gives the same resamples on every machine.
    """
    members = _shared(groups, _length([statistics for _, statistics in pairs]))
    return _resampled([(metric, stacked(metric, statistics)) for metric, statistics in pairs], resamples, seed, members)


def draws(samples: int, resamples: int, seed: int = SEED) -> NDArray[np.int64]:
    """Return which samples each resample holds, indices ``[resamples, samples]``."""
    return next(_draw(samples, resamples, seed, rows=resamples)).astype(np.int64)


def resampled_values(metric: Metric, statistics: Statistics, index: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the metric over each resample, ``[resamples]``, for rows of indices ``[resamples, any number]``."""
    resampling, rows = _Resampling([(metric, stacked(metric, statistics))]), max(1, DRAWN // max(1, index.shape[1]))
    return np.concatenate([resampling.values(index[start : start + rows])[0] for start in range(0, len(index), rows)])


def stacked(metric: Metric, statistics: Statistics) -> Any:
    """Return the condensed statistics, in one array ``[samples, *shape]`` where they have one shape, else as a sequence."""
    statistics = metric.condense_all(cast("Sequence[Statistic]", statistics))
    if isinstance(statistics, np.ndarray):
        return statistics.astype(np.float64, copy=False)
    shapes = {np.shape(statistic) for statistic in statistics}
    return np.array(statistics, np.float64) if len(shapes) == 1 else statistics


def _length(statistics: Sequence[Statistics]) -> int:
    lengths = [len(each) for each in statistics]
    if len(set(lengths)) > 1:
        raise ValueError(f"metrics that are drawn together have the same samples, not {lengths} of them")
    return lengths[0] if lengths else 0


def _resampled(
    pairs: Sequence[tuple[Metric, Statistics]], resamples: int, seed: int, members: Sequence[Sequence[int]] | None = None
) -> list[NDArray[np.float64]]:
    """Return each metric over all resamples, ``[resamples]``, drawn and taken in parts; of whole clusters, where there are ``members``."""
    if not pairs:
        return []
    resampling = _Resampling(pairs, members)
    parts = [resampling.values(index) for index in _draw(resampling.units, resamples, seed, max(1, DRAWN // resampling.units))]
    return [np.concatenate(values) for values in zip(*parts, strict=True)]


def _draw(units: int, resamples: int, seed: int, rows: int) -> Iterator[NDArray[np.int32]]:
    """Yield ``rows`` resamples at a time, indices ``[rows, units]``; the next ones take the place of those before.

    All cases of an evaluation have the same ones, which are kept where they take little room.
    """
    if units > 2**16 or units * resamples > KEPT:
        yield from _drawn(units, resamples, seed, rows)
        return
    kept, block = _kept(units, resamples, seed), np.empty((min(rows, resamples), units), np.int32)
    for start in range(0, resamples, rows):
        part = block[: resamples - start]
        part[:] = kept[start : start + rows]
        yield part


@lru_cache(maxsize=1)
def _kept(units: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """Return all resamples, ``[resamples, units]``."""
    kept = np.empty((resamples, units), np.uint16)
    rows = max(1, DRAWN // units)
    for start, part in zip(range(0, resamples, rows), _drawn(units, resamples, seed, rows), strict=True):
        kept[start : start + rows] = part
    return kept


def _drawn(units: int, resamples: int, seed: int, rows: int) -> Iterator[NDArray[np.int32]]:
    """Yield what `_draw` does, drawn anew: the indices of ``RandomState(seed).randint(0, units, ...)``.

    The legacy generator, since numpy promises its stream for good (NEP 19), and not that of the newer one. Its own loop over single
    numbers takes half as long again as this, which does the same: of each number of 32 bits it takes the lowest that matter, and
    passes over those that are too high.
    """
    generator, mask = np.random.RandomState(seed), np.uint32((1 << (units - 1).bit_length()) - 1)
    spare, block = np.empty(0, np.uint32), np.empty((min(rows, resamples), units), np.int32)
    for start in range(0, resamples, rows):
        part = block[: resamples - start]
        flat, filled = part.reshape(-1), 0
        while filled < len(flat):
            if not len(spare):
                numbers = generator.randint(0, 2**32, GATHERED // 2, np.uint32)
                numbers &= mask
                spare = numbers.compress(numbers < units)
            some = spare[: len(flat) - filled]
            flat[filled : filled + len(some)] = some
            filled, spare = filled + len(some), spare[len(some) :]
        yield part


class _Resampling:
    """Metrics over resamples of units, which are samples or whole clusters of them.

    `Additive` metrics need the sums of their statistics, a column for each number in one. Whole numbers add up exactly in any order, so
    that the fastest way is the same everywhere. Others are added in the order in which they were drawn: in pairs, as numpy sums a row,
    where a statistic is one number, and else one after the other, so that an interval does not depend on how many are drawn at once.
    """

    def __init__(self, pairs: Sequence[tuple[Metric, Statistics]], members: Sequence[Sequence[int]] | None = None) -> None:
        self.pairs, self.members = pairs, members
        self.units = len(pairs[0][1]) if members is None else len(members)
        self.additive = [
            number for number, (metric, stack) in enumerate(pairs) if isinstance(metric, Additive) and isinstance(stack, np.ndarray)
        ]
        tables = [self._table(pairs[number][1]) for number in self.additive]
        if members is not None:
            tables.append(np.array([[len(cluster)] for cluster in members], np.float64))
        self.ends = np.cumsum([table.shape[1] for table in tables])
        self.columns = np.concatenate(tables, axis=1) if len(tables) > 1 else tables[0] if tables else np.empty((self.units, 0))
        alone = np.array([table.shape[1] == 1 for table in tables for _ in range(table.shape[1])], bool)
        whole = np.array([np.array_equal(column, np.rint(column)) for column in self.columns.T], bool)
        constant = whole & np.array([(column == column[0]).all() for column in self.columns.T], bool)
        varied = whole & ~constant
        self.many = np.count_nonzero(varied) > COUNTED
        binary = np.array([not self.many and np.isin(column, (0, 1)).all() for column in self.columns.T], bool) & varied
        self.constant = np.flatnonzero(constant)
        self.bits = [(column, self.columns[:, column] == 1) for column in np.flatnonzero(binary)]
        self.in_pairs = [(column, self.columns[:, column].copy()) for column in np.flatnonzero(alone & ~whole)]
        self.in_turn = np.flatnonzero((~whole & ~alone) | (varied & ~binary & (not self.many)))
        width = len(self.in_turn)
        self.looked_up = np.zeros((self.units, 4 if width == 3 else width))  # numpy looks up 32 bytes three times as fast as 24
        self.looked_up[:, :width] = self.columns[:, self.in_turn]

    def _table(self, stack: Any) -> NDArray[np.float64]:
        """Return the sums of a metric's statistics in each unit, ``[units, columns]``."""
        if self.members is not None:
            stack = np.stack([stack[own[0]] if len(own) == 1 else stack[own].sum(axis=0) for own in self.members])
        return np.asarray(stack.reshape(len(stack), -1))

    def values(self, index: NDArray[np.integer[Any]]) -> list[NDArray[np.float64]]:
        """Return each metric over each resample, ``[rows]``, for units ``[rows, any number]``."""
        totals = np.split(self._sums(index), self.ends[:-1], axis=1) if len(self.ends) else []
        samples = np.full(len(index), index.shape[1]) if self.members is None else totals[-1][:, 0].astype(np.int64)
        found: dict[int, NDArray[np.float64]] = {}
        for number, total in zip(self.additive, totals, strict=False):
            metric, stack = self.pairs[number]
            total, found[number] = total.reshape(len(index), *np.shape(stack)[1:]), np.empty(len(index))
            for count in np.unique(samples):
                found[number][samples == count] = metric.score(total[samples == count], int(count))  # type: ignore[attr-defined]
        return [found[number] if number in found else self._values_of_others(number, index) for number in range(len(self.pairs))]

    def _values_of_others(self, number: int, index: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Return a metric that is more than a sum, over each resample."""
        metric, stack = self.pairs[number]
        if isinstance(metric, Countable) and isinstance(stack, np.ndarray):
            unit_of = np.arange(len(stack))
            for unit, own in enumerate(self.members or ()):
                unit_of[own] = unit
            parts = _parts(index, max(COUNTS, self.units))
            return np.concatenate([metric.values_of_counts(stack, self._counts(part)[:, unit_of]) for part in parts])
        drawn = ((i for unit in row for i in self.members[unit]) if self.members else row for row in index)
        return np.array([metric.value([stack[i] for i in row]) for row in drawn])

    def _counts(self, index: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Return how often each unit stands in each row, ``[rows, units]``."""
        cells = index + self.units * np.arange(len(index))[:, None]
        return np.bincount(cells.ravel(), minlength=len(index) * self.units).reshape(len(index), self.units)

    def _sums(self, index: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Return the sums over each resample, ``[rows, columns]``."""
        sums = np.empty((len(index), self.columns.shape[1]))
        if self.many:
            parts = _parts(index, max(COUNTS, TOGETHER * self.units))
            sums[:] = np.concatenate([self._counts(part).astype(np.float64) @ self.columns for part in parts])
        sums[:, self.constant] = index.shape[1] * self.columns[0, self.constant]
        if self.bits or self.in_pairs:
            self._sum_rows(index, sums)
        if len(self.in_turn):
            sums[:, self.in_turn] = self._sums_in_turn(index)[:, : len(self.in_turn)]
        return sums

    def _sum_rows(self, index: NDArray[np.integer[Any]], sums: NDArray[np.float64]) -> None:
        """Put the sums of columns that are looked up one by one, a few whole rows at a time, where they belong."""
        shape = min(len(index), max(1, GATHERED // max(1, index.shape[1]))), index.shape[1]
        places, drawn, hit = np.empty(shape, np.intp), np.empty(shape), np.empty(shape, bool)  # once: new memory takes longer than sums
        for start in range(0, len(index), shape[0]):
            rows = slice(start, min(start + shape[0], len(index)))
            here = places[: rows.stop - start]
            here[:] = index[rows]
            for column, bit in self.bits:
                sums[rows, column] = [np.count_nonzero(row) for row in bit.take(here, out=hit[: len(here)], mode="wrap")]
            for column, figures in self.in_pairs:
                sums[rows, column] = figures.take(here, out=drawn[: len(here)], mode="wrap").sum(axis=1)

    def _sums_in_turn(self, index: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """Return the sums of columns that are looked up side by side, one unit after the other, ``[rows, columns looked up]``."""
        rows, width = len(index), self.looked_up.shape[1]
        step = max(1, GATHERED // (rows * width))
        places, figures, sums = np.empty((step, rows), np.intp), np.empty((step, rows, width)), np.zeros((rows, width))
        for start in range(0, index.shape[1], step):
            part = index[:, start : start + step].T  # rows side by side, so that one addition serves all of them
            here, found = places[: len(part)], figures[: len(part)]
            here[:] = part
            self.looked_up.take(here, axis=0, out=found, mode="wrap")  # "raise", the default, would copy `found`
            found[0] += sums
            sums = found.sum(axis=0)
        return sums


def _parts(index: NDArray[np.integer[Any]], cells: int) -> Iterator[NDArray[np.integer[Any]]]:
    """Yield ``index`` some rows at a time."""
    rows = max(1, cells // max(1, index.shape[1]))
    for start in range(0, len(index), rows):
        yield index[start : start + rows]


def values_of_points(
    metric: Metric, points: Sequence[Statistics], resamples: int = 1000, seed: int = SEED, groups: Sequence[str] = ()
) -> NDArray[np.float64]:
    """Return a metric over the same samples at several points: ``[1 + resamples, points]``, of all samples and then of each resample.

    Every point has the same samples in the same order, and a resample holds the same ones at every point, so that what is hard about a
    sample is hard everywhere. The same seed gives the same resamples for another metric of these samples. Whole clusters are drawn where
    ``groups`` names some, as in `resampled`.
    """
    return values_together([(metric, statistics) for statistics in points], resamples, seed, groups)


def values_together(
    pairs: Sequence[tuple[Metric, Statistics]], resamples: int = 1000, seed: int = SEED, groups: Sequence[str] = ()
) -> NDArray[np.float64]:
    """Return what `values_of_points` does, each column of a metric of its own: ``[1 + resamples, pairs]``."""
    if len({len(statistics) for _, statistics in pairs}) != 1 or not len(pairs[0][1]):
        raise ValueError(f"points need the same samples, at least one, not {[len(statistics) for _, statistics in pairs]} of them")
    stacks = [(metric, stacked(metric, statistics)) for metric, statistics in pairs]
    values = [[metric.value(stack) for metric, stack in stacks]]
    if not resamples:
        return np.array(values)
    members = _shared(groups, len(pairs[0][1]))
    return np.concatenate([values, np.stack(_resampled(stacks, resamples, seed, members), axis=1)])
