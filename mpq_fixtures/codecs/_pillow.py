"""What the image codecs share: pixels in and out of Pillow, and the names of the libraries behind it."""

from __future__ import annotations

import io
from abc import abstractmethod
from functools import cache
from importlib.metadata import PackageNotFoundError, files, version
from typing import Any, ClassVar

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError, features

from mpq_fixtures.codecs import IMAGE, Codec
from mpq_fixtures.signals import Image


class PillowCodec(Codec):
    """A codec that Pillow writes and reads as ``format``; what is left to say is how a quality becomes options of ``save``."""

    modality = IMAGE
    format: ClassVar[str]  # Pillow's name of it
    feature: ClassVar[str]  # Pillow's name of the library behind it, for `PIL.features.version`
    backend: ClassVar[str]  # how that library's file name begins in Pillow's wheels

    @abstractmethod
    def options(self, quality: str) -> dict[str, Any]:
        """Return what `PIL.Image.Image.save` takes for ``quality``."""

    def build(self) -> str:
        """Name Pillow and the library behind the format."""
        return f"pillow {version('pillow')}, {self.backend} {features.version(self.feature)}{bundled('pillow', self.backend)}"

    def encode(self, signal: Image, quality: str) -> bytes:
        """Compress ``signal``; raises `ValueError` for a picture without pixels and where the format cannot hold its size."""
        buffer, picture = io.BytesIO(), PILImage.fromarray(checked(signal.pixels))
        try:
            picture.save(buffer, self.format, **self.options(quality))
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(f"{self.name} cannot hold this picture: {error}") from error
        return buffer.getvalue()

    def decode(self, data: bytes) -> Image:
        """Restore the picture; raises `ValueError` for bytes that are not a whole stream of this codec."""
        try:
            with PILImage.open(io.BytesIO(data), formats=[self.format]) as picture:
                return Image(np.array(picture if picture.mode == "RGB" else picture.convert("RGB")))
        except UnidentifiedImageError as error:
            raise ValueError(f"no {self.name} stream in these bytes") from error
        except Exception as error:  # damaged bytes make Pillow's plugins raise almost anything
            raise ValueError(f"not a readable {self.name} stream: {error}") from error


def checked(pixels: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return ``pixels`` when they are ``uint8 [height, width, 3]`` with at least one pixel, else raise `ValueError`."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"pixels are {pixels.dtype} {list(pixels.shape)}, not uint8 [height, width, 3] with at least one pixel")
    return np.ascontiguousarray(pixels)


def media_data(data: bytes) -> int:
    """Return the bytes that the ``mdat`` boxes of an ISO base media file hold (ISO/IEC 14496-12, 4.2); HEIC and AVIF are such."""
    place, found = 0, 0
    while place + 8 <= len(data):
        size, head = int.from_bytes(data[place : place + 4]), 8
        if size == 1:
            size, head = int.from_bytes(data[place + 8 : place + 16]), 16
        end = place + max(size, head) if size else len(data)
        if data[place + 4 : place + 8] == b"mdat":
            found += end - place - head
        place = end
    return found


@cache
def bundled(distribution: str, *libraries: str) -> str:
    """Return the file names of the ``libraries`` that a wheel carries, in brackets; "" where they come from the system.

    The names hold a hash of the content, which tells apart two builds of one version: those of pip and conda decode differently.
    """
    try:
        names = [file.name for file in files(distribution) or ()]
    except PackageNotFoundError:
        names = []
    found = sorted(name for name in names if name.startswith(libraries) and (".so" in name or ".dylib" in name or ".dll" in name))
    return f" ({', '.join(found)})" if found else ""
