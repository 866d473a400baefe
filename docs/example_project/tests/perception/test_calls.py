"""What is left of the keys after the codecs of a telephone network: one test for each case of the suite beside."""

import pytest


@pytest.mark.mpq(suite="calls.toml")
def test_calls(case, evaluate, gate):
    """Measure a case, and hold it against what was approved."""
    gate(evaluate(case))
