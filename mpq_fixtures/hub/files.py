"""Which files of a hub repository an evaluation needs: pure functions of their names and of the repository's README.

Only what a run reads is taken: one set of weights, in safetensors where there are any, and the Parquet files of one split.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from typing import Any

README = "README.md"
PARQUET_BRANCH = "refs/convert/parquet"
"""The branch in which the hub keeps what it converted to Parquet itself, as ``CONFIG/SPLIT/0000.parquet``."""

_SPLIT = re.compile(r"\s*([\w.-]+)\s*(?:\[(.*)\])?\s*")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})\.parquet$")
_OTHER_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SCRIPT = "it holds a loading script, and no code from the hub is run"

Choice = Callable[[Sequence[str], str], list[str]]
"""From the names of a repository's files and its README to the names that are needed; raises `UnfitError`."""


def other_splits(split: str) -> set[str]:
    """Return the names of folders that hold other splits than a named one; nothing where none is named."""
    return {word for words in _OTHER_NAMES.values() if split not in words for word in words} if split else set()


class UnfitError(Exception):
    """A repository without what is needed; the message says what is missing and what to do, as the second half of a sentence."""


def transformers_files(names: Sequence[str], readme: str) -> list[str]:
    """Choose the configuration, the tokenizer and one set of weights, in safetensors or else in PyTorch's own format."""
    here = [name for name in names if "/" not in name]
    if "config.json" not in here:
        raise UnfitError("it has no config.json, so it is no model that transformers reads")
    for index, single, shards in (
        ("model.safetensors.index.json", "model.safetensors", "model-*-of-*.safetensors"),
        ("pytorch_model.bin.index.json", "pytorch_model.bin", "pytorch_model-*-of-*.bin"),
    ):
        weights = [single] if single in here else [name for name in here if fnmatch(name, shards)] if index in here else []
        if weights:
            settings = [name for name in here if (fnmatch(name, "*.json") and not name.endswith(".index.json")) or name in _VOCABULARIES]
            return sorted({*settings, *weights, *([index] if weights != [single] else [])})
    raise UnfitError("it has neither model.safetensors nor pytorch_model.bin")


_VOCABULARIES = {"merges.txt", "vocab.txt", "tokenizer.model", "spiece.model"}


def split_files(table: Mapping[str, Any]) -> Choice:
    """Return the choice of a data set's files: the README and the Parquet files of the split that ``table`` names, in order."""
    return lambda names, readme: [name for name in (README,) if name in names] + parquet_files(table, names, readme)


def parquet_files(table: Mapping[str, Any], names: Sequence[str], readme: str) -> list[str]:
    """Choose the Parquet files of the split, in order: those that the README's configuration names, or else by folders and names.

    Of ``split = "validation[:1000]"`` only as many as hold 1,000 rows are chosen, where the README gives the rows and the files are
    the equal shards that ``push_to_hub`` writes.
    """
    parquet = sorted(name for name in names if name.endswith(".parquet"))
    if not parquet:
        scripts = any(name.endswith(".py") for name in names)
        raise UnfitError(f'{_SCRIPT if scripts else "it has no Parquet files"}; try revision = "{PARQUET_BRANCH}" in the data set\'s table')
    match = _SPLIT.fullmatch(str(table.get("split", "")))
    if match is None:
        raise UnfitError('name one split of it, such as split = "validation" or split = "test[:100]"')
    split, within = match[1], match[2] or ""
    card = _card(readme)
    patterns = _patterns(card, table.get("name"), split)
    chosen = [name for name in parquet if any(fnmatch(name, pattern) for pattern in patterns)]
    if not chosen:
        chosen = _by_name(parquet, table.get("name"), split)
    if not chosen:
        raise UnfitError(f"it has no files of the split {split!r}{_offer(parquet)}")
    if not patterns and len({name.rpartition("/")[0] for name in chosen}) > 1:
        raise UnfitError(f"it has several configurations: write name = ... for one of them{_offer(chosen)}")
    return _enough(chosen, _stop(within), _rows(card, table.get("name"), split))


def _patterns(card: Mapping[str, Any], config: Any, split: str) -> list[str]:
    """Return the file patterns that the README gives for a split; of the default configuration, or the only one, where none is named."""
    configs = [entry for entry in card.get("configs") or () if isinstance(entry, dict)]
    if config:
        configs = [entry for entry in configs if entry.get("config_name") == config]
    elif len(configs) > 1:
        configs = [entry for entry in configs if entry.get("default") or entry.get("config_name") == "default"]
    for entry in configs[:1]:
        files = entry.get("data_files")
        for part in files if isinstance(files, list) else []:
            if isinstance(part, dict) and part.get("split") == split:
                return [part["path"]] if isinstance(part["path"], str) else list(part["path"])
    return []


def _by_name(names: Iterable[str], config: Any, split: str) -> list[str]:
    """Choose by words in the path: ``full/validation/0000.parquet``, ``data/validation-00000-of-00014.parquet``.

    Where such a word is all of a name, as it is there, ``data/validation_other-00000-of-00001.parquet`` is of another split.
    """
    words = "|".join(re.escape(word) for word in _OTHER_NAMES.get(split, (split,)))
    within = [name for name in names if config in name.split("/")[:-1]] if config else list(names)
    alone, in_path = rf"(?:^|/)(?:{words})(?:/|\.parquet$|-\d{{5}}-of-\d{{5}})", rf"(?:^|[/._-])(?:{words})(?:[/._-])"
    found = ([name for name in within or names if re.search(pattern, name)] for pattern in (alone, in_path))
    return next(filter(None, found), [])


def _offer(names: Iterable[str]) -> str:
    folders = sorted({name.rpartition("/")[0] or name for name in names})
    return "; there is: " + ", ".join(folders[:12]) + (", ..." if len(folders) > 12 else "")


def _rows(card: Mapping[str, Any], config: Any, split: str) -> int | None:
    infos = card.get("dataset_info") or ()
    infos = [infos] if isinstance(infos, dict) else infos
    for info in infos:
        if len(infos) == 1 or info.get("config_name", "default") == (config or "default"):
            for part in info.get("splits") or ():
                if part.get("name") == split:
                    return int(part["num_examples"])
    return None


def _stop(within: str) -> int | None:
    """Return where ``10:20`` or ``:20`` stops; None for whatever counts in percent, from the end, or up to it."""
    match = re.fullmatch(r"\s*\d*\s*:\s*(\d+)\s*", within)
    return int(match[1]) if match else None


def _enough(names: list[str], stop: int | None, rows: int | None) -> list[str]:
    shards = [match for match in map(_SHARD.search, names) if match]
    if stop is None or rows is None or [int(match[1]) for match in shards] != list(range(len(names))):
        return names
    return names[: max(1, math.ceil(stop / max(1, rows // len(names))))]


def _card(readme: str) -> dict[str, Any]:
    """Return the YAML at the head of a README."""
    import yaml  # type: ignore[import-untyped]

    match = re.match(r"\s*---\s*\n(.*?)\n---\s*(?:\n|$)", readme, re.DOTALL)
    try:
        card = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        card = None
    return card if isinstance(card, dict) else {}
