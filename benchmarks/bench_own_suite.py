"""What an own suite costs beside the calls of the libraries that it makes, and how much memory it takes for how many pictures.

Run with ``pytest benchmarks/bench_own_suite.py --benchmark-enable -s``. A thousand pictures of 500x375, a ViT-Ti/16 (Touvron et al. 2021,
arXiv 2012.12877) with random weights, JPEG at quality 20. Both sides have the same threads.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage
from pytest_benchmark.fixture import BenchmarkFixture

from mpq_fixtures.clock import Clock
from mpq_fixtures.codecs.jpeg import Jpeg
from mpq_fixtures.datasets import load_dataset
from mpq_fixtures.datasets.labels import in_models_order
from mpq_fixtures.devices import cores
from mpq_fixtures.evaluate import Workbench, evaluate
from mpq_fixtures.models import OpenModel
from mpq_fixtures.record import Record
from mpq_fixtures.store import open_store
from mpq_fixtures.suite import Evaluation
from mpq_fixtures.suite_file import load_suite

QUALITY = 20
LABELS = ("field", "forest", "harbour", "street")
BATCHES = (1, 4, 8, 16, 32)
SUITE = """
name = "own"
[[evaluation]]
name = "vit_own"
task = "image_classification"
model = "vit"
dataset = { path = "imagefolder", data_dir = "photos" }
"""


def write_pictures(folder: Path, count: int) -> None:
    """Write JPEG files like photographs in detail and size, some 60 kB each."""
    for number in range(count):
        generator = np.random.default_rng(number)
        coarse = PILImage.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8)).resize((500, 375), PILImage.Resampling.BICUBIC)
        pixels = np.asarray(coarse, np.int16) + generator.integers(-12, 13, (375, 500, 3))
        file = folder / LABELS[number % len(LABELS)] / f"{number:05}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=90)


def write_vit(folder: Path) -> None:
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    torch.manual_seed(0)
    names = dict(enumerate(LABELS))
    tiny = ViTConfig(hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, id2label=names,
                     label2id={name: index for index, name in names.items()})  # fmt: skip
    ViTForImageClassification(tiny).save_pretrained(folder)
    ViTImageProcessorPil().save_pretrained(folder)


BRIGHTNESS = """
class Brightness:
    def predict(self, signals):
        return [int(signal.pixels.mean()) % 4 for signal in signals]


def load(device):
    return Brightness()
"""

MEMORY = """
import re, sys
from pathlib import Path
import bench_own_suite as bench

own = bench.load_suite(Path(sys.argv[1]))[0]
record = bench.measure(own, Path(sys.argv[2]))
peak = re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())  # getrusage would give the parent's, too
print(record.samples, int(peak[1]) / 1024)
"""


def pictures() -> int:
    return int(os.environ.get("MPQ_BENCH_PICTURES", "1000"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    import datasets

    folder = tmp_path_factory.mktemp("own")
    datasets.config.HF_DATASETS_CACHE = folder / "tables"
    write_pictures(folder / "photos", pictures())
    write_vit(folder / "vit")
    (folder / "own.toml").write_text(SUITE)
    return load_suite(folder / "own.toml")[0]


def measure(own: Evaluation, store: Path) -> Record:
    """Open the data set and evaluate JPEG at q20, from nothing."""
    model = OpenModel(own, "cpu", cores())
    dataset = in_models_order(load_dataset(own), own, lambda: model.labels)
    case = next(case for case in own.cases if case.point == f"jpeg-q{QUALITY}")
    return evaluate(case, dataset, model, Jpeg(), Workbench(open_store(store), Clock(), cores()))


@dataclass(frozen=True)
class Spent:
    """Seconds for each picture: those that passed, and those that processors worked, which other programs disturb less."""

    passed: float
    worked: float

    def mean(self, other: Spent) -> Spent:
        return Spent((self.passed + other.passed) / 2, (self.worked + other.worked) / 2)


def library_calls(folder: Path, files: Sequence[Path]) -> dict[str, Spent]:
    """Time encode, decode, preprocess and forward by the libraries alone, one after the other, the last at the best of `BATCHES`."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    torch.set_num_threads(cores())
    model = AutoModelForImageClassification.from_pretrained(folder / "vit").eval()
    processor = AutoImageProcessor.from_pretrained(folder / "vit", backend="pil")

    def timed(action: Callable[[Any], Any], items: Sequence[Any]) -> tuple[Spent, list[Any]]:
        passed, worked = time.perf_counter(), time.process_time()
        results = [action(item) for item in items]
        return Spent((time.perf_counter() - passed) / len(files), (time.process_time() - worked) / len(files)), results

    def encode(picture: PILImage.Image) -> bytes:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    pictures = [PILImage.open(file).convert("RGB") for file in files]
    encoded, streams = timed(encode, pictures)
    decoded, received = timed(lambda data: PILImage.open(io.BytesIO(data)).convert("RGB"), streams)
    prepared, inputs = timed(lambda picture: processor(picture, return_tensors="pt").pixel_values, received)
    with torch.inference_mode():
        batched = [[torch.cat(inputs[first : first + size]) for first in range(0, len(inputs), size)] for size in BATCHES]
        model(pixel_values=batched[-1][0])
        forward = min((timed(lambda batch: model(pixel_values=batch), batches)[0] for batches in batched), key=lambda spent: spent.passed)
    return {"encode": encoded, "decode": decoded, "preprocess": prepared, "forward": forward}


class TestTime:
    @pytest.mark.benchmark(group="own suite")
    def test_an_image_takes_little_more_than_the_libraries_need(
        self, own: Evaluation, tmp_path: Path, benchmark: BenchmarkFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        files = sorted((own.folder / "photos").rglob("*.jpg"))
        share = files[:: max(1, len(files) // 100)]
        library_calls(own.folder, share[:32])  # what is imported and allocated once
        before = library_calls(own.folder, share)
        working = time.process_time()
        record = benchmark.pedantic(measure, args=(own, tmp_path / "store"), rounds=1)
        working = time.process_time() - working
        after = library_calls(own.folder, share)
        assert record.samples == len(files)
        ours = Spent(benchmark.stats.stats.mean / len(files), working / len(files))
        steps = {step: before[step].mean(after[step]) for step in before}
        passed, worked = sum(step.passed for step in steps.values()), sum(step.worked for step in steps.values())
        with capsys.disabled():
            each = ", ".join(f"{name} {1000 * step.passed:.2f}" for name, step in steps.items())
            sys.stdout.write(
                f"\n{1000 * ours.passed:.1f} ms an image, the libraries {1000 * passed:.1f} ({each}): ratio {ours.passed / passed:.2f}; "
                f"time of {cores()} processors {1000 * ours.worked:.1f} and {1000 * worked:.1f} ms: ratio {ours.worked / worked:.2f}\n"
            )
        assert ours.passed / passed <= 1.3


class TestMemory:
    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from Linux's /proc")
    def test_ten_times_the_pictures_take_little_more(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        few, many = (self.peak(tmp_path / str(count), count) for count in (pictures(), 10 * pictures()))
        with capsys.disabled():
            sys.stdout.write(f"\n{few:.0f} MB for {pictures()} pictures, {many:.0f} MB for {10 * pictures()}\n")
        assert many <= 1.15 * few

    def peak(self, folder: Path, count: int) -> float:
        """Return the most memory in MB that a process holds which evaluates ``count`` different pictures with a model of no weight."""
        write_pictures(folder / "photos", min(count, 200))
        patterns = sorted((folder / "photos").rglob("*.jpg"))
        for number in range(len(patterns), count):  # what follows a picture's end tells files apart and no decoder cares
            pattern = patterns[number % len(patterns)]
            (pattern.parent / f"{number:05}.jpg").write_bytes(pattern.read_bytes() + number.to_bytes(4, "big"))
        (folder / "brightness.py").write_text(BRIGHTNESS)
        (folder / "own.toml").write_text(SUITE.replace('"vit"', '"python:brightness:load"'))
        environment = {**os.environ, "HF_HOME": str(folder / "hub"), "PYTHONPATH": str(Path(__file__).parent)}
        command = [sys.executable, "-c", MEMORY, str(folder / "own.toml"), str(folder / "store")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        samples, peak = done.stdout.split()
        assert int(samples) == count
        return float(peak)
