"""Rows as tables and back: which columns there are, and of what kind."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import LAYERS, SOURCE
from mpq_fixtures.rows import Row
from mpq_fixtures.store.packs import KEY_BYTES, sample_key

if TYPE_CHECKING:
    import pyarrow as pa

    from mpq_fixtures.metrics import Metric, Statistic

LEDGER = ("payload", "container", "side")
LINKS = tuple(layer for layer in LAYERS[:-1] if layer != SOURCE)
"""The layers whose digests are columns; the source has one of another kind, and statistics are kept as they are."""

STATISTIC, UNMEASURED, SHAPE = " statistic", " unmeasured", "_shape"
"""What the names of columns end in: what a signal metric keeps, why it could not, and the shape of what the task's metric keeps."""
SAMPLE, GROUP, TEXT = "sample", "group", "source_text"
SOURCES = (SOURCE, TEXT)
_OWN = {
    *(SAMPLE, GROUP, TEXT, SOURCE, "bytes", "elements", "seconds", "nominal_bits", *LEDGER, "prediction", "target"),
    *("statistic", "statistic_shape", "floor", "floor_shape", *LINKS),
}


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Return the columns of rows, without ids and groups: these belong to a data set, and a stored row may serve several.

    ``source`` is ``binary(32)``, the store's key; ``bytes``, ``elements`` and the ledger's parts are ``int64``; ``seconds`` and
    ``nominal_bits`` ``float64``; ``prediction``, ``target`` and the links of the chain ``string``; ``statistic`` and ``floor`` lists of
    numbers with their shapes beside them. Each metric has its score under its own name; a signal metric also has ``"<name> statistic"``,
    null where it could not be measured, and ``"<name> unmeasured"``, which says why. These have one shape, which stands in the field's
    metadata unless it is that of a number or of a list of several: see `together` before you put tables together.
    """
    import pyarrow as pa

    numbers, shape, text = pa.list_(pa.float64()), pa.list_(pa.int32()), pa.string()
    further = list(dict.fromkeys(name for row in rows for name in (*row.further, *row.unmeasured)))
    scores = dict.fromkeys(name for row in rows for name in (*row.scores, *row.further, *row.unmeasured))
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        SOURCE: (pa.binary(32), [sample_key(row.source) for row in rows]),
        "bytes": (pa.int64(), [row.bytes for row in rows]),
        "elements": (pa.int64(), [row.elements for row in rows]),
        "seconds": (pa.float64(), [row.seconds for row in rows]),
        "nominal_bits": (pa.float64(), [row.nominal_bits for row in rows]),
        **{part: (pa.int64(), [row.ledger.get(part) for row in rows]) for part in LEDGER},
        "prediction": (text, [row.prediction for row in rows]),
        "target": (text, [row.target for row in rows]),
        "statistic": (numbers, [_flat(row.statistic) for row in rows]),
        "statistic_shape": (shape, [np.shape(row.statistic) for row in rows]),
        "floor": (numbers, [None if row.floor is None else _flat(row.floor) for row in rows]),
        "floor_shape": (shape, [None if row.floor is None else np.shape(row.floor) for row in rows]),
        **{name: (pa.float64(), [row.scores.get(name) for row in rows]) for name in scores},
        **{name + STATISTIC: (numbers, [_flat(row.further[name]) if name in row.further else None for row in rows]) for name in further},
        **{name + UNMEASURED: (text, [row.unmeasured.get(name) for row in rows]) for name in further},
        **{layer: (text, [row.chain.get(layer) for row in rows]) for layer in LINKS},
    }
    shapes = {name + STATISTIC: _one_shape(name, [row.further[name] for row in rows if name in row.further]) for name in further}
    table = pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})
    return with_shapes(
        table, {name: json.dumps(shape) for name, shape in shapes.items() if shape is not None and shape != _usual(math.prod(shape))}
    )


def with_measure(table: pa.Table, metric: Metric, statistics: Sequence[Statistic | None], why: str) -> pa.Table:
    """Return rows with what a further metric keeps of each, as a signal metric's stand there; of those with None ``why`` says why."""
    import pyarrow as pa

    scores = [None if kept is None else metric.value([kept]) for kept in statistics]
    flat = [None if kept is None else _flat(kept) for kept in statistics]
    reasons = [why if kept is None else None for kept in statistics]
    table = table.append_column(metric.name, pa.array(scores, pa.float64()))
    table = table.append_column(metric.name + STATISTIC, pa.array(flat, pa.list_(pa.float64())))
    return table.append_column(metric.name + UNMEASURED, pa.array(reasons, pa.string()))


def together(tables: Iterable[pa.Table]) -> pa.Table:
    """Return tables of `table_of`, at least one, as one, with the columns and in the order of the first; raises `ValueError` for others."""
    import pyarrow as pa

    tables = list(tables)
    columns = tables[0].column_names
    for table in tables:
        if different := set(table.column_names) ^ set(columns):
            raise ValueError(f"rows of other columns than those before them: {', '.join(sorted(different))}")
    shapes = {name: shape for table in tables for name, shape in shapes_of(table.schema).items()}
    return with_shapes(pa.concat_tables(table.select(columns) for table in tables), shapes)


def columns_of(names: Sequence[tuple[str, str]], sources: Sequence[str]) -> pa.Table:
    """Return what a data set says of samples, from their ids with their groups and their sources.

    Columns are ``sample``, ``group`` and, where a source does not follow from its key, ``source_text``, texts, and the key, ``source``.
    """
    import pyarrow as pa

    keys = list(map(sample_key, sources))
    texts = [None if not source or key.hex() == source else source for source, key in zip(sources, keys, strict=True)]
    columns = {SAMPLE: [name for name, _ in names], GROUP: [group for _, group in names], TEXT: texts}
    texts_of = {name: pa.array(values, pa.string()) for name, values in columns.items()}
    return pa.table(texts_of | {SOURCE: pa.array(keys, pa.binary(KEY_BYTES))})


def with_keys(columns: pa.Table, keys: memoryview) -> pa.Table:
    """Return a table of `columns_of` that lacks the keys with these, 32 bytes a sample, which are not copied."""
    import pyarrow as pa

    return columns.append_column(SOURCE, pa.Array.from_buffers(pa.binary(KEY_BYTES), len(columns), [None, pa.py_buffer(keys)]))


def _flat(nested: Any) -> NDArray[np.float64]:
    return np.asarray(nested, np.float64).ravel()


def _one_shape(name: str, statistics: Sequence[Any]) -> list[int] | None:
    shapes = {np.shape(statistic) for statistic in statistics}
    if len(shapes) > 1:
        raise ValueError(f"the statistics of {name} have several shapes, {sorted(shapes)}: a signal metric keeps the same of every sample")
    return list(shapes.pop()) if shapes else None


def named(table: pa.Table, columns: pa.Table) -> pa.Table:
    """Return a table of `table_of` with what a data set says of its samples."""
    for name in (TEXT, GROUP, SAMPLE):
        table = table.add_column(0, columns.field(name), columns.column(name))
    return table


def scores_in(columns: Sequence[str]) -> list[str]:
    """Return the columns that are scores of metrics."""
    return [name for name in columns if name not in _OWN and not name.endswith((STATISTIC, UNMEASURED))]


def shapes_of(schema: pa.Schema) -> dict[str, str]:
    """Return the shapes that the fields of statistics say, as JSON, by their columns."""
    return {one.name: one.metadata[b"shape"].decode() for one in schema if one.metadata and b"shape" in one.metadata}


def shape_of(schema: pa.Schema, column: str, length: int) -> list[int]:
    """Return the shape of a signal metric's statistics of a length."""
    shapes = shapes_of(schema)
    return list(json.loads(shapes[column])) if column in shapes else _usual(length)


def _usual(length: int) -> list[int]:
    """Return the shape of statistics that need not say it."""
    return [] if length == 1 else [length]


def with_shapes(table: pa.Table, shapes: Mapping[str, str]) -> pa.Table:
    """Return a table whose fields say these shapes, JSON by column."""
    import pyarrow as pa

    fields = [one.with_metadata({"shape": shapes[one.name]}) if one.name in shapes else one for one in table.schema]
    return pa.table(table.columns, schema=pa.schema(fields))


def shapes_in(column: pa.ListArray) -> list[tuple[int, ...]]:
    """Return a column of shapes; where all are one, which is seen at once, without an object for each."""
    if not len(column):
        return []
    lengths, flat = column.value_lengths().to_numpy(), column.flatten().to_numpy()
    if (lengths == lengths[0]).all() and (flat.reshape(len(column), -1) == flat[: lengths[0]]).all():
        return [tuple(map(int, flat[: lengths[0]]))] * len(column)
    return [tuple(shape) for shape in column.to_pylist()]


def sources_of(table: pa.Table, digits: int = 64) -> list[str]:
    """Return the first digits of the sources in a table with `SOURCES`, or characters where a data set has other words for them."""
    keys, texts = table.column(SOURCE).to_pylist(), table.column(TEXT).to_pylist()
    unknown = sample_key("")
    return [(text or ("" if key == unknown else key.hex()))[:digits] for key, text in zip(keys, texts, strict=True)]


def rows_of(table: pa.Table) -> Iterator[Row]:
    """Yield what `table_of`, with the columns of `columns_of`, was made of."""
    columns = table.column_names
    further, scored = [name.removesuffix(STATISTIC) for name in columns if name.endswith(STATISTIC)], scores_in(columns)
    for row, source in zip(table.to_pylist(), sources_of(table), strict=True):
        kept = {name: numbers for name in further if (numbers := row[name + STATISTIC]) is not None}
        yield Row(
            sample=row[SAMPLE],
            bytes=row["bytes"],
            elements=row["elements"],
            prediction=row["prediction"],
            target=row["target"],
            statistic=_nested(row["statistic"], row["statistic_shape"]),
            further={name: _nested(numbers, shape_of(table.schema, name + STATISTIC, len(numbers))) for name, numbers in kept.items()},
            scores={name: row[name] for name in scored if row[name] is not None},
            ledger={part: row[part] for part in LEDGER},
            seconds=row["seconds"],
            nominal_bits=row["nominal_bits"],
            floor=None if row["floor"] is None else _nested(row["floor"], row["floor_shape"]),
            unmeasured={name: why for name in further if (why := row[name + UNMEASURED]) is not None},
            source=source,
            group=row[GROUP] or "",
            chain={layer: row[layer] for layer in LINKS if row[layer] is not None},
        )


def _nested(numbers: Sequence[float], shape: Sequence[int]) -> Any:
    return np.asarray(numbers, np.float64).reshape(tuple(shape)).tolist()


def from_hex(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return a column of 16 hex digits each as numbers."""
    return np.frombuffer(bytes.fromhex("".join(column.to_pylist())), ">u8").astype(np.uint64)
