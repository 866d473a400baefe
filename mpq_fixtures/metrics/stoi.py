"""Short-time objective intelligibility."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import NotMeasurable, lacking, versions
from mpq_fixtures.metrics._sounds import SoundMetric

TOO_SHORT = 1e-5
"""What the package returns, with a warning, where it finds too few frames."""


class STOI(SoundMetric):
    """How intelligible speech has stayed: the correlation of short-time envelopes (Taal et al. 2011), by the package ``pystoi``.

    Rate: the package resamples to 10 kHz itself, by the authors' filter; what lies above 4.3 kHz counts nowhere.
    Level: evened out for each band and segment, so that a gain costs nothing. Delay: not sought.
    Length: 30 frames of the original within 40 dB of its loudest one, which takes 0.41 s without pauses; below that the package returns
    1e-5, a reason here and never a value. A sound decoded to silence has 0.
    Speech only: music gets a number that means nothing.
    """

    name = "stoi"
    unit = "1"
    bounds = (-1.0, 1.0)
    tolerance = 0.002
    shortest = 0.41

    @property
    def settings(self) -> dict[str, Any]:
        """Name the variant."""
        return {"extended": False}

    @property
    def packages(self) -> dict[str, str]:
        """Name the package."""
        return versions("pystoi")

    def missing(self) -> str:
        """Name the package."""
        return lacking(pystoi="pystoi")

    def measured_at(self, sample_rate: int) -> int:
        """Return the sound's own rate."""
        return sample_rate

    def compare(self, decoded: NDArray[np.float32], original: NDArray[np.float32], sample_rate: int) -> float:
        """Return the index of one channel."""
        from pystoi import stoi  # type: ignore[import,unused-ignore]

        value = float(stoi(original.astype(np.float64), decoded.astype(np.float64), sample_rate))
        if value == TOO_SHORT:
            raise NotMeasurable("stoi needs 30 frames that are not silent, and the original has fewer")
        return value
