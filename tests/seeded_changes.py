"""One change for each layer of the chain, made to a real codec and a real model: what attribution is tried on, and measured by.

A `Bench` measures the pocket's pictures, through its ViT and JPEG, with any of the changes made. Every change is made where that layer
lies: a stored item, what is read from it, the encoder, the decoder, the preprocessor's configuration, the weights, the metric.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mpq_fixtures import DISTRIBUTION
from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, MADE_BY, SIGNAL, SOURCE, STATISTIC
from mpq_fixtures.codecs import Codec
from mpq_fixtures.codecs.jpeg import Jpeg
from mpq_fixtures.evaluate import evaluate
from mpq_fixtures.gate.crossing import Crossing, cross
from mpq_fixtures.gate.layers import Layer, layer_of
from mpq_fixtures.gate.measured import Measured, of_record
from mpq_fixtures.metrics import Metric, Statistic
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.pocket.textures import classification
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.record import Record
from mpq_fixtures.resources import Resources
from mpq_fixtures.results.provenance import loaded_libraries
from mpq_fixtures.signals import Dataset, Image, Sample
from mpq_fixtures.store import open_store
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task
from mpq_fixtures.tasks.image_classification import ImageClassification

POCKET = Path(__file__).parents[1] / "mpq_fixtures" / "pocket" / "models"
CHANGES = {MADE_BY[layer]: layer for layer in (SOURCE, SIGNAL, BITSTREAM, DECODED, GIVEN, ANSWER, STATISTIC)}
"""The layer of each change by its maker's name."""
POINT = ("jpeg", "q10")


class Changed(Jpeg):
    """A codec whose file changed; the changes of this file are told apart by their classes, as files are by their content."""

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint()}{type(self).__name__}".encode()).hexdigest()


class FullChroma(Changed):
    """An encoder's other settings: chroma in full resolution, and one step of quality less."""

    def options(self, quality: str) -> dict[str, Any]:
        return {"quality": self.qualities.number(quality) - 3, "subsampling": "4:4:4"}


class Shifted(Changed):
    """A decoder that is one pixel off."""

    def decode(self, data: bytes) -> Image:
        return Image(np.roll(super().decode(data).pixels, 1, axis=1))


class FullChromaShifted(FullChroma, Shifted):
    """Both."""


class Strict(Top1):
    """A metric that takes only every second class for known."""

    version = 2

    def observe(self, prediction: Any, target: Any) -> Statistic:
        return super().observe(prediction, target) * (target % 2)


class StrictClassification(ImageClassification):
    """The task with that metric."""

    def metric(self, dataset: Dataset, **options: Any) -> Metric:
        return Strict(len(dataset.labels))


CODECS: dict[tuple[bool, bool], type[Jpeg]] = {
    (False, False): Jpeg,
    (True, False): FullChroma,
    (False, True): Shifted,
    (True, True): FullChromaShifted,
}


@dataclass
class Bench:
    """Measures the pictures with changes made; ``folder`` is for changed models and the store, ``samples`` how many pictures."""

    folder: Path
    samples: int = 24
    _done: dict[Any, tuple[Record, Measured]] = field(default_factory=dict)

    def case(self, changes: Collection[str] = (), original: bool = False) -> Case:
        task = StrictClassification() if "metric" in changes else find_task("image_classification")
        evaluation = Evaluation(
            "vit_pocket", "seeded", task, str(self.model_folder(changes)), {"path": "python:x:y"}, (POINT,), self.folder
        )
        return evaluation.cases[0] if original else evaluation.cases[1]

    def measure(self, changes: Collection[str] = (), original: bool = False) -> tuple[Record, Measured]:
        """Return what is measured with the changes made, each by the name of what it changes."""
        key = (frozenset(changes), original)
        if key not in self._done:
            case = self.case(changes, original)
            record = evaluate(
                case, self.dataset(changes), self.model(changes), None if original else self.codec(changes), self.bench(changes)
            )
            self._done[key] = record, of_record(record, self.provenance(record))
        return self._done[key]

    def compare(self, *changes: str, original: bool = True) -> Layer | None:
        """Return the layer that attribution names for the changes, with the help of the original case where it is asked for."""
        pair = (self.measure(original=True)[1], self.measure(changes, original=True)[1]) if original else None
        return layer_of(self.measure()[1], self.measure(changes)[1], pair)

    def cross(self, *changes: str) -> Crossing:
        return self.cross_with(self.bench(changes), self.measure()[1], self.measure(changes)[1], *changes)

    def cross_with(self, bench: Resources, before: Measured, after: Measured, *changes: str) -> Crossing:
        case, dataset = self.case(changes), self.dataset(changes)
        metric = case.evaluation.task.metric(dataset)
        originals = self.measure(original=True)[1], self.measure(changes, original=True)[1]
        return cross(case, dataset, self.model(changes), self.codec(changes), bench, before, after, metric, originals)

    def bench(self, changes: Collection[str]) -> Resources:
        """Return a bench. Its store knows the stored items by their source alone, so that one that was read otherwise needs another:

        an empty one, or, where another codec's keys are new anyway, one that holds what was approved and no more.
        """
        if "reader" not in changes:
            return Resources(open_store(self.folder / "store"), Clock())
        if not {"encoder", "decoder"} & set(changes):
            return Resources(open_store(self.folder / "read-otherwise"), Clock())
        folder = self.folder / "-".join(["read-otherwise", *sorted(changes)])
        if not folder.is_dir():
            approved = Bench(self.folder / "approved", self.samples)
            approved.measure()
            shutil.copytree(approved.folder / "store", folder)
        return Resources(open_store(folder), Clock())

    def codec(self, changes: Collection[str]) -> Codec:
        return CODECS["encoder" in changes, "decoder" in changes]()

    def dataset(self, changes: Collection[str]) -> Dataset:
        chosen = classification().choose(self.samples)
        samples = [
            _read_otherwise(sample) if "reader" in changes else sample
            for sample in (_stored_otherwise(one) if "data set" in changes and not n % 3 else one for n, one in enumerate(chosen.samples))
        ]
        return Dataset(samples, chosen.labels)

    def model(self, changes: Collection[str]) -> OpenModel:
        return _opened(self.model_folder(changes))

    def model_folder(self, changes: Collection[str]) -> Path:
        """Return a copy of the pocket's ViT with its preprocessor's configuration, or its weights, changed."""
        chosen = [name for name in ("preprocessing", "model") if name in changes]
        folder = self.folder / "-".join(["vit", *chosen])
        if not folder.is_dir():
            shutil.copytree(POCKET / "vit_pocket", folder)
            if "preprocessing" in chosen:
                file = folder / "preprocessor_config.json"
                configuration = json.loads(file.read_text())
                file.write_text(json.dumps(configuration | {"image_mean": [mean + 0.2 for mean in configuration["image_mean"]]}))
            if "model" in chosen:
                perturb(folder / "model.safetensors", 1.5)
        return folder

    @staticmethod
    def provenance(record: Record) -> dict[str, Any]:
        """Return what a run records that matters here."""
        main = record.metrics[record.metric]
        return {
            "python": "3.11",
            "version": version(DISTRIBUTION),
            "packages": {"pillow": version("pillow"), "numpy": version("numpy"), "torch": version("torch")},
            "libraries": loaded_libraries()["libraries"],
            "codecs": {record.codec: record.build},
            "code": {record.codec: record.parts["codec"]} if "codec" in record.parts else {},
            "models": {record.evaluation: {"fingerprint": record.fingerprint, **record.parts["model"]}},
            "metrics": {record.evaluation: {"name": record.metric, "version": main.version, "settings": main.settings}},
        }


@dataclass(frozen=True)
class Entry:
    """A row of the confusion matrix: what was changed, and what attribution calls it: the first layer, and all that moved."""

    made: tuple[str, ...]
    first: str
    named: tuple[str, ...]
    crossing: Crossing


def matrix(bench: Bench) -> list[Entry]:
    """Return what attribution says of each change and of each pair of changes."""
    entries = []
    for changes in (*((name,) for name in CHANGES), *combinations(CHANGES, 2)):
        layer, crossing = bench.compare(*changes), bench.cross(*changes)
        entries.append(Entry(changes, layer.maker if layer else "none", crossing.moved, crossing))
    return entries


@cache
def _opened(folder: Path) -> OpenModel:
    evaluation = Evaluation("vit_pocket", "seeded", find_task("image_classification"), str(folder), {"path": "x"}, (), folder)
    return OpenModel(evaluation, "cpu")


def perturb(file: Path, amount: float) -> None:
    """Add noise to a checkpoint's weights, ``amount`` times the spread of each tensor, always the same."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(7)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    tensors = {
        name: tensor + amount * tensor.std() * torch.randn(tensor.shape, generator=generator)
        if tensor.is_floating_point() and tensor.numel() > 1
        else tensor
        for name, tensor in load_file(file).items()
    }
    save_file(tensors, file, metadata)


def _stored_otherwise(sample: Sample) -> Sample:
    """A stored picture that was replaced by another: its mirror image."""
    signal = sample.signal
    source = hashlib.sha256(b"mirrored" + sample.source.encode()).hexdigest()
    return replace(sample, source=source, signal=lambda: Image(np.ascontiguousarray(signal().pixels[:, ::-1])))


def _read_otherwise(sample: Sample) -> Sample:
    """A picture that another build of a library reads one level brighter."""
    signal = sample.signal
    return replace(sample, signal=lambda: Image(np.minimum(signal().pixels, 254) + np.uint8(1)))
