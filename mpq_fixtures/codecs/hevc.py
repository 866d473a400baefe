"""HEVC intra through PyAV."""

from __future__ import annotations

import re

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._audio import read_varint, varint
from mpq_fixtures.codecs._video import FULL_RANGE_420, VideoCodec

START = b"\0\0\0\1"


class Hevc(VideoCodec):
    """An HEVC intra picture (ITU-T H.265) by x265, without a container. ``qp37`` is a quantiser of 37 of 0 to 51.

    Three parameter sets, some 75 bytes, and one slice, each behind its length as a varint in place of annex B's start code, since FFmpeg's
    decoder would not notice that the end is missing; x265's preset ``medium``. It differs from ``heic`` in having no file around the
    stream, in its quantiser, which is the format's own, and in its decoder.
    """

    name = "hevc"
    ladder = ("qp47", "qp42", "qp37", "qp30", "qp20")
    qualities = Numbers("qp", 51, 0)
    encoder, decoder, backend, smallest = "libx265", "hevc", "libx265", 32  # with 16 long pictures break the rules of their level

    def options(self, quality: str) -> dict[str, str]:
        """Return x265's parameters: one thread, no message with its version, and the quantiser as it is, not less for a key frame."""
        qp = self.qualities.number(quality)
        return {"preset": "medium", "x265-params": f"qp={qp}:ipratio=1:keyint=1:info=0:pools=none:frame-threads=1:wpp=0:log-level=none"}

    def command_line(self, quality: str) -> str:
        """Return FFmpeg's command with the same encoder."""
        settings = f"-c:v libx265 -preset medium -x265-params qp={self.qualities.number(quality)}:ipratio=1:keyint=1:info=0"
        return f"ffmpeg -i input.png -frames:v 1 -vf {FULL_RANGE_420} {settings} output.hevc"

    def pack(self, stream: bytes) -> bytes:
        """Return the units, each behind its length."""
        return b"".join(varint(len(unit)) + unit for unit in re.split(b"\0?\0\0\1", stream)[1:])

    def unpack(self, data: bytes) -> bytes:
        """Return the units, each behind a start code."""
        return b"".join(START + unit for unit in units_of(data))

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Count the slice as payload, parameter sets as container, and the lengths as side information."""
        units = units_of(stream)
        payload = sum(len(unit) for unit in units if unit[0] >> 1 < 32)  # the types of coded slices (H.265, table 7-1)
        container = sum(map(len, units)) - payload
        return Ledger(payload, container, len(stream) - payload - container)


def units_of(data: bytes) -> list[bytes]:
    """Return the units behind their lengths; raises `ValueError` where one is empty or its end is missing."""
    units = []
    while data:
        size, data = read_varint(data)
        if not 0 < size <= len(data):
            raise ValueError(f"a unit of {size} bytes where {len(data)} are left")
        units.append(data[:size])
        data = data[size:]
    return units
