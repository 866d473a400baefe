"""Signals, what a model perceives, samples, the items of a data set, and data sets.

Conventions: pixels are ``uint8 [height, width, 3]`` RGB; waveforms are ``float32 [channels, frames]`` with full
scale at -1..1 and their sample rate in Hz. Nothing here knows of a codec, a task or a model.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SEED = 20240115
"""Seeds the choice of samples; the day that the study appeared."""

_SAMPLES = 2 * 48_000  # a second of stereo
_TOGETHER = 4096  # samples that are asked for what is said of them at once


class Modality(Enum):
    """What kind of signal a codec carries and a task perceives."""

    IMAGE = "image"
    AUDIO = "audio"

    @property
    def rate_unit(self) -> str:
        """``bpp``, bits per pixel, or ``bits/sample``, bits per audio sample with every channel counted."""
        return "bpp" if self is Modality.IMAGE else "bits/sample"

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

    @property
    def seconds(self) -> float | None:
        """None: a picture takes no time."""
        return None

    def protected(self) -> Image:
        """Return the same picture, write-protected."""
        return Image(_protected(self.pixels))

    def copied(self) -> Image:
        """Return a copy that nobody else holds."""
        return Image(self.pixels.copy())


@dataclass(frozen=True, eq=False)
class Audio:
    """Sound: ``waveform`` is ``float32 [channels, frames]`` in -1..1, ``sample_rate`` in Hz."""

    waveform: NDArray[np.float32]
    sample_rate: int

    @property
    def elements(self) -> int:
        """Audio samples over all channels, what a sound's rate is counted over."""
        return int(self.waveform.size)

    @property
    def seconds(self) -> float | None:
        """How long the sound is."""
        return float(self.waveform.shape[-1] / self.sample_rate)

    def protected(self) -> Audio:
        """Return the same sound, write-protected."""
        return Audio(_protected(self.waveform), self.sample_rate)

    def copied(self) -> Audio:
        """Return a copy that nobody else holds."""
        return Audio(self.waveform.copy(), self.sample_rate)


@dataclass(frozen=True)
class Limits:
    """The largest signals that are taken, and how long a step of a sample may take.

    A small file may hold a signal that takes all of a machine's memory, and libraries know of files from which they do not return.
    """

    pixels: int = 100_000_000
    seconds: float = 7200.0
    step_seconds: float = 600.0

    def check_picture(self, height: int, width: int) -> None:
        """Raise `ValueError`, which names the limit, for a picture beyond it."""
        if height * width > self.pixels:
            raise ValueError(f"a picture of {height * width:,} pixels is beyond the limit of {self.pixels:,}: {self._way('pixels')}")

    def check_sound(self, seconds: float, samples: int) -> None:
        """Raise `ValueError`, which names the limit, for a sound beyond it, or with more samples over all channels than that takes."""
        if seconds > self.seconds:
            raise ValueError(f"a sound of {seconds:,.0f} s is beyond the limit of {self.seconds:,.0f} s: {self._way('seconds')}")
        stereo = max(self.seconds, Limits.seconds)  # a lower limit means shorter sounds, not fewer channels
        if samples > _SAMPLES * stereo:
            most = f"{_SAMPLES * stereo:,.0f} that {stereo:,.0f} s of stereo at 48 kHz have"
            raise ValueError(f"a sound of {samples:,} samples over all channels is beyond the {most}: {self._way('seconds')}")

    def check(self, signal: Signal) -> None:
        """Raise `ValueError`, which names the limit, for a signal beyond it."""
        if isinstance(signal, Image):
            self.check_picture(*signal.pixels.shape[:2])
        else:
            self.check_sound(signal.seconds or 0.0, signal.elements)

    @staticmethod
    def _way(figure: str) -> str:
        return f"leave it out, or write limits = {{ {figure} = ... }} into its evaluation"


def _protected(array: Any) -> Any:
    view = array.view()
    view.flags.writeable = False
    return view


Signal = Image | Audio

Target = Any
"""What a model should answer: a class index, a class map ``[H, W]``, a text, or stems ``{name: Audio}``."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One item of a data set. Signal and target are read when asked for, so that a data set never sits in memory.

    ``id`` is stable and unique in its data set; ``source`` is a hex digest that changes whenever the signal or the target
    does, and can be had without decoding; ``stored_bytes`` is the size as the data set stores the signal. Samples of one ``group`` (a
    speaker, a patient) are no independent evidence; "" stands for itself alone.
    """

    id: str
    source: str
    stored_bytes: int
    signal: Callable[[], Signal]
    target: Callable[[], Target]
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """Samples in a fixed order, and the names of the classes that their targets index (none for text and stems).

    ``ignored`` is what class maps hold where nothing is scored.
    """

    samples: Sequence[Sample]
    labels: tuple[str, ...] = ()
    ignored: int | None = None

    def choose(self, count: int | None) -> Dataset:
        """Return at most ``count`` samples in their old order: a seeded choice, in which a smaller one lies inside a larger one."""
        if count is None or count >= len(self.samples):
            return self
        return self.take(array("q", sorted(self.seeded_order()[:count])))

    def seeded_order(self) -> array[int]:
        """Return all places in an order that is the same everywhere: its first so many are a choice of all."""
        order = array("q", range(len(self.samples)))
        random.Random(SEED).shuffle(order)
        return order

    def take(self, places: Sequence[int]) -> Dataset:
        """Return the samples at some places, in the order of these."""
        samples = LazySamples(
            len(places),
            lambda index: self.samples[places[index]],
            lambda indices: self.sources([places[index] for index in indices]),
            lambda indices: self.names([places[index] for index in indices]),
        )
        return Dataset(samples, self.labels, self.ignored)

    @cached_property
    def columns(self) -> pa.Table:
        """What is said of all samples, found out once and in their order: see `mpq_fixtures.rows.tables.columns_of`."""
        import pyarrow as pa

        from mpq_fixtures.chain import SOURCE
        from mpq_fixtures.rows.tables import columns_of, with_keys

        places = range(len(self.samples))
        stretches = (places[start : start + _TOGETHER] for start in range(0, max(1, len(places)), _TOGETHER))
        parts = (columns_of(self.names(some), self.sources(some)) for some in stretches)
        if (keys := self.keys()) is None:
            return pa.concat_tables(parts).combine_chunks()
        return with_keys(pa.concat_tables(part.drop_columns([SOURCE]) for part in parts).combine_chunks(), keys)

    def sources(self, indices: Sequence[int] | None = None) -> list[str]:
        """Return the sources of some samples, or of all, by their indices; much faster than sample by sample where there are many."""
        indices = range(len(self.samples)) if indices is None else indices
        if isinstance(self.samples, LazySamples):
            return self.samples.sources(indices)
        return [self.samples[index].source for index in indices]

    def keys(self) -> memoryview | None:
        """Return the memory in which all sources are held, 32 bytes each, as far as they were asked for; None where they are not."""
        return self.samples.keys() if isinstance(self.samples, LazySamples) else None

    def names(self, indices: Sequence[int]) -> list[tuple[str, str]]:
        """Return id and group of some samples, by their indices; faster than sample by sample, as `sources` is."""
        if isinstance(self.samples, LazySamples) and self.samples.names is not None:
            return self.samples.names(indices)
        return [(sample.id, sample.group) for sample in map(self.samples.__getitem__, indices)]


class LazySamples(Sequence[Sample]):
    """Samples that are made whenever they are asked for, and not kept: a sample is some 700 bytes, and there may be a million.

    ``make`` takes an index from 0 on, ``sources`` several, and gives what these samples' ``source`` would be; so does ``names``, where it
    is given, with their ids and groups. ``keys`` gives the memory in which all sources are held, 32 bytes each, if they are: those that
    ``sources`` was asked for are there.
    """

    def __init__(
        self,
        count: int,
        make: Callable[[int], Sample],
        sources: Callable[[Sequence[int]], list[str]],
        names: Callable[[Sequence[int]], list[tuple[str, str]]] | None = None,
        keys: Callable[[], memoryview | None] = lambda: None,
    ) -> None:
        self._count = count
        self._make = make
        self.sources, self.names, self.keys = sources, names, keys

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        return self._make(range(len(self))[index])
