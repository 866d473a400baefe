"""Object detection with DETR (Carion et al., 2020, arXiv 2005.12872) and its kin: a picture in, boxes with their classes and scores out.

Any checkpoint that `AutoModelForObjectDetection` reads will do. A box is ``x0, y0, x1, y1`` in pixels of the picture, from its left and
upper edge; objects of data sets are ``x, y, width, height``, as COCO has them, unless the option ``boxes`` says otherwise.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw

from mpq_fixtures.datasets.columns import Cells, Files, Table, Targets, digest_of_text, files_of, kind_of
from mpq_fixtures.datasets.reading import size_of_image
from mpq_fixtures.errors import AssetError, nearest
from mpq_fixtures.examples import MAX_SIDE, Part, class_colour, image_example, signal_example
from mpq_fixtures.metrics import Metric
from mpq_fixtures.metrics.mean_average_precision import Boxes, MeanAveragePrecision
from mpq_fixtures.models import checkpoints, predictions
from mpq_fixtures.processes.devices import autocast
from mpq_fixtures.signals import Dataset, Image, Signal, Target
from mpq_fixtures.tasks import IMAGE, Prediction, Task
from mpq_fixtures.tasks._classes import NO_CLASS, ClassIndices, mapped, match_models
from mpq_fixtures.tasks._pictures import PictureModel, read

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation

MOST = 100
"""Detections in a picture that count, the best ones: as many as COCO's evaluation takes of a class."""

CLASS_KEYS = ("category", "categories", "label", "labels", "category_id", "class", "classes")
"""What the class of an object is called in data sets."""

BOX_FORMS = {"xywh": "x, y, width, height", "xyxy": "x0, y0, x1, y1"}

_SLACK = 1.0  # pixels by which a box may reach beyond its picture: annotations are rounded, and some count pixels from 1

Prepared = tuple[NDArray[np.float32], NDArray[np.int64], tuple[int, int]]
"""The pixel values of a picture, ``float32 [1, 3, h, w]``, which of them are the picture's, ``int64 [1, h, w]``, its height and width."""


class ObjectDetection(Task):
    """Where objects are, and of which classes; mean average precision.

    A prediction is ``{"boxes": float32 [n, 4], "scores": float32 [n], "labels": int64 [n]}``, the best first and at most `MOST`; a
    target ``{"boxes": float64 [m, 4], "labels": int64 [m], "crowd": bool [m]}``.
    """

    name, title = "object_detection", "object detection"
    modality, columns = IMAGE, ("image", "objects")
    packages = ("torch", "transformers", "pillow")
    options: ClassVar[Mapping[str, Any]] = {"iou": "50:95", "boxes": "xywh"}
    answer_bytes = 0.01  # a hundred boxes, where there are so many, in a picture of 640 x 480
    certain: ClassVar[float] = 0.5
    """The score from which on a detection is shown and, where it has to stand for what is there, believed: as ``transformers`` has it."""

    def targets(self, table: Table) -> tuple[Targets, tuple[str, ...]]:
        """Return boxes with their classes, and the names of these."""
        pictures = files_of(table, table.column("image"), "image")
        objects = _Objects(table, table.column("objects"), pictures, str(table.evaluation.options["boxes"]))
        return objects, objects.names

    def align(self, dataset: Dataset, evaluation: Evaluation, classes: Callable[[], Sequence[str]]) -> Dataset:
        """Return the data set with its classes in the order of the model's; raises `AssetError` where names do not match."""
        labels, order = match_models(dataset, evaluation, classes())
        return mapped(dataset, labels, order, _label_mapper(order or range(len(labels)))) if labels else dataset

    def as_target(self, prediction: Prediction, signal: Signal) -> Target:
        """Return the detections with a score of at least `certain` as objects.

        Those below come after all of them, and so cost the same answer nothing: it scores 1.
        """
        sure = prediction["scores"] >= self.certain
        boxes, labels = prediction["boxes"][sure].astype(np.float64), prediction["labels"][sure]
        return {"boxes": boxes, "labels": labels, "crowd": np.zeros(len(labels), bool)}

    def check(self, source: str, **options: Any) -> None:
        """Raise `AssetError` where a folder holds no such checkpoint, or not all of it, as far as shows without reading weights.

        The same where its backbone is one of the package timm, and that is not installed.
        """
        checkpoints.check(source, "ForObjectDetection", checkpoints.WEIGHTS, checkpoints.PROCESSOR)
        config = checkpoints.config_of(Path(source))
        inside = (config.get("backbone_config") or {}).get("model_type") == "timm_backbone"
        if (config.get("use_timm_backbone") or inside) and importlib.util.find_spec("timm") is None:
            ways = 'pip install timm; or take a checkpoint without, as "facebook/detr-resnet-50@no_timm" is'
            raise AssetError(f"{source} has a backbone of timm, which is not installed: {ways}")

    def load(self, source: str, device: str, **options: Any) -> ObjectDetector:
        """Load a detector for ``device`` from a local folder or a hub id with an optional ``@revision``.

        Raises what `check` does, and ``OSError`` when there is no such checkpoint.
        """
        self.check(source)
        return ObjectDetector(*read("AutoModelForObjectDetection", source), device, **options)

    def to_bytes(self, prediction: Prediction) -> bytes:
        """Serialise the best detections; raises `ValueError` for what is none."""
        return predictions.to_bytes(best(prediction))

    def describe(self, answer: Any, labels: Sequence[str]) -> str:
        """Say how many of which classes there are, as in ``3 cat, 1 dog``: detections from `certain` on, objects without crowds."""
        counted = answer["scores"] >= self.certain if "scores" in answer else ~answer["crowd"]
        counts = Counter(sorted(answer["labels"][counted].tolist())).most_common()
        return ", ".join(f"{count} {predictions.describe(label, labels)}" for label, count in counts) or "nothing"

    def agree(self, one: Prediction, other: Prediction) -> bool:
        """Tell whether each detection from `certain` on is there in the other answer: within a pixel, and 0.001 in its score."""
        return self._is_in(one, other) and self._is_in(other, one)

    def _is_in(self, one: Prediction, other: Prediction) -> bool:
        sure = one["scores"] >= self.certain
        alike = one["labels"][sure, None] == other["labels"]
        alike &= np.abs(one["scores"][sure, None] - other["scores"]) <= 1e-3
        alike &= (np.abs(one["boxes"][sure, None] - other["boxes"]) <= 1).all(axis=2)
        return bool(alike.any(axis=1).all())

    def metric(self, dataset: Dataset, **options: Any) -> Metric:
        """Return mAP over the data set's classes."""
        if (form := options["boxes"]) not in BOX_FORMS:
            raise ValueError(f"boxes: unknown {form!r}{nearest(str(form), BOX_FORMS)}")
        return MeanAveragePrecision(len(dataset.labels) or None, str(options["iou"]))

    def example(self, signal: Signal, prediction: Prediction, target: Any, labels: Sequence[str], level: Signal | None) -> list[Part]:
        """Return the picture, the detections from `certain` on over the target's boxes in black, and the legend of their colours."""
        assert isinstance(signal, Image)
        sure = prediction["scores"] >= self.certain
        return [signal_example(signal), *boxes_example(signal, {key: prediction[key][sure] for key in ("boxes", "labels")}, target, labels)]


class ObjectDetector(PictureModel):
    """A detector on a device; ``labels`` are the names of its classes."""

    cpu_batch = 4  # pictures of 800 pixels and more on a side, where threads have enough to do with one

    def __init__(self, model: Any, processor: Any, device: str, precision: str = "float32") -> None:
        super().__init__(model, processor, device, precision)
        self._takes_mask = "pixel_mask" in inspect.signature(model.forward).parameters

    def predict(self, signals: Sequence[Image]) -> list[dict[str, NDArray[Any]]]:
        """Return the detections in each picture, the best first: see `ObjectDetection`."""
        return self.infer(self.prepare(signals))

    def prepare(self, signals: Sequence[Image]) -> list[Prepared]:
        """Return what the network is given of each picture, each prepared alone, so that none is padded to the size of another."""
        found: list[Prepared] = []
        for signal in signals:
            made = self._processor(Pillow.fromarray(signal.pixels), input_data_format="channels_last", return_tensors="pt")
            values = made.pixel_values.numpy()
            mask = made.pixel_mask.numpy() if "pixel_mask" in made else np.ones((1, *values.shape[2:]), np.int64)
            found.append((values, mask.astype(np.int64), (signal.pixels.shape[0], signal.pixels.shape[1])))
        return found

    def infer(self, prepared: Sequence[Prepared]) -> list[dict[str, NDArray[Any]]]:
        """Return the detections for what `prepare` made of each picture; those that it made of one size run together."""
        alike: dict[tuple[int, ...], list[int]] = {}
        for place, (values, _, _) in enumerate(prepared):
            alike.setdefault(values.shape, []).append(place)
        answers: dict[int, dict[str, NDArray[Any]]] = {}
        for places in alike.values():
            answers |= zip(places, self._detect([prepared[place] for place in places]), strict=True)
        return [answers[place] for place in range(len(prepared))]

    def _detect(self, batch: Sequence[Prepared]) -> list[dict[str, NDArray[Any]]]:
        """Return the detections in pictures of one size."""
        import torch

        tensors = {"pixel_values": self._on_device(np.concatenate([values for values, _, _ in batch]))}
        if self._takes_mask:
            tensors["pixel_mask"] = torch.from_numpy(np.concatenate([mask for _, mask, _ in batch])).to(self._device)
        with torch.inference_mode():
            with autocast(self._device, self._precision):
                outputs = self._model(**tensors)
            outputs.logits, outputs.pred_boxes = outputs.logits.float().cpu(), outputs.pred_boxes.float().cpu()
            sizes = [size for _, _, size in batch]
            found = self._processor.post_process_object_detection(outputs, threshold=0.0, target_sizes=sizes)
            sound = torch.isfinite(outputs.logits).flatten(1).all(1) & torch.isfinite(outputs.pred_boxes).flatten(1).all(1)
        return [best(each) if whole else _broken() for each, whole in zip(found, sound.tolist(), strict=True)]


def best(prediction: Any) -> dict[str, NDArray[Any]]:
    """Return the detections that count: the `MOST` of the highest scores, in their order, without boxes of no area, which find nothing.

    What is not finite comes first, so that it is not lost. Raises `ValueError` for what are no detections.
    """
    found = Boxes(prediction, "prediction", ("boxes", "scores", "labels"))
    boxes, scores = found.boxes.astype(np.float32), np.asarray(prediction["scores"], np.float32)
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    if finite.all():
        found.check(None, may_be_flat=True)
    there = np.flatnonzero(~finite | (boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    order = there[np.argsort(np.where(finite, -scores, -np.inf)[there], kind="stable")][:MOST]
    return {"boxes": boxes[order], "scores": scores[order], "labels": found.labels[order]}


def _broken() -> dict[str, NDArray[Any]]:
    """Return what is said of a picture of which the network computed something that is no number."""
    return {"boxes": np.full((1, 4), np.nan, np.float32), "scores": np.full(1, np.nan, np.float32), "labels": np.zeros(1, np.int64)}


class _Objects(Targets):
    """The objects of each row: a struct of lists or a list of structs, with their boxes, their classes and whether they are crowds."""

    def __init__(self, table: Table, column: str, pictures: Files, form: str) -> None:
        from pyarrow import compute

        self._cells, self._column, self._pictures, self._form = Cells(table.rows.data.column(column)), column, pictures, form
        fields, listed = _fields(table.rows.features[column])
        self._class = next((key for key in CLASS_KEYS if key in fields), "")
        if "bbox" not in fields or not self._class:
            holds = f"objects with {', '.join(sorted(fields))}" if fields else kind_of(table.rows.features[column])
            wanted = f"bbox and one of {', '.join(CLASS_KEYS)}"
            raise table.error(f"the column {column!r} for objects holds {holds}, where lists of {wanted} are needed")
        cells = table.rows.data.column(column)
        lists = cells if listed else compute.struct_field(cells, self._class)
        flat = compute.list_flatten(lists)
        lengths = compute.fill_null(compute.list_value_length(lists), 0).to_pylist()
        self._ends = [0, *accumulate(lengths)]
        self._classes = _classes(table, f"{column}.{self._class}", compute.struct_field(flat, self._class) if listed else flat, fields)
        self.names = self._classes.names

    def digests(self, row: int) -> Iterator[bytes]:
        target = self._read(row)
        names = [self.names[label] if self.names else "" for label in target["labels"].tolist()]
        yield digest_of_text(json.dumps([{key: array.tolist() for key, array in target.items()}, names]))

    def __getitem__(self, row: int) -> Target:
        target = self._read(row)
        height, width = size_of_image(self._pictures.path(row) or self._pictures[row])
        boxes = target["boxes"]
        out = (boxes[:, :2] < -_SLACK).any(axis=1) | (boxes[:, 2:] > np.array([width, height]) + _SLACK).any(axis=1)
        if len(beyond := np.flatnonzero(out)):
            other = next(name for name in BOX_FORMS if name != self._form)
            raise ValueError(
                f"{self._told(row, beyond[0], boxes)} reaches out of the picture of {width} x {height} pixels: correct it, or, where "
                f'boxes are {BOX_FORMS[other]}, write options = {{ boxes = "{other}" }}'
            )
        return target

    def _read(self, row: int) -> dict[str, NDArray[Any]]:
        """Return the target of a row, of which the picture's size is not known yet."""
        cell = self._cells[row]
        if cell is None:
            raise ValueError(f"row {row} has no objects in the column {self._column!r}: write empty lists for a picture without any")
        objects = {key: [one[key] for one in cell] for key in (cell[0] if cell else ())} if isinstance(cell, list) else cell
        sides, crowd = objects.get("bbox") or [], objects.get("iscrowd")
        places = range(self._ends[row], self._ends[row + 1])
        if any(side is None or len(side) != 4 for side in sides) or len(sides) != len(places) or (crowd and len(crowd) != len(sides)):
            raise ValueError(f"row {row}: the column {self._column!r} must have four numbers and one class for each object")
        boxes = np.array(sides, np.float64).reshape(-1, 4)
        if self._form == "xywh":
            boxes[:, 2:] += boxes[:, :2]
        if len(flat := np.flatnonzero(~(boxes[:, 2:] > boxes[:, :2]).all(axis=1))):
            raise ValueError(f"{self._told(row, flat[0], boxes)} has no area: correct it or leave it out")
        labels = [self._label(row, place) for place in places]
        return {"boxes": boxes, "labels": np.array(labels, np.int64), "crowd": np.array(crowd or [0] * len(labels)).astype(bool)}

    def _label(self, row: int, place: int) -> int:
        try:
            return self._classes[place]
        except ValueError:
            raise ValueError(f"row {row}: object {place - self._ends[row]} in the column {self._column!r} has no class") from None

    def _told(self, row: int, place: int, boxes: NDArray[np.float64]) -> str:
        """Name a box, as it stands in the data."""
        box = boxes[place].copy()
        if self._form == "xywh":
            box[2:] -= box[:2]
        return f"row {row}: box {place} of {len(boxes)} in the column {self._column!r}, [{', '.join(f'{side:g}' for side in box)}],"


def _fields(feature: Any) -> tuple[dict[str, Any], bool]:
    """Return what a column says of an object, by name, and whether it is a list of structs rather than a struct of lists.

    {} for what is neither.
    """
    if isinstance(feature, Mapping):
        return {name: one.feature for name, one in feature.items() if hasattr(one, "feature")}, False
    inside = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return (dict(inside), True) if isinstance(inside, Mapping) else ({}, True)


def _classes(table: Table, column: str, values: Any, fields: Mapping[str, Any]) -> ClassIndices:
    """Return the classes of all objects of a table, one after the other."""
    import datasets
    import pyarrow as pa

    key = column.rpartition(".")[2]
    features = datasets.Features({column: fields[key]})
    rows = datasets.Dataset(datasets.table.InMemoryTable(pa.table({column: values})), datasets.DatasetInfo(features=features))
    return ClassIndices(Table(rows, table.base, table.columns, table.evaluation), column)


def _label_mapper(order: Sequence[int]) -> Callable[[Target], Target]:
    """Return what turns the classes of the data into the model's."""

    def brought(target: Target) -> Target:
        labels = np.asarray(target["labels"], np.int64)
        if labels.size and not 0 <= labels.min() <= labels.max() < len(order):
            raise ValueError(f"the objects have the labels {labels.min()} to {labels.max()}, beyond 0 to {len(order) - 1}")
        moved = np.asarray(order, np.int64)[labels]
        if (nameless := labels[moved == NO_CLASS]).size:
            raise ValueError(f"an object has the label {nameless[0]}, which stands for no class")
        return {**target, "labels": moved}

    return brought


def boxes_example(image: Image, prediction: Mapping[str, Any], target: Mapping[str, Any], labels: Sequence[str]) -> list[Part]:
    """Return a picture with boxes, and the legend of their colours.

    The target's are drawn in black, and over them those of the prediction, the best last, in the colours of their classes.
    """
    picture = Pillow.fromarray(np.ascontiguousarray(image.pixels))
    shrink = max(1.0, max(picture.size) / MAX_SIDE)
    picture.thumbnail((MAX_SIDE, MAX_SIDE), Pillow.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    black = ((box, "#000000") for box in target["boxes"])
    coloured = [(box, class_colour(int(label))) for box, label in zip(prediction["boxes"], prediction["labels"], strict=True)]
    for box, colour in (*black, *reversed(coloured)):
        left, top, right, bottom = np.clip(box / shrink, 0, [picture.width, picture.height] * 2)
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)
    legend = {predictions.describe(int(label), labels): class_colour(int(label)) for label in np.unique(prediction["labels"])}
    return [
        image_example(Image(np.asarray(picture)), "detected objects"),
        {"label": "legend", "media_type": "application/json", "data": json.dumps(legend).encode()},
    ]
