"""EnCodec (Défossez et al., 2022, arXiv 2210.13438) by Meta's weights, without its arithmetic coder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mpq_fixtures.codecs._neural_audio import NeuralAudioCodec, Point, Segment, plain

_24KHZ, _48KHZ = "facebook/encodec_24khz", "facebook/encodec_48khz"


class EncodecArchitecture(NeuralAudioCodec):
    """What any network of EnCodec's architecture needs.

    One that codes segments of a second has as few of them as reach to the end of the sound, and the last as long as it has to be:
    ``transformers`` codes one more of the overlap alone, and its processor fills the last one up, both for bits.
    """

    model_class = "EncodecModel"

    def encode_sound(self, network: Any, waveform: Any, point: Point) -> list[Segment]:
        """Return the codes of each segment."""
        config, frames = network.config, waveform.shape[-1]
        length, stride = config.chunk_length or frames, config.chunk_stride or frames
        starts = range(0, max(1, frames - (length - stride)), stride)
        return [self._segment(network, waveform[..., start : start + length], point) for start in starts]

    def _segment(self, network: Any, waveform: Any, point: Point) -> Segment:
        codes, scales, _ = network.encode(waveform, bandwidth=point.kbps, return_dict=False)
        # Of a segment longer than the stride, the second is the overlap coded again.
        return Segment(codes[0, 0].numpy().astype(np.int64), None if scales[0] is None else float(scales[0]))

    def decode_sound(self, network: Any, segments: Sequence[Segment]) -> Any:
        """Return the segments, faded into each other."""
        import torch

        codes = [torch.from_numpy(np.ascontiguousarray(segment.codes))[None] for segment in segments]
        scales = [None if segment.scale is None else torch.tensor([[segment.scale]]) for segment in segments]
        return network.decode(codes, scales, return_dict=False)[0]


class Encodec(EncodecArchitecture):
    """EnCodec without its language model. ``6k`` is 6 kbit/s a channel at 24 kHz, ``6k_48khz`` 6 kbit/s for a stereo pair at 48 kHz.

    An index has 10 bits. At 24 kHz there are 75 of them a second and codebook; at 48 kHz 150, in segments of a second, each with a level.
    A mono sound at 48 kHz is coded as two equal channels.
    """

    name = "encodec"
    points = {
        **{quality: Point(_24KHZ, 24000, 320, used) for quality, used in {"1.5k": 2, "3k": 4, "6k": 8, "12k": 16, "24k": 32}.items()},
        **{
            f"{quality}_48khz": Point(_48KHZ, 48000, 320, used, channels=2, segment=150)
            for quality, used in {"3k": 2, "6k": 4, "12k": 8, "24k": 16}.items()
        },
    }
    ladder = plain(points)
