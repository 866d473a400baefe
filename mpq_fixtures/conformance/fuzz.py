"""Damaged streams for as long as one likes, codec by codec: ``tox run -e fuzz -- --minutes 30``.

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
from mpq_fixtures.conformance.damage import survive
from mpq_fixtures.conformance.fresh import spread
from mpq_fixtures.errors import describe_error


def fuzz(codec: Codec, seeds: Iterable[int]) -> Iterator[str]:
    """Decode damaged streams of a codec, one of each seed; yield a sentence for each that was too much."""
    signal = signals.picture(64, 64, seed=3) if codec.modality is IMAGE else signals.speech(16000, 1, 0.5)
    streams = [bytes(memoryview(codec.encode(signal, quality))) for quality in spread(tuple(codec.ladder))]
    yield from survive(codec, streams, seeds)


class _Seeds:
    """Seeds from ``first`` on for so many seconds, from when the first is asked for; ``tried`` says how many."""

    def __init__(self, first: int, seconds: float) -> None:
        self.first, self.seconds, self.tried = first, seconds, 0

    def __iter__(self) -> Iterator[int]:
        end = time.monotonic() + self.seconds
        for seed in itertools.count(self.first):
            if self.tried and time.monotonic() > end:
                return
            self.tried += 1
            yield seed


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz the codecs that are named, or all that can run here; return 1 where anything was found."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Decode damaged streams of every codec for as long as asked.")
    parser.add_argument("codec", nargs="*", metavar="CODEC", help="names of codecs (default: all that can run here)")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all codecs together (default: 10)")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the seed to begin with (default: 0)")
    options = parser.parse_args(arguments)
    known = codecs.registered()
    if unknown := [name for name in options.codec if name not in known]:
        parser.error(f"there is no codec {unknown[0]!r}; there is: {', '.join(known)}")
    chosen = [codecs.instance(name) for name in options.codec or known]
    able = [codec for codec in chosen if not codec.missing()]
    found = 0
    for codec in able:
        seeds = _Seeds(options.first, 60 * options.minutes / len(able))
        try:
            codec.prepare()
            faults = list(fuzz(codec, seeds))
        except Exception as error:
            faults = [describe_error(error)]
        found += len(faults)
        sys.stdout.write(f"{codec.name:18} {seeds.tried:8,} streams  {len(faults)} found\n")
        sys.stdout.writelines(f"    {fault}\n" for fault in faults)
        sys.stdout.flush()
    for codec in chosen:
        if codec not in able:
            sys.stdout.write(f"{codec.name:18} not tried: {codec.missing()}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
