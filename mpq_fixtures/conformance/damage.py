"""Bitstreams as broken disks, cut downloads and hostile senders leave them, and a decoder that must survive them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from mpq_fixtures.codecs import Codec
from mpq_fixtures.codecs._ogg import checksum
from mpq_fixtures.conformance.fresh import FreshCodec
from mpq_fixtures.isolation.client import ProcessError, RemoteError

MEMORY = 1 << 30
"""Bytes that a decoder may take for a damaged stream, beyond what it takes for a whole one."""
SECONDS = 10.0
"""What a damaged stream may take, or twenty times what a whole one takes if that is more."""
_OGG = b"OggS"
HEAD = 64
"""Formats keep lengths, sizes and tables in their first bytes: half of the damage goes there."""


def damaged(streams: Sequence[bytes], seed: int) -> bytes:
    """Return one of ``streams`` damaged in a way that ``seed`` decides: never one of them as it was."""
    rng = random.Random(seed)
    data = rng.choice([stream for stream in streams if stream] or [b"\0"])
    result = rng.choice(_WAYS)(rng, data, rng.choice(streams))
    if rng.random() < 0.5:
        result = with_checksums(result)
    return result if result not in streams else data[:-1]


def with_checksums(data: bytes) -> bytes:
    """Return a stream whose Ogg pages have the checksums of what is in them now: else a decoder looks at no page that was damaged.

    Other formats of this project's codecs have no checksums.
    """
    start, *pages = data.split(_OGG)
    return start + b"".join(_with_checksum(_OGG + page) for page in pages)


def _with_checksum(page: bytes) -> bytes:
    if len(page) < 27 or len(page) < (end := 27 + page[26] + sum(page[27 : 27 + page[26]])):
        return page
    whole, rest = page[:end], page[end:]
    serial = whole[14:18]
    return whole[:22] + (checksum(whole) if serial == bytes(4) else whole[22:26]) + whole[26:] + rest


def _place(rng: random.Random, data: bytes) -> int:
    return rng.randrange(min(len(data), HEAD) if rng.random() < 0.5 else len(data))


def _flip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 40))):
        changed[_place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _overwrite(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, size = _place(rng, data), rng.choice((1, 4, 16, 100))
    return (data[:start] + rng.randbytes(size) + data[start + size :])[: len(data)]


def _fill(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, size = _place(rng, data), rng.choice((1, 4, 16, 100, len(data)))
    return (data[:start] + rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * size + data[start + size :])[: len(data)]


def _truncate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.choice((0, 1, _place(rng, data), rng.randrange(len(data)), len(data) - 1))]


def _cut(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start = _place(rng, data)
    return data[:start] + data[start + rng.randint(1, 40) :]


def _repeat(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start = _place(rng, data)
    return data[:start] + data[start : start + rng.randint(1, 100)] * rng.choice((2, 3, 50)) + data[start:]


def _field(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Set a number of one to eight bytes to one that no length, size or count should be."""
    start, size = _place(rng, data), rng.choice((1, 2, 4, 8))
    number = rng.choice((0, 1, (1 << 8 * size) - 1, (1 << 8 * size - 1) - 1, 1 << 8 * size - 1, rng.randrange(1 << 8 * size)))
    return data[:start] + number.to_bytes(size, rng.choice(("little", "big"))) + data[start + size :]


def _splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: _place(rng, data)] + other[rng.randrange(len(other) + 1) :]


def _append(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data + rng.randbytes(rng.choice((1, 10, 1000)))


_WAYS = (_flip, _flip, _overwrite, _fill, _truncate, _truncate, _cut, _repeat, _field, _field, _splice, _append)


def survive(codec: Codec, streams: Sequence[bytes], seeds: Iterable[int], told: Callable[[int], None] = lambda seed: None) -> Iterator[str]:
    """Decode damaged streams in a fresh process of limited memory, one of each seed; yield a sentence for each that was too much.

    A process that died or took too long is ended, and another one goes on with the next stream.
    """
    process: FreshCodec | None = None
    try:
        for seed in seeds:
            told(seed)
            if process is None:
                process = FreshCodec(codec)
                try:
                    process.limit(streams[-1], MEMORY, SECONDS)
                except ProcessError as error:
                    yield f"not even a whole stream can be decoded in a fresh process: {error}"
                    return
            try:
                end, fault = process.survive(damaged(streams, seed))
                if end == "memory":
                    yield f"damaged stream {seed} asks for more than 1 GB"
                elif fault:
                    yield f"damaged stream {seed} decodes to {fault}"
            except RemoteError as error:
                yield f"damaged stream {seed}: {error}"
            except ProcessError as error:
                yield f"damaged stream {seed}: {error}"
                process.close()
                process = None
    finally:
        if process is not None:
            process.close()
