"""The simulation of many nodes against what can be worked out by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from simulate_nodes import Case, Costs, simulate, table


class TestClosedForms:
    @pytest.mark.parametrize("nodes", [1, 2, 10, 100])
    def test_without_overhead_n_workers_are_n_times_as_fast(self, nodes: int) -> None:
        outcome = simulate([Case(300, 2.0), Case(700, 1.0)], Costs(), nodes)
        assert outcome.seconds == pytest.approx(1300 / nodes, abs=2.0 * (nodes > 1))  # at most the longest batch is left over
        assert outcome.bottleneck == "workers"

    def test_equal_batches_take_whole_rounds(self) -> None:
        assert simulate([Case(10, 3.0)], Costs(), 4).seconds == pytest.approx(9.0)  # 4, 4 and 2

    def test_one_batch_gains_nothing(self) -> None:
        assert simulate([Case(1, 5.0)], Costs(), 100).seconds == simulate([Case(1, 5.0)], Costs(), 1).seconds == 5.0

    @pytest.mark.parametrize("nodes", [1, 2, 10, 50])
    def test_what_only_the_driver_does_bounds_the_gain_as_amdahl_says(self, nodes: int) -> None:
        parallel, serial = 100.0, 25.0
        outcome = simulate([Case(100, parallel / 100, serial)], Costs(), nodes)
        share = parallel / (parallel + serial)
        assert (parallel + serial) / outcome.seconds == pytest.approx(1 / (1 - share + share / nodes))

    @pytest.mark.parametrize("nodes", [1, 5, 20])
    def test_every_worker_starts_but_they_start_together(self, nodes: int) -> None:
        assert simulate([Case(20, 1.0)], Costs(start=7.0), nodes).seconds == pytest.approx(7.0 + 20 / nodes)

    @pytest.mark.parametrize(
        ("costs", "server", "each"),
        [
            (Costs(driver_batch=0.05), "driver", 0.05),
            (Costs(driver_row=0.005, rows=10), "driver", 0.05),
            (Costs(claim=0.05), "claims", 0.05),
            (Costs(requests=2, requests_per_second=40.0), "store requests", 0.05),
            (Costs(pack_bytes=1e6, bandwidth=2e7), "store bandwidth", 0.05),
        ],
    )
    def test_a_saturated_server_sets_the_pace(self, costs: Costs, server: str, each: float) -> None:
        batches, seconds = 2000, 1.0
        below, above = (simulate([Case(batches, seconds)], costs, nodes) for nodes in (5, 200))  # 20 workers are what it can serve
        assert below.bottleneck == "workers"
        assert above.bottleneck == server
        assert batches * each <= above.seconds <= batches * each + seconds + 2 * each  # the bound, and one batch on its way
        assert above.shares[server] > 0.98
        assert max(above.lost, key=lambda name: above.lost[name]) == server

    def test_all_of_the_workers_time_is_accounted_for(self) -> None:
        outcome = simulate([Case(50, 1.0, 2.0)], Costs(start=3.0, claim=0.01, driver_batch=0.2, latency=0.1, scatter=0.2), 7)
        assert outcome.shares["workers"] + sum(outcome.lost.values()) == pytest.approx(1.0)
        assert all(share >= 0 for share in outcome.lost.values())

    def test_latency_is_waited_for_beside_the_next_batch(self) -> None:
        hidden = simulate([Case(100, 1.0)], Costs(requests=1, latency=0.9), 1)
        assert hidden.seconds == pytest.approx(100 + 0.9)
        longer = simulate([Case(100, 1.0)], Costs(requests=1, latency=3.0), 1)
        assert longer.seconds == pytest.approx(1 + 100 * 3.0)


def test_the_table_names_what_is_busiest() -> None:
    cases = [Case(2000, 1.0)]
    lines = table([simulate(cases, Costs(driver_batch=0.1), nodes) for nodes in (1, 50)], cases)
    assert lines[2].startswith("| 1 | 2,000 s | 100% | driver 10% |")
    assert lines[3].count("| driver ") == 2
