"""Structural similarity of decoded pictures at several scales."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import NotMeasurable, SignalMetric, Statistic, pixels_of
from mpq_fixtures.metrics.ssim import WINDOW, luma_of, similarity
from mpq_fixtures.signals import Modality

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of the five scales, the finest first (section 3.2 of the paper)."""

SHORTEST = (WINDOW - 1) * 2 ** (len(EXPONENTS) - 1) + 1
"""Pixels on the shorter side that leave a window at the coarsest scale: 161."""

STRIP = 64
"""Rows that are halved at once; an even number."""


class MSSSIM(SignalMetric):
    """How contrast and structure are kept at five scales, and luminance at the coarsest (Wang, Simoncelli and Bovik 2003).

    Of luma, a range of 255, and the window of `SSIM`. Each scale is the means of 2x2 pixels of the one before; at an odd side the last ones
    are mirrored, as in the authors' code. A scale whose mean is negative counts as 0. Pictures with a side below 161 pixels cannot be
    measured. Values over R, G and B, which papers on learned codecs print, are somewhat lower.

    Equal to pytorch-msssim's. torchmetrics' differ in the third decimal: at the coarsest scale it mirrors the picture under the windows.
    """

    name, modality = "ms_ssim", Modality.IMAGE
    unit = "1"
    bounds = (0.0, 1.0)
    tolerance = 0.002

    @property
    def settings(self) -> dict[str, Any]:
        """Name what is compared."""
        return {"plane": "luma"}

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two `Image` of one shape."""
        decoded, original = pixels_of(prediction, target, "MS-SSIM")
        height, width, _ = original.shape
        if min(height, width) < SHORTEST:
            raise NotMeasurable(f"ms_ssim measures no pictures with a side below {SHORTEST} pixels; this one has {width}x{height}")
        x: NDArray[Any] = decoded
        y: NDArray[Any] = original
        product = 1.0
        for scale, exponent in enumerate(EXPONENTS):
            index, contrast = similarity(x, y)
            product *= max(0.0, index if scale == len(EXPONENTS) - 1 else contrast) ** exponent
            if scale < len(EXPONENTS) - 1:
                x, y = _halved(x), _halved(y)
        return np.array([min(product, 1.0), 1.0])  # rounding takes identical pictures a little over 1


def _halved(plane: NDArray[Any]) -> NDArray[np.float32]:
    """Return the luma of a picture or a luma at half its size, strip by strip."""
    height, width = plane.shape[:2]
    half = np.empty((-(-height // 2), -(-width // 2)), np.float32)
    for top in range(0, height, STRIP):
        luma = luma_of(plane[top : top + STRIP])
        even = np.pad(luma, ((0, len(luma) % 2), (0, width % 2)), mode="symmetric")
        half[top // 2 : (top + STRIP) // 2] = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / np.float32(4)
    return half
