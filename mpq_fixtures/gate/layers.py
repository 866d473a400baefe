"""Which layer did it: the first link of the chain that differs names the layer, and what changed with it names the suspect. Pure.

A layer *moved* where it made something else of the same: other bytes of an equal signal, another answer to an equal input. Behind a layer
that moved in every sample nothing is equal any more. Whether the layers there moved as well the evaluation's original case may tell,
which goes through no codec; else what is recorded of them does: weights, settings, versions. Where that changed too it stays open until
old and new are crossed (`mpq_fixtures.gate.crossing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, LAYERS, MADE_BY, PLURAL, SIGNAL, SOURCE, STATISTIC
from mpq_fixtures.gate.measured import Measured
from mpq_fixtures.gate.suspects import NOTHING, changed, suspects_of, suspicion
from mpq_fixtures.gate.two_chains import TwoChains


@dataclass(frozen=True)
class Layer:
    """What differs between two measurements of the same samples, layer by layer of the chain.

    ``name`` is the first layer that differs, ``between`` the layers just before it of which one of the two knows nothing, so that they
    may have done it as well. ``differ`` counts the samples that differ in each layer that both know, of ``samples`` that they share, in
    the order of the chain; None where they are known to differ and not in how many. ``moved`` are the layers that made something else
    of the same, in their order, with how that is known; ``open`` are those of which nothing shows whether they did.
    """

    name: str
    between: tuple[str, ...]
    samples: int
    differ: Mapping[str, int | None]
    moved: Mapping[str, str]
    open: tuple[str, ...] = ()
    suspects: Mapping[str, Sequence[str]] | None = None

    @property
    def maker(self) -> str:
        """What made the first layer that differs, ``decoder``, or ``encoder or decoder`` where it cannot be told."""
        return " or ".join(dict.fromkeys(MADE_BY[layer] for layer in (*self.between, self.name)))

    @property
    def makers(self) -> tuple[str, ...]:
        """All that moved, in the order of the chain."""
        return tuple(MADE_BY[layer] for layer in self.moved)

    def __str__(self) -> str:
        """Say it in a sentence: ``decoder: decoded signals differ in 240 of 240, bitstreams in none; suspect: pillow 12 -> 13``."""
        known = list(self.differ)
        place = known.index(self.name) if self.name in known else 0
        text = f"{self.maker}: "
        if self.name in known:
            text += f"{PLURAL[self.name]} differ in {_count(self.differ[self.name], self.samples)}"
            text += f", {PLURAL[known[place - 1]]} in none" if place else ""
            later = next((layer for layer in (ANSWER, STATISTIC) if layer in known[place + 1 :]), "")
            text += f", {PLURAL[later]} in {_count(self.differ[later], self.samples, short=True)}" if later else ""
        else:
            text += f"{PLURAL[self.name]} of the originals differ"
        found = (self.suspects or {}).get(self.name, ())
        text += f"; {suspicion(found)}" if found else ""
        for layer, evidence in self.moved.items():
            if layer != self.name:
                text += f"; the {MADE_BY[layer]} moved too ({evidence})"
        if self.open:
            text += f"; the {' and the '.join(MADE_BY[layer] for layer in self.open)} may have moved as well"
        return text


def layer_of(before: Measured, after: Measured, original: tuple[Measured, Measured] | None = None) -> Layer | None:
    """Return what differs between two measurements over the samples that they share; None where nothing does that both know of.

    ``original`` are the two measurements of the evaluation's original case. It goes through the same reader, model and metric, so that
    it tells of each whether it moved where everything behind a codec differs.
    """
    chain = TwoChains(before, after)
    clean = TwoChains(*original) if original is not None and before.point != "original" else None
    differ = {layer: chain.count(layer) for layer in LAYERS if chain.knows(layer)}
    first = next((layer for layer, count in differ.items() if count != 0), "")
    if clean is not None:
        reader = next((layer for layer in (SOURCE, SIGNAL) if clean.knows(layer) and clean.count(layer) != 0), "")
        if reader and (not first or LAYERS.index(reader) < LAYERS.index(first)):
            first = reader
    if not first:
        return None
    path = [layer for layer in LAYERS if layer not in (BITSTREAM, DECODED) or before.point != "original"]
    moved, unsettled, accused = {}, [], {}
    for layer in path[path.index(first) :]:
        suspects = suspects_of(layer, before, after)
        tried, moves = map(sum, zip(*(one.trial(layer, path) for one in (chain, clean) if one is not None), strict=True))
        own = changed(layer, before, after, own=True)
        if moves:
            moved[layer] = f"{moves} of {tried} on equal input"
        elif layer == first:
            moved[layer] = "the first to differ"
        elif tried:
            continue
        elif own and layer not in (BITSTREAM, DECODED):
            moved[layer] = own[0]
        elif chain.knows(layer) and _may_have_moved(layer, before, after):
            unsettled.append(layer)
        accused[layer] = suspects
    between = _between(first, path, chain, clean)
    listed = [one for layer in (first, *reversed(between)) for one in suspects_of(layer, before, after)]
    accused[first] = list(dict.fromkeys(one for one in listed if not one.startswith(NOTHING))) or listed[:1]
    return Layer(first, between, chain.size, differ, moved, tuple(unsettled), accused)


def _may_have_moved(layer: str, before: Measured, after: Measured) -> bool:
    """Tell whether anything changed that could move the layer; where nothing is recorded of that, whether a fingerprint did."""
    if before.provenance and after.provenance:
        return bool(changed(layer, before, after))
    if layer in (BITSTREAM, DECODED):
        return bool(before.codec and after.codec and before.codec != after.codec)
    if layer in (GIVEN, ANSWER):
        return bool(before.model and after.model and before.model != after.model)
    return layer == STATISTIC and (before.version, dict(before.settings or {})) != (after.version, dict(after.settings or {}))


def _between(first: str, path: Sequence[str], *chains: TwoChains | None) -> tuple[str, ...]:
    """Return the layers just before the first that differs of which nothing is known, so that they may have done it as well."""
    place = path.index(first)
    unknown = []
    for layer in reversed(path[:place]):
        if any(chain is not None and chain.knows(layer) for chain in chains):
            break
        unknown.append(layer)
    # A model that keeps its preprocessing to itself is given the very signal: what it makes of that shows in its answers.
    if first == ANSWER and not unknown and chains[0] is not None and chains[0].is_given_the_signal():
        own, its = (changed(layer, chains[0].before, chains[0].after, own=True) for layer in (ANSWER, GIVEN))
        if not own or set(own) & set(its):  # nothing but the weights, or the like, is the network's own doing
            unknown.append(GIVEN)
    return tuple(reversed(unknown))


def _count(count: int | None, total: int, short: bool = False) -> str:
    if count is None:
        return "some"
    return "none" if not count else f"{count}" if short else f"{count} of {total}"
