"""Two chains of digests side by side: in which samples each layer differs, and in which it made something else of the same. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, SIGNAL, SOURCE, STATISTIC
from mpq_fixtures.gate.measured import WHOLE, Measured, same_sources, whole
from mpq_fixtures.metrics import Statistic

T = TypeVar("T")


class TwoChains:
    """The chains of the samples that two measurements share, side by side."""

    def __init__(self, before: Measured, after: Measured) -> None:
        if before.samples == after.samples:  # as on most nights
            here = there = list(range(len(after.samples)))
        else:
            places = {sample: number for number, sample in enumerate(before.samples)}
            here = [number for number, sample in enumerate(after.samples) if sample in places]
            there = [places[after.samples[number]] for number in here]
        self.before, self.after, self.size = before, after, len(here)
        self._there, self._here = np.asarray(there, np.intp), np.asarray(here, np.intp)
        self._same_set = len(here) == len(before.samples) == len(after.samples)
        self._kept: dict[str, NDArray[np.bool_] | bool | None] = {}

    def different(self, layer: str) -> NDArray[np.bool_] | bool | None:
        """Tell of each shared sample whether the layer differs, or of all together where no more is known; None where nothing is."""
        if layer not in self._kept:
            self._kept[layer] = self._compare(layer)
        return self._kept[layer]

    def _compare(self, layer: str) -> NDArray[np.bool_] | bool | None:
        if not self.size:
            return None
        if layer == SOURCE:
            return ~same_sources(*self._pair(self.before.sources, self.after.sources))
        if layer == STATISTIC:
            if self.before.metric != self.after.metric:
                return True
            return unequal(*self._pair(self.before.statistics, self.after.statistics))
        old, new = self.before.links.get(layer), self.after.links.get(layer)
        if old is not None and new is not None:
            bits = min(self.before.bits.get(layer, WHOLE), self.after.bits.get(layer, WHOLE))
            shift = np.uint64(WHOLE - bits)
            differs = old[self._there] >> shift != new[self._here] >> shift
            if layer == BITSTREAM:  # of which a file keeps few bits, and the size besides
                differs |= self.before.bytes[self._there] != self.after.bytes[self._here]
            return np.asarray(differs)
        if layer in self.before.whole and layer in self.after.whole and self._same_set:
            return self._whole(self.before, self._there, layer) != self._whole(self.after, self._here, layer)
        return None

    def _pair(self, before: Sequence[T], after: Sequence[T]) -> tuple[list[T], list[T]]:
        """Return what belongs to the shared samples of two lists."""
        if self.before.samples == self.after.samples:
            return list(before), list(after)
        return [before[old] for old in self._there], [after[new] for new in self._here]

    @staticmethod
    def _whole(measured: Measured, order: NDArray[np.intp], layer: str) -> str:
        """Return the digest over all samples; where the links are there, in the order of ``order``, or it holds for its own order alone."""
        in_order = np.array_equal(order, np.arange(len(order)))
        if layer in measured.links and measured.bits.get(layer, WHOLE) == WHOLE and not in_order:
            return whole(measured.links[layer][order])
        return measured.whole[layer]

    def knows(self, layer: str) -> bool:
        """Tell whether both know of a layer enough to compare it."""
        return self.different(layer) is not None

    def count(self, layer: str) -> int | None:
        """Return in how many samples the layer differs; None where it does and nobody knows in how many."""
        found = self.different(layer)
        if isinstance(found, np.ndarray):
            return int(found.sum())
        return None if found else 0

    def trial(self, layer: str, path: Sequence[str]) -> tuple[int, int]:
        """Return in how many samples the layer got the same as before, and in how many of these it made something else of it."""
        found = self.different(layer)
        if found is None:
            return 0, 0
        inputs = [SOURCE, ANSWER] if layer == STATISTIC else [known for known in path[: path.index(layer)] if self.knows(known)][-1:]
        same = np.ones(self.size, bool)
        for one in inputs:
            difference = self.different(one)
            if difference is None or difference is True:
                return 0, 0
            same &= ~np.asarray(difference, bool) if isinstance(difference, np.ndarray) else True
        if layer != SOURCE and not inputs:
            return 0, 0
        moves = np.broadcast_to(np.asarray(found), same.shape)
        if found is True and not same.all():
            return 0, 0
        return int(same.sum()), int((moves & same).sum())

    def is_given_the_signal(self) -> bool:
        """Tell whether the model's input is the signal itself, as far as it is known."""
        for measured in (self.after, self.before):
            signal = measured.links.get(DECODED, measured.links.get(SIGNAL))
            if GIVEN in measured.links and signal is not None:
                bits = min(measured.bits.get(GIVEN, WHOLE), measured.bits.get(DECODED if DECODED in measured.links else SIGNAL, WHOLE))
                shift = np.uint64(WHOLE - bits)
                return bool(np.array_equal(measured.links[GIVEN] >> shift, signal >> shift))
        return False


def unequal(before: Sequence[Statistic], after: Sequence[Statistic]) -> NDArray[np.bool_]:
    """Tell of each pair of statistics whether they differ as numbers; NaN equals NaN."""
    if np.size(before[0]) <= 64 and len({one.shape for one in (*before, *after)}) == 1:
        old, new = (np.array(side, float).reshape(len(side), -1) for side in (before, after))
        return np.asarray(((old != new) & ~(np.isnan(old) & np.isnan(new))).any(axis=1))
    return np.array([not np.array_equal(old, new, equal_nan=True) for old, new in zip(before, after, strict=True)])
