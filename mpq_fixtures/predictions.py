"""Predictions as bytes for the store, and as text for people."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import digest, digest_of_array

_JSON, _MAP, _STEMS = b"j", b"m", b"s"

_STRETCH = 1 << 16
"""Frames of a stem that are scaled at once."""


def to_bytes(prediction: Any) -> bytes:
    """Serialise a class index, a text, a class map ``[H, W]`` or stems ``{name: [channels, frames]}``.

    Stems keep 11 bits of mantissa (float16 with a scale for each stem): an error 70 dB below the stem itself, which moves an SDR
    of 20 dB by less than 1e-4 dB, for half the room of float32.
    """
    if isinstance(prediction, (str, int, np.integer)):
        return _JSON + json.dumps(prediction if isinstance(prediction, str) else int(prediction)).encode()
    buffer = io.BytesIO()
    if isinstance(prediction, np.ndarray):
        np.save(buffer, prediction, allow_pickle=False)
        return _MAP + zlib.compress(buffer.getvalue(), 1)
    if isinstance(prediction, dict):
        with zipfile.ZipFile(buffer, "w") as file:  # as `numpy.savez` does, which would hold all stems once more
            for name, stem in prediction.items():
                peak = max(float(np.max(stem, initial=0.0)), -float(np.min(stem, initial=0.0))) or 1.0
                _save(file, f"scale {name}", np.float32(peak))
                _save(file, f"stem {name}", _scaled(np.asarray(stem), np.float32(peak)))
        return _STEMS + buffer.getbuffer()
    raise TypeError(
        f"a prediction is a class index, a text, an array [H, W] or a dictionary of stems, not {type(prediction).__name__}: "
        "see `predict` in the suite's documentation"
    )


def _scaled(stem: NDArray[Any], peak: np.float32) -> NDArray[np.float16]:
    """Return a stem over its peak, a stretch at a time."""
    scaled = np.empty(stem.shape, np.float16)
    for start in range(0, stem.shape[-1] if stem.ndim else 0, _STRETCH):
        part = slice(start, start + _STRETCH)
        scaled[..., part] = stem[..., part] / peak
    return scaled


def _save(file: zipfile.ZipFile, name: str, array: Any) -> None:
    with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
        np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def from_bytes(data: bytes) -> Any:
    """Restore what `to_bytes` made."""
    kind = data[:1]
    if kind == _JSON:
        return json.loads(data[1:])
    if kind == _MAP:
        return np.load(io.BytesIO(zlib.decompress(data[1:])), allow_pickle=False)
    with np.load(_behind(data), allow_pickle=False) as arrays:
        names = [key.removeprefix("stem ") for key in arrays.files if key.startswith("stem ")]
        stems = {name: arrays[f"stem {name}"].astype(np.float32) for name in names}
        for name, stem in stems.items():
            stem *= arrays[f"scale {name}"]
    return stems


def _behind(data: bytes) -> io.BytesIO:
    """Return the bytes from the second on, as a file that copies none of them: a zip file may stand behind something else."""
    file = io.BytesIO(data)
    file.seek(1)
    return file


def digest_of(prediction: Any) -> str:
    """Return the digest of a prediction as `from_bytes` restores it, which no build of a compressor has a say in."""
    if isinstance(prediction, dict):
        return digest(*(f"{name} {digest_of_array(stem)} ".encode() for name, stem in sorted(prediction.items())))
    return digest_of_array(prediction) if isinstance(prediction, np.ndarray) else digest(json.dumps(prediction).encode())


def describe(answer: Any, labels: Sequence[str]) -> str:
    """Say a prediction or a target in a word: a label, a text; nothing for maps and stems."""
    if isinstance(answer, str):
        return plain(answer)
    if isinstance(answer, (int, np.integer)):
        return plain(labels[int(answer)]) if 0 <= answer < len(labels) else str(int(answer))
    return ""


def plain(text: str) -> str:
    """Return a text as the files of a run can hold it: what is no character of Unicode becomes a question mark."""
    return str(text).encode("utf-8", "replace").decode()
