"""What the end of a run needs of each case that was held against a baseline, as it crosses from worker to controller.

The samples of an evaluation are the same at every point: a worker sends each list of them once, under its digest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import digest
from mpq_fixtures.gate.comparison import Comparison


@dataclass(frozen=True, eq=False)
class Shares:
    """What each of the samples that a case and its baseline share has in the change of the value, ``[n]``, and their groups."""

    samples: Sequence[str]
    groups: Sequence[str]
    shares: NDArray[np.float64]


def shares_of(comparison: Comparison | None, sent: set[str]) -> dict[str, Any] | None:
    """Return the shares of a comparison as plain data; their samples only where they are not among those ``sent`` before."""
    if comparison is None or comparison.unlike or not len(comparison.shared):
        return None
    names = json.dumps([list(comparison.shared), list(comparison.groups)]).encode()
    key = digest(names)
    content = {
        "key": key,
        "names": b"" if key in sent else names,
        "shares": comparison.shares.tobytes() if comparison.shares.any() else b"",
    }
    sent.add(key)
    return content


def taken(content: Mapping[str, Any], known: dict[str, tuple[list[str], list[str]]]) -> Shares:
    """Restore what `shares_of` made; ``known`` holds the samples and groups that were sent so far, by their digest."""
    if content["names"]:
        known.setdefault(content["key"], json.loads(content["names"]))
    samples, groups = known[content["key"]]
    nothing = np.broadcast_to(np.float64(0), len(samples))  # which takes no memory
    return Shares(samples, groups, np.frombuffer(content["shares"]) if content["shares"] else nothing)
