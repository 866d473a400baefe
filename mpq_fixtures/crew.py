"""Threads that get the next batch ready while the model is at one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Batch = TypeVar("Batch")
Done = TypeVar("Done")

_QUICK, _PATIENT = 0.001, 0.003
"""Seconds that a quick thing may work, and that may pass meanwhile: in threads much of that is waiting for one another."""


class Crew(ThreadPoolExecutor):
    """Threads that do batches of things together, each taking the next one there is: a future for each would cost more than a small thing.

    What works for less than a millisecond is left to one of them, or, where whoever asks for it takes no longer either, to that one itself:
    threads would do little else than wait for the interpreter's lock. When the caller is interrupted, what has not begun is dropped.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._most = threads
        self._quick = self._asked_quickly = self._dropped = False

    def begin(self, actions: Sequence[Callable[[], Done]]) -> Callable[[], list[Done]]:
        """Begin to do what there is in a batch, behind those before it; what is returned waits for its results."""
        results: list[Any] = [None] * len(actions)
        places = iter(range(len(actions)))  # of which each goes to one thread

        def work() -> None:
            start, worked, done = time.perf_counter(), time.thread_time(), 0
            for place in places:
                if self._dropped:
                    return
                results[place] = actions[place]()
                done += 1
            if done:
                waited = time.perf_counter() - start
                self._quick = time.thread_time() - worked < _QUICK * done and waited < _PATIENT * done

        if self._quick and self._asked_quickly:
            shares = []
        else:
            shares = [self.submit(work) for _ in range(min(1 if self._quick else self._most, len(actions)))]

        def wait() -> list[Done]:
            if not shares:
                work()
            for share in shares:
                share.result()
            return results

        return wait

    def asked(self, seconds: float, count: int) -> None:
        """Note how long whoever asks for batches was at one, of so many things."""
        self._asked_quickly = seconds < _QUICK * count

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        self._dropped = kind is not None
        self.shutdown(wait=True, cancel_futures=self._dropped)


def ahead(crew: Crew, batches: Iterable[tuple[Batch, list[Callable[[], Done]]]]) -> Iterator[tuple[Batch, list[Done]]]:
    """Have what each batch needs done, one batch ahead of the one that is asked for."""
    under_way: deque[tuple[Batch, Callable[[], list[Done]]]] = deque()
    for batch, actions in batches:
        under_way.append((batch, crew.begin(actions)))
        if len(under_way) > 1:
            ready, results = under_way.popleft()
            done, start = results(), time.perf_counter()
            yield ready, done
            crew.asked(time.perf_counter() - start, len(done))
    for ready, results in under_way:
        yield ready, results()
