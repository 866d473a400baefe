"""Runs over time: the folder that they are kept in, what is read from it, change points, the command and the report's section."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_plugin import Project
from test_report import Page, samples

from mpq_fixtures.__main__ import main
from mpq_fixtures.report import drawing
from mpq_fixtures.report.history import CHARTS
from mpq_fixtures.report.html import render, write_report
from mpq_fixtures.results.change_points import FEWEST, change_points, energies
from mpq_fixtures.results.courses import Course, History, of_host
from mpq_fixtures.results.history import append, read_history
from mpq_fixtures.results.versions import changes_of

START = datetime(2026, 10, 1, 2, 0, tzinfo=UTC)
HOSTILE = "</script><script>alert('x')</script>"


def results(
    day: float = 0, value: float = 0.9, verdict: str = "same", points: Sequence[str] = ("q5", "q90"), **changes: Any
) -> dict[str, Any]:
    """What ``results.json`` holds of a run, as far as a history needs it; ``changes`` go into the provenance."""
    cases: list[dict[str, Any]] = []
    for point in ("", *points):
        figure = 0.95 if not point else value
        name = f"jpeg-{point}" if point else "original"
        metrics: dict[str, Any] = {"top1": {"value": figure, "unit": "accuracy", "higher_is_better": True, "tolerance": 0.01}}
        if point:
            metrics["psnr"] = {"value": 31.5, "unit": "dB", "higher_is_better": True, "tolerance": 0.1}
        cases.append(
            {
                "case": f"vit-{name}", "suite": "tried", "evaluation": "vit", "task": "image_classification", "model": "m", "dataset": "d",
                "codec": "jpeg" if point else "original", "quality": point, "samples": 60, "metric": "top1", "value": figure,
                "ci_low": figure - 0.02, "ci_high": figure + 0.02, "rate": 0.5 if point else 8.0, "rate_unit": "bpp",
                "verdict": verdict if point else "same", "outcome": "failed" if point and verdict == "regressed" else "passed",
                "metrics": metrics, "failures": [], "reason": "", "retention": 1.0, "reference": 0.95,
            }
        )  # fmt: skip
    provenance = {
        "command": ["pytest"], "version": "0.1.0", "commit": f"{int(day):040x}", "python": "3.11.7", "device": "cpu",
        "machine": {"system": "Linux", "processor": "EPYC", "host": "build1"}, "packages": {"pillow": "12.0", "torch": "2.13"},
        "codecs": {"jpeg": "pillow 12.0, libjpeg 3.1 (libjpeg.so)", "opus": "libopus 1.5"}, "models": {"vit": {"fingerprint": "a" * 64}},
        "options": {"samples": None}, "seeds": {},
    } | changes  # fmt: skip
    created = (START + timedelta(days=day)).isoformat(timespec="seconds")
    return {"schema": 2, "created": created, "complete": True, "exit_status": 0, "cases": cases, "provenance": provenance}


def unlike_others(file: Path) -> bytes:
    """The bytes of a Parquet file with one changed, of which pyarrow says that such a thing is not implemented, as of few damaged ones."""
    whole = file.read_bytes()
    footer = len(whole) - int.from_bytes(whole[-8:-4], "little") - 8
    for place in reversed(range(footer, len(whole) - 8)):
        damaged = whole[:place] + b"i" + whole[place + 1 :]
        try:
            pq.read_table(io.BytesIO(damaged))
        except NotImplementedError:
            return damaged
        except (OSError, ValueError):
            continue
    pytest.fail("no such damage")


def course(history: History, case: str = "vit-jpeg-q5", host: str = "build1") -> Course:
    (found,) = [course for course in history.courses if (course.case, course.host) == (case, host)]
    return found


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty nights; pillow and libjpeg change before the 21st, and the case is worse and red from then on."""
    folder = tmp_path_factory.mktemp("month") / "history"
    noise = np.random.default_rng(1).normal(0, 0.002, 30)
    newer = {
        "packages": {"pillow": "13.0", "torch": "2.13"},
        "codecs": {"jpeg": "pillow 13.0, libjpeg 3.2 (libjpeg.so)", "opus": "libopus 1.6"},
    }
    for day in range(30):
        late = day >= 20
        value = 0.9 + noise[day] - 0.03 * late
        append(folder, results(day, value, "regressed" if late else "same", **(newer if late else {})))
    return folder


class TestEnergies:
    """The statistic of Matteson and James."""

    def test_is_the_one_that_its_definition_gives(self) -> None:
        series = np.random.default_rng(0).normal(size=14)
        found = energies(np.abs(series[:, None] - series[None, :]))
        compared = 0
        for split in range(15):
            for end in range(15):
                before, after = series[:split], series[split:end]
                if min(len(before), len(after)) < FEWEST:
                    assert found[split, end] == -math.inf
                    continue
                n, m = len(before), len(after)
                across = sum(abs(x - y) for x in before for y in after) * 2 / (n * m)
                left = sum(abs(before[i] - before[k]) for k in range(n) for i in range(k)) / math.comb(n, 2)
                right = sum(abs(after[j] - after[k]) for k in range(m) for j in range(k)) / math.comb(m, 2)
                assert found[split, end] == pytest.approx(m * n / (m + n) * (across - left - right), abs=1e-12)
                compared += 1
        assert compared == 45

    def test_is_the_one_that_apache_otava_has(self) -> None:
        """Figures of apache-otava 0.8.0, ``PairDistanceCalculator._get_Q_vals``."""
        series = np.array([2.04, -2.56, 0.42, -0.57, -0.45, -0.22, -2.02, -0.23, -0.87, 3.32, 0.23, -0.35])
        found = energies(np.abs(series[:, None] - series[None, :]))
        published = {(3, 6): 0.4833333333, (5, 12): -1.3780555556, (6, 12): -1.474, (9, 12): -0.0916666667}
        assert {place: found[place] for place in published} == pytest.approx(published, abs=1e-9)


def normal(seed: int, runs: int = 30) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(seed).normal(size=runs)


class TestChangePoints:
    def test_are_not_found_where_nothing_changed(self) -> None:
        assert sum(bool(change_points(normal(seed))) for seed in range(100)) <= 1

    def test_finds_a_step_of_two_sigma_within_two_runs_of_its_place(self) -> None:
        places = [[point.index for point in change_points(normal(seed) + 2 * (np.arange(30) >= 15))] for seed in range(100)]
        assert sum(len(found) == 1 for found in places) >= 85
        assert sum(any(abs(place - 15) <= 2 for place in found) for found in places) >= 80

    def test_takes_no_spike_for_a_change(self) -> None:
        spikes = [normal(seed) + 20 * (np.arange(30) == seed % 30) for seed in range(60)]
        flat = [np.where(np.arange(30) == place, 0.2, 0.5) for place in range(30)]
        assert not any(change_points(series) for series in (*spikes, *flat))

    def test_takes_no_change_of_spread_for_one_of_level(self) -> None:
        assert sum(bool(change_points(normal(seed, 40) * np.repeat([1, 4], 20))) for seed in range(50)) <= 1

    def test_finds_a_step_of_figures_that_repeat_exactly(self) -> None:
        (point,) = change_points([0.5] * 20 + [0.4] * 5)
        assert (point.index, point.before, point.runs_before, point.runs_after) == (20, 0.5, 20, 5)
        assert point.after == pytest.approx(0.4)

    def test_finds_a_step_there_and_back(self) -> None:
        series = normal(3, 60) + 5 * ((np.arange(60) >= 20) & (np.arange(60) < 40))
        assert [point.index for point in change_points(series)] == [20, 40]

    def test_finds_steps_of_a_long_series_in_every_window(self) -> None:
        series = normal(4, 400) + 4 * (np.arange(400) // 100 % 2)
        places = [point.index for point in change_points(series)]
        assert len(places) == 3
        assert np.abs(np.subtract(places, [100, 200, 300])).max() <= 1

    def test_leaves_out_what_is_too_small_to_matter(self) -> None:
        series = [0.5] * 20 + [0.5005] * 20
        assert len(change_points(series, smallest=0.0004)) == 1
        assert change_points(series, smallest=0.001) == []

    def test_has_the_p_of_welchs_test(self) -> None:
        from scipy.stats import ttest_ind

        series = normal(5) + 3 * (np.arange(30) >= 12)
        (point,) = change_points(series)
        expected = ttest_ind(series[: point.index], series[point.index :], equal_var=False).pvalue
        assert point.p == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("series", [[], [1.0], [1.0, 2.0] * 2, [0.5] * 60])
    def test_has_none_where_there_cannot_be_any(self, series: list[float]) -> None:
        assert change_points(series) == []

    def test_wants_figures(self) -> None:
        with pytest.raises(ValueError, match="leave out the runs that have none"):
            change_points([1.0, math.nan])


class TestFolder:
    def test_gets_one_file_a_run_whose_names_sort_by_time(self, month: Path) -> None:
        names = sorted(file.name for file in month.iterdir())
        assert len(names) == 30
        assert all(re.fullmatch(r"\d{8}T\d{6}Z-build1-[0-9a-f]{8}\.parquet", name) for name in names)
        assert [name[:8] for name in names] == [f"{START + timedelta(days=day):%Y%m%d}" for day in range(30)]

    def test_holds_what_the_run_said(self, tmp_path: Path) -> None:
        run = results(3, 0.875)
        run["cases"][1] |= {"layer": "decoded", "suspect": "pillow"}
        file = append(tmp_path, run)
        first, second, _ = pq.read_table(file).to_pylist()
        assert first["case"] == "vit-original"
        assert first["signal"] == []
        assert second["signal"] == [("psnr", 31.5)]
        assert (second["run"], second["started"]) == (file.stem, START + timedelta(days=3))
        expected = ("build1", "0.1.0", "tried", "top1", 0.875, "accuracy", True, 0.5, "bpp", 60, "decoded", "pillow")
        names = ("host", "mpq", "suite", "metric", "value", "unit", "higher_is_better", "rate", "rate_unit", "samples", "layer", "suspect")
        assert tuple(second[name] for name in names) == expected
        assert first["versions"] == second["versions"]
        versions = json.loads(second["versions"])
        assert versions["packages.pillow"] == "12.0"
        assert versions["model.fingerprint"] == "a" * 64
        assert versions["machine.processor"] == "EPYC"
        assert "codecs.opus" not in versions  # no case of this evaluation has it

    def test_has_a_run_that_is_added_twice_once_and_never_rewrites_it(self, tmp_path: Path) -> None:
        file = append(tmp_path, results())
        before = file.stat()
        assert append(tmp_path, results()) == file
        assert list(tmp_path.iterdir()) == [file]
        assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)

    def test_is_shared_by_many_at_once(self, tmp_path: Path) -> None:
        runs = [results(0, 0.9 + number / 1000) for number in range(12)]  # within one second
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda run: append(tmp_path, run, "one host"), runs))
        assert len(list(tmp_path.iterdir())) == 12
        assert len(read_history(tmp_path).hosts["one host"]) == 12

    def test_can_be_merged(self, tmp_path: Path) -> None:
        for place, days in (("a", (0, 2)), ("b", (1, 2, 3))):
            for day in days:
                append(tmp_path / place, results(day))
        shutil.copytree(tmp_path / "b", tmp_path / "a", dirs_exist_ok=True)
        runs = read_history(tmp_path / "a").hosts["build1"]
        assert [(run.started - START).days for run in runs] == [0, 1, 2, 3]

    def test_keeps_a_run_in_which_nothing_was_measured(self, tmp_path: Path) -> None:
        run = results()
        for case in run["cases"]:
            case |= {"value": None, "metric": None, "metrics": {}, "outcome": "skipped", "verdict": "", "samples": 0, "rate": None}
        append(tmp_path, run)
        found = course(read_history(tmp_path))
        assert found.entries[0].value is None
        assert not found.entries[0].red
        assert not found.entries[0].green
        assert found.changes == []


class TestCourse:
    def test_has_the_figures_of_all_runs_in_their_order(self, month: Path) -> None:
        entries = course(read_history(month)).entries
        assert len(entries) == 30
        assert [entry.run.started for entry in entries] == [START + timedelta(days=day) for day in range(30)]
        assert entries[0].signal == {"psnr": 31.5}

    def test_marks_what_changed_between_neighbours_and_nothing_else(self, month: Path) -> None:
        history = read_history(month)
        assert course(history).versions == {20: ["pillow 12.0 -> 13.0", "jpeg libjpeg 3.1 (libjpeg.so) -> libjpeg 3.2 (libjpeg.so)"]}
        assert course(history, "vit-original").versions == {20: ["pillow 12.0 -> 13.0"]}

    def test_says_what_came_and_went(self, tmp_path: Path) -> None:
        append(tmp_path, results(0, packages={"old": "1"}, models={"vit": {"fingerprint": "a" * 64}}))
        append(tmp_path, results(1, packages={"new": "2"}, models={"vit": {"fingerprint": "b" * 64}}))
        assert course(read_history(tmp_path)).versions == {1: ["model aaaaaaaa -> bbbbbbbb", "new 2 came", "old 1 went"]}

    def test_takes_no_library_for_gone_that_a_warm_run_had_no_use_for(self) -> None:
        cold = {"libraries.MKL": "2024.2", "machine.torch_threads": "2", "packages.av": "18.1"}
        assert changes_of(cold, {}, "jpeg") == {"av": "av 18.1 went"}
        assert changes_of({}, cold, "jpeg") == {"av": "av 18.1 came"}
        assert changes_of(cold, cold | {"libraries.MKL": "2025.0"}, "jpeg") == {"MKL": "MKL 2024.2 -> 2025.0"}

    def test_knows_the_first_red_run_since_it_was_green(self, month: Path) -> None:
        assert course(read_history(month)).red_since == 20
        assert course(read_history(month), "vit-original").red_since is None

    @pytest.mark.parametrize(
        ("outcomes", "since"),
        [("..R.RR", 4), ("R.", None), ("RR", 0), (".R-R", 1), (".-R", 2), (".R-", 1), ("-", None), ("R.-", None)],
    )
    def test_takes_what_was_not_measured_for_neither(self, outcomes: str, since: int | None, tmp_path: Path) -> None:
        for day, outcome in enumerate(outcomes):
            run = results(day, verdict="regressed" if outcome == "R" else "same")
            if outcome == "-":
                run["cases"][1] |= {"outcome": "not run", "verdict": "", "value": None}
            append(tmp_path, run)
        assert course(read_history(tmp_path)).red_since == since

    def test_has_the_change_point(self, month: Path) -> None:
        history = read_history(month)
        (change,) = course(history).changes
        assert (change.what, change.number) == ("top1", 20)
        assert change.point.before - change.point.after == pytest.approx(0.03, abs=0.002)
        assert course(history, "vit-original").changes == []

    def test_sees_changes_of_the_rate_and_of_similarity(self, tmp_path: Path) -> None:
        for day in range(24):
            run = results(day)
            if day >= 12:
                run["cases"][1]["rate"] = 0.51
                run["cases"][1]["metrics"]["psnr"]["value"] = 31.2
            append(tmp_path, run)
        assert [(change.what, change.number) for change in course(read_history(tmp_path)).changes] == [("rate", 12), ("psnr", 12)]

    def test_leaves_runs_over_other_samples_out_of_change_points_and_says_that_they_differ(self, tmp_path: Path) -> None:
        for day in range(24):
            run = results(day, 0.9 if day % 4 else 0.5)
            run["cases"][1]["samples"] = 60 if day % 4 else 5
            append(tmp_path, run)
        found = course(read_history(tmp_path))
        assert len(found.comparable) == 18
        assert found.changes == []
        assert found.versions[1] == ["samples 5 -> 60"]

    def test_can_be_of_the_last_runs_alone(self, month: Path) -> None:
        found = course(read_history(month, last=5))
        assert len(found.entries) == 5
        assert found.versions == {}
        assert found.red_since == 0

    def test_is_of_one_host(self, month: Path, tmp_path: Path) -> None:
        shutil.copytree(month, tmp_path, dirs_exist_ok=True)
        for day in range(30):
            run = results(day + 0.3, 0.4, packages={"pillow": "11.0"})
            append(tmp_path, run, "Other.Machine")
        history = read_history(tmp_path)
        assert list(history.hosts) == ["Other.Machine", "build1"]
        assert course(history, host="Other.Machine").versions == {}
        assert course(history, host="Other.Machine").changes == []
        assert list(course(history).versions) == [20]
        assert history.notes == ["2 hosts, each shown by itself: a change of host is no change point"]

    def test_of_one_run_on_each_host_says_what_to_do(self, tmp_path: Path) -> None:
        for number in range(4):
            append(tmp_path, results(number), f"runner{number}")
        (note,) = read_history(tmp_path).notes
        assert note.endswith("where machines are alike, give them one name: MPQ_HOST")

    @pytest.mark.parametrize(
        "names", [("cluster-default-pool-of-the-third-region-a", "cluster-default-pool-of-the-third-region-b"), ("Берлин", "Київ")]
    )
    def test_whose_names_are_alike_in_files_are_counted_apart(self, tmp_path: Path, names: tuple[str, str]) -> None:
        for number in range(2):
            append(tmp_path, results(number), names[0])
        for number in range(30):
            append(tmp_path, results(10 + number), names[1])
        found = read_history(tmp_path, last=2).hosts
        assert {host: len(runs) for host, runs in found.items()} == dict.fromkeys(names, 2)

    def test_of_a_machine_that_was_given_a_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MPQ_HOST", "ci runners")
        append(tmp_path, results(machine={"processor": "EPYC"}))
        assert list(read_history(tmp_path).hosts) == ["ci runners"]


class TestClock:
    def test_that_went_backwards_is_said_and_does_not_disturb_the_order(self, tmp_path: Path) -> None:
        now = datetime.now(UTC)
        names = []
        for minutes in (-50, -40, 30, -20, -10):  # the third run had a clock that was ahead
            run = results((now + timedelta(minutes=minutes) - START) / timedelta(days=1))
            names.append(append(tmp_path, run).stem)
        history = read_history(tmp_path)
        assert [run.run for run in history.hosts["build1"]] == names
        (note,) = history.notes
        assert note.startswith("build1: the clock went backwards (")
        assert note.endswith("its runs stand in the order in which they were added")
        assert [entry.run.run for entry in course(history).entries] == names

    def test_is_not_blamed_for_old_results_that_are_added_later(self, tmp_path: Path) -> None:
        for day in (5, 1, 3):
            append(tmp_path, results(day))
        history = read_history(tmp_path)
        assert [(run.started - START).days for run in history.hosts["build1"]] == [1, 3, 5]
        assert history.notes == []

    def test_that_was_ahead_of_the_file_is_said(self, tmp_path: Path) -> None:
        file = append(tmp_path, results(2))
        os.utime(file, (START.timestamp(), START.timestamp()))
        (note,) = read_history(tmp_path).notes
        assert note == f"build1: {file.stem} says a time after that of its file: its clock was ahead, and its place may be wrong"


class TestBadInput:
    @pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
    def test_damaged_files_are_named_and_passed_over(self, content: bytes, tmp_path: Path) -> None:
        append(tmp_path, results())
        (tmp_path / "broken.parquet").write_bytes(content)
        history = read_history(tmp_path)
        assert len(history.courses) == 3
        (note,) = history.notes
        assert note.startswith("passed over 1 file: broken.parquet (")

    def test_truncated_files_too(self, tmp_path: Path) -> None:
        append(tmp_path, results())
        file = append(tmp_path, results(1))
        file.write_bytes(file.read_bytes()[:-100])
        history = read_history(tmp_path)
        assert len(history.hosts["build1"]) == 1
        assert file.name in history.notes[0]

    def test_files_of_which_pyarrow_raises_what_it_likes_too(self, tmp_path: Path) -> None:
        append(tmp_path, results())
        newest = append(tmp_path, results(1))
        (tmp_path / f"{newest.stem}0.parquet").write_bytes(unlike_others(newest))
        history = read_history(tmp_path)
        assert len(history.hosts["build1"]) == 2
        assert history.notes[0].startswith(f"passed over 1 file: {newest.stem}0.parquet (")
        append(tmp_path, results(2))
        assert len(read_history(tmp_path).hosts["build1"]) == 3

    def test_foreign_files_are_named(self, tmp_path: Path) -> None:
        append(tmp_path, results())
        pq.write_table(pa.table({"x": [1]}), tmp_path / "weather.parquet")
        (tmp_path / "notes.txt").write_text("hello")
        (tmp_path / ".gitignore").write_text("*.part")
        (note,) = read_history(tmp_path).notes
        assert note == ("passed over 2 files: notes.txt (no Parquet file), weather.parquet (no run wrote it: it has no column 'run')")

    def test_older_and_newer_columns_are_read_as_far_as_they_go(self, tmp_path: Path) -> None:
        append(tmp_path, results(1, 0.8))
        table = pq.read_table(append(tmp_path, results(0)))
        older = table.select(["run", "started", "host", "case", "evaluation", "suite", "codec", "quality", "value", "metric"])
        pq.write_table(older, tmp_path / f"{table['run'][0]}.parquet")
        newer = pq.read_table(append(tmp_path, results(2))).append_column("colour", pa.array(["red"] * 3))
        newer = newer.set_column(newer.column_names.index("rate"), "rate", pa.array(["fast"] * 3))
        pq.write_table(newer, tmp_path / f"{newer['run'][0]}.parquet")
        history = read_history(tmp_path)
        assert history.notes == []
        entries = course(history).entries
        assert [entry.value for entry in entries] == [0.9, 0.8, 0.9]
        assert [entry.rate for entry in entries] == [None, 0.5, None]
        assert entries[0].versions == {}
        assert course(history).versions == {}

    @pytest.mark.parametrize("created", [None, "later"])
    def test_results_without_a_time_are_of_now(self, created: object, tmp_path: Path) -> None:
        append(tmp_path, results() | {"created": created})
        ((run,),) = read_history(tmp_path).hosts.values()
        assert abs(datetime.now(UTC) - run.started) < timedelta(minutes=1)


class TestCommand:
    @pytest.fixture
    def call(self, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
        def run(*arguments: object) -> tuple[int, str, str]:
            code = main(["history", *map(str, arguments)])
            return code, *capsys.readouterr()

        return run

    def test_gives_each_case_a_line_and_says_what_happened(self, month: Path, call: Callable[..., tuple[int, str, str]]) -> None:
        code, output, errors = call(month)
        assert (code, errors) == (0, "")
        lines = output.splitlines()
        assert lines[0] == "build1: 30 runs, 2026-10-01 02:00 to 2026-10-30 02:00 UTC"
        (line,) = [line for line in lines if line.startswith("vit-jpeg-q5 ")]
        assert re.search(r" 30 +[▁-█]{30} +top1 0\.8\d+ +\.{20}R{10}$", line)
        assert "  red since 2026-10-21 02:00 at 00000000 (regressed), last green 2026-10-20 02:00 at 00000000" in lines
        assert re.search(r"change point 2026-10-21 02:00: top1 0\.8?9\d* -> 0\.8\d+ \(means of 20 and 10 runs\); with it: pillow", output)
        assert "  2026-10-21 02:00  pillow 12.0 -> 13.0  (all cases)" in lines
        assert "\x1b" not in output

    def test_shows_every_run_of_the_cases_that_are_asked_for(self, month: Path, call: Callable[..., tuple[int, str, str]]) -> None:
        code, output, _ = call(month, "--case", "*-q5", "--last", 12)
        assert code == 0
        assert "vit-jpeg-q90" not in output
        rows = [line for line in output.splitlines() if re.match(r"  2026-10-\d\d 02:00  \w{8}  ", line)]
        assert len(rows) == 12
        assert [row for row in rows if "pillow 12.0 -> 13.0" in row] == [rows[2]]

    def test_gives_scripts_everything(self, month: Path, call: Callable[..., tuple[int, str, str]]) -> None:
        code, output, _ = call(month, "--json")
        content = json.loads(output)
        assert code == 0
        assert len(content["hosts"]["build1"]) == 30
        (case,) = [case for case in content["cases"] if case["case"] == "vit-jpeg-q5"]
        runs = [run["run"] for run in content["hosts"]["build1"]]
        assert case["red_since"] == runs[20]
        assert [(point["what"], point["run"]) for point in case["change_points"]] == [("top1", runs[20])]
        assert [run["red"] for run in case["runs"]] == [False] * 20 + [True] * 10
        assert case["runs"][20]["changed"][0] == "pillow 12.0 -> 13.0"

    def test_says_where_there_is_no_history(self, tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
        code, output, errors = call(tmp_path / "nowhere")
        assert (code, output) == (2, "")
        assert errors == (
            f"mpq history: no history in {tmp_path / 'nowhere'}: there is no such folder; "
            "every run adds to the folder that --mpq-history names, reports/history by default\n"
        )
        assert call(tmp_path)[0] == 2
        (tmp_path / "x.txt").touch()
        assert "x.txt (no Parquet file)" in call(tmp_path)[2]

    def test_names_what_is_near_to_a_case_that_there_is_not(self, month: Path, call: Callable[..., tuple[int, str, str]]) -> None:
        code, _, errors = call(month, "--case", "vit-jpeg-q6")
        assert code == 2
        assert "is called 'vit-jpeg-q6'; there are 3, such as vit-jpeg-q5" in errors

    def test_ends_quietly_when_the_reader_has_seen_enough(self, month: Path) -> None:
        command = f"{sys.executable} -m mpq_fixtures history {month} --json | head -n 1"
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "{\n", "")

    def test_writes_digits_where_blocks_cannot_be_written(self, month: Path) -> None:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONIOENCODING": "ascii"}
        command = [sys.executable, "-m", "mpq_fixtures", "history", str(month)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        assert re.search(r"^vit-jpeg-q5 +30 +[0-7]{30} ", done.stdout, re.M)


@pytest.fixture(scope="module")
def page(month: Path) -> str:
    """The report of the last run of the month."""
    return render(results(29, 0.87, "regressed"), samples(), read_history(month))


class TestReport:
    def test_has_a_chart_and_a_table_of_all_points(self, page: str) -> None:
        assert len(re.findall(r"<svg.*?</svg>", page[: page.index("<script>")], re.S)) == 2
        text = " ".join(Page(page).text.split())
        assert "Over time 30 runs on build1 since 2026-10-01 02:00 UTC" in text
        assert "a 2026-10-21 02:00 pillow 12.0 -> 13.0; jpeg libjpeg 3.1" in text
        assert re.search(r"jpeg-q5 30 0\.90\d 0\.8\d\d \S0\.0\d\d 0\.8\d\d 0\.90\d regressed 2026-10-21 02:00 2026-10-21 02:00: top1", text)

    def test_says_at_the_top_since_when_it_is_red(self, page: str) -> None:
        text = " ".join(Page(page[: page.index('id="overview"')]).text.split())
        assert "1 of 3 cases pass; 2 regressed. Red since 2026-10-21 02:00 UTC." in text
        assert "regressed vit-jpeg-q5 red since 2026-10-21 02:00 UTC" in text

    def test_gives_the_script_the_same_with_every_run(self, page: str) -> None:
        charts = [json.loads(text) for kind, text in Page(page).scripts if kind == "application/json"]
        (chart,) = [chart for chart in charts if "facet" in chart]
        (table,) = [rows for name, rows in chart["datasets"].items() if name != "runs"]
        (row,) = [row for row in table if row["p"] == "jpeg-q5" and len(row["v"]) > 1]
        assert len(row["v"]) == len(chart["datasets"]["runs"]) == 30
        assert all(low <= value <= high for value, low, high in zip(row["v"], row["l"], row["h"], strict=True))
        events = {row["e"]: row["r"] for row in table if row["p"] == "jpeg-q5" and row.get("e")}
        assert events == {"first red run": [20], "change point": [20]}
        (picture,) = drawing.pictures([chart])
        assert picture.count("<path") > CHARTS

    def test_has_at_most_so_many_charts(self, tmp_path: Path) -> None:
        points = [f"q{number}" for number in range(1, 40)]
        for day in range(3):
            append(tmp_path, results(day, points=points))
        page = render(results(2, points=points), samples(), read_history(tmp_path))
        charts = [json.loads(text) for kind, text in Page(page).scripts if kind == "application/json"]
        (chart,) = [chart for chart in charts if "facet" in chart]
        (table,) = [rows for name, rows in chart["datasets"].items() if name != "runs"]
        assert len({row["p"] for row in table}) == CHARTS
        assert "original" in {row["p"] for row in table}
        assert page.count('<tr><th scope="row">jpeg-q') == 39

    def test_leaves_out_what_has_one_run_or_another_host(self, tmp_path: Path) -> None:
        append(tmp_path, results(0))
        append(tmp_path, results(1), "elsewhere")
        history = read_history(tmp_path)
        assert "Over time" not in Page(render(results(0), samples(), of_host(history, "build1"))).text
        assert "Over time" not in Page(render(results(0), samples(), None)).text

    def test_finds_the_folder_that_the_run_names_and_ends_with_the_run(self, month: Path, tmp_path: Path) -> None:
        run = results(9, options={"history": str(month)})
        (tmp_path / "results.json").write_text(json.dumps(run))
        pq.write_table(pa.Table.from_pylist(samples()), tmp_path / "samples.parquet")
        page = Page(write_report(tmp_path).read_text())
        assert "10 runs on build1" in page.text
        assert "pillow 12.0 -> 13.0" not in page.text

    def test_does_without_a_folder_that_is_gone(self, tmp_path: Path) -> None:
        (tmp_path / "results.json").write_text(json.dumps(results(options={"history": str(tmp_path / "gone")})))
        pq.write_table(pa.Table.from_pylist(samples()), tmp_path / "samples.parquet")
        assert "Over time" not in write_report(tmp_path).read_text()

    def test_takes_what_files_say_for_text(self, tmp_path: Path) -> None:
        for day in range(2):
            run = results(day, packages={HOSTILE: str(day)}, commit=HOSTILE)
            for case in run["cases"]:
                case["verdict"] = HOSTILE
            append(tmp_path, run, HOSTILE)
        page = render(results(1), samples(), of_host(read_history(tmp_path), HOSTILE))
        assert HOSTILE in Page(page).text
        assert "<script>alert" not in page


class TestRealRuns:
    def test_of_a_suite_become_a_history(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        for _ in range(2):
            assert project.run("-k", "pictures").ret == 0
            append(tmp_path / "history", project.results())
        history = read_history(tmp_path / "history")
        ((host, runs),) = history.hosts.items()
        assert history.notes == []
        assert len(runs) == 2
        assert all(first.run == second.previous for first, second in pairwise(runs))
        found = course(history, "pictures-jpeg-q5", host)
        assert [entry.verdict for entry in found.entries] == ["new", "new"]
        assert found.versions == {}
        assert set(found.entries[0].signal) == {"psnr", "ssim"}
        page = Page(write_report(tmp_path / "reports" / "latest", tmp_path / "history").read_text())
        assert "2 runs on" in page.text
        assert project.results()["provenance"]["packages"]["pillow"] == found.entries[0].versions["packages.pillow"]
