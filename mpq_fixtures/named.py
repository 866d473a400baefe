"""Things that a suite file names: Python callables, local folders, hub ids, and what they are made of."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import re
import reprlib
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

PYTHON = "python:"

_FAILURES = (Exception, SystemExit)  # a script may end in sys.exit()


class AssetError(Exception):
    """A model or a data set that cannot be used as the suite file names it; the message says which and what to do about it."""


class MissingAsset(AssetError):
    """One that is not on this machine: its cases are skipped, unless the run is strict."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown name: the one that may have been meant, and all that there are."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{hint} There is: {', '.join(known)}" if known else ""


def told(error: BaseException) -> str:
    """Return an exception in one line: its type and what it says."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def kind(value: object) -> str:
    """Return the words for what a callable returned instead of what it should have."""
    return "None" if value is None else f"an instance of {type(value).__name__}"


def resolve(path: str, folder: Path, place: str) -> Path:
    """Return a path of a suite file: from the file's folder on, with ``~`` and ``$VARIABLES`` in it replaced."""
    full = os.path.expandvars(path)
    if missing := re.search(r"\$\{?(\w+)", full):
        raise MissingAsset(f"{place}: {path}: the environment variable {missing[1]} is not set: point it at your folder and run again")
    return folder / Path(full).expanduser()


def find_callable(name: str, folder: Path) -> Callable[..., Any]:
    """Return the callable of ``python:package.module:callable``; modules are looked for in ``folder`` too."""
    module_name, _, attribute = name.removeprefix(PYTHON).partition(":")
    if not attribute or not all(module_name.split(".")):
        raise AssetError(f"{name}: write python:package.module:callable")
    module = _import(module_name, folder, name)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise AssetError(f"{name}: {module.__file__} has no callable {attribute!r}")
    return found  # type: ignore[no-any-return]


def call(name: str, folder: Path, place: str, **arguments: Any) -> Any:
    """Return what the callable ``name`` makes of the arguments, which it gets by position; raise `AssetError` where it raises."""
    function = find_callable(name, folder)
    try:
        return function(*arguments.values())
    except AssetError:
        raise
    except _FAILURES as error:
        # Nobody sees the traceback of an AssetError: say where to look.
        frames = traceback.extract_tb(error.__traceback__)[1:]
        own = [frame for frame in frames if frame.filename == frames[0].filename]
        where = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
        raise AssetError(f"{place}: {name}({', '.join(arguments)}) raised {told(error)}{where}") from error


def texts(value: Any, place: str) -> tuple[str, ...]:
    """Return the labels of what a callable made, () for None; raise `AssetError` where they are no list of texts."""
    listed = value.tolist() if hasattr(value, "tolist") else value  # of numpy and pandas
    if listed is None:
        return ()
    if not isinstance(listed, list | tuple) or not all(isinstance(one, str) for one in listed):
        raise AssetError(f"{place}: labels are {reprlib.repr(value)}: make them a list of texts, one for each class, or leave them out")
    return tuple(map(str, listed))


def digest_of_callable(name: str, folder: Path) -> str:
    """Return a digest of the module's source that ``name`` points to: a changed file is another model."""
    module_name = name.removeprefix(PYTHON).partition(":")[0]
    module = _import(module_name, folder, name)
    source = Path(module.__file__).read_bytes() if module.__file__ else b""
    return hashlib.sha256(name.encode() + b"\0" + source).hexdigest()


def digests_of_folder(folder: Path) -> dict[str, str]:
    """Return a digest of the content of each file in a folder by its name, in the order of their paths."""
    digests = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def digest_of_files(digests: Mapping[str, str]) -> str:
    """Return one digest of files from their names and digests."""
    return hashlib.sha256("".join(f"{name}\0{digest}\n" for name, digest in digests.items()).encode()).hexdigest()


def digest_of_folder(folder: Path) -> str:
    """Return a digest of the names and contents of the files in a folder."""
    return digest_of_files(digests_of_folder(folder))


def _import(module_name: str, folder: Path, name: str) -> ModuleType:
    parts = module_name.split(".")
    path = folder.joinpath(*parts)
    file = next((file for file in (path.with_name(f"{path.name}.py"), path / "__init__.py") if file.is_file()), None)
    # A package that runs already, such as this one, is not loaded a second time where a suite lies beside it.
    running = list(getattr(sys.modules.get(parts[0]), "__path__", ())) == [str(folder / parts[0])]
    try:
        return importlib.import_module(module_name) if file is None or running else _import_beside(file, folder, parts)
    except _FAILURES as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if file is None and missing is not None and f"{module_name}.".startswith(f"{missing}."):
            advice = f"put {'/'.join(parts)}.py beside the suite file or install its package"
            raise MissingAsset(f"{name}: {error}; {advice}") from error
        raise AssetError(f"{name}: {file or module_name} does not import: {told(error)}") from error


def _import_beside(file: Path, folder: Path, parts: list[str]) -> ModuleType:
    """Import a module from beside a suite file, under a name of its own, so that two suites can each have a my_model.py.

    Of a package the first part gets that name, and Python finds the others, and what they import relatively, from there.
    """
    is_package = len(parts) > 1 or file.name == "__init__.py"
    first = folder / parts[0] if is_package else file
    alias = f"mpq_suite_{hashlib.sha256(str(first).encode()).hexdigest()[:12]}_{parts[0]}"
    if alias not in sys.modules:
        source, within = (first / "__init__.py", [str(first)]) if is_package else (file, None)
        spec = importlib.util.spec_from_file_location(alias, source, submodule_search_locations=within) if source.is_file() else None
        if spec is None:  # a folder without an __init__.py is a package too
            spec = ModuleSpec(alias, None, is_package=True)
            spec.submodule_search_locations = within
        module = importlib.util.module_from_spec(spec)
        sys.modules[alias] = module
        try:
            if spec.loader is not None:
                spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[alias]
            raise
    return importlib.import_module(".".join([alias, *parts[1:]]))
