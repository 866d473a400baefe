"""Signals that codecs are tried on, made from seeds: a picture that resembles a photograph, sounds that resemble speech and music."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpq_fixtures.signals import Audio, Image, Signal


def picture(height: int = 160, width: int = 192, seed: int = 1) -> Image:
    """Shaded ground, textures whose amplitude falls with frequency as in photographs (Field, JOSA A 1987), and shapes with sharp edges."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    light = rows / max(height, 2) * rng.uniform(30, 70) + columns / max(width, 2) * rng.uniform(-40, 40)
    colour = np.array([1.0, 0.9, 0.7]) * (90 + light[..., None]) + 22 * _texture(rng, height, width, 1.2)[..., None]
    for _ in range(7):
        centre, radius = rng.uniform(0, 1, 2) * (height, width), rng.uniform(0.08, 0.25) * max(height, width)
        across, down = columns - centre[1], rows - centre[0]
        inside = np.hypot(across, down) < radius if rng.random() < 0.5 else np.maximum(abs(across), 1.7 * abs(down)) < radius
        tint = rng.uniform(20, 220, 3) + 12 * _texture(rng, height, width, 1.0)[..., None] + 0.2 * across[..., None]
        colour = np.where(inside[..., None], tint, colour)
    colour = colour + 1.5 * rng.standard_normal(colour.shape)
    return Image(np.clip(np.rint(colour), 0, 255).astype(np.uint8))


def _texture(rng: np.random.Generator, height: int, width: int, slope: float) -> np.ndarray[Any, Any]:
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / np.maximum(frequency, 1 / max(height, width)) ** slope
    texture = np.fft.irfft2(spectrum, (height, width))
    return np.asarray(texture / (texture.std() + 1e-9))


def speech(sample_rate: int, channels: int = 1, seconds: float = 2.0) -> Audio:
    """Vowels and fricatives in turn: a gliding pitch through four formants (the method of Klatt, JASA 1980), and noise."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(1)
    times = np.arange(max(1, round(sample_rate * seconds))) / sample_rate
    pitch = np.cumsum(110 + 25 * np.sin(2 * np.pi * 0.6 * times)) / sample_rate
    voice = np.diff(np.floor(pitch), prepend=0.0) + 0.01 * rng.standard_normal(times.size)
    for centre, width in ((600, 80), (1200, 100), (2500, 150), (3500, 250)):
        if centre < 0.45 * sample_rate:
            radius = np.exp(-np.pi * width / sample_rate)
            voice = lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * centre / sample_rate), radius**2], voice)
    syllable = np.sin(2 * np.pi * 2.5 * times)
    hiss = np.diff(rng.standard_normal(times.size), prepend=0.0)
    sound = voice / (np.abs(voice).max() + 1e-9) * syllable.clip(0) + 0.1 * hiss * (-syllable).clip(0)
    return _spread(sound, sample_rate, channels)


def music(sample_rate: int, channels: int = 2, seconds: float = 2.0) -> Audio:
    """Plucked notes of a chord with overtones, and a drum."""
    rng = np.random.default_rng(2)
    times = np.arange(max(1, round(sample_rate * seconds))) / sample_rate
    sound = 0.2 * rng.standard_normal(times.size) * np.exp(-30 * (times % 0.5))
    for note in (110.0, 220.0, 277.2, 329.6, 440.0, 659.3):
        phase = rng.random()
        for overtone in range(1, 6):
            if note * overtone < 0.45 * sample_rate:
                decay = np.exp(-(2 + overtone) * ((times + phase) % 0.75))
                sound += decay * np.sin(2 * np.pi * note * overtone * times + 6 * phase) / overtone**1.5
    return _spread(sound, sample_rate, channels)


def _spread(sound: np.ndarray[Any, Any], sample_rate: int, channels: int) -> Audio:
    spread = [sound * (1 - 0.3 * channel) + 0.2 * np.roll(sound, 50 * channel) for channel in range(channels)]
    return Audio((0.6 * np.stack(spread) / (np.abs(spread).max() + 1e-9)).astype(np.float32), sample_rate)


def impulse(sample_rate: int, seconds: float = 0.5) -> Audio:
    """One loud sample in the middle of silence."""
    waveform = np.zeros((1, round(sample_rate * seconds)), np.float32)
    waveform[0, waveform.size // 2] = 0.9
    return Audio(waveform, sample_rate)


def silence(sample_rate: int, channels: int = 1, seconds: float = 0.5) -> Audio:
    """Nothing but zeros."""
    return Audio(np.zeros((channels, round(sample_rate * seconds)), np.float32), sample_rate)


def clipping(sample_rate: int, channels: int = 2, seconds: float = 0.6) -> Audio:
    """Speech eight times too loud for -1..1."""
    sound = speech(sample_rate, channels, seconds)
    return Audio(np.clip(8 * sound.waveform, -1, 1), sample_rate)


def protected(signal: Signal) -> Signal:
    """Return a copy of ``signal`` that cannot be written to."""
    array = array_of(signal).copy()
    array.flags.writeable = False
    return like(signal, array)


def array_of(signal: Signal) -> np.ndarray[Any, Any]:
    """Return the pixels or the waveform; raises `TypeError` for what is no signal."""
    array = getattr(signal, "pixels", None) if isinstance(signal, Image) else getattr(signal, "waveform", None)
    if not isinstance(signal, Image | Audio) or not isinstance(array, np.ndarray) or array.dtype.hasobject:
        raise TypeError(f"an Image or Audio with an array of numbers is wanted, not {type(signal).__name__} with {type(array).__name__}")
    return array


def like(signal: Signal, array: np.ndarray[Any, Any]) -> Signal:
    """Return a signal of the kind, and the sample rate, of ``signal`` with another array."""
    return Image(array) if isinstance(signal, Image) else Audio(array, signal.sample_rate)


def same(one: Signal, other: Signal) -> bool:
    """Say whether two signals agree exactly, in kind, rate, type, shape and every value; NaN equals NaN."""
    first, second = array_of(one), array_of(other)
    rates = [signal.sample_rate if isinstance(signal, Audio) else None for signal in (one, other)]
    if type(one) is not type(other) or rates[0] != rates[1] or first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind in "fc"))


def delay(original: Audio, decoded: Audio) -> tuple[int, float]:
    """Return the shift in samples at which two sounds correlate best, over all channels, and their correlation there, 0 to 1."""
    size = 2 * original.waveform.shape[1]
    spectrum = np.fft.rfft(decoded.waveform, size) * np.fft.rfft(original.waveform, size).conj()
    correlation = np.fft.irfft(spectrum, size).sum(axis=0)
    shift = int(np.argmax(correlation))
    energy = float(np.sqrt(np.square(original.waveform, dtype=float).sum() * np.square(decoded.waveform, dtype=float).sum()))
    return (shift if shift < size // 2 else shift - size), float(correlation[shift]) / (energy or 1.0)


def envelope(sound: Audio, seconds: float = 0.01) -> Audio:
    """Return how loud a sound is, averaged over ``seconds`` around each sample, less the mean: what parametric codecs keep of its shape."""
    from scipy.ndimage import uniform_filter1d

    loudness = uniform_filter1d(np.abs(sound.waveform.astype(float)).mean(axis=0), max(1, round(sound.sample_rate * seconds)))
    return Audio((loudness - loudness.mean())[None].astype(np.float32), sound.sample_rate)


def displacement(original: Image, decoded: Image) -> tuple[int, int]:
    """Return the shift in rows and columns at which the brightness of two pictures correlates best."""
    size = (2 * original.pixels.shape[0], 2 * original.pixels.shape[1])
    first, second = (image.pixels.mean(axis=2) - image.pixels.mean() for image in (original, decoded))
    correlation = np.fft.irfft2(np.fft.rfft2(second, size) * np.fft.rfft2(first, size).conj(), size)
    place = np.unravel_index(int(np.argmax(correlation)), size)
    rows, columns = (int(at) if at < whole // 2 else int(at) - whole for at, whole in zip(place, size, strict=True))
    return rows, columns
