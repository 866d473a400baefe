"""``mpq fetch``: a suite's models and data sets from the hub into the cache of ``huggingface_hub``.

Files come one by one into the cache's ``blobs`` folder under the name of their digest, which is checked; only then are they linked into
a snapshot. Downloads of ``huggingface_hub`` itself start from nothing when a process ends and do not check digests (as of 2.4), so that
the part of a file that has come is kept here beside the blob, and carried on with a ``Range`` request (RFC 9110, section 14).
"""

from __future__ import annotations

import errno
import glob
import hashlib
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from mpq_fixtures import hub
from mpq_fixtures.commands.assets import Asset, assets, read_suite
from mpq_fixtures.hub.repository import File, Repository, State, Status, megabytes, sentences
from mpq_fixtures.suite_file import SuiteError

READ_TIMEOUT = 10.0
ATTEMPTS = 3
"""How often a file's download is tried again without a byte more."""


class FetchError(Exception):
    """A repository that could not be fetched; the message is a sentence that says what to do."""


def fetch(suite: str) -> int:
    """Download what a suite, by name or file, needs from the hub, and return the exit code: 1 where something could not be had."""
    try:
        needed = assets(read_suite(suite))
    except SuiteError as error:
        sys.stderr.write(f"mpq fetch: {error}\n")
        return 2
    looks = [(asset, asset.look()) for asset in needed]
    _list(looks)
    wanted = [(asset.repository, status) for asset, status in looks if asset.repository and status.state is State.FETCHABLE]
    complaints = sentences(status for _, status in looks if status.state not in (State.HERE, State.FETCHABLE))
    try:
        _check_room(wanted)
        with _bar(wanted) as bar:
            for repository, status in wanted:
                bar.set_description(repository.id)
                try:
                    download(repository, status, bar)
                except FetchError as error:
                    complaints.append(str(error))
    except FetchError as error:
        complaints.append(str(error))
    for complaint in complaints:
        sys.stderr.write(f"mpq fetch: {complaint}\n")
    if not complaints:
        sys.stdout.write(f"{suite}: everything is here\n")
    return 1 if complaints else 0


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
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise FetchError(
                f"{repository.title}: no room left in {hub.storage(repository).parent}: free some, or set HF_HOME; {again}"
            ) from error
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FetchError(f"{repository.title} could not be fetched whole ({reason}): {again}") from error


def _fetch_file(repository: Repository, commit: str, name: str, file: File, bar: Any) -> None:
    blob = hub.storage(repository) / "blobs" / file.digest
    part = blob.with_name(f"{file.digest}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{part}.lock"):
        if not blob.is_file():
            _carry_on(repository, commit, name, file.size, part, bar)
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


def _carry_on(repository: Repository, commit: str, name: str, size: int, part: Path, bar: Any) -> None:
    """Append to ``part`` what is missing of the file."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(repository.id, name, repo_type=repository.kind, revision=commit)
    bar.update(min(size, _size(part)))
    attempts = ATTEMPTS
    while (before := _size(part)) < size or not part.exists():
        try:
            _append(url, part, size, bar)
            if _size(part) < size:
                raise ConnectionError(f"the connection ended after {_size(part)} of {size} bytes")
        except Exception as error:
            attempts = ATTEMPTS if _size(part) > before else attempts - 1
            if not attempts or getattr(error, "response", None) is not None or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
                raise
            time.sleep(0.5)


def _append(url: str, part: Path, size: int, bar: Any) -> None:
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    start = _size(part)
    headers = build_hf_headers() | {"Accept-Encoding": "identity", "Range": f"bytes={start}-"}
    with get_session().stream("GET", url, headers=headers if size else {}, timeout=READ_TIMEOUT) as response:
        hf_raise_for_status(response)
        if response.status_code != 206 and start:  # the server sends the file from its beginning
            bar.update(-start)
            start = 0
        with part.open("ab" if start else "wb") as output:
            for chunk in response.iter_bytes():  # as they come: what a chunk of fixed size holds back is lost when the connection breaks
                output.write(chunk)
                output.flush()
                bar.update(len(chunk))


def _is_whole(path: Path, file: File) -> bool:
    """Compare a file with its size and digest: SHA-256 of the content, or git's SHA-1 of a blob."""
    if _size(path) != file.size:
        return False
    if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", file.digest):
        return True  # not a digest: a hub that names its files otherwise
    digest = hashlib.sha256() if len(file.digest) == 64 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest() == file.digest


def _list(looks: Sequence[tuple[Asset, Status]]) -> None:
    """Write what is needed, from where, and how much is to come."""
    width = max(len(asset.name) for asset, _ in looks)
    for asset, status in looks:
        size = megabytes(status.size) if status.files else ""
        sys.stdout.write(f"{asset.kind:8} {asset.name:{width}} {size:>9}  {status.state.value}\n")
    wanted = [(asset.repository, status) for asset, status in looks if asset.repository and status.state is State.FETCHABLE]
    if wanted:
        files = sum(len(status.files) for _, status in wanted)
        sys.stdout.write(f"to download: {megabytes(_to_come(wanted))} in {files} files, into {hub.storage(wanted[0][0]).parent}\n")
    sys.stdout.flush()


def _check_room(wanted: Sequence[tuple[Repository, Status]]) -> None:
    if not wanted:
        return
    folder = hub.storage(wanted[0][0]).parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    needed, free = _to_come(wanted), shutil.disk_usage(existing).free
    if needed > free:
        raise FetchError(
            f"{folder} has room for {megabytes(free)}, and {megabytes(needed)} are to come: free some, or set HF_HOME to another disk"
        )


def _to_come(wanted: Sequence[tuple[Repository, Status]]) -> int:
    """Return the bytes that are not here yet, files that were begun counted by what they lack."""
    missing = 0
    for repository, status in wanted:
        blobs = hub.storage(repository) / "blobs"
        for file in status.files.values():
            if not (blobs / file.digest).is_file():
                missing += max(0, file.size - _size(blobs / f"{file.digest}.part"))
    return missing


def _bar(wanted: Sequence[tuple[Repository, Status]]) -> Any:
    from tqdm import tqdm  # type: ignore[import-untyped]

    # Without a terminal there is no bar.
    return tqdm(total=sum(status.size for _, status in wanted), unit="B", unit_scale=True, disable=None if wanted else True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
