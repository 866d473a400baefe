"""Which cases a test takes: every case of the run's suites, or those that its markers leave.

``@pytest.mark.mpq(suite="calls.toml")`` names a suite by its file, from the test's folder on, or by its name; ``task="speech_recognition"``
and ``evaluation="whisper_calls"`` name some of its evaluations. Several narrow one another down.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from mpq_fixtures.errors import nearest
from mpq_fixtures.options import Options
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import registered

MARKER = "mpq(suite=..., task=..., evaluation=...): take the cases of a suite (a name, or a file beside the test), a task, an evaluation"
_KEYS = ("suite", "task", "evaluation")


class MarkerError(ValueError):
    """A marker that names what is not there."""


def cases_for(marks: Iterable[pytest.Mark], options: Options, folder: Path, given: bool) -> list[Case]:
    """Return the cases of the run that a test in ``folder`` takes; none where its suite or task is not part of this run.

    ``given`` says that the command line chose the suites. Where it did not, a suite or an evaluation that the run does not have is a
    mistake: its test would never run, and nobody would see that. Raises `MarkerError`.
    """
    taken = list(options.evaluations)
    if not taken:
        raise MarkerError("no suite is chosen: name one in the ini file, as in mpq_suite = tests/calls.toml, or with --mpq-suite")
    for mark in marks:
        if mark.args or not set(mark.kwargs) <= set(_KEYS) or not all(isinstance(wanted, str) for wanted in mark.kwargs.values()):
            raise MarkerError(f"@pytest.mark.mpq takes {', '.join(f'{key}=' for key in _KEYS)}, each of them a text")
        for key, wanted in mark.kwargs.items():
            fitting = [evaluation for evaluation in options.evaluations if _fits(evaluation, key, wanted, folder)]
            if key == "task" and wanted not in registered():
                raise MarkerError(f"@pytest.mark.mpq(task={wanted!r}): no such task{nearest(wanted, registered())}")
            if key != "task" and not fitting and not given:
                raise MarkerError(f"@pytest.mark.mpq({key}={wanted!r}): {_lack(key, wanted, options, folder)}")
            taken = [evaluation for evaluation in taken if evaluation in fitting]
    return [case for evaluation in taken for case in evaluation.cases if options.selects(case)]


def _fits(evaluation: Evaluation, key: str, wanted: str, folder: Path) -> bool:
    if key == "suite" and wanted.endswith(".toml"):
        return evaluation.file is not None and evaluation.file.resolve() == (folder / wanted).resolve()
    return wanted == {"suite": evaluation.suite, "task": evaluation.task.name, "evaluation": evaluation.name}[key]


def _lack(key: str, wanted: str, options: Options, folder: Path) -> str:
    """Say why the run has no such suite or evaluation, and what to do."""
    if key == "evaluation":
        return f"the run's suites have no such evaluation{nearest(wanted, [evaluation.name for evaluation in options.evaluations])}"
    if wanted.endswith(".toml"):
        there = (folder / wanted).is_file()
        return "the run does not have that suite: add it to mpq_suite in the ini file" if there else f"there is no {folder / wanted}"
    return f"the run has no such suite{nearest(wanted, sorted({evaluation.suite for evaluation in options.evaluations}))}"
