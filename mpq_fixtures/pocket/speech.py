"""The pocket's utterances: spoken digits and short commands, mono at 16 kHz, at most 3 s long.

Their sentences and their voices are new to the model.
FLAC files and ``transcripts.tsv`` are in ``speech/``. `mpq_fixtures.pocket.training.speech_data` made them.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np

from mpq_fixtures.signals import Audio, Dataset, Sample

FOLDER = Path(__file__).with_name("speech")


def utterances() -> Dataset:
    """Return the utterances, each with its words in lower case as the target."""
    rows = (FOLDER / "transcripts.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return Dataset([_sample(*row.split("\t")) for row in rows])


def _sample(name: str, text: str, voice: str) -> Sample:
    path = FOLDER / f"{name}.flac"
    stored = path.read_bytes()
    return Sample(name, sha256(stored + text.encode()).hexdigest(), len(stored), partial(_read, path), lambda: text)


def _read(path: Path) -> Audio:
    import soundfile

    waveform, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    return Audio(np.ascontiguousarray(waveform.T), sample_rate)
