"""Courses: a case run by run, with what follows from that: since when it is red, where its figures stepped, what changed beside them.

Machines are never mixed: a `Course` is one case on one host.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from pathlib import Path

from mpq_fixtures.results.change_points import ChangePoint, change_points
from mpq_fixtures.results.versions import changes_of, step

RED = ("regressed", "rate")
"""Verdicts that are red whatever became of the test."""


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


def _changed(before: Entry, after: Entry, codec: str) -> list[str]:
    """Say what differs between two runs of a case, beside its figures."""
    found: dict[str, str] = {}
    if before.versions and after.versions and before.versions is not after.versions:
        found |= changes_of(before.versions, after.versions, codec)
    measured = before.metric and after.metric
    if measured and before.metric != after.metric:
        found["metric"] = step("metric", before.metric, after.metric)
    if measured and before.samples and after.samples and before.samples != after.samples:
        found["samples"] = step("samples", str(before.samples), str(after.samples))
    return list(found.values())
