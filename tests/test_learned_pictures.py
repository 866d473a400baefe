"""CompressAI's models in their own environment, with weights of the real format that the tests make."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from loopback_files import served
from trial_signals import photo

from mpq_fixtures.codecs import Codec, from_address, hyperprior_pocket
from mpq_fixtures.codecs._compressai import Stream, ZooCodec
from mpq_fixtures.codecs.bmshj2018 import Bmshj2018
from mpq_fixtures.codecs.cheng2020 import Cheng2020
from mpq_fixtures.codecs.hyperprior_pocket import HyperpriorPocket
from mpq_fixtures.codecs.mbt2018 import Mbt2018
from mpq_fixtures.conformance.fuzz import fuzz
from mpq_fixtures.errors import AssetError, MissingAsset
from mpq_fixtures.isolation.environment import Environment, clean_environment
from mpq_fixtures.signals import Image

ROOT = Path(__file__).parent.parent
WORKER = ROOT / "mpq_fixtures" / "isolation" / "compressai_worker.py"
ZOO: dict[type[ZooCodec], tuple[int, ...]] = {Mbt2018: (16, 24), Bmshj2018: (16, 24), Cheng2020: (16,)}
"""The codecs with the sizes of their small stand-ins: N and M, which the real files have as 128 to 192 and 192 to 320."""

WRITE_WEIGHTS = """
import sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
from compressai_worker import Models
import torch
from safetensors.torch import save_file

models = Models()
for job in sys.argv[3:]:
    name, architecture, sizes, quality, form = job.split(":")
    torch.manual_seed(1)
    model = models._zoo.model_architectures[architecture](*map(int, sizes.split(",")))
    parts = model.g_a, getattr(model, "entropy_parameters", model.h_s)
    last, predicts = ([layer for layer in part.modules() if hasattr(layer, "bias")][-1] for part in parts)
    last.weight *= 20 * 4 ** int(quality)  # or the latents of random weights would all be nought
    predicts.bias += int(quality)  # so that each quality expects other latents
    folder = Path(sys.argv[2])
    if form == "safetensors":
        model.update()
        halved = {key: value.half() if value.dim() == 4 else value for key, value in model.state_dict().items()}
        save_file(halved, folder / f"{name}.safetensors", {"architecture": architecture})
    elif form == "old":  # as the files of the zoo name parts, and of several GPUs
        renamed = {f"module.{key}".replace(".matrices.", "._matrices."): value for key, value in model.state_dict().items()}
        torch.save(renamed, folder / name)
    else:
        model.update()
        torch.save(model.state_dict(), folder / name)
"""


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter of the environment, which is made where it is not on this machine."""
    try:
        return Environment(WORKER, "hyperprior_pocket").make()
    except MissingAsset as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def shelf(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two qualities of each codec, the names of the files ending as those of the zoo do, and the pocket codec's three."""
    folder = tmp_path_factory.mktemp("shelf")
    jobs = [
        f"{codec.architecture}-{number}:{codec.architecture}:{','.join(map(str, sizes))}:{number}:new"
        for codec, sizes in ZOO.items()
        for number in (1, 2)
    ]
    jobs += [f"q{number}:mbt2018-mean:16,24:{number}:safetensors" for number in (1, 2, 3)]
    jobs += [f"old-{Bmshj2018.architecture}:{Bmshj2018.architecture}:16,24:1:old"]
    subprocess.run([str(python), "-c", WRITE_WEIGHTS, str(WORKER), str(folder), *jobs], check=True, env=clean_environment(), timeout=300)
    for file in [file for file in folder.iterdir() if file.suffix != ".safetensors"]:
        digits = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
        file.rename(folder / f"{file.name}-{digits}.pth.tar")
    return folder


@pytest.fixture
def weights(shelf: Path, python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MPQ_WEIGHTS with the files, and an empty cache."""
    monkeypatch.setenv("MPQ_ENVIRONMENTS", str(python.parents[2]))
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    monkeypatch.setattr(hyperprior_pocket, "FOLDER", shelf)
    monkeypatch.setenv("MPQ_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "compressai").symlink_to(shelf)
    return shelf


CODECS: list[Callable[[], Codec]] = [*ZOO, HyperpriorPocket]
each = pytest.mark.parametrize("make", CODECS, ids=lambda make: make.name)
each_of_the_zoo = pytest.mark.parametrize("make", ZOO, ids=lambda make: make.name)


class TestEachCodec:
    @each
    @pytest.mark.parametrize("size", [(1, 1), (33, 17), (64, 64), (65, 130)])
    def test_gives_pictures_back_in_their_size(self, weights: Path, make: Callable[[], Codec], size: tuple[int, int]) -> None:
        codec = make()
        for quality in ("q1", "q2"):
            decoded = codec.decode(codec.encode(photo(*size), quality))
            assert decoded.pixels.shape == (*size, 3)
            assert decoded.pixels.dtype == np.uint8
            assert decoded.pixels.flags.writeable

    @each
    def test_writes_the_same_bytes_again_and_more_at_the_higher_quality(self, weights: Path, make: Callable[[], Codec]) -> None:
        codec = make()
        first = codec.encode(photo(96, 96), "q1")
        assert len(codec.encode(photo(96, 96), "q2")) > len(first) > 100
        assert make().encode(photo(96, 96), "q1") == first

    @each
    def test_says_what_the_bytes_are_spent_on(self, weights: Path, make: Callable[[], Codec]) -> None:
        codec = make()
        data = codec.encode(photo(96, 96), "q1")
        stream = Stream.of(data)
        ledger = codec.ledger(data)
        assert (ledger.payload, ledger.container) == (len(stream.latents), 0)
        assert ledger.payload + ledger.side == len(data)
        assert ledger.side == len(stream.hyperprior) + 2 + 4 + len(b"qhw") + (1 if len(stream.hyperprior) < 128 else 2)
        assert ledger.payload > ledger.side / 4

    @each
    def test_refuses_damaged_bytes(self, weights: Path, make: Callable[[], Codec]) -> None:
        codec, rng = make(), np.random.default_rng(0)
        data = codec.encode(photo(70, 70), "q1")
        for cut in range(0, len(data), 9):
            with pytest.raises(ValueError, match=f"not a readable {codec.name} stream"):
                codec.decode(data[:cut])
        for place in range(len(data)):
            flipped = data[:place] + bytes([data[place] ^ int(rng.integers(1, 256))]) + data[place + 1 :]
            with pytest.raises(ValueError, match=f"not a readable {codec.name} stream"):
                codec.decode(flipped)

    @each
    def test_refuses_strings_that_hold_other_latents(self, weights: Path, make: Callable[[], Codec]) -> None:
        """As a decoder whose entropy network differs would read them: the check sum of the bytes is right."""
        codec = make()
        one, other = (Stream.of(codec.encode(photo(size, 70), "q1")) for size in (70, 80))
        for stream in (
            Stream(one.check, "q1", 70, 70, one.hyperprior, other.latents),
            Stream(one.check, "q1", 70, 70, one.hyperprior, one.latents[: len(one.latents) // 8 * 4]),
            Stream(one.check, "q1", 70, 70, b"", b""),
            Stream(one.check, "q2", 70, 70, one.hyperprior, one.latents),
        ):
            with pytest.raises(ValueError, match="decoded latents are not those that were encoded"):
                codec.decode(stream.to_bytes())

    @each
    def test_refuses_sizes_and_qualities_that_cannot_be(self, weights: Path, make: Callable[[], Codec]) -> None:
        codec = make()
        one = Stream.of(codec.encode(photo(70, 70), "q1"))
        for height, width, quality in ((1 << 20, 1 << 20, "q1"), (0, 70, "q1"), (70, 70, "q9"), (70, 70, "q0")):
            with pytest.raises(ValueError, match=f"not a readable {codec.name} stream"):
                codec.decode(Stream(one.check, quality, height, width, one.hyperprior, one.latents).to_bytes())
        for height, width in ((16000, 16000), (7000, 70)):
            with pytest.raises(ValueError, match=f"{height}x{width} pixels take more than {len(one.hyperprior)} bytes of hyperprior"):
                codec.decode(Stream(one.check, "q1", height, width, one.hyperprior, one.latents).to_bytes())
        with pytest.raises(ValueError, match="not uint8"):
            codec.encode(Image(np.zeros((5, 5), np.uint8)), "q1")

    @each
    def test_may_be_asked_by_several_threads(self, weights: Path, make: Callable[[], Codec]) -> None:
        codec = make()
        alone = [codec.encode(photo(64, 64 + size), quality) for size in range(3) for quality in ("q1", "q2")]
        with ThreadPoolExecutor(4) as pool:
            jobs = [(size, quality) for size in range(3) for quality in ("q1", "q2")]
            together = list(pool.map(lambda job: codec.encode(photo(64, 64 + job[0]), job[1]), jobs))
            sizes = [decoded.pixels.shape for decoded in pool.map(codec.decode, together)]
        assert together == alone
        assert sizes == [(64, 64 + size, 3) for size, _ in jobs]

    def test_shares_one_process_with_the_others(self, weights: Path, python: Path) -> None:
        pids = set()
        for make in CODECS:
            make().encode(photo(64, 64), "q1")
            process = make().process()._process  # type: ignore[attr-defined]
            assert process is not None
            pids.add(process.pid)
        assert len(pids) == 1


def test_flat_pictures_are_not_taken_for_damaged_sizes(python: Path) -> None:
    """The hyperprior of the pocket's real weights, which takes the fewest bits there; the limit is what its likeliest symbols take."""
    codec = HyperpriorPocket()
    for level in (0, 128, 255):
        for quality in codec.ladder:
            decoded = codec.decode(codec.encode(Image(np.full((1024, 1024, 3), level, np.uint8)), quality))
            assert decoded.pixels.shape == (1024, 1024, 3)


def test_damaged_sizes_that_were_found_are_refused_at_once(python: Path) -> None:
    """They took gigabytes of memory."""
    assert list(fuzz(HyperpriorPocket(), [4103, 5933])) == []


ELSEWHERE = """
import hashlib, json, sys
from mpq_fixtures.codecs import from_address
from trial_signals import photo
codec = from_address(json.loads(sys.argv[1]))
data = codec.encode(photo(97, 131), "q1")
print(hashlib.sha256(data).hexdigest(), hashlib.sha256(codec.decode(data).pixels.tobytes()).hexdigest())
"""


class TestAnotherProcess:
    @each_of_the_zoo
    def test_writes_and_reads_the_same(self, weights: Path, make: type[ZooCodec]) -> None:
        import json

        codec = make()
        data = codec.encode(photo(97, 131), "q1")
        expected = [hashlib.sha256(content).hexdigest() for content in (data, codec.decode(data).pixels.tobytes())]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
            "OMP_NUM_THREADS": "3",
            "ATEN_CPU_CAPABILITY": "default",  # what stands in the surroundings does not reach the networks
            "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        }
        command = [sys.executable, "-c", ELSEWHERE, json.dumps(codec.address())]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
        assert run.stdout.split() == expected


@pytest.fixture
def bucket(shelf: Path) -> Iterator[str]:
    with served(shelf) as address:
        yield address


class TestWeights:
    @pytest.fixture(autouse=True)
    def nowhere(self, weights: Path, tmp_path: Path) -> None:
        (tmp_path / "weights" / "compressai").unlink()

    def urls(self, shelf: Path, bucket: str, codec: type[ZooCodec]) -> dict[str, str]:
        return {f"q{number}": f"{bucket}/{next(shelf.glob(f'{codec.architecture}-{number}-*')).name}" for number in (1, 2)}

    @each_of_the_zoo
    def test_are_downloaded_and_used(self, shelf: Path, bucket: str, tmp_path: Path, make: type[ZooCodec]) -> None:
        codec, told = make(self.urls(shelf, bucket, make)), list[str]()
        assert codec.missing() == (
            f"its weights of q1, q2 are not here: mpq fetch --codec {make.name}, or set MPQ_WEIGHTS to a folder that holds compressai/"
        )
        with pytest.raises(MissingAsset, match=f"codec {make.name}: its weights of q1, q2 are not here"):
            codec.prepare()
        codec.fetch(told.append)
        assert codec.missing() == ""
        assert sorted(file.name for file in (tmp_path / "cache" / "weights" / "compressai").iterdir()) == sorted(
            url.rpartition("/")[2] for url in self.urls(shelf, bucket, make).values()
        )
        assert any("MB from http://127.0.0.1" in line for line in told)
        assert codec.decode(codec.encode(photo(40, 40), "q2")).pixels.shape == (40, 40, 3)
        assert isinstance(from_address(codec.address()), make)
        count = len(told)
        codec.fetch(told.append)
        assert len(told) == count

    def test_that_are_others_are_refused_with_both_sums(self, shelf: Path, bucket: str, tmp_path: Path) -> None:
        url = self.urls(shelf, bucket, Bmshj2018)["q1"]
        wrong = shelf / "bmshj2018-hyperprior-1-0123abcd.pth.tar"
        wrong.write_bytes((shelf / url.rpartition("/")[2]).read_bytes())
        found = hashlib.sha256(wrong.read_bytes()).hexdigest()
        codec = Bmshj2018({"q1": f"{bucket}/{wrong.name}"})
        with pytest.raises(AssetError, match=rf"its SHA-256 is {found}, not 0123abcd\.\.\.; it was dropped"):
            codec.fetch(lambda _: None)
        assert not list((tmp_path / "cache").rglob("bmshj*"))
        (tmp_path / "weights" / "compressai").mkdir()
        wrong.rename(tmp_path / "weights" / "compressai" / wrong.name)  # put there by hand it is refused as well
        with pytest.raises(Exception, match=rf"its SHA-256 is {found}, not 0123abcd"):
            codec.encode(photo(64, 64), "q1")

    def test_that_do_not_come_are_named(self, bucket: str, tmp_path: Path) -> None:
        codec = Mbt2018({"q1": f"{bucket}/mbt2018-1-00000000.pth.tar"})
        with pytest.raises(MissingAsset, match=r"mbt2018-1-00000000\.pth\.tar could not be downloaded \(.*404.*put mbt2018-1-"):
            codec.fetch(lambda _: None)
        assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]

    def test_that_hold_code_are_not_run(self, bucket: str, tmp_path: Path, python: Path) -> None:
        (tmp_path / "weights" / "compressai").mkdir()
        file = tmp_path / "weights" / "compressai" / "evil"
        save = (
            "import torch, os, sys\n"
            "class Evil:\n"
            "    def __reduce__(self): return (os.mkdir, (sys.argv[2],))\n"
            "torch.save({'g_a.0.weight': Evil()}, sys.argv[1])"
        )
        subprocess.run([str(python), "-c", save, str(file), str(tmp_path / "ran")], check=True, env=clean_environment())
        file.rename(file.with_name(f"mbt2018-1-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth.tar"))
        with pytest.raises(Exception, match="UnpicklingError"):
            Mbt2018().encode(photo(64, 64), "q1")
        assert not (tmp_path / "ran").exists()

    def test_with_the_names_of_older_files_are_read(self, shelf: Path, bucket: str) -> None:
        codec = Bmshj2018({"q1": f"{bucket}/{next(shelf.glob('old-*')).name}"})
        codec.fetch(lambda _: None)
        new = Bmshj2018(self.urls(shelf, bucket, Bmshj2018))
        new.fetch(lambda _: None)
        assert codec.encode(photo(64, 64), "q1") == new.encode(photo(64, 64), "q1")

    @each_of_the_zoo
    def test_of_the_zoo_have_the_names_that_are_looked_for(self, make: type[ZooCodec], python: Path, tmp_path: Path) -> None:
        _, urls = make().process().call("urls", architecture=make.architecture)
        assert [f"q{number}" for number in urls] == list(make.ladder)
        (tmp_path / "weights" / "compressai").mkdir()
        for url in urls.values():
            (tmp_path / "weights" / "compressai" / url.rpartition("/")[2]).touch()
        assert make().missing() == ""


@pytest.mark.skipif(bool(HyperpriorPocket().lack()), reason="the pocket weights are not in this tree")
class TestThePocketCodec:
    def test_beats_jpeg_at_low_rates(self, python: Path) -> None:
        from mpq_fixtures.codecs.jpeg import Jpeg

        def coded(codec: Codec, quality: str) -> tuple[int, float]:
            data = codec.encode(photo(), quality)
            error = np.mean((photo().pixels.astype(float) - codec.decode(data).pixels) ** 2)
            return len(data), float(10 * np.log10(255**2 / error))

        points = [coded(HyperpriorPocket(), quality) for quality in HyperpriorPocket.ladder]
        assert points == sorted(points)
        assert [value for _, value in points] == sorted(value for _, value in points)
        others = [coded(Jpeg(), f"q{number}") for number in range(1, 30)]
        for size, value in points[:2]:
            assert value > next(other for length, other in others if length >= size)
