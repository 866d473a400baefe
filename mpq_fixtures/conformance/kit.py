"""Every check over one codec: what ``mpq conformance`` and the tests of codecs run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mpq_fixtures.codecs import Codec
from mpq_fixtures.conformance.checks import CHECKS, Check
from mpq_fixtures.conformance.checks.restored import fidelity
from mpq_fixtures.conformance.trial import Trial
from mpq_fixtures.errors import describe_error
from mpq_fixtures.signals import Audio

STREAMS = 1000
"""Damaged streams that a codec is tried with."""


@dataclass(frozen=True)
class Rung:
    """What a quality gave for the trial signal: bytes, bits per pixel or audio sample, kbit/s of sounds, and PSNR or SI-SDR in dB."""

    quality: str
    bytes: int
    rate: float
    kbps: float | None
    fidelity: float


@dataclass(frozen=True)
class Outcome:
    """What a check found: a sentence for each fault; None where it was not tried."""

    check: Check
    faults: list[str] | None


@dataclass(frozen=True)
class Findings:
    """What the kit found out about a codec."""

    codec: str
    rungs: list[Rung] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def broken(self) -> dict[str, list[str]]:
        """The faults by the name of the check; empty for a codec that passed."""
        return {outcome.check.name: outcome.faults for outcome in self.outcomes if outcome.faults}


def try_codec(
    codec: Codec, qualities: Sequence[str] = (), streams: int = STREAMS, progress: Callable[[str, str], None] = lambda check, detail: None
) -> Findings:
    """Try ``codec`` at ``qualities``, its ladder unless given, from the lowest rate to the highest, and with ``streams`` damaged streams.

    ``progress`` is told the check under way and how far it is. A codec that does not get a signal through is not tried further.
    """
    findings = Findings(codec.name)
    current = CHECKS[0]
    trial = Trial(codec, tuple(qualities or codec.ladder), streams, lambda detail: progress(current.name, detail))
    try:
        for current in CHECKS:
            progress(current.name, "")
            works = "round-trip" not in findings.broken
            findings.outcomes.append(Outcome(current, _faults(current, trial) if works else None))
        if "round-trip" not in findings.broken:
            findings.rungs.extend(_rung(trial, quality) for quality in trial.qualities)
    finally:
        trial.close()
    return findings


def _faults(check: Check, trial: Trial) -> list[str]:
    """Return what a check found; an exception of the codec, or of a process that serves it, is a fault too."""
    faults: list[str] = []
    try:
        faults.extend(check.faults(trial))
    except Exception as error:
        faults.append(describe_error(error))
    return faults


def _rung(trial: Trial, quality: str) -> Rung:
    original, data = trial.signals["main"], trial.data("main", quality)
    seconds = original.waveform.shape[1] / original.sample_rate if isinstance(original, Audio) else None
    try:
        near = fidelity(original, trial.decoded("main", quality))
    except ValueError:  # another shape, which has its own check
        near = float("nan")
    return Rung(quality, len(data), 8 * len(data) / original.elements, 8 * len(data) / 1000 / seconds if seconds else None, near)
