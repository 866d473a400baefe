"""Every registered codec at every quality: what goes in comes back, from the bytes alone, the same in every run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trial_signals import music, photo, speech

from mpq_fixtures import codecs
from mpq_fixtures.codecs import AUDIO, IMAGE, Codec, CodecError, registered
from mpq_fixtures.codecs._audio import require, varint
from mpq_fixtures.codecs.aac import access_units
from mpq_fixtures.errors import MissingAsset
from mpq_fixtures.signals import Audio, Image

ROOT = Path(__file__).parent.parent
CONVENTIONAL = {"aac", "avif", "jp2k", "jpeg", "jxl", "mp3", "opus", "vorbis", "webp"}
BUILT_IN = CONVENTIONAL | {"amr", "av1", "heic", "hevc", "lc3"}
IMAGES = {name: codec() for name, codec in registered(IMAGE).items() if name in BUILT_IN}
SOUNDS = {name: codec() for name, codec in registered(AUDIO).items() if name in BUILT_IN}
CODECS: dict[str, Codec] = {**IMAGES, **SOUNDS}
HERE = [name for name, codec in CODECS.items() if not codec.missing()]

BAND = {"amr": (1000, 3400)}
"""Hz in which a codec keeps the waveform, where that is not all: AMR's high-pass filters turn the phase below (TS 26.090, 5.1 and 6.2)."""


def each(names: Iterable[str], *, point: bool = False) -> pytest.MarkDecorator:
    """Parametrise over codecs, or over their qualities too; those that this machine lacks something for are skipped."""
    skips = {name: pytest.mark.skipif(name not in HERE, reason=f"{name}: {CODECS[name].missing()}") for name in sorted(names)}
    if not point:
        return pytest.mark.parametrize("name", [pytest.param(name, marks=skip) for name, skip in skips.items()])
    points = [pytest.param(name, quality, marks=skip) for name, skip in skips.items() for quality in CODECS[name].ladder]
    return pytest.mark.parametrize(("name", "quality"), points)


on_images, on_sounds = each(IMAGES, point=True), each(SOUNDS, point=True)


def psnr(original: Image, decoded: Image) -> float:
    error = np.mean((original.pixels.astype(float) - decoded.pixels) ** 2)
    return float(10 * np.log10(255**2 / error))


def si_sdr(original: Audio, decoded: Audio) -> float:
    """Le Roux et al., SDR - half-baked or well done?, ICASSP 2019, equation 4, over all channels at once."""
    target, estimate = original.waveform.ravel().astype(float), decoded.waveform.ravel().astype(float)
    target = target * (estimate @ target) / (target @ target)
    return float(10 * np.log10(np.sum(target**2) / np.sum((estimate - target) ** 2)))


def audible(name: str, sound: Audio) -> Audio:
    """The sound in the band that a codec keeps."""
    if name not in BAND:
        return sound
    frames = sound.waveform.shape[1]
    frequencies = np.fft.rfftfreq(frames, 1 / sound.sample_rate)
    low, high = BAND[name]
    spectrum = np.fft.rfft(sound.waveform) * ((frequencies >= low) & (frequencies <= high))
    return Audio(np.fft.irfft(spectrum, frames).astype(np.float32), sound.sample_rate)


def delay(name: str, original: Audio, decoded: Audio) -> int:
    """The shift in samples at which the two correlate best, over all channels."""
    original, decoded = audible(name, original), audible(name, decoded)
    size = 2 * original.waveform.shape[1]
    spectrum = np.fft.rfft(decoded.waveform, size) * np.fft.rfft(original.waveform, size).conj()
    shift = int(np.argmax(np.fft.irfft(spectrum, size).sum(axis=0)))
    return shift if shift < size // 2 else shift - size


def like(original: Audio, decoded: Audio) -> bool:
    waveform = decoded.waveform
    same = waveform.shape == original.waveform.shape and decoded.sample_rate == original.sample_rate
    return same and waveform.dtype == np.float32 and bool(np.isfinite(waveform).all()) and float(np.abs(waveform).max()) <= 1


def rising(values: list[float]) -> bool:
    return all(low < high for low, high in pairwise(values))


class TestTheSet:
    def test_holds_the_conventional_codecs(self) -> None:
        assert set(registered()) >= BUILT_IN
        assert {name for name in BUILT_IN if registered()[name].automatic} == CONVENTIONAL

    def test_has_the_points_of_the_study(self) -> None:
        assert [IMAGES["jpeg"].ladder[0], IMAGES["webp"].ladder[0]] == ["q5", "q0"]
        assert [SOUNDS["opus"].ladder[0], SOUNDS["mp3"].ladder[0]] == ["6k", "8k"]

    def test_realises_32_kbit_per_second_where_the_study_asked_mp3_for_8(self) -> None:
        sound = speech(48000, 1, 4)
        rate = 8 * len(SOUNDS["mp3"].encode(sound, "8k")) / sound.elements
        assert rate == pytest.approx(0.670, rel=0.03)  # bits per sample as printed for Common Voice, at 48 kHz mono

    @each(BUILT_IN)
    def test_has_at_least_five_qualities_and_says_what_it_is_built_of(self, name: str) -> None:
        codec = CODECS[name]
        assert len(codec.ladder) >= 5
        assert any(character.isdigit() for character in codec.build())
        assert codec.build() == type(codec)().build()


class TestAMissingPackage:
    @pytest.mark.parametrize(
        ("name", "module", "command"), [("heic", "pillow_heif", "pip install pillow-heif"), ("lc3", "lc3", "pip install lc3py")]
    )
    def test_is_named_with_the_command_that_brings_it(self, name: str, module: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, module, None)  # Python's way of saying that it cannot be imported
        assert CODECS[name].missing().endswith(command)
        with pytest.raises(MissingAsset, match=f"codec {name}: it needs .*: {command}"):
            CODECS[name].prepare()

    def test_may_be_a_part_of_pyav(self) -> None:
        with pytest.raises(MissingAsset, match=r"has no libspeex and no libvvenc: pip install .* av$"):
            require("libmp3lame", "libspeex", "libvvenc")

    @pytest.mark.parametrize("name", sorted(CONVENTIONAL | {"amr", "av1", "hevc"}))
    def test_is_not_missed_by_others(self, name: str) -> None:
        CODECS[name].prepare()


class TestLoudSounds:
    @each({"amr"})
    @pytest.mark.parametrize("channels", [1, 2])
    def test_come_back_as_quiet_ones_do(self, name: str, channels: int) -> None:
        """What is clipped at 16 kHz goes beyond full scale at 8 kHz, as any band-limited sound does (Gibbs)."""
        loud = Audio(np.clip(8 * speech(16000, channels, 1.0).waveform, -1, 1), 16000)
        quiet = Audio(loud.waveform / 2, 16000)
        for quality in SOUNDS[name].ladder:
            near, near_quiet = (si_sdr(sound, SOUNDS[name].decode(SOUNDS[name].encode(sound, quality))) for sound in (loud, quiet))
            assert near > near_quiet - 3


class TestPictures:
    @on_images
    @pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (33, 17), (63, 65), (7, 300)])
    def test_come_back_in_their_size(self, name: str, quality: str, size: tuple[int, int]) -> None:
        original = photo(*size)
        decoded = IMAGES[name].decode(IMAGES[name].encode(original, quality))
        assert decoded.pixels.shape == (*size, 3)
        assert decoded.pixels.dtype == np.uint8
        assert decoded.pixels.flags.writeable

    @on_images
    def test_of_one_colour_stay_close_to_it(self, name: str, quality: str) -> None:
        original = Image(np.full((40, 56, 3), (200, 120, 40), np.uint8))
        decoded = IMAGES[name].decode(IMAGES[name].encode(original, quality))
        assert np.abs(decoded.pixels.astype(int) - original.pixels).mean() < 24

    @each({"av1", "heic", "hevc"})
    @pytest.mark.parametrize(
        "colour", [(0, 0, 0), (255, 255, 255), (128, 128, 128), (200, 120, 40), (10, 20, 240), (230, 0, 60), (0, 90, 0)]
    )
    def test_of_one_colour_keep_it_through_another_colour_space(self, name: str, colour: tuple[int, int, int]) -> None:
        original = Image(np.full((40, 57, 3), colour, np.uint8))
        decoded = IMAGES[name].decode(IMAGES[name].encode(original, IMAGES[name].ladder[-1]))
        assert np.abs(decoded.pixels.astype(int) - original.pixels).max() <= 2

    @each({"av1", "avif", "heic", "hevc", "jpeg", "webp"})
    def test_that_are_too_wide_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"{name} cannot hold"):
            IMAGES[name].encode(Image(np.zeros((2, 70000, 3), np.uint8)), IMAGES[name].ladder[0])

    @each({"av1", "hevc"})
    def test_may_be_long(self, name: str) -> None:
        original = Image(np.tile(photo(2, 300).pixels, (1, 30, 1)))
        assert IMAGES[name].decode(IMAGES[name].encode(original, IMAGES[name].ladder[0])).pixels.shape == (2, 9000, 3)

    @each(IMAGES)
    def test_cost_more_and_look_better_from_quality_to_quality(self, name: str) -> None:
        codec, original = IMAGES[name], photo()
        streams = [codec.encode(original, quality) for quality in codec.ladder]
        quality = [psnr(original, codec.decode(data)) for data in streams]
        assert rising([len(data) for data in streams])
        assert rising(quality)
        assert quality[0] < 27
        assert quality[-1] > 37

    @each(IMAGES)
    def test_need_not_be_contiguous(self, name: str) -> None:
        codec, original = IMAGES[name], photo(64, 64)
        turned = Image(original.pixels[::-1].transpose(1, 0, 2))
        assert codec.encode(turned, codec.ladder[0]) == codec.encode(Image(turned.pixels.copy()), codec.ladder[0])

    @each(IMAGES)
    def test_that_are_none_are_refused(self, name: str) -> None:
        for pixels in (np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)):
            with pytest.raises(ValueError, match="not uint8"):
                IMAGES[name].encode(Image(pixels), IMAGES[name].ladder[0])


class TestSounds:
    @on_sounds
    @pytest.mark.parametrize("channels", [1, 2])
    @pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000])
    def test_come_back_whole_and_in_time(self, name: str, quality: str, sample_rate: int, channels: int) -> None:
        original = speech(sample_rate, channels, 0.83)
        decoded = SOUNDS[name].decode(SOUNDS[name].encode(original, quality))
        assert like(original, decoded)
        assert abs(delay(name, original, decoded)) <= 1

    @on_sounds
    def test_of_a_tenth_of_a_second_come_back_in_time(self, name: str, quality: str) -> None:
        original = speech(16000, 1, 0.1)
        decoded = SOUNDS[name].decode(SOUNDS[name].encode(original, quality))
        assert like(original, decoded)
        assert abs(delay(name, original, decoded)) <= 1

    @on_sounds
    @pytest.mark.parametrize("frames", [1, 2, 577, 1153])
    def test_of_a_few_frames_come_back(self, name: str, quality: str, frames: int) -> None:
        original = Audio(speech(22050, 2, 0.1).waveform[:, :frames], 22050)
        assert like(original, SOUNDS[name].decode(SOUNDS[name].encode(original, quality)))

    @on_sounds
    @pytest.mark.parametrize("channels", [1, 2])
    def test_of_silence_stay_silent(self, name: str, quality: str, channels: int) -> None:
        original = Audio(np.zeros((channels, 16000), np.float32), 16000)
        decoded = SOUNDS[name].decode(SOUNDS[name].encode(original, quality))
        assert like(original, decoded)
        assert np.abs(decoded.waveform).max() < 1e-2

    @on_sounds
    def test_that_clip_stay_in_range_and_in_time(self, name: str, quality: str) -> None:
        original = Audio(np.clip(8 * speech(16000, 2, 0.7).waveform, -1, 1), 16000)
        decoded = SOUNDS[name].decode(SOUNDS[name].encode(original, quality))
        assert like(original, decoded)
        assert abs(delay(name, original, decoded)) <= 1

    @each(SOUNDS)
    @pytest.mark.parametrize(("sample_rate", "channels"), [(16000, 3), (16000, 6), (7000, 1), (37800, 2), (96000, 1)])
    def test_of_unusual_kinds_come_back(self, name: str, sample_rate: int, channels: int) -> None:
        original = speech(sample_rate, channels, 0.4)
        for quality in SOUNDS[name].ladder:
            assert like(original, SOUNDS[name].decode(SOUNDS[name].encode(original, quality)))

    @each(SOUNDS)
    def test_keep_their_channels_apart(self, name: str) -> None:
        left = speech(16000, 1, 1).waveform[0]
        original = Audio(np.stack([left, 0.2 * np.roll(left[::-1], 3), 0 * left]), 16000)
        decoded = SOUNDS[name].decode(SOUNDS[name].encode(original, SOUNDS[name].ladder[-1]))
        assert np.abs(audible(name, decoded).waveform - audible(name, original).waveform).std(axis=1).max() < 0.03

    @each(SOUNDS)
    def test_of_many_pages_come_back(self, name: str) -> None:
        original = music(16000, 2, 25)
        for quality in (SOUNDS[name].ladder[0], SOUNDS[name].ladder[-1]):
            decoded = SOUNDS[name].decode(SOUNDS[name].encode(original, quality))
            assert like(original, decoded)
            assert abs(delay(name, original, decoded)) <= 1

    @each(SOUNDS)
    @pytest.mark.parametrize(
        "original",
        [speech(16000, 1), music(16000, 1), music(16000, 2), speech(44100, 2), music(44100, 2)],
        ids=["s16", "m16", "m16x2", "s44x2", "m44x2"],
    )
    def test_cost_more_and_sound_better_from_quality_to_quality(self, name: str, original: Audio) -> None:
        codec = SOUNDS[name]
        streams = [codec.encode(original, quality) for quality in codec.ladder]
        quality = [si_sdr(audible(name, original), audible(name, codec.decode(data))) for data in streams]
        assert rising([len(data) for data in streams])
        assert rising(quality)

    @each(SOUNDS)
    def test_reach_from_severe_to_near_transparent(self, name: str) -> None:
        codec, original = SOUNDS[name], speech(16000)
        worst, best = (codec.decode(codec.encode(original, quality)) for quality in (codec.ladder[0], codec.ladder[-1]))
        assert si_sdr(original, worst) < 6
        assert si_sdr(audible(name, original), audible(name, best)) > 12

    @each(SOUNDS)
    def test_that_are_none_are_refused(self, name: str) -> None:
        for waveform in (np.zeros((1, 0), np.float32), np.zeros((0, 9), np.float32), np.full((1, 9), np.nan, np.float32)):
            with pytest.raises(ValueError, match="needs samples"):
                SOUNDS[name].encode(Audio(waveform, 16000), SOUNDS[name].ladder[0])
        with pytest.raises(ValueError, match="sample rate"):
            SOUNDS[name].encode(Audio(np.zeros((1, 9), np.float32), 0), SOUNDS[name].ladder[0])

    @each(SOUNDS)
    def test_with_a_rate_that_cannot_be_are_refused(self, name: str) -> None:
        data = SOUNDS[name].encode(speech(16000, 1, 0.1), SOUNDS[name].ladder[0])
        with pytest.raises(ValueError, match="not a readable"):
            SOUNDS[name].decode(b"\xff\xff\xff\xff\x7f" + data[2:])  # 2^35 - 1 Hz in place of the two bytes of 16000


def damaged(data: bytes) -> list[bytes]:
    """Nothing, noise, another format, a beginning, a half, all but the end, and a stream of zeros."""
    noise = np.random.default_rng(0).bytes(500)
    return [b"", b"\x00", noise, b"GIF89a" + noise, data[:9], data[: len(data) // 2], bytes(len(data)), b"\xff" * 40, data[:20] + noise]


class TestLongSounds:
    @each(SOUNDS)
    def test_come_back_in_arrays_that_nobody_else_holds(self, name: str) -> None:
        original = Audio(np.tile(music(16000, 1).waveform, (1, 8)), 16000).protected()
        codec = SOUNDS[name]
        data = codec.encode(original, codec.ladder[-1])
        first, second = codec.decode(data), codec.decode(data)
        assert first.waveform.flags.writeable
        assert first.waveform.flags.c_contiguous
        first.waveform[:] = 0
        assert np.array_equal(second.waveform, codec.decode(data).waveform)
        assert second.waveform.any()

    def test_are_taken_apart_into_their_units(self) -> None:
        units = [bytes([number % 256]) * (number % 300 + 1) for number in range(50_000)]
        assert access_units(b"ab" + b"".join(varint(len(unit)) + unit for unit in units)) == units


class TestDamagedBytes:
    @each({"amr", "av1", "heic", "hevc", "lc3"})
    def test_without_their_end_are_refused(self, name: str) -> None:
        codec = CODECS[name]
        original = photo(64, 64) if name in IMAGES else speech(16000, 1, 1)
        data = codec.encode(original, codec.ladder[1])
        for cut in (1, 2, 5, 10, len(data) // 3):
            with pytest.raises(ValueError, match=name):
                codec.decode(data[:-cut])

    @each(CODECS)
    def test_are_refused(self, name: str) -> None:
        codec = CODECS[name]
        original = photo(64, 64) if name in IMAGES else speech(16000, 1, 1)
        for data in damaged(codec.encode(original, codec.ladder[1])):
            with pytest.raises(ValueError, match=name) as caught:
                codec.decode(data)
            assert "0x" not in str(caught.value)  # the same message in every run

    @each(CODECS)
    def test_inside_a_stream_never_change_the_shape(self, name: str) -> None:
        codec = CODECS[name]
        original = photo(64, 64) if name in IMAGES else speech(16000, 1, 1)
        data = bytearray(codec.encode(original, codec.ladder[1]))
        rng = np.random.default_rng(3)
        for _ in range(20):
            flipped = bytes(
                byte ^ (int(rng.integers(1, 256)) if place > 60 and rng.random() < 0.01 else 0) for place, byte in enumerate(data)
            )
            try:
                decoded = codec.decode(flipped)
            except ValueError:
                continue
            assert decoded.elements == original.elements


ELSEWHERE = """
import hashlib, sys
from pathlib import Path
from mpq_fixtures.codecs import AUDIO, IMAGE, registered
from trial_signals import music, photo
folder = Path(sys.argv[1])
for modality, original in ((IMAGE, photo(97, 131)), (AUDIO, music(44100, 2, 0.7))):
    for name, codec in ((name, codec) for name, codec in registered(modality).items() if name in sys.argv[2].split(",")):
        for quality in codec.ladder:
            decoded = codec().decode((folder / f"{name}-{quality}").read_bytes())
            content = decoded.pixels if modality is IMAGE else decoded.waveform
            digests = [hashlib.sha256(data).hexdigest() for data in (codec().encode(original, quality), content.tobytes())]
            print(f"{name}-{quality}", *digests)
"""


class TestAnotherProcess:
    def test_writes_the_same_bytes_and_reads_the_same_signals(self, tmp_path: Path) -> None:
        expected = []
        for known, original in ((IMAGES, photo(97, 131)), (SOUNDS, music(44100, 2, 0.7))):
            for name, quality in ((name, quality) for name, codec in known.items() if name in HERE for quality in codec.ladder):
                data = known[name].encode(original, quality)
                (tmp_path / f"{name}-{quality}").write_bytes(data)
                decoded = known[name].decode(data)
                content = decoded.pixels if isinstance(decoded, Image) else decoded.waveform
                expected.append(f"{name}-{quality} {hashlib.sha256(data).hexdigest()} {hashlib.sha256(content.tobytes()).hexdigest()}")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "OMP_NUM_THREADS": "3"}
        run = subprocess.run(
            [sys.executable, "-c", ELSEWHERE, str(tmp_path), ",".join(HERE)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert run.stdout.splitlines() == expected
        assert run.stderr == ""  # SVT-AV1 would tell its settings for every picture
        assert len(expected) >= 45

    def test_may_be_another_thread(self) -> None:
        originals = {AUDIO: speech(16000, 1, 0.4), IMAGE: photo(96, 96)}
        jobs = [(CODECS[name], originals[CODECS[name].modality], quality) for name in HERE for quality in CODECS[name].ladder]
        alone = [codec.encode(original, quality) for codec, original, quality in jobs]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda job: job[0].encode(job[1], job[2]), jobs))
            decoded = list(pool.map(lambda job, data: job[0].decode(data), jobs, together))
        assert together == alone
        assert [signal.elements for signal in decoded] == [original.elements for _, original, _ in jobs]


USES_THE_EXAMPLE = """
from mpq_fixtures.codecs import IMAGE, registered
from trial_signals import photo

def test_example():
    codec = registered(IMAGE)["png8"]()
    sizes = [len(codec.encode(photo(), quality)) for quality in codec.ladder]
    assert sizes == sorted(sizes)
    assert codec.decode(codec.encode(photo(33, 17), "8c")).pixels.shape == (33, 17, 3)
"""


class TestACodecFromOutside:
    def run(self, tmp_path: Path, *arguments: str, path: tuple[Path, ...] = ()) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "docs", *path)))}
        (tmp_path / "test_example.py").write_text(USES_THE_EXAMPLE)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(tmp_path)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120).stdout

    def test_registers_as_a_pytest_plugin(self, tmp_path: Path) -> None:
        assert "1 passed" in self.run(tmp_path, "-p", "codec_example")

    def test_registers_by_its_entry_point(self, tmp_path: Path) -> None:
        package = tmp_path / "site" / "example-1.dist-info"
        package.mkdir(parents=True)
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
        (package / "entry_points.txt").write_text("[mpq.codecs]\npng8 = codec_example\n")
        assert "1 passed" in self.run(tmp_path, path=(tmp_path / "site",))

    def test_is_not_there_unasked(self, tmp_path: Path) -> None:
        assert "1 failed" in self.run(tmp_path)

    def test_takes_at_most_forty_lines(self) -> None:
        assert len((ROOT / "docs" / "codec_example.py").read_text().splitlines()) <= 40

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ({"name": "my-codec"}, "lower case"),
            ({"name": "original"}, "every id"),
            ({"name": "evaluation"}, "every id"),
            ({"ladder": ()}, "ladder"),
            ({"ladder": ("A",)}, "ladder"),
            ({"ladder": "q5"}, "ladder"),
            ({"modality": "image"}, "modality is 'image'"),
            ({"decode": Codec.decode}, "lacks the method decode"),
        ],
    )
    def test_is_refused_in_a_sentence_that_names_it(self, parts: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
        registered()
        monkeypatch.setattr(codecs, "_registry", {})
        whole = {"name": "fresh", "modality": IMAGE, "ladder": ("a",), "build": str, "encode": str, "decode": str}
        type("Confusing", (Codec,), whole | parts)
        with pytest.raises(CodecError, match=f"codec Confusing .*{message}"):
            registered()

    def test_may_have_a_name_that_holds_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(codecs, "_registry", dict(codecs._registry))
        parts = {"modality": IMAGE, "ladder": ("a",), "build": str, "encode": str, "decode": str}
        for name in ("mozjpeg", "resize_jpeg", "opus2"):
            type("Contained", (Codec,), {"name": name, **parts})
        assert {"mozjpeg", "resize_jpeg", "opus2"} <= set(registered())

    def test_names_of_this_project_stay_apart(self) -> None:
        own = [name for name, codec in registered().items() if codec.__module__.startswith("mpq_fixtures.")]
        assert [(one, other) for one in own for other in own if one != other and one in other] == []
