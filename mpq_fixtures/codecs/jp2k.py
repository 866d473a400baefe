"""JPEG 2000 through Pillow."""

from __future__ import annotations

from typing import Any

from mpq_fixtures.codecs._pillow import PillowCodec


class Jpeg2000(PillowCodec):
    """JPEG 2000 (ITU-T T.800) by OpenJPEG. ``20db`` asks for a PSNR of 20 dB, as ``opj_compress -q 20`` does.

    The irreversible 9/7 wavelet and colour transform in one layer, chroma at full resolution (4:4:4), the bare codestream
    without the JP2 boxes. Asked for a PSNR rather than a rate, easy pictures cost less, as with the other codecs.
    """

    name = "jp2k"
    ladder = ("20db", "23db", "27db", "32db", "40db")
    format, feature, library = "JPEG2000", "jpg_2000", "libopenjp2"

    def options(self, quality: str) -> dict[str, Any]:
        """Return what Pillow's ``save`` takes for ``quality``."""
        return {"quality_mode": "dB", "quality_layers": [float(quality.removesuffix("db"))], "irreversible": True, "no_jp2": True}
