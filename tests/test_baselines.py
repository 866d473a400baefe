"""Baselines and verdicts: what is approved, what a record is held against, and what a failure says."""

from __future__ import annotations

import base64
import json
import math
import re
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, SIGNAL, digest
from mpq_fixtures.gate.accepted import Accepted, accepted_lines, changed_by
from mpq_fixtures.gate.baseline_cases import BITS
from mpq_fixtures.gate.baseline_files import BaselineError, baseline_file
from mpq_fixtures.gate.baselines import Baselines, approved_points, read_baselines, why_not, write_baselines
from mpq_fixtures.gate.measured import Measured, of_record
from mpq_fixtures.gate.schema_1 import migrate_baselines
from mpq_fixtures.metrics import Metric, restore_metric
from mpq_fixtures.metrics.miou import MeanIoU
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.word_accuracy import WordAccuracy
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.rows import Failure, Row
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task

ORDER = ["original", "jpeg-q5", "jpeg-q10", "webp-q0"]
APPROVE = "pytest evaluations -k x --mpq-update-baselines"
EVALUATION = Evaluation("tried", "tests", find_task("image_classification"), "a/model", {"path": "a/set"}, (), Path())
PROVENANCE = {
    "command": ["pytest", "evaluations"],
    "version": "1.2.3",
    "commit": "c0ffee+",
    "machine": {"system": "Linux", "processor": "a processor", "instructions": "avx2"},
    "packages": {"torch": "2.13.0", "pillow": "13.0.0"},
    "codecs": {"jpeg": "pillow 13.0.0, libjpeg 3.2.0", "webp": "pillow 13.0.0, libwebp 1.6.0", "opus": "soundfile"},
    "models": {"tried": {"source": "a/model", "fingerprint": "m" * 8}, "other": {"source": "b"}},
    "options": {"samples": None},
}


def record(hits: str, point: str = "jpeg-q5", size: int = 100) -> Record:
    """A record of one sample for each character, a hit where it is 1, each ``size`` bytes for 100 pixels."""
    codec, _, quality = point.partition("-")
    spent = {"payload": size, "container": 0, "side": 0}
    rows = [Row(f"s{n}", size + n, 100, "", "", float(hit), {}, {"top1": float(hit)}, spent) for n, hit in enumerate(hits)]
    return summarise(Case(EVALUATION, codec, quality), Rows.of(rows), [], Top1(), [])


def chained(content: Record, seed: int = 0, without: Sequence[str] = (), **links: str) -> Record:
    """The record with sources, a chain of digests and two signal metrics of its samples; ``links`` say otherwise of a layer."""

    def link(layer: str, number: int) -> str:
        return digest(
            f"{layer} {number} {seed if layer != SIGNAL else ''} {links.get(layer, '')} {content.codec} {content.quality}".encode()
        )

    layers = (GIVEN, ANSWER) if content.codec == "original" else (BITSTREAM, DECODED, GIVEN, ANSWER)
    signal = [digest(f"{SIGNAL} {number} {links.get(SIGNAL, '')}".encode()) for number in range(len(content.rows))]
    rows = [
        replace(
            row,
            source=digest(f"source {number} {links.get('source', '')}".encode()) * 4,
            group=f"g{number // 2}",
            chain={SIGNAL: signal[number], **{layer: link(layer, number) for layer in layers if layer not in without}},
            scores={**row.scores, "psnr": 30 + number * math.pi, "ssim": math.nan if number == 1 else 0.9},
        )
        for number, row in enumerate(content.rows)
    ]
    metrics = content.metrics | {name: content.metrics["top1"] for name in ("psnr", "ssim")}
    return replace(
        content,
        rows=Rows.of(rows),
        metrics=metrics,
        fingerprint="m" * 8,
        codec_fingerprint="" if content.codec == "original" else f"{content.codec} 1",
    )


def measured(hits: str, point: str = "jpeg-q5", size: int = 100, **links: Any) -> Measured:
    return of_record(chained(record(hits, point, size), **links), PROVENANCE)


def with_value(content: Record, value: float) -> Record:
    return replace(content, metrics={"top1": replace(content.metrics["top1"], value=value)})


def with_failure(content: Record) -> Record:
    return replace(content, failures=[Failure("s7", "decode", "ValueError: no stream")])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return baseline_file(tmp_path, "tests", "tried")


def points(file: Path) -> list[str]:
    return list(json.loads(file.read_text())["cases"])


def write(file: Path, *cases: Measured, only_new: bool = False) -> list[str]:
    return [accepted.case for accepted in write_baselines(file, cases, ORDER, only_new)]


def edit(file: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


class TestWrite:
    def test_is_read_back_as_it_was_measured(self, file: Path) -> None:
        given = measured("110100")
        assert write(file, measured("111111", "original"), given) == ["tried-original", "tried-jpeg-q5"]
        kept = read_baselines(file)["jpeg-q5"]
        assert (kept.case, kept.suite, kept.evaluation, kept.metric, kept.version) == ("tried-jpeg-q5", "tests", "tried", "top1", 1)
        assert (kept.value, kept.rate, kept.settings, kept.failed) == (0.5, pytest.approx(given.rate, abs=1e-12), {}, 0)
        assert (list(kept.samples), list(kept.groups)) == ([f"s{n}" for n in range(6)], ["g0", "g0", "g1", "g1", "g2", "g2"])
        assert list(kept.sources) == [source[:8] for source in given.sources]
        assert [statistic.tolist() for statistic in kept.statistics] == [1, 1, 0, 1, 0, 0]
        assert kept.bytes.tolist() == [100, 101, 102, 103, 104, 105]
        assert kept.elements.tolist() == [100] * 6
        assert (kept.codec, kept.model) == ("jpeg 1", "m" * 8)

    def test_keeps_of_every_link_the_leading_bits_and_of_a_layer_the_whole(self, file: Path) -> None:
        given = measured("1101" * 10)
        write(file, given)
        kept = read_baselines(file)["jpeg-q5"]
        assert kept.whole == given.whole
        assert set(kept.links) == {SIGNAL, BITSTREAM, DECODED, ANSWER}
        assert kept.bits == {SIGNAL: 12, BITSTREAM: 8, DECODED: 12, ANSWER: 12} == BITS
        for layer, links in kept.links.items():
            assert [int(link) for link in links] == [
                int(link) >> (64 - kept.bits[layer]) << (64 - kept.bits[layer]) for link in given.links[layer]
            ]

    def test_keeps_no_link_of_what_has_none(self, file: Path) -> None:
        given = of_record(record("1101"))
        assert not given.links
        write(file, given, measured("1101", "webp-q0", without=[BITSTREAM]))
        kept = read_baselines(file)
        assert (kept["jpeg-q5"].links, kept["jpeg-q5"].whole, kept["jpeg-q5"].similarity) == ({}, {}, {})
        assert set(kept["webp-q0"].links) == {SIGNAL, DECODED, ANSWER}

    def test_holds_one_case_approval_and_set_a_line(self, file: Path) -> None:
        write(file, measured("1111", "webp-q0"), measured("1101"), measured("1111", "original"))
        lines = file.read_text().splitlines()
        assert [line.split('"')[1] for line in lines if line.startswith("  ")][1:4] == ["original", "jpeg-q5", "webp-q0"]
        content = json.loads(file.read_text())
        assert (len(content["approvals"]), len(content["sets"])) == (1, 1)
        case = content["cases"]["jpeg-q5"]
        assert (case["value"], case["rate"], case["samples"], case["similarity"]["ssim"]) == (0.75, 8.12, 4, 0.9)
        assert len(lines) == 1 + 1 + 3 + 5 + 3 + 1

    def test_merges_in_the_order_of_the_suite_and_leaves_the_other_lines(self, file: Path) -> None:
        write(file, measured("1111", "webp-q0"))
        before = file.read_text().splitlines()
        write(file, measured("1100"), measured("1111", "original"))
        assert points(file) == ["original", "jpeg-q5", "webp-q0"] == approved_points(file)
        assert [line for line in before if '"webp-q0"' in line] == [line for line in file.read_text().splitlines() if '"webp-q0"' in line]

    def test_keeps_points_that_the_suite_has_no_more(self, file: Path) -> None:
        write(file, measured("1111", "webp-q0"), measured("1111"))
        write_baselines(file, [measured("1100")], ORDER[:2], only_new=False)
        assert points(file) == ["jpeg-q5", "webp-q0"]

    def test_of_new_ones_leaves_the_old(self, file: Path) -> None:
        write(file, measured("1111"))
        assert write(file, measured("0000"), measured("1100", "webp-q0"), only_new=True) == ["tried-webp-q0"]
        assert {point: one.value for point, one in read_baselines(file).items()} == {"jpeg-q5": 1.0, "webp-q0": 0.5}

    def test_of_the_same_changes_not_a_byte(self, file: Path) -> None:
        write(file, measured("1101"))
        before = file.read_bytes()
        assert write(file, measured("1101")) == []
        assert file.read_bytes() == before

    @pytest.mark.parametrize("layer", [SIGNAL, BITSTREAM, DECODED, GIVEN, ANSWER])
    def test_of_the_same_figures_by_another_way_is_written(self, file: Path, layer: str) -> None:
        write(file, measured("1101"))
        assert write(file, measured("1101", **{layer: "changed"})) == ["tried-jpeg-q5"]

    def test_of_the_same_figures_by_another_codec_or_model_is_written(self, file: Path) -> None:
        write(file, measured("1101"))
        assert write(file, replace(measured("1101"), codec="jpeg 2")) == ["tried-jpeg-q5"]
        assert write(file, replace(measured("1101"), codec="jpeg 2", model="n")) == ["tried-jpeg-q5"]
        kept = read_baselines(file)["jpeg-q5"]
        assert (kept.codec, kept.model) == ("jpeg 2", "n")

    def test_knows_a_data_set_that_grew(self, file: Path) -> None:
        write(file, measured("11"), measured("10", "webp-q0"))
        write(file, measured("1110"))
        kept = read_baselines(file)
        assert [len(kept[point].samples) for point in ("jpeg-q5", "webp-q0")] == [4, 2]
        assert kept["webp-q0"].value == 0.5
        write(file, measured("1000", "webp-q0"))
        assert len(json.loads(file.read_text())["sets"]) == 1
        assert read_baselines(file)["webp-q0"].value == 0.25

    def test_leaves_out_what_is_broken(self, file: Path) -> None:
        twice = measured("11")
        broken = {
            "1 of 5 samples failed": of_record(chained(with_failure(record("1100")))),
            "top1 is nan": of_record(chained(with_value(record("1100", "webp-q0"), math.nan))),
            "top1 is inf": of_record(chained(with_value(record("1100", "jpeg-q10"), math.inf))),
            "rate nan": measured(""),
            "two of its samples have one id": replace(twice, samples=["s0", "s0"]),
        }
        for reason, one in broken.items():
            assert reason in why_not(one)
        assert write(file, *broken.values()) == []
        assert not file.exists()

    def test_replaces_a_damaged_case_and_not_its_neighbours(self, file: Path) -> None:
        write(file, measured("1111", "webp-q0"), measured("1111"))
        edit(file, lambda content: content["cases"]["jpeg-q5"].update(value=0.1))
        (accepted,) = write_baselines(file, [measured("1100")], ORDER, only_new=False)
        assert math.isnan(accepted.before or 0.0)
        assert {point: one.value for point, one in read_baselines(file).items()} == {"jpeg-q5": 0.5, "webp-q0": 1.0}

    def test_keeps_samples_in_the_order_of_each_case(self, file: Path) -> None:
        write(file, measured("1100"), replace(measured("1100", "webp-q0").take([2, 0, 1, 3]), value=0.5))
        kept = read_baselines(file)["webp-q0"]
        assert list(kept.samples) == ["s2", "s0", "s1", "s3"]
        assert [statistic.tolist() for statistic in kept.statistics] == [0, 1, 1, 0]


class TestApproval:
    def test_says_when_by_what_and_on_what(self, file: Path) -> None:
        write(file, measured("1111", "original"), measured("1101"))
        (approval,) = json.loads(file.read_text())["approvals"].values()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", approval["when"])
        for part in ("version", "commit", "machine", "packages"):
            assert approval[part] == PROVENANCE[part]
        assert approval["codecs"] == {"jpeg": "pillow 13.0.0, libjpeg 3.2.0"}
        assert approval["models"] == {"tried": {"source": "a/model", "fingerprint": "m" * 8}}
        assert "command" not in approval
        assert read_baselines(file)["jpeg-q5"].provenance == approval

    def test_is_that_of_the_run_which_measured_the_case(self, file: Path) -> None:
        write(file, measured("1111", "original"), measured("1101"))
        write(file, replace(measured("1100"), provenance={**PROVENANCE, "version": "1.3.0"}))
        assert {point: one.provenance["version"] for point, one in read_baselines(file).items()} == {
            "original": "1.2.3",
            "jpeg-q5": "1.3.0",
        }
        assert len(json.loads(file.read_text())["approvals"]) == 2

    def test_is_forgotten_with_its_last_case(self, file: Path) -> None:
        write(file, measured("1101"))
        write(file, replace(measured("1100"), provenance={**PROVENANCE, "version": "1.3.0"}))
        (approval,) = json.loads(file.read_text())["approvals"].values()
        assert approval["version"] == "1.3.0"


class TestSimilarity:
    @staticmethod
    def kept(file: Path, values: np.ndarray) -> np.ndarray:
        write(file, replace(measured("1" * len(values)), similarity={"psnr": values}))
        return np.asarray(read_baselines(file)["jpeg-q5"].similarity["psnr"])

    def test_mean_is_exact_and_each_value_within_a_step(self, file: Path) -> None:
        values = np.random.default_rng(0).normal(33, 4, 240)
        kept, step = self.kept(file, values), np.ptp(values) / 62
        assert kept.mean() == pytest.approx(values.mean(), abs=1e-6)
        assert np.abs(kept - values).max() <= 1.1 * step

    def test_mean_of_a_stretch_is_within_a_step_over_its_length(self, file: Path) -> None:
        values = np.random.default_rng(1).normal(33, 4, 240)
        kept, step = self.kept(file, values), np.ptp(values) / 62
        for start in range(0, 240, 40):
            for length in (10, 40):
                part = slice(start, start + length)
                assert abs(kept[part].mean() - values[part].mean()) <= 1.1 * step / length + step / 240

    def test_mean_of_some_samples_is_near(self, file: Path) -> None:
        """What rounding does to a mean over 50 of 240 samples must lie below 0.1 dB, PSNR's tolerance."""
        generator = np.random.default_rng(2)
        values = generator.normal(33, 4, 240)
        kept = self.kept(file, values)
        errors = [kept[some].mean() - values[some].mean() for some in (generator.choice(240, 50, False) for _ in range(500))]
        assert np.abs(errors).max() < 0.1

    @pytest.mark.parametrize("values", [[30.0] * 4, [-100.0, 100.0], [1e-9, 2e-9], [5.0]])
    def test_of_any_range_comes_back(self, file: Path, values: list[float]) -> None:
        assert self.kept(file, np.array(values)).tolist() == pytest.approx(values, abs=1e-6)

    def test_of_samples_without_a_value_is_nan(self, file: Path) -> None:
        kept = self.kept(file, np.array([30.0, math.nan, 40.0]))
        assert kept.tolist() == pytest.approx([30.0, math.nan, 40.0], nan_ok=True)
        assert np.isnan(self.kept(file, np.full(3, math.nan))).all()


class TestAccepted:
    def test_says_what_was_and_what_is(self, file: Path) -> None:
        first = measured("1101")
        assert write_baselines(file, [first], ORDER, only_new=False) == [Accepted("tried-jpeg-q5", None, 0.75, None, first.rate, "new")]
        second = measured("1100", size=50, bitstream="of an older encoder")
        assert write_baselines(file, [second], ORDER, only_new=False) == [
            Accepted("tried-jpeg-q5", 0.75, 0.5, first.rate, second.rate, "encoder")
        ]

    @pytest.mark.parametrize(
        ("links", "layer"),
        [
            ({}, ""),
            ({"source": "x", ANSWER: "x"}, "data set"),
            ({SIGNAL: "x", BITSTREAM: "x"}, "reader"),
            ({BITSTREAM: "x", DECODED: "x", ANSWER: "x"}, "encoder"),
            ({DECODED: "x", GIVEN: "x", ANSWER: "x"}, "decoder"),
            ({GIVEN: "x", ANSWER: "x"}, "preprocessing"),
            ({ANSWER: "x"}, "model"),
        ],
    )
    def test_names_who_made_the_first_link_that_differs(self, file: Path, links: dict[str, str], layer: str) -> None:
        write(file, measured("1101"))
        assert changed_by(read_baselines(file)["jpeg-q5"], measured("1101", **links)) == layer

    def test_names_the_metric_where_the_answers_are_the_same(self, file: Path) -> None:
        write(file, measured("1101"))
        kept = read_baselines(file)["jpeg-q5"]
        assert changed_by(kept, measured("1001")) == "metric"
        assert changed_by(replace(kept, whole={}), measured("1001")) == ""

    def test_names_the_data_set_where_samples_came_or_went(self, file: Path) -> None:
        write(file, measured("1101"))
        assert changed_by(read_baselines(file)["jpeg-q5"], measured("11011")) == "data set"

    def test_is_an_aligned_table(self) -> None:
        accepted = [
            Accepted("vit_pocket-jpeg-q5", 0.75, 0.5, 2.0, 2.02, "encoder"),
            Accepted("vit-webp-q0", None, 0.75, None, 12.5, "new"),
            Accepted("vit-webp-q1", 0.75, 0.75 - 1e-9, 1.0, 1.0, ""),
        ]
        assert accepted_lines(accepted) == [
            "case                  from      to   change  rate from       to  change  layer",
            "vit_pocket-jpeg-q5  0.7500  0.5000  -0.2500     2.0000   2.0200  +1.00%  encoder",
            "vit-webp-q0              -  0.7500        -          -  12.5000       -  new",
            "vit-webp-q1         0.7500  0.7500  +0.0000     1.0000   1.0000  +0.00%  -",
        ]
        assert accepted_lines([]) == []


class TestRestoredMetric:
    @pytest.mark.parametrize(
        "metric", [Top1(10), MeanIoU(8, 3), WordAccuracy("whisper_basic"), SDR(8000, 0.5)], ids=lambda metric: metric.name
    )
    def test_gives_the_same_values(self, metric: Metric) -> None:
        restored = restore_metric(metric.name, json.loads(json.dumps(metric.settings)))
        shape = {"top1": (), "miou": (3, 8), "word_accuracy": (2,), "sdr": (4, 6)}[metric.name]
        statistics = list(np.random.default_rng(0).integers(1, 9, (5, *shape)).astype(float))
        assert restored is not None
        assert restored.value(statistics) == metric.value(statistics)

    def test_is_none_where_it_is_not_known(self) -> None:
        assert restore_metric("my_metric", {}) is None
        assert restore_metric("miou", None) is None

    @pytest.mark.parametrize("change", [{"metric": "my_metric"}, {"version": 7}])
    def test_that_is_none_leaves_the_value_unchecked(self, file: Path, change: dict[str, Any]) -> None:
        write(file, replace(measured("1101"), **change, value=0.123))
        assert read_baselines(file)["jpeg-q5"].value == 0.123


def case(change: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda content: change(content["cases"]["jpeg-q5"])


def samples(change: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda content: change(next(iter(content["sets"].values())))


def swap(listed: list[Any]) -> None:
    listed[0], listed[1] = listed[1], listed[0]


def named_anew(content: Any) -> None:
    """Give the set that was edited the name that goes with it, as whoever knows how they are made could."""
    (entry,) = content["sets"].values()
    key = digest(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode())[:8]
    content["sets"] = {key: entry}
    for one in content["cases"].values():
        one["set"] = key


def twice(content: Any) -> None:
    next(iter(content["sets"].values()))["samples"][1] = "s0"
    named_anew(content)


def fewer(content: Any) -> None:
    next(iter(content["sets"].values()))["samples"].pop()
    named_anew(content)


def pasted(name: str) -> Callable[[Any], object]:
    return lambda content: content["cases"]["jpeg-q5"].update({name: content["cases"]["webp-q0"][name]})


class TestTampering:
    """The figures that a reviewer sees are those that count."""

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (case(lambda one: one.update(value=0.8)), "jpeg-q5: shows value 0.8 and its samples give 0.75: changed by hand or in a merge"),
            (case(lambda one: one.update(value=0.750002)), "shows value 0.750002 and its samples give 0.75"),
            (case(lambda one: one.update(value=None)), "jpeg-q5: not a baseline"),
            (case(lambda one: one.update(value="0.75")), "shows value '0.75' and its samples give 0.75"),
            (case(lambda one: one.update(rate=8.1)), "jpeg-q5: shows rate 8.1 and its samples give 8.12"),
            (case(lambda one: one.update(samples=5)), "jpeg-q5: shows samples 5 and its samples give 4"),
            (case(lambda one: one["similarity"].update(psnr=36.0)), "psnr: a mean of 36 is shown, and the samples give 34.7"),
            (case(lambda one: one["similarity"].update(psnr=None)), "psnr: values without a mean"),
            (case(lambda one: one["similarity"].pop("psnr")), "jpeg-q5: not a baseline"),
            (case(lambda one: one["whole"].pop("decoded")), "jpeg-q5: not a baseline"),
            (case(lambda one: one.pop("bytes")), "jpeg-q5: not a baseline"),
            (case(lambda one: one.update(bytes=5)), "jpeg-q5: not a baseline"),
            (case(lambda one: one.update(settings=5, metric="miou")), "jpeg-q5: not a baseline"),
            (case(lambda one: one.update(metric="sdr")), "jpeg-q5: not a baseline"),
            (case(lambda one: one.update(approval="gone")), "jpeg-q5: not a baseline"),
            (case(lambda one: one.update(set="gone")), "the set of samples 'gone' is not there"),
            (case(lambda one: one.update(set=["gone"])), "is not there"),
            (pasted("statistics"), "jpeg-q5: shows value 0.75 and its samples give 1"),
            (pasted("bytes"), "jpeg-q5: shows rate 8.12 and its samples give 16.12"),
            (samples(lambda one: one["samples"].pop()), "samples were added, removed, moved or changed"),
            (samples(lambda one: one["samples"].insert(0, "s9")), "samples were added, removed, moved or changed"),
            (samples(lambda one: swap(one["samples"])), "samples were added, removed, moved or changed"),
            (samples(lambda one: one["groups"].reverse()), "samples were added, removed, moved or changed"),
            (samples(lambda one: one.update(sources=one["sources"].upper())), "samples were added, removed, moved or changed"),
            (samples(lambda one: one.update(elements=one["reference"])), "samples were added, removed, moved or changed"),
            (twice, "'s0' stands in it twice"),
            (fewer, "cannot be read .6 bytes for the links of 3 samples"),
            (lambda content: content["cases"].update({"jpeg-q5": 5}), "jpeg-q5: not a baseline"),
            (lambda content: content.update(sets=[]), "not a baseline file of schema 2"),
            (lambda content: content.pop("approvals"), "not a baseline file of schema 2"),
            (lambda content: content.update(schema=1), "of schema 1.*migrate it: mpq approve --migrate --baselines"),
            (lambda content: content.update(schema=3), "of schema 3, and this mpq reads 2: use the mpq that wrote it"),
            (lambda content: content.update(schema="2"), "not a baseline file of schema 2"),
        ],
    )
    def test_is_red_and_said_in_a_sentence(self, file: Path, change: Callable[[Any], object], says: str) -> None:
        write(file, measured("1101"), measured("1111", "webp-q0", size=200))
        assert len(read_baselines(file)) == 2
        edit(file, change)
        with pytest.raises(BaselineError, match=says) as caught:
            read_baselines(file)
        assert re.search("restore|migrate|use the mpq", str(caught.value))
        assert "\n" not in str(caught.value)
        assert str(file) in str(caught.value)

    @pytest.mark.parametrize("name", ["statistics", "bytes", "levels", "links"])
    @pytest.mark.parametrize("text", ["", "z", "r", "not packed at all", 'é"'])
    def test_with_packed_text_that_is_none(self, file: Path, name: str, text: str) -> None:
        write(file, measured("1101"))
        edit(file, lambda content: content["cases"]["jpeg-q5"].update({name: text}))
        with pytest.raises(BaselineError, match=r"jpeg-q5: not a baseline.*restore"):
            read_baselines(file)

    @pytest.mark.parametrize("name", ["statistics", "bytes", "levels", "links"])
    def test_with_packed_text_that_was_cut(self, file: Path, name: str) -> None:
        write(file, measured("1101"))
        text = json.loads(file.read_text())["cases"]["jpeg-q5"][name]
        for length in range(len(text)):
            edit(file, lambda content, length=length: content["cases"]["jpeg-q5"].update({name: text[:length]}))
            with pytest.raises(BaselineError, match=r"jpeg-q5: not a baseline"):
                read_baselines(file)

    def test_of_one_case_leaves_the_others(self, file: Path) -> None:
        write(file, measured("1101"), measured("1111", "webp-q0"))
        edit(file, lambda content: content["cases"]["jpeg-q5"].update(value=0.8))
        assert list(read_baselines(file, ["webp-q0"])) == ["webp-q0"]

    def test_is_said_when_its_case_is_asked_for_and_not_before(self, file: Path) -> None:
        write(file, measured("1101"), measured("1111", "webp-q0"))
        edit(file, lambda content: content["cases"]["jpeg-q5"].update(value=0.8))
        kept = Baselines(file)
        assert (len(kept), list(kept), "jpeg-q5" in kept, kept.get("jpeg-q10")) == (2, ["jpeg-q5", "webp-q0"], True, None)
        assert kept["webp-q0"].value == 1.0
        with pytest.raises(BaselineError, match=r"jpeg-q5: shows value 0\.8"):
            kept["jpeg-q5"]

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
    def test_with_what_is_no_number(self, file: Path, number: str) -> None:
        write(file, measured("1101"))
        file.write_text(file.read_text().replace('"value": 0.75', f'"value": {number}'))
        with pytest.raises(BaselineError, match=f"not valid JSON .{number} is no number"):
            read_baselines(file)

    def test_with_a_case_that_stands_twice(self, file: Path) -> None:
        write(file, measured("1101"))
        file.write_text(file.read_text().replace('"cases": {', '"cases": {"jpeg-q5": {},'))
        with pytest.raises(BaselineError, match="'jpeg-q5' stands twice, as after a merge"):
            read_baselines(file)


class TestManyCases:
    def test_are_held_as_they_are_packed(self, file: Path) -> None:
        hits = "".join(map(str, np.random.default_rng(0).integers(0, 2, 2000)))
        write(file, measured(hits, "original"), *(measured(hits, f"jpeg-q{quality}") for quality in range(20)))
        tracemalloc.start()
        kept = Baselines(file)
        points = [kept[point].point for point in kept]  # each is dropped when the next one is asked for
        held = tracemalloc.get_traced_memory()[0]
        all_of_them = read_baselines(file)
        unpacked = tracemalloc.get_traced_memory()[0] - held
        tracemalloc.stop()
        assert points == list(all_of_them)
        assert held < 0.3 * unpacked


class TestFile:
    def test_that_is_not_there_has_no_cases(self, file: Path) -> None:
        assert (read_baselines(file), approved_points(file)) == ({}, [])

    @pytest.mark.parametrize(
        "content",
        ["", '{"schema": 2', "[]", "{}", '{"schema": 2, "cases": []}', "\x00\x01"],
        ids=["empty", "cut", "list", "nothing", "cases of another type", "no text"],
    )
    def test_that_is_damaged_is_said_in_a_sentence(self, file: Path, content: str) -> None:
        file.parent.mkdir(parents=True)
        file.write_text(content)
        for action in (lambda: read_baselines(file), lambda: write(file, measured("11"))):
            with pytest.raises(BaselineError, match=r"tried\.json: not .*restore it, or delete it") as caught:
                action()
            assert "\n" not in str(caught.value)
        assert file.read_text() == content

    def test_that_is_none_is_said_in_a_sentence(self, file: Path) -> None:
        file.parent.write_text("not a folder")
        with pytest.raises(BaselineError, match=r"tried\.json: cannot be read: Not a directory; .*--mpq-baselines"):
            read_baselines(file)

    def test_of_ten_cases_of_a_thousand_samples_is_small_and_takes_little_memory(self, file: Path) -> None:
        """2,000 such cases must fit in 1 GB: what is the same at every point is held once."""
        generator = np.random.default_rng(0)
        first = measured("1" * 1000)
        points = [f"jpeg-q{number}" for number in range(10)]
        links = {layer: {point: generator.integers(0, 2**64, 1000, np.uint64) for point in points} for layer in first.links}
        links[SIGNAL] = dict.fromkeys(points, first.links[SIGNAL])
        write(file, *[replace(first, case=f"tried-{point}", links={layer: links[layer][point] for layer in links}) for point in points])
        tracemalloc.start()
        kept = read_baselines(file)
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(kept) == 10
        assert held < 1e9 / 200
        per_sample = sum(BITS[layer] for layer in (BITSTREAM, DECODED, ANSWER)) / 8 * 1.25 + 2
        assert file.stat().st_size < 10 * 1000 * per_sample + 1000 * 60


def packed_as_in_schema_1(rows: Sequence[Sequence[float]] | Sequence[float], kind: str) -> str:
    numbers = np.array(rows, float)
    header = json.dumps({"type": kind, "shapes": [np.shape(row) for row in rows]}, separators=(",", ":"))
    planes = numbers.ravel().astype(kind).view(np.uint8).reshape(-1, np.dtype(kind).itemsize).T
    return base64.b85encode(zlib.compress(header.encode() + b"\n" + planes.tobytes(), 9)).decode()


class TestMigration:
    @pytest.fixture
    def old(self, file: Path) -> Path:
        """A file as an mpq of schema 1 wrote it, of a few cases."""
        pocket = {"metric": "top1", "version": 1}
        cases = {
            "original": {
                **pocket,
                "value": 1.0,
                "rate": 24.0,
                "samples": 3,
                "counts": [[150, 50], [300, 100], [450, 150]],
                "statistics": [1, 1, 1],
            },
            "jpeg-q5": {
                **pocket,
                "value": 0.666667,
                "rate": 8.0,
                "samples": 3,
                "counts": [[50, 50], [100, 100], [150, 150]],
                "statistics": [1, 0, 1],
            },
            "webp-q0": {
                **pocket,
                "value": 0.5,
                "rate": 4.0,
                "samples": 2,
                "counts": [[25, 50], [50, 100]],
                "statistics": [1, 0],
                "ids": ["a", "b"],
            },
        }
        for one in cases.values():
            one |= {"counts": packed_as_in_schema_1(one["counts"], "<u2"), "statistics": packed_as_in_schema_1(one["statistics"], "|u1")}
        file.parent.mkdir()
        file.write_text(json.dumps({"schema": 1, "samples": ["a", "b", "c"], "cases": cases}))
        return file

    def test_is_asked_for_on_reading_and_writing(self, old: Path) -> None:
        for action in (lambda: read_baselines(old), lambda: write(old, measured("11"))):
            with pytest.raises(BaselineError, match="of schema 1, from an older mpq; migrate it: mpq approve --migrate --baselines "):
                action()

    def test_keeps_every_case_with_what_it_has(self, old: Path) -> None:
        assert migrate_baselines(old) == 3
        kept = read_baselines(old)
        assert list(kept) == ["original", "jpeg-q5", "webp-q0"]
        assert [one.value for one in kept.values()] == [1.0, 0.666667, 0.5]
        assert [one.rate for one in kept.values()] == [24.0, 8.0, 4.0]
        assert [list(one.samples) for one in kept.values()] == [["a", "b", "c"], ["a", "b", "c"], ["a", "b"]]
        one = kept["jpeg-q5"]
        assert (one.bytes.tolist(), one.elements.tolist()) == ([50, 100, 150], [50, 100, 150])
        assert [statistic.tolist() for statistic in one.statistics] == [1, 0, 1]
        assert (one.settings, list(one.sources), one.links, one.similarity, one.codec) == (None, ["", "", ""], {}, {}, "")

    def test_says_so_in_the_approval(self, old: Path) -> None:
        migrate_baselines(old)
        assert "schema 1" in read_baselines(old)["jpeg-q5"].provenance["note"]
        assert not read_baselines(old)["jpeg-q5"].provenance.get("when")

    def test_of_what_is_migrated_changes_not_a_byte(self, old: Path) -> None:
        migrate_baselines(old)
        before = old.read_bytes()
        assert migrate_baselines(old) == 0
        assert old.read_bytes() == before

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda content: content["cases"]["jpeg-q5"].update(value=0.9), "shows value 0.9 and its samples give 0.666667"),
            (lambda content: content["cases"]["jpeg-q5"].update(rate=9.0), "shows rate 9.0, and its samples give 8"),
            (lambda content: content["samples"].pop(), "original: 2 samples, 3 counts and 3 statistics"),
            (lambda content: content["cases"]["webp-q0"].update(statistics="damaged"), "webp-q0: its numbers are damaged"),
            (lambda content: content["cases"]["webp-q0"].pop("counts"), "webp-q0: 'counts'"),
            (lambda content: content["cases"]["webp-q0"].update(ids=["a", "a"]), "webp-q0: two of its samples have one id"),
            (lambda content: content.update(cases=[]), "it has no cases"),
            (lambda content: content.update(schema=3), "of schema 3, and this mpq reads 2"),
        ],
    )
    def test_of_what_is_damaged_is_refused_and_drops_nothing(self, old: Path, change: Callable[[Any], object], says: str) -> None:
        edit(old, change)
        before = old.read_bytes()
        with pytest.raises(BaselineError, match=says) as caught:
            migrate_baselines(old)
        assert "\n" not in str(caught.value)
        assert old.read_bytes() == before
