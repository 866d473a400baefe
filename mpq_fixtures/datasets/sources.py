"""Sources of samples: a digest of what each is made of, and its size, remembered once they are known."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence

from mpq_fixtures.datasets.digests import FileDigests

_DIGEST = 32  # bytes, of SHA-256
_UNKNOWN = -1  # in place of a size
_AHEAD = 512  # samples of which the digests known are read at a time


class Sources:
    """The sources of ``count`` samples by their places, in 40 bytes each; nothing else is remembered.

    ``find`` returns the digest and the size of a sample, ``paths`` the files that it is made of; what ``known`` has of these is read for
    many samples at a time.
    """

    def __init__(
        self,
        count: int,
        find: Callable[[int], tuple[bytes, int]],
        paths: Callable[[int], Iterable[str | None]],
        known: FileDigests,
    ) -> None:
        self._count, self._find, self._paths, self._known = count, find, paths, known
        self._digests, self._sizes = bytearray(_DIGEST * count), array("q", [_UNKNOWN]) * count
        self._ahead = range(0)

    def of(self, positions: Sequence[int]) -> list[str]:
        """Return the sources of samples in hex."""
        for position in positions:
            if self._sizes[position] == _UNKNOWN:
                self._look_ahead(position)
                self._digests[_DIGEST * position : _DIGEST * (position + 1)], self._sizes[position] = self._find(position)
        return [self._digests[_DIGEST * position : _DIGEST * (position + 1)].hex() for position in positions]

    def keys(self) -> memoryview:
        """Return the digests themselves, one behind the other, of which those are right that were asked for."""
        return memoryview(self._digests).toreadonly()

    def size(self, position: int) -> int:
        """Return the size of a sample whose source was asked for, in bytes."""
        return self._sizes[position]

    def _look_ahead(self, position: int) -> None:
        if position not in self._ahead:
            self._ahead = range(position, min(position + _AHEAD, self._count))
            unknown = (one for one in self._ahead if self._sizes[one] == _UNKNOWN)
            self._known.look_ahead(path for one in unknown for path in self._paths(one) if path)
