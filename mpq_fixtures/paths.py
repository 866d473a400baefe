"""Paths that people write, and digests of what lies there."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from mpq_fixtures.errors import AssetError, MissingAsset


def resolve(path: str, folder: Path, place: str) -> Path:
    """Return a path of a suite file: from the file's folder on, with ``~`` and ``$VARIABLES`` in it replaced."""
    full = os.path.expandvars(path)
    if missing := re.search(r"\$\{?(\w+)", full):
        raise MissingAsset(f"{place}: {path}: the environment variable {missing[1]} is not set: point it at your folder and run again")
    try:
        return folder / expanded(full)
    except AssetError as error:
        raise AssetError(f"{place}: {error}") from None


def expanded(path: str) -> Path:
    """Return a path with ``~`` or ``~name`` in front replaced; raises `AssetError`, with a sentence, where nobody is called that."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise AssetError(f"{path}: there is no user {Path(path).parts[0][1:]!r}: write ~/, or the whole path") from None


def digests_of_folder(folder: Path) -> dict[str, str]:
    """Return a digest of the content of each file in a folder by its name, in the order of their paths."""
    digests = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def digest_of_files(digests: Mapping[str, str]) -> str:
    """Return one digest of files from their names and digests."""
    return hashlib.sha256(os.fsencode("".join(f"{name}\0{digest}\n" for name, digest in digests.items()))).hexdigest()
