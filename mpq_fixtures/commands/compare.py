"""Two runs side by side: ``mpq compare A B`` takes the first as the baseline of the second."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mpq_fixtures.gate.baselines import NEW, REGRESSED, SAME, Baseline, hold_against
from mpq_fixtures.record import Measure
from mpq_fixtures.results.files import read_results

MISSING, UNLIKE = "missing", "not comparable"
"""The verdicts on a case that the first run measured and the second did not, and on one that was measured in another way."""


def compare(before: Path, after: Path) -> int:
    """Print what differs between the results in two folders, and return the exit code.

    1 when the second regressed, lacks a case or cannot be held against the first, or nothing was measured; 2 when one cannot be read.
    """
    try:
        old, new = _cases(before), _cases(after)
    except ValueError as error:
        sys.stderr.write(f"mpq compare: {error}\n")
        return 2
    verdicts = {case: _verdict(old.get(case), new.get(case)) for case in old | new}
    for case, (name, detail) in verdicts.items():
        if name != SAME:
            sys.stdout.write(f"{name}: {case}{f': {detail}' if detail else ''}\n")
    counts = Counter(name for name, _ in verdicts.values())
    sys.stdout.write(
        f"{len(verdicts)} cases: {', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'nothing measured'}\n"
    )
    return int(not verdicts or bool(counts[REGRESSED] + counts[MISSING] + counts[UNLIKE]))


def _cases(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the measured cases of a run by their ids."""
    return {case["case"]: case for case in read_results(folder)["cases"] if case["metrics"]}


def _verdict(old: dict[str, Any] | None, new: dict[str, Any] | None) -> tuple[str, str]:
    if new is None:
        return MISSING, "not measured by the second run"
    if old is None:
        return NEW, ""
    if len(new["failures"]) > len(old["failures"]):
        first = new["failures"][0]
        return REGRESSED, f"{len(new['failures'])} samples failed; the first is {first['sample']!r}, at {first['step']}: {first['reason']}"
    measure, earlier = Measure(**new["metrics"][new["metric"]]), Measure(**old["metrics"][old["metric"]])
    if (old["metric"], earlier.version) != (new["metric"], measure.version):
        return UNLIKE, f"scored by {old['metric']} in version {earlier.version}, and by {new['metric']} in version {measure.version}"
    taken, taken_now = (case["samples"] + len(case["failures"]) for case in (old, new))
    if taken != taken_now:
        return UNLIKE, f"{taken} samples in the first run, {taken_now} in the second"
    measure = Measure(**{**vars(measure), "value": _number(measure.value)})
    return hold_against(
        Baseline(_number(old["value"]), _number(old["rate"])), new["metric"], measure, _number(new["rate"]), new["rate_unit"]
    )


def _number(figure: float | None) -> float:
    return math.nan if figure is None else figure
