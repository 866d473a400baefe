"""A run as a whole: what was asked for, what became of it, and what it says at the end."""

from __future__ import annotations

import datetime
import math
import os
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from filelock import FileLock, Timeout

from mpq_fixtures.decisions import decide
from mpq_fixtures.errors import describe_error
from mpq_fixtures.gate.accepted import accepted_lines
from mpq_fixtures.gate.baseline_files import BaselineError, baseline_file
from mpq_fixtures.gate.baselines import approved_points, write_baselines
from mpq_fixtures.gate.measured import of_record
from mpq_fixtures.gate.pooling import CaseEffect, judge_run
from mpq_fixtures.gate.rates import RateChange, pool_rates
from mpq_fixtures.gate.shares import Shares, taken
from mpq_fixtures.gate.verdict import RATE, REGRESSED
from mpq_fixtures.options import Options
from mpq_fixtures.processes.clock import STEPS
from mpq_fixtures.processes.temporary import OwnedFolder, remove_orphans
from mpq_fixtures.record import Record
from mpq_fixtures.results.files import FAILED, NOT_RUN, PASSED, SKIPPED, Result, read_results, write_results
from mpq_fixtures.results.history import append
from mpq_fixtures.results.provenance import provenance
from mpq_fixtures.results.samples import PARTS, WRITING, remove_parts
from mpq_fixtures.results.similarity import similarity_correlations
from mpq_fixtures.store import LAYERS
from mpq_fixtures.suite import ORIGINAL, Case, Evaluation
from mpq_fixtures.words import counted

_PATIENCE = 60.0
"""Seconds to wait for another run that writes its results to the same folder."""


class Run:
    """The results of a session in the order of the suite, and the accounts of its workers."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.parts = OwnedFolder(options.out / PARTS / uuid.uuid4().hex)
        self.expected: dict[str, Case] = {}
        self.results: dict[str, Result] = {}
        self.shares: dict[str, Shares] = {}
        self._names: dict[str, tuple[list[str], list[str]]] = {}
        self.pooled: list[tuple[str, str, str]] = []
        self.accounts: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.report: Path | None = None
        self.decisions: list[dict[str, Any]] = []

    @property
    def suites(self) -> list[str]:
        """The names of the suites."""
        return sorted({evaluation.suite for evaluation in self.options.evaluations})

    def expect(self, cases: Sequence[Case]) -> None:
        """Note the cases that were asked for, make the folder of their parts, and remove what a run that was killed has left."""
        if cases and not self.expected:
            remove_parts(self.options.out)
            with suppress(OSError):  # which every case will say
                self.parts.make()
        self.expected |= {case.id: case for case in cases}

    def take_shares(self, case: str, content: dict[str, Any] | None) -> None:
        """Note what each sample has in the change of a case (`mpq_fixtures.gate.shares`), or that there is nothing to say of it."""
        self.shares.pop(case, None)
        if content is not None:
            self.shares[case] = taken(content, self._names)

    def ordered(self) -> list[Result]:
        """Return one result for each case that was asked for, in the order of the suite."""
        order = [case for evaluation in self.options.evaluations for case in evaluation.cases if case.id in self.expected]
        missing = "the run ended before this case: it was stopped or a worker died"
        return [self.results.get(case.id) or Result(case, reason=missing) for case in order]

    def properties(self, config: pytest.Config) -> dict[str, str]:
        """Return what a dashboard is told of the run as a whole."""
        about = provenance(self.options, [], config)
        machine = about["machine"]
        return {
            "mpq_suites": ", ".join(self.suites),
            "mpq_version": about["version"],
            "mpq_commit": about["commit"],
            "mpq_host": machine["host"],
            "mpq_processor": machine["processor"],
            "mpq_device": self.options.device,
        }

    def complaint(self) -> str:
        """Say why a run without a failed test still fails; nothing when it does not."""
        outcomes = Counter(result.outcome for result in self.ordered())
        if not any(result.record for result in self.ordered()):
            return "nothing was measured: a gate that measured nothing does not pass"
        if self.options.strict and (unmeasured := outcomes[SKIPPED] + outcomes[NOT_RUN]):
            return f"--mpq-strict: {unmeasured} of {len(self.expected)} cases were not measured"
        return ""

    def judge_together(self) -> list[tuple[str, str]]:
        """Judge what shows only when all cases are known; return names and sentences of what fails by that.

        Holm's further steps over the cases, changes that the cases of a ladder, an evaluation or a codec share, and cases that were
        approved and that the suites do not have any more. A run that approves all accepts the changes, and says them.
        """
        held = [result for result in self.ordered() if result.case.id in self.shares and result.record is not None]
        end = judge_run([self._effect(result) for result in held], len(self.expected))
        rates = pool_rates([self._rate(result) for result in held if result.case.codec != ORIGINAL])
        self.pooled = [(REGRESSED, group.name, str(group)) for group in end.groups if group.fails]
        self.pooled += [(RATE, drift.name, str(drift)) for drift in rates if drift.fails]
        shared = [(name, sentence) for _, name, sentence in self.pooled]
        gone = list(self._gone())
        if self.options.update_baselines == "all":
            self.notes += [sentence for _, sentence in (*shared, *gone)]
            return []
        if not self.options.strict:
            self.notes += [f"{sentence}; under --mpq-strict that fails" for _, sentence in gone]
            gone = []
        fallen = map(self._fail, (case for case in end.regressed if self.results[case].verdict != REGRESSED))
        accept = f"to accept the new values: mpq approve {quote(os.path.relpath(self.options.out))}"
        return [*((name, f"{sentence}\n{accept}") for name, sentence in (*fallen, *shared)), *gone]

    def _fail(self, case: str) -> tuple[str, str]:
        """Let a case fail that only the others show to have fallen."""
        result = self.results[case]
        fallen = "in the light of the run's other cases that is a fall beyond the margin"
        result.verdict, result.outcome = REGRESSED, FAILED
        sentences = "\n".join(f"{case}: {sentence}" for sentence in (*result.notes.splitlines(), fallen))
        result.reason, result.notes = "\n".join(filter(None, (result.reason, sentences))), ""
        return case, sentences

    def _effect(self, result: Result) -> CaseEffect:
        """Return what the pooled tests need of a case that was held against a baseline."""
        sent, case, effect = self.shares[result.case.id], result.case, result.change["effect"]
        return CaseEffect(
            case=case.id,
            evaluation=case.evaluation.name,
            codec=case.codec,
            quality=case.quality,
            metric=result.record.metric if result.record else "",
            margin=result.change["margin"],
            samples=sent.samples,
            groups=sent.groups,
            shares=sent.shares,
            p_worse=effect.get("p_worse", 1.0),
            change=effect.get("change", 0.0),
        )

    @staticmethod
    def _rate(result: Result) -> RateChange:
        change = result.change
        return RateChange(result.case.id, result.case.codec, change["rate_before"], change["rate_now"], change["rate_margin"])

    def _gone(self) -> Iterator[tuple[str, str]]:
        """Yield names and sentences of evaluations of which something was approved that the suites do not have any more."""
        folders = {self.options.baselines_of(evaluation) / evaluation.suite for evaluation in self.options.evaluations}
        known = {(evaluation.suite, evaluation.name): evaluation for evaluation in self.options.evaluations}
        for file in sorted(file for folder in folders for file in folder.glob("*.json")):
            evaluation = known.get((file.parent.name, file.stem))
            points = [] if evaluation is None else [case.point for case in evaluation.cases]
            left_out = () if evaluation is None else evaluation.left_out
            try:
                gone = [point for point in approved_points(file) if point not in points and point.partition("-")[0] not in left_out]
            except BaselineError:  # which the cases say
                continue
            if gone:
                named = ", ".join(gone[:5]) + (", ..." if len(gone) > 5 else "")
                cases = f"{counted(len(gone), 'approved case')} of {file} {'is' if len(gone) == 1 else 'are'}"
                yield file.stem, f"{cases} not in the suite any more: {named}; delete their lines if they are gone for good"

    def finish(self, exit_status: int, config: pytest.Config) -> bool:
        """Write the results, the report and, where asked, the baselines; return whether all was written that must be.

        What goes wrong here is noted, and loses nothing else. The rows of the cases lie in parts until then. What dead workers left goes.
        Of runs that end in one folder at the same time each writes all of its files after the other.
        """
        from mpq_fixtures.report import drawing

        charted = any(result.record and result.case.codec != ORIGINAL for result in self.results.values())
        try:
            with self._alone(), drawing.begun() if charted else nullcontext():
                return self._write(exit_status, config)
        finally:
            self.parts.close()
            remove_parts(self.options.out)
            remove_orphans()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other run writes its results to the same folder, as long as one takes for that."""
        lock = FileLock(self.options.out / PARTS / WRITING)
        with suppress(OSError, Timeout):  # of a folder that cannot be written the results will say it
            lock.acquire(timeout=_PATIENCE)
        try:
            yield
        finally:
            lock.release()

    def _write(self, exit_status: int, config: pytest.Config) -> bool:
        results = self.ordered()
        about = self._about(exit_status, config)
        try:
            write_results(self.options.out, results, about)
        except Exception as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or describe_error(error)
            self.notes.append(f"the results could not be written to {self.options.out}: {reason}")
            return False
        try:
            append(self.options.history, read_results(self.options.out))
        except Exception as error:
            reason = (error.strerror if isinstance(error, OSError) else "") or describe_error(error)
            self.notes.append(f"the run could not be added to the history in {self.options.history}: {reason}")
        try:
            from mpq_fixtures.report.html import write_report

            self.report = write_report(self.options.out)
        except Exception as error:
            with suppress(OSError):
                (self.options.out / "report.html").unlink(missing_ok=True)  # an earlier run's, which would be taken for this one's
            again = f"the other files are there, try: mpq report {quote(str(self.options.out))}"
            self.notes.append(f"the report could not be made ({describe_error(error)}); {again}")
            reported = False
        else:
            reported = True
        written = self._update_baselines(results, about["provenance"]) if self.options.update_baselines else True
        return written and (reported or not self.options.strict)

    def _update_baselines(self, results: Sequence[Result], about: dict[str, Any]) -> bool:
        measured: dict[Evaluation, list[Record]] = defaultdict(list)
        for result in results:
            if result.record is not None and result.outcome == PASSED:
                measured[result.case.evaluation].append(result.record)
        well = True
        for evaluation, records in measured.items():
            file = baseline_file(self.options.baselines_of(evaluation), evaluation.suite, evaluation.name)
            order = [case.point for case in evaluation.cases]
            try:
                cases = (of_record(record, about) for record in records)
                accepted = write_baselines(file, cases, order, only_new=self.options.update_baselines == "new")
            except (BaselineError, OSError) as error:
                self.notes.append(f"baselines: {file} could not be written: {getattr(error, 'strerror', None) or error}")
                well = False
            else:
                self.notes += [f"baselines: {len(accepted)} of {len(records)} cases updated in {file}", *accepted_lines(accepted)]
        return well

    def _about(self, exit_status: int, config: pytest.Config) -> dict[str, Any]:
        records = [result.record for result in self.ordered() if result.record]
        evaluations: dict[tuple[str, str], list[Record]] = defaultdict(list)
        for record in records:
            evaluations[record.suite, record.evaluation].append(record)
        self._decide(evaluations.values())
        return {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "complete": len(records) == len(self.expected),
            "exit_status": exit_status,
            "suites": self.suites,
            "provenance": provenance(self.options, records, config, [account.get("loaded", {}) for account in self.accounts]),
            "seconds": self.seconds(),
            "work": self.work(),
            "workers": len(self.accounts),
            "memory": max((account["memory"] for account in self.accounts), default=0),
            "similarity": self._similarity(evaluations.values()),
            "decisions": self.decisions,
            "pooled": [{"verdict": verdict, "name": name, "sentence": sentence} for verdict, name, sentence in self.pooled],
        }

    def _decide(self, evaluations: Iterable[Sequence[Record]]) -> None:
        """Take the decisions of each evaluation that has a point; what goes wrong there is noted, and loses no results."""
        for records in evaluations:
            if all(record.codec == ORIGINAL for record in records):
                continue
            try:
                self.decisions.append(decide(records))
            except Exception as error:
                self.notes.append(f"{records[0].evaluation}: nothing could be decided: {describe_error(error)}")

    @staticmethod
    def _similarity(evaluations: Iterable[Sequence[Record]]) -> list[dict[str, Any]]:
        """Return how each signal metric orders the points of each evaluation against the task's metric."""
        return [
            {
                "suite": group[0].suite,
                "evaluation": group[0].evaluation,
                "metric": found.metric,
                "samples": found.samples,
                **{key: value if math.isfinite(value) else None for key, value in asdict(found.correlation).items()},
            }
            for group in evaluations
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
