"""Learned perceptual image patch similarity."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from mpq_fixtures.metrics import NotMeasurable, Statistic, pixels_of
from mpq_fixtures.metrics._networks import NetworkMetric, convolve, tensor_of
from mpq_fixtures.weights import WeightFile, Weights

if TYPE_CHECKING:
    from torch import Tensor

SHORTEST = 31
"""Pixels on the shorter side: below, nothing is left for the last convolutions."""

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class LPIPS(NetworkMetric):
    """Weighted squared differences of AlexNet's normalised features (Zhang et al. 2018, arXiv 1801.03924), network alex, version 0.1.

    Range: the pixels are brought from 0..255 to -1..1, as the authors do; in 0..1 values come out too low. All pixels count, nothing is
    resized. Pictures with a side below 31 pixels cannot be measured.
    """

    name = "lpips"
    bounds = (0.0, float("inf"))
    tolerance = 0.001
    weights = Weights(
        "torchvision",
        (
            WeightFile(
                "alexnet-owt-7be5be79.pth",
                "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
                "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
                244408911,
            ),
        ),
        "BSD-3-Clause",
        "mpq fetch --metric lpips",
    )
    heads = "lpips_models/alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"

    @property
    def settings(self) -> dict[str, Any]:
        """Name the network, the version and the range."""
        return {"network": "alex", "version": "0.1", "range": [-1, 1]}

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two `Image` of one shape."""
        decoded, original = pixels_of(prediction, target, "LPIPS")
        height, width, _ = original.shape
        if min(height, width) < SHORTEST:
            raise NotMeasurable(f"lpips measures no pictures with a side below {SHORTEST} pixels; this one has {width}x{height}")
        import torch

        with torch.inference_mode():
            return np.array([_distance(*_weights(), tensor_of(decoded) / 127.5 - 1, tensor_of(original) / 127.5 - 1), 1.0])


@cache
def _weights() -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return AlexNet's convolutions and the weights of the channels of each, ``[1, channels, 1, 1]``."""
    metric = LPIPS()
    heads = metric.load_heads()
    return metric.load_convolutions(), [heads[f"lin{layer}.model.1.weight"] for layer in range(5)]


def _distance(convolutions: dict[str, Tensor], heads: list[Tensor], decoded: Tensor, original: Tensor) -> float:
    """Return the distance of two pictures ``[1, 3, H, W]`` in -1..1 (equation 1, ibid.)."""
    pairs = zip(heads, _features(convolutions, decoded), _features(convolutions, original), strict=True)
    return sum(float((head * (_unit(x) - _unit(y)).square()).sum(dim=1).mean()) for head, x, y in pairs)


def _features(weights: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Return what AlexNet's five convolutions see in a picture in -1..1."""
    import torch
    from torch.nn.functional import max_pool2d

    shift, scale = (torch.tensor(channels).view(1, 3, 1, 1) for channels in (SHIFT, SCALE))
    first = convolve(weights, 0, (x - shift) / scale, stride=4)
    second = convolve(weights, 3, max_pool2d(first, 3, 2))
    third = convolve(weights, 6, max_pool2d(second, 3, 2))
    fourth = convolve(weights, 8, third)
    return [first, second, third, fourth, convolve(weights, 10, fourth)]


def _unit(features: Tensor) -> Tensor:
    """Return features with a length of 1 over channels."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
