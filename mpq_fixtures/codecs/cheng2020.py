"""The anchor model of Cheng, Sun, Takeuchi and Katto through CompressAI."""

from __future__ import annotations

from mpq_fixtures.codecs._compressai import ZooCodec


class Cheng2020(ZooCodec):
    """Cheng et al., Learned Image Compression with Discretized Gaussian Mixture Likelihoods and Attention Modules (CVPR 2020).

    The anchor without attention, with one Gaussian. ``q1`` is quality 1 of 6. It decodes as slowly as `mbt2018`.
    """

    name = "cheng2020"
    architecture = "cheng2020-anchor"
    ladder = ("q1", "q2", "q3", "q4", "q5", "q6")
