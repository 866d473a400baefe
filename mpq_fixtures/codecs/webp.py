"""WebP through Pillow."""

from __future__ import annotations

from typing import Any

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._pillow import PillowCodec


class WebP(PillowCodec):
    """Lossy WebP (RFC 9649) by libwebp. ``q0`` is quality 0 of 0 to 100; Pillow's defaults otherwise.

    Chroma is 4:2:0, the method 4 of 0 to 6. At most 16383 pixels a side.
    """

    name = "webp"
    ladder = ("q0", "q10", "q30", "q60", "q90")
    qualities = Numbers("q", 0, 100)
    format, feature, backend = "WEBP", "webp", "libwebp"

    def options(self, quality: str) -> dict[str, Any]:
        """Return what Pillow's ``save`` takes for ``quality``."""
        return {"quality": self.qualities.number(quality)}

    def command_line(self, quality: str) -> str:
        """Return libwebp's ``cwebp``."""
        return f"cwebp -q {self.qualities.number(quality)} -m 4 input.png -o output.webp"

    def ledger(self, data: bytes) -> Ledger:
        """Count the bitstreams as payload, and RIFF with its chunks' heads as container (RFC 9649, section 2)."""
        place, payload = 12, 0
        while place + 8 <= len(data):
            size = int.from_bytes(data[place + 4 : place + 8], "little")
            if data[place : place + 4] in (b"VP8 ", b"VP8L", b"ALPH"):
                payload += size
            place += 8 + size + size % 2
        return Ledger(payload, len(data) - payload)
