"""Mimi, the codec of Moshi (Défossez et al., 2024, arXiv 2410.00037), by Kyutai's weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpq_fixtures.codecs._neural_audio import NeuralAudioCodec, Point, Segment


class Mimi(NeuralAudioCodec):
    """Mimi at 24 kHz, for speech. ``1.1k`` is 1.1 kbit/s a channel: 12.5 times a second, 8 indices of 11 bits, as Moshi uses it."""

    name = "mimi"
    model_class = "MimiModel"
    ladder = ("0.55k", "1.1k", "2.2k", "4.4k")
    points = {quality: Point("kyutai/mimi", 24000, 1920, used, bits=11) for quality, used in zip(ladder, (4, 8, 16, 32), strict=True)}

    def encode_sound(self, network: Any, waveform: Any, point: Point) -> list[Segment]:
        """Return the codes."""
        codes = network.encode(waveform, num_quantizers=point.codebooks, return_dict=True).audio_codes
        return [Segment(codes[0].numpy().astype(np.int64))]

    def decode_sound(self, network: Any, segments: Sequence[Segment]) -> Any:
        """Return the sound."""
        import torch

        (segment,) = segments
        return network.decode(torch.from_numpy(np.ascontiguousarray(segment.codes))[None], return_dict=True).audio_values
