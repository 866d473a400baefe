"""The bytes: their own qualities, their length, and the same whenever, wherever and in whatever order they are written."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from mpq_fixtures.codecs import CodecError
from mpq_fixtures.conformance.check import Faults, check
from mpq_fixtures.conformance.signals import same
from mpq_fixtures.conformance.trial import Trial, frozen
from mpq_fixtures.isolation.client import ProcessError

PAUSE = 1.1
"""Seconds between two encodings that must agree: a time stamp in whole seconds changes within."""


@check("round-trip", "a signal comes back at every quality")
def _round_trip(trial: Trial) -> Faults:
    if not any(character.isdigit() for character in trial.codec.build()):
        yield f"build() is {trial.codec.build()!r}, without a version: it must name the libraries that decide the bytes, with theirs"
    for name, quality in trial.points:
        trial.decoded(name, quality)


@check("own-qualities", "every quality is one of its own, and gives bytes of its own")
def _own_qualities(trial: Trial) -> Faults:
    codec = trial.codec
    for quality in codec.ladder:
        try:
            codec.check(quality)
        except CodecError as error:
            yield f"check() refuses {quality!r} of its own ladder: {error}"
    numbers = codec.qualities
    beyond = [number for number in (min(numbers.worst, numbers.best) - 1, max(numbers.worst, numbers.best) + 1)] if numbers else []
    for quality in (
        "no_quality_of_any_codec",
        *(f"{numbers.prefix}{number}{numbers.suffix}" for number in beyond if numbers and number >= 0),
    ):
        try:
            codec.check(quality)
        except CodecError:
            continue
        if quality not in codec.ladder:
            yield f"check() takes {quality!r}, which is no quality of its own"
    streams = {quality: trial.data("main", quality) for quality in trial.qualities}
    if len(streams) > 1 and len(set(streams.values())) == 1:
        yield f"the quality is ignored: {', '.join(streams)} give the same bytes"
    else:
        for (one, first), (other, second) in pairwise(streams.items()):
            if first == second:
                yield f"{one} and {other} give the same bytes"


@check("counted-length", "what is counted is all that the decoder gets: plain bytes of their own length")
def _counted_length(trial: Trial) -> Faults:
    for quality in trial.edges:
        data = trial.codec.encode(trial.signals["main"], quality)
        whole = bytes(memoryview(data))
        if len(data) != len(whole):
            yield f"the length lies: len() of the bytes is {len(data)} at {quality}, but the decoder gets {len(whole)}"
        elif type(data) is not bytes:
            yield f"encode returns {type(data).__name__} at {quality}, not bytes"
        if not whole:
            yield f"no bytes at all at {quality}"


@check("ledger", "payload, container and side information add up to the bytes")
def _ledger(trial: Trial) -> Faults:
    for name, quality in trial.points:
        data = trial.data(name, quality)
        ledger = trial.codec.ledger(data)
        parts = (ledger.payload, ledger.container, ledger.side)
        if sum(parts) != len(data) or min(parts) < 0:
            yield f"ledger() of {len(data)} bytes at {quality} has {ledger.payload} + {ledger.container} + {ledger.side}"


@check("same-bytes", "the same signal gives the same bytes when it is encoded again")
def _same_bytes(trial: Trial) -> Faults:
    for quality in trial.edges:
        signal = trial.signals["main"]
        trial.encode(signal, quality)
        if trial.encode(signal, quality) != trial.encode(signal, quality):
            yield f"other bytes for the same signal, one right after the other, at {quality}"


@check("clock", "the bytes do not depend on when they are written")
def _clock(trial: Trial) -> Faults:
    quality, signal = trial.qualities[0], trial.signals["main"]
    trial.encode(signal, quality)
    before = trial.encode(signal, quality)
    _, once, again = trial.at_another_time()
    if isinstance(once, ProcessError):
        yield f"cannot encode in a process whose clock stands still: {once}"
    elif once == again:  # what differs even then is not the clock's doing
        time.sleep(PAUSE)
        trial.encode(signal, quality)
        if trial.encode(signal, quality) != before:
            yield f"the bytes follow the clock: {PAUSE} s later they differ, and with a clock that stands still they do not"
        elif once != before and trial.elsewhere().streams["main", quality] == before:
            yield "the bytes follow the clock: on another day they are others"


@check("sample-before", "neither bytes nor signals depend on what was encoded or decoded before")
def _sample_before(trial: Trial) -> Faults:
    quality, codec = trial.qualities[-1], trial.codec
    signal, other = trial.signals["main"], trial.signals["other"]
    trial.encode(signal, quality)
    after_itself = trial.encode(signal, quality)
    data = trial.encode(other, quality)
    if trial.encode(signal, quality) != after_itself and trial.encode(signal, quality) == after_itself:
        yield f"the bytes depend on the sample before: after another sample they differ, at {quality}"
    codec.decode(after_itself)
    alone = frozen(codec.decode(after_itself))
    codec.decode(data)
    if not same(frozen(codec.decode(after_itself)), alone):
        yield f"the decoded signal depends on the sample before: after another one it differs, at {quality}"


@check("another-process", "another process, in another order, writes the same bytes")
def _another_process(trial: Trial) -> Faults:
    yield from _differing(trial, trial.elsewhere().streams.items(), "a fresh process, in another order of the samples,")


@check("other-threads", "a process with other numbers of threads writes the same bytes")
def _other_threads(trial: Trial) -> Faults:
    yield from _differing(trial, trial.with_threads(), "a fresh process with OMP_NUM_THREADS=3")


def _differing(trial: Trial, streams: Iterable[tuple[tuple[str, str], bytes | ProcessError]], where: str) -> Faults:
    for (name, quality), data in streams:
        if isinstance(data, ProcessError):
            yield f"{where} cannot encode at {quality}: {data}"
            return
        if data != trial.data(name, quality):
            yield f"{where} writes other bytes at {quality}"
            return


@check("several-threads", "one instance serves several threads at a time")
def _several_threads(trial: Trial) -> Faults:
    points = [(name, quality) for quality in trial.edges for name in trial.signals]
    with ThreadPoolExecutor(2) as pool:
        streams = list(pool.map(lambda point: trial.encode(trial.signals[point[0]], point[1]), points))
        decoded = list(pool.map(lambda point: frozen(trial.codec.decode(trial.data(*point))), points))
    for point, data, signal in zip(points, streams, decoded, strict=True):
        if data != trial.data(*point):
            yield f"other bytes at {point[1]} when two threads encode at a time"
        if not same(signal, trial.decoded(*point)):
            yield f"another signal at {point[1]} when two threads decode at a time"
