"""AMR through PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpq_fixtures.codecs import CodecError, Ledger
from mpq_fixtures.codecs._audio import AudioCodec, decode_packets, encode_packets, pyav_build, require, scipy_build

if TYPE_CHECKING:
    from numpy.typing import NDArray

DELAY = 40  # samples: what the encoder looks ahead
MODES = {"4.75k": 13, "5.15k": 14, "5.9k": 16, "6.7k": 18, "7.4k": 20, "7.95k": 21, "10.2k": 27, "12.2k": 32}
"""The format's bit rates in the order of its frame types, and the bytes of a frame with its head (RFC 4867, 5.3)."""


class Amr(AudioCodec):
    """AMR narrowband (3GPP TS 26.071) by opencore-amr. ``12.2k`` is 12.2 kbit/s a channel, in frames of 20 ms.

    The codec of GSM's telephones: 8 kHz, one channel a stream, made for speech. Frames are stored as in files (RFC 4867), in whole bytes
    and each behind a head of one byte: ``4.75k`` takes 5.2 kbit/s, ``12.2k`` 12.8. The format's high-pass filters bring what lies below
    500 Hz forward by two samples and more of its 8 kHz, so that measures of the waveform are low; above 1 kHz it comes back in time.
    """

    name = "amr"
    ladder = ("4.75k", "5.9k", "7.4k", "10.2k", "12.2k")
    channels_per_stream = 1
    automatic = False

    def build(self) -> str:
        """Name PyAV with its opencore-amr, and the resampler."""
        return f"{pyav_build('libopencore-amrnb')}, {scipy_build()}"

    def check(self, quality: str) -> None:
        """Raise `CodecError`, with the bit rates that there are, for another one."""
        if quality not in MODES:
            raise CodecError(f"{quality!r} is not one of {', '.join(MODES)}")

    def range(self, signal: Any = None) -> Sequence[str]:
        """Return the format's bit rates."""
        return tuple(MODES)

    def command_line(self, quality: str) -> str:
        """Return FFmpeg's command with the same encoder."""
        return f"ffmpeg -i input.wav -ar 8000 -ac 1 -c:a libopencore_amrnb -b:a {quality} output.amr"

    def prepare(self, qualities: Sequence[str] = ()) -> None:
        """Raise `MissingAsset` where PyAV lacks the coder."""
        require("libopencore_amrnb")

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return 8 kHz."""
        return 8000

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return the frames."""
        bit_rate = round(1000 * float(quality.removesuffix("k")))
        limited = np.clip(waveform, -1, 1)  # a resampled sound may be beyond, which 16 bits would turn upside down
        frames, _ = encode_packets("libopencore_amrnb", limited, sample_rate, bit_rate)
        return b"".join(frames)

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound behind the delay."""
        import av

        context: Any = av.CodecContext.create("libopencore_amrnb", "r")
        waveform, sample_rate = decode_packets(context, map(av.Packet, frames_of(data)))
        return waveform[:, DELAY:] / np.float32(32768), sample_rate  # its samples are of 16 bits

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Count the heads of the frames as container."""
        frames = len(frames_of(stream))
        return Ledger(len(stream) - frames, frames)


def frames_of(stream: bytes) -> list[bytes]:
    """Return the frames; raises `ValueError` for one that is none of speech."""
    sizes, frames, place = tuple(MODES.values()), [], 0
    while place < len(stream):
        kind = stream[place] >> 3 & 15
        if kind >= len(sizes):
            raise ValueError(f"a frame of type {kind}")
        frames.append(stream[place : place + sizes[kind]])
        place += sizes[kind]
    return frames
