"""Perceptual evaluation of speech quality."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import NotMeasurable, lacking, versions
from mpq_fixtures.metrics._sounds import SoundMetric

NARROW, WIDE = 8000, 16000
"""Hz, the two rates of the recommendation."""


class PESQ(SoundMetric):
    """The predicted opinion of listeners on speech, MOS-LQO (ITU-T P.862.1 and, in wide band, P.862.2), by the package ``pesq``.

    Rate: sounds up to 8 kHz are measured in narrow band at 8 kHz, others in wide band at 16 kHz; what lies above 8 kHz counts nowhere.
    The two scales are not one: an identical sound has 4.55 in narrow band, 4.64 in wide band.
    Level: evened out for each sound, so that a gain costs nothing. Delay: found for each utterance.
    Length: 0.25 to 20 s. The ITU's code keeps 50 utterances and writes past its tables beyond these, which ends the process; an utterance
    and its pause take 0.4 s at least.
    Speech only: music gets a number that means nothing. A sound without utterances, and one decoded to silence, cannot be measured;
    the library's errors are reasons here and never values.
    """

    name = "pesq"
    unit = "MOS-LQO"
    bounds = (1.0, 4.65)
    tolerance = 0.02
    shortest, longest = 0.25, 20.0

    @property
    def settings(self) -> dict[str, Any]:
        """Name the rates."""
        return {"narrow_band": NARROW, "wide_band": WIDE}

    @property
    def packages(self) -> dict[str, str]:
        """Name the package."""
        return versions("pesq")

    def missing(self) -> str:
        """Name the package; it is compiled on installing."""
        lack = lacking(pesq="pesq")
        return f"{lack} (needs a C compiler)" if lack else ""

    def measured_at(self, sample_rate: int) -> int:
        """Return 8 or 16 kHz."""
        return NARROW if sample_rate <= NARROW else WIDE

    def compare(self, decoded: NDArray[np.float32], original: NDArray[np.float32], sample_rate: int) -> float:
        """Return the MOS-LQO of one channel."""
        from pesq import PesqError, pesq  # type: ignore[import,unused-ignore]

        if not decoded.any():
            raise NotMeasurable("pesq measures no silence, and the decoded sound is silent")
        try:
            return float(pesq(sample_rate, original, decoded, "nb" if sample_rate == NARROW else "wb"))
        except PesqError as error:  # without utterances or too short
            reason = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise NotMeasurable(f"pesq: {reason}") from error
