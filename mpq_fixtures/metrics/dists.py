"""Deep image structure and texture similarity."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import NotMeasurable, Statistic, pixels_of, versions
from mpq_fixtures.metrics._networks import NetworkMetric, convolve, tensor_of
from mpq_fixtures.weights import WeightFile, Weights

if TYPE_CHECKING:
    from torch import Tensor

SHORTEST, SIDE = 16, 256
"""Pixels on the shorter side: below the first, the last stage has one value; pictures are scaled down to the second."""

STAGES = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))
"""VGG16's convolutions in torchvision's numbering; the pools between them are replaced."""

CHANNELS = [3, 64, 128, 256, 512, 512]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
C1 = C2 = 1e-6


class DISTS(NetworkMetric):
    """How texture and structure differ in VGG16's features, forgiving textures that were drawn anew (Ding et al. 2020, arXiv 2004.07728).

    Range: the pixels are brought from 0..255 to 0..1. Size: as in the authors' code, a picture whose shorter side has more than 256 pixels
    is scaled down to that (bilinear, with Pillow). Pictures with a side below 16 pixels cannot be measured.
    """

    name = "dists"
    bounds = (0.0, 2.0)
    tolerance = 0.001
    weights = Weights(
        "torchvision",
        (
            WeightFile(
                "vgg16-397923af.pth",
                "https://download.pytorch.org/models/vgg16-397923af.pth",
                "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
                553433881,
            ),
        ),
        "BSD-3-Clause",
        "mpq fetch --metric dists",
    )
    heads = "dists_models/weights.pt", "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218"

    @property
    def settings(self) -> dict[str, Any]:
        """Name the network, the range and the size."""
        return {"network": "vgg16", "range": [0, 1], "shorter_side_at_most": SIDE}

    @property
    def packages(self) -> dict[str, str]:
        """Name torch, which computes, and Pillow, which scales."""
        return {**super().packages, **versions("pillow")}

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two `Image` of one shape."""
        decoded, original = pixels_of(prediction, target, "DISTS")
        height, width, _ = original.shape
        if min(height, width) < SHORTEST:
            raise NotMeasurable(f"dists measures no pictures with a side below {SHORTEST} pixels; this one has {width}x{height}")
        import torch

        with torch.inference_mode():
            return np.array([_distance(*_weights(), tensor_of(_small(decoded)) / 255, tensor_of(_small(original)) / 255), 1.0])


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture with at most 256 pixels on its shorter side."""
    height, width, _ = pixels.shape
    short = min(height, width)
    if short <= SIDE:
        return pixels
    from PIL import Image

    size = int(SIDE * width / short), int(SIDE * height / short)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


@cache
def _weights() -> tuple[dict[str, Tensor], list[Tensor], list[Tensor]]:
    """Return VGG16's convolutions, and the weights of texture and of structure of each stage's channels, which all add up to 1."""
    import torch

    metric = DISTS()
    heads = metric.load_heads()
    total = heads["alpha"].sum() + heads["beta"].sum()
    texture, structure = (list(torch.split(heads[name] / total, CHANNELS, dim=1)) for name in ("alpha", "beta"))
    return metric.load_convolutions(), texture, structure


def _distance(
    convolutions: dict[str, Tensor], textures: list[Tensor], structures: list[Tensor], decoded: Tensor, original: Tensor
) -> float:
    """Return the distance of two pictures ``[1, 3, H, W]`` in 0..1 (equations 4 to 6, ibid.)."""
    similarity = 0.0
    features = _features(convolutions, decoded), _features(convolutions, original)
    for texture, structure, x, y in zip(textures, structures, *features, strict=True):
        mean_x, mean_y = (z.mean(dim=(2, 3), keepdim=True) for z in (x, y))
        covariance = ((x - mean_x) * (y - mean_y)).mean(dim=(2, 3), keepdim=True)
        variances = sum((z - mean).square().mean(dim=(2, 3), keepdim=True) for z, mean in ((x, mean_x), (y, mean_y)))
        alike = texture * (2 * mean_x * mean_y + C1) / (mean_x.square() + mean_y.square() + C1)
        similarity += float((alike + structure * (2 * covariance + C2) / (variances + C2)).sum())
    return 1.0 - similarity


def _features(weights: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """Return a picture in 0..1 and what the five stages of VGG16 see in it."""
    import torch

    mean, deviation = (torch.tensor(channels).view(1, 3, 1, 1) for channels in (MEAN, DEVIATION))
    features, seen = (x - mean) / deviation, [x]
    for number, stage in enumerate(STAGES):
        features = _pooled(features) if number else features
        for index in stage:
            features = convolve(weights, index, features)
        seen.append(features)
    return seen


def _pooled(features: Tensor) -> Tensor:
    """Return features at half the size: the root of their squares under a Hann window, which shifts by a pixel do not change much."""
    import torch
    from torch.nn.functional import conv2d

    profile = torch.tensor([0.25, 0.5, 0.25])
    window = (profile[:, None] * profile).expand(features.shape[1], 1, 3, 3)
    return (conv2d(features.square(), window, stride=2, padding=1, groups=features.shape[1]) + 1e-12).sqrt()
