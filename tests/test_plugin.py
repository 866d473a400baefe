"""The plugin from the outside: pytest in a process of its own, on a small suite with a model and data beside it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest
from projects import IDS, ROOT, Project

from mpq_fixtures.progress import ProgressWriter, progress_line

README = (ROOT / "reports" / "README.md").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, pytest.RunResult]:
    """A project after an undisturbed run from an empty store, for tests that look and change nothing."""
    project = Project(tmp_path_factory.mktemp("measured"))
    return project, project.run("--junitxml=junit.xml", report=True)


@pytest.fixture
def warm(measured: tuple[Project, pytest.RunResult], project: Project) -> Project:
    """A project of the test's own whose store has everything."""
    shutil.copytree(measured[0].folder / "cache", project.folder / "cache")
    return project


@pytest.fixture(scope="module")
def undisturbed(measured: tuple[Project, pytest.RunResult]) -> bytes:
    """The results of an undisturbed run."""
    return measured[0].out("results.csv").read_bytes()


class TestUndisturbedRun:
    @pytest.fixture
    def run(self, measured: tuple[Project, pytest.RunResult]) -> pytest.RunResult:
        return measured[1]

    @pytest.fixture
    def project(self, measured: tuple[Project, pytest.RunResult]) -> Project:
        return measured[0]

    def test_passes_every_case(self, run: pytest.RunResult) -> None:
        assert run.ret == 0
        run.assert_outcomes(passed=6)

    def test_says_first_what_it_will_do(self, run: pytest.RunResult, project: Project) -> None:
        run.stdout.fnmatch_lines(
            [
                "mpq: suite tried: 2 evaluations, 6 cases, all samples",
                f"mpq: device auto, store {project.folder}/cache/mpq",
                f"mpq: baselines {project.folder}/evaluations/baselines, results {project.folder}/reports/latest",
            ]
        )

    def test_sums_up(self, run: pytest.RunResult, project: Project) -> None:
        run.stdout.fnmatch_lines(
            [
                "*machine perceptual quality: tried*",
                "evaluation  cases     originals            lowest rate that keeps 95 % *",
                "pictures    3: 3 new  top1 1.000           none",
                "words       3: 3 new  word_accuracy 1.000  opus-6k, *bits/sample*",
                "time: * s in 1 worker, *% of it in the steps: audit * s, encode * s, decode * s, predict * s, score * s",
                "store: 24 bitstreams, 36 predictions, 36 statistics computed, 0 statistics reused; memory: at most * MB a worker",
                f"report: {project.folder}/reports/latest/report.html",
            ]
        )

    def test_shows_no_progress_without_a_terminal(self, run: pytest.RunResult) -> None:
        assert "left" not in run.stdout.str()
        assert "\x1b" not in run.stdout.str()

    def test_has_a_row_for_every_case_in_the_order_of_the_suite(self, project: Project) -> None:
        rows = project.rows()
        assert list(rows) == IDS
        assert {row["samples"] for row in rows.values()} == {"6"}
        assert float(rows["pictures-original"]["value"]) == 1
        assert float(rows["pictures-jpeg-q5"]["value"]) < 1
        assert {row["verdict"] for row in rows.values()} == {"new"}
        assert {row["reason"] for row in rows.values()} == {""}

    def test_leaves_all_four_files(self, project: Project) -> None:
        assert sorted(path.name for path in project.out("").iterdir()) == ["report.html", "results.csv", "results.json", "samples.parquet"]
        results = project.results()
        assert (results["schema"], results["complete"], results["exit_status"]) == (2, True, 0)
        assert set(project.outcomes().values()) == {"passed"}
        assert project.samples().groupby("case").size().to_dict() == dict.fromkeys(IDS, 6)

    def test_says_where_the_figures_come_from(self, project: Project) -> None:
        provenance = project.results()["provenance"]
        described = re.search(r"`provenance`:(.*?)\n- ", README, re.DOTALL)
        assert described is not None
        assert set(provenance) == set(re.findall(r"`(\w+)`", described[1]))
        assert provenance["device"] == "cpu"
        assert provenance["packages"] == {name: version(name) for name in provenance["packages"]}
        assert {"torch", "transformers", "pillow", "av"} <= set(provenance["packages"])
        assert sorted(provenance["codecs"]) == ["jpeg", "opus"]
        assert sorted(provenance["models"]) == ["pictures", "words"]
        assert {len(model["fingerprint"]) for model in provenance["models"].values()} == {64}

    def test_gives_junit_the_figures(self, project: Project) -> None:
        found = {}
        for test in ElementTree.parse(project.folder / "junit.xml").iter("testcase"):
            properties = {item.get("name"): item.get("value") for item in test.iter("property")}
            found[properties["case"]] = properties
        assert sorted(found) == sorted(IDS)
        for case, row in project.rows().items():
            shown = {name: value for name, value in row.items() if value}
            assert {name: found[case][name] for name in shown if name != "samples"} == {
                name: value for name, value in shown.items() if name != "samples"
            }


class TestSecondRun:
    def test_computes_nothing_and_gives_the_same(self, warm: Project, undisturbed: bytes) -> None:
        run = warm.run()
        assert run.ret == 0
        assert warm.results()["work"]["computed"] == {"bitstream": 0, "prediction": 0, "statistic": 0}
        assert warm.out("results.csv").read_bytes() == undisturbed


class TestUsageError:
    """Exit code 4 before anything runs, with the nearest valid name."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--mpq-suite", "tired"], "unknown suite 'tired'; did you mean 'tried'?"),
            (["--mpq-suite", "nothing.toml"], "no suite file nothing.toml"),
            (["--mpq-suite", "tried", "--mpq-device", "cdua"], "unknown device 'cdua'; did you mean 'cuda'?"),
            (["--mpq-suite", "tried", "--mpq-device", "x"], "unknown device 'x'; there are: auto, cpu, cuda, cuda:1, mps"),
            (["--mpq-suite", "tried", "--mpq-ray-address", "head:6379"], "without --mpq-engine ray: add that, or leave"),
            (["--mpq-suite", "tried", "--mpq-device", "cuda:77"], "no cuda:77 here"),
            (["--mpq-suite", "tried", "--mpq-samples", "0"], "'0' is not a number of samples"),
            (["--mpq-suite", "tried", "--mpq-update-baselines=old"], "'old' is neither 'new' nor 'all'"),
            (["--mpq-suite", "tried", "--mpq-update-baselines", "--mpq-samples", "2"], "run it without --mpq-samples"),
            (
                ["--mpq-suite", "tried", "--mpq-history", "~nobody_here/history"],
                "there is no user 'nobody_here': write ~/, or the whole path",
            ),
        ],
        ids=[
            "suite",
            "file",
            "device",
            "device like none",
            "cluster of another engine",
            "absent device",
            "samples",
            "update",
            "update of a part",
            "home of nobody",
        ],
    )
    def test_in_an_option(self, project: Project, arguments: list[str], message: str) -> None:
        run = project.run(*arguments, suite="")
        assert run.ret == pytest.ExitCode.USAGE_ERROR
        assert message in run.stderr.str()
        assert not project.out("").exists()

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"jpeg"]', '"jpge"]', "evaluation 1 (pictures): codecs: unknown 'jpge'; did you mean 'jpeg'?"),
            ('"q5"', '"q500"', "evaluation 1 (pictures): qualities: jpeg: 'q500' is not one of q1 to q100"),
            ("task =", "task", "line 5"),
        ],
        ids=["codec", "quality", "syntax"],
    )
    def test_in_a_suite_file(self, project: Project, old: str, new: str, message: str) -> None:
        project.edit("evaluations/suites/tried.toml", old, new)
        run = project.run("-n", "2")
        assert run.ret == pytest.ExitCode.USAGE_ERROR
        assert message in run.stderr.str()
        assert "tried.toml" in run.stderr.str()
        assert "Traceback" not in run.stderr.str()

    def test_in_the_ini_file_names_the_file(self, project: Project) -> None:
        project.write("pytest.ini", "[pytest]\nmpq_device = cdua\n")
        run = project.run()
        assert run.ret == pytest.ExitCode.USAGE_ERROR
        run.stderr.fnmatch_lines(["*pytest.ini: unknown device 'cdua'; did you mean 'cuda'?*"])


class TestSelection:
    def test_collects_without_the_heavy_libraries(self, project: Project) -> None:
        heavy = ["torch", "transformers", "datasets", "demucs", "scipy", "skimage", "sklearn", "pandas", "av", "soundfile"]
        project.write("probe.py", f"import sys\n\n\ndef pytest_unconfigure():\n    print('heavy:', sorted(sys.modules.keys() & {heavy}))\n")
        run = project.run("--collect-only", "-q", "-p", "probe")
        assert run.ret == 0
        run.stdout.fnmatch_lines(["heavy: [[]]"])
        assert re.findall(r"\[(.+)\]$", run.stdout.str(), re.MULTILINE)[:6] == IDS
        assert not project.out("").exists()

    def test_is_by_keyword(self, warm: Project) -> None:
        run = warm.run("-k", "words and opus")
        run.assert_outcomes(passed=2, deselected=4)
        assert list(warm.rows()) == ["words-opus-6k", "words-opus-24k"]
        assert warm.rows()["words-opus-6k"]["reference"] == "1.0"

    def test_of_nothing_exits_5(self, warm: Project) -> None:
        assert warm.run("-k", "nothing_of_the_kind").ret == pytest.ExitCode.NO_TESTS_COLLECTED
        assert not warm.out("").exists()

    def test_of_samples_is_nested(self, warm: Project) -> None:
        chosen = {}
        for count in (2, 4):
            assert warm.run("--mpq-samples", str(count), "-k", "original").ret == 0
            samples = warm.samples()
            chosen[count] = {case: set(samples[samples["case"] == case]["sample"]) for case in ("pictures-original", "words-original")}
        for case in chosen[2]:
            assert len(chosen[2][case]) == 2
            assert len(chosen[4][case]) == 4
            assert chosen[2][case] < chosen[4][case]


class TestFolderWithABracket:
    def test_hides_no_case_from_the_results(self, project: Project) -> None:
        (project.folder / "deep[1]").mkdir()
        (project.folder / "evaluations").rename(project.folder / "deep[1]" / "evaluations")
        suite = ["--mpq-suite", "deep[1]/evaluations/suites/tried.toml", "--mpq-case", "words-original"]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no_report", *suite]
        run = subprocess.run(command, cwd=project.folder, env=project.variables(), capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout
        assert project.outcomes() == {"words-original": "passed"}


class TestIniFile:
    def test_stands_in_for_options_and_yields_to_them(self, warm: Project) -> None:
        lines = ["mpq_suite = tried", "mpq_samples = 4", "mpq_out = elsewhere", "mpq_baselines = approved", "mpq_cache = kept"]
        warm.write("pytest.ini", "\n".join(["[pytest]", *lines]))
        assert warm.run("-k", "words-original", suite="").ret == 0
        assert warm.rows("elsewhere")["words-original"]["samples"] == "4"
        assert count_entries(warm.folder / "kept", "prediction") == 4
        assert warm.run("-k", "words-original", "--mpq-samples", "3", "--mpq-out", "there", suite="").ret == 0
        assert warm.rows("there")["words-original"]["samples"] == "3"
        warm.write("pytest.ini", "\n".join(["[pytest]", lines[0], *lines[3:], "mpq_strict = true", "mpq_update_baselines = new"]))
        assert warm.run("-k", "words-original", suite="", report=True).ret == 0
        assert (warm.folder / "approved" / "tried" / "words.json").is_file()

    def test_names_a_suite_s_file_from_where_it_lies(self, warm: Project) -> None:
        warm.write("pytest.ini", "[pytest]\nmpq_suite = evaluations/suites/tried.toml\n")
        (warm.folder / "elsewhere").mkdir()
        options = ["--rootdir", str(warm.folder), "-c", str(warm.folder / "pytest.ini"), "--collect-only", "-q"]
        command = [sys.executable, "-m", "pytest", str(warm.folder / "evaluations"), *options]
        environment = {**os.environ, "MPQ_CACHE": str(warm.folder / "cache"), "PYTHONPATH": str(warm.folder)}
        run = subprocess.run(command, cwd=warm.folder / "elsewhere", env=environment, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
        assert "words-original" in run.stdout

    def test_damaged_baselines_are_written_anew_where_all_are_approved(self, warm: Project) -> None:
        assert warm.run("-k", "words-original", "--mpq-update-baselines").ret == 0
        file = warm.folder / "evaluations" / "baselines" / "tried" / "words.json"
        whole = file.read_text()
        file.write_text(whole.replace('"statistics": "', '"statistics": "damaged'))
        warm.run("-k", "words-original").stdout.fnmatch_lines(["*words.json: original: not a baseline*--mpq-update-baselines*"])
        assert warm.run("-k", "words-original", "--mpq-update-baselines").ret == 0
        before, after = (json.loads(text)["cases"]["original"] for text in (whole, file.read_text()))
        assert after | {"approval": before["approval"]} == before  # approved later, and as it was


class TestWorkers:
    def test_leave_the_results_of_an_undisturbed_run(self, project: Project, undisturbed: bytes) -> None:
        run = project.run("-n", "2")
        assert run.ret == 0
        run.assert_outcomes(passed=6)
        assert project.out("results.csv").read_bytes() == undisturbed
        assert project.results()["work"]["computed"] == {"bitstream": 24, "prediction": 36, "statistic": 36}
        run.stdout.fnmatch_lines(["time: * s in 2 workers*"])

    def test_that_crash_at_every_sample_cost_their_case_alone(self, project: Project) -> None:
        run = project.run("-n", "2", report=True, TRIED_CRASH="words-opus-6k")
        assert run.ret == 1
        run.assert_outcomes(passed=5, failed=1)
        outcomes = project.outcomes()
        assert list(outcomes) == IDS
        assert [case for case, outcome in outcomes.items() if outcome != "passed"] == ["words-opus-6k"]
        row = project.rows()["words-opus-6k"]
        assert "the process died at it: exit code 3" in row["reason"] or "processes in a row died" in row["reason"]
        assert row["samples"] in ("", "0")
        assert project.out("report.html").is_file()


class TestStoppedRun:
    """What was finished is kept, the rest says so, and the next run goes on from there."""

    @pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "with workers"])
    @pytest.mark.parametrize(
        ("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["interrupted", "terminated"]
    )  # fmt: skip
    def test_keeps_what_is_finished(self, project: Project, number: int, group: bool, workers: list[str], undisturbed: bytes) -> None:
        run = project.stop(number, group, *workers)
        assert run.ret == pytest.ExitCode.INTERRUPTED
        outcomes = project.outcomes()
        assert list(outcomes) == IDS
        assert outcomes["words-opus-6k"] == "not run"
        assert "passed" in outcomes.values()
        for case, row in project.rows().items():
            if outcomes[case] == "passed":
                assert (row["samples"], row["reason"]) == ("6", "")
            else:
                assert row["reason"] == "the run ended before this case: it was stopped or a worker died"
        results = project.results()
        assert (results["complete"], results["exit_status"]) == (False, int(pytest.ExitCode.INTERRUPTED))
        assert project.out("report.html").is_file() == (number == signal.SIGINT)
        self.goes_on(project, undisturbed)

    @pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "with workers"])
    def test_goes_on_after_a_kill(self, project: Project, workers: list[str], undisturbed: bytes) -> None:
        assert project.stop(signal.SIGKILL, True, *workers).ret == -signal.SIGKILL
        assert not project.out("results.csv").exists()
        self.goes_on(project, undisturbed, *workers)

    @staticmethod
    def goes_on(project: Project, undisturbed: bytes, *workers: str) -> None:
        made = {layer: count_entries(project.folder / "cache" / "mpq", layer) for layer in ("bitstream", "prediction", "statistic")}
        assert 0 < made["prediction"] < 36
        assert project.run(*workers).ret == 0
        assert project.out("results.csv").read_bytes() == undisturbed
        assert not project.out("parts").exists(), "the rows of the killed run are still there"
        computed = project.results()["work"]["computed"]
        assert computed == {"bitstream": 24 - made["bitstream"], "prediction": 36 - made["prediction"], "statistic": 36 - made["statistic"]}


def count_entries(store: Path, layer: str) -> int:
    """Count what a store holds of a layer, scope by scope."""
    count = 0
    for file in store.glob(f"*/{layer}/*.db"):
        if file.stem != "entries":
            with closing(sqlite3.connect(file)) as data:
                count += data.execute("SELECT count(*) FROM members").fetchone()[0]
    return count


class TestMissingAsset:
    @staticmethod
    def lose(project: Project, asset: str) -> None:
        project.edit("evaluations/suites/tried.toml", f"python:model:{asset}", "python:absent:load")

    def test_skips_with_a_sentence(self, warm: Project) -> None:
        self.lose(warm, "pitch")
        run = warm.run()
        assert run.ret == 0
        run.assert_outcomes(passed=3, skipped=3)
        run.stdout.fnmatch_lines(["SKIPPED * python:absent:load: No module named 'absent'; put absent.py beside the suite file *"])
        assert list(warm.outcomes().values()) == ["passed"] * 3 + ["skipped"] * 3
        assert "put absent.py beside the suite file" in warm.rows()["words-opus-6k"]["reason"]

    @pytest.mark.parametrize("asset", ["pitch", "words"], ids=["model", "data set"])
    def test_fails_when_strict(self, warm: Project, asset: str) -> None:
        self.lose(warm, asset)
        run = warm.run("-k", "words-opus", "--mpq-strict")
        assert run.ret == 1
        assert list(warm.outcomes().values()) == ["failed"] * 2
        assert run.stdout.str().count("No module named 'absent'; put absent.py beside the suite file") == 2
        assert "put absent.py beside the suite file" in warm.rows()["words-opus-6k"]["reason"]
        assert "Traceback" not in run.stdout.str()

    def test_that_is_here_and_broken_is_no_missing_one_and_fails(self, warm: Project) -> None:
        warm.edit(
            "evaluations/suites/model.py",
            "def pitch(device):\n",
            "def pitch(device):\n    raise RuntimeError('weights of another model')\n",
        )
        run = warm.run()
        assert run.ret == 1
        assert list(warm.outcomes().values()) == ["passed"] * 3 + ["failed"] * 3
        assert "python:model:pitch(device) raised RuntimeError: weights of another model" in warm.rows()["words-opus-6k"]["reason"]
        assert "Traceback" not in run.stdout.str()

    def test_of_all_cases_does_not_pass(self, warm: Project) -> None:
        self.lose(warm, "words")
        run = warm.run("-k", "words")
        assert run.ret == 1
        run.assert_outcomes(skipped=3, deselected=3)
        run.stdout.fnmatch_lines(["nothing was measured: a gate that measured nothing does not pass"])


class TestThreshold:
    def test_fails_its_cases_with_a_sentence(self, warm: Project) -> None:
        model = 'model = "python:model:sharpness"'
        warm.edit("evaluations/suites/tried.toml", model, 'thresholds = { value = ">= 0.99" }\n' + model)
        run = warm.run("-k", "pictures")
        assert run.ret == 1
        assert warm.outcomes()["pictures-original"] == "passed"
        assert warm.outcomes()["pictures-jpeg-q5"] == "failed"
        run.stdout.fnmatch_lines(["pictures-jpeg-q5: threshold of the suite missed: value >= 0.99, measured 0.[0-9]*"])
        assert warm.rows()["pictures-jpeg-q5"]["reason"].startswith("pictures-jpeg-q5: threshold")
        assert "Traceback" not in run.stdout.str()
        assert "fixtures.py" not in run.stdout.str()


class TestBaselines:
    @pytest.fixture(scope="class")
    @staticmethod
    def first(measured: tuple[Project, pytest.RunResult], tmp_path_factory: pytest.TempPathFactory) -> Project:
        """A project whose every case was approved."""
        project = Project(tmp_path_factory.mktemp("approved"))
        shutil.copytree(measured[0].folder / "cache", project.folder / "cache")
        run = project.run("--mpq-update-baselines")
        assert run.ret == 0
        run.stdout.fnmatch_lines(["baselines: 3 of 3 cases updated in *pictures.json"])
        return project

    @pytest.fixture
    def approved(self, first: Project, warm: Project) -> Project:
        shutil.copytree(first.folder / "evaluations" / "baselines", warm.folder / "evaluations" / "baselines")
        return warm

    def worsen(self, project: Project) -> None:
        """Let the model mistake two pictures more."""
        project.edit("evaluations/suites/model.py", "mean() > 8", "mean() > 12")

    def test_hold_what_was_measured(self, approved: Project) -> None:
        assert list(json.loads(approved.baseline("pictures").read_text())["cases"]) == ["original", "jpeg-q5", "jpeg-q90"]
        run = approved.run("--mpq-strict", "-n", "2")
        assert run.ret == 0
        assert {row["verdict"] for row in approved.rows().values()} == {"same"}
        assert approved.rows()["words-opus-6k"]["baseline"] == approved.rows()["words-opus-6k"]["value"]

    def test_fail_what_regressed_with_a_sentence_until_it_is_approved(self, approved: Project) -> None:
        self.worsen(approved)
        run = approved.run("-k", "pictures")
        assert run.ret == 1
        run.stdout.fnmatch_lines(
            [
                "pictures-original: top1 0.6667, approved 1.0000: -0.3333 accuracy [[]*]; 2 of 6 samples fell, 0 rose, margin 0.02; *",
                "pictures-original: *model: answers differ in 2 of 6, *",
                "pictures-original: to accept the new values: pytest evaluations * --mpq-case pictures-original *-baselines",
            ]
        )
        assert "Traceback" not in run.stdout.str()
        assert "fixtures.py" not in run.stdout.str()
        assert approved.rows()["pictures-original"]["verdict"] == "regressed"
        assert approved.rows()["pictures-original"]["baseline"] == "1.0"
        untouched = json.loads(approved.baseline("pictures").read_text())["cases"]
        assert approved.run("-k", "pictures-original", "--mpq-update-baselines").ret == 0
        merged = json.loads(approved.baseline("pictures").read_text())["cases"]
        assert list(merged) == ["original", "jpeg-q5", "jpeg-q90"]
        assert merged["original"]["value"] < untouched["original"]["value"] == 1
        assert {key: merged[key] for key in ("jpeg-q5", "jpeg-q90")} == {key: untouched[key] for key in ("jpeg-q5", "jpeg-q90")}
        assert approved.run("-k", "pictures-original").ret == 0

    def test_of_a_suite_and_a_folder_of_one_s_own_are_approved_by_the_command_that_is_printed(self, warm: Project) -> None:
        shutil.copytree(warm.suites, warm.folder / "my own")
        chosen = ["--mpq-suite", "my own/tried.toml", "-k", "pictures-original", "--mpq-baselines", "my own/approved"]
        assert warm.run(*chosen, "--mpq-update-baselines", suite="").ret == 0
        warm.edit("my own/model.py", "mean() > 8", "mean() > 12")
        run = warm.run(*chosen, suite="")
        assert run.ret == 1
        (command,) = {line.partition("new values: ")[2] for line in run.outlines if "original: to accept the new values: " in line}
        program, evaluations, *options = shlex.split(command)
        assert (program, evaluations) == ("pytest", "evaluations")
        approving = warm.run(*options, suite="")
        assert approving.ret == 0
        approving.assert_outcomes(passed=1)
        assert warm.run(*chosen, suite="").ret == 0

    def test_are_approved_by_an_id_that_selects_no_other(self, project: Project) -> None:
        project.edit("evaluations/suites/tried.toml", '["q5", "q90"]', '["q5", "q50", "q90"]')
        collected = [project.run("--collect-only", "-q", "-k", chosen) for chosen in ("pictures-jpeg-q5", "[pictures-jpeg-q5]")]
        assert [sum("::" in line for line in run.outlines) for run in collected] == [2, 1]

    def test_of_samples_are_held_against_those_samples(self, approved: Project) -> None:
        assert approved.run("--mpq-samples", "3").ret == 0
        assert {row["verdict"] for row in approved.rows().values()} == {"same"}
        assert approved.rows()["pictures-jpeg-q5"]["samples"] == "3"

    def test_that_are_new_leave_the_old_ones(self, warm: Project) -> None:
        assert warm.run("-k", "pictures-original", "--mpq-update-baselines").ret == 0
        before = json.loads(warm.baseline("pictures").read_text())["cases"]
        self.worsen(warm)
        run = warm.run("-k", "pictures", "--mpq-update-baselines=new")
        assert run.ret == 1
        after = json.loads(warm.baseline("pictures").read_text())["cases"]
        assert list(after) == ["original", "jpeg-q5", "jpeg-q90"]
        assert after["original"] == before["original"]

    def test_that_are_missing_fail_when_strict(self, warm: Project) -> None:
        run = warm.run("--mpq-strict", "-k", "words-original")
        assert run.ret == 1
        run.stdout.fnmatch_lines(["words-original: no baseline; approve one: pytest evaluations *words-original*-baselines=new"])

    def test_that_are_damaged_are_said_in_a_sentence(self, warm: Project) -> None:
        warm.baseline("pictures").parent.mkdir(parents=True)
        warm.baseline("pictures").write_text('{"schema": 1')
        run = warm.run("-k", "pictures-original")
        assert run.ret == 1
        run.stdout.fnmatch_lines(["*pictures.json: not valid JSON*restore it, or delete it and use --mpq-update-baselines"])
        assert "Traceback" not in run.stdout.str()

    def test_that_cannot_be_written_are_said_and_lose_nothing(self, warm: Project) -> None:
        (warm.folder / "evaluations" / "baselines").symlink_to(warm.folder / "nowhere")
        run = warm.run("-k", "words", "--mpq-update-baselines")
        assert run.ret == 1
        run.stdout.fnmatch_lines(["*baselines*could not be written*"])
        assert "INTERNALERROR" not in run.stdout.str() + run.stderr.str()
        assert set(warm.outcomes().values()) == {"passed"}


class TestStore:
    def test_that_was_damaged_is_mended_and_said(self, warm: Project, undisturbed: bytes) -> None:
        file = min((warm.folder / "cache" / "mpq").glob("*/statistic/*.db"))
        with closing(sqlite3.connect(file)) as connection, connection:
            rows = connection.execute("SELECT min(id), rows FROM packs").fetchone()[1]
            connection.execute("UPDATE packs SET data = x'00' WHERE id IN (SELECT min(id) FROM packs)")
        run = warm.run()
        assert run.ret == 0
        run.stdout.fnmatch_lines(["store: 1 damaged entry made again: statistic *"])
        assert warm.out("results.csv").read_bytes() == undisturbed
        assert warm.results()["work"]["computed"] == {"bitstream": 0, "prediction": 0, "statistic": rows}

    def test_that_cannot_be_used_is_said_in_a_sentence(self, project: Project) -> None:
        project.write("file", "not a folder")
        run = project.run("--mpq-cache", "file", "-k", "words-opus-6k")
        assert run.ret == 1
        run.stdout.fnmatch_lines(["cannot use the store *file: Not a directory; choose another folder with --mpq-cache"])
        assert "store.py" not in run.stdout.str()

    def test_is_where_the_environment_says(self, project: Project) -> None:
        assert project.run("-k", "words-original", MPQ_CACHE=project.folder / "elsewhere").ret == 0
        assert count_entries(project.folder / "elsewhere", "prediction") == 6


class TestCodecFromOutside:
    def test_is_evaluated_with_no_other_edit(self, project: Project) -> None:
        example = ROOT / "docs" / "codec_example.py"
        assert len(example.read_text().splitlines()) <= 40
        shutil.copy(example, project.folder)
        project.edit("evaluations/suites/tried.toml", 'codecs = ["jpeg"]\nqualities = { jpeg = ["q5", "q90"] }\n', "")
        run = project.run("-p", "codec_example", "-k", "png8", "-n", "2")
        assert run.ret == 0
        rows = project.rows()
        assert list(rows) == [f"pictures-png8-{quality}" for quality in ("2c", "8c", "32c", "128c", "256c")]
        rates = [float(row["rate"]) for row in rows.values()]
        assert rates == sorted(rates)
        assert project.results()["provenance"]["codecs"]["png8"].startswith("pillow ")


class TestProgress:
    @pytest.fixture
    def on_a_terminal(self, project: Project) -> Iterator[Callable[..., str]]:
        master, slave = pty.openpty()

        def run(*arguments: str) -> str:
            environment = {"TERM": "xterm", "TRIED_DELAY": "0.5", "COLUMNS": "160"}
            process = project.start(*arguments, "-k", "words", environment=environment, stdout=slave, stderr=slave, stdin=slave)
            shown = b""
            while process.poll() is None or select.select([master], [], [], 0.1)[0]:
                if select.select([master], [], [], 0.1)[0]:
                    shown += os.read(master, 65536)
            assert process.returncode == 0, shown.decode()
            return shown.decode()

        yield run
        os.close(master)
        os.close(slave)

    @pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "with workers"])
    def test_shows_samples_done_and_time_left(self, on_a_terminal: Callable[..., str], workers: list[str]) -> None:
        shown = on_a_terminal(*workers)
        assert re.search(r"words-[a-z0-9-]+ [24]/6, \d+ s left", shown)
        assert "machine perceptual quality: tried" in shown
        assert "6/6," not in shown

    def test_says_what_a_process_is_at_before_there_are_samples(self, tmp_path: Path) -> None:
        note = ProgressWriter(str(tmp_path), "gw0")
        shown = []
        for told in (("photos: opening its data", 0, 0), ("", 0, 0), ("photos-jpeg-q5", 1, 4)):
            note(*told)
            shown.append(progress_line(tmp_path))
        assert shown == ["photos: opening its data", "", "photos-jpeg-q5 1/4"]
