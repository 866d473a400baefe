"""The four tasks: what each perceives, which columns its data has, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpq_fixtures.metrics import Metric, SignalMetric, signal_metrics
from mpq_fixtures.signals import Audio, Dataset, Modality, Sample


@dataclass(frozen=True)
class Task:
    """A kind of perception.

    ``metric(dataset, **options)`` makes the metric that decides a case, from the data set and the evaluation's options;
    ``model_options`` are those of the model's loader. Both give the defaults of what a suite file may say. ``columns`` are those that a
    suite file names for its data set; ``packages`` decide a prediction besides the model.
    """

    name: str
    modality: Modality
    metric: Callable[..., Metric]
    columns: tuple[str, ...]
    packages: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    model_options: Mapping[str, Any] = field(default_factory=lambda: {"precision": "float32"})

    @property
    def has_labels(self) -> bool:
        """Tell whether its targets index classes."""
        return self.columns[-1] in ("label", "mask")

    def signal_metrics(self, further: tuple[str, ...] = ()) -> list[SignalMetric]:
        """Return the metrics that compare the decoded signal with the original: the automatic ones and those that ``further`` names."""
        return signal_metrics(self.modality, further)


def _top1(dataset: Dataset) -> Metric:
    from mpq_fixtures.metrics.top1 import Top1

    return Top1(len(dataset.labels) or None)


def _miou(dataset: Dataset, ignored_label: int | None, label_offset: int) -> Metric:
    """Score class maps. The mask value ``label_offset`` stands for the first class; ``ignored_label`` is a mask value, too."""
    from mpq_fixtures.metrics.miou import MeanIoU

    for name, value in (("ignored_label", ignored_label), ("label_offset", label_offset)):
        if value is not None and type(value) is not int:
            raise TypeError(f"{name}: {value!r} must be a whole number, a value of the masks")
    return MeanIoU(len(dataset.labels), ignored_label if dataset.ignored is None else dataset.ignored)


def _word_accuracy(dataset: Dataset, normaliser: str) -> Metric:
    from mpq_fixtures.metrics.word_accuracy import WordAccuracy

    return WordAccuracy(normaliser)


def _sdr(dataset: Dataset) -> Metric:
    from mpq_fixtures.metrics.sdr import SDR

    return SDR(next((rate for sample in dataset.samples if (rate := _rate(sample))), None))


def _rate(sample: Sample) -> int | None:
    try:
        signal = sample.signal()
    except Exception:  # which the sample's own failure tells
        return None
    return signal.sample_rate if isinstance(signal, Audio) else None


_MASK_VALUES = {"ignored_label": None, "label_offset": 0}
_TEXTS, _WHISPER = {"normaliser": "none"}, {"precision": "float32", "language": "english"}

TASKS = {
    task.name: task
    for task in (
        Task("image_classification", Modality.IMAGE, _top1, ("image", "label"), ("torch", "transformers", "pillow")),
        Task("image_segmentation", Modality.IMAGE, _miou, ("image", "mask"), ("torch", "transformers", "pillow"), _MASK_VALUES),
        Task("speech_recognition", Modality.AUDIO, _word_accuracy, ("audio", "text"), ("torch", "transformers"), _TEXTS, _WHISPER),
        Task("source_separation", Modality.AUDIO, _sdr, ("mixture", "stems"), ("torch", "demucs")),
    )
}
