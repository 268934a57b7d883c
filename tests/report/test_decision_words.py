"""What an answer says of the decision: counts, hours, risk, and which object was replayed."""

from __future__ import annotations

from typing import Any

import pytest

from hs_analysis.report import decision_words
from hs_analysis.report.choice import Choice
from hs_analysis.report.wording import policy_name

DECISION: dict[str, Any] = {
    "recommend": "apply",
    "confidence": "medium",
    "confidence_reasons": [{"text": "3 of 7 weekdays are in the history"}],
    "target": "keda",
    "pools": [
        {
            "role": "decode",
            "now": 4.0,
            "recommended": 3.54,
            "at_load": {
                "low": {"load": 1700.0, "now": 4.0, "recommended": 2.0},
                "usual": {"load": 4300.0, "now": 4.0, "recommended": 3.9},
                "peak": {"load": 6000.0, "now": 4.0, "recommended": None},
            },
        }
    ],
    "hours_saved_ratio": 0.179,
    "hours_saved_ci": [0.044, 0.306],
    "instance_hours_saved": 64.1,
    "gpu_hours_saved": 128.2,
    "slo_risk": {
        "undisturbed": 0.001,
        "undisturbed_range": [0.0, 0.008],
        "recorded": 0.02,
        "under_faults": 0.029,
        "default_hpa_under_faults": 0.022,
        "under_bursts": 0.05,
    },
    "backtested": ["2026-01-02T12:00:00Z", "2026-01-03T12:00:00Z"],
}


READ_BACK = "selected policy: replayed as its HPA file, written and read back"


def test_the_decision_names_the_controller_and_the_reasons() -> None:
    """A policy to apply says with what; one that is not to be applied names no controller."""
    choice = Choice(decision=DECISION)
    said = "apply the policy with KEDA, confidence medium (3 of 7 weekdays are in the history)"
    assert decision_words.decided(choice) == said
    kept = Choice(decision=DECISION | {"recommend": "keep", "confidence_reasons": []})
    assert decision_words.decided(kept) == "keep what runs, confidence medium"


def test_lines_say_counts_at_three_loads_hours_risk_and_window() -> None:
    """Each line has its numbers beside those of what ran or of a default HPA; what is unknown is a dash."""
    pool, hours, risk, window = decision_words.lines(Choice(decision=DECISION))
    assert pool == (
        "decode instances, now → recommended: 4.0 → 3.5 on average; 4.0 → 2.0 at low load, "
        "4.0 → 3.9 at usual load, 4.0 → – at peak load"
    )
    assert hours == ("hours: 17.9 % [4.4 to 30.6] fewer than recorded (64.1 instance-hours, 128 GPU-hours)")
    assert risk == (
        "SLO risk: 0.10 % [0 to 0.80] of windows undisturbed (what ran: 2.0 %), "
        "2.9 % under faults (default HPA: 2.2 %), 5.0 % under bursts"
    )
    assert window == (
        "replayed on 2026-01-02 12:00 to 2026-01-03 12:00 UTC (24 h), which it was not fitted on"
    )


def test_more_hours_are_not_called_saved() -> None:
    """The minus of a share and of its interval become words."""
    more = DECISION | {
        "hours_saved_ratio": -0.4,
        "hours_saved_ci": [-0.6, -0.1],
        "instance_hours_saved": -9.0,
    }
    assert decision_words.hours_line(more).startswith("hours: 40 % [10 to 60] more than recorded (9.00 inst")


def test_nothing_is_said_of_what_was_not_replayed() -> None:
    """Without a backtest there is no count, no saving and no risk to tell."""
    assert decision_words.lines(Choice(decision=DECISION | {"backtested": None})) == []


@pytest.mark.parametrize(
    ("said", "first"),
    [
        (
            {"why_not": "", "differs": []},
            ["selected policy: replayed as its HPA file, written and read back"],
        ),
        (
            {"why_not": "", "differs": ["prefill", "decode"]},
            [
                "selected policy: replayed as its HPA file, written and read back",
                "read back, the parameters of prefill and decode are not those of the policy",
            ],
        ),
        (
            {"why_not": "no object could be written"},
            [
                "selected policy: replayed by its own parameters, its HPA file was not read back: "
                "no object could be written"
            ],
        ),
    ],
)
def test_notes_say_which_object_was_replayed(said: dict[str, Any], first: list[str]) -> None:
    """Read back, read back with other parameters, or not read back and why; then the rows beside it."""
    rows = [{"policy": name} for name in ("decode_tps@decode", "in_sample", "heteroscale")]
    found = decision_words.object_notes(
        {"calibration": {"deployed": {"target": "hpa"} | said}, "policies": rows}
    )
    assert found == [
        *first,
        "exported numbers (in sample): the same file with the numbers of the whole window, as it is "
        "exported; it has seen the test window",
        "HeteroScale's own rule (neutral): run with the same numbers; the distance is what HPA can't say",
    ]


def test_a_candidates_name_keeps_its_settings() -> None:
    """Signals become words, what the controller is set to stays as it is."""
    name = "prefill_tps_effective@prefill+decode_tps@decode, 60 s mean, out above 1.1, in below 0.9 for 300 s"
    assert policy_name(name) == (
        "prefill TPS (cache-missed) + decode TPS, 60 s mean, out above 1.1, in below 0.9 for 300 s"
    )
    assert policy_name("static_peak") == "static peak"
