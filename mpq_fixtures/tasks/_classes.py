"""Classes as targets: read from a column, and brought from the order of the data to that of the model.

Targets are brought to the model's order, by name, so that predictions and targets index the same list and a model may know more
classes than the data hold.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpq_fixtures.datasets.columns import TEXT_TYPES, Cells, Table, Targets, digest_of_text, is_missing, is_whole, kind_of, type_of
from mpq_fixtures.errors import AssetError, nearest
from mpq_fixtures.examples import Part, signal_example
from mpq_fixtures.metrics import Metric
from mpq_fixtures.signals import Dataset, LazySamples, Sample, Signal, Target
from mpq_fixtures.store import key_of
from mpq_fixtures.tasks import Prediction, Task

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation

BY_INDEX = "by index"
"""What a suite file writes for the data set's ``labels`` where names cannot be compared and the order is known to be the same."""

WITHHELD = -1
"""A label, in hub data sets."""

_NUMBER = re.compile(r"(?:label|class)?[ _-]*(\d+)", re.IGNORECASE)
NO_CLASS = -1
"""In place of the model's index."""


class Unnamed(tuple[str, ...]):
    """No names: those of classes that are bare numbers, with the lowest and the highest that the data hold.

    They are at hand where the column is read, and needed where the model's classes are known.
    """

    lowest: int
    highest: int

    def __new__(cls, lowest: int, highest: int) -> Unnamed:
        """Take the lowest and the highest number."""
        made = super().__new__(cls)
        made.lowest, made.highest = lowest, highest
        return made


def in_models_order(dataset: Dataset, evaluation: Evaluation, classes: Callable[[], Sequence[str]]) -> Dataset:
    """Return the data set with class indices in the order of the model's classes; as it is where the two orders are the same.

    ``classes`` gives the names of the model's classes. Raises `AssetError` where names do not match.
    """
    labels, order = match_models(dataset, evaluation, classes())
    unchecked = labels and not dataset.labels
    if not order and not unchecked:
        return dataclasses.replace(dataset, labels=labels)
    return mapped(dataset, labels, (order, unchecked), _index_mapper(order or range(len(labels))))


def match_models(dataset: Dataset, evaluation: Evaluation, model: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the names of the classes, and the model's index of each of the data's, () where they are the same.

    Raises `AssetError` where names do not match.
    """
    order = _match(dataset.labels, tuple(model), evaluation.dataset.get("labels") == BY_INDEX, evaluation)
    return tuple(model) or dataset.labels, order


class Classification(Task):
    """A model that answers with the index of a class; scored by top-1 accuracy."""

    def targets(self, table: Table) -> tuple[Targets, tuple[str, ...]]:
        """Return class indices, and the names of the data's classes."""
        targets = ClassIndices(table, table.column("label"))
        return targets, targets.names

    def align(self, dataset: Dataset, evaluation: Evaluation, classes: Callable[[], Sequence[str]]) -> Dataset:
        """Return the data set with its targets in the order of the model's classes; raises `AssetError` where names do not match."""
        return in_models_order(dataset, evaluation, classes)

    def metric(self, dataset: Dataset, **options: Any) -> Metric:
        """Return top-1 accuracy."""
        from mpq_fixtures.metrics.top1 import Top1

        return Top1(len(dataset.labels) or None)

    def example(self, signal: Signal, prediction: Prediction, target: Any, labels: Sequence[str], level: Signal | None) -> list[Part]:
        """Return the signal, with the class that it was taken for."""
        return [signal_example(signal, self.describe(prediction, labels) if 0 <= prediction < len(labels) else "", level)]


class ClassIndices(Targets):
    """Class indices: numbers, or names among the data set's."""

    def __init__(self, table: Table, column: str) -> None:
        feature = table.rows.features[column]
        texts = getattr(feature, "dtype", "") in TEXT_TYPES
        if not texts and not str(getattr(feature, "dtype", "")).startswith("bool") and not is_whole(table.rows, column):
            raise table.error(f"the column {column!r} for label holds {kind_of(feature)}, neither whole numbers nor names of classes")
        self._cells, self._column = Cells(table.rows.data.column(column)), column
        there: list[Any] = [
            value if texts else int(value) for value in table.rows.unique(column) if not is_missing(value) and value != WITHHELD
        ]
        own = feature.names if type_of(feature) == "ClassLabel" else sorted(there) if texts else ()
        if not there:
            raise table.error(f"the column {column!r} for label is empty: the labels of this split are withheld; take another split")
        self.names: tuple[str, ...] = table.evaluation.named_classes or tuple(own)
        if not self.names:
            self.names = Unnamed(min(there), max(there))
        if self.names and own and len(own) != len(self.names) and not texts:
            raise table.error(f"labels has {len(self.names)} names, and the column {column!r} has {len(own)} classes: {_few(own)}")
        self._index = {name: index for index, name in enumerate(self.names)}
        known = {name if texts else index for index, name in enumerate(self.names) if name or texts}
        for value in there:
            if value not in known and (self.names or value < 0):
                ways = nearest(str(value), self.names) if texts else f": labels are 0 to {len(self.names) - 1}" if self.names else ""
                raise table.error(f"unknown label {value!r} in the column {column!r}{ways}")

    def digests(self, row: int) -> Iterator[bytes]:
        index = self[row]
        yield digest_of_text(f"{index} {self.names[index] if self.names else ''}")

    def __getitem__(self, row: int) -> int:
        value = self._cells[row]
        if is_missing(value) or value == WITHHELD:
            raise ValueError(f"row {row} has no label in the column {self._column!r}")
        return self._index[value] if isinstance(value, str) else int(value)


def match(data: Sequence[str], model: Sequence[str]) -> tuple[int, ...] | None:
    """Return for each class of the data the index of the model's class of that name; None where one is missing.

    Case does not count, and space, ``_`` and ``-`` are alike. Where that does not do, the first of several synonyms decides, which
    commas part: ``tench`` is ``tench, Tinca tinca``. A name that stands for several classes of a list must have the same indices in both.
    Names that are nothing but numbers go by these, never by their places: sorted as text, 10 comes before 2. An empty name of the data
    is no class, and gets -1.
    """
    numbers = all(map(_NUMBER.fullmatch, (*filter(None, data), *model)))
    for key in (plain_name, _first_synonym, *([_number] if numbers else [])):
        ours, theirs = (_positions([key(name) if name else "" for name in names]) for names in (data, model))
        nameless = ours.pop("", [])
        order: dict[int, int] = {}
        for name, own in ours.items():
            others = theirs.get(name, [])
            if len(own) == len(others) == 1 or own == others:
                order |= zip(own, others, strict=True)
        if len(order) + len(nameless) == len(data):
            return tuple(order.get(position, NO_CLASS) for position in range(len(data)))
    return None


def _positions(names: Iterable[str]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        positions.setdefault(name, []).append(position)
    return positions


def _match(data: Sequence[str], model: Sequence[str], by_index: bool, evaluation: Evaluation) -> tuple[int, ...]:
    """Return the model's index of each of the data's classes; nothing where they are the same."""
    if isinstance(data, Unnamed) and model and data.highest >= len(model) and not by_index:
        raise AssetError(
            f"{evaluation.name}: the labels of the data are the numbers {data.lowest} to {data.highest}, and the model's classes are 0 to "
            f'{len(model) - 1}: write labels = ["", "cat", ...], the names of the numbers from 0 on, "" for one that is no class; or, '
            f'where the numbers are the model\'s, labels = "{BY_INDEX}", with which samples beyond them fail. '
            f"Model {evaluation.model_name} ({len(model)}): {_few(model)}"
        )
    if not data or not model:
        return ()
    by_place = tuple(range(len(data))) if len(data) == len(model) else None
    order = by_place if by_index else match(data, model)
    if order is None:
        ways = "their numbers differ" if by_index else f'correct the names, or, where the order is the same, write labels = "{BY_INDEX}"'
        raise AssetError(
            f"{evaluation.name}: the classes of the data do not match the model's: {ways}. "
            f"Data ({len(data)}): {_few(data)}. Model {evaluation.model_name} ({len(model)}): {_few(model)}"
        )
    return () if order == tuple(range(len(model))) else order


def mapped(dataset: Dataset, labels: tuple[str, ...], settings: Any, mapper: Callable[[Any], Any]) -> Dataset:
    """Return the data set with mapped targets; without settings the mapper only checks, and digests stay."""

    told = repr(settings)

    def moved(position: int) -> Sample:
        sample = dataset.samples[position]
        source = key_of(source=sample.source, labels=told) if settings else sample.source
        return dataclasses.replace(sample, source=source, target=lambda: mapper(sample.target()))

    def sources(positions: Sequence[int]) -> list[str]:
        found = dataset.sources(positions)
        return [key_of(source=source, labels=told) for source in found] if settings else found

    return Dataset(LazySamples(len(dataset.samples), moved, sources, dataset.names), labels)


def _index_mapper(order: Sequence[int]) -> Callable[[Target], int]:
    """Return what turns a class of the data into one of the model's."""

    def mapped(target: Target) -> int:
        if not 0 <= target < len(order):
            raise ValueError(f"the label {target} is none of 0 to {len(order) - 1}")
        if order[target] == NO_CLASS:
            raise ValueError(f"the label {target} stands for no class")
        return order[target]

    return mapped


def plain_name(name: str) -> str:
    """Return what names are compared by: without case, and with space, ``_`` and ``-`` alike."""
    return " ".join(re.split(r"[\s_-]+", name.casefold().strip()))


def _first_synonym(name: str) -> str:
    return plain_name(name.partition(",")[0])


def _number(name: str) -> str:
    match = _NUMBER.fullmatch(name)
    return str(int(match[1])) if match else name


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
