"""Which class has each pixel: one test for each case of the chosen suites."""

from collections.abc import Callable

import pytest

from mpq_fixtures.record import Record
from mpq_fixtures.suite import Case


@pytest.mark.mpq(task="image_segmentation")
def test_image_segmentation(case: Case, evaluate: Callable[[Case], Record], gate: Callable[[Record], None]) -> None:
    gate(evaluate(case))
