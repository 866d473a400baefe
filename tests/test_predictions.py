"""Predictions as the store keeps them."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any

import numpy as np
import pytest

from mpq_fixtures.models.predictions import from_bytes, to_bytes
from mpq_fixtures.tasks import find_task

SEPARATION = find_task("source_separation")


def stems(frames: int) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    return {name: (scale * generator.normal(size=(2, frames))).astype(np.float32) for name, scale in (("bass", 0.2), ("vocals", 3))}


class TestAnAnswer:
    @pytest.mark.parametrize("answer", [7, "a song", "Größe \ud800"])
    def test_of_a_word_comes_back(self, answer: Any) -> None:
        assert from_bytes(to_bytes(answer)) == answer

    def test_of_a_map_comes_back(self) -> None:
        answer = np.random.default_rng(0).integers(0, 20, (30, 40))
        assert np.array_equal(from_bytes(to_bytes(answer)), answer)

    def test_of_several_arrays_comes_back_without_loss(self) -> None:
        restored = from_bytes(to_bytes(answer := stems(1000)))
        assert list(restored) == list(answer)
        assert all(np.array_equal(restored[name], array) for name, array in answer.items())

    def test_of_another_kind_is_refused(self) -> None:
        with pytest.raises(TypeError, match="not list"):
            to_bytes([1, 2])


class TestStems:
    @pytest.mark.parametrize("frames", [0, 1, 1000, 70_001])
    def test_come_back_70_db_below_themselves(self, frames: int) -> None:
        answer = stems(frames)
        restored = SEPARATION.from_bytes(SEPARATION.to_bytes(answer))
        assert list(restored) == list(answer)
        for name, stem in answer.items():
            assert restored[name].shape == stem.shape
            assert np.sum(np.square(restored[name] - stem)) <= 1e-7 * np.sum(np.square(stem))

    def test_are_the_file_that_numpy_writes(self) -> None:
        answer, file = stems(70_001), io.BytesIO()
        arrays: dict[str, Any] = {}
        for name, stem in answer.items():
            arrays[f"scale {name}"] = np.abs(stem).max()
            arrays[f"stem {name}"] = (stem / np.abs(stem).max()).astype(np.float16)
        np.savez(file, **arrays)
        assert SEPARATION.to_bytes(answer) == b"s" + file.getvalue()

    def test_that_are_not_finite_stay_so(self) -> None:
        with np.errstate(invalid="ignore"):
            restored = SEPARATION.from_bytes(SEPARATION.to_bytes({"bass": np.array([[0.5, np.inf, np.nan]], np.float32)}))
        assert not np.isfinite(restored["bass"]).all()

    def test_of_a_long_song_are_not_held_again(self) -> None:
        answer = stems(1_000_000)
        size = sum(stem.nbytes for stem in answer.values())
        tracemalloc.start()
        try:
            data = SEPARATION.to_bytes(answer)
            kept = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            SEPARATION.from_bytes(data)
            restored = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert kept < 1.6 * size  # what is kept is half as large, and is there twice for a moment
        assert restored < 1.6 * size  # the stems, and one as it was kept
