"""Numbers with their words, for sentences that people read."""

from __future__ import annotations


def counted(number: int, word: str, words: str = "") -> str:
    """Write a number with its word: ``1 case``, ``2 cases``; ``words`` is a plural that no s makes."""
    return f"{number:,} {word if number == 1 else words or word + 's'}"
