"""What the sound models share: a sound as one channel at the rate of a feature extractor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.signals import Audio


def mono_at(signal: Audio, rate: int) -> NDArray[np.float64]:
    """Return the mean of a sound's channels at a sample rate in Hz, ``[frames]``."""
    from scipy.signal import resample_poly

    mono: NDArray[np.float64] = signal.waveform.mean(0, dtype=np.float64)
    if signal.sample_rate != rate and mono.size:
        mono = resample_poly(mono, rate, signal.sample_rate)
    return mono
