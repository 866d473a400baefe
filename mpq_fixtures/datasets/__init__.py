"""Data sets: samples that are read one by one, never all at once.

`load_dataset` opens what a suite file names: a ``python:`` callable, or a table of rows (`mpq_fixtures.datasets.tables`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from mpq_fixtures.named import PYTHON, AssetError, find_callable
from mpq_fixtures.signals import Sample

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation

SEED = 20240115
"""Seeds the choice of samples; the day that the study appeared."""


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order, and the names of the classes that their targets index (none for text and stems).

    ``ignored`` is what class maps hold where nothing is scored.
    """

    samples: Sequence[Sample]
    labels: tuple[str, ...] = ()
    ignored: int | None = None

    def choose(self, count: int | None) -> Dataset:
        """Return at most ``count`` samples in their old order: a seeded choice, in which a smaller one lies inside a larger one."""
        if count is None or count >= len(self.samples):
            return self
        order = list(range(len(self.samples)))
        random.Random(SEED).shuffle(order)
        chosen = sorted(order[:count])
        return Dataset(LazySamples(len(chosen), lambda index: self.samples[chosen[index]]), self.labels, self.ignored)


class LazySamples(Sequence[Sample]):
    """Samples that are made when they are first asked for, and then remembered: an id, a digest, and where to read them."""

    def __init__(self, count: int, make: Callable[[int], Sample]) -> None:
        self._made: list[Sample | None] = [None] * count
        self._make = make

    def __len__(self) -> int:
        return len(self._made)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        sample = self._made[index]
        if sample is None:
            sample = self._made[index] = self._make(range(len(self))[index])
        return sample


def load_dataset(evaluation: Evaluation, samples: int | None = None) -> Dataset:
    """Open an evaluation's data set, with at most ``samples`` of it where that is fewer than the suite file says.

    Raises `AssetError` where it cannot be had.
    """
    path = evaluation.dataset["path"]
    dataset: Dataset
    if path.startswith(PYTHON):
        dataset = find_callable(path, evaluation.folder)()
    else:
        from mpq_fixtures.datasets.tables import read_table

        dataset = read_table(evaluation)
    if not dataset.samples:
        raise AssetError(f"{evaluation.name}: data set {evaluation.dataset_name!r} is empty")
    return dataset.choose(min((count for count in (evaluation.samples, samples) if count is not None), default=None))
