r"""Train vit_pocket, a small ViTForImageClassification, on textures.

    OMP_NUM_THREADS=1 python -m mpq_fixtures.pocket.training.vit_pocket \
        --out mpq_fixtures/pocket/models/vit_pocket --work FOLDER

Three things make a transformer learn textures in minutes on one core: the patch embedding starts as the lowest frequencies of a
DCT (the mean left out), each token has to name the material too (a loss beside the class token's), and the first part of the training sees
pictures of 112x112, a quarter of the tokens.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

from mpq_fixtures.pocket.textures import LABELS, MATERIALS, SIZE, SWATCH, classification, draw_sheet, draw_tone
from mpq_fixtures.pocket.training.textures_loop import MEAN, STD, dct_filters, normalise, parser, save, train


def draw(rng: random.Random, small: bool) -> tuple[NDArray[np.uint8], int]:
    """Draw a sheet of a random material from its training region, or one swatch of it."""
    index = rng.randrange(len(MATERIALS))
    sheet = draw_sheet(rng, MATERIALS[index], MATERIALS[index].train, draw_tone(rng))
    return sheet[:SWATCH, :SWATCH] if small else sheet, index


def main() -> None:
    """Train, score and save."""
    options = parser(steps=3000, batch=32, rate=1e-3).parse_args()
    torch.manual_seed(options.seed)
    config = ViTConfig(
        image_size=SIZE, patch_size=16, hidden_size=96, num_hidden_layers=4, num_attention_heads=4, intermediate_size=192,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(LABELS)), label2id={name: index for index, name in enumerate(LABELS)},
    )  # fmt: skip
    model = ViTForImageClassification(config)
    with torch.no_grad():
        model.vit.embeddings.patch_embeddings.projection.weight.copy_(dct_filters(16, config.hidden_size) * 2)

    def loss(pixels: torch.Tensor, targets: list[int]) -> torch.Tensor:
        states = model.vit(pixels, interpolate_pos_encoding=pixels.shape[-1] != SIZE).last_hidden_state
        logits, target = model.classifier(states), torch.tensor(targets)
        tokens = logits[:, 1:]
        return cross_entropy(logits[:, 0], target) + 0.5 * cross_entropy(tokens.flatten(0, 1), target.repeat_interleave(tokens.shape[1]))

    def check() -> float:
        model.eval()
        samples, hits = classification().samples, 0
        with torch.inference_mode():
            for start in range(0, len(samples), 32):
                part: Any = samples[start : start + 32]
                pixels = torch.from_numpy(np.stack([sample.signal().pixels for sample in part])).permute(0, 3, 1, 2).float()
                answers = model(normalise(pixels)).logits.argmax(1).tolist()
                hits += sum(answer == sample.target() for answer, sample in zip(answers, part, strict=True))
        return hits / len(samples)

    facts = train(model, draw, loss, options, check)
    processor = ViTImageProcessorPil(size={"height": SIZE, "width": SIZE}, image_mean=MEAN, image_std=STD)
    save(model, processor, facts | {"top-1": check()}, options.out)


if __name__ == "__main__":
    main()
