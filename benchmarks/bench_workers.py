"""What more workers gain: two over a naive loop, two over one at a single case, two nodes of Ray over one.

The model is a MobileNetV2 behind a ``python:`` callable that says nothing of batches. Where workers are compared with workers, the
difference of a large and a small run counts, since processes start no faster for being many; each worker has one processor.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from bench_libraries import FOLDER
from figures import Rows
from pytest_benchmark.fixture import BenchmarkFixture
from workloads import LABELS, ROOT, Project, Spent, clean, on_cores, run_process, scaled, write_model, write_pictures

QUALITIES = (20, 50)

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
def test_one_case_on_two_workers(tmp_path: Path, benchmark: BenchmarkFixture, row: Rows) -> None:
    counts = (scaled(160, 8), scaled(800, 40))
    few, many = (conv_net(tmp_path / str(count), count, QUALITIES[:1]) for count in counts)

    def run(project: Project, workers: int) -> Spent:
        return project.run(project.folder / f"store-{workers}", "-n", str(workers), "--mpq-case", "*-jpeg-*", cores=workers)

    one = run(many, 1).passed - run(few, 1).passed
    small, large = run(few, 2), benchmark.pedantic(run, args=(many, 2), rounds=1)
    each = (large.passed - small.passed) / (counts[1] - counts[0])
    row("... one case on two workers: start and end of it", None, large.passed - counts[1] * each, "s")
    row("one case on two workers of one core over the same on one", 1 / 1.85, (large.passed - small.passed) / one)


@pytest.mark.benchmark(group="workers")
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed: pip install mpq[ray]")
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
