"""Metrics: a statistic for each sample, and a value for any set of samples.

Each metric is one file. Intervals, paired tests and partial runs resample statistics, so no metric needs code for them.

Conventions: a prediction that is not finite gives a statistic that makes every value it enters NaN, never a good score; inputs that
do not fit together raise ValueError with a sentence that names both; values that could be infinite are clipped to the metric's bounds,
so that means stay finite. A bound of ``-inf`` says that the metric can fall without end, one of ``inf`` that it can rise so.

Metrics that compare a decoded signal with the original are subclasses of `SignalMetric`; defining one registers it, wherever the file
lives: in this package, in a pytest plugin (``-p my_metric``), or in a package that names it under the entry point group ``mpq.metrics``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.errors import describe_type, nearest
from mpq_fixtures.plug_ins import import_all
from mpq_fixtures.signals import Audio, Image, Modality, Signal

Statistic = NDArray[np.float64]
"""What a metric keeps of one sample: an array of any shape, the same number of axes for every sample."""

DECIBEL_LIMIT = 100.0
"""dB; ratios are clipped here. No change of a single level in a 224x224 8-bit picture, nor of a step of 16-bit sound, reaches it."""


def decibels(signal: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ratio of two energies in dB, clipped to -100..100: 100 without an error, NaN where either is not finite or both are 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: NDArray[np.float64] = np.clip(10.0 * np.log10(np.divide(signal, error)), -DECIBEL_LIMIT, DECIBEL_LIMIT)
    return np.where(np.isfinite(signal) & np.isfinite(error), ratio, np.nan)


def pixels_of(prediction: Any, target: Any, metric: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the pixels of two pictures of one shape; raises `ValueError` for anything else."""
    if not (isinstance(prediction, Image) and isinstance(target, Image)):
        raise ValueError(f"{metric} compares two pictures, not {type(prediction).__name__} with {type(target).__name__}")
    _check_shapes(prediction.pixels, target.pixels, f"{metric} compares pictures")
    return prediction.pixels, target.pixels


def waveforms_of(prediction: Any, target: Any, metric: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the waveforms of two sounds of one shape; raises `ValueError` for anything else."""
    if not (isinstance(prediction, Audio) and isinstance(target, Audio)):
        raise ValueError(f"{metric} compares two sounds, not {type(prediction).__name__} with {type(target).__name__}")
    _check_shapes(prediction.waveform, target.waveform, f"{metric} compares sounds")
    return prediction.waveform, target.waveform


BLOCK = 1 << 16
"""Numbers of a signal that are worked on at once: what is in between stays in the processor's cache, however long the signal is."""


def blocks(*arrays: NDArray[Any]) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield one part after the other of arrays of one shape, each of at most `BLOCK` numbers and in one dimension."""
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, BLOCK):
        yield tuple(array[start : start + BLOCK] for array in flat)


def _check_shapes(prediction: NDArray[Any], target: NDArray[Any], what: str) -> None:
    if prediction.shape != target.shape or not target.size:
        raise ValueError(f"{what} of one shape, not {list(prediction.shape)} with {list(target.shape)}")


class Chance(NamedTuple):
    """A value that takes no look at the signal, and the answer that reaches it, in words."""

    value: float
    answer: str


_task_metrics: dict[str, type[Metric]] = {}
_registry: dict[tuple[Modality, str], type[SignalMetric]] = {}


class Metric(ABC):
    """A figure of merit with its unit, bounds and tolerance.

    ``tolerance`` is how far the value may move between machines and library builds before it counts as a change, in ``unit``.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    higher_is_better: ClassVar[bool] = True
    bounds: ClassVar[tuple[float, float]]
    tolerance: ClassVar[float]
    one_shape: ClassVar[bool] = True  # of condensed statistics, whatever the sample
    version: ClassVar[int] = 1  # raised when what is computed changes: part of the cache key

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            cls._register()

    @classmethod
    def _register(cls) -> None:
        _task_metrics[cls.name] = cls

    @abstractmethod
    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Return the statistic of one sample; for a signal metric, prediction and target are the decoded and the original signal."""

    @abstractmethod
    def value(self, statistics: Sequence[Statistic]) -> float:
        """Return the metric over the samples that the statistics came from; NaN when it is undefined there."""

    def floor(self, signal: Signal, target: Any) -> Statistic | None:
        """Return the statistic of answering with the signal itself, where retention is counted from there; None for most metrics."""
        return None

    def condense(self, statistic: Statistic) -> Statistic:
        """Return a smaller statistic that counts the same in `value`, for whoever takes the value of many sets; by default itself."""
        return statistic

    def condense_all(self, statistics: Sequence[Statistic]) -> Sequence[Statistic]:
        """Return each statistic as `condense` does; a metric that can do so with all at once in less time does."""
        return statistics if type(self).condense is Metric.condense else [self.condense(statistic) for statistic in statistics]

    @classmethod
    def restored(cls, settings: Mapping[str, Any] | None) -> Metric | None:
        """Return the metric for taking values of statistics, from its `settings`; None where these are not known (None) and matter."""
        return cls()

    @property
    def settings(self) -> dict[str, Any]:
        """Name the options that change what is computed, as JSON holds them; part of the cache key and of the record.

        A baseline that was approved with others fails. Versions of packages are no options: see `packages`.
        """
        return {}

    @property
    def packages(self) -> dict[str, str]:
        """Name the versions of the packages that decide a statistic (see `versions`); part of the cache key and of the record.

        Another one is measured anew, and is named where values have changed; by itself it fails nothing.
        """
        return {}

    def chance(self, statistics: Sequence[Statistic], targets: Sequence[str]) -> Chance | None:
        """Return the best that an answer reaches which is the same whatever the signal; None where that cannot be told.

        ``statistics`` are those of a set and ``targets`` what was wanted of each of its samples, in words ("" for maps and stems).
        """
        return None


class Additive(Metric):
    """A metric that needs no more of a set than the sum of its statistics and their number; all have one shape."""

    @abstractmethod
    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return the metric from sums over ``samples`` statistics, ``[..., *shape]`` into ``[...]``; NaN when it is undefined there."""

    def value(self, statistics: Sequence[Statistic]) -> float:
        """Return the metric over a set, NaN when the set is empty."""
        if not len(statistics):
            return float("nan")
        if len(statistics) == 1:  # as of every sample, and stacking one takes longer than scoring it
            return float(self.score(np.asarray(statistics[0]), 1))
        stack = statistics if isinstance(statistics, np.ndarray) else np.stack(statistics)
        return float(self.score(np.sum(stack, axis=0), len(statistics)))


class Countable(Metric):
    """A metric that is no sum, and still taken of many sets at once, each of some samples some times over."""

    @abstractmethod
    def values_of_counts(self, statistics: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return `value` over each set, ``[sets]``, of condensed statistics ``[samples, *shape]``, ``counts`` times each."""

    @abstractmethod
    def values_alone(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `value` over each sample alone, ``[samples]``, of condensed statistics ``[samples, *shape]``."""


class MetricError(ValueError):
    """A signal metric that there is not, or that cannot be registered; the message is for people."""


class NotMeasurable(ValueError):
    """A sample that a signal metric has no value of; the message says why. It is left out of the mean, counted and shown."""


class SignalMetric(Additive):
    """How near a decoded signal is to the original: of each sample, averaged over samples. Statistic: ``[value, 1]``.

    ``automatic`` says whether it is measured where a suite names none: not where it needs weights or a package that mpq does not bring,
    or takes longer than a model. `observe` takes the decoded signal and the original, and raises `NotMeasurable` for samples that the
    metric is not made for: a sentinel of a library never gets into a mean. Making one loads nothing; one serves several threads.
    """

    modality: ClassVar[Modality]
    automatic: ClassVar[bool] = False

    @classmethod
    def _register(cls) -> None:
        _registry[cls.modality, cls.name] = cls

    def missing(self) -> str:
        """Say what this machine lacks for the metric and the one command that brings it; "" where it can run. Loads nothing."""
        return ""

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return the mean over the samples that count; NaN when none does."""
        count = total[..., 1]
        return np.asarray(total[..., 0] / np.where(count > 0, count, np.nan))


@cache
def _load() -> None:
    """Import every module of this package and every metric that another package announces."""
    import_all(__name__, "metric", MetricError)


def registered_signal_metrics(modality: Modality) -> dict[str, type[SignalMetric]]:
    """Return the signal metrics of a modality by name, in alphabetical order."""
    _load()
    return {name: _registry[kind, name] for kind, name in sorted(_registry, key=lambda key: key[1]) if kind is modality}


def signal_metrics(modality: Modality, further: Iterable[str] = ()) -> list[SignalMetric]:
    """Return the automatic metrics of a modality and those that ``further`` names; raises `MetricError` for a name that there is not."""
    known = registered_signal_metrics(modality)
    names = [name for name, metric in known.items() if metric.automatic]
    for name in further:
        if name not in known:
            raise MetricError(f"there is no {modality.value} metric {name!r}{nearest(name, known)}")
    return [known[name]() for name in dict.fromkeys([*names, *further])]


def restore_metric(name: str, settings: Mapping[str, Any] | None) -> Metric | None:
    """Return the task's metric of a name for taking values of statistics; None where there is none here.

    The same for settings that are not known (None), if they matter for its values.
    """
    from mpq_fixtures.metrics import agreement

    _load()
    if name == agreement.NAME:
        return agreement.restored_agreement(settings, _task_metrics)
    metric = _task_metrics.get(name)
    return metric.restored(settings) if metric else None


def fault(metric: Any) -> str:
    """Say what is wrong with what a task gives for its metric, as the second half of a sentence; "" where nothing is."""
    if not isinstance(metric, Metric):
        return f"is {describe_type(metric)}: return an instance of a subclass of mpq_fixtures.metrics.Metric"
    title = type(metric).__name__
    if isinstance(metric, SignalMetric):
        return f"is {title}, which compares signals: a task's metric compares a prediction with a target, as a subclass of Metric"
    if absent := [part for part in ("name", "unit", "bounds", "tolerance") if not hasattr(metric, part)]:
        return f"is {title}, which has no {absent[0]!r}: set it in the class"
    try:
        low, high = map(float, metric.bounds)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        return f"is {title}, whose bounds are {metric.bounds!r}: write the least and the greatest value, (0.0, 1.0)"
    if not isinstance(metric, known := _task_metrics.get(metric.name, Metric)):
        return f"is {title}, and there is another {metric.name!r}, {known.__name__} in {known.__module__}: rename one"
    return ""


def lacking(**packages: str) -> str:
    """Say which modules are not installed and the command that brings their packages; "" where all are. Imports none."""
    absent = [module for module in packages if importlib.util.find_spec(module) is None]
    if not absent:
        return ""
    command = " ".join(packages[module] for module in absent)
    return f"{' and '.join(absent)} {'is' if len(absent) == 1 else 'are'} not installed: pip install {command}"


def versions(*distributions: str) -> dict[str, str]:
    """Return the versions of what is installed of the distributions, for `Metric.packages`: another version may measure otherwise."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
