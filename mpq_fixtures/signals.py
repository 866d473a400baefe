"""Signals, what a model perceives, and samples, the items of a data set.

Conventions: pixels are ``uint8 [height, width, 3]`` RGB; waveforms are ``float32 [channels, frames]`` with full
scale at -1..1 and their sample rate in Hz. Nothing here knows of a codec, a task or a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Modality(Enum):
    """What kind of signal a codec carries and a task perceives."""

    IMAGE = "image"
    AUDIO = "audio"

    @property
    def rate_unit(self) -> str:
        """``bpp``, bits per pixel, or ``bps``, bits per audio sample with every channel counted."""
        return "bpp" if self is Modality.IMAGE else "bps"

    @property
    def raw_bits(self) -> int:
        """Bits that one pixel (8-bit RGB) or one audio sample (16-bit PCM) takes uncompressed."""
        return 24 if self is Modality.IMAGE else 16


@dataclass(frozen=True, eq=False)
class Image:
    """A picture: ``pixels`` is ``uint8 [height, width, 3]``, RGB."""

    pixels: NDArray[np.uint8]

    @property
    def elements(self) -> int:
        """Pixels, what an image's rate is counted over."""
        return int(self.pixels.shape[0] * self.pixels.shape[1])


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound: ``waveform`` is ``float32 [channels, frames]`` in -1..1, ``sample_rate`` in Hz."""

    waveform: NDArray[np.float32]
    sample_rate: int

    @property
    def elements(self) -> int:
        """Audio samples over all channels, what a sound's rate is counted over."""
        return int(self.waveform.size)


Signal = Image | Audio

Target = Any
"""What a model should answer: a class index, a class map ``[H, W]``, a text, or stems ``{name: [channels, frames]}``."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One item of a data set. Signal and target are read when asked for, so that a data set never sits in memory.

    ``id`` is stable and unique in its data set; ``source`` is a hex digest that changes whenever the signal or the target
    does, and can be had without decoding; ``stored_bytes`` is the size as the data set stores the signal.
    """

    id: str
    source: str
    stored_bytes: int
    signal: Callable[[], Signal]
    target: Callable[[], Target]
