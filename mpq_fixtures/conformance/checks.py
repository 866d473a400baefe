"""What a codec must do. A check is a function with a name that people can act on; it yields a sentence for each thing that is wrong.

The order is that of a reader who asks why a codec fails: does it work at all, are its bytes what they seem, is the decoder on its own,
is the signal what it should be, and what of unusual signals and damaged bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from mpq_fixtures.codecs import CodecError
from mpq_fixtures.conformance import signals
from mpq_fixtures.conformance.damage import survive
from mpq_fixtures.conformance.fresh import spread
from mpq_fixtures.conformance.reach import kept
from mpq_fixtures.conformance.signals import array_of, same
from mpq_fixtures.conformance.trial import Trial, described, frozen, out_of_range
from mpq_fixtures.isolation.client import ProcessError
from mpq_fixtures.signals import Audio, Image, Signal

Faults = Iterator[str]

PAUSE = 1.1
"""Seconds between two encodings that must agree: a time stamp in whole seconds changes within."""
ENOUGH = 3
"""Damaged streams that go wrong before the rest is left alone."""


@dataclass(frozen=True)
class Check:
    """A check: its name, what a codec that passes does, and the function."""

    name: str
    meaning: str
    faults: Callable[[Trial], Faults]


CHECKS: list[Check] = []


def _check(name: str, meaning: str) -> Callable[[Callable[[Trial], Faults]], Callable[[Trial], Faults]]:
    def register(function: Callable[[Trial], Faults]) -> Callable[[Trial], Faults]:
        CHECKS.append(Check(name, meaning, function))
        return function

    return register


@_check("round-trip", "a signal comes back at every quality")
def _round_trip(trial: Trial) -> Faults:
    if not any(character.isdigit() for character in trial.codec.build()):
        yield f"build() is {trial.codec.build()!r}, without a version: it must name the libraries that decide the bytes, with theirs"
    for name, quality in trial.points:
        trial.decoded(name, quality)


@_check("own-qualities", "every quality is one of its own, and gives bytes of its own")
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


@_check("counted-length", "what is counted is all that the decoder gets: plain bytes of their own length")
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


@_check("ledger", "payload, container and side information add up to the bytes")
def _ledger(trial: Trial) -> Faults:
    for name, quality in trial.points:
        data = trial.data(name, quality)
        ledger = trial.codec.ledger(data)
        parts = (ledger.payload, ledger.container, ledger.side)
        if sum(parts) != len(data) or min(parts) < 0:
            yield f"ledger() of {len(data)} bytes at {quality} has {ledger.payload} + {ledger.container} + {ledger.side}"


@_check("same-bytes", "the same signal gives the same bytes when it is encoded again")
def _same_bytes(trial: Trial) -> Faults:
    for quality in trial.edges:
        signal = trial.signals["main"]
        trial.encode(signal, quality)
        if trial.encode(signal, quality) != trial.encode(signal, quality):
            yield f"other bytes for the same signal, one right after the other, at {quality}"


@_check("clock", "the bytes do not depend on when they are written")
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


@_check("sample-before", "neither bytes nor signals depend on what was encoded or decoded before")
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


@_check("another-process", "another process, in another order, writes the same bytes")
def _another_process(trial: Trial) -> Faults:
    yield from _differing(trial, trial.elsewhere().streams.items(), "a fresh process, in another order of the samples,")


@_check("other-threads", "a process with other numbers of threads writes the same bytes")
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


@_check("several-threads", "one instance serves several threads at a time")
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


@_check("bytes-alone", "a fresh process decodes from the bytes alone, and to the same signal")
def _bytes_alone(trial: Trial) -> Faults:
    elsewhere = trial.elsewhere().decoded
    for point, signal in elsewhere.items():
        if isinstance(signal, ProcessError):
            yield f"a fresh process cannot decode at {point[1]}: {signal}"
            return
        if not same(signal, trial.decoded(*point)):
            yield f"a fresh process decodes another signal at {point[1]} than the one that encoded: the decoder has more than the bytes"
            return
    if not elsewhere:
        yield "no fresh process could encode anything to be decoded"


@_check("nothing-kept", "nothing of the original stays in reach of the decoder")
def _nothing_kept(trial: Trial) -> Faults:
    array = array_of(trial.signals["other"]).copy()
    spots = np.random.default_rng().choice(array.size, 64, replace=False)  # so that nobody else holds it, from an earlier trial neither
    array.flat[spots] = array.flat[spots[::-1]] // 2 if array.dtype.kind == "u" else array.flat[spots[::-1]] / 2
    array.flags.writeable = False
    for quality in trial.edges:
        trial.encode(signals.like(trial.signals["other"], array), quality)
        if where := kept(trial.codec, array):
            yield f"the original can still be found after encoding: {where}"
            return


@_check("no-files", "the decoder opens no file that the encoder wrote")
def _no_files(trial: Trial) -> Faults:
    for file in trial.elsewhere().files:
        yield f"the decoder opened {file}, which the encoder wrote"


@_check("array-later", "a decoded array is not changed later")
def _array_later(trial: Trial) -> Faults:
    quality = trial.qualities[-1]
    array = array_of(trial.codec.decode(trial.data("main", quality)))
    copy = array.copy()
    for name in ("main", "other"):
        trial.encode(trial.signals[name], quality)
        trial.codec.decode(trial.data(name, trial.qualities[0]))
    if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
        yield "a decoded array changes when the next is decoded: the codec uses one buffer for all"


@_check("input-untouched", "the encoder does not change what it is given")
def _input_untouched(trial: Trial) -> Faults:
    original = trial.signals["main"]
    array = array_of(original).copy()
    trial.encode(signals.like(original, array), trial.qualities[-1])
    if not np.array_equal(array, array_of(original)):
        yield "encode changes the array that it is given"


@_check("shape", "shape, type, sample rate and channels come back")
def _shape(trial: Trial) -> Faults:
    for name, quality in trial.points:
        yield from _unlike(trial.signals[name], trial.decoded(name, quality), quality)


@_check("range", "pixels are uint8, sounds are finite and within -1..1")
def _range(trial: Trial) -> Faults:
    for name, quality in trial.points:
        if wrong := out_of_range(trial.decoded(name, quality)):
            yield f"{wrong}, at {quality}"
            return


@_check("delay", "the signal comes back where it was, within one sample or pixel")
def _delay(trial: Trial) -> Faults:
    original = trial.signals["main"]
    if isinstance(original, Image):
        decoded = trial.decoded("main", trial.qualities[-1])
        if isinstance(decoded, Image) and decoded.pixels.shape == original.pixels.shape:
            rows, columns = signals.displacement(original, decoded)
            if max(abs(rows), abs(columns)) > 1:
                yield f"the picture is {rows} rows and {columns} columns off"
        return
    best, click = trial.qualities[-1], signals.impulse(16000)
    tried = [(original, trial.decoded("main", quality), quality, "speech") for quality in trial.qualities]
    for sound, decoded, quality, what in [*tried, (click, trial.round_trip(click, best), best, "an impulse")]:
        if not isinstance(sound, Audio) or not isinstance(decoded, Audio) or decoded.waveform.shape != sound.waveform.shape:
            continue  # told as another shape
        shift, alike = signals.delay(sound, decoded)
        if abs(shift) > 1 and (quality == best or alike > 0.5):  # what is hardly alike has no place
            yield f"{what} comes back {abs(shift)} samples {'late' if shift > 0 else 'early'}, at {quality}"


@_check("ladder", "rate and quality rise from quality to quality")
def _ladder(trial: Trial) -> Faults:
    rungs = [
        (quality, len(trial.data("main", quality)), fidelity(trial.signals["main"], trial.decoded("main", quality)))
        for quality in trial.qualities
    ]
    for (one, bytes_one, near_one), (other, bytes_other, near_other) in pairwise(rungs):
        if bytes_other <= bytes_one:
            yield f"{other} takes {bytes_other} bytes, and {one} takes {bytes_one}: the rate does not rise"
        if not near_other > near_one:
            yield f"{other} comes back at {near_other:.2f} dB, and {one} at {near_one:.2f}: the quality does not rise"


def fidelity(original: Signal, decoded: Signal) -> float:
    """Return the PSNR of a picture or the SI-SDR of a sound in dB, as the project's metrics compute them."""
    from mpq_fixtures.metrics.psnr import ImagePSNR
    from mpq_fixtures.metrics.si_sdr import SISDR

    metric = ImagePSNR() if isinstance(original, Image) else SISDR()
    return metric.value([metric.observe(decoded, original)])


@_check("small", "1x1 pixels, odd sizes, one frame and a tenth of a second come back")
def _small(trial: Trial) -> Faults:
    tried: list[Signal] = (
        [signals.picture(*size, seed=4) for size in ((1, 1), (1, 7), (5, 1), (33, 17), (63, 65))]
        if isinstance(trial.small, Image)
        else [Audio(signals.speech(16000, 1, 0.1).waveform[:, :frames], 16000) for frames in (1, 2, 577, 1600)]
    )
    yield from _come_back(trial, tried)


@_check("channels-and-rates", "stereo, three channels and the usual sample rates come back; pictures that are not contiguous, too")
def _channels_and_rates(trial: Trial) -> Faults:
    if isinstance(trial.small, Image):
        turned = trial.small.pixels[:40, ::-1].transpose(1, 0, 2)
        for quality in trial.edges:
            if trial.encode(Image(turned), quality) != trial.encode(Image(turned.copy()), quality):
                yield f"other bytes for the same picture in another layout in memory, at {quality}"
        return
    kinds = ((8000, 1), (16000, 2), (16000, 3), (44100, 2), (48000, 1))
    yield from _come_back(trial, [signals.speech(rate, channels, 0.3) for rate, channels in kinds])


@_check("silence", "silence stays silent, one colour stays itself")
def _silence(trial: Trial) -> Faults:
    image = isinstance(trial.small, Image)
    for original in (
        [Image(np.full((40, 56, 3), (200, 120, 40), np.uint8))] if image else [signals.silence(16000, count) for count in (1, 2)]
    ):
        for quality in trial.edges:
            decoded = trial.round_trip(original, quality)
            wrong = list(_unlike(original, decoded, quality))
            yield from wrong
            if wrong:
                continue
            error = np.abs(array_of(decoded).astype(float) - array_of(original))
            if image and not error.mean() < 24:
                yield f"one colour comes back {error.mean():.0f} of 255 off, at {quality}"
            if not image and not error.max() < 0.1:
                yield f"silence comes back with a peak of {error.max():.2f}, at {quality}"


@_check("clipping", "signals at the ends of the range stay within it")
def _clipping(trial: Trial) -> Faults:
    hard: Signal = signals.clipping(16000)
    if isinstance(trial.small, Image):
        hard = Image(np.where(trial.small.pixels > trial.small.pixels.mean(), 255, 0).astype(np.uint8))
    yield from _come_back(trial, [hard])


def _come_back(trial: Trial, tried: list[Signal]) -> Faults:
    for original in tried:
        for quality in trial.edges:
            try:
                decoded = trial.round_trip(original, quality)
            except Exception as error:
                yield f"{described(original)} at {quality}: {type(error).__name__}: {error}"
                continue
            yield from _unlike(original, decoded, quality)
            if wrong := out_of_range(decoded):
                yield f"{described(original)} at {quality}: {wrong}"


def _unlike(original: Signal, decoded: Signal, quality: str) -> Faults:
    if type(original) is not type(decoded) or described(decoded) != described(original):
        yield f"{described(original)} comes back as {described(decoded)}, at {quality}"


@_check("damage", "damaged and cut streams give an error or a signal, within seconds and 1 GB")
def _damage(trial: Trial) -> Faults:
    if not trial.streams:
        return
    streams = [trial.encode(trial.small, quality) for quality in spread(trial.qualities)]
    faults = list(
        islice(survive(trial.codec, streams, trial.streams, lambda done: trial.told(f"{done} of {trial.streams} streams")), ENOUGH)
    )
    yield from faults
    if len(faults) == ENOUGH:
        yield "and no more were tried"
