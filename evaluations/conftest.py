"""Turn the cases of the chosen suites into parameters: the test of a task runs every case of that task."""

import pytest

from mpq_fixtures.plugin import OPTIONS
from mpq_fixtures.suite import Case


def pytest_pycollect_makeitem(collector: pytest.Collector, name: str) -> list[pytest.Item] | None:
    """Leave out the tests of tasks that no chosen suite has, which pytest would show as skipped."""
    return [] if name.startswith("test_") and not _cases(collector.config, name) else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test its cases; session scope keeps those of a model together."""
    cases = _cases(metafunc.config, metafunc.function.__name__)
    metafunc.parametrize(
        ("evaluation", "case"),
        [(case.evaluation, case) for case in cases],
        indirect=["evaluation"],
        ids=[case.id for case in cases],
        scope="session",
    )


def _cases(config: pytest.Config, test: str) -> list[Case]:
    options = config.stash[OPTIONS]
    evaluations = [evaluation for evaluation in options.evaluations if evaluation.task.name == test.removeprefix("test_")]
    return [case for evaluation in evaluations for case in evaluation.cases if options.selects(case)]
