"""Which layer did it: one change in each layer and every pair of them, and what is said where less is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from seeded_changes import CHANGES, Bench

from mpq_fixtures.chain import ANSWER, BITSTREAM, DECODED, GIVEN, SIGNAL, STATISTIC
from mpq_fixtures.gate.layers import layer_of
from mpq_fixtures.gate.measured import Measured
from mpq_fixtures.gate.suspects import suspects

PAIRS = list(combinations(CHANGES, 2))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    return Bench(tmp_path_factory.mktemp("seeded"))


def truncated(measured: Measured, **bits: int) -> Measured:
    """Only the leading bits of some links are kept, as a baseline does."""
    masks = {layer: np.uint64((1 << 64) - (1 << (64 - count))) for layer, count in bits.items()}
    return replace(
        measured, links={**measured.links, **{layer: measured.links[layer] & mask for layer, mask in masks.items()}}, bits=bits, whole={}
    )


def without(measured: Measured, *layers: str, whole: bool = False) -> Measured:
    """Some layers are not known of each sample, or not at all."""
    return replace(
        measured,
        links={layer: links for layer, links in measured.links.items() if layer not in layers},
        whole={layer: found for layer, found in measured.whole.items() if whole or layer not in layers},
    )


class TestSeededChange:
    """The chain alone names the first layer; the matrix over all of it is made with crossing."""

    def test_nothing_changed_is_no_layer(self, bench: Bench) -> None:
        assert bench.compare() is None

    @pytest.mark.parametrize("change", CHANGES)
    def test_is_named(self, bench: Bench, change: str) -> None:
        layer = bench.compare(change)
        assert layer is not None
        assert (layer.name, layer.maker, layer.makers) == (CHANGES[change], change, (change,))

    @pytest.mark.parametrize("change", CHANGES)
    def test_is_named_without_the_original_case(self, bench: Bench, change: str) -> None:
        layer = bench.compare(change, original=False)
        assert layer is not None
        assert (layer.maker, layer.makers) == (change, (change,))

    @pytest.mark.parametrize("changes", PAIRS, ids="+".join)
    def test_in_a_pair_the_first_is_named_first_and_no_other_is_accused(self, bench: Bench, changes: tuple[str, str]) -> None:
        layer = bench.compare(*changes)
        assert layer is not None
        assert layer.maker == changes[0]
        suspected = {*layer.makers, *("decoder" if one == DECODED else "encoder" for one in layer.open)}
        assert set(layer.makers) <= set(changes) <= suspected

    def test_is_named_by_what_changed_with_it(self, bench: Bench) -> None:
        found = {change: (layer.suspects or {})[layer.name] for change in CHANGES if (layer := bench.compare(change)) is not None}
        assert found["encoder"][0] == found["decoder"][0] == "codec's code"
        assert found["preprocessing"] == ["preprocessor's configuration"]
        assert found["model"] == ["weights"]
        assert found["metric"] == ["metric version 1 -> 2"]
        assert found["reader"][0].startswith("nothing that is recorded changed: pillow ")

    def test_says_how_many(self, bench: Bench) -> None:
        layer = bench.compare("decoder")
        assert layer is not None
        answers = [one.links[ANSWER] for one in (bench.measure()[1], bench.measure(("decoder",))[1])]
        assert layer.differ[DECODED] == layer.samples == 24
        assert (layer.differ[SIGNAL], layer.differ[BITSTREAM], layer.differ[ANSWER]) == (0, 0, int((answers[0] != answers[1]).sum()))
        assert str(layer).startswith("decoder: decoded signals differ in 24 of 24, bitstreams in none, answers in ")


class TestPairing:
    def test_goes_by_ids_whatever_the_order(self, bench: Bench) -> None:
        measured = bench.measure()[1]
        assert layer_of(measured, measured.take(range(23, -1, -1))) is None

    def test_takes_what_both_have(self, bench: Bench) -> None:
        before, after = bench.measure()[1], bench.measure(("decoder",))[1].take([3, 5, 7])
        layer = layer_of(before, after)
        assert layer is not None
        assert (layer.samples, layer.differ[DECODED]) == (3, 3)

    def test_without_a_shared_sample_nothing_is_said(self, bench: Bench) -> None:
        measured = bench.measure()[1]
        assert layer_of(measured.take([0, 1]), measured.take([2, 3])) is None


class TestLessIsKnown:
    def test_a_few_bits_are_enough(self, bench: Bench) -> None:
        before, after = (truncated(one, decoded=8, given=8) for one in (bench.measure()[1], bench.measure(("decoder",))[1]))
        layer = layer_of(before, bench.measure(("decoder",))[1])
        assert layer is not None
        assert layer.maker == "decoder"
        assert layer_of(before, bench.measure()[1]) is None
        assert layer_of(bench.measure(("decoder",))[1], after) is None

    def test_a_digest_over_all_is_enough(self, bench: Bench) -> None:
        before = without(bench.measure()[1], SIGNAL, BITSTREAM, DECODED, GIVEN, whole=True)
        for change in ("encoder", "decoder", "preprocessing", "model"):
            layer = layer_of(before, bench.measure((change,))[1])
            assert layer is not None
            assert layer.maker == change
        layer = layer_of(before, bench.measure(("decoder",))[1])
        assert layer is not None
        assert layer.differ[DECODED] is None
        assert str(layer).startswith("decoder: decoded signals differ in some, bitstreams in none")

    def test_layers_that_are_not_known_are_named_with_the_next(self, bench: Bench) -> None:
        before = without(bench.measure()[1], BITSTREAM)
        layer = layer_of(before, bench.measure(("decoder",))[1])
        assert layer is not None
        assert layer.maker == "encoder or decoder"

    def test_a_reader_shows_in_the_original_case(self, bench: Bench) -> None:
        before, after = (without(bench.measure(changes)[1], SIGNAL) for changes in ((), ("reader",)))
        originals = bench.measure(original=True)[1], bench.measure(("reader",), original=True)[1]
        layer = layer_of(before, after, originals)
        assert layer is not None
        assert layer.maker == "reader"

    def test_without_any_chain_statistics_are_compared(self, bench: Bench) -> None:
        before = replace(without(bench.measure()[1], *bench.measure()[1].links), whole={})
        layer = layer_of(before, bench.measure(("model",))[1])
        assert layer is not None
        assert layer.name == STATISTIC
        assert layer.maker == "reader or encoder or decoder or preprocessing or model or metric"


class TestSuspects:
    BEFORE = {
        "python": "3.11.7",
        "mpq version": "1",
        "package pillow": "12.0.0",
        "package torch": "2.12",
        "library libwebp": "1.4.0",
        "library oneDNN": "3.11",
        "machine torch instruction set": "AVX2",
        "codec build libwebp": "1.4.0",
        "codec packages": "pillow",
        "codec code": "aa",
        "model weights": "aa",
    }

    @pytest.mark.parametrize(
        ("layer", "changes", "expected"),
        [
            (DECODED, {"codec build libwebp": "1.5.0", "package pillow": "13.0.0"}, ["libwebp 1.4.0 -> 1.5.0", "pillow 12.0.0 -> 13.0.0"]),
            (DECODED, {"package torch": "2.13", "model weights": "bb"}, []),
            (ANSWER, {"package pillow": "13.0.0", "codec code": "bb"}, []),
            (ANSWER, {"model weights": "bb", "package torch": "2.13"}, ["weights", "torch 2.12 -> 2.13"]),
            (ANSWER, {"machine torch instruction set": "AVX512"}, ["torch instruction set AVX2 -> AVX512"]),
            (ANSWER, {"library oneDNN": "3.12"}, ["oneDNN 3.11 -> 3.12"]),
            (STATISTIC, {"python": "3.12.1"}, ["python 3.11.7 -> 3.12.1"]),
        ],
    )
    def test_are_what_can_move_the_layer(self, layer: str, changes: dict[str, str], expected: list[str]) -> None:
        found = suspects(layer, self.BEFORE, self.BEFORE | changes)
        assert found == expected or (not expected and found[0].startswith("nothing that is recorded changed: "))

    def test_are_none_where_one_run_recorded_nothing(self) -> None:
        assert suspects(DECODED, {}, self.BEFORE) == []

    def test_what_one_run_did_not_ask_is_no_change(self) -> None:
        before = {name: value for name, value in self.BEFORE.items() if not name.startswith(("library", "machine"))}
        assert suspects(ANSWER, before, self.BEFORE)[0].startswith("nothing that is recorded changed: ")
