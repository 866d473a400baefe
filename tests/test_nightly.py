"""The recipes for the night: their shell steps, run as GitHub and GitLab run them, over the example project on machines of their own.

What is not shell is done here: cloning, caches (a key is written once), artifacts, the order of steps, what runs after a failure.
GitHub's ``gh`` is stood in for by a script that keeps one issue; GitLab's API by a server on this machine, which real curl talks to.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest
import yaml
from installed_mpq import EXAMPLE, ROOT, Machine, build_wheel

RECIPES = ROOT / "docs" / "nightly"
CASES = ["keypad-original", "keypad-amr-4.75k", "keypad-amr-12.2k", "keypad-opus-6k", "keypad-opus-24k"]
FAULT = ("CLEAR = 0.5", "CLEAR = 0.8")
TITLE = "Perception: the night is red"
GH = """\
#!{python}
# Keeps one issue in a file, and what it was told in another.
import json, os, sys
from pathlib import Path

issue, calls = Path({folder!r}, "issue"), Path({folder!r}, "calls")
arguments = sys.argv[1:]
options = dict(zip(arguments, arguments[1:]))
body = Path(options["--body-file"]).read_text() if "--body-file" in options else options.get("--comment", "")
told = {{"call": " ".join(arguments[:2]), "arguments": arguments, "body": body}}
told |= {{"token": os.environ["GH_TOKEN"], "repo": os.environ["GH_REPO"]}}
with calls.open("a") as file:
    file.write(json.dumps(told) + "\\n")
if arguments[:2] == ["issue", "list"]:
    assert options["--jq"] == ".[0].number // empty"
    print(issue.read_text() if issue.exists() else "", end="")
elif arguments[:2] == ["issue", "create"]:
    issue.write_text("7\\n")
elif arguments[:2] == ["issue", "close"]:
    issue.unlink()
"""


@dataclass
class Night:
    """What a night left: whether it was green, its log, its artifact, the summary on its page, and what it said of issues."""

    green: bool
    log: str
    artifact: Path
    summary: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)

    @property
    def results(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.artifact / "latest" / "results.json").read_text())
        return content

    @property
    def computed(self) -> dict[str, int]:
        return dict(self.results["work"]["computed"])

    @property
    def verdicts(self) -> dict[str, str]:
        return {case["case"]: case["verdict"] for case in self.results["cases"]}

    @property
    def said(self) -> list[str]:
        return [call["call"] for call in self.calls]


class Forge:
    """A repository of the example project, with what a forge keeps from night to night."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder, self.wheels, self.nights = folder, wheels, 0
        self.repository, self.work, self.caches = folder / "repository", folder / "work", dict[str, Path]()
        shutil.copytree(EXAMPLE, self.repository, ignore=shutil.ignore_patterns("__pycache__", "reports", ".mpq"))
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit("Read keys")

    def git(self, *arguments: str) -> None:
        identity = ["-c", "user.name=Night", "-c", "user.email=night@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=self.repository, check=True)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def edit(self, old: str, new: str) -> None:
        file = self.repository / "keypad.py"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        self.commit(f"Say {new}")

    def begin(self) -> tuple[Machine, Path]:
        """Set up another night's machine with a clone of the repository, and name the folder that the night fills."""
        self.nights += 1
        night = self.folder / f"night{self.nights}"
        shutil.rmtree(self.work, ignore_errors=True)
        machine = Machine(night, self.wheels)
        machine.environment["CI"] = "true"
        self.git("clone", "--quiet", str(self.repository), str(self.work))
        return machine, night

    def save(self, key: str, paths: list[str]) -> None:
        assert key not in self.caches, "a cache is written once"
        self.caches[key] = self.folder / f"cache{len(self.caches)}"
        for path in paths:
            if (self.work / path).exists():
                shutil.copytree(self.work / path, self.caches[key] / path)

    def restore(self, prefix: str) -> None:
        found = [cache for key, cache in self.caches.items() if key.startswith(prefix)]
        if found and found[-1].exists():
            shutil.copytree(found[-1], self.work, dirs_exist_ok=True)


class GitHub(Forge):
    """Runs a workflow of one job, step by step."""

    recipe = yaml.safe_load((RECIPES / "github.yml").read_text())

    def night(self, event: str = "schedule", approve: bool = False, **environment: str) -> Night:
        machine, folder = self.begin()
        stand_in = machine.bin / "gh"
        stand_in.write_text(GH.format(python=machine.bin / "python", folder=str(self.folder)))
        stand_in.chmod(0o755)
        (self.folder / "calls").write_text("")
        [job] = self.recipe["jobs"].values()
        assert job["defaults"] == {"run": {"shell": "bash"}}
        runner = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": "somebody/keypad",
            "GITHUB_RUN_ID": str(1000 + self.nights),
            "GITHUB_RUN_ATTEMPT": "1",
        }
        night = Night(True, "", folder / "artifact")
        for number, step in enumerate(job["steps"]):
            always, _, wanted = step.get("if", "").partition(" && ")
            assert (always, wanted) in {("", ""), ("always()", ""), ("always()", "github.event_name == 'schedule'")}
            if not (night.green or always) or (wanted and event != "schedule"):
                continue
            known = {
                "github.token": "a-token",
                "github.repository": runner["GITHUB_REPOSITORY"],
                "github.run_id": runner["GITHUB_RUN_ID"],
                "github.run_attempt": "1",
                "inputs.approve || ''": "true" if approve else "",
                "job.status": "success" if night.green else "failure",
            }
            if "uses" in step:
                self._use(step["uses"], filled(step.get("with", {}), known), night)
                continue
            page = folder / f"summary{number}"
            page.write_text("")
            script = folder / f"step{number}.sh"
            script.write_text(step["run"])
            given = filled(self.recipe["env"] | step.get("env", {}), known)
            own = runner | given | {"GITHUB_STEP_SUMMARY": str(page)} | environment
            run = machine.run("bash", "--noprofile", "--norc", "-eo", "pipefail", str(script), cwd=self.work, **own)
            night.green, night.log, night.summary = (
                night.green and run.returncode == 0,
                night.log + run.stdout,
                night.summary + page.read_text(),
            )
        night.calls = [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        return night

    def _use(self, action: str, inputs: dict[str, str], night: Night) -> None:
        name, _, version = action.partition("@")
        assert re.fullmatch(r"v\d+", version)
        if name == "actions/cache/restore":
            self.restore(inputs["restore-keys"])
        elif name == "actions/cache/save":
            self.save(inputs["key"], inputs["path"].split())
        elif name == "actions/upload-artifact":
            if (self.work / inputs["path"]).exists():
                shutil.copytree(self.work / inputs["path"], night.artifact)
        else:
            assert name in ("actions/checkout", "actions/setup-python")


class GitLab(Forge):
    """Runs a job of a pipeline: its script in one shell, what comes after it in another."""

    recipe = yaml.safe_load((RECIPES / "gitlab.yml").read_text())

    def __init__(self, folder: Path, wheels: Path, api: Issues) -> None:
        super().__init__(folder, wheels)
        self.api = api

    def night(self, **environment: str) -> Night:
        machine, folder = self.begin()
        [job] = self.recipe.values()
        runner = {
            "GITLAB_CI": "true",
            "CI_API_V4_URL": self.api.url,
            "CI_PROJECT_ID": "42",
            "CI_PROJECT_DIR": str(self.work),
            "CI_JOB_URL": f"https://gitlab.example/somebody/keypad/-/jobs/{1000 + self.nights}",
            "NIGHTLY_TOKEN": "a-token",
        }
        environment = runner | job["variables"] | environment
        self.api.calls.clear()
        assert job["cache"]["when"] == job["artifacts"]["when"] == "always"
        self.restore(job["cache"]["key"])

        def shell(lines: list[str], **more: str) -> subprocess.CompletedProcess[str]:
            return machine.run("bash", "-eo", "pipefail", "-c", "\n".join(lines), cwd=self.work, **environment, **more)

        run = shell(job["script"])
        after = shell(job["after_script"], CI_JOB_STATUS="failed" if run.returncode else "success")
        assert after.returncode == 0
        self.save(f"{job['cache']['key']}-{self.nights}", job["cache"]["paths"])
        assert job["artifacts"]["paths"] == ["reports/"]
        if (self.work / "reports").exists():
            shutil.copytree(self.work / "reports", folder / "artifact")
        return Night(run.returncode == 0, run.stdout + after.stdout, folder / "artifact", calls=list(self.api.calls))


def filled(values: dict[str, Any], known: dict[str, str]) -> dict[str, str]:
    """Put what GitHub knows into its expressions."""
    return {name: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: known[found[1]], str(value)) for name, value in values.items()}


class Issues:
    """The part of GitLab's API that keeps issues: one of them, and a list of what it was asked."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.open = False
        issues = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None:
                pass

            def answer(self) -> None:
                path = urlsplit(self.path)
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                call = f"{self.command} {path.path.removeprefix('/api/v4')}"
                values = {name: value for name, [value] in parse_qs(path.query or sent).items()}
                issues.calls.append({"call": call, "token": self.headers["PRIVATE-TOKEN"], **values})
                if call == "POST /projects/42/issues":
                    issues.open = True
                if values.get("state_event") == "close":
                    issues.open = False
                content = json.dumps([{"iid": 7}] if issues.open and self.command == "GET" else []).encode()
                self.send_response(200 if self.command != "POST" else 201)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v4"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@dataclass
class Nights:
    """Four nights, the second and third of them after a fault came in, the fourth after it went."""

    green: Night
    red: Night
    still_red: Night
    green_again: Night


def four_nights(forge: GitHub | GitLab) -> Nights:
    green = forge.night()
    forge.edit(*FAULT)
    red, still_red = forge.night(), forge.night()
    forge.edit(*reversed(FAULT))
    return Nights(green, red, still_red, forge.night())


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def github(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    return four_nights(GitHub(tmp_path_factory.mktemp("github"), wheels))


@pytest.fixture(scope="module")
def issues() -> Iterator[Issues]:
    issues = Issues()
    yield issues
    issues.server.shutdown()
    issues.server.server_close()


@pytest.fixture(scope="module")
def gitlab(wheels: Path, issues: Issues, tmp_path_factory: pytest.TempPathFactory) -> Nights:
    if shutil.which("curl", path="/usr/local/bin:/usr/bin:/bin") is None:
        pytest.skip("no curl here, which the recipe calls")
    return four_nights(GitLab(tmp_path_factory.mktemp("gitlab"), wheels, issues))


@pytest.fixture(params=["github", "gitlab"])
def nights(request: pytest.FixtureRequest) -> Nights:
    found: Nights = request.getfixturevalue(request.param)
    return found


class TestNights:
    """What both recipes do."""

    def test_are_green_and_red_as_the_gate_says(self, nights: Nights) -> None:
        assert [night.green for night in vars(nights).values()] == [True, False, False, True]
        assert nights.green.verdicts == nights.green_again.verdicts == dict.fromkeys(CASES, "same")
        assert nights.red.verdicts == nights.still_red.verdicts == dict.fromkeys(CASES, "regressed")

    def test_install_mpq_on_a_bare_machine(self, nights: Nights) -> None:
        for night in vars(nights).values():
            assert re.search(r"Successfully installed machine-perceptual-quality-\S+", night.log)

    def test_reuse_the_store_of_earlier_nights(self, nights: Nights) -> None:
        # Two workers may both score the originals, so statistics have no exact number where there are some to compute.
        assert (nights.green.computed["bitstream"], nights.green.computed["prediction"]) == (160, 200)
        assert (nights.red.computed["bitstream"], nights.red.computed["prediction"]) == (0, 200)
        assert nights.still_red.computed == nights.green_again.computed == {"bitstream": 0, "prediction": 0, "statistic": 0}

    def test_leave_the_report_red_or_green(self, nights: Nights) -> None:
        for night in vars(nights).values():
            assert {path.name for path in (night.artifact / "latest").iterdir()} >= {"report.html", "results.csv", "samples.parquet"}
            assert "machine perceptual quality: calls" in (night.artifact / "night.txt").read_text()

    def test_leave_junit_with_the_figures(self, nights: Nights) -> None:
        for night, verdict in ((nights.green, "same"), (nights.red, "regressed")):
            tests = ElementTree.parse(night.artifact / "junit.xml").iter("testcase")
            found = [{item.get("name"): item.get("value") for item in test.iter("property")} for test in tests]
            assert {one["case"]: one["verdict"] for one in found if one} == dict.fromkeys(CASES, verdict)

    def test_compare_with_the_night_before(self, nights: Nights) -> None:
        compared = [re.findall(r"^(\d+) cases: (.*)$", night.log, re.MULTILINE) for night in vars(nights).values()]
        assert compared == [[], [("5", "5 regressed")], [("5", "5 same")], [("5", "5 improved")]]

    def test_know_the_commit(self, nights: Nights) -> None:
        commits = [night.results["provenance"]["commit"] for night in vars(nights).values()]
        assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits)
        assert commits[0] != commits[1] == commits[2] != commits[3]


class TestGitHub:
    def test_says_nothing_while_it_is_green(self, github: Nights) -> None:
        assert github.green.said == ["issue list"]

    def test_opens_an_issue_that_says_what_is_wrong_and_where_to_look(self, github: Nights) -> None:
        assert github.red.said == ["issue list", "label create", "issue create"]
        created = github.red.calls[-1]
        assert created["arguments"][2:6] == ["--title", TITLE, "--label", "nightly-perception"]
        assert (created["token"], created["repo"]) == ("a-token", "somebody/keypad")
        assert (
            ": failure. The report is among the artifacts of https://github.example/somebody/keypad/actions/runs/1002\n```\n"
            in created["body"]
        )
        assert created["body"].endswith("```\n")
        for case in CASES:
            assert f"--mpq-case {case} --mpq-update-baselines" in created["body"]

    def test_comments_it_while_it_stays_red(self, github: Nights) -> None:
        assert github.still_red.said == ["issue list", "issue comment"]
        assert github.still_red.calls[-1]["arguments"][2] == "7"
        assert "/runs/1003" in github.still_red.calls[-1]["body"]

    def test_closes_it_when_it_is_green_again(self, github: Nights) -> None:
        assert github.green_again.said == ["issue list", "issue close"]
        assert github.green_again.calls[-1]["body"] == "Green again: https://github.example/somebody/keypad/actions/runs/1004"

    def test_shows_the_cases_on_the_runs_page(self, github: Nights) -> None:
        for night, verdict in ((github.green, "same"), (github.red, "regressed")):
            assert verdict in night.summary
            assert "keypad" in night.summary

    def test_opens_an_issue_where_nothing_could_be_installed(self, wheels: Path, tmp_path: Path) -> None:
        night = GitHub(tmp_path, wheels).night(PIP_FIND_LINKS="")
        assert (night.green, night.said) == (False, ["issue list", "label create", "issue create"])
        assert "pytest" not in night.log

    def test_keeps_baselines_in_the_cache_where_they_are_not_committed(self, wheels: Path, tmp_path: Path) -> None:
        forge = GitHub(tmp_path, wheels)
        shutil.rmtree(forge.repository / "tests" / "perception" / "baselines")
        with (forge.repository / "pyproject.toml").open("a") as file:
            file.write('mpq_baselines = ".mpq/baselines"\n')
        forge.commit("Keep baselines in the cache")
        first = forge.night(event="workflow_dispatch", approve=True)
        assert (first.green, first.verdicts) == (True, dict.fromkeys(CASES, "new"))
        second = forge.night()
        assert (second.green, second.verdicts) == (True, dict.fromkeys(CASES, "same"))

    def test_started_by_hand_writes_no_issue(self, wheels: Path, tmp_path: Path) -> None:
        night = GitHub(tmp_path, wheels).night(event="workflow_dispatch", PIP_FIND_LINKS="")
        assert (night.green, night.said) == (False, [])


class TestGitLab:
    PROJECT = "/projects/42/issues"

    def test_says_nothing_while_it_is_green(self, gitlab: Nights) -> None:
        assert gitlab.green.calls == [
            {"call": f"GET {self.PROJECT}", "token": "a-token", "labels": "nightly-perception", "state": "opened"}
        ]

    def test_opens_an_issue_that_says_what_is_wrong_and_where_to_look(self, gitlab: Nights) -> None:
        assert gitlab.red.said == [f"GET {self.PROJECT}", f"POST {self.PROJECT}"]
        created = gitlab.red.calls[-1]
        assert (created["token"], created["title"], created["labels"]) == ("a-token", TITLE, "nightly-perception")
        assert (
            ": failed. The report is among the artifacts of https://gitlab.example/somebody/keypad/-/jobs/1002\n```\n"
            in created["description"]
        )
        for case in CASES:
            assert f"--mpq-case {case} --mpq-update-baselines" in created["description"]

    def test_comments_it_while_it_stays_red(self, gitlab: Nights) -> None:
        assert gitlab.still_red.said == [f"GET {self.PROJECT}", f"POST {self.PROJECT}/7/notes"]
        assert "/jobs/1003" in gitlab.still_red.calls[-1]["body"]

    def test_closes_it_when_it_is_green_again(self, gitlab: Nights) -> None:
        assert gitlab.green_again.said == [f"GET {self.PROJECT}", f"POST {self.PROJECT}/7/notes", f"PUT {self.PROJECT}/7"]
        assert gitlab.green_again.calls[1]["body"] == "Green again: https://gitlab.example/somebody/keypad/-/jobs/1004"
        assert gitlab.green_again.calls[2]["state_event"] == "close"

    def test_without_a_token_writes_no_issue_and_says_so(self, wheels: Path, issues: Issues, tmp_path: Path) -> None:
        night = GitLab(tmp_path, wheels, issues).night(PIP_FIND_LINKS="", NIGHTLY_TOKEN="")
        assert (night.green, night.calls) == (False, [])
        assert "No issue is written: NIGHTLY_TOKEN is not set." in night.log

    def test_opens_an_issue_where_nothing_could_be_installed(self, wheels: Path, issues: Issues, tmp_path: Path) -> None:
        night = GitLab(tmp_path, wheels, issues).night(PIP_FIND_LINKS="")
        assert (night.green, night.said) == (False, [f"GET {self.PROJECT}", f"POST {self.PROJECT}"])
