"""Where results come from: versions, commit, machine, codec builds, models, options and seeds."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures import signals, statistics
from mpq_fixtures.options import Options
from mpq_fixtures.record import Record

_PACKAGES = (
    "mpq", "av", "datasets", "demucs", "jiwer", "numpy", "pandas", "pillow", "pillow-jxl-plugin", "pydub", "pytest",
    "pytest-xdist", "scikit-image", "scikit-learn", "scipy", "soundfile", "torch", "transformers", "whisper-normalizer",
)  # fmt: skip


def provenance(options: Options, records: Sequence[Record], config: pytest.Config) -> dict[str, Any]:
    """Return what ``results.json`` says of where a run's figures come from; see ``reports/README.md``."""
    model_options = {evaluation.name: dict(evaluation.model_options) for evaluation in options.evaluations}
    return {
        "command": ["pytest", *config.invocation_params.args],
        "version": version("mpq"),
        "commit": _commit(config.rootpath),
        "python": platform.python_version(),
        "machine": {"system": platform.platform(), "processor": _processor()},
        "device": ", ".join(sorted({record.device for record in records})) or options.device,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "codecs": {record.codec: record.build for record in records if record.build},
        "models": {
            record.evaluation: {"source": record.model, "fingerprint": record.fingerprint, "options": model_options[record.evaluation]}
            for record in records
        },
        "options": {
            "suite": options.suites,
            "samples": options.samples,
            "device": options.device,
            "update_baselines": options.update_baselines,
            "strict": options.strict,
        },
        "seeds": {"samples": signals.SEED, "bootstrap": statistics.SEED},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _commit(root: Path) -> str:
    """Return the commit of the project, with a plus when the work tree differs; empty outside of git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return described.stdout.strip()


def _processor() -> str:
    """Return the processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or sys.platform
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
