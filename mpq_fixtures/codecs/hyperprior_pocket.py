"""The learned picture codec of the pocket suite: a small mean and scale hyperprior, trained by this project."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mpq_fixtures import DISTRIBUTION
from mpq_fixtures.codecs._compressai import CompressAICodec
from mpq_fixtures.weights import digest_of_file

FOLDER = Path(__file__).parent.parent / "pocket" / "models" / "hyperprior_pocket"


class HyperpriorPocket(CompressAICodec):
    """Minnen, Balle and Toderici's hyperprior without the autoregressive part (NeurIPS 2018), as CompressAI has it, with few channels.

    ``q1`` to ``q3`` are three points of rate and squared error. `mpq_fixtures/pocket/README.md` says how it was trained, and on what.
    """

    name = "hyperprior_pocket"
    architecture = "mbt2018-mean"
    ladder = ("q1", "q2", "q3")

    def weights(self, quality: str) -> Path | None:
        """Return the file of the weights of ``quality``, which this package carries."""
        file = FOLDER / f"{quality}.safetensors"
        return file if file.is_file() else None

    def lack(self, qualities: Sequence[str] = ()) -> str:
        """Say that the files of this package are not there."""
        absent = [quality for quality in qualities or self.ladder if self.weights(quality) is None]
        mend = f"pip install --force-reinstall --no-deps {DISTRIBUTION}"
        return f"{FOLDER} lacks the weights of {', '.join(absent)}: {mend}" if absent else ""

    def build(self) -> str:
        """Name the packages of the environment and the digests of the weights."""
        files = [file for quality in self.ladder if (file := self.weights(quality))]
        return f"{super().build()} {' '.join(digest_of_file(file)[:12] for file in files)}"
