"""What plugs in (codecs, tasks, metrics) and is found by being imported: the modules of its room, and what other packages announce."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from importlib.metadata import entry_points
from pathlib import Path

from mpq_fixtures.errors import describe_error


def import_all(package: str, kind: str, error: type[Exception]) -> None:
    """Import every module of ``package``, ``mpq_fixtures.codecs``, and every entry point of ``mpq.codecs``.

    Raises ``error`` with a sentence for an entry point of that ``kind``, as in ``codec``, that does not import.
    """
    room = importlib.import_module(package)
    for module in pkgutil.iter_modules(room.__path__):
        importlib.import_module(f"{package}.{module.name}")
    for entry in entry_points(group=f"mpq.{package.rpartition('.')[2]}"):
        try:
            entry.load()
        except Exception as problem:
            said = f"entry point {entry.value!r}: it does not import: {describe_error(problem)}"
            raise error(f"{kind} {entry.name!r}, {said}") from problem


def place_of_class(cls: type) -> str:
    """Return the file and the line of a class; its module where there is no source."""
    try:
        return f"{Path(inspect.getsourcefile(cls) or '').name}, line {inspect.getsourcelines(cls)[1]}"
    except (OSError, TypeError):
        return cls.__module__
