"""MP3 through PyAV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpq_fixtures.codecs._audio import AudioCodec, decode_packets, encode_packets, lowest, pyav_build, scipy_build

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DELAY = 576 + 529  # samples: LAME's encoder, and the synthesis filter bank of any decoder
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


class Mp3(AudioCodec):
    """MP3 at a constant bit rate (ISO/IEC 11172-3, 13818-3) by LAME. ``8k`` is 8 kbit/s a stream, mono or stereo.

    From 32 kHz on, the format's lowest bit rates are 32, 40 and 48 kbit/s: there ``8k``, ``16k`` and ``24k`` stand for these, and
    ``8k`` is what the study's ``compression=8.0`` came to. Below 16 kHz its highest is 64: ``128k`` is coded at 16 kHz. Joint
    stereo, LAME's own low-pass, its quality 7 of 0 to 9 (the default 5 takes 1.6 times as long and measured no better). No Xing
    frame: the header has the length, and the delay is known.
    """

    name = "mp3"
    ladder = ("8k", "16k", "24k", "64k", "128k")

    def build(self) -> str:
        """Name PyAV with its LAME, and the resampler."""
        return f"{pyav_build('libmp3lame')}, {scipy_build()}"

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the nearest of MPEG's sample rates from above."""
        return lowest(RATES, max(sample_rate, 16000 if quality == "128k" else 0))

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return the MPEG frames, which say themselves where they end."""
        kbps = int(quality.removesuffix("k"))
        if sample_rate >= 32000:
            kbps = {8: 32, 16: 40, 24: 48}.get(kbps, kbps)
        frames, _ = encode_packets("libmp3lame", waveform, sample_rate, 1000 * kbps, compression_level="7")
        return b"".join(frames)

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound behind the delay."""
        import av

        context = av.CodecContext.create("mp3float", "r")
        waveform, sample_rate = decode_packets(context, [*context.parse(data), *context.parse()])
        return waveform[:, DELAY:], sample_rate
