"""HiFiC through TensorFlow Compression."""

from __future__ import annotations

from mpq_fixtures.codecs._tfci import TfciCodec


class Hific(TfciCodec):
    """Mentzer, Toderici, Tschannen and Agustsson, High-Fidelity Generative Image Compression (NeurIPS 2020).

    ``lo``, ``mi`` and ``hi`` aim at 0.14, 0.30 and 0.45 bits per pixel. Its generator invents texture that people do not miss.
    """

    name = "hific"
    ladder = ("lo", "mi", "hi")
    models = {quality: f"hific-{quality}" for quality in ladder}
