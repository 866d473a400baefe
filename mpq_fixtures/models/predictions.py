"""Answers of models as bytes for the store, in digests, and as text for people: what most tasks need of these.

Texts and whole numbers, arrays, and dictionaries of arrays are known here; a task whose answers are something else, or may lose what
does not matter, has its own way (`mpq_fixtures.tasks.Task.to_bytes`).
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mpq_fixtures.chain import digest, digest_of_array
from mpq_fixtures.errors import describe_error
from mpq_fixtures.plain_text import plain

_JSON, _ARRAY, _ARRAYS = b"j", b"m", b"s"

_OTHER_ELEMENTS = 1e-3
"""The share of an array of whole numbers that may be others: ties turn with the order in which a sum is taken."""

_OTHER_ENERGY = 1e-6
"""60 dB below: far above what rounding leaves in float32, far below what a mistake does."""


def to_bytes(prediction: Any) -> bytes:
    """Serialise a whole number, a text, an array, or a dictionary of arrays, without loss."""
    if isinstance(prediction, (str, int, np.integer)):
        return _JSON + json.dumps(prediction if isinstance(prediction, str) else int(prediction)).encode()
    if isinstance(prediction, np.ndarray):
        buffer = io.BytesIO()
        np.save(buffer, prediction, allow_pickle=False)
        return _ARRAY + zlib.compress(buffer.getvalue(), 1)
    if isinstance(prediction, dict):
        return arrays_to_bytes((str(name), np.asarray(array)) for name, array in prediction.items())
    raise TypeError(
        f"a prediction is a class index, a text, an array or a dictionary of arrays, not {type(prediction).__name__}: "
        "see `predict` in the suite's documentation"
    )


def arrays_to_bytes(arrays: Iterable[tuple[str, Any]]) -> bytes:
    """Serialise arrays with their names, one at a time and in place: `numpy.savez` would hold all of them once more."""
    buffer = _Behind(_ARRAYS)
    with zipfile.ZipFile(buffer, "w") as file:
        for name, array in arrays:
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Any:
    """Restore what `to_bytes` or `arrays_to_bytes` made; raises `ValueError` for damaged bytes."""
    try:
        form = data[:1]
        if form == _JSON:
            return json.loads(data[1:])
        if form == _ARRAY:
            return np.load(io.BytesIO(zlib.decompress(data[1:])), allow_pickle=False)
        with np.load(_Behind(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zlib, zipfile and numpy raise almost anything
        raise ValueError(f"these bytes are no answer: {describe_error(error)}") from error


class _Behind(io.BytesIO):
    """What follows the first of some bytes, as a file: nothing is copied, neither to read it nor to write it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.seek(0)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return super().seek(offset + 1 if whence == io.SEEK_SET else offset, whence) - 1

    def tell(self) -> int:
        return super().tell() - 1


def digest_of(prediction: Any) -> str:
    """Return the digest of a prediction as it is restored from bytes, which no build of a compressor has a say in."""
    if isinstance(prediction, dict):
        return digest(*(f"{name} {digest_of_array(array)} ".encode() for name, array in sorted(prediction.items())))
    return digest_of_array(prediction) if isinstance(prediction, np.ndarray) else digest(json.dumps(prediction).encode())


def agree(one: Any, other: Any) -> bool:
    """Tell whether two answers to a signal are the same but for rounding.

    Whole numbers and texts are equal; arrays of whole numbers but for 0.1 % of their elements; others within 60 dB of themselves, or
    within 120 dB of the loudest of several.
    """
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return False
        loudest = max((_energy(array) for array in one.values()), default=0.0)
        pairs = [(one[name], other[name]) for name in one]
        return all(a.shape == b.shape and _near(a, b, max(_energy(a), _OTHER_ENERGY * loudest)) for a, b in pairs)
    if isinstance(one, np.ndarray):
        if one.shape != np.shape(other):
            return False
        if one.dtype.kind == "f":
            return _near(one, other, _energy(one))
        return bool(np.count_nonzero(one != other) <= _OTHER_ELEMENTS * one.size)
    return bool(one == other)


def _near(one: Any, other: Any, energy: float) -> bool:
    return bool(np.array_equal(one, other, equal_nan=True)) or _energy(one - other) <= _OTHER_ENERGY * energy


def _energy(array: Any) -> float:
    return float(np.sum(np.square(array, dtype=np.float64)))


def describe(answer: Any, labels: Sequence[str]) -> str:
    """Say a prediction or a target in a word: a label, a text; nothing for arrays."""
    if isinstance(answer, str):
        return plain(answer, lines=True)
    if isinstance(answer, (int, np.integer)):
        return plain(labels[int(answer)]) if 0 <= answer < len(labels) else str(int(answer))
    return ""
