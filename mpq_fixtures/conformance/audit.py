"""What every evaluation asks of a codec before its figures are believed, in a second or two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np

from mpq_fixtures.codecs import Codec
from mpq_fixtures.conformance.fresh import FreshCodec, spread
from mpq_fixtures.conformance.signals import array_of, protected, same
from mpq_fixtures.isolation.client import ProcessError, RemoteError
from mpq_fixtures.signals import Signal

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Tried:
    """A signal at a quality, as the codec encoded and decoded it here: what was returned, and a copy of that moment."""

    signal: Signal
    quality: str
    data: bytes
    returned: np.ndarray[Any, Any]
    decoded: Signal


def audit(codec: Codec, qualities: Sequence[str], signals: Iterable[Signal], enough: int = 2) -> list[str] | None:
    """Return what is dishonest about ``codec``, one sentence a fault, each of which begins with the codec's name; empty when nothing is.

    The first ``enough`` of ``signals`` that it can do anything with are encoded at the lowest, a middle and the highest of
    ``qualities``, twice here. A fresh process decodes the bytes before it has encoded anything, then encodes the signals in another
    order. All bytes and all decoded signals must agree exactly. What the codec cannot encode or decode here is left out: that fails by
    itself. None where that is all of it, so that nothing was tried.
    """
    with FreshCodec(codec) as fresh, ThreadPoolExecutor(1) as pool:
        started = pool.submit(_call, fresh.start)
        each = ([one for quality in spread(qualities) if (one := _try(codec, protected(signal), quality))] for signal in signals)
        tried = list(chain.from_iterable(islice(filter(None, each), enough)))
        faults = [*_later(tried), *_again(codec, tried)]
        try:
            started.result()
        except ProcessError as error:
            return [f"{codec.name} {fault}" for fault in [*faults, f"cannot be made in a fresh process: {error}"]]
        if not tried:
            return None
        faults += [*_from_bytes(fresh, tried), *_elsewhere(fresh, tried)]
        shared = _files(fresh.read) & _files(fresh.written)
        faults += [f"is not honest: the decoder opened {file}, which the encoder wrote" for file in sorted(shared)]
    return [f"{codec.name} {fault}" for fault in faults]


def _try(codec: Codec, signal: Signal, quality: str) -> _Tried | None:
    data = _bytes(codec, signal, quality)
    if data is None:
        return None
    try:
        returned = array_of(decoded := codec.decode(data))
    except Exception:
        return None
    return _Tried(signal, quality, data, returned, protected(decoded))


def _bytes(codec: Codec, signal: Signal, quality: str) -> bytes | None:
    try:
        return bytes(memoryview(codec.encode(signal, quality)))
    except Exception:
        return None


def _later(tried: Sequence[_Tried]) -> list[str]:
    """Compare what was decoded with what has become of it."""
    changed = [
        one.quality for one in tried if not np.array_equal(one.returned, array_of(one.decoded), equal_nan=one.returned.dtype.kind == "f")
    ]
    return [f"changes what it decoded when it decodes the next: at {changed[0]} it returned an array that it uses again"] if changed else []


def _again(codec: Codec, tried: Sequence[_Tried]) -> list[str]:
    """Encode everything a second time, the last first."""
    other = [one.quality for one in reversed(tried) if _bytes(codec, one.signal, one.quality) != one.data]
    return [f"gave other bytes for the same signal the second time, at {other[0]}"] if other else []


def _from_bytes(fresh: FreshCodec, tried: Sequence[_Tried]) -> list[str]:
    """Decode everything in a fresh process, in which nothing was encoded yet."""
    for one in tried:
        try:
            decoded = _call(fresh.decode, one.data)
        except ProcessError as error:
            return [f"cannot decode in a fresh process, from the bytes alone, what it decodes here, at {one.quality}: {error}"]
        if not same(decoded, one.decoded):
            return [f"decodes another signal in a fresh process, from the bytes alone, than here, at {one.quality}"]
    return []


def _elsewhere(fresh: FreshCodec, tried: Sequence[_Tried]) -> list[str]:
    """Encode everything in a fresh process, the last first."""
    for one in reversed(tried):
        try:
            data = _call(fresh.encode, one.signal, one.quality)
        except ProcessError as error:
            return [f"cannot encode in a fresh process what it encodes here, at {one.quality}: {error}"]
        if data != one.data:
            return [f"gave other bytes for the same signal in a fresh process, at {one.quality}"]
    return []


def _call(method: Callable[..., T], *arguments: Any) -> T:
    """Ask a fresh process, and another one where that was lost: a codec's crash comes again, one for want of memory may not."""
    try:
        return method(*arguments)
    except RemoteError:
        raise
    except ProcessError:
        return method(*arguments)


def _files(ask: Any) -> set[str]:
    try:
        found: set[str] = ask()
    except ProcessError:  # it died of what was asked before, which is told already
        return set()
    return found
