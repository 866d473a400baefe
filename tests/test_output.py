"""What a run leaves where disks are full, reports cannot be written, and processes are ended from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from projects import Project
from trial_records import EVALUATION

from mpq_fixtures.results.samples import remove_parts
from mpq_fixtures.session.summary import _lowest

FILES = ("results.csv", "results.json", "samples.parquet")

# The kernel refuses to let a file grow beyond the limit, in the middle of a write, as a full disk would.
WRITE = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_results import CODED, ORIGINAL, records
from mpq_fixtures.results.files import PASSED, Result, write_results
folder, created, limit = Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
original, coded = records()
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
if "killed" in created:
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
try:
    write_results(folder, [Result(ORIGINAL, PASSED, original), Result(CODED, PASSED, coded)], {"created": created})
except OSError as error:
    print("refused", error.strerror)
"""


def write(folder: Path, created: str, limit: int) -> str:
    command = [sys.executable, "-c", WRITE, str(Path(__file__).parent), str(folder), created, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == (-signal.SIGXFSZ if "killed" in created else 0), done.stderr
    return done.stdout


class TestAFullDisk:
    def test_leaves_the_old_files_or_the_new_ones(self, tmp_path):
        write(tmp_path, "first", 0)
        before = {name: (tmp_path / name).read_bytes() for name in FILES}
        sizes = sorted(map(len, before.values()))
        for limit in (sizes[0] - 1, sizes[1] - 1, sizes[2] - 1):  # room for none of the three, for one, for two
            assert write(tmp_path, "second", limit).startswith("refused")
            assert {name: (tmp_path / name).read_bytes() for name in FILES} == before
            assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
        write(tmp_path, "second", sizes[2] + 1000)
        assert (tmp_path / "results.json").read_bytes() != before["results.json"]


class TestAKill:
    def test_leaves_the_old_files_and_pieces_that_the_next_run_removes(self, tmp_path):
        write(tmp_path, "first", 0)
        before = {name: (tmp_path / name).read_bytes() for name in FILES}
        write(tmp_path, "killed", min(map(len, before.values())) - 1)
        assert list(tmp_path.glob(".*.part"))
        remove_parts(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class TestAReportThatCannotBeWritten:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        project = Project(tmp_path)
        project.run("--mpq-update-baselines")
        project.out("report.html").write_text("of an earlier run")
        return project

    def test_is_said_and_leaves_no_other_in_its_place(self, project):
        done = project.run()
        assert done.ret == 0
        assert any(line.startswith("the report could not be made") for line in done.outlines)
        assert not project.out("report.html").exists()

    def test_fails_a_strict_run(self, project):
        assert project.run("--mpq-strict", "-p", "no_report").ret == 1


def workers_of(folder: Path) -> set[int]:
    """The processes, but for zombies, that run in a folder."""
    found = set()
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").readlink() == folder and "State:\tZ" not in (process / "status").read_text():
                found.add(int(process.name))
        except OSError:  # it is gone
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="only Linux tells where processes run")
class TestSignals:
    def test_workers_of_a_controller_that_was_killed_stop_within_two_seconds(self, tmp_path):
        project = Project(tmp_path)
        process = project.start_and_pause("words-opus-6k", "-n", "2")
        process.kill()
        process.wait()
        killed = time.monotonic()
        while workers_of(tmp_path):
            assert time.monotonic() - killed < 2
            time.sleep(0.05)

    @pytest.mark.parametrize("workers", ["0", "2"])
    def test_a_hangup_ends_as_a_termination(self, tmp_path, workers):
        project = Project(tmp_path)
        done = project.stop(signal.SIGHUP, False, "-n", workers)
        assert done.ret == pytest.ExitCode.INTERRUPTED
        assert {"passed", "not run"} <= set(project.outcomes().values())

    def test_a_hangup_that_nohup_ignores_is_ignored(self, tmp_path):
        project = Project(tmp_path)
        (tmp_path / "ignoring.py").write_text("import signal\n\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n")
        done = project.stop(signal.SIGHUP, False, "-p", "ignoring")
        assert done.ret == 0
        assert set(project.outcomes().values()) == {"passed"}
        assert os.getpid() not in workers_of(tmp_path)


class TestSummary:
    def test_of_a_codec_that_takes_no_bytes_names_no_ratio(self) -> None:
        choice = {"case": "tried-none-q1", "rate": 0.0, "rate_low": None, "rate_high": None, "cheapest": 1.0, "compression_ratio": None}
        assert _lowest([choice], EVALUATION) == "none-q1, 0 bpp, cheapest in 100 %"
        assert _lowest([choice | {"rate": 0.5, "compression_ratio": 48.0}], EVALUATION) == "none-q1, 0.500 bpp (48:1), cheapest in 100 %"
