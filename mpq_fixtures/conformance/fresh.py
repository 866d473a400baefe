"""A codec in a fresh process, as seen from here."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mpq_fixtures.codecs import Codec
from mpq_fixtures.conformance.signals import array_of
from mpq_fixtures.isolation.client import SECONDS, CodecProcess, ProcessError
from mpq_fixtures.processes.temporary import TemporaryFolder
from mpq_fixtures.signals import Audio, Image, Signal

_SERVED = Path(__file__).with_name("served.py")


@dataclass(frozen=True)
class Outcome:
    """How a damaged stream ended: ``decoded``, ``refused``, for want of ``memory``, or with its process or worker ``lost``.

    ``fault`` is what is wrong with that, behind "damaged stream 7", or "". ``seconds`` is what it took, ``peak`` the resident memory in
    bytes that the process, or a worker of its own, has had so far, 0 where the system does not say.
    """

    end: str
    fault: str = ""
    seconds: float = 0.0
    peak: int = 0


class FreshCodec:
    """The codec in a process that nothing else has run in, with a working directory and a temporary folder of its own.

    It is started by the first call, with as many threads as this one has. `close` ends it and deletes its folders. What goes wrong in it
    raises `mpq_fixtures.isolation.client.ProcessError`.
    """

    def __init__(
        self, codec: Codec, environment: Mapping[str, str] | None = None, stopped_clock: float | None = None, seconds: float = SECONDS
    ) -> None:
        self._given_up = False
        self._temporary = TemporaryFolder("fresh")
        self.folder = self._temporary.path / "codec"
        work, temporary = self.folder / "work", self.folder / "tmp"
        work.mkdir(parents=True)
        temporary.mkdir()
        module = sys.modules.get(type(codec).__module__)
        arguments = {
            "address": codec.address(),
            "path": [os.path.abspath(entry or ".") for entry in sys.path],  # noqa: PTH100  # links stay links
            "file": os.path.abspath(getattr(module, "__file__", None) or "") if getattr(module, "__file__", None) else "",  # noqa: PTH100
            "stopped_clock": stopped_clock,
        }
        variables = {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
        self._process = CodecProcess(
            f"{_SERVED}:CodecServer",
            arguments,
            environment={**_folders(), **_threads(), **variables, **(environment or {})},
            folder=work,
            seconds=seconds,
        )

    def start(self) -> None:
        """Start the process, if it does not run, and wait until the codec is made."""
        self._call("ready")

    def encode(self, signal: Signal, quality: str) -> bytes:
        """Return the bytes that the codec makes of ``signal`` there."""
        rate = signal.sample_rate if isinstance(signal, Audio) else None
        data, _ = self._call("encode", array_of(signal), quality=quality, sample_rate=rate)
        return bytes(data)

    def decode(self, data: bytes) -> Signal:
        """Return the signal that the codec makes of ``data`` there."""
        array, fields = self._call("decode", data)
        return Image(array) if fields["sample_rate"] is None else Audio(array, fields["sample_rate"])

    def limit(self, data: bytes, memory: int, seconds: float) -> None:
        """Let the process have ``memory`` bytes more from now on, and a call ``seconds``, or twenty times what decoding ``data`` takes."""
        _, fields = self._call("limit", data, memory=memory)
        self._process.seconds = max(seconds, 20 * fields["seconds"])

    def survive(self, data: bytes, refusal: type[Exception] = Exception) -> Outcome:
        """Decode damaged bytes, which the codec may refuse by raising a ``refusal``, one of Python's own exceptions."""
        _, fields = self._call("survive", data, refusal=refusal.__name__)
        return Outcome(**fields)

    def written(self) -> set[str]:
        """Return the files that Python code opened for writing while the codec encoded, but for its first signal."""
        return set(self._call("opened")[1]["written"])

    def read(self) -> set[str]:
        """Return the files that Python code opened for reading while the codec decoded."""
        return set(self._call("opened")[1]["read"])

    def give_up(self) -> None:
        """Let the call under way be the last: others raise."""
        self._given_up = True

    def _call(self, method: str, payload: Any = b"", **arguments: Any) -> tuple[Any, dict[str, Any]]:
        if self._given_up:
            raise ProcessError("the codec's process was given up")
        return self._process.call(method, payload, **arguments)

    def close(self) -> None:
        """End the process and delete its folders."""
        self._process.close()
        self._temporary.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def encode_all(codec: FreshCodec, points: Sequence[tuple[Signal, str]]) -> list[bytes | ProcessError]:
    """Return the bytes, or what went wrong, of each signal and quality, in the order of ``points``."""
    results: list[bytes | ProcessError] = []
    for signal, quality in points:
        try:
            results.append(codec.encode(signal, quality))
        except ProcessError as error:
            results.append(error)
    return results


def decode_all(codec: FreshCodec, streams: Sequence[bytes]) -> list[Signal | ProcessError]:
    """Return the signals, or what went wrong, of each of ``streams``."""
    results: list[Signal | ProcessError] = []
    for data in streams:
        try:
            results.append(codec.decode(data))
        except ProcessError as error:
            results.append(error)
    return results


def spread(qualities: Sequence[str], count: int = 3) -> list[str]:
    """Return at most ``count`` of ``qualities``: the first, the last, and others evenly between them."""
    if len(qualities) <= count:
        return list(qualities)
    return [qualities[round(step * (len(qualities) - 1) / (count - 1))] for step in range(count)]


def _folders() -> dict[str, str]:
    """Return the variables that name folders from here on, for a process that works elsewhere."""
    ours = {name: value for name, value in os.environ.items() if name.startswith(("MPQ_", "HF_", "XDG_"))}
    return {name: str(Path(value).absolute()) for name, value in ours.items() if value and Path(value).exists()}


def _threads() -> dict[str, Any]:
    """Return how many threads torch has here: an evaluation may have set it, and sums in another order are other sums."""
    torch: Any = sys.modules.get("torch")
    return {"OMP_NUM_THREADS": str(torch.get_num_threads())} if hasattr(torch, "get_num_threads") else {}
