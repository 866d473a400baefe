"""``mpq store``: what a store holds, and what of it goes."""

from __future__ import annotations

import argparse
import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from test_store import KEY, contents, expected, script, table

from mpq_fixtures.__main__ import main
from mpq_fixtures.commands.store import prune, show
from mpq_fixtures.store import BITSTREAM, PREDICTION, STATISTIC, Store, key_of, local, open_store
from mpq_fixtures.store.local import LocalStore
from mpq_fixtures.store.usage import amount, duration, in_bytes, size_of

DAY = 86_400
CASES = ("pocket", "whisper", "whisper-opus-6k"), ("study", "vit", "vit-jpeg-q5"), ("study", "vit", "vit-original")


def fill(store: Store) -> None:
    """Write each case's row, and a bitstream that two suites share."""
    for number, (suite, evaluation, case) in enumerate(CASES):
        about = {"suite": suite, "evaluation": evaluation, "case": case}
        store.scope(STATISTIC, key_of(case=case), about).write(table(range(10 * (number + 1))))
    for suite in ("pocket", "study"):
        about = {"suite": suite, "evaluation": "shared", "case": f"shared-{suite}"}
        scope = store.scope(BITSTREAM, KEY, about)
        scope.write(table([1]))
        list(scope.read([]))
        scope.found(["x"])
    store.put("audit", KEY, b"[]")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(tmp_path / "store")
    fill(store)
    store.close()
    return store


def age(store: LocalStore, days: float, *keys: str) -> None:
    """Let the scopes, or those of some keys, be of some days ago."""
    for file in store.folder.rglob("*.db*"):
        if not keys or file.name.partition(".")[0] in keys:
            os.utime(file, (time.time() - days * DAY,) * 2)


def cases(store: Store) -> list[str]:
    return sorted({about["case"] for part in store.parts() for about in part.about})


def pruned(store: LocalStore, **options: object) -> int:
    given = {"older_than": None, "to": None, "unnamed": None, "old": False, "dry_run": False} | options
    return prune(str(store.folder), **given)  # type: ignore[arg-type]


class TestShow:
    def test_in_the_home_of_nobody_is_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["store", "--mpq-cache", "~nobody_here/store"]) == 2
        assert capsys.readouterr().err == "mpq store: ~nobody_here/store: there is no user 'nobody_here': write ~/, or the whole path\n"

    @pytest.mark.parametrize("where", ["folder", "memory"])
    def test_says_what_is_there(self, store: LocalStore, where: str, capsys: pytest.CaptureFixture[str]) -> None:
        location = str(store.folder)
        if where == "memory":
            location = f"memory://{uuid.uuid4()}"
            fill(open_store(location))
        assert show(location) == 0
        lines = capsys.readouterr().out.splitlines()
        rows = [line.split() for line in lines]
        assert rows[0][:4] == ["suite", "evaluation", "layer", "size"]
        entries = {tuple(row[:3]): row[5] for row in rows if row[0] in ("pocket", "study")}
        assert entries == {
            ("pocket", "whisper", "statistic"): "10",
            ("study", "vit", "statistic"): "50",
            ("pocket", "shared", "bitstream"): "1",
            ("study", "shared", "bitstream"): "1",
        }
        assert "today" in lines[1]
        assert lines[-2] == "+ counted for each evaluation that shares it"
        assert lines[-1].startswith(f"{location}: ")

    def test_of_nothing_says_so(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert show(str(tmp_path / "none")) == 0
        assert capsys.readouterr().out == f"{tmp_path / 'none'}: 0 B in 0 files\n"
        assert not (tmp_path / "none").exists()

    def test_of_a_file_is_an_error(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "store").write_text("x")
        assert show(str(tmp_path / "store")) == 2
        assert "mpq store: cannot use the store" in capsys.readouterr().err

    def test_takes_the_environment_s_store(
        self, store: LocalStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("MPQ_CACHE", str(store.folder))
        assert show(None) == 0
        assert f"{store.folder}: " in capsys.readouterr().out

    def test_counts_what_lies_on_the_disk(self, store: LocalStore) -> None:
        on_disk = sum(path.stat().st_size for path in store.folder.rglob("*.db*"))
        assert sum(part.bytes for part in store.parts()) == on_disk
        assert size_of([store.folder / "format-2"]).bytes == on_disk


class TestPrune:
    def test_by_age_takes_what_was_not_used(self, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
        age(store, 40)
        age(store, 10, key_of(case="vit-original"))
        assert pruned(store, older_than=30 * DAY) == 0
        assert cases(store) == ["vit-original"]
        assert "freed" in capsys.readouterr().out

    def test_keeps_what_was_read(self, store: LocalStore) -> None:
        age(store, 40)
        case = "vit-jpeg-q5"
        reader = LocalStore(store.folder)
        assert contents(reader.scope(STATISTIC, key_of(case=case)), range(20)) == expected(range(20))
        reader.close()
        pruned(store, older_than=30 * DAY)
        assert cases(store) == [case]

    def test_keeps_what_was_read_at_a_url(self, tmp_path: Path) -> None:
        url, about = (tmp_path / "remote").as_uri(), {"suite": "a", "case": "x"}
        for number in range(2):
            open_store(url).scope(STATISTIC, key_of(number=number), about).write(table([number]))
        for file in (tmp_path / "remote").rglob("*.*"):
            os.utime(file, (time.time() - 40 * DAY,) * 2)
        contents(open_store(url).scope(STATISTIC, key_of(number=1), about), [1])
        assert prune(url, 30 * DAY, None, None, False, False) == 0
        assert [part.key for part in open_store(url).parts()] == [key_of(number=1)]

    @pytest.mark.parametrize("name", ["bitstream/.DS_Store", "about"])
    def test_at_a_url_passes_over_what_is_foreign_or_damaged(self, tmp_path: Path, name: str) -> None:
        url, about = (tmp_path / "remote").as_uri(), {"suite": "a", "case": "x"}
        open_store(url).scope(BITSTREAM, KEY, about).write(table([1]))
        (told,) = (tmp_path / "remote").rglob("about-*")
        (told if name == "about" else told.parents[2] / name).write_bytes(b"")
        (part,) = open_store(url).parts()
        assert (part.key, part.entries, list(part.about)) == (KEY, 1, [] if name == "about" else [about])
        assert show(url) == 0

    def test_loses_nothing_that_is_written_at_that_moment(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that comes to a scope while its file is removed writes to a new one."""
        scope = LocalStore(store.folder).scope(STATISTIC, key_of(case="vit-jpeg-q5"))
        writer, remove_parts = threading.Thread(target=lambda: scope.write(table([7]))), local.remove_parts

        def at_that_moment(path: Path, *suffixes: Any) -> None:
            if path.stem == key_of(case="vit-jpeg-q5") and writer.ident is None:
                writer.start()
                writer.join(0.5)
            remove_parts(path, *suffixes)

        monkeypatch.setattr(local, "remove_parts", at_that_moment)
        age(store, 40)
        assert pruned(store, older_than=30 * DAY) == 0
        writer.join()
        assert contents(scope, range(20)) == expected([7])

    def test_by_size_takes_the_least_recently_used_first(self, store: LocalStore) -> None:
        age(store, 1)
        for days, (_, _, case) in enumerate(CASES):
            age(store, 20 + days, key_of(case=case))
        size = {part.about[0]["case"]: part.bytes for part in store.parts() if part.layer == STATISTIC}
        total = sum(part.bytes for part in store.parts())
        assert pruned(store, to=total - size["vit-original"]) == 0
        assert set(CASES[number][2] for number in (0, 1)) <= set(cases(store))
        assert "vit-original" not in cases(store)
        assert pruned(store, to=0) == 0
        assert list(store.parts()) == []

    @pytest.mark.parametrize("suites", [["pocket"], []], ids=["one", "all in evaluations/suites"])
    def test_by_suite_keeps_what_a_suite_names(self, store: LocalStore, suites: list[str]) -> None:
        named = {"suite": "pocket", "case": "whisper_pocket-opus-6k"}
        store.scope(STATISTIC, key_of(named=1), named).write(table([1]))
        store.scope(BITSTREAM, KEY, named).found(["x"])
        store.close()
        age(store, 1)
        assert pruned(store, unnamed=suites) == 0
        assert cases(store) == ["shared-pocket", "shared-study", "whisper_pocket-opus-6k"]  # the bitstream is a named case's, too
        assert store.get("audit", KEY) == b"[]"  # it is nobody's

    def test_by_suite_asks_the_suites(self, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
        """The real suite names none of these cases; a suite that is not there is an error, and nothing goes."""
        age(store, 1)
        assert pruned(store, unnamed=["no-such-suite"]) == 2
        assert "no-such-suite" in capsys.readouterr().err
        assert len(cases(store)) == 5
        assert pruned(store, unnamed=["pocket"]) == 0
        assert cases(store) == []

    def test_keeps_what_suites_name_of_an_optional_codec_that_is_not_here(self, tmp_path: Path) -> None:
        store, suite = LocalStore(tmp_path / "store"), tmp_path / "pics.toml"
        for codec in ("mine", "another"):
            about = {"suite": "pics", "evaluation": "pics", "case": f"pics-{codec}-any", "codec": codec, "quality": "any"}
            store.scope(STATISTIC, key_of(case=codec), about).write(table(range(10)))
        store.close()
        age(store, 1)
        suite.write_text(
            'name = "pics"\n[[codec]]\nname = "mine"\nmodality = "image"\nencode = "no-such-program {input} {output}"\n'
            'decode = "no-such-program {input} {output}"\nbitstream = ".bin"\nqualities = ["any"]\n'
            '[[evaluation]]\nname = "pics"\ntask = "image_classification"\nmodel = "python:a:b"\ndataset = { path = "python:c:d" }\n'
            'codecs = ["jpeg"]\noptional = ["mine"]\n'
        )
        assert pruned(store, unnamed=[str(suite)]) == 0
        assert cases(store) == ["pics-mine-any"]

    def test_knows_named_suites_from_any_folder_of_the_project(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        age(store, 1)
        monkeypatch.chdir(Path(__file__).parent)
        assert pruned(store, unnamed=["pocket"]) == 0

    def test_dry_run_removes_nothing(self, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
        age(store, 40)
        assert pruned(store, older_than=30 * DAY, dry_run=True) == 0
        assert len(cases(store)) == 5
        would = capsys.readouterr().out
        pruned(store, older_than=30 * DAY)
        assert capsys.readouterr().out == would.replace("would free", "freed")

    def test_keeps_what_was_just_written(self, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
        assert pruned(store, to=0) == 1
        assert len(cases(store)) == 5
        assert "stayed: written within the last ten minutes" in capsys.readouterr().err

    def test_keeps_what_a_running_process_has_open(self, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
        code = f"""
import sys, time; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import STATISTIC, contents, key_of, open_store
scope = open_store(sys.argv[1]).scope(STATISTIC, key_of(case="vit-jpeg-q5"))
print(len(contents(scope, range(20))), flush=True)
time.sleep(600)
"""
        process = script(code, store.folder)
        assert process.stdout is not None
        assert process.stdout.readline() == "20\n"
        age(store, 40)
        opened = sum(part.bytes for part in store.parts() if "vit-jpeg-q5" in [about["case"] for about in part.about])
        assert pruned(store, older_than=30 * DAY) == 1
        process.kill()
        process.communicate()
        assert cases(store) == ["vit-jpeg-q5"]
        said = capsys.readouterr()
        assert "1 scope stayed: a running process has them open" in said.err
        assert said.out.endswith(f", {in_bytes(opened)} left\n")
        age(store, 40)
        assert pruned(store, older_than=30 * DAY) == 0
        assert cases(store) == []

    def test_is_noticed_by_who_goes_on(self, store: LocalStore) -> None:
        """Who had closed a file, or comes back to one that is gone, writes a new one."""
        scope = store.scope(STATISTIC, key_of(case="vit-jpeg-q5"))
        assert len(contents(scope, range(20))) == 20
        for file in store.folder.rglob(f"{key_of(case='vit-jpeg-q5')}.db*"):
            file.unlink()
        assert contents(scope, range(20)) == {}
        scope.write(table([1]))
        assert contents(LocalStore(store.folder).scope(STATISTIC, key_of(case="vit-jpeg-q5")), range(20)) == expected([1])

    def test_of_older_formats(self, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
        for layer in (BITSTREAM, PREDICTION, "audit", "locks"):
            (store.folder / layer / "00").mkdir(parents=True)
            (store.folder / layer / "00" / "11").write_bytes(bytes(1000))
        assert show(str(store.folder)) == 0
        assert "also 4.0 kB in 4 files of an older mpq's" in capsys.readouterr().out
        assert pruned(store, old=True, dry_run=True) == 0
        assert len(list(store.folder.rglob("11"))) == 4
        assert pruned(store, old=True) == 0
        assert "freed 4.0 kB" in capsys.readouterr().out
        assert not list(store.folder.rglob("11"))
        assert len(cases(store)) == 5

    def test_needs_to_be_told_what(self, store: LocalStore, capsys: pytest.CaptureFixture[str]) -> None:
        assert pruned(store) == 2
        assert "--older-than 30d" in capsys.readouterr().err


class TestWords:
    @pytest.mark.parametrize(("text", "seconds"), [("12h", 43_200), ("30d", 30 * DAY), ("2w", 14 * DAY)])
    def test_of_an_age(self, text: str, seconds: int) -> None:
        assert duration(text) == seconds

    @pytest.mark.parametrize(("text", "count"), [("20GB", 20e9), ("500M", 5e8), ("1.5TB", 1.5e12), ("0", 0), ("7 kB", 7000), ("9B", 9)])
    def test_of_a_size(self, text: str, count: float) -> None:
        assert amount(text) == count

    @pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "30 days", "20XB", "GB"])
    def test_that_cannot_be(self, text: str) -> None:
        with pytest.raises(argparse.ArgumentTypeError, match="write 12h, 30d or 8w"):
            duration(text)
        if text not in ("30",):
            with pytest.raises(argparse.ArgumentTypeError, match=r"write 500MB, 20GB or 1\.5TB"):
                amount(text)

    @pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (123e6, "123 MB"), (4.56e12, "4.6 TB")])
    def test_of_bytes(self, count: float, text: str) -> None:
        assert in_bytes(count) == text
