"""The report's flips: samples whose answer changed, the original beside what was decoded."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpq_fixtures.examples import REASON
from mpq_fixtures.flips import EXAMPLE, HARMFUL, RANDOM, TOLERANCES
from mpq_fixtures.report.cases import Case
from mpq_fixtures.report.gallery import Media, MediaSink, compare_words, divide, legend_of, media_of, weight
from mpq_fixtures.results import figures
from mpq_fixtures.signals import SEED
from mpq_fixtures.tasks import registered

MOST = 12
"""Flips of each kind that an evaluation shows."""

LEFT_OUT = "Its pictures and sounds are left out to keep the page small; they are in samples.parquet."

Words = tuple[tuple[str, str], ...]
_Row = Mapping[str, Any]


@dataclass(frozen=True)
class Pair:
    """What is shown of the original and of what was decoded, side by side; either may be lacking."""

    label: str
    original: Media | None
    decoded: Media | None

    @property
    def sides(self) -> list[tuple[str, Media]]:
        """Name and media of those that there are."""
        return [(name, media) for name, media in (("original", self.original), ("decoded", self.decoded)) if media is not None]


@dataclass(frozen=True)
class Flip:
    """A sample whose answer changed at a point: what was answered on the original, what now, and what was wanted.

    ``words_before`` and ``words`` are the two answers held against the target, of a task whose answers are texts.
    """

    sample: str
    case: Case
    why: str
    rate: float | None
    fall: float
    score_before: str
    score: str
    before: str
    now: str
    target: str
    words_before: Words
    words: Words
    pairs: tuple[Pair, ...]
    legend: dict[str, str]
    note: str

    @property
    def pictures(self) -> list[Pair]:
        """The pairs to look at."""
        return [pair for pair in self.pairs if pair.sides[0][1].kind == "image"]

    @property
    def sounds(self) -> list[Pair]:
        """The pairs to listen to."""
        return [pair for pair in self.pairs if pair.sides[0][1].kind == "audio"]


@dataclass(frozen=True)
class Count:
    """How many answers of a point got worse and better."""

    case: Case
    worse: int
    better: int


@dataclass(frozen=True)
class Flips:
    """The flips of an evaluation; ``ladders`` are the counts of each codec from its lowest quality to its highest."""

    meaning: str
    worse: str
    better: str
    ladders: dict[str, list[Count]]
    harmful: list[Flip]
    random: list[Flip]

    @property
    def widest(self) -> int:
        """The number of columns that the counts take."""
        return max((len(ladder) for ladder in self.ladders.values()), default=0)

    @property
    def samples(self) -> int:
        """How many samples the counts are of, at most."""
        return max((count.case.samples for ladder in self.ladders.values() for count in ladder), default=0)

    @property
    def any(self) -> bool:
        """Whether any answer changed."""
        return bool(self.harmful or self.random or any(count.worse or count.better for ladder in self.ladders.values() for count in ladder))


def wanted(records: Iterable[Mapping[str, Any]], samples: Sequence[_Row]) -> list[int]:
    """Return which rows of samples the page has a use for, given all but their parts: the examples and the flips that it shows."""
    if not any("shown" in row for row in samples):
        return list(range(len(samples)))
    groups: dict[tuple[str, str], list[str]] = {}
    for record in records:
        groups.setdefault((str(record.get("suite")), str(record.get("evaluation"))), []).append(str(record.get("case")))
    examples = [place for place, row in enumerate(samples) if EXAMPLE in str(row["shown"]).split()]
    return sorted({*examples, *(place for cases in groups.values() for places in _places(cases, samples) for place in places)})


def rows_of(cases: Sequence[Case], samples: Sequence[_Row]) -> tuple[list[_Row], list[_Row]]:
    """Return the rows that an evaluation shows as most harmful, and as random ones, each in their order: see `_places`."""
    harmful, others = ([samples[place] for place in places] for places in _places([case.case for case in cases], samples))
    return harmful, others


def _places(cases: Sequence[str], samples: Sequence[_Row]) -> tuple[list[int], list[int]]:
    """Return which rows of samples the cases of an evaluation show, the most harmful ones in order, and those drawn from the random ones.

    The largest fall comes first; of equal ones that at the higher rate, where nobody expects it. Each sample is there once before any is
    there twice.
    """
    own = set(cases)
    named = [(place, str(row["sample"]), row) for place, row in enumerate(samples) if row["case"] in own and row.get("shown") is not None]
    falls = {place: (-_fall(row["original_score"], row["score"]), -(figures.number(row["rate"]) or 0.0)) for place, _, row in named}
    harmful = sorted(((place, name) for place, name, row in named if HARMFUL in row["shown"].split()), key=lambda one: falls[one[0]])
    others = [(place, name) for place, name, row in named if RANDOM in row["shown"].split()]
    random.Random(SEED).shuffle(others)
    return list(_diverse(harmful))[:MOST], list(_diverse(others))[:MOST]


def _diverse(rows: Sequence[tuple[int, str]]) -> Iterator[int]:
    """Yield the places of samples in their order, but the second of a sample after the first of each, and so on."""
    left = list(rows)
    while left:
        seen: set[str] = set()
        again = []
        for place, name in left:
            if name in seen:
                again.append((place, name))
            else:
                seen.add(name)
                yield int(place)
        left = again


def _fall(original_score: Any, score: Any) -> float:
    before, now = figures.number(original_score), figures.number(score)
    return math.inf if before is None or now is None else abs(before - now)


def weight_of(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return the characters of base64 that the media of rows take."""
    return sum(weight(row["example"]) for row in rows)


def counts_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, int]]:
    """Return how many answers got worse and better, by case, from the ``cases`` of ``results.json``; older ones do not say it."""
    return {str(record.get("case")): record["flips"] for record in records if record.get("flips")}


def flips_of(
    cases: Sequence[Case],
    samples: Sequence[_Row],
    counts: Mapping[str, Mapping[str, int]],
    budget: float,
    sink: MediaSink | None = None,
) -> Flips | None:
    """Show the flips of an evaluation; None where the run did not look for them.

    ``counts`` are those of `counts_of`. Media beyond ``budget`` characters are left out, of the least harmful first; the others go to
    ``sink``, which is the page unless given.
    """
    harmful, others = rows_of(cases, samples)
    by_name = {case.case: case for case in cases}
    counted = [Count(case, int(counts[case.case]["worse"]), int(counts[case.case]["better"])) for case in cases if case.case in counts]
    if not counted and not harmful and not others:
        return None
    shown: dict[int, Flip] = {}
    for place in range(MOST):  # by turns, so that a small budget shows some of both
        for rows in (harmful, others):
            if place < len(rows):
                budget -= weight(rows[place]["example"])
                shown[id(rows[place])] = _flip(by_name[rows[place]["case"]], rows[place], sink or MediaSink() if budget >= 0 else None)
    ladders: dict[str, list[Count]] = {}
    for count in counted:
        ladders.setdefault(count.case.series, []).append(count)
    first = next((case for case in cases if case.main.name), cases[0])
    return Flips(*_words(first), ladders, [shown[id(row)] for row in harmful], [shown[id(row)] for row in others])


def _words(case: Case) -> tuple[str, str, str]:
    """Say what a flip is, and what those that got worse and those that got better are called."""
    task = registered().get(case.task)
    if case.main.agreement:
        return "A sample flips where the model answers otherwise than on the original.", "changed", "back"
    if case.main.name == "top1":
        return "A sample flips where one of the two, original and decoded, is answered right.", "right to wrong", "wrong to right"
    if task is not None and task.is_text:
        return f"A sample flips where its own {case.main.title} is not that of the original.", "worse", "better"
    beyond = f"moves by more than {TOLERANCES} tolerances of the metric against the original"
    return f"A sample flips where its own {case.main.title} {beyond}.", "worse", "better"


def _flip(case: Case, row: Mapping[str, Any], sink: MediaSink | None) -> Flip:
    """Show one flip; without a sink, without its media."""
    before, now = divide(row["example"])
    reason = "; ".join(bytes(part["data"]).decode("utf-8", "replace") for part in (*now, *before) if part["media_type"] == REASON)
    answers = figures.text(row.get("original_prediction")), figures.text(row.get("prediction"))
    target = figures.text(row.get("target"))
    scores = figures.number(row.get("original_score")), figures.number(row.get("score"))
    task = registered().get(case.task)
    spoken = task is not None and task.is_text
    return Flip(
        sample=figures.text(row["sample"]),
        case=case,
        why=row["shown"],
        rate=figures.number(row.get("rate")),
        fall=_fall(row.get("original_score"), row.get("score")),
        score_before="" if case.main.name == "top1" else case.main.show(scores[0], unit=False),
        score="" if case.main.name == "top1" else case.main.show(scores[1]) or "no value",
        before="" if spoken else answers[0],
        now="" if spoken else answers[1],
        target=target,
        words_before=tuple(compare_words(answers[0], target)) if spoken else (),
        words=tuple(compare_words(answers[1], target)) if spoken else (),
        pairs=_pairs(media_of(before, sink), media_of(now, sink)) if sink else (),
        legend=(legend_of(before) | legend_of(now)) if sink else {},
        note=reason or ("" if sink else LEFT_OUT),
    )


def _pairs(before: Sequence[Media], now: Sequence[Media]) -> tuple[Pair, ...]:
    """Put media of the original beside those of the decoded signal: in their order where they are as many, and else by their labels."""
    if len(before) == len(now):
        pairs = [(one.label if one.label == other.label else "picture" if one.kind == "image" else "sound", one, other)
                 for one, other in zip(before, now, strict=True)]  # fmt: skip
        return tuple(Pair(*pair) for pair in pairs)
    known = {media.label: media for media in before}
    found = [Pair(media.label, known.pop(media.label, None), media) for media in now]
    return (*found, *(Pair(label, media, None) for label, media in known.items()))
