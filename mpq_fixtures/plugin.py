"""The pytest plugin: options, what each test files, and what the run leaves behind.

Every process has a workbench (store, clock, threads). The controller, which without xdist is the only process, gathers the
results of the tests, writes the result files when the session ends, however it ends, and sums up.
Neither torch nor transformers nor datasets is imported here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures.clock import Clock, peak_memory
from mpq_fixtures.devices import set_up_process, threads_for_worker
from mpq_fixtures.endings import end_with_parent, once, stopping_signals
from mpq_fixtures.engines.claims import folder_of
from mpq_fixtures.engines.local import LocalEngine
from mpq_fixtures.engines.overseer import Overseer, can_be_copied, go_on_as_copy
from mpq_fixtures.engines.ray import RayEngine
from mpq_fixtures.errors import AssetError
from mpq_fixtures.gate.comparison import Comparison
from mpq_fixtures.marker import MARKER, MarkerError, cases_for
from mpq_fixtures.opened import OpenEvaluation
from mpq_fixtures.options import RAY, Options, add_options, read_options
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.progress import ProgressBoard, ProgressWriter
from mpq_fixtures.provenance import loaded_libraries
from mpq_fixtures.record import Record
from mpq_fixtures.results.files import FAILED, PASSED, SKIPPED, Result
from mpq_fixtures.results.markdown import add_to_step_summary
from mpq_fixtures.results.samples import PARTS
from mpq_fixtures.run import Run
from mpq_fixtures.shares import shares_of
from mpq_fixtures.store import StoreError, open_store
from mpq_fixtures.suite import Case
from mpq_fixtures.summary import step_summary, summary_lines
from mpq_fixtures.texts import is_utf8, plain
from mpq_fixtures.under_way import UnderWay
from mpq_fixtures.words import counted
from mpq_fixtures.workbench import Memory, Workbench, memory_for_signals

OPTIONS = pytest.StashKey[Options]()
BENCH = pytest.StashKey[Workbench]()
OPENED = pytest.StashKey[OpenEvaluation]()
RESULT = pytest.StashKey[Result]()
COMPARISON = pytest.StashKey[Comparison | None]()
SENT = pytest.StashKey[set[str]]()
CASES = pytest.StashKey[int]()
REPEATED = "repeated"
_MOST_TOLD = 10
_PATIENCE = 5.0
"""Seconds that a worker may take to end after it hung up."""
_MOST_RESTARTS = "200"  # xdist's four a worker would end a run over two bad samples; what dies in its collection must end
STARTED = pytest.StashKey[float]()
_IMPORTED = time.monotonic()
_CASE = ("evaluation", "case")
_NO_CASE = object()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of a run."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Let workers take whole stretches of cases, so that each stays on one model, and steal from one another at the end."""
    if not config.getoption("numprocesses", None):
        return
    if config.getoption("dist", "no") == "no":
        config.option.dist = "worksteal"
    if config.getoption("maxworkerrestart", None) is None:
        config.option.maxworkerrestart = _MOST_RESTARTS
    if not is_utf8(os.fsencode(here := Path.cwd())):  # which xdist would end in a traceback for
        raise pytest.UsageError(
            f"-n: workers cannot be started in a folder whose name is not UTF-8, {plain(here)}: rename it, or leave out -n"
        )


def pytest_configure(config: pytest.Config) -> None:
    """Check the options before anything runs, and set up this process's part."""
    set_up_process()
    config.addinivalue_line("markers", MARKER)
    options = read_options(config)
    config.stash[OPTIONS], config.stash[STARTED] = options, _IMPORTED
    worker = getattr(config, "workerinput", None)
    workers = worker["workercount"] if worker else 1
    session, name = (worker["testrunuid"], worker["workerid"]) if worker else (uuid.uuid4().hex, "here")
    store, clock, threads = open_store(options.cache), Clock(), threads_for_worker(workers)
    writer = ProgressWriter(worker["mpq_board"], worker["workerid"]) if worker and worker.get("mpq_board") else None
    if worker is None:
        board = ProgressBoard()
        writer = board.writer()
        controller = Controller(config, options, board)
        config.pluginmanager.register(controller, "mpq_controller")
        interrupt = once(controller.interrupt)
        for number in stopping_signals():
            if number != signal.SIGINT:  # which pytest knows
                signal.signal(number, interrupt)
    else:
        end_with_parent(worker.get("mpq_parent"))
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A job in the background ignores interrupts, and its workers inherit that; theirs come from the controller.
            signal.signal(signal.SIGINT, signal.default_int_handler)
    memory, at = Memory(memory_for_signals(workers)), UnderWay()
    engine = RayEngine(options, memory) if options.engine == RAY else _local_engine(config, session, workers, at)
    progress = writer or (lambda case, done, total: None)
    config.stash[BENCH] = Workbench(store, clock, threads, progress, engine, options.out / PARTS, memory, under_way=at)
    number = int(name.removeprefix("gw")) if name.startswith("gw") else 0
    config.stash[OPENED] = OpenEvaluation(options.device, number, threads, options.samples, memory)


def _local_engine(config: pytest.Config, session: str, workers: int, at: UnderWay) -> LocalEngine:
    """Return an engine that takes notes where somebody oversees this process: the controller, or whom it is a copy of."""
    worker = hasattr(config, "workerinput")
    alone = not worker and not config.getoption("numprocesses", None)
    debugged = config.getoption("usepdb", False) or config.getoption("trace", False)
    nested = config.invocation_params.plugins or "PYTEST_CURRENT_TEST" in os.environ
    overseen = worker or (alone and not (debugged or nested) and can_be_copied("pytest", "py.test", "pytest.__main__"))
    folder = folder_of(config.stash[OPTIONS].cache)
    return LocalEngine(folder, session, workers, at if overseen else None, partial(_account, config))


@pytest.hookimpl(tryfirst=True)  # before the controller expects anything of a run that cannot be
def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the cases of the run, over which its chance of a false alarm is shared, and let engines know what is to come."""
    cases = [case for item in session.items if (case := _case_of(item)) is not None]
    session.config.stash[CASES] = len(cases)
    session.config.stash[BENCH].points.update(Counter(case.evaluation.name for case in cases))
    engine = session.config.stash[BENCH].engine
    if isinstance(engine, LocalEngine) and cases and hasattr(session.config, "workerinput"):
        engine.join()
    if isinstance(engine, RayEngine) and cases and not session.config.option.collectonly:
        session.config.stash[OPENED] = engine.connect(session.config.stash[BENCH], cases)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note which case this process is at, and let one fail at which processes died."""
    case, bench = _case_of(item), item.config.stash[BENCH]
    if case is None:
        return
    bench.under_way.about(test=case.id)
    try:
        doomed = bench.engine.doomed(case.id)
    except StoreError:  # which the case itself will say
        return
    if doomed:
        pytest.fail(f"{case.id}: {doomed}", pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Note that this process is at no case."""
    item.config.stash[BENCH].under_way.about(test="")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Turn the cases that a test takes into its parameters; session scope keeps those of a model together.

    A test takes cases when it asks for a ``case`` and for what belongs to it, ``evaluate`` or ``gate``, or has the marker.
    """
    names = [name for name in _CASE if name in metafunc.fixturenames]
    marks = list(metafunc.definition.iter_markers("mpq"))
    if "case" not in names or not (marks or "evaluation" in names):
        return
    config = metafunc.config
    try:
        cases = cases_for(marks, config.stash[OPTIONS], metafunc.definition.path.parent, bool(config.getoption("mpq_suite")))
    except MarkerError as error:
        raise pytest.Collector.CollectError(f"{metafunc.definition.name}: {error}") from None
    values = [{"evaluation": case.evaluation, "case": case} for case in cases] or [dict.fromkeys(_CASE, _NO_CASE)]
    metafunc.parametrize(
        names,
        [[value[name] for name in names] for value in values],
        indirect=[name for name in names if name == "evaluation"],
        ids=[case.id for case in cases] or ["none"],
        scope="session",
    )


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem() -> Generator[None, object, object]:
    """Leave out tests that no case of this run is for, which pytest would show as skipped."""
    made = yield
    if not isinstance(made, list):
        return made
    parameters = [getattr(getattr(item, "callspec", None), "params", {}) for item in made]
    for item, own in zip(made, parameters, strict=True):
        if isinstance(own.get("case"), Case) and (others := sorted(set(own) - set(_CASE))):
            raise pytest.Collector.CollectError(
                f"{item.originalname}: a test that takes cases is known by their ids: leave out its other parameters ({', '.join(others)})"
            )
    return [item for item, own in zip(made, parameters, strict=True) if own.get("case") is not _NO_CASE]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Send what a case measured along with its report: it crosses from worker to controller as plain data."""
    report = yield
    if report.when != "call" or RESULT not in item.stash:
        return report
    result, comparison = item.stash[RESULT], item.stash.get(COMPARISON, None)
    item.stash[COMPARISON] = None  # tests stay until the end of the session
    del item.stash[RESULT]
    if result.record is not None:
        report.mpq = {  # type: ignore[attr-defined]
            "record": result.record.to_dict(),
            "verdict": result.verdict,
            "baseline": result.baseline,
            "baseline_rate": result.baseline_rate,
            "reason": result.reason,
            "notes": result.notes,
            "layer": result.layer,
            "suspect": result.suspect,
            "change": result.change,
            "shares": shares_of(comparison, item.config.stash.setdefault(SENT, set())),
        }
    return report


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, dict[str, Any] | None, dict[str, Any] | None]:
    """Let no text, of an exception or a captured stream, keep a report from its way to the controller: what is no character is escaped."""
    content = yield
    return _without_surrogates(content)  # type: ignore[no-any-return]


def _without_surrogates(content: Any) -> Any:
    if isinstance(content, str):
        return content if content.isascii() else content.encode(errors="backslashreplace").decode()
    if isinstance(content, dict):
        return {_without_surrogates(key): _without_surrogates(value) for key, value in content.items()}
    if type(content) in (list, tuple):
        return type(content)(map(_without_surrogates, content))
    return content


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Help the workers that still have tests, and tell the controller how this one spent its time."""
    if not hasattr(session.config, "workeroutput"):
        return
    engine = session.config.stash[BENCH].engine
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        _help_others(session)
    if isinstance(engine, LocalEngine):
        engine.settle()
    session.config.workeroutput["mpq"] = _account(session.config)


def _help_others(session: pytest.Session) -> None:
    """Work on the batches of other workers' cases, in which this one has no part otherwise."""
    bench, opened = session.config.stash[BENCH], session.config.stash[OPENED]
    tests = {case.id: item.nodeid for item in session.items if (case := _case_of(item)) is not None}
    cases = {case.id: case for item in session.items if (case := _case_of(item)) is not None}
    pipelines: dict[str, Pipeline | None] = {}

    def pipeline_of(case_id: str) -> Pipeline | None:
        if (case := cases.get(case_id)) is None:  # the originals may be no test of this run
            evaluations = {one.evaluation for one in cases.values()}
            case = next((one.cases[0] for one in evaluations if one.cases[0].id == case_id), None)
        if case_id not in pipelines and case is not None:
            try:
                pipelines[case_id] = opened.pipeline(case, bench)
            except (AssetError, StoreError):  # which the worker says that has the test
                pipelines[case_id] = None
        os.environ["PYTEST_CURRENT_TEST"] = f"{tests.get(case_id, case_id)} (call)"  # as in the worker that has it
        return pipelines.get(case_id)

    if cases and isinstance(bench.engine, LocalEngine):
        bench.engine.help(pipeline_of)
        os.environ.pop("PYTEST_CURRENT_TEST", None)


def _case_of(item: pytest.Item) -> Case | None:
    case = getattr(getattr(item, "callspec", None), "params", {}).get("case")
    return case if isinstance(case, Case) else None


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


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    if (controller := config.pluginmanager.getplugin("mpq_controller")) is not None and controller.workers and controller.overseer:
        controller.overseer.close()
    if (bench := config.stash.get(BENCH, None)) is not None:
        bench.engine.close()
        bench.store.close()


def _account(config: pytest.Config) -> dict[str, Any]:
    bench = config.stash[BENCH]
    return {
        "worker": time.monotonic() - config.stash[STARTED],
        "busy": bench.clock.busy,
        **dict(bench.clock.seconds),
        "computed": dict(bench.store.computed),
        "reused": dict(bench.store.reused),
        "damaged": list(bench.store.damaged),
        "notes": config.stash[OPENED].notes(),
        "memory": peak_memory(),
        "loaded": loaded_libraries(),
    }


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
        engine = self.config.stash[BENCH].engine
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
        found = [case for nodeid in nodeids if (case := self._case(nodeid)) is not None]
        self.run.expect(found)
        if found and self.workers:
            self.board.start(self.config)

    def _case(self, nodeid: str) -> Case | None:
        return self.cases.get(nodeid.partition("[")[2].removesuffix("]"))

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
        engine = self.config.stash[BENCH].engine
        if not self.workers:
            account = _account(self.config)
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
