"""Codecs behind commands: the worked examples of the documentation with the real programs, and small programs that misbehave."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import ROOT, places
from trial_signals import photo, speech

from mpq_fixtures.__main__ import main
from mpq_fixtures.codecs import Codec, CodecError, from_address
from mpq_fixtures.codecs.command import read_codec
from mpq_fixtures.conformance.fresh import FreshCodec
from mpq_fixtures.isolation.client import ProcessError
from mpq_fixtures.pocket.speech import utterances
from mpq_fixtures.signals import Audio, Image
from mpq_fixtures.suite import SuiteError
from mpq_fixtures.suite.file import load_suite

EXAMPLE = ROOT / "docs" / "command_codecs.toml"


def example(name: str) -> Codec:
    """A codec of the worked example; the test is skipped where its program is not here."""
    (table,) = [table for table in tomllib.loads(EXAMPLE.read_text())["codec"] if table["name"] == name]
    codec = read_codec(table)
    if codec.missing():
        pytest.skip(codec.missing())
    return codec


def psnr(original: Image, decoded: Image) -> float:
    return float(10 * np.log10(255**2 / np.mean((original.pixels.astype(float) - decoded.pixels) ** 2)))


class TestVvc:
    def test_costs_more_and_looks_better_from_quality_to_quality(self) -> None:
        codec, original = example("vvc"), photo()
        streams = [codec.encode(original, quality) for quality in codec.ladder]
        assert [len(data) for data in streams] == sorted(len(data) for data in streams)
        quality = [psnr(original, codec.decode(data)) for data in streams]
        assert quality == sorted(quality)
        assert quality[-1] > 34

    def test_writes_a_stream_of_the_format(self) -> None:
        data = example("vvc").encode(photo(64, 64), "qp37")
        assert data[:2] == bytes([64, 64])  # width and height
        # ITU-T H.266, B.2 and 7.4.2.2: a start code and a NAL unit header of two bytes, whose layer is 0 and temporal id plus one is 1
        assert data[2:].startswith(b"\0\0\0\1\0")
        assert data[7] & 7 == 1

    @pytest.mark.parametrize("size", [(1, 1), (33, 17), (97, 131)])
    def test_gives_pictures_back_in_their_size(self, size: tuple[int, int]) -> None:
        codec, original = example("vvc"), photo(*size)
        assert codec.decode(codec.encode(original, "qp27")).pixels.shape == (*size, 3)

    def test_writes_the_same_bytes_again(self) -> None:
        codec = example("vvc")
        assert codec.encode(photo(97, 131), "qp32") == codec.encode(photo(97, 131), "qp32")

    def test_refuses_damaged_bytes(self) -> None:
        codec = example("vvc")
        for data in (b"", b"\x05", b"@@" + bytes(50), codec.encode(photo(64, 64), "qp37")[:9]):
            with pytest.raises(ValueError, match=r"vvc|ffmpeg|number"):
                codec.decode(data)

    def test_is_the_same_codec_from_its_address(self) -> None:
        codec = example("vvc")
        assert from_address(json.loads(json.dumps(codec.address()))).fingerprint() == codec.fingerprint()


class TestCodec2:
    def test_keeps_the_envelope_of_speech_in_time(self) -> None:
        codec = example("codec2")
        for sample in utterances().samples[:60:20]:
            original = sample.signal()
            assert isinstance(original, Audio)
            decoded = codec.decode(codec.encode(original, "2400"))
            assert decoded.waveform.shape == original.waveform.shape
            loud, found = (np.convolve(np.abs(one.waveform[0]), np.hanning(800), "same") for one in (original, decoded))
            # A vocoder keeps no waveform; its loudness follows that of the original to within a frame of 20 ms.
            lag = int(np.argmax(np.correlate(found - found.mean(), loud - loud.mean(), "full"))) - len(loud) + 1
            assert abs(lag) < 320
            assert np.corrcoef(loud, found)[0, 1] > 0.6

    def test_costs_what_its_modes_say(self) -> None:
        codec, original = example("codec2"), speech(8000, 1, 4)
        for quality, packet, frame in (("1200", 6, 40), ("1300", 7, 40), ("2400", 6, 20), ("3200", 8, 20)):
            measured = codec.ledger(codec.encode(original, quality)).payload - 7  # a .c2 file begins with seven bytes
            assert measured == packet * (4060 // frame)  # 480 samples of padding are 60 ms

    def test_takes_sounds_of_any_kind(self) -> None:
        codec = example("codec2")
        for original in (speech(44100, 2, 0.5), speech(16000, 1, 0.1)):
            decoded = codec.decode(codec.encode(original, "1300"))
            assert decoded.waveform.shape == original.waveform.shape
            assert decoded.sample_rate == original.sample_rate


def in_group(group: int) -> list[int]:
    """The processes of a group that still run a second later."""
    waits_until = time.monotonic() + 1
    while True:
        found = []
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                state, _, own = file.read_text().rpartition(")")[2].split()[:3]
                found += [int(file.parent.name)] if state != "Z" and int(own) == group else []
        if not found or time.monotonic() > waits_until:
            return found
        time.sleep(0.02)


ENCODER = """
import os, sys, time
mode, source, target = sys.argv[1:]
if mode == "hangs":
    time.sleep(60)
if mode == "dies":
    os.abort()
if mode == "refuses":
    sys.exit("this picture is too small for me")
if mode != "nothing":
    open(target, "wb").write(open(source, "rb").read())
open(os.path.join(os.path.dirname(source), "left-behind"), "w").close()
"""

ENCODE = """
import json, sys
import numpy as np
from mpq_fixtures.codecs.command import read_codec
from mpq_fixtures.signals import Image
read_codec(json.loads(sys.argv[1])).encode(Image(np.zeros((20, 30, 3), "uint8")), sys.argv[2])
"""


class TestTheKit:
    @pytest.mark.parametrize("name", ["vvc", "codec2"])
    def test_passes_the_worked_examples(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        codec = example(name)
        points = [argument for quality in (codec.ladder[0], codec.ladder[-1]) for argument in ("--quality", quality)]
        assert main(["conformance", f"{EXAMPLE}:{name}", "--streams", "10", *points]) == 0, capsys.readouterr().out

    def test_names_the_codecs_that_a_file_declares(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["conformance", f"{EXAMPLE}:vcc"]) == 2
        assert "declares no codec 'vcc'; did you mean 'vvc'?" in capsys.readouterr().err


class TestCommand:
    def table(self, folder: Path, **parts: Any) -> dict[str, Any]:
        (folder / "encoder.py").write_text(ENCODER)
        run = f"{sys.executable} {folder}/encoder.py"
        return {
            "name": "plain",
            "modality": "image",
            "encode": f"{run} {{quality}} {{input}} {{output}}",
            "decode": f"{run} copy {{input}} {{output}}",
            "bitstream": ".bin",
            "qualities": ["copies", "nothing", "dies", "refuses", "hangs"],
            "seconds": 2,
            **parts,
        }

    def test_carries_files_there_and_back(self, tmp_path: Path) -> None:
        codec, original = read_codec(self.table(tmp_path)), photo(20, 30)
        assert np.array_equal(codec.decode(codec.encode(original, "copies")).pixels, original.pixels)

    @pytest.mark.parametrize("suffix", [".wav", ".raw"])
    def test_carries_sounds_there_and_back(self, tmp_path: Path, suffix: str) -> None:
        parts = {"sample_rate": 16000, "channels": 1} if suffix == ".raw" else {}
        codec = read_codec(self.table(tmp_path, modality="audio", signal=suffix, **parts))
        original = speech(16000, 2, 0.2)
        decoded = codec.decode(codec.encode(original, "copies"))
        assert np.abs(decoded.waveform - original.waveform).max() < 1e-4

    @pytest.mark.parametrize(
        ("quality", "message"),
        [
            ("nothing", "wrote no output.bin"),
            ("dies", "ended with SIGABRT"),
            ("refuses", "exit code 1: this picture is too small for me"),
            ("hangs", "took longer than 2 s and was ended"),
        ],
    )
    def test_that_fails_says_how(self, tmp_path: Path, quality: str, message: str) -> None:
        codec, started = read_codec(self.table(tmp_path)), time.monotonic()
        with pytest.raises(ValueError, match=message):
            codec.encode(photo(20, 30), quality)
        assert time.monotonic() - started < 30

    def test_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        work = tmp_path / "work"
        work.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(work))
        codec = read_codec(self.table(tmp_path))
        codec.decode(codec.encode(photo(20, 30), "copies"))
        assert list(work.iterdir()) == []

    def test_of_a_process_that_is_killed_leaves_nothing_for_longer_than_the_next_takes_to_come(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work = tmp_path / "work"
        work.mkdir()
        monkeypatch.setenv("TMPDIR", str(work))
        command = [sys.executable, "-c", ENCODE, json.dumps(self.table(tmp_path, seconds=60))]
        process = subprocess.Popen([*command, "hangs"])
        waits_until = time.monotonic() + 60
        while not list(work.glob("*/files/input*")) and time.monotonic() < waits_until:
            time.sleep(0.05)
        process.kill()
        process.wait()
        assert list(work.glob("*/files/input*"))
        subprocess.run([*command, "copies"], check=True)
        assert list(work.iterdir()) == []

    @pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv is not here")
    def test_ends_with_a_process_that_is_killed(self, tmp_path: Path) -> None:
        (tmp_path / "slow.sh").write_text('echo $$ > "$3"\nexec sleep 943\n')
        pid, slow = tmp_path / "pid", f"sh {tmp_path}/slow.sh {{input}} {{output}} {tmp_path}/pid"
        process = subprocess.Popen([sys.executable, "-c", ENCODE, json.dumps(self.table(tmp_path, encode=slow, seconds=600)), "copies"])
        waits_until = time.monotonic() + 60
        while not (pid.exists() and pid.read_text().endswith("\n")) and time.monotonic() < waits_until:
            time.sleep(0.05)
        command = int(pid.read_text())
        assert in_group(command)
        process.kill()
        process.wait()
        while in_group(command) and time.monotonic() < waits_until:
            time.sleep(0.05)
        assert not in_group(command)

    @pytest.mark.parametrize("background", ["(sleep 943 > /dev/null 2>&1 &)", "sleep 943 > /dev/null 2>&1 & exit 3"])
    def test_leaves_no_process_behind(self, tmp_path: Path, background: str) -> None:
        (tmp_path / "left.sh").write_text(f'echo $$ > "$3"\ncp "$1" "$2"\n{background}\n')
        codec = read_codec(self.table(tmp_path, encode=f"sh {tmp_path}/left.sh {{input}} {{output}} {tmp_path}/pid"))
        with suppress(ValueError):
            codec.encode(photo(20, 30), "copies")
        group = int((tmp_path / "pid").read_text())
        assert not in_group(group)

    def test_in_a_process_of_its_own_ends_with_that(self, tmp_path: Path) -> None:
        (tmp_path / "slow.sh").write_text('echo $$ > "$3"\nsleep 943\n')
        codec = read_codec(self.table(tmp_path, encode=f"sh {tmp_path}/slow.sh {{input}} {{output}} {tmp_path}/pid", seconds=600))
        with FreshCodec(codec, seconds=2) as fresh:
            fresh.start()
            with pytest.raises(ProcessError, match="took longer than 2 s"):
                fresh.encode(photo(20, 30), "copies")
        assert not in_group(int((tmp_path / "pid").read_text()))

    def test_that_is_not_here_names_the_command_that_brings_it(self, tmp_path: Path) -> None:
        codec = read_codec(self.table(tmp_path, encode="no-such-encoder {input} {output}", install="apt install such"))
        assert codec.missing() == "its program 'no-such-encoder' is not here: apt install such"

    def test_counts_a_changed_program_or_setting_as_another_codec(self, tmp_path: Path) -> None:
        first = read_codec(self.table(tmp_path)).fingerprint()
        assert first == read_codec(self.table(tmp_path)).fingerprint()
        assert first == read_codec(self.table(tmp_path, install="elsewhere")).fingerprint()
        assert first != read_codec(self.table(tmp_path, bitstream=".bits")).fingerprint()

    def test_beside_its_suite_file_is_found_from_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "enc").write_text("#!/bin/sh\ncp $1 $2\n")
        (tmp_path / "bin" / "enc").chmod(0o755)
        (tmp_path / "dec.sh").write_text("cp $1 $2\n")
        monkeypatch.chdir("/")
        table = self.table(tmp_path, encode="./bin/enc {input} {output}", decode="sh dec.sh {input} {output}")
        codec, original = read_codec(table, tmp_path), photo(20, 30)
        assert codec.missing() == ""
        again = from_address(json.loads(json.dumps(codec.address())))
        assert np.array_equal(again.decode(codec.encode(original, "copies")).pixels, original.pixels)
        moved = shutil.copytree(tmp_path, tmp_path / "elsewhere")
        assert read_codec(table, moved).fingerprint() == codec.fingerprint()
        (moved / "bin" / "enc").unlink()
        assert read_codec(table, moved).missing().startswith("its program './bin/enc' is not here")

    @pytest.mark.parametrize("script", ["{}/script.sh", "script.sh"])
    def test_counts_a_changed_file_that_its_commands_name_as_another_codec(self, tmp_path: Path, script: str) -> None:
        (tmp_path / "script.sh").write_text("cp $1 $2\n")
        table = self.table(tmp_path, decode=f"sh {script.format(tmp_path)} {{input}} {{output}}")
        first = read_codec(table, tmp_path).fingerprint()
        assert first == read_codec(table, tmp_path).fingerprint()
        (tmp_path / "script.sh").write_text("cp -f $1 $2\n")
        assert first != read_codec(table, tmp_path).fingerprint()

    @pytest.mark.parametrize("modality", ["image", "audio"])
    def test_whose_decoder_fails_says_how(self, tmp_path: Path, modality: str) -> None:
        codec = read_codec(self.table(tmp_path, modality=modality, decode="sh -c 'echo disk is full; exit 3' {input} {output}"))
        original = photo(20, 30) if modality == "image" else speech(16000, 1, 0.1)
        with pytest.raises(ValueError, match=r"^sh ended with exit code 3: disk is full$"):
            codec.decode(codec.encode(original, "copies"))

    def test_names_a_rate_where_its_quality_does(self, tmp_path: Path) -> None:
        codec, sound = read_codec(self.table(tmp_path, modality="audio", qualities={"6.5k": "1", "peak": "copies"})), speech(16000, 1, 2)
        assert codec.nominal_bits(sound, "6.5k") == 13_000
        assert codec.nominal_bits(sound, "peak") is None

    def test_may_decode_to_16_bits(self, tmp_path: Path) -> None:
        """Such a sample s stands for s / 65535 of white (ISO/IEC 15948, 13.12), as one of 8 bits for s / 255."""
        (tmp_path / "deep.py").write_text(
            "import sys\nimport numpy as np\nfrom PIL import Image\n"
            "Image.fromarray(np.asarray(Image.open(sys.argv[1]).convert('L')).astype('u2') * 257).save(sys.argv[2])\n"
        )
        codec = read_codec(self.table(tmp_path, bitstream=".png", decode=f"{sys.executable} {tmp_path}/deep.py {{input}} {{output}}"))
        grey = Image(np.repeat(photo(20, 30).pixels[:, :, :1], 3, axis=2))
        assert np.array_equal(codec.decode(codec.encode(grey, "copies")).pixels, grey.pixels)

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ({"encode": "encoder {input}"}, r"encode: the command does not say \{output\}"),
            ({"decode": 3}, "decode: 3 must be a command"),
            ({"encode": "enc '{input} {output}"}, r"encode: .* is no command: No closing quotation"),
            ({"name": "My-codec"}, "name: 'My-codec' must be lower case"),
            ({"modality": "video"}, 'modality: write "image" or "audio"'),
            ({"qualities": []}, "qualities: write a list"),
            ({"signal": ".wav"}, "signal: '.wav' must be '.png' or '.ppm'"),
            ({"modality": "audio", "signal": ".raw"}, "give sample_rate and channels"),
            ({"bitstream": "/../x"}, "bitstream: .* must be the ending of a file name"),
            ({"seconds": 0}, "seconds: 0 must be a number of seconds above 0"),
            ({"multiple": 0}, "multiple: 0 must be a whole number of pixels"),
            ({"suffix": ".x"}, "unknown key 'suffix'"),
        ],
    )
    def test_that_cannot_be_is_refused_in_a_sentence(self, tmp_path: Path, parts: dict[str, Any], message: str) -> None:
        with pytest.raises(CodecError, match=message):
            read_codec(self.table(tmp_path, **parts))


SUITE = """
name = "mine"
[[codec]]
name = "plain"
modality = "image"
encode = "cp {input} {output}"
decode = "cp {input} {output}"
bitstream = ".bin"
qualities = ["any"]
[[evaluation]]
name = "pictures"
task = "image_classification"
model = "python:a:b"
dataset = { path = "python:c:d" }
"""


class TestASuite:
    def write(self, folder: Path, text: str) -> Path:
        (folder / "mine.toml").write_text(text)
        return folder / "mine.toml"

    def test_takes_its_own_codecs_with_the_others(self, tmp_path: Path) -> None:
        (evaluation,) = load_suite(self.write(tmp_path, SUITE))
        assert [case.id for case in evaluation.cases if case.codec == "plain"] == ["pictures-plain-any"]
        assert {"jpeg", "plain", "webp"} <= set(evaluation.codecs)

    def test_finds_their_programs_beside_itself(self, tmp_path: Path) -> None:
        (tmp_path / "enc").write_text("#!/bin/sh\ncp $1 $2\n")
        (tmp_path / "enc").chmod(0o755)
        (evaluation,) = load_suite(self.write(tmp_path, SUITE.replace('encode = "cp', 'encode = "./enc')))
        codec = evaluation.codecs["plain"]
        assert codec.missing() == ""
        assert codec.encode(photo(20, 30), "any")

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"plain"', '"jpeg"', "there is a codec 'jpeg' already"),
            ('"plain"', '"evaluation"', "every id holds"),
            ("encode", "encoder", r"mine.toml: codec 1 \(plain\): unknown key 'encoder'; did you mean 'encode'"),
            ("[[codec]]", "[codec]", "two brackets"),
            ('"pictures"', '"plainly"', "contains the codec name 'plain'"),
        ],
    )
    def test_says_what_is_wrong(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        with pytest.raises(SuiteError, match=message):
            load_suite(self.write(tmp_path, SUITE.replace(old, new, 1)))

    def test_of_the_documentation_runs(self, tmp_path: Path) -> None:
        example("vvc"), example("codec2")
        command = [sys.executable, "-m", "pytest", "evaluations", "-q", "-p", "no:cacheprovider", "--mpq-suite", str(EXAMPLE)]
        command += ["-k", "qp37 or 2400", "--mpq-samples", "4", *places(tmp_path)]
        run = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=300
        )
        assert "2 passed" in run.stdout, run.stdout

    def test_of_the_documentation_is_the_one_that_it_explains(self) -> None:
        shown = (ROOT / "docs" / "codecs.md").read_text().partition("```toml\n")[2].partition("```")[0]
        assert tomllib.loads(shown)["codec"] == tomllib.loads(EXAMPLE.read_text())["codec"]
