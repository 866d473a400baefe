"""Data sets: samples that are read one by one, never all at once.

`load_dataset` opens what a suite file names: a ``python:`` callable, or a table of rows (`mpq_fixtures.datasets.tables`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from mpq_fixtures.datasets.ids import twice
from mpq_fixtures.errors import AssetError, describe_type
from mpq_fixtures.models.callables import PYTHON, call, read_labels
from mpq_fixtures.plain_text import plain
from mpq_fixtures.signals import Dataset, LazySamples, Sample

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation


def load_dataset(evaluation: Evaluation, samples: int | None = None) -> Dataset:
    """Open an evaluation's data set, with at most ``samples`` of it where that is fewer than the suite file says.

    Raises `AssetError` where it cannot be had.
    """
    path = evaluation.dataset["path"]
    dataset: Dataset
    if path.startswith(PYTHON):
        dataset = _call(path, evaluation)
    else:
        from mpq_fixtures.datasets.tables import read_table

        dataset = read_table(evaluation)
    if not dataset.samples:
        raise AssetError(f"{evaluation.name}: data set {evaluation.dataset_name!r} is empty")
    return _in_plain_words(dataset).choose(min((count for count in (evaluation.samples, samples) if count is not None), default=None))


def _in_plain_words(dataset: Dataset) -> Dataset:
    """Return the data set with ids, groups and labels that every file and terminal can hold."""

    def sample(position: int) -> Sample:
        found = dataset.samples[position]
        name, group = plain(found.id), plain(found.group)
        return found if (name, group) == (found.id, found.group) else dataclasses.replace(found, id=name, group=group)

    def names(positions: Sequence[int]) -> list[tuple[str, str]]:
        return [(plain(name), plain(group)) for name, group in dataset.names(positions)]

    samples, labels = LazySamples(len(dataset.samples), sample, dataset.sources, names, dataset.keys), tuple(map(plain, dataset.labels))
    return dataclasses.replace(dataset, samples=samples, labels=dataset.labels if labels == tuple(dataset.labels) else labels)


def align(dataset: Dataset, evaluation: Evaluation, classes: Callable[[], Sequence[str]]) -> Dataset:
    """Return the data set with its targets as the model counts them; ``classes`` gives the names of the model's classes.

    Without labels the classes are the model's own. Raises `AssetError` where data and model do not fit.
    """
    if evaluation.has_labels:
        return evaluation.task.align(dataset, evaluation, classes)
    aligned = dataclasses.replace(dataset, labels=tuple(classes()) or dataset.labels, ignored=None)
    try:
        evaluation.task.metric(aligned, **evaluation.options)
    except ValueError as error:
        problem = f"{evaluation.name}: the model names no classes ({error})"
        raise AssetError(f'{problem}: write labels = ["wall", ...] in the data set') from None
    return aligned


def _call(path: str, evaluation: Evaluation) -> Dataset:
    """Return the data set that a callable makes, once it is seen to be one whose samples can be told apart."""
    dataset, place = call(path, evaluation.folder, evaluation.name), f"{evaluation.name}: {path}()"
    if not isinstance(dataset, Dataset):
        raise AssetError(f"{place} returned {describe_type(dataset)}: make it return a mpq_fixtures.datasets.Dataset")

    def ids() -> Iterator[str]:
        for sample in dataset.samples:
            if not isinstance(sample.group, str):
                raise AssetError(f'{place}: the group of {sample.id!r} is {sample.group!r}: make it a text, or "" for a sample alone')
            yield plain(sample.id)

    if (name := twice(ids)) is not None:  # what is measured goes by ids: one of the two would stand for both
        raise AssetError(f"{place}: the id {name!r} stands more than once: give each sample its own")
    return Dataset(dataset.samples, read_labels(dataset.labels, place), dataset.ignored)
