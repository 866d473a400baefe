"""What the audio codecs share: how a sound finds back to its own length, rate and channels, and PyAV's encoders and decoders.

A bitstream is a header of some six bytes, counted in the rate, and one stream of the format for every two channels, or for every one::

    sample rate, frames, channels    as varints (seven bits a byte, lowest first), of the original sound
    length, stream                   for every pair of channels but the last, or for every channel but the last
    stream                           the last pair, or the single channel that is left

A quality names the bit rate of a stream, so that a sound of six channels takes three times that of two.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from importlib.metadata import version
from itertools import chain
from math import ceil, gcd
from typing import TYPE_CHECKING, Any, TypeVar
from zlib import crc32

import numpy as np

from mpq_fixtures.codecs import AUDIO, Codec, Ledger
from mpq_fixtures.codecs._pillow import bundled
from mpq_fixtures.errors import MissingAsset
from mpq_fixtures.signals import Audio

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bytes = TypeVar("Bytes", bytes, memoryview)

BLOCK = 1 << 16
"""Samples of a channel that are given to an encoder, or limited, at once: a long sound is not held once more for that."""

LARGEST_FACTOR = 1 << 16
"""Numbers of rates without a common divisor beyond which a filter for all of their phases, 64 times as long, is not made."""

SAMPLE_RATES = range(1000, 384001)  # Hz; the resampler's filter grows with the rate, so that a damaged header must not set it


class AudioCodec(Codec):
    """A codec of mono and stereo streams; the header, more channels, resampling and alignment are the same for all."""

    modality = AUDIO
    channels_per_stream: int = 2

    @abstractmethod
    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the sample rate in Hz at which a sound of ``sample_rate`` is coded at ``quality``."""

    @abstractmethod
    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Compress ``float32 [at most channels_per_stream, frames]`` at a rate that `coded_rate` gave; ``frames`` is at least 1."""

    @abstractmethod
    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the waveform without the codec's delay, with anything at its end, and its sample rate."""

    def encode(self, signal: Audio, quality: str) -> bytes:
        """Compress ``signal``, limited to -1..1; raises `ValueError` without samples and for values or sample rates that cannot be."""
        channels, frames = signal.waveform.shape
        low, high = (signal.waveform.min(), signal.waveform.max()) if signal.waveform.size else (np.nan, np.nan)
        if not np.isfinite([low, high]).all():
            raise ValueError(f"a sound of {channels} channels and {frames} frames needs samples, all of them finite")
        if signal.sample_rate not in SAMPLE_RATES:
            raise ValueError(f"a sample rate of {signal.sample_rate} Hz is outside {SAMPLE_RATES.start} to {SAMPLE_RATES.stop - 1}")
        rate, step = self.coded_rate(signal.sample_rate, quality), self.channels_per_stream
        limited = signal.waveform if low >= -1 and high <= 1 else np.clip(signal.waveform, -1, 1)
        waveform = resample(np.asarray(limited, np.float32), signal.sample_rate, rate)
        streams = [self.encode_stream(waveform[first : first + step], rate, quality) for first in range(0, channels, step)]
        header = varint(signal.sample_rate) + varint(frames) + varint(channels)
        return header + b"".join(varint(len(stream)) + stream for stream in streams[:-1]) + streams[-1]

    def decode(self, data: bytes) -> Audio:
        """Restore the sound in its own length, rate and channels; raises `ValueError` for bytes that are not a whole stream."""
        try:
            sample_rate, frames, channels, streams = self._split(data)
            decoded = [self.decode_stream(stream) for stream in streams]
            waveform = _together([resample(sound, rate, sample_rate)[:, :frames] for sound, rate in decoded])
        except Exception as error:  # damaged bytes make PyAV and libsndfile raise almost anything
            raise ValueError(f"not a readable {self.name} stream") from error
        if waveform.shape != (channels, frames) or not frames:
            raise ValueError(f"not a whole {self.name} stream: {list(waveform.shape)} samples of {[channels, frames]}")
        for channel in waveform:
            for start in range(0, frames, BLOCK):
                block = channel[start : start + BLOCK]
                np.clip(np.nan_to_num(block, copy=False), -1, 1, out=block)
        return Audio(waveform, sample_rate)

    def _split(self, data: bytes) -> tuple[int, int, int, list[bytes]]:
        """Return the sample rate, frames and channels of the header, and the streams; raises `ValueError` where they are not there."""
        sample_rate, data = read_varint(data)
        frames, data = read_varint(data)
        channels, data = read_varint(data)
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"a sample rate of {sample_rate} Hz")
        streams = []
        for first in range(0, channels, self.channels_per_stream):
            size, data = read_varint(data) if first + self.channels_per_stream < channels else (len(data), data)
            streams.append(data[:size])
            data = data[size:]
        return sample_rate, frames, channels, streams

    def ledger(self, data: bytes) -> Ledger:
        """Return what the streams are spent on; the header before them, and their lengths, are side information."""
        streams = self._split(data)[-1]
        return sum(map(self.stream_ledger, streams), Ledger(0, side=len(data) - sum(map(len, streams))))

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Return what the bytes of one stream are spent on; all of it is payload unless the codec says otherwise."""
        return Ledger(len(stream))

    def nominal_bits(self, signal: Audio, quality: str) -> float | None:
        """Return the bits of a quality in kbit/s a stream, such as ``24k``; None for others."""
        if not quality.endswith("k"):
            return None
        channels, frames = signal.waveform.shape
        seconds: float = ceil(channels / self.channels_per_stream) * frames / signal.sample_rate
        return 1000 * float(quality[:-1]) * seconds


def _together(sounds: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the channels of all streams as an array that nobody else holds; a single one is not copied for that, since it may be long."""
    (first, *others) = sounds
    return first if not others and first.flags.c_contiguous and first.flags.writeable else np.concatenate(sounds)


def varint(number: int) -> bytes:
    """Return ``number`` in seven bits a byte, lowest first, the high bit set on every byte but the last (LEB128)."""
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def read_varint(data: Bytes) -> tuple[int, Bytes]:
    """Return the number that ``data`` begins with and what follows it; raises `ValueError` where there is none."""
    number = 0
    for place, byte in enumerate(data[:5]):
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, data[place + 1 :]
    raise ValueError("a number is missing")


def resample(waveform: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
    """Return ``waveform`` at ``target`` instead of ``source`` Hz: no delay, ``ceil(frames * target / source)`` frames."""
    if source == target:
        return waveform
    if source not in SAMPLE_RATES or target not in SAMPLE_RATES:  # what a damaged stream says may be anything
        raise ValueError(f"from {source} to {target} Hz: rates are {SAMPLE_RATES.start} to {SAMPLE_RATES.stop - 1}")
    from scipy.signal import resample_poly

    common = gcd(source, target)
    up, down = target // common, source // common
    if max(up, down) > LARGEST_FACTOR:
        return _resample_between(waveform, up, down)
    return np.asarray(resample_poly(waveform, up, down, axis=1, window=low_pass(max(up, down))), np.float32)


def _resample_between(waveform: NDArray[np.float32], up: int, down: int) -> NDArray[np.float32]:
    """Return what `resample` does, each sample by itself from those around it: most of a filter for rates far apart would fall on none.

    The filter is that of `low_pass`, looked up between the points of a table: 5e-9 off.
    """
    factor, frames = max(up, down), waveform.shape[1]
    lobes = np.linspace(-32, 32, 2**20 + 1)
    table = np.sinc(lobes) * np.kaiser(len(lobes), 8.0) * (up / factor)
    reach = 32 * factor // up + 1  # samples before and behind
    padded = np.pad(waveform, ((0, 0), (reach, reach + 1)))
    made = np.empty((len(waveform), -(-frames * up // down)), np.float32)
    step = max(1, BLOCK // (2 * reach + 1))
    for start in range(0, made.shape[1], step):
        place = np.arange(start, min(start + step, made.shape[1])) * down
        near = (place // up)[:, None] + np.arange(-reach, reach + 1)
        weights = np.interp((place[:, None] - near * up) / factor, lobes, table, 0.0, 0.0)
        made[:, start : start + step] = np.einsum("cpn,pn->cp", padded[:, near + reach], weights)
    return made


@lru_cache(8)
def low_pass(factor: int) -> NDArray[np.float32]:
    """Return a filter that passes 1/``factor`` of the band, three times as steep as the one that `resample_poly` would design."""
    from scipy.signal import firwin

    return np.asarray(firwin(64 * factor + 1, 1 / factor, window=("kaiser", 8.0)), np.float32)


def lowest(rates: Iterable[int], sample_rate: int) -> int:
    """Return the lowest of ``rates`` that is at least ``sample_rate``, or the highest of them."""
    rates = sorted(rates)
    return next((rate for rate in rates if rate >= sample_rate), rates[-1])


def encode_packets(name: str, waveform: NDArray[np.float32], sample_rate: int, bit_rate: int, **options: str) -> tuple[list[bytes], bytes]:
    """Return the packets of FFmpeg's encoder ``name``, the same in every run, and what it says of itself (``extradata``)."""
    import av
    from av.codec.context import Flags

    context: Any = av.CodecContext.create(name, "w")
    context.sample_rate = sample_rate
    context.layout = "mono" if len(waveform) == 1 else "stereo"
    context.format = format = "fltp" if "fltp" in [one.name for one in context.codec.audio_formats] else "s16"
    context.bit_rate = bit_rate
    context.time_base = Fraction(1, sample_rate)
    context.thread_count = 1
    context.flags |= Flags.bitexact
    context.options = options
    packets = [bytes(packet) for frame in (*frames_of(waveform, sample_rate, format), None) for packet in context.encode(frame)]
    return packets, bytes(context.extradata or b"")


def frames_of(waveform: NDArray[np.float32], sample_rate: int, format: str) -> Iterator[Any]:
    """Yield a mono or stereo sound as PyAV's frames of ``fltp``, ``flt`` or ``s16``."""
    import av

    layout = "mono" if len(waveform) == 1 else "stereo"
    for start in range(0, waveform.shape[1], BLOCK):
        block = waveform[:, start : start + BLOCK]
        samples = np.ascontiguousarray(block if format == "fltp" else block.T.reshape(1, -1))
        samples = np.round(samples * 32767).astype(np.int16) if format == "s16" else samples
        frame = av.AudioFrame.from_ndarray(samples, format=format, layout=layout)
        frame.sample_rate = sample_rate
        frame.pts = start
        yield frame


def decode_packets(context: Any, packets: Iterable[Any]) -> tuple[NDArray[np.float32], int]:
    """Return what FFmpeg's decoder ``context`` makes of ``packets``, and its sample rate."""
    sounds, sample_rate = [], 0
    for packet in chain(packets, [None]):
        for frame in context.decode(packet):
            if frame.layout.nb_channels > 2:  # damaged bytes say so, and PyAV reads beyond what many channels hold
                raise ValueError("more channels than a stream has")
            sounds.append(frame.to_ndarray())
            sample_rate = sample_rate or int(frame.sample_rate)
    if not sounds:
        raise ValueError("no sound in it")
    return np.concatenate(sounds, axis=1), sample_rate


def require(*coders: str) -> None:
    """Raise `MissingAsset` where PyAV lacks one of FFmpeg's ``coders``, as builds other than its own wheels do."""
    import av

    if lacking := [coder for coder in coders if coder not in av.codecs_available]:
        raise MissingAsset(f"this PyAV has no {' and no '.join(lacking)}: pip install --force-reinstall --only-binary :all: av")


def pyav_build(*libraries: str) -> str:
    """Name PyAV and the FFmpeg behind it, how that was configured, and the ``libraries`` that its wheel brings."""
    from av._core import library_meta

    codec = library_meta["libavcodec"]
    configuration = f"{crc32(codec['configuration'].encode()):08x}"
    return f"av {version('av')}, libavcodec {'.'.join(map(str, codec['version']))} {configuration}{bundled('av', 'libavcodec', *libraries)}"


def soundfile_build() -> str:
    """Name soundfile and the libsndfile behind it."""
    import soundfile

    return f"soundfile {soundfile.__version__}, libsndfile {soundfile.__libsndfile_version__}{bundled('soundfile', 'libsndfile')}"


def scipy_build() -> str:
    """Name the resampler."""
    return f"scipy {version('scipy')}"
