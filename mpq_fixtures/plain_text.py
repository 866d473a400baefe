"""Texts from outside, made plain where they come in: what data, models, codecs and suite files say acts in no terminal and no page."""

from __future__ import annotations

import re

_UNSEEN = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
_IN_A_LINE, _IN_LINES = re.compile(f"[{_UNSEEN}\t\n]"), re.compile(f"[{_UNSEEN}]")


def plain(value: object, lines: bool = False) -> str:
    r"""Return a text that shows all of itself and that every file can hold; one that does already is returned as it is.

    What is no character stands as the byte of a name that is no UTF-8, ``\xff``, or as ``\ud800``; what moves the cursor or turns the
    direction of writing (Unicode's control and bidirectional characters, UTR 36) as ``\x1b`` or ``\u202e``. ``lines`` keeps line breaks
    and tabs.
    """
    text = value if type(value) is str else str(value)
    return text if text.isprintable() else (_IN_LINES if lines else _IN_A_LINE).sub(_escaped, text)


def is_utf8(name: bytes) -> bool:
    """Tell whether a file's name is UTF-8."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _escaped(match: re.Match[str]) -> str:
    number = ord(match[0])
    if 0xDC80 <= number <= 0xDCFF:  # how Python stands in for a byte (PEP 383)
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
