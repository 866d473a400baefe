"""Files of pictures and sounds, as users have them, into signals.

Whatever cannot be read raises a `ValueError` with a plain sentence, which a record can hold.
"""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage
from PIL import ImageOps, UnidentifiedImageError

from mpq_fixtures.files import check_regular
from mpq_fixtures.signals import Audio, Image, Limits, Modality

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray


_UNKNOWN = 2**62
"""Frames from here on are libsndfile's word for a length that a file leaves open."""

_UNKNOWN_SIZE = 0x7FFF_F000
"""Bytes of a WAV from here on are what programs write that do not know: SoX and arecord some 2 GB, others 4 GB."""

_STATED = re.compile(rb"(Xing|Info)\0\0\0[\x01\x03\x05\x07\x09\x0b\x0d\x0f]")
"""The header of an MP3 that states its frames: the lowest flag says so."""

_TIMED = ("mov,mp4,m4a,3gp,3g2,mj2", "asf")
"""FFmpeg's names of containers that state how long their streams are."""


_ALONE = {"protocol_whitelist": "none"}
"""To FFmpeg: open no other file, which playlists and some containers name; there is no protocol of that name."""

_PIXELS = 178_956_970
"""What Pillow holds a decompression bomb: it warns from here on and refuses twice as many. Its own 89 million warn of a photograph."""

if PILImage.MAX_IMAGE_PIXELS is not None:
    PILImage.MAX_IMAGE_PIXELS = max(PILImage.MAX_IMAGE_PIXELS, _PIXELS)

_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
"""The tag of EXIF that says how a picture is turned, and those of its values that exchange height and width."""

_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda values: np.rot90(values, -1),
    7: lambda values: np.rot90(values, 2).T,
    8: np.rot90,
}
"""What each of its values asks for (Exif 2.3, table 4)."""

_STRIPE = 4_000_000
"""Pixels that are converted at a time: Pillow makes several copies on the way to an array."""


_FORMATS = {
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "HEIF", "ICNS", "ICO", "IM", "JPEG", "JPEG2000", "JXL", "MPO", "MSP", "PCX", "PNG", "PPM", "PSD"),
    *("QOI", "SGI", "SUN", "TGA", "TIFF", "WEBP", "XBM", "XPM"),
}
"""Pillow's names of the formats that are read: those that it or a package decodes. EPS is a program, which Ghostscript runs."""


def _open(file: bytes | str) -> PILImage.Image:
    """Open a picture, given or named, as Pillow does, if it is of one of the formats that are read."""
    if isinstance(file, str):
        check_regular(file)
    source = file if isinstance(file, str) else io.BytesIO(file)
    PILImage.preinit()
    try:
        return PILImage.open(source, formats=[name for name in PILImage.ID if name in _FORMATS])
    except UnidentifiedImageError:
        if not PILImage.init():  # the formats that are not so common, which Pillow has not looked for yet
            raise
        return PILImage.open(source, formats=[name for name in PILImage.ID if name in _FORMATS])


@cache
def readers(modality: Modality) -> dict[str, str]:
    """Return the versions of the packages that read files of a modality: another one may read another signal."""
    return {package: version(package) for package in (("pillow",) if modality is Modality.IMAGE else ("av", "soundfile"))}


def read_image(data: bytes, limits: Limits = Limits()) -> Image:  # noqa: B008  # it is immutable
    """Return the picture in a file of any of the usual formats, the first one where there are several.

    Grey and palette pictures become RGB; 16 bits are scaled to 8; CMYK goes through Pillow's formula, without colour profile;
    transparency is composited on white; the EXIF orientation is applied. Raises `ValueError` for data that hold no whole picture,
    and for floating-point pixels, whose range nothing says. At 100 million pixels it takes three times what the signal does.
    """
    if not data:
        raise ValueError("the image is empty: 0 bytes")
    try:
        with _opened(data, limits) as picture:
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
    except UnidentifiedImageError as error:
        raise ValueError(f"the {len(data)} bytes are not an image of a known format") from error
    except _BeyondLimit:
        raise
    except Exception as error:  # damaged files make Pillow's plugins raise almost anything
        raise ValueError(f"the image is damaged: {error}") from error
    rows = max(1, _STRIPE // picture.width)
    if rows >= picture.height:
        return Image(rgb_of(picture))
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for top in range(0, picture.height, rows):
        stripe = pixels[top : top + rows]
        stripe[:] = rgb_of(picture.crop((0, top, picture.width, top + len(stripe))))
    return Image(pixels)


class _BeyondLimit(ValueError):
    """A signal that is larger than the limits allow, as its file says."""


@contextmanager
def _opened(data: bytes, limits: Limits) -> Iterator[PILImage.Image]:
    """Open a picture of which nothing but the header is read yet, if that is within the limits."""
    if PILImage.MAX_IMAGE_PIXELS is not None and limits.pixels > PILImage.MAX_IMAGE_PIXELS:  # which codecs that decode it need, too
        PILImage.MAX_IMAGE_PIXELS = limits.pixels
    try:
        picture = _open(data)
    except PILImage.DecompressionBombError:  # beyond twice what Pillow takes, which says no more
        try:
            limits.check_picture(2 * _PIXELS, 1)
        except ValueError as error:
            raise _BeyondLimit(str(error).replace("a picture of", "a picture of more than")) from None
        raise
    with picture:
        try:
            limits.check_picture(picture.height, picture.width)
        except ValueError as error:
            raise _BeyondLimit(str(error)) from None
        yield picture


def size_of_image(file: bytes | str) -> tuple[int, int]:
    """Return the height and the width that `read_image` would give a file, which is named or given, from its header alone.

    Raises `ValueError` or ``OSError`` where it has none.
    """
    try:
        with _open(file) as picture:
            return _upright(picture)
    except UnidentifiedImageError as error:
        raise ValueError("this is not an image of a known format") from error


def _upright(picture: PILImage.Image) -> tuple[int, int]:
    """Return the height and the width that a picture of which nothing but the header is read will have."""
    width, height = picture.size
    turned = picture.format != "TIFF" and picture.getexif().get(_ORIENTATION, 1) in _SIDEWAYS  # of a TIFF Pillow gives it turned
    return (width, height) if turned else (height, width)


def rgb_of(picture: PILImage.Image) -> NDArray[np.uint8]:
    """Return a picture's pixels as `read_image` does, ``uint8 [height, width, 3]``; raises `ValueError` for floating-point ones."""
    if picture.mode == "F":
        raise ValueError("the image has floating-point pixels, whose range nothing says")
    if picture.mode.startswith("I"):  # 16 bits, which Pillow's own conversion clips rather than scales
        deep = np.asarray(picture).astype(np.float64).clip(0, 65535)
        return np.repeat(np.rint(deep / 257).astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = PILImage.alpha_composite(PILImage.new("RGBA", picture.size, "white"), picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def read_mask(data: bytes, limits: Limits = Limits(), of: bytes | str | None = None) -> NDArray[np.int64]:  # noqa: B008  # immutable
    """Return the class map in a picture: its values as they are stored, ``[height, width]``, turned as EXIF says.

    Palettes are left alone, their indices are the classes; a picture in colour will do where its three channels are alike. ``of`` is
    the file of the picture that it belongs to, named or given: where that is turned and the mask says nothing, its size tells whether
    it has to be turned, too. Raises `ValueError` for anything else, for a size that does not tell, and for data that hold no whole
    picture.
    """
    if not data:
        raise ValueError("the mask is empty: 0 bytes")
    try:
        with _opened(data, limits) as picture:
            orientation = picture.getexif().get(_ORIENTATION, 1)
            ImageOps.exif_transpose(picture, in_place=True)
            values = np.array(picture)
    except UnidentifiedImageError as error:
        raise ValueError(f"the {len(data)} bytes are not an image of a known format") from error
    except _BeyondLimit:
        raise
    except Exception as error:  # as above
        raise ValueError(f"the mask is damaged: {error}") from error
    if values.ndim == 3 and values.shape[2] == 3 and (values == values[:, :, :1]).all():
        values = values[:, :, 0]
    if values.ndim != 2 or values.dtype.kind not in "iub":
        raise ValueError("a mask has one whole number for each pixel, its class; this one is in colour")
    if of is not None and orientation == 1:
        values = _turned_like(values, of)
    return values.astype(np.int64)


def _turned_like(values: NDArray[Any], file: bytes | str) -> NDArray[Any]:
    """Return a mask as its picture is turned, where its size is that of the picture before; raises `ValueError` where both are one."""
    try:
        with _open(file) as picture:
            orientation, (height, width) = picture.getexif().get(_ORIENTATION, 1), _upright(picture)
    except Exception:  # which reading the picture says
        return values
    before = (width, height) if orientation in _SIDEWAYS else (height, width)
    if orientation not in _TURNS or values.shape != before:
        return values
    if before == (height, width):
        raise ValueError(
            f"EXIF turns the picture (orientation {orientation}), and nothing says whether the mask is turned already: save both upright"
        )
    return _TURNS[orientation](values)


def read_audio(data: bytes, limits: Limits = Limits()) -> Audio:  # noqa: B008  # it is immutable
    """Return the sound in a file at its own rate, with its own channels, limited to -1..1.

    libsndfile reads WAV, FLAC, Ogg, MP3, AIFF and others; FFmpeg, through PyAV, the rest (M4A, WebM, WMA, and what does not say how
    long it is), without the encoder's delay where the file says what that is. Raises `ValueError` for data that hold no whole sound.
    """
    if not data:
        raise ValueError("the sound is empty: 0 bytes")
    if data[:4] == b"RIFF" and len(data) < 8 + (size := int.from_bytes(data[4:8], "little")) < _UNKNOWN_SIZE and not _lacks_padding(data):
        raise ValueError(f"the sound is cut short: {len(data)} of {8 + size} bytes")  # which libsndfile would pass over
    waveform, rate, promised = _read_with_libsndfile(data, limits) or _read_with_ffmpeg(data, limits)
    if waveform.shape[1] < promised:
        raise ValueError(f"the sound is cut short: {waveform.shape[1]} of {promised} frames")
    if not waveform.size:
        raise ValueError("the sound has no samples")
    if not (np.isfinite(waveform.min()) and np.isfinite(waveform.max())):  # either is nan where one sample is
        raise ValueError("the sound has samples that are not finite numbers")
    waveform = np.ascontiguousarray(waveform)
    return Audio(np.clip(waveform, -1, 1, out=waveform), int(rate))


def _lacks_padding(data: bytes) -> bool:
    """Tell whether a WAV lacks nothing but the byte behind a last chunk of odd length, which not all programs write."""
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        if size % 2 and place + 8 + size == len(data):
            return True
        place += 8 + size + size % 2
    return False


def _read_with_libsndfile(data: bytes, limits: Limits) -> tuple[NDArray[np.float32], int, int] | None:
    """Return a sound, its rate and the frames that its file promises; None for a format that is not known, or a length that is not.

    Where an MP3 does not state its length libsndfile guesses it from the file's size, and reads no further.
    """
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames >= _UNKNOWN or (file.format == "MP3" and not _STATED.search(_first_frame(data))):
                return None
            limits.check_sound(file.frames / file.samplerate, file.frames * file.channels)
            return file.read(dtype="float32", always_2d=True).T, file.samplerate, file.frames
    except soundfile.LibsndfileError:
        return None


def _first_frame(data: bytes) -> bytes:
    """Return the start of an MP3 behind its ID3v2 tag, long enough for what encoders say of the whole there."""
    start = 0
    if data[:3] == b"ID3":
        start = 10 + sum((byte & 127) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    return data[start : start + 2000]


def _decoded(container: Any, stream: Any) -> Iterator[Any]:
    """Yield what is decoded; what is no frame of an MP3 is passed over, as players do: such files end in tags, zeros and half frames."""
    import av

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            if container.format.name != "mp3":
                raise


def _read_with_ffmpeg(data: bytes, limits: Limits) -> tuple[NDArray[np.float32], int, int]:
    """Return a sound, its rate and the frames that it must have at least."""
    import av

    try:
        container: Any
        with av.open(io.BytesIO(data), options=_ALONE) as container:
            if not container.streams.audio:
                raise ValueError("the file has no sound in it")
            stream = container.streams.audio[0]
            packed = av.AudioResampler(format="flt")  # of whatever sample format; rate and layout stay; of eight planes PyAV reads a ninth
            parts, seconds_read, samples_read = [], 0.0, 0
            for part in (part for frame in _decoded(container, stream) for part in packed.resample(frame)):
                parts.append((np.ascontiguousarray(part.to_ndarray().reshape(part.samples, -1).T), part.sample_rate))
                seconds_read += part.samples / part.sample_rate
                samples_read += part.samples * part.layout.nb_channels
                limits.check_sound(seconds_read, samples_read)
            # Elsewhere FFmpeg may have guessed it from the bit rate.
            seconds = stream.duration and stream.duration * stream.time_base if container.format.name in _TIMED else None
    except av.FFmpegError as error:
        raise ValueError(f"the {len(data)} bytes are not a sound of a known format, or damaged") from error
    if not parts:
        raise ValueError("the sound has no samples")
    waveform, rate = np.concatenate([part for part, _ in parts], axis=1), int(parts[0][1])
    waveform = waveform[:, : round(seconds * rate) if seconds else None]  # an MP4 says where its last AAC frame really ends
    first = _first_frame(data)
    vbri = first.find(b"VBRI") if first[:1] == b"\xff" else -1
    if vbri < 0:
        return waveform, rate, 0
    promised = int.from_bytes(first[vbri + 14 : vbri + 18], "big") * (1152 if first[1] & 8 else 576)
    return waveform, rate, promised - 2 * 1152  # encoders differ in whether they count that frame itself
