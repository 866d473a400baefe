"""Tables that ``datasets`` has made, mapped from their Arrow files: where columns are not nested it is not needed for that."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def mapped(files: Sequence[str]) -> Any:
    """Return the table in Arrow files, mapped from disk: where columns are nested by ``datasets``, which takes a second to import."""
    import pyarrow as pa

    data = pa.concat_tables([pa.ipc.open_stream(pa.memory_map(file)).read_all() for file in files])
    if data.nbytes <= _NAMES * len(data):
        data = data.combine_chunks()
    told = _told(data.schema)
    if all(one.get("_type") in _PLAIN for one in told.values()) and list(told) == data.column_names:
        return Mapped(data, {name: Feature(one["_type"], one.get("dtype", ""), one.get("names")) for name, one in told.items()})
    import datasets

    parts = [datasets.Dataset.from_file(file) for file in files]
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def files_of(splits: Mapping[Any, Any]) -> dict[str, list[str]] | None:
    """Return the files that hold the splits, if they alone do; None where more than they belongs to what ``datasets`` has made."""
    try:
        files = {str(name): [part["filename"] for part in split.cache_files] for name, split in splits.items()}
        for name, split in splits.items():
            again = mapped(files[str(name)])
            if len(again) != len(split) or _told(again.data.schema) != split.features.to_dict():
                return None
    except Exception:  # as above: what there is then is what `datasets` has
        return None
    return files


def _told(schema: pa.Schema) -> dict[str, Any]:
    """Return the features that ``datasets`` wrote into a file."""
    features: dict[str, Any] = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    return features


_FILES = {"Image", "Audio"}
_PLAIN = {"Value", "ClassLabel", *_FILES}
"""Types of features that hold no others."""


_NAMES = 256
"""Bytes a row, at most, of a table of names: in memory and in one piece they take less than a thousand mapped batches."""


class Feature:
    """What ``datasets`` says of a column, as its own features have it; ``names`` are the classes of a ``ClassLabel``."""

    def __init__(self, kind: str, dtype: str, names: list[str] | None) -> None:
        self._type, self.names = kind, names
        self.dtype = {"ClassLabel": "int64", "Image": "PIL.Image.Image", "Audio": "dict"}.get(kind, dtype)


@dataclass(frozen=True)
class Mapped:
    """A table that is mapped from disk, with what data sets ask of a `datasets.Dataset`, and as there."""

    data: pa.Table
    features: Mapping[str, Feature]

    @property
    def column_names(self) -> list[str]:
        """The names of the columns."""
        return list(self.features)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def within(self, folder: Path) -> Mapped:
        """Return the table with the names of files from a folder on, where all of a column lie in it: it is half the table."""
        data = self.data
        for place, (name, feature) in enumerate(self.features.items()):
            if feature._type in _FILES and (shorter := _without(f"{folder.absolute()}{os.sep}", data.column(name))) is not None:
                data = data.set_column(place, data.schema.field(name), shorter)
        return replace(self, data=data)

    def unique(self, column: str) -> list[Any]:
        """Return the values of a column, each once."""
        return list(self.data.column(column).unique().to_pylist())


def _without(start: str, column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column of files whose names lack what all of them start with; None where it is no such column."""
    import pyarrow as pa
    from pyarrow import compute

    if {field.name for field in column.type} != {"bytes", "path"} or compute.struct_field(column, "bytes").null_count < len(column):
        return None
    names = compute.struct_field(column, "path")
    shorter = compute.utf8_slice_codeunits(names, len(start))
    alike = compute.and_(compute.starts_with(names, start), compute.invert(compute.starts_with(shorter, os.sep)))
    if names.null_count or not compute.all(alike).as_py():
        return None
    fields = {"path": shorter.combine_chunks(), "bytes": pa.nulls(len(column), column.type.field("bytes").type)}
    return pa.chunked_array([pa.StructArray.from_arrays([fields[field.name] for field in column.type], fields=list(column.type))])
