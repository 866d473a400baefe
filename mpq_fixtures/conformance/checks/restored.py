"""The signal that comes back: its shape, range and place, how near it is, and what becomes of unusual signals and damaged bytes."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np

from mpq_fixtures.conformance import signals
from mpq_fixtures.conformance.check import Faults, check
from mpq_fixtures.conformance.damage import survive
from mpq_fixtures.conformance.fresh import spread
from mpq_fixtures.conformance.signals import array_of
from mpq_fixtures.conformance.trial import Trial, described, out_of_range
from mpq_fixtures.isolation.client import ProcessError
from mpq_fixtures.signals import Audio, Image, Signal

WAVEFORM = 0.3
"""The correlation from which a codec can be said to keep the waveform."""
ENVELOPE = 0.01
"""Seconds within which a codec that keeps no waveform must keep the loudness in its place."""
WORSE = 6.0
"""Decibels by which a signal at the ends of the range may come back worse than half of it: one that wraps around loses more.

PSNR, unlike SI-SDR, has 6 dB more for half an error, which half the contrast explains.
"""
ENOUGH = 3
"""Damaged streams that go wrong before the rest is left alone."""


@check("shape", "shape, type, sample rate and channels come back")
def _shape(trial: Trial) -> Faults:
    for name, quality in trial.points:
        yield from _unlike(trial.signals[name], trial.decoded(name, quality), quality)


@check("range", "pixels are uint8, sounds are finite and within -1..1")
def _range(trial: Trial) -> Faults:
    for name, quality in trial.points:
        if wrong := out_of_range(trial.decoded(name, quality)):
            yield f"{wrong}, at {quality}"
            return


@check("delay", "the signal comes back where it was, within one sample or pixel")
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
        allowed = 1
        if sound is original and quality == best and not _keeps_the_waveform(trial):
            shift, alike = signals.delay(signals.envelope(sound), signals.envelope(decoded))
            allowed = round(ENVELOPE * sound.sample_rate)
        if abs(shift) > allowed and (alike > 0.5 or (sound is original and quality == best)):
            yield f"{what} comes back {abs(shift)} samples {'late' if shift > 0 else 'early'}, at {quality}"


def _keeps_the_waveform(trial: Trial) -> bool:
    """Say whether the codec does at its best; vocoders keep only how loud a sound is, and when."""
    original, decoded = trial.signals["main"], trial.decoded("main", trial.qualities[-1])
    if not isinstance(original, Audio) or not isinstance(decoded, Audio) or decoded.waveform.shape != original.waveform.shape:
        return True
    return signals.delay(original, decoded)[1] >= WAVEFORM


@check("ladder", "rate and quality rise from quality to quality")
def _ladder(trial: Trial) -> Faults:
    rungs = [
        (quality, len(trial.data("main", quality)), fidelity(trial.signals["main"], trial.decoded("main", quality)))
        for quality in trial.qualities
    ]
    comparable = _keeps_the_waveform(trial)
    for (one, bytes_one, near_one), (other, bytes_other, near_other) in pairwise(rungs):
        if bytes_other <= bytes_one:
            yield f"{other} takes {bytes_other} bytes, and {one} takes {bytes_one}: the rate does not rise"
        if comparable and not near_other > near_one:
            yield f"{other} comes back at {near_other:.2f} dB, and {one} at {near_one:.2f}: the quality does not rise"


def fidelity(original: Signal, decoded: Signal) -> float:
    """Return the PSNR of a picture or the SI-SDR of a sound in dB, as the project's metrics compute them."""
    from mpq_fixtures.metrics.psnr import ImagePSNR
    from mpq_fixtures.metrics.si_sdr import SISDR

    metric = ImagePSNR() if isinstance(original, Image) else SISDR()
    return metric.value([metric.observe(decoded, original)])


@check("small", "1x1 pixels, odd sizes, one frame and a tenth of a second come back")
def _small(trial: Trial) -> Faults:
    tried: list[Signal] = (
        [signals.picture(*size, seed=4) for size in ((1, 1), (1, 7), (5, 1), (33, 17), (63, 65))]
        if isinstance(trial.small, Image)
        else [Audio(signals.speech(16000, 1, 0.1).waveform[:, :frames], 16000) for frames in (1, 2, 577, 1600)]
    )
    yield from _come_back(trial, tried)


@check("channels-and-rates", "stereo, three channels and the usual sample rates come back; pictures that are not contiguous, too")
def _channels_and_rates(trial: Trial) -> Faults:
    if isinstance(trial.small, Image):
        turned = trial.small.pixels[:40, ::-1].transpose(1, 0, 2)
        for quality in trial.edges:
            if trial.encode(Image(turned), quality) != trial.encode(Image(turned.copy()), quality):
                yield f"other bytes for the same picture in another layout in memory, at {quality}"
        return
    kinds = ((8000, 1), (16000, 2), (16000, 3), (44100, 2), (48000, 1))
    yield from _come_back(trial, [signals.speech(rate, channels, 0.3) for rate, channels in kinds])


@check("silence", "silence stays silent, one colour stays itself")
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


@check("clipping", "signals at the ends of the range stay within it")
def _clipping(trial: Trial) -> Faults:
    loud = signals.clipping(16000)
    hard: Signal = loud
    half: Signal = Audio(loud.waveform / np.float32(2), loud.sample_rate)
    if isinstance(trial.small, Image):
        bright = trial.small.pixels > trial.small.pixels.mean()
        hard, half = (Image(np.where(bright, *ends).astype(np.uint8)) for ends in ((255, 0), (191, 64)))
    faults = list(_come_back(trial, [hard]))
    yield from faults
    if faults or not _keeps_the_waveform(trial):
        return
    for quality in trial.edges:
        near, near_half = (fidelity(one, trial.round_trip(one, quality)) for one in (hard, half))
        if near < near_half - WORSE * (2 if isinstance(hard, Image) else 1):
            yield f"{described(hard)} comes back at {near:.1f} dB, and half as strong at {near_half:.1f}: values wrap around, at {quality}"


def _come_back(trial: Trial, tried: list[Signal]) -> Faults:
    for original in tried:
        for quality in trial.edges:
            try:
                decoded = trial.round_trip(original, quality)
            except ProcessError as error:
                yield f"{described(original)} at {quality}: {error}"
                continue
            yield from _unlike(original, decoded, quality)
            if wrong := out_of_range(decoded):
                yield f"{described(original)} at {quality}: {wrong}"


def _unlike(original: Signal, decoded: Signal, quality: str) -> Faults:
    if type(original) is not type(decoded) or described(decoded) != described(original):
        yield f"{described(original)} comes back as {described(decoded)}, at {quality}"


@check("damage", "damaged and cut streams give an error or a signal, within seconds and 1 GB")
def _damage(trial: Trial) -> Faults:
    if not trial.streams:
        return
    streams = [trial.encode(trial.small, quality) for quality in spread(trial.qualities)]
    faults = list(
        islice(survive(trial.codec, streams, range(trial.streams), lambda done: trial.told(f"{done} of {trial.streams} streams")), ENOUGH)
    )
    yield from faults
    if len(faults) == ENOUGH:
        yield "and no more were tried"
