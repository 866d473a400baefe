"""The chain of digests that every sample leaves: what it was at each step from the data set to the score.

Two runs whose chains are equal did the same; the first link that differs names the layer that changed. Digests are made to notice
change, not to withstand an adversary (XXH3, https://xxhash.com): they cost a thousandth of what they are taken of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpq_fixtures.signals import Signal

SOURCE, SIGNAL, BITSTREAM, DECODED, GIVEN, ANSWER, STATISTIC = "source", "signal", "bitstream", "decoded", "given", "answer", "statistic"
LAYERS = (SOURCE, SIGNAL, BITSTREAM, DECODED, GIVEN, ANSWER, STATISTIC)
"""In the order in which they come about: the stored item and its target, the signal read from it, what the encoder made of that, what
the decoder made of those bytes, what the model was given after its own preprocessing, what it answered, and what the metric keeps."""

MADE_BY = {
    SOURCE: "data set",
    SIGNAL: "reader",
    BITSTREAM: "encoder",
    DECODED: "decoder",
    GIVEN: "preprocessing",
    ANSWER: "model",
    STATISTIC: "metric",
}
"""What makes each link of the link before it, and is at fault where it is the first to differ."""

PLURAL = {
    SOURCE: "sources",
    SIGNAL: "signals",
    BITSTREAM: "bitstreams",
    DECODED: "decoded signals",
    GIVEN: "the model's inputs",
    ANSWER: "answers",
    STATISTIC: "statistics",
}
"""What a sentence calls the links of many samples."""


def digest(*parts: bytes | memoryview) -> str:
    """Return 16 hex digits of the parts, one after the other."""
    from xxhash import xxh3_64

    state = xxh3_64()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def digest_of_array(array: object) -> str:
    """Return the digest of an array: its type, its shape and its numbers."""
    import numpy as np

    values = np.ascontiguousarray(array)
    return digest(f"{values.dtype.str}{values.shape}".encode(), values.data if values.size else b"")


def digest_of_signal(signal: Signal) -> str:
    """Return the digest of a signal: of a picture's pixels, of a sound's waveform and its rate."""
    from mpq_fixtures.signals import Image

    if isinstance(signal, Image):
        return digest_of_array(signal.pixels)
    return digest(f"{signal.sample_rate} {digest_of_array(signal.waveform)}".encode())
