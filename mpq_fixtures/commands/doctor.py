"""``mpq doctor``: what a suite needs and how it stands, the devices, the codecs, the store, and mistakes in the suite's file."""

from __future__ import annotations

import os
import shutil
import sys
from importlib.metadata import version

from mpq_fixtures.codecs import CodecError
from mpq_fixtures.commands.assets import assets, suites_folder, used_codecs
from mpq_fixtures.errors import describe_error
from mpq_fixtures.gate.baseline_files import BaselineError, baseline_file
from mpq_fixtures.gate.baselines import read_baselines
from mpq_fixtures.hub.repository import State, megabytes, sentences
from mpq_fixtures.options import baselines_beside, store_folder, store_location
from mpq_fixtures.store import StoreError, open_store
from mpq_fixtures.store.usage import in_bytes
from mpq_fixtures.suite import Evaluation, SuiteError
from mpq_fixtures.suite.file import find_suite, load_suite, mistakes
from mpq_fixtures.words import counted

ROOM = 200_000_000
"""Bytes that a store should have left: some thousands of bitstreams and predictions."""


def doctor(suite: str = "pocket", imports: bool = False) -> int:
    """Write how a suite, by name or file, stands, and return the exit code: 0 when it can run as it is, 1 when it lacks something, 2 when
    there is no such suite, or one that is wrong.

    Nothing of the suite is run, unless ``imports`` asks for its ``python:`` models and data sets.
    """
    try:
        file = find_suite(suite, suites_folder())
        wrong = mistakes(file)
    except (SuiteError, CodecError) as error:
        wrong = [str(error)]
    if wrong:
        for mistake in wrong:
            sys.stderr.write(f"mpq doctor: {mistake}\n")
        return 2
    evaluations = load_suite(file)
    problems = (
        _assets(evaluations, imports)
        + _machine(evaluations)
        + _codecs(evaluations)
        + _similarity(evaluations)
        + _baselines(evaluations)
        + _store()
    )
    if problems:
        _title("what to do")
        for problem in problems:
            sys.stdout.write(f"  {problem}\n")
        return 1
    cases, many = sum(len(evaluation.cases) for evaluation in evaluations), "s" if len(evaluations) > 1 else ""
    sys.stdout.write(f"\n{suite}: passed: {cases} cases of {len(evaluations)} evaluation{many} can run\n")
    return 0


def _assets(evaluations: list[Evaluation], imports: bool) -> list[str]:
    _title("models and data sets")
    needed = assets(evaluations)
    width = max(len(asset.name) for asset in needed)
    missing = []
    for asset in needed:
        status = asset.look(imports)
        size = f"  {megabytes(status.size)}" if status.files else ""
        sys.stdout.write(f"  {asset.kind:8} {asset.name:{width}}  {status.state.value}{size}\n")
        sys.stdout.flush()
        if status.state not in (State.HERE, State.UNTRIED):
            missing.append(status)
    return sentences(missing)


def _machine(evaluations: list[Evaluation]) -> list[str]:
    """Write the devices that torch sees, of which a processor is always there, and the store; return what is wrong with that."""
    import torch

    from mpq_fixtures.processes.devices import cores

    _title("devices")
    _row("cpu", f"{counted(cores(), 'core')}, torch {torch.__version__}")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        _row(f"cuda:{index}", f"{properties.name}, {megabytes(properties.total_memory)}")
    if torch.backends.mps.is_available():
        _row("mps", "Apple GPU")
    packages = sorted({package for evaluation in evaluations for package in evaluation.task.packages} - {"torch"})
    _row("packages", ", ".join(f"{package} {version(package)}" for package in packages))
    try:
        store = open_store(store_location(None))
        _row("store", f"{store.location}, {in_bytes(sum(part.bytes for part in store.parts()))}")
    except StoreError as error:
        return [str(error)]
    return []


def _codecs(evaluations: list[Evaluation]) -> list[str]:
    _title("codecs")
    problems = []
    used = used_codecs(evaluations)
    width = max((len(codec.name) for codec, _ in used), default=0)
    for codec, qualities in used:
        name = codec.name
        try:
            lack = codec.missing(qualities)
            _row(name, "missing" if lack else codec.build(), width)
        except Exception as error:
            lack = describe_error(error)
            _row(name, "broken", width)
        if lack:
            problems.append(f"codec {name}: {lack}; or leave it out with codecs = [...]")
    return problems


def _similarity(evaluations: list[Evaluation]) -> list[str]:
    metrics = {metric.name: metric for evaluation in evaluations for metric in evaluation.task.signal_metrics(evaluation.similarity)}
    _title("similarity")
    width = max((len(name) for name in metrics), default=0)
    for name, metric in sorted(metrics.items()):
        settings = ", ".join(f"{key} {value}" for key, value in (metric.settings | metric.packages).items())
        _row(name, "missing" if metric.missing() else f"here{f' ({settings})' if settings else ''}", width)
    return [f"metric {name}: {lack}" for name, metric in sorted(metrics.items()) if (lack := metric.missing())]


def _baselines(evaluations: list[Evaluation]) -> list[str]:
    """Write what was approved of each evaluation, when and by which mpq; a case that nothing was approved of is no problem yet."""
    _title("baselines")
    problems = []
    width = max(len(evaluation.name) for evaluation in evaluations)
    for evaluation in evaluations:
        file = baseline_file(baselines_beside(evaluation), evaluation.suite, evaluation.name)
        try:
            approved = read_baselines(file)
        except BaselineError as error:
            problems.append(str(error))
            _row(evaluation.name, "cannot be read", width)
            continue
        points = [case.point for case in evaluation.cases]
        count = sum(point in approved for point in points)
        dates = sorted(str(one.provenance.get("when", ""))[:10] for one in approved.values() if one.provenance.get("when"))
        when = f", {' to '.join(dict.fromkeys((dates[0], dates[-1])))}" if dates else ""
        others = sorted({point.rpartition("-")[0] for point in approved if point not in points})
        more = f"; {len(approved) - count} more of {', '.join(others)}" if others else ""
        _row(evaluation.name, f"{count} of {len(points)} cases approved{when}{more}", width)
    return problems


def _store() -> list[str]:
    _title("store")
    location = store_location(None)
    if (folder := store_folder(location)) is None:
        _row("place", f"{location}, whose room is not known here")
        return []
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    _row("folder", f"{folder}, {megabytes(free)} free")
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        return [f"{existing} cannot be written to: set MPQ_CACHE to another folder, or give --mpq-cache"]
    if free < ROOM:
        return [f"{existing} has only {megabytes(free)} left: free some, or set MPQ_CACHE to a folder on another disk"]
    return []


def _title(title: str) -> None:
    sys.stdout.write(f"{title}\n")


def _row(name: str, text: str, width: int = 0) -> None:
    sys.stdout.write(f"  {name:{max(width, 8)}} {text}\n")
