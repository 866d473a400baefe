"""Embeddings: a picture or a sound in, a vector out; how far it turns, and which neighbours a sample keeps.

No labels are read: the vector of a decoded signal is held against that of its original.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.datasets.columns import NoTargets, Table, Targets
from mpq_fixtures.errors import AssetError, describe_type, nearest
from mpq_fixtures.metrics import Metric, Statistic
from mpq_fixtures.metrics.cosine_similarity import CosineSimilarity
from mpq_fixtures.metrics.neighbours import NeighboursKept, shares_kept
from mpq_fixtures.models import checkpoints
from mpq_fixtures.models.checkpoints import quiet
from mpq_fixtures.processes.devices import autocast
from mpq_fixtures.signals import Audio, Dataset, Image, Signal
from mpq_fixtures.tasks import AUDIO, IMAGE, Model, Prediction, Task
from mpq_fixtures.tasks._pictures import pixel_values, read_processor
from mpq_fixtures.tasks._sounds import mono_at

POOLINGS = ("auto", "first", "mean")
"""What becomes of a network's states: its own summary, or else their mean; the first one (CLS); their mean."""


class Embedding(Task):
    """A model that answers with a vector; cosine similarity to that of the original."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    model_options: ClassVar[Mapping[str, Any]] = {"precision": "float32", "pooling": "auto"}

    def targets(self, table: Table) -> tuple[Targets, tuple[str, ...]]:
        """Return nothing: the model's own answers are the targets."""
        return NoTargets(), ()

    def labels(self, folder: Path, **options: Any) -> tuple[str, ...]:
        """Return nothing: a vector is no class, though a checkpoint may name some."""
        return ()

    def check(self, source: str, **options: Any) -> None:
        """Raise `AssetError` where a folder holds no checkpoint, or not all of it, as far as shows without reading weights."""
        checkpoints.check(source, "", checkpoints.WEIGHTS, checkpoints.PROCESSOR)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `ValueError` for values that are not possible."""
        super().check_options(options)
        if (pooling := options.get("pooling", "auto")) not in POOLINGS:
            raise ValueError(f"pooling: unknown {pooling!r}{nearest(str(pooling), POOLINGS)}")

    def load(self, source: str, device: str, **options: Any) -> Embedder:
        """Load any model that `AutoModel` reads for ``device``, from a local folder or a hub id with an optional ``@revision``."""
        self.check(source)
        model, missing = checkpoints.read_as_it_is("AutoModel", source)
        trained = not any("pooler" in key for key in missing)  # else it is random, and another one each time
        processor = self.processor(source)
        return Embedder(model, processor, device, self.modality is IMAGE, trained, **options)

    @abstractmethod
    def processor(self, source: str) -> Any:
        """Read what prepares signals."""

    def adopt(self, model: Any) -> Model:
        """Return a ``python:`` model that has ``embed(signals)``, or ``predict`` as others do; raises `TypeError` for anything else."""
        if callable(getattr(model, "embed", None)):
            return _Adopted(model)
        if not callable(getattr(model, "predict", None)):
            raise TypeError(f"{describe_type(model)}, which has no embed(signals): make it return an object that has")
        return model  # type: ignore[no-any-return]

    def to_bytes(self, prediction: Prediction) -> bytes:
        """Serialise a vector as float32; raises `TypeError` for anything else."""
        vector = np.asarray(prediction)
        if vector.ndim != 1 or not vector.size or vector.dtype.kind not in "fiu":
            shape = list(vector.shape) if vector.dtype.kind in "fiu" else type(prediction).__name__
            raise TypeError(f"an embedding is a vector of numbers for each signal, not {shape}")
        return super().to_bytes(vector.astype(np.float32))

    def metric(self, dataset: Dataset, **options: Any) -> Metric:
        """Return cosine similarity."""
        return CosineSimilarity()

    def set_metric(self) -> Metric:
        """Return the share of neighbours kept."""
        return NeighboursKept()

    def observe_set(self, predictions: Sequence[Prediction], originals: Sequence[Prediction]) -> list[Statistic]:
        """Return the neighbours' shares of answers among those to the originals; raises `AssetError` for vectors of several lengths."""
        if len(lengths := sorted({len(vector) for vector in (*predictions, *originals)})) > 1:
            numbers = ", ".join(map(str, lengths))
            raise AssetError(f"the model gives vectors of {numbers} numbers: make it give as many for every signal")
        return shares_kept(np.stack(predictions), np.stack(originals))


class ImageEmbedding(Embedding):
    """A vector of a picture."""

    name, title = "image_embedding", "image embedding"
    modality, columns = IMAGE, ("image",)

    def processor(self, source: str) -> Any:
        """Read the image processor."""
        return read_processor(source)


class AudioEmbedding(Embedding):
    """A vector of a sound."""

    name, title = "audio_embedding", "audio embedding"
    modality, columns = AUDIO, ("audio",)
    packages = ("torch", "transformers", "scipy")

    def processor(self, source: str) -> Any:
        """Read the feature extractor."""
        from transformers import AutoFeatureExtractor

        name, version = checkpoints.place_of(source)
        with quiet():
            return AutoFeatureExtractor.from_pretrained(name, **version)


class Embedder:
    """A checkpoint on a device with its processor. Signals whose inputs have one shape are computed together."""

    labels: tuple[str, ...] = ()

    def __init__(
        self, model: Any, processor: Any, device: str, pictures: bool, trained: bool, precision: str = "float32", pooling: str = "auto"
    ) -> None:
        self._model, self._processor = model.eval().to(device), processor
        self._device, self._precision, self._pooling, self._trained = device, precision, pooling, trained
        self._name = processor.model_input_names[0]
        self._prepare: Callable[[Any], NDArray[np.float32]] = self._pixels if pictures else self._samples
        self.batch_size = 16 if device == "cpu" else 32

    def predict(self, signals: Sequence[Signal]) -> list[NDArray[np.float32]]:
        """Return the vector of each signal, ``float32 [d]``."""
        return self.infer(self.prepare(signals))

    def prepare(self, signals: Sequence[Signal]) -> list[NDArray[np.float32]]:
        """Return what the network is given of each signal, each prepared alone, ``float32 [1, ...]``."""
        return [self._prepare(signal) for signal in signals]

    def infer(self, prepared: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return the vector for what `prepare` made of each signal."""
        import torch

        vectors: list[NDArray[np.float32]] = []
        for _, alike in groupby(prepared, key=np.shape):
            with torch.inference_mode(), autocast(self._device, self._precision):
                states = self._states(torch.from_numpy(np.concatenate(list(alike))).to(self._device))
            vectors += list(states.float().cpu().numpy())
        return vectors

    def _pixels(self, signal: Image) -> NDArray[np.float32]:
        return pixel_values(self._processor, signal)

    def _samples(self, signal: Audio) -> NDArray[np.float32]:
        rate = int(self._processor.sampling_rate)
        # Of a sound longer than its network hears CLAP's extractor would take any stretch, by chance: the first is the same every time.
        mono = mono_at(signal, rate)[: getattr(self._processor, "nb_max_samples", None)]
        extracted = self._processor(mono.astype(np.float32), sampling_rate=rate, return_tensors="pt")
        values: NDArray[np.float32] = extracted[self._name].numpy()
        return values

    def _states(self, inputs: Any) -> Any:
        """Return a vector of each input, ``[n, d]``."""
        towers = (getattr(self._model, name, None) for name in ("get_image_features", "get_audio_features"))
        if self._pooling == "auto" and (tower := next(filter(None, towers), None)) is not None:
            fuses = getattr(getattr(self._model.config, "audio_config", None), "enable_fusion", False)
            # CLAP may fuse stretches of what is longer than it hears; its extractor says so of every sound that comes alone.
            features = tower(inputs, is_longer=inputs.new_ones(len(inputs), 1).bool()) if fuses else tower(inputs)
            return getattr(features, "pooler_output", features)
        output = self._model(inputs)
        pooled = getattr(output, "pooler_output", None)
        if self._pooling == "auto" and pooled is not None and self._trained:
            return pooled.flatten(1)
        states = output.last_hidden_state
        states = states.flatten(2).transpose(1, 2) if states.ndim > 3 else states  # of a convolutional network: [n, places, channels]
        return states[:, 0] if self._pooling == "first" else states.mean(1)


class _Adopted:
    """A ``python:`` model under the names that all others have."""

    def __init__(self, model: Any) -> None:
        self._model = model
        for name in ("batch_size", "labels"):
            if hasattr(model, name):
                setattr(self, name, getattr(model, name))

    def predict(self, signals: Sequence[Any]) -> Sequence[Prediction]:
        """Return the vector of each signal."""
        answers: Sequence[Prediction] = self._model.embed(signals)
        return answers
