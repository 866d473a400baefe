"""A crash, an exit or an endless call in somebody's native code costs the sample that it came from, with workers and without."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from projects import Project

from mpq_fixtures.engines.work_data import folder_of

# What one picture does where TRIED_FAULT says so, in the step and the case that it names.
FAULTS = """
import ctypes
import os
import shutil
import sys
import time

import numpy as np

from mpq_fixtures.codecs.jpeg import Jpeg


def fault(step, signal):
    kind, where, case = os.environ.get("TRIED_FAULT", "::").split(":")
    if where != step or (case and f"[{case}]" not in os.environ.get("PYTEST_CURRENT_TEST", "")):
        return
    at_it = hasattr(signal, "pixels") and 9 < np.std(signal.pixels.astype(float)) < 11 and signal.pixels.shape == (32, 32, 3)
    if kind == "endless":  # beside another thread's picture, which waits for the lock then
        time.sleep(0.1 if at_it else 0.4)
    if not at_it:
        return
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "abort":
        os.abort()
    if kind == "exit":
        os._exit(3)
    if kind == "endless":  # which does not let go of the interpreter's lock
        ctypes.PyDLL(None).pause()


class Faulty(Jpeg):
    name = "faulty"

    def encode(self, signal, quality):
        fault("encode", signal)
        return super().encode(signal, quality)

    def decode(self, data):
        decoded = super().decode(data)
        fault("decode", decoded)
        return decoded
"""

PREDICT = "        return [self.answer(signal) for signal in signals]"
FAULTY_PREDICT = f"        for signal in signals:\n            fault('predict', signal)\n{PREDICT}"
CASE = "pictures-faulty-q90"
SAME = ["source", "signal", "bitstream", "decoded", "given", "answer", "bytes", "prediction", "psnr", "si_sdr"]


def made(folder: Path) -> Project:
    project = Project(folder)
    project.write("faults.py", FAULTS)
    project.edit("evaluations/suites/model.py", "import hashlib\n", "import hashlib\n\nfrom faults import fault\n")
    project.edit("evaluations/suites/model.py", PREDICT, FAULTY_PREDICT)
    project.edit("evaluations/suites/tried.toml", "jpeg", "faulty")
    return project


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = made(tmp_path_factory.mktemp("undisturbed"))
    assert project.run("-n", "2", "-p", "faults").ret == 0
    return project


@pytest.fixture
def undisturbed(whole: Project) -> pd.DataFrame:
    return whole.samples()


@pytest.fixture
def project(tmp_path: Path, whole: Project) -> Iterator[Project]:
    project = made(tmp_path)
    for audits in (whole.folder / "cache/mpq").glob("*/audit"):  # which take longer than all the rest
        shutil.copytree(audits, project.folder / audits.relative_to(whole.folder))
    yield project
    left = (folder_of(project.folder / "cache" / "mpq") / "workers").glob("*")
    assert not [file.name for file in left if file.suffix != ".lock"]


class TestCrash:
    @pytest.mark.parametrize(
        ("kind", "step", "workers", "words"),
        [
            ("segfault", "predict", [], "the process died at it: Segmentation fault, in faults.py, line "),
            ("segfault", "decode", ["-n", "2"], "the process died at it: Segmentation fault, in faults.py, line "),
            ("abort", "encode", ["-n", "2"], "the process died at it: Aborted, in faults.py, line "),
            ("exit", "predict", ["-n", "2"], "the process died at it: exit code 3"),
            ("exit", "encode", [], "the process died at it: exit code 3"),
            ("endless", "encode", [], "to encode it took longer than the limit of 8 s"),
            ("endless", "decode", ["-n", "2"], "to decode it took longer than the limit of 8 s"),
        ],
    )
    def test_costs_one_sample(
        self, project: Project, undisturbed: pd.DataFrame, kind: str, step: str, workers: list[str], words: str
    ) -> None:
        if kind == "endless":
            named = 'name = "pictures"'
            project.edit("evaluations/suites/tried.toml", named, f"{named}\nlimits = {{ step_seconds = 8 }}")
        run = project.run(*workers, "-p", "faults", TRIED_FAULT=f"{kind}:{step}:{CASE}")
        assert run.ret == pytest.ExitCode.TESTS_FAILED
        run.assert_outcomes(passed=5, failed=1)
        outcomes, rows = project.outcomes(), project.rows()
        assert {case for case, outcome in outcomes.items() if outcome != "passed"} == {CASE}
        sample = "p4" if step == "encode" else "p5"  # JPEG wears the noise off that the picture is known by
        reason = rows[CASE]["reason"]
        assert reason.startswith(f"{CASE}: 1 of 6 samples failed; the first is {sample!r}, at {step}: {words}")
        assert rows[CASE]["samples"] == "5"
        here, there = (table.set_index(["case", "sample"])[SAME] for table in (project.samples(), undisturbed))
        measured = here.dropna(subset=["bytes"])
        assert set(there.index) - set(measured.index) == {(CASE, sample)}
        pd.testing.assert_frame_equal(measured, there.loc[measured.index], check_dtype=False)
        died = [line for line in run.stdout.lines if line.startswith("a process ")]
        assert died
        assert all(sample in line for line in died)

    def test_outside_of_samples_costs_the_case(self, project: Project) -> None:
        crash = "    import ctypes\n\n    ctypes.string_at(0)\n"
        project.edit("evaluations/suites/model.py", "def sharpness(device):\n", f"def sharpness(device):\n{crash}")
        run = project.run("-p", "faults", "-k", "original")
        assert run.ret == pytest.ExitCode.TESTS_FAILED
        assert project.outcomes() == {"pictures-original": "failed", "words-original": "passed"}
        assert "a process died (Segmentation fault, in model.py, line" in project.rows()["pictures-original"]["reason"]


class TestCommand:
    def test_that_measures_goes_on_too(self, project: Project) -> None:
        project.edit("evaluations/suites/tried.toml", "faulty", "jpeg")
        command = [
            sys.executable,
            "-m",
            "mpq_fixtures",
            "work",
            "evaluations/suites/tried.toml",
            "--share",
            "1/1",
            "--mpq-cache",
            "cache/mpq",
        ]
        environment = project.variables(TMPDIR=project.folder, TRIED_FAULT="segfault:predict:")
        run = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert run.returncode == 1, run.stderr
        failed = [line for line in run.stderr.splitlines() if "failed to predict: the process died at it: Segmentation fault" in line]
        assert failed[0].startswith("mpq work 1/1: pictures-original: sample p4 failed")
        assert "words-opus-24k 6/6 samples" in run.stderr
        assert not list(project.folder.glob("mpq-work-*"))


class TestWorker:
    def test_that_is_killed_costs_nothing(self, project: Project, undisturbed: pd.DataFrame) -> None:
        started = time.monotonic()
        process = project.start_and_pause(CASE, "-n", "2", "-p", "faults")
        for worker in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(worker), signal.SIGKILL)
        run = project.finish(process, started)
        assert run.ret == 0
        run.assert_outcomes(passed=6)
        columns = ["case", "sample", *SAME]
        pd.testing.assert_frame_equal(project.samples()[columns], undisturbed[columns])
        run.stdout.fnmatch_lines(["a process died (SIGKILL) at *"])


class TestSuspended:
    @pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["no workers", "two"])
    def test_goes_on_where_it_was(self, project: Project, undisturbed: pd.DataFrame, workers: list[str]) -> None:
        started = time.monotonic()
        process = project.start_and_pause(CASE, *workers, "-p", "faults")
        for number, seconds in ((signal.SIGSTOP, 1.5), (signal.SIGCONT, 0.1)) * 2:
            os.killpg(process.pid, number)
            time.sleep(seconds)
        run = project.finish(process, started)
        assert run.ret == 0
        run.assert_outcomes(passed=6)
        columns = ["case", "sample", *SAME]
        pd.testing.assert_frame_equal(project.samples()[columns], undisturbed[columns])

    def test_ends_when_it_is_told_to(self, project: Project) -> None:
        started = time.monotonic()
        process = project.start_and_pause(CASE, "-p", "faults")
        for number, seconds in ((signal.SIGSTOP, 1.5), (signal.SIGTERM, 0), (signal.SIGCONT, 0)):  # as a shell ends its job
            os.kill(process.pid, number)
            time.sleep(seconds)
        assert project.finish(process, started).ret == pytest.ExitCode.INTERRUPTED


class TestCaller:
    def test_of_pytest_goes_on_after_it(self, project: Project) -> None:
        call = 'pytest.main(["evaluations", "--mpq-suite", "tried", "-k", "words-original", "-p", "faults", "-p", "no_report"])'
        project.write("caller.py", f'import pytest\n\ncode = {call}\nprint("after", int(code))\n')
        environment = project.variables()
        command = [sys.executable, "caller.py"]
        run = subprocess.run(command, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert run.stdout.splitlines()[-1] == "after 0", run.stdout + run.stderr
