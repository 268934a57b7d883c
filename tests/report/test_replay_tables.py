"""Tables of the backtest: order, intervals, and the actions of the chosen policy with their reasons."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import polars as pl
from report import sample as samples
from report.sample_tables import START

from hs_analysis.report.cells import Anchors, Cell
from hs_analysis.report.choice import Choice, choose
from hs_analysis.report.decisions import decisions, dots
from hs_analysis.report.replay_tables import drivers, fields, further, replay, targets
from hs_analysis.report.replay_words import notes
from hs_analysis.report.replica_words import groups_table
from hs_analysis.report.tables import startups
from hs_analysis.schema.names import COUNTS, HINDSIGHT

MINE = Choice(selected={"policy": "mine"})


def timeline(actions: int) -> pl.DataFrame:
    """Return a timeline in which a policy acts in every second row, and another one too."""
    rows = [
        {
            "policy": policy, "capture": "", "t": START + timedelta(minutes=k),
            "desired_prefill": 10.0 + (k + 1) // 2, "desired_decode": 4.0,
            "action": "out" if k % 2 else "hold", "reason": f"because of {k}",
        }
        for policy in ("mine", "other")
        for k in range(2 * actions)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def test_every_action_stands_with_its_counts_and_reason() -> None:
    """A changed count shows both numbers, an unchanged one itself; other policies are left out."""
    found = decisions(timeline(3), MINE, {})
    texts = [[cell["text"] for cell in row["cells"]] for row in found["rows"]]
    assert texts[0] == ["2026-11-02 00:01", "scale out", "10 → 11", "4", "because of 1"]
    assert (len(texts), found["total"], found["more"]) == (3, 3, 0)


def test_long_lists_are_cut_and_say_so() -> None:
    """Sixty on a page of one service, fewer where many share it; the rest is counted."""
    alone, among = decisions(timeline(70), MINE, {}), decisions(timeline(70), MINE, {}, 60)
    assert (len(alone["rows"]), alone["more"]) == (60, 10)
    assert (len(among["rows"]), among["total"]) == (10, 70)
    assert decisions(timeline(1), Choice(), {})["rows"] == []


def test_events_stand_between_the_actions() -> None:
    """In time order and marked; none from outside the test window, none beyond where actions are cut."""
    deploy = {"t": "2026-11-02T00:02:30Z", "kind": "deploy", "text": "v2"}
    before, after = ({"t": t, "text": "x"} for t in ("2026-11-01T23:00:00Z", "2026-11-02T09:00:00Z"))
    found = decisions(timeline(3), MINE, {"events": [after, deploy, before]})
    texts = [[cell["text"] for cell in row["cells"]] for row in found["rows"]]
    assert found["rows"][1]["cells"][1]["status"]["word"] == "event"
    assert [row[:2] for row in texts] == [
        ["2026-11-02 00:01", "scale out"],
        ["2026-11-02 00:02:30", ""],
        ["2026-11-02 00:03", "scale out"],
        ["2026-11-02 00:05", "scale out"],
    ]
    assert texts[1][2:] == ["", "", "deploy: v2"]
    assert (found["total"], found["listed"], found["more"], found["events"]) == (3, 3, 0, 1)
    assert found["caption"].endswith("on the test window, and events")
    late = {"t": "2026-11-02T02:10:00Z", "text": "after the sixtieth action, within the window"}
    cut = decisions(timeline(70), MINE, {"events": [deploy, late]})
    assert (cut["listed"], len(cut["rows"]), cut["events"]) == (60, 61, 1)


def test_dots_carry_the_reason_of_an_action_on_their_own_pool() -> None:
    """At the count that stands ready then; no dot on a pool that an action left alone."""
    frame = timeline(3).with_columns(ready_prefill=pl.col("desired_prefill") - 1.0, ready_decode=4.0)
    assert dots(frame, "mine", "prefill", 8)[:2] == [
        {"t": "2026-11-02T00:01Z", "count": 10.0, "text": "because of 1"},
        {"t": "2026-11-02T00:03Z", "count": 11.0, "text": "because of 3"},
    ]
    assert dots(frame, "mine", "decode", 8) == []
    assert dots(frame, "mine", "prefill", 7) == []  # a page of many services has no room for them
    first = frame.filter(pl.col("t") >= START + timedelta(minutes=1))
    assert [dot["count"] for dot in dots(first, "mine", "decode", 9)] == [4.0]


def test_backtest_has_intervals_and_order() -> None:
    """The chosen policy first, then what ran; intervals under their numbers."""
    one = samples.sample()
    service = one.summary["services"][0]
    service["replay"]["policies"][0] |= {"vs_recorded_ci": [0.25, 0.33], "recovery_s": 660.0}
    choice = choose(service, one.policies[service["service"]])
    found = replay(service["service"], service, choice, Anchors())
    names = [row["cells"][0]["text"] for row in found["rows"]]
    assert names[:3] == ["decode TPS", "recorded", "static peak"]
    cells = named(found)
    assert cells["saved vs. recorded"]["ci"] == "25 to 33"
    assert (cells["longest stretch over limit"]["text"], cells["longest stretch over limit"]["unit"]) == (
        "11",
        "min",
    )


def named(found: Mapping[str, Any]) -> dict[str, Cell]:
    """Return the cells of a table's first row by heading."""
    heads = [column["text"] for column in found["columns"]]
    return dict(zip(heads, found["rows"][0]["cells"], strict=True))


def test_time_over_the_limit_and_the_bound_stand_in_the_first_table_the_rest_behind_it() -> None:
    """Nothing of a row is lost between the two; today's autoscaler is a column where it was given."""
    one = samples.sample()
    service = one.summary["services"][0]
    row = service["replay"]["policies"][0]
    row |= {"slo_violation_s": 5_400.0, "slo_violation_tokens": 1_234_000.0, "vs_hindsight": -0.2}
    choice = choose(service, one.policies[service["service"]])
    cells = named(replay(service["service"], service, choice, Anchors()))
    assert (cells["time over limit"]["text"], cells["time over limit"]["unit"]) == ("90", "min")
    assert cells["saved vs. hindsight"]["text"].endswith("20")
    assert "saved vs. today's" not in cells
    rest = further(service, choice)
    assert named(rest)["output tokens over limit"]["sort"] == "1234000.0"
    assert set(named(rest)) & set(cells) == {"policy"}
    assert {r["id"] for r in rest["rows"]} == {""}
    row["vs_current"] = 0.1
    assert named(replay(service["service"], service, choice, Anchors()))["saved vs. today's"]["text"] == "10"


def test_drivers_say_what_they_drive_and_do() -> None:
    """A service's signal names its pool; what was not tried says why and has dashes."""
    service = samples.sample().summary["services"][0]
    rows = {row["cells"][0]["text"]: row["cells"] for row in drivers("s", service, Anchors())["rows"]}
    assert rows["request rate"][0]["note"] == "drives decode"
    assert rows["decode GPU utilisation"][1]["note"] == "stays near its peak: hardly scales in"
    last = list(rows.values())[-1]
    assert last[1]["note"].startswith("not tried")
    assert last[2]["text"] == "–"


def test_a_share_whose_side_cannot_be_told_says_so() -> None:
    """Beside the number and in the notes, with how far it may be off; silent where the side is known."""
    one = samples.sample()
    service = one.summary["services"][0]
    rows = service["replay"]["policies"]
    rows[0] |= {"slo_side": "unclear", "slo_violation_range": [0.0, 0.02]}
    rows[1] |= {"slo_side": "under", "slo_violation_range": [0.0, 0.005]}
    choice = choose(service, one.policies[service["service"]])
    found = replay(service["service"], service, choice, Anchors())
    at = next(i for i, column in enumerate(found["columns"]) if "over limit" in str(column))
    cells = [row["cells"][at] for row in found["rows"]]
    assert [cell.get("note") for cell in cells[:3]] == ["side unclear", None, None]
    told = next(note for note in notes(service["replay"]) if note.startswith("windows over limit may be off"))
    assert told == (
        "windows over limit may be off: decode TPS has 0 % to 2.0 %; side unclear (the replay can't say "
        "whether it is above or below what the SLO allows): decode TPS"
    )
    rows[0]["slo_side"] = "over"
    assert not any("side unclear" in note for note in notes(service["replay"]))


def test_what_intervals_are_drawn_from_is_said() -> None:
    """Days, or hours that hold less; nothing where there are none."""
    service = samples.sample().summary["services"][0]
    assert not any(note.startswith("intervals: ") for note in notes(service["replay"]))
    for basis, word in (("days", "whole days"), ("hours", "within a day")):
        service["replay"]["policies"][0]["interval_basis"] = basis
        assert any(word in note for note in notes(service["replay"]) if note.startswith("intervals: "))


def test_the_bound_is_told_from_the_schedule_that_was_found() -> None:
    """Fewer hours than hindsight's: the note says that nothing reaches them, and which row is a schedule."""
    service = samples.sample().summary["services"][0]
    service["replay"]["calibration"]["least_instance_hours"] = 239.3
    (told,) = [note for note in notes(service["replay"]) if note.startswith("no schedule holds")]
    assert "239 instance-hours: a lower bound, without start-up time" in told
    assert "hindsight is the best schedule found" in told
    assert COUNTS[HINDSIGHT].startswith("the cheapest schedule found that keeps")


def test_both_fits_stand_side_by_side() -> None:
    """Target and ratio of the first part and of the whole window; what one lacks is left out."""
    service = samples.sample().summary["services"][0]
    assert not any(note.startswith("targets fitted") for note in notes(service["replay"]))
    one = {"signal": "decode_tps", "role": "decode"}
    service["replay"]["calibration"] |= {
        "targets": [
            one | {"first_part": 1084.2, "whole": 1043.4},
            one | {"signal": "gpu_util", "first_part": 0.559, "whole": 0.543},
            one | {"signal": "running", "first_part": 20.0, "whole": 22.0},
            one | {"signal": "sm_activity", "first_part": None, "whole": 0.5},
        ],
        "pd_ratio": {"first_part": 1.441, "whole": 1.463},
    }
    (told,) = [note for note in notes(service["replay"]) if note.startswith("targets fitted")]
    assert told == (
        "targets fitted on the first part (the backtest's) and on the whole window (policy.yaml's): "
        "decode_tps@decode 1,084 and 1,043; "
        "gpu_util@decode 0.559 and 0.543; running@decode 20.0 and 22.0; "
        "P/D ratio 1.44 and 1.46"
    )
    service["replay"]["calibration"]["pd_ratio"]["first_part"] = None
    assert not any("P/D ratio" in note for note in notes(service["replay"]))


def test_the_file_of_each_target_has_its_figures_or_why_not() -> None:
    """Hours, windows over the limit and faults; what was not replayed says why next to its name."""
    rows = [
        {"target": "keda", "instance_hours": 345.6, "slo_violation_ratio": 0.01, "under_faults": 0.02},
        {"target": "llmd", "why_not": "it holds no llm_d_epp_inflight_tokens"},
        {"target": "rbg", "instance_hours": 345.6, "assumes": "without the CoordinatedPolicy"},
    ]
    found = targets({"replay": {"targets": rows}})["rows"]
    said = [(row["cells"][0]["text"], row["cells"][0].get("note", "")) for row in found]
    assert said == [
        ("KEDA", ""),
        ("llm-d", "not replayed: it holds no llm_d_epp_inflight_tokens"),
        ("RBG", "without the CoordinatedPolicy"),
    ]
    assert [found[0]["cells"][at]["text"] for at in (1, 3, 4)] == ["346", "1.0", "2.0"]


def test_files_that_hold_a_field_alike_stand_in_one_row() -> None:
    """The whole policy first, then its fields in their order; a ratio that a file adds says so."""
    band = {"field": "hysteresis", "kind": "dropped", "instance_hours": 300.0, "under_faults": 0.03}
    guards = {"field": "guards", "kind": "dropped", "instance_hours": 290.0}
    rows = [
        {"target": "heteroscale", "instance_hours": 291.0, "fields": []},
        {"target": "keda", "fields": [guards, band | {"kind": "expressed", "instance_hours": 291.0}]},
        {"target": "aibrix", "fields": [guards, band]},
        {"target": "kthena", "fields": [{"field": "primaries", "kind": "added", "instance_hours": 280.0}]},
    ]
    found = fields({"replay": {"targets": rows}})["rows"]
    assert [[row["cells"][at]["text"] for at in range(3)] for row in found] == [
        ["the whole policy", "–", "291"],
        ["guards", "dropped: KEDA, AIBrix", "290"],
        ["hysteresis", "expressed: KEDA", "291"],
        ["hysteresis", "dropped: AIBrix", "300"],
        ["primaries", "added: Kthena", "280"],
    ]
    assert found[3]["cells"][5]["text"] == "3.0"
    assert "without its ratio" in found[4]["cells"][1]["note"]
    assert fields({"replay": {"targets": [{"target": "keda", "fields": []}]}}) == {}


def test_of_a_replay_that_is_not_calibrated_files_have_hours_alone() -> None:
    """Its shares over the SLO are not known, undisturbed or under faults."""
    figures = {
        "instance_hours": 345.6,
        "slo_violation_ratio": 0.01,
        "under_faults": 0.02,
        "under_bursts": 0.03,
    }
    guards = figures | {"field": "guards", "kind": "dropped"}
    rows = [figures | {"target": "heteroscale"}, {"target": "keda", "fields": [guards]}]
    replay = {"targets": rows, "calibration": {"status": "not_calibrated"}}
    (first, *_), written = targets({"replay": replay})["rows"], fields({"replay": replay})["rows"]
    assert [cell["text"] for cell in first["cells"][1:]] == ["346", "–", "–", "–", "–"]
    assert [[cell["text"] for cell in row["cells"][2:]] for row in written] == [
        ["346", "–", "–", "–", "–"]
    ] * 2


def test_actions_on_a_single_pool_are_its_own() -> None:
    """It stands in the columns of decode, and is called what it is."""
    single = timeline(3).with_columns(
        desired_prefill=pl.lit(None, pl.Float64), desired_decode="desired_prefill"
    )
    mixed = decisions(single, MINE, {"decision": {"pools": [{"role": "mixed"}]}})
    assert [head["text"] for head in mixed["columns"]] == ["time (UTC)", "action", "mixed", "why"]
    assert decisions(single, MINE, {})["columns"][2]["text"] == "decode"


def test_what_is_counted_has_no_decimals() -> None:
    """Windows and instances that came are whole."""
    born = startups("s", {"startup": [{"role": "decode", "births": 5, "value_s": 60.0}]}, Anchors())
    assert born["rows"][0]["cells"][2]["text"] == "5"
    group = {"prefill": 5, "decode": 5, "limited": "decode", "windows": 52, "per_instance_tps": 3687.0}
    (held,) = groups_table({"from_replicas": {"groups": [group]}})["rows"]
    assert [cell["text"] for cell in held["cells"]] == ["5P5D", "decode", "52", "3,687"]
