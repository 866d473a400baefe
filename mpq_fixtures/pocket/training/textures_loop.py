"""What the two texture trainings share: mild augmentation, a seeded loop that can be resumed, and saving.

No codec is in the augmentation: blur, noise and colour stand for imperfect pictures in general, so that a model degrades
smoothly under any codec and is tuned to none.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import random
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

log = logging.getLogger(__name__)

MEAN = STD = (0.5, 0.5, 0.5)
"""Normalisation of the image processors that are saved with the models."""

Draw = Callable[[random.Random, bool], tuple[NDArray[np.uint8], Any]]
"""Draws one training picture and its target, small or whole."""


def parser(steps: int, batch: int, rate: float) -> ArgumentParser:
    """Return the options that both trainings have, with their defaults."""
    options = ArgumentParser()
    options.add_argument("--out", type=Path, required=True, help="folder that the finished model is written to")
    options.add_argument("--work", type=Path, required=True, help="folder of the checkpoint; a training that finds one resumes")
    options.add_argument("--steps", type=int, default=steps)
    options.add_argument("--small", type=float, default=0.87, help="part of the steps on small pictures, which cost a third or less")
    options.add_argument("--batch", type=int, default=batch)
    options.add_argument("--rate", type=float, default=rate, help="peak learning rate")
    options.add_argument("--seed", type=int, default=0)
    return options


def augment(pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur half of the pictures, add noise to half, shift and stretch every channel a little: float ``[n, 3, h, w]`` in 0..255."""
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    sigma = uniform(0.3, 2.0) * (uniform(0, 1) < 0.5) + 1e-3
    taps = torch.exp(-(torch.arange(-3, 4)[None] ** 2) / (2 * sigma[:, None] ** 2))
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = pixels.reshape(1, count * 3, *pixels.shape[2:])
    flat = torch.nn.functional.pad(flat, (3, 3, 3, 3), mode="reflect")
    flat = torch.nn.functional.conv2d(flat, taps[:, None, None, :], groups=count * 3)
    flat = torch.nn.functional.conv2d(flat, taps[:, None, :, None], groups=count * 3)
    blurred = flat.reshape(pixels.shape)
    noise = torch.randn(pixels.shape, generator=generator) * (uniform(0, 8) * (uniform(0, 1) < 0.5))[:, None, None, None]
    gain, offset = uniform(0.8, 1.25, 3, 1, 1), uniform(-16, 16, 3, 1, 1)
    return ((blurred - 128) * gain + 128 + offset + noise).clamp(0, 255)


def dct_filters(size: int, count: int) -> torch.Tensor:
    """Return the ``count`` lowest frequencies of a 2-D DCT-II on grey but for the mean: weights ``[count, 3, size, size]``."""
    axis = np.arange(size) + 0.5
    basis = np.sqrt(2 / size) * np.cos(np.pi * np.arange(size)[:, None] * axis / size)
    order = sorted(((u, v) for u in range(size) for v in range(size)), key=lambda uv: (sum(uv), uv))[1 : count + 1]
    waves = np.stack([np.outer(basis[u], basis[v]) for u, v in order]) / 3
    return torch.from_numpy(np.repeat(waves[:, None], 3, axis=1)).float()


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Scale 0..255 as the image processor does."""
    return pixels / 127.5 - 1


def train(
    model: torch.nn.Module,
    draw: Draw,
    loss: Callable[[torch.Tensor, list[Any]], torch.Tensor],
    options: Namespace,
    check: Callable[[], float],
) -> dict[str, Any]:
    """Train with AdamW and a cosine schedule, and return the facts for training.json.

    ``draw(rng, small)`` gives a picture and its target, the small ones first; ``loss(pixel_values, targets)`` runs the model; ``check()``
    scores it on test pictures, to be printed, and steers nothing. Batches are drawn from the seed and the step alone, so that a
    training that was stopped goes on as if it had not been.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.rate, weight_decay=0.05)
    checkpoint, first, seconds = options.work / "checkpoint.pt", 0, 0.0
    options.work.mkdir(parents=True, exist_ok=True)
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first, seconds = state["step"], state["seconds"]
    began = time.monotonic() - seconds
    generator, running = torch.Generator(), 0.0
    for step in range(first, options.steps):
        generator.manual_seed(options.seed * 1_000_003 + step)
        small = step < options.small * options.steps
        drawn = [draw(random.Random(f"train-{options.seed}-{step}-{number}"), small) for number in range(options.batch)]
        pixels = torch.from_numpy(np.stack([pixels for pixels, _ in drawn])).permute(0, 3, 1, 2).float()
        warm = min(1.0, (step + 1) / 200)
        for group in optimiser.param_groups:
            group["lr"] = options.rate * warm * (0.5 + 0.5 * math.cos(math.pi * step / options.steps))
        model.train()
        value = loss(normalise(augment(pixels, generator)), [target for _, target in drawn])
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        running += 0.02 * (value.item() - running)
        if (step + 1) % 100 == 0:
            log.info("step %d loss %.3f %.0f s", step + 1, running, time.monotonic() - began)
        if (step + 1) % 500 == 0 or step + 1 == options.steps:
            log.info("step %d check %.4f", step + 1, check())
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step + 1}
            state["seconds"] = time.monotonic() - began
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    packages = ("torch", "transformers", "scikit-image", "pillow")
    return {
        "seed": options.seed,
        "steps": options.steps,
        "small": options.small,
        "batch": options.batch,
        "rate": options.rate,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
    }


def save(model: Any, processor: Any, facts: dict[str, Any], out: Path) -> None:
    """Write weights in float16, the configuration, the processor's and training.json; loaders compute in float32."""
    model.half().save_pretrained(out)
    processor.save_pretrained(out)
    (out / "training.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")
