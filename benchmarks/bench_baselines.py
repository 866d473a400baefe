"""How long a baseline file takes to read, and how much it holds: the gate reads 2,000 cases of 1,000 samples in at most 4 s."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, SIGNAL
from mpq_fixtures.gate.baselines import baseline_file, read_baselines, write_baselines
from mpq_fixtures.gate.measured import Measured, whole

CASES, SAMPLES = 50, 1000
LIMIT = 4.0 * CASES / 2000
"""Seconds of the processor, whatever else the machine does."""


def cases(kind: str) -> list[Measured]:
    """Cases of one evaluation that have in common what samples have in common at every operating point, and nothing else."""
    generator = np.random.default_rng(0)
    words = generator.integers(3, 20, SAMPLES)
    signal = generator.integers(0, 2**64, SAMPLES, np.uint64)
    elements = generator.integers(40_000, 60_000, SAMPLES)
    samples = [f"sample-{number:05d}" for number in range(SAMPLES)]
    sources = [f"{number:016x}" for number in generator.integers(0, 2**63, SAMPLES)]
    found = []
    for number in range(CASES):
        links = {layer: generator.integers(0, 2**64, SAMPLES, np.uint64) for layer in (BITSTREAM, DECODED, GIVEN, ANSWER)} | {
            SIGNAL: signal
        }
        hits, edits = (generator.random(SAMPLES) < 0.9).astype(float), generator.binomial(words, 0.1)
        one = Measured(
            case=f"tried-jpeg-q{number}",
            suite="bench",
            evaluation="tried",
            metric="top1",
            version=1,
            settings={},
            samples=samples,
            sources=sources,
            groups=[""] * SAMPLES,
            statistics=[np.array(hit) for hit in hits],
            bytes=generator.integers(1000, 9000, SAMPLES),
            elements=elements,
            similarity={name: generator.normal(30, 4, SAMPLES) for name in ("psnr", "ssim")},
            links=links,
            whole={layer: whole(each) for layer, each in links.items()},
            value=float(hits.mean()),
        )
        if kind == "word_accuracy":
            statistics = list(np.stack([edits, words], axis=1).astype(float))
            one = replace(one, metric=kind, settings={"normaliser": "none"}, statistics=statistics, value=1 - edits.sum() / words.sum())
        found.append(one)
    return found


@pytest.mark.benchmark(group=f"baselines of {CASES} cases of {SAMPLES} samples", timer=time.process_time)
@pytest.mark.parametrize("kind", ["top1", "word_accuracy"])
def test_read(benchmark: BenchmarkFixture, kind: str, tmp_path: Path) -> None:
    file = baseline_file(tmp_path, "bench", "tried")
    write_baselines(file, cases(kind), [], only_new=False)
    kept = benchmark(read_baselines, file)
    assert len(kept) == CASES
    benchmark.extra_info["bytes a case and sample"] = file.stat().st_size / CASES / SAMPLES
    if benchmark.enabled:
        assert benchmark.stats.stats.median < LIMIT
