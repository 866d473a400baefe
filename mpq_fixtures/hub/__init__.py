"""What the hub holds of a suite, and what of it is here.

A run reads the cache of ``huggingface_hub`` and never downloads: that is what ``mpq fetch`` is for. What is not here is looked up on the
hub once, with short timeouts, so that the reason for a skipped case is the true one; where the hub does not answer, that too is
remembered. ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` mean what they mean to ``huggingface_hub``.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mpq_fixtures.errors import AssetError, MissingAsset, nearest
from mpq_fixtures.hub.files import README, UnfitError, split_files
from mpq_fixtures.hub.listing import OutOfReach, ask
from mpq_fixtures.hub.repository import File, Repository, State, Status, megabytes
from mpq_fixtures.models.callables import PYTHON
from mpq_fixtures.paths import resolve
from mpq_fixtures.store import key_of

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation

BUILDERS = ("arrow", "audiofolder", "csv", "imagefolder", "json", "parquet", "text", "webdataset")
"""Data set paths that are a format of local files to ``datasets``, not an id on the hub."""

LEFT_THE_HUB = {
    "mozilla-foundation/common_voice_": "Common Voice left the hub in October 2025: download it from the Mozilla Data Collective and write "
    'dataset = { path = "common_voice", data_dir = "FOLDER", ... }',
}
"""Repositories that are known to be gone, by the beginning of their id, and what to do instead."""


def model_repository(evaluation: Evaluation) -> Repository | None:
    """Return the hub's repository of an evaluation's model; None where the model is a callable or a local folder."""
    source = evaluation.model
    if source.startswith(PYTHON) or _is_local(source, evaluation.folder):
        return None
    name, _, revision = source.partition("@")
    task = evaluation.task
    return Repository("model", task.repository(name), revision or "main", task.files, evaluation.suite_argument)


def dataset_repository(evaluation: Evaluation) -> Repository | None:
    """Return the hub's repository of an evaluation's data set; None where it is a callable, a format of local files or a folder."""
    table = evaluation.dataset
    path = table["path"]
    if path.startswith(PYTHON) or path in BUILDERS or "/" not in path or _is_local(path, evaluation.folder):
        return None
    return Repository("dataset", path, str(table.get("revision") or "main"), split_files(table), evaluation.suite_argument)


def model_folder(evaluation: Evaluation) -> Path:
    """Return the local folder of an evaluation's model: its own, or the hub's snapshot in the cache.

    Raises `AssetError` with what to do where it is not here.
    """
    repository = model_repository(evaluation)
    if repository is None:
        folder = resolve(evaluation.model, evaluation.folder, evaluation.name).resolve()
        if not folder.is_dir():
            advice = "put a model there as save_pretrained writes it"
            raise AssetError(f"{evaluation.name}: there is no model folder {folder}: {advice}{neighbours(folder)}")
        return folder
    return _folder(_found(repository))


def folders_beside(folder: Path) -> list[str]:
    """Return the names of the folders that there are where one should be, those that come closest where they are many."""
    parent = folder.parent
    names = sorted(path.name for path in parent.iterdir() if path.is_dir() and path.name[0] != ".") if parent.is_dir() else []
    return names if len(names) <= 12 else difflib.get_close_matches(folder.name, names, 12)


def neighbours(folder: Path) -> str:
    """Return the end of a sentence about a folder that is missing: what there is where it should be."""
    return nearest(folder.name, folders_beside(folder))


def model_weights(evaluation: Evaluation) -> str:
    """Return a digest of a hub model: the commit, and the files as the cache names them, which is by their own digests."""
    return key_of(commit=model_folder(evaluation).name, files=model_files(evaluation))


def model_files(evaluation: Evaluation) -> dict[str, str]:
    """Return of each file of a hub model what tells its content: its name in the cache, which is a digest of its own, and its size."""
    folder = model_folder(evaluation)
    files = {path.relative_to(folder).as_posix(): path.resolve() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: f"{path.name} {path.stat().st_size}" for name, path in files.items()}


def dataset_files(evaluation: Evaluation) -> list[Path]:
    """Return the Parquet files of an evaluation's hub data set and split, in order, from the cache.

    They begin with the split's first row and may end early where the split is a slice. Raises `AssetError` with what to do where they
    are not here.
    """
    repository = dataset_repository(evaluation)
    assert repository is not None
    status = _found(repository)
    return [_folder(status) / name for name in status.files if name != README]


def look(repository: Repository) -> Status:
    """Say how a repository stands: here, or else what the hub says of it."""
    return look_here(repository) or look_on_hub(repository)


def look_here(repository: Repository) -> Status | None:
    """Return the status of a repository whose needed files are all in the cache, without asking the hub; None where one is missing."""
    folder = snapshot(repository)
    if folder is None:
        return None
    names, complete = _known_names(repository, folder)
    readme = folder / README
    try:
        wanted = repository.choose(names, readme.read_text(encoding="utf-8") if readme.is_file() else "")
    except UnfitError as error:
        told = complete and (repository.kind == "model" or README not in names or readme.is_file())  # which may say where its splits are
        return Status(State.UNFIT, repository.title, f"cannot be used: {error}") if told else None
    if not all((folder / name).is_file() for name in wanted):
        return None
    files = {name: File((folder / name).stat().st_size) for name in wanted}
    return Status(State.HERE, repository.title, "is here", files, folder, folder.name)


def snapshot(repository: Repository) -> Path | None:
    """Return the folder of a repository's revision in the cache, whole or not; None where there is none."""
    folder = storage(repository)
    reference = folder / "refs" / repository.revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else repository.revision
    found = folder / "snapshots" / commit
    return found if found.is_dir() else None


def storage(repository: Repository) -> Path:
    """Return the folder that the cache has for a repository: ``blobs``, ``refs`` and ``snapshots`` are in it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser() / f"{repository.kind}s--{repository.id.replace('/', '--')}"


def look_on_hub(repository: Repository) -> Status:
    """Ask the hub for a repository: what would be fetched, or why it cannot be. The hub is asked once a process."""
    from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError

    title, fetch = repository.title, f"mpq fetch {repository.needed_for}"
    try:
        commit, listed, readme = ask(repository)
    except OutOfReach as error:
        return Status(State.UNREACHABLE, title, f"is not here, and {error}, then: {fetch}")
    except GatedRepoError:
        terms = f"accept its terms on {repository.page}, sign in with `hf auth login` or HF_TOKEN, then: {fetch}"
        return Status(State.GATED, title, f"is gated: {terms}")
    except RevisionNotFoundError:
        return Status(State.GONE, repository.id, f"has no revision {repository.revision!r} on the hub: see {repository.page}/tree/main")
    except Exception:
        advice = next((advice for start, advice in LEFT_THE_HUB.items() if repository.id.startswith(start)), "")
        if advice:
            return Status(State.GONE, title, f"is gone: {advice}")
        correct = f"correct the id, or, where it is private, sign in with `hf auth login` or HF_TOKEN, then: {fetch}"
        return Status(State.GONE, title, f"is not on the hub, nor a folder beside the suite file: {correct}")
    try:
        chosen = repository.choose(list(listed), readme)
    except UnfitError as error:
        return Status(State.UNFIT, title, f"cannot be used: {error}")
    files = {name: listed[name] for name in chosen}
    total = megabytes(sum(file.size for file in files.values()))
    return Status(State.FETCHABLE, title, f"is not here: `{fetch}` downloads it ({total})", files, None, commit)


def _found(repository: Repository) -> Status:
    """Return the status of a repository that is here; raise `AssetError` with what to do where it is not."""
    status = look(repository)
    if status.state is not State.HERE:
        raise (AssetError if status.state is State.UNFIT else MissingAsset)(status.sentence)
    return status


def _folder(status: Status) -> Path:
    assert status.folder is not None
    return status.folder


def _known_names(repository: Repository, folder: Path) -> tuple[Sequence[str], bool]:
    """Return the names of a snapshot's files: all, and True, where the hub's list was kept; else those that are here, and False."""
    try:
        from huggingface_hub import get_cached_repo_tree

        return [file.path for file in get_cached_repo_tree(repository.id, repo_type=repository.kind, revision=folder.name)], True
    except Exception:  # fetched by an older huggingface_hub, or file by file, which leaves no list
        return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()), False


def _is_local(source: str, folder: Path) -> bool:
    """Tell a folder from a hub id, which has one ``/``, begins with neither a dot nor one, and has no owner that is a folder here.

    A folder misspelt within one that is here is a mistake to be told, not an id for the hub.
    """
    odd = source.startswith((".", "/", "~", "$")) or source.partition("@")[0].count("/") > 1
    return odd or (folder / source.partition("/")[0]).is_dir()
