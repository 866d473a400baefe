"""Where a codec, which is about to decode, could still find the original that it encoded."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from mpq_fixtures.codecs import Codec

_OBJECTS = 20_000  # networks are large, and an original is not hidden in their layers
_DEPTH = 8


def kept(codec: Codec, original: np.ndarray[Any, Any]) -> str:
    """Say where ``original``, or a copy of it, can be found from the codec: an attribute, a class, a global, a closure; "" where nowhere.

    Looked through are the instance, its class and bases, the globals of their modules, and what functions there enclose; in them
    containers, objects, arrays and bytes. What is kept in another form is not seen here, but does not help in a fresh process either.
    """
    raw = np.ascontiguousarray(original).tobytes()
    seen: set[int] = set()
    waiting = [(where, value, 0) for where, value in _roots(codec)]
    while waiting and len(seen) < _OBJECTS:
        where, value, depth = waiting.pop(0)
        if id(value) in seen or isinstance(value, ModuleType | str | int | float | complex | None):
            continue
        seen.add(id(value))
        if _is(value, original, raw):
            return where
        if depth < _DEPTH:
            waiting += [(f"{where}{step}", inner, depth + 1) for step, inner in _within(value)]
    return ""


def _roots(codec: Codec) -> Iterator[tuple[str, Any]]:
    for name, value in _variables(codec).items():
        yield f"the attribute {name!r} of the codec", value
    for base in type(codec).__mro__:
        if issubclass(base, Codec) and base is not Codec:
            for name, value in vars(base).items():
                yield f"{name!r} of the class {base.__name__}", value
            for name, value in vars(sys.modules[base.__module__]).items() if base.__module__ in sys.modules else ():
                yield f"the global {name!r} of the module {base.__module__}", value


def _within(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a value holds, each with the words that are added to where the value is."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]" if isinstance(key, str | int) else "[...]", inner) for key, inner in list(value.items()))
    elif isinstance(value, list | tuple | set | frozenset) or type(value).__name__ == "deque":
        yield from (("[...]", inner) for inner in list(value))
    elif isinstance(value, property):
        yield from (("", inner) for inner in (value.fget, value.fset))
    elif isinstance(value, staticmethod | classmethod | MethodType):
        yield "", value.__func__
    elif isinstance(value, FunctionType):
        names = value.__code__.co_freevars
        for name, cell in zip(names, value.__closure__ or (), strict=True):
            try:
                yield f", in its closure as {name!r}", cell.cell_contents
            except ValueError:  # nothing was put into it yet
                continue
        yield ", in its defaults", [value.__defaults__, value.__kwdefaults__]
        yield ", in its attributes", vars(value)
    elif hasattr(value, "cache_info") and hasattr(value, "__wrapped__"):
        import gc

        yield from ((", in its cache", inner) for inner in gc.get_referents(value) if isinstance(inner, dict | list | tuple))
    elif not isinstance(value, type | np.ndarray | bytes | bytearray):
        yield from ((f".{name}", inner) for name, inner in _variables(value).items())


def _variables(value: Any) -> dict[str, Any]:
    found = getattr(value, "__dict__", None)
    slots = {name: getattr(value, name) for kind in type(value).__mro__ for name in _slots(kind) if hasattr(value, name)}
    return {**(dict(found) if isinstance(found, Mapping) else {}), **slots}


def _slots(kind: type) -> tuple[str, ...]:
    slots = vars(kind).get("__slots__", ())
    return () if isinstance(slots, Mapping) else (slots,) if isinstance(slots, str) else tuple(slots)


def _is(value: Any, original: np.ndarray[Any, Any], raw: bytes) -> bool:
    if isinstance(value, np.ndarray):
        if value is original or np.may_share_memory(value, original):
            return True
        return value.size == original.size and value.dtype.kind in "iuf" and bool(np.array_equal(value.ravel(), original.ravel()))
    if isinstance(value, bytes | bytearray | memoryview):
        return raw in bytes(value)
    return False
