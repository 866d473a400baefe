"""What was measured of each sample: as objects for who makes them, and as columns for everything else.

A case of a million samples is columns in a Parquet file, of which a reader takes what it needs; nobody holds a million objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ROW_FORMAT = 4
"""Raised when `Row` or `mpq_fixtures.rows.tables` changes, so that no row of an older form is taken from a store."""


@dataclass(frozen=True)
class Row:
    """What was measured of one sample.

    ``ledger`` says what its ``bytes`` are spent on (`mpq_fixtures.codecs.Ledger`), ``nominal_bits`` what its quality names, if it names a
    rate; ``unmeasured`` says of signal metrics why they have no value.
    ``statistic`` and the entries of ``further`` are nested lists, what the task's metric and the signal metrics keep of the sample;
    ``scores`` are their values over this sample alone;
    ``floor`` is the task metric's statistic of the unprocessed signal, in records on the originals and for SDR only.
    ``source`` and ``group`` are the sample's, ``chain`` the digests of what became of it, by layer (`mpq_fixtures.chain`).
    """

    sample: str
    bytes: int
    elements: int
    prediction: str
    target: str
    statistic: Any
    further: dict[str, Any]
    scores: dict[str, float]
    ledger: dict[str, int]
    seconds: float | None = None
    nominal_bits: float | None = None
    floor: Any = None
    unmeasured: dict[str, str] = field(default_factory=dict)
    source: str = ""
    group: str = ""
    chain: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A sample that could not be read, encoded, decoded, predicted or scored, and why. It counts in no mean and fails its case."""

    sample: str
    step: str
    reason: str
