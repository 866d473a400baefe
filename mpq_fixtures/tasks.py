"""The four tasks: what each perceives, which columns its data has, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpq_fixtures.datasets import Dataset
from mpq_fixtures.metrics import Metric
from mpq_fixtures.signals import Audio, Modality


@dataclass(frozen=True)
class Task:
    """A kind of perception.

    ``metric(dataset, **options)`` makes the metric that decides a case, from the data set and the evaluation's options;
    ``columns`` are those that a suite file names for its data set; ``packages`` decide a prediction besides the model.
    """

    name: str
    modality: Modality
    metric: Callable[..., Metric]
    columns: tuple[str, ...]
    packages: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    def signal_metrics(self) -> list[Metric]:
        """Return the metrics that compare the decoded signal with the original."""
        if self.modality is Modality.IMAGE:
            from mpq_fixtures.metrics.psnr import ImagePSNR
            from mpq_fixtures.metrics.ssim import SSIM

            return [ImagePSNR(), SSIM()]
        from mpq_fixtures.metrics.psnr import AudioPSNR
        from mpq_fixtures.metrics.si_sdr import SISDR

        return [AudioPSNR(), SISDR()]


def _top1(dataset: Dataset) -> Metric:
    from mpq_fixtures.metrics.top1 import Top1

    return Top1()


def _miou(dataset: Dataset, ignored_label: int | None) -> Metric:
    from mpq_fixtures.metrics.miou import MeanIoU

    return MeanIoU(len(dataset.labels), ignored_label)


def _word_accuracy(dataset: Dataset, normaliser: str) -> Metric:
    from mpq_fixtures.metrics.word_accuracy import WordAccuracy

    return WordAccuracy(normaliser)


def _sdr(dataset: Dataset) -> Metric:
    from mpq_fixtures.metrics.sdr import SDR

    signal = dataset.samples[0].signal()
    assert isinstance(signal, Audio)
    return SDR(signal.sample_rate)


TASKS = {
    task.name: task
    for task in (
        Task("image_classification", Modality.IMAGE, _top1, ("image", "label"), ("torch", "transformers", "pillow")),
        Task("image_segmentation", Modality.IMAGE, _miou, ("image", "mask"), ("torch", "transformers", "pillow"), {"ignored_label": None}),
        Task("speech_recognition", Modality.AUDIO, _word_accuracy, ("audio", "text"), ("torch", "transformers"), {"normaliser": "none"}),
        Task("source_separation", Modality.AUDIO, _sdr, ("mixture", "stems"), ("torch", "demucs")),
    )
}
