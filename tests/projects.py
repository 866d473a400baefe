"""Projects to run pytest in: a folder with the evaluations, a suite, its model and its data."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]

SUITE = """\
name = "tried"

[[evaluation]]
name = "pictures"
task = "image_classification"
model = "python:model:sharpness"
dataset = { path = "python:model:pictures" }
codecs = ["jpeg"]
qualities = { jpeg = ["q5", "q90"] }

[[evaluation]]
name = "words"
task = "speech_recognition"
model = "python:model:pitch"
dataset = { path = "python:model:words" }
codecs = ["opus"]
qualities = { opus = ["6k", "24k"] }
"""

# Classifies pictures by how rough they are, which JPEG wears off, and names tones, which Opus keeps.
MODEL = """
import hashlib
import os
import time
from pathlib import Path

import numpy as np

from mpq_fixtures.signals import Dataset
from mpq_fixtures.signals import Audio, Image, Sample

TONES = {"low": 220, "middle": 440, "high": 880}


def picture(number):
    generator = np.random.default_rng(number)
    return Image(generator.normal(128, 2 + 2 * number, (32, 32, 3)).clip(0, 255).astype(np.uint8))


def tone(number):
    word = list(TONES)[number % 3]
    return Audio((0.3 * np.sin(2 * np.pi * TONES[word] * np.arange(8000) / 16000))[None].astype(np.float32), 16000)


def digest(*parts):
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def pictures():
    return Dataset(
        [Sample(f"p{n}", digest("p", n), 3072, lambda n=n: picture(n), lambda n=n: int(n >= 3)) for n in range(6)], ("smooth", "rough")
    )


def words():
    return Dataset([Sample(f"w{n}", digest("w", n), 16000, lambda n=n: tone(n), lambda n=n: list(TONES)[n % 3]) for n in range(6)])


class Model:
    batch_size = 2

    def __init__(self, answer):
        self.answer, self.calls = answer, 0

    def predict(self, signals):
        self.calls += 1
        test = os.environ.get("PYTEST_CURRENT_TEST", "")
        time.sleep(float(os.environ.get("TRIED_DELAY", "0")))
        if "TRIED_CRASH" in os.environ and f'[{os.environ["TRIED_CRASH"]}]' in test:
            os._exit(3)
        if "TRIED_PAUSE" in os.environ and f'[{os.environ["TRIED_PAUSE"]}]' in test and self.calls % 3 == 2:
            Path("paused").touch()
            time.sleep(5)
        return [self.answer(signal) for signal in signals]


def roughness(signal):
    return int(np.abs(np.diff(signal.pixels.astype(float), axis=1)).mean() > 8)


def word(signal):
    spectrum = np.abs(np.fft.rfft(signal.waveform[0]))
    found = np.argmax(spectrum) * signal.sample_rate / signal.waveform.shape[1]
    return min(TONES, key=lambda word: abs(TONES[word] - found))


def sharpness(device):
    return Model(roughness)


def pitch(device):
    return Model(word)
"""

# A report in no time: of a strict run there must be one.
BARE_REPORT = """
import sys
import types

module = sys.modules["mpq_fixtures.report.html"] = types.ModuleType("mpq_fixtures.report.html")


def write_report(folder, history=None):
    (folder / "report.html").write_text("")
    return folder / "report.html"


module.write_report = write_report
"""

IDS = [
    *("pictures-original", "pictures-jpeg-q5", "pictures-jpeg-q90"),
    *("words-original", "words-opus-6k", "words-opus-24k"),
]

PLACES = {"cache": "store", "out": "out", "history": "history"}


class Project:
    """A folder with the evaluations, a suite and its model, in which pytest is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "evaluations", folder / "evaluations", ignore=shutil.ignore_patterns("baselines", "suites", "__pycache__"))
        shutil.copy(ROOT / "conftest.py", folder)
        self.suites = folder / "evaluations" / "suites"
        self.suites.mkdir()
        self.write("evaluations/suites/tried.toml", SUITE)
        self.write("evaluations/suites/model.py", MODEL)
        self.write("pytest.ini", "[pytest]\naddopts = -ra\njunit_family = xunit1\n")
        self.write("no_report.py", 'import sys\n\nsys.modules["mpq_fixtures.report.html"] = None\n')
        self.write("bare_report.py", BARE_REPORT)

    def write(self, name: str, content: str) -> None:
        (self.folder / name).write_text(content)

    def edit(self, name: str, old: str, new: str) -> None:
        content = (self.folder / name).read_text()
        assert old in content
        self.write(name, content.replace(old, new))

    def variables(self, **own: object) -> dict[str, str]:
        """Return the variables of a process that works in the folder, and knows nothing of the pytest around it."""
        outer = ("PYTEST_", "MPQ_", "COV_", "SLURM_")
        known = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
        known |= {"OMP_NUM_THREADS": "1", "HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache"), "COLUMNS": "160"}
        known["PYTHONPATH"] = os.pathsep.join(filter(None, [str(self.folder), os.environ.get("PYTHONPATH")]))
        return known | {name: str(value) for name, value in own.items()}

    def start(self, *arguments: str, suite: str = "tried", report: bool = False, **settings: Any) -> subprocess.Popen[str]:
        """Start pytest as the leader of a process group of its own, as a shell does.

        Without ``report`` the HTML, which takes longer than all the rest, cannot be made, and the run goes on without; a strict run,
        which would fail by that, makes a bare one.
        """
        environment = self.variables(**settings.pop("environment", {}))
        chosen = (["--mpq-suite", suite] if suite else []) + (
            [] if report else ["-p", "bare_report" if "--mpq-strict" in arguments else "no_report"]
        )
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        settings = pipes | {"text": True, "errors": "backslashreplace"} | settings
        command = [sys.executable, "-m", "pytest", "evaluations", "-p", "no:cacheprovider", *chosen, *arguments]
        return subprocess.Popen(command, cwd=self.folder, env=environment, start_new_session=True, preexec_fn=heed_interrupts, **settings)

    def run(self, *arguments: str, suite: str = "tried", report: bool = False, **environment: object) -> pytest.RunResult:
        """Run pytest to its end."""
        started = time.monotonic()
        return self.finish(self.start(*arguments, suite=suite, report=report, environment=environment), started)

    @staticmethod
    def finish(process: subprocess.Popen[str], started: float) -> pytest.RunResult:
        output, errors = process.communicate(timeout=300)
        sys.stdout.write(output + errors)  # for the report of a test that fails
        return pytest.RunResult(process.returncode, output.splitlines(), errors.splitlines(), time.monotonic() - started)

    def start_and_pause(self, case: str, *arguments: str, report: bool = False) -> subprocess.Popen[str]:
        """Start pytest, and return in the middle of a case, where it waits for five seconds."""
        (self.folder / "paused").unlink(missing_ok=True)
        started = time.monotonic()
        process = self.start(*arguments, report=report, environment={"TRIED_PAUSE": case})
        while not (self.folder / "paused").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() - started < 300
            time.sleep(0.02)
        return process

    def stop(self, number: int, group: bool, *arguments: str, case: str = "words-opus-6k") -> pytest.RunResult:
        """Run pytest, and send it a signal in the middle of a case; to its workers too if to the group."""
        started = time.monotonic()
        process = self.start_and_pause(case, *arguments, report=number == signal.SIGINT)
        (os.killpg if group else os.kill)(process.pid, number)
        return self.finish(process, started)

    def out(self, name: str, folder: str = "reports/latest") -> Path:
        return self.folder / folder / name

    def rows(self, folder: str = "reports/latest") -> dict[str, dict[str, str]]:
        with self.out("results.csv", folder).open() as file:
            return {row["case"]: row for row in csv.DictReader(file)}

    def results(self, folder: str = "reports/latest") -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.out("results.json", folder).read_text())
        return content

    def outcomes(self, folder: str = "reports/latest") -> dict[str, str]:
        return {case["case"]: case["outcome"] for case in self.results(folder)["cases"]}

    def samples(self, folder: str = "reports/latest") -> pd.DataFrame:
        return pd.read_parquet(self.out("samples.parquet", folder))

    def baseline(self, evaluation: str) -> Path:
        return self.folder / "evaluations" / "baselines" / "tried" / f"{evaluation}.json"


def places(folder: Path) -> list[str]:
    """Return the options for a run in the checkout that puts its store, its results and its history into a folder."""
    return [text for name, place in PLACES.items() for text in (f"--mpq-{name}", str(folder / place))]


def run_suite(suite: Path, folder: Path, *arguments: str, **environment: str) -> list[dict[str, str]]:
    """Run a suite file that passes, with its store, results and hub cache in a folder, and return the rows of its results."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "evaluations",
        "-p",
        "no:cacheprovider",
        "--mpq-suite",
        str(suite),
        *places(folder),
        *arguments,
    ]
    env = {**os.environ, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    with (folder / "out" / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def heed_interrupts() -> None:
    """Take Ctrl-C and a hangup as in a terminal, also where the tests are a job in the background, or under nohup, and ignore them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
