"""Zero-shot image classification: tiny CLIPs and SigLIPs against transformers' own pipeline, their prompts, and evaluations."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hub_replicas as replicas
import numpy as np
import pytest
from loopback_hub import LoopbackHub
from PIL import Image as Pillow
from projects import run_suite

from mpq_fixtures.errors import AssetError
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.signals import Image
from mpq_fixtures.suite import SuiteError
from mpq_fixtures.suite.file import load_suite
from mpq_fixtures.tasks import find_task
from mpq_fixtures.tasks.zero_shot_image_classification import ZeroShotClassifier, prompts_of

ROOT = Path(__file__).parents[1]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PROMPTS = {"cat": "a photo of a cat", "dog": "a photo of a dog", "tree": "one tall tree", "car": "the red fast car"}
SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SUITE = """
name = "zoo"
[[evaluation]]
name = "clip_zoo"
task = "zero_shot_image_classification"
model = "MODEL"
dataset = { path = "imagefolder", data_dir = "zoo", split = "test" }
options = { prompts = { cat = "a photo of a cat", dog = "a photo of a dog", tree = "one tall tree" } }
codecs = ["jpeg"]
qualities = { jpeg = ["q5"] }
"""


def save(folder: Path, model: str, config: Any) -> None:
    """Save a model with weights large enough that pictures differ in their prompts."""
    import torch
    import transformers

    torch.manual_seed(0)
    made = getattr(transformers, model)(config)
    for weights in made.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, 0, 0.3)
    made.save_pretrained(folder)


def clip(folder: Path) -> None:
    """Save a CLIP that reads letters."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPTokenizer

    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    ends = {"bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    config = CLIPConfig(
        text_config={**SIZES, **ends, "vocab_size": 54, "max_position_embeddings": 77},
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    save(folder, "CLIPModel", config)
    CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[]).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)


def siglip(folder: Path) -> None:
    """Save a SigLIP with its own tokenizer, of sentencepiece."""
    import sentencepiece
    from transformers import SiglipConfig, SiglipImageProcessorPil, SiglipTokenizer

    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*PROMPTS.values(), *LETTERS]), model_writer=pieces, vocab_size=40, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(pieces.getvalue())
    tokenizer = SiglipTokenizer(str(folder / "spiece.model"), pad_token="<pad>", model_input_names=["input_ids"])
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = SiglipConfig(
        text_config={**SIZES, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "projection_size": 32},
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
    )
    save(folder, "SiglipModel", config)
    tokenizer.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def siglip_2(folder: Path) -> None:
    """Save a SigLIP whose tokenizer is one of the tokenizers package, as those of SigLIP 2 are, with a mask."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, SiglipConfig, SiglipImageProcessorPil

    tokenizer = Tokenizer(
        models.Unigram([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((one, -2.0) for one in f"\u2581{LETTERS}")], unk_id=2)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = SiglipConfig(
        text_config={**SIZES, **ends, "vocab_size": 30, "max_position_embeddings": 64, "projection_size": 32},
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
    )
    save(folder, "SiglipModel", config)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def load(folder: Path, **options: Any) -> ZeroShotClassifier:
    model = find_task("zero_shot_image_classification").load(str(folder), "cpu", **{"prompts": PROMPTS, **options})
    assert isinstance(model, ZeroShotClassifier)
    return model


def pictures() -> list[Image]:
    rng = np.random.default_rng(0)
    sides = ((32, 32), (64, 48), (40, 90), (33, 33), (50, 20), (7, 99), (32, 32), (1, 3))
    return [Image(rng.integers(0, 256, (height, width, 3), np.uint8)) for height, width in sides]


class TestAgainstTransformers:
    @pytest.mark.parametrize("save", [clip, siglip, siglip_2])
    def test_answers_and_probabilities_are_those_of_the_pipeline(self, save: Callable[[Path], None], tmp_path: Path) -> None:
        import torch
        from transformers import pipeline

        save(tmp_path)
        model, signals, texts = load(tmp_path), pictures(), list(PROMPTS.values())
        reference = pipeline("zero-shot-image-classification", model=str(tmp_path), device="cpu")
        answers = [reference(Pillow.fromarray(one.pixels), candidate_labels=texts, hypothesis_template="{}") for one in signals]
        assert [texts[index] for index in model.predict(signals)] == [answer[0]["label"] for answer in answers]
        assert model.labels == tuple(PROMPTS)
        with torch.inference_mode():
            logits = torch.stack(model._logits(model.prepare(signals))) * model._model.logit_scale.exp()
            found = logits.softmax(-1) if save is clip else (logits + model._model.logit_bias).sigmoid()
        expected = [[{one["label"]: one["score"] for one in answer}[text] for text in texts] for answer in answers]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.ptp(np.array(expected), axis=0).max() > 1e-3  # pictures that differ in nothing would agree in anything

    def test_prompts_are_read_once(self, tmp_path: Path) -> None:
        clip(tmp_path)
        model, calls = load(tmp_path), []
        model._model.text_model.register_forward_pre_hook(lambda *_: calls.append(1))
        model.predict(pictures())
        assert not calls

    def test_answers_do_not_depend_on_the_batch(self, tmp_path: Path) -> None:
        clip(tmp_path)
        model, signals = load(tmp_path), pictures()
        assert model.predict(signals) == [model.predict([signal])[0] for signal in signals]


class TestPrecision:
    def test_half_of_it_moves_logits_and_little(self, tmp_path: Path) -> None:
        import torch

        clip(tmp_path)
        with torch.inference_mode():
            one, other = (
                torch.stack(model._logits(model.prepare(pictures()))) for model in (load(tmp_path), load(tmp_path, precision="bfloat16"))
            )
        assert 0 < float((one - other).abs().max()) < 0.1


class TestPrompts:
    def test_of_a_list_are_made_by_the_template(self) -> None:
        assert prompts_of({"prompts": ["cat", "big dog"]}) == {"cat": "a photo of a cat", "big dog": "a photo of a big dog"}
        assert prompts_of({"prompts": ["cat"], "template": "a {} in {braces}"}) == {"cat": "a cat in {braces}"}

    def test_of_a_table_or_of_its_pairs_are_taken_as_they_are(self) -> None:
        assert prompts_of({"prompts": PROMPTS}) == PROMPTS
        assert list(prompts_of({"prompts": [["dog", "a dog"], ["cat", "a cat"]]}).items()) == [("dog", "a dog"), ("cat", "a cat")]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ("", "options: prompts is missing: write what the classes are called, prompts = { cat ="),
            ("prompts = {}", "prompts is missing"),
            ("prompts = []", "prompts is missing"),
            ('prompts = { cat = "a cat", dog = " " }', "'dog' has the prompt ' ': write a text for each label"),
            ('prompts = { cat = "a cat", dog = 7 }', "'dog' has the prompt 7"),
            ('prompts = ["cat", ""]', "'' has the prompt ''"),
            ('prompts = "cat"', "prompts: 'cat' must be a table or a list of labels"),
            ('prompts = ["cat", 7]', "must be a table or a list of labels"),
            ('prompts = ["cat", "dog", "cat"]', "'cat' and 'cat' are one name"),
            ('prompts = { "red fox" = "a fox", Red_Fox = "foxes" }', "'red fox' and 'Red_Fox' are one name where classes are matched"),
            ('prompts = { cat = "an animal", dog = "an animal" }', "'cat' and 'dog' have one prompt"),
            ('prompts = ["cat"], template = "a photo"', "template: 'a photo' must be a text with one {}"),
            ('prompts = ["cat"], template = "{} of {}"', "must be a text with one {}"),
            ('prompts = ["cat"], template = 7', "template: 7 must be a text"),
            ('prompts = { cat = "a cat" }, template = "a {}"', "template: prompts is a table, which has its prompts whole"),
            ('prompts = ["cat"], precision = "half"', "precision: unknown 'half'"),
            ('promts = ["cat"]', "unknown key 'promts'; did you mean 'prompts'?"),
        ],
    )
    def test_that_are_none_are_told_in_the_suite_file(self, options: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "zoo.toml").write_text(re.sub(r"options = .*", f"options = {{ {options} }}", SUITE), encoding="utf-8")
        with pytest.raises(SuiteError) as raised:
            load_suite(tmp_path / "zoo.toml")
        assert "evaluation 1 (clip_zoo): options: " in str(raised.value)
        assert message in str(raised.value)

    def test_of_a_model_of_ones_own_are_its_own_business(self, tmp_path: Path) -> None:
        suite = re.sub(r"options = .*", "", SUITE).replace("MODEL", "python:model:load")
        (tmp_path / "zoo.toml").write_text(suite, encoding="utf-8")
        (evaluation,) = load_suite(tmp_path / "zoo.toml")
        assert evaluation.model_options == {}

    def test_that_are_longer_than_the_model_reads_are_told(self, tmp_path: Path) -> None:
        clip(tmp_path)
        assert load(tmp_path, prompts={"cat": "a" * 75, "dog": "a dog"})  # and the two tokens at its ends
        with pytest.raises(AssetError, match="prompts: that of 'cat' has 78 tokens, and the model reads 77: shorten it"):
            load(tmp_path, prompts={"cat": "a" * 76, "dog": "a dog"})

    def test_make_another_model_in_other_words_and_in_another_order(self, tmp_path: Path) -> None:
        """Answers are indices, so that those of one order would be wrong in another."""
        clip(tmp_path / "model")
        seen = set()
        for table in ('{ cat = "a cat", dog = "a dog" }', '{ dog = "a dog", cat = "a cat" }', '{ cat = "a cat", dog = "the dog" }'):
            suite = re.sub(r"options = .*", f"options = {{ prompts = {table} }}", SUITE).replace("MODEL", "model")
            (tmp_path / "zoo.toml").write_text(suite, encoding="utf-8")
            (evaluation,) = load_suite(tmp_path / "zoo.toml")
            model = OpenModel(evaluation, "cpu")
            assert model.labels == (("dog", "cat") if table.startswith("{ dog") else ("cat", "dog"))
            assert model.ready().labels == model.labels
            seen.add(model.fingerprint)
        assert len(seen) == 3


class TestCheckpoints:
    def test_without_a_text_tower_are_told(self, tmp_path: Path) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        CLIPVisionModelWithProjection(CLIPVisionConfig(**SIZES, image_size=32, patch_size=8)).save_pretrained(tmp_path)
        with pytest.raises(AssetError, match="a CLIPVisionModelWithProjection, which reads no texts: name the whole CLIP or SigLIP"):
            find_task("zero_shot_image_classification").check(str(tmp_path))

    def test_whose_text_tower_has_no_weights_are_told(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        clip(tmp_path)
        weights = load_file(tmp_path / "model.safetensors")
        save_file(
            {name: one for name, one in weights.items() if not name.startswith("text_")}, tmp_path / "model.safetensors", {"format": "pt"}
        )
        with pytest.raises(AssetError, match=r"lacks the weights text_model\.embeddings\..* and \d+ more: name a model that was trained"):
            load(tmp_path)

    def test_of_another_kind_are_told(self, tmp_path: Path) -> None:
        replicas.vit(tmp_path, ["cat", "dog"])
        with pytest.raises(AssetError, match="holds a ViTForImageClassification, which reads no texts"):
            find_task("zero_shot_image_classification").check(str(tmp_path))

    def test_with_two_towers_of_another_kind_are_told(self, tmp_path: Path) -> None:
        clip(tmp_path)
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BlipModel"]}))
        with pytest.raises(AssetError, match=r"holds a BlipModel, where a \.\.\.CLIPModel or \.\.\.MetaClip2Model or \.\.\.SiglipModel"):
            find_task("zero_shot_image_classification").check(str(tmp_path))

    def test_without_a_tokenizer_are_told(self, tmp_path: Path) -> None:
        clip(tmp_path)
        (tmp_path / "tokenizer.json").unlink()
        with pytest.raises(AssetError, match=r"holds neither tokenizer\.json nor vocab\.json nor spiece\.model nor vocab\.txt: save"):
            find_task("zero_shot_image_classification").check(str(tmp_path))

    def test_whose_tokenizer_needs_a_package_say_which(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        siglip(tmp_path)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(AssetError, match="has a SiglipTokenizer, and sentencepiece is not installed: pip install sentencepiece"):
            find_task("zero_shot_image_classification").check(str(tmp_path))


class TestEvaluation:
    def test_of_a_folder_of_pictures(self, tmp_path: Path) -> None:
        """The prompts stand in another order than the folders, and the answers are those of the pipeline."""
        from transformers import pipeline

        clip(tmp_path / "model")
        reference = pipeline("zero-shot-image-classification", model=str(tmp_path / "model"), device="cpu")
        asked = {text: label for label, text in PROMPTS.items() if label != "car"}
        right = 0
        for seed, label in enumerate(("Tree", "Dog", "Cat", "Dog", "Tree", "Cat")):
            file = tmp_path / "zoo/test" / label / f"{seed}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(replicas.picture(seed))
            best = reference(Pillow.open(file).convert("RGB"), candidate_labels=list(asked), hypothesis_template="{}")[0]["label"]
            right += asked[best] == label.lower()
        (tmp_path / "zoo.toml").write_text(SUITE.replace("MODEL", "model"), encoding="utf-8")
        original, coded = run_suite(tmp_path / "zoo.toml", tmp_path, "--mpq-baselines", str(tmp_path / "baselines"))
        assert (original["case"], coded["case"]) == ("clip_zoo-original", "clip_zoo-jpeg-q5")
        assert (original["metric"], original["samples"]) == ("top1", "6")
        assert float(original["value"]) == pytest.approx(right / 6)
        assert "Zero-shot image classification" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

    def test_from_the_hub(self, tmp_path: Path) -> None:
        from datasets import ClassLabel, Features
        from datasets import Image as Picture

        features = Features({"image": Picture(), "label": ClassLabel(names=["cat", "dog", "tree"])})
        rows = {"image": [{"bytes": replicas.picture(seed), "path": None} for seed in range(4)], "label": [0, 1, 2, 0]}
        suite = SUITE.replace("MODEL", "someone/siglip").replace('"imagefolder", data_dir = "zoo"', '"someone/zoo"')
        (tmp_path / "zoo.toml").write_text(suite, encoding="utf-8")
        with LoopbackHub() as hub:
            hub.add("model", "someone/siglip", replicas.saved(siglip))
            hub.add("dataset", "someone/zoo", {"data/test-00000-of-00001.parquet": replicas.parquet(rows, features)})
            env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "MPQ_CACHE": str(tmp_path / "store")}
            for command, said in (("fetch", "everything is here"), ("doctor", "passed: 2 cases of 1 evaluation can run")):
                asked = [sys.executable, "-m", "mpq_fixtures", command, str(tmp_path / "zoo.toml")]
                done = subprocess.run(asked, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
                assert said in done.stdout, done.stdout + done.stderr
        rows_of_run = run_suite(tmp_path / "zoo.toml", tmp_path, "-k", "original", HF_ENDPOINT="http://127.0.0.1:9")
        assert [(row["case"], row["samples"]) for row in rows_of_run] == [("clip_zoo-original", "4")]
