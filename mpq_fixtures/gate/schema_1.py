"""Baseline files of schema 1: the cases that an older mpq approved, as far as it kept them, and their way into a file of today."""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mpq_fixtures.gate.baseline_cases import SampleSet, restored
from mpq_fixtures.gate.baseline_files import BaselineError, empty, load, parsed, write
from mpq_fixtures.gate.baselines import merge, why_not
from mpq_fixtures.gate.measured import Measured
from mpq_fixtures.metrics import Statistic

PROVENANCE = {"note": "approved when baselines did not say yet by what; migrated from schema 1"}


def migrate_baselines(file: Path) -> int:
    """Write a file of schema 1 anew in place, and return how many cases it has; 0 where it is of this schema already.

    Raises `BaselineError`, and leaves the file as it is, where it is damaged or shows figures that do not follow from its samples: no
    case is ever dropped; OSError where it cannot be written.
    """
    old = parsed(file)
    if not isinstance(old, dict) or old.get("schema") != 1:
        load(file)
        return 0
    content = empty()
    try:
        if not isinstance(old.get("cases"), dict):
            raise ValueError("it has no cases")
        measured = _cases(file, old)
        if broken := [f"{one.point}: {reason}" for one in measured if (reason := why_not(one))]:
            raise ValueError(broken[0])
    except ValueError as error:
        raise BaselineError(
            f"{file}: {error}: not a baseline file of schema 1; restore it from version control and migrate again"
        ) from error
    merge(file, content, measured, list(old["cases"]), only_new=False, when="")
    sets: dict[str, SampleSet] = {}
    for point in content["cases"]:
        restored(file, content, point, sets)
    write(file, content)
    return len(measured)


def _cases(file: Path, content: dict[str, Any]) -> list[Measured]:
    """Return the cases in a file's content; raises `ValueError`, with the case and what is wrong with it.

    What schema 1 did not keep is not known: the samples' sources, links and similarity, the metric's settings, when it was approved.
    """
    measured = []
    for point, case in content["cases"].items():
        try:
            samples = list(map(str, case.get("ids") or content["samples"]))
            counts = np.stack(_unpack(case["counts"])).astype(np.int64)
            statistics = _unpack(case["statistics"])
            if not len(samples) == len(counts) == len(statistics) == case["samples"]:
                raise ValueError(f"{len(samples)} samples, {len(counts)} counts and {len(statistics)} statistics")
            one = Measured(
                case=f"{file.stem}-{point}",
                suite=file.parent.name,
                evaluation=file.stem,
                metric=case["metric"],
                version=case["version"],
                settings=None,
                samples=samples,
                sources=[""] * len(samples),
                groups=[""] * len(samples),
                statistics=statistics,
                bytes=counts[:, 0],
                elements=counts[:, 1],
                similarity={},
                links={},
                value=float(case["value"]),
                provenance=PROVENANCE,
            )
            if not abs(one.rate - case["rate"]) <= 1e-6:
                raise ValueError(f"shows rate {case['rate']}, and its samples give {one.rate:.6g}")
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{point}: {error}") from error
        measured.append(one)
    return measured


def _unpack(text: str) -> list[Statistic]:
    """Return what schema 1 packed: a line of JSON with type and shapes, then the numbers' first bytes, their second, and so on."""
    try:
        header, _, data = zlib.decompress(base64.b85decode(text)).partition(b"\n")
    except (TypeError, zlib.error, binascii.Error) as error:
        raise ValueError(f"its numbers are damaged: {error}") from error
    fields = json.loads(header)
    kind, shapes = np.dtype(fields["type"]), [tuple(shape) for shape in fields["shapes"]]
    planes = np.frombuffer(data, np.uint8).reshape(kind.itemsize, -1)
    numbers = np.ascontiguousarray(planes.T).view(kind).ravel().astype(np.float64)
    ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=np.int64)
    if len(numbers) != (ends[-1] if len(ends) else 0):
        raise ValueError(f"{len(numbers)} numbers for the shapes {shapes}")
    return [part.reshape(shape) for part, shape in zip(np.split(numbers, ends[:-1]), shapes, strict=bool(shapes))]
