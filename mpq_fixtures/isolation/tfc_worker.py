# /// script
# requires-python = ">=3.9,<3.12"
# dependencies = ["tensorflow-cpu==2.14.1", "tensorflow-probability==0.22.1", "numpy==1.26.4", "scipy==1.11.4"]
#
# [tool.mpq]
# without-dependencies = ["tensorflow-compression==2.14.1"]
# ///
"""Models of TensorFlow Compression's collection, in an environment of their own: they need TensorFlow 2.14.

Runs by `mpq_fixtures.isolation.server`. A model is a metagraph with two signatures: ``sender`` makes tensors of a picture, ``receiver``
makes the picture of them. In between they are packed into a protocol buffer, with the model's name. TensorFlow Compression is installed
without what it asks for, since it asks for the build of TensorFlow for GPUs, of which nothing is used.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.update({"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "-1"})


class Models:
    """Models by the file of their metagraph, a few of which stay loaded."""

    def __init__(self) -> None:
        self._tf, self._tfc = import_module("tensorflow"), import_module("tensorflow_compression")
        self._tf.config.threading.set_intra_op_parallelism_threads(1)
        self._tf.config.threading.set_inter_op_parallelism_threads(1)
        self.load = lru_cache(4)(self._load)

    def encode(self, pixels: Any, metagraph: str) -> tuple[bytes, dict[str, Any]]:
        """Return the packed tensors of the picture ``uint8 [height, width, 3]``."""
        sender, _ = self.load(metagraph)
        packed = self._tfc.PackedTensors()
        packed.model = Path(metagraph).stem
        packed.pack(sender(self._tf.constant(pixels[None])))
        return packed._example.SerializeToString(deterministic=True), {}  # `string` has them in any order

    def decode(self, data: bytes, metagraph: str) -> Any:
        """Return the picture; raises `ValueError` for bytes of another model."""
        _, receiver = self.load(metagraph)
        packed = self._tfc.PackedTensors(data)
        if packed.model != Path(metagraph).stem:
            raise ValueError("these are tensors of %r, not of %r" % (packed.model, Path(metagraph).stem))  # noqa: UP031
        (picture,) = receiver(*packed.unpack([tensor.dtype for tensor in receiver.inputs]))
        picture = self._tf.squeeze(picture, 0)
        if picture.dtype.is_floating:
            picture = self._tf.round(picture)
        return self._tf.saturate_cast(picture, self._tf.uint8).numpy()

    def payload(self, data: bytes) -> tuple[None, dict[str, int]]:
        """Return how many bytes of packed tensors are strings of the entropy coder."""
        features = self._tfc.PackedTensors(data)._example.features.feature
        strings = [value for name, feature in features.items() if name != "MD" for value in feature.bytes_list.value]
        return None, {"payload": sum(map(len, strings))}

    def _load(self, metagraph: str) -> tuple[Any, Any]:
        tf = self._tf.compat.v1
        meta = tf.MetaGraphDef.FromString(Path(metagraph).read_bytes())
        wrapped = tf.wrap_function(lambda: tf.train.import_meta_graph(meta), [])

        def signature(name: str) -> Any:
            parts = meta.signature_def[name]
            ends = [[wrapped.graph.as_graph_element(side[key].name) for key in sorted(side)] for side in (parts.inputs, parts.outputs)]
            return wrapped.prune(*ends)

        return signature("sender"), signature("receiver")
