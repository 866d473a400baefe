"""Chaos: a small share of it, and that it tells where something is not as it has to be."""

from __future__ import annotations

import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos import shares, table
from chaos_kinds import KINDS, Disk, Episode, NoDisk, Tally, Undisturbed, damage, killed_alone, paused, undisturbed
from chaos_project import ChaosProject, Results
from chaos_runs import Run, left_behind

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="only Linux tells which processes belong to a run")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("chaos")
    return undisturbed(ChaosProject(folder / "project", 16, 8, network=False), folder / "undisturbed")


@pytest.fixture
def episode(base: Undisturbed, tmp_path: Path) -> Episode:
    return Episode(base, tmp_path / "tried", random.Random(0), Tally())


class TestRunsThatAreKilled:
    def test_give_in_the_end_what_others_give(self, episode: Episode) -> None:
        episode.random = random.Random(1)  # whose first moment is an early one: no run is over by then, however slow the undisturbed were
        killed_alone(episode, 3)
        tally = episode.tally
        assert tally.problems == []
        assert (tally.judged, tally.identical, tally.left) == (1, 1, [])
        assert 1 <= sum(tally.times.values()) == tally.runs - 1
        assert tally.most > 50
        assert "| 1 of 1 | 0 |" in table({"kill-alone": tally})


class TestRunsThatAreSuspended:
    def test_give_what_others_give(self, episode: Episode) -> None:
        paused(episode, 1)
        assert episode.tally.problems == []
        assert (episode.tally.judged, episode.tally.identical) == (1, 1)
        assert episode.tally.times["SIGSTOP"] >= 1


class TestResults:
    def test_of_another_picture_differ(self, episode: Episode) -> None:
        pictures = sorted((episode.project.suites / "pictures").rglob("*.png"))
        kept = pictures[0].read_bytes()
        shutil.copytree(episode.base.place / "store", episode.place / "store")
        pictures[0].write_bytes(pictures[1].read_bytes())
        try:
            episode.judge(episode.start(episode.project.pytest(episode.place)), episode.place)
        finally:
            pictures[0].write_bytes(kept)
        assert episode.tally.identical == 0
        said = "\n".join(episode.tally.problems)
        assert "results.csv differs at pictures-jpeg-q10, pictures-jpeg-q50, pictures-original, pictures-webp-q10" in said
        assert "results.json differs in cases" in said
        assert "samples.parquet differs" in said

    def test_of_two_runs_in_one_folder_are_told(self, episode: Episode, tmp_path: Path) -> None:
        out = tmp_path / "out"
        shutil.copytree(episode.base.place / "out", out)
        episode.check_stopped(out)
        assert episode.tally.problems == []
        rows = (out / "results.csv").read_text()
        value = next(iter(Results(out).rows().values()))["bytes"]
        (out / "results.csv").write_text(rows.replace(f",{value},", ",1,", 1))
        episode.check_stopped(out)
        assert "the result files are of different runs at pictures-original" in episode.tally.problems[0]
        assert "a stopped run gave pictures-original with" in episode.tally.problems[1]
        (out / "results.json").unlink()
        episode.check_stopped(out)
        assert "no set" in episode.tally.problems[-1]


class TestARun:
    def start(self, place: Path, command: str, limit: float = 60.0) -> Run:
        (place / "tmp").mkdir()
        return Run(["sh", "-c", command], place, dict(os.environ), place / "log", limit)

    def test_that_hangs_is_ended(self, tmp_path: Path) -> None:
        run = self.start(tmp_path, "sleep 600 & sleep 600", limit=0.5)
        assert run.end() != 0
        assert run.hung
        assert run.survivors == []

    def test_that_leaves_processes_and_files_is_told(self, tmp_path: Path) -> None:
        run = self.start(tmp_path, f"setsid {sys.executable} -c 'import time; time.sleep(600)' & touch tmp/mpq-tried .piece.part")
        assert run.end() == 0
        assert not run.hung
        assert [survivor.split()[0] for survivor in run.survivors] == ["process"]
        assert run.members() == [] or run.wait(1)
        assert left_behind(tmp_path) == [".piece.part", "tmp/mpq-tried"]

    def test_knows_what_its_processes_hold(self, tmp_path: Path) -> None:
        run = self.start(tmp_path, f"{sys.executable} -c 'import time; x = bytearray(200_000_000); time.sleep(1)'; true")
        run.end()
        assert 190 < run.most < 300


class TestDamage:
    def test_changes_a_file_of_the_store(self, episode: Episode) -> None:
        shutil.copytree(episode.base.place / "store", episode.place / "store")

        def content() -> dict[str, bytes | str]:
            paths = sorted((episode.place / "store").glob("format-*/*/*.db"))
            return {str(path): path.read_bytes() if path.is_file() else "none" for path in paths}

        before = content()
        for number in range(1, 15):
            damage(episode)
            assert sum(episode.tally.times.values()) == number
        assert len(episode.tally.times) > 3
        after = content()
        assert sum(after.get(name) != before[name] for name in before) > 3


class TestADisk:
    @pytest.fixture
    def disk(self) -> Iterator[Disk]:
        try:
            made = Disk(8)
        except NoDisk as error:
            pytest.skip(str(error))
        yield made
        made.close()

    def test_is_full_and_has_room_again(self, disk: Disk) -> None:
        disk.fill(100_000)
        with pytest.raises(OSError, match="No space left on device"):
            (disk.seen / "file").write_bytes(bytes(200_000))
        disk.clear()
        (disk.seen / "file").write_bytes(bytes(200_000))

    def test_may_only_be_read_and_be_written_again(self, disk: Disk) -> None:
        disk.read_only(True)
        with pytest.raises(OSError, match="Read-only file system"):
            (disk.seen / "file").write_bytes(b"x")
        disk.read_only(False)
        (disk.seen / "file").write_bytes(b"x")


def test_kills_are_shared_among_the_kinds() -> None:
    wanted = shares(200, list(KINDS))
    assert sum(count for name, count in wanted.items() if KINDS[name].weight) == 200
    assert min(wanted.values()) > 0
    assert shares(7, ["worker"]) == {"worker": 7}
