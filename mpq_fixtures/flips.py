"""What the report shows of single samples: those whose answer changed on the way, and one at every point.

Which these are follows from the rows of a case and of its originals, in a moment. What is shown of them, pictures and sounds, is made once
and kept in the store. It explains figures and is none: what goes wrong here fails no case.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures import examples
from mpq_fixtures.chain import SOURCE
from mpq_fixtures.errors import describe_error
from mpq_fixtures.examples import REASON, Part
from mpq_fixtures.files import put_in_place, temporary_beside
from mpq_fixtures.metrics import Additive, Metric
from mpq_fixtures.plain_text import plain
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.signals import SEED, Dataset, Sample
from mpq_fixtures.store import AUDIT, Scope, key_of
from mpq_fixtures.store.packs import key_array, keys_of, sample_key

if TYPE_CHECKING:
    import pyarrow as pa

    from mpq_fixtures.pipeline import Pipeline
    from mpq_fixtures.record import Record

EXAMPLE, HARMFUL, RANDOM = "example", "harmful", "random"
"""Why a sample is shown: it is the one of every point; it fell most at this one; it is any of those that fell."""

TOLERANCES = 5
"""Of the metric's tolerances, how many an answer that is not said in words falls before it counts as another one."""

MOST, CROWDED = 2, 12
"""Flips of each kind that a case shows; one of each where its evaluation has more cases than `CROWDED`, which show enough together."""

ORIGINAL = "original "
"""What the labels of the original's parts begin with, where both are shown."""

_FORMAT = 1  # raised when what is kept of parts changes


class Flips(NamedTuple):
    """By how much each sample's own value, ``[n]``, is below that on its original, and beyond what fall (or rise) that is a flip.

    NaN where there is no original to hold it against; infinite where there is no value any more.
    """

    falls: NDArray[np.float64]
    least: float

    @property
    def worse(self) -> NDArray[np.intp]:
        """The positions of the samples whose answer is worse than on the original."""
        return np.flatnonzero(self.falls > self.least)

    @property
    def counts(self) -> dict[str, int]:
        """How many answers got worse and how many better."""
        return {"worse": len(self.worse), "better": int(np.count_nonzero(self.falls < -self.least))}


def find_flips(metric: Metric, now: Rows, before: Rows) -> Flips:
    """Hold the samples of a case against those of its originals, by id.

    Where answers are said in words, classes and texts, any fall of a sample's own value is a flip; of maps, boxes, stems and vectors,
    which move with every bit, one of more than `TOLERANCES` of the metric's tolerances.
    """
    if metric.name not in now.columns or metric.name not in before.columns:  # there are no rows
        return Flips(np.full(len(now), np.nan), 0.0)
    after, original = now.numbers(metric.name).astype(np.float64, copy=False), _in_order_of(now, before, metric.name)
    falls = original - after if metric.higher_is_better else after - original
    falls[np.isnan(after) & np.isfinite(original)] = np.inf
    said = any(now.different(column) > 1 or now.first(column) for column in ("target", "prediction"))
    in_words = said and isinstance(metric, Additive)  # what is found in a picture is said in words, too, and its AP moves with every bit
    return Flips(falls, 1e-9 if in_words else TOLERANCES * metric.tolerance)


def _in_order_of(now: Rows, before: Rows, column: str) -> NDArray[np.float64]:
    """Return a column of numbers of ``before`` for the samples of ``now``, NaN where it lacks them."""
    from pyarrow import compute

    values = before.numbers(column).astype(np.float64, copy=False)
    if now.of_same_samples(before):
        return values
    samples, others = (rows.table("sample").column(0) for rows in (now, before))
    places = compute.index_in(samples, value_set=others.combine_chunks()).fill_null(len(values)).to_numpy()
    found: NDArray[np.float64] = np.append(values, np.nan)[places]
    return found


def choose(flips: Flips, seed: int, most: int = MOST) -> dict[int, str]:
    """Return positions of flips, the ``most`` harmful ones first, then as many random ones, and which they are.

    Falls of one size, as all are where an answer is right or wrong, are in a seeded order: another one at each point, so that many points
    do not show the same few samples.
    """
    generator = np.random.default_rng([SEED, seed])
    worse = generator.permutation(flips.worse)
    order = worse[np.argsort(-flips.falls[worse], kind="stable")]
    rest = generator.permutation(np.sort(order[most:]))[:most]
    return {int(place): HARMFUL for place in order[:most]} | {int(place): RANDOM for place in rest}


def median_fall(flips: Flips, seed: int) -> int:
    """Return the position of a sample to show at every point: the flip of median fall, since the worst is no example of the others."""
    worse = np.random.default_rng([SEED, seed]).permutation(flips.worse)
    return int(worse[np.argsort(flips.falls[worse], kind="stable")][len(worse) // 2])


def show(record: Record, pipeline: Pipeline, originals: tuple[Pipeline, Record] | None) -> None:
    """Put into a record what the report shows of its samples, and how many answers changed; a warning where that cannot be had.

    ``originals`` are the pipeline and the record of the case's originals; without them there are no flips.
    """
    try:
        _show(record, pipeline, originals)
        if pipeline.resources.parts is not None:
            _lay_down(record)
    except Exception as error:
        warnings.warn(f"{record.case}: the report shows no samples of it: {describe_error(error)}", stacklevel=2)


def _lay_down(record: Record) -> None:
    """Put the parts into a file beside the rows', so that thousands of records do not hold them until the end of the run."""
    import pyarrow.parquet as pq

    if record.rows.file is None or not record.shown:
        return
    file = record.rows.file.with_suffix(".shown.parquet")
    temporary = temporary_beside(file)
    pq.write_table(_table_of({str(place): one["parts"] for place, one in enumerate(record.shown)}), temporary, compression="none")
    put_in_place(temporary, file)
    for one in record.shown:
        one["parts"] = str(file)


def parts_shown(record: Record) -> list[list[Part]]:
    """Return the parts of each sample that a record shows, from wherever they lie."""
    import pyarrow.parquet as pq

    files = {one["parts"] for one in record.shown if isinstance(one["parts"], str)}
    laid_down = iter([parts for file in files for parts in pq.read_table(file, columns=["parts"]).column(0).to_pylist()])
    return [next(laid_down) if isinstance(one["parts"], str) else one["parts"] for one in record.shown]


@dataclass
class _Chosen:
    """A sample to show, why, and whether with what its original was."""

    sample: Sample
    why: list[str]
    both: bool


def _show(record: Record, pipeline: Pipeline, originals: tuple[Pipeline, Record] | None) -> None:
    dataset, seed = pipeline.dataset, int(key_of(case=record.case)[:8], 16)
    chosen: dict[str, _Chosen] = {}
    flips = None
    if originals is not None:
        flips = find_flips(pipeline.metric, record.rows, originals[1].rows)
        record.flips = flips.counts
        places = choose(flips, seed, MOST if pipeline.resources.points.get(record.evaluation, 1) <= CROWDED else 1)
        chosen = {sample.id: _Chosen(sample, [places[place]], True) for place, sample in _samples(dataset, record, list(places)).items()}
    reference, of_originals = originals or (pipeline, record)
    common, new = _common(reference, of_originals, record, flips, seed)
    if common is not None and common.id not in {failure.sample for failure in record.failures}:
        chosen.setdefault(common.id, _Chosen(common, [], new)).why.insert(0, EXAMPLE)
    both = [one.sample for one in chosen.values() if one.both]
    now, before = _parts_of(pipeline, [one.sample for one in chosen.values()]), _parts_of(reference, both)
    told = _answers_of(of_originals, {sample.id for sample in both})
    for name, one in chosen.items():
        parts = now[one.sample.source]
        if one.both:
            parts = [*parts, *({**part, "label": ORIGINAL + part["label"]} for part in before[one.sample.source])]
        answer, score = told.get(name, (None, None))
        record.shown.append(
            {"sample": name, "why": " ".join(one.why), "parts": parts, "original_prediction": answer, "original_score": score}
        )


def _common(originals: Pipeline, of_originals: Record, record: Record, flips: Flips | None, seed: int) -> tuple[Sample | None, bool]:
    """Return the sample that all points of an evaluation show, and whether it was chosen just now.

    The first case that has a flip chooses one of its own, for itself and for those that come after it, today and later: the store
    remembers it. Until then it is the data set's first.
    """
    store, dataset = originals.store, originals.dataset
    key = key_of(shown=_FORMAT, originals=originals.scoring, samples=_digest_of(of_originals.rows))
    known = store.get(AUDIT, key)
    new = False
    if known is None and flips is not None and len(flips.worse):
        with store.lock(AUDIT, key):
            if (known := store.get(AUDIT, key)) is None:
                place = median_fall(flips, seed)
                known = _samples(dataset, record, [place])[place].id.encode("utf-8", "surrogatepass")
                store.put(AUDIT, key, known)
                new = True
    if known is None:
        return dataset.samples[0], False
    return next(iter(_by_id(dataset, [known.decode("utf-8", "surrogatepass")]).values()), None), new


def _digest_of(rows: Rows) -> str:
    """Return what tells whether two records are of the same samples."""
    state = hashlib.sha256()
    for table in rows.parts("sample", SOURCE):
        state.update(key_array(table).tobytes())
    return state.hexdigest()


def _samples(dataset: Dataset, record: Record, places: Sequence[int]) -> dict[int, Sample]:
    """Return the samples of rows by the rows' positions."""
    if not places:
        return {}
    if len(record.rows) == len(dataset.samples):  # the rows are in the order of the data set
        return {place: dataset.samples[place] for place in places}
    ids = record.rows.table("sample").column(0).take(list(places)).to_pylist()
    found = _by_id(dataset, ids)
    return {place: found[name] for place, name in zip(places, ids, strict=True) if name in found}


def _by_id(dataset: Dataset, ids: Iterable[str]) -> dict[str, Sample]:
    import pyarrow as pa
    from pyarrow import compute

    names, order = dataset.columns.column("sample"), [*dict.fromkeys(ids)]
    places = compute.indices_nonzero(compute.is_in(names, value_set=pa.array(order, pa.string()))).to_pylist()
    found = {names[place].as_py(): place for place in reversed(places)}  # the first of several
    return {name: dataset.samples[found[name]] for name in order if name in found}


def _answers_of(record: Record, ids: set[str]) -> dict[str, tuple[str, float]]:
    """Return what was answered to some samples, in words, and its value."""
    import pyarrow as pa
    from pyarrow import compute

    found: dict[str, tuple[str, float]] = {}
    for table in record.rows.parts("sample", "prediction", record.metric) if ids else ():
        some = table.filter(compute.is_in(table.column("sample"), value_set=pa.array(sorted(ids), pa.string())))
        found |= {row["sample"]: (row["prediction"], row[record.metric]) for row in some.to_pylist()}
    return found


def _parts_of(pipeline: Pipeline, samples: Sequence[Sample]) -> dict[str, list[Part]]:
    """Return what is shown of samples at a point, by source: from the store, or made now and kept there."""
    if not samples:
        return {}
    by_source = {sample.source: sample for sample in samples}
    scope = _scope(pipeline)
    found, made = _kept(scope, list(by_source)), dict[str, list[Part]]()
    for source, sample in by_source.items():
        if source in found:
            continue
        try:
            made[source] = _made(pipeline, sample)
        except Exception as error:
            reason = plain(f"{type(pipeline.task).__name__} could not show it: {describe_error(error)}")
            found[source] = [{"label": "not shown", "media_type": REASON, "data": reason.encode()}]
    if made:
        scope.write(_table_of(made))
    return found | made


def _scope(pipeline: Pipeline) -> Scope:
    """Return where the parts of a point are kept: whatever they are made of has a say in the key, the code that makes them too."""
    evaluation = pipeline.case.evaluation
    key = key_of(
        parts=_FORMAT,
        answers=pipeline.answering,
        targets=[evaluation.targets, pipeline.reference.answering if pipeline.reference else ""],
        labels=list(pipeline.dataset.labels),
        code=[_code_of(examples.__name__), _code_of(type(pipeline.task).__module__), evaluation.task.version],
    )
    return pipeline.store.scope(AUDIT, key, pipeline.about())


@cache
def _code_of(module: str) -> str:
    """Return the digest of a module's file, "" where it has none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""


def _kept(scope: Scope, sources: Sequence[str]) -> dict[str, list[Part]]:
    known = {sample_key(source): source for source in sources}
    tables = scope.read(sources)
    rows = (row for table in tables for row in zip(keys_of(table), table.column("parts").to_pylist(), strict=True))
    return {known[key]: parts for key, parts in rows}


def _table_of(made: Mapping[str, Sequence[Part]]) -> pa.Table:
    import pyarrow as pa

    part = pa.struct([("label", pa.string()), ("media_type", pa.string()), ("data", pa.large_binary())])
    keys = pa.array([sample_key(source) for source in made], pa.binary(32))
    return pa.table({SOURCE: keys, "parts": pa.array([list(parts) for parts in made.values()], pa.list_(part))})


def _made(pipeline: Pipeline, sample: Sample) -> list[Part]:
    """Make what the task shows of a sample at a point, from its bitstream and its answer in the store; raises where it has no answer."""
    answers, codec = pipeline.stored_answers([sample]), pipeline.codec
    if sample.source not in answers:
        raise ValueError("the store does not have its answer any more")
    original = pipeline.transcoder.read(sample)
    signal = original
    if codec is not None:
        stored = pipeline.stored_bitstreams([sample])
        data = stored[sample.source] if stored else bytes(memoryview(codec.encode(original, pipeline.case.quality)))
        signal = codec.decode(data)
    prediction = pipeline.task.from_bytes(answers[sample.source].data)
    return pipeline.task.example(signal, prediction, pipeline.target(sample), pipeline.dataset.labels, original)
