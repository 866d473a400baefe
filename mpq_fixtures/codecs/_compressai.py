"""What CompressAI's codecs share: their process, their weights, and the bytes around what the entropy coder wrote.

A bitstream is a head, counted in the rate like all of it, and two strings of the entropy coder::

    2 bytes    CRC-16 (CCITT) of all that follows: damage is told before anything is decoded
    4 bytes    CRC-32 of the coded symbols: a decoder whose entropy network differs from the encoder's says so, and shows no garbage
    varints    quality, height, width, length of the hyperprior's string
    strings    the hyperprior's, then the latents'

Heights and widths are extended to multiples of 64 by their last row and column, and cut back by the decoder.
"""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from binascii import crc_hqx
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mpq_fixtures.codecs import IMAGE, Codec, Ledger
from mpq_fixtures.codecs._audio import read_varint, varint
from mpq_fixtures.codecs._pillow import checked
from mpq_fixtures.named import AssetError, MissingAsset
from mpq_fixtures.signals import Image
from mpq_fixtures.weights import Weights

if TYPE_CHECKING:
    from mpq_fixtures.isolation.client import CodecProcess
    from mpq_fixtures.isolation.environment import Environment

WORKER = Path(__file__).parent.parent / "isolation" / "compressai_worker.py"
MOST_PIXELS = 1 << 28
_CHECKS = 6  # bytes


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
        checked_bytes = self.check.to_bytes(4, "big") + numbers + self.hyperprior + self.latents
        return crc_hqx(checked_bytes, 0xFFFF).to_bytes(2, "big") + checked_bytes

    @classmethod
    def of(cls, data: bytes) -> Stream:
        """Take a bitstream apart; raises `ValueError` where it is none, or is damaged."""
        if len(data) <= _CHECKS or crc_hqx(data[2:], 0xFFFF).to_bytes(2, "big") != data[:2]:
            raise ValueError("its check sum is wrong")
        rest, numbers = data[_CHECKS:], []
        for _ in range(4):
            number, rest = read_varint(rest)
            numbers.append(number)
        quality, height, width, hyperprior = numbers
        if not 0 < height * width <= MOST_PIXELS or hyperprior > len(rest):
            raise ValueError(f"{height}x{width} pixels and {hyperprior} of {len(rest)} bytes")
        return cls(int.from_bytes(data[2:6], "big"), f"q{quality}", height, width, rest[:hyperprior], rest[hyperprior:])


class CompressAICodec(Codec):
    """A model of CompressAI, run by its own library in its own environment; what is left to say is which, and where its weights are.

    The entropy network runs on the CPU in one thread. All codecs of a process share one worker, which serves one call at a time.
    """

    modality = IMAGE
    automatic = False
    architecture: ClassVar[str]  # CompressAI's name of it

    @abstractmethod
    def weights(self, quality: str) -> Path | None:
        """Return the file of the weights of ``quality``, or None where it is not here."""

    @abstractmethod
    def lack(self) -> str:
        """Say which weights are not here and what brings them; "" where all are."""

    def missing(self) -> str:
        """Say that no Python for the environment, or no weights are here."""
        return self._environment().missing() or self.lack()

    def prepare(self) -> None:
        """Make the environment, once on a machine, which takes a minute or more."""
        super().prepare()
        self._environment().make()

    def fetch(self, say: Callable[[str], None]) -> None:
        """Make the environment."""
        self._environment().make(say)

    def build(self) -> str:
        """Name the packages of the environment, the worker's code, the weights and how the networks run."""
        files = [self.weights(quality) for quality in self.ladder]
        names = ", ".join(file.name if file else "none" for file in files)
        return f"{self._environment().describe()}, cpu, 1 thread, worker {_digest_of_worker()}, weights {names}"

    def encode(self, signal: Image, quality: str) -> bytes:
        """Compress ``signal``; raises `MissingAsset` without weights, `ProcessError` where the worker dies."""
        pixels = checked(signal.pixels)
        if pixels.shape[0] * pixels.shape[1] > MOST_PIXELS:
            raise ValueError(f"a picture of {list(pixels.shape)} has more than {MOST_PIXELS} pixels")
        strings, fields = self._process().call("encode", pixels, **self._model(quality))
        height, width, _ = pixels.shape
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
        process, model = self._process(), self._model(stream.quality)
        try:
            pixels, _ = process.call("decode", stream.hyperprior + stream.latents, **model, **sizes)
        except ProcessError as error:
            raise ValueError(f"not a readable {self.name} stream: {error}") from error
        return Image(pixels.copy())

    def ledger(self, data: bytes) -> Ledger:
        """Return the latents as payload, and the head with its check sums and the hyperprior as side information."""
        latents = len(Stream.of(data).latents)
        return Ledger(latents, side=len(data) - latents)

    def _model(self, quality: str) -> dict[str, str]:
        file = self.weights(quality)
        if file is None:
            raise MissingAsset(f"codec {self.name}: {self.lack()}")
        return {"architecture": self.architecture, "weights": str(file)}

    def _environment(self) -> Environment:
        return _environment(self.name)

    def _process(self) -> CodecProcess:
        return _process(str(self._environment().make()))


class ZooCodec(CompressAICodec):
    """A codec with the weights of CompressAI's zoo, those trained for squared error; its address list is read from the package itself.

    The files lie in ``compressai/`` of ``MPQ_WEIGHTS`` or of the cache. Their names end in the first eight digits of their SHA-256, which
    are held against them before they are loaded, without pickled code. ``urls`` names other files, by quality: own weights, or a mirror.
    """

    def __init__(self, urls: Mapping[str, str] | None = None) -> None:
        self._urls = dict(urls or {})

    def weights(self, quality: str) -> Path | None:
        """Return the file of the weights of ``quality``, or None where it is not here."""
        given = self._urls.get(quality)
        name = re.escape(given.rpartition("/")[2]) if given else rf"{re.escape(self.architecture)}-{quality[1:]}-[0-9a-f]{{8}}\.pth\.tar"
        for folder in self._files().places():
            if folder.is_dir() and (found := sorted(file for file in folder.iterdir() if re.fullmatch(name, file.name))):
                return found[0]
        return None

    def lack(self) -> str:
        """Say which weights are not here and what brings them; "" where all are."""
        absent = [quality for quality in self._urls or self.ladder if self.weights(quality) is None]
        if not absent:
            return ""
        command = f"mpq fetch --codec {self.name}"
        return f"its weights of {', '.join(absent)} are not here: {command}, or set MPQ_WEIGHTS to a folder that holds compressai/"

    def fetch(self, say: Callable[[str], None]) -> None:
        """Make the environment, and download the weights that are not here; raises `AssetError` for files that are not what they say."""
        super().fetch(say)
        if not self.lack():
            return
        _, numbered = self._process().call("urls", architecture=self.architecture)
        for quality, url in (self._urls or {f"q{number}": url for number, url in numbered.items()}).items():
            if self.weights(quality) is None:
                _download(url, self._files().places()[-1], say)

    def address(self) -> dict[str, Any]:
        """Return the codec with its files."""
        return super().address() | {"arguments": {"urls": self._urls} if self._urls else {}}

    def _files(self) -> Weights:
        return Weights("compressai", (), "BSD-3-Clause-Clear", f"mpq fetch --codec {self.name}")


@cache
def _environment(codec: str) -> Environment:
    from mpq_fixtures.isolation.environment import Environment

    return Environment(WORKER, codec)


@cache
def _process(python: str) -> CodecProcess:
    from mpq_fixtures.isolation.client import CodecProcess
    from mpq_fixtures.isolation.environment import OURS

    return CodecProcess(f"{WORKER}:Models", python=python, environment=OURS, seconds=600)


@cache
def _digest_of_worker() -> str:
    return sha256(WORKER.read_bytes()).hexdigest()[:12]


def _download(url: str, folder: Path, say: Callable[[str], None]) -> None:
    """Download a file whose name ends in the first digits of its SHA-256; raises `AssetError` where it is another or does not come."""
    import urllib.error
    import urllib.request

    name = url.rpartition("/")[2]
    digits = re.search(r"-([0-9a-f]{8,64})\.", name)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.{os.getpid()}.part"
    digest, come, told = sha256(), 0, 0
    try:
        with urllib.request.urlopen(url, timeout=30) as answer, part.open("wb") as output:
            size = int(answer.headers.get("Content-Length", 0))
            say(f"{name}: {size / 1e6:.1f} MB from {url}")
            while chunk := answer.read(1 << 20):
                output.write(chunk)
                digest.update(chunk)
                come += len(chunk)
                if size and come * 4 // size > told:
                    told = come * 4 // size
                    say(f"{name}: {come / 1e6:.1f} of {size / 1e6:.1f} MB")
        if size and come != size:
            raise ConnectionError(f"the connection ended after {come} of {size} bytes")
        if digits is None or not digest.hexdigest().startswith(digits[1]):
            expected = digits[1] if digits else "in its name"
            raise AssetError(f"{url} is not what it should be: its SHA-256 is {digest.hexdigest()}, not {expected}...; it was dropped")
        part.replace(folder / name)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise MissingAsset(f"{url} could not be downloaded ({error}); try again, or put {name} into {folder}") from error
    finally:
        part.unlink(missing_ok=True)
