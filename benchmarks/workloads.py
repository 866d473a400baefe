"""What the benchmarks have in common: pictures, sounds and models of real sizes, projects made of them, and whole runs as processes.

Nothing here looks inside of a run. What a run costs is what its processes cost from start to end, so it can be measured of any version
of mpq. Sizes are multiplied by ``MPQ_BENCH_SCALE``.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

ROOT = Path(__file__).parents[1]
LABELS = ("field", "forest", "harbour", "street")
PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png", "rocket.jpg", "hubble_deep_field.jpg")
"""Photographs in colour in scikit-image's wheel."""
KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**32)}
"""Lets glibc keep what is freed, from outside of a process."""

BRIGHTNESS = """
class Brightness:
    batch_size = 32

    def predict(self, signals):
        return [int(signal.pixels[::16, ::16].mean()) % 4 for signal in signals]


def load(device):
    return Brightness()
"""


def scale() -> float:
    return float(os.environ.get("MPQ_BENCH_SCALE", "1"))


def scaled(count: int, least: int = 4) -> int:
    """Return a number of samples at the scale that was asked for."""
    return max(least, round(count * scale()))


# Pictures, sounds


def photographs() -> list[PILImage.Image]:
    spec = find_spec("skimage")
    assert spec is not None
    assert spec.origin is not None
    return [PILImage.open(Path(spec.origin).parent / "data" / name).convert("RGB") for name in PHOTOGRAPHS]


def write_pictures(folder: Path, count: int, size: tuple[int, int] = (500, 375), different: int = 1000, first: int = 0) -> list[Path]:
    """Write JPEG files, stretches of photographs at random places and scales with some grain, in folders by class.

    Of more than ``different`` the others repeat their pixels, but not their bytes: what follows a picture's end no decoder cares for.
    """
    originals = photographs()
    files, contents = [], []
    for number in range(first, first + count):
        file = folder / LABELS[number % len(LABELS)] / f"{number:06}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        if len(contents) < different:
            contents.append(_picture(originals, size, number))
        tail = b"" if len(files) < different else number.to_bytes(4, "big")
        file.write_bytes(contents[(number - first) % different] + tail)
        files.append(file)
    return files


def _picture(originals: Sequence[PILImage.Image], size: tuple[int, int], seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    original = originals[generator.integers(len(originals))]
    width, height = original.size
    share = min(width / size[0], height / size[1]) * generator.uniform(0.6, 1.0)
    wide, high = share * size[0], share * size[1]
    left, top = generator.uniform(0, width - wide), generator.uniform(0, height - high)
    cut = original.resize(size, PILImage.Resampling.BICUBIC, (left, top, left + wide, top + high))
    pixels = np.asarray(cut, np.int16) + generator.integers(-4, 5, (size[1], size[0], 1))
    buffer = io.BytesIO()
    PILImage.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_masks(folder: Path, count: int) -> list[Path]:
    """Write pictures with class maps of 150 classes, and the table that joins them."""
    files = write_pictures(folder / "pictures", count)
    lines = ["file_name,mask_file_name"]
    (folder / "masks").mkdir()
    for number, file in enumerate(files):
        generator = np.random.default_rng(number)
        coarse = PILImage.fromarray(generator.integers(0, 150, (6, 8), np.uint8)).resize((500, 375), PILImage.Resampling.NEAREST)
        coarse.save(folder / "masks" / f"{number:06}.png")
        lines.append(f"{file.relative_to(folder)},masks/{number:06}.png")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return files


def write_sounds(folder: Path, count: int) -> list[Path]:
    """Write spoken commands of the pocket suite with their texts, again and again at other levels where there are more."""
    import soundfile

    pocket = ROOT / "mpq_fixtures" / "pocket" / "speech"
    texts = dict(line.split("\t")[:2] for line in (pocket / "transcripts.tsv").read_text().splitlines()[1:])
    folder.mkdir(parents=True)
    lines, files, names = ["file_name,sentence"], [], sorted(texts)
    for number in range(count):
        name = names[number % len(names)]
        waveform, rate = soundfile.read(pocket / f"{name}.flac", dtype="float32")
        files.append(folder / f"{number:05}.wav")
        soundfile.write(files[-1], waveform * 0.95 ** (number // len(names)), rate)
        lines.append(f"{number:05}.wav,{texts[name]}")
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return files


# Models: real architectures at their real sizes with random weights


def write_model(folder: Path, name: str) -> None:
    """Write a checkpoint: ``mobilenet_v2``, ``efficientnet_b0``, ``resnet_50``, ``vit_b16`` or ``segformer_b0``."""
    import torch
    import transformers as tf

    torch.manual_seed(0)
    count = 150 if name == "segformer_b0" else len(LABELS)
    names = {index: str(index) if name == "segformer_b0" else LABELS[index] for index in range(count)}
    classes = {"id2label": names, "label2id": {label: index for index, label in names.items()}}
    config, model, processor = {
        "mobilenet_v2": lambda: (
            tf.MobileNetV2Config(**classes), tf.MobileNetV2ForImageClassification, tf.MobileNetV2ImageProcessorPil()
        ),
        "efficientnet_b0": lambda: (
            tf.EfficientNetConfig(
                image_size=224, width_coefficient=1.0, depth_coefficient=1.0, hidden_dim=1280, dropout_rate=0.2, **classes
            ),
            tf.EfficientNetForImageClassification,
            tf.EfficientNetImageProcessorPil(size={"height": 224, "width": 224}),
        ),
        "resnet_50": lambda: (
            tf.ResNetConfig(**classes), tf.ResNetForImageClassification, tf.ConvNextImageProcessorPil(size={"shortest_edge": 224})
        ),
        "vit_b16": lambda: (tf.ViTConfig(**classes), tf.ViTForImageClassification, tf.ViTImageProcessorPil()),
        "segformer_b0": lambda: (tf.SegformerConfig(**classes), tf.SegformerForSemanticSegmentation, tf.SegformerImageProcessorPil()),
    }[name]()  # fmt: skip
    model(config).save_pretrained(folder)
    processor.save_pretrained(folder)


# Projects and runs


@dataclass(frozen=True)
class Spent:
    """Seconds that passed and that processors worked, and the most megabytes that the first process and its children held."""

    passed: float
    worked: float
    controller: float = 0.0
    worker: float = 0.0
    output: str = field(default="", repr=False)

    @property
    def seconds(self) -> float:
        """What is compared: the time that passed, or with ``MPQ_BENCH_CLOCK=cpu``, on a machine with other work, that was worked."""
        return self.worked if os.environ.get("MPQ_BENCH_CLOCK") == "cpu" else self.passed


@dataclass(frozen=True)
class Project:
    """A user's project in a folder: a suite file with one evaluation, and what it names."""

    folder: Path
    name: str = "own"

    def declare(self, model: str, data: str, codecs: Mapping[str, Sequence[str]], task: str = "image_classification") -> Project:
        """Write the suite file; ``data`` is its data set in TOML, ``codecs`` has the qualities of each codec."""
        qualities = ", ".join(f"{codec} = {json.dumps(list(points))}" for codec, points in codecs.items())
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "own.toml").write_text(
            f'name = "own"\n[[evaluation]]\nname = "{self.name}"\ntask = "{task}"\nmodel = "{model}"\ndataset = {data}\n'
            f"codecs = {json.dumps(list(codecs))}\nqualities = {{ {qualities} }}\n"
        )
        return self

    def run(
        self, store: Path, *arguments: str, prefix: Sequence[str] = (), watch: bool = False, cores: int = 0,
        environment: Mapping[str, str] | None = None, tree: Path = ROOT,
    ) -> Spent:  # fmt: skip
        """Run the suite as a process of its own, and see that it measured everything."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        places = {"suite": self.folder / "own.toml", "cache": store, "out": out, "history": self.folder / "history"}
        command = [*prefix, *pytest_command(places), *arguments]
        spent = run_process(command, tree, clean(tree, self.folder) | dict(environment or {}), watch, cores)
        results = json.loads((out / "results.json").read_text())
        assert results["complete"], spent.output
        assert all(case["samples"] for case in results["cases"]), spent.output
        return spent

    def results(self) -> dict[str, Any]:
        """What the last run wrote."""
        content: dict[str, Any] = json.loads((self.folder / "out" / "results.json").read_text())
        return content


def pytest_command(places: Mapping[str, Path]) -> list[str]:
    """Return the command of a run, with the options of mpq that are paths."""
    options = [text for name, path in places.items() for text in (f"--mpq-{name}", str(path))]
    return [sys.executable, "-m", "pytest", "evaluations", "-q", "-p", "no:cacheprovider", *options]


def clean(tree: Path, folder: Path) -> dict[str, str]:
    """Return the variables of a run: this tree's code, caches of its own, and nothing that would change its threads or its allocator.

    Nor what would let it compile its modules every time, which nobody's second run does.
    """
    others = ("MPQ_", "OMP_", "MALLOC_", "PYTEST_", "PYTHONDONTWRITEBYTECODE")
    known = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    known |= {name: os.environ[name] for name in ("MPQ_ENVIRONMENTS",) if name in os.environ}
    return known | {"PYTHONPATH": str(tree), "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}


def run_process(command: Sequence[str], folder: Path, environment: Mapping[str, str], watch: bool = False, cores: int = 0) -> Spent:
    """Run a command to its end on ``cores`` processors (0: all), watching its memory where asked; raise `RuntimeError` where it fails."""
    with on_cores(cores):
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
    memory = Memory(process.pid)
    if watch:
        memory.start()
    before = os.times()
    assert process.stdout is not None
    output = process.stdout.read()
    code = process.wait()
    passed, after = time.perf_counter() - started, os.times()
    memory.stop()
    if code != 0:
        raise RuntimeError(f"exit code {code} of {' '.join(command)}:\n{output[-4000:]}")
    worked = after.children_user + after.children_system - before.children_user - before.children_system
    return Spent(passed, worked, memory.most.get(0, 0.0), memory.most.get(1, 0.0), output)


@contextmanager
def on_cores(count: int, first: int = 0) -> Iterator[None]:
    """Let processes that begin meanwhile have ``count`` of this process's processors, from one on; 0 leaves all."""
    allowed = os.sched_getaffinity(0)
    if count:
        os.sched_setaffinity(0, sorted(allowed)[first : first + count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


class Memory:
    """Watches the peaks of a process and of its children, in MB by generation: Linux forgets them when a process ends."""

    def __init__(self, process: int) -> None:
        self.process = process
        self.most: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.1):
            generation, family = 0, [self.process]
            while family and generation < 2:
                for process in family:
                    self.most[generation] = max(self.most.get(generation, 0.0), peak_of(process))
                generation, family = generation + 1, [child for process in family for child in children_of(process)]


def peak_of(process: int) -> float:
    """Return the most memory in MB that a process has held, 0 once it is gone."""
    try:
        found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{process}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def children_of(process: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{process}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:
        pass
    return found


def files_in(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))
