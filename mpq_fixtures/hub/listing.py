"""What the hub says of a repository when it is asked: once a process, and without waiting for long."""

from __future__ import annotations

import threading
from typing import Any

from mpq_fixtures.hub.files import README
from mpq_fixtures.hub.repository import File, Repository

PATIENCE = 4.0
"""Seconds that the hub has to answer one question; after that it counts as out of reach for the rest of the process."""


class OutOfReach(Exception):
    """The hub does not answer; the message is a clause that ends in what would help."""


Listing = tuple[str, dict[str, File], str]
"""A repository's commit, its files, and its README."""

_answers: dict[Repository, Listing | Exception] = {}
_silence: list[str] = []  # why the hub counts as out of reach, once it does


def ask(repository: Repository) -> Listing:
    """Return what the hub says within `PATIENCE`, or raise it; raise `OutOfReach` where it is not the hub that answers.

    The question goes in a thread of its own, since no timeout of a client covers the look-up of a host's name.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import DisabledRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise OutOfReach("HF_HUB_OFFLINE keeps the hub from being asked: set HF_HUB_OFFLINE=0")
    if repository not in _answers and not _silence:
        said: list[Listing | Exception] = []
        thread = threading.Thread(target=_read, args=(repository, said), daemon=True, name="mpq-hub")
        thread.start()
        thread.join(PATIENCE)
        answer = said[0] if said else TimeoutError(f"no answer in {PATIENCE:g} s")
        of_the_hub = (RepositoryNotFoundError, RevisionNotFoundError, DisabledRepoError, HFValidationError)
        if isinstance(answer, Exception) and not isinstance(answer, of_the_hub):
            _silence.append((str(answer) or type(answer).__name__).splitlines()[0])
        else:
            _answers[repository] = answer
    if repository not in _answers:
        raise OutOfReach(f"{constants.ENDPOINT} cannot be reached ({_silence[0]}): find a network")
    answer = _answers[repository]
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(repository: Repository, said: list[Listing | Exception]) -> None:
    """Append to ``said`` what the hub says of a repository."""
    try:
        said.append(_list(repository))
    except Exception as error:
        said.append(error)


def _list(repository: Repository) -> Listing:
    from huggingface_hub import HfApi, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    api = HfApi()
    inform: Any = api.dataset_info if repository.kind == "dataset" else api.model_info
    info = inform(repository.id, revision=repository.revision, files_metadata=True, timeout=PATIENCE)
    if info.gated:
        api.auth_check(repository.id, repo_type=repository.kind)
    files = {
        sibling.rfilename: File(int(sibling.size or 0), str(sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or ""))
        for sibling in info.siblings or ()
    }
    readme = ""
    if repository.kind == "dataset" and README in files:
        url = hf_hub_url(repository.id, README, repo_type=repository.kind, revision=info.sha)
        response = get_session().get(url, headers=build_hf_headers(), timeout=PATIENCE)
        hf_raise_for_status(response)
        readme = response.text
    return str(info.sha), files, readme
