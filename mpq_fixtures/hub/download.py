"""Repositories of the hub into the cache of ``huggingface_hub``.

Files come one by one into the cache's ``blobs`` folder under the name of their digest, which is checked; only then are they linked into
a snapshot. Downloads of ``huggingface_hub`` itself start from nothing when a process ends and do not check digests (as of 2.4), so that
the part of a file that has come is kept here beside the blob, and carried on.
"""

from __future__ import annotations

import glob
import hashlib
import re
from pathlib import Path
from typing import Any

from filelock import FileLock

from mpq_fixtures import hub
from mpq_fixtures.downloads import FetchError, carry_on, is_out_of_room, reason_of, size_of
from mpq_fixtures.hub.repository import File, Repository, Status


def download(repository: Repository, status: Status, bar: Any) -> None:
    """Bring a repository's needed files into the cache, each checked against its digest.

    ``bar`` is a tqdm that counts bytes. What has come of a file when the connection breaks is kept for the next time. Raises `FetchError`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    again = f"what has come is kept, carry on with: mpq fetch {repository.needed_for}"
    try:
        for name, file in status.files.items():
            if file.digest:
                _fetch_file(repository, status.commit, name, file, bar)
        shown = not are_progress_bars_disabled()
        disable_progress_bars()
        try:
            names = [glob.escape(name) for name in status.files]
            snapshot_download(repository.id, repo_type=repository.kind, revision=repository.revision, allow_patterns=names)
        finally:
            if shown:
                enable_progress_bars()
    except FetchError:
        raise
    except Exception as error:
        if is_out_of_room(error):
            raise FetchError(
                f"{repository.title}: no room left in {hub.storage(repository).parent}: free some, or set HF_HOME; {again}"
            ) from error
        raise FetchError(f"{repository.title} could not be fetched whole ({reason_of(error)}): {again}") from error


def _fetch_file(repository: Repository, commit: str, name: str, file: File, bar: Any) -> None:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    blob = hub.storage(repository) / "blobs" / file.digest
    part = blob.with_name(f"{file.digest}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{part}.lock"):
        if not blob.is_file():
            url = hf_hub_url(repository.id, name, repo_type=repository.kind, revision=commit)
            carry_on(url, part, file.size, bar.update, build_hf_headers())
            if not _is_whole(part, file):
                part.unlink()
                raise FetchError(
                    f"{repository.title}: {name} came damaged: its digest is not {file.digest[:12]}..., and it was dropped; "
                    f"try again: mpq fetch {repository.needed_for}"
                )
            part.replace(blob)
        elif not _is_whole(blob, file):
            blob.unlink()
            raise FetchError(f"{repository.title}: {name} was damaged in the cache and is dropped; then: mpq fetch {repository.needed_for}")
    Path(f"{part}.lock").unlink(missing_ok=True)


def _is_whole(path: Path, file: File) -> bool:
    """Compare a file with its size and digest: SHA-256 of the content, or git's SHA-1 of a blob."""
    if size_of(path) != file.size:
        return False
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", file.digest):
        return True  # not a digest: a hub that names its files otherwise
    digest = hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == file.digest
