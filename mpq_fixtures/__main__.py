"""The ``mpq`` command: what is done before and after a run of the suite."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

from mpq_fixtures import DISTRIBUTION
from mpq_fixtures.errors import AssetError

T = TypeVar("T")

STOPPED, UNREAD = 130, 141
"""Exit codes of a command that Ctrl-C stopped, and of one whose output nobody reads any more: 128 and the number of the signal."""

EXAMPLES = """\
examples:
  mpq doctor study               what the study needs, what of it is here, and what to do about the rest
  mpq fetch study                download its models, data and codecs' weights; carries on where it was stopped
  mpq fetch --codec lyra         download what a codec needs; for metrics, --metric lpips
  mpq list codecs                what a suite file may name; also tasks, qualities, metrics, suites
  mpq doctor my.toml             what is wrong or missing in a suite of your own
  mpq advise photos/ --model google/vit-base-patch16-224 --keep 0.99
                                 which codec and quality keep 99 % of what the model does, and what that saves
  mpq compare nightly/1 nightly/2
  mpq approve reports/latest     accept what the run measured as the baselines
  mpq history --case '*-jpeg-*'  how these cases went over all runs, and what changed on the way
  mpq report reports/latest
  mpq work my.toml --share 3/16 --mpq-cache file:///shared/mpq
                                 a sixteenth of a suite's work, for job arrays; pytest afterwards finds it done
  mpq conformance my_codec:MyCodec
                                 is this codec honest, and does it hold what codecs promise?

What is in between is pytest's: pytest evaluations --mpq-suite study; see pytest --help under "machine perceptual quality".
"""


CONFORMANCE = """\
A codec passes when its decoder has the bytes and nothing else, when the bytes are the same in every process and at any time, when the
signal comes back whole, in its range and in its place, and when damaged bytes do no harm. Each check has a name; the table says what
passed, and what broke in the codec and where.

examples:
  mpq conformance opus                          a codec that is registered: mpq's own, or an installed package's
  mpq conformance my_codec:MyCodec              a class in my_codec.py, here or on PYTHONPATH
  mpq conformance codecs/my_codec.py:MyCodec    a class in a file
  mpq conformance my.toml:vvc                   a codec behind two commands, declared in a suite file
  mpq conformance opus --quality 6k --quality 64k --streams 50      a quick look at two qualities

exit code: 0 passed, 1 a check failed, 2 the codec cannot be loaded, or lacks something that the message names.
docs/conformance.md says what each check does, why, and what none of them sees.
"""


APPROVE = """\
A run that differs from its baselines is red until the difference is mended or meant. Where it is meant, this accepts it from the folder of
the finished run, without measuring again, and prints of each case what was approved and what is now, and which layer changed first:
encoder, decoder, preprocessing, model or metric. The files it writes are JSON, one case a line: look at the diff before you commit it.

Cases with failed samples or without a number cannot be approved, nor runs over some of the samples (--mpq-samples).

examples:
  mpq approve reports/latest                             everything that the run measured
  mpq approve reports/latest --case 'vit_*-jpeg-q5'      only what is meant; repeatable
  mpq approve reports/latest --new                       only cases that have no baseline yet
  mpq approve --migrate                                  files of an older mpq, written anew in place with all they have

exit code: 0 done, 2 something that was asked for cannot be approved, and the message says why.
"""


WORK = """\
A share is every N-th batch of every case, the originals too; no process has to know of the others, which may run at the same time, on this
machine or on others with the same store, suite, data and versions. What is in the store is not measured again, so that a share that was
stopped goes on where it was. Afterwards pytest with the same store, on the same kind of device, finds everything done.

examples:
  mpq work my.toml --share 3/16 --mpq-cache s3://bucket/mpq
  sbatch --array=1-16 --wrap 'mpq work my.toml --mpq-cache file:///shared/mpq'      the share from the job array
  pytest evaluations --mpq-suite my.toml --mpq-cache file:///shared/mpq             afterwards

exit code: 0 done, 1 samples failed, which are named, 2 something could not be done, 130 stopped.
docs/machines.md has more.
"""


ADVISE = """\
Of each codec the lowest quality is looked for at which the model keeps a share of what it does on the originals, by a few qualities and
on as few samples as will do; what was measured is in the store, so that a second call is quick and one that was stopped goes on. DATA is a
folder of pictures or sounds, a data set on the hub, or an evaluation of a suite. Without labels, or where the model's classes are not those
of the data, answers are held against the model's own on the originals.

examples:
  mpq advise photos/ --model google/vit-base-patch16-224 --keep 0.99
  mpq advise calls/ --model openai/whisper-base --codec opus --codec mp3 --samples 200
  mpq advise photos/ --model python:my_model:load --task image_embedding      a model of your own
  mpq advise my.toml:whisper_calls --keep 0.95            an evaluation of a suite, with its data, model and codecs
  mpq advise photos/ --model MODEL --out reports/advice   a report with the curves, which mpq report renders again
  mpq advise photos/ --model MODEL --json                 for programs

exit code: 0 an answer, 4 none: out of reach of every codec, or the samples cannot tell, 2 it cannot be looked for, 130 stopped.
docs/advise.md says how it decides, and what its words mean.
"""


STORE = """\
The store keeps what was encoded, predicted and measured, so that nothing is computed twice. It may be deleted at any time, whole or in
part: what is missing is made again when it is needed.

examples:
  mpq store                                      what there is, by suite, evaluation and layer
  mpq store prune --older-than 30d --dry-run     what has not been used for a month
  mpq store prune --to 20GB                      the least recently used first, until 20 GB are left
  mpq store prune --unnamed                      what no suite in evaluations/suites has any more; or no suite that is named
  mpq store prune --old                          what an older mpq wrote, which is never read

exit code: 0 done, 1 something stayed because it is in use, 2 it cannot be read, and the message says why.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code: 0 when it did what was asked, 2 when it was asked for what cannot be, 130 when stopped."""
    parser = argparse.ArgumentParser(
        prog="mpq",
        description="Machine perceptual quality: what is done before and after a run of the suite.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mpq {version(DISTRIBUTION)}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, does: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        command.set_defaults(run=run, command=name)
        return command

    doctor = add(
        "doctor",
        "say what a suite needs, what of it is here, and what to do about the rest; exit code 1 when it lacks some, 2 when it is wrong",
        _doctor,
    )
    doctor.add_argument("suite", nargs="?", default="pocket", metavar="SUITE", help="a name or a TOML file (default: pocket)")
    doctor.add_argument("--import", action="store_true", dest="imports",
                        help="run the suite's python: models and data sets too (default: read their code)")  # fmt: skip
    listing = add("list", "list what a suite file may name: one thing a line, the name first", _list)
    listing.add_argument("what", choices=["tasks", "codecs", "qualities", "metrics", "suites"], metavar="WHAT",
                         help="tasks, codecs, qualities (each codec's ladder, and what else it takes), metrics or suites")  # fmt: skip
    listing.add_argument("--json", action="store_true", help="for programs")
    for command in (doctor, listing):
        command.add_argument(
            "-p", action="append", default=[], dest="plugins", metavar="MODULE", help="import a plugin that brings codecs or tasks"
        )
    fetch = add("fetch", "download what a suite, a codec or a metric needs; carries on where it was stopped", _fetch)
    fetch.add_argument("suite", nargs="?", metavar="SUITE", help="a name in evaluations/suites or a TOML file")
    fetch.add_argument("--codec", action="append", default=[], metavar="NAME", help="a codec, beside the suite's or alone; repeatable")
    fetch.add_argument("--metric", action="append", default=[], metavar="NAME", help="a metric of similarity, likewise")
    compare = add("compare", "hold a run against another, or against baselines, worst case first; exit code 1 when it is red", _compare)
    compare.add_argument("before", type=Path, metavar="A", help="the folder of the first run, or of baselines")
    compare.add_argument("after", type=Path, metavar="B", help="the folder of the second run")
    form = compare.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="for programs: every case with its verdict, figures, samples and layer")
    form.add_argument("--markdown", action="store_true", help="a table, as forges show it")
    approve = add("approve", "accept what a finished run measured as the baselines, without measuring again", _approve)
    approve.add_argument("results", nargs="?", type=Path, metavar="REPORT_FOLDER", help="the folder of a run, such as reports/latest")
    approve.add_argument("--case", action="append", default=[], metavar="GLOB", help="only cases whose whole id fits; repeatable")
    approve.add_argument("--new", action="store_true", help="only cases that have no baseline")
    approve.add_argument(
        "--baselines", type=Path, metavar="DIR", help="the folder of the baselines (default: the run's, or evaluations/baselines)"
    )
    approve.add_argument("--migrate", action="store_true", help="write baseline files of an older mpq anew in today's schema")
    approve.formatter_class, approve.epilog = argparse.RawDescriptionHelpFormatter, APPROVE
    history = add("history", "show cases over all runs: verdicts, versions that changed, the first red run, change points", _history)
    history.add_argument("folder", nargs="?", type=Path, default=Path("reports/history"), metavar="FOLDER",
                         help="where runs add to, --mpq-history (default: reports/history)")  # fmt: skip
    history.add_argument("--case", action="append", default=[], metavar="GLOB", help="each run of the cases that fit; repeatable")
    history.add_argument("--last", type=_above_zero, metavar="N", help="the last N runs of each host alone (default: all)")
    history.add_argument("--json", action="store_true", help="print everything as JSON, for scripts")
    report = add("report", "render report.html again, or two runs side by side, without running anything", _report)
    report.add_argument("results", type=Path, metavar="RESULTS", help="the folder of a run, such as reports/latest")
    report.add_argument("second", nargs="?", type=Path, metavar="B", help="that of another run: compare.html, from RESULTS to B")
    report.add_argument("--out", type=Path, metavar="FILE", help="where two runs side by side are written (default: B/compare.html)")
    conformance = add("conformance", "try whether a codec is honest and does what codecs must; exit code 1 when it does not", _conformance)
    conformance.add_argument("codec", metavar="CODEC", help="the name of a codec, MODULE:CLASS, FILE.py:CLASS or SUITE.toml:NAME")
    conformance.add_argument(
        "--quality", action="append", default=[], metavar="QUALITY", help="only this one; repeatable (default: its ladder)"
    )
    conformance.add_argument("--streams", type=_count, default=1000, metavar="N", help="damaged streams to decode (default: 1000)")
    conformance.formatter_class, conformance.epilog = argparse.RawDescriptionHelpFormatter, CONFORMANCE
    plan = add("plan", "say how long a suite will take on so many workers, how much store and memory, and what holds it up first", _plan)
    plan.add_argument("suite", nargs="?", default="pocket", metavar="SUITE", help="a name or a TOML file (default: pocket)")
    plan.add_argument("-n", type=_above_zero, default=1, dest="workers", metavar="N", help="workers (default: 1)")
    plan.add_argument("--samples", type=_above_zero, metavar="N", help="at most N samples an evaluation (default: all)")
    plan.add_argument("--from", type=Path, dest="earlier", metavar="DIR",
                      help="the run whose costs are taken (default: reports/latest, if there is one)")  # fmt: skip
    plan.add_argument("--probe", action=argparse.BooleanOptionalAction, default=None,
                      help="run the real steps on a few samples (default: where the run knows nothing of an evaluation)")  # fmt: skip
    plan.add_argument("--json", action="store_true", help="for programs: seconds and bytes, each as low, expected and high")
    store = add("store", "show what the store holds; with prune, remove some of it", _store)
    store.add_argument("action", nargs="?", choices=["prune"], metavar="prune", help="remove what the options say (default: only show)")
    store.add_argument("--mpq-cache", metavar="DIR|URL", help="the store, as in pytest (default: $MPQ_CACHE or the user's cache folder)")
    store.add_argument("--older-than", type=_duration, metavar="AGE", help="what was not used for so long: 12h, 30d, 8w")
    store.add_argument("--to", type=_amount, metavar="SIZE", help="the least recently used, until this is left: 500M, 20GB")
    store.add_argument("--unnamed", nargs="*", metavar="SUITE", help="what none of these suites has (default: of evaluations/suites)")
    store.add_argument("--old", action="store_true", help="what an older mpq wrote")
    store.add_argument("--dry-run", action="store_true", help="only say what would go")
    store.formatter_class, store.epilog = argparse.RawDescriptionHelpFormatter, STORE
    work = add("work", "measure a share of a suite into a store that several machines share", _work)
    work.add_argument("suite", metavar="SUITE", help="a name in evaluations/suites or a TOML file")
    work.add_argument("--share", type=_share, metavar="I/N", help="the I-th of N shares (default: that of the Slurm job array)")
    work.add_argument("--mpq-cache", metavar="DIR|URL", help="the store, as in pytest (default: $MPQ_CACHE or the user's cache folder)")
    work.add_argument("--samples", type=_above_zero, metavar="N", help="at most N samples an evaluation, as --mpq-samples (default: all)")
    work.add_argument("--device", type=_device, default="auto", metavar="NAME", help="as --mpq-device (default: auto)")
    work.formatter_class, work.epilog = argparse.RawDescriptionHelpFormatter, WORK
    advise = add("advise", "say how far data can be compressed for a model: codec, quality, rate, saving, and how sure that is", _advise)
    advise.add_argument("data", metavar="DATA", help="a folder, a data set on the hub (OWNER/NAME), or SUITE:EVALUATION")
    advise.add_argument("--model", metavar="MODEL", help="a hub id, a folder, or python:package.module:callable")
    advise.add_argument("--task", metavar="TASK", help="what the model does (default: what data and model say)")
    advise.add_argument("--labels", action=argparse.BooleanOptionalAction, default=None,
                        help="hold answers against labels, or against those to the originals (default: labels where they fit)")  # fmt: skip
    advise.add_argument("--keep", type=_share_to_keep, default=0.95, metavar="SHARE", help="above 0, at most 1 (default: 0.95)")
    advise.add_argument("--codec", action="append", default=[], metavar="NAME", help="repeatable (default: those that need nothing)")
    advise.add_argument("--samples", type=_above_zero, metavar="N", help="at most N samples, a seeded choice (default: all)")
    advise.add_argument("--split", metavar="NAME", help="the split of the data, or a stretch of it: test[:200]")
    advise.add_argument("--level", type=_level, default=0.95, metavar="SHARE", help="of the intervals (default: 0.95)")
    advise.add_argument("--mpq-cache", metavar="DIR|URL", help="the store, as in pytest (default: $MPQ_CACHE or the user's cache folder)")
    advise.add_argument("--device", type=_device, default="auto", metavar="NAME", help="as --mpq-device (default: auto)")
    advise.add_argument("--json", action="store_true", help="for programs: the answer and every quality that was tried")
    advise.add_argument("--out", type=Path, metavar="DIR", help="write results and a report with the curves there")
    advise.formatter_class, advise.epilog = argparse.RawDescriptionHelpFormatter, ADVISE
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write(f"mpq {options.command}: stopped\n")
        return STOPPED
    except AssetError as error:
        sys.stderr.write(f"mpq {options.command}: {error}\n")
        return 2
    except BrokenPipeError:  # whoever reads has seen enough, as in `mpq list codecs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left must not fail at the end
        return UNREAD
    return code


def _doctor(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.doctor import doctor

    return doctor(options.suite, options.imports) if _imports(options.plugins, "doctor") else 2


def _list(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.listing import list_known

    return list_known(options.what, options.json) if _imports(options.plugins, "list") else 2


def _imports(plugins: Sequence[str], command: str) -> bool:
    """Import what a command is given with ``-p``, also from the working directory; say what does not import."""
    sys.path.append(str(Path.cwd()))
    for plugin in plugins:
        try:
            importlib.import_module(plugin)
        except Exception as error:
            sys.stderr.write(f"mpq {command}: -p {plugin}: it does not import: {type(error).__name__}: {error}\n")
            return False
    return True


def _fetch(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.fetch import fetch

    if options.suite is None and not options.codec and not options.metric:
        sys.stderr.write("mpq fetch: name a suite, or a codec with --codec NAME, or a metric with --metric NAME\n")
        return 2
    return fetch(options.suite, options.codec, options.metric)


def _compare(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.compare import compare_runs

    return compare_runs(options.before, options.after, "json" if options.json else "markdown" if options.markdown else "text")


def _approve(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.approve import BASELINES, approve, migrate

    if options.migrate and options.results is None and not options.case and not options.new:
        return migrate(options.baselines or BASELINES)
    if options.migrate or options.results is None:
        sys.stderr.write(
            "mpq approve: name the folder of a run, such as reports/latest, or give --migrate, which takes --baselines alone\n"
        )
        return 2
    return approve(options.results, options.case, options.new, options.baselines)


def _history(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.history import history

    return history(options.folder, options.case, options.last, options.json)


def _report(options: argparse.Namespace) -> int:
    from mpq_fixtures.report.compare import write_comparison
    from mpq_fixtures.report.drawing import DrawingError
    from mpq_fixtures.report.html import write_report

    if options.out is not None and options.second is None:
        sys.stderr.write("mpq report: --out is for two runs side by side: mpq report A B --out FILE\n")
        return 2
    try:
        file = write_comparison(options.results, options.second, options.out) if options.second else write_report(options.results)
        sys.stdout.write(f"{file}\n")
    except (ValueError, OSError, DrawingError) as error:
        sys.stderr.write(f"mpq report: {error}\n")
        return 2
    return 0


def _plan(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.plan import plan_suite

    sys.path.append(str(Path.cwd()))
    return plan_suite(options.suite, options.workers, options.samples, options.earlier, options.probe, options.json)


def _store(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.store import prune, show

    if options.action is None:
        if options.old or options.dry_run or any(one is not None for one in (options.older_than, options.to, options.unnamed)):
            sys.stderr.write("mpq store: these options say what to remove: mpq store prune ...\n")
            return 2
        return show(options.mpq_cache)
    return prune(options.mpq_cache, options.older_than, options.to, options.unnamed, options.old, options.dry_run)


def _duration(text: str) -> float:
    from mpq_fixtures.store.usage import duration

    return _as_argument(duration, text)


def _amount(text: str) -> int:
    from mpq_fixtures.store.usage import amount

    return _as_argument(amount, text)


def _as_argument(read: Callable[[str], T], text: str) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def _above_zero(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _share(text: str) -> object:
    from mpq_fixtures.commands.work import parse_share

    return parse_share(text)


def _device(text: str) -> str:
    from mpq_fixtures.options import parse_device

    return parse_device(text)


def _work(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.work import work

    sys.path.append(str(Path.cwd()))
    return work(options.suite, options.share, options.mpq_cache, options.samples, options.device)


def _share_to_keep(text: str) -> float:
    return _number(text, lambda share: 0 < share <= 1, "is not a share to keep: give a number above 0 and at most 1, such as 0.99")


def _level(text: str) -> float:
    return _number(text, lambda level: 0 < level < 1, "is not a level: give a number between 0 and 1, such as 0.95")


def _number(text: str, holds: Callable[[float], bool], wanted: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not holds(number):
        raise argparse.ArgumentTypeError(f"{text!r} {wanted}")
    return number


def _advise(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.advise import advise
    from mpq_fixtures.commands.advise_data import Asked

    sys.path.append(str(Path.cwd()))
    asked = Asked(options.data, options.model, options.task, options.labels, tuple(options.codec), options.samples, options.split)
    command = ["mpq", *sys.argv[1:]]
    return advise(asked, options.keep, options.level, options.mpq_cache, options.device, options.json, options.out, command)


def _conformance(options: argparse.Namespace) -> int:
    from mpq_fixtures.commands.conformance import conformance

    return conformance(options.codec, options.quality, options.streams)


if __name__ == "__main__":
    sys.exit(main())
