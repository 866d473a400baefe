"""The similarity metrics against the libraries behind them, against closed forms, and at what cannot be measured."""

from __future__ import annotations

import hashlib
import importlib
import math
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from trial_signals import music, photo, speech

import mpq_fixtures.metrics as metrics
from mpq_fixtures.errors import AssetError
from mpq_fixtures.metrics import MetricError, NotMeasurable, SignalMetric, registered_signal_metrics, signal_metrics
from mpq_fixtures.metrics.cdpam import CDPAM
from mpq_fixtures.metrics.dists import DISTS
from mpq_fixtures.metrics.lpips import LPIPS
from mpq_fixtures.metrics.ms_ssim import MSSSIM
from mpq_fixtures.metrics.pesq import PESQ
from mpq_fixtures.metrics.psnr import ImagePSNR
from mpq_fixtures.metrics.stoi import STOI
from mpq_fixtures.metrics.top1 import Top1
from mpq_fixtures.metrics.visqol import ViSQOL
from mpq_fixtures.record import Record, summarise
from mpq_fixtures.results.similarity import similarity_correlations
from mpq_fixtures.rows import Row
from mpq_fixtures.rows.reader import Rows
from mpq_fixtures.signals import Audio, Image, Modality
from mpq_fixtures.statistics.correlations import Correlation, rank_correlation
from mpq_fixtures.statistics.resampling import draws, values_of_points
from mpq_fixtures.suite import Case, Evaluation
from mpq_fixtures.tasks import find_task

SOUNDS: list[type[SignalMetric]] = [PESQ, STOI, ViSQOL, CDPAM]
PICTURES: list[type[SignalMetric]] = [MSSSIM, LPIPS, DISTS]
each_sound_metric = pytest.mark.parametrize("cls", SOUNDS, ids=lambda cls: cls.name)
each_picture_metric = pytest.mark.parametrize("cls", PICTURES, ids=lambda cls: cls.name)


def installed(cls: type[SignalMetric]) -> SignalMetric:
    """The metric, where its package is here; the weights of networks are made by `networks`."""
    metric = cls()
    if lack := metric.missing():
        pytest.skip(lack)
    return metric


def noisy(signal: Any, amplitude: float, seed: int = 1) -> Any:
    """A signal with noise, whose deviation is in units of its own: of 255 or of full scale."""
    generator = np.random.default_rng(seed)
    if isinstance(signal, Image):
        noise = generator.normal(0, amplitude, signal.pixels.shape)
        return Image(np.clip(np.rint(signal.pixels + noise), 0, 255).astype(np.uint8))
    return plus(signal, amplitude * generator.normal(size=signal.waveform.shape))


def plus(sound: Audio, waveform: NDArray[Any]) -> Audio:
    return Audio((sound.waveform + waveform).astype(np.float32), sound.sample_rate)


def value(metric: SignalMetric, decoded: Any, original: Any) -> float:
    return metric.value([metric.observe(decoded, original)])


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """Networks with random weights, saved as torchvision saves its own, found through MPQ_WEIGHTS; they stand for torchvision's models.

    Their own weights cannot be had everywhere; the formulas are the same with these. The digests are those of the files made here.
    """
    import torch
    from torch import nn

    if lack := metrics.lacking(torchmetrics="torchmetrics"):
        pytest.skip(lack)
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(2401)
    alexnet = nn.Module()
    alexnet.features = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip
    layers, before = [], 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
        before = width or before
    vgg16 = nn.Module()
    vgg16.features = nn.Sequential(*layers)
    vgg16.classifier = nn.Linear(2, 2)  # is in the file and not used
    for layer in [*alexnet.features, *vgg16.features]:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)  # else nothing comes through
    torchvision = ModuleType("torchvision")
    torchvision.__spec__ = ModuleSpec("torchvision", None)
    torchvision.models = SimpleNamespace(  # type: ignore[attr-defined]
        alexnet=lambda weights: alexnet, AlexNet_Weights=SimpleNamespace(DEFAULT=None), vgg16=lambda weights: vgg16
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPQ_WEIGHTS", str(folder))
        for cls, network, modern in ((LPIPS, alexnet, True), (DISTS, vgg16, False)):
            file = cls.weights.files[0]
            path = folder / "torchvision" / file.name
            path.parent.mkdir(exist_ok=True)
            torch.save(network.state_dict(), path, _use_new_zipfile_serialization=modern)  # torchvision's are one of each
            made = type(file)(file.name, file.url, hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
            patch.setattr(cls, "weights", type(cls.weights)("torchvision", (made,), cls.weights.licence, cls.weights.fetch))
        for module in ("lpips", "dists"):
            importlib.import_module(f"mpq_fixtures.metrics.{module}")._weights.cache_clear()
        yield torchvision
        for module in ("lpips", "dists"):
            importlib.import_module(f"mpq_fixtures.metrics.{module}")._weights.cache_clear()


class TestRegistry:
    def test_lists_what_there_is_by_name(self) -> None:
        pictures, sounds = (registered_signal_metrics(modality) for modality in Modality)
        assert {"dists", "lpips", "ms_ssim", "psnr", "ssim"} <= set(pictures)
        assert {"cdpam", "pesq", "psnr", "si_sdr", "stoi", "visqol"} <= set(sounds)
        assert pictures["psnr"] is not sounds["psnr"]
        assert list(pictures) == sorted(pictures)

    def test_a_suite_that_names_none_gets_those_that_need_nothing(self) -> None:
        assert [metric.name for metric in find_task("image_segmentation").signal_metrics()] == ["psnr", "ssim"]
        assert [metric.name for metric in find_task("source_separation").signal_metrics()] == ["psnr", "si_sdr"]

    def test_a_suite_may_name_more(self) -> None:
        named = find_task("speech_recognition").signal_metrics(("visqol", "psnr", "pesq", "visqol"))
        assert [metric.name for metric in named] == ["psnr", "si_sdr", "visqol", "pesq"]

    def test_an_unknown_name_is_a_sentence(self) -> None:
        with pytest.raises(MetricError, match=r"there is no audio metric 'pseq'; did you mean 'pesq'\?"):
            signal_metrics(Modality.AUDIO, ["pseq"])
        with pytest.raises(MetricError, match="no image metric 'pesq'"):
            signal_metrics(Modality.IMAGE, ["pesq"])

    def test_a_subclass_anywhere_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        registered_signal_metrics(Modality.IMAGE)
        monkeypatch.setattr(metrics, "_registry", dict(metrics._registry))

        class Own(SignalMetric):
            name, modality, unit, bounds, tolerance = "own", Modality.IMAGE, "1", (0.0, 1.0), 0.01

            def observe(self, prediction: Any, target: Any) -> Any:
                return np.array([0.25, 1.0])

        (metric,) = signal_metrics(Modality.IMAGE, ["own"])[2:]
        assert isinstance(metric, Own)
        assert metric.value([metric.observe(None, None), np.zeros(2), np.array([0.75, 1.0])]) == 0.5  # one that counts for nothing
        assert math.isnan(metric.value([np.zeros(2)]))

    @pytest.mark.parametrize("cls", [*PICTURES, *SOUNDS], ids=lambda cls: cls.name)
    def test_says_what_it_is(self, cls: type[SignalMetric]) -> None:
        metric = cls()
        assert not metric.automatic
        assert metric.unit
        assert metric.higher_is_better == (metric.name not in ("lpips", "dists", "cdpam"))
        assert 0 < metric.tolerance < 0.1
        assert metric.settings
        assert math.isnan(metric.value([]))

    def test_absent_packages_are_named_with_what_brings_them_and_nothing_is_imported(self, tmp_path: Path) -> None:
        code = """
import importlib.util, sys
found = importlib.util.find_spec
absent = ("pesq", "pystoi", "visqol", "ai_edge_litert", "cdpam", "torchmetrics")
importlib.util.find_spec = lambda name, *rest: None if name in absent else found(name, *rest)
from mpq_fixtures.metrics import registered_signal_metrics
from mpq_fixtures.signals import Modality
for modality in Modality:
    for name, metric in registered_signal_metrics(modality).items():
        print(f"{name}: {metric().missing()}")
print("imported:", sorted({"torch", "scipy", "torchmetrics", *absent} & set(sys.modules)))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
        assert said["pesq"].startswith("pesq is not installed: pip install pesq")
        assert said["stoi"] == "pystoi is not installed: pip install pystoi"
        assert said["visqol"] == "visqol and ai_edge_litert are not installed: pip install visqol-python ai-edge-litert"
        assert said["cdpam"] == "cdpam is not installed: pip install cdpam"
        assert said["lpips"] == said["dists"] == "torchmetrics is not installed: pip install torchmetrics"
        assert said["ms_ssim"] == said["psnr"] == ""
        assert said["imported"] == "[]"

    @pytest.mark.parametrize("cls", [LPIPS, DISTS], ids=lambda cls: cls.name)
    def test_absent_weights_are_named(self, cls: type[SignalMetric], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if lack := metrics.lacking(torchmetrics="torchmetrics"):
            pytest.skip(lack)
        monkeypatch.setenv("MPQ_WEIGHTS", str(tmp_path))
        monkeypatch.setattr("mpq_fixtures.weights.weights_cache", lambda: tmp_path / "cache")
        assert f"mpq fetch --metric {cls.name}" in cls().missing()
        assert "torchvision/" in cls().missing()


class TestSounds:
    @each_sound_metric
    def test_too_short_is_a_reason(self, cls: type[SignalMetric]) -> None:
        metric = installed(cls)
        sound = speech(16000, seconds=0.04)
        with pytest.raises(NotMeasurable, match=rf"{metric.name} measures no sounds shorter than .* s; this one has 0.04"):
            metric.observe(sound, sound)

    @each_sound_metric
    def test_silence_is_a_reason(self, cls: type[SignalMetric]) -> None:
        metric = installed(cls)
        sound = speech(16000)
        silence = Audio(np.zeros_like(sound.waveform), 16000)
        with pytest.raises(NotMeasurable, match="the original is silent"):
            metric.observe(sound, silence)

    @pytest.mark.parametrize("cls", [PESQ, ViSQOL], ids=lambda cls: cls.name)
    def test_what_was_decoded_to_silence_has_no_opinion_score(self, cls: type[SignalMetric]) -> None:
        metric = installed(cls)
        sound = speech(16000)
        with pytest.raises(NotMeasurable, match="the decoded sound is silent"):
            metric.observe(Audio(np.zeros_like(sound.waveform), 16000), sound)

    @each_sound_metric
    def test_what_is_not_finite_spoils_the_value(self, cls: type[SignalMetric]) -> None:
        metric = installed(cls)
        sound = speech(16000)
        spoiled = sound.waveform.copy()
        spoiled[0, 99] = np.inf
        assert math.isnan(value(metric, Audio(spoiled, 16000), sound))

    @each_sound_metric
    def test_refuses_what_does_not_fit(self, cls: type[SignalMetric]) -> None:
        metric = installed(cls)
        sound = speech(16000)
        for other, says in ((Audio(sound.waveform, 8000), "of one rate"), (speech(16000, 2), "one shape"), (photo(), "two sounds")):
            with pytest.raises(ValueError, match=says) as raised:
                metric.observe(other, sound)
            assert not isinstance(raised.value, NotMeasurable)

    @pytest.mark.parametrize(("cls", "rate", "best"), [(PESQ, 16000, 4.644), (PESQ, 8000, 4.549), (STOI, 16000, 1.0), (STOI, 44100, 1.0)])
    def test_falls_as_noise_grows(self, cls: type[SignalMetric], rate: int, best: float) -> None:
        metric, sound = installed(cls), speech(rate)
        values = [value(metric, noisy(sound, amplitude), sound) for amplitude in (0, 0.001, 0.01, 0.1)]
        assert values[0] == pytest.approx(best, abs=1e-3)
        assert values == sorted(values, reverse=True)
        assert values[0] - values[-1] > 0.2

    @pytest.mark.parametrize("cls", [PESQ, STOI], ids=lambda cls: cls.name)
    def test_channels_are_averaged(self, cls: type[SignalMetric]) -> None:
        metric, sound = installed(cls), speech(16000)
        noise = noisy(sound, 0.05)
        both = Audio(np.concatenate([sound.waveform, -sound.waveform]), 16000)  # cancel in a downmix
        decoded = Audio(np.concatenate([sound.waveform, -noise.waveform]), 16000)
        expected = (value(metric, sound, sound) + value(metric, noise, sound)) / 2
        assert value(metric, decoded, both) == pytest.approx(expected, abs=1e-6)
        half = Audio(np.concatenate([sound.waveform, 0 * sound.waveform]), 16000)
        assert value(metric, noisy(half, 0.05), half) < value(metric, half, half)  # the silent channel is left out

    @pytest.mark.parametrize(("rate", "measured", "mode"), [(8000, 8000, "nb"), (16000, 16000, "wb"), (44100, 16000, "wb")])
    def test_pesq_is_the_packages(self, rate: int, measured: int, mode: str) -> None:
        metric = installed(PESQ)
        from pesq import pesq

        sound = speech(rate)
        decoded = noisy(sound, 0.01)
        original, degraded = (scipy.signal.resample_poly(one.waveform[0].astype(float), measured, rate) for one in (sound, decoded))
        expected = pesq(measured, original, degraded, mode)
        assert 1.1 < expected < 4.4
        assert value(metric, decoded, sound) == pytest.approx(expected, abs=1e-6 if rate == measured else 0.15)  # filters differ a little

    def test_pesq_without_utterances_is_a_reason(self) -> None:
        metric = installed(PESQ)
        times = np.arange(3 * 16000) / 16000
        bursts = 0.3 * np.random.default_rng(1).normal(size=times.size) * (times % 0.35 < 0.1)  # an utterance takes 0.2 s
        sound = Audio(bursts.astype(np.float32)[None], 16000)
        with pytest.raises(NotMeasurable, match="pesq: No utterances detected"):
            metric.observe(sound, sound)

    def test_pesq_refuses_lengths_at_which_its_code_writes_past_its_tables(self) -> None:
        metric = installed(PESQ)
        times = np.arange(20 * 16000) / 16000
        bursts = 0.3 * np.random.default_rng(1).normal(size=times.size) * (times % 0.404 < 0.202)
        sound = Audio(bursts.astype(np.float32)[None], 16000)
        assert 1 < value(metric, noisy(sound, 0.01), sound) < 4.6  # as many utterances as 20 s can hold
        longer = Audio(np.concatenate([sound.waveform, sound.waveform], axis=1), 16000)
        with pytest.raises(NotMeasurable, match="longer than 20 s; this one has 40"):
            metric.observe(longer, longer)

    @pytest.mark.parametrize("rate", [8000, 16000, 44100])
    def test_stoi_is_the_packages(self, rate: int) -> None:
        metric = installed(STOI)
        from pystoi import stoi

        sound = speech(rate)
        decoded = noisy(sound, 0.05)
        expected = stoi(sound.waveform[0].astype(float), decoded.waveform[0].astype(float), rate)
        assert 0.5 < expected < 0.99
        assert value(metric, decoded, sound) == pytest.approx(expected, abs=1e-12)

    @pytest.mark.filterwarnings("ignore:Not enough STFT frames")
    def test_stois_sentinel_is_a_reason(self) -> None:
        metric = installed(STOI)
        sound = speech(16000, seconds=1.0)
        short = Audio(sound.waveform * (np.arange(16000) < 4000), 16000)  # long enough, and mostly silent
        with pytest.raises(NotMeasurable, match="30 frames that are not silent"):
            metric.observe(short, short)

    def test_stoi_of_nothing_is_nothing(self) -> None:
        metric, sound = installed(STOI), speech(16000)
        assert value(metric, Audio(np.zeros_like(sound.waveform), 16000), sound) == 0

    @pytest.mark.parametrize(("rate", "mode"), [(16000, "speech"), (48000, "audio")])
    def test_visqol_is_the_packages(self, rate: int, mode: str) -> None:
        metric = installed(ViSQOL)
        from visqol import VisqolApi

        api = VisqolApi()
        api.create(mode=mode, **({"use_lattice_model": True} if mode == "speech" else {}))
        sound = speech(rate, seconds=1.2) if mode == "speech" else music(rate, 1, seconds=1.0)
        found = [value(metric, noisy(sound, amplitude), sound) for amplitude in (0, 0.003, 0.1)]
        expected = api.measure_from_arrays(sound.waveform[0], noisy(sound, 0.003).waveform[0], rate).moslqo
        assert found[1] == pytest.approx(expected, abs=1e-9)
        assert 5 > found[0] > found[1] > found[2] >= 1  # an identical sound has not 5

    @pytest.mark.parametrize("sound", [speech(16000, seconds=0.3), music(48000, 1, seconds=0.3)], ids=["speech", "audio"])
    def test_visqol_that_finds_nothing_to_compare_is_a_reason(self, sound: Audio, monkeypatch: pytest.MonkeyPatch) -> None:
        metric = installed(ViSQOL)
        monkeypatch.setattr(ViSQOL, "shortest", 0.0)
        with pytest.raises(NotMeasurable, match="visqol finds nothing to compare"):
            metric.observe(sound, sound)

    def test_cdpam_is_the_packages(self) -> None:
        """Against the package's own forward pass, fed as its own loader does: rounded 16-bit values ``[1, N]`` at 22.05 kHz."""
        metric = installed(CDPAM)
        import torch

        network = importlib.import_module("mpq_fixtures.metrics.cdpam")._network()
        sound = speech(22050, seconds=0.2)
        decoded = noisy(sound, 0.02)
        signals = [torch.from_numpy(np.float32(np.round(one.waveform[0].astype(float) * 32768))).reshape(1, -1) for one in (decoded, sound)]
        with torch.no_grad():
            embeddings = [torch.nn.functional.normalize(network.base_encoder.forward(one.unsqueeze(1))[1], dim=1) for one in signals]
            expected = float(network.model_dist.forward(*embeddings))
        assert expected > 0.01
        assert value(metric, decoded, sound) == pytest.approx(expected, rel=1e-4)
        assert value(metric, sound, sound) == pytest.approx(0, abs=1e-6)
        assert value(metric, noisy(sound, 0.2), sound) > expected

    def test_cdpam_loads_no_other_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        installed(CDPAM)
        module = importlib.import_module("mpq_fixtures.metrics.cdpam")
        (tmp_path / "cdpam" / "CDPAM_trained").mkdir(parents=True)
        (tmp_path / "cdpam" / module.WEIGHTS).write_bytes(b"cos\nsystem\n(S'true'\ntR.")
        (tmp_path / "cdpam" / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(str(tmp_path))
        with pytest.raises(AssetError, match=r"not what it should be.*pip install cdpam==0\.0\.6"):
            module._network.__wrapped__()


class TestPictures:
    @each_picture_metric
    def test_too_small_is_a_reason_and_the_smallest_is_not(self, cls: type[SignalMetric], networks: ModuleType) -> None:
        metric = cls()
        least = {"ms_ssim": 161, "lpips": 31, "dists": 16}[metric.name]
        long = max(least, 64)
        small, enough = photo(long, least - 1), photo(long, least)
        with pytest.raises(NotMeasurable, match=f"side below {least} pixels; this one has {least - 1}x{long}"):
            metric.observe(small, small)
        assert 0 < value(metric, noisy(enough, 20), enough) < 1

    @each_picture_metric
    def test_refuses_what_does_not_fit(self, cls: type[SignalMetric], networks: ModuleType) -> None:
        for other, says in ((photo(224, 200), "one shape"), (speech(8000), "two pictures")):
            with pytest.raises(ValueError, match=says) as raised:
                cls().observe(other, photo())
            assert not isinstance(raised.value, NotMeasurable)

    @each_picture_metric
    def test_worsens_as_noise_grows(self, cls: type[SignalMetric], networks: ModuleType) -> None:
        metric, side = cls(), 176 if cls is MSSSIM else 64
        values = [value(metric, noisy(photo(side, side), amplitude), photo(side, side)) for amplitude in (0, 3, 12, 48)]
        assert values[0] == pytest.approx(1 if metric.higher_is_better else 0, abs=1e-6)
        assert values == sorted(values, reverse=metric.higher_is_better)
        assert len(set(values)) == 4

    @pytest.mark.parametrize("shape", [(224, 224), (304, 352)])
    @pytest.mark.parametrize("amplitude", [1, 10, 60])
    def test_ms_ssim_is_pytorch_msssims(self, amplitude: float, shape: tuple[int, int]) -> None:
        library = pytest.importorskip("pytorch_msssim")
        import torch

        original = photo(*shape)
        decoded = noisy(original, amplitude)
        luma = [torch.from_numpy(one.pixels @ np.array([0.299, 0.587, 0.114]))[None, None] for one in (decoded, original)]
        expected = float(library.ms_ssim(*luma, data_range=255))
        assert value(MSSSIM(), decoded, original) == pytest.approx(expected, abs=5e-6)

    def test_ms_ssim_of_an_inverted_picture_is_nothing(self) -> None:
        assert value(MSSSIM(), Image(255 - photo().pixels), photo()) == 0

    @pytest.mark.parametrize("size", [(224, 224), (97, 130)])
    def test_lpips_is_torchmetrics(self, networks: ModuleType, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
        """Their class around the same network, with their copy of the authors' heads."""
        import torch

        theirs = importlib.import_module("torchmetrics.functional.image.lpips")
        monkeypatch.setattr(theirs, "_TORCHVISION_AVAILABLE", True)
        monkeypatch.setitem(sys.modules, "torchvision", networks)
        measure = theirs._LPIPS(net="alex")
        for amplitude in (20, 80):
            pair = noisy(photo(*size), amplitude), photo(*size)
            inputs = [torch.from_numpy(one.pixels.astype(np.float32) / 255).permute(2, 0, 1)[None] for one in pair]
            expected = float(measure(*inputs, normalize=True))  # takes 0..1
            assert expected > 1e-3
            assert value(LPIPS(), *pair) == pytest.approx(expected, rel=1e-4, abs=1e-6)
            assert abs(float(measure(*inputs)) - expected) > 1e-4  # in the wrong range another number comes out

    def test_dists_is_torchmetrics(self, networks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        """Their network around the same convolutions, with their copy of the authors' weights."""
        import torch

        theirs = importlib.import_module("torchmetrics.functional.image.dists")
        monkeypatch.setattr(theirs, "_TORCHVISION_AVAILABLE", True)
        monkeypatch.setattr(theirs, "vgg16", networks.models.vgg16, raising=False)
        monkeypatch.setattr(theirs, "VGG16_Weights", SimpleNamespace(DEFAULT=None), raising=False)
        measure = theirs.DISTSNetwork()
        for amplitude in (20, 80):
            pair = noisy(photo(97, 130), amplitude), photo(97, 130)
            inputs = [torch.from_numpy(one.pixels.astype(np.float32) / 255).permute(2, 0, 1)[None] for one in pair]
            expected = float(measure(*inputs).detach())
            assert expected > 1e-3
            assert value(DISTS(), *pair) == pytest.approx(expected, rel=1e-4, abs=1e-6)

    def test_dists_scales_larger_pictures_down(self, networks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        from PIL import Image as Pillow

        module = importlib.import_module("mpq_fixtures.metrics.dists")
        assert module.SIDE == 256  # as in the authors' code
        monkeypatch.setattr(module, "SIDE", 32)
        pair = noisy(photo(40, 36), 20), photo(40, 36)
        small = [Image(np.asarray(Pillow.fromarray(one.pixels).resize((32, 35), Pillow.Resampling.BILINEAR))) for one in pair]
        assert value(DISTS(), *pair) == value(DISTS(), *small) > 0

    @pytest.mark.parametrize("cls", [LPIPS, DISTS], ids=lambda cls: cls.name)
    def test_heads_are_those_that_the_authors_learned(self, cls: type[LPIPS] | type[DISTS], networks: ModuleType) -> None:
        heads = cls().load_heads()
        assert all(float(head.min()) >= 0 for head in heads.values())  # as they were constrained in training

    @pytest.mark.parametrize("cls", [LPIPS, DISTS], ids=lambda cls: cls.name)
    def test_other_heads_are_refused(self, cls: type[LPIPS] | type[DISTS], networks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cls, "heads", (cls.heads[0], "0" * 64))
        with pytest.raises(AssetError, match=r"not what it should be.*pip install torchmetrics==1\.9\.0"):
            cls().load_heads()


def table(values: NDArray[np.float64]) -> list[list[NDArray[np.float64]]]:
    """Statistics of a mean, ``[points][samples]``."""
    return [[np.array(one) for one in point] for point in values]


class TestRankCorrelation:
    def test_of_what_rises_together_is_one_and_sure(self) -> None:
        points = np.arange(8)[:, None] + np.random.default_rng(1).normal(0, 0.01, (8, 40))
        found = rank_correlation(values_of_points(ImagePSNR(), table(points)), values_of_points(Top1(), table(np.exp(points))))
        assert found == Correlation(1.0, 1.0, 1.0, 8)
        turned = rank_correlation(values_of_points(ImagePSNR(), table(points)), values_of_points(Top1(), table(-points)))
        assert turned == Correlation(-1.0, -1.0, -1.0, 8)

    def test_is_scipys_at_every_resample(self) -> None:
        generator = np.random.default_rng(3)
        first, second = generator.normal(0, 1, (9, 30)), generator.normal(0, 1, (9, 30))
        second += np.linspace(0, 1, 9)[:, None]
        first += np.linspace(0, 1, 9)[:, None]
        found = rank_correlation(*(values_of_points(ImagePSNR(), table(one), resamples=300) for one in (first, second)))
        expected = [scipy.stats.spearmanr(first[:, row].mean(1), second[:, row].mean(1)).statistic for row in draws(30, 300)]
        assert found is not None
        assert found.rho == pytest.approx(scipy.stats.spearmanr(first.mean(1), second.mean(1)).statistic)
        assert (found.ci_low, found.ci_high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))
        assert found.ci_low < found.rho < found.ci_high

    def test_of_what_is_independent_covers_nothing(self) -> None:
        generator = np.random.default_rng(4)
        covered = 0
        for _ in range(20):
            found = rank_correlation(*(values_of_points(ImagePSNR(), table(generator.normal(0, 1, (10, 25))), 200) for _ in range(2)))
            assert found is not None
            covered += found.ci_low <= 0 <= found.ci_high
        assert covered >= 17

    def test_ties_have_their_mean_rank(self) -> None:
        first, second = np.array([[1.0, 1.0, 2.0, 3.0, 3.0]] * 2), np.array([[1.0, 2.0, 2.0, 2.0, 5.0]] * 2)
        found = rank_correlation(first, second)
        assert found is not None
        assert found.rho == pytest.approx(scipy.stats.spearmanr(first[0], second[0]).statistic)

    def test_a_point_without_a_value_is_left_out(self) -> None:
        first = np.array([[1.0, 2.0, np.nan, 3.0, 4.0]] * 3)
        second = np.array([[1.0, 2.0, 9.0, 3.0, 4.0]] * 3)
        assert rank_correlation(first, second) == Correlation(1.0, 1.0, 1.0, 4)

    def test_too_few_points_or_no_differences_say_nothing(self) -> None:
        rising = np.array([[1.0, 2.0, 3.0, 4.0]] * 3)
        assert rank_correlation(rising[:, :3], rising[:, :3]) is None
        assert rank_correlation(np.ones((3, 4)), rising) is None

    def test_points_need_the_same_samples(self) -> None:
        with pytest.raises(ValueError, match="the same samples"):
            values_of_points(Top1(), [[np.array(1.0)], [np.array(1.0)] * 2])


def records(points: int, samples: int, lpips: dict[tuple[int, int], float | None] | None = None) -> list[Record]:
    """Records of an evaluation whose points rise in PSNR and in top-1; LPIPS falls, but for what ``lpips`` says of (point, sample)."""
    evaluation = Evaluation("tried", "tests", find_task("image_classification"), "../a/model", {"path": "a/set"}, (), Path())
    made = []
    spent = {"payload": 10, "container": 0, "side": 0}
    for point in range(points):
        rows = []
        for sample in range(samples):
            distance = (lpips or {}).get((point, sample), 1.0 / (1 + point) + 0.001 * sample)
            beside: dict[str, Any] = {"psnr": 20.0 + point} | ({} if distance is None else {"lpips": [distance, 1.0]})
            rows.append(Row(f"s{sample}", 10, 100, "", "", float(sample <= point), beside, {}, spent))
        record = summarise(Case(evaluation, "jpeg", f"q{point}"), Rows.of(rows), [], Top1(), [])
        made.append(record)
    original = summarise(Case(evaluation, "original", ""), Rows.of([Row("s0", 10, 100, "", "", 1.0, {}, {}, spent)]), [], Top1(), [])
    return [original, *made]


class TestSimilarityCorrelations:
    def test_each_metric_is_turned_so_that_higher_is_better(self) -> None:
        psnr, lpips = similarity_correlations(records(6, 12))
        assert (psnr.metric, lpips.metric) == ("psnr", "lpips")
        assert (psnr.samples, lpips.samples) == (12, 12)
        for found in (psnr.correlation, lpips.correlation):
            assert found is not None
            assert found.rho == pytest.approx(1)
            assert found.points == 6

    def test_samples_that_a_point_lacks_count_nowhere(self) -> None:
        """A sample far from the others is missing at one point: there the mean would look better than it is."""
        far = {(point, 11): 5.0 for point in range(6)}
        _, lpips = similarity_correlations(records(6, 12, {**far, (0, 11): None}))
        assert lpips.samples == 11
        assert lpips.correlation is not None
        assert lpips.correlation.rho == pytest.approx(1)

    def test_points_that_lack_most_are_left_out(self) -> None:
        _, lpips = similarity_correlations(records(6, 12, {(0, sample): None for sample in range(7)}))
        assert lpips.correlation is not None
        assert (lpips.correlation.points, lpips.samples) == (5, 12)

    def test_fewer_than_four_points_say_nothing(self) -> None:
        assert [found.correlation for found in similarity_correlations(records(3, 12))] == [None, None]
        assert similarity_correlations(records(0, 0)) == []
