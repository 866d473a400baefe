"""Data sets: samples that are read one by one, never all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpq_fixtures.signals import Sample


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order, and the names of the classes that their targets index (none for text and stems)."""

    samples: Sequence[Sample]
    labels: tuple[str, ...] = ()
