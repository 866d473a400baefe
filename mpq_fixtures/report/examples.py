"""Clips and pictures of one sample at one operating point, as the report shows them.

A part is ``{"label": str, "media_type": str, "data": bytes}``. Pictures are WebP or PNG without loss as long as that fits;
a picture that does not is rounded to even pixel values, or to multiples of 4, 8 or 16, which hides no artefact of a codec. Sounds are
FLAC at 16 bits, cut to seconds and mixed to one channel, all with the same gain. A part of type ``application/json``
is no picture but the legend of class maps: ``{class name: "#rrggbb"}``.
"""

from __future__ import annotations

import colorsys
import io
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as Picture

from mpq_fixtures.signals import Audio, Image, Signal

if TYPE_CHECKING:
    from numpy.typing import NDArray

Part = dict[str, Any]

MAX_SIDE = 320  # pixels
MAX_BYTES = 60_000  # of a picture of 224 x 224, and as many for each pixel of others
CLIP_SECONDS = 4.0
STEMS_SECONDS = 2.5  # five clips a point: a mixture and four stems
LOUDNESS, HEADROOM = -20.0, -3.0  # dB over full scale: the mean power and the highest peak that a gain may lead to

# Nine of Okabe and Ito's and of Tol's colours that stay apart under colour-vision deficiencies; further classes vary their lightness.
CLASS_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00", "#882255", "#bbbbbb")


def make_example(task: str, signal: Signal, prediction: Any, target: Any, labels: Sequence[str], level: Signal | None = None) -> list[Part]:
    """Return what the report shows of one sample: the decoded signal, and what the model made of it.

    ``prediction`` and ``target`` are a class index, a class map ``[H, W]``, a text, or stems ``{name: [channels, frames]}``; a target's
    stems may be `Audio`.
    ``level`` is the signal whose loudness sets the gain of every point of an evaluation, the original one as a rule; without it
    a separation takes the sum of the target's stems, and any other sound plays as it is.
    """
    if isinstance(signal, Image):
        if task == "image_segmentation":
            return [image_example(signal), *mask_example(np.asarray(prediction), np.asarray(target), labels)]
        named = task == "image_classification" and np.ndim(prediction) == 0 and 0 <= int(prediction) < len(labels)
        return [image_example(signal, labels[int(prediction)] if named else "picture")]
    if isinstance(prediction, Mapping):
        if level is None and isinstance(target, Mapping) and target:
            stems = [np.asarray(stem.waveform if isinstance(stem, Audio) else stem, np.float32) for stem in target.values()]
            level = Audio(np.sum(stems, axis=0), signal.sample_rate)
        gain = gain_of(level)
        estimated = [(f"{name}, estimated", Audio(np.asarray(stem, np.float32), signal.sample_rate)) for name, stem in prediction.items()]
        return [audio_example(clip, name, gain, STEMS_SECONDS) for name, clip in [("mixture", signal), *estimated]]
    return [audio_example(signal, gain=gain_of(level))]


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


def mask_example(prediction: NDArray[Any], target: NDArray[Any], labels: Sequence[str]) -> list[Part]:
    """Return the class map that the model gave as a picture, the target's borders drawn over it in black, and its legend.

    Both maps are ``[H, W]`` of class indices; an index without a label is named by its number.
    """
    shrink = max(1, math.ceil(max(prediction.shape) / MAX_SIDE))
    found, wanted = prediction[::shrink, ::shrink].astype(np.int64), target[::shrink, ::shrink].astype(np.int64)
    classes, counts = np.unique(found, return_counts=True)
    palette = [bytes.fromhex(class_colour(int(index))[1:]) for index in classes[:255]]
    picture = Picture.fromarray(np.minimum(np.searchsorted(classes, found), 254).astype(np.uint8), "P")
    if wanted.shape == found.shape:
        picture = Picture.fromarray(np.where(_borders(wanted), 255, np.asarray(picture)).astype(np.uint8), "P")
    picture.putpalette(b"".join(palette).ljust(768, b"\0"))
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=6)
    names = [labels[index] if 0 <= index < len(labels) else str(index) for index in classes.tolist()]
    order = np.argsort(-counts, kind="stable")
    legend = {names[place]: class_colour(int(classes[place])) for place in order[:24]}
    return [
        {"label": "predicted classes", "media_type": "image/png", "data": file.getvalue()},
        {"label": "legend", "media_type": "application/json", "data": json.dumps(legend).encode()},
    ]


def _borders(classes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a pixel's class is not that of the pixel to its right or below it."""
    borders = np.zeros(classes.shape, bool)
    borders[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    borders[:-1] |= classes[:-1] != classes[1:]
    return borders


def class_colour(index: int) -> str:
    """Return the colour of a class as ``#rrggbb``, the same wherever the class is shown."""
    base = CLASS_COLOURS[index % len(CLASS_COLOURS)]
    turn = index // len(CLASS_COLOURS)
    if turn == 0:
        return base
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in bytes.fromhex(base[1:])))
    lightness = 0.25 + 0.6 * ((lightness + 0.37 * turn) % 1.0)  # 0.37 keeps neighbouring turns far apart
    return "#" + bytes(round(255 * channel) for channel in colorsys.hls_to_rgb(hue, lightness, saturation * 0.85)).hex()


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
