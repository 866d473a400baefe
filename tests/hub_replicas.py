"""The study's data sets and models in small: the columns, types, splits, revisions and label names of the real ones, with few rows and
random weights.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from loopback_hub import LoopbackHub
from numpy.typing import NDArray
from PIL import Image

CONVERTED = "refs/convert/parquet"
BEANS = ["angular_leaf_spot", "bean_rust", "healthy"]
CHEST = ["NORMAL", "PNEUMONIA"]
IMAGENET = ["tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark",
            *(f"class {index}, synonym {index}" for index in range(3, 1000))]  # fmt: skip
ADE20K = [
    "wall",
    "building",
    "sky",
    "floor",
    "tree",
    "ceiling",
    "road",
    "bed ",
    "windowpane",
    "grass",
    *(f"thing {i}" for i in range(10, 150)),
]
SENTENCES = ["the cat sat on the mat", "a quick brown fox", "rain in the valley", "we will see tomorrow", "nothing is lost"]


def picture(seed: int, width: int = 64, height: int = 48) -> bytes:
    """A photograph-like JPEG: smooth, with some noise."""
    rng = np.random.default_rng(seed)
    smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(smooth, np.int16) + rng.integers(-8, 9, (height, width, 3))
    return _file(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), "JPEG")


def class_map(seed: int, width: int = 64, height: int = 48) -> bytes:
    """A grey PNG with 0 for other and 1 to 150 for the classes."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 151, (3, 4), np.uint8))
    return _file(coarse.resize((width, height), Image.Resampling.NEAREST), "PNG")


def tone(seed: int, seconds: float, sample_rate: int, channels: int) -> NDArray[np.float32]:
    """A few sine waves, ``[frames, channels]``."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    waves = [sum(0.1 * np.sin(2 * np.pi * rng.uniform(100, 3000) * time) for _ in range(3)) for _ in range(channels)]
    return np.stack(waves, 1).astype(np.float32)


def sound(samples: NDArray[np.float32], sample_rate: int, format: str) -> bytes:
    """A sound in a file of a format that libsndfile writes."""
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, samples, sample_rate, format=format)
    return content.getvalue()


def fill(hub: LoopbackHub, rows: int = 4) -> None:
    """Put the study's data sets and models on the hub."""
    _image_sets(hub, rows)
    _speech_set(hub, rows)
    _models(hub)


def _image_sets(hub: LoopbackHub, rows: int) -> None:
    from datasets import ClassLabel, Features, Value
    from datasets import Image as Picture

    def classified(names: list[str], count: int, seed: int, image: str = "image", label: str = "label", **more: Any) -> bytes:
        # The first rows have classes 0, 1, 2, ... so that even few rows differ in them.
        columns = {**more, image: [_bytes(picture(seed + row)) for row in range(count)], label: [row % len(names) for row in range(count)]}
        extra = {name: Value("string") for name in more}
        return parquet(columns, Features({**extra, image: Picture(), label: ClassLabel(names=names)}))

    shards = {
        f"data/{split}-{shard:05}-of-{count:05}.parquet": classified(IMAGENET, rows, 100 * shard)
        for split, count in (("train", 1), ("validation", 2), ("test", 1))
        for shard in range(count)
    }
    readme = _card({"train": rows, "validation": 2 * rows, "test": rows})
    hub.add("dataset", "benjamin-paine/imagenet-1k", {"README.md": readme, **shards})
    hub.add("dataset", "ILSVRC/imagenet-1k", {"README.md": readme, **shards}, gated=True)

    beans = {
        f"data/{split}-00000-of-00001.parquet": classified(
            BEANS, rows, 300 + seed, label="labels", image_file_path=[f"/data/{split}/bean_{row}.jpg" for row in range(rows)]
        )
        for seed, split in enumerate(("train", "validation", "test"))
    }
    hub.add("dataset", "AI-Lab-Makerere/beans", {"README.md": _card(dict.fromkeys(("train", "validation", "test"), rows)), **beans})

    scripted = {
        "README.md": b"# Chest X-rays\n",
        "chest-xray-classification.py": b"raise SystemExit('never run')\n",
        "data/valid.zip": b"PK",
    }
    hub.add("dataset", "keremberke/chest-xray-classification", scripted)
    chest = {
        f"{config}/{split}/0000.parquet": classified(CHEST, rows, 400 + seed, label="labels")
        for config in ("full", "mini")
        for seed, split in enumerate(("train", "validation", "test"))
    }
    hub.add("dataset", "keremberke/chest-xray-classification", chest, CONVERTED)

    scenes = Features(
        {"image": Picture(), "annotation": Picture(), "scene_category": ClassLabel(names=["airport_terminal", "art_gallery", "badlands"])}
    )
    parsing = {
        f"scene_parsing/{split}/0000.parquet": parquet(
            {
                "image": [_bytes(picture(500 + seed + row)) for row in range(rows)],
                "annotation": [_bytes(class_map(500 + seed + row)) for row in range(rows)],
                "scene_category": [row % 3 for row in range(rows)],
            },
            scenes,
        )
        for seed, split in enumerate(("train", "validation", "test"))
    }
    hub.add("dataset", "zhoubolei/scene_parse_150", {"README.md": b"# ADE20K\n", "scene_parse_150.py": b"raise SystemExit('never run')\n"})
    hub.add("dataset", "zhoubolei/scene_parse_150", parsing, CONVERTED)


def _speech_set(hub: LoopbackHub, rows: int) -> None:
    from datasets import Audio, Features, Value

    strings = ("client_id", "path", "sentence", "age", "gender", "accent", "locale", "segment", "variant")
    features = Features(
        {name: Value("string") for name in strings} | {"audio": Audio(48000), "up_votes": Value("int64"), "down_votes": Value("int64")}
    )
    columns: dict[str, list[Any]] = {name: [""] * rows for name in strings}
    columns |= {
        "path": [f"common_voice_en_{row}.mp3" for row in range(rows)],
        "sentence": [SENTENCES[row % len(SENTENCES)] for row in range(rows)],
        "locale": ["en"] * rows,
        "audio": [_bytes(sound(tone(row, 1.0, 48000, 1), 48000, "MP3"), f"common_voice_en_{row}.mp3") for row in range(rows)],
        "up_votes": [2] * rows,
        "down_votes": [0] * rows,
    }
    files = {f"en/{split}-00000-of-00001.parquet": parquet(columns, features) for split in ("train", "validation", "test")}
    readme = "---\nconfigs:\n"
    for language in ("en", "de"):
        parts = "".join(f"  - split: {split}\n    path: {language}/{split}-*\n" for split in ("train", "validation", "test"))
        readme += f"- config_name: {language}\n  data_files:\n{parts}"
    hub.add("dataset", "fixie-ai/common_voice_17_0", {"README.md": f"{readme}---\n".encode(), **files})


def common_voice(folder: Path, rows: int = 4) -> None:
    """Lay out a downloaded Common Voice: ``clips/*.mp3`` and a table for each split, of which only some columns matter."""
    (folder / "clips").mkdir(parents=True)
    header = (
        "client_id\tpath\tsentence_id\tsentence\tsentence_domain\tup_votes\tdown_votes\tage\tgender\taccents\tvariant\tlocale\tsegment\n"
    )
    lines = [f"c\tcommon_voice_en_{row}.mp3\ts\t{SENTENCES[row % len(SENTENCES)]}\t\t2\t0\t\t\t\t\ten\t\n" for row in range(rows)]
    for row in range(rows):
        (folder / "clips" / f"common_voice_en_{row}.mp3").write_bytes(sound(tone(row, 1.0, 32000, 1), 32000, "MP3"))
    for name in ("train", "dev", "test", "validated"):
        (folder / f"{name}.tsv").write_text(header + "".join(lines), encoding="utf-8")


def musdb18hq(folder: Path, tracks: int = 2, seconds: float = 2.0) -> None:
    """Lay out an unpacked MUSDB18-HQ: a folder a track, stereo WAV at 44.1 kHz, the mixture the sum of the stems."""
    for split in ("train", "test"):
        for track in range(tracks):
            place = folder / split / f"Band {track} - Song {track}"
            place.mkdir(parents=True)
            stems = {
                name: 0.5 * tone(10 * track + seed, seconds, 44100, 2) for seed, name in enumerate(("drums", "bass", "other", "vocals"))
            }
            for name, samples in {**stems, "mixture": sum(stems.values())}.items():
                (place / f"{name}.wav").write_bytes(sound(np.asarray(samples, np.float32), 44100, "WAV"))


def _models(hub: LoopbackHub) -> None:
    for id, labels in (
        ("google/vit-base-patch16-224", IMAGENET),
        ("lxyuan/vit-xray-pneumonia-classification", CHEST),
        ("nateraw/vit-base-beans", BEANS),
    ):
        hub.add("model", id, saved(lambda folder, labels=labels: vit(folder, labels)))  # type: ignore[misc]
    hub.add("model", "nvidia/segformer-b0-finetuned-ade-512-512", saved(lambda folder: segformer(folder, ADE20K)))
    hub.add("model", "openai/whisper-medium", saved(whisper))
    hub.add("model", "facebook/encodec_48khz", saved(encodec_48khz))
    hub.add("model", "adefossez/Demucs-mdx", saved(demucs))


def saved(save: Callable[[Path], None]) -> dict[str, bytes]:
    """Return the files that a model's saving leaves."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(folder)
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def vit(folder: Path, labels: list[str]) -> None:
    """Save a ViT with random weights for pictures of 32x32, as Google's for 224x224."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8,
                       id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)})  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


def segformer(folder: Path, labels: list[str]) -> None:
    """Save a SegFormer with random weights."""
    import torch
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

    torch.manual_seed(0)
    config = SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, num_attention_heads=[1, 1, 1, 1],
                             id2label=dict(enumerate(labels)), label2id={label: index for index, label in enumerate(labels)})  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessorPil(size={"height": 64, "width": 64}, do_reduce_labels=True).save_pretrained(folder)


def whisper(folder: Path) -> None:
    """Save a Whisper with random weights for windows of 3 s."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    torch.manual_seed(0)
    special = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|translate|>", "<|notimestamps|>"]
    letters = [*"abcdefghijklmnopqrstuvwxyz", "\u0120"]
    vocabulary = {token: index for index, token in enumerate([*letters, *special])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=special)
    config = WhisperConfig(vocab_size=len(vocabulary), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
                           decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_mel_bins=80, max_source_positions=150,
                           max_target_positions=24, decoder_start_token_id=vocabulary["<|startoftranscript|>"],
                           pad_token_id=vocabulary["<|endoftext|>"], bos_token_id=vocabulary["<|endoftext|>"],
                           eos_token_id=vocabulary["<|endoftext|>"], suppress_tokens=None, begin_suppress_tokens=None)  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=vocabulary["<|startoftranscript|>"], eos_token_id=vocabulary["<|endoftext|>"],
        pad_token_id=vocabulary["<|endoftext|>"], bos_token_id=vocabulary["<|endoftext|>"], is_multilingual=True,
        lang_to_id={"<|en|>": vocabulary["<|en|>"]},
        task_to_id={"transcribe": vocabulary["<|transcribe|>"], "translate": vocabulary["<|translate|>"]},
        no_timestamps_token_id=vocabulary["<|notimestamps|>"], max_new_tokens=16)  # fmt: skip
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=3), tokenizer).save_pretrained(folder)


def encodec_48khz(folder: Path) -> None:
    """The settings in the config.json of facebook/encodec_48khz, but for the widths."""
    import torch
    from transformers import EncodecConfig, EncodecModel

    torch.manual_seed(0)
    segments = {"normalize": True, "chunk_length_s": 1.0, "overlap": 0.01, "use_causal_conv": False, "norm_type": "time_group_norm"}
    rates = {"sampling_rate": 48000, "audio_channels": 2, "target_bandwidths": [3.0, 6.0, 12.0, 24.0]}
    EncodecModel(EncodecConfig(num_filters=4, hidden_size=16, num_lstm_layers=1, **rates, **segments)).save_pretrained(folder)


def demucs(folder: Path) -> None:
    """Save a bag of two small Demucs models with random weights, as ``demucs`` keeps its bags on the hub."""
    import torch
    from demucs.hdemucs import HDemucs
    from safetensors.torch import save_file

    for seed, signature in enumerate(("0d19c1c6", "7ecf8ec1")):
        torch.manual_seed(seed)
        settings = {"sources": ["drums", "bass", "other", "vocals"], "channels": 4, "growth": 2, "depth": 4, "nfft": 1024}
        state = {name: tensor.contiguous().clone() for name, tensor in HDemucs(**settings).state_dict().items()}
        about = {"klass": "demucs.hdemucs.HDemucs", "args": "[]", "kwargs": json.dumps(settings)}
        save_file(state, folder / f"{signature}.safetensors", about)
    (folder / "mdx.yaml").write_text("models: ['0d19c1c6', '7ecf8ec1']\n", encoding="utf-8")


def parquet(columns: dict[str, list[Any]], features: Any) -> bytes:
    """Return a Parquet file as the hub has it: with the features in its metadata, and pictures and sounds as bytes and path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = features.arrow_schema
    table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in features}, schema=schema)
    content = io.BytesIO()
    pq.write_table(table, content)
    return content.getvalue()


def _card(splits: dict[str, int]) -> bytes:
    """Return a README as ``push_to_hub`` writes it."""
    infos = "".join(f"  - name: {name}\n    num_bytes: 1\n    num_examples: {rows}\n" for name, rows in splits.items())
    files = "".join(f"  - split: {name}\n    path: data/{name}-*\n" for name in splits)
    return f"---\ndataset_info:\n  splits:\n{infos}configs:\n- config_name: default\n  data_files:\n{files}---\n# A data set\n".encode()


def _bytes(content: bytes, path: str | None = None) -> dict[str, Any]:
    return {"bytes": content, "path": path}


def _file(image: Image.Image, format: str) -> bytes:
    content = io.BytesIO()
    image.save(content, format)
    return content.getvalue()
