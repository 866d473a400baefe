"""A perceptual distance of sounds, learned by contrast."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.errors import AssetError
from mpq_fixtures.metrics import lacking, versions
from mpq_fixtures.metrics._sounds import SoundMetric
from mpq_fixtures.weights import digest_of_file

RATE = 22050
FULL_SCALE = 32768

WEIGHTS = "CDPAM_trained/scratchJNDdefault_best_model.pth"
SHA256 = "453c8b6edee1a94f0120236156436ff28fe4d8d884485e4a67695c8e8570bdfe"
"""Of the weights in the wheel. The file is a pickle that torch's safe loader cannot read (text integers of Python 2); what it names was
read: ordered dictionaries, and torch's tensors and storages. A file that is another is not loaded."""

REMEMBERED = 2**14
"""Originals whose embeddings are kept, 2 kB each: every point of a ladder compares with the same ones."""

_embeddings: dict[bytes, Any] = {}


class CDPAM(SoundMetric):
    """The distance that listeners hear between two sounds (Manocha et al. 2021, arXiv 2102.05109): 0 for identical ones, lower is nearer.

    Network and weights are those of the package ``cdpam``; what it does around them is not used, since it asks for packages that it does
    not name. Rate: 22.05 kHz; what lies above 11 kHz counts nowhere. Range: -1..1 times 32768, rounded, as the authors feed it; in
    -1..1 values come out that mean nothing. Level: counts. Length: 0.05 s at least, a little over what its network sees at a time.
    Time: three seconds on one core for each second of a decoded sound, and as long for the original, once in a process.
    """

    name = "cdpam"
    unit = "1"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    tolerance = 0.001
    shortest = 0.05

    @property
    def settings(self) -> dict[str, Any]:
        """Name the rate and what full scale is."""
        return {"rate": RATE, "full_scale": FULL_SCALE}

    @property
    def packages(self) -> dict[str, str]:
        """Name the package, and torch, which computes."""
        return versions("cdpam", "torch")

    def missing(self) -> str:
        """Name the package, which holds the weights."""
        return lacking(cdpam="cdpam")

    def measured_at(self, sample_rate: int) -> int:
        """Return 22.05 kHz."""
        return RATE

    def compare(self, decoded: NDArray[np.float32], original: NDArray[np.float32], sample_rate: int) -> float:
        """Return the distance of one channel."""
        import torch

        network = _network()
        key = hashlib.sha256(original.tobytes()).digest()
        with torch.inference_mode():
            reference = _embeddings.get(key)
            if reference is None:
                reference = _embed(network, original)
                if len(_embeddings) < REMEMBERED:
                    _embeddings[key] = reference
            return float(network.model_dist(reference, _embed(network, decoded)))


def _embed(network: Any, waveform: NDArray[np.float32]) -> Any:
    """Return the acoustic half of a sound's embedding, ``[1, 512]`` of length 1."""
    import torch

    samples = torch.from_numpy(np.round(waveform * np.float32(FULL_SCALE)))
    _, acoustic, _ = network.base_encoder(samples[None, None])
    return torch.nn.functional.normalize(acoustic, dim=1)


@cache
def _network() -> Any:
    """Return the network of the package with its weights; only the file of its definition is imported."""
    import torch

    found = importlib.util.find_spec("cdpam")
    assert found is not None
    assert found.submodule_search_locations
    folder = Path(found.submodule_search_locations[0])
    if (digest := digest_of_file(folder / WEIGHTS)) != SHA256:
        raise AssetError(f"{folder / WEIGHTS} is not what it should be: its SHA-256 is {digest}, not {SHA256}: pip install cdpam==0.0.6")
    spec = importlib.util.spec_from_file_location("mpq_cdpam_models", folder / "models.py")
    assert spec is not None
    assert spec.loader is not None
    models = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(models)
    network = models.FINnet(encoder_layers=16, encoder_filters=64, ndim=[16, 6], input_size=512)
    network.load_state_dict(torch.load(folder / WEIGHTS, map_location="cpu", weights_only=False)["state"])
    return network.eval()
