"""Cases over time: ``mpq history`` reads the folder to which every run adds a file."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mpq_fixtures.results.courses import Change, Course, Entry, History
from mpq_fixtures.results.history import read_history
from mpq_fixtures.results.times import moment

SHOWN = 40
"""Runs that a line of the overview has room for."""
_BLOCKS, _DIGITS = "▁▂▃▄▅▆▇█", "01234567"
_LEGEND = "verdicts: . same  R red  + improved  ? underpowered  n new  - not measured"


def history(folder: Path, globs: Sequence[str] = (), last: int | None = None, as_json: bool = False) -> int:
    """Print how cases went over the runs in ``folder``, and return the exit code: 2 where there is no history, or no such case.

    Without ``globs`` each case has a line, and each host the versions that changed; with them, each case that fits has all of its runs.
    """
    try:
        found = read_history(folder, globs, last)
        if globs and not found.courses:
            known = sorted({course.case for course in read_history(folder, last=last).courses})
            close = difflib.get_close_matches(globs[0], known, n=3, cutoff=0.4) or known[:3]
            raise ValueError(f"no case in {folder} is called {globs[0]!r}; there are {len(known)}, such as {', '.join(close)}")
    except ValueError as error:
        sys.stderr.write(f"mpq history: {error}\n")
        return 2
    try:
        if as_json:
            sys.stdout.write(json.dumps(to_json(found), indent=1) + "\n")
        else:
            for line in _pages(found, bool(globs), _Style()):
                sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def to_json(found: History) -> dict[str, Any]:
    """Return a history as ``--json`` prints it; `docs/history.md` describes it."""
    return {
        "schema": 1,
        "folder": str(found.folder),
        "notes": list(found.notes),
        "hosts": {host: [asdict(run) | {"started": run.started.isoformat()} for run in runs] for host, runs in found.hosts.items()},
        "cases": [
            {
                **{name: getattr(course, name) for name in ("suite", "evaluation", "codec", "quality", "case", "host")},
                "red_since": None if course.red_since is None else course.entries[course.red_since].run.run,
                "change_points": [
                    {"what": change.what, "run": course.entries[change.number].run.run} | asdict(change.point) for change in course.changes
                ],
                "runs": [
                    {name: value for name, value in vars(entry).items() if name not in ("run", "versions")}
                    | {"run": entry.run.run, "red": entry.red, "changed": course.versions.get(number, [])}
                    for number, entry in enumerate(course.entries)
                ],
            }
            for course in found.courses
        ],
    }


class _Style:
    """What the terminal can show: colours only where it is one, blocks only where they can be written."""

    def __init__(self) -> None:
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        try:
            _BLOCKS.encode(sys.stdout.encoding or "ascii")
            self.levels = _BLOCKS
        except (UnicodeEncodeError, LookupError):
            self.levels = _DIGITS

    def red(self, text: str) -> str:
        return f"\x1b[31m{text}\x1b[0m" if self.colour else text


def _pages(found: History, whole: bool, style: _Style) -> Iterator[str]:
    for note in found.notes:
        yield f"note: {note}"
    for host, runs in found.hosts.items():
        courses = [course for course in found.courses if course.host == host]
        if not courses:
            continue
        if found.notes or host != next(iter(found.hosts)):
            yield ""
        count = f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}"
        yield f"{host}: {count}, {moment(runs[0].started)} to {moment(runs[-1].started)} UTC"
        for course in courses if whole else ():
            yield ""
            yield from _course(course, style)
        if not whole:
            yield from _overview(courses, style)


def _overview(courses: Sequence[Course], style: _Style) -> Iterator[str]:
    shown = min(SHOWN, max(len(course.entries) for course in courses))
    rows = [("case", "runs", f"last {shown} runs", "now", "verdicts")]
    for course in courses:
        verdicts = "".join(_mark(entry) for entry in course.entries[-shown:])
        rows.append((course.case, str(len(course.entries)), _sparkline(course, style)[-shown:], _latest(course), verdicts))
    yield ""
    yield from _aligned(rows, style)
    yield ""
    yield _LEGEND
    notable = [course for course in courses if course.red_since is not None or course.changes]
    for course in notable:
        yield ""
        yield f"{course.case}:"
        yield from (f"  {line}" for line in _events(course, style))
    versions: dict[str, dict[str, list[Course]]] = {}
    for course in courses:
        for number, changed in course.versions.items():
            for text in changed:
                versions.setdefault(moment(course.entries[number].run.started), {}).setdefault(text, []).append(course)
    if versions:
        yield ""
        yield "what changed between neighbouring runs:"
    for time, texts in sorted(versions.items()):
        for text, concerned in texts.items():
            yield f"  {time}  {text}  ({_extent(concerned, courses)})"


def _extent(concerned: Sequence[Course], courses: Sequence[Course]) -> str:
    if len(concerned) == len(courses):
        return "all cases"
    if len(concerned) == 1:
        return concerned[0].case
    return f"{len(concerned)} cases, {', '.join(dict.fromkeys(course.evaluation for course in concerned))}"


def _course(course: Course, style: _Style) -> Iterator[str]:
    """Print one case with all of its runs."""
    first, last = course.entries[0], course.entries[-1]
    yield f"{course.case} on {course.host}: {len(course.entries)} runs, {moment(first.run.started)} to {moment(last.run.started)} UTC"
    yield f"  {_sparkline(course, style)[-3 * SHOWN :]}  {_latest(course)}"
    for line in _events(course, style):
        yield f"  {line}"
    changes = {change.number: change for change in course.changes}
    metric = next((entry.metric for entry in reversed(course.entries) if entry.metric), "value")
    unit = next((entry.rate_unit for entry in reversed(course.entries) if entry.rate_unit), "")
    rows = [("  started", "commit", "verdict", metric, "95 % interval", f"rate {unit}".strip(), "what changed")]
    for number, entry in enumerate(course.entries):
        marks = [*course.versions.get(number, ()), *(["change point"] if number in changes else [])]
        rows.append(
            (
                f"  {moment(entry.run.started)}",
                _short(entry.run.commit),
                _verdict(entry),
                _figure(entry.value),
                f"[{_figure(entry.ci_low)}, {_figure(entry.ci_high)}]" if entry.ci_low is not None and entry.ci_high is not None else "",
                _figure(entry.rate),
                "; ".join(marks),
            )
        )
    yield from _aligned(rows, style)


def _events(course: Course, style: _Style) -> Iterator[str]:
    if course.red_since is not None:
        first, before = course.entries[course.red_since], course.red_since - 1
        greens = [entry for entry in course.entries[: before + 1] if entry.green]
        commits = f" at {_short(first.run.commit)}" if first.run.commit else ""
        since = f"last green {moment(greens[-1].run.started)}{_at(greens[-1])}" if greens else "never green in these runs"
        layer = f"; layer {first.layer}{f', suspect {first.suspect}' if first.suspect else ''}" if first.layer else ""
        yield style.red(f"red since {moment(first.run.started)}{commits} ({_verdict(first)}{layer}), {since}")
    for change in course.changes:
        yield _change(course, change)


def _at(entry: Entry) -> str:
    return f" at {_short(entry.run.commit)}" if entry.run.commit else ""


def _change(course: Course, change: Change) -> str:
    point, entry = change.point, course.entries[change.number]
    versions = course.versions.get(change.number, ())
    beside = f"; with it: {', '.join(versions)}" if versions else ""
    return (
        f"change point {moment(entry.run.started)}: {change.what} {_figure(point.before)} -> {_figure(point.after)}"
        f" (means of {point.runs_before} and {point.runs_after} runs){beside}"
    )


def _sparkline(course: Course, style: _Style) -> str:
    """Draw the values, one character a run; a span below twice the tolerance stays flat around the middle."""
    values = [entry.value for entry in course.entries]
    known = [value for value in values if value is not None]
    if not known:
        return " " * len(values)
    least = 2 * next((entry.tolerance for entry in reversed(course.entries) if entry.tolerance), 0.0)
    middle, span = (min(known) + max(known)) / 2, max(max(known) - min(known), least) or 1.0
    steps = len(style.levels) - 1
    return "".join(" " if value is None else style.levels[round((0.5 + (value - middle) / span) * steps)] for value in values)


def _latest(course: Course) -> str:
    entry = next((entry for entry in reversed(course.entries) if entry.value is not None), None)
    return f"{entry.metric} {_figure(entry.value)}{f' {entry.unit}' if entry.unit == 'dB' else ''}" if entry else "not measured"


def _mark(entry: Entry) -> str:
    if entry.red:
        return "R"
    return {"improved": "+", "underpowered": "?", "new": "n"}.get(entry.verdict, "." if entry.green else "-")


def _verdict(entry: Entry) -> str:
    return entry.outcome if entry.outcome != "passed" and entry.verdict not in ("regressed", "rate") else entry.verdict or entry.outcome


def _short(commit: str) -> str:
    return commit[:8] + ("+" if commit.endswith("+") else "")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _aligned(rows: Sequence[Sequence[str]], style: _Style) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        yield style.red(line) if row[-1].endswith("R") or row[2] in ("regressed", "rate", "failed") else line
