"""What the metrics of sounds share: channels, rates, lengths, and what cannot be measured."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import NotMeasurable, SignalMetric, Statistic, waveforms_of
from mpq_fixtures.signals import Modality


class SoundMetric(SignalMetric):
    """A metric of one channel at the rates that its library knows.

    Each channel is compared by itself, at `measured_at` its rate, and the values are averaged: a downmix would hide what a codec does to
    the sides of joint stereo, and lose what is out of phase. A channel that is silent in the original is left out.

    ``shortest`` and ``longest`` are the lengths in seconds that its library measures.
    """

    modality = Modality.AUDIO
    shortest: ClassVar[float]
    longest: ClassVar[float] = math.inf

    @abstractmethod
    def measured_at(self, sample_rate: int) -> int:
        """Return the sample rate in Hz at which a sound of ``sample_rate`` is compared."""

    @abstractmethod
    def compare(self, decoded: NDArray[np.float32], original: NDArray[np.float32], sample_rate: int) -> float:
        """Return the value of one channel, ``float32 [frames]`` in -1..1; raises `NotMeasurable` or gives NaN where there is none."""

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two `Audio` of one shape and rate; NaN or infinity in the decoded sound gives NaN."""
        decoded, original = waveforms_of(prediction, target, self.name)
        if prediction.sample_rate != target.sample_rate:
            raise ValueError(f"{self.name} compares sounds of one rate, not {prediction.sample_rate} Hz with {target.sample_rate} Hz")
        if not np.isfinite(decoded).all():
            return np.array([np.nan, 1.0])
        seconds = original.shape[1] / target.sample_rate
        if not self.shortest <= seconds <= self.longest:
            bound = f"shorter than {self.shortest:g}" if seconds < self.shortest else f"longer than {self.longest:g}"
            raise NotMeasurable(f"{self.name} measures no sounds {bound} s; this one has {seconds:.3g}")
        heard = original.any(axis=1)
        if not heard.any():
            raise NotMeasurable(f"{self.name} measures no silence, and the original is silent")
        rate = self.measured_at(target.sample_rate)
        pairs = zip(
            _resampled(decoded[heard], target.sample_rate, rate), _resampled(original[heard], target.sample_rate, rate), strict=True
        )
        value = float(np.mean([self.compare(*pair, rate) for pair in pairs]))
        if not math.isfinite(value):
            silent = "; the decoded sound is silent" if not decoded[heard].any(axis=1).all() else ""
            raise NotMeasurable(f"{self.name} has no value of this sound{silent}")
        return np.array([value, 1.0])


def _resampled(waveform: NDArray[np.float32], source: int, target: int) -> NDArray[np.float32]:
    from mpq_fixtures.codecs._audio import resample  # codecs know tasks, and tasks metrics: not at the top

    return np.ascontiguousarray(resample(waveform, source, target))
