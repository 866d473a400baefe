"""Five regressions as they happen to teams, each made between two nights of a real run, and the name that each is given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from projects import Project
from seeded_changes import POCKET, perturb

from mpq_fixtures.gate.layers import Layer, layer_of
from mpq_fixtures.gate.measured import Measured, of_results

SUITE = """\
name = "tried"

[[evaluation]]
name = "vit_tried"
task = "image_classification"
model = "models/vit_pocket"
dataset = { path = "python:mpq_fixtures.pocket.textures:classification" }
samples = 24
codecs = ["houseimage"]
qualities = { houseimage = ["q20"] }

[[evaluation]]
name = "whisper_tried"
task = "speech_recognition"
model = "models/whisper_pocket"
dataset = { path = "python:mpq_fixtures.pocket.speech:utterances" }
samples = 12
codecs = ["housesound"]
qualities = { housesound = ["6k"] }
options = { normaliser = "none" }
"""

CODECS = """\
import numpy as np
from scipy.signal import resample_poly

from mpq_fixtures.codecs.jpeg import Jpeg
from mpq_fixtures.codecs.opus import Opus
from mpq_fixtures.signals import Audio, Image


class HouseImage(Jpeg):
    name = "houseimage"

    def options(self, quality):
        return {"quality": self.qualities.number(quality), "subsampling": "4:2:0"}

    def decode(self, data):
        return Image(super().decode(data).pixels)


class HouseSound(Opus):
    name = "housesound"

    def encode(self, signal, quality):
        half = resample_poly(signal.waveform, 1, 2, axis=1).astype(np.float32)
        return len(signal.waveform[0]).to_bytes(4, "big") + super().encode(Audio(half, signal.sample_rate // 2), quality)

    def decode(self, data):
        half = super().decode(data[4:])
        whole = resample_poly(half.waveform, 2, 1, axis=1)[:, : int.from_bytes(data[:4], "big")]
        return Audio(np.clip(whole, -1, 1).astype(np.float32), 2 * half.sample_rate)

    def ledger(self, data):
        from mpq_fixtures.codecs import Ledger

        return super().ledger(data[4:]) + Ledger(0, side=4)
"""


def older_settings(project: Project) -> None:
    project.edit("houses.py", 'number(quality), "subsampling": "4:2:0"', 'number(quality) - 15, "subsampling": "4:1:1"')


def shifted_decoder(project: Project) -> None:
    project.edit("houses.py", "Image(super().decode(data).pixels)", "Image(np.roll(super().decode(data).pixels, 1, axis=1))")


def perturbed_weights(project: Project) -> None:
    perturb(project.suites / "models/vit_pocket/model.safetensors", 1.5)


def other_normaliser(project: Project) -> None:
    project.edit("evaluations/suites/tried.toml", 'normaliser = "none"', 'normaliser = "whisper_english"')


def other_resampler(project: Project) -> None:
    """Every second sample, and each twice: no filter."""
    project.edit("houses.py", "resample_poly(signal.waveform, 1, 2, axis=1)", "signal.waveform[:, ::2]")
    project.edit("houses.py", "resample_poly(half.waveform, 2, 1, axis=1)", "np.repeat(half.waveform, 2, axis=1)")


@dataclass(frozen=True)
class Regression:
    """What happens between two nights, the case that it hurts, and how attribution has to call it."""

    happens: Callable[[Project], None]
    case: str
    maker: str
    suspect: str


REGRESSIONS = [
    Regression(older_settings, "vit_tried-houseimage-q20", "encoder", "codec's code"),
    Regression(shifted_decoder, "vit_tried-houseimage-q20", "decoder", "codec's code"),
    Regression(perturbed_weights, "vit_tried-original", "model", "weights"),
    Regression(other_normaliser, "whisper_tried-original", "metric", "normaliser none -> whisper_english"),
    Regression(other_resampler, "whisper_tried-housesound-6k", "encoder", "codec's code"),
]


@dataclass(frozen=True)
class Nights:
    """The night before and the night after, as the runs' results have every case, and how pytest ended the second."""

    before: dict[str, Measured]
    after: dict[str, Measured]
    code: int
    output: str

    def layer(self, case: str) -> Layer | None:
        evaluation = case.partition("-")[0]
        original = (self.before[f"{evaluation}-original"], self.after[f"{evaluation}-original"])
        return layer_of(self.before[case], self.after[case], original)


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose first night was approved."""
    project = Project(tmp_path_factory.mktemp("approved"))
    project.write("evaluations/suites/tried.toml", SUITE)
    project.write("houses.py", CODECS)
    for name in ("vit_pocket", "whisper_pocket"):
        shutil.copytree(POCKET / name, project.suites / "models" / name)
    assert project.run("-p", "houses", "--mpq-out", "before", "--mpq-update-baselines").ret == 0
    return project.folder


def next_night(folder: Path, regression: Regression) -> Nights:
    """Let the regression happen, and run the evaluation that it hurts."""
    project = Project.__new__(Project)
    project.folder, project.suites = folder, folder / "evaluations" / "suites"
    regression.happens(project)
    run = project.run("-p", "houses", "-k", regression.case.partition("-")[0], "--mpq-out", "after")
    return Nights(of_results(folder / "before"), of_results(folder / "after"), int(run.ret), "\n".join(run.outlines))


@pytest.mark.parametrize("regression", REGRESSIONS, ids=lambda one: one.happens.__name__)
class TestInducedRegression:
    @pytest.fixture
    def found(self, approved: Path, tmp_path: Path, regression: Regression) -> Nights:
        return next_night(Path(shutil.copytree(approved, tmp_path / "project")), regression)

    def test_is_red_and_called_by_its_right_name(self, found: Nights, regression: Regression) -> None:
        assert found.code == 1
        assert regression.maker in found.output
        layer = found.layer(regression.case)
        assert layer is not None
        assert layer.maker == regression.maker
        assert regression.suspect in (layer.suspects or {})[layer.name]
        assert regression.suspect in str(layer)
