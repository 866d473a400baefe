"""What is held against one another: a case as a run measured it, or as it was approved, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, SIGNAL, SOURCE
from mpq_fixtures.metrics import Statistic
from mpq_fixtures.record import Record
from mpq_fixtures.results.samples import SHORT
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.rows.tables import from_hex
from mpq_fixtures.statistics.resampling import take

if TYPE_CHECKING:
    import pyarrow as pa

    from mpq_fixtures.results.samples import Samples

LINKS = (SIGNAL, BITSTREAM, DECODED, GIVEN, ANSWER)
"""The layers of which a digest is kept: the source stands with the sample, and statistics are compared as they are."""
WHOLE = 64
"""Bits of a link."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A case, sample by sample: what a run measured, or what was approved.

    ``settings`` are the options of the task's metric, None where an old baseline does not say; ``value`` is the metric over all samples,
    NaN where that is not known; ``statistics`` are as it kept them. ``bytes`` and ``elements`` are ``[samples]``.
    ``similarity`` has the value of each signal metric for each sample, NaN where it has none; where a file rounds them, ``steps`` says to
    what, and their mean is exact over all samples alone. ``links`` holds, for each layer of the
    chain that is known, a digest for each sample as ``uint64``, of which the leading ``bits[layer]`` count; a layer that is known of
    all samples together alone is in ``whole`` only: a digest over the links in their order, hex. ``codec`` and ``model`` are their
    fingerprints, ``provenance`` is what `mpq_fixtures.results.provenance` says of the run. ``failed`` samples have no row here.
    """

    case: str
    suite: str
    evaluation: str
    metric: str
    version: int
    settings: Mapping[str, Any] | None
    samples: Sequence[str]
    sources: Sequence[str]
    groups: Sequence[str]
    statistics: Sequence[Statistic]
    bytes: NDArray[np.int64]
    elements: NDArray[np.int64]
    similarity: Mapping[str, NDArray[np.float64]]
    links: Mapping[str, NDArray[np.uint64]]
    bits: Mapping[str, int] = field(default_factory=dict)
    whole: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    value: float = math.nan
    failed: int = 0
    codec: str = ""
    model: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def point(self) -> str:
        """The operating point, ``opus-6k`` or ``original``."""
        return self.case.removeprefix(f"{self.evaluation}-")

    @property
    def rate(self) -> float:
        """All bits over all pixels or audio samples; NaN without any."""
        total = int(self.elements.sum())
        return 8 * int(self.bytes.sum()) / total if total else math.nan

    def stacked(self) -> Measured:
        """Return the same case with its statistics in one array where they have one shape, for whoever asks for them often."""
        if (
            isinstance(self.statistics, np.ndarray)
            or not len(self.statistics)
            or len({np.shape(statistic) for statistic in self.statistics}) > 1
        ):
            return self
        return replace(self, statistics=cast("Sequence[Statistic]", np.array(self.statistics, np.float64)))

    def without_samples(self) -> Measured:
        """Return what is known of the case as a whole, for whoever keeps many."""
        nothing = np.empty(0, np.int64)
        return replace(
            self, samples=(), sources=(), groups=(), statistics=(), bytes=nothing, elements=nothing, similarity={}, links={}, bits={}
        )

    def take(self, index: Sequence[int]) -> Measured:
        """Return the case over some of its samples; what is known of all together, its value too, is not known of them."""
        chosen = np.asarray(index, np.intp)
        return replace(
            self,
            samples=[self.samples[i] for i in chosen],
            sources=[self.sources[i] for i in chosen],
            groups=[self.groups[i] for i in chosen],
            statistics=take(self.statistics, chosen),
            bytes=self.bytes[chosen],
            elements=self.elements[chosen],
            similarity={name: values[chosen] for name, values in self.similarity.items()},
            links={layer: values[chosen] for layer, values in self.links.items()},
            whole={},
            value=math.nan,
        )


def same_source(one: str, other: str) -> bool:
    """Tell whether two digests of sources agree in what both keep of them: files keep more or fewer digits, and old ones none."""
    kept = min(len(one), len(other))
    return one[:kept] == other[:kept]


def same_sources(before: Sequence[str], now: Sequence[str]) -> NDArray[np.bool_]:
    """Tell of each pair of sources whether they are the same, as `same_source` does, quickly where all have as many digits."""
    kept = min(min(map(len, before), default=0), min(map(len, now), default=0))
    if [one[:kept] for one in before] == [one[:kept] for one in now]:
        return np.ones(len(now), bool)
    return np.array([same_source(one, other) for one, other in zip(before, now, strict=True)], bool)


def whole(links: NDArray[np.uint64]) -> str:
    """Return the digest over the links of all samples, in their order."""
    from mpq_fixtures.chain import digest

    return digest(np.ascontiguousarray(links, "<u8").data) if len(links) else ""


def of_record(record: Record, provenance: Mapping[str, Any] | None = None) -> Measured:
    """Return what a case measured."""
    rows, main = record.rows, record.metrics[record.metric]
    links = {layer: values for layer in LINKS if (values := rows.links(layer)) is not None}
    scored = rows.scored
    tried = {*rows.signal_metrics, *scored}  # not what this machine lacks
    others = [name for name in record.metrics if name != record.metric and name in tried]
    return Measured(
        case=record.case,
        suite=record.suite,
        evaluation=record.evaluation,
        metric=record.metric,
        version=main.version,
        settings=main.settings,
        samples=rows.samples,
        sources=rows.sources(SHORT),
        groups=rows.groups,
        statistics=rows.statistics(),
        bytes=rows.numbers("bytes"),
        elements=rows.numbers("elements"),
        similarity={name: rows.numbers(name) if name in scored else np.full(len(rows), math.nan) for name in others},
        links=links,
        bits=dict.fromkeys(links, WHOLE),
        whole={layer: whole(values) for layer, values in links.items()},
        value=main.value,
        failed=len(record.failures),
        codec=record.codec_fingerprint,
        model=record.fingerprint,
        provenance=provenance or {},
    )


def of_results(folder: Path) -> Mapping[str, Measured]:
    """Return the measured cases of a finished run by their ids; each is read when it is asked for, and not remembered.

    Raises `ValueError`, with a sentence, where the folder holds no run, or one whose samples are missing, damaged or of an older form;
    so does asking for a case that is.
    """
    from mpq_fixtures.results.files import read_results
    from mpq_fixtures.results.samples import Samples

    return _Results(folder, read_results(folder), Samples(folder))


class _Results(Mapping[str, Measured]):
    """The cases of a run, in the order of its samples."""

    def __init__(self, folder: Path, content: Mapping[str, Any], samples: Samples) -> None:
        self._folder, self._samples = folder, samples
        self._provenance = content.get("provenance", {})
        known = {case["case"]: case for case in content["cases"] if case["metrics"]}
        self._cases = {name: known[name] for name in samples.cases if name in known}

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cases)

    def __contains__(self, name: object) -> bool:
        return name in self._cases

    def __getitem__(self, name: str) -> Measured:
        case = self._cases[name]
        try:
            return _of_table(case, self._samples.of(name), self._provenance)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self._folder} lacks {error} of {name}: it was written by another mpq, or changed; run again") from None


def _of_table(case: Mapping[str, Any], table: pa.Table, provenance: Mapping[str, Any]) -> Measured:
    main, there = case["metrics"][case["metric"]], set(table.column_names)
    links = {layer: from_hex(table[layer]) for layer in LINKS if layer in there and len(table) and not table[layer].null_count}
    others = [name for name in case["metrics"] if name != case["metric"] and name in there]
    rows = Rows(table=table)
    return Measured(
        case=case["case"],
        suite=case["suite"],
        evaluation=case["evaluation"],
        metric=case["metric"],
        version=main["version"],
        settings=main["settings"],
        samples=rows.samples,
        sources=rows.texts(SOURCE),
        groups=rows.groups,
        statistics=rows.statistics(),
        bytes=rows.numbers("bytes"),
        elements=rows.numbers("elements"),
        similarity={name: rows.numbers(name) for name in others},
        links=links,
        bits=dict.fromkeys(links, WHOLE),
        whole={layer: whole(values) for layer, values in links.items()},
        value=math.nan if main["value"] is None else main["value"],
        failed=len(case["failures"]),
        codec=case.get("codec_fingerprint", ""),
        model=case.get("model_fingerprint", ""),
        provenance=provenance,
    )
