"""Writes the rows of a case, as they come, to a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpq_fixtures.files import for_arrow, put_in_place, temporary_beside
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.rows.tables import columns_of, named, scores_in, shapes_of, table_of, together

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_BYTES = 2**20
"""Bytes of a row group in memory, about: what a reader holds at a time."""


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
        table = named(table, columns)
        if self._first is None:
            self._first = table.slice(0, 0)
        table = together([self._first, table])
        self._shapes |= shapes_of(table.schema)
        self._scored |= {name: None for name in scores_in(table.column_names) if table.column(name).null_count < len(table)}
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
