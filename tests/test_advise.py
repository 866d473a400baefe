"""The search for the quality that is enough, and the command that answers with it."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import NormalDist
from typing import Any

import hub_replicas as replicas
import numpy as np
import pytest
from loopback_hub import LoopbackHub
from PIL import Image as PILImage
from projects import MODEL, ROOT, heed_interrupts

from mpq_fixtures import codecs
from mpq_fixtures.__main__ import UNREAD, main
from mpq_fixtures.codecs import Numbers
from mpq_fixtures.commands.advise import ANSWERED, CANNOT, STOPPED, UNTOLD
from mpq_fixtures.decisions.advice import Figures, Point
from mpq_fixtures.decisions.search import Estimate, Found, parts, pool, search
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.rows import Failure
from mpq_fixtures.signals import Audio
from mpq_fixtures.statistics.proportions import score_of_ratio_ends

QUALITIES = [f"q{number}" for number in range(1, 101)]
HITS = Path(__file__).with_name("jpeg_hits.npz")
"""Which of 1,000 textures of the pocket suite vit_pocket names rightly, ``bool [1000, 1 + 100]``: the originals and JPEG at q1 to q100; and
the mean bytes of a picture at each quality. One pass of the real model over all of them, 101,000 answers."""


def curve(retention: Callable[[int], float], reach: Callable[[int], float], tried: list[tuple[str, int]] | None = None) -> Any:
    """Return what measures a quality by its number, with an interval that reaches so far to both sides on so many samples."""

    def measure(quality: str, samples: int) -> Estimate:
        if tried is not None:
            tried.append((quality, samples))
        number = int(quality.removeprefix("q"))
        kept = retention(number)
        return Estimate(kept, kept - reach(samples), kept + reach(samples), 0.1 + 0.02 * number)

    return measure


def exact(samples: int) -> float:
    return 0.0


def look(retention: Callable[[int], float], reach: Callable[[int], float] = exact, keep: float = 0.9, total: int = 200) -> Found:
    return search(QUALITIES, curve(retention, reach), parts(total), keep, ("q5", "q10", "q20", "q50", "q90"))


class TestSearch:
    @pytest.mark.parametrize("edge", [1, 2, 3, 8, 13, 36, 37, 38, 50, 77, 99, 100])
    def test_finds_the_edge_of_a_step_with_seven_qualities(self, edge: int) -> None:
        found = look(lambda number: float(number >= edge))
        assert found.sure is not None
        assert found.sure.quality == f"q{edge}"
        assert found.likely is found.sure
        assert found.lowest == (edge == 1)
        assert len(found.probes) <= 7
        if edge > 1:
            assert found.failing is not None
            assert found.failing.quality == f"q{edge - 1}"

    def test_finds_the_lowest_quality_on_a_slope(self) -> None:
        found = look(lambda number: 1 - math.exp(-number / 10), keep=0.9)  # 0.9 is reached at 10 ln 10 = 23.03
        assert found.sure is not None
        assert found.sure.quality == "q24"
        assert found.sure.samples == 200

    def test_answers_with_figures_of_all_samples(self) -> None:
        found = look(lambda number: 1.0 if number >= 8 else 0.3, lambda samples: 1 / math.sqrt(samples), keep=0.8)
        assert found.sure is not None
        assert (found.sure.quality, found.sure.samples) == ("q8", 200)
        assert all(probe.samples < 200 for probe in found.probes if probe is not found.sure)
        assert found.work < 7 * 200 / 2

    def test_says_that_the_best_quality_is_out_of_reach(self) -> None:
        found = look(lambda number: 0.5 + number / 300)
        assert found.out_of_reach
        assert found.sure is None
        assert found.likely is None
        assert found.probes[-1].quality == "q100"
        assert found.probes[-1].samples == 200

    def test_names_what_is_likely_and_how_many_samples_would_tell(self) -> None:
        found = look(lambda number: 0.92 if number >= 30 else 0.5, lambda samples: 0.6 / math.sqrt(samples), total=100)
        assert found.sure is None
        assert not found.out_of_reach
        assert found.likely is not None
        assert 30 <= found.likely.place + 1 <= 38  # no further than a quarter of the rate
        assert found.enough == pytest.approx(900, abs=1)  # 0.6 / sqrt(n) = 0.02

    def test_names_a_cheaper_quality_that_is_likely_beside_the_sure_one(self) -> None:
        found = look(lambda number: 1.0 if number >= 60 else 0.91 if number >= 10 else 0.4, lambda samples: 0.3 / math.sqrt(samples))
        assert found.sure is not None
        assert found.likely is not None
        assert 60 <= found.sure.place + 1 <= 90
        assert found.sure.estimate.retention == 1.0
        assert 10 <= found.likely.place + 1 <= 17
        assert len(found.probes) <= 7

    def test_takes_the_lowest_where_all_are_alike(self) -> None:
        found = look(lambda number: 0.97)
        assert found.lowest
        assert found.sure is not None
        assert found.sure.quality == "q1"

    def test_ends_on_curves_that_fall(self) -> None:
        found = look(lambda number: 1.2 - number / 100)
        assert len(found.probes) <= 7
        assert found.likely is None or found.likely.estimate.retention >= 0.9 or found.sure is None

    def test_ends_on_noise(self) -> None:
        generator = np.random.default_rng(3)
        for _ in range(200):
            values = generator.uniform(0.7, 1.1, 101)
            found = look(lambda number, values=values: float(values[number]), lambda samples: 1 / samples)  # type: ignore[misc]
            assert 1 <= len(found.probes) <= 7

    def test_of_one_sample_cannot_tell_how_many_would(self) -> None:
        """It has no interval, of one group neither."""
        found = search(QUALITIES, lambda quality, samples: Estimate(1.0, math.nan, math.nan, float(quality[1:])), [1], 0.9)
        assert (found.sure, found.enough) == (None, None)
        assert found.likely is not None

    def test_takes_one_quality(self) -> None:
        found = search(["q3"], curve(lambda number: 1.0, exact), [10], 0.9)
        assert found.sure is not None
        assert found.lowest
        assert len(found.probes) == 1

    def test_says_which_rates_do_not_rise(self) -> None:
        found = search(["q9", "q1"], curve(lambda number: float(number < 5), exact), [10], 0.9)
        assert found.disorder is not None
        assert [probe.quality for probe in found.disorder] == ["q9", "q1"]

    def test_measures_ever_more_of_the_same_samples(self) -> None:
        tried: list[tuple[str, int]] = []
        search(QUALITIES, curve(lambda number: number / 100, lambda samples: 2 / math.sqrt(samples), tried), parts(200), 0.5)
        assert parts(200) == [25, 50, 100, 150, 200]
        for quality in {quality for quality, _ in tried}:
            sizes = [samples for other, samples in tried if other == quality]
            assert sizes == sorted(set(sizes))

    def test_does_not_part_few_samples(self) -> None:
        assert parts(20) == [20]
        assert parts(1) == [1]
        assert parts(60) == [30, 45, 60]

    def test_pools_as_isotonic_regression_does(self) -> None:
        isotonic = pytest.importorskip("sklearn.isotonic")
        generator = np.random.default_rng(5)
        for count in (1, 2, 7, 50):
            values, weights = generator.normal(size=count), generator.integers(1, 200, count)
            expected = isotonic.IsotonicRegression().fit_transform(np.arange(count), values, sample_weight=weights)
            assert pool(list(values), list(weights)) == pytest.approx(expected)


class TestPoint:
    def test_takes_the_rate_of_the_samples_that_the_originals_have(self) -> None:
        """Of two sounds of a second in 1,000 bytes each, 8 kbit/s, the original of one failed."""

        def figures(names: str, failures: Sequence[Failure] = ()) -> Figures:
            count = len(names)
            sizes, elements = np.full(count, 1000), np.full(count, 48_000)
            return Figures(list(names), [""] * count, np.ones(count), [], sizes, elements, np.ones(count), list(failures))

        point = Point.of("6k", figures("ab"), figures("a", [Failure("b", "predict", "no answer")]), Top1(), 0.95)
        assert (point.samples, point.failed) == (1, 1)
        assert point.kbps * point.rate == pytest.approx(8.0)


class TestOnPocketTextures:
    """100 draws of 200 textures, each against all 100 qualities and every tenth on all 200 samples, whose bounds are pooled."""

    @pytest.mark.parametrize("keep", [0.8, 0.85, 0.9])
    def test_finds_what_all_qualities_would_with_a_third_of_the_work_of_every_tenth(self, keep: float) -> None:
        near, of_ten, work = zip(*(self.searched(keep, draw) for draw in draws()), strict=True)
        assert sum(place <= 1 for place in near) >= 95
        assert sum(place <= 10 for place in of_ten) >= 95
        assert np.mean(work) <= 10 * 200 / 3

    def test_finds_less_often_what_lies_where_the_curve_is_flat(self) -> None:
        near, of_ten, work = zip(*(self.searched(0.95, draw) for draw in draws()), strict=True)
        assert sum(place <= 1 for place in near) >= 60
        assert sum(place <= 10 for place in of_ten) >= 78
        assert np.mean(work) <= 10 * 200 * 0.42

    @staticmethod
    def searched(keep: float, draw: tuple[Any, Any]) -> tuple[int, int, int]:
        """Return how far the search is off all qualities and every tenth, and the samples over all qualities that it took."""
        originals, answers = draw
        sizes = np.load(HITS)["bytes"]

        def measure(quality: str, samples: int) -> Estimate:
            number = int(quality[1:]) - 1
            return Estimate(*kept(answers[:samples, number], originals[:samples]), float(sizes[number]))

        def lowest(qualities: Sequence[str]) -> int:
            lows = pool([measure(quality, 200).low for quality in qualities], [1] * len(qualities))
            return QUALITIES.index(next(quality for quality, low in zip(qualities, lows, strict=True) if low >= keep))

        found = search(QUALITIES, measure, parts(200), keep, codecs.instance("jpeg").ladder)
        assert found.sure is not None
        return abs(found.sure.place - lowest(QUALITIES)), abs(found.sure.place - lowest(QUALITIES[9::10])), found.work


def kept(answers: Any, originals: Any) -> tuple[float, float, float]:
    """Return retention and its interval of 95 %, as `retention_interval` does of right and wrong answers, without its checks."""
    both, rose, fell = (int(np.count_nonzero(pair)) for pair in (answers & originals, answers & ~originals, originals & ~answers))
    ends = score_of_ratio_ends(float(both), float(rose), float(fell), float(len(answers)), NormalDist().inv_cdf(0.975))
    return (both + rose) / (both + fell), *ends


@cache
def draws() -> list[tuple[Any, Any]]:
    hits = np.unpackbits(np.load(HITS)["hits"], axis=1, count=101).astype(bool)
    generator = np.random.default_rng(7)
    chosen = (hits[generator.permutation(len(hits))[:200]] for _ in range(100))
    return [(rows[:, 0], rows[:, 1:]) for rows in chosen]


class TestRanges:
    def test_have_the_lowest_rate_first(self) -> None:
        assert list(codecs.instance("jpeg").range()) == QUALITIES
        assert codecs.instance("jp2k").range()[0] == "r1000"
        assert codecs.instance("jp2k").range()[-1] == "r2"
        assert Numbers("qp", 3, 0).in_order() == ["qp3", "qp2", "qp1", "qp0"]

    def test_are_understood_and_hold_the_ends(self) -> None:
        for name in codecs.registered():
            codec = codecs.instance(name)
            found = codec.range()
            assert len(set(found)) == len(found) <= 128
            for quality in found:
                codec.check(quality)
            assert {codec.ladder[0], codec.ladder[-1]} <= set(found) or codec.qualities is not None

    def test_of_many_numbers_are_shares_apart(self) -> None:
        numbers = [int(quality[:-1]) for quality in codecs.instance("opus").range()]
        assert numbers[0] == 6
        assert numbers[-1] == 256
        steps = [b / a - 1 for a, b in pairwise(numbers)]
        assert max(step for number, step in zip(numbers, steps, strict=False) if number > 25) < 0.08

    def test_of_mp3_have_each_bit_rate_once(self) -> None:
        codec = codecs.instance("mp3")
        for rate, lowest in ((16000, "8k"), (44100, "32k")):
            assert codec.range(Audio(np.zeros((1, rate), np.float32), rate))[0] == lowest

    def test_name_the_encoders_own_commands(self) -> None:
        assert codecs.instance("jp2k").command_line("r50") == "opj_compress -i input.png -o output.j2k -r 50 -I"
        assert codecs.instance("vorbis").command_line("q0_8khz") == "oggenc -q 0 --resample 8000 -o output.ogg input.wav"
        assert codecs.instance("lyra").command_line("6k") == ""


EMBEDDER = """

class Embedder:
    def embed(self, signals):
        return [signal.pixels[::4, ::4].astype(np.float32).ravel() - 127.5 for signal in signals]


def embedder(device):
    return Embedder()


class Named(Model):
    labels = ["rough", "smooth"]


def slow(device):
    Path("began").touch()
    return Named(lambda signal: time.sleep(0.05) or 1 - roughness(signal))


slow.labels = Named.labels


def named(device):
    if "TRIED_NEVER" in os.environ:
        raise AssertionError("the model is not needed")
    return Named(lambda signal: 1 - roughness(signal))


named.labels = Named.labels  # so that nothing is loaded to know them


def wrong(device):
    return Named(roughness)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures in folders of their classes, a model beside them, and folders that are of no use."""
    folder = tmp_path_factory.mktemp("advise")
    generator = np.random.default_rng(0)
    for label, spread in (("smooth", 2), ("rough", 25)):
        for number in range(60):
            file = folder / "photos" / label / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = generator.normal(128, spread + number / 30, (32, 32, 3)).clip(0, 255)
            PILImage.fromarray(pixels.astype(np.uint8)).save(file)
    (folder / "model.py").write_text(MODEL + EMBEDDER)
    (folder / "empty").mkdir()
    (folder / "mixed").mkdir()
    (folder / "mixed" / "a.png").touch()
    (folder / "mixed" / "b.wav").touch()
    (folder / "sounds").mkdir()
    (folder / "sounds" / "b.wav").touch()
    return folder


def run(place: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    done = start(place, *arguments, **environment)
    output, errors = done.communicate(timeout=600)
    assert "Traceback" not in errors
    return done.returncode, output, errors


def start(place: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    outer = ("PYTEST_", "MPQ_", "COV_", "HF_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
    inherited |= {"OMP_NUM_THREADS": "1", "HOME": str(place), "HF_HOME": str(place / "hf"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "mpq_fixtures", "advise", *arguments, "--mpq-cache", "store"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=place, env=inherited | environment, text=True, preexec_fn=heed_interrupts, **pipes)


@pytest.fixture(scope="module")
def first(place: Path) -> tuple[int, str, str]:
    return run(place, "photos", "--model", "python:model:named", "--keep", "0.9", "--codec", "jpeg", "--codec", "webp")


class TestCommand:
    def test_answers_with_codec_quality_rate_and_command(self, first: tuple[int, str, str]) -> None:
        code, output, errors = first
        assert code == ANSWERED, errors
        lines = output.splitlines()
        assert lines[0].startswith("photos: 120 pictures, ")
        assert lines[1] == "held against labels: top-1 accuracy on the originals is 1.000"
        assert any(line.startswith("codec  quality  rate (bpp)") for line in lines)
        assert any(" of the originals' top-1 accuracy." in line for line in lines)
        assert any(line.startswith("A terabyte of this data as it is stored today becomes ") for line in lines)
        assert any(line.startswith(("    cjpeg -quality ", "    cwebp -q ")) for line in lines)
        assert any(line.startswith("Next is ") for line in lines)

    def test_computes_nothing_twice(self, place: Path, first: tuple[int, str, str]) -> None:
        arguments = ["photos", "--model", "python:model:named", "--keep", "0.9", "--codec", "jpeg", "--codec", "webp"]
        code, output, errors = run(place, *arguments, TRIED_NEVER="1")
        assert (code, output) == first[:2], errors

    def test_says_the_same_as_data_and_writes_a_report(self, place: Path, first: tuple[int, str, str]) -> None:
        arguments = ["photos", "--model", "python:model:named", "--keep", "0.9", "--codec", "jpeg", "--codec", "webp"]
        code, output, errors = run(place, *arguments, "--json", "--out", "report")
        assert code == ANSWERED, errors
        content = json.loads(output)
        assert content["answer"]["codec"] in ("jpeg", "webp")
        assert content["answer"]["retention_low"] >= 0.9
        assert content["samples"] == 120
        stored = sum(file.stat().st_size for file in (place / "photos").rglob("*.png"))
        assert content["stored_bytes"] == stored
        assert content["raw_bytes"] == 120 * 32 * 32 * 3
        for codec in content["codecs"]:
            rates = [probe["rate"] for probe in codec["probes"] if probe["samples"] == 120]
            assert rates == sorted(rates)
            assert f"{codec['codec']} at {codec['quality']}" in first[1]
        results = json.loads((place / "report" / "results.json").read_text())
        cases = results["cases"]
        assert {case["outcome"] for case in cases} == {"passed"}
        assert {(case["codec"], case["quality"]) for case in cases} == {
            ("original", ""),
            *((codec["codec"], probe["quality"]) for codec in content["codecs"] for probe in codec["probes"] if probe["samples"] == 120),
        }
        assert {case["samples"] for case in cases} == {120}
        for codec in content["codecs"]:
            for probe in codec["probes"]:
                assert (f"{codec['codec']} {probe['quality']} on {probe['samples']}" in cases[0]["notes"]) == (probe["samples"] < 120)
        (decided,) = results["decisions"]
        assert decided["samples"] == 120
        assert not decided["note"]
        (choice,) = (one for one in decided["keep"]["0.9"] if one["codec"] == content["answer"]["codec"])
        assert choice["rate"] <= content["answer"]["rate"] + 1e-6  # it asks the estimate, not its bound
        assert (place / "report" / "report.html").stat().st_size > 10_000
        assert main(["report", str(place / "report")]) == 0

    def test_holds_answers_against_the_models_own_without_labels(self, place: Path) -> None:
        arguments = ["photos", "--model", "python:model:embedder", "--task", "image_embedding", "--keep", "0.5", "--codec", "jpeg"]
        code, output, errors = run(place, *arguments)
        assert code == ANSWERED, errors
        assert "held against the model's own answers to the originals: agreement (cosine similarity)" in output

    def test_says_why_labels_are_not_read(self, place: Path) -> None:
        code, output, errors = run(place, "photos", "--model", "python:model:sharpness", "--keep", "0.5", "--codec", "jpeg")
        assert code == ANSWERED, errors
        assert "labels are not read: the model names no classes; --labels takes those of the data in their order" in output

    def test_cannot_tell_with_few_samples(self, place: Path) -> None:
        code, output, errors = run(place, "photos", "--model", "python:model:named", "--keep", "0.99", "--codec", "jpeg", "--samples", "30")
        assert code == UNTOLD, errors
        assert "No answer: 30 samples cannot tell whether any codec keeps 99 %; about 3" in output

    def test_says_nothing_where_nobody_reads_the_answer(self, place: Path) -> None:
        process = start(place, "photos", "--model", "python:model:named", "--keep", "0.9", "--codec", "jpeg", "--samples", "30")
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        told = process.stderr.read()
        assert process.wait(300) == UNREAD
        assert "stopped" not in told

    def test_stops_at_an_interrupt_and_goes_on_from_there(self, place: Path) -> None:
        arguments = ["photos", "--model", "python:model:slow", "--keep", "0.9", "--codec", "jpeg"]
        process = start(place, *arguments)
        began = time.monotonic()
        while not (place / "began").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() - began < 300
            time.sleep(0.02)
        time.sleep(0.5)  # 120 originals take 6 s
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=300)
        assert (process.returncode, output) == (STOPPED, ""), errors
        assert errors.splitlines()[-1].endswith("stopped; what was measured is in the store, and the same command goes on from there")
        code, output, errors = run(place, *arguments)
        assert code == ANSWERED, errors

    def test_answers_though_the_report_cannot_be_written(self, place: Path, first: tuple[int, str, str]) -> None:
        (place / "file").touch()
        arguments = ["photos", "--model", "python:model:named", "--keep", "0.9", "--codec", "jpeg", "--codec", "webp"]
        code, output, errors = run(place, *arguments, "--out", "file/report")
        assert (code, output) == (CANNOT, first[1])
        assert errors.splitlines()[-1] == "mpq advise: the answer stands, and file/report could not be written: Not a directory"

    def test_answers_about_one_sample(self, place: Path) -> None:
        code, output, errors = run(place, "photos", "--model", "python:model:named", "--codec", "jpeg", "--samples", "1")
        assert code == UNTOLD, errors
        assert "No answer: 1 sample cannot tell whether any codec keeps 95 %" in output

    def test_takes_data_and_model_from_the_hub(self, tmp_path: Path) -> None:
        from datasets import ClassLabel, Features
        from datasets import Image as Picture

        generator = np.random.default_rng(0)
        names = ["rough", "smooth"]
        pictures = []
        for row in range(40):
            content = io.BytesIO()
            PILImage.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8) // (1 + 7 * (row % 2))).save(content, "PNG")
            pictures.append({"bytes": content.getvalue(), "path": f"{row}.png"})
        columns = {"image": pictures, "label": [row % 2 for row in range(40)]}
        content = replicas.parquet(columns, Features({"image": Picture(), "label": ClassLabel(names=names)}))
        with LoopbackHub() as hub:
            hub.add("model", "someone/vit", replicas.saved(lambda folder: replicas.vit(folder, names)))
            hub.add("dataset", "someone/textures", {"data/test-00000-of-00001.parquet": content})
            at = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"}
            arguments = ["someone/textures", "--model", "someone/vit", "--split", "test", "--keep", "0.5", "--codec", "jpeg", "--json"]
            code, output, errors = run(tmp_path, *arguments, **at)
            assert code == ANSWERED, errors
            told = json.loads(output)
            assert (told["model"], told["dataset"]) == ("someone/vit", "someone/textures:test")
            assert (told["task"], told["targets"], told["samples"]) == ("image_classification", "labels", 40)
        assert run(tmp_path, *arguments, HF_ENDPOINT="http://127.0.0.1:9")[:2] == (code, output)

    def test_wants_something_to_keep(self, place: Path) -> None:
        code, _, errors = run(place, "photos", "--model", "python:model:wrong", "--codec", "jpeg")
        assert code == CANNOT
        assert "on the 120 originals the model is right of none, so that there is nothing to keep" in errors


class TestBadInput:
    @pytest.mark.parametrize("share", ["0", "1.01", "-1", "nan", "half"])
    def test_a_share_lies_above_0_and_at_1_at_most(self, share: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["advise", "photos", "--model", "m", f"--keep={share}"])
        assert ended.value.code == CANNOT
        assert f"{share!r} is not a share to keep: give a number above 0 and at most 1" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["nowhere", "--model", "python:model:named"], "there is no folder nowhere"),
            (["photos"], "name a model with --model"),
            (["empty", "--model", "python:model:named"], "there are neither pictures nor sounds in empty"),
            (["mixed", "--model", "python:model:named"], "mixed holds 1 picture and 1 sound: give a folder of one kind"),
            (["sounds", "--model", "python:model:named"], "nothing says what a python: model answers: say it with --task: audio_"),
            (
                ["photos", "--model", "python:model:named", "--task", "audio_embedding"],
                "photos holds pictures, and audio_embedding takes sounds",
            ),
            (["photos", "--model", "python:model:named", "--codec", "opus"], "opus is a codec of sounds"),
            (["photos", "--model", "python:model:named", "--codec", "jpg"], "there is no codec 'jpg'; did you mean"),
            (["photos", "--model", "python:model:named", "--task", "telepathy"], "there is no task 'telepathy'"),
            (["photos", "--model", "python:model:missing"], "has no callable 'missing'"),
            (["photos", "--model", "./nothing"], "there is no model folder"),
            (["pocket:nothing"], "pocket has no evaluation 'nothing'"),
            (["pocket:vit_pocket", "--model", "python:model:named"], "--model: pocket:vit_pocket says that itself"),
            (["photos", "--model", "python:model:embedder", "--task", "image_embedding", "--labels"], "image_embedding reads none"),
        ],
    )
    def test_is_told_in_a_sentence(
        self, arguments: Sequence[str], sentence: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(place)
        assert main(["advise", *arguments, "--mpq-cache", str(place / "store")]) == CANNOT
        told = capsys.readouterr().err
        assert told.startswith("mpq advise: ")
        assert sentence in told
        assert told.count("\n") == 1
