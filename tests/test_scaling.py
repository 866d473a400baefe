"""Operating points at another size: what is reduced comes back in its size, from the bytes alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage
from trial_signals import music, photo, speech

from mpq_fixtures.codecs import AUDIO, IMAGE, CodecError, from_address, instance
from mpq_fixtures.codecs._audio import varint
from mpq_fixtures.codecs.scaling import Scaled, at_scale, check, parse_scale
from mpq_fixtures.signals import Audio, Image, Limits
from mpq_fixtures.suite.file import load_suite

SUITE = """
name = "mine"
[[evaluation]]
name = "pictures"
task = "image_classification"
model = "python:a:b"
dataset = { path = "python:c:d" }
codecs = ["jpeg", "webp"]
qualities = { jpeg = ["*", "*@0.5x"], webp = ["q10", "q75", "q75@0.25x"] }
"""


class TestAPicture:
    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (97, 131), (224, 224)])
    def test_comes_back_in_its_size(self, size: tuple[int, int]) -> None:
        codec, original = at_scale(instance("jpeg"), "q50@0.5x"), photo(*size)
        decoded = codec.decode(codec.encode(original, "q50@0.5x"))
        assert decoded.pixels.shape == (*size, 3)
        assert decoded.pixels.dtype == np.uint8

    def test_is_what_pillow_makes_of_it(self) -> None:
        original = photo(97, 131)
        codec = at_scale(instance("jpeg"), "q50@0.5x")
        data = codec.encode(original, "q50@0.5x")
        file = io.BytesIO()
        PILImage.fromarray(original.pixels).resize((66, 48), PILImage.Resampling.LANCZOS).save(file, "JPEG", quality=50)
        assert data == bytes([131, 1, 97]) + file.getvalue()  # 131 takes two bytes of seven bits
        expected = np.array(PILImage.open(file).resize((131, 97), PILImage.Resampling.BICUBIC))
        assert np.array_equal(codec.decode(data).pixels, expected)

    def test_costs_less_than_at_its_own_size_and_counts_the_size_as_side_information(self) -> None:
        codec, original = instance("webp"), photo()
        scaled = at_scale(codec, "q60@0.5x")
        data = scaled.encode(original, "q60@0.5x")
        assert len(data) < 0.6 * len(codec.encode(original, "q60"))
        ledger = scaled.ledger(data)
        assert ledger.payload + ledger.container + ledger.side == len(data)
        assert ledger.side - codec.ledger(data[4:]).side in (2, 3, 4)

    def test_names_the_rate_of_the_picture_that_is_coded(self) -> None:
        codec, original = at_scale(instance("jp2k"), "r25@0.5x"), photo(200, 101)
        nominal = codec.nominal_bits(original, "r25@0.5x")
        assert nominal == 24 * 100 * 50 / 25  # of 50.5 columns Python rounds to the even number
        assert 8 * len(codec.encode(original, "r25@0.5x")) == pytest.approx(nominal, rel=0.1)


class TestASound:
    def test_may_be_as_long_as_the_limits_allow(self) -> None:
        codec = at_scale(instance("opus"), "24k@8khz")
        assert isinstance(codec, Scaled)
        for rate in (44100, 48000, 192000):
            frames = int(Limits().seconds * rate)
            assert codec._head(varint(rate) + varint(frames) + b"x") == (rate, frames, b"x")

    def test_names_the_rate_of_the_sound(self) -> None:
        codec = at_scale(instance("opus"), "24k@8khz")
        assert codec.nominal_bits(speech(16000, 1, 1.5), "24k@8khz") == 36_000

    @pytest.mark.parametrize("original", [speech(16000, 1), music(44100, 2, 0.7), speech(8000, 1, 0.4)], ids=["s16", "m44x2", "s8"])
    def test_comes_back_in_its_rate_and_length_and_in_time(self, original: Audio) -> None:
        codec = at_scale(instance("opus"), "24k@8khz")
        decoded = codec.decode(codec.encode(original, "24k@8khz"))
        assert decoded.sample_rate == original.sample_rate
        assert decoded.waveform.shape == original.waveform.shape
        one, other = original.waveform[0, :6000], decoded.waveform[0, :6000]
        assert abs(int(np.argmax(np.correlate(other, one, "full"))) - len(one) + 1) <= 1

    def test_has_nothing_above_its_new_band(self) -> None:
        original = music(44100, 1, 1)
        codec = at_scale(instance("opus"), "128k@8khz")
        decoded = codec.decode(codec.encode(original, "128k@8khz"))
        power = np.abs(np.fft.rfft(decoded.waveform[0])) ** 2
        assert power[4400:].sum() < 1e-4 * power.sum()  # Hz, since it is a second long


class TestAQuality:
    @pytest.mark.parametrize("quality", ["q50@0.5x", "q7@0.25x", "q50"])
    def test_of_a_codec_at_any_scale_is_understood(self, quality: str) -> None:
        check(instance("jpeg"), quality)

    @pytest.mark.parametrize("quality", ["q50@2x", "q50@0x", "q50@", "q50@8khz", "loud@0.5x", "q50@0.5x@0.5x", "q50@1.0x", "q50@0.0x"])
    def test_that_cannot_be_is_refused(self, quality: str) -> None:
        with pytest.raises(CodecError):
            check(instance("jpeg"), quality)

    def test_names_a_factor_or_a_rate(self) -> None:
        assert parse_scale("0.25x", IMAGE) == 0.25
        assert parse_scale("22.05khz", AUDIO) == 22050
        with pytest.raises(CodecError, match="sample rate"):
            parse_scale("0.5x", AUDIO)

    def test_makes_cases_in_the_order_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "mine.toml").write_text(SUITE)
        (evaluation,) = load_suite(tmp_path / "mine.toml")
        points = [case.point for case in evaluation.cases]
        assert points[1:3] == ["jpeg-q5", "jpeg-q10"]
        assert points[6:8] == ["jpeg-q5@0.5x", "jpeg-q10@0.5x"]
        assert points[-3:] == ["webp-q10", "webp-q75", "webp-q75@0.25x"]


class TestAScaledCodec:
    def test_is_the_same_from_its_address(self) -> None:
        codec = at_scale(instance("jpeg"), "q50@0.5x")
        other = from_address(codec.address())
        assert other.fingerprint() == codec.fingerprint() != instance("jpeg").fingerprint()
        assert other.encode(photo(33, 17), "q5@0.5x") == codec.encode(photo(33, 17), "q5@0.5x")

    @pytest.mark.parametrize(
        "data", [b"", b"\x05", b"\x00\x05" + bytes(9), b"\xff\xff\xff\xff\x0f\xff\xff\xff\xff\x0f" + bytes(9), b"\x80"]
    )
    def test_refuses_damaged_bytes(self, data: bytes) -> None:
        with pytest.raises(ValueError, match=r"jpeg|number"):
            at_scale(instance("jpeg"), "q50@0.5x").decode(data)

    def test_does_not_touch_what_it_is_given(self) -> None:
        original = photo(33, 17)
        kept = original.pixels.copy()
        at_scale(instance("jpeg"), "q5@0.5x").encode(original.protected(), "q5@0.5x")
        assert np.array_equal(original.pixels, kept)
        assert isinstance(original.protected(), Image)
