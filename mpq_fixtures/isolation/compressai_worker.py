# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = ["torch==2.13.0", "numpy==1.26.4", "scipy==1.17.1", "einops==0.8.2", "safetensors==0.8.0"]
#
# [tool.mpq]
# without-dependencies = ["compressai==1.2.8"]
# ///
"""CompressAI's picture models, in an environment of their own: it asks for numpy 1, and for packages that no model needs.

Runs by `mpq_fixtures.isolation.server`. The networks run on the CPU in one thread with AVX2 kernels, whatever else the processor has: an
entropy model that differs in the last bit decodes garbage (Balle et al., Integer networks for data compression, ICLR 2019). To see that
one does, the symbols that it codes have a check sum, which is what the decoder compares its own with.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import zlib
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

BLOCK = 64
"""What heights and widths have to be multiples of: the networks halve them four times for the latents, twice more for the hyperprior."""

_STATE = 64
"""Bits of a coder's state, by which a string may be off from what its symbols take."""

_CPUS = Path("/proc/cpuinfo")
if _CPUS.exists() and " avx2 " in _CPUS.read_text():
    os.environ |= {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
os.environ["OMP_NUM_THREADS"] = "1"


def load_compressai() -> tuple[Any, Any]:
    """Return ``compressai.models.google`` and ``compressai.zoo.image`` without what the package imports beside them.

    Its own ``__init__`` brings data sets, losses and transforms, which import pandas, torch-geometric and torchvision; here the name
    stands for its folder and its entropy coder. The registry of transforms finds nothing to list.
    """
    package: Any = ModuleType("compressai")
    package.__spec__ = spec = find_spec("compressai")
    package.__path__ = list((spec and spec.submodule_search_locations) or ())
    package.get_entropy_coder = lambda: "ans"
    package.available_entropy_coders = lambda: ["ans"]
    sys.modules["compressai"] = package
    absent = [name for name in ("torchvision", "torch_geometric") if find_spec(name) is None]
    for name in absent:
        empty: Any = ModuleType(name)
        empty.transforms = ModuleType(f"{name}.transforms")
        sys.modules |= {name: empty, f"{name}.transforms": empty.transforms}
    try:
        return import_module("compressai.models.google"), import_module("compressai.zoo.image")
    finally:
        for name in absent:
            del sys.modules[name], sys.modules[f"{name}.transforms"]


class Symbols:
    """What the entropy coders of a model were given or gave back, as a check sum; stands in for the coders in CompressAI's modules."""

    def __init__(self, google: Any) -> None:
        self.check, self._encoding = 0, False
        recorded = self

        class Encoder(google.BufferedRansEncoder):  # type: ignore[misc]
            def encode_with_indexes(self, symbols: list[int], *tables: Any) -> None:
                super().encode_with_indexes(recorded.add(symbols, encoded=True), *tables)

        class Decoder(google.RansDecoder):  # type: ignore[misc]
            def decode_stream(self, indexes: list[int], tables: Any, lengths: list[int], offsets: list[int]) -> list[int]:
                # What is handed over is copied at each position: hand over no more than it takes, a fortieth of the time.
                used = sorted(set(indexes))
                place = {index: number for number, index in enumerate(used)}
                tables = [tables[index][: lengths[index]] for index in used]
                lengths, offsets = [lengths[index] for index in used], [offsets[index] for index in used]
                return recorded.add(super().decode_stream([place[index] for index in indexes], tables, lengths, offsets))

        google.BufferedRansEncoder, google.RansDecoder = Encoder, Decoder  # of the models that code one position after the other

    def start(self, encoding: bool) -> None:
        """Begin a stream; what an encoder decodes of its own is not taken in."""
        self.check, self._encoding = 0, encoding

    def add(self, symbols: list[int], encoded: bool = False) -> list[int]:
        """Take in symbols in the order of the stream, however they are cut, and return them."""
        import numpy as np

        if encoded is self._encoding:
            self.check = zlib.crc32(np.asarray(symbols, "<i4").tobytes(), self.check)
        return symbols

    def watch(self, entropy_model: Any) -> None:
        """Take in what passes through the coder of CompressAI's `EntropyModel`."""
        recorded, coder = self, entropy_model.entropy_coder

        class Coder:
            name = coder.name

            def encode_with_indexes(self, symbols: list[int], *tables: Any) -> Any:
                return coder.encode_with_indexes(recorded.add(symbols, encoded=True), *tables)

            def decode_with_indexes(self, data: bytes, indexes: list[int], *tables: Any) -> list[int]:
                return recorded.add(coder.decode_with_indexes(data + _room(len(indexes)), indexes, *tables))

        entropy_model.entropy_coder = Coder()


def _room(symbols: int) -> bytes:
    """Zeros for the end of a stream: the decoder does not look where it ends, and a damaged one would send it on into other memory."""
    return bytes(4 * symbols + 4096)


class Models:
    """Models by the file of their weights, a few of which stay loaded."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(1)
        torch.set_grad_enabled(False)
        self._google, self._zoo = load_compressai()
        self._symbols = Symbols(self._google)
        self._least: dict[str, float] = {}
        self.load = lru_cache(4)(self._load)

    def urls(self, _: bytes, architecture: str) -> tuple[None, dict[str, str]]:
        """Return the addresses of CompressAI's weights by the number of the quality, those trained for squared error."""
        return None, {str(quality): url for quality, url in self._zoo.model_urls[architecture]["mse"].items()}

    def encode(self, pixels: Any, architecture: str, weights: str) -> tuple[bytes, dict[str, int]]:
        """Return the strings of the hyperprior and of the latents, one after the other, the length of the first, and the check sum."""
        import torch

        model = self.load(architecture, weights)
        height, width = (-length % BLOCK for length in pixels.shape[:2])
        picture = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        padded = torch.nn.functional.pad(picture, (0, width, 0, height), mode="replicate")
        self._symbols.start(encoding=True)
        (latents,), (hyperprior,) = model.compress(padded)["strings"]
        return hyperprior + latents, {"hyperprior": len(hyperprior), "check": self._symbols.check}

    def decode(self, data: bytes, architecture: str, weights: str, height: int, width: int, hyperprior: int, check: int) -> Any:
        """Return the picture, ``uint8 [height, width, 3]``; raises `ValueError` where other symbols come out than went in."""
        model = self.load(architecture, weights)
        shape = [-(-height // BLOCK), -(-width // BLOCK)]
        if shape[0] * shape[1] * self._least[weights] > 8 * hyperprior + _STATE:
            raise ValueError(f"{height}x{width} pixels take more than {hyperprior} bytes of hyperprior")
        latents = data[hyperprior:] + _room(model.M * 16 * shape[0] * shape[1])
        self._symbols.start(encoding=False)
        picture = model.decompress([[latents], [data[:hyperprior]]], shape)["x_hat"]
        if self._symbols.check != check:
            raise ValueError("decoded latents are not those that were encoded")
        return (picture[0, :, :height, :width] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()

    def _load(self, architecture: str, weights: str) -> Any:
        from safetensors.torch import load_file

        path = Path(weights)
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            import torch

            verify(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = self._zoo.load_pretrained(state.get("state_dict", state))
        model = self._zoo.model_architectures[architecture].from_state_dict(state).eval()
        model.update()  # tables of the entropy coder, where the file has none
        self._symbols.watch(model.entropy_bottleneck)
        self._symbols.watch(model.gaussian_conditional)
        self._least[weights] = least_bits(model.entropy_bottleneck)
        return model


def least_bits(bottleneck: Any) -> float:
    """Return the bits that the likeliest symbol of every channel takes, of a hyperprior's entropy model: fewer no block can have.

    A damaged size is told by that before anything is decoded: some models go from one position to the next, for hours in a large picture.
    """
    channels = zip(bottleneck._quantized_cdf, bottleneck._cdf_length.tolist())  # noqa: B905  # frequencies of 65536, summed up
    return float(sum(16 - cdf[:length].diff().max().double().log2() for cdf, length in channels))


def verify(path: Path) -> None:
    """Raise `ValueError` where the end of a file's name, 8 digits, is not how its SHA-256 begins: the custom of torch's hub."""
    named = re.search(r"-([0-9a-f]{8,64})\.", path.name)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if named is None or not found.startswith(named[1]):
        raise ValueError(f"{path} is not what it should be: its SHA-256 is {found}, not {named[1] if named else 'in its name'}...")
