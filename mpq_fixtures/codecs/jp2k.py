"""JPEG 2000 through Pillow."""

from __future__ import annotations

from typing import Any

from mpq_fixtures.codecs._pillow import PillowCodec


class Jpeg2000(PillowCodec):
    """JPEG 2000 (ITU-T T.800) by OpenJPEG. ``r200`` asks for 1/200 of the raw size, as ``opj_compress -r 200`` does.

    The irreversible 9/7 wavelet and colour transform in one layer, chroma at full resolution (4:4:4), the bare codestream
    without the JP2 boxes. A ratio, since OpenJPEG misses low PSNRs on flat and small pictures; its headers take 130 to 180 bytes.
    """

    name = "jp2k"
    ladder = ("r200", "r100", "r50", "r25", "r8")
    format, feature, backend = "JPEG2000", "jpg_2000", "libopenjp2"

    def options(self, quality: str) -> dict[str, Any]:
        """Return what Pillow's ``save`` takes for ``quality``."""
        return {"quality_mode": "rates", "quality_layers": [int(quality[1:])], "irreversible": True, "no_jp2": True}
