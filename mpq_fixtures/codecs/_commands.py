"""What a suite file says of a codec behind two commands, under ``[[codec]]``: read, and held to what it can be."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mpq_fixtures.codecs import AUDIO, IMAGE, CodecError
from mpq_fixtures.errors import nearest
from mpq_fixtures.signals import Modality

_PART = re.compile(r"[a-z0-9_.]+")
_SUFFIX = re.compile(r"\.[A-Za-z0-9.]+")
_KINDS = {IMAGE: (".png", ".ppm"), AUDIO: (".wav", ".raw")}


@dataclass(frozen=True)
class Commands:
    """What a suite file says of a command-line codec.

    ``encode`` and ``decode`` are words of a command, without a shell between; ``{input}``, ``{output}`` and ``{quality}`` stand for the
    files and for what ``qualities`` holds under the quality's name, from the lowest rate to the highest. ``signal`` is the suffix of the
    files that the encoder reads and the decoder writes, ``bitstream`` that of the file in between. ``version`` is a command whose output
    is part of every cache key, ``install`` what a message says where a program is missing, ``seconds`` what a call may take.

    Pictures whose sides are no ``multiple`` of the number that a format asks for are enlarged by repeating their last row and column,
    and cut again behind the decoder. Sounds come as 16-bit files of one or two channels, at ``sample_rate`` Hz if that is given, in one
    stream for each channel where ``channels`` is 1. ``delay`` samples are dropped before what is decoded, and ``padding`` samples of
    silence put behind what is encoded. Programs and files that the commands name by relative paths lie in ``folder``.
    """

    name: str
    encode: tuple[str, ...]
    decode: tuple[str, ...]
    qualities: Mapping[str, str]
    bitstream: str
    signal: str
    version: tuple[str, ...] = ()
    install: str = ""
    seconds: float = 60.0
    sample_rate: int | None = None
    channels: int = 2
    delay: int = 0
    padding: int = 0
    multiple: int = 1
    folder: str = ""

    @staticmethod
    def from_plain(content: dict[str, Any]) -> Commands:
        """Restore what `dataclasses.asdict` made, also after JSON, which knows no tuples."""
        plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
        return Commands(**plain)


def read_commands(table: Any) -> tuple[Modality, Commands]:
    """Return what a table under ``[[codec]]`` declares, and of which modality; raises `CodecError` with what would be right."""
    if not isinstance(table, dict):
        raise CodecError("write each codec as a table under [[codec]], with two brackets")
    modality = {"image": IMAGE, "audio": AUDIO}.get(str(table.get("modality")))
    if modality is None:
        raise CodecError('modality: write "image" or "audio"')
    readers: dict[str, Callable[[Any], Any]] = {
        "name": _name,
        "encode": lambda value: _words(value, "{input}", "{output}"),
        "decode": lambda value: _words(value, "{input}", "{output}"),
        "qualities": _qualities,
        "bitstream": _suffix,
        "signal": lambda value: _one_of(value, _KINDS[modality]),
        "version": lambda value: _words(value),
        "install": _text,
        "seconds": _positive,
    }
    if modality is IMAGE:
        readers["multiple"] = _multiple
    else:
        readers |= {"sample_rate": _whole, "channels": lambda value: _one_of(value, (1, 2)), "delay": _whole, "padding": _whole}
    for key in table:
        if key not in (*readers, "modality"):
            raise CodecError(f"unknown key {key!r}{nearest(key, [*readers, 'modality'])}")
    for key in ("name", "encode", "decode", "qualities", "bitstream"):
        if key not in table:
            raise CodecError(f"{key!r} is missing")
    given: dict[str, Any] = {"signal": _KINDS[modality][0]}
    for key, read in readers.items():
        if key in table:
            try:
                given[key] = read(table[key])
            except CodecError as error:
                raise CodecError(f"{key}: {error}") from None
    commands = Commands(**given)
    if commands.signal == ".raw" and (commands.sample_rate is None or commands.channels != 1):
        raise CodecError('signal: ".raw" has neither rate nor channels in it: give sample_rate and channels = 1')
    return modality, commands


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _PART.fullmatch(value):
        raise CodecError(f"{value!r} must be lower case letters, digits, '_' and '.'")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise CodecError(f"{value!r} must be a text")
    return value


def _words(value: Any, *needed: str) -> tuple[str, ...]:
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise CodecError(f"{value!r} is no command: {error}") from None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise CodecError(f'{value!r} must be a command, "encoder -q {{quality}} {{input}} {{output}}"')
    for placeholder in needed:
        if not any(placeholder in word for word in words):
            raise CodecError(f"the command does not say {placeholder}, which stands for a file")
    return tuple(words)


def _qualities(value: Any) -> dict[str, str]:
    if isinstance(value, list):
        value = {str(one): one for one in value}
    if not isinstance(value, dict) or not value or not all(isinstance(one, str | int | float) for one in value.values()):
        raise CodecError(
            'write a list, ["10", "20"], or names and what they stand for, { q10 = "10" }, from the lowest rate to the highest'
        )
    for name in value:
        _name(name)
    return {name: str(one) for name, one in value.items()}


def _suffix(value: Any) -> str:
    if not isinstance(value, str) or not _SUFFIX.fullmatch(value):
        raise CodecError(f'{value!r} must be the ending of a file name, such as ".bin"')
    return value


def _one_of(value: Any, known: tuple[Any, ...]) -> Any:
    if value not in known:
        raise CodecError(f"{value!r} must be {' or '.join(map(repr, known))}")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise CodecError(f"{value!r} must be a whole number")
    return value


def _multiple(value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 1024:
        raise CodecError(f"{value!r} must be a whole number of pixels from 1 to 1024")
    return value


def _positive(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not value > 0:
        raise CodecError(f"{value!r} must be a number of seconds above 0")
    return float(value)
