"""Evaluations without labels: a model's own answers on the originals as targets, folders of files, and embeddings."""

from __future__ import annotations

import io
import math
import shutil
from pathlib import Path
from typing import Any

import hub_replicas as replicas
import numpy as np
import pytest
from PIL import Image as Picture
from projects import Project

from mpq_fixtures.datasets import load_dataset
from mpq_fixtures.errors import AssetError
from mpq_fixtures.metrics.cosine_similarity import CosineSimilarity
from mpq_fixtures.metrics.neighbours import NeighboursKept, shares_kept
from mpq_fixtures.suite import SuiteError
from mpq_fixtures.suite.file import load_suite
from mpq_fixtures.tasks import find_task

POCKET = Path(__file__).parents[1] / "mpq_fixtures" / "pocket"
VIT, SEGFORMER, WHISPER, DEMUCS = (POCKET / "models" / f"{name}_pocket" for name in ("vit", "segformer", "whisper", "demucs"))
COUNT = 24

SUITE = """
name = "tried"

[[evaluation]]
name = "seen"
task = "image_classification"
model = "{vit}"
dataset = {{ path = "photos" }}
targets = "original"
codecs = ["jpeg"]
qualities = {{ jpeg = ["q5", "q90"] }}

[[evaluation]]
name = "mapped"
task = "image_segmentation"
model = "{segformer}"
dataset = {{ path = "photos" }}
targets = "original"
codecs = ["jpeg"]
qualities = {{ jpeg = ["q5"] }}
samples = 3

[[evaluation]]
name = "heard"
task = "speech_recognition"
model = "{whisper}"
dataset = {{ path = "calls" }}
targets = "original"
codecs = ["mp3"]
qualities = {{ mp3 = ["8k"] }}
samples = 6

[[evaluation]]
name = "parted"
task = "source_separation"
model = "{demucs}"
dataset = {{ path = "calls" }}
targets = "original"
codecs = ["mp3"]
qualities = {{ mp3 = ["8k"] }}
samples = 2

[[evaluation]]
name = "turned"
task = "image_embedding"
model = "{vit}"
dataset = {{ path = "photos" }}
codecs = ["jpeg"]
qualities = {{ jpeg = ["q5"] }}
"""


FLAT = """
import numpy as np


class Flat:
    def predict(self, signals):
        return [np.zeros(signal.pixels.shape[:2], int) for signal in signals]


def load(device):
    return Flat()
"""


def picture(number: int) -> Picture.Image:
    """Something between two textures, so that compression turns some answers."""
    generator = np.random.default_rng(number)
    coarse, fine = generator.integers(0, 256, (14, 14, 3)), generator.integers(0, 256, (112, 112, 3))
    share = generator.random()
    mixed = share * np.kron(coarse, np.ones((16, 16, 1))) + (1 - share) * np.kron(fine, np.ones((2, 2, 1)))
    return Picture.fromarray(mixed.astype(np.uint8))


def decoded(number: int, quality: int) -> Picture.Image:
    buffer = io.BytesIO()
    picture(number).save(buffer, "JPEG", quality=quality)
    return Picture.open(buffer).convert("RGB")


def lay_out(folder: Path) -> None:
    for number in range(COUNT):
        file = folder / "photos" / ("" if number % 2 else "summer/lake") / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    (folder / "photos" / "notes.txt").write_text("no picture")
    (folder / "photos" / ".hidden.png").write_bytes(b"")
    (folder / "calls").mkdir()
    for file in sorted((POCKET / "speech").glob("*.flac"))[:6]:
        shutil.copy(file, folder / "calls")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("unlabelled"))
    lay_out(project.suites)
    project.write("evaluations/suites/tried.toml", SUITE.format(vit=VIT, segformer=SEGFORMER, whisper=WHISPER, demucs=DEMUCS))
    run = project.run("--mpq-cache", "store", report=True)
    assert run.ret == 0
    run.stdout.fnmatch_lines(["agreement with the model's own answers on the originals, which is not accuracy: seen, mapped, *"])
    return project


@pytest.fixture(scope="module")
def rows(project: Project) -> dict[str, dict[str, str]]:
    return project.rows()


class TestOwnAnswers:
    @pytest.mark.parametrize(("evaluation", "best"), [("seen", 1), ("mapped", 1), ("heard", 1), ("parted", 100), ("turned", 1)])
    def test_on_the_originals_agree_with_themselves(self, rows: dict[str, dict[str, str]], evaluation: str, best: float) -> None:
        assert float(rows[f"{evaluation}-original"]["value"]) == best

    def test_are_what_points_are_held_against(self, rows: dict[str, dict[str, str]]) -> None:
        from transformers import pipeline

        said = pipeline("image-classification", model=str(VIT), top_k=1, device="cpu")
        originals = [said(picture(number))[0]["label"] for number in range(COUNT)]
        assert len(set(originals)) > 1
        for quality in (5, 90):
            same = sum(said(decoded(number, quality))[0]["label"] == label for number, label in enumerate(originals))
            assert float(rows[f"seen-jpeg-q{quality}"]["value"]) == pytest.approx(same / COUNT, abs=1e-6)

    def test_lose_by_compression(self, rows: dict[str, dict[str, str]]) -> None:
        for case in ("mapped-jpeg-q5", "heard-mp3-8k", "turned-jpeg-q5"):
            assert float(rows[case]["value"]) < 0.99, case
        assert float(rows["parted-mp3-8k"]["value"]) < 30

    def test_are_asked_for_once(self, project: Project) -> None:
        work = project.results()["work"]["computed"]
        assert work["prediction"] == 3 * COUNT + 2 * 3 + 2 * 6 + 2 * 2 + 2 * COUNT

    def test_are_the_targets_that_are_shown(self, project: Project) -> None:
        samples = project.samples()
        seen = samples[samples["case"] == "seen-jpeg-q5"].set_index("sample")
        originals = samples[samples["case"] == "seen-original"].set_index("sample")
        assert (seen["target"] == originals["prediction"].loc[seen.index]).all()

    def test_are_called_agreement_in_the_report(self, project: Project) -> None:
        page = project.out("report.html").read_text()
        assert "this is agreement, not accuracy" in page
        assert "agreement (top-1 accuracy)" in page.lower()

    def test_give_the_same_on_two_workers(self, project: Project) -> None:
        assert project.run("--mpq-cache", "another", "--mpq-out", "two", "-n", "2").ret == 0
        assert project.out("results.csv", "two").read_bytes() == project.out("results.csv").read_bytes()

    def test_are_asked_for_again_where_the_store_has_lost_them(self, project: Project) -> None:
        shutil.copytree(project.folder / "store", project.folder / "partial")
        for file in project.folder.glob("partial/*/prediction/*"):
            file.unlink()
        for file in project.folder.glob("partial/*/statistic/*"):
            file.unlink()
        assert project.run("--mpq-cache", "partial", "--mpq-out", "again", "-k", "seen-jpeg").ret == 0
        assert project.rows("again")["seen-jpeg-q5"]["value"] == project.rows()["seen-jpeg-q5"]["value"]

    def test_are_another_measure_than_labels_to_a_baseline(self, project: Project) -> None:
        labelled = SUITE.format(vit=VIT, segformer=SEGFORMER, whisper=WHISPER, demucs=DEMUCS).split("[[evaluation]]")[1]
        text = f'name = "tried"\n[[evaluation]]{labelled}'.replace('"photos"', '"python:mpq_fixtures.pocket.textures:classification"')
        project.write("evaluations/suites/other.toml", text + "samples = 12\n")
        assert project.run("--mpq-update-baselines", "--mpq-out", "one", suite="other").ret == 0
        project.write("evaluations/suites/other.toml", text.replace('targets = "original"\n', "") + "samples = 12\n")
        run = project.run("--mpq-out", "one", suite="other")
        assert run.ret == 1
        assert "targets" in project.rows("one")["seen-original"]["reason"]


class TestBoth:
    def test_measures_accuracy_and_agreement_from_the_same_predictions(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        evaluation = (
            '[[evaluation]]\nname = "{0}"\ntask = "image_classification"\nmodel = "{1}"\ntargets = "{2}"\nsamples = 40\n'
            'dataset = {{ path = "python:mpq_fixtures.pocket.textures:classification" }}\ncodecs = ["jpeg"]\n'
        )
        ways = {"right": "labels", "alike": "original", "twice": "both"}
        tables = "".join(evaluation.format(name, VIT, targets) for name, targets in ways.items())
        project.write("evaluations/suites/tried.toml", f'name = "tried"\n{tables}')
        assert project.run(report=True).ret == 0
        rows = project.rows()
        for point in ("jpeg-q5", "jpeg-q10", "jpeg-q90"):
            assert rows[f"twice-{point}"]["value"] == rows[f"right-{point}"]["value"]
            assert rows[f"twice-{point}"]["agreement"] == rows[f"alike-{point}"]["value"]
        assert rows["twice-jpeg-q5"]["value"] != "1.0"
        entry = next(one for one in project.results()["similarity"] if (one["evaluation"], one["metric"]) == ("twice", "agreement"))
        assert entry["rho"] == pytest.approx(1)
        assert "agreement with the originals" in project.out("report.html").read_text()


class TestMistakes:
    def suite(self, tmp_path: Path, **changes: str) -> Path:
        fields = {"name": '"tried"', "task": '"image_classification"', "model": f'"{VIT}"', "dataset": '{ path = "photos" }'} | changes
        file = tmp_path / "own.toml"
        file.write_text('name = "own"\n[[evaluation]]\n' + "".join(f"{key} = {value}\n" for key, value in fields.items()))
        return file

    def test_a_column_that_would_not_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteError, match='dataset: label is not read with targets = "original": leave it out, or'):
            load_suite(self.suite(tmp_path, targets='"original"', dataset='{ path = "photos", label = "animal" }'))

    def test_other_targets(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteError, match="targets: unknown 'originals'; did you mean 'original'"):
            load_suite(self.suite(tmp_path, targets='"originals"'))

    def test_both_where_statistics_have_no_one_shape(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteError, match='"both" is not possible for object_detection'):
            load_suite(self.suite(tmp_path, task='"object_detection"', targets='"both"'))

    def test_labels_of_a_task_that_has_none(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteError, match="targets: unknown 'labels'"):
            load_suite(self.suite(tmp_path, task='"image_embedding"', targets='"labels"'))

    def test_a_pooling_that_there_is_not(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteError, match=r"pooling: unknown 'max'; did you mean 'mean'\? There are: auto, first, mean"):
            load_suite(self.suite(tmp_path, task='"image_embedding"', options='{ pooling = "max" }'))

    @pytest.mark.parametrize(
        ("name", "said"),
        [("", "there are no pictures in .*, nor below it; expected files that end in .avif, "), ("a.wav", "it holds sounds: image_")],
    )
    def test_a_folder_without_pictures(self, tmp_path: Path, name: str, said: str) -> None:
        (tmp_path / "photos/deep").mkdir(parents=True)
        (tmp_path / "photos/deep" / (name or "x.txt")).touch()
        with pytest.raises(AssetError, match=said):
            load_dataset(load_suite(self.suite(tmp_path, targets='"original"'))[0])

    def test_a_folder_that_is_read_with_labels_still_needs_a_table(self, tmp_path: Path) -> None:
        lay_out(tmp_path)
        with pytest.raises(AssetError, match="label"):
            load_dataset(load_suite(self.suite(tmp_path))[0])

    def test_a_damaged_picture_is_its_own_failure(self, tmp_path: Path) -> None:
        lay_out(tmp_path)
        (tmp_path / "photos" / "00.jpg").write_bytes(b"broken")
        dataset = load_dataset(load_suite(self.suite(tmp_path, targets='"original"'))[0])
        assert [sample.id for sample in dataset.samples][:2] == ["00.jpg", "01.png"]
        assert {sample.id for sample in dataset.samples} >= {"summer/lake/02.png"}
        with pytest.raises(ValueError, match="not an image"):
            dataset.samples[0].signal()

    def test_a_model_that_names_no_classes_of_maps(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        lay_out(project.suites)
        project.write("evaluations/suites/flat.py", FLAT)
        text = SUITE.format(vit=VIT, segformer="python:flat:load", whisper=WHISPER, demucs=DEMUCS).split("[[evaluation]]")
        project.write("evaluations/suites/tried.toml", f"{text[0]}[[evaluation]]{text[2]}")
        run = project.run()
        assert run.ret == 1
        run.stdout.fnmatch_lines(['*mapped: the model names no classes (*): write labels = [[]"wall", ...] in the data set*'])


class TestEmbeddings:
    def test_turn_as_far_as_a_library_says(self, rows: dict[str, dict[str, str]]) -> None:
        from sklearn.metrics.pairwise import cosine_similarity
        from sklearn.neighbors import NearestNeighbors

        model = find_task("image_embedding").load(str(VIT), "cpu")
        originals, coded = (np.stack(model.predict([signal(one(number)) for number in range(COUNT)]))
                            for one in (picture, lambda number: decoded(number, 5)))  # fmt: skip
        cosines = np.diag(cosine_similarity(coded.astype(float), originals.astype(float)))
        assert float(rows["turned-jpeg-q5"]["value"]) == pytest.approx(cosines.mean(), abs=1e-5)
        search = NearestNeighbors(n_neighbors=11, metric="cosine").fit(originals)
        kept = []
        for number in range(COUNT):
            before, after = ([place for place in search.kneighbors(vectors[number : number + 1])[1][0] if place != number][:10]
                             for vectors in (originals, coded))  # fmt: skip
            kept.append(len({*before} & {*after}) / 10)
        assert float(rows["turned-jpeg-q5"]["neighbours"]) == pytest.approx(np.mean(kept), abs=1e-5)

    def test_keep_all_neighbours_where_nothing_changes(self) -> None:
        vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
        assert shares_kept(vectors, vectors) == [1.0] * 40

    @pytest.mark.parametrize("answer", [math.nan, math.inf, 0.0])
    def test_that_point_nowhere_keep_no_neighbours_and_are_none(self, answer: float) -> None:
        vectors = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
        broken = vectors.copy()
        broken[3] = answer
        np.testing.assert_array_equal(shares_kept(broken, vectors), [1.0] * 3 + [math.nan] + [1.0] * 8)
        np.testing.assert_array_equal(shares_kept(vectors, broken), [1.0] * 3 + [math.nan] + [1.0] * 8)
        assert math.isnan(NeighboursKept().value(shares_kept(broken, vectors)))

    @pytest.mark.parametrize("samples", [1, 2])
    def test_of_too_few_samples_have_no_share(self, samples: int) -> None:
        vectors = np.random.default_rng(0).normal(size=(samples, 8)).astype(np.float32)
        assert np.isnan(shares_kept(vectors, vectors)).all()

    def test_have_an_interval_for_their_neighbours(self, project: Project) -> None:
        case = next(one for one in project.results()["cases"] if one["case"] == "turned-jpeg-q5")
        kept = case["metrics"]["neighbours"]
        assert kept["ci_low"] < kept["value"] < kept["ci_high"]

    @pytest.mark.parametrize("pooling", ["auto", "first", "mean"])
    def test_of_a_vision_transformer(self, pooling: str, tmp_path: Path) -> None:
        import torch
        from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

        torch.manual_seed(0)
        config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16)
        network, processor = ViTModel(config).eval(), ViTImageProcessorPil(size={"height": 32, "width": 32})
        network.save_pretrained(tmp_path)
        processor.save_pretrained(tmp_path)
        with torch.inference_mode():
            output = network(**processor(picture(0), return_tensors="pt"))
        wanted = {"auto": output.pooler_output, "first": output.last_hidden_state[:, 0], "mean": output.last_hidden_state.mean(1)}[pooling]
        (vector,) = find_task("image_embedding").load(str(tmp_path), "cpu", pooling=pooling).predict([signal(picture(0))])
        assert np.allclose(vector, wanted[0].numpy(), atol=1e-6)

    def test_take_no_summary_that_was_never_trained(self) -> None:
        one, other = (find_task("image_embedding").load(str(VIT), "cpu").predict([signal(picture(0))])[0] for _ in range(2))
        assert np.array_equal(one, other)

    def test_of_sounds_of_several_lengths(self, tmp_path: Path) -> None:
        import torch
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        torch.manual_seed(0)
        config = Wav2Vec2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8), conv_kernel=(10, 3),
            conv_stride=(5, 2), num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        )  # fmt: skip
        network, extractor = Wav2Vec2Model(config).eval(), Wav2Vec2FeatureExtractor()
        network.save_pretrained(tmp_path)
        extractor.save_pretrained(tmp_path)
        sounds = [replicas.tone(seed, seconds, 16000, 1)[:, :1].T.astype(np.float32) for seed, seconds in ((1, 0.5), (2, 0.25), (3, 0.5))]
        from mpq_fixtures.signals import Audio

        found = find_task("audio_embedding").load(str(tmp_path), "cpu").predict([Audio(sound, 16000) for sound in sounds])
        for sound, vector in zip(sounds, found, strict=True):
            with torch.inference_mode():
                inputs = extractor(sound[0], sampling_rate=16000, return_tensors="pt")
                assert np.allclose(vector, network(**inputs).last_hidden_state.mean(1)[0].numpy(), atol=1e-5)

    @pytest.mark.parametrize("fusion", [False, True])
    def test_by_clap_are_of_the_first_ten_seconds(self, tmp_path: Path, fusion: bool) -> None:
        """Its extractor cuts out a stretch at random of what is longer."""
        import torch
        from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

        from mpq_fixtures.signals import Audio

        torch.manual_seed(0)
        audio = {
            "patch_embeds_hidden_size": 16, "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2], "num_hidden_layers": 4,
            "hidden_size": 128, "enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None, "enable_patch_fusion": fusion,
        }  # fmt: skip
        words = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50}
        network = ClapModel(ClapConfig(text_config=words, audio_config=audio, projection_dim=32)).eval()
        extractor = ClapFeatureExtractor(truncation="fusion" if fusion else "rand_trunc")
        network.save_pretrained(tmp_path)
        extractor.save_pretrained(tmp_path)
        sound = replicas.tone(1, 13, 48000, 1)[:, :1].T.astype(np.float32)
        found = find_task("audio_embedding").load(str(tmp_path), "cpu").predict([Audio(sound, 48000)] * 2)
        with torch.inference_mode():
            inputs = extractor(sound[0, :480_000], sampling_rate=48000, return_tensors="pt")
            wanted = network.get_audio_features(**inputs).pooler_output[0].numpy()
        for vector in found:
            assert np.allclose(vector, wanted, atol=1e-5)

    def test_of_several_lengths_are_the_model_s_fault(self) -> None:
        with pytest.raises(AssetError, match="the model gives vectors of 2, 3 numbers"):
            find_task("image_embedding").observe_set([np.ones(2), np.ones(3)], [np.ones(2), np.ones(3)])

    def test_of_ones_own_model(self) -> None:
        class Mine:
            def embed(self, signals: Any) -> Any:
                return [np.ones(3) for _ in signals]

        task = find_task("image_embedding")
        assert len(task.adopt(Mine()).predict([1, 2])) == 2
        with pytest.raises(TypeError, match="which has no embed"):
            task.adopt(object())
        with pytest.raises(TypeError, match="an embedding is a vector of numbers for each signal, not \\[2, 2\\]"):
            task.to_bytes(np.zeros((2, 2)))

    def test_that_cannot_be_compared(self) -> None:
        metric = CosineSimilarity()
        assert np.isnan(metric.observe(np.array([np.nan, 1]), np.ones(2)))
        with pytest.raises(ValueError, match="points nowhere"):
            metric.observe(np.zeros(2), np.ones(2))
        with pytest.raises(ValueError, match=r"not \[2\] with \[3\]"):
            metric.observe(np.ones(2), np.ones(3))
        assert metric.observe(np.full(3, 0.1), np.full(3, 0.1)) == 1


def signal(picture: Picture.Image) -> Any:
    from mpq_fixtures.signals import Image

    return Image(np.asarray(picture))
