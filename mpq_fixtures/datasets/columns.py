"""Columns of a table: files of pictures, sounds and masks, classes, texts and stems, read row by row."""

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
from typing import Any

import numpy as np

from mpq_fixtures.datasets.digests import file_digests
from mpq_fixtures.datasets.labels import Unnamed
from mpq_fixtures.datasets.reading import read_audio, read_mask
from mpq_fixtures.named import AssetError, nearest
from mpq_fixtures.signals import Audio, Target
from mpq_fixtures.suite import Evaluation

_TEXT_TYPES = ("string", "large_string")
_FILE_TYPES = ("binary", "large_binary", *_TEXT_TYPES)
_WITHHELD = -1  # a label, in hub data sets


@dataclass(frozen=True)
class Table:
    """An open split: its rows, the folder that names of files start from (None: there is no one such), and where its columns are."""

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

    def __init__(self, rows: Any, column: str) -> None:
        self._chunks = rows.data.column(column).chunks
        self._ends = list(accumulate(map(len, self._chunks)))

    def scalar(self, row: int) -> Any:
        """Return a cell as Arrow's scalar: nothing is copied."""
        number = bisect_right(self._ends, row)
        return self._chunks[number][row - (self._ends[number - 1] if number else 0)]

    def __getitem__(self, row: int) -> Any:
        return self.scalar(row).as_py()


def cells_of(rows: Any, column: str) -> Any:
    """Return a column's values by row, of whatever kind it is: those that ``datasets`` itself decodes are left to it."""
    import datasets

    if isinstance(rows.features[column], datasets.Value | datasets.ClassLabel):
        return Cells(rows, column)
    return rows.select_columns([column])[:][column]


class Files:
    """A column of files, inside the table or beside it."""

    def __init__(self, rows: Any, column: str, base: Path | None) -> None:
        import pyarrow

        self.rows, self.column, self.base = rows, column, base
        self._cells, self.known = Cells(rows, column), file_digests()
        kind = rows.data.column(column).type
        self._fields = {field.name for field in kind} if pyarrow.types.is_struct(kind) else None
        self._start = os.path.join(base.absolute(), "") if base is not None else ""  # noqa: PTH118  # with a separator at the end

    def __getitem__(self, row: int) -> bytes:
        """Return the file in a row; raises ``OSError`` or ``ValueError`` where there is none."""
        value = self._cell(row).as_py()
        if isinstance(value, str) and value and self.base is not None:
            value = (self.base / value).read_bytes()
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

    def path(self, row: int) -> str | None:
        """Return where the file in a row lies; None for one inside the table, or none."""
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
        return (name.as_py() for name in column) if _is_text(column.type) else iter(())

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


def files_of(table: Table, column: str, key: str) -> Files:
    """Return a column as files; raise `AssetError` where it holds something else."""
    import datasets

    feature = table.rows.features[column]
    rows = table.rows.select_columns([column])
    if isinstance(feature, (datasets.Image, datasets.Audio)):
        rows = rows.cast_column(column, (datasets.Image if isinstance(feature, datasets.Image) else datasets.Audio)(decode=False))
    elif not (isinstance(feature, dict) and feature.keys() & {"bytes", "path"}) and getattr(feature, "dtype", "") not in _FILE_TYPES:
        raise table.error(f"the column {column!r} for {key} holds {_kind(feature)}, neither files nor names of files")
    files = Files(rows, column, table.base)
    if table.base is None and "data_files" in table.evaluation.dataset:
        name = next((name for name in files.names(outside=True) if name and not Path(name).is_absolute()), None)
        if name is not None:
            where = "the data files lie in several folders, and nothing says from which one"
            raise table.error(f'{where} {name!r} in the column {column!r} starts: write data_dir = "FOLDER"')
    return files


def _kind(feature: Any) -> str:
    return getattr(feature, "dtype", None) or type(feature).__name__.lower()


def targets_of(table: Table) -> tuple[Targets, tuple[str, ...]]:
    """Return the targets of the task, and the names of the classes that they index."""
    match table.evaluation.task.columns[1]:
        case "label":
            targets = _Labels(table, table.column("label"))
            return targets, targets.names
        case "mask":
            named = table.evaluation.dataset.get("labels", ())
            return _Masks(files_of(table, table.column("mask"), "mask")), () if isinstance(named, str) else tuple(named)
        case "text":
            return _Texts(table, table.column("text")), ()
        case _:
            return _Stems(table), ()


def groups_of(table: Table) -> Callable[[int], str]:
    """Return what tells a row's group, from the column that the suite file names; "", which is a group alone, where it names none."""
    if "group" not in table.columns:
        return lambda row: ""
    column = table.known(table.columns["group"], "group")
    whole = _is_whole(table.rows, column)
    if not whole and getattr(table.rows.features[column], "dtype", "") not in _TEXT_TYPES:
        raise table.error(f"the column {column!r} for group holds {_kind(table.rows.features[column])}, neither texts nor whole numbers")
    cells = Cells(table.rows, column)

    def group(row: int) -> str:
        value = cells[row]
        return "" if _is_missing(value) else str(int(value) if whole else value)

    return group


class _Labels(Targets):
    """Class indices: numbers, or names among the data set's."""

    def __init__(self, table: Table, column: str) -> None:
        import datasets

        feature = table.rows.features[column]
        texts = getattr(feature, "dtype", "") in _TEXT_TYPES
        if not texts and not str(getattr(feature, "dtype", "")).startswith("bool") and not _is_whole(table.rows, column):
            raise table.error(f"the column {column!r} for label holds {_kind(feature)}, neither whole numbers nor names of classes")
        self._cells, self._column = Cells(table.rows, column), column
        there: list[Any] = [
            value if texts else int(value) for value in table.rows.unique(column) if not _is_missing(value) and value != _WITHHELD
        ]
        own = feature.names if isinstance(feature, datasets.ClassLabel) else sorted(there) if texts else ()
        if not there:
            raise table.error(f"the column {column!r} for label is empty: the labels of this split are withheld; take another split")
        named = table.evaluation.dataset.get("labels", ())
        self.names: tuple[str, ...] = tuple(own if isinstance(named, str) or not named else named)
        if not self.names:
            self.names = Unnamed(min(there), max(there))
        if self.names and not isinstance(named, str) and own and len(own) != len(self.names) and not texts:
            raise table.error(f"labels has {len(self.names)} names, and the column {column!r} has {len(own)} classes: {_few(own)}")
        self._index = {name: index for index, name in enumerate(self.names)}
        known = {name if texts else index for index, name in enumerate(self.names) if name or texts}
        for value in there:
            if value not in known and (self.names or value < 0):
                ways = nearest(str(value), self.names) if texts else f": labels are 0 to {len(self.names) - 1}" if self.names else ""
                raise table.error(f"unknown label {value!r} in the column {column!r}{ways}")

    def digests(self, row: int) -> Iterator[bytes]:
        index = self[row]
        yield _digest(f"{index} {self.names[index] if self.names else ''}")

    def __getitem__(self, row: int) -> int:
        value = self._cells[row]
        if _is_missing(value) or value == _WITHHELD:
            raise ValueError(f"row {row} has no label in the column {self._column!r}")
        return self._index[value] if isinstance(value, str) else int(value)


class _Masks(Targets):
    """Class maps, as they are stored."""

    def __init__(self, files: Files) -> None:
        self.files = (files,)

    def digests(self, row: int) -> Iterator[bytes]:
        yield self.files[0].digest(row)[0]

    def __getitem__(self, row: int) -> Target:
        return read_mask(self.files[0][row])


class _Texts(Targets):
    """What was said."""

    def __init__(self, table: Table, column: str) -> None:
        feature = table.rows.features[column]
        # Readers of tables make numbers of texts that are all digits; 1.0 without a gap was written so.
        self._numbers = _is_whole(table.rows, column, with_gaps=True)
        if not self._numbers and getattr(feature, "dtype", "") not in _TEXT_TYPES:
            raise table.error(f"the column {column!r} for text holds {_kind(feature)}, not texts")
        self._cells, self._column = Cells(table.rows, column), column

    def digests(self, row: int) -> Iterator[bytes]:
        yield _digest(self[row])

    def __getitem__(self, row: int) -> str:
        value = self._cells[row]
        if _is_missing(value):
            raise ValueError(f"row {row} has no text in the column {self._column!r}")
        return str(int(value) if self._numbers else value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _is_whole(rows: Any, column: str, with_gaps: bool = False) -> bool:
    """Tell whether a column holds whole numbers: floating-point ones too, which pandas makes of them where one is missing.

    ``with_gaps`` takes these only where one is.
    """
    kind = str(getattr(rows.features[column], "dtype", ""))
    if not kind.startswith("float"):
        return kind.startswith(("int", "uint"))
    there = rows.unique(column)
    return (not with_gaps or any(map(_is_missing, there))) and all(_is_missing(value) or float(value).is_integer() for value in there)


class _Stems(Targets):
    """Stems by name, each a column of sounds or the sum of several."""

    def __init__(self, table: Table) -> None:
        wanted = table.columns.get("stems")
        if not wanted:
            others = ", ".join(name for name in table.rows.column_names if name != table.column("mixture"))
            raise table.error(f'stems is missing: write stems = {{ vocals = "COLUMN", other = ["COLUMN", "COLUMN"] }}; there is: {others}')
        named = wanted if isinstance(wanted, Mapping) else {name: name for name in wanted}
        self._files = {
            stem: [files_of(table, table.known(column, f"stems.{stem}"), "stems") for column in ([some] if isinstance(some, str) else some)]
            for stem, some in named.items()
        }
        self.files = [files for columns in self._files.values() for files in columns]

    def digests(self, row: int) -> Iterator[bytes]:
        for stem, columns in self._files.items():
            yield _digest(stem)
            yield from (files.digest(row)[0] for files in columns)

    def __getitem__(self, row: int) -> Target:
        stems, rates = {}, set()
        for stem, columns in self._files.items():
            sounds = [read_audio(files[row]) for files in columns]
            rates |= {sound.sample_rate for sound in sounds}
            if len({sound.waveform.shape for sound in sounds}) > 1:
                raise ValueError(f"the columns of the stem {stem!r} differ in channels or length and cannot be summed")
            stems[stem] = Audio(np.sum([sound.waveform for sound in sounds], axis=0, dtype=np.float32), sounds[0].sample_rate)
        if len(rates) > 1:
            raise ValueError(f"the stems differ in sample rate: {', '.join(f'{rate} Hz' for rate in sorted(rates))}")
        return stems


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
