"""The options of a run, from the command line, the environment and the ini file."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from mpq_fixtures.codecs import CodecError
from mpq_fixtures.errors import AssetError, nearest
from mpq_fixtures.paths import expanded
from mpq_fixtures.plain_text import plain
from mpq_fixtures.suite import Case, Evaluation, SuiteError
from mpq_fixtures.suite.file import check_unique, find_suite, load_suite

LOCAL, RAY = "local", "ray"
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
SUITES = Path("evaluations", "suites")
"""Where named suites lie, from the root of the project; their baselines lie beside that folder."""


@dataclass(frozen=True)
class Options:
    """What a run was asked to do."""

    suites: list[str]
    evaluations: list[Evaluation]
    samples: int | None
    device: str
    cache: Path | str
    out: Path
    baselines: Path | None
    update_baselines: str
    strict: bool
    cases: tuple[str, ...] = ()
    history: Path = Path("reports/history")
    engine: str = LOCAL
    ray_address: str = LOCAL

    def selects(self, case: Case) -> bool:
        """Tell whether ``--mpq-case`` takes a case; without it, all are taken."""
        return not self.cases or any(fnmatchcase(case.id, glob) for glob in self.cases)

    def baselines_of(self, evaluation: Evaluation) -> Path:
        """Return the folder of an evaluation's baselines: the one that was given, or else ``baselines`` beside its suite's file.

        Those of the suites in ``evaluations/suites`` lie in ``evaluations/baselines``.
        """
        return self.baselines or baselines_beside(evaluation)


def baselines_beside(evaluation: Evaluation) -> Path:
    """Return the folder of an evaluation's baselines where nobody gave another."""
    folder = evaluation.folder
    named = folder.parts[-len(SUITES.parts) :] == SUITES.parts
    return (folder.parent if named else folder) / "baselines"


def add_options(parser: pytest.Parser) -> None:
    """Add the options and their twins in the ini file."""
    group = parser.getgroup("mpq", "machine perceptual quality")

    def add(name: str, help: str, ini_type: Any = "string", **settings: Any) -> None:
        group.addoption(f"--mpq-{name}", dest=f"mpq_{name.replace('-', '_')}", default=None, help=help, **settings)
        parser.addini(f"mpq_{name.replace('-', '_')}", f"as --mpq-{name}", type=ini_type)

    add("suite", "suite to run: a name in evaluations/suites or a TOML file; repeatable (default: pocket)", "args",
        action="append", metavar="NAME|FILE.toml")  # fmt: skip
    add("case", "run the cases whose whole id fits, such as '*-jpeg-q5'; repeatable (default: all; -k jpeg-q5 takes jpeg-q50 too)",
        "args", action="append", metavar="GLOB")  # fmt: skip
    add("samples", "at most N samples an evaluation: a seeded choice, the same everywhere, a smaller one inside a larger (default: all)",
        type=_parse_samples, metavar="N")  # fmt: skip
    add("device", "auto, cpu, cuda, cuda:1 or mps; workers take different GPUs where there are several (default: auto)",
        type=parse_device, metavar="NAME")  # fmt: skip
    add("cache", "the store of bitstreams, predictions and statistics: a folder, or a URL: s3://bucket/prefix, gs://..., or file:///... "
        "for a folder that machines share (default: $MPQ_CACHE or the user's cache folder)", metavar="DIR|URL")  # fmt: skip
    add("out", "where the results land (default: reports/latest)", metavar="DIR")
    add(
        "history",
        "where every run leaves its figures and verdicts, for mpq history and the report (default: reports/history)",
        metavar="DIR",
    )
    add("baselines", "the approved records (default: baselines beside a suite's file; evaluations/baselines for a named suite)",
        metavar="DIR")  # fmt: skip
    add("update-baselines", "approve what was measured: all of it, or only cases that have no baseline; others are kept (default: off)",
        nargs="?", const="all", type=_parse_update, metavar="new|all")  # fmt: skip
    add("engine", "what spreads the work: local, over pytest's workers (-n), or ray, over a Ray cluster's (default: local)",
        type=_parse_engine, metavar="local|ray")  # fmt: skip
    add("ray-address", "the cluster of --mpq-engine ray: HOST:PORT of its head, auto, or local for one on this machine (default: local)",
        metavar="ADDRESS")  # fmt: skip
    add("strict", "a skipped case, a missing baseline or a case that did not run fails", "bool", action="store_true")


def read_options(config: pytest.Config) -> Options:
    """Return the run's options; raise `pytest.UsageError` for one that cannot be."""
    suites = config.getoption("mpq_suite") or [_from_ini_file(name, config.rootpath) for name in config.getini("mpq_suite")]
    samples, device = _given(config, "samples"), _given(config, "device")
    update = _given(config, "update_baselines")
    engine = _given(config, "engine")
    try:
        engine = _parse_engine(engine) if engine else LOCAL
        samples = _parse_samples(samples) if isinstance(samples, str) else samples
        device = parse_device(device) if device else "auto"
        update = _parse_update(update) if update else ""
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"{config.inipath}: {error}") from None
    if update and samples is not None:
        raise pytest.UsageError("--mpq-update-baselines: a baseline holds every sample of its suite; run it without --mpq-samples")
    if engine == RAY and (config.getoption("numprocesses", None) or config.getoption("dist", "no") != "no"):
        raise pytest.UsageError("--mpq-engine ray: pytest stays alone in front of Ray's workers: leave out -n, or give -n 0")
    if engine != RAY and config.getoption("mpq_ray_address"):
        raise pytest.UsageError("--mpq-ray-address: no cluster is asked without --mpq-engine ray: add that, or leave the address out")
    root = config.rootpath
    evaluations = _evaluations(suites, root)
    globs = tuple(config.getoption("mpq_case") or config.getini("mpq_case"))
    for glob in globs:
        if not any(fnmatchcase(case.id, glob) for evaluation in evaluations for case in evaluation.cases):
            ids = [case.id for evaluation in evaluations for case in evaluation.cases]
            raise pytest.UsageError(f"--mpq-case: no case is called {glob!r}; {_like(glob, ids)}")
    try:
        cache = store_location(config.getoption("mpq_cache"), config.getini("mpq_cache"), root)
        out, baselines, history = (_folder(config, name, root) for name in ("out", "baselines", "history"))
    except AssetError as error:
        raise pytest.UsageError(str(error)) from None
    return Options(
        suites=suites or ["pocket"],
        evaluations=evaluations,
        samples=samples,
        device=device if config.option.collectonly or engine == RAY else available(device),  # Ray's devices are elsewhere
        cache=cache,
        out=out or root / "reports" / "latest",
        baselines=baselines,
        update_baselines=update,
        strict=bool(_given(config, "strict")),
        cases=globs,
        history=history or root / "reports" / "history",
        engine=engine,
        ray_address=_given(config, "ray_address") or LOCAL,
    )


def store_location(given: str | None, ini: str = "", root: Path | None = None) -> Path | str:
    """Return the store's folder or URL: the one that was given, ``MPQ_CACHE``, the ini file's, relative to ``root``, or the user's.

    Raises `AssetError` for the home of nobody.
    """
    here = given or os.environ.get("MPQ_CACHE")
    place = here or ini or str(user_cache())
    if "://" in place:
        return place
    folder = expanded(place)
    return folder if here or root is None else root / folder


def store_folder(location: Path | str) -> Path | None:
    """Return the folder in which a store lies, also one that is given as ``file:///...``; None where it is on no disk of this machine."""
    if "://" not in str(location):
        return Path(location)
    scheme, _, path = str(location).partition("://")
    return Path(path) if scheme in ("file", "local") else None


def user_cache() -> Path:
    """Return the store's folder where nothing says otherwise."""
    return Path(platformdirs.user_cache_dir("mpq", appauthor=False))


def _given(config: pytest.Config, name: str) -> Any:
    value = config.getoption(f"mpq_{name}")
    return value if value not in (None, False) else config.getini(f"mpq_{name}") or None


def _from_ini_file(suite: str, root: Path) -> str:
    """Return a suite of the ini file; a TOML file is relative to the ini file, not to where the user stands."""
    return str(root / suite) if suite.endswith(".toml") else suite


def _folder(config: pytest.Config, name: str, root: Path) -> Path | None:
    """A folder on the command line is relative to where the user stands, one in the ini file to the ini file; None where neither says."""
    if given := config.getoption(f"mpq_{name}"):
        return expanded(given).absolute()
    given = config.getini(f"mpq_{name}")
    return root / expanded(given) if given else None


def _evaluations(suites: list[str], root: Path) -> list[Evaluation]:
    folder = root / SUITES
    if not suites and not (folder / "pocket.toml").is_file():
        return []  # a project that uses the fixtures and has no suites of its own
    try:
        evaluations = [evaluation for name in suites or ["pocket"] for evaluation in load_suite(find_suite(name, folder))]
        check_unique(evaluations)
    except CodecError as error:
        raise pytest.UsageError(plain(error, lines=True)) from None
    except SuiteError as error:
        raise pytest.UsageError(plain(f"--mpq-suite: {error}", lines=True)) from None
    return evaluations


def _like(glob: str, ids: list[str]) -> str:
    """Name some ids that are near to a pattern."""
    close = difflib.get_close_matches(glob, ids, n=3, cutoff=0.4) or ids[:3]
    return f"there are {len(ids)}, such as {', '.join(close)}"


def _parse_samples(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of samples: give a whole number above 0")
    return int(text)


def parse_device(text: str) -> str:
    """Return a device of the command line; raises `argparse.ArgumentTypeError` for what is none."""
    if _DEVICE.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(f"unknown device {text!r}{nearest(text, ['auto', 'cpu', 'cuda', 'cuda:1', 'mps'], cutoff=0.3)}")


def _parse_update(text: str) -> str:
    if text in ("new", "all"):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is neither 'new' nor 'all'; write --mpq-update-baselines=all, with the equals sign")


def _parse_engine(text: str) -> str:
    if text in (LOCAL, RAY):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is neither {LOCAL!r} nor {RAY!r}")


def available(device: str) -> str:
    """Return a device that was asked for by name only when it is there; this alone imports torch before anything runs."""
    if device.startswith("cuda"):
        import torch

        count = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= count:
            raise pytest.UsageError(f"--mpq-device: no {device} here; torch {torch.__version__} sees {count} CUDA devices; use auto or cpu")
    if device == "mps":
        import torch

        if not torch.backends.mps.is_available():
            raise pytest.UsageError("--mpq-device: no mps here; use auto or cpu")
    return device
