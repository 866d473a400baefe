"""Data sets that are tables: one row a sample, opened with the ``datasets`` library or from a folder that has a reader of its own.

Columns hold pictures, sounds and masks as files inside the table or as names of files; nothing is decoded before it is asked for, and
always by `datasets.reading`: sounds keep their channels and their rate. The table itself is mapped from disk, not held in memory.
A sample's digest is that of its files' content, which is read when the sample is first asked for, and of its target.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from mpq_fixtures.datasets import coco, common_voice, musdb
from mpq_fixtures.datasets.building import quiet, reason_of
from mpq_fixtures.datasets.columns import Cells, Files, NoTargets, Table, Targets, files_of, groups_of
from mpq_fixtures.datasets.folders import FILES, read_folder
from mpq_fixtures.datasets.ids import twice
from mpq_fixtures.datasets.mapped import Mapped
from mpq_fixtures.datasets.opened import opened
from mpq_fixtures.datasets.reading import read_audio, read_image
from mpq_fixtures.datasets.sources import Sources
from mpq_fixtures.errors import AssetError, MissingAsset, nearest
from mpq_fixtures.hub import BUILDERS, dataset_files, dataset_repository, folders_beside, neighbours
from mpq_fixtures.hub.files import other_splits
from mpq_fixtures.paths import resolve
from mpq_fixtures.plain_text import is_utf8, plain
from mpq_fixtures.signals import Dataset, LazySamples, Modality, Sample, Signal
from mpq_fixtures.suite import Evaluation

FOLDERS: Mapping[str, ModuleType] = {"coco": coco, "common_voice": common_voice, "musdb18hq": musdb}
"""Folders with a layout of their own: modules with ``open_folder(folder, split)``, their ``COLUMNS`` and their ``LAYOUT``."""

_SPLIT = re.compile(r"\s*([\w.-]+)\s*(\[.*\])?\s*")
_SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk writes
_LAYOUTS = {
    "imagefolder": "<split>/<label>/*.jpg, or pictures and a metadata.csv whose columns end in file_name",
    "audiofolder": "<split>/*.wav and <split>/metadata.csv with a column file_name and the others",
}


def read_table(evaluation: Evaluation) -> Dataset:
    """Open the rows that an evaluation's data set names; raise `AssetError` where it cannot be had."""
    wanted = str(evaluation.dataset.get("split", ""))
    match = _SPLIT.fullmatch(wanted)
    if wanted and match is None:
        raise AssetError(f'{evaluation.name}: split {wanted!r}: name one split, whole or a stretch of it: "test" or "test[:60]"')
    split, within = (match[1], match[2] or "") if match else ("", "")
    if (folder := _bare_folder(evaluation)) is not None:
        return read_folder(evaluation, folder, evaluation.named_classes)
    table = _open(evaluation, split)
    if not len(table.rows):
        raise table.error("it has no rows")
    chosen = _chosen(table, within, evaluation.dataset.get("exclude", ()))
    key = evaluation.task.columns[0]
    signals = files_of(table, table.column(key), key)
    targets, labels = evaluation.task.targets(table) if evaluation.has_labels else (NoTargets(), evaluation.named_classes)
    rows = _Rows(table, chosen, signals, targets)
    samples = LazySamples(len(chosen), rows.sample, rows.sources, rows.names, rows.keys)
    misnamed = [] if within or table.base is None or evaluation.dataset["path"] not in BUILDERS else list(_misnamed(table, split))
    return Dataset([*samples, *map(_unreadable, misnamed)] if misnamed else samples, labels)


def _misnamed(table: Table, split: str) -> Iterator[str]:
    """Yield the names, from a table's folder on, of its split's files that ``datasets`` cannot take, since they are no UTF-8."""
    base, others = os.fsencode(table.base or ""), {os.fsencode(word) for word in other_splits(split)}
    ends = FILES[table.evaluation.task.modality] if table.evaluation.dataset["path"] in _LAYOUTS else ("",)
    for root, _, files in os.walk(base):
        within = root[len(base) + 1 :]
        for name in files:
            if name.isascii() and within.isascii():  # 50,000 times over
                continue
            path = os.path.join(within, name)  # noqa: PTH118  # bytes
            if is_utf8(path) or path.partition(os.fsencode(os.sep))[0] in others:
                continue
            if (shown := os.fsdecode(path)).lower().endswith(ends):
                yield shown


def _unreadable(name: str) -> Sample:
    """Return a sample of a file that cannot be in a table."""

    def say() -> Signal:
        raise ValueError(f"the name of the file {plain(name)} is not UTF-8: rename it")

    return Sample(name, hashlib.sha256(os.fsencode(name)).hexdigest(), 0, say, lambda: None)


def _bare_folder(evaluation: Evaluation) -> Path | None:
    """Return the folder of files that are read without a table: one that is named by nothing else, for an evaluation without labels."""
    path = evaluation.dataset["path"]
    if evaluation.has_labels or evaluation.dataset.keys() - {"path", "labels"} or path in FOLDERS or path in BUILDERS:
        return None
    folder = resolve(path, evaluation.folder, evaluation.name)
    saved = any((folder / file).is_file() for file in _SAVED)
    return folder if folder.is_dir() and not saved else None


def _open(evaluation: Evaluation, split: str) -> Table:
    """Open one split, wherever the data set is."""
    settings = evaluation.dataset
    path, named = settings["path"], {key: value for key, value in settings.items() if key in (*evaluation.task.columns, "id", "group")}
    if path in FOLDERS:
        reader = FOLDERS[path]
        folder = _folder_of(evaluation, reader.LAYOUT)
        try:
            rows, base = reader.open_folder(folder, split or "test")
        except AssetError as error:
            raise AssetError(f"{evaluation.name}: {error}") from None
        own = {key: column for key, column in reader.COLUMNS.items() if key != "group" or column in rows.column_names}
        return Table(rows, base, {**own, **named}, evaluation)
    if path in BUILDERS:
        files = _datafiles_of(settings.get("data_files"), evaluation)
        if "data_dir" not in settings and not files:
            raise AssetError(f'{evaluation.name}: data set {path!r}: say where it is: data_dir = "FOLDER" or data_files = "FILES"')
        base = _folder_of(evaluation, _LAYOUTS.get(path, "")) if "data_dir" in settings else None
        splits = _build(evaluation, path, name=settings.get("name"), data_dir=base and str(base), data_files=files)
        rows = _pick(splits, split, evaluation)
        return _table(rows, base or _folder_around((files or {}).get(split) or chain(*(files or {}).values())), named, evaluation)
    if (local := resolve(path, evaluation.folder, evaluation.name)).is_dir():
        splits = _load_saved(evaluation, local) or _build(evaluation, str(local), name=settings.get("name"))
        return _table(_pick(splits, split, evaluation), local, named, evaluation)
    if dataset_repository(evaluation) is None:
        if "/" in path and (evaluation.folder / path.partition("/")[0]).is_dir():
            advice = f"correct the path, or put the data set there{neighbours(local)}"
            raise AssetError(f"{evaluation.name}: data set {path!r}: no such folder {local}: {advice}")
        ways = nearest(path, [*folders_beside(local), *BUILDERS, *FOLDERS])
        raise AssetError(f"{evaluation.name}: data set {path!r}: no such folder, and a hub id is OWNER/NAME{ways}")
    if local_only := settings.keys() & {"data_dir", "data_files"}:
        raise AssetError(
            f"{evaluation.name}: data set {path!r}: {min(local_only)} says where local files are; of a data set on the hub the files "
            "follow from split, name and revision"
        )
    splits = _build(evaluation, "parquet", data_files={split or "rows": [str(file) for file in dataset_files(evaluation)]})
    return Table(_pick(splits, split or "rows", evaluation), None, named, evaluation)


def _table(rows: Any, base: Path | None, named: Mapping[str, Any], evaluation: Evaluation) -> Table:
    """Return a table of rows whose files lie in a folder, or in none that is known."""
    return Table(rows.within(base) if base and isinstance(rows, Mapped) else rows, base, named, evaluation)


def _folder_of(evaluation: Evaluation, layout: str) -> Path:
    """Return the folder that ``data_dir`` names; raise `AssetError` with the layout that is expected there where there is none."""
    path, named = evaluation.dataset["path"], evaluation.dataset.get("data_dir")
    expected = f"; expected {layout}" if layout else ""
    if named is None:
        raise AssetError(f"{evaluation.name}: data set {path!r}: data_dir is missing{expected}")
    try:
        folder = resolve(named, evaluation.folder, evaluation.name)
    except AssetError as error:
        raise MissingAsset(f"{error}{expected}") from None
    if not folder.is_dir():
        raise MissingAsset(f"{evaluation.name}: data set {path!r}: there is no folder {folder}{expected}")
    return folder


def _build(evaluation: Evaluation, path: str, **settings: Any) -> Any:
    """Let ``datasets`` make its table, or find the one that it made before: it remembers files by name and time of change."""
    try:
        return opened(path, settings, _words(evaluation))
    except Exception as error:  # of many kinds
        raise AssetError(f"{evaluation.name}: data set {evaluation.dataset_name!r} cannot be opened: {reason_of(error)}") from error


def _words(evaluation: Evaluation) -> dict[str, str]:
    """Return the columns that hold words, which are targets as they are written."""
    keys = [key for key in ("text", "label") if key in evaluation.task.columns and evaluation.has_labels]
    return {key: evaluation.dataset.get(key, key) for key in keys}


def _load_saved(evaluation: Evaluation, folder: Path) -> Any:
    """Open what ``save_to_disk`` wrote; None for any other folder."""
    if not any((folder / file).is_file() for file in _SAVED):
        return None
    import datasets

    try:
        with quiet():
            return datasets.load_from_disk(str(folder))
    except Exception as error:
        raise AssetError(f"{evaluation.name}: data set {folder} cannot be opened: {error}; save it again with save_to_disk") from error


def _pick(splits: Any, split: str, evaluation: Evaluation) -> Any:
    """Return a split; the only one where none is named."""
    if not isinstance(splits, Mapping):
        return splits  # saved without splits
    if not split and len(splits) == 1:
        return next(iter(splits.values()))
    if split not in splits:
        names = [str(name) for name in splits]
        problem = f"no split {split!r}{nearest(split, names)}" if split else f"name a split; there is: {', '.join(names)}"
        raise AssetError(f"{evaluation.name}: data set {evaluation.dataset_name!r}: {problem}")
    return splits[split]


def _datafiles_of(files: Any, evaluation: Evaluation) -> dict[str, list[str]] | None:
    """Return data files by split, from the suite file's folder on: one pattern, several, or a table of splits with either."""
    if files is None:
        return None
    by_split = files if isinstance(files, Mapping) else {str(evaluation.dataset.get("split", "train")).partition("[")[0].strip(): files}
    found = {split: [_pattern(one, evaluation) for one in ([some] if isinstance(some, str) else some)] for split, some in by_split.items()}
    for file in (file for some in found.values() for file in some):
        if next(glob.iglob(file, recursive=True), None) is None:  # noqa: PTH207  # a pattern of an absolute path
            plainly = re.sub(r"\[([*?[])\]", r"\1", file)
            raise MissingAsset(f"{evaluation.name}: data set {evaluation.dataset_name!r}: there is no file {plainly}")
    return found


def _pattern(files: str, evaluation: Evaluation) -> str:
    """Return the pattern for files from the suite file's folder on, in whose name, as in that of a file that there is, nothing is magic."""
    path = resolve(files, evaluation.folder, evaluation.name)
    if path.is_file():
        return glob.escape(str(path))
    inside = path.is_relative_to(evaluation.folder)
    return str(Path(glob.escape(str(evaluation.folder)), path.relative_to(evaluation.folder))) if inside else str(path)


def _folder_around(patterns: Iterable[str]) -> Path | None:
    """Return the folder in which all the files lie that patterns stand for; None where they lie in several."""
    files = (file for pattern in patterns for file in glob.iglob(pattern, recursive=True))  # noqa: PTH207  # as above
    folders = {os.path.dirname(file) for file in files if os.path.isfile(file)}  # noqa: PTH113, PTH120  # there may be 50,000
    resolved = {Path(folder).resolve() for folder in folders}
    return resolved.pop() if len(resolved) == 1 else None


def _chosen(table: Table, within: str, exclude: Sequence[int]) -> Sequence[int]:
    """Return the numbers of the rows that are meant, counted from the start of the split."""
    stretch = _stretch(table, within) if within else range(len(table.rows))
    named_end = re.search(r":\s*(\d+)\s*\]", within)  # a stretch may reach beyond the end, and so may what is left out of it
    end = max(len(table.rows), int(named_end[1]) if named_end else 0)
    if beyond := [row for row in exclude if row >= end]:
        raise table.error(f"exclude: there is no row {beyond[0]}; the split has {len(table.rows)} rows, counted from 0")
    left = [row for row in stretch if row not in set(exclude)] if exclude else stretch
    if not left:
        raise table.error(f"the stretch {within or 'of all rows'} of {len(table.rows)} rows is empty")
    return left


def _stretch(table: Table, within: str) -> range:
    import datasets

    try:
        found = datasets.ReadInstruction.from_spec(f"rows{within}").to_absolute({"rows": len(table.rows)})[0]
    except (ValueError, AssertionError) as error:
        raise table.error(f'split: {within!r} is no stretch of rows, such as "[:60]", "[100:200]" or "[:10%]": {error}') from None
    return range(found.from_ or 0, len(table.rows) if found.to is None else found.to)


class _Rows:
    """Samples of the chosen rows."""

    def __init__(self, table: Table, chosen: Sequence[int], signals: Files, targets: Targets) -> None:
        self._chosen, self._signals, self._targets = chosen, signals, targets
        read = read_image if table.evaluation.task.modality is Modality.IMAGE else read_audio
        self._read: Callable[[bytes], Signal] = partial(read, limits=table.evaluation.limits)
        self._id, self._group = _ids(table, signals), groups_of(table)
        self._sources = Sources(len(chosen), self._find, self._paths, signals.known)
        self.sources, self.keys = self._sources.of, self._sources.keys

    def sample(self, position: int) -> Sample:
        """Return a sample by its place among the chosen."""
        (source,), row = self.sources((position,)), self._chosen[position]
        name, signals, targets, read = self._id(row), self._signals, self._targets, self._read
        return Sample(name, source, self._sources.size(position), lambda: read(signals[row]), lambda: targets[row], self._group(row))

    def names(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Return ids and groups of samples by their places among the chosen."""
        return [(self._id(row), self._group(row)) for row in (self._chosen[position] for position in positions)]

    def _paths(self, position: int) -> Iterator[str | None]:
        row = self._chosen[position]
        return (files.path(row) for files in (self._signals, *self._targets.files))

    def _find(self, position: int) -> tuple[bytes, int]:
        """Return a digest of what a sample is made of, and the size of its signal's file."""
        row, digest, size = self._chosen[position], hashlib.sha256(), 0
        try:
            content, size = self._signals.digest(row)
            for part in (content, *self._targets.digests(row)):
                digest.update(part)
        except (OSError, ValueError) as error:  # it is said again, as the sample's failure, when the sample is read
            digest.update(f"{self._id(row)}: {error}".encode(errors="backslashreplace"))
        return digest.digest(), size


def _ids(table: Table, signals: Files) -> Callable[[int], str]:
    """Return what names a row: a column of its own, or its file; its number where files have no names or share one."""
    if "id" in table.columns:
        column = table.known(table.columns["id"], "id")
        cells = Cells(table.rows.data.column(column))
        if (shared := twice(lambda: (str(cells[row]) for row in range(len(table.rows))))) is not None:
            raise table.error(f"the column {column!r} for id has {shared!r} more than once: name one that tells the rows apart")
        return lambda row: str(cells[row])
    base, common = f"{table.base}{os.sep}", ""
    for path in (path for path in signals.names() if path and os.path.isabs(path) and not path.startswith(base)):  # noqa: PTH117
        if not common or not path.startswith(common):
            folder = os.path.dirname(path)  # noqa: PTH120
            common = os.path.join(os.path.commonpath([common or folder, folder]), "")  # noqa: PTH118  # with a separator at the end

    def named(path: str | None) -> str:  # the same wherever the files lie
        return (path or "").removeprefix(base).removeprefix(common).replace(os.sep, "/")

    count = 0
    for name in signals.names():
        if not named(name):
            return str
        count += 1
    if not count or twice(lambda: map(named, signals.names())) is not None:
        return str
    return lambda row: named(signals.name(row))
