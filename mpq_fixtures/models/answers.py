"""Asking a model: what it answers to signals, with a digest of what its network was given of each."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mpq_fixtures.chain import digest, digest_of_array, digest_of_signal
from mpq_fixtures.errors import describe_type
from mpq_fixtures.sample_errors import SampleError, attempt
from mpq_fixtures.signals import Signal
from mpq_fixtures.tasks import Task

# As torch, numpy, CUDA's libraries and C++ say it. Only torch's own type for a GPU's memory needs no words, and that not on every device.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "bad_alloc", "alloc_failed")

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model said of a signal, serialised, and the digest of what it was given of it."""

    given: str
    data: bytes


@dataclass(eq=False)
class Limit:
    """How many signals a model is asked for at once; it shrinks to what fits into memory, of which ``notes`` tells, once."""

    size: int
    notes: list[str] = field(default_factory=list)

    def shrink(self, size: int, asked: int) -> None:
        """Go on with ``size`` at once after as many as ``asked`` did not fit."""
        if not self.notes:
            self.notes.append(f"{asked} signals at once did not fit into memory: the model gets at most {size} from there on")
        self.size = size


def ask(model: Any, signals: Sequence[Signal], task: Task, limit: Limit | None = None) -> list[Answer | SampleError]:
    """Ask a task's model for signals, as many at once as ``limit`` says, or all of them.

    Those that do not fit into memory are asked for again in halves. Where the model refuses a batch for another reason, its signals are
    asked for one by one, so that only what it cannot do is lost.
    """

    def answer(batch: Sequence[Signal]) -> Sequence[Answer | SampleError]:
        try:
            return _answers(model, batch, task)
        except SampleError as refusal:
            if len(batch) == 1 or is_out_of_memory(refusal):
                raise
            return [_answer_alone(model, signal, task) for signal in batch]

    def refused(error: Exception) -> SampleError:
        if not isinstance(error, SampleError):
            raise error
        return error

    return in_what_fits(answer, signals, limit or Limit(max(1, len(signals))), refused)


def in_what_fits(
    action: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    limit: Limit,
    refused: Callable[[Exception], Result] | None = None,
) -> list[Result]:
    """Return what ``action`` gives for each of the items, as many at once as ``limit`` says, and fewer where these do not fit into memory.

    ``refused`` makes the result of one that fails alone; without it, and for more than one that fails otherwise, the error is raised.
    """
    results: list[Result] = []
    size = limit.size
    while batch := items[len(results) : len(results) + size]:
        try:
            results += action(batch)
        except Exception as error:
            if not (lacking := is_out_of_memory(error)) and len(batch) > 1:
                raise
            if lacking:
                _let_go(error)
            if len(batch) > 1:
                size = len(batch) // 2
            elif refused:
                results.append(refused(error))
                size = limit.size  # what does not fit even alone says nothing of the others
            else:
                raise
    if size < limit.size:
        limit.shrink(size, min(limit.size, len(items)))
    return results


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, says that memory did not suffice."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error).lower() for w in _OUT_OF_MEMORY)):
            return True
        error = error.__cause__
    return False


def _let_go(error: BaseException | None) -> None:
    """Give the memory back that the frames of an error still hold, activations above all, before anything is tried again."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__
    gc.collect()
    if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _answers(model: Any, signals: Sequence[Signal], task: Task) -> list[Answer]:
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
    return [Answer(seen, attempt("predict", task.to_bytes, answer)) for seen, answer in zip(given, answers, strict=True)]


def _answer_alone(model: Any, signal: Signal, task: Task) -> Answer | SampleError:
    try:
        return _answers(model, [signal], task)[0]
    except SampleError as error:
        return error


def _digest_of_prepared(prepared: Any) -> str:
    """Return the digest of what a model made of a signal for its network: of an array, or of each part of a tuple."""
    import numpy as np

    if isinstance(prepared, tuple):
        return digest(*(_digest_of_prepared(part).encode() for part in prepared))
    values = np.asarray(prepared)
    if values.dtype.hasobject:  # whose bytes are addresses
        raise TypeError(f"prepare returns arrays, or tuples of arrays and numbers, and not {describe_type(prepared)}")
    return digest_of_array(values)
