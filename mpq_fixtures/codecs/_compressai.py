"""What CompressAI's codecs share: their weights, and the bytes around what the entropy coder wrote.

A bitstream is a head, counted in the rate like all of it, and two strings of the entropy coder::

    2 bytes    CRC-16 (CCITT) of all that follows: damage is told before anything is decoded
    4 bytes    CRC-32 of the coded symbols: a decoder whose entropy network differs from the encoder's says so, and shows no garbage
    varints    quality, height, width, length of the hyperprior's string
    strings    the hyperprior's, then the latents'

Heights and widths are extended to multiples of 64 by their last row and column, and cut back by the decoder.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mpq_fixtures.codecs import Ledger
from mpq_fixtures.codecs._audio import read_varint, varint
from mpq_fixtures.codecs._pillow import checked
from mpq_fixtures.codecs._workers import MOST_PIXELS, WorkerCodec, download, find_file, seal, unseal
from mpq_fixtures.errors import AssetError, MissingAsset
from mpq_fixtures.signals import Image
from mpq_fixtures.weights import Weights


@dataclass(frozen=True)
class Stream:
    """What a bitstream says of itself; the strings are the entropy coder's."""

    check: int
    quality: str
    height: int
    width: int
    hyperprior: bytes
    latents: bytes

    def to_bytes(self) -> bytes:
        """Return the bitstream."""
        numbers = b"".join(map(varint, (int(self.quality[1:]), self.height, self.width, len(self.hyperprior))))
        return seal(self.check.to_bytes(4, "big") + numbers + self.hyperprior + self.latents)

    @classmethod
    def of(cls, data: bytes) -> Stream:
        """Take a bitstream apart; raises `ValueError` where it is none, or is damaged."""
        content = unseal(data)
        rest, numbers = content[4:], []
        for _ in range(4):
            number, rest = read_varint(rest)
            numbers.append(number)
        quality, height, width, hyperprior = numbers
        if not 0 < height * width <= MOST_PIXELS or hyperprior > len(rest):
            raise ValueError(f"{height}x{width} pixels and {hyperprior} of {len(rest)} bytes")
        return cls(int.from_bytes(content[:4], "big"), f"q{quality}", height, width, rest[:hyperprior], rest[hyperprior:])


class CompressAICodec(WorkerCodec):
    """A model of CompressAI, run by its own library; what is left to say is which, and where its weights are.

    The entropy network runs on the CPU in one thread.
    """

    worker = "compressai_worker.py:Models"
    architecture: ClassVar[str]  # CompressAI's name of it

    @abstractmethod
    def weights(self, quality: str) -> Path | None:
        """Return the file of the weights of ``quality``, or None where it is not here."""

    def build(self) -> str:
        """Name the packages of the environment, the worker's code, how it runs, and the weights."""
        files = [self.weights(quality) for quality in self.ladder]
        return f"{super().build()}, weights {', '.join(file.name if file else 'none' for file in files)}"

    def encode(self, signal: Image, quality: str) -> bytes:
        """Compress ``signal``; raises `MissingAsset` without weights, `ProcessError` where the worker dies."""
        pixels = checked(signal.pixels)
        height, width, _ = pixels.shape
        if height * width > MOST_PIXELS:
            raise ValueError(f"a picture of {height}x{width} has more than {MOST_PIXELS} pixels")
        strings, fields = self.process().call("encode", pixels, **self._model(quality))
        hyperprior = fields["hyperprior"]
        return Stream(fields["check"], quality, height, width, strings[:hyperprior], strings[hyperprior:]).to_bytes()

    def decode(self, data: bytes) -> Image:
        """Restore the picture; raises `ValueError` for damaged bytes, and where the latents are not those that were encoded."""
        from mpq_fixtures.isolation.client import ProcessError

        try:
            stream = Stream.of(data)
            self.check(stream.quality)
        except ValueError as error:
            raise ValueError(f"not a readable {self.name} stream: {error}") from error
        sizes = {"height": stream.height, "width": stream.width, "hyperprior": len(stream.hyperprior), "check": stream.check}
        process, model = self.process(), self._model(stream.quality)
        try:
            pixels, _ = process.call("decode", stream.hyperprior + stream.latents, **model, **sizes)
        except ProcessError as error:
            raise ValueError(f"not a readable {self.name} stream: {error}") from error
        return Image(pixels)

    def ledger(self, data: bytes) -> Ledger:
        """Return the latents as payload, and the head with its check sums and the hyperprior as side information."""
        latents = len(Stream.of(data).latents)
        return Ledger(latents, side=len(data) - latents)

    def _model(self, quality: str) -> dict[str, str]:
        file = self.weights(quality)
        if file is None:
            raise MissingAsset(f"codec {self.name}: {self.lack([quality])}")
        return {"architecture": self.architecture, "weights": str(file)}


class ZooCodec(CompressAICodec):
    """A codec with the weights of CompressAI's zoo, those trained for squared error; their addresses are read from the package itself.

    The files lie in ``compressai/`` of ``MPQ_WEIGHTS`` or of the cache. Their names end in the first eight digits of their SHA-256, which
    are held against them before they are loaded, without pickled code. ``urls`` names other files, by quality: own weights, or a mirror.
    """

    def __init__(self, urls: Mapping[str, str] | None = None) -> None:
        self._urls = dict(urls or {})

    def weights(self, quality: str) -> Path | None:
        """Return the file of the weights of ``quality``, or None where it is not here."""
        if quality in self._urls:
            return find_file(self._files(), re.escape(self._urls[quality].rpartition("/")[2]))
        return find_file(self._files(), rf"{re.escape(self.architecture)}-{quality[1:]}-[0-9a-f]{{8}}\.pth\.tar")

    def lack(self, qualities: Sequence[str] = ()) -> str:
        """Say which weights are not here and what brings them; "" where all are."""
        absent = [quality for quality in qualities or self._urls or self.ladder if self.weights(quality) is None]
        if not absent:
            return ""
        return (
            f"its weights of {', '.join(absent)} are not here: {self._files().fetch}, or set MPQ_WEIGHTS to a folder that holds compressai/"
        )

    def fetch(self, say: Callable[[str], None], qualities: Sequence[str] = ()) -> None:
        """Make the environment, and download the weights that are not here; raises `AssetError` for files that are not what they say."""
        super().fetch(say, qualities)
        if not self.lack(qualities):
            return
        say(f"{self.name}: weights under {self._files().licence}")
        _, numbered = self.process().call("urls", architecture=self.architecture)
        for quality, url in (self._urls or {f"q{number}": url for number, url in numbered.items()}).items():
            if quality in (qualities or self.ladder) and self.weights(quality) is None:
                digits = re.search(r"-([0-9a-f]{8,64})\.", url)
                if digits is None:
                    raise AssetError(f"{url}: the name has to end in the first eight digits of the file's SHA-256")
                download(url, self._files().places()[-1], say, digits[1])

    def address(self) -> dict[str, Any]:
        """Return the codec with its files."""
        return super().address() | {"arguments": {"urls": self._urls} if self._urls else {}}

    def _files(self) -> Weights:
        return Weights("compressai", (), "BSD-3-Clause-Clear", f"mpq fetch --codec {self.name}")
