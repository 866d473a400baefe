"""Write tests/jpeg_hits.npz anew: which pocket textures vit_pocket names rightly at each of JPEG's qualities. 15 minutes on one core.

python benchmarks/jpeg_hits.py 1000
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from mpq_fixtures.codecs import instance
from mpq_fixtures.pocket.textures import classification
from mpq_fixtures.tasks import find_task

ROOT = Path(__file__).parents[1]


def main(count: int) -> None:
    codec, task = instance("jpeg"), find_task("image_classification")
    model = task.load(str(ROOT / "mpq_fixtures/pocket/models/vit_pocket"), "cpu")
    qualities = codec.range()
    hits, sizes = np.zeros((count, 1 + len(qualities)), bool), np.zeros((count, len(qualities)))
    for number, sample in enumerate(classification(count).samples):
        signal = sample.signal()
        streams = [codec.encode(signal, quality) for quality in qualities]
        sizes[number] = [len(stream) for stream in streams]
        signals = [signal, *map(codec.decode, streams)]
        answers = [answer for start in range(0, len(signals), 32) for answer in model.predict(signals[start : start + 32])]
        hits[number] = np.array(answers) == sample.target()
    np.savez_compressed(ROOT / "tests/jpeg_hits.npz", hits=np.packbits(hits, axis=1), bytes=sizes.mean(axis=0).astype(np.float32))


if __name__ == "__main__":
    main(int(sys.argv[1]))
