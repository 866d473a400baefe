"""Where results come from: what can change under a run, so that a figure that moved can be traced to what moved with it.

`provenance` is what ``results.json`` says, `facts` the same as flat texts that can be compared one by one.
Nothing heavy is imported to be asked: what this process has not loaded, its workers tell (`loaded_libraries` in their accounts).
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures import DISTRIBUTION, signals
from mpq_fixtures.options import Options
from mpq_fixtures.record import Record
from mpq_fixtures.results.history import this_host
from mpq_fixtures.statistics import resampling
from mpq_fixtures.suite import Evaluation

PACKAGES = (
    DISTRIBUTION, "ai-edge-litert", "av", "cdpam", "datasets", "demucs", "imageio-ffmpeg", "jiwer", "lc3py", "museval", "numpy", "pandas",
    "pesq", "pillow", "pillow-heif", "pillow-jxl-plugin", "pyarrow", "pydub", "pystoi", "pytest", "pytest-xdist", "safetensors",
    "scikit-image", "scikit-learn", "scipy", "soundfile", "tokenizers", "torch", "torchmetrics", "transformers", "visqol-python",
    "whisper-normalizer", "xxhash",
)  # fmt: skip
_PILLOWS = {
    "libjpeg_turbo": "libjpeg-turbo",
    "webp": "libwebp",
    "avif": "libavif",
    "jpg_2000": "openjpeg",
    "zlib_ng": "zlib-ng",
    "zlib": "zlib",
    "libtiff": "libtiff",
}
"""What `PIL.features` calls the libraries behind Pillow that decide pixels or bytes, and what they are called elsewhere."""

_TORCHS = {"MKL": r"Math Kernel Library Version (\S+)", "oneDNN": r"MKL-DNN v(\S+)"}

OWNERS = {
    **dict.fromkeys(_PILLOWS.values(), "pillow"),
    **dict.fromkeys(("libavcodec", "libavformat", "libavutil", "libswresample", "libswscale"), "av"),
    "libsndfile": "soundfile",
    "BLAS": "numpy",
    **dict.fromkeys((*_TORCHS, "torch build"), "torch"),
}
"""The package that brings each library."""


def provenance(
    options: Options, records: Sequence[Record], config: pytest.Config, loaded: Iterable[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Return what ``results.json`` says of where a run's figures come from; see ``reports/README.md``.

    ``loaded`` is what `loaded_libraries` said in each of the run's workers.
    """
    chosen = {
        "suite": options.suites,
        "samples": options.samples,
        "device": options.device,
        "update_baselines": options.update_baselines,
        "strict": options.strict,
        "baselines": {evaluation.suite: _below(options.baselines_of(evaluation), config.rootpath) for evaluation in options.evaluations},
        "history": str(options.history),
        "chosen": list(options.cases) + ([f"-k {keyword}"] if (keyword := config.getoption("keyword", "")) else []),
    }
    command = ["pytest", *config.invocation_params.args]
    return origin_of(records, options.evaluations, command, config.rootpath, options.device, chosen, loaded)


def origin_of(
    records: Sequence[Record],
    evaluations: Iterable[Evaluation],
    command: Sequence[str],
    root: Path,
    device: str,
    options: Mapping[str, Any],
    loaded: Iterable[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return `provenance` for whatever command made the records, in the project's folder ``root`` and with these options."""
    known = {evaluation.name: evaluation for evaluation in evaluations}
    asked: dict[str, Any] = {"libraries": {}, "settings": {}}
    for one in (*loaded, loaded_libraries()):
        asked = {part: known | one.get(part, {}) for part, known in asked.items()}
    models, metrics, data, code = {}, {}, {}, {}
    for record in records:
        evaluation = known[record.evaluation]
        parts = record.parts.get("model", {})
        models[record.evaluation] = {
            "source": record.model,
            "fingerprint": record.fingerprint,
            "options": dict(evaluation.model_options),
            **parts,
        }
        main = record.metrics[record.metric]
        metrics[record.evaluation] = {
            "name": record.metric,
            "version": main.version,
            "settings": main.settings,
            **record.parts.get("metric", {}),
        }
        data[record.evaluation] = dict(evaluation.dataset)
        if "codec" in record.parts:
            code[record.codec] = record.parts["codec"]
    return {
        "command": list(command),
        "version": version(DISTRIBUTION),
        "commit": _commit(root),
        "python": platform.python_version(),
        "machine": {
            "host": this_host(),
            "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}".rstrip(", "),
            "processor": _processor(),
            "instruction_set": _instruction_set(),
            **asked["settings"],
        },
        "device": ", ".join(sorted({record.device for record in records})) or device,
        "packages": _versions(code.values()),
        "libraries": asked["libraries"],
        "codecs": {record.codec: record.build for record in records if record.build},
        "code": code,
        "models": models,
        "metrics": metrics,
        "data": data,
        "options": dict(options),
        "seeds": {"samples": signals.SEED, "bootstrap": resampling.SEED},
    }


def _below(folder: Path, root: Path) -> str:
    """Return a folder of the project from its root on, since the results may be read in another checkout; any other as it is."""
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder)


def loaded_libraries() -> dict[str, dict[str, str]]:
    """Return the versions of the shared ``libraries`` behind what this process has loaded, and the ``settings`` that it computes with."""
    libraries: dict[str, str] = {}
    settings: dict[str, str] = {}
    if "PIL" in sys.modules:
        from PIL import features

        libraries |= {name: found for feature, name in _PILLOWS.items() if (found := features.version(feature))}
    if "av" in sys.modules:
        from av._core import library_meta

        libraries |= {name: ".".join(map(str, about["version"])) for name, about in library_meta.items() if name in OWNERS}
    if (soundfile := sys.modules.get("soundfile")) is not None:
        libraries["libsndfile"] = soundfile.__libsndfile_version__
    if (numpy := sys.modules.get("numpy")) is not None:
        blas = numpy.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
        libraries["BLAS"] = f"{blas.get('name')} {blas.get('version')}"
    if (torch := sys.modules.get("torch")) is not None:
        shown = torch.__config__.show()
        libraries |= {name: match[1] for name, pattern in _TORCHS.items() if (match := re.search(pattern, shown))}
        libraries["torch build"] = f"{torch.__version__} {torch.version.git_version[:12]}"
        settings = {
            "torch_instruction_set": torch.backends.cpu.get_cpu_capability(),
            "torch_threads": str(torch.get_num_threads()),
            "float32_products": torch.get_float32_matmul_precision(),
        }
    return {"libraries": libraries, "settings": settings}


def facts(provenance: Mapping[str, Any], evaluation: str = "", codec: str = "") -> dict[str, str]:
    """Return a run's provenance as texts by name, those of an evaluation and a codec where they are given, else of all.

    A name says first what kind of thing it is: ``package pillow``, ``library libwebp``, ``machine processor``, ``codec build``,
    ``model weights``, ``metric setting normaliser``, ``data split``; over a whole run the evaluation's or the codec's name stands in
    front: ``vit_pocket: model weights``. What is flat already is returned as it stands.
    """
    if all(isinstance(value, str) for value in provenance.values()) and not {"python", "version"} <= provenance.keys():
        return dict(provenance)
    found = {"python": provenance.get("python"), "mpq version": provenance.get("version"), "mpq commit": provenance.get("commit")}
    found |= {f"package {name}": value for name, value in provenance.get("packages", {}).items() if name not in ("mpq", DISTRIBUTION)}
    found |= {f"library {name}": value for name, value in provenance.get("libraries", {}).items()}
    found |= {f"machine {name.replace('_', ' ')}": value for name, value in provenance.get("machine", {}).items()}
    found["machine device"] = provenance.get("device")
    for kind, wanted in (("models", evaluation), ("metrics", evaluation), ("data", evaluation), ("codecs", codec), ("code", codec)):
        for name, about in provenance.get(kind, {}).items():
            if wanted in ("", name) and (wanted or not (evaluation or codec)):
                found |= {("" if wanted else f"{name}: ") + fact: value for fact, value in _facts_of(kind, about).items()}
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def _facts_of(kind: str, about: Any) -> dict[str, Any]:
    if kind == "codecs":
        return {f"codec build {name}": rest for name, rest in _elements(about)}
    if kind == "code":
        return {"codec code": about.get("code"), "codec packages": " ".join(about.get("packages", {}))}
    if kind == "data":
        return {f"data {name}": value for name, value in about.items()}
    word = kind.removesuffix("s")
    nested = {"options": "option", "settings": "setting", "packages": "package"}
    found = {f"{word} {name}": value for name, value in about.items() if name not in nested}
    for name, one in nested.items():
        found |= {f"{word} {one} {key}": value for key, value in about.get(name, {}).items()}
    return found


def _elements(build: str) -> list[tuple[str, str]]:
    """Return name and version of each library that a codec's build names: ``pillow 12.0.0, libjpeg-turbo 3.1 (libjpeg-1f.so)``."""
    parts = re.split(r", (?![^(]*\))", build)
    return [(name, rest) if rest else ("", name) for part in parts for name, _, rest in [part.partition(" ")]]


def _versions(code: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the versions of the packages that decide something and are installed, with those that the run's codecs import."""
    named = {name for one in code for name in one.get("packages", {})}
    return {name: found for name in dict.fromkeys((*PACKAGES, *sorted(named))) if (found := _version(name))}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@cache
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


def _instruction_set() -> str:
    """Return the widest instructions that numpy found here and takes, such as ``X86_V3``, which holds AVX2."""
    import numpy as np

    extensions: Mapping[str, Any] = np.show_config(mode="dicts").get("SIMD Extensions", {})
    known = [*extensions.get("baseline", ()), *extensions.get("found", ())]
    return str(known[-1]) if known else platform.machine()
