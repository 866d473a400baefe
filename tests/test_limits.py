"""Small files that hold large signals, and streams that lie: the sample's failure, within a bound of memory."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib

import av
import numpy as np
import pytest
import soundfile
from PIL import Image as Picture
from scipy.signal import firwin, resample_poly

from mpq_fixtures import codecs
from mpq_fixtures.codecs._audio import _resample_between, resample
from mpq_fixtures.datasets.reading import read_audio, read_image, read_mask
from mpq_fixtures.signals import Audio, Image, Limits


def large_png(height: int, width: int) -> bytes:
    """A grey picture whose rows are all alike, which deflate makes a thousandth of."""
    file = io.BytesIO()
    Picture.new("L", (width, height), 7).save(file, "PNG")
    return file.getvalue()


class TestPictures:
    def test_beyond_the_limit_are_refused_by_their_header(self):
        data = large_png(100, 120)
        cut = data[:60]  # behind the header there is hardly anything
        with pytest.raises(ValueError, match=r"12,000 pixels is beyond the limit of 11,999.*limits = \{ pixels = "):
            read_image(cut, Limits(pixels=11_999))
        with pytest.raises(ValueError, match="beyond the limit"):
            read_mask(cut, Limits(pixels=11_999))
        assert read_image(data, Limits(pixels=12_000)).elements == 12_000

    def test_that_pillow_itself_refuses_are_not_called_damaged(self):
        header = b"\x89PNG\r\n\x1a\n"
        for name, content in ((b"IHDR", b"\0\0\x80\0\0\0\x80\0\x08\0\0\0\0"), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")):
            header += len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
        with pytest.raises(ValueError, match="beyond the limit of 100,000,000"):
            read_image(header)

    def test_take_no_memory_where_they_are_refused(self):
        """177 megapixels in a file of 200 kB, which would take 5 GB."""
        code = """
import resource, sys
from mpq_fixtures.datasets.reading import read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_image(sys.stdin.buffer.read())
except ValueError as error:
    print(error, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
        done = subprocess.run([sys.executable, "-c", code], input=large_png(13_300, 13_300), capture_output=True, check=True, timeout=120)
        message, _, grown = done.stdout.decode().strip().rpartition(" ")
        assert "176,890,000 pixels is beyond the limit" in message
        assert int(grown) < 50_000  # kB


class TestSounds:
    @pytest.mark.parametrize("form", ["WAV", "MP3"])
    def test_beyond_the_limit_are_refused(self, form):
        file = io.BytesIO()
        soundfile.write(file, np.zeros(16000 * 3, np.float32), 16000, format=form)
        with pytest.raises(ValueError, match=r"a sound of [23] s is beyond the limit of 2 s.*limits = \{ seconds = "):
            read_audio(file.getvalue(), Limits(seconds=2))
        assert read_audio(file.getvalue(), Limits(seconds=4)).sample_rate == 16000

    def test_of_many_channels_hold_no_more_than_two_hours_of_stereo(self):
        """A file of 11 MB, which FLAC makes of 44 GB of silence within two hours: what is beyond is refused by its header."""
        file = io.BytesIO()
        with soundfile.SoundFile(file, "w", 192_000, 8, "PCM_16", format="FLAC") as sound:
            sound.write(np.zeros((192, 8), np.int16))
        data = bytearray(file.getvalue())
        frames = 460 * 192_000  # in STREAMINFO (RFC 9639, 8.2): of so many seconds, which the limit allows
        data[21:26] = (data[21] & 0xF0 | frames >> 32).to_bytes(1, "big") + (frames & 0xFFFF_FFFF).to_bytes(4, "big")
        with pytest.raises(ValueError, match=r"706,560,000 samples over all channels .* 691,200,000 that 7,200 s of stereo.*seconds = "):
            read_audio(bytes(data))
        Limits(seconds=7_400).check_sound(460, 8 * frames)

    def test_of_channels_that_only_ffmpeg_reads_are_counted_too(self, monkeypatch):
        monkeypatch.setattr("mpq_fixtures.signals._SAMPLES", 1)  # 7,200 samples in all
        file = io.BytesIO()
        with av.open(file, "w", format="matroska") as container:
            stream = container.add_stream("flac", rate=8000, layout="7.1")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8 * 1000), np.int16), format="s16", layout="7.1")
            frame.sample_rate, frame.pts = 8000, 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
        with pytest.raises(ValueError, match=r"8,000 samples over all channels is beyond the 7,200 that"):
            read_audio(file.getvalue())

    def test_of_any_kind_are_held_against_it(self):
        with pytest.raises(ValueError, match="beyond the limit of 1 s"):
            Limits(seconds=1).check(Audio(np.zeros((1, 16001), np.float32), 16000))
        with pytest.raises(ValueError, match="beyond the limit of 5"):
            Limits(pixels=5).check(Image(np.zeros((2, 3, 3), np.uint8)))


class TestRates:
    @pytest.mark.parametrize("rate", [1, 999, 384_001, 2**31 - 1])
    def test_that_no_sound_has_are_refused(self, rate):
        with pytest.raises(ValueError, match=f"from {rate} to 16000 Hz"):
            resample(np.zeros((1, 100), np.float32), rate, 16000)

    def test_inside_a_stream_are_looked_at_before_anything_is_made_for_them(self):
        """The rate stands in Vorbis's identification header (Vorbis I, 4.2.2), behind its name, version and channels."""
        from mpq_fixtures.codecs._ogg import checksum, pages

        codec = codecs.instance("vorbis")
        noise = np.random.default_rng(7).normal(0, 0.1, (1, 16000)).astype(np.float32)
        data = codec.encode(Audio(noise, 16000), "q0")
        start = data.index(b"OggS")
        place = data.index(b"\x01vorbis") + 7 + 4 + 1
        changed = data[:place] + (1_999_999_973).to_bytes(4, "little") + data[place + 4 :]
        changed = changed[:start] + b"".join(page[:22] + checksum(page) + page[26:] for page in pages(changed[start:]))
        with pytest.raises(ValueError, match="vorbis stream"):
            codec.decode(changed)

    @pytest.mark.parametrize(("up", "down"), [(160, 441), (441, 80), (16000, 44101), (44101, 16000)])
    def test_that_share_no_divisor_are_resampled_as_others_are(self, up, down):
        sound = np.random.default_rng(3).normal(0, 0.1, (2, 2000)).astype(np.float32)
        made = _resample_between(sound, up, down)
        factor = max(up, down)
        wanted = resample_poly(sound, up, down, axis=1, window=firwin(64 * factor + 1, 1 / factor, window=("kaiser", 8.0)))
        assert made.shape == wanted.shape
        assert np.abs(made - wanted).max() < 2e-5

    def test_far_apart_take_what_the_sound_takes(self):
        """A prime number of Hz has a filter of 25 million coefficients, of which few fall on a short sound."""
        code = """
import resource
import numpy as np
from mpq_fixtures.codecs._audio import _resample_between, resample
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
moment = np.arange(38400) / 383_987
made = resample(np.sin(2 * np.pi * 1000 * moment)[None].astype(np.float32), 383_987, 16_000)[0]
wanted = np.sin(2 * np.pi * 1000 * np.arange(len(made)) / 16_000)
print(np.abs(made - wanted)[100:-100].max(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=120)
        error, grown = map(float, done.stdout.split())
        assert error < 1e-4
        assert grown < 300_000  # kB


def test_limits_of_a_suite_file_reach_its_samples(tmp_path):
    from projects import Project

    project = Project(tmp_path)
    project.edit("evaluations/suites/tried.toml", 'codecs = ["jpeg"]\n', 'codecs = ["jpeg"]\nlimits = { pixels = 1000 }\n')
    project.run("-k", "pictures-original")
    (case,) = project.results()["cases"]
    assert len(case["failures"]) == 6
    assert case["failures"][0]["step"] == "read"
    assert "1,024 pixels is beyond the limit of 1,000" in case["failures"][0]["reason"]
