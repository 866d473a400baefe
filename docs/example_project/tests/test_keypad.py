"""An ordinary test of the product, which runs beside the evaluations and knows nothing of them."""

import numpy as np
from keypad import read_keys


def test_reads_a_key_from_its_two_tones():
    """770 and 1336 Hz are a 5."""
    seconds = np.arange(1600) / 8000
    assert read_keys(np.sin(2 * np.pi * 770 * seconds) + np.sin(2 * np.pi * 1336 * seconds), 8000) == "5"
