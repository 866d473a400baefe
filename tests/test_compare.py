"""``mpq compare``: the second run held against the first."""

import json
from pathlib import Path
from typing import Any

import pytest

from mpq_fixtures.__main__ import main


def case(name: str, value: float | None, rate: float) -> dict[str, Any]:
    measure = {"value": value, "ci_low": None, "ci_high": None, "unit": "accuracy", "higher_is_better": True}
    measure |= {"tolerance": 0.01, "bounds": [0, 1], "settings": {}}
    return {"case": name, "metric": "top1", "value": value, "rate": rate, "rate_unit": "bpp", "metrics": {"top1": measure},
            "samples": 4, "failures": []}  # fmt: skip


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

    def test_fails_when_more_samples_failed(self, compared: Any) -> None:
        failed = case("a", 0.95, 0.9) | {"samples": 3, "failures": [{"sample": "s3", "step": "decode", "reason": "ValueError: cut"}]}
        status, lines = compared([case("a", 0.9, 1.0)], [failed])
        assert (status, lines[0]) == (1, "regressed: a: 1 samples failed; the first is 's3', at decode: ValueError: cut")

    @pytest.mark.parametrize("changed", [{"samples": 3}, {"metric": "top5", "metrics": {"top5": case("a", 0.9, 1.0)["metrics"]["top1"]}}])
    def test_fails_when_runs_cannot_be_compared(self, compared: Any, changed: dict[str, Any]) -> None:
        status, lines = compared([case("a", 0.9, 1.0)], [case("a", 0.9, 1.0) | changed])
        assert status == 1
        assert lines[0].startswith("not comparable: a: ")

    def test_passes_new_cases(self, compared: Any) -> None:
        assert compared([case("a", 0.9, 1.0)], [case("a", 0.9, 1.0), case("b", 0.1, 1.0)])[0] == 0

    @pytest.mark.parametrize(
        ("content", "says"),
        [(None, "no results.json in"), ("[]", "not what a run writes"), ("{", "damaged"), ('{"schema": 9, "cases": []}', "has schema 9")],
    )
    @pytest.mark.parametrize("command", ["compare", "report"])
    def test_says_what_is_not_a_run(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: str | None, says: str
    ) -> None:
        if content is not None:
            (tmp_path / "results.json").write_text(content)
        assert main([command, *[str(tmp_path)] * (2 if command == "compare" else 1)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"mpq {command}: ")
        assert says in error
        assert error.count("\n") == 1

    def test_says_that_a_run_s_samples_are_damaged(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "results.json").write_text('{"schema": 1, "cases": []}')
        (tmp_path / "samples.parquet").write_bytes(b"PAR1")
        assert main(["report", str(tmp_path)]) == 2
        assert "samples.parquet cannot be read" in capsys.readouterr().err
