"""Peak signal-to-noise ratio of decoded pictures and sounds."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import SignalMetric, Statistic, blocks, decibels, pixels_of, waveforms_of
from mpq_fixtures.signals import Modality


class _PSNR(SignalMetric):
    """``10 log10(peak^2 / mean squared error)`` of each sample, averaged over samples, in dB. Statistic: dB, ``[]``.

    Identical signals count as 100 dB, so that means stay finite. The tolerance is above what decoders of one format may differ
    by in rounding, and a tenth of what a step on a ladder changes.
    """

    unit = "dB"
    tolerance = 0.05
    automatic = True
    peak: ClassVar[float]

    @property
    def settings(self) -> dict[str, Any]:
        """Name the peak."""
        return {"peak": self.peak}

    def _compare(self, decoded: NDArray[Any], original: NDArray[Any]) -> Statistic:
        return decibels(np.asarray(self.peak**2), np.asarray(_mean_square(decoded, original)))

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return the mean over samples."""
        return np.asarray(total / samples)


class ImagePSNR(_PSNR):
    """PSNR of pictures: the peak is 255, the error is over all pixels of R, G and B, as in Jacobellis et al. (arXiv 2401.07957)."""

    name, modality = "psnr", Modality.IMAGE
    bounds = (0.0, 100.0)
    peak = 255.0

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two `Image` of one shape."""
        return self._compare(*pixels_of(prediction, target, "PSNR"))


class AudioPSNR(_PSNR):
    """PSNR of sounds: the peak is 1, full scale, the error is over all audio samples and channels.

    So it is in Jacobellis et al. (arXiv 2401.07957), but they average the squared errors of a set before the logarithm;
    ``10 ** (-statistic / 10)`` is a sample's squared error for whoever wants that.
    """

    name, modality = "psnr", Modality.AUDIO
    bounds = (-100.0, 100.0)
    peak = 1.0

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two `Audio` of one shape; NaN or infinity in the decoded sound gives NaN."""
        return self._compare(*waveforms_of(prediction, target, "PSNR"))


def _mean_square(decoded: NDArray[Any], original: NDArray[Any]) -> float:
    """Return the mean squared difference, block by block; of bytes in integers, which is exact, too, and takes half the time."""
    of_bytes = decoded.dtype == original.dtype == np.uint8
    squares = [_squares_of_bytes(x, y) if of_bytes else _squares(x, y) for x, y in blocks(decoded, original)]
    return float(sum(squares) / original.size)


def _squares_of_bytes(decoded: NDArray[np.uint8], original: NDArray[np.uint8]) -> int:
    """Return the sum of squared differences, each of which fits into 16 bits and those of a block into 32."""
    difference = np.maximum(decoded, original)
    difference -= np.minimum(decoded, original)
    squares = difference.astype(np.uint16)
    squares *= squares
    return int(squares.sum(dtype=np.uint32))


def _squares(decoded: NDArray[Any], original: NDArray[Any]) -> float:
    error = np.subtract(decoded, original, dtype=np.float64)
    return float(np.vdot(error, error))
