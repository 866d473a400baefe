"""Calls in which four keys are dialled, on lines of more and more noise: made here, so that there is nothing to download."""

from __future__ import annotations

import hashlib

import numpy as np

from mpq_fixtures.signals import Audio, Dataset, Sample

LOW = {key: tone for tone, keys in ((697, "123"), (770, "456"), (852, "789"), (941, "*0#")) for key in keys}
HIGH = {key: tone for tone, keys in ((1209, "147*"), (1336, "2580"), (1477, "369#")) for key in keys}
RATE = 8000
CALLS = 40


def dialled() -> Dataset:
    """Return the calls; mpq asks for each signal and each target when it needs them."""
    return Dataset([_call(number) for number in range(CALLS)])


def _call(number: int) -> Sample:
    generator = np.random.default_rng(number)
    keys = generator.choice(list(LOW), 4)
    seconds = np.arange(int(0.12 * RATE)) / RATE
    pause = np.zeros(int(0.08 * RATE))
    tones = [np.sin(2 * np.pi * LOW[key] * seconds) + np.sin(2 * np.pi * HIGH[key] * seconds) for key in keys]
    line = 0.2 * np.concatenate([part for tone in tones for part in (pause, tone)] + [pause])
    line += generator.normal(0, 0.004 * number, len(line))
    pcm = np.round(32767 * line.clip(-1, 1)).astype("<i2")  # whole numbers, which are the same on every machine
    source = hashlib.sha256(pcm.tobytes() + bytes("".join(keys), "ascii")).hexdigest()
    return Sample(f"call{number:02}", source, pcm.nbytes, lambda: Audio(pcm[None].astype(np.float32) / 32768, RATE), lambda: " ".join(keys))
