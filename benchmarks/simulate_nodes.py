"""From measured costs to 1,000 nodes: how fast a suite is there, and what holds it up first.

``python benchmarks/simulate_nodes.py [--from reports/latest] [--samples N]`` prints a table. A discrete-event simulation (simpy) of what
the engines do: workers start, claim the next batch of a case, compute it and hand on its pack while they compute the next; the driver takes
packs in, a store keeps them, and a finished case is summarised. Its answers for what can be worked out by hand are tested.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import simpy

NODES = (1, 2, 10, 100, 1000)
Events = Generator[simpy.Event, Any, None]


@dataclass(frozen=True)
class Case:
    """A case as its batches: seconds of a worker for each, and what the driver takes to summarise it."""

    batches: int
    seconds: float
    summary: float = 0.0


@dataclass(frozen=True)
class Costs:
    """What everything but the batches costs, in seconds, bytes and requests; nothing unless said.

    ``claim`` is held by one worker at a time, ``driver_batch`` and ``driver_row`` by the driver. The store answers ``latency`` after a
    request, takes ``requests_per_second`` and ``bandwidth`` bytes a second over all workers. Batches scatter by ``scatter``, the standard
    deviation of the logarithm of their seconds.
    """

    start: float = 0.0
    claim: float = 0.0
    driver_batch: float = 0.0
    driver_row: float = 0.0
    rows: int = 16
    pack_bytes: float = 0.0
    requests: int = 2
    latency: float = 0.0
    requests_per_second: float = math.inf
    bandwidth: float = math.inf
    scatter: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How long it took, the share of that time for which each thing was busy, and the share of the workers' time that each thing cost.

    A server that is busy for half of the time may still hold up the cheap cases; what workers lost to it says so.
    """

    nodes: int
    seconds: float
    shares: dict[str, float]
    lost: dict[str, float]

    @property
    def bottleneck(self) -> str:
        """What was busiest; workers where they were, as it should be."""
        return max(self.shares, key=lambda name: self.shares[name])


class Simulation:
    """One run of ``nodes`` workers over ``cases``."""

    def __init__(self, cases: Sequence[Case], costs: Costs, nodes: int, seed: int = 0) -> None:
        self.costs, self.nodes, self.cases = costs, nodes, cases
        self.clock = simpy.Environment()
        self.servers = {name: simpy.Resource(self.clock) for name in ("claims", "driver", "store requests", "store bandwidth")}
        self.busy: Counter[str] = Counter()
        self.left = [case.batches for case in cases]
        generator = np.random.default_rng(seed)
        sizes = [(number, case.seconds) for number, case in enumerate(cases) for _ in range(case.batches)]
        scatter = np.exp(generator.normal(-(costs.scatter**2) / 2, costs.scatter, len(sizes))) if costs.scatter else np.ones(len(sizes))
        self.free = [(number, seconds * factor) for (number, seconds), factor in zip(sizes, scatter, strict=True)][::-1]
        self.computed = 0.0
        self.lost: Counter[str] = Counter()
        self.under_way: Counter[str] = Counter()

    def run(self) -> Outcome:
        """Return how it went once the last case is summarised."""
        workers = [self.clock.process(self._worker()) for _ in range(self.nodes)]
        self.clock.run(simpy.AllOf(self.clock, workers))
        while self.clock.peek() != math.inf:
            self.clock.step()
        total = self.clock.now
        shares = {name: self.busy[name] / total for name in self.servers} | {"workers": self.computed / total / self.nodes}
        self.lost["the end"] = self.nodes * total - self.computed - sum(self.lost.values())
        self._attribute_handing_on()
        return Outcome(self.nodes, total, shares, {name: seconds / total / self.nodes for name, seconds in self.lost.items()})

    def _attribute_handing_on(self) -> None:
        """Divide what workers waited for their packs by where packs spent their time, in queues and being served."""
        waited, everywhere = self.lost.pop("handing on", 0.0), sum(self.under_way.values())
        for name, seconds in self.under_way.items():
            self.lost[name] += waited * seconds / everywhere

    def _worker(self) -> Events:
        yield self.clock.timeout(self.costs.start)
        self.lost["start-up"] += self.costs.start
        handing_on: simpy.Event | None = None
        while self.free:
            asked = self.clock.now
            with self.servers["claims"].request() as turn:
                yield turn
                if not self.free:
                    break
                case, seconds = self.free.pop()
                yield self.clock.timeout(self.costs.claim)
                self.busy["claims"] += self.costs.claim
            self.lost["claims"] += self.clock.now - asked
            yield self.clock.timeout(seconds)
            self.computed += seconds
            if handing_on is not None:
                computed = self.clock.now
                yield handing_on  # one pack is under way at a time, or a slow store would fill the memory of its workers
                self.lost["handing on"] += self.clock.now - computed
            handing_on = self.clock.process(self._hand_on(case))
        if handing_on is not None:
            yield handing_on

    def _hand_on(self, case: int) -> Events:
        costs = self.costs
        yield from self._use("store requests", costs.requests / costs.requests_per_second)
        yield from self._use("store bandwidth", costs.pack_bytes / costs.bandwidth)
        if costs.latency:
            yield self.clock.timeout(costs.requests * costs.latency)
            self.under_way["store latency"] += costs.requests * costs.latency
        yield from self._use("driver", costs.driver_batch + costs.rows * costs.driver_row)
        self.left[case] -= 1
        if self.left[case] == 0:
            yield from self._use("driver", self.cases[case].summary)

    def _use(self, server: str, seconds: float) -> Events:
        """Hold what only one can hold at a time."""
        if seconds:
            asked = self.clock.now
            with self.servers[server].request() as turn:
                yield turn
                yield self.clock.timeout(seconds)
            self.busy[server] += seconds
            self.under_way[server] += self.clock.now - asked


def simulate(cases: Sequence[Case], costs: Costs, nodes: int) -> Outcome:
    """Return how a suite goes on so many workers of one core."""
    return Simulation(cases, costs, nodes).run()


OBJECT_STORE = Costs(
    start=20.0,  # interpreter, libraries, model and table of samples
    claim=0.0,  # Ray's driver hands batches out; a shared claims file of one machine takes some 0.3 ms
    driver_batch=0.0015,
    driver_row=10e-6,
    pack_bytes=16 * 12e3,
    latency=0.03,
    requests_per_second=3500.0,  # what S3 promises of writes to one prefix
    bandwidth=1.25e9,  # a network of 10 Gbit/s in front of the driver
    scatter=0.3,
)
"""A driver that writes packs to an object store, in the orders of magnitude of 2026; `measured_driver` measures its own share here."""


def measured_driver(rows: int, payload: int, repeats: int = 200) -> float:
    """Return the seconds of a core that a driver takes for a pack of ``rows`` rows: read it, digest it, write it to a SQLite file."""
    import hashlib
    import sqlite3
    import tempfile
    import time

    import pyarrow as pa

    table = pa.table({"source": [bytes(32)] * rows, "payload": [np.random.default_rng(row).bytes(payload) for row in range(rows)]})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    pack = sink.getvalue().to_pybytes()
    with tempfile.TemporaryDirectory() as folder:
        file = sqlite3.connect(Path(folder) / "scope.sqlite")
        file.execute("pragma journal_mode = wal")
        file.execute("create table packs (digest blob primary key, pack blob)")
        started = time.process_time()
        for number in range(repeats):
            pa.ipc.open_stream(pack).read_all()
            with file:
                file.execute("insert into packs values (?, ?)", (hashlib.sha256(pack + number.to_bytes(4, "big")).digest(), pack))
        spent = time.process_time() - started
        file.close()
    return spent / repeats


def suite_of(folder: Path | None, samples: int, rows: int) -> list[Case]:
    """Return a suite of ``samples`` samples a case at the costs that a run measured, or else of 30 points at 50 ms a sample."""
    batches = math.ceil(samples / rows)
    if folder is None:
        return [Case(batches, rows * 0.05, 5e-6 * samples) for _ in range(30)]
    from mpq_fixtures.planning import costs_of
    from mpq_fixtures.results.files import read_results

    cases = costs_of(read_results(folder)).cases.values()
    return [Case(batches, rows * (cost.coding + cost.answering), 5e-6 * samples) for cost in cases]


def table(outcomes: Sequence[Outcome], cases: Sequence[Case]) -> list[str]:
    """Return the outcomes as a table in Markdown; the efficiency is the computing over the workers' time."""
    work = sum(case.batches * case.seconds for case in cases)
    lines = ["| nodes | time | efficiency | busiest beside workers | workers lose most to |", "|---|---|---|---|---|"]
    for one in outcomes:
        busiest = max((name for name in one.shares if name != "workers"), key=lambda name: one.shares[name])
        costliest = max(one.lost, key=lambda name: one.lost[name])
        shown = f"{busiest} {one.shares[busiest]:.0%} | {costliest} {one.lost[costliest]:.0%}"
        lines.append(f"| {one.nodes:,} | {one.seconds:,.0f} s | {work / one.seconds / one.nodes:.0%} | {shown} |")
    return lines


def main() -> None:
    """Print the table of the engine whose driver takes everything in, and of workers that write to the store themselves."""
    parser = argparse.ArgumentParser(description="Take measured costs to 1,000 nodes.")
    parser.add_argument(
        "--from", type=Path, dest="folder", metavar="DIR", help="the folder of a run (default: 30 points at 50 ms a sample)"
    )
    parser.add_argument("--samples", type=int, default=5_000, metavar="N", help="samples of each case (default: 5,000)")
    options = parser.parse_args()
    costs = OBJECT_STORE
    cases = suite_of(options.folder, options.samples, costs.rows)
    costs = replace(costs, driver_batch=measured_driver(costs.rows, round(costs.pack_bytes / costs.rows)))
    own = replace(costs, driver_batch=0.0, driver_row=0.0, requests=3)
    print(f"{len(cases)} cases, {sum(case.batches for case in cases):,} batches of {costs.rows}; a pack costs the driver "
          f"{1000 * costs.driver_batch:.2f} ms, measured here")  # fmt: skip
    for name, one in (("the driver takes in every pack", costs), ("workers write packs themselves, in shares", own)):
        print(f"\n{name}\n")
        for line in table([simulate(cases, one, nodes) for nodes in NODES], cases):
            print(line)


if __name__ == "__main__":
    main()
