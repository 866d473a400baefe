"""A sample's way through a codec: its signal is read, encoded to bytes, decoded from them, and held against what it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpq_fixtures import chain
from mpq_fixtures.chain import digest, digest_of_signal
from mpq_fixtures.codecs import Codec, Ledger
from mpq_fixtures.metrics import Metric, NotMeasurable, Statistic
from mpq_fixtures.plain_text import plain
from mpq_fixtures.resources import Resources
from mpq_fixtures.sample_errors import SampleError, attempt
from mpq_fixtures.signals import Audio, Image, Sample, Signal
from mpq_fixtures.suite import Case


@dataclass(frozen=True, eq=False)
class Transcoded:
    """A signal as it came out of the decoder, with what it cost, ``size`` in bytes, and how near it is to the original.

    ``encoded`` is its bitstream where the store does not have it.
    """

    signal: Signal
    size: int
    elements: int
    seconds: float | None
    ledger: Ledger
    nominal_bits: float | None
    similarity: dict[str, Statistic]
    unmeasured: dict[str, str]
    chain: dict[str, str]
    encoded: bytes | None = None


Transcoding = Callable[[Sequence[Sample]], list[Transcoded | SampleError]]


@dataclass(eq=False, slots=True)
class _Passing:
    """A sample on its way: what the store has of it, what there is of it so far, and what came of it."""

    sample: Sample
    stored: bytes | None
    signal: Any = None
    data: Any = None
    decoded: Any = None
    chain: dict[str, str] = field(default_factory=dict)
    came: Any = None


class Transcoder:
    """Sends samples of a case, of ``samples`` in all, through its codec; originals, which have none, are read only."""

    def __init__(self, case: Case, codec: Codec | None, metrics: Sequence[Metric], samples: int, resources: Resources) -> None:
        self.case, self.codec, self.metrics, self.samples = case, codec, metrics, samples
        self.clock, self._read_cache, self._under_way = resources.clock, resources.read_cache, resources.under_way
        self._limits = case.evaluation.limits

    def transcode(self, samples: Sequence[Sample], stored: Mapping[str, bytes] | None = None) -> list[Transcoded | SampleError]:
        """Send samples through the codec, all of them through a step before the next, or hand over the originals.

        ``stored`` is what the encoder made of some of them earlier, by source.
        """
        passing = [_Passing(sample, (stored or {}).get(sample.source)) for sample in samples]
        steps: dict[str, Callable[[_Passing], None]] = {"read": self._read}
        if (codec := self.codec) is not None:
            steps |= {
                "encode": lambda one: self._encode(one, codec),
                "decode": lambda one: self._decode(one, codec),
                "score": lambda one: self._compare(one, codec),
            }
        with self._under_way.at("read", [sample.id for sample in samples[:1]], self._limits.step_seconds) as at:
            for name, step in steps.items():
                for one in passing:
                    if one.came is None:
                        at.note(name, [one.sample.id])
                        try:
                            step(one)
                        except SampleError as error:
                            one.came = error
        return [one.came for one in passing]

    def read(self, sample: Sample) -> Signal:
        """Return a sample's signal, write-protected: it is handed out again at the next point."""

        def read() -> Signal:
            signal = sample.signal()
            self._limits.check(signal)
            return signal

        signal: Signal = self._read_cache.read("signal", sample.source, self.samples, lambda: attempt("read", read))
        return attempt("read", lambda: signal.protected())  # type: ignore[no-any-return]

    def decode(self, data: bytes, original: Signal, codec: Codec) -> Signal:
        """Return what a codec makes of a bitstream; raises `SampleError` where it has not the shape of the original."""
        with self.clock.step("decode"):
            decoded: Signal = attempt("decode", codec.decode, data)
        if not _alike(decoded, original):
            raise SampleError("decode", f"came back as {_shape(decoded)}, not {_shape(original)}")
        return decoded.copied()  # a codec may use its buffer again

    def _read(self, one: _Passing) -> None:
        one.signal = signal = self.read(one.sample)
        one.chain[chain.SIGNAL] = digest_of_signal(signal)
        if self.codec is None:
            size = one.sample.stored_bytes
            one.came = Transcoded(signal.copied(), size, signal.elements, signal.seconds, Ledger(size), None, {}, {}, one.chain)

    def _encode(self, one: _Passing, codec: Codec) -> None:
        if (data := one.stored) is None:
            with self.clock.step("encode"):
                data = attempt("encode", lambda: bytes(memoryview(codec.encode(one.signal, self.case.quality))))
        one.data = data

    def _decode(self, one: _Passing, codec: Codec) -> None:
        one.decoded = self.decode(one.data, one.signal, codec)

    def _compare(self, one: _Passing, codec: Codec) -> None:
        signal, data, decoded = one.signal, one.data, one.decoded
        with self.clock.step("score"):
            ledger = _ledger(codec, data)
            nominal = attempt("score", codec.nominal_bits, signal, self.case.quality)
            similarity, unmeasured = self._similarity(decoded, signal)
            one.chain |= {chain.BITSTREAM: digest(data), chain.DECODED: digest_of_signal(decoded)}
        encoded = data if one.stored is None else None
        size, elements, seconds = len(data), signal.elements, signal.seconds
        one.came = Transcoded(decoded, size, elements, seconds, ledger, nominal, similarity, unmeasured, one.chain, encoded)

    def _similarity(self, decoded: Signal, original: Signal) -> tuple[dict[str, Statistic], dict[str, str]]:
        """Return what the signal metrics keep of a decoded signal, and why some of them cannot measure it."""
        similarity: dict[str, Statistic] = {}
        unmeasured: dict[str, str] = {}
        for metric in self.metrics:
            try:
                similarity[metric.name] = attempt("score", metric.observe, decoded, original)
            except SampleError as error:
                if not isinstance(error.__cause__, NotMeasurable):
                    raise
                unmeasured[metric.name] = plain(error.__cause__)
        return similarity, unmeasured


def _ledger(codec: Codec, data: bytes) -> Ledger:
    ledger: Ledger = attempt("score", codec.ledger, data)
    if (total := ledger.payload + ledger.container + ledger.side) != len(data):
        raise SampleError("score", f"the codec's ledger adds up to {total} of {len(data)} bytes")
    return ledger


def _alike(one: object, other: Signal) -> bool:
    """Tell whether two signals have one shape, as `_shape` says it, which takes longer than many a codec's head."""
    if isinstance(one, Image) and isinstance(other, Image):
        return one.pixels.dtype == other.pixels.dtype and one.pixels.shape == other.pixels.shape
    return _shape(one) == _shape(other)


def _shape(signal: object) -> str:
    if isinstance(signal, Image):
        return f"{signal.pixels.dtype} {list(signal.pixels.shape)}"
    if isinstance(signal, Audio):
        return f"{signal.waveform.dtype} {list(signal.waveform.shape)} at {signal.sample_rate} Hz"
    return type(signal).__name__
