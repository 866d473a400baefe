"""The rows of a case as columns, wherever they are."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.chain import SOURCE
from mpq_fixtures.files import for_arrow
from mpq_fixtures.rows import Row
from mpq_fixtures.rows.tables import (
    GROUP,
    SAMPLE,
    SHAPE,
    SOURCES,
    STATISTIC,
    UNMEASURED,
    columns_of,
    from_hex,
    named,
    rows_of,
    scores_in,
    shape_of,
    shapes_in,
    sources_of,
    table_of,
    with_shapes,
)
from mpq_fixtures.store.packs import key_array, sample_key

if TYPE_CHECKING:
    import pyarrow as pa

_FEW = 4096  # rows that are read at once where something is done to each


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
        return Rows(table=named(table_of(rows), columns))

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
            yield from rows_of(table)

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
        return [name.removesuffix(STATISTIC) for name in self.columns if name.endswith(STATISTIC)]

    @property
    def scored(self) -> list[str]:
        """The metrics that have a score of at least one of these samples."""
        if self._table is not None:
            return [name for name in scores_in(self.columns) if self._table.column(name).null_count < len(self._table)]
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

    def different(self, column: str) -> int:
        """Return how many different texts there are in a column."""
        from pyarrow import compute

        return int(compute.count_distinct(compute.fill_null(self.table(column).column(0), ""), mode="all").as_py())

    def all_alike(self, *columns: str) -> bool:
        """Tell whether a column has the same text in all rows; where it has none, the next column counts."""
        from pyarrow import compute

        found: set[str] = set()
        for table in self.parts(*columns):
            found |= {*compute.unique(compute.coalesce(*table.columns, "")).to_pylist()}
            if len(found) > 1:
                return False
        return True

    def first(self, *columns: str) -> str:
        """Return the first sample's text in a column; where it has none, that of the next."""
        table = next(self.parts(*columns), None)
        return next((value for column in table.columns if (value := column[0].as_py())), "") if table else ""

    def copies(self) -> list[NDArray[np.intp]]:
        """Return the positions of samples that have one source, of two and more, in the order of the rows.

        The first half of a digest tells one from another as well, and takes 16 bytes a sample.
        """
        halves, start = np.empty((len(self), 2), np.uint64), 0
        for table in self.parts(SOURCE):
            halves[start : start + len(table)] = key_array(table).view(np.uint64).reshape(-1, 4)[:, :2]
            start += len(table)
        order = np.lexsort(halves.T)
        ordered = halves[order]
        alike = (ordered[1:] == ordered[:-1]).all(axis=1)
        edges = np.flatnonzero(np.diff(alike.astype(np.int8), prepend=0, append=0))
        unknown = np.frombuffer(sample_key(""), np.uint64)[:2]
        runs = ((first, last) for first, last in zip(edges[::2], edges[1::2], strict=True) if (ordered[first] != unknown).any())
        return sorted((order[first : last + 1] for first, last in runs), key=lambda places: int(places[0]))

    def texts_at(self, column: str, places: Iterable[int]) -> dict[int, str]:
        """Return a column's texts of a few rows, by the positions of these; "" where there is none."""
        wanted, found, start = sorted(places), dict[int, str](), 0
        for table in self.parts(column):
            found |= {place: table.column(0)[place - start].as_py() or "" for place in wanted if start <= place < start + len(table)}
            start += len(table)
        return found

    @property
    def samples(self) -> list[str]:
        """The ids."""
        return self.texts(SAMPLE)

    @property
    def groups_if_any(self) -> list[str]:
        """The groups where one of the samples has one, else nothing: who asks for intervals need not hold a million times ""."""
        from pyarrow import compute

        named = any(compute.any(compute.not_equal(table.column(0), "")).as_py() for table in self.parts(GROUP))
        return self.groups if named else []

    def of_same_samples(self, other: Rows) -> bool:
        """Tell whether other rows are of samples with the same ids in the same order."""
        ids = ((name for table in rows.parts(SAMPLE) for name in table.column(0).to_pylist()) for rows in (self, other))
        return all(one == another for one, another in zip_longest(*ids))

    @property
    def groups(self) -> list[str]:
        """The groups; "" for a sample alone."""
        return self.texts(GROUP)

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

    def further(self, name: str) -> tuple[Sequence[NDArray[np.float64]], NDArray[np.bool_]]:
        """Return what a signal metric keeps, ``[measured, *shape]``, and which of the samples it could measure, ``[n]``."""
        return self._stacked(name + STATISTIC)

    def unmeasured(self, name: str) -> tuple[int, str]:
        """Return how many samples a signal metric could not measure, and why the first of them."""
        count, why = 0, ""
        for table in self.parts(name + UNMEASURED):
            reasons = table.column(0).drop_null()
            if len(reasons) and not count:
                why = reasons[0].as_py()
            count += len(reasons)
        return count, why

    def _stacked(self, column: str) -> tuple[Sequence[NDArray[np.float64]], NDArray[np.bool_]]:
        """Return the arrays of a column of lists, stacked where they have one shape, and which of the rows have one, ``[n]``."""
        numbers, present = [np.empty(0)], [np.empty(0, np.bool_)]
        shapes: Counter[tuple[int, ...]] = Counter()
        order: list[tuple[int, ...]] = []
        shape_column = [] if column.endswith(STATISTIC) else [column + SHAPE]
        for table in self.parts(column, *shape_column):
            lists = table.column(column).combine_chunks()
            present.append(lists.is_valid().to_numpy(zero_copy_only=False))
            numbers.append(lists.flatten().to_numpy(zero_copy_only=False))
            if shape_column:
                found = shapes_in(table.column(shape_column[0]).combine_chunks().drop_null())
                shapes.update(found)
                order += found if len(shapes) > 1 else []
        values, there = np.concatenate(numbers), np.concatenate(present)
        if not (count := int(there.sum())):
            return cast("Sequence[NDArray[np.float64]]", np.empty(0)), there
        if len(shapes) < 2:
            shape = next(iter(shapes), None) or (() if shape_column else shape_of(table.schema, column, len(values) // count))
            return cast("Sequence[NDArray[np.float64]]", values.reshape(count, *shape)), there
        order = [next(iter(shapes))] * (count - len(order)) + order
        ends = np.cumsum([math.prod(shape) for shape in order])
        return [part.reshape(shape) for part, shape in zip(np.split(values, ends[:-1]), order, strict=True)], there

    def _parquet(self) -> Any:
        import pyarrow.parquet as pq

        assert self.file is not None
        return pq.ParquetFile(for_arrow(self.file))


def _shaped(table: pa.Table, file: Any) -> pa.Table:
    """Return a table with the shapes that its file names."""
    return with_shapes(table, json.loads(file.metadata.metadata[b"shapes"]))
