"""The terminal summary of a run: how each evaluation went, where the time went, and where the report is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mpq_fixtures.decisions.lowest import KEPT
from mpq_fixtures.gate.changes import changes
from mpq_fixtures.processes.clock import STEPS
from mpq_fixtures.results.figures import rate
from mpq_fixtures.results.files import FAILED, NOT_RUN, PASSED, Result, status_of
from mpq_fixtures.results.markdown import table
from mpq_fixtures.session.run import Run
from mpq_fixtures.store import LAYERS
from mpq_fixtures.suite import Evaluation
from mpq_fixtures.words import counted

_HEADER = ("evaluation", "cases", "originals", "lowest rate that keeps 95 % (against raw)")
_MOST_NAMED = 20


def summary_lines(run: Run) -> list[str]:
    """Return the lines of the terminal summary."""
    results = run.ordered()
    own = [[result for result in results if result.case.evaluation is evaluation] for evaluation in run.options.evaluations]
    lines = _aligned([_HEADER, *(_evaluation_row(group, run.decisions) for group in own if group)])
    lines += [f"{result.outcome}: {result.case.id}" for result in results if result.outcome in (FAILED, NOT_RUN)][:_MOST_NAMED]
    lines += [f"changed: {changed.sentence}" for changed in changes(result.to_dict() for result in results if result.layer)]
    lines += _agreeing(results)
    lines += _said(results)
    seconds, work = run.seconds(), run.work()
    if run.accounts:
        steps = ", ".join(f"{step} {seconds[step]:.0f} s" for step in STEPS)
        workers = counted(len(run.accounts), "worker")
        lines.append(f"time: {seconds['worker']:.0f} s in {workers}, {seconds['share']:.0%} of it in the steps: {steps}")
        made = ", ".join(counted(work["computed"][layer], layer) for layer in LAYERS)
        memory = max(account["memory"] for account in run.accounts) / 2**20
        lines.append(
            f"store: {made} computed, {counted(work['reused'][LAYERS[-1]], LAYERS[-1])} reused; memory: at most {memory:.0f} MB a worker"
        )
    lines += _absent(results)
    damaged = [entry for account in run.accounts for entry in account["damaged"]]
    if damaged:
        lines.append(f"store: {counted(len(damaged), 'damaged entry', 'damaged entries')} made again: {', '.join(damaged[:5])}")
    lines += dict.fromkeys(note for account in run.accounts for note in account.get("notes", ()))
    lines += run.notes
    lines.append(f"results: {run.options.out}" if run.report is None else f"report: {run.report}")
    return lines


def step_summary(run: Run) -> str:
    """Return the run as Markdown, for the page of the step that it ran in: its evaluations, then what is red or was said of cases."""
    results = run.ordered()
    own = [[result for result in results if result.case.evaluation is evaluation] for evaluation in run.options.evaluations]
    lines = [_HEADER, ("---",) * len(_HEADER), *(_evaluation_row(group, run.decisions) for group in own if group)]
    evaluations = "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)
    shared = [{"case": name, "verdict": verdict, "red": True, "faults": [sentence]} for verdict, name, sentence in run.pooled]
    cases = [
        {
            "case": result.case.id,
            "verdict": status_of(result.verdict, result.outcome),
            "red": result.outcome == FAILED,
            "faults": result.reason.splitlines(),
            "notes": result.notes.splitlines(),
            "layer": result.layer,
            "suspect": result.suspect,
            "change": result.change,
        }
        for result in results
        if result.outcome != PASSED or result.notes
    ]
    counts = Counter(status_of(result.verdict, result.outcome) for result in results)
    sentence = f"{', '.join(run.suites)}: {counted(len(results), 'case')}: {', '.join(f'{n} {name}' for name, n in counts.most_common())}"
    return f"{table(sentence, [*shared, *cases])}\n{evaluations}\n"


def _agreeing(results: Sequence[Result]) -> list[str]:
    """Name the evaluations whose figures are agreement."""
    names = dict.fromkeys(result.case.evaluation.name for result in results if not result.case.evaluation.has_labels)
    return [f"agreement with the model's own answers on the originals, which is not accuracy: {', '.join(names)}"] if names else []


def _said(results: Sequence[Result]) -> list[str]:
    """Repeat what was said of cases, the first of them, but which layer changed, which is said of all cases of a codec together."""
    notes = [
        f"{result.verdict}: {result.case.id}: {note}"
        for result in results
        for note in result.notes.splitlines()
        if not (result.layer and note.startswith(f"{result.layer}: "))
    ]
    shown = notes[:_MOST_NAMED]
    return [*shown, f"... and {counted(len(notes) - len(shown), 'more note')}, in the report"] if len(notes) > len(shown) else shown


def _absent(results: Sequence[Result]) -> list[str]:
    """Name the signal metrics that a suite asked for and that could not be measured anywhere, and why."""
    reasons: dict[str, str] = {}
    measured = set()
    for result in results:
        for name, measure in (result.record.metrics if result.record else {}).items():
            if result.record is not None and measure.missing and measure.missing == result.record.samples:
                reasons[name] = measure.why_missing
            elif not math.isnan(measure.value):
                measured.add(name)
    return [f"{name} was not measured: {reason}" for name, reason in reasons.items() if name not in measured]


def _evaluation_row(results: Sequence[Result], decisions: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return how an evaluation went: its cases by verdict, its score on the originals, and the lowest rate that keeps it."""
    records = [result.record for result in results if result.record]
    outcomes = Counter(status_of(result.verdict, result.outcome) for result in results)
    counts = f"{len(results)}: " + ", ".join(f"{count} {name}" for name, count in outcomes.most_common())
    reference = next((record.reference for record in records if math.isfinite(record.reference)), math.nan)
    original = f"{records[0].metric} {reference:.3f}" if records else ""
    evaluation = results[0].case.evaluation
    own = [one for one in decisions if (one["suite"], one["evaluation"]) == (evaluation.suite, evaluation.name)]
    return evaluation.name, counts, original, _lowest(own[0]["keep"][f"{KEPT:g}"], evaluation) if own else ""


def _lowest(choices: Sequence[Mapping[str, Any]], evaluation: Evaluation) -> str:
    """Write the choice of the cheapest codec: ``avif-q10, 0.16 bpp [0.13, 0.21] (150:1), cheapest in 83 %`` of the resamples."""
    best = choices[0] if choices else None
    if best is None or best["case"] is None:
        return "none"
    point = best["case"].removeprefix(f"{evaluation.name}-")
    interval = f" [{rate(best['rate_low'])}, {rate(best['rate_high'])}]" if best["rate_low"] is not None else ""
    saves = f" ({best['compression_ratio']:.0f}:1)" if best["compression_ratio"] is not None else ""
    sure = f", cheapest in {best['cheapest']:.0%}".replace("%", " %") if best["cheapest"] is not None else ""
    return f"{point}, {rate(best['rate'], evaluation.task.modality.rate_unit)}{interval}{saves}{sure}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the rows as lines with their columns under one another."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
