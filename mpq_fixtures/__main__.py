"""The ``mpq`` command: what is done with results outside of a test run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code: 0 when it did what was asked, 2 when it was asked for what cannot be."""
    parser = argparse.ArgumentParser(prog="mpq", description="Machine perceptual quality: what is done with results outside of a test run.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    report = commands.add_parser("report", help="render report.html again from the results of a run, without running anything")
    report.add_argument("results", type=Path, metavar="RESULTS", help="the folder of a run, such as reports/latest")
    compare = commands.add_parser("compare", help="hold the second of two runs against the first; exit code 1 when it regressed")
    compare.add_argument("before", type=Path, metavar="A", help="the folder of the first run")
    compare.add_argument("after", type=Path, metavar="B", help="the folder of the second run")
    fetch = commands.add_parser("fetch", help="download a suite's models and data sets from the hub; carries on where it was stopped")
    fetch.add_argument("suite", metavar="SUITE", help="a name in evaluations/suites or a TOML file")
    doctor = commands.add_parser("doctor", help="say what a suite needs, what of it is here, and what to do about the rest")
    doctor.add_argument("suite", nargs="?", default="pocket", metavar="SUITE", help="a name or a TOML file (default: pocket)")
    options = parser.parse_args(arguments)
    if options.command == "fetch":
        from mpq_fixtures.fetch import fetch as fetch_suite

        return fetch_suite(options.suite)
    if options.command == "doctor":
        from mpq_fixtures.doctor import doctor as examine

        return examine(options.suite)
    if options.command == "compare":
        from mpq_fixtures.compare import compare as compare_runs

        return compare_runs(options.before, options.after)
    return _report(options.results)


def _report(folder: Path) -> int:
    missing = [name for name in ("results.json", "samples.parquet") if not (folder / name).is_file()]
    if missing:
        what = " and no ".join(missing)
        sys.stderr.write(f"mpq report: no {what} in {folder}: give the folder that a run wrote, such as reports/latest\n")
        return 2
    from mpq_fixtures.report.html import write_report

    sys.stdout.write(f"{write_report(folder)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
