"""What follows from a process's death for the samples that it was at: which are tried alone, and which have failed.

A crash of one sample is that sample's failure and costs the others nothing but time. Several are under way at once, in threads and in a
batch, and a signal may come from anywhere, so those that were under way at a crash are tried one by one; what these trials make is not
kept, since a batch is predicted whole.
Who was killed from outside, or for want of memory, says nothing of its samples until that has happened some times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mpq_fixtures.rows import Failure
from mpq_fixtures.under_way import Notes

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
    if late := [slot for slot in notes.slots if slot.late]:
        for slot in late:
            for sample in slot.samples:
                if len(slot.samples) == 1:
                    yield Failure(sample, slot.step, _too_slow(slot.step, slot.seconds))
                else:
                    yield replace(known.get(sample) or Suspect(sample), trial=True)
        return
    for slot in notes.slots:
        for sample in slot.samples:
            before = known.get(sample) or Suspect(sample)
            if notes.fault:
                sure = notes.trial or before.tried
                yield Failure(sample, slot.step, f"the process died at it: {notes.fault}") if sure else replace(before, trial=True)
                continue
            kills = before.kills + 1
            if kills < KILLS:
                yield replace(before, kills=kills)
            elif not (before.trial or before.tried):
                yield Suspect(sample, trial=True)
            else:
                yield Failure(sample, slot.step, f"the process was killed at it {2 * KILLS} times, for want of memory perhaps")


def _too_slow(step: str, seconds: float) -> str:
    way = f"leave it out, or write limits = {{ step_seconds = {2 * seconds:g} }} into its evaluation"
    return f"to {step} it took longer than the limit of {seconds:g} s, and the process that was at it was ended: {way}"
