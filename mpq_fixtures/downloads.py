"""Downloads over HTTP that are carried on where they broke, with a ``Range`` request (RFC 9110, section 14)."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

READ_TIMEOUT = 10.0
ATTEMPTS = 3
"""How often a file's download is tried again without a byte more."""

Progress = Callable[[int], object]
"""Is told of every number of bytes that came; a negative one takes back what comes again."""


class FetchError(Exception):
    """What could not be fetched; the message is a sentence that says what to do."""


def carry_on(url: str, part: Path, size: int, progress: Progress, headers: Mapping[str, str] | None = None) -> None:
    """Append to ``part`` what is missing of the ``size`` bytes at ``url``; what has come when this raises is kept there."""
    progress(min(size, size_of(part)))
    attempts = ATTEMPTS
    while (before := size_of(part)) < size or not part.exists():
        try:
            _append(url, part, size, progress, headers or {})
            if size_of(part) < size:
                raise ConnectionError(f"the connection ended after {size_of(part)} of {size} bytes")
        except Exception as error:
            attempts = ATTEMPTS if size_of(part) > before else attempts - 1
            if not attempts or getattr(error, "response", None) is not None or is_out_of_room(error):
                raise
            time.sleep(0.5)


def size_at(url: str) -> int:
    """Return how many bytes a server says that it has at ``url``."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    response = get_session().head(url, headers={"Accept-Encoding": "identity"}, timeout=READ_TIMEOUT, follow_redirects=True)
    hf_raise_for_status(response)
    return int(response.headers["Content-Length"])


def _append(url: str, part: Path, size: int, progress: Progress, headers: Mapping[str, str]) -> None:
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status  # type: ignore[attr-defined]

    start = size_of(part)
    span = {"Accept-Encoding": "identity", "Range": f"bytes={start}-"} if size else {}
    with get_session().stream("GET", url, headers={**headers, **span}, timeout=READ_TIMEOUT) as response:
        if response.status_code == 416:  # what has come is no beginning of what is there
            part.unlink(missing_ok=True)
        hf_raise_for_status(response)
        if response.status_code != 206 and start:  # the server sends the file from its beginning
            progress(-start)
            start = 0
        with part.open("ab" if start else "wb") as output:
            for chunk in response.iter_bytes():  # as they come: what a chunk of fixed size holds back is lost when the connection breaks
                output.write(chunk)
                output.flush()
                progress(len(chunk))


def progress_bar(name: str, size: int | None, shown: bool = True) -> Any:
    """Return a tqdm that counts bytes on a terminal; elsewhere, and where it is not to be ``shown``, there is no bar."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    return tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=None if shown else True)


def reason_of(error: BaseException) -> str:
    """Return the first line of what an error says."""
    return (str(error) or type(error).__name__).splitlines()[0]


def is_out_of_room(error: BaseException) -> bool:
    """Tell whether the disk is full."""
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


def size_of(path: Path) -> int:
    """Return a file's bytes, 0 where it is not there."""
    return path.stat().st_size if path.is_file() else 0
