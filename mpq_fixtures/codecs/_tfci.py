"""Codecs of TensorFlow Compression's collection of models, any of which loads by this class.

A bitstream is the height and width as varints behind a check sum of two bytes, and the packed tensors as TensorFlow Compression writes
them: a protocol buffer with the model's name, sizes, and the strings of the range coder. All of it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mpq_fixtures.codecs import Ledger
from mpq_fixtures.codecs._audio import read_varint, varint
from mpq_fixtures.codecs._pillow import checked
from mpq_fixtures.codecs._workers import MOST_PIXELS, WorkerCodec, download, find_file, seal, unseal
from mpq_fixtures.errors import MissingAsset
from mpq_fixtures.signals import Image
from mpq_fixtures.weights import Weights, digest_of_file

BUCKET = "https://storage.googleapis.com/tensorflow_compression/metagraphs"


class TfciCodec(WorkerCodec):
    """A family of models of the collection; what is left to say is the model of each quality.

    The metagraphs lie in ``tfci/`` of ``MPQ_WEIGHTS`` or of the cache, and come from ``bucket``. Their publisher names no digests, so that
    what came is believed; its SHA-256 is part of the build and so of every cache key.
    """

    worker = "tfc_worker.py:Models"
    models: ClassVar[Mapping[str, str]]

    def __init__(self, bucket: str = BUCKET) -> None:
        self._bucket = bucket

    def lack(self, qualities: Sequence[str] = ()) -> str:
        """Say which metagraphs are not here and what brings them; "" where all are."""
        absent = [self.models[quality] for quality in qualities or self.models if self._metagraph(quality) is None]
        if not absent:
            return ""
        ways = f"{self._files().fetch}, or set MPQ_WEIGHTS to a folder that holds tfci/"
        return f"its models {', '.join(absent)} are not here: {ways}"

    def fetch(self, say: Callable[[str], None], qualities: Sequence[str] = ()) -> None:
        """Make the environment, and download the metagraphs that are not here."""
        super().fetch(say, qualities)
        absent = [quality for quality in qualities or self.models if self._metagraph(quality) is None]
        if absent:
            say(f"{self.name}: models under {self._files().licence}")
        for quality in absent:
            download(f"{self._bucket}/{self.models[quality]}.metagraph", self._files().places()[-1], say)

    def build(self) -> str:
        """Name the packages of the environment, the worker's code, how it runs, and the digests of the metagraphs."""
        files = [self._metagraph(quality) for quality in self.ladder]
        return f"{super().build()}, metagraphs {', '.join(digest_of_file(file) if file else 'none' for file in files)}"

    def encode(self, signal: Image, quality: str) -> bytes:
        """Compress ``signal``; raises `MissingAsset` without the model, `ProcessError` where the worker dies."""
        pixels = checked(signal.pixels)
        height, width, _ = pixels.shape
        if height * width > MOST_PIXELS:
            raise ValueError(f"a picture of {height}x{width} has more than {MOST_PIXELS} pixels")
        packed, _ = self.process().call("encode", pixels, metagraph=self._model(quality))
        return seal(varint(height) + varint(width) + packed)

    def decode(self, data: bytes) -> Image:
        """Restore the picture; raises `ValueError` for damaged bytes and those of another model."""
        from mpq_fixtures.isolation.client import ProcessError

        try:
            height, width, packed = _opened(data)
            quality = next((quality for quality, model in self.models.items() if model.encode() in packed), None)
            if quality is None:
                raise ValueError(f"of none of the models {', '.join(self.models.values())}")
        except ValueError as error:
            raise ValueError(f"not a readable {self.name} stream: {error}") from error
        process, model = self.process(), self._model(quality)
        try:
            pixels, _ = process.call("decode", packed, metagraph=model)
        except ProcessError as error:
            raise ValueError(f"not a readable {self.name} stream: {error}") from error
        if pixels.shape[0] < height or pixels.shape[1] < width:
            raise ValueError(f"not a whole {self.name} stream: {list(pixels.shape)} of {[height, width, 3]}")
        return Image(pixels[:height, :width].copy())

    def ledger(self, data: bytes) -> Ledger:
        """Return the range coder's strings as payload, the rest of the packed tensors as container, and the head as side information."""
        _, _, packed = _opened(data)
        payload = int(self.process().call("payload", packed)[1]["payload"])
        return Ledger(payload, len(packed) - payload, len(data) - len(packed))

    def address(self) -> dict[str, Any]:
        """Return the codec with the place that its models come from."""
        return super().address() | {"arguments": {} if self._bucket == BUCKET else {"bucket": self._bucket}}

    def _metagraph(self, quality: str) -> Path | None:
        return find_file(self._files(), f"{self.models[quality]}[.]metagraph")

    def _model(self, quality: str) -> str:
        file = self._metagraph(quality)
        if file is None:
            raise MissingAsset(f"codec {self.name}: {self.lack([quality])}")
        return str(file)

    def _files(self) -> Weights:
        return Weights("tfci", (), "Apache-2.0", f"mpq fetch --codec {self.name}")


def _opened(data: bytes) -> tuple[int, int, bytes]:
    """Return height, width and packed tensors; raises `ValueError` where the bytes are damaged."""
    height, rest = read_varint(unseal(data))
    width, packed = read_varint(rest)
    if not 0 < height * width <= MOST_PIXELS:
        raise ValueError(f"{height}x{width} pixels")
    return height, width, packed
