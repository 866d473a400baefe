"""What bitstreams are spent on, what qualities name and which are understood, against other parsers and files made by hand."""

from __future__ import annotations

import io
import re
from typing import Any

import av
import numpy as np
import PIL.Image
import pytest
from trial_signals import music, photo, speech

from mpq_fixtures.codecs import Codec, CodecError, Ledger, registered
from mpq_fixtures.codecs._audio import encode_packets
from mpq_fixtures.codecs._pillow import media_data
from mpq_fixtures.signals import Audio

CODECS: dict[str, Any] = {name: codec() for name, codec in registered().items()}
BUILT_IN = ("aac", "amr", "av1", "avif", "heic", "hevc", "jp2k", "jpeg", "jxl", "lc3", "mp3", "opus", "vorbis", "webp")
LACKS = {name: pytest.mark.skipif(bool(CODECS[name].missing()), reason=f"{name}: {CODECS[name].missing()}") for name in BUILT_IN}


def signal(codec: Codec) -> Any:
    return photo(96, 131) if codec.modality.value == "image" else speech(16000, 3, 1)


def demuxed(data: bytes, format: str) -> list[int]:
    """The sizes of the packets that FFmpeg finds."""
    with av.open(io.BytesIO(data), format=format) as container:
        return [packet.size for packet in container.demux() if packet.size]


@pytest.mark.parametrize("name", [pytest.param(name, marks=LACKS[name]) for name in BUILT_IN])
def test_a_ledger_adds_up_at_every_quality(name: str) -> None:
    for quality in CODECS[name].ladder:
        data = CODECS[name].encode(signal(CODECS[name]), quality)
        ledger = CODECS[name].ledger(data)
        assert ledger.payload + ledger.container + ledger.side == len(data)
        assert min(ledger.payload, ledger.container + 1, ledger.side + 1) > 0


class TestPictures:
    def saved(self, format: str, **options: Any) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.fromarray(photo(200, 231).pixels).save(buffer, format, **options)
        return buffer.getvalue()

    @pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 3}])
    def test_of_jpeg_are_the_scan(self, options: dict[str, int]) -> None:
        data = self.saved("JPEG", quality=30, **options)
        scan = data[data.index(b"\xff\xda\x00\x0c") + 2 + 12 : -2]  # a header of three components, and the end of the image
        assert CODECS["jpeg"].ledger(data) == Ledger(len(scan), len(data) - len(scan))

    def test_of_jpeg_may_be_several_scans(self) -> None:
        table, scan = b"\xff\xc4\0\x05abc", b"\xff\xda\0\x08\x01\x01\0\0\x3f\0"
        data = b"\xff\xd8" + table + scan + b"ab\xff\0c\xff\xd0d" + table + scan + b"efg\xff\0" + b"\xff\xd9"
        assert CODECS["jpeg"].ledger(data) == Ledger(8 + 5, len(data) - 13)

    def test_of_webp_are_its_chunk(self) -> None:
        data = self.saved("WEBP", quality=30)
        size = int.from_bytes(data[16:20], "little")
        assert CODECS["webp"].ledger(data) == Ledger(size, len(data) - size)
        assert len(data) - size in (20, 21)

    def test_of_webp_leave_other_chunks_to_the_container(self) -> None:
        chunks = [(b"VP8X", 10), (b"ALPH", 7), (b"VP8 ", 33), (b"EXIF", 5)]
        body = b"".join(name + size.to_bytes(4, "little") + bytes(size + size % 2) for name, size in chunks)
        data = b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body
        assert CODECS["webp"].ledger(data) == Ledger(40, len(data) - 40)

    @pytest.mark.parametrize("quality", ["q10", "q60"])
    @pytest.mark.parametrize("name", ["avif", pytest.param("heic", marks=LACKS["heic"])])
    def test_in_heif_are_what_another_demuxer_finds(self, name: str, quality: str) -> None:
        data = CODECS[name].encode(photo(), quality)
        (packet,) = demuxed(data, "mov")
        assert CODECS[name].ledger(data) == Ledger(packet, len(data) - packet)

    @pytest.mark.parametrize(("name", "format", "others", "start"), [("hevc", "hevc", "32-63", 4), ("av1", "obu", "0-2|5|7-15", 3)])
    def test_of_video_are_what_a_filter_leaves(self, name: str, format: str, others: str, start: int) -> None:
        data = CODECS[name].encode(photo(), CODECS[name].ladder[2])
        stream = CODECS[name].unpack(data[4:])
        with av.open(io.BytesIO(stream), format=format) as container:
            units = av.BitStreamFilterContext(f"filter_units=remove_types={others}", container.streams.video[0])
            left = b"".join(bytes(packet) for demuxed in container.demux() for packet in units.filter(demuxed) if packet.size)
        ledger = CODECS[name].ledger(data)
        assert ledger.payload == len(left) - start  # the start code, or the unit's head and its size in two bytes
        assert ledger.container == (len(stream) - len(left) - 3 * start if name == "hevc" else len(stream) - len(left) + start)
        assert ledger.side == (4 + 3 + 2 if name == "hevc" else 4)  # the picture's size; the lengths of three units and of the slice

    @pytest.mark.parametrize(
        "media", [b"\0\0\0\x0dmdat12345", b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x1512345", b"\0\0\0\0mdat12345"], ids=["32", "64", "to_the_end"]
    )
    def test_in_boxes_are_found_by_all_three_kinds_of_size(self, media: bytes) -> None:
        assert media_data(b"\0\0\0\x0cftypavif" + b"\0\0\0\x10metamdatmdat" + media) == 5

    @pytest.mark.parametrize("options", [{}, {"tile_size": (64, 64)}])
    def test_of_jpeg_2000_are_behind_the_start_of_data(self, options: dict[str, Any]) -> None:
        data = self.saved("JPEG2000", quality_mode="rates", quality_layers=[20], irreversible=True, no_jp2=True, **options)
        packets = re.findall(rb"\xff\x93(.*?)(?=\xff\x90\x00\x0a|\xff\xd9$)", data, re.DOTALL)  # no packet holds a code above 0xFF8F
        payload = sum(map(len, packets))
        assert len(packets) == (16 if options else 1)
        assert CODECS["jp2k"].ledger(data) == Ledger(payload, len(data) - payload)

    def test_of_jpeg_xl_are_the_whole_codestream(self) -> None:
        data = CODECS["jxl"].encode(photo(64, 64), "q30")
        assert CODECS["jxl"].ledger(data) == Ledger(len(data))


class TestSounds:
    HEADER = 2 + 2 + 1  # sample rate and frames as varints up to 16,383 or 2,097,151, and up to 127 channels

    @pytest.mark.parametrize("name", ["opus", "vorbis"])
    @pytest.mark.parametrize("seconds", [0.3, 12])
    def test_in_ogg_are_the_packets_that_another_demuxer_finds(self, name: str, seconds: float) -> None:
        data = CODECS[name].encode(speech(16000, 1, seconds), CODECS[name].ladder[-1])
        stream = data[data.index(b"OggS") :]
        payload = sum(demuxed(stream, "ogg"))
        assert CODECS[name].ledger(data) == Ledger(payload, len(stream) - payload, len(data) - len(stream))
        assert payload > 0

    @pytest.mark.parametrize("sample_rate", [8000, 11025, 16000, 22050, 44100, 48000])
    @pytest.mark.parametrize("quality", ["8k", "64k", "128k"])
    def test_of_mp3_have_four_bytes_of_header_a_frame(self, sample_rate: int, quality: str) -> None:
        data = CODECS["mp3"].encode(music(sample_rate, 2, 1), quality)
        ledger = CODECS["mp3"].ledger(data)
        stream = data[ledger.side :]
        context = av.CodecContext.create("mp3float", "r")
        frames = len([*context.parse(stream), *context.parse()])
        assert stream[0] == 0xFF
        assert ledger == Ledger(len(stream) - 4 * frames, 4 * frames, len(data) - len(stream))

    def test_of_aac_are_the_access_units(self) -> None:
        original = speech(16000, 1, 1)
        units, _ = encode_packets("aac", original.waveform, 16000, 32000, aac_coder="fast", aac_pns="0")
        data = CODECS["aac"].encode(original, "32k")
        assert CODECS["aac"].ledger(data) == Ledger(sum(map(len, units)), side=len(data) - sum(map(len, units)))

    @pytest.mark.parametrize("quality", ["4.75k", "5.15k", "5.9k", "6.7k", "7.4k", "7.95k", "10.2k", "12.2k"])
    def test_of_amr_have_one_byte_of_head_a_frame(self, quality: str) -> None:
        data = CODECS["amr"].encode(speech(8000, 1, 2), quality)
        stream = data[self.HEADER :]
        frames = demuxed(b"#!AMR\n" + stream, "amr")
        assert sum(frames) == len(stream)
        assert CODECS["amr"].ledger(data) == Ledger(len(stream) - len(frames), len(frames), self.HEADER)
        bits = 8 * CODECS["amr"].ledger(data).payload
        assert 0 <= bits - float(quality[:-1]) * 20 * len(frames) < 8 * len(frames)  # whole bytes

    @pytest.mark.skipif(bool(CODECS["lc3"].missing()), reason=CODECS["lc3"].missing())
    @pytest.mark.parametrize(("quality", "size"), [("16k", 20), ("64k", 80), ("128k", 160), ("320k", 400)])
    def test_of_lc3_are_its_frames_of_10_ms(self, quality: str, size: int) -> None:
        data = CODECS["lc3"].encode(speech(16000, 1, 1), quality)
        frames = 100 + 1  # and one for the delay
        assert CODECS["lc3"].ledger(data) == Ledger(frames * size, side=self.HEADER + 1 + (1 if size < 128 else 2))

    def test_of_many_channels_have_the_lengths_beside_them(self) -> None:
        one = CODECS["opus"].ledger(CODECS["opus"].encode(speech(8000, 2, 1), "24k"))
        sound = speech(8000, 2, 1)
        three = CODECS["opus"].encode(Audio(np.concatenate([sound.waveform] * 3), 8000), "24k")
        ledger = CODECS["opus"].ledger(three)
        assert (ledger.payload, ledger.container) == (3 * one.payload, 3 * one.container)
        assert ledger.side - one.side == 2 * 2  # two lengths between 128 and 16,383
        assert one.side == self.HEADER

    def test_that_are_damaged_have_none(self) -> None:
        for name in ("aac", "mp3", "opus", "vorbis"):
            with pytest.raises(ValueError, match=r"."):
                CODECS[name].ledger(b"\xff" * 40)


class TestNominalBits:
    @pytest.mark.parametrize("name", ["aac", "mp3", "opus"])
    @pytest.mark.parametrize(("channels", "streams"), [(1, 1), (2, 1), (3, 2), (6, 3)])
    def test_of_sounds_are_those_of_each_stream(self, name: str, channels: int, streams: int) -> None:
        assert CODECS[name].nominal_bits(speech(16000, channels, 2.5), "16k") == streams * 40000

    def test_of_sounds_are_those_of_each_channel_where_it_is_a_stream(self) -> None:
        assert CODECS["amr"].nominal_bits(speech(16000, 3, 2), "4.75k") == 3 * 2 * 4750
        assert CODECS["lc3"].nominal_bits(speech(16000, 2, 2), "32k") == 2 * 2 * 32000

    def test_of_jpeg_2000_are_a_part_of_the_raw_ones(self) -> None:
        assert CODECS["jp2k"].nominal_bits(photo(50, 40), "r25") == 50 * 40 * 24 / 25

    @pytest.mark.parametrize(("name", "quality"), [("vorbis", "q3"), ("vorbis", "q0_8khz"), ("jpeg", "q20"), ("webp", "q0")])
    def test_are_none_where_a_quality_is_no_rate(self, name: str, quality: str) -> None:
        assert CODECS[name].nominal_bits(signal(CODECS[name]), quality) is None


class TestQualities:
    @pytest.mark.parametrize("name", [pytest.param(name, marks=LACKS[name]) for name in BUILT_IN if CODECS[name].qualities])
    def test_reach_beyond_the_ladder_to_both_ends(self, name: str) -> None:
        codec = CODECS[name]
        numbers = codec.qualities
        ends = [f"{numbers.prefix}{number}{numbers.suffix}" for number in (numbers.worst, numbers.best)]
        for quality in (*ends, *codec.ladder):
            codec.check(quality)
        original = signal(codec)
        low, high = (codec.encode(original, quality) for quality in ends)
        first = next(quality for quality in codec.ladder if quality != "q0_8khz")
        assert len(low) <= len(codec.encode(original, first))
        assert len(high) >= len(codec.encode(original, codec.ladder[-1]))
        assert codec.decode(low).elements == codec.decode(high).elements == original.elements

    @pytest.mark.parametrize(
        ("name", "quality"),
        [
            ("jpeg", "q0"),
            ("jpeg", "q101"),
            ("jpeg", "50"),
            ("webp", "q101"),
            ("avif", "q-1"),
            ("jxl", "q100"),
            ("jp2k", "r1"),
            ("jp2k", "r1001"),
            ("opus", "5k"),
            ("opus", "257k"),
            ("aac", "3k"),
            ("mp3", "144k"),
            ("mp3", "100k"),
            ("mp3", "8"),
            ("amr", "5k"),
            ("av1", "qp0"),
            ("av1", "qp64"),
            ("heic", "q100"),
            ("hevc", "qp52"),
            ("lc3", "15k"),
            ("lc3", "321k"),
            ("vorbis", "q11"),
            ("vorbis", "q1_8khz"),
        ],
    )
    def test_that_are_none_are_refused(self, name: str, quality: str) -> None:
        with pytest.raises(CodecError, match=f"'{quality}' is not one of"):
            CODECS[name].check(quality)

    @pytest.mark.parametrize("quality", ["32k", "56k", "96k", "192k", "320k"])
    @pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
    def test_of_mp3_are_real_bit_rates(self, quality: str, sample_rate: int) -> None:
        original = music(sample_rate, 2, 4)
        data = CODECS["mp3"].encode(original, quality)
        assert 8 * len(data) == pytest.approx(CODECS["mp3"].nominal_bits(original, quality), rel=0.07)  # the last frame, and the delay
        assert CODECS["mp3"].decode(data).elements == original.elements
