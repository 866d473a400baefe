"""The Pareto front over codecs: the points that no other point beats at its rate or below."""

from __future__ import annotations

import numpy as np

from mpq_fixtures.decisions.points import Points


def front(points: Points) -> list[str]:
    """Return the cases that no other equals or exceeds in value at the same rate or a lower one, cheapest first; over all samples."""
    rates, values = points.rates[0], points.values[0]
    best, cases = -np.inf, []
    for place in np.lexsort((-values, rates)):
        if values[place] > best:
            best = values[place]
            cases.append(points.cases[place])
    return cases
