"""Whole numbers as bits, for codecs whose networks give the indices of a codebook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def packed_size(bits: int, count: int) -> int:
    """Return how many bytes ``count`` numbers of ``bits`` each take."""
    return -(-bits * count // 8)


def pack(codes: NDArray[Any], bits: int) -> bytes:
    """Return numbers from 0 to ``2**bits - 1``, in C order, one after the other in ``bits`` each, the most significant first.

    Zeros fill the last byte. Raises `ValueError` for a number that does not fit.
    """
    flat = codes.ravel().astype(np.int64)
    if flat.size and not 0 <= flat.min() <= flat.max() < 1 << bits:
        raise ValueError(f"codes from {flat.min()} to {flat.max()} do not fit into {bits} bits")
    return np.packbits((flat[:, None] >> np.arange(bits)[::-1] & 1).astype(np.uint8)).tobytes()


def unpack(data: bytes, bits: int, count: int) -> NDArray[np.int64]:
    """Return the ``count`` numbers that `pack` wrote; raises `ValueError` unless ``data`` is as long as they take."""
    if len(data) != packed_size(bits, count):
        raise ValueError(f"{len(data)} bytes, where {count} codes of {bits} bits take {packed_size(bits, count)}")
    spread = np.unpackbits(np.frombuffer(data, np.uint8), count=bits * count).reshape(count, bits)
    return spread.astype(np.int64) @ (1 << np.arange(bits, dtype=np.int64)[::-1])
