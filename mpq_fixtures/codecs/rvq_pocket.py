"""The pocket's own small codec of EnCodec's architecture, which this project trained: real codes and rates on any machine."""

from __future__ import annotations

import math
from pathlib import Path

from mpq_fixtures.codecs._neural_audio import Point
from mpq_fixtures.codecs.encodec import EncodecArchitecture
from mpq_fixtures.models import checkpoints

FOLDER = Path(__file__).parents[1] / "pocket" / "models" / "rvq_pocket"


def points_of(folder: Path) -> dict[str, Point]:
    """Return a point for each bandwidth that the network in a folder was trained for, of one channel, as its configuration has it."""
    config = checkpoints.config_of(folder)
    rate, hop = config.get("sampling_rate", 16000), math.prod(config.get("upsampling_ratios", (8, 5, 4, 2)))
    bits = (config.get("codebook_size", 1024) - 1).bit_length()
    bandwidths = config.get("target_bandwidths", (1.5, 3, 6))
    return {f"{kbps:g}k": Point(str(folder), rate, hop, int(1000 * kbps * hop / rate / bits + 1e-6), bits) for kbps in bandwidths}


class RvqPocket(EncodecArchitecture):
    """A small EnCodec at 16 kHz. Its qualities are the kbit/s a channel that its network was trained for.

    It was trained on the pocket suite's kind of speech and songs, and is no rival to codecs that were trained on more.
    """

    name = "rvq_pocket"
    points = points_of(FOLDER)
    ladder = tuple(points)
