"""Stems: read from columns of sounds, and kept in half the room that float32 takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.datasets.columns import Table, Targets, digest_of_text, files_of
from mpq_fixtures.datasets.reading import read_audio
from mpq_fixtures.models import predictions
from mpq_fixtures.signals import Audio, Target

_STRETCH = 1 << 16
"""Frames of a stem that are scaled at once."""


class Stems(Targets):
    """Stems by name, each a column of sounds or the sum of several."""

    def __init__(self, table: Table) -> None:
        wanted = table.columns.get("stems")
        if not wanted:
            others = ", ".join(name for name in table.rows.column_names if name != table.column("mixture"))
            raise table.error(f'stems is missing: write stems = {{ vocals = "COLUMN", other = ["COLUMN", "COLUMN"] }}; there is: {others}')
        named = wanted if isinstance(wanted, Mapping) else {name: name for name in wanted}
        self._files = {
            stem: [files_of(table, table.known(column, f"stems.{stem}"), "stems") for column in ([some] if isinstance(some, str) else some)]
            for stem, some in named.items()
        }
        self.files = [files for columns in self._files.values() for files in columns]

    def digests(self, row: int) -> Iterator[bytes]:
        for stem, columns in self._files.items():
            yield digest_of_text(stem)
            yield from (files.digest(row)[0] for files in columns)

    def __getitem__(self, row: int) -> Target:
        stems, rates = {}, set()
        for stem, columns in self._files.items():
            sounds = [read_audio(files[row], files.limits) for files in columns]
            rates |= {sound.sample_rate for sound in sounds}
            if len({sound.waveform.shape for sound in sounds}) > 1:
                raise ValueError(f"the columns of the stem {stem!r} differ in channels or length and cannot be summed")
            stems[stem] = Audio(np.sum([sound.waveform for sound in sounds], axis=0, dtype=np.float32), sounds[0].sample_rate)
        if len(rates) > 1:
            raise ValueError(f"the stems differ in sample rate: {', '.join(f'{rate} Hz' for rate in sorted(rates))}")
        return stems


def to_bytes(stems: Mapping[str, NDArray[Any]]) -> bytes:
    """Serialise stems ``{name: [channels, frames]}``.

    They keep 11 bits of mantissa (float16 with a scale for each stem): an error 70 dB below the stem itself, which moves an SDR
    of 20 dB by less than 1e-4 dB, for half the room of float32.
    """
    return predictions.arrays_to_bytes(_scaled_arrays(stems))


def _scaled_arrays(stems: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, Any]]:
    for name, stem in stems.items():
        peak = max(float(np.max(stem, initial=0.0)), -float(np.min(stem, initial=0.0))) or 1.0
        yield f"scale {name}", np.float32(peak)
        yield f"stem {name}", _scaled(np.asarray(stem), np.float32(peak))


def _scaled(stem: NDArray[Any], peak: np.float32) -> NDArray[np.float16]:
    """Return a stem over its peak, a stretch at a time."""
    scaled = np.empty(stem.shape, np.float16)
    for start in range(0, stem.shape[-1] if stem.ndim else 0, _STRETCH):
        part = slice(start, start + _STRETCH)
        scaled[..., part] = stem[..., part] / peak
    return scaled


def from_bytes(data: bytes) -> dict[str, NDArray[np.float32]]:
    """Restore what `to_bytes` made; raises `ValueError` for anything else."""
    arrays = predictions.from_bytes(data)
    if not isinstance(arrays, dict) or not all(f"scale {key.removeprefix('stem ')}" in arrays for key in arrays if key.startswith("stem ")):
        raise ValueError("these bytes are no stems with their scales")
    names = [key.removeprefix("stem ") for key in arrays if key.startswith("stem ")]
    stems = {name: arrays.pop(f"stem {name}").astype(np.float32) for name in names}
    for name, stem in stems.items():
        stem *= arrays[f"scale {name}"]
    return stems
