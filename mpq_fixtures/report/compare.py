"""Two runs side by side: what became of each case, and which samples broke, were mended, or stayed broken. One page without scripts."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.files import write_atomically
from mpq_fixtures.gate.standings import Standing, stand
from mpq_fixtures.report.cases import Case, by_evaluation, read_case
from mpq_fixtures.report.folder import NAME
from mpq_fixtures.results.figures import rate
from mpq_fixtures.results.files import read_results
from mpq_fixtures.results.versions import changes_of, versions_of
from mpq_fixtures.statistics.resampling import clusters

if TYPE_CHECKING:
    import pyarrow as pa

PAGE = "compare.html"
KINDS = ("newly broken", "mended", "still broken", "unpaired")
MOST_NAMED = 12
"""Samples of one kind that the page names of a case."""
MOST_CASES = 200
"""Cases whose samples the page names, worst first."""
LONGEST = 300
"""Characters of an answer that are shown."""
ROUNDING = 1e-9

_COLUMNS = ("sample", "group", "source", "bytes", "elements", "prediction", "target", "score", "error")


@dataclass(frozen=True)
class Sample:
    """A sample of a case in both runs; a score is NaN, and an answer empty, where it was not measured.

    ``sign`` is -1 where a lower score is better, and else 1.
    """

    sample: str
    kind: str
    before: str
    now: str
    target: str
    score_before: float
    score_now: float
    sign: int = 1

    @property
    def change(self) -> float:
        """How the score moved, up for the better; to fail is the greatest fall, and not to fail any more the greatest rise."""
        if math.isfinite(self.score_before) and math.isfinite(self.score_now):
            return self.sign * (self.score_now - self.score_before)
        return -math.inf if math.isfinite(self.score_before) else math.inf if math.isfinite(self.score_now) else 0.0


@dataclass(frozen=True)
class Pair:
    """A case in both runs: where it stands, its figures side by side, its samples by kind, the worst first, and links to both reports."""

    standing: Standing
    before: Case | None
    now: Case | None
    samples: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    rate_change: tuple[float, float, float] | None = None
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def case(self) -> str:
        """The id."""
        return self.standing.case

    def count(self, kind: str) -> int:
        """How many samples are of a kind."""
        return len(self.samples.get(kind, ()))

    @property
    def value_change(self) -> str:
        """The paired change of the value over the samples that both have, with its interval."""
        found, case = self.standing.comparison, self.now or self.before
        if found is None or case is None or found.unlike or not len(found.shared):
            return ""
        effect, show = found.effect, case.main.show
        if effect is None:
            return f"{show(0.0, unit=False)} (no sample moved)"
        low, high = (show(bound if math.isfinite(bound) else None, sign=True, unit=False) or "?" for bound in (effect.low, effect.high))
        return f"{show(effect.change, sign=True, unit=False)} [{low}, {high}]" if math.isfinite(effect.change) else "no number"

    @property
    def rate_shift(self) -> str:
        """The paired change of the rate in per cent, with its interval."""
        if self.rate_change is None:
            return ""
        change, low, high = (f"{100 * figure:+.1f}".replace("-", "\N{MINUS SIGN}") for figure in self.rate_change)
        if self.rate_change == (0.0, 0.0, 0.0):
            return "0 %"
        return f"{change} %" if "nan" in low else f"{change} % [{low}, {high}]"


def write_comparison(first: Path, second: Path, out: Path | None = None) -> Path:
    """Write the page of two runs to ``out``, or into the folder of the second, and return where it is.

    Raises `ValueError`, with a sentence, where a folder holds no run that can be read.
    """
    before = read_results(first)  # which says of a folder of baselines that it is no run
    found, now = stand(first, second), read_results(second)
    out = out or second / PAGE
    cases = [{case["case"]: read_case(case) for case in content["cases"]} for content in (before, now)]
    samples = [_Answers(folder) for folder in (first, second)]
    links = [_link(folder / "report.html", out.parent) for folder in (first, second)]
    addresses = [_addresses(*run, out.parent) for run in zip((first, second), cases, links, strict=True)]
    tolerances = {name: float(case.get("tolerance") or 0.0) for name, case in found.cases.items()}
    lower = {name for name, case in found.cases.items() if case["metrics"].get(case["metric"], {}).get("higher_is_better") is False}
    pairs = []
    for standing in found.standings:
        name = standing.case
        there, here = (side.get(name) for side in cases)
        own = {which: places[name] for which, places in zip("AB", addresses, strict=True) if name in places}
        sorts, rates = _side_by_side(name, there, here, tolerances.get(name, 0.0), samples, -1 if name in lower else 1)
        pairs.append(Pair(standing, there, here, sorts, rates, own))
    named = [pair for pair in pairs if any(pair.count(kind) for kind in KINDS)]
    named.sort(key=lambda pair: (not pair.standing.faults, -pair.count("newly broken")))
    page = _template().render(
        css=Path(__file__).with_name("report.css").read_text(encoding="utf-8"),
        sentence=found.sentence,
        red=found.red,
        runs=[_run(*run) for run in zip("AB", (first, second), (before, now), links, strict=True)],
        together=found.together,
        totals={kind: sum(pair.count(kind) for pair in pairs) for kind in KINDS},
        changes=_changes(before.get("provenance") or {}, now.get("provenance") or {}, pairs),
        pairs=pairs,
        named=named[:MOST_CASES],
        unnamed=len(named[MOST_CASES:]),
        most=MOST_NAMED,
        kinds=KINDS,
    )
    write_atomically(out, page.encode("utf-8", "replace"))
    return out


def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"rate": rate, "shorter": _shorter, "score": _score}
    return environment.get_template("compare.html.j2")


def _run(letter: str, folder: Path, content: Mapping[str, Any], link: str) -> dict[str, str]:
    about = content.get("provenance") or {}
    words = [str(content.get("created") or ""), f"commit {about['commit']}" if about.get("commit") else "", str(about.get("device") or "")]
    return {"letter": letter, "folder": str(folder), "about": ", ".join(filter(None, words)), "link": link}


def _link(file: Path, start: Path) -> str:
    """Return the address of a file as seen from a folder; "" where there is none."""
    if not file.exists():
        return ""
    try:
        return quote(os.fsencode(os.path.relpath(file, start).replace(os.sep, "/")))
    except ValueError:  # on another drive
        return file.resolve().as_uri()


def _addresses(folder: Path, cases: Mapping[str, Case], link: str, start: Path) -> dict[str, str]:
    """Return where each case of a run stands in its report: of many cases on the pages beside it; none where there is no report."""
    if not link:
        return {}
    found: dict[str, str] = {}
    for key, group in by_evaluation(cases.values()).items():
        page = _link(folder / NAME / f"{key}.html", start) or link
        found |= {case.case: f"{page}#case-{quote(case.case)}" for case in group}
    return found


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], pairs: Sequence[Pair]) -> dict[str, str]:
    """Return what differs between the runs' versions, machines and models, each with where it matters; "" where that is everywhere."""
    points = list(dict.fromkeys((case.evaluation, case.codec) for pair in pairs if (case := pair.now or pair.before)))
    where: dict[str, list[tuple[str, str]]] = {}
    for evaluation in dict.fromkeys(evaluation for evaluation, _ in points):
        codecs = [codec for one, codec in points if one == evaluation]
        was, is_now = (versions_of(side, evaluation, codecs) for side in (before, now))
        for codec in codecs:
            for said in changes_of(was, is_now, codec).values():
                where.setdefault(said, []).append((evaluation, codec))
    found = {}
    for said, own in where.items():
        evaluations, codecs = (list(dict.fromkeys(names)) for names in zip(*own, strict=True))
        everywhere = len(own) == len(points)
        one = len(evaluations) == 1 and len(own) == sum(point[0] == evaluations[0] for point in points)
        found[said] = "" if everywhere else evaluations[0] if one else ", ".join(codecs)
    return found


class _Answers:
    """What a run's ``samples.parquet`` has of the samples of each case."""

    def __init__(self, folder: Path) -> None:
        from pyarrow import dataset

        self._file = dataset.ParquetFileFormat().make_fragment((folder / "samples.parquet").open("rb", buffering=0))
        self._columns = [name for name in _COLUMNS if name in self._file.physical_schema.names]

    def of(self, case: str) -> pa.Table:
        """Return the rows of a case, failed ones too."""
        from pyarrow import dataset

        return self._file.to_table(columns=self._columns, filter=dataset.field("case") == case, use_threads=False)

    def scores(self, case: str) -> dict[str, float]:
        """Return the score of each sample."""
        table = self.of(case)
        return dict(zip(table["sample"].to_pylist(), _numbers(table["score"]), strict=True))


def _side_by_side(
    name: str, before: Case | None, now: Case | None, tolerance: float, samples: Sequence[_Answers], sign: int = 1
) -> tuple[Mapping[str, Sequence[Sample]], tuple[float, float, float] | None]:
    """Return the samples of a case by kind, and how its rate moved; ``sign`` is -1 where a lower score is better.

    Where scores are right or wrong, wrong is broken. Elsewhere a sample is broken that scores less than on the originals of its own run,
    by more than the metric's tolerance; on the originals, and without them, one that fell from run to run is newly broken.
    """
    if before is None or now is None:
        return {}, None
    tables = [own.of(name) for own in samples]
    rows = [{row["sample"]: row for row in table.to_pylist()} for table in tables]
    bars: list[Mapping[str, float]] = [{}, {}]
    binary = all(np.isin(scores[np.isfinite(scores)], (0, 1)).all() for scores in (_numbers(table["score"]) for table in tables))
    if not binary and not now.original:
        bars = [own.scores(f"{now.evaluation}-original") for own in samples]
    found: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
    for sample in dict.fromkeys([*rows[0], *rows[1]]):
        one, other = rows[0].get(sample), rows[1].get(sample)
        least = [max(0, sign) if binary else sign * bar.get(sample, math.nan) - tolerance for bar in bars]
        if kind := _kind(one, other, least, tolerance, sign):
            target = next((row["target"] for row in (other, one) if row and row["target"]), "")
            found[kind].append(Sample(sample, kind, _answer(one), _answer(other), target, _score_of(one), _score_of(other), sign))
    for kind, own in found.items():
        own.sort(key=lambda sample: -sample.change if kind == "mended" else sample.change)
    return found, _rate_change(tables)


def _kind(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None, least: Sequence[float], tolerance: float, sign: int) -> str:
    """Return which of `KINDS` a sample is, "" where it is well in both.

    ``least`` is what it has to score for that, times ``sign``, which is -1 where lower is better; NaN if unknown.
    """
    if before is None or now is None or _other_source(before, now):
        return "unpaired"
    one, other = sign * _score_of(before), sign * _score_of(now)
    failed = [bool(row.get("error")) or not math.isfinite(score) for row, score in ((before, one), (now, other))]
    if any(failed) or not all(map(math.isfinite, least)):
        fell, rose = not failed[0] and (failed[1] or other < one - tolerance), not failed[1] and (failed[0] or other > one + tolerance)
        return "newly broken" if fell else "mended" if rose else "still broken" if all(failed) else ""
    broken = one < least[0] - ROUNDING, other < least[1] - ROUNDING
    return {(False, True): "newly broken", (True, False): "mended", (True, True): "still broken"}.get(broken, "")


def _other_source(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Tell whether two samples of one id are of different things; one that failed says nothing of what it is of."""
    return bool(before.get("source") and now.get("source") and before["source"] != now["source"])


def _rate_change(tables: Sequence[pa.Table]) -> tuple[float, float, float] | None:
    """Return the change of the rate, as a share, over the samples that both runs have, and its 95 % interval.

    Of the logarithm of the ratio of the two rates, linearised in the sums of bytes and elements, over samples or whole groups, with
    Student's t of their number (Cochran 1977, section 6.4). NaN for the bounds where there are fewer than two.
    """
    sides = [{row["sample"]: row for row in table.to_pylist() if row["bytes"] is not None and row["elements"]} for table in tables]
    shared = [name for name, row in sides[1].items() if name in sides[0] and not _other_source(sides[0][name], row)]
    amounts = [np.array([[own[name]["bytes"], own[name]["elements"]] for name in shared], float).reshape(-1, 2) for own in sides]
    if not len(shared) or not all(amount.sum(axis=0).all() for amount in amounts):
        return None
    if (amounts[0] == amounts[1]).all():
        return 0.0, 0.0, 0.0
    totals = [amount.sum(axis=0) for amount in amounts]
    logarithm = math.log(totals[1][0] / totals[1][1]) - math.log(totals[0][0] / totals[0][1])
    parts = [amount / total for amount, total in zip(amounts, totals, strict=True)]
    each = (parts[1][:, 0] - parts[1][:, 1]) - (parts[0][:, 0] - parts[0][:, 1])
    units = np.array([each[own].sum() for own in clusters([sides[1][name].get("group") or "" for name in shared])])
    if len(units) < 2:
        return math.expm1(logarithm), math.nan, math.nan
    from scipy.special import stdtrit

    reach = float(stdtrit(len(units) - 1, 0.975) * math.sqrt(len(units) / (len(units) - 1) * np.square(units - units.mean()).sum()))
    return math.expm1(logarithm), math.expm1(logarithm - reach), math.expm1(logarithm + reach)


def _numbers(column: Any) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else value for value in column.to_pylist()], float)


def _score_of(row: Mapping[str, Any] | None) -> float:
    return math.nan if row is None or row["score"] is None else float(row["score"])


def _answer(row: Mapping[str, Any] | None) -> str:
    """Return what the model said of a sample, or why there is nothing."""
    return "not measured" if row is None else str(row.get("error") or row["prediction"] or "")


def _shorter(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _score(score: float) -> str:
    return f"{score:.3f}".replace("-", "\N{MINUS SIGN}") if math.isfinite(score) else ""
