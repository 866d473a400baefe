"""Baseline files: one JSON file an evaluation, one case, one approval and one set of samples a line, so that a diff shows what changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from mpq_fixtures.chain import digest
from mpq_fixtures.files import write_atomically

SCHEMA = 2
RESTORE = "restore the file from version control, or approve the case anew with --mpq-update-baselines"


class BaselineError(ValueError):
    """A baseline file that cannot be read, or whose figures do not follow from its samples; the message is one sentence for people."""


def baseline_file(folder: Path, suite: str, evaluation: str) -> Path:
    """Return where an evaluation's baselines lie."""
    return folder / suite / f"{evaluation}.json"


def load(file: Path) -> dict[str, Any]:
    """Return a file's content, its parts there though not looked into."""
    content = parsed(file)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema == 1:
        raise BaselineError(
            f"{file}: of schema 1, from an older mpq; migrate it: mpq approve --migrate --baselines {quote(str(file.parent.parent))}"
        )
    if isinstance(schema, int) and schema > SCHEMA:
        raise BaselineError(f"{file}: of schema {schema}, and this mpq reads {SCHEMA}: use the mpq that wrote it")
    if schema != SCHEMA or not all(isinstance(content.get(part), dict) for part in ("approvals", "cases", "sets")):
        raise BaselineError(f"{file}: not a baseline file of schema {SCHEMA}; restore it, or delete it and use --mpq-update-baselines")
    return dict(content)


def empty() -> dict[str, Any]:
    """Return the content of a file in which nothing was approved yet."""
    return {"schema": SCHEMA, "approvals": {}, "cases": {}, "sets": {}}


def parsed(file: Path) -> Any:
    """Return what a file holds, of whatever schema; `empty` where it does not exist. Raises `BaselineError` where it is no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except FileNotFoundError:
        return empty()
    except OSError as error:
        raise BaselineError(f"{file}: cannot be read: {error.strerror or error}; give another folder with --mpq-baselines") from error
    except ValueError as error:
        raise BaselineError(f"{file}: not valid JSON ({error}); restore it, or delete it and use --mpq-update-baselines") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice, as after a merge")
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Write one case, one approval and one set a line, so that a diff shows what changed."""

    def lines(part: str) -> str:
        return ",\n".join(f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in content[part].items())

    parts = ",\n".join(f' "{part}": {{\n{lines(part)}\n }}' for part in ("approvals", "cases", "sets"))
    write_atomically(file, f'{{\n "schema": {SCHEMA},\n{parts}\n}}\n'.encode())


def key_of(content: Mapping[str, Any]) -> str:
    """Return the name of an approval or a set of samples: a digest of what it holds."""
    return digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())[:8]
