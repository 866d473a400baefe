"""Results kept, addressed by what they were made from, so that nothing is computed twice.

Layers: ``bitstream`` (what an encoder made of one sample), ``prediction`` (what a model made of one signal), ``statistic`` (what the
metrics keep of one sample) and ``audit`` (what was found out about a codec). A key has two parts: a *scope*, the digest of everything
that decides the content but the sample, and the *sample*. A scope holds packs: tables with one row a sample, each with a digest. A
killed process leaves whole packs or none; a damaged one is noticed when it is read, said, dropped and made again. Many processes share
a store.
"""

from __future__ import annotations

from pathlib import Path

from mpq_fixtures.store.base import (
    AUDIT,
    BITSTREAM,
    LAYERS,
    PREDICTION,
    STATISTIC,
    DamagedEntry,
    OlderFormat,
    Scope,
    Store,
    StoreError,
    key_of,
)

__all__ = [
    "AUDIT",
    "BITSTREAM",
    "LAYERS",
    "PREDICTION",
    "STATISTIC",
    "DamagedEntry",
    "OlderFormat",
    "Scope",
    "Store",
    "StoreError",
    "key_of",
    "open_store",
]


def open_store(location: Path | str) -> Store:
    """Return the store in a folder, or at a URL that fsspec understands: ``s3://bucket/prefix``, ``gs://...``, ``file:///shared``."""
    if "://" in str(location):
        from mpq_fixtures.store.remote import RemoteStore

        return RemoteStore(str(location))
    from mpq_fixtures.store.local import LocalStore

    return LocalStore(Path(location))
