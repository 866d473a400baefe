"""The way through, with real codecs, pocket data and a small model named by a suite file."""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import math
import re
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpq_fixtures import codecs
from mpq_fixtures.chain import digest_of_array
from mpq_fixtures.codecs import Codec, jpeg
from mpq_fixtures.codecs.jpeg import Jpeg
from mpq_fixtures.codecs.opus import Opus
from mpq_fixtures.engines.local import LocalEngine
from mpq_fixtures.engines.work_data import look_up
from mpq_fixtures.evaluate import evaluate, finish
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.models.batching import Choice
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.pocket import songs, textures
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.processes.prefetch import Crew, Hands, ahead
from mpq_fixtures.record import Record
from mpq_fixtures.resources import Resources
from mpq_fixtures.sample_errors import SampleError
from mpq_fixtures.signals import Audio, Dataset, Image, Sample
from mpq_fixtures.statistics.intervals import interval
from mpq_fixtures.store import LAYERS, STATISTIC, DamagedEntry, StoreError, open_store
from mpq_fixtures.store.packs import sample_key
from mpq_fixtures.suite import OWN_ANSWERS, Case, Evaluation
from mpq_fixtures.tasks import find_task

GREYNESS = """
class Greyness:
    \"\"\"Calls a picture by its mean level.\"\"\"

    batch_size = 2

    def __init__(self):
        self.batches = []

    def predict(self, signals):
        self.batches.append([int(signal.pixels.astype(int).sum()) for signal in signals])
        return [answer(signal) for signal in signals]


def answer(signal):
    return int(signal.pixels.mean()) % 2


def load(device):
    return Greyness()
"""

PREPARED = """
import numpy as np


class Prepared:
    \"\"\"Calls a picture by its mean level, which it is given apart from the size.\"\"\"

    batch_size = 2

    def prepare(self, signals):
        return [prepared(signal.pixels) for signal in signals]

    def infer(self, inputs):
        return [answer(one) for one in inputs]

    def predict(self, signals):
        raise AssertionError("prepare and infer stand for it")


def prepared(pixels):
    return pixels.mean(axis=(0, 1))


def answer(one):
    return int(one.mean()) % 2


def load(device):
    return Prepared()
"""

QUARTERS = """
import numpy as np


class Quarters:
    \"\"\"Calls a low-passed quarter of the mixture each stem.\"\"\"

    def predict(self, signals):
        return [dict.fromkeys(("drums", "bass", "other", "vocals"), lowered(signal.waveform)) for signal in signals]


def lowered(waveform):
    return ((waveform + np.roll(waveform, 1, axis=1)) / 8).astype(np.float32)


def load(device):
    return Quarters()
"""

VECTORS = """
import numpy as np


class Vectors:
    \"\"\"Gives the first pixels of a picture for its vector.\"\"\"

    batch_size = 4

    def predict(self, signals):
        return [signal.pixels[:4, :4].ravel().astype(np.float32) - 99.5 for signal in signals]


def load(device):
    return Vectors()
"""


class Bench:
    """An evaluation with a model of its own source, and the folder of a store."""

    def __init__(self, folder: Path, task: str, dataset: Dataset, source: str) -> None:
        self.folder, self.dataset = folder, dataset
        self.evaluation = Evaluation("tried", "tests", find_task(task), "python:model:load", {"path": "python:x:y"}, (), folder / "suite")
        self.store = open_store(folder / "store")
        self.write_model(source)

    def write_model(self, source: str, name: str = "suite") -> None:
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "model.py").write_text(source)
        self.evaluation = dataclasses.replace(self.evaluation, folder=self.folder / name)
        self.model = OpenModel(self.evaluation, "cpu")

    def measure(self, codec: str | Codec | None = None, quality: str = "", **settings: Any) -> Record:
        """Evaluate one case, counting from nothing what the store computes."""
        self.store = open_store(self.folder / "store")
        if isinstance(codec, str):
            codec = codecs.registered()[codec]()
        case = Case(self.evaluation, codec.name if codec else "original", quality)
        return evaluate(case, self.dataset, self.model, codec, Resources(self.store, Clock(), **settings))

    @property
    def computed(self) -> list[int]:
        return [self.store.computed[layer] for layer in LAYERS]

    def forget(self, layer: str, *samples: Sample) -> None:
        """Take entries out of the store: those of some samples, or all."""
        self._change(layer, "DELETE FROM members", samples)

    def damage(self, layer: str, *samples: Sample) -> None:
        """Turn the last byte of the packs of some samples, or of all."""
        packs = "UPDATE packs SET data = CAST(substr(data, 1, length(data) - 1) || x'5a' AS BLOB) WHERE id IN (SELECT pack FROM members"
        self._change(layer, packs, samples, ")")

    def _change(self, layer: str, statement: str, samples: tuple[Sample, ...], end: str = "") -> None:
        files = [file for file in (self.folder / "store").rglob("*.db") if file.parent.name == layer]
        assert files
        for file in files:
            with closing(sqlite3.connect(file)) as data:
                for sample in samples or [None]:
                    where = f"{statement} WHERE sample = ?{end}" if sample else statement + end
                    data.execute(where, [sample_key(sample.source)] if sample else [])
                data.commit()


@pytest.fixture
def pictures(tmp_path: Path) -> Bench:
    available = textures.classification().samples
    chosen = available[:: len(available) // 5][:5]
    samples = [dataclasses.replace(sample, target=lambda number=number: number % 2) for number, sample in enumerate(chosen)]
    return Bench(tmp_path, "image_classification", Dataset(samples, ("dark", "bright")), GREYNESS)


@pytest.fixture
def vectors(tmp_path: Path) -> Bench:
    def noise(number: int) -> Image:
        return Image(np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8))

    samples = [Sample(f"p{n}", f"{n:064x}", 768, lambda n=n: noise(n), lambda: None) for n in range(24)]
    bench = Bench(tmp_path, "image_embedding", Dataset(samples), VECTORS)
    bench.evaluation = dataclasses.replace(bench.evaluation, targets=OWN_ANSWERS)
    return bench


@pytest.fixture
def music(tmp_path: Path) -> Bench:
    return Bench(tmp_path, "source_separation", Dataset(songs.songs().samples[:2]), QUARTERS)


def lasting(record: Record) -> dict[str, Any]:
    """A record but for what differs from run to run, in a form that knows NaN to be NaN."""
    content = record.to_dict()
    del content["seconds"], content["work"]
    return {key: repr(value) for key, value in content.items()}


def breaking(sample: Sample, **parts: Callable[[], Any]) -> Sample:
    return dataclasses.replace(sample, **parts)


def unreadable() -> Any:
    raise OSError("no such\n  picture")


def scored_by(evaluation: Evaluation, metric: Metric) -> Evaluation:
    """The evaluation with another metric."""
    task = copy.copy(evaluation.task)
    task.metric = lambda dataset, **options: metric
    return dataclasses.replace(evaluation, task=task)


class TestTwoWorkers:
    def test_claim_less_and_less_towards_the_end(self, pictures: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is claimed at once is what the other may have to wait for."""
        first = pictures.dataset.samples[0]
        samples = [dataclasses.replace(first, id=str(number), source=f"{number:064x}") for number in range(256)]
        case = Case(pictures.evaluation, "original", "")
        here = LocalEngine(pictures.folder, "session", 2)
        one, other = (
            Pipeline(case, Dataset(samples, ("dark", "bright")), pictures.model, None, Resources(pictures.store, Clock(), engine=engine))
            for engine in (here, LocalEngine(pictures.folder, "session", 2))
        )
        shares, take = [], here.claims.take

        def taken(work: str, batches: Iterable[int], most: int) -> list[int]:
            """Claim, and have another worker do as many at the other end meanwhile."""
            firsts, size = list(batches), other.batch_size
            claimed = [first // size for (first,) in look_up(pictures.folder, "select batch from claims")]
            if free := {*other.lacking(())} - {*other.positions(claimed, size)}:
                shares.append(most * size / len(free))
            found = take(work, firsts, most)
            theirs = [samples[place : place + size] for place in firsts[-most:]]
            for outcome in other.measure(theirs, {sample.source for batch in theirs for sample in batch}):
                other.keep(outcome)
            return found

        monkeypatch.setattr(here.claims, "take", taken)
        here.complete(one)
        assert len(shares) > 4
        assert max(shares[:-1]) < 0.5
        assert shares[-1] in (0.5, 1)  # one of the two batches that are left, or the only one
        assert not one.lacking(())

    def test_count_what_the_store_had_when_the_first_of_them_looked(self, pictures: Bench) -> None:
        def worker() -> Pipeline:
            resources = Resources(open_store(pictures.folder / "store"), Clock(), parts=pictures.folder / "parts")
            return Pipeline(Case(pictures.evaluation, "original", ""), pictures.dataset, pictures.model, None, resources)

        first, late = worker(), worker()
        first.resources.engine.complete(first)
        record = finish(late)
        assert record.work == {"computed": {STATISTIC: 5}, "reused": {}}
        assert late.store.reused[STATISTIC] == 0
        pictures.folder.joinpath("parts").rename(pictures.folder / "of an earlier run")
        again = worker()
        assert finish(again).work == {"computed": {}, "reused": {STATISTIC: 5}}
        assert again.store.reused[STATISTIC] == 5


class TestSecondEvaluation:
    @pytest.mark.parametrize("point", [("jpeg", "q5"), (None, "")], ids=["jpeg", "original"])
    def test_computes_nothing_and_finds_the_same(self, pictures: Bench, point: tuple[str | None, str]) -> None:
        first = pictures.measure(*point)
        count = len(pictures.dataset.samples)
        assert count > 3
        assert pictures.computed == [count if point[0] else 0, count, count]
        pictures.model = OpenModel(pictures.evaluation, "cpu")
        second = pictures.measure(*point)
        assert pictures.computed == [0, 0, 0]
        assert second.work["computed"] == {}
        assert pictures.model._model is None, "the model was loaded for nothing"
        assert lasting(second) == lasting(first)

    def test_of_sounds_computes_nothing_and_finds_the_same(self, music: Bench) -> None:
        first = music.measure("opus", "6k")
        assert music.computed == [2, 2, 2]
        second = music.measure("opus", "6k")
        assert music.computed == [0, 0, 0]
        assert lasting(second) == lasting(first)

    def test_of_a_metric_s_new_version_redoes_statistics_alone(self, pictures: Bench) -> None:
        class NewTop1(Top1):
            version = Top1.version + 1

        pictures.measure("jpeg", "q5")
        pictures.evaluation = scored_by(pictures.evaluation, NewTop1())
        pictures.measure("jpeg", "q5")
        assert pictures.computed == [0, 0, len(pictures.dataset.samples)]

    def test_by_another_version_of_a_metric_s_package_redoes_statistics_alone(self, pictures: Bench) -> None:
        def measured_by(packages: dict[str, str]) -> Record:
            packaged = type("Packaged", (Top1,), {"packages": packages})
            pictures.evaluation = scored_by(pictures.evaluation, packaged())
            return pictures.measure("jpeg", "q5")

        count = len(pictures.dataset.samples)
        assert measured_by({"counting": "1.0"}).metrics["top1"].packages == {"counting": "1.0"}
        assert measured_by({"counting": "1.1"}).metrics["top1"].packages == {"counting": "1.1"}
        assert pictures.computed == [0, 0, count]
        measured_by({"counting": "1.0"})
        assert pictures.computed == [0, 0, 0]

    def test_of_a_changed_model_keeps_the_bitstreams(self, pictures: Bench) -> None:
        before = pictures.measure("jpeg", "q5")
        pictures.write_model(GREYNESS + "# retrained\n", "suite2")
        after = pictures.measure("jpeg", "q5")
        count = len(pictures.dataset.samples)
        assert pictures.computed == [0, count, count]
        assert before.fingerprint != after.fingerprint

    def test_of_a_changed_codec_redoes_that_codec_alone(self, pictures: Bench) -> None:
        class NewJpeg(Jpeg):
            def build(self) -> str:
                return "a build of tomorrow"

        count = len(pictures.dataset.samples)
        pictures.measure("jpeg", "q5")
        pictures.measure("webp", "q0")
        pictures.measure(NewJpeg(), "q5")
        assert pictures.computed == [count, count, count]
        pictures.measure("webp", "q0")
        assert pictures.computed == [0, 0, 0]
        pictures.measure("jpeg", "q5")
        assert pictures.computed == [0, 0, 0]

    def test_of_a_codec_s_changed_setting_redoes_that_codec_alone(self, pictures: Bench, tmp_path: Path) -> None:
        source = Path(jpeg.__file__).read_text().replace('name = "jpeg"', 'name = "own_codec"')
        count = len(pictures.dataset.samples)
        rates = []
        for number, (old, new) in enumerate([("", ""), ("number(quality)}", 'number(quality), "subsampling": 0}')]):
            file = tmp_path / f"codec{number}.py"
            file.write_text(source.replace(old, new, 1) if old else source)
            spec = importlib.util.spec_from_file_location("own_codec", file)
            assert spec is not None
            assert spec.loader is not None
            sys.modules["own_codec"] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            for computed in ([count] * 3, [0] * 3):
                rates.append(pictures.measure(module.Jpeg(), "q5").rate)
                assert pictures.computed == computed
        codecs._registry.pop("own_codec")
        assert rates[0] == rates[1] < rates[2] == rates[3]

    def test_of_a_changed_sample_redoes_that_sample_alone(self, pictures: Bench) -> None:
        pictures.write_model(GREYNESS.replace("batch_size = 2", "batch_size = 1"))
        pictures.measure("jpeg", "q5")
        first, *others = pictures.dataset.samples
        pictures.dataset = Dataset([dataclasses.replace(first, source="another digest"), *others], pictures.dataset.labels)
        pictures.measure("jpeg", "q5")
        assert pictures.computed == [1, 1, 1]

    def test_makes_a_damaged_bitstream_again(self, pictures: Bench) -> None:
        before = pictures.measure("jpeg", "q5")
        pictures.damage("statistic")
        first = pictures.dataset.samples[0]
        pictures.damage("bitstream", first)
        with pytest.warns(DamagedEntry):
            after = pictures.measure("jpeg", "q5")
        lost, _, rows = pictures.computed
        assert 1 <= lost <= rows == len(pictures.dataset.samples)
        assert pictures.store.damaged
        assert lasting(before) == lasting(after)


class TestAmongAllSamples:
    """What is found of a sample among all others takes the answers to all of them."""

    def test_answers_that_are_damaged_are_asked_for_again(self, vectors: Bench) -> None:
        undisturbed = vectors.measure("jpeg", "q5")
        entries = vectors.folder / "store/format-2/statistic/entries.db"
        entries.unlink()
        vectors.damage("prediction", *vectors.dataset.samples[8:12])
        with pytest.warns(DamagedEntry):
            again = vectors.measure("jpeg", "q5")
        assert 0 < undisturbed.metrics["neighbours"].value < 1
        assert lasting(again) == lasting(undisturbed)
        assert vectors.computed[1] > 0

    def test_what_was_kept_of_some_of_them_alone_is_made_again(self, vectors: Bench) -> None:
        undisturbed = vectors.measure("jpeg", "q5")
        with closing(sqlite3.connect(vectors.folder / "store/format-2/statistic/entries.db")) as data:
            ((key, content),) = data.execute("SELECT key, payload FROM entries").fetchall()
        kept = json.loads(content)
        assert len(kept) == len(vectors.dataset.samples)
        vectors.store.put(STATISTIC, key, json.dumps(dict(list(kept.items())[:9])).encode())
        assert lasting(vectors.measure("jpeg", "q5")) == lasting(undisturbed)

    def test_too_few_have_no_neighbours_and_say_so(self, vectors: Bench) -> None:
        vectors.dataset = Dataset(vectors.dataset.samples[:2])
        found = vectors.measure("jpeg", "q5").metrics["neighbours"]
        assert (found.missing, found.why_missing) == (2, "there are too few samples")


class TestStoreThatKeepsNothing:
    def test_ends_the_case_with_a_sentence_and_no_figure_of_the_rest(self, pictures: Bench) -> None:
        class Rotting(LocalEngine):
            def complete(self, pipeline: Pipeline) -> dict[str, Any]:
                failures = super().complete(pipeline)
                pictures.forget("statistic", *pictures.dataset.samples[1:3])
                return failures

        with pytest.raises(StoreError, match=r"tried-jpeg-q5: what was measured of 2 of 5 samples is not .*look after its disk"):
            pictures.measure("jpeg", "q5", engine=Rotting())


ASKED_BEFORE = 3
"""How often the model is asked before anything is predicted: two signals together, and each alone."""


class TestBatches:
    def test_are_fixed_stretches_of_the_data_set(self, pictures: Bench) -> None:
        pictures.measure("jpeg", "q5")
        decoded = [Jpeg().decode(Jpeg().encode(sample.signal(), "q5")) for sample in pictures.dataset.samples]
        sums = [int(signal.pixels.astype(int).sum()) for signal in decoded]
        originals = [int(sample.signal().pixels.astype(int).sum()) for sample in pictures.dataset.samples[:2]]  # type: ignore[union-attr]
        asked_before = [originals, originals[:1], originals[1:]]  # together and alone, whether that makes a difference
        assert pictures.model.ready().batches == [*asked_before, sums[0:2], sums[2:4], sums[4:]]  # type: ignore[attr-defined]

    def test_are_the_same_after_an_interruption(self, pictures: Bench) -> None:
        undisturbed = self.seen_by_the_model(pictures, "undisturbed")
        stopped = self.seen_by_the_model(pictures, "stopped", stop_after=ASKED_BEFORE + 1)
        resumed = self.seen_by_the_model(pictures, "stopped")
        assert stopped == undisturbed[: ASKED_BEFORE + 1]
        assert resumed == undisturbed[ASKED_BEFORE + 1 :]

    def test_have_the_size_and_layout_that_an_earlier_run_chose(self, pictures: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        pictures.write_model(
            GREYNESS.replace("    batch_size = 2\n", "    batch_size = 2\n    layouts = ('wide',)\n    arranged = ''\n").replace(
                "    def predict(self", "    def arrange(self, layout):\n        self.arranged = layout\n\n    def predict(self"
            )
        )
        # What is slow enough to be clearly faster in a layout takes more samples than these.
        monkeypatch.setattr("mpq_fixtures.pipeline.choose_batch", lambda *_, **__: Choice(3, layout="wide"))
        pictures.measure("jpeg", "q5")
        monkeypatch.undo()
        pictures.forget("prediction")
        pictures.forget("statistic")
        pictures.model = OpenModel(pictures.evaluation, "cpu")
        pictures.measure("jpeg", "q5")
        model: Any = pictures.model.ready()
        assert ([len(batch) for batch in model.batches], model.arranged) == ([3, 2], "wide")

    def test_have_the_size_of_the_machine_that_chose_first_where_two_share_a_store(
        self, pictures: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def chosen_on_a_machine() -> int:
            model, resources = OpenModel(pictures.evaluation, "cpu"), Resources(open_store(f"file://{pictures.folder}/shared"), Clock())
            return Pipeline(Case(pictures.evaluation, "original", ""), pictures.dataset, model, None, resources).batch_size

        def choose(*_: Any, **__: Any) -> Choice:
            if sizes:
                return Choice(3)
            monkeypatch.setenv("XDG_CACHE_HOME", str(pictures.folder / "of another"))  # where its locks are
            sizes.append(0)
            sizes.append(chosen_on_a_machine())
            return Choice(5)

        sizes: list[int] = []
        monkeypatch.setenv("XDG_CACHE_HOME", str(pictures.folder / "of one"))
        monkeypatch.setattr("mpq_fixtures.pipeline.choose_batch", choose)
        assert chosen_on_a_machine() == 3
        assert sizes == [0, 3]

    def test_are_as_large_as_a_run_of_many_samples_finds_best_after_one_of_few(self, pictures: Bench) -> None:
        first = pictures.dataset.samples[0]
        pictures.write_model(
            "import time\n\n\nclass load:\n    def __init__(self, device): pass\n    def predict(self, s):\n"
            "        end = time.process_time() + 0.004\n        while time.process_time() < end:\n            pass\n"
            "        return [0 for _ in s]\n"
        )

        def asked_at_once(samples: int) -> int:
            dataset = Dataset([dataclasses.replace(first, id=str(n), source=f"{n:064x}") for n in range(samples)], ("dark", "bright"))
            model = OpenModel(pictures.evaluation, "cpu")
            pipeline = Pipeline(Case(pictures.evaluation, "original", ""), dataset, model, None, Resources(pictures.store, Clock()))
            assert pipeline.batch_size >= 8
            assert model.limit is not None
            return model.limit.size

        assert asked_at_once(20) == 8  # too few to try another
        assert asked_at_once(20_000) == 32
        assert asked_at_once(21) == 8, "a worker of the same run sees another size"
        assert asked_at_once(3_000) == 32

    @staticmethod
    def seen_by_the_model(bench: Bench, store: str, stop_after: int | None = None) -> list[list[int]]:
        def stop(case: str, done: int, total: int) -> None:
            if stop_after is not None and len(batches) == stop_after:
                raise KeyboardInterrupt

        bench.model = OpenModel(bench.evaluation, "cpu")
        batches: list[list[int]] = bench.model.ready().batches  # type: ignore[attr-defined]
        work = Resources(open_store(bench.folder / store), Clock(), progress=stop)
        try:
            evaluate(Case(bench.evaluation, "jpeg", "q5"), bench.dataset, bench.model, Jpeg(), work)
        except KeyboardInterrupt:
            assert stop_after
        return batches

    def test_are_predicted_whole_when_one_sample_is_missing(self, pictures: Bench) -> None:
        pictures.measure("jpeg", "q5")
        first, second, _ = pictures.model.ready().batches[ASKED_BEFORE:]  # type: ignore[attr-defined]
        pictures.forget("prediction")
        pictures.forget("statistic", pictures.dataset.samples[3])
        pictures.model = OpenModel(pictures.evaluation, "cpu")
        pictures.measure("jpeg", "q5")
        # The first batch too: the report's example needs the first sample's prediction.
        assert pictures.model.ready().batches == [first, second]  # type: ignore[attr-defined]
        assert pictures.computed == [0, 4, 2]


class TestFailure:
    """One broken sample: counted, named, and in no mean; the others are measured."""

    @staticmethod
    def only_first_fails(bench: Bench, record: Record, step: str, reason: str) -> None:
        first, *others = [sample.id for sample in bench.dataset.samples]
        assert [(failure.sample, failure.step) for failure in record.failures] == [(first, step)]
        assert reason in record.failures[0].reason
        assert "\n" not in record.failures[0].reason
        assert [row.sample for row in record.rows] == others
        hits = [row.prediction == row.target for row in record.rows]
        assert record.value == np.mean(hits)
        assert record.samples == len(others) > 2

    def test_to_read_the_signal(self, pictures: Bench) -> None:
        first, *others = pictures.dataset.samples
        pictures.dataset = Dataset([breaking(first, signal=unreadable), *others], pictures.dataset.labels)
        for point in (("jpeg", "q5"), (None, "")):
            self.only_first_fails(pictures, pictures.measure(*point), "read", "OSError: no such picture")

    def test_to_read_the_target(self, pictures: Bench) -> None:
        first, *others = pictures.dataset.samples
        pictures.dataset = Dataset([breaking(first, target=unreadable), *others], pictures.dataset.labels)
        self.only_first_fails(pictures, pictures.measure("jpeg", "q5"), "read", "OSError: no such picture")

    def test_to_encode(self, pictures: Bench) -> None:
        first, *others = pictures.dataset.samples
        empty = breaking(first, signal=lambda: Image(np.zeros((0, 4, 3), np.uint8)))
        pictures.dataset = Dataset([empty, *others], pictures.dataset.labels)
        self.only_first_fails(pictures, pictures.measure("jpeg", "q5"), "encode", "ValueError: pixels are uint8 [0, 4, 3]")

    @pytest.mark.parametrize("returned", [None, 5, "text"])
    def test_to_encode_to_bytes(self, pictures: Bench, returned: Any) -> None:
        class Wrong(Jpeg):
            def encode(self, signal: Image, quality: str) -> bytes:
                return returned if np.array_equal(signal.pixels, first) else super().encode(signal, quality)

        first = pictures.dataset.samples[0].signal().pixels  # type: ignore[union-attr]
        self.only_first_fails(pictures, pictures.measure(Wrong(), "q5"), "encode", "bytes-like")

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            (lambda image: Jpeg().decode(b"\xff\xd8 cut"), "ValueError: no jpeg stream"),
            (lambda image: Image(image.pixels[:-1]), "came back as uint8 [223, 224, 3], not uint8 [224, 224, 3]"),
            (lambda image: Image(image.pixels.astype(np.float32)), "came back as float32 [224, 224, 3]"),
            (lambda image: Image(image.pixels[..., 0]), "came back as uint8 [224, 224]"),
            (lambda image: None, "came back as NoneType"),
            (lambda image: image.pixels, "came back as ndarray"),
        ],
        ids=["raises", "shorter", "float", "grey", "nothing", "bare array"],
    )
    def test_to_decode(self, pictures: Bench, broken: Callable[[Image], Any], reason: str) -> None:
        class Wrong(Jpeg):
            def decode(self, data: bytes) -> Image:
                return broken(super().decode(data)) if data == first else super().decode(data)

        first = Jpeg().encode(pictures.dataset.samples[0].signal(), "q5")
        self.only_first_fails(pictures, pictures.measure(Wrong(), "q5"), "decode", reason)

    @pytest.mark.parametrize(
        ("broken", "reason"),
        [
            (lambda audio: Audio(audio.waveform[:, :-1], audio.sample_rate), "float32 [2, 95999] at 16000 Hz, not float32 [2, 96000]"),
            (lambda audio: Audio(audio.waveform[:1], audio.sample_rate), "float32 [1, 96000] at 16000 Hz, not float32 [2, 96000]"),
            (lambda audio: Audio(audio.waveform, 48000), "at 48000 Hz, not"),
        ],
        ids=["shorter", "mono", "other sample rate"],
    )
    def test_to_decode_a_sound(self, music: Bench, broken: Callable[[Audio], Audio], reason: str) -> None:
        class Wrong(Opus):
            def decode(self, data: bytes) -> Audio:
                return broken(super().decode(data))

        record = music.measure(Wrong(), "6k")
        assert [failure.step for failure in record.failures] == ["decode", "decode"]
        assert reason in record.failures[0].reason
        assert (record.samples, math.isnan(record.value), math.isnan(record.rate)) == (0, True, True)

    def test_to_score_a_mixture_that_does_not_fit_its_stems(self, music: Bench) -> None:
        """Stereo of which the stems are mono, in the data set and in the answers."""

        def mono(sample: Sample) -> dict[str, np.ndarray]:
            return {name: stem.mean(axis=0, keepdims=True) for name, stem in sample.target().items()}

        music.dataset = Dataset([breaking(sample, target=partial(mono, sample)) for sample in music.dataset.samples])
        music.write_model(QUARTERS.replace("lowered(signal.waveform)", "lowered(signal.waveform)[:1]"))
        record = music.measure()
        assert [failure.step for failure in record.failures] == ["score", "score"]
        assert "SDR compares stems [channels, frames] of one shape, not of [1, 96000], [2, 96000]" in record.failures[0].reason
        assert music.measure("opus", "6k").samples == 2

    @pytest.mark.parametrize(
        ("answer", "step", "reason"),
        [
            ("1 / 0", "predict", "ZeroDivisionError"),
            ("{1, 2}", "predict", "not set"),
            ("None", "predict", "not NoneType"),
            ("'dark'", "score", "top1 compares one class index"),
        ],
        ids=["raises", "a set", "nothing", "a text"],
    )
    def test_to_predict_loses_only_that_sample_of_its_batch(self, pictures: Bench, answer: str, step: str, reason: str) -> None:
        first = int(pictures.dataset.samples[0].signal().pixels.astype(int).sum())  # type: ignore[union-attr]
        wrong = f"    if signal.pixels.astype(int).sum() == {first}:\n        return {answer}\n"
        pictures.write_model(GREYNESS.replace("def answer(signal):\n", "def answer(signal):\n" + wrong))
        self.only_first_fails(pictures, pictures.measure(), step, reason)

    def test_to_answer_each_signal(self, pictures: Bench) -> None:
        pictures.write_model(GREYNESS.replace("for signal in signals]\n\n\ndef", "for signal in signals[1:]]\n\n\ndef"))
        record = pictures.measure("jpeg", "q5")
        assert {failure.reason for failure in record.failures} == {"the model gave 0 predictions for 1 signals"}
        assert len(record.failures) == len(pictures.dataset.samples)

    @pytest.mark.parametrize(
        ("answers", "reason"),
        [("None", "TypeError"), ("(1 / 0 for signal in signals)", "ZeroDivisionError")],
        ids=["nothing", "a generator"],
    )
    def test_to_give_a_list_fails_all_its_samples(self, pictures: Bench, answers: str, reason: str) -> None:
        pictures.write_model(GREYNESS.replace("return [answer(signal) for signal in signals]", f"return {answers}"))
        record = pictures.measure("jpeg", "q5")
        assert {failure.reason.partition(":")[0] for failure in record.failures} == {reason}
        assert len(record.failures) == len(pictures.dataset.samples)

    def test_is_tried_again_in_the_next_run(self, pictures: Bench) -> None:
        whole = pictures.dataset
        first, *others = whole.samples
        pictures.dataset = Dataset([breaking(first, target=unreadable), *others], whole.labels)
        pictures.measure("jpeg", "q5")
        pictures.dataset = whole
        record = pictures.measure("jpeg", "q5")
        assert pictures.computed == [0, 0, 1]
        assert (record.failures, record.samples) == ([], len(whole.samples))

    def test_of_the_disk_is_the_run_s_and_no_sample_s(self, pictures: Bench) -> None:
        (pictures.folder / "store").write_text("not a folder")
        with pytest.raises(StoreError):
            pictures.measure("jpeg", "q5")


class TestWhatTheModelIsGiven:
    def given(self, bench: Bench, prepared: str = "", inferred: str = "", name: str = "suite") -> Record:
        source = PREPARED.replace("return pixels.mean(axis=(0, 1))", prepared or "return pixels.mean(axis=(0, 1))")
        bench.write_model(source.replace("return int(one.mean()) % 2", inferred or "return int(one.mean()) % 2"), name)
        return bench.measure("jpeg", "q5")

    def test_is_the_signal_where_the_model_does_not_say(self, pictures: Bench) -> None:
        rows = pictures.measure("jpeg", "q5").rows
        assert len(rows) == len(pictures.dataset.samples)
        assert all(row.chain["given"] == row.chain["decoded"] for row in rows)

    def test_is_what_it_prepares_where_it_does(self, pictures: Bench) -> None:
        record = self.given(pictures)
        for row, sample in zip(record.rows, pictures.dataset.samples, strict=True):
            decoded = Jpeg().decode(Jpeg().encode(sample.signal(), "q5"))  # type: ignore[arg-type]
            assert row.chain["given"] == digest_of_array(decoded.pixels.mean(axis=(0, 1)))

    def test_of_the_documented_model_is_its_grey_picture(self, pictures: Bench) -> None:
        text = (Path(__file__).parents[1] / "docs" / "own_suites.md").read_text(encoding="utf-8")
        (source,) = (block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def prepare" in block)
        pictures.write_model(source + "\n\ndef load(device):\n    return Brightness()\n")
        record = pictures.measure()
        for row, sample in zip(record.rows, pictures.dataset.samples, strict=True):
            grey = sample.signal().pixels.mean(axis=2).astype(np.float32)  # type: ignore[union-attr]
            assert row.chain["given"] == digest_of_array(grey)
            assert row.prediction == ("bright" if grey.mean() > 100 else "dark")

    def test_is_all_parts_of_a_tuple(self, pictures: Bench) -> None:
        parts = "return pixels.mean(axis=(0, 1)), ({}, 224)"
        inferred = "return int(one[0].mean()) % 2"
        first = self.given(pictures, parts.format("pixels.shape[0]"), inferred)
        same = self.given(pictures, parts.format("224"), inferred, "suite2")
        other = self.given(pictures, parts.format("223"), inferred, "suite3")
        chains = [[row.chain["given"] for row in record.rows] for record in (first, same, other)]
        assert chains[0] == chains[1]
        assert all(one != another for one, another in zip(chains[0], chains[2], strict=True))

    def test_tells_another_preprocessing_from_another_network(self, pictures: Bench) -> None:
        first = self.given(pictures)
        scaled = self.given(pictures, "return pixels.mean(axis=(0, 1)) + 1e-9", name="suite2")
        turned = self.given(pictures, inferred="return 1 - int(one.mean()) % 2", name="suite3")

        def moved(record: Record) -> set[str]:
            pairs = zip(first.rows, record.rows, strict=True)
            return {layer for one, other in pairs for layer, link in one.chain.items() if other.chain[layer] != link}

        assert moved(scaled) == {"given"}
        assert moved(turned) == {"answer"}

    def test_is_the_same_when_it_comes_from_the_store(self, pictures: Bench) -> None:
        first = self.given(pictures)
        pictures.forget(STATISTIC)
        pictures.model = OpenModel(pictures.evaluation, "cpu")
        again = pictures.measure("jpeg", "q5")
        assert pictures.computed == [0, 0, len(first.rows)]
        assert [row.chain for row in again.rows] == [row.chain for row in first.rows]

    @pytest.mark.parametrize(
        ("prepared", "reason"),
        [
            ("return {'pixel_values': pixels}", "prepare returns arrays, or tuples of arrays and numbers, and not an instance of dict"),
            ("return (pixels, None)", "and not None"),
            ("return 1 / 0", "ZeroDivisionError"),
        ],
    )
    def test_must_be_arrays(self, pictures: Bench, prepared: str, reason: str) -> None:
        record = self.given(pictures, prepared)
        assert len(record.failures) == len(pictures.dataset.samples)
        assert all(failure.step == "predict" and reason in failure.reason for failure in record.failures)

    def test_must_be_one_for_each_signal(self, pictures: Bench) -> None:
        pictures.write_model(PREPARED.replace("for signal in signals]", "for signal in signals[1:]]"))
        record = pictures.measure("jpeg", "q5")
        assert {failure.reason for failure in record.failures} == {"the model prepared 0 inputs for 1 signals"}

    def test_that_cannot_be_prepared_fails_alone(self, pictures: Bench) -> None:
        first = int(pictures.dataset.samples[0].signal().pixels.astype(int).sum())  # type: ignore[union-attr]
        raising = f"assert pixels.astype(int).sum() != {first}; return pixels.mean(axis=(0, 1))"
        pictures.write_model(PREPARED.replace("return pixels.mean(axis=(0, 1))", raising))
        record = pictures.measure()
        assert [(failure.sample, failure.step) for failure in record.failures] == [(pictures.dataset.samples[0].id, "predict")]
        assert record.samples == len(pictures.dataset.samples) - 1


class TestTexts:
    def test_that_are_no_unicode_are_kept_with_what_is_none_escaped(self, pictures: Bench) -> None:
        pictures.dataset = Dataset(pictures.dataset.samples, ("da\udce9rk", "bright"))
        record = pictures.measure("jpeg", "q5")
        assert {row.target for row in record.rows} == {r"da\xe9rk", "bright"}
        assert str(record.to_dict()).encode()


class TestDecoder:
    def test_gets_the_bytes_and_nothing_else(self, pictures: Bench) -> None:
        received: list[tuple[Any, ...]] = []

        class Listening(Jpeg):
            def encode(self, signal: Image, quality: str) -> bytes:
                return bytearray(super().encode(signal, quality))  # type: ignore[return-value]

            def decode(self, *arguments: Any, **more: Any) -> Image:
                received.append((*arguments, *more))
                return super().decode(*arguments)

        pictures.measure(Listening(), "q5")
        assert len(received) > len(pictures.dataset.samples)
        assert {tuple(map(type, arguments)) for arguments in received} == {(bytes,)}
        bitstreams = {Jpeg().encode(sample.signal(), "q5") for sample in pictures.dataset.samples}
        assert {arguments[0] for arguments in received} == bitstreams


class TestRates:
    def test_of_pictures_are_counted_from_the_bytes(self, pictures: Bench) -> None:
        small = breaking(pictures.dataset.samples[0], signal=lambda: Image(np.full((16, 40, 3), 90, np.uint8)), source="small")
        pictures.dataset = Dataset([small, *pictures.dataset.samples[1:]], pictures.dataset.labels)
        record = pictures.measure("jpeg", "q5")
        sizes = [len(Jpeg().encode(sample.signal(), "q5")) for sample in pictures.dataset.samples]
        pixels = [16 * 40] + [224 * 224] * (len(sizes) - 1)
        assert record.bytes == sum(sizes)
        assert [(row.bytes, row.elements) for row in record.rows] == list(zip(sizes, pixels, strict=True))
        assert record.rate == pytest.approx(8 * sum(sizes) / sum(pixels), rel=1e-12)
        assert record.rate_mean == pytest.approx(np.mean([8 * size / count for size, count in zip(sizes, pixels, strict=True)]), rel=1e-12)
        assert record.rate_mean > 1.05 * record.rate
        assert record.compression_ratio == pytest.approx(3 * sum(pixels) / sum(sizes), rel=1e-12)
        assert record.rate_unit == "bpp"

    def test_of_sounds_count_every_channel(self, music: Bench) -> None:
        record = music.measure("opus", "6k")
        size = sum(len(Opus().encode(sample.signal(), "6k")) for sample in music.dataset.samples)
        assert record.rate == pytest.approx(8 * size / (2 * 2 * 6 * 16000), rel=1e-12)
        assert record.compression_ratio == pytest.approx(2 * 2 * 2 * 6 * 16000 / size, rel=1e-12)
        assert record.rate_unit == "bits/sample"

    def test_of_originals_are_what_the_data_set_stores(self, pictures: Bench) -> None:
        record = pictures.measure()
        stored = sum(sample.stored_bytes for sample in pictures.dataset.samples)
        assert (record.bytes, record.rate) == (stored, pytest.approx(8 * stored / (224 * 224 * record.samples)))


class TestGroups:
    def test_widen_the_intervals_of_the_value_and_of_signal_metrics(self, pictures: Bench) -> None:
        alone = pictures.measure("jpeg", "q5")
        samples = [dataclasses.replace(sample, group="one" if number < 3 else "") for number, sample in enumerate(pictures.dataset.samples)]
        pictures.dataset = Dataset(samples, pictures.dataset.labels)
        grouped = pictures.measure("jpeg", "q5")
        assert [row.group for row in grouped.rows] == ["one", "one", "one", "", ""]
        for name in ("top1", "psnr"):
            metric = Top1() if name == "top1" else ImagePSNR()
            kept = [np.asarray(row.statistic if name == "top1" else row.further[name]) for row in grouped.rows]
            measure = grouped.metrics[name]
            assert measure.value == alone.metrics[name].value
            assert (measure.ci_low, measure.ci_high, measure.method) == interval(metric, kept, groups=["one", "one", "one", "", ""])
            assert (measure.ci_low, measure.ci_high) != (alone.metrics[name].ci_low, alone.metrics[name].ci_high)


class TestMetricsBeside:
    def test_compare_the_decoded_picture_with_the_original(self, pictures: Bench) -> None:
        record = pictures.measure("jpeg", "q5")
        expected = []
        for sample in pictures.dataset.samples:
            original = sample.signal()
            assert isinstance(original, Image)
            difference = Jpeg().decode(Jpeg().encode(original, "q5")).pixels.astype(float) - original.pixels
            expected.append(10 * np.log10(255**2 / np.mean(difference**2)))
        assert [row.scores["psnr"] for row in record.rows] == pytest.approx(expected, abs=1e-9)
        assert record.metrics["psnr"].value == pytest.approx(np.mean(expected), abs=1e-9)
        assert record.metric == next(iter(record.metrics)) == "top1"

    def test_are_left_out_on_the_originals(self, pictures: Bench) -> None:
        assert list(pictures.measure().metrics) == ["top1"]


class TestRetention:
    def test_of_accuracy_is_the_ratio(self, pictures: Bench) -> None:
        original, record = pictures.measure(), pictures.measure("jpeg", "q5")
        record.relate_to(original)
        hits = [row.prediction == row.target for row in original.rows]
        assert 0 < original.value == np.mean(hits) < 1
        assert record.reference == original.value
        assert record.retention == record.value / original.value

    def test_of_sdr_is_counted_from_the_mixture_s(self, music: Bench) -> None:
        original, record = music.measure(), music.measure("opus", "6k")
        record.relate_to(original)

        def sdr(estimate: Callable[[Audio], np.ndarray]) -> float:
            """Median over frames of a second, then over songs, then mean over stems (museval's v4)."""
            songs_ = []
            for sample in music.dataset.samples:
                mixture, stems = sample.signal(), sample.target()
                assert isinstance(mixture, Audio)
                frames = np.full((4, 6), np.nan)
                for frame in range(6):
                    part = slice(16000 * frame, 16000 * (frame + 1))
                    true = np.stack([stems[name][:, part].astype(float) for name in sorted(stems)])
                    if np.all(np.sum(true**2, axis=(1, 2)) > 0):
                        error = estimate(mixture)[:, part].astype(float) - true
                        frames[:, frame] = 10 * np.log10(np.sum(true**2, axis=(1, 2)) / np.sum(error**2, axis=(1, 2)))
                songs_.append(np.nanmedian(frames, axis=1))
            return float(np.mean(np.nanmedian(songs_, axis=0)))

        def quarter(audio: Audio) -> np.ndarray:
            return (audio.waveform + np.roll(audio.waveform, 1, axis=1)) / 8

        def coded(audio: Audio) -> Audio:
            return Opus().decode(Opus().encode(audio, "6k"))

        floor, reference, value = sdr(lambda audio: audio.waveform), sdr(quarter), sdr(lambda audio: quarter(coded(audio)))
        assert original.floor == pytest.approx(floor, abs=1e-4)
        assert original.value == pytest.approx(reference, abs=1e-3)
        assert record.value == pytest.approx(value, abs=1e-3)
        assert record.retention == pytest.approx((value - floor) / (reference - floor), abs=1e-3)
        assert record.retention != pytest.approx(value / reference, abs=0.02)
        assert record.floor is None

    def test_of_the_originals_is_one(self, music: Bench) -> None:
        record = music.measure()
        record.relate_to(record)
        assert record.retention == 1


class TestRecord:
    def test_comes_back_from_plain_data(self, music: Bench) -> None:
        record = music.measure()
        record.relate_to(record)
        content = record.to_dict()
        assert self.is_plain(content)
        assert repr(Record.from_dict(content)) == repr(record)

    def test_with_failures_comes_back_from_plain_data(self, pictures: Bench) -> None:
        first, *others = pictures.dataset.samples
        pictures.dataset = Dataset([breaking(first, signal=unreadable), *others], pictures.dataset.labels)
        record = pictures.measure("jpeg", "q5")
        assert self.is_plain(record.to_dict())
        assert repr(Record.from_dict(record.to_dict())) == repr(record)

    def is_plain(self, value: Any) -> bool:
        """Tell whether xdist can send it: exactly these types and no subclass."""
        if type(value) is dict:
            return all(type(key) is str and self.is_plain(item) for key, item in value.items())
        if type(value) in (list, tuple):
            return all(map(self.is_plain, value))
        return type(value) in (str, int, float, bool, bytes, type(None))

    def test_says_where_the_time_went(self, pictures: Bench) -> None:
        record = pictures.measure("jpeg", "q5")
        assert set(record.seconds) == {"audit", "encode", "decode", "predict", "score"}
        assert all(seconds > 0 for step, seconds in record.seconds.items() if step != "audit")

    def test_has_an_example_whether_computed_or_found(self, pictures: Bench) -> None:
        first, second = pictures.measure("jpeg", "q5"), pictures.measure("jpeg", "q5")
        (shown,) = first.shown
        assert shown["parts"]
        assert shown["sample"] == pictures.dataset.samples[0].id
        assert first.shown == second.shown

    def test_tells_progress_to_the_end(self, pictures: Bench) -> None:
        said: list[tuple[str, int, int]] = []
        pictures.measure("jpeg", "q5", progress=lambda *note: said.append(note))
        count = len(pictures.dataset.samples)
        assert [done for _, done, _ in said] == [0, 2, 4, count]
        assert {(case, total) for case, _, total in said} == {("tried-jpeg-q5", count)}

    def test_is_the_same_with_more_threads(self, pictures: Bench) -> None:
        one = pictures.measure("jpeg", "q5")
        for layer in LAYERS:
            pictures.forget(layer)
        assert lasting(pictures.measure("jpeg", "q5", threads=4)) == lasting(one)


def one_by_one(do: Callable[[int], Any]) -> Callable[[Sequence[int]], list[Any]]:
    """Return what a crew is asked for, from what is to be done with each thing."""
    return lambda things: list(map(do, things))


class TestACrew:
    """The threads that a batch's samples are shared among."""

    @pytest.mark.parametrize("threads", [1, 3])
    def test_returns_what_each_thing_gave_in_its_place(self, threads: int) -> None:
        def thing(number: int) -> SampleError:
            time.sleep(0.003 * (number % 3))
            return SampleError("decode", str(number))

        with Crew(Hands(threads)) as crew:
            batches = [crew.begin(one_by_one(thing), range(first, first + 9)) for first in (0, 9)]
            found = [str(result) for results in batches for result in results()]
        assert found == [str(number) for number in range(18)]

    def test_shares_what_takes_long(self) -> None:
        together = threading.Barrier(3, timeout=30)  # which breaks unless three threads come to it
        with Crew(Hands(3)) as crew:
            results = crew.begin(one_by_one(lambda _: SampleError("decode", str(together.wait()))), range(3))()
        assert sorted(map(str, results)) == ["0", "1", "2"]

    @pytest.mark.parametrize(
        ("milliseconds", "number"),
        [
            ({3: 2, 1: 1, 0: 3}, 1),
            ({3: 2, 1: 3, 0: 1}, 0),
            ({3: 1, 1: 1.02, 0: 1.04}, 0),  # as fast, with fewer
            ({3: 1, 1: 2, 0: 3}, 3),
            ({3: 50}, 3),  # nothing else is tried
            ({1: 50, 0: 49}, 0),
            ({1: 50, 0: 60}, 1),
        ],
    )
    def test_has_as_few_hands_as_are_as_fast_as_any(self, milliseconds: dict[int, float], number: int) -> None:
        hands, tried = Hands(max(milliseconds)), {max(milliseconds)}
        for place in range(20):
            late = place == 7  # one batch that other work disturbed
            hands.took(8 * milliseconds[hands.number] / 1000 * (20 if late else 1), 8)
            tried.add(hands.number)
        assert (hands.number, tried) == (number, set(milliseconds))

    def test_are_tried_once_for_all_qualities_of_a_codec(self, tmp_path: Path) -> None:
        evaluation, resources = Evaluation("e", "t", find_task("image_classification"), "m", {}, (), tmp_path), Resources(None, Clock(), 3)  # type: ignore[arg-type]
        one, other, webp = (resources.hands_for(Case(evaluation, *point)) for point in (("jpeg", "q5"), ("jpeg", "q90"), ("webp", "q5")))
        for _ in range(20):
            one.took(0.001 * (1 + one.number), 1)
        assert [hands.number for hands in (one, other, webp)] == [0, 0, 3]

    def test_does_not_take_the_first_batch_after_a_change_for_its_own(self) -> None:
        hands, before = Hands(1), 1
        for _ in range(12):
            first = hands.number != before
            before = hands.number
            hands.took(9.0 if first else 0.004 - 0.001 * (1 - hands.number), 1)
        assert hands.number == 0

    @pytest.mark.parametrize(
        ("most", "milliseconds", "together"),
        [(3, 0.5, {1, 8}), (1, 0.5, {1, 8}), (3, 5, {1}), (1, 5, {1})],
        ids=["small ones", "small ones without threads", "others", "others without threads"],
    )
    def test_takes_small_things_together(self, most: int, milliseconds: float, together: set[int]) -> None:
        hands, taken = Hands(most), list[int]()
        with Crew(hands) as crew:
            for _ in range(16):
                hands.took(milliseconds / 1000 * 20, 20)
                assert crew.begin(lambda things: taken.append(len(things)) or list(things), range(20))() == list(range(20))
        assert {length for length in taken if length != 4} == together  # 20 are 8, 8 and 4
        assert hands.number < 2

    def test_keeps_its_threads_where_things_wait_for_others(self) -> None:
        def thing(number: int) -> int:
            time.sleep(0.004)
            return threading.get_ident()

        with Crew(Hands(4)) as crew:
            who = [set(threads) for _, threads in ahead(crew, ((range(8), one_by_one(thing)) for _ in range(20)))]
        assert len(who[0]) == len(who[-1]) == 4
        assert {threading.get_ident()} in who  # which was tried

    def test_drops_what_has_not_begun_when_it_is_interrupted(self) -> None:
        begun: list[int] = []
        at_work = threading.Event()

        def thing(number: int) -> SampleError:
            begun.append(number)
            at_work.set()
            time.sleep(0.05)
            return SampleError("decode", "")

        def interrupted() -> None:
            with Crew(Hands(1)) as crew:
                crew.begin(one_by_one(thing), range(100))
                at_work.wait()
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert len(begun) < 100

    def test_raises_what_is_no_samples_fault(self) -> None:
        def full(number: int) -> SampleError:
            raise StoreError("no room")

        with Crew(Hands(2)) as crew, pytest.raises(StoreError, match="no room"):
            crew.begin(one_by_one(full), range(3))()
