"""The files beside a report of many cases: pages of evaluations, and what they load when it is looked at.

Media are named after their content and never after anything that data say; the same sound at two points is one file. Files that no page
names any more are removed, others in the folder are left alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mpq_fixtures.files import write_atomically
from mpq_fixtures.report.gallery import MEDIA_TYPES, MediaSink

NAME = "report_files"
ENDINGS = {kind: kind.rpartition("/")[2] for kind in MEDIA_TYPES}
_OURS = re.compile(rf"evaluation-\d+\.html|[0-9a-f]{{32}}\.({'|'.join(ENDINGS.values())}|js)")


class Beside(MediaSink):
    """The folder ``report_files`` beside a report, and what of it is in use."""

    def __init__(self, folder: Path) -> None:
        """Take the folder of the report."""
        self.folder = folder / NAME
        self._used: set[str] = set()

    def uri(self, part: Mapping[str, Any]) -> str:
        """Have a picture or a sound as a file, and return its name, which is its address on a page beside it."""
        return self.keep(bytes(part["data"]), ENDINGS[part["media_type"]])

    def keep(self, content: bytes, ending: str) -> str:
        """Have a file of this content, and return its name."""
        name = f"{hashlib.sha256(content).hexdigest()[:32]}.{ending}"
        if name not in self._used and not (self.folder / name).exists():
            write_atomically(self.folder / name, content)
        self._used.add(name)
        return name

    def write(self, name: str, page: str) -> None:
        """Write a page."""
        write_atomically(self.folder / name, page.encode("utf-8", "replace"))
        self._used.add(name)

    def sweep(self) -> None:
        """Remove the files of earlier reports that are not in use, and the folder if nothing is left in it."""
        if not self.folder.is_dir():
            return
        for file in self.folder.iterdir():
            if _OURS.fullmatch(file.name) and file.name not in self._used:
                file.unlink()
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
