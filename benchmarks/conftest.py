"""Collects the rows of the table that says how fast the suite is; prints each when it is measured, and the table at the end of a run."""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import asdict

import pytest
from figures import Row, Rows, written

ROWS = pytest.StashKey[list[Row]]()
OWN = pytest.StashKey[list[Row]]()
LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS], config.stash[LEFT_OUT] = [], []


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Rows:
    """Put a figure into the table; the test fails at its end where one exceeds its bound. None for ``at_most`` sets no bound.

    Where the test uses ``benchmark`` too, the figure stands in the ``extra_info`` of its JSON.
    """
    request.node.stash[OWN] = []

    def put(what: str, at_most: float | None, measured: float, unit: str = "") -> None:
        one = Row(what, at_most, float(measured), unit)
        request.config.stash[ROWS].append(one)
        if "benchmark" in request.fixturenames:
            request.getfixturevalue("benchmark").extra_info[what] = asdict(one)
        request.node.stash[OWN].append(one)

    return put


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Fail a test that measured more than was meant, once it has measured all it does: where anything is measured, and not only run."""
    yield
    exceeding = [one for one in item.stash.get(OWN, []) if not one.holds] if item.config.getoption("benchmark_enable") else []
    if exceeding:
        bounds = (f"{one.what}: {written(one.measured, one.unit)}, at most {written(one.at_most or 0.0, one.unit)}" for one in exceeding)
        pytest.fail("\n".join(bounds), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" and item.stash.get(OWN, []):  # at once, since a run that is interrupted may not come to its end
        terminal: pytest.TerminalReporter = item.config.pluginmanager.getplugin("terminalreporter")
        terminal.write_line("")
        for one in item.stash[OWN]:
            terminal.write_line(str(one))
    if report.skipped and isinstance(report.longrepr, tuple):
        item.config.stash[LEFT_OUT].append(f"{item.name}: {report.longrepr[2].removeprefix('Skipped: ')}")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the rows as a table in Markdown, so that it can go into `benchmarks/README.md` as it stands."""
    rows, left_out = config.stash[ROWS], config.stash[LEFT_OUT]
    if not rows and not left_out:
        return
    scale = os.environ.get("MPQ_BENCH_SCALE", "1")
    terminalreporter.section("speed and size" if scale == "1" else f"speed and size, MPQ_BENCH_SCALE={scale}")
    for line in ("| what | at most | measured |", "|---|---|---|", *map(str, rows)):
        terminalreporter.write_line(line)
    for line in left_out:
        terminalreporter.write_line(f"not measured: {line}")
