"""Tasks: what a model perceives and answers, and how its answers are scored.

A task is one file, or one folder, with one subclass of `Task`; defining the subclass registers it, wherever the file lives: in this
package, in a pytest plugin (``-p my_task``), or in a package that names it under the entry point group ``mpq.tasks``. Everything that is
particular to a task stands there: the columns of its data, the loader of its model, what an answer is in bytes and in words, its metric,
and what the report shows of a sample.
"""

from __future__ import annotations

import inspect
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from mpq_fixtures.errors import describe_type, nearest
from mpq_fixtures.examples import Part, signal_example
from mpq_fixtures.hub.files import transformers_files
from mpq_fixtures.metrics import Metric, SignalMetric, Statistic, signal_metrics
from mpq_fixtures.models import checkpoints, predictions
from mpq_fixtures.plug_ins import import_all, place_of_class
from mpq_fixtures.signals import Dataset, Modality, Signal

if TYPE_CHECKING:
    from mpq_fixtures.datasets.columns import Table, Targets
    from mpq_fixtures.suite import Evaluation

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO

Prediction = Any
"""What a task's models answer to a signal: a class index, a class map ``[H, W]``, a text, stems ``{name: [channels, frames]}``."""

_PART = re.compile(r"[a-z0-9_]+")
_PRECISIONS = ("float32", "float16", "bfloat16")
_NEEDED = ("title", "modality", "columns")

_registry: dict[str, type[Task]] = {}
_twins: dict[str, type[Task]] = {}


class Model(Protocol):
    """Anything that answers signals. Optional attributes: ``batch_size``, the most signals at once, and ``labels``.

    How many it gets at once, up to that, is measured; what it answers to a signal must not depend on the others.

    A model whose ``predict(signals)`` is ``infer(prepare(signals))`` may offer the two as well, and they are then called in its place:
    ``prepare`` returns for each signal what the network is given of it, an array on the CPU, or a tuple of arrays and numbers where the
    answer has to be brought back to the signal's size. So a change of the preprocessing can be told from one of the network.
    """

    def predict(self, signals: Sequence[Any]) -> Sequence[Prediction]:
        """Return one prediction for each signal, in order."""
        ...


class TaskError(ValueError):
    """A task that there is not, or that cannot be registered; the message is for people."""


class Task(ABC):
    """A kind of perception.

    A subclass sets ``name``, by which suite files call it; ``title``, what people call it; ``modality``; and ``columns``, the keys by
    which a suite file names the columns of the signal and of the target. What is optional: ``packages`` that decide a prediction besides
    the model; ``options`` of the metric and ``model_options`` of the loader, each with its default, and ``aliases``, other words for them;
    ``version``, raised when the
    preparation of signals changes; ``answer_bytes``, about what an answer takes in the store for each pixel or audio sample; and
    ``is_text``, for answers of which the report marks the words that differ.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    modality: ClassVar[Modality]
    columns: ClassVar[tuple[str, ...]]
    packages: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, Any]] = {}
    model_options: ClassVar[Mapping[str, Any]] = {"precision": "float32"}
    aliases: ClassVar[Mapping[str, str]] = {}
    version: ClassVar[int] = 1
    answer_bytes: ClassVar[float] = 0.0
    is_text: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:  # others are bases
            known = _registry.setdefault(cls.name, cls)
            if _origin(known) != _origin(cls):
                _twins[cls.name] = cls

    # The data

    @abstractmethod
    def targets(self, table: Table) -> tuple[Targets, tuple[str, ...]]:
        """Return what a model should answer in each row, and the names of the classes that this indexes, () where there are none."""

    def as_target(self, prediction: Prediction, signal: Signal) -> Any:
        """Return an answer to an original signal in the form of a target, for what the model answers to the decoded one."""
        return prediction

    def check_column(self, key: str, value: Any) -> str:
        """Say what the value of a column's key in a suite file must be, as in ``the name of a column``; "" where it is that."""
        return "" if isinstance(value, str) else "the name of a column"

    def align(self, dataset: Dataset, evaluation: Evaluation, classes: Callable[[], Sequence[str]]) -> Dataset:
        """Return the data set with its targets as the model counts them; ``classes`` gives the names of the model's classes.

        Raises `AssetError` where the two do not fit.
        """
        return dataset

    # The model

    @abstractmethod
    def load(self, source: str, device: str, **options: Any) -> Model:
        """Load a model for a torch device from a local folder, with the values of ``model_options``.

        Raises `AssetError` for what `check` finds.
        """

    def labels(self, folder: Path, **options: Any) -> tuple[str, ...]:
        """Return the names of the classes of a model in a folder, in the order of their indices; () where it names none."""
        return checkpoints.labels_of(folder)

    def check(self, source: str, **options: Any) -> None:  # noqa: B027  # not every loader can tell
        """Raise `AssetError` for what is wrong with a folder of a model, as far as shows without reading weights."""

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `ValueError` for values of ``model_options`` that are not possible."""
        if (precision := options.get("precision", "float32")) not in _PRECISIONS:
            raise ValueError(f"precision: unknown {precision!r}{nearest(str(precision), _PRECISIONS)}")

    def adopt(self, model: Any) -> Model:
        """Return a model that a ``python:`` callable made; raises `TypeError` where it is none for this task."""
        if not callable(getattr(model, "predict", None)):
            raise TypeError(f"{describe_type(model)}, which has no predict(signals): make it return an object that has")
        return model  # type: ignore[no-any-return]

    def repository(self, name: str) -> str:
        """Return the hub id that a suite file's name of a model stands for."""
        return name

    def files(self, names: Sequence[str], readme: str) -> list[str]:
        """Choose the files of a hub repository that the loader needs; raises `UnfitError` where it has none."""
        return transformers_files(names, readme)

    # Its answers

    def to_bytes(self, prediction: Prediction) -> bytes:
        """Serialise an answer; raises `TypeError` for what is none."""
        return predictions.to_bytes(prediction)

    def from_bytes(self, data: bytes) -> Prediction:
        """Restore what `to_bytes` made."""
        return predictions.from_bytes(data)

    def describe(self, answer: Any, labels: Sequence[str]) -> str:
        """Say a prediction or a target in a word; "" for what is not said in words."""
        return predictions.describe(answer, labels)

    def agree(self, one: Prediction, other: Prediction) -> bool:
        """Tell whether two answers to one signal are the same but for rounding."""
        return predictions.agree(one, other)

    # How they are scored

    @abstractmethod
    def metric(self, dataset: Dataset, **options: Any) -> Metric:
        """Return the metric that decides a case, from the data set and the values of ``options``.

        Raises `ValueError` or `TypeError` for values that are not possible.
        """

    def set_metric(self) -> Metric | None:
        """Return a metric of a sample among all others, besides the task's own; None for most tasks."""
        return None

    def observe_set(self, predictions: Sequence[Prediction], originals: Sequence[Prediction]) -> Sequence[Statistic]:
        """Return what `set_metric` keeps of each sample, from the answers to all decoded signals and to their originals."""
        raise NotImplementedError

    def settle(self, options: Mapping[str, Any], model_options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the metric's options with those settled that follow from the loader's, which are none for a ``python:`` model."""
        return dict(options)

    def signal_metrics(self, further: tuple[str, ...] = ()) -> list[SignalMetric]:
        """Return the metrics that compare the decoded signal with the original: the automatic ones and those that ``further`` names."""
        return signal_metrics(self.modality, further)

    # What people see

    def example(self, signal: Signal, prediction: Prediction, target: Any, labels: Sequence[str], level: Signal | None) -> list[Part]:
        """Return what the report shows of one sample; ``level`` is the signal whose loudness sets the gain of every point."""
        return [signal_example(signal, level=level)]


def fault(cls: type[Task]) -> str:
    """Say what is wrong with a task's class, its parts and names; "" where nothing is."""
    if not isinstance(cls.name, str) or not _PART.fullmatch(cls.name):
        return f"name {cls.name!r}: use lower case letters, digits and '_' only"
    if lacking := [part for part in _NEEDED if not hasattr(cls, part)]:
        return f"it has no {lacking[0]!r}"
    if not isinstance(cls.modality, Modality):
        return f"its modality is {cls.modality!r}: set it to IMAGE or AUDIO of mpq_fixtures.tasks"
    if not isinstance(cls.columns, tuple) or not cls.columns or not all(isinstance(key, str) for key in cls.columns):
        return f'its columns are {cls.columns!r}: write the keys of the signal and of the target, ("image", "label")'
    if inspect.isabstract(cls):
        return f"it lacks the method {', '.join(sorted(cls.__abstractmethods__))}"
    if cls.name in _twins:
        return f"there is another task {cls.name!r} ({place_of_class(_twins[cls.name])}): rename one"
    return ""


@cache
def _load() -> None:
    """Import every task of this package and every one that another package announces."""
    import_all(__name__, "task", TaskError)


def registered() -> dict[str, type[Task]]:
    """Return the known tasks by name, in alphabetical order; raises `TaskError`, with its file, for a class that cannot be a task."""
    _load()
    for cls in _registry.values():
        if wrong := fault(cls):
            raise TaskError(f"task {cls.__name__} ({place_of_class(cls)}): {wrong}")
    return {name: _registry[name] for name in sorted(_registry)}


@cache
def find_task(name: str) -> Task:
    """Return the task of a name, the same object whoever asks; raises `TaskError` where there is none."""
    known = registered()
    if name not in known:
        raise TaskError(f"there is no task {name!r}{nearest(name, known)}")
    return known[name]()


def title_of(name: str) -> str:
    """Return what people call the task of a name; of one that is not known here, the name in words."""
    known = registered()
    return known[name].title if name in known else name.replace("_", " ")


def _origin(cls: type[Task]) -> tuple[str, str]:
    """Return what a class that is imported twice, as a plugin and by its path, has in common with itself, and with no other."""
    return str(getattr(sys.modules.get(cls.__module__), "__file__", cls.__module__)), cls.__qualname__
