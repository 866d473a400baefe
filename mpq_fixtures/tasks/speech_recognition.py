"""Speech recognition with Whisper (Radford et al., 2022, arXiv 2212.04356): sound in, text out.

Any checkpoint that `WhisperForConditionalGeneration` reads will do, of any size and window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.datasets.columns import TEXT_TYPES, Cells, Table, Targets, digest_of_text, is_missing, is_whole, kind_of
from mpq_fixtures.errors import AssetError, nearest
from mpq_fixtures.metrics import Metric
from mpq_fixtures.models import checkpoints
from mpq_fixtures.models.answers import Limit, in_what_fits
from mpq_fixtures.models.checkpoints import quiet
from mpq_fixtures.processes.devices import autocast
from mpq_fixtures.signals import Audio, Dataset
from mpq_fixtures.tasks import AUDIO, Task
from mpq_fixtures.tasks._sounds import mono_at

WHISPER = "whisper"
"""The normaliser where a suite file says nothing: the one of Whisper's for the language."""

CPU_BATCH, GPU_BATCH = 96, 480
"""Seconds at once: three windows of 30 s, what a CPU takes without hunger for memory, and sixteen."""


class SpeechRecognition(Task):
    """What was said; word accuracy.

    ``language`` is what a multilingual checkpoint is told to transcribe, in English or as a code, ``auto`` to let it find out; a
    checkpoint of one language is left to its own configuration.
    """

    name, title = "speech_recognition", "speech recognition"
    modality, columns = AUDIO, ("audio", "text")
    packages = ("torch", "transformers", "scipy")
    is_text = True
    options: ClassVar[Mapping[str, Any]] = {"normaliser": WHISPER}
    aliases: ClassVar[Mapping[str, str]] = {"normalizer": "normaliser"}
    model_options: ClassVar[Mapping[str, Any]] = {"precision": "float32", "language": "english"}

    def targets(self, table: Table) -> tuple[Targets, tuple[str, ...]]:
        """Return transcripts."""
        return _Transcripts(table, table.column("text")), ()

    def check(self, source: str, **options: Any) -> None:
        """Raise `AssetError` for an unknown language, and where a folder holds no Whisper, or not all of it.

        That goes as far as shows without reading weights.
        """
        if (language := options.get("language", "english")) not in ("auto", "english"):  # which most keep to, and the import takes a second
            from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

            if language not in (*TO_LANGUAGE_CODE, *TO_LANGUAGE_CODE.values()):
                raise AssetError(f"unknown language {language!r}{nearest(language, ['auto', *TO_LANGUAGE_CODE])}")
        needed = checkpoints.WEIGHTS, checkpoints.PROCESSOR, checkpoints.TOKENIZER
        checkpoints.check(source, "WhisperForConditionalGeneration", *needed)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `ValueError` for values that are not possible."""
        super().check_options(options)
        if not isinstance(options.get("language", ""), str):
            raise ValueError(f'language: {options["language"]!r} must be a text, such as "german"')

    def load(self, source: str, device: str, **options: Any) -> WhisperTranscriber:
        """Load a Whisper for ``device`` from a local folder or a hub id with an optional ``@revision``.

        Raises what `check` does, and ``OSError`` when the hub has no such checkpoint.
        """
        from transformers import WhisperProcessor

        self.check(source, **options)
        name, version = checkpoints.place_of(source)
        model = checkpoints.read("WhisperForConditionalGeneration", source)
        with quiet():
            processor = WhisperProcessor.from_pretrained(name, **version)
        return WhisperTranscriber(model, processor, device, **options)

    def settle(self, options: Mapping[str, Any], model_options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with the one of Whisper's normalisers that the language asks for.

        Left as it is, it stands for the basic one: the English one changes words of other languages, and what a ``python:`` model hears
        is not known.
        """
        english = options["normaliser"] == WHISPER and model_options.get("language") in ("english", "en")
        return {**options, "normaliser": "whisper_english"} if english else dict(options)

    def metric(self, dataset: Dataset, **options: Any) -> Metric:
        """Return word accuracy."""
        from mpq_fixtures.metrics.word_accuracy import WordAccuracy

        normaliser = options["normaliser"]
        return WordAccuracy("whisper_basic" if normaliser == WHISPER else normaliser)


class WhisperTranscriber:
    """A Whisper on a device, decoded greedily, without timestamps.

    Sounds are averaged over their channels and brought to the processor's sample rate. Those longer than the model's window are
    cut into windows, and the texts joined. Each window is padded to its full length, so that batches change no result; ``batch_size`` of
    them are transcribed at once, or as many as fit into memory, which ``limit`` tells.
    """

    labels: tuple[str, ...] = ()

    def __init__(self, model: Any, processor: Any, device: str, precision: str = "float32", language: str = "english") -> None:
        self._model = model.eval().to(device)
        self._processor = processor
        self._device, self._precision = device, precision
        self._sample_rate = int(processor.feature_extractor.sampling_rate)
        self._window = int(processor.feature_extractor.n_samples)
        self._options: dict[str, Any] = {"do_sample": False, "num_beams": 1, "return_timestamps": False}
        if getattr(model.generation_config, "is_multilingual", False):
            self._options |= {"task": "transcribe", "language": None if language == "auto" else language}
        seconds = CPU_BATCH if device == "cpu" else GPU_BATCH
        self.batch_size = max(1, seconds * self._sample_rate // self._window)
        self.limit = Limit(self.batch_size)

    def predict(self, signals: Sequence[Audio]) -> list[str]:
        """Return the text of each sound, as the model writes it but for space around it."""
        return self.infer(self.prepare(signals))

    def prepare(self, signals: Sequence[Audio]) -> list[NDArray[np.float32]]:
        """Return the log-mel features of each sound's windows, ``float32 [windows, bins, steps]``."""
        return [self._features(self._windows(signal)) for signal in signals]

    def infer(self, prepared: Sequence[NDArray[np.float32]]) -> list[str]:
        """Return the text for what `prepare` made of each sound."""
        windows = [window for features in prepared for window in features]
        texts = in_what_fits(self._transcribe, windows, self.limit)
        ends = [0, *accumulate(map(len, prepared))]
        return [" ".join(filter(None, texts[start:end])) for start, end in pairwise(ends)]

    def _windows(self, signal: Audio) -> list[NDArray[np.float32]]:
        """Cut a sound, mono at the model's rate, into windows; a tenth of a second left over is not worth one."""
        mono = mono_at(signal, self._sample_rate)
        last = max(1, mono.size - self._sample_rate // 10)
        return [mono[start : start + self._window].astype(np.float32) for start in range(0, last, self._window)]

    def _features(self, windows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        extracted = self._processor.feature_extractor(windows, sampling_rate=self._sample_rate, return_tensors="pt")
        features: NDArray[np.float32] = extracted.input_features.numpy()
        return features

    def _transcribe(self, windows: Sequence[NDArray[np.float32]]) -> list[str]:
        import torch

        with torch.inference_mode(), quiet(), autocast(self._device, self._precision):
            tokens = self._model.generate(torch.from_numpy(np.stack(windows)).to(self._device), **self._options)
        return [text.strip() for text in self._processor.batch_decode(tokens, skip_special_tokens=True)]


class _Transcripts(Targets):
    """What was said."""

    def __init__(self, table: Table, column: str) -> None:
        feature = table.rows.features[column]
        # Readers of tables make numbers of texts that are all digits; 1.0 without a gap was written so.
        self._numbers = is_whole(table.rows, column, with_gaps=True)
        if not self._numbers and getattr(feature, "dtype", "") not in TEXT_TYPES:
            raise table.error(f"the column {column!r} for text holds {kind_of(feature)}, not texts")
        self._cells, self._column = Cells(table.rows.data.column(column)), column

    def digests(self, row: int) -> Iterator[bytes]:
        yield digest_of_text(self[row])

    def __getitem__(self, row: int) -> str:
        value = self._cells[row]
        if is_missing(value):
            raise ValueError(f"row {row} has no text in the column {self._column!r}")
        return str(int(value) if self._numbers else value)
