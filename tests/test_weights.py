"""Weights of learned codecs: where they are looked for, what they are held against, and how they come, from a server on loopback."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from loopback_hub import LoopbackHub

from mpq_fixtures import codecs
from mpq_fixtures.__main__ import main
from mpq_fixtures.codecs import AUDIO, Codec, lyra
from mpq_fixtures.errors import AssetError, MissingAsset
from mpq_fixtures.metrics.lpips import LPIPS
from mpq_fixtures.weights import WeightFile, Weights, download, weights_cache

CONTENTS = {"first.tflite": bytes(range(256)) * 300, "second.tflite": b"other" * 1000}
SUITE = """
name = "speech"
[[evaluation]]
name = "whisper_local"
task = "speech_recognition"
model = "{model}"
dataset = {{ path = "json", data_files = "none.json", split = "train", audio = "audio", text = "text" }}
codecs = ["lyra"]
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """Plain files at ``URL/folder/name`` below `base`, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MPQ_WEIGHTS", raising=False)
    monkeypatch.delenv("MPQ_WEIGHTS_MIRROR", raising=False)
    with LoopbackHub() as hub:
        put(hub, {f"tiny/{name}": content for name, content in CONTENTS.items()})
        yield hub


def put(hub: LoopbackHub, files: dict[str, bytes]) -> None:
    hub.add("model", "some/files", files)


def base(hub: LoopbackHub) -> str:
    return f"{hub.url}/some/files/resolve/main"


def tiny(hub: LoopbackHub) -> Weights:
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    files = [WeightFile(name, f"{base(hub)}/tiny/{name}", digests[name], len(content)) for name, content in CONTENTS.items()]
    return Weights("tiny", tuple(files), "CC0", "mpq fetch --codec tiny")


class TestLooking:
    def test_are_not_in_the_home_of_nobody(self, server: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MPQ_WEIGHTS", "~nobody_here/weights")
        assert tiny(server).missing().startswith("its weights are not here: ")

    def test_prefers_the_folder_that_is_given(self, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        weights = tiny(server)
        assert weights.find() is None
        assert weights.missing() == "its weights are not here: mpq fetch --codec tiny, or set MPQ_WEIGHTS to a folder that holds tiny/"
        with pytest.raises(MissingAsset, match="mpq fetch --codec tiny"):
            weights.require()
        for folder in (weights_cache(), tmp_path / "given"):
            (folder / "tiny").mkdir(parents=True)
            for name, content in CONTENTS.items():
                (folder / "tiny" / name).write_bytes(content)
            monkeypatch.setenv("MPQ_WEIGHTS", str(tmp_path / "given"))
            assert weights.require() == folder / "tiny"
            assert weights.missing() == ""

    def test_takes_no_file_of_another_size_and_says_both_digests_of_a_wrong_one(self, server: LoopbackHub) -> None:
        weights = tiny(server)
        folder = download(weights)
        file = folder / "second.tflite"
        file.write_bytes(b"short")
        assert weights.find() is None
        wrong = b"OTHER" * 1000
        file.write_bytes(wrong)
        assert weights.find() == folder
        with pytest.raises(AssetError) as caught:
            weights.require()
        for content in (wrong, CONTENTS["second.tflite"]):
            assert hashlib.sha256(content).hexdigest() in str(caught.value)


class TestDownload:
    def test_brings_every_file_and_tells_how_far_it_is(self, server: LoopbackHub) -> None:
        weights, came = tiny(server), []
        folder = download(weights, came.append)
        assert folder == weights_cache() / "tiny"
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENTS
        assert sum(came) == weights.size == sum(map(len, CONTENTS.values()))
        server.requests.clear()
        assert download(weights) == folder
        assert not server.requests

    def test_carries_on_where_the_connection_broke(self, server: LoopbackHub) -> None:
        server.broken["tiny/first.tflite"] = half = len(CONTENTS["first.tflite"]) // 2 + 1
        came: list[int] = []
        download(tiny(server), came.append)
        assert [request.range for request in server.asked_for("first.tflite")] == ["bytes=0-", f"bytes={half}-"]
        assert (weights_cache() / "tiny" / "first.tflite").read_bytes() == CONTENTS["first.tflite"]
        assert sum(came) == sum(map(len, CONTENTS.values()))

    def test_keeps_what_came_for_another_process(self, server: LoopbackHub) -> None:
        weights = tiny(server)
        part = weights_cache() / "tiny" / f"{weights.files[0].sha256}.part"
        part.parent.mkdir(parents=True)
        part.write_bytes(CONTENTS["first.tflite"][:5000])
        download(weights)
        assert [request.range for request in server.asked_for("first.tflite")] == ["bytes=5000-"]
        assert sorted(path.name for path in part.parent.iterdir()) == sorted(CONTENTS)

    def test_gives_up_a_connection_that_brings_nothing(self, server: LoopbackHub) -> None:
        server.broken["tiny/first.tflite"] = 0
        with pytest.raises(AssetError, match=r"first\.tflite could not be fetched .*nothing has come; find a network, then: mpq fetch"):
            download(tiny(server))
        assert not (weights_cache() / "tiny").exists()
        server.broken.clear()
        assert download(tiny(server))

    def test_of_an_address_that_is_not_there_is_told_in_a_sentence(self, server: LoopbackHub) -> None:
        put(server, {})
        with pytest.raises(AssetError, match=r"/tiny/first\.tflite could not be fetched \(.*404.*nothing has come"):
            download(tiny(server))
        assert not (weights_cache() / "tiny").exists()

    @pytest.mark.parametrize("content", [b"wrong" * 15360, CONTENTS["first.tflite"] + b"more"])
    def test_refuses_another_file_with_both_digests_and_leaves_nothing(self, server: LoopbackHub, content: bytes) -> None:
        put(server, {f"tiny/{name}": kept for name, kept in CONTENTS.items()} | {"tiny/first.tflite": content})
        with pytest.raises(AssetError) as caught:
            download(tiny(server))
        for whole in (content, CONTENTS["first.tflite"]):
            assert hashlib.sha256(whole).hexdigest() in str(caught.value)
        assert not (weights_cache() / "tiny").exists()

    def test_a_part_that_does_not_fit_what_is_there_is_dropped(self, server: LoopbackHub) -> None:
        put(server, {f"tiny/{name}": content for name, content in CONTENTS.items()} | {"tiny/first.tflite": b"an error page"})
        for _ in range(2):
            with pytest.raises(AssetError, match="could not be fetched"):
                download(tiny(server))
        put(server, {f"tiny/{name}": content for name, content in CONTENTS.items()})
        assert download(tiny(server))

    def test_mends_a_damaged_file(self, server: LoopbackHub) -> None:
        weights = tiny(server)
        folder = download(weights)
        (folder / "second.tflite").write_bytes(b"OTHER" * 1000)
        download(weights)
        assert weights.require() == folder
        assert len(server.asked_for("first.tflite")) == 1

    def test_can_come_from_a_mirror(self, server: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
        weights = tiny(server)
        elsewhere = replace(weights, files=tuple(replace(file, url="http://127.0.0.1:9/x") for file in weights.files))
        monkeypatch.setenv("MPQ_WEIGHTS_MIRROR", base(server) + "/")
        assert {path.name for path in download(elsewhere).iterdir()} == set(CONTENTS)

    def test_of_what_is_in_the_given_folder_there_is_none(
        self, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        weights = tiny(server)
        monkeypatch.setenv("MPQ_WEIGHTS", str(tmp_path))
        (tmp_path / "tiny").mkdir()
        for name, content in CONTENTS.items():
            (tmp_path / "tiny" / name).write_bytes(content)
        assert download(weights) == tmp_path / "tiny"
        assert not server.requests


def small_lyra(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> Weights:
    """Lyra with weights that are no networks, which nothing here runs."""
    weights = Weights("tiny", tiny(hub).files, "CC0", "mpq fetch --codec lyra")
    monkeypatch.setattr(lyra, "WEIGHTS", weights)
    pretend_its_runtime_is(True, monkeypatch)
    return weights


def pretend_its_runtime_is(here: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    find: Any = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: (here or None) if name == "ai_edge_litert" else find(name, *more))


class TestFetchingForCodecs:
    def test_brings_the_weights_of_the_codecs_that_are_named(
        self, server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        weights = small_lyra(server, monkeypatch)
        assert main(["fetch", "--codec", "lyra", "--codec", "opus"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines == [f"lyra: weights ({weights.licence}) in {weights.find()}", "lyra, opus: everything is here"]
        server.requests.clear()
        assert main(["fetch", "--codec", "lyra"]) == 0
        assert not server.requests

    def test_brings_those_of_a_suites_codecs_too(
        self, server: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        weights = small_lyra(server, monkeypatch)
        suite = tmp_path / "suite.toml"
        suite.write_text(SUITE.format(model=Path(codecs.__file__).parents[1] / "pocket" / "models" / "whisper_pocket"))
        main(["fetch", str(suite)])
        assert weights.require()
        assert f"lyra: weights ({weights.licence}) in {weights.find()}" in capsys.readouterr().out

    def test_refuses_wrong_ones_in_one_sentence_and_brings_the_others(
        self, server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        small_lyra(server, monkeypatch)
        server.damaged.add("tiny/second.tflite")
        made: list[str] = []
        parts = {"modality": AUDIO, "ladder": ("a",), "build": str, "encode": str, "decode": str}
        parts |= {"missing": lambda self, qualities=(): "" if made else "it is not made"}
        parts |= {"fetch": lambda self, say, qualities=(): made.append("made")}
        monkeypatch.setattr(codecs, "_registry", dict(codecs._registry))
        type("Making", (Codec,), {"name": "making", **parts})
        assert main(["fetch", "--codec", "lyra", "--codec", "making"]) == 1
        error = capsys.readouterr().err
        assert error.count("mpq fetch:") == 1
        assert error.startswith("mpq fetch: codec lyra: ")
        assert hashlib.sha256(CONTENTS["second.tflite"]).hexdigest() in error
        assert made == ["made"]

    def test_brings_the_weights_of_metrics(self, server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        weights = tiny(server)
        monkeypatch.setattr(LPIPS, "weights", weights)
        monkeypatch.setattr(LPIPS, "missing", lambda self: weights.missing())
        assert main(["fetch", "--metric", "lpips", "--metric", "psnr"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"lpips: weights ({weights.licence}) in {weights.find()}",
            "lpips, psnr: everything is here",
        ]
        assert main(["fetch", "--metric", "lpisp"]) == 2
        assert "there is no metric 'lpisp'; did you mean 'lpips'?" in capsys.readouterr().err

    def test_says_what_it_cannot_bring(self, server: LoopbackHub, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        small_lyra(server, monkeypatch)
        pretend_its_runtime_is(False, monkeypatch)
        assert main(["fetch", "--codec", "lyra"]) == 1
        assert "codec lyra: its runtime is not installed: pip install" in capsys.readouterr().err

    def test_needs_a_suite_or_a_codec_that_there_is(self, capsys: Any) -> None:
        assert main(["fetch"]) == 2
        assert "name a suite, or a codec" in capsys.readouterr().err
        assert main(["fetch", "--codec", "lyar"]) == 2
        assert "there is no codec 'lyar'; did you mean 'lyra'?" in capsys.readouterr().err


class TestLyrasWeights:
    def test_are_named_at_one_commit_of_their_repository(self) -> None:
        for file in lyra.WEIGHTS.files:
            assert file.url.startswith("https://raw.githubusercontent.com/google/lyra/47698dadf0010abff6a848e02642f55f806d4842/lyra/")
            assert file.url.endswith(f"/{file.name}")
            assert len(file.sha256) == 64
