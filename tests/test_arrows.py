"""Arrows point down: what plugs in knows signals, the way through knows what plugs in, and nothing knows the report but who writes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import mpq_fixtures

PACKAGE = Path(mpq_fixtures.__file__).parent
PLUGGED_IN = ("codecs", "datasets", "hub", "metrics")
ABOVE = ("gate", "results", "decisions", "engines", "report", "commands", "pipeline", "evaluate", "record", "session", "plugin")


def imports_of(file: Path) -> Iterator[str]:
    """Yield what a module imports from this package at any place, as ``report.html``; not what only types need."""
    tree = ast.parse(file.read_text())
    for_types = {id(node) for test in ast.walk(tree) if _is_for_types(test) for node in ast.walk(test)}
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.removeprefix("mpq_fixtures.") for name in names if name.startswith("mpq_fixtures."))


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def users_of(rooms: tuple[str, ...], *folders: str) -> set[str]:
    """Return the modules in some folders, or in all, that import something of some rooms."""
    files = [file for folder in folders or (".",) for file in (PACKAGE / folder).rglob("*.py")]
    assert files
    inside = [file for file in files if any(name.partition(".")[0] in rooms for name in imports_of(file))]
    return {file.relative_to(PACKAGE).as_posix() for file in inside}


def test_nothing_knows_the_report_but_who_writes_it() -> None:
    own = {file.relative_to(PACKAGE).as_posix() for file in (PACKAGE / "report").rglob("*.py")}
    assert users_of(("report",)) - own == {"session/run.py", "__main__.py", "commands/advise.py"}


@pytest.mark.parametrize("room", PLUGGED_IN)
def test_what_plugs_in_knows_nothing_of_what_is_made_of_it(room: str) -> None:
    assert users_of(ABOVE, room) == set()


def test_results_and_gate_know_nothing_of_decisions_or_of_who_runs_them() -> None:
    assert users_of(("decisions", "report", "commands", "engines", "plugin", "session"), "results", "gate") == set()
