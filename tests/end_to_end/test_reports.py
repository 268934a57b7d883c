"""The reports of real runs, opened in a real browser with the network off."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from end_to_end.runs import SAMPLES, Finished
from report.browser import BROWSER, SHEETS, VIEWS, assert_view_works, sheets
from report.link_graph import Wanted, differences, pieces_of
from seeds import first

from hs_analysis.pipeline import run_folder, tables
from hs_analysis.pipeline.provenance import made_by
from hs_analysis.pipeline.report_stages import DETAIL_TABLES
from hs_analysis.pipeline.results import decisions
from hs_analysis.policy import dump, load_all


@BROWSER
@pytest.mark.parametrize(
    ("name", "view"),
    first(1, reversed(list(product(sorted(SAMPLES), VIEWS)))),  # the longer report on the narrow screen
)
def test_the_report_of_a_sample_works(
    name: str, view: tuple[int, str], running: Any, root: Path, finished: Finished
) -> None:
    """Wide and light, narrow and dark: no console message, no request, links land; 8 A4 pages at most."""
    done = finished(root / "data_samples" / name, *SAMPLES[name])
    assert_view_works(running, done.folder / "report.html", done.summary, *view)
    assert sheets(running, done.folder / "report.html") <= SHEETS


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_numbers_and_links_of_a_sample_are_those_of_its_answers(
    name: str, root: Path, finished: Finished
) -> None:
    """Read without summary.json, the report holds what summary.json, policy.yaml and hsa explain say."""
    done = finished(root / "data_samples" / name, *SAMPLES[name])
    details: dict[str, pl.DataFrame] = {one: tables.read(done.folder, one) for one in DETAIL_TABLES}
    policies = {one.service: dump(one) for one in load_all((done.folder / "policy.yaml").read_text("utf-8"))}
    wanted = Wanted(done.summary, policies, details, made_by())
    assert differences(pieces_of((done.folder / "report.html").read_text("utf-8")), wanted) == []


def test_a_decision_is_told_only_of_the_replay_it_was_made_from(root: Path, finished: Finished) -> None:
    """Where the replay was written again after the policy, what the policy was decided on is gone."""
    done = finished(root / "data_samples" / "simulated-days", *SAMPLES["simulated-days"])
    (service,) = done.summary["services"]
    manifest = run_folder.require(done.folder)
    (told,) = decisions(done.folder, manifest).values()
    assert all(told["decision"][key] == service["decision"][key] for key in ("recommend", "why", "alarm"))
    stale = replace(manifest.stages["policy"], stale="replay was written again after it")
    assert decisions(done.folder, manifest.with_stage("policy", stale)) == {}
    assert decisions(done.folder, manifest.without_stages(["policy"])) == {}
