"""What an approval accepts: cases whose figures moved, from what to what, and the layer that moved them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpq_fixtures.chain import ANSWER, MADE_BY, SOURCE, STATISTIC
from mpq_fixtures.gate.measured import LINKS, Measured, same_sources
from mpq_fixtures.metrics import Statistic

NEW = "new"


@dataclass(frozen=True)
class Accepted:
    """A case whose baseline was updated: its value and rate, those before (None where it is new), and who made the first link that changed.

    ``layer`` is one of `mpq_fixtures.chain.MADE_BY`'s names, ``new`` where nothing was approved before, and empty where no link differs
    or none is known.
    """

    case: str
    before: float | None
    value: float
    rate_before: float | None
    rate: float
    layer: str


def changed_by(before: Measured, after: Measured) -> str:
    """Return who made the first link of the chain that differs between two measurements of a case; empty where none does or is known."""
    if list(before.samples) != list(after.samples) or not same_sources(before.sources, after.sources).all():
        return MADE_BY[SOURCE]
    for layer in LINKS:
        if layer in before.whole and layer in after.whole and before.whole[layer] != after.whole[layer]:
            return MADE_BY[layer]
    known = ANSWER in before.whole and ANSWER in after.whole
    return MADE_BY[STATISTIC] if known and not equal(before.statistics, after.statistics) else ""


def accepted_lines(accepted: Sequence[Accepted]) -> list[str]:
    """Return what was updated as lines of a table; nothing where nothing was."""
    if not accepted:
        return []
    rows = [("case", "from", "to", "change", "rate from", "to", "change", "layer")]
    for one in accepted:
        moved, spent = one.before is not None, one.rate_before is not None
        rows.append(
            (
                one.case,
                f"{one.before:.4f}" if moved else "-",
                f"{one.value:.4f}",
                f"{round(one.value - one.before, 4) + 0:+.4f}" if one.before is not None else "-",
                f"{one.rate_before:.4f}" if spent else "-",
                f"{one.rate:.4f}",
                f"{round(one.rate / one.rate_before - 1, 4) + 0:+.2%}" if one.rate_before else "-",
                one.layer or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:]), row[-1]]) for row in rows]


def equal(before: Sequence[Statistic], after: Sequence[Statistic]) -> bool:
    """Tell whether two cases have the same statistics; NaN equals NaN."""
    return len(before) == len(after) and all(np.array_equal(one, other, equal_nan=True) for one, other in zip(before, after, strict=True))
