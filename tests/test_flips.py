"""The samples whose answers changed: which they are, what is shown of them, and how the page shows it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow
from projects import Project
from trial_records import record

from mpq_fixtures import flips
from mpq_fixtures.codecs.jpeg import Jpeg
from mpq_fixtures.evaluate import finish
from mpq_fixtures.flips import EXAMPLE, HARMFUL, RANDOM, Flips, choose, find_flips, median_fall
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.cosine_similarity import CosineSimilarity
from mpq_fixtures.metrics.mean_average_precision import MeanAveragePrecision
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.word_accuracy import WordAccuracy
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.processes.temporary import OwnedFolder
from mpq_fixtures.record import Record
from mpq_fixtures.report.cases import read_case
from mpq_fixtures.report.flips import MOST, Flip, flips_of, rows_of, wanted
from mpq_fixtures.report.gallery import examples_of, show_example
from mpq_fixtures.resources import Resources
from mpq_fixtures.results.samples import PARTS, read_examples, remove_parts, write_samples
from mpq_fixtures.rows import Row
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.signals import Dataset, Image, Sample
from mpq_fixtures.store import AUDIT, BITSTREAM, open_store
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task
from mpq_fixtures.tasks.image_classification import ImageClassification

HOSTILE = "</script><img src=x onerror=alert(1)> \" ' & "


def scored(metric: Metric, number: int, prediction: str, target: str, statistic: Any) -> Row:
    scores = {metric.name: metric.value([statistic])}
    return Row(f"s{number}", 100, 10_000, prediction, target, statistic.tolist(), {}, scores, {}, source=f"{number:064x}")


class TestFinding:
    def test_counts_answers_that_got_worse_and_better(self) -> None:
        before, now = record([1.0, 1.0, 1.0, 0.0, 0.0]), record([1.0, 0.0, 0.0, 1.0, 0.0])
        found = find_flips(Top1(), now.rows, before.rows)
        assert found.falls.tolist() == [0.0, 1.0, 1.0, -1.0, 0.0]
        assert found.worse.tolist() == [1, 2]
        assert found.counts == {"worse": 2, "better": 1}

    def test_pairs_samples_by_their_ids_where_some_failed(self) -> None:
        before, now = record([1.0, 1.0, 0.0, 1.0]), record([0.0, 0.0, 0.0, 1.0], first=2)  # s0 to s3, and s2 to s5
        found = find_flips(Top1(), now.rows, before.rows)
        assert found.falls[:2].tolist() == [0.0, 1.0]
        assert np.isnan(found.falls[2:]).all()
        assert found.counts == {"worse": 1, "better": 0}

    def test_takes_a_fall_within_five_tolerances_for_none_where_answers_are_no_words(self) -> None:
        metric = CosineSimilarity()  # whose tolerance is 0.001
        before = record([0.9] * 5, metric=metric)
        now = record([0.8949, 0.8951, 0.9049, 0.9051, math.nan], metric=metric)
        found = find_flips(metric, now.rows, before.rows)
        assert found.worse.tolist() == [0, 4]
        assert found.falls[4] == math.inf
        assert found.counts == {"worse": 2, "better": 1}

    def test_takes_any_fall_for_one_where_they_are_words(self) -> None:
        metric = CosineSimilarity()
        before, now = (record([value], metric=metric) for value in (0.9, 0.8999))
        now = dataclasses.replace(now, rows=type(now.rows).of([dataclasses.replace(row, target="a word") for row in now.rows]))
        assert find_flips(metric, now.rows, before.rows).counts == {"worse": 1, "better": 0}

    def test_takes_boxes_for_no_words(self) -> None:
        """Boxes that move by a tenth of a pixel change AP a little; what is in the picture is said in words."""
        generator, metric = np.random.default_rng(0), MeanAveragePrecision(1)
        corners = generator.uniform(0, 300, (12, 2))
        boxes = np.concatenate([corners, corners + 60], axis=1)
        target = {"boxes": boxes, "labels": np.zeros(12, int), "crowd": np.zeros(12, bool)}
        found = {"boxes": boxes + generator.normal(0, 2, boxes.shape), "scores": np.linspace(0.9, 0.6, 12), "labels": np.zeros(12, int)}
        moved = found | {"boxes": found["boxes"] + generator.normal(0, 0.1, boxes.shape)}

        def rows(prediction: dict[str, Any]) -> Rows:
            return Rows.of([scored(metric, 0, "12 cat", "12 cat", metric.observe(prediction, target))])

        flipped = find_flips(metric, rows(moved), rows(found))
        assert 1e-9 < abs(flipped.falls[0]) < 5 * metric.tolerance
        assert flipped.counts == {"worse": 0, "better": 0}

    def test_takes_texts_for_words_where_the_first_sound_is_silent(self) -> None:
        metric, said = WordAccuracy(), " ".join(map(str, range(20)))

        def rows(answer: str) -> Rows:
            pairs = [("", ""), *[(answer, said)] * 9]
            return Rows.of([scored(metric, number, *pair, metric.observe(*pair)) for number, pair in enumerate(pairs)])

        assert find_flips(metric, rows(said.replace("7", "x", 1)), rows(said)).counts == {"worse": 9, "better": 0}

    def test_finds_none_where_there_are_no_rows(self) -> None:
        assert find_flips(Top1(), record([]).rows, record([1.0]).rows).counts == {"worse": 0, "better": 0}


class TestChoosing:
    def test_takes_the_largest_falls_and_some_of_the_others(self) -> None:
        found = Flips(np.array([0.1, 0.9, 0.0, 0.5, 0.3, 0.7, -1.0, np.nan, 0.2]), 0.05)
        chosen = choose(found, seed=1)
        assert [place for place, why in chosen.items() if why == HARMFUL] == [1, 5]
        others = [place for place, why in chosen.items() if why == RANDOM]
        assert len(others) == 2
        assert set(others) < {0, 3, 4, 8}

    def test_is_the_same_whoever_asks_and_another_at_another_point(self) -> None:
        found = Flips(np.ones(1000), 0.1)
        assert choose(found, seed=1) == choose(found, seed=1)
        assert len({tuple(choose(found, seed)) for seed in range(20)}) == 20

    def test_draws_every_flip_equally_often(self) -> None:
        """Whichever of 10 equal falls: each is one of the four shown in 40 % of 2,000 points, give or take four standard errors."""
        drawn = np.bincount([place for seed in range(2000) for place in choose(Flips(np.ones(10), 0.1), seed)], minlength=10)
        assert np.abs(drawn - 800).max() < 4 * math.sqrt(2000 * 0.4 * 0.6)

    def test_takes_what_there_is(self) -> None:
        assert choose(Flips(np.array([0.0, 1.0]), 0.1), seed=3) == {1: HARMFUL}
        assert choose(Flips(np.zeros(0), 0.1), seed=3) == {}

    def test_the_sample_of_every_point_fell_by_the_median(self) -> None:
        assert median_fall(Flips(np.array([9.0, 0.0, 3.0, 1.0, -2.0]), 0.5), seed=0) == 2


ROUGHNESS = """
import numpy as np


class Roughness:
    batch_size = 4

    def predict(self, signals):
        return [int(np.abs(np.diff(signal.pixels.astype(float), axis=1)).mean() > 8) for signal in signals]


def load(device):
    return Roughness()
"""


def noise(number: int) -> Image:
    """Noise that gets rougher with its number, and that JPEG makes smooth at a low quality."""
    return Image(np.random.default_rng(number).normal(128, 2 + 2 * number, (32, 32, 3)).clip(0, 255).astype(np.uint8))


def sample(number: int, read: Callable[[], Image] | None = None) -> Sample:
    source = hashlib.sha256(str(number).encode()).hexdigest()
    return Sample(f"p{number}", source, 3072, read or (lambda: noise(number)), lambda: int(number >= 3))


class Bench:
    """Pictures of which JPEG at q5 makes a model mistake some, and the folder of a store."""

    def __init__(self, folder: Path) -> None:
        (folder / "suite").mkdir()
        (folder / "suite" / "model.py").write_text(ROUGHNESS)
        self.folder = folder
        self.dataset = Dataset([sample(number) for number in range(8)], ("smooth", "rough"))
        self.evaluation = Evaluation(
            "tried", "tests", find_task("image_classification"), "python:model:load", {"path": "python:x:y"}, (), folder / "suite"
        )

    def measure(self, *qualities: str, parts: Path | None = None) -> list[Record]:
        """Evaluate the originals, then JPEG at some qualities, and count from nothing what the store makes."""
        self.store = open_store(self.folder / "store")
        model, bench = OpenModel(self.evaluation, "cpu"), Resources(self.store, Clock(), parts=parts)
        original = Pipeline(Case(self.evaluation, "original", ""), self.dataset, model, None, bench)
        records = [finish(original)]
        for quality in qualities:
            own = Pipeline(Case(self.evaluation, "jpeg", quality), self.dataset, model, Jpeg(), bench)
            records.append(finish(own, (original, records[0])))
        return records

    def forget(self, *layers: str) -> None:
        self.store.close()
        for part in list(self.store.parts()):
            if part.layer in layers:
                assert self.store.remove(part)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def shown(record: Record, why: str) -> dict[str, dict[str, Any]]:
    return {one["sample"]: one for one in record.shown if why in one["why"].split()}


def pixels(part: dict[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(Pillow.open(io.BytesIO(part["data"])).convert("RGB"))


class TestTheWayThrough:
    def test_shows_samples_that_fell_with_their_originals(self, bench: Bench) -> None:
        original, coarse, fine = bench.measure("q5", "q90")
        right = {row.sample for row in original.rows if row.scores["top1"] == 1.0}
        fallen = {row.sample for row in coarse.rows if row.scores["top1"] == 0.0} & right
        assert 2 < len(fallen) < len(right)  # or this tests nothing
        assert coarse.flips["worse"] == len(fallen)
        assert set(shown(coarse, HARMFUL)) | set(shown(coarse, RANDOM)) <= fallen
        assert len(shown(coarse, HARMFUL)) == 2
        codec = Jpeg()
        for name, one in shown(coarse, HARMFUL).items():
            decoded, before = one["parts"]
            signal = noise(int(name.removeprefix("p")))
            assert (decoded["label"], before["label"]) == ("smooth", "original rough")
            np.testing.assert_array_equal(pixels(before), signal.pixels)
            np.testing.assert_array_equal(pixels(decoded), codec.decode(codec.encode(signal, "q5")).pixels)
            assert (one["original_prediction"], one["original_score"]) == ("rough", 1.0)
        assert original.flips == {}
        assert fine.flips["worse"] < coarse.flips["worse"]

    def test_every_point_shows_a_sample_that_flips(self, bench: Bench) -> None:
        first, coarse, fine = bench.measure("q5", "q90")
        (name,) = shown(coarse, EXAMPLE)
        assert name in {row.sample for row in coarse.rows if row.scores["top1"] == 0.0}
        assert list(shown(fine, EXAMPLE)) == [name]
        assert list(shown(first, EXAMPLE)) == ["p0"]  # when it was done nothing had flipped yet
        assert any(part["label"].startswith("original ") for part in shown(coarse, EXAMPLE)[name]["parts"])
        again, *_ = bench.measure("q5")
        assert list(shown(again, EXAMPLE)) == [name]

    def test_where_nothing_flips_it_is_the_first_sample(self, bench: Bench) -> None:
        bench.dataset = Dataset([sample(0), sample(1)], bench.dataset.labels)
        original, fine = bench.measure("q90")
        assert fine.flips == {"worse": 0, "better": 0}
        assert [one["sample"] for record in (original, fine) for one in record.shown] == ["p0", "p0"]

    def test_makes_nothing_again(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        bench.measure("q5", "q90")
        assert bench.store.computed[AUDIT] > 0
        first = bench.measure("q5", "q90")  # the originals too show the sample that was chosen after them

        def never(*arguments: object) -> Any:
            raise AssertionError("made again")

        monkeypatch.setattr(ImageClassification, "example", never)
        second = bench.measure("q5", "q90")
        assert bench.store.computed[AUDIT] == 0
        assert [one.shown for one in second] == [one.shown for one in first]

    def test_makes_it_anew_where_the_store_has_no_bitstreams_any_more(self, bench: Bench) -> None:
        first = bench.measure("q5")
        bench.forget(BITSTREAM, AUDIT)
        again = bench.measure("q5")
        assert shown(again[1], HARMFUL) == shown(first[1], HARMFUL)

    def test_a_sample_that_cannot_be_shown_fails_nothing(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = bench.measure("q5")

        def broken(*arguments: object) -> Any:
            raise ValueError("no picture today")

        bench.forget(AUDIT)
        monkeypatch.setattr(ImageClassification, "example", broken)
        again = bench.measure("q5")
        assert [one.value for one in again] == [one.value for one in whole]
        assert again[1].flips == whole[1].flips
        (part, _) = next(iter(shown(again[1], HARMFUL).values()))["parts"]
        assert part["media_type"] == "text/plain"
        assert b"no picture today" in part["data"]

    def test_parts_lie_in_a_file_until_the_results_are_written(self, bench: Bench, tmp_path: Path) -> None:
        bench.measure("q5")
        held = bench.measure("q5")
        folder = OwnedFolder(tmp_path / PARTS / "run")
        folder.make()
        laid_down = bench.measure("q5", parts=folder.path)
        assert {type(one["parts"]) for one in held[1].shown} == {list}
        assert {type(one["parts"]) for one in laid_down[1].shown} == {str}
        for name, records in (("held", held), ("laid_down", laid_down)):
            write_samples(tmp_path / name, records)
        assert pq.read_table(tmp_path / "held").equals(pq.read_table(tmp_path / "laid_down"))
        folder.close()
        remove_parts(tmp_path)
        assert not (tmp_path / PARTS).exists()
        whole = read_examples(tmp_path / "held")
        some = read_examples(tmp_path / "held", lambda table: [len(table) - 1])
        assert [one["example"] is not None for one in some] == [False] * (len(whole) - 1) + [True]
        assert some[-1] == whole[-1]

    def test_whatever_goes_wrong_is_a_warning(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*arguments: object) -> Any:
            raise ZeroDivisionError("none")

        monkeypatch.setattr(flips, "choose", broken)
        with pytest.warns(UserWarning, match="tried-jpeg-q5: the report shows no samples of it: ZeroDivisionError"):
            _, coarse = bench.measure("q5")
        assert coarse.samples == 8

    def test_a_failed_sample_is_left_out(self, bench: Bench) -> None:
        def unreadable() -> Image:
            raise OSError("no such picture")

        whole = bench.measure("q5")[1]
        gone = next(iter(shown(whole, EXAMPLE)))
        number = int(gone.removeprefix("p"))
        bench.dataset = Dataset([sample(n, unreadable if n == number else None) for n in range(8)], bench.dataset.labels)
        bench.folder = bench.folder / "other"
        original, coarse = bench.measure("q5")
        assert [failure.sample for failure in coarse.failures] == [gone]
        assert original.samples == coarse.samples == 7
        assert coarse.flips["worse"] == whole.flips["worse"] - 1
        assert gone not in {one["sample"] for one in coarse.shown}

    def test_answers_to_the_originals_are_targets_as_well(self, bench: Bench) -> None:
        bench.evaluation = dataclasses.replace(bench.evaluation, targets="original")
        original, coarse = bench.measure("q5")
        answers = {row.sample: row.prediction for row in original.rows}
        changed = {row.sample for row in coarse.rows if row.prediction != answers[row.sample]}
        assert coarse.flips == {"worse": len(changed), "better": 0}
        assert set(shown(coarse, HARMFUL)) <= changed


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))


class TestAProject:
    """A suite of two evaluations, whose samples have hostile names, from pytest to the page."""

    @pytest.fixture(scope="class")
    @staticmethod
    def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
        project = Project(tmp_path_factory.mktemp("flips"))
        project.edit("evaluations/suites/model.py", 'f"p{n}"', f"{HOSTILE!r} + str(n)")
        run = project.run("-n", "2", report=True)
        assert run.ret == 0
        return project

    def test_results_count_and_name_the_flips(self, project: Project) -> None:
        samples, counts = project.samples(), {case["case"]: case["flips"] for case in project.results()["cases"]}
        scores = samples.pivot(index="sample", columns="case", values="score")
        fell = scores["pictures-original"] - scores["pictures-jpeg-q5"]
        assert counts["pictures-jpeg-q5"] == {"worse": int((fell > 0).sum()), "better": int((fell < 0).sum())}
        assert counts["pictures-jpeg-q5"]["worse"] > 0
        assert counts["pictures-original"] == {}
        rows = samples[(samples["case"] == "pictures-jpeg-q5") & samples["shown"].fillna("").str.contains(HARMFUL)]
        assert set(rows["sample"]) <= set(fell[fell > 0].index)
        assert (rows["original_score"] == 1.0).all()

    def test_the_page_holds_both_pictures_and_names_as_text(self, project: Project) -> None:
        page = project.out("report.html").read_text()
        found = Elements(page).found
        named = [attributes.get("aria-label") or "" for tag, attributes in found if tag == "article"]
        assert any(name.startswith(HOSTILE) and name.endswith("at jpeg-q5") for name in named)
        alt = {attributes["alt"]: attributes["src"] for tag, attributes in found if tag == "img"}
        one = next(text for text in alt if text and text.endswith("picture: original"))
        assert one is not None
        assert str(alt[one]).startswith("data:image/webp;base64,")
        assert one.replace("original", "decoded at jpeg-q5") in alt
        assert not any("onerror" in attributes for _, attributes in found)

    def test_another_run_says_the_same(self, project: Project) -> None:
        before = project.samples()
        assert project.run(report=False).ret == 0
        after = project.samples()
        harmful, again = (table[table["shown"].fillna("").str.contains(HARMFUL)] for table in (before, after))
        assert harmful[["case", "sample", "original_score"]].values.tolist() == again[["case", "sample", "original_score"]].values.tolist()


def case(quality: str, task: str = "image_classification", metric: str = "top1", **fields: Any) -> dict[str, Any]:
    codec = "jpeg" if quality else "original"
    return {
        "case": f"vit-{codec}-{quality}" if quality else "vit-original", "suite": "s", "evaluation": "vit", "task": task, "codec": codec,
        "quality": quality, "samples": 9, "metric": metric, "value": 0.5, "outcome": "passed", "metrics": {}, "failures": [], **fields,
    }  # fmt: skip


def part(label: str, data: bytes = b"x" * 300, kind: str = "image/webp") -> dict[str, Any]:
    return {"label": label, "media_type": kind, "data": data}


def row(quality: str, name: str, why: str, **fields: Any) -> dict[str, Any]:
    return {
        "case": f"vit-jpeg-{quality}", "sample": name, "shown": why, "rate": 1.0, "prediction": "moss", "target": "brick", "score": 0.0,
        "original_prediction": "brick", "original_score": 1.0, "example": [part("moss"), part("original brick")], **fields,
    }  # fmt: skip


def laid_out(cases: list[dict[str, Any]], rows: list[dict[str, Any]], budget: float = math.inf) -> tuple[list[Flip], list[Flip]]:
    found = flips_of([read_case(entry) for entry in cases], rows, {}, budget)
    assert found is not None
    return found.harmful, found.random


class TestThePage:
    def test_puts_the_largest_fall_first_and_then_the_higher_rate(self) -> None:
        rows = [
            row("q5", "low", HARMFUL, score=0.5, original_score=0.9, rate=0.1),
            row("q5", "much", HARMFUL, score=0.1, original_score=0.9, rate=0.1),
            row("q9", "high", HARMFUL, score=0.5, original_score=0.9, rate=2.0),
            row("q5", "nothing", HARMFUL, score=math.nan, rate=0.1),
        ]
        harmful, _ = laid_out([case("q5"), case("q9")], rows)
        assert [one.sample for one in harmful] == ["nothing", "much", "high", "low"]

    def test_shows_no_sample_twice_before_each_was_there(self) -> None:
        qualities = [f"q{number}" for number in range(10)]
        rows = [row(quality, name, HARMFUL) for quality in qualities for name in ("a", f"b{quality}")]
        harmful, _ = rows_of([read_case(case(quality)) for quality in qualities], rows)
        assert len(harmful) == MOST
        assert sorted(one["sample"] for one in harmful[:11]) == sorted(["a", *(f"b{quality}" for quality in qualities)])
        assert harmful[11]["sample"] == "a"

    def test_reads_of_many_flips_what_it_shows(self, tmp_path: Path) -> None:
        entries = [case(f"q{number}") for number in range(40)]
        rows = [row(f"q{number}", name, why) for number in range(40) for name, why in (("every", EXAMPLE), ("a", HARMFUL), ("b", RANDOM))]
        asked = wanted(entries, [{**one, "example": None} for one in rows])
        assert Counter(rows[place]["shown"] for place in asked) == {EXAMPLE: 40, HARMFUL: MOST, RANDOM: MOST}
        harmful, _ = laid_out(entries, [one if place in asked else {**one, "example": None} for place, one in enumerate(rows)])
        assert all(one.pairs for one in harmful)

    def test_draws_a_dozen_of_the_random_ones(self) -> None:
        rows = [row("q5", str(number), RANDOM) for number in range(50)]
        _, others = laid_out([case("q5")], rows)
        assert len({one.sample for one in others}) == 12

    def test_an_example_alone_is_no_flip_and_a_flip_alone_no_example(self) -> None:
        rows = [row("q5", "shown", EXAMPLE), row("q5", "fell", HARMFUL), row("q9", "both", f"{EXAMPLE} {HARMFUL}")]
        harmful, others = laid_out([case("q5"), case("q9")], rows)
        assert ({one.sample for one in harmful}, others) == ({"fell", "both"}, [])
        assert {name: found["sample"] for name, found in examples_of(rows).items()} == {
            "vit-jpeg-q5": "shown",
            "vit-jpeg-q9": "both",
        }

    def test_says_what_was_answered_and_what_now(self) -> None:
        ((one,), _) = laid_out([case("q5")], [row("q5", "fell", HARMFUL)])
        assert (one.before, one.now, one.target) == ("brick", "moss", "brick")
        ((pair,), _) = one.pictures, one.sounds
        assert [name for name, _ in pair.sides] == ["original", "decoded"]

    def test_marks_the_words_of_both_transcripts(self) -> None:
        said = {"prediction": "find the door", "original_prediction": "find the red window", "target": "find the red window"}
        entry = case("q5", "speech_recognition", "word_accuracy")
        ((one,), _) = laid_out([entry], [row("q5", "u", HARMFUL, **said, example=[part("sound", kind="audio/flac")])])
        assert one.words_before == (("same", "find the red window"),)
        assert one.words == (("same", "find the"), ("missing", "red window"), ("wrong", "door"))
        ((pair,), ()) = one.sounds, one.pictures
        assert pair.original is None

    def test_a_small_budget_leaves_out_the_media_of_the_least_harmful(self) -> None:
        rows = [row("q5", str(number), HARMFUL, rate=float(number)) for number in range(4)]
        harmful, _ = laid_out([case("q5")], rows, budget=2100)  # each takes 2 x (400 + 100)
        assert [(one.sample, bool(one.pairs), bool(one.note)) for one in harmful] == [
            ("3", True, False), ("2", True, False), ("1", False, True), ("0", False, True),
        ]  # fmt: skip

    def test_says_why_there_is_nothing_to_show(self) -> None:
        ((one,), _) = laid_out([case("q5")], [row("q5", "s", HARMFUL, example=[part("not shown", b"no <i>", "text/plain")])])
        assert (one.pairs, one.note) == ((), "no <i>")

    def test_the_example_has_its_original_from_the_case_that_chose_it(self) -> None:
        """For when the originals were done, another one was shown."""
        cases = [read_case(case("")), read_case(case("q5")), read_case(case("q9"))]
        rows = [
            {**row("", "first", EXAMPLE, example=[part("brick")]), "case": "vit-original"},
            row("q5", "fell", f"{EXAMPLE} {HARMFUL}"),
            row("q9", "fell", EXAMPLE, example=[part("brick")]),
        ]
        example = show_example(cases, examples_of(rows), math.inf)
        assert example is not None
        assert (example.sample, example.points) == ("fell", 3)
        assert example.original is not None
        assert (example.original.prediction, example.original.right) == ("brick", True)
        assert [media.label for media in example.original.media] == ["brick"]
        assert [media.label for cell in example.rows["jpeg"] for media in cell.media] == ["moss", "brick"]

    def test_results_of_older_runs_have_none(self) -> None:
        older = [{"case": "vit-jpeg-q5", "sample": "s", "example": [part("brick")]}]
        assert flips_of([read_case(case("q5"))], older, {}, math.inf) is None
        assert list(examples_of(older)) == ["vit-jpeg-q5"]

    def test_counts_stand_by_codec(self) -> None:
        cases = [read_case(case(quality)) for quality in ("q5", "q9", "q5@0.5x")]
        counts = {"vit-jpeg-q5": {"worse": 3, "better": 1}, "vit-jpeg-q5@0.5x": {"worse": 2, "better": 0}}
        found = flips_of(cases, [], counts, math.inf)
        assert found is not None
        assert {name: [(one.worse, one.better) for one in ladder] for name, ladder in found.ladders.items()} == {
            "jpeg": [(3, 1)],
            "jpeg@0.5x": [(2, 0)],
        }
