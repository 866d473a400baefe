"""``mpq compare``: the second run held against the first."""

import json
from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures.__main__ import main


def case(name: str, value: float | None, rate: float) -> dict[str, Any]:
    measure = {"value": value, "ci_low": None, "ci_high": None, "unit": "accuracy", "higher_is_better": True}
    measure |= {"tolerance": 0.01, "bounds": [0, 1], "settings": {}}
    return {"case": name, "metric": "top1", "value": value, "rate": rate, "rate_unit": "bpp", "metrics": {"top1": measure}}


@pytest.fixture
def compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> tuple[int, list[str]]:
        for name, cases in (("before", before), ("after", after)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "results.json").write_text(json.dumps({"schema": 1, "cases": cases}))
        status = main(["compare", str(tmp_path / "before"), str(tmp_path / "after")])
        return status, capsys.readouterr().out.splitlines()

    return run


class TestComparingRuns:
    def test_is_quiet_when_nothing_moved(self, compared: Any) -> None:
        assert compared([case("a", 0.9, 1.0)], [case("a", 0.895, 1.005)]) == (0, ["1 cases: 1 same"])

    def test_fails_when_a_value_fell(self, compared: Any) -> None:
        status, lines = compared([case("a", 0.9, 1.0), case("b", 0.9, 1.0)], [case("a", 0.8, 1.0), case("b", 0.95, 1.0)])
        assert status == 1
        assert lines[0].startswith("regressed: a: top1 0.8000 against the baseline's 0.9000: -0.1000 accuracy, tolerance 0.01")
        assert lines[1:] == ["improved: b", "2 cases: 1 regressed, 1 improved"]

    def test_fails_when_a_rate_rose(self, compared: Any) -> None:
        assert compared([case("a", 0.9, 1.0)], [case("a", 0.9, 1.02)])[0] == 1

    def test_fails_when_a_value_is_no_number(self, compared: Any) -> None:
        assert compared([case("a", 0.9, 1.0)], [case("a", None, 1.0)])[0] == 1

    def test_fails_when_a_case_is_missing(self, compared: Any) -> None:
        status, lines = compared([case("a", 0.9, 1.0)], [])
        assert (status, lines[0]) == (1, "missing: a: not measured by the second run")

    def test_passes_new_cases(self, compared: Any) -> None:
        assert compared([case("a", 0.9, 1.0)], [case("a", 0.9, 1.0), case("b", 0.1, 1.0)])[0] == 0

    def test_says_what_is_not_a_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
        assert "results.json" in capsys.readouterr().err
