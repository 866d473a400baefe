"""The source separation loader, on the pocket model and its songs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from scipy.signal import resample_poly

import mpq_fixtures
from mpq_fixtures.errors import AssetError
from mpq_fixtures.pocket.songs import FOLDER as SONGS
from mpq_fixtures.pocket.songs import STEMS, songs
from mpq_fixtures.signals import Audio
from mpq_fixtures.tasks import find_task
from mpq_fixtures.tasks.source_separation._demucs import DemucsSeparator

FOLDER = Path(mpq_fixtures.__file__).parent / "pocket" / "models" / "demucs_pocket"

Stems = dict[str, NDArray[np.float32]]


def median_sdr(estimates: Stems, stems: Stems) -> float:
    """The mean over stems of the median over seconds of the energy ratio in dB, at 16 kHz."""

    def energy(sound: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.square(sound.astype(np.float64)).reshape(len(sound), -1, 16_000).sum((0, 2))

    return float(np.mean([np.median(10 * np.log10(energy(stems[name]) / energy(estimates[name] - stems[name]))) for name in stems]))


@pytest.fixture(scope="module")
def model() -> DemucsSeparator:
    return find_task("source_separation").load(str(FOLDER), "cpu")


@pytest.fixture(scope="module")
def song() -> Audio:
    signal = songs().samples[0].signal()
    assert isinstance(signal, Audio)
    return signal


@pytest.fixture(scope="module")
def target() -> Stems:
    stems: Stems = songs().samples[0].target()
    return stems


@pytest.fixture(scope="module")
def separated(model: DemucsSeparator, song: Audio) -> Stems:
    return model.predict([song])[0]


class TestPocketSongs:
    def test_there_are_eight_each_with_its_own_id_and_source(self) -> None:
        samples = songs().samples
        assert len(samples) == 8
        assert len({sample.id for sample in samples}) == len({sample.source for sample in samples}) == 8

    def test_they_last_6_s_in_stereo_at_16_khz(self) -> None:
        for sample in songs().samples:
            signal = sample.signal()
            assert isinstance(signal, Audio)
            assert signal.waveform.shape == (2, 96_000)
            assert signal.waveform.dtype == np.float32
            assert signal.sample_rate == 16_000
            assert sample.stored_bytes == 2 * signal.waveform.size

    def test_mixtures_are_the_exact_sum_of_the_stems_and_never_clip(self) -> None:
        for sample in songs().samples:
            signal = sample.signal()
            assert isinstance(signal, Audio)
            files = [soundfile.read(SONGS / sample.id / f"{name}.flac", dtype="int16")[0].astype(int) for name in STEMS]
            assert np.array_equal(signal.waveform.T * 2**15, sum(files))
            assert np.abs(signal.waveform).max() < 1

    def test_no_second_of_a_stem_is_silent(self) -> None:
        for sample in songs().samples:
            for stem in sample.target().values():
                assert np.all(np.abs(stem).reshape(2, 6, -1).max((0, 2)) > 1e-3)

    def test_they_take_at_most_4_5_mb(self) -> None:
        assert sum(path.stat().st_size for path in SONGS.rglob("*.flac")) <= 4_500_000

    def test_the_seed_gives_the_shipped_song(self, target: Stems) -> None:
        from mpq_fixtures.pocket.training.songs import TEST_SEEDS, song

        made = song(TEST_SEEDS[0])
        for name in STEMS:
            np.testing.assert_allclose(made[name], target[name], atol=2**-15)


class TestSeparation:
    def test_it_separates_a_song(self, separated: Stems, song: Audio, target: Stems) -> None:
        assert median_sdr(dict.fromkeys(STEMS, song.waveform), target) < 0
        assert median_sdr(separated, target) > 8

    def test_it_hears_what_a_narrow_band_takes_away(self, model: DemucsSeparator, song: Audio, target: Stems) -> None:
        narrow = resample_poly(resample_poly(song.waveform, 1, 4, axis=1), 4, 1, axis=1)
        assert median_sdr(model.predict([Audio(narrow, 16_000)])[0], target) < median_sdr(model.predict([song])[0], target) - 3

    def test_stems_are_named_as_the_target(self, model: DemucsSeparator, separated: Stems) -> None:
        assert set(separated) == set(STEMS) == set(model.sources)

    def test_it_is_the_same_every_time(self, model: DemucsSeparator, song: Audio, separated: Stems) -> None:
        again = model.predict([song])[0]
        assert all(np.array_equal(again[name], separated[name]) for name in STEMS)

    def test_other_signals_change_nothing(self, model: DemucsSeparator, song: Audio, separated: Stems) -> None:
        other = Audio(song.waveform[:, 16_000:40_000], 16_000)
        second = model.predict([other, song])[1]
        assert all(np.array_equal(second[name], separated[name]) for name in STEMS)

    def test_silence_gives_silence(self, model: DemucsSeparator) -> None:
        stems = model.predict([Audio(np.zeros((2, 16_000), np.float32), 16_000)])[0]
        assert all(np.abs(stem).max() < 1e-6 for stem in stems.values())


class TestPreparing:
    def test_gives_the_mixture_around_0_and_of_unit_deviation(self, model: DemucsSeparator, song: Audio) -> None:
        (mixture,) = model.prepare([song])
        assert (mixture.sample_rate, mixture.frames) == (16_000, 96_000)
        mono = song.waveform.astype(np.float64).mean(0)
        expected = (song.waveform - mono.mean()) / (mono.std() + 1e-8)
        np.testing.assert_allclose(mixture.waveform, expected[None], atol=1e-5)

    def test_channels_that_the_model_does_not_have_become_a_batch(self, model: DemucsSeparator, song: Audio) -> None:
        three = Audio(np.concatenate([song.waveform, song.waveform[:1]]), 16_000)
        assert model.prepare([three])[0].waveform.shape == (3, 1, 96_000)

    def test_and_inferring_is_predicting(self, model: DemucsSeparator, song: Audio, separated: Stems) -> None:
        seen: list[NDArray[np.float32]] = []
        hook = model._model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].numpy().copy()))
        try:
            (stems,) = model.infer(model.prepare([song]))
        finally:
            hook.remove()
        assert all(np.array_equal(stems[name], separated[name]) for name in STEMS)
        assert len(seen) == 1
        assert np.array_equal(seen[0], model.prepare([song])[0].waveform)  # six seconds are one segment


class TestRatesChannelsAndLengths:
    @pytest.mark.parametrize("channels", [1, 2, 3])
    @pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
    @pytest.mark.parametrize("frames", [1, 801, 12_345])
    def test_stems_have_the_signals_shape(self, model: DemucsSeparator, channels: int, rate: int, frames: int) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, (channels, frames)).astype(np.float32)
        (stems,) = model.predict([Audio(noise, rate)])
        for stem in stems.values():
            assert stem.shape == noise.shape
            assert stem.dtype == np.float32
            assert np.all(np.isfinite(stem))

    def test_a_higher_rate_gives_the_same_stems(self, model: DemucsSeparator, song: Audio, separated: Stems) -> None:
        high = resample_poly(song.waveform, 3, 1, axis=1).astype(np.float32)
        (stems,) = model.predict([Audio(high, 48_000)])
        low = {name: resample_poly(stem, 1, 3, axis=1) for name, stem in stems.items()}
        for name in STEMS:
            error = np.square(low[name] - separated[name]).sum() / np.square(separated[name]).sum()
            assert 10 * np.log10(error) < -15  # the resampling itself takes the band below 8 kHz away

    def test_mono_is_two_equal_channels(self, model: DemucsSeparator, song: Audio) -> None:
        mono = song.waveform.mean(0, keepdims=True)
        (one,), (two,) = model.predict([Audio(mono, 16_000)]), model.predict([Audio(np.repeat(mono, 2, axis=0), 16_000)])
        for name in STEMS:
            np.testing.assert_allclose(one[name][0], two[name].mean(0), atol=1e-6)


class TestLoading:
    def test_the_weights_are_safetensors_of_at_most_3_5_mb(self) -> None:
        assert [path.suffix for path in FOLDER.iterdir() if path.suffix != ".json"] == [".safetensors"]
        assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 3_500_000

    def test_nothing_is_printed(self) -> None:
        code = "import sys; from mpq_fixtures.tasks import find_task; from mpq_fixtures.pocket.songs import songs; "
        code += "find_task('source_separation').load(sys.argv[1], 'cpu').predict([songs().samples[0].signal()])"
        run = subprocess.run([sys.executable, "-c", code, str(FOLDER)], capture_output=True, text=True, check=True, env=dict(os.environ))
        assert run.stdout == run.stderr == ""

    def test_the_modules_are_imported_without_torch(self) -> None:
        code = "import sys, mpq_fixtures.tasks.source_separation, mpq_fixtures.pocket.songs as s; s.songs(); "
        code += "assert not {'torch', 'demucs', 'soundfile', 'scipy'} & set(sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_a_bag_of_two_takes_each_stem_by_its_weights(self, tmp_path: Path, song: Audio, separated: Stems) -> None:
        shutil.copy(next(FOLDER.glob("*.safetensors")), tmp_path / "aaaa.safetensors")
        _write_package(tmp_path / "bbbb-00000000.th", seed=1)
        weights = [[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
        (tmp_path / "bag.yaml").write_text(json.dumps({"models": ["aaaa", "bbbb"], "weights": weights}))
        (stems,) = find_task("source_separation").load(str(tmp_path), "cpu").predict([song])
        assert all(np.allclose(stems[name], separated[name], atol=1e-6) for name in STEMS[:3])
        assert not np.allclose(stems["vocals"], separated["vocals"], atol=1e-3)

    def test_a_package_that_runs_code_is_refused(self, tmp_path: Path) -> None:
        _write_package(tmp_path / "evil.th", seed=0, extra=_Evil(tmp_path / "ran"))
        with pytest.raises(Exception, match=r"(?i)weights.only"):
            find_task("source_separation").load(str(tmp_path), "cpu")
        assert not (tmp_path / "ran").exists()

    def test_a_folder_without_a_model_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(AssetError, match=r"expected one \.safetensors or \.th file"):
            find_task("source_separation").load(str(tmp_path), "cpu")

    def test_a_bag_that_lacks_a_model_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "bag.yaml").write_text("models: [gone]")
        with pytest.raises(AssetError, match="names gone"):
            find_task("source_separation").load(str(tmp_path), "cpu")

    @pytest.mark.parametrize("content", ["", "[]", "weights: []", "{models: 1}", "}{", "\x00"])
    def test_a_yaml_file_that_is_no_bag_is_named(self, content: str, tmp_path: Path) -> None:
        (tmp_path / "bag.yaml").write_text(content)
        with pytest.raises(AssetError, match=r"bag\.yaml describes no bag: expected models"):
            find_task("source_separation").check(str(tmp_path))

    def test_what_is_wrong_shows_before_a_model_is_loaded(self, tmp_path: Path) -> None:
        with pytest.raises(AssetError, match=r"found 0 models"):
            find_task("source_separation").check(str(tmp_path))
        shutil.copy(FOLDER.parent / "vit_pocket" / "model.safetensors", tmp_path)
        with pytest.raises(AssetError, match=r"which is no model of demucs"):
            find_task("source_separation").check(str(tmp_path))
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(next(FOLDER.glob("*.safetensors")).read_bytes())
        find_task("source_separation").check(str(tmp_path))
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(AssetError, match=r"model\.safetensors is damaged"):
            find_task("source_separation").check(str(tmp_path))


class _Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return os.mkdir, (self.path,)


def _write_package(path: Path, seed: int, extra: object = None) -> None:
    """Write an untrained model as demucs' own training does."""
    from demucs.hdemucs import HDemucs

    torch.manual_seed(seed)
    arguments = {"sources": list(STEMS), "channels": 4, "depth": 4, "nfft": 1024, "samplerate": 16_000, "segment": 8}
    package = {"klass": HDemucs, "args": (), "kwargs": arguments, "state": HDemucs(**arguments).state_dict()}
    torch.save(package if extra is None else {**package, "training_args": extra}, path)
