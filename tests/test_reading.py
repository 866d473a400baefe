"""Pictures and sounds in the files that users have, against what Pillow, soundfile and PyAV put into them."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from PIL import Image as PILImage
from trial_signals import music, photo, speech

from mpq_fixtures.datasets import reading
from mpq_fixtures.datasets.reading import read_audio, read_image, read_mask, size_of_image
from mpq_fixtures.signals import Limits

PIXELS = photo(40, 60).pixels
PICTURE = PILImage.fromarray(PIXELS)


def file(picture: PILImage.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def png16(samples: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits a sample, written by hand (ISO/IEC 15948), since Pillow writes only grey ones."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


class TestPictures:
    @pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA"])
    def test_in_lossless_files_come_back_exactly(self, kind: str) -> None:
        assert np.array_equal(read_image(file(PICTURE, kind)).pixels, PIXELS)

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "JPEG2000", "GIF"])
    def test_in_lossy_files_come_back_as_pillow_decodes_them(self, kind: str) -> None:
        data = file(PICTURE, kind)
        assert np.array_equal(read_image(data).pixels, np.asarray(PILImage.open(io.BytesIO(data)).convert("RGB")))

    def test_in_jpeg_xl_are_read(self) -> None:
        import pillow_jxl  # noqa: F401  # registers the format

        assert np.array_equal(read_image(file(PICTURE, "JXL", lossless=True)).pixels, PIXELS)

    @pytest.mark.parametrize("mode", ["L", "1"])
    def test_in_grey_have_three_equal_channels(self, mode: str) -> None:
        grey = PICTURE.convert(mode)
        expected = np.asarray(grey.convert("L"))
        assert np.array_equal(read_image(file(grey)).pixels, np.dstack([expected] * 3))

    def test_with_a_palette_get_their_colours(self) -> None:
        palette = PICTURE.quantize(16)
        assert np.array_equal(read_image(file(palette)).pixels, np.asarray(palette.convert("RGB")))

    def test_in_cmyk_become_rgb(self) -> None:
        decoded = read_image(file(PICTURE.convert("CMYK"), "JPEG", quality=100, subsampling=0)).pixels
        assert np.abs(decoded.astype(int) - PIXELS).mean() < 2

    def test_with_alpha_stand_on_white(self) -> None:
        alpha = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
        decoded = read_image(file(PILImage.fromarray(np.dstack([PIXELS, alpha])))).pixels
        weight = alpha[:, :, None] / 255
        assert np.abs(decoded - (PIXELS * weight + 255 * (1 - weight))).max() <= 1
        assert (decoded[:, 0] == 255).all()

    def test_with_grey_and_alpha_stand_on_white(self) -> None:
        grey = np.dstack([np.full((4, 4), 100, np.uint8), np.full((4, 4), 0, np.uint8)])
        assert (read_image(file(PILImage.fromarray(grey, "LA"))).pixels == 255).all()

    def test_with_a_transparent_palette_entry_stand_on_white(self) -> None:
        palette = PILImage.new("P", (4, 4), 1)
        palette.putpalette([0, 0, 0, 10, 20, 30])
        assert (read_image(file(palette, transparency=1)).pixels == 255).all()
        assert (read_image(file(palette, transparency=0)).pixels == [10, 20, 30]).all()

    def test_of_16_bits_are_scaled_not_clipped(self) -> None:
        deep = np.arange(0, 65536, 41, np.uint16)[: 32 * 48].reshape(32, 48)
        expected = np.rint(deep / 257)
        assert np.array_equal(read_image(png16(deep, 0)).pixels, np.dstack([expected] * 3))
        assert np.array_equal(read_image(file(PILImage.fromarray(deep), "TIFF")).pixels, np.dstack([expected] * 3))

    def test_of_16_bits_in_colour_are_scaled(self) -> None:
        deep = PIXELS.astype(np.uint16) * 257
        assert np.array_equal(read_image(png16(deep, 2)).pixels, PIXELS)

    @pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 3), (8, 1)])
    def test_are_turned_as_their_exif_says(self, orientation: int, turns: int) -> None:
        exif = PILImage.Exif()
        exif[0x0112] = orientation  # Exif 2.3, table 4: 3 turned by 180 degrees, 6 to be turned right, 8 left
        assert np.array_equal(read_image(file(PICTURE, exif=exif)).pixels, np.rot90(PIXELS, turns))

    @pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "CMYK", "RGBA", "LA", "I;16"])
    def test_converted_in_stripes_are_the_same(self, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
        deep = PILImage.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27)
        data = file(deep if mode == "I;16" else PICTURE.convert(mode), "TIFF")
        whole = read_image(data).pixels
        monkeypatch.setattr(reading, "_STRIPE", 7 * 60)
        assert np.array_equal(read_image(data).pixels, whole)

    def test_of_100_million_pixels_are_read_without_a_warning(self, recwarn: pytest.WarningsRecorder) -> None:
        assert (
            read_image(file(PILImage.new("L", (10000, 10000), 7), compress_level=1)).pixels[::4999, ::4999].tolist() == [[[7] * 3] * 3] * 3
        )
        assert not recwarn

    def test_of_a_bomb_are_refused(self) -> None:
        header = png16(np.zeros((1, 1), np.uint16), 0)
        size = struct.pack(">II", 40000, 10000)
        chunk = b"IHDR" + size + header[24:29]
        with pytest.raises(ValueError, match="beyond the limit of 100,000,000"):
            read_image(header[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + header[33:])

    def test_of_400_million_pixels_are_read_where_the_limit_allows_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(PILImage, "MAX_IMAGE_PIXELS", PILImage.MAX_IMAGE_PIXELS)  # what Pillow itself refuses is half as many
        header = png16(np.zeros((1, 1), np.uint16), 0)
        chunk = b"IHDR" + struct.pack(">II", 40000, 10000) + header[24:29]
        data = header[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + header[33:]
        with reading._opened(data, Limits(pixels=400_000_000)) as picture:  # behind the header there is no such picture
            assert picture.size == (40000, 10000)
        with pytest.raises(ValueError, match="400,000,000 pixels is beyond the limit of 399,999,999"):
            read_image(data, Limits(pixels=399_999_999))

    def test_that_are_programs_are_not_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Encapsulated PostScript: Pillow hands it to Ghostscript, here a script that leaves a trace."""
        (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (tmp_path / "gs").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # look for it again
        data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
        for read in (read_image, read_mask, size_of_image):
            with pytest.raises(ValueError, match="not an image of a known format"):
                read(data)
        assert not (tmp_path / "ran").exists()

    def test_of_one_pixel_are_read(self) -> None:
        assert read_image(file(PILImage.new("RGB", (1, 1), (1, 2, 3)))).pixels.tolist() == [[[1, 2, 3]]]

    def test_of_several_frames_give_the_first(self) -> None:
        other = PILImage.new("RGB", PICTURE.size, "red")
        assert np.array_equal(read_image(file(PICTURE, "TIFF", save_all=True, append_images=[other])).pixels, PIXELS)

    def test_are_writable(self) -> None:
        for picture in (PICTURE, PICTURE.convert("L"), PICTURE.convert("RGBA")):
            assert read_image(file(picture)).pixels.flags.writeable

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "the image is empty: 0 bytes"),
            (b"hello", "the 5 bytes are not an image of a known format"),
            (file(PICTURE)[:300], "the image is damaged"),
            (file(PICTURE, "JPEG")[:700], "the image is damaged"),
            (file(PILImage.fromarray(np.zeros((4, 4), np.float32)), "TIFF"), "floating-point"),
        ],
        ids=["empty", "text", "cut_png", "cut_jpeg", "floating_point"],
    )
    def test_that_cannot_be_read_are_refused(self, data: bytes, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_image(data)


def sound_file(waveform: np.ndarray, sample_rate: int, kind: str, subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.T, sample_rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def through_ffmpeg(
    waveform: np.ndarray,
    sample_rate: int,
    container_format: str,
    codec: str,
    options: dict[str, str] | None = None,
    qscale: int | None = None,
) -> bytes:
    buffer = io.BytesIO()
    layout = "mono" if len(waveform) == 1 else "stereo"
    with av.open(buffer, "w", format=container_format, options=options or {}) as container:
        stream = container.add_stream(codec, rate=sample_rate, layout=layout)
        stream.bit_rate = 160000
        if qscale is not None:
            stream.codec_context.qscale = True
            stream.codec_context.options = {"global_quality": str(qscale * 118)}  # FF_QP2LAMBDA
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform), format="fltp", layout=layout)
        frame.sample_rate = sample_rate
        frame.pts = 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return buffer.getvalue()


class TestMasks:
    def files(self, orientation: int, own: bool = False, shape: tuple[int, int] = (4, 6)) -> tuple[bytes, bytes, np.ndarray]:
        """A picture that is turned, its mask, with the same tag or none, and what is stored in both: classes 0 to 23."""
        exif, stored = PILImage.Exif(), np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape)
        exif[0x0112] = orientation
        picture, mask = PILImage.fromarray(np.dstack([stored] * 3)), PILImage.fromarray(stored)
        return file(picture, exif=exif), file(mask, **({"exif": exif} if own else {})), stored

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_are_turned_as_their_own_exif_says(self, orientation: int) -> None:
        picture, mask, _ = self.files(orientation, own=True, shape=(5, 5))
        assert np.array_equal(read_mask(mask, of=picture), read_image(picture).pixels[:, :, 0])

    @pytest.mark.parametrize("orientation", [5, 6, 7, 8])
    def test_of_the_size_that_the_picture_had_before_are_turned_with_it(self, orientation: int, tmp_path: Path) -> None:
        picture, mask, _ = self.files(orientation)
        (tmp_path / "picture.png").write_bytes(picture)
        for of in (picture, str(tmp_path / "picture.png")):
            assert np.array_equal(read_mask(mask, of=of), read_image(picture).pixels[:, :, 0])

    def test_of_the_size_that_the_picture_has_are_left_alone(self) -> None:
        picture, _, stored = self.files(6)
        assert np.array_equal(read_mask(file(PILImage.fromarray(stored.T.copy())), of=picture), stored.T)

    @pytest.mark.parametrize(("orientation", "shape"), [(6, (5, 5)), (3, (4, 6)), (2, (4, 6))])
    def test_whose_size_does_not_tell_are_refused(self, orientation: int, shape: tuple[int, int]) -> None:
        picture, mask, stored = self.files(orientation, shape=shape)
        with pytest.raises(ValueError, match=rf"orientation {orientation}\), and nothing says whether the mask is turned"):
            read_mask(mask, of=picture)
        upright = file(PILImage.fromarray(np.dstack([stored] * 3)))
        assert np.array_equal(read_mask(mask, of=upright), stored)

    def test_of_a_picture_in_a_tiff_are_turned_with_it(self) -> None:
        exif, stored = PILImage.Exif(), np.arange(24, dtype=np.uint8).reshape(4, 6)
        exif[0x0112] = 6
        picture = file(PILImage.fromarray(np.dstack([stored] * 3)), "TIFF", exif=exif)
        assert np.array_equal(read_mask(file(PILImage.fromarray(stored)), of=picture), read_image(picture).pixels[:, :, 0])


class TestSounds:
    @pytest.mark.parametrize(
        ("kind", "subtype", "tolerance"),
        [("WAV", "PCM_16", 2**-15), ("WAV", "FLOAT", 0), ("WAV", "PCM_24", 2**-22), ("FLAC", "PCM_24", 2**-22), ("AIFF", "PCM_16", 2**-15)],
    )
    @pytest.mark.parametrize("channels", [1, 2, 5])
    def test_in_lossless_files_come_back(self, kind: str, subtype: str, tolerance: float, channels: int) -> None:
        original = speech(22050, channels, 0.3)
        decoded = read_audio(sound_file(original.waveform, 22050, kind, subtype))
        assert decoded.sample_rate == 22050
        assert decoded.waveform.dtype == np.float32
        assert decoded.waveform.shape == original.waveform.shape
        assert np.abs(decoded.waveform - original.waveform).max() <= tolerance

    @pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
    def test_in_lossy_files_come_back_as_soundfile_decodes_them(self, kind: str, subtype: str) -> None:
        data = sound_file(music(48000, 2, 0.5).waveform, 48000, kind, subtype)
        expected, sample_rate = soundfile.read(io.BytesIO(data), dtype="float32")
        decoded = read_audio(data)
        assert decoded.sample_rate == sample_rate
        assert np.array_equal(decoded.waveform, expected.T.clip(-1, 1))

    @pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("mp3", "libmp3lame"), ("matroska", "flac"), ("mp4", "alac")])
    @pytest.mark.parametrize("channels", [1, 2])
    def test_in_files_that_only_ffmpeg_reads_come_back_in_time(self, container: str, codec: str, channels: int) -> None:
        original = music(44100, channels, 0.7)
        decoded = read_audio(through_ffmpeg(original.waveform, 44100, container, codec))
        assert decoded.sample_rate == 44100
        assert decoded.waveform.shape == original.waveform.shape
        assert np.abs(decoded.waveform - original.waveform).std() < 0.03

    @pytest.mark.parametrize("layout", ["5.1", "7.1"])
    def test_of_many_channels_that_only_ffmpeg_reads_come_back(self, layout: str) -> None:
        """Eight planes fill FFmpeg's table of them, so that nothing marks its end."""
        level = (1000 * np.arange(1, 9)[: 6 if layout == "5.1" else 8]).astype(np.int16)
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="matroska") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout=layout)
            frame = av.AudioFrame.from_ndarray(np.tile(level, 500)[None], format="s16", layout=layout)
            frame.sample_rate, frame.pts = 8000, 0
            container.mux([*stream.encode(frame), *stream.encode(None)])
        waveform = read_audio(buffer.getvalue()).waveform
        assert np.array_equal(waveform, np.repeat(level[:, None] / np.float32(32768), 500, axis=1))

    @pytest.mark.parametrize("variable", [False, True], ids=["constant", "variable"])
    @pytest.mark.parametrize("tag", [b"", b"TAG" + bytes(125), bytes(500)], ids=["plain", "tag", "zeros"])
    def test_in_an_mp3_that_does_not_say_how_long_it_is_are_read_to_the_end(self, tag: bytes, variable: bool) -> None:
        waveform = np.concatenate([music(44100, 2, 2).waveform, np.zeros((2, 44100), np.float32)], axis=1)
        codec = {"qscale": 2} if variable else {}
        data = through_ffmpeg(waveform, 44100, "mp3", "libmp3lame", {"write_xing": "0"}, **codec)
        decoded = read_audio(data + tag).waveform
        assert 0 <= decoded.shape[1] - waveform.shape[1] < 3 * 1152  # the encoder's delay and the last frame's rest
        at = 1105  # LAME's delay and the decoder's own
        assert np.abs(decoded[:, at : at + waveform.shape[1]] - waveform[:, : decoded.shape[1] - at]).std() < 0.03

    def test_in_a_cut_mp3_that_does_not_say_how_long_it_is_are_read_as_far_as_they_go(self) -> None:
        data = through_ffmpeg(music(44100, 1, 2).waveform, 44100, "mp3", "libmp3lame", {"write_xing": "0"})
        for size in range(9000, 9300, 100):
            assert 0 < read_audio(data[:size]).waveform.shape[1] < 44100

    def test_in_an_mp3_with_fraunhofers_header_are_held_against_it(self) -> None:
        data = bytearray(sound_file(speech(44100, 1, 2).waveform, 44100, "MP3"))
        frames = int.from_bytes(data[(at := data.index(b"Xing") + 8) : at + 4], "big")
        data[4:300] = bytes(296)
        data[36:54] = b"VBRI" + struct.pack(">HHHII", 1, 0, 75, len(data), frames)  # as Fraunhofer's encoders state it
        assert read_audio(bytes(data)).waveform.shape[1] >= 88200
        with pytest.raises(ValueError, match="cut short"):
            read_audio(bytes(data[: len(data) // 2]))

    def test_in_bare_aac_are_read_to_the_end(self) -> None:
        waveform = np.concatenate([np.zeros((1, 44100), np.float32), music(44100, 1, 2).waveform], axis=1)
        for sound in (waveform, np.ascontiguousarray(waveform[:, ::-1])):  # quiet and loud parts mislead whoever guesses from the bit rate
            assert read_audio(through_ffmpeg(sound, 44100, "adts", "aac")).waveform.shape[1] >= waveform.shape[1]

    def test_of_unknown_length_in_a_flac_are_read(self) -> None:
        data = bytearray(sound_file(speech(16000, 1, 0.2).waveform, 16000, "FLAC"))
        data[21] &= 0xF0  # the count of samples in STREAMINFO (RFC 9639, 8.2), which is 0 where it is not known
        data[22:26] = bytes(4)
        assert read_audio(bytes(data)).waveform.shape == (1, 3200)

    def test_beyond_full_scale_are_limited(self) -> None:
        assert np.abs(read_audio(sound_file(np.array([[2.0, -3.0, 0.5]]), 8000, "WAV", "FLOAT")).waveform).max() == 1

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "the sound is empty: 0 bytes"),
            (b"hello", "the 5 bytes are not a sound of a known format"),
            (bytes(4000), "not a sound of a known format"),
            (sound_file(speech(16000).waveform, 16000, "WAV")[:9000], "the sound is cut short: 9000 of 64044 bytes"),
            (sound_file(speech(16000).waveform, 16000, "FLAC")[:9000], "damaged|cut short"),
            (sound_file(speech(16000).waveform, 16000, "MP3")[:3000], "cut short"),
            (sound_file(np.zeros((1, 0)), 16000, "WAV"), "no samples"),
            (sound_file(np.array([[0.0, np.nan]]), 16000, "WAV", "FLOAT"), "not finite"),
            (file(PICTURE), "not a sound|no sound"),
        ],
        # Not the bytes themselves: a WAV of floats holds the time of day, and all workers must collect the same ids.
        ids=["empty", "text", "zeros", "cut_wav", "cut_flac", "cut_mp3", "no_samples", "nan", "picture"],
    )
    def test_that_cannot_be_read_are_refused(self, data: bytes, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_audio(data)

    @pytest.mark.parametrize(
        ("riff", "samples"),
        [(0xFFFFFFFF, None), (0xFFFFFFFF, 0xFFFFFFFF), (0x80000024, 0x80000000), (0x7FFFF024, 0x7FFFF000)],
        ids=["all_bits", "ffmpeg", "arecord", "sox"],
    )
    def test_of_unknown_length_in_a_wav_are_read(self, riff: int, samples: int | None) -> None:
        """As programs write it that send their output through a pipe."""
        data = bytearray(sound_file(speech(16000, 1, 0.2).waveform, 16000, "WAV"))
        data[4:8] = riff.to_bytes(4, "little")
        if samples is not None:
            data[40:44] = samples.to_bytes(4, "little")
        assert read_audio(bytes(data)).waveform.shape == (1, 3200)

    @pytest.mark.parametrize("counted", [0, 1])
    def test_in_a_wav_of_an_odd_number_of_bytes_may_lack_the_last_one(self, counted: int) -> None:
        """RIFF has a chunk of odd length padded; not all programs do that, and some count the byte that they do not write."""
        head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data" + struct.pack("<I", 101)
        data = b"RIFF" + struct.pack("<I", len(head) + 101 + counted) + head + bytes(range(101))
        assert read_audio(data).waveform.shape == (1, 101)
        with pytest.raises(ValueError, match="cut short"):
            read_audio(data[:-2])

    @pytest.mark.parametrize(
        "playlist",
        [
            "ffconcat version 1.0\nfile '{}'\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
            "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n",
        ],
        ids=["concat", "hls", "hls_file"],
    )
    def test_in_other_files_that_a_list_names_are_not_read(self, playlist: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "other.mp3").write_bytes(sound_file(speech(16000, 1, 0.2).waveform, 16000, "MP3"))
        for name in ("other.mp3", str(tmp_path / "other.mp3")):
            with pytest.raises(ValueError, match="not a sound of a known format"):
                read_audio(playlist.format(name).encode())
