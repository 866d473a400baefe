"""Fewer pixels, or a lower sample rate, as a part of an operating point: ``jpeg-q50@0.5x``, ``opus-24k@8khz``.

The encoder reduces the signal and gives it to the codec; the decoder brings what the codec decoded back to its size, as MPEG's
conditions for coding for machines do. The bitstream begins with the size to come back to, counted in the rate::

    width, height            as varints, of a picture in pixels
    sample rate, frames      as varints, of a sound

and the codec's own bitstream follows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from PIL import Image as PILImage

from mpq_fixtures.codecs import IMAGE, Codec, CodecError, Ledger, from_address
from mpq_fixtures.codecs._audio import read_varint, resample, scipy_build, varint
from mpq_fixtures.codecs._sources import digest_of_sources
from mpq_fixtures.signals import Audio, Image, Modality, Signal

MARK = "@"
_FACTOR, _RATE = re.compile(r"0\.\d{1,3}x"), re.compile(r"\d{1,3}(\.\d{1,3})?khz")
_MOST = 1 << 28  # pixels: a damaged size must not fill the memory


def split(quality: str) -> tuple[str, str]:
    """Return a quality of a codec and the scale behind it, "" where there is none: ``q50@0.5x`` is ``q50`` and ``0.5x``."""
    base, _, scale = quality.partition(MARK)
    return base, scale


def at_scale(codec: Codec, quality: str) -> Codec:
    """Return what encodes at ``quality``: the codec, or the codec behind a change of size where the quality names one."""
    return _scaled(codec) if MARK in quality else codec


def check(codec: Codec, quality: str) -> None:
    """Raise `CodecError` where the codec does not understand the quality, or the scale behind it cannot be."""
    base, scale = split(quality)
    codec.check(base)
    if MARK in quality:
        parse_scale(scale, codec.modality)


def parse_scale(scale: str, modality: Modality) -> float:
    """Return the factor of a picture's sides, below 1, or a sound's sample rate in Hz; raises `CodecError` for anything else."""
    if modality is IMAGE:
        if not _FACTOR.fullmatch(scale) or not float(scale[:-1]):
            raise CodecError(f"{MARK}{scale}: a picture is scaled by a factor below 1, such as @0.5x")
        return float(scale[:-1])
    if not _RATE.fullmatch(scale) or not 1 <= float(scale[:-3]) <= 384:
        raise CodecError(f"{MARK}{scale}: a sound is brought to a sample rate of 1 to 384 kHz, such as @8khz")
    return 1000 * float(scale[:-3])


@cache
def _scaled(codec: Codec) -> Scaled:
    return Scaled(codec)


class Scaled(Codec):
    """A codec that is given the signal reduced, and whose decoded signal is brought back.

    Pictures are reduced by Lanczos filters, antialiased, and enlarged by bicubic interpolation, both as Pillow has them; sides are
    rounded and at least 1. Sounds go through the resampler of the audio codecs, without delay; one whose rate is not above the one
    asked for keeps it.
    """

    def __init__(self, codec: Codec | dict[str, Any]) -> None:
        self._codec = codec if isinstance(codec, Codec) else from_address(codec)
        self.name, self.modality, self.ladder = self._codec.name, self._codec.modality, self._codec.ladder

    def build(self) -> str:
        """Name the codec's build and the resampler."""
        resampler = f"pillow {version('pillow')}" if self.modality is IMAGE else scipy_build()
        return f"{self._codec.build()}, {resampler}"

    def fingerprint(self) -> str:
        """Return a digest of the codec's fingerprint and of this file."""
        return hashlib.sha256(f"{self._codec.fingerprint()}\0{self.build()}\0{digest_of_sources([__name__])}".encode()).hexdigest()

    def parts(self) -> dict[str, Any]:
        """Return what the codec is made of, and this file with it."""
        parts, own = self._codec.parts(), super().parts()
        return {"code": f"{parts['code']} {own['code']}", "packages": own["packages"] | parts["packages"]}

    def address(self) -> dict[str, Any]:
        """Return the codec's address inside this one's."""
        return {"codec": f"{__name__}:Scaled", "arguments": {"codec": self._codec.address()}}

    def check(self, quality: str) -> None:
        """Raise `CodecError` where the codec does not understand the quality, or the scale cannot be."""
        check(self._codec, quality)

    def missing(self, qualities: Sequence[str] = ()) -> str:
        """Say what the codec lacks."""
        return self._codec.missing([split(quality)[0] for quality in qualities])

    def prepare(self, qualities: Sequence[str] = ()) -> None:
        """Make the codec ready."""
        self._codec.prepare([split(quality)[0] for quality in qualities])

    def encode(self, signal: Signal, quality: str) -> bytes:
        """Compress the reduced signal; raises what the codec raises."""
        base, scale = split(quality)
        asked = parse_scale(scale, self.modality)
        if isinstance(signal, Image):
            height, width = signal.pixels.shape[:2]
            size = _reduced(signal, asked)
            reduced = PILImage.fromarray(np.ascontiguousarray(signal.pixels)).resize(size, PILImage.Resampling.LANCZOS)
            return varint(width) + varint(height) + self._codec.encode(Image(np.array(reduced)), base)
        rate = min(round(asked), signal.sample_rate)
        waveform = np.clip(resample(signal.waveform, signal.sample_rate, rate), -1, 1)
        head = varint(signal.sample_rate) + varint(signal.waveform.shape[1])
        return head + self._codec.encode(Audio(waveform, rate), base)

    def decode(self, data: bytes) -> Signal:
        """Restore the signal in its size; raises `ValueError` for bytes that are not a whole stream."""
        first, second, stream = self._head(data)
        decoded: Signal = self._codec.decode(stream)
        if isinstance(decoded, Image):
            return Image(np.array(PILImage.fromarray(decoded.pixels).resize((first, second), PILImage.Resampling.BICUBIC)))
        waveform = resample(decoded.waveform, decoded.sample_rate, first)[:, :second]
        if waveform.shape[1] != second:
            raise ValueError(f"not a whole {self.name} stream: {waveform.shape[1]} of {second} frames")
        return Audio(np.clip(waveform, -1, 1), first)

    def ledger(self, data: bytes) -> Ledger:
        """Return the codec's ledger; the size in front is side information."""
        *_, stream = self._head(data)
        return self._codec.ledger(stream) + Ledger(0, side=len(data) - len(stream))

    def nominal_bits(self, signal: Signal, quality: str) -> float | None:
        """Return the bits that the codec's quality names for what it is given: a smaller picture, or a sound that is as long."""
        base, scale = split(quality)
        if isinstance(signal, Image):
            width, height = _reduced(signal, parse_scale(scale, self.modality))
            signal = Image(np.broadcast_to(np.uint8(0), (height, width, 3)))  # of which nothing but the size counts
        return self._codec.nominal_bits(signal, base)

    def _head(self, data: bytes) -> tuple[int, int, bytes]:
        first, rest = read_varint(data)
        second, rest = read_varint(rest)
        allowed = first * second <= _MOST if self.modality is IMAGE else 1000 <= first <= 384_000
        if not allowed or not first or not second:
            raise ValueError(f"not a whole {self.name} stream: a size of {first} by {second}")
        return first, second, rest


def _reduced(picture: Image, factor: float) -> tuple[int, int]:
    """Return the width and the height of a picture whose sides are multiplied by ``factor``."""
    height, width = picture.pixels.shape[:2]
    return max(1, round(width * factor)), max(1, round(height * factor))
