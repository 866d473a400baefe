"""Names of samples, each of which must stand for one alone."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np


def twice(names: Callable[[], Iterable[str]]) -> str | None:
    """Return the first name that is there more than once, None where each stands alone; 8 bytes a name are held, not the names.

    ``names`` is called again where two seem to be the same.
    """
    ordered = np.sort(np.frombuffer(array("q", map(hash, names())), np.int64))
    if not (shared := {int(one) for one in ordered[1:][ordered[1:] == ordered[:-1]]}):
        return None
    counted = Counter(name for name in names() if hash(name) in shared)
    return next((name for name, count in counted.items() if count > 1), None)
