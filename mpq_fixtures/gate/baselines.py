"""Baselines: what was approved of each case, sample by sample.

What is the same at every point stands once in a file: the samples with their sources, groups and sizes in ``sets``, who approved it with
what in ``approvals``; both are named by a digest of what they hold, so that adding one moves no other line, and are dropped when no case
refers to them any more.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mpq_fixtures.gate.accepted import NEW, Accepted, changed_by, equal
from mpq_fixtures.gate.baseline_cases import SampleSet, codec_of, entry_of, restored, with_set
from mpq_fixtures.gate.baseline_files import BaselineError, key_of, load, write
from mpq_fixtures.gate.measured import Measured
from mpq_fixtures.suite import ORIGINAL

_NO_PART = ("command", "options", "seeds")  # of a run's provenance: of no account
_OF_CODECS, _OF_EVALUATIONS = ("codecs", "code"), ("models", "metrics", "data")


def read_baselines(file: Path, points: Collection[str] | None = None) -> dict[str, Measured]:
    """Return what was approved, by operating point, of ``points`` or of all; nothing where the file does not exist.

    ``links`` have their leading `BITS`, and sources their first `SOURCE_DIGITS`; ``settings`` are None where the baseline is from a
    schema that did not know them. Raises `BaselineError` for a file that is damaged, or of another schema, and for a case whose figures do
    not follow from its samples.
    """
    content = load(file)
    sets: dict[str, SampleSet] = {}
    return {point: restored(file, content, point, sets) for point in content["cases"] if points is None or point in points}


class Baselines(Mapping[str, Measured]):
    """What was approved in a file, by operating point: packed as the file has it until a case is asked for, so that one costs as one.

    A case that is damaged raises `BaselineError` when it is asked for, and harms no other. The originals, which every case is held
    against, stay unpacked, and so does the case that was asked for last.
    """

    def __init__(self, file: Path) -> None:
        """Read a file, which need not exist; raises `BaselineError` where it is damaged as a whole, or of another schema."""
        self._file, self._content = file, load(file)
        self._sets: dict[str, SampleSet] = {}
        self._kept: dict[str, Measured] = {}

    def __getitem__(self, point: str) -> Measured:
        if point not in self._kept:
            found = restored(self._file, self._content, point, self._sets)  # KeyError for a point that was not approved
            self._kept = {name: one for name, one in self._kept.items() if name == ORIGINAL} | {point: found}
        return self._kept[point]

    def __contains__(self, point: object) -> bool:
        return point in self._content["cases"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content["cases"])

    def __len__(self) -> int:
        return len(self._content["cases"])


def approved_points(file: Path) -> list[str]:
    """Return the operating points of which something was approved, in the file's order; raises `BaselineError`."""
    return list(load(file)["cases"])


def write_baselines(file: Path, measured: Iterable[Measured], order: Sequence[str], only_new: bool) -> list[Accepted]:
    """Write cases of one evaluation into its baseline file, keep every other, and return those that differ from what was approved.

    Cases are in the order of ``order``, then those that it does not name. With ``only_new`` cases that have a baseline are left as they
    are. What is broken cannot be approved: see `why_not`. One case is held at a time. Raises `BaselineError` where the file cannot be
    read, and OSError.
    """
    content = load(file)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    accepted = merge(file, content, measured, order, only_new, now)
    if accepted:
        write(file, content)
    return accepted


def merge(
    file: Path, content: dict[str, Any], measured: Iterable[Measured], order: Sequence[str], only_new: bool, when: str
) -> list[Accepted]:
    """Put cases into a file's content, and return those that differ from what was there."""
    sets: dict[str, SampleSet] = {}
    cases: dict[str, Any] = dict(content["cases"])
    changed, accepted = [], []
    for one in measured:
        known = one.point in cases
        if why_not(one) or (only_new and known):
            continue
        try:
            before = restored(file, content, one.point, sets) if known else None
        except BaselineError:  # what cannot be read is replaced
            before = None
        content["sets"], key = with_set(content["sets"], one, sets, file)
        entry = entry_of(one, key, sets[key])
        if before is not None and _same(before, one, entry, cases[one.point]):
            continue
        cases[one.point] = entry
        changed.append(one.without_samples())
        accepted.append(
            Accepted(
                one.case,
                before.value if before else math.nan if known else None,
                one.value,
                before.rate if before else math.nan if known else None,
                one.rate,
                changed_by(before, one) if before else "" if known else NEW,
            )
        )
    if changed:
        _approve(content, cases, changed, when)
        rank = {point: number for number, point in enumerate(order)}
        content["cases"] = {point: cases[point] for point in sorted(cases, key=lambda point: rank.get(point, len(rank)))}
    return accepted


def why_not(one: Measured) -> str:
    """Say why a case cannot be approved; nothing where it can."""
    if one.failed:
        return f"{one.failed} of {one.failed + len(one.samples)} samples failed"
    if not (math.isfinite(one.value) and math.isfinite(one.rate)):
        return f"{one.metric} is {one.value:g} and the rate {one.rate:g}: not numbers to hold anything against"
    if len(set(one.samples)) < len(one.samples):
        return "two of its samples have one id"
    return ""


def _same(before: Measured, after: Measured, entry: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Tell whether a case is as it was approved, by the same codec and model; packed text may differ, what it holds may not."""
    told = ("value", "rate", "samples", "metric", "version", "settings", "similarity", "whole", "set")
    return (
        all(entry.get(key) == earlier.get(key) for key in told)
        and (before.codec, before.model) == (after.codec, after.model)
        and np.array_equal(before.bytes, after.bytes)
        and equal(before.statistics, after.statistics)
    )


def _approve(content: dict[str, Any], cases: Mapping[str, Any], chosen: Sequence[Measured], when: str) -> None:
    """Say of the chosen cases by what they were measured and when they were approved, and forget what no case refers to."""
    origin = chosen[0].provenance
    codecs = {codec_of(one.point): one for one in reversed(chosen) if one.codec}
    approval = {
        "when": when,
        **{name: part for name, part in origin.items() if name not in (*_NO_PART, "when", "fingerprints", "model")},
        **{name: _only(origin.get(name, {}), codecs) for name in _OF_CODECS},
        **{name: _only(origin.get(name, {}), [chosen[0].evaluation]) for name in _OF_EVALUATIONS},
        "machine": {name: fact for name, fact in origin.get("machine", {}).items() if name != "host"},
        "model": chosen[0].model,
        "fingerprints": {name: codecs[name].codec for name in sorted(codecs)},
    }
    key = key_of(approval)
    content["approvals"][key] = approval
    for one in chosen:
        entry = cases[one.point]
        entry["approval"] = key
        if one.codec != approval["fingerprints"].get(codec_of(one.point), ""):
            entry["codec"] = one.codec
        if one.model != approval["model"]:
            entry["model"] = one.model
    for part, name in (("approvals", "approval"), ("sets", "set")):
        used = {entry.get(name) for entry in cases.values() if isinstance(entry, dict)}
        content[part] = {key: entry for key, entry in content[part].items() if key in used}


def _only(parts: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if name in names}
