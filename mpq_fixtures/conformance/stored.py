"""The audit of a codec that every run relies on, made once a store for each build of a codec and kept there."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mpq_fixtures.codecs import Codec
from mpq_fixtures.conformance.audit import audit
from mpq_fixtures.resources import Resources
from mpq_fixtures.signals import Audio, Dataset, Image, Signal
from mpq_fixtures.store import AUDIT, key_of
from mpq_fixtures.suite import Case

SAMPLES = 2
_TRIED = 10  # samples that are looked at before one can be read
_SIDE, _SECONDS = 512, 4.0
"""Pixels a side and seconds of a sample that are audited: honesty does not depend on the size."""


def audited(case: Case, codec: Codec, dataset: Dataset, resources: Resources) -> list[str]:
    """Return what is dishonest about a case's codec, see `mpq_fixtures.conformance.audit`; the first to ask finds it out for all."""
    qualities = case.siblings()
    key = key_of(codec=codec.fingerprint(), qualities=qualities, audit=1)
    with resources.store.lock(AUDIT, key):
        kept = resources.store.get(AUDIT, key)
        if kept is None:
            with resources.clock.step("audit"):
                kept = json.dumps(audit(codec, qualities, list(_signals(dataset)))).encode()
            resources.store.put(AUDIT, key, kept)
    faults: list[str] = json.loads(kept)
    return faults


def _signals(dataset: Dataset) -> Iterator[Signal]:
    """Yield the beginnings of the first samples that can be read."""
    found = 0
    for sample in dataset.samples[:_TRIED]:
        try:
            signal = sample.signal()
        except Exception:  # which the sample's own failure tells
            continue
        yield _beginning(signal)
        found += 1
        if found == SAMPLES:
            return


def _beginning(signal: Signal) -> Signal:
    if isinstance(signal, Image):
        return Image(signal.pixels[:_SIDE, :_SIDE])
    return Audio(signal.waveform[:, : round(_SECONDS * signal.sample_rate)], signal.sample_rate)
