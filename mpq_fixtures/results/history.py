"""Runs over time: a folder with one Parquet file a run, which many machines may share and git or a CI cache may merge.

A file is written once and never again, under a name that sorts by time and that no other run has. `append` adds a run, `read_history`
reads what is there, whatever version of mpq wrote it. Machines are never mixed: a `Course` is one case on one host.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import platform
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache, cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from mpq_fixtures.files import write_atomically
from mpq_fixtures.results.change_points import ChangePoint, change_points

RED = ("regressed", "rate")
"""Verdicts that are red whatever became of the test."""
_ESSENTIAL = ("run", "started", "host", "case")
_LIVE = timedelta(hours=1)  # a run that is appended later was fed from its results, and says nothing of the clock
_SPARE = 20  # newest files of a host by name, among which its last run is, whatever its clock did now and then
_NAME = re.compile(r"\d{8}T\d{6}Z-(\w+)-[0-9a-f]{8}\.parquet")
_SKEW = timedelta(minutes=1)  # machines of one name may differ by so much


@dataclass(frozen=True)
class Run:
    """A run: its file's name without the ending, when (UTC) and where it ran, and the run of its host that it found before it."""

    run: str
    started: datetime
    host: str
    commit: str = ""
    mpq: str = ""
    previous: str = ""


@dataclass(frozen=True)
class Entry:
    """A case in one run. Figures that do not exist are None; ``signal`` has the value of each signal metric, ``versions`` are flat."""

    run: Run
    verdict: str = ""
    outcome: str = ""
    metric: str = ""
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    unit: str = ""
    higher_is_better: bool = True
    tolerance: float | None = None
    rate: float | None = None
    rate_unit: str = ""
    samples: int = 0
    signal: Mapping[str, float] = field(default_factory=dict)
    layer: str = ""
    suspect: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def red(self) -> bool:
        """Whether the case failed."""
        return self.outcome == "failed" or self.verdict in RED

    @property
    def green(self) -> bool:
        """Whether the case passed; one that was skipped or did not run is neither."""
        return self.outcome == "passed" and not self.red


@dataclass(frozen=True)
class Change:
    """A change point of one figure of a case: ``what`` is the metric's name or ``rate``, ``number`` that of the first entry after it."""

    what: str
    number: int
    point: ChangePoint


@dataclass(frozen=True)
class Course:
    """A case on one host, run by run."""

    suite: str
    evaluation: str
    codec: str
    quality: str
    case: str
    host: str
    entries: Sequence[Entry]

    @property
    def point(self) -> str:
        """The operating point, ``opus-6k`` or ``original``."""
        return self.case.removeprefix(f"{self.evaluation}-")

    @cached_property
    def versions(self) -> dict[int, list[str]]:
        """What changed at each entry against the one before it: ``pillow 12.0 -> 13.0``; entries where nothing did are not there."""
        pairs = enumerate(pairwise(self.entries), 1)
        return {number: changed for number, (before, after) in pairs if (changed := _changed(before, after, self.codec))}

    @property
    def red_since(self) -> int | None:
        """The number of the first red entry since the case was last green; None where it is not red now."""
        first = None
        for number in reversed(range(len(self.entries))):
            if self.entries[number].green:
                break
            if self.entries[number].red:
                first = number
        return first

    @property
    def was_green(self) -> bool:
        """Whether any entry is green."""
        return any(entry.green for entry in self.entries)

    @cached_property
    def comparable(self) -> list[int]:
        """Numbers of the entries that were measured over as many samples, by the same metric, as most of the last ten."""
        measured = [number for number, entry in enumerate(self.entries) if entry.value is not None]
        kinds = {number: (self.entries[number].metric, self.entries[number].samples) for number in measured}
        recent = Counter(kinds[number] for number in reversed(measured[-10:]))
        usual = recent.most_common(1)[0][0] if recent else None
        return [number for number in measured if kinds[number] == usual]

    @cached_property
    def changes(self) -> list[Change]:
        """The change points of the value, the rate and the signal metrics, in the order of entries.

        Steps below a tenth of the metric's tolerance, or a ten-thousandth of another figure, are left out: machines differ by as much.
        """
        entries = [self.entries[number] for number in self.comparable]
        if not entries:
            return []
        last = entries[-1]
        series: dict[str, list[float | None]] = {last.metric: [entry.value for entry in entries], "rate": [entry.rate for entry in entries]}
        series |= {name: [entry.signal.get(name) for entry in entries] for name in last.signal}
        found = []
        for what, values in series.items():
            known = [(number, value) for number, value in zip(self.comparable, values, strict=True) if value is not None]
            if len(known) < 2:
                continue
            least = 1e-4 * max(abs(value) for _, value in known)
            if what == last.metric and last.tolerance is not None:
                least = last.tolerance / 10
            points = change_points([value for _, value in known], least)
            found += [Change(what, known[point.index][0], point) for point in points]
        return sorted(found, key=lambda change: change.number)


@dataclass(frozen=True)
class History:
    """What a folder holds: the runs of each host in their order, the courses, and sentences on what was not as it should be."""

    folder: Path
    hosts: Mapping[str, Sequence[Run]]
    courses: Sequence[Course]
    notes: Sequence[str]


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
    versions = {name: json.dumps(_versions(provenance, name, known), sort_keys=True) for name, known in codecs.items()}
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


_NO_VERSIONS = {"command", "version", "commit", "options", "seeds"}
_OF_EVALUATION, _OF_CODEC = {"models": "model", "metrics": "metric", "data": "data"}, {"codecs", "code"}


def _versions(provenance: Mapping[str, Any], evaluation: str, codecs: Iterable[str]) -> dict[str, str]:
    """Return what a run's provenance says of versions, machine, model and codecs as flat texts, for one evaluation: ``packages.av``."""

    def flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping):
            for key, one in value.items():
                yield from flat(f"{name}.{key}", one)
        elif value not in (None, "", []):
            yield name, str(value)

    found: dict[str, str] = {}
    for kind, about in provenance.items():
        if kind in _NO_VERSIONS:
            continue
        if kind in _OF_EVALUATION:
            found |= flat(_OF_EVALUATION[kind], about.get(evaluation))
        elif kind in _OF_CODEC:
            found |= flat(kind, {codec: one for codec, one in about.items() if codec in codecs})
        else:
            found |= flat(kind, about)
    found.pop("machine.host", None)
    return found


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
    hosts = {host: _in_order(known.values()) for host, known in sorted(runs.items())}
    notes += _about_hosts(hosts) + _about_clocks(hosts, late)
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
        except (OSError, ValueError) as error:  # pyarrow's errors are one or the other
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

    content = pq.ParquetFile(file)
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
        except (OSError, ValueError):
            continue
        if rows and rows[0]["host"] == host:
            known.append(_run(rows[0]))
    return _in_order(known)[-1].run if known else ""


def _in_order(runs: Iterable[Run]) -> list[Run]:
    """Order the runs of a host by time, but each after the one that it found there, whatever its clock said."""
    known = {run.run: run for run in runs}
    places: dict[str, tuple[datetime, int]] = {}
    for name in known:
        line = []
        while name in known and name not in places and name not in line:
            line.append(name)
            name = known[name].previous
        time, depth = places.get(name, (datetime.min.replace(tzinfo=UTC), -1))
        for name in reversed(line):
            time, depth = max(time, known[name].started), depth + 1
            places[name] = (time, depth)
    return sorted(known.values(), key=lambda run: (*places[run.run], run.started, run.run))


def _about_hosts(hosts: Mapping[str, Sequence[Run]]) -> list[str]:
    if len(hosts) < 2:
        return []
    note = f"{len(hosts)} hosts, each shown by itself: a change of host is no change point"
    if len(hosts) > 3 and all(len(runs) == 1 for runs in hosts.values()):
        note += "; where machines are alike, give them one name: MPQ_HOST"
    return [note]


def _about_clocks(hosts: Mapping[str, Sequence[Run]], late: Sequence[Run]) -> list[str]:
    notes = []
    for host, runs in hosts.items():
        known = {run.run: run for run in runs}
        back = [run for run in runs if run.previous in known and run.started < known[run.previous].started - _SKEW]
        if back:
            when = f"{moment(back[0].started)} came after {moment(known[back[0].previous].started)}"
            more = f", and {len(back) - 1} times more" if len(back) > 1 else ""
            notes.append(f"{host}: the clock went backwards ({when}{more}): its runs stand in the order in which they were added")
    if late:
        notes.append(
            f"{late[0].host}: {late[0].run} says a time after that of its file"
            f"{f', as {len(late) - 1} more do' if len(late) > 1 else ''}: its clock was ahead, and its place may be wrong"
        )
    return notes


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


def _changed(before: Entry, after: Entry, codec: str) -> list[str]:
    """Say what differs between two runs of a case, beside its figures."""
    found: dict[str, str] = {}
    if before.versions and after.versions and before.versions is not after.versions:
        names = [name for name in sorted({*before.versions, *after.versions}) if _concerns(name, codec)]
        for name in sorted(names, key=lambda name: name.partition(".")[0] in _OF_CODEC):
            old, new = before.versions.get(name, ""), after.versions.get(name, "")
            if old != new:
                label = _label(name)
                if name.startswith("codecs."):
                    old, new = _parts(old, new, found)
                if old or new:
                    found[label] = _step(label, old, new)
    measured = before.metric and after.metric
    if measured and before.metric != after.metric:
        found["metric"] = _step("metric", before.metric, after.metric)
    if measured and before.samples and after.samples and before.samples != after.samples:
        found["samples"] = _step("samples", str(before.samples), str(after.samples))
    return list(found.values())


def _concerns(name: str, codec: str) -> bool:
    kind, _, rest = name.partition(".")
    return kind not in _OF_CODEC or rest == codec or rest.startswith(f"{codec}.")


def _label(name: str) -> str:
    kind, _, rest = name.partition(".")
    if kind in ("packages", "libraries", "codecs", "machine"):
        return rest.replace("_", " ") if kind == "machine" else rest
    if kind == "code":
        return f"{rest.partition('.')[0]} code"
    return "model" if name == "model.fingerprint" else name.replace(".", " ")


def _parts(old: str, new: str, told: Iterable[str]) -> tuple[str, str]:
    """Return what differs of two builds of a codec, and was not told as a package already."""
    split = re.compile(r", (?![^(]*\))")
    before, after = split.split(old), split.split(new)
    known = {label.lower() for label in told}
    return (
        ", ".join(part for part in before if part not in after and part.partition(" ")[0].lower() not in known),
        ", ".join(part for part in after if part not in before and part.partition(" ")[0].lower() not in known),
    )


def _step(label: str, old: str, new: str) -> str:
    old, new = (re.sub(r"\b[0-9a-f]{12,}\b", lambda digest: digest[0][:8], text) for text in (old, new))
    if not old:
        return f"{label} {new} came"
    return f"{label} {old} -> {new}" if new else f"{label} {old} went"


def moment(time: datetime) -> str:
    """Write a time as ``2026-11-26 03:01``."""
    return f"{time:%Y-%m-%d %H:%M}"


def parse_moment(created: Any) -> datetime | None:
    """Return an ISO 8601 time in UTC, or None for anything else."""
    try:
        found = datetime.fromisoformat(str(created))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _slug(host: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", host.lower()).strip("_")[:40] or "host"


def of_host(history: History, host: str, until: datetime | None = None) -> History:
    """Return one host's part of a history, up to a moment."""
    runs = list(history.hosts.get(host, ()))
    if until is not None and (last := [number for number, run in enumerate(runs) if run.started == until]):
        runs = runs[: last[-1] + 1]
    kept = {run.run for run in runs}
    courses = [
        replace(course, entries=entries)
        for course in history.courses
        if course.host == host and (entries := [entry for entry in course.entries if entry.run.run in kept])
    ]
    return History(history.folder, {host: runs}, courses, history.notes)
