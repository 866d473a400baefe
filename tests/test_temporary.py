"""Temporary folders: gone with their owner, at the latest when the next one comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAKE = """
import sys
from mpq_fixtures.temporary import TemporaryFolder
folder = TemporaryFolder("tried")
(folder.path / "within").mkdir()
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Start processes that make a temporary folder and wait."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    running: list[subprocess.Popen[str]] = []

    def started() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen([sys.executable, "-c", MAKE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield started
    for process in running:
        process.kill()
        process.communicate()


def test_of_a_process_that_was_killed_is_removed_by_the_next_and_of_one_that_lives_is_not(start, tmp_path: Path) -> None:
    killed, left = start()
    _, kept = start()
    (tmp_path / "mpq-of-somebody-else").mkdir()
    assert left.parent == kept.parent == tmp_path
    killed.kill()
    killed.wait()
    assert (left / "within").is_dir()
    _, own = start()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kept.name, own.name, "mpq-of-somebody-else"])
    assert (kept / "within").is_dir()
