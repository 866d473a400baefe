"""Figures with their bounds, the rows of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A figure with its bound. ``unit`` is empty for a ratio; a row without a bound only says.

    No figure of 0 or less holds: it is the difference of two runs of which noise was the greater part.
    """

    what: str
    at_most: float | None
    measured: float
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.at_most is None or 0 < self.measured <= self.at_most

    def __str__(self) -> str:
        bound = "" if self.at_most is None else written(self.at_most, self.unit)
        measured = written(self.measured, self.unit)
        return f"| {self.what} | {bound} | {measured if self.holds else f'**{measured}**'} |"


Rows = Callable[..., None]


def written(figure: float, unit: str) -> str:
    """Write a figure with its unit, and a ratio below 1 by what it divides: ``1/1.85``."""
    if not unit and 0 < figure < 1:
        return f"1/{1 / figure:.3g}"
    digits = f"{figure:,.0f}" if figure >= 1000 else f"{figure:.2f}" if not unit else f"{figure:.3g}"
    return f"{digits} {unit}".strip()
