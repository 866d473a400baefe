"""Which words were said: one test for each case of the chosen suites."""

from collections.abc import Callable

import pytest

from mpq_fixtures.record import Record
from mpq_fixtures.suite import Case


@pytest.mark.mpq(task="speech_recognition")
def test_speech_recognition(case: Case, evaluate: Callable[[Case], Record], gate: Callable[[Record], None]) -> None:
    gate(evaluate(case))
