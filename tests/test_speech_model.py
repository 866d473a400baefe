"""The speech recognition loader, on the pocket model and its utterances."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from scipy.signal import resample_poly

import mpq_fixtures
from mpq_fixtures.errors import AssetError
from mpq_fixtures.pocket.speech import utterances
from mpq_fixtures.pocket.training import speech_model
from mpq_fixtures.signals import Audio
from mpq_fixtures.tasks import find_task
from mpq_fixtures.tasks.speech_recognition import WhisperTranscriber

FOLDER = Path(mpq_fixtures.__file__).parent / "pocket" / "models" / "whisper_pocket"
SAMPLES = utterances().samples[:40]


def word_accuracy(heard: list[str]) -> float:
    return 1 - float(jiwer.process_words([sample.target() for sample in SAMPLES[: len(heard)]], heard).wer)


@pytest.fixture(scope="module")
def model() -> WhisperTranscriber:
    return find_task("speech_recognition").load(str(FOLDER), "cpu")


@pytest.fixture(scope="module")
def signals() -> list[Any]:
    return [sample.signal() for sample in SAMPLES]


@pytest.fixture(scope="module")
def heard(model: WhisperTranscriber, signals: list[Audio]) -> list[str]:
    return model.predict(signals)


class TestPocketUtterances:
    def test_there_are_at_least_a_hundred_each_with_its_own_id_and_source(self) -> None:
        samples = utterances().samples
        assert len(samples) >= 100
        assert len({sample.id for sample in samples}) == len({sample.source for sample in samples}) == len(samples)

    def test_they_are_mono_at_16_khz_and_at_most_3_s_long(self, signals: list[Audio]) -> None:
        assert {signal.sample_rate for signal in signals} == {16000}
        assert {signal.waveform.shape[0] for signal in signals} == {1}
        assert all(8000 < signal.waveform.shape[1] <= 48000 for signal in signals)
        assert {signal.waveform.dtype for signal in signals} == {np.dtype(np.float32)}

    def test_they_are_at_most_4_5_mb(self) -> None:
        assert sum(sample.stored_bytes for sample in utterances().samples) <= 4_500_000


class TestRecognition:
    def test_it_hears_the_originals(self, heard: list[str]) -> None:
        assert word_accuracy(heard) >= 0.95

    def test_a_batch_of_one_is_as_a_batch_of_many(self, model: WhisperTranscriber, signals: list[Audio], heard: list[str]) -> None:
        assert [model.predict([signal])[0] for signal in signals[:6]] == heard[:6]
        assert model.predict(signals[:7]) == heard[:7]

    def test_more_than_a_batch_comes_back_in_order(self, model: WhisperTranscriber, signals: list[Audio], heard: list[str]) -> None:
        assert len(signals) > model.batch_size
        assert model.predict(signals[::-1]) == heard[::-1]

    def test_what_a_sound_was_heard_as_does_not_depend_on_the_company(self, model: WhisperTranscriber, signals: list[Audio]) -> None:
        silence = Audio(np.zeros((1, 16000), np.float32), 16000)
        assert model.predict([silence, signals[0], silence])[1] == model.predict([signals[0]])[0]


class TestPreparing:
    def test_gives_what_the_extractor_makes_of_all_windows_at_once(self, model: WhisperTranscriber, signals: list[Audio]) -> None:
        long = Audio(np.concatenate([signal.waveform for signal in signals[:4]], axis=1), 16000)
        prepared = model.prepare([signals[0], long, signals[1]])
        assert [len(features) for features in prepared] == [1, -(-(long.waveform.shape[1] - 1600) // 48000), 1]
        windows = [signals[0].waveform[0], *np.split(long.waveform[0], range(48000, long.waveform.shape[1], 48000)), signals[1].waveform[0]]
        expected = model._processor.feature_extractor(windows[: sum(map(len, prepared)) - 1] + windows[-1:], sampling_rate=16000)
        assert np.array_equal(np.concatenate(prepared), np.asarray(expected.input_features))

    def test_and_inferring_is_predicting_in_full_batches_over_the_sounds(self, model: WhisperTranscriber, signals: list[Audio]) -> None:
        long = Audio(np.concatenate([signal.waveform for signal in signals[:4]], axis=1), 16000)
        given, batches = [*signals, long], []
        hook = model._model.model.encoder.conv1.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0]))
        try:
            texts = model.predict(given)
        finally:
            hook.remove()
        prepared = model.prepare(given)
        assert texts == model.infer(prepared)
        windows = sum(map(len, prepared))
        assert [len(batch) for batch in batches] == [model.batch_size, windows - model.batch_size]
        assert np.array_equal(np.concatenate([batch.numpy() for batch in batches]), np.concatenate(prepared))


class TestMemory:
    def test_windows_that_do_not_fit_together_are_heard_in_halves(self, signals: list[Audio], heard: list[str]) -> None:
        import torch

        model, batches = find_task("speech_recognition").load(str(FOLDER), "cpu"), []

        def demand(module: Any, inputs: Any) -> None:
            batches.append(len(inputs[0]))
            if len(inputs[0]) > 3:
                torch.empty(2**62, dtype=torch.uint8)  # more than there is anywhere

        model._model.model.encoder.conv1.register_forward_pre_hook(demand)
        assert model.predict(signals[:8]) == heard[:8]
        assert model.predict(signals[:4]) == heard[:4]
        assert batches == [8, 4, 2, 2, 2, 2, 2, 2]
        assert len(model.limit.notes) == 1


class TestSignals:
    @pytest.mark.parametrize("sample_rate", [22050, 44100, 48000])
    def test_any_sample_rate_is_brought_to_the_models(self, model: WhisperTranscriber, signals: list[Audio], sample_rate: int) -> None:
        raised = [Audio(resample_poly(s.waveform, sample_rate, 16000, axis=1).astype(np.float32), sample_rate) for s in signals[:16]]
        assert word_accuracy(model.predict(raised)) >= 0.95

    def test_channels_are_averaged(self, model: WhisperTranscriber, signals: list[Audio], heard: list[str]) -> None:
        mono = signals[0].waveform[0]
        hum = 0.1 * np.sin(np.arange(mono.size) / 3).astype(np.float32)
        assert model.predict([Audio(np.stack([mono + hum, mono - hum]), 16000)]) == heard[:1]

    def test_a_sound_longer_than_the_window_is_heard_out(self, model: WhisperTranscriber, signals: list[Audio], heard: list[str]) -> None:
        parts = [np.pad(signal.waveform, ((0, 0), (0, 48000 - signal.waveform.shape[1]))) for signal in signals[:3]]
        assert model.predict([Audio(np.concatenate(parts, axis=1), 16000)]) == [" ".join(heard[:3])]

    def test_nothing_at_all_is_no_error(self, model: WhisperTranscriber) -> None:
        texts = model.predict([Audio(np.zeros((2, 0), np.float32), 44100), Audio(np.zeros((1, 1), np.float32), 8000)])
        assert all(isinstance(text, str) for text in texts)
        assert model.predict([]) == []


class TestLoading:
    def test_it_prints_nothing(self) -> None:
        program = (
            "import numpy as np; from mpq_fixtures.tasks import find_task; from mpq_fixtures.signals import Audio;"
            f"find_task('speech_recognition').load({str(FOLDER)!r}, 'cpu').predict([Audio(np.zeros((1, 9000), np.float32), 8000)])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == ("", "")

    def test_weights_are_kept_in_half_and_computed_in_single_precision(self, model: WhisperTranscriber) -> None:
        from safetensors import safe_open

        with safe_open(FOLDER / "model.safetensors", "np") as stored:
            assert {stored.get_tensor(name).dtype for name in stored.keys()} == {np.dtype(np.float16)}  # noqa: SIM118
        assert {str(parameter.dtype) for parameter in model._model.parameters()} == {"torch.float32"}

    def test_a_folder_without_a_model_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(AssetError, match=r"config\.json"):
            find_task("speech_recognition").load(str(tmp_path), "cpu")

    @pytest.mark.parametrize("missing", ["tokenizer.json", "processor_config.json", "model.safetensors"])
    def test_a_folder_that_lacks_a_file_is_an_error(self, missing: str, tmp_path: Path) -> None:
        # transformers would make do with an empty tokenizer, and every text would be empty.
        shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(missing))
        with pytest.raises(AssetError, match=f"{tmp_path} holds neither .*{missing}"):
            find_task("speech_recognition").load(str(tmp_path), "cpu")

    def test_a_checkpoint_of_many_languages_is_told_which(self, tmp_path: Path) -> None:
        processor = speech_model.processor()
        languages, tasks = ["<|en|>", "<|de|>"], ["<|transcribe|>", "<|translate|>"]
        processor.tokenizer.add_special_tokens({"extra_special_tokens": [*languages, *tasks]})
        known = processor.tokenizer.get_vocab()
        model = speech_model.build(processor.tokenizer)
        model.generation_config.is_multilingual = True
        model.generation_config.lang_to_id = {name: known[name] for name in languages}
        model.generation_config.task_to_id = {name.strip("<|>"): known[name] for name in tasks}
        model.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        signal = Audio(np.zeros((1, 16000), np.float32), 16000)
        for language in ("english", "german", "de", "auto"):
            assert len(find_task("speech_recognition").load(str(tmp_path), "cpu", language=language).predict([signal])) == 1

    def test_an_unknown_language_is_an_error_with_the_nearest(self) -> None:
        with pytest.raises(AssetError, match="unknown language 'germann'; did you mean 'german'"):
            find_task("speech_recognition").load(str(FOLDER), "cpu", language="germann")
