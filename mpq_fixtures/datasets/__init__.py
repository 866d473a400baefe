"""Data sets: samples that are read one by one, never all at once.

`load_dataset` opens what a suite file names: a ``python:`` callable, or a table of rows (`mpq_fixtures.datasets.tables`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpq_fixtures.named import PYTHON, AssetError, find_callable
from mpq_fixtures.signals import Dataset

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation


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
