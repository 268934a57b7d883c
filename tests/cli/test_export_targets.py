"""hsa export for a controller that the policy was not selected for: what it says first, and whence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hs_analysis.export.kustomize import KUSTOMIZATION
from hs_analysis.pipeline.objects import SAME_COST
from hs_analysis.schema.names import TARGET_TITLES
from hs_analysis.schema.number_text import percent

COST = re.compile(
    r"The policy was selected and replayed for KEDA\. This file was replayed as well: HPA needs "
    r"(as many|[+−]\d+(\.\d+)? %) (GPU|instance)-hours, "
    r"and (it breaks the SLO in .* against .*|how often .* is not known)\."
)


def test_an_export_for_another_controller_says_first_what_it_costs(
    finished: Path, hsa: Callable[..., Any]
) -> None:
    """In the output, the objects and the losses; by the row of the backtest that runs the file read back."""
    done = hsa("export", finished, "--target", "hpa", "-q")
    first = done.stdout.splitlines()[0]
    assert first.startswith("hpa, demo/m: ")
    assert COST.fullmatch(first.removeprefix("hpa, demo/m: "))
    written = {*(finished / "exports" / "hpa").iterdir()} - {finished / "exports" / "hpa" / KUSTOMIZATION}
    for path in written:
        text = path.read_text("utf-8")
        said = json.loads(text)[0]["text"] if path.suffix == ".json" else text.splitlines()[0].strip("# ")
        assert COST.fullmatch(said), path
    assert "selected and replayed for KEDA." not in hsa("export", finished, "--target", "keda", "-q").stdout
    summary = json.loads((finished / "summary.json").read_text("utf-8"))
    (service,) = summary["services"]
    rows = {row["policy"]: row for row in service["replay"]["policies"]}
    (chosen,) = [one["policy"] for one in service["selection"] if one["chosen"]]
    ratio = rows["as_hpa"]["instance_hours"] / rows[chosen]["instance_hours"] - 1
    assert f" {'as many' if abs(ratio) < SAME_COST else percent(ratio, signed=True)} " in first
    assert "as_keda" not in rows


def test_all_names_every_target(finished: Path, hsa: Callable[..., Any]) -> None:
    """As no target does, also beside one that is named; a misspelt one is still told."""
    every = hsa("export", finished, "-q").stdout
    assert hsa("export", finished, "--target", "all", "-q").stdout == every
    assert hsa("export", finished, "--target", "keda", "--target", "all", "-q").stdout == every
    assert "exports/hpa/" not in hsa("export", finished, "--target", "keda", "-q").stdout
    refused = hsa("export", finished, "--target", "all", "--target", "keeda", "-q")
    assert (refused.returncode, "no such target 'keeda'" in refused.stderr) == (2, True)


def test_the_index_tells_programs_for_which_controller_it_was_selected(finished: Path) -> None:
    """One entry a target, a sentence where it is another controller's."""
    index = json.loads((finished / "exports" / "index.json").read_text("utf-8"))
    assert {one["selected_for"] for one in index} == {"keda"}
    assert {one["target"] for one in index if one["note"]} == {*TARGET_TITLES} - {"keda"}
