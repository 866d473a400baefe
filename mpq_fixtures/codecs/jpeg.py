"""JPEG through Pillow."""

from __future__ import annotations

from typing import Any

from mpq_fixtures.codecs import Ledger, Numbers
from mpq_fixtures.codecs._pillow import PillowCodec

SCAN, RESTARTS, END = 0xDA, range(0xD0, 0xD8), 0xD9


class Jpeg(PillowCodec):
    """Baseline JPEG (ITU-T T.81) by libjpeg-turbo. ``q5`` is quality 5 of 1 to 100; Pillow's defaults otherwise.

    Chroma is 4:2:0, the Huffman tables are the standard's. Headers and tables take some 600 bytes.
    """

    name = "jpeg"
    ladder = ("q5", "q10", "q20", "q50", "q90")
    qualities = Numbers("q", 1, 100)
    format, feature, backend = "JPEG", "libjpeg_turbo", "libjpeg"

    def options(self, quality: str) -> dict[str, Any]:
        """Return what Pillow's ``save`` takes for ``quality``."""
        return {"quality": self.qualities.number(quality)}

    def command_line(self, quality: str) -> str:
        """Return libjpeg-turbo's ``cjpeg``; Pillow, too, keeps tables to 8 bits."""
        return f"cjpeg -quality {self.qualities.number(quality)} -sample 2x2 -baseline -outfile output.jpg input.ppm"

    def ledger(self, data: bytes) -> Ledger:
        """Count what follows the headers of the scans as payload, restart markers with it; all other segments are container."""
        place, payload = 2, 0
        while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != END:
            is_scan = data[place + 1] == SCAN
            place += 2 + int.from_bytes(data[place + 2 : place + 4])
            if is_scan:
                start = place
                place = _end_of_scan(data, start)
                payload += place - start
        return Ledger(payload, len(data) - payload)


def _end_of_scan(data: bytes, place: int) -> int:
    """Return where the next segment begins: at 0xFF, unless a zero or a restart marker follows (T.81, B.1.1.5)."""
    while (place := data.find(b"\xff", place)) >= 0:
        if data[place + 1 : place + 2] != b"\0" and not (place + 1 < len(data) and data[place + 1] in RESTARTS):
            return place
        place += 2
    return len(data)
