"""Are the alarms of the first lines true? Loops in the simulated physics, and how they are counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from end_to_end import alarms
from end_to_end.alarms import BAD, BETWEEN, GOOD, Loop, alarm_kinds, class_of, first_lines, judge_all, table
from end_to_end.test_closed_loop import FIRST_SEED, SEEDS, printed
from simulator import Kind

MOST_FALSE, MOST_MISSED = 0.05, 0.03
"""Goals for alarms of good loops and silence at bad ones [ratio]."""


@pytest.mark.slow
def test_alarms_of_the_first_lines_are_true(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """False at few of the good loops, missed at few of the bad ones; every wrong line is printed."""
    chosen = [(kind, FIRST_SEED + seed) for seed in range(SEEDS) for kind in alarm_kinds()]
    out = tmp_path / "alarms.jsonl"
    judge_all(chosen, out)
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    printed(capsys, f"{len(rows)} loops", table(rows))
    loops = [Loop.of(row) for row in rows if not row.get("skipped")]
    own = [loop for loop in loops if loop.standing == GOOD and loop.factor == 1.0]
    bad = [loop for loop in loops if loop.standing == BAD]
    assert sum(loop.alarmed for loop in own) <= max(1, MOST_FALSE * len(own))
    assert sum(not loop.alarmed for loop in bad) <= max(1, MOST_MISSED * len(bad))


def loop(over: float, *lines: str, ran: float = 0.0, factor: float = 1.0) -> Loop:
    """Return a loop of a day with some share of windows over the objective."""
    return Loop("day_0.75", 1, factor, 1, 0.05, over, ran, lines, "floor+floor", 0.3)


def test_a_loop_is_good_up_to_what_is_allowed_or_ran_and_bad_a_point_beyond() -> None:
    """Between them nothing is wrong."""
    assert [loop(over).standing for over in (0.05, 0.055, 0.061)] == [GOOD, BETWEEN, BAD]
    assert [loop(over, ran=0.2).standing for over in (0.2, 0.205, 0.22)] == [GOOD, BETWEEN, BAD]
    assert [loop(0.0, "WARNING").wrong, loop(0.055).wrong, loop(0.2).wrong] == [True, False, True]
    assert [loop(0.0).wrong, loop(0.055, "WARNING").wrong, loop(0.2, "WARNING").wrong] == [False] * 3


def test_false_and_missed_are_counted_by_class_and_wrong_lines_listed() -> None:
    """Own policies and raised ones apart."""
    loops = [loop(0.0, "WARNING: x"), loop(0.0, factor=1.2), loop(0.2, factor=1.6)]
    texts = table([vars(one) for one in loops])
    assert texts[1].split() == ["0.75,", "one", "day", "1", "of", "1", "0", "of", "1", "1", "of", "1"]
    assert sum(text.startswith("wrong:") for text in texts) == 2
    assert class_of("ramps_scaled+") == "ramps, two days"
    assert class_of("day_0.6-no_starts") == "degraded"


def test_first_lines_end_where_the_answer_begins() -> None:
    """A warning of latency counts, and what runs kept for it; warnings of something else do not."""
    said = [
        "WARNING: 2 pools belong to no service",
        "s: keep what runs: it breaks the SLO in 9.00% of windows.",
        "WARNING: the policy of s breaks the SLO in 9.00% of windows.",
        "s: keep what runs: the policy needs 9.0% more hours, and it breaks the SLO in 0.00% of windows.",
        "s (production history, offered work as reference)",
        "warning (not_calibrated): s: the SLO",
    ]
    assert first_lines("\n".join(said)) == tuple(said[1:3])


def test_histories_of_another_family_of_physics_are_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kinds and seeds are the same, the laws are not; lines of before there were two are of the first."""
    judged: list[str] = []

    def rows(kind: Kind, seed: int, folder: Path) -> list[dict[str, Any]]:
        judged.append(kind.engine_laws)
        return [{"kind": kind.name, "seed": seed, "laws": kind.engine_laws, "skipped": "x"}]

    monkeypatch.setattr(alarms, "loops", rows)
    out = tmp_path / "alarms.jsonl"
    out.write_text(json.dumps({"kind": "day_0.5", "seed": 1, "skipped": "x"}) + "\n", "utf-8")
    chosen = [(alarm_kinds(laws)[0], 1) for laws in ("linear", "knee", "knee")]
    judge_all(chosen[:2], out)
    judge_all(chosen, out)
    assert judged == ["knee"]
