"""What ``mpq advise`` says: a table and an answer in sentences, and the same as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from mpq_fixtures.decisions.advice import ENOUGH, LOWEST, OUT_OF_REACH, UNTOLD, Advice, Answer, Point
from mpq_fixtures.decisions.search import Found
from mpq_fixtures.results.figures import METRIC_TITLES
from mpq_fixtures.suite import OWN_ANSWERS
from mpq_fixtures.words import counted

_THINGS = {"bpp": "picture", "bits/sample": "sound"}
_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


def as_text(advice: Advice) -> str:
    """Return the table, the answer and what there is to say besides, for a terminal."""
    return "".join(f"{line}\n" for line in _lines(advice))


def _lines(advice: Advice) -> Iterator[str]:
    things = counted(advice.samples, _THINGS[advice.rate_unit])
    yield f"{advice.evaluation}: {things}, {size(advice.stored)} as they are stored; {advice.model}, {advice.task.replace('_', ' ')}"
    if advice.targets == OWN_ANSWERS:
        yield f"held against the model's own answers to the originals: {_title(advice)}"
    else:
        yield f"held against labels: {_title(advice)} on the originals is {advice.reference:.3f}"
    yield from (f"labels are not read: {note}" for note in advice.notes)
    if advice.failed:
        yield f"{counted(advice.failed, 'original')} could not be measured: {advice.failure}"
    yield f"to keep: {percent(advice.keep)} of that; intervals are of {percent(advice.level)}"
    yield ""
    yield from _table(advice)
    yield ""
    yield from _answer(advice)
    for answer in advice.answers:
        yield from _remarks(advice, answer)


def _title(advice: Advice) -> str:
    title = METRIC_TITLES.get(advice.metric, advice.metric.replace("_", " "))
    return f"agreement ({title})" if advice.targets == OWN_ANSWERS else title


def _table(advice: Advice) -> Iterator[str]:
    unit = "kbit/s" if advice.rate_unit == "bits/sample" else "bpp"
    rows = [("codec", "quality", f"rate ({unit})", "kept", "saves", "of raw", "tried", "")]
    for answer in advice.answers:
        if answer.found is None:
            rows.append((answer.codec, "-", "", "", "", "", "", answer.problem))
            continue
        point = answer.best or answer.likely or answer.highest
        assert point is not None
        word = {ENOUGH: "", LOWEST: "the lowest quality there is", OUT_OF_REACH: "out of reach", UNTOLD: "the samples cannot tell"}
        quality = point.quality if answer.best else f"({point.quality})"
        rows.append((answer.codec, quality, rate(point), kept(point), saving(point.bytes, point.stored),
                     saving(point.bytes, raw(advice, point)), str(len(answer.points)), word[answer.kind]))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _answer(advice: Advice) -> Iterator[str]:
    best, second = advice.best, advice.runner_up
    if best is None or best.best is None:
        yield f"No answer: {_why_not(advice)}."
        return
    point = best.best
    yield f"{best.codec} at {point.quality}, {rate(point, unit=True)}, keeps {kept(point)} of the originals' {_title(advice)}."
    if point.stored:
        share = point.bytes / point.stored
        ends = (1e12 * share * end / point.rate for end in (point.rate_low, point.rate_high))
        yield f"A terabyte of this data as it is stored today becomes {size(1e12 * share)}{_span(*map(size, ends))}."
    if best.command:
        command, _, differs = best.command.partition("  # ")
        yield f"    {command}" + (f"    ({differs})" if differs else "")
    if second is not None and second.best is not None:
        more = second.best.rate / point.rate - 1
        what = f"{percent(abs(more), 0)} {'more' if more >= 0 else 'less'}"
        yield f"Next is {second.codec} at {second.best.quality}, {what}: {rate(second.best, unit=True)}."
    if point.failed:
        failed = f"{counted(point.failed, 'sample')} failed and {'is' if point.failed == 1 else 'are'} not in these figures"
        yield f"Of {best.codec}, {failed}: {best.failure}"


def _why_not(advice: Advice) -> str:
    kinds = {answer.kind for answer in advice.answers}
    if kinds == {OUT_OF_REACH}:
        return f"no codec keeps {percent(advice.keep)} at its best quality"
    if UNTOLD in kinds:
        needed = [answer.found.enough for answer in advice.answers if answer.found and answer.kind == UNTOLD and answer.found.enough]
        more = f"; about {_round(min(needed)):,} could" if needed else ""
        return f"{counted(advice.samples, 'sample')} cannot tell whether any codec keeps {percent(advice.keep)}{more}"
    return "no codec could be measured that keeps it"


def _remarks(advice: Advice, answer: Answer) -> Iterator[str]:
    """Say of a codec what the table has no room for."""
    found, likely, keep = answer.found, answer.likely, percent(advice.keep)
    if found is None:
        return
    name = answer.codec
    if answer.kind == LOWEST:
        yield f"{name}: its lowest quality still keeps {keep}; nothing lower was to be had."
    elif answer.kind == OUT_OF_REACH and answer.highest:
        yield f"{name}: even {answer.highest.quality}, its best, keeps {kept(answer.highest)}."
    if likely is not None:
        needed = f"; about {_round(found.enough):,} would" if found.enough else ""
        cheaper = "is likely to do as well" if answer.best else "is likely to do"
        figures = f"{rate(likely, unit=True)} for {kept(likely)}"
        yield f"{name}: {likely.quality} {cheaper}, {figures}, but {counted(likely.samples, 'sample')} cannot tell{needed}."
    elif answer.kind == UNTOLD:
        yield f"{name}: no quality is likely to keep {keep}, and {counted(advice.samples, 'sample')} do not rule it out."
    if answer.qualities == 1:
        yield f"{name}: it has one quality only, and nothing could be looked for."
    if found.disorder:
        a, b = found.disorder
        yield f"{name}: its rates do not rise along its qualities: {a.quality} takes more than {b.quality}, and the answer may be off."
    lost = max((point.failed for point in answer.points), default=0)
    if lost > advice.failed and advice.best is not answer:
        yield f"{name}: {counted(lost, 'sample')} failed: {answer.failure}"


def _round(number: int) -> int:
    """Round up to two figures: it is no more than a guess."""
    step = int("1" + "0" * max(0, len(str(number)) - 2))
    return -(-number // step) * step


def percent(share: float, digits: int | None = None) -> str:
    """Write a share as percent: ``99 %``, ``99.5 %``."""
    return f"{100 * share:.{digits}f} %" if digits is not None else f"{100 * share:g} %"


def kept(point: Point) -> str:
    """Write what is kept with its interval."""
    return f"{100 * point.retention:.1f} %{_span(f'{100 * point.retention_low:.1f}', f'{100 * point.retention_high:.1f}')}"


def rate(point: Point, unit: bool = False) -> str:
    """Write a rate with its interval, in bits per pixel or kbit/s."""
    scale, digits, name = (1.0, 3, " bpp") if math.isnan(point.kbps) else (point.kbps, 1, " kbit/s")
    low, high = (f"{scale * end:.{digits}f}" for end in (point.rate_low, point.rate_high))
    return f"{scale * point.rate:.{digits}f}{name if unit else ''}{_span(low, high)}"


def _span(low: str, high: str) -> str:
    return "" if "nan" in (low + high) else f" [{low}, {high}]"


def raw(advice: Advice, point: Point) -> float:
    """Return the bytes that the point's samples take uncompressed."""
    return point.elements * advice.raw_bits / 8


def saving(bytes: float, before: float) -> str:
    """Write how much smaller something becomes."""
    if not before:
        return ""
    return f"{100 * (1 - bytes / before):.1f} %"


def size(bytes: float) -> str:
    """Write an amount of bytes in three figures."""
    unit, divisor = next(((unit, divisor) for unit, divisor in _UNITS if bytes >= divisor), ("bytes", 1.0))
    return f"{bytes / divisor:.3g} {unit}" if bytes / divisor < 999.5 else f"{bytes / divisor:.0f} {unit}"


# For programs


def as_json(advice: Advice) -> str:
    """Return the same as JSON; figures that do not exist are null."""
    best, second = advice.best, advice.runner_up
    content = {
        "schema": 1,
        **{
            name: getattr(advice, name)
            for name in ("evaluation", "suite", "task", "model", "dataset", "targets", "device", "metric", "keep")
        },
        **{name: getattr(advice, name) for name in ("level", "samples", "failed", "reference", "rate_unit")},
        "stored_bytes": advice.stored,
        "raw_bytes": advice.elements * advice.raw_bits // 8,
        "notes": list(advice.notes),
        "answer": None
        if best is None or best.best is None
        else {"codec": best.codec, **_point(advice, best.best), "command": best.command},
        "runner_up": second.codec if second else None,
        "codecs": [_codec(advice, answer) for answer in advice.answers],
    }
    return json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"


def _codec(advice: Advice, answer: Answer) -> dict[str, Any]:
    found: Found | None = answer.found
    best, likely = answer.best, answer.likely
    return {
        "codec": answer.codec,
        "answer": answer.kind,
        "quality": best.quality if best else None,
        "likely": likely.quality if likely else None,
        "samples_needed": found.enough if found else None,
        "command": answer.command or None,
        "qualities": answer.qualities,
        "work": found.work if found else 0,
        "problem": answer.problem or None,
        "probes": [_point(advice, point) for point in answer.points],
    }


def _point(advice: Advice, point: Point) -> dict[str, Any]:
    return {
        **{name: getattr(point, name) for name in ("quality", "samples", "failed", "value", "reference")},
        **{name: getattr(point, name) for name in ("retention", "retention_low", "retention_high", "rate", "rate_low", "rate_high")},
        "kbps": point.kbps * point.rate,
        "bytes": point.bytes,
        "of_stored": point.bytes / point.stored if point.stored else math.nan,
        "of_raw": point.bytes / raw(advice, point) if point.elements else math.nan,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
