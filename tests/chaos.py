"""Runs under all that befalls them: kills, losses of workers, pauses, damaged files, full and read-only disks, two runs on one store.

    python tests/chaos.py --kills 200 --seed 0

Every run that ends by itself has to give what an undisturbed one gives: the same ``results.csv``, byte for byte, the same samples, the
same ``results.json`` but for times and places, and the same exit code. None may hang, hold more memory than it may, or leave a process, a
file or a claim behind. Progress is on standard error, a table in Markdown on standard output; the exit code is 1 if anything was not so.
Linux only.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaos_kinds import KINDS, Episode, NoDisk, Tally, Undisturbed, undisturbed
from chaos_project import ChaosProject
from chaos_runs import end_all

MOST_MEMORY = 1500
"""MB that a process may hold."""
_IN_VAIN = 3
"""Episodes of a kind without a kill, after which there is none to be expected."""


def shares(kills: int, kinds: Sequence[str]) -> dict[str, int]:
    """Return how many kills each kind has, and how many episodes those that kill nothing have."""
    total, given = sum(KINDS[name].weight for name in kinds), 0
    weight, found = 0, {}
    for name in kinds:
        if every := KINDS[name].every:
            found[name] = max(1, round(kills / every))
        else:  # rounded so that the sum is what was asked for
            weight += KINDS[name].weight
            found[name] = kills * weight // total - given
            given += found[name]
    return found


def run(base: Undisturbed, folder: Path, seed: int, wanted: Mapping[str, int], until: float, tallies: Mapping[str, Tally]) -> None:
    """Disturb runs, one kind after the other, until as much is done as wanted or the time is over; keep the tallies by kind."""
    for name, count in wanted.items():
        tally, number, idle = tallies[name], 0, 0
        while (done := sum(tally.times.values()) if KINDS[name].weight else number) < count:
            if time.monotonic() > until:
                break
            number += 1
            place = folder / f"{name}-{number}"
            before = len(tally.problems)
            try:
                KINDS[name].disturb(Episode(base, place, random.Random(f"{seed} {name} {number}"), tally), count - done)
            except NoDisk as error:
                tally.times[f"left out: {error}"] = 0
                say(f"{name}: left out: {error}")
                break
            problems = tally.problems[before:]
            say(f"{name}: {sum(tally.times.values())} times in {tally.runs} runs", *problems)
            if not problems:
                shutil.rmtree(place)
            idle = idle + 1 if KINDS[name].weight and sum(tally.times.values()) == done else 0
            if idle == _IN_VAIN:
                tally.problems.append(f"{name}: there is nothing to kill")
                break
        if tally.most > MOST_MEMORY:
            tally.problems.append(f"{name}: a process held {tally.most:.0f} MB, more than {MOST_MEMORY}")


def table(tallies: Mapping[str, Tally]) -> str:
    """Return what became of it as a table in Markdown."""
    head = ("disturbance", "times", "runs", "results identical", "hung", "longest run", "most memory of a process", "left behind")
    rows = [head, ("---", *["---:"] * (len(head) - 1))]
    for name, tally in tallies.items():
        rows.append(
            (
                KINDS[name].title,
                f"{sum(tally.times.values())} ({', '.join(f'{count} {what}' for what, count in sorted(tally.times.items()))})",
                str(tally.runs),
                f"{tally.identical} of {tally.judged}",
                str(tally.hung),
                f"{tally.longest:.0f} s",
                f"{tally.most:.0f} MB",
                counted(tally.left),
            )
        )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def counted(left: Sequence[str]) -> str:
    """Return what was left behind, each once."""
    return ", ".join(f"{count} {what}" for what, count in sorted(Counter(left).items())) or "nothing"


def say(*lines: str) -> None:
    """Tell on standard error."""
    sys.stderr.write("".join(f"chaos: {line}\n" for line in lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 where everything was as it has to be, 1 where something was not."""
    parser = argparse.ArgumentParser("chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="how often to kill (default: 200); damage and disks go with it")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (default: 0); the moments are as exact as the machine")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after so many minutes")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=f"some of {', '.join(KINDS)}")
    parser.add_argument("--folder", type=Path, help="where to work (default: a new folder in the system's for temporary files)")
    options = parser.parse_args(arguments)
    until = time.monotonic() + 60 * options.minutes
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and so would what it starts
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, frame: None)  # as before, for this process alone
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    folder = Path(options.folder or tempfile.mkdtemp(prefix="chaos-")).resolve()
    wanted = shares(options.kills, options.only)
    tallies = {name: Tally() for name in wanted}
    try:
        base = undisturbed(ChaosProject(folder / "project"), folder / "undisturbed")
        say(f"a run that nobody disturbs takes {base.full:.0f} s, one that finds all done {base.idle:.0f} s, limit {base.limit:.0f} s")
        run(base, folder, options.seed, wanted, until, tallies)
    finally:
        end_all()
        sys.stdout.write(table(tallies))  # of what there is, also where it was stopped
    problems = [problem for tally in tallies.values() for problem in tally.problems]
    if problems:
        say(*problems, f"see {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
