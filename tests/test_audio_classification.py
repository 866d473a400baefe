"""Audio classification: tiny classifiers of many families against transformers' own pipeline, and evaluations from data to report."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import hub_replicas as replicas
import numpy as np
import pytest
from loopback_hub import LoopbackHub
from numpy.typing import NDArray
from projects import run_suite

from mpq_fixtures.errors import AssetError
from mpq_fixtures.signals import Audio
from mpq_fixtures.tasks import find_task
from mpq_fixtures.tasks.audio_classification import MASKED, AudioClassifier

ROOT = Path(__file__).parents[1]
LABELS = [f"word {number}" for number in range(12)]
RATE = 16000
LENGTHS = (9000, 16000, 5001, 12345, 9000, 30000)


def save(folder: Path, model: str, config: Any, extractor: Any, labels: list[str] = LABELS) -> None:
    """Save a model with weights large enough that sounds differ in their classes."""
    import torch
    import transformers

    torch.manual_seed(0)
    config.id2label, config.label2id = dict(enumerate(labels)), {label: index for index, label in enumerate(labels)}
    made = getattr(transformers, model)(config)
    for weights in made.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, 0, 0.3)
    made.save_pretrained(folder)
    extractor.save_pretrained(folder)


def hears_waveforms(folder: Path, family: str, norm: str = "layer", masks: bool = True, labels: list[str] = LABELS, **more: Any) -> None:
    """Save a tiny one of the wav2vec 2.0 family."""
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "classifier_proj_size": 16}
    convolutions = {"conv_dim": (16, 16, 16), "conv_stride": (5, 2, 2), "conv_kernel": (10, 3, 2), "num_feat_extract_layers": 3}
    positions = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    config = getattr(transformers, f"{family}Config")(**sizes, **convolutions, **positions, feat_extract_norm=norm, **more)
    save(folder, f"{family}ForSequenceClassification", config, transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masks), labels)


def bert(folder: Path) -> None:
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig

    config = Wav2Vec2BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, classifier_proj_size=16)
    save(folder, "Wav2Vec2BertForSequenceClassification", config, SeamlessM4TFeatureExtractor())


def ast(folder: Path) -> None:
    from transformers import ASTConfig, ASTFeatureExtractor

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = ASTConfig(**sizes, max_length=128, num_mel_bins=32)
    save(folder, "ASTForAudioClassification", config, ASTFeatureExtractor(num_mel_bins=32, max_length=128))


def whisper(folder: Path) -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor

    tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 1)
    layers = {"encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = WhisperConfig(
        d_model=16, **layers, encoder_ffn_dim=32, max_source_positions=50, vocab_size=40, classifier_proj_size=16, **tokens
    )
    save(folder, "WhisperForAudioClassification", config, WhisperFeatureExtractor(chunk_length=1))


PADDED: dict[str, Callable[[Path], None]] = {
    "wav2vec2": partial(hears_waveforms, family="Wav2Vec2"),
    "wav2vec2 before normalising": partial(hears_waveforms, family="Wav2Vec2", do_stable_layer_norm=True),
    "hubert": partial(hears_waveforms, family="Hubert"),
    "wavlm": partial(hears_waveforms, family="WavLM"),
    "unispeech": partial(hears_waveforms, family="UniSpeech"),
    "unispeech-sat": partial(hears_waveforms, family="UniSpeechSat"),
    "wav2vec2-bert": bert,
}
BY_LENGTH: dict[str, Callable[[Path], None]] = {
    "normalised by group": partial(hears_waveforms, family="Wav2Vec2", norm="group"),
    "without masks": partial(hears_waveforms, family="Wav2Vec2", masks=False),
    "data2vec": partial(hears_waveforms, family="Data2VecAudio"),
    "conformer": partial(hears_waveforms, family="Wav2Vec2Conformer"),
    "sew": partial(hears_waveforms, family="SEW"),
}
ONE_LENGTH: dict[str, Callable[[Path], None]] = {"ast": ast, "whisper": whisper}


def load(folder: Path) -> AudioClassifier:
    model = find_task("audio_classification").load(str(folder), "cpu")
    assert isinstance(model, AudioClassifier)
    return model


def noises() -> list[Audio]:
    rng = np.random.default_rng(0)
    return [Audio((rng.normal(0, 0.2, (1, length)) * np.linspace(0, 1, length)).astype(np.float32), RATE) for length in LENGTHS]


class TestAgainstTransformers:
    @pytest.mark.parametrize("save", [*PADDED.values(), *BY_LENGTH.values(), *ONE_LENGTH.values()], ids=[*PADDED, *BY_LENGTH, *ONE_LENGTH])
    def test_answers_and_probabilities_are_those_of_the_pipeline(self, save: Callable[[Path], None], tmp_path: Path) -> None:
        import torch
        from transformers import pipeline

        save(tmp_path)
        model, signals = load(tmp_path), noises()
        reference = pipeline("audio-classification", model=str(tmp_path), device="cpu")
        answers = [reference(signal.waveform[0], top_k=len(LABELS)) for signal in signals]
        assert model.labels == tuple(LABELS)
        assert [LABELS[index] for index in model.predict(signals)] == [answer[0]["label"] for answer in answers]
        expected = [[{one["label"]: one["score"] for one in answer}[label] for label in LABELS] for answer in answers]
        found = torch.stack(model._all_logits(model.prepare(signals))).softmax(-1)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.ptp(np.array(expected), axis=0).max() > 1e-3  # sounds that differ in nothing would agree in anything

    def test_every_family_that_is_padded_is_tried(self) -> None:
        assert {name.split()[0] for name in PADDED} == set(MASKED)


class TestBatches:
    @staticmethod
    def batches(model: AudioClassifier, signals: list[Audio]) -> list[int]:
        sizes: list[int] = []
        hook = model._model.register_forward_pre_hook(
            lambda module, _, inputs: sizes.append(len(next(iter(inputs.values())))), with_kwargs=True
        )
        try:
            together = model.predict(signals)
            asked = list(sizes)
            assert together == [model.predict([signal])[0] for signal in signals]
        finally:
            hook.remove()
        return asked

    @pytest.mark.parametrize("save", PADDED.values(), ids=PADDED)
    def test_are_padded_where_masks_are_heeded(self, save: Callable[[Path], None], tmp_path: Path) -> None:
        save(tmp_path)
        assert self.batches(load(tmp_path), noises()) == [6]

    @pytest.mark.parametrize("save", BY_LENGTH.values(), ids=BY_LENGTH)
    def test_are_of_one_length_elsewhere(self, save: Callable[[Path], None], tmp_path: Path) -> None:
        save(tmp_path)
        assert self.batches(load(tmp_path), noises()) == [2, 1, 1, 1, 1]

    @pytest.mark.parametrize("save", ONE_LENGTH.values(), ids=ONE_LENGTH)
    def test_of_spectrograms_of_one_length_are_whole(self, save: Callable[[Path], None], tmp_path: Path) -> None:
        save(tmp_path)
        assert self.batches(load(tmp_path), noises()) == [6]


class TestPrecision:
    @pytest.mark.parametrize("save", [PADDED["wav2vec2"], whisper])
    def test_half_of_it_moves_logits_and_little(self, save: Callable[[Path], None], tmp_path: Path) -> None:
        import torch

        save(tmp_path)
        whole, half = (find_task("audio_classification").load(str(tmp_path), "cpu", precision=name) for name in ("float32", "bfloat16"))
        one, other = (torch.stack(model._all_logits(model.prepare(noises()))) for model in (whole, half))
        assert other.dtype == torch.float32
        assert 0 < float((one - other).abs().max()) < 0.1 * float(one.std())


class TestSignals:
    def test_any_rate_and_number_of_channels_will_do(self, tmp_path: Path) -> None:
        import torch

        hears_waveforms(tmp_path, "Wav2Vec2")
        model = load(tmp_path)

        def tone(rate: int, *shares: float) -> Audio:  # whose channels average to the same
            wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate) * np.hanning(rate)
            return Audio(np.stack([wave * share for share in shares]).astype(np.float32), rate)

        logits = torch.stack(model._all_logits(model.prepare([tone(RATE, 1), tone(48000, 1.5, 0.5), tone(44100, 0, 2), tone(8000, 1)])))
        np.testing.assert_allclose(logits, logits[:1].expand(4, -1), atol=0.05 * float(logits.std()))

    @pytest.mark.parametrize("frames", [0, 20])
    def test_one_that_is_too_short_is_told(self, frames: int, tmp_path: Path) -> None:
        hears_waveforms(tmp_path, "Wav2Vec2")
        with pytest.raises(ValueError, match=f"the sound is too short for the model: {frames} samples at 16000 Hz"):
            load(tmp_path).prepare([Audio(np.zeros((1, frames), np.float32), RATE)])


class TestCheckpoints:
    def test_of_pictures_are_told_apart(self, tmp_path: Path) -> None:
        replicas.vit(tmp_path, LABELS)
        with pytest.raises(AssetError, match=r"a ViTForImageClassification, where a ...ForAudioClassification or ...ForSequenceClass"):
            find_task("audio_classification").check(str(tmp_path))

    def test_of_texts_are_told_apart(self, tmp_path: Path) -> None:
        from transformers import BertConfig, BertForSequenceClassification

        BertForSequenceClassification(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(tmp_path)
        with pytest.raises(AssetError, match=r"neither preprocessor_config.json nor"):
            find_task("audio_classification").check(str(tmp_path))
        (tmp_path / "preprocessor_config.json").write_text('{"do_resize": true}')
        with pytest.raises(AssetError, match=r"names no sampling_rate, as those of sounds do"):
            find_task("audio_classification").check(str(tmp_path))

    def test_without_a_head_are_refused_and_not_filled_in(self, tmp_path: Path) -> None:
        import json

        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        Wav2Vec2Model(Wav2Vec2Config(**sizes, num_conv_pos_embedding_groups=2)).save_pretrained(tmp_path)
        Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
        with pytest.raises(AssetError, match="holds a Wav2Vec2Model, where"):
            load(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({key: value for key, value in config.items() if key != "architectures"}))
        with pytest.raises(AssetError, match=r"lacks the weights classifier.bias and 3 more: name a model that was trained for this task"):
            load(tmp_path)


def spoken(seed: int) -> NDArray[np.float32]:
    return replicas.tone(seed, 0.5 + 0.1 * seed, 24000, 1 + seed % 2)


class TestEvaluation:
    def test_of_a_folder_of_sounds(self, tmp_path: Path) -> None:
        """The model's labels stand in another order than the folders, and its answers are those of the pipeline."""
        from transformers import pipeline

        hears_waveforms(tmp_path / "model", "Wav2Vec2", labels=["Yes", "stop", "No"])
        reference = pipeline("audio-classification", model=str(tmp_path / "model"), device="cpu")
        right = []
        for seed, word in enumerate(("yes", "no", "stop", "yes", "no", "stop")):
            (tmp_path / "words/test" / word).mkdir(parents=True, exist_ok=True)
            samples = replicas.tone(seed, 0.5, RATE, 1)
            (tmp_path / f"words/test/{word}/{seed}.flac").write_bytes(replicas.sound(samples, RATE, "FLAC"))
            kept = np.round(samples[:, 0] * 32768).astype(np.float32) / 32768  # as a FLAC of 16 bits has them
            right.append(reference(kept, top_k=1)[0]["label"].lower() == word)
        (tmp_path / "words.toml").write_text(
            """
name = "words"
[[evaluation]]
name = "wav2vec_words"
task = "audio_classification"
model = "model"
dataset = { path = "audiofolder", data_dir = "words", split = "test" }
codecs = ["mp3"]
qualities = { mp3 = ["8k"] }
""",
            encoding="utf-8",
        )
        original, coded = run_suite(tmp_path / "words.toml", tmp_path, "--mpq-baselines", str(tmp_path / "baselines"))
        assert (original["case"], coded["case"]) == ("wav2vec_words-original", "wav2vec_words-mp3-8k")
        assert (original["metric"], original["samples"]) == ("top1", "6")
        assert float(original["value"]) == pytest.approx(sum(right) / 6)
        assert "Audio classification" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

    def test_from_the_hub(self, tmp_path: Path) -> None:
        from datasets import Audio as Sounds
        from datasets import ClassLabel, Features

        features = Features({"audio": Sounds(24000), "label": ClassLabel(names=["no", "stop", "yes"])})
        sounds = [{"bytes": replicas.sound(spoken(seed), 24000, "FLAC"), "path": f"{seed}.flac"} for seed in range(4)]
        rows = {"audio": sounds, "label": [0, 1, 2, 0]}
        (tmp_path / "words.toml").write_text(
            """
name = "words"
[[evaluation]]
name = "wav2vec_words"
task = "audio_classification"
model = "someone/wav2vec2-words"
dataset = { path = "someone/words", split = "test" }
codecs = ["mp3"]
qualities = { mp3 = ["8k"] }
""",
            encoding="utf-8",
        )
        with LoopbackHub() as hub:
            hub.add(
                "model", "someone/wav2vec2-words", replicas.saved(partial(hears_waveforms, family="Wav2Vec2", labels=["yes", "no", "stop"]))
            )
            hub.add("dataset", "someone/words", {"data/test-00000-of-00001.parquet": replicas.parquet(rows, features)})
            env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "MPQ_CACHE": str(tmp_path / "store")}
            for command, said in (("fetch", "everything is here"), ("doctor", "passed: 2 cases of 1 evaluation can run")):
                asked = [sys.executable, "-m", "mpq_fixtures", command, str(tmp_path / "words.toml")]
                done = subprocess.run(asked, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
                assert said in done.stdout, done.stdout + done.stderr
        rows_of_run = run_suite(tmp_path / "words.toml", tmp_path, "-k", "original", HF_ENDPOINT="http://127.0.0.1:9")
        assert [(row["case"], row["samples"]) for row in rows_of_run] == [("wav2vec_words-original", "4")]
