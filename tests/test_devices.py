"""What a worker may use of the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
from mpq_fixtures.devices import keep_freed_memory

if {kept}:
    keep_freed_memory()
np.ones(2**22)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.ones(2**22)  # 32 MB, as a layer's activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(kept: bool, **environment: str) -> int:
    """Return how often the system had to find memory while arrays came and went."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS.format(kept=kept)]
    run = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
class TestFreedMemory:
    def test_is_kept(self) -> None:
        assert page_faults(kept=True) * 10 < page_faults(kept=False)

    def test_is_left_to_whoever_set_the_allocator_up(self) -> None:
        assert page_faults(kept=True, MALLOC_TRIM_THRESHOLD_="131072") * 2 > page_faults(kept=False, MALLOC_TRIM_THRESHOLD_="131072")
