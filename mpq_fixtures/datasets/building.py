"""What ``datasets`` makes of folders and files: tables in Arrow files, which it keeps.

The first time that takes it a process's worth of memory: its own modules, and some 3 kB for each file of a folder. So that no worker is
larger for that as long as it lives, a process of its own does it and leaves (``python -m mpq_fixtures.datasets.building``).
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mpq_fixtures.datasets.listing import roots_of
from mpq_fixtures.datasets.mapped import files_of
from mpq_fixtures.plain_text import is_utf8
from mpq_fixtures.processes.endings import end_with_parent


class BuildingError(Exception):
    """What ``datasets`` said in another process."""


def build(path: str, settings: Mapping[str, Any], words: Mapping[str, str]) -> Any:
    """Let ``datasets`` make its tables, or find those that it made before: it remembers files by name and time of change.

    Of CSV files the columns that ``words`` names hold what is written there, see `as_written`. Returns its splits by name, and raises
    whatever it does.
    """
    import datasets

    class Sounds(datasets.Audio):  # type: ignore[misc]
        """Names of sound files; to note down a name ``datasets`` would want torchcodec, which it decodes with."""

        def encode_example(self, value: Any) -> Any:
            return {"bytes": None, "path": value}

    with quiet():
        with listed_once(path, settings):
            literal = {key: glob.escape(value) if key == "data_dir" and value else value for key, value in settings.items()}
            builder = datasets.load_dataset_builder(path, **literal)
        files = (str(file) for files in (builder.config.data_files or {}).values() for file in files)
        written = bool(words) and (path == "csv" or any(".csv" in file or ".tsv" in file for file in files))
        if written:  # which `datasets` must not take for the same tables
            with listed_once(path, settings):
                builder = datasets.load_dataset_builder(path, **literal, description=f"as written: {json.dumps(words)}")
        if getattr(builder, "BASE_FEATURE", None) is datasets.Audio:
            builder.BASE_FEATURE = Sounds
        with as_written(words) if written else nullcontext():
            builder.download_and_prepare()
        return builder.as_dataset()


def build_elsewhere(path: str, settings: Mapping[str, Any], words: Mapping[str, str], cache: Path) -> dict[str, list[str]] | None:
    """Let another process make the tables; return the files of each split.

    None where those do not tell all of it, or nothing came back: `build` has to do it here. Raises `BuildingError`.
    """
    asked = {"path": path, "settings": dict(settings), "words": dict(words), "parent": os.getpid()}
    modules = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109  # also where it is not UTF-8
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", __name__],  # nothing of the folder that it is started in is taken for a module
            input=json.dumps(asked).encode(),
            capture_output=True,
            check=False,
            env=os.environ | {"HF_DATASETS_CACHE": os.fspath(cache), "PYTHONPATH": modules},
        )
        answer = json.loads(done.stdout)
    except (OSError, ValueError):
        return None
    if "error" in answer:
        raise BuildingError(answer["error"])
    files: dict[str, list[str]] | None = answer["files"]
    return files


def reason_of(error: Exception) -> str:
    """Say why ``datasets`` did not open something: most of what it raises is wrapped in another."""
    cause = error.__cause__ or error
    return " ".join(str(cause).split()) or type(cause).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ``datasets`` from drawing progress bars and from warning about its own internals."""
    import datasets

    hidden, verbosity = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not hidden:
            datasets.enable_progress_bars()


@contextmanager
def as_written(words: Mapping[str, str]) -> Iterator[None]:
    """Let ``datasets`` read some columns of CSV files as they are written, where pandas would make numbers and gaps of words.

    ``words`` names the column of a ``text``, in which ``007`` and nothing are texts too, and of a ``label``, whose numbers stay numbers
    and whose empty cells stay empty.
    """
    import pandas as pd
    from datasets.packaged_modules.csv import csv
    from datasets.packaged_modules.folder_based_builder import folder_based_builder

    class Pandas:
        """Pandas, but for how it reads CSV files."""

        def __getattr__(self, name: str) -> Any:
            return getattr(pd, name)

        def read_csv(self, file: Any, **settings: Any) -> Iterator[pd.DataFrame]:
            raw = {**settings, "dtype": str, "keep_default_na": False, "na_filter": False}
            return map(restored, pd.read_csv(file, **settings), pd.read_csv(file, **raw))

    def restored(frame: pd.DataFrame, raw: pd.DataFrame) -> pd.DataFrame:
        text, label = words.get("text"), words.get("label")
        if text in frame:
            frame[text] = raw[text]
        if label in frame and not pd.api.types.is_numeric_dtype(frame[label]):
            frame[label] = raw[label].where(raw[label] != "", None)
        return frame

    modules = (csv, folder_based_builder)
    for module in modules:
        module.pd = Pandas()
    try:
        yield
    finally:
        for module in modules:
            module.pd = pd


@contextmanager
def listed_once(path: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """Let ``datasets`` list each folder of the data once, not for each of its patterns, and see the same files but those with names
    that it cannot take."""
    import fsspec  # type: ignore[import-untyped]
    from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

    roots = tuple(os.path.join(os.path.realpath(root), "") for root, _ in roots_of(path, settings))  # noqa: PTH118

    class Listed(LocalFileSystem):  # type: ignore[misc]
        """Local files as they were when they were first listed."""

        found: dict[tuple[str, int | None, bool], Any] = {}  # the class lives no longer than its one instance
        files: dict[str, Any] = {}

        def find(self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any) -> Any:
            if not detail or kwargs or not f"{path.rstrip('/')}/".startswith(roots):
                return super().find(path, maxdepth, withdirs, detail, **kwargs)
            asked = path, maxdepth, withdirs
            if asked not in self.found:
                found = super().find(path, maxdepth, withdirs, detail)
                self.found[asked] = {name: about for name, about in found.items() if name.isascii() or is_utf8(os.fsencode(name))}
                self.files.update(self.found[asked])
            return dict(self.found[asked])

        def info(self, path: Any, **kwargs: Any) -> Any:
            known = self.files.get(path) if isinstance(path, str) else None
            return dict(known) if known and known["type"] == "file" else super().info(path, **kwargs)

    for protocol in ("file", "local"):
        fsspec.register_implementation(protocol, Listed, clobber=True)
    try:
        yield
    finally:
        for protocol in ("file", "local"):
            fsspec.register_implementation(protocol, LocalFileSystem, clobber=True)


def _main() -> None:
    asked = json.load(sys.stdin)
    end_with_parent(asked["parent"])
    output, sys.stdout = sys.stdout, sys.stderr  # whatever libraries print
    try:
        answer: dict[str, Any] = {"files": files_of(build(asked["path"], asked["settings"], asked["words"]))}
    except Exception as error:
        answer = {"error": reason_of(error)}
    json.dump(answer, output)


if __name__ == "__main__":
    _main()
