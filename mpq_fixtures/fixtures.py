"""The fixtures of an evaluation: what a case needs, the way through, and the gate."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from shlex import quote
from typing import NoReturn

import pytest

from mpq_fixtures.codecs import Codec
from mpq_fixtures.conformance.stored import audited
from mpq_fixtures.errors import AssetError, MissingAsset, describe_error
from mpq_fixtures.evaluate import finish
from mpq_fixtures.gate.baseline_files import BaselineError, baseline_file
from mpq_fixtures.gate.baselines import Baselines
from mpq_fixtures.gate.comparison import Comparison, compare, margins_of
from mpq_fixtures.gate.crossing import cross
from mpq_fixtures.gate.layers import layer_of
from mpq_fixtures.gate.measured import Measured, of_record
from mpq_fixtures.gate.pooling import level_of_case
from mpq_fixtures.gate.sanity import doubts
from mpq_fixtures.gate.verdict import Rules, judge
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.opened import OpenEvaluation
from mpq_fixtures.options import Options
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.plain_text import plain
from mpq_fixtures.record import Record
from mpq_fixtures.resources import Resources
from mpq_fixtures.results.files import Result
from mpq_fixtures.results.provenance import provenance
from mpq_fixtures.session.stashed import CASES, COMPARISON, OPENED, OPTIONS, RESOURCES, RESULT
from mpq_fixtures.signals import Dataset
from mpq_fixtures.store import StoreError
from mpq_fixtures.suite import FAIL, LABELS, ORIGINAL, Case, Evaluation


@pytest.fixture(scope="session")
def options(pytestconfig: pytest.Config) -> Options:
    """The run's options."""
    return pytestconfig.stash[OPTIONS]


@pytest.fixture(scope="session")
def resources(pytestconfig: pytest.Config) -> Resources:
    """The store, the clock and the threads of this process."""
    return pytestconfig.stash[RESOURCES]


@pytest.fixture(scope="session")
def evaluation(request: pytest.FixtureRequest) -> Evaluation:
    """The evaluation of the cases that run now; its data set and model are dropped before the next one's come."""
    chosen: Evaluation = request.param
    return chosen


@pytest.fixture(scope="session")
def opened(pytestconfig: pytest.Config) -> OpenEvaluation:
    """What opens data sets and models, on the device of this worker: with several GPUs each worker takes its own."""
    return pytestconfig.stash[OPENED]


@pytest.fixture(scope="session")
def dataset(evaluation: Evaluation, model: OpenModel, opened: OpenEvaluation, options: Options, resources: Resources) -> Dataset:
    """The evaluation's samples; cases are skipped where they are not here, and fail where they do not fit, or under --mpq-strict."""
    resources.progress(f"{evaluation.name}: opening its data", 0, 0)  # which takes a while where there are many files
    try:
        return opened.dataset(evaluation)
    except AssetError as error:
        _give_up(error, options)
    finally:
        resources.progress("", 0, 0)


@pytest.fixture(scope="session")
def model(evaluation: Evaluation, opened: OpenEvaluation) -> OpenModel:
    """The evaluation's model, loaded when the first prediction is missing from the store."""
    return opened.model(evaluation)


@pytest.fixture
def codec(case: Case, dataset: Dataset, options: Options, resources: Resources) -> Codec | None:
    """The case's codec, made ready and audited, the same object in all of its cases; None for the originals."""
    codec = case.open_codec()
    if codec is None:
        return None
    try:
        codec.prepare(case.siblings())
        faults = audited(case, codec, dataset, resources)
    except AssetError as error:
        _give_up(error, options)
    except StoreError as error:
        raise _failed(error) from None
    if faults:
        raise pytest.fail.Exception("\n".join(f"{case.id}: codec {fault}" for fault in faults), pytrace=False)
    return codec


@pytest.fixture(scope="session")
def originals() -> dict[str, Record]:
    """The records on the originals, by evaluation, so that each is put together once a process."""
    return {}


@pytest.fixture
def evaluate(
    dataset: Dataset, model: OpenModel, codec: Codec | None, resources: Resources, options: Options, originals: dict[str, Record]
) -> Callable[[Case], Record]:
    """Measure the case and relate it to the originals, on which all workers work together."""

    def measure(case: Case) -> Record:
        name, engine = case.evaluation.name, resources.engine
        try:
            reference = Pipeline(case.evaluation.cases[0], dataset, model, None, resources)
            own = reference if codec is None else Pipeline(case, dataset, model, codec, resources)
            with engine.at(reference, own):
                if name not in originals:
                    # What others are at may be done when this is; but not where the answers to the originals are what it is held against.
                    for pipeline in dict.fromkeys((reference, own) if case.evaluation.targets == LABELS else ()):
                        engine.advance(pipeline)
                    originals[name] = finish(reference)
                record = originals[name] if own is reference else finish(own, (reference, originals[name]))
        except AssetError as error:
            _give_up(error, options)
        except StoreError as error:
            raise _failed(error) from None
        record.relate_to(originals[name])
        return record

    return measure


@pytest.fixture(scope="session")
def approved(options: Options) -> Callable[[Evaluation], Mapping[str, Measured]]:
    """What was approved of an evaluation's points; each file is read once a process, and unpacked case by case."""

    @cache
    def read(evaluation: Evaluation) -> Mapping[str, Measured]:
        return Baselines(baseline_file(options.baselines_of(evaluation), evaluation.suite, evaluation.name))

    return read


@pytest.fixture
def baseline(case: Case, approved: Callable[[Evaluation], Mapping[str, Measured]], options: Options) -> Measured | None:
    """What was approved of this case."""
    try:
        kept = approved(case.evaluation)
        kept.get(ORIGINAL)  # which the case is held against too: damage shows here
        return kept.get(case.point)
    except BaselineError as error:
        if options.update_baselines == "all":
            return None  # this run writes it anew
        raise _failed(error) from None


@pytest.fixture
def compared(
    case: Case,
    dataset: Dataset,
    model: OpenModel,
    codec: Codec | None,
    resources: Resources,
    baseline: Measured | None,
    approved: Callable[[Evaluation], Mapping[str, Measured]],
    originals: dict[str, Record],
    options: Options,
    pytestconfig: pytest.Config,
) -> Callable[[Record, bool], Comparison | None]:
    """Hold a record against what was approved of its case, and say which layer moved; where asked, how much each of several did."""

    def compare_record(record: Record, crossing: bool) -> Comparison | None:
        if baseline is None:
            return None
        evaluation = case.evaluation
        metric = evaluation.task.metric(dataset, **evaluation.options)
        margins, level = margins_of(record.metrics, record.metric, evaluation.margins), level_of_case(pytestconfig.stash[CASES])
        old, new = approved(evaluation).get(ORIGINAL), of_record(originals[evaluation.name])
        now = of_record(record)
        comparison = compare(baseline, now, metric, margins, level, (old, new) if old else None)
        if comparison.layer is None:
            return comparison
        about = provenance(options, [record, originals[evaluation.name]], pytestconfig)
        now, beside = replace(now, provenance=about), (old, replace(new, provenance=about)) if old else None
        layer = layer_of(baseline, now, beside)
        divided = ""
        if crossing and evaluation.has_labels and comparison.effect is not None and layer and len(layer.moved) + len(layer.open) > 1:
            try:
                divided = str(cross(case, dataset, model, codec, resources, baseline, now, metric, beside))
            except Exception as error:  # it explains a verdict, and must not take its place
                divided = f"old and new could not be crossed: {describe_error(error)}"
        return replace(comparison, layer=layer, crossing=divided)

    return compare_record


@pytest.fixture
def gate(
    case: Case,
    dataset: Dataset,
    compared: Callable[[Record, bool], Comparison | None],
    options: Options,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> Callable[[Record], None]:
    """File a record with its verdict, as properties and for the report, and fail the test where the verdict says so."""

    def check(record: Record) -> None:
        evaluation, level = case.evaluation, level_of_case(request.config.stash[CASES])
        rules = Rules(
            approve=_approval(case, request),
            strict=options.strict,
            approving=options.update_baselines,
            some_samples=options.samples is not None,
            underpowered_fails=evaluation.underpowered == FAIL,
        )
        comparison = compared(record, False)
        verdict = judge(record, comparison, evaluation.thresholds, rules, level)
        if comparison and comparison.layer and not verdict.passes:
            comparison = compared(record, True)
            verdict = judge(record, comparison, evaluation.thresholds, rules, level)
        said = doubts(record, evaluation.task.metric(dataset, **evaluation.options)) if case.is_original else []
        result = Result(
            case,
            record=record,
            verdict=verdict.name,
            baseline=comparison.value_before if comparison else math.nan,
            baseline_rate=comparison.rate_before if comparison else math.nan,
            reason="\n".join(f"{case.id}: {fault}" for fault in verdict.faults),
            notes="\n".join([*verdict.notes, *said]),
            layer=comparison.layer.maker if comparison and comparison.layer else "",
            suspect=", ".join(comparison.suspects) if comparison else "",
            change=comparison.to_dict() if comparison else {},
        )
        request.node.stash[RESULT] = result
        request.node.stash[COMPARISON] = comparison
        for name, value in result.row().items():
            if value is not None:  # a property is a text, and "None" would be one
                record_property(name, value)
        if not verdict.passes:
            pytest.fail(result.reason, pytrace=False)

    return check


def _approval(case: Case, request: pytest.FixtureRequest) -> str:
    """Return the command that approves a case."""
    given = request.config.getoption("mpq_baselines")
    baselines = f" --mpq-baselines {quote(given)}" if given else ""
    suite = case.evaluation.suite_argument
    suite = quote(os.path.relpath(suite) if Path(suite).is_absolute() else suite)
    tests = quote(os.path.relpath(request.path.parent))
    return f"pytest {tests} --mpq-suite {suite} --mpq-case {quote(case.id)}{baselines} --mpq-update-baselines"


def _give_up(error: AssetError, options: Options) -> NoReturn:
    # "From None", or pytest prints the sentence once for every exception that led to it.
    skips = isinstance(error, MissingAsset) and not options.strict
    raise (pytest.skip.Exception(plain(error, lines=True)) if skips else _failed(error)) from None


def _failed(error: Exception) -> BaseException:
    return pytest.fail.Exception(plain(error, lines=True), pytrace=False)
