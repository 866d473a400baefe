"""Repositories of the hub, their files, and how they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from mpq_fixtures.hub.files import Choice, transformers_files


class State(Enum):
    """How a repository stands."""

    HERE = "here"
    UNTRIED = "here, its code not run"
    FETCHABLE = "can be fetched"
    GATED = "gated"
    GONE = "gone"
    UNFIT = "cannot be used"
    UNREACHABLE = "out of reach"


@dataclass(frozen=True)
class Repository:
    """A model or a data set on the hub at a revision, with the choice of the files that are needed of it.

    ``kind`` is ``model`` or ``dataset``; ``needed_for`` names the suite as ``mpq fetch`` takes it.
    """

    kind: str
    id: str
    revision: str = "main"
    choose: Choice = field(default=transformers_files, compare=False)
    needed_for: str = field(default="SUITE", compare=False)

    @property
    def page(self) -> str:
        """The repository's page on the hub."""
        from huggingface_hub import constants

        return f"{constants.ENDPOINT}/{'datasets/' if self.kind == 'dataset' else ''}{self.id}"

    @property
    def title(self) -> str:
        """The id, with the revision where it is not the default one."""
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"


@dataclass(frozen=True)
class File:
    """A file of a repository: its bytes, and its digest in hex, the SHA-256 of a large file and git's SHA-1 of a small one.

    The cache names the file by that digest; it is "" for a file that is already here.
    """

    size: int
    digest: str = ""


@dataclass(frozen=True)
class Status:
    """How a repository stands: ``title`` and ``text`` are a sentence that says what to do; ``files`` are those needed, where known.

    ``folder`` is the snapshot in the cache, and ``commit`` what the revision stands for; None and "" where they are not known.
    """

    state: State
    title: str
    text: str
    files: Mapping[str, File] = field(default_factory=dict)
    folder: Path | None = None
    commit: str = ""

    @property
    def sentence(self) -> str:
        """What there is to say."""
        return f"{self.title} {self.text}"

    @property
    def size(self) -> int:
        """The bytes of all files needed."""
        return sum(file.size for file in self.files.values())


def sentences(statuses: Iterable[Status]) -> list[str]:
    """Return what there is to say of several, once where it is the same of many."""
    titles: dict[str, list[str]] = {}
    for status in statuses:
        titles.setdefault(status.text, []).append(status.title)
    return [f"{some[0]} and {len(some) - 1} more: each {text}" if len(some) > 1 else f"{some[0]} {text}" for text, some in titles.items()]


def megabytes(size: int) -> str:
    """Write a number of bytes for people: ``12.3 MB``, ``3.06 GB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "bytes" else f"{size} bytes"
        size = size / 1000  # type: ignore[assignment]
    return f"{size:.3g} TB"
