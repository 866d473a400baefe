"""Train the pocket's learned sound codec: a small EnCodec (Défossez et al. 2022, arXiv 2210.13438) on synthesised speech and songs.

    OMP_NUM_THREADS=1 python -m mpq_fixtures.pocket.training.rvq_pocket --work DIR

makes its sounds in ``DIR`` with the ``espeak-ng`` program (1.51 was used), goes on from the checkpoint there when there is one, and
leaves what ``EncodecModel.from_pretrained`` reads, in half precision, and ``training.json`` in the output folder. No voice, sentence or
song of the pocket's test data is among the sounds, and no other codec takes part.

transformers has the architecture but nothing to train its quantizer with. Here, each stage of it is a codebook of running means of what
falls to each code (van den Oord et al. 2017, arXiv 1711.00937), drawn by k-means from the encoder's first outputs. Gradients pass the
quantizer straight through, and each crop is coded at one of the three depths.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpq_fixtures.pocket.training import speech_data
from mpq_fixtures.pocket.training.songs import FRAMES, SAMPLE_RATE, STEMS, VALIDATION_SEEDS, song
from mpq_fixtures.pocket.training.speech_data import Utterance

SONG_SEED = 20_000
MODEL = Path(__file__).parents[1] / "models" / "rvq_pocket"
DEPTHS = {3.0: 3, 6.0: 6, 12.0: 12}
"""Codebooks by bandwidth in kbit/s: 100 frames a second, 10 bits for each frame and codebook."""

SLOW, FAST = 10, 16
"""The strides of the two convolutions that bring 16 kHz down to 100 Hz, as the decoder takes them."""

ARCHITECTURE: dict[str, Any] = {
    "target_bandwidths": list(DEPTHS),
    "sampling_rate": SAMPLE_RATE,
    "audio_channels": 1,
    "normalize": False,
    "hidden_size": 56,
    "num_filters": 24,
    "num_residual_layers": 0,
    "upsampling_ratios": [SLOW, FAST],
    "use_causal_conv": False,
    "num_lstm_layers": 1,
    "use_conv_shortcut": False,
    "codebook_size": 1024,
}
STARTING_FRAMES = 320
"""The weight of the codebooks' start in their running means, in frames a step."""

WINDOWS = {256: 24, 512: 48, 1024: 64}
"""Bands of the mel scale by length of the spectra that are compared."""

Floats = NDArray[np.float32]
Shorts = NDArray[np.int16]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DETERMINERS = _words("the a my your our their his her this that every another some no which")
ADJECTIVES = _words(
    "old young quiet noisy bright hollow rough smooth thick thin yellow purple strange gentle sharp heavy shallow distant cheap frozen"
    " cautious enormous useful jealous royal vague fresh wooden private average"
)
NOUNS = _words(
    "judge farmer child teacher village measure river bridge shoulder engine machine treasure garage picture feather mouth church"
    " jacket yard voice cloud ship path thumb fish cage house boy girl beach orange language question sandwich whistle weather"
    " leather garden mirror valley zebra vision badge queen spring string branch lunch month tooth earth cow toy bird chair"
    " ear tour hour fire flower market winter shadow puzzle bottle basket ticket secret problem number letter window"
)
VERBS = _words(
    "watched carried followed measured threw brought shook pushed caught judged chose enjoyed changed noticed forgot moved washed"
    " painted loved heard found sold kept fixed mixed begged teased breathed reached welcomed borrowed answered squeezed"
    " polished thanked called lost climbed counted described"
)
ADVERBS = _words("slowly yesterday again today usually together outside tonight quickly early twice badly somewhere everywhere calmly")
PLACES = _words("behind under over near beside through across above without against along beyond")
OPENINGS = ("", "", "", "", "perhaps", "I think", "they said that", "why should we say that", "of course", "in the evening", "as you know")


def free_sentence(rng: np.random.Generator) -> str:
    """Draw an English sentence of nouns, verbs and all the sounds of the language, of five to fifteen words."""

    def one(words: tuple[str, ...]) -> str:
        return str(rng.choice(words))

    def thing() -> str:
        return f"{one(DETERMINERS)} {one(ADJECTIVES) if rng.random() < 0.4 else ''} {one(NOUNS)}"

    place = f"{one(PLACES)} {thing()}" if rng.random() < 0.5 else ""
    words = f"{one(OPENINGS)} {thing()} {one(VERBS)} {thing()} {place} {one(ADVERBS) if rng.random() < 0.4 else ''}"
    return " ".join(words.split())


def free_utterances(rng: np.random.Generator, variants: tuple[str, ...]) -> Iterator[Utterance]:
    """Draw free sentences without end, in voices with these variants."""
    while True:
        accent, variant = str(rng.choice(speech_data.ACCENTS)), str(rng.choice(variants))
        yield Utterance(free_sentence(rng), accent, variant, int(rng.integers(15, 86)), int(rng.integers(125, 231)))


def _short(waveform: Floats) -> Shorts:
    return np.rint(waveform * 32767).astype(np.int16)


def make_sounds(path: Path, commands: int, free: int, songs: int, seed: int) -> None:
    """Write the sounds to train on and those to develop on: speech end to end, where each utterance ends, and songs' stems."""
    test = (speech_data.SPEECH / "transcripts.tsv").read_text(encoding="utf-8").splitlines()[1:]
    taken = {row.split("\t")[1] for row in test}
    streams = [np.random.default_rng([seed, stream]) for stream in range(3)]
    training, development = speech_data.TRAINING_VARIANTS, speech_data.DEVELOPMENT_VARIANTS
    drawn = speech_data.utterances(streams[0], development, taken, 0.0)
    kept = list(speech_data.spoken((one for one in drawn if one.accent != speech_data.PLAIN_ACCENT), 60, 2.65))
    taken |= {utterance.text for utterance, _ in kept}
    said = list(speech_data.spoken(speech_data.utterances(streams[1], training, taken, 0.5), commands, 2.65))
    said += list(speech_data.spoken(free_utterances(streams[2], training), free, 8.0))
    stems = [np.stack([_short(stem) for stem in song(SONG_SEED + number).values()]) for number in range(songs)]
    np.savez(
        path,
        speech=np.concatenate([_short(waveform) for _, waveform in said]),
        ends=np.cumsum([len(waveform) for _, waveform in said]),
        development=np.concatenate([_short(waveform) for _, waveform in kept]),
        development_ends=np.cumsum([len(waveform) for _, waveform in kept]),
        development_texts=np.array([utterance.text for utterance, _ in kept]),
        stems=np.stack(stems),
    )


class Sounds:
    """The sounds in memory, from which crops are cut."""

    def __init__(self, path: Path) -> None:
        stored = np.load(path)
        self.speech: Shorts = stored["speech"]
        self.ends: NDArray[np.int64] = stored["ends"]
        self.stems: Shorts = stored["stems"]
        self.texts = [str(text) for text in stored["development_texts"]]
        self.development: list[Floats] = [
            part.astype(np.float32) / np.float32(32767) for part in np.split(stored["development"], stored["development_ends"][:-1])
        ]

    def crops(self, rng: np.random.Generator, batch: int, frames: int) -> Tensor:
        """Cut ``[batch, 1, frames]`` at random, half of them speech and half songs, at levels 24 dB apart."""
        cut = [self._spoken(rng, frames) if number % 2 else self._played(rng, frames) for number in range(batch)]
        return torch.from_numpy(np.stack(cut))[:, None]

    def _spoken(self, rng: np.random.Generator, frames: int) -> Floats:
        """Cut speech out, across the pauses of utterances that follow each other, mostly with a little noise."""
        which = int(rng.integers(1, len(self.ends)))
        start = int(rng.integers(self.ends[which - 1] - frames // 2, self.ends[which]))
        crop, done = np.zeros(frames, np.float32), 0
        while done < frames and start < self.ends[-1]:  # up to the end of an utterance, then a pause
            which = int(np.searchsorted(self.ends, start, "right"))
            part = self.speech[start : min(int(self.ends[which]), start + frames - done)]
            crop[done : done + len(part)] = part
            start += len(part)
            done += len(part) + int(rng.integers(400, 6400))
        crop /= 32767
        power = max(float(np.mean(crop**2)), 1e-4)
        if rng.random() < 0.7:
            noise = rng.standard_normal(frames + 1, np.float32)
            noise = noise[1:] + np.float32(rng.choice([0, 0.9])) * noise[:-1]
            crop += noise * np.float32(math.sqrt(power / np.mean(noise**2)) * 10 ** (-rng.uniform(22, 55) / 20))
        return np.asarray(crop * np.float32(10 ** (rng.uniform(-24, 0) / 20)))

    def _played(self, rng: np.random.Generator, frames: int) -> Floats:
        """Cut one channel of a song out: mostly the whole mixture, else some of its stems or stems of different songs."""
        chosen = np.full(len(STEMS), rng.integers(len(self.stems)))
        start = np.full(len(STEMS), rng.integers(FRAMES - frames + 1))
        if rng.random() < 0.25:
            chosen = rng.integers(len(self.stems), size=len(STEMS))
            start = rng.integers(FRAMES - frames + 1, size=len(STEMS))
        there = np.ones(len(STEMS), bool)
        if rng.random() < 0.35:
            there = rng.random(len(STEMS)) < 0.4
            there[rng.integers(len(STEMS))] = True
        side, sign = int(rng.integers(2)), rng.choice([-1, 1])
        total = np.zeros(frames, np.float32)
        for row in np.flatnonzero(there):
            total += self.stems[chosen[row], row, side, start[row] : start[row] + frames]
        return np.asarray(total / np.float32(32767) * np.float32(sign * 10 ** (rng.uniform(-18, 3) / 20)), np.float32)


def cosines(bands: int) -> Tensor:
    """Return the basis of a modified discrete cosine transform (Princen and Bradley 1986), ``[bands, 2 * bands]``, orthonormal."""
    time, band = torch.arange(2 * bands) + 0.5, torch.arange(bands)[:, None] + 0.5
    return (time * math.pi / (2 * bands)).sin() * (math.pi / bands * (time + bands / 2) * band).cos() * math.sqrt(2 / bands)


@torch.no_grad()
def build(crops: Tensor) -> Any:
    """Build the model and start it as a transform coder for sounds such as ``crops [n, 1, frames]``, which it would have to find first.

    The two strided convolutions are cosine transforms, the second one of each band of the first, of which the strongest coefficients on
    average are kept; the last convolution takes their principal components, the weak ones raised a little (by the fifth root of their
    amplitude). The decoder has the transposes. Activations are small, where ELU is next to linear.
    """
    from transformers import EncodecConfig, EncodecModel

    model: Any = EncodecModel(EncodecConfig(**ARCHITECTURE)).train()
    for name, parameter in model.named_parameters():
        if "lstm" in name:
            parameter.mul_(0.1)
        elif name.endswith("bias"):
            parameter.zero_()
    filters, kept, middle = model.config.num_filters, 4 * model.config.num_filters, model.config.kernel_size // 2
    (first, fast, slow, last), (start, grow, spread, end) = (
        [layer.conv for layer in half.layers if hasattr(layer, "conv")] for half in (model.encoder, model.decoder)
    )
    level = crops.square().mean((1, 2), keepdim=True).sqrt() + 1e-3
    bands = nn.functional.conv1d(crops / level, cosines(FAST)[:, None], stride=FAST)
    lines = nn.functional.conv1d(bands.flatten(0, 1)[:, None], cosines(SLOW)[:, None], stride=SLOW).unflatten(0, bands.shape[:2])
    rows = lines.permute(0, 3, 1, 2).flatten(0, 1) * (1 + torch.arange(FAST)[:, None]).sqrt()  # ears weigh a fall of 3 dB an octave so
    strongest = rows.flatten(1).square().mean(0).argsort(descending=True)[:kept]
    powers, directions = torch.linalg.eigh(torch.cov(rows.flatten(1)[:, strongest].T))
    powers, directions = powers.flip(0)[: model.config.hidden_size], directions.flip(1)[:, : model.config.hidden_size]
    weights = (1 + strongest // SLOW).sqrt()
    analysis = (directions * powers**-0.1).T * weights
    synthesis = directions * powers**0.1 / weights[:, None]

    def noisy(shape: torch.Size, share: float) -> Tensor:
        return share * torch.randn(shape) / math.sqrt(shape[1] * shape[2])

    def transform(shape: torch.Size) -> Tensor:
        weight = noisy(shape, 0.03)
        weight[torch.arange(kept), strongest // SLOW] += cosines(SLOW)[strongest % SLOW]
        return weight

    signs = torch.tensor([1.0, -1.0]).repeat(filters // 2)  # ELU bends the two halves of a wave in turn
    weight = noisy(first.weight.shape, 0.01)
    weight[:, 0, middle] += 0.3 * signs
    first.weight = weight
    weight = noisy(fast.weight.shape, 0.01)
    weight[:FAST] += 0.5 * cosines(FAST)[:, None] * signs[:, None] / filters
    fast.weight = weight
    slow.weight = transform(slow.weight.shape)
    weight = noisy(last.weight.shape, 0.03)
    weight[:, :, middle] += analysis / 0.15
    last.weight = weight

    weight = noisy(start.weight.shape, 0.002)
    weight[:, :, middle] += 0.15 * synthesis
    start.weight = weight
    grow.weight = transform(grow.weight.shape)
    weight = noisy(spread.weight.shape, 0.03)
    weight[:FAST] += cosines(FAST)[:, None] * signs[:, None]
    spread.weight = weight
    weight = noisy(end.weight.shape, 0.02)
    weight[0, :, middle] += signs / 0.15 / filters
    end.weight = weight
    return model


def frame_weights(rows: Tensor) -> Tensor:
    """Return the weight of each frame ``[n, dimension]`` in the codebooks' means, one over its level, so that quiet sounds count."""
    powers = rows.square().sum(1)
    weights = (powers + 1e-3 * powers.mean() + 1e-12) ** -0.5
    return weights / weights.mean()


def quantize(model: Any, states: Tensor, depths: Tensor) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
    """Code ``states [batch, dimension, frames]`` with as many codebooks as ``depths [batch]`` says.

    Returns the sum of the codes' vectors, through which gradients pass to the states; how far the states are from it, over their
    variance, averaged over the codebooks in use; and for each codebook what fell to it and to which codes.
    """
    rows = states.transpose(1, 2)
    reached = torch.zeros_like(rows)
    kept, distance, fallen = reached, rows.new_zeros(()), []
    for number, layer in enumerate(model.quantizer.layers):
        used = (depths > number)[:, None, None]
        residual = (rows - reached).detach()
        codes = layer.codebook.encode(residual)
        fallen.append((residual.flatten(0, 1), codes.flatten()))
        # a crop not coded this deep goes on with what is left, for the codebook's means alone
        reached = reached + layer.codebook.decode(codes)
        kept = torch.where(used, reached, kept)
        distance = distance + ((rows - reached).square().mean((1, 2)) * (depths > number) / depths).mean()
    through = rows + (kept - rows).detach()
    return through.transpose(1, 2), distance / rows.detach().var(), fallen


@torch.no_grad()
def follow(codebook: Any, residual: Tensor, codes: Tensor, weights: Tensor, decay: float) -> None:
    """Move a codebook to the running means of what fell to its codes."""
    counts = torch.zeros_like(codebook.cluster_size).index_add_(0, codes, weights)
    sums = torch.zeros_like(codebook.embed).index_add_(0, codes, residual * weights[:, None])
    codebook.cluster_size.lerp_(counts, 1 - decay)
    codebook.embed_avg.lerp_(sums, 1 - decay)
    codebook.embed.copy_(codebook.embed_avg / codebook.cluster_size.clamp(min=1e-12)[:, None])


@torch.no_grad()
def draw_codebooks(model: Any, states: Tensor, generator: torch.Generator, rounds: int = 4) -> None:
    """Start each codebook in turn at the k-means of what the ones before leave of ``states [n, dimension]``."""
    residual, weights = states.clone(), frame_weights(states)
    for layer in model.quantizer.layers:
        book = layer.codebook
        book.embed.copy_(residual[torch.multinomial(weights * residual.square().sum(1), book.codebook_size, generator=generator)])
        for _ in range(rounds):
            codes = torch.cat([book.quantize(part) for part in residual.split(2048)])
            counts = torch.zeros_like(book.cluster_size).index_add_(0, codes, weights)
            means = torch.zeros_like(book.embed).index_add_(0, codes, residual * weights[:, None]) / counts.clamp(min=1e-9)[:, None]
            anew = residual[torch.randint(len(residual), (book.codebook_size,), generator=generator)]
            book.embed.copy_(torch.where((counts > 0)[:, None], means, anew))
        residual -= book.decode(torch.cat([book.quantize(part) for part in residual.split(2048)]))
        book.cluster_size.copy_(counts / len(residual) * STARTING_FRAMES)
        book.embed_avg.copy_(book.embed * book.cluster_size[:, None])


class Loss:
    """How far a sound is from another in time, in spectra of several resolutions and in the logarithms of their mel bands."""

    def __init__(self, waveform_weight: float, log_weight: float) -> None:
        from transformers.audio_utils import mel_filter_bank

        self.weights = waveform_weight, log_weight
        self.windows = []
        for size, bands in WINDOWS.items():
            filters = mel_filter_bank(size // 2 + 1, bands, 50, SAMPLE_RATE / 2, SAMPLE_RATE).T
            filters /= filters.sum(1, keepdims=True)
            self.windows.append((torch.hann_window(size), torch.from_numpy(filters.astype(np.float32))))

    def _magnitude(self, sounds: Tensor, window: Tensor) -> Tensor:
        size = len(window)
        spectrum = torch.stft(sounds, size, size // 4, window=window, return_complex=True)
        return (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt() / math.sqrt(size)

    def __call__(self, estimates: Tensor, sounds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the total, the part in time and the part in spectra for ``[batch, 1, frames]`` each."""
        estimates, sounds = estimates[:, 0], sounds[:, 0]
        waveform = ((estimates - sounds).abs().mean(1) / (sounds.abs().mean(1) + 2e-3)).mean()
        spectral = estimates.new_zeros(())
        for window, filters in self.windows:
            there, here = self._magnitude(sounds, window), self._magnitude(estimates, window)
            level = there.mean((1, 2), keepdim=True) + 1e-3
            linear = ((here - there).abs() / level).mean()
            floor = (0.01 * level).square()  # what lies far below the sound is of no weight
            logarithmic = ((filters @ here.square() + floor).log() - (filters @ there.square() + floor).log()).abs().mean() / 2
            spectral = spectral + (linear + self.weights[1] * logarithmic) / len(WINDOWS)
        return self.weights[0] * waveform + spectral, waveform.detach(), spectral.detach()


def si_sdr(estimate: Floats, sound: Floats) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB."""
    scaled = np.dot(estimate, sound) / np.dot(sound, sound) * sound
    return float(10 * np.log10(np.dot(scaled, scaled) / (np.dot(estimate - scaled, estimate - scaled) + 1e-12)))


def log_spectral_distance(estimate: Floats, sound: Floats) -> float:
    """Return the log-spectral distance in dB: frames of 512, powers from 80 dB below the highest of the sound."""
    window = torch.hann_window(512)
    powers = [torch.stft(torch.from_numpy(x), 512, 128, window=window, return_complex=True).abs().square() for x in (estimate, sound)]
    floor = 1e-8 * powers[1].max()
    levels = [10 * (power + floor).log10() for power in powers]
    return float((levels[0] - levels[1]).square().mean(0).sqrt().mean())


@torch.inference_mode()
def coded(model: Any, sound: Floats, bandwidth: float) -> Floats:
    """Send one channel through the codec, by the methods that transformers has for it."""
    codes, scales, _ = model.encode(torch.from_numpy(sound)[None, None], bandwidth=bandwidth, return_dict=False)
    return np.asarray(model.decode(codes, scales, return_dict=False)[0][0, 0, : len(sound)].numpy())


def evaluate(model: Any, sounds: dict[str, list[Floats]]) -> dict[str, dict[str, list[float]]]:
    """Return the mean SI-SDR and log-spectral distance of each kind of sound at each bandwidth."""
    scores: dict[str, dict[str, list[float]]] = {}
    for kind, members in sounds.items():
        heard = {bandwidth: [coded(model, sound, bandwidth) for sound in members] for bandwidth in DEPTHS}
        pairs = {f"{bandwidth:g} kbit/s": list(zip(estimates, members, strict=True)) for bandwidth, estimates in heard.items()}
        scores[kind] = {
            name: [
                round(float(np.mean([si_sdr(*pair) for pair in both])), 2),
                round(float(np.mean([log_spectral_distance(*pair) for pair in both])), 2),
            ]
            for name, both in pairs.items()
        }
    return scores


def save(state: dict[str, Tensor], config: Any, folder: Path) -> Any:
    """Write the model in half precision, without the codebooks' sums, and return it as it is read again, in single precision."""
    from transformers import EncodecModel

    model: Any = EncodecModel(config)
    model.load_state_dict(state)
    for layer in model.quantizer.layers:  # what only training needs
        layer.codebook.cluster_size.zero_()
        layer.codebook.embed_avg.zero_()
    model.half().save_pretrained(folder)
    return EncodecModel.from_pretrained(folder, dtype=torch.float32).eval()


def train(options: argparse.Namespace) -> None:
    """Train to ``steps``, saving now and then; the learning rate warms up, then falls to zero along a cosine."""
    options.work.mkdir(parents=True, exist_ok=True)
    path, checkpoint = options.work / "sounds.npz", options.work / "rvq_pocket.pt"
    if not path.exists():
        make_sounds(path.with_suffix(".part.npz"), options.commands, options.free, options.songs, options.seed + 40_000)
        path.with_suffix(".part.npz").replace(path)
    sounds = Sounds(path)
    played = [song(number) for number in VALIDATION_SEEDS[:2]]
    development = {"speech": sounds.development[:16], "songs": [np.sum([stem[0] for stem in stems.values()], axis=0) for stems in played]}

    torch.manual_seed(options.seed)
    torch.set_flush_denormal(True)
    model = build(sounds.crops(np.random.default_rng([options.seed, 1, 1]), 256, 2 * FAST * SLOW * 10))
    loss = Loss(options.waveform_weight, options.log_weight)
    groups = [
        {"params": half.parameters(), "share": share} for half, share in ((model.encoder, options.encoder_share), (model.decoder, 1.0))
    ]
    optimizer = torch.optim.AdamW(groups, lr=options.rate, betas=(0.8, 0.99), weight_decay=0.0)
    done, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        done, spent = state["step"], state["seconds"]
    begin, frames = time.monotonic() - spent, round(options.seconds * SAMPLE_RATE)
    shown: list[tuple[float, ...]] = []
    for step in range(done, options.steps):
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        rng = np.random.default_rng([options.seed, step])
        if step == options.plain_steps:
            with torch.no_grad():
                drawn = torch.cat([model.encoder(sounds.crops(rng, options.batch, frames)) for _ in range(options.drawn)])
            draw_codebooks(model, drawn.transpose(1, 2).flatten(0, 1), generator)
        for group in optimizer.param_groups:
            falling = 0.5 * (1 + math.cos(math.pi * step / options.steps))
            group["lr"] = options.rate * group["share"] * min(1, (step + 1) / 100) * falling
        crops = sounds.crops(rng, options.batch, frames)
        states = model.encoder(crops)
        fallen: list[tuple[Tensor, Tensor]] = []
        distance = states.new_zeros(())
        if step >= options.plain_steps:
            depths = torch.from_numpy(rng.choice(list(DEPTHS.values()), options.batch))
            states, distance, fallen = quantize(model, states, depths)
        current, waveform, spectral = loss(model.decoder(states), crops)
        optimizer.zero_grad(set_to_none=True)
        (current + options.commitment * distance).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        for layer, (residual, codes) in zip(model.quantizer.layers, fallen, strict=False):
            follow(layer.codebook, residual, codes, frame_weights(fallen[0][0]), options.decay)
        shown.append((waveform.item(), spectral.item(), distance.item()))
        if (step + 1) % 100 == 0:
            parts = "  ".join(f"{value:.4f}" for value in np.mean(shown, 0))
            shown.clear()
            print(f"step {step + 1} of {options.steps}, {time.monotonic() - begin:.0f} s, waveform, spectra, distance {parts}", flush=True)
        if (step + 1) % options.every == 0 or step + 1 == options.steps:
            elapsed = time.monotonic() - begin
            kept = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "seconds": elapsed}
            torch.save(kept, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
            if step >= options.plain_steps:
                scores = evaluate(save(model.state_dict(), model.config, options.out), development)
                print(f"step {step + 1}: SI-SDR, log-spectral distance {scores}", flush=True)
                write_record(options, step + 1, elapsed, sum(p.numel() for p in model.parameters()), scores)


def write_record(options: argparse.Namespace, steps: int, seconds: float, parameters: int, scores: dict[str, Any]) -> None:
    """Write ``training.json``."""
    made = subprocess.run(["espeak-ng", "--version"], check=True, capture_output=True, text=True).stdout.split(" Data")[0].strip()
    record = {
        **{key: value for key, value in vars(options).items() if key not in ("work", "out", "every")},
        "steps": steps,
        "minutes": round(seconds / 60, 1),
        "parameters": parameters,
        "song_seeds": [SONG_SEED, SONG_SEED + options.songs - 1],
        "development_song_seeds": list(VALIDATION_SEEDS[:2]),
        "development_si_sdr_and_log_spectral_distance_db": scores,
        "synthesiser": made,
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy", "scipy")},
    }
    (options.out / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the sounds and the checkpoint go")
    parser.add_argument("--out", type=Path, default=MODEL, help="folder for the weights")
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--plain-steps", type=int, default=0, help="steps at first without a quantizer")
    parser.add_argument("--every", type=int, default=250, help="steps between two checkpoints")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a training crop")
    parser.add_argument("--commands", type=int, default=4_000, help="utterances of the pocket's words")
    parser.add_argument("--free", type=int, default=2_000, help="utterances of free sentences")
    parser.add_argument("--songs", type=int, default=300)
    parser.add_argument("--rate", type=float, default=5e-4, help="highest learning rate")
    parser.add_argument("--encoder-share", type=float, default=0.2, help="of the learning rate, since the codebooks follow the encoder")
    parser.add_argument("--decay", type=float, default=0.998, help="of the codebooks' running means, a step")
    parser.add_argument("--drawn", type=int, default=160, help="batches that the codebooks are drawn from")
    parser.add_argument("--commitment", type=float, default=0.1, help="weight of the distance of the encoder's outputs from their codes")
    parser.add_argument("--waveform-weight", type=float, default=1.0)
    parser.add_argument("--log-weight", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
