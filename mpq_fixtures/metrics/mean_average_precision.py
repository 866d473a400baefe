"""Mean average precision of object detection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from mpq_fixtures.errors import describe_type
from mpq_fixtures.metrics import Chance, Countable, Statistic, versions

_LEVELS = 10
_EVERY = 2**_LEVELS - 1
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 100
_CLASS, _OBJECTS, _SCORE, _HITS, _MISSES = range(5)
_DRAWN = 2**21  # detections of one class in some sets that are counted at once


class MeanAveragePrecision(Countable):
    """COCO's AP: the precision at 101 recalls, averaged over these, overlaps and classes (Lin et al. 2014, arXiv 1405.0312).

    Boxes of each picture and class are matched by pycocotools: the detections, from the highest score on, at most 100, each to the object
    of the greatest intersection over union that is still free. A detection of a crowd counts neither way. Over a set the detections of
    a class are put in the order of their scores, equal ones in that of the samples, and precision is the greatest at that recall or a
    higher one. Classes of which the set holds no object are left out of the mean; NaN where it holds none at all. ``iou`` says which
    overlaps count: ``50:95``, from .5 to .95 in steps of .05, or ``50`` or ``75`` alone.

    Statistic: ``[rows, 5]``, a row for the objects of each class and one for each detection: class, objects that are no crowd, score,
    and as bits of two whole numbers, the lowest for .5, at which of the ten overlaps the detection is right and at which it is wrong.
    Rows of zeros count for nothing.

    The tolerance is a hundredth: scores that are nearly equal change places, and boxes whose overlap is nearly .95 fall on either side.
    """

    name = "map"
    unit = "AP"
    bounds = (0.0, 1.0)
    one_shape = False
    tolerance = 0.01

    overlaps: ClassVar[Mapping[str, tuple[int, ...]]] = {"50:95": tuple(range(_LEVELS)), "50": (0,), "75": (5,)}

    def __init__(self, classes: int | None = None, iou: str = "50:95") -> None:
        """Take the number of classes, which are ``0..classes - 1`` (None: any), and the overlaps that count."""
        if iou not in self.overlaps:
            raise ValueError(f"unknown iou {iou!r}: use one of {', '.join(self.overlaps)}")
        self.classes, self.iou = classes, iou

    @classmethod
    def restored(cls, settings: Mapping[str, Any] | None) -> MeanAveragePrecision | None:
        """Return the metric with the same overlaps; None where these are not known."""
        return None if settings is None else cls(iou=settings["iou"])

    @property
    def settings(self) -> dict[str, Any]:
        """Name the overlaps."""
        return {"iou": self.iou}

    @property
    def packages(self) -> dict[str, str]:
        """Name what matches the boxes."""
        return versions("pycocotools")

    def observe(self, prediction: Any, target: Any) -> Statistic:
        """Match ``{"boxes": [n, 4], "scores": [n], "labels": [n]}`` to ``{"boxes": [m, 4], "labels": [m], "crowd": bool [m]}``.

        Boxes are x0, y0, x1, y1, ``crowd`` may be missing. A prediction with NaN or infinity anywhere gives NaN.
        """
        found, wanted = Boxes(prediction, "prediction", ("boxes", "scores", "labels")), Boxes(target, "target", ("boxes", "labels"))
        crowd = np.asarray(target.get("crowd", np.zeros(len(wanted.boxes))), bool)
        scores = np.asarray(prediction["scores"], np.float64)
        if crowd.shape != wanted.labels.shape:
            raise ValueError(f"the target has {len(wanted.labels)} boxes, and says of {crowd.size} whether they are crowds")
        if not (np.isfinite(found.boxes).all() and np.isfinite(scores).all()):
            return np.full((1, 5), np.nan)
        for boxes in (found, wanted):
            boxes.check(self.classes, may_be_flat=boxes is found)
        return self._match(found, scores, wanted, crowd)

    def _match(self, found: Boxes, scores: NDArray[np.float64], wanted: Boxes, crowd: NDArray[np.bool_]) -> Statistic:
        from pycocotools.cocoeval import COCOeval

        evaluator = COCOeval(iouType="bbox")  # of one picture, 0: its classes are given one by one, without the tables of a whole set
        evaluator.params.maxDets, everything = [_MOST], evaluator.params.areaRng[0]
        rows: list[NDArray[np.float64]] = []
        for label in np.union1d(found.labels, wanted.labels).tolist():
            own, sought = found.of(label), wanted.of(label)
            evaluator._gts[0, label] = [{**box, "iscrowd": int(crowd[box["place"]]), "ignore": crowd[box["place"]]} for box in sought]
            evaluator._dts[0, label] = [{**box, "score": float(scores[box["place"]])} for box in own]
            evaluator.ious[0, label] = evaluator.computeIoU(0, label)
            matched = evaluator.evaluateImg(0, label, everything, _MOST)
            left_out, hit = np.asarray(matched["dtIgnore"], bool), np.asarray(matched["dtMatches"]) > 0
            objects, count = np.count_nonzero(np.asarray(matched["gtIgnore"]) == 0), left_out.shape[1]
            rows.append(np.array([[label, objects, 0, 0, 0]] if objects else [], np.float64).reshape(-1, 5))
            details = [matched["dtScores"], _bits(hit & ~left_out), _bits(~hit & ~left_out)]
            rows.append(np.stack([np.full(count, float(label)), np.zeros(count), *map(np.asarray, details)], axis=1))
        return np.concatenate([part for part in rows if len(part)] or [np.zeros((1, 5))])

    def chance(self, statistics: Sequence[Statistic], targets: Sequence[str]) -> Chance:
        """Return 0: nothing is found."""
        return Chance(0.0, "no box at all")

    def condense_all(self, statistics: Sequence[Statistic]) -> Sequence[Statistic]:
        """Return all in one array ``[samples, rows, 5]``, with rows of zeros where others have more."""
        if isinstance(statistics, np.ndarray) or not len(statistics):
            return statistics
        found = np.zeros((len(statistics), max(map(len, statistics)), 5))
        for own, statistic in zip(found, statistics, strict=True):
            own[: len(statistic)] = statistic
        return cast("Sequence[Statistic]", found)

    def value(self, statistics: Sequence[Statistic]) -> float:
        """Return the AP over a set; NaN when it holds no object, or after a prediction that was not finite."""
        if not len(statistics):
            return float("nan")
        return float(_Set(statistics).values(np.ones((1, len(statistics)), np.int64), self.overlaps[self.iou])[0])

    def values_of_counts(self, statistics: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the AP over each set: scores are put in order once, and a sample that is there twice counts twice."""
        return _Set(statistics).values(counts, self.overlaps[self.iou])

    def values_alone(self, statistics: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the AP over each sample."""
        return np.array([self.value([statistic]) for statistic in statistics])


class Boxes:
    """Boxes and labels of a prediction or a target, checked; ``boxes`` are ``float64 [n, 4]``, ``labels`` ``int64 [n]``.

    Raises `ValueError` for arrays that do not fit together.
    """

    def __init__(self, content: Any, what: str, keys: Sequence[str]) -> None:
        if not isinstance(content, Mapping) or not set(keys) <= set(content):
            lists = ", ".join(f'"{key}"' for key in keys)
            raise ValueError(f"the {what} must be a dictionary with {lists}, not {describe_type(content)}")
        arrays = {key: np.asarray(content[key]) for key in keys}
        boxes, labels = arrays["boxes"], arrays["labels"]
        fit = boxes.shape == (labels.size, 4) or (not boxes.size and not labels.size)
        if labels.ndim != 1 or not fit or any(arrays[key].shape != labels.shape for key in keys[1:]):
            shapes = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items())
            raise ValueError(f"the {what} must have boxes [n, 4] and one entry for each box in the others, not {shapes}")
        self.what, self.boxes = what, boxes.astype(np.float64).reshape(-1, 4)
        self.labels = labels.astype(np.int64)
        if not np.array_equal(self.labels, labels):
            raise ValueError(f"labels are class indices; the {what} holds some that are not whole numbers")

    def check(self, classes: int | None, may_be_flat: bool) -> None:
        """Raise `ValueError` for a label of no class, and for a box of less than no area, or of none."""
        if len(self.labels) and (self.labels.min() < 0 or (classes is not None and self.labels.max() >= classes)):
            known = "from 0 on" if classes is None else f"0 to {classes - 1}"
            raise ValueError(f"the {self.what} has labels from {self.labels.min()} to {self.labels.max()}, and the classes are {known}")
        sides = self.boxes[:, 2:] - self.boxes[:, :2]
        if len(bad := np.flatnonzero(((sides < 0) if may_be_flat else ~(sides > 0)).any(axis=1))):
            box = [round(side, 2) for side in self.boxes[bad[0]].tolist()]
            raise ValueError(f"box {bad[0]} of the {self.what}, {box}, has no area: boxes are x0, y0, x1, y1 in pixels")

    def of(self, label: int) -> list[dict[str, Any]]:
        """Return the boxes of a class as pycocotools takes them, each with its place; ids begin with 1, since 0 stands for no match."""
        found = []
        for place in np.flatnonzero(self.labels == label).tolist():
            x, y, right, bottom = self.boxes[place].tolist()
            side = [x, y, right - x, bottom - y]
            found.append({"id": place + 1, "place": place, "bbox": side, "area": side[2] * side[3]})
        return found


class _Set:
    """The statistics of some samples, class by class, with the detections of each in the order of their scores."""

    def __init__(self, statistics: Sequence[Statistic] | NDArray[np.float64]) -> None:
        rows = np.concatenate([*statistics])
        samples = np.repeat(np.arange(len(statistics)), [len(statistic) for statistic in statistics])
        self.spoiled = np.unique(samples[np.isnan(rows).any(axis=1)])
        is_object, is_detection = rows[:, _OBJECTS] > 0, (rows[:, _HITS] > 0) | (rows[:, _MISSES] > 0)
        self.objects = {label: (samples[own], rows[own, _OBJECTS]) for label, own in _by_class(rows, np.flatnonzero(is_object))}
        detections = np.flatnonzero(is_detection)
        ordered = detections[np.argsort(-rows[detections, _SCORE], kind="stable")]
        bits = np.nan_to_num(rows[:, [_HITS, _MISSES]]).astype(np.int64)
        self.detections = {
            label: (samples[own], bits[own, 0], bits[own, 1]) for label, own in _by_class(rows, ordered) if label in self.objects
        }

    def values(self, counts: NDArray[np.int64], overlaps: Sequence[int]) -> NDArray[np.float64]:
        """Return the AP over sets, ``[sets]``, which hold each sample ``counts`` times, ``[sets, samples]``."""
        total, classes = np.zeros(len(counts)), np.zeros(len(counts))
        for label, (samples, objects) in self.objects.items():
            there = counts[:, samples] @ objects
            some = np.flatnonzero(there > 0)
            classes[some] += 1
            if label in self.detections:
                step = max(1, _DRAWN // len(self.detections[label][0]))
                for part in (some[start : start + step] for start in range(0, len(some), step)):
                    total[part] += _precision(counts[part], there[part, None], *self.detections[label], overlaps)
        values: NDArray[np.float64] = np.divide(total, classes, out=np.full(len(counts), np.nan), where=classes > 0)
        values[counts[:, self.spoiled].any(axis=1)] = np.nan
        return values


def _by_class(rows: NDArray[np.float64], chosen: NDArray[np.intp]) -> list[tuple[float, NDArray[np.intp]]]:
    """Return each class with those of the chosen rows that are of it, in their order."""
    labels = rows[chosen, _CLASS]
    order = np.argsort(labels, kind="stable")
    known, starts = np.unique(labels[order], return_index=True)
    return list(zip(known.tolist(), np.split(chosen[order], starts[1:]), strict=True)) if len(known) else []


def _precision(
    counts: NDArray[np.int64],
    there: NDArray[np.float64],
    samples: NDArray[np.intp],
    hits: NDArray[np.int64],
    misses: NDArray[np.int64],
    overlaps: Sequence[int],
) -> NDArray[np.float64]:
    """Return the precision of one class over each set, the mean over recalls and overlaps.

    Detections are in the order of their scores: their ``samples``, and the bits of their ``hits`` and ``misses``. ``there`` are the objects
    in each set, ``[sets, 1]``. Precision rises at hits alone, so that only where there is one at some overlap it has to be known; most
    detections are wrong at every overlap, and are counted once for all.
    """
    plain = (hits == 0) & (misses == _EVERY)
    before = np.cumsum(plain)[~plain]  # how many of them come before each of the others
    wrong = np.cumsum(counts[:, samples[plain]], axis=1)
    wrong = np.concatenate([np.zeros((len(counts), 1), np.int64), wrong], axis=1)[:, before]
    drawn, hits, misses = counts[:, samples[~plain]], hits[~plain], misses[~plain]
    total = np.zeros(len(counts))
    for overlap in overlaps:
        right = np.cumsum(drawn * (hits >> overlap & 1), axis=1)
        answered = right + wrong + np.cumsum(drawn * (misses >> overlap & 1), axis=1)
        best = np.maximum.accumulate((right / np.maximum(answered, 1))[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(_RECALLS, right / there, side="right")  # recalls, of all 101, that are reached up to each detection
        total += (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1)
    return total / (len(_RECALLS) * len(overlaps))


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return flags ``[overlaps, detections]`` as the bits of one number for each detection."""
    return np.asarray((2.0 ** np.arange(len(flags))) @ flags)
