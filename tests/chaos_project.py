"""The project that chaos runs on: small, but real pictures, sounds, codecs, models and approved values; and what its runs must give."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage
from projects import ROOT, Project

SUITE = """\
name = "tried"

[[evaluation]]
name = "pictures"
task = "image_classification"
model = "python:model:brightness"
dataset = { path = "imagefolder", data_dir = "pictures" }
codecs = ["jpeg", "webp"]
qualities = { jpeg = ["q10", "q50"], webp = ["q10"] }

[[evaluation]]
name = "sounds"
task = "speech_recognition"
model = "python:model:loudness"
dataset = { path = "audiofolder", data_dir = "sounds", text = "sentence" }
codecs = ["opus", "vorbis"]
qualities = { opus = ["6k", "24k"], vorbis = ["q0"] }
"""

NETWORK = """
[[evaluation]]
name = "materials"
task = "image_classification"
model = "{root}/mpq_fixtures/pocket/models/vit_pocket"
dataset = {{ path = "python:mpq_fixtures.pocket.textures:classification" }}
codecs = ["jpeg"]
qualities = {{ jpeg = ["q10"] }}
samples = 24
"""

# What the pictures and sounds were named after, so that the models are right about the originals and lose some to the codecs.
MODEL = """
import numpy as np

LABELS = ("bright", "dark", "dim", "light")
WORDS = ("loud", "low", "quiet", "soft")


def label_of(pixels):
    return int(pixels[::4, ::4].mean() / 8) % 4


def word_of(waveform):
    return WORDS[int(-10 * np.log10(np.square(waveform).mean() + 1e-9)) % 4]


class Model:
    batch_size = 8

    def __init__(self, answer):
        self.answer = answer

    def predict(self, signals):
        return [self.answer(signal) for signal in signals]


def brightness(device):
    return Model(lambda signal: label_of(signal.pixels))


def loudness(device):
    return Model(lambda signal: word_of(signal.waveform))
"""

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png", "rocket.jpg", "hubble_deep_field.jpg")
"""Photographs in colour in scikit-image's wheel."""

FILES = ("results.csv", "results.json", "samples.parquet")
_OF_THE_RUN = ("created", "provenance", "seconds", "work", "workers", "memory")
_OF_THE_CASE = ("seconds", "work")
_OF_THE_REPORT = ("shown", "original_prediction", "original_score", "example")
"""What shows samples: the case that is done first chooses the one that all others show."""


class ChaosProject(Project):
    """A project of 8 cases on ``pictures`` and ``sounds``, and with ``network`` 2 more of a transformer on the pocket suite's textures."""

    def __init__(self, folder: Path, pictures: int = 96, sounds: int = 80, network: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self.write("evaluations/suites/tried.toml", SUITE + (NETWORK.format(root=ROOT) if network else ""))
        self.write("evaluations/suites/model.py", MODEL)
        known: dict[str, Any] = {}
        exec(MODEL, known)
        self._write_pictures(pictures, known)
        self._write_sounds(sounds, known)

    def _write_pictures(self, count: int, known: dict[str, Any]) -> None:
        """Write stretches of photographs with some grain, in folders by what the model says of them."""
        spec = find_spec("skimage")
        assert spec is not None
        assert spec.origin is not None
        originals = [PILImage.open(Path(spec.origin).parent / "data" / name).convert("RGB") for name in PHOTOGRAPHS]
        for label in known["LABELS"]:
            (self.suites / "pictures" / label).mkdir(parents=True)
        for number in range(count):
            generator = np.random.default_rng(number)
            original = originals[number % len(originals)]
            left, top = (int(generator.integers(side - room)) for side, room in zip(original.size, (320, 240), strict=True))
            pixels = np.asarray(original.crop((left, top, left + 320, top + 240)), np.int16) + generator.integers(-4, 5, (240, 320, 1))
            picture = pixels.clip(0, 255).astype(np.uint8)
            label = known["LABELS"][known["label_of"](picture)]
            PILImage.fromarray(picture).save(self.suites / "pictures" / label / f"{number:03}.png", compress_level=1)

    def _write_sounds(self, count: int, known: dict[str, Any]) -> None:
        """Write spoken commands of the pocket suite, louder and softer, with what the model says of them."""
        import soundfile

        folder = self.suites / "sounds"
        folder.mkdir()
        lines = ["file_name,sentence"]
        for number, file in enumerate(islice(cycle(sorted((ROOT / "mpq_fixtures" / "pocket" / "speech").glob("*.flac"))), count)):
            waveform, rate = soundfile.read(file, dtype="float32")
            soundfile.write(folder / f"{number:03}.wav", waveform * 0.93 ** (number % 29), rate)
            stored, _ = soundfile.read(folder / f"{number:03}.wav", dtype="float32")
            lines.append(f"{number:03}.wav,{known['word_of'](stored)}")
        (folder / "metadata.csv").write_text("\n".join(lines) + "\n")

    def pytest(self, place: Path, *arguments: str) -> list[str]:
        """Return the command of a run whose store, results and history are in a folder."""
        places = ["--mpq-cache", str(place / "store"), "--mpq-out", str(place / "out"), "--mpq-history", str(place / "history")]
        fixed = ["evaluations", "-q", "-p", "no:cacheprovider", "-p", "bare_report", "--mpq-suite", "tried"]
        return [sys.executable, "-m", "pytest", *fixed, *places, *arguments]

    def work(self, place: Path, share: str) -> list[str]:
        """Return the command of a share."""
        suite = str(self.suites / "tried.toml")
        return [sys.executable, "-m", "mpq_fixtures", "work", suite, "--share", share, "--mpq-cache", str(place / "store")]

    def environment(self, place: Path) -> dict[str, str]:
        """Return the variables of a run whose home and temporary files are in a folder."""
        home = place / "home"
        return self.variables(HOME=home, XDG_CACHE_HOME=home / "cache", TMPDIR=place / "tmp", HF_HUB_OFFLINE=1)


class Results:
    """What a run left in its results' folder, without what may differ: when, where, how long and how much of it was in the store."""

    def __init__(self, folder: Path) -> None:
        """Read the three files; raises `OSError` where one is missing and `ValueError` where it cannot be read."""
        import pyarrow.parquet as pq

        self.csv = (folder / "results.csv").read_bytes()
        document = json.loads((folder / "results.json").read_bytes())
        self.created, self.computed = document["created"], document["work"]["computed"]
        self.document = {name: value for name, value in document.items() if name not in _OF_THE_RUN}
        self.document["cases"] = [
            {name: value for name, value in case.items() if name not in _OF_THE_CASE} for case in self.document["cases"]
        ]
        self.samples = pq.ParquetFile(io.BytesIO((folder / "samples.parquet").read_bytes())).read().drop_columns(list(_OF_THE_REPORT))

    def differences(self, other: Results) -> list[str]:
        """Return what differs from an undisturbed run's."""
        found = []
        if self.csv != other.csv:
            rows, others = self.rows(), other.rows()
            cases = sorted(case for case in {*rows, *others} if rows.get(case) != others.get(case))
            cells = ({*rows.get(case, {}).items()} ^ {*others.get(case, {}).items()} for case in cases)
            columns = sorted({name for some in cells for name, _ in some})
            found.append(f"results.csv differs at {', '.join(cases) or 'its form'}: {', '.join(columns)}")
        names = sorted(name for name in {*self.document, *other.document} if self.document.get(name) != other.document.get(name))
        if names:
            found.append(f"results.json differs in {', '.join(names)}")
        if not self.samples.equals(other.samples):
            found.append("samples.parquet differs")
        return found

    def rows(self) -> dict[str, dict[str, str]]:
        """Return the rows of the CSV by case."""
        return {row["case"]: row for row in csv.DictReader(io.StringIO(self.csv.decode()))}

    def mixed(self) -> list[str]:
        """Return what shows that the three files are not of one run."""
        rows = {case["case"]: case for case in self.document["cases"]}
        if list(rows) != list(self.rows()):
            return ["results.csv and results.json have other cases"]
        figures = ("value", "bytes", "samples", "verdict", "reason")
        found = [case for case, row in self.rows().items() if any(row[name] != _as_in_csv(rows[case][name]) for name in figures)]
        counted: dict[str, int] = {}
        for case in self.samples.column("case").to_pylist():
            counted[case] = counted.get(case, 0) + 1
        found += [case for case, row in rows.items() if counted.get(case, 0) != row["samples"] + len(row["failures"])]
        return [f"the result files are of different runs at {', '.join(sorted(set(found)))}"] if found else []

    def wrong(self, right: Results) -> list[str]:
        """Return the cases that passed, of a run that was stopped, with other figures than in an undisturbed one."""
        rows, found = right.rows(), []
        passed = {case["case"] for case in self.document["cases"] if case["outcome"] == "passed"}
        for case, row in self.rows().items():
            other = [f"{name} {value!r} instead of {rows[case][name]!r}" for name, value in row.items() if value != rows[case].get(name)]
            if other and case in passed:
                found.append(f"a stopped run gave {case} with {', '.join(other)}")
        return found


def digest(folder: Path) -> dict[str, str]:
    """Return the digests of the result files that are in a folder."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES if (folder / name).exists()}


def _as_in_csv(value: object) -> str:
    return "" if value is None else str(value)
