"""MUSDB18-HQ as it is unpacked from ``musdb18hq.zip`` (Rafii et al. 2019, doi 10.5281/zenodo.3338373): a folder for each track.

A track is some four minutes of stereo at 44.1 kHz: 85 MB in memory, and as much for each of its four stems and for each that a model
makes of them. Tracks are read one at a time, and stems only when they are scored.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpq_fixtures.errors import AssetError

STEMS = ("drums", "bass", "other", "vocals")
LAYOUT = "test/<track>/mixture.wav, drums.wav, bass.wav, other.wav and vocals.wav, as in musdb18hq.zip (doi.org/10.5281/zenodo.3338373)"
COLUMNS = {"mixture": "mixture", "stems": {name: name for name in STEMS}, "id": "track"}


def open_folder(folder: Path, split: str) -> tuple[Any, Path]:
    """Return the table of a split, and the folder that its file names start from."""
    import datasets

    tracks = sorted(path.parent.name for path in (folder / split).glob("*/mixture.wav"))
    if not tracks:
        raise AssetError(f"{folder} holds no tracks of the split {split!r}: expected {LAYOUT}")
    files = {stem: [f"{track}/{stem}.wav" for track in tracks] for stem in ("mixture", *STEMS)}
    return datasets.Dataset.from_dict({"track": tracks, **files}), folder / split
