"""Bitstreams as broken disks, cut downloads and hostile senders leave them, and a decoder that must survive them."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mpq_fixtures.codecs import Codec
from mpq_fixtures.codecs._ogg import checksum
from mpq_fixtures.codecs._workers import seal
from mpq_fixtures.conformance.fresh import FreshCodec, Outcome
from mpq_fixtures.isolation.client import ProcessError

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
        result = seal(result[2:]) if seal(data[2:]) == data else with_checksums(result)
    return result if result not in streams else data[:-1]


def with_checksums(data: bytes) -> bytes:
    """Return a stream whose Ogg pages have the checksums of what is in them now: else a decoder looks at no page that was damaged.

    Besides Ogg's, only streams that this project seals (`mpq_fixtures.codecs._workers.seal`) have any.
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


def _unit(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Drop, repeat or exchange whole units of the container, or set one of another stream in its place."""
    units = units_of(data)
    if len(units) == 1:
        return _cut(rng, data, other)
    first, second = rng.randrange(len(units)), rng.randrange(len(units))
    way = rng.randrange(4)
    if way == 0:
        del units[first]
    elif way == 1:
        units[first] *= rng.choice((2, 3, 50))
    elif way == 2:
        units[first], units[second] = units[second], units[first]
    else:
        units[first] = rng.choice(units_of(other))
    return b"".join(units)


_UNIT = re.compile(
    rb"(?=OggS|\xff[\x4f-\x93\xc0-\xfe]|\x00\x00\x01"  # a page; a segment of JPEG and JPEG 2000, a frame of AAC and MP3; a unit of HEVC
    rb"|(?:VP8[ LX]|ALPH)"  # a chunk of WebP
    rb"|.{4}(?:ftyp|meta|hdlr|pitm|iinf|infe|iloc|iprp|ipco|ipma|ispe|pixi|av1C|hvcC|colr|idat|mdat|jP  |jp2h|ihdr|jp2c|JXL |jxl[cp]))",
    re.DOTALL,  # what comes last are boxes of HEIF, JPEG 2000 and JPEG XL behind their size
)


def units_of(data: bytes) -> list[bytes]:
    """Return a stream in pieces that begin where something in it looks like the head of a page, segment, frame or box; at least one."""
    starts = sorted({0, *(match.start() for match in _UNIT.finditer(data))})
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _append(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data + rng.randbytes(rng.choice((1, 10, 1000)))


_WAYS = (_flip, _flip, _overwrite, _fill, _truncate, _truncate, _cut, _repeat, _field, _field, _splice, _append, _unit, _unit)


@dataclass
class Tally:
    """How damaged streams ended: ``ends`` counts them by the ends of `mpq_fixtures.conformance.fresh.Outcome`.

    ``slowest`` is in seconds, ``peak`` the largest resident memory in bytes of a process that decoded, its worker's where it has one.
    """

    ends: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    peak: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count one more."""
        self.ends[outcome.end] += 1
        self.slowest, self.peak = max(self.slowest, outcome.seconds), max(self.peak, outcome.peak)


def survive(
    codec: Codec,
    streams: Sequence[bytes],
    seeds: Iterable[int],
    told: Callable[[int], None] = lambda seed: None,
    tally: Tally | None = None,
    refusal: type[Exception] = Exception,
) -> Iterator[str]:
    """Decode damaged streams in a fresh process of limited memory, one of each seed; yield a sentence for each that was too much.

    A process that died or took too long is ended, and another one goes on with the next stream. What took too long is tried a second
    time before that is believed: a busy machine may keep a process waiting for as long. ``tally`` counts how streams ended; a decoder that
    raises anything but ``refusal``, one of Python's own, is told.
    """
    process: FreshCodec | None = None
    try:
        for seed in seeds:
            told(seed)
            for last in (False, True):
                if process is None:
                    process = FreshCodec(codec)
                    try:
                        process.limit(streams[-1], MEMORY, SECONDS)
                    except ProcessError as error:
                        yield f"not even a whole stream can be decoded in a fresh process: {error}"
                        return
                started = time.monotonic()
                try:
                    outcome = process.survive(damaged(streams, seed), refusal)
                except ProcessError as error:
                    outcome = Outcome("lost", f": {error}", time.monotonic() - started)
                if outcome.end == "lost":
                    process.close()
                    process = None
                if last or outcome.end != "lost" or outcome.seconds < SECONDS:
                    break
            if tally is not None:
                tally.add(outcome)
            if outcome.end == "memory":
                yield f"damaged stream {seed} asks for more than 1 GB"
            elif outcome.fault:
                yield f"damaged stream {seed}{outcome.fault}"
    finally:
        if process is not None:
            process.close()
