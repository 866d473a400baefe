"""What codecs share whose libraries contradict ours: a worker in an environment of its own, made on first use, and downloaded weights."""

from __future__ import annotations

import re
from abc import abstractmethod
from binascii import crc_hqx
from collections.abc import Callable, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mpq_fixtures.codecs import IMAGE, Codec
from mpq_fixtures.errors import AssetError, MissingAsset
from mpq_fixtures.weights import Weights

if TYPE_CHECKING:
    from mpq_fixtures.isolation.client import CodecProcess
    from mpq_fixtures.isolation.environment import Environment

ISOLATION = Path(__file__).parent.parent / "isolation"
MOST_PIXELS = 1 << 28

_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
"""Keeps glibc from giving memory back and asking for it anew at every layer of a network, which takes a quarter of the time."""


class WorkerCodec(Codec):
    """A picture codec that a class of a worker script serves. All codecs of a worker share its process, which serves one call at a time."""

    modality = IMAGE
    automatic = False
    worker: ClassVar[str]  # ``script.py:Class``

    @abstractmethod
    def lack(self, qualities: Sequence[str] = ()) -> str:
        """Say which weights are not here and what brings them; "" where all are."""

    def missing(self, qualities: Sequence[str] = ()) -> str:
        """Say that no Python for the environment, or no weights are here."""
        return self.environment().missing() or self.lack(qualities)

    def prepare(self, qualities: Sequence[str] = ()) -> None:
        """Make the environment, once on a machine, which takes a minute or more."""
        super().prepare(qualities)
        self.environment().make()

    def fetch(self, say: Callable[[str], None], qualities: Sequence[str] = ()) -> None:
        """Make the environment."""
        self.environment().make(say)

    def build(self) -> str:
        """Name the packages of the environment, the worker's code and how it runs."""
        environment = self.environment()
        return f"{environment.describe()}, cpu, 1 thread, {environment.script.stem} {_digest(environment.script)}"

    def environment(self) -> Environment:
        """Return the worker's environment, made or not."""
        return _environment(ISOLATION / self.worker.partition(":")[0], self.name)

    def process(self) -> CodecProcess:
        """Return the worker, once its environment is made; raises `MissingAsset` where it cannot be."""
        return _process(f"{ISOLATION / self.worker}", str(self.environment().make()))


@cache
def _environment(script: Path, codec: str) -> Environment:
    from mpq_fixtures.isolation.environment import Environment

    return Environment(script, codec)


@cache
def _process(worker: str, python: str) -> CodecProcess:
    from mpq_fixtures.isolation.client import CodecProcess
    from mpq_fixtures.isolation.environment import OURS

    return CodecProcess(worker, python=python, environment=OURS | _ALLOCATOR, seconds=600)


@cache
def _digest(script: Path) -> str:
    return sha256(script.read_bytes()).hexdigest()[:12]


def seal(content: bytes) -> bytes:
    """Return ``content`` behind its CRC-16 (CCITT), two bytes by which damage is told before anything is decoded."""
    return crc_hqx(content, 0xFFFF).to_bytes(2, "big") + content


def unseal(data: bytes) -> bytes:
    """Return what `seal` was given; raises `ValueError` where it is something else."""
    if seal(data[2:]) != data:
        raise ValueError("its check sum is wrong")
    return data[2:]


def find_file(weights: Weights, pattern: str) -> Path | None:
    """Return the first file in the places of ``weights`` whose name is as the regular expression says, or None."""
    for folder in weights.places():
        if folder.is_dir() and (found := sorted(file for file in folder.iterdir() if re.fullmatch(pattern, file.name))):
            return found[0]
    return None


def download(url: str, folder: Path, say: Callable[[str], None], begins: str | None = None) -> None:
    """Download a file, whole or not at all; ``begins`` are the first digits of its SHA-256, where they are known.

    Raises `AssetError` where the digest is another, and `MissingAsset` where the file does not come; what has come is kept for the next
    time.
    """
    from filelock import FileLock

    from mpq_fixtures.downloads import carry_on, progress_bar, reason_of, size_at

    name = url.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.part"
    lock = Path(f"{part}.lock")
    try:
        with FileLock(lock):
            size = size_at(url)
            say(f"{name}: {size / 1e6:.1f} MB from {url}")
            with progress_bar(name, size) as bar:
                carry_on(url, part, size, bar.update)
            found = sha256(part.read_bytes()).hexdigest()
            if begins is not None and not found.startswith(begins):
                part.unlink()
                raise AssetError(f"{url} is not what it should be: its SHA-256 is {found}, not {begins}...; it was dropped")
            part.replace(folder / name)
    except AssetError:
        raise
    except Exception as error:  # of the connection, the disk or the address
        raise MissingAsset(f"{url} could not be downloaded ({reason_of(error)}); try again, or put {name} into {folder}") from error
    finally:
        lock.unlink(missing_ok=True)
