"""One test for each case of the chosen suites."""

from collections.abc import Callable

from mpq_fixtures.record import Record
from mpq_fixtures.suite import Case


def test_evaluation(case: Case, evaluate: Callable[[Case], Record], gate: Callable[[Record], None]) -> None:
    gate(evaluate(case))
