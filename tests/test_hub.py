"""The hub, ``mpq fetch`` and ``mpq doctor``, with the real clients against a hub on loopback."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hub_replicas import BEANS, CONVERTED, common_voice, fill, musdb18hq
from loopback_hub import TOKEN, LoopbackHub, digest
from test_hific import WRITE_MODELS
from test_learned_pictures import WORKER, WRITE_WEIGHTS

from mpq_fixtures import hub as client
from mpq_fixtures.__main__ import main
from mpq_fixtures.codecs.hific import Hific
from mpq_fixtures.commands.assets import assets
from mpq_fixtures.datasets import load_dataset
from mpq_fixtures.errors import AssetError, MissingAsset
from mpq_fixtures.hub import dataset_files, dataset_repository, listing, look, model_folder, model_repository
from mpq_fixtures.hub.files import UnfitError, parquet_files, split_files, transformers_files
from mpq_fixtures.hub.repository import Repository, State
from mpq_fixtures.isolation.environment import Environment, clean_environment
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.suite import Evaluation
from mpq_fixtures.suite.file import load_suite
from mpq_fixtures.tasks import find_task

ROOT = Path(__file__).parents[1]
BEANS_SUITE = """
name = "garden"
[[evaluation]]
name = "vit_beans"
task = "image_classification"
model = "nateraw/vit-base-beans"
dataset = { path = "AI-Lab-Makerere/beans", split = "validation", image = "image", label = "labels" }
codecs = ["jpeg"]
qualities = { jpeg = ["q5"] }
"""
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def filled() -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        fill(hub)
        yield hub


@pytest.fixture
def hub(filled: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
    """The hub that this process asks, with an empty cache."""
    point_at(filled.url, tmp_path, monkeypatch)
    filled.requests.clear()
    filled.broken.clear()
    filled.damaged.clear()
    return filled


def point_at(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in this process what ``HF_ENDPOINT`` and ``HF_HOME`` do in a new one, where they are read at import."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "hf" / "datasets")
    monkeypatch.setattr(listing, "_answers", {})
    monkeypatch.setattr(listing, "_silence", [])
    monkeypatch.delenv("HF_TOKEN", raising=False)


def environment(url: str, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MPQ_"))}
    return kept | {"HF_ENDPOINT": url, "HF_HOME": str(folder / "hf"), "MPQ_CACHE": str(folder / "store"), "HF_HUB_DISABLE_TELEMETRY": "1"}


@pytest.fixture
def suite(tmp_path: Path) -> Callable[..., tuple[str, list[Evaluation]]]:
    def write(content: str = BEANS_SUITE) -> tuple[str, list[Evaluation]]:
        file = tmp_path / "suite.toml"
        file.write_text(content, encoding="utf-8")
        return str(file), load_suite(file)

    return write


def dataset(path: str, **table: Any) -> Repository:
    return Repository("dataset", path, table.pop("revision", "main"), split_files({"path": path, **table}), "garden")


def read_to_the_end(terminal: int) -> str:
    """Return what was written to a terminal, whose other end is closed: it comes in pieces, and ends with an error."""
    pieces = []
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 100_000):
            pieces.append(piece)
    return b"".join(pieces).decode()


class TestFetch:
    def test_lists_sizes_then_brings_all_that_is_needed(self, hub: LoopbackHub, suite: Any, capsys: Any) -> None:
        file, (evaluation,) = suite()
        assert main(["fetch", file]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[:2] == ["model", "nateraw/vit-base-beans"]
        assert lines[0].endswith("can be fetched")
        assert "kB" in lines[1]
        assert "to download:" in lines[2]
        assert lines[-1].endswith("everything is here")
        weights = model_folder(evaluation) / WEIGHTS
        assert weights.read_bytes() == hub.repos["model", "nateraw/vit-base-beans"].revisions["main"][1][WEIGHTS]
        (validation,) = dataset_files(evaluation)
        assert validation.name == "validation-00000-of-00001.parquet"
        assert not list(validation.parent.glob("train-*"))

    def test_a_second_time_downloads_nothing(self, hub: LoopbackHub, suite: Any, capsys: Any) -> None:
        file, _ = suite()
        main(["fetch", file])
        hub.requests.clear()
        assert main(["fetch", file]) == 0
        assert "to download" not in capsys.readouterr().out.split("everything is here")[1]
        assert not hub.requests

    def test_a_broken_download_is_carried_on_from_where_it_broke(self, hub: LoopbackHub, suite: Any, capsys: Any) -> None:
        file, (evaluation,) = suite()
        content = hub.repos["model", "nateraw/vit-base-beans"].revisions["main"][1][WEIGHTS]
        hub.broken[WEIGHTS] = size = len(content) // 2 + 1
        assert main(["fetch", file]) == 0
        assert [request.range for request in hub.asked_for(WEIGHTS)] == ["bytes=0-", f"bytes={size}-"]
        assert (model_folder(evaluation) / WEIGHTS).read_bytes() == content

    def test_what_came_in_an_earlier_process_is_not_asked_for_again(self, hub: LoopbackHub, suite: Any, capsys: Any) -> None:
        file, (evaluation,) = suite()
        repository = model_repository(evaluation)
        assert repository is not None
        content = hub.repos["model", repository.id].revisions["main"][1][WEIGHTS]
        part = client.storage(repository) / "blobs" / f"{digest(WEIGHTS, content)}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(content[:3000])
        assert main(["fetch", file]) == 0
        assert [request.range for request in hub.asked_for(WEIGHTS)] == ["bytes=3000-"]
        assert (model_folder(evaluation) / WEIGHTS).read_bytes() == content
        assert not part.exists()

    def test_a_connection_that_brings_nothing_is_given_up_in_seconds_with_one_sentence(
        self, hub: LoopbackHub, suite: Any, capsys: Any
    ) -> None:
        file, (evaluation,) = suite()
        hub.broken[WEIGHTS] = 0
        started = time.monotonic()
        assert main(["fetch", file]) == 1
        assert time.monotonic() - started < 8
        error = capsys.readouterr().err
        assert "nateraw/vit-base-beans could not be fetched whole" in error
        assert f"what has come is kept, carry on with: mpq fetch {file}" in error
        assert error.count("mpq fetch:") == 1
        assert dataset_files(evaluation)  # the other asset came all the same
        hub.broken.clear()
        assert main(["fetch", file]) == 0

    def test_damage_on_the_way_is_noticed_and_dropped(self, hub: LoopbackHub, suite: Any, capsys: Any) -> None:
        file, (evaluation,) = suite()
        hub.damaged.add(WEIGHTS)
        assert main(["fetch", file]) == 1
        assert "model.safetensors came damaged" in capsys.readouterr().err
        assert model_folder_or_none(evaluation) is None
        hub.damaged.clear()
        assert main(["fetch", file]) == 0
        assert model_folder(evaluation)

    def test_too_little_room_is_said_before_anything_comes(
        self, hub: LoopbackHub, suite: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("usage", (), {"free": 1000})())
        assert main(["fetch", suite()[0]]) == 1
        assert "has room for 1 kB" in capsys.readouterr().err
        assert not hub.asked_for(WEIGHTS)

    def test_of_a_slice_only_the_shards_that_hold_it_come(self, hub: LoopbackHub, suite: Any) -> None:
        file, (evaluation,) = suite(
            BEANS_SUITE.replace("AI-Lab-Makerere/beans", "benjamin-paine/imagenet-1k").replace('"validation"', '"validation[:3]"')
        )
        assert main(["fetch", file]) == 0
        assert [path.name for path in dataset_files(evaluation)] == ["validation-00000-of-00002.parquet"]

    def test_a_model_without_safetensors_comes_in_pytorchs_format(self, hub: LoopbackHub, suite: Any) -> None:
        files = dict(hub.repos["model", "nateraw/vit-base-beans"].revisions["main"][1])
        files["pytorch_model.bin"] = files.pop(WEIGHTS)
        hub.add("model", "someone/old", files)
        assert "pytorch_model.bin" in look(Repository("model", "someone/old")).files

    def test_progress_is_drawn_on_a_terminal_and_nowhere_else(self, hub: LoopbackHub, suite: Any, tmp_path: Path) -> None:
        file, _ = suite()
        command = [sys.executable, "-m", "mpq_fixtures", "fetch", file]
        piped = subprocess.run(command, env=environment(hub.url, tmp_path), capture_output=True, text=True, cwd=ROOT, check=True)
        assert piped.stderr == ""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
        subprocess.run(command, env=environment(hub.url, tmp_path / "again"), stdout=subprocess.PIPE, stderr=theirs, cwd=ROOT, check=True)
        os.close(theirs)
        drawn = read_to_the_end(ours)
        os.close(ours)
        assert "100%" in drawn
        assert "AI-Lab-Makerere/beans" in drawn


def model_folder_or_none(evaluation: Evaluation) -> Path | None:
    try:
        return model_folder(evaluation)
    except AssetError:
        return None


class TestStates:
    def test_here_needs_no_network(self, hub: LoopbackHub, suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        file, (evaluation,) = suite()
        main(["fetch", file])
        point_at("http://127.0.0.1:9", tmp_path, monkeypatch)
        assert {asset.look().state for asset in assets([evaluation])} == {State.HERE}
        data = load_dataset(evaluation)
        assert data.labels == tuple(BEANS)
        assert len(data.samples) == 4
        model = OpenModel(evaluation, "cpu")
        assert len(model.ready().predict([data.samples[0].signal()])) == 1

    def test_a_shard_that_is_missing_is_noticed(self, hub: LoopbackHub, suite: Any) -> None:
        file, (evaluation,) = suite(BEANS_SUITE.replace("AI-Lab-Makerere/beans", "benjamin-paine/imagenet-1k"))
        main(["fetch", file])
        dataset_files(evaluation)[1].unlink()
        repository = dataset_repository(evaluation)
        assert repository is not None
        assert look(repository).state is State.FETCHABLE

    def test_a_readme_that_is_missing_may_say_where_the_split_is(self, hub: LoopbackHub, suite: Any) -> None:
        """The files came by another way, which left out the README; it alone says which of them is which split."""
        readme = "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: validation\n    path: data/part2.parquet\n---\n"
        parts = {f"data/part{number}.parquet": b"PAR1" for number in (1, 2)}
        hub.add("dataset", "acme/speech", {"README.md": readme.encode(), **parts})
        from huggingface_hub import snapshot_download

        snapshot_download("acme/speech", repo_type="dataset", allow_patterns="*.parquet")
        assert look(dataset("acme/speech", name="en", split="validation")).state is State.FETCHABLE

    def test_can_be_fetched(self, hub: LoopbackHub) -> None:
        status = look(dataset("AI-Lab-Makerere/beans", split="test"))
        assert status.state is State.FETCHABLE
        assert status.sentence.startswith("AI-Lab-Makerere/beans is not here: `mpq fetch garden` downloads it (")

    def test_gated(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        status = look(dataset("ILSVRC/imagenet-1k", split="validation"))
        assert status.state is State.GATED
        assert f"accept its terms on {hub.url}/datasets/ILSVRC/imagenet-1k" in status.sentence
        monkeypatch.setattr(listing, "_answers", {})
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert look(dataset("ILSVRC/imagenet-1k", split="validation")).state is State.FETCHABLE

    def test_gone(self, hub: LoopbackHub) -> None:
        assert look(Repository("model", "openai/whisper-meduim")).sentence.startswith(
            "openai/whisper-meduim is not on the hub, nor a folder"
        )
        status = look(dataset("mozilla-foundation/common_voice_11_0", split="validation"))
        assert status.state is State.GONE
        assert "Mozilla Data Collective" in status.sentence
        assert "'v9'" in look(Repository("model", "openai/whisper-medium", "v9")).sentence

    def test_a_loading_script_is_not_run_and_the_way_round_is_said(self, hub: LoopbackHub) -> None:
        status = look(dataset("keremberke/chest-xray-classification", name="full", split="validation"))
        assert status.state is State.UNFIT
        assert f'revision = "{CONVERTED}"' in status.sentence
        converted = look(dataset("keremberke/chest-xray-classification", name="full", split="validation", revision=CONVERTED))
        assert list(converted.files) == ["full/validation/0000.parquet"]

    def test_an_unknown_split_is_told_from_those_that_there_are(self, hub: LoopbackHub) -> None:
        status = look(dataset("keremberke/chest-xray-classification", name="full", split="holdout", revision=CONVERTED))
        assert status.state is State.UNFIT
        assert "full/validation" in status.sentence

    def test_offline(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        status = look(Repository("model", "openai/whisper-medium"))
        assert status.state is State.UNREACHABLE
        assert "set HF_HUB_OFFLINE=0" in status.sentence
        assert not hub.requests

    def test_no_hub_at_all(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        point_at("http://127.0.0.1:9", tmp_path, monkeypatch)
        status = look(Repository("model", "openai/whisper-medium"))
        assert status.state is State.UNREACHABLE
        assert "http://127.0.0.1:9 cannot be reached" in status.sentence

    def test_a_hub_that_never_answers_is_waited_for_once(self, hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(listing, "PATIENCE", 0.5)
        hub.silent = True
        try:
            started = time.monotonic()
            assert look(Repository("model", "openai/whisper-medium")).state is State.UNREACHABLE
            assert "cannot be reached" in look(dataset("AI-Lab-Makerere/beans", split="test")).sentence
            assert time.monotonic() - started < 2
        finally:
            hub.silent = False


class TestFingerprint:
    def test_it_changes_with_the_commit_and_with_nothing_else(self, hub: LoopbackHub, suite: Any) -> None:
        file, (evaluation,) = suite()
        main(["fetch", file])
        before = OpenModel(evaluation, "cpu").fingerprint
        assert OpenModel(evaluation, "cpu").fingerprint == before
        repository = model_repository(evaluation)
        assert repository is not None
        reference = client.storage(repository) / "refs" / "main"
        other = "0" * 40
        (client.storage(repository) / "snapshots" / reference.read_text()).rename(client.storage(repository) / "snapshots" / other)
        reference.write_text(other)
        assert OpenModel(evaluation, "cpu").fingerprint != before


class TestDoctor:
    def test_says_how_each_asset_stands_and_what_to_do(self, hub: LoopbackHub, suite: Any, capsys: Any) -> None:
        file, _ = suite(
            BEANS_SUITE
            + """
[[evaluation]]
name = "vit_gated"
task = "image_classification"
model = "google/vit-base-patch16-224"
dataset = { path = "ILSVRC/imagenet-1k", split = "validation", image = "image", label = "label" }
[[evaluation]]
name = "whisper_folder"
task = "speech_recognition"
model = "openai/whisper-medium"
dataset = { path = "common_voice", data_dir = "nowhere", split = "validation" }
"""
        )
        assert main(["doctor", file]) == 1
        out = capsys.readouterr().out
        assert "nateraw/vit-base-beans" in out
        assert "can be fetched" in out
        assert f"accept its terms on {hub.url}/datasets/ILSVRC/imagenet-1k" in out
        assert "clips/*.mp3" in out
        assert "libjpeg" in out
        assert "cpu" in out

    def test_all_is_well_once_fetched(self, hub: LoopbackHub, suite: Any, capsys: Any) -> None:
        file, _ = suite()
        main(["fetch", file])
        assert main(["doctor", file]) == 0
        assert "passed: 2 cases of 1 evaluation can run" in capsys.readouterr().out

    def test_a_wrong_column_shows_once_the_data_are_here(self, hub: LoopbackHub, suite: Any, capsys: Any) -> None:
        file, _ = suite(BEANS_SUITE.replace('label = "labels"', 'label = "label"'))
        main(["fetch", file])
        assert main(["doctor", file]) == 1
        assert "labels" in capsys.readouterr().out

    def test_each_mistake_in_a_file_is_told(self, suite: Any, capsys: Any, tmp_path: Path) -> None:
        file = tmp_path / "wrong.toml"
        second = BEANS_SUITE.split("[[evaluation]]")[1].replace("vit_beans", "vit_others").replace('["jpeg"]', '["jpg"]')
        file.write_text(BEANS_SUITE.replace("image_classification", "image_clasification") + "[[evaluation]]" + second)
        assert main(["doctor", str(file)]) == 2
        complaints = capsys.readouterr().err
        assert "did you mean 'image_classification'?" in complaints
        assert "did you mean 'jpeg'?" in complaints

    def test_an_unknown_suite_is_told_with_those_that_there_are(self, capsys: Any) -> None:
        assert main(["doctor", "pockte"]) == 2
        assert "did you mean 'pocket'?" in capsys.readouterr().err


class TestLocalFolders:
    """Paths that look like ids of the hub, but begin with a folder that lies beside the suite file."""

    LOCAL = BEANS_SUITE.replace("nateraw/vit-base-beans", "models/vitt").replace("AI-Lab-Makerere/beans", "data/bean")

    def test_misspelt_they_are_told_with_what_there_is_and_the_hub_is_not_asked(
        self, hub: LoopbackHub, suite: Any, tmp_path: Path, capsys: Any
    ) -> None:
        for name in ("models/vit", "models/whisper", "models/.git", "data/beans"):
            (tmp_path / name).mkdir(parents=True)
        file, (evaluation,) = suite(self.LOCAL)
        with pytest.raises(
            AssetError, match=rf"there is no model folder {tmp_path}/models/vitt: .*did you mean 'vit'\? There are: vit, whisper$"
        ):
            OpenModel(evaluation, "cpu").ready()
        with pytest.raises(AssetError, match=rf"'data/bean': no such folder {tmp_path}/data/bean: .*did you mean 'beans'\?"):
            load_dataset(evaluation)
        assert main(["doctor", file]) == 1
        assert capsys.readouterr().out.count("did you mean") == 2
        assert not hub.requests

    def test_of_many_neighbours_only_the_like_are_listed(self, suite: Any, tmp_path: Path) -> None:
        for number in range(30):
            (tmp_path / "models" / f"quite_another_{number}").mkdir(parents=True)
        (tmp_path / "models" / "vit").mkdir()
        _, (evaluation,) = suite(self.LOCAL)
        with pytest.raises(AssetError, match=r"There is: vit$"):
            model_folder(evaluation)

    def test_without_such_a_folder_they_are_ids_of_the_hub(self, suite: Any) -> None:
        _, (evaluation,) = suite(self.LOCAL)
        assert model_repository(evaluation) == Repository("model", "models/vitt")
        assert dataset_repository(evaluation) is not None


class TestDoctorOpensModels:
    def test_what_can_be_known_without_weights_is_told(self, suite: Any, tmp_path: Path, capsys: Any) -> None:
        tables = []
        for name, task, options, files in (
            ("mute", "speech_recognition", "", {"config.json": "{}", "model.safetensors": None, "processor_config.json": "{}"}),
            ("foreign", "speech_recognition", 'options = { language = "germn" }', {}),
            ("blind", "image_segmentation", "", {"config.json": "{}", "model.safetensors": None}),
            ("empty", "image_classification", "", {"config.json": "{}"}),
            ("silent", "source_separation", "", {"README.md": ""}),
        ):
            (tmp_path / name).mkdir()
            for file, content in files.items():
                (tmp_path / name / file).write_bytes((content or "").encode())
            data = '{ path = "python:own:samples" }'
            tables.append(
                f'[[evaluation]]\nname = "{name}"\ntask = "{task}"\nmodel = "./{name}"\ndataset = {data}\ncodecs = []\n{options}\n'
            )
        (tmp_path / "own.py").write_text("def samples(): raise ValueError('no data')")
        file, _ = suite('name = "own"\n' + "".join(tables))
        assert main(["doctor", "--import", file]) == 1
        out = capsys.readouterr().out
        for complaint in (
            "mute holds neither tokenizer.json nor vocab.json",
            "unknown language 'germn'; did you mean 'german'?",
            "blind holds neither preprocessor_config.json nor processor_config.json",
            "empty holds neither model.safetensors nor",
            "silent: expected one .safetensors or .th file, or a bag's .yaml; found 0 models",
            "python:own:samples() raised ValueError: no data",
        ):
            assert complaint in out
        assert "cannot be opened" not in out


class Marks:
    """What a pickle may do when it is read: here, make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class TestNoCodeFromTheHub:
    def test_a_model_in_pytorchs_format_is_read_as_tensors_alone(self, hub: LoopbackHub, suite: Any, tmp_path: Path) -> None:
        import torch
        from safetensors.torch import load

        files = dict(hub.repos["model", "nateraw/vit-base-beans"].revisions["main"][1])
        weights: dict[str, Any] = load(files.pop(WEIGHTS))
        for id, more in (("someone/tensors", {}), ("someone/code", {"code": Marks(tmp_path / "ran")})):
            torch.save({**weights, **more}, tmp_path / "model.bin")
            hub.add("model", id, {**files, "pytorch_model.bin": (tmp_path / "model.bin").read_bytes()})
            file, (evaluation,) = suite(BEANS_SUITE.replace("nateraw/vit-base-beans", id))
            main(["fetch", file])
            if not more:
                assert OpenModel(evaluation, "cpu").ready()
                continue
            with pytest.raises(AssetError, match=r"(?i)weights.only|unpickl"):
                OpenModel(evaluation, "cpu").ready()
        assert not (tmp_path / "ran").exists()

    def test_a_separation_model_that_names_another_class_is_refused(self, tmp_path: Path) -> None:
        import torch
        from safetensors.torch import save_file

        from mpq_fixtures.tasks import find_task

        about = {"klass": "pathlib.Path", "args": json.dumps([str(tmp_path)]), "kwargs": "{}"}
        save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors", about)
        with pytest.raises(AssetError, match=r"'pathlib\.Path', which is no model of demucs"):
            find_task("source_separation").load(str(tmp_path), "cpu")

    def test_a_model_of_another_kind_shows_in_the_doctor(self, hub: LoopbackHub, suite: Any, capsys: Any) -> None:
        file, _ = suite(BEANS_SUITE.replace("nateraw/vit-base-beans", "nvidia/segformer-b0-finetuned-ade-512-512"))
        main(["fetch", file])
        assert main(["doctor", file]) == 1
        assert "holds a SegformerForSemanticSegmentation" in capsys.readouterr().out


class TestChoice:
    """Names as they are on the hub."""

    def test_one_set_of_weights(self) -> None:
        needed = ["config.json", "generation_config.json", "merges.txt", "model.safetensors", "normalizer.json", "preprocessor_config.json",
                  "tokenizer.json", "vocab.json"]  # fmt: skip
        others = ["README.md", "flax_model.msgpack", "model.fp32-00001-of-00002.safetensors", "onnx/model.onnx", "pytorch_model.bin"]
        assert transformers_files(needed + others, "") == needed

    def test_shards_and_their_index(self) -> None:
        names = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
        assert transformers_files(names, "") == names

    def test_no_model(self) -> None:
        with pytest.raises(UnfitError, match=r"config\.json"):
            transformers_files(["README.md"], "")
        with pytest.raises(UnfitError, match="neither"):
            transformers_files(["config.json"], "")
        with pytest.raises(UnfitError, match="safetensors"):
            find_task("source_separation").files(["mdx.yaml", "0d19c1c6-0f06f20e.th"], "")

    def test_the_convert_branch(self) -> None:
        names = ["instance_segmentation/validation/0000.parquet", "scene_parsing/test/0000.parquet", "scene_parsing/train/0000.parquet",
                 "scene_parsing/train/0001.parquet", "scene_parsing/validation/0000.parquet"]  # fmt: skip
        table = {"name": "scene_parsing", "split": "train"}
        assert parquet_files(table, names, "") == names[2:4]

    def test_of_several_configurations_one_must_be_named(self) -> None:
        names = ["instance_segmentation/validation/0000.parquet", "scene_parsing/validation/0000.parquet"]
        with pytest.raises(UnfitError, match=r"write name = .*instance_segmentation/validation, scene_parsing/validation"):
            parquet_files({"split": "validation"}, names, "")

    def test_partial_splits_of_the_convert_branch(self) -> None:
        assert parquet_files({"split": "validation"}, ["default/partial-validation/0000.parquet"], "") == [
            "default/partial-validation/0000.parquet"
        ]

    @pytest.mark.parametrize(
        ("split", "chosen"), [("test", [0, 1]), ("test_other", [2]), ("test.clean", [3]), ("validation", [4]), ("other", [2])]
    )
    def test_whose_names_begin_alike_are_told_apart(self, split: str, chosen: list[int]) -> None:
        """As ``push_to_hub`` names the files of splits, in the first of the patterns that ``datasets`` looks for."""
        names = ["data/test-00000-of-00002.parquet", "data/test-00001-of-00002-0d19c1c60f06f20e.parquet",
                 *(f"data/{name}-00000-of-00001.parquet" for name in ("test_other", "test.clean", "dev"))]  # fmt: skip
        assert parquet_files({"split": split}, names, "") == [names[place] for place in chosen]

    def test_a_configuration_of_the_readme(self) -> None:
        readme = "---\nconfigs:\n- config_name: en\n  data_files:\n  - split: validation\n    path: en/validation-*\n---\n"
        names = ["en/train-00000-of-00001.parquet", "en/validation-00000-of-00002.parquet", "en/validation-00001-of-00002.parquet"]
        assert parquet_files({"name": "en", "split": "validation[:802]"}, names, readme) == names[1:]

    @pytest.mark.parametrize(("split", "count"), [("validation[:1000]", 1), ("validation[:3572]", 2), ("validation[3000:4000]", 2),
                                                  ("validation", 14), ("validation[:10%]", 14), ("validation[-10:]", 14)])  # fmt: skip
    def test_shards_of_a_slice(self, split: str, count: int) -> None:
        # 50,000 rows in 14 equal shards: 3,571 or 3,572 in each.
        names = [f"data/validation-{shard:05}-of-00014.parquet" for shard in range(14)]
        readme = "---\ndataset_info:\n  splits:\n  - name: validation\n    num_examples: 50000\n---\n"
        assert parquet_files({"split": split}, names, readme) == names[:count]


CLIENTS = """
import datasets, huggingface_hub, json, sys, transformers
from transformers import ViTForImageClassification, ViTImageProcessorPil
beans = datasets.load_dataset("AI-Lab-Makerere/beans")
chest = datasets.load_dataset("keremberke/chest-xray-classification", data_dir="full", revision="refs/convert/parquet", split="validation")
scenes = datasets.load_dataset("zhoubolei/scene_parse_150", data_dir="scene_parsing", revision="refs/convert/parquet", split="validation")
model = ViTForImageClassification.from_pretrained("nateraw/vit-base-beans", use_safetensors=True)
pixels = ViTImageProcessorPil.from_pretrained("nateraw/vit-base-beans")(beans["validation"][0]["image"], return_tensors="pt")
print(json.dumps({
    "beans": {split: beans[split].num_rows for split in beans},
    "columns": beans["validation"].column_names,
    "labels": beans["validation"].features["labels"].names,
    "chest": chest.features["labels"].names,
    "scenes": scenes.column_names,
    "mode": scenes[0]["annotation"].mode,
    "logits": list(model(**pixels).logits.shape),
}))
"""


class TestRealClients:
    def test_datasets_and_transformers_take_the_hub_for_a_real_one(self, hub: LoopbackHub, tmp_path: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-c", CLIENTS], env=environment(hub.url, tmp_path), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout.splitlines()[-1]) == {
            "beans": {"train": 4, "validation": 4, "test": 4},
            "columns": ["image_file_path", "image", "labels"],
            "labels": ["angular_leaf_spot", "bean_rust", "healthy"],
            "chest": ["NORMAL", "PNEUMONIA"],
            "scenes": ["image", "annotation", "scene_category"],
            "mode": "L",
            "logits": [1, 3],
        }


def learned_weights(folder: Path) -> None:
    """Write mbt2018 quality 1 and HiFiC-lo in the formats of the public ones, by their own libraries: small, and with random weights."""
    try:
        compressai, tensorflow = Environment(WORKER, "mbt2018").make(), Hific().environment().make()
    except MissingAsset as missing:
        pytest.skip(str(missing))
    for name in ("compressai", "tfci"):
        (folder / name).mkdir(parents=True)
    job = "mbt2018-1:mbt2018:16,24:1:new"
    command = [str(compressai), "-c", WRITE_WEIGHTS, str(WORKER), str(folder / "compressai"), job]
    subprocess.run(command, check=True, env=clean_environment(), timeout=300)
    written = folder / "compressai" / "mbt2018-1"
    written.rename(written.with_name(f"mbt2018-1-{sha256(written.read_bytes()).hexdigest()[:8]}.pth.tar"))
    quiet = clean_environment() | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run([str(tensorflow), "-c", WRITE_MODELS, str(folder / "tfci")], check=True, env=quiet, timeout=300)


def evaluate(suite: str, env: dict[str, str], out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    history = str(out.with_name("history"))
    command = [sys.executable, "-m", "pytest", "evaluations", "--mpq-suite", suite, "--mpq-out", str(out), "--mpq-history", history, "-q"]
    command += options
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)


class TestRuns:
    def test_without_the_hub_cases_skip_with_the_doctors_sentence_and_fail_when_strict(self, suite: Any, tmp_path: Path) -> None:
        file, _ = suite()
        env = environment("http://127.0.0.1:9", tmp_path)
        started = time.monotonic()
        skipped = evaluate(file, env, tmp_path / "out")
        seconds = time.monotonic() - started
        sentence = "nateraw/vit-base-beans is not here, and http://127.0.0.1:9 cannot be reached"
        other = "AI-Lab-Makerere/beans is not here, and http://127.0.0.1:9 cannot be reached"
        assert "2 skipped" in skipped.stdout
        assert sentence in skipped.stdout or other in skipped.stdout
        assert f"then: mpq fetch {file}" in skipped.stdout
        assert skipped.returncode == 1  # nothing was measured
        assert seconds < 60  # most of it imports
        strict = evaluate(file, env, tmp_path / "out", "--mpq-strict")
        assert "2 failed" in strict.stdout or "2 errors" in strict.stdout
        assert other in strict.stdout or sentence in strict.stdout


class TestStudy:
    def test_all_its_evaluations_pass_from_download_to_report(self, hub: LoopbackHub, tmp_path: Path) -> None:
        common_voice(tmp_path / "data" / "common_voice_11" / "en")
        musdb18hq(tmp_path / "data" / "musdb18hq")
        learned_weights(tmp_path / "weights")
        env = environment(hub.url, tmp_path) | {"MPQ_DATA": str(tmp_path / "data"), "MPQ_WEIGHTS": str(tmp_path / "weights")}
        command = [sys.executable, "-m", "mpq_fixtures", "fetch", "study"]
        fetched = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
        # All but AlexNet's weights, which no test can make: their digest is the published one.
        assert fetched.returncode == 1, fetched.stdout + fetched.stderr
        (complaint,) = fetched.stderr.strip().splitlines()[-1:]
        assert complaint.startswith("mpq fetch: metric lpips")
        assert "mpq fetch: " not in fetched.stderr.replace(complaint, "")
        # From here on there is no hub.
        run = evaluate("study", env | {"HF_ENDPOINT": "http://127.0.0.1:9"}, tmp_path / "out", "--mpq-samples", "2")
        assert run.returncode == 0, run.stdout[-5000:]
        with (tmp_path / "out" / "results.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["evaluation"] for row in rows} == {
            "vit_imagenet", "vit_xray", "vit_beans", "segformer_ade20k", "whisper_common_voice", "whisper_common_voice_17", "demucs_musdb",
        }  # fmt: skip
        assert len(rows) == 4 * (1 + 4) + 3 * (1 + 3)
        points = {"jpeg-q5", "webp-q0", "mbt2018-q1", "hific-lo", "mp3-8k", "opus-6k", "encodec-6k_48khz"}
        assert {f"{row['codec']}-{row['quality']}" for row in rows if row["quality"]} == points
        assert "lpips was not measured: its weights are not here" in run.stdout
        assert all(row["samples"] == "2" and row["rate_mean"] for row in rows), rows
        assert all(row["value"] for row in rows), rows
        report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        assert 'id="replication"' in report
        assert "2 of 1000" in report
