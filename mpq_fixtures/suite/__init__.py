"""What a suite holds: evaluations, their cases and their thresholds; `mpq_fixtures.suite.file` reads them from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpq_fixtures.codecs import Codec
from mpq_fixtures.codecs.scaling import MARK, at_scale
from mpq_fixtures.plain_text import plain
from mpq_fixtures.signals import Limits
from mpq_fixtures.tasks import Task

ORIGINAL = "original"
SAY, FAIL = "say", "fail"
LABELS, OWN_ANSWERS, BOTH = "labels", "original", "both"
"""What a model's answers are held against: labels, its own answers on the originals, or both."""
_PATHS = (".", "/", "~", "$")  # what a path begins with that cannot be a hub id or a name


class SuiteError(ValueError):
    """A suite that cannot be run: unknown, malformed, or naming what does not exist."""


@dataclass(frozen=True)
class Threshold:
    """A bound that a figure of every case must keep, such as ``value >= 0.8``."""

    figure: str
    relation: str
    bound: float

    def holds(self, figure: float) -> bool:
        """Tell whether the figure keeps the bound; NaN keeps none."""
        return {
            ">=": figure >= self.bound,
            ">": figure > self.bound,
            "<=": figure <= self.bound,
            "<": figure < self.bound,
        }[self.relation]

    def __str__(self) -> str:
        return f"{self.figure} {self.relation} {self.bound:g}"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A named model on a named data set for one task, with the operating points to measure.

    ``file`` is the suite file, ``folder`` where it lies: relative paths start there. ``samples`` caps the samples, None takes all.
    ``options`` are those of the metric and ``model_options`` those of the model's loader; a ``python:`` model has none. ``codecs`` has the
    codec of each name in ``points``; ``similarity`` names signal metrics to measure besides those that always are. ``left_out`` names
    the optional codecs that this machine lacks something for, whose cases are not among the points.

    ``targets`` says what answers are held against: ``labels``; ``original``, the model's own answers on the originals, with which no label
    is read; or ``both``, where labels decide and agreement with the originals stands beside.
    ``margins`` say how much worse ``value``, ``rate`` (as a share) or a signal metric may get before that matters, each in its unit, where
    the file does not leave it to the metric. ``underpowered`` is what becomes of a case with too few samples to tell: ``say`` or ``fail``.
    ``limits`` are those of signals.
    """

    name: str
    suite: str
    task: Task
    model: str
    dataset: Mapping[str, Any]
    points: tuple[tuple[str, str], ...]
    folder: Path
    samples: int | None = None
    thresholds: tuple[Threshold, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    model_options: Mapping[str, Any] = field(default_factory=dict)
    codecs: Mapping[str, Codec] = field(default_factory=dict)
    similarity: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    margins: Mapping[str, float] = field(default_factory=dict)
    underpowered: str = SAY
    targets: str = LABELS
    file: Path | None = None
    limits: Limits = field(default_factory=Limits)

    @property
    def has_labels(self) -> bool:
        """Tell whether the data's targets are read."""
        return self.targets != OWN_ANSWERS

    @property
    def named_classes(self) -> tuple[str, ...]:
        """The names of classes that the suite file gives, in the order of the numbers in the data; () where it gives none."""
        named = self.dataset.get("labels", ())
        return () if isinstance(named, str) else tuple(map(plain, named))

    @property
    def cases(self) -> list[Case]:
        """Return the reference on the originals and then each operating point, codec by codec."""
        return [Case(self, ORIGINAL, ""), *(Case(self, codec, quality) for codec, quality in self.points)]

    @property
    def suite_argument(self) -> str:
        """The suite as commands take it: the name of a file in ``evaluations/suites``, the path of any other."""
        if self.file is None:
            return self.suite
        return self.file.stem if self.folder.parts[-2:] == ("evaluations", "suites") else str(self.file)

    @property
    def model_name(self) -> str:
        """Name the model in results: a hub id or a callable as it stands, a folder by its last part."""
        return plain(Path(self.model).name if self.model.startswith(_PATHS) else self.model)

    @property
    def dataset_name(self) -> str:
        """Name the data set in results, without the columns: ``imagefolder/photos:test``."""
        path = str(self.dataset["path"]).removeprefix("python:")
        path = Path(path).name if path.startswith(_PATHS) else path
        path += f"/{Path(self.dataset['data_dir']).name}" if "data_dir" in self.dataset else ""
        return plain(f"{path}:{self.dataset['split']}" if "split" in self.dataset else path)


@dataclass(frozen=True, eq=False)
class Case:
    """An evaluation at an operating point: one test. The codec is ``original`` where nothing is compressed further."""

    evaluation: Evaluation
    codec: str
    quality: str

    def siblings(self) -> list[str]:
        """Return the qualities at which the evaluation has the case's codec, all of them with a scale or all without, as this one."""
        scaled = MARK in self.quality
        return [quality for name, quality in self.evaluation.points if name == self.codec and (MARK in quality) == scaled]

    def open_codec(self) -> Codec | None:
        """Return what encodes at this point, the same object in every case of a process; None for the originals."""
        return None if self.is_original else at_scale(self.evaluation.codecs[self.codec], self.quality)

    @property
    def point(self) -> str:
        """The operating point, ``opus-6k`` or ``original``."""
        return f"{self.codec}-{self.quality}" if self.quality else self.codec

    @property
    def id(self) -> str:
        """The id in tests and results, ``whisper_pocket-opus-6k``."""
        return f"{self.evaluation.name}-{self.point}"

    @property
    def is_original(self) -> bool:
        """Tell whether this is the reference."""
        return self.codec == ORIGINAL
