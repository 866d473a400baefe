"""What changed since the baselines, codec by codec: how many bitstreams, signals and answers, and what is suspected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mpq_fixtures.chain import LAYERS, PLURAL
from mpq_fixtures.gate.suspects import suspicion


@dataclass(frozen=True)
class Changed:
    """The cases of one codec of an evaluation whose chains differ from what was approved; ``differ`` counts samples over all of them."""

    evaluation: str
    codec: str
    cases: int
    samples: int
    layers: tuple[str, ...]
    suspects: tuple[str, ...]
    differ: Mapping[str, int]

    @property
    def sentence(self) -> str:
        """Say it in a line."""
        counts = ", ".join(f"{PLURAL[link]} in {count:,}" for link, count in self.differ.items() if count)
        suspects = f"; {suspicion(self.suspects)}" if self.suspects else ""
        return f"{self.evaluation}-{self.codec}: {counts} of {self.samples:,} differ{suspects}"


def changes(cases: Iterable[Mapping[str, Any]]) -> list[Changed]:
    """Gather the cases of ``results.json`` whose chain differs, by evaluation and codec, in their order."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for case in cases:
        if case.get("layer"):
            groups.setdefault((case["evaluation"], case["codec"]), []).append(case)
    return [
        Changed(
            evaluation,
            codec,
            len(group),
            sum(case["change"]["shared"] for case in group),
            tuple(dict.fromkeys(case["layer"] for case in group)),
            tuple(dict.fromkeys(suspect for case in group for suspect in case["suspect"].split(", ") if suspect)),
            {link: sum(case["change"]["differ"].get(link) or 0 for case in group) for link in LAYERS},
        )
        for (evaluation, codec), group in groups.items()
    ]
