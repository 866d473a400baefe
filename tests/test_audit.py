"""What every run does before it believes a codec: nothing stale from the store, nothing that the bytes do not hold."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dishonest_codecs
import pytest
from projects import ROOT, places
from trial_records import EVALUATION
from trial_signals import photo

from mpq_fixtures import codecs
from mpq_fixtures.conformance.audit import audit
from mpq_fixtures.conformance.stored import audited
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.resources import Resources
from mpq_fixtures.signals import Dataset, Image, Sample
from mpq_fixtures.store import open_store
from mpq_fixtures.suite import Case

PLUGIN = """
import dishonest_codecs
from mpq_fixtures.codecs import Codec


class Honest(dishonest_codecs.Levels):
    name = "plain_levels"


class Cheat(dishonest_codecs.HashedFile):
    name = "keeps_a_file"


class Reuses(dishonest_codecs.OneBuffer):
    name = "one_buffer"


class Broken(dishonest_codecs.Levels):
    name = "broken_levels"

    def encode(self, signal, quality):
        if signal.pixels.flags.writeable:
            raise AssertionError("the original can be changed")
        if quality == "4l":
            raise KeyError("no such table")
        return super().encode(signal, quality)
"""


def run(folder: Path, codec: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "tried_codecs.py").write_text(PLUGIN)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tests")]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "evaluations", "-q", "-p", "tried_codecs", "-p", "no:cacheprovider"]
    command += ["--mpq-case", f"vit_pocket-{codec}-*", "--mpq-samples", "4"]
    command += [*places(folder), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "results.csv").open() as file:
        return list(csv.DictReader(file))


class TestARun:
    def test_believes_an_honest_codec(self, tmp_path: Path) -> None:
        assert "3 passed" in run(tmp_path, "plain_levels").stdout
        assert all(row["value"] for row in rows(tmp_path))

    def test_believes_no_decoder_that_reads_the_original_from_a_file(self, tmp_path: Path) -> None:
        for _ in range(2):  # the second one is told by the store
            found = run(tmp_path, "keeps_a_file")
            assert "3 failed" in found.stdout, found.stdout
            assert "vit_pocket-keeps_a_file-4l: codec keeps_a_file is not honest: the decoder opened" in found.stdout
            assert "which the encoder wrote" in found.stdout
            assert not any(row["value"] for row in rows(tmp_path))

    def test_believes_no_decoder_that_uses_its_array_again(self, tmp_path: Path) -> None:
        found = run(tmp_path, "one_buffer")
        assert "3 failed" in found.stdout
        assert "codec one_buffer changes what it decoded when it decodes the next" in found.stdout

    def test_protects_originals_and_says_where_a_codec_raised(self, tmp_path: Path) -> None:
        found = run(tmp_path, "broken_levels")
        assert "1 failed, 2 passed" in found.stdout, found.stdout
        assert "4 of 4 samples failed" in found.stdout
        assert "at encode: KeyError: 'no such table' (tried_codecs.py, line 25)" in found.stdout


class Particular(dishonest_codecs.Attribute):
    """Keeps the original, and takes no small picture."""

    def encode(self, signal: Image, quality: str) -> bytes:
        if len(signal.pixels) < 8:
            raise ValueError("this picture is too small")
        return super().encode(signal, quality)


def unreadable() -> Image:
    raise ValueError("no picture")


class TestWhatIsKept:
    def audited(self, folder: Path, *reads: Callable[[], Image]) -> list[str]:
        samples = [Sample(str(number), f"{number:064x}", 1, read, lambda: 0) for number, read in enumerate(reads)]
        case = Case(dataclasses.replace(EVALUATION, points=(("particular", "4l"), ("particular", "64l"))), "particular", "4l")
        return audited(case, Particular(), Dataset(samples), Resources(open_store(folder), Clock()))

    def test_is_of_the_first_samples_that_the_codec_takes(self, tmp_path: Path) -> None:
        (fault,) = self.audited(tmp_path, lambda: photo(4, 4), unreadable, lambda: photo(4, 4), lambda: photo(32, 32))
        assert "cannot decode in a fresh process" in fault

    @pytest.mark.parametrize("nothing", [unreadable, lambda: photo(4, 4)], ids=["unreadable", "refused"])
    def test_is_nothing_where_nothing_was_tried(self, tmp_path: Path, nothing: Callable[[], Image]) -> None:
        assert self.audited(tmp_path, *[nothing] * 3) == []
        assert self.audited(tmp_path, lambda: photo(32, 32))  # of other data, on the same store


class TestAPluginWithAMistake:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ('name, modality, ladder = "mine", IMAGE, ()', "codec Mine (bad_codec.py, line 2): its ladder () needs distinct qualities"),
            ('name, modality, ladder = "My", IMAGE, ("a",)', "codec Mine (bad_codec.py, line 2): name 'My': use lower case"),
            (
                'name, modality, ladder = "mine", IMAGE, ("a",)',
                "(bad_codec.py, line 2): it lacks the method build, decode, encode",
            ),
        ],
    )
    def test_is_one_sentence(self, tmp_path: Path, source: str, message: str) -> None:
        (tmp_path / "bad_codec.py").write_text(f"from mpq_fixtures.codecs import IMAGE, Codec\nclass Mine(Codec):\n    {source}\n")
        command = [sys.executable, "-m", "pytest", "evaluations", "-q", "-p", "bad_codec", "-p", "no:cacheprovider", "--collect-only"]
        found = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=100
        )
        assert found.returncode == 4
        assert message in found.stderr
        assert "Traceback" not in found.stderr + found.stdout
        assert "INTERNALERROR" not in found.stderr + found.stdout

    def test_is_seen_by_doctor(self, tmp_path: Path) -> None:
        (tmp_path / "bad_codec.py").write_text("from mpq_fixtures.codecs import Codec\nclass Mine(Codec):\n    name = 'mine'\n")
        command = [sys.executable, "-m", "mpq_fixtures", "doctor", "-p", "bad_codec"]
        found = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=100
        )
        assert found.returncode == 2
        assert found.stderr == "mpq doctor: codec Mine (bad_codec.py, line 2): it has no 'modality'\n"


HELPED = """
import helping
from helping.numbers import STEP
from mpq_fixtures.codecs import IMAGE, Codec
from mpq_fixtures.signals import Image


class Helped(Codec):
    name, modality, ladder = "helped", IMAGE, ("a",)

    def build(self):
        return "1"

    def encode(self, signal, quality):
        import late_helper
        return bytes([STEP]) * late_helper.LENGTH

    def decode(self, data):
        raise ValueError
"""


FILES = ["helped_codec.py", "helping/__init__.py", "helping/numbers.py", "helping/deeper.py", "late_helper.py"]


class TestAFingerprint:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        (tmp_path / "helping").mkdir()
        (tmp_path / "helping" / "__init__.py").write_text("")
        (tmp_path / "helping" / "numbers.py").write_text("from .deeper import STEP\n")
        (tmp_path / "helping" / "deeper.py").write_text("STEP = 3\n")
        (tmp_path / "late_helper.py").write_text("LENGTH = 3\n")
        (tmp_path / "helped_codec.py").write_text(HELPED)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(codecs, "_registry", dict(codecs._registry))
        yield tmp_path
        for name in [name for name in sys.modules if name.partition(".")[0] in ("helping", "late_helper", "helped_codec")]:
            del sys.modules[name]

    @pytest.mark.parametrize(
        "changed", ["helped_codec.py", "helping/__init__.py", "helping/numbers.py", "helping/deeper.py", "late_helper.py"]
    )
    def test_covers_what_its_module_imports_from_outside_of_packages(self, folder: Path, changed: str) -> None:
        codec = importlib.import_module("helped_codec").Helped()
        before = codec.fingerprint()
        codec.encode(photo(8, 8), "a")  # what is imported later must not change it
        assert codec.fingerprint() == before
        with (folder / changed).open("a") as file:
            file.write("# changed\n")
        assert codec.fingerprint() != before

    def test_covers_the_versions_of_the_packages_that_it_imports(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (folder / "late_helper.py").write_text("import scipy.signal\nLENGTH = 3\n")
        codec = importlib.import_module("helped_codec").Helped()
        before = codec.fingerprint()
        monkeypatch.setattr("mpq_fixtures.codecs._sources._version", lambda package: f"{package} another")
        assert codec.fingerprint() != before


DYING = """
import os
import signal
from pathlib import Path

from dishonest_codecs import Levels

HERE, DIED = Path(__file__).parent, Path(__file__).with_name("died")


class Dying(Levels):
    name = "dying"

    def decode(self, data):
        if Path.cwd().name == "work" and ((HERE / "always").exists() or not DIED.exists()):  # in a fresh process
            DIED.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().decode(data)
"""


class TestAProcessThatIsLost:
    @pytest.fixture
    def codec(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[codecs.Codec]:
        (tmp_path / "dying_codec.py").write_text(DYING)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(codecs, "_registry", dict(codecs._registry))
        yield importlib.import_module("dying_codec").Dying()
        del sys.modules["dying_codec"]

    def test_once_is_no_fault_of_the_codec(self, codec: codecs.Codec, tmp_path: Path) -> None:
        assert audit(codec, ["4l", "64l"], [photo(16, 16)]) == []
        assert (tmp_path / "died").exists()

    def test_again_is_one(self, codec: codecs.Codec, tmp_path: Path) -> None:
        (tmp_path / "always").touch()
        (fault,) = audit(codec, ["4l", "64l"], [photo(16, 16)])
        assert "cannot decode in a fresh process" in fault
        assert "ended with SIGKILL" in fault
