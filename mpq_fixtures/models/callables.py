"""Python callables that a suite file names as ``python:package.module:callable``: found, called, and what they are made of."""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import os
import reprlib
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from mpq_fixtures.errors import AssetError, MissingAsset, describe_error, nearest
from mpq_fixtures.plain_text import plain

PYTHON = "python:"

_FAILURES = (Exception, SystemExit)  # a script may end in sys.exit()


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


def look_for(name: str, folder: Path) -> None:
    """Raise `AssetError` where the callable ``name`` cannot be there, as far as that shows without running any of its code."""
    module_name, _, attribute = name.removeprefix(PYTHON).partition(":")
    if not attribute or not all(module_name.split(".")):
        raise AssetError(f"{name}: write python:package.module:callable")
    parts = module_name.split(".")
    file = _beside(folder, parts)
    if file is None:
        if not (folder / parts[0]).is_dir() and importlib.util.find_spec(parts[0]) is None:
            advice = f"put {'/'.join(parts)}.py beside the suite file or install its package"
            raise MissingAsset(f"{name}: there is no module {module_name}: {advice}")
        return
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except (SyntaxError, ValueError) as error:
        raise AssetError(f"{name}: {file} is not Python: {describe_error(error)}") from None
    made = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    others = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Expr)]
    if attribute not in made and not others:  # an assignment or an import may make it
        raise AssetError(f"{name}: {file} has no callable {attribute!r}{nearest(attribute, sorted(made))}")


def _beside(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return the file of a module beside a suite file; None where there is none."""
    path = folder.joinpath(*parts)
    return next((file for file in (path.with_name(f"{path.name}.py"), path / "__init__.py") if file.is_file()), None)


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
        raise AssetError(f"{place}: {name}({', '.join(arguments)}) raised {describe_error(error)}{where}") from error


def read_labels(value: Any, place: str) -> tuple[str, ...]:
    """Return the labels of what a callable made, () for None; raise `AssetError` where they are no list of texts."""
    listed = value.tolist() if hasattr(value, "tolist") else value  # of numpy and pandas
    if listed is None:
        return ()
    if not isinstance(listed, list | tuple) or not all(isinstance(one, str) for one in listed):
        raise AssetError(f"{place}: labels are {reprlib.repr(value)}: make them a list of texts, one for each class, or leave them out")
    return tuple(map(plain, listed))


def digest_of_callable(name: str, folder: Path) -> str:
    """Return a digest of the module's source that ``name`` points to: a changed file is another model."""
    module_name = name.removeprefix(PYTHON).partition(":")[0]
    module = _import(module_name, folder, name)
    source = Path(module.__file__).read_bytes() if module.__file__ else b""
    return hashlib.sha256(name.encode() + b"\0" + source).hexdigest()


def _import(module_name: str, folder: Path, name: str) -> ModuleType:
    parts = module_name.split(".")
    file = _beside(folder, parts)
    # A package that runs already, such as this one, is not loaded a second time where a suite lies beside it.
    running = list(getattr(sys.modules.get(parts[0]), "__path__", ())) == [str(folder / parts[0])]
    try:
        return importlib.import_module(module_name) if file is None or running else _import_beside(file, folder, parts)
    except _FAILURES as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if file is None and missing is not None and f"{module_name}.".startswith(f"{missing}."):
            advice = f"put {'/'.join(parts)}.py beside the suite file or install its package"
            raise MissingAsset(f"{name}: {error}; {advice}") from error
        raise AssetError(f"{name}: {file or module_name} does not import: {describe_error(error)}") from error


def _import_beside(file: Path, folder: Path, parts: list[str]) -> ModuleType:
    """Import a module from beside a suite file, under a name of its own, so that two suites can each have a my_model.py.

    Of a package the first part gets that name, and Python finds the others, and what they import relatively, from there.
    """
    is_package = len(parts) > 1 or file.name == "__init__.py"
    first = folder / parts[0] if is_package else file
    alias = f"mpq_suite_{hashlib.sha256(os.fsencode(first)).hexdigest()[:12]}_{parts[0]}"
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
