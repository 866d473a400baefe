"""Batches on a Ray cluster: the same results as on one machine, whatever becomes of its nodes, and what cannot be is said at once."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import Project, heed_interrupts
from test_engines import Bench

pytest.importorskip("ray")

from mpq_fixtures.codecs.jpeg import Jpeg
from mpq_fixtures.engines.cluster import _knock
from mpq_fixtures.engines.ray import RayEngine, _Work
from mpq_fixtures.engines.tasks import Done
from mpq_fixtures.read_cache import ReadCache

MODEL = """
import ctypes
import os
import signal
import time
from pathlib import Path

import numpy as np

from mpq_fixtures.signals import Dataset, Image, Sample

ASKED = Path(__file__).with_name("asked")


def picture(number):
    return Image(np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8))


def pictures():
    samples = [Sample(f"p{n}", f"{n:064x}", 768, lambda n=n: picture(n), lambda n=n: n % 2) for n in range(20)]
    return Dataset(samples, ("even", "odd"))


class Model:
    batch_size = 2

    def __init__(self, deadly, endless=None):
        self.deadly, self.endless = deadly, endless

    def predict(self, signals):
        time.sleep(0.1)
        sums = [int(signal.pixels.sum()) for signal in signals]
        with ASKED.open("a") as file:
            file.write(f"{os.getpid()}\\n")
        if self.deadly in sums and len(sums) < 20:
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.endless in sums and len(sums) < 20:
            ctypes.PyDLL(None).pause()  # with Python's lock
        return [one % 2 for one in sums]


def load(device):
    return Model(None)


def load_deadly(device):
    return Model(int(picture(5).pixels.sum()))


def load_fatal(device):
    if "PYTEST_VERSION" not in os.environ:  # on a node
        os.kill(os.getpid(), signal.SIGSEGV)
    return Model(None)


def load_endless(device):
    return Model(None, int(picture(5).pixels.sum()))


class Sleeping(Model):
    def predict(self, signals):
        if self.endless in [int(signal.pixels.sum()) for signal in signals] and len(signals) < 20:
            time.sleep(10_000)  # without it
        return super().predict(signals)


def load_sleeping(device):
    return Sleeping(None, int(picture(5).pixels.sum()))
"""

SUITE = """
name = "one"
[[evaluation]]
name = "pictures"
task = "image_classification"
model = "python:far:load"
dataset = { path = "python:far:pictures" }
codecs = ["jpeg"]
qualities = { jpeg = ["q5", "q50"] }
"""


class Nodes:
    """A cluster whose head does no work, with nodes of one core."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MPQ_", "COV_", "RAY_"))}
        script = str(Path(__file__).with_name("ray_cluster.py"))
        self._process = subprocess.Popen(
            [sys.executable, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment | {"OMP_NUM_THREADS": "1"},
            preexec_fn=heed_interrupts,
        )
        self.address = self._answer()

    def add(self, **environment: str) -> None:
        """Add a node, in which these variables are set."""
        self._say(" ".join(["add", *(f"{name}={value}" for name, value in environment.items())]))

    def kill(self) -> None:
        """Kill the node that was added last."""
        self._say("kill")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        assert self._answer() == line.split()[0]

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    cluster = Nodes()
    cluster.add()
    cluster.add()
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was run in one process."""
    project = Project(tmp_path_factory.mktemp("alone"))
    project.write("evaluations/suites/far.py", MODEL)
    project.write("evaluations/suites/one.toml", SUITE)
    assert project.run("--mpq-cache", "alone", suite="one").ret == 0
    return project


@pytest.fixture
def project(alone: Project) -> Iterator[Project]:
    """The project without results, and a store that knows nothing but that the codec is honest, which takes longer than all the rest."""
    store = alone.folder / "store"
    for entries in (alone.folder / "alone").rglob("audit"):
        shutil.copytree(entries, store / entries.relative_to(alone.folder / "alone"))
    shutil.copytree(alone.folder / "reports", alone.folder / "expected", dirs_exist_ok=True)
    (alone.folder / "evaluations" / "suites" / "asked").unlink(missing_ok=True)
    yield alone
    shutil.rmtree(store, ignore_errors=True)


def asked(project: Project) -> list[str]:
    file = project.folder / "evaluations" / "suites" / "asked"
    return file.read_text().splitlines() if file.exists() else []


def wait_for_batches(project: Project, process: subprocess.Popen[str], count: int) -> None:
    started = time.monotonic()
    while len(asked(project)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - started < 200
        time.sleep(0.02)


def expected(project: Project) -> bytes:
    return (project.folder / "expected" / "latest" / "results.csv").read_bytes()


class TestCluster:
    def test_leaves_the_results_of_one_process(self, project: Project, nodes: Nodes) -> None:
        run = project.run("--mpq-cache", "store", "--mpq-engine", "ray", "--mpq-ray-address", nodes.address, suite="one")
        assert run.ret == 0
        assert project.out("results.csv").read_bytes() == expected(project)
        assert len(set(asked(project))) == 2, "both nodes have asked their model"
        assert str(os.getpid()) not in asked(project)
        run.stdout.fnmatch_lines(["time: * s in 2 workers, *predict * s*", "store: 40 bitstreams, 60 predictions, 60 statistics computed*"])
        seconds = project.results()["seconds"]
        assert seconds["predict"] > 0.1 * 10
        assert 0 < seconds["busy"] <= seconds["worker"]

    def test_that_is_interrupted_and_loses_nodes_leaves_the_same_results(self, project: Project, nodes: Nodes) -> None:
        arguments = ("--mpq-cache", "store", "--mpq-engine", "ray", "--mpq-ray-address", nodes.address)
        started = time.monotonic()
        process = project.start(*arguments, suite="one")
        wait_for_batches(project, process, 6)
        process.send_signal(signal.SIGINT)
        run = project.finish(process, started)
        assert run.ret == pytest.ExitCode.INTERRUPTED
        interrupted = len(asked(project))
        process = project.start(*arguments, suite="one")
        wait_for_batches(project, process, interrupted + 4)
        nodes.kill()
        nodes.add()
        wait_for_batches(project, process, interrupted + 12)
        nodes.kill()
        assert project.finish(process, started).ret == 0
        nodes.add()
        assert project.out("results.csv").read_bytes() == expected(project)

    def test_at_which_a_sample_kills_its_workers_measures_all_others(self, project: Project, nodes: Nodes) -> None:
        project.write("evaluations/suites/deadly.toml", SUITE.replace("far:load", "far:load_deadly").replace('"one"', '"deadly"'))
        arguments = ("--mpq-cache", "store", "--mpq-engine", "ray", "--mpq-ray-address", nodes.address, "-k", "original")
        run = project.run(*arguments, "--mpq-out", "deadly", suite="deadly")
        assert run.ret == pytest.ExitCode.TESTS_FAILED
        run.stdout.fnmatch_lines(["*p5*the worker died at it, 3 times*"])
        measured = project.samples("deadly").set_index("sample")["prediction"]
        kept = project.samples("expected/latest").query("case == 'pictures-original'").set_index("sample")["prediction"]
        assert set(kept.index) - set(measured.dropna().index) == {"p5"}
        assert (measured.dropna() == kept.drop("p5")).all()

    def test_at_which_no_model_can_be_opened_lets_each_case_fail(self, project: Project, nodes: Nodes) -> None:
        project.write("evaluations/suites/fatal.toml", SUITE.replace("far:load", "far:load_fatal").replace('"one"', '"fatal"'))
        arguments = ("--mpq-cache", "store", "--mpq-engine", "ray", "--mpq-ray-address", nodes.address, "-k", "not q50")
        process = project.start(*arguments, "--mpq-out", "fatal", suite="fatal")
        try:
            output, _ = process.communicate(timeout=150)
        finally:
            process.kill()
        assert process.returncode == pytest.ExitCode.TESTS_FAILED
        for case in ("pictures-original", "pictures-jpeg-q5"):
            assert f"{case}] - Failed: pictures: the workers died when they opened model or data" in output

    @pytest.mark.parametrize("how", ["endless", "sleeping"])
    def test_at_which_a_sample_takes_for_ever_measures_all_others(self, project: Project, nodes: Nodes, how: str) -> None:
        suite = SUITE.replace("far:load", f"far:load_{how}").replace('"one"', f'"{how}"') + "limits = { step_seconds = 1 }\n"
        project.write(f"evaluations/suites/{how}.toml", suite)
        arguments = ("--mpq-cache", "store", "--mpq-engine", "ray", "--mpq-ray-address", nodes.address, "-k", "original")
        run = project.run(*arguments, "--mpq-out", how, suite=how)
        assert run.ret == pytest.ExitCode.TESTS_FAILED
        run.stdout.fnmatch_lines(["*p5*the worker died at it, 3 times, or was ended there after the limit of 1 s*"])
        measured = project.samples(how).set_index("sample")["prediction"].dropna()
        kept = project.samples("expected/latest").query("case == 'pictures-original'").set_index("sample")["prediction"]
        assert (measured == kept.drop("p5")).all()

    def test_with_other_versions_is_refused_with_both(self, project: Project, nodes: Nodes) -> None:
        older = project.folder / "older" / "scipy-0.0.1.dist-info"
        older.mkdir(parents=True)
        (older / "METADATA").write_text("Metadata-Version: 2.1\nName: scipy\nVersion: 0.0.1\n")
        nodes.add(PYTHONPATH=os.pathsep.join(filter(None, [str(older.parent), os.environ.get("PYTHONPATH")])))
        try:
            run = project.run("--mpq-cache", "store", "--mpq-engine", "ray", "--mpq-ray-address", nodes.address, suite="one")
        finally:
            nodes.kill()
        assert run.ret == pytest.ExitCode.USAGE_ERROR
        run.stderr.fnmatch_lines(["ERROR: --mpq-engine ray: node * has other versions: here scipy 1.*; there scipy 0.0.1; *same*"])
        assert asked(project) == []


class TestRange:
    def test_is_one_batch_until_a_task_of_that_case_has_come_back(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path, 4096)
        quick, slow = _Work(bench.pipeline(), range(4096)), _Work(bench.pipeline(Jpeg()), range(4096))
        engine = RayEngine(None, ReadCache(0))  # type: ignore[arg-type]
        engine._coming.append(bench.evaluation.cases[0])  # so that nothing is shared out for the end of the run
        engine._batches[bench.evaluation] = 8, ""
        for work, seconds, batches in ((quick, 0.001, 64), (slow, 16.0, 1)):
            work.divide(8)
            first = engine._range(work)
            assert len(first.numbers) == 1
            engine._keep(first, Done("a worker", took=seconds))
            assert len(engine._range(work).numbers) == batches


class TestAddress:
    def test_where_nobody_listens_is_refused_at_once(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(pytest.UsageError, match=f"there is no cluster at 127.0.0.1:{port}: Connection refused"):
            _knock(f"127.0.0.1:{port}")

    def test_where_something_else_listens_is_refused_at_once(self) -> None:
        def answer() -> None:
            connection, _ = server.accept()
            connection.sendall(b"220 a mail server\r\n")
            connection.close()

        with socket.create_server(("127.0.0.1", 0)) as server:
            thread = threading.Thread(target=answer)
            thread.start()
            with pytest.raises(pytest.UsageError, match="is not the head of a Ray cluster"):
                _knock(f"127.0.0.1:{server.getsockname()[1]}")
            thread.join()

    @pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:", "http://head:80"])
    def test_of_another_form_is_refused(self, address: str) -> None:
        with pytest.raises(pytest.UsageError, match="is not HOST:PORT, auto or local"):
            _knock(address)

    def test_that_is_refused_leaves_earlier_results_alone(self, project: Project) -> None:
        before = project.out("results.json").read_bytes()
        run = project.run("--mpq-engine", "ray", "--mpq-ray-address", "ray://head:10001", suite="one")
        assert run.ret == pytest.ExitCode.USAGE_ERROR
        run.stderr.fnmatch_lines(["ERROR: --mpq-ray-address: 'ray://head:10001' is not HOST:PORT, auto or local*"])
        assert project.out("results.json").read_bytes() == before


class TestOptions:
    def test_of_xdist_are_refused_beside_ray(self, project: Project) -> None:
        run = project.run("--mpq-engine", "ray", "-n", "2", suite="one")
        assert run.ret == pytest.ExitCode.USAGE_ERROR
        run.stderr.fnmatch_lines(["ERROR: --mpq-engine ray: pytest stays alone in front of Ray's workers: leave out -n, or give -n 0"])

    def test_that_only_collect_start_no_cluster(self, project: Project) -> None:
        run = project.run("--mpq-engine", "ray", "--mpq-ray-address", "head", "--collect-only", "-q", suite="one")
        assert run.ret == 0

    def test_may_stand_in_the_ini_file(self, project: Project) -> None:
        project.write("ray.ini", "[pytest]\nmpq_engine = ray\nmpq_ray_address = nowhere\n")
        run = project.run("-c", "ray.ini", "--rootdir", ".", suite="one")
        assert run.ret == pytest.ExitCode.USAGE_ERROR
        run.stderr.fnmatch_lines(["ERROR: --mpq-ray-address: 'nowhere' is not HOST:PORT, auto or local*"])
