"""HiFiC's codec in TensorFlow's environment, with models of the real format that the tests make: their own graphs, the real range coder."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from loopback_files import served
from trial_signals import photo

from mpq_fixtures.codecs import from_address
from mpq_fixtures.codecs.hific import Hific
from mpq_fixtures.errors import MissingAsset
from mpq_fixtures.isolation.environment import clean_environment
from mpq_fixtures.signals import Image

WRITE_MODELS = """
import sys
import tensorflow as tf
from tensorflow_compression.python.ops import gen_ops

v1, info = tf.compat.v1, tf.compat.v1.saved_model.build_tensor_info


def write(path, step):
    # Means of blocks of 8x8 pixels in steps, range coded, beside the sizes; in the manner of TensorFlow 1, without variables.
    with tf.Graph().as_default() as graph:
        levels = 256 // step + 1
        cdf = tf.constant([[[[[16384 * level // levels for level in range(levels + 1)]]]]], tf.int32)  # an axis more than the latents
        picture = v1.placeholder(tf.uint8, [1, None, None, 3])
        means = tf.nn.avg_pool2d(tf.cast(picture, tf.float32), 8, 8, "SAME")
        latents = tf.cast(tf.round(means / step), tf.int16)
        string = tf.reshape(gen_ops.range_encode(latents, cdf, precision=14), [1])
        sent = {"0": string, "1": tf.shape(latents)[1:3], "2": tf.shape(picture)[1:3]}

        received = {"0": v1.placeholder(tf.string, [1]), "1": v1.placeholder(tf.int32, [2]), "2": v1.placeholder(tf.int32, [2])}
        shape = tf.concat([[1], received["1"], [3]], 0)
        decoded = gen_ops.range_decode(received["0"][0], shape, cdf, precision=14)
        large = tf.image.resize(tf.cast(decoded, tf.float32) * step, received["1"] * 8, "nearest")
        restored = large[:, : received["2"][0], : received["2"][1]]

        meta = v1.train.export_meta_graph(graph=graph)
        for name, inputs, outputs in (("sender", {"0": picture}, sent), ("receiver", received, {"0": restored})):
            sides = [{key: info(tensor) for key, tensor in side.items()} for side in (inputs, outputs)]
            meta.signature_def[name].CopyFrom(v1.saved_model.build_signature_def(*sides, method_name=name))
    with open(path, "wb") as file:
        file.write(meta.SerializeToString())


for name, step in (("lo", 32), ("mi", 8), ("hi", 2)):
    write(f"{sys.argv[1]}/hific-{name}.metagraph", step)
"""


@pytest.fixture(scope="session")
def python() -> Path:
    """TensorFlow's environment, which is made where it is not on this machine: three minutes, 1.4 GB."""
    try:
        return Hific().environment().make()
    except MissingAsset as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def collection(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    variables = clean_environment() | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run([str(python), "-c", WRITE_MODELS, str(folder)], check=True, env=variables, timeout=300)
    return folder


@pytest.fixture
def codec(collection: Path, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hific:
    """The codec with models that came through its own download."""
    monkeypatch.setenv("MPQ_ENVIRONMENTS", str(python.parents[2]))
    monkeypatch.delenv("MPQ_WEIGHTS", raising=False)
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    with served(collection) as bucket:
        codec = Hific(bucket)
        assert codec.missing() == (
            "its models hific-lo, hific-mi, hific-hi are not here: mpq fetch --codec hific, or set MPQ_WEIGHTS to a folder that holds tfci/"
        )
        codec.fetch(lambda _: None)
    assert codec.missing() == ""
    codec.prepare()
    return codec


class TestHific:
    @pytest.mark.parametrize("size", [(1, 1), (33, 17), (96, 130)])
    def test_gives_pictures_back_in_their_size(self, codec: Hific, size: tuple[int, int]) -> None:
        for quality in codec.ladder:
            decoded = codec.decode(codec.encode(photo(*size), quality))
            assert decoded.pixels.shape == (*size, 3)
            assert decoded.pixels.dtype == np.uint8

    def test_decodes_what_the_model_makes_of_the_bytes(self, codec: Hific) -> None:
        picture = Image(np.repeat(np.repeat(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 4, 8, 0), 8, 1))
        assert (codec.decode(codec.encode(picture, "hi")).pixels == picture.pixels).all()

    def test_writes_the_same_bytes_again_and_more_at_higher_qualities(self, codec: Hific) -> None:
        streams = [codec.encode(photo(128, 128), quality) for quality in codec.ladder]
        assert len(streams[0]) < len(streams[1]) < len(streams[2])
        assert [from_address(codec.address()).encode(photo(128, 128), quality) for quality in codec.ladder] == streams

    def test_counts_the_models_name_as_container(self, codec: Hific) -> None:
        data = codec.encode(photo(128, 128), "lo")
        ledger = codec.ledger(data)
        assert ledger.payload + ledger.container + ledger.side == len(data)
        assert ledger.side == 2 + 2 + 2  # the check sum, and two varints of 128
        assert b"hific-lo" in data
        assert 8 < ledger.container < 80 < ledger.payload

    def test_refuses_damaged_bytes(self, codec: Hific) -> None:
        data = codec.encode(photo(40, 40), "lo")
        for place in range(len(data)):
            for damaged in (data[:place], data[:place] + bytes([data[place] ^ 85]) + data[place + 1 :]):
                with pytest.raises(ValueError, match="not a readable hific stream"):
                    codec.decode(damaged)

    def test_says_what_it_was_built_of(self, codec: Hific, collection: Path) -> None:
        build = codec.build()
        assert "tensorflow-compression==2.14.1" in build
        assert hashlib.sha256((collection / "hific-lo.metagraph").read_bytes()).hexdigest() in build

    def test_names_a_model_that_does_not_come(self, codec: Hific, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "cache" / "weights" / "tfci" / "hific-mi.metagraph").unlink()
        with served(tmp_path / "empty") as bucket, pytest.raises(MissingAsset, match=r"hific-mi\.metagraph could not be downloaded"):
            Hific(bucket).fetch(lambda _: None)
        with pytest.raises(MissingAsset, match="codec hific: its models hific-mi are not here"):
            codec.encode(photo(40, 40), "mi")
