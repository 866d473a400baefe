"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

REPORTS = Path(__file__).parents[1] / "reports"


@pytest.fixture(scope="module", autouse=True)
def reports_of_the_checkout() -> Iterator[None]:
    """Let no test leave its results, or a run in the history, where those of people are: `projects.places` are for it."""
    before = _written()
    yield
    assert _written() == before, f"something was written to {REPORTS}: by a test of this module, unless somebody ran a suite meanwhile"


def _written() -> list[int]:
    """Return when something last came or went in each of the folders."""
    return [folder.stat().st_mtime_ns if folder.is_dir() else 0 for folder in (REPORTS, REPORTS / "latest", REPORTS / "history")]
