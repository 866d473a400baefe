"""The evaluation that a process works on: its data set and its model, opened once; those of the one before are dropped."""

from __future__ import annotations

from mpq_fixtures.datasets import align, load_dataset
from mpq_fixtures.errors import AssetError
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.pipeline import Pipeline
from mpq_fixtures.processes.devices import resolve_device
from mpq_fixtures.read_cache import ReadCache
from mpq_fixtures.resources import Resources
from mpq_fixtures.signals import Dataset
from mpq_fixtures.store import StoreError
from mpq_fixtures.suite import Case, Evaluation


class OpenEvaluation:
    """Opens what is asked for of an evaluation when it is first asked for."""

    def __init__(self, device: str, worker: int, threads: int, samples: int | None, read_cache: ReadCache) -> None:
        """Take what `resolve_device` takes, the model's threads, at most how many samples, and what keeps their signals."""
        self._wanted, self._worker, self.threads, self.samples, self.read_cache = device, worker, threads, samples, read_cache
        self._evaluation: Evaluation | None = None
        self._model: OpenModel | None = None
        self._dataset: Dataset | None = None
        self._notes: dict[str, None] = {}

    def model(self, evaluation: Evaluation) -> OpenModel:
        """Return an evaluation's model, which is loaded when the first prediction is missing."""
        self._turn_to(evaluation)
        if self._model is None:
            self._model = OpenModel(evaluation, resolve_device(self._wanted, self._worker), self.threads)
        return self._model

    def dataset(self, evaluation: Evaluation) -> Dataset:
        """Return an evaluation's samples; raises `AssetError` where they cannot be had, or do not fit the model."""
        model = self.model(evaluation)
        if self._dataset is None:
            self._dataset = align(load_dataset(evaluation, self.samples), evaluation, lambda: model.labels)
        return self._dataset

    def pipeline(self, case: Case, resources: Resources) -> Pipeline:
        """Return the steps of a case with its codec made ready; raises `AssetError` for what cannot be had here."""
        dataset, codec = self.dataset(case.evaluation), case.open_codec()
        if codec is not None:
            codec.prepare(case.siblings())
        return Pipeline(case, dataset, self.model(case.evaluation), codec, resources)

    def notes(self) -> list[str]:
        """Return what there is to say of how models were asked."""
        self._note()
        return list(self._notes)

    def _note(self) -> None:
        if self._model is not None and self._evaluation is not None:
            self._notes |= {f"{self._evaluation.name}: {note}": None for note in self._model.notes}

    def close(self) -> None:
        """Drop the model and the data set."""
        if self._model is not None:
            self._note()
            self._model.close()
        self._evaluation = self._model = self._dataset = None
        self.read_cache.forget()

    def _turn_to(self, evaluation: Evaluation) -> None:
        if evaluation is not self._evaluation:
            self.close()
            self._evaluation = evaluation


class OpenPipelines:
    """The pipelines of cases of several evaluations, each made once; one of the evaluations at a time has its model in memory."""

    def __init__(self, opened: OpenEvaluation, resources: Resources) -> None:
        self._opened, self._resources = opened, resources
        self._pipelines: dict[str, Pipeline | None] = {}
        self._model: OpenModel | None = None

    def of(self, case: Case) -> Pipeline | None:
        """Return the steps of a case; None where it cannot be had here, which whoever has its test says."""
        if case.id not in self._pipelines:
            try:
                self._pipelines[case.id] = self._opened.pipeline(case, self._resources)
            except (AssetError, StoreError):
                self._pipelines[case.id] = None
        pipeline = self._pipelines[case.id]
        if pipeline is not None and pipeline.model is not self._model:
            if self._model is not None:
                self._model.close()
            self._model = pipeline.model
        return pipeline
