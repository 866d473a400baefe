"""Suite files: TOML in, evaluations out.

Every mistake in a file is a `SuiteError` that says where it is and what would be right; nothing is loaded here but the file.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpq_fixtures import codecs, tasks
from mpq_fixtures.codecs import Codec, CodecError
from mpq_fixtures.codecs.command import read_codec
from mpq_fixtures.codecs.scaling import check, split
from mpq_fixtures.errors import describe_error, nearest
from mpq_fixtures.metrics import Metric, MetricError, fault, registered_signal_metrics
from mpq_fixtures.models.callables import PYTHON
from mpq_fixtures.signals import Dataset, Modality
from mpq_fixtures.suite import BOTH, FAIL, LABELS, OWN_ANSWERS, SAY, Evaluation, SuiteError
from mpq_fixtures.suite.limits import read_limits, read_margins, read_thresholds
from mpq_fixtures.suite.tables import check_keys, choice
from mpq_fixtures.tasks import Task, TaskError, find_task

_PART = re.compile(r"[a-z0-9_][a-z0-9_.]*")  # what begins with a dot is hidden, or leads out of a folder
_REQUIRED = ("task", "model", "dataset")
_OPTIONAL = (
    "name",
    "codecs",
    "optional",
    "qualities",
    "similarity",
    "samples",
    "thresholds",
    "margins",
    "underpowered",
    "targets",
    "options",
    "limits",
)
_NO_DATA = Dataset((), ("one", "another"))  # for a metric that is only asked what it is


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(_is_text(one) or _is_texts(one) for one in value.values())


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(type(row) is int and row >= 0 for row in value)


_COLUMN = (_is_text, "the name of a column")
_DATASET = {
    "path": (_is_text, "a text"),
    "name": (_is_text, "a text, the configuration on the hub"),
    "revision": (_is_text, "a text, such as a commit of the hub"),
    "data_dir": (_is_text, "a folder"),
    "data_files": (lambda value: _is_text(value) or _is_texts(value) or _is_table(value), 'a file, a list, or { test = "*.parquet" }'),
    "split": (_is_text, 'a split or a stretch of one, "test[:60]"'),
    "exclude": (_is_rows, "a list of row numbers"),
    "id": _COLUMN,
    "group": _COLUMN,
    "labels": (lambda value: value == "by index" or _is_texts(value), 'a list of names, or "by index"'),
}
"""What a data set's table may hold besides the columns of its task."""


def find_suite(name: str, suites: Path) -> Path:
    """Return the file of a suite: a path to a TOML file, or a name in the folder ``suites``."""
    if name.endswith(".toml") or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise SuiteError(f"no suite file {name}: give the path of a TOML file, or one of: {_listed(_names_in(suites))}")
        return path
    path = suites / f"{name}.toml"
    if not path.is_file():
        known = _names_in(suites)
        hint = nearest(name, known) if known else ": no suite has a name here; give the path of a TOML file"
        raise SuiteError(f"unknown suite {name!r}{hint}")
    return path


def load_suite(path: Path) -> list[Evaluation]:
    """Read a suite file into its evaluations, in the order of the file."""
    suite, own, tables = _read(path)
    evaluations = [_evaluation(table, suite, path, number, own) for number, table in enumerate(tables, 1)]
    check_unique(evaluations, f"{path}: ")
    return evaluations


def declared_codecs(path: Path) -> dict[str, Codec]:
    """Return the codecs that a suite file declares by their commands; raises `SuiteError`."""
    _, own, _ = _read(path)
    return own


def mistakes(path: Path) -> list[str]:
    """Return the mistakes in a suite file, the first one of each evaluation; one that is in all of them once."""
    found = []
    try:
        suite, own, tables = _read(path)
        for number, table in enumerate(tables, 1):
            try:
                _evaluation(table, suite, path, number, own)
            except SuiteError as error:
                found.append(str(error))
        if not found:
            load_suite(path)
    except SuiteError as error:
        found.append(str(error))
    return list(dict.fromkeys(found))


def check_unique(evaluations: Sequence[Evaluation], place: str = "") -> None:
    """Raise when two evaluations share a name, within a suite, whose ``place`` the message begins with, or between suites."""
    seen: dict[str, str] = {}
    for evaluation in evaluations:
        if evaluation.name in seen:
            raise SuiteError(
                f"{place}evaluation {evaluation.name!r} stands twice, in {seen[evaluation.name]!r} and {evaluation.suite!r}: rename one"
            )
        seen[evaluation.name] = evaluation.suite


def _read(path: Path) -> tuple[str, dict[str, Codec], list[dict[str, Any]]]:
    """Return a suite's name, its file's unless said, the codecs that it declares, and its tables of evaluations."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SuiteError(f"{path}: not valid TOML: {error}") from None
    if "evaluation" not in content and "task" in content:  # the file is one evaluation
        own = [key for key in content if key not in ("name", "codec")]
        check_keys({key: content[key] for key in own}, (), (*_REQUIRED, *_OPTIONAL, "codec"), str(path))
        content["evaluation"] = [{key: content.pop(key) for key in own}]
    check_keys(content, ("evaluation",), ("name", "codec", "evaluation"), str(path))
    suite = content.get("name", path.stem.lower())
    if not isinstance(suite, str) or not _PART.fullmatch(suite):
        unsaid = "" if "name" in content else "the file's own name stands for it; "
        raise SuiteError(f"{path}: name: {unsaid}{suite!r} must be lower case letters, digits, '_' and, but for its beginning, '.'")
    tables = content["evaluation"]
    if not isinstance(tables, list) or not tables or not all(isinstance(table, dict) for table in tables):
        raise SuiteError(f"{path}: write each evaluation as a table under [[evaluation]], with two brackets")
    return suite, _own_codecs(content.get("codec", []), path), tables


def _own_codecs(tables: Any, place: Path) -> dict[str, Codec]:
    """Return the codecs that a suite file declares by their commands."""
    if not isinstance(tables, list):
        raise SuiteError(f"{place}: write each codec as a table under [[codec]], with two brackets")
    own: dict[str, Codec] = {}
    for number, table in enumerate(tables, 1):
        name = table.get("name", "") if isinstance(table, dict) else ""
        try:
            codec = read_codec(table, place.parent)
        except CodecError as error:
            raise SuiteError(f"{place}: codec {number}{f' ({name})' if name else ''}: {error}") from None
        if codec.name in own or codec.name in codecs.registered():
            raise SuiteError(f"{place}: codec {number}: there is a codec {codec.name!r} already: take another name")
        if taken := codecs.clash(codec.name):
            raise SuiteError(f"{place}: codec {number}: {taken}")
        own[codec.name] = codec
    return own


def _evaluation(table: dict[str, Any], suite: str, path: Path, number: int, own: Mapping[str, Codec]) -> Evaluation:
    place = f"{path}: evaluation {number}" + (f" ({table['name']})" if "name" in table else "")
    return dataclasses.replace(read_evaluation(table, suite, path.resolve().parent, place, own), file=path)


def read_evaluation(table: dict[str, Any], suite: str, folder: Path, place: str, own: Mapping[str, Codec] | None = None) -> Evaluation:
    """Return the evaluation that a table describes, as it stands in a suite file; raises `SuiteError`, which begins with ``place``.

    ``folder`` is where its relative paths start, and ``own`` are the codecs that its suite declares.
    """
    own = own or {}
    check_keys(table, _REQUIRED, _REQUIRED + _OPTIONAL, place)
    name = table.get("name", suite)
    if not isinstance(name, str) or not _PART.fullmatch(name):
        raise SuiteError(f"{place}: name: {name!r} must be lower case letters, digits, '_' and, but for its beginning, '.'")
    for codec in (*codecs.registered(), *own):
        if codec in name:
            raise SuiteError(f"{place}: name: {name!r} contains the codec name {codec!r}, and -k could not tell them apart")
    task = _task(table["task"], f"{place}: task")
    possible = (LABELS, OWN_ANSWERS, BOTH) if task.columns[1:] else (OWN_ANSWERS,)
    targets = choice(table.get("targets", possible[0]), possible, f"{place}: targets")
    dataset = _dataset(table["dataset"], task, targets, f"{place}: dataset")
    if not isinstance(table["model"], str):
        raise SuiteError(f'{place}: model: write a hub id, a folder, or "python:module:callable" as a string')
    samples = table.get("samples")
    if samples is not None and (not isinstance(samples, int) or isinstance(samples, bool) or samples < 1):
        raise SuiteError(f"{place}: samples: {samples!r} must be a whole number above 0")
    options, model_options = _options(table.get("options", {}), task, table["model"], f"{place}: options")
    chosen, left_out = _codecs(table, task, own, place)
    similarity = _similarity(table.get("similarity", []), task, f"{place}: similarity")
    metric = _metric(task, options, place)
    if targets == BOTH and not metric.one_shape:
        instead = f'write an evaluation with "{LABELS}" and another with "{OWN_ANSWERS}"'
        raise SuiteError(
            f'{place}: targets: "{BOTH}" is not possible for {task.name}, which keeps more of one sample than of another: {instead}'
        )
    return Evaluation(
        name=name,
        suite=suite,
        task=task,
        model=table["model"],
        dataset=dataset,
        points=_points(table.get("qualities", {}), chosen, f"{place}: qualities"),
        codecs=chosen,
        similarity=similarity,
        left_out=left_out,
        folder=folder,
        samples=samples,
        thresholds=read_thresholds(table.get("thresholds", {}), metric, f"{place}: thresholds"),
        margins=read_margins(table.get("margins", {}), metric, task, similarity, f"{place}: margins"),
        underpowered=choice(table.get("underpowered", SAY), (SAY, FAIL), f"{place}: underpowered"),
        options=options,
        model_options=model_options,
        targets=targets,
        limits=read_limits(table.get("limits", {}), f"{place}: limits"),
    )


def _task(name: Any, place: str) -> Task:
    """Return the task of a name; what cannot be registered, of tasks and of metrics, is told before anything else."""
    try:
        known = tasks.registered()
        registered_signal_metrics(Modality.IMAGE)
    except (TaskError, MetricError) as error:
        raise SuiteError(str(error)) from None
    return find_task(choice(name, known, place))


def _metric(task: Task, options: Mapping[str, Any], place: str) -> Metric:
    """Return the metric of a task, which must be one."""
    try:
        metric = task.metric(_NO_DATA, **options)
    except Exception as error:  # whatever a class from outside raises; it is asked the same way when the case runs
        reason = f"raised {describe_error(error)}: it is asked once without samples, for what the metric is"
        raise SuiteError(f"{place}: task {task.name!r}: its metric() {reason}") from error
    if wrong := fault(metric):
        raise SuiteError(f"{place}: task {task.name!r}: what its metric() returns {wrong}")
    return metric


def _dataset(table: Any, task: Task, targets: str, place: str) -> dict[str, Any]:
    if not isinstance(table, dict) or not isinstance(table.get("path"), str):
        raise SuiteError(f'{place}: write a table with at least a path, {{ path = "imagefolder", data_dir = "photos" }}')
    check_keys(table, (), (*_DATASET, *task.columns), place)
    if targets == OWN_ANSWERS and (unread := [key for key in task.columns[1:] if key in table]):
        raise SuiteError(f'{place}: {unread[0]} is not read with targets = "{OWN_ANSWERS}": leave it out, or write targets = "{BOTH}"')
    for key, value in table.items():
        if wanted := _wanted(key, value, task):
            raise SuiteError(f"{place}: {key}: {value!r} must be {wanted}")
    if "group" in table and table["path"].startswith(PYTHON):
        raise SuiteError(f"{place}: group: a python: data set has no columns: leave it out, and give its samples their group there")
    return table


def _wanted(key: str, value: Any, task: Task) -> str:
    """Say what the value of a data set's key must be; "" where it is that."""
    if key not in _DATASET:
        return task.check_column(key, value)
    is_right, wanted = _DATASET[key]
    return "" if is_right(value) else wanted


def _codecs(table: dict[str, Any], task: Task, own: Mapping[str, Codec], place: str) -> tuple[dict[str, Codec], tuple[str, ...]]:
    """Return the codecs of an evaluation by name, and the names of the optional ones that lack something here.

    ``*`` stands for those that are taken where nothing is said.
    """
    classes = codecs.registered(task.modality)
    declared = {name: codec for name, codec in own.items() if codec.modality is task.modality}
    automatic = [*(name for name, codec in classes.items() if codec.automatic), *declared]
    wanted, optional = table.get("codecs", ["*"]), table.get("optional", [])
    lists = {"codecs": wanted, "optional": optional}
    for key, names in lists.items():
        if not isinstance(names, list):
            raise SuiteError(f'{place}: {key}: write a list, ["opus", "mp3"]')
    for key, names in lists.items():
        for name in names:
            if name != "*":
                choice(name, [*classes, *declared], f"{place}: {key}")
            if [*wanted, *optional].count(name) > 1:
                raise SuiteError(f"{place}: {key}: {name!r} stands twice")
    names = [one for name in wanted for one in (automatic if name == "*" else [name])]
    chosen = {name: declared.get(name) or codecs.instance(name) for name in dict.fromkeys([*names, *optional])}
    qualities = table.get("qualities", {})
    left_out = tuple(name for name, codec in chosen.items() if name not in names and codec.missing(_asked(qualities, name)))
    return {name: codec for name, codec in chosen.items() if name not in left_out}, left_out


def _asked(qualities: Any, name: str) -> list[str]:
    """Return the qualities that a file asks of a codec, without their scales; none where it is the ladder, or no list at all."""
    listed = qualities.get(name) if isinstance(qualities, dict) else None
    bases = [split(quality)[0] for quality in listed if _is_text(quality)] if isinstance(listed, list) else []
    return [] if "*" in bases else bases


def _points(qualities: Any, chosen: Mapping[str, Codec], place: str) -> tuple[tuple[str, str], ...]:
    """Return codec and quality of each point, codec by codec: the ladder, or what ``qualities`` says, in its order."""
    if not isinstance(qualities, dict):
        raise SuiteError(f'{place}: write a table, {{ opus = ["6k", "12k"] }}')
    for name in qualities:
        choice(name, chosen, place)
    points = []
    for name, codec in chosen.items():
        wanted = qualities.get(name, ["*"])
        if not isinstance(wanted, list) or not all(map(_is_text, wanted)):
            raise SuiteError(f'{place}: {name}: write a list, ["{codec.ladder[0]}"]')
        listed = [rung for quality in wanted for rung in _rungs(quality, codec, f"{place}: {name}")]
        if set(listed) <= set(codec.ladder):
            listed = [rung for rung in codec.ladder if rung in listed]
        points += [(name, quality) for quality in dict.fromkeys(listed)]
    return tuple(points)


def _rungs(quality: str, codec: Codec, place: str) -> list[str]:
    """Return the qualities that an entry stands for: itself, or the whole ladder at a scale for ``*`` and ``*@0.5x``."""
    base, _ = split(quality)
    listed = [rung + quality[len(base) :] for rung in codec.ladder] if base == "*" else [quality]
    for one in listed:
        try:
            check(codec, one)
        except CodecError as error:
            raise SuiteError(f"{place}: {error}") from None
    return listed


def _similarity(names: Any, task: Task, place: str) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(map(_is_text, names)):
        raise SuiteError(f'{place}: write a list, ["lpips"]')
    known = registered_signal_metrics(task.modality)
    for name in names:
        choice(name, known, place)
    return tuple(dict.fromkeys(names))


def _options(table: Any, task: Task, model: str, place: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the metric and those of the model's loader, with the task's defaults where the file says nothing."""
    if not isinstance(table, dict):
        raise SuiteError(f"{place}: write a table")
    check_keys(table, (), (*task.options, *task.model_options, *task.aliases), place)
    for alias, name in task.aliases.items():
        if alias in table and name in table:
            raise SuiteError(f"{place}: {alias} and {name} are one and the same: leave one out")
    table = {task.aliases.get(key, key): value for key, value in table.items()}
    options = {key: table.get(key, default) for key, default in task.options.items()}
    own_code = model.startswith(PYTHON)
    if own_code and (given := sorted(table.keys() & task.model_options.keys())):
        raise SuiteError(f"{place}: {given[0]}: a python: model settles this in its own code: leave it out")
    model_options = {} if own_code else {key: _in_order(table.get(key, default)) for key, default in task.model_options.items()}
    try:
        task.check_options(model_options)
        options = task.settle(options, model_options)
        if table.keys() & options.keys():  # what the file says nothing of cannot be its mistake
            task.metric(_NO_DATA, **options)
    except (TypeError, ValueError) as error:
        raise SuiteError(f"{place}: {error}") from None
    return options, model_options


def _in_order(value: Any) -> Any:
    """Return a table as the list of its pairs: a model may count by their order, which JSON with its keys sorted does not tell."""
    return [[key, one] for key, one in value.items()] if isinstance(value, dict) else value


def _names_in(suites: Path) -> list[str]:
    return sorted(path.stem for path in suites.glob("*.toml"))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nothing"
