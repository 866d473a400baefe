"""A codec of one's own in one file: pictures of 2 to 256 colours, as GIF and 8-bit PNG hold them.

``PYTHONPATH=docs pytest -p codec_example evaluations -k png8`` evaluates it: defining the class is all that there is to do.
"""

from __future__ import annotations

import io

import numpy as np
import PIL
from PIL import Image as PILImage
from PIL import features

from mpq_fixtures.codecs import IMAGE, Codec
from mpq_fixtures.signals import Image


class Png8(Codec):
    """PNG with a palette (ISO/IEC 15948) found by median cut. ``16c`` has 16 colours."""

    name, modality = "png8", IMAGE
    ladder = ("2c", "8c", "32c", "128c", "256c")

    def build(self) -> str:
        """Name Pillow and its zlib, which decide the bytes."""
        return f"pillow {PIL.__version__}, zlib {features.version('zlib')} {features.version('zlib_ng')}"

    def encode(self, signal: Image, quality: str) -> bytes:
        """Compress ``signal`` to the number of colours that ``quality`` says."""
        buffer = io.BytesIO()
        PILImage.fromarray(signal.pixels).quantize(int(quality[:-1]), PILImage.Quantize.MEDIANCUT).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def decode(self, data: bytes) -> Image:
        """Restore the picture; Pillow's errors are `OSError` and say what is wrong."""
        return Image(np.array(PILImage.open(io.BytesIO(data)).convert("RGB")))
