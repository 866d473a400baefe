"""Errors that people read: what cannot be used and what to do about it, and the words that such sentences are made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from mpq_fixtures.plain_text import plain


class AssetError(Exception):
    """A model or a data set that cannot be used as the suite file names it; the message says which and what to do about it."""


class MissingAsset(AssetError):
    """One that is not on this machine: its cases are skipped, unless the run is strict."""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """Return the end of a sentence about an unknown name: the one that may have been meant, and all that there are.

    ``cutoff`` says how like it must be, as `difflib` measures it.
    """
    known = list(known)
    if not known:
        return ""
    close, listed = difflib.get_close_matches(name, known, n=1, cutoff=cutoff), f"{'is' if len(known) == 1 else 'are'}: {', '.join(known)}"
    return f"; did you mean {close[0]!r}? There {listed}" if close else f"; there {listed}"


def describe_error(error: BaseException) -> str:
    """Return an exception in one plain line: its type and what it says."""
    try:
        said = str(error)
    except Exception:  # an exception of somebody else's, whose own text fails
        said = ""
    return plain(" ".join(f"{type(error).__name__}: {said}".split()).removesuffix(":"))


def describe_type(value: object) -> str:
    """Return the words for what a callable returned instead of what it should have."""
    return "None" if value is None else f"an instance of {type(value).__name__}"
