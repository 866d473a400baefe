"""Temporary folders: gone with their owner, at the latest when the next one comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mpq_fixtures.processes.temporary import remove_orphans_in

MAKE = """
import sys
from mpq_fixtures.processes.temporary import TemporaryFolder
folder = TemporaryFolder("tried")
(folder.path / "within").mkdir()
print(folder.path, flush=True)
sys.stdin.read()
"""

OWN = """
import sys
from pathlib import Path
from mpq_fixtures.processes.temporary import OwnedFolder
folder = OwnedFolder(Path(sys.argv[1]))
folder.make()
(folder.path / "rows").touch()
print(flush=True)
sys.stdin.read()
"""

DIE = """
import os
import signal
from mpq_fixtures.processes.temporary import TemporaryFolder
folder = TemporaryFolder("tried")
for number in range(9):
    (folder.path / str(number)).touch()


def remove(*arguments, unlink=os.unlink, **settings):
    unlink(*arguments, **settings)
    if not (folder.path / ".owner").exists():
        os.kill(os.getpid(), signal.SIGKILL)


os.unlink = remove
print(folder.path, flush=True)
folder.close()
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


def test_that_was_being_removed_when_its_process_was_killed_leaves_nothing_behind(start, tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", DIE], capture_output=True, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert not left.exists() or not any(entry.name != ".owner" for entry in left.iterdir()), "what nobody knows to be an orphan"


def test_of_a_run_that_was_killed_is_removed_from_the_folder_that_several_share_and_no_other(tmp_path: Path) -> None:
    processes = []
    for name in ("killed", "alive"):
        process = subprocess.Popen([sys.executable, "-c", OWN, tmp_path / name], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        processes.append(process)
    processes[0].kill()
    processes[0].wait()
    (tmp_path / "empty").mkdir()
    assert remove_orphans_in(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["alive"]
    assert (tmp_path / "alive" / "rows").exists()
    processes[1].kill()
    processes[1].wait()
    assert not remove_orphans_in(tmp_path)
    assert not any(tmp_path.iterdir())
