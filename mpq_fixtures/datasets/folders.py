"""Folders of pictures or sounds without a table, however deep: data for evaluations that read no labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mpq_fixtures.datasets.digests import file_digests
from mpq_fixtures.datasets.reading import read_audio, read_image
from mpq_fixtures.datasets.sources import Sources
from mpq_fixtures.errors import AssetError
from mpq_fixtures.files import read_regular
from mpq_fixtures.signals import Dataset, LazySamples, Limits, Modality, Sample, Signal

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation

FILES = {
    Modality.IMAGE: (
        *(".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff"),
        ".webp",
    ),
    Modality.AUDIO: (".aac", ".aif", ".aiff", ".au", ".flac", ".m4a", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".wav", ".webm", ".wma"),
}
"""The ends of the names of files that are taken, in lower case."""

WORDS = {Modality.IMAGE: "pictures", Modality.AUDIO: "sounds"}


def read_folder(evaluation: Evaluation, folder: Path, classes: tuple[str, ...] = ()) -> Dataset:
    """Return the pictures or sounds in a folder and below it, by their names from there on; hidden ones are left out.

    Raises `AssetError` where there are none.
    """
    modality = evaluation.task.modality
    names = sorted(name for name in _names(folder) if name.lower().endswith(FILES[modality]))
    if not names:
        others = next((words for kind, words in WORDS.items() if kind is not modality and _has(folder, kind)), "")
        instead = f"it holds {others}: {evaluation.task.name} takes {WORDS[modality]}" if others else f"expected {_few(FILES[modality])}"
        raise AssetError(f"{evaluation.name}: there are no {WORDS[modality]} in {folder}, nor below it; {instead}")
    files = _Files(folder, names, modality, evaluation.limits)
    return Dataset(LazySamples(len(names), files.sample, files.sources, files.named, files.keys), classes)


class _Files:
    """Samples of files."""

    def __init__(self, folder: Path, names: Sequence[str], modality: Modality, limits: Limits) -> None:
        self._folder, self._names, self._modality, self._limits = folder.absolute(), names, modality, limits
        self._known = file_digests()
        self._sources = Sources(len(names), self._find, lambda position: [self._path(position)], self._known)
        self.sources, self.keys = self._sources.of, self._sources.keys

    def sample(self, position: int) -> Sample:
        """Return a sample by its place."""
        (source,) = self.sources((position,))
        read = partial(_read, Path(self._path(position)), self._modality, self._limits)
        return Sample(self._names[position], source, self._sources.size(position), read, _no_target)

    def named(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Return ids and groups."""
        return [(self._names[position], "") for position in positions]

    def _path(self, position: int) -> str:
        return str(self._folder / self._names[position])

    def _find(self, position: int) -> tuple[bytes, int]:
        """Return a file's digest and size, or what stands for one that cannot be read: reading the sample says why."""
        try:
            return self._known.of(self._path(position))
        except OSError:
            return position.to_bytes(32, "big"), 0


def _read(path: Path, modality: Modality, limits: Limits) -> Signal:
    content = read_regular(path)
    return read_image(content, limits) if modality is Modality.IMAGE else read_audio(content, limits)


def _no_target() -> None:
    raise ValueError("a folder of files has no targets")


def _names(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from ((Path(root) / name).relative_to(folder).as_posix() for name in files if not name.startswith("."))


def _has(folder: Path, modality: Modality) -> bool:
    return any(name.lower().endswith(FILES[modality]) for name in _names(folder))


def _few(suffixes: Sequence[str]) -> str:
    return f"files that end in {', '.join(suffixes)}"
