"""A run as a whole: what was asked for, what became of it, and what it says at the end."""

from __future__ import annotations

import datetime
import math
import platform
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures import datasets, statistics
from mpq_fixtures.baseline import REGRESSED, baseline_file, update_baselines
from mpq_fixtures.clock import STEPS
from mpq_fixtures.options import Options
from mpq_fixtures.report.results import FAILED, NOT_RUN, PASSED, SKIPPED, Result, write_results
from mpq_fixtures.store import LAYERS
from mpq_fixtures.suite import Case

_PACKAGES = (
    "mpq", "av", "datasets", "demucs", "jiwer", "numpy", "pandas", "pillow", "pillow-jxl-plugin", "pydub", "pytest",
    "pytest-xdist", "scikit-image", "scikit-learn", "scipy", "soundfile", "torch", "transformers",
)  # fmt: skip


class Run:
    """The results of a session in the order of the suite, and the accounts of its workers."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.expected: dict[str, Case] = {}
        self.results: dict[str, Result] = {}
        self.accounts: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self._report: Path | None = None

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

    def finish(self, exit_status: int, config: pytest.Config) -> None:
        """Write the results, the report and, where asked, the baselines. What goes wrong here is noted, and loses nothing else."""
        results = self.ordered()
        try:
            write_results(self.options.out, results, self._about(exit_status, config))
        except OSError as error:
            self.notes.append(f"the results could not be written to {self.options.out}: {error.strerror or error}")
            return
        try:
            from mpq_fixtures.report.html import write_report

            self._report = write_report(self.options.out)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            self.notes.append(f"the report could not be made ({reason}); the other files are there, try: mpq report {self.options.out}")
        if self.options.update_baselines:
            self._update_baselines(results)

    def _update_baselines(self, results: Sequence[Result]) -> None:
        measured = defaultdict(list)
        for result in results:
            if result.record is not None and result.outcome == PASSED:
                measured[result.case.evaluation].append(result.record)
        for evaluation, records in measured.items():
            file = baseline_file(self.options.baselines, evaluation.suite, evaluation.name)
            order = [case.point for case in evaluation.cases]
            changed = update_baselines(file, records, order, only_new=self.options.update_baselines == "new")
            self.notes.append(f"baselines: {len(changed)} of {len(records)} cases approved anew in {file}")

    def _about(self, exit_status: int, config: pytest.Config) -> dict[str, Any]:
        records = [result.record for result in self.ordered() if result.record]
        options = self.options
        return {
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "complete": len(records) == len(self.expected),
            "exit_status": exit_status,
            "suites": self.suites,
            "provenance": {
                "command": ["pytest", *config.invocation_params.args],
                "version": version("mpq"),
                "commit": _commit(config.rootpath),
                "python": platform.python_version(),
                "machine": {"system": platform.platform(), "processor": _processor()},
                "device": options.device,
                "packages": {name: found for name in _PACKAGES if (found := _version(name))},
                "codecs": {record.codec: record.build for record in records if record.build},
                "models": {record.evaluation: {"source": record.model, "fingerprint": record.fingerprint} for record in records},
                "options": {
                    "suite": options.suites,
                    "samples": options.samples,
                    "device": options.device,
                    "update_baselines": options.update_baselines,
                    "strict": options.strict,
                },
                "seeds": {"samples": datasets.SEED, "bootstrap": statistics.SEED},
            },
            "seconds": self._seconds(),
            "work": self._work(),
        }

    def _seconds(self) -> dict[str, float]:
        total: dict[str, float] = {name: sum(account.get(name, 0.0) for account in self.accounts) for name in (*STEPS, "busy", "worker")}
        total["share"] = total["busy"] / total["worker"] if total["worker"] else 0.0
        return {name: round(seconds, 3) for name, seconds in total.items()}

    def _work(self) -> dict[str, dict[str, int]]:
        return {
            kind: {layer: sum(account[kind].get(layer, 0) for account in self.accounts) for layer in LAYERS}
            for kind in ("computed", "reused")
        }

    def summary(self) -> list[str]:
        """Return the lines of the terminal summary."""
        results = self.ordered()
        lines = []
        for evaluation in self.options.evaluations:
            own = [result for result in results if result.case.evaluation is evaluation]
            if own:
                lines += _evaluation_lines(own)
        seconds, work = self._seconds(), self._work()
        if self.accounts:
            steps = ", ".join(f"{step} {seconds[step]:.0f} s" for step in STEPS)
            workers = _count(len(self.accounts), "worker")
            lines.append(f"time: {seconds['worker']:.0f} s in {workers}, {seconds['share']:.0%} of it in the steps: {steps}")
            made = ", ".join(_count(work["computed"][layer], layer) for layer in LAYERS)
            memory = max(account["memory"] for account in self.accounts) / 2**20
            lines.append(
                f"store: {made} computed, {_count(work['reused'][LAYERS[-1]], LAYERS[-1])} reused; memory: at most {memory:.0f} MB a worker"
            )
        damaged = [entry for account in self.accounts for entry in account["damaged"]]
        if damaged:
            lines.append(f"store: {_count(len(damaged), 'damaged entry', 'damaged entries')} made again: {', '.join(damaged[:5])}")
        lines += self.notes
        lines.append(f"results: {self.options.out}" if self._report is None else f"report: {self._report}")
        return lines


def _evaluation_lines(results: Sequence[Result]) -> list[str]:
    """Return how an evaluation went, and its worst cases by retention."""
    evaluation = results[0].case.evaluation
    records = [result.record for result in results if result.record]
    verdicts = Counter(result.verdict for result in results if result.verdict)
    outcomes = Counter(result.outcome for result in results)
    counts = [f"{count} {verdict}" for verdict, count in verdicts.items()]
    counts += [f"{outcomes[outcome]} {outcome}" for outcome in (FAILED, SKIPPED, NOT_RUN) if outcomes[outcome]]
    line = f"{evaluation.name}: {_count(len(results), 'case')}: {', '.join(counts)}"
    if records and math.isfinite(records[0].reference):
        main = records[0].metrics[records[0].metric]
        line += f"; {records[0].metric} {records[0].reference:.3f} {main.unit} on the originals"
    lines = [line]
    kept = [record for record in records if record.retention >= 0.95 and record.codec != "original"]
    if kept:
        best = min(kept, key=lambda record: record.rate)
        rate = f"{best.rate:.3g} {best.rate_unit}, {best.compression_ratio:.0f} times smaller than raw"
        lines.append(f"  lowest rate that keeps 95 %: {best.codec}-{best.quality} at {rate}")
    lines += [f"  {REGRESSED}: {result.case.id}" for result in results if result.verdict == REGRESSED]
    return lines


def _count(number: int, word: str, words: str = "") -> str:
    return f"{number:,} {word if number == 1 else words or word + 's'}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit(root: Path) -> str:
    """Return the commit of the project, with a plus when the work tree differs; empty outside of git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()


def _processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or sys.platform
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
