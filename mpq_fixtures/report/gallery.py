"""The report's examples: one sample of each evaluation at every operating point, as pictures, sounds and words."""

from __future__ import annotations

import base64
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpq_fixtures.flips import EXAMPLE, ORIGINAL
from mpq_fixtures.report.cases import Case
from mpq_fixtures.results import figures
from mpq_fixtures.tasks import registered

MEDIA_TYPES = ("image/png", "image/webp", "audio/flac", "audio/wav", "audio/ogg")
LEGEND = "application/json"  # of class maps: {class name: "#rrggbb"}
MEDIA_BUDGET = 12_500_000
"""Characters of base64, at most: more would not be looked at."""

PAGE_BUDGET, CASE_TEXT = 14_700_000, 1_600
"""Characters that the page has, and of those the most that a case usually takes in its tables, besides its sentences."""


class MediaSink:
    """Where pictures and sounds go: into the page itself."""

    def uri(self, part: Mapping[str, Any]) -> str:
        """Return what a page says for a part of one of `MEDIA_TYPES`: its ``data:`` URI."""
        return f"data:{part['media_type']};base64,{base64.b64encode(bytes(part['data'])).decode()}"


@dataclass(frozen=True)
class Media:
    """A picture or a sound at a URI."""

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


def examples_of(samples: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the row of each case that holds its example; ``example`` are the parts at its point, ``before`` those of the original."""
    found = {}
    for row in reversed(samples):
        shown = row.get("shown")  # older runs have no other rows
        if row.get("example") is None or (shown is not None and EXAMPLE not in shown.split()):
            continue
        before, now = divide(row["example"])
        if now:
            found[str(row["case"])] = {**row, "example": now, "before": before}
    return found


def divide(parts: Iterable[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the parts of the original, under the labels that they have alone, and those of the point."""
    before, now = list[Mapping[str, Any]](), list[Mapping[str, Any]]()
    for part in parts:
        label = figures.text(part["label"])
        if label.startswith(ORIGINAL):
            before.append({**part, "label": label.removeprefix(ORIGINAL)})
        else:
            now.append(part)
    return before, now


def weight(parts: Iterable[Mapping[str, Any]]) -> int:
    """Return the characters of base64 that parts take."""
    return sum(4 * math.ceil(len(part["data"]) / 3) + 100 for part in parts)


def media_budget(cases: Sequence[Case], others: int) -> int:
    """Return what is left for media where ``others`` are the characters of charts and scripts: with many cases, tables need the room."""
    words = sum(len(sentence) for case in cases for sentence in case.sentences)
    return max(0, min(MEDIA_BUDGET, PAGE_BUDGET - others - words - CASE_TEXT * len(cases)))


def share_budget(weights: Mapping[Any, int], left: int = MEDIA_BUDGET) -> dict[Any, int]:
    """Share ``left`` characters among evaluations: what a light one leaves goes to the heavier ones."""
    budgets = {}
    for place, key in enumerate(sorted(weights, key=lambda key: weights[key])):
        budgets[key] = left // (len(weights) - place)
        left -= min(weights[key], budgets[key])
    return budgets


def show_example(
    cases: Sequence[Case], rows: Mapping[str, Mapping[str, Any]], budget: float, sink: MediaSink | None = None
) -> Example | None:
    """Show one sample at every point of an evaluation.

    Where all media would take more than ``budget`` characters, points go without theirs: first those in the middle of the ladders. What
    is shown goes to ``sink``, which is the page unless given.
    """
    sink = sink or MediaSink()
    points = [case for case in cases if case.case in rows]
    if not points:
        return None
    # Every point shows the same sample; where one failed at a point, that point shows another, which would be no comparison.
    sample = max((str(rows[case.case]["sample"]) for case in points), key=[str(rows[case.case]["sample"]) for case in points].count)
    points = [case for case in points if str(rows[case.case]["sample"]) == sample]
    cells: dict[str, Shown] = {}
    legend: dict[str, str] = {}
    original = next((case for case in cases if case.original), None)
    carried = next((rows[case.case] for case in points if rows[case.case]["before"]), None)
    if original is not None and original not in points and carried is not None:  # chosen when the originals were done
        budget -= weight(carried["before"])
        told = {"prediction": carried.get("original_prediction"), "score": carried.get("original_score"), "target": carried.get("target")}
        cells[original.case] = _shown(original, told, media_of(carried["before"], sink) if budget >= 0 else ())
    for case in sorted(points, key=lambda case: _middling(case, points)):
        row = rows[case.case]
        budget -= weight(row["example"])
        cells[case.case] = _shown(case, row, media_of(row["example"], sink) if budget >= 0 else ())
        legend |= legend_of(row["example"])
    ladders: dict[str, list[Shown]] = {}
    for case in points:
        if not case.original:
            ladders.setdefault(case.series, []).append(cells[case.case])
    return Example(
        sample=sample,
        target=figures.text(rows[points[0].case].get("target")),
        legend=legend,
        original=cells.get(original.case) if original else None,
        rows=ladders,
        points=len(cells),
    )


def _middling(case: Case, points: Sequence[Case]) -> float:
    """Say how far a point is from both ends of its ladder: 0 for an end and for the original, 1 for the very middle."""
    ladder = [point for point in points if point.series == case.series]
    place = ladder.index(case)
    return 0.0 if case.original else 2 * min(place, len(ladder) - 1 - place) / max(1, len(ladder) - 1)


def media_of(parts: Iterable[Mapping[str, Any]], sink: MediaSink) -> list[Media]:
    """Turn parts into media; a part of a type that is not expected is left out."""
    media = [part for part in parts if part["media_type"] in MEDIA_TYPES]
    return [Media(part["media_type"].split("/")[0], figures.text(part["label"]), sink.uri(part)) for part in media]


def legend_of(parts: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the colours of classes that parts name, as ``#rrggbb`` and nothing else."""
    legends = [json.loads(part["data"]) for part in parts if part["media_type"] == LEGEND]
    named = {str(name): str(colour) for legend in legends for name, colour in legend.items()}
    return {name: colour for name, colour in named.items() if re.fullmatch("#[0-9a-f]{6}", colour)}


def _shown(case: Case, row: Mapping[str, Any], media: Sequence[Media]) -> Shown:
    prediction, target = figures.text(row.get("prediction")), figures.text(row.get("target"))
    score = figures.number(row.get("score"))
    task = registered().get(case.task)
    spoken = task is not None and task.is_text
    return Shown(
        case=case,
        rate=figures.number(row.get("rate")),
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
