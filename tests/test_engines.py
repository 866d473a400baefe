"""Workers that share cases: who works on what, what a dead one leaves, and that results do not tell how many there were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from projects import Project

from mpq_fixtures.codecs import Codec
from mpq_fixtures.codecs.jpeg import Jpeg
from mpq_fixtures.engines import local
from mpq_fixtures.engines.claims import Claims
from mpq_fixtures.engines.local import LocalEngine, uninterrupted
from mpq_fixtures.engines.ranges import batches_of_range
from mpq_fixtures.engines.work_data import folder_of, look_up
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.resources import Resources
from mpq_fixtures.rows import Failure
from mpq_fixtures.signals import Dataset, Image, Sample
from mpq_fixtures.store import StoreError, open_store
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task

WORK = "the key of a case's rows"

ANOTHER = """
import sys, time
from pathlib import Path
from mpq_fixtures.engines.claims import Claims

claims = Claims(Path(sys.argv[1]), "session")
print(claims.take("the key of a case's rows", range(4), 2), flush=True)
with claims.open("pictures-jpeg-q5"):
    time.sleep(300)
"""

SLOW_MODEL = """
import os
import time

import numpy as np

from mpq_fixtures.signals import Dataset, Image, Sample


def picture(number):
    return Image(np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8))


def pictures():
    samples = [Sample(f"p{n}", f"{n:064x}", 768, lambda n=n: picture(n), lambda n=n: n % 2) for n in range(24)]
    return Dataset(samples, ("even", "odd"))


class Model:
    batch_size = 2

    def predict(self, signals):
        time.sleep(float(os.environ.get("TRIED_DELAY", "0.15")))
        with open("batches", "a") as file:
            file.write(f"{os.getpid()} {' '.join(str(int(signal.pixels.sum())) for signal in signals)}\\n")
        return [int(signal.pixels.sum()) % 2 for signal in signals]


def load(device):
    return Model()
"""

ONE = """
name = "one"
[[evaluation]]
name = "pictures"
task = "image_classification"
model = "python:slow:load"
dataset = { path = "python:slow:pictures" }
codecs = ["jpeg"]
qualities = { jpeg = ["q5", "q50"] }
"""


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    return Claims(tmp_path, "session", 2)


class TestClaims:
    def test_of_one_are_no_one_else_s(self, claims: Claims, tmp_path: Path) -> None:
        other = Claims(tmp_path, "session", 2)
        assert claims.take(WORK, range(5), 2) == [0, 1]
        assert other.take(WORK, range(5), 9) == [2, 3, 4]
        assert claims.take(WORK, range(5), 9) == []
        assert claims.take("another case", range(5), 1) == [0]

    def test_are_free_again_when_given_back(self, claims: Claims, tmp_path: Path) -> None:
        claims.take(WORK, range(3), 3)
        claims.give_back(WORK, [1])
        assert Claims(tmp_path, "another session").take(WORK, range(3), 3) == [1]

    def test_look_at_no_more_batches_than_they_take(self, claims: Claims, tmp_path: Path) -> None:
        seen: list[int] = []

        class Batches(Sequence[int]):
            def __len__(self) -> int:
                return 1000

            def __getitem__(self, place: Any) -> Any:
                seen.append(place)
                return range(1000)[place]

        Claims(tmp_path, "session", 2).take(WORK, range(3), 3)
        assert claims.take(WORK, Batches(), 2) == [3, 4]
        assert seen == [0, 1, 2, 3, 4]

    def test_of_a_killed_worker_are_free_at_once(self, tmp_path: Path) -> None:
        claims = Claims(tmp_path, "session", 2)
        another = subprocess.Popen([sys.executable, "-c", ANOTHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert another.stdout is not None
        assert another.stdout.readline().strip() == "[0, 1]"
        assert claims.take(WORK, range(4), 4) == [2, 3]
        while not claims.open_cases():
            time.sleep(0.01)
        assert claims.others_at_work()
        another.kill()
        another.wait()
        killed = time.monotonic()
        while claims.others_at_work():
            assert time.monotonic() - killed < 5
            time.sleep(0.01)
        assert claims.take(WORK, range(4), 4) == [0, 1]
        assert claims.open_cases() == {}
        assert len(list((tmp_path / "workers").iterdir())) == 1, "the dead worker's lock is left"

    def test_failures_and_seconds_are_the_session_s(self, claims: Claims, tmp_path: Path) -> None:
        other, stranger = Claims(tmp_path, "session", 2), Claims(tmp_path, "another")
        failure = Failure("p1", "decode", "OSError: it's broken")
        claims.give_back(WORK, [], [failure], {"decode": 1.5})
        other.give_back(WORK, [], [], {"decode": 0.25, "predict": 2.0})
        assert other.failures(WORK) == {"p1": failure}
        assert claims.seconds(WORK) == {"decode": 1.75, "predict": 2.0}
        assert stranger.failures(WORK) == {}
        assert stranger.seconds(WORK) == {}
        claims.close()
        assert other.failures(WORK) == {"p1": failure}
        other.close()
        assert Claims(tmp_path, "session").failures(WORK) == {}, "they outlived their session"

    def test_failures_are_read_once_each(self, claims: Claims, tmp_path: Path) -> None:
        other, read = Claims(tmp_path, "session", 2), list[int]()
        rows = claims._data.rows

        def count(query: str, *values: object) -> list[tuple[Any, ...]]:
            found = rows(query, *values)
            read.append(len(found))
            return found

        claims._data.rows = count  # type: ignore[method-assign]
        failures = {f"p{number}": Failure(f"p{number}", "decode", "broken") for number in range(300)}
        for number, failure in enumerate(failures.values()):
            (claims, other)[number % 2].give_back(WORK, [], [failure])
            other.give_back("another case", [], [failure])
            assert len(claims.failures(WORK)) == number + 1
        assert claims.failures(WORK) == other.failures(WORK) == failures
        assert sum(read) == 300
        again = Failure("p0", "encode", "broken again")
        other.give_back(WORK, [], [again])
        assert claims.failures(WORK) == failures | {"p0": again}
        assert claims.failures("another case") == failures

    def test_open_cases_are_those_of_others_with_what_is_left_of_them(self, claims: Claims, tmp_path: Path) -> None:
        other = Claims(tmp_path, "session", 2)
        with claims.open("a", "b"):
            claims.expect("b", 2.5)
            assert other.open_cases() == {"a": None, "b": 2.5}
            assert claims.open_cases() == {}
            assert Claims(tmp_path, "another").open_cases() == {}
        assert other.open_cases() == {}

    def test_workers_that_rest_are_not_at_work(self, claims: Claims, tmp_path: Path) -> None:
        assert not claims.others_at_work()
        other = Claims(tmp_path, "session", 2)
        assert claims.others_at_work()
        other.rest()
        assert not claims.others_at_work()

    def test_keep_nobody_waiting_while_everybody_lives(self, claims: Claims, tmp_path: Path) -> None:
        other = Claims(tmp_path, "session", 2)
        other._data._data.execute("pragma busy_timeout = 0")  # who has to wait for another says so
        with claims._data.writing():
            for _ in range(3):
                assert other.others_at_work()
                time.sleep(0.3)

    def test_without_a_folder_are_all_one_s_own(self) -> None:
        assert Claims().take(WORK, range(3), 2) == [0, 1]
        assert not Claims().others_at_work()

    def test_where_there_is_no_folder_are_an_error_with_the_way_out(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="choose another --mpq-cache"):
            Claims(tmp_path / "file")

    def test_lie_on_this_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert folder_of(tmp_path / "store") == tmp_path / "store" / "work"
        assert tmp_path in folder_of("s3://bucket/mpq").parents
        assert folder_of("s3://bucket/mpq") != folder_of("s3://bucket/other")


class TestRange:
    def test_takes_two_seconds(self) -> None:
        assert batches_of_range(0.01, 4, 1000) == 50

    def test_is_one_batch_where_nothing_is_known_and_where_a_batch_takes_longer(self) -> None:
        assert batches_of_range(None, 4, 1000) == batches_of_range(7.0, 4, 1000) == batches_of_range(None, 4, 0) == 1

    def test_is_at_most_what_may_be_taken_and_what_memory_holds(self) -> None:
        assert batches_of_range(0.01, 4, 3) == 3
        assert batches_of_range(1e-9, 64, 1000) * 64 == 512


QUICK = """
import time


class Model:
    batch_size = 4

    def predict(self, signals):
        events.append(("predict", time.monotonic()))
        time.sleep({seconds} * len(signals))
        events.append(("predicted", time.monotonic()))
        return [int(signal.pixels.mean()) % 2 for signal in signals]


events = []
models = []


def load(device):
    models.append(Model())
    return models[-1]
"""


class Slow(Jpeg):
    """JPEG that takes its time, and first calls what it was made with."""

    def __init__(self, seconds: float, look: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._seconds, self._look = seconds, look

    def encode(self, signal: Image, quality: str) -> bytes:
        self._look()
        time.sleep(self._seconds)
        return super().encode(signal, quality)


class Bench:
    """A worker alone at some pictures."""

    def __init__(self, folder: Path, pictures: int, predicts: float = 0.0, workers: int = 1) -> None:
        def picture(number: int) -> Image:
            return Image(np.full((8, 8, 3), number % 256, np.uint8))

        samples = [Sample(f"p{n}", f"{n:064x}", 192, lambda n=n: picture(n), lambda n=n: n % 2) for n in range(pictures)]  # type: ignore[misc]
        (folder / "model.py").write_text(QUICK.format(seconds=predicts))
        self.folder, self.dataset = folder / "work", Dataset(samples, ("even", "odd"))
        self.evaluation = Evaluation("e", "s", find_task("image_classification"), "python:model:load", {"path": "python:x:y"}, (), folder)
        self.model, self.engine = OpenModel(self.evaluation, "cpu"), LocalEngine(self.folder, "session", workers)
        self.resources = Resources(open_store(folder / "store"), Clock(), engine=self.engine)

    def pipeline(self, codec: Codec | None = None) -> Pipeline:
        case = Case(self.evaluation, "jpeg", "q50") if codec else self.evaluation.cases[0]
        return Pipeline(case, self.dataset, self.model, codec, self.resources)

    def claimed(self) -> int:
        """How many batches are claimed now."""
        ((count,),) = look_up(self.folder, "select count(*) from claims")
        return int(count)


class TestLostWork:
    """What a kill costs: claims and what is not written yet are of the last seconds, however quick the case before was."""

    SECONDS, LATER = 0.02, 60

    def test_is_of_seconds_after_a_quick_case(self, tmp_path: Path) -> None:
        bench, held = Bench(tmp_path, 512), []

        def look() -> None:
            held.append(bench.claimed())
            if len(held) == self.LATER:
                raise KeyboardInterrupt

        assert bench.engine.complete(bench.pipeline()) == {}
        slow = bench.pipeline(Slow(self.SECONDS, look))
        with pytest.raises(KeyboardInterrupt):
            bench.engine.complete(slow)
        assert max(held) * slow.batch_size * self.SECONDS < 2 + 2 * slow.batch_size * self.SECONDS
        assert bench.claimed() == 0

    def test_is_written_every_few_seconds(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local, "STRETCH", 0.1)
        bench, unwritten = Bench(tmp_path, 512), list[int]()
        bench.engine.complete(bench.pipeline())
        rows = bench.pipeline(Slow(0)).rows

        def look() -> None:
            if len(unwritten) % 16 == 0:
                unwritten.append(len(unwritten) - len(rows.found(bench.dataset.sources(range(512)))))
            else:
                unwritten.append(0)

        slow = bench.pipeline(Slow(0.002, look))
        assert bench.engine.complete(slow) == {}
        assert len(unwritten) == 512
        assert max(unwritten) <= 0.1 / 0.002 + 2 * slow.batch_size


class TestAhead:
    """While the model is at a batch the next one is got ready, however long a batch takes."""

    def events(self, bench: Bench) -> list[tuple[str, float]]:
        found: list[tuple[str, float]] = []
        assert bench.engine.complete(bench.pipeline(Slow(0.02, lambda: found.append(("encode", time.monotonic()))))) == {}
        return sorted([*found, *sys.modules[type(bench.model.ready()).__module__].events], key=lambda event: event[1])

    def test_of_the_model_is_one_batch(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local, "STRETCH", 0.05)
        assert self.overlaps(Bench(tmp_path, 20, 0.02)) >= 2

    def test_is_nothing_where_another_may_have_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(local, "STRETCH", 0.05)
        assert self.overlaps(Bench(tmp_path, 12, 0.02, workers=4)) == 0

    def overlaps(self, bench: Bench) -> int:
        """Count the predictions of batches of the case during which something was encoded."""
        count = under_way = 0
        encoded = False
        for name, _ in self.events(bench):
            if name == "encode":
                encoded |= bool(under_way)
            elif name == "predict":
                under_way, encoded = 1, False
            else:
                count, under_way = count + encoded, 0
        return count


class TestHelp:
    """Of a worker that has no test left, for one that does."""

    @pytest.mark.parametrize("reason", ["raise MemoryError", "raise ValueError('no weights')", "import no_such_module"])
    def test_that_cannot_be_given_is_no_fault_of_the_run(self, tmp_path: Path, reason: str) -> None:
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
        bench, broken = Bench(tmp_path / "one", 40, 0.01, workers=2), Bench(tmp_path / "other", 40)
        (tmp_path / "other" / "model.py").write_text(f"def load(device):\n    {reason}\n")
        joined, tried = threading.Event(), list[str]()

        def pipeline_of(case: str) -> Pipeline:
            tried.append(case)
            return broken.pipeline()

        def help_out() -> None:
            engine = LocalEngine(bench.folder, "session", 2)
            engine.join()
            joined.set()
            engine.help(pipeline_of)
            engine.close()

        pipeline = bench.pipeline()
        bench.engine.join()
        with ThreadPoolExecutor(1) as threads:
            helper = threads.submit(help_out)
            joined.wait(30)
            with bench.engine.at(pipeline):
                time.sleep(0.2)
                assert bench.engine.complete(pipeline) == {}
                time.sleep(0.7)
            bench.engine.claims.rest()
            helper.result(30)
        assert tried == [pipeline.case.id]
        assert len(pipeline.rows.found(bench.dataset.sources(range(40)))) == 40


class TestInterrupt:
    def test_waits_until_what_was_measured_is_written(self) -> None:
        written = []

        def write() -> None:
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
                written.append("whole")

        with pytest.raises(KeyboardInterrupt):
            write()
        assert written == ["whole"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class TestOneCase:
    """Twenty-four pictures, two in a batch, a model that takes its time and writes down what it was asked by which process."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Project:
        project = Project(tmp_path)
        project.write("evaluations/suites/slow.py", SLOW_MODEL)
        project.write("evaluations/suites/one.toml", ONE)
        return project

    @staticmethod
    def batches(project: Project) -> list[tuple[str, tuple[str, ...]]]:
        """Who was asked for which pictures; the first two are asked one by one as well, before anything is predicted."""
        lines = [line.split() for line in (project.folder / "batches").read_text().splitlines()]
        return [(worker, tuple(pictures)) for worker, *pictures in lines if len(pictures) == 2]

    def test_is_shared_by_all_workers_and_no_batch_is_asked_twice(self, project: Project) -> None:
        run = project.run("-n", "3", "--mpq-case", "pictures-jpeg-q5", suite="one", TRIED_DELAY="0.7")
        assert run.ret == 0
        asked = self.batches(project)
        times = Counter(pictures for _, pictures in asked)
        assert len(times) == 24  # of the originals and of JPEG
        assert sorted(times.values()) == [1] * 23 + [2]  # one was held against its pictures alone
        shares = Counter(worker for worker, _ in asked)
        assert len(shares) == 3
        assert min(shares.values()) >= 2

    @pytest.mark.parametrize("workers", [["-n", "2"], ["-n", "4"]], ids=["2 workers", "4 workers"])
    def test_leaves_the_results_of_one_worker(self, project: Project, workers: list[str]) -> None:
        assert project.run(suite="one").ret == 0
        alone = project.out("results.csv").read_bytes()
        assert project.run("--mpq-cache", "another", *workers, suite="one").ret == 0
        assert project.out("results.csv").read_bytes() == alone

    def test_killed_five_times_leaves_the_results_of_an_undisturbed_run(self, project: Project) -> None:
        assert project.run(suite="one").ret == 0
        undisturbed, asked = project.out("results.csv").read_bytes(), {pictures for _, pictures in self.batches(project)}
        (project.folder / "batches").unlink()
        for number in range(1, 6):
            process = project.start("-n", "2", "--mpq-cache", "another", suite="one", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not (project.folder / "batches").exists() or len(self.batches(project)) < 4 * number:
                assert process.poll() is None
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert project.run("-n", "2", "--mpq-cache", "another", suite="one").ret == 0
        assert project.out("results.csv").read_bytes() == undisturbed
        assert {pictures for _, pictures in self.batches(project)} == asked
