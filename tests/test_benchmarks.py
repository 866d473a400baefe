"""The benchmarks of parts run: what is timed once in a while breaks unseen otherwise. Those of whole runs take too long for this."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("part", ["allocator", "batching", "gate", "isolation", "metrics", "rows", "scale"])
def test_runs(part: str) -> None:
    command = [sys.executable, "-m", "pytest", f"benchmarks/bench_{part}.py", "-q", "--benchmark-disable", "-p", "no:cacheprovider"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:]
    assert " passed" in run.stdout
