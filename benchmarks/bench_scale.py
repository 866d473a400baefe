"""What grows with the number of cases and samples, at both ends of a run: collecting cases, and their intervals, judging and report."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from figures import Rows
from pytest_benchmark.fixture import BenchmarkFixture

from mpq_fixtures.gate.comparison import Margins, compare
from mpq_fixtures.gate.measured import Measured
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.ssim import SSIM
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.report.html import write_report
from mpq_fixtures.statistics.intervals import interval
from mpq_fixtures.statistics.resampling import values_of_points

EVALUATIONS, CODECS, QUALITIES = 50, ("jpeg", "webp"), [f"q{quality}" for quality in range(2, 82, 4)]
PICTURES = "image_classification"


def statistics(metric: Metric, samples: int, seed: int = 0) -> np.ndarray:
    """Stacked statistics such as the metric would keep."""
    generator = np.random.default_rng(seed)
    if isinstance(metric, Top1):
        return (generator.random(samples) < 0.8).astype(float)
    if isinstance(metric, SSIM):
        return generator.uniform(0.5, 1, samples)
    return generator.normal(30, 4, samples)


def seconds_to_draw() -> float:
    """Return how long numpy takes to draw 1,000 resamples of 300,000 samples and no more: the yardstick, 5 to 6 s on a quiet core."""
    started = time.process_time()
    for _ in range(50):
        np.random.RandomState(0).randint(0, 300_000, size=(4, 300_000), dtype=np.int64)
    return 5 * (time.process_time() - started)


@pytest.mark.benchmark(group="intervals of a case of 300,000 samples", timer=time.process_time)
@pytest.mark.parametrize("metrics", [[Top1()], [Top1(), ImagePSNR(), SSIM()]], ids=["top1", "top1, psnr and ssim"])
def test_intervals_of_a_case(benchmark: BenchmarkFixture, metrics: list[Metric], row: Rows) -> None:
    pairs = [(metric, statistics(metric, 300_000, seed)) for seed, metric in enumerate(metrics)]
    before = seconds_to_draw() if benchmark.enabled else 0.0
    found = benchmark.pedantic(lambda: [interval(metric, kept) for metric, kept in pairs], rounds=1)
    assert all(low < high for low, high, _ in found)
    if benchmark.enabled:
        drawing = (before + seconds_to_draw()) / 2
        names, spent = ", ".join(metric.name for metric in metrics), benchmark.stats.stats.min
        row(f"... intervals of 300,000 samples, {names}, over numpy's own draws", None, spent / drawing)
        row(f"intervals of a case of 300,000 samples, {names}, CPU", 5.0, spent, "s")


@pytest.mark.benchmark(group="a correlation over 31 points of 100,000 samples", timer=time.process_time)
def test_values_of_points(benchmark: BenchmarkFixture) -> None:
    points = [statistics(ImagePSNR(), 100_000, seed) for seed in range(31)]
    assert benchmark.pedantic(values_of_points, args=(ImagePSNR(), points), rounds=1).shape == (1001, 31)


@pytest.mark.benchmark(group="judging a case of 1,000 tracks", timer=time.process_time)
def test_judging_of_tracks(benchmark: BenchmarkFixture) -> None:
    generator = np.random.default_rng(0)
    tracks = [generator.normal(6, 3, (4, frames)) for frames in generator.integers(150, 300, 1000)]

    def measured(stems: list[np.ndarray]) -> Measured:
        names, sizes = [f"track-{number}" for number in range(1000)], np.full(1000, 10_000)
        return Measured("demucs-opus-6k", "bench", "demucs", "sdr", 1, {}, names, names, [""] * 1000, stems, sizes, sizes, {}, {})

    before, now = measured(tracks), measured([track + generator.normal(0, 0.1, track.shape) for track in tracks])
    found = benchmark(compare, before, now, SDR(1), Margins(0.05), 0.01 / 4000)
    assert found.effect is not None


def seconds_of(command: list[str], folder: Path) -> float:
    """Run a command, and return the seconds of the processor that it took."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "pytest", *command], cwd=folder, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert f"{EVALUATIONS * (1 + len(CODECS) * len(QUALITIES))} tests collected" in done.stdout
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.benchmark(group="collection of 2,000 cases")
def test_collection(benchmark: BenchmarkFixture, tmp_path: Path, row: Rows) -> None:
    evaluations = "".join(
        f'[[evaluation]]\nname = "vit_{number}"\ntask = "{PICTURES}"\nmodel = "vit"\n'
        f'dataset = {{ path = "imagefolder", data_dir = "photos" }}\ncodecs = {json.dumps(CODECS)}\n'
        f"[evaluation.qualities]\n" + "".join(f"{codec} = {json.dumps(QUALITIES)}\n" for codec in CODECS)
        for number in range(EVALUATIONS)
    )
    (tmp_path / "big.toml").write_text(f'name = "big"\n{evaluations}')
    (tmp_path / "test_big.py").write_text("def test_case(case, evaluate, gate):\n    gate(evaluate(case))\n")
    cases = [f"vit_{number}-{point}" for number in range(EVALUATIONS) for point in range(1 + len(CODECS) * len(QUALITIES))]
    (tmp_path / "test_plain.py").write_text(
        f"import pytest\n\n@pytest.mark.parametrize('case', {cases!r})\ndef test_case(case):\n    pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    quiet = ["--collect-only", "-q", "-p", "no:cacheprovider"]
    plugin = ["-p", "mpq_fixtures.plugin", "-p", "mpq_fixtures.fixtures", "--mpq-suite", "big.toml"]
    rounds = 3 if benchmark.enabled else 1
    own = min(seconds_of([*quiet, "test_plain.py"], tmp_path) for _ in range(rounds))
    ours: Callable[[], float] = lambda: seconds_of([*quiet, *plugin, "test_big.py"], tmp_path)  # noqa: E731
    spent = [benchmark.pedantic(ours, rounds=1), *(ours() for _ in range(1, rounds))]
    row("collection of 2,000 cases, over pytest's own", 1.5, min(spent) - own, "s")


def run_of_many(folder: Path) -> None:
    """Leave what a run of 2,050 cases leaves: results.json, and samples.parquet with a small picture of each case."""
    generator, cases = np.random.default_rng(0), []

    def measure(value: float, unit: str = "") -> dict[str, Any]:
        return {
            "value": value, "ci_low": 0.98 * value, "ci_high": 1.02 * value, "unit": unit, "higher_is_better": True, "tolerance": 0.01,
            "bounds": [0, 1], "settings": {}, "version": 1, "missing": 0, "why_missing": "", "packages": {},
        }  # fmt: skip

    for number in range(EVALUATIONS):
        for codec, quality in [("original", ""), *((codec, quality) for codec in CODECS for quality in QUALITIES)]:
            value, rate = generator.uniform(0.5, 0.95), float(np.exp(generator.uniform(-3, 2)))
            similar = {"psnr": measure(generator.normal(30, 4), "dB"), "ssim": measure(generator.uniform(0.7, 0.99))}
            cases.append({
                "case": f"vit_{number}-{codec}{'-' if quality else ''}{quality}", "suite": "big", "evaluation": f"vit_{number}",
                "task": PICTURES, "model": "a model", "dataset": "a set", "codec": codec, "quality": quality, "samples": 1000,
                "metric": "top1", "value": value, "ci_low": 0.98 * value, "ci_high": 1.02 * value, "reference": 0.96,
                "retention": value / 0.96, "rate": rate, "rate_mean": rate, "rate_unit": "bpp", "bytes": int(1e6 * rate),
                "compression_ratio": 24 / rate, "baseline": value, "baseline_rate": rate, "verdict": "same", "reason": "",
                "outcome": "passed", "failures": [], "tolerance": 0.02, "seconds": {}, "bytes_payload": int(9e5 * rate),
                "bytes_container": int(8e4 * rate), "bytes_side": int(2e4 * rate), "rate_without_container": 0.9 * rate,
                "metrics": {"top1": measure(value, "accuracy")} | (similar if quality else {}),
            })  # fmt: skip
    created = "2026-07-01T02:00:00+00:00"
    (folder / "results.json").write_text(json.dumps({"schema": 2, "created": created, "complete": True, "cases": cases}))
    picture = [{"label": "picture", "media_type": "image/png", "data": generator.bytes(8000)}]
    rows = [{"case": case["case"], "sample": "one", "target": "a dog", "prediction": "a cat", "example": picture} for case in cases]
    pd.DataFrame(rows).to_parquet(folder / "samples.parquet")


@pytest.mark.benchmark(group="report of 2,000 cases")
def test_report(benchmark: BenchmarkFixture, tmp_path: Path, row: Rows) -> None:
    run_of_many(tmp_path)
    if benchmark.enabled:
        write_report(tmp_path)  # the script that charts need is bundled once a machine
    working = time.process_time()
    page = benchmark.pedantic(write_report, args=(tmp_path,), rounds=1)
    row("... the report of 2,000 cases, without drawing, CPU", None, time.process_time() - working, "s")
    row("the report of 2,000 cases", 15.0, page.stat().st_size / 1e6, "MB")
