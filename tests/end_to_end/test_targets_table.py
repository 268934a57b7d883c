"""The table of export targets beside KEDA's says what is in the run folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from end_to_end.closed_loop import kinds, written_of
from end_to_end.targets_table import Seen, beside, both_ways, cells, field_table, observe_all, seen_of, table
from simulator import history

from hs_analysis.schema.names import TARGET_TITLES

SEED = 9_101


def line_of(seed: int, *targets: tuple[str, float | None, float | None]) -> dict[str, Any]:
    """Return a line: each target with its hours and its share under faults; without hours it did not run."""
    rows = [
        vars(
            Seen(name, True, "", None if hours is None else name, hours, 0.01, faults, faults, ("step",), ())
        )
        for name, hours, faults in targets
    ]
    return {"kind": "day", "seed": seed, "recommend": "apply", "targets": rows, "seconds": 1.0}


def test_targets_are_set_against_kedas_file_of_the_same_history() -> None:
    """Hours as a ratio, shares in points; a history where one of the two did not run counts for neither."""
    lines = [
        line_of(1, ("keda", 100.0, 0.02), ("hpa", 110.0, 0.03)),
        line_of(2, ("keda", 200.0, 0.02), ("hpa", 180.0, 0.02)),
        line_of(3, ("keda", 100.0, None), ("hpa", None, None)),
    ]
    (hpa,) = (one for one in beside(lines) if one.target == "hpa")
    assert (hpa.histories, hpa.written, hpa.replayed, hpa.same) == (3, 3, 2, 0)
    assert hpa.hours == pytest.approx([1.1, 0.9])
    assert hpa.faults == pytest.approx([1.0, 0.0])
    assert cells(hpa)[4:7] == ["1.000 (0.900 to 1.100)", "+0.00 (+0.00)", "+0.50 (+1.00)"]
    assert len(table(lines)) == 6 + len(TARGET_TITLES)


def test_a_gap_is_told_of_llmds_file_held_and_read_as_idle() -> None:
    """Medians over histories that know both; a line without them counts for neither."""
    lines = [line_of(seed, ("keda", 100.0, 0.02), ("llmd", 100.0, 0.02)) for seed in (1, 2)]
    assert both_ways(lines).endswith("on no history.")
    lines[0]["targets"][1] |= {"gap": 0.2, "read_as_idle": 0.6}
    assert (
        "1 histories, median: over the SLO in 20.0 % of windows, read as idle in 60.0 %." in table(lines)[-1]
    )


def test_a_field_is_set_against_the_whole_policy_by_heteroscales_rule() -> None:
    """How most files hold it, and what it changes: median and farthest; a ratio against its own file."""
    lines = [line_of(n, *((name, 100.0, 0.02) for name in ("heteroscale", "kthena", "keda"))) for n in (1, 2)]
    band = {"field": "hysteresis", "kind": "dropped", "instance_hours": 100.0, "under_faults": 0.02}
    for line, hours, faults in zip(lines, (104.0, 98.0), (0.03, None), strict=True):
        _, kthena, keda = line["targets"]
        keda["fields"] = [band | {"instance_hours": hours, "under_faults": faults}]
        kthena["hours"] = 120.0
        kthena["fields"] = [
            band,
            {"field": "primaries", "kind": "added", "instance_hours": 90.0, "under_faults": 0.02},
        ]
    rows = field_table(lines)[3:]
    assert rows[0] == "| field | `keda` | `kthena` |"
    assert rows[2:] == [
        "| hysteresis | dropped: +1.00 (+4.00) %, +1.00 (+1.00) | dropped |",
        "| primaries |  | added: -25.00 (-25.00) %, +0.00 (+0.00) |",
    ]


def test_histories_that_are_in_the_file_are_not_run_again(tmp_path: Path) -> None:
    """A line that was cut short is not in it."""
    out, kind = tmp_path / "targets.jsonl", kinds()[0]
    line = json.loads(json.dumps(line_of(1, ("keda", 100.0, 0.02)) | {"kind": kind.name}))
    out.write_text(json.dumps(line) + "\n" + '{"kind": "da', encoding="utf-8")
    assert observe_all([(kind, 1)], out, jobs=1) == [line]


@pytest.mark.slow
def test_the_figures_of_the_table_are_those_of_the_run_folder(tmp_path: Path) -> None:
    """Of every target: hours, shares and losses, as summary.json and the losses files have them."""
    (kind,) = (one for one in kinds() if one.name == "day_small")
    written = written_of(history(kind, SEED), tmp_path, "--target", "keda")
    line = {"recommend": "keep", "targets": [vars(one) for one in seen_of(written.run_dir)]}
    rows = {one["target"]: one for one in written.service["replay"]["targets"]}
    keda = rows["keda"]
    assert keda["under_faults"] is not None
    for one in beside([line]):
        row = rows[one.target]
        (path,) = (written.run_dir / "exports" / one.target).glob("*.losses.json")
        losses = json.loads(path.read_text("utf-8"))
        refused = any((loss["item"], loss["kind"]) == ("*", "refused") for loss in losses)
        assert one.written == (0 if refused else 1)
        if row["policy"] is None:
            assert (one.replayed, one.hours, one.faults) == (0, [], [])
            continue
        assert one.hours == [row["instance_hours"] / keda["instance_hours"]]
        for name, found in (
            ("slo_violation_ratio", one.over), ("under_faults", one.faults), ("under_bursts", one.bursts),
        ):  # fmt: skip
            assert found == pytest.approx([100.0 * (row[name] - keda[name])])
        assert 0 < one.dropped[0] + one.approximated[0] <= len(losses)
