"""The pytest plugin: options, the tests that cases become, and what each of them sends to the controller.

Every process has its resources (store, clock, threads).
Neither torch nor transformers nor datasets is imported here.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures.engines.local import LocalEngine
from mpq_fixtures.engines.overseer import can_be_copied
from mpq_fixtures.engines.ray import RayEngine
from mpq_fixtures.engines.work_data import folder_of
from mpq_fixtures.gate.shares import shares_of
from mpq_fixtures.opened import OpenEvaluation, OpenPipelines
from mpq_fixtures.options import RAY, add_options, read_options
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.plain_text import is_utf8, plain
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.processes.devices import set_up_process, threads_for_worker
from mpq_fixtures.processes.endings import end_with_parent, once, stopping_signals
from mpq_fixtures.processes.under_way import UnderWay
from mpq_fixtures.progress import ProgressBoard, ProgressWriter
from mpq_fixtures.read_cache import ReadCache, budget_for
from mpq_fixtures.resources import Resources
from mpq_fixtures.session.controller import Controller
from mpq_fixtures.session.marker import MARKER, MarkerError, cases_for
from mpq_fixtures.session.stashed import CASES, COMPARISON, OPENED, OPTIONS, RESOURCES, RESULT, STARTED, account_of
from mpq_fixtures.store import StoreError, open_store
from mpq_fixtures.suite import Case

SENT = pytest.StashKey[set[str]]()
_MOST_RESTARTS = "200"  # xdist's four a worker would end a run over two bad samples; what dies in its collection must end
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
        parts = controller.run.parts.path
        config.pluginmanager.register(controller, "mpq_controller")
        interrupt = once(controller.interrupt)
        for number in stopping_signals():
            if number != signal.SIGINT:  # which pytest knows
                signal.signal(number, interrupt)
    else:
        parts = Path(worker["mpq_parts"])
        end_with_parent(worker.get("mpq_parent"))
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A job in the background ignores interrupts, and its workers inherit that; theirs come from the controller.
            signal.signal(signal.SIGINT, signal.default_int_handler)
    read_cache, at = ReadCache(budget_for(workers)), UnderWay()
    engine = RayEngine(options, read_cache) if options.engine == RAY else _local_engine(config, session, workers, at)
    progress = writer or (lambda case, done, total: None)
    config.stash[RESOURCES] = Resources(store, clock, threads, progress, engine, parts, read_cache, under_way=at)
    number = int(name.removeprefix("gw")) if name.startswith("gw") else 0
    config.stash[OPENED] = OpenEvaluation(options.device, number, threads, options.samples, read_cache)


def _local_engine(config: pytest.Config, session: str, workers: int, at: UnderWay) -> LocalEngine:
    """Return an engine that takes notes where somebody oversees this process: the controller, or whom it is a copy of."""
    worker = hasattr(config, "workerinput")
    alone = not worker and not config.getoption("numprocesses", None)
    debugged = config.getoption("usepdb", False) or config.getoption("trace", False)
    nested = config.invocation_params.plugins or "PYTEST_CURRENT_TEST" in os.environ
    overseen = worker or (alone and not (debugged or nested) and can_be_copied("pytest", "py.test", "pytest.__main__"))
    folder = folder_of(config.stash[OPTIONS].cache)
    return LocalEngine(folder, session, workers, at if overseen else None, partial(account_of, config))


@pytest.hookimpl(tryfirst=True)  # before the controller expects anything of a run that cannot be
def pytest_collection_finish(session: pytest.Session) -> None:
    """Count the cases of the run, over which its chance of a false alarm is shared, and let engines know what is to come."""
    cases = [case for item in session.items if (case := _case_of(item)) is not None]
    session.config.stash[CASES] = len(cases)
    session.config.stash[RESOURCES].points.update(Counter(case.evaluation.name for case in cases))
    engine = session.config.stash[RESOURCES].engine
    if isinstance(engine, LocalEngine) and cases and hasattr(session.config, "workerinput"):
        engine.join()
    if isinstance(engine, RayEngine) and cases and not session.config.option.collectonly:
        session.config.stash[OPENED] = engine.connect(session.config.stash[RESOURCES], cases)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note which case this process is at, and let one fail at which processes died."""
    case, resources = _case_of(item), item.config.stash[RESOURCES]
    if case is None:
        return
    resources.under_way.about(test=case.id)
    try:
        doomed = resources.engine.doomed(case.id)
    except StoreError:  # which the case itself will say
        return
    if doomed:
        pytest.fail(f"{case.id}: {doomed}", pytrace=False)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Note that this process is at no case."""
    item.config.stash[RESOURCES].under_way.about(test="")


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
    engine = session.config.stash[RESOURCES].engine
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        _help_others(session)
    if isinstance(engine, LocalEngine):
        engine.settle()
    session.config.workeroutput["mpq"] = account_of(session.config)


def _help_others(session: pytest.Session) -> None:
    """Work on the batches of other workers' cases, in which this one has no part otherwise."""
    resources, opened = session.config.stash[RESOURCES], session.config.stash[OPENED]
    tests = {case.id: item.nodeid for item in session.items if (case := _case_of(item)) is not None}
    cases = {case.id: case for item in session.items if (case := _case_of(item)) is not None}
    pipelines = OpenPipelines(opened, resources)

    def pipeline_of(case_id: str) -> Pipeline | None:
        if (case := cases.get(case_id)) is None:  # the originals may be no test of this run
            evaluations = {one.evaluation for one in cases.values()}
            case = next((one.cases[0] for one in evaluations if one.cases[0].id == case_id), None)
        os.environ["PYTEST_CURRENT_TEST"] = f"{tests.get(case_id, case_id)} (call)"  # as in the worker that has it
        return pipelines.of(case) if case is not None else None

    if cases and isinstance(resources.engine, LocalEngine):
        resources.engine.help(pipeline_of)
        os.environ.pop("PYTEST_CURRENT_TEST", None)


def _case_of(item: pytest.Item) -> Case | None:
    case = getattr(getattr(item, "callspec", None), "params", {}).get("case")
    return case if isinstance(case, Case) else None


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    if (controller := config.pluginmanager.getplugin("mpq_controller")) is not None and controller.workers and controller.overseer:
        controller.overseer.close()
    if (resources := config.stash.get(RESOURCES, None)) is not None:
        resources.engine.close()
        resources.store.close()
