"""What the metrics of pictures by networks share: the networks' convolutions, and weights that are what they should be.

The networks are a few convolutions, and are computed here: torchvision, which defines them, does not load beside every build of torch.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.errors import AssetError, MissingAsset
from mpq_fixtures.metrics import SignalMetric, lacking, versions
from mpq_fixtures.signals import Modality
from mpq_fixtures.weights import Weights, digest_of_file

if TYPE_CHECKING:
    from torch import Tensor

HEADS = "functional/image"
"""Where torchmetrics has what was learned on top of the networks."""


class NetworkMetric(SignalMetric):
    """A distance of pictures by the features of a network: 0 for identical ones, lower is nearer.

    ``weights`` are the network's, one file of torchvision; ``heads`` is what the metric's authors learned on top of it, a file that comes
    with torchmetrics, and its SHA-256.
    """

    modality = Modality.IMAGE
    unit = "1"
    higher_is_better = False
    weights: ClassVar[Weights]
    heads: ClassVar[tuple[str, str]]

    @property
    def packages(self) -> dict[str, str]:
        """Name torch, which computes; weights and heads are known by their content."""
        return versions("torch")

    def missing(self) -> str:
        """Name the package, or the command that brings the network's weights."""
        return lacking(torchmetrics="torchmetrics") or self.weights.missing()

    def load_heads(self) -> dict[str, Tensor]:
        """Return what the authors learned; raises `AssetError` where the package has something else."""
        name, sha256 = self.heads
        found = importlib.util.find_spec("torchmetrics")
        if found is None or not found.submodule_search_locations:
            raise MissingAsset(f"metric {self.name}: {self.missing()}")
        path = Path(found.submodule_search_locations[0]) / HEADS / name
        digest = digest_of_file(path) if path.is_file() else "missing"
        if digest != sha256:
            raise AssetError(f"{path} is not what it should be: its SHA-256 is {digest}, not {sha256}: pip install torchmetrics==1.9.0")
        return _load(path)

    def load_convolutions(self) -> dict[str, Tensor]:
        """Return the weights of the network's convolutions, ``features.0.weight`` and so on."""
        content = _load(self.weights.require() / self.weights.files[0].name)
        return {name: tensor for name, tensor in content.items() if name.startswith("features.")}


def convolve(weights: dict[str, Tensor], index: int, x: Tensor, stride: int = 1) -> Tensor:
    """Apply convolution ``index`` of a network in torchvision's numbering and what follows it, a rectifier."""
    from torch.nn.functional import conv2d, relu

    kernel = weights[f"features.{index}.weight"]
    padding = 2 if stride == 4 else kernel.shape[-1] // 2
    return relu(conv2d(x, kernel, weights[f"features.{index}.bias"], stride, padding))


def tensor_of(pixels: NDArray[np.uint8]) -> Tensor:
    """Return pixels as ``float32 [1, 3, H, W]``, 0..255."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32))[None]


def _load(path: Path) -> dict[str, Any]:
    import torch

    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return content
