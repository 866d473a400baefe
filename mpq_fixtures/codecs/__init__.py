"""Codecs: a signal into bytes, and bytes into a signal.

A codec is one file with one subclass of `Codec`; defining the subclass registers it, wherever the file lives: in this
package, in a pytest plugin (``-p my_codec``), or in a package that names it under the entry point group ``mpq.codecs``.
"""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
import re
import sys
from abc import ABC, abstractmethod
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

from mpq_fixtures.signals import Modality
from mpq_fixtures.tasks import TASKS

IMAGE, AUDIO = Modality.IMAGE, Modality.AUDIO

_TAKEN = ("original", "evaluations", *(f"test_{task}" for task in TASKS))
"""What stands in the ids of tests besides codecs: the name of the reference, and of folders and files."""

_registry: dict[str, type[Codec]] = {}


class Codec(ABC):
    """A lossy codec with a ladder of qualities, from the lowest rate to the highest.

    ``name`` and the qualities are lower case ``[a-z0-9_.]``. `decode` sees the bytes that `encode` returned and nothing else;
    whatever it needs besides the payload goes into the bytes and is counted in the rate. The same signal and quality give the
    same bytes in every run. Decoded signals have the shape, and decoded sounds the sample rate, of what was encoded.
    """

    name: ClassVar[str]
    modality: ClassVar[Modality]
    ladder: ClassVar[tuple[str, ...]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            return  # a shared base class
        if not re.fullmatch(r"[a-z0-9_.]+", cls.name):
            raise TypeError(f"codec name {cls.name!r}: use lower case letters, digits, '_' and '.' only")
        if (
            not cls.ladder
            or len(set(cls.ladder)) < len(cls.ladder)
            or not all(re.fullmatch(r"[a-z0-9_.]+", quality) for quality in cls.ladder)
        ):
            raise TypeError(
                f"codec {cls.name!r}: the ladder {cls.ladder!r} needs distinct qualities of lower case letters, digits, '_' and '.'"
            )
        for word in _TAKEN:
            if cls.name in word or word in cls.name:
                raise TypeError(f"codec name {cls.name!r}: every id holds {word!r}, and -k could not tell them apart")
        for other in _registry.values():
            if other.name != cls.name and (cls.name in other.name or other.name in cls.name):
                raise TypeError(f"codec names {cls.name!r} and {other.name!r}: neither may contain the other, or -k cannot tell them apart")
        _registry[cls.name] = cls

    @abstractmethod
    def build(self) -> str:
        """Name the libraries and versions that decide the bytes and the decoded signal; part of every cache key."""

    def fingerprint(self) -> str:
        """Return a digest of what decides the bytes and the decoded signal: the build, and the files of the class and of its bases.

        Settings stand in the code, so that a changed setting counts as a changed codec.
        """
        digest = hashlib.sha256(f"{self.name}\0{self.build()}".encode())
        modules = {base.__module__ for base in type(self).__mro__ if issubclass(base, Codec) and base is not Codec}
        for module in sorted(modules):
            if file := getattr(sys.modules.get(module), "__file__", None):
                digest.update(Path(file).read_bytes())
        return digest.hexdigest()

    @abstractmethod
    def encode(self, signal: Any, quality: str) -> bytes:
        """Compress ``signal`` at ``quality``, an entry of the ladder."""

    @abstractmethod
    def decode(self, data: bytes) -> Any:
        """Restore the signal from the bytes alone."""


@cache
def _load() -> None:
    """Import every module of this package and every codec that another package announces."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    for entry in entry_points(group="mpq.codecs"):
        entry.load()


def registered(modality: Modality | None = None) -> dict[str, type[Codec]]:
    """Return the known codecs by name, in alphabetical order, of one modality or of all."""
    _load()
    return {name: _registry[name] for name in sorted(_registry) if modality in (None, _registry[name].modality)}
