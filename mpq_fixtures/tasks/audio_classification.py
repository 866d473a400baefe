"""Audio classification: a sound in, a class index out.

Any checkpoint that `AutoModelForAudioClassification` reads will do: those that hear the waveform (wav2vec 2.0, Baevski et al., 2020,
arXiv 2006.11477, and its kin) and those that see a spectrogram (AST, Gong et al., 2021, arXiv 2104.01778; the encoder of Whisper).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.errors import AssetError
from mpq_fixtures.models import checkpoints
from mpq_fixtures.processes.devices import autocast
from mpq_fixtures.signals import Audio
from mpq_fixtures.tasks import AUDIO
from mpq_fixtures.tasks._classes import Classification
from mpq_fixtures.tasks._sounds import mono_at

CPU_BATCH, GPU_BATCH = 16, 64
"""Sounds at once."""

MASKED = ("hubert", "unispeech", "unispeech-sat", "wav2vec2", "wav2vec2-bert", "wavlm")
"""Families that heed a mask in every layer, so that padding moves no logit (tested); convolutions of the others see beyond its end."""

Prepared = tuple[NDArray[Any], ...]
"""What a feature extractor makes of a sound: its values, and the mask that says which of them count where the model is given one."""


class AudioClassification(Classification):
    """Which of some classes is heard; top-1 accuracy."""

    name, title = "audio_classification", "audio classification"
    modality, columns = AUDIO, ("audio", "label")
    packages = ("torch", "transformers", "scipy")

    def check(self, source: str, **options: Any) -> None:
        """Raise `AssetError` where a folder holds no such checkpoint, or not all of it, as far as shows without reading weights."""
        heads = "ForAudioClassification", "ForSequenceClassification"
        checkpoints.check(source, heads, checkpoints.WEIGHTS, checkpoints.PROCESSOR)
        found = [file for file in (Path(source) / name for name in checkpoints.PROCESSOR) if file.is_file()]
        if found and not any('"sampling_rate"' in file.read_text(encoding="utf-8") for file in found):
            raise AssetError(f"{found[0]} names no sampling_rate, as those of sounds do: name another model or another task")

    def load(self, source: str, device: str, **options: Any) -> AudioClassifier:
        """Load a classifier for ``device`` from a local folder or a hub id with an optional ``@revision``.

        Raises what `check` does, and ``OSError`` when there is no such checkpoint.
        """
        from transformers import AutoFeatureExtractor

        self.check(source)
        name, version = checkpoints.place_of(source)
        model = checkpoints.read("AutoModelForAudioClassification", source, ("classifier", "projector"))
        with checkpoints.quiet():
            extractor = AutoFeatureExtractor.from_pretrained(name, **version)
        return AudioClassifier(model, extractor, device, **options)


class AudioClassifier:
    """An audio classifier on a device; ``labels`` are the names of its classes.

    Sounds are averaged over their channels, brought to the extractor's sample rate, and prepared each alone. An extractor that gives
    spectrograms of one length (AST, Whisper) hears the first so many seconds of a sound, and the rest not at all.

    Sounds of one length are computed together. Those of several lengths are padded, so that they can be, only where the extractor gives
    a mask and the network heeds it; otherwise each length is computed for itself, and batches change no answer.
    """

    def __init__(self, model: Any, extractor: Any, device: str, precision: str = "float32") -> None:
        self._model = model.eval().to(device)
        self._extractor = extractor
        self._device, self._precision = device, precision
        self._sample_rate = int(extractor.sampling_rate)
        self._names = (str(extractor.model_input_names[0]), "attention_mask")
        # Normalised by group, a channel is normalised over its padding too, which no mask is asked about.
        self._may_pad = model.config.model_type in MASKED and getattr(model.config, "feat_extract_norm", "") != "group"
        self.batch_size = CPU_BATCH if device == "cpu" else GPU_BATCH
        self.labels = checkpoints.class_names(model.config)

    def predict(self, signals: Sequence[Audio]) -> list[int]:
        """Return the index of the most probable class of each sound."""
        return self.infer(self.prepare(signals))

    def prepare(self, signals: Sequence[Audio]) -> list[Prepared]:
        """Return what the extractor makes of each sound."""
        return [self._features(mono_at(signal, self._sample_rate).astype(np.float32)) for signal in signals]

    def infer(self, prepared: Sequence[Prepared]) -> list[int]:
        """Return the index of the most probable class for what `prepare` made of each sound."""
        return [int(logits.argmax()) for logits in self._all_logits(prepared)]

    def _features(self, mono: NDArray[np.float32]) -> Prepared:
        """Return the extractor's values of a sound, and its mask where there is one; raises `ValueError` for a sound that is too short."""
        lengths = getattr(self._model, "_get_feat_extract_output_lengths", None)  # of those that hear the waveform
        if not mono.size or (lengths is not None and int(lengths(mono.size)) < 1):
            raise ValueError(f"the sound is too short for the model: {mono.size} samples at {self._sample_rate} Hz")
        found = self._extractor(mono, sampling_rate=self._sample_rate, return_tensors="np")
        return tuple(found[name][0] for name in self._names if name in found)

    def _all_logits(self, prepared: Sequence[Prepared]) -> list[Any]:
        """Return the logits of each sound, float32, in order."""
        if self._may_pad and len(prepared[0]) > 1:
            return self._logits(prepared)
        lengths = [one[0].shape for one in prepared]
        logits: dict[int, Any] = {}
        for length in dict.fromkeys(lengths):
            places = [place for place, other in enumerate(lengths) if other == length]
            logits |= zip(places, self._logits([prepared[place] for place in places]), strict=True)
        return [logits[place] for place in range(len(prepared))]

    def _logits(self, prepared: Sequence[Prepared]) -> list[Any]:
        """Return the logits of sounds that are computed together, padded to the longest where they have masks."""
        import torch

        columns: dict[str, Any] = {name: list(values) for name, values in zip(self._names, zip(*prepared, strict=True), strict=False)}
        if len({one[0].shape for one in prepared}) > 1:
            columns = dict(self._extractor.pad(columns, padding=True, return_attention_mask=True, return_tensors="np"))
        inputs = {name: torch.from_numpy(np.stack(values)).to(self._device) for name, values in columns.items()}
        with torch.inference_mode(), autocast(self._device, self._precision):
            return list(self._model(**inputs).logits.float().cpu())
