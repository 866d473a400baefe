"""A browser, and folders of results as runs leave them: passed, failed, interrupted, empty and large."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mpq_fixtures.report.html import write_report

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
ROOT = Path(__file__).parent.parent
CODECS, QUALITIES = ("jpeg", "webp"), [f"q{quality}" for quality in range(2, 82, 4)]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, which ``MPQ_CHROMIUM`` may name; where ``MPQ_BROWSER_REQUIRED`` is set, a machine without one fails."""
    named = os.environ.get("MPQ_CHROMIUM", "")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        lack = f"there is no {named or ' nor '.join(NAMES)} here: apt-get install chromium, or name one in MPQ_CHROMIUM"
        if os.environ.get("MPQ_BROWSER_REQUIRED"):
            pytest.fail(lack, pytrace=False)
        pytest.skip(lack)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results of a real run: four samples of every pocket evaluation at a point or two."""
    folder = tmp_path_factory.mktemp("run")
    points = [f"--mpq-{name}={folder / name}" for name in ("out", "cache", "baselines", "history")]
    command = [sys.executable, "-m", "pytest", "evaluations", "-q", "-p", "no:cacheprovider", "--mpq-samples", "4", *points]
    done = subprocess.run([*command, "-k", "original or jpeg or opus-6k"], cwd=ROOT, capture_output=True, text=True)
    if not (folder / "out" / "results.json").exists():
        pytest.fail(f"the run left no results:\n{done.stdout[-3000:]}{done.stderr[-1000:]}", pytrace=False)
    return folder / "out"


def green(content: dict[str, Any]) -> None:
    """Let every case pass, held against a baseline of the same value."""
    for case in content["cases"]:
        if case["metric"]:
            case |= {"outcome": "passed", "verdict": "same", "reason": "", "baseline": case["value"], "baseline_rate": case["rate"]}
    content["complete"], content["exit_status"] = True, 0


def red(content: dict[str, Any]) -> None:
    """Let some cases be worse than approved, one have lost a sample, and one have failed with a long word and hostile text."""
    green(content)
    measured = [case for case in content["cases"] if case["metric"] and case["codec"] != "original"]
    for case in measured[:3]:
        case |= {"outcome": "failed", "verdict": "regressed", "baseline": case["value"] + 0.2, "reason": f"{case['case']}: fell by 0.2"}
    reason = "ValueError: " + "long" * 80 + " <b>bold</b> <script>alert(1)</script>"
    failure = {"sample": "sample-" + "0" * 64, "step": "decode", "reason": reason}
    measured[-1] |= {"outcome": "failed", "reason": f"1 of 4 samples failed\n{reason}", "failures": [failure]}
    content["exit_status"] = 1


def partial(content: dict[str, Any]) -> None:
    """Leave what an interrupted run leaves: half of the cases were not run."""
    figures = ("value", "ci_low", "ci_high", "reference", "retention", "rate", "rate_mean", "kbps", "compression_ratio", "metric", "bytes")
    for case in content["cases"][len(content["cases"]) // 2 :]:
        case |= dict.fromkeys(figures)
        case |= {"outcome": "not run", "verdict": "", "reason": "the run was interrupted", "samples": 0, "metrics": {}, "failures": []}
    content["complete"], content["exit_status"] = False, 2


def empty(content: dict[str, Any]) -> None:
    """Leave no case at all."""
    content["cases"], content["similarity"], content["decisions"], content["pooled"] = [], [], [], []


def picture(generator: np.random.Generator) -> bytes:
    """Return a small PNG unlike any other."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(generator.integers(0, 256, (48, 64, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def large(folder: Path) -> None:
    """Leave what a run of 2,050 cases leaves: two codecs of twenty qualities in fifty evaluations.

    The first has 200 samples, and pictures: an example at every point, which at the coded ones is a flip.
    """
    generator = np.random.default_rng(0)
    cases, rows = [], []
    for number in range(50):
        for codec, quality in [("original", ""), *((codec, quality) for codec in CODECS for quality in QUALITIES)]:
            step = QUALITIES.index(quality) if quality else 24
            value = round(0.96 - 0.5 * float(np.exp(-step / 6)) + 0.01 * float(generator.normal()), 4)
            rate = float(np.exp(-3 + step / 5))
            main = {
                "value": value, "ci_low": value - 0.02, "ci_high": value + 0.02, "unit": "accuracy", "higher_is_better": True,
                "tolerance": 0.01, "bounds": [0, 1], "settings": {}, "version": 1, "missing": 0, "why_missing": "", "packages": {},
                "method": "Wilson",
            }  # fmt: skip
            cases.append({
                "case": f"vit_{number}-{codec}{'-' if quality else ''}{quality}", "suite": "big", "evaluation": f"vit_{number}",
                "task": "image_classification", "targets": "labels", "model": "a model", "dataset": "a set", "codec": codec,
                "quality": quality, "samples": 200, "metric": "top1", "value": value, "ci_low": value - 0.02, "ci_high": value + 0.02,
                "reference": 0.96, "retention": value / 0.96, "retention_low": value / 0.96 - 0.01, "retention_high": value / 0.96 + 0.01,
                "rate": rate, "rate_low": 0.9 * rate, "rate_high": 1.1 * rate, "rate_mean": rate, "rate_unit": "bpp",
                "bytes": int(1e6 * rate), "compression_ratio": 24 / rate, "baseline": value, "baseline_rate": rate, "verdict": "same",
                "reason": "", "notes": "", "outcome": "passed", "failures": [], "tolerance": 0.02, "seconds": {},
                "metrics": {"top1": main}, "bytes_payload": int(9e5 * rate), "bytes_container": int(1e5 * rate), "bytes_side": 0,
            })  # fmt: skip
            for place in range(200 if number == 0 else 1):
                row = {"case": cases[-1]["case"], "sample": f"s{place}", "target": "dog", "prediction": "cat", "score": 0.0, "rate": rate}
                if number == place == 0:
                    labels = ["cat", "original dog"] if quality else ["dog"]
                    row["example"] = [{"label": label, "media_type": "image/png", "data": picture(generator)} for label in labels]
                    row |= (
                        {"shown": "example harmful", "original_prediction": "dog", "original_score": 1.0}
                        if quality
                        else {"shown": "example"}
                    )
                rows.append(row)
    content = {"schema": 2, "created": "2026-07-01T02:00:00+00:00", "complete": True, "exit_status": 0, "cases": cases}
    (folder / "results.json").write_text(json.dumps(content))
    pd.DataFrame(rows).to_parquet(folder / "samples.parquet")


def worse(content: dict[str, Any], samples: pd.DataFrame) -> pd.DataFrame:
    """Let the first evaluation's JPEG at quality 20 be what it was at 5, and the case at 90 be lost; return the samples of that run."""
    cases = {case["case"]: case for case in content["cases"]}
    low, high, lost = (next(name for name in cases if name.endswith(f"jpeg-q{quality}")) for quality in (5, 20, 90))
    names = {key: cases[high][key] for key in ("case", "quality")}
    cases[high] |= {**cases[low], **names}
    content["cases"] = [case for name, case in cases.items() if name != lost]
    content["provenance"]["packages"]["pillow"] = "0.1"
    moved = samples[samples["case"] == low].assign(case=high)
    return pd.concat([samples[~samples["case"].isin((high, lost))], moved])


CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {"green": green, "red": red, "partial": partial, "empty": empty}


@pytest.fixture(scope="session")
def page_of(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the report of a state, built once by mpq itself from the files of a run."""
    built: dict[str, Path] = {}

    def build(state: str) -> Path:
        if state not in built:
            folder = tmp_path_factory.mktemp(state)
            if state == "large":
                large(folder)
            else:
                content = json.loads((run / "results.json").read_text())
                CHANGES[state](content)
                (folder / "results.json").write_text(json.dumps(content))
                samples = pd.read_parquet(run / "samples.parquet")
                kept = {case["case"] for case in content["cases"] if case["metric"]}
                samples[samples["case"].isin(kept)].to_parquet(folder / "samples.parquet")
            built[state] = write_report(folder)
        return built[state]

    return build


@pytest.fixture(scope="session")
def comparison(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two runs, of which the second is worse, as the command writes it."""
    folders = [tmp_path_factory.mktemp(name) for name in ("before", "after")]
    for folder in folders:
        content, samples = json.loads((run / "results.json").read_text()), pd.read_parquet(run / "samples.parquet")
        if folder == folders[1]:
            samples = worse(content, samples)
        (folder / "results.json").write_text(json.dumps(content))
        samples.to_parquet(folder / "samples.parquet")
        write_report(folder)
    command = [sys.executable, "-m", "mpq_fixtures", "report", *map(str, folders)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())
