"""What may have moved a layer: the weights, versions and settings that changed among those that it depends on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, SIGNAL, SOURCE, STATISTIC
from mpq_fixtures.gate.measured import Measured
from mpq_fixtures.results.provenance import OWNERS, facts

_OWN = {
    BITSTREAM: ("codec code", "codec build"),
    DECODED: ("codec code", "codec build"),
    GIVEN: ("model preprocessing", "model processor", "model code"),
    ANSWER: ("model weights", "model code", "model configuration", "model option", "model source"),
    STATISTIC: ("metric name", "metric version", "metric setting"),
    SOURCE: ("data",),
    SIGNAL: (),
}
"""What a layer is made of: the beginnings of the names of `facts`, most specific first."""
_PACKAGES = {
    SOURCE: ("datasets", "pyarrow", "scikit-image"),
    SIGNAL: ("pillow", "soundfile", "av", "scikit-image", "numpy"),
    GIVEN: ("transformers", "tokenizers", "pillow", "scipy", "numpy", "demucs", "torch"),
    ANSWER: ("torch", "transformers", "demucs", "safetensors", "tokenizers"),
    STATISTIC: ("jiwer", "whisper-normalizer", "scikit-learn", "museval", "scipy", "numpy"),
}
"""The packages that may move a layer; those of a codec its sources tell."""
_COMPUTING = ("machine torch", "machine float32", "machine device", "machine instruction", "machine processor")
_ANY = ("machine instruction", "machine processor", "machine system", "python", "mpq version", "mpq commit")
_SILENT = ("weights", "processor", "configuration", "code")
"""Parts that are known by a digest, which tells a reader nothing."""
NOTHING = "nothing that is recorded changed"
_WORDS = {"processor": "preprocessor's configuration", "configuration": "model's configuration", "code": "code"}


def suspects_of(layer: str, before: Measured, after: Measured) -> list[str]:
    """Return what changed between two measurements of a case among the things that can move the layer; see `suspects`."""
    old, new = (_facts(measured) for measured in (before, after))
    return suspects(layer, old, new)


def suspects(layer: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return what changed among the things that can move a layer, from the `facts` of two runs, most specific first.

    ``pillow 12.0.0 -> 13.0.0``, ``weights``, ``normaliser none -> whisper_english``. Where nothing did, the one entry says what was
    looked at; there is none where one of the runs recorded nothing.
    """
    if not before or not after:
        return []
    names = _relevant(layer, before, after)
    found = [text for name in names if (text := _change(name, before, after))]
    if found:
        return list(dict.fromkeys(found))
    looked = [_label(name) if _is_silent(name) else f"{_label(name)} {after[name]}" for name in names if name in after]
    return [f"{NOTHING}: {', '.join(looked[:8])}{' and others' if len(looked) > 8 else ''}"]


def changed(layer: str, before: Measured, after: Measured, own: bool = False) -> list[str]:
    """Return what changed among the things that can move a layer; with ``own`` only among those that it is made of itself."""
    old, new = _facts(before), _facts(after)
    names = _relevant(layer, old, new)
    chosen = [name for name in names if not own or any(name.startswith(start) for start in _OWN[layer])]
    return list(dict.fromkeys(text for name in chosen if (text := _change(name, old, new))))


def suspicion(found: Sequence[str]) -> str:
    """Say what `suspects` found in a few words: the first three, and how many more."""
    if found[0].startswith(NOTHING):
        return found[0]
    shown = [*found[:3], *([f"{len(found) - 3} more"] if len(found) > 3 else [])]
    return f"suspect{'s' if len(found) > 1 else ''}: {', '.join(shown)}"


def _facts(measured: Measured) -> dict[str, str]:
    """Return the facts of a case; what the measurement itself says of its metric comes before what its provenance does."""
    codec = measured.point.partition("-")[0]
    found = facts(measured.provenance, measured.evaluation, codec)
    found |= {f"metric setting {name}": str(value) for name, value in (measured.settings or {}).items()}
    return found | {"metric name": measured.metric, "metric version": str(measured.version)}


def _relevant(layer: str, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Return the names of the facts that can move a layer, most specific first."""
    is_codec = layer in (BITSTREAM, DECODED)
    packages = tuple({**before, **after}.get("codec packages", "").split()) if is_codec else _PACKAGES[layer]
    groups = {GIVEN: "model package", ANSWER: "model package", STATISTIC: "metric package"}
    starts = [*_OWN[layer], *([groups[layer]] if layer == STATISTIC else [])]
    named = {name.removeprefix("codec build ") for name in (*before, *after) if name.startswith("codec build ")}
    owned = [name for name, owner in OWNERS.items() if owner in packages and not (is_codec and owner in named)]
    starts += [*(f"package {name}" for name in packages), *(f"library {name}" for name in owned)]
    starts += [*(_COMPUTING if layer in (GIVEN, ANSWER) else ()), *_ANY]
    names = dict.fromkeys((*before, *after))
    exact = ("package ", "library ")
    return list(
        dict.fromkeys(name for start in starts for name in names if (name == start if start.startswith(exact) else name.startswith(start)))
    )


def _change(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Say how a fact changed; "" where it did not, or where one of the two records nothing of its kind."""
    if before.get(name) == after.get(name):
        return ""
    kind = name.partition(" ")[0]
    if not all(any(fact.startswith(kind) for fact in side) for side in (before, after)):
        return ""
    if kind in ("machine", "mpq", "python", "library") and not (name in before and name in after):
        return ""  # one of the two did not ask, or had not loaded it
    if _is_silent(name):
        return _label(name) if name in before and name in after else ""
    digits = 12 if name == "mpq commit" else None
    old, new = (side.get(name, "absent")[:digits] for side in (before, after))
    return f"{_label(name)} {old} -> {new}"


def _is_silent(name: str) -> bool:
    return name.partition(" ")[0] in ("model", "codec") and name.partition(" ")[2] in _SILENT


def _label(name: str) -> str:
    """Return a fact's name for people."""
    if name.startswith("data "):
        return f"data set's {name.removeprefix('data ')}"
    if _is_silent(name):
        kind, _, part = name.partition(" ")
        return f"{kind}'s code" if part == "code" else _WORDS.get(part, part)
    for start in ("codec build ", "metric setting ", "metric package ", "model option ", "package ", "library ", "machine "):
        if name.startswith(start):
            return name.removeprefix(start)
    return name
