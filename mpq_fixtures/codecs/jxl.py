"""JPEG XL through pillow-jxl-plugin."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from mpq_fixtures.codecs import IMAGE, Codec, Numbers
from mpq_fixtures.codecs._pillow import bundled, checked
from mpq_fixtures.signals import Image


class JpegXL(Codec):
    """Lossy JPEG XL (ISO/IEC 18181) by libjxl. ``q10`` is quality 10 of 0 to 99; 0 is a distance of 25, the format's most severe.

    Effort 3 of 1 to 9, three times faster than the default 7 at about its rate; chroma at full resolution (4:4:4, XYB); the bare
    codestream. The plugin's encoder is called directly: through Pillow it would transcode pictures opened from JPEG losslessly.
    """

    name, modality = "jxl", IMAGE
    ladder = ("q0", "q10", "q30", "q60", "q90")
    qualities = Numbers("q", 0, 99)  # 100 is lossless, which takes other settings

    def build(self) -> str:
        """Name the plugin, which links libjxl statically."""
        return f"pillow-jxl-plugin {version('pillow-jxl-plugin')}{bundled('pillow-jxl-plugin', 'pillow_jxl')}"

    def encode(self, signal: Image, quality: str) -> bytes:
        """Compress ``signal`` on one thread."""
        from pillow_jxl import Encoder

        pixels = checked(signal.pixels)
        height, width, _ = pixels.shape
        encoder = Encoder(  # type: ignore[call-arg]  # the stub is older than the class
            mode="RGB",
            lossless=False,
            quality=float(self.qualities.number(quality)),
            decoding_speed=0,
            effort=3,
            use_container=False,
            use_original_profile=False,
            num_threads=1,
        )
        return bytes(encoder(pixels.tobytes(), width, height, jpeg_encode=False, exif=None, jumb=None, xmp=None, compress=False))  # type: ignore[call-arg]

    def command_line(self, quality: str) -> str:
        """Return libjxl's ``cjxl``."""
        return f"cjxl input.png output.jxl -q {self.qualities.number(quality)} -e 3"

    def decode(self, data: bytes) -> Image:
        """Restore the picture; raises `ValueError` for bytes that are not a whole stream of this codec."""
        from pillow_jxl import Decoder

        try:
            _, info, pixels, *_ = Decoder(num_threads=1)(data)
            return Image(np.frombuffer(bytearray(pixels), np.uint8).reshape(info.height, info.width, 3))
        except Exception as error:  # the plugin raises classes of its own, with advice on how to build it
            raise ValueError("not a readable jxl stream") from error
