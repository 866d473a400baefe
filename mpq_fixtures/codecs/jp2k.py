"""JPEG 2000 through Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._pillow import PillowCodec

if TYPE_CHECKING:
    from mpq_fixtures.signals import Image

TILE_PART, DATA = b"\xff\x90", b"\xff\x93"


class Jpeg2000(PillowCodec):
    """JPEG 2000 (ITU-T T.800) by OpenJPEG. ``r200`` asks for 1/200 of the raw size, as ``opj_compress -r 200`` does.

    The irreversible 9/7 wavelet and colour transform in one layer, chroma at full resolution (4:4:4), the bare codestream
    without the JP2 boxes. A ratio, since OpenJPEG misses low PSNRs on flat and small pictures; its headers take 130 to 180 bytes.
    """

    name = "jp2k"
    ladder = ("r200", "r100", "r50", "r25", "r8")
    qualities = Numbers("r", 1000, 2)
    format, feature, backend = "JPEG2000", "jpg_2000", "libopenjp2"

    def options(self, quality: str) -> dict[str, Any]:
        """Return what Pillow's ``save`` takes for ``quality``."""
        return {"quality_mode": "rates", "quality_layers": [self.qualities.number(quality)], "irreversible": True, "no_jp2": True}

    def command_line(self, quality: str) -> str:
        """Return OpenJPEG's ``opj_compress``; the ending asks for the bare codestream."""
        return f"opj_compress -i input.png -o output.j2k -r {self.qualities.number(quality)} -I"

    def decode(self, data: bytes) -> Image:
        """Restore the picture; raises `ValueError` for bytes that are not a whole stream of this codec, which has a single tile.

        A damaged size does not go with the tile's (T.800, A.5.1: Xsiz, Ysiz and XTsiz, YTsiz); OpenJPEG would take gigabytes for it.
        """
        if data[8:16] != data[24:32]:
            raise ValueError("not a readable jp2k stream: its tile has another size than the picture")
        return super().decode(data)

    def ledger(self, data: bytes) -> Ledger:
        """Count the packets of the tile-parts as payload, and the headers of the picture and of the tile-parts as container."""
        place, payload = _find(data, 2, TILE_PART), 0
        while data[place : place + 2] == TILE_PART:
            size = int.from_bytes(data[place + 6 : place + 10]) or len(data) - 2 - place  # Psot; 0 means up to the end
            start = _find(data, place, DATA) + 2
            payload += max(place + size - start, 0)
            place += max(size, 12)
        return Ledger(payload, len(data) - payload)

    def nominal_bits(self, signal: Image, quality: str) -> float:
        """Return the raw bits over the ratio."""
        return 24 * signal.elements / self.qualities.number(quality)


def _find(data: bytes, place: int, marker: bytes) -> int:
    """Return where ``marker`` stands, past the segments at ``place`` (T.800, A.1.3)."""
    while place < len(data) and data[place : place + 2] != marker:
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return place
