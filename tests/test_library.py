"""mpq as a library: another project's tests use the fixtures of an installed mpq, with its own suite and baselines beside them."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest
from installed_mpq import EXAMPLE, Machine, build_wheel

from mpq_fixtures import DISTRIBUTION

CASES = ["keypad-original", "keypad-amr-4.75k", "keypad-amr-12.2k", "keypad-opus-6k", "keypad-opus-24k"]
FAULT = ("CLEAR = 0.5", "CLEAR = 0.8")  # the reader gives up on keys that it heard well enough


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine on which mpq was installed, and on which the example was measured once, so that its store is full."""
    folder = tmp_path_factory.mktemp("library")
    machine = Machine(folder, build_wheel(folder))
    assert machine.run("python", "-m", "pip", "install", DISTRIBUTION, cwd=folder).returncode == 0
    return machine


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The example project in a folder of its own."""
    return shutil.copytree(EXAMPLE, tmp_path / "keypad", ignore=shutil.ignore_patterns("__pycache__", "reports", ".mpq"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def verdicts(project: Path) -> dict[str, str]:
    with (project / "reports" / "latest" / "results.csv").open() as file:
        return {row["case"]: row["verdict"] for row in csv.DictReader(file)}


class TestInstalled:
    def test_comes_from_the_wheel_with_all_that_it_needs(self, machine: Machine) -> None:
        code = """
            from importlib.resources import files
            import mpq_fixtures
            print(mpq_fixtures.__file__)
            root = files("mpq_fixtures")
            for name in ("py.typed", "report/report.html.j2", "report/report.css", "report/report.js", "report/study.json",
                         "pocket/models/vit_pocket/model.safetensors", "pocket/songs/song0/bass.flac"):
                assert (root / name).is_file(), name
        """
        run = machine.run("python", "-c", textwrap.dedent(code), cwd=machine.home)
        assert run.returncode == 0
        assert run.stdout.startswith(str(machine.packages))

    def test_doctor_looks_at_a_suite_file(self, machine: Machine, project: Path) -> None:
        run = machine.run("mpq", "doctor", "tests/perception/calls.toml", cwd=project)
        assert run.returncode == 0
        assert "tests/perception/calls.toml: passed: 5 cases of 1 evaluation can run" in run.stdout

    def test_doctor_says_that_suites_are_files_where_none_has_a_name(self, machine: Machine, project: Path) -> None:
        run = machine.run("mpq", "doctor", cwd=project)
        assert run.returncode == 2
        assert run.stdout == "mpq doctor: unknown suite 'pocket': no suite has a name here; give the path of a TOML file\n"


class TestExample:
    def test_passes_against_its_own_baselines(self, machine: Machine, project: Path) -> None:
        run = machine.run("pytest", "--mpq-strict", cwd=project)
        assert run.returncode == 0
        assert "6 passed" in run.stdout
        assert f"mpq: baselines {project}/tests/perception/baselines, results {project}/reports/latest" in run.stdout
        assert verdicts(project) == dict.fromkeys(CASES, "same")
        assert (project / "reports" / "latest" / "report.html").is_file()

    def test_fails_with_a_fault_until_that_is_approved_by_the_command_that_it_gives(self, machine: Machine, project: Path) -> None:
        edit(project / "keypad.py", *FAULT)
        run = machine.run("pytest", cwd=project)
        assert run.returncode == 1
        assert verdicts(project) == dict.fromkeys(CASES, "regressed")
        assert "1 passed" in run.stdout  # the product's other tests know nothing of it

        [command] = set(re.findall(r"new values: (pytest .*keypad-opus-6k .*)", run.stdout))
        assert machine.run(*shlex.split(command), cwd=project).returncode == 0
        assert machine.run("pytest", cwd=project).returncode == 1
        assert verdicts(project) == {case: "same" if case == "keypad-opus-6k" else "regressed" for case in CASES}

    def test_leaves_the_projects_other_tests_alone(self, machine: Machine, project: Path) -> None:
        run = machine.run("pytest", "tests/test_keypad.py", cwd=project)
        assert run.returncode == 0
        assert "machine perceptual quality" not in run.stdout
        assert not (project / "reports").exists()


class TestMarker:
    """Which cases a test takes. Collected, not run."""

    SUITE = """
        name = "other"

        [[evaluation]]
        name = "{name}"
        task = "speech_recognition"
        model = "python:keypad:load"
        dataset = {{ path = "python:calls:dialled" }}
        codecs = ["opus"]
        qualities = {{ opus = ["6k"] }}
    """

    def collect(self, machine: Machine, project: Path, test: str, *arguments: str) -> tuple[int, list[str], str]:
        (project / "tests" / "perception" / "test_calls.py").write_text(f"import pytest\n\n\n{textwrap.dedent(test)}")
        run = machine.run("pytest", "tests/perception", "--collect-only", "-q", *arguments, cwd=project)
        return run.returncode, re.findall(r"::(\S+)", run.stdout), run.stdout

    @pytest.fixture
    def two(self, project: Path) -> Path:
        """The example with a second suite."""
        (project / "tests" / "perception" / "other.toml").write_text(textwrap.dedent(self.SUITE.format(name="other_calls")))
        edit(
            project / "pyproject.toml", '["tests/perception/calls.toml"]', '["tests/perception/calls.toml", "tests/perception/other.toml"]'
        )
        return project

    @pytest.mark.parametrize(
        ("marker", "found"),
        [
            ("", [*CASES, "other_calls-original", "other_calls-opus-6k"]),
            ("@pytest.mark.mpq(task='speech_recognition')\n", [*CASES, "other_calls-original", "other_calls-opus-6k"]),
            ("@pytest.mark.mpq(suite='other.toml')\n", ["other_calls-original", "other_calls-opus-6k"]),
            ("@pytest.mark.mpq(suite='calls')\n", CASES),
            ("@pytest.mark.mpq(evaluation='keypad')\n", CASES),
            ("@pytest.mark.mpq(suite='calls', evaluation='other_calls')\n", []),
            ("@pytest.mark.mpq(task='source_separation')\n", []),
        ],
    )
    def test_narrows_the_cases_of_the_runs_suites_down(self, machine: Machine, two: Path, marker: str, found: list[str]) -> None:
        code, ids, output = self.collect(machine, two, f"{marker}def test_calls(case, evaluate, gate):\n    gate(evaluate(case))\n")
        assert ids == [f"test_calls[{case}]" for case in found]
        assert code == (0 if found else 5)
        assert "skipped" not in output

    def test_of_a_module_counts_for_its_tests(self, machine: Machine, two: Path) -> None:
        test = """
            pytestmark = pytest.mark.mpq(suite="other")


            class TestCalls:
                def test_gate(self, case, evaluate, gate):
                    gate(evaluate(case))

                def test_size(self, case):
                    assert len(case.id) < 80
        """
        _, ids, _ = self.collect(machine, two, test)
        found = ["other_calls-original", "other_calls-opus-6k"]
        assert sorted(ids) == sorted(f"TestCalls::{test}[{case}]" for test in ("test_gate", "test_size") for case in found)

    def test_lets_the_command_line_choose_another_suite(self, machine: Machine, two: Path) -> None:
        test = "@pytest.mark.mpq(suite='calls.toml')\ndef test_calls(case, evaluate, gate):\n    gate(evaluate(case))\n"
        code, ids, _ = self.collect(machine, two, test, "--mpq-suite=tests/perception/other.toml")
        assert (code, ids) == (5, [])

    def test_touches_no_test_that_has_cases_of_its_own(self, machine: Machine, project: Path) -> None:
        test = "@pytest.mark.parametrize('case', ['upper', 'lower'])\ndef test_text(case):\n    assert case\n"
        assert self.collect(machine, project, test)[:2] == (0, ["test_text[upper]", "test_text[lower]"])

    @pytest.mark.parametrize(
        ("marker", "message"),
        [
            ("suite='cals.toml'", "there is no */tests/perception/cals.toml"),
            ("suite='unlisted.toml'", "the run does not have that suite: add it to mpq_suite in the ini file"),
            ("suite='cals'", "the run has no such suite; did you mean 'calls'? There is: calls"),
            ("evaluation='keypat'", "the run's suites have no such evaluation; did you mean 'keypad'? There is: keypad"),
            ("task='speech'", "no such task; did you mean 'speech_recognition'? There are: *"),
            ("'calls'", "@pytest.mark.mpq takes suite=, task=, evaluation=, each of them a text"),
            ("suites='calls'", "@pytest.mark.mpq takes suite=, task=, evaluation=, each of them a text"),
        ],
    )
    def test_that_names_what_is_not_there_is_an_error(self, machine: Machine, project: Path, marker: str, message: str) -> None:
        (project / "tests" / "perception" / "unlisted.toml").write_text(textwrap.dedent(self.SUITE.format(name="other_calls")))
        test = f"@pytest.mark.mpq({marker})\ndef test_calls(case, evaluate, gate):\n    gate(evaluate(case))\n"
        code, ids, output = self.collect(machine, project, test)
        assert (code, [one for one in ids if "[" in one]) == (2, [])
        pytest.LineMatcher(output.splitlines()).fnmatch_lines([f"*{message.replace('[', '[[]')}*"])

    def test_without_any_suite_is_an_error(self, machine: Machine, project: Path) -> None:
        edit(project / "pyproject.toml", 'mpq_suite = ["tests/perception/calls.toml"]\n', "")
        code, _, output = self.collect(machine, project, "def test_calls(case, evaluate, gate):\n    gate(evaluate(case))\n")
        assert code == 2
        assert "no suite is chosen: name one in the ini file, as in mpq_suite = tests/calls.toml, or with --mpq-suite" in output

    def test_with_other_parameters_is_an_error(self, machine: Machine, project: Path) -> None:
        test = "@pytest.mark.parametrize('beam', [1, 5])\ndef test_calls(case, beam, evaluate, gate):\n    gate(evaluate(case))\n"
        code, _, output = self.collect(machine, project, test)
        assert code == 2
        assert "test_calls: a test that takes cases is known by their ids: leave out its other parameters (beam)" in output
