"""HEIC through pillow-heif."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np

from mpq_fixtures.codecs import IMAGE, Codec, Ledger, Numbers
from mpq_fixtures.codecs._pillow import bundled, checked, media_data
from mpq_fixtures.signals import Image


class Heic(Codec):
    """HEIC (HEVC still pictures in HEIF, ISO/IEC 23008-12) by libheif with x265. ``q30`` is quality 30 of 0 to 99.

    Chroma is 4:2:0, x265's preset is libheif's ``slow``, libde265 decodes. Qualities 99 and 100 are the same. The container takes some
    380 bytes.
    """

    name, modality = "heic", IMAGE
    ladder = ("q0", "q10", "q30", "q50", "q80")
    qualities = Numbers("q", 0, 99)
    automatic = False

    def build(self) -> str:
        """Name pillow-heif and the libraries in its wheel."""
        return f"pillow-heif {version('pillow-heif')}{bundled('pillow-heif', 'libheif', 'libx265', 'libde265')}"

    def missing(self, qualities: Sequence[str] = ()) -> str:
        """Ask for pillow-heif where it is not installed."""
        return "" if importlib.util.find_spec("pillow_heif") else "it needs pillow-heif: pip install pillow-heif"

    def encode(self, signal: Image, quality: str) -> bytes:
        """Compress ``signal`` on one thread; raises `ValueError` for a picture without pixels and for a size that the format lacks."""
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]

        pixels = checked(signal.pixels)
        height, width, _ = pixels.shape
        buffer = io.BytesIO()
        options = {"chroma": "420", "x265:pools": "none", "x265:frame-threads": "1", "x265:wpp": "0"}
        try:
            pillow_heif.encode("RGB", (width, height), pixels.tobytes(), buffer, quality=self.qualities.number(quality), enc_params=options)
        except RuntimeError as error:
            raise ValueError(f"heic cannot hold a picture of {width}x{height}") from error
        return buffer.getvalue()

    def command_line(self, quality: str) -> str:
        """Return libheif's ``heif-enc``."""
        return f"heif-enc -q {self.qualities.number(quality)} -p chroma=420 -o output.heic input.png"

    def decode(self, data: bytes) -> Image:
        """Restore the picture; raises `ValueError` for bytes that are not a whole file of this codec."""
        import pillow_heif  # type: ignore[import-not-found,unused-ignore]

        try:
            picture = pillow_heif.open_heif(io.BytesIO(data))
            pixels = np.array(picture)
        except Exception as error:  # damaged bytes make pillow-heif raise almost anything
            raise ValueError("not a readable heic stream") from error
        if picture.mode != "RGB":
            raise ValueError(f"not a heic stream of this codec: its picture is {picture.mode}")
        return Image(pixels)

    def ledger(self, data: bytes) -> Ledger:
        """Count the media data as payload, and all other boxes, the parameter sets among them, as container."""
        payload = media_data(data)
        return Ledger(payload, len(data) - payload)
