"""Lyra v2, Google's codec for speech at the lowest rates, with its own weights.

Published at https://github.com/google/lyra (Apache-2.0); the network is SoundStream's (Zeghidour et al., 2021, arXiv 2107.03312).
"""

from __future__ import annotations

import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from mpq_fixtures import DISTRIBUTION
from mpq_fixtures.codecs import Ledger
from mpq_fixtures.codecs._audio import AudioCodec, scipy_build
from mpq_fixtures.codecs._packing import pack, packed_size, unpack
from mpq_fixtures.downloads import progress_bar
from mpq_fixtures.weights import WeightFile, Weights, download

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mpq_fixtures.signals import Audio

SAMPLE_RATE, HOP = 16000, 320
CODE_BITS, STAGES = 4, 46
"""Bits of an index, and how many stages the quantizer has; a quality uses the first 16, 30 or all of them."""

_SOURCE = "https://raw.githubusercontent.com/google/lyra/47698dadf0010abff6a848e02642f55f806d4842/lyra/model_coeffs"
ENCODER, QUANTIZER, DECODER = "soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite"
WEIGHTS = Weights(
    "lyra_v2",
    (
        WeightFile(ENCODER, f"{_SOURCE}/{ENCODER}", "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1", 1_779_200),
        WeightFile(QUANTIZER, f"{_SOURCE}/{QUANTIZER}", "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c", 329_012),
        WeightFile(DECODER, f"{_SOURCE}/{DECODER}", "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06", 1_475_160),
    ),
    "Apache-2.0",
    "mpq fetch --codec lyra",
)


class Lyra(AudioCodec):
    """Lyra v2 at 16 kHz, a stream for each channel. ``3.2k`` is 3.2 kbit/s: in 20 ms, 16 indices of 4 bits of a residual quantizer.

    A stream is a byte, how many indices a packet has, and the packets, which have no header, in the layout of the C++ implementation:
    the first index in the highest bits. As there, the networks at both ends run in XNNPACK's kernels and the quantizer in TensorFlow
    Lite's own, in one thread. With other kernels most indices are others, and XNNPACK's may differ with the processor's instruction
    set; what was encoded with one decodes with the other.
    """

    name = "lyra"
    ladder = ("3.2k", "6k", "9.2k")
    automatic = False
    channels_per_stream = 1
    _stages = {"3.2k": 16, "6k": 30, "9.2k": 46}

    def build(self) -> str:
        """Name the runtime, its kernels and their machine, and the resampler; the weights are told by their digests in this file."""
        try:
            runtime = version("ai-edge-litert")
        except PackageNotFoundError:
            runtime = "absent"
        return f"ai-edge-litert {runtime}, kernels xnnpack and builtin, 1 thread, {platform.machine()}, {scipy_build()}"

    def missing(self, qualities: Sequence[str] = ()) -> str:
        """Say which of the runtime and the weights is not here."""
        if importlib.util.find_spec("ai_edge_litert") is None:
            return f"its runtime is not installed: pip install '{DISTRIBUTION}[lyra]'"
        return WEIGHTS.missing()

    def fetch(self, say: Callable[[str], None], qualities: Sequence[str] = ()) -> None:
        """Download the weights from Lyra's repository at the commit of its last change to them."""
        with progress_bar("lyra", WEIGHTS.size) as bar:
            say(f"lyra: weights ({WEIGHTS.licence}) in {download(WEIGHTS, bar.update)}")

    def coded_rate(self, sample_rate: int, quality: str) -> int:
        """Return the one sample rate of the networks."""
        return SAMPLE_RATE

    def encode_stream(self, waveform: NDArray[np.float32], sample_rate: int, quality: str) -> bytes:
        """Return the packets; zeros fill the last frame."""
        stages = self._stages[quality]
        frames = np.pad(waveform[0], (0, -waveform.shape[1] % HOP)).reshape(-1, 1, HOP)
        folder = WEIGHTS.require()
        encode = _run(folder / ENCODER)
        quantize = _interpreter(folder / QUANTIZER, False).get_signature_runner("encode")
        codes = [quantize(input_frames=encode(frame), num_quantizers=np.int32(stages))["output_0"].ravel()[:stages] for frame in frames]
        return bytes([stages]) + pack(np.array(codes), CODE_BITS)

    def decode_stream(self, data: bytes) -> tuple[NDArray[np.float32], int]:
        """Return the sound; the networks have no delay."""
        stages, packets = data[0], data[1:]
        if stages not in self._stages.values():
            raise ValueError(f"packets of {stages} indices")
        count = len(packets) // packed_size(CODE_BITS, stages)
        codes = np.full((count, STAGES, 1, 1), -1, np.int32)  # -1: not sent
        codes[:, :stages, 0, 0] = unpack(packets, CODE_BITS, count * stages).reshape(count, stages)
        folder = WEIGHTS.require()
        restore = _interpreter(folder / QUANTIZER, False).get_signature_runner("decode")
        decode = _run(folder / DECODER)
        sound = [decode(restore(encoding_indices=frame)["output_0"]) for frame in codes]
        return np.concatenate(sound, axis=1), SAMPLE_RATE

    def decode(self, data: bytes) -> Audio:
        """Restore the sound; raises `ValueError` for damaged bytes, and what `Weights.require` raises for the weights."""
        WEIGHTS.require()
        return super().decode(data)

    def stream_ledger(self, stream: bytes) -> Ledger:
        """Return the packets, and the byte in front of them."""
        return Ledger(len(stream) - 1, side=1)


def _run(file: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return a network with one input and one output. It remembers what it has heard: each sound needs its own."""
    interpreter = _interpreter(file, True)
    given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
        interpreter.set_tensor(given, values)
        interpreter.invoke()
        answer: NDArray[np.float32] = interpreter.get_tensor(made)
        return answer

    return run


def _interpreter(file: Path, xnnpack: bool) -> Any:
    from ai_edge_litert.interpreter import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
        Interpreter,
        OpResolverType,
    )

    # AUTO applies the delegates that are built in, of which XNNPACK is the one.
    kernels = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_path=str(file), num_threads=1, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    return interpreter
