"""What to test next: the stage plan-test."""

from __future__ import annotations

from pathlib import Path

from hs_analysis.derive.fitting import RULES
from hs_analysis.pipeline import tables
from hs_analysis.pipeline.frames import read_frames
from hs_analysis.pipeline.judge import read_derived
from hs_analysis.pipeline.records import from_plain
from hs_analysis.pipeline.stages import Outcome, Work
from hs_analysis.plan_test import Precision, plan_service
from hs_analysis.schema.sweeps import PlannedTest

PRECISION = Precision(RULES["pressure_test"][0].systematic)
"""What the law of pressure tests leaves."""


def plan_tests(work: Work) -> Outcome:
    """Plan the tests that would answer what the run left open."""
    found = [
        test
        for frame in read_frames(work.run)
        for test in plan_service(frame, read_derived(work.run, frame.service), PRECISION)
    ]
    tables.write_rows(work.out, "planned_tests", [vars(test) for test in found])
    return Outcome(f"tests {len(found)}")


def read_plan(folder: Path) -> tuple[PlannedTest, ...]:
    """Return the planned tests of a run."""
    rows = tables.read(folder, "planned_tests").iter_rows(named=True)
    return tuple(from_plain(PlannedTest, row) for row in rows)
