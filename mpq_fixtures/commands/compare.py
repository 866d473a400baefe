"""``mpq compare A B``: two runs, or what was approved and a run, held against each other by the rules of the gate."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpq_fixtures.gate.baseline_files import BaselineError
from mpq_fixtures.gate.standings import Standing, stand
from mpq_fixtures.gate.verdict import SAME
from mpq_fixtures.results.markdown import add_to_step_summary, table

MOST_SAMPLES = 5


def compare_runs(first: Path, second: Path, form: str = "text") -> int:
    """Print what became of each case from ``first`` to ``second``, worst first, as ``text``, ``json`` or ``markdown``.

    ``first`` is a folder of results, or of baselines; ``second`` one of results. Returns the exit code: 1 when a case is red or
    nothing could be compared, 2 when a folder cannot be read.
    """
    try:
        found = stand(first, second)
    except (ValueError, BaselineError) as error:
        sys.stderr.write(f"mpq compare: {error}\n")
        return 2
    sentence, standings, together = found.sentence, found.standings, found.together
    if form == "json":
        sys.stdout.write(json.dumps(_document(sentence, standings, together), indent=1) + "\n")
    elif form == "markdown":
        sys.stdout.write(_markdown(sentence, [*together, *standings]))
    else:
        sys.stdout.write("".join(f"{line}\n" for standing in (*together, *standings) for line in _lines(standing)) + f"{sentence}\n")
    add_to_step_summary(_markdown(sentence, [*together, *standings]), os.environ)
    return int(found.red)


def _document(sentence: str, standings: Sequence[Standing], together: Sequence[Standing]) -> dict[str, Any]:
    pooled = [{"verdict": group.verdict, "name": group.case, "sentence": group.faults[0]} for group in together]
    return {"sentence": sentence, "pooled": pooled, "cases": [standing.to_dict() for standing in standings]}


def _lines(standing: Standing) -> list[str]:
    if standing.verdict == SAME and not standing.notes:
        return []
    lines = [f"{standing.verdict}: {standing.case}", *(f"    {sentence}" for sentence in (*standing.faults, *standing.notes))]
    if standing.faults:
        lines += [f"    {word}: {_some(samples)}" for word, samples in (("fell", standing.fell), ("rose", standing.rose)) if samples]
    return lines


def _markdown(sentence: str, standings: Sequence[Standing]) -> str:
    return table(sentence, [standing.to_dict() for standing in standings if standing.verdict != SAME or standing.notes])


def _some(samples: Sequence[str]) -> str:
    named = ", ".join(samples[:MOST_SAMPLES])
    return f"{named} and {len(samples) - MOST_SAMPLES:,} more" if len(samples) > MOST_SAMPLES else named
