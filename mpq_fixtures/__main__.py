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
    options = parser.parse_args(arguments)
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
