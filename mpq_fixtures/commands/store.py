"""``mpq store`` and ``mpq store prune``: what the store holds, and what of it may go."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection, Sequence

from tqdm import tqdm  # type: ignore[import-untyped]

from mpq_fixtures.codecs import CodecError
from mpq_fixtures.commands.assets import suites_folder
from mpq_fixtures.options import SUITES, store_location
from mpq_fixtures.store import Store, StoreError, open_store
from mpq_fixtures.store.base import Part
from mpq_fixtures.store.usage import Share, in_bytes, shares, size_of, surplus
from mpq_fixtures.suite import Evaluation, SuiteError
from mpq_fixtures.suite.file import find_suite, load_suite
from mpq_fixtures.words import counted


def show(location: str | None) -> int:
    """Print sizes by suite, evaluation and layer; return the exit code, 2 where the store cannot be read."""
    try:
        store = open_store(store_location(location))
        parts = list(store.parts())
        old = store.older()
    except StoreError as error:
        sys.stderr.write(f"mpq store: {error}\n")
        return 2
    now = time.time()
    rows = [("suite", "evaluation", "layer", "size", "entries", "scopes", "last used"), *(_row(share, now) for share in shares(parts))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if parts:
        for row in rows:
            left, right = row[:3], row[3:]
            cells = [cell.ljust(width) for cell, width in zip(left, widths[:3], strict=True)]
            cells += [cell.rjust(width) for cell, width in zip(right, widths[3:], strict=True)]
            sys.stdout.write("  ".join(cells).rstrip() + "\n")
    if any(share.shared for share in shares(parts)):
        sys.stdout.write("+ counted for each evaluation that shares it\n")
    files, size = sum(part.files for part in parts), sum(part.bytes for part in parts)
    sys.stdout.write(f"{store.location}: {in_bytes(size)} in {counted(files, 'file')}\n")
    if old:
        sys.stdout.write(f"also {size_of(old)} of an older mpq's, which are never read: mpq store prune --old\n")
    return 0


def prune(location: str | None, older_than: float | None, to: int | None, unnamed: Sequence[str] | None, old: bool, dry_run: bool) -> int:
    """Remove what the options say, and print what that frees; return the exit code: 1 where something is in use, 2 for what cannot be."""
    if older_than is None and to is None and unnamed is None and not old:
        sys.stderr.write("mpq store prune: say what may go: --older-than 30d, --to 20GB, --unnamed [SUITE ...] or --old\n")
        return 2
    try:
        evaluations = None if unnamed is None else _evaluations(unnamed)
        store = open_store(store_location(location))
        parts = [] if older_than is None and to is None and unnamed is None else list(store.parts())
        named = None if evaluations is None else _named(evaluations, parts)
        chosen = surplus(parts, time.time(), older_than, named, to)
        whole, young = _bytes(parts), _bytes(parts) - _bytes(chosen)
        freed, busy = _remove(store, chosen, dry_run)
        left = whole - freed
        if old:
            freed += _remove_older(store, dry_run)
    except (StoreError, SuiteError, CodecError) as error:
        sys.stderr.write(f"mpq store prune: {error}\n")
        return 2
    would = "would free" if dry_run else "freed"
    sys.stdout.write(f"{store.location}: {would} {in_bytes(freed)}")
    sys.stdout.write(f" ({counted(len(chosen) - busy, 'scope')})" if chosen else "")
    sys.stdout.write(f", {in_bytes(left)} left\n" if parts else "\n")
    if busy:
        sys.stderr.write(f"mpq store prune: {counted(busy, 'scope')} stayed: a running process has them open; try again when it is done\n")
    if to is not None and young > to:
        sys.stderr.write(f"mpq store prune: {in_bytes(young)} stayed: written within the last ten minutes; try again later\n")
    return int(busy > 0 or (to is not None and young > to))


def _bytes(parts: Sequence[Part]) -> int:
    return sum(part.bytes for part in parts)


def _evaluations(suites: Sequence[str]) -> list[Evaluation]:
    """Return the evaluations of some suites, by default of those in ``evaluations/suites``."""
    files = [find_suite(name, suites_folder()) for name in suites] or sorted(SUITES.glob("*.toml"))
    if not files:
        raise SuiteError(f"--unnamed: no suites in {SUITES} here: name the suites whose results shall stay")
    return [evaluation for file in files for evaluation in load_suite(file)]


def _named(evaluations: Sequence[Evaluation], parts: Sequence[Part]) -> Collection[str]:
    """Return the ids of their cases, with those that the store has of optional codecs: another machine may have what this one lacks."""
    left_out = {(evaluation.name, codec) for evaluation in evaluations for codec in evaluation.left_out}
    abouts = (about for part in parts for about in part.about)
    others = {about["case"] for about in abouts if (about.get("evaluation"), about.get("codec")) in left_out}
    return {case.id for evaluation in evaluations for case in evaluation.cases} | others


def _remove(store: Store, parts: Sequence[Part], dry_run: bool) -> tuple[int, int]:
    """Return how many bytes were freed, and how many parts are in use."""
    freed = busy = 0
    for part in tqdm(parts, desc="prune", unit="scope", disable=None if len(parts) > 10 else True, leave=False):
        if dry_run or store.remove(part):
            freed += part.bytes
        else:
            busy += 1
    return freed, busy


def _remove_older(store: Store, dry_run: bool) -> int:
    freed = 0
    for folder in store.older():
        freed += size_of([folder]).bytes
        if not dry_run:
            shutil.rmtree(folder)
    return freed


def _row(share: Share, now: float) -> tuple[str, ...]:
    size = in_bytes(share.bytes) + ("+" if share.shared else "")
    days = int((now - share.used) / 86_400)
    used = "today" if days == 0 else f"{counted(days, 'day')} ago"
    return share.suite or "-", share.evaluation or "-", share.layer, size, f"{share.entries:,}", f"{share.parts:,}", used
