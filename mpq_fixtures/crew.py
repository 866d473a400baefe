"""Threads that get the next batch ready while the model is at one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Batch = TypeVar("Batch")
Done = TypeVar("Done")

_QUICK = 0.001  # seconds for a thing


class Crew(ThreadPoolExecutor):
    """Threads that do batches of things together, each taking the next one there is: a future for each would cost more than a small thing.

    What takes less than a millisecond is left to one of them: several would do little else than wait for the interpreter's lock. When the
    caller is interrupted, what has not begun is dropped.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._most = self._sharing = threads
        self._dropped = False

    def begin(self, actions: Sequence[Callable[[], Done]]) -> Callable[[], list[Done]]:
        """Begin to do what there is in a batch, behind those before it; what is returned waits for its results."""
        results: list[Any] = [None] * len(actions)
        places = iter(range(len(actions)))  # of which each goes to one thread

        def work() -> None:
            start, done = time.perf_counter(), 0
            for place in places:
                if self._dropped:
                    return
                results[place] = actions[place]()
                done += 1
            if done:
                self._sharing = 1 if time.perf_counter() - start < _QUICK * done else self._most

        shares = [self.submit(work) for _ in range(min(self._sharing, len(actions)))]

        def wait() -> list[Done]:
            for share in shares:
                share.result()
            return results

        return wait

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
            yield ready, results()
    for ready, results in under_way:
        yield ready, results()
