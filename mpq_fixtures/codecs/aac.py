"""AAC through PyAV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._audio import AudioCodec, decode_packets, encode_packets, lowest, pyav_build, read_varint, scipy_build, varint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DELAY = 1024  # samples: the overlap before the first whole window
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


class Aac(AudioCodec):
    """AAC-LC (ISO/IEC 14496-3) by FFmpeg's own encoder. ``16k`` asks for 16 kbit/s a stream, mono or stereo.

    The coder is ``fast``: the default ``twoloop`` takes five times as long, and misses low bit rates by half. No perceptual noise
    substitution, with which more bits could sound worse. Coded at 16, 24 and 32 kHz at most below ``16k``, ``32k`` and ``64k``, as other
    encoders do, and at 16 kHz at least from ``64k`` on; at 16 kHz mono the encoder finds no use for more than some 85 kbit/s. A
    stream is the AudioSpecificConfig in two bytes, and each access unit behind its length: what an MP4 file holds without its
    tables, which take a kilobyte.
    """

    name = "aac"
    ladder = ("8k", "16k", "32k", "64k", "128k")
    qualities = Numbers("", 4, 256, "k")

    def build(self) -> str:
        """Name PyAV and the resampler."""
        return f"{pyav_build()}, {scipy_build()}"

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the nearest of MPEG's sample rates from above, as far as the bit rate goes."""
        kbps = self.qualities.number(quality)
        highest = 16000 if kbps < 16 else 24000 if kbps < 32 else 32000
        return min(lowest(RATES, sample_rate), highest) if kbps < 64 else lowest(RATES, max(sample_rate, 16000))

    def command_line(self, quality: str) -> str:
        """Return FFmpeg's command with the same encoder."""
        kbps = self.qualities.number(quality)
        rate = f"-ar {self.coded_rate(48000, quality)} " if kbps < 64 else ""
        settings = f"-c:a aac -aac_coder fast -aac_pns 0 -b:a {kbps}k {rate}"
        return (
            f"ffmpeg -i input.wav {settings}output.m4a  # an MP4 file's tables come on top{', -ar for sounds above that' if rate else ''}"
        )

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return the configuration and the access units."""
        bit_rate = 1000 * self.qualities.number(quality)
        units, configuration = encode_packets("aac", waveform, sample_rate, bit_rate, aac_coder="fast", aac_pns="0")
        return configuration[:2] + b"".join(varint(len(unit)) + unit for unit in units)

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound behind the delay."""
        import av

        context = av.CodecContext.create("aac", "r")
        context.extradata = data[:2]
        waveform, sample_rate = decode_packets(context, [av.Packet(unit) for unit in access_units(data)])
        return waveform[:, DELAY:], sample_rate

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Count the access units as payload; the configuration and their lengths take no container."""
        payload = sum(map(len, access_units(stream)))
        return Ledger(payload, side=len(stream) - payload)


def access_units(stream: bytes) -> list[bytes]:
    """Return what stands behind the configuration."""
    units, rest = [], memoryview(stream)[2:]  # of an hour there are too many to copy what is left behind each
    while rest:
        size, rest = read_varint(rest)
        units.append(bytes(rest[:size]))
        rest = rest[size:]
    return units
