"""Old and new crossed: shares against figures that runs of their own measured, and what is said where something is gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from seeded_changes import CHANGES, POCKET, Bench, matrix, perturb

from mpq_fixtures.codecs.opus import Opus
from mpq_fixtures.evaluate import evaluate
from mpq_fixtures.gate.crossing import Crossing, cross
from mpq_fixtures.gate.measured import of_record
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.pocket.speech import utterances
from mpq_fixtures.processes.clock import Clock
from mpq_fixtures.resources import Resources
from mpq_fixtures.store import open_store
from mpq_fixtures.suite import Evaluation
from mpq_fixtures.tasks import find_task


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Another store, where each change was measured by itself."""
    return Bench(tmp_path_factory.mktemp("single"))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A store that has seen nothing but what was approved, and what is measured now."""
    return Bench(tmp_path)


def value(bench: Bench, *changes: str) -> float:
    return bench.measure(changes)[0].value


def shares(crossing: Crossing) -> dict[tuple[str, ...], float]:
    return {share.makers: share.change for share in crossing.shares}


class TestConfusion:
    def test_no_entry_is_wrong(self, single: Bench) -> None:
        rows = matrix(single)
        assert len(rows) == 7 + 21
        assert [row for row in rows if row.named != row.made] == []


class TestShares:
    def test_of_encoder_and_model(self, bench: Bench, single: Bench) -> None:
        """The new model on the old bitstreams is the corner between: another run measured it, with the model alone changed."""
        found = bench.cross("encoder", "model")
        corner, old, new = value(single, "model"), value(single), value(bench, "encoder", "model")
        assert shares(found) == pytest.approx({("encoder",): new - corner, ("model",): corner - old})
        assert found.change == pytest.approx(new - old)
        assert found.gone == ()

    def test_of_encoder_and_decoder(self, bench: Bench, single: Bench) -> None:
        found = bench.cross("encoder", "decoder")
        corner, old, new = value(single, "decoder"), value(single), value(bench, "encoder", "decoder")
        assert shares(found) == pytest.approx({("encoder",): new - corner, ("decoder",): corner - old})

    def test_interact_where_all_four_can_be_had(self, bench: Bench, single: Bench) -> None:
        """Here the store has the new encoder before the old model too, from a night between."""
        bench.measure(("encoder",))
        found = bench.cross("encoder", "model")
        four = value(single), value(single, "encoder"), value(single, "model"), value(single, "encoder", "model")
        assert shares(found) == pytest.approx({("encoder",): four[1] - four[0], ("model",): four[3] - four[1]})
        assert [one.makers for one in found.interactions] == [("encoder", "model")]
        assert found.interactions[0].change == pytest.approx(four[3] - four[2] - four[1] + four[0])

    def test_have_an_interval_that_holds_them(self, bench: Bench) -> None:
        found = bench.cross("encoder", "model")
        assert all(share.low <= share.change <= share.high for share in found.shares)
        assert any(share.low < share.high for share in found.shares)

    def test_cost_nothing_the_second_time(self, bench: Bench) -> None:
        first = bench.cross("encoder", "model")
        store = bench.bench(())
        before, after = bench.measure()[1], bench.measure(("encoder", "model"))[1]
        again = bench.cross_with(store, before, after, "encoder", "model")
        assert again == first
        assert not store.store.computed


class TestGone:
    def test_decoder_before_another_model(self, bench: Bench) -> None:
        found = bench.cross("decoder", "model")
        assert list(shares(found)) == [("decoder", "model")]
        assert found.gone == ("the old decoder is gone: decoder and model moved together",)

    def test_input_of_the_network(self, bench: Bench) -> None:
        found = bench.cross("preprocessing", "model")
        assert list(shares(found)) == [("preprocessing", "model")]
        assert found.gone == ("what the network was given is not kept: preprocessing and model moved together",)

    def test_metric_of_another_version(self, bench: Bench) -> None:
        found = bench.cross("decoder", "metric")
        assert found.shares == ()
        assert "the old metric is gone: scored by top1 in version 1 then and top1 in version 2 now" in found.gone[0]

    def test_store(self, bench: Bench) -> None:
        """The bitstreams of the night before were dropped: nothing lies between, and it is not known whether the decoder moved."""
        bench.measure()
        for file in (bench.folder / "store").glob("*/bitstream/*.db*"):
            file.unlink()
        found = bench.cross("encoder", "model")
        assert list(shares(found)) == [("encoder", "decoder", "model")]
        assert found.gone == ("the old bitstreams are not in the store: encoder and decoder and model moved together",)

    def test_samples_with_another_source(self, bench: Bench) -> None:
        found = bench.cross("data set", "model")
        assert (found.samples, list(shares(found))) == (16, [("model",)])
        assert found.gone == ("8 samples have another source now and were left out",)

    def test_nothing_is_gone_where_one_layer_moved(self, bench: Bench) -> None:
        for change in set(CHANGES) - {"data set", "metric"}:
            found = bench.cross(change)
            assert list(shares(found)) == [(change,)]
            assert shares(found)[change,] == pytest.approx(value(bench, change) - value(bench))


class TestNormaliser:
    """The metric as it was approved can be made again where its options are all that changed: all four combinations can be had."""

    @staticmethod
    def measured(folder: Path, model: str, normaliser: str, store: str) -> tuple[Any, ...]:
        options = {"normaliser": normaliser}
        case = Evaluation(
            "whisper_tried",
            "tried",
            find_task("speech_recognition"),
            str(folder / model),
            {"path": "x"},
            (("opus", "6k"),),
            folder,
            options=options,
        ).cases[1]
        opened, codec, bench = OpenModel(case.evaluation, "cpu"), Opus(), Resources(open_store(folder / store), Clock())
        record = evaluate(case, utterances().choose(12), opened, codec, bench)
        return case, opened, codec, bench, of_record(record, Bench.provenance(record)), record.value

    def test_of_model_and_metric(self, tmp_path: Path) -> None:
        for name in ("old", "new"):
            shutil.copytree(POCKET / "whisper_pocket", tmp_path / name)
        perturb(tmp_path / "new" / "model.safetensors", 0.15)
        kinds = [(model, normaliser) for model in ("old", "new") for normaliser in ("none", "whisper_english")]
        neither, metric, model, both = (self.measured(tmp_path, *kind, "another")[-1] for kind in kinds)
        *_, before, _ = self.measured(tmp_path, "old", "none", "store")
        case, opened, codec, bench, after, _ = self.measured(tmp_path, "new", "whisper_english", "store")
        data = utterances().choose(12)
        found = cross(case, data, opened, codec, bench, before, after, case.evaluation.task.metric(data, **case.evaluation.options))
        assert shares(found) == pytest.approx({("model",): model - neither, ("metric",): both - model})
        assert found.interactions[0].change == pytest.approx(both - metric - model + neither)
        assert abs(found.interactions[0].change) > 0.01
