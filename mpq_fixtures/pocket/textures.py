"""Textures: pictures of one material to classify, and mosaics of four materials to segment.

Everything is cut at run time from photographs inside scikit-image's wheel, all of them lossless PNG, with integer arithmetic
alone, so that the pixels are the same on every machine. Each photograph has a region to train on and a region to test on,
at least 16 pixels apart. Swatches are set to a chosen mean and contrast, so that a material is told by its texture and not
by its brightness or colour; contrasts run from faint to strong, so that some pictures survive a coarse quantiser and some do not.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from mpq_fixtures.signals import Dataset, Image, Sample

VERSION = 1
"""Raised when a recipe changes, so that every digest does."""

SIZE = 224
"""Height and width of every picture."""

SWATCH = SIZE // 2
CONTRASTS = (10, 13, 16, 20, 25, 32, 40, 50)
"""Standard deviations that swatches are set to, in grey levels."""

STEEPEST = 4
"""Most that a contrast is stretched: flat swatches stay flat, and their grain stays grain."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, the last two exclusive."""


@dataclass(frozen=True)
class Material:
    """A texture: a photograph of skimage.data and the regions of it that are trained and tested on."""

    name: str
    photo: str
    train: Box
    test: Box


MATERIALS = (
    Material("brick", "brick.png", (0, 0, 336, 512), (352, 0, 512, 512)),
    Material("coins", "coins.png", (0, 0, 250, 303), (266, 0, 384, 303)),
    Material("fur", "chelsea.png", (150, 0, 340, 300), (14, 110, 134, 300)),
    Material("grass", "grass.png", (0, 0, 336, 512), (352, 0, 512, 512)),
    Material("gravel", "gravel.png", (0, 0, 336, 512), (352, 0, 512, 512)),
    Material("handwriting", "text.png", (0, 0, 300, 172), (316, 0, 448, 172)),
    Material("moon", "moon.png", (0, 0, 336, 512), (352, 0, 512, 512)),
    Material("motorcycle", "motorcycle_left.png", (110, 190, 430, 400), (510, 240, 690, 440)),
    Material("print", "page.png", (0, 0, 254, 191), (270, 24, 384, 150)),
    Material("tissue", "ihc.png", (0, 0, 512, 336), (0, 352, 512, 512)),
)
LABELS = tuple(material.name for material in MATERIALS)

IN_MOSAICS = tuple(material for material in MATERIALS if material.name not in ("fur", "moon"))
"""What mosaics are made of. Much of the fur and of the moon is flat, and in one cell of a mosaic nothing tells flat from flat."""

MOSAIC_LABELS = tuple(material.name for material in IN_MOSAICS)


@dataclass(frozen=True)
class Tone:
    """How a picture is printed: mean level and standard deviation of red, green and blue, in grey levels."""

    levels: tuple[int, int, int]
    contrasts: tuple[int, int, int]


@cache
def _folder() -> Path:
    """Find skimage/data without importing skimage."""
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the textures are cut from photographs in scikit-image's wheel: pip install scikit-image")
    return Path(spec.submodule_search_locations[0]) / "data"


@cache
def _photo(name: str) -> NDArray[np.uint8]:
    """Decode a photograph to luma, ``uint8 [height, width]`` (Pillow's "L" is ITU-R 601 in integers)."""
    return np.asarray(Pillow.open(_folder() / name).convert("L"))


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((_folder() / name).read_bytes()).hexdigest()


def _table(grey: NDArray[np.uint8], tone: Tone) -> NDArray[np.uint8]:
    """Map a swatch's 256 grey levels to colours, ``uint8 [256, 3]``, so that it has the tone's mean and contrast."""
    counts = np.bincount(grey.ravel(), minlength=256)
    values = np.arange(256)
    count, total = grey.size, int(counts @ values)
    deviation = isqrt(count * int(counts @ values**2) - total * total)  # count times the standard deviation
    scales = np.array([max(deviation, contrast * count // STEEPEST, 1) for contrast in tone.contrasts])
    levels = tone.levels + (values[:, None] * count - total) * np.array(tone.contrasts) // scales
    table: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
    return table


def draw_tone(rng: random.Random) -> Tone:
    """Draw a tint and a contrast."""
    contrast = rng.choice(CONTRASTS)
    levels = tuple(rng.randint(104, 152) for _ in range(3))
    contrasts = tuple(contrast + rng.randint(-(contrast // 4), contrast // 4) for _ in range(3))
    return Tone(levels, contrasts)  # type: ignore[arg-type]  # three each


def _draw_codes(rng: random.Random, material: Material, region: Box, tone: Tone) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """Draw a sheet as codes, ``uint16 [SIZE, SIZE]``, and the colours that they index, ``uint8 [4 * 256, 3]``."""
    photo = _photo(material.photo)
    left, top, right, bottom = region
    codes = np.empty((SIZE, SIZE), np.uint16)
    tables: list[NDArray[np.uint8]] = []
    for row in (0, SWATCH):
        for column in (0, SWATCH):
            x, y = rng.randint(left, right - SWATCH), rng.randint(top, bottom - SWATCH)
            grey = np.rot90(photo[y : y + SWATCH, x : x + SWATCH], rng.randrange(4))
            grey = grey[:, ::-1] if rng.randrange(2) else grey
            codes[row : row + SWATCH, column : column + SWATCH] = grey
            codes[row : row + SWATCH, column : column + SWATCH] += len(tables) * 256
            tables.append(_table(grey, tone))
    return codes, np.concatenate(tables)


def draw_sheet(rng: random.Random, material: Material, region: Box, tone: Tone) -> NDArray[np.uint8]:
    """Lay four swatches of a material from its region, each turned or flipped, side by side: ``uint8 [SIZE, SIZE, 3]``."""
    codes, table = _draw_codes(rng, material, region, tone)
    pixels: NDArray[np.uint8] = table.take(codes, axis=0)
    return pixels


def draw_cells(rng: random.Random) -> NDArray[np.uint8]:
    """Divide a picture among four sites, one in each quarter, every pixel to its nearest: ``uint8 [SIZE, SIZE]`` of 0 to 3."""
    axis = np.arange(SIZE, dtype=np.int32)
    corners = ((row, column) for row in (0, SWATCH) for column in (0, SWATCH))
    sites = [(row + rng.randrange(28, SWATCH - 28), column + rng.randrange(28, SWATCH - 28)) for row, column in corners]
    # The squares of the pixel's own coordinates are the same for every site: only the linear part of the distance counts.
    distances = [(y * y - 2 * y * axis)[:, None] + (x * x - 2 * x * axis)[None, :] for y, x in sites]
    cells, nearest = np.zeros((SIZE, SIZE), np.uint8), distances[0]
    for cell, distance in enumerate(distances[1:], 1):
        cells[distance < nearest] = cell
        nearest = np.minimum(nearest, distance)
    return cells


def draw_mosaic(rng: random.Random, test: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a mosaic of four materials in one tone: pixels ``uint8 [SIZE, SIZE, 3]`` and the class map ``uint8 [SIZE, SIZE]``."""
    tone, cells = draw_tone(rng), draw_cells(rng)
    chosen = rng.sample(range(len(IN_MOSAICS)), 4)
    codes = np.empty((SIZE, SIZE), np.uint16)
    tables: list[NDArray[np.uint8]] = []
    for cell, index in enumerate(chosen):
        material = IN_MOSAICS[index]
        own, table = _draw_codes(rng, material, material.test if test else material.train, tone)
        np.copyto(codes, own + np.uint16(cell * len(table)), where=cells == cell)
        tables.append(table)
    return np.concatenate(tables).take(codes, axis=0), np.array(chosen, np.uint8)[cells]


def _sheet_signal(seed: str, index: int) -> Image:
    rng, material = random.Random(seed), MATERIALS[index]
    return Image(draw_sheet(rng, material, material.test, draw_tone(rng)))


def _mosaic_signal(seed: str) -> Image:
    return Image(draw_mosaic(random.Random(seed), test=True)[0])


def _mosaic_target(seed: str) -> NDArray[np.uint8]:
    return draw_mosaic(random.Random(seed), test=True)[1]


def _source(seed: str, materials: tuple[Material, ...]) -> str:
    """Digest what decides a sample: the recipe's version and seed, the constants, the photographs and where they are cut."""
    recipe = (VERSION, seed, SIZE, CONTRASTS, STEEPEST, [(material, _digest(material.photo)) for material in materials])
    return hashlib.sha256(repr(recipe).encode()).hexdigest()


def classification(samples: int = 240) -> Dataset:
    """Return pictures of one material each, the materials in turn; the target is the index of the material in the labels."""

    def sample(number: int) -> Sample:
        index = number % len(MATERIALS)
        seed = f"sheet-{number}"
        source = _source(seed, (MATERIALS[index],))
        return Sample(f"{LABELS[index]}-{number:03d}", source, SIZE * SIZE * 3, partial(_sheet_signal, seed, index), lambda: index)

    return Dataset([sample(number) for number in range(samples)], LABELS)


def segmentation(samples: int = 120) -> Dataset:
    """Return mosaics of four materials each; the target is the class map, ``uint8 [SIZE, SIZE]`` of indices into the labels."""

    def sample(number: int) -> Sample:
        seed = f"mosaic-{number}"
        return Sample(
            f"mosaic-{number:03d}", _source(seed, IN_MOSAICS), SIZE * SIZE * 3, partial(_mosaic_signal, seed), partial(_mosaic_target, seed)
        )

    return Dataset([sample(number) for number in range(samples)], MOSAIC_LABELS)
