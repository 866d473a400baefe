"""Signals that codecs are tried on: a photograph, and sounds that resemble speech and music, at any rate and length."""

from __future__ import annotations

import numpy as np
import skimage.data

from mpq_fixtures.signals import Audio, Image


def photo(height: int = 224, width: int = 224) -> Image:
    """A portrait: a crop of the photograph in scikit-image's wheel (NASA, public domain)."""
    return Image(np.ascontiguousarray(skimage.data.astronaut()[30 : 30 + height, 120 : 120 + width]))


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


def _spread(sound: np.ndarray, sample_rate: int, channels: int) -> Audio:
    spread = [sound * (1 - 0.3 * channel) + 0.2 * np.roll(sound, 50 * channel) for channel in range(channels)]
    return Audio((0.6 * np.stack(spread) / (np.abs(spread).max() + 1e-9)).astype(np.float32), sample_rate)
