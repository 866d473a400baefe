"""WebP through Pillow."""

from __future__ import annotations

from typing import Any

from mpq_fixtures.codecs._pillow import PillowCodec


class WebP(PillowCodec):
    """Lossy WebP (RFC 9649) by libwebp. ``q0`` is quality 0 of 0 to 100; Pillow's defaults otherwise.

    Chroma is 4:2:0, the method 4 of 0 to 6. At most 16383 pixels a side.
    """

    name = "webp"
    ladder = ("q0", "q10", "q30", "q60", "q90")
    format, feature, backend = "WEBP", "webp", "libwebp"

    def options(self, quality: str) -> dict[str, Any]:
        """Return what Pillow's ``save`` takes for ``quality``."""
        return {"quality": int(quality[1:])}
