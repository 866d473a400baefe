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

_NO_NAME = re.compile(r"(label|class)?[ _-]*\d+", re.IGNORECASE)


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
        return _mapped(dataset, labels, (order, unchecked) if order or unchecked else (), _index_mapper(order or range(len(labels))))
    if not labels:
        raise AssetError(f'{evaluation.name}: neither data nor model name their classes: write labels = ["wall", ...] in the data set')
    ignored, offset = evaluation.options["ignored_label"], evaluation.options["label_offset"]
    mapper = _map_mapper(order, len(labels), ignored, offset)
    unscored = None if ignored is None else int(mapper(np.array([[ignored]]))[0, 0])
    settings = (order, ignored, offset) if order or offset or ignored is not None else ()
    return dataclasses.replace(_mapped(dataset, labels, settings, mapper), ignored=unscored)


def match(data: Sequence[str], model: Sequence[str]) -> tuple[int, ...] | None:
    """Return for each class of the data the index of the model's class of that name; None where one is missing.

    Case does not count, and space, ``_`` and ``-`` are alike. Where that does not do, the first of several synonyms decides, which
    commas part: ``tench`` is ``tench, Tinca tinca``. A name that stands for several classes of a list must have the same indices in both.
    """
    for key in (_plain, _first_synonym):
        ours, theirs = _positions(map(key, data)), _positions(map(key, model))
        order: dict[int, int] = {}
        for name, own in ours.items():
            others = theirs.get(name, [])
            if len(own) == len(others) == 1 or own == others:
                order |= zip(own, others, strict=True)
        if len(order) == len(data):
            return tuple(order[position] for position in range(len(data)))
    return None


def _positions(names: Iterable[str]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        positions.setdefault(name, []).append(position)
    return positions


def _match(data: Sequence[str], model: Sequence[str], by_index: bool, evaluation: Evaluation) -> tuple[int, ...]:
    """Return the model's index of each of the data's classes; nothing where they are the same."""
    if not data or not model:
        return ()
    unnamed = all(map(_NO_NAME.fullmatch, data)) and all(map(_NO_NAME.fullmatch, model))
    order = tuple(range(len(data))) if (by_index or unnamed) and len(data) == len(model) else None if by_index else match(data, model)
    if order is None:
        ways = "their numbers differ" if by_index else f'correct the names, or, where the order is the same, write labels = "{BY_INDEX}"'
        raise AssetError(
            f"{evaluation.name}: the classes of the data do not match the model's: {ways}. "
            f"Data ({len(data)}): {_few(data)}. Model {evaluation.model_name} ({len(model)}): {_few(model)}"
        )
    return () if order == tuple(range(len(model))) else order


def _mapped(dataset: Dataset, labels: tuple[str, ...], settings: Any, mapper: Callable[[Any], Any]) -> Dataset:
    if not settings:
        return dataclasses.replace(dataset, labels=labels)
    recipe = repr(settings)

    def moved(position: int) -> Sample:
        sample = dataset.samples[position]
        return dataclasses.replace(sample, source=key_of(source=sample.source, labels=recipe), target=lambda: mapper(sample.target()))

    return Dataset(LazySamples(len(dataset.samples), moved), labels)


def _index_mapper(order: Sequence[int]) -> Callable[[Target], int]:
    """Return what turns a class of the data into one of the model's."""

    def mapped(target: Target) -> int:
        if not 0 <= target < len(order):
            raise ValueError(f"the label {target} is none of 0 to {len(order) - 1}")
        return order[target]

    return mapped


def _map_mapper(order: Sequence[int], classes: int, ignored: int | None, offset: int) -> Callable[[Any], Any]:
    """Return what turns a stored class map into one of the model's classes, with `UNSCORED` in place of an ignored label that is none."""

    def mapped(target: Any) -> Any:
        moved = np.asarray(target).astype(np.int64) - offset
        scored = slice(None) if ignored is None else moved != ignored - offset
        highest = (len(order) or classes) - 1
        inside = moved[scored]
        if inside.size and (inside.min() < 0 or inside.max() > highest):
            found, known = f"{inside.min() + offset} to {inside.max() + offset}", f"{offset} to {highest + offset}"
            raise ValueError(f"the mask holds labels {found}, beyond {known}: see the options label_offset and ignored_label")
        held = (moved >= 0) & (moved <= highest)
        if order:
            moved[held] = np.asarray(order)[moved[held]]
        moved[~held] = UNSCORED
        return moved

    return mapped


def _plain(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.casefold().strip()))


def _first_synonym(name: str) -> str:
    return _plain(name.partition(",")[0])


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
