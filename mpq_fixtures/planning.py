"""How long a suite will take, how much store and how much memory, from what samples cost when they were measured.

Pure: costs go in, a plan comes out. `costs_of` takes the costs from an earlier run's ``results.json``; `mpq_fixtures.commands.plan`
measures them on a few samples where nothing is known. A plan says ranges: each cost carries the factor within which the truth is expected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from mpq_fixtures.suite import ORIGINAL
from mpq_fixtures.tasks import registered

ROW_BYTES = 800
"""What a sample's row takes in the store, with its chain of digests and keys."""
PROCESS_BYTES = 600e6
"""What a worker holds with its libraries and a small model, where nothing was measured."""

START = 12.0
"""Seconds of a worker from its start to its first step, and from its last one to its end, where a run does not tell them apart."""

SAME, NEAR, PROBED = 2.0, 2.5, 2.5
"""Factors of trust: the same case, another point of the same codec, a few samples of the case.

Two whole runs of the pocket suite on one machine, the second beside other work, differed by 1.5 in all and by .94 to 2.4 in an evaluation.
The ends of a codec's ladder differ by up to 5 in coding, so that their middle is within 2.5 of both.
"""

_MOST_THREADS = 8.0  # that help a batch of one model

Key = tuple[str, str, str]
"""An evaluation, a codec and a quality."""


@dataclass(frozen=True)
class Cost:
    """What a sample costs at a case: ``coding`` and ``answering`` in seconds of one core, ``stored`` in bytes.

    Answering is predicting, scoring and what the suite does besides. The truth is expected within ``factor`` of it either way; ``source``
    says how it was known.
    """

    coding: float
    answering: float
    stored: float
    factor: float = SAME
    source: str = "measured"


@dataclass(frozen=True)
class Costs:
    """What is known: costs by case, seconds of a worker outside of its steps, of a codec's audit, and bytes that a worker held.

    ``samples`` has how many samples each evaluation had; ``batch`` is how many of them are worked on together.
    """

    cases: Mapping[Key, Cost] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    start: float = START
    audit: float = 5.0
    memory: float = PROCESS_BYTES
    memory_is_measured: bool = False
    batch: int = 16

    def of(self, evaluation: str, codec: str, quality: str) -> Cost | None:
        """Return what a sample costs at a case; where it was not measured, from the codec's other points there; None without those."""
        if (known := self.cases.get((evaluation, codec, quality))) is not None:
            return known
        here = {key: cost for key, cost in self.cases.items() if key[0] == evaluation}
        near = [cost for (_, name, _), cost in here.items() if name == codec]
        if codec == ORIGINAL and here:  # it is answered as every other point is, and not coded
            least = min(cost.stored for cost in here.values())
            return Cost(0.0, _mean(cost.answering for cost in here.values()), least, NEAR, "other points")
        if not near:
            return None
        factor = max(NEAR, *(cost.factor for cost in near))
        return Cost(
            _mean(cost.coding for cost in near), _mean(cost.answering for cost in here.values()), _mean(cost.stored for cost in near),
            factor, "other qualities",
        )  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Where a suite is to run: cores, bytes of memory and of room in the store's folder."""

    cores: int
    memory: float = math.inf
    room: float = math.inf


@dataclass(frozen=True)
class Work:
    """A case to be measured: how many samples, and what each costs; None where nobody knows."""

    evaluation: str
    codec: str
    quality: str
    samples: int
    cost: Cost | None


@dataclass(frozen=True)
class Range:
    """An expectation and the range in which the truth is expected."""

    low: float
    expected: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __truediv__(self, divisor: float) -> Range:
        return Range(self.low / divisor, self.expected / divisor, self.high / divisor)

    @property
    def factor(self) -> float:
        """How far off the expectation may be, as a factor; 1 for nothing at all."""
        return max(self.high / self.expected, self.expected / self.low) if self.low else 1.0


NOTHING = Range(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Part:
    """What an evaluation takes: core-seconds and bytes in the store; ``unknown`` are cases that nobody knows the cost of."""

    evaluation: str
    cases: int
    samples: int
    seconds: Range
    stored: Range
    unknown: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What a suite takes on so many workers, from an empty store.

    ``limits`` has the number of workers from which each thing holds the run up, the first of them first, with a sentence.
    """

    workers: int
    parts: tuple[Part, ...]
    seconds: Range
    core_seconds: Range
    stored: Range
    memory: float
    limits: tuple[tuple[int, str], ...]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Cases that nobody knows the cost of, and that are not counted."""
        return tuple(name for part in self.parts for name in part.unknown)


def plan(work: Sequence[Work], costs: Costs, workers: int, machine: Machine) -> Plan:
    """Say what the cases take on ``workers`` workers of one machine.

    Batches are shared, so that all workers are busy until the last batch; what cannot be shared is each worker's start and one batch.
    Fewer workers than cores have several threads each, which help a model somewhere between not at all and in full: the square root of
    their number is expected.
    """
    parts = tuple(_part(name, [one for one in work if one.evaluation == name]) for name in dict.fromkeys(one.evaluation for one in work))
    core_seconds, stored = sum((part.seconds for part in parts), NOTHING), sum((part.stored for part in parts), NOTHING)
    audits = costs.audit * len({one.codec for one in work} - {ORIGINAL})
    core_seconds += Range(audits / NEAR, audits, audits * NEAR)
    batches = sum(math.ceil(one.samples / costs.batch) for one in work)
    at_work = max(1, min(workers, machine.cores, batches))
    threads = min(_MOST_THREADS, max(1.0, machine.cores / workers))
    start = Range(costs.start / NEAR, costs.start, costs.start * NEAR * max(1.0, workers / machine.cores))
    batch = max((_seconds(one) * costs.batch / max(one.samples, 1) for one in work), default=0.0) if at_work > 1 else 0.0
    working = core_seconds / at_work
    threaded = Range(working.low / threads, working.expected / math.sqrt(threads), working.high)
    seconds = start + threaded + Range(0.0, batch / 2, batch)
    return Plan(
        workers, parts, seconds, core_seconds, stored, workers * costs.memory, _limits(core_seconds, stored, costs, batches, machine)
    )


def _part(name: str, work: Sequence[Work]) -> Part:
    """Add up an evaluation; what is known of its cases in one way errs in one direction, so that factors do not average out."""
    seconds, stored = NOTHING, NOTHING
    for one in work:
        if one.cost is not None:
            spent, kept, factor = _seconds(one), one.samples * one.cost.stored, one.cost.factor
            seconds += Range(spent / factor, spent, spent * factor)
            room = math.sqrt(factor)  # bytes do not depend on what else the machine does
            stored += Range(kept / room, kept, kept * room)
    unknown = tuple(_name(one) for one in work if one.cost is None)
    sources = tuple(dict.fromkeys(one.cost.source for one in work if one.cost is not None))
    return Part(name, len(work), max((one.samples for one in work), default=0), seconds, stored, unknown, sources)


def _limits(core_seconds: Range, stored: Range, costs: Costs, batches: int, machine: Machine) -> tuple[tuple[int, str], ...]:
    limits = [(machine.cores, f"cores: this machine has {machine.cores}, more workers on it are no faster")]
    if math.isfinite(machine.memory):
        fits = int(machine.memory // costs.memory)
        limits.append((fits, f"memory: {fits} workers of {costs.memory / 1e9:.1f} GB fit into {machine.memory / 1e9:.1f} GB"))
    limits.append((batches, f"batches: there are {batches:,} to share"))
    half = max(1, int(core_seconds.expected / costs.start)) if costs.start else batches
    limits.append((half, f"start-up: from {half:,} workers on a worker starts longer than it works"))
    if stored.high > machine.room:
        limits.append((0, f"room: the store may need {stored.high / 1e9:.1f} GB and {machine.room / 1e9:.1f} are free"))
    return tuple(sorted(limits, key=lambda limit: limit[0]))


def _seconds(work: Work) -> float:
    return 0.0 if work.cost is None else work.samples * (work.cost.coding + work.cost.answering)


def _name(work: Work) -> str:
    return "-".join(filter(None, (work.evaluation, work.codec, work.quality)))


def _mean(figures: Iterable[float]) -> float:
    known = list(figures)
    return sum(known) / len(known)


# What a run measured


def costs_of(results: Mapping[str, Any]) -> Costs:
    """Return what a run's ``results.json`` says of costs, without the cases that it found in its store.

    The steps of a worker's threads overlap, and a model on the CPU has several threads: seconds of steps become seconds of a core by the
    time that workers were busy, as far as they had cores. Raises `ValueError`, with a sentence, where nothing was computed.
    """
    cases = [case for case in results["cases"] if _computed(case, results)]
    if not cases:
        raise ValueError("that run computed next to nothing, for its store had it all: plan from another one, or with --probe")
    spent, threads, workers = results.get("seconds", {}), _threads(results), _workers(results)
    all_steps = sum(_core_seconds(case["seconds"], threads) for case in results["cases"])
    share = min(1.0, max(0.0, spent.get("busy", 0.0) - spent.get("audit", 0.0)) * threads / all_steps) if all_steps else 1.0
    codecs = {case["codec"] for case in cases} - {ORIGINAL}
    outside = max(0.0, spent.get("worker", 0.0) - spent.get("busy", 0.0))
    start = min(START, outside / workers) if outside else START
    own = max(0.0, outside - workers * start) / sum(case["samples"] for case in cases)
    memory = float(results.get("memory") or 0.0)
    return Costs(
        cases={(case["evaluation"], case["codec"], case["quality"]): _cost(case, threads, share or 1.0, own) for case in cases},
        samples={case["evaluation"]: case["samples"] + len(case["failures"]) for case in cases},
        start=start,
        audit=spent["audit"] / len(codecs) if spent.get("audit") and codecs else Costs.audit,
        memory=memory or PROCESS_BYTES,
        memory_is_measured=bool(memory),
    )


def _computed(case: Mapping[str, Any], results: Mapping[str, Any]) -> bool:
    """Tell whether a case's seconds are those of all its samples; a run that does not say so of its cases is taken whole or not at all."""
    if not case.get("samples") or not case.get("seconds"):
        return False
    work = case.get("work") or results.get("work") or {}
    made, found = (work.get(kind, {}).get("statistic", 0) for kind in ("computed", "reused"))
    return bool(made) and made >= 0.95 * (made + found) and case["seconds"].get("predict", 0.0) > 0


def _cost(case: Mapping[str, Any], threads: int, share: float, own: float) -> Cost:
    seconds, samples = case["seconds"], case["samples"]
    coding = share * (seconds.get("encode", 0.0) + seconds.get("decode", 0.0)) / samples
    elements = 8 * case["bytes"] / case["rate"] if case.get("rate") else 0.0
    bitstreams = 0 if case["codec"] == ORIGINAL else case["bytes"]  # the originals lie in their data set
    task = registered().get(case["task"])
    stored = (bitstreams + (task.answer_bytes if task else 0.0) * elements) / samples + ROW_BYTES
    return Cost(coding, share * _core_seconds(seconds, threads) / samples - coding + own, stored)


def _core_seconds(seconds: Mapping[str, float], threads: int) -> float:
    """Return the seconds of cores that steps may have taken at most: a model has all of its threads while it predicts."""
    return sum(spent * (threads if step == "predict" else 1) for step, spent in seconds.items() if step != "audit")


def _threads(results: Mapping[str, Any]) -> int:
    given = str(((results.get("provenance") or {}).get("machine") or {}).get("torch_threads", ""))
    return int(given) if given.isdecimal() and int(given) else 1


def _workers(results: Mapping[str, Any]) -> int:
    """Return how many workers a run had: from what it says, or else from its command; 1 where neither tells."""
    if (said := results.get("workers")) is not None:
        return max(1, int(said))
    command = [str(word) for word in (results.get("provenance") or {}).get("command", [])]
    given = [after for word, after in pairwise(command) if word in ("-n", "--numprocesses")]
    given += [word.removeprefix("-n") for word in command if word.startswith("-n") and word != "-n"]
    numbers = [int(word) for word in given if word.isdecimal()]
    return max(1, *numbers) if numbers else 1
