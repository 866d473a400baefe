"""Virtual speech quality objective listener."""

from __future__ import annotations

from functools import cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import NotMeasurable, lacking, versions
from mpq_fixtures.metrics._sounds import SoundMetric

SPEECH, AUDIO = 16000, 48000
"""Hz, the rates of the two modes."""

_alone = Lock()  # an interpreter of the lattice serves one thread


class ViSQOL(SoundMetric):
    """The predicted opinion of listeners, MOS-LQO (Chinen et al. 2020, version 3), by ``visqol-python``, a port of Google's code.

    Rate: sounds up to 16 kHz are measured as speech at 16 kHz, by the lattice of Google's default; others as audio at 48 kHz, by its
    support vectors. The two scales are not one, and an identical sound has less than 5 on both: some 4.7 as audio.
    Level: the decoded sound is brought to the original's, so that a gain costs nothing; the original's own level counts, since what is
    below the threshold of hearing is not compared. Delay: found for the whole and for each patch.
    Length: 1 s at least. A sound decoded to silence cannot be measured.
    Time: on one core half as long as a channel of speech, as long as one of audio; one sound at a time.
    Its authors and those of Lyra warn that it misjudges generative codecs.
    """

    name = "visqol"
    unit = "MOS-LQO"
    bounds = (1.0, 5.0)
    tolerance = 0.02
    shortest = 1.0

    @property
    def settings(self) -> dict[str, Any]:
        """Name the modes; the lattice is always used, since without it values are one or two points higher."""
        return {"speech_up_to": SPEECH, "lattice": True}

    @property
    def packages(self) -> dict[str, str]:
        """Name the package and the runtime of its lattice."""
        return versions("visqol-python", "ai-edge-litert")

    def missing(self) -> str:
        """Name the package and the runtime of its lattice."""
        return lacking(visqol="visqol-python", ai_edge_litert="ai-edge-litert")

    def measured_at(self, sample_rate: int) -> int:
        """Return 16 or 48 kHz, which stand for the two modes."""
        return SPEECH if sample_rate <= SPEECH else AUDIO

    def compare(self, decoded: NDArray[np.float32], original: NDArray[np.float32], sample_rate: int) -> float:
        """Return the MOS-LQO of one channel."""
        if not decoded.any():
            raise NotMeasurable("visqol measures no silence, and the decoded sound is silent")
        with _alone:
            try:
                return float(_listener(sample_rate).measure_from_arrays(original, decoded, sample_rate).moslqo)
            except (ValueError, IndexError) as error:  # no patch of the original is loud or long enough
                raise NotMeasurable(f"visqol finds nothing to compare in this sound: {error}") from error


@cache
def _listener(sample_rate: int) -> Any:
    from visqol import VisqolApi  # type: ignore[import,unused-ignore]

    api = VisqolApi()
    if sample_rate == SPEECH:
        api.create(mode="speech", use_lattice_model=True)
    else:
        api.create(mode="audio")
    return api
