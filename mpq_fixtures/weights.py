"""Weights of learned codecs and metrics that do not come with a package: where they lie, where they come from, and what they must be.

``MPQ_WEIGHTS=FOLDER`` names a folder that is looked into first; `mpq fetch` downloads into the user's cache.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from mpq_fixtures.named import AssetError, MissingAsset


@dataclass(frozen=True)
class WeightFile:
    """A file of weights: its name, where it can be downloaded, its digest and its size in bytes."""

    name: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Weights:
    """The files that something learned needs, in one folder of its own; ``fetch`` is the command that brings them."""

    folder: str
    files: tuple[WeightFile, ...]
    licence: str
    fetch: str

    def find(self) -> Path | None:
        """Return the folder that has all files in their sizes, or None; nothing is read."""
        return next((folder for folder in self.places() if all(_has(folder, file) for file in self.files)), None)

    def places(self) -> list[Path]:
        """Return the folders that are looked into, the one that downloads go to last."""
        given = os.environ.get("MPQ_WEIGHTS")
        return [*([Path(given).expanduser() / self.folder] if given else []), weights_cache() / self.folder]

    def missing(self) -> str:
        """Say that the files are not here and what brings them; "" where they are."""
        if self.find() is not None:
            return ""
        return f"its weights are not here: {self.fetch}, or set MPQ_WEIGHTS to a folder that holds {self.folder}/"

    def require(self) -> Path:
        """Return the folder once every file's digest is right; raises `MissingAsset` or, with both digests, `AssetError`."""
        folder = self.find()
        if folder is None:
            raise MissingAsset(self.missing())
        for file in self.files:
            if (found := digest_of_file(folder / file.name)) != file.sha256:
                raise AssetError(
                    f"{folder / file.name} is not what it should be: its SHA-256 is {found}, not {file.sha256}; delete it and {self.fetch}"
                )
        return folder


def weights_cache() -> Path:
    """Return the folder that weights are downloaded to."""
    return Path(platformdirs.user_cache_dir("mpq", appauthor=False)) / "weights"


@cache
def digest_of_file(path: Path) -> str:
    """Return a file's SHA-256, read once a process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has(folder: Path, file: WeightFile) -> bool:
    try:
        return (folder / file.name).stat().st_size == file.size
    except OSError:
        return False
