"""The registry of tasks, what is said of one that cannot be, and the example of docs/ from the class to the page."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import hub_replicas as replicas
import numpy as np
import pytest
from PIL import Image
from projects import ROOT, Project

from mpq_fixtures import metrics, plug_ins, tasks
from mpq_fixtures.__main__ import main
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.suite import SuiteError
from mpq_fixtures.suite.file import load_suite, mistakes
from mpq_fixtures.tasks import AUDIO, IMAGE, Task, TaskError, find_task, registered

EXAMPLE = ROOT / "docs" / "task_example.py"
SUITE = """
name = "tried"
[[evaluation]]
name = "first"
task = "{task}"
model = "python:model:load"
dataset = {{ path = "csv", data_files = "data.csv" }}
[[evaluation]]
name = "second"
task = "{task}"
model = "python:model:load"
dataset = {{ path = "csv", data_files = "data.csv" }}
"""
ROOMS = re.findall(r"`rooms.toml`:\n\n```toml\n(.*?)```", (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8"), re.DOTALL)[0]
WHOLE: dict[str, Any] = {
    "name": "fresh",
    "title": "fresh air",
    "modality": IMAGE,
    "columns": ("image", "label"),
    "targets": lambda self, table: ((), ()),
    "load": lambda self, source, device, **options: None,
    "metric": lambda self, dataset, **options: Top1(),
}


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten behind it."""
    registered(), metrics.registered_signal_metrics(IMAGE)
    monkeypatch.setattr(tasks, "_registry", dict(tasks._registry))
    monkeypatch.setattr(tasks, "_twins", dict(tasks._twins))
    monkeypatch.setattr(metrics, "_task_metrics", dict(metrics._task_metrics))
    yield
    find_task.cache_clear()


@pytest.fixture
def suite(tmp_path: Path) -> Callable[[str], Path]:
    def write(task: str) -> Path:
        file = tmp_path / "tried.toml"
        file.write_text(SUITE.format(task=task))
        return file

    return write


def without(*parts: str) -> dict[str, Any]:
    return {part: value for part, value in WHOLE.items() if part not in parts}


def load_module(file: Path, name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


class TestRegistry:
    def test_names_are_found_with_their_titles(self) -> None:
        assert {"audio_classification", "zero_shot_image_classification", "speech_recognition"} <= set(registered())
        assert tasks.title_of("zero_shot_image_classification") == "zero-shot image classification"
        assert find_task("audio_classification").modality is AUDIO
        assert find_task("audio_classification") is find_task("audio_classification")

    def test_a_name_that_is_none_is_told_with_the_nearest(self, suite: Callable[[str], Path]) -> None:
        with pytest.raises(TaskError, match="no task 'audio_clasification'; did you mean 'audio_classification'"):
            find_task("audio_clasification")
        with pytest.raises(
            SuiteError, match=r"evaluation 1 \(first\): task: unknown 'zero_shot_classification'; did you mean 'zero_shot_image_class"
        ):
            load_suite(suite("zero_shot_classification"))

    @pytest.mark.usefixtures("fresh")
    def test_a_class_is_a_task_as_soon_as_it_is_defined(self, suite: Callable[[str], Path]) -> None:
        made = type("Fresh", (Task,), WHOLE)
        assert registered()["fresh"] is made
        assert [type(evaluation.task) for evaluation in load_suite(suite("fresh"))] == [made, made]

    @pytest.mark.usefixtures("fresh")
    def test_a_class_without_a_name_is_a_base_for_others(self) -> None:
        before = set(registered())
        base = type("Base", (Task,), without("name"))
        assert set(registered()) == before
        type("Fresh", (base,), {"name": "fresh"})
        assert set(registered()) == {*before, "fresh"}

    @pytest.mark.usefixtures("fresh")
    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            (WHOLE | {"name": "Fresh Air"}, "lower case"),
            (WHOLE | {"name": 7}, "lower case"),
            (without("title"), "it has no 'title'"),
            (without("modality"), "it has no 'modality'"),
            (without("columns"), "it has no 'columns'"),
            (WHOLE | {"modality": "image"}, "modality is 'image': set it to IMAGE or AUDIO"),
            (WHOLE | {"columns": "image"}, "columns are 'image': write the keys"),
            (without("targets"), "it lacks the method targets"),
            (without("load", "metric"), "it lacks the method load, metric"),
        ],
    )
    def test_what_lacks_a_part_is_refused_by_its_file_before_anything_runs(
        self, parts: dict[str, Any], message: str, suite: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        type("Lacking", (Task,), parts)
        with pytest.raises(SuiteError, match=f"^task Lacking \\(.*{message}"):
            load_suite(suite("image_classification"))
        assert main(["doctor", str(suite("image_classification"))]) == 2
        told = capsys.readouterr().err
        assert told.count("task Lacking") == 1  # not once for each evaluation
        assert "Traceback" not in told

    @pytest.mark.usefixtures("fresh")
    def test_of_two_by_one_name_both_are_told(self, suite: Callable[[str], Path]) -> None:
        class Mine(Task):
            name, title, modality, columns = "fresh", "mine", IMAGE, ("image", "label")
            targets, load, metric = WHOLE["targets"], WHOLE["load"], WHOLE["metric"]

        class Yours(Mine):
            name = "fresh"

        places = r"task Mine \(test_tasks.py, line \d+\): there is another task 'fresh' \(test_tasks.py, line \d+\): rename one"
        with pytest.raises(SuiteError, match=places):
            load_suite(suite("fresh"))

    @pytest.mark.usefixtures("fresh")
    def test_of_two_by_one_name_in_files_of_one_name_both_are_told(self, tmp_path: Path, suite: Callable[[str], Path]) -> None:
        for folder in ("mine", "yours"):
            (tmp_path / folder).mkdir()
            shutil.copy(EXAMPLE, tmp_path / folder / "depth.py")
            load_module(tmp_path / folder / "depth.py", f"{folder}_depth")
        with pytest.raises(SuiteError, match=r"task DepthEstimation \(depth.py, line \d+\): there is another task 'depth_estimation'"):
            load_suite(suite("depth_estimation"))

    @pytest.mark.usefixtures("fresh")
    def test_one_that_is_imported_twice_is_one(self, tmp_path: Path) -> None:
        shutil.copy(EXAMPLE, tmp_path / "depth.py")
        for name in ("as_a_plugin", "by_its_path"):
            load_module(tmp_path / "depth.py", name)
        assert "depth_estimation" in registered()

    @pytest.mark.usefixtures("fresh")
    @pytest.mark.parametrize("group", ["tasks", "metrics"])
    def test_an_entry_point_that_does_not_import_is_told(
        self, group: str, suite: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = EntryPoint("depth", "there_is.no_such", f"mpq.{group}")
        monkeypatch.setattr(plug_ins, "entry_points", lambda group: [broken] if group == broken.group else [])
        (tasks if group == "tasks" else metrics)._load.cache_clear()
        kind = group.removesuffix("s")
        with pytest.raises(SuiteError, match=f"^{kind} 'depth', entry point 'there_is.no_such': it does not import: ModuleNotFoundError"):
            load_suite(suite("image_classification"))


class Incomplete(Metric):
    """A metric that lacks nearly everything."""


@pytest.mark.usefixtures("fresh")
class TestAMetricThatDoesNotFit:
    @staticmethod
    def refused(given: Callable[..., Any], suite: Callable[[str], Path]) -> str:
        type("Fresh", (Task,), WHOLE | {"metric": lambda self, dataset, **options: given()})
        file = suite("fresh")
        with pytest.raises(SuiteError) as raised:
            load_suite(file)
        assert len(mistakes(file)) == 2  # one for each evaluation
        return str(raised.value)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (lambda: None, "what its metric() returns is None: return an instance of a subclass of mpq_fixtures.metrics.Metric"),
            (lambda: Top1, "is an instance of ABCMeta: return an instance"),
            (ImagePSNR, "is ImagePSNR, which compares signals: a task's metric compares a prediction with a target"),
            (Incomplete, "its metric() raised TypeError: Can't instantiate abstract class Incomplete"),
            (lambda: {}["classes"], "its metric() raised KeyError: 'classes': it is asked once without samples"),
        ],
    )
    def test_is_told_with_its_task(self, given: Callable[..., Any], message: str, suite: Callable[[str], Path]) -> None:
        told = self.refused(given, suite)
        assert "evaluation 1 (first): task 'fresh': " in told
        assert message in told

    @pytest.mark.parametrize(
        ("parts", "message"),
        [
            ({"unit": "share", "bounds": (0, 1)}, "is Share, which has no 'tolerance': set it in the class"),
            ({"unit": "share", "bounds": (1, 0), "tolerance": 0.1}, "whose bounds are (1, 0): write the least and the greatest value"),
            ({"unit": "share", "bounds": "0-1", "tolerance": 0.1}, "whose bounds are '0-1'"),
        ],
    )
    def test_is_told_by_what_it_lacks(self, parts: dict[str, Any], message: str, suite: Callable[[str], Path]) -> None:
        methods = {"observe": lambda self, prediction, target: None, "value": lambda self, statistics: 0.0}
        assert message in self.refused(type("Share", (Metric,), {"name": "share", **methods, **parts}), suite)

    def test_is_told_where_another_has_its_name(self, suite: Callable[[str], Path]) -> None:
        first = type("First", (Top1,), {"name": "share"})
        type("Second", (Top1,), {"name": "share", "__module__": "another"})
        assert "is First, and there is another 'share', Second in another: rename one" in self.refused(first, suite)


USES_THE_EXAMPLE = """
from mpq_fixtures.tasks import registered

def test_example():
    assert registered()["depth_estimation"].title == "depth estimation"
"""


def rooms(folder: Path) -> list[float]:
    """Lay out pictures, a tiny GLPN, and depths near those that it answers; return the ratio of the two for each measured pixel."""
    import torch
    from transformers import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessorPil, pipeline

    torch.manual_seed(0)
    config = GLPNConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, num_attention_heads=[1, 1, 1, 1])
    model = GLPNForDepthEstimation(config)
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.normal_(weights, 0, 0.2)
    model.save_pretrained(folder / "models/glpn")
    GLPNImageProcessorPil().save_pretrained(folder / "models/glpn")
    estimate = pipeline("depth-estimation", model=str(folder / "models/glpn"))
    lines, ratios = ["file,metres"], []
    for seed in range(3):
        (folder / f"{seed}.png").write_bytes(replicas.picture(seed, 96, 64))
        depth = estimate(Image.open(folder / f"{seed}.png").convert("RGB"))["predicted_depth"].numpy().squeeze()
        wanted = np.round(500 * depth * np.exp(np.random.default_rng(seed).normal(0, 0.25, depth.shape))).astype(np.uint16)
        wanted[:8] = 0
        if seed:
            Image.fromarray(wanted).save(folder / f"depth{seed}.png")
        else:
            np.save(folder / f"depth{seed}.npy", wanted)
        lines.append(f"{seed}.png,depth{seed}.{'png' if seed else 'npy'}")
        ratios += (depth[8:] / (wanted[8:] / 500)).ravel().tolist()
    (folder / "rooms.csv").write_text("\n".join(lines) + "\n")
    return ratios


class TestATaskFromOutside:
    def test_that_lacks_a_part_ends_a_run_in_a_sentence_before_anything(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        example = EXAMPLE.read_text()
        project.write("task_example.py", example.replace("    def metric(self", "    def measure(self"))
        run = project.run("-p", "task_example")
        assert run.ret == pytest.ExitCode.USAGE_ERROR
        run.stderr.fnmatch_lines(["ERROR: --mpq-suite: task DepthEstimation (task_example.py, line *): it lacks the method metric"])
        assert "Traceback" not in run.stderr.str() + run.stdout.str()

    def run(self, tmp_path: Path, *arguments: str, path: tuple[Path, ...] = ()) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "docs", *path)))}
        (tmp_path / "test_example.py").write_text(USES_THE_EXAMPLE)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(tmp_path)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120).stdout

    def test_registers_as_a_pytest_plugin(self, tmp_path: Path) -> None:
        assert "1 passed" in self.run(tmp_path, "-p", "task_example")

    def test_registers_by_its_entry_point(self, tmp_path: Path) -> None:
        package = tmp_path / "site" / "example-1.dist-info"
        package.mkdir(parents=True)
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1\n")
        (package / "entry_points.txt").write_text("[mpq.tasks]\ndepth_estimation = task_example\n")
        assert "1 passed" in self.run(tmp_path, path=(tmp_path / "site",))

    def test_is_not_there_unasked(self, tmp_path: Path) -> None:
        assert "1 failed" in self.run(tmp_path)

    def test_takes_at_most_120_lines(self) -> None:
        assert len(EXAMPLE.read_text().splitlines()) <= 120

    def test_cases_cache_baseline_report_and_page_follow_from_the_class(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        shutil.copy(EXAMPLE, project.folder)
        ratios = rooms(project.folder)
        project.write("rooms.toml", ROOMS)
        first = project.run("-p", "task_example", "--mpq-update-baselines", suite="rooms.toml", report=True)
        assert first.ret == 0
        rows = project.rows()
        assert list(rows) == ["glpn_rooms-original", "glpn_rooms-jpeg-q5", "glpn_rooms-jpeg-q90"]
        within = sum(max(ratio, 1 / ratio) < 1.25 for ratio in ratios) / len(ratios)
        assert 0.3 < within < 0.9
        # What is kept of an answer has three digits, which a pixel in a thousand may turn on.
        assert float(rows["glpn_rooms-original"]["value"]) == pytest.approx(within, abs=1e-3)
        assert float(rows["glpn_rooms-jpeg-q5"]["value"]) < float(rows["glpn_rooms-original"]["value"])
        assert {(row["task"], row["metric"], row["samples"]) for row in rows.values()} == {("depth_estimation", "delta1", "3")}
        page = project.out("report.html").read_text()
        assert "Depth estimation" in page
        assert "how near the model holds it to be" in page
        again = project.run("-p", "task_example", "-n", "2", suite="rooms.toml")
        assert again.ret == 0
        assert {row["verdict"] for row in project.rows().values()} == {"same"}
        assert set(project.results()["work"]["computed"].values()) == {0}
