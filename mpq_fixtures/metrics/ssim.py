"""Structural similarity of decoded pictures."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.metrics import SignalMetric, Statistic, pixels_of
from mpq_fixtures.signals import Modality

WINDOW = 11
"""Pixels on a side of the Gaussian window."""

SIGMA = 1.5
C1, C2 = np.float32((0.01 * 255) ** 2), np.float32((0.03 * 255) ** 2)
MIDDLE, HALF, ROOT_2 = np.float32(128), np.float32(0.5), np.float32(2**0.5)

BLOCK = 16
"""Rows or columns that one product filters: few enough that most of what it multiplies with is not 0."""

TILE = (6 * BLOCK, 32 * BLOCK)
"""Rows and columns of windows that are worked on at once, so that what is in between stays in the processor's cache."""

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of R, G and B (Rec. ITU-R BT.601)."""


class SSIM(SignalMetric):
    """The structural similarity index of luma, averaged over the windows of a picture and then over samples (Wang et al. 2004).

    A Gaussian window of 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, a range of 255 and population moments, as in the paper; windows
    that lap over the edge are left out. A picture with a side shorter than the window is mirrored up to it. Statistic: the index, ``[]``.

    The tolerance is above what decoders of one format may differ by in rounding, and below what a person sees.

    Equal to scikit-image's to 1e-6, and six times as fast: four filters rather than five, as matrix products. SSIM is taken of every
    sample of every case and would cost more than coding and a small model together.
    """

    name, modality = "ssim", Modality.IMAGE
    automatic = True
    unit = "SSIM"
    bounds = (-1.0, 1.0)
    tolerance = 0.002

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Compare two `Image` of one shape."""
        decoded, original = pixels_of(prediction, target, "SSIM")
        return np.array(similarity(widened(decoded), widened(original))[0])

    def score(self, total: Statistic, samples: int) -> NDArray[np.float64]:
        """Return the mean over samples."""
        return np.asarray(total / samples)


def widened(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels that are at least a window wide and high: a shorter side is mirrored."""
    short = [(0, max(WINDOW - side, 0)) for side in pixels.shape[:2]]
    return np.pad(pixels, (*short, (0, 0)), mode="symmetric") if any(after for _, after in short) else pixels


def luma_of(plane: NDArray[Any]) -> NDArray[np.float32]:
    """Return the luma ``[H, W]``, 0..255 and not rounded, of pixels ``[H, W, 3]``, in single precision for speed; or that of a luma."""
    if plane.ndim == 2:
        return plane
    luma: NDArray[np.float32] = plane.astype(np.float32).reshape(-1, 3) @ LUMA
    return luma.reshape(plane.shape[:2])


def _luma_into(luma: NDArray[np.float32], plane: NDArray[Any]) -> NDArray[np.float32]:
    """Return what `luma_of` does, in memory that is there already."""
    if plane.ndim == 2:
        return plane
    pixels = _room.pixels[: plane.size].reshape(-1, 3)
    np.copyto(pixels.reshape(plane.shape), plane)
    np.dot(pixels, LUMA, out=luma.reshape(-1))
    return luma


def similarity(decoded: NDArray[Any], original: NDArray[Any]) -> NDArray[np.float64]:
    """Return the mean index of two pictures ``[H, W, 3]`` or lumas ``[H, W]``, and the mean of its part without luminance, tile by tile."""
    rows, columns = (side - WINDOW + 1 for side in original.shape[:2])
    height, width = (min(most, side) for most, side in zip(TILE, (rows, columns), strict=True))
    lost = np.zeros(2)
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            tile = slice(top, min(top + height, rows) + WINDOW - 1), slice(left, min(left + width, columns) + WINDOW - 1)
            lost += _losses(decoded[tile], original[tile])
    return np.asarray(1 - lost / (rows * columns))


class _Room(threading.local):
    """Each thread's memory for a tile: its pixels, and its planes as they are, filtered down, and across. Asking anew costs half more."""

    def __init__(self) -> None:
        height, width = TILE
        sizes = (height + WINDOW - 1) * (width + WINDOW - 1), height * (width + WINDOW - 1), height * width
        self._memory = [np.empty(4 * size, np.float32) for size in sizes]
        self.pixels = np.empty(3 * sizes[0], np.float32)

    def planes(self, step: int, height: int, width: int) -> NDArray[np.float32]:
        """Return four planes ``[4, height, width]`` of step 0, 1 or 2."""
        return self._memory[step][: 4 * height * width].reshape(4, height, width)


_room = _Room()


def _losses(decoded: NDArray[Any], original: NDArray[Any]) -> tuple[float, float]:
    """Return the sum over all windows of what the index (equation 13, ibid.) lacks to 1, and that of contrast and structure.

    With u = x + y and w = sqrt(2) (x - y) both are differences that are small where the pictures are alike, which keeps single precision:
    the luminance is ``1 - mean(w)^2 / (mean(u)^2 + mean(w)^2 / 2 + 2 C1)``, contrast and structure are the same of variances and C2.
    """
    high, wide = original.shape[:2]
    height, width = high - WINDOW + 1, wide - WINDOW + 1
    planes = _room.planes(0, high, wide)
    u, w, squares_u, squares_w = planes
    x, y = _luma_into(squares_u, decoded), _luma_into(squares_w, original)
    np.add(x, y, out=u)
    u -= 2 * MIDDLE  # variances stay, and rounding errors shrink
    np.subtract(x, y, out=w)
    w *= ROOT_2
    np.square(u, out=squares_u)
    np.square(w, out=squares_w)
    down = _room.planes(1, height, wide)
    _filter_columns(planes, down)
    means_u, means_w, variances_u, variances_w = filtered = _room.planes(2, height, width)
    _filter_rows(down.reshape(4 * height, -1), filtered.reshape(4 * height, -1))
    (spare, *_), (luminance, *_) = _room.planes(0, height, width), _room.planes(1, height, width)
    np.square(means_u, out=spare)
    variances_u -= spare
    np.square(means_w, out=luminance)
    variances_w -= luminance
    contrast = _ratio(variances_w, variances_u, C2, spare)
    means_u += 2 * MIDDLE
    np.square(means_u, out=means_u)
    luminance = _ratio(luminance, means_u, C1, spare)
    lost = float(contrast.sum())
    return lost + float(luminance.sum()) - float(np.vdot(luminance, contrast)), lost


def _ratio(of_w: NDArray[np.float32], of_u: NDArray[np.float32], constant: np.float32, spare: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``w / (u + w / 2 + 2 constant)`` in place of ``w``; ``u`` and ``spare`` are lost."""
    np.multiply(of_w, HALF, out=spare)
    of_u += spare
    of_u += 2 * constant
    of_w /= of_u
    return of_w


def _filter_columns(planes: NDArray[np.float32], filtered: NDArray[np.float32]) -> None:
    """Filter planes ``[n, H, W]`` down their columns where the window fits, into ``[n, H - 10, W]``.

    Each block of rows is the product of a banded matrix with the rows under its windows.
    """
    band, rows = _band(), filtered.shape[1]
    whole = rows // BLOCK * BLOCK
    for start in range(0, whole, BLOCK):
        np.matmul(band, planes[:, start : start + band.shape[1]], out=filtered[:, start : start + BLOCK])
    if rest := rows - whole:
        np.matmul(band[:rest, : rest + WINDOW - 1], planes[:, whole:], out=filtered[:, whole:])


def _filter_rows(planes: NDArray[np.float32], filtered: NDArray[np.float32]) -> None:
    """Filter ``[n, W]`` along its rows, into ``[n, W - 10]``; as `_filter_columns` does."""
    band, columns = _band().T, filtered.shape[1]
    whole = columns // BLOCK * BLOCK
    for start in range(0, whole, BLOCK):
        np.matmul(planes[:, start : start + len(band)], band, out=filtered[:, start : start + BLOCK])
    if rest := columns - whole:
        np.matmul(planes[:, whole:], band[: rest + WINDOW - 1, :rest], out=filtered[:, whole:])


@cache
def _band() -> NDArray[np.float32]:
    """Return the matrix ``[BLOCK, BLOCK + 10]`` whose rows are the window's profile, each one further to the right."""
    profile = np.exp(-0.5 * np.square(np.arange(WINDOW) - WINDOW // 2) / SIGMA**2)
    band = np.zeros((BLOCK, BLOCK + WINDOW - 1))
    for row in range(BLOCK):
        band[row, row : row + WINDOW] = profile / profile.sum()
    return band.astype(np.float32)
