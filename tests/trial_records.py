"""Records to hold against one another: made of what a metric keeps of each sample, without a codec or a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpq_fixtures.chain import digest
from mpq_fixtures.metrics import Additive, Metric, Statistic
from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.rows import Row
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task

EVALUATION = Evaluation("tried", "tests", find_task("image_classification"), "a/model", {"path": "a/set"}, (), Path())


class Wrong(Additive):
    """The mean of errors: lower is better."""

    name, unit, bounds, tolerance, higher_is_better = "trial_error", "", (0.0, 1.0), 0.01, False

    def observe(self, prediction: object, target: object) -> Statistic:
        raise NotImplementedError

    def score(self, total: Statistic, samples: int) -> Statistic:
        return np.asarray(total / samples)


def record(
    hits: Sequence[float],
    size: float = 100,
    psnr: float = 30.0,
    metric: Metric | None = None,
    first: int = 0,
    quality: str = "q5",
) -> Record:
    """A record of one sample for each hit, each of 100 pixels in ``size`` bytes."""
    metric = metric or Top1()
    rows = [
        Row(
            sample=f"s{first + number}",
            bytes=round(size * 100),
            elements=10_000,
            prediction="",
            target="",
            statistic=hit if np.isscalar(hit) else list(hit),
            further={"psnr": psnr},
            scores={metric.name: metric.value([np.asarray(hit, float)]), "psnr": psnr},
            ledger={"payload": round(size * 100), "container": 0, "side": 0},
            source=f"{first + number:064x}",
            chain={"signal": "1" * 16, "bitstream": "2" * 16, "decoded": "3" * 16, "given": "4" * 16, "answer": digest(repr(hit).encode())},
        )
        for number, hit in enumerate(hits)
    ]
    return summarise(Case(EVALUATION, "jpeg", quality), Rows.of(rows), [], metric, [ImagePSNR()])


def hits(right: int, wrong: int) -> list[float]:
    return [1.0] * right + [0.0] * wrong
