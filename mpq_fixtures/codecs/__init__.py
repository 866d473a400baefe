"""Codecs: a signal into bytes, and bytes into a signal.

A codec is one file with one subclass of `Codec`; defining the subclass registers it, wherever the file lives: in this
package, in a pytest plugin (``-p my_codec``), or in a package that names it under the entry point group ``mpq.codecs``.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from mpq_fixtures.codecs._sources import code_and_packages, digest_of_sources
from mpq_fixtures.errors import AssetError, MissingAsset, describe_error
from mpq_fixtures.plug_ins import import_all, place_of_class
from mpq_fixtures.signals import Modality

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO

_PART = re.compile(r"[a-z0-9_.]+")
_TAKEN = ("original", "evaluations", "test_evaluations")
"""What stands in the ids of tests besides codecs: the name of the reference, and of folders and files."""

_MOST, _APART = 101, 0.04
"""Beyond so many, numbers name bit rates or ratios, whose steps of one are too fine to tell apart: they are looked for in such shares."""

_registry: dict[str, type[Codec]] = {}


class CodecError(ValueError):
    """A codec that cannot be registered, or a quality that a codec does not understand; the message is for people."""


@dataclass(frozen=True)
class Numbers:
    """Qualities that are a whole number between ``prefix`` and ``suffix``: ``Numbers("q", 1, 100)`` are ``q1`` to ``q100``.

    ``worst`` is the number of the lowest rate and ``best`` that of the highest, so that the two tell the order.
    """

    prefix: str
    worst: int
    best: int
    suffix: str = ""

    def number(self, quality: str) -> int:
        """Return the number in ``quality``; raises `CodecError` where it is none of these qualities."""
        match = re.fullmatch(f"{re.escape(self.prefix)}(0|[1-9][0-9]*){re.escape(self.suffix)}", quality)
        low, high = sorted((self.worst, self.best))
        if match is None or not low <= int(match[1]) <= high:
            raise CodecError(f"{quality!r} is not one of {self}")
        return int(match[1])

    def in_order(self) -> list[str]:
        """Return them, the one of the lowest rate first; of more than a hundred and one those that are 4 % apart at least."""
        step = 1 if self.best >= self.worst else -1
        numbers = list(range(self.worst, self.best + step, step))
        if len(numbers) > _MOST:
            apart = numbers[:1]
            for number in numbers[1:-1]:
                if abs(number - apart[-1]) >= _APART * apart[-1]:
                    apart.append(number)
            numbers = [*apart, self.best]
        return [f"{self.prefix}{number}{self.suffix}" for number in numbers]

    def __str__(self) -> str:
        return f"{self.prefix}{self.worst}{self.suffix} to {self.prefix}{self.best}{self.suffix}"


@dataclass(frozen=True)
class Ledger:
    """What the bytes of a bitstream are spent on; the three add up to its length.

    ``payload`` is the coded signal. ``container`` is what a file format puts around it: headers, tables, indices, page heads. ``side`` is
    what the decoder needs besides, and a format of this project had to add: sizes, lengths, scales, a hyperprior's latents.
    """

    payload: int
    container: int = 0
    side: int = 0

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(self.payload + other.payload, self.container + other.container, self.side + other.side)


class Codec(ABC):
    """A lossy codec with a ladder of qualities, from the lowest rate to the highest.

    ``name`` and the qualities are lower case ``[a-z0-9_.]``. `decode` sees the bytes that `encode` returned and nothing else;
    whatever it needs besides the payload goes into the bytes and is counted in the rate. The same signal and quality give the
    same bytes in every run. Decoded signals have the shape, and decoded sounds the sample rate, of what was encoded. The arrays of a
    signal are write-protected; what `decode` returns is copied before anything else happens.

    ``qualities`` are those that a suite may ask for besides the ladder's; `range` has all that a search may try, in order, and
    `command_line` names the program that would do the same to a file. ``automatic`` says whether suites that name no codecs take
    this one: not where it needs weights, a binary, or a package that mpq does not bring.

    An instance serves one process for as long as it runs, from several threads; making one loads nothing.
    """

    name: str
    modality: Modality
    ladder: tuple[str, ...]
    qualities: Numbers | None = None
    automatic: bool = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:  # others are bases of codecs; mistakes are told when somebody asks for the codecs
            _registry[str(cls.name)] = cls

    @abstractmethod
    def build(self) -> str:
        """Name the libraries and versions that decide the bytes and the decoded signal; part of every cache key."""

    @abstractmethod
    def encode(self, signal: Any, quality: str) -> bytes:
        """Compress ``signal`` at ``quality``, one that `check` lets pass."""

    @abstractmethod
    def decode(self, data: bytes) -> Any:
        """Restore the signal from the bytes alone."""

    def check(self, quality: str) -> None:
        """Raise `CodecError`, with what is understood, for a quality that this codec does not know."""
        if quality in self.ladder:
            return
        if self.qualities is None:
            raise CodecError(f"{quality!r} is not one of {', '.join(self.ladder)}")
        try:
            self.qualities.number(quality)
        except CodecError as error:
            others = [rung for rung in self.ladder if not _understands(self.qualities, rung)]
            raise CodecError(f"{error}{' or ' + ', '.join(others) if others else ''}") from None

    def range(self, signal: Any = None) -> Sequence[str]:
        """Return the qualities among which the best one is looked for, the one of the lowest rate first: ``qualities``, or the ladder.

        ``signal`` is one of those to be encoded, for codecs whose rates depend on a sample rate.
        """
        return self.ladder if self.qualities is None else self.qualities.in_order()

    def others(self) -> Sequence[str]:
        """Return the qualities that are understood besides the ladder's, where they are not just all ``qualities``."""
        known = list(self.range())
        return () if self.qualities and known == self.qualities.in_order() else [one for one in known if one not in self.ladder]

    def command_line(self, quality: str) -> str:
        """Return the command that encodes a file as nearly as can be as this does, for a shell; "" where there is none.

        What a program does otherwise stands behind it, as a shell's comment.
        """
        return ""

    def missing(self, qualities: Sequence[str] = ()) -> str:
        """Say what this machine lacks for ``qualities``, or for the ladder, and the one command that brings it; "" where it can run.

        Loads nothing.
        """
        return ""

    def prepare(self, qualities: Sequence[str] = ()) -> None:
        """Make ready what the first sample at one of ``qualities`` needs; raises `MissingAsset` for what is not here and cannot be made."""
        if lack := self.missing(qualities):
            raise MissingAsset(f"codec {self.name}: {lack}")

    def fetch(self, say: Callable[[str], None], qualities: Sequence[str] = ()) -> None:  # noqa: B027  # most need nothing
        """Download or make what ``qualities``, or the ladder, need, saying what was done; nothing by default. Raises `AssetError`."""

    def ledger(self, data: bytes) -> Ledger:
        """Return what the bytes of a bitstream are spent on; all of it is payload unless the codec says otherwise."""
        return Ledger(len(data))

    def nominal_bits(self, signal: Any, quality: str) -> float | None:
        """Return the bits that ``quality`` names for ``signal``, such as 6,000 a second for ``6k``; None where it names none."""
        return None

    def fingerprint(self) -> str:
        """Return a digest of what decides the bytes and the decoded signal: the build, the files of the class and its bases, what they
        import from outside of installed packages, and the versions of the packages that they import.

        Settings stand in the code, so that a changed setting counts as a changed codec.
        """
        return hashlib.sha256(f"{self.name}\0{self.build()}\0{digest_of_sources(self._modules())}".encode()).hexdigest()

    def parts(self) -> dict[str, Any]:
        """Return what the fingerprint is taken of besides the build, apart: a digest of the ``code`` and the versions of ``packages``."""
        code, packages = code_and_packages(self._modules())
        return {"code": code, "packages": packages}

    def _modules(self) -> set[str]:
        return {base.__module__ for base in type(self).__mro__ if issubclass(base, Codec) and base is not Codec}

    def address(self) -> dict[str, Any]:
        """Return what another process makes this codec from, see `from_address`: plain data."""
        return {"codec": f"{type(self).__module__}:{type(self).__qualname__}", "arguments": {}}


def from_address(address: dict[str, Any]) -> Codec:
    """Return the codec that `Codec.address` describes; raises `AssetError` where it cannot be imported."""
    module, _, path = address["codec"].partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise AssetError(f"{address['codec']} cannot be imported: {describe_error(error)}") from error
    codec: Codec = found(**address["arguments"])
    return codec


def _understands(qualities: Numbers, quality: str) -> bool:
    try:
        qualities.number(quality)
    except CodecError:
        return False
    return True


def fault(cls: type[Codec]) -> str:
    """Say what is wrong with a codec's class, its parts and names; "" where nothing is."""
    name, ladder = cls.name, getattr(cls, "ladder", None)
    if not isinstance(name, str) or not _PART.fullmatch(name):
        return f"name {name!r}: use lower case letters, digits, '_' and '.' only"
    if lacking := [part for part in ("modality", "ladder") if not hasattr(cls, part)]:
        return f"it has no {lacking[0]!r}"
    if not isinstance(cls.modality, Modality):
        return f"its modality is {cls.modality!r}: set it to IMAGE or AUDIO of mpq_fixtures.codecs"
    if (
        not isinstance(ladder, tuple | list)
        or not ladder
        or not all(isinstance(quality, str) and _PART.fullmatch(quality) for quality in ladder)
        or len(set(ladder)) < len(ladder)
    ):
        return f"its ladder {ladder!r} needs distinct qualities of lower case letters, digits, '_' and '.'"
    if inspect.isabstract(cls):
        return f"it lacks the method {', '.join(sorted(cls.__abstractmethods__))}"
    return clash(name)


def clash(name: str) -> str:
    """Say which part of every id holds a codec's name, so that ``-k`` could not tell them apart; "" where none does."""
    word = next((word for word in _TAKEN if name in word), "")
    return f"name {name!r}: every id holds {word!r}, and -k could not tell them apart" if word else ""


@cache
def _load() -> None:
    """Import every module of this package and every codec that another package announces."""
    import_all(__name__, "codec", CodecError)


def registered(modality: Modality | None = None) -> dict[str, type[Codec]]:
    """Return the known codecs by name, in alphabetical order, of one modality or of all.

    Raises `CodecError`, with its file, for a class that cannot be a codec.
    """
    _load()
    for cls in _registry.values():
        if wrong := fault(cls):
            raise CodecError(f"codec {cls.__name__} ({place_of_class(cls)}): {wrong}")
    return {name: _registry[name] for name in sorted(_registry) if modality in (None, _registry[name].modality)}


@cache
def instance(name: str) -> Codec:
    """Return the registered codec of a name, the same object whoever asks: it may hold a model or a process of its own."""
    return registered()[name]()
