"""A run as a whole: what was asked for, what became of it, and what it says at the end."""

from __future__ import annotations

import datetime
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures.clock import STEPS
from mpq_fixtures.gate.baselines import BaselineError, baseline_file, update_baselines
from mpq_fixtures.named import told
from mpq_fixtures.options import Options
from mpq_fixtures.provenance import provenance
from mpq_fixtures.record import Record
from mpq_fixtures.report.similarity import similarity_correlations
from mpq_fixtures.results.files import NOT_RUN, PASSED, SKIPPED, Result, write_results
from mpq_fixtures.store import LAYERS
from mpq_fixtures.suite import Case


class Run:
    """The results of a session in the order of the suite, and the accounts of its workers."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.expected: dict[str, Case] = {}
        self.results: dict[str, Result] = {}
        self.accounts: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.report: Path | None = None

    @property
    def suites(self) -> list[str]:
        """The names of the suites."""
        return sorted({evaluation.suite for evaluation in self.options.evaluations})

    def expect(self, cases: Sequence[Case]) -> None:
        """Note the cases that were asked for."""
        self.expected |= {case.id: case for case in cases}

    def ordered(self) -> list[Result]:
        """Return one result for each case that was asked for, in the order of the suite."""
        order = [case for evaluation in self.options.evaluations for case in evaluation.cases if case.id in self.expected]
        missing = "the run ended before this case: it was stopped or a worker died"
        return [self.results.get(case.id) or Result(case, reason=missing) for case in order]

    def complaint(self) -> str:
        """Say why a run without a failed test still fails; nothing when it does not."""
        outcomes = Counter(result.outcome for result in self.ordered())
        if not any(result.record for result in self.ordered()):
            return "nothing was measured: a gate that measured nothing does not pass"
        if self.options.strict and (unmeasured := outcomes[SKIPPED] + outcomes[NOT_RUN]):
            return f"--mpq-strict: {unmeasured} of {len(self.expected)} cases were not measured"
        return ""

    def finish(self, exit_status: int, config: pytest.Config) -> bool:
        """Write the results, the report and, where asked, the baselines; return whether results and baselines were written.

        What goes wrong here is noted, and loses nothing else.
        """
        results = self.ordered()
        try:
            write_results(self.options.out, results, self._about(exit_status, config))
        except Exception as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or told(error)
            self.notes.append(f"the results could not be written to {self.options.out}: {reason}")
            return False
        try:
            from mpq_fixtures.report.html import write_report

            self.report = write_report(self.options.out)
        except Exception as error:
            self.notes.append(
                f"the report could not be made ({told(error)}); the other files are there, try: mpq report {self.options.out}"
            )
        return self._update_baselines(results) if self.options.update_baselines else True

    def _update_baselines(self, results: Sequence[Result]) -> bool:
        measured = defaultdict(list)
        for result in results:
            if result.record is not None and result.outcome == PASSED:
                measured[result.case.evaluation].append(result.record)
        well = True
        for evaluation, records in measured.items():
            file = baseline_file(self.options.baselines_of(evaluation), evaluation.suite, evaluation.name)
            order = [case.point for case in evaluation.cases]
            try:
                changed = update_baselines(file, records, order, only_new=self.options.update_baselines == "new")
            except (BaselineError, OSError) as error:
                self.notes.append(f"baselines: {file} could not be written: {getattr(error, 'strerror', None) or error}")
                well = False
            else:
                self.notes.append(f"baselines: {len(changed)} of {len(records)} cases approved anew in {file}")
        return well

    def _about(self, exit_status: int, config: pytest.Config) -> dict[str, Any]:
        records = [result.record for result in self.ordered() if result.record]
        return {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "complete": len(records) == len(self.expected),
            "exit_status": exit_status,
            "suites": self.suites,
            "provenance": provenance(self.options, records, config, [account.get("loaded", {}) for account in self.accounts]),
            "seconds": self.seconds(),
            "work": self.work(),
            "similarity": self._similarity(records),
        }

    @staticmethod
    def _similarity(records: Sequence[Record]) -> list[dict[str, Any]]:
        """Return how each signal metric orders the points of each evaluation against the task's metric."""
        evaluations: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records:
            evaluations[record.suite, record.evaluation].append(record)
        return [
            {
                "suite": suite,
                "evaluation": name,
                "metric": found.metric,
                "samples": found.samples,
                **{key: value if math.isfinite(value) else None for key, value in asdict(found.correlation).items()},
            }
            for (suite, name), group in evaluations.items()
            for found in similarity_correlations(group)
            if found.correlation is not None
        ]

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each step over all workers, and the share of their lifetime that went into steps."""
        total: dict[str, float] = {name: sum(account.get(name, 0.0) for account in self.accounts) for name in (*STEPS, "busy", "worker")}
        total["share"] = total["busy"] / total["worker"] if total["worker"] else 0.0
        return {name: round(seconds, 3) for name, seconds in total.items()}

    def work(self) -> dict[str, dict[str, int]]:
        """Return how many entries of each layer of the store were computed and reused."""
        return {
            kind: {layer: sum(account[kind].get(layer, 0) for account in self.accounts) for layer in LAYERS}
            for kind in ("computed", "reused")
        }
