"""Baselines from a finished run: ``mpq approve REPORT_FOLDER`` accepts what was measured, without measuring again."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mpq_fixtures.gate.accepted import Accepted, accepted_lines
from mpq_fixtures.gate.baseline_files import BaselineError, baseline_file
from mpq_fixtures.gate.baselines import approved_points, why_not, write_baselines
from mpq_fixtures.gate.measured import Measured, of_results
from mpq_fixtures.gate.schema_1 import migrate_baselines
from mpq_fixtures.results.files import read_results

BASELINES = Path("evaluations/baselines")
"""Where a suite's baselines lie unless the run or the user says otherwise."""


def approve(folder: Path, cases: Sequence[str], only_new: bool, baselines: Path | None) -> int:
    """Accept what a run measured as the baselines of its cases, print what changes by that, and return the exit code.

    ``cases`` are globs of case ids, none for all; with ``only_new`` cases that have a baseline are left as they are. 2 when something that
    was asked for cannot be approved: it is said why, and the rest is approved all the same.
    """
    try:
        content = read_results(folder)
        provenance = content.get("provenance", {})
        if (samples := provenance.get("options", {}).get("samples")) is not None:
            raise ValueError(
                f"{folder} holds a run with --mpq-samples {samples}: a baseline holds every sample; run it without and approve that"
            )
        measured = of_results(folder)
        for glob in cases:
            if not any(fnmatchcase(case, glob) for case in measured):
                raise ValueError(
                    f"--case {glob}: fits none of the {len(measured)} cases that this run measured, such as {next(iter(measured), '-')}"
                )
        chosen = [case for case in measured if not cases or any(fnmatchcase(case, glob) for glob in cases)]
        broken = {case: reason for case in chosen if (reason := why_not(measured[case]))}
    except (ValueError, OSError) as error:
        return _refuse(error)
    for case, reason in broken.items():
        _refuse(f"{case} is left out: {reason}")
    folders = provenance.get("options", {}).get("baselines") or {}
    about = {case["case"]: case for case in content["cases"]}
    target = {about[case]["suite"]: baselines or _from_root(Path(folders.get(about[case]["suite"], BASELINES))) for case in chosen}
    accepted, well = _write([case for case in chosen if case not in broken], measured, about, only_new, target)
    lines = accepted_lines(accepted)
    lines.append(
        f"{len(accepted)} of {len(chosen)} cases approved in {_named(target)}"
        if accepted
        else f"nothing to approve in {_named(target)}: {_why(chosen, broken, only_new)}"
    )
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0 if well and chosen and not broken else 2


def migrate(folder: Path) -> int:
    """Write the baseline files of schema 1 below a folder anew in the schema of today, say which, and return the exit code."""
    files = sorted(folder.glob("*/*.json"))
    if not files:
        return _refuse(f"no baselines in {folder}: give their folder with --baselines, such as {BASELINES}")
    code = 0
    for file in files:
        try:
            count = migrate_baselines(file)
        except (BaselineError, OSError) as error:
            code = _refuse(error)
        else:
            sys.stdout.write(f"{file}: {f'{count} cases migrated from schema 1' if count else 'is of this schema already'}\n")
    return code


def _from_root(folder: Path) -> Path:
    """Return a folder of the project, which the run named from the project's root on, from where the user stands in it."""
    here = Path.cwd()
    found = next((parent / folder for parent in (here, *here.parents) if (parent / folder).is_dir()), folder)
    return folder if found == here / folder else found


def _named(folders: Mapping[str, Path]) -> str:
    return ", ".join(dict.fromkeys(map(str, folders.values()))) or str(BASELINES)


def _write(
    chosen: Sequence[str], run: Mapping[str, Measured], about: Mapping[str, Any], only_new: bool, target: Mapping[str, Path]
) -> tuple[list[Accepted], bool]:
    """Write the chosen cases of a run into the files of their evaluations; return what changed, and whether all could be written."""
    place = {case: (about[case]["suite"], about[case]["evaluation"]) for case in run}
    evaluations: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case in chosen:
        evaluations[place[case]].append(case)
    accepted, well = [], True
    for (suite, name), group in evaluations.items():
        file = baseline_file(target[suite], suite, name)
        try:
            order = _order(approved_points(file), [case.removeprefix(f"{name}-") for case in run if place[case] == (suite, name)])
            accepted += write_baselines(file, (run[case] for case in group), order, only_new)
        except (BaselineError, OSError) as error:
            _refuse(error)
            well = False
    return accepted, well


def _order(approved: Sequence[str], measured: Sequence[str]) -> list[str]:
    """Return the points of a file and of a run in one order: the file's, with each new one after the one that it follows in the run."""
    order = list(approved)
    for number, point in enumerate(measured):
        if point not in order:
            order.insert(order.index(measured[number - 1]) + 1 if number else 0, point)
    return order


def _why(chosen: Sequence[str], broken: dict[str, str], only_new: bool) -> str:
    if not chosen:
        return "the run measured nothing"
    if len(broken) == len(chosen):
        return "no case can be"
    return "every case has a baseline, and --new leaves those" if only_new else "every case is as it was approved"


def _refuse(reason: object) -> int:
    sys.stderr.write(f"mpq approve: {reason}\n")
    return 2
