"""Data sets of users: what a suite file can name, what becomes of its rows, and what is said where it cannot be had."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hub_replicas as replicas
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image as PILImage

from mpq_fixtures.datasets import load_dataset
from mpq_fixtures.datasets.mapped import Feature, Mapped
from mpq_fixtures.datasets.reading import read_mask, size_of_image
from mpq_fixtures.errors import AssetError
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.signals import Audio, Dataset, Image, Sample
from mpq_fixtures.suite import OWN_ANSWERS, Evaluation, SuiteError
from mpq_fixtures.suite.file import load_suite
from mpq_fixtures.tasks import find_task
from mpq_fixtures.tasks._classes import Unnamed, match

Open = Callable[..., Dataset]
STEMS = ("drums", "bass", "other", "vocals")


def evaluation(
    task: str, folder: Path, model: str = "python:model:load", options: dict[str, Any] | None = None, **dataset: Any
) -> Evaluation:
    return Evaluation("tried", "tests", find_task(task), model, dataset, (), folder, options={**find_task(task).options, **(options or {})})


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tables of these tests out of the user's cache."""
    import datasets

    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one data set of each kind."""
    import datasets

    made = tmp_path_factory.mktemp("data")
    for split, count in (("train", 1), ("test", 3)):
        for number, name in enumerate(("cat", "dog")):
            (made / "photos" / split / name).mkdir(parents=True)
            for seed in range(count):
                (made / "photos" / split / name / f"{seed}.jpg").write_bytes(replicas.picture(10 * number + seed))
    (made / "streets/images").mkdir(parents=True)
    for seed in range(2):
        (made / f"streets/images/{seed}.jpg").write_bytes(replicas.picture(seed))
        (made / f"streets/{seed}.png").write_bytes(replicas.class_map(seed))
    (made / "streets/metadata.jsonl").write_text(
        "".join(json.dumps({"file_name": f"images/{seed}.jpg", "mask_file_name": f"{seed}.png"}) + "\n" for seed in range(2))
    )
    (made / "calls").mkdir()
    for seed, (rate, channels) in enumerate(((8000, 1), (44100, 2))):
        soundfile.write(made / f"calls/{seed}.flac", replicas.tone(seed, 0.5, rate, channels), rate)
    (made / "calls/2.wav").write_bytes(b"")
    (made / "calls/metadata.csv").write_text('file_name,sentence\n0.flac,hello\n1.flac,"yes, you"\n2.wav,nothing\n')
    pictures = [{"bytes": replicas.picture(seed), "path": "same.jpg"} for seed in range(4)]
    features = datasets.Features(
        {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["no", "yes"]), "key": datasets.Value("string")}
    )
    columns = {"picture": pictures, "kind": [0, 1, 1, 0], "key": ["a", "b", "c", "d"]}
    (made / "pictures.parquet").write_bytes(replicas.parquet(columns, features))
    table = datasets.load_dataset("parquet", data_files=str(made / "pictures.parquet"), split="train")
    table.save_to_disk(made / "saved")
    datasets.DatasetDict({"train": table, "test": table.select([2, 3])}).save_to_disk(made / "saved_splits")
    import pyarrow
    from pyarrow import parquet

    bare = {"image": [picture["bytes"] for picture in pictures], "label": [0, 2, 1, 1]}
    parquet.write_table(pyarrow.table(bare), made / "bare.parquet")
    (made / "scenes.csv").write_text(
        "file,scene,number\nphotos/test/cat/0.jpg,day,1\nphotos/test/dog/0.jpg,night,2\nphotos/gone.jpg,day,1\n"
    )
    withheld = pyarrow.table({"image": bare["image"], "label": [-1] * 4})
    parquet.write_table(withheld, made / "withheld.parquet")
    replicas.common_voice(made / "voice/en")
    replicas.musdb18hq(made / "musdb18hq", tracks=1)
    (made / "empty").mkdir()
    return made


@pytest.fixture
def opened(folder: Path) -> Open:
    """Open a data set of the folder for a task."""

    def open_it(task: str, options: dict[str, Any] | None = None, **dataset: Any) -> Dataset:
        return load_dataset(evaluation(task, folder, options=options, **dataset))

    return open_it


@pytest.fixture
def classified(opened: Open) -> Open:
    return lambda **dataset: opened("image_classification", **dataset)


def pixels(sample: Sample) -> Any:
    signal = sample.signal()
    assert isinstance(signal, Image)
    return signal.pixels


def sound(sample: Sample) -> Audio:
    signal = sample.signal()
    assert isinstance(signal, Audio)
    return signal


class TestImageFolder:
    def test_gives_pictures_and_classes_by_folder(self, classified: Open, folder: Path) -> None:
        dataset = classified(path="imagefolder", data_dir="photos", split="test")
        assert dataset.labels == ("cat", "dog")
        assert [sample.id for sample in dataset.samples] == [f"test/{name}/{seed}.jpg" for name in ("cat", "dog") for seed in range(3)]
        assert [sample.target() for sample in dataset.samples] == [0, 0, 0, 1, 1, 1]
        file = folder / "photos/test/dog/1.jpg"
        assert dataset.samples[4].stored_bytes == file.stat().st_size
        np.testing.assert_array_equal(pixels(dataset.samples[4]), np.asarray(PILImage.open(file)))

    def test_a_plain_folder_of_such_files_will_do(self, classified: Open) -> None:
        named = classified(path="imagefolder", data_dir="photos", split="test")
        plain = classified(path="./photos", split="test")
        assert [sample.source for sample in plain.samples] == [sample.source for sample in named.samples]

    def test_gives_masks_as_they_are_stored(self, opened: Open, folder: Path) -> None:
        dataset = opened("image_segmentation", path="imagefolder", data_dir="streets")
        assert [sample.id for sample in dataset.samples] == ["images/0.jpg", "images/1.jpg"]
        for number, sample in enumerate(dataset.samples):
            np.testing.assert_array_equal(sample.target(), np.asarray(PILImage.open(folder / f"streets/{number}.png")))
            assert pixels(sample).shape == (48, 64, 3)


class TestAudioFolder:
    def test_keeps_channels_and_rate(self, opened: Open) -> None:
        dataset = opened("speech_recognition", path="audiofolder", data_dir="calls", text="sentence")
        first, second = (sound(sample) for sample in dataset.samples[:2])
        assert (first.sample_rate, first.waveform.shape) == (8000, (1, 4000))
        assert (second.sample_rate, second.waveform.shape) == (44100, (2, 22050))
        np.testing.assert_allclose(second.waveform.T, replicas.tone(1, 0.5, 44100, 2), atol=2**-15)
        assert [sample.target() for sample in dataset.samples] == ["hello", "yes, you", "nothing"]

    def test_an_empty_file_is_that_samples_failure_alone(self, opened: Open) -> None:
        empty = opened("speech_recognition", path="audiofolder", data_dir="calls", text="sentence").samples[2]
        assert empty.stored_bytes == 0
        with pytest.raises(ValueError, match="0 bytes"):
            empty.signal()


class TestTables:
    @pytest.mark.parametrize(
        "table",
        [
            {"path": "parquet", "data_files": "pictures.parquet"},
            {"path": "parquet", "data_files": "pict*.parquet", "split": "train"},
            {"path": "parquet", "data_files": {"valid": ["pictures.parquet"]}, "split": "valid"},
            {"path": "saved"},
            {"path": "saved_splits", "split": "train"},
        ],
        ids=["file", "pattern", "splits", "saved", "saved with splits"],
    )
    def test_hold_pictures_as_bytes(self, classified: Open, table: dict[str, Any]) -> None:
        dataset = classified(**table, image="picture", label="kind")
        assert dataset.labels == ("no", "yes")
        assert [sample.target() for sample in dataset.samples] == [0, 1, 1, 0]
        assert dataset.samples[2].stored_bytes == len(replicas.picture(2))

    def test_hold_bytes_and_numbers_of_no_declared_kind(self, classified: Open) -> None:
        dataset = classified(path="parquet", data_files="bare.parquet")
        assert (dataset.labels, [sample.target() for sample in dataset.samples]) == ((), [0, 2, 1, 1])
        named = classified(path="parquet", data_files="bare.parquet", labels=["a", "b", "c"])
        assert named.labels == ("a", "b", "c")

    def test_name_files_beside_them_and_classes_by_name(self, classified: Open, folder: Path) -> None:
        dataset = classified(path="csv", data_files="scenes.csv", image="file", label="scene")
        assert dataset.labels == ("day", "night")
        assert [sample.target() for sample in dataset.samples] == [0, 1, 0]
        np.testing.assert_array_equal(pixels(dataset.samples[1]), np.asarray(PILImage.open(folder / "photos/test/dog/0.jpg")))
        with pytest.raises(FileNotFoundError, match=r"gone\.jpg"):
            dataset.samples[2].signal()

    def test_numbers_without_names_are_held_against_the_models_classes(self, folder: Path) -> None:
        (folder / "one_based.csv").write_text("image,label\nphotos/test/cat/0.jpg,1\nphotos/test/dog/0.jpg,2\n")
        table = {"path": "csv", "data_files": "one_based.csv"}
        tried = evaluation("image_classification", folder, **table)
        with pytest.raises(AssetError, match="numbers 1 to 2, and the model's classes are 0 to 1"):
            tried.task.align(load_dataset(tried, 1), tried, lambda: ("dog", "cat"))
        tried = evaluation("image_classification", folder, **table, labels=["", "cat", "dog"])
        dataset = tried.task.align(load_dataset(tried), tried, lambda: ("dog", "cat"))
        assert [sample.target() for sample in dataset.samples] == [1, 0]

    def test_a_number_of_no_class_is_an_unknown_label(self, classified: Open) -> None:
        with pytest.raises(AssetError, match="unknown label 0"):
            classified(path="parquet", data_files="bare.parquet", labels=["", "a", "b"])

    def test_a_missing_number_is_that_samples_failure(self, classified: Open, folder: Path) -> None:
        (folder / "gaps.csv").write_text("image,label\nphotos/test/cat/0.jpg,1\nphotos/test/dog/0.jpg,\nphotos/test/dog/1.jpg,0\n")
        dataset = classified(path="csv", data_files="gaps.csv", labels=["dog", "cat"])
        assert [dataset.samples[row].target() for row in (0, 2)] == [1, 0]
        with pytest.raises(ValueError, match="row 1 has no label"):
            dataset.samples[1].target()
        (folder / "halves.csv").write_text("image,label\nphotos/test/cat/0.jpg,0.5\nphotos/test/dog/0.jpg,1\n")
        with pytest.raises(AssetError, match="float64, neither whole numbers"):
            classified(path="csv", data_files="halves.csv")

    def test_texts_that_are_all_digits_are_texts(self, opened: Open, folder: Path) -> None:
        (folder / "digits.csv").write_text("audio,text,gaps,parts\ncalls/0.flac,12,3,1.0\ncalls/1.flac,34,,2.0\n")
        dataset = opened("speech_recognition", path="csv", data_files="digits.csv")
        assert [sample.target() for sample in dataset.samples] == ["12", "34"]
        for column, texts in (("gaps", ["3", ""]), ("parts", ["1.0", "2.0"])):
            dataset = opened("speech_recognition", path="csv", data_files="digits.csv", text=column)
            assert [sample.target() for sample in dataset.samples] == texts

    def test_numbers_with_gaps_that_were_texts_are_texts(self, opened: Open, folder: Path) -> None:
        import datasets

        sounds = [b"", b""]
        for name, column in (("gaps", [3.0, None]), ("parts", [1.0, 2.0])):
            datasets.Dataset.from_dict({"audio": sounds, "text": column}).to_parquet(folder / f"{name}.parquet")
        gaps = opened("speech_recognition", path="parquet", data_files="gaps.parquet")
        assert gaps.samples[0].target() == "3"
        with pytest.raises(ValueError, match="row 1 has no text"):
            gaps.samples[1].target()
        with pytest.raises(AssetError, match="float64, not texts"):
            opened("speech_recognition", path="parquet", data_files="parts.parquet")

    @pytest.mark.parametrize("path", ["csv", "audiofolder"])
    @pytest.mark.parametrize("texts", [["007", "42", "0"], ["null", "NA", ""], ["1e3", "nan", "1_000"]])
    def test_texts_are_what_is_written(self, opened: Open, tmp_path: Path, folder: Path, path: str, texts: list[str]) -> None:
        table = tmp_path / ("metadata.csv" if path == "audiofolder" else "rows.csv")
        table.write_text("file_name,sentence\n" + "".join(f"{number}.flac,{text}\n" for number, text in enumerate(texts)))
        for number in range(3):
            shutil.copy(folder / "calls/0.flac", tmp_path / f"{number}.flac")
        where = {"data_dir": str(tmp_path), "audio": "audio"} if path == "audiofolder" else {"data_files": str(table), "audio": "file_name"}
        dataset = opened("speech_recognition", path=path, **where, text="sentence")
        assert [sample.target() for sample in dataset.samples] == texts

    def test_classes_are_what_is_written_and_numbers_stay_numbers(self, classified: Open, folder: Path) -> None:
        names, photo = ["None", "cat", "", "NA"], "photos/test/cat/0.jpg"
        (folder / "words.csv").write_text("image,label\n" + "".join(f"{photo},{name}\n" for name in names))
        dataset = classified(path="csv", data_files="words.csv")
        assert dataset.labels == ("NA", "None", "cat")
        assert [dataset.samples[row].target() for row in (0, 1, 3)] == [1, 2, 0]
        with pytest.raises(ValueError, match="row 2 has no label"):
            dataset.samples[2].target()
        (folder / "numbers.csv").write_text(f"image,label\n{photo},01\n{photo},10\n{photo},NA\n")
        dataset = classified(path="csv", data_files="numbers.csv")
        assert [dataset.samples[row].target() for row in (0, 1)] == [1, 10]

    @pytest.mark.parametrize("name", ["old[1]", "a*b", "what?"])
    def test_in_folders_whose_names_are_patterns_are_found(self, folder: Path, tmp_path: Path, name: str) -> None:
        shutil.copytree(folder / "photos", tmp_path / name / "photos")
        for table in ("rows", "rows[2]"):
            (tmp_path / name / f"{table}.csv").write_text("image,label\nphotos/test/cat/0.jpg,cat\nphotos/test/dog/0.jpg,dog\n")
        count = {"rows.csv": 2, "rows[2].csv": 2, "ro*.csv": 4, "[r]ows.csv": 2}
        where = [({"path": "csv", "data_files": files}, count) for files, count in count.items()]
        where += [({"path": "imagefolder", "data_dir": "photos", "split": "test"}, 6)]
        for dataset, rows in where:
            samples = load_dataset(evaluation("image_classification", tmp_path / name, **dataset)).samples
            assert len(samples) == rows
            assert all(pixels(sample).size for sample in samples)
        with pytest.raises(AssetError, match=re.escape(f"there is no file {tmp_path / name}/none.csv")):
            load_dataset(evaluation("image_classification", tmp_path / name, path="csv", data_files="none.csv"))

    def test_words_of_another_column_are_another_table(self, opened: Open, folder: Path) -> None:
        (folder / "two.csv").write_text("audio,one,two\ncalls/0.flac,007,008\ncalls/1.flac,1,2\n")
        for column, texts in (("one", ["007", "1"]), ("two", ["008", "2"])):
            dataset = opened("speech_recognition", path="csv", data_files="two.csv", text=column)
            assert [sample.target() for sample in dataset.samples] == texts

    @pytest.fixture
    def parts(self, folder: Path) -> Path:
        """Two tables, each beside a picture of the same name."""
        for number, part in enumerate("ab"):
            (folder / "parts" / part).mkdir(parents=True, exist_ok=True)
            (folder / f"parts/{part}/0.jpg").write_bytes(replicas.picture(number))
            (folder / f"parts/{part}/{part}.csv").write_text(f"image,label,below\n0.jpg,{part},{part}/0.jpg\n")
        return folder / "parts"

    def test_name_files_in_the_folder_of_the_split(self, classified: Open, parts: Path) -> None:
        tables = {"a": "parts/a/a.csv", "b": "parts/b/*.csv"}
        for part in "ab":
            (sample,) = classified(path="csv", data_files=tables, split=part).samples
            assert sample.stored_bytes == (parts / part / "0.jpg").stat().st_size
            np.testing.assert_array_equal(pixels(sample), np.asarray(PILImage.open(parts / part / "0.jpg")))

    @pytest.mark.parametrize("files", ["parts/*/?.csv", ["parts/a/a.csv", "parts/b/b.csv"]])
    def test_in_several_folders_need_one_that_names_start_from(self, classified: Open, parts: Path, files: Any) -> None:
        with pytest.raises(AssetError, match=r"several folders.*'0\.jpg'.*data_dir"):
            classified(path="csv", data_files=files)
        dataset = classified(path="csv", data_files=files, data_dir="parts", image="below")
        for sample, part in zip(dataset.samples, "ab", strict=True):
            np.testing.assert_array_equal(pixels(sample), np.asarray(PILImage.open(parts / part / "0.jpg")))

    def test_in_several_folders_may_hold_files_and_whole_names(self, parts: Path) -> None:
        for part in "ab":
            (parts / part / "whole.csv").write_text(f"image,label\n{parts}/{part}/0.jpg,{part}\n")
        dataset = load_dataset(evaluation("image_classification", parts, path="csv", data_files="*/whole.csv"))
        assert [sample.id for sample in dataset.samples] == ["a/0.jpg", "b/0.jpg"]
        for sample, part in zip(dataset.samples, "ab", strict=True):
            np.testing.assert_array_equal(pixels(sample), np.asarray(PILImage.open(parts / part / "0.jpg")))

    def test_in_several_folders_may_be_pictures_alone(self, classified: Open, parts: Path) -> None:
        dataset = classified(path="imagefolder", data_files=["parts/a/*.jpg", "parts/b/*.jpg"], labels=["a", "b"])
        for sample, part in zip(dataset.samples, "ab", strict=True):
            np.testing.assert_array_equal(pixels(sample), np.asarray(PILImage.open(parts / part / "0.jpg")))

    def test_listed_classes_have_the_order_of_the_list(self, classified: Open) -> None:
        dataset = classified(path="csv", data_files="scenes.csv", image="file", label="scene", labels=["night", "dusk", "day"])
        assert [sample.target() for sample in dataset.samples] == [2, 0, 2]

    def test_of_nobody_here_is_said(self, classified: Open) -> None:
        with pytest.raises(AssetError, match=r"~nobody_here/photos: there is no user 'nobody_here': write ~/, or the whole path"):
            classified(path="imagefolder", data_dir="~nobody_here/photos", split="test")

    def test_variables_in_paths_are_replaced(self, classified: Open, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MPQ_TRIED", str(folder))
        assert len(classified(path="imagefolder", data_dir="$MPQ_TRIED/photos", split="test").samples) == 6


class TestFilesWhoseNamesAreNoUtf8:
    def test_are_samples_where_others_of_their_kind_and_split_are(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder / "photos", tmp_path / "photos")
        picture = (tmp_path / "photos/test/dog/0.jpg").read_bytes()
        for name in (b"train/dog/caf\xe9.jpg", b"test/dog/caf\xe9.txt", b"test/dog/caf\xe9.jpg"):
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/photos/" + name)).write_bytes(picture)
        dataset = load_dataset(evaluation("image_classification", tmp_path, path="imagefolder", data_dir="photos", split="test"))
        assert [sample.id for sample in dataset.samples[6:]] == ["test/dog/caf\\xe9.jpg"]


class TestSplits:
    @pytest.mark.parametrize(
        ("split", "exclude", "rows"),
        [
            ("test", [], [0, 1, 2, 3, 4, 5]),
            ("test[:2]", [], [0, 1]),
            ("test[:50%]", [], [0, 1, 2]),
            ("test[-2:]", [], [4, 5]),
            ("test[1:5]", [3, 0], [1, 2, 4]),
            ("test[:9]", [3, 8], [0, 1, 2, 4, 5]),
        ],
    )
    def test_stretches_and_rows_left_out(self, classified: Open, split: str, exclude: list[int], rows: list[int]) -> None:
        whole = classified(path="imagefolder", data_dir="photos", split="test")
        part = classified(path="imagefolder", data_dir="photos", split=split, exclude=exclude)
        assert [sample.id for sample in part.samples] == [whole.samples[row].id for row in rows]

    def test_a_choice_of_samples_makes_only_those(self, classified: Open) -> None:
        dataset = classified(path="imagefolder", data_dir="photos", split="test")
        chosen = dataset.choose(2)
        assert len(chosen.samples) == 2
        assert {sample.id for sample in chosen.samples} < {sample.id for sample in dataset.samples}
        assert {sample.id for sample in chosen.samples} < {sample.id for sample in dataset.choose(4).samples}


class TestIds:
    def test_are_numbers_where_files_share_a_name(self, classified: Open) -> None:
        dataset = classified(path="parquet", data_files="pictures.parquet", image="picture", label="kind", split="train[1:]")
        assert [sample.id for sample in dataset.samples] == ["1", "2", "3"]

    def test_do_not_say_where_the_files_lie(self, classified: Open) -> None:
        dataset = classified(path="imagefolder", data_files="photos/test/**/*.jpg", label="label")
        assert [sample.id for sample in dataset.samples][::3] == ["cat/0.jpg", "dog/0.jpg"]
        dataset = classified(path="imagefolder", data_files=["photos/test/cat/0.jpg", "photos/train/dog/0.jpg"])
        assert {sample.id for sample in dataset.samples} == {"test/cat/0.jpg", "train/dog/0.jpg"}

    def test_are_a_columns_where_one_is_named(self, classified: Open) -> None:
        dataset = classified(path="parquet", data_files="pictures.parquet", image="picture", label="kind", id="key")
        assert [sample.id for sample in dataset.samples] == ["a", "b", "c", "d"]

    def test_must_tell_rows_apart(self, classified: Open) -> None:
        with pytest.raises(AssetError, match="'0' more than once"):
            classified(path="parquet", data_files="pictures.parquet", image="picture", label="kind", id="kind")


class TestGroups:
    def groups(self, opened: Open, table: str, **dataset: Any) -> list[str]:
        return [
            sample.group
            for sample in opened("image_classification", path="csv", data_files=table, image="file", label="scene", **dataset).samples
        ]

    @pytest.fixture
    def patients(self, folder: Path, tmp_path: Path) -> str:
        (tmp_path / "patients.csv").write_text(
            "file,scene,who,number,part\na.jpg,day,Ann,3,0.5\nb.jpg,night,,7,0.5\nc.jpg,day,Ann,3,1.5\nd.jpg,day,Bo,,2.5\n"
        )
        for name in "abcd":
            shutil.copy(folder / "photos/test/cat/0.jpg", tmp_path / f"{name}.jpg")
        return str(tmp_path / "patients.csv")

    def test_are_none_where_the_suite_file_names_no_column(self, opened: Open, patients: str) -> None:
        assert self.groups(opened, patients) == ["", "", "", ""]

    def test_are_the_texts_of_a_column_and_a_row_without_one_stands_alone(self, opened: Open, patients: str) -> None:
        assert self.groups(opened, patients, group="who") == ["Ann", "", "Ann", "Bo"]

    def test_are_whole_numbers_as_they_were_written(self, opened: Open, patients: str) -> None:
        assert self.groups(opened, patients, group="number") == ["3", "7", "3", ""]  # a table with a gap holds 3.0

    def test_stay_with_their_rows_in_a_stretch_and_with_the_model_s_order_of_classes(self, opened: Open, patients: str) -> None:
        dataset = opened(
            "image_classification", path="csv", data_files=patients, split="train[1:]", image="file", label="scene", group="who"
        )
        assert [sample.group for sample in dataset.samples] == ["", "Ann", "Bo"]
        turned = find_task("image_classification").align(
            dataset, evaluation("image_classification", Path(), path="x"), lambda: ("night", "day")
        )
        assert [sample.group for sample in turned.samples] == ["", "Ann", "Bo"]

    def test_come_from_parquet_and_folders_too(self, opened: Open, tmp_path: Path) -> None:
        dataset = opened("image_classification", path="parquet", data_files="pictures.parquet", image="picture", label="kind", group="key")
        assert [sample.group for sample in dataset.samples] == ["a", "b", "c", "d"]
        (tmp_path / "calls/test").mkdir(parents=True)
        for name in ("0.flac", "1.flac"):
            soundfile.write(tmp_path / "calls/test" / name, replicas.tone(0, 0.5, 8000, 1), 8000)
        (tmp_path / "calls/test/metadata.csv").write_text("file_name,sentence,speaker\n0.flac,hello,Ann\n1.flac,bye,Bo\n")
        calls = opened(
            "speech_recognition", path="audiofolder", data_dir=str(tmp_path / "calls"), split="test", text="sentence", group="speaker"
        )
        assert [sample.group for sample in calls.samples] == ["Ann", "Bo"]

    @pytest.mark.parametrize(
        ("column", "words"), [("woh", ["no column 'woh' for group", "did you mean 'who'?"]), ("part", ["'part' for group holds float64"])]
    )
    def test_of_no_such_column_are_said(self, opened: Open, patients: str, column: str, words: list[str]) -> None:
        with pytest.raises(AssetError) as caught:
            self.groups(opened, patients, group=column)
        assert all(word in str(caught.value) for word in words), str(caught.value)

    @pytest.mark.parametrize("group", ["Ann", 3])
    def test_of_a_callable_are_its_own_and_texts(self, tmp_path: Path, group: Any) -> None:
        source = (
            "from mpq_fixtures.signals import Dataset, Sample\n\ndef made():\n"
            f"    return Dataset([Sample('s', '0', 1, None, None, {group!r})], ('a', 'b'))\n"
        )
        (tmp_path / "grouped.py").write_text(source)
        named = evaluation("image_classification", tmp_path, path="python:grouped:made")
        if isinstance(group, str):
            assert load_dataset(named).samples[0].group == "Ann"
        else:
            with pytest.raises(AssetError, match=r"the group of 's' is 3: make it a text"):
                load_dataset(named)


class TestDigests:
    def digests(self, folder: Path) -> list[str]:
        dataset = load_dataset(evaluation("image_classification", folder, path="imagefolder", data_dir="photos", split="test"))
        return [sample.source for sample in dataset.samples]

    def test_are_of_the_content_wherever_it_lies(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder / "photos", tmp_path / "photos")
        assert self.digests(tmp_path) == self.digests(folder)
        assert len(set(self.digests(folder))) == 6

    def test_change_with_the_content_though_size_and_date_stay(self, folder: Path, tmp_path: Path) -> None:
        import os

        shutil.copytree(folder / "photos", tmp_path / "photos")
        before, file = self.digests(tmp_path), tmp_path / "photos/test/cat/1.jpg"
        date, content = file.stat().st_mtime_ns, bytearray(file.read_bytes())
        content[-10] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(date, date))
        assert [one == other for one, other in zip(before, self.digests(tmp_path), strict=True)] == [True, False, True, True, True, True]

    def test_change_with_the_target(self, classified: Open) -> None:
        table = {"path": "parquet", "data_files": "bare.parquet"}
        assert classified(**table).samples[0].source != classified(**table, labels=["a", "b", "c"]).samples[0].source

    def test_nothing_is_read_before_a_sample_is_asked_for(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder / "photos", tmp_path / "photos")
        dataset = load_dataset(evaluation("image_classification", tmp_path, path="imagefolder", data_dir="photos", split="test"))
        (tmp_path / "photos/test/cat/0.jpg").unlink()
        assert dataset.samples[1].stored_bytes > 0
        assert dataset.samples[0].stored_bytes == 0
        with pytest.raises(FileNotFoundError):
            dataset.samples[0].signal()


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take files of just now for old ones, which tests cannot make: the time of a file's last change of any kind is the clock's."""
    from mpq_fixtures.datasets import digests, listing

    for module in (digests, listing):
        monkeypatch.setattr(module, "YOUNG", 0)


class TestOpeningAgain:
    """``datasets`` is asked only where something is new."""

    @pytest.fixture
    def photos(self, folder: Path, tmp_path: Path) -> Path:
        shutil.copytree(folder / "photos", tmp_path / "photos")
        return tmp_path

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """What ``datasets`` was asked to open."""
        import datasets

        asked, ask = [], datasets.load_dataset_builder
        monkeypatch.setattr(datasets, "load_dataset_builder", lambda path, **settings: asked.append(path) or ask(path, **settings))
        return asked

    def opened(self, folder: Path) -> list[tuple[str, str, int, Any]]:
        tried = evaluation("image_classification", folder, path="imagefolder", data_dir="photos", split="test")
        return [(sample.id, sample.source, sample.stored_bytes, sample.target()) for sample in load_dataset(tried).samples]

    @pytest.mark.parametrize(
        "dataset",
        [
            {"path": "imagefolder", "data_dir": "photos"},
            {"path": "./photos"},
            {"path": "imagefolder", "data_files": "photos/test/**/*.jpg"},
        ],
        ids=["folder", "path", "pattern"],
    )
    def test_gives_the_same_without_datasets(self, photos: Path, asked: list[str], settled: None, dataset: dict[str, Any]) -> None:
        tried = evaluation("image_classification", photos, **dataset, split="test")
        first, second = (load_dataset(tried) for _ in range(2))
        assert len(asked) == 1
        assert second.labels == first.labels == ("cat", "dog")
        assert [sample.id for sample in second.samples] == [sample.id for sample in first.samples]
        assert second.sources() == [sample.source for sample in first.samples]
        assert [sample.target() for sample in second.samples] == [0, 0, 0, 1, 1, 1]

    def test_asks_for_a_file_that_is_new_gone_touched_or_of_another_size(self, photos: Path, asked: list[str], settled: None) -> None:
        file = photos / "photos/test/cat/0.jpg"
        changes: list[tuple[Callable[[], Any], int]] = [
            (lambda: None, 6),
            (lambda: shutil.copy(file, file.with_name("9.jpg")), 7),
            (lambda: file.with_name("9.jpg").unlink(), 6),
            (lambda: os.utime(file), 6),
            (lambda: file.write_bytes(replicas.picture(99)), 6),
        ]
        for number, (change, count) in enumerate(changes):
            change()
            assert len(self.opened(photos)) == len(self.opened(photos)) == count
            assert len(asked) == number + 1

    def test_asks_for_files_changed_just_now(self, photos: Path, asked: list[str]) -> None:
        assert self.opened(photos) == self.opened(photos)
        assert len(asked) == 2

    def test_asks_where_what_was_remembered_is_damaged_or_gone(self, photos: Path, asked: list[str], settled: None) -> None:
        import datasets

        before = self.opened(photos)
        for memo in (datasets.config.HF_DATASETS_CACHE / "mpq").glob("*.json"):
            memo.write_bytes(memo.read_bytes()[:-9])
        assert self.opened(photos) == before
        assert len(asked) == 2
        shutil.rmtree(datasets.config.HF_DATASETS_CACHE / "imagefolder")
        assert self.opened(photos) == before
        assert len(asked) == 3

    def test_at_once_is_done_by_one_alone(self, photos: Path, asked: list[str], settled: None) -> None:
        from concurrent.futures import ThreadPoolExecutor

        from mpq_fixtures.datasets.opened import opened

        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: opened("imagefolder", {"data_dir": str(photos / "photos")}), range(4)))
        assert [len(splits["test"]) for splits in found] == [6] * 4
        assert len(asked) == 1


class TestNamesOfFiles:
    """In a table that is mapped they are held from the data set's folder on, where all of them lie in it."""

    FOLDER = Path("/data/photos")

    def held(self, *files: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return what a column of files holds from the folder on, and before."""
        column = pa.array(files, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
        features = {"label": Feature("Value", "int64", None), "image": Feature("Image", "", None)}
        table = Mapped(pa.table({"label": list(range(len(files))), "image": column}), features)
        within = table.within(self.FOLDER)
        assert (within.column_names, within.data.schema) == (table.column_names, table.data.schema)
        return within.data.column("image").to_pylist(), table.data.column("image").to_pylist()

    def test_are_those_from_the_folder_on(self) -> None:
        found, _ = self.held(*({"bytes": None, "path": f"/data/photos/{name}"} for name in ("cat/0.jpg", "h\u00e4nde/1.jpg")))
        assert found == [{"bytes": None, "path": "cat/0.jpg"}, {"bytes": None, "path": "h\u00e4nde/1.jpg"}]

    @pytest.mark.parametrize(
        "other",
        [
            {"bytes": None, "path": "/data/photos2/0.jpg"},
            {"bytes": b"content", "path": "/data/photos/0.jpg"},
            {"bytes": None, "path": None},
            {"bytes": None, "path": "/data/photos//etc/0.jpg"},
        ],
        ids=["elsewhere", "inside the table", "no name", "an absolute rest"],
    )
    def test_stay_as_they_are_where_one_is(self, other: dict[str, Any]) -> None:
        found, before = self.held({"bytes": None, "path": "/data/photos/cat/0.jpg"}, other)
        assert found == before


class TestOpeningElsewhere:
    """A process that has not imported ``datasets`` lets another one make the tables."""

    def run(self, folder: Path, **dataset: Any) -> list[str]:
        """Return what a fresh process prints of a data set: its ids and targets, or why it cannot be opened, and what it has imported."""
        program = f"""if True:
            import sys
            from pathlib import Path
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            from mpq_fixtures.datasets import load_dataset
            from mpq_fixtures.errors import AssetError
            from test_datasets import evaluation
            try:
                samples = load_dataset(evaluation("image_classification", Path({str(folder)!r}), **{dataset!r})).samples
                print([(sample.id, sample.target()) for sample in samples])
            except AssetError as error:
                print(error)
            print("datasets" in sys.modules)
        """
        environment = os.environ | {"HF_DATASETS_CACHE": str(folder / "tables")}
        command = [sys.executable, "-P", "-c", program]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=folder)
        return done.stdout.splitlines()

    def test_gives_the_same(self, folder: Path) -> None:
        asked = {"path": "imagefolder", "data_dir": "photos", "split": "test"}
        here = [(sample.id, sample.target()) for sample in load_dataset(evaluation("image_classification", folder, **asked)).samples]
        assert self.run(folder, **asked) == [str(here), "False"]

    def test_takes_nothing_of_the_folder_it_is_started_in_for_a_module(self, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text("image,label\na.jpg,0\nb.jpg,1\n")
        (tmp_path / "datasets.py").write_text("raise SystemExit('imported')")
        assert self.run(tmp_path, path="csv", data_files="rows.csv") == ["[('a.jpg', 0), ('b.jpg', 1)]", "False"]

    def test_fails_for_the_same_reason(self, tmp_path: Path) -> None:
        (tmp_path / "bad.csv").write_text('a,b\n1\n"1,2,3\n')
        asked = {"path": "csv", "data_files": "bad.csv"}
        with pytest.raises(AssetError) as here:
            load_dataset(evaluation("image_classification", tmp_path, **asked))
        assert self.run(tmp_path, **asked) == [str(here.value), "False"]

    def test_is_done_here_where_no_other_process_answers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from mpq_fixtures.datasets.building import build_elsewhere

        monkeypatch.setattr(sys, "executable", "/bin/false")
        assert build_elsewhere("csv", {}, {}, tmp_path) is None
        monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
        assert build_elsewhere("csv", {}, {}, tmp_path) is None


class TestPipesAndDevices:
    """What reading would wait for, or never end, is that sample's failure."""

    @pytest.fixture(params=["pipe", "device"])
    def odd(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
        (tmp_path / "photos").mkdir()
        odd = tmp_path / "photos" / "odd.png"
        if request.param == "device":
            odd.symlink_to("/dev/null")
            yield odd
            return
        os.mkfifo(odd)
        threading.Thread(target=lambda: odd.open("wb").close(), daemon=True).start()  # whoever reads it gets nothing
        yield odd
        os.close(os.open(odd, os.O_RDONLY | os.O_NONBLOCK))

    def test_in_a_folder(self, odd: Path) -> None:
        (odd.parent / "a.png").write_bytes(replicas.picture(1))
        tried = dataclasses.replace(evaluation("image_classification", odd.parent.parent, path="photos"), targets=OWN_ANSWERS)
        first, second = load_dataset(tried).samples
        assert pixels(first).size
        assert (second.id, second.stored_bytes) == ("odd.png", 0)
        with pytest.raises(OSError, match=r"odd\.png is no file, but a pipe or a device"):
            second.signal()

    def test_in_a_column(self, odd: Path) -> None:
        (odd.parent / "rows.csv").write_text("image,label\nodd.png,0\n")
        (sample,) = load_dataset(evaluation("image_classification", odd.parent, path="csv", data_files="rows.csv")).samples
        with pytest.raises(OSError, match=r"odd\.png is no file, but a pipe or a device"):
            sample.signal()

    def test_whose_size_is_asked_for(self, odd: Path) -> None:
        with pytest.raises(OSError, match=r"odd\.png is no file, but a pipe or a device"):
            size_of_image(str(odd))


class TestKnownFiles:
    def test_are_not_read_again_until_they_change(self, tmp_path: Path, settled: None) -> None:
        import hashlib

        from mpq_fixtures.datasets.digests import FileDigests

        file = tmp_path / "a"
        file.write_bytes(b"one")
        here = FileDigests(tmp_path / "known/digests.sqlite")
        assert here.of(str(file)) == (hashlib.sha256(b"one").digest(), 3)
        here.keep()
        there = FileDigests(tmp_path / "known/digests.sqlite")
        times = file.stat().st_mtime_ns
        there.look_ahead([str(file)])
        read_at = file.stat().st_atime_ns
        assert there.of(str(file)) == (hashlib.sha256(b"one").digest(), 3)
        assert str(file) not in there._new  # nothing was hashed
        assert file.stat().st_atime_ns == read_at
        file.write_bytes(b"two")
        os.utime(file, ns=(times, times))
        there.look_ahead([str(file)])
        assert there.of(str(file)) == (hashlib.sha256(b"two").digest(), 3)

    def test_changed_just_now_are_not_remembered(self, tmp_path: Path) -> None:
        from mpq_fixtures.datasets.digests import FileDigests

        (tmp_path / "a").write_bytes(b"one")
        known = FileDigests(tmp_path / "digests.sqlite")
        known.of(str(tmp_path / "a"))
        assert not known._new

    def test_are_hashed_where_the_table_cannot_be_used(self, tmp_path: Path, settled: None) -> None:
        import hashlib

        from mpq_fixtures.datasets.digests import FileDigests

        (tmp_path / "a").write_bytes(b"one")
        (tmp_path / "digests.sqlite").write_bytes(b"no table" * 999)
        for _ in range(2):  # a damaged table is thrown away and made again
            known = FileDigests(tmp_path / "digests.sqlite")
            known.look_ahead([str(tmp_path / "a")])
            assert known.of(str(tmp_path / "a")) == (hashlib.sha256(b"one").digest(), 3)
            known.keep()
        (tmp_path / "folder.sqlite").mkdir()
        known = FileDigests(tmp_path / "folder.sqlite")
        known.look_ahead([str(tmp_path / "a")])
        assert known.of(str(tmp_path / "a"))[1] == 3


class TestSources:
    def test_of_many_are_those_of_each(self, classified: Open) -> None:
        dataset = classified(path="imagefolder", data_dir="photos", split="test")
        turned = find_task("image_classification").align(
            dataset, evaluation("image_classification", Path(), path="x"), lambda: ("dog", "cat")
        )
        for some in (dataset, turned, dataset.choose(4), numbered([1, 2])):
            assert some.sources() == [sample.source for sample in some.samples]
            assert some.sources(range(1, 2)) == [some.samples[1].source]

    @pytest.mark.parametrize(
        ("task", "dataset"),
        [
            ("image_classification", {"path": "imagefolder", "data_dir": "photos", "split": "test"}),
            ("image_embedding", {"path": "photos/test"}),
        ],
        ids=["of a table", "of a folder"],
    )
    def test_are_held_once(self, folder: Path, task: str, dataset: dict[str, Any]) -> None:
        found = load_dataset(evaluation(task, folder, **dataset))
        column, keys = found.columns.column("source").chunk(0), found.keys()
        assert keys is not None
        assert column.buffers()[1].address == np.frombuffer(keys, np.uint8).ctypes.data
        assert [key.hex() for key in column.to_pylist()] == found.sources() == [sample.source for sample in found.samples]

    def test_stay_as_they_were_found_while_a_run_goes_on(self, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder / "photos", tmp_path / "photos")
        dataset = load_dataset(evaluation("image_classification", tmp_path, path="imagefolder", data_dir="photos", split="test"))
        before = dataset.samples[0].source
        (tmp_path / "photos/test/cat/0.jpg").write_bytes(b"another")
        assert dataset.samples[0].source == dataset.sources()[0] == before


class TestCommonVoice:
    def test_reads_the_downloaded_folder(self, opened: Open) -> None:
        dataset = opened("speech_recognition", path="common_voice", data_dir="voice/en", split="validated[:4]", exclude=[1])
        assert [sample.id for sample in dataset.samples] == [f"common_voice_en_{row}.mp3" for row in (0, 2, 3)]
        assert [sample.target() for sample in dataset.samples] == [replicas.SENTENCES[row] for row in (0, 2, 3)]
        assert sound(dataset.samples[0]).sample_rate == 32000

    def test_the_hubs_name_of_the_table_dev_is_known(self, opened: Open) -> None:
        assert len(opened("speech_recognition", path="common_voice", data_dir="voice/en", split="validation").samples) == 4

    def test_quotation_marks_are_part_of_a_sentence(self, opened: Open, tmp_path: Path) -> None:
        replicas.common_voice(tmp_path / "en", rows=2)
        (tmp_path / "en/odd.tsv").write_text('path\tsentence\ncommon_voice_en_0.mp3\t"Go!\ncommon_voice_en_1.mp3\tHe said "no"\n')
        dataset = opened("speech_recognition", path="common_voice", data_dir=str(tmp_path / "en"), split="odd")
        assert [sample.target() for sample in dataset.samples] == ['"Go!', 'He said "no"']

    def test_speakers_are_groups_where_the_table_names_them(self, opened: Open, tmp_path: Path) -> None:
        replicas.common_voice(tmp_path / "en", rows=3)
        speakers = ["0123456789abcdef" * 8, "fedcba9876543210" * 8]
        rows = [f"{speakers[row % 2]}\tcommon_voice_en_{row}.mp3\tHello\t2\n" for row in range(3)]
        (tmp_path / "en/test.tsv").write_text("client_id\tpath\tsentence\tup_votes\n" + "".join(rows))
        dataset = opened("speech_recognition", path="common_voice", data_dir=str(tmp_path / "en"), split="test")
        assert [sample.group for sample in dataset.samples] == [speakers[0][:16], speakers[1][:16], speakers[0][:16]]
        assert [sample.id for sample in dataset.samples] == [f"common_voice_en_{row}.mp3" for row in range(3)]
        (tmp_path / "en/odd.tsv").write_text("path\tsentence\ncommon_voice_en_0.mp3\tHello\n")
        assert [
            sample.group for sample in opened("speech_recognition", path="common_voice", data_dir=str(tmp_path / "en"), split="odd").samples
        ] == [""]


class TestSeparation:
    def test_reads_the_unpacked_musdb18hq(self, opened: Open) -> None:
        (sample,) = opened("source_separation", path="musdb18hq", data_dir="musdb18hq").samples
        assert sample.id == "Band 0 - Song 0"
        stems = sample.target()
        assert tuple(stems) == STEMS
        mixture = sound(sample)
        assert (mixture.sample_rate, mixture.waveform.shape) == (44100, (2, 88200))
        np.testing.assert_allclose(sum(stem.waveform for stem in stems.values()), mixture.waveform, atol=2e-4)
        assert {stem.sample_rate for stem in stems.values()} == {44100}

    def test_a_stem_can_be_the_sum_of_columns(self, opened: Open, folder: Path) -> None:
        track = folder / "musdb18hq/test/Band 0 - Song 0"
        names = ["mixture", *STEMS]
        (track.parent / "all.csv").write_text(f"{','.join(names)}\n{','.join(f'{track.name}/{name}.wav' for name in names)}\n")
        stems = {"voice": "vocals", "rest": ["drums", "bass", "other"]}
        (sample,) = opened("source_separation", path="csv", data_files="musdb18hq/test/all.csv", stems=stems).samples
        parts = [soundfile.read(track / f"{name}.wav", dtype="float32")[0].T for name in ("drums", "bass", "other")]
        np.testing.assert_allclose(sample.target()["rest"].waveform, np.sum(parts, axis=0), atol=1e-6)
        assert list(sample.target()) == ["voice", "rest"]

    def test_stems_of_two_rates_are_that_samples_failure(self, opened: Open, folder: Path) -> None:
        (folder / "rates.csv").write_text("mixture,a,b\ncalls/0.flac,calls/0.flac,calls/1.flac\n")
        (sample,) = opened("source_separation", path="csv", data_files="rates.csv", stems=["a", "b"]).samples
        with pytest.raises(ValueError, match="8000 Hz, 44100 Hz"):
            sample.target()


MISTAKES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("image_classification", {"path": "imagefolder", "data_dir": "nowhere"}, ["nowhere", "<split>/<label>"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "empty"}, ["empty", "cannot be opened"]),
    ("image_classification", {"path": "imagefolder"}, ["data_dir", "data_files"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "photos"}, ["name a split", "train, test"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "photos", "split": "tset"}, ["'tset'", "did you mean 'test'"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "photos", "split": "test[9:]"}, ["[9:]", "6 rows", "empty"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "photos", "split": "test[first]"}, ["[first]", "[:60]"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "photos", "split": "train+test"}, ["train+test", "one split"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "photos", "split": "test", "exclude": [0, 1, 2, 3, 4, 5]}, ["empty"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "photos", "split": "test", "exclude": [1, 6]}, ["no row 6", "6 rows"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "photos", "split": "test", "label": "labl"}, ["'labl'", "mean 'label'"]),
    (
        "image_classification",
        {"path": "imagefolder", "data_dir": "photos", "split": "test", "label": "image"},
        ["image", "neither whole numbers"],
    ),
    ("image_classification", {"path": "imagefolder", "data_dir": "photos", "split": "test", "labels": ["a"]}, ["1 names", "2 classes"]),
    ("image_classification", {"path": "imagefolder", "data_dir": "$MPQ_NOT_SET/photos"}, ["MPQ_NOT_SET is not set"]),
    ("image_classification", {"path": "parquet", "data_files": "missing.parquet"}, ["no file", "missing.parquet"]),
    ("image_classification", {"path": "parquet", "data_files": "missing-*.parquet"}, ["no file", "missing-*.parquet"]),
    ("image_classification", {"path": "parquet", "data_files": "scenes.csv"}, ["cannot be opened"]),
    ("image_classification", {"path": "parquet", "data_files": "bare.parquet", "labels": ["a", "b"]}, ["unknown label 2", "0 to 1"]),
    ("image_classification", {"path": "parquet", "data_files": "withheld.parquet"}, ["withheld"]),
    ("image_classification", {"path": "csv", "data_files": "scenes.csv", "image": "number", "label": "scene"}, ["number", "int64"]),
    (
        "image_classification",
        {"path": "csv", "data_files": "scenes.csv", "image": "file", "label": "scene", "labels": ["Day", "night"]},
        ["unknown label 'day'", "mean 'Day'"],
    ),
    ("image_classification", {"path": "imgefolder", "data_dir": "photos"}, ["OWNER/NAME", "did you mean 'imagefolder'"]),
    ("image_classification", {"path": "./nowhere"}, ["./nowhere", "no such folder"]),
    ("image_segmentation", {"path": "imagefolder", "data_dir": "photos", "split": "test"}, ["no column 'mask'", "image, label"]),
    ("speech_recognition", {"path": "audiofolder", "data_dir": "calls"}, ["no column 'text'", "audio, sentence"]),
    ("speech_recognition", {"path": "audiofolder", "data_dir": "calls", "text": "audio"}, ["audio", "not texts"]),
    ("speech_recognition", {"path": "common_voice", "split": "test"}, ["data_dir is missing", "clips/*.mp3"]),
    ("speech_recognition", {"path": "common_voice", "data_dir": "calls", "split": "test"}, ["not a Common Voice folder", "clips/*.mp3"]),
    ("speech_recognition", {"path": "common_voice", "data_dir": "voice/en", "split": "tst"}, ["no tst.tsv", "dev, test"]),
    ("speech_recognition", {"path": "common_voice", "data_dir": "$MPQ_NOT_SET/en"}, ["MPQ_NOT_SET is not set", "clips/*.mp3"]),
    ("source_separation", {"path": "musdb18hq", "data_dir": "nowhere"}, ["nowhere", "test/<track>/mixture.wav"]),
    ("source_separation", {"path": "musdb18hq", "data_dir": "calls"}, ["calls", "no tracks", "test/<track>/mixture.wav"]),
    ("source_separation", {"path": "audiofolder", "data_dir": "calls", "mixture": "audio"}, ["stems is missing", "sentence"]),
    ("source_separation", {"path": "audiofolder", "data_dir": "calls", "mixture": "audio", "stems": ["adio"]}, ["'adio'", "mean 'audio'"]),
]


class TestMistakes:
    @pytest.mark.parametrize(("task", "table", "words"), MISTAKES, ids=[words[0] for _, _, words in MISTAKES])
    def test_are_said_in_one_sentence(self, opened: Open, task: str, table: dict[str, Any], words: list[str]) -> None:
        with pytest.raises(AssetError) as caught:
            opened(task, **table)
        said = str(caught.value)
        assert all(word in said for word in words), said
        assert "\n" not in said

    @pytest.mark.parametrize(
        ("table", "words"),
        [
            ('{ path = "imagefolder", dta_dir = "x" }', ["dta_dir", "did you mean 'data_dir'"]),
            ('{ path = "imagefolder", split = 3 }', ["split", "3", "test[:60]"]),
            ('{ path = "imagefolder", exclude = [-1] }', ["exclude", "row numbers"]),
            ('{ path = "imagefolder", labels = "by name" }', ["labels", "by index"]),
            ('{ path = "imagefolder", mask = "mask" }', ["mask", "there are: path, name"]),
            ('{ path = "imagefolder", label = ["a"] }', ["label", "a column"]),
            ('{ data_dir = "x" }', ["path"]),
        ],
    )
    def test_in_the_table_stop_the_run_at_once(self, tmp_path: Path, table: str, words: list[str]) -> None:
        file = tmp_path / "my.toml"
        lines = ['name = "my"', "[[evaluation]]", 'name = "mine"', 'task = "image_classification"', 'model = "m/n"', f"dataset = {table}"]
        file.write_text("\n".join(lines))
        with pytest.raises(SuiteError) as caught:
            load_suite(file)
        assert all(word in str(caught.value) for word in words), str(caught.value)


class TestMasks:
    def test_palettes_are_left_alone(self) -> None:
        picture = PILImage.fromarray(np.array([[0, 1], [2, 255]], np.uint8), "L").convert("P")
        picture.putpalette([9, 9, 9, 200, 0, 0] * 128)
        np.testing.assert_array_equal(read_mask(replicas._file(picture, "PNG")), [[0, 1], [2, 255]])

    def test_sixteen_bits_and_grey_in_three_channels_are_taken(self) -> None:
        deep = PILImage.fromarray(np.array([[0, 1000]], np.uint16))
        np.testing.assert_array_equal(read_mask(replicas._file(deep, "PNG")), [[0, 1000]])
        grey = PILImage.fromarray(np.repeat(np.array([[[3], [7]]], np.uint8), 3, axis=2))
        np.testing.assert_array_equal(read_mask(replicas._file(grey, "PNG")), [[3, 7]])

    @pytest.mark.parametrize("data", [b"", b"no picture", replicas.picture(0), replicas.class_map(0)[:60]])
    def test_anything_else_is_refused(self, data: bytes) -> None:
        with pytest.raises(ValueError, match=r"empty|known format|in colour|damaged"):
            read_mask(data)


class TestMatchingNames:
    @pytest.mark.parametrize(
        ("data", "model", "order"),
        [
            (["cat", "dog"], ["cat", "dog"], (0, 1)),
            (["cat", "dog"], ["Dog", "bird", "CAT"], (2, 0)),
            (["bean_rust", "leaf spot"], ["Leaf-Spot", "bean rust"], (1, 0)),
            (["goldfish", "tench"], ["tench, Tinca tinca", "goldfish, Carassius auratus"], (1, 0)),
            (["tench, Tinca tinca", "goldfish, Carassius auratus"], ["goldfish", "tench"], (1, 0)),
            (["crane", "owl", "crane"], ["crane", "owl", "crane"], (0, 1, 2)),
            (["owl", "crane", "crane"], ["crane", "owl", "crane"], None),
            (["Cardigan, Welsh corgi", "cardigan"], ["Cardigan, Welsh corgi", "cardigan"], (0, 1)),
            (["Cardigan, Welsh corgi", "owl", "cardigan"], ["cardigan, corgi", "owl", "cardigan"], (0, 1, 2)),
            (["cat", "horse"], ["cat", "dog"], None),
            (["cat"], ["cat", "Cat"], None),
            (["dog", "cat"], ["cat", "Cat", "dog"], None),
            (["0", "1", "10", "2"], [f"LABEL_{number}" for number in range(12)], (0, 1, 10, 2)),
            (["0", "1", "10", "2"], [str(number) for number in range(12)], (0, 1, 10, 2)),
            (["00", "01", "02"], ["label 2", "label 1", "label 0"], (2, 1, 0)),
            (["1", "2", "3"], ["LABEL_0", "LABEL_1", "LABEL_2"], None),
            (["0", "1"], ["cat", "dog"], None),
            (["", "dog", "cat"], ["cat", "dog"], (-1, 1, 0)),
        ],
    )
    def test_goes_by_name_then_by_the_first_synonym_and_then_by_number(
        self, data: list[str], model: list[str], order: tuple[int, ...] | None
    ) -> None:
        assert match(data, model) == order


def numbered(targets: list[Any], labels: tuple[str, ...] = ()) -> Dataset:
    return Dataset([Sample(str(row), "0", 1, lambda: None, lambda row=row: targets[row]) for row in range(len(targets))], labels)  # type: ignore[arg-type, misc]


class TestClasses:
    def fitted(self, dataset: Dataset, model: tuple[str, ...], task: str = "image_classification", **settings: Any) -> Dataset:
        options = settings.pop("options", None)
        return find_task(task).align(dataset, evaluation(task, Path(), path="x", options=options, **settings), lambda: model)

    def test_are_brought_to_the_models_order(self) -> None:
        dataset = self.fitted(numbered([0, 1, 1], ("cat", "dog")), ("dog", "bird", "cat"))
        assert dataset.labels == ("dog", "bird", "cat")
        assert [sample.target() for sample in dataset.samples] == [2, 0, 0]
        assert dataset.samples[0].source != "0"

    def test_stay_where_the_orders_are_the_same(self) -> None:
        plain = numbered([0, 1], ("cat", "dog"))
        dataset = self.fitted(plain, ("cat", "dog"))
        assert dataset.samples is plain.samples

    @pytest.mark.parametrize(("data", "model"), [((), ("a", "b")), (("a", "b"), ()), (("LABEL_0", "LABEL_1"), ("0", "1"))])
    def test_without_names_go_by_index(self, data: tuple[str, ...], model: tuple[str, ...]) -> None:
        assert [sample.target() for sample in self.fitted(numbered([0, 1], data), model).samples] == [0, 1]

    def test_that_do_not_match_are_shown(self) -> None:
        with pytest.raises(AssetError) as caught:
            self.fitted(numbered([0], ("cat", "horse")), ("cat", "dog"))
        assert "cat, horse" in str(caught.value)
        assert "cat, dog" in str(caught.value)
        assert 'labels = "by index"' in str(caught.value)

    def test_go_by_index_where_the_suite_file_says_so(self) -> None:
        dataset = self.fitted(numbered([0, 1], ("Katze", "Hund")), ("cat", "dog"), labels="by index")
        assert ([sample.target() for sample in dataset.samples], dataset.labels) == ([0, 1], ("cat", "dog"))
        with pytest.raises(AssetError, match="numbers differ"):
            self.fitted(numbered([0], ("Katze",)), ("cat", "dog"), labels="by index")

    def test_that_are_numbers_go_by_them_and_not_by_their_places(self) -> None:
        names = sorted(map(str, range(12)))
        dataset = self.fitted(numbered([0, 1, 2, 3], tuple(names)), tuple(f"LABEL_{number}" for number in range(12)))
        assert [sample.target() for sample in dataset.samples] == [0, 1, 10, 11]
        with pytest.raises(AssetError, match="do not match"):
            self.fitted(numbered([0], ("1", "2", "3")), ("LABEL_0", "LABEL_1", "LABEL_2"))

    def test_without_a_name_are_the_samples_failure(self) -> None:
        dataset = self.fitted(numbered([0, 1], ("", "cat")), ("cat", "dog"))
        assert dataset.samples[1].target() == 0
        with pytest.raises(ValueError, match="0 stands for no class"):
            dataset.samples[0].target()

    @pytest.mark.parametrize(("lowest", "highest"), [(1, 2), (0, 2), (5, 9)])
    def test_that_are_numbers_beyond_the_models_stop_the_run(self, lowest: int, highest: int) -> None:
        plain = numbered([1], Unnamed(lowest, highest))
        with pytest.raises(AssetError) as caught:
            self.fitted(plain, ("cat", "dog"))
        assert all(
            word in str(caught.value) for word in (f"{lowest} to {highest}", "0 to 1", "cat, dog", "labels = [", 'labels = "by index"')
        )
        assert self.fitted(plain, ("cat", "dog"), labels="by index").samples[0].target() == 1

    @pytest.mark.parametrize(("lowest", "highest"), [(0, 1), (1, 1), (0, 0)])
    def test_that_are_some_of_the_models_numbers_are_taken(self, lowest: int, highest: int) -> None:
        assert self.fitted(numbered([highest], Unnamed(lowest, highest)), ("cat", "dog")).samples[0].target() == highest

    def test_beyond_the_models_are_the_samples_failure(self) -> None:
        with pytest.raises(ValueError, match="2 is none of 0 to 1"):
            self.fitted(numbered([2]), ("cat", "dog")).samples[0].target()

    def test_of_speech_are_nobodys_business(self) -> None:
        plain = numbered(["hello"])
        assert self.fitted(plain, ("a",), "speech_recognition") is plain


class TestDoctor:
    def test_says_that_classes_do_not_match_without_running_anything(self, folder: Path, tmp_path: Path) -> None:
        from mpq_fixtures.commands.assets import assets

        replicas.vit(tmp_path / "vit", ["cat", "horse"])
        tried = evaluation("image_classification", folder, str(tmp_path / "vit"), path="imagefolder", data_dir="photos", split="test")
        said = {asset.kind: asset.look().sentence for asset in assets([tried])}
        assert "cat, dog" in said["dataset"]
        assert "cat, horse" in said["dataset"]
        assert "classes" not in said["model"]


class TestClassMaps:
    def fitted(self, mask: Any, model: tuple[str, ...], data: tuple[str, ...] = (), **options: int) -> Dataset:
        tried = evaluation("image_segmentation", Path(), path="x", options=options)
        return tried.task.align(numbered([np.array(mask)], data), tried, lambda: model)

    def score(self, dataset: Dataset, prediction: Any) -> float:
        metric = find_task("image_segmentation").metric(dataset, ignored_label=None, label_offset=0)
        return metric.value([metric.observe(np.array(prediction), dataset.samples[0].target())])

    def test_with_other_as_zero_are_counted_from_one(self) -> None:
        dataset = self.fitted([[0, 1], [2, 3]], ("wall", "sky", "tree"), ignored_label=0, label_offset=1)
        np.testing.assert_array_equal(dataset.samples[0].target(), [[-1, 0], [1, 2]])
        assert self.score(dataset, [[2, 0], [1, 2]]) == 1.0
        assert self.score(dataset, [[2, 0], [1, 1]]) == pytest.approx((1 + 1 / 2 + 0) / 3)

    def test_with_a_void_beyond_the_classes(self) -> None:
        dataset = self.fitted([[255, 0], [1, 1]], ("road", "sky"), ignored_label=255)
        assert self.score(dataset, [[0, 0], [1, 0]]) == pytest.approx((1 / 2 + 1 / 2) / 2)

    def test_with_a_class_that_is_ignored(self) -> None:
        dataset = self.fitted([[0, 0], [1, 2]], ("background", "cat", "dog"), ignored_label=0)
        assert self.score(dataset, [[1, 2], [1, 2]]) == 1.0

    def test_in_another_order_than_the_models(self) -> None:
        dataset = self.fitted([[0, 1], [2, 9]], ("tree", "road", "sky", "car"), ("road", "sky", "tree"), ignored_label=9)
        np.testing.assert_array_equal(dataset.samples[0].target(), [[1, 2], [0, -1]])
        assert self.score(dataset, [[1, 2], [0, 3]]) == 1.0

    def test_a_class_that_is_ignored_moves_with_the_others(self) -> None:
        dataset = self.fitted([[0, 1]], ("sky", "road"), ("road", "sky"), ignored_label=0)
        np.testing.assert_array_equal(dataset.samples[0].target(), [[1, 0]])
        assert dataset.ignored == 1
        assert self.score(dataset, [[0, 0]]) == 1.0

    def test_beyond_the_classes_are_the_samples_failure(self) -> None:
        with pytest.raises(ValueError, match="labels 0 to 3, beyond 1 to 2"):
            self.fitted([[0, 3]], ("a", "b"), label_offset=1).samples[0].target()

    def test_beyond_the_classes_are_found_without_options_too(self) -> None:
        plain = self.fitted([[0, 1]], ("a", "b"))
        assert plain.samples[0].source == "0"
        np.testing.assert_array_equal(plain.samples[0].target(), [[0, 1]])
        with pytest.raises(ValueError, match="labels 0 to 3, beyond 0 to 1: see the options label_offset and ignored_label"):
            self.fitted([[0, 3]], ("a", "b")).samples[0].target()

    def test_with_a_number_that_is_no_class(self) -> None:
        names = ("", "sky", "road")
        with pytest.raises(ValueError, match="the label 0, which stands for no class"):
            self.fitted([[0, 1]], ("road", "sky"), names).samples[0].target()
        dataset = self.fitted([[0, 1], [2, 2]], ("road", "sky"), names, ignored_label=0)
        np.testing.assert_array_equal(dataset.samples[0].target(), [[-1, 1], [0, 0]])
        assert dataset.ignored == -1

    def test_need_names_from_somewhere(self) -> None:
        with pytest.raises(AssetError, match="labels = "):
            self.fitted([[0]], ())

    def test_options_are_whole_numbers(self, tmp_path: Path) -> None:
        lines = ['name = "my"', "[[evaluation]]", 'name = "mine"', 'task = "image_segmentation"', 'model = "m/n"',
                 'dataset = { path = "imagefolder", data_dir = "x" }', 'options = { label_offset = "one" }']  # fmt: skip
        (tmp_path / "my.toml").write_text("\n".join(lines))
        with pytest.raises(SuiteError, match="label_offset: 'one' must be a whole number"):
            load_suite(tmp_path / "my.toml")


class TestModels:
    def test_of_another_kind_are_refused(self, tmp_path: Path) -> None:
        replicas.segformer(tmp_path / "segformer", ["a", "b"])
        replicas.vit(tmp_path / "vit", ["a", "b"])
        for task, name in (("image_classification", "segformer"), ("image_segmentation", "vit"), ("speech_recognition", "vit")):
            model = OpenModel(evaluation(task, tmp_path, name, path="x"), "cpu")
            with pytest.raises(AssetError, match=r"holds a (Segformer|ViT)For.* where a \.\.\..* is needed"):
                model.ready()

    def test_without_a_configuration_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "vit").mkdir()
        with pytest.raises(AssetError, match=r"config\.json"):
            OpenModel(evaluation("image_classification", tmp_path, "vit", path="x"), "cpu").ready()

    def test_tell_their_classes_before_they_are_loaded(self, tmp_path: Path) -> None:
        replicas.vit(tmp_path / "vit", ["a", "b", "c"])
        model = OpenModel(evaluation("image_classification", tmp_path, "vit", path="x"), "cpu")
        assert model.labels == ("a", "b", "c")
        assert model._model is None

    def test_in_a_file_beside_the_suite_tell_theirs_on_the_object_or_the_class(self, tmp_path: Path) -> None:
        (tmp_path / "model.py").write_text(
            "class Model:\n    labels = ('x', 'y')\n    def __init__(self, device):\n        pass\n    def predict(self, signals):\n"
            "        return [0] * len(signals)\n\n\ndef load(device):\n    return Model(device)\n"
        )
        made = OpenModel(evaluation("image_classification", tmp_path, "python:model:load", path="x"), "cpu")
        named = OpenModel(evaluation("image_classification", tmp_path, "python:model:Model", path="x"), "cpu")
        assert made.labels == named.labels == ("x", "y")
        assert named._model is None
        assert named.ready().predict([None]) == [0]  # type: ignore[list-item]
