"""The pocket suite, cold, beside an older commit of this project: give it in ``MPQ_BENCH_BEFORE``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from figures import Rows
from pytest_benchmark.fixture import BenchmarkFixture
from workloads import ROOT, Spent, clean, pytest_command, run_process, scale


def pocket(tree: Path, folder: Path, *arguments: str, modules: Path | None = None) -> Spent:
    """Run the suite of a tree on two workers from an empty store; environments of codecs are made once and stay.

    ``arguments`` are further ones of pytest, ``modules`` a folder of plug-ins that they name.
    """
    folder.mkdir()
    few = ["--mpq-samples", str(max(4, round(240 * scale())))] if scale() < 1 else []
    places = {"cache": folder / "store", "out": folder / "out", "history": folder / "history"}
    environment = clean(tree, folder)
    if modules is not None:
        environment["PYTHONPATH"] += f"{os.pathsep}{modules}"
    return run_process([*pytest_command(places), "-n", "2", *few, *arguments], tree, environment)


@pytest.mark.benchmark(group="pocket")
@pytest.mark.skipif("MPQ_BENCH_BEFORE" not in os.environ, reason="no older commit to compare with: name one in MPQ_BENCH_BEFORE")
def test_the_pocket_suite_beside_an_older_commit(tmp_path: Path, benchmark: BenchmarkFixture, row: Rows) -> None:
    commit, tree = os.environ["MPQ_BENCH_BEFORE"], tmp_path / "before"
    subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True, capture_output=True)
    try:
        _name(tree)
        before = pocket(tree, tmp_path / "of-before")
        now = benchmark.pedantic(pocket, args=(ROOT, tmp_path / "of-now"), rounds=1)
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True, capture_output=True)
    row(f"... the pocket suite, cold, at {commit[:12]}", None, before.passed, "s")
    row("the pocket suite, cold, over that", 2 / 3, now.passed / before.passed)


def _name(tree: Path) -> None:
    """Let a tree find its own version: what is installed is this one, and older ones look for it under the name of then."""
    about = tree / "mpq-0.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text("Metadata-Version: 2.1\nName: mpq\nVersion: 0\n")
