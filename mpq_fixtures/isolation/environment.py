"""The Python environment of a codec whose libraries contradict ours, made on first use.

A worker is a script with a header of inline metadata (PEP 723): ``requires-python`` and ``dependencies``, and in the table ``[tool.mpq]``
``without-dependencies``, packages that are installed in a second step without what they ask for. The environment is a `venv` in the
user's cache, or in ``MPQ_ENVIRONMENTS=FOLDER``, made by this interpreter where the script runs on it, else by another that is here or
that uv provides. Its own pip installs the packages, so that pip's configuration holds: the CPU build of torch is found where pip finds it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout
from packaging.specifiers import SpecifierSet

from mpq_fixtures.errors import AssetError, MissingAsset

_HEADER = re.compile(r"(?m)^# /// script$\n(?P<content>(?:^#(?:| .*)$\n)+)^# ///$")  # as PEP 723 has it
_COMPLETE = "complete.json"
"""The file that is written last."""

PATIENCE = 600.0
"""Seconds in which what failed is not tried again unasked: without a network pip takes its time, and every case would wait for it."""

OURS: dict[str, str | None] = dict.fromkeys(("PIP_CONSTRAINT", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"))
"""Variables that say something of our environment and must not reach another: our constraints would ask it for our numpy."""


@dataclass(frozen=True)
class Environment:
    """The environment of the worker ``script``; ``codec`` is whom it is made for, in what is said to people."""

    script: Path
    codec: str

    @property
    def folder(self) -> Path:
        """Where the environment lies: its name says what it was made for, so that another header makes another one."""
        given = os.environ.get("MPQ_ENVIRONMENTS")
        root = Path(given).expanduser() if given else Path(platformdirs.user_cache_dir("mpq", appauthor=False)) / "environments"
        made_for = json.dumps([self._header, self._version, platform.system(), platform.machine()], sort_keys=True)
        return root.resolve() / f"{self.script.stem}-{hashlib.sha256(made_for.encode()).hexdigest()[:12]}"

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def describe(self) -> str:
        """Return the packages that are asked for, for the ``build()`` of a codec."""
        return ", ".join([*self._header.get("dependencies", []), *self._without_dependencies])

    def is_made(self) -> bool:
        """Say whether the environment is here, whole, and its interpreter still there."""
        return (self.folder / _COMPLETE).is_file() and self.python.exists()

    def missing(self) -> str:
        """Say that no Python is here that could make the environment, and what brings one; "" where it is made or can be."""
        if self.is_made() or self._interpreter is not None or shutil.which("uv"):
            return ""
        return f"it runs on Python {self._requires} only, and none is on PATH: pip install uv, which brings one"

    def make(self, say: Callable[[str], None] | None = None) -> Path:
        """Return the interpreter of the environment, which is made where it is not here.

        Where several processes ask at once, one makes it and the others wait. ``say`` is told what takes time. Where it is None, nobody
        asked for the environment itself: the error stream is told, and what failed a short while ago is not tried again. Raises
        `MissingAsset` where the environment cannot be made, with pip's last word.
        """
        if self.is_made():
            return self.python
        folder, unasked, since, say = self.folder, say is None, time.time(), say or _tell
        failure = folder.with_name(f"{folder.name}.failed")
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        try:
            lock.acquire(timeout=1)
        except Timeout:
            say(f"waiting for another process, which makes the environment of {self.codec}")
            lock.acquire()
        try:
            if self.is_made():
                return self.python
            if failure.is_file() and failure.stat().st_mtime > since - (PATIENCE if unasked else 0):
                raise MissingAsset(failure.read_text(encoding="utf-8"))
            failure.unlink(missing_ok=True)
            try:
                self._make(folder, say)
            except MissingAsset as error:
                failure.write_text(str(error), encoding="utf-8")
                raise
        finally:
            lock.release()
        return self.python

    def _make(self, folder: Path, say: Callable[[str], None]) -> None:
        """Make it in its place, since an environment cannot be moved; the file that says that it is whole comes last."""
        log = folder.with_name(f"{folder.name}.log")
        say(f"making the environment of {self.codec}, once: {self.describe()}; in {folder}")
        started = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was ended amid this
        pip = [str(self.python), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        try:
            with log.open("wb") as output:
                self._run([str(self._interpreter or self._provided()), "-m", "venv", str(folder)], output.fileno(), log)
                if dependencies := self._header.get("dependencies"):
                    self._run([*pip, *dependencies], output.fileno(), log)
                if self._without_dependencies:
                    self._run([*pip, "--no-deps", *self._without_dependencies], output.fileno(), log)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        complete = {"script": self.script.name, "packages": self.describe(), "seconds": round(time.monotonic() - started, 1)}
        (folder / _COMPLETE).write_text(json.dumps(complete) + "\n", encoding="utf-8")
        say(f"made the environment of {self.codec} in {time.monotonic() - started:.0f} s")

    def _run(self, command: list[str], output: int, log: Path) -> None:
        try:
            done = subprocess.run(command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
            failed, last = done.returncode, _last_word(log)
        except OSError as error:
            failed, last = 1, str(error)
        if failed:
            raise MissingAsset(
                f"the environment of {self.codec} cannot be made: {last}; all of it is in {log}; "
                f"to try again: mpq fetch --codec {self.codec}"
            )

    @cached_property
    def _header(self) -> dict[str, Any]:
        match = _HEADER.search(self.script.read_text(encoding="utf-8"))
        if match is None:
            raise AssetError(f"{self.script} has no header '# /// script', as PEP 723 describes it")
        try:
            return tomllib.loads("".join(line[2:] if line.startswith("# ") else line[1:] for line in match["content"].splitlines(True)))
        except tomllib.TOMLDecodeError as error:
            raise AssetError(f"{self.script}: the header is not TOML: {error}") from error

    @property
    def _without_dependencies(self) -> list[str]:
        return list(self._header.get("tool", {}).get("mpq", {}).get("without-dependencies", []))

    @cached_property
    def _requires(self) -> SpecifierSet:
        return SpecifierSet(self._header.get("requires-python", ""))

    @cached_property
    def _interpreter(self) -> Path | None:
        """This interpreter where the script runs on it, else the newest on PATH that it runs on, or None."""
        if self._requires.contains(platform.python_version(), prereleases=True):
            return Path(sys.executable)
        return next((path for path, version in _interpreters() if self._requires.contains(version)), None)

    @cached_property
    def _version(self) -> str:
        """The minor version of the interpreter, or what is asked of uv."""
        if self._interpreter is None:
            return str(self._requires)
        if self._interpreter == Path(sys.executable):
            return f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
        return self._interpreter.name

    def _provided(self) -> Path:
        """Have uv bring an interpreter."""
        uv = shutil.which("uv")
        if uv is None:
            raise MissingAsset(self.missing())
        subprocess.run([uv, "python", "install", str(self._requires)], env=clean_environment(), capture_output=True, check=False)
        found = subprocess.run(
            [uv, "python", "find", str(self._requires)], env=clean_environment(), capture_output=True, text=True, check=False
        )
        if found.returncode:
            said = " ".join(found.stderr.split())
            raise MissingAsset(f"the environment of {self.codec} cannot be made: uv brings no Python {self._requires}: {said}")
        return Path(found.stdout.strip())


def clean_environment() -> dict[str, str]:
    """Return the variables without those that describe our own environment."""
    return {name: value for name, value in os.environ.items() if name not in OURS}


def _interpreters() -> Iterator[tuple[Path, str]]:
    """Yield the interpreters on PATH that can make environments, the newest first, and their versions."""
    ask = "import platform, venv, ensurepip; print(platform.python_version())"
    for minor in range(30, 7, -1):
        if (path := shutil.which(f"python3.{minor}")) is not None:
            answer = subprocess.run([path, "-c", ask], env=clean_environment(), capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                yield Path(path), answer.stdout.strip()


def _last_word(log: Path) -> str:
    """Return the last line in which pip calls something an error, else the last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["nothing was said"])[-1].rstrip(".")


def _tell(message: str) -> None:
    sys.stderr.write(f"mpq: {message}\n")
    sys.stderr.flush()
