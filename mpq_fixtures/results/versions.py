"""Versions of what a run was made with: flat texts by name, and what differs between two runs in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

_NO_VERSIONS = {"command", "version", "commit", "options", "seeds"}
_WHERE_LOADED = ("libraries.", "machine.torch_", "machine.float32_")
"""What only a run tells that needed the library: one that found everything in the store says nothing of it."""

_OF_EVALUATION, _OF_CODEC = {"models": "model", "metrics": "metric", "data": "data"}, {"codecs", "code"}


def versions_of(provenance: Mapping[str, Any], evaluation: str, codecs: Iterable[str]) -> dict[str, str]:
    """Return what a run's provenance says of versions, machine, model and codecs as flat texts, for one evaluation: ``packages.av``."""

    def flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping):
            for key, one in value.items():
                yield from flat(f"{name}.{key}", one)
        elif value not in (None, "", []):
            yield name, str(value)

    found: dict[str, str] = {}
    for kind, about in provenance.items():
        if kind in _NO_VERSIONS:
            continue
        if kind in _OF_EVALUATION:
            found |= flat(_OF_EVALUATION[kind], about.get(evaluation))
        elif kind in _OF_CODEC:
            found |= flat(kind, {codec: one for codec, one in about.items() if codec in codecs})
        else:
            found |= flat(kind, about)
    found.pop("machine.host", None)
    return found


def changes_of(before: Mapping[str, str], after: Mapping[str, str], codec: str) -> dict[str, str]:
    """Say what differs between the versions of two runs that concerns a codec, by what it is called: ``pillow 12.0 -> 13.0``."""
    found: dict[str, str] = {}
    names = [name for name in sorted({*before, *after}) if _concerns(name, codec)]
    for name in sorted(names, key=lambda name: name.partition(".")[0] in _OF_CODEC):
        old, new = before.get(name, ""), after.get(name, "")
        if old != new and ((old and new) or not name.startswith(_WHERE_LOADED)):
            label = _label(name)
            if name.startswith("codecs."):
                old, new = _parts(old, new, found)
            if old or new:
                found[label] = step(label, old, new)
    return found


def _concerns(name: str, codec: str) -> bool:
    kind, _, rest = name.partition(".")
    return kind not in _OF_CODEC or rest == codec or rest.startswith(f"{codec}.")


def _label(name: str) -> str:
    kind, _, rest = name.partition(".")
    if kind in ("packages", "libraries", "codecs", "machine"):
        return rest.replace("_", " ") if kind == "machine" else rest
    if kind == "code":
        return f"{rest.partition('.')[0]} code"
    return "model" if name == "model.fingerprint" else name.replace(".", " ")


def _parts(old: str, new: str, told: Iterable[str]) -> tuple[str, str]:
    """Return what differs of two builds of a codec, and was not told as a package already."""
    split = re.compile(r", (?![^(]*\))")
    before, after = split.split(old), split.split(new)
    known = {label.lower() for label in told}
    return (
        ", ".join(part for part in before if part not in after and part.partition(" ")[0].lower() not in known),
        ", ".join(part for part in after if part not in before and part.partition(" ")[0].lower() not in known),
    )


def step(label: str, old: str, new: str) -> str:
    """Say in words that something changed, came or went; of long digests the first digits."""
    old, new = (re.sub(r"\b[0-9a-f]{12,}\b", lambda digest: digest[0][:8], text) for text in (old, new))
    if not old:
        return f"{label} {new} came"
    return f"{label} {old} -> {new}" if new else f"{label} {old} went"
