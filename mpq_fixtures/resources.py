"""What a process evaluates with: the store, the clock, threads, an engine, and what it has read already."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpq_fixtures.engines import Engine
from mpq_fixtures.files import temporary_beside
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.processes.prefetch import Hands
from mpq_fixtures.processes.under_way import UnderWay
from mpq_fixtures.read_cache import ReadCache
from mpq_fixtures.store import Store, key_of

if TYPE_CHECKING:
    from pathlib import Path

    from mpq_fixtures.suite import Case

Progress = Callable[[str, int, int], None]
"""Told the case, how many of its samples are done, and how many there are."""


def _alone() -> Engine:
    from mpq_fixtures.engines.local import LocalEngine

    return LocalEngine()


@dataclass(frozen=True, eq=False)
class Resources:
    """What a case is evaluated with.

    ``threads`` encode and decode while the model predicts; ``parts`` is where a run lays rows down; ``points`` says how many cases of each
    evaluation this run has; ``under_way`` notes what this process is at; ``hands`` is what `hands_for` found out.
    """

    store: Store
    clock: Clock
    threads: int = 1
    progress: Progress = lambda case, done, total: None
    engine: Engine = field(default_factory=_alone)
    parts: Path | None = None
    read_cache: ReadCache = field(default_factory=lambda: ReadCache(0))
    points: dict[str, int] = field(default_factory=dict)
    under_way: UnderWay = field(default_factory=UnderWay)
    hands: dict[tuple[str, str], Hands] = field(default_factory=dict)

    def hands_for(self, case: Case) -> Hands:
        """Return how many threads get the batches of a case ready, tried once for all qualities of a codec in an evaluation."""
        return self.hands.setdefault((case.evaluation.name, case.codec), Hands(self.threads))

    def first(self, name: str, number: int) -> tuple[int, bool]:
        """Return the number that the first process of a run to have one for a name gave, and whether it is this one.

        The processes of a run have the folder of parts in common; who has none is the first.
        """
        if self.parts is None:
            return number, True
        file = self.parts / f"{key_of(name=name)[:16]}.first"
        with suppress(OSError):  # where nothing can be written the rows will say it
            piece = temporary_beside(file)
            try:
                piece.write_text(str(number))
                os.link(piece, file)
            except FileExistsError:
                return int(file.read_text()), False
            finally:
                piece.unlink(missing_ok=True)
        return number, True
