"""The model of an evaluation: loaded when it is first asked; signals in, predictions out.

A source is a local folder or a hub id with an optional ``@revision``; a device is a torch device name. ``precision`` (``float32``,
``float16`` or ``bfloat16``) is what the network's matrix products and convolutions are computed in; its weights are held, and signals
prepared, in float32.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib.metadata import version
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpq_fixtures.errors import AssetError, describe_error
from mpq_fixtures.hub import model_files, model_folder, model_repository, model_weights
from mpq_fixtures.models.answers import Limit
from mpq_fixtures.models.callables import PYTHON, call, digest_of_callable, find_callable, read_labels
from mpq_fixtures.models.checkpoints import PROCESSOR, WEIGHT_SUFFIXES
from mpq_fixtures.paths import digest_of_files, digests_of_folder
from mpq_fixtures.plain_text import plain
from mpq_fixtures.processes.devices import set_up_torch
from mpq_fixtures.store import key_of
from mpq_fixtures.tasks import Model

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation

_DEFAULT_BATCH = 8
_CPU_MOST, _GPU_MOST = 32, 256


class OpenModel:
    """An evaluation's model: known by its fingerprint at once, loaded when first needed, dropped by `close`."""

    def __init__(self, evaluation: Evaluation, device: str, threads: int = 1) -> None:
        """Take the evaluation, a torch device, and how many threads a model on the CPU gets unless OMP_NUM_THREADS says."""
        self.device, self.task = device, evaluation.task
        self._evaluation, self._threads = evaluation, threads
        self._model: Model | None = None
        self.limit: Limit | None = None  # how many signals it is asked for at once, as soon as that is chosen
        self.layout = ""  # of its activations in memory: one of `layouts`, or its own

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the weights, the preprocessing, the options, the kind of device and the packages that decide a prediction."""
        task, source = self._evaluation.task, self._evaluation.model
        preprocessing = 0 if source.startswith(PYTHON) else task.version
        if source.startswith(PYTHON):
            weights = digest_of_callable(source, self._evaluation.folder)
        elif model_repository(self._evaluation) is None:
            weights = digest_of_files(self._files)
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
    def parts(self) -> dict[str, Any]:
        """What the fingerprint is taken of, apart: the ``code`` of a callable; else digests of a checkpoint's ``weights``, ``processor``
        and ``configuration``, and the version of the ``preprocessing``."""
        source = self._evaluation.model
        packages = {"packages": {package: version(package) for package in self._evaluation.task.packages}}
        if source.startswith(PYTHON):
            return {"code": digest_of_callable(source, self._evaluation.folder), **packages}
        parts: dict[str, dict[str, str]] = {"weights": {}, "processor": {}, "configuration": {}}
        for name, digest in self._files.items():
            file = Path(name)
            part = "processor" if file.name in PROCESSOR else "weights" if file.suffix in WEIGHT_SUFFIXES else "configuration"
            parts[part][name] = digest
        return {part: digest_of_files(files) for part, files in parts.items()} | {"preprocessing": self.task.version, **packages}

    @cached_property
    def _files(self) -> dict[str, str]:
        """A digest of each file of the checkpoint."""
        if model_repository(self._evaluation) is None:
            return digests_of_folder(model_folder(self._evaluation))
        return model_files(self._evaluation)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the model's classes in their order, () where it tells none; only a callable has to be called to know."""
        source, folder = self._evaluation.model, self._evaluation.folder
        if not source.startswith(PYTHON):
            return tuple(map(plain, self.task.labels(model_folder(self._evaluation), **self._evaluation.model_options)))
        labels = getattr(find_callable(source, folder), "labels", None)
        if labels is None or hasattr(labels, "__get__"):  # a class may tell them by a property, which only its object answers
            labels = getattr(self.ready(), "labels", None)
        return read_labels(labels, f"{self._evaluation.name}: {source}")

    @property
    def batch_size(self) -> int:
        """How many signals the model is asked for at once where nothing is measured: what it says itself."""
        size = getattr(self.ready(), "batch_size", None)
        return _DEFAULT_BATCH if size is None else int(size)

    @property
    def most(self) -> int:
        """The most signals that the model takes at once: what it says itself."""
        size = getattr(self.ready(), "batch_size", None)
        return int(size) if size is not None else _CPU_MOST if self.device == "cpu" else _GPU_MOST

    @property
    def layouts(self) -> Sequence[str]:
        """The layouts of memory that the model can compute in besides its own; only one that has ``arrange(layout)`` has any."""
        return tuple(getattr(self.ready(), "layouts", ())) if hasattr(self.ready(), "arrange") else ()

    def arrange(self, layout: str) -> None:
        """Let the model compute in a layout of memory, one of `layouts` or "", its own, now or when it is loaded."""
        if layout != self.layout:
            self.layout = layout
            self._arrange()

    def _arrange(self) -> None:
        model: Any = self._model
        if hasattr(model, "arrange"):
            model.arrange(self.layout)

    @property
    def notes(self) -> list[str]:
        """What there is to say, once, of how the loaded model was asked."""
        limits = self.limit, getattr(self._model, "limit", None)
        return [note for limit in limits if isinstance(limit, Limit) for note in limit.notes]

    def check(self) -> None:
        """Raise `AssetError` for what is wrong with it as far as that shows without reading weights or calling anything."""
        source, folder = self._evaluation.model, self._evaluation.folder
        if source.startswith(PYTHON):
            find_callable(source, folder)
        else:
            self.task.check(str(model_folder(self._evaluation)), **self._evaluation.model_options)

    def ready(self) -> Model:
        """Return the loaded model; what its libraries have made by then stays, and is not looked through for garbage any more."""
        if self._model is None:
            source, folder = self._evaluation.model, self._evaluation.folder
            if source.startswith(PYTHON):
                find_callable(source, folder)
                self._set_up_torch()
                self._model = self._adopted(call(source, folder, self._evaluation.name, device=self.device))
                self._set_up_torch()  # which it may have imported only now
            else:
                set_up_torch(self.device, self._threads)
                local = model_folder(self._evaluation)
                try:
                    self._model = self.task.load(str(local), self.device, **self._evaluation.model_options)
                except AssetError:
                    raise
                except Exception as error:  # each of the libraries that read weights and tokenizers has exceptions of its own
                    reason = f"{describe_error(error)}; save or download the model again"
                    raise AssetError(f"{self._evaluation.name}: model {source!r} cannot be loaded from {local}: {reason}") from error
            self._arrange()
            gc.freeze()
        return self._model

    def _set_up_torch(self) -> None:
        """Set torch up where it is there: a model that needs none should not wait for it."""
        if "torch" in sys.modules or self.device.startswith("cuda"):
            set_up_torch(self.device, self._threads)

    def close(self) -> None:
        """Drop the model and give its memory back."""
        if self._model is None:
            return
        self._model = None
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _adopted(self, made: Any) -> Model:
        """Return what a callable made; raise `AssetError` where it is no model for the task."""
        place = f"{self._evaluation.name}: {self._evaluation.model}(device)"
        try:
            model = self.task.adopt(made)
        except TypeError as error:
            raise AssetError(f"{place} returned {error}") from None
        size = getattr(model, "batch_size", None)
        if size is not None and (not isinstance(size, Integral) or isinstance(size, bool) or size < 1):
            raise AssetError(f"{place}: batch_size is {size!r}: make it a whole number above 0, or leave it out")
        read_labels(getattr(model, "labels", None), place)
        return model
