"""Plans: closed forms, what real runs took against what other runs foretold, and the store of a run that takes place here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from projects import ROOT, places

from mpq_fixtures.commands.plan import _earlier, measure, plan_suite
from mpq_fixtures.planning import START, Cost, Costs, Machine, Work, costs_of, plan
from mpq_fixtures.results.files import read_results
from mpq_fixtures.suite.file import load_suite

RUNS: dict[str, Any] = json.loads(Path(__file__).with_name("pocket_runs.json").read_text())
"""The figures of three real runs of the pocket suite on a machine of two cores: a whole one on two workers, another one beside other work,
and six cases on one worker with two threads, after freed memory was kept, which made one of the models twice as fast."""
SINGLE, LARGE = Machine(cores=1), Machine(cores=10_000)


def work(samples: int, cost: Cost | None, cases: int = 1) -> list[Work]:
    return [Work("tried", "original", str(number), samples, cost) for number in range(cases)]


class TestClosedForms:
    @pytest.mark.parametrize("workers", [1, 2, 8])
    def test_samples_are_shared_by_workers_and_starts_are_not(self, workers: int) -> None:
        costs = Costs(start=7.0, batch=1)
        made = plan(work(1000, Cost(0.02, 0.03, 100.0, factor=1.0), 4), costs, workers, Machine(workers))
        assert made.seconds.expected == pytest.approx(7.0 + 4 * 1000 * 0.05 / workers, abs=0.05)
        assert made.stored.expected == 4 * 1000 * 100

    def test_cores_that_are_not_there_help_nobody(self) -> None:
        one, many = (plan(work(1000, Cost(0.0, 0.1, 0.0)), Costs(), workers, Machine(1)) for workers in (1, 16))
        assert many.seconds.expected == one.seconds.expected
        assert many.limits[0] == (1, "cores: this machine has 1, more workers on it are no faster")

    def test_a_single_batch_is_not_shared(self) -> None:
        costs = Costs(start=0.0, batch=16)
        one, many = (plan(work(16, Cost(0.0, 1.0, 0.0)), costs, workers, Machine(workers)) for workers in (1, 8))
        assert one.seconds.expected == many.seconds.expected == 16.0

    def test_threads_of_a_lone_worker_help_between_not_at_all_and_in_full(self) -> None:
        made = plan(work(100, Cost(0.0, 1.0, 0.0, factor=1.0)), Costs(start=0.0), 1, Machine(4))
        assert (made.seconds.low, made.seconds.expected, made.seconds.high) == (25.0, 50.0, 100.0)

    def test_the_range_is_as_wide_as_what_is_known_allows(self) -> None:
        made = plan(work(100, Cost(0.0, 1.0, 50.0, factor=4.0)), Costs(start=0.0), 1, SINGLE)
        assert (made.seconds.low, made.seconds.high) == (25.0, 400.0)

    def test_memory_room_and_start_up_are_said(self) -> None:
        costs = Costs(start=10.0, memory=1e9, batch=10)
        made = plan(work(1000, Cost(0.0, 1.0, 1e6)), costs, 4, Machine(64, 8e9, 5e8))
        assert [number for number, _ in made.limits] == [0, 8, 64, 100, 100]
        assert made.limits[0][1].startswith("room: the store may need 1.4 GB and 0.5 are free")
        assert made.memory == 4e9

    def test_unknown_cases_are_named_and_not_counted(self) -> None:
        made = plan([*work(10, None), *work(10, Cost(0.0, 1.0, 0.0))], Costs(), 1, LARGE)
        assert made.unknown == ("tried-original-0",)
        assert made.parts[0].seconds.expected == 10.0


class TestRealRuns:
    """Within the range that the plan itself gives: the runs differ in workers, threads, and what else the machine did."""

    def planned(self, source: str, target: str, workers: int) -> Any:
        costs, run = costs_of(RUNS[source]), RUNS[target]
        cases = [
            Work(case["evaluation"], case["codec"], case["quality"], case["samples"],
                 costs.of(case["evaluation"], case["codec"], case["quality"]))
            for case in run["cases"]
        ]  # fmt: skip
        return plan(cases, costs, workers, Machine(2))

    @pytest.mark.parametrize(
        ("source", "target", "workers"), [("first", "second", 2), ("second", "first", 2), ("first", "few", 1), ("second", "few", 1)]
    )
    def test_another_run_took_what_was_foretold(self, source: str, target: str, workers: int) -> None:
        seconds = RUNS[target]["seconds"]["worker"] / workers
        made = self.planned(source, target, workers)
        assert not made.unknown
        assert made.seconds.low <= seconds <= made.seconds.high
        assert workers == 1 or made.seconds.factor < 2.6  # and the range says something

    def test_a_run_foretells_itself(self) -> None:
        """To a tenth: what it cannot tell apart is how much of its work was start, and how its threads overlapped."""
        for name, workers in (("first", 2), ("second", 2)):
            assert self.planned(name, name, workers).seconds.expected == pytest.approx(RUNS[name]["seconds"]["worker"] / workers, rel=0.1)

    def test_the_store_held_what_is_foretold(self) -> None:
        """The store of the first run held 79,427,838 bytes of bitstreams, 302,704,860 of answers and 9,959,165 of rows."""
        made = self.planned("second", "first", 2)
        assert made.stored.expected == pytest.approx(79_427_838 + 302_704_860 + 9_959_165, rel=0.05)

    def test_a_run_that_found_everything_tells_nothing(self) -> None:
        found = {"computed": {"statistic": 0}, "reused": {"statistic": 13359}}
        with pytest.raises(ValueError, match="computed next to nothing"):
            costs_of(RUNS["first"] | {"work": found})

    def test_other_points_stand_in_for_one_that_was_not_measured(self) -> None:
        costs = costs_of(RUNS["few"])
        known, near = costs.of("vit_pocket", "jpeg", "q5"), costs.of("vit_pocket", "jpeg", "q20")
        assert known is not None
        assert near is not None
        assert near.factor > known.factor
        assert costs.of("vit_pocket", "webp", "q0") is None


class TestHere:
    def test_the_store_of_a_run_from_one_of_fewer_samples(self, tmp_path: Path) -> None:
        """A part of the pocket suite; the range of the plan is for pictures that are smaller or larger on average than those seen."""
        chosen = ["--mpq-case", "vit_pocket-original", "--mpq-case", "vit_pocket-jpeg-*"]
        for samples in (16, 64):
            options = places(tmp_path / str(samples))
            subprocess.run(
                [sys.executable, "-m", "pytest", "evaluations", "-p", "no:cacheprovider", "--mpq-samples", str(samples), *options, *chosen],
                cwd=ROOT, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
        costs = costs_of(read_results(tmp_path / "16" / "out"))
        evaluation = next(one for one in load_suite(ROOT / "evaluations/suites/pocket.toml") if one.name == "vit_pocket")
        cases = [case for case in evaluation.cases if case.codec in ("original", "jpeg")]
        expected = plan(
            [Work("vit_pocket", case.codec, case.quality, 64, costs.of("vit_pocket", case.codec, case.quality)) for case in cases],
            costs, 1, LARGE,
        ).stored  # fmt: skip
        held = sum(file.stat().st_size for file in (tmp_path / "64" / "store").rglob("*") if file.is_file())
        assert expected.low <= held <= expected.high
        assert costs.samples == {"vit_pocket": 16}
        assert 0 < costs.start <= START

    def test_a_probe_runs_the_real_steps_of_every_point(self) -> None:
        evaluation = next(one for one in load_suite(ROOT / "evaluations/suites/pocket.toml") if one.name == "whisper_pocket")
        costs, batch, held = measure(evaluation)
        assert {key[1:] for key in costs} == {(case.codec, case.quality) for case in evaluation.cases}
        assert all(cost.answering > 0 for cost in costs.values())
        assert all(cost.coding > 0 for (_, codec, _), cost in costs.items() if codec != "original")
        assert costs["whisper_pocket", "opus", "64k"].stored > costs["whisper_pocket", "opus", "6k"].stored
        assert batch >= 1
        assert held > 100e6

    def test_the_command_prints_a_plan(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        cases = [{"case": f"{number}", "suite": "pocket", **case} for number, case in enumerate(RUNS["first"]["cases"])]
        (tmp_path / "results.json").write_text(json.dumps({"schema": 2, **RUNS["first"], "cases": cases}))
        assert plan_suite("pocket", 2, earlier=tmp_path, probe=False) == 0
        said = capsys.readouterr().out
        assert "pocket on 2 workers, from an empty store:" in said
        assert "vit_pocket        29     240" in said

    def test_a_run_that_computed_nothing_is_as_good_as_none_where_all_is_probed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        latest = tmp_path / "reports" / "latest"
        latest.mkdir(parents=True)
        (latest / "results.json").write_text(json.dumps({"schema": 2, **RUNS["first"], "cases": []}))
        monkeypatch.chdir(tmp_path)
        assert plan_suite("pocket", probe=False) == 2
        assert "computed next to nothing" in capsys.readouterr().err
        assert _earlier(None, None) == _earlier(latest, True) == Costs()
        assert plan_suite("pocket", earlier=latest) == 2

    def test_a_run_that_is_named_and_is_none_is_an_error(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert plan_suite("pocket", earlier=tmp_path) == 2
        assert f"mpq plan: no results.json in {tmp_path}" in capsys.readouterr().err

    def test_nothing_known_is_said_with_the_way_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert plan_suite("pocket", probe=False) == 2
        assert "nothing is known of pocket: run it once, name a run with --from, or let it be probed" in capsys.readouterr().err
