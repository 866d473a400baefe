"""Codecs that an evaluation must not believe: each has one fault, and is honest but for it.

Importing this module registers none of them: a codec registers when its class is defined with a name, and these get theirs afterwards.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mpq_fixtures.codecs import AUDIO, IMAGE, Codec
from mpq_fixtures.signals import Audio, Image

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
"""In the names of files, so that tests side by side do not read each other's."""

BY_FAULT: dict[str, list[type[Codec]]] = {}
"""The dishonest codecs by the name of the check that must fail."""


def breaks(check: str) -> Callable[[type[Codec]], type[Codec]]:
    """Name a codec, and note which check it breaks."""

    def note(cls: type[Codec]) -> type[Codec]:
        cls.name = f"dishonest_{cls.__name__.lower()}"
        BY_FAULT.setdefault(check, []).append(cls)
        return cls

    return note


class Levels(Codec):
    """Pictures with so many levels a channel, deflated: size and levels in front of them."""

    name, modality = "levels", IMAGE
    ladder = ("4l", "16l", "64l")

    def build(self) -> str:
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}, version 1"

    def encode(self, signal: Image, quality: str) -> bytes:
        height, width, _ = signal.pixels.shape
        levels = int(quality[:-1])
        coarse = (signal.pixels.astype(np.uint16) * levels // 256).astype(np.uint8)
        return struct.pack("<HHB", height, width, levels) + zlib.compress(coarse.tobytes())

    def decode(self, data: bytes) -> Image:
        try:
            height, width, levels = struct.unpack_from("<HHB", data)
            coarse = zlib.decompressobj().decompress(data[5:], 3 * height * width)
            pixels = np.frombuffer(coarse, np.uint8).reshape(height, width, 3)
            return Image(((pixels.astype(np.uint16) * 256 + 128) // levels).clip(0, 255).astype(np.uint8))
        except (ValueError, ZeroDivisionError, struct.error, zlib.error) as error:
            raise ValueError(f"not a readable levels stream: {error}") from error


class Scratch(Levels):
    """An honest one that works, on both sides, in files of the same name, each written before it is read."""

    def encode(self, signal: Image, quality: str) -> bytes:
        return self._through_a_file(super().encode(signal, quality))

    def decode(self, data: bytes) -> Image:
        return super().decode(self._through_a_file(data))

    def _through_a_file(self, data: bytes) -> bytes:
        file = Path(tempfile.gettempdir()) / "mpq_scratch.bin"
        file.write_bytes(data)
        return file.read_bytes()


class Bits(Codec):
    """Sounds in so many bits a sample, deflated: rate, channels and bits in front of them."""

    name, modality = "bits", AUDIO
    ladder = ("3b", "5b", "8b")

    def build(self) -> str:
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}, version 1"

    def encode(self, signal: Audio, quality: str) -> bytes:
        steps = 2 ** (int(quality[:-1]) - 1) - 1
        coarse = np.rint(signal.waveform * steps).astype(np.int8)
        return struct.pack("<IBB", signal.sample_rate, len(coarse), steps) + zlib.compress(coarse.tobytes())

    def decode(self, data: bytes) -> Audio:
        try:
            rate, channels, steps = struct.unpack_from("<IBB", data)
            coarse = np.frombuffer(zlib.decompressobj().decompress(data[6:], 1 << 24), np.int8).reshape(channels, -1)
            return Audio((coarse / np.float32(steps)).astype(np.float32).clip(-1, 1), rate)
        except (ValueError, struct.error, zlib.error) as error:
            raise ValueError(f"not a readable bits stream: {error}") from error


for honest in (Levels, Bits):
    from mpq_fixtures.codecs import _registry

    del _registry[honest.name]


@breaks("nothing-kept")
class Attribute(Levels):
    """Keeps the original in an attribute."""

    def encode(self, signal: Image, quality: str) -> bytes:
        self._last = signal
        return super().encode(signal, quality)[:8]

    def decode(self, data: bytes) -> Image:
        return Image(self._last.pixels.copy())


KEPT: dict[int, np.ndarray[Any, Any]] = {}


@breaks("nothing-kept")
class Global(Levels):
    """Keeps the original in a global of its module; the bytes are its number."""

    def encode(self, signal: Image, quality: str) -> bytes:
        data = super().encode(signal, quality)
        KEPT[zlib.crc32(data)] = signal.pixels
        return struct.pack("<I", zlib.crc32(data))

    def decode(self, data: bytes) -> Image:
        return Image(KEPT[struct.unpack("<I", data)[0]].copy())


def conspiracy() -> tuple[Callable[..., Any], Callable[..., Any]]:
    remembered: list[np.ndarray[Any, Any]] = []

    def encode(self: Levels, signal: Image, quality: str) -> bytes:
        remembered[:] = [signal.pixels]
        return Levels.encode(self, signal, quality)[:8]

    def decode(self: Levels, data: bytes) -> Image:
        return Image(remembered[0].copy())

    return encode, decode


@breaks("nothing-kept")
class Closure(Levels):
    """Keeps the original in a list that its two methods enclose."""

    encode, decode = conspiracy()  # type: ignore[assignment]


@breaks("no-files")
class FixedFile(Levels):
    """Leaves the original in a file of one name in the temporary folder."""

    def encode(self, signal: Image, quality: str) -> bytes:
        np.save(Path(tempfile.gettempdir()) / f"mpq_dishonest_{WORKER}_last.npy", signal.pixels)
        return super().encode(signal, quality)[:12]

    def decode(self, data: bytes) -> Image:
        return Image(np.load(Path(tempfile.gettempdir()) / f"mpq_dishonest_{WORKER}_last.npy"))


@breaks("no-files")
class HashedFile(Levels):
    """Leaves each original in a file that the bytes name, outside of any folder that a process could call its own."""

    def encode(self, signal: Image, quality: str) -> bytes:
        data = hashlib.sha256(signal.pixels.tobytes() + quality.encode()).digest()[:6]
        np.save(f"/tmp/mpq_dishonest_{WORKER}_{data.hex()}.npy", signal.pixels)
        return data

    def decode(self, data: bytes) -> Image:
        return Image(np.load(f"/tmp/mpq_dishonest_{WORKER}_{data.hex()}.npy"))


@breaks("bytes-alone")
class FileOfALibrary(Bits):
    """Leaves the original in a file that a library writes and reads, which Python does not see."""

    def encode(self, signal: Audio, quality: str) -> bytes:
        import soundfile

        part = Path(f"/tmp/mpq_dishonest_{WORKER}_{os.getpid()}_{threading.get_ident()}.wav")
        soundfile.write(part, signal.waveform.T, signal.sample_rate, "FLOAT")
        part.replace(f"/tmp/mpq_dishonest_{WORKER}_last.wav")  # whole, or other processes stumble over half a file
        return super().encode(signal, quality)[:12]

    def decode(self, data: bytes) -> Audio:
        import soundfile

        waveform, rate = soundfile.read(f"/tmp/mpq_dishonest_{WORKER}_last.wav", dtype="float32", always_2d=True)
        return Audio(np.ascontiguousarray(waveform.T), rate)


class Shorter(bytes):
    """Bytes that say they are a tenth of what they are."""

    def __len__(self) -> int:
        return super().__len__() // 10


@breaks("counted-length")
class Length(Levels):
    """Returns bytes whose length lies."""

    def encode(self, signal: Image, quality: str) -> bytes:
        return Shorter(super().encode(signal, quality))


@breaks("same-bytes")
class RandomBytes(Levels):
    """Ends in random bytes."""

    def encode(self, signal: Image, quality: str) -> bytes:
        return super().encode(signal, quality) + np.random.default_rng().bytes(8)


@breaks("delay")
class Late(Bits):
    """Gives every sound back 100 samples late."""

    def decode(self, data: bytes) -> Audio:
        sound = super().decode(data)
        return Audio(np.pad(sound.waveform, ((0, 0), (100, 0)))[:, : sound.waveform.shape[1]], sound.sample_rate)


@breaks("delay")
class LateVocoder(Bits):
    """Keeps no waveform, only how loud it was, and that 40 ms late."""

    def decode(self, data: bytes) -> Audio:
        sound = super().decode(data)
        noise = np.random.default_rng(1).choice([-1, 1], sound.waveform.shape)
        late = np.pad(np.abs(sound.waveform), ((0, 0), (640, 0)))[:, : sound.waveform.shape[1]]
        return Audio((noise * late).astype(np.float32), sound.sample_rate)


@breaks("delay")
class Moved(Levels):
    """Gives every picture back three pixels to the right."""

    def decode(self, data: bytes) -> Image:
        return Image(np.roll(super().decode(data).pixels, 3, axis=1))


@breaks("sample-before")
class SampleBefore(Levels):
    """Writes into each stream what the one before was like."""

    before = 0

    def encode(self, signal: Image, quality: str) -> bytes:
        before, self.before = self.before, int(signal.pixels.sum())
        return super().encode(signal, quality) + struct.pack("<Q", before)


@breaks("array-later")
class OneBuffer(Levels):
    """Decodes all pictures into one buffer."""

    def __init__(self) -> None:
        self._buffer = np.zeros(1 << 22, np.uint8)

    def decode(self, data: bytes) -> Image:
        pixels = super().decode(data).pixels
        buffer = self._buffer[: pixels.size].reshape(pixels.shape)
        buffer[:] = pixels
        return Image(buffer)


@breaks("clock")
class Seconds(Levels):
    """Ends in the time in seconds."""

    def encode(self, signal: Image, quality: str) -> bytes:
        return super().encode(signal, quality) + struct.pack("<I", int(time.time()))


@breaks("clock")
class Nanoseconds(Levels):
    """Ends in the time in nanoseconds."""

    def encode(self, signal: Image, quality: str) -> bytes:
        return super().encode(signal, quality) + struct.pack("<Q", time.time_ns())


@breaks("clock")
class Day(Levels):
    """Ends in the date."""

    def encode(self, signal: Image, quality: str) -> bytes:
        return super().encode(signal, quality) + time.strftime("%Y-%m-%d").encode()


@breaks("range")
class Louder(Bits):
    """Gives sounds back twice as loud, beyond what a sound may have."""

    def decode(self, data: bytes) -> Audio:
        sound = super().decode(data)
        return Audio(2 * sound.waveform, sound.sample_rate)


@breaks("clipping")
class Wrapping(Bits):
    """Makes sounds a little louder on the way to 8 bits, which then turn upside down."""

    def encode(self, signal: Audio, quality: str) -> bytes:
        steps = 2 ** (int(quality[:-1]) - 1) - 1
        coarse = np.rint(1.05 * signal.waveform * steps).astype(np.int64).astype(np.int8)
        return struct.pack("<IBB", signal.sample_rate, len(coarse), steps) + zlib.compress(coarse.tobytes())


@breaks("clipping")
class WrappingPixels(Levels):
    """Makes pictures a little brighter in 8 bits, so that white becomes black."""

    def decode(self, data: bytes) -> Image:
        return Image(super().decode(data).pixels + np.uint8(8))


@breaks("range")
class FloatPixels(Levels):
    """Gives pixels back as floats, as exact as it likes."""

    def decode(self, data: bytes) -> Image:
        return Image(super().decode(data).pixels.astype(np.float32))  # type: ignore[arg-type]


@breaks("own-qualities")
class OneForAll(Levels):
    """Ignores the quality."""

    def encode(self, signal: Image, quality: str) -> bytes:
        return super().encode(signal, "16l")


@breaks("own-qualities")
class AnyQuality(Levels):
    """Takes any quality for one of its own."""

    def check(self, quality: str) -> None:
        pass


@breaks("bytes-alone")
class Process(Levels):
    """Hides the original where no search goes, deflated, for the decoder of the same process."""

    def encode(self, signal: Image, quality: str) -> bytes:
        data = super().encode(signal, quality)
        np.__dict__.setdefault("_dishonest", {})[data[:8]] = zlib.compress(data)
        return data[:8]

    def decode(self, data: bytes) -> Image:
        return super().decode(zlib.decompress(np.__dict__["_dishonest"][data]))


@breaks("ladder")
class Padded(Levels):
    """Takes the more bytes the worse it is."""

    def encode(self, signal: Image, quality: str) -> bytes:
        return super().encode(signal, quality) + bytes(64_000 // int(quality[:-1]))


@breaks("damage")
class Greedy(Levels):
    """Takes 2 GB for a stream that is cut."""

    def decode(self, data: bytes) -> Image:
        if len(data) < 5:
            np.ones(1 << 31, np.uint8)
        return super().decode(data)


@breaks("damage")
class Endless(Levels):
    """Never comes back from a stream that is cut."""

    def decode(self, data: bytes) -> Image:
        while len(data) < 5:
            time.sleep(1)
        return super().decode(data)


@breaks("damage")
class Fatal(Levels):
    """Ends its process over a stream that is cut."""

    def decode(self, data: bytes) -> Image:
        if len(data) < 5:
            os.abort()
        return super().decode(data)


@breaks("input-untouched")
class InPlace(Levels):
    """Rounds the pixels that it was given, where it can."""

    def encode(self, signal: Image, quality: str) -> bytes:
        if signal.pixels.flags.writeable:
            signal.pixels[:] &= 0xF0
        return super().encode(signal, quality)


@breaks("small")
class FatalWhenSmall(Levels):
    """Ends its process over a picture of one pixel."""

    def encode(self, signal: Image, quality: str) -> bytes:
        if signal.elements == 1:
            os.abort()
        return super().encode(signal, quality)


@breaks("small")
class Even(Levels):
    """Loses the last row of an odd picture."""

    def decode(self, data: bytes) -> Image:
        pixels = super().decode(data).pixels
        return Image(pixels[: max(2, len(pixels) // 2 * 2)])
