"""Damaged streams by the number or for as long as one likes, codec by codec: ``tox run -e fuzz -- --minutes 30``, ``--streams 10000``.

Each codec of the registry that can run here encodes a small signal at some of its qualities; streams that `damage` makes of these are
decoded in a process of limited memory and time. A seed names a stream for good, so that what is found can be kept as a test, and a round
goes on after the last one with ``--first``.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

from mpq_fixtures import codecs
from mpq_fixtures.codecs import IMAGE, Codec
from mpq_fixtures.conformance import signals
from mpq_fixtures.conformance.damage import Tally, survive
from mpq_fixtures.conformance.fresh import spread
from mpq_fixtures.errors import describe_error
from mpq_fixtures.signals import Signal

HEADINGS = ("codec", "streams", "decoded", "refused", "memory", "lost", "slowest, s", "peak, MB", "found")
"""``lost`` are streams whose process, or worker, died or took too long; ``found`` are they, and all others that ended with a fault."""


def signal_of(codec: Codec) -> Signal:
    """Return what a codec encodes here: so little that ten thousand streams take minutes, with some frames, blocks or steps of codes.

    No codec's own sample rate, so that decoders resample what they are given.
    """
    return signals.picture(64, 64, seed=3) if codec.modality is IMAGE else signals.speech(22050, 1, 0.25)


def fuzz(codec: Codec, seeds: Iterable[int], tally: Tally | None = None) -> Iterator[str]:
    """Decode damaged streams of a codec, one of each seed; yield a sentence for each that was too much.

    Refusals have to be a `ValueError`, as all codecs of this project promise.
    """
    signal = signal_of(codec)
    streams = [bytes(memoryview(codec.encode(signal, quality))) for quality in spread(tuple(codec.ladder))]
    yield from survive(codec, streams, seeds, tally=tally, refusal=ValueError)


def _seeds(first: int, streams: int | None, seconds: float) -> Iterator[int]:
    """Yield so many seeds from ``first`` on, or at least one for so many seconds from when it is asked for."""
    end = time.monotonic() + seconds
    for seed in itertools.count(first):
        if seed > first and (time.monotonic() > end if streams is None else seed >= first + streams):
            return
        yield seed


class _Progress:
    """Shows on a terminal how many streams of a codec are done, a few times a minute elsewhere."""

    def __init__(self, name: str) -> None:
        self._name, self._next, self._terminal = name, time.monotonic() + 1, sys.stderr.isatty()

    def over(self, seeds: Iterator[int]) -> Iterator[int]:
        """Yield ``seeds``, saying how many were."""
        for done, seed in enumerate(seeds):
            if time.monotonic() > self._next:
                self._next = time.monotonic() + (1 if self._terminal else 20)
                before, behind = ("\r", "") if self._terminal else ("", "\n")
                sys.stderr.write(f"{before}{self._name}: {done:,} streams{behind}")
                sys.stderr.flush()
            yield seed
        if self._terminal:
            sys.stderr.write("\r\x1b[K")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz the codecs that are named, or all that can run here; return 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Decode damaged streams of every codec, a table's row for each.")
    parser.add_argument("codec", nargs="*", metavar="CODEC", help="names of codecs (default: all that can run here)")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all codecs together (default: 10)")
    parser.add_argument("--streams", type=int, metavar="N", help="so many of each codec, however long it takes, instead of --minutes")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the seed to begin with (default: 0)")
    options = parser.parse_args(arguments)
    known = codecs.registered()
    if unknown := [name for name in options.codec if name not in known]:
        parser.error(f"there is no codec {unknown[0]!r}; there is: {', '.join(known)}")
    chosen = [codecs.instance(name) for name in options.codec or known]
    able = [codec for codec in chosen if not codec.missing()]
    found = 0
    _say(f"| {' | '.join(HEADINGS)} |", f"|---|{'---:|' * (len(HEADINGS) - 1)}")
    for codec in able:
        tally, seeds = Tally(), _seeds(options.first, options.streams, 60 * options.minutes / len(able))
        try:
            codec.prepare()
            faults = list(fuzz(codec, _Progress(codec.name).over(seeds), tally))
        except Exception as error:
            faults = [describe_error(error)]
        found += len(faults)
        _say(row(codec, tally, len(faults)), *(f"    {fault}" for fault in faults))
    _say(*(f"{codec.name} was not tried: {codec.missing()}" for codec in chosen if codec not in able))
    return 1 if found else 0


def row(codec: Codec, tally: Tally, found: int) -> str:
    """Return a codec's row of the table, in Markdown."""
    counts = [f"{tally.ends.total():,}", *(f"{tally.ends[end]:,}" for end in HEADINGS[2:6])]
    return f"| {' | '.join([codec.name, *counts, f'{tally.slowest:.2f}', f'{tally.peak / 1e6:,.0f}', str(found)])} |"


def _say(*lines: str) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
