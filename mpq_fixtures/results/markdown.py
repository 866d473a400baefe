"""Results as Markdown, for the summary of a run on a forge's page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MOST_ROWS = 100
"""Forges cut a summary at one megabyte."""


def table(sentence: str, cases: Sequence[Mapping[str, Any]]) -> str:
    """Return a sentence and a table of cases: ``case``, ``verdict``, ``red``, ``faults``, ``notes``, ``layer``, ``suspect``, ``change``."""
    lines = [f"**{escape(sentence)}**", ""]
    if cases:
        lines += ["| case | verdict | before | now | change | layer, suspect | what |", "|---|---|---|---|---|---|---|"]
    for case in cases[:MOST_ROWS]:
        change = case.get("change") or {}
        effect = change.get("effect") or {}
        moved = (
            f"{effect['change']:+.4f} [{effect['low']:+.4f}, {effect['high']:+.4f}]" if _numbers(effect, "change", "low", "high") else ""
        )
        where = ", ".join(escape(part) for part in (case.get("layer"), case.get("suspect")) if part)
        verdict = f"**{case['verdict']}**" if case.get("red") else case["verdict"]
        what = "<br>".join(escape(sentence) for sentence in (*case.get("faults", ()), *case.get("notes", ())))
        cells = (f"`{case['case']}`", verdict, _figure(change.get("before")), _figure(change.get("now")), moved, where, what)
        lines.append(f"| {' | '.join(cells)} |")
    if len(cases) > MOST_ROWS:
        lines.append(f"\n{len(cases) - MOST_ROWS:,} more are in the report.")
    return "\n".join(lines) + "\n"


def add_to_step_summary(text: str, environment: Mapping[str, str]) -> None:
    """Append to the file that GitHub Actions shows as the summary of a step; nothing elsewhere, or where it cannot be written."""
    if file := environment.get("GITHUB_STEP_SUMMARY"):
        try:
            with Path(file).open("a", encoding="utf-8") as summary:
                summary.write(text + "\n")
        except OSError:
            return


def escape(text: str) -> str:
    """Return a text that Markdown shows as it is: data's texts are not markup, and break no table."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", text.replace("\n", " "))


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def _numbers(mapping: Mapping[str, Any], *keys: str) -> bool:
    return all(mapping.get(key) is not None for key in keys)
