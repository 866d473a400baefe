"""What crosses from worker to controller for judging cases together: small, and the same on the other side."""

from __future__ import annotations

import numpy as np
import pytest

from mpq_fixtures.gate.comparison import Comparison
from mpq_fixtures.gate.shares import shares_of, taken

SAMPLES = [f"sample {number}" for number in range(1000)]


def comparison(**settings: object) -> Comparison:
    return Comparison(**{"case": "tried", "shared": SAMPLES, "groups": [""] * 999 + ["a"], "shares": np.zeros(1000), **settings})  # type: ignore[arg-type]


class TestShares:
    @pytest.mark.parametrize("shares", [np.zeros(1000), np.linspace(-1, 1, 1000), np.full(1000, np.nan)])
    def test_are_the_same_on_the_other_side(self, shares: np.ndarray) -> None:
        content = shares_of(comparison(shares=shares), set())
        assert content is not None
        found = taken(content, {})
        assert (found.samples, found.groups) == (SAMPLES, [""] * 999 + ["a"])
        assert np.array_equal(found.shares, shares, equal_nan=True)

    def test_name_their_samples_once(self) -> None:
        sent: set[str] = set()
        contents = [shares_of(comparison(case=case), sent) for case in ("one", "two")]
        other = shares_of(comparison(shared=SAMPLES[1:], groups=[""] * 999, shares=np.zeros(999)), sent)
        sizes = [len(str(content)) for content in (*contents, other)]
        assert sizes[1] < 200 < 10_000 < min(sizes[0], sizes[2])
        known: dict[str, tuple[list[str], list[str]]] = {}
        found = [taken(content, known) for content in (*contents, other) if content]
        assert found[0].samples is found[1].samples
        assert [len(one.samples) for one in found] == [1000, 1000, 999]

    @pytest.mark.parametrize("settings", [{"unlike": "another metric"}, {"shared": ()}])
    def test_are_none_where_nothing_could_be_held_against_another(self, settings: dict[str, object]) -> None:
        assert shares_of(comparison(**settings), set()) is None
        assert shares_of(None, set()) is None
