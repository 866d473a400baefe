"""Source separation with the models of the ``demucs`` package: a mixture in, its stems out; SDR as museval computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpq_fixtures.datasets.columns import Table, Targets
from mpq_fixtures.examples import Part, signal_example
from mpq_fixtures.metrics import Metric
from mpq_fixtures.signals import Audio, Dataset, Sample, Signal
from mpq_fixtures.tasks import AUDIO, Prediction, Task
from mpq_fixtures.tasks.source_separation import _demucs, _stems

if TYPE_CHECKING:
    from mpq_fixtures.tasks.source_separation._demucs import DemucsSeparator

CLIP_SECONDS = 2.5  # five clips a point: a mixture and four stems


class SourceSeparation(Task):
    """What a mixture is made of; SDR."""

    name, title = "source_separation", "source separation"
    modality, columns = AUDIO, ("mixture", "stems")
    packages = ("torch", "demucs", "julius")
    answer_bytes = 8.0  # four stems of 16 bits

    def targets(self, table: Table) -> tuple[Targets, tuple[str, ...]]:
        """Return stems by name, each a column of sounds or the sum of several."""
        return _stems.Stems(table), ()

    def as_target(self, prediction: Prediction, signal: Signal) -> Any:
        """Return the stems as sounds of the mixture's sample rate."""
        assert isinstance(signal, Audio)
        return {name: Audio(stem, signal.sample_rate) for name, stem in prediction.items()}

    def check_column(self, key: str, value: Any) -> str:
        """Say what the value of a column's key must be: of stems a list, or a table with the columns of each."""
        if key != "stems":
            return super().check_column(key, value)
        columns = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        right = bool(columns) and all(_is_column(one) or (isinstance(value, dict) and _are_columns(one)) for one in columns)
        return "" if right else 'stems and their columns, { vocals = "vocals", other = ["keys", "guitar"] }'

    def check(self, source: str, **options: Any) -> None:
        """Raise `AssetError` where a folder holds no model, or not all of it, as far as shows without reading weights."""
        _demucs.check(source)

    def load(self, source: str, device: str, **options: Any) -> DemucsSeparator:
        """Load a model for ``device`` from a local folder, a hub id, or the name of a pretrained Demucs model."""
        return _demucs.load(source, device, **options)

    def repository(self, name: str) -> str:
        """Return the hub id of a pretrained Demucs model, or an id as it is."""
        return _demucs.repository(name)

    def files(self, names: Sequence[str], readme: str) -> list[str]:
        """Choose the safetensors files and the bag's YAML."""
        return _demucs.files(names)

    def to_bytes(self, prediction: Prediction) -> bytes:
        """Serialise stems in 16 bits; raises `TypeError` for anything else."""
        if not isinstance(prediction, Mapping):
            raise TypeError(f"a separation is a dictionary of stems, name to [channels, frames], not {type(prediction).__name__}")
        return _stems.to_bytes(prediction)

    def from_bytes(self, data: bytes) -> Prediction:
        """Restore what `to_bytes` made."""
        return _stems.from_bytes(data)

    def metric(self, dataset: Dataset, **options: Any) -> Metric:
        """Return SDR over the frames of the data set's first sample that can be read."""
        from mpq_fixtures.metrics.sdr import SDR

        return SDR(next((rate for sample in dataset.samples if (rate := _rate(sample))), None))

    def example(self, signal: Signal, prediction: Prediction, target: Any, labels: Sequence[str], level: Signal | None) -> list[Part]:
        """Return the mixture and the stems that the model made of it, all with one gain."""
        assert isinstance(signal, Audio)
        stems = {f"{name}, estimated": Audio(np.asarray(stem, np.float32), signal.sample_rate) for name, stem in prediction.items()}
        return [signal_example(clip, name, level, CLIP_SECONDS) for name, clip in {"mixture": signal, **stems}.items()]


def _is_column(value: Any) -> bool:
    return isinstance(value, str)


def _are_columns(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_column, value))


def _rate(sample: Sample) -> int | None:
    try:
        signal = sample.signal()
    except Exception:  # which the sample's own failure tells
        return None
    return signal.sample_rate if isinstance(signal, Audio) else None
