"""Engines: how the batches of a case are spread over workers. An engine completes cases; it has no part in what is measured of a sample."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mpq_fixtures.pipeline import Pipeline
    from mpq_fixtures.rows import Failure


class Engine(Protocol):
    """Whoever gets the batches of cases done."""

    def at(self, *pipelines: Pipeline) -> AbstractContextManager[None]:
        """Let whoever has nothing else to do help with cases meanwhile."""
        ...

    def advance(self, pipeline: Pipeline) -> None:
        """Work on what is free of a case, and wait for nobody."""
        ...

    def complete(self, pipeline: Pipeline) -> dict[str, Failure]:
        """Return when every sample of a case has its row in the store or failed; return the failures by sample."""
        ...

    def seconds(self, pipeline: Pipeline) -> dict[str, float]:
        """Return the seconds that each step of a case has taken in this run, over all workers."""
        ...

    def doomed(self, test: str) -> str:
        """Say of a test at which processes died, outside of its samples, why it is not tried again; nothing of others."""
        ...

    def close(self) -> None:
        """Let go what is held."""
        ...
