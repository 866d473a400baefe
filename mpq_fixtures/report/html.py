"""Results into one HTML file that works offline and without scripts.

Whatever comes from data is text: Jinja escapes it in the page, JSON for the charts has no ``<`` in it, media are ``data:`` URIs of the
types in `MEDIA_TYPES`, and the page's own policy allows neither a connection nor a script but the two that were written here.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpq_fixtures.files import write_atomically
from mpq_fixtures.report import cases as reading
from mpq_fixtures.report import curves, replication
from mpq_fixtures.report.cases import Case, Lowest, Measure, read_case

if TYPE_CHECKING:
    import pandas as pd

MEDIA_TYPES = ("image/png", "image/webp", "audio/flac", "audio/wav", "audio/ogg")
LEGEND = "application/json"  # of class maps: {class name: "#rrggbb"}
MEDIA_BUDGET = 12_500_000  # characters of base64; with the charts and the text the page stays below 15 MB
MOST_FAILURES = 200  # samples that are named for a case; all of them are in samples.parquet

TASK_TITLES = {
    "image_classification": "image classification",
    "image_segmentation": "semantic segmentation",
    "speech_recognition": "speech recognition",
    "source_separation": "source separation",
}
ATTENTION = ("failed", "regressed", "not run", "skipped")


def write_report(folder: Path) -> Path:
    """Render ``report.html`` of a run's folder from its ``results.json`` and ``samples.parquet``, and return its path."""
    import pandas as pd

    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    page = render(results, pd.read_parquet(folder / "samples.parquet"))
    write_atomically(folder / "report.html", page.encode("utf-8", "replace"))
    return folder / "report.html"


def render(results: Mapping[str, Any], samples: pd.DataFrame) -> str:
    """Lay out the page from the content of ``results.json`` and ``samples.parquet``, as ``reports/README.md`` describes them."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    here = Path(__file__).parent
    cases = [read_case(record) for record in results.get("cases", ())]
    sections = _sections(cases, samples)
    scripts = [curves.script()] if any(section.chart for section in sections) else []
    scripts.append((here / "report.js").read_text(encoding="utf-8"))
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    environment.filters |= {"rate": reading.rate, "ratio": reading.ratio, "percent": reading.percent, "sentence": _sentence}
    page: str = environment.get_template("report.html.j2").render(
        suites=list(dict.fromkeys(case.suite for case in cases if case.suite)),
        created=_moment(results.get("created")),
        sentence=reading.sentence(cases, bool(results.get("complete", True))),
        well=bool(cases) and all(case.outcome == "passed" for case in cases),
        statuses=reading.count_statuses(cases),
        attention=[case for case in reading.worst_first(cases) if case.status in ATTENTION],
        sections=sections,
        replication=replication.replicate(results["cases"]) if replication.concerns(cases) else None,
        cases=reading.worst_first(cases),
        further=_further(cases),
        most_failures=MOST_FAILURES,
        kept=f"{reading.KEPT:.0%}".replace("%", " %"),
        provenance=results.get("provenance") or {},
        time=_time(results.get("seconds") or {}),
        work=_work(results.get("work") or {}),
        schema=results.get("schema"),
        exit_status=results.get("exit_status"),
        complete=results.get("complete"),
        css=Markup((here / "report.css").read_text(encoding="utf-8")),
        scripts=[Markup(script) for script in scripts],
        policy=" ".join(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts),
    )
    return page


@dataclass(frozen=True)
class Section:
    """One evaluation as the page shows it."""

    key: str
    suite: str
    name: str
    task: str
    model: str
    dataset: str
    samples: int
    main: Measure
    original: Case | None
    reference: str
    lowest: list[Lowest]
    dearest: float
    rate_unit: str
    chart: dict[str, Any] | None
    picture: str
    example: Example | None


@dataclass(frozen=True)
class Media:
    """A picture or a sound as a ``data:`` URI."""

    kind: str
    label: str
    uri: str


@dataclass(frozen=True)
class Shown:
    """The example at one operating point; ``words`` is a transcript as (kind, words) beside the target's."""

    case: Case
    rate: float | None
    media: tuple[Media, ...]
    left_out: bool
    prediction: str
    words: tuple[tuple[str, str], ...]
    right: bool | None
    score: str


@dataclass(frozen=True)
class Example:
    """One sample at every point: the original, then a row for each codec from its lowest quality to its highest."""

    sample: str
    target: str
    legend: dict[str, str]
    original: Shown | None
    rows: dict[str, list[Shown]]
    points: int

    @property
    def widest(self) -> int:
        """The number of columns that the grid takes."""
        return max([1, *(len(row) for row in self.rows.values())])


def _sections(cases: Sequence[Case], samples: pd.DataFrame) -> list[Section]:
    from markupsafe import Markup

    style = curves.marks(cases)
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.suite, case.evaluation), []).append(case)
    examples = _examples(samples)
    budgets = _budgets({key: sum(_weight(examples.get(case.case)) for case in group) for key, group in groups.items()})
    sections = []
    for index, ((suite, name), group) in enumerate(groups.items(), 1):
        first = next((case for case in group if case.main.name), group[0])
        original = next((case for case in group if case.original), None)
        reference = next((case.reference for case in group if case.reference is not None), None)
        lowest = reading.lowest_rates(group)
        chart = curves.curve(group, style)
        sections.append(
            Section(
                key=f"evaluation-{index}",
                suite=suite,
                name=name,
                task=TASK_TITLES.get(first.task, first.task.replace("_", " ")),
                model=first.model,
                dataset=first.dataset,
                samples=max(case.samples for case in group),
                main=first.main,
                original=original,
                reference=first.main.show(original.main.value if original and original.main.value is not None else reference),
                lowest=lowest,
                dearest=max((found.case.rate or 0.0 for found in lowest if found.case), default=0.0),
                rate_unit=next((case.rate_unit for case in group if case.rate_unit), ""),
                chart=chart,
                picture=Markup(curves.svg(chart, f"chart-{index}")) if chart else "",
                example=_example(group, examples, budgets[suite, name]),
            )
        )
    return sections


def _examples(samples: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the row of each case that holds clips or pictures."""
    if "example" not in samples or samples.empty:
        return {}
    rows = samples[samples["example"].notna()].to_dict("records")
    return {str(row["case"]): {str(key): value for key, value in row.items()} for row in reversed(rows) if len(row["example"])}


def _weight(row: Mapping[str, Any] | None) -> int:
    """Return the characters of base64 that the media of a row take."""
    return 0 if row is None else sum(4 * math.ceil(len(part["data"]) / 3) + 100 for part in row["example"])


def _budgets(weights: Mapping[Any, int]) -> dict[Any, int]:
    """Share `MEDIA_BUDGET` among evaluations: what a light one leaves goes to the heavier ones."""
    left, budgets = MEDIA_BUDGET, {}
    for place, key in enumerate(sorted(weights, key=lambda key: weights[key])):
        budgets[key] = left // (len(weights) - place)
        left -= min(weights[key], budgets[key])
    return budgets


def _example(cases: Sequence[Case], rows: Mapping[str, Mapping[str, Any]], budget: int) -> Example | None:
    """Show one sample at every point of an evaluation.

    Where all media would take more than ``budget`` characters, points go without theirs: first those in the middle of the ladders.
    """
    points = [case for case in cases if case.case in rows]
    if not points:
        return None
    # Every point shows the same sample; where one failed at a point, that point shows another, which would be no comparison.
    sample = max((str(rows[case.case]["sample"]) for case in points), key=[str(rows[case.case]["sample"]) for case in points].count)
    points = [case for case in points if str(rows[case.case]["sample"]) == sample]
    media = {case.case: _media(rows[case.case]["example"]) for case in points}
    shown: set[str] = set()
    for case in sorted(points, key=lambda case: _middling(case, points)):
        budget -= sum(len(part.uri) for part in media[case.case][0])
        if budget >= 0:
            shown.add(case.case)
    cells = {case.case: _shown(case, rows[case.case], media[case.case][0] if case.case in shown else ()) for case in points}
    ladders: dict[str, list[Shown]] = {}
    for case in points:
        if not case.original:
            ladders.setdefault(case.codec, []).append(cells[case.case])
    return Example(
        sample=sample,
        target=reading.text(rows[points[0].case].get("target")),
        legend={name: colour for _, legend in media.values() for name, colour in legend.items()},
        original=next((cells[case.case] for case in points if case.original), None),
        rows=ladders,
        points=len(points),
    )


def _middling(case: Case, points: Sequence[Case]) -> float:
    """Say how far a point is from both ends of its ladder: 0 for an end and for the original, 1 for the very middle."""
    ladder = [point for point in points if point.codec == case.codec]
    place = ladder.index(case)
    return 0.0 if case.original else 2 * min(place, len(ladder) - 1 - place) / max(1, len(ladder) - 1)


def _media(parts: Iterable[Mapping[str, Any]]) -> tuple[list[Media], dict[str, str]]:
    """Turn parts into media and the legend of their class maps; a part of a type that is not expected is left out."""
    media: list[Media] = []
    legend: dict[str, str] = {}
    for part in parts:
        kind, data = part["media_type"], bytes(part["data"])
        if kind == LEGEND:
            colours = {str(name): str(colour) for name, colour in json.loads(data).items()}
            legend |= {name: colour for name, colour in colours.items() if re.fullmatch("#[0-9a-f]{6}", colour)}
        elif kind in MEDIA_TYPES:
            uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
            media.append(Media(kind.split("/")[0], reading.text(part["label"]), uri))
    return media, legend


def _shown(case: Case, row: Mapping[str, Any], media: Sequence[Media]) -> Shown:
    prediction, target = reading.text(row.get("prediction")), reading.text(row.get("target"))
    score = reading.number(row.get("score"))
    spoken = case.task == "speech_recognition"
    return Shown(
        case=case,
        rate=reading.number(row.get("rate")),
        media=tuple(media),
        left_out=not media,
        prediction="" if spoken else prediction,
        words=tuple(compare_words(prediction, target)) if spoken else (),
        right=None if score is None or case.main.name != "top1" else score >= 1,
        score="" if score is None or case.main.name == "top1" else f"{case.main.title} {case.main.show(score)}",
    )


def compare_words(prediction: str, target: str) -> list[tuple[str, str]]:
    """Align a transcript with what was said: runs of words that are ``same``, ``wrong`` (said otherwise or not at all), or ``missing``."""
    said, wanted = prediction.split(), target.split()
    said_plain, wanted_plain = ([re.sub(r"\W", "", word).casefold() or word for word in words] for words in (said, wanted))
    runs: list[tuple[str, str]] = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, wanted_plain, said_plain, autojunk=False).get_opcodes():
        if kind == "equal":
            runs.append(("same", " ".join(said[c:d])))
        else:
            runs += [("missing", " ".join(wanted[a:b]))] if b > a else []
            runs += [("wrong", " ".join(said[c:d]))] if d > c else []
    return runs


def _further(cases: Iterable[Case]) -> list[Measure]:
    """Return one measure of each further metric, in the order in which they come up."""
    return list({measure.name: measure for case in cases for measure in case.further}.values())


def _sentence(words: str) -> str:
    """Begin with a capital letter and leave the rest: ``mean IoU`` is no ``Mean iou``."""
    return words[:1].upper() + words[1:]


def _moment(created: Any) -> str:
    """Write an ISO 8601 time as ``23 November 2026, 18:15 UTC``; anything else as it is."""
    try:
        moment = datetime.fromisoformat(str(created))
    except ValueError:
        return reading.text(created)
    return f"{moment.day} {moment:%B %Y, %H:%M} {moment.tzname() or 'UTC'}"


def _seconds(value: Any) -> str:
    """Write seconds as ``12.3 s`` or ``4 min 05 s``."""
    seconds = reading.number(value)
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else f"{math.floor(seconds / 60)} min {math.floor(seconds % 60):02d} s"


def _time(seconds: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, time, and share of the workers' lifetime for each entry of ``seconds``."""
    worker = reading.number(seconds.get("worker"))
    titles = {"busy": "any of these under way", "worker": "the workers' lifetime"}
    figures = [(name, reading.number(value)) for name, value in seconds.items() if name != "share"]
    return [
        (titles.get(name, name), _seconds(value), f"{value / worker:.0%}".replace("%", " %") if worker else "")
        for name, value in figures
        if value is not None
    ]


def _work(work: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return name, computed and reused for each kind of work, whichever of the two comes first in ``work``."""
    if set(work) <= {"computed", "reused"}:
        kinds = dict.fromkeys(kind for counts in work.values() if isinstance(counts, Mapping) for kind in counts)
        work = {kind: {how: counts.get(kind, 0) for how, counts in work.items()} for kind in kinds}
    return [
        (kind.replace("_", " "), reading.text(counts.get("computed", 0)), reading.text(counts.get("reused", 0)))
        for kind, counts in work.items()
        if isinstance(counts, Mapping)
    ]
