"""A codec under trial: what checks share, so that nothing is encoded twice that need not be."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpq_fixtures.codecs import IMAGE, Codec
from mpq_fixtures.conformance import signals
from mpq_fixtures.conformance.fresh import FreshCodec, decode_all, encode_all, spread
from mpq_fixtures.conformance.signals import array_of, protected
from mpq_fixtures.isolation.client import ProcessError
from mpq_fixtures.signals import Audio, Image, Signal

THREADS = {name: "3" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
STOPPED = -3_456_789.0
"""Where the clock of another time stands, in seconds from now: 40 days ago, at another hour."""


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """What a codec did in fresh processes: its bytes for each point, the signals from bytes alone, and files that both sides opened."""

    streams: dict[tuple[str, str], bytes | ProcessError]
    decoded: dict[tuple[str, str], Signal | ProcessError]
    files: list[str]


class Trial:
    """A codec, the qualities that it is tried at, and what it does with two signals, here and elsewhere.

    ``edges`` are the qualities at which unusual signals are tried. Signals are write-protected; what is decoded is copied at once. The
    fresh processes begin at once; `close` ends them.
    """

    def __init__(self, codec: Codec, qualities: tuple[str, ...], streams: int, told: Callable[[str], None]) -> None:
        self.codec, self.qualities, self.streams, self.told = codec, qualities, streams, told
        self.edges = spread(qualities, 2)
        image = codec.modality is IMAGE
        made: dict[str, Signal] = (
            {"main": signals.picture(), "other": signals.picture(128, 112, seed=2)}
            if image
            else {"main": signals.speech(16000, 1, 2.0), "other": signals.music(16000, 1, 1.2)}
        )
        self.signals = {name: protected(signal) for name, signal in made.items()}
        small = signals.picture(64, 64, seed=3) if image else signals.speech(16000, 1, 0.5)
        self.small = protected(small)
        self._data: dict[tuple[str, str], bytes] = {}
        self._decoded: dict[tuple[str, str], Signal] = {}
        self.started = time.time()
        self._processes: list[FreshCodec] = []
        self._pool = ThreadPoolExecutor(4)
        self._elsewhere = self._pool.submit(self._encode_and_decode)
        self._unusual = self._fresh()
        self._pool.submit(self._unusual.start)
        self._changed = self._pool.submit(self._encode_there, THREADS, self.started + STOPPED)

    @property
    def points(self) -> list[tuple[str, str]]:
        """Every signal at every quality."""
        return [(name, quality) for quality in self.qualities for name in self.signals]

    def data(self, name: str, quality: str) -> bytes:
        """Return the bytes of a signal at a quality as the codec wrote them here at first."""
        self._go(name, quality)
        return self._data[name, quality]

    def decoded(self, name: str, quality: str) -> Signal:
        """Return what the codec decoded right after it had encoded."""
        self._go(name, quality)
        return self._decoded[name, quality]

    def encode(self, signal: Signal, quality: str) -> bytes:
        """Return the bytes, all of them, whatever they say of themselves."""
        return bytes(memoryview(self.codec.encode(signal, quality)))

    def round_trip(self, signal: Signal, quality: str) -> Signal:
        """Return a signal as it comes back from a process of its own: what is unusual may end it."""
        return self._unusual.decode(self._unusual.encode(signal, quality))

    def elsewhere(self) -> Elsewhere:
        """Return what happened in a process that encoded in another order, and in one that decoded."""
        return self._elsewhere.result()

    def with_threads(self) -> list[tuple[tuple[str, str], bytes | ProcessError]]:
        """Return points and the bytes that a process with three threads wrote."""
        written = self._changed.result()
        return written if self._agree(written) else self._encode_there(THREADS, None)

    def at_another_time(self) -> list[bytes | ProcessError]:
        """Return the bytes of the first point from a process whose clock stands still at another time: thrice."""
        written = self._changed.result()
        return [data for _, data in (written if self._agree(written) else self._encode_there({}, self.started + STOPPED))[:3]]

    def close(self) -> None:
        """Give up what is still under way."""
        for process in self._processes:
            process.give_up()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._unusual.close()

    def _fresh(self, environment: dict[str, str] | None = None, clock: float | None = None) -> FreshCodec:
        self._processes.append(FreshCodec(self.codec, environment, clock))
        return self._processes[-1]

    def _go(self, name: str, quality: str) -> None:
        if (name, quality) not in self._data:
            self._data[name, quality] = self.encode(self.signals[name], quality)
            self._decoded[name, quality] = frozen(self.codec.decode(self._data[name, quality]))

    def _encode_and_decode(self) -> Elsewhere:
        backwards = self.points[::-1]
        with self._fresh() as encoder, self._fresh() as decoder:
            starting = self._pool.submit(decoder.start)
            written = encode_all(encoder, [(self.signals[name], quality) for name, quality in backwards])
            files = _ask(encoder.written)
            encoder.close()  # and its folders are gone
            whole = {point: data for point, data in zip(backwards, written, strict=True) if isinstance(data, bytes)}
            starting.exception()  # told by the first call
            forwards = [point for point in self.points if point in whole]
            read = decode_all(decoder, [whole[point] for point in forwards])
            opened = sorted(files & _ask(decoder.read))
        return Elsewhere(dict(zip(backwards, written, strict=True)), dict(zip(forwards, read, strict=True)), opened)

    def _encode_there(self, environment: dict[str, str], clock: float | None) -> list[tuple[tuple[str, str], bytes | ProcessError]]:
        """Encode the first point thrice, and both signals at the highest quality, in a process of another kind.

        The first such process has other threads and another time; only where it disagrees two more say which of them it was.
        """
        points = [("main", self.qualities[0])] * 3 + [(name, self.qualities[-1]) for name in self.signals]
        with self._fresh(environment, clock) as encoder:
            written = encode_all(encoder, [(self.signals[name], quality) for name, quality in points])
        return list(zip(points, written, strict=True))

    def _agree(self, written: list[tuple[tuple[str, str], bytes | ProcessError]]) -> bool:
        return all(data == self.data(*point) for point, data in written)


def frozen(signal: Any) -> Signal:
    """Return a copy of what a decoder returned; raises `TypeError` where it is no signal."""
    array_of(signal)
    return protected(signal)


def _ask(files: Callable[[], set[str]]) -> set[str]:
    try:
        return files()
    except ProcessError:
        return set()


def described(signal: Signal) -> str:
    """Return a signal's kind, type, shape and rate: ``float32 [2, 16000] at 16000 Hz``."""
    array = array_of(signal)
    rate = f" at {signal.sample_rate} Hz" if isinstance(signal, Audio) else ""
    return f"{'picture' if isinstance(signal, Image) else 'sound'} {array.dtype} {list(array.shape)}{rate}"


def out_of_range(signal: Signal) -> str:
    """Say which values a signal must not have; "" where there are none."""
    array = array_of(signal)
    if isinstance(signal, Image):
        return "" if array.dtype == np.uint8 else f"pixels are {array.dtype}, not uint8 of 0 to 255"
    if not np.isfinite(array).all():
        return "values are not finite"
    peak = float(np.abs(array).max(initial=0))
    return "" if peak <= 1 else f"values reach {peak:.3f}, outside of -1..1"
