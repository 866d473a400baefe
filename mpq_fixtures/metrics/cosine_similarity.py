"""Cosine similarity of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Statistic


class CosineSimilarity(Additive):
    """The cosine of the angle between two vectors, averaged over samples. Statistic: the cosine, ``[]``.

    Worked out in double precision; equal vectors have exactly 1. The tolerance is 100 times what float32 leaves in a network's answer.
    """

    name = "cosine_similarity"
    unit = "cosine similarity"
    bounds = (-1.0, 1.0)
    tolerance = 0.001

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two vectors ``[d]``; NaN where the prediction is not finite. Raises `ValueError` where one of them is 0."""
        one, other = (np.asarray(vector, np.float64) for vector in (prediction, target))
        if one.ndim != 1 or one.shape != other.shape:
            raise ValueError(f"cosine similarity compares two vectors of one length, not {list(one.shape)} with {list(other.shape)}")
        if not np.all(np.isfinite(one)):
            return np.array(np.nan)
        lengths = np.linalg.norm(one) * np.linalg.norm(other)
        if lengths == 0:
            raise ValueError("cosine similarity: a vector of zeros points nowhere")
        return np.array(1.0 if np.array_equal(one, other) else np.clip(one @ other / lengths, -1, 1))

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return the mean cosine."""
        return np.asarray(total / samples)
