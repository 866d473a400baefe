"""One worker, cold, over the calls of libraries that it cannot do without, for real architectures at their real sizes.

Both sides have one processor, so that what one hides behind the other's waiting does not count. What a run costs a sample is the
difference of a large and a small run over that of their samples: start-up, audits and the report's page stand in a row of their own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from figures import Rows
from pytest_benchmark.fixture import BenchmarkFixture
from workloads import (
    KEEPING,
    ROOT,
    Project,
    clean,
    run_process,
    scaled,
    write_masks,
    write_model,
    write_pictures,
    write_sounds,
)

QUALITY = 20
SHARE = 64
"""At most so many samples are sent through the libraries by hand."""
FOLDER = '{ path = "imagefolder", data_dir = "photos" }'


@dataclass(frozen=True)
class Subject:
    """A model with as many samples as take it about a minute."""

    name: str
    samples: int
    task: str = "image_classification"
    data: str = FOLDER
    write: Callable[[Path, int], list[Path]] = write_pictures
    codec: str = "jpeg"
    quality: str = f"q{QUALITY}"


SUBJECTS = (
    Subject("mobilenet_v2", 640),
    Subject("efficientnet_b0", 384),
    Subject("resnet_50", 256),
    Subject("vit_b16", 96),
    Subject("segformer_b0", 96, "image_segmentation", FOLDER.replace(" }", ', image = "image", mask = "mask" }'), write_masks),
    Subject("whisper_base", 24, "speech_recognition", '{ path = "audiofolder", data_dir = "photos", audio = "audio", text = "sentence" }',
            write_sounds, "opus", "12k"),
)  # fmt: skip


def library_seconds(specification: dict[str, Any], folder: Path) -> dict[str, float]:
    """Return the seconds a sample of each step by the libraries alone, under the allocator that is better for them."""
    clock = "worked" if os.environ.get("MPQ_BENCH_CLOCK") == "cpu" else "passed"
    command = [sys.executable, str(Path(__file__).with_name("library_calls.py")), json.dumps(specification)]
    found = []
    for allocator in ({}, KEEPING):
        output = run_process(command, ROOT, clean(ROOT, folder) | allocator, cores=1).output
        found.append(json.loads(output.splitlines()[-1])[clock])
    seconds: dict[str, float] = min(found, key=lambda steps: sum(steps.values()))
    return seconds


@pytest.mark.benchmark(group="one worker, cold, over its libraries")
@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_one_worker_takes_little_more_than_its_libraries(subject: Subject, tmp_path: Path, benchmark: BenchmarkFixture, row: Rows) -> None:
    checkpoint = tmp_path / "model"
    if subject.name != "whisper_base":
        write_model(checkpoint, subject.name)
    elif given := os.environ.get("MPQ_BENCH_WHISPER"):
        checkpoint = Path(given)
    else:
        pytest.skip("no whisper-base: give its folder in MPQ_BENCH_WHISPER")
    counts = (scaled(subject.samples // 4, 2), scaled(subject.samples, 8))
    few, many = (Project(tmp_path / str(count), f"own_{subject.name}") for count in counts)
    files = []
    for project, count in zip((few, many), counts, strict=True):
        project.declare(str(checkpoint), subject.data, {subject.codec: [subject.quality]}, subject.task)
        files = subject.write(project.folder / "photos", count)
    quality = QUALITY if subject.codec == "jpeg" else subject.quality
    specification = {"task": subject.task, "model": str(checkpoint), "files": [str(file) for file in files[:SHARE]], "quality": quality}
    before = library_seconds(specification, tmp_path)
    small = few.run(tmp_path / "store-of-few", cores=1)
    large = benchmark.pedantic(many.run, args=(tmp_path / "store-of-many",), kwargs={"cores": 1}, rounds=1)
    after = library_seconds(specification, tmp_path)
    steps = {step: (before[step] + after[step]) / 2 for step in before}
    twice = ("prepare", "predict")  # on the original and at the point
    libraries = sum(seconds * (2 if step in twice else 1) for step, seconds in steps.items())
    ours = (large.seconds - small.seconds) / (counts[1] - counts[0])
    benchmark.extra_info["milliseconds a call"] = {step: round(1000 * seconds, 3) for step, seconds in steps.items()}
    benchmark.extra_info["milliseconds a sample"] = {"run": 1000 * ours, "libraries": 1000 * libraries}
    row(f"... {subject.name}: start, audit and end of its run", None, large.seconds - counts[1] * ours, "s")
    row(f"{subject.name}: one worker, cold, over the sum of the library calls", 1.10, ours / libraries)
