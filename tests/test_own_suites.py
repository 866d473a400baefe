"""The examples of docs/own_suites.md, run as they stand in it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import hub_replicas as replicas
import numpy as np
import pytest
import soundfile
from PIL import Image
from projects import ROOT, places
from test_audio_classification import hears_waveforms
from test_object_detection import yolos
from test_zero_shot import clip

EXAMPLES = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", (ROOT / "docs" / "own_suites.md").read_text(encoding="utf-8"), re.DOTALL))
SUITES = [name for name in EXAMPLES if name.endswith(".toml")]
TASKS = [
    *("image_classification", "image_classification", "zero_shot_image_classification", "image_segmentation", "object_detection"),
    *("speech_recognition", "audio_classification", "source_separation", "image_classification"),
]


def photos(folder: Path) -> None:
    for number, name in enumerate(("cat", "dog")):
        (folder / "photos/test" / name).mkdir(parents=True)
        for seed in (1, 2):
            (folder / f"photos/test/{name}/00{seed}.jpg").write_bytes(replicas.picture(10 * number + seed))
    replicas.vit(folder / "models/vit", ["Dog", "Cat", "bird"])


def animals(folder: Path) -> None:
    for seed, name in enumerate(("cat", "dog")):
        (folder / "animals/test" / name).mkdir(parents=True)
        (folder / f"animals/test/{name}/001.jpg").write_bytes(replicas.picture(seed))
    clip(folder / "models/clip")


def words(folder: Path) -> None:
    for seed, name in enumerate(("yes", "no")):
        (folder / "words/test" / name).mkdir(parents=True)
        soundfile.write(folder / f"words/test/{name}/001.wav", replicas.tone(seed, 0.7, 24000, 1 + seed), 24000)
    hears_waveforms(folder / "models/wav2vec2", "Wav2Vec2", labels=["no", "stop", "yes"])


def streets(folder: Path) -> None:
    for part in ("images", "masks"):
        (folder / "streets/test" / part).mkdir(parents=True)
    for seed in (1, 2):
        (folder / f"streets/test/images/00{seed}.jpg").write_bytes(replicas.picture(seed))
        mask = np.random.default_rng(seed).integers(0, 4, (48, 64), np.uint8)
        Image.fromarray(mask).save(folder / f"streets/test/masks/00{seed}.png")
    lines = ["file_name,mask_file_name", *(f"images/00{seed}.jpg,masks/00{seed}.png" for seed in (1, 2))]
    (folder / "streets/test/metadata.csv").write_text("\n".join(lines) + "\n")
    replicas.segformer(folder / "models/segformer", ["road", "house", "sky"])


def yard(folder: Path) -> None:
    (folder / "yard/test").mkdir(parents=True)
    (folder / "yard/annotations").mkdir()
    for seed in (1, 2):
        (folder / f"yard/test/00{seed}.jpg").write_bytes(replicas.picture(seed))
    annotations = {
        "images": [{"id": seed, "file_name": f"00{seed}.jpg"} for seed in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": [{"id": seed, "image_id": seed, "category_id": 3, "bbox": [12, 8, 30, 24]} for seed in (1, 2)],
    }
    (folder / "yard/annotations/instances_test.json").write_text(json.dumps(annotations))
    yolos(folder / "models/yolos", ["Cat", "Dog", "bird"])


def calls(folder: Path) -> None:
    (folder / "calls/test").mkdir(parents=True)
    for seed, channels in ((1, 1), (2, 2)):
        soundfile.write(folder / f"calls/test/00{seed}.wav", replicas.tone(seed, 1.0, 24000, channels), 24000)
    (folder / "calls/test/metadata.csv").write_text('file_name,sentence\n001.wav,good morning\n002.wav,"yes, thank you"\n')
    replicas.whisper(folder / "models/whisper")


def band(folder: Path) -> None:
    import datasets

    names = ("voice", "bass", "drums", "keys", "guitar")
    rows: dict[str, list[dict[str, bytes | None]]] = {name: [] for name in ("mix", *names)}
    for track in range(2):
        parts = {name: replicas.tone(10 * track + seed, 1.5, 44100, 2) / 2 for seed, name in enumerate(names)}
        for name, samples in {**parts, "mix": np.sum(list(parts.values()), axis=0)}.items():
            rows[name].append({"bytes": replicas.sound(samples, 44100, "FLAC"), "path": None})
    features = datasets.Features({name: datasets.Audio() for name in rows})
    (folder / "songs.parquet").write_bytes(replicas.parquet(rows, features))
    (folder / "models/demucs").mkdir(parents=True)
    replicas.demucs(folder / "models/demucs")


def scenes(folder: Path) -> None:
    (folder / "pictures").mkdir()
    lines = ["file,scene"]
    for number, (level, name) in enumerate(((160, "day"), (40, "night"), (150, "day"), (30, "night"))):
        noise = np.random.default_rng(number).integers(-9, 9, (96, 128, 3))
        Image.fromarray((level + noise).astype(np.uint8)).save(folder / f"pictures/00{number}.jpg", quality=95)
        lines.append(f"pictures/00{number}.jpg,{name}")
    (folder / "scenes.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders and files that the document shows, and the examples themselves."""
    made = tmp_path_factory.mktemp("own")
    layouts: list[Callable[[Path], None]] = [photos, animals, streets, yard, calls, words, band, scenes]
    for lay_out in layouts:
        lay_out(made)
    for name, text in EXAMPLES.items():
        (made / name).write_text(text)
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> subprocess.CompletedProcess[str]:
    suites = [part for name in SUITES for part in ("--mpq-suite", str(folder / name))]
    points = "original or q20 or opus-6k"
    command = [sys.executable, "-m", "pytest", "evaluations", *suites, *places(folder), "-k", points, "-p", "no:cacheprovider"]
    command += ["--mpq-baselines", str(folder / "baselines")]
    environment = {**os.environ, "HF_HOME": str(folder / "hub")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)


@pytest.fixture(scope="module")
def rows(run: subprocess.CompletedProcess[str], folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "out/results.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


class TestExamples:
    def test_there_is_one_without_labels_one_for_each_task_and_one_for_a_model_of_ones_own(self) -> None:
        files = [tomllib.loads(EXAMPLES[name]) for name in SUITES]
        assert [content.get("evaluation", [content])[0]["task"] for content in files] == TASKS

    @pytest.mark.parametrize("name", SUITES)
    def test_takes_at_most_ten_lines(self, name: str) -> None:
        assert len(EXAMPLES[name].splitlines()) <= 10

    def test_all_run_and_pass(self, run: subprocess.CompletedProcess[str]) -> None:
        assert run.returncode == 0, run.stdout + run.stderr
        assert "18 passed" in run.stdout

    def test_measure_every_sample_at_every_point(self, rows: dict[str, dict[str, str]]) -> None:
        counts = {case: int(row["samples"]) for case, row in rows.items()}
        assert counts == {
            "holiday-original": 4,
            "holiday-jpeg-q20": 4,
            "vit_photos-original": 4,
            "vit_photos-jpeg-q20": 4,
            "clip_animals-original": 2,
            "clip_animals-jpeg-q20": 2,
            "segformer_streets-original": 2,
            "segformer_streets-jpeg-q20": 2,
            "yolos_yard-original": 2,
            "yolos_yard-jpeg-q20": 2,
            "whisper_calls-original": 2,
            "whisper_calls-opus-6k": 2,
            "wav2vec_words-original": 2,
            "wav2vec_words-opus-6k": 2,
            "demucs_band-original": 2,
            "demucs_band-opus-6k": 2,
            "scenes_by_brightness-original": 4,
            "scenes_by_brightness-jpeg-q20": 4,
        }
        assert all(np.isfinite(float(row["value"])) and float(row["rate"]) > 0 for row in rows.values())

    def test_name_the_data_by_their_folder(self, rows: dict[str, dict[str, str]]) -> None:
        assert rows["vit_photos-original"]["dataset"] == "imagefolder/photos:test"

    def test_answers_in_another_order_are_matched_by_name(self, rows: dict[str, dict[str, str]]) -> None:
        assert float(rows["scenes_by_brightness-original"]["value"]) == 1.0
