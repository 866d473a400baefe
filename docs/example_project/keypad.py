"""Reads the keys that were pressed in a call from their tones (DTMF, ITU-T Q.23): the product whose perception is tested."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477)
KEYS = ("123", "456", "789", "*0#")
FRAME = 0.05  # seconds; a key is heard where the tones of two frames agree
CLEAR = 0.5  # the share of a frame's energy that its two tones have at least


def read_keys(waveform: np.ndarray, sample_rate: int) -> str:
    """Return the keys in ``waveform``, ``float [frames]``, one after another with spaces between."""
    length = round(FRAME * sample_rate)
    heard = [_key(waveform[start : start + length], sample_rate) for start in range(0, len(waveform) - length + 1, length // 2)]
    keys, last = [], ""
    for key, following in pairwise(heard):
        if key and key == following and key != last:
            keys.append(key)
        last = key if key == following else last
    return " ".join(keys)


def _key(frame: np.ndarray, sample_rate: int) -> str:
    """Return the key whose tones a frame has, "" for none."""
    window = np.hanning(len(frame))
    steps = np.arange(len(frame)) / sample_rate
    energy = [np.abs(np.sum(frame * window * np.exp(-2j * np.pi * tone * steps))) ** 2 for tone in LOW + HIGH]
    low, high = int(np.argmax(energy[: len(LOW)])), int(np.argmax(energy[len(LOW) :]))
    explained = 2 * (energy[low] + energy[len(LOW) + high]) / max(np.sum(window) * np.sum(frame**2 * window), 1e-9)
    return KEYS[low][high] if explained >= CLEAR else ""


class Reader:
    """The product as mpq takes models: signals in, one answer for each out."""

    def predict(self, signals: Sequence) -> list[str]:
        """Read sounds, whose waveforms are ``float32 [channels, frames]``."""
        return [read_keys(signal.waveform.mean(axis=0), signal.sample_rate) for signal in signals]


def load(device: str) -> Reader:
    """Return the reader; it computes on the processor whatever ``device`` there is."""
    return Reader()
