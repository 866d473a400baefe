"""Columns of a table: files, groups, and what targets are made of, read row by row."""

from __future__ import annotations

import hashlib
import math
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpq_fixtures.datasets.digests import file_digests
from mpq_fixtures.errors import AssetError, nearest
from mpq_fixtures.files import read_regular
from mpq_fixtures.signals import Limits, Target

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation

TEXT_TYPES = ("string", "large_string")
_TOGETHER = 4096  # names of files that are made texts at once
_FILE_TYPES = ("binary", "large_binary", *TEXT_TYPES)


@dataclass(frozen=True)
class Table:
    """An open split: its rows, the folder that names of files start from (None: there is no one such), and where its columns are.

    ``rows`` is a `datasets.Dataset`, or as much of one as `mapped.Mapped` has.
    """

    rows: Any
    base: Path | None
    columns: Mapping[str, Any]
    evaluation: Evaluation

    def column(self, key: str) -> str:
        """Return the column of a task's key: the one that the suite file names, or the folder's own, or that of the same name."""
        return self.known(self.columns.get(key, key), key)

    def known(self, column: Any, key: str) -> str:
        """Return the column, or say that there is no such one."""
        names = self.rows.column_names
        if not isinstance(column, str) or column not in names:
            raise self.error(f'no column {column!r} for {key}; write {key} = "COLUMN"{nearest(str(column), names)}')
        return column

    def error(self, problem: str) -> AssetError:
        """Return an error that names the evaluation and its data set."""
        return AssetError(f"{self.evaluation.name}: data set {self.evaluation.dataset_name!r}: {problem}")


class Cells:
    """A column, cell by cell and straight from Arrow, which costs a tenth of what it costs through a row of ``datasets``."""

    def __init__(self, column: Any) -> None:
        """Take a chunked array."""
        self._chunks = column.chunks
        self._ends = list(accumulate(map(len, self._chunks)))

    def scalar(self, row: int) -> Any:
        """Return a cell as Arrow's scalar: nothing is copied."""
        number = bisect_right(self._ends, row)
        return self._chunks[number][row - (self._ends[number - 1] if number else 0)]

    def __getitem__(self, row: int) -> Any:
        return self.scalar(row).as_py()


class Files:
    """A column of files, inside the table or beside it."""

    def __init__(self, rows: Any, column: str, base: Path | None, limits: Limits = Limits()) -> None:  # noqa: B008  # it is immutable
        import pyarrow

        self.rows, self.column, self.base, self.limits = rows, column, base, limits
        self._cells, self.known = Cells(rows.data.column(column)), file_digests()
        kind = rows.data.column(column).type
        self._fields = {field.name for field in kind} if pyarrow.types.is_struct(kind) else None
        self._start = os.path.join(base.absolute(), "") if base is not None else ""  # noqa: PTH118  # with a separator at the end
        self._outside = self._all_outside()

    def __getitem__(self, row: int) -> bytes:
        """Return the file in a row; raises ``OSError`` or ``ValueError`` where there is none."""
        if (path := self.path(row)) is not None:
            return read_regular(path)
        value = self._cell(row).as_py()
        if not isinstance(value, bytes):
            raise ValueError(f"row {row} has no file in the column {self.column!r}")
        return value

    def digest(self, row: int) -> tuple[bytes, int]:
        """Return the SHA-256 digest of the file in a row, and its size; raises as reading it does."""
        if (path := self.path(row)) is not None:
            with suppress(OSError):
                return self.known.of(path)
        cell = self._cell(row)
        inside = memoryview(cell.as_buffer()) if cell.is_valid and _is_binary(cell.type) else self[row]
        return hashlib.sha256(inside).digest(), len(inside)

    def _all_outside(self) -> Cells | None:
        """Return the names of the files, where all of them lie outside of the table; that is seen at once."""
        from pyarrow import compute

        column = self.rows.data.column(self.column)
        if self._fields is not None:
            inside = compute.struct_field(column, "bytes").null_count if "bytes" in self._fields else len(column)
            if "path" not in self._fields or inside < len(column):
                return None
            column = compute.struct_field(column, "path")
        return Cells(column) if _is_text(column.type) else None

    def path(self, row: int) -> str | None:
        """Return where the file in a row lies; None for one inside the table, or none."""
        if self._outside is not None:
            name = self._outside[row]
        else:
            cell = self._cell(row)
            name = cell.as_py() if _is_text(cell.type) else None
        return os.path.join(self._start, name) if name and self.base is not None else None  # noqa: PTH118  # 50,000 times over

    def _cell(self, row: int) -> Any:
        cell = self._cells.scalar(row)
        if self._fields is None:
            return cell
        inside = cell["bytes"] if "bytes" in self._fields else None
        return inside if (inside is not None and inside.is_valid) or "path" not in self._fields else cell["path"]

    def names(self, outside: bool = False) -> Iterator[str | None]:
        """Yield the names of the files, or only of those ``outside`` the table; nothing where files have none."""
        import pyarrow
        from pyarrow import compute

        column = self.rows.data.column(self.column)
        if pyarrow.types.is_struct(column.type):
            fields = [field.name for field in column.type]
            names = compute.struct_field(column, "path") if "path" in fields else pyarrow.nulls(0, pyarrow.string())
            column = names.filter(compute.struct_field(column, "bytes").is_null()) if outside and {"path", "bytes"} <= {*fields} else names
        if not _is_text(column.type):
            return iter(())
        return (name for start in range(0, len(column), _TOGETHER) for name in column.slice(start, _TOGETHER).to_pylist())

    def name(self, row: int) -> str | None:
        """Return the name of the file in a row; None where it has none."""
        cell = self._cells.scalar(row)
        if self._fields is not None:
            cell = cell["path"]
        name: str | None = cell.as_py()
        return name


def _is_text(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind))


def _is_binary(kind: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind))


class Targets(ABC):
    """What a model should answer in each row; ``files`` are those that it is made of."""

    files: Sequence[Files] = ()

    @abstractmethod
    def digests(self, row: int) -> Iterator[bytes]:
        """Yield the SHA-256 digests of all that the target is made of."""

    @abstractmethod
    def __getitem__(self, row: int) -> Target:
        """Return the target; raises ``OSError`` or ``ValueError`` where there is none."""


class NoTargets(Targets):
    """Nothing: of data without labels."""

    def digests(self, row: int) -> Iterator[bytes]:
        """Yield nothing."""
        return iter(())

    def __getitem__(self, row: int) -> Target:
        raise ValueError(f"row {row} has no target: its data set is read without labels")


def files_of(table: Table, column: str, key: str) -> Files:
    """Return a column as files; raise `AssetError` where it holds something else."""
    feature = table.rows.features[column]
    inside = type_of(feature) in ("Image", "Audio") or (isinstance(feature, dict) and feature.keys() & {"bytes", "path"})
    if not inside and getattr(feature, "dtype", "") not in _FILE_TYPES:
        raise table.error(f"the column {column!r} for {key} holds {kind_of(feature)}, neither files nor names of files")
    scattered = table.base is None and "data_files" in table.evaluation.dataset  # no data set of the hub, whose names are not followed
    files = Files(table.rows, column, Path(os.sep) if scattered else table.base, table.evaluation.limits)
    if scattered:
        name = next((name for name in files.names(outside=True) if name and not Path(name).is_absolute()), None)
        if name is not None:
            where = "the data files lie in several folders, and nothing says from which one"
            raise table.error(f'{where} {name!r} in the column {column!r} starts: write data_dir = "FOLDER"')
    return files


def type_of(feature: Any) -> str:
    """Return the name of a feature's type: ``Image``, ``ClassLabel``; "" for several features by name."""
    return getattr(feature, "_type", "")


def kind_of(feature: Any) -> str:
    """Return the word of ``datasets`` for what a column holds."""
    return getattr(feature, "dtype", None) or type_of(feature).lower() or type(feature).__name__.lower()


def groups_of(table: Table) -> Callable[[int], str]:
    """Return what tells a row's group, from the column that the suite file names; "", which is a group alone, where it names none."""
    if "group" not in table.columns:
        return lambda row: ""
    column = table.known(table.columns["group"], "group")
    whole = is_whole(table.rows, column)
    if not whole and getattr(table.rows.features[column], "dtype", "") not in TEXT_TYPES:
        raise table.error(f"the column {column!r} for group holds {kind_of(table.rows.features[column])}, neither texts nor whole numbers")
    cells = Cells(table.rows.data.column(column))

    def group(row: int) -> str:
        value = cells[row]
        return "" if is_missing(value) else str(int(value) if whole else value)

    return group


def is_missing(value: Any) -> bool:
    """Tell whether a cell is empty."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def is_whole(rows: Any, column: str, with_gaps: bool = False) -> bool:
    """Tell whether a column holds whole numbers: floating-point ones too, which pandas makes of them where one is missing.

    ``with_gaps`` takes these only where one is.
    """
    kind = str(getattr(rows.features[column], "dtype", ""))
    if not kind.startswith("float"):
        return kind.startswith(("int", "uint"))
    there = rows.unique(column)
    return (not with_gaps or any(map(is_missing, there))) and all(is_missing(value) or float(value).is_integer() for value in there)


def digest_of_text(text: str) -> bytes:
    """Return the SHA-256 digest of a text."""
    return hashlib.sha256(text.encode()).digest()
