"""What was measured of each sample: as objects for who makes them, and as columns for everything else.

A case of a million samples is columns in a Parquet file, of which a reader takes what it needs; nobody holds a million objects.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import LAYERS, SOURCE
from mpq_fixtures.files import readable

if TYPE_CHECKING:
    import pyarrow as pa

ROW_FORMAT = 4
"""Raised when `Row` or `table_of` changes, so that no row of an older form is taken from a store."""

LEDGER = ("payload", "container", "side")
LINKS = tuple(layer for layer in LAYERS[:-1] if layer != SOURCE)
"""The layers whose digests are columns; the source has one of another kind, and statistics are kept as they are."""

GROUP_BYTES = 2**22
"""Bytes of a row group in memory, about: what a reader holds at a time."""

_STATISTIC, _UNMEASURED, _SHAPE = " statistic", " unmeasured", "_shape"
_SAMPLE, _GROUP, _TEXT = "sample", "group", "source_text"
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

    ``source`` is ``binary(32)``, null where it is not known; ``bytes``, ``elements`` and the ledger's parts are ``int64``; ``seconds`` and
    ``nominal_bits`` ``float64``; ``prediction``, ``target`` and the links of the chain ``string``; ``statistic`` and ``floor`` lists of
    numbers with their shapes beside them. Each metric has its score under its own name; a signal metric also has ``"<name> statistic"``,
    null where it could not be measured, of one shape, which stands in the field's metadata, and ``"<name> unmeasured"``, which says why.
    """
    import pyarrow as pa

    numbers, shape, text = pa.list_(pa.float64()), pa.list_(pa.int32()), pa.string()
    besides = list(dict.fromkeys(name for row in rows for name in (*row.beside, *row.unmeasured)))
    scores = dict.fromkeys(name for row in rows for name in (*row.scores, *row.beside, *row.unmeasured))
    columns: dict[str, tuple[pa.DataType, list[Any]]] = {
        SOURCE: (pa.binary(32), [source_key(row.source) for row in rows]),
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
    fields = [
        pa.field(name, kind, metadata={b"shape": json.dumps(shapes[name]).encode()} if shapes.get(name) is not None else None)
        for name, (kind, _) in columns.items()
    ]
    return pa.table([pa.array(values, kind) for kind, values in columns.values()], schema=pa.schema(fields))


def source_key(source: str) -> bytes | None:
    """Return 32 bytes for a sample's source: its 64 hex digits, or the SHA-256 of any other text; None for none."""
    if _is_hex(source):
        return bytes.fromhex(source)
    return hashlib.sha256(source.encode()).digest() if source else None


def _is_hex(source: str) -> bool:
    return len(source) == 64 and not set(source) - set("0123456789abcdef")


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
        self._shapes: dict[str, str] = {}
        self._held: list[pa.Table] = []
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

    def append(self, table: pa.Table, samples: Sequence[str], groups: Sequence[str], sources: Sequence[str] = ()) -> None:
        """Add rows of `table_of` with the ids and the groups of their samples.

        ``sources`` are the samples' own words for their sources; where these are not 64 hex digits, results show them as they are.
        """
        import pyarrow as pa

        texts = [None if not source or _is_hex(source) else source for source in sources] or [None] * len(samples)
        for name, values in ((_TEXT, texts), (_GROUP, groups), (_SAMPLE, samples)):
            table = table.add_column(0, pa.field(name, pa.string()), pa.array(values, pa.string()))
        self._shapes |= _shapes_of(table.schema)
        self._held.append(table)
        if sum(held.nbytes for held in self._held) >= GROUP_BYTES:
            self._flush()

    def close(self) -> Rows:
        """Write what is left, put the file in its place, and return what is in it."""
        if self._writer is None and not self._held:
            self.append(table_of([]), [], [])
        self._flush()
        assert self._temporary is not None
        self._writer.add_key_value_metadata({"shapes": json.dumps(self._shapes)})
        self._writer.close()
        readable(self._temporary)
        self._temporary.replace(self.file)
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
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._held:
            return
        table = pa.concat_tables(self._held).combine_chunks()
        self._held = []
        if self._writer is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=".", suffix=".part")
            os.close(handle)
            self._temporary, self._schema = Path(name), table.schema.remove_metadata()
            self._writer = pq.ParquetWriter(name, self._schema, compression="zstd", write_statistics=False)
        if table.column_names != self._schema.names:
            raise ValueError(f"rows of other columns than those before them: {sorted(set(table.column_names) ^ set(self._schema.names))}")
        rows = max(1, int(len(table) * GROUP_BYTES / max(table.nbytes, 1)))
        self._writer.write_table(table.cast(self._schema), row_group_size=rows)


class Rows:
    """The rows of a case as columns: in memory, or in a file of `RowsWriter`, of which each method reads what it needs.

    Iterating makes a `Row` of each, for whoever shows a few.
    """

    def __init__(self, file: Path | None = None, table: pa.Table | None = None) -> None:
        assert (file is None) != (table is None)
        self.file, self._table = file, table
        self._about: Any = None

    @staticmethod
    def of(rows: Sequence[Row]) -> Rows:
        """Return rows as columns in memory."""
        import pyarrow as pa

        table = table_of(rows)
        texts = [None if not row.source or _is_hex(row.source) else row.source for row in rows]
        for name, values in ((_TEXT, texts), (_GROUP, [row.group for row in rows]), (_SAMPLE, [row.sample for row in rows])):
            table = table.add_column(0, pa.field(name, pa.string()), pa.array(values, pa.string()))
        return Rows(table=table)

    @staticmethod
    def opened(file: Path) -> Rows:
        """Return the rows of a file that `RowsWriter` wrote."""
        return Rows(file=Path(file))

    def __len__(self) -> int:
        return len(self._table) if self._table is not None else int(self._parquet().metadata.num_rows)

    def __iter__(self) -> Iterator[Row]:
        for table in self.parts():
            yield from self._rows_of(table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rows) and self.table().equals(other.table())

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return (Rows, (self.file, self._table))

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
        """All metrics that have a score of each sample."""
        return [name for name in self.columns if name not in _OWN and not name.endswith((_STATISTIC, _UNMEASURED))]

    def table(self, *columns: str) -> pa.Table:
        """Return these columns of all rows, or all of them."""
        names = list(columns or self.columns)
        if self._table is not None:
            return self._table.select(names)
        with self._parquet() as file:
            return file.read(names, use_threads=False)

    def parts(self, *columns: str) -> Iterator[pa.Table]:
        """Yield these columns, or all, in stretches of rows of a few MB."""
        names = list(columns or self.columns)
        if self._table is not None:
            for start in range(0, len(self._table), _FEW):
                yield self._table.select(names).slice(start, _FEW)
            return
        with self._parquet() as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number, names, use_threads=False)

    def numbers(self, column: str) -> NDArray[Any]:
        """Return a column of numbers, ``[n]``: ``int64``, or ``float64`` with NaN where there is none."""
        import pyarrow as pa

        values = self.table(column).column(0)
        if pa.types.is_integer(values.type) and not values.null_count:
            return np.asarray(values.to_numpy())
        return np.asarray(values.cast(pa.float64()).to_numpy(), np.float64)

    def texts(self, column: str) -> list[str]:
        """Return a column of texts; "" where there is none."""
        return [text or "" for text in self.table(column).column(0).to_pylist()]

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
        return [source[:digits] for table in self.parts(SOURCE, _TEXT) for source in _sources_of(table)]

    def links(self, layer: str) -> NDArray[np.uint64] | None:
        """Return the digests of a layer of the chain as numbers, ``[n]``; None where a sample has none, or there are none."""
        found = []
        for table in self.parts(layer):
            column = table.column(0)
            if column.null_count:
                return None
            found.append(_from_hex(column))
        return np.concatenate(found) if found else None

    def statistics(self) -> NDArray[np.float64] | list[NDArray[np.float64]]:
        """Return what the task's metric keeps: ``[n, *shape]``, or an array a sample where shapes differ."""
        return cast("NDArray[np.float64] | list[NDArray[np.float64]]", self._stacked("statistic")[0])

    def floors(self) -> NDArray[np.float64] | list[NDArray[np.float64]]:
        """Return what it keeps of the unprocessed signals, of the samples that have one."""
        return cast("NDArray[np.float64] | list[NDArray[np.float64]]", self._stacked("floor")[0])

    def beside(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Return what a signal metric keeps, ``[measured, *shape]``, and the positions of the samples that it could measure."""
        statistics, measured = self._stacked(name + _STATISTIC, self._shapes().get(name + _STATISTIC))
        return cast("NDArray[np.float64]", statistics), measured

    def unmeasured(self, name: str) -> tuple[int, str]:
        """Return how many samples a signal metric could not measure, and why the first of them."""
        count, why = 0, ""
        for table in self.parts(name + _UNMEASURED):
            reasons = table.column(0).drop_null()
            if len(reasons) and not count:
                why = reasons[0].as_py()
            count += len(reasons)
        return count, why

    def _stacked(self, column: str, shape: Sequence[int] | None = None) -> tuple[Any, NDArray[np.intp]]:
        """Return the arrays of a column of lists, stacked where they have one shape, and the positions of the rows that have one."""
        flat: list[NDArray[np.float64]] = []
        shapes: list[NDArray[np.int32]] = []
        present: list[NDArray[np.intp]] = []
        start, beside = 0, [] if shape is not None or column.endswith(_STATISTIC) else [column + _SHAPE]
        for table in self.parts(column, *beside):
            lists = table.column(column).combine_chunks()
            there = np.asarray(lists.is_valid().to_numpy(zero_copy_only=False), bool)
            present.append(start + np.flatnonzero(there))
            start += len(table)
            flat.append(np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.float64))
            if beside:
                shapes += table.column(beside[0]).combine_chunks().drop_null().to_numpy(zero_copy_only=False).tolist()
        positions = np.concatenate(present) if present else np.empty(0, np.intp)
        numbers = np.concatenate(flat) if flat else np.empty(0)
        different = {tuple(one) for one in shapes}
        if shape is None and len(different) < 2:
            shape = next(iter(different), (0,) if not len(positions) else (len(numbers) // len(positions),))
        if shape is not None:
            return numbers.reshape(len(positions), *shape), positions
        ends = np.cumsum([int(np.prod(one)) for one in shapes])
        return [part.reshape(one) for part, one in zip(np.split(numbers, ends[:-1]), shapes, strict=True)], positions

    def _rows_of(self, table: pa.Table) -> Iterator[Row]:
        besides, scored, shapes = self.signal_metrics, self.scored, self._shapes()
        for row, source in zip(table.to_pylist(), _sources_of(table), strict=True):
            yield Row(
                sample=row[_SAMPLE],
                bytes=row["bytes"],
                elements=row["elements"],
                prediction=row["prediction"],
                target=row["target"],
                statistic=_nested(row["statistic"], row["statistic_shape"]),
                beside={name: _nested(kept, shapes[name + _STATISTIC]) for name in besides if (kept := row[name + _STATISTIC]) is not None},
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

    def _shapes(self) -> Mapping[str, Sequence[int]]:
        if self._table is not None:
            found = _shapes_of(self._table.schema)
        else:
            with self._parquet() as file:
                found = json.loads(file.metadata.metadata[b"shapes"])
        return {name: json.loads(shape) for name, shape in found.items()}

    def _parquet(self) -> Any:
        import pyarrow.parquet as pq

        return pq.ParquetFile(self.file)


def _shapes_of(schema: pa.Schema) -> dict[str, str]:
    return {one.name: one.metadata[b"shape"].decode() for one in schema if one.metadata and b"shape" in one.metadata}


def _sources_of(table: pa.Table) -> list[str]:
    known, texts = table.column(SOURCE).to_pylist(), table.column(_TEXT).to_pylist()
    return [text or (key.hex() if key else "") for key, text in zip(known, texts, strict=True)]


def _from_hex(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Return 16 hex digits each as numbers."""
    return np.array([int(link, 16) for link in column.to_pylist()], np.uint64)


def _nested(numbers: Sequence[float], shape: Sequence[int]) -> Any:
    return np.asarray(numbers, np.float64).reshape(tuple(shape)).tolist()
