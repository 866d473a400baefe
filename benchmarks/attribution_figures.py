"""Print how attribution calls one change in each layer, and every pair of them, as the README's table.

Run with ``python benchmarks/attribution_figures.py [SAMPLES]``; the tests hold the same matrix against what was changed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from seeded_changes import CHANGES, Bench, Entry, matrix


def table(entries: list[Entry]) -> str:
    """Return the confusion matrix: rows are what was changed, columns how often each layer was said to have moved."""
    names = [*CHANGES]
    lines = [f"| changed | cases | {' | '.join(names)} | wrong |", f"|---|---|{'---|' * len(names)}---|"]
    for changed in names:
        rows = [entry for entry in entries if changed in entry.made]
        # In pairs the other change's own name is right too: a column counts it only where it was not made.
        counts = [sum(name in entry.named and (name == changed or name not in entry.made) for entry in rows) for name in names]
        wrong = sum(changed not in entry.named or bool(set(entry.named) - set(entry.made)) for entry in rows)
        lines.append(f"| {changed} | {len(rows)} | {' | '.join(str(count or '') for count in counts)} | {wrong} |")
    first = sum(entry.first == entry.made[0] for entry in entries)
    return "\n".join([*lines, "", f"The first layer was named rightly in {first} of {len(entries)}."])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(table(matrix(Bench(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 24))))
