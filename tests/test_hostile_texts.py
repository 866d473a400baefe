"""Texts from outside that no file, terminal or page should have to deal with: they cost nobody else anything."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from projects import MODEL, Project

from mpq_fixtures.errors import describe_error
from mpq_fixtures.plain_text import plain

SURROGATE, ESCAPE, OVERRIDE = "\udc80", "\x1b[2J", "\u202e"
SEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class TestPlain:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("a\udcffb", r"a\xffb"),
            ("\ud800", r"\ud800"),
            ("\x1b[31mred", r"\x1b[31mred"),
            ("safe\u202etxt.exe", r"safe\u202etxt.exe"),
            ("two\nlines", r"two\x0alines"),
            ("naïve 写真 \N{ZERO WIDTH JOINER}", "naïve 写真 \N{ZERO WIDTH JOINER}"),
            (7, "7"),
        ],
    )
    def test_shows_all_of_a_text(self, text, shown):
        assert plain(text) == shown

    def test_lines_stay_where_they_are_wanted(self):
        assert plain("one\n\ttwo\x07", lines=True) == "one\n\ttwo\\x07"

    def test_leaves_no_character_that_unicode_calls_a_control_a_surrogate_or_a_change_of_direction(self):
        everything = plain("".join(map(chr, range(0x110000))))
        everything.encode()
        directions = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
        left = {c for c in everything if unicodedata.category(c) in ("Cc", "Cs") or unicodedata.bidirectional(c) in directions}
        assert not left

    def test_an_exception_whose_own_text_fails_is_still_named(self):
        class Silent(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        assert describe_error(Silent()) == "Silent"


def hostile(project: Project, old: str, new: str) -> None:
    project.write("evaluations/suites/model.py", MODEL.replace(old, new))
    assert old in MODEL


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def no_test_is_lost(project: Project, *arguments: str, failed: tuple[str, ...] = ()) -> str:
    """Run the suite, and hold what it leaves against what is expected: all files, and no text in them that acts."""
    done = project.run(*arguments, "--junitxml=junit.xml", report=True)
    output = "\n".join((*done.outlines, *done.errlines))
    assert "INTERNALERROR" not in output
    assert {case for case, outcome in project.outcomes().items() if outcome == "failed"} == set(failed)
    assert "not run" not in project.outcomes().values()
    for name in ("results.csv", "results.json", "samples.parquet", "report.html"):
        assert project.out(name).is_file()
    files = (project.out("results.csv"), project.out("report.html"), project.folder / "junit.xml")
    for text in (output, *(file.read_text() for file in files)):
        assert not SEEN.search(text)
    return output


@pytest.mark.parametrize("workers", ["2"])  # whose reports cross from process to process: there most was lost
class TestTexts:
    def test_of_a_failure(self, project, workers):
        fails = f"if signal.pixels[0, 0, 0] == picture(2).pixels[0, 0, 0]:\n        raise ValueError({SURROGATE + ESCAPE + OVERRIDE!r})"
        hostile(project, "def roughness(signal):\n", f"def roughness(signal):\n    {fails}\n")
        output = no_test_is_lost(project, "-n", workers, failed=("pictures-original",))
        assert r"\x80\x1b[2J\u202e" in output

    def test_of_ids_groups_and_labels(self, project, workers):
        hostile(project, 'Sample(f"p{n}",', f"Sample(f'p{{n}}' + {SURROGATE + ESCAPE!r},")
        project.edit("evaluations/suites/model.py", '("smooth", "rough")', f"('smooth' + {OVERRIDE!r}, 'rough' + {SURROGATE!r})")
        no_test_is_lost(project, "-n", workers)
        assert set(project.samples().loc[lambda rows: rows["case"] == "pictures-original", "sample"]) == {
            rf"p{n}\x80\x1b[2J" for n in range(6)
        }
        assert r"rough\x80" in set(project.samples()["prediction"])

    def test_ids_may_be_numbers(self, project, workers):
        hostile(project, 'Sample(f"p{n}",', "Sample(n,")
        no_test_is_lost(project, "-n", workers)
        assert set(project.samples().loc[lambda rows: rows["case"] == "pictures-original", "sample"]) == set("012345")

    def test_of_transcripts(self, project, workers):
        hostile(project, "    return min(TONES,", f"    return {SURROGATE + ESCAPE!r} + min(TONES,")
        no_test_is_lost(project, "-n", workers)

    def test_of_a_skip_and_of_an_error_of_the_data(self, project, workers):
        hostile(
            project,
            "def words():\n",
            f"def words():\n    from mpq_fixtures.errors import MissingAsset\n    raise MissingAsset({SURROGATE + ESCAPE!r})\n",
        )
        project.edit(
            "evaluations/suites/model.py", "def pictures():\n", f"def pictures():\n    raise RuntimeError({SURROGATE + OVERRIDE!r})\n"
        )
        output = no_test_is_lost(project, "-n", workers, "-rs", failed=("pictures-original", "pictures-jpeg-q5", "pictures-jpeg-q90"))
        assert r"\x80\x1b[2J" in output

    def test_of_an_exception_and_of_what_was_printed_under_way(self, project, workers):
        fixture = f"""
import pytest

pytest_plugins = ["mpq_fixtures.plugin", "mpq_fixtures.fixtures"]

@pytest.fixture(autouse=True)
def broken(case):
    print({SURROGATE!r}.encode("utf-8", "surrogateescape").decode("latin-1"))
    if case.id == "words-original":
        raise RuntimeError({SURROGATE!r})
"""
        project.write("conftest.py", fixture)
        done = project.run("-n", workers)
        assert "INTERNALERROR" not in "\n".join(done.outlines)
        assert project.outcomes()["words-original"] == "failed"
        assert list(project.outcomes().values()).count("passed") == 5


class TestAFolderWhoseNameIsNoUtf8:
    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
        folder.mkdir()
        return Project(folder)

    def test_works(self, project):
        project.run(report=True)
        assert set(project.outcomes().values()) == {"passed"}

    def test_cannot_have_workers_and_says_so(self, project):
        done = project.run("-n", "2")
        assert done.ret == pytest.ExitCode.USAGE_ERROR
        assert r"/caf\xe9: rename it, or leave out -n" in "\n".join(done.errlines)


class TestAFileWhoseNameIsNoUtf8:
    @pytest.fixture
    def photos(self, project):
        for number, name in enumerate(("smooth/one.png", "rough/two.png", "rough/three.png")):
            file = project.folder / "evaluations" / "suites" / "photos" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
            Picture.fromarray(pixels).save(file)
        odd = os.fsencode(project.folder) + b"/evaluations/suites/photos/rough/caf\xe9.png"
        Path(os.fsdecode(odd)).write_bytes((project.folder / "evaluations/suites/photos/rough/two.png").read_bytes() + b"\0")
        return project

    def suite(self, dataset: str, targets: str) -> str:
        return (
            f'name = "odd"\n[[evaluation]]\nname = "photos"\ntask = "image_classification"\nmodel = "python:model:sharpness"\n'
            f'dataset = {dataset}\ntargets = "{targets}"\ncodecs = ["jpeg"]\nqualities = {{ jpeg = ["q90"] }}\n'
        )

    def test_without_labels_is_read_as_any_other(self, photos):
        photos.write("evaluations/suites/odd.toml", self.suite('{ path = "photos", labels = ["smooth", "rough"] }', "original"))
        photos.run(suite="odd")
        assert set(photos.outcomes().values()) == {"passed"}
        assert r"rough/caf\xe9.png" in set(photos.samples()["sample"])

    def test_with_labels_is_that_samples_failure(self, photos):
        photos.write("evaluations/suites/odd.toml", self.suite('{ path = "imagefolder", data_dir = "photos" }', "labels"))
        photos.edit(
            "evaluations/suites/model.py",
            "def sharpness(device):\n    return Model(roughness)",
            "def sharpness(device):\n    model = Model(roughness)\n    model.labels = ('smooth', 'rough')\n    return model",
        )
        done = photos.run(suite="odd")
        failures = {(case["case"], one["sample"]) for case in photos.results()["cases"] for one in case["failures"]}
        assert failures == {(f"photos-{point}", r"rough/caf\xe9.png") for point in ("original", "jpeg-q90")}, done.outlines
        assert all(case["samples"] == 3 for case in photos.results()["cases"])
