"""Callables that suite files name: where their modules are found, and what they may return."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures.datasets import load_dataset
from mpq_fixtures.errors import AssetError
from mpq_fixtures.models.callables import digest_of_callable, find_callable
from mpq_fixtures.models.open_model import OpenModel
from mpq_fixtures.suite import Evaluation
from mpq_fixtures.suite.file import load_suite

SUITE = """
name = "own"
[[evaluation]]
name = "mine"
task = "image_classification"
model = "python:{model}"
dataset = {{ path = "python:{data}" }}
codecs = []
"""
HEAD = "import numpy as np\nclass Model:\n    def predict(self, signals): return [0] * len(signals)\n"
DATA = "from mpq_fixtures.datasets import Dataset\nfrom mpq_fixtures.signals import Sample\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write modules beside a suite file, own.py by itself and pkg/mod.py as ``pkg__mod``, and return the folder."""

    def files(content: str = "", **modules: str) -> Path:
        for name, source in {**modules, **({"own": content} if content else {})}.items():
            file = tmp_path / f"{name.replace('__', '/', 1)}.py"
            file.parent.mkdir(exist_ok=True)
            file.write_text(source)
        return tmp_path

    return files


def evaluation(folder: Path, model: str = "own:load", data: str = "own:samples") -> Evaluation:
    (folder / "suite.toml").write_text(SUITE.format(model=model, data=data))
    return load_suite(folder / "suite.toml")[0]


class TestModels:
    @pytest.mark.parametrize(
        ("body", "complaint"),
        [
            ("def load(device): raise ValueError('no\\nlicence')", r"\(device\) raised ValueError: no licence \(.*own\.py, line 4\)"),
            ("def load(): return Model()", r"\(device\) raised TypeError: load\(\) takes 0"),
            ("def load(device): raise SystemExit(3)", r"\(device\) raised SystemExit: 3"),
            ("def load(device): return None", r"\(device\) returned None, which has no predict\(signals\)"),
            ("def load(device): return object()", r"\(device\) returned an instance of object, which has no predict"),
            ("class load(Model):\n    batch_size = 0\n    def __init__(self, device): pass", "batch_size is 0: make it a whole number"),
            ("class load(Model):\n    batch_size = 'all'\n    def __init__(self, device): pass", "batch_size is 'all'"),
            ("class load(Model):\n    batch_size = True\n    def __init__(self, device): pass", "batch_size is True"),
            (
                "class load(Model):\n    labels = 'night'\n    def __init__(self, device): pass",
                "labels are 'night': make them a list of texts",
            ),
            ("class load(Model):\n    labels = {0: 'a'}\n    def __init__(self, device): pass", r"labels are \{0: 'a'\}"),
            ("class load(Model):\n    labels = [0, 1]\n    def __init__(self, device): pass", r"labels are \[0, 1\]"),
        ],
    )
    def test_what_is_no_model_is_an_error_that_names_the_callable(self, body: str, complaint: str, write: Write) -> None:
        with pytest.raises(AssetError, match=f"^mine: python:own:load.*{complaint}"):
            OpenModel(evaluation(write(HEAD + body)), "cpu").ready()

    @pytest.mark.parametrize(
        ("body", "labels", "batch"),
        [
            ("labels = np.array(['a', 'b'])", ("a", "b"), 8),
            ("labels = [np.str_('a'), 'b']\n    batch_size = np.int64(3)", ("a", "b"), 3),
            ("labels = None\n    batch_size = None", (), 8),
            ("@property\n    def labels(self): return ['a']", ("a",), 8),
        ],
    )
    def test_labels_become_texts_and_none_means_none_told(self, body: str, labels: tuple[str, ...], batch: int, write: Write) -> None:
        folder = write(f"{HEAD}class load(Model):\n    {body}\n    def __init__(self, device): pass\n")
        model = OpenModel(evaluation(folder), "cpu")
        assert (model.labels, model.batch_size) == (labels, batch)
        assert {type(label) for label in model.labels} <= {str}

    def test_labels_of_a_class_are_checked_before_it_is_called(self, write: Write) -> None:
        model = OpenModel(evaluation(write(f"{HEAD}class load(Model):\n    labels = 'night'\n")), "cpu")
        with pytest.raises(AssetError, match="mine: python:own:load: labels are 'night'"):
            _ = model.labels

    def test_its_own_words_stand_where_it_raises_an_asset_error(self, write: Write) -> None:
        body = "from mpq_fixtures.models.callables import AssetError\ndef load(device): raise AssetError('buy a licence')"
        with pytest.raises(AssetError, match=r"^buy a licence$"):
            OpenModel(evaluation(write(body)), "cpu").ready()

    def test_are_let_go_though_nobody_looks_for_garbage_among_what_they_loaded(self, write: Write) -> None:
        model = OpenModel(evaluation(write(f"{HEAD}class load(Model):\n    def __init__(self, device): self.own = self\n")), "cpu")
        loaded = weakref.ref(model.ready())
        frozen = gc.get_freeze_count()
        model.close()
        gc.unfreeze()
        assert frozen > 0
        assert loaded() is None


class TestDatasets:
    @pytest.mark.parametrize(
        ("body", "complaint"),
        [
            ("def samples(): raise ValueError('boom')", "raised ValueError: boom"),
            ("def samples(): return None", "returned None: make it return a mpq_fixtures.datasets.Dataset"),
            ("def samples(): return [1, 2]", "returned an instance of list"),
            ("def samples(): return Dataset([sample('a'), sample('b'), sample('a')])", "the id 'a' stands more than once"),
            ("def samples(): return Dataset([sample('a')], 'night')", "labels are 'night'"),
            ("def samples(): return Dataset([])", "is empty"),
        ],
    )
    def test_what_is_no_data_set_is_an_error_that_names_the_callable(self, body: str, complaint: str, write: Write) -> None:
        folder = write(f"{DATA}def sample(id): return Sample(id, '', 1, None, None)\n{body}")
        with pytest.raises(AssetError, match=rf"^mine: .*own:samples.*{complaint}"):
            load_dataset(evaluation(folder), 1)

    def test_labels_become_texts(self, write: Write) -> None:
        body = "import numpy\ndef samples(): return Dataset([Sample('a', '', 1, None, None)], numpy.array(['day', 'night']))"
        assert load_dataset(evaluation(write(DATA + body))).labels == ("day", "night")


class TestFinding:
    @pytest.mark.parametrize("init", [True, False], ids=["a_package", "a_folder"])
    def test_a_module_in_a_folder_beside_the_suite(self, init: bool, write: Write) -> None:
        folder = write(
            pkg__mod="from .helper import answer\nfrom .deep import more\n", pkg__helper="def answer(): return 42", pkg__deep="more = 1"
        )
        if init:
            write(pkg____init__="from .helper import answer as first")
            assert find_callable("python:pkg:first", folder)() == 42
        assert find_callable("python:pkg.mod:answer", folder)() == 42
        assert "pkg" not in sys.modules

    def test_two_suites_each_have_their_own(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / name / "pkg").mkdir(parents=True)
            (tmp_path / name / "pkg" / "mod.py").write_text(f"def load(): return {name!r}")
        assert [find_callable("python:pkg.mod:load", tmp_path / name)() for name in ("one", "two")] == ["one", "two"]

    def test_a_folder_without_the_module_hides_no_installed_one(self, tmp_path: Path) -> None:
        (tmp_path / "json").mkdir()
        (tmp_path / "email").mkdir()
        assert find_callable("python:json:loads", tmp_path)("1") == 1
        assert find_callable("python:email.message:Message", tmp_path)

    def test_what_runs_already_is_not_loaded_twice(self) -> None:
        root = Path(__file__).parents[1]
        assert find_callable("python:mpq_fixtures.datasets:load_dataset", root) is load_dataset

    def test_the_digest_is_that_of_the_modules_own_file(self, write: Write) -> None:
        folder = write(pkg__mod="def load(): return 1", pkg__other="")
        before = digest_of_callable("python:pkg.mod:load", folder)
        (folder / "pkg" / "other.py").write_text("changed = 1")
        assert digest_of_callable("python:pkg.mod:load", folder) == before
        (folder / "pkg" / "mod.py").write_text("def load(): return 2")
        assert digest_of_callable("python:pkg.mod:load", folder) != before

    @pytest.mark.parametrize("name", ["python::good", "python:own", "python:.own:good", "python:own.:good"])
    def test_half_a_name_is_told_how_a_whole_one_is_written(self, name: str, write: Write) -> None:
        with pytest.raises(AssetError, match=f"^{name}: write python:package.module:callable"):
            find_callable(name, write("def good(device): pass"))

    @pytest.mark.parametrize("missing", ["nowhere", "nowhere.deep", "json.nowhere"])
    def test_a_module_that_is_not_found_can_be_put_beside_the_suite(self, missing: str, tmp_path: Path) -> None:
        with pytest.raises(AssetError, match=f"No module named .*; put {missing.replace('.', '/')}.py beside the suite file or install"):
            find_callable(f"python:{missing}:load", tmp_path)

    @pytest.mark.parametrize(
        ("body", "complaint"),
        [
            ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
            ("raise RuntimeError('no display')", "RuntimeError: no display"),
            ("import sys; sys.exit(2)", "SystemExit: 2"),
            ("1 +", "SyntaxError: invalid syntax"),
        ],
    )
    @pytest.mark.parametrize("installed", [True, False], ids=["installed", "beside"])
    def test_one_that_does_not_import_says_why(
        self, body: str, complaint: str, installed: bool, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = write(mpq_test_broken=body)
        monkeypatch.syspath_prepend(folder)
        monkeypatch.delitem(sys.modules, "mpq_test_broken", raising=False)
        with pytest.raises(AssetError) as caught:
            find_callable("python:mpq_test_broken:load", tmp_path / "elsewhere" if installed else folder)
        assert f"does not import: {complaint}" in str(caught.value)
        assert "put " not in str(caught.value)

    def test_one_that_does_not_import_is_tried_again_as_it_is_then(self, write: Write) -> None:
        folder: Any = write(pkg____init__="raise RuntimeError('not yet')", pkg__mod="def load(): return 1")
        with pytest.raises(AssetError, match="not yet"):
            find_callable("python:pkg.mod:load", folder)
        write(pkg____init__="ready = True  # of another length, or Python takes the bytecode of the same second")
        assert find_callable("python:pkg.mod:load", folder)() == 1
