"""Threads that get the next batch ready while the model is at one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, TypeVar

Thing = TypeVar("Thing")
Done = TypeVar("Done")

_TRIES = 4
"""Batches after which it is believed how long one takes."""
_SLOW = 0.01
"""Seconds for a thing from which on several threads are the right number: what they wait for is little of it."""
_QUICK, _TOGETHER = 0.002, 8
"""Seconds for a thing up to which a thread takes so many at once."""
_AS_FAST = 1.05
"""As fast as the fastest is what takes at most this much longer: so much the same batches differ by from one time to the next."""


class Hands:
    """How many threads get the batches of a case ready, found by trying: as few as are as fast as any.

    Threads do large things in libraries that let go of the interpreter's lock. At small ones they would do little else than wait for it:
    then one does them all, or none, but whoever asks for them. Where there is a processor for one thread only, two that take turns take
    it from each other, large things or small, unless one of them waits for a disk or a GPU.
    """

    def __init__(self, most: int) -> None:
        self.number = self.most = most
        self._others = [number for number in (1, 0) if number < most]
        self._known: dict[int, float] = {}
        self._times: list[float] = []
        self._settled = self._changed = False

    @property
    def together(self) -> int:
        """How many things go through each of their steps together, once it is known that they are small and not shared among threads.

        One after the other through all steps they would find no step's code in the processor's cache, which takes a sixth longer.
        """
        return _TOGETHER if self.number < 2 and self._known and min(self._known.values()) < _QUICK else 1

    def took(self, seconds: float, count: int) -> None:
        """Note how long it took from one batch to the next, of so many things."""
        if self._settled or self._changed:  # the first one after a change was begun before it
            self._changed = False
            return
        self._times.append(seconds / count)
        if len(self._times) < _TRIES:
            return
        self._known[self.number] = median(self._times)
        self._times.clear()
        if self._others and (self.most == 1 or min(self._known.values()) < _SLOW):
            self.number, self._changed = self._others.pop(0), True
        else:
            as_fast = _AS_FAST * min(self._known.values())
            self.number, self._settled = min(number for number, pace in self._known.items() if pace <= as_fast), True


class Crew(ThreadPoolExecutor):
    """Threads that do batches of things together, each taking the next one there is: a future for each would cost more than a small thing.

    When the caller is interrupted, what has not begun is dropped.
    """

    def __init__(self, hands: Hands) -> None:
        super().__init__(hands.most)
        self.hands, self._dropped = hands, False

    def begin(self, do: Callable[[Sequence[Thing]], Sequence[Done]], things: Sequence[Thing]) -> Callable[[], list[Done]]:
        """Begin to do what there is in a batch, behind those before it; what is returned waits for what ``do`` returns of each thing."""
        results: list[Any] = [None] * len(things)
        together = self.hands.together
        starts = iter(range(0, len(things), together))  # of which each goes to one thread

        def work() -> None:
            for start in starts:
                if self._dropped:
                    return
                results[start : start + together] = do(things[start : start + together])

        shares = [self.submit(work) for _ in range(min(self.hands.number, len(things)))]

        def wait() -> list[Done]:
            if not shares:
                work()
            for share in shares:
                share.result()
            return results

        return wait

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        self._dropped = kind is not None
        self.shutdown(wait=True, cancel_futures=self._dropped)


def ahead(
    crew: Crew, batches: Iterable[tuple[Sequence[Thing], Callable[[Sequence[Thing]], Sequence[Done]]]]
) -> Iterator[tuple[Sequence[Thing], list[Done]]]:
    """Have what there is to do with each batch done, one batch ahead of the one that is asked for."""
    under_way: deque[tuple[Sequence[Thing], Callable[[], list[Done]]]] = deque()
    start = time.perf_counter()
    for batch, do in batches:
        under_way.append((batch, crew.begin(do, batch)))
        if len(under_way) > 1:
            ready, results = under_way.popleft()
            yield ready, (done := results())
            start, before = time.perf_counter(), start
            crew.hands.took(start - before, max(1, len(done)))
    for ready, results in under_way:
        yield ready, results()
