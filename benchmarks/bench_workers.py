"""What more workers gain: two over a naive loop, two over one at a single case, two nodes of Ray over one.

Where workers are compared with workers, the difference of a large and a small run counts, since processes start no faster for being many;
each worker has one processor. Unless said otherwise the model is a MobileNetV2 behind a ``python:`` callable that says nothing of batches.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from bench_libraries import FOLDER
from figures import Rows
from pytest_benchmark.fixture import BenchmarkFixture
from workloads import LABELS, ROOT, Project, Spent, clean, on_cores, run_process, scaled, write_model, write_pictures

QUALITIES = (20, 50)
ROUNDS = 3
UNTIL_LOADED = 15.0
"""Seconds after which processes that predict side by side begin."""

MODEL = f"""
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import MobileNetV2ForImageClassification

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def prepared(pixels):
    resized = Image.fromarray(pixels).resize((299, 224), Image.Resampling.BILINEAR).crop((37, 0, 261, 224))
    return torch.from_numpy(((np.asarray(resized, np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1).copy())


class MobileNet:
    labels = {LABELS!r}

    def __init__(self):
        self.network = MobileNetV2ForImageClassification.from_pretrained(Path(__file__).parent / "weights").eval()

    def predict(self, signals):
        with torch.inference_mode():
            inputs = torch.stack([prepared(signal.pixels) for signal in signals])
            return self.network(pixel_values=inputs).logits.argmax(-1).tolist()


def load(device):
    return MobileNet()
"""

NAIVE = f"""
import io
from pathlib import Path
from types import SimpleNamespace

import mobilenet
import numpy as np
import torch
from PIL import Image

torch.set_num_threads(1)
model, right = mobilenet.load("cpu"), 0
for quality in {(None, *QUALITIES)!r}:
    for file in sorted(Path("photos").rglob("*.jpg")):
        picture = Image.open(file).convert("RGB")
        if quality is not None:
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=quality)
            picture = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
        answer = model.predict([SimpleNamespace(pixels=np.asarray(picture))])[0]
        right += mobilenet.MobileNet.labels[answer] == file.parent.name
print(right)
"""

ALONE = """
import sys
import time

import torch
from transformers import AutoModelForImageClassification

from mpq_fixtures.processes.devices import keep_freed_memory

checkpoint, begin = sys.argv[1], float(sys.argv[2])
keep_freed_memory()
torch.set_num_threads(1)
network = AutoModelForImageClassification.from_pretrained(checkpoint).eval().to(memory_format=torch.channels_last)
pictures = torch.rand(16, 3, 224, 224).contiguous(memory_format=torch.channels_last)
with torch.inference_mode():
    network(pictures)
    assert time.time() < begin, "it took longer to load"
    time.sleep(begin - time.time())
    count, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < 6:
        network(pictures)
        count += len(pictures)
print(count / passed)
"""


def conv_net(folder: Path, pictures: int, qualities: Sequence[int] = QUALITIES) -> Project:
    project = Project(folder).declare("python:mobilenet:load", FOLDER, {"jpeg": [f"q{quality}" for quality in qualities]})
    (folder / "mobilenet.py").write_text(MODEL)
    write_model(folder / "weights", "mobilenet_v2")
    write_pictures(folder / "photos", pictures)
    return project


@pytest.mark.benchmark(group="workers")
def test_two_workers_beat_a_naive_loop(tmp_path: Path, benchmark: BenchmarkFixture, row: Rows) -> None:
    project = conv_net(tmp_path / "project", scaled(1000, 16))
    (project.folder / "naive.py").write_text(NAIVE)
    naive = run_process([sys.executable, "naive.py"], project.folder, clean(ROOT, tmp_path))
    ours = benchmark.pedantic(project.run, args=(tmp_path / "store", "-n", "2"), rounds=1)
    cases = {case["case"]: case for case in project.results()["cases"]}
    right = sum(round(case["value"] * case["samples"]) for case in cases.values())
    assert abs(right - int(naive.output.split()[-1])) <= 0.01 * scaled(1000, 16) * len(cases)  # they do the same work
    row("... the naive loop", None, naive.passed, "s")
    row(
        f"two workers, {scaled(1000, 16):,} pictures, {len(cases)} points, over a naive one-thread loop",
        1 / 1.8,
        ours.passed / naive.passed,
    )


@pytest.mark.benchmark(group="workers")
@pytest.mark.parametrize(("name", "samples", "bound"), [("resnet_50", 480, 1 / 1.85), ("mobilenet_v2", 800, None)])
def test_one_case_on_two_workers(
    name: str, samples: int, bound: float | None, tmp_path: Path, benchmark: BenchmarkFixture, row: Rows
) -> None:
    """All runs find in their stores what batch and layout was chosen for the model: a choice made anew is made otherwise at times.

    Two processes that share a memory cannot gain more than two of the network alone, so that has a row, too. A ResNet-50 computes most of
    the time, and has the bound; a MobileNetV2 waits for the memory.
    """
    write_model(tmp_path / name, name)

    def project(count: int, first: int = 0) -> Project:
        made = Project(tmp_path / f"{count}-{first}").declare(str(tmp_path / name), FOLDER, {"jpeg": [f"q{QUALITIES[0]}"]})
        write_pictures(made.folder / "photos", count, first=first)
        return made

    counts, chosen = (scaled(samples // 8, 4), scaled(samples, 32)), tmp_path / "chosen"
    few, many = map(project, counts)
    project(counts[0], first=counts[1]).run(chosen, cores=1)

    def run(project: Project, workers: int) -> float:
        store = project.folder / "store"
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(chosen, store)
        return project.run(store, "-n", str(workers), "--mpq-case", "*-jpeg-*", cores=workers).passed

    def run_all() -> None:
        for (project, workers), passed in found.items():
            passed.append(run(project, workers))

    found: dict[tuple[Project, int], list[float]] = {(project, workers): [] for workers in (1, 2) for project in (few, many)}
    benchmark.pedantic(run_all, rounds=ROUNDS)
    one, two = (median(found[many, workers]) - median(found[few, workers]) for workers in (1, 2))
    ratios = [(found[many, 2][turn] - found[few, 2][turn]) / (found[many, 1][turn] - found[few, 1][turn]) for turn in range(ROUNDS)]
    alone = [predictions_a_second(tmp_path / name, workers) for workers in (1, 2)]
    row(
        f"... {name}, one case on two workers: start and end of it",
        None,
        median(found[few, 2]) - counts[0] * two / (counts[1] - counts[0]),
        "s",
    )
    row(f"... {name}, one case on two workers over one: the least of {ROUNDS} times", None, min(ratios))
    row(f"... {name}, one case on two workers over one: the greatest of {ROUNDS} times", None, max(ratios))
    row(f"... {name}: two processes of the network alone over one", None, alone[0] / alone[1])
    row(f"{'' if bound else '... '}{name}, one case on two workers of one core over the same on one", bound, two / one)


def predictions_a_second(checkpoint: Path, processes: int) -> float:
    """Return how many pictures so many processes, with a processor each, send through a network at the same time."""
    begin, running = time.time() + UNTIL_LOADED, []
    for number in range(processes):
        with on_cores(1, number):
            command = [sys.executable, "-c", ALONE, str(checkpoint), str(begin)]
            running.append(subprocess.Popen(command, cwd=ROOT, env=clean(ROOT, checkpoint), stdout=subprocess.PIPE, text=True))
    return sum(float(process.communicate()[0]) for process in running)


@pytest.mark.benchmark(group="workers")
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install 'machine-perceptual-quality[ray]'")
def test_two_nodes_of_ray(tmp_path: Path, benchmark: BenchmarkFixture, row: Rows) -> None:
    known = subprocess.run([sys.executable, "-m", "pytest", "--help"], cwd=ROOT, env=clean(ROOT, tmp_path), capture_output=True, text=True)
    if "--mpq-engine" not in known.stdout:
        pytest.skip("this mpq has no engine for Ray")
    counts = (scaled(160, 8), scaled(800, 40))
    few, many = (conv_net(tmp_path / str(count), count, QUALITIES[:1]) for count in counts)

    def run(project: Project, nodes: int) -> Spent:
        with ray_cluster(nodes) as address:
            return project.run(project.folder / f"store-{nodes}", "--mpq-engine", "ray", "--mpq-ray-address", address)

    one = run(many, 1).passed - run(few, 1).passed
    small, large = run(few, 2), benchmark.pedantic(run, args=(many, 2), rounds=1)
    row("Ray: two nodes of one core over one", 1 / 1.8, (large.passed - small.passed) / one)


class ray_cluster:
    """A Ray cluster on loopback, a head that computes nothing and so many nodes that have a core each; gives its address."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes
        self.cluster: Any = None

    def __enter__(self) -> str:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for number in range(self.nodes):
            with on_cores(1, number):
                self.cluster.add_node(num_cpus=1)
        address: str = self.cluster.address
        return address

    def __exit__(self, *problem: object) -> None:
        self.cluster.shutdown()
