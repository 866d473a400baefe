"""How a model is asked: for how many signals at once, and in which layout of memory. Measured on the first of them, and held against its
answers to them one by one.

What a signal is answered with must not depend on its company. Where it does (batch normalisation in training mode, a mean taken over the
batch, padding that is not masked) a batch is one signal.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

from mpq_fixtures.models.answers import Answer, Limit, ask
from mpq_fixtures.sample_errors import SampleError
from mpq_fixtures.signals import Signal
from mpq_fixtures.tasks import Task

SHARE = 0.03
"""How much of a run's predictions may be spent on measuring."""

AS_FAST = 1.03
"""A batch is as fast as the best that takes at most this much longer for a signal; the smallest such one is taken."""

GAIN, GAIN_OF_FEW = 1.08, 1.12
"""A layout is worth it where a signal takes so much longer without: more than clocks disagree, so that it is chosen every time or never.

The second where a pass has fewer signals than `_PASS`, of which clocks say less.
"""

FEW, MANY = 3, 8
"""The least and the most that `scale_of` returns: what fewer than 128 calls afford is hardly anything, and more than 32,768 everything."""

_SLOWER = 1.1  # a size that takes so much longer than the best ends the search: those above it are slower still
_PASS = 8  # signals that a size below it is measured with, and a layout where they take no longer than this:
_LONG_ENOUGH = 100.0  # milliseconds
_FEWEST = 2  # signals that tell of their answers whether these depend on the batch


Answers = Sequence[Answer | SampleError]


class Batched(Protocol):
    """A model that can be loaded, and the sizes of its batches: what it takes without being measured, and the most at once.

    ``layouts`` are those of memory that it can compute in besides its own.
    """

    task: Task

    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def most(self) -> int: ...  # noqa: D102
    @property
    def layouts(self) -> Sequence[str]: ...  # noqa: D102
    def arrange(self, layout: str) -> None: ...  # noqa: D102
    def ready(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Choice:
    """The batch of a model on a kind of machine, and the ``layout`` of memory, "" for the model's own.

    ``agreed`` tells whether the model answers signals together as it does one by one, None where that was not tried. ``milliseconds`` are
    those of a signal at each size that was measured. ``note`` says in a sentence what there is to know, "" where there is nothing.
    ``short`` tells that a run of more calls, or over more signals, would have tried more.
    """

    size: int
    agreed: bool | None = None
    milliseconds: dict[int, float] = field(default_factory=dict)
    note: str = ""
    layout: str = ""
    short: bool = False

    def to_bytes(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Choice:
        """Restore what `to_bytes` made."""
        values = json.loads(data)
        return cls(**values | {"milliseconds": {int(size): spent for size, spent in values["milliseconds"].items()}})


def scale_of(calls: int) -> int:
    """Return a number, from `FEW` to `MANY`, that runs have in common that can spend about as much: four times the calls make the next."""
    return min(max(calls.bit_length() // 2, FEW), MANY)


def choose_batch(model: Batched, signals: Iterator[Signal], calls: int, clock: Callable[[], float] = time.perf_counter) -> Choice:
    """Choose how many signals a model is asked for at once, and in which layout, and have it so.

    ``signals`` yields those of a data set's originals, of which as many are taken as are needed: they are asked for at most `SHARE` of the
    ``calls`` that a run will make of the model. Too few calls for that leave the model its own `batch_size`, and two signals tell whether
    its answers depend on the batch. No answer is kept: a choice is made before anything is predicted, while nothing else
    runs in the process. ``clock`` gives seconds, as `devices.clock_of` has it.
    """
    if model.most == 1:
        return Choice(1)
    trial = _Trial(model, signals, int(calls * SHARE), clock)
    layout, size = trial.choose_layout(), trial.choose()
    return trial.compared(Choice(size, milliseconds=trial.milliseconds, layout=layout, short=trial.short))


class _Trial:
    """A model at its first signals; ``left`` is how many more it may be asked for, ``short`` whether more would have been."""

    def __init__(self, model: Batched, signals: Iterator[Signal], calls: int, clock: Callable[[], float]) -> None:
        self.left, self.short = calls, False
        self.milliseconds: dict[int, float] = {}
        self._model, self._signals, self._clock = model, signals, clock
        self._taken: list[Signal] = []
        self._alone: Answers = []

    def choose_layout(self) -> str:
        """Return the layout in which a few signals take clearly least, and are answered alike; "", the model's own, where none does.

        As many are asked for as take long enough for a clock, which for a slow model is one: more would be too many for most runs.
        """
        layouts, size, count, chosen = self._model.layouts, 1, 1, ""
        if not layouts or not self._affords_layouts(1 + len(layouts), size, count):
            return ""
        own, fastest = self._ask(self._first(size), size), self._pass(size, count)
        if (count := max(1, min(_PASS, int(_LONG_ENOUGH / max(fastest, 1.0))))) > 1:
            size = min(self._model.batch_size, count)
            if not self._affords_layouts(1 + len(layouts), size, count):
                return ""
            own, fastest = self._ask(self._first(size), size), self._pass(size, count)
        gain = GAIN if count == _PASS else GAIN_OF_FEW
        for layout in layouts:
            self._model.arrange(layout)
            answers, spent = self._ask(self._first(size), size), self._pass(size, count)
            # All have to be answered: some networks refuse a layout, which is quick.
            if gain * spent <= fastest and self._different(own, answers) == (0, size):
                chosen, fastest = layout, spent
        self._model.arrange(chosen)
        self._alone = []  # in another layout, perhaps
        return chosen

    def _affords_layouts(self, layouts: int, size: int, count: int) -> bool:
        """Tell whether there are signals and predictions for so many layouts, each warmed up, and for a comparison thereafter."""
        return self._has(count) and self._affords(layouts * (size + count) + _FEWEST)

    def choose(self) -> int:
        """Return the smallest size that is as fast as the fastest, as far as predictions are left to find it."""
        usual = self._model.batch_size
        if not self._affords(_cost(1) + _cost(2)):
            return usual
        open_end = False
        for size in _sizes(self._model.most):
            if open_end := not (self._has(size) and self._affords(_cost(size))):
                break
            if not self._measure(size) or self.milliseconds[size] > min(self.milliseconds.values()) * _SLOWER:
                break
        for size in sorted(self.milliseconds, key=self.milliseconds.__getitem__):  # once more those that may be the best
            if self.milliseconds[size] <= min(self.milliseconds.values()) * _SLOWER and self._affords(max(size, _PASS)):
                self.milliseconds[size] = min(self.milliseconds[size], self._pass(size, max(size, _PASS)))
        if not self.milliseconds:
            return usual
        best = min(self.milliseconds.values())
        size = min(size for size, spent in self.milliseconds.items() if spent <= best * AS_FAST)
        return max(size, usual) if open_end and size == max(self.milliseconds) else size

    def compared(self, choice: Choice) -> Choice:
        """Hold the answers to the first batch against those to its signals one by one; where they differ, a batch is one signal."""
        count = min(choice.size, max(_FEWEST, min(self.left, (self.left + len(self._alone)) // 2)))
        signals = self._first(count)
        if choice.size == 1 or len(signals) < 2:
            return choice
        together, alone = self._ask(signals, len(signals)), list(self._alone[:count])
        alone += self._ask(signals[len(alone) :], 1)
        others, answered = self._different(together, alone)
        if not answered:
            return choice
        if not others:
            return replace(choice, agreed=True)
        note = (
            f"the model answers {others} of {answered} signals otherwise together than alone, so it gets one at a time: "
            "put it into evaluation mode, and let nothing in it mix the signals of a batch"
        )
        return replace(choice, size=1, agreed=False, note=note)

    def _different(self, some: Answers, others: Answers) -> tuple[int, int]:
        """Return how many signals are answered otherwise, but for rounding, and how many are answered both times."""
        task, pairs = self._model.task, zip(some, others, strict=True)
        answered = [(one.data, other.data) for one, other in pairs if isinstance(one, Answer) and isinstance(other, Answer)]
        return sum(not task.agree(task.from_bytes(one), task.from_bytes(other)) for one, other in answered), len(answered)

    def _affords(self, count: int) -> bool:
        """Tell whether so many predictions can be spent, and those of the shortest comparison be left."""
        affords = self.left >= count + _FEWEST
        self.short |= not affords
        return affords

    def _has(self, count: int) -> bool:
        """Tell whether there are so many signals."""
        has = len(self._first(count)) == count
        self.short |= not has
        return has

    def _measure(self, size: int) -> bool:
        """Warm a size up and measure it; return whether a batch of it fits into memory."""
        limit = Limit(size)
        self._ask(self._first(size), size, limit)
        if limit.size == size:
            self.milliseconds[size] = self._pass(size, max(size, _PASS))
        return limit.size == size

    def _pass(self, size: int, count: int) -> float:
        """Return the milliseconds of a signal in batches of ``size``, by ``count`` of them, or fewer where there are no more."""
        signals = self._first(count)
        started = self._clock()
        answers = self._ask(signals, size)
        spent = self._clock() - started
        if size == 1:
            self._alone = answers
        return 1000 * spent / len(signals)

    def _ask(self, signals: Sequence[Signal], size: int, limit: Limit | None = None) -> Answers:
        self.left -= len(signals)
        return ask(self._model.ready(), [signal.copied() for signal in signals], self._model.task, limit or Limit(size))

    def _first(self, count: int) -> Sequence[Signal]:
        """Return the first ``count`` signals, or all where there are fewer."""
        self._taken += islice(self._signals, max(0, count - len(self._taken)))
        return self._taken[:count]


def _cost(size: int) -> int:
    """Return the predictions that it takes to measure a size: one batch to warm up, and a pass."""
    return size + max(size, _PASS)


def _sizes(most: int) -> list[int]:
    """Return the sizes to measure: powers of two, and the most at once."""
    return sorted({most, *(2**power for power in range(most.bit_length()))})
