"""Baselines: what was approved of each case, sample by sample, in one JSON file an evaluation, one case a line.

What a reviewer reads in a line (value, rate, samples, similarity) must follow from the numbers packed behind it: reading checks that, so
that no figure can be changed without the gate's notice. What is the same at every point stands once: the samples with their sources,
groups and sizes in ``sets``, who approved it with what in ``approvals``; both are named by a digest of what they hold, so that adding one
moves no other line, and are dropped when no case refers to them any more.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, MADE_BY, SIGNAL, SOURCE, STATISTIC, digest
from mpq_fixtures.files import write_atomically
from mpq_fixtures.gate.measured import LINKS, Measured
from mpq_fixtures.gate.packing import from_leading_bits, leading_bits, leading_size, pack, pack_bytes, unpack, unpack_bytes
from mpq_fixtures.gate.schema_1 import cases_of_schema_1
from mpq_fixtures.metrics import Additive, Metric, Statistic

SCHEMA = 2
BITS = {SIGNAL: 12, BITSTREAM: 8, DECODED: 12, ANSWER: 12}
"""Bits that are kept of each sample's links; of all links of a layer together there is a whole digest, which misses nothing."""
SOURCE_DIGITS = 8
NEW = "new"
_LEVELS = 63
"""Steps into which a case's similarity is cut for each sample; one more says that the sample has none."""
_UNNAMED = "-"
_EXACT = 1e-6  # to which figures are shown
_NO_PART = ("command", "options", "seeds")  # of a run's provenance: of no account
_OF_CODECS, _OF_EVALUATIONS = ("codecs", "code"), ("models", "metrics", "data")
_RESTORE = "restore the file from version control, or approve the case anew with --mpq-update-baselines"


class BaselineError(ValueError):
    """A baseline file that cannot be read, or whose figures do not follow from its samples; the message is one sentence for people."""


@dataclass(frozen=True)
class Accepted:
    """A case that was approved anew: its value and rate, those before (None where it is new), and who made the first link that changed.

    ``layer`` is one of `mpq_fixtures.chain.MADE_BY`'s names, ``new`` where nothing was approved before, and empty where no link differs
    or none is known.
    """

    case: str
    before: float | None
    value: float
    rate_before: float | None
    rate: float
    layer: str


def baseline_file(folder: Path, suite: str, evaluation: str) -> Path:
    """Return where an evaluation's baselines lie."""
    return folder / suite / f"{evaluation}.json"


def read_baselines(file: Path, points: Collection[str] | None = None) -> dict[str, Measured]:
    """Return what was approved, by operating point, of ``points`` or of all; nothing where the file does not exist.

    ``links`` have their leading `BITS`, and sources their first `SOURCE_DIGITS`; ``settings`` are None where the baseline is from a
    schema that did not know them. Raises `BaselineError` for a file that is damaged, or of another schema, and for a case whose figures do
    not follow from its samples.
    """
    content = _load(file)
    sets: dict[str, _Set] = {}
    return {point: _restored(file, content, point, sets) for point in content["cases"] if points is None or point in points}


def approved_points(file: Path) -> list[str]:
    """Return the operating points of which something was approved, in the file's order; raises `BaselineError`."""
    return list(_load(file)["cases"])


def write_baselines(file: Path, measured: Sequence[Measured], order: Sequence[str], only_new: bool) -> list[Accepted]:
    """Write cases of one evaluation into its baseline file, keep every other, and return those that differ from what was approved.

    Cases are in the order of ``order``, then those that it does not name. With ``only_new`` cases that have a baseline are left as they
    are. What is broken cannot be approved: see `why_not`. Raises `BaselineError` where the file cannot be read, and OSError.
    """
    content = _load(file)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    accepted = _merge(file, content, measured, order, only_new, now)
    if accepted:
        _write(file, content)
    return accepted


def migrate_baselines(file: Path) -> int:
    """Write a file of schema 1 anew in place, and return how many cases it has; 0 where it is of this schema already.

    Raises `BaselineError`, and leaves the file as it is, where it is damaged or shows figures that do not follow from its samples: no
    case is ever dropped; OSError where it cannot be written.
    """
    old = _parsed(file)
    if not isinstance(old, dict) or old.get("schema") != 1:
        _load(file)
        return 0
    content = _empty()
    try:
        if not isinstance(old.get("cases"), dict):
            raise ValueError("it has no cases")
        measured = cases_of_schema_1(file, old)
        if broken := [f"{one.point}: {reason}" for one in measured if (reason := why_not(one))]:
            raise ValueError(broken[0])
    except ValueError as error:
        raise BaselineError(
            f"{file}: {error}: not a baseline file of schema 1; restore it from version control and migrate again"
        ) from error
    _merge(file, content, measured, list(old["cases"]), only_new=False, when="")
    sets: dict[str, _Set] = {}
    for point in content["cases"]:
        _restored(file, content, point, sets)
    _write(file, content)
    return len(measured)


def _merge(
    file: Path, content: dict[str, Any], measured: Sequence[Measured], order: Sequence[str], only_new: bool, when: str
) -> list[Accepted]:
    """Put cases into a file's content, and return those that differ from what was there."""
    sets: dict[str, _Set] = {}
    cases: dict[str, Any] = dict(content["cases"])
    changed = []
    for one in measured:
        known = one.point in cases
        if why_not(one) or (only_new and known):
            continue
        try:
            before = _restored(file, content, one.point, sets) if known else None
        except BaselineError:  # what cannot be read is replaced
            before = None
        content["sets"], key = _with_set(content["sets"], one, sets, file)
        entry = _entry(one, key, sets[key])
        if before is not None and _same(before, one, entry, cases[one.point]):
            continue
        cases[one.point] = entry
        changed.append((one, before, known))
    if changed:
        _approve(content, cases, [one for one, *_ in changed], when)
        rank = {point: number for number, point in enumerate(order)}
        content["cases"] = {point: cases[point] for point in sorted(cases, key=lambda point: rank.get(point, len(rank)))}
    return [
        Accepted(
            one.case,
            before.value if before else math.nan if known else None,
            one.value,
            before.rate if before else math.nan if known else None,
            one.rate,
            changed_by(before, one) if before else "" if known else NEW,
        )
        for one, before, known in changed
    ]


def why_not(one: Measured) -> str:
    """Say why a case cannot be approved; nothing where it can."""
    if one.failed:
        return f"{one.failed} of {one.failed + len(one.samples)} samples failed"
    if not (math.isfinite(one.value) and math.isfinite(one.rate)):
        return f"{one.metric} is {one.value:g} and the rate {one.rate:g}: not numbers to hold anything against"
    if len(set(one.samples)) < len(one.samples):
        return "two of its samples have one id"
    return ""


def changed_by(before: Measured, after: Measured) -> str:
    """Return who made the first link of the chain that differs between two measurements of a case; empty where none does or is known."""
    if list(before.samples) != list(after.samples) or not _same_sources(before.sources, after.sources):
        return MADE_BY[SOURCE]
    for layer in LINKS:
        if layer in before.whole and layer in after.whole and before.whole[layer] != after.whole[layer]:
            return MADE_BY[layer]
    known = ANSWER in before.whole and ANSWER in after.whole
    return MADE_BY[STATISTIC] if known and not _equal(before.statistics, after.statistics) else ""


def accepted_lines(accepted: Sequence[Accepted]) -> list[str]:
    """Return what was approved anew as lines of a table; nothing where nothing was."""
    if not accepted:
        return []
    rows = [("case", "from", "to", "change", "rate from", "to", "change", "layer")]
    for one in accepted:
        moved, spent = one.before is not None, one.rate_before is not None
        rows.append(
            (
                one.case,
                f"{one.before:.4f}" if moved else "-",
                f"{one.value:.4f}",
                f"{round(one.value - one.before, 4) + 0:+.4f}" if one.before is not None else "-",
                f"{one.rate_before:.4f}" if spent else "-",
                f"{one.rate:.4f}",
                f"{round(one.rate / one.rate_before - 1, 4) + 0:+.2%}" if one.rate_before else "-",
                one.layer or "-",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:]), row[-1]]) for row in rows]


def restore_metric(name: str, settings: Mapping[str, Any] | None) -> Metric | None:
    """Return the task's metric of a name for taking values of statistics; None where it is not one of this package's.

    The same for settings that are not known (None), if they matter for its values.
    """
    from mpq_fixtures.metrics.miou import MeanIoU
    from mpq_fixtures.metrics.sdr import SDR
    from mpq_fixtures.metrics.top1 import Top1
    from mpq_fixtures.metrics.word_accuracy import WordAccuracy

    match name:
        case Top1.name:
            return Top1()
        case MeanIoU.name if settings is not None:
            return MeanIoU(settings["classes"], settings["ignored"])
        case WordAccuracy.name:
            return WordAccuracy()
        case SDR.name:
            return SDR()
    return None


@dataclass(frozen=True, eq=False)
class _Set:
    """Samples as they are at every operating point, and the statistics of one point that others are written beside."""

    samples: list[str]
    sources: list[str]
    groups: list[str]
    elements: NDArray[np.int64]
    links: NDArray[np.uint64] | None
    signal: str
    reference: NDArray[np.float64] | None

    def holds(self, one: Measured) -> bool:
        return (
            self.samples == list(one.samples)
            and self.sources == [source[:SOURCE_DIGITS] for source in one.sources]
            and self.groups == list(one.groups)
            and np.array_equal(self.elements, one.elements)
            and self.signal == one.whole.get(SIGNAL, "")
        )


def _with_set(entries: dict[str, Any], one: Measured, sets: dict[str, _Set], file: Path) -> tuple[dict[str, Any], str]:
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
    key = _key(entry)
    entries = {**entries, key: entry}
    sets[key] = _restored_set(file, entries, key)
    return entries, key


def _restored_set(file: Path, entries: Mapping[str, Any], key: str) -> _Set:
    entry = entries.get(key) if isinstance(key, str) else None
    if not isinstance(entry, dict):
        raise BaselineError(f"{file}: the set of samples {key!r} is not there; {_RESTORE}")
    if _key(entry) != key:
        raise BaselineError(
            f"{file}: the set of samples {key!r} is not what was approved: samples were added, removed, moved or changed in it; {_RESTORE}"
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
        raise BaselineError(f"{file}: the set of samples {key!r} cannot be read ({error}); {_RESTORE}") from error
    return _Set(samples, sources, groups, elements, links, entry.get(SIGNAL, ""), reference if isinstance(reference, np.ndarray) else None)


def _entry(one: Measured, key: str, shared: _Set) -> dict[str, Any]:
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
            entry["similarity"][name], span, level = _quantised(values)
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


def _quantised(values: NDArray[np.float64]) -> tuple[float | None, list[float], NDArray[np.uint8]]:
    """Return the mean of a signal metric's values, their lowest and highest, and each as one of `_LEVELS` in between, or one more for none.

    Each value is rounded up or down so that the mean of any stretch of samples is right to a step over its length: what one rounding
    leaves goes into the next (error diffusion).
    """
    there = np.isfinite(values)
    if not there.any():
        return None, [0.0, 0.0], np.full(len(values), _LEVELS, np.uint8)
    found = values[there]
    low, high = float(f"{found.min():.6g}"), float(f"{found.max():.6g}")
    step = (high - low) / (_LEVELS - 1)
    levels = np.full(len(values), _LEVELS, np.uint8)
    sums = np.floor(np.cumsum(np.clip((found - low) / step, 0, _LEVELS - 1)) + 0.5) if step > 0 else np.zeros(len(found))
    levels[there] = np.clip(np.diff(sums, prepend=0), 0, _LEVELS - 1)
    return round(float(found.mean()), 6), [low, high], levels


def _restored_values(mean: float | None, span: Sequence[float], levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what `_quantised` was given, with its mean exact; raise ValueError where the mean does not follow from the levels."""
    there = levels < _LEVELS
    if (mean is None) == bool(there.any()) or levels.max(initial=0) > _LEVELS:
        raise ValueError("values without a mean, or a mean without values")
    low, high = span
    step = (high - low) / (_LEVELS - 1)
    values = np.where(there, low + step * levels, np.nan)
    if mean is not None:
        off = mean - float(values[there].mean())
        # Half a step over all, what rounding to six digits moved the range by, and what it moved the mean by.
        if not abs(off) <= step / there.sum() + 1e-5 * max(abs(low), abs(high)) / 2 + _EXACT:
            raise ValueError(f"a mean of {mean:g} is shown, and the samples give {mean - off:g}")
        values += off
    return values


def _each(whole: Iterable[str]) -> list[str]:
    """Return the layers of which a case keeps a link for each sample: what a model was given is known of all together."""
    return [layer for layer in LINKS if layer in whole and layer not in (SIGNAL, GIVEN)]


def _restored(file: Path, content: Mapping[str, Any], point: str, sets: dict[str, _Set]) -> Measured:
    """Return a case as it was approved; raise `BaselineError` where it is damaged, or shows what its samples do not give."""
    entry, place = content["cases"][point], f"{file}: {point}"
    if not isinstance(entry, dict):
        raise BaselineError(f"{place}: not a baseline; {_RESTORE}")
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
            codec=entry.get("codec", approval.get("fingerprints", {}).get(_codec(point), "")),
            model=entry.get("model", approval.get("model", "")),
            provenance=approval,
        )
        shown, given = (entry["value"], entry["rate"], entry["samples"]), (_value(one, stack), one.rate, count)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise BaselineError(f"{place}: not a baseline ({error!r}); {_RESTORE}") from error
    for name, figure, true in zip(("value", "rate", "samples"), shown, given, strict=True):
        if not (isinstance(figure, int | float) and abs(figure - true) <= _EXACT):
            raise BaselineError(
                f"{place}: shows {name} {figure!r} and its samples give {true:.6g}: changed by hand or in a merge; {_RESTORE}"
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
            restored[name] = _restored_values(mean, span, level)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        steps[name] = (span[1] - span[0]) / (_LEVELS - 1)
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


def _same(before: Measured, after: Measured, entry: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Tell whether a case is as it was approved, by the same codec and model; packed text may differ, what it holds may not."""
    told = ("value", "rate", "samples", "metric", "version", "settings", "similarity", "whole", "set")
    return (
        all(entry.get(key) == earlier.get(key) for key in told)
        and (before.codec, before.model) == (after.codec, after.model)
        and np.array_equal(before.bytes, after.bytes)
        and _equal(before.statistics, after.statistics)
    )


def _equal(before: Sequence[Statistic], after: Sequence[Statistic]) -> bool:
    return len(before) == len(after) and all(np.array_equal(one, other, equal_nan=True) for one, other in zip(before, after, strict=True))


def _same_sources(before: Sequence[str], after: Sequence[str]) -> bool:
    """Tell whether samples are of the same sources, as far as they are known."""
    return all(one[:SOURCE_DIGITS] == other[:SOURCE_DIGITS] for one, other in zip(before, after, strict=True) if one and other)


def _only(parts: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if name in names}


def _approve(content: dict[str, Any], cases: Mapping[str, Any], chosen: Sequence[Measured], when: str) -> None:
    """Say of the chosen cases by what they were measured and when they were approved, and forget what no case refers to."""
    origin = chosen[0].provenance
    codecs = {_codec(one.point): one for one in reversed(chosen) if one.codec}
    approval = {
        "when": when,
        **{name: part for name, part in origin.items() if name not in (*_NO_PART, "when", "fingerprints", "model")},
        **{name: _only(origin.get(name, {}), codecs) for name in _OF_CODECS},
        **{name: _only(origin.get(name, {}), [chosen[0].evaluation]) for name in _OF_EVALUATIONS},
        "machine": {name: fact for name, fact in origin.get("machine", {}).items() if name != "host"},
        "model": chosen[0].model,
        "fingerprints": {name: codecs[name].codec for name in sorted(codecs)},
    }
    key = _key(approval)
    content["approvals"][key] = approval
    for one in chosen:
        entry = cases[one.point]
        entry["approval"] = key
        if one.codec != approval["fingerprints"].get(_codec(one.point), ""):
            entry["codec"] = one.codec
        if one.model != approval["model"]:
            entry["model"] = one.model
    for part, name in (("approvals", "approval"), ("sets", "set")):
        used = {entry.get(name) for entry in cases.values() if isinstance(entry, dict)}
        content[part] = {key: entry for key, entry in content[part].items() if key in used}


def _codec(point: str) -> str:
    return point.partition("-")[0]


def _key(content: Mapping[str, Any]) -> str:
    return digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())[:8]


def _empty() -> dict[str, Any]:
    return {"schema": SCHEMA, "approvals": {}, "cases": {}, "sets": {}}


def _load(file: Path) -> dict[str, Any]:
    """Return a file's content, its parts there though not looked into."""
    content = _parsed(file)
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema == 1:
        raise BaselineError(
            f"{file}: of schema 1, from an older mpq; migrate it: mpq approve --migrate --baselines {quote(str(file.parent.parent))}"
        )
    if isinstance(schema, int) and schema > SCHEMA:
        raise BaselineError(f"{file}: of schema {schema}, and this mpq reads {SCHEMA}: use the mpq that wrote it")
    if schema != SCHEMA or not all(isinstance(content.get(part), dict) for part in ("approvals", "cases", "sets")):
        raise BaselineError(f"{file}: not a baseline file of schema {SCHEMA}; restore it, or delete it and use --mpq-update-baselines")
    return dict(content)


def _parsed(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_refuse)
    except FileNotFoundError:
        return _empty()
    except OSError as error:
        raise BaselineError(f"{file}: cannot be read: {error.strerror or error}; give another folder with --mpq-baselines") from error
    except ValueError as error:
        raise BaselineError(f"{file}: not valid JSON ({error}); restore it, or delete it and use --mpq-update-baselines") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice, as after a merge")
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _write(file: Path, content: Mapping[str, Any]) -> None:
    """Write one case, one approval and one set a line, so that a diff shows what changed."""

    def lines(part: str) -> str:
        return ",\n".join(f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in content[part].items())

    parts = ",\n".join(f' "{part}": {{\n{lines(part)}\n }}' for part in ("approvals", "cases", "sets"))
    write_atomically(file, f'{{\n "schema": {SCHEMA},\n{parts}\n}}\n'.encode())
