"""Numbers, bytes and links of samples as text: exactly there and back, small, and damage noticed."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from test_statistics import drawn, each_metric

from mpq_fixtures.gate.packing import from_leading_bits, leading_bits, leading_size, pack, pack_bytes, unpack, unpack_bytes
from mpq_fixtures.metrics import Metric, Statistic
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.top1 import Top1


def same(packed: Sequence[Statistic], statistics: Sequence[Statistic]) -> None:
    assert len(packed) == len(statistics)
    for one, other in zip(packed, statistics, strict=True):
        assert one.shape == np.shape(other)
        assert one.dtype == np.float64
        np.testing.assert_array_equal(one, other)


class TestPack:
    @each_metric
    def test_comes_back_exactly(self, metric: Metric) -> None:
        statistics = drawn(metric, 25)
        same(unpack(pack(statistics)), statistics)

    @pytest.mark.parametrize(
        "numbers",
        [
            [0, 1, 255],
            [-128, 127],
            [0, 65535],
            [-32768, 40],
            [-(2**31), 2**31 - 1],
            [2**53, -(2**53)],
            [2.0**63, -(2.0**63), 1e300],
            [0.1, math.pi, 5e-324],
            [0.5, math.nan, math.inf, -math.inf],
            [1, math.nan],
            [1e-50, 1e38, 1e39],
        ],
    )
    def test_any_numbers_come_back(self, numbers: list[float]) -> None:
        same(unpack(pack([np.array(numbers, float)])), [np.array(numbers, float)])

    @pytest.mark.parametrize("shapes", [[], [()], [(), ()], [(0,)], [(2, 3), (2, 0), (2, 5)], [(0, 3), (1, 3)]])
    def test_any_shapes_come_back(self, shapes: list[tuple[int, ...]]) -> None:
        statistics = [np.random.default_rng(0).normal(size=shape) for shape in shapes]
        same(unpack(pack([np.asarray(statistic) for statistic in statistics])), [np.asarray(statistic) for statistic in statistics])

    def test_is_compact(self) -> None:
        assert len(pack(drawn(Top1(), 200))) < 250
        assert len(pack([np.float64(np.float32(number)) for number in np.random.default_rng(0).normal(size=200)])) < 200 * 4 * 1.25 + 150

    def test_is_one_line_that_json_leaves_alone(self) -> None:
        text = pack(drawn(SDR(1), 20))
        assert json.dumps(text) == f'"{text}"'
        assert not any(character.isspace() for character in text)

    @pytest.mark.parametrize("text", ["", "not packed", "c-", pack(drawn(SDR(1), 4))[:-9], pack(drawn(Top1(), 9))[5:]])
    def test_a_damaged_text_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="not packed numbers"):
            unpack(text)

    def test_of_the_same_samples_elsewhere_is_exact_and_smaller(self) -> None:
        generator = np.random.default_rng(0)
        reference = generator.integers(0, 20_000, (100, 3, 8)).astype(float)
        moved = reference + generator.integers(-3, 4, reference.shape)
        text = pack(list(moved), reference)
        same(list(unpack(text, reference)), list(moved))
        assert len(text) < len(pack(list(moved))) / 3
        with pytest.raises(ValueError, match="beside numbers that are not there"):
            unpack(text)

    @pytest.mark.parametrize("numbers", [[0.5, 1.0], [math.nan, 1.0], [1.0, 2.0, 3.0]], ids=["fractions", "no number", "more samples"])
    def test_of_what_does_not_go_with_the_reference_stands_alone(self, numbers: list[float]) -> None:
        text = pack([np.array(number) for number in numbers], np.array([5.0, 7.0]))
        same(list(unpack(text)), [np.array(number) for number in numbers])


class TestPackedBytes:
    @pytest.mark.parametrize("size", [*range(12), 1000])
    @pytest.mark.parametrize("repeated", [1, 40])
    def test_come_back(self, size: int, repeated: int) -> None:
        data = np.random.default_rng(size).bytes(size) * repeated
        text = pack_bytes(data)
        assert unpack_bytes(text) == data
        assert len(text) <= 1 + math.ceil((len(data) + 4) / 4) * 5

    def test_without_repetition_are_base_85_as_the_library_has_it(self) -> None:
        data = np.random.default_rng(0).bytes(300)
        assert base64.b85decode(pack_bytes(data)[1:])[4:] == data

    def test_any_change_is_noticed(self) -> None:
        text = pack_bytes(b"the same numbers " * 40)
        for place in range(len(text)):
            for other in ("0", "~", '"', "\u00e9"):
                if text[place] != other:
                    with pytest.raises(ValueError, match=r"not packed|not what was packed"):
                        unpack_bytes(text[:place] + other + text[place + 1 :])
            with pytest.raises(ValueError, match=r"not packed|not what was packed"):
                unpack_bytes(text[:place])


class TestLeadingBits:
    @pytest.mark.parametrize("bits", [1, 8, 12, 16, 37, 64])
    @pytest.mark.parametrize("samples", [0, 1, 7, 8, 101])
    def test_come_back(self, bits: int, samples: int) -> None:
        links = np.random.default_rng(bits).integers(0, 2**64, samples, np.uint64)
        data = leading_bits(links, bits)
        assert len(data) == leading_size(bits, samples) <= (bits * samples + 7) // 8 + bits // 8
        kept = [int(link) >> (64 - bits) << (64 - bits) for link in links]
        assert from_leading_bits(data, bits, samples).tolist() == kept

    def test_of_other_samples_are_refused(self) -> None:
        with pytest.raises(ValueError, match="3 bytes for the links of 3 samples"):
            from_leading_bits(b"abc", 12, 3)
