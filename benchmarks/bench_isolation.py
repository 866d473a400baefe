"""What it costs that a codec runs in a process of its own: calls through it, beside the same calls without it, on pictures of 512x512.

Run with ``pytest benchmarks/bench_isolation.py --benchmark-enable -s``. The codec is the pocket suite's learned one, with weights of its
architecture at random where the package has none; both sides run in its environment, in one thread.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from mpq_fixtures.codecs.hyperprior_pocket import HyperpriorPocket
from mpq_fixtures.errors import MissingAsset
from mpq_fixtures.isolation.client import CodecProcess
from mpq_fixtures.isolation.environment import OURS, clean_environment

WORKER = Path(__file__).parent.parent / "mpq_fixtures" / "isolation" / "compressai_worker.py"
ROUNDS = 20

ECHO = """
class Echo:
    def same(self, payload):
        return payload
"""

RANDOM = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from compressai_worker import Models
from safetensors.torch import save_file
model = Models()._zoo.model_architectures["mbt2018-mean"](32, 72)
model.update()
save_file(model.state_dict(), sys.argv[2])
"""

DIRECT = """
import json, statistics, sys, time
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from compressai_worker import Models
import numpy as np
pixels = np.load(sys.argv[3])
models, model = Models(), {"architecture": "mbt2018-mean", "weights": sys.argv[2]}
for line in sys.stdin:
    started = time.perf_counter()
    data, fields = models.encode(pixels, **model)
    models.decode(data, height=512, width=512, **fields, **model)
    print(json.dumps(time.perf_counter() - started), flush=True)
"""


def picture() -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 256, (64, 64, 3), np.uint8), np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def python() -> Path:
    try:
        return HyperpriorPocket().environment().make()
    except MissingAsset as missing:
        pytest.skip(str(missing))


@pytest.fixture
def weights(python: Path, tmp_path: Path) -> Path:
    if (file := HyperpriorPocket().weights("q2")) is not None:
        return file
    file = tmp_path / "q2.safetensors"
    subprocess.run([str(python), "-c", RANDOM, str(WORKER), str(file)], env=clean_environment(), check=True)
    return file


@pytest.mark.benchmark(group="encode and decode a picture of 512x512")
def test_costs_at_most_5_percent(
    benchmark: BenchmarkFixture, python: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = picture()
    np.save(tmp_path / "pixels.npy", pixels)
    (tmp_path / "echo.py").write_text(ECHO)
    process, echo = CodecProcess(f"{WORKER}:Models", python=python, environment=OURS), CodecProcess(f"{tmp_path / 'echo.py'}:Echo")
    model = {"architecture": "mbt2018-mean", "weights": str(weights)}

    def through_the_process() -> None:
        data, fields = process.call("encode", pixels, **model)
        process.call("decode", data, height=512, width=512, **fields, **model)

    command = [str(python), "-c", DIRECT, str(WORKER), str(weights), str(tmp_path / "pixels.npy")]
    with subprocess.Popen(command, env=clean_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None

        def directly() -> float:
            other.stdin.write("again\n")  # type: ignore[union-attr]
            other.stdin.flush()  # type: ignore[union-attr]
            return float(json.loads(other.stdout.readline()))  # type: ignore[union-attr]

        directly()
        through_the_process()
        direct, through, protocol = [], [], []
        for _ in range(ROUNDS if benchmark.enabled else 1):  # in turn, so that what else the machine does strikes both
            direct.append(directly())
            started = time.perf_counter()
            through_the_process()
            through.append(time.perf_counter() - started)
            for _ in range(10):
                started = time.perf_counter()
                echo.call("same", pixels)  # the picture there, and back: what encoding and decoding it send in all
                protocol.append(time.perf_counter() - started)
        other.stdin.close()
    benchmark.pedantic(through_the_process, rounds=ROUNDS)
    process.close()
    echo.close()
    one, other, cost = (1000 * min(times) for times in (direct, through, protocol))
    median = statistics.median(through) / statistics.median(direct)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{one:.1f} ms directly, {other:.1f} ms through the process (medians 1 to {median:.2f}); the protocol {cost:.2f} ms\n"
        )
    if benchmark.enabled:
        assert cost / one <= 0.05  # of the fastest: the other two differ by more than that from run to run
