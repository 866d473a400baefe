"""Opus, written through PyAV and read through soundfile."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._audio import AudioCodec, frames_of, lowest, pyav_build, scipy_build, soundfile_build
from mpq_fixtures.codecs._ogg import ogg_ledger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Opus(AudioCodec):
    """Opus in Ogg (RFC 6716, RFC 7845) by libopus. ``6k`` asks for 6 kbit/s a stream, mono or stereo, in frames of 20 ms.

    Constrained VBR: unconstrained, the default, takes up to 1.8 times the rate that was asked for; at 6 kbit/s they are the same.
    Coded at the next of 8, 12, 16, 24 and 48 kHz, and below 64 kbit/s at 16 kHz at most, below 12 at 8 kHz: libopus goes to these
    bandwidths by itself, but its own resamplers bring the sound back up to six samples off. Ogg pages of some 8 kB instead of one
    second. libsndfile decodes: FFmpeg's own Opus decoder lags by a part of a sample.
    """

    name = "opus"
    ladder = ("6k", "12k", "24k", "64k", "128k")
    qualities = Numbers("", 6, 256, "k")

    def build(self) -> str:
        """Name PyAV with its libopus, soundfile and the resampler."""
        return f"{pyav_build('libopus')}, {soundfile_build()}, {scipy_build()}"

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the nearest of Opus's sample rates from above, as far as the bit rate goes."""
        kbps = self.qualities.number(quality)
        return min(lowest((8000, 12000, 16000, 24000, 48000), sample_rate), 8000 if kbps < 12 else 16000 if kbps < 64 else 48000)

    def command_line(self, quality: str) -> str:
        """Return the command of opus-tools."""
        kbps = self.qualities.number(quality)
        rate = f"  # measured at {'8' if kbps < 12 else '16'} kHz at most: libopus chooses for itself" if kbps < 64 else ""
        return f"opusenc --bitrate {kbps} --cvbr --padding 0 input.wav output.opus{rate}"

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return an Ogg file."""
        import av

        buffer = io.BytesIO()
        layout = "mono" if len(waveform) == 1 else "stereo"
        kbps = self.qualities.number(quality)
        page_duration = str(60_000_000 // kbps)  # in us; libsndfile takes a file of many pages over 48 kB for malformed
        with av.open(buffer, "w", format="ogg", options={"fflags": "+bitexact", "page_duration": page_duration}) as container:
            stream = container.add_stream("libopus", rate=sample_rate, layout=layout)
            stream.bit_rate = 1000 * kbps
            stream.codec_context.options = {"vbr": "constrained"}
            for frame in (*frames_of(waveform, sample_rate, "flt"), None):
                container.mux(stream.encode(frame))
        return buffer.getvalue()

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound; Ogg trims the delay and the end."""
        import soundfile

        waveform, sample_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
        return waveform.T, sample_rate

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Count the pages' heads and the two header packets as container."""
        return ogg_ledger(stream, 2)
