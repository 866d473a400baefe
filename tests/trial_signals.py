"""Signals that codecs are tried on: a photograph, and the sounds of the conformance kit."""

from __future__ import annotations

import numpy as np
import skimage.data

from mpq_fixtures.conformance.signals import music, speech
from mpq_fixtures.signals import Image

__all__ = ["music", "photo", "speech"]


def photo(height: int = 224, width: int = 224) -> Image:
    """A portrait: a crop of the photograph in scikit-image's wheel (NASA, public domain)."""
    return Image(np.ascontiguousarray(skimage.data.astronaut()[30 : 30 + height, 120 : 120 + width]))
