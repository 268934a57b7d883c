"""Tables of the stages fit a terminal, and nothing of what they leave out is lost."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from hs_analysis.cli import tables
from hs_analysis.cli.shown import Table, _drawn, console

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WIDTH = 100
"""Columns of a terminal that a table has to fit."""


def service(name: str) -> dict[str, Any]:
    """Return the kept answer of a sample."""
    summary = json.loads((GOLDEN / name / "summary.json").read_text("utf-8"))
    found: dict[str, Any] = summary["services"][0]
    return found


@pytest.mark.parametrize("name", ["dynamo-pd", "simulated-days"])
@pytest.mark.parametrize("stage", ["signals", "derived", "selection", "replay", "trial"])
def test_tables_fit_a_hundred_columns(name: str, stage: str) -> None:
    """No line of a table is wider, whatever the sample."""
    blocks = getattr(tables, stage)(service(name))
    drawn = [block for block in blocks if isinstance(block, Table) and block.rows]
    assert drawn
    out = console(io.StringIO(), no_color=True)
    for block in drawn:
        with out.capture() as text:
            out.print(_drawn(block))
        title, *lines = text.get().splitlines()
        assert max(len(line.rstrip()) for line in lines) <= WIDTH, title


def test_reasons_stand_below_the_table() -> None:
    """Every reason of every signal, and every candidate's, is a line of its own."""
    found = service("simulated-days")
    text = "\n".join(str(block) for block in tables.signals(found) if isinstance(block, str))
    for entry in found["signals"]:
        for reason in entry["reasons"]:
            assert reason["text"] in text
    text = "\n".join(str(block) for block in tables.selection(found) if isinstance(block, str))
    assert all(f"{entry['policy']}: {entry['reason']}" in text for entry in found["selection"])


def test_what_a_release_leaves_stands_above_the_numbers() -> None:
    """The first line of what is derived."""
    found = service("simulated-days") | {"releases": [{"text": "decode runs another version since noon"}]}
    assert tables.derived(found)[0] == "release: decode runs another version since noon"


def test_backtest_puts_the_selected_policy_first() -> None:
    """Then what ran; what is missing and why is said below."""
    found = service("simulated-days")
    table, *notes = tables.replay(found)
    assert isinstance(table, Table)
    chosen = next(entry["policy"] for entry in found["selection"] if entry["chosen"])
    assert [row["policy"] for row in table.rows][:2] == [chosen, "recorded"]
    assert any("within a day alone" in str(note) for note in notes)
    assert any(str(note).startswith("not replayed: dynamo load: ") for note in notes)


def test_intervals_stand_under_their_numbers() -> None:
    """Saving and share of windows over the limit carry theirs where there is one."""
    found = service("simulated-days")
    found["replay"]["policies"][0] |= {"vs_recorded_ci": [0.1, 0.2], "slo_violation_ci": [0.0, 0.01]}
    (table, *_) = tables.replay(found)
    assert isinstance(table, Table)
    assert table.rows[0]["recorded"].endswith("\n[10 % to 20 %]") or "[10 to 20" in table.rows[0]["recorded"]
    assert "[" in table.rows[0]["over"]
