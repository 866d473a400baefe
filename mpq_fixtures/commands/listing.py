"""``mpq list``: what a suite file may name, one thing a line, the name first."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from mpq_fixtures import codecs, metrics, tasks
from mpq_fixtures.codecs import Codec, CodecError
from mpq_fixtures.commands.assets import suites_folder
from mpq_fixtures.metrics import Metric, MetricError
from mpq_fixtures.signals import Dataset, Modality
from mpq_fixtures.suite import SuiteError
from mpq_fixtures.suite.file import load_suite
from mpq_fixtures.tasks import Task, TaskError
from mpq_fixtures.words import counted


class Entry(NamedTuple):
    """Something that can be named: its name, what it is of, what it is, and what this machine lacks for it ("" for nothing)."""

    name: str
    kind: str
    what: str
    lack: str = ""


def list_known(what: str, as_json: bool) -> int:
    """Write what there is of ``what``, one of `WHAT`; return the exit code: 0, or 2 where something that plugs in cannot be used."""
    try:
        entries = list(WHAT[what]())
    except (CodecError, MetricError, SuiteError, TaskError) as error:
        sys.stderr.write(f"mpq list: {error}\n")
        return 2
    if as_json:
        sys.stdout.write(json.dumps([entry._asdict() for entry in entries], indent=1) + "\n")
        return 0
    name, kind = (max((len(entry[place]) for entry in entries), default=0) for place in (0, 1))
    for entry in entries:
        lack = f" (missing: {entry.lack})" if entry.lack else ""
        sys.stdout.write(f"{entry.name:{name}}  {entry.kind:{kind}}  {entry.what}{lack}".rstrip() + "\n")
    return 0


def _tasks() -> Iterator[Entry]:
    for name, task in tasks.registered().items():
        yield Entry(name, task.modality.value, f"{task.title}; columns {', '.join(task.columns)}")


def _codecs() -> Iterator[Entry]:
    for name, codec in _all_codecs():
        chosen = "" if codec.automatic else "; only where a suite names it"
        yield Entry(name, codec.modality.value, f"{_first_line(type(codec))}{chosen}", codec.missing())


def _qualities() -> Iterator[Entry]:
    for name, codec in _all_codecs():
        others = codec.others()
        further = f"; also {' '.join(others)}" if others else f"; any of {codec.qualities}" if codec.qualities else ""
        yield Entry(name, codec.modality.value, f"{' '.join(codec.ladder)}{further}")


def _metrics() -> Iterator[Entry]:
    deciding: dict[type[Metric], list[str]] = {}
    for name in tasks.registered():
        deciding.setdefault(_metric_of(tasks.find_task(name)), []).append(name)
    for metric, names in deciding.items():
        yield Entry(metric.name, "task", f"{_described(metric)}; decides {', '.join(names)}")
    for modality in Modality:
        for name, signal_metric in metrics.registered_signal_metrics(modality).items():
            chosen = "" if signal_metric.automatic else "; only where a suite names it in similarity"
            yield Entry(name, modality.value, f"{_described(signal_metric)}{chosen}", signal_metric().missing())


def _suites() -> Iterator[Entry]:
    for file in sorted(suites_folder().glob("*.toml")):
        evaluations = load_suite(file)
        names = ", ".join(evaluation.name for evaluation in evaluations)
        yield Entry(file.stem, counted(sum(len(evaluation.cases) for evaluation in evaluations), "case"), names)


WHAT: Mapping[str, Callable[[], Iterator[Entry]]] = {
    "tasks": _tasks,
    "codecs": _codecs,
    "qualities": _qualities,
    "metrics": _metrics,
    "suites": _suites,
}
"""What can be listed."""


def _all_codecs() -> Iterator[tuple[str, Codec]]:
    known = codecs.registered()
    for name in sorted(known, key=lambda name: (known[name].modality is not Modality.IMAGE, name)):
        yield name, codecs.instance(name)


def _metric_of(task: Task) -> type[Metric]:
    """Return the class of the metric that decides a task's cases; it is asked for as for a data set of two classes and no samples."""
    return type(task.metric(Dataset((), ("one", "another")), **task.settle(task.options, task.model_options)))


def _described(metric: type[Metric]) -> str:
    better = "" if metric.higher_is_better else ", lower is better"
    return f"{_first_line(metric)}{better}"


def _first_line(thing: type) -> str:
    """Return the first sentence of a class's documentation, without its end."""
    line = (inspect.getdoc(thing) or "").partition("\n")[0]
    return re.split(r"(?<! al)\. ", line)[0].removesuffix(".")
