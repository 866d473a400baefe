"""``mpq work``: a share of a suite's batches, for as many processes as there are, on any machines that share a store.

A share is fixed by its number: no process has to know of the others. Afterwards ``pytest`` with the same store finds everything done.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from mpq_fixtures.codecs import CodecError
from mpq_fixtures.commands.assets import read_suite
from mpq_fixtures.commands.progress import Progress, stoppable
from mpq_fixtures.conformance.stored import audited
from mpq_fixtures.engines.overseer import engine_of_command
from mpq_fixtures.errors import AssetError
from mpq_fixtures.opened import OpenEvaluation
from mpq_fixtures.options import available, store_location
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.processes.devices import set_up_process, threads_for_worker
from mpq_fixtures.read_cache import ReadCache, budget_for
from mpq_fixtures.resources import Resources
from mpq_fixtures.store import StoreError, open_store
from mpq_fixtures.suite import Case, SuiteError

DONE, FAILED, CANNOT, STOPPED = 0, 1, 2, 130


class Share(NamedTuple):
    """The ``number``-th of ``of`` shares, from 1 on."""

    number: int
    of: int

    def has(self, place: int) -> bool:
        """Tell whether what stands at this place of the whole belongs to it."""
        return place % self.of == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


def parse_share(text: str) -> Share:
    """Return the share that ``3/16`` names."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a share such as 3/16, from 1/16 to 16/16")
    return Share(int(match[1]), int(match[2]))


def share_of_job_array(environment: Mapping[str, str]) -> Share | None:
    """Return the share of a task of a Slurm job array, None outside of one."""
    try:
        number, count = int(environment["SLURM_ARRAY_TASK_ID"]), int(environment["SLURM_ARRAY_TASK_COUNT"])
        first, step = int(environment.get("SLURM_ARRAY_TASK_MIN", "1")), int(environment.get("SLURM_ARRAY_TASK_STEP", "1"))
    except (KeyError, ValueError):
        return None
    share = Share((number - first) // step + 1, count)
    return share if 1 <= share.number <= count else None  # not where the array has gaps


class _Part(Pipeline):
    """A case of which only a share of the batches is there."""

    def __init__(self, case: Case, share: Share, place: int, *others: Any) -> None:
        super().__init__(case, *others)
        self._share, self._place = share, place

    def lacking(self, failed: Collection[str], positions: Sequence[int] | None = None) -> Sequence[int]:
        """Return the positions of the share's samples that have no row in the store and did not fail."""
        found = super().lacking(failed, positions)
        if not found:
            return found  # and no model has to be loaded to know how large a batch is
        size = self.batch_size
        return [position for position in found if self._share.has(position // size + self._place)]


def work(suite: str, share: Share | None, cache: str | None, samples: int | None, device: str) -> int:
    """Measure a share of a suite into a store; return the exit code: 0 done, 1 samples failed, 2 something could not be done."""
    share = share or share_of_job_array(os.environ)
    if share is None:
        return _cannot("say which share with --share 3/16; only in a Slurm job array without gaps it is known")
    set_up_process()
    try:
        cases = [case for evaluation in read_suite(suite) for case in evaluation.cases]
        store = open_store(store_location(cache))
        device = available(device)
    except (SuiteError, CodecError, StoreError) as error:
        return _cannot(str(error))
    except pytest.UsageError as error:
        return _cannot(str(error).replace("--mpq-", "--"))
    threads, read_cache, progress = threads_for_worker(1), ReadCache(budget_for(1)), Progress(f"mpq work {share}")
    points = Counter(case.evaluation.name for case in cases)
    engine, notes = engine_of_command(progress.say)
    resources = Resources(store, Clock(), threads, progress, engine, read_cache=read_cache, points=points, under_way=notes)
    opened = OpenEvaluation(device, 0, threads, samples, read_cache)
    code = DONE
    try:
        with stoppable(progress):
            for place, case in enumerate(cases):
                code = max(code, _measure(case, share, place, opened, resources))
    except KeyboardInterrupt:
        progress.say("stopped; what was measured is in the store, and the same command goes on from there")
        return STOPPED
    except StoreError as error:
        progress.end()
        return _cannot(str(error))
    finally:
        resources.engine.close()
        opened.close()
        store.close()
    progress.say("done" if code == DONE else "done but for what is named above")
    return code


def _measure(case: Case, share: Share, place: int, opened: OpenEvaluation, resources: Resources) -> int:
    """Measure a share of a case, and say what could not be measured."""
    progress = resources.progress
    assert isinstance(progress, Progress)
    resources.under_way.about(test=case.id)
    if doomed := resources.engine.doomed(case.id):
        progress.say(f"{case.id}: {doomed}")
        return CANNOT
    try:
        dataset, codec = opened.dataset(case.evaluation), case.open_codec()
        if codec is not None:
            codec.prepare(case.siblings())
            if faults := audited(case, codec, dataset, resources):
                progress.say(*(f"{case.id}: codec {fault}" for fault in faults))
                return CANNOT
        part = _Part(case, share, place, dataset, opened.model(case.evaluation), codec, resources)
        failures = resources.engine.complete(part)
    except AssetError as error:
        progress.say(f"{case.id}: {error}")
        return CANNOT
    progress.say(*(f"{case.id}: sample {one.sample} failed to {one.step}: {one.reason}" for one in failures.values()))
    return FAILED if failures else DONE


def _cannot(reason: str) -> int:
    sys.stderr.write(f"mpq work: {reason}\n")
    return CANNOT
