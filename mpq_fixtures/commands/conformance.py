"""``mpq conformance MODULE:CLASS``: is a codec honest, and does it hold what codecs promise?"""

from __future__ import annotations

import importlib
import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpq_fixtures.codecs import IMAGE, Codec, CodecError, fault, registered
from mpq_fixtures.conformance.kit import Findings, Outcome, try_codec
from mpq_fixtures.errors import AssetError, describe_error, nearest
from mpq_fixtures.suite import SuiteError
from mpq_fixtures.suite.file import declared_codecs


def conformance(name: str, qualities: Sequence[str], streams: int) -> int:
    """Try a codec by its name or ``module:class``, write a table of what it found, and return the exit code."""
    try:
        codec = _find(name)
        for quality in qualities:
            codec.check(quality)
        codec.prepare(qualities)
        build = codec.build()
    except (AssetError, CodecError, SuiteError) as error:
        sys.stderr.write(f"mpq conformance: {error}\n")
        return 2
    except Exception as error:
        sys.stderr.write(f"mpq conformance: {name} cannot be made ready: {describe_error(error)}\n")
        return 2
    sys.stdout.write(f"{codec.name}: {build}\n")
    asked = [quality for quality in codec.ladder if quality in qualities] + [
        quality for quality in qualities if quality not in codec.ladder
    ]
    progress, started = _Progress(), time.monotonic()
    try:
        findings = try_codec(codec, asked, streams, progress.show)
    except KeyboardInterrupt:
        return 130
    finally:
        progress.clear()
    sys.stdout.write(table(findings, codec, streams, time.monotonic() - started))
    return int(bool(findings.broken))


def table(findings: Findings, codec: Codec, streams: int, seconds: float) -> str:
    """Return what was found, for people: the ladder, every check, and a sentence at the end."""
    image = codec.modality is IMAGE
    unit, metric = ("bits/pixel", "PSNR dB") if image else ("bits/sample", "SI-SDR dB")
    lines = []
    if findings.rungs:
        lines.append(f"\n  {'quality':12} {'bytes':>8} {unit:>12}{'' if image else '   kbit/s'} {metric:>10}")
    for rung in findings.rungs:
        kbps = "" if rung.kbps is None else f"{rung.kbps:9.1f}"
        lines.append(f"  {rung.quality:12} {rung.bytes:8,} {rung.rate:12.3f}{kbps} {rung.fidelity:10.2f}")
    lines.append("")
    for outcome in findings.outcomes:
        lines += _row(outcome, streams)
    count, broken = len(findings.outcomes), findings.broken
    verdict = f"{len(broken)} of {count} checks failed: {', '.join(broken)}" if broken else f"passed all {count} checks"
    return "\n".join([*lines, "", f"{findings.codec} {verdict} ({seconds:.0f} s)", ""])


def _row(outcome: Outcome, streams: int) -> list[str]:
    name, meaning = outcome.check.name, outcome.check.meaning
    if name == "damage" and not streams:
        return [f"  not tried  {name:19} {meaning}"]
    if name == "damage":
        meaning = f"{streams:,} {meaning}"
    if outcome.faults is None:
        return [f"  not tried  {name:19} {meaning}"]
    if not outcome.faults:
        return [f"  passed     {name:19} {meaning}"]
    width = max(60, shutil.get_terminal_size((120, 24)).columns - 33)
    told_as = [line for sentence in outcome.faults for line in textwrap.wrap(sentence, width, subsequent_indent="  ")]
    return [f"  FAILED     {name:19} {told_as[0]}", *(" " * 33 + line for line in told_as[1:])]


def _find(name: str) -> Codec:
    """Return an instance of the codec that ``name`` names; raises `AssetError` or `CodecError`."""
    module, _, attribute = name.rpartition(":")
    if not module:
        known = registered()
        if name not in known:
            ways = "write MODULE:CLASS for a class, SUITE.toml:NAME for one behind commands"
            raise AssetError(f"no codec is called {name!r}{nearest(name, known)}; {ways}")
        return known[name]()
    if module.endswith(".toml"):
        try:
            declared = declared_codecs(Path(module))
        except OSError as error:
            raise AssetError(f"{module}: {error.strerror}") from None
        if attribute not in declared:
            raise AssetError(f"{module} declares no codec {attribute!r}{nearest(attribute, declared)}")
        return declared[attribute]
    found: Any = _import(module)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise AssetError(f"{name}: {module} has no {attribute!r}")
        found = getattr(found, part)
    if not isinstance(found, type) or not issubclass(found, Codec):
        raise AssetError(f"{name} is no codec: it must be a subclass of mpq_fixtures.codecs.Codec")
    if not hasattr(found, "name"):
        raise AssetError(f"{name} has no name: give the class a name, a modality and a ladder")
    if wrong := fault(found):
        raise AssetError(f"codec {name}: {wrong}")
    return found()


def _import(module: str) -> Any:
    """Import a module by its name or its file; the working directory is looked into too."""
    file = Path(module)
    if file.suffix == ".py":
        if not file.is_file():
            raise AssetError(f"{module}: there is no such file")
        sys.path.insert(0, str(file.resolve().parent))
        module = file.stem
    else:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise AssetError(f"{module} does not import: {describe_error(error)}") from error


class _Progress:
    """One line on the terminal that says which check is under way; nothing where the error stream is none."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._written = 0.0

    def show(self, check: str, detail: str) -> None:
        now = time.monotonic()
        if not self._shown or (detail and now - self._written < 0.2):
            return
        self._written = now
        sys.stderr.write(f"\r\x1b[K{check}{f': {detail}' if detail else ''} ...")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
