"""What a check is, and the list of them in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mpq_fixtures.conformance.trial import Trial

Faults = Iterator[str]
"""A sentence for each thing that is wrong."""


@dataclass(frozen=True)
class Check:
    """A check: a name that people can act on, what a codec that passes does, and the function."""

    name: str
    meaning: str
    faults: Callable[[Trial], Faults]


CHECKS: list[Check] = []


def check(name: str, meaning: str) -> Callable[[Callable[[Trial], Faults]], Callable[[Trial], Faults]]:
    """Add a function to the checks."""

    def register(function: Callable[[Trial], Faults]) -> Callable[[Trial], Faults]:
        CHECKS.append(Check(name, meaning, function))
        return function

    return register
