"""What the metrics and their intervals cost, and the closed-form SDR beside museval's own.

Run with ``pytest benchmarks --benchmark-enable -o "python_files=bench_*.py"``; names of a group stand in one table.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mpq_fixtures.codecs import instance
from mpq_fixtures.gate.packing import pack, unpack
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.miou import MeanIoU
from mpq_fixtures.metrics.psnr import AudioPSNR, ImagePSNR
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.si_sdr import SISDR
from mpq_fixtures.metrics.ssim import SSIM
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.word_accuracy import WordAccuracy
from mpq_fixtures.signals import Audio, Image
from mpq_fixtures.statistics.intervals import interval

RATE = 16_000
STEMS = ("bass", "drums", "other", "vocals")


def song(seconds: int = 6) -> tuple[dict[str, Any], dict[str, Any]]:
    """Estimates and stems of a stereo song at 16 kHz."""
    generator = np.random.default_rng(0)
    target = {stem: generator.normal(0, 0.1, (2, seconds * RATE)).astype(np.float32) for stem in STEMS}
    return {stem: waveform + generator.normal(0, 0.03, waveform.shape).astype(np.float32) for stem, waveform in target.items()}, target


def pictures() -> tuple[Image, Image]:
    generator = np.random.default_rng(0)
    original = generator.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    decoded = np.clip(original + generator.normal(0, 9, original.shape), 0, 255).astype(np.uint8)
    return Image(decoded), Image(original)


def sounds() -> tuple[Audio, Audio]:
    decoded, original = song(3)
    return Audio(decoded["bass"][:1], RATE), Audio(original["bass"][:1], RATE)


def class_maps() -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    return generator.integers(0, 10, (224, 224), dtype=np.uint8), generator.integers(0, 10, (224, 224), dtype=np.uint8)


def texts() -> tuple[str, str]:
    return "turn the lamp in the kitchen of and play a song", "turn the lamp in the kitchen off and play the song"


OBSERVED: list[tuple[Metric, Callable[[], tuple[Any, Any]]]] = [
    (Top1(), lambda: (1, 2)),
    (MeanIoU(10), class_maps),
    (WordAccuracy(), texts),
    (WordAccuracy("whisper_english"), texts),
    (SDR(RATE), song),
    (ImagePSNR(), pictures),
    (SSIM(), pictures),
    (AudioPSNR(), sounds),
    (SISDR(), sounds),
]


@pytest.mark.benchmark(group="observe one sample")
@pytest.mark.parametrize(("metric", "pair"), OBSERVED, ids=lambda one: type(one).__name__ if isinstance(one, Metric) else "")
def test_observe(benchmark: BenchmarkFixture, metric: Metric, pair: Callable[[], tuple[Any, Any]]) -> None:
    prediction, target = pair()
    metric.observe(prediction, target)  # imports what it needs
    benchmark(metric.observe, prediction, target)


def photograph() -> Image:
    """A picture of 500x375 with the spectrum of photographs: an amplitude that falls with frequency, 12 kB as JPEG of quality 20."""
    generator = np.random.default_rng(0)
    spectrum = np.fft.rfft2(generator.normal(size=(3, 375, 500)) + 2 * generator.normal(size=(1, 375, 500)))
    frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.rfftfreq(500)[None])
    planes = np.fft.irfft2(spectrum / np.maximum(frequency, 1 / 500) ** 1.3, s=(375, 500))
    planes = 128 + 50 * (planes - planes.mean()) / planes.std()
    return Image(np.ascontiguousarray(np.moveaxis(planes, 0, 2)).clip(0, 255).astype(np.uint8))


def tone() -> Audio:
    """4 s of a noisy tone at 48 kHz."""
    wave = 0.3 * np.sin(0.05 * np.arange(4 * 48000)) + np.random.default_rng(0).normal(0, 0.05, 4 * 48000)
    return Audio(wave.astype(np.float32)[None], 48000)


def processor_time(call: Callable[[], Any], rounds: int) -> float:
    """Return the least processor time in seconds that a call takes."""
    spent = []
    for _ in range(rounds + 1):
        started = time.process_time()
        call()
        spent.append(time.process_time() - started)
    return min(spent[1:])


SIMILARITY: list[tuple[str, str, Callable[[], Any], list[Metric], float]] = [
    ("jpeg", "q20", photograph, [ImagePSNR(), SSIM()], 4.0),  # libjpeg-turbo takes 7 ns a pixel, SSIM's filters alone 9
    ("webp", "q30", photograph, [ImagePSNR(), SSIM()], 1.0),
    ("avif", "q30", photograph, [ImagePSNR(), SSIM()], 1.0),
    ("opus", "24k", tone, [AudioPSNR(), SISDR()], 0.2),
    ("mp3", "64k", tone, [AudioPSNR(), SISDR()], 0.2),
]
"""A codec, its quality, a signal, the metrics that every sample gets, and the most that these may take of coding and decoding."""


@pytest.mark.benchmark(group="similarity over coding, processor time")
@pytest.mark.parametrize(("name", "quality", "make", "metrics", "limit"), SIMILARITY, ids=[name for name, *_ in SIMILARITY])
def test_similarity_costs_little_beside_the_codec(
    benchmark: BenchmarkFixture, name: str, quality: str, make: Callable[[], Any], metrics: list[Metric], limit: float
) -> None:
    codec, original, rounds = instance(name), make(), 20 if benchmark.enabled else 1
    decoded = codec.decode(codec.encode(original, quality))
    for metric in metrics:
        metric.observe(decoded, original)
    measured = benchmark.pedantic(
        lambda: processor_time(lambda: [metric.observe(decoded, original) for metric in metrics], rounds), rounds=1, iterations=1
    )
    coding = processor_time(lambda: codec.decode(codec.encode(original, quality)), rounds)
    benchmark.extra_info["of coding and decoding"] = measured / coding
    if benchmark.enabled:
        assert measured / coding < limit


class TestSDR:
    """The same song by both; museval's filters take all of the time and do not enter into its SDR."""

    pytestmark = pytest.mark.benchmark(group="SDR of a 6 s stereo song, 4 stems, 16 kHz")

    def test_closed_form(self, benchmark: BenchmarkFixture) -> None:
        benchmark(SDR(RATE).observe, *song())

    def test_museval(self, benchmark: BenchmarkFixture) -> None:
        package = importlib.util.find_spec("museval")
        assert package is not None
        assert package.origin is not None
        spec = importlib.util.spec_from_file_location("museval_metrics", Path(package.origin).parent / "metrics.py")
        assert spec is not None
        assert spec.loader is not None
        museval = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(museval)
        estimate, target = song()
        stacked = [np.stack([stems[name].T.astype(np.float64) for name in STEMS]) for stems in (target, estimate)]
        result = benchmark.pedantic(museval.bss_eval, stacked, {"window": RATE, "hop": RATE}, rounds=1)
        difference = np.abs(result[0] - SDR(RATE).observe(estimate, target)).max()
        benchmark.extra_info["largest difference in dB"] = float(difference)
        assert difference < 1e-9


def _statistics(metric: Metric, samples: int) -> list[Any]:
    generator = np.random.default_rng(0)
    match metric:
        case Top1():
            return [np.array(float(hit)) for hit in generator.random(samples) < 0.9]
        case MeanIoU(classes=classes):
            return [generator.integers(0, 9000, (3, classes)).astype(float) for _ in range(samples)]
        case SDR():
            return [generator.normal(6, 3, (4, 6)) for _ in range(samples)]
    return [np.array(decibels) for decibels in generator.normal(30, 4, samples)]


SETS: list[tuple[Metric, int, float]] = [(Top1(), 200, 0.060), (MeanIoU(10), 100, 0.200), (SDR(RATE), 8, 0.200), (ImagePSNR(), 200, 0.060)]


@pytest.mark.benchmark(group="interval")
@pytest.mark.parametrize(("metric", "samples", "limit"), SETS, ids=[f"{type(metric).__name__}-{samples}" for metric, samples, _ in SETS])
def test_interval(benchmark: BenchmarkFixture, metric: Metric, samples: int, limit: float) -> None:
    benchmark(interval, metric, _statistics(metric, samples))
    if benchmark.enabled:
        assert benchmark.stats.stats.median < limit


@pytest.mark.benchmark(group="statistics of 100 masks as text")
def test_pack(benchmark: BenchmarkFixture) -> None:
    statistics = _statistics(MeanIoU(10), 100)
    text = benchmark(lambda: pack(statistics))
    benchmark.extra_info["characters"] = len(text)
    assert len(unpack(text)) == 100
