"""A case from its first batch to its record: whatever the store lacks is measured, and the rows of all samples are summed up."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Container, Iterator, Mapping
from contextlib import nullcontext
from sys import maxsize
from typing import TYPE_CHECKING

import numpy as np

from mpq_fixtures import flips
from mpq_fixtures.codecs import Codec
from mpq_fixtures.metrics import Statistic
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.processes.temporary import TemporaryFolder
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.resources import Resources
from mpq_fixtures.rows import Failure
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.rows.tables import sources_of, together, with_measure
from mpq_fixtures.rows.writer import RowsWriter
from mpq_fixtures.signals import Dataset
from mpq_fixtures.store import STATISTIC, StoreError, key_of
from mpq_fixtures.store.packs import SOURCE, keys_of
from mpq_fixtures.suite import Case

if TYPE_CHECKING:
    import pyarrow as pa

_FIRST_STRETCH, _MOST_BYTES = 256, 2**18
"""Samples, and bytes of their rows, that are in memory at once."""

_TRIES = 3

_FEWEST_AMONG = 3
_TOO_FEW = "there are too few samples"


def evaluate(case: Case, dataset: Dataset, model: OpenModel, codec: Codec | None, resources: Resources) -> Record:
    """Measure a case: every sample from signal to statistic, whatever the store does not hold yet.

    A batch is a fixed stretch of the data set and is predicted whole, so that a run that was stopped and goes on later, or on any number
    of workers, sees the model at work on the very same batches.
    """
    return finish(Pipeline(case, dataset, model, codec, resources))


def finish(pipeline: Pipeline, originals: tuple[Pipeline, Record] | None = None) -> Record:
    """Have what a case lacks measured, by whatever engine there is, and return its record.

    ``originals`` are the pipeline and the record of its originals, to find the samples whose answers changed. Raises `StoreError` where
    the store does not keep what is written to it.
    """
    resources = pipeline.resources
    for _ in range(_TRIES):  # again for what is found to be damaged when it is read
        failures = resources.engine.complete(pipeline)
        among, gone = _among_all(pipeline, failures)
        rows = _rows(pipeline, failures, among)
        lost = gone or len(pipeline.dataset.samples) - len(rows) - len(failures)
        if not lost:
            break
    else:
        raise StoreError(
            f"{pipeline.case.id}: what was measured of {lost} of {len(pipeline.dataset.samples)} samples is not in the store "
            f"{pipeline.store.location} though it was written there, {_TRIES} times: look after its disk, or give another --mpq-cache"
        )
    with pipeline.clock.step("score"):
        ordered = [failures[sample.id] for sample in pipeline.dataset.samples if sample.id in failures] if failures else []
        further = [*pipeline.further, *([pipeline.set_metric] if pipeline.set_metric else [])]
        record = summarise(pipeline.case, rows, ordered, pipeline.metric, further, pipeline.absent)
    flips.show(record, pipeline, originals)
    record.device, record.fingerprint = pipeline.model.device, pipeline.model.fingerprint
    codec = pipeline.codec
    record.codec_fingerprint, record.build = (codec.fingerprint(), codec.build()) if codec else ("", "")
    record.parts = pipeline.parts()
    record.seconds = resources.engine.seconds(pipeline)
    counts = {"computed": len(rows) - (pipeline.known or 0), "reused": pipeline.known or 0}
    record.work = {kind: {STATISTIC: count} if count > 0 else {} for kind, count in counts.items()}
    return record


def _rows(pipeline: Pipeline, failures: Mapping[str, Failure], among: Mapping[str, Statistic]) -> Rows:
    """Return the rows of a case in the order of the data set: in a file where the resources say where, else in memory.

    ``among`` is what the metric of a sample among all others keeps, by source.
    """
    parts = pipeline.resources.parts
    with TemporaryFolder("rows") if parts is None else nullcontext(parts) as folder:
        with RowsWriter(folder / f"{key_of(case=pipeline.case.id)[:16]}-{os.getpid()}.parquet") as writer:
            for table, columns in _stretches(pipeline, failures):
                if pipeline.set_metric:
                    table = with_measure(
                        table, pipeline.set_metric, [among.get(source) for source in sources_of(columns, maxsize)], _TOO_FEW
                    )
                writer.append(table, columns)
        rows = Rows.opened(writer.file)
        return rows if parts else Rows(table=rows.table())


def _among_all(pipeline: Pipeline, failures: Container[str]) -> tuple[dict[str, Statistic], int]:
    """Return what the metric of a sample among all others keeps of each, by source, and of how many samples the store lost the answers.

    Without all of their answers there is nothing to keep, and the pipeline counts those samples as lacking from then on.
    """
    metric, dataset = pipeline.set_metric, pipeline.dataset
    if metric is None or pipeline.reference is None:
        return {}, 0
    names = dataset.columns.column("sample").to_pylist()
    sources = [source for name, source in zip(names, dataset.sources(), strict=True) if name not in failures]
    if len(sources) < _FEWEST_AMONG:
        return {}, 0
    key = key_of(among=sources, scoring=[metric.name, metric.version], answers=[pipeline.answering, pipeline.reference.answering])
    content = pipeline.store.get(STATISTIC, key)
    kept = {source: np.asarray(statistic, float) for source, statistic in json.loads(content or b"{}").items()}
    if not kept.keys() >= {*sources}:
        decoded, originals = pipeline.stored_predictions(sources), pipeline.reference.stored_predictions(sources)
        if gone := sum(source not in decoded or source not in originals for source in sources):
            pipeline.needs_answers = True
            return {}, gone
        found = pipeline.task.observe_set([decoded[source] for source in sources], [originals[source] for source in sources])
        kept = dict(zip(sources, found, strict=True))
        pipeline.store.put(STATISTIC, key, json.dumps({source: statistic.tolist() for source, statistic in kept.items()}).encode())
    return kept, 0


def _stretches(pipeline: Pipeline, failures: Collection[str]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the rows of the samples that did not fail, stretch by stretch of the data set, with what it says of them."""
    import pyarrow as pa
    from pyarrow import compute

    columns, start, length = pipeline.dataset.columns, 0, _FIRST_STRETCH
    if failures:
        columns = columns.filter(compute.invert(compute.is_in(columns.column("sample"), value_set=pa.array([*failures], pa.string()))))
    while start < len(columns):
        some = columns.slice(start, length)
        start += length
        found = list(pipeline.rows.read(keys_of(some)))
        if not found:
            continue
        table = together(found)
        length = max(1, int(_MOST_BYTES * len(table) / table.nbytes))
        rows = compute.index_in(some.column(SOURCE), value_set=table.column(SOURCE).combine_chunks())
        yield table.take(rows.drop_null()), some.filter(rows.is_valid())
