"""Train the pocket Whisper on the speech that `speech_data` made.

    OMP_NUM_THREADS=1 python -m mpq_fixtures.pocket.training.speech_model --work DIR

needs ``train.npz`` and ``development.npz`` in ``DIR``, keeps its checkpoint there and goes on from it when started again;
the batch of a step and what is done to it follow from the seed and the step alone. At the end it writes the model, with its
processor and ``training.json``, into ``mpq_fixtures/pocket/models/whisper_pocket``, weights in float16.

No codec is in the training. What a codec takes away is: random low-pass filters, and weak bins of the short-time spectrum
set to zero. Without these the model is brittle, and its accuracy does not rise steadily with the rate.
"""

from __future__ import annotations

import argparse
import json
import logging
import string
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mpq_fixtures.pocket.training.speech_data import SAMPLE_RATE, WINDOW_SECONDS, WORDS

MODEL = Path(__file__).parents[1] / "models" / "whisper_pocket"
WINDOW = int(WINDOW_SECONDS * SAMPLE_RATE)
FRAMES = WINDOW // 160
CHARACTERS = " " + string.ascii_lowercase
END, START, NO_TIMESTAMPS = "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"
MAX_TOKENS = 24

log = logging.getLogger(__name__)


def processor() -> Any:
    """Build the processor: 3 s windows of 80 mel bands, and a token for each word, merged letter by letter from its left end."""
    from transformers import WhisperFeatureExtractor, WhisperProcessor, WhisperTokenizer

    symbols, merges = ["Ġ", *string.ascii_lowercase], []
    for word in WORDS:
        left = "Ġ"
        for letter in word:
            if left + letter not in symbols:
                symbols.append(left + letter)
                merges.append((left, letter))
            left += letter
    vocabulary = {symbol: index for index, symbol in enumerate([*symbols, END, START, NO_TIMESTAMPS])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges, extra_special_tokens=[START, NO_TIMESTAMPS])
    return WhisperProcessor(WhisperFeatureExtractor(feature_size=80, chunk_length=int(WINDOW_SECONDS)), tokenizer)


def build(tokenizer: Any) -> Any:
    """Build the untrained model, with the generation settings that its tiny vocabulary needs."""
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    start, end = tokenizer.convert_tokens_to_ids([START, END])
    special = {"decoder_start_token_id": start, "bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    # Whisper's own init_std of 0.02 suits wide layers: here the positions would drown the sound
    config = WhisperConfig(
        vocab_size=len(tokenizer), num_mel_bins=80, d_model=128, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=256, decoder_ffn_dim=256, max_source_positions=FRAMES // 2,
        max_target_positions=MAX_TOKENS, dropout=0.0, init_std=0.08, suppress_tokens=None, begin_suppress_tokens=None, **special,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        max_length=MAX_TOKENS - 2, is_multilingual=False, no_timestamps_token_id=tokenizer.convert_tokens_to_ids(NO_TIMESTAMPS),
        return_timestamps=False, suppress_tokens=None, begin_suppress_tokens=None, **special,
    )  # fmt: skip
    look_nearby(model.model.encoder)
    return model


def look_nearby(encoder: Any) -> None:
    """Start the encoder's attention at the frames nearby, which it would have to find first.

    The positions are sinusoids, sines in the first half of the channels and cosines in the second. A head whose query and key both pick
    the sines and cosines of the same frequencies scores two positions by the cosines of their distance: highest where they meet, and the
    sharper the higher the frequencies. The first head gets the highest.
    """
    half, heads = encoder.config.d_model // 2, encoder.config.encoder_attention_heads
    order = torch.arange(half).view(heads, -1)
    pick = torch.eye(2 * half)[torch.cat([order, order + half], 1).flatten()]
    with torch.no_grad():
        for layer in encoder.layers:
            layer.self_attn.q_proj.weight.mul_(0.25).add_(1.3 * pick)
            layer.self_attn.k_proj.weight.mul_(0.25).add_(1.3 * pick)


class Speech:
    """One set of utterances in memory."""

    def __init__(self, path: Path) -> None:
        stored = np.load(path)
        self.samples: NDArray[np.int16] = stored["samples"]
        self.ends: NDArray[np.int64] = stored["ends"]
        self.texts = [str(text) for text in stored["texts"]]

    def __len__(self) -> int:
        return len(self.texts)

    def waveform(self, index: int) -> NDArray[np.float32]:
        """Return one utterance, ``float32 [frames]``."""
        start = self.ends[index - 1] if index else 0
        return np.asarray(self.samples[start : self.ends[index]], np.float32) / np.float32(32767)

    def draw(self, index: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], str]:
        """Return an utterance and its text, mostly with another one after it where both fit: more to learn from a window."""
        waveform, text, other = self.waveform(index), self.texts[index], int(rng.integers(len(self)))
        pause = np.zeros(rng.integers(800, 3200), np.float32)
        joined = np.concatenate([waveform, pause, self.waveform(other)])
        if len(joined) > WINDOW or rng.random() < 0.2:
            return waveform, text
        return joined, f"{text} {self.texts[other]}"


def placed(waveform: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Put an utterance somewhere into a window, at some level, in some noise; nothing but zeros after its tail."""
    spare = WINDOW - len(waveform)
    lead = int(rng.integers(0, min(spare, SAMPLE_RATE // 3) + 1))
    end = min(WINDOW, lead + len(waveform) + int(rng.integers(0, SAMPLE_RATE // 3)))
    window = np.zeros(WINDOW, np.float32)
    window[lead : lead + len(waveform)] = waveform
    if rng.random() < 0.8:
        noise = rng.standard_normal(end, np.float32)
        if rng.random() < 0.5:
            noise[1:] += 0.9 * noise[:-1]  # duller than white
        noise *= np.sqrt(np.mean(waveform**2) / np.mean(noise**2)) * 10 ** (-rng.uniform(15, 55) / 20)
        window[:end] += noise
    return np.asarray(window * np.float32(10 ** (rng.uniform(-24, 0) / 20)), np.float32)


def uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    """Draw ``[count, 1, 1]`` numbers."""
    return low + (high - low) * torch.rand(count, 1, 1, generator=generator)


def degraded(power: Tensor, generator: torch.Generator, chance: float) -> Tensor:
    """Vary power spectra ``[batch, 201, frames]``: vocal tracts and tilts; with a chance each, low-pass filters and weak bins gone."""
    batch, bins, frames = power.shape
    frequency = torch.arange(bins).view(1, bins, 1).float()

    place = (frequency * uniform(generator, batch, 0.88, 1.14)).clamp(max=bins - 1)  # the length of the vocal tract
    below = place.floor().long().clamp(max=bins - 2)
    share = place - below
    low = power.gather(1, below.expand(-1, -1, frames))
    high = power.gather(1, (below + 1).expand(-1, -1, frames))
    power = (1 - share) * low + share * high

    power = power * 10 ** (uniform(generator, batch, -1.0, 1.0) * frequency / bins)  # a tilt of up to 10 dB over the band

    cutoff = uniform(generator, batch, 1800, 9000) / SAMPLE_RATE * 400
    edge = uniform(generator, batch, 1, 8)
    lowpass = torch.sigmoid((cutoff - frequency) / edge) ** 4
    power = torch.where(uniform(generator, batch, 0, 1) < chance, power * lowpass, power)

    near = power + power.roll(1, 1) + power.roll(1, 2)  # with its neighbours below and before
    level = torch.where(uniform(generator, batch, 0, 1) < 0.5, near.amax(1, keepdim=True), near.amax((1, 2), keepdim=True))
    depth = uniform(generator, batch, 1.3, 5.0)
    weak = near < level * 10**-depth
    return torch.where((uniform(generator, batch, 0, 1) < chance) & weak, torch.zeros(()), power)


class Features:
    """Whisper's log-mel features (as `WhisperFeatureExtractor` computes them), with room for augmentation in between."""

    def __init__(self, extractor: Any) -> None:
        self.filters = torch.from_numpy(np.asarray(extractor.mel_filters, np.float32)).T
        self.window = torch.hann_window(400)

    def __call__(self, waveforms: Tensor, generator: torch.Generator | None = None, chance: float = 0.0) -> Tensor:
        """Turn ``[batch, WINDOW]`` into ``[batch, 80, FRAMES]``, varied when a generator is given."""
        spectrum = torch.stft(waveforms, 400, 160, window=self.window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        if generator is not None:
            power = degraded(power, generator, chance)
        mel = (self.filters @ power).clamp(min=1e-10).log10()
        mel = (torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8) + 4) / 4
        if generator is not None:
            for _ in range(2):  # SpecAugment (Park et al., 2019), lightly
                start = uniform(generator, len(mel), 0, FRAMES)
                time_mask = (torch.arange(FRAMES) - start).ge(0) & (torch.arange(FRAMES) - start).lt(uniform(generator, len(mel), 0, 12))
                mel = torch.where(time_mask, mel.mean((1, 2), keepdim=True), mel)
        return mel


def accuracy(model: Any, tokenizer: Any, features: Features, speech: Speech, count: int) -> float:
    """Return the word accuracy on the first ``count`` utterances, clean."""
    import jiwer

    model.eval()
    heard: list[str] = []
    for start in range(0, count, 40):
        rng = np.random.default_rng([1, start])
        waveforms = np.stack([placed(speech.waveform(index), rng) for index in range(start, min(start + 40, count))])
        with torch.inference_mode():
            tokens = model.generate(features(torch.from_numpy(waveforms)))
        heard += [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    model.train()
    return 1 - float(jiwer.process_words(speech.texts[:count], heard).wer)


def rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate: a short warm-up, a plateau, and from half the way a straight fall to nothing."""
    return peak * min(1.0, (step + 1) / 200, max(0.0, 2 * (1 - step / steps)))


def train(options: argparse.Namespace) -> None:
    """Run the steps that are left, then write the model."""
    torch.manual_seed(options.seed)
    processing = processor()
    tokenizer, features = processing.tokenizer, Features(processing.feature_extractor)
    model = build(tokenizer)
    spelling = nn.Linear(model.config.d_model, len(CHARACTERS) + 1)  # connectionist temporal classification, in training only
    parameters = [*model.parameters(), *spelling.parameters()]
    optimiser = torch.optim.AdamW([p for p in parameters if p.requires_grad], lr=options.peak, betas=(0.9, 0.98), weight_decay=0.01)
    speech, development = Speech(options.work / "train.npz"), Speech(options.work / "development.npz")
    prefix = tokenizer.convert_tokens_to_ids([START, NO_TIMESTAMPS])

    step, seconds = 0, 0.0
    checkpoint = options.work / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        spelling.load_state_dict(state["spelling"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds = state["step"], state["seconds"]

    model.train()
    began, epoch, order = time.monotonic() - seconds, -1, np.empty(0, np.int64)
    per_epoch = len(speech) // options.batch
    losses: list[tuple[float, float]] = []
    while step < options.steps:
        if step // per_epoch != epoch:
            epoch = step // per_epoch
            order = np.random.default_rng([options.seed, epoch]).permutation(len(speech))
        chosen = order[step % per_epoch * options.batch :][: options.batch]
        rng = np.random.default_rng([options.seed, 1, step])
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        drawn = [speech.draw(int(index), rng) for index in chosen]
        chance = min(0.6, 0.1 + step / options.steps)  # easy at first
        inputs = features(torch.from_numpy(np.stack([placed(waveform, rng) for waveform, _ in drawn])), generator, chance)

        tokens = [[*tokenizer(" " + text, add_special_tokens=False).input_ids, tokenizer.eos_token_id] for _, text in drawn]
        longest = max(map(len, tokens))
        labels = torch.tensor([[*row, *[-100] * (longest - len(row))] for row in tokens])
        before = torch.tensor([[*prefix, *row[:-1], *[prefix[0]] * (longest - len(row))] for row in tokens])
        heard = model.model.encoder(inputs).last_hidden_state
        attention_loss = torch.zeros(())
        if step >= options.spelling_steps:
            logits = model(encoder_outputs=(heard,), decoder_input_ids=before).logits[:, 1:]
            attention_loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, label_smoothing=0.05)
        states = spelling(heard).log_softmax(-1).transpose(0, 1)
        letters = torch.tensor([CHARACTERS.index(letter) + 1 for _, text in drawn for letter in text])
        lengths = torch.tensor([len(text) for _, text in drawn])
        spelling_loss = nn.functional.ctc_loss(states, letters, torch.full((len(drawn),), FRAMES // 2), lengths)
        loss = attention_loss + (1.0 if step < 2 * options.spelling_steps else 0.3) * spelling_loss

        for group in optimiser.param_groups:
            group["lr"] = rate(step, options.steps, options.peak)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        step += 1
        losses.append((float(attention_loss.detach()), float(spelling_loss.detach())))
        if step % 100 == 0:
            attention, spelt = np.mean(losses, 0)
            losses.clear()
            seconds = time.monotonic() - began
            log.info("step %d of %d  %.1f min  tokens %.3f  letters %.3f", step, options.steps, seconds / 60, attention, spelt)
        if step % 500 == 0 and step > options.spelling_steps:
            log.info("word accuracy in development %.4f", accuracy(model, tokenizer, features, development, 120))
        if step % 250 == 0 or step == options.steps:
            seconds = time.monotonic() - began
            kept = {"model": model.state_dict(), "spelling": spelling.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**kept, "step": step, "seconds": seconds}, checkpoint.with_suffix(".part"))
            checkpoint.with_suffix(".part").replace(checkpoint)

    import transformers

    score = accuracy(model, tokenizer, features, development, len(development))
    model.half().eval().save_pretrained(options.output)
    processing.save_pretrained(options.output)
    settings = {key: value for key, value in vars(options).items() if key not in ("work", "output")}
    record = {
        **settings, "minutes": round(seconds / 60, 1), "parameters": sum(p.numel() for p in model.parameters()),
        "torch": torch.__version__, "transformers": transformers.__version__, "development_word_accuracy": round(score, 4),
        "data": json.loads((options.work / "speech_data.json").read_text()),
    }  # fmt: skip
    (options.output / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Read the options and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where the speech is and the checkpoint goes")
    parser.add_argument("--output", type=Path, default=MODEL)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--peak", type=float, default=1.5e-3, help="learning rate on the plateau")
    parser.add_argument("--spelling-steps", type=int, default=500, help="steps at first in which the encoder alone learns")
    parser.add_argument("--seed", type=int, default=7)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s  %(message)s")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
