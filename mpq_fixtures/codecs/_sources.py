"""What a codec is made of: the source files that it reaches and the packages that it imports.

Imports are read from the source, those inside of functions too, and nothing is run: what lies outside of installed packages counts by
its content, and so does what it imports in turn; an installed package counts by its version. What a codec loads by other means, data
files or modules that it finds by a computed name, belongs into its ``build``.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

_OWN = "mpq_fixtures"
_OWN_CODECS = f"{_OWN}.codecs."
"""Of this package only the codecs' own files decide a bitstream; an interface or a report that changes does not."""

_INSTALLED = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib"))


def digest_of_sources(modules: Iterable[str]) -> str:
    """Return a digest of the named modules, of the files that they import from outside of packages, and of the packages' versions."""
    files, packages = _reached(tuple(sorted(set(modules))))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    for package in packages:
        digest.update(f"{package}\0{_version(package)}\n".encode())
    return digest.hexdigest()


def code_and_packages(modules: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return what `digest_of_sources` is taken of, apart: a digest of the files, and the version of each installed distribution."""
    files, packages = _reached(tuple(sorted(set(modules))))
    code = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
    listed = [one.partition(" ") for package in packages for one in _version(package).split(", ")]
    return code, {name: found for name, _, found in listed if found}


def _reached(modules: tuple[str, ...]) -> tuple[list[Path], list[str]]:
    """Return the files, in the order of their names and contents, and the packages that ``modules`` lead to."""
    files: dict[str, Path] = {}
    packages: set[str] = set()
    waiting = list(modules)
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or (top == _OWN and not name.startswith(_OWN_CODECS)):
            continue
        if top != _OWN and _is_installed(top):
            packages.add(top)
            continue
        file = _file(name)
        if file is None:
            continue
        files[name] = file
        is_package = file.name == "__init__.py"
        waiting += _imports(file.read_text(encoding="utf-8", errors="replace"), name if is_package else name.rpartition(".")[0])
    return [files[name] for name in sorted(files)], sorted(packages)


@lru_cache(256)
def _imports(source: str, package: str) -> tuple[str, ...]:
    """Return the modules that a source names in its imports; ``from a import b`` may mean a module ``a.b``."""
    try:
        return tuple(_named(ast.parse(source), package))
    except SyntaxError:
        return ()


def _named(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])
            else:
                base = node.module or ""
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


@cache
def _is_installed(top: str) -> bool:
    """Tell whether a top-level module belongs to an installed package; nothing is imported."""
    loaded = sys.modules.get(top)
    try:
        spec = loaded.__spec__ if loaded is not None and loaded.__spec__ is not None else importlib.util.find_spec(top)
    except (ImportError, AttributeError, ValueError):
        return False
    if spec is None:
        return False
    places = [
        Path(place).resolve() for place in (spec.origin if spec.has_location else None, *(spec.submodule_search_locations or ())) if place
    ]
    return any({"site-packages", "dist-packages"} & set(place.parts) or set(_INSTALLED) & set(place.parents) for place in places)


def _file(module: str) -> Path | None:
    """Return the source of a module that belongs to no package, or None where there is none: built-in modules, names that are no modules.

    The answer must not depend on what was imported meanwhile, so that submodules are looked for beside their parent, by path.
    """
    top, *parts = module.split(".")
    loaded = getattr(sys.modules.get(top), "__file__", None)
    try:
        spec = None if loaded else importlib.util.find_spec(top)
    except (ImportError, AttributeError, ValueError):
        return None
    folders = list(getattr(sys.modules.get(top), "__path__", None) or (spec.submodule_search_locations if spec else None) or ())
    if not parts:
        origin = loaded or (spec.origin if spec and spec.has_location else None)
        return Path(origin).resolve() if origin and origin.endswith(".py") else None
    for folder in folders:
        path = Path(folder, *parts)
        for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if file.is_file():
                return file.resolve()
    return None


@cache
def _distributions(package: str) -> list[str]:
    """Return the distributions that a top-level package is of, as `importlib.metadata.packages_distributions` has them.

    That reads the metadata and the list of files of every distribution there is, which takes longer than to read what a run's store has.
    """
    found = []
    for one in distributions():
        if named := (one.read_text("top_level.txt") or "").split():
            holds = package in named
        elif record := one.read_text("RECORD"):
            holds = re.search(rf"^{re.escape(package)}(/.*)?\.py,", record, re.MULTILINE) is not None
        else:
            holds = any(file.parts[0] in (package, f"{package}.py") for file in one.files or () if file.suffix == ".py")
        if holds:
            found.append(one.metadata["Name"])
    return found


@cache
def _version(package: str) -> str:
    names = sorted(set(_distributions(package))) or [package]
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(name)
    return ", ".join(found)
