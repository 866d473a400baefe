"""Semantic segmentation with SegFormer (Xie et al., 2021, arXiv 2105.15203): a picture in, a class map out.

Any checkpoint that `SegformerForSemanticSegmentation` reads will do.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from mpq_fixtures.datasets.columns import Files, Table, Targets, files_of
from mpq_fixtures.datasets.reading import read_mask
from mpq_fixtures.errors import AssetError
from mpq_fixtures.examples import MAX_SIDE, Part, class_colour, signal_example
from mpq_fixtures.metrics import Metric
from mpq_fixtures.models import checkpoints
from mpq_fixtures.signals import Dataset, Image, Signal, Target
from mpq_fixtures.tasks import IMAGE, Prediction, Task
from mpq_fixtures.tasks._classes import NO_CLASS, mapped, match_models
from mpq_fixtures.tasks._pictures import PictureModel, read

if TYPE_CHECKING:
    from mpq_fixtures.suite import Evaluation

UNSCORED = -1
"""What class maps hold where their pixels belong to no class."""

Prepared = tuple[NDArray[np.float32], tuple[int, int]]
"""The pixel values of a picture, ``float32 [1, 3, h, w]``, and its own height and width."""


class ImageSegmentation(Task):
    """Which class each pixel belongs to; mean intersection over union.

    The mask value ``label_offset`` stands for the first class; ``ignored_label`` is a mask value, too, whose pixels are not scored.
    """

    name, title = "image_segmentation", "semantic segmentation"
    modality, columns = IMAGE, ("image", "mask")
    packages = ("torch", "transformers", "pillow")
    options: ClassVar[Mapping[str, Any]] = {"ignored_label": None, "label_offset": 0}
    answer_bytes = 0.04  # a compressed class map

    def targets(self, table: Table) -> tuple[Targets, tuple[str, ...]]:
        """Return class maps, and the names of the classes where the suite file has them."""
        pictures, masks = (files_of(table, table.column(key), key) for key in ("image", "mask"))
        return _ClassMaps(masks, pictures), table.evaluation.named_classes

    def align(self, dataset: Dataset, evaluation: Evaluation, classes: Callable[[], Sequence[str]]) -> Dataset:
        """Return the data set with masks in the order of the model's classes, and ``ignored_label`` set apart.

        They are counted from ``label_offset``. Raises `AssetError` where names do not match.
        """
        labels, order = match_models(dataset, evaluation, classes())
        if not labels:
            raise AssetError(f'{evaluation.name}: neither data nor model name their classes: write labels = ["wall", ...] in the data set')
        ignored, offset = evaluation.options["ignored_label"], evaluation.options["label_offset"]
        mapper = _map_mapper(order or range(len(labels)), ignored, offset)
        unscored = None if ignored is None else int(mapper(np.array([[ignored]]))[0, 0])
        settings = (order, ignored, offset) if order or offset or ignored is not None else ()
        return dataclasses.replace(mapped(dataset, labels, settings, mapper), ignored=unscored)

    def check(self, source: str, **options: Any) -> None:
        """Raise `AssetError` where a folder holds no such checkpoint, or not all of it, as far as shows without reading weights."""
        checkpoints.check(source, "SegformerForSemanticSegmentation", checkpoints.WEIGHTS, checkpoints.PROCESSOR)

    def load(self, source: str, device: str, **options: Any) -> ImageSegmenter:
        """Load a SegFormer for ``device`` from a local folder or a hub id with an optional ``@revision``.

        Raises what `check` does, and ``OSError`` when there is no such checkpoint.
        """
        self.check(source)
        return ImageSegmenter(*read("SegformerForSemanticSegmentation", source), device, **options)

    def metric(self, dataset: Dataset, **options: Any) -> Metric:
        """Return mIoU over the data set's classes."""
        from mpq_fixtures.metrics.miou import MeanIoU

        for name, value in options.items():
            if value is not None and type(value) is not int:
                raise TypeError(f"{name}: {value!r} must be a whole number, a value of the masks")
        return MeanIoU(len(dataset.labels), dataset.ignored)

    def example(self, signal: Signal, prediction: Prediction, target: Any, labels: Sequence[str], level: Signal | None) -> list[Part]:
        """Return the picture, the classes of its pixels with the borders of the target's, and the legend of their colours."""
        return [signal_example(signal), *mask_example(np.asarray(prediction), np.asarray(target), labels)]


class ImageSegmenter(PictureModel):
    """A SegFormer on a device; ``labels`` are the names of its classes."""

    cpu_batch = 8  # the maps of more outgrow the processor's caches

    def predict(self, signals: Sequence[Image]) -> list[NDArray[Any]]:
        """Return the class map of each picture, ``int [height, width]`` in the picture's own size.

        The logits, not the classes, are brought to that size, bilinearly, as the paper's evaluation does.
        """
        return self.infer(self.prepare(signals))

    def prepare(self, signals: Sequence[Image]) -> list[Prepared]:
        """Return what the network is given of each picture, each prepared alone."""
        return [(self._pixel_values(signal), (signal.pixels.shape[0], signal.pixels.shape[1])) for signal in signals]

    def infer(self, prepared: Sequence[Prepared]) -> list[NDArray[Any]]:
        """Return the class map for what `prepare` made of each picture."""
        import torch

        with torch.inference_mode():
            logits = self._logits([values for values, _ in prepared])
            return [self._map(one, size) for one, (_, size) in zip(logits, prepared, strict=True)]

    def _map(self, logits: Any, size: tuple[int, int]) -> NDArray[Any]:
        """Upsample one picture's logits ``[classes, h, w]`` and take the greatest of each pixel."""
        from torch.nn.functional import interpolate

        # The classes of a pixel may lie side by side, as convolutions leave them: from there it takes twice as long.
        planes = logits[None].contiguous()
        upsampled = interpolate(planes, size=size, mode="bilinear", align_corners=False)[0]
        classes: NDArray[Any] = upsampled.max(0).indices.cpu().numpy()  # on a CPU five times faster than argmax over the first axis
        return classes.astype(np.uint8 if len(self.labels) <= 256 else np.int32)


class _ClassMaps(Targets):
    """Class maps, as they are stored, and turned as their pictures are."""

    def __init__(self, files: Files, pictures: Files) -> None:
        self.files, self._pictures = (files,), pictures

    def digests(self, row: int) -> Iterator[bytes]:
        yield self.files[0].digest(row)[0]

    def __getitem__(self, row: int) -> Target:
        return read_mask(self.files[0][row], self.files[0].limits, self._pictures.path(row) or self._pictures[row])


def _map_mapper(order: Sequence[int], ignored: int | None, offset: int) -> Callable[[Any], Any]:
    """Return what turns a stored class map into one of the model's classes, with `UNSCORED` in place of an ignored label that is none."""

    def brought(target: Any) -> Any:
        moved = np.asarray(target).astype(np.int64) - offset
        scored = slice(None) if ignored is None else moved != ignored - offset
        highest, known_as = len(order) - 1, np.asarray(order)
        inside = moved[scored]
        if inside.size and (inside.min() < 0 or inside.max() > highest):
            found, known = f"{inside.min() + offset} to {inside.max() + offset}", f"{offset} to {highest + offset}"
            raise ValueError(f"the mask holds labels {found}, beyond {known}: see the options label_offset and ignored_label")
        if (nameless := inside[known_as[inside] == NO_CLASS]).size:
            raise ValueError(f"the mask holds the label {nameless[0] + offset}, which stands for no class: see the option ignored_label")
        held = (moved >= 0) & (moved <= highest)
        moved[held] = known_as[moved[held]]
        moved[~held] = UNSCORED
        return moved

    return brought


def mask_example(prediction: NDArray[Any], target: NDArray[Any], labels: Sequence[str]) -> list[Part]:
    """Return the class map that the model gave as a picture, the target's borders drawn over it in black, and its legend.

    Both maps are ``[H, W]`` of class indices; an index without a label is named by its number.
    """
    shrink = max(1, math.ceil(max(prediction.shape) / MAX_SIDE))
    found, wanted = prediction[::shrink, ::shrink].astype(np.int64), target[::shrink, ::shrink].astype(np.int64)
    classes, counts = np.unique(found, return_counts=True)
    palette = [bytes.fromhex(class_colour(int(index))[1:]) for index in classes[:255]]
    picture = Picture.fromarray(np.minimum(np.searchsorted(classes, found), 254).astype(np.uint8), "P")
    if wanted.shape == found.shape:
        picture = Picture.fromarray(np.where(_borders(wanted), 255, np.asarray(picture)).astype(np.uint8), "P")
    picture.putpalette(b"".join(palette).ljust(768, b"\0"))
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=6)
    names = [labels[index] if 0 <= index < len(labels) else str(index) for index in classes.tolist()]
    order = np.argsort(-counts, kind="stable")
    legend = {names[place]: class_colour(int(classes[place])) for place in order[:24]}
    return [
        {"label": "predicted classes", "media_type": "image/png", "data": file.getvalue()},
        {"label": "legend", "media_type": "application/json", "data": json.dumps(legend).encode()},
    ]


def _borders(classes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a pixel's class is not that of the pixel to its right or below it."""
    borders = np.zeros(classes.shape, bool)
    borders[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    borders[:-1] |= classes[:-1] != classes[1:]
    return borders
