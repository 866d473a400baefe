"""How long the gate takes to read baselines and to judge, and how much they hold: 2,000 cases of 1,000 samples in at most 10 s."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, SIGNAL
from mpq_fixtures.gate.baseline_files import baseline_file
from mpq_fixtures.gate.baselines import read_baselines, write_baselines
from mpq_fixtures.gate.comparison import Comparison, Margins, compare
from mpq_fixtures.gate.measured import Measured, whole
from mpq_fixtures.gate.pooling import CaseEffect, judge_run, level_of_case
from mpq_fixtures.metrics import restore_metric

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


def turned(one: Measured) -> Measured:
    """The case after a night in which every signal was decoded otherwise, and 2 % of the samples scored otherwise."""
    generator = np.random.default_rng(1)
    moved = generator.random(SAMPLES) < 0.02
    statistics = [np.abs(each - step) for each, step in zip(one.statistics, moved, strict=True)]
    links = {layer: each if layer in (SIGNAL, BITSTREAM) else each ^ np.uint64(2**63) for layer, each in one.links.items()}
    return replace(one, statistics=statistics, links=links, whole={layer: whole(each) for layer, each in links.items()})


def judged(file: Path, now: list[Measured]) -> list[Comparison]:
    """Read what was approved, compare every case, and judge the run."""
    kept = read_baselines(file)
    metric, margins = restore_metric(now[0].metric, now[0].settings), Margins(0.02, similarity={"psnr": 0.05, "ssim": 0.002})
    assert metric is not None
    comparisons = [compare(kept[one.point], one, metric, margins, level_of_case(2000)) for one in now]
    effects = [
        CaseEffect(one.case, "tried", "jpeg", str(number), now[0].metric, 0.02, one.shared, one.groups, one.shares,
                   one.effect.p_worse if one.effect else 1.0, one.effect.change if one.effect else 0.0)
        for number, one in enumerate(comparisons)
    ]  # fmt: skip
    judge_run(effects, len(effects))
    return comparisons


@pytest.mark.benchmark(group=f"judging {CASES} cases of {SAMPLES} samples", timer=time.process_time)
@pytest.mark.parametrize("kind", ["top1", "word_accuracy"])
@pytest.mark.parametrize("night", ["nothing changed", "all changed"])
def test_judge(benchmark: BenchmarkFixture, kind: str, night: str, tmp_path: Path) -> None:
    file, approved = baseline_file(tmp_path, "bench", "tried"), cases(kind)
    write_baselines(file, approved, [], only_new=False)
    now = approved if night == "nothing changed" else [turned(one) for one in approved]
    comparisons = benchmark(judged, file, now)
    assert all((one.effect is None) == (night == "nothing changed") for one in comparisons)
    if benchmark.enabled:
        assert benchmark.stats.stats.median < 10.0 * CASES / 2000
