"""What the video codecs share that code a single picture: pixels in and out of planes, and PyAV's encoders and decoders.

A bitstream is the picture's height and width as varints (seven bits a byte, lowest first), counted in the rate, and the format's own.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image as PILImage

from mpq_fixtures.codecs import IMAGE, Codec, Ledger
from mpq_fixtures.codecs._audio import pyav_build, read_varint, require, varint
from mpq_fixtures.codecs._pillow import checked
from mpq_fixtures.signals import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

FULL_RANGE, BT_601 = 2, 5
"""FFmpeg's numbers for them (AVCOL_RANGE_JPEG, AVCOL_SPC_BT470BG)."""

FULL_RANGE_420 = "scale=out_range=full:out_color_matrix=bt601,format=yuv420p"
"""FFmpeg's filter for the planes that these codecs code."""

LARGEST = 16384  # pixels a side; SVT-AV1 takes a width modulo 65536
HALF = 1 << 15  # of one in 16 bits behind the point


class VideoCodec(Codec):
    """A codec of one picture in 4:2:0, eight bits, full range, BT.601: JPEG's way, which loses least of 8-bit RGB.

    The encoder gets even sides of ``smallest`` pixels at least: edges are repeated, and cut away again.
    """

    modality = IMAGE
    encoder: ClassVar[str]  # FFmpeg's names
    decoder: ClassVar[str]
    backend: ClassVar[str]  # how the encoder's file name begins in PyAV's wheel
    smallest: ClassVar[int]
    automatic = False

    @abstractmethod
    def options(self, quality: str) -> dict[str, str]:
        """Return what FFmpeg's encoder takes for ``quality``."""

    def pack(self, stream: bytes) -> bytes:
        """Return what is kept of the encoder's stream: all, unless the codec says otherwise."""
        return stream

    def unpack(self, data: bytes) -> bytes:
        """Return the stream for the decoder; raises `ValueError` where it is not whole and the decoder would not notice."""
        return data

    @abstractmethod
    def stream_ledger(self, stream: bytes) -> Ledger:
        """Return what the bytes behind the size are spent on."""

    def build(self) -> str:
        """Name PyAV with the encoder's library, and Pillow, which converts colours."""
        import PIL

        return f"{pyav_build(self.backend, 'libdav1d')}, pillow {PIL.__version__}"

    def prepare(self, qualities: Sequence[str] = ()) -> None:
        """Raise `MissingAsset` where PyAV lacks the encoder or the decoder."""
        require(self.encoder, self.decoder)

    def encode(self, signal: Image, quality: str) -> bytes:
        """Compress ``signal`` on one thread; raises `ValueError` for a picture without pixels and for a size that the format lacks."""
        import av

        pixels = checked(signal.pixels)
        height, width, _ = pixels.shape
        if max(height, width) > LARGEST:
            raise ValueError(f"{self.name} cannot hold a picture of {width}x{height}: its sides are at most {LARGEST}")
        planes = to_planes(pixels, self.smallest)
        context: Any = av.CodecContext.create(self.encoder, "w")
        context.height, context.width, context.pix_fmt = planes.shape[0] * 2 // 3, planes.shape[1], "yuv420p"
        context.color_range, context.colorspace = FULL_RANGE, BT_601
        context.time_base = Fraction(1, 25)
        context.thread_count = 1
        context.options = self.options(quality)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = 0
        try:
            packets = [bytes(packet) for packet in (*context.encode(frame), *context.encode(None))]
        except av.FFmpegError as error:
            raise ValueError(f"{self.name} cannot hold a picture of {width}x{height}") from error
        return varint(height) + varint(width) + self.pack(b"".join(packets))

    def decode(self, data: bytes) -> Image:
        """Restore the picture; raises `ValueError` for bytes that are not a whole stream of this codec."""
        import av

        try:
            height, data = read_varint(data)
            width, data = read_varint(data)
            context: Any = av.CodecContext.create(self.decoder, "r")
            context.thread_count = 1
            (frame,) = [frame for packet in (av.Packet(self.unpack(data)), None) for frame in context.decode(packet)]
            planes = frame.to_ndarray()
        except Exception as error:  # damaged bytes make PyAV raise almost anything
            raise ValueError(f"not a readable {self.name} stream") from error
        padded = (padded_side(height, self.smallest), padded_side(width, self.smallest))
        if not height * width or frame.format.name not in ("yuv420p", "yuvj420p") or (frame.height, frame.width) != padded:
            raise ValueError(f"not a stream of {self.name} with {width}x{height} pixels")
        return Image(np.ascontiguousarray(to_pixels(planes)[:height, :width]))

    def ledger(self, data: bytes) -> Ledger:
        """Return the stream's; the size before it is side information."""
        stream = read_varint(read_varint(data)[1])[1]
        return self.stream_ledger(stream) + Ledger(0, side=len(data) - len(stream))


def padded_side(side: int, smallest: int) -> int:
    """Return the next even number from ``side`` on, and ``smallest`` at least."""
    return max(side + side % 2, smallest)


def to_planes(pixels: NDArray[np.uint8], smallest: int) -> NDArray[np.uint8]:
    """Return ``uint8 [height, width, 3]`` padded and as planes of YCbCr 4:2:0, one above the other: ``[3/2 height, width]``.

    The equations of JFIF (ITU-T T.871, 7) in integers, the same on every machine; chroma is the mean of four pixels.
    """
    pad = [(0, padded_side(side, smallest) - side) for side in pixels.shape[:2]]
    rgb = np.pad(pixels, (*pad, (0, 0)), mode="edge").astype(np.int32)
    height, width, _ = rgb.shape
    red, green, blue = np.moveaxis(rgb, 2, 0)
    luma = (19595 * red + 38470 * green + 7471 * blue + HALF) >> 16
    red, green, blue = np.moveaxis(rgb.reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3)), 2, 0)
    blueness = (-11058 * red - 21710 * green + 32768 * blue + (128 << 18) + 4 * HALF) >> 18
    redness = (32768 * red - 27440 * green - 5328 * blue + (128 << 18) + 4 * HALF) >> 18
    return np.concatenate([plane.ravel() for plane in (luma, blueness, redness)]).reshape(-1, width).clip(0, 255).astype(np.uint8)


def to_pixels(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the RGB pixels of planes as `to_planes` makes them; chroma between its samples is interpolated linearly."""
    height, width = planes.shape[0] * 2 // 3, planes.shape[1]
    chroma = [PILImage.fromarray(plane) for plane in planes[height:].reshape(2, height // 2, width // 2)]
    full = [np.asarray(plane.resize((width, height), PILImage.Resampling.BILINEAR), np.int32) - 128 for plane in chroma]
    luma, (blueness, redness) = (planes[:height].astype(np.int32) << 16) + HALF, full
    colours = [luma + 91881 * redness, luma - 22554 * blueness - 46802 * redness, luma + 116130 * blueness]
    return (np.stack(colours, axis=2) >> 16).clip(0, 255).astype(np.uint8)
