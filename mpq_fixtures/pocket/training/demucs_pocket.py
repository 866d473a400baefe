"""Train the pocket's source separation model: a small Hybrid Demucs (Défossez, 2021, arXiv 2111.03600) on synthesised songs.

``python -m mpq_fixtures.pocket.training.demucs_pocket`` goes on from its checkpoint when there is one, and leaves
``model.safetensors`` with the averaged weights in half precision and ``training.json`` in the output folder. No codec
takes part: the model hears songs as they were made.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mpq_fixtures.pocket.training.songs import FRAMES, SAMPLE_RATE, STEMS, TRAINING_SEED, VALIDATION_SEEDS, song

ARCHITECTURE: dict[str, Any] = {
    "sources": list(STEMS),
    "audio_channels": 2,
    "channels": 16,
    "channels_time": 8,
    "depth": 4,
    "nfft": 1024,
    "samplerate": SAMPLE_RATE,
    "segment": 8,
}


def read(seed: int) -> torch.Tensor:
    """Return a song as ``[stems, 2, FRAMES]``."""
    stems = song(seed)
    return torch.from_numpy(np.stack([stems[name] for name in STEMS]))


def crops(songs: list[torch.Tensor], rng: np.random.Generator, batch: int, frames: int) -> torch.Tensor:
    """Cut ``[batch, stems, 2, frames]`` at random; half of them mix stems of different songs. Levels, sides and signs vary."""
    items = []
    for _ in range(batch):
        chosen = rng.integers(len(songs), size=len(STEMS))
        if rng.random() < 0.5:
            chosen[:] = chosen[0]
        start = np.full(len(STEMS), rng.integers(FRAMES - frames + 1))
        if chosen[0] != chosen[1]:
            start = rng.integers(FRAMES - frames + 1, size=len(STEMS))
        stems = torch.stack([songs[which][row, :, at : at + frames] for row, (which, at) in enumerate(zip(chosen, start, strict=True))])
        gain = 10 ** (rng.uniform(-3, 3, (len(STEMS), 1, 1)) / 20) * rng.choice([-1, 1], (len(STEMS), 1, 1))
        stems = stems * torch.from_numpy(gain.astype(np.float32))
        items.append(stems.flip(1) if rng.random() < 0.5 else stems)
    return torch.stack(items)


def loss(estimates: torch.Tensor, stems: torch.Tensor) -> torch.Tensor:
    """Return the L1 distance relative to each stem's level, plus a little log of the relative squared error."""
    level = stems.abs().mean((-2, -1)) + 1e-2
    power = stems.square().mean((-2, -1)) + 1e-4
    error = estimates - stems
    return (error.abs().mean((-2, -1)) / level).mean() + 0.1 * (error.square().mean((-2, -1)) / power + 1e-4).log().mean()


def frame_sdr(estimates: torch.Tensor, stems: torch.Tensor) -> torch.Tensor:
    """Return the SDR of each second in dB, ``[songs, stems, seconds]``."""
    seconds = stems.shape[-1] // SAMPLE_RATE

    def energy(sound: torch.Tensor) -> torch.Tensor:
        return sound.reshape(*sound.shape[:-1], seconds, SAMPLE_RATE).square().sum((2, 4))

    return 10 * torch.log10((energy(stems) + 1e-9) / (energy(estimates - stems) + 1e-9))


@torch.inference_mode()
def evaluate(model: torch.nn.Module, songs: list[torch.Tensor]) -> dict[str, float]:
    """Return the median over songs of the median over seconds of the SDR in dB, by stem, and their mean."""
    model.eval()
    medians = torch.cat([frame_sdr(model(stems.sum(0)[None]), stems[None]) for stems in songs]).numpy()
    model.train()
    by_stem = np.median(np.median(medians, axis=2), axis=0)
    return {**{name: round(float(value), 3) for name, value in zip(STEMS, by_stem, strict=True)}, "mean": round(float(by_stem.mean()), 3)}


def save(model: torch.nn.Module, path: Path) -> None:
    """Write what ``demucs.hf.load_safetensors_model`` reads, in half precision."""
    from safetensors.torch import save_file

    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    metadata = {"klass": "demucs.hdemucs.HDemucs", "args": "[]", "kwargs": json.dumps(ARCHITECTURE)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata)


def train(out: Path, checkpoint: Path, steps: int, batch: int, seconds: float, pool: int, rate: float, seed: int) -> None:
    """Train to ``steps``, saving every 200; the learning rate warms up, then falls to zero along a cosine."""
    from demucs.hdemucs import HDemucs
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    torch.manual_seed(seed)
    torch.set_flush_denormal(True)
    model = HDemucs(**ARCHITECTURE)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, betas=(0.9, 0.99))
    songs: list[torch.Tensor] = []
    validation = [read(number) for number in VALIDATION_SEEDS]
    done, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        done, spent = state["step"], state["seconds"]
        songs = [read(TRAINING_SEED + number) for number in range(min(done * 2, pool))]
    begin, frames = time.monotonic() - spent, round(seconds * SAMPLE_RATE)
    for step in range(done, steps):
        while len(songs) < min(2 * step + 8, pool):  # two new songs a step until the pool is full
            songs.append(read(TRAINING_SEED + len(songs)))
        optimizer.param_groups[0]["lr"] = rate * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * step / steps))
        stems = crops(songs, np.random.default_rng([seed, step]), batch, frames)
        current = loss(model(stems.sum(1)), stems)
        optimizer.zero_grad()
        current.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        average.update_parameters(model)
        if (step + 1) % 25 == 0:
            print(f"step {step + 1} of {steps}, {time.monotonic() - begin:.0f} s, loss {current.item():.4f}", flush=True)
        if (step + 1) % 200 == 0 or step + 1 == steps:
            elapsed = time.monotonic() - begin
            scores = evaluate(average.module, validation)
            print(f"step {step + 1}: SDR {scores}", flush=True)
            state = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            temporary = checkpoint.with_suffix(".new")
            torch.save({**state, "step": step + 1, "seconds": elapsed}, temporary)
            temporary.replace(checkpoint)
            save(average.module, out / "model.safetensors")
            record = {
                "steps": step + 1,
                "minutes": round(elapsed / 60, 1),
                "batch": batch,
                "crop_seconds": seconds,
                "learning_rate": rate,
                "seed": seed,
                "training_songs": len(songs),
                "training_seeds": [TRAINING_SEED, TRAINING_SEED + len(songs) - 1],
                "validation_seeds": [VALIDATION_SEEDS.start, VALIDATION_SEEDS.stop - 1],
                "validation_sdr_db": scores,
                "versions": {name: version(name) for name in ("demucs", "torch", "numpy")},
            }
            (out / "training.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "models" / "demucs_pocket", help="folder for the weights")
    parser.add_argument("--checkpoint", type=Path, default=Path("demucs_pocket.pt"), help="file to save to and to go on from")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a training crop")
    parser.add_argument("--pool", type=int, default=1_000, help="number of training songs")
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    train(options.out, options.checkpoint, options.steps, options.batch, options.seconds, options.pool, options.rate, options.seed)
