"""Which instruments make up the music: one test for each case of the chosen suites."""

from collections.abc import Callable

import pytest

from mpq_fixtures.record import Record
from mpq_fixtures.suite import Case


@pytest.mark.mpq(task="source_separation")
def test_source_separation(case: Case, evaluate: Callable[[Case], Record], gate: Callable[[Record], None]) -> None:
    gate(evaluate(case))
