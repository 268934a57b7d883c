"""Tables of the stages fit a terminal, and nothing of what they leave out is lost."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from hs_analysis.cli import backtest, tables
from hs_analysis.cli.output import Table, _drawn, console
from hs_analysis.report import replay_tables
from hs_analysis.report.cells import Anchors

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WIDTH = 100
"""Columns of a terminal that a table has to fit."""


def service(name: str) -> dict[str, Any]:
    """Return the kept answer of a sample."""
    summary = json.loads((GOLDEN / name / "summary.json").read_text("utf-8"))
    found: dict[str, Any] = summary["services"][0]
    return found


@pytest.mark.parametrize("name", ["dynamo-pd", "simulated-days"])
@pytest.mark.parametrize("stage", ["signals", "derived", "selection", "replay", "drivers"])
def test_tables_fit_a_hundred_columns(name: str, stage: str) -> None:
    """No line of a table is wider, whatever the sample."""
    blocks = getattr(backtest if stage == "replay" else tables, stage)(service(name))
    drawn = [block for block in blocks if isinstance(block, Table) and block.rows]
    assert drawn
    out = console(io.StringIO(), no_color=True)
    for block in drawn:
        with out.capture() as text:
            out.print(_drawn(block))
        title, *lines = text.get().splitlines()
        assert max(len(line.rstrip()) for line in lines) <= WIDTH, title


def test_a_signal_takes_three_lines_at_most() -> None:
    """At 80 columns, with the number that decided its verdict beside the limit; its reasons are folded."""
    found = service("simulated-days")
    table, folded, last = tables.signals(found)
    out = console(io.StringIO(), no_color=True)
    with out.capture() as text:
        out.print(_drawn(table))
    assert len(text.get().splitlines()) <= 3 * len(found["signals"])
    decided = {row["signal"]: row["decided"] for row in table.rows}
    assert decided["sm_activity@decode"] == "elasticity\n0.40 (at least 0.70)"
    assert decided["prefill_tps@prefill"] == "all checks passed"
    assert decided["tbt@decode"] == "a latency"
    assert dict(folded.groups)["sm_activity@decode"][0].endswith("elasticity 0.40 (at least 0.70)")
    assert last.startswith("recommended: ")


def test_reasons_stand_below_the_table() -> None:
    """Every reason of every candidate is a line of its own."""
    found = service("simulated-days")
    text = "\n".join(str(block) for block in tables.selection(found) if isinstance(block, str))
    assert all(f"{entry['policy']}: {entry['reason']}" in text for entry in found["selection"])


def test_what_a_release_leaves_stands_above_the_numbers() -> None:
    """The first line of what is derived."""
    found = service("simulated-days") | {"releases": [{"text": "decode runs another version since noon"}]}
    assert tables.derived(found)[0] == "release: decode runs another version since noon"


def test_bands_of_the_targets_are_what_noise_asks_for() -> None:
    """The heads say so, and the line below where the policy's own are."""
    blocks = tables.derived(service("simulated-days"))
    heads = [head for block in blocks if isinstance(block, Table) for _, head in block.columns]
    assert {"noise asks:\nout/in [1]", "of lower\nend or floor"} <= set(heads)
    (note,) = [
        block for block in blocks if isinstance(block, str) and block.startswith("[1] what noise asks")
    ]
    assert note.endswith("The policy's own are hysteresis, reading and cooldown of policy.yaml")


def test_backtest_puts_the_selected_policy_first() -> None:
    """Then its file in sample and the neutral rule, then what ran; what is missing and why is said below."""
    found = service("simulated-days")
    table, *notes = backtest.replay(found)
    assert isinstance(table, Table)
    chosen = next(entry["policy"] for entry in found["selection"] if entry["chosen"])
    names = [row["policy"] for row in table.rows]
    assert names[:2] == [tables.in_lines(chosen), "in_sample\n (has seen the\n test window)"]
    assert names.index("heteroscale\n (its own rule)") < names.index("recorded")
    assert tables.in_lines("a@p+b@d, 60 s mean, out above 1.1") == "a@p\n+b@d\n 60 s mean\n out above 1.1"
    assert any("within a day" in str(note) for note in notes)
    assert any(str(note).startswith("not replayed: dynamo load: ") for note in notes)


def test_intervals_stand_under_their_numbers() -> None:
    """Saving and share of windows over the limit carry theirs where there is one."""
    found = service("simulated-days")
    found["replay"]["policies"][0] |= {"vs_recorded_ci": [0.1, 0.2], "slo_violation_ci": [0.0, 0.01]}
    (table, *_) = backtest.replay(found)
    assert isinstance(table, Table)
    assert table.rows[0]["recorded"].endswith("\n[10 % to 20 %]") or "[10 to 20" in table.rows[0]["recorded"]
    assert "[" in table.rows[0]["over"]


def drawn(block: Table) -> str:
    """Return a table as a terminal shows it."""
    out = console(io.StringIO(), no_color=True)
    with out.capture() as text:
        out.print(_drawn(block))
    return text.get()


def test_what_the_first_table_has_no_room_for_is_in_two_more() -> None:
    """The same policies in the same order, within eighty columns; dashes where a figure is not known."""
    found = service("dynamo-pd")
    first, *more, note = backtest.replay(found)[:4]
    assert isinstance(first, Table)
    for table in more:
        assert isinstance(table, Table)
        assert [row["policy"] for row in table.rows] == [row["policy"] for row in first.rows]
        assert max(map(len, drawn(table).splitlines())) <= 80
    assert str(note).startswith("[1] instances beyond what the load needs")
    entry = {
        "policy": "a@prefill+b@decode", "reversals_per_day": 5.08, "overshoot_ratio": 0.2175,
        "pd_imbalance_ratio": None, "unserved_tokens": 4_165_515.2, "vs_hindsight": -0.165,
        "slo_violation_s": 0.2, "slo_violation_tokens": 1234.5,
        "pd_stray_ratio": 0.1786, "pd_stray_factor": 1.65,
    }  # fmt: skip
    found["replay"]["policies"] = [entry]
    _, against, moving = backtest.replay(found)[:3]
    assert isinstance(against, Table)
    assert isinstance(moving, Table)
    shown = [against.rows[0][key] for key, _ in [*against.columns, *moving.columns[1:]]]
    assert shown == [
        "a@prefill\n+b@decode", "−16.5 %", "<1 s", "1,234", "4,165,515", "5.1", "21.8 %", "–",
        "17.9 %\n1.65 ×",
    ]  # fmt: skip
    found["replay"]["policies"] = [entry | {"vs_current": 0.034}]
    against = backtest.replay(found)[1]
    assert isinstance(against, Table)
    assert (against.columns[2][1], against.rows[0]["today"]) == ("saved vs\ntoday's", "3.4 %")
    found["replay"]["policies"] = []
    assert not any(isinstance(block, Table) and block.rows for block in backtest.replay(found))


def test_faults_are_shares_in_per_cent() -> None:
    """As in every other table, units in the headings of the rest; a pool that is not there has no column."""
    row = {
        "policy": "a@prefill+b@decode", "fault": "metric_gap", "slo_violation_ratio": 0.06543,
        "worst_violation_ratio": 0.1951, "recovery_s": None, "unserved_tokens": 4_165_515.0,
        "lowest_prefill": 5, "lowest_decode": 2, "lowest_mixed": None, "places": 12,
    }  # fmt: skip
    other = {**row, "recovery_s": 300.0, "slo_violation_ratio": 3.068e-06}
    table, note = backtest.faults([row, other])
    assert isinstance(table, Table)
    text = drawn(table)
    lines = text.splitlines()
    at = next(place for place, line in enumerate(lines) if line.split()[:2] == ["policy", "fault"])
    heads, units, _, cells = lines[at - 1 : at + 3]
    assert cells.split()[2:] == ["6.5", "%", "19.5", "%", "–", "4,165,515", "5", "/", "2"]
    assert "<0.01 %" in text
    assert heads.split() == ["over", "worst", "recovery", "unserved", "fewest"]
    assert units.split() == ["policy", "fault", "limit", "hour", "[s]", "[tokens]", "P", "/", "D"]
    assert max(map(len, lines[1:])) <= 80
    assert str(note).startswith("over limit: share of windows")
    assert backtest.faults([]) == []


def test_places_are_shares_in_per_cent() -> None:
    """Hours and tokens stay numbers."""
    row = {"policy": "a", "unplaced_instance_hours": 1.5, "unplaced_window_ratio": 0.0123}
    (table,) = backtest.placement([row])
    assert isinstance(table, Table)
    assert list(table.rows) == [row | {"unplaced_window_ratio": "1.2 %"}]


@pytest.mark.parametrize(
    ("replayed", "says"), [(True, "set as the policy would set it"), (False, "not all of it could be read")]
)
def test_an_object_that_could_not_be_read_is_not_called_well_set(replayed: bool, says: str) -> None:
    """Nothing to change says something only of what was understood."""
    found = {"objects": [{"replayed": replayed}], "changes": [], "not_understood": []}
    table = backtest.current(found)[0]
    assert isinstance(table, Table)
    assert says in table.empty


def test_shares_over_a_limit_need_a_limit() -> None:
    """Without an SLO the candidates have no such columns, here and in the report."""
    found = service("simulated-days")
    shares = dict.fromkeys(f"{kind}_violation_ratio" for kind in ("slo", "fault", "burst"))
    bare = found | {"selection": [one | shares for one in found["selection"]]}
    for one, known in ((found, True), (bare, False)):
        table, note, *_ = tables.selection(one)
        assert isinstance(table, Table)
        assert ("faults" in {key for key, _ in table.columns}) == known
        assert ("SLO" in str(note)) == known
        heads = [head["text"] for head in replay_tables.selection("demo/m", one, Anchors())["columns"]]
        assert ("under faults" in heads, "windows over limit" in heads) == (known, known)
