"""Suite files: what a good one gives, and that each mistake is said with its place and the nearest valid name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mpq_fixtures.codecs.jpeg import Jpeg
from mpq_fixtures.codecs.lyra import Lyra
from mpq_fixtures.codecs.opus import Opus
from mpq_fixtures.suite import Case, Evaluation, SuiteError, Threshold
from mpq_fixtures.suite.file import check_unique, find_suite, load_suite

SUITES = Path(__file__).parents[1] / "evaluations" / "suites"

CALLS = """\
name = "calls"

[[evaluation]]
name = "whisper_calls"
task = "speech_recognition"
model = "openai/whisper-base"
dataset = { path = "audiofolder", data_dir = "calls", split = "test" }
codecs = ["opus", "mp3"]
qualities = { opus = ["12k", "6k"] }
samples = 200
thresholds = { value = ">= 0.80", retention = ">=0.95" }
options = { normaliser = "whisper_english", language = "german" }
"""

PICTURES = """\
name = "pictures"

[[evaluation]]
name = "vit_pictures"
task = "image_classification"
model = "python:model:load"
dataset = { path = "python:model:pictures" }
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    return tmp_path / "suite.toml"


def load(file: Path, content: str) -> list[Evaluation]:
    file.write_text(content)
    return load_suite(file)


class TestGoodFile:
    @pytest.fixture
    def evaluation(self, suite_file: Path) -> Evaluation:
        return load(suite_file, CALLS)[0]

    def test_holds_what_was_written(self, evaluation: Evaluation, suite_file: Path) -> None:
        assert (evaluation.name, evaluation.suite, evaluation.task.name) == ("whisper_calls", "calls", "speech_recognition")
        assert (evaluation.model, evaluation.samples) == ("openai/whisper-base", 200)
        assert evaluation.dataset == {"path": "audiofolder", "data_dir": "calls", "split": "test"}
        assert evaluation.options == {"normaliser": "whisper_english"}
        assert evaluation.model_options == {"precision": "float32", "language": "german"}
        assert evaluation.folder == suite_file.parent

    def test_gives_ids_that_say_evaluation_codec_and_quality(self, evaluation: Evaluation) -> None:
        mp3 = [case.id for case in evaluation.cases if case.codec == "mp3"]
        assert [case.id for case in evaluation.cases] == [
            "whisper_calls-original", "whisper_calls-opus-6k", "whisper_calls-opus-12k", *mp3
        ]  # fmt: skip
        assert len(mp3) >= 5

    def test_measures_from_the_lowest_rate_up_however_the_qualities_were_listed(self, evaluation: Evaluation) -> None:
        assert [case.quality for case in evaluation.cases if case.codec == "opus"] == ["6k", "12k"]
        assert Opus.ladder.index("6k") < Opus.ladder.index("12k")

    def test_takes_every_codec_of_the_modality_by_default(self, suite_file: Path) -> None:
        cases = load(suite_file, PICTURES)[0].cases
        assert {case.codec for case in cases} >= {"original", "jpeg", "webp", "avif", "jp2k", "jxl"}
        assert not {case.codec for case in cases} & {"opus", "mp3", "aac", "vorbis"}
        assert [case.quality for case in cases if case.codec == "jpeg"] == list(Jpeg.ladder)

    def test_fills_in_the_options_of_the_task(self, suite_file: Path) -> None:
        evaluation = load(suite_file, CALLS.replace('options = { normaliser = "whisper_english", language = "german" }\n', ""))[0]
        assert evaluation.options == {"normaliser": "whisper_english"}
        assert evaluation.model_options == {"precision": "float32", "language": "english"}

    def test_may_have_no_codec_at_all(self, suite_file: Path) -> None:
        assert [case.id for case in load(suite_file, PICTURES + "codecs = []\n")[0].cases] == ["vit_pictures-original"]

    def test_of_the_project_is_well_formed(self) -> None:
        for path in SUITES.glob("*.toml"):
            cases = [case for evaluation in load_suite(path) for case in evaluation.cases]
            assert all(re.fullmatch(r"[a-z0-9_.]+-(original|[a-z0-9_.]+-[a-z0-9_.]+)", case.id) for case in cases)
            assert len({case.id for case in cases}) == len(cases) > 0


class TestCase:
    def test_knows_its_point(self, suite_file: Path) -> None:
        original, severe, *_ = load(suite_file, CALLS)[0].cases
        assert (original.point, original.is_original) == ("original", True)
        assert (severe.point, severe.is_original) == ("opus-6k", False)
        assert Case(severe.evaluation, "mp3", "8k").id == "whisper_calls-mp3-8k"


class TestNames:
    """As results show them: the last part of a folder, a hub id as it stands."""

    @pytest.mark.parametrize(
        ("model", "shown"),
        [
            ("google/vit-base-patch16-224", "google/vit-base-patch16-224"),
            ("../../models/vit_pocket", "vit_pocket"),
            ("/srv/models/vit_ours", "vit_ours"),
            ("python:model:load", "python:model:load"),
        ],
    )
    def test_of_models(self, suite_file: Path, model: str, shown: str) -> None:
        assert load(suite_file, PICTURES.replace("python:model:load", model))[0].model_name == shown

    @pytest.mark.parametrize(
        ("dataset", "shown"),
        [
            ('{ path = "zh-plus/tiny-imagenet", split = "valid[:60]", image = "image" }', "zh-plus/tiny-imagenet:valid[:60]"),
            ('{ path = "python:model:pictures" }', "model:pictures"),
        ],
    )
    def test_of_data_sets(self, suite_file: Path, dataset: str, shown: str) -> None:
        assert load(suite_file, PICTURES.replace('{ path = "python:model:pictures" }', dataset))[0].dataset_name == shown


class TestThreshold:
    @pytest.mark.parametrize(
        ("text", "held", "missed"), [(">= 0.8", 0.8, 0.79), ("> 0.8", 0.81, 0.8), ("<= 1.5", 1.5, 1.51), ("<1.5e0", 1.49, 1.5)]
    )
    def test_holds_or_does_not(self, suite_file: Path, text: str, held: float, missed: float) -> None:
        (threshold,) = load(suite_file, PICTURES + f'thresholds = {{ rate = "{text}" }}\n')[0].thresholds
        assert threshold.holds(held)
        assert not threshold.holds(missed)

    @pytest.mark.parametrize("relation", [">=", ">", "<=", "<"])
    def test_is_not_kept_by_nan(self, relation: str) -> None:
        assert not Threshold("value", relation, 0.5).holds(float("nan"))

    @pytest.mark.parametrize(
        ("text", "lies"),
        [
            ('value = ">= 0"', "top1 lies in 0 to 1"),
            ('value = "> -0.1"', "top1 lies in 0 to 1"),
            ('value = "<= 1"', "top1 lies in 0 to 1"),
            ('value = "< 1.5"', "top1 lies in 0 to 1"),
            ('rate = ">= 0"', "rate lies in 0 to inf"),
            ('rate = "> -1"', "rate lies in 0 to inf"),
            ('retention = ">= 0"', "retention lies in 0 to inf"),  # of what has no value below 0
        ],
    )
    def test_that_no_result_can_miss_is_refused(self, suite_file: Path, text: str, lies: str) -> None:
        with pytest.raises(SuiteError, match=rf"thresholds: .* can never be missed: every result keeps it, since {lies}"):
            load(suite_file, PICTURES + f"thresholds = {{ {text} }}\n")

    @pytest.mark.parametrize("text", ['value = "> 1"', 'value = "< 0"', 'rate = "< 0"', 'retention = "< 0"'])
    def test_that_no_result_can_keep_is_refused(self, suite_file: Path, text: str) -> None:
        with pytest.raises(SuiteError, match=r"thresholds: .* can never hold: no result keeps it"):
            load(suite_file, PICTURES + f"thresholds = {{ {text} }}\n")

    @pytest.mark.parametrize("text", ['value = "> 0"', 'value = "< 1"', 'value = ">= 1"', 'rate = "> 0"', 'rate = "<= 0"'])
    def test_that_may_go_either_way_is_taken(self, suite_file: Path, text: str) -> None:
        assert len(load(suite_file, PICTURES + f"thresholds = {{ {text} }}\n")[0].thresholds) == 1

    @pytest.mark.parametrize("text", ['retention = ">= 0"', 'value = ">= -1"'])
    def test_knows_that_word_accuracy_falls_below_nothing(self, suite_file: Path, text: str) -> None:
        table = '{ value = ">= 0.80", retention = ">=0.95" }'
        assert len(load(suite_file, CALLS.replace(table, f"{{ {text} }}"))[0].thresholds) == 1

    @pytest.mark.parametrize("bound", ["inf", "-inf", "nan", "1e999", "-1e999"])
    def test_bound_must_be_finite(self, suite_file: Path, bound: str) -> None:
        with pytest.raises(SuiteError, match=r"thresholds: rate: .* must be a relation and a number"):
            load(suite_file, PICTURES + f'thresholds = {{ rate = "<= {bound}" }}\n')

    def test_reads_as_it_was_written(self, suite_file: Path) -> None:
        assert [str(threshold) for threshold in load(suite_file, CALLS)[0].thresholds] == ["value >= 0.8", "retention >= 0.95"]


class TestMargins:
    def test_are_the_metrics_own_and_too_few_samples_are_said_where_the_file_says_nothing(self, suite_file: Path) -> None:
        evaluation = load(suite_file, PICTURES)[0]
        assert (evaluation.margins, evaluation.underpowered) == ({}, "say")

    def test_are_of_the_value_the_rate_and_signal_metrics(self, suite_file: Path) -> None:
        content = 'margins = { value = 0.02, rate = 0.01, psnr = 1, ms_ssim = 0.002 }\nsimilarity = ["ms_ssim"]\nunderpowered = "fail"\n'
        evaluation = load(suite_file, PICTURES + content)[0]
        assert evaluation.margins == {"value": 0.02, "rate": 0.01, "psnr": 1.0, "ms_ssim": 0.002}
        assert evaluation.underpowered == "fail"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ('margins = "0.02"', ["margins: write a table", "value = 0.02"]),
            ("margins = { valeu = 0.02 }", ["margins: unknown 'valeu'", "did you mean 'value'?"]),
            ("margins = { si_sdr = 0.1 }", ["margins: unknown 'si_sdr'"]),  # of the other modality
            ("margins = { dists = 0.1 }", ["margins: dists is not measured here", 'similarity = ["dists"]']),
            ("margins = { value = 0 }", ["margins: value: 0 must be a number above 0"]),
            ("margins = { value = -0.02 }", ["margins: value: -0.02"]),
            ('margins = { value = "0.02" }', ["margins: value: '0.02'"]),
            ("margins = { value = true }", ["margins: value: True"]),
            ("margins = { value = nan }", ["margins: value: nan"]),
            ("margins = { psnr = inf }", ["margins: psnr: inf"]),
            ("margins = { value = 2 }", ["margins: value: 2 lets everything pass", "less than 1"]),
            ("margins = { rate = 1 }", ["margins: rate: 1 lets everything pass", "0.01 is 1 %"]),
            ('underpowered = "red"', ["underpowered: unknown 'red'", "say, fail"]),
            ("underpowered = true", ["underpowered: unknown True"]),
        ],
    )
    def test_that_are_mistaken_are_said_in_one_sentence(self, suite_file: Path, text: str, words: list[str]) -> None:
        with pytest.raises(SuiteError) as caught:
            load(suite_file, PICTURES + text + "\n")
        message = str(caught.value)
        assert message.startswith(f"{suite_file}: evaluation 1 (vit_pictures): ")
        assert [word for word in words if word not in message] == [], message
        assert "\n" not in message


class TestOptionalCodec:
    def test_that_lacks_something_is_left_out_by_name(self, suite_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        content = CALLS.replace('["opus", "mp3"]', '["opus"]\noptional = ["mp3", "lyra"]')
        monkeypatch.setattr(Lyra, "missing", lambda self, qualities=(): "weights are not here")
        evaluation = load(suite_file, content)[0]
        assert evaluation.left_out == ("lyra",)
        assert {codec for codec, _ in evaluation.points} == {"opus", "mp3"}
        monkeypatch.setattr(Lyra, "missing", lambda self, qualities=(): "")
        evaluation = load(suite_file, content)[0]
        assert evaluation.left_out == ()
        assert {codec for codec, _ in evaluation.points} == {"opus", "mp3", "lyra"}

    def test_that_the_file_asks_for_otherwise_too_is_never_left_out(self, suite_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Opus, "missing", lambda self, qualities=(): "libopus is not here")
        evaluation = load(suite_file, CALLS.replace('["opus", "mp3"]', '["*"]\noptional = ["opus"]'))[0]
        assert evaluation.left_out == ()
        assert "opus" in {codec for codec, _ in evaluation.points}


MISTAKES = {
    # what: (what stands in the file, what stands there instead, what the message must hold)
    "syntax": ("samples = 200", "samples = ", "TOML", "line 10"),
    "no evaluation": (CALLS[CALLS.index("[[") :], "", "'evaluation' is missing"),
    "empty list of evaluations": (CALLS[CALLS.index("[[") :], "evaluation = []", "evaluation"),
    "single brackets": ("[[evaluation]]", "[evaluation]", "[[evaluation]]"),
    "suite name in capitals": ('name = "calls"', 'name = "Calls"', "name: 'Calls'", "lower case"),
    "suite name of another type": ('name = "calls"', "name = 3", "name: 3"),
    "unknown key on top": ("[[evaluation]]", 'evaluations = 1\n[[evaluation]]', "unknown key 'evaluations'", "did you mean 'evaluation'?"),
    "unknown key": ("samples = 200", "sample = 200", "evaluation 1 (whisper_calls)", "unknown key 'sample'", "did you mean 'samples'?"),
    "missing task": ('task = "speech_recognition"', "", "evaluation 1 (whisper_calls)", "'task' is missing"),
    "missing model": ('model = "openai/whisper-base"', "", "evaluation 1 (whisper_calls)", "'model' is missing"),
    "missing dataset": (
        'dataset = { path = "audiofolder", data_dir = "calls", split = "test" }', "", "evaluation 1 (whisper_calls)", "'dataset' is missing"
    ),
    "name in capitals": ('"whisper_calls"', '"Whisper"', "name: 'Whisper'", "lower case"),
    "name with a dash": ('"whisper_calls"', '"whisper-calls"', "name: 'whisper-calls'", "lower case"),
    "name of another type": ('name = "whisper_calls"', "name = 1", "evaluation 1", "name: 1"),
    "name that holds a codec's": ('"whisper_calls"', '"magnum_opus"', "'magnum_opus' contains the codec name 'opus'"),
    "unknown task": ('h_recognition"', 'h_recogniton"', "task: unknown 'speech_recogniton'", "did you mean 'speech_recognition'?"),
    "task of another type": ('"speech_recognition"', "1", "task: unknown", "speech_recognition"),
    "model of another type": ('"openai/whisper-base"', "7", "model:", "hub id"),
    "unknown precision": ('"whisper_english"', '"none", precision = "half"', "precision: unknown 'half'", "float32, float16, bfloat16"),
    "option of a loader with a callable": (
        'model = "openai/whisper-base"', 'model = "python:a:b"', "options: language: a python: model settles this", "leave it out"
    ),
    "language of another type": ('"german"', "3", "options: language: 3", "german"),
    "dataset of another type": ('{ path = "audiofolder", data_dir = "calls", split = "test" }', '"calls"', "dataset:", "path"),
    "dataset without a path": ('path = "audiofolder", ', "", "dataset:", "path"),
    "group of another type": ('split = "test"', 'split = "test", group = 3', "dataset: group: 3", "the name of a column"),
    "group of a callable": (
        'path = "audiofolder", data_dir = "calls", split = "test"', 'path = "python:a:b", group = "speaker"', "group: a python: data",
        "leave it out",
    ),
    "unknown codec": ('["opus", "mp3"]', '["opuss", "mp3"]', "codecs: unknown 'opuss'", "did you mean 'opus'?"),
    "codec of the other modality": ('["opus", "mp3"]', '["opus", "jpeg"]', "codecs: unknown 'jpeg'", "opus"),
    "codec twice": ('["opus", "mp3"]', '["opus", "mp3", "opus"]', "codecs: 'opus' stands twice"),
    "codecs of another type": ('["opus", "mp3"]', '"opus"', "codecs: write a list"),
    "optional codecs of another type": ('["opus", "mp3"]', '["opus", "mp3"]\noptional = 3', "optional: write a list"),
    "codec of another type": ('["opus", "mp3"]', "[1]", "codecs: unknown", "opus"),
    "unknown quality": ('["12k", "6k"]', '["12k", "loud"]', "qualities: opus: 'loud' is not one of", "6k"),
    "unknown scale": ('["12k", "6k"]', '["12k@0.5x"]', "qualities: opus: @0.5x: a sound is brought to a sample rate", "such as @8khz"),
    "quality of a codec left out": ("{ opus =", "{ aac =", "qualities: unknown 'aac'", "opus, mp3"),
    "quality of another type": ('["12k", "6k"]', "[6]", "qualities: opus: write a list", "6k"),
    "qualities of another type": ('{ opus = ["12k", "6k"] }', '["6k"]', "qualities: write a table"),
    "qualities of one codec of another type": ('["12k", "6k"]', '"6k"', "qualities: opus: write a list"),
    "samples of another type": ("= 200", '= "200"', "samples: '200'", "whole number"),
    "no samples": ("= 200", "= 0", "samples: 0", "whole number"),
    "samples as truth": ("= 200", "= true", "samples: True", "whole number"),
    "threshold without relation": ('">= 0.80"', '"0.80"', "thresholds: value: '0.80'", ">= 0.8"),
    "threshold as number": ('">= 0.80"', "0.80", "thresholds: value: 0.8", ">= 0.8"),
    "threshold that is no number": ('">= 0.80"', '">= 0.8.0"', "thresholds: value: '>= 0.8.0'", ">= 0.8"),
    "threshold that can never hold": ('">= 0.80"', '">= 80"', "thresholds: value >= 80 can never hold", "-inf to 1"),
    "unknown threshold": ("retention =", "retentoin =", "thresholds: unknown key 'retentoin'", "did you mean 'retention'?"),
    "thresholds of another type": ('{ value = ">= 0.80", retention = ">=0.95" }', '">= 0.8"', "thresholds: write a table"),
    "unknown option": ("{ normaliser", "{ normal", "options: unknown key 'normal'", "did you mean 'normali"),
    "an option twice": ("{ normaliser", '{ normalizer = "none", normaliser', "options: normalizer and normaliser are one and the same", ""),
    "option that the metric refuses": ('"whisper_english"', '"klingon"', "options:", "klingon"),
    "options of another type": ('{ normaliser = "whisper_english", language = "german" }', '"english"', "options: write a table"),
}  # fmt: skip


class TestNamesThatAreNotGiven:
    def test_follow_from_the_file_where_none_is_given(self, tmp_path: Path) -> None:
        file = tmp_path / "Holiday_2026.toml"
        file.write_text('[[evaluation]]\ntask = "image_classification"\nmodel = "vit"\ndataset = { path = "photos" }\n')
        (evaluation,) = load_suite(file)
        assert (evaluation.suite, evaluation.name) == ("holiday_2026", "holiday_2026")

    def test_are_one_for_a_file_that_is_one_evaluation(self, tmp_path: Path) -> None:
        file = tmp_path / "photos.toml"
        file.write_text('task = "image_classification"\nmodel = "vit"\ndataset = { path = "photos" }\ntargets = "original"\n')
        (evaluation,) = load_suite(file)
        assert (evaluation.suite, evaluation.name, evaluation.targets) == ("photos", "photos", "original")
        file.write_text(file.read_text() + "tasks = 1\n")
        with pytest.raises(SuiteError, match="unknown key 'tasks'; did you mean 'task'"):
            load_suite(file)

    def test_of_files_that_are_none_are_asked_for(self, tmp_path: Path) -> None:
        file = tmp_path / "my photos.toml"
        file.write_text('[[evaluation]]\ntask = "image_classification"\nmodel = "vit"\ndataset = { path = "photos" }\n')
        with pytest.raises(SuiteError, match="name: the file's own name stands for it; 'my photos' must be lower case"):
            load_suite(file)


class TestMistake:
    @pytest.mark.parametrize("mistake", MISTAKES)
    def test_is_said_with_its_place(self, suite_file: Path, mistake: str) -> None:
        right, wrong, *expected = MISTAKES[mistake]
        assert right in CALLS
        with pytest.raises(SuiteError) as caught:
            load(suite_file, CALLS.replace(right, wrong, 1))
        message = str(caught.value)
        assert message.startswith(str(suite_file))
        assert [part for part in expected if part not in message] == [], message
        assert "\n" not in message

    def test_of_a_file_that_is_no_text(self, suite_file: Path) -> None:
        suite_file.write_bytes(b'name = "\xff"')
        with pytest.raises(SuiteError, match=r"suite\.toml: not valid TOML"):
            load_suite(suite_file)

    def test_that_two_evaluations_share_a_name(self, suite_file: Path) -> None:
        with pytest.raises(SuiteError, match="'whisper_calls' stands twice"):
            load(suite_file, CALLS + CALLS[CALLS.index("[[") :])

    def test_that_two_suites_share_an_evaluation(self, tmp_path: Path) -> None:
        evaluations = load(tmp_path / "one.toml", CALLS) + load(tmp_path / "two.toml", CALLS.replace('"calls"', '"other"', 1))
        with pytest.raises(SuiteError, match="'whisper_calls' stands twice, in 'calls' and 'other'"):
            check_unique(evaluations)


class TestSuiteArgument:
    def test_is_the_name_of_a_suite_of_the_project_and_the_file_of_any_other(self, tmp_path: Path) -> None:
        own, mine = tmp_path / "evaluations" / "suites" / "nightly.toml", tmp_path / "suites" / "mine.toml"
        for file in (own, mine):
            file.parent.mkdir(parents=True)
            file.write_text(CALLS)
        assert load_suite(own)[0].suite_argument == "nightly"
        assert load_suite(mine)[0].suite_argument == str(mine)


class TestFindSuite:
    def test_finds_a_name_and_a_file(self, suite_file: Path) -> None:
        suite_file.write_text(CALLS)
        assert find_suite("suite", suite_file.parent) == suite_file
        assert find_suite(str(suite_file), SUITES) == suite_file

    def test_says_the_nearest_of_an_unknown_name(self) -> None:
        with pytest.raises(SuiteError, match=r"unknown suite 'poket'; did you mean 'pocket'\? There are: .*pocket"):
            find_suite("poket", SUITES)

    def test_says_which_file_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(SuiteError, match=r"no suite file .*nothing\.toml"):
            find_suite(str(tmp_path / "nothing.toml"), SUITES)
