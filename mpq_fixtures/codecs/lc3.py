"""LC3 through lc3py."""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._audio import AudioCodec, lowest, read_varint, scipy_build, varint

if TYPE_CHECKING:
    from numpy.typing import NDArray

RATES = (8000, 16000, 24000, 32000, 48000)
MICROSECONDS = 10000  # a frame
FLOAT = 3  # liblc3's LC3_PCM_FORMAT_FLOAT


class Lc3(AudioCodec):
    """LC3 (Bluetooth SIG, Low Complexity Communication Codec 1.0) by liblc3. ``32k`` is 32 kbit/s a channel, in frames of 10 ms.

    Coded at the next of 8 to 48 kHz, and at 16, 24 and 32 kHz at most below 32, 64 and 96 kbit/s, as Bluetooth's profiles do.
    LC3 knows no stereo: each channel is a stream. A stream is the number of its sample rate, a frame's size as a varint, and the frames.
    """

    name = "lc3"
    ladder = ("16k", "24k", "32k", "64k", "128k")
    qualities = Numbers("", 16, 320, "k")
    channels_per_stream = 1
    automatic = False

    def build(self) -> str:
        """Name lc3py, whose wheel holds liblc3, and the resampler."""
        return f"lc3py {version('lc3py')}, {scipy_build()}"

    def missing(self, qualities: Sequence[str] = ()) -> str:
        """Ask for lc3py where it is not installed."""
        return "" if importlib.util.find_spec("lc3") else "it needs lc3py: pip install lc3py"

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the nearest of LC3's sample rates from above, as far as the bit rate goes."""
        kbps = self.qualities.number(quality)
        highest = 16000 if kbps < 32 else 24000 if kbps < 64 else 32000 if kbps < 96 else 48000
        return min(lowest(RATES, sample_rate), highest)

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return the head and the frames, as many as bring the last sample out of the decoder."""
        size = self.qualities.number(quality) * MICROSECONDS // 8000
        samples = sample_rate * MICROSECONDS // 1_000_000
        count = -(-(waveform.shape[1] + delay(sample_rate)) // samples)
        sound = np.zeros((count, samples), np.float32)
        sound.ravel()[: waveform.shape[1]] = waveform[0]
        frames = np.empty((count, size), np.uint8)
        library = encoder()
        memory = ctypes.create_string_buffer(library.lc3_hr_encoder_size(False, MICROSECONDS, sample_rate))
        state = library.lc3_hr_setup_encoder(False, MICROSECONDS, sample_rate, sample_rate, memory)
        for frame, coded in zip(sound, frames, strict=True):
            if library.lc3_encode(state, FLOAT, frame.ctypes.data, 1, size, coded.ctypes.data):
                raise ValueError("liblc3 does not take this sound")
        return bytes([RATES.index(sample_rate)]) + varint(size) + frames.tobytes()

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound behind the delay."""
        sample_rate, (size, data) = RATES[data[0]], read_varint(data[1:])
        frames = np.frombuffer(data, np.uint8).reshape(-1, size)
        sound = np.empty((len(frames), sample_rate * MICROSECONDS // 1_000_000), np.float32)
        library = decoder()
        memory = ctypes.create_string_buffer(library.lc3_hr_decoder_size(False, MICROSECONDS, sample_rate))
        state = library.lc3_hr_setup_decoder(False, MICROSECONDS, sample_rate, sample_rate, memory)
        for coded, frame in zip(frames, sound, strict=True):
            if library.lc3_decode(state, coded.ctypes.data, size, FLOAT, frame.ctypes.data, 1) < 0:
                raise ValueError(f"liblc3 does not take frames of {size} bytes")
        return sound.reshape(1, -1)[:, delay(sample_rate) :], sample_rate

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Count the frames as payload, and what stands before them as side information."""
        _, frames = read_varint(stream[1:])
        return Ledger(len(frames), side=len(stream) - len(frames))


def delay(sample_rate: int) -> int:
    """Return the samples by which a decoded sound is late besides the frame itself: 2.5 ms, liblc3's ``lc3_delay_samples``."""
    return sample_rate // 400


@cache
def encoder() -> Any:
    """Return liblc3 as lc3py finds it, for ctypes; lc3py's own objects never free their memory, and look for the library each time."""
    import lc3  # type: ignore[import-untyped,import-not-found,unused-ignore]

    return lc3.Encoder(MICROSECONDS, RATES[0]).lib


@cache
def decoder() -> Any:
    """Return liblc3 as `encoder` does, with the decoder's functions."""
    import lc3  # type: ignore[import-untyped,import-not-found,unused-ignore]

    return lc3.Decoder(MICROSECONDS, RATES[0]).lib
