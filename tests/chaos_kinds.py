"""The disturbances: what each does to runs, and what must be so afterwards.

Each kind is a function of an `Episode`, which has a folder, random numbers and a tally, and of the most kills that it may spend.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from chaos_project import FILES, ChaosProject, Results, digest
from chaos_runs import Run, age_of, entries_in, left_behind, send

STOPS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
LOSSES = (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT)
A_FILLING = 12
"""Most kills while one store is filled."""
A_RUN = 4
"""Most processes that one run loses."""
CRASHES = 2
"""Most of them that look as if they had crashed: what crashes three times at one thing has failed."""


@dataclass
class Tally:
    """What became of the disturbances of one kind."""

    times: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    identical: int = 0
    judged: int = 0
    hung: int = 0
    longest: float = 0.0
    most: float = 0.0
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Undisturbed:
    """A project, what it gives, its folder with a full store, and the seconds of a run that measures all and of one that finds all."""

    project: ChaosProject
    results: Results
    place: Path
    full: float
    idle: float

    @property
    def limit(self) -> float:
        """Seconds after which a run counts as hung."""
        return 60 + 6 * self.full

    @property
    def grace(self) -> float:
        """Seconds that processes may outlive the one that was started: their start alone takes some on a machine with other work."""
        return max(5.0, self.idle)


def undisturbed(project: ChaosProject, place: Path) -> Undisturbed:
    """Measure all and approve it, and run once more, against what is approved; raises `RuntimeError` where a run fails."""
    seconds = []
    for name, arguments in (("first", ["--mpq-update-baselines"]), ("second", [])):
        prepare(place)
        run = Run(project.pytest(place, "-n", "2", *arguments), project.folder, project.environment(place), place / f"{name}.log", 600)
        if run.end() != 0 or run.survivors:
            raise RuntimeError(f"a run that nobody disturbs fails:\n{run.output()[-4000:]}")
        seconds.append(run.seconds)
    results = Results(place / "out")
    if any(row["verdict"] != "same" for row in results.rows().values()) or any(results.computed.values()) or left_behind(place):
        raise RuntimeError(f"a run that nobody disturbs leaves {left_behind(place)} and finds changes:\n{run.output()[-4000:]}")
    return Undisturbed(project, results, place, *seconds)


def prepare(place: Path) -> None:
    """Make the folders of a run."""
    for name in ("home", "tmp"):
        (place / name).mkdir(parents=True, exist_ok=True)


class Episode:
    """One store and the runs on it, from the first disturbance until a run ends by itself."""

    def __init__(self, base: Undisturbed, place: Path, generator: random.Random, tally: Tally) -> None:
        self.base, self.place, self.random, self.tally = base, place, generator, tally
        self._runs = 0
        prepare(place)

    @property
    def project(self) -> ChaosProject:
        """The project that is run."""
        return self.base.project

    def start(self, command: Sequence[str], place: Path | None = None) -> Run:
        """Start a run with its home and temporary files in a folder."""
        self._runs += 1
        place = place or self.place
        log = self.place / f"{self._runs:02}-{place.name}.log"
        return Run(command, self.project.folder, self.project.environment(place), log, self.base.limit, self.base.grace)

    def moment(self) -> float:
        """Return some seconds, of which most fall into the measuring."""
        return self.random.uniform(0.5, self.base.idle + self.base.full / 5)

    def end(self, run: Run) -> int:
        """Wait for a run's end, and count it."""
        code = run.end()
        tally = self.tally
        tally.runs += 1
        tally.longest, tally.most = max(tally.longest, run.seconds), max(tally.most, run.most)
        tally.left += run.survivors
        if run.hung:
            tally.hung += 1
            self.complain(f"a run took more than {run.limit:.0f} s, see {run.log}")
        for survivor in run.survivors:
            self.complain(f"{survivor} outlived its run, see {run.log}")
        return code

    def stop(self, run: Run) -> None:
        """Stop a run."""
        number = self.random.choice(STOPS)
        run.signal(number)
        self.tally.times[number.name] += 1
        self.end(run)

    def complain(self, *problems: str) -> None:
        """Note what must not be."""
        self.tally.problems += [f"{self.place.name}: {problem}" for problem in problems]

    def check_stopped(self, out: Path) -> None:
        """See that the results are one set, an old or a new one, and that what passed is right."""
        if not any((out / name).exists() for name in FILES):
            return
        try:
            results = Results(out)
        except (OSError, ValueError) as error:
            self.complain(f"results that are no set after a run that was stopped: {error}")
        else:
            self.complain(*results.mixed(), *results.wrong(self.base.results))

    def judge(self, run: Run, place: Path, computed: bool = True) -> None:
        """Wait for a run that nobody stops any more, and compare what it gives; without ``computed`` it must find all in the store."""
        code = self.end(run)
        self.tally.judged += 1
        try:
            results = Results(place / "out")
        except (OSError, ValueError) as error:
            found = [f"no results: {error}"]
        else:
            found = results.differences(self.base.results) + results.mixed()
            if not computed and any(results.computed.values()):
                found.append(f"measured again: {results.computed}")
        if code != 0:
            found.append(f"exit code {code} instead of 0")
        if found:
            self.complain(*(f"{one}, see {run.log}" for one in found))
        else:
            self.tally.identical += 1

    def look_behind(self, *places: Path) -> None:
        """See that nothing is left."""
        for place in places or (self.place,):
            left = left_behind(place)
            self.tally.left += left
            self.complain(*(f"left behind: {one}" for one in left))


class Kept:
    """Sees that no file of a store loses entries."""

    def __init__(self, episode: Episode) -> None:
        self._episode, self._before = episode, dict[str, int]()

    def look(self) -> None:
        """Compare with the last look."""
        now = entries_in(self._episode.place)
        lost = [file for file, count in self._before.items() if now.get(file, 0) < count]
        self._episode.complain(*(f"{file} had {self._before[file]} entries and has {now.get(file, 0)}" for file in lost))
        self._before = now


# Kills of a run


def killed(episode: Episode, kills: int, *arguments: str) -> None:
    """Stop a run again and again until it has ended by itself."""
    command, kept = episode.project.pytest(episode.place, *arguments), Kept(episode)
    for _ in range(min(kills, A_FILLING)):
        run = episode.start(command)
        if run.wait(episode.moment()):
            break
        episode.stop(run)
        episode.check_stopped(episode.place / "out")
        kept.look()
    else:
        run = episode.start(command)
    episode.judge(run, episode.place)
    episode.look_behind()
    kept.look()


def killed_with_workers(episode: Episode, kills: int) -> None:
    """Stop a run with two workers."""
    killed(episode, kills, "-n", "2")


def killed_alone(episode: Episode, kills: int) -> None:
    """Stop a run without workers."""
    killed(episode, kills)


def killed_shares(episode: Episode, kills: int) -> None:
    """Stop both shares of a suite again and again; pytest then finds all that they measured."""

    def one(share: str, most: int, numbers: random.Random) -> None:
        place = episode.place / f"share-{share[0]}"
        prepare(place)
        part = Episode(episode.base, place, numbers, Tally())
        command = episode.project.work(episode.place, share)
        for _ in range(most):
            run = part.start(command)
            if run.wait(part.moment()):
                break
            part.stop(run)
        else:
            run = part.start(command)
        if (code := part.end(run)) != 0:
            part.complain(f"share {share} ended with {code}, see {run.log}")
        parts.append(part.tally)

    parts: list[Tally] = []
    most = min(kills, A_FILLING)
    _both(one, [("1/2", most - most // 2, _numbers(episode)), ("2/2", most // 2, _numbers(episode))])
    for part in parts:
        _add(episode.tally, part)
    run = episode.start(episode.project.pytest(episode.place))
    episode.judge(run, episode.place, computed=False)
    episode.look_behind()


def two_runs(episode: Episode, kills: int) -> None:
    """Let two runs use one store, and stop each again and again."""

    def one(name: str, arguments: Sequence[str], most: int, numbers: random.Random) -> None:
        place = episode.place / name
        part = Episode(episode.base, place, numbers, Tally())
        command = episode.project.pytest(place, "--mpq-cache", str(episode.place / "store"), *arguments)
        for _ in range(most):
            run = part.start(command)
            if run.wait(part.moment()):
                break
            part.stop(run)
            part.check_stopped(place / "out")
        else:
            run = part.start(command)
        part.judge(run, place)
        parts.append(part.tally)

    parts: list[Tally] = []
    most = min(kills, A_FILLING)
    _both(one, [("one", ("-n", "2"), most - most // 2, _numbers(episode)), ("other", (), most // 2, _numbers(episode))])
    for part in parts:
        _add(episode.tally, part)
    episode.look_behind(episode.place, episode.place / "one", episode.place / "other")


# Losses of processes that a run goes on without


def lost(episode: Episode, kills: int, *arguments: str) -> None:
    """Kill processes of a run, but for the one that was started, which goes on and gives the same.

    A worker that dies while xdist still waits for its first word ends xdist itself, so only those are killed that run for some time.
    """
    run = episode.start(episode.project.pytest(episode.place, *arguments))
    left, until = min(kills, A_RUN), time.monotonic() + episode.random.uniform(0.5, episode.base.full / 3)
    crashes = 0
    while left and not run.wait(until - time.monotonic()):
        others = sorted(process for process in run.others() if age_of(process) > episode.base.grace / 2)
        if others:
            number = episode.random.choice(LOSSES if crashes < CRASHES else LOSSES[:1])
            crashes += number != signal.SIGKILL
            send(episode.random.choice(others), number)
            episode.tally.times[number.name] += 1
            left -= 1
        until = time.monotonic() + (episode.random.uniform(0.5, episode.base.full / 3) if others else 0.2)
    episode.judge(run, episode.place)
    episode.look_behind()


def lost_workers(episode: Episode, kills: int) -> None:
    """Kill workers."""
    lost(episode, kills, "-n", "2")


def lost_alone(episode: Episode, kills: int) -> None:
    """Kill what measures where there are no workers."""
    lost(episode, kills)


# Pauses


def paused(episode: Episode, kills: int) -> None:
    """Suspend a run, or one of its processes, again and again, as Ctrl-Z and debuggers do; it goes on and gives the same."""
    run = episode.start(episode.project.pytest(episode.place, *episode.random.choice(([], ["-n", "2"]))))
    while not run.wait(episode.moment() / 2):
        if not (members := run.members()):  # it has just ended
            continue
        some = members if episode.random.random() < 0.5 else [episode.random.choice(members)]
        for number, seconds in ((signal.SIGSTOP, episode.random.uniform(0.1, 3)), (signal.SIGCONT, 0)):
            for process in some:
                send(process, number)
            time.sleep(seconds)
        episode.tally.times["SIGSTOP"] += 1
    episode.judge(run, episode.place)
    episode.look_behind()


# Damage


def damaged(episode: Episode, kills: int) -> None:
    """Damage files of a full store, and of one that is being filled; what is damaged is made again.

    What a run finds only when it shows samples, the next one makes again; the one after that finds all there.
    """
    if during := episode.random.random() < 0.4:
        run = episode.start(episode.project.pytest(episode.place, "-n", "2"))
        while not run.wait(episode.moment()):
            damage(episode)
    else:
        shutil.copytree(episode.base.place / "store", episode.place / "store")
        for _ in range(episode.random.randint(1, 6)):
            damage(episode)
        run = episode.start(episode.project.pytest(episode.place, *episode.random.choice(([], ["-n", "2"]))))
    episode.judge(run, episode.place)
    if not during:
        episode.judge(episode.start(episode.project.pytest(episode.place)), episode.place)
        episode.judge(episode.start(episode.project.pytest(episode.place)), episode.place, computed=False)
    episode.look_behind()


def damage(episode: Episode) -> None:
    """Damage a file of the store."""
    files = sorted(path for path in (episode.place / "store").glob("format-*/*/*.db") if path.is_file())
    if not files:
        return
    path = episode.random.choice(files)
    how = episode.random.choice((flip, zero, truncate, swap, remove, replace_by_folder, replace_by_loop))
    try:
        how(path, episode.random)
    except OSError:  # it was being made again
        return
    episode.tally.times[how.__name__.replace("_", " ")] += 1


def flip(path: Path, generator: random.Random) -> None:
    """Flip some bits."""
    with path.open("r+b") as file:
        size = max(1, path.stat().st_size)
        for _ in range(generator.randint(1, 64)):
            place = generator.randrange(size)
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ 1 << generator.randrange(8)] if byte else b"\x01"))


def zero(path: Path, generator: random.Random) -> None:
    """Write zeros over a stretch."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        start = generator.randrange(max(1, size))
        file.seek(start)
        file.write(bytes(min(size - start, generator.choice((100, 4096, 100_000)))))


def truncate(path: Path, generator: random.Random) -> None:
    """Cut a file off."""
    os.truncate(path, generator.randrange(max(1, path.stat().st_size)))


def swap(path: Path, generator: random.Random) -> None:
    """Let two files change places."""
    others = [other for other in sorted(path.parents[1].glob("*/*.db")) if other.is_file() and other != path]
    if others:
        other, between = generator.choice(others), path.with_suffix(".between")
        path.rename(between)
        other.rename(path)
        between.rename(other)


def remove(path: Path, generator: random.Random) -> None:
    """Remove a file."""
    path.unlink()


def replace_by_folder(path: Path, generator: random.Random) -> None:
    """Put a folder in a file's place."""
    path.unlink()
    (path / "within").mkdir(parents=True)


def replace_by_loop(path: Path, generator: random.Random) -> None:
    """Put a link that leads to itself in a file's place."""
    path.unlink()
    path.symlink_to(path.name)


# Disks


class NoDisk(Exception):
    """No small disk can be had here."""


class Disk:
    """A small disk in a name space of its own, in which whoever made it may mount one: ``path`` from within, ``seen`` from here."""

    path = Path("/mnt")

    def __init__(self, megabytes: int) -> None:
        mount = f"mount -t tmpfs -o size={megabytes}m,mode=755 chaos {self.path} && echo ready && exec cat"
        for rights in (["--user", "--map-root-user"], []):  # the latter as root where there are no name spaces for users
            self._rights = [right for right in rights if right == "--user"]
            try:
                self._keeper = subprocess.Popen(
                    ["unshare", *rights, "--mount", "sh", "-c", mount],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )  # fmt: skip
            except FileNotFoundError:
                break
            assert self._keeper.stdout is not None
            if self._keeper.stdout.readline() == "ready\n":
                self.seen = Path(f"/proc/{self._keeper.pid}/root{self.path}")
                return
            self.close()
        raise NoDisk("no small disk can be mounted here (unshare --user --mount)")

    def within(self, command: Sequence[str], folder: Path) -> list[str]:
        """Return a command as one that has the disk."""
        enter = ["nsenter", "--target", str(self._keeper.pid), *self._rights, "--mount"]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(folder), *command]

    def fill(self, room: int) -> None:
        """Leave room for so many bytes."""
        there = os.statvfs(self.seen)
        with (self.seen / "ballast").open("wb") as file:
            for _ in range(max(0, there.f_bavail - room // there.f_frsize)):
                file.write(bytes(there.f_frsize))

    def clear(self) -> None:
        """Make room."""
        (self.seen / "ballast").unlink()

    def read_only(self, whether: bool) -> None:
        """Let nothing be written any more, or again."""
        subprocess.run(self.within(["mount", "-o", f"remount,{'ro' if whether else 'rw'}", str(self.path)], Path("/")), check=True)

    def close(self) -> None:
        """Give the disk up."""
        self._keeper.communicate()


def full_disk(episode: Episode, kills: int) -> None:
    """Let the disk of store and results be full before all is measured; then make room, and run again."""
    with closing(Disk(256)) as disk:
        here = episode.project.pytest(disk.path, *episode.random.choice(([], ["-n", "2"])))
        command = disk.within(here, episode.project.folder)
        old = episode.random.random() < 0.5
        if old:
            shutil.copytree(episode.base.place / "out", disk.seen / "out")
        needed = sum(path.stat().st_size for path in (episode.base.place / "store").rglob("*") if path.is_file())
        disk.fill(int(needed * episode.random.uniform(0.0, 0.9)))
        run = episode.start(command)
        code = episode.end(run)
        episode.tally.times["full"] += 1
        episode.check_stopped(disk.seen / "out")
        told = "No space left on device" in run.output()
        if code == 0 or not told:
            episode.complain(f"a full disk: exit code {code}, {'told' if told else 'not told'}, see {run.log}")
        disk.clear()
        episode.judge(episode.start(command), disk.seen)
        _look_behind_on(disk, episode)


def read_only(episode: Episode, kills: int) -> None:
    """Let store, results or both be on a disk that may only be read; then let it be written, and run again."""
    with closing(Disk(256)) as disk:
        what = episode.random.choice(("store", "out", "both"))
        command = episode.project.pytest(disk.path, *episode.random.choice(([], ["-n", "2"])))
        out, store = disk.seen / "out", disk.seen / "store"
        if what == "store":
            command += ["--mpq-out", str(episode.place / "out")]
            out = episode.place / "out"
        if what == "out":
            command += ["--mpq-cache", str(episode.place / "store")]
            store = episode.place / "store"
        command = disk.within(command, episode.project.folder)
        shutil.copytree(episode.base.place / "store", store)
        shutil.copytree(episode.base.place / "out", out)
        before = digest(out)
        disk.read_only(True)
        run = episode.start(command)
        code = episode.end(run)
        episode.tally.times[what] += 1
        told = "Read-only file system" in run.output()
        if (code == 0 and what != "store") or not told:
            episode.complain(f"read-only {what}: exit code {code}, {'told' if told else 'not told'}, see {run.log}")
        if what != "store" and digest(out) != before:
            episode.complain(f"read-only {what}: the results have changed")
        episode.check_stopped(out)
        disk.read_only(False)
        episode.judge(episode.start(command), out.parent, computed=False)
        _look_behind_on(disk, episode)


def _look_behind_on(disk: Disk, episode: Episode) -> None:
    copy = episode.place / "disk"  # SQLite does not find its way through /proc
    shutil.copytree(disk.seen, copy)
    episode.look_behind(episode.place, copy)


# Pieces


def _numbers(episode: Episode) -> random.Random:
    return random.Random(episode.random.random())


def _both(action: Callable[..., None], arguments: Sequence[Sequence[object]]) -> None:
    with ThreadPoolExecutor(len(arguments)) as pool:
        for future in [pool.submit(action, *one) for one in arguments]:
            future.result()


def _add(total: Tally, part: Tally) -> None:
    total.times += part.times
    total.runs += part.runs
    total.identical += part.identical
    total.judged += part.judged
    total.hung += part.hung
    total.longest, total.most = max(total.longest, part.longest), max(total.most, part.most)
    total.left += part.left
    total.problems += part.problems


@dataclass(frozen=True)
class Kind:
    """A kind of disturbance: ``weight`` is its share of the kills; kinds without kills have an episode for each ``every`` of them."""

    title: str
    disturb: Callable[[Episode, int], None]
    weight: int = 0
    every: int = 0


KINDS: Mapping[str, Kind] = {
    "kill": Kind("the run is killed, two workers", killed_with_workers, weight=60),
    "kill-alone": Kind("the run is killed, no workers", killed_alone, weight=40),
    "shares": Kind("two shares (`mpq work`) are killed", killed_shares, weight=20),
    "two-runs": Kind("two runs on one store, each killed", two_runs, weight=20),
    "worker": Kind("workers are lost, the run goes on", lost_workers, weight=45),
    "child": Kind("what measures is lost, no workers", lost_alone, weight=15),
    "pause": Kind("a run, or a process of it, is suspended", paused, every=20),
    "damage": Kind("files of the store are damaged", damaged, every=20),
    "full-disk": Kind("the disk is full, then has room", full_disk, every=40),
    "read-only": Kind("store or results may only be read, then be written", read_only, every=40),
}
