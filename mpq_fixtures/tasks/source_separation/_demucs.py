"""Source separation with the models of the ``demucs`` package: a mixture in, its stems out.

A model's folder holds one safetensors file with the class and its arguments in the metadata, or several and the YAML
file of the bag that averages them (what ``demucs`` keeps on the hub), or ``.th`` packages of ``demucs``' own training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.errors import AssetError, describe_error
from mpq_fixtures.hub.files import UnfitError
from mpq_fixtures.models.checkpoints import metadata_of
from mpq_fixtures.processes.devices import autocast
from mpq_fixtures.signals import Audio

_NAMESPACE = "adefossez"  # where demucs.hf keeps its pretrained models
_CLASSES = ("demucs.demucs.Demucs", "demucs.hdemucs.HDemucs", "demucs.htdemucs.HTDemucs")


class Mixture(NamedTuple):
    """What a network is given of a mixture, and what brings its stems back: by how much it was moved and scaled, its rate, its frames."""

    waveform: NDArray[np.float32]  # [1, channels, frames], or [channels, 1, frames] where each is separated for itself
    mean: NDArray[np.float32]  # []
    scale: NDArray[np.float32]  # []
    sample_rate: int
    frames: int


class DemucsSeparator:
    """A separation model on a device. ``sources`` names its stems.

    Mixtures are brought to the model's sample rate and channels, and the stems back to the mixture's. A mixture whose
    number of channels is not the model's is separated channel by channel. Nothing is random: no shifts are averaged.
    """

    batch_size = 1  # longer batches gain nothing on a CPU
    labels: tuple[str, ...] = ()

    def __init__(self, model: Any, device: str, precision: str = "float32") -> None:
        self._model = model.eval()
        self._device, self._precision = device, precision
        self.sources: tuple[str, ...] = tuple(model.sources)

    def predict(self, signals: Sequence[Audio]) -> list[dict[str, NDArray[np.float32]]]:
        """Return the stems of each mixture by name, each ``float32 [channels, frames]`` as the mixture."""
        return self.infer(self.prepare(signals))

    def prepare(self, signals: Sequence[Audio]) -> list[Mixture]:
        """Return each mixture at the model's rate, around 0 and of unit deviation."""
        return [self._prepare(signal) for signal in signals]

    def infer(self, prepared: Sequence[Mixture]) -> list[dict[str, NDArray[np.float32]]]:
        """Return the stems for what `prepare` made of each mixture."""
        return [self._separate(mixture) for mixture in prepared]

    def _prepare(self, signal: Audio) -> Mixture:
        import torch
        from julius.resample import resample_frac

        own, frames = signal.waveform.shape
        nothing, one = np.zeros((), np.float32), np.ones((), np.float32)
        if frames == 0:
            return Mixture(signal.waveform[None], nothing, one, signal.sample_rate, frames)
        with torch.inference_mode():
            mixture = torch.from_numpy(np.ascontiguousarray(signal.waveform, dtype=np.float32))
            mixture = resample_frac(mixture, signal.sample_rate, int(self._model.samplerate), full=True)
            mean, scale = mixture.mean(), mixture.mean(0).std(correction=0) + 1e-8  # as demucs.api.Separator does
            batch = (mixture[None] if own == self._model.audio_channels else mixture[:, None]) - mean
            return Mixture((batch / scale).numpy(), mean.numpy(), scale.numpy(), signal.sample_rate, frames)

    def _separate(self, mixture: Mixture) -> dict[str, NDArray[np.float32]]:
        import torch
        from demucs.apply import apply_model
        from julius.resample import resample_frac

        if mixture.frames == 0:
            return {name: mixture.waveform[0].copy() for name in self.sources}
        rate, channels = int(self._model.samplerate), int(self._model.audio_channels)
        with torch.inference_mode():
            batch, mean, scale = (torch.from_numpy(values) for values in mixture[:3])
            alone = batch.shape[1] == 1
            with autocast(self._device, self._precision):
                stems = apply_model(self._model, batch.expand(-1, channels, -1).contiguous(), shifts=0, device=self._device)
            stems = stems.float().mul_(scale).add_(mean)  # in place: the stems of a song may take gigabytes
            stems = stems.mean(2).transpose(0, 1) if alone else stems[0]
            stems = resample_frac(stems, rate, mixture.sample_rate, full=True)[..., : mixture.frames]
            if lacking := mixture.frames - stems.shape[-1]:
                stems = torch.nn.functional.pad(stems, (0, lacking))
        return dict(zip(self.sources, stems.numpy(), strict=True))


def check(source: str) -> None:
    """Raise `AssetError` where a folder holds no model, or not all of it, as far as shows without reading weights."""
    if Path(source).is_dir():
        _choose(Path(source))


def load(source: str, device: str, precision: str = "float32") -> DemucsSeparator:
    """Load a model for ``device`` from a local folder, a hub id, or the name of a pretrained Demucs model (``mdx``, ``htdemucs``).

    A name or id may end in ``@revision``. Names stand for the repositories that ``demucs.pretrained.get_model`` reads, of
    which only the safetensors are taken: its fallback, pickled packages from another server, is not. Raises what
    `check` does, and what ``huggingface_hub`` raises when the hub has none.
    """
    return DemucsSeparator(_load_folder(Path(source) if Path(source).is_dir() else _fetch(source)), device, precision)


def repository(name: str) -> str:
    """Return the hub id of a pretrained model, which ``demucs.hf`` tells only with torch imported."""
    if "/" in name:
        return name
    called = "HTDemucs" if name == "htdemucs" else f"HTDemucs-{name[9:]}" if name.startswith("htdemucs_") else f"Demucs-{name}"
    return f"{_NAMESPACE}/{called}"


def files(names: Sequence[str]) -> list[str]:
    """Choose the safetensors files and the bag's YAML, what ``demucs`` keeps on the hub."""
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights:
        raise UnfitError("it has no .safetensors file")
    return sorted([*weights, *(name for name in names if name.endswith(".yaml") and "/" not in name)])


def _fetch(source: str) -> Path:
    """Return the local copy of a model's repository."""
    from huggingface_hub import snapshot_download

    name, _, revision = source.partition("@")
    return Path(snapshot_download(repository(name), revision=revision or None, allow_patterns=["*.yaml", "*.safetensors"]))


def _choose(folder: Path) -> tuple[list[Path], dict[str, Any] | None]:
    """Return the files of a folder's models and the bag that its YAML file describes, None where the one model stands for itself."""
    files = {path.stem.split("-")[0]: path for suffix in ("th", "safetensors") for path in sorted(folder.glob(f"*.{suffix}"))}
    bags = sorted(folder.glob("*.yaml"))
    if not bags:
        if len(files) != 1:
            raise AssetError(f"{folder}: expected one .safetensors or .th file, or a bag's .yaml; found {len(files)} models")
        return _of_demucs(files.values()), None
    import yaml  # type: ignore[import-untyped]

    try:
        bag = yaml.safe_load(bags[0].read_text(encoding="utf-8"))
        signatures = list(map(str, bag["models"]))
    except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise AssetError(f"{bags[0]} describes no bag: expected models: [SIGNATURE, ...]; {describe_error(error)}") from None
    if missing := [signature for signature in signatures if signature not in files]:
        raise AssetError(f"{bags[0]} names {', '.join(missing)}: no such .safetensors or .th file in {folder}")
    return _of_demucs(files[signature] for signature in signatures), bag


def _of_demucs(files: Iterable[Path]) -> list[Path]:
    """Return the files; raise `AssetError` where one names another class than a model's, which demucs would import and call."""
    chosen = list(files)
    for file in chosen:
        if file.suffix == ".safetensors" and (named := metadata_of(file).get("klass")) not in _CLASSES:
            raise AssetError(f"{file}: its metadata name {named!r}, which is no model of demucs: expected {', '.join(_CLASSES)}")
    return chosen


def _load_folder(folder: Path) -> Any:
    """Build the bag that a YAML file describes, or else the one model of the folder."""
    from demucs.apply import BagOfModels

    files, bag = _choose(folder)
    models = [_load_file(file) for file in files]
    return models[0] if bag is None else BagOfModels(models, bag.get("weights"), bag.get("segment"))


def _load_file(path: Path) -> Any:
    """Load one model without running pickled code."""
    if path.suffix == ".safetensors":
        from demucs.hf import load_safetensors_model

        return load_safetensors_model(path)
    from fractions import Fraction

    import torch
    from demucs.demucs import Demucs
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs
    from demucs.states import load_model

    with torch.serialization.safe_globals([Demucs, HDemucs, HTDemucs, Fraction]):
        return load_model(torch.load(path, map_location="cpu", weights_only=True))  # type: ignore[no-untyped-call]
