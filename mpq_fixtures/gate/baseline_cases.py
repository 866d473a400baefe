"""What a baseline file keeps of a case, and the case that it gives back.

What a reviewer reads in a line (value, rate, samples, similarity) must follow from the numbers packed behind it: restoring checks that,
so that no figure can be changed without the gate's notice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, SIGNAL
from mpq_fixtures.gate.baseline_files import RESTORE, BaselineError, key_of
from mpq_fixtures.gate.measured import LINKS, Measured
from mpq_fixtures.gate.packing import from_leading_bits, leading_bits, leading_size, pack, pack_bytes, unpack, unpack_bytes
from mpq_fixtures.gate.rounding import EXACT, LEVELS, quantised, restored_values
from mpq_fixtures.metrics import Additive, Statistic, restore_metric

BITS = {SIGNAL: 12, BITSTREAM: 8, DECODED: 12, ANSWER: 12}
"""Bits that are kept of each sample's links; of all links of a layer together there is a whole digest, which misses nothing."""
SOURCE_DIGITS = 8
"""Digits that are kept of the digest of each sample's source."""
_UNNAMED = "-"


@dataclass(frozen=True, eq=False)
class SampleSet:
    """Samples as they are at every operating point, and the statistics of one point that others are written beside."""

    samples: list[str]
    sources: list[str]
    groups: list[str]
    elements: NDArray[np.int64]
    links: NDArray[np.uint64] | None
    signal: str
    reference: NDArray[np.float64] | None

    def holds(self, one: Measured) -> bool:
        """Tell whether a case was measured over these samples."""
        return (
            self.samples == list(one.samples)
            and self.sources == [source[:SOURCE_DIGITS] for source in one.sources]
            and self.groups == list(one.groups)
            and np.array_equal(self.elements, one.elements)
            and self.signal == one.whole.get(SIGNAL, "")
        )


def with_set(entries: dict[str, Any], one: Measured, sets: dict[str, SampleSet], file: Path) -> tuple[dict[str, Any], str]:
    """Return the sets with the case's among them, and its key."""
    for key in entries:
        try:
            sets.setdefault(key, _restored_set(file, entries, key))
        except BaselineError:  # whoever refers to it is told when it is read
            continue
        if sets[key].holds(one):
            return entries, key
    entry: dict[str, Any] = {
        "samples": list(one.samples),
        "sources": " ".join(source[:SOURCE_DIGITS] or _UNNAMED for source in one.sources),
    }
    if any(one.groups):
        entry["groups"] = list(one.groups)
    entry["elements"] = pack(one.elements)
    if SIGNAL in one.whole and SIGNAL in one.links:
        entry |= {SIGNAL: one.whole[SIGNAL], "links": pack_bytes(leading_bits(one.links[SIGNAL], BITS[SIGNAL]))}
    entry["reference"] = pack(one.statistics)
    key = key_of(entry)
    entries = {**entries, key: entry}
    sets[key] = _restored_set(file, entries, key)
    return entries, key


def _restored_set(file: Path, entries: Mapping[str, Any], key: str) -> SampleSet:
    entry = entries.get(key) if isinstance(key, str) else None
    if not isinstance(entry, dict):
        raise BaselineError(f"{file}: the set of samples {key!r} is not there; {RESTORE}")
    if key_of(entry) != key:
        raise BaselineError(
            f"{file}: the set of samples {key!r} is not what was approved: samples were added, removed, moved or changed in it; {RESTORE}"
        )
    try:
        samples = list(map(str, entry["samples"]))
        sources = [source.replace(_UNNAMED, "") for source in entry["sources"].split()]
        groups = list(map(str, entry.get("groups", [""] * len(samples))))
        elements = np.asarray(unpack(entry["elements"])).astype(np.int64)
        links = from_leading_bits(unpack_bytes(entry["links"]), BITS[SIGNAL], len(samples)) if SIGNAL in entry else None
        reference = unpack(entry["reference"])
        if not len(samples) == len(sources) == len(groups) == len(elements) == len(reference):
            raise ValueError(f"{len(samples)} samples, {len(sources)} sources and {len(elements)} sizes")
        if len(set(samples)) < len(samples):
            raise ValueError(f"{next(sample for sample in samples if samples.count(sample) > 1)!r} stands in it twice")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BaselineError(f"{file}: the set of samples {key!r} cannot be read ({error}); {RESTORE}") from error
    return SampleSet(
        samples, sources, groups, elements, links, entry.get(SIGNAL, ""), reference if isinstance(reference, np.ndarray) else None
    )


def entry_of(one: Measured, key: str, shared: SampleSet) -> dict[str, Any]:
    """Return what is written of a case, without its approval."""
    entry: dict[str, Any] = {
        "value": round(one.value, 6),
        "rate": round(one.rate, 6),
        "samples": len(one.samples),
        "metric": one.metric,
        "version": one.version,
        "settings": None if one.settings is None else json.loads(json.dumps(dict(one.settings))),
    }
    levels, ranges = [], []
    if one.similarity:
        entry["similarity"] = {}
        for name, values in one.similarity.items():
            entry["similarity"][name], span, level = quantised(values)
            ranges.append(span)
            levels.append(level)
    whole = {layer: one.whole[layer] for layer in LINKS if layer != SIGNAL and layer in one.whole}
    if whole:
        entry["whole"] = whole
    entry |= {"set": key, "bytes": pack(one.bytes), "statistics": pack(one.statistics, shared.reference)}
    if levels:
        entry["levels"] = pack_bytes(json.dumps(ranges, separators=(",", ":")).encode() + b"\n" + np.stack(levels).tobytes())
    if each := [layer for layer in _each(whole) if layer in one.links]:
        entry["links"] = pack_bytes(b"".join(leading_bits(one.links[layer], BITS[layer]) for layer in each))
    return entry


def _each(whole: Iterable[str]) -> list[str]:
    """Return the layers of which a case keeps a link for each sample: what a model was given is known of all together."""
    return [layer for layer in LINKS if layer in whole and layer not in (SIGNAL, GIVEN)]


def restored(file: Path, content: Mapping[str, Any], point: str, sets: dict[str, SampleSet]) -> Measured:
    """Return a case as it was approved; raise `BaselineError` where it is damaged, or shows what its samples do not give."""
    entry, place = content["cases"][point], f"{file}: {point}"
    if not isinstance(entry, dict):
        raise BaselineError(f"{place}: not a baseline; {RESTORE}")
    key = str(entry.get("set"))
    if key not in sets:
        sets[key] = _restored_set(file, content["sets"], key)
    shared = sets[key]
    try:
        approval = content["approvals"][entry["approval"]]
        count = len(shared.samples)
        stack = unpack(entry["statistics"], shared.reference)
        sizes = np.asarray(unpack(entry["bytes"])).astype(np.int64)
        similarity, steps = _restored_similarity(entry, count)
        whole = dict(entry.get("whole", {}))
        links = _restored_links(entry, count)
        if shared.links is not None:
            whole, links = {SIGNAL: shared.signal, **whole}, {SIGNAL: shared.links, **links}
        if not len(stack) == len(sizes) == count:
            raise ValueError(f"{count} samples, {len(stack)} statistics and {len(sizes)} counts of bytes")
        one = Measured(
            case=f"{file.stem}-{point}",
            suite=file.parent.name,
            evaluation=file.stem,
            metric=entry["metric"],
            version=entry["version"],
            settings=entry["settings"],
            value=float(entry["value"]),
            samples=shared.samples,
            sources=shared.sources,
            groups=shared.groups,
            statistics=[stack[number, ...] for number in range(count)] if isinstance(stack, np.ndarray) else stack,
            bytes=sizes,
            elements=shared.elements,
            similarity=similarity,
            steps=steps,
            links=links,
            bits={layer: BITS[layer] for layer in links},
            whole=whole,
            codec=entry.get("codec", approval.get("fingerprints", {}).get(codec_of(point), "")),
            model=entry.get("model", approval.get("model", "")),
            provenance=approval,
        )
        shown, given = (entry["value"], entry["rate"], entry["samples"]), (_value(one, stack), one.rate, count)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BaselineError(f"{place}: not a baseline ({error!r}); {RESTORE}") from error
    for name, figure, true in zip(("value", "rate", "samples"), shown, given, strict=True):
        if not (isinstance(figure, int | float) and abs(figure - true) <= EXACT):
            raise BaselineError(
                f"{place}: shows {name} {figure!r} and its samples give {true:.6g}: changed by hand or in a merge; {RESTORE}"
            )
    return one


def _value(one: Measured, stack: NDArray[np.float64] | list[Statistic]) -> float:
    """Return the metric over all samples, or what is shown where nobody here can compute it."""
    metric = restore_metric(one.metric, one.settings)
    if metric is None or metric.version != one.version:
        return one.value
    if isinstance(metric, Additive) and isinstance(stack, np.ndarray):
        return float(metric.score(stack.sum(axis=0), len(stack)))
    return metric.value(one.statistics)


def _restored_similarity(entry: Mapping[str, Any], samples: int) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
    """Return the values of each signal metric, and the steps that they are rounded to."""
    means = entry.get("similarity", {})
    if not means:
        return {}, {}
    line, _, data = unpack_bytes(entry["levels"]).partition(b"\n")
    levels = np.frombuffer(data, np.uint8).reshape(len(means), samples)
    restored, steps = {}, {}
    for (name, mean), span, level in zip(means.items(), json.loads(line), levels, strict=True):
        try:
            restored[name] = restored_values(mean, span, level)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        steps[name] = (span[1] - span[0]) / (LEVELS - 1)
    return restored, steps


def _restored_links(entry: Mapping[str, Any], samples: int) -> dict[str, NDArray[np.uint64]]:
    if "links" not in entry:
        return {}
    data, start, links = unpack_bytes(entry["links"]), 0, {}
    for layer in _each(entry["whole"]):
        end = start + leading_size(BITS[layer], samples)
        links[layer] = from_leading_bits(data[start:end], BITS[layer], samples)
        start = end
    if start != len(data):
        raise ValueError(f"{len(data)} bytes of links for {samples} samples")
    return links


def codec_of(point: str) -> str:
    """Return the codec of an operating point: ``opus`` of ``opus-6k``."""
    return point.partition("-")[0]
