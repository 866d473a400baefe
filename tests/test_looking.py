"""Looking at a suite runs nothing of it: its python: models and data sets are somebody's code."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import Project

from mpq_fixtures.__main__ import main

RUN = 'from pathlib import Path\n\nPath(__file__).with_name("ran").touch()\n'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.edit("evaluations/suites/model.py", "import hashlib\n", f"{RUN}\nimport hashlib\n")
    return project


def ran(project: Project) -> bool:
    return (project.folder / "evaluations" / "suites" / "ran").exists()


class TestLooking:
    @pytest.mark.parametrize("command", ["doctor", "fetch"])
    def test_by_a_command_runs_nothing(self, project, command, capsys):
        assert main([command, str(project.folder / "evaluations/suites/tried.toml")]) == 0
        assert "here, its code not run" in capsys.readouterr().out
        assert not ran(project)

    def test_by_collecting_runs_nothing(self, project):
        done = project.run("--collect-only", "-q")
        assert done.ret == 0
        assert not ran(project)

    def test_by_the_doctor_runs_it_where_that_is_asked_for(self, project, capsys):
        assert main(["doctor", "--import", str(project.folder / "evaluations/suites/tried.toml")]) == 0
        assert ran(project)

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("python:model:sharpness", "python:model:sharpnes", "has no callable 'sharpnes'"),
            ("python:model:sharpness", "python:modle:sharpness", "there is no module modle: put modle.py beside the suite file"),
            ("python:model:sharpness", "python:model", "write python:package.module:callable"),
        ],
    )
    def test_sees_what_is_misspelt(self, project, capsys, old, new, said):
        if new.endswith("sharpnes"):  # which an import could make, where the module has one
            project.write("evaluations/suites/plain.py", "def sharpness(device):\n    raise SystemExit\n")
            new = new.replace("model:sharp", "plain:sharp")
        project.edit("evaluations/suites/tried.toml", old, new)
        assert main(["doctor", str(project.folder / "evaluations/suites/tried.toml")]) == 1
        assert said in capsys.readouterr().out
        assert not ran(project)

    def test_sees_that_it_is_not_python(self, project, capsys):
        project.write("evaluations/suites/model.py", "def sharpness(device:\n")
        assert main(["doctor", str(project.folder / "evaluations/suites/tried.toml")]) == 1
        assert "is not Python: SyntaxError" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["..", ".", ".hidden", "../out"])
def test_names_lead_out_of_no_folder(tmp_path, name, capsys):
    project = Project(tmp_path)
    project.edit("evaluations/suites/tried.toml", 'name = "tried"', f'name = "{name}"')
    assert main(["doctor", str(project.folder / "evaluations/suites/tried.toml")]) == 2
    assert "must be lower case letters" in capsys.readouterr().err
    project.edit("evaluations/suites/tried.toml", f'name = "{name}"', 'name = "tried"')
    project.edit("evaluations/suites/tried.toml", 'name = "pictures"', f'name = "{name}"')
    assert main(["doctor", str(project.folder / "evaluations/suites/tried.toml")]) == 2
    assert "must be lower case letters" in capsys.readouterr().err
