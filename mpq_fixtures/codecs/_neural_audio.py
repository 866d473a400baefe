"""What the neural audio codecs of ``transformers`` share: residual codes as bits, and networks that give the same in every run.

A stream is side information and the codes::

    operating point            its place among the codec's points; 128 more for two channels that a network of one channel codes in turn
    steps                      of the codes, as a varint
    scales                     float32, lowest byte first, for each segment of a network that codes segments by their level
    codes                      for every channel or pair, segment, step and codebook in this order, as many bits as a codebook's index has

Networks run on the CPU in float32, each sound by itself, in threads of their own for which torch uses a single one: what the rest of
the process does with torch, and how many threads it has, changes no byte.
"""

from __future__ import annotations

import platform
import re
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mpq_fixtures import DISTRIBUTION, hub
from mpq_fixtures.codecs import CodecError, Ledger
from mpq_fixtures.codecs._audio import AudioCodec, read_varint, scipy_build, varint
from mpq_fixtures.codecs._packing import pack, unpack
from mpq_fixtures.downloads import progress_bar
from mpq_fixtures.errors import AssetError, MissingAsset
from mpq_fixtures.hub.files import UnfitError
from mpq_fixtures.hub.repository import Repository, State
from mpq_fixtures.models import checkpoints
from mpq_fixtures.processes.devices import cores
from mpq_fixtures.weights import digest_of_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mpq_fixtures.signals import Audio

_BOTH = 128


@dataclass(frozen=True)
class Point:
    """An operating point: a network, by its hub id or local folder, and how many of its codebooks are used.

    The network takes ``channels`` channels at ``sample_rate`` Hz, ``hop`` frames to a step, and gives an index of ``bits`` bits for each
    step and codebook. ``segment`` is how many steps each segment but the last has, where a sound is coded in segments, each with a scale.
    """

    network: str
    sample_rate: int
    hop: int
    codebooks: int
    bits: int = 10
    channels: int = 1
    segment: int | None = None

    @property
    def kbps(self) -> float:
        """The rate of the codes in kbit/s."""
        return self.bits * self.codebooks * self.sample_rate / self.hop / 1000

    def spans(self, steps: int) -> list[tuple[int, int]]:
        """Return where each segment begins and ends."""
        length = self.segment or steps
        return [(start, min(start + length, steps)) for start in range(0, steps, length)]

    def scales(self, steps: int) -> int:
        """Return how many scales there are."""
        return len(self.spans(steps)) if self.segment else 0


@dataclass(frozen=True)
class Segment:
    """Codes ``int64 [codebooks, steps]`` of a part of a sound, and the level that they were scaled by, where the network does so."""

    codes: NDArray[np.int64]
    scale: float | None = None


class NeuralAudioCodec(AudioCodec):
    """A codec whose network ``transformers`` has, with its weights from the hub or from a local folder, in safetensors.

    ``points`` are the qualities; the ladder is some of them. A sound of more channels than the network has is coded channel by channel,
    one of fewer is doubled.
    """

    automatic = False
    points: ClassVar[Mapping[str, Point]]
    model_class: ClassVar[str]

    def __init__(self) -> None:
        self._networks: dict[str, Any] = {}
        self._loading = threading.Lock()

    @abstractmethod
    def encode_sound(self, network: Any, waveform: Any, point: Point) -> list[Segment]:
        """Return the codes of ``waveform``, a float32 tensor ``[1, channels, frames]``."""

    @abstractmethod
    def decode_sound(self, network: Any, segments: Sequence[Segment]) -> Any:
        """Return a tensor ``[1, channels, frames]``, of which the first frame is the first of what was encoded."""

    def build(self) -> str:
        """Name torch, transformers, the resampler, and the weights of each network by their digest."""
        networks = sorted({point.network for point in self.points.values()})
        weights = ", ".join(f"{Path(network).name} {self._digest(network)}" for network in networks)
        libraries = f"torch {version('torch')}, 1 thread, {platform.machine()}, transformers {version('transformers')}"
        return f"{libraries}, {scipy_build()}, {weights}"

    def check(self, quality: str) -> None:
        """Raise `CodecError` for a quality that is none of the points."""
        if quality not in self.points:
            raise CodecError(f"{quality!r} is not one of {', '.join(self.points)}")

    def others(self) -> Sequence[str]:
        """Return the points that are not on the ladder, of other networks."""
        return [quality for quality in self.points if quality not in self.ladder]

    def missing(self, qualities: Sequence[str] = ()) -> str:
        """Say which networks' weights are not here."""
        absent = [network for network in self._needed(qualities) if self._folder(network) is None]
        if not absent:
            return ""
        if Path(absent[0]).is_absolute():
            return f"its weights are not in {absent[0]}: pip install --force-reinstall --no-deps {DISTRIBUTION}"
        return f"its weights, {' and '.join(absent)}, are not here: mpq fetch --codec {self.name}"

    def _needed(self, qualities: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(self.points[quality].network for quality in qualities or self.points))

    def fetch(self, say: Callable[[str], None], qualities: Sequence[str] = ()) -> None:
        """Download the networks that are not here into the hub's cache."""
        from mpq_fixtures.hub.download import download

        for network in self._needed(qualities):
            if self._folder(network) is not None or Path(network).is_absolute():
                continue
            repository = self._repository(network)
            status = hub.look(repository)
            if status.state is not State.FETCHABLE:
                raise (AssetError if status.state is State.UNFIT else MissingAsset)(status.sentence)
            with progress_bar(network, status.size) as bar:
                download(repository, status, bar)
            say(f"{self.name}: {network} in {self._folder(network)}")

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the sample rate of the network."""
        return self.points[quality].sample_rate

    def nominal_bits(self, signal: Audio, quality: str) -> float | None:
        """Return the rate of the point, for each channel or for each pair."""
        channels, frames = signal.waveform.shape
        point = self.points[quality]
        seconds: float = ceil(channels / point.channels) * frames / signal.sample_rate
        return 1000 * point.kbps * seconds

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return the stream."""
        place, point = list(self.points).index(quality), self.points[quality]
        network = self._network(point)
        parts = [waveform] if point.channels == 2 else list(waveform[:, None])
        coded = [_threads().submit(self._encoded, network, part, point).result() for part in parts]
        scales = [segment.scale for segments in coded for segment in segments if segment.scale is not None]
        codes = [segment.codes.T.ravel() for segments in coded for segment in segments]
        steps = sum(segment.codes.shape[1] for segment in coded[0])
        both = _BOTH if len(waveform) == 2 else 0
        return bytes([place + both]) + varint(steps) + np.array(scales, "<f4").tobytes() + pack(np.concatenate(codes), point.bits)

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound, without delay."""
        point, channels, steps, levels, packed = self._read(data)
        parts = len(levels)
        codes = unpack(packed, point.bits, parts * steps * point.codebooks).reshape(parts, steps, point.codebooks)
        network = self._network(point)
        sounds = []
        for part in range(parts):
            scales = map(float, levels[part]) if point.segment else [None]
            spans = zip(point.spans(steps), scales, strict=True)
            segments = [Segment(codes[part, start:stop].T, scale) for (start, stop), scale in spans]
            sounds.append(_threads().submit(self._decoded, network, segments, steps * point.hop).result())
        sound = np.concatenate(sounds)
        return (sound if len(sound) == channels else sound.mean(0, keepdims=True)), point.sample_rate

    def decode(self, data: bytes) -> Audio:
        """Restore the sound; raises `ValueError` for damaged bytes, and `AssetError` where the network's weights are not to be had."""
        try:
            return super().decode(data)
        except ValueError as error:
            if isinstance(error.__cause__, AssetError):
                raise error.__cause__ from None
            raise

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Return the codes, and what is in front of them."""
        packed = len(self._read(stream)[-1])
        return Ledger(packed, side=len(stream) - packed)

    def _read(self, data: bytes) -> tuple[Point, int, int, NDArray[np.float32], bytes]:
        """Return the operating point, the channels, the steps, the scales ``[parts, segments]`` and the packed codes."""
        if not data:
            raise ValueError("no operating point")
        place, channels = data[0] % _BOTH, 1 + data[0] // _BOTH
        steps, rest = read_varint(data[1:])
        if place >= len(self.points) or not 1 <= steps <= len(data):  # fewer than a byte for a step there are not
            raise ValueError(f"{steps} steps of operating point {place}")
        point = list(self.points.values())[place]
        parts, scales = (1 if point.channels == 2 else channels), point.scales(steps)
        end = 4 * parts * scales
        return point, channels, steps, np.frombuffer(rest[:end], "<f4").reshape(parts, scales), rest[end:]

    def _encoded(self, network: Any, part: NDArray[np.float32], point: Point) -> list[Segment]:
        import torch

        if len(part) < point.channels:
            part = np.repeat(part, point.channels, axis=0)
        with torch.inference_mode():
            return self.encode_sound(network, torch.from_numpy(np.array(part, order="C"))[None], point)

    def _decoded(self, network: Any, segments: Sequence[Segment], frames: int) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            sound = np.asarray(self.decode_sound(network, segments)[0].numpy(), np.float32)
        # Transposed convolutions of an odd stride leave some frames out at the end.
        return np.pad(sound, ((0, 0), (0, max(0, frames - sound.shape[1]))))

    def _network(self, point: Point) -> Any:
        """Return a point's network, which is loaded when it is first needed; raises `AssetError`."""
        with self._loading:
            if point.network not in self._networks:
                self._networks[point.network] = self._load(point)
            return self._networks[point.network]

    def _load(self, point: Point) -> Any:
        import torch
        import transformers

        folder = self._folder(point.network)
        if folder is None:
            raise MissingAsset(f"codec {self.name}: {self.missing()}")
        checkpoints.check(str(folder), self.model_class)
        with checkpoints.quiet():
            network, report = getattr(transformers, self.model_class).from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
            )
        if report["missing_keys"] or report["mismatched_keys"]:
            raise AssetError(f"codec {self.name}: {folder} lacks {sorted(report['missing_keys'])[:3]}: delete it and fetch it again")
        config = network.config
        if (config.sampling_rate, config.codebook_size) != (point.sample_rate, 1 << point.bits):
            raise AssetError(
                f"codec {self.name}: {folder} has {config.sampling_rate} Hz and codebooks of {config.codebook_size}, "
                f"where {point.sample_rate} Hz and {1 << point.bits} are needed: delete it and fetch it again"
            )
        return network.eval().requires_grad_(False)

    def _folder(self, network: str) -> Path | None:
        """Return the local folder with a network's files, or None where they are not all here; the hub is not asked."""
        if Path(network).is_absolute():
            return Path(network) if (Path(network) / _WEIGHTS).is_file() else None
        status = hub.look_here(self._repository(network))
        return status.folder if status is not None and status.state is State.HERE else None

    def _digest(self, network: str) -> str:
        """Return what tells one configuration and its weights from others; the hub's cache names files by their digests."""
        folder = self._folder(network)
        if folder is None:
            return "absent"
        files = [(folder / name).resolve() for name in (checkpoints.CONFIG, _WEIGHTS)]
        return " ".join(file.name if re.fullmatch("[0-9a-f]{40,64}", file.name) else digest_of_file(file) for file in files)

    def _repository(self, network: str) -> Repository:
        return Repository("model", network, choose=_choose, needed_for=f"--codec {self.name}")


_WEIGHTS = "model.safetensors"


def _choose(names: Sequence[str], readme: str) -> list[str]:
    """Choose the configuration and the weights in safetensors; pickled ones are not read."""
    if lacking := {checkpoints.CONFIG, _WEIGHTS} - set(names):
        raise UnfitError(f"it has no {sorted(lacking)[0]}")
    return [checkpoints.CONFIG, _WEIGHTS]


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), "mpq-codec", _use_one_thread)


def _use_one_thread() -> None:
    """Let torch use one thread where this thread calls it.

    The number is a thread's own once it has called torch, but also becomes that of threads that have not yet: a third one puts that back.
    """
    import torch

    others = torch.get_num_threads()
    torch.set_num_threads(1)
    restoring = threading.Thread(target=torch.set_num_threads, args=(others,))
    restoring.start()
    restoring.join()


def plain(points: Iterable[str]) -> tuple[str, ...]:
    """Return the qualities without a suffix, those of a codec's main network."""
    return tuple(quality for quality in points if "_" not in quality)
