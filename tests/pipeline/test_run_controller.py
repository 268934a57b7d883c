"""For which controller a run selects: asked for, by the kind of today's objects, or as it was selected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.manifest import Manifest, StageRecord
from hs_analysis.pipeline.records import to_plain
from hs_analysis.pipeline.session import with_given
from hs_analysis.schema.settings import Document, Settings

HPA = Document("today.yaml", "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nspec: {}\n")
TODAY = {"beside.current": (HPA,)}


def run_of(settings: Settings, *, selected: str = "", origins: dict[str, str] | None = None) -> Manifest:
    """Return a run with these settings, whose selection is done for a controller where one is named."""
    record = StageRecord("print", {}, 1.0, counts={"target": selected})
    found = Manifest(2, "1", "code", {}, ("hsa",), "now", to_plain(settings), ("dumps",), (), "in")
    found = found.with_stage("select", record) if selected else found
    return replace(found, origins=origins or {})


@pytest.mark.parametrize(
    ("command", "changes", "selected", "want"),
    [
        ("report", True, "", "hpa"),
        ("report", True, "keda", "hpa"),
        ("replay", False, "keda", "keda"),
        ("replay", False, "", "hpa"),
    ],
)
def test_objects_of_today_name_the_controller_where_the_command_selects(
    command: str, changes: bool, selected: str, want: str
) -> None:
    """hsa run follows their kind; a replay beside them keeps what was selected."""
    run = run_of(Settings(), selected=selected)
    assert with_given(run, TODAY, command, STAGES, changes_settings=changes).target == want


@pytest.mark.parametrize("given", [{}, {"target": None}])
def test_a_later_command_uses_the_recorded_controller_and_objects(given: dict[str, Any]) -> None:
    """Nothing is given again: both come from the run."""
    first = with_given(run_of(Settings()), TODAY, "report", STAGES, changes_settings=True)
    later = with_given(run_of(first, selected="hpa"), given, "replay", STAGES)
    assert (later.target, later.beside.current) == ("hpa", (HPA,))
    kept = run_of(replace(first, target="keda"), selected="keda")
    assert with_given(kept, {}, "select", STAGES).target == "hpa"


def test_a_controller_that_was_asked_for_stays() -> None:
    """Objects of another kind beside the run do not change it, with --target before or in the same call."""
    asked = run_of(Settings(target="keda"), selected="keda", origins={"target": "--target"})
    assert with_given(asked, TODAY, "report", STAGES, changes_settings=True).target == "keda"
    both = TODAY | {"target": "heteroscale"}
    assert with_given(run_of(Settings()), both, "report", STAGES, changes_settings=True).target == (
        "heteroscale"
    )
