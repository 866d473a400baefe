"""What `mpq plan` foretells from a small run, beside what a larger one takes."""

from __future__ import annotations

from pathlib import Path

from bench_libraries import FOLDER
from figures import Rows
from workloads import Project, scaled, write_model, write_pictures

from mpq_fixtures.planning import Machine, Work, costs_of, plan


def test_a_plan_from_a_small_run_foretells_a_larger_one(tmp_path: Path, row: Rows) -> None:
    counts = scaled(60, 8), scaled(600, 32)
    write_model(tmp_path / "model", "mobilenet_v2")
    few, many = (Project(tmp_path / str(count)) for count in counts)
    for project, count in zip((few, many), counts, strict=True):
        project.declare(str(tmp_path / "model"), FOLDER, {"jpeg": ["q20", "q50"]})
        write_pictures(project.folder / "photos", count)
    few.run(few.folder / "store", cores=1)
    costs = costs_of(few.results())
    work = [Work("own", codec, quality, counts[1], costs.of("own", codec, quality))
            for codec, quality in (("original", ""), ("jpeg", "q20"), ("jpeg", "q50"))]  # fmt: skip
    made = plan(work, costs, 1, Machine(1))
    took = many.run(many.folder / "store", cores=1).passed
    row("... a plan from a tenth of the samples", None, made.seconds.expected, "s")
    row("... what the run took", None, took, "s")
    row("how far a plan from a tenth of the samples was off", 2.0, max(took / made.seconds.expected, made.seconds.expected / took))
