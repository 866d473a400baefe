"""Folders of pictures or sounds without a table, however deep: data for evaluations that read no labels."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mpq_fixtures.datasets.digests import file_digests
from mpq_fixtures.datasets.reading import read_audio, read_image
from mpq_fixtures.errors import AssetError
from mpq_fixtures.signals import Dataset, LazySamples, Modality, Sample, Signal

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

_DIGEST = 32
_UNKNOWN = -1


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
    files = _Files(folder, names, modality)
    return Dataset(LazySamples(len(names), files.sample, files.sources, files.named), classes)


class _Files:
    """Samples of files. Of each the digest and the size are remembered once they are known; nothing else is."""

    def __init__(self, folder: Path, names: Sequence[str], modality: Modality) -> None:
        self._folder, self._names, self._modality = folder.absolute(), names, modality
        self._digests, self._sizes = bytearray(_DIGEST * len(names)), array("q", [_UNKNOWN]) * len(names)

    def sample(self, position: int) -> Sample:
        """Return a sample by its place."""
        (source,) = self.sources((position,))
        path = self._folder / self._names[position]
        return Sample(self._names[position], source, max(0, self._sizes[position]), partial(_read, path, self._modality), _no_target)

    def sources(self, positions: Sequence[int]) -> list[str]:
        """Return the digests of files, or what stands for those that cannot be read: reading the sample says why."""
        lacking = [position for position in positions if self._sizes[position] == _UNKNOWN]
        known = file_digests() if lacking else None
        if known is not None:
            known.look_ahead(str(self._folder / self._names[position]) for position in lacking)
            for position in lacking:
                try:
                    digest, self._sizes[position] = known.of(str(self._folder / self._names[position]))
                except OSError:
                    digest, self._sizes[position] = position.to_bytes(_DIGEST, "big"), 0
                self._digests[_DIGEST * position : _DIGEST * (position + 1)] = digest
        return [self._digests[_DIGEST * position : _DIGEST * (position + 1)].hex() for position in positions]

    def named(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Return ids and groups."""
        return [(self._names[position], "") for position in positions]


def _read(path: Path, modality: Modality) -> Signal:
    content = path.read_bytes()
    return read_image(content) if modality is Modality.IMAGE else read_audio(content)


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
