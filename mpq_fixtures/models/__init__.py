"""Models: signals in, predictions out. One file for each task, each with ``load(source, device, precision="float32")``.

``source`` is a local folder or a hub id with an optional ``@revision``; ``device`` is a torch device name. ``precision`` (``float32``,
``float16`` or ``bfloat16``) is what the network's matrix products and convolutions are computed in; its weights are held, and signals
prepared, in float32.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from pickle import UnpicklingError
from typing import Any, Protocol

from mpq_fixtures.devices import set_up_torch
from mpq_fixtures.hub import model_folder, model_repository, model_weights
from mpq_fixtures.models._checkpoints import labels_of
from mpq_fixtures.named import PYTHON, AssetError, digest_of_callable, digest_of_folder, find_callable
from mpq_fixtures.signals import Signal
from mpq_fixtures.store import key_of
from mpq_fixtures.suite import Evaluation

Prediction = Any
"""One for each signal: a class index, a class map ``[H, W]``, a text, or stems ``{name: [channels, frames]}``."""

_DEFAULT_BATCH = 8


class Model(Protocol):
    """Anything that answers signals. Optional attributes: ``batch_size``, the most signals at once, and ``labels``."""

    def predict(self, signals: Sequence[Signal]) -> list[Prediction]:
        """Return one prediction for each signal, in order."""
        ...


class OpenModel:
    """An evaluation's model: known by its fingerprint at once, loaded when first needed, dropped by `close`."""

    def __init__(self, evaluation: Evaluation, device: str, threads: int = 1) -> None:
        """Take the evaluation, a torch device, and how many threads a model on the CPU gets unless OMP_NUM_THREADS says."""
        self.device = device
        self._evaluation, self._threads = evaluation, threads
        self._model: Model | None = None

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the weights, the preprocessing, the options, the kind of device and the packages that decide a prediction."""
        task, source = self._evaluation.task, self._evaluation.model
        preprocessing = 0 if source.startswith(PYTHON) else self._module.VERSION
        if source.startswith(PYTHON):
            weights = digest_of_callable(source, self._evaluation.folder)
        elif model_repository(self._evaluation) is None:
            weights = digest_of_folder(model_folder(self._evaluation))
        else:
            weights = model_weights(self._evaluation)
        return key_of(
            weights=weights,
            task=task.name,
            preprocessing=preprocessing,
            options=dict(self._evaluation.model_options),
            device=self.device.partition(":")[0],
            packages={package: version(package) for package in task.packages},
        )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the model's classes in their order, () where it tells none; only a callable has to be called to know."""
        source, folder = self._evaluation.model, self._evaluation.folder
        if not source.startswith(PYTHON):
            return labels_of(model_folder(self._evaluation))
        told = getattr(find_callable(source, folder), "labels", None)
        return tuple(told if told is not None else getattr(self.ready(), "labels", ()))

    @property
    def batch_size(self) -> int:
        """The most signals that the model takes at once."""
        return int(getattr(self.ready(), "batch_size", _DEFAULT_BATCH))

    def ready(self) -> Model:
        """Return the loaded model."""
        if self._model is None:
            set_up_torch(self.device, self._threads)
            source, folder = self._evaluation.model, self._evaluation.folder
            if source.startswith(PYTHON):
                self._model = find_callable(source, folder)(self.device)
            else:
                local = model_folder(self._evaluation)
                try:
                    self._model = self._module.load(str(local), self.device, **self._evaluation.model_options)
                except (OSError, ValueError, UnpicklingError) as error:
                    reason = " ".join(str(error).split())
                    raise AssetError(f"{self._evaluation.name}: model {source!r} cannot be loaded from {local}: {reason}") from error
        return self._model

    def close(self) -> None:
        """Drop the model and give its memory back."""
        self._model = None
        gc.collect()
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def _module(self) -> Any:
        return importlib.import_module(f"{__name__}.{self._evaluation.task.name}")
