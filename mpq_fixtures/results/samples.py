"""``samples.parquet``: one row a sample and case, put together from the rows of the cases and read again case by case.

Neither holds more than one stretch of a few MB at a time. The columns are described in ``reports/README.md``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpq_fixtures.chain import LAYERS, SOURCE
from mpq_fixtures.files import for_arrow, put_in_place, temporary_beside
from mpq_fixtures.flips import parts_shown
from mpq_fixtures.processes.temporary import remove_orphans_in
from mpq_fixtures.record import Record
from mpq_fixtures.rows.tables import LEDGER, LINKS, SOURCES, sources_of
from mpq_fixtures.rows.writer import GROUP_BYTES

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SHORT = 16
"""Hex digits of a sample's source that results keep, as many as the other links of its chain have."""
PARTS = "parts"
"""The folder within a run's folder where each run has one of its own, for the rows of its cases until they are put together."""
WRITING = ".writing"
"""The file there that is locked by the run that writes its results."""

_OF_SHOWN = ("shown", "original_prediction", "original_score", "example")
_OF_NO_ACCOUNT = {"case", *(f"bytes_{part}" for part in LEDGER), "rate", "prediction", "target", "score", *_OF_SHOWN}
"""Columns that no comparison looks at."""

_KEPT = ("sample", "group", *LINKS, "bytes", "elements", *LEDGER, "prediction", "target", "statistic", "statistic_shape")


def remove_parts(folder: Path) -> None:
    """Remove what runs that were killed left in a run's folder: their parts and, unless another run is at it, pieces of files."""
    parts = folder / PARTS
    if remove_orphans_in(parts):
        return
    for file in (*parts.glob("*.parquet"), *parts.glob(".*.part"), *folder.glob(".*.part"), *parts.glob(WRITING)):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # where somebody else's files are in it
        parts.rmdir()


def write_samples(file: Path, records: Sequence[Record]) -> None:
    """Write the rows and failures of all records, in their order; the file is there whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    scores = sorted({name for record in records for name in record.rows.scored if name != record.metric})
    schema = _schema(scores)
    temporary = temporary_beside(file)
    try:
        with pq.ParquetWriter(for_arrow(temporary, "wb"), schema, compression="zstd") as writer:
            held, size = [schema.empty_table()], 0
            for table in (table for record in records for table in _tables(record, schema)):
                held.append(table)
                size += table.nbytes
                if size >= GROUP_BYTES:  # cases of a few samples share a row group
                    writer.write_table(pa.concat_tables(held))
                    held, size = [], 0
            if held:
                writer.write_table(pa.concat_tables(held))
        put_in_place(temporary, file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _schema(scores: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    text, count, figure = pa.string(), pa.int64(), pa.float64()
    part = pa.struct([("label", text), ("media_type", text), ("data", pa.binary())])
    columns: dict[str, pa.DataType] = {
        **dict.fromkeys(("case", "sample", "group", *LAYERS[:-1]), text),
        **dict.fromkeys(("bytes", "elements", *(f"bytes_{part}" for part in LEDGER)), count),
        "rate": figure,
        **dict.fromkeys(("prediction", "target"), text),
        **dict.fromkeys(("score", *scores), figure),
        "statistic": pa.list_(figure),
        "statistic_shape": pa.list_(pa.int32()),
        "error": text,
        "shown": text,
        "original_prediction": text,
        "original_score": figure,
        "example": pa.list_(part),
    }
    return pa.schema(list(columns.items()))


def _tables(record: Record, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield what a case has for the file, stretch by stretch: its rows, then its failures."""
    import pyarrow as pa
    from pyarrow import compute

    rows = record.rows
    shown = {one["sample"]: {**one, "parts": parts} for one, parts in zip(record.shown, parts_shown(record), strict=True)}
    ids = pa.array(list(shown), pa.string())
    scored = [name for name in rows.scored if name == record.metric or name in schema.names]
    for table in rows.parts(*_KEPT, *SOURCES, *scored):
        columns = {name: table.column(name) for name in (*_KEPT, *scored)}
        columns |= {f"bytes_{part}": columns.pop(part) for part in LEDGER}
        if record.metric in columns:
            columns["score"] = columns.pop(record.metric)
        columns["case"] = pa.repeat(record.case, len(table))
        columns[SOURCE] = pa.array(sources_of(table, SHORT), pa.string())
        bits = compute.multiply(columns["bytes"].cast(pa.float64()), 8.0)
        columns["rate"] = compute.divide(bits, columns["elements"].cast(pa.float64()))
        if compute.any(found := compute.is_in(table.column("sample"), value_set=ids)).as_py():
            columns |= _shown(found, [shown[one] for one in table.column("sample").filter(found).to_pylist()], schema)
        yield _table(columns, len(table), schema)
    if record.failures:
        columns = {
            "case": pa.repeat(record.case, len(record.failures)),
            "sample": pa.array([failure.sample for failure in record.failures], pa.string()),
            "error": pa.array([f"{failure.step}: {failure.reason}" for failure in record.failures], pa.string()),
        }
        yield _table(columns, len(record.failures), schema)


def _table(columns: dict[str, Any], length: int, schema: pa.Schema) -> pa.Table:
    """Return columns in the order of the file, those that are lacking without values."""
    import pyarrow as pa

    return pa.table([columns[one.name] if one.name in columns else pa.nulls(length, one.type) for one in schema], schema=schema)


def _shown(found: pa.ChunkedArray, shown: Sequence[Mapping[str, Any]], schema: pa.Schema) -> dict[str, pa.Array]:
    """Return the columns of what is shown, of rows of which those that are ``found`` are, in their order."""
    import pyarrow as pa
    from pyarrow import compute

    place = compute.subtract(compute.cumulative_sum(found.cast(pa.int32())).combine_chunks(), 1)
    places = compute.if_else(found.combine_chunks(), place, None)
    entries = {"shown": "why", "example": "parts"}
    return {name: pa.array([one[entries.get(name, name)] for one in shown], schema.field(name).type).take(places) for name in _OF_SHOWN}


def read_examples(file: Path, wanted: Callable[[Sequence[dict[str, Any]]], Collection[int]] | None = None) -> list[dict[str, Any]]:
    """Return the rows that are shown, by columns; of the others nothing is read but that they are not.

    ``wanted`` is given these rows without the column ``example``, and says of which of them that is read; by default of all.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import compute

    with pq.ParquetFile(for_arrow(file)) as content:
        names = content.schema_arrow.names
        columns = [name for name in names if name != "example" and not name.startswith("statistic")]
        told = [pa.schema([content.schema_arrow.field(name) for name in columns]).empty_table()]
        places: list[tuple[int, int]] = []
        whether = "shown" if "shown" in names else "example"  # older files have the latter alone
        for group in range(content.num_row_groups) if whether in names else ():
            there = compute.is_valid(content.read_row_group(group, [whether], use_threads=False).column(0))
            if compute.any(there).as_py():
                told.append(content.read_row_group(group, columns, use_threads=False).filter(there))
                places += ((group, int(row)) for row in np.flatnonzero(there))
        rows: list[dict[str, Any]] = pa.concat_tables(told).to_pylist()
        if "example" in names:
            chosen = range(len(rows)) if wanted is None else wanted(rows)
            for row, example in zip(rows, _examples(content, places, chosen), strict=True):
                row["example"] = example
    return rows


def _examples(content: pq.ParquetFile, places: Sequence[tuple[int, int]], chosen: Collection[int]) -> list[Any]:
    """Return the examples at places, each a row group and a row in it; None for those that are not ``chosen``."""
    found: list[Any] = [None] * len(places)
    of_group: dict[int, list[int]] = {}
    for number in sorted(chosen):
        of_group.setdefault(places[number][0], []).append(number)
    for group, numbers in of_group.items():
        column = content.read_row_group(group, ["example"], use_threads=False).column(0)
        for number, example in zip(numbers, column.take([places[number][1] for number in numbers]).to_pylist(), strict=True):
            found[number] = example
    return found


class Samples:
    """What a comparison needs of a run's ``samples.parquet``, read case by case."""

    def __init__(self, folder: Path) -> None:
        """Look which cases are where; raises `ValueError`, with a sentence, where the file is missing, damaged or of an older form."""
        import pyarrow.parquet as pq

        self.path = folder / "samples.parquet"
        self._read: tuple[int, Any] | None = None
        self._places: dict[str, list[tuple[int, int, int]]] = {}
        try:
            self._file = pq.ParquetFile(for_arrow(self.path))
            self.columns = [name for name in self._file.schema_arrow.names if name not in _OF_NO_ACCOUNT]
            if "statistic_shape" not in self.columns:
                raise ValueError("it was written by an older mpq, without what a comparison needs")
            for group in range(self._file.num_row_groups):
                self._find(group)
        except Exception as error:  # of damaged files pyarrow raises almost anything
            raise self._unreadable(error) from None

    @property
    def cases(self) -> list[str]:
        """The ids of the cases, in their order."""
        return list(self._places)

    def of(self, case: str) -> pa.Table:
        """Return the rows of a case that have no error; raises `ValueError`, with a sentence, where they cannot be read."""
        import pyarrow as pa
        from pyarrow import compute

        try:
            table = pa.concat_tables(self._group(group).slice(start, length) for group, start, length in self._places[case])
        except Exception as error:  # as above
            raise self._unreadable(error) from None
        return table.filter(compute.is_null(table.column("error"))) if "error" in self.columns else table

    def _find(self, group: int) -> None:
        """Note which stretches of a row group belong to which case."""
        import numpy as np

        column = self._file.read_row_group(group, ["case"]).column(0).combine_chunks().dictionary_encode()
        names, which = column.dictionary.to_pylist(), np.asarray(column.indices)
        starts = np.flatnonzero(np.diff(which, prepend=-1))
        for start, end in pairwise([*starts, len(which)]):
            self._places.setdefault(names[which[start]], []).append((group, int(start), int(end - start)))

    def _group(self, number: int) -> pa.Table:
        """Return a row group; the last one that was asked for is kept, since small cases share one."""
        if self._read is None or self._read[0] != number:
            self._read = None  # before the next one comes
            self._read = number, self._file.read_row_group(number, self.columns, use_threads=False)
        return self._read[1]

    def _unreadable(self, error: Exception) -> ValueError:
        return ValueError(f"{self.path} cannot be read: {str(error) or type(error).__name__}; run again, or give another folder")
