"""Object detection: the metric against COCO's own evaluation, detectors of transformers, and boxes from every kind of data set."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hub_replicas as replicas
import numpy as np
import pytest
from loopback_hub import LoopbackHub
from numpy.typing import NDArray
from PIL import Image as Picture
from projects import ROOT, places

from mpq_fixtures.datasets import load_dataset
from mpq_fixtures.datasets.reading import read_image, size_of_image
from mpq_fixtures.errors import AssetError
from mpq_fixtures.examples import class_colour
from mpq_fixtures.gate.packing import pack, unpack
from mpq_fixtures.metrics import restore_metric
from mpq_fixtures.metrics.mean_average_precision import MeanAveragePrecision
from mpq_fixtures.signals import Dataset, Image
from mpq_fixtures.statistics.intervals import interval
from mpq_fixtures.statistics.resampling import draws, resampled_values
from mpq_fixtures.suite import SuiteError
from mpq_fixtures.suite.file import load_suite
from mpq_fixtures.tasks import find_task

TASK = find_task("object_detection")
NAMES = ("dog", "cat", "bird")
Answer = dict[str, NDArray[Any]]


# Random detections, and what COCO's evaluation says of them -----------------------------------------------------------------------


def boxes_in(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    corner, sides = rng.integers(0, 400, (count, 2)), rng.integers(8, 200, (count, 2))
    return np.concatenate([corner, corner + sides], axis=1).astype(np.float64)


def scene(rng: np.random.Generator, classes: int) -> tuple[Answer, Answer]:
    """Detections and objects: some objects found several times over, some not; crowds; scores of which many are equal; other classes."""
    objects = int(rng.integers(0, 8))
    target = {"boxes": boxes_in(rng, objects), "labels": rng.integers(0, classes, objects), "crowd": rng.random(objects) < 0.2}
    times = rng.integers(0, 4, objects)
    found = np.repeat(target["boxes"], times, axis=0) + rng.integers(-8, 9, (times.sum(), 4)) / 2
    found = np.concatenate([found, boxes_in(rng, int(rng.integers(0, 5)))])
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    labels = rng.integers(0, classes + 1, len(found))
    labels[: times.sum()] = np.where(rng.random(times.sum()) < 0.8, np.repeat(target["labels"], times), labels[: times.sum()])
    scores = (rng.integers(1, 20, len(found)) / 20).astype(np.float32)
    return {"boxes": found.astype(np.float32), "scores": scores, "labels": labels}, target


def scenes(seed: int, count: int, classes: int = 3) -> list[tuple[Answer, Answer]]:
    rng = np.random.default_rng(seed)
    return [scene(rng, classes) for _ in range(count)]


def coco_stats(pairs: Sequence[tuple[Answer, Answer]], package: str = "pycocotools") -> dict[str, float]:
    """Return AP, AP50 and AP75 of a whole set from COCO's evaluation, -1 where there is no object."""
    if package == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluation
    else:
        from faster_coco_eval import COCO  # what torchmetrics calls with its fastest backend
        from faster_coco_eval import COCOeval_faster as Evaluation

    def sides(box: NDArray[Any]) -> list[float]:
        left, top, right, bottom = map(float, box)
        return [left, top, right - left, bottom - top]

    objects: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, (prediction, target) in enumerate(pairs):
        for box, label, crowd in zip(target["boxes"], target["labels"], target["crowd"], strict=True):
            one = {"image_id": image, "category_id": int(label) + 1, "bbox": sides(box), "iscrowd": int(crowd)}
            objects.append(one | {"id": len(objects) + 1, "area": one["bbox"][2] * one["bbox"][3]})
        for box, label, score in zip(prediction["boxes"], prediction["labels"], prediction["scores"], strict=True):
            found.append({"image_id": image, "category_id": int(label) + 1, "bbox": sides(box), "score": float(score)})
    classes = {one["category_id"] for one in (*objects, *found)}
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = {"images": [{"id": image} for image in range(len(pairs))], "annotations": objects, "info": {}}
        known.dataset["categories"] = [{"id": label, "name": str(label)} for label in sorted(classes)]
        known.createIndex()
        evaluation = Evaluation(known, known.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(("50:95", "50", "75"), map(float, evaluation.stats[:3]), strict=True))


def observed(metric: MeanAveragePrecision, pairs: Sequence[tuple[Answer, Answer]]) -> list[NDArray[np.float64]]:
    return [metric.observe(prediction, target) for prediction, target in pairs]


def detections(boxes: Any, scores: Any, labels: Any) -> Answer:
    return {
        "boxes": np.reshape(np.array(boxes, np.float32), (-1, 4)),
        "scores": np.array(scores, np.float32),
        "labels": np.array(labels, int),
    }


def objects(boxes: Any, labels: Any, crowd: Any = None) -> Answer:
    labels = np.array(labels, int)
    return {"boxes": np.reshape(np.array(boxes, float), (-1, 4)), "labels": labels, "crowd": np.array(crowd or [0] * len(labels), bool)}


BOX, OTHER = [10, 10, 50, 40], [60, 10, 90, 40]


class TestMetric:
    @pytest.mark.parametrize("package", ["pycocotools", "faster_coco_eval"])
    @pytest.mark.parametrize("seed", range(6))
    def test_is_what_cocos_evaluation_says(self, seed: int, package: str) -> None:
        pairs = scenes(seed, 14)
        expected = coco_stats(pairs, package)
        for iou, value in expected.items():
            metric = MeanAveragePrecision(3 + 1, iou)
            assert 0 < value < 1
            assert metric.value(observed(metric, pairs)) == pytest.approx(value, abs=1e-9)

    def test_scenes_hold_what_is_difficult(self) -> None:
        pairs = [pair for seed in range(6) for pair in scenes(seed, 14)]
        assert any(target["crowd"].any() for _, target in pairs)
        assert any(not len(target["labels"]) for _, target in pairs)
        assert {3} <= {label for prediction, _ in pairs for label in prediction["labels"]}  # a class that no object has
        scores = np.concatenate([prediction["scores"] for prediction, _ in pairs])
        assert len(np.unique(scores)) < len(scores) / 3

    def test_only_a_hundred_detections_of_a_class_count(self) -> None:
        rng = np.random.default_rng(4)
        prediction = detections(boxes_in(rng, 150), np.linspace(1, 0.5, 150), np.zeros(150))
        target = objects(prediction["boxes"][[5, 90, 120]], [0, 0, 0])
        metric = MeanAveragePrecision()
        assert metric.value([metric.observe(prediction, target)]) == pytest.approx(coco_stats([(prediction, target)])["50:95"], abs=1e-9)

    @pytest.mark.parametrize("iou", ["50:95", "50", "75"])
    def test_of_resamples_it_is_what_coco_says_of_the_pictures_drawn(self, iou: str) -> None:
        pairs, metric = scenes(7, 8), MeanAveragePrecision(iou=iou)
        index = np.sort(draws(8, 12), axis=1)  # equal scores go in the order of the samples
        expected = [coco_stats([pairs[one] for one in row])[iou] for row in index]
        assert len(set(expected)) > 10
        np.testing.assert_allclose(resampled_values(metric, observed(metric, pairs), index), expected, atol=1e-9)

    def test_of_each_sample_alone_it_is_what_coco_says_of_the_picture(self) -> None:
        pairs, metric = scenes(3, 10), MeanAveragePrecision()
        expected = [coco_stats([pair])["50:95"] for pair in pairs]
        stack = np.asarray(metric.condense_all(observed(metric, pairs)))
        np.testing.assert_allclose(metric.values_alone(stack), [np.nan if value < 0 else value for value in expected], atol=1e-9)
        assert np.isnan(metric.values_alone(stack)).any()  # a picture without objects

    def test_an_interval_holds_the_value(self) -> None:
        metric = MeanAveragePrecision()
        statistics = observed(metric, scenes(5, 60))
        low, high, _ = interval(metric, statistics)
        assert 0 < low < metric.value(statistics) < high < 1

    def test_an_interval_holds_the_value_of_many_classes_too(self) -> None:
        metric = MeanAveragePrecision()
        statistics = observed(metric, scenes(5, 120, 40))
        value = metric.value(statistics)
        drawn = resampled_values(metric, statistics, draws(len(statistics), 200))
        assert np.mean(drawn > value) > 0.8  # a picture that is there twice finds its objects twice, all else equal
        low, high, _ = interval(metric, statistics)
        assert low < value < high

    def test_an_interval_of_groups_draws_whole_groups(self) -> None:
        metric = MeanAveragePrecision()
        statistics = observed(metric, scenes(5, 12))
        doubled = [statistic for statistic in statistics for _ in range(2)]
        groups = [str(number) for number in range(12) for _ in range(2)]
        assert interval(metric, doubled, groups=groups) != interval(metric, doubled)

    @pytest.mark.parametrize("pictures", [1, 2, 7])
    def test_a_perfect_detector_reaches_exactly_1(self, pictures: int) -> None:
        metric = MeanAveragePrecision()
        targets = [target for _, target in scenes(1, 40) if len(target["labels"]) and not target["crowd"].any()][:pictures]
        assert len(targets) == pictures
        perfect = [detections(target["boxes"], np.linspace(0.9, 0.1, len(target["labels"])), target["labels"]) for target in targets]
        assert metric.value(observed(metric, list(zip(perfect, targets, strict=True)))) == 1.0

    def test_one_of_two_objects_found_is_51_of_101_recalls(self) -> None:
        metric = MeanAveragePrecision()
        assert metric.value([metric.observe(detections([BOX], [0.7], [1]), objects([BOX, OTHER], [1, 1]))]) == pytest.approx(51 / 101)

    def test_what_lies_in_a_crowd_counts_neither_way(self) -> None:
        metric = MeanAveragePrecision()
        target = objects([BOX, [200, 200, 400, 400]], [0, 0], [0, 1])
        inside = detections([[210, 210, 250, 260], BOX], [0.9, 0.6], [0, 0])
        assert metric.value([metric.observe(inside, target)]) == 1.0

    def test_a_picture_with_nothing_in_it_changes_nothing_unless_something_is_seen_there(self) -> None:
        metric = MeanAveragePrecision()
        found = metric.observe(detections([BOX], [0.7], [0]), objects([BOX], [0]))
        nothing = metric.observe(detections([], [], []), objects([], []))
        mistaken = metric.observe(detections([BOX], [0.8], [0]), objects([], []))
        assert (metric.value([found, nothing]), metric.value([nothing, found, mistaken])) == (1.0, 0.5)

    def test_without_any_object_it_is_undefined(self) -> None:
        metric = MeanAveragePrecision()
        assert np.isnan(metric.value([metric.observe(detections([BOX], [0.8], [0]), objects([], []))]))
        assert np.isnan(metric.value([]))

    @pytest.mark.parametrize("broken", [detections([BOX], [np.nan], [0]), detections([[10, np.inf, 50, 40]], [0.5], [0])])
    def test_an_answer_that_is_no_number_makes_every_set_with_it_undefined(self, broken: Answer) -> None:
        metric = MeanAveragePrecision()
        statistics = [metric.observe(detections([BOX], [0.8], [0]), objects([BOX], [0])), metric.observe(broken, objects([BOX], [0]))]
        assert np.isnan(metric.value(statistics))
        values = resampled_values(metric, statistics, np.array([[0, 0], [0, 1], [1, 1]]))
        assert values[0] == 1.0
        assert np.isnan(values[1:]).all()

    def test_statistics_survive_a_baseline(self) -> None:
        metric = MeanAveragePrecision()
        statistics = observed(metric, scenes(2, 20))
        restored = unpack(pack(statistics))
        assert metric.value(restored) == metric.value(statistics)
        again = restore_metric("map", json.loads(json.dumps(MeanAveragePrecision(4, "75").settings)))
        assert isinstance(again, MeanAveragePrecision)
        assert again.value(restored) == MeanAveragePrecision(4, "75").value(statistics) != metric.value(statistics)
        assert restore_metric("map", None) is None

    def test_says_what_it_is(self) -> None:
        metric = MeanAveragePrecision()
        assert (metric.name, metric.bounds, metric.higher_is_better) == ("map", (0.0, 1.0), True)
        assert metric.packages.keys() == {"pycocotools"}
        best = metric.chance([], [])
        assert best is not None
        assert best.value == 0.0
        with pytest.raises(ValueError, match="unknown iou '60': use one of 50:95, 50, 75"):
            MeanAveragePrecision(iou="60")

    @pytest.mark.parametrize(
        ("prediction", "target", "says"),
        [
            ([1, 2], objects([BOX], [0]), 'prediction must be a dictionary with "boxes", "scores", "labels", not an instance of list'),
            (detections([BOX], [0.5, 0.4], [0]), objects([BOX], [0]), r"not boxes \[1, 4\], scores \[2\], labels \[1\]"),
            (detections([BOX], [0.5], [4]), objects([BOX], [0]), "prediction has labels from 4 to 4, and the classes are 0 to 2"),
            (detections([BOX], [0.5], [0]) | {"labels": np.array([0.5])}, objects([BOX], [0]), "holds some that are not whole numbers"),
            (
                detections([[50, 10, 10, 40]], [0.5], [0]),
                objects([BOX], [0]),
                r"box 0 of the prediction, \[50.0, 10.0, 10.0, 40.0\], has no",
            ),
            (detections([BOX], [0.5], [0]), objects([[10, 10, 10, 40]], [0]), "box 0 of the target.*has no area: boxes are x0, y0, x1, y1"),
            (detections([BOX], [0.5], [0]), objects([BOX], [0]) | {"crowd": np.zeros(3, bool)}, "1 boxes, and says of 3 whether"),
        ],
    )
    def test_what_is_no_detection_is_told(self, prediction: Any, target: Any, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            MeanAveragePrecision(3).observe(prediction, target)


class TestAnswers:
    def test_the_best_hundred_are_kept_in_their_order_without_boxes_of_no_area(self) -> None:
        rng = np.random.default_rng(0)
        prediction = detections(boxes_in(rng, 130), rng.permutation(130) / 130, rng.integers(0, 3, 130))
        top = int(prediction["scores"].argmax())
        prediction["boxes"][top, 2] = prediction["boxes"][top, 0]
        kept = TASK.from_bytes(TASK.to_bytes(prediction))
        order = np.argsort(-prediction["scores"])[1:101]
        assert {key: str(array.dtype) for key, array in kept.items()} == {"boxes": "float32", "scores": "float32", "labels": "int64"}
        for key, array in kept.items():
            np.testing.assert_array_equal(array, prediction[key][order])

    def test_what_is_no_number_is_not_lost(self) -> None:
        rng = np.random.default_rng(0)
        prediction = detections(boxes_in(rng, 130), np.linspace(0.9, 0.1, 130), np.zeros(130))
        prediction["scores"][129] = np.nan
        assert np.isnan(TASK.from_bytes(TASK.to_bytes(prediction))["scores"][0])

    @pytest.mark.parametrize("answer", [3, "cat", {"boxes": np.zeros((2, 4))}, detections([BOX], [0.5], [0, 1])])
    def test_other_answers_are_refused(self, answer: Any) -> None:
        with pytest.raises(ValueError, match="prediction must"):
            TASK.to_bytes(answer)

    @pytest.mark.parametrize("seed", range(5))
    def test_an_answer_agrees_with_itself_exactly_though_it_has_more_boxes_than_are_certain(self, seed: int) -> None:
        metric, rng = MeanAveragePrecision(), np.random.default_rng(seed)
        answers = []
        for _ in range(12):
            count = int(rng.integers(1, 160))
            boxes = boxes_in(rng, count) + rng.random((count, 4)) * 0.3
            answers.append(TASK.from_bytes(TASK.to_bytes(detections(boxes, rng.random(count), rng.integers(0, 3, count)))))
        targets = [TASK.as_target(answer, Image(np.zeros((9, 9, 3), np.uint8))) for answer in answers]
        assert 0 < sum(len(target["labels"]) for target in targets) < sum(len(answer["labels"]) for answer in answers)
        assert metric.value(observed(metric, list(zip(answers, targets, strict=True)))) == 1.0

    def test_are_said_in_words(self) -> None:
        answer = detections([BOX, OTHER, BOX, BOX], [0.9, 0.8, 0.7, 0.4], [1, 0, 1, 2])
        assert TASK.describe(answer, NAMES) == "2 cat, 1 dog"
        assert TASK.describe(objects([BOX, OTHER, BOX], [0, 0, 1], [0, 0, 1]), NAMES) == "2 dog"
        assert TASK.describe(objects([], []), NAMES) == "nothing"

    def test_agree_where_only_rounding_or_what_is_uncertain_differs(self) -> None:
        one = detections([BOX, OTHER], [0.9, 0.3], [0, 1])
        assert TASK.agree(one, detections([[10.4, 10, 50, 39.5], BOX], [0.9005, 0.2], [0, 2]))
        assert TASK.agree(detections([BOX], [0.5002], [0]), detections([BOX], [0.4998], [0]))
        for other in (detections([BOX], [0.9], [1]), detections([BOX], [0.8], [0]), detections([[12, 10, 50, 40]], [0.9], [0])):
            assert not TASK.agree(one, other)
        assert not TASK.agree(one, detections([BOX, OTHER], [0.9, 0.6], [0, 1]))  # found by the other alone
        assert TASK.agree(detections([], [], []), detections([], [], []))

    def test_are_shown_over_the_true_boxes(self) -> None:
        image = Image(np.full((100, 200, 3), 255, np.uint8))
        answer = detections([[20, 20, 80, 60], [100, 20, 150, 60]], [0.9, 0.2], [1, 0])
        decoded, shown, legend = TASK.example(image, answer, objects([[120, 30, 180, 90]], [0]), NAMES, None)
        pixels = np.asarray(Picture.open(io.BytesIO(shown["data"])))
        assert bytes(pixels[20, 50]).hex() == class_colour(1)[1:]
        assert bytes(pixels[30, 150]) == bytes(3)
        assert bytes(pixels[20, 120]) == bytes([255] * 3)  # too uncertain to be shown
        assert json.loads(legend["data"]) == {"cat": class_colour(1)}
        assert decoded["label"] == "picture"

    def test_are_shown_in_their_places_in_large_pictures(self) -> None:
        image = Image(np.full((640, 1280, 3), 255, np.uint8))
        _, shown, _ = TASK.example(image, detections([[400, 200, 800, 400]], [0.9], [0]), objects([], []), NAMES, None)
        coloured = np.argwhere(np.asarray(Picture.open(io.BytesIO(shown["data"]))).min(axis=2) < 255)
        np.testing.assert_array_equal([coloured.min(axis=0), coloured.max(axis=0) + 1], [[50, 100], [100, 200]])


# Detectors of transformers ------------------------------------------------------------------------------------------------------------


def named(names: Sequence[str]) -> dict[str, Any]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def yolos(folder: Path, names: Sequence[str] = NAMES) -> None:
    import torch
    from transformers import YolosConfig, YolosForObjectDetection, YolosImageProcessorPil

    torch.manual_seed(1)
    config = YolosConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=[48, 64],
                         num_detection_tokens=7, initializer_range=0.5, **named(names))  # fmt: skip
    YolosForObjectDetection(config).save_pretrained(folder)
    YolosImageProcessorPil(size={"shortest_edge": 48, "longest_edge": 96}).save_pretrained(folder)


def detr(folder: Path, names: Sequence[str] = NAMES) -> None:
    import torch
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil, ResNetConfig

    torch.manual_seed(1)
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=["stage4"])
    config = DetrConfig(use_timm_backbone=False, backbone_config=backbone, d_model=16, encoder_layers=1, decoder_layers=1,
                        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=9,
                        init_std=0.5, **named(names))  # fmt: skip
    DetrForObjectDetection(config).save_pretrained(folder)
    DetrImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)


def rt_detr(folder: Path, names: Sequence[str] = NAMES) -> None:
    import torch
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessorPil, RTDetrResNetConfig

    torch.manual_seed(1)
    stages = ["stage2", "stage3", "stage4"]
    backbone = RTDetrResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], out_features=stages, layer_type="basic")
    config = RTDetrConfig(backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8], encoder_ffn_dim=16,
                          encoder_attention_heads=2, d_model=16, decoder_in_channels=[16, 16, 16], decoder_ffn_dim=16, decoder_layers=1,
                          decoder_attention_heads=2, num_queries=8, num_denoising=0, **named(names))  # fmt: skip
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)


MODELS: Mapping[str, Callable[[Path], None]] = {"yolos": yolos, "detr": detr, "rt_detr": rt_detr}
SIZES = [(48, 64), (60, 50), (48, 64), (1, 3), (33, 170), (48, 64)]


@pytest.fixture(scope="module", params=sorted(MODELS))
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    MODELS[request.param](folder)
    return folder


def noise(height: int, width: int, seed: int = 0) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


class TestDetectors:
    def test_pictures_get_the_same_answers_together_as_alone(self, checkpoint: Path) -> None:
        model = TASK.load(str(checkpoint), "cpu")
        signals = [noise(*size, seed) for seed, size in enumerate(SIZES)]
        for together, alone in zip(model.predict(signals), (model.predict([signal])[0] for signal in signals), strict=True):
            np.testing.assert_array_equal(together["labels"], alone["labels"])
            np.testing.assert_allclose(together["scores"], alone["scores"], atol=1e-5)
            np.testing.assert_allclose(together["boxes"], alone["boxes"], atol=0.01)

    def test_boxes_are_in_pixels_of_the_picture_the_best_first(self, checkpoint: Path) -> None:
        model = TASK.load(str(checkpoint), "cpu")
        small, large = model.predict([noise(48, 64), Image(np.kron(noise(48, 64).pixels, np.ones((10, 10, 1), np.uint8)))])
        assert 0 < len(small["scores"]) <= 100
        for answer, (height, width) in ((small, (48, 64)), (large, (480, 640))):
            assert (np.diff(answer["scores"]) <= 0).all()
            centres = (answer["boxes"][:, :2] + answer["boxes"][:, 2:]) / 2
            assert (centres >= 0).all()
            assert (centres <= [width, height]).all()
            assert centres.max() > 0.3 * height
        assert model.labels == NAMES

    def test_answers_are_the_networks(self, checkpoint: Path) -> None:
        import torch
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        network = AutoModelForObjectDetection.from_pretrained(checkpoint).eval()
        image = noise(48, 64)
        with torch.inference_mode():
            inputs = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")(Picture.fromarray(image.pixels), return_tensors="pt")
            outputs = network(pixel_values=inputs["pixel_values"])
        focal = "rt" in checkpoint.name  # it has no class for nothing
        chances = (outputs.logits.sigmoid() if focal else outputs.logits.softmax(-1)[..., :-1])[0].numpy()
        scores = np.sort(chances.ravel())[::-1][: len(chances)] if focal else np.sort(chances.max(axis=1))[::-1]
        (answer,) = TASK.load(str(checkpoint), "cpu").predict([image])
        np.testing.assert_allclose(answer["scores"], scores, atol=1e-5)
        x, y, width, height = outputs.pred_boxes[0, int(chances.max(axis=1).argmax())].tolist()
        expected = [64 * (x - width / 2), 48 * (y - height / 2), 64 * (x + width / 2), 48 * (y + height / 2)]
        np.testing.assert_allclose(answer["boxes"][0], expected, atol=0.01)
        assert answer["labels"][0] == chances.max(axis=0).argmax()

    def test_a_network_that_computes_no_number_has_no_value(self, checkpoint: Path) -> None:
        model, metric = TASK.load(str(checkpoint), "cpu"), MeanAveragePrecision(3)
        for weight in model._model.parameters():
            weight.data.fill_(float("nan"))
        (answer,) = model.predict([noise(48, 64)])
        assert np.isnan(metric.value([metric.observe(TASK.from_bytes(TASK.to_bytes(answer)), objects([BOX], [0]))]))

    def test_half_precision_is_near(self, checkpoint: Path) -> None:
        exact, half = (TASK.load(str(checkpoint), "cpu", precision=name).predict([noise(48, 64)])[0] for name in ("float32", "bfloat16"))
        assert half["scores"].dtype == np.float32
        assert abs(exact["scores"][0] - half["scores"][0]) < 0.1

    def test_a_model_of_another_kind_is_told(self, tmp_path: Path) -> None:
        replicas.vit(tmp_path, ["dog", "cat"])
        with pytest.raises(AssetError, match=r"holds a ViTForImageClassification, where a \.\.\.ForObjectDetection is needed"):
            TASK.load(str(tmp_path), "cpu")

    @pytest.mark.skipif(importlib.util.find_spec("timm") is not None, reason="timm is installed")
    @pytest.mark.parametrize("config", [{"use_timm_backbone": True}, {"backbone_config": {"model_type": "timm_backbone"}}])
    def test_a_backbone_of_timm_is_told_before_weights_are_read(self, tmp_path: Path, config: dict[str, Any]) -> None:
        for name in ("preprocessor_config.json", "pytorch_model.bin"):
            (tmp_path / name).write_text("{}")
        (tmp_path / "config.json").write_text(json.dumps({"architectures": ["DetrForObjectDetection"], **config}))
        with pytest.raises(AssetError, match=r"timm, which is not installed: pip install timm; or take .*no_timm"):
            TASK.check(str(tmp_path))


# Data ---------------------------------------------------------------------------------------------------------------------------------

COLOURS = {"dog": (40, 60, 220), "cat": (220, 60, 40)}


def drawn(seed: int) -> tuple[bytes, list[list[int]], list[str]]:
    """A grey picture of 96 x 64 as PNG with one to three rectangles apart from each other: blue dogs and red cats."""
    rng = np.random.default_rng(seed)
    pixels = np.full((64, 96, 3), 128, np.uint8)
    boxes, names = [], []
    for cell in range(int(rng.integers(1, 4))):
        x, y, width, height = 32 * cell + int(rng.integers(2, 8)), int(rng.integers(2, 20)), *map(int, rng.integers(12, 22, 2))
        name = "cat" if (seed + cell) % 2 else "dog"
        pixels[y : y + height, x : x + width] = COLOURS[name]
        boxes.append([x, y, width, height])
        names.append(name)
    content = io.BytesIO()
    Picture.fromarray(pixels).save(content, "PNG")
    return content.getvalue(), boxes, names


PICTURES = [drawn(seed) for seed in range(6)]
DATA_CLASSES = ["cat", "dog"]


def image_folder(folder: Path, objects: Callable[[list[list[int]], list[str]], Any] | None = None) -> None:
    (folder / "test").mkdir(parents=True)
    lines = []
    for number, (content, boxes, names) in enumerate(PICTURES):
        (folder / f"test/00{number}.png").write_bytes(content)
        said = objects(boxes, names) if objects else {"bbox": boxes, "categories": names}
        lines.append(json.dumps({"file_name": f"00{number}.png", "objects": said}))
    (folder / "test/metadata.jsonl").write_text("\n".join(lines) + "\n")


def coco_content(**more: Any) -> dict[str, Any]:
    """Annotations with ids that have gaps, as COCO's have."""
    ids = {"cat": 17, "dog": 18}
    annotations = [
        {
            "id": 10 * number + place,
            "image_id": 100 + number,
            "category_id": ids[name],
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for number, (_, boxes, names) in enumerate(PICTURES)
        for place, (box, name) in enumerate(zip(boxes, names, strict=True))
    ]
    images = [{"id": 100 + number, "file_name": f"00{number}.png", "width": 96, "height": 64} for number in range(len(PICTURES))]
    categories = [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 17, "name": "cat", "supercategory": "animal"}]
    return {"images": images, "annotations": annotations, "categories": categories, **more}


def coco_folder(folder: Path, content: dict[str, Any] | None = None, beside: bool = False) -> None:
    (folder / "val2017").mkdir(parents=True)
    for number, (picture, _, _) in enumerate(PICTURES):
        (folder / f"val2017/00{number}.png").write_bytes(picture)
    file = folder / ("val2017/_annotations.coco.json" if beside else "annotations/instances_val2017.json")
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content or coco_content()))


def parquet(listed: bool) -> bytes:
    """As hub data sets have it: a struct of lists, or a list of structs, with the names of the classes in the features."""
    from datasets import ClassLabel, Features, List, Value
    from datasets import Image as Stored

    label, box = ClassLabel(names=DATA_CLASSES), List(Value("float32"), 4)
    inside = List({"bbox": box, "category": label}) if listed else {"bbox": List(box), "category": List(label)}
    numbers = [[DATA_CLASSES.index(name) for name in names] for _, _, names in PICTURES]
    rows: list[Any] = [{"bbox": boxes, "category": own} for (_, boxes, _), own in zip(PICTURES, numbers, strict=True)]
    if listed:
        rows = [[{"bbox": box, "category": one} for box, one in zip(row["bbox"], row["category"], strict=True)] for row in rows]
    columns = {"image": [{"bytes": content, "path": None} for content, _, _ in PICTURES], "objects": rows}
    return replicas.parquet(columns, Features({"image": Stored(), "objects": inside}))


def suite(folder: Path, dataset: str, model: str = "python:finder:load", more: str = "") -> Path:
    file = folder / "shapes.toml"
    file.write_text(
        f'name = "shapes"\n[[evaluation]]\nname = "finder_shapes"\ntask = "object_detection"\nmodel = "{model}"\n'
        f"dataset = {{ {dataset} }}\ncodecs = ['jpeg']\nqualities = {{ jpeg = ['q5'] }}\n{more}\n"
    )
    return file


def data(folder: Path, dataset: str, more: str = "", model: Sequence[str] = NAMES) -> Dataset:
    """Return a data set in the order of the model's classes."""
    (evaluation,) = load_suite(suite(folder, dataset, more=more))
    return evaluation.task.align(load_dataset(evaluation), evaluation, lambda: model)


def check(found: Dataset) -> None:
    assert len(found.samples) == len(PICTURES)
    assert found.labels == NAMES
    for sample, (_, boxes, names) in zip(found.samples, PICTURES, strict=True):
        target = sample.target()
        np.testing.assert_array_equal(target["boxes"], [[x, y, x + width, y + height] for x, y, width, height in boxes])
        assert [NAMES[label] for label in target["labels"]] == names
        assert not target["crowd"].any()
        assert sample.signal().pixels.shape == (64, 96, 3)


LOCAL = 'path = "imagefolder", data_dir = "shapes", split = "test"'
COCO = 'path = "coco", data_dir = "shapes", split = "val2017"'


class TestData:
    def test_names_in_a_folder_of_pictures(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "shapes")
        found = data(tmp_path, LOCAL)
        check(found)
        assert found.samples[0].id == "test/000.png"

    def test_numbers_get_their_names_from_the_suite_file(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "shapes", lambda boxes, names: {"bbox": boxes, "category_id": [1 + DATA_CLASSES.index(n) for n in names]})
        check(data(tmp_path, LOCAL + ', labels = ["", "cat", "dog"]'))

    def test_objects_one_by_one(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "shapes", lambda boxes, names: [{"bbox": b, "label": n} for b, n in zip(boxes, names, strict=True)])
        check(data(tmp_path, LOCAL))

    def test_pictures_without_objects_have_empty_lists_and_not_nothing(self, tmp_path: Path) -> None:
        empty, nothing = PICTURES[0][1], PICTURES[1][1]

        def said(boxes: list[list[int]], names: list[str]) -> Any:
            full = {"bbox": boxes, "categories": names}
            return None if boxes == nothing else {"bbox": [], "categories": []} if boxes == empty else full

        image_folder(tmp_path / "shapes", said)
        first, second, third = data(tmp_path, LOCAL).samples[:3]
        assert first.target()["boxes"].shape == (0, 4)
        assert len(third.target()["labels"]) == len(PICTURES[2][2])
        with pytest.raises(ValueError, match="has no objects in the column 'objects': write empty lists for a picture without any"):
            second.target()

    def test_corners(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "shapes", lambda boxes, names: {"bbox": [[x, y, x + w, y + h] for x, y, w, h in boxes], "category": names})
        check(data(tmp_path, LOCAL, 'options = { boxes = "xyxy" }'))

    @pytest.mark.parametrize("beside", [False, True], ids=["as COCO has it", "as Roboflow writes it"])
    def test_annotations_of_coco(self, tmp_path: Path, beside: bool) -> None:
        coco_folder(tmp_path / "shapes", beside=beside)
        found = data(tmp_path, COCO)
        check(found)
        assert found.samples[0].id == "000.png"

    @pytest.mark.parametrize("listed", [False, True], ids=["a struct of lists", "a list of structs"])
    def test_parquet(self, tmp_path: Path, listed: bool) -> None:
        (tmp_path / "shapes.parquet").write_bytes(parquet(listed))
        check(data(tmp_path, 'path = "parquet", data_files = "shapes.parquet"'))

    def test_what_coco_has_besides(self, tmp_path: Path) -> None:
        """A crowd, a picture without objects, and a category above the others that no object has, as Roboflow adds it."""
        content = coco_content()
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 101]
        content["annotations"][0]["iscrowd"] = 1
        content["categories"] += [{"id": 0, "name": "animal", "supercategory": "none"}]
        coco_folder(tmp_path / "shapes", content)
        found = data(tmp_path, COCO)
        assert found.samples[0].target()["crowd"].tolist()[0]
        assert {key: array.shape for key, array in found.samples[1].target().items()} == {"boxes": (0, 4), "labels": (0,), "crowd": (0,)}

    def test_a_target_is_part_of_what_a_sample_is_known_by(self, tmp_path: Path) -> None:
        coco_folder(tmp_path / "one/shapes")
        content = coco_content()
        content["annotations"][0]["bbox"][2] += 1
        coco_folder(tmp_path / "two/shapes", content)
        coco_folder(tmp_path / "three/shapes")
        one, two, three = (data(tmp_path / name, COCO).sources() for name in ("one", "two", "three"))
        assert one == three
        assert [a == b for a, b in zip(one, two, strict=True)] == [False, *[True] * (len(PICTURES) - 1)]

    @pytest.mark.parametrize(
        ("box", "says"),
        [
            ([10, 10, 20, 0], r"row 0: box 0 of \d in the column 'objects', \[10, 10, 20, 0\], has no area: correct it or leave it out"),
            ([10, 10, -5, 20], "has no area"),
            ([10, 10, float("nan"), 20], "has no area"),
            ([80, 10, 20, 20], r"\[80, 10, 20, 20\], reaches out of the picture of 96 x 64 pixels: .*x0, y0, x1, y1, write .*\"xyxy\""),
            ([-5, 10, 20, 20], "reaches out of the picture"),
            ([10, 50, 20, 20], "reaches out of the picture"),
            ([10, 10, 20], "must have four numbers and one class for each object"),
        ],
    )
    def test_an_impossible_box_is_its_samples_failure(self, tmp_path: Path, box: list[float], says: str) -> None:
        content = coco_content()
        content["annotations"][0]["bbox"] = box
        coco_folder(tmp_path / "shapes", content)
        found = data(tmp_path, COCO)
        assert len(set(found.sources())) == len(PICTURES)
        with pytest.raises(ValueError, match=says):
            found.samples[0].target()
        found.samples[1].target()

    def test_a_box_may_be_rounded_over_the_edge(self, tmp_path: Path) -> None:
        content = coco_content()
        content["annotations"][0]["bbox"] = [0, 0, 96.8, 64]
        coco_folder(tmp_path / "shapes", content)
        assert data(tmp_path, COCO).samples[0].target()["boxes"][0].tolist() == [0, 0, 96.8, 64]

    @pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_the_size_of_a_picture_is_that_of_its_signal(self, format: str, orientation: int) -> None:
        exif = Picture.Exif()
        exif[0x0112] = orientation
        content = io.BytesIO()
        Picture.new("RGB", (30, 20)).save(content, format, exif=exif)
        expected = read_image(content.getvalue()).pixels.shape[:2]
        assert expected == ((30, 20) if orientation > 4 else (20, 30))
        assert size_of_image(content.getvalue()) == expected


class TestMistakes:
    @pytest.mark.parametrize(
        ("dataset", "says"),
        [
            (LOCAL + ', objects = "boxes"', "no column 'boxes' for objects; write objects = \"COLUMN\""),
            (
                LOCAL + ', objects = "image"',
                "the column 'image' for objects holds PIL.Image.Image, where lists of bbox and one of category",
            ),
            ('path = "coco", data_dir = "shapes"', "holds no annotations of COCO: expected annotations/instances_<split>.json"),
            ('path = "coko", data_dir = "shapes"', "did you mean 'coco'"),
        ],
    )
    def test_in_a_suite_file_are_told_when_the_data_are_opened(self, tmp_path: Path, dataset: str, says: str) -> None:
        image_folder(tmp_path / "shapes")
        with pytest.raises(AssetError, match=says):
            data(tmp_path, dataset)

    def test_objects_without_classes(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "shapes", lambda boxes, names: {"bbox": boxes, "kind": names})
        with pytest.raises(AssetError, match="holds objects with bbox, kind, where lists of bbox and one of category"):
            data(tmp_path, LOCAL)

    def test_classes_that_the_model_does_not_have(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "shapes")
        with pytest.raises(AssetError, match=r"classes of the data do not match the model's.*Data \(2\): cat, dog"):
            data(tmp_path, LOCAL, model=["cat", "cow"])

    def test_a_split_that_there_is_not(self, tmp_path: Path) -> None:
        coco_folder(tmp_path / "shapes")
        with pytest.raises(AssetError, match=r"has no annotations of the split 'val2016'.*val2017"):
            data(tmp_path, COCO.replace("2017", "2016"))

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ({"images": []}, "instances_val2017.json cannot be read as COCO's annotations: it lacks 'annotations'"),
            (coco_content(categories=[]), "which there is not|no categories"),
            (coco_content(images=[]), "the annotation 0 is of the image 100, which there is not"),
            (coco_content(categories=[{"id": 17, "name": "cat"}, {"id": 18, "name": "cat"}]), "two categories have the same name"),
            (coco_content(images=2 * [{"id": 100, "file_name": "a.png"}]), "annotations: the id 100 stands for 2 images"),
        ],
    )
    def test_annotations_that_do_not_hold_together(self, tmp_path: Path, content: dict[str, Any], says: str) -> None:
        coco_folder(tmp_path / "shapes", content)
        with pytest.raises(AssetError, match=says):
            data(tmp_path, COCO)

    @pytest.mark.parametrize(("option", "says"), [('iou = "60"', "unknown iou '60'"), ('boxes = "yolo"', "boxes: unknown 'yolo'")])
    def test_an_unknown_option(self, tmp_path: Path, option: str, says: str) -> None:
        with pytest.raises(SuiteError, match=says):
            load_suite(suite(tmp_path, LOCAL, more=f"options = {{ {option} }}"))


# Whole runs ---------------------------------------------------------------------------------------------------------------------------

FINDER = """
import numpy as np
from scipy import ndimage


class Finder:
    labels = ("dog", "cat", "bird")

    def predict(self, signals):
        return [self.find(signal.pixels.astype(int)) for signal in signals]

    def find(self, pixels):
        boxes, labels = [], []
        for label, channel in ((0, 2), (1, 0)):  # dogs are blue, cats red
            for rows, columns in ndimage.find_objects(ndimage.label(pixels[..., channel] - pixels[..., 1] > 80)[0]):
                boxes.append([columns.start, rows.start, columns.stop, rows.stop])
                labels.append(label)
        return {"boxes": np.reshape(boxes, (-1, 4)), "scores": np.linspace(0.9, 0.6, len(boxes)), "labels": np.array(labels, int)}


def load(device):
    return Finder()
"""


def pytest_run(folder: Path, file: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "evaluations", "-p", "no:cacheprovider", "--mpq-suite", str(file), *places(folder)]
    command += ["--mpq-baselines", str(folder / "baselines"), *options]
    env = {**os.environ, "HF_HOME": str(folder / "hf"), **environment}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)


def results(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "out/results.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"].partition("-")[2]: row for row in csv.DictReader(file)}


class TestRuns:
    def test_a_finder_of_shapes_goes_from_pictures_to_report_and_through_the_gate(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "shapes")
        (tmp_path / "finder.py").write_text(FINDER)
        file = suite(tmp_path, LOCAL)
        first = pytest_run(tmp_path, file, "--mpq-update-baselines")
        assert first.returncode == 0, first.stdout + first.stderr
        rows = results(tmp_path)
        assert {point: (row["metric"], row["samples"]) for point, row in rows.items()} == {
            "original": ("map", "6"),
            "jpeg-q5": ("map", "6"),
        }
        assert float(rows["original"]["value"]) == 1.0
        assert 0 < float(rows["jpeg-q5"]["value"]) < 1
        assert float(rows["jpeg-q5"]["ci_low"]) < float(rows["jpeg-q5"]["ci_high"])
        page = (tmp_path / "out/report.html").read_text(encoding="utf-8")
        assert "detected objects" in page
        assert class_colour(0) in page
        assert "mAP" in page
        second = pytest_run(tmp_path, file, "--mpq-strict")
        assert second.returncode == 0, second.stdout + second.stderr
        assert {row["verdict"] for row in results(tmp_path).values()} == {"same"}

    def test_a_worse_detector_is_caught(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "shapes")
        (tmp_path / "finder.py").write_text(FINDER)
        file = suite(tmp_path, LOCAL)
        assert pytest_run(tmp_path, file, "--mpq-update-baselines").returncode == 0
        (tmp_path / "finder.py").write_text(FINDER.replace("columns.stop, rows.stop]", "columns.stop + 3, rows.stop]"))
        again = pytest_run(tmp_path, file)
        assert again.returncode == 1, again.stdout + again.stderr
        assert "regressed" in {row["verdict"] for row in results(tmp_path).values()}

    def test_answers_of_another_form_and_impossible_boxes_are_samples_failures_in_a_sentence(self, tmp_path: Path) -> None:
        content = coco_content()
        content["annotations"][0]["bbox"] = [80, 10, 40, 20]
        coco_folder(tmp_path / "shapes", content)
        (tmp_path / "finder.py").write_text(FINDER.replace("np.linspace(0.9, 0.6, len(boxes))", "np.ones(1)"))
        done = pytest_run(tmp_path, suite(tmp_path, COCO), "-k", "original")
        assert done.returncode == 1
        assert "must have boxes [n, 4] and one entry for each box in the others" in done.stdout
        (tmp_path / "finder.py").write_text(FINDER)
        done = pytest_run(tmp_path, suite(tmp_path, COCO), "-k", "original")
        assert done.returncode == 1
        assert "reaches out of the picture of 96 x 64 pixels" in done.stdout

    def test_a_detector_and_a_data_set_of_the_hub(self, tmp_path: Path) -> None:
        with LoopbackHub() as hub:
            hub.add("model", "someone/tiny-detector", replicas.saved(yolos))
            hub.add("dataset", "someone/shapes", {"README.md": b"# Shapes\n", "data/test-00000-of-00001.parquet": parquet(listed=False)})
            file = suite(tmp_path, 'path = "someone/shapes", split = "test"', "someone/tiny-detector")
            kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MPQ_"))}
            env = kept | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"}
            for command in ("fetch", "doctor"):
                asked = [sys.executable, "-m", "mpq_fixtures", command, str(file)]
                done = subprocess.run(asked, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
                assert done.returncode == 0, done.stdout + done.stderr
            ran = pytest_run(tmp_path, file, HF_ENDPOINT=hub.url)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert {(row["samples"], row["metric"]) for row in results(tmp_path).values()} == {("6", "map")}
        assert all(0 <= float(row["value"]) <= 1 for row in results(tmp_path).values())
