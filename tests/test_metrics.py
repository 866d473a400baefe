"""The metrics against independent implementations, hand-counted cases and closed forms."""

from __future__ import annotations

import importlib.util
import json
import math
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import jiwer
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio
from torchmetrics.functional.classification import multiclass_jaccard_index
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from mpq_fixtures.metrics import Metric, SignalMetric, signal_metrics
from mpq_fixtures.metrics.miou import MeanIoU
from mpq_fixtures.metrics.ms_ssim import MSSSIM
from mpq_fixtures.metrics.psnr import AudioPSNR, ImagePSNR
from mpq_fixtures.metrics.sdr import SDR
from mpq_fixtures.metrics.si_sdr import SISDR
from mpq_fixtures.metrics.ssim import SSIM
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.word_accuracy import WordAccuracy
from mpq_fixtures.signals import Audio, Image, Modality

METRICS: list[Metric] = [Top1(), MeanIoU(3), WordAccuracy(), SDR(8000), ImagePSNR(), AudioPSNR(), SSIM(), SISDR()]
NOT_OF_PIXELS = [metric for metric in METRICS if not isinstance(metric, ImagePSNR | SSIM)]


def picture(seed: int, *shape: int) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8))


def noisy(image: Image, amplitude: float, seed: int = 1) -> Image:
    noise = np.random.default_rng(seed).normal(0, amplitude, image.pixels.shape)
    return Image(np.clip(np.rint(image.pixels + noise), 0, 255).astype(np.uint8))


def sound(seed: int, channels: int = 2, frames: int = 8000, scale: float = 0.1) -> Audio:
    return Audio((scale * np.random.default_rng(seed).normal(size=(channels, frames))).astype(np.float32), 8000)


def plus(first: Audio, second: Audio, gain: float = 1.0) -> Audio:
    return Audio(first.waveform + np.float32(gain) * second.waveform, first.sample_rate)


class TestEveryMetric:
    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)
    def test_says_what_it_is(self, metric: Metric) -> None:
        assert metric.name
        assert metric.unit
        assert metric.version >= 1
        assert metric.higher_is_better
        low, high = metric.bounds
        assert low < high < math.inf
        assert 0 < metric.tolerance < 0.1
        assert json.loads(json.dumps(metric.settings)) == metric.settings

    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)
    def test_an_empty_set_has_no_value(self, metric: Metric) -> None:
        assert math.isnan(metric.value([]))

    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)
    def test_condensing_keeps_the_value(self, metric: Metric) -> None:
        statistics = [metric.observe(*pair) for pair in _pairs(metric)]
        assert metric.value([metric.condense(statistic) for statistic in statistics]) == metric.value(statistics)
        assert metric.value(metric.condense_all(statistics)) == metric.value(statistics)

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("metric", NOT_OF_PIXELS, ids=lambda metric: type(metric).__name__)
    def test_a_prediction_that_is_not_finite_spoils_the_value(self, metric: Metric, bad: float) -> None:
        pairs = _pairs(metric)
        assert math.isfinite(metric.value([metric.observe(*pair) for pair in pairs]))
        statistics = [metric.observe(_spoil(pairs[0][0], bad), pairs[0][1])] + [metric.observe(*pair) for pair in pairs[1:]]
        assert math.isnan(metric.value(statistics))

    @pytest.mark.parametrize("metric", METRICS, ids=lambda metric: type(metric).__name__)
    def test_refuses_what_does_not_fit(self, metric: Metric) -> None:
        _, target = _pairs(metric)[0]
        for prediction in (None, np.zeros((3, 5, 7, 2)), {"x": np.zeros((1, 10))}):
            with pytest.raises((ValueError, TypeError)):
                metric.observe(prediction, target)


def _pairs(metric: Metric) -> list[tuple[Any, Any]]:
    """Two predictions and targets that suit the metric."""
    match metric.name:
        case "top1":
            return [(1, 1), (2, 0)]
        case "miou":
            return [(np.eye(4, dtype=int), np.eye(4, dtype=int)), (np.eye(4, dtype=int), np.full((4, 4), 2))]
        case "word_accuracy":
            return [("a b", "a b c"), ("d", "d")]
        case "sdr":
            return [({"x": sound(i).waveform}, {"x": sound(i + 9, frames=8000).waveform}) for i in range(2)]
        case "ssim":
            return [(noisy(picture(i, 32, 40), 9), picture(i, 32, 40)) for i in range(2)]
    if isinstance(metric, ImagePSNR):
        return [(noisy(picture(i, 32, 40), 9), picture(i, 32, 40)) for i in range(2)]
    return [(plus(sound(i), sound(i + 9)), sound(i)) for i in range(2)]


def _spoil(prediction: Any, bad: float) -> Any:
    if isinstance(prediction, Audio):
        waveform = prediction.waveform.copy()
        waveform[0, 17] = bad
        return Audio(waveform, prediction.sample_rate)
    if isinstance(prediction, dict):
        return {name: _spoil(Audio(stem, 1), bad).waveform for name, stem in prediction.items()}
    if isinstance(prediction, np.ndarray):
        spoiled = prediction.astype(float)
        spoiled[0, 0] = bad
        return spoiled
    return bad


class TestTop1:
    def test_counts_hits(self) -> None:
        metric = Top1()
        pairs = [(3, 3), (np.int64(2), 2), (0, 1), (5, np.uint8(5))]
        assert metric.value([metric.observe(*pair) for pair in pairs]) == 0.75

    @pytest.mark.parametrize("prediction", [2, -1, 10**30])
    def test_refuses_a_class_that_there_is_not(self, prediction: int) -> None:
        with pytest.raises(ValueError, match="classes are 0 to 1"):
            Top1(2).observe(prediction, 1)
        assert Top1().observe(prediction, 1) == 0

    @pytest.mark.parametrize("prediction", ["cat", 1.5, [1], None])
    def test_refuses_what_is_no_class(self, prediction: Any) -> None:
        with pytest.raises(ValueError, match="class index"):
            Top1().observe(prediction, 1)


def maps(seed: int, classes: int, count: int = 5) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Class maps that agree on some half of their pixels."""
    generator = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        height, width = generator.integers(1, 40, 2)
        target = generator.integers(0, classes, (height, width))
        prediction = np.where(generator.random(target.shape) < 0.5, target, generator.integers(0, classes, target.shape))
        pairs.append((prediction, target))
    return pairs


def torch_miou(pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]], classes: int, ignored: int | None) -> float:
    prediction = torch.from_numpy(np.concatenate([prediction.ravel() for prediction, _ in pairs]))
    target = torch.from_numpy(np.concatenate([target.ravel() for _, target in pairs]))
    return float(multiclass_jaccard_index(prediction, target, num_classes=classes, ignore_index=ignored))


class TestMeanIoU:
    def test_of_a_hand_counted_case(self) -> None:
        metric = MeanIoU(3)
        statistic = metric.observe(np.array([[0, 0], [1, 1]]), np.array([[0, 1], [1, 1]]))
        assert statistic.tolist() == [[1, 3, 0], [2, 2, 0], [1, 2, 0]]  # in the target, in the prediction, in both
        assert metric.value([statistic]) == pytest.approx((1 / 2 + 2 / 3) / 2)  # class 2 is absent

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("ignored", [None, 0, 3, 255])
    def test_is_torchmetrics(self, seed: int, ignored: int | None) -> None:
        pairs = maps(seed, classes=6)
        if ignored == 255:
            for _, target in pairs:
                target[np.random.default_rng(seed).random(target.shape) < 0.2] = 255
        metric = MeanIoU(9, ignored)  # classes 6 to 8 occur nowhere
        value = metric.value([metric.observe(*pair) for pair in pairs])
        assert value == pytest.approx(torch_miou(pairs, 9, ignored), abs=1e-6)  # torchmetrics counts in single precision
        assert 0.2 < value < 0.8

    def test_a_class_that_is_only_predicted_counts_as_nothing(self) -> None:
        metric = MeanIoU(2)
        assert metric.value([metric.observe(np.array([[0, 1]]), np.array([[0, 0]]))]) == 0.25

    def test_is_not_the_mean_of_the_samples(self) -> None:
        metric = MeanIoU(2)
        zeros = np.zeros((9, 9), int)
        statistics = [metric.observe(zeros[:1, :1], zeros[:1, :1]), metric.observe(zeros, zeros + 1)]
        assert metric.value(statistics) == pytest.approx((1 / 82 + 0) / 2)

    def test_a_set_without_a_scored_pixel_has_no_value(self) -> None:
        metric = MeanIoU(2, ignored=255)
        assert math.isnan(metric.value([metric.observe(np.zeros((2, 2), int), np.full((2, 2), 255))]))

    @pytest.mark.parametrize(
        ("prediction", "target", "says"),
        [
            (np.zeros((2, 3), int), np.zeros((3, 2), int), r"\[2, 3\] with \[3, 2\]"),
            (np.zeros(4, int), np.zeros(4, int), "class maps"),
            (np.full((2, 2), 3), np.zeros((2, 2), int), "prediction has labels from 3 to 3"),
            (np.zeros((2, 2), int), np.full((2, 2), 255), "target has labels"),
            (np.full((2, 2), 0.5), np.zeros((2, 2), int), "whole numbers"),
        ],
    )
    def test_refuses_maps_that_do_not_fit(self, prediction: Any, target: Any, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            MeanIoU(3).observe(prediction, target)


SENTENCES = [
    "The colour of the theatre's centre isn't grey, Mr. Smith!",
    "the color of the theater is center is not gray mister smith",
    "I've got twenty-three dollars and fifty cents [laughs]",
    "In nineteen ninety nine, on the 1st of May, 2,000,000 people (inaudible) um",
    "Won't they've gone at 10:30 a.m.?",
    "$3.50 and 20% of \u00a35, one hundred and one point five",
    "Caf\u00e9 na\u00efve fa\u00e7ade",
    "double oh seven, minus five degrees",
]


class TestPackages:
    def test_are_those_that_align_words_and_even_them_out(self) -> None:
        assert set(WordAccuracy().packages) == {"jiwer"}
        assert set(WordAccuracy("whisper_basic").packages) == {"jiwer", "whisper-normalizer"}

    @pytest.mark.parametrize(
        ("modality", "name", "packages"),
        [
            (Modality.IMAGE, "lpips", {"torch"}),
            (Modality.IMAGE, "dists", {"torch", "pillow"}),
            (Modality.AUDIO, "pesq", {"pesq"}),
            (Modality.AUDIO, "stoi", {"pystoi"}),
            (Modality.AUDIO, "visqol", {"visqol-python", "ai-edge-litert"}),
            (Modality.AUDIO, "cdpam", {"cdpam", "torch"}),
        ],
    )
    def test_are_no_options(self, modality: Modality, name: str, packages: set[str]) -> None:
        (metric,) = (one for one in signal_metrics(modality, [name]) if one.name == name)
        installed = {distribution.name.lower().replace("_", "-"): distribution.version for distribution in distributions()}
        assert metric.packages == {package: installed[package] for package in packages if package in installed}
        assert not set(metric.packages) & set(metric.settings)
        assert json.loads(json.dumps(metric.settings)) == metric.settings

    def test_are_none_where_the_project_computes_itself(self) -> None:
        assert Top1().packages == MeanIoU(3).packages == SDR(1).packages == {}


class TestWordAccuracy:
    @pytest.mark.parametrize(
        ("prediction", "target", "statistic"),
        [
            ("the cat sat", "the cat sat", [0, 3]),
            ("the dog sat", "the cat sat", [1, 3]),
            ("the sat", "the cat sat", [1, 3]),
            ("so the cat sat down", "the cat sat", [2, 3]),
            ("", "the cat sat", [3, 3]),
            ("um er", "", [2, 0]),
            ("", " ", [0, 0]),
            (" the\tcat\n sat ", "the cat  sat", [0, 3]),
            ("The cat, sat", "the cat sat", [2, 3]),
        ],
    )
    def test_counts_edits_and_words(self, prediction: str, target: str, statistic: list[int]) -> None:
        assert WordAccuracy().observe(prediction, target).tolist() == statistic

    def test_is_one_minus_jiwers_rate_over_the_set(self) -> None:
        generator = np.random.default_rng(0)
        words = ["one", "two", "three", "four", "five", "six", "seven"]
        texts = [[" ".join(generator.choice(words, generator.integers(1, 12))) for _ in range(30)] for _ in range(2)]
        metric = WordAccuracy()
        value = metric.value([metric.observe(*pair) for pair in zip(*texts, strict=True)])
        assert value == pytest.approx(1 - jiwer.wer(reference=texts[1], hypothesis=texts[0]), abs=1e-12)

    def test_falls_below_zero(self) -> None:
        metric = WordAccuracy()
        assert metric.value([metric.observe("a b c d", "x")]) == -3

    def test_without_a_reference_word_there_is_no_value(self) -> None:
        metric = WordAccuracy()
        assert math.isnan(metric.value([metric.observe("a", "")]))

    def test_the_whisper_normaliser_is_named_and_used(self) -> None:
        plain, whisper = WordAccuracy(), WordAccuracy("whisper_english")
        spoken, written = "mister smith can not pay twenty one dollars", "Mr. Smith can't, um, pay $21!"
        assert plain.value([plain.observe(spoken, written)]) < 0.5
        assert whisper.value([whisper.observe(spoken, written)]) == 1
        assert plain.settings == {"normaliser": "none"}
        assert whisper.settings == {"normaliser": "whisper_english"}

    def test_the_english_normaliser_is_that_of_transformers(self) -> None:
        table = json.loads((resources.files("whisper_normalizer") / "normalizers" / "english.json").read_text())
        reference, metric = EnglishTextNormalizer(table), WordAccuracy("whisper_english")
        for prediction in SENTENCES:
            for target in SENTENCES:
                aligned = jiwer.process_words(reference(target), reference(prediction))
                edits = aligned.substitutions + aligned.deletions + aligned.insertions
                assert metric.observe(prediction, target).tolist() == [edits, len(reference(target).split())]

    def test_the_basic_normaliser_leaves_other_languages_their_letters(self) -> None:
        metric = WordAccuracy("whisper_basic")
        assert metric.observe("gr\u00fc\u00dfe herr m\u00fcller", "Gr\u00fc\u00dfe, Herr M\u00fcller! (lacht)").tolist() == [0, 3]
        assert metric.observe("gruse herr muller", "Gr\u00fc\u00dfe, Herr M\u00fcller!").tolist() == [2, 3]

    def test_refuses_a_normaliser_it_does_not_know(self) -> None:
        with pytest.raises(ValueError, match="whisper_english"):
            WordAccuracy("whisper")


@pytest.fixture(scope="module")
def museval() -> ModuleType:
    """museval's own metrics; its package refuses to be imported where there is no ffmpeg, which they do not need."""
    package = importlib.util.find_spec("museval")
    assert package is not None
    assert package.origin is not None
    spec = importlib.util.spec_from_file_location("museval_metrics", Path(package.origin).parent / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stack(stems: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Stems as museval takes them: ``[stems, frames, channels]``, by name."""
    return np.stack([stems[name].T.astype(np.float64) for name in sorted(stems)])


def music(seed: int, channels: int, seconds: float, rate: int = 8000) -> dict[str, NDArray[np.float32]]:
    """A decaying beat, a chord and a voice-like glide, panned."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    beat = generator.normal(size=len(time)) * np.exp(-12 * (time % 0.4))
    chord = sum(np.sin(2 * np.pi * pitch * time + generator.random()) for pitch in (220, 277.2, 329.6)) * (0.6 + 0.4 * np.cos(3 * time))
    voice = np.sin(2 * np.pi * (400 * time + 30 * np.sin(2 * time))) * (np.sin(1.3 * time) > -0.5)
    pan = generator.uniform(0.3, 1, (3, channels, 1))
    parts = zip(("drums", "other", "vocals"), pan, (beat, chord, voice), strict=True)
    return {name: (0.2 * gain * part).astype(np.float32) for name, gain, part in parts}


def separated(stems: dict[str, NDArray[np.float32]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Estimates with leakage, noise and a little delay."""
    generator = np.random.default_rng(seed)
    total = np.sum(list(stems.values()), axis=0)
    return {
        name: (0.9 * np.roll(stem, number, axis=1) + 0.05 * total + 0.01 * generator.normal(size=stem.shape)).astype(np.float32)
        for number, (name, stem) in enumerate(stems.items())
    }


class TestSDR:
    @pytest.mark.parametrize(("channels", "stems"), [(1, ("drums", "other", "vocals")), (2, ("drums", "vocals"))])
    @pytest.mark.parametrize(("seconds", "window", "hop"), [(3.6, 1.0, 1.0), (2.9, 1.0, 0.5), (0.7, 1.0, 1.0)])
    def test_is_musevals_v4(
        self, museval: ModuleType, channels: int, stems: tuple[str, ...], seconds: float, window: float, hop: float
    ) -> None:
        target = {name: stem for name, stem in music(1, channels, seconds).items() if name in stems}
        if seconds > 3:
            target["drums"][:, 8000:16000] = 0  # a silent frame
        estimate = separated(target, 2)
        expected = museval.bss_eval(stack(target), stack(estimate), window=round(window * 8000), hop=round(hop * 8000))[0]
        statistic = SDR(8000, window, hop).observe(estimate, target)
        np.testing.assert_allclose(statistic, expected, rtol=0, atol=1e-9)
        assert statistic.shape == (len(stems), 3 if seconds > 3 else 4 if seconds > 2 else 1)
        assert np.isnan(statistic[:, 1]).all() if seconds > 3 else np.isfinite(statistic).all()

    def test_is_musevals_v4_on_noise(self, museval: ModuleType) -> None:
        generator = np.random.default_rng(3)
        target = {name: generator.normal(size=(2, 6000)) for name in "ab"}
        estimate = {name: generator.normal(size=(2, 6000)) for name in "ab"}
        expected = museval.bss_eval(stack(target), stack(estimate), window=2000, hop=2000)[0]
        np.testing.assert_allclose(SDR(2000).observe(estimate, target), expected, rtol=0, atol=1e-9)

    def test_of_a_gain_is_known(self) -> None:
        target = music(0, 2, 2.0)
        statistic = SDR(8000).observe({name: 0.9 * stem for name, stem in target.items()}, target)
        np.testing.assert_allclose(statistic, np.full((3, 2), 20.0), atol=1e-4)

    def test_value_is_the_median_of_frames_then_of_tracks_then_the_mean_of_stems(self) -> None:
        nan = math.nan
        tracks = [np.array([[1.0, 2, 9], [nan, 4, 6]]), np.array([[3.0, 5], [nan, nan]]), np.array([[8.0], [7.0]])]
        assert SDR(1).value(tracks) == pytest.approx((4 + 6) / 2)  # medians 2, 4, 8 and 5, -, 7

    def test_medians_are_numpys(self) -> None:
        generator = np.random.default_rng(0)
        for frames in range(1, 9):
            statistic = generator.normal(size=(40, frames))
            statistic[generator.random(statistic.shape) < 0.3] = np.nan
            rows = ~np.isnan(statistic).all(axis=1)
            assert rows.any()
            np.testing.assert_allclose(SDR(1).condense(statistic)[rows, 0], np.nanmedian(statistic[rows], axis=1), rtol=1e-15)

    def test_many_tracks_at_once_are_those_of_one_after_the_other(self) -> None:
        generator, metric = np.random.default_rng(1), SDR(1)
        tracks = [generator.normal(6, 3, (4, frames)) for frames in generator.integers(1, 400, 300)]
        for number, track in enumerate(tracks):
            track[:, generator.random(track.shape[1]) < 0.2] = np.nan
            track[number % 4] = np.nan if number % 5 == 0 else track[number % 4]
        tracks[3], tracks[7] = np.full((4, 9), np.nan), np.full((4, 5), -np.inf)
        condensed = metric.condense_all(tracks)
        np.testing.assert_array_equal(condensed, [metric.condense(track) for track in tracks])
        np.testing.assert_array_equal(metric.values_alone(condensed), [metric.value([track]) for track in tracks])
        counts = generator.integers(0, 3, (20, 300)) * (np.arange(300) != 7)
        counts[0], counts[1, 7] = 0, 1
        expected = [metric.value(np.repeat(condensed, row, axis=0)) for row in counts]
        np.testing.assert_array_equal(metric.values_of_counts(condensed, counts), expected)
        assert np.isnan(expected).tolist() == [True, True] + 18 * [False]

    def test_a_silent_estimate_has_zero_decibels(self) -> None:
        target = music(0, 1, 2.0)
        assert np.all(SDR(8000).observe({name: 0 * stem for name, stem in target.items()}, target) == 0)

    def test_a_perfect_estimate_has_the_upper_bound(self) -> None:
        target = music(0, 1, 2.0)
        assert np.all(SDR(8000).observe(target, target) == SDR.bounds[1])

    def test_a_stem_that_never_sounds_has_no_value(self) -> None:
        target = music(0, 1, 2.0)
        target["vocals"][:] = 0
        assert math.isnan(SDR(8000).value([SDR(8000).observe(separated(music(0, 1, 2.0), 1), target)]))

    def test_the_floor_is_the_mixture_as_every_stem(self) -> None:
        target = music(0, 2, 3.0)
        mixture = np.sum(list(target.values()), axis=0)
        statistic = SDR().floor(Audio(mixture, 8000), target)
        np.testing.assert_array_equal(statistic, SDR(8000).observe(dict.fromkeys(target, mixture), target))
        assert SDR(8000).value([statistic]) < SDR(8000).value([SDR(8000).observe(separated(target, 1), target)])

    def test_the_rate_may_come_with_the_target(self) -> None:
        target = music(0, 2, 3.0)
        estimate = separated(target, 1)
        known = {name: Audio(stem, 8000) for name, stem in target.items()}
        np.testing.assert_array_equal(SDR().observe(estimate, known), SDR(8000).observe(estimate, target))
        with pytest.raises(ValueError, match="sample rate"):
            SDR().observe(estimate, target)

    def test_named_stems_are_taken_in_their_order(self) -> None:
        target = music(0, 2, 2.0)
        estimate = separated(target, 1)
        everything = SDR(8000).observe(estimate, target)
        np.testing.assert_array_equal(SDR(8000, stems=["vocals", "drums"]).observe(estimate, target), everything[[2, 0]])

    def test_refuses_stems_that_do_not_fit(self) -> None:
        target = music(0, 2, 1.0)
        with pytest.raises(ValueError, match="prediction has drums, other, the target drums, other, vocals"):
            SDR(8000).observe({name: target[name] for name in ("drums", "other")}, target)
        with pytest.raises(ValueError, match="one shape"):
            SDR(8000).observe({name: stem[:, :-1] for name, stem in target.items()}, target)
        with pytest.raises(ValueError, match="one shape"):
            SDR(8000).observe({name: stem[0] for name, stem in target.items()}, {name: stem[0] for name, stem in target.items()})


class TestLargeSignals:
    """Many blocks of them, whose ends do not fall on the signal's."""

    def test_sounds_are_measured_as_a_whole(self) -> None:
        original = sound(0, channels=3, frames=100_001)
        decoded = plus(original, sound(1, channels=3, frames=100_001), 0.01)
        x, s = (one.waveform.astype(np.float64).ravel() for one in (decoded, original))
        expected = scale_invariant_signal_distortion_ratio(torch.from_numpy(x), torch.from_numpy(s))
        assert SISDR().observe(decoded, original)[0] == pytest.approx(float(expected), rel=1e-9)
        exact = math.fsum(error * error for error in (x - s).tolist()) / x.size
        assert AudioPSNR().observe(decoded, original) == pytest.approx(-10 * math.log10(exact), rel=1e-9)

    def test_the_error_of_pictures_is_exact_at_its_greatest(self) -> None:
        black, white = (Image(np.full((301, 401, 3), level, np.uint8)) for level in (0, 255))
        assert ImagePSNR().observe(black, white) == ImagePSNR().observe(white, black) == 0
        black.pixels[150, 200] = 255
        assert ImagePSNR().observe(black, white) == pytest.approx(-10 * math.log10(1 - 1 / (301 * 401)), rel=1e-9)

    @pytest.mark.parametrize("metric", [ImagePSNR(), SSIM(), MSSSIM()], ids=lambda metric: metric.name)
    def test_pictures_are_not_held_again(self, metric: Metric) -> None:
        original = picture(0, 1500, 2000)
        assert peak(metric.observe, noisy(original, 9), original) < 4 / 3 * original.pixels.nbytes  # one luma

    @pytest.mark.parametrize("metric", [AudioPSNR(), SISDR(), SDR(8000)], ids=lambda metric: metric.name)
    def test_sounds_are_not_held_again(self, metric: Metric) -> None:
        original = sound(0, frames=2_000_000)
        decoded = plus(original, sound(1, frames=2_000_000), 0.1)
        pair: Any = (decoded, original) if isinstance(metric, SignalMetric) else ({"a": decoded.waveform}, {"a": original})
        assert peak(metric.observe, *pair) < 0.5 * original.waveform.nbytes


def peak(call: Any, *arguments: Any) -> int:
    """The most bytes that a call ever holds of its own."""
    tracemalloc.start()
    try:
        call(*arguments)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestPSNR:
    @pytest.mark.parametrize("amplitude", [1, 10, 100])
    def test_of_pictures_is_torchmetrics(self, amplitude: float) -> None:
        original = picture(0, 37, 53)
        decoded = noisy(original, amplitude)
        pixels = [torch.tensor(image.pixels, dtype=torch.float64) for image in (decoded, original)]
        expected = float(peak_signal_noise_ratio(*pixels, data_range=255.0))
        assert ImagePSNR().observe(decoded, original) == pytest.approx(expected, abs=1e-4)

    def test_of_sounds_is_the_closed_form(self) -> None:
        original = sound(0)
        offset = Audio(original.waveform + np.float32(0.01), 8000)
        assert AudioPSNR().observe(offset, original) == pytest.approx(40, abs=1e-4)

    def test_of_black_for_white_is_zero(self) -> None:
        black, white = (Image(np.full((4, 5, 3), level, np.uint8)) for level in (0, 255))
        assert ImagePSNR().observe(black, white) == 0

    def test_of_identical_signals_is_the_upper_bound(self) -> None:
        assert ImagePSNR().value([ImagePSNR().observe(picture(0, 8, 8), picture(0, 8, 8))]) == 100
        assert AudioPSNR().value([AudioPSNR().observe(sound(0), sound(0))]) == 100

    def test_of_silence_is_finite(self) -> None:
        silence = Audio(np.zeros((1, 800), np.float32), 8000)
        assert AudioPSNR().observe(Audio(silence.waveform + np.float32(0.1), 8000), silence) == pytest.approx(20, abs=1e-4)

    def test_is_averaged_over_samples(self) -> None:
        assert ImagePSNR().value([np.array(20.0), np.array(30.0)]) == 25

    def test_refuses_other_shapes_and_kinds(self) -> None:
        with pytest.raises(ValueError, match="one shape"):
            ImagePSNR().observe(picture(0, 8, 9), picture(0, 9, 8))
        with pytest.raises(ValueError, match="one shape"):
            AudioPSNR().observe(sound(0, frames=10), sound(0, frames=11))
        with pytest.raises(ValueError, match="two pictures"):
            ImagePSNR().observe(sound(0), sound(0))
        with pytest.raises(ValueError, match="two sounds"):
            AudioPSNR().observe(picture(0, 8, 8), picture(0, 8, 8))


class TestSSIM:
    @pytest.mark.parametrize("amplitude", [2, 20, 80])
    @pytest.mark.parametrize("shape", [(64, 80), (224, 224), (23, 31), (11, 530), (211, 1099)])  # the last of many tiles
    def test_is_torchmetrics_on_luma(self, amplitude: float, shape: tuple[int, int]) -> None:
        original = picture(0, *shape)
        decoded = noisy(original, amplitude)
        planes = [torch.tensor(image.pixels @ np.array([0.299, 0.587, 0.114]))[None, None] for image in (decoded, original)]
        _, windows = structural_similarity_index_measure(*planes, data_range=255.0, return_full_image=True)
        expected = float(windows[..., 5:-5, 5:-5].mean())  # torchmetrics averages windows that lap over the edge too
        assert SSIM().observe(decoded, original) == pytest.approx(expected, abs=1e-6)

    def test_is_the_same_in_many_threads_and_for_parts_of_larger_pictures(self) -> None:
        originals = [picture(seed, 120 + 7 * seed, 90) for seed in range(8)]
        pairs = [(noisy(original, 20), original) for original in originals]
        alone = [float(SSIM().observe(*pair)) for pair in pairs]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda pair: float(SSIM().observe(*pair)), pairs * 4)) == alone * 4
        parts = [tuple(Image(np.pad(one.pixels, ((3, 5), (2, 9), (0, 0)))[3:-5, 2:-9]) for one in pair) for pair in pairs]
        assert [float(SSIM().observe(*pair)) for pair in parts] == alone

    def test_of_identical_pictures_is_one(self) -> None:
        assert SSIM().observe(picture(0, 40, 40), picture(0, 40, 40)) == pytest.approx(1, abs=1e-7)

    def test_of_flat_pictures_is_the_luminance_term(self) -> None:
        dark, light = (Image(np.full((20, 20, 3), level, np.uint8)) for level in (50, 100))
        constant = (0.01 * 255) ** 2
        assert SSIM().observe(dark, light) == pytest.approx((2 * 50 * 100 + constant) / (50**2 + 100**2 + constant), abs=1e-4)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 40), (10, 11), (11, 11), (40, 3)])
    def test_takes_pictures_smaller_than_its_window(self, shape: tuple[int, int]) -> None:
        original = picture(0, *shape)
        assert SSIM().observe(original, original) == pytest.approx(1, abs=1e-6)
        assert SSIM().observe(noisy(original, 60), original) < 1

    def test_refuses_other_shapes(self) -> None:
        with pytest.raises(ValueError, match="one shape"):
            SSIM().observe(picture(0, 20, 30), picture(0, 30, 20))


class TestSISDR:
    @pytest.mark.parametrize("gain", [0.01, 0.3, 3.0])
    def test_is_torchmetrics(self, gain: float) -> None:
        original = sound(0, channels=1)
        decoded = plus(original, sound(1, channels=1), gain)
        waveforms = [torch.tensor(audio.waveform[0], dtype=torch.float64) for audio in (decoded, original)]
        expected = float(scale_invariant_signal_distortion_ratio(*waveforms))
        assert SISDR().observe(decoded, original)[0] == pytest.approx(expected, abs=1e-9)

    def test_takes_all_channels_as_one_vector(self) -> None:
        original = sound(0)
        decoded = plus(original, sound(1), 0.2)
        waveforms = [torch.tensor(audio.waveform.ravel(), dtype=torch.float64) for audio in (decoded, original)]
        expected = float(scale_invariant_signal_distortion_ratio(*waveforms))
        assert SISDR().observe(decoded, original)[0] == pytest.approx(expected, abs=1e-9)

    def test_a_gain_changes_nothing(self) -> None:
        original = sound(0)
        decoded = plus(original, sound(1), 0.2)
        louder = Audio(decoded.waveform * np.float32(4), 8000)
        assert SISDR().observe(louder, original)[0] == pytest.approx(SISDR().observe(decoded, original)[0], abs=1e-9)

    def test_stays_finite(self) -> None:
        original, silence = sound(0), Audio(np.zeros((2, 8000), np.float32), 8000)
        assert SISDR().observe(original, original)[0] == 100
        assert SISDR().observe(silence, original)[0] == -100

    def test_a_silent_original_is_left_out(self) -> None:
        silence = Audio(np.zeros((2, 8000), np.float32), 8000)
        statistics = [SISDR().observe(sound(1), silence), SISDR().observe(plus(sound(0), sound(1), 0.2), sound(0))]
        assert SISDR().value(statistics) == pytest.approx(statistics[1][0])
        assert math.isnan(SISDR().value(statistics[:1]))

    def test_refuses_other_shapes(self) -> None:
        with pytest.raises(ValueError, match="one shape"):
            SISDR().observe(sound(0, channels=1), sound(0, channels=2))
