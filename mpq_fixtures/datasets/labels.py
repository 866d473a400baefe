"""Classes: the order in which the data number them, and the order in which the model does.

Targets are brought to the model's order, by name, so that predictions and targets index the same list and a model may know more
classes than the data hold.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mpq_fixtures.named import AssetError
from mpq_fixtures.signals import Dataset, LazySamples, Sample, Target
from mpq_fixtures.store import key_of
from mpq_fixtures.suite import Evaluation

BY_INDEX = "by index"
"""What a suite file writes for the data set's ``labels`` where names cannot be compared and the order is known to be the same."""

UNSCORED = -1
"""What class maps hold where their pixels belong to no class."""

_NUMBER = re.compile(r"(?:label|class)?[ _-]*(\d+)", re.IGNORECASE)
_NO_CLASS = -1  # in place of the model's index


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


def in_models_order(dataset: Dataset, evaluation: Evaluation, names: Callable[[], Sequence[str]]) -> Dataset:
    """Return the data set with its targets in the order of the model's classes; as it is where the two orders are the same.

    ``names`` gives the model's classes and is called only for tasks that have some. Masks are first counted from the option
    ``label_offset``, and their ``ignored_label`` is set apart. Raises `AssetError` where names do not match.
    """
    if not evaluation.task.has_labels:
        return dataset
    model, asked = tuple(names()), evaluation.dataset.get("labels")
    order = _match(dataset.labels, model, asked == BY_INDEX, evaluation)
    labels = model or dataset.labels
    if "ignored_label" not in evaluation.options:
        unchecked = labels and not dataset.labels
        if not order and not unchecked:
            return dataclasses.replace(dataset, labels=labels)
        return _mapped(dataset, labels, (order, unchecked), _index_mapper(order or range(len(labels))))
    if not labels:
        raise AssetError(f'{evaluation.name}: neither data nor model name their classes: write labels = ["wall", ...] in the data set')
    ignored, offset = evaluation.options["ignored_label"], evaluation.options["label_offset"]
    mapper = _map_mapper(order or range(len(labels)), ignored, offset)
    unscored = None if ignored is None else int(mapper(np.array([[ignored]]))[0, 0])
    settings = (order, ignored, offset) if order or offset or ignored is not None else ()
    return dataclasses.replace(_mapped(dataset, labels, settings, mapper), ignored=unscored)


def match(data: Sequence[str], model: Sequence[str]) -> tuple[int, ...] | None:
    """Return for each class of the data the index of the model's class of that name; None where one is missing.

    Case does not count, and space, ``_`` and ``-`` are alike. Where that does not do, the first of several synonyms decides, which
    commas part: ``tench`` is ``tench, Tinca tinca``. A name that stands for several classes of a list must have the same indices in both.
    Names that are nothing but numbers go by these, never by their places: sorted as text, 10 comes before 2. An empty name of the data
    is no class, and gets -1.
    """
    numbers = all(map(_NUMBER.fullmatch, (*filter(None, data), *model)))
    for key in (_plain, _first_synonym, *([_number] if numbers else [])):
        ours, theirs = (_positions([key(name) if name else "" for name in names]) for names in (data, model))
        nameless = ours.pop("", [])
        order: dict[int, int] = {}
        for name, own in ours.items():
            others = theirs.get(name, [])
            if len(own) == len(others) == 1 or own == others:
                order |= zip(own, others, strict=True)
        if len(order) + len(nameless) == len(data):
            return tuple(order.get(position, _NO_CLASS) for position in range(len(data)))
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


def _mapped(dataset: Dataset, labels: tuple[str, ...], settings: Any, mapper: Callable[[Any], Any]) -> Dataset:
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
        if order[target] == _NO_CLASS:
            raise ValueError(f"the label {target} stands for no class")
        return order[target]

    return mapped


def _map_mapper(order: Sequence[int], ignored: int | None, offset: int) -> Callable[[Any], Any]:
    """Return what turns a stored class map into one of the model's classes, with `UNSCORED` in place of an ignored label that is none."""

    def mapped(target: Any) -> Any:
        moved = np.asarray(target).astype(np.int64) - offset
        scored = slice(None) if ignored is None else moved != ignored - offset
        highest, known_as = len(order) - 1, np.asarray(order)
        inside = moved[scored]
        if inside.size and (inside.min() < 0 or inside.max() > highest):
            found, known = f"{inside.min() + offset} to {inside.max() + offset}", f"{offset} to {highest + offset}"
            raise ValueError(f"the mask holds labels {found}, beyond {known}: see the options label_offset and ignored_label")
        if (nameless := inside[known_as[inside] == _NO_CLASS]).size:
            raise ValueError(f"the mask holds the label {nameless[0] + offset}, which stands for no class: see the option ignored_label")
        held = (moved >= 0) & (moved <= highest)
        moved[held] = known_as[moved[held]]
        moved[~held] = UNSCORED
        return moved

    return mapped


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.casefold().strip()))


def _first_synonym(name: str) -> str:
    return _plain(name.partition(",")[0])


def _number(name: str) -> str:
    match = _NUMBER.fullmatch(name)
    return str(int(match[1])) if match else name


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
