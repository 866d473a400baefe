"""Weights of learned codecs and metrics that do not come with a package: where they lie, where they come from, and what they must be.

``MPQ_WEIGHTS=FOLDER`` names a folder that is looked into first; `mpq fetch` downloads into the user's cache, from where each file is
published, or from ``MPQ_WEIGHTS_MIRROR=URL``, which holds the same files as ``URL/folder/name``.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs
from filelock import FileLock

from mpq_fixtures.downloads import Progress, carry_on, is_out_of_room, reason_of, size_of
from mpq_fixtures.errors import AssetError, MissingAsset


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

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    def find(self) -> Path | None:
        """Return the folder that has all files in their sizes, or None; nothing is read."""
        return next((folder for folder in self.places() if all(_has(folder, file) for file in self.files)), None)

    def places(self) -> list[Path]:
        """Return the folders that are looked into, the one that downloads go to last."""
        given = os.environ.get("MPQ_WEIGHTS")
        # Of a "~name" that nobody here has, the text stays as it is.
        return [*([Path(os.path.expanduser(given)) / self.folder] if given else []), weights_cache() / self.folder]  # noqa: PTH111

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
                wrong = f"its SHA-256 is {found}, not {file.sha256}"
                raise AssetError(f"{folder / file.name} is not what it should be: {wrong}; delete it, then: {self.fetch}")
        return folder


def weights_cache() -> Path:
    """Return the folder that weights are downloaded to."""
    return Path(platformdirs.user_cache_dir("mpq", appauthor=False)) / "weights"


def download(weights: Weights, progress: Progress = lambda size: None) -> Path:
    """Bring the files that are not here into the user's cache and return their folder; ``progress`` is told of the bytes that come.

    A file is put in its place when its digest is right. Raises `AssetError` for one that cannot be had, of which the part that has come is
    kept for the next time, and for one with another digest, of which nothing is.
    """
    found = weights.find()
    folder = weights_cache() / weights.folder
    if found is not None and found != folder:
        return weights.require()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for file in weights.files:
            if not (folder / file.name).is_file() or digest_of_file(folder / file.name) != file.sha256:
                _bring(weights, file, folder, progress)
    finally:
        with suppress(OSError):
            folder.rmdir()  # where nothing came
    return folder


def _bring(weights: Weights, file: WeightFile, folder: Path, progress: Progress) -> None:
    mirror = os.environ.get("MPQ_WEIGHTS_MIRROR", "").rstrip("/")
    url = f"{mirror}/{weights.folder}/{file.name}" if mirror else file.url
    part = folder / f"{file.sha256}.part"
    lock = Path(f"{part}.lock")
    try:
        with FileLock(lock):
            carry_on(url, part, file.size, progress)
            if (found := digest_of_file(part)) != file.sha256:
                part.unlink()
                wrong = f"its SHA-256 is {found}, not {file.sha256}"
                by_hand = f"or put the file into {folder} by hand"
                raise AssetError(f"{url} is not what it should be: {wrong}; it was dropped; try again: {weights.fetch}, {by_hand}")
            part.replace(folder / file.name)
    except AssetError:
        raise
    except Exception as error:
        advice = f"free some room in {folder}" if is_out_of_room(error) else "find a network"
        kept = "what has come is kept" if size_of(part) else "nothing has come"
        if not size_of(part):
            part.unlink(missing_ok=True)
        raise AssetError(f"{url} could not be fetched ({reason_of(error)}): {kept}; {advice}, then: {weights.fetch}") from error
    finally:
        lock.unlink(missing_ok=True)


def digest_of_file(path: Path) -> str:
    """Return a file's SHA-256, read once a process unless the file changes."""
    about = path.stat()
    return _digest(path, about.st_size, about.st_mtime_ns, about.st_ino)


@cache
def _digest(path: Path, *changes: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _has(folder: Path, file: WeightFile) -> bool:
    try:
        return (folder / file.name).stat().st_size == file.size
    except OSError:
        return False
