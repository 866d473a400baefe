"""Numbers of samples as one line of text, exactly and small: what a baseline file keeps besides what a reviewer reads."""

from __future__ import annotations

import base64
import json
import lzma
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Statistic

_TYPES = ("|u1", "|i1", "<u2", "<i2", "<i4", "<i8", "<f4", "<f8")
_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 2**20, "lc": 1, "lp": 0, "pb": 0}]
# Some hundred numbers fit one of these, some the other; noise fits none.
_SQUEEZE: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    "r": (bytes, bytes),
    "z": (lambda data: zlib.compress(data, 9, -15), lambda data: zlib.decompress(data, -15)),
    "x": (
        lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=_LZMA),
        lambda data: lzma.decompress(data, lzma.FORMAT_RAW, filters=_LZMA),
    ),
}
_SLOWER = {"r": 1.0, "z": 1.0, "x": 1.04}  # unpacking xz takes ten times as long, which a percent is not worth
_INVALID = 1e12
_VALUES = np.full(256, _INVALID)
"""Of each byte, which digit of base 85 it is."""
_VALUES[np.frombuffer(base64.b85encode(np.arange(0, 85, dtype=">u4").tobytes())[4::5], np.uint8)] = np.arange(85)
_CHECK = 4
"""Bytes of the CRC-32 in front: what was cut or edited does not unpack."""


def pack(arrays: Sequence[Statistic] | NDArray[Any], reference: NDArray[np.float64] | None = None) -> str:
    """Return arrays, one for each sample, as one line of text, exactly: `unpack` gives the same numbers, NaN and infinities too.

    A line of JSON with the type and the shapes; then the numbers, column by column where all arrays have one shape, in the smallest
    type that holds them all (integers, float32 or float64, little-endian), the first bytes of all, then the second, as they compress
    better so. Whole numbers are written as what they differ by from ``reference``, ``[samples, ...]``, where it has their shape: the
    same samples at another operating point. Two builds of zlib may give different text for the same numbers: compare what `unpack` gives.
    """
    shapes = [list(np.shape(array)) for array in arrays]
    even = bool(shapes) and shapes.count(shapes[0]) == len(shapes)
    parts = [np.asarray(array, np.float64).ravel() for array in arrays]
    numbers = np.stack(parts).T.ravel() if even else np.concatenate([*parts, np.empty(0)])
    header: dict[str, Any] = {"samples": len(shapes), "shape": shapes[0]} if even else {"shapes": shapes}
    if even and reference is not None and reference.shape == (len(shapes), *shapes[0]) and _whole(numbers) and _whole(reference):
        header["beside"] = 1
        change = numbers - reference.reshape(len(shapes), -1).T.ravel()
        numbers = np.where(change < 0, -2 * change - 1, 2 * change)  # small either way, and never below 0
    kind = _smallest(numbers)
    planes = numbers.astype(kind).view(np.uint8).reshape(-1, kind.itemsize).T
    return pack_bytes(json.dumps({"type": kind.str, **header}, separators=(",", ":")).encode() + b"\n" + planes.tobytes())


def unpack(text: str, reference: NDArray[np.float64] | None = None) -> NDArray[np.float64] | list[Statistic]:
    """Return the arrays that `pack` wrote, as float64, stacked where all have one shape; raise ValueError when the text is damaged."""
    try:
        line, _, data = unpack_bytes(text).partition(b"\n")
        header = json.loads(line)
        kind = np.dtype(_TYPES[_TYPES.index(header["type"])])
        planes = np.frombuffer(data, np.uint8).reshape(kind.itemsize, -1)
        numbers = np.ascontiguousarray(planes.T).view(kind).ravel().astype(np.float64)
        if "shape" in header:
            columns = numbers.reshape(math.prod(header["shape"]), header["samples"])
            if "beside" in header:
                if reference is None:
                    raise ValueError("it was written beside numbers that are not there")
                change = np.where(columns % 2 == 1, -(columns + 1) / 2, columns / 2)
                columns = reference.reshape(header["samples"], -1).T + change
            return np.ascontiguousarray(columns.T).reshape(header["samples"], *header["shape"])
        shapes = [tuple(shape) for shape in header["shapes"]]
        ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=np.int64)
        if len(numbers) != (ends[-1] if len(ends) else 0):
            raise ValueError(f"{len(numbers)} numbers for the shapes {shapes}")
        return [part.reshape(shape) for part, shape in zip(np.split(numbers, ends[:-1]), shapes, strict=bool(shapes))]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"this text is not packed numbers: {error}") from error


def pack_bytes(data: bytes) -> str:
    """Return bytes as text, as short as they get: in base 85 (RFC 1924's alphabet: no quote, no backslash, no space), after a CRC-32."""
    squeezed = {name: squeeze(data) for name, (squeeze, _) in _SQUEEZE.items()}
    best = min(squeezed, key=lambda name: len(squeezed[name]) * _SLOWER[name])
    return best + base64.b85encode(zlib.crc32(data).to_bytes(_CHECK, "little") + squeezed[best]).decode()


def unpack_bytes(text: str) -> bytes:
    """Return what `pack_bytes` was given; raise ValueError when the text is damaged."""
    try:
        content = _b85decode(text[1:])
        data = _SQUEEZE[text[:1]][1](content[_CHECK:])
    except (ValueError, KeyError, TypeError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"this text is not packed: {error}") from error
    if zlib.crc32(data).to_bytes(_CHECK, "little") != content[:_CHECK]:
        raise ValueError("this text is not what was packed: it was cut or changed")
    return data


def _b85decode(text: str) -> bytes:
    """Return what ``base64.b85encode`` was given, 20 times as fast as the library's own: most of the time of reading goes here."""
    digits = _VALUES[np.frombuffer(text.encode("ascii"), np.uint8)]
    lacking = -len(digits) % 5
    groups = np.concatenate([digits, np.full(lacking, 84)]).reshape(-1, 5) @ 85.0 ** np.arange(4, -1, -1)  # exact below 2**53
    if np.any(digits == _INVALID) or np.any(groups >= 2**32):
        raise ValueError("it holds what base 85 does not")
    return bytes(groups.astype(">u4").tobytes()[: 4 * len(groups) - lacking])


def leading_bits(links: NDArray[np.uint64], bits: int) -> bytes:
    """Return the leading ``bits`` of each link: whole bytes first, a plane of them each, and then what is left, side by side."""
    planes, rest = divmod(bits, 8)
    content = np.ascontiguousarray(links, ">u8").view(np.uint8).reshape(-1, 8)
    left = np.unpackbits(content[:, planes : planes + 1], axis=1)[:, :rest] if rest else np.empty((0, 0), np.uint8)
    return content[:, :planes].T.tobytes() + np.packbits(left).tobytes()


def from_leading_bits(data: bytes, bits: int, samples: int) -> NDArray[np.uint64]:
    """Return the links whose leading bits these are, the others 0; raise ValueError where there are more or fewer."""
    planes, rest = divmod(bits, 8)
    if len(data) != leading_size(bits, samples):
        raise ValueError(f"{len(data)} bytes for the links of {samples} samples")
    content = np.zeros((samples, 8), np.uint8)
    content[:, :planes] = np.frombuffer(data, np.uint8, planes * samples).reshape(planes, samples).T
    if rest:
        left = np.unpackbits(np.frombuffer(data, np.uint8, offset=planes * samples), count=rest * samples).reshape(samples, rest)
        content[:, planes : planes + 1] = np.packbits(left, axis=1)
    return content.view(">u8").ravel().astype(np.uint64)


def leading_size(bits: int, samples: int) -> int:
    """Return how many bytes `leading_bits` gives of so many samples."""
    planes, rest = divmod(bits, 8)
    return planes * samples + (rest * samples + 7) // 8


def _whole(numbers: NDArray[np.float64]) -> bool:
    """Tell whether all are whole numbers whose differences are exact."""
    return bool(np.all(np.abs(numbers) < 2**50)) and np.array_equal(numbers, np.rint(numbers))


def _smallest(numbers: NDArray[np.float64]) -> np.dtype[np.generic]:
    """Return the smallest little-endian type that holds all of the numbers exactly."""
    with np.errstate(invalid="ignore", over="ignore"):
        for name in _TYPES[:-1]:
            kind: np.dtype[np.generic] = np.dtype(name)
            if np.array_equal(numbers.astype(kind).astype(np.float64), numbers, equal_nan=kind.kind == "f"):
                return kind
    return np.dtype("<f8")
