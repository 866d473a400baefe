"""From what stands on the command line of ``mpq advise`` to an evaluation, as a suite file would have it."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpq_fixtures import codecs, tasks
from mpq_fixtures.commands.assets import assets, read_suite
from mpq_fixtures.commands.fetch import fetch_assets
from mpq_fixtures.datasets.folders import FILES, WORDS
from mpq_fixtures.errors import AssetError, nearest
from mpq_fixtures.hub import model_folder, neighbours
from mpq_fixtures.models.callables import PYTHON
from mpq_fixtures.models.checkpoints import config_of
from mpq_fixtures.opened import OpenEvaluation
from mpq_fixtures.paths import expanded
from mpq_fixtures.signals import Dataset, Modality
from mpq_fixtures.suite import LABELS, OWN_ANSWERS, Evaluation, SuiteError
from mpq_fixtures.suite.file import read_evaluation
from mpq_fixtures.tasks import find_task
from mpq_fixtures.tasks._classes import Classification
from mpq_fixtures.words import counted

SUITE = "advise"
"""What such evaluations call their suite."""

_FOLDERS = {Modality.IMAGE: "imagefolder", Modality.AUDIO: "audiofolder"}
_TABLES = (".parquet", ".arrow", "dataset_dict.json")
_TEXTS = ("text", "sentence", "transcription", "transcript")
"""What columns of transcripts are called."""

_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_HEADS = {
    "ForImageClassification": "image_classification",
    "ForSemanticSegmentation": "image_segmentation",
    "ForObjectDetection": "object_detection",
    "WhisperForConditionalGeneration": "speech_recognition",
    "ForAudioClassification": "audio_classification",
}
"""The task of a checkpoint by the end of its class's name."""


class AdviceError(ValueError):
    """Something that was asked for and cannot be; the message is for people."""


@dataclass(frozen=True)
class Asked:
    """What stands on the command line; ``labels`` is None where it is left to the data and the model."""

    data: str
    model: str | None = None
    task: str | None = None
    labels: bool | None = None
    codecs: tuple[str, ...] = ()
    samples: int | None = None
    split: str | None = None


def candidates(asked: Asked) -> list[Evaluation]:
    """Return the evaluations that may be meant, those that read labels first; raises `AdviceError`, `SuiteError` or `AssetError`."""
    suite, _, name = asked.data.rpartition(":")
    if suite and not Path(asked.data).exists():
        return [_of_suite(asked, suite, name)]
    if asked.data.endswith(".toml"):
        raise AdviceError(
            f"{asked.data}: say which of its evaluations: {asked.data}:{' or :'.join(one.name for one in read_suite(asked.data))}"
        )
    if asked.model is None:
        raise AdviceError("name a model with --model: a hub id, a folder, or python:package.module:callable")
    path = expanded(asked.data)
    if path.is_dir():
        modality, tables = _inside(path)
    elif _HUB.fullmatch(asked.data) and not Path(asked.data).parent.is_dir():
        modality, tables = None, True
    else:
        raise AdviceError(
            f"there is no folder {path}, and neither is it SUITE:EVALUATION nor the id of a data set on the hub{neighbours(path)}"
        )
    task = find_task(asked.task) if asked.task else _task_of(asked.model, modality)
    if modality is not None and task.modality is not modality:
        raise AdviceError(f"{path} holds {WORDS[modality]}, and {task.name} takes {WORDS[task.modality]}: name another --task")
    return [_read(asked, task, dataset, targets) for dataset, targets in _readings(asked, path, task, tables)]


def choose(asked: Asked, found: Sequence[Evaluation], opened: OpenEvaluation) -> tuple[Evaluation, Dataset, list[str]]:
    """Return the first evaluation whose data and model fit each other, with its samples, and why others were passed over.

    What comes from the hub is downloaded where it is not here. Raises `AssetError` where none does.
    """
    notes: list[str] = []
    for evaluation in found:
        bring(evaluation)
        model = opened.model(evaluation)
        model.check()
        reads_labels, last = evaluation.targets != OWN_ANSWERS, evaluation is found[-1]
        try:
            if reads_labels and not last and isinstance(evaluation.task, Classification) and not model.labels:
                raise AssetError("the model names no classes; --labels takes those of the data in their order")
            return evaluation, opened.dataset(evaluation), notes
        except AssetError as error:
            if last:
                raise
            notes = notes or [str(error).removeprefix(f"{evaluation.name}: ")]
    raise AssertionError("there is no evaluation to choose from")


def bring(evaluation: Evaluation) -> None:
    """Download what an evaluation needs from the hub and this machine lacks; raises `AssetError` for what cannot be had."""
    needed = [asset for asset in assets([evaluation]) if asset.repository is not None]
    if needed and evaluation.suite == SUITE:
        with redirect_stdout(sys.stderr):
            complaints = fetch_assets(needed)
        if complaints:
            raise AssetError(complaints[0].replace(f"mpq fetch {SUITE}", "the same command again"))


def _of_suite(asked: Asked, suite: str, name: str) -> Evaluation:
    """Return an evaluation of a suite, with what the command line says otherwise."""
    if given := [f"--{key}" for key in ("model", "task", "split") if getattr(asked, key)]:
        raise AdviceError(f"{given[0]}: {asked.data} says that itself: leave it out")
    known = {evaluation.name: evaluation for evaluation in read_suite(suite)}
    if name not in known:
        raise AdviceError(f"{suite} has no evaluation {name!r}{nearest(name, known)}")
    evaluation = known[name]
    if asked.labels is not None:
        if asked.labels and not evaluation.has_labels:
            raise AdviceError(f"--labels: {asked.data} reads none")
        evaluation = dataclasses.replace(evaluation, targets=evaluation.targets if asked.labels else OWN_ANSWERS)
    if asked.codecs:
        chosen = {one: evaluation.codecs.get(one) or _registered(one, evaluation.task) for one in asked.codecs}
        evaluation = dataclasses.replace(evaluation, codecs=chosen)
    return evaluation


def _registered(name: str, task: tasks.Task) -> codecs.Codec:
    """Return a codec by its name; raises `AdviceError` where it is none for the task."""
    known = codecs.registered()
    if name not in known:
        raise AdviceError(f"--codec: there is no codec {name!r}{nearest(name, codecs.registered(task.modality))}")
    codec = codecs.instance(name)
    if codec.modality is not task.modality:
        takes = f"{name} is a codec of {WORDS[codec.modality]}, and {task.name} takes {WORDS[task.modality]}"
        raise AdviceError(f"--codec: {takes}; there is: {', '.join(codecs.registered(task.modality))}")
    return codec


def _inside(folder: Path) -> tuple[Modality | None, bool]:
    """Return what a folder holds, and whether it is a table, of which nobody knows what is in it before it is opened."""
    ends: Counter[str] = Counter()
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        ends.update(Path(name).suffix.lower() for name in files if not name.startswith("."))
        ends.update(name for name in files if name in _TABLES)
    counts = {modality: sum(ends[end] for end in FILES[modality]) for modality in Modality}
    there = [modality for modality in Modality if counts[modality]]
    if len(there) > 1:
        both = " and ".join(counted(counts[modality], WORDS[modality].removesuffix("s")) for modality in there)
        raise AdviceError(f"{folder} holds {both}: give a folder of one kind")
    if there:
        return there[0], False
    if any(ends[end] for end in _TABLES):
        return None, True
    raise AdviceError(f"there are neither pictures nor sounds in {folder}, nor below it")


def _task_of(model: str, modality: Modality | None) -> tasks.Task:
    """Return the task that a model is made for, as far as its configuration tells; raises `AdviceError` where it does not."""
    if model.startswith(PYTHON):
        if modality is Modality.IMAGE:
            return find_task("image_classification")
        raise AdviceError(_ask("nothing says what a python: model answers", modality))
    guess = "image_classification" if modality in (None, Modality.IMAGE) else "speech_recognition"
    unread = {"name": "model", "task": guess, "model": model, "dataset": {"path": "."}, "targets": OWN_ANSWERS}
    provisional = read_evaluation(unread, SUITE, Path.cwd(), "--model")
    only = [asset for asset in assets([provisional]) if asset.kind == "model" and asset.repository]
    if only:
        with redirect_stdout(sys.stderr):
            complaints = fetch_assets(only)
        if complaints:
            raise AssetError(complaints[0].replace(f"mpq fetch {SUITE}", "the same command again"))
    config = config_of(model_folder(provisional))
    for name in config.get("architectures") or []:
        task = next((task for end, task in _HEADS.items() if name.endswith(end)), "")
        if not task and name.endswith("Model") and modality is not None:
            task = f"{modality.value}_embedding"
        if not task and name.endswith("ForSequenceClassification") and modality is Modality.AUDIO:
            task = "audio_classification"
        if task:
            return find_task(task)
    if modality is Modality.IMAGE:
        return find_task("image_classification")
    raise AdviceError(_ask(f"the configuration of {model} does not say what it answers", modality))


def _ask(reason: str, modality: Modality | None) -> str:
    known = [name for name, task in tasks.registered().items() if modality in (None, task.modality)]
    return f"{reason}: say it with --task: {', '.join(known)}"


def _readings(asked: Asked, path: Path, task: tasks.Task, table: bool) -> list[tuple[dict[str, Any], str]]:
    """Return the data sets that may be meant, as a suite file would have them, each with what answers are held against."""
    split = {"split": asked.split} if asked.split else {}
    whole = {"path": str(path.resolve()) if path.is_dir() else asked.data}
    files = {"path": _FOLDERS[task.modality], "data_dir": str(path.resolve())}
    reads = task.columns[1:]
    found: list[tuple[dict[str, Any], str]] = []
    if reads and asked.labels is not False:
        columns: list[dict[str, str]] = [{"text": name} for name in _TEXTS] if reads == ("text",) else [{}]
        found += [({**(whole if table else files), **split, **column}, LABELS) for column in columns]
    if not reads and asked.labels:
        raise AdviceError(f"--labels: {task.name} reads none: answers are held against those to the originals")
    if asked.labels is not True:
        found.append(({**(files if split and not table else whole), **split}, OWN_ANSWERS))
    return found


def _read(asked: Asked, task: tasks.Task, dataset: dict[str, Any], targets: str) -> Evaluation:
    for name in asked.codecs:
        _registered(name, task)
    table: dict[str, Any] = {"name": _name(asked.data), "task": task.name, "model": asked.model, "dataset": dataset, "targets": targets}
    if asked.codecs:
        table["codecs"] = list(dict.fromkeys(asked.codecs))
    try:
        return read_evaluation(table, SUITE, Path.cwd(), asked.data)
    except SuiteError as error:
        raise AdviceError(str(error)) from None


def _name(data: str) -> str:
    """Return what the evaluation of a folder or a data set is called: its own name, where that can be part of an id."""
    name = re.sub(r"[^a-z0-9_.]+", "_", expanded(data).resolve().name.lower()).strip("_.")
    return "data" if not name or any(codec in name for codec in codecs.registered()) else name
