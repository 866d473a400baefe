"""``mpq fetch``: what a suite, or a codec, needs and this machine lacks.

A suite's models and data sets come from the hub into the cache of ``huggingface_hub``; what its codecs need, each codec brings itself.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

from mpq_fixtures import codecs, hub
from mpq_fixtures.codecs import Codec, CodecError
from mpq_fixtures.commands.assets import Asset, assets, read_suite
from mpq_fixtures.downloads import FetchError, progress_bar, size_of
from mpq_fixtures.hub.download import download
from mpq_fixtures.hub.repository import Repository, State, Status, megabytes, sentences
from mpq_fixtures.named import AssetError, nearest
from mpq_fixtures.suite_file import SuiteError

Wanted = Sequence[tuple[Repository, Status]]


def fetch(suite: str | None, names: Sequence[str] = ()) -> int:
    """Download what a suite, by name or file, and the codecs of these names need; return the exit code, 1 where some could not be had."""
    try:
        evaluations = read_suite(suite) if suite else []
        of_suite = {name for evaluation in evaluations for name, _ in evaluation.points}
        needed = _codecs([*names, *sorted(of_suite - set(names))])
    except (SuiteError, CodecError) as error:
        sys.stderr.write(f"mpq fetch: {error}\n")
        return 2
    complaints = _fetch_assets(assets(evaluations)) if evaluations else []
    complaints += _fetch_for_codecs(needed)
    for complaint in complaints:
        sys.stderr.write(f"mpq fetch: {complaint}\n")
    if not complaints:
        sys.stdout.write(f"{suite or ', '.join(names)}: everything is here\n")
    return 1 if complaints else 0


def _codecs(names: Iterable[str]) -> list[Codec]:
    known = codecs.registered()
    for name in names:
        if name not in known:
            raise CodecError(f"there is no codec {name!r}{nearest(name, known)}")
    return [known[name]() for name in dict.fromkeys(names)]


def _fetch_for_codecs(needed: Iterable[Codec]) -> list[str]:
    """Let the codecs that lack something bring it; return what cannot be had."""
    complaints = []
    for codec in needed:
        if not codec.missing():
            continue
        try:
            codec.fetch(_say)
            lack = codec.missing()
        except (AssetError, FetchError) as error:
            lack = str(error)
        if lack:
            complaints.append(f"codec {codec.name}: {lack}")
    return complaints


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fetch_assets(needed: Iterable[Asset]) -> list[str]:
    """Download models and data sets; return what cannot be had."""
    looks = [(asset, asset.look()) for asset in needed]
    wanted = [(asset.repository, status) for asset, status in looks if asset.repository and status.state is State.FETCHABLE]
    _list(looks, wanted)
    complaints = sentences(status for _, status in looks if status.state not in (State.HERE, State.FETCHABLE))
    try:
        _check_room(wanted)
        with progress_bar("", sum(status.size for _, status in wanted), shown=bool(wanted)) as bar:
            for repository, status in wanted:
                bar.set_description(repository.id)
                try:
                    download(repository, status, bar)
                except FetchError as error:
                    complaints.append(str(error))
    except FetchError as error:
        complaints.append(str(error))
    return complaints


def _list(looks: Sequence[tuple[Asset, Status]], wanted: Wanted) -> None:
    """Write what is needed, from where, and how much is to come."""
    width = max(len(asset.name) for asset, _ in looks)
    for asset, status in looks:
        size = megabytes(status.size) if status.files else ""
        sys.stdout.write(f"{asset.kind:8} {asset.name:{width}} {size:>9}  {status.state.value}\n")
    if wanted:
        files = sum(len(status.files) for _, status in wanted)
        sys.stdout.write(f"to download: {megabytes(_to_come(wanted))} in {files} files, into {hub.storage(wanted[0][0]).parent}\n")
    sys.stdout.flush()


def _check_room(wanted: Wanted) -> None:
    if not wanted:
        return
    folder = hub.storage(wanted[0][0]).parent
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    needed, free = _to_come(wanted), shutil.disk_usage(existing).free
    if needed > free:
        raise FetchError(
            f"{folder} has room for {megabytes(free)}, and {megabytes(needed)} are to come: free some, or set HF_HOME to another disk"
        )


def _to_come(wanted: Wanted) -> int:
    """Return the bytes that are not here yet, files that were begun counted by what they lack."""
    missing = 0
    for repository, status in wanted:
        blobs = hub.storage(repository) / "blobs"
        for file in status.files.values():
            if not (blobs / file.digest).is_file():
                missing += max(0, file.size - size_of(blobs / f"{file.digest}.part"))
    return missing
