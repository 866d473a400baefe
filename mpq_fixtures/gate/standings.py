"""Two runs, or what was approved and a run, held against each other by the rules of the gate: what became of each case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mpq_fixtures.gate.baselines import Baselines, approved_points
from mpq_fixtures.gate.comparison import Comparison, compare, margins_of
from mpq_fixtures.gate.measured import Measured, of_results
from mpq_fixtures.gate.pooling import CaseEffect, judge_run, level_of_case
from mpq_fixtures.gate.rates import RateChange, pool_rates
from mpq_fixtures.gate.verdict import NEW, RATE, REGRESSED, SAME, VERDICTS, Rules, hold, lacking_samples, lost_metrics
from mpq_fixtures.metrics import Metric, restore_metric
from mpq_fixtures.record import Measure
from mpq_fixtures.results.files import read_results
from mpq_fixtures.suite import ORIGINAL
from mpq_fixtures.words import counted

MISSING = "missing"
"""The verdict on a case that the first side has and the second has not."""

ORDER = (MISSING, *VERDICTS)


@dataclass(frozen=True)
class Standing:
    """What became of a case from the first side to the second; ``fell`` and ``rose`` are samples, those that moved most first."""

    case: str
    verdict: str
    faults: Sequence[str] = ()
    notes: Sequence[str] = ()
    comparison: Comparison | None = None
    fell: Sequence[str] = field(default=())
    rose: Sequence[str] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        layer = self.comparison.layer if self.comparison else None
        return {
            "case": self.case,
            "verdict": self.verdict,
            "red": bool(self.faults),
            "faults": list(self.faults),
            "notes": list(self.notes),
            "layer": layer.maker if layer else "",
            "suspect": ", ".join(self.comparison.suspects) if self.comparison else "",
            "fell": list(self.fell),
            "rose": list(self.rose),
            "change": self.comparison.to_dict() if self.comparison else {},
        }


@dataclass(frozen=True)
class Standings:
    """What became of all cases, worst first, and of groups of cases that fell together; ``cases`` are those of the second run's results."""

    cases: Mapping[str, Mapping[str, Any]]
    standings: Sequence[Standing]
    together: Sequence[Standing]

    @property
    def sentence(self) -> str:
        """Say it in one: ``3 cases: 1 regressed, 2 same``."""
        counts = Counter(standing.verdict for standing in self.standings)
        named = ", ".join(f"{counts[name]} {name}" for name in ORDER if counts[name])
        nothing = "; nothing could be compared" if set(counts) == {NEW} else ""
        return f"{counted(len(self.standings), 'case')}: {named or 'nothing measured'}{nothing}"

    @property
    def red(self) -> bool:
        """Whether a case or a group is red, or nothing could be compared."""
        compared = any(standing.verdict != NEW for standing in self.standings)
        return not compared or any(standing.faults for standing in (*self.together, *self.standings))


def stand(first: Path, second: Path) -> Standings:
    """Hold the results in ``second`` against those, or the baselines, in ``first``.

    Raises `ValueError` or `BaselineError`, with a sentence, where one cannot be read.
    """
    now, content = of_results(second), read_results(second)
    cases = {case["case"]: case for case in content["cases"]}
    before = _measured(first, {cases[name]["suite"] for name in now})
    options = content.get("provenance", {}).get("options", {})
    # A choice of cases is no fault.
    names = [name for name in dict.fromkeys([*before, *now]) if name in cases or not options.get("chosen")]
    found, together = _in_the_light_of_all(_standings(names, before, now, cases, options.get("samples") is not None), cases)
    return Standings(cases, sorted(found, key=lambda standing: (not standing.faults, ORDER.index(standing.verdict))), together)


def _in_the_light_of_all(standings: Sequence[Standing], cases: Mapping[str, Any]) -> tuple[list[Standing], list[Standing]]:
    """Return the standings with Holm's further steps taken, and those of groups of cases that fell together, as at the end of a run."""
    effects, rates = [], []
    for standing in standings:
        found, case = standing.comparison, cases.get(standing.case, {})
        if found is None or found.unlike or not found.shared:
            continue
        p, change = (1.0, 0.0) if found.effect is None else (found.effect.p_worse, found.effect.change)
        evaluation, codec, quality, metric = (case[name] for name in ("evaluation", "codec", "quality", "metric"))
        effects.append(
            CaseEffect(
                *(standing.case, evaluation, codec, quality, metric, found.margins.value),
                *(found.shared, found.groups, found.shares, p, change),
            )
        )
        if codec != ORIGINAL:
            rates.append(RateChange(standing.case, codec, found.rate_before, found.rate_now, found.margins.rate))
    end = judge_run(effects, len(effects))
    late = "in the light of the other cases that is a fall beyond the margin"
    judged = [
        replace(standing, verdict=REGRESSED, faults=[*standing.faults, *standing.notes, late], notes=[])
        if standing.case in end.regressed and standing.verdict != REGRESSED
        else standing
        for standing in standings
    ]
    groups = [Standing(group.name, REGRESSED, [str(group)]) for group in end.groups if group.fails]
    return judged, [*groups, *(Standing(drift.name, RATE, [str(drift)]) for drift in pool_rates(rates) if drift.fails)]


def _measured(folder: Path, suites: Collection[str]) -> Mapping[str, Measured]:
    """Return the cases of a run, or those of the baselines in a folder and its folders; where suites lie there, of ``suites`` alone."""
    files = sorted(folder.rglob("*.json")) if folder.is_dir() and not (folder / "results.json").exists() else []
    if not files:
        return of_results(folder)
    files = [file for file in files if file.parent.name in suites] or files
    return _Approved(files)


class _Approved(Mapping[str, Measured]):
    """What was approved, file by file; a case is put together when it is asked for, and not remembered."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._places = {f"{file.stem}-{point}": (file, point) for file in files for point in approved_points(file)}
        self._opened: tuple[Path, Baselines] | None = None

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __getitem__(self, name: str) -> Measured:
        file, point = self._places[name]
        if self._opened is None or self._opened[0] != file:
            self._opened = file, Baselines(file)
        return self._opened[1][point]


def _standings(
    names: Sequence[str], before: Mapping[str, Measured], now: Mapping[str, Measured], cases: Mapping[str, Any], some_samples: bool
) -> list[Standing]:
    level = level_of_case(sum(name in before and name in now for name in names))
    standings: list[Standing] = []
    originals: tuple[str, tuple[Measured, Measured] | None] = "", None
    shared: Comparison | None = None
    for name in names:
        if name not in now:
            reason = cases.get(name, {}).get("reason") or "not measured by the second run"
            standings.append(Standing(name, MISSING, [reason]))
        elif name not in before:
            standings.append(Standing(name, NEW))
        else:
            original = f"{cases[name]['evaluation']}-{ORIGINAL}"
            if original != originals[0]:
                originals = original, (before[original], now[original]) if original in before and original in now else None
            standing = _standing(before[name], now[name], cases[name], level, originals[1], some_samples)
            if standing.comparison is not None:
                shared = _sharing(standing.comparison, shared)
                standing = replace(standing, comparison=shared)
            standings.append(standing)
    return standings


def _sharing(one: Comparison, other: Comparison | None) -> Comparison:
    """Return a comparison that has its lists of samples and groups in common with another, where they are the same."""
    if other is None or list(one.shared) != list(other.shared) or list(one.groups) != list(other.groups):
        return one
    return replace(one, shared=other.shared, groups=other.groups)


def _standing(
    before: Measured, now: Measured, case: Mapping[str, Any], level: float, original: tuple[Measured, Measured] | None, some: bool
) -> Standing:
    metric = restore_metric(now.metric, now.settings)
    if metric is None:
        return Standing(now.case, REGRESSED, [f"its metric, {now.metric}, is not here: install the package that brings it"])
    try:
        metrics = {name: Measure(**measure) for name, measure in case["metrics"].items()}
        margins = margins_of(metrics, now.metric, case.get("margins") or {})
        if not isinstance(margins.value, int | float):
            raise TypeError(f"{now.metric} has no tolerance")
        unit, rate_unit = metrics[now.metric].unit, case["rate_unit"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"the metrics of {now.case} are not what this mpq writes ({error}): run again") from None
    comparison = compare(before, now, metric, margins, level, None if now.point == ORIGINAL else original)
    name, wrong, notes = hold(comparison, now.metric, unit, rate_unit, level, Rules(""))
    if now.failed > before.failed:
        first = case["failures"][0]
        wrong.append(f"{counted(now.failed, 'sample')} failed; the first is {first['sample']!r}, at {first['step']}: {first['reason']}")
    if lacking := lacking_samples(comparison):
        (notes if some else wrong).append(lacking)
    if gone := lost_metrics(comparison):
        wrong.append(gone)
    fell, rose = _moved(comparison, metric)
    return Standing(now.case, REGRESSED if wrong and name == SAME else name, wrong, notes, comparison, fell, rose)


def _moved(comparison: Comparison, metric: Metric) -> tuple[list[str], list[str]]:
    """Return the samples that fell and those that rose, most first."""
    order = sorted(range(len(comparison.shares)), key=lambda number: comparison.shares[number])
    moved = [(comparison.shared[number], comparison.shares[number]) for number in order]
    return [sample for sample, share in moved if share < 0], [sample for sample, share in reversed(moved) if share > 0]
