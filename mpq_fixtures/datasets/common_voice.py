"""Mozilla Common Voice as it is downloaded: one folder a language, with ``clips/`` and a table for each split.

Since October 2025 the Mozilla Data Collective is its only source; its terms forbid to host it elsewhere. A table is tab-separated,
unquoted, with the columns ``path`` (a file in ``clips``) and ``sentence`` among others (Ardila et al. 2020, arXiv 1912.06670).
``client_id`` is who spoke, 128 hex digits, of which the first 16 tell people apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mpq_fixtures.errors import AssetError

LAYOUT = "clips/*.mp3 with validated.tsv, dev.tsv or test.tsv, the folder of one language in an archive of the Mozilla Data Collective"
COLUMNS = {"audio": "path", "text": "sentence", "group": "client_id"}
_SPEAKER = 16
_ALIASES = {"validation": "dev"}  # what the hub called it


def open_folder(folder: Path, split: str) -> tuple[Any, Path]:
    """Return the table of a split, and the folder that its file names start from."""
    import datasets
    from pyarrow import compute, csv

    file = folder / f"{_ALIASES.get(split, split)}.tsv"
    if not (folder / "clips").is_dir() or not (tables := sorted(path.stem for path in folder.glob("*.tsv"))):
        raise AssetError(f"{folder} is not a Common Voice folder: expected {LAYOUT}")
    if not file.is_file():
        raise AssetError(f"{folder} has no {file.name}: name a split that it has: {', '.join(tables)}")
    unquoted = csv.ParseOptions(delimiter="\t", quote_char=False)
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        names = opened.readline().rstrip("\r\n").split("\t")
    wanted = [name for key, name in COLUMNS.items() if key != "group" or name in names]
    texts = csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, "string"))
    try:
        table = csv.read_csv(file, parse_options=unquoted, convert_options=texts)
    except (ValueError, KeyError) as error:
        raise AssetError(f"{file} cannot be read: {error}; expected {LAYOUT}") from error
    if (speaker := COLUMNS["group"]) in wanted:
        short = compute.utf8_slice_codeunits(table[speaker], 0, _SPEAKER)
        table = table.set_column(wanted.index(speaker), speaker, short)
    return datasets.Dataset(datasets.table.InMemoryTable(table)), folder / "clips"
