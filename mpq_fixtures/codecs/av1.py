"""AV1 intra through PyAV."""

from __future__ import annotations

import os

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._audio import read_varint
from mpq_fixtures.codecs._video import FULL_RANGE_420, VideoCodec

FRAME_HEADER, TILE_GROUP, FRAME = 3, 4, 6


class Av1(VideoCodec):
    """An AV1 still picture by SVT-AV1, without a container. ``qp45`` is a quantiser of 45 of 1 to 63.

    The open bitstream units of section 5 of the format's specification: a temporal delimiter, a sequence header and one frame; preset 4
    of 0 to 13, dav1d decodes. It differs from ``avif`` in having no file around the stream, which takes that some 275 bytes, and in its
    encoder: libavif's is libaom.
    """

    name = "av1"
    ladder = ("qp61", "qp54", "qp45", "qp30", "qp12")
    qualities = Numbers("qp", 63, 1)
    encoder, decoder, backend, smallest = "libsvtav1", "libdav1d", "libSvtAv1Enc", 4

    def options(self, quality: str) -> dict[str, str]:
        """Return SVT-AV1's parameters: one thread, and the tools for still pictures."""
        os.environ.setdefault("SVT_LOG", "1")  # errors only; it would tell its settings on the terminal for every picture
        return {"preset": "4", "qp": str(self.qualities.number(quality)), "svtav1-params": "lp=1:avif=1"}

    def command_line(self, quality: str) -> str:
        """Return FFmpeg's command with the same encoder."""
        settings = f"-c:v libsvtav1 -preset 4 -qp {self.qualities.number(quality)} -svtav1-params avif=1"
        return f"ffmpeg -i input.png -frames:v 1 -vf {FULL_RANGE_420} {settings} output.obu"

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Count the frame as payload, and the heads of the units and the sequence header as container."""
        payload, rest = 0, stream
        while rest:
            kind, has_extension, has_size = rest[0] >> 3 & 15, rest[0] >> 2 & 1, rest[0] >> 1 & 1
            body = rest[1 + has_extension :]
            size, body = read_varint(body) if has_size else (len(body), body)
            if kind in (FRAME_HEADER, TILE_GROUP, FRAME):
                payload += len(body[:size])
            rest = body[size:]
        return Ledger(payload, len(stream) - payload)
