"""Checks that every table of a suite file goes through, each a `SuiteError` that says where the mistake is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mpq_fixtures.errors import nearest
from mpq_fixtures.suite import SuiteError


def check_keys(table: Mapping[str, Any], required: Sequence[str], allowed: Sequence[str], place: str) -> None:
    """Raise where a table has a key that is not allowed, or lacks one that it must have."""
    for key in table:
        if key not in allowed:
            raise SuiteError(f"{place}: unknown key {key!r}{nearest(key, allowed)}")
    for key in required:
        if key not in table:
            raise SuiteError(f"{place}: {key!r} is missing")


def choice(name: Any, known: Collection[str], place: str) -> str:
    """Return a name that is among the known ones; raise for any other, with the nearest."""
    if not isinstance(name, str) or name not in known:
        raise SuiteError(f"{place}: unknown {name!r}{nearest(str(name), known)}")
    return name
