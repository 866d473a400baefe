"""Results on disk, addressed by what they were made from, so that nothing is computed twice.

Layers, each entry a file of its own: ``bitstream`` (what an encoder made of one sample), ``prediction`` (what a model made
of one signal), ``statistic`` (what the metrics keep of one sample) and ``audit`` (what was found out about a codec). A key is
the digest of everything that decides the content. An entry is a SHA-256 of the payload and the payload, written to a
temporary file and moved into place: a killed process leaves whole entries or none, and a damaged one is noticed when it is
read, dropped and made again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from mpq_fixtures.files import write_atomically

BITSTREAM, PREDICTION, STATISTIC, AUDIT = "bitstream", "prediction", "statistic", "audit"
LAYERS = (BITSTREAM, PREDICTION, STATISTIC)
_DIGEST_BYTES = hashlib.sha256().digest_size


class StoreError(OSError):
    """The store's folder cannot be used: no room, no permission, or not a folder."""


class DamagedEntry(UserWarning):
    """An entry of the store was not what had been written; it is dropped and made again."""


def key_of(**parts: Any) -> str:
    """Return the hex digest of the parts, which are strings, numbers, lists and dictionaries of those."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Store:
    """A folder of results that many processes share.

    ``computed`` and ``reused`` count the entries of each layer that this process made and found.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed: Counter[str] = Counter()
        self.reused: Counter[str] = Counter()
        self.damaged: list[str] = []

    def get(self, layer: str, key: str) -> bytes | None:
        """Return an entry's payload, or None where there is none or it is damaged."""
        path = self._path(layer, key)
        with self._explained():
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                return None
        payload = content[_DIGEST_BYTES:]
        if hashlib.sha256(payload).digest() == content[:_DIGEST_BYTES]:
            self.reused[layer] += 1
            return payload
        self.damaged.append(f"{layer} {key[:12]}")
        warnings.warn(DamagedEntry(f"damaged {layer} {path.name} in {self.folder}: made again"), stacklevel=2)
        path.unlink(missing_ok=True)
        return None

    def put(self, layer: str, key: str, payload: bytes) -> None:
        """Write an entry; afterwards it is there whole, whatever happens in between."""
        path = self._path(layer, key)
        with self._explained():
            write_atomically(path, hashlib.sha256(payload).digest(), payload)
        self.computed[layer] += 1

    @contextmanager
    def lock(self, layer: str, key: str) -> Iterator[None]:
        """Keep other processes and threads from making the same entry meanwhile.

        Locks are striped: keys with the same first byte share one file, so that a store has at most 256 of them a layer. Hold
        one lock of a layer at a time, and a prediction's before a bitstream's.
        """
        path = self.folder / "locks" / f"{layer}-{key[:2]}.lock"
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _path(self, layer: str, key: str) -> Path:
        return self.folder / layer / key[:2] / key[2:]

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(
                f"cannot use the store {self.folder}: {reason}; free some room or choose another folder with --mpq-cache"
            ) from error
