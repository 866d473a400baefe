"""What was measured of each sample: as objects for who makes them, and as columns for everything else.

A case of a million samples is columns in a Parquet file, of which a reader takes what it needs; nobody holds a million objects.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import LAYERS, SOURCE
from mpq_fixtures.files import for_arrow, put_in_place, temporary_beside
from mpq_fixtures.store.packs import sample_key

if TYPE_CHECKING:
    import pyarrow as pa

    from mpq_fixtures.metrics import Metric, Statistic

ROW_FORMAT = 4
"""Raised when `Row` or `table_of` changes, so that no row of an older form is taken from a store."""

LEDGER = ("payload", "container", "side")
LINKS = tuple(layer for layer in LAYERS[:-1] if layer != SOURCE)
"""The layers whose digests are columns; the source has one of another kind, and statistics are kept as they are."""

GROUP_BYTES = 2**22
"""Bytes of a row group in memory, about: what a reader holds at a time."""

_STATISTIC, _UNMEASURED, _SHAPE = " statistic", " unmeasured", "_shape"
_SAMPLE, _GROUP, _TEXT = "sample", "group", "source_text"
SOURCES = (SOURCE, _TEXT)
_OWN = {
    *(_SAMPLE, _GROUP, _TEXT, SOURCE, "bytes", "elements", "seconds", "nominal_bits", *LEDGER, "prediction", "target"),
    *("statistic", "statistic_shape", "floor", "floor_shape", *LINKS),
}
_FEW = 4096  # rows that are read at once where something is done to each


@dataclass(frozen=True)
class Row:
    """What was measured of one sample.

    ``ledger`` says what its ``bytes`` are spent on (`mpq_fixtures.codecs.Ledger`), ``nominal_bits`` what its quality names, if it names a
    rate; ``unmeasured`` says of signal metrics why they have no value.
    ``statistic`` and the entries of ``beside`` are nested lists, what the task's metric and the signal metrics keep of the sample;
    ``scores`` are their values over this sample alone;
    ``floor`` is the task metric's statistic of the unprocessed signal, in records on the originals and for SDR only.
    ``source`` and ``group`` are the sample's, ``chain`` the digests of what became of it, by layer (`mpq_fixtures.chain`).
    """

    sample: str
    bytes: int
    elements: int
    prediction: str
    target: str
    statistic: Any
    beside: dict[str, Any]
    scores: dict[str, float]
    ledger: dict[str, int]
    seconds: float | None = None
    nominal_bits: float | None = None
    floor: Any = None
    unmeasured: dict[str, str] = field(default_factory=dict)
    source: str = ""
    group: str = ""
    chain: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A sample that could not be read, encoded, decoded, predicted or scored, and why. It counts in no mean and fails its case."""

    sample: str
    step: str
    reason: str


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
    besides = list(dict.fromkeys(name for row in rows for name in (*row.beside, *row.unmeasured)))
    scores = dict.fromkeys(name for row in rows for name in (*row.scores, *row.beside, *row.unmeasured))
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
        **{name + _STATISTIC: (numbers, [_flat(row.beside[name]) if name in row.beside else None for row in rows]) for name in besides},
        **{name + _UNMEASURED: (text, [row.unmeasured.get(name) for row in rows]) for name in besides},
        **{layer: (text, [row.chain.get(layer) for row in rows]) for layer in LINKS},
    }
    shapes = {name + _STATISTIC: _one_shape(name, [row.beside[name] for row in rows if name in row.beside]) for name in besides}
    table = pa.table({name: pa.array(values, kind) for name, (kind, values) in columns.items()})
    return _with_shapes(
        table, {name: json.dumps(shape) for name, shape in shapes.items() if shape is not None and shape != _usual(math.prod(shape))}
    )


def with_measure(table: pa.Table, metric: Metric, statistics: Sequence[Statistic | None], why: str) -> pa.Table:
    """Return rows with what a further metric keeps of each, as a signal metric's stand there; of those with None ``why`` says why."""
    import pyarrow as pa

    scores = [None if kept is None else metric.value([kept]) for kept in statistics]
    flat = [None if kept is None else _flat(kept) for kept in statistics]
    reasons = [why if kept is None else None for kept in statistics]
    table = table.append_column(metric.name, pa.array(scores, pa.float64()))
    table = table.append_column(metric.name + _STATISTIC, pa.array(flat, pa.list_(pa.float64())))
    return table.append_column(metric.name + _UNMEASURED, pa.array(reasons, pa.string()))


def together(tables: Iterable[pa.Table]) -> pa.Table:
    """Return tables of `table_of`, at least one, as one, with the columns and in the order of the first; raises `ValueError` for others."""
    import pyarrow as pa

    tables = list(tables)
    columns = tables[0].column_names
    for table in tables:
        if different := set(table.column_names) ^ set(columns):
            raise ValueError(f"rows of other columns than those before them: {', '.join(sorted(different))}")
    shapes = {name: shape for table in tables for name, shape in _shapes_of(table.schema).items()}
    return _with_shapes(pa.concat_tables(table.select(columns) for table in tables), shapes)


def columns_of(names: Sequence[tuple[str, str]], sources: Sequence[str]) -> pa.Table:
    """Return what a data set says of samples, from their ids with their groups and their sources.

    Columns are ``sample``, ``group`` and, where a source does not follow from its key, ``source_text``, texts, and the key, ``source``.
    """
    import pyarrow as pa

    keys = list(map(sample_key, sources))
    texts = [None if not source or key.hex() == source else source for source, key in zip(sources, keys, strict=True)]
    columns = {_SAMPLE: [name for name, _ in names], _GROUP: [group for _, group in names], _TEXT: texts}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()} | {SOURCE: pa.array(keys, pa.binary(32))})


def _flat(nested: Any) -> NDArray[np.float64]:
    return np.asarray(nested, np.float64).ravel()


def _one_shape(name: str, statistics: Sequence[Any]) -> list[int] | None:
    shapes = {np.shape(statistic) for statistic in statistics}
    if len(shapes) > 1:
        raise ValueError(f"the statistics of {name} have several shapes, {sorted(shapes)}: a signal metric keeps the same of every sample")
    return list(shapes.pop()) if shapes else None


class RowsWriter:
    """Writes the rows of a case to a Parquet file as they come, which is there whole once it is closed.

    Row groups are as large as what is appended at once, or larger. Leaving a ``with`` block by an error leaves no file.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._first: Any = None
        self._shapes: dict[str, str] = {}
        self._scored: dict[str, None] = {}
        self._held: list[pa.Table] = []
        self._size = 0
        self._writer: Any = None
        self._temporary: Path | None = None
        self._schema: Any = None

    def __enter__(self) -> RowsWriter:
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def append(self, table: pa.Table, columns: pa.Table) -> None:
        """Add rows of `table_of` with what `columns_of` says of their samples."""
        table = _named(table, columns)
        if self._first is None:
            self._first = table.slice(0, 0)
        table = together([self._first, table])
        self._shapes |= _shapes_of(table.schema)
        self._scored |= {name: None for name in _scores(table.column_names) if table.column(name).null_count < len(table)}
        self._held.append(table)
        self._size += table.nbytes
        if self._size >= GROUP_BYTES:
            self._flush()

    def close(self) -> Rows:
        """Write what is left, put the file in its place, and return what is in it."""
        if self._writer is None and not self._held:
            self.append(table_of([]), columns_of([], []))
        self._flush()
        assert self._temporary is not None
        self._writer.add_key_value_metadata({"shapes": json.dumps(self._shapes), "scored": json.dumps(list(self._scored))})
        self._writer.close()
        put_in_place(self._temporary, self.file)
        self._temporary = None
        return Rows.opened(self.file)

    def discard(self) -> None:
        """Leave no file."""
        if self._writer is not None:
            self._writer.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None
        self._held = []

    def _flush(self) -> None:
        import pyarrow.parquet as pq

        if not self._held:
            return
        table = together(self._held).combine_chunks()
        self._held, self._size = [], 0
        if self._writer is None:
            self._temporary, self._schema = temporary_beside(self.file), table.schema.remove_metadata()
            self._writer = pq.ParquetWriter(for_arrow(self._temporary, "wb"), self._schema, compression="zstd", write_statistics=False)
        rows = max(1, int(len(table) * GROUP_BYTES / max(table.nbytes, 1)))
        self._writer.write_table(table.cast(self._schema), row_group_size=rows)


class Rows:
    """The rows of a case as columns: in memory, or in a file of `RowsWriter`, of which each method reads what it needs.

    Iterating makes a `Row` of each, for whoever shows a few.
    """

    def __init__(self, file: Path | None = None, table: pa.Table | None = None, count: int | None = None) -> None:
        assert (file is None) != (table is None)
        self.file, self._table, self._count = file, table, count

    @staticmethod
    def of(rows: Sequence[Row]) -> Rows:
        """Return rows as columns in memory."""
        columns = columns_of([(row.sample, row.group) for row in rows], [row.source for row in rows])
        return Rows(table=_named(table_of(rows), columns))

    @staticmethod
    def opened(file: Path) -> Rows:
        """Return the rows of a file that `RowsWriter` wrote."""
        return Rows(file=Path(file))

    def __len__(self) -> int:
        if self._count is None:  # kept, for whoever asks when the file is gone
            self._count = len(self._table) if self._table is not None else int(self._parquet().metadata.num_rows)
        return self._count

    def __iter__(self) -> Iterator[Row]:
        for table in self.parts():
            yield from _rows_of(table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self.table().equals(other.table())

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} rows{f' in {self.file}' if self.file else ''}>"

    def to_plain(self) -> list[Any]:
        """Return where the rows are, as text, and how many; those in memory as bytes."""
        import pyarrow as pa

        if self.file is not None:
            return [str(self.file), len(self)]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.table().schema) as stream:
            stream.write_table(self.table())
        return [sink.getvalue().to_pybytes(), len(self)]

    @staticmethod
    def from_plain(content: Sequence[Any]) -> Rows:
        """Restore what `to_plain` made."""
        import pyarrow as pa

        where, count = content
        return Rows(Path(where), count=count) if isinstance(where, str) else Rows(table=pa.ipc.open_stream(where).read_all())

    def __reduce__(self) -> tuple[Any, ...]:
        return Rows.from_plain, (self.to_plain(),)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._table.column_names if self._table is not None else self._parquet().schema_arrow.names)

    @property
    def signal_metrics(self) -> list[str]:
        """The signal metrics that were measured, or tried, on these samples."""
        return [name.removesuffix(_STATISTIC) for name in self.columns if name.endswith(_STATISTIC)]

    @property
    def scored(self) -> list[str]:
        """The metrics that have a score of at least one of these samples."""
        if self._table is not None:
            return [name for name in _scores(self.columns) if self._table.column(name).null_count < len(self._table)]
        with self._parquet() as file:
            return list(json.loads(file.metadata.metadata[b"scored"]))

    def table(self, *columns: str) -> pa.Table:
        """Return these columns of all rows, or all of them."""
        if self._table is not None:
            return self._table.select(list(columns or self.columns))
        with self._parquet() as file:
            return _shaped(file.read(list(columns) or None, use_threads=False), file)

    def parts(self, *columns: str) -> Iterator[pa.Table]:
        """Yield these columns, or all, in stretches of rows of a few MB."""
        if self._table is not None:
            for start in range(0, len(self._table), _FEW):
                yield self._table.select(list(columns or self.columns)).slice(start, _FEW)
            return
        with self._parquet() as file:
            for number in range(file.num_row_groups):
                yield _shaped(file.read_row_group(number, list(columns) or None, use_threads=False), file)

    def numbers(self, column: str) -> NDArray[Any]:
        """Return a column of numbers, ``[n]``: ``int64``, or ``float64`` with NaN where there is none."""
        import pyarrow as pa

        values = self.table(column).column(0)
        if pa.types.is_integer(values.type) and not values.null_count:
            return np.asarray(values.to_numpy())
        return np.asarray(values.cast(pa.float64()).to_numpy(), np.float64)

    def texts(self, column: str) -> list[str]:
        """Return a column of texts, each of which is one object however often it is there; "" where there is none."""
        known: dict[str, str] = {}
        found: list[str] = []
        for table in self.parts(column):
            encoded = table.column(0).fill_null("").combine_chunks().dictionary_encode()
            texts = np.array([known.setdefault(text, text) for text in encoded.dictionary.to_pylist()], object)
            found += texts[np.asarray(encoded.indices)].tolist()
        return found

    def different(self, *columns: str) -> int:
        """Return how many different texts there are in a column; where it has none, the next column counts."""
        from pyarrow import compute

        table = self.table(*columns)
        return int(compute.count_distinct(compute.coalesce(*table.columns, ""), mode="all").as_py())

    def first(self, *columns: str) -> str:
        """Return the first sample's text in a column; where it has none, that of the next."""
        table = next(self.parts(*columns), None)
        return next((value for column in table.columns if (value := column[0].as_py())), "") if table else ""

    def copies(self) -> list[list[int]]:
        """Return the positions of samples that have one source, of two and more, in the order of the rows."""
        sources = self.table(SOURCE).column(0).combine_chunks().dictionary_encode()
        number = np.asarray(sources.indices)
        often = np.bincount(number, minlength=len(sources.dictionary)) > 1
        groups: dict[int, list[int]] = {}
        for place in np.flatnonzero(often[number]):
            groups.setdefault(int(number[place]), []).append(int(place))
        unknown = sample_key("")
        return [places for which, places in groups.items() if sources.dictionary[which].as_py() != unknown]

    @property
    def samples(self) -> list[str]:
        """The ids."""
        return self.texts(_SAMPLE)

    @property
    def groups(self) -> list[str]:
        """The groups; "" for a sample alone."""
        return self.texts(_GROUP)

    def sources(self, digits: int = 64) -> list[str]:
        """Return the first digits of the sources, or characters where a data set has other words for them; "" where one is not known."""
        return [source for table in self.parts(*SOURCES) for source in sources_of(table, digits)]

    def links(self, layer: str) -> NDArray[np.uint64] | None:
        """Return the digests of a layer of the chain as numbers, ``[n]``; None where a sample has none, or there are none."""
        found = []
        for table in self.parts(layer):
            column = table.column(0)
            if column.null_count:
                return None
            found.append(from_hex(column))
        return np.concatenate(found) if len(self) else None

    def statistics(self) -> Sequence[NDArray[np.float64]]:
        """Return what the task's metric keeps: ``[n, *shape]``, or an array a sample where shapes differ."""
        return self._stacked("statistic")[0]

    def floors(self) -> Sequence[NDArray[np.float64]]:
        """Return what it keeps of the unprocessed signals, of the samples that have one."""
        return self._stacked("floor")[0]

    def beside(self, name: str) -> tuple[Sequence[NDArray[np.float64]], NDArray[np.intp]]:
        """Return what a signal metric keeps, ``[measured, *shape]``, and the positions of the samples that it could measure."""
        return self._stacked(name + _STATISTIC)

    def unmeasured(self, name: str) -> tuple[int, str]:
        """Return how many samples a signal metric could not measure, and why the first of them."""
        count, why = 0, ""
        for table in self.parts(name + _UNMEASURED):
            reasons = table.column(0).drop_null()
            if len(reasons) and not count:
                why = reasons[0].as_py()
            count += len(reasons)
        return count, why

    def _stacked(self, column: str) -> tuple[Sequence[NDArray[np.float64]], NDArray[np.intp]]:
        """Return the arrays of a column of lists, stacked where they have one shape, and the positions of the rows that have one."""
        numbers, present = [np.empty(0)], [np.empty(0, np.intp)]
        shapes: Counter[tuple[int, ...]] = Counter()
        order: list[tuple[int, ...]] = []
        start, beside = 0, [] if column.endswith(_STATISTIC) else [column + _SHAPE]
        for table in self.parts(column, *beside):
            lists = table.column(column).combine_chunks()
            present.append(start + np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False)))
            numbers.append(lists.flatten().to_numpy(zero_copy_only=False))
            start += len(table)
            if beside:
                found = _shapes_in(table.column(beside[0]).combine_chunks().drop_null())
                shapes.update(found)
                order += found if len(shapes) > 1 else []
        values, positions = np.concatenate(numbers), np.concatenate(present)
        if not len(positions):
            return cast("Sequence[NDArray[np.float64]]", np.empty(0)), positions
        if len(shapes) < 2:
            shape = next(iter(shapes), None) or (() if beside else _shape_of(table.schema, column, len(values) // len(positions)))
            return cast("Sequence[NDArray[np.float64]]", values.reshape(len(positions), *shape)), positions
        order = [next(iter(shapes))] * (len(positions) - len(order)) + order
        ends = np.cumsum([math.prod(shape) for shape in order])
        return [part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), order, strict=True)], positions

    def _parquet(self) -> Any:
        import pyarrow.parquet as pq

        assert self.file is not None
        return pq.ParquetFile(for_arrow(self.file))


def _named(table: pa.Table, columns: pa.Table) -> pa.Table:
    """Return a table of `table_of` with what a data set says of its samples."""
    for name in (_TEXT, _GROUP, _SAMPLE):
        table = table.add_column(0, columns.field(name), columns.column(name))
    return table


def _scores(columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name not in _OWN and not name.endswith((_STATISTIC, _UNMEASURED))]


def _shapes_of(schema: pa.Schema) -> dict[str, str]:
    return {one.name: one.metadata[b"shape"].decode() for one in schema if one.metadata and b"shape" in one.metadata}


def _shape_of(schema: pa.Schema, column: str, length: int) -> list[int]:
    """Return the shape of a signal metric's statistics of a length."""
    shapes = _shapes_of(schema)
    return list(json.loads(shapes[column])) if column in shapes else _usual(length)


def _usual(length: int) -> list[int]:
    """Return the shape of statistics that need not say it."""
    return [] if length == 1 else [length]


def _shaped(table: pa.Table, file: Any) -> pa.Table:
    """Return a table with the shapes that its file names."""
    return _with_shapes(table, json.loads(file.metadata.metadata[b"shapes"]))


def _with_shapes(table: pa.Table, shapes: Mapping[str, str]) -> pa.Table:
    import pyarrow as pa

    fields = [one.with_metadata({"shape": shapes[one.name]}) if one.name in shapes else one for one in table.schema]
    return pa.table(table.columns, schema=pa.schema(fields))


def _shapes_in(column: pa.ListArray) -> list[tuple[int, ...]]:
    """Return a column of shapes; where all are one, which is seen at once, without an object for each."""
    if not len(column):
        return []
    lengths, flat = column.value_lengths().to_numpy(), column.flatten().to_numpy()
    if (lengths == lengths[0]).all() and (flat.reshape(len(column), -1) == flat[: lengths[0]]).all():
        return [tuple(map(int, flat[: lengths[0]]))] * len(column)
    return [tuple(shape) for shape in column.to_pylist()]


def sources_of(table: pa.Table, digits: int = 64) -> list[str]:
    """Return the first digits of the sources in a table with `SOURCES`, or characters where a data set has other words for them."""
    keys, texts = table.column(SOURCE).to_pylist(), table.column(_TEXT).to_pylist()
    unknown = sample_key("")
    return [(text or ("" if key == unknown else key.hex()))[:digits] for key, text in zip(keys, texts, strict=True)]


def _rows_of(table: pa.Table) -> Iterator[Row]:
    columns = table.column_names
    besides, scored = [name.removesuffix(_STATISTIC) for name in columns if name.endswith(_STATISTIC)], _scores(columns)
    for row, source in zip(table.to_pylist(), sources_of(table), strict=True):
        kept = {name: numbers for name in besides if (numbers := row[name + _STATISTIC]) is not None}
        yield Row(
            sample=row[_SAMPLE],
            bytes=row["bytes"],
            elements=row["elements"],
            prediction=row["prediction"],
            target=row["target"],
            statistic=_nested(row["statistic"], row["statistic_shape"]),
            beside={name: _nested(numbers, _shape_of(table.schema, name + _STATISTIC, len(numbers))) for name, numbers in kept.items()},
            scores={name: row[name] for name in scored if row[name] is not None},
            ledger={part: row[part] for part in LEDGER},
            seconds=row["seconds"],
            nominal_bits=row["nominal_bits"],
            floor=None if row["floor"] is None else _nested(row["floor"], row["floor_shape"]),
            unmeasured={name: why for name in besides if (why := row[name + _UNMEASURED]) is not None},
            source=source,
            group=row[_GROUP] or "",
            chain={layer: row[layer] for layer in LINKS if row[layer] is not None},
        )


def _nested(numbers: Sequence[float], shape: Sequence[int]) -> Any:
    return np.asarray(numbers, np.float64).reshape(tuple(shape)).tolist()


def from_hex(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return a column of 16 hex digits each as numbers."""
    return np.frombuffer(bytes.fromhex("".join(column.to_pylist())), ">u8").astype(np.uint64)
