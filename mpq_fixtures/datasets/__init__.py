"""Data sets: samples that are read one by one, never all at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpq_fixtures.named import PYTHON, AssetError, find_callable
from mpq_fixtures.signals import Sample

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation

SEED = 20240115
"""Seeds the choice of samples; the day that the study appeared."""


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order, and the names of the classes that their targets index (none for text and stems)."""

    samples: Sequence[Sample]
    labels: tuple[str, ...] = ()

    def choose(self, count: int | None) -> Dataset:
        """Return at most ``count`` samples in their old order: a seeded choice, in which a smaller one lies inside a larger one."""
        if count is None or count >= len(self.samples):
            return self
        order = list(range(len(self.samples)))
        random.Random(SEED).shuffle(order)
        return Dataset([self.samples[index] for index in sorted(order[:count])], self.labels)


def load_dataset(evaluation: Evaluation, samples: int | None = None) -> Dataset:
    """Open an evaluation's data set, with at most ``samples`` of it where that is fewer than the suite file says.

    Raises `AssetError` where it cannot be had.
    """
    path = evaluation.dataset["path"]
    if not path.startswith(PYTHON):
        raise AssetError(f"{evaluation.name}: data set {path!r}: only python:module:callable is known so far")
    dataset: Dataset = find_callable(path, evaluation.folder)()
    if not dataset.samples:
        raise AssetError(f"{evaluation.name}: data set {path!r} is empty")
    return dataset.choose(min((count for count in (evaluation.samples, samples) if count is not None), default=None))
