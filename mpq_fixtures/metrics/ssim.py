"""Structural similarity of decoded pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import Additive, Statistic
from mpq_fixtures.signals import Image

WINDOW = 11
"""Pixels on a side of the Gaussian window."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of R, G and B (Rec. ITU-R BT.601)."""


class SSIM(Additive):
    """The structural similarity index of luma, averaged over the windows of a picture and then over samples (Wang et al. 2004).

    A Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, a range of 255 and population moments, as in the paper; windows
    that lap over the edge are left out. A picture with a side shorter than the window is mirrored up to it. Statistic: the index, ``[]``.

    The tolerance is above what decoders of one format may differ by in rounding, and below what a person sees.
    """

    name = "ssim"
    unit = "SSIM"
    bounds = (-1.0, 1.0)
    tolerance = 0.002

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two `Image` of one shape."""
        if not (isinstance(prediction, Image) and isinstance(target, Image)):
            raise ValueError(f"SSIM compares two pictures, not {type(prediction).__name__} with {type(target).__name__}")
        if prediction.pixels.shape != target.pixels.shape or not prediction.pixels.size:
            raise ValueError(f"SSIM compares pictures of one shape, not {list(prediction.pixels.shape)} with {list(target.pixels.shape)}")
        from skimage.metrics import structural_similarity

        original, decoded = _luma(target.pixels), _luma(prediction.pixels)
        index = structural_similarity(  # type: ignore[no-untyped-call]
            original, decoded, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
        )
        return np.array(index, dtype=np.float64)

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return the mean over samples."""
        return np.asarray(total / samples)


def _luma(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the luma ``[H, W]``, 0..255 and not rounded, at least a window wide and high, in single precision for speed."""
    luma = pixels @ LUMA
    short = [(0, max(WINDOW - side, 0)) for side in luma.shape]
    return np.pad(luma, short, mode="symmetric") if any(after for _, after in short) else luma
