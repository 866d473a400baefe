"""Models: signals in, predictions out. One file for each task, each with ``load(source, device)``.

``source`` is a local folder or a hub id with an optional ``@revision``; ``device`` is a torch device name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from mpq_fixtures.signals import Signal

Prediction = Any
"""One for each signal: a class index, a class map ``[H, W]``, a text, or stems ``{name: [channels, frames]}``."""


class Model(Protocol):
    """Anything that answers signals. `predict` takes signals of any size, together at most ``batch_size`` of them."""

    def predict(self, signals: Sequence[Signal]) -> list[Prediction]:
        """Return one prediction for each signal, in order."""
        ...
