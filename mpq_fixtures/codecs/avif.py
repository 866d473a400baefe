"""AVIF through Pillow."""

from __future__ import annotations

from typing import Any

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._pillow import PillowCodec, media_data


class Avif(PillowCodec):
    """AVIF (AV1 still pictures in HEIF) by libavif. ``q10`` is quality 10 of 0 to 100.

    Chroma is 4:2:0, Pillow's default. Speed 10 of 0 to 10 is ten times faster than Pillow's default, for 1 % more bytes. The
    bytes depend on the number of threads: it is one. The container takes some 300 bytes.
    """

    name = "avif"
    ladder = ("q0", "q10", "q30", "q60", "q90")
    qualities = Numbers("q", 0, 100)
    format, feature, backend = "AVIF", "avif", "libavif"

    def options(self, quality: str) -> dict[str, Any]:
        """Return what Pillow's ``save`` takes for ``quality``."""
        return {"quality": self.qualities.number(quality), "speed": 10, "max_threads": 1}

    def command_line(self, quality: str) -> str:
        """Return libavif's ``avifenc``, of 1.0 and later."""
        return f"avifenc -q {self.qualities.number(quality)} -s 10 -y 420 -j 1 input.png output.avif"

    def ledger(self, data: bytes) -> Ledger:
        """Count the media data as payload, and all other boxes as container."""
        payload = media_data(data)
        return Ledger(payload, len(data) - payload)
