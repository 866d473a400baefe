"""Learned audio codecs: Lyra with its own weights where they are, the others with small random networks of the published geometry."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_replicas import saved
from loopback_hub import LoopbackHub
from test_codecs import delay, like, si_sdr
from test_hub import point_at
from trial_signals import music, speech

from mpq_fixtures.__main__ import main
from mpq_fixtures.codecs import Codec, CodecError, Ledger, registered
from mpq_fixtures.codecs._neural_audio import NeuralAudioCodec, Point
from mpq_fixtures.codecs._packing import pack, packed_size, unpack
from mpq_fixtures.codecs.lyra import WEIGHTS, Lyra
from mpq_fixtures.codecs.rvq_pocket import FOLDER, RvqPocket, points_of
from mpq_fixtures.errors import AssetError, MissingAsset
from mpq_fixtures.hub import listing
from mpq_fixtures.signals import Audio

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"


class TestPacking:
    @pytest.mark.parametrize("bits", [1, 4, 7, 10, 11, 16])
    @pytest.mark.parametrize("count", [0, 1, 7, 8, 501])
    def test_is_one_large_number_in_big_endian_order(self, bits: int, count: int) -> None:
        codes = [int(code) for code in np.random.default_rng(bits).integers(0, 2**bits, count)]
        number = 0
        for code in codes:
            number = number << bits | code
        filling = -count * bits % 8
        expected = (number << filling).to_bytes((count * bits + filling) // 8, "big")
        assert pack(np.array(codes, np.int64), bits) == expected
        assert unpack(expected, bits, count).tolist() == codes
        assert packed_size(bits, count) == len(expected)

    def test_refuses_codes_and_lengths_that_do_not_fit(self) -> None:
        for codes in ([-1], [1024]):
            with pytest.raises(ValueError, match="do not fit into 10 bits"):
                pack(np.array(codes), 10)
        for data in (bytes(3), bytes(5)):
            with pytest.raises(ValueError, match="take 4"):
                unpack(data, 10, 3)


def damaged(data: bytes) -> list[bytes]:
    """Nothing, noise, every kind of shortening, something behind it, and zeros."""
    noise = np.random.default_rng(0).bytes(300)
    cuts = [data[:end] for end in {*range(min(12, len(data))), len(data) // 2, len(data) - 1}]
    return [*cuts, noise, b"GIF89a" + noise, data[:20] + noise, bytes(len(data)), b"\xff" * 40]


def never_changes_the_shape(codec: Codec, original: Audio, data: bytes, times: int) -> None:
    rng = np.random.default_rng(3)
    for _ in range(times):
        flipped = bytearray(data)
        for place in rng.integers(4, len(data), 3):
            flipped[place] ^= int(rng.integers(1, 256))
        try:
            decoded = codec.decode(bytes(flipped))
        except ValueError:
            continue
        assert np.abs(decoded.waveform).max() <= 1


@pytest.fixture
def lyra(monkeypatch: pytest.MonkeyPatch) -> Lyra:
    if "MPQ_WEIGHTS" not in os.environ and SHARED.is_dir():
        monkeypatch.setenv("MPQ_WEIGHTS", str(SHARED))
    codec = Lyra()
    if lack := codec.missing():
        pytest.skip(f"codec lyra: {lack}")
    return codec


def lyra_data(name: str) -> Path:
    """A file of the C++ implementation's tests, which lie beside the weights where the project has them."""
    file = WEIGHTS.require() / name
    if not file.is_file():
        pytest.skip(f"{name} of Lyra's own tests is not beside the weights")
    return file


def lyras_sample() -> Audio:
    import soundfile

    waveform, sample_rate = soundfile.read(lyra_data("sample1_16kHz.wav"), dtype="float32")
    return Audio(waveform[None], sample_rate)


LYRA_RATES = {"3.2k": (16, 8), "6k": (30, 15), "9.2k": (46, 23)}
"""Indices of 4 bits and bytes of a packet of 20 ms, of which Lyra's README says 3.2, 6 and 9.2 kbit/s."""


class TestLyra:
    @pytest.mark.parametrize("quality", LYRA_RATES)
    def test_writes_a_packet_every_20_ms_for_each_channel(self, lyra: Lyra, quality: str) -> None:
        indices, size = LYRA_RATES[quality]
        data = lyra.encode(speech(16000, 2, 1.0), quality)
        # rate, frames and channels; the first stream's length; each stream's first byte
        header = bytes([0x80, 0x7D, 0x80, 0x7D, 2])
        first = lyra.encode(speech(16000, 1, 1.0), quality)[5:]
        assert data[:5] == header
        assert first[0] == indices
        assert len(first) == 1 + 50 * size
        assert lyra.nominal_bits(speech(16000, 2, 1.0), quality) == 8 * 2 * 50 * size
        assert lyra.ledger(data) == Ledger(2 * 50 * size, side=len(data) - 2 * 50 * size)

    @pytest.mark.parametrize("quality", LYRA_RATES)
    def test_packs_the_first_index_highest_as_the_cpp_implementation(self, lyra: Lyra, quality: str) -> None:
        """lyra/residual_vector_quantizer.cc: "The first quantizer is positioned in the most significant bits"; called here without ours."""
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        indices, size = LYRA_RATES[quality]
        sound = lyras_sample()
        folder = WEIGHTS.require()
        network = Interpreter(str(folder / "soundstream_encoder.tflite"), num_threads=1)
        network.allocate_tensors()
        kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        quantizer = Interpreter(str(folder / "quantizer.tflite"), num_threads=1, experimental_op_resolver_type=kernels)
        quantize = quantizer.get_signature_runner("encode")
        expected = b""
        padded = np.append(sound.waveform[0], np.zeros(-sound.waveform.size % 320, np.float32))
        for start in range(0, len(padded), 320):
            network.set_tensor(network.get_input_details()[0]["index"], padded[None, start : start + 320])
            network.invoke()
            features = network.get_tensor(network.get_output_details()[0]["index"])
            found = quantize(input_frames=features, num_quantizers=np.int32(indices))["output_0"].ravel()
            assert set(found[indices:]) <= {-1}
            digits = "".join(f"{index:x}" for index in found[:indices])
            expected += bytes.fromhex(digits)
        data = lyra.encode(sound, quality)
        assert len(expected) == size * -(-sound.waveform.size // 320)
        assert data[-len(expected) :] == expected

    def test_reads_the_packets_of_the_cpp_implementations_tests(self, lyra: Lyra) -> None:
        """decoder_main_lib_test.cc decodes them at 6 kbit/s to 320 frames a packet, a last piece of a packet left aside.

        They are made by hand: the byte 0x64, the first two indices, then zeros.
        """
        one, two = (lyra_data(name).read_bytes() for name in ("one_encoded_packet_16khz.lyra", "two_encoded_packets_16khz.lyra"))
        for content, packets in ((one, 1), (two, 2)):
            stream = bytes([30]) + content[: 15 * packets]
            waveform, sample_rate = lyra.decode_stream(stream)
            assert waveform.shape == (1, 320 * packets)
            assert sample_rate == 16000
            assert 0 < np.abs(waveform).max() < 1
        codes = unpack(one[:15], 4, 30)
        assert codes[:3].tolist() == [6, 4, 0]
        assert pack(codes, 4) == one[:15]
        # Another first index is another sound; so is one that only the lower half of the first byte tells.
        sounds = [lyra.decode_stream(bytes([30]) + first + one[1:15])[0] for first in (b"\x64", b"\x74", b"\x65")]
        assert len({sound.tobytes() for sound in sounds}) == 3

    @pytest.mark.parametrize("quality", LYRA_RATES)
    def test_keeps_real_speech_in_time(self, lyra: Lyra, quality: str) -> None:
        original = lyras_sample()
        decoded = lyra.decode(lyra.encode(original, quality))
        assert like(original, decoded)
        assert delay("lyra", original, decoded) == 0
        assert si_sdr(original, decoded) > 4

    def test_sounds_better_from_quality_to_quality(self, lyra: Lyra) -> None:
        original = lyras_sample()
        likeness = [si_sdr(original, lyra.decode(lyra.encode(original, quality))) for quality in lyra.ladder]
        assert likeness == sorted(likeness)

    @pytest.mark.parametrize(("sample_rate", "channels", "frames"), [(8000, 1, 1), (44100, 3, 577), (48000, 2, 5000), (22050, 1, 2205)])
    def test_gives_back_any_length_rate_and_channels(self, lyra: Lyra, sample_rate: int, channels: int, frames: int) -> None:
        original = Audio(speech(sample_rate, channels, 0.2).waveform[:, :frames], sample_rate)
        for quality in lyra.ladder:
            assert like(original, lyra.decode(lyra.encode(original, quality)))

    def test_of_silence_is_silent(self, lyra: Lyra) -> None:
        decoded = lyra.decode(lyra.encode(Audio(np.zeros((1, 16000), np.float32), 16000), "9.2k"))
        assert np.abs(decoded.waveform).max() < 0.01

    def test_remembers_nothing_of_the_sound_before(self, lyra: Lyra) -> None:
        original = speech(16000, 1, 0.3)
        data = lyra.encode(original, "6k")
        lyra.decode(lyra.encode(music(16000, 1, 0.3), "6k"))
        assert lyra.encode(original, "6k") == data
        assert np.array_equal(lyra.decode(data).waveform, Lyra().decode(data).waveform)

    def test_writes_the_same_in_threads_and_in_another_process(self, lyra: Lyra) -> None:
        jobs = [(sound, quality) for sound in (speech(16000, 1, 0.4), music(16000, 1, 0.4)) for quality in lyra.ladder] * 2
        alone = [lyra.encode(*job) for job in jobs]
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda job: lyra.encode(*job), jobs)) == alone
        program = (
            "import sys; from mpq_fixtures.codecs.lyra import Lyra; from trial_signals import speech; "
            "sys.stdout.write(Lyra().encode(speech(16000, 1, 0.4), '3.2k').hex())"
        )
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "3"}
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120)
        assert run.stdout == alone[0].hex()

    def test_refuses_damaged_bytes(self, lyra: Lyra) -> None:
        original = speech(16000, 1, 0.3)
        data = lyra.encode(original, "6k")
        for broken in damaged(data):
            with pytest.raises(ValueError, match="lyra"):
                lyra.decode(broken)
        never_changes_the_shape(lyra, original, data, 30)

    def test_says_what_it_is_built_of(self, lyra: Lyra) -> None:
        assert "xnnpack" in lyra.build()
        assert lyra.build() == Lyra().build()

    def test_without_its_weights_says_the_command_that_brings_them(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if importlib.util.find_spec("ai_edge_litert") is None:
            pytest.skip("its runtime is not installed: pip install 'machine-perceptual-quality[lyra]'")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.delenv("MPQ_WEIGHTS", raising=False)
        assert "mpq fetch --codec lyra" in Lyra().missing()
        with pytest.raises(MissingAsset, match="lyra"):
            Lyra().prepare()
        with pytest.raises(MissingAsset, match="mpq fetch --codec lyra"):
            Lyra().decode(bytes([0x80, 0x7D, 1, 1, 16]) + bytes(8))

    def test_is_not_taken_unasked(self) -> None:
        assert not Lyra.automatic


def randomly(build: Callable[[], Any]) -> Callable[[Path], None]:
    """Save a network of random weights, its codebooks too, which are zeros otherwise."""

    def save(folder: Path) -> None:
        import torch

        torch.manual_seed(0)
        network = build()
        for name, values in network.named_buffers():
            if name.endswith(("embed", "embed_sum")):
                values.normal_()
            if name.endswith("cluster_usage"):
                values.fill_(1.0)
        network.save_pretrained(folder)

    return save


def encodec(**settings: Any) -> Callable[[Path], None]:
    from transformers import EncodecConfig, EncodecModel

    small = {"num_filters": 4, "hidden_size": 16, "num_lstm_layers": 1}
    return randomly(lambda: EncodecModel(EncodecConfig(**small, **settings)))


def encodec_48khz() -> Callable[[Path], None]:
    """The settings in the config.json of facebook/encodec_48khz, but for the widths."""
    segments = {"normalize": True, "chunk_length_s": 1.0, "overlap": 0.01, "use_causal_conv": False, "norm_type": "time_group_norm"}
    return encodec(sampling_rate=48000, audio_channels=2, target_bandwidths=[3.0, 6.0, 12.0, 24.0], **segments)


def dac(sampling_rate: int, ratios: list[int], n_codebooks: int) -> Callable[[Path], None]:
    from transformers import DacConfig, DacModel

    small = {"encoder_hidden_size": 4, "decoder_hidden_size": 32}
    settings = {"sampling_rate": sampling_rate, "downsampling_ratios": ratios, "n_codebooks": n_codebooks}
    return randomly(lambda: DacModel(DacConfig(**small, **settings)))


def mimi() -> Callable[[Path], None]:
    from transformers import MimiConfig, MimiModel

    small = {"hidden_size": 32, "num_filters": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    widths = {"intermediate_size": 32, "codebook_dim": 16, "vector_quantization_hidden_dimension": 16, "upsample_groups": 32}
    return randomly(lambda: MimiModel(MimiConfig(**small, **widths, frame_rate=12.5)))


def ask(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask this hub, and for as long as it takes: on a busy machine the first import alone may take seconds."""
    point_at(url, folder, monkeypatch)
    monkeypatch.setattr(listing, "PATIENCE", 60.0)


@pytest.fixture(scope="module")
def filled() -> Iterator[LoopbackHub]:
    """A hub with small networks under the ids of the published ones, and what else lies beside them there."""
    networks = {
        "facebook/encodec_24khz": encodec(),
        "facebook/encodec_48khz": encodec_48khz(),
        "descript/dac_44khz": dac(44100, [2, 4, 8, 8], 9),
        "descript/dac_24khz": dac(24000, [2, 4, 5, 8], 32),
        "descript/dac_16khz": dac(16000, [2, 4, 5, 8], 12),
        "kyutai/mimi": mimi(),
    }
    with LoopbackHub() as hub:
        for id, save in networks.items():
            hub.add("model", id, {**saved(save), "pytorch_model.bin": b"never read", "README.md": b"# A codec\n"})
        yield hub


SMALL = {"1.5k": 3, "3k": 6, "6k": 12}
"""Codebooks of a network of the pocket's kind: 50 steps a second."""


def like_rvq_pocket(folder: Path) -> type[RvqPocket]:
    """The pocket's codec with the network of a folder."""
    points = {quality: Point(str(folder), 16000, 320, codebooks) for quality, codebooks in SMALL.items()}
    return type("Small", (RvqPocket,), {"points": points, "ladder": tuple(points)})


@pytest.fixture(scope="module")
def fetched(filled: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, NeuralAudioCodec]]:
    """The codecs with the networks that `mpq fetch` brought from the hub into a cache; and the pocket's own."""
    folder = tmp_path_factory.mktemp("fetched")
    with pytest.MonkeyPatch.context() as patched:
        ask(filled.url, folder, patched)
        assert main(["fetch", "--codec", "encodec", "--codec", "dac", "--codec", "mimi"]) == 0
        ask("http://127.0.0.1:9", folder, patched)
        pocket = folder / "rvq_pocket"
        encodec(sampling_rate=16000, target_bandwidths=[1.5, 3.0, 6.0])(pocket)
        codecs: dict[str, Any] = {name: registered()[name]() for name in NAMES[:-1]}
        yield {**codecs, NAMES[-1]: like_rvq_pocket(pocket)()}


NAMES = ("encodec", "dac", "mimi", "rvq_pocket")
POINTS = [(name, quality) for name in NAMES[:-1] for quality in registered()[name].points]  # type: ignore[attr-defined]
POINTS += [(NAMES[-1], quality) for quality in SMALL]
KILOBITS = {
    **{("encodec", f"{kbps:g}k"): kbps for kbps in (1.5, 3, 6, 12, 24)},
    **{("encodec", f"{kbps:g}k_48khz"): kbps for kbps in (3, 6, 12, 24)},
    **{("rvq_pocket", f"{kbps:g}k"): kbps for kbps in (1.5, 3, 6)},
    **{("mimi", f"{kbps:g}k"): kbps for kbps in (0.55, 1.1, 2.2, 4.4)},
    **{("dac", f"{kbps:g}k_24khz"): kbps for kbps in (0.75, 1.5, 3, 6, 12, 24)},
    **{("dac", f"{kbps:g}k_16khz"): kbps for kbps in (0.5, 1, 2, 3, 4, 6)},
    **{("dac", name): 0.861328125 * used for name, used in (("0.9k", 1), ("1.7k", 2), ("2.6k", 3), ("3.4k", 4), ("5.2k", 6), ("7.8k", 9))},
}
"""As the papers and model cards have them: 10 bits (Mimi 11) of 75, 150, 50, 12.5 and 44100/512 steps a second."""

at_every_point = pytest.mark.parametrize(("name", "quality"), POINTS)


def bytes_of(number: int) -> int:
    """The bytes of a number in seven bits each."""
    return -(-number.bit_length() // 7)


def called_directly(codec: NeuralAudioCodec, quality: str, waveform: np.ndarray) -> np.ndarray:
    """What the classes of transformers make of ``waveform [channels, frames]`` when they are called as their documentation shows."""
    import torch

    point = codec.points[quality]
    network = codec._network(point)
    sound = torch.from_numpy(np.ascontiguousarray(waveform))[None]
    with torch.inference_mode():
        if codec.name in ("encodec", "rvq_pocket"):
            coded = network.encode(sound, bandwidth=point.kbps)
            decoded = network.decode(coded.audio_codes, coded.audio_scales, last_frame_pad_length=coded.last_frame_pad_length)
        elif codec.name == "dac":
            decoded = network.decode(audio_codes=network.encode(sound, n_quantizers=point.codebooks).audio_codes)
        else:
            decoded = network.decode(network.encode(sound, num_quantizers=point.codebooks).audio_codes)
    values = decoded.audio_values.numpy()
    return np.asarray(values.reshape(len(waveform), -1)[:, : waveform.shape[1]])


class TestNeuralCodecs:
    def test_have_the_points_whose_rates_are_listed_here(self) -> None:
        assert set(POINTS) == set(KILOBITS)

    @at_every_point
    @pytest.mark.parametrize("channels", [1, 2])
    def test_cost_what_they_are_named_for(self, fetched: dict[str, NeuralAudioCodec], name: str, quality: str, channels: int) -> None:
        codec = fetched[name]
        original = speech(codec.points[quality].sample_rate, channels, 2.56)
        data = codec.encode(original, quality)
        streams = 1 if quality.endswith("_48khz") else channels
        nominal = 1000 * KILOBITS[name, quality] * 2.56 * streams
        ledger = codec.ledger(data)
        assert codec.nominal_bits(original, quality) == pytest.approx(nominal)
        # A step is up to 80 ms; the last may reach beyond the sound, and segments overlap.
        assert 0 <= 8 * ledger.payload - nominal <= 0.01 * nominal + 0.08 * nominal / 2.56 + 8
        header = sum(map(bytes_of, (original.sample_rate, original.waveform.shape[1], channels)))
        steps = (ledger.payload * 8) // (codec.points[quality].bits * codec.points[quality].codebooks * streams)
        scales = 3 * 4 if quality.endswith("_48khz") else 0
        assert ledger.side == len(data) - ledger.payload == header + 1 + bytes_of(steps) + scales

    @at_every_point
    def test_decode_to_what_transformers_decodes_to(self, fetched: dict[str, NeuralAudioCodec], name: str, quality: str) -> None:
        codec = fetched[name]
        point = codec.points[quality]
        # Of segments, transformers codes the last overlap once more where there is one: here they end without.
        frames = 2 * 47520 if point.segment else 12 * point.hop
        original = Audio(music(point.sample_rate, point.channels, 2.0).waveform[:, :frames], point.sample_rate)
        expected = np.clip(called_directly(codec, quality, original.waveform), -1, 1)
        decoded = codec.decode(codec.encode(original, quality)).waveform
        short = frames - expected.shape[1]  # odd strides leave some out
        assert 0 <= short <= 8
        np.testing.assert_allclose(
            decoded[:, : expected.shape[1]], expected, atol=1e-5
        )  # sums in another order: up to 4e-6 of full scale were seen
        assert np.std(decoded) > 0

    @pytest.mark.parametrize("frames", [47521, 47999, 48000, 48001, 60000, 95039, 95041, 95521])
    def test_segments_reach_to_the_end_and_no_further(self, fetched: dict[str, NeuralAudioCodec], frames: int) -> None:
        codec = fetched["encodec"]
        original = Audio(music(48000, 2, 2.0).waveform[:, :frames], 48000)
        data = codec.encode(original, "6k_48khz")
        segments = 1 + max(0, -(-(frames - 48000) // 47520))
        last = frames - 47520 * (segments - 1)
        steps = 150 * (segments - 1) + -(-last // 320)
        assert codec.ledger(data).payload == 5 * steps  # four indices of ten bits
        assert codec.ledger(data).side == len(data) - 5 * steps
        assert len(data) - 5 * steps >= 4 * segments
        assert like(original, codec.decode(data))

    def test_a_level_is_coded_for_each_segment(self, fetched: dict[str, NeuralAudioCodec]) -> None:
        codec = fetched["encodec"]
        loud = music(48000, 2, 1.0)
        streams = [codec.encode(Audio(loud.waveform * np.float32(level), 48000), "6k_48khz") for level in (1, 0.25)]
        # header: 3 + 3 + 1 bytes; then the point and two bytes of steps
        first, second = (np.frombuffer(data[10:14], "<f4")[0] for data in streams)
        assert first == pytest.approx(float(np.sqrt(np.mean(loud.waveform.mean(0) ** 2))), rel=1e-4)
        assert second == pytest.approx(first / 4, rel=1e-4)
        decoded = [codec.decode(data).waveform for data in streams]
        assert np.std(decoded[1]) == pytest.approx(np.std(decoded[0]) / 4, rel=0.02)

    @at_every_point
    def test_give_back_any_length_rate_and_channels(self, fetched: dict[str, NeuralAudioCodec], name: str, quality: str) -> None:
        for sample_rate, channels, frames in ((22050, 1, 1), (8000, 2, 2), (44100, 3, 577), (96000, 1, 3000)):
            original = Audio(speech(sample_rate, channels, 0.1).waveform[:, :frames], sample_rate)
            original = replace(original, waveform=np.resize(original.waveform, (channels, frames)))
            assert like(original, fetched[name].decode(fetched[name].encode(original, quality)))

    @at_every_point
    def test_of_silence_and_of_noise_at_full_scale_come_back(self, fetched: dict[str, NeuralAudioCodec], name: str, quality: str) -> None:
        rng = np.random.default_rng(0)
        for waveform in (np.zeros((1, 4000), np.float32), np.sign(rng.standard_normal((2, 4000))).astype(np.float32)):
            original = Audio(waveform, 16000)
            assert like(original, fetched[name].decode(fetched[name].encode(original, quality)))

    @pytest.mark.parametrize("name", NAMES)
    def test_refuse_damaged_bytes(self, fetched: dict[str, NeuralAudioCodec], name: str) -> None:
        codec = fetched[name]
        for quality in list(codec.points)[:: max(1, len(codec.points) - 1)]:
            original = speech(16000, 1, 0.3)
            data = codec.encode(original, quality)
            for broken in damaged(data):
                with pytest.raises(ValueError, match=name) as caught:
                    codec.decode(broken)
                assert "0x" not in str(caught.value)
            with pytest.raises(ValueError, match=name):
                codec.decode(data + b"\0")
            with pytest.raises(ValueError, match=name):
                codec.decode(data[:5] + bytes([len(codec.points)]) + data[6:])
            never_changes_the_shape(codec, original, data, 20)

    @pytest.mark.parametrize("name", NAMES)
    def test_write_the_same_whatever_else_torch_does(self, fetched: dict[str, NeuralAudioCodec], name: str) -> None:
        import torch

        codec, before = fetched[name], torch.get_num_threads()
        jobs = [(sound, quality) for sound in (speech(16000, 1, 0.4), music(48000, 2, 0.4)) for quality in codec.ladder]
        alone = [codec.encode(*job) for job in jobs]
        decoded = [codec.decode(data).waveform.tobytes() for data in alone]
        try:
            torch.set_num_threads(3)
            fresh = type(codec)()
            with ThreadPoolExecutor(4) as pool:
                assert list(pool.map(lambda job: fresh.encode(*job), jobs)) == alone
                assert [sound.waveform.tobytes() for sound in pool.map(fresh.decode, alone)] == decoded
            assert torch.get_num_threads() == 3
        finally:
            torch.set_num_threads(before)

    @pytest.mark.parametrize("name", NAMES)
    def test_leave_torchs_threads_as_they_were(self, fetched: dict[str, NeuralAudioCodec], name: str) -> None:
        import torch

        before = torch.get_num_threads()
        fetched[name].encode(speech(16000, 1, 0.1), fetched[name].ladder[0])
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == before
        assert torch.get_num_threads() == before

    def test_in_another_process_are_the_same(self, fetched: dict[str, NeuralAudioCodec], tmp_path: Path) -> None:
        import huggingface_hub.constants

        program = (
            "import hashlib, sys; from mpq_fixtures.codecs import registered; from trial_signals import music\n"
            "for name in ('encodec', 'dac', 'mimi'):\n"
            "    codec = registered()[name](); data = codec.encode(music(24000, 2, 0.5), codec.ladder[1])\n"
            "    print(hashlib.sha256(data).hexdigest(), hashlib.sha256(codec.decode(data).waveform.tobytes()).hexdigest())\n"
        )
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "3"}
        environment |= {"HF_HUB_CACHE": huggingface_hub.constants.HF_HUB_CACHE, "HF_HUB_OFFLINE": "1"}
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=300)
        expected = []
        for name in ("encodec", "dac", "mimi"):
            data = fetched[name].encode(music(24000, 2, 0.5), fetched[name].ladder[1])
            content = fetched[name].decode(data).waveform.tobytes()
            expected.append(f"{hashlib.sha256(data).hexdigest()} {hashlib.sha256(content).hexdigest()}")
        assert run.stdout.splitlines() == expected

    def test_qualities_of_every_network_are_understood_and_no_others(self) -> None:
        codec = registered()["encodec"]()
        assert codec.ladder == ("1.5k", "3k", "6k", "12k", "24k")
        codec.check("6k_48khz")
        for quality in ("1.5k_48khz", "7k", "q5"):
            with pytest.raises(CodecError, match="6k_48khz"):
                codec.check(quality)

    @pytest.mark.parametrize("name", NAMES)
    def test_are_not_taken_unasked_and_load_nothing_when_made(self, name: str) -> None:
        assert not registered()[name].automatic
        assert registered()[name]()._networks == {}  # type: ignore[attr-defined]


class TestTheirWeights:
    @pytest.fixture
    def hub(self, filled: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoopbackHub:
        ask(filled.url, tmp_path, monkeypatch)
        filled.requests.clear()
        filled.damaged.clear()
        return filled

    def test_that_are_not_here_are_named_with_the_command_that_brings_them(self, hub: LoopbackHub) -> None:
        codec = registered()["mimi"]()
        assert codec.missing() == "its weights, kyutai/mimi, are not here: mpq fetch --codec mimi"
        assert "absent" in codec.build()
        with pytest.raises(MissingAsset, match=r"codec mimi: .*mpq fetch --codec mimi"):
            codec.prepare()
        with pytest.raises(MissingAsset, match="mpq fetch --codec mimi"):
            codec.decode(bytes([0x80, 0x7D, 1, 1, 0, 1]) + bytes(6))
        assert not hub.requests

    def test_come_as_safetensors_and_configuration_and_count_in_the_build(self, hub: LoopbackHub, capsys: Any) -> None:
        assert main(["fetch", "--codec", "mimi"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "mimi: everything is here"
        codec: Any = registered()["mimi"]()
        folder = codec._folder("kyutai/mimi")
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
        assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() in codec.build()
        assert codec.missing() == ""
        hub.requests.clear()
        assert main(["fetch", "--codec", "mimi"]) == 0
        assert not hub.requests

    def test_that_come_damaged_are_refused(self, hub: LoopbackHub, capsys: Any) -> None:
        hub.damaged.add("model.safetensors")
        assert main(["fetch", "--codec", "mimi"]) == 1
        assert "codec mimi: kyutai/mimi: model.safetensors came damaged" in capsys.readouterr().err
        assert registered()["mimi"]().missing()

    def test_in_pickles_are_not_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        with LoopbackHub() as hub:
            hub.add("model", "kyutai/mimi", {"config.json": b"{}", "pytorch_model.bin": b"PK"})
            ask(hub.url, tmp_path, monkeypatch)
            assert main(["fetch", "--codec", "mimi"]) == 1
            assert "it has no model.safetensors" in capsys.readouterr().err
            assert not hub.asked_for("pytorch_model.bin")

    def test_without_a_hub_are_told_of_in_a_sentence(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
        ask("http://127.0.0.1:9", tmp_path, monkeypatch)
        assert main(["fetch", "--codec", "mimi"]) == 1
        assert "codec mimi: kyutai/mimi is not here, and http://127.0.0.1:9 cannot be reached" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (lambda: encodec(sampling_rate=24000, target_bandwidths=[1.5, 3.0, 6.0]), "24000 Hz"),
            (lambda: encodec(sampling_rate=16000, codebook_size=512, target_bandwidths=[1.5, 3.0, 6.0]), "codebooks of 512"),
            (lambda: mimi(), "MimiModel"),
        ],
    )
    def test_of_another_network_are_refused(self, tmp_path: Path, other: Callable[[], Callable[[Path], None]], message: str) -> None:
        other()(tmp_path)
        with pytest.raises(AssetError, match=message):
            like_rvq_pocket(tmp_path)().encode(speech(16000, 1, 0.1), "3k")

    def test_that_lack_a_part_are_refused(self, tmp_path: Path) -> None:
        from safetensors.torch import load_file, save_file

        encodec(sampling_rate=16000, target_bandwidths=[1.5, 3.0, 6.0])(tmp_path)
        file = tmp_path / "model.safetensors"
        save_file({name: values for name, values in load_file(file).items() if "decoder.layers.0" not in name}, file, {"format": "pt"})
        with pytest.raises(AssetError, match="lacks"):
            like_rvq_pocket(tmp_path)().encode(speech(16000, 1, 0.1), "3k")

    def test_in_the_names_of_older_checkpoints_are_read(self, tmp_path: Path) -> None:
        """facebook/encodec_* were saved when torch called the parts of a normalised weight weight_g and weight_v."""
        from safetensors.torch import load_file, save_file

        encodec(sampling_rate=16000, target_bandwidths=[1.5, 3.0, 6.0])(tmp_path)
        expected = like_rvq_pocket(tmp_path)().encode(speech(16000, 1, 0.2), "3k")
        file = tmp_path / "model.safetensors"
        old = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
        renamed = {}
        for name, values in load_file(file).items():
            for new, older in old.items():
                name = name.replace(new, older)
            renamed[name] = values
        assert any(name.endswith("weight_g") for name in renamed)
        save_file(renamed, file, {"format": "pt"})
        assert like_rvq_pocket(tmp_path)().encode(speech(16000, 1, 0.2), "3k") == expected


class TestThePocketsOwn:
    def test_has_the_points_that_its_network_was_trained_for(self, tmp_path: Path) -> None:
        encodec(sampling_rate=16000, target_bandwidths=[1.5, 3.0, 6.0])(tmp_path / "one")
        assert points_of(tmp_path / "one") == like_rvq_pocket(tmp_path / "one").points
        encodec(sampling_rate=16000, upsampling_ratios=[10, 20], codebook_size=256, target_bandwidths=[1.28, 6.4])(tmp_path / "other")
        points = points_of(tmp_path / "other")
        assert {name: (point.codebooks, point.bits, point.hop) for name, point in points.items()} == {
            "1.28k": (2, 8, 200),
            "6.4k": (10, 8, 200),
        }
        assert [point.kbps for point in points.values()] == [1.28, 6.4]

    def test_is_whole_and_needs_no_download(self) -> None:
        codec = RvqPocket()
        if not FOLDER.is_dir():
            pytest.skip("the pocket's weights are not trained yet")
        assert codec.missing() == ""
        original = speech(16000, 1, 2.0)
        likeness = []
        for quality in codec.ladder:
            decoded = codec.decode(codec.encode(original, quality))
            assert like(original, decoded)
            likeness.append(si_sdr(original, decoded))
        assert likeness == sorted(likeness)
