"""Vorbis through soundfile."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._audio import AudioCodec, scipy_build, soundfile_build
from mpq_fixtures.codecs._ogg import checksum, ogg_ledger, pages

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Vorbis(AudioCodec):
    """Vorbis in Ogg (Vorbis I, RFC 3533) by libvorbis. ``q3`` is ``oggenc -q 3`` of 0 to 10, a variable bit rate.

    Coded at the sound's own rate, or the nearest of 8 to 192 kHz. Quality 0 is mild, so ``q0_8khz`` goes below: quality 0 at a sample
    rate of 8 kHz, as by ``oggenc --resample 8000``. The codebooks take 2.7 to 4 kB of every stream, which drowns the
    payload of a short clip; that is what a Vorbis file costs.
    """

    name = "vorbis"
    ladder = ("q0_8khz", "q0", "q3", "q6", "q9")
    qualities = Numbers("q", 0, 10)

    def build(self) -> str:
        """Name soundfile, whose libsndfile holds libvorbis, and the resampler."""
        return f"{soundfile_build()}, {scipy_build()}"

    def range(self, signal: Any = None) -> Sequence[str]:
        """Return the whole qualities behind the one at 8 kHz."""
        return [self.ladder[0], *self.qualities.in_order()]

    def command_line(self, quality: str) -> str:
        """Return the command of vorbis-tools."""
        resample = "--resample 8000 " if quality.endswith("_8khz") else ""
        return f"oggenc -q {self.qualities.number(quality.removesuffix('_8khz'))} {resample}-o output.ogg input.wav"

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the rate that libvorbis takes nearest to the sound's."""
        return 8000 if quality.endswith("_8khz") else min(max(sample_rate, 8000), 192000)

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return an Ogg file whose serial number, random in libsndfile, is 0."""
        import soundfile

        buffer = io.BytesIO()
        level = 1 - self.qualities.number(quality.removesuffix("_8khz")) / 10  # libsndfile's compression level goes the other way
        options = {"format": "OGG", "subtype": "VORBIS", "compression_level": level}
        with soundfile.SoundFile(buffer, "w", sample_rate, len(waveform), **options) as file:
            for start in range(0, waveform.shape[1], sample_rate):  # libvorbis keeps a whole write on its stack
                file.write(np.ascontiguousarray(waveform[:, start : start + sample_rate].T))
        return b"".join(page[:14] + bytes(4) + page[18:22] + checksum(page) + page[26:] for page in pages(buffer.getvalue()))

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound; Ogg trims the delay and the end."""
        import soundfile

        waveform, sample_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        return waveform.T, sample_rate

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Count the pages' heads and the three header packets, with the codebooks, as container."""
        return ogg_ledger(stream, 3)
