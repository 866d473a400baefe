"""The pocket's own small codec of EnCodec's architecture, which this project trained: real codes and rates on any machine."""

from __future__ import annotations

from pathlib import Path

from mpq_fixtures.codecs._neural_audio import Point
from mpq_fixtures.codecs.encodec import EncodecArchitecture

FOLDER = Path(__file__).parents[1] / "pocket" / "models" / "rvq_pocket"


class RvqPocket(EncodecArchitecture):
    """A small EnCodec at 16 kHz. ``1.5k`` is 1.5 kbit/s a channel: 50 times a second, 3 indices of 10 bits.

    It was trained on the pocket suite's kind of speech and songs, and is no rival to codecs that were trained on more.
    """

    name = "rvq_pocket"
    points = {quality: Point(str(FOLDER), 16000, 320, used) for quality, used in {"1.5k": 3, "3k": 6, "6k": 12}.items()}
    ladder = ("1.5k", "3k", "6k")
