"""What the allocator costs a network whose layers are large and quick: depthwise convolutions over batches of pictures, one thread."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

PREDICTIONS = """
import time

from mpq_fixtures.processes.devices import keep_freed_memory

if {kept}:
    keep_freed_memory()
import torch
from torch import nn

torch.set_num_threads(1)
layers = [nn.Conv2d(3, 96, 3, 2, 1)]
for number in range(12):
    stride = 2 if number in (1, 4, 8) else 1
    layers += [nn.Conv2d(96, 96, 3, stride, 1, groups=96), nn.ReLU6(), nn.Conv2d(96, 96, 1), nn.BatchNorm2d(96), nn.ReLU6()]
network = nn.Sequential(*layers).eval()
pictures = torch.rand(8, 3, 224, 224)
with torch.inference_mode():
    network(pictures)
    started = time.perf_counter()
    for _ in range(8):
        network(pictures)
print((time.perf_counter() - started) / 64)
"""


def seconds(kept: bool) -> float:
    """Return how long a picture takes in a process of its own, which alone has an allocator of its own."""
    command = [sys.executable, "-c", PREDICTIONS.format(kept=kept)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.benchmark(group="a network of depthwise layers, batches of 8")
def test_freed_memory_is_kept(benchmark: BenchmarkFixture) -> None:
    kept = benchmark.pedantic(seconds, args=(True,), rounds=3)
    benchmark.extra_info["milliseconds a picture"] = 1000 * kept
    if benchmark.enabled:
        given_back = min(seconds(False) for _ in range(3))
        benchmark.extra_info["as glibc comes"] = 1000 * given_back
        assert kept < given_back / 1.5
