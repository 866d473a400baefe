r"""Train hyperprior_pocket, a small learned picture codec of CompressAI's mbt2018-mean architecture, at three rates.

    OMP_NUM_THREADS=1 python -m mpq_fixtures.pocket.training.hyperprior_pocket \
        --out mpq_fixtures/pocket/models/hyperprior_pocket --work FOLDER

It runs in an environment of its own, with CompressAI; `mpq_fixtures/pocket/README.md` lists the packages. Of this project it imports the
textures alone.

The transforms start as a cascade of principal components: from random weights the highest rate was still below 29 dB after more steps than
these. The points share the first steps, at the highest rate, and part there. Training pictures are drawn from the training regions of the
textures as the pocket pictures are from the test regions; three in ten are plain crops of those regions and of photographs that the
textures do not use. All photographs are PNG, so that no codec is in them. The files hold the entropy coder's tables, so that
no machine computes its own.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import random
import sys
import time
from argparse import ArgumentParser, Namespace
from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import skimage
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from safetensors.torch import save_file

from mpq_fixtures.pocket.textures import MATERIALS, SIZE, Box, classification, draw_mosaic, draw_sheet, draw_tone
from mpq_fixtures.signals import Image

log = logging.getLogger(__name__)

CHANNELS, LATENTS = 32, 72
"""The architecture's N and M."""

START, POINTS = "start", ("q1", "q2", "q3")
"""The steps that the points share, and the points, from the lowest rate up."""

LAMBDAS = {"start": 0.02, "q1": 0.0008, "q2": 0.0022, "q3": 0.01}
"""Weight of the squared error, in grey levels of 0 to 255, beside the rate in bits per pixel."""

STEP = 0.02
"""The quantiser's step in orthonormal components of pictures in 0..1, times the root of lambda: about what a high rate asks for."""

SHARED = 0.375
"""Part of its cosine that the learning rate has fallen by at the end of the start. Each point takes a whole one."""

CROP = 128
BLOCK = 64
"""What heights and widths have to be multiples of."""

SCALES = (0.11, 64.0, 64)
"""Least and most deviation of the Gaussian tables, and their number. CompressAI's go to 256, in four times the bytes."""

OTHERS = (("astronaut.png", (0, 0, 512, 512)), ("camera.png", (0, 0, 512, 512)), ("coffee.png", (0, 0, 600, 400)))
"""Photographs in scikit-image's wheel that no texture is cut from."""


@cache
def compressai() -> tuple[Any, Any]:
    """Return ``compressai.models.google`` and ``compressai.models.base`` without what CompressAI imports beside them.

    Its ``__init__`` brings data sets and transforms, which nothing here uses, and they bring pandas, torch-geometric and a torchvision of
    torch's own build. The name stands for the folder and the entropy coder instead, and the registry of transforms finds nothing to list.
    """
    package: Any = ModuleType("compressai")
    package.__spec__ = spec = find_spec("compressai")
    package.__path__ = list((spec and spec.submodule_search_locations) or ())
    package.get_entropy_coder, package.available_entropy_coders = lambda: "ans", lambda: ["ans"]
    sys.modules["compressai"] = package
    for name in ("torchvision", "torch_geometric"):
        empty: Any = ModuleType(name)
        empty.transforms = ModuleType(f"{name}.transforms")
        sys.modules |= {name: empty, f"{name}.transforms": empty.transforms}
    return import_module("compressai.models.google"), import_module("compressai.models.base")


def hyperprior() -> Any:
    """Return CompressAI's model, untrained."""
    return compressai()[0].MeanScaleHyperprior(CHANNELS, LATENTS)


@cache
def _colours(name: str) -> NDArray[np.uint8]:
    return np.asarray(Pillow.open(Path(skimage.__file__).parent / "data" / name).convert("RGB"))


def extend(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeat the last row and column until height and width are multiples of 64."""
    height, width = (-length % BLOCK for length in pixels.shape[:2])
    return np.pad(pixels, ((0, height), (0, width), (0, 0)), mode="edge")


def draw(rng: random.Random) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Draw a training crop, and which of its pixels count: those of the picture, and not the edge that it was extended by."""
    kind = rng.random()
    if kind < 0.7:
        if kind < 0.5:
            material = rng.choice(MATERIALS)
            picture = draw_sheet(rng, material, material.train, draw_tone(rng))
        else:
            picture = draw_mosaic(rng, test=False)[0]
        pixels, counts = extend(picture), extend(np.ones((SIZE, SIZE, 1), np.uint8))
        counts[SIZE:], counts[:, SIZE:] = 0, 0
        top, left = (16 * rng.randint(0, (len(pixels) - CROP) // 16) for _ in range(2))
        return pixels[top : top + CROP, left : left + CROP], counts[top : top + CROP, left : left + CROP, 0] > 0
    photo, region = rng.choice(OTHERS) if kind < 0.85 else rng.choice([(material.photo, material.train) for material in MATERIALS])
    return crop(rng, photo, region), np.ones((CROP, CROP), np.bool_)


def crop(rng: random.Random, photo: str, region: Box) -> NDArray[np.uint8]:
    """Cut a square from a region of a photograph in its own colours, turned or flipped."""
    left, top, right, bottom = region
    x, y = rng.randint(left, right - CROP), rng.randint(top, bottom - CROP)
    pixels = np.rot90(_colours(photo)[y : y + CROP, x : x + CROP], rng.randrange(4))
    return pixels[:, ::-1] if rng.randrange(2) else pixels


def initialise(model: Any, step: float) -> None:
    """Let the transforms start as a cascade of principal components, orthonormal but for the quantiser's step, and nearly linear.

    Each layer takes two by two positions of the last to as many of their strongest components as it has channels. Channels to spare
    start at random, and nothing takes them yet.
    """
    rng = random.Random("hyperprior-start")
    pictures = [draw_mosaic(rng, test=False)[0] for _ in range(100)]
    for material in MATERIALS:
        pictures += [draw_sheet(rng, material, material.train, draw_tone(rng)) for _ in range(20)]
    planes, gain = fraction(np.stack(pictures)).sub(0.5).permute(0, 2, 3, 1), (1 / step) ** 0.25
    with torch.no_grad():
        for layer in range(4):
            encoder, decoder = model.g_a[2 * layer], model.g_s[6 - 2 * layer]
            count, height, width, depth = planes.shape
            blocks = planes.reshape(count, height // 2, 2, width // 2, 2, depth).permute(0, 1, 3, 2, 4, 5).flatten(3)
            flat = blocks.flatten(0, 2).double()
            kept = min(4 * depth, encoder.out_channels)
            components = torch.linalg.eigh(flat.T @ flat).eigenvectors.flip(1)[:, :kept].float()
            planes = blocks @ components
            kernel = components.reshape(2, 2, depth, kept).permute(3, 2, 0, 1)
            encoder.weight[:kept] = 0
            encoder.weight[:, depth:] = 0
            encoder.weight[:kept, :depth, 2:4, 2:4] = kernel * gain
            encoder.bias[:kept] = -0.5 * encoder.weight[:kept].sum((1, 2, 3)) if layer == 0 else 0
            decoder.weight[:, :depth] = 0
            decoder.weight[kept:] = 0
            decoder.weight[:kept, :depth, 2:4, 2:4] = kernel / gain
            decoder.bias[:depth] = 0.5 if layer == 0 else 0
        for module in (*model.g_a, *model.g_s):
            if hasattr(module, "gamma"):
                module.gamma *= 0.1


def rescale(model: Any, factor: float) -> None:
    """Enlarge what is quantised, and what is predicted of it, and leave the rest as it is."""
    with torch.no_grad():
        for layer in (model.g_a[-1], model.h_s[-1]):
            layer.weight *= factor
            layer.bias *= factor
        for layer in (model.g_s[0], model.h_a[0]):
            layer.weight /= factor


def forward(model: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what is decoded and the bits that it takes: with noise for the rate, and rounded for the picture (Minnen and Singh 2020)."""

    def rounded(values: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
        return values + (torch.round(values - means) + means - values).detach()

    y = model.g_a(pixels)
    z = model.h_a(y)
    likelihood_z = model.entropy_bottleneck(z)[1]
    medians = model.entropy_bottleneck.quantiles[:, 0, 1].detach()[None, :, None, None]
    scales, means = model.h_s(rounded(z, medians)).chunk(2, 1)
    likelihood_y = model.gaussian_conditional(y, scales, means=means)[1]
    return model.g_s(rounded(y, means)), -(likelihood_y.log2().sum() + likelihood_z.log2().sum())


def fraction(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Return pictures ``uint8 [n, height, width, 3]`` as the codec takes them: ``float [n, 3, height, width]`` in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255


def score(model: Any, samples: int) -> tuple[float, float]:
    """Return bits per pixel, of what the entropy coder wrote and four bytes for the shape, and mean PSNR in dB, on the pocket pictures."""
    bits, decibels, count = 0, 0.0, 0
    for sample in classification(samples).samples:
        signal = sample.signal()
        assert isinstance(signal, Image)
        original = signal.pixels
        height, width = original.shape[:2]
        with torch.inference_mode():
            coded = model.compress(fraction(extend(original)[None]))
            decoded = model.decompress(**coded)["x_hat"][0, :, :height, :width]
        bits += 8 * (sum(len(strings[0]) for strings in coded["strings"]) + 4)
        error = (decoded.mul(255).round().permute(1, 2, 0).numpy() - original.astype(np.float64)) ** 2
        decibels += 10 * math.log10(255**2 / error.mean())
        count += height * width
    return bits / count, decibels / samples


def finished(state: dict[str, torch.Tensor]) -> Any:
    """Return a model with a training's weights, rounded as they are stored, and with the entropy coder's tables of those."""
    model = hyperprior()
    model.load_state_dict({name: tensor.half().float() if tensor.dim() == 4 else tensor for name, tensor in state.items()})
    model.update(compressai()[1].get_scale_table(*SCALES), force=True)
    return model.eval()


def train(stage: str, options: Namespace) -> dict[str, Any]:
    """Train the start that the points share, or a point from there on; go on from the stage's checkpoint; return the last one."""
    checkpoint, model = options.work / f"{stage}.pt", hyperprior()
    first, steps, peak = (0, options.start, options.rate) if stage == START else (options.start, options.start + options.own, options.peak)
    aux = [parameter for name, parameter in model.named_parameters() if name.endswith(".quantiles")]
    outer = [parameter for name, parameter in model.named_parameters() if name.startswith("g_")]
    inner = [parameter for name, parameter in model.named_parameters() if not name.startswith("g_") and not name.endswith(".quantiles")]
    optimiser, aux_optimiser = torch.optim.Adam([{"params": outer}, {"params": inner}]), torch.optim.Adam(aux, lr=1e-2)
    state: dict[str, Any] = {"step": first, "seconds": 0.0}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        aux_optimiser.load_state_dict(state["aux"])
    elif stage == START:
        initialise(model, STEP / LAMBDAS[stage] ** 0.5)
    else:
        model.load_state_dict(torch.load(options.work / f"{START}.pt", weights_only=True)["model"])
        rescale(model, (LAMBDAS[stage] / LAMBDAS[START]) ** 0.5)
    began, weight, running = time.monotonic() - state["seconds"], LAMBDAS[stage], np.zeros(2)
    for step in range(state["step"], steps):
        torch.manual_seed(options.seed * 1_000_003 + step)  # the noise
        drawn = [draw(random.Random(f"hyperprior-q3-{options.seed}-{step}-{number}")) for number in range(options.batch)]
        pixels = fraction(np.stack([picture for picture, _ in drawn]))
        counts = torch.from_numpy(np.stack([counts for _, counts in drawn]))[:, None].float()
        phase = SHARED * step / options.start if stage == START else (step - first) / options.own
        delay, rise = (100, 200) if stage == START else (0, 100)  # the transforms start well, and wait for the prior
        for group, warm in zip(optimiser.param_groups, ((step - first - delay) / rise, (step - first + 1) / 50), strict=True):
            group["lr"] = peak * min(max(warm, 0), 1) * (0.5 + 0.5 * math.cos(math.pi * phase))
        model.train()
        decoded, bits = forward(model, pixels)
        rate, error = bits / counts.sum(), ((decoded - pixels) ** 2 * counts).sum() / counts.sum() / 3
        optimiser.zero_grad()
        (weight * 255**2 * error + rate).backward()
        torch.nn.utils.clip_grad_norm_([*outer, *inner], 1.0)
        optimiser.step()
        aux_optimiser.zero_grad()
        model.aux_loss().backward()
        aux_optimiser.step()
        running += (0.02 if running.any() else 1) * (np.array([rate.item(), error.item() * 255**2]) - running)
        if (step + 1) % 100 == 0:
            log.info("%s step %d bpp %.3f MSE %.1f %.0f s", stage, step + 1, *running, time.monotonic() - began)
        if (step + 1) % 250 == 0 or step + 1 == steps:
            log.info("%s step %d check: bpp %.4f PSNR %.3f", stage, step + 1, *score(finished(model.state_dict()), 20))
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "aux": aux_optimiser.state_dict()}
            state |= {"step": step + 1, "seconds": time.monotonic() - began}
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    return state


def main() -> None:
    """Train the points, or go on with them, score and save them."""
    parser = ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="folder that the finished points are written to")
    parser.add_argument("--work", type=Path, required=True, help="folder of the checkpoints; a training that finds one resumes")
    parser.add_argument("--points", nargs="*", choices=POINTS, default=list(POINTS))
    parser.add_argument("--start", type=int, default=600, help="steps that the points share")
    parser.add_argument("--own", type=int, default=900, help="steps of each point after those")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5e-4, help="peak learning rate of the start")
    parser.add_argument("--peak", type=float, default=7e-4, help="peak learning rate of each point")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    options.out.mkdir(parents=True, exist_ok=True)
    shared = train(START, options)
    for point in options.points:
        state = train(point, options)
        model = finished(state["model"])
        tensors = {name: tensor.half() if tensor.dim() == 4 else tensor for name, tensor in model.state_dict().items()}
        metadata = {"architecture": "mbt2018-mean", "N": str(CHANNELS), "M": str(LATENTS)}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, options.out / f"{point}.safetensors", metadata)
        bpp, psnr = score(model, 240)
        facts = {"lambda": LAMBDAS[point], "minutes": round(state["seconds"] / 60, 1), "bpp": bpp, "PSNR": psnr}
        log.info("%s %s", point, facts)
        (options.work / f"{point}.json").write_text(json.dumps(facts))
    points = {point: options.work / f"{point}.json" for point in POINTS}
    if all(path.exists() for path in points.values()):
        packages = ("torch", "compressai", "numpy", "scikit-image", "pillow")
        facts = {
            "seed": options.seed,
            "batch": options.batch,
            "start": options.start,
            "own": options.own,
            "crop": CROP,
            "rate": options.rate,
            "peak": options.peak,
            "lambda": LAMBDAS[START],
            "minutes": round(shared["seconds"] / 60, 1),
            "N": CHANNELS,
            "M": LATENTS,
            "parameters": sum(parameter.numel() for parameter in hyperprior().parameters()),
            "points": {point: json.loads(path.read_text()) for point, path in points.items()},
            "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        }
        (options.out / "training.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
