"""The textures, and the two picture loaders on the pocket models."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from mpq_fixtures.errors import AssetError
from mpq_fixtures.metrics.miou import MeanIoU
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.pocket import textures
from mpq_fixtures.pocket.textures import IN_MOSAICS, LABELS, MATERIALS, MOSAIC_LABELS, SIZE, SWATCH
from mpq_fixtures.signals import Image
from mpq_fixtures.suite.file import load_suite
from mpq_fixtures.tasks import Task, find_task
from mpq_fixtures.tasks.image_classification import ImageClassifier
from mpq_fixtures.tasks.image_segmentation import ImageSegmenter

POCKET = Path(textures.__file__).parent / "models"
ODD = [(1, 1), (1, 3), (3, 5), (5, 3), (301, 17), (97, 260)]


def noise(height: int, width: int) -> Image:
    return Image(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


@pytest.fixture(scope="module")
def sheets() -> Any:
    return textures.classification().samples[:44]


@pytest.fixture(scope="module")
def mosaics() -> Any:
    return textures.segmentation().samples[:16]


@pytest.fixture(scope="module")
def classifier() -> ImageClassifier:
    return find_task("image_classification").load(str(POCKET / "vit_pocket"), "cpu")


@pytest.fixture(scope="module")
def segmenter() -> ImageSegmenter:
    return find_task("image_segmentation").load(str(POCKET / "segformer_pocket"), "cpu")


@pytest.fixture(scope="module")
def convolutional() -> ImageClassifier:
    """A small ResNet with random weights."""
    import torch
    from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=10)
    return ImageClassifier(ResNetForImageClassification(config), ConvNextImageProcessorPil(size={"shortest_edge": 224}), "cpu")


class TestTextures:
    def test_there_are_enough_each_with_its_own_id_and_source(self) -> None:
        for samples, least in ((textures.classification().samples, 200), (textures.segmentation().samples, 100)):
            assert len(samples) >= least
            assert len({sample.id for sample in samples}) == len({sample.source for sample in samples}) == len(samples)
            assert {sample.stored_bytes for sample in samples} == {SIZE * SIZE * 3}

    def test_every_class_is_in_them_equally_often_or_often_enough(self) -> None:
        targets = [sample.target() for sample in textures.classification().samples]
        assert set(np.bincount(targets, minlength=len(LABELS))) == {len(targets) // len(LABELS)}
        maps = [np.unique(sample.target()) for sample in textures.segmentation().samples]
        assert min(np.bincount(np.concatenate(maps), minlength=len(MOSAIC_LABELS))) >= 20

    def test_signals_and_targets_have_their_shapes(self, sheets: Any, mosaics: Any) -> None:
        for sample in [*sheets[:3], *mosaics[:3]]:
            assert sample.signal().pixels.shape == (SIZE, SIZE, 3)
            assert sample.signal().pixels.dtype == np.uint8
        for sample in mosaics:
            assert sample.target().shape == (SIZE, SIZE)
            assert sample.target().dtype == np.uint8
            assert len(np.unique(sample.target())) == 4

    def test_pixels_are_the_same_on_every_machine(self, sheets: Any, mosaics: Any) -> None:
        digest = hashlib.sha256()
        for sample in [*sheets, *mosaics]:
            digest.update(sample.signal().pixels.tobytes())
        for sample in mosaics:
            digest.update(sample.target().tobytes())
        assert digest.hexdigest() == "2bb87fa6392d3f555ae1b53e6efa548a02756837d6070518642fd0b4455d44f7"

    def test_building_decodes_nothing_and_reading_imports_no_model_library(self) -> None:
        program = """if True:
            import sys
            from mpq_fixtures.pocket import textures
            sets = textures.classification(), textures.segmentation()
            assert textures._photo.cache_info().misses == 0
            for one in sets:
                one.samples[0].signal(), one.samples[0].target()
            assert textures._photo.cache_info().misses > 0
            print(sorted({"torch", "transformers", "skimage", "sklearn", "scipy"} & set(sys.modules)))
        """
        assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


class TestRegions:
    @pytest.mark.parametrize("material", MATERIALS, ids=LABELS)
    def test_train_and_test_lie_in_the_photograph_at_least_16_pixels_apart(self, material: textures.Material) -> None:
        height, width = textures._photo(material.photo).shape
        for left, top, right, bottom in (material.train, material.test):
            assert 0 <= left <= right - SWATCH <= width - SWATCH
            assert 0 <= top <= bottom - SWATCH <= height - SWATCH
        train, test = material.train, material.test
        assert max(test[0] - train[2], train[0] - test[2], test[1] - train[3], train[1] - test[3]) >= 16

    def test_no_photograph_serves_two_materials(self) -> None:
        assert len({material.photo for material in MATERIALS}) == len(MATERIALS)
        assert set(IN_MOSAICS) <= set(MATERIALS)

    @pytest.mark.parametrize("test", [True, False])
    def test_pictures_do_not_change_with_what_lies_outside_their_regions(self, test: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        def draw() -> list[Any]:
            tone = textures.draw_tone(random.Random(0))
            sheets = [textures.draw_sheet(random.Random(1), material, regions[material.photo], tone) for material in MATERIALS]
            return [*sheets, *(textures.draw_mosaic(random.Random(i), test)[0] for i in range(4))]

        regions = {material.photo: material.test if test else material.train for material in MATERIALS}
        whole = textures._photo

        def blanked(name: str) -> Any:
            left, top, right, bottom = regions[name]
            photo = np.zeros_like(whole(name))
            photo[top:bottom, left:right] = whole(name)[top:bottom, left:right]
            return photo

        before = draw()
        monkeypatch.setattr(textures, "_photo", blanked)
        assert all(np.array_equal(one, other) for one, other in zip(before, draw(), strict=True))


class TestTone:
    def test_swatches_have_the_mean_and_contrast_that_were_asked_for(self) -> None:
        tone = textures.Tone((120, 128, 140), (10, 16, 20))
        pixels = textures.draw_sheet(random.Random(0), MATERIALS[LABELS.index("gravel")], MATERIALS[LABELS.index("gravel")].test, tone)
        swatch = pixels[:SWATCH, :SWATCH].reshape(-1, 3).astype(float)
        np.testing.assert_allclose(swatch.mean(0), tone.levels, atol=1)  # rounded down: half a level low on average
        np.testing.assert_allclose(swatch.std(0), tone.contrasts, rtol=0.05)

    def test_flat_swatches_stay_flat(self) -> None:
        table = textures._table(np.full((SWATCH, SWATCH), 200, np.uint8), textures.Tone((100, 110, 120), (40, 40, 40)))
        assert table[200].tolist() == [100, 110, 120]

    def test_cells_are_convex_as_nearest_site_cells_are(self) -> None:
        for seed in range(8):
            cells = textures.draw_cells(random.Random(seed))
            assert set(np.unique(cells)) == {0, 1, 2, 3}
            for cell in range(4):
                for lines in (cells == cell, (cells == cell).T):
                    changes = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(int), axis=1)
                    assert (changes == 1).sum(1).max() == 1


class TestBatches:
    @pytest.mark.parametrize("size", [2, 5, 16])
    def test_move_a_probability_by_at_most_1e_5(
        self, size: int, classifier: ImageClassifier, segmenter: ImageSegmenter, sheets: Any, mosaics: Any
    ) -> None:
        import torch

        for model, samples in ((classifier, sheets), (segmenter, mosaics)):
            signals = [sample.signal() for sample in samples[:16]]
            with torch.inference_mode():
                inputs = [model._pixel_values(signal) for signal in signals]
                alone = [logits.softmax(0) for one in inputs for logits in model._logits([one])]
                batches = [inputs[start : start + size] for start in range(0, len(inputs), size)]
                together = [logits.softmax(0) for batch in batches for logits in model._logits(batch)]
            assert max(float((one - other).abs().max()) for one, other in zip(alone, together, strict=True)) <= 1e-5


class TestLayouts:
    @pytest.mark.parametrize("size", [1, 5])
    def test_move_a_probability_by_at_most_1e_5(
        self, size: int, convolutional: ImageClassifier, segmenter: ImageSegmenter, mosaics: Any
    ) -> None:
        import torch

        for model in (convolutional, segmenter):
            inputs = [model._pixel_values(sample.signal()) for sample in mosaics[:size]]
            answers = []
            for layout in ("", *model.layouts, ""):
                model.arrange(layout)
                with torch.inference_mode():
                    answers.append(torch.stack(model._logits(inputs)).softmax(1))
            assert float((answers[0] - answers[1]).abs().max()) <= 1e-5
            assert torch.equal(answers[0], answers[2])  # and is as it was before

    def test_are_what_the_network_is_given_and_computes_in(self, convolutional: ImageClassifier, mosaics: Any) -> None:
        import torch

        seen: dict[str, bool] = {}
        convolution = next(module for module in convolutional._model.modules() if isinstance(module, torch.nn.Conv2d))
        for layout in (*convolutional.layouts, ""):
            convolutional.arrange(layout)
            with convolution.register_forward_hook(
                lambda _, given, made, layout=layout: seen.update(
                    {layout: all(one.is_contiguous(memory_format=torch.channels_last) for one in (*given, made))}
                )
            ):
                convolutional.predict([sample.signal() for sample in mosaics[:2]])
        assert seen == {"channels last": True, "": False}


class TestPreparing:
    """What is prepared is what the network gets, in the batches in which it gets it."""

    @pytest.mark.parametrize("task", ["classifier", "segmenter"])
    def test_gives_what_the_processor_makes_of_each_picture(self, task: str, request: pytest.FixtureRequest, mosaics: Any) -> None:
        model = request.getfixturevalue(task)
        signals = [*(sample.signal() for sample in mosaics[:2]), noise(97, 260)]
        expected = model._processor([Pillow.fromarray(signal.pixels) for signal in signals], return_tensors="np").pixel_values
        prepared = model.prepare(signals)
        values = prepared if task == "classifier" else [one for one, _ in prepared]
        assert np.array_equal(np.concatenate(values), expected)
        assert {one.dtype for one in values} == {np.dtype(np.float32)}
        if task == "segmenter":
            assert [size for _, size in prepared] == [signal.pixels.shape[:2] for signal in signals]

    @pytest.mark.parametrize("task", ["classifier", "segmenter"])
    def test_and_inferring_is_predicting_in_one_batch(self, task: str, request: pytest.FixtureRequest, mosaics: Any) -> None:
        model, seen = request.getfixturevalue(task), []
        signals = [sample.signal() for sample in mosaics[:4]]
        hook = model._model.register_forward_pre_hook(
            lambda module, _, inputs: seen.append(inputs["pixel_values"].numpy()), with_kwargs=True
        )
        try:
            answers = model.predict(signals)
            again = model.infer(model.prepare(signals))
        finally:
            hook.remove()
        assert all(np.array_equal(one, other) for one, other in zip(answers, again, strict=True))
        values = [one if task == "classifier" else one[0] for one in model.prepare(signals)]
        assert len(seen) == 2
        assert all(np.array_equal(batch, np.concatenate(values)) for batch in seen)

    def test_nothing_gives_nothing(self, classifier: ImageClassifier, segmenter: ImageSegmenter) -> None:
        assert classifier.predict([]) == segmenter.predict([]) == []


class TestClassification:
    def test_it_knows_the_materials(self, classifier: ImageClassifier, sheets: Any) -> None:
        assert classifier.labels == LABELS
        answers = classifier.predict([sample.signal() for sample in sheets])
        assert np.mean([answer == sample.target() for answer, sample in zip(answers, sheets, strict=True)]) >= 0.9

    def test_one_by_one_is_as_together(self, classifier: ImageClassifier, sheets: Any) -> None:
        signals = [sample.signal() for sample in sheets[:8]]
        assert classifier.predict(signals) == [classifier.predict([signal])[0] for signal in signals]

    def test_any_size_will_do_also_mixed(self, classifier: ImageClassifier) -> None:
        answers = classifier.predict([noise(*size) for size in ODD])
        assert all(type(answer) is int and 0 <= answer < len(LABELS) for answer in answers)

    def test_it_answers_as_the_pipeline_of_transformers(self, classifier: ImageClassifier, sheets: Any) -> None:
        from transformers import pipeline

        reference = pipeline("image-classification", model=classifier._model, image_processor=classifier._processor, device="cpu")
        for sample in sheets[:6]:
            best = reference(Pillow.fromarray(sample.signal().pixels), top_k=1)[0]["label"]
            assert best == LABELS[classifier.predict([sample.signal()])[0]]

    def test_it_loses_fine_detail_and_then_the_material(self, classifier: ImageClassifier, sheets: Any) -> None:
        def accuracy(factor: int) -> float:
            signals = [sample.signal().pixels[::factor, ::factor].repeat(factor, 0).repeat(factor, 1) for sample in sheets]
            answers = classifier.predict([Image(pixels) for pixels in signals])
            return float(np.mean([answer == sample.target() for answer, sample in zip(answers, sheets, strict=True)]))

        assert accuracy(8) < accuracy(1) - 0.15


class TestSegmentation:
    def test_it_finds_the_materials(self, segmenter: ImageSegmenter, mosaics: Any) -> None:
        assert segmenter.labels == MOSAIC_LABELS
        metric = MeanIoU(len(MOSAIC_LABELS))
        maps = segmenter.predict([sample.signal() for sample in mosaics])
        assert metric.value([metric.observe(one, sample.target()) for one, sample in zip(maps, mosaics, strict=True)]) >= 0.8

    def test_one_by_one_is_as_together_but_for_ties(self, segmenter: ImageSegmenter, mosaics: Any) -> None:
        signals = [sample.signal() for sample in mosaics[:4]]
        for signal, together in zip(signals, segmenter.predict(signals), strict=True):
            assert np.mean(segmenter.predict([signal])[0] != together) < 1e-4

    def test_maps_have_the_pictures_sizes_also_mixed(self, segmenter: ImageSegmenter) -> None:
        maps = segmenter.predict([noise(*size) for size in ODD])
        assert [one.shape for one in maps] == ODD
        assert {one.dtype for one in maps} == {np.dtype(np.uint8)}
        assert max(one.max() for one in maps) < len(MOSAIC_LABELS)

    @pytest.mark.parametrize("size", [(224, 224), (97, 260)])
    def test_maps_are_those_of_the_processors_own_postprocessing(self, segmenter: ImageSegmenter, size: tuple[int, int]) -> None:
        import torch

        picture = textures.segmentation().samples[0].signal().pixels[: size[0], : size[1]]
        pixels = Pillow.fromarray(picture).resize((size[1], size[0]))
        with torch.inference_mode():
            outputs = segmenter._model(**segmenter._processor(pixels, return_tensors="pt"))
        expected = segmenter._processor.post_process_semantic_segmentation(outputs, target_sizes=[size])[0].numpy()
        assert np.mean(segmenter.predict([Image(np.asarray(pixels))])[0] != expected) < 1e-4


class TestCheckpoints:
    @pytest.mark.parametrize(("name", "megabytes"), [("vit_pocket", 4), ("segformer_pocket", 5)])
    def test_they_are_small_and_computed_in_float32(self, name: str, megabytes: int, classifier: Any, segmenter: Any) -> None:
        import torch

        assert sum(file.stat().st_size for file in (POCKET / name).iterdir()) <= megabytes * 1_000_000
        model = classifier if name == "vit_pocket" else segmenter
        assert {parameter.dtype for parameter in model._model.parameters()} == {torch.float32}

    @pytest.mark.parametrize("load", [find_task("image_classification").load, find_task("image_segmentation").load])
    def test_a_folder_without_one_says_so(self, load: Any, tmp_path: Path) -> None:
        with pytest.raises(AssetError, match=str(tmp_path)):
            load(str(tmp_path), "cpu")

    @pytest.mark.parametrize("missing", ["preprocessor_config.json", "model.safetensors"])
    @pytest.mark.parametrize(
        ("task", "name"), [(find_task("image_classification"), "vit_pocket"), (find_task("image_segmentation"), "segformer_pocket")]
    )
    def test_a_folder_that_lacks_a_file_says_so_before_it_is_loaded(self, task: Task, name: str, missing: str, tmp_path: Path) -> None:
        shutil.copytree(POCKET / name, tmp_path, dirs_exist_ok=True)
        task.check(str(tmp_path))
        (tmp_path / missing).unlink()
        with pytest.raises(AssetError, match=f"{tmp_path} holds neither .*{missing}"):
            task.check(str(tmp_path))

    @pytest.mark.parametrize("size", [0, 4, 100, 100_000])
    def test_weights_cut_short_are_said_to_be_damaged(self, size: int, tmp_path: Path) -> None:
        shutil.copytree(POCKET / "vit_pocket", tmp_path, dirs_exist_ok=True)
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:size])
        for load in (find_task("image_classification").check, lambda folder: find_task("image_classification").load(folder, "cpu")):
            with pytest.raises(AssetError, match=f"{weights} is damaged: .*; save or download the model again"):
                load(str(tmp_path))

    @pytest.mark.parametrize("damage", ["empty", "cut", "shapes", "code"])
    def test_weights_in_pytorchs_format_that_cannot_be_read_are_said_to_be_so(self, damage: str, tmp_path: Path) -> None:
        import torch
        from safetensors.torch import load_file

        folder = tmp_path / "vit"
        shutil.copytree(POCKET / "vit_pocket", folder)
        state: dict[str, Any] = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        weights = folder / "pytorch_model.bin"
        state = {name: value[:1] for name, value in state.items()} if damage == "shapes" else state
        torch.save(Path if damage == "code" else state, weights)
        if damage in ("empty", "cut"):
            weights.write_bytes(weights.read_bytes()[: 5000 if damage == "cut" else 0])
        data = '{ path = "imagefolder", data_dir = "." }'
        text = f'name = "own"\n[[evaluation]]\nname = "mine"\ntask = "image_classification"\nmodel = "./vit"\ndataset = {data}\n'
        (tmp_path / "suite.toml").write_text(text)
        with pytest.raises(AssetError, match=rf"^mine: model '\./vit' cannot be loaded from {folder}: \w+Error") as caught:
            OpenModel(load_suite(tmp_path / "suite.toml")[0], "cpu").ready()
        assert "\n" not in str(caught.value)
