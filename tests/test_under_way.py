"""What a process notes of itself outlives it, and what follows from a death is what the rules say."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from chaos_kinds import Disk, NoDisk
from test_isolation import ends

from mpq_fixtures.engines.claims import Claims
from mpq_fixtures.engines.deaths import IN_A_ROW, KILLS, OTHERS_IN_A_ROW, TESTS_CRASHED, TESTS_KILLED, Suspect, consequences
from mpq_fixtures.engines.overseer import Overseer
from mpq_fixtures.engines.work_data import lock_of
from mpq_fixtures.processes import under_way
from mpq_fixtures.processes.under_way import Notes, Slot, UnderWay
from mpq_fixtures.rows import Failure

END = {
    "segfault": ("import ctypes; ctypes.string_at(0)", "Segmentation fault"),
    "abort": ("os.abort()", "Aborted"),
    "exit": ("os._exit(3)", "exit code 3"),
    "killed": ("os.kill(os.getpid(), 9)", ""),
}


def die(folder: Path, session: str, at: str, end: str) -> int:
    """Let a process die by ``end`` while it is ``at`` something, and return its number."""
    script = f"""
import os
from pathlib import Path

from mpq_fixtures.engines.claims import Claims
from mpq_fixtures.processes.under_way import UnderWay

notes = UnderWay()
claims = Claims(Path({str(folder)!r}), {session!r}, 2, notes)
{at}
    {end}
"""
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    process.wait(60)
    return process.pid


AT = """
notes.about(work="case key", series="evaluation-codec")
with notes.at("decode", {samples}, 5):
"""


TRIAL = "\nnotes.about(trial=True)"


FULL = """
import sys
from pathlib import Path

from mpq_fixtures.processes.under_way import UnderWay, read

file, notes = Path(sys.argv[1]) / "one", UnderWay()
notes.open(file, "s")
first = notes.at("encode", ["a"])
print(len(read(file).slots))
with (file.parent / "ballast").open("wb", buffering=0) as ballast:
    try:
        while ballast.write(bytes(4096)):
            pass
    except OSError:
        pass
with notes.at("decode", ["b"]):  # for which there is no room
    print(len(read(file).slots))
first.__exit__()
print(len(read(file).slots))
with notes.at("decode", ["c"]):  # for which there is, since the first left it
    print(len(read(file).slots))
"""


class TestNotes:
    @pytest.mark.parametrize("how", list(END))
    def test_outlive_the_process(self, tmp_path: Path, how: str) -> None:
        overseer = Overseer(tmp_path, "s")
        end, fault = END[how]
        process = die(tmp_path, "s", AT.format(samples=["a", "b \u00e9"]), end)
        code = {"exit": 3, "killed": -9, "segfault": -11, "abort": -6}[how]
        notes = overseer.note_end(process, code)
        assert notes is not None
        assert [(slot.step, slot.samples, slot.seconds) for slot in notes.slots] == [("decode", ("a", "b \u00e9"), 10)]
        assert (notes.work, notes.series, notes.session, notes.pid) == ("case key", "evaluation-codec", "s", process)
        assert notes.fault.startswith(fault)
        assert bool(notes.fault) == bool(fault)
        overseer.close()

    def test_that_are_late_end_the_process_and_the_commands_that_it_runs(self, tmp_path: Path) -> None:
        code = """
import subprocess, sys
from pathlib import Path
from mpq_fixtures.engines.claims import Claims
from mpq_fixtures.processes.under_way import UnderWay

notes = UnderWay()
claims = Claims(Path(sys.argv[1]), "s", 1, notes)
with notes.at("encode", ["a"], 1):
    command = subprocess.Popen(["sleep", "943"], start_new_session=True)
    print(command.pid, flush=True)
    command.wait()
"""
        overseer = Overseer(tmp_path, "s")
        with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            command = int(process.stdout.readline())
            for _ in range(5):
                overseer.look([process.pid])
        assert process.returncode == -signal.SIGKILL
        overseer.close()
        assert ends(command)

    def test_of_a_process_that_leaves_are_gone(self, tmp_path: Path) -> None:
        overseer, notes = Overseer(tmp_path, "s"), UnderWay()
        claims = Claims(tmp_path, "s", 1, notes)
        with notes.at("encode", ["a"]):
            assert [one.slots[0].samples for _, one in overseer._notes()] == [("a",)]
        assert [one.slots for _, one in overseer._notes()] == [()]
        claims.close()
        overseer.close()
        assert not [file for file in (tmp_path / "workers").iterdir() if file.suffix != ".lock"]

    def test_follow_the_steps_of_many_threads(self, tmp_path: Path) -> None:
        from concurrent.futures import ThreadPoolExecutor
        from threading import Barrier

        overseer, notes, barrier = Overseer(tmp_path, "s"), UnderWay(), Barrier(9)
        claims = Claims(tmp_path, "s", 1, notes)

        def work(number: int) -> None:
            with notes.at("read", [f"sample {number}"]) as place:
                place.note("encode" if number % 2 else "decode", [f"sample {number}"])
                barrier.wait(60)
                barrier.wait(60)

        with ThreadPoolExecutor(8) as threads:
            done = [threads.submit(work, number) for number in range(8)]
            barrier.wait(60)
            ((_, seen),) = overseer._notes()
            barrier.wait(60)
            for one in done:
                one.result()
        expected = {(f"sample {number}", "encode" if number % 2 else "decode") for number in range(8)}
        assert {(slot.samples[0], slot.step) for slot in seen.slots} == expected
        claims.close()
        overseer.close()

    def test_on_a_full_disk_are_left_out(self, tmp_path: Path) -> None:
        try:
            disk = Disk(1)
        except NoDisk as error:
            pytest.skip(str(error))
        with closing(disk):
            run = subprocess.run([sys.executable, "-c", FULL, disk.seen], input="", capture_output=True, text=True, timeout=60)
        assert run.stdout.split() == ["1", "1", "0", "1"], run.stderr

    def test_are_none_where_nobody_oversees(self, tmp_path: Path) -> None:
        notes = UnderWay()
        with notes.at("read", ["a"]) as place:
            place.note("predict", ["a", "b"])
        assert not list(tmp_path.iterdir())

    def test_that_are_cut_short_are_no_notes(self, tmp_path: Path) -> None:
        for content in (b"", b"{", os.urandom(100), bytes(2**24 + 2**16), os.urandom(2**16) + bytes(2**24)):
            (tmp_path / "worker.at").write_bytes(content)
            assert under_way.read(tmp_path / "worker") is None


def noted(*slots: Slot, fault: str = "", trial: bool = False) -> Notes:
    return Notes("s", 1, "case", "case key", "series", trial, slots, fault or "SIGKILL", fault)


ONE, TWO = Slot(1, 1, "encode", ("a",), 60, False), Slot(2, 1, "decode", ("b",), 60, False)


class TestConsequences:
    def test_of_a_crash_at_one_sample(self) -> None:
        (suspect,) = consequences(noted(ONE, fault="Segmentation fault"), {})
        assert suspect == Suspect("a", trial=True)

    def test_of_a_crash_at_several_samples(self) -> None:
        assert list(consequences(noted(ONE, TWO, fault="Aborted"), {})) == [Suspect("a", trial=True), Suspect("b", trial=True)]

    def test_of_a_crash_in_a_trial(self) -> None:
        (failure,) = consequences(noted(ONE, fault="Aborted", trial=True), {"a": Suspect("a", trial=True)})
        assert failure == Failure("a", "encode", "the process died at it: Aborted")

    def test_of_a_second_crash_after_all_were_tried(self) -> None:
        known = {name: Suspect(name, tried=True) for name in "ab"}
        assert all(isinstance(one, Failure) for one in consequences(noted(ONE, TWO, fault="Aborted"), known))

    def test_of_kills(self) -> None:
        known: dict[str, Suspect] = {}
        for kill in range(1, KILLS):
            (known["a"],) = consequences(noted(ONE), known)  # type: ignore[assignment]
            assert known["a"] == Suspect("a", kills=kill)
        (known["a"],) = consequences(noted(ONE), known)  # type: ignore[assignment]
        assert known["a"] == Suspect("a", trial=True)
        for _ in range(1, KILLS):
            (known["a"],) = consequences(noted(ONE, trial=True), known)  # type: ignore[assignment]
        (failure,) = consequences(noted(ONE, trial=True), known)
        assert isinstance(failure, Failure)
        assert "killed at it 6 times" in failure.reason

    def test_of_a_crash_of_another_beside_one_that_was_tried(self) -> None:
        known = {"a": Suspect("a", tried=True)}
        assert list(consequences(noted(ONE, TWO, fault="Aborted"), known)) == [Suspect("a", tried=True), Suspect("b", trial=True)]

    def test_of_taking_too_long(self) -> None:
        late = Slot(1, 1, "encode", ("a",), 0.5, True)
        (failure,) = consequences(noted(late), {})
        assert isinstance(failure, Failure)
        assert (failure.sample, failure.step) == ("a", "encode")
        assert "longer than the limit of 0.5 s" in failure.reason
        assert "step_seconds = 1 }" in failure.reason

    @pytest.mark.parametrize("other_is_late", [False, True])
    def test_of_taking_too_long_beside_another_which_may_be_what_it_waits_for(self, other_is_late: bool) -> None:
        slots = Slot(1, 1, "encode", ("a",), 0.5, True), Slot(2, 2, "encode", ("b",), 0.5, other_is_late)
        assert list(consequences(noted(*slots), {})) == [Suspect("a", trial=True), Suspect("b", trial=True)]
        known = {name: Suspect(name, tried=True) for name in "ab"}
        assert [one.sample for one in consequences(noted(*slots), known)] == (["a", "b"] if other_is_late else ["a"])

    def test_of_a_batch_that_takes_too_long(self) -> None:
        late = Slot(1, 1, "predict", ("a", "b"), 2, True)
        assert list(consequences(noted(late), {})) == [Suspect("a", trial=True), Suspect("b", trial=True)]


class TestDead:
    def test_workers_are_looked_into_by_the_living(self, tmp_path: Path) -> None:
        overseer, claims = Overseer(tmp_path, "s"), Claims(tmp_path, "s", 2, UnderWay())
        overseer.note_end(die(tmp_path, "s", AT.format(samples=["a"]), END["segfault"][0]), -11)
        assert claims.doomed("other") == ""
        assert claims.deaths.suspects("case key") == {"a": Suspect("a", trial=True)}
        overseer.note_end(die(tmp_path, "s", TRIAL + AT.format(samples=["a"]), END["segfault"][0]), -11)
        assert claims.doomed("other") == ""
        assert claims.failures("case key")["a"].reason.startswith("the process died at it: Segmentation fault")
        assert claims.deaths.failed("case key") == {"a"}
        assert overseer.deaths()[0].startswith("a process died (Segmentation fault")
        assert not list((tmp_path / "workers").glob("*.fault"))[1:]  # but the living one's own
        claims.close()
        overseer.close()

    def test_workers_wait_for_who_oversees_them_to_say_how_they_ended(self, tmp_path: Path) -> None:
        overseer, claims = Overseer(tmp_path, "s"), Claims(tmp_path, "s", 2, UnderWay())
        process = die(tmp_path, "s", TRIAL + AT.format(samples=["a"]), END["exit"][0])
        claims.doomed("other")
        assert not claims.failures("case key")
        overseer.note_end(process, 3)
        claims.doomed("other")
        assert claims.failures("case key")["a"].reason == "the process died at it: exit code 3"
        claims.close()
        overseer.close()

    def test_session_outlives_its_workers_as_long_as_it_is_overseen(self, tmp_path: Path) -> None:
        overseer = Overseer(tmp_path, "s")
        overseer.note_end(die(tmp_path, "s", AT.format(samples=["a"]), END["segfault"][0]), -11)
        for _ in range(2):
            claims = Claims(tmp_path, "s", 1, UnderWay())
            assert set(claims.deaths.suspects("case key")) == {"a"}
            claims.close()
        overseer.close()
        claims = Claims(tmp_path, "t", 1)
        assert claims._data.rows("select count(*) from suspects") == [(0,)]
        claims.close()

    def test_series_of_crashes_is_given_up_and_progress_forgives(self, tmp_path: Path) -> None:
        overseer, claims = Overseer(tmp_path, "s"), Claims(tmp_path, "s", 1, UnderWay())
        for number in range(IN_A_ROW):
            assert not claims.deaths.hopeless("series", "case key")
            claims.deaths.note(noted(Slot(1, 1, "encode", (f"sample {number}",), 60, False), fault="Aborted"))
        assert claims.deaths.hopeless("series", "case key").startswith(f"{IN_A_ROW} processes in a row died")
        assert not claims.deaths.hopeless("another", "case key")
        for _ in range(OTHERS_IN_A_ROW):
            assert not claims.deaths.hopeless("series", "other key")
            claims.deaths.note(replace(noted(ONE, fault="Aborted"), work="other key"))
        assert claims.deaths.hopeless("series", "other key").startswith(f"{OTHERS_IN_A_ROW} processes in a row died")
        claims.deaths.progress("series")
        assert not claims.deaths.hopeless("series", "case key")
        claims.close()
        overseer.close()

    def test_test_is_doomed_by_a_crash_and_by_many_kills(self, tmp_path: Path) -> None:
        overseer, claims = Overseer(tmp_path, "s"), Claims(tmp_path, "s", 1, UnderWay())
        for _ in range(TESTS_KILLED):
            assert not claims.doomed("case")
            claims.deaths.note(noted())
        assert "SIGKILL" in claims.doomed("case")
        for _ in range(TESTS_CRASHED):
            assert not claims.doomed("crashed")
            claims.deaths.note(Notes("s", 1, "crashed", "", "", False, (), "", "Segmentation fault"))
        assert "Segmentation fault" in claims.doomed("crashed")
        claims.close()
        overseer.close()

    @pytest.mark.parametrize(
        "damage", [b"no database at all, but text", b"SQLite format 3\0" + bytes(5000), None], ids=["text", "zeros", "folder"]
    )
    def test_files_of_claims_are_made_anew(self, tmp_path: Path, damage: bytes | None) -> None:
        file = tmp_path / "claims.db"
        if damage is None:
            (file / "sub").mkdir(parents=True)
        else:
            file.write_bytes(damage)
        claims = Claims(tmp_path, "s", 1)
        assert claims.take("work", range(3), 2) == [0, 1]
        claims.close()

    def test_sessions_leave_nothing(self, tmp_path: Path) -> None:
        overseer = Overseer(tmp_path, "s")
        overseer.note_end(die(tmp_path, "s", AT.format(samples=["a"]), END["segfault"][0]), -11)
        claims = Claims(tmp_path, "s", 1, UnderWay())
        assert claims.deaths.suspects("case key")
        claims.close()
        overseer.close()
        with closing(sqlite3.connect(tmp_path / "claims.db")) as data:
            tables = [name for (name,) in data.execute("select name from sqlite_master where type = 'table'")]
            assert not any(data.execute(f"select count(*) from {table}").fetchone()[0] for table in tables)
        assert not list((tmp_path / "workers").iterdir())


class TestOverseer:
    def test_ends_who_is_at_a_sample_for_too_long(self, tmp_path: Path) -> None:
        overseer = Overseer(tmp_path, "s")
        script = f"""
import ctypes
from pathlib import Path

from mpq_fixtures.engines.claims import Claims
from mpq_fixtures.processes.under_way import UnderWay

notes = UnderWay()
claims = Claims(Path({str(tmp_path)!r}), "s", 2, notes)
with notes.at("encode", ["slow"], 1), notes.at("decode", ["patient"], 0):
    ctypes.PyDLL(None).pause()  # which does not let go of the interpreter's lock
"""
        process = subprocess.Popen([sys.executable, "-c", script])
        overseer.watch(lambda: [process.pid])
        assert process.wait(60) == -9
        notes = overseer.note_end(process.pid, -9)
        assert notes is not None
        assert [slot.samples for slot in notes.slots if slot.late] == [("slow",)]
        overseer.close()

    def test_leaves_processes_of_others_alone(self, tmp_path: Path) -> None:
        overseer, notes = Overseer(tmp_path, "s"), UnderWay()
        claims = Claims(tmp_path, "s", 1, notes)
        with notes.at("encode", ["slow"], 0.001):
            for _ in range(5):
                overseer.look([])
        claims.close()
        overseer.close()
        assert not lock_of(tmp_path, "s").exists()
