"""Agreement: a task's metric against the model's own answers on the originals, where labels are the targets of its case.

How far a model agrees with itself is not how often it is right. But it takes no labels, so how well the two go together where there are
some tells what it is worth where there are none.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Any

from mpq_fixtures.metrics import Metric, Statistic

NAME = "agreement"


def agreement(metric: Metric) -> Metric:
    """Return a task's metric under the name of agreement; it keeps of a sample no more than counts in its value."""
    made = copy.copy(metric)
    made.__class__ = _agreement_of(type(metric))
    return made


@cache
def _agreement_of(base: type[Metric]) -> type[Metric]:
    class Agreement(base):  # type: ignore[misc, valid-type]
        name = NAME

        def observe(self, prediction: Any, target: Any) -> Statistic:
            kept: Statistic = self.condense(super().observe(prediction, target))
            return kept

        @property
        def settings(self) -> dict[str, Any]:
            return {"of": base.name, **super().settings}

        @classmethod
        def _register(cls) -> None:
            """Stay unknown: what it is of says the metric's settings."""

    return Agreement


def restored_agreement(settings: Mapping[str, Any] | None, metrics: Mapping[str, type[Metric]]) -> Metric | None:
    """Return agreement from its settings, for taking values of statistics; None where what it is of is not known here."""
    if settings is None or settings.get("of") not in metrics:
        return None
    restored = metrics[settings["of"]].restored({name: value for name, value in settings.items() if name != "of"})
    return agreement(restored) if restored else None
