r"""Train segformer_pocket, a small SegformerForSemanticSegmentation, on mosaics of textures.

    OMP_NUM_THREADS=1 python -m mpq_fixtures.pocket.training.segformer_pocket \
        --out mpq_fixtures/pocket/models/segformer_pocket --work FOLDER

The first convolution starts as the lowest frequencies of a DCT without the mean, so that the norm behind it equalises contrast.
SegFormer has no position embedding, so that most of the training can run on crops of 128x128, at a third of the cost.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, interpolate
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

from mpq_fixtures.pocket.textures import MOSAIC_LABELS, SIZE, draw_mosaic, segmentation
from mpq_fixtures.pocket.training.textures_loop import MEAN, STD, dct_filters, normalise, parser, save, train

STRIDE = 4
"""Pixels between the first stage's tokens, in both directions."""

CROP = 128
"""Height and width of a small picture."""


def draw(rng: random.Random, small: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a mosaic from the training regions, or a crop of one."""
    pixels, classes = draw_mosaic(rng, test=False)
    if small:
        top, left = rng.randint(0, SIZE - CROP), rng.randint(0, SIZE - CROP)
        pixels, classes = pixels[top : top + CROP, left : left + CROP], classes[top : top + CROP, left : left + CROP]
    return pixels, classes


def initialise(model: Any) -> None:
    """Give every layer's output about the variance of its input, and the first convolution its filters.

    With the usual deviation of 0.02 the depthwise convolutions leave the branches that they are in nearly silent, and linear, at first.
    The filters are scaled up since a norm follows: larger weights then only mean smaller relative steps.
    """
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv2d) and module.groups == module.in_channels:
                torch.nn.init.dirac_(module.weight, groups=module.groups)
            elif isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                torch.nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
        model.segformer.stages[0].patch_embeddings.proj.weight.copy_(dct_filters(7, model.config.hidden_sizes[0]) * 8)


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Return the mean over classes of intersection over union, from one confusion matrix of the whole set."""
    hits = np.diag(confusion)
    return float(np.mean(hits / (confusion.sum(0) + confusion.sum(1) - hits)))


def main() -> None:
    """Train, score and save."""
    options = parser(steps=5000, batch=8, rate=1e-3).parse_args()
    torch.manual_seed(options.seed)
    config = SegformerConfig(
        depths=[1, 2, 2, 1], hidden_sizes=[32, 64, 128, 160], num_attention_heads=[1, 2, 4, 5], strides=[STRIDE, 2, 2, 1],
        sr_ratios=[8, 4, 2, 2], mlp_ratios=[2, 2, 2, 2], decoder_hidden_size=64, classifier_dropout_prob=0.0, drop_path_rate=0.0,
        id2label=dict(enumerate(MOSAIC_LABELS)), label2id={name: index for index, name in enumerate(MOSAIC_LABELS)},
    )  # fmt: skip
    model: Any = SegformerForSemanticSegmentation(config)
    initialise(model)

    def loss(pixels: torch.Tensor, targets: list[NDArray[np.uint8]]) -> torch.Tensor:
        # Targets at the logits' resolution: the pixel at the centre of each block. Upsampled logits would say little more at far more cost.
        target = torch.from_numpy(np.stack(targets)[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]).long()
        return cross_entropy(model(pixels).logits, target)

    def check() -> float:
        model.eval()
        samples, confusion = segmentation().samples, np.zeros((len(MOSAIC_LABELS), len(MOSAIC_LABELS)), np.int64)
        with torch.inference_mode():
            for start in range(0, len(samples), 16):
                part: Any = samples[start : start + 16]
                pixels = torch.from_numpy(np.stack([sample.signal().pixels for sample in part])).permute(0, 3, 1, 2).float()
                logits = interpolate(model(normalise(pixels)).logits, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
                for answer, sample in zip(logits.argmax(1).numpy(), part, strict=True):
                    np.add.at(confusion, (sample.target().ravel(), answer.ravel()), 1)
        return mean_iou(confusion)

    facts = train(model, draw, loss, options, check)
    processor = SegformerImageProcessorPil(size={"height": SIZE, "width": SIZE}, image_mean=MEAN, image_std=STD)
    save(model, processor, facts | {"mIoU": check()}, options.out)


if __name__ == "__main__":
    main()
