"""What pytest's configuration holds of a run, by these keys, in each of its processes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mpq_fixtures.gate.comparison import Comparison
from mpq_fixtures.opened import OpenEvaluation
from mpq_fixtures.options import Options
from mpq_fixtures.processes.clock import peak_memory
from mpq_fixtures.resources import Resources
from mpq_fixtures.results.files import Result
from mpq_fixtures.results.provenance import loaded_libraries

OPTIONS = pytest.StashKey[Options]()
RESOURCES = pytest.StashKey[Resources]()
OPENED = pytest.StashKey[OpenEvaluation]()
RESULT = pytest.StashKey[Result]()
COMPARISON = pytest.StashKey[Comparison | None]()
CASES = pytest.StashKey[int]()
STARTED = pytest.StashKey[float]()


def account_of(config: pytest.Config) -> dict[str, Any]:
    """Return how a process spent its time, as plain data: seconds by step, samples by what became of them, memory, libraries."""
    resources = config.stash[RESOURCES]
    return {
        "worker": time.monotonic() - config.stash[STARTED],
        "busy": resources.clock.busy,
        **dict(resources.clock.seconds),
        "computed": dict(resources.store.computed),
        "reused": dict(resources.store.reused),
        "damaged": list(resources.store.damaged),
        "notes": config.stash[OPENED].notes(),
        "memory": peak_memory(),
        "loaded": loaded_libraries(),
    }
