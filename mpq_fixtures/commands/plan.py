"""``mpq plan``: how long a suite will take on so many workers, how much store and memory, and what holds it up first."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mpq_fixtures.codecs import CodecError
from mpq_fixtures.commands.assets import read_suite
from mpq_fixtures.datasets import align, load_dataset
from mpq_fixtures.errors import AssetError, describe_error
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.options import store_folder, store_location
from mpq_fixtures.planning import PROBED, ROW_BYTES, Cost, Costs, Key, Machine, Plan, Range, Work, costs_of, plan
from mpq_fixtures.processes.devices import cores, resolve_device, set_up_process
from mpq_fixtures.results.files import read_results
from mpq_fixtures.signals import Dataset
from mpq_fixtures.suite import Evaluation, SuiteError
from mpq_fixtures.words import counted

PROBE = 2
"""Samples that a probe sends through every point; one more comes first, for what is loaded once."""

LATEST = Path("reports/latest")
"""Where the last run lies, unless it was told otherwise."""


def plan_suite(
    suite: str,
    workers: int = 1,
    samples: int | None = None,
    earlier: Path | None = None,
    probe: bool | None = None,
    as_json: bool = False,
) -> int:
    """Write what a suite takes and return the exit code: 0, or 2 where the suite is wrong or nothing of it is known.

    ``earlier`` is the folder of a run, by default `LATEST` if there is one. A probe runs the real steps on a few samples of each case that
    no run measured: always with True, never with False, and with None where ``earlier`` knows no case of an evaluation.
    """
    try:
        evaluations, costs = read_suite(suite), _earlier(earlier, probe)
    except (SuiteError, CodecError, ValueError) as error:
        sys.stderr.write(f"mpq plan: {error}\n")
        return 2
    notes: list[str] = []
    work: list[Work] = []
    for evaluation in evaluations:
        known = any(key[0] == evaluation.name for key in costs.cases)
        if probe is True or (probe is None and not known):
            try:
                costs = _with(costs, evaluation, *measure(evaluation, samples))
            except AssetError as error:
                notes.append(f"{evaluation.name} could not be probed: {error}")
        count = _count(evaluation, samples, costs)
        if count is None:
            notes.append(f"{evaluation.name}: nobody knows how many samples it has: mpq doctor {suite} says what is missing")
            continue
        work += [
            Work(evaluation.name, case.codec, case.quality, count, costs.of(evaluation.name, case.codec, case.quality))
            for case in evaluation.cases
        ]
    if not any(one.cost for one in work):
        for note in (*notes, f"nothing is known of {suite}: run it once, name a run with --from, or let it be probed"):
            sys.stderr.write(f"mpq plan: {note}\n")
        return 2
    made = plan(work, costs, workers, _machine())
    if as_json:
        sys.stdout.write(json.dumps(to_json(made, notes), indent=1) + "\n")
    else:
        for line in (*_lines(suite, made, costs), *(f"note: {note}" for note in notes)):
            sys.stdout.write(f"{line}\n")
    return 0


def to_json(made: Plan, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return a plan as ``--json`` prints it: seconds and bytes, each as low, expected and high."""
    return {"schema": 1, **dataclasses.asdict(made), "unknown": list(made.unknown), "notes": list(notes)}


# What is known


def _earlier(folder: Path | None, probe: bool | None) -> Costs:
    """Return what a run measured, or the last one where there is one; raises `ValueError` with a sentence.

    One that computed nothing is as good as none where everything is probed, and so is the last one where it may be.
    """
    if folder is None and not (LATEST / "results.json").exists():
        return Costs()
    results = read_results(folder or LATEST)
    try:
        return costs_of(results)
    except ValueError:
        if probe or (folder is None and probe is None):
            return Costs()
        raise


def _count(evaluation: Evaluation, samples: int | None, costs: Costs) -> int | None:
    """Return how many samples an evaluation has: from its data, or, where that is not here, from the earlier run or its file."""
    try:
        return len(load_dataset(evaluation, samples).samples)
    except AssetError:
        known = costs.samples.get(evaluation.name, evaluation.samples)
        return known if known is None or samples is None else min(known, samples)


def _with(costs: Costs, evaluation: Evaluation, probed: dict[Key, Cost], batch: int, memory: float) -> Costs:
    """Add what was probed; a case that a whole run measured is known better."""
    return dataclasses.replace(
        costs,
        cases=probed | dict(costs.cases),
        batch=max(costs.batch, batch) if costs.cases else batch,
        memory=costs.memory if costs.memory_is_measured else max(costs.memory, memory),
    )


def measure(evaluation: Evaluation, samples: int | None = None) -> tuple[dict[Key, Cost], int, float]:
    """Run the real steps of every case on a few samples: return the costs, the model's batch size and the bytes that this process holds.

    Raises `AssetError` where the model, the data or all of the samples cannot be used. Codecs that this machine lacks stay out.
    """
    set_up_process()
    model = OpenModel(evaluation, resolve_device("auto", 0), threads=1)
    try:
        dataset = align(load_dataset(evaluation, samples), evaluation, lambda: model.labels)
        costs = dict(_probed(evaluation, dataset, model))
        return costs, model.batch_size, _held()
    finally:
        model.close()


def _probed(evaluation: Evaluation, dataset: Dataset, model: OpenModel) -> Iterator[tuple[Key, Cost]]:
    chosen = list(dataset.choose(PROBE + 1).samples)
    try:
        signals = [sample.signal().protected() for sample in chosen]
        answers, answering = _timed(lambda: model.ready().predict([signal.copied() for signal in signals]), twice=True)
        stored = sum(len(evaluation.task.to_bytes(answer)) for answer in answers) / len(signals) + ROW_BYTES
    except AssetError:
        raise
    except Exception as error:  # whatever a user's model and data raise
        raise AssetError(f"{evaluation.name}: a sample could not be sent through: {describe_error(error)}") from error
    answering /= len(signals)
    metrics = [metric for metric in evaluation.task.signal_metrics(evaluation.similarity) if not metric.missing()]
    for case in evaluation.cases:
        key = (evaluation.name, case.codec, case.quality)
        if (codec := case.open_codec()) is None:
            yield key, Cost(0.0, answering, stored, PROBED, "probe")
            continue
        try:
            if codec.missing([case.quality]):
                continue
            codec.prepare(case.siblings())
            codec.decode(codec.encode(signals[0], case.quality))  # what is loaded once
            rest = signals[1:] or signals
            streams, encoding = _timed(lambda: [codec.encode(signal, case.quality) for signal in rest])  # noqa: B023 - called at once
            decoded, decoding = _timed(lambda: [codec.decode(stream) for stream in streams])  # noqa: B023
            pairs = list(zip(decoded, rest, strict=True))
            _, comparing = _timed(lambda: [metric.observe(*pair) for metric in metrics for pair in pairs])  # noqa: B023
        except Exception:  # the run says what is wrong with it; here its cost stays unknown
            continue
        size = sum(map(len, streams)) / len(rest)
        yield key, Cost((encoding + decoding) / len(rest), answering + comparing / len(rest), stored + size, PROBED, "probe")


def _timed(action: Callable[[], Any], twice: bool = False) -> tuple[Any, float]:
    """Return what an action returns, and its seconds; ``twice`` where its first time loads what stays.

    Processor time, for other programs may run beside it; the longer one where another process does the work.
    """
    if twice:
        action()
    passed, worked = time.perf_counter(), time.process_time()
    result = action()
    passed, worked = time.perf_counter() - passed, time.process_time() - worked
    return result, passed if worked < 0.2 * passed else worked


def _held() -> float:
    from mpq_fixtures.processes.clock import peak_memory

    return float(peak_memory())


def _machine() -> Machine:
    memory = math.inf
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if (store := store_folder(store_location(None))) is None:
        return Machine(cores(), memory, math.inf)
    there = next((folder for folder in (store, *store.parents) if folder.exists()), Path.cwd())
    return Machine(cores(), memory, float(shutil.disk_usage(there).free))


# What people see


def _lines(suite: str, made: Plan, costs: Costs) -> Iterator[str]:
    rows = [("evaluation", "cases", "samples", "core time", "store", "known from")]
    rows += [
        (part.evaluation, str(part.cases), f"{part.samples:,}", _duration(part.seconds), _size(part.stored), ", ".join(part.sources) or "-")
        for part in made.parts
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for cells in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
    yield ""
    yield f"{suite} on {counted(made.workers, 'worker')}, from an empty store: {_duration(made.seconds)}"
    yield f"core time {_duration(made.core_seconds)}; store {_size(made.stored)}; memory {made.memory / 1e9:.1f} GB" + (
        "" if costs.memory_is_measured else ", which was not measured"
    )
    yield "what holds it up with more workers, first things first:"
    yield from (f"  {sentence}" for _, sentence in made.limits)
    if made.unknown:
        named = ", ".join(made.unknown[:5]) + (", ..." if len(made.unknown) > 5 else "")
        yield f"not counted, since nobody knows their cost: {counted(len(made.unknown), 'case')}: {named}"


def _duration(seconds: Range) -> str:
    return f"{_time(seconds.expected)} ({_time(seconds.low)} to {_time(seconds.high)})"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _size(stored: Range) -> str:
    """Write bytes with the factor within which they lie."""
    unit, divisor = ("GB", 1e9) if stored.expected >= 1e9 else ("MB", 1e6)
    return f"{stored.expected / divisor:.3g} {unit} (within {stored.factor:.1f}x)"
