"""Scale-invariant signal-to-distortion ratio of decoded sounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import SignalMetric, Statistic, blocks, decibels, waveforms_of
from mpq_fixtures.signals import Modality


class SISDR(SignalMetric):
    """``10 log10(|a s|^2 / |a s - x|^2)`` with ``a = <x, s> / <s, s>`` (Le Roux et al. 2019), averaged over samples, in dB.

    ``s`` is the original and ``x`` the decoded sound. All channels form one vector with one gain, so that a change of balance counts
    as distortion; the mean is not removed, so that an offset does too. Clipped to -100..100 dB: an identical sound has 100, a silent
    one -100. Where the original is silent the ratio is undefined, and the sample is left out of the mean.
    Statistic: ``[dB, 1]``, or ``[0, 0]`` for a silent original.

    The tolerance is above what rounding in decoders does, and a tenth of what a step on a ladder changes.
    """

    name, modality = "si_sdr", Modality.AUDIO
    automatic = True
    unit = "dB"
    bounds = (-100.0, 100.0)
    tolerance = 0.05

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two `Audio` of one shape; NaN or infinity in the decoded sound gives NaN."""
        decoded, original = waveforms_of(prediction, target, "SI-SDR")
        given = product = energy = 0.0
        for x, s in _pairs(decoded, original):
            given += float(x @ x)
            if not math.isfinite(given):
                return np.array([np.nan, 1.0])
            product, energy = product + float(x @ s), energy + float(s @ s)
        if energy == 0:
            return np.zeros(2)
        if given == 0:
            return np.array([self.bounds[0], 1.0])  # nothing is left of the sound: 0 over 0 in the equation
        gain = product / energy
        left = sum(float(error @ error) for error in (gain * s - x for x, s in _pairs(decoded, original)))
        return np.array([decibels(np.asarray(gain * gain * energy), np.asarray(left)), 1.0])


def _pairs(decoded: NDArray[np.float32], original: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.float64], ...]]:
    return (tuple(part.astype(np.float64) for part in pair) for pair in blocks(decoded, original))
