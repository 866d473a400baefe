"""MP3 through PyAV."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mpq_fixtures.codecs import CodecError, Ledger, Numbers
from mpq_fixtures.codecs._audio import AudioCodec, decode_packets, encode_packets, lowest, pyav_build, scipy_build

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DELAY = 576 + 529  # samples: LAME's encoder, and the synthesis filter bank of any decoder
RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
MPEG_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # kbit/s, from 32 kHz on
MPEG_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # below; up to 64 below 16 kHz
COARSEST = {8: 32, 16: 40, 24: 48}
"""What the lowest stand for from 32 kHz on, in kbit/s."""
KBPS = tuple(sorted({*MPEG_1, *MPEG_2} - {144}))


class Mp3(AudioCodec):
    """MP3 at a constant bit rate (ISO/IEC 11172-3, 13818-3) by LAME. ``8k`` is 8 kbit/s a stream, mono or stereo.

    From 32 kHz on, the format's lowest bit rates are 32, 40 and 48 kbit/s: there ``8k``, ``16k`` and ``24k`` stand for these, and
    ``8k`` is what the study's ``compression=8.0`` came to. Below 16 kHz its highest is 64, below 32 kHz 160: higher ones are coded at
    16 and 32 kHz. Only the format's own bit rates are qualities: of any other LAME takes the nearest. Joint stereo, LAME's own
    low-pass, its quality 7 of 0 to 9 (the default 5 takes 1.6 times as long and measured no better). No Xing frame: the header has
    the length, and the delay is known.
    """

    name = "mp3"
    ladder = ("8k", "16k", "24k", "64k", "128k")
    qualities = Numbers("", 8, 320, "k")

    def build(self) -> str:
        """Name PyAV with its LAME, and the resampler."""
        return f"{pyav_build('libmp3lame')}, {scipy_build()}"

    def check(self, quality: str) -> None:
        """Raise `CodecError`, with the bit rates that there are, for another one."""
        if quality not in (known := self.range()):
            raise CodecError(f"{quality!r} is not one of {', '.join(known)}")

    def range(self, signal: Any = None) -> Sequence[str]:
        """Return the format's bit rates; where its lowest stand for higher ones, only these."""
        coarse = signal is not None and signal.sample_rate >= 32000
        return [f"{kbps}k" for kbps in KBPS if not (coarse and kbps in COARSEST)]

    def command_line(self, quality: str) -> str:
        """Return LAME's own command."""
        kbps = self.qualities.number(quality)
        least = f"  # from 32 kHz on the format begins at 32 kbit/s, here {COARSEST[kbps]}" if kbps in COARSEST else ""
        return f"lame --cbr -b {kbps} -q 7 -t input.wav output.mp3{least}"

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the nearest of MPEG's sample rates from above."""
        kbps = self.qualities.number(quality)
        return lowest(RATES, max(sample_rate, 32000 if kbps > 160 else 16000 if kbps > 64 else 0))

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return the MPEG frames, which say themselves where they end."""
        kbps = self.qualities.number(quality)
        if sample_rate >= 32000:
            kbps = COARSEST.get(kbps, kbps)
        frames, _ = encode_packets("libmp3lame", waveform, sample_rate, 1000 * kbps, compression_level="7")
        return b"".join(frames)

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound behind the delay."""
        import av

        context = av.CodecContext.create("mp3float", "r")
        waveform, sample_rate = decode_packets(context, [*context.parse(data), *context.parse()])
        return waveform[:, DELAY:], sample_rate

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Count the headers of the frames, 4 bytes each, as container."""
        place, frames = 0, 0
        while place + 4 <= len(stream):
            place += frame_size(stream[place : place + 4])
            frames += 1
        return Ledger(len(stream) - 4 * frames, 4 * frames)


def frame_size(header: bytes) -> int:
    """Return the bytes of a frame of layer III, its header with it (ISO/IEC 11172-3, 2.4.2.3); raises `ValueError` for another header."""
    bits = int.from_bytes(header)
    version, layer, rate, frequency, padding = bits >> 19 & 3, bits >> 17 & 3, bits >> 12 & 15, bits >> 10 & 3, bits >> 9 & 1
    if bits >> 21 != 0x7FF or version == 1 or layer != 1 or rate in (0, 15) or frequency == 3:
        raise ValueError("not a frame of MPEG layer III")
    kbps = (MPEG_1 if version == 3 else MPEG_2)[rate - 1]
    sample_rate = (44100, 48000, 32000)[frequency] // {3: 1, 2: 2, 0: 4}[version]
    return (144000 if version == 3 else 72000) * kbps // sample_rate + padding
