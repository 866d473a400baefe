"""The scale hyperprior of Balle, Minnen, Singh, Hwang and Johnston through CompressAI."""

from __future__ import annotations

from mpq_fixtures.codecs._compressai import ZooCodec


class Bmshj2018(ZooCodec):
    """Balle et al., Variational Image Compression with a Scale Hyperprior (ICLR 2018). ``q1`` is quality 1 of 8."""

    name = "bmshj2018"
    architecture = "bmshj2018-hyperprior"
    ladder = ("q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8")
