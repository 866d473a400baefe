"""Things that a suite file names: Python callables, local folders, hub ids, and what they are made of."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

PYTHON = "python:"


class AssetError(Exception):
    """A model or a data set that cannot be had; the message says which and what to do about it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: the one that may have been meant, and all that there are."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} There is: {', '.join(known)}" if known else ""


def resolve(path: str, folder: Path, place: str) -> Path:
    """Return a path of a suite file: from the file's folder on, with ``~`` and ``$VARIABLES`` in it replaced."""
    full = os.path.expandvars(path)
    if missing := re.search(r"\$\{?(\w+)", full):
        raise AssetError(f"{place}: {path}: the environment variable {missing[1]} is not set: point it at your folder and run again")
    return folder / Path(full).expanduser()


def find_callable(name: str, folder: Path) -> Callable[..., Any]:
    """Return the callable of ``python:package.module:callable``; modules are looked for in ``folder`` too."""
    module_name, _, attribute = name.removeprefix(PYTHON).partition(":")
    if not attribute:
        raise AssetError(f"{name}: write python:package.module:callable")
    module = _import(module_name, folder, name)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise AssetError(f"{name}: {module.__file__} has no callable {attribute!r}")
    return found  # type: ignore[no-any-return]


def digest_of_callable(name: str, folder: Path) -> str:
    """Return a digest of the module's source that ``name`` points to: a changed file is another model."""
    module_name = name.removeprefix(PYTHON).partition(":")[0]
    module = _import(module_name, folder, name)
    source = Path(module.__file__).read_bytes() if module.__file__ else b""
    return hashlib.sha256(name.encode() + b"\0" + source).hexdigest()


def digest_of_folder(folder: Path) -> str:
    """Return a digest of the names and contents of the files in a folder."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _import(module_name: str, folder: Path, name: str) -> ModuleType:
    beside = folder / f"{module_name}.py"
    if beside.is_file():
        # Under a name of its own, so that two suites can each have a my_model.py.
        alias = f"mpq_suite_{hashlib.sha256(str(beside).encode()).hexdigest()[:12]}_{module_name}"
        if alias in sys.modules:
            return sys.modules[alias]
        spec = importlib.util.spec_from_file_location(alias, beside)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[alias] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[alias]
            raise AssetError(f"{name}: {beside} does not import: {error}") from error
        return module
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise AssetError(f"{name}: {error}; put {module_name}.py beside the suite file or install its package") from error
