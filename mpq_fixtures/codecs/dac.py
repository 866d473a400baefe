"""DAC, the Descript Audio Codec (Kumar et al., 2023, arXiv 2306.06546), by its authors' weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpq_fixtures.codecs._neural_audio import NeuralAudioCodec, Point, Segment, plain


def _points(khz: int, sample_rate: int, hop: int, suffix: str, used: dict[str, int]) -> dict[str, Point]:
    return {f"{name}{suffix}": Point(f"descript/dac_{khz}khz", sample_rate, hop, codebooks) for name, codebooks in used.items()}


class Dac(NeuralAudioCodec):
    """DAC. ``0.9k`` to ``7.8k`` are 1 to 9 codebooks of the network at 44.1 kHz, .861 kbit/s each, for each channel.

    ``6k_16khz`` is 6 kbit/s with the network at 16 kHz (.5 kbit/s a codebook, 12 of them), ``6k_24khz`` with that at 24 kHz (.75, 32).
    """

    name = "dac"
    model_class = "DacModel"
    points = {
        **_points(44, 44100, 512, "", {"0.9k": 1, "1.7k": 2, "2.6k": 3, "3.4k": 4, "5.2k": 6, "7.8k": 9}),
        **_points(24, 24000, 320, "_24khz", {"0.75k": 1, "1.5k": 2, "3k": 4, "6k": 8, "12k": 16, "24k": 32}),
        **_points(16, 16000, 320, "_16khz", {"0.5k": 1, "1k": 2, "2k": 4, "3k": 6, "4k": 8, "6k": 12}),
    }
    ladder = plain(points)

    def encode_sound(self, network: Any, waveform: Any, point: Point) -> list[Segment]:
        """Return the codes; zeros fill the last step, as the network's own processor does."""
        import torch

        filled = torch.nn.functional.pad(waveform, (0, -waveform.shape[-1] % point.hop))
        codes = network.encode(filled, n_quantizers=point.codebooks, return_dict=False)[2]
        return [Segment(codes[0].numpy().astype(np.int64))]

    def decode_sound(self, network: Any, segments: Sequence[Segment]) -> Any:
        """Return the sound."""
        import torch

        (segment,) = segments
        return network.decode(audio_codes=torch.from_numpy(np.ascontiguousarray(segment.codes))[None], return_dict=False)[0][:, None]
