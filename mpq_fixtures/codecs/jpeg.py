"""JPEG through Pillow."""

from __future__ import annotations

from typing import Any

from mpq_fixtures.codecs._pillow import PillowCodec


class Jpeg(PillowCodec):
    """Baseline JPEG (ITU-T T.81) by libjpeg-turbo. ``q5`` is quality 5 of 1 to 100; Pillow's defaults otherwise.

    Chroma is 4:2:0, the Huffman tables are the standard's. Headers and tables take some 600 bytes.
    """

    name = "jpeg"
    ladder = ("q5", "q10", "q20", "q50", "q90")
    format, feature, backend = "JPEG", "libjpeg_turbo", "libjpeg"

    def options(self, quality: str) -> dict[str, Any]:
        """Return what Pillow's ``save`` takes for ``quality``."""
        return {"quality": int(quality[1:])}
