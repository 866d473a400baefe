"""Which layer did it: the first link of the chain that differs names the layer, and what changed with it names the suspect. Pure.

A layer *moved* where it made something else of the same: other bytes of an equal signal, another answer to an equal input. Behind a layer
that moved in every sample nothing is equal any more. Whether the layers there moved as well the evaluation's original case may tell,
which goes through no codec; else what is recorded of them does: weights, settings, versions. Where that changed too it stays open until
old and new are crossed (`mpq_fixtures.gate.crossing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, LAYERS, MADE_BY, SIGNAL, SOURCE, STATISTIC
from mpq_fixtures.gate.measured import WHOLE, Measured, same_sources, whole
from mpq_fixtures.metrics import Statistic
from mpq_fixtures.provenance import OWNERS, facts

T = TypeVar("T")

_PLURAL = {
    SOURCE: "sources",
    SIGNAL: "signals",
    BITSTREAM: "bitstreams",
    DECODED: "decoded signals",
    GIVEN: "the model's inputs",
    ANSWER: "answers",
    STATISTIC: "statistics",
}
_OWN = {
    BITSTREAM: ("codec code", "codec build"),
    DECODED: ("codec code", "codec build"),
    GIVEN: ("model preprocessing", "model processor", "model code"),
    ANSWER: ("model weights", "model code", "model configuration", "model option", "model source"),
    STATISTIC: ("metric name", "metric version", "metric setting"),
    SOURCE: ("data",),
    SIGNAL: (),
}
"""What a layer is made of: the beginnings of the names of `facts`, most specific first."""
_PACKAGES = {
    SOURCE: ("datasets", "pyarrow", "scikit-image"),
    SIGNAL: ("pillow", "soundfile", "av", "scikit-image", "numpy"),
    GIVEN: ("transformers", "tokenizers", "pillow", "scipy", "numpy", "demucs", "torch"),
    ANSWER: ("torch", "transformers", "demucs", "safetensors", "tokenizers"),
    STATISTIC: ("jiwer", "whisper-normalizer", "scikit-learn", "museval", "scipy", "numpy"),
}
"""The packages that may move a layer; those of a codec its sources tell."""
_COMPUTING = ("machine torch", "machine float32", "machine device", "machine instruction", "machine processor")
_ANY = ("machine instruction", "machine processor", "machine system", "python", "mpq version", "mpq commit")
_SILENT = ("weights", "processor", "configuration", "code")
"""Parts that are known by a digest, which tells a reader nothing."""
_NOTHING = "nothing that is recorded changed"
_WORDS = {"processor": "preprocessor's configuration", "configuration": "model's configuration", "code": "code"}


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
            text += f"{_PLURAL[self.name]} differ in {_count(self.differ[self.name], self.samples)}"
            text += f", {_PLURAL[known[place - 1]]} in none" if place else ""
            later = next((layer for layer in (ANSWER, STATISTIC) if layer in known[place + 1 :]), "")
            text += f", {_PLURAL[later]} in {_count(self.differ[later], self.samples, short=True)}" if later else ""
        else:
            text += f"{_PLURAL[self.name]} of the originals differ"
        found = (self.suspects or {}).get(self.name, ())
        text += f"; {_suspicion(found)}" if found else ""
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
    chain = _Chain(before, after)
    clean = _Chain(*original) if original is not None and before.point != "original" else None
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
    accused[first] = list(dict.fromkeys(one for one in listed if not one.startswith(_NOTHING))) or listed[:1]
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


def _between(first: str, path: Sequence[str], *chains: _Chain | None) -> tuple[str, ...]:
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


class _Chain:
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


def suspects_of(layer: str, before: Measured, after: Measured) -> list[str]:
    """Return what changed between two measurements of a case among the things that can move the layer; see `suspects`."""
    old, new = (_facts(measured) for measured in (before, after))
    return suspects(layer, old, new)


def suspects(layer: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return what changed among the things that can move a layer, from the `facts` of two runs, most specific first.

    ``pillow 12.0.0 -> 13.0.0``, ``weights``, ``normaliser none -> whisper_english``. Where nothing did, the one entry says what was
    looked at; there is none where one of the runs recorded nothing.
    """
    if not before or not after:
        return []
    names = _relevant(layer, before, after)
    found = [text for name in names if (text := _change(name, before, after))]
    if found:
        return list(dict.fromkeys(found))
    looked = [_label(name) if _is_silent(name) else f"{_label(name)} {after[name]}" for name in names if name in after]
    return [f"{_NOTHING}: {', '.join(looked[:8])}{' and others' if len(looked) > 8 else ''}"]


def changed(layer: str, before: Measured, after: Measured, own: bool = False) -> list[str]:
    """Return what changed among the things that can move a layer; with ``own`` only among those that it is made of itself."""
    old, new = _facts(before), _facts(after)
    names = _relevant(layer, old, new)
    chosen = [name for name in names if not own or any(name.startswith(start) for start in _OWN[layer])]
    return list(dict.fromkeys(text for name in chosen if (text := _change(name, old, new))))


def _facts(measured: Measured) -> dict[str, str]:
    """Return the facts of a case; what the measurement itself says of its metric comes before what its provenance does."""
    codec = measured.point.partition("-")[0]
    found = facts(measured.provenance, measured.evaluation, codec)
    found |= {f"metric setting {name}": str(value) for name, value in (measured.settings or {}).items()}
    return found | {"metric name": measured.metric, "metric version": str(measured.version)}


def _relevant(layer: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the names of the facts that can move a layer, most specific first."""
    is_codec = layer in (BITSTREAM, DECODED)
    packages = tuple({**before, **after}.get("codec packages", "").split()) if is_codec else _PACKAGES[layer]
    groups = {GIVEN: "model package", ANSWER: "model package", STATISTIC: "metric package"}
    starts = [*_OWN[layer], *([groups[layer]] if layer == STATISTIC else [])]
    named = {name.removeprefix("codec build ") for name in (*before, *after) if name.startswith("codec build ")}
    owned = [name for name, owner in OWNERS.items() if owner in packages and not (is_codec and owner in named)]
    starts += [*(f"package {name}" for name in packages), *(f"library {name}" for name in owned)]
    starts += [*(_COMPUTING if layer in (GIVEN, ANSWER) else ()), *_ANY]
    names = dict.fromkeys((*before, *after))
    exact = ("package ", "library ")
    return list(
        dict.fromkeys(name for start in starts for name in names if (name == start if start.startswith(exact) else name.startswith(start)))
    )


def _change(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Say how a fact changed; "" where it did not, or where one of the two records nothing of its kind."""
    if before.get(name) == after.get(name):
        return ""
    kind = name.partition(" ")[0]
    if not all(any(fact.startswith(kind) for fact in side) for side in (before, after)):
        return ""
    if kind in ("machine", "mpq", "python", "library") and not (name in before and name in after):
        return ""  # one of the two did not ask, or had not loaded it
    if _is_silent(name):
        return _label(name) if name in before and name in after else ""
    return f"{_label(name)} {before.get(name, 'absent')} -> {after.get(name, 'absent')}"


def _is_silent(name: str) -> bool:
    return name.partition(" ")[0] in ("model", "codec") and name.partition(" ")[2] in _SILENT


def _label(name: str) -> str:
    """Return a fact's name for people."""
    if name.startswith("data "):
        return f"data set's {name.removeprefix('data ')}"
    if _is_silent(name):
        kind, _, part = name.partition(" ")
        return f"{kind}'s code" if part == "code" else _WORDS.get(part, part)
    for start in ("codec build ", "metric setting ", "metric package ", "model option ", "package ", "library ", "machine "):
        if name.startswith(start):
            return name.removeprefix(start)
    return name


def _suspicion(found: Sequence[str]) -> str:
    if found[0].startswith(_NOTHING):
        return found[0]
    shown = [*found[:3], *([f"{len(found) - 3} more"] if len(found) > 3 else [])]
    return f"suspect{'s' if len(found) > 1 else ''}: {', '.join(shown)}"


def _count(count: int | None, total: int, short: bool = False) -> str:
    if count is None:
        return "some"
    return "none" if not count else f"{count}" if short else f"{count} of {total}"
