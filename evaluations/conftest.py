"""Turn the cases of the chosen suites into parameters: the test of a task runs every case of that task."""

import pytest

from mpq_fixtures.plugin import OPTIONS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    task = metafunc.function.__name__.removeprefix("test_")
    evaluations = [evaluation for evaluation in metafunc.config.stash[OPTIONS].evaluations if evaluation.task.name == task]
    cases = [case for evaluation in evaluations for case in evaluation.cases]
    # Session scope keeps the cases of a model together.
    metafunc.parametrize(
        ("evaluation", "case"),
        [(case.evaluation, case) for case in cases],
        indirect=["evaluation"],
        ids=[case.id for case in cases],
        scope="session",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Drop the tests of tasks that no chosen suite has, which pytest would show as skipped."""
    items[:] = [item for item in items if "[NOTSET]" not in item.nodeid]
