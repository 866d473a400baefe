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

_LOOKED_AT = 10
"""Samples of which one must be read, encoded and decoded; where none is the case fails by that, and nothing is kept."""
_SIDE, _SECONDS = 512, 4.0
"""Pixels a side and seconds of a sample that are audited: honesty does not depend on the size."""


def audited(case: Case, codec: Codec, dataset: Dataset, resources: Resources) -> list[str]:
    """Return what is dishonest about a case's codec, see `mpq_fixtures.conformance.audit`; the first to ask finds it out for all.

    Where nothing could be tried the next one to ask, perhaps with other data, tries again.
    """
    qualities = case.siblings()
    key = key_of(codec=codec.fingerprint(), qualities=qualities, audit=2)
    with resources.store.lock(AUDIT, key):
        kept = resources.store.get(AUDIT, key)
        if kept is None:
            with resources.clock.step("audit"):
                found = audit(codec, qualities, _signals(dataset))
            if found is None:
                return []
            kept = json.dumps(found).encode()
            resources.store.put(AUDIT, key, kept)
    faults: list[str] = json.loads(kept)
    return faults


def _signals(dataset: Dataset) -> Iterator[Signal]:
    """Yield the beginnings of those of the first samples that can be read."""
    for sample in dataset.samples[:_LOOKED_AT]:
        try:
            signal = sample.signal()
        except Exception:  # which the sample's own failure tells
            continue
        yield _beginning(signal)


def _beginning(signal: Signal) -> Signal:
    if isinstance(signal, Image):
        return Image(signal.pixels[:_SIDE, :_SIDE])
    return Audio(signal.waveform[:, : round(_SECONDS * signal.sample_rate)], signal.sample_rate)
