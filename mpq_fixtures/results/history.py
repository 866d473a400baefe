"""Runs over time: a folder with one Parquet file a run, which many machines may share and git or a CI cache may merge.

A file is written once and never again, under a name that sorts by time and that no other run has. `append` adds a run, `read_history`
reads what is there, whatever version of mpq wrote it. What follows from that is in `mpq_fixtures.results.courses`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from mpq_fixtures.files import for_arrow, write_atomically
from mpq_fixtures.results.courses import Course, Entry, History, Run
from mpq_fixtures.results.times import about_clocks, in_order, parse_moment
from mpq_fixtures.results.versions import versions_of

_ESSENTIAL = ("run", "started", "host", "case")
_LIVE = timedelta(hours=1)  # a run that is appended later was fed from its results, and says nothing of the clock
_SPARE = 20  # newest files of a host by name, among which its last run is, whatever its clock did now and then
_NAME = re.compile(r"\d{8}T\d{6}Z-(\w+)-[0-9a-f]{8}\.parquet")


def this_host() -> str:
    """Return what this machine is called in a history: ``MPQ_HOST``, one name for machines that are alike, or the host's name."""
    return os.environ.get("MPQ_HOST") or platform.node() or "unknown"


def host_of(results: Mapping[str, Any]) -> str:
    """Return where a run took place, as far as the content of its ``results.json`` says so; else this machine."""
    machine = (results.get("provenance") or {}).get("machine") or {}
    return str(machine.get("host") or this_host())


def append(folder: Path, results: Mapping[str, Any], host: str = "") -> Path:
    """Add a run to a history, from the content of its ``results.json``, and return the file; it is there whole or not at all.

    ``host`` is where it ran, if not here. The same results make the same name, so a run that is added twice is there once. Raises
    `OSError` where the folder cannot be written to.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    host = host or host_of(results)
    now = datetime.now(UTC)
    started = parse_moment(results.get("created")) or now
    digest = hashlib.sha256(json.dumps(results, sort_keys=True, default=str).encode()).hexdigest()[:8]
    file = folder / f"{started:%Y%m%dT%H%M%SZ}-{_slug(host)}-{digest}.parquet"
    if file.exists():
        return file
    provenance = results.get("provenance") or {}
    run = Run(
        run=file.stem,
        started=started,
        host=host,
        commit=str(provenance.get("commit") or ""),
        mpq=str(provenance.get("version") or ""),
        previous=_last_run(folder, host) if abs(now - started) < _LIVE else "",
    )
    rows = list(_rows(results, run, provenance))
    kinds = _columns()
    table = pa.table({name: pa.array([row.get(name) for row in rows], type=kind) for name, kind in kinds.items()})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    write_atomically(file, sink.getvalue())
    return file


def _columns() -> dict[str, Any]:
    """Return the columns and their types; `read_history` does without any of them but the first few, and passes over others."""
    import pyarrow as pa

    texts, figures = pa.string(), pa.float64()
    return {
        "run": texts,
        "started": pa.timestamp("ms", "UTC"),
        "host": texts,
        "previous": texts,
        "commit": texts,
        "mpq": texts,
        **dict.fromkeys(("suite", "evaluation", "codec", "quality", "case", "verdict", "outcome", "metric"), texts),
        **dict.fromkeys(("value", "ci_low", "ci_high"), figures),
        "unit": texts,
        "higher_is_better": pa.bool_(),
        "tolerance": figures,
        "rate": figures,
        "rate_unit": texts,
        "samples": pa.int64(),
        "signal": pa.map_(texts, figures),  # a metric that comes or goes changes no column
        "layer": texts,
        "suspect": texts,
        "versions": texts,
    }


def _rows(results: Mapping[str, Any], run: Run, provenance: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    cases = results.get("cases") or []
    codecs: dict[str, set[str]] = {}
    for case in cases:
        codecs.setdefault(str(case.get("evaluation")), set()).add(str(case.get("codec")))
    versions = {name: json.dumps(versions_of(provenance, name, known), sort_keys=True) for name, known in codecs.items()}
    for case in cases:
        metrics = case.get("metrics") or {}
        main = metrics.get(case.get("metric")) or {}
        yield {
            **{name: case.get(name) for name in _columns()},
            **vars(run),
            "unit": main.get("unit"),
            "higher_is_better": main.get("higher_is_better"),
            "tolerance": main.get("tolerance", case.get("tolerance")),
            "signal": [(name, one.get("value")) for name, one in metrics.items() if name != case.get("metric")],
            "layer": case.get("layer") or "",
            "suspect": case.get("suspect") or "",
            "versions": versions[str(case.get("evaluation"))],
        }


def read_history(folder: Path, globs: Sequence[str] = (), last: int | None = None) -> History:
    """Read a folder: the cases that fit one of ``globs`` (all without any), in the ``last`` runs of each host (all without).

    Damaged files and those of others are passed over and named in the notes. Raises `ValueError`, with a sentence, where there is no
    history.
    """
    tables, notes = _read_files(folder, last)
    if not tables:
        why = f": {'; '.join(notes)}" if notes else ""
        raise ValueError(f"no history in {folder}{why}; every run adds to the folder that --mpq-history names, reports/history by default")
    runs: dict[str, dict[str, Run]] = {}
    late: list[Run] = []
    for rows, modified in tables:
        run = _run(rows[0])
        runs.setdefault(run.host, {})[run.run] = run
        if run.started > modified + _LIVE:
            late.append(run)
    hosts = {host: in_order(known.values()) for host, known in sorted(runs.items())}
    notes += _about_hosts(hosts) + about_clocks(hosts, late)
    if last is not None:
        hosts = {host: ordered[-last:] for host, ordered in hosts.items()}
    places = {run.run: (host, number) for host, ordered in hosts.items() for number, run in enumerate(ordered)}
    found: dict[tuple[str, str, str, str, str, str], list[tuple[int, Entry]]] = {}
    for rows, _ in tables:
        if rows[0]["run"] not in places:
            continue
        host, number = places[rows[0]["run"]]
        for row in rows:
            if not globs or any(fnmatchcase(row["case"], glob) for glob in globs):
                suite, evaluation, codec, quality, case = (
                    str(row[name] or "") for name in ("suite", "evaluation", "codec", "quality", "case")
                )
                found.setdefault((suite, evaluation, codec, quality, case, host), []).append((number, _entry(row, hosts[host][number])))
    courses = [
        Course(suite, evaluation, codec, quality, case, host, [entry for _, entry in sorted(entries, key=lambda one: one[0])])
        for (suite, evaluation, codec, quality, case, host), entries in found.items()
    ]
    return History(folder, hosts, _latest_first(courses, hosts), notes)


def _read_files(folder: Path, last: int | None) -> tuple[list[tuple[list[dict[str, Any]], datetime]], list[str]]:
    """Return the rows of each file that a run wrote, with the time of the file, in the order of names, and what was passed over.

    For the ``last`` runs of a host it takes some more of its files, since a clock may have been wrong.
    """
    tables, strange = [], []
    try:
        files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    except FileNotFoundError:
        return [], ["there is no such folder"]
    except OSError as error:
        return [], [f"it cannot be read ({error.strerror})"]
    for file in files if last is None else _newest(files, last + _SPARE):
        try:
            if file.suffix != ".parquet":
                raise ValueError("no Parquet file")
            if rows := _read_file(file):
                tables.append((rows, datetime.fromtimestamp(file.stat().st_mtime, UTC)))
        except Exception as error:  # of damaged files pyarrow raises almost anything
            reason = getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]
            strange.append(f"{file.name} ({reason.rstrip('.')})")
    if not strange:
        return tables, []
    more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
    return tables, [f"passed over {len(strange)} {'file' if len(strange) == 1 else 'files'}: {', '.join(strange[:5])}{more}"]


def _newest(files: Sequence[Path], number: int) -> list[Path]:
    """Return the newest files of each host by their names, and all that have other names."""
    hosts: dict[str, list[Path]] = {}
    for file in files:
        found = _NAME.fullmatch(file.name)
        hosts.setdefault(found[1] if found else file.name, []).append(file)
    return sorted(file for named in hosts.values() for file in named[-number:])


def _read_file(file: Path, only: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return the rows of one file, with every column that there is today; raises `ValueError` where no run wrote it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pq.ParquetFile(for_arrow(file))
    known = {name: kind for name, kind in _columns().items() if only is None or name in only}
    there = set(content.schema_arrow.names)
    if lacking := [name for name in _ESSENTIAL if name not in there]:
        raise ValueError(f"no run wrote it: it has no column {lacking[0]!r}")
    table = content.read([name for name in known if name in there])
    columns = {}
    for name, kind in known.items():
        try:
            columns[name] = table[name].cast(kind) if name in there else pa.nulls(len(table), kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            if name in _ESSENTIAL:
                raise ValueError(f"its column {name!r} is of another kind") from None
            columns[name] = pa.nulls(len(table), kind)
    rows: list[dict[str, Any]] = pa.table(columns).to_pylist()
    return [row for row in rows if all(row[name] for name in _ESSENTIAL if name in known)]


def _last_run(folder: Path, host: str) -> str:
    """Return the last run of a host that a folder holds; what cannot be read counts for nothing here."""
    known = []
    for file in sorted(folder.glob(f"*-{_slug(host)}-*.parquet"))[-_SPARE:]:
        try:
            rows = _read_file(file, only=(*_ESSENTIAL, "previous"))
        except Exception:  # as above
            continue
        if rows and rows[0]["host"] == host:
            known.append(_run(rows[0]))
    return in_order(known)[-1].run if known else ""


def _about_hosts(hosts: Mapping[str, Sequence[Run]]) -> list[str]:
    if len(hosts) < 2:
        return []
    note = f"{len(hosts)} hosts, each shown by itself: a change of host is no change point"
    if len(hosts) > 3 and all(len(runs) == 1 for runs in hosts.values()):
        note += "; where machines are alike, give them one name: MPQ_HOST"
    return [note]


def _latest_first(courses: Iterable[Course], hosts: Mapping[str, Sequence[Run]]) -> list[Course]:
    """Return the courses host by host, in the order in which their cases came up."""
    order = list(hosts)
    return sorted(courses, key=lambda course: order.index(course.host))


def _run(row: Mapping[str, Any]) -> Run:
    started = row["started"]
    return Run(
        row["run"],
        started if started.tzinfo else started.replace(tzinfo=UTC),
        row["host"],
        *(row.get(name) or "" for name in ("commit", "mpq", "previous")),
    )


def _entry(row: Mapping[str, Any], run: Run) -> Entry:
    figures: dict[str, Any] = {name: _finite(row[name]) for name in ("value", "ci_low", "ci_high", "tolerance", "rate")}
    texts: dict[str, Any] = {name: row[name] or "" for name in ("verdict", "outcome", "metric", "unit", "rate_unit", "layer", "suspect")}
    return Entry(
        run,
        **texts,
        **figures,
        higher_is_better=row["higher_is_better"] is not False,
        samples=row["samples"] or 0,
        signal={name: value for name, value in row["signal"] or () if _finite(value) is not None},
        versions=_parsed(row["versions"] or ""),
    )


@cache
def _parsed(text: str) -> Mapping[str, str]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in content.items()} if isinstance(content, dict) else {}


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _slug(host: str) -> str:
    """Return a host's name as files have it; one that is too long, or has none of these letters, is told from others by a digest."""
    slug = re.sub(r"[^a-z0-9]+", "_", host.lower()).strip("_")
    return slug if 0 < len(slug) <= 40 else f"{slug[:33] or 'host'}_{hashlib.sha256(host.encode()).hexdigest()[:6]}"
