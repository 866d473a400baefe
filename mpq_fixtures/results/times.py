"""Times of runs: as texts, and the order of runs on a host whose clock may have been wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from mpq_fixtures.results.courses import Run

_SKEW = timedelta(minutes=1)  # machines of one name may differ by so much


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


def in_order(runs: Iterable[Run]) -> list[Run]:
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


def about_clocks(hosts: Mapping[str, Sequence[Run]], late: Sequence[Run]) -> list[str]:
    """Say of which hosts the clock went backwards or, as ``late`` runs show, was ahead."""
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
