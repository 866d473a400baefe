"""The kit finds every fault by its name, and none in this project's codecs; the audit of every run finds what would spoil its figures."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import dishonest_codecs
import numpy as np
import pytest

from mpq_fixtures.__main__ import main
from mpq_fixtures.codecs import IMAGE, Codec, registered
from mpq_fixtures.conformance import signals
from mpq_fixtures.conformance.audit import audit
from mpq_fixtures.conformance.checks import CHECKS
from mpq_fixtures.conformance.damage import damaged
from mpq_fixtures.conformance.fresh import FreshCodec, spread
from mpq_fixtures.conformance.kit import try_codec
from mpq_fixtures.conformance.signals import same
from mpq_fixtures.isolation.client import RemoteError
from mpq_fixtures.signals import Audio, Image, Signal

ROOT = Path(__file__).parent.parent
CODECS = {name: codec() for name, codec in registered().items() if codec.__module__.startswith("mpq_fixtures.")}
DISHONEST = [pytest.param(check, cls, id=f"{cls.__name__}-{check}") for check, all_ in dishonest_codecs.BY_FAULT.items() for cls in all_]
STREAMS = 60  # `mpq conformance` takes 1,000


def two(codec: Codec) -> list[Signal]:
    if codec.modality is IMAGE:
        return [signals.picture(120, 96), signals.picture(64, 80, seed=2)]
    return [signals.speech(16000, 1, 1.0), signals.music(16000, 1, 0.8)]


def usable(codec: Codec) -> Codec:
    if lack := codec.missing():
        pytest.skip(f"codec {codec.name}: {lack}")
    return codec


@pytest.fixture(autouse=True)
def files_of_dishonest_codecs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Let what they leave in temporary folders lie in the test's own, and delete what this worker's leave elsewhere."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    yield
    for file in Path("/tmp").glob(f"mpq_dishonest_{dishonest_codecs.WORKER}_*"):
        file.unlink()


class TestEveryCodecOfTheProject:
    @pytest.mark.parametrize("name", CODECS)
    def test_passes_the_kit(self, name: str) -> None:
        codec = usable(CODECS[name])
        qualities = codec.ladder if codec.automatic else spread(codec.ladder)  # the others take their time
        findings = try_codec(codec, qualities, STREAMS)
        assert findings.broken == {}
        assert [rung.quality for rung in findings.rungs] == list(qualities)
        assert all(outcome.faults == [] for outcome in findings.outcomes)

    @pytest.mark.parametrize("name", CODECS)
    def test_passes_the_audit(self, name: str) -> None:
        codec = usable(CODECS[name])
        assert audit(codec, codec.ladder, two(codec)) == []


class TestAnHonestCodec:
    @pytest.mark.parametrize("cls", [dishonest_codecs.Levels, dishonest_codecs.Bits])
    def test_passes_all(self, cls: type[Codec]) -> None:
        findings = try_codec(cls(), streams=STREAMS)
        assert findings.broken == {}
        assert len(findings.outcomes) == len(CHECKS) >= 20


TOLD = {
    "Attribute": "the attribute '_last' of the codec.pixels",
    "Global": "the global 'KEPT' of the module dishonest_codecs",
    "Closure": "in its closure as 'remembered'",
    "FixedFile": r"the decoder opened mpq_dishonest_\w+_last.npy in the temporary folder, which the encoder wrote",
    "HashedFile": r"the decoder opened /tmp/mpq_dishonest_\w+.npy, which the encoder wrote",
    # At which quality depends on whose file was the last to be written.
    "FileOfALibrary": "a fresh process decodes another signal at [358]b than the one that encoded",
    "Process": "a fresh process cannot decode at 4l",
    "Length": r"the length lies: len\(\) of the bytes is \d+ at 4l, but the decoder gets \d+",
    "RandomBytes": "other bytes for the same signal, one right after the other",
    "SampleBefore": "the bytes depend on the sample before",
    "OneBuffer": "one buffer for all",
    "Late": "comes back 100 samples late",
    "LateVocoder": r"speech comes back 6\d\d samples late, at 8b",
    "Moved": "0 rows and 3 columns off",
    "Seconds": "the bytes follow the clock: 1.1 s later",
    "Nanoseconds": "the bytes follow the clock: 1.1 s later",
    "Day": "the bytes follow the clock: on another day",
    "Wrapping": r"float32 \[2, 9600\] at 16000 Hz comes back at -?[\d.]+ dB, and half as strong at [\d.]+: values wrap around, at 8b",
    "WrappingPixels": r"uint8 \[64, 64, 3\] comes back at -?[\d.]+ dB, and half as strong at [\d.]+: values wrap around, at 64l",
    "Louder": "outside of -1..1",
    "FloatPixels": "pixels are float32",
    "OneForAll": "the quality is ignored: 4l, 16l, 64l give the same bytes",
    "AnyQuality": "which is no quality of its own",
    "Padded": "the rate does not rise",
    "InPlace": "changes the array that it is given",
    "FatalWhenSmall": r"uint8 \[1, 1, 3\] at 4l: the codec's process ended with SIGABRT",
    "Even": r"uint8 \[33, 17, 3\] comes back as picture uint8 \[32, 17, 3\]",
    "Greedy": "asks for more than 1 GB",
    "Endless": "took longer than",
    "Fatal": "ended with SIGABRT",
}


class TestADishonestCodec:
    @pytest.mark.parametrize(("check", "cls"), DISHONEST)
    def test_fails_by_the_name_of_its_fault(self, check: str, cls: type[Codec], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mpq_fixtures.conformance.damage.SECONDS", 1.0)
        findings = try_codec(cls(), streams=STREAMS if check == "damage" else 0)
        assert any(re.search(TOLD[cls.__name__], fault) for fault in findings.broken.get(check, ())), findings.broken


class TestTheAudit:
    @pytest.mark.parametrize(
        ("name", "sentence"),
        [
            ("FixedFile", "cannot decode in a fresh process, from the bytes alone, what it decodes here, at 4l: FileNotFoundError"),
            ("FixedFile", r"is not honest: the decoder opened mpq_dishonest_\w+_last.npy in the temporary folder, which the encoder wrote"),
            ("HashedFile", r"is not honest: the decoder opened /tmp/mpq_dishonest_\w+.npy, which the encoder wrote"),
            ("FileOfALibrary", "decodes another signal in a fresh process, from the bytes alone, than here, at 3b"),
            ("OneBuffer", "changes what it decoded when it decodes the next"),
            ("Attribute", "cannot decode in a fresh process, from the bytes alone"),
            ("RandomBytes", "gave other bytes for the same signal the second time, at 64l"),
            ("SampleBefore", "gave other bytes for the same signal in a fresh process"),
        ],
    )
    def test_says_what_is_dishonest_and_of_which_codec(self, name: str, sentence: str) -> None:
        codec = getattr(dishonest_codecs, name)()
        faults = audit(codec, codec.ladder, two(codec))
        assert all(fault.startswith(f"{codec.name} ") for fault in faults)
        assert any(re.search(sentence, fault) for fault in faults), faults

    @pytest.mark.parametrize("cls", [dishonest_codecs.Levels, dishonest_codecs.Scratch, dishonest_codecs.Bits])
    def test_says_nothing_of_an_honest_one(self, cls: type[Codec]) -> None:
        assert audit(cls(), cls.ladder, two(cls())) == []

    def test_takes_the_lowest_a_middle_and_the_highest_quality(self) -> None:
        assert spread(["a", "b", "c", "d", "e"]) == ["a", "c", "e"]
        assert spread(["a", "b"]) == ["a", "b"]
        assert spread(["a", "b", "c"], 2) == ["a", "c"]

    def test_leaves_to_the_cases_what_the_codec_refuses(self) -> None:
        codec = dishonest_codecs.Bits()
        assert audit(codec, codec.ladder, [Audio(np.zeros((1, 5), np.float32), -1)]) is None


class TestAFreshProcess:
    def test_gives_what_the_codec_gives_here(self) -> None:
        with FreshCodec(dishonest_codecs.Bits()) as fresh:
            for sound in two(dishonest_codecs.Bits()):
                data = fresh.encode(sound, "5b")
                assert data == dishonest_codecs.Bits().encode(sound, "5b")
                assert same(fresh.decode(data), dishonest_codecs.Bits().decode(data))

    def test_says_what_went_wrong_and_where(self) -> None:
        with FreshCodec(dishonest_codecs.Levels()) as fresh:
            with pytest.raises(RemoteError, match=r"ValueError: not a readable levels stream.*dishonest_codecs.py, line \d+"):
                fresh.decode(b"\0")
            with pytest.raises(RemoteError, match="ValueError"):
                fresh.encode(signals.picture(4, 4), "nonsense")

    def test_has_empty_folders_of_its_own_and_leaves_none(self) -> None:
        with FreshCodec(dishonest_codecs.Levels()) as fresh:
            fresh.start()
            assert [path for path in fresh.folder.rglob("*") if path.is_file()] == []
        assert not fresh.folder.exists()

    def test_makes_a_codec_of_its_arguments_from_a_file_that_no_path_leads_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "aside.py").write_text(ASIDE)
        module = load(tmp_path / "aside.py")
        monkeypatch.setitem(sys.modules, "aside", module)  # as pytest does with files of its import mode "importlib"
        codec = module.Aside(7)
        assert audit(codec, ("a",), [signals.picture(8, 8)]) == []
        with FreshCodec(codec) as fresh:
            assert fresh.encode(signals.picture(8, 8), "a")[:1] == b"\x07"


ASIDE = """
import numpy as np
from mpq_fixtures.codecs import IMAGE, Codec
from mpq_fixtures.signals import Image

class Aside(Codec):
    modality, ladder = IMAGE, ("a",)
    def __init__(self, number):
        self.number = number
    def address(self):
        return {**super().address(), "arguments": {"number": self.number}}
    def build(self):
        return "version 1"
    def encode(self, signal, quality):
        return bytes([self.number, *signal.pixels.shape[:2]]) + signal.pixels.tobytes()
    def decode(self, data):
        return Image(np.frombuffer(data[3:], np.uint8).reshape(data[1], data[2], 3))

Aside.name = "aside"
"""


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestTheSignals:
    def test_are_the_same_in_every_run_and_unlike_one_another(self) -> None:
        assert same(signals.picture(), signals.picture())
        assert not same(signals.picture(), signals.picture(seed=2))
        assert same(signals.speech(16000), signals.speech(16000))

    def test_fall_off_with_frequency_as_photographs_do(self) -> None:
        """Amplitudes of photographs fall with frequency at slopes of some -0.8 to -1.5 (Tolhurst et al., Ophthal. Physiol. Opt. 1992)."""
        brightness = signals.picture(256, 256).pixels.mean(axis=2)
        amplitude = np.abs(np.fft.fft2(brightness - brightness.mean()))
        frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
        rings = [(low, amplitude[(frequency >= low) & (frequency < 1.3 * low)].mean()) for low in 0.02 * 1.3 ** np.arange(11)]
        slope = np.polyfit(*np.log(np.array(rings).T), 1)[0]
        assert -1.6 < slope < -0.8

    @pytest.mark.parametrize("shift", [-100, -1, 0, 1, 100])
    def test_show_by_how_much_they_were_shifted(self, shift: int) -> None:
        sound = signals.speech(16000, 2)
        moved = Audio(np.roll(sound.waveform, shift, axis=1), 16000)
        assert signals.delay(sound, moved)[0] == shift
        picture = signals.picture()
        assert signals.displacement(picture, Image(np.roll(picture.pixels, (shift, 2), (0, 1)))) == (shift, 2) or abs(shift) == 100


class TestDamage:
    def test_is_the_same_for_a_seed_and_never_none(self) -> None:
        streams = [bytes(range(200)), b"another stream" * 20]
        made = [damaged(streams, seed) for seed in range(500)]
        assert made == [damaged(streams, seed) for seed in range(500)]
        assert not set(streams) & set(made)
        assert len(set(made)) > 400

    def test_cuts_lengthens_and_changes(self) -> None:
        stream = bytes(range(200))
        made = [damaged([stream], seed) for seed in range(500)]
        assert b"" in made
        assert any(len(data) > 1000 for data in made)
        assert sum(stream.startswith(data) for data in made) > 50
        assert sum(len(data) == len(stream) for data in made) > 150

    def test_that_claims_37_channels_does_not_end_the_process_of_aac(self) -> None:
        data = CODECS["aac"].encode(signals.speech(16000, 1, 0.5), "128k")
        with FreshCodec(CODECS["aac"]) as fresh, pytest.raises(RemoteError, match="ValueError: not a readable aac stream"):
            fresh.decode(data[:35] + CLAIMS_CHANNELS + data[135:])


CLAIMS_CHANNELS = bytes.fromhex(
    "644be0a657fb58e1c42f0ce4336f5d8875fca8e84e1b01876849bf2f9edbaefa7b96d7a64833bbe7dc65fb9d6faa89f1346b"
    "de807bbe2c52e8bf58f79af1e0af88743c872a87207b392cfc71f58e3e484c398df1a35d44ac29fbb7a276251e123ba2214d"
)
"""PyAV 18.1 read beyond the planes of what FFmpeg made of this, and crashed."""


def mpq(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mpq_fixtures", "conformance", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)


class TestTheCommand:
    def test_passes_an_honest_codec_and_shows_its_ladder_and_every_check(self) -> None:
        run = mpq("dishonest_codecs:Levels", "--streams", "20", folder=ROOT / "tests")
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout.splitlines()[0].startswith("levels: zlib ")
        assert re.search(r"^  16l +[\d,]+ +\d\.\d{3} +3\d\.\d\d$", run.stdout, re.MULTILINE)
        assert re.search(r"levels passed all \d+ checks", run.stdout)
        assert all(f"passed     {check.name}" in run.stdout for check in CHECKS)
        assert "20 damaged and cut streams" in run.stdout
        assert run.stderr == ""

    def test_fails_a_dishonest_one_and_says_what_broke(self) -> None:
        run = mpq("dishonest_codecs.py:FixedFile", "--streams", "0", "--quality", "4l", folder=ROOT / "tests")
        assert run.returncode == 1
        assert re.search(r"FAILED     no-files +the decoder opened\s+mpq_dishonest_\w+_last\.npy", run.stdout)
        assert re.search(r"dishonest_fixedfile \d of \d+ checks failed: .*no-files", run.stdout)
        assert "  16l" not in run.stdout

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["opsu"], "no codec is called 'opsu'; did you mean 'opus'?"),
            (["no_such_module:Codec"], "no_such_module does not import: ModuleNotFoundError"),
            (["no_such_file.py:Codec"], "no_such_file.py: there is no such file"),
            (["json:Codec"], "json:Codec: json has no 'Codec'"),
            (["json:JSONDecoder"], "json:JSONDecoder is no codec: it must be a subclass of mpq_fixtures.codecs.Codec"),
            (["mpq_fixtures.codecs:Codec"], "mpq_fixtures.codecs:Codec has no name"),
            (["lacking:Lacking"], "codec lacking: it lacks its weights: mpq fetch lacking"),
            (["lacking:Unfinished"], "codec lacking:Unfinished: it lacks the method build, decode, encode"),
            (["jpeg", "--quality", "best"], "'best' is not one of"),
        ],
    )
    def test_says_in_a_sentence_what_cannot_be_tried(
        self, arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "lacking.py").write_text(LACKING)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.delitem(sys.modules, "lacking", raising=False)
        assert main(["conformance", *arguments]) == 2
        told = capsys.readouterr()
        assert told.err.startswith(f"mpq conformance: {sentence}")
        assert told.err.count("\n") == 1
        assert told.out == ""

    @pytest.mark.parametrize("count", ["-1", "many"])
    def test_takes_whole_numbers_of_streams(self, count: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["conformance", "jpeg", "--streams", count])
        assert "whole number" in capsys.readouterr().err


LACKING = """
from mpq_fixtures.codecs import IMAGE, Codec
from dishonest_codecs import Levels

class Lacking(Levels):
    def missing(self, qualities=()):
        return "it lacks its weights: mpq fetch lacking"

Lacking.name = "lacking"

class Unfinished(Codec):
    modality, ladder = IMAGE, ("a",)

Unfinished.name = "unfinished"
"""
