"""The joint autoregressive and hierarchical model of Minnen, Balle and Toderici through CompressAI."""

from __future__ import annotations

from mpq_fixtures.codecs._compressai import ZooCodec


class Mbt2018(ZooCodec):
    """Minnen, Balle and Toderici, Joint Autoregressive and Hierarchical Priors for Learned Image Compression (NeurIPS 2018).

    ``q1`` is quality 1 of 8. The decoder takes one position of the latents after the other, which is slow: 1,024 of them at 512x512.
    """

    name = "mbt2018"
    architecture = "mbt2018"
    ladder = ("q1", "q2", "q3", "q4", "q5", "q6", "q7", "q8")
