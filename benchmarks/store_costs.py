"""What a sample costs in the store: three layers of 10,000 samples, written batch by batch, then read.

Run it as a program: ``python benchmarks/store_costs.py [--samples N] [--batch N] [--location DIR|URL]``. It prints, for each layer,
microseconds of CPU a sample, held against unpacking one table of the same rows, and the files that are left.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mpq_fixtures.store import BITSTREAM, LAYERS, PREDICTION, STATISTIC, key_of, open_store, packs
from mpq_fixtures.store.packs import sample_key

CHAIN = ("signal", "bitstream", "decoded", "given", "answer")
METRICS = ("top1", "psnr", "ssim", "lpips", "dists")


def table_of(layer: str, sources: Sequence[str]) -> pa.Table:
    """Return entries as a suite's are: some kB of a bitstream, a thousand logits' digest and answer, a row of five metrics."""
    columns: dict[str, Any] = {"source": pa.array([sample_key(source) for source in sources], pa.binary(32))}
    if layer == BITSTREAM:
        columns["payload"] = [random.Random(source).randbytes(4000) for source in sources]
    if layer == PREDICTION:
        columns["given"] = [bytes.fromhex(source[:16]) for source in sources]
        columns["payload"] = [random.Random(source).randbytes(60) for source in sources]
    if layer == STATISTIC:
        numbers = [int(source[:8], 16) for source in sources]
        columns |= {name: numbers for name in ("bytes", "elements", "payload", "container", "side")}
        columns |= {name: [f"class {source[:2]}" for source in sources] for name in ("prediction", "target")}
        columns |= {"statistic": [[1.0]] * len(sources), "statistic_shape": pa.array([[1]] * len(sources), pa.list_(pa.int32()))}
        for metric in METRICS:
            columns[metric] = [number / 2**32 for number in numbers]
            columns[f"{metric} statistic"] = [[number / 2**31] for number in numbers]
        columns |= {link: [source[start : start + 16] for source in sources] for start, link in enumerate(CHAIN)}
    return pa.table(columns)


def cpu(action: Callable[[], Any], rows: int) -> float:
    """Return microseconds of CPU a row."""
    began = time.process_time()
    action()
    return (time.process_time() - began) / rows * 1e6


def measure(location: str, samples: int, batch: int) -> dict[str, dict[str, float]]:
    """Return what each layer costs: ``write``, ``read``, ``found``, ``some`` (a tenth) and ``unpack``."""
    sources = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(samples)]
    store, costs = open_store(location), {}
    for layer in LAYERS:
        scope = store.scope(layer, key_of(bench=1), {"suite": "bench", "evaluation": "bench", "case": "bench-original"})
        tables = [table_of(layer, sources[start : start + batch]) for start in range(0, samples, batch)]
        whole = packs.to_bytes(pa.concat_tables(tables))
        costs[layer] = {
            "write": cpu(lambda: [scope.write(table) for table in tables], samples),  # noqa: B023
            "read": cpu(lambda: list(scope.read(sources)), samples),  # noqa: B023
            "found": cpu(lambda: scope.found(sources), samples),  # noqa: B023
            "some": cpu(lambda: list(scope.read(sources[::10])), samples // 10),  # noqa: B023
            "unpack": cpu(lambda: packs.from_bytes(whole), samples),  # noqa: B023
        }
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--location")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        location = options.location or folder
        costs = measure(location, options.samples, options.batch)
        names = list(next(iter(costs.values())))
        print(f"us of CPU a sample, {options.samples:,} samples in batches of {options.batch}")
        print("".join(f"{name:>12}" for name in ("", *names)))
        for layer, cost in costs.items():
            print(f"{layer:>12}" + "".join(f"{cost[name]:12.2f}" for name in names))
        if "://" not in location:
            files = [path for path in Path(location).rglob("*") if path.is_file()]
            print(f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
