"""`mpq list`: every name that it gives is one that a suite file takes, and none is left out."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from projects import heed_interrupts

from mpq_fixtures import codecs
from mpq_fixtures.__main__ import main
from mpq_fixtures.commands import doctor, plan
from mpq_fixtures.commands.advise_words import saving
from mpq_fixtures.commands.listing import WHAT

PROJECT = Path(__file__).parents[1]


def listed(capsys, what: str, *options: str) -> list[list[str]]:
    assert main(["list", what, *options]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


class TestList:
    def test_each_file_of_a_task_and_of_a_codec_is_there(self, capsys):
        for what, folder in (("tasks", "tasks"), ("codecs", "codecs")):
            names = {line[0] for line in listed(capsys, what)}
            files = {path.stem for path in (PROJECT / "mpq_fixtures" / folder).glob("[a-z]*.py")} - {"command", "scaling", "embedding"}
            packages = {path.parent.name for path in (PROJECT / "mpq_fixtures" / folder).glob("[a-z]*/__init__.py")}
            assert files | packages <= names

    def test_each_quality_is_one_that_its_codec_takes(self, capsys):
        lines = listed(capsys, "qualities")
        assert len(lines) == len(codecs.registered())
        for name, _, *qualities in lines:
            for quality in qualities[: qualities.index("any")] if "any" in qualities else qualities:
                if quality != "also":
                    codecs.instance(name).check(quality.rstrip(";"))

    def test_qualities_are_those_of_all_networks_and_of_all_bit_rates(self, capsys):
        qualities = {name: words for name, _, *words in listed(capsys, "qualities")}
        assert {"6k_48khz", "24k_48khz"} <= set(qualities["encodec"])
        modes = {"4.75k", "5.15k", "5.9k", "6.7k", "7.4k", "7.95k", "10.2k", "12.2k"}  # 3GPP TS 26.071
        assert modes == {word.rstrip(";") for word in qualities["amr"]} - {"also"}
        assert {"40k", "320k"} <= set(qualities["mp3"])  # ISO/IEC 11172-3, where there is no 9k
        assert "any" not in qualities["mp3"]

    def test_suites_are_the_files_with_as_many_cases_as_they_have(self, capsys):
        assert {line[0] for line in listed(capsys, "suites")} == {path.stem for path in (PROJECT / "evaluations/suites").glob("*.toml")}
        pocket = next(line for line in listed(capsys, "suites") if line[0] == "pocket")
        content = tomllib.loads((PROJECT / "evaluations/suites/pocket.toml").read_text())
        assert [name.rstrip(",") for name in pocket[3:]] == [evaluation["name"] for evaluation in content["evaluation"]]

    def test_metrics_say_what_they_decide(self, capsys):
        assert main(["list", "metrics"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith("miou ") and line.endswith("decides image_segmentation") for line in lines)
        assert any(line.startswith("lpips ") and "only where a suite names it" in line for line in lines)

    @pytest.mark.parametrize("what", WHAT)
    def test_json_has_the_same_names(self, capsys, what):
        names = [line[0] for line in listed(capsys, what)]
        assert main(["list", what, "--json"]) == 0
        entries = json.loads(capsys.readouterr().out)
        assert [entry["name"] for entry in entries] == names
        assert all(set(entry) == {"name", "kind", "what", "lack"} for entry in entries)

    def test_a_plugin_that_does_not_import_is_said(self, capsys):
        assert main(["list", "codecs", "-p", "there_is_no_such_module"]) == 2
        assert main(["doctor", "-p", "there_is_no_such_module"]) == 2
        assert "-p there_is_no_such_module: it does not import" in capsys.readouterr().err


class TestTerminal:
    @staticmethod
    def start(*arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "mpq_fixtures", *arguments], cwd=PROJECT, text=True, preexec_fn=heed_interrupts,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def test_output_that_nobody_reads_is_no_error(self):
        process = self.start("list", "codecs")
        process.stdout.close()
        assert (process.wait(120), process.stderr.read()) == (128 + signal.SIGPIPE, "")

    def test_an_interrupt_ends_in_a_line(self):
        process = self.start("doctor")
        assert process.stdout.readline() == "models and data sets\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (128 + signal.SIGINT, "mpq doctor: stopped\n")

    def test_what_is_advised_is_in_the_letters_of_any_terminal(self):
        assert saving(120, 100).encode("ascii") == b"-20.0 %"


class TestPlaceOfTheStore:
    @pytest.mark.parametrize("prefix", ["", "file://"])
    def test_is_a_folder_also_as_a_url(self, tmp_path, monkeypatch, capsys, prefix):
        monkeypatch.setenv("MPQ_CACHE", f"{prefix}{tmp_path}/store")
        free = shutil.disk_usage(tmp_path).free
        assert doctor._store() == []
        assert f"folder   {tmp_path}/store, " in capsys.readouterr().out
        assert abs(plan._machine().room - free) < 2**30

    def test_elsewhere_has_a_room_that_is_not_known(self, monkeypatch, capsys):
        monkeypatch.setenv("MPQ_CACHE", "s3://bucket/mpq")
        assert doctor._store() == []
        assert capsys.readouterr().out == "store\n  place    s3://bucket/mpq, whose room is not known here\n"
        assert plan._machine().room == math.inf
