"""The share of a sample's nearest neighbours that it keeps, which is what search by example lives on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Statistic
from mpq_fixtures.signals import SEED

NEIGHBOURS = 10
"""How many are looked for: what a first page of answers shows."""

SEARCHED = 20_000
"""Originals among which neighbours are looked for, at most."""

_ROWS = 512  # vectors that are compared with all others at once


class NeighboursKept(Additive):
    """Of the ten originals nearest to a sample's original, by cosine, the share that are nearest to its decoded signal too.

    The sample's own original counts for neither. Statistic: the share, ``[]``. Of fewer than twelve samples all others are neighbours but
    one. As near ties turn, the tolerance is a hundredth.
    """

    name = "neighbours"
    unit = "share of neighbours"
    bounds = (0.0, 1.0)
    tolerance = 0.01

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two sets of neighbours, as sequences of their places."""
        return np.array(len({*prediction} & {*target}) / len(target))

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return the mean share."""
        return np.asarray(total / samples)


def shares_kept(vectors: NDArray[np.float32], originals: NDArray[np.float32]) -> list[Statistic]:
    """Return the share of neighbours that each of ``vectors`` ``[n, d]``, of decoded signals, keeps of those of ``originals`` ``[n, d]``.

    Neighbours are looked for among all originals, or a seeded choice of `SEARCHED` where there are more. NaN where one of a sample's two
    vectors is not finite, or is all zeros and points nowhere, and where fewer than three originals do point somewhere; those that do not
    are nobody's neighbours.
    """
    (vectors, points), (originals, original_points) = (_that_point(side) for side in (vectors, originals))
    searched = np.arange(len(originals))
    if len(originals) > SEARCHED:
        searched = np.sort(np.random.default_rng(SEED).permutation(len(originals))[:SEARCHED])
    searched = searched[original_points[searched]]
    if len(searched) < 3:
        return [np.array(np.nan)] * len(vectors)
    own = np.full(len(originals), -1)
    own[searched] = np.arange(len(searched))
    metric, there = NeighboursKept(), originals[searched]
    pairs = zip(_nearest(vectors, there, own), _nearest(originals, there, own), points & original_points, strict=True)
    return [metric.observe(kept, before) if both else np.array(np.nan) for kept, before, both in pairs]


def _that_point(vectors: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return vectors with zeros in place of those that are not finite, and which of them point anywhere."""
    finite = np.asarray(np.isfinite(vectors).all(axis=1))
    return (vectors if finite.all() else np.where(finite[:, None], vectors, 0)), finite & vectors.any(axis=1)


def _nearest(vectors: NDArray[np.float32], originals: NDArray[np.float32], own: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the places of the nearest of ``originals`` to each of ``vectors`` but its ``own``, -1 where that is none, ``[n, k]``."""
    count = max(1, min(NEIGHBOURS, len(originals) - 2))
    there = _unit(originals)
    found = np.empty((len(vectors), count), np.intp)
    for start in range(0, len(vectors), _ROWS):
        part = slice(start, start + _ROWS)
        cosines = _unit(vectors[part]) @ there.T
        there_too = np.flatnonzero(own[part] >= 0)
        cosines[there_too, own[part][there_too]] = -np.inf
        found[part] = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
    return found


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))
