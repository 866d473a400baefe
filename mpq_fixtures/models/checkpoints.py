"""Checkpoints of ``transformers``: what a folder says of itself without its weights being read, and loading without noise."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mpq_fixtures.errors import AssetError

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".th", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
TOKENIZER = ("tokenizer.json", "vocab.json")


def config_of(folder: Path, name: str = CONFIG) -> dict[str, Any]:
    """Return a checkpoint's configuration, or what another of its files in JSON says; {} where there is none, as those of ``demucs`` do."""
    file = folder / name
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AssetError(f"{file} is damaged: {error}; save or download the model again") from None
    return config if isinstance(config, dict) else {}


def labels_of(folder: Path) -> tuple[str, ...]:
    """Return the names of a checkpoint's classes in the order of their indices; () where it names none."""
    names = {int(index): str(name) for index, name in (config_of(folder).get("id2label") or {}).items()}
    return tuple(names[index] for index in sorted(names))


def class_names(config: Any) -> tuple[str, ...]:
    """Return the names of an open model's classes in the order of their indices, from its configuration."""
    names = config.id2label
    return tuple(names[index] for index in sorted(names))


def check(source: str, wanted: str | tuple[str, ...], *files: Sequence[str]) -> None:
    """Raise `AssetError` where a local checkpoint is not of a class of ``transformers`` whose name ends in ``wanted``, or lacks files.

    ``from_pretrained`` would fill in what the other class lacks with random weights, and say so in a warning. ``wanted`` may be several
    ends, of which any will do. ``files`` are what it needs besides the configuration, each in any of the forms given: ``transformers``
    makes do with an empty tokenizer, for one.
    """
    folder = Path(source)
    if not folder.is_dir():
        return
    if not (folder / CONFIG).is_file():
        raise AssetError(f"{folder} holds no {CONFIG}: put a model there as save_pretrained writes it, with its processor")
    classes = config_of(folder).get("architectures") or []
    if classes and not any(str(name).endswith(wanted) for name in classes):
        needed = " or ".join(f"...{end}" for end in ((wanted,) if isinstance(wanted, str) else wanted))
        raise AssetError(f"{folder} holds a {classes[0]}, where a {needed} is needed: name another model or another task")
    for names in files:
        if not any((folder / name).is_file() for name in names):
            raise AssetError(f"{folder} holds neither {' nor '.join(names)}: save or download the model again, with its processor")
    for file in folder.glob("model*.safetensors"):
        metadata_of(file)


def place_of(source: str) -> tuple[str, dict[str, Any]]:
    """Return what ``from_pretrained`` takes for a local folder or a hub id with an optional ``@revision``: a name, and arguments."""
    name, _, revision = (source, "", "") if Path(source).is_dir() else source.partition("@")
    return name, {"revision": revision} if revision else {}


def read(architecture: str, source: str, needed: tuple[str, ...] = ()) -> Any:
    """Read a model of a class of ``transformers`` in float32, from a local folder or a hub id with an optional ``@revision``.

    Weights in safetensors come before those in PyTorch's format, of which tensors alone are read, never code. Raises `AssetError` where
    a weight is missing whose name begins with one of ``needed``, which ``from_pretrained`` would fill in at random, and ``OSError`` when
    there is no such checkpoint.
    """
    model, absent = read_as_it_is(architecture, source)
    if missing := sorted(weight for weight in absent if weight.startswith(needed)):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise AssetError(
            f"{source} lacks the weights {missing[0]}{more}: name a model that was trained for this task, or save it again whole"
        )
    return model


def read_as_it_is(architecture: str, source: str) -> tuple[Any, set[str]]:
    """Return what `read` does, and the names of the weights that were missing and are random now."""
    import torch
    import transformers

    name, version = place_of(source)
    options: dict[str, Any] = {"dtype": torch.float32, "weights_only": True, "output_loading_info": True, **version}
    with quiet():
        model, told = getattr(transformers, architecture).from_pretrained(name, **options)
    return model, set(told["missing_keys"])


def metadata_of(file: Path) -> dict[str, str]:
    """Return what a safetensors file says of itself; raise `AssetError` where it is damaged or cut short: its head tells."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "np") as opened:
            return opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise AssetError(f"{file} is damaged: {error}; save or download the model again") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep ``transformers`` from drawing progress bars and from telling of its own internals, errors excepted."""
    from transformers.utils import logging as reports

    verbosity, bar = reports.get_verbosity(), reports.is_progress_bar_enabled()
    reports.set_verbosity(logging.ERROR)
    reports.disable_progress_bar()
    try:
        yield
    finally:
        reports.set_verbosity(verbosity)
        if bar:
            reports.enable_progress_bar()
