"""The decoder: on its own with the bytes, and its arrays and the encoder's left alone."""

from __future__ import annotations

import numpy as np

from mpq_fixtures.conformance import signals
from mpq_fixtures.conformance.check import Faults, check
from mpq_fixtures.conformance.reach import kept
from mpq_fixtures.conformance.signals import array_of, same
from mpq_fixtures.conformance.trial import Trial
from mpq_fixtures.isolation.client import ProcessError


@check("bytes-alone", "a fresh process decodes from the bytes alone, and to the same signal")
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


@check("nothing-kept", "nothing of the original stays in reach of the decoder")
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


@check("no-files", "the decoder opens no file that the encoder wrote")
def _no_files(trial: Trial) -> Faults:
    for file in trial.elsewhere().files:
        yield f"the decoder opened {file}, which the encoder wrote"


@check("array-later", "a decoded array is not changed later")
def _array_later(trial: Trial) -> Faults:
    quality = trial.qualities[-1]
    array = array_of(trial.codec.decode(trial.data("main", quality)))
    copy = array.copy()
    for name in ("main", "other"):
        trial.encode(trial.signals[name], quality)
        trial.codec.decode(trial.data(name, trial.qualities[0]))
    if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
        yield "a decoded array changes when the next is decoded: the codec uses one buffer for all"


@check("input-untouched", "the encoder does not change what it is given")
def _input_untouched(trial: Trial) -> Faults:
    original = trial.signals["main"]
    array = array_of(original).copy()
    trial.encode(signals.like(original, array), trial.qualities[-1])
    if not np.array_equal(array, array_of(original)):
        yield "encode changes the array that it is given"
