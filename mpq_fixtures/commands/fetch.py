"""``mpq fetch``: what a suite, a codec or a metric needs and this machine lacks.

A suite's models and data sets come from the hub into the cache of ``huggingface_hub``; what its codecs need, each codec brings itself; the
weights of its metrics are downloaded beside those of the codecs.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from mpq_fixtures import codecs, hub
from mpq_fixtures.codecs import Codec, CodecError
from mpq_fixtures.commands.assets import Asset, assets, read_suite, used_codecs
from mpq_fixtures.downloads import FetchError, progress_bar, size_of
from mpq_fixtures.errors import AssetError, nearest
from mpq_fixtures.hub.download import download
from mpq_fixtures.hub.repository import Repository, State, Status, megabytes, sentences
from mpq_fixtures.metrics import MetricError, SignalMetric, registered_signal_metrics
from mpq_fixtures.signals import Modality
from mpq_fixtures.suite import SuiteError
from mpq_fixtures.weights import Weights
from mpq_fixtures.weights import download as download_weights

Wanted = Sequence[tuple[Repository, Status]]


def fetch(suite: str | None, codec_names: Sequence[str] = (), metric_names: Sequence[str] = ()) -> int:
    """Download what a suite, by name or file, and the named codecs and metrics need; return the exit code, 1 where some cannot be had."""
    try:
        evaluations = read_suite(suite) if suite else []
        used: dict[Codec, list[str]] = dict(used_codecs(evaluations)) | {_codec(name): [] for name in codec_names}
        measured = {name for evaluation in evaluations for name in evaluation.similarity}
        metrics = [_metric(name) for name in dict.fromkeys([*metric_names, *sorted(measured)])]
    except (SuiteError, CodecError, MetricError) as error:
        sys.stderr.write(f"mpq fetch: {error}\n")
        return 2
    complaints = fetch_assets(assets(evaluations)) if evaluations else []
    complaints += _bring(
        "codec",
        {codec.name: (partial(codec.missing, qualities), partial(codec.fetch, qualities=qualities)) for codec, qualities in used.items()},
    )
    complaints += _bring("metric", {metric.name: (metric.missing, partial(_fetch_weights, metric)) for metric in metrics})
    for complaint in complaints:
        sys.stderr.write(f"mpq fetch: {complaint}\n")
    if not complaints:
        sys.stdout.write(f"{suite or ', '.join([*codec_names, *metric_names])}: everything is here\n")
    return 1 if complaints else 0


def _codec(name: str) -> Codec:
    known = codecs.registered()
    if name not in known:
        raise CodecError(f"there is no codec {name!r}{nearest(name, known)}")
    return codecs.instance(name)


def _metric(name: str) -> SignalMetric:
    known = {name: metric for modality in Modality for name, metric in registered_signal_metrics(modality).items()}
    if name not in known:
        raise MetricError(f"there is no metric {name!r}{nearest(name, known)}")
    return known[name]()


def _fetch_weights(metric: SignalMetric, say: Callable[[str], None]) -> None:
    weights = getattr(metric, "weights", None)
    if isinstance(weights, Weights):
        with progress_bar(metric.name, weights.size) as bar:
            say(f"{metric.name}: weights ({weights.licence}) in {download_weights(weights, bar.update)}")


def _bring(kind: str, needed: Mapping[str, tuple[Callable[[], str], Callable[[Callable[[str], None]], None]]]) -> list[str]:
    """Bring what each says that it lacks, by its own way; return what cannot be had."""
    complaints = []
    for name, (missing, bring) in needed.items():
        if not missing():
            continue
        try:
            bring(_say)
            lack = missing()
        except (AssetError, FetchError) as error:
            lack = str(error)
        if lack:
            complaints.append(f"{kind} {name}: {lack}")
    return complaints


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fetch_assets(needed: Iterable[Asset]) -> list[str]:
    """Download models and data sets; return what cannot be had."""
    looks = [(asset, asset.look()) for asset in needed]
    wanted = [(asset.repository, status) for asset, status in looks if asset.repository and status.state is State.FETCHABLE]
    _list(looks, wanted)
    complaints = sentences(status for _, status in looks if status.state not in (State.HERE, State.UNTRIED, State.FETCHABLE))
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
