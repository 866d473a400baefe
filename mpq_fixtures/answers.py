"""Asking a model: what it answers to signals, with a digest of what its network was given of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mpq_fixtures import predictions
from mpq_fixtures.chain import digest, digest_of_array, digest_of_signal
from mpq_fixtures.named import kind
from mpq_fixtures.signals import Signal
from mpq_fixtures.step import SampleError, attempt


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model said of a signal, serialised, and the digest of what it was given of it."""

    given: str
    data: bytes


def ask(model: Any, signals: Sequence[Signal]) -> Sequence[Answer | SampleError]:
    """Ask a model for a whole batch at once; if it refuses, one by one, so that only what it cannot do is lost."""
    try:
        return _answers(model, signals)
    except SampleError as refusal:
        return [refusal] if len(signals) == 1 else [_answer_alone(model, signal) for signal in signals]


def _answers(model: Any, signals: Sequence[Signal]) -> list[Answer]:
    if hasattr(model, "prepare") and hasattr(model, "infer"):
        inputs = attempt("predict", lambda: list(model.prepare(signals)))
        if len(inputs) != len(signals):
            raise SampleError("predict", f"the model prepared {len(inputs)} inputs for {len(signals)} signals")
        given = [attempt("predict", _digest_of_prepared, prepared) for prepared in inputs]
        answers = attempt("predict", lambda: list(model.infer(inputs)))
    else:  # what it makes of a signal before its network sees it, it keeps to itself
        given = [digest_of_signal(signal) for signal in signals]
        answers = attempt("predict", lambda: list(model.predict(signals)))
    if len(answers) != len(signals):
        raise SampleError("predict", f"the model gave {len(answers)} predictions for {len(signals)} signals")
    return [Answer(seen, attempt("predict", predictions.to_bytes, answer)) for seen, answer in zip(given, answers, strict=True)]


def _answer_alone(model: Any, signal: Signal) -> Answer | SampleError:
    try:
        return _answers(model, [signal])[0]
    except SampleError as error:
        return error


def _digest_of_prepared(prepared: Any) -> str:
    """Return the digest of what a model made of a signal for its network: of an array, or of each part of a tuple."""
    import numpy as np

    if isinstance(prepared, tuple):
        return digest(*(_digest_of_prepared(part).encode() for part in prepared))
    values = np.asarray(prepared)
    if values.dtype.hasobject:  # whose bytes are addresses
        raise TypeError(f"prepare returns arrays, or tuples of arrays and numbers, and not {kind(prepared)}")
    return digest_of_array(values)
