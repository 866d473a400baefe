"""Two measurements of one case side by side: which samples they share, what changed in them, and how far the figures moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.gate.layers import Layer, layer_of
from mpq_fixtures.gate.measured import Measured, same_source, same_sources
from mpq_fixtures.gate.paired import Effect, effect_of
from mpq_fixtures.gate.paired import shares as shares_of
from mpq_fixtures.gate.two_chains import unequal
from mpq_fixtures.metrics import Metric
from mpq_fixtures.record import Measure

RATE_MARGIN = 0.01
"""The share by which a case's rate may move: builds of one codec differ by less, a changed setting by more."""


@dataclass(frozen=True)
class Margins:
    """How far figures may fall before it matters: the metric's value in its unit, the rate as a share, signal metrics in theirs."""

    value: float
    rate: float = RATE_MARGIN
    similarity: Mapping[str, float] = field(default_factory=dict)
    lower_is_better: frozenset[str] = frozenset()


def margins_of(metrics: Mapping[str, Measure], metric: str, given: Mapping[str, float]) -> Margins:
    """Return the margins of a case: what the suite gives, and else each metric's own tolerance."""
    similarity = {name: given.get(name, measure.tolerance) for name, measure in metrics.items() if name != metric}
    lower = frozenset(name for name, measure in metrics.items() if not measure.higher_is_better)
    return Margins(given.get("value", metrics[metric].tolerance), given.get("rate", RATE_MARGIN), similarity, lower)


@dataclass(frozen=True)
class Shift:
    """How the mean of a signal metric moved; ``change`` is positive where signals came nearer to the originals.

    ``lost`` samples of those that it is taken over had a value before, and the metric is not made for what they are now.
    """

    before: float
    now: float
    change: float
    margin: float
    lost: int = 0

    @property
    def fell(self) -> bool:
        """Tell whether it fell by more than the margin; NaN did."""
        return not self.change >= -self.margin


@dataclass(frozen=True, eq=False)
class Comparison:
    """What became of a case since it was approved, or since another run.

    ``shared`` are the samples that both have, by id and source, and everything else is over them alone: the values, the rates (of all
    bytes), the signal metrics. ``lacking`` were there before and are not now, ``unapproved`` the other way round; a sample with another
    source is one of each. ``unlike`` says why the two cannot be held against each other. ``effect`` is None where every statistic is
    what it was, ``layer`` where every link of the chain is; ``crossing`` says how the change divides among several layers. ``shares`` are
    what each shared sample has in the change of the value. ``lost`` are signal metrics that were measured before and are not now.
    """

    case: str
    shared: Sequence[str] = ()
    groups: Sequence[str] = ()
    lacking: Sequence[str] = ()
    unapproved: Sequence[str] = ()
    unlike: str = ""
    value_before: float = math.nan
    value_now: float = math.nan
    rate_before: float = math.nan
    rate_now: float = math.nan
    margins: Margins = field(default_factory=lambda: Margins(math.nan))
    effect: Effect | None = None
    shares: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    similarity: Mapping[str, Shift] = field(default_factory=dict)
    lost: Sequence[str] = ()
    layer: Layer | None = None
    crossing: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return what results keep of it, as JSON has it."""
        effect = {} if self.effect is None else {key: _plain(value) for key, value in asdict(self.effect).items()}
        return {
            "shared": len(self.shared),
            "lacking": len(self.lacking),
            "unapproved": len(self.unapproved),
            "unlike": self.unlike,
            "before": _plain(self.value_before),
            "now": _plain(self.value_now),
            "rate_before": _plain(self.rate_before),
            "rate_now": _plain(self.rate_now),
            "margin": _plain(self.margins.value),
            "rate_margin": _plain(self.margins.rate),
            "effect": effect,
            "similarity": {name: {key: _plain(value) for key, value in asdict(shift).items()} for name, shift in self.similarity.items()},
            "differ": dict(self.layer.differ) if self.layer else {},
        }

    @property
    def suspects(self) -> Sequence[str]:
        """What changed with the first layer that differs."""
        return (self.layer.suspects or {}).get(self.layer.name, ()) if self.layer else ()


def compare(
    before: Measured, now: Measured, metric: Metric, margins: Margins, level: float, original: tuple[Measured, Measured] | None = None
) -> Comparison:
    """Hold ``now`` against ``before``, at the significance ``level`` of a one-sided test.

    ``original`` are the two measurements of the same evaluation's originals: a reader that gives other signals shows there, for example.
    """
    before, now = before.stacked(), now.stacked()
    there, here = _pairs(before, now)
    shared = [now.samples[number] for number in here]
    known = set(shared)
    found = Comparison(
        now.case,
        shared=shared,
        lacking=[sample for sample in before.samples if sample not in known],
        unapproved=[sample for sample in now.samples if sample not in known],
        unlike=_unlike(before, now),
        margins=margins,
    )
    if found.unlike or not shared:
        return found
    whole = len(shared) == len(before.samples) == len(now.samples) and before.samples == now.samples
    old, new = (before, now) if whole else (before.take(there), now.take(here))
    was, is_now = metric.condense_all(old.statistics), metric.condense_all(new.statistics)
    values = metric.value(was), metric.value(is_now)
    effect, shares = None, np.zeros(len(shared))
    if unequal(old.statistics, new.statistics).any():
        shares = shares_of(metric, was, is_now)
        effect = effect_of(metric, was, is_now, shares, new.groups, margins.value, level)
    return Comparison(
        **{
            **vars(found),
            "groups": new.groups,
            "value_before": values[0],
            "value_now": values[1],
            "rate_before": old.rate,
            "rate_now": new.rate,
            "effect": effect,
            "shares": shares,
            "similarity": {
                name: _shift(name, old, new, margins, rounded=len(shared) < len(before.samples))
                for name in new.similarity
                if name in old.similarity
            },
            "lost": [name for name in before.similarity if name not in now.similarity],
            "layer": layer_of(before, now, original),
        }
    )


def _pairs(before: Measured, now: Measured) -> tuple[Sequence[int], Sequence[int]]:
    """Return where the samples lie that both have, by id and source."""
    if before.samples == now.samples:
        same = np.flatnonzero(same_sources(before.sources, now.sources)).tolist()
        return same, same
    places = {sample: number for number, sample in enumerate(before.samples)}
    pairs = [
        (places[sample], number)
        for number, sample in enumerate(now.samples)
        if sample in places and same_source(before.sources[places[sample]], now.sources[number])
    ]
    return [old for old, _ in pairs], [new for _, new in pairs]


def _unlike(before: Measured, now: Measured) -> str:
    if (before.metric, before.version) != (now.metric, now.version):
        return f"scored by {before.metric} in version {before.version} before, and by {now.metric} in version {now.version} now"
    was, is_ = before.settings, now.settings
    if was is None or is_ is None:  # approved before settings were kept
        return ""
    if other := [name for name in sorted({*was, *is_}) if was.get(name) != is_.get(name)]:
        old, new = (", ".join(f"{name} = {side.get(name)!r}" for name in other) for side in (was, is_))
        return f"scored with {old} before, and with {new} now"
    return ""


ROUNDING = 2.5
"""Steps, over the root of the number of samples, that a mean of rounded values may be off: four standard deviations of rounding."""


def _shift(name: str, old: Measured, new: Measured, margins: Margins, rounded: bool) -> Shift:
    """Compare a signal metric over the samples that have a value on both sides; what rounding may do to some of them is no fall."""
    one, other = old.similarity[name], new.similarity[name]
    both = np.isfinite(one) & np.isfinite(other)
    lost = int((np.isfinite(one) & ~np.isfinite(other)).sum())
    if not both.any():
        return Shift(math.nan, math.nan, 0.0, math.inf, lost)
    before, now = float(one[both].mean()), float(other[both].mean())
    change = before - now if name in margins.lower_is_better else now - before
    room = ROUNDING * old.steps.get(name, 0.0) / math.sqrt(both.sum()) if rounded else 0.0
    return Shift(before, now, change, margins.similarity.get(name, math.inf) + room, lost)


def _plain(value: Any) -> Any:
    """Leave out what JSON has no word for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
