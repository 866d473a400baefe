"""What follows from a process's death for the samples that it was at: which are tried alone, and which have failed.

A crash of one sample is that sample's failure and costs the others nothing but time. Several are under way at once, in threads and in a
batch, a signal may come from anywhere, and what takes too long may wait for another that never lets go of Python's lock: so those that were
under way are tried one by one; what these trials make is not kept, since a batch is predicted whole.
Who was killed from outside, or for want of memory, says nothing of its samples until that has happened some times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mpq_fixtures.engines.work_data import WorkData
from mpq_fixtures.processes import under_way
from mpq_fixtures.processes.under_way import Notes, Slot
from mpq_fixtures.rows import Failure

KILLS = 3
"""Times that a process must be killed at a sample before that is tried alone, and again before that is its failure."""
TESTS_KILLED, TESTS_CRASHED = 6, 3
"""Times that a process must be killed, or crash, in a test, outside of samples, before the test fails."""
IN_A_ROW, OTHERS_IN_A_ROW = 8, 2
"""Crashes without one sample measured between them after which a case is given up, and after which the next ones of its codec are."""


@dataclass(frozen=True)
class Suspect:
    """A sample at which processes died: how often they were killed, whether it is to be tried alone, and whether it has been."""

    sample: str
    kills: int = 0
    trial: bool = False
    tried: bool = False


def consequences(notes: Notes, known: dict[str, Suspect]) -> Iterator[Suspect | Failure]:
    """Yield what becomes of the samples that a dead process was at; ``known`` are those of its work at which others died before."""
    at = [(slot, known.get(sample) or Suspect(sample)) for slot in notes.slots for sample in slot.samples]
    late = any(slot.late for slot in notes.slots)
    sure = notes.trial or all(before.tried for _, before in at) or (late and len(at) == 1)
    for slot, before in at:
        if not (late or notes.fault):
            yield _after_kill(slot, before)
        elif not sure:
            yield replace(before, trial=not before.tried)
        elif not late:
            yield Failure(before.sample, slot.step, f"the process died at it: {notes.fault}")
        elif slot.late:
            yield Failure(before.sample, slot.step, _too_slow(slot.step, slot.seconds))


def _after_kill(slot: Slot, before: Suspect) -> Suspect | Failure:
    kills = before.kills + 1
    if kills < KILLS:
        return replace(before, kills=kills)
    if not (before.trial or before.tried):
        return Suspect(before.sample, trial=True)
    return Failure(before.sample, slot.step, f"the process was killed at it {2 * KILLS} times, for want of memory perhaps")


def _too_slow(step: str, seconds: float) -> str:
    way = f"leave it out, or write limits = {{ step_seconds = {2 * seconds:g} }} into its evaluation"
    return f"to {step} it took longer than the limit of {seconds:g} s, and the process that was at it was ended: {way}"


class Deaths:
    """What the processes of a session died at, in the tables that they share."""

    def __init__(self, data: WorkData, session: str) -> None:
        self._data, self._session = data, session

    def suspects(self, work: str) -> dict[str, Suspect]:
        """Return the samples of a case at which processes died in this session and which have not failed, by their ids."""
        return self._suspects(self._session, work)

    def _suspects(self, session: str, work: str) -> dict[str, Suspect]:
        query = "select sample, kills, trial, tried from suspects where session = ? and work = ?"
        found = self._data.rows(query, session, work)
        return {sample: Suspect(sample, kills, bool(trial), bool(tried)) for sample, kills, trial, tried in found}

    def acquit(self, work: str, sample: str) -> None:
        """Say that no process died at a sample that was tried alone."""
        with self._data.writing():
            query = "update suspects set kills = 0, trial = 0, tried = 1 where session = ? and work = ? and sample = ?"
            self._data.write(query, self._session, work, sample)

    def failed(self, work: str) -> set[str]:
        """Return the ids of the samples of a case that failed since processes died at them: they are left out of their batches."""
        return {one for (one,) in self._data.rows("select sample from died where session = ? and work = ?", self._session, work)}

    def hopeless(self, series: str, work: str) -> str:
        """Say why a case of a series is given up; nothing where it is not. Where others of the series were, it has fewer tries."""
        query = "select work, count, words from crashes where session = ? and series = ?"
        found = {case: (count, words) for case, count, words in self._data.rows(query, self._session, series)}
        count, words = found.get(work, (0, ""))
        if count < (IN_A_ROW if sum(count for count, _ in found.values()) - count < IN_A_ROW else OTHERS_IN_A_ROW):
            return ""
        return f"{count} processes in a row died at it with nothing measured between, so it is given up; the last: {words}"

    def progress(self, series: str) -> None:
        """Say that a sample of a series of cases was measured."""
        if self._data.rows("select 1 from crashes where session = ? and series = ?", self._session, series):
            with self._data.writing():
                self._data.write("delete from crashes where session = ? and series = ?", self._session, series)

    def doomed(self, test: str) -> str:
        """Say of a test at which processes died why it is not tried again; nothing of others."""
        query = "select words from tests where session = ? and test = ? and kills >= ?"
        found = self._data.rows(query, self._session, test, TESTS_KILLED)
        return str(found[0][0]) if found else ""

    def note(self, notes: Notes) -> list[Failure]:
        """Note a death of any session, within `WorkData.writing`, and return the samples that failed by it."""
        session, work, words = notes.session, notes.work, under_way.told(notes)
        self._data.write("insert into deaths values (?, ?)", session, words)
        failures = []
        for one in consequences(notes, self._suspects(session, work)):
            if isinstance(one, Failure):
                failures.append(one)
                self._data.write("insert or ignore into died values (?, ?, ?)", session, work, one.sample)
                self._data.write("delete from suspects where session = ? and work = ? and sample = ?", session, work, one.sample)
            else:
                values = (session, work, one.sample, one.kills, one.trial, one.tried)
                self._data.write("insert or replace into suspects values (?, ?, ?, ?, ?, ?)", *values)
        if notes.slots and notes.fault:
            add = "on conflict do update set count = count + 1, words = excluded.words"
            self._data.write(f"insert into crashes values (?, ?, ?, 1, ?) {add}", session, notes.series, work, words)
        elif notes.test and not notes.slots:
            kills = TESTS_KILLED // TESTS_CRASHED if notes.fault else 1
            add = "on conflict do update set kills = kills + excluded.kills, words = excluded.words"
            self._data.write(f"insert into tests values (?, ?, ?, ?) {add}", session, notes.test, kills, words)
        return failures
