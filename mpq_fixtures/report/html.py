"""Results into a page that works offline and without scripts: one file, or with many cases a folder of pages beside it.

Whatever comes from data is text: Jinja escapes it in the page, JSON for the charts has no ``<`` in it, media are ``data:`` URIs of the
types in `gallery.MEDIA_TYPES`, and the page's own policy allows neither a connection nor a script but those that were written here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from mpq_fixtures.chain import PLURAL
from mpq_fixtures.decisions.lowest import KEPT, SHARES, percent
from mpq_fixtures.files import write_atomically
from mpq_fixtures.gate.changes import changes
from mpq_fixtures.report import drawing, replication
from mpq_fixtures.report.answers import whole as whole_percent
from mpq_fixtures.report.cases import OFF, Case, count_statuses, read_cases, sentence, worst_first
from mpq_fixtures.report.flips import counts_of, flips_of, rows_of, wanted, weight_of
from mpq_fixtures.report.folder import Beside
from mpq_fixtures.report.gallery import examples_of, media_budget, share_budget, show_example, weight
from mpq_fixtures.report.history import OverTime, find_history
from mpq_fixtures.report.sections import Section, sections_of
from mpq_fixtures.results import figures
from mpq_fixtures.results.courses import History
from mpq_fixtures.results.figures import Measure
from mpq_fixtures.results.files import read_results
from mpq_fixtures.results.samples import read_examples
from mpq_fixtures.results.times import moment

if TYPE_CHECKING:
    from jinja2 import Environment
    from jinja2.bccache import Bucket, BytecodeCache

MOST_CASES = 100
"""Cases up to which the report is one file."""

MOST_FAILURES, ALL_FAILURES = 200, 10_000
"""Samples that are named for a case and for all of them together; all others are in samples.parquet."""

NAMED, LISTED, CARDS = 12, 500, 200
"""Red cases that are named at the top, those that are one click away, and evaluations whose answers stand in tables in an index."""

ROW_TEXT = 600
"""Characters that a point takes in the table of all points over time."""

FLIPS_SHARE = 2 / 3
"""Of the room for pictures and sounds, what flips may take; the rest is for the sample of every point."""

LACKING = {"not run": "did not run", "skipped": "skipped"}


def write_report(folder: Path, history: Path | None = None) -> Path:
    """Render ``report.html`` of a run's folder from its ``results.json`` and ``samples.parquet``, and return its path.

    With more than `MOST_CASES` cases it is an index, beside a folder ``report_files`` with a page for each evaluation; what an earlier
    report left there goes. ``history`` is the folder to which runs were added; by default the one that the run's options name, where it is
    still there. Raises `ValueError`, with a sentence, where one of the two cannot be read.
    """
    results, file = read_results(folder), folder / "samples.parquet"
    try:
        samples = read_examples(file, partial(wanted, results["cases"]))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{file} cannot be read: {reason}; give the folder that a run wrote, such as reports/latest") from None
    report, beside = Report(results, find_history(results, history)), Beside(folder)
    if len(report.cases) <= MOST_CASES:
        page = report.one_page(samples)
    else:
        page = report.index()
        script = beside.keep(drawing.script().encode("utf-8", "replace"), "js") if report.charted else ""
        examples, counts = examples_of(samples), counts_of(results.get("cases", ()))
        for section in report.sections:
            section.example = show_example(section.cases, examples, math.inf, beside)
            section.flips = flips_of(section.cases, samples, counts, math.inf, beside)
            beside.write(f"{section.key}.html", report.page_of(section, script))
            section.example = section.flips = None
    write_atomically(folder / "report.html", page.encode("utf-8", "replace"))
    beside.sweep()
    return folder / "report.html"


def render(results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], history: History | None = None) -> str:
    """Lay out one page from the content of ``results.json`` and ``samples.parquet``, as ``reports/README.md`` describes them."""
    return Report(results, history).one_page(samples)


class Report:
    """What a run's pages have in common; making it draws the charts."""

    def __init__(self, results: Mapping[str, Any], history: History | None = None) -> None:
        """Read the content of ``results.json``."""
        from markupsafe import Markup

        self.results, self.cases = results, read_cases(results.get("cases", ()))
        self.sections = sections_of(self.cases, results, history)
        charted: list[tuple[Section | OverTime, Mapping[str, Any]]] = [(one, one.chart) for one in self.sections if one.chart]
        charted += [(one.history, one.history.drawn) for one in self.sections if one.history and one.history.drawn]
        for (shown, _), picture in zip(charted, drawing.pictures([chart for _, chart in charted]), strict=True):
            shown.picture = Markup(drawing.lighter(picture))
        self.charted = bool(charted)
        self.since = _red_since(history)

    def one_page(self, samples: Sequence[Mapping[str, Any]]) -> str:
        """Return everything as one page."""
        scripts = [drawing.script()] if self.charted else []
        _show_samples(self.sections, self.cases, self.results, samples, sum(map(len, [*scripts, self._own_script])))
        return self._page("report.html.j2", scripts, whole=True, sections=self.sections, **self._about_the_run)

    def index(self) -> str:
        """Return the page that leads to those of the evaluations."""
        return self._page("report.html.j2", [], whole=False, sections=self.sections, **self._about_the_run)

    def page_of(self, section: Section, script: str) -> str:
        """Return the page of one evaluation, for the folder beside the index; ``script`` is the file there that draws charts."""
        ordered = worst_first(section.cases)
        return self._page("evaluation_page.html.j2", [], script, whole=True, section=section, cases=ordered, further=_further(ordered))

    def _page(self, template: str, scripts: Sequence[str], script: str = "", *, whole: bool, **content: Any) -> str:
        from markupsafe import Markup

        scripts = [*scripts, self._own_script]
        hashes = [base64.b64encode(hashlib.sha256(text.encode("utf-8", "replace")).digest()).decode() for text in scripts]
        page: str = self._environment.get_template(template).render(
            whole=whole,
            suites=list(dict.fromkeys(case.suite for case in self.cases if case.suite)),
            created=_moment(self.results.get("created")),
            shares=[(f"{100 * share:g}", share == KEPT) for share in SHARES],
            since=self.since,
            method=_method(self.cases),
            most_failures=max(1, min(MOST_FAILURES, ALL_FAILURES // max(1, sum(bool(case.failures) for case in self.cases)))),
            off=OFF,
            css=Markup("".join((HERE / name).read_text(encoding="utf-8") for name in ("report.css", "flips.css"))),
            scripts=[Markup(text) for text in scripts],
            script=script,
            beside=template == "evaluation_page.html.j2",
            hashes=hashes,
            **content,
        )
        return page

    @cached_property
    def _own_script(self) -> str:
        return "".join((HERE / name).read_text(encoding="utf-8") for name in ("report.js", "flips.js"))

    @cached_property
    def _environment(self) -> Environment:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(HERE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            bytecode_cache=_compiled(),
        )
        environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
        environment.filters |= {
            "rate": figures.rate, "ratio": figures.ratio, "percent": percent, "whole": whole_percent, "pace": _pace,
            "sentence": _sentence, "key": _key,
        }  # fmt: skip
        return environment

    @cached_property
    def _about_the_run(self) -> dict[str, Any]:
        """Return what the first page says of all cases."""
        results, cases = self.results, worst_first(self.cases)
        places = {id(case): section.key for section in self.sections for case in section.cases}
        red = [case for case in cases if case.is_red]
        changed = changes(results.get("cases", ()))
        return {
            "sentence": sentence(self.cases, bool(results.get("complete", True))),
            "first_red": min((self.since[case.case] for case in red if case.case in self.since), default=""),
            "well": bool(cases) and all(case.outcome == "passed" for case in cases),
            "statuses": count_statuses(cases),
            "changed": changed,
            "pooled": results.get("pooled") or (),
            "attention": red + [case for case in cases if case.status == "underpowered"],
            "page_of": {case.case: places[id(case)] for case in cases},
            "lacking": [(status, words, found) for status, words in LACKING.items() if (found := _lacking(cases, status))],
            "named": NAMED,
            "listed": LISTED,
            "tables": len(self.sections) <= CARDS,
            "replication": replication.replicate(results["cases"]) if replication.concerns(cases) else None,
            "cases": cases,
            "further": _further(cases),
            "links": {link: name for link, name in PLURAL.items() if any(row.differ.get(link) for row in changed)},
            "provenance": results.get("provenance") or {},
            "time": _time(results.get("seconds") or {}),
            "work": _work(results.get("work") or {}),
            "schema": results.get("schema"),
            "exit_status": results.get("exit_status"),
            "complete": results.get("complete"),
        }


HERE = Path(__file__).parent


def _compiled() -> BytecodeCache | None:
    """Return where compiled templates are kept, as Python keeps modules; they go by the templates' content. None where nothing can be."""
    from jinja2 import FileSystemBytecodeCache

    class Kept(FileSystemBytecodeCache):
        def dump_bytecode(self, bucket: Bucket) -> None:
            with suppress(OSError):  # else it is compiled again next time
                super().dump_bytecode(bucket)

    folder = Path(platformdirs.user_cache_dir("mpq", appauthor=False), "templates")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return Kept(str(folder))


def _red_since(history: History | None) -> dict[str, str]:
    """Return for each case that is red when the first run was in which it was, as a time."""
    found = {}
    for course in history.courses if history else ():
        if course.red_since is not None:
            found[course.case] = moment(course.entries[course.red_since].run.started)
    return found


def _lacking(cases: Iterable[Case], status: str) -> dict[str, list[Case]]:
    """Return the cases of a status by evaluation."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        if case.status == status:
            found.setdefault(case.evaluation, []).append(case)
    return found


def _method(cases: Iterable[Case]) -> str:
    """Name how the values' intervals are made, where results say it."""
    return ", ".join(dict.fromkeys(case.main.method for case in cases if case.main.method))


def _show_samples(
    sections: Sequence[Section], cases: Sequence[Case], results: Mapping[str, Any], samples: Sequence[Mapping[str, Any]], others: int
) -> None:
    """Show each section's example and flips with as many media as the page has room for beside its charts and ``others`` characters."""
    for section in sections:
        others += len(section.picture) + len(json.dumps(section.chart))
        if history := section.history:
            others += len(history.picture) + len(json.dumps(history.chart)) + ROW_TEXT * len(history.rows)
    examples, counts = examples_of(samples), counts_of(results.get("cases", ()))
    left = media_budget(cases, others)
    weights = {section.key: sum(map(weight_of, rows_of(section.cases, samples))) for section in sections}
    budgets = share_budget(weights, int(FLIPS_SHARE * left))
    left -= sum(min(weights[key], budget) for key, budget in budgets.items())
    for section in sections:
        section.flips = flips_of(section.cases, samples, counts, budgets[section.key])
    weights = {
        section.key: sum(weight(examples[case.case]["example"]) for case in section.cases if case.case in examples) for section in sections
    }
    budgets = share_budget(weights, left)
    for section in sections:
        section.example = show_example(section.cases, examples, budgets[section.key])


def _further(cases: Iterable[Case]) -> list[Measure]:
    """Return one measure of each further metric, in the order in which they come up."""
    return list({measure.name: measure for case in cases for measure in case.further}.values())


def _sentence(words: str) -> str:
    """Begin with a capital letter and leave the rest: ``mean IoU`` is no ``Mean iou``."""
    return words[:1].upper() + words[1:]


def _key(figure: float | None) -> str:
    """Write a figure to sort by, as exactly as anybody sees it; nothing where there is none."""
    return "" if figure is None else f"{figure:.7g}"


def _pace(seconds: float | None) -> str:
    """Write seconds with two significant digits: ``0.012``, ``1.3``, ``25``."""
    if seconds is None:
        return ""
    return f"{seconds:.0f}" if seconds >= 9.5 else f"{seconds:.{max(0, 1 - math.floor(math.log10(seconds)))}f}"


def _moment(created: Any) -> str:
    """Write an ISO 8601 time as ``23 November 2026, 18:15 UTC``; anything else as it is."""
    try:
        moment = datetime.fromisoformat(str(created))
    except ValueError:
        return figures.text(created)
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or 'UTC'}"


def _seconds(value: Any) -> str:
    """Write seconds as ``12.3 s`` or ``4 min 05 s``."""
    seconds = figures.number(value)
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else f"{math.floor(seconds / 60)} min {math.floor(seconds % 60):02d} s"


def _time(seconds: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, time, and share of the workers' lifetime for each entry of ``seconds``."""
    worker = figures.number(seconds.get("worker"))
    titles = {"busy": "any of these under way", "worker": "the workers' lifetime"}
    steps = [(name, figures.number(value)) for name, value in seconds.items() if name != "share"]
    return [
        (titles.get(name, name), _seconds(value), f"{value / worker:.0%}".replace("%", " %") if worker else "")
        for name, value in steps
        if value is not None
    ]


def _work(work: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, computed and reused for each kind of work, whichever of the two comes first in ``work``."""
    if set(work) <= {"computed", "reused"}:
        kinds = dict.fromkeys(kind for counts in work.values() if isinstance(counts, Mapping) for kind in counts)
        work = {kind: {how: counts.get(kind, 0) for how, counts in work.items()} for kind in kinds}
    return [
        (kind.replace("_", " "), figures.text(counts.get("computed", 0)), figures.text(counts.get("reused", 0)))
        for kind, counts in work.items()
        if isinstance(counts, Mapping)
    ]
