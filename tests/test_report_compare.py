"""``mpq report A B``: two runs side by side, read again from the page as a browser's parser sees it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compare import write_run
from trial_records import EVALUATION, Wrong, hits, record

from mpq_fixtures.__main__ import main
from mpq_fixtures.metrics.word_accuracy import WordAccuracy
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.report.compare import write_comparison
from mpq_fixtures.rows import Failure
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.suite import Case


@dataclass
class Page(HTMLParser):
    """The rows of each table by its caption or label, texts, links, and the elements that there are."""

    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    tags: set[str] = field(default_factory=set)
    text: str = ""
    _label: str = ""
    _cell: str | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self._label = found.get("aria-label") or self._label if tag == "div" else self._label
        if tag == "a":
            self.links.append(found.get("href") or "")
        if tag == "table":
            self.tables.append((self._label, []))
        if tag == "tr":
            self.tables[-1][1].append([])
        if tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][1][-1].append(" ".join(self._cell.split()))
            self._cell = None

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell is not None:
            self._cell += data

    def table(self, label: str) -> list[list[str]]:
        return next(rows for name, rows in self.tables if name == label)[1:]


def answering(one: Record, answers: Mapping[str, str]) -> Record:
    """The record with other answers, by sample, and a target."""
    one.rows = Rows.of([replace(row, prediction=answers.get(row.sample, "cat"), target="cat") for row in one.rows])
    return one


def page(tmp_path: Path, before: Sequence[Record], after: Sequence[Record], **provenance: Any) -> Page:
    folders = [write_run(tmp_path / name, records, provenance.get(name)) for name, records in (("a", before), ("b", after))]
    found = Page()
    found.feed(write_comparison(*folders).read_text(encoding="utf-8"))
    return found


def cases(found: Page) -> dict[str, dict[str, str]]:
    heads = ("verdict", "value A", "value B", "change", "rate A", "rate B", "rate change", "newly", "mended", "still", "unpaired")
    return {row[0]: dict(zip(heads, row[1:], strict=False)) for row in found.table("Table of cases") if len(row) > 1}


class TestSamples:
    def test_are_sorted_by_what_became_of_them(self, tmp_path: Path) -> None:
        before, after = record([1, 1, 0, 0, 1]), answering(record([1, 0, 1, 0, 0]), {"s1": "dog", "s4": "<b>owl</b>"})
        found = page(tmp_path, [before], [after])
        assert [row[0] for row in found.table("tried-jpeg-q5: newly broken")] == ["s1", "s4"]
        assert found.table("tried-jpeg-q5: newly broken")[1] == ["s4", "", "<b>owl</b>", "cat", "1.000", "0.000"]
        assert [row[0] for row in found.table("tried-jpeg-q5: mended")] == ["s2"]
        assert [row[0] for row in found.table("tried-jpeg-q5: still broken")] == ["s3"]
        one = cases(found)["tried-jpeg-q5"]
        assert (one["newly"], one["mended"], one["still"], one["unpaired"]) == ("2", "1", "1", "")

    def test_of_one_run_only_are_unpaired(self, tmp_path: Path) -> None:
        found = page(tmp_path, [record([1.0] * 6)], [record([1.0] * 6, first=2)])
        assert sorted(row[0] for row in found.table("tried-jpeg-q5: unpaired")) == ["s0", "s1", "s6", "s7"]

    def test_that_fail_are_broken(self, tmp_path: Path) -> None:
        failed = record([1.0, 1.0])
        failed.failures = [Failure("s2", "decode", "it is damaged")]
        found = page(tmp_path, [record([1.0] * 3)], [failed])
        assert found.table("tried-jpeg-q5: newly broken") == [["s2", "", "decode: it is damaged", "", "1.000", ""]]
        found = page(tmp_path, [failed], [record([1.0] * 3)])
        assert [row[0] for row in found.table("tried-jpeg-q5: mended")] == ["s2"]
        found = page(tmp_path, [failed], [failed])
        assert [row[0] for row in found.table("tried-jpeg-q5: still broken")] == ["s2"]

    def test_of_graded_metrics_are_held_against_the_originals(self, tmp_path: Path) -> None:
        """Errors of 10 words: a sample is broken that scores less than on the originals, the worst comes first."""

        def words(quality: str, *errors: int) -> Record:
            statistics = [[wrong, 10] for wrong in errors]
            one = record(statistics, metric=WordAccuracy("none"), quality=quality)  # type: ignore[arg-type]
            return one if quality else summarise(Case(EVALUATION, "original", ""), one.rows, [], WordAccuracy("none"), [])

        originals = words("", 0, 3, 0, 0, 1)
        found = page(tmp_path, [originals, words("q5", 0, 3, 2, 0, 3)], [originals, words("q5", 1, 3, 3, 5, 1)])
        assert [(row[0], row[5]) for row in found.table("tried-jpeg-q5: newly broken")] == [("s3", "0.500"), ("s0", "0.900")]
        assert [row[0] for row in found.table("tried-jpeg-q5: still broken")] == ["s2"]
        assert [row[0] for row in found.table("tried-jpeg-q5: mended")] == ["s4"]

    @pytest.mark.parametrize("original", ["original", ""], ids=["against the originals", "without them"])
    def test_of_which_less_is_better_broke_where_more(self, tmp_path: Path, original: str) -> None:
        def errors(quality: str, *wrong: float) -> Record:
            one = record(wrong, metric=Wrong(), quality=quality)
            return one if quality else summarise(Case(EVALUATION, "original", ""), one.rows, [], Wrong(), [])

        originals = [errors("", 0.1, 0.1, 0.1)] if original else []
        found = page(tmp_path, [*originals, errors("q5", 0.1, 0.1, 0.4)], [*originals, errors("q5", 0.2, 0.5, 0.1)])
        assert [row[0] for row in found.table("tried-jpeg-q5: newly broken")] == ["s1", "s0"]
        assert [row[0] for row in found.table("tried-jpeg-q5: mended")] == ["s2"]

    def test_that_err_or_not_are_broken_where_they_do(self, tmp_path: Path) -> None:
        found = page(tmp_path, [record([0, 1, 1], metric=Wrong())], [record([1, 0, 1], metric=Wrong())])
        assert [row[0] for row in found.table("tried-jpeg-q5: newly broken")] == ["s0"]
        assert [row[0] for row in found.table("tried-jpeg-q5: mended")] == ["s1"]
        assert [row[0] for row in found.table("tried-jpeg-q5: still broken")] == ["s2"]

    def test_are_named_up_to_a_dozen(self, tmp_path: Path) -> None:
        found = page(tmp_path, [record(hits(40, 0))], [record([0.0] * 30 + hits(10, 0))])
        assert len(found.table("tried-jpeg-q5: newly broken")) == 12
        assert "and 18 more" in found.text

    def test_cases_that_broke_most_come_first(self, tmp_path: Path) -> None:
        qualities = ("q5", "q10", "q20")
        before = [record(hits(200, 0), quality=quality) for quality in qualities]
        wrong = (10, 60, 30)
        after = [record([0.0] * count + hits(200 - count, 0), quality=quality) for count, quality in zip(wrong, qualities, strict=True)]
        found = page(tmp_path, before, after)
        labels = [label for label, _ in found.tables if label.endswith("newly broken")]
        assert labels == [f"tried-jpeg-{quality}: newly broken" for quality in ("q10", "q20", "q5")]


class TestFigures:
    def test_stand_side_by_side(self, tmp_path: Path) -> None:
        one = cases(page(tmp_path, [record(hits(480, 20))], [record([0.0] * 25 + hits(455, 20), size=99)]))["tried-jpeg-q5"]
        assert (one["verdict"], one["value A"], one["value B"]) == ("regressed", "0.960", "0.910")
        assert one["change"].startswith("\N{MINUS SIGN}0.050 [\N{MINUS SIGN}0.0")
        assert (one["rate A"], one["rate B"], one["rate change"]) == (
            "8.00 bpp",
            "7.92 bpp",
            "\N{MINUS SIGN}1.0 % [\N{MINUS SIGN}1.0, \N{MINUS SIGN}1.0]",
        )

    def test_the_interval_of_a_rate_is_the_bootstraps(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(4)
        sizes = generator.integers(50, 150, 300) * 100
        more = np.round(sizes * generator.uniform(0.95, 1.15, 300)).astype(int)
        sides = []
        for own in (sizes, more):
            one = record(hits(300, 0))
            one.rows = Rows.of([replace(row, bytes=int(size)) for row, size in zip(one.rows, own, strict=True)])
            sides.append(one)
        shown = cases(page(tmp_path, [sides[0]], [sides[1]]))["tried-jpeg-q5"]["rate change"]
        figures = [float(part) for part in shown.replace("%", "").replace("[", "").replace("]", "").replace(",", "").split()]
        drawn = generator.integers(0, 300, (4000, 300))
        ratios = 100 * (more[drawn].sum(axis=1) / sizes[drawn].sum(axis=1) - 1)
        assert figures == pytest.approx([100 * (more.sum() / sizes.sum() - 1), *np.quantile(ratios, [0.025, 0.975])], abs=0.15)

    def test_of_what_did_not_move_are_nothing(self, tmp_path: Path) -> None:
        found = page(tmp_path, [record(hits(9, 1))], [record(hits(9, 1))])
        one = cases(found)["tried-jpeg-q5"]
        assert (one["verdict"], one["change"], one["rate change"]) == ("same", "0.000 (no sample moved)", "0 %")
        assert "1 case: 1 same." in found.text

    def test_a_value_that_is_no_number_is_a_word(self, tmp_path: Path) -> None:
        found = page(tmp_path, [record(hits(9, 1))], [record([*hits(9, 0), math.nan])])
        assert "nan" not in " ".join(" ".join(row) for row in found.table("Table of cases")).split()

    def test_cases_of_one_run_only(self, tmp_path: Path) -> None:
        found = page(
            tmp_path, [record(hits(9, 1)), record(hits(9, 1), quality="q10")], [record(hits(9, 1)), record(hits(9, 1), quality="q20")]
        )
        verdicts = {name: one["verdict"] for name, one in cases(found).items()}
        assert verdicts == {"tried-jpeg-q10": "missing", "tried-jpeg-q20": "new", "tried-jpeg-q5": "same"}


class TestPage:
    def test_says_what_changed(self, tmp_path: Path) -> None:
        sides = {"a": {"packages": {"pillow": "12.0"}, "commit": "abc"}, "b": {"packages": {"pillow": "13.0"}, "commit": "def"}}
        found = page(tmp_path, [record(hits(9, 1))], [record(hits(9, 1))], **sides)
        assert "pillow 12.0 -> 13.0" in found.text
        assert "commit abc" in found.text

    def test_leads_to_the_reports_that_are_there(self, tmp_path: Path) -> None:
        for name in "ab":
            (tmp_path / name).mkdir()
        (tmp_path / "a" / "report.html").touch()
        found = page(tmp_path, [record(hits(9, 1))], [record(hits(8, 2))])
        assert {"../a/report.html", "../a/report.html#case-tried-jpeg-q5"} <= set(found.links)
        assert not any("b/report.html" in link or link.startswith("report.html") for link in found.links)

    def test_leads_to_the_pages_of_evaluations_where_a_report_has_them(self, tmp_path: Path) -> None:
        for name in ("a/report.html", "a/report_files/evaluation-1.html", "b/report.html"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        found = page(tmp_path, [record(hits(9, 1))], [record(hits(8, 2))])
        assert {"../a/report_files/evaluation-1.html#case-tried-jpeg-q5", "report.html#case-tried-jpeg-q5"} <= set(found.links)

    def test_has_no_script_and_loads_nothing(self, tmp_path: Path) -> None:
        hostile = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
        found = page(tmp_path, [record([1.0, 1.0])], [answering(record([0.0, 1.0]), {"s0": hostile})])
        assert not found.tags & {"script", "img", "iframe", "link", "object"}
        assert found.table("tried-jpeg-q5: newly broken")[0][2] == hostile
        content = (tmp_path / "b" / "compare.html").read_text(encoding="utf-8")
        assert "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'" in content


class TestCommand:
    def test_takes_folders_whose_names_are_no_utf8(self, tmp_path: Path) -> None:
        folders = [Path(os.fsdecode(os.fsencode(tmp_path) + name)) for name in (b"/a\xff", b"/b\xff")]
        for folder in folders:
            write_run(folder, [record(hits(9, 1))])
        (folders[0] / "report.html").touch()
        content = write_comparison(*folders).read_text(encoding="utf-8")
        assert 'href="../a%FF/report.html#case-tried-jpeg-q5"' in content

    def test_renders_whatever_the_verdicts(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folders = [write_run(tmp_path / name, [record(hits(*right))]) for name, right in (("a", (90, 10)), ("b", (10, 90)))]
        assert main(["report", *map(str, folders)]) == 0
        assert capsys.readouterr().out == f"{folders[1] / 'compare.html'}\n"
        assert main(["report", *map(str, folders), "--out", str(tmp_path / "else" / "page.html")]) == 0
        assert (tmp_path / "else" / "page.html").stat().st_size > 1000

    def test_says_what_cannot_be_read(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run = write_run(tmp_path / "a", [record(hits(9, 1))])
        assert main(["report", str(tmp_path / "none"), str(run)]) == 2
        assert capsys.readouterr().err.startswith(f"mpq report: no results.json in {tmp_path / 'none'}")
        (run / "samples.parquet").write_bytes(b"damaged")
        assert main(["report", str(run), str(run)]) == 2
        assert "samples.parquet cannot be read" in capsys.readouterr().err

    def test_out_is_for_two_runs(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["report", str(tmp_path), "--out", "x.html"]) == 2
        assert capsys.readouterr().err == "mpq report: --out is for two runs side by side: mpq report A B --out FILE\n"

    def test_says_that_charts_cannot_be_drawn(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = write_run(tmp_path / "run", [record(hits(9, 1)), record(hits(9, 1), quality="q10")])
        (tmp_path / "vl_convert.py").write_text("raise OSError('libm.so: cannot open')\n")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        assert main(["report", str(run)]) == 2
        assert capsys.readouterr().err == "mpq report: vl-convert failed: OSError: libm.so: cannot open\n"
