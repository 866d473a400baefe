"""The pocket's songs: eight synthesised mixtures of 6 s in stereo at 16 kHz, with their stems.

The stems are 16-bit FLAC files in ``songs/<song>/``; a mixture is their sum, exact in 16 bits.
`mpq_fixtures.pocket.training.songs` made them.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.signals import Audio, Dataset, Sample

STEMS = ("drums", "bass", "other", "vocals")
SAMPLE_RATE, CHANNELS, SECONDS = 16_000, 2, 6
FOLDER = Path(__file__).with_name("songs")


def songs() -> Dataset:
    """Return the songs: mixtures with targets ``{stem: float32 [2, frames]}``, their stored size that of 16-bit PCM."""
    return Dataset([_sample(folder) for folder in sorted(FOLDER.iterdir()) if folder.is_dir()])


def _sample(folder: Path) -> Sample:
    digest = sha256()
    for name in STEMS:
        digest.update((folder / f"{name}.flac").read_bytes())
    stored_bytes = 2 * SECONDS * SAMPLE_RATE * CHANNELS  # no mixture is stored
    return Sample(folder.name, digest.hexdigest(), stored_bytes, partial(_mixture, folder), partial(_stems, folder))


def _stems(folder: Path) -> dict[str, NDArray[np.float32]]:
    import soundfile

    return {name: np.ascontiguousarray(soundfile.read(folder / f"{name}.flac", dtype="float32")[0].T) for name in STEMS}


def _mixture(folder: Path) -> Audio:
    stems = _stems(folder)  # multiples of 2**-15, so that their sum is exact
    return Audio(np.sum([stems[name] for name in STEMS], axis=0, dtype=np.float32), SAMPLE_RATE)
