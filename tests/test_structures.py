"""What reads structure from outside, on structures that Hypothesis makes: it is read, or refused by the one error that is promised.

A fixed choice of a few here, the same in every run; ``MPQ_FUZZ=long``, as ``tox run -e fuzz`` has it, looks for thousands of others.
What was found once stands above its test as an example.
"""

from __future__ import annotations

import copy
import io
import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import date, datetime, time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image as Picture
from test_history import results
from trial_records import EVALUATION, hits, record

from mpq_fixtures import tasks
from mpq_fixtures.codecs import CodecError, registered
from mpq_fixtures.codecs._audio import AudioCodec, read_varint, varint
from mpq_fixtures.codecs._commands import read_commands
from mpq_fixtures.codecs._compressai import Stream
from mpq_fixtures.codecs._ogg import checksum, pages
from mpq_fixtures.codecs._packing import pack, packed_size, unpack
from mpq_fixtures.codecs._tfci import _opened
from mpq_fixtures.codecs._workers import seal
from mpq_fixtures.codecs.amr import MODES, frames_of
from mpq_fixtures.codecs.command import CommandImage
from mpq_fixtures.codecs.lyra import Lyra
from mpq_fixtures.codecs.rvq_pocket import RvqPocket
from mpq_fixtures.commands.compare import compare_runs
from mpq_fixtures.conformance.damage import damaged
from mpq_fixtures.datasets import coco
from mpq_fixtures.datasets.tables import read_table
from mpq_fixtures.errors import AssetError
from mpq_fixtures.gate.baseline_files import BaselineError
from mpq_fixtures.gate.baselines import Baselines, read_baselines, write_baselines
from mpq_fixtures.gate.measured import of_record
from mpq_fixtures.models import predictions
from mpq_fixtures.options import Options
from mpq_fixtures.results.files import PASSED, Result, read_results, write_results
from mpq_fixtures.results.history import append, read_history
from mpq_fixtures.session.marker import MarkerError, cases_for
from mpq_fixtures.store import packs
from mpq_fixtures.suite import Case, Evaluation, SuiteError
from mpq_fixtures.suite.file import load_suite, mistakes
from mpq_fixtures.tasks import find_task

_LONG = os.environ.get("MPQ_FUZZ") == "long"
settings.register_profile("mpq", deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=not _LONG)
settings.load_profile("mpq")


def tried(often: int) -> Any:
    """So many examples here, fifty times as many at length."""
    return settings(max_examples=often * (50 if _LONG else 1))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), TEXTS)
TIMES = st.one_of(st.dates(), st.times(), st.datetimes())


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6)


JSON, TOML = nested(st.none() | SCALARS), nested(SCALARS | TIMES)


@st.composite
def changed(draw: st.DrawFn, whole: Any, other: st.SearchStrategy[Any] = JSON) -> Any:
    """A structure with one to three of its parts, at any depth, left out, doubled, or set to something else."""
    whole = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        where: Any = whole
        while True:
            keys = list(where) if isinstance(where, dict) else range(len(where))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(where[key], dict | list) and where[key] and draw(st.integers(0, 4)):
                where = where[key]
                continue
            way = draw(st.integers(0, 4))
            if way == 0:
                del where[key]
            elif way == 1 and isinstance(where, list):
                where.append(copy.deepcopy(where[key]))
            elif way == 2 and isinstance(where, dict):
                where[draw(TEXTS)] = where[key]
            else:
                where[key] = draw(other)
            break
    return whole


def inline(value: Any) -> str:
    """A value as TOML has it."""
    if isinstance(value, str):
        return json.dumps(value).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(inline, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{inline(key)} = {inline(one)}' for key, one in value.items())}}}"
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Makes folders that nothing lies in."""
    numbers = count()

    def make() -> Path:
        return tmp_path_factory.mktemp(f"s{next(numbers)}")

    return make


def one_sentence(error: object, begins: str) -> None:
    assert str(error).startswith(begins)
    assert "\n" not in str(error)


SUITE = {
    "name": "calls",
    "codec": [
        {
            "name": "own", "modality": "audio", "encode": "enc -q {quality} {input} {output}", "decode": ["dec", "{input}", "{output}"],
            "qualities": {"a": "1", "b": 2}, "bitstream": ".bin", "signal": ".raw", "sample_rate": 16000, "channels": 1, "seconds": 5.0,
            "version": "enc --version", "install": "install it", "delay": 3, "padding": 4,
        },
        {"name": "mine", "modality": "image", "encode": "e {input} {output}", "decode": "d {input} {output}", "qualities": [1, "2"],
         "bitstream": ".b", "multiple": 8},
    ],
    "evaluation": [
        {
            "name": "heard", "task": "speech_recognition", "model": "openai/whisper-base", "codecs": ["own", "mp3"], "optional": ["lc3"],
            "qualities": {"own": ["a"], "mp3": ["8k", "*@8khz"]}, "samples": 20, "similarity": ["si_sdr"], "targets": "labels",
            "thresholds": {"value": ">= 0.8", "rate": "<2"}, "margins": {"value": 0.01, "rate": 0.02}, "underpowered": "fail",
            "options": {"normalizer": "whisper_basic"}, "limits": {"pixels": 10, "seconds": 2.5},
            "dataset": {"path": "audiofolder", "data_dir": "calls", "split": "test[:60]", "audio": "audio", "text": "sentence",
                        "data_files": {"test": ["a", "b"]}, "exclude": [1, 2], "id": "id", "group": "speaker"},
        },
        {"name": "seen", "task": "image_classification", "model": "python:own:load", "codecs": ["*"], "targets": "both",
         "dataset": {"path": "imagefolder", "data_dir": "x", "image": "image", "label": "label", "labels": ["a", "b"]}},
        {"name": "found", "task": "object_detection", "model": "m/m", "options": {"iou": "50", "boxes": "xyxy"}, "codecs": ["jpeg"],
         "dataset": {"path": "coco", "data_dir": "x", "labels": "by index"}},
        {"name": "apart", "task": "source_separation", "model": "m/m", "codecs": [],
         "dataset": {"path": "musdb18hq", "data_dir": "x", "mixture": "mixture"}},
        {"name": "cut", "task": "image_segmentation", "model": "m/m", "similarity": ["ms_ssim", "psnr"],
         "dataset": {"path": "o/n", "image": "image", "mask": "annotation", "revision": "main", "name": "full"}},
    ],
}  # fmt: skip


class TestSuiteFiles:
    def load(self, content: Any, folder: Path) -> None:
        file = folder / "calls.toml"
        file.write_text("\n".join(f"{inline(key)} = {inline(value)}" for key, value in content.items()), encoding="utf-8")
        told, evaluations, refused = mistakes(file), [], []
        try:
            evaluations = load_suite(file)
        except SuiteError as error:
            refused.append(str(error))
        assert set(refused) <= set(told)
        assert bool(told) == bool(refused)
        for mistake in told:
            one_sentence(mistake, str(file))
        assert all(isinstance(case.id, str) for evaluation in evaluations for case in evaluation.cases)

    def test_the_whole_one_is_read(self, place):
        folder = place()
        self.load(SUITE, folder)
        assert len(load_suite(folder / "calls.toml")) == len(SUITE["evaluation"])

    @tried(120)
    @example(content=SUITE | {"evaluation": [SUITE["evaluation"][0]] * 2})  # did not name the file
    @given(content=changed(SUITE, TOML))
    def test_changed_anywhere_are_read_or_refused_with_their_place(self, content, place):
        self.load(content, place())

    @tried(30)
    @given(content=st.dictionaries(st.sampled_from(["name", "codec", "evaluation", "task", "model", "dataset"]), TOML, max_size=4))
    def test_of_anything_are_refused_with_their_place(self, content, place):
        self.load(content, place())

    @tried(40)
    @given(content=st.binary(max_size=60) | changed(SUITE, TOML).map(lambda content: inline(content).encode()[:-1]))
    def test_of_any_text_are_refused_with_their_place(self, content, place):
        file = place() / "calls.toml"
        file.write_bytes(content)
        told = mistakes(file)
        assert told  # at the least an evaluation is missing
        for mistake in told:
            one_sentence(mistake, str(file))

    @tried(60)
    @example(table={**SUITE["codec"][0], "modality": []})  # was looked up, and is no key
    @given(table=st.sampled_from(SUITE["codec"]).flatmap(lambda table: changed(table, TOML)) | TOML)
    def test_declare_codecs_or_say_what_is_wrong(self, table):
        try:
            read_commands(table)
        except CodecError as error:
            one_sentence(error, "")

    @tried(30)
    @given(
        arguments=st.dictionaries(st.sampled_from(["suite", "task", "evaluation", "other"]), SCALARS), names=st.lists(SCALARS, max_size=1)
    )
    def test_are_named_by_markers_or_not(self, arguments, names, tmp_path_factory):
        folder = tmp_path_factory.getbasetemp()
        options = Options(["tests"], [EVALUATION], None, "cpu", folder, folder / "out", None, "", False)
        mark = getattr(pytest.mark.mpq, "with_args")(*names, **arguments).mark  # noqa: B009
        try:
            cases_for([mark], options, folder, given=False)
        except MarkerError as error:
            one_sentence(error, "@pytest.mark.mpq")


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A baseline file of a few samples at two points."""
    file = tmp_path_factory.mktemp("baselines") / "tests" / "tried.json"
    measured = [of_record(record(hits(6, 3), quality=quality), {}) for quality in ("q5", "q90")]
    assert len(write_baselines(file, measured, ["jpeg-q5", "jpeg-q90"], only_new=False)) == 2
    return json.loads(file.read_text())


class TestBaselineFiles:
    @tried(100)
    @given(data=st.data())
    def test_changed_anywhere_are_refused_or_show_the_same(self, data, baseline, place):
        file = place() / "tests" / "tried.json"
        file.parent.mkdir()
        content = data.draw(changed(baseline))
        file.write_text(json.dumps(content))
        try:
            found = read_baselines(file)
        except BaselineError as error:
            one_sentence(error, str(file))
        else:
            for one in found.values():
                assert one.value == pytest.approx(6 / 9, abs=1e-6)
                assert one.rate == pytest.approx(8.0)
        with suppress(BaselineError):
            opened = Baselines(file)
            for point in opened:
                with suppress(BaselineError):
                    opened[point]

    @tried(30)
    @given(content=st.binary(max_size=40) | JSON.map(lambda content: json.dumps(content).encode()))
    def test_of_anything_are_refused(self, content, place):
        file = place() / "tried.json"
        file.write_bytes(content)
        with pytest.raises(BaselineError) as error:
            read_baselines(file)
        one_sentence(error.value, str(file))


CELLS: dict[Any, st.SearchStrategy[Any]] = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
    pa.string(): st.text(st.characters(codec="utf-8")),
    pa.binary(): st.binary(),
    pa.bool_(): st.booleans(),
    pa.list_(pa.float64()): st.lists(st.floats(allow_nan=False), max_size=3),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Rows of a store: their samples, and columns of any kind with gaps."""
    rows = draw(st.integers(0, 6))
    columns = {packs.SOURCE: pa.array([draw(st.binary(min_size=32, max_size=32)) for _ in range(rows)], pa.binary(32))}
    for name in draw(st.lists(TEXTS, max_size=3, unique=True)):
        kind = draw(st.sampled_from(list(CELLS)))
        columns.setdefault(name, pa.array(draw(st.lists(st.none() | CELLS[kind], min_size=rows, max_size=rows)), kind))
    return pa.table(columns)


class TestPacks:
    @tried(60)
    @given(table=tables(), bound=TEXTS)
    def test_give_back_the_table_in_their_scope_alone(self, table, bound):
        data = packs.to_bytes(table, bound)
        assert packs.from_bytes(data, bound=bound).equals(table)
        assert packs.from_bytes(data).equals(table)
        assert (packs.parsed(data, bound + "x") is None) == bool(bound)
        names = table.column_names[:2]
        assert set(packs.from_bytes(data, names).column_names) == {packs.SOURCE, *names}

    @tried(150)
    @example(table=pa.table({packs.SOURCE: pa.array([], pa.binary(32)), "": pa.array([], pa.int64())}), seed=1190, inside=True)
    @given(table=tables(), seed=st.integers(0, 2**32), inside=st.booleans())
    def test_that_are_damaged_are_read_or_called_that(self, table, seed, inside):
        data = packs.to_bytes(table, "here")
        if inside:  # the stream in the frame
            size = int.from_bytes(data[:8], "little")
            stream = damaged([pa.Codec("zstd").decompress(data[8:], size, asbytes=True)], seed)
            data = len(stream).to_bytes(8, "little") + pa.Codec("zstd", 1).compress(stream, asbytes=True)
        else:
            data = damaged([data], seed)
        with suppress(ValueError):
            assert len(packs.from_bytes(data, bound="here").to_pylist()) >= 0

    @tried(60)
    @given(table=tables(), limit=st.integers(0, 200))
    def test_are_cut_without_a_loss(self, table, limit):
        parts = list(packs.split(table, limit))
        assert sum(part.num_rows for part in parts) == table.num_rows
        if parts:
            assert pa.concat_tables(parts).equals(table)


NUMBERS = st.integers(0, 2**35 - 1)


class TestBitstreams:
    @tried(60)
    @given(bits=st.integers(1, 20), data=st.data())
    def test_packed_codes_come_back(self, bits, data):
        codes = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
        packed = pack(np.array(codes, np.int64), bits)
        assert len(packed) == packed_size(bits, len(codes))
        assert unpack(packed, bits, len(codes)).tolist() == codes

    @tried(60)
    @given(data=st.binary(max_size=40), bits=st.integers(1, 20), number=st.integers(0, 100))
    def test_codes_of_another_length_are_refused(self, data, bits, number):
        try:
            codes = unpack(data, bits, number)
        except ValueError:
            assert len(data) != -(-bits * number // 8)
        else:
            assert len(codes) == number
            assert codes.max(initial=0) < 2**bits

    @tried(60)
    @given(number=NUMBERS, behind=st.binary(max_size=5))
    def test_numbers_come_back_with_what_stands_behind(self, number, behind):
        assert read_varint(varint(number) + behind) == (number, behind)
        for cut in range(len(varint(number))):
            with pytest.raises(ValueError, match="a number is missing"):
                read_varint(varint(number)[:cut])

    @tried(60)
    @given(bodies=st.lists(st.lists(st.binary(max_size=255), max_size=20), max_size=4), cut=st.integers(1, 2000))
    def test_ogg_pages_come_apart_and_cut_ones_are_refused(self, bodies, cut):
        made = []
        for number, body in enumerate(bodies):
            head = b"OggS\0\0" + bytes(8) + bytes(4) + number.to_bytes(4, "little")
            page = head + bytes(4) + bytes([len(body)]) + bytes(map(len, body)) + b"".join(body)
            made.append(page[:22] + checksum(page) + page[26:])
        whole = b"".join(made)
        assert pages(whole) == made
        if len(whole) - cut not in (0, *np.cumsum([len(page) for page in made])) and cut < len(whole):
            with pytest.raises(ValueError, match="Ogg"):
                pages(whole[:-cut])

    @tried(40)
    @given(
        check=st.integers(0, 2**32 - 1), number=NUMBERS, height=st.integers(1, 2**14), width=st.integers(1, 2**14),
        strings=st.tuples(st.binary(max_size=300), st.binary(max_size=300)),
    )  # fmt: skip
    def test_of_compressai_come_back(self, check, number, height, width, strings):
        stream = Stream(check, f"q{number}", height, width, *strings)
        assert Stream.of(stream.to_bytes()) == stream

    @tried(40)
    @given(height=st.integers(1, 2**14), width=st.integers(1, 2**14), packed=st.binary(max_size=50))
    def test_of_tensorflow_come_back(self, height, width, packed):
        assert _opened(seal(varint(height) + varint(width) + packed)) == (height, width, packed)

    @tried(150)
    @example(data=b"")
    @example(data=b"OggS")  # counted its segments behind the end
    @given(data=st.binary(max_size=60))
    def test_of_any_bytes_are_read_or_refused(self, data):
        commands = {"name": "own", "encode": "e {input} {output}", "decode": "d {input} {output}", "qualities": [1], "bitstream": ".b"}
        image = CommandImage(read_commands({**commands, "modality": "image"})[1])
        readers: list[Callable[[bytes], Any]] = [Stream.of, _opened, image._head, pages, RvqPocket()._read, frames_of]
        readers += [lambda data: Stream.of(seal(data)), lambda data: _opened(seal(data))]
        readers += [cls()._split for cls in registered().values() if issubclass(cls, AudioCodec)]
        for read in readers:
            with suppress(ValueError):
                read(data)

    @tried(60)
    @given(rate=NUMBERS, frames=NUMBERS, streams=st.lists(st.binary(max_size=200), min_size=1, max_size=5))
    def test_of_sounds_come_apart_as_they_were_put_together(self, rate, frames, streams):
        codec = Lyra()  # a stream for each channel
        head = varint(rate) + varint(frames) + varint(len(streams))
        data = head + b"".join(varint(len(stream)) + stream for stream in streams[:-1]) + streams[-1]
        if 1000 <= rate <= 384_000:
            assert codec._split(data) == (rate, frames, len(streams), streams)
        else:
            with pytest.raises(ValueError, match="a sample rate of"):
                codec._split(data)

    @tried(40)
    @given(stages=st.integers(0, 255).filter(lambda stages: stages not in Lyra._stages.values()), packets=st.binary(max_size=50))
    def test_of_lyra_with_other_packets_are_refused(self, stages, packets):
        with pytest.raises(ValueError, match=f"packets of {stages} indices"):
            Lyra().decode_stream(bytes([stages]) + packets)

    @tried(40)
    @given(kinds=st.lists(st.integers(0, 7), max_size=20), data=st.data())
    def test_of_amr_come_apart_into_their_frames(self, kinds, data):
        sizes = list(MODES.values())
        frames = [bytes([kind << 3]) + data.draw(st.binary(min_size=sizes[kind] - 1, max_size=sizes[kind] - 1)) for kind in kinds]
        assert frames_of(b"".join(frames)) == frames


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two cases."""
    folder = tmp_path_factory.mktemp("run")
    cases = [(Case(EVALUATION, "jpeg", quality), record(hits(6, 3), quality=quality)) for quality in ("q5", "q90")]
    about = {"provenance": results()["provenance"], "created": "2026-10-01"}
    write_results(folder, [Result(case, PASSED, one) for case, one in cases], about)
    return folder


class TestResults:
    @pytest.mark.parametrize("lost", ["provenance", "rate_unit", "metrics", "metric", "tolerance", "suite"])
    def test_without_a_part_are_compared_or_refused(self, lost, run, place, capsys):
        content = json.loads((run / "results.json").read_text())
        for part in (content, content["cases"][0], content["cases"][0]["metrics"]["top1"]):
            if lost in part:
                part[lost] = None
                self.compare(content, run, place, capsys)
                del part[lost]
                self.compare(content, run, place, capsys)

    @tried(100)
    @given(data=st.data())
    def test_changed_anywhere_are_compared_or_refused(self, data, run, place, capsys):
        self.compare(data.draw(changed(json.loads((run / "results.json").read_text()))), run, place, capsys)

    def compare(self, content: Any, run: Path, place: Callable[[], Path], capsys: Any) -> None:
        folder = place()
        (folder / "results.json").write_text(json.dumps(content))
        (folder / "samples.parquet").symlink_to(run / "samples.parquet")
        for pair in ((folder, run), (run, folder)):
            code = compare_runs(*pair)
            said = capsys.readouterr()
            assert code in (0, 1, 2)
            if code == 2:
                one_sentence(said.err.removesuffix("\n"), "mpq compare: ")

    @tried(40)
    @given(content=JSON)
    def test_of_anything_are_refused(self, content, place):
        folder = place()
        (folder / "results.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"results\.json"):
            read_results(folder)

    @tried(60)
    @example(content=results() | {"provenance": None})
    @example(content=results() | {"created": []})
    @example(content=results() | {"cases": [{**results()["cases"][0], "verdict": []}]})  # was to become a column of texts
    @example(content=results() | {"cases": [{**results()["cases"][0], "metrics": {"top1": 1}}]})
    @given(content=changed(results()))
    def test_changed_anywhere_are_kept_in_a_history_that_can_be_read(self, content, place):
        folder = place()
        with suppress(ValueError):
            content = checked(content, folder)
            append(folder / "history", content)
            read_history(folder / "history")

    @tried(60)
    @given(table=tables(), names=st.lists(st.sampled_from(["run", "started", "host", "case", "value", "versions", "signal"]), unique=True))
    def test_of_a_history_with_files_of_others_are_read_without_them(self, table, names, place):
        folder = place()
        append(folder, results())
        (other,) = folder.iterdir()
        whole = pq.read_table(other)
        rows = whole.slice(0, min(len(whole), len(table)))
        columns = {name: table.slice(0, len(rows))[name] for name in table.column_names}
        changed = {name: rows[name] for name in rows.column_names} | dict(zip(names, columns.values(), strict=False))
        pq.write_table(pa.table(changed), folder / "20261001T020000Z-other-01234567.parquet")
        assert read_history(folder).courses


def checked(content: Any, folder: Path) -> dict[str, Any]:
    """Content of ``results.json`` as a reader has it; raises `ValueError`."""
    (folder / "results.json").write_text(json.dumps(content))
    return read_results(folder)


ANNOTATIONS = {
    "images": [{"id": 1, "file_name": "a.png", "height": 8, "width": 8}, {"id": 2, "file_name": "b.png"}],
    "categories": [{"id": 0, "name": "things", "supercategory": "none"}, {"id": 3, "name": "cat", "supercategory": "things"},
                   {"id": 4, "name": "dog", "supercategory": "things"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 4, 4.5], "iscrowd": 0, "area": 18.0},
        {"id": 2, "image_id": 1, "category_id": 4, "bbox": [1, 1, 2, 2], "iscrowd": 1},
    ],
}  # fmt: skip


def picture() -> bytes:
    file = io.BytesIO()
    Picture.new("RGB", (8, 8), (9, 90, 200)).save(file, "PNG")
    return file.getvalue()


def all_or_error(evaluation: Evaluation) -> None:
    """Read a data set with all of its samples, which may fail one by one, each as a sample's failure."""
    try:
        dataset = read_table(evaluation)
    except AssetError as error:
        one_sentence(error, evaluation.name)
        return
    for sample in dataset.samples:
        assert isinstance(sample.id, str)
        for read in (sample.signal, sample.target):
            with suppress(OSError, ValueError):
                read()


def evaluation_of(task: str, dataset: dict[str, Any], folder: Path) -> Evaluation:
    found = find_task(task)
    return Evaluation("tried", "tests", found, "a/model", dataset, (), folder, options=dict(found.options))


class TestDataSets:
    @tried(60)
    @given(content=changed(ANNOTATIONS) | JSON)
    def test_of_coco_are_read_or_refused(self, content, place):
        folder = place()
        (folder / "test").mkdir()
        (folder / "test" / "a.png").write_bytes(picture())
        (folder / "test" / coco.BESIDE).write_text(json.dumps(content))
        all_or_error(evaluation_of("object_detection", {"path": "coco", "data_dir": str(folder), "split": "test"}, folder))

    @tried(12)
    @given(
        cells=st.lists(
            st.one_of(st.sampled_from(["a.png", "b.png", "cat", "1", "1.5", "", "nan", "true"]), TEXTS), min_size=4, max_size=12
        ),
        columns=st.lists(st.sampled_from(["file_name", "label", "id", "group", "other", ""]), min_size=1, max_size=3),
        named=st.dictionaries(st.sampled_from(["id", "group", "label", "image"]), st.sampled_from(["id", "group", "label", "image", "x"])),
    )
    def test_with_tables_of_csv_are_read_or_refused(self, cells, columns, named, place):
        folder = place()
        (folder / "a.png").write_bytes(picture())
        rows = [columns, *(cells[start : start + len(columns)] for start in range(0, len(cells), len(columns)))]
        text = "\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
        (folder / "metadata.csv").write_text(text, encoding="utf-8")
        all_or_error(evaluation_of("image_classification", {"path": "imagefolder", "data_dir": str(folder), **named}, folder))

    @tried(12)
    @given(rows=st.lists(st.fixed_dictionaries({}, optional={"image": JSON, "label": JSON, "id": JSON}), max_size=4), form=st.booleans())
    def test_of_json_are_read_or_refused(self, rows, form, place):
        folder = place()
        lines = "\n".join(json.dumps(row) for row in rows) if form else json.dumps(rows)
        (folder / "rows.json").write_text(lines)
        settings = {"path": "json", "data_files": "rows.json", "image": "image", "label": "label"}
        all_or_error(evaluation_of("image_classification", settings, folder))

    @tried(12)
    @given(table=tables(), names=st.permutations(["image", "label", "id"]))
    def test_of_parquet_are_read_or_refused(self, table, names, place):
        folder = place()
        table = table.rename_columns([*names, "x", "y"][: len(table.column_names)])
        pq.write_table(table, folder / "rows.parquet")
        settings = {"path": "parquet", "data_files": "rows.parquet", "image": "image", "label": "label"}
        all_or_error(evaluation_of("image_classification", settings, folder))


FLOATS = arrays(st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_]), array_shapes(min_dims=0, min_side=0, max_side=4))
ANSWERS = st.one_of(st.integers(), st.text(), FLOATS, st.dictionaries(st.text(st.characters(codec="ascii", categories=["L", "N"])), FLOATS))


class TestAnswers:
    @tried(80)
    @given(answer=ANSWERS)
    def test_come_back(self, answer):
        found = predictions.from_bytes(predictions.to_bytes(answer))
        assert type(found) is type(answer)
        pairs = [(found[name], answer[name]) for name in answer] if isinstance(answer, dict) else [(found, answer)]
        for one, other in pairs:
            assert np.array_equal(one, other, equal_nan=getattr(other, "dtype", np.dtype("U")).kind == "f")
            assert getattr(one, "dtype", None) == getattr(other, "dtype", None)
        assert not isinstance(answer, dict) or list(found) == list(answer)

    @tried(200)
    @given(answer=ANSWERS, seed=st.integers(0, 2**32))
    def test_that_are_damaged_are_refused_or_something_else(self, answer, seed):
        data = predictions.to_bytes(answer)
        for form in (data, damaged([data], seed)):
            for name in tasks.registered():
                with suppress(ValueError):
                    find_task(name).from_bytes(form)

    @tried(60)
    @example(data=b"", task="image_classification")  # raised EOFError
    @example(data=b"m\x78", task="image_segmentation")  # zlib.error
    @example(data=b"5", task="source_separation")
    @given(data=st.binary(max_size=60), task=st.sampled_from(sorted(tasks.registered())))
    def test_of_any_bytes_are_refused_or_something(self, data, task):
        for form in (b"", b"j", b"m", b"s"):
            with suppress(ValueError):
                find_task(task).from_bytes(form + data)
