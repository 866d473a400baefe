"""What every store does, wherever it lies."""

from __future__ import annotations

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mpq_fixtures import DISTRIBUTION

if TYPE_CHECKING:
    import pyarrow as pa

BITSTREAM, PREDICTION, STATISTIC, AUDIT = "bitstream", "prediction", "statistic", "audit"
LAYERS = (BITSTREAM, PREDICTION, STATISTIC)

FORMAT = 2
"""What is written where and how, in a folder ``format-2`` of the store; 1 kept a file for each entry, in the store's folder itself."""
MARKER = "mpq-store.json"
"""Says the newest format that was written into a store."""
DAY = 86_400  # seconds


class StoreError(OSError):
    """The store cannot be used: no room, no permission, not a folder, no answer, or written by a newer mpq."""


class DamagedEntry(UserWarning):
    """Something in the store was not what had been written; it is dropped and made again."""


class OlderFormat(UserWarning):
    """The store's folder also holds what an older mpq wrote, which is never read."""


def key_of(**parts: Any) -> str:
    """Return the hex digest of the parts, which are strings, numbers, lists and dictionaries of those."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def mark() -> bytes:
    """Return the content of a store's marker."""
    return json.dumps({"format": FORMAT, "by": f"mpq {version(DISTRIBUTION)}"}).encode()


def newer_format(location: str, marker: bytes) -> str:
    """Return why a store with this marker cannot be used; "" where it can."""
    try:
        found = json.loads(marker)
        newest, by = int(found["format"]), str(found.get("by", "a newer mpq"))
    except (ValueError, TypeError, KeyError):
        return f"the store {location} has a {MARKER} that cannot be read: remove it, or choose another store with --mpq-cache"
    if newest <= FORMAT:
        return ""
    return (
        f"the store {location} was written by {by}, in format {newest}; this mpq knows {FORMAT}: "
        "install that one, or choose another store with --mpq-cache"
    )


@dataclass(frozen=True)
class Part:
    """A piece of a store that is removed as a whole: a scope, or a layer's single entries (``key`` "").

    ``used`` is when it was last written or, to the day, read, in seconds since 1970; ``about`` says what it belongs to.
    """

    layer: str
    key: str
    bytes: int
    files: int
    entries: int
    used: float
    about: list[dict[str, str]]
    files_of: Sequence[str]


Source = TypeVar("Source", str, bytes)
"""What a sample is asked for by: its source, or the key that is made of it."""


class Scope(ABC):
    """The entries of one layer that were made alike, one for each sample: all that differs between them is the sample.

    Tables have a column ``source``, ``fixed_size_binary(32)``: `mpq_fixtures.store.packs.sample_key` of a sample's ``source``. Samples are
    asked for by their sources or by these keys.
    """

    layer: str

    @abstractmethod
    def found(self, sources: Iterable[Source]) -> set[Source]:
        """Return which of these samples have an entry; nothing is read, so that an entry may still turn out to be damaged."""

    @abstractmethod
    def read(self, sources: Iterable[str] | Iterable[bytes], columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield the entries of those samples that have one, each once, in tables of any size and order.

        ``columns`` besides ``source`` (default: all). A damaged pack is a `DamagedEntry` warning, and its samples count as not found.
        """

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Keep a table's rows; afterwards they are there whole, whatever happens. Of a sample that has an entry the old one stays."""


class Store(ABC):
    """Results that many processes share.

    ``computed`` counts the entries of each layer that this process made and ``reused`` those that it found, single ones here, others where
    they are read; ``damaged`` names what was dropped.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self.computed: Counter[str] = Counter()
        self.reused: Counter[str] = Counter()
        self.damaged: list[str] = []

    @abstractmethod
    def scope(self, layer: str, key: str, about: Mapping[str, str] | None = None) -> Scope:
        """Return the scope of a layer; ``about`` says in names what its entries belong to, for ``mpq store``."""

    @abstractmethod
    def get(self, layer: str, key: str) -> bytes | None:
        """Return a single entry's payload, or None where there is none or it is damaged."""

    @abstractmethod
    def put(self, layer: str, key: str, payload: bytes) -> None:
        """Write a single entry; afterwards it is there whole, whatever happens in between."""

    def settle(self, layer: str, key: str, payload: bytes) -> bytes:
        """Write a single entry unless there is one, under its `lock`, and return the one that is there: the same to all who do so."""
        if (there := self.get(layer, key)) is None:
            self.put(layer, key, there := payload)
        return there

    @abstractmethod
    def lock(self, layer: str, key: str) -> AbstractContextManager[None]:
        """Keep other processes and threads of this machine from making the same entry meanwhile.

        Locks are striped: keys with the same first byte share one file, so that a store has at most 256 of them a layer. Hold
        one lock of a layer at a time, and a prediction's before a bitstream's.
        """

    @abstractmethod
    def parts(self) -> Iterator[Part]:
        """Yield what the store consists of."""

    def close(self) -> None:  # noqa: B027  # most hold nothing open
        """Let go what is held open; a store can be used again after it."""

    @abstractmethod
    def remove(self, part: Part) -> bool:
        """Remove a part; return False where a running process has it open, and it stays."""

    def older(self) -> list[Path]:
        """Return the folders that an older mpq wrote, which this one never reads."""
        return []

    def drop(self, layer: str, key: str, what: str) -> None:
        """Say that something is damaged and is dropped."""
        self.damaged.append(f"{layer} {key[:12]}")
        warnings.warn(DamagedEntry(f"damaged {layer} {what} in {self.location}: made again"), stacklevel=3)
