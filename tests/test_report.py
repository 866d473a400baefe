"""The report: what it says, in which order, and that nothing in it comes from elsewhere or runs."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import altair
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Picture

from mpq_fixtures.decisions.lowest import KEPT, SHARES, percent
from mpq_fixtures.examples import MAX_SIDE, Part, audio_example, class_colour, gain_of, image_example
from mpq_fixtures.report import drawing
from mpq_fixtures.report.answers import answers, deltas, whole
from mpq_fixtures.report.cases import read_case, read_cases, sentence, worst_first
from mpq_fixtures.report.curves import COLOURS, SCHEMA, SHAPES, above, curve, marks
from mpq_fixtures.report.gallery import compare_words
from mpq_fixtures.report.html import MOST_CASES, render, write_report
from mpq_fixtures.report.lowest_rates import lowest_rates
from mpq_fixtures.results.figures import rate, ratio
from mpq_fixtures.signals import Audio, Image
from mpq_fixtures.tasks import find_task

HOSTILE = '</script><script>alert("x")</script>\'&<img src=x onerror=alert(1)>'


def record(codec: str, quality: str, **changes: Any) -> dict[str, Any]:
    """One entry of ``cases`` as ``reports/README.md`` describes it."""
    point = f"{codec}-{quality}" if quality else codec
    entry: dict[str, Any] = {
        "case": f"vit-{point}", "suite": "pocket", "evaluation": "vit", "task": "image_classification", "model": "a model",
        "dataset": "a data set", "codec": codec, "quality": quality, "samples": 10, "metric": "top1", "value": 0.9, "ci_low": 0.85,
        "ci_high": 0.95, "reference": 1.0, "retention": 0.9, "rate": 0.5, "rate_mean": 0.5, "rate_unit": "bpp", "bytes": 1000,
        "compression_ratio": 48.0, "baseline": 0.9, "verdict": "same", "reason": "", "outcome": "passed", "failures": [],
        "baseline_rate": 0.5, "tolerance": 0.01, "seconds": {}, "metrics": {},
    }  # fmt: skip
    entry |= changes
    if not entry["metrics"] and entry["value"] is not None:
        main = {"value": entry["value"], "ci_low": entry["ci_low"], "ci_high": entry["ci_high"], "unit": "accuracy"}
        entry["metrics"] = {entry["metric"]: main, "psnr": {"value": 31.25, "ci_low": 30.0, "ci_high": 32.0, "unit": "dB"}}
    return entry


def original(**changes: Any) -> dict[str, Any]:
    return record("original", "", **{"value": 1.0, "retention": 1.0, "rate": 8.0, "compression_ratio": 3.0, "baseline": 1.0, **changes})


def unmeasured(codec: str, quality: str, outcome: str = "not run", reason: str = "") -> dict[str, Any]:
    figures = ("value", "ci_low", "ci_high", "reference", "retention", "rate", "rate_mean", "compression_ratio", "metric", "bytes")
    return record(codec, quality, outcome=outcome, verdict="", reason=reason, samples=0, **dict.fromkeys(figures))


def results(*cases: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "schema": 1, "created": "2026-11-23T18:15:00+00:00", "complete": True, "exit_status": 0, "cases": list(cases),
        "provenance": {"python": "3.11.7", "codecs": {"jpeg": "libjpeg-turbo 3.1"}, "options": {"suites": ["pocket"], "samples": None}},
        "seconds": {"encode": 10.0, "predict": 70.0, "busy": 80.0, "worker": 100.0, "share": 0.8},
        "work": {"bitstreams": {"computed": 12, "reused": 34}},
    } | changes  # fmt: skip


def samples(*rows: dict[str, Any]) -> list[dict[str, Any]]:
    columns = ("case", "sample", "bytes", "elements", "rate", "prediction", "target", "score", "error", "example")
    return [{column: row.get(column) for column in columns} for row in rows]


def picture(width: int = 8, height: int = 8) -> Image:
    return Image(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def tone(seconds: float = 1.0, channels: int = 1, level: float = 0.1) -> Audio:
    wave = level * np.sin(2 * np.pi * 440 * np.arange(round(16000 * seconds)) / 16000)
    return Audio(np.tile(wave.astype(np.float32), (channels, 1)), 16000)


class Page(HTMLParser):
    """The page as a browser takes it apart: tags with attributes, rows of tables, and the text of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.text = ""
        self._open: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open = tag
            if tag == "script":
                self.scripts.append((dict(attrs).get("type"), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == self._open:
            self._open = None
        if tag in ("th", "td", "dt", "dd"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = (kind, text + data)
        elif self._open is None:
            self.text += data


@pytest.fixture(scope="module")
def full() -> str:
    """A page with every verdict, a failed sample, hostile texts and an example."""
    cases = [
        original(),
        record("jpeg", "q5", retention=0.5, value=0.5, rate=0.2),
        record("jpeg", "q10", verdict="regressed", outcome="failed", reason=f"fell by 0.1 {HOSTILE}", baseline=0.97, baseline_rate=0.4),
        record("jpeg", "q50", verdict="new", baseline=None, baseline_rate=None, retention=0.97, value=0.97, rate=1.0),
        record("webp", "q0", verdict="improved", baseline=0.8),
        record("webp", "q10", verdict="underpowered"),
        record("webp", "q20", outcome="failed", failures=[{"sample": HOSTILE, "step": "decode", "reason": f"broken {HOSTILE}"}]),
        unmeasured("webp", "q30", reason="worker gw1 crashed"),
        unmeasured("webp", "q40", "skipped", "gated model"),
    ]
    media = [{"label": HOSTILE, "media_type": "image/webp", "data": image_example(picture())["data"]}]
    script = [{"label": "a page", "media_type": "text/html", "data": b"<script>alert(1)</script>"}]
    rows = [
        {"case": "vit-original", "sample": HOSTILE, "rate": 8.0, "prediction": "brick", "target": HOSTILE, "score": 1.0, "example": media},
        {"case": "vit-jpeg-q5", "sample": HOSTILE, "rate": 0.21, "prediction": HOSTILE, "target": "brick", "score": 0.0, "example": media},
        {"case": "vit-jpeg-q10", "sample": HOSTILE, "rate": 0.3, "prediction": "x", "target": "x", "score": 1.0, "example": script},
        {"case": "vit-webp-q20", "sample": HOSTILE, "error": "decode: broken", "score": math.nan},
    ]
    cases[1]["codec"] = cases[2]["codec"] = cases[3]["codec"] = f"jpeg{HOSTILE}"
    return render(results(*cases, complete=False, exit_status=1), samples(*rows))


def drawn(page: str) -> str:
    """The one drawing of a page; what is in the scripts is none."""
    (drawing,) = re.findall(r"<svg.*?</svg>", page[: page.index("<script>")], re.S)
    return str(drawing)


class TestEverythingIsThere:
    def test_every_case_and_reason(self, full: str) -> None:
        text = Page(full).text
        for point in ("original", "jpeg-q5", "jpeg-q10", "jpeg-q50", "webp-q0", "webp-q10", "webp-q20", "webp-q30", "webp-q40"):
            assert f"vit-{point}" in text
        for reason in ("fell by 0.1", "worker gw1 crashed", "gated model", "broken"):
            assert reason in text

    def test_verdicts_are_listed_worst_first(self, full: str) -> None:
        table = full[full.index('id="cases"') :]
        found = [table.index(f'<tr id="case-vit-{point}"') for point in
                 ("webp-q20", "jpeg-q10", "webp-q30", "webp-q40", "webp-q10", "jpeg-q50", "webp-q0", "original")]  # fmt: skip
        assert found == sorted(found)

    def test_figures_of_a_case(self, full: str) -> None:
        row = full[full.index('<tr id="case-vit-jpeg-q10"') :]
        text = " ".join(Page(row[: row.index("</tr>")]).text.split())
        for figure in ("0.900 [0.850, 0.950]", "0.970", "\N{MINUS SIGN}0.070", "0.500 bpp (+25.0 %)", "48:1", "90.0 %", "31.25"):
            assert figure in text

    def test_outcome_in_one_sentence(self, full: str) -> None:
        assert "5 of 9 cases pass; 1 failed; 1 regressed; 1 not run; 1 skipped." in Page(full).text

    def test_provenance(self, full: str) -> None:
        text = " ".join(Page(full[full.index('id="provenance"') :]).text.split())
        for fact in ("libjpeg-turbo 3.1", "3.11.7", "1 min 10 s 70 %", "1 min 40 s 100 %", "bitstreams 12 34", "exit status 1", "schema 1"):
            assert fact in text

    def test_headers_have_a_scope_and_pictures_a_text(self, full: str) -> None:
        page = Page(full)
        assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
        pictures = [attributes for tag, attributes in page.tags if tag == "img"]
        assert len(pictures) == 2
        assert all(attributes.get("alt") for attributes in pictures)
        assert ("html", {"lang": "en"}) in page.tags

    def test_ids_are_unique(self, full: str) -> None:
        ids = [attributes["id"] for _, attributes in Page(full).tags if "id" in attributes]
        assert len(ids) == len(set(ids))

    def test_links_lead_somewhere(self, full: str) -> None:
        page = Page(full)
        ids = {attributes.get("id") for _, attributes in page.tags}
        links = [attributes["href"] or "" for tag, attributes in page.tags if tag == "a"]
        assert links
        assert all(link.removeprefix("#") in ids for link in links)


class TestNothingFromDataRuns:
    def test_only_our_scripts(self, full: str) -> None:
        kinds = [kind for kind, _ in Page(full).scripts]
        assert kinds == ["application/json", None, None]

    def test_no_element_or_handler_from_data(self, full: str) -> None:
        page = Page(full)
        assert not [attributes for _, attributes in page.tags if any(name.startswith("on") for name in attributes)]
        assert all((attributes.get("src") or "").startswith("data:image/webp;base64,") for tag, attributes in page.tags if tag == "img")
        assert "text/html" not in full

    def test_hostile_text_is_shown_as_it_is(self, full: str) -> None:
        assert HOSTILE in Page(full).text
        assert html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in full

    def test_chart_reads_back(self, full: str) -> None:
        (description,) = [json.loads(text) for kind, text in Page(full).scripts if kind == "application/json"]
        values = [row for data in description["datasets"].values() for row in data] if "datasets" in description else []
        values += [row for layer in description["layer"] for row in layer.get("data", {}).get("values", [])]
        values += description.get("data", {}).get("values", [])
        assert f"jpeg{HOSTILE}" in {row.get("codec") for row in values}

    def test_drawing_is_well_formed(self, full: str) -> None:
        drawing = drawn(full)
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawing).iter()}
        assert tags <= {"svg", "g", "path", "rect", "line", "text", "defs", "clipPath"}

    def test_policy_names_the_hash_of_each_script(self, full: str) -> None:
        page = Page(full)
        (policy,) = [a["content"] or "" for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        for kind, text in page.scripts:
            if kind is None:
                assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


class TestSelfContained:
    def test_nothing_is_loaded(self, full: str) -> None:
        page = Page(full)
        for tag, attributes in page.tags:
            for name in ("src", "href", "srcset", "poster", "data", "xlink:href", "action"):
                if attributes.get(name):
                    assert (attributes[name] or "").startswith(("data:", "#")), (tag, name)
            assert tag not in ("link", "iframe", "object", "embed", "base")
        css = full[full.index("<style>") : full.index("</style>")]
        assert "url(" not in css
        assert "@import" not in css

    def test_picture_of_the_curve_needs_no_script(self, full: str) -> None:
        drawing = drawn(full)
        assert "top-1 accuracy" in drawing
        assert "rate (bits per pixel)" in drawing
        assert "original 1.000" in drawing

    def test_size_with_four_evaluations(self) -> None:
        cases, rows = [], []
        data = np.random.default_rng(0).bytes(250_000)
        for evaluation in ("one", "two", "three", "four"):
            points = [("original", "")] + [(f"c{codec}", f"q{quality}") for codec in range(5) for quality in range(5)]
            for codec, quality in points:
                entry = record(codec, quality, evaluation=evaluation, case=f"{evaluation}-{codec}{quality and '-'}{quality}")
                cases.append(entry)
                parts = [{"label": "", "media_type": "image/png", "data": data}] * (1 if evaluation == "one" else 2)
                rows.append({"case": entry["case"], "sample": "s", "score": 1.0, "example": parts})
        page = render(results(*cases), samples(*rows))
        assert 8_000_000 < len(page.encode()) <= 15_000_000
        assert "Left out to keep the page small" in page
        # What goes first is the middle of a ladder, never its ends.
        left_out = re.findall(r"<b>(q\d)</b>(?:(?!<td>|</td>).)*Left out", page, re.S)
        assert left_out
        assert left_out.count("q2") >= left_out.count("q1") >= left_out.count("q0")


class TestUnusualRuns:
    def test_nothing_measured(self) -> None:
        page = render(results(*[unmeasured("jpeg", "q5"), unmeasured("jpeg", "q10")], complete=False), samples())
        assert "Nothing was measured; 0 of 2 cases pass; 2 not run." in page
        assert "No point was measured" in page
        assert "<svg" not in page
        assert len(page) < 100_000

    def test_no_cases(self) -> None:
        assert "There are no cases" in render(results(), [])

    def test_little_more_than_the_schema(self) -> None:
        assert "<h1>" in render({"schema": 1, "cases": []}, [])

    def test_nan_and_empty_cells(self) -> None:
        holes = {"value": math.nan, "ci_low": math.nan, "retention": math.inf, "baseline": "", "rate": math.nan, "compression_ratio": None}
        page = render(results(original(), record("jpeg", "q5", **holes), record("jpeg", "q10", ci_low=None, ci_high=None)), samples())
        text = Page(page).text
        assert "nan" not in re.findall(r"\b\w+\b", text.lower())
        assert "None" not in text
        for kind, script in Page(page).scripts:
            if kind == "application/json":
                json.loads(script, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    def test_without_the_originals(self) -> None:
        page = render(results(record("jpeg", "q5", reference=None, retention=None)), samples())
        assert "The originals were not measured." in page
        assert "none: the originals were not measured" in page

    def test_another_sample_at_one_point_is_no_comparison(self) -> None:
        part = image_example(picture())
        rows = [{"case": case, "sample": sample, "example": [part]} for case, sample in
                (("vit-original", "a"), ("vit-jpeg-q5", "a"), ("vit-jpeg-q10", "b"))]  # fmt: skip
        page = render(results(original(), record("jpeg", "q5"), record("jpeg", "q10")), samples(*rows))
        assert "a at 2 points" in page

    def test_report_is_written_from_the_files(self, tmp_path: Path) -> None:
        (tmp_path / "results.json").write_text(json.dumps(results(original(), record("jpeg", "q5"))), encoding="utf-8")
        row = {"case": "vit-jpeg-q5", "sample": "s", "score": 1.0, "prediction": "brick", "example": [image_example(picture(), "brick")]}
        pq.write_table(pa.Table.from_pylist(samples(row, {"case": "vit-jpeg-q5", "sample": "t"})), tmp_path / "samples.parquet")
        path = write_report(tmp_path)
        assert path == tmp_path / "report.html"
        assert "✓ right" in path.read_text(encoding="utf-8")
        assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "results.json", "samples.parquet"]


def ladder(*points: tuple[float, float | None], codec: str = "jpeg", **changes: Any) -> list[dict[str, Any]]:
    """Cases from (rate, retention)."""
    return [record(codec, f"q{place}", rate=rate, retention=kept, value=kept, **changes) for place, (rate, kept) in enumerate(points)]


class TestLowestRate:
    """The expectations are worked out by hand: the cheapest measured point at or above 95 %."""

    @pytest.mark.parametrize(
        ("points", "rate", "note"),
        [
            (((0.1, 0.5), (0.2, 0.94), (0.4, 0.96), (0.8, 0.99)), 0.4, ""),
            (((0.1, 0.5), (0.2, KEPT), (0.4, 0.96)), 0.2, ""),
            (((0.1, 0.5), (0.2, 0.9499), (0.4, 0.96)), 0.4, ""),
            (((0.1, 0.951), (0.2, 0.97)), 0.1, "even its lowest point keeps it"),
            (((0.1, 0.5), (0.2, 0.9)), None, "q1 keeps most, 90.0 %"),
            (((0.1, 0.5), (0.2, 0.96), (0.4, 0.94), (0.8, 1.0)), 0.2, "not monotone: q2 keeps 94.0 %"),
            (((0.4, 0.97), (0.2, 0.96), (0.1, 0.5)), 0.2, ""),
            (((0.1, None), (0.2, 0.96)), 0.2, "the lowest point that was measured; not counted: q0 (not measured)"),
        ],
    )
    def test_by_hand(self, points: tuple[tuple[float, float | None], ...], rate: float | None, note: str) -> None:
        entries = ladder(*points)
        for entry in entries:
            if entry["retention"] is None:
                entry.update(rate=None)
        (found,) = lowest_rates(read_case(entry) for entry in entries)
        assert (found.case.rate if found.case else None) == rate
        assert found.note == note

    def test_cheapest_codec_first_and_none_last(self) -> None:
        entries = [original(), *ladder((0.1, 0.1), codec="a"), *ladder((0.5, 1.0), codec="b"), *ladder((0.3, 0.99), codec="c")]
        assert [(found.codec, found.case is None) for found in lowest_rates(map(read_case, entries))] == [
            ("c", False), ("b", False), ("a", True),
        ]  # fmt: skip

    def test_a_point_with_failed_samples_does_not_count(self) -> None:
        entries = ladder((0.1, 0.99), (0.2, 0.98))
        entries[0]["failures"] = [{"sample": "s", "step": "decode", "reason": "broken"}]
        (found,) = lowest_rates(map(read_case, entries))
        assert found.case is not None
        assert found.case.quality == "q1"
        assert "not counted: q0 (samples failed)" in found.note

    def test_it_is_in_the_page(self) -> None:
        page = render(results(original(), *ladder((0.1, 0.5), (0.25, 0.96)), *ladder((0.1, 0.5), codec="webp")), samples())
        text = " ".join(Page(page).text.split())
        assert "jpeg q1 0.250 bpp 48:1" in text
        assert "webp none: q0 keeps most, 50.0 %" in text


def choice(codec: str, case: str | None, **changes: Any) -> dict[str, Any]:
    """One codec's answer in ``decisions``, as ``reports/README.md`` describes it."""
    figures = {"rate": 0.16, "rate_low": 0.13, "rate_high": 0.21, "compression_ratio": 150.0, "reached": 0.97, "cheapest": 0.83}
    return {"codec": codec, "case": case, "quality": "q1", "note": ""} | (figures if case else dict.fromkeys(figures)) | changes


def delta(number: float | None, low: float | None = None, high: float | None = None, word: str = "") -> dict[str, Any]:
    return {"delta": number, "low": low, "high": high, "word": word}


def decided(**changes: Any) -> dict[str, Any]:
    """An entry of ``decisions``: jpeg is the cheapest at 95 %, webp at 99 %, and nothing keeps 90 % in it."""
    first = [choice("jpeg", "vit-jpeg-q5"), choice("webp", "vit-webp-q10", cheapest=0.17), choice("avif", None, reached=0.004, cheapest=0)]
    keep = {"0.99": [choice("webp", "vit-webp-q10", cheapest=0.998)], "0.98": [choice("jpeg", None)], "0.95": first, "0.9": []}
    pairs = [
        {"codec": "jpeg", "anchor": "webp", "rate": delta(-0.314, -0.36, -0.25), "value": delta(0.02, 0.01, 0.03)},
        {"codec": "webp", "anchor": "jpeg", "rate": delta(None, word="dominated"), "value": delta(None, word="not comparable")},
    ]
    shape = {"suite": "pocket", "evaluation": "vit", "samples": 10, "clusters": 4, "resamples": 1000}
    return shape | {"keep": keep, "front": ["vit-jpeg-q5", "vit-webp-q10"], "bjontegaard": pairs} | changes


DECIDED = (original(), record("jpeg", "q5", rate=0.16), record("webp", "q10", rate=0.3, value=0.95, retention=0.95))


class TestAnswers:
    def test_say_what_to_use_and_how_sure_it_is(self) -> None:
        found = {one.key: one.sentence for one in answers([read_case(entry) for entry in DECIDED], decided())}
        assert found == {
            "99": "webp-q10, 0.300 bpp [0.130, 0.210], keeps 99 %; kept in 97 % of resamples.",
            "98": "No codec keeps 98 %.",
            "95": "jpeg-q5, 0.160 bpp [0.130, 0.210], keeps 95 %; the cheapest codec in 83 % of resamples; runner-up webp-q10, 0.300 bpp.",
            "90": "",
        }

    def test_of_older_results_are_the_lowest_rates(self) -> None:
        cases = [read_case(entry) for entry in (original(), *ladder((0.1, 0.91), (0.2, 0.955), (0.4, 0.985)))]
        found = {one.key: one.sentence for one in answers(cases, None)}
        assert found == {
            "99": "No codec keeps 99 %.",
            "98": "jpeg-q2, 0.400 bpp, keeps 98 %.",
            "95": "jpeg-q1, 0.200 bpp, keeps 95 %.",
            "90": "jpeg-q0, 0.100 bpp, keeps 90 %.",
        }

    def test_of_sounds_are_in_kilobits(self) -> None:
        cases = [read_case(record("opus", "6k", rate=0.5, rate_unit="bits/sample", kbps=8.0))]
        entry = {"keep": {"0.95": [choice("opus", "vit-opus-6k", rate_low=0.25, rate_high=1.0)]}}
        (row,) = next(one for one in answers(cases, entry) if one.key == "95").rows
        assert (row.shown_rate, row.interval) == ("8.00 kbit/s", "[4.00, 16.0]")

    def test_all_shares_are_in_the_page_and_one_is_checked(self) -> None:
        page = render(results(*DECIDED, decisions=[decided()]), samples())
        stops = [attributes for tag, attributes in Page(page).tags if tag == "input"]
        assert [(stop["id"], "checked" in stop) for stop in stops] == [
            ("keep-99", False), ("keep-98", False), ("keep-95", True), ("keep-90", False),
        ]  # fmt: skip
        for share in SHARES:
            assert page.count(f'class="answer at-{100 * share:g}"') == 3  # in the overview, beside the chart, under it
        assert "in how many of 1,000 resamples of 10 samples in 4 groups" in page
        row = " ".join(Page(page[page.index('<div class="wide" role="region" aria-label="Lowest rates that keep 95 %') :]).text.split())
        assert "jpeg q5 0.160 [0.130, 0.210] 48:1 1.0:1 0.900 [0.850, 0.950] 90.0 % 97 % 83 %" in row
        assert "avif none under 1 % 0 %" in row

    def test_codec_against_codec(self) -> None:
        main = read_case(DECIDED[1]).main
        found = deltas(decided(), main, ["jpeg", "webp"])
        assert list(found) == ["jpeg", "webp"]
        assert [(one.codec, one.rate, one.value) for one in found["jpeg"]] == [("webp", "dominated", "not comparable")]
        assert [(one.codec, one.rate, one.value) for one in found["webp"]] == [
            ("jpeg", "\N{MINUS SIGN}31 % [\N{MINUS SIGN}36, \N{MINUS SIGN}25]", "+0.020 [+0.010, +0.030]"),
        ]  # fmt: skip
        assert deltas(None, main, ["jpeg"]) == {}

    @pytest.mark.parametrize(
        ("share", "text"), [(0, "0 %"), (0.004, "under 1 %"), (0.834, "83 %"), (0.998, "99 %"), (1, "100 %"), (0.29, "29 %")]
    )
    def test_all_and_none_of_the_resamples_are_said_of_all_and_none_alone(self, share: float, text: str) -> None:
        assert whole(share) == text


class TestWhatIsRed:
    def test_the_worst_is_what_fell_the_most_over_its_margin(self) -> None:
        red = {"verdict": "regressed", "outcome": "failed"}
        entries = [
            record("a", "q1", value=0.80, baseline=0.90, change={"margin": 0.05}, **red),  # 2 margins
            record("a", "q2", value=0.88, baseline=0.90, change={"margin": 0.005}, **red),  # 4 margins
            record("b", "q2", value=0.80, baseline=0.90, change={"margin": 0.05}, **red),
            record("a", "q3", rate=1.0, baseline_rate=0.5, change={"rate_margin": 0.1}, **red),  # 10 margins of its rate
        ]
        assert [case.point for case in worst_first(map(read_case, entries))] == ["a-q3", "a-q2", "a-q1", "b-q2"]

    def test_missing_cases_are_one_line(self) -> None:
        entries = [unmeasured("jpeg", f"q{place}", reason="worker gw1 crashed") for place in range(24)]
        entries += [
            unmeasured("opus", "6k") | {"evaluation": "demucs", "case": "demucs-opus-6k"},
            unmeasured("opus", "8k", "skipped", "gated model"),
        ]
        page = render(results(original(), *entries, complete=False), samples())
        text = " ".join(Page(page).text.split())
        assert "25 cases did not run: vit (24), demucs (1)" in text
        assert "1 case was skipped: vit (1)" in text
        lines = page[page.index('id="attention"') : page.index('id="overview"')]
        assert lines.count("worker gw1 crashed") == 1

    def test_what_follows_the_first_line_of_a_reason_is_one_click_away(self) -> None:
        failure = {"sample": "s", "step": "decode", "reason": "ffmpeg ended with 1\nTraceback:\n  <b>line</b> 3"}
        page = render(results(original(), record("jpeg", "q5", outcome="failed", failures=[failure])), samples())
        assert "<summary>ffmpeg ended with 1</summary><pre>Traceback:\n  &lt;b&gt;line&lt;/b&gt; 3</pre>" in page

    def test_a_regressed_point_is_tied_to_its_approved_place(self) -> None:
        red = {"verdict": "regressed", "outcome": "failed", "value": 0.7, "baseline": 0.9, "rate": 0.5, "baseline_rate": 0.4}
        cases = [read_case(entry) for entry in (original(), record("jpeg", "q5", **red), record("jpeg", "q10"))]
        description = curve(cases, marks(cases)) or {}
        (approved,) = description["datasets"]["approved"]
        assert [approved[name] for name in ("case", "rate", "shown", "now", "end")] == ["vit-jpeg-q5", 0.4, 0.9, 0.5, 0.7]
        assert "approved" not in (curve(cases[2:], marks(cases)) or {})["datasets"]


class TestWhatChanged:
    @pytest.mark.parametrize("outcome", ["passed", "failed"])
    def test_is_one_line_where_no_case_fails_by_it(self, outcome: str) -> None:
        change = {"shared": 240, "differ": {"bitstream": 0, "decoded": 240, "answer": 3, "statistic": 3}}
        moved = {"layer": "decoder", "suspect": "pillow 12.0.0 -> 13.0.0", "change": change}
        entries = [record("jpeg", "q5", **moved), record("jpeg", "q10", outcome=outcome, **moved), record("webp", "q0")]
        page = render(results(original(), *entries), samples())
        section = page[page.index('id="changed"') : page.index('id="overview"')]
        assert ('<details class="ledger" open>' in section) is (outcome == "failed")
        text = " ".join(Page(section).text.split())
        assert "1 codec, in its evaluation, has samples that differ from what was approved" in text
        assert ("no case fails by it" in text) is (outcome == "passed")
        assert "codec layer decoded signals answers statistics of suspect vit-jpeg decoder 480 6 6 480 pillow 12.0.0 -> 13.0.0" in text

    def test_is_not_there_where_nothing_did(self) -> None:
        assert 'id="changed"' not in render(results(original(), record("jpeg", "q5")), samples())


class TestFigures:
    def test_retention_and_rate_have_their_intervals(self) -> None:
        entry = record("jpeg", "q5", retention_low=0.88, retention_high=0.9499, rate_low=0.45, rate_high=0.55)
        page = render(results(original(), entry), samples())
        row = " ".join(Page(page[page.index('<tr id="case-vit-jpeg-q5"') :]).text.split())
        assert "0.500 bpp [0.450, 0.550]" in row
        assert "90.0 % [88.0, 94.9]" in row

    def test_intervals_are_named_by_their_method(self) -> None:
        entry = record("jpeg", "q5")
        entry["metrics"]["top1"]["method"] = "Wilson"
        assert "Bars are 95 % intervals over samples (Wilson)" in render(results(entry), samples())

    def test_word_accuracy_has_its_error_rate(self) -> None:
        case = read_case(record("opus", "6k", metric="word_accuracy", value=0.929))
        assert case.main.error_rate == "WER 7.1 %"
        assert read_case(record("jpeg", "q5")).main.error_rate == ""

    def test_ratio_against_the_stored_files(self) -> None:
        stored = original(bytes=3100, compression_ratio=7.7)
        cases = read_cases([stored, record("opus", "6k", bytes=1000, compression_ratio=24.0), record("opus", "8k", bytes=500, samples=9)])
        assert [case.stored_ratio for case in cases] == [None, 3.1, None]  # other samples are no comparison
        raw = read_cases([original(bytes=3100, compression_ratio=1.0), record("opus", "6k", bytes=1000)])
        assert [case.stored_ratio for case in raw] == [None, None]

    def test_seconds_for_a_megapixel_and_for_a_second_of_sound(self) -> None:
        # 250,000 bytes at 1 bit a pixel are 2 megapixels; 16,000 bytes at 64 kbit/s are 2 seconds.
        spent = {"seconds": {"encode": 3.0, "decode": 0.0}, "work": {"computed": {"statistic": 10}, "reused": {}}}
        picture = read_case(record("jpeg", "q5", bytes=250_000, rate=1.0, **spent))
        assert (picture.pace("encode"), picture.pace("decode")) == (1.5, None)
        sound = read_case(record("opus", "64k", bytes=16_000, rate=4.0, rate_unit="bits/sample", kbps=64.0, **spent))
        assert sound.pace("encode") == 1.5

    def test_reused_results_took_no_time_that_says_anything(self) -> None:
        spent = {"seconds": {"encode": 3.0}, "work": {"computed": {"statistic": 5}, "reused": {"statistic": 5}}}
        assert read_case(record("jpeg", "q5", bytes=250_000, rate=1.0, **spent)).pace("encode") is None


class TestFolder:
    """With many cases: an index, a page for each evaluation, media as files."""

    @staticmethod
    def write(folder: Path, per_evaluation: int = 60, evaluations: tuple[str, ...] = ("vit", "seg"), **changes: Any) -> Path:
        entries = [
            record("jpeg", f"q{place}", case=f"{name}-jpeg-q{place}", evaluation=name, rate=0.1 + place, **changes)
            for name in evaluations
            for place in range(per_evaluation)
        ]
        (folder / "results.json").write_text(json.dumps(results(*entries)), encoding="utf-8")
        part = {**image_example(picture(), "brick"), "label": HOSTILE}
        rows = [{"case": entry["case"], "sample": "../../x", "prediction": "brick", "example": [part]} for entry in entries]
        pq.write_table(pa.Table.from_pylist(samples(*rows)), folder / "samples.parquet")
        return write_report(folder)

    def test_index_leads_to_pages_and_pages_to_media(self, tmp_path: Path) -> None:
        index = self.write(tmp_path)
        assert index == tmp_path / "report.html"
        links = [a["href"] or "" for tag, a in Page(index.read_text(encoding="utf-8")).tags if tag == "a"]
        pages = {link for link in links if not link.startswith("#")}
        assert pages == {"report_files/evaluation-1.html", "report_files/evaluation-2.html"}
        for link in pages:
            page = Page((tmp_path / link).read_text(encoding="utf-8"))
            loaded = [(tag, a) for tag, a in page.tags if tag in ("img", "audio", "script") and a.get("src")]
            assert {tag for tag, _ in loaded} == {"img", "script"}
            assert all((tmp_path / "report_files" / (a["src"] or "?")).is_file() for _, a in loaded)
            assert all(a.get("loading") == "lazy" for tag, a in loaded if tag == "img")
            assert all((a["href"] or "").startswith(("#", "../report.html")) for tag, a in page.tags if tag == "a")
            assert sum(a.get("id", "").startswith("case-") for _, a in page.tags if a.get("id")) == 60

    def test_names_come_from_the_content_alone(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        names = sorted(file.name for file in (tmp_path / "report_files").iterdir())
        assert [name for name in names if name.endswith("html")] == ["evaluation-1.html", "evaluation-2.html"]
        (media,) = [name for name in names if name.endswith("webp")]  # the same picture everywhere is one file
        content = (tmp_path / "report_files" / media).read_bytes()
        assert content == image_example(picture())["data"]
        assert media == f"{hashlib.sha256(content).hexdigest()[:32]}.webp"
        assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html", "report_files", "results.json", "samples.parquet"]

    def test_policy_lets_in_what_is_beside_the_page_and_nothing_else(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        page = Page((tmp_path / "report_files" / "evaluation-1.html").read_text(encoding="utf-8"))
        (policy,) = [a["content"] or "" for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        own = next(text for kind, text in page.scripts if kind is None and text)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == f"'sha256-{digest}' 'self'"
        assert rules["img-src"] == rules["media-src"] == "data: 'self' file:"

    def test_what_an_earlier_report_left_goes_and_the_rest_stays(self, tmp_path: Path) -> None:
        self.write(tmp_path, evaluations=("a", "b", "c"))
        beside = tmp_path / "report_files"
        (beside / f"{'0' * 32}.png").write_bytes(b"of an earlier report")
        (beside / "notes.txt").write_text("mine")
        self.write(tmp_path)
        assert sorted(file.name for file in beside.glob("*.html")) == ["evaluation-1.html", "evaluation-2.html"]
        assert not (beside / f"{'0' * 32}.png").exists()
        self.write(tmp_path, per_evaluation=5)
        assert [file.name for file in beside.iterdir()] == ["notes.txt"]

    def test_up_to_a_hundred_cases_are_one_file(self, tmp_path: Path) -> None:
        self.write(tmp_path, per_evaluation=MOST_CASES // 2)
        assert not (tmp_path / "report_files").exists()

    def test_red_cases_are_linked_where_they_are(self, tmp_path: Path) -> None:
        index = self.write(tmp_path, verdict="regressed", outcome="failed").read_text(encoding="utf-8")
        assert (
            '<a href="report_files/evaluation-2.html#case-seg-jpeg-q7" data-page="report_files/evaluation-2.html#case-seg-jpeg-q7">'
            in index
        )

    def test_index_stays_small(self, tmp_path: Path) -> None:
        entries = [
            record("jpeg", f"q{place}", case=f"e{number}-jpeg-q{place}", evaluation=f"e{number}", verdict="regressed", outcome="failed",
                   reason="fell by a lot " * 10, value=None, rate=None)
            for number in range(250) for place in range(8)
        ]  # fmt: skip
        (tmp_path / "results.json").write_text(json.dumps(results(*entries)), encoding="utf-8")
        pq.write_table(pa.Table.from_pylist(samples()), tmp_path / "samples.parquet")
        assert 100_000 < write_report(tmp_path).stat().st_size <= 3_000_000


class TestWords:
    def test_sentence(self) -> None:
        cases = [read_case(record("jpeg", f"q{place}")) for place in range(3)]
        assert sentence(cases) == "3 of 3 cases pass."
        assert sentence(cases, complete=False) == "3 of 3 cases pass; the run is not complete."

    def test_worst_first_keeps_the_order_of_equals(self) -> None:
        cases = [read_case(record("jpeg", quality, verdict=verdict)) for quality, verdict in
                 (("a", "same"), ("b", "new"), ("c", "same"), ("d", "improved"))]  # fmt: skip
        assert [case.quality for case in worst_first(cases)] == ["b", "d", "a", "c"]

    @pytest.mark.parametrize(("value", "text"), [(0.0306, "0.0306"), (0.5, "0.500"), (1.234, "1.23"), (24.0, "24.0"), (256.4, "256")])
    def test_rate_has_three_digits(self, value: float, text: str) -> None:
        assert rate(value) == text

    @pytest.mark.parametrize(("value", "text"), [(None, ""), (0.94999, "94.9 %"), (0.95, "95.0 %"), (1.0, "100.0 %")])
    def test_percent_is_never_rounded_up_to_what_is_enough(self, value: float | None, text: str) -> None:
        assert percent(value) == text

    @pytest.mark.parametrize(("value", "text"), [(None, ""), (113.4, "113:1"), (9.4, "9.4:1"), (9.97, "10:1")])
    def test_ratio(self, value: float | None, text: str) -> None:
        assert ratio(value) == text

    def test_transcripts_are_aligned_by_words(self) -> None:
        assert compare_words("Turn, the lights of now", "turn off the lights now") == [
            ("same", "Turn,"), ("missing", "off"), ("same", "the lights"), ("wrong", "of"), ("same", "now"),
        ]  # fmt: skip
        assert compare_words("", "one two") == [("missing", "one two")]


class TestManyCases:
    def test_take_the_room_of_media_and_the_page_keeps_its_size(self) -> None:
        generator, entries = np.random.default_rng(0), []
        for evaluation in range(25):
            entries += [
                record(codec, f"q{quality}", case=f"vit_{evaluation}-{codec}-q{quality}", evaluation=f"vit_{evaluation}", rate=quality / 9)
                for codec in ("jpeg", "webp", "avif", "jxl")
                for quality in range(1, 21)
            ]
        picture = [{"label": "picture", "media_type": "image/png", "data": generator.bytes(6000)}]
        rows = [{"case": entry["case"], "sample": "one", "target": "a dog", "prediction": "a cat", "example": picture} for entry in entries]
        page = render({"cases": entries, "complete": True}, rows)
        assert 12.5e6 < len(page.encode()) < 15e6  # the media alone would be 16 MB
        assert page.count("Left out to keep the page small") > 0


class TestCurve:
    def test_points_without_a_figure_are_left_out(self) -> None:
        cases = [read_case(entry) for entry in (original(), record("jpeg", "q5"), unmeasured("jpeg", "q10"))]
        description = curve(cases, marks(cases))
        assert description is not None
        assert json.dumps(description).count('"case": "vit-jpeg-') == 1
        assert curve(cases[:1], {}) is None

    @pytest.mark.parametrize("first", [original(), record("jpeg", "q20", kbps=8.0)], ids=["with the originals", "without"])
    def test_is_vega_lite_by_altairs_own_check(self, first: dict[str, Any]) -> None:
        cases = [read_case(entry) for entry in (first, record("jpeg", "q5"), record("webp", "q5", rate=0.1))]
        description = curve(cases, marks(cases))
        chart = altair.LayerChart.from_dict(description or {}, validate=True)
        assert (chart.to_dict()["$schema"], len(chart.layer)) == (SCHEMA, 5)

    def test_with_everything_is_vega_lite_too(self) -> None:
        entries = [original(), record("jpeg", "q5", verdict="regressed", baseline=0.95), record("webp", "q5", rate=0.1)]
        cases = [read_case(entry) for entry in entries]
        description = curve(cases, marks(cases), ["vit-webp-q5", "vit-jpeg-q5"]) or {}
        chart = altair.LayerChart.from_dict(description, validate=True)
        assert len(chart.layer) == 8
        assert [row["case"] for row in description["datasets"]["front"]] == ["vit-webp-q5", "vit-jpeg-q5"]

    @pytest.mark.parametrize(
        ("values", "unit", "outside"),
        [
            ((2.0, 5.0, 7.0, 8.0, 100.0), "dB", 1),
            ((2.0, 5.0, 7.0, 8.0, 99.0, 100.0), "dB", 2),
            ((2.0, 5.0, 7.0, 8.0, 12.0), "dB", 0),
            ((2.0, 100.0), "dB", 0),
            ((0.1, 0.11, 0.12, 0.9), "accuracy", 0),
        ],
    )
    def test_points_far_above_all_others_do_not_flatten_them(self, values: tuple[float, ...], unit: str, outside: int) -> None:
        entries = [
            record("flac", f"q{place}", value=value, rate=1.0 + place, metrics={"top1": {"value": value, "unit": unit}})
            for place, value in enumerate(values)
        ]
        cases = [read_case(entry | {"ci_low": None, "ci_high": None, "reference": None}) for entry in entries]
        description = curve(cases, marks(cases)) or {}
        bottom, top = description["layer"][-1]["encoding"]["y"]["scale"]["domain"]
        assert above(cases) == outside == sum(value > top for value in values)
        rows = description["datasets"]["points"]
        assert all(bottom < row["shown"] <= top for row in rows)
        assert [row["shown"] for row in rows][: len(rows) - outside] == list(values)[: len(rows) - outside]
        assert all(f"{value:.{2 if unit == 'dB' else 3}f}" in row["value_text"] for value, row in zip(values, rows, strict=True))

    @pytest.mark.parametrize("rates", [(6.51,), (2.0,), (3.3, 3.4), (1.2, 1.9), (0.1, 4.0), (0.001, 20.0), (6000.0,)])
    def test_rates_can_be_read_off_their_axis(self, rates: tuple[float, ...]) -> None:
        cases = [read_case(record("flac", f"q{place}", rate=rate)) for place, rate in enumerate(rates)]
        x = (curve(cases, marks(cases)) or {})["layer"][-1]["encoding"]["x"]
        (low, high), ticks = x["scale"]["domain"], x["axis"]["values"]
        assert low < min(rates) <= max(rates) < high
        assert 1 <= len(ticks) <= 12
        assert all(low <= tick <= high for tick in ticks)
        assert min(abs(math.log(tick / rate)) for tick in ticks for rate in rates) < 0.1

    def test_codecs_keep_their_marks(self) -> None:
        entries = [record(codec, "q5", evaluation=evaluation) for evaluation, codecs in (("a", "xyz"), ("b", "zyx")) for codec in codecs]
        given = marks([read_case(entry) for entry in entries])
        assert given == {codec: (COLOURS[place], SHAPES[place]) for place, codec in enumerate("xyz")}

    @pytest.mark.parametrize("background", ["#ffffff", "#14181c"])
    def test_colours_stand_out_on_light_and_dark(self, background: str) -> None:
        """WCAG 2.2, success criterion 1.4.11: at least 3 to 1 for what is needed to understand a graphic."""
        for colour in COLOURS:
            light, dark = sorted((luminance(colour), luminance(background)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, colour

    @pytest.mark.parametrize("seen", ["normal", "protanopia", "deuteranopia", "tritanopia"])
    def test_colours_stay_apart_whatever_the_eye(self, seen: str) -> None:
        """Machado, Oliveira and Fernandes 2009, severity 1; ten units of CIEDE2000 are several times a just noticeable difference."""
        from skimage.color import deltaE_ciede2000, rgb2lab

        channels = np.array([list(bytes.fromhex(colour[1:])) for colour in COLOURS]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ np.array(MACHADO[seen]).T
        clipped = linear.clip(0, 1)
        lab = rgb2lab(np.where(clipped <= 0.0031308, clipped * 12.92, 1.055 * clipped ** (1 / 2.4) - 0.055)[None])[0]
        apart = deltaE_ciede2000(lab[:, None], lab[None])
        assert apart[np.triu_indices(len(COLOURS), 1)].min() >= 10
        assert apart[:5, :5][np.triu_indices(5, 1)].min() >= 14

    def test_ids_of_two_drawings_differ(self) -> None:
        clipped = {"mark": {"type": "point", "clip": True}, "data": {"values": [{"a": 1}]}, "encoding": {"x": {"field": "a"}}}
        one, two = (set(re.findall(r' id="([^"]+)"', picture)) for picture in drawing.pictures([clipped, clipped]))
        assert one
        assert not one & two

    def test_that_take_too_long_end_with_a_sentence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drawing, "SECONDS", 0.01)
        with pytest.raises(drawing.DrawingError, match=r"drew nothing in 0\.01 s, 2 times"):
            drawing.pictures([{"mark": "point", "data": {"values": []}}])

    def test_that_cannot_be_drawn_end_with_a_sentence(self) -> None:
        with pytest.raises(drawing.DrawingError, match="vl-convert failed: "):
            drawing.pictures([{"mark": "no such mark", "data": 3}])


MACHADO = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = np.array(list(bytes.fromhex(colour[1:]))) / 255
    return float(np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def opened(part: Part) -> Picture.Image:
    return Picture.open(io.BytesIO(part["data"])).convert("RGB")


class TestExamples:
    def test_picture_is_kept_exactly(self) -> None:
        pixels = np.add.outer(np.arange(224), np.arange(200))[..., None].repeat(3, 2).astype(np.uint8)
        part = image_example(Image(pixels))
        assert part["media_type"] == "image/webp"
        assert np.array_equal(np.asarray(opened(part)), pixels)

    def test_picture_that_would_be_large_is_hardly_changed(self) -> None:
        smooth = np.add.outer(np.arange(224), np.arange(224))[..., None] / 2 + 10
        pixels = (smooth + np.random.default_rng(0).normal(0, 6, (224, 224, 3))).clip(0, 255).astype(np.uint8)
        part = image_example(Image(pixels))
        assert len(part["data"]) <= 60_000
        assert np.abs(np.asarray(opened(part)).astype(int) - pixels).max() <= 8

    def test_picture_is_made_small_and_keeps_its_shape(self) -> None:
        assert opened(image_example(picture(1000, 500))).size == (MAX_SIDE, MAX_SIDE // 2)
        assert opened(image_example(picture(1, 1))).size == (1, 1)

    def test_classification_names_the_class(self) -> None:
        (part,) = find_task("image_classification").example(picture(), 1, 0, ("brick", "grass"), None)
        assert part["label"] == "grass"

    def test_mask_shows_prediction_true_borders_and_legend(self) -> None:
        found, wanted = np.zeros((224, 224), int), np.zeros((224, 224), int)
        found[:, 100:], wanted[:, 50:] = 1, 1
        decoded, mask, legend = find_task("image_segmentation").example(picture(224, 224), found, wanted, ("brick", "grass"), None)
        assert json.loads(legend["data"]) == {"grass": class_colour(1), "brick": class_colour(0)}
        shown = np.asarray(opened(mask))
        for column, colour in ((10, class_colour(0)), (49, "#000000"), (60, class_colour(0)), (150, class_colour(1))):
            assert bytes(shown[100, column]).hex() == colour[1:]
        assert decoded["media_type"] == "image/webp"

    def test_classes_have_colours_of_their_own(self) -> None:
        assert len({class_colour(index) for index in range(30)}) == 30

    def test_sound_is_cut_to_its_middle_and_mixed_to_one_channel(self) -> None:
        import soundfile

        waveform, sample_rate = soundfile.read(io.BytesIO(audio_example(tone(6, channels=2))["data"]))
        assert (waveform.shape, sample_rate) == ((4 * 16000,), 16000)
        assert np.abs(waveform - tone(6).waveform[0, 16000:-16000]).max() <= 2 / 32768

    def test_every_point_of_an_evaluation_gets_the_same_gain(self) -> None:
        import soundfile

        level = tone(level=0.5)
        assert gain_of(level) == pytest.approx(-20 - 10 * math.log10(0.125))
        peaks = []
        for loudness in (0.5, 0.25):
            (part,) = find_task("speech_recognition").example(tone(level=loudness), "a", "b", (), level)
            peaks.append(np.abs(soundfile.read(io.BytesIO(part["data"]))[0]).max())
        assert peaks[0] / peaks[1] == pytest.approx(2, rel=1e-3)

    def test_silence_and_single_samples(self) -> None:
        assert gain_of(Audio(np.zeros((1, 10), np.float32), 8000)) == 0
        assert find_task("speech_recognition").example(Audio(np.zeros((1, 1), np.float32), 8000), "", "", (), None)

    def test_separation_gives_the_mixture_and_the_stems(self) -> None:
        stems = {"drums": tone().waveform, "bass": tone().waveform}
        parts = find_task("source_separation").example(tone(), stems, stems, (), tone())
        assert [part["label"] for part in parts] == ["mixture", "drums, estimated", "bass, estimated"]
        assert {part["media_type"] for part in parts} == {"audio/flac"}
