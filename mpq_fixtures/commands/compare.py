"""Two runs side by side: ``mpq compare A B`` takes the first as the baseline of the second."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from mpq_fixtures.baseline import NEW, REGRESSED, SAME, Baseline, hold_against
from mpq_fixtures.record import Measure

MISSING = "missing"
"""The verdict on a case that the first run measured and the second did not."""


def compare(before: Path, after: Path) -> int:
    """Print what differs between the results in two folders, and return the exit code.

    1 when the second regressed or lacks a case, or nothing was measured; 2 when one cannot be read.
    """
    try:
        old, new = _cases(before), _cases(after)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"mpq compare: {error}: give two folders that runs wrote, such as reports/latest\n")
        return 2
    verdicts = {case: _verdict(old.get(case), new.get(case)) for case in old | new}
    for case, (name, detail) in verdicts.items():
        if name != SAME:
            sys.stdout.write(f"{name}: {case}{f': {detail}' if detail else ''}\n")
    counts = Counter(name for name, _ in verdicts.values())
    sys.stdout.write(
        f"{len(verdicts)} cases: {', '.join(f'{count} {name}' for name, count in counts.most_common()) or 'nothing measured'}\n"
    )
    return int(not verdicts or bool(counts[REGRESSED] + counts[MISSING]))


def _cases(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the measured cases of a run by their ids."""
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return {case["case"]: case for case in content["cases"] if case["metrics"]}


def _verdict(old: dict[str, Any] | None, new: dict[str, Any] | None) -> tuple[str, str]:
    if new is None:
        return MISSING, "not measured by the second run"
    if old is None:
        return NEW, ""
    measure = Measure(**new["metrics"][new["metric"]])
    measure = Measure(**{**vars(measure), "value": _number(measure.value)})
    return hold_against(
        Baseline(_number(old["value"]), _number(old["rate"])), new["metric"], measure, _number(new["rate"]), new["rate_unit"]
    )


def _number(figure: float | None) -> float:
    return math.nan if figure is None else figure
