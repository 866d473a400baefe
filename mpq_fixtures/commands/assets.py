"""What a suite needs: each model and data set of its evaluations, and how it stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpq_fixtures import hub
from mpq_fixtures.codecs import Codec
from mpq_fixtures.codecs.scaling import split
from mpq_fixtures.datasets import align, load_dataset
from mpq_fixtures.errors import AssetError, describe_error
from mpq_fixtures.hub.repository import Repository, State, Status
from mpq_fixtures.models.callables import PYTHON, look_for
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.options import SUITES
from mpq_fixtures.suite import Evaluation
from mpq_fixtures.suite.file import find_suite, load_suite


@dataclass(frozen=True)
class Asset:
    """A model or a data set, the evaluations that need it, and its repository where it comes from the hub."""

    kind: str
    name: str
    evaluations: tuple[Evaluation, ...]
    repository: Repository | None

    @property
    def _source(self) -> str:
        first = self.evaluations[0]
        return first.model if self.kind == "model" else str(first.dataset["path"])

    def look(self, imports: bool = False) -> Status:
        """Say how it stands. What is here is opened, as far as that goes without weights, so that a wrong column or folder shows.

        A ``python:`` model or data set is somebody's code, which is read and not run unless ``imports`` says so.
        """
        if (source := self._source).startswith(PYTHON) and not imports:
            try:
                look_for(source, self.evaluations[0].folder)
            except AssetError as error:
                return Status(State.UNFIT, f"{self.kind} {self.name}", f"cannot be used: {error}")
            return Status(State.UNTRIED, self.name, "is here")
        if self.repository is not None:
            status = hub.look(self.repository)
            if status.state is not State.HERE:
                return status
        else:
            status = Status(State.HERE, self.name, "is here")
        try:
            for evaluation in self.evaluations:
                OpenModel(evaluation, "cpu").check() if self.kind == "model" else _open_dataset(evaluation)
        except AssetError as error:
            return Status(State.UNFIT, f"{self.kind} {self.name}", f"cannot be used: {error}")
        except Exception as error:
            return Status(State.UNFIT, f"{self.kind} {self.name}", f"cannot be opened: {describe_error(error)}")
        return status


def read_suite(name: str) -> list[Evaluation]:
    """Return the evaluations of a suite, by name or file. Raises `SuiteError`."""
    return load_suite(find_suite(name, suites_folder()))


def suites_folder() -> Path:
    """Return the folder of the named suites: that of the project around the working directory, or else around this package."""
    here = Path.cwd()
    around = [folder / SUITES for folder in (here, *here.parents, Path(__file__).parents[2])]
    return next((folder for folder in around if folder.is_dir()), around[0])


def assets(evaluations: Iterable[Evaluation]) -> Sequence[Asset]:
    """Return what the evaluations need, models first, each once however many need it."""
    found: dict[tuple[object, ...], Asset] = {}
    pairs = [(kind, evaluation) for kind in ("model", "dataset") for evaluation in evaluations]
    for kind, evaluation in pairs:
        if kind == "model":
            repository, name = hub.model_repository(evaluation), evaluation.model_name
            key: tuple[object, ...] = (kind, evaluation.task.name, evaluation.folder, evaluation.model)
        else:
            repository, name = hub.dataset_repository(evaluation), evaluation.dataset_name
            key = (kind, evaluation.task.name, evaluation.folder, str(evaluation.dataset))
        earlier = found[key].evaluations if key in found else ()
        found[key] = Asset(kind, name, (*earlier, evaluation), repository)
    return list(found.values())


def used_codecs(evaluations: Iterable[Evaluation]) -> list[tuple[Codec, list[str]]]:
    """Return the codecs of the evaluations by name, each with the qualities that are asked of it, without their scales."""
    used: dict[Codec, dict[str, None]] = {}
    for evaluation in evaluations:
        for name, quality in evaluation.points:
            used.setdefault(evaluation.codecs[name], {})[split(quality)[0]] = None
    return sorted(((codec, list(qualities)) for codec, qualities in used.items()), key=lambda pair: pair[0].name)


def _open_dataset(evaluation: Evaluation) -> None:
    """Open a data set, and hold its classes against the model's where those can be known without calling anything."""
    dataset = load_dataset(evaluation, 1)
    if evaluation.model.startswith(PYTHON):
        return
    try:
        labels = OpenModel(evaluation, "cpu").labels
    except AssetError:  # which is said of the model
        return
    align(dataset, evaluation, lambda: labels)
