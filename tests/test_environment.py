"""Environments of workers, made by the real venv and pip, of packages that lie in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mpq_fixtures.errors import AssetError, MissingAsset
from mpq_fixtures.isolation.client import CodecProcess
from mpq_fixtures.isolation.environment import OURS, Environment, clean_environment

ROOT = Path(__file__).parent.parent
WORKER = """\
# /// script
# requires-python = "{requires}"
# dependencies = ["alpha==1.0"]
#
# [tool.mpq]
# without-dependencies = ["gamma==3.0"]
# ///
from importlib.metadata import distributions


class Worker:
    def packages(self, payload):
        import alpha, beta, gamma
        return None, {{"packages": sorted(f"{{one.name}} {{one.version}}" for one in distributions())}}
"""
WHEELS = [("alpha", "1.0", "beta"), ("beta", "2.0", ""), ("gamma", "3.0", "delta")]  # delta is nowhere


def write_wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + f"Requires-Dist: {needs}\n" * bool(needs)
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages, which pip finds by variables that must be kept, beside those that must not."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for wheel in WHEELS:
        write_wheel(folder, *wheel)
    (tmp_path / "constraints.txt").write_text("alpha==9.9\nnumpy==2.4.6\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MPQ_ENVIRONMENTS", str(tmp_path / "environments"))
    return folder


def worker(tmp_path: Path, requires: str = ">=3.11") -> Environment:
    (tmp_path / "worker.py").write_text(WORKER.format(requires=requires))
    return Environment(tmp_path / "worker.py", "learned")


class TestMaking:
    def test_installs_what_the_header_says_and_nothing_of_ours(self, packages: Path, tmp_path: Path) -> None:
        environment, told = worker(tmp_path), list[str]()
        assert not environment.is_made()
        assert environment.missing() == ""
        python = environment.make(told.append)
        assert told[0].startswith("making the environment of learned, once: alpha==1.0, gamma==3.0; in ")
        assert len(told) == 2
        assert environment.folder.parent == tmp_path / "environments"
        process = CodecProcess(f"{tmp_path / 'worker.py'}:Worker", python=python, environment=OURS)
        installed = process.call("packages")[1]["packages"]
        process.close()
        assert [one for one in installed if one.split()[0] not in ("pip", "setuptools")] == ["alpha 1.0", "beta 2.0", "gamma 3.0"]

        shutil.rmtree(packages)
        again = worker(tmp_path)  # as another process would
        assert again.make(told.append) == python
        assert len(told) == 2
        assert again.describe() == "alpha==1.0, gamma==3.0"

    def test_of_several_processes_is_done_by_one(self, packages: Path, tmp_path: Path) -> None:
        worker(tmp_path)
        command = (
            "import sys; from pathlib import Path; from mpq_fixtures.isolation.environment import Environment; "
            "print(Environment(Path(sys.argv[1]), 'learned').make())"
        )
        started = [
            subprocess.Popen(
                [sys.executable, "-c", command, str(tmp_path / "worker.py")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        outputs = [process.communicate(timeout=120) for process in started]
        assert len({output for output, _ in outputs}) == 1
        assert sum(errors.count("making the environment") for _, errors in outputs) == 1

    def test_that_was_stopped_is_done_again(self, packages: Path, tmp_path: Path) -> None:
        environment = worker(tmp_path)
        (environment.folder / "bin").mkdir(parents=True)
        (environment.folder / "bin" / "python").symlink_to(sys.executable)
        assert not environment.is_made()
        environment.make()
        assert environment.is_made()
        environment.python.unlink()  # as when the Python that it was made of is gone
        environment.python.symlink_to(tmp_path / "gone")
        assert not environment.is_made()

    def test_that_fails_says_why_leaves_nothing_and_may_be_tried_again(self, packages: Path, tmp_path: Path) -> None:
        environment = worker(tmp_path)
        (packages / "beta-2.0-py3-none-any.whl").rename(tmp_path / "beta-2.0-py3-none-any.whl")
        message = r"environment of learned cannot be made: No matching distribution found for beta.*mpq fetch --codec learned"
        with pytest.raises(MissingAsset, match=message):
            environment.make()
        assert not environment.folder.exists()
        (tmp_path / "beta-2.0-py3-none-any.whl").rename(packages / "beta-2.0-py3-none-any.whl")
        with pytest.raises(MissingAsset, match=message):  # unasked it is not tried for every case
            worker(tmp_path).make()
        environment.make(lambda _: None)  # as mpq fetch does
        assert environment.is_made()

    def test_passes_pips_settings_on_and_not_our_constraints(self, packages: Path) -> None:
        variables = clean_environment()
        assert variables["PIP_FIND_LINKS"] == str(packages)
        assert not set(OURS) & set(variables)


OTHER_PYTHON = """#!/bin/sh
if [ "$1" = "-c" ]; then echo 3.9.18; else exec {python} "$@"; fi
"""
UV = """#!/bin/sh
echo "$@" >> {log}
if [ "$2" = "find" ]; then {answer}; fi
"""


def script(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class TestAnotherPython:
    """This machine may have one Python alone: what stands for others are scripts that run it."""

    def test_on_path_is_taken_where_this_one_does_not_fit(self, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        script(tmp_path / "bin" / "python3.9", OTHER_PYTHON.format(python=sys.executable))
        script(tmp_path / "bin" / "python3.10", "#!/bin/sh\nexit 1\n")  # has no venv
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        environment = worker(tmp_path, "<3.11")
        assert environment.missing() == ""
        environment.make()
        assert environment.is_made()

    def test_is_asked_of_uv_where_none_is_on_path(self, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        script(tmp_path / "bin" / "uv", UV.format(log=tmp_path / "asked", answer=f"echo {sys.executable}"))
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin")
        environment = worker(tmp_path, "==3.7.*")
        assert environment.missing() == ""
        environment.make()
        assert environment.is_made()
        assert (tmp_path / "asked").read_text().splitlines() == ["python install ==3.7.*", "python find ==3.7.*"]

    def test_that_uv_does_not_bring_is_named(self, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        script(tmp_path / "bin" / "uv", UV.format(log=tmp_path / "asked", answer="echo no download found >&2; exit 2"))
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin")
        with pytest.raises(MissingAsset, match=r"uv brings no Python ==3\.7\.\*: no download found"):
            worker(tmp_path, "==3.7.*").make()

    def test_that_is_nowhere_is_named(self, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        environment = worker(tmp_path, "==3.7.*")
        assert environment.missing() == "it runs on Python ==3.7.* only, and none is on PATH: pip install uv, which brings one"
        with pytest.raises(MissingAsset, match=r"Python ==3\.7\.\* only"):
            environment.make()


class TestTheHeader:
    def test_makes_another_environment_when_it_changes(self, packages: Path, tmp_path: Path) -> None:
        before = worker(tmp_path).folder
        (tmp_path / "worker.py").write_text(WORKER.format(requires=">=3.11") + "\n# a comment\n")
        assert Environment(tmp_path / "worker.py", "another").folder == before
        (tmp_path / "worker.py").write_text(WORKER.format(requires=">=3.11").replace("alpha==1.0", "alpha==1.1"))
        assert Environment(tmp_path / "worker.py", "learned").folder != before

    @pytest.mark.parametrize(("text", "message"), [("import os\n", "has no header"), ("# /// script\n# a = [\n# ///\n", "not TOML")])
    def test_that_is_none_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "worker.py").write_text(text)
        with pytest.raises(AssetError, match=message):
            Environment(tmp_path / "worker.py", "learned").describe()
