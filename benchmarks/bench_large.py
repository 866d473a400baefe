"""How much memory large signals take at a point: each row is a process of its own, which says the most that it ever held (VmHWM).

Run with ``pytest benchmarks/bench_large.py --benchmark-enable -s``, or one row with ``python benchmarks/bench_large.py opus``. Linux only.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from figures import Rows
from pytest_benchmark.fixture import BenchmarkFixture

from mpq_fixtures.codecs import instance
from mpq_fixtures.codecs.scaling import at_scale
from mpq_fixtures.datasets.reading import read_audio
from mpq_fixtures.metrics.ms_ssim import MSSSIM
from mpq_fixtures.metrics.psnr import AudioPSNR, ImagePSNR
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.si_sdr import SISDR
from mpq_fixtures.metrics.ssim import SSIM
from mpq_fixtures.models import predictions
from mpq_fixtures.signals import Audio, Image

MEBI = 1 << 20
STEMS = ("bass", "drums", "other", "vocals")


def tone(seconds: int, rate: int, channels: int = 1, seed: int = 0) -> Audio:
    """Return a second of a noisy tone, again and again."""
    generator, time = np.random.default_rng(seed), np.arange(rate, dtype=np.float32) / rate
    second = 0.3 * np.sin(2 * np.pi * (220 + 20 * seed) * time) + generator.normal(0, 0.05, (channels, rate))
    return Audio(np.tile(second.astype(np.float32), seconds), rate)


def sound(codec: str, quality: str, seconds: int = 1800, rate: int = 48000) -> float:
    """Send a mono sound from a WAV file through a codec and the metrics, as the way through does; return its size."""
    import soundfile

    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, "PCM_16", format="WAV") as wave:
        for _ in range(seconds // 60):
            wave.write(tone(60, rate).waveform[0])
    original = read_audio(file.getvalue()).protected()
    file.close()
    decoded = transcoded(codec, quality, original)
    for metric in (AudioPSNR(), SISDR()):
        metric.observe(decoded, original)
    return original.waveform.nbytes


def picture(codec: str, quality: str, side: int = 10_000) -> float:
    """Send a picture of 100 megapixels through a codec and the metrics; return its size."""
    tile = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8).repeat(10, axis=0).repeat(10, axis=1)
    original = Image(np.tile(tile, (side // 500, side // 500, 1))).protected()
    decoded = transcoded(codec, quality, original)
    for metric in (ImagePSNR(), SSIM(), MSSSIM()):
        metric.observe(decoded, original)
    return original.pixels.nbytes


def transcoded(codec: str, quality: str, original: Any) -> Any:
    """Return what comes out of a codec; "" stands for a little noise in its place."""
    if codec:
        coder = at_scale(instance(codec), quality)
        return coder.decode(coder.encode(original, quality)).copied()
    if isinstance(original, Image):
        return Image(original.pixels ^ np.uint8(3))
    return Audio(original.waveform * np.float32(0.99), original.sample_rate)


def stems(seconds: int = 600, rate: int = 44100) -> float:
    """Keep and score the stems of a song; return the size of the song with its stems."""
    target = {name: tone(seconds, rate, 2, seed) for seed, name in enumerate(STEMS)}
    answer = {name: stem.waveform * np.float32(0.9) for name, stem in target.items()}
    data = predictions.to_bytes(answer)
    del answer
    restored = predictions.from_bytes(data)
    predictions.digest_of(restored)
    SDR().observe(restored, target)
    del restored
    mixture = target["bass"]
    SDR().floor(mixture, target)
    return 4 * mixture.waveform.nbytes


def separation(seconds: int = 600, rate: int = 44100) -> float:
    """Separate a song with the pocket's model; return the size of its stems."""
    from mpq_fixtures.tasks import find_task

    folder = Path(predictions.__file__).parent / "pocket" / "models" / "demucs_pocket"
    mixture = tone(seconds, rate, 2)
    find_task("source_separation").load(str(folder), "cpu").predict([mixture])
    return 4 * mixture.waveform.nbytes


ROWS: dict[str, tuple[Callable[[], float], int]] = {
    "30 minutes of sound, metrics": (lambda: sound("", ""), 2048),
    "30 minutes of sound, opus": (lambda: sound("opus", "24k"), 2048),
    "30 minutes of sound, opus at its own rate": (lambda: sound("opus", "64k"), 2048),
    "30 minutes of sound, mp3": (lambda: sound("mp3", "64k", rate=44100), 2048),
    "30 minutes of sound, aac": (lambda: sound("aac", "64k", rate=44100), 2048),
    "30 minutes of sound, aac at 16 kHz": (lambda: sound("aac", "8k", rate=44100), 2048),
    "30 minutes of sound, vorbis": (lambda: sound("vorbis", "q3"), 2048),
    "30 minutes of sound, opus at 8 kHz": (lambda: sound("opus", "24k@8khz"), 2048),
    "an hour of sound, opus": (lambda: sound("opus", "24k", 3600), 4096),
    "100 megapixels, metrics": (lambda: picture("", ""), 2048),
    "100 megapixels, jpeg": (lambda: picture("jpeg", "q20"), 2048),
    "100 megapixels, webp": (lambda: picture("webp", "q30"), 4096),
    "100 megapixels, jpeg at half its size": (lambda: picture("jpeg", "q20@0.5x"), 2048),
    "10 minutes of stems, scored": (stems, 3072),
    "10 minutes of stems, separated": (separation, 4096),
}
"""What is done, and the most MiB that it may take."""


def peak(row: str) -> tuple[float, float]:
    """Return the most that a row ever held, and what its signal takes, in MiB."""
    command = [sys.executable, __file__, row]
    held, own = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return float(held), float(own)


@pytest.mark.benchmark(group="memory of large signals")
@pytest.mark.parametrize("signal", ROWS)
def test_takes_a_few_times_its_own_size(benchmark: BenchmarkFixture, signal: str, row: Rows) -> None:
    if not benchmark.enabled:
        pytest.skip("takes minutes")
    held, own = benchmark.pedantic(peak, args=(signal,), rounds=1)
    row(f"{signal}, memory; the signal takes {own:.0f} MiB", ROWS[signal][1], held, "MiB")


if __name__ == "__main__":
    size = ROWS[sys.argv[1]][0]()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    print(int(status["VmHWM"].split()[0]) / 1024, size / MEBI)
