"""Clips and pictures of one sample at one operating point, as the report shows them.

A part is ``{"label": str, "media_type": str, "data": bytes}``. Pictures are WebP or PNG without loss as long as that fits;
a picture that does not is rounded to even pixel values, or to multiples of 4, 8 or 16, which hides no artefact of a codec. Sounds are
FLAC at 16 bits, cut to seconds and mixed to one channel, all with the same gain. A part of type ``application/json``
is no picture but the legend of class maps and of boxes: ``{class name: "#rrggbb"}``; one of type ``text/plain`` says why there is nothing.
"""

from __future__ import annotations

import colorsys
import io
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Picture

from mpq_fixtures.signals import Audio, Image, Signal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Part = dict[str, Any]

REASON = "text/plain"
"""The type of a part that says why a sample cannot be shown."""

MAX_SIDE = 320  # pixels
MAX_BYTES = 60_000  # of a picture of 224 x 224, and as many for each pixel of others
CLIP_SECONDS = 4.0
LOUDNESS, HEADROOM = -20.0, -3.0  # dB over full scale: the mean power and the highest peak that a gain may lead to

# Nine of Okabe and Ito's and of Tol's colours that stay apart under colour-vision deficiencies; further classes vary their lightness.
CLASS_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00", "#882255", "#bbbbbb")


def signal_example(signal: Signal, label: str = "", level: Signal | None = None, seconds: float = CLIP_SECONDS) -> Part:
    """Return a picture, or the middle of a sound with the gain that brings ``level`` to an even loudness."""
    if isinstance(signal, Image):
        return image_example(signal, label or "picture")
    return audio_example(signal, label or "sound", gain_of(level), seconds)


def image_example(image: Image, label: str = "picture") -> Part:
    """Return a picture as WebP without loss, at most `MAX_SIDE` pixels high or wide."""
    height, width = image.pixels.shape[:2]
    picture = Picture.fromarray(np.ascontiguousarray(image.pixels))
    if max(height, width) > MAX_SIDE:
        picture.thumbnail((MAX_SIDE, MAX_SIDE), Picture.Resampling.LANCZOS)
    pixels = np.asarray(picture)
    limit = MAX_BYTES * max(1.0, picture.width * picture.height / 224**2)
    data = _webp(pixels)
    for step in (2, 4, 8, 16):
        if len(data) <= limit:
            break
        data = _webp(np.minimum((pixels.astype(np.uint16) + step // 2) // step * step, 255).astype(np.uint8))
    return {"label": label, "media_type": "image/webp", "data": data}


def _webp(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, "WEBP", lossless=True, quality=20, method=1)
    return file.getvalue()


def gain_of(level: Signal | None) -> float:
    """Return the gain in dB that brings a sound to `LOUDNESS` without a peak over `HEADROOM`; 0 for silence or None."""
    if not isinstance(level, Audio) or not level.waveform.size:
        return 0.0
    peak, power = float(np.abs(level.waveform).max()), float(np.mean(np.square(level.waveform, dtype=np.float64)))
    if not (peak > 0 and power > 0):
        return 0.0
    return min(LOUDNESS - 10 * math.log10(power), HEADROOM - 20 * math.log10(peak))


def audio_example(audio: Audio, label: str = "sound", gain: float = 0.0, seconds: float = CLIP_SECONDS) -> Part:
    """Return a sound as FLAC: one channel, its middle ``seconds``, ``gain`` dB louder."""
    import soundfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydub looks for ffmpeg, which nothing here needs
        from pydub import AudioSegment

    samples = np.round(np.clip(np.nan_to_num(audio.waveform.T), -1, 1) * 32767).astype("<i2")
    segment = AudioSegment(
        samples.tobytes(), sample_width=2, frame_rate=audio.sample_rate, channels=1 if samples.ndim < 2 else samples.shape[1]
    )
    start = max(0.0, (segment.duration_seconds - seconds) / 2) * 1000
    clip = segment[start : start + seconds * 1000].set_channels(1).apply_gain(gain)
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(clip.raw_data, "<i2"), audio.sample_rate, format="FLAC", subtype="PCM_16")
    return {"label": label, "media_type": "audio/flac", "data": file.getvalue()}


def class_colour(index: int) -> str:
    """Return the colour of a class as ``#rrggbb``, the same wherever the class is shown."""
    base = CLASS_COLOURS[index % len(CLASS_COLOURS)]
    turn = index // len(CLASS_COLOURS)
    if turn == 0:
        return base
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in bytes.fromhex(base[1:])))
    lightness = 0.25 + 0.6 * ((lightness + 0.37 * turn) % 1.0)  # 0.37 keeps neighbouring turns far apart
    return "#" + bytes(round(255 * channel) for channel in colorsys.hls_to_rgb(hue, lightness, saturation * 0.85)).hex()
