"""Shares of a suite: what they leave in the store is what pytest would, and pytest finds it done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import ArgumentTypeError

import pytest
from projects import IDS, Project, heed_interrupts

from mpq_fixtures.commands.work import Share, parse_share, share_of_job_array


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("work"))


def start(project: Project, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    outer = ("PYTEST_", "MPQ_", "COV_", "SLURM_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
    return subprocess.Popen(
        [sys.executable, "-m", "mpq_fixtures", "work", "evaluations/suites/tried.toml", *arguments],
        cwd=project.folder,
        env=inherited | {"OMP_NUM_THREADS": "1", "HOME": str(project.folder), "XDG_CACHE_HOME": "cache"} | environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )


def work(project: Project, *arguments: str, **environment: str) -> tuple[int, str]:
    process = start(project, *arguments, **environment)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


class TestShares:
    def test_in_any_order_leave_the_results_of_pytest_alone(self, project: Project) -> None:
        store = f"file://{project.folder}/shared"
        first = start(project, "--share", "2/3", "--mpq-cache", store)
        second = start(project, "--share", "3/3", "--mpq-cache", store)
        for process in (first, second):
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
        code, errors = work(project, "--mpq-cache", store, SLURM_ARRAY_TASK_ID="0", SLURM_ARRAY_TASK_COUNT="3", SLURM_ARRAY_TASK_MIN="0")
        assert code == 0, errors
        assert errors.splitlines()[-1] == "mpq work 1/3: done"
        assert f"{IDS[1]} 2/2 samples" in errors  # a third of six samples in batches of two
        run = project.run("--mpq-cache", store)
        assert run.ret == 0
        assert project.results()["work"]["computed"] == {"bitstream": 0, "prediction": 0, "statistic": 0}
        shared = project.out("results.csv").read_bytes()
        assert project.run("--mpq-cache", "another").ret == 0
        assert project.out("results.csv").read_bytes() == shared

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_that_are_stopped_go_on_where_they_were(self, project: Project, number: int) -> None:
        process = start(project, "--share", "1/1", "--mpq-cache", "store", TRIED_DELAY="0.5")
        assert process.stderr is not None
        while "pictures-original 6/6" not in (line := process.stderr.readline()):
            assert line, "it ended before that"
        process.send_signal(number)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 130, errors
        assert "what was measured is in the store" in errors
        code, errors = work(project, "--share", "1/1", "--mpq-cache", "store")
        assert code == 0
        assert "pictures-original" not in errors, "what was measured is measured again"
        assert "words-opus-24k 6/6 samples" in errors

    def test_name_samples_that_fail(self, project: Project) -> None:
        project.edit("evaluations/suites/model.py", "lambda n=n: picture(n)", "lambda n=n: picture(n) if n != 4 else 1 / 0")
        code, errors = work(project, "--share", "1/1", "--mpq-cache", "store", "--samples", "6")
        assert code == 1
        assert "mpq work 1/1: pictures-jpeg-q5: sample p4 failed to read: ZeroDivisionError: division by zero (model.py" in errors
        assert "words-opus-24k 6/6 samples" in errors

    def test_that_cannot_be_had_say_why_and_measure_the_rest(self, project: Project) -> None:
        project.edit("evaluations/suites/tried.toml", "python:model:sharpness", "python:model:blur")
        code, errors = work(project, "--share", "1/1", "--mpq-cache", "store")
        assert code == 2
        assert "has no callable 'blur'" in errors
        assert "words-opus-24k 6/6 samples" in errors

    def test_say_what_is_amiss_with_their_number(self, project: Project) -> None:
        assert work(project, "--mpq-cache", "store")[0] == 2
        code, errors = work(project, "--share", "4/3")
        assert code == 2
        assert "'4/3' is not a share such as 3/16" in errors


class TestShare:
    def test_holds_every_nth(self) -> None:
        assert [place for place in range(7) if parse_share("2/3").has(place)] == [1, 4]

    def test_of_one_is_all(self) -> None:
        assert all(map(Share(1, 1).has, range(5)))

    @pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "-1/3", "1/0", "1/3/5"])
    def test_of_another_form_is_refused(self, text: str) -> None:
        with pytest.raises(ArgumentTypeError, match="is not a share such as 3/16"):
            parse_share(text)

    def test_is_known_in_a_job_array(self) -> None:
        array = {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "10", "SLURM_ARRAY_TASK_STEP": "5"}
        shares = [share_of_job_array(array | {"SLURM_ARRAY_TASK_ID": number}) for number in ("10", "15", "20", "25")]
        assert shares == [Share(1, 4), Share(2, 4), Share(3, 4), Share(4, 4)]

    def test_is_unknown_outside_of_one_and_where_it_has_gaps(self) -> None:
        assert share_of_job_array({}) is None
        assert share_of_job_array({"SLURM_ARRAY_TASK_ID": "9", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "3"}) is None
