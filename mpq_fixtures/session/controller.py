"""The process that pytest was started in: it gathers what tests and workers measure, and writes and shows it at the end.

Without xdist it is the only process, or the one that oversees a copy of itself that runs the tests.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from mpq_fixtures.engines.local import LocalEngine
from mpq_fixtures.engines.overseer import Overseer, go_on_as_copy
from mpq_fixtures.engines.ray import RayEngine
from mpq_fixtures.engines.work_data import folder_of
from mpq_fixtures.options import RAY, Options
from mpq_fixtures.progress import ProgressBoard
from mpq_fixtures.record import Record
from mpq_fixtures.results.files import FAILED, PASSED, SKIPPED, Result
from mpq_fixtures.results.markdown import add_to_step_summary
from mpq_fixtures.session.run import Run
from mpq_fixtures.session.stashed import RESOURCES, STARTED, account_of
from mpq_fixtures.session.summary import step_summary, summary_lines
from mpq_fixtures.suite import Case
from mpq_fixtures.words import counted

REPEATED = "repeated"
_MOST_TOLD = 10
_PATIENCE = 5.0
"""Seconds that a worker may take to end after it hung up."""


class Controller:
    """Gathers results from tests and workers, and writes and shows them at the end."""

    def __init__(self, config: pytest.Config, options: Options, board: ProgressBoard) -> None:
        self.config, self.options, self.board = config, options, board
        self.cases = {case.id: case for evaluation in options.evaluations for case in evaluation.cases}
        self.run = Run(options)
        self.workers: list[Any] = []
        self.overseer: Overseer | None = None

    def interrupt(self, number: int, frame: object) -> None:
        """End as after Ctrl-C, so that what was measured is still written. A terminal interrupts the workers itself; others do not."""
        for node in self.workers:
            if (process := _process_of(node)) is not None:
                process.send_signal(signal.SIGINT)
        raise KeyboardInterrupt("terminated")

    def pytest_report_header(self) -> list[str]:
        """Say what will be evaluated, on what, and where results go."""
        options = self.options
        if not options.evaluations:
            return []
        evaluations, cases = counted(len(options.evaluations), "evaluation"), counted(len(self.cases), "case")
        samples = f"at most {options.samples} samples each" if options.samples else "all samples"
        baselines = dict.fromkeys(str(options.baselines_of(evaluation)) for evaluation in options.evaluations)
        engine = f", Ray at {options.ray_address}" if options.engine == RAY else ""
        return [
            f"mpq: suite {', '.join(self.run.suites)}: {evaluations}, {cases}, {samples}",
            f"mpq: device {options.device}, store {options.cache}{engine}",
            f"mpq: baselines {', '.join(baselines)}, results {options.out}",
        ]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note what was asked for; under xdist the workers say."""
        self._expect([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker where to note its progress."""
        node.workerinput["mpq_board"] = self.board.folder
        if _process_of(node) is not None:  # it runs here
            node.workerinput["mpq_parent"] = os.getpid()
        node.workerinput["mpq_parts"] = str(self.run.parts.path)
        self.workers.append(node)
        if self.overseer is None and (overseer := self._oversee(node.workerinput["testrunuid"])) is not None:
            overseer.watch(lambda: [process.pid for one in self.workers if (process := _process_of(one)) is not None])

    def _oversee(self, session: str) -> Overseer | None:
        with contextlib.suppress(OSError):  # which the cases will say
            self.overseer = Overseer(folder_of(self.options.cache), session)
        return self.overseer

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Without workers, run the tests in a copy of this process, which a crash may cost."""
        engine = self.config.stash[RESOURCES].engine
        if not self.run.expected or self.config.option.collectonly or not isinstance(engine, LocalEngine):
            return
        if engine.overseen and (overseer := self._oversee(engine.session)) is not None:
            terminal = self.config.get_terminal_writer()
            if go_on_as_copy(overseer, lambda words: terminal.line(f"\nmpq: {words}; going on from the store")):
                self.config.stash[STARTED] = time.monotonic()
            engine.join()
        self.board.start(self.config)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> None:
        """Give a case to another worker where one died at it: what it died at will be left out."""
        if self._case(crashitem) is None or self.overseer is None:
            return
        with contextlib.suppress(NotImplementedError):  # of --dist loadscope and the like, which keep tests together
            sched.mark_test_pending(crashitem)
            report.outcome = REPEATED  # type: ignore[assignment]

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Show a case that is given to another worker as what it is."""
        return (REPEATED, "R", ("WORKER DIED, REPEATED", {"yellow": True})) if report.outcome == REPEATED else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Note what was asked for: all workers collect the same."""
        self._expect(ids)

    def _expect(self, nodeids: list[str]) -> None:
        if self.config.option.collectonly:
            return
        found = [case for nodeid in nodeids if (case := self._case(nodeid)) is not None]
        self.run.expect(found)
        if found and self.workers:
            self.board.start(self.config)

    def _case(self, nodeid: str) -> Case | None:
        return self.cases.get(nodeid.partition("::")[2].partition("[")[2].removesuffix("]"))  # a folder may have a bracket, too

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in what a test measured, or why it did not."""
        self.board.clear()
        case = self._case(report.nodeid)
        if case is None:
            return
        sent, earlier = getattr(report, "mpq", None), self.run.results.get(case.id)
        if sent is not None:
            measured = Record.from_dict(sent["record"])
            self.run.results[case.id] = Result(
                case,
                PASSED if report.passed else FAILED,
                measured,
                sent["verdict"],
                sent["baseline"],
                sent["baseline_rate"],
                sent["reason"],
                sent["notes"],
                sent["layer"],
                sent["suspect"],
                sent["change"],
            )
            self.run.take_shares(case.id, sent["shares"])
            del report.mpq
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.run.results[case.id] = Result(case, SKIPPED, reason=reason.removeprefix("Skipped: "))
        elif report.failed:
            crash = getattr(getattr(report.longrepr, "reprcrash", None), "message", None) or str(report.longrepr)
            # What the gate found stays, whatever fails after it: the teardown, another test of the case, the end of the run.
            result = self.run.results[case.id] = replace(earlier or Result(case), outcome=FAILED)
            if (reason := crash.strip()) not in result.reason:
                result.reason = "\n".join(filter(None, (result.reason, reason)))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Add up a worker's account, and note how one that sends none ended."""
        account = getattr(node, "workeroutput", {}).get("mpq")
        self.board.forget(node.gateway.id)
        if account:
            self.run.accounts.append(account)
        elif self.overseer is not None and (process := _process_of(node)) is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.overseer.note_end(process.pid, process.wait(_PATIENCE))

    @pytest.hookimpl(tryfirst=True)  # before junit's file is written
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Judge what shows over many cases, write the results, and fail a run that measured nothing or, when strict, not everything."""
        self.board.stop()
        if not self.run.expected or self.config.option.collectonly:
            return
        self._describe_run()
        for name, sentence in self.run.judge_together():
            self._fail(name, sentence)
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        engine = self.config.stash[RESOURCES].engine
        if not self.workers:
            account = account_of(self.config)
            self.run.accounts += engine.accounts(account) if isinstance(engine, RayEngine) else [account]
        if isinstance(engine, LocalEngine):
            engine.settle()
        if self.overseer is not None:
            self.run.accounts += self.overseer.accounts()
            self.run.notes += _told(self.overseer.deaths())
        if session.exitstatus == pytest.ExitCode.OK and (complaint := self.run.complaint()):
            self.run.notes.append(complaint)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        well = self.run.finish(int(session.exitstatus), self.config)
        add_to_step_summary(step_summary(self.run), os.environ)
        if not well and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _describe_run(self) -> None:
        """Give junit's test suite the properties of the run; `record_testsuite_property` would record them in a worker, and lose them."""
        with contextlib.suppress(ImportError, AttributeError):  # pytest has no public way there from here
            from _pytest.junitxml import xml_key

            if (xml := self.config.stash.get(xml_key, None)) is not None:
                for name, value in self.run.properties(self.config).items():
                    xml.add_global_property(name, value)

    def _fail(self, name: str, sentence: str) -> None:
        """Report a failed test that no worker ran: what only the whole run shows."""
        report = pytest.TestReport(
            nodeid=f"evaluations::gate[{name}]",
            location=("evaluations", None, f"gate[{name}]"),
            keywords={},
            outcome="failed",
            longrepr=sentence,
            when="call",
        )
        self.config.hook.pytest_runtest_logreport(report=report)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how it went, where the time went and where the report is."""
        if not self.run.expected or self.config.option.collectonly:
            return
        terminalreporter.section(f"machine perceptual quality: {', '.join(self.run.suites)}")
        for line in summary_lines(self.run):
            terminalreporter.write_line(line)


def _process_of(node: Any) -> Any:
    return getattr(getattr(node.gateway, "_io", None), "popen", None)  # execnet has no public way to a worker's process


def _told(deaths: Sequence[str]) -> list[str]:
    """Sum up what processes died of."""
    if not deaths:
        return []
    counts = Counter(deaths).most_common(_MOST_TOLD)
    lines = [words + (f", {count} times" if count > 1 else "") for words, count in counts]
    more = len(deaths) - sum(count for _, count in counts)
    return [*lines, *([f"... and {more} more that died"] if more else [])]
