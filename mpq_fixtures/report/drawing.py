"""Charts as SVG, and the script that brings them to life, drawn by vl-convert in a process of its own.

Its JavaScript engine spins while it waits for its own helper threads. Under a real-time policy, which some containers give every process,
nobody gets the processor from a thread that spins, those helpers included, and it waited for ever. So the process takes the usual policy,
and has a time limit and a second try; the script, which takes ten seconds to bundle and never changes, is kept beside the cache.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import platformdirs

from mpq_fixtures.files import write_atomically

TRIES, SECONDS = 2, 150
"""How often drawing is tried, and how long it may take: it takes some 10 s on an idle core."""

MOST = 24
"""Charts that one process draws at most, some 5 s of work: more are shared among as many processes as there are cores."""


class DrawingError(RuntimeError):
    """Charts that could not be drawn; the message says why."""


def lighter(picture: str) -> str:
    """Return a drawing without what is not seen: empty paths, and decimals beyond a tenth of a pixel."""
    picture = re.sub(r'<path class="\w+"[^>]* d=""[^>]*/>', "", picture)
    return re.sub(r'(?<= d=")[^"]+|(?<=translate\()[^)]+', lambda found: re.sub(r"(\.\d)\d+", r"\1", found[0]), picture)


def pictures(descriptions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Draw Vega-Lite descriptions as SVG that scales with the page; each chart's ids are kept apart from those of the others."""
    charts = [{"chart": description, "vegalite": _vegalite(description)} for description in descriptions]
    shares = [charts[place : place + MOST] for place in range(0, len(charts), MOST)]
    with ThreadPoolExecutor(os.cpu_count()) as cores:
        drawn = [picture for share in cores.map(_ask, shares) for picture in share]
    return [re.sub(r'(?<= id=")(?=\w+")|(?<=url\(#)(?=\w+\))', f"chart-{number}-", picture) for number, picture in enumerate(drawn, 1)]


def script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script without any address to load from, ``vegaEmbed`` its only name."""
    kept = Path(platformdirs.user_cache_dir("mpq", appauthor=False), "scripts", f"vega-{version('vl-convert-python')}.js")
    try:
        return kept.read_text(encoding="utf-8")
    except OSError:
        (bundle,) = _ask([{"script": "window.vegaEmbed = vegaEmbed;"}])
    bundle = bundle.replace("</script", "<\\/script").replace("<!--", "<\\!--")
    with contextlib.suppress(OSError):  # else it is made again next time
        write_atomically(kept, bundle.encode())
    return bundle


@contextlib.contextmanager
def begun() -> Iterator[None]:
    """Let a process get ready to draw meanwhile, which takes it longer than to draw a chart; the first that is asked for are its."""
    with contextlib.suppress(OSError):  # whoever wants a chart says that there is none
        _ready.append(_start())
    try:
        yield
    finally:
        for process in _ready:
            process.kill()
            process.communicate()
        _ready.clear()


_ready: list[subprocess.Popen[bytes]] = []


def _start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", __name__]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _ask(tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Let another process draw."""
    for _ in range(TRIES):
        try:
            process = _ready.pop()
        except IndexError:
            process = _start()
        with process:
            try:
                done, said = process.communicate(json.dumps(tasks).encode(), timeout=SECONDS)
            except BaseException as error:
                process.kill()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                continue
        if process.returncode:
            reason = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise DrawingError(f"vl-convert failed: {reason or f'exit code {process.returncode}'}")
        drawn: list[str] = json.loads(done)
        return drawn
    raise DrawingError(f"vl-convert drew nothing in {SECONDS} s, {TRIES} times")


def _vegalite(description: Mapping[str, Any]) -> str:
    """Return the version of Vega-Lite that wrote the description, as vl-convert writes it: ``6.4``."""
    found = re.search(r"/v(\d+\.\d+)", str(description.get("$schema", "")))
    return found[1] if found else "6.4"


def _draw(task: Mapping[str, Any]) -> str:
    import vl_convert

    if "script" in task:
        return str(vl_convert.javascript_bundle(task["script"]))
    return str(vl_convert.vegalite_to_svg(task["chart"], vl_version=task["vegalite"], allowed_base_urls=[]))


def _get_ready() -> None:
    """Have the engine and the libraries loaded before anything is asked for."""
    import vl_convert

    vl_convert.vegalite_to_svg({"data": {"values": []}, "mark": "point"}, vl_version="6.4", allowed_base_urls=[])


def _share_the_processor() -> None:
    """Leave an inherited real-time policy, where the system has them."""
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


if __name__ == "__main__":
    _share_the_processor()
    _get_ready()
    sys.stdout.write(json.dumps([_draw(task) for task in json.load(sys.stdin)]))
