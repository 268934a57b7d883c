"""The verdict rule, number by number."""

from dataclasses import replace

import pytest

from hs_analysis.schema.results import Reason, SignalVerdict
from hs_analysis.study.signal_statistics import Cap, SignalStatistics
from hs_analysis.study.study import recommend
from hs_analysis.study.verdict import judge, turns

GOOD = SignalStatistics(
    "hardware", rows=200, history="production", spearman=0.95, spearman_highpass=0.5, innovation_link=9.0,
    link_chance=1e-6,
    elasticity=1.0,
    snr=20.0, drift=0.05, auc_top=1.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("family", "change", "verdict", "code"),
    [
        ("hardware", {}, "proportional", "passes"),
        ("hardware", {"spearman": 0.64}, "unusable", "rank"),
        ("hardware", {"spearman": 0.81}, "guard", "rank_weak"),
        ("hardware", {"spearman": 0.84}, "proportional", "passes"),
        ("hardware", {"spearman": 0.84, "history": "pressure_test"}, "unusable", "rank"),
        ("hardware", {"auc_top": 0.5}, "proportional", "passes"),
        ("hardware", {"spearman_highpass": 0.09}, "unusable", "common_clock"),
        ("hardware", {"innovation_link": 4.9}, "unusable", "no_innovation_link"),
        ("hardware", {"innovation_link": 5.1}, "proportional", "passes"),
        ("hardware", {"link_chance": 0.051}, "unusable", "chance"),
        ("hardware", {"snr": 2.9}, "unusable", "noise"),
        ("hardware", {"snr": 4.9}, "guard", "noise"),
        ("hardware", {"elasticity": 0.09}, "unusable", "flat"),
        ("hardware", {"elasticity": -1.0}, "unusable", "flat"),
        ("hardware", {"elasticity": 0.69}, "guard", "elasticity_low"),
        ("hardware", {"elasticity": 1.41}, "guard", "elasticity_high"),
        ("hardware", {"drift": 0.21}, "unusable", "drift"),
        ("hardware", {"half_shift": 0.21}, "unusable", "drift"),
        ("hardware", {"hysteresis": 0.21}, "unusable", "hysteresis"),
        ("latency", {"spearman": 0.3}, "guard", "class"),
        ("latency", {"auc_top": 0.94}, "unusable", "rank"),
        ("latency", {"spearman_highpass": 0.11, "drift": 0.59}, "guard", "class"),
        ("latency", {"drift": 0.61}, "unusable", "drift"),
        ("latency", {"hysteresis": 0.9, "half_shift": 0.9}, "guard", "class"),
        ("queue", {"drift": 5.0, "elasticity": 8.0}, "guard", "class"),
        ("queue", {"innovation_link": 4.9}, "unusable", "no_innovation_link"),
        (
            "memory",
            {"spearman_highpass": None, "innovation_link": None, "drift": None},
            "proportional",
            "passes",
        ),
    ],
)
def test_each_limit_gives_its_verdict(family, change, verdict, code):
    """One number past its limit changes the verdict as the rule says; what does not apply is skipped."""
    found, reasons = judge(replace(GOOD, family=family, **change))
    assert found == verdict
    assert reasons[0].code == code


def test_the_worst_failure_decides_and_leads_the_reasons():
    """Unusable beats guard; reasons of a milder kind are left away."""
    verdict, reasons = judge(replace(GOOD, elasticity=0.5, spearman=0.2))
    assert verdict == "unusable"
    assert [r.code for r in reasons] == ["rank"]
    assert (reasons[0].value, reasons[0].limit) == (0.2, 0.65)


def test_what_does_not_follow_the_load_shares_no_clock_with_it():
    """A flat queue has nothing in common with the load; one that follows its day may have its clock."""
    clock = {"spearman_highpass": -0.02, "innovation_link": 1.0}
    flat = replace(GOOD, family="queue", spearman=-0.04, auc_top=0.5, elasticity=0.0, **clock)
    assert [reason.code for reason in judge(flat)[1]] == ["rank", "flat"]
    daily = replace(GOOD, spearman=0.5, **clock)
    assert [r.code for r in judge(daily)[1]] == ["rank", "common_clock", "no_innovation_link"]


def test_what_falls_with_the_load_is_said_to_fall():
    """A clear negative elasticity is no want of movement."""
    falling, still = (judge(replace(GOOD, family="latency", elasticity=e))[1][0] for e in (-0.33, -0.03))
    assert (falling.code, falling.text.split(":")[0]) == ("flat", "it falls with the load")
    assert still.text.startswith("it hardly moves with the load")


def test_a_failed_gate_means_not_tested():
    """Whatever the numbers say, a gate makes it unknown."""
    gate = Reason("load_range", "not tested", 1.2, 1.6)
    assert judge(replace(GOOD, gates=(gate,))) == ("unknown", (gate,))


def test_a_cap_bounds_the_verdict():
    """A circumstance can only lower a verdict."""
    cap = Cap("guard", Reason("one_way_ramp", "come down again"))
    assert judge(replace(GOOD, caps=(cap,)))[0] == "guard"
    assert judge(replace(GOOD, caps=(cap,), spearman=0.1))[0] == "unusable"


@pytest.mark.parametrize(
    ("change", "other"),
    [({"elasticity": 0.73}, "guard"), ({"elasticity": 1.45}, "proportional"), ({"snr": 3.5}, "unusable")],
)
def test_a_close_call_names_the_verdict_on_the_other_side(change, other):
    """Near a limit that decides, the reason says what a slightly different number would mean."""
    reason = next(r for r in judge(replace(GOOD, **change))[1] if r.code == "at_edge")
    assert reason.text.endswith(f"the verdict is {other}")


def test_an_edge_that_decides_nothing_is_not_mentioned():
    """Elasticity near 0.7 is no close call for a latency, which is a guard either way."""
    _, reasons = judge(replace(GOOD, family="latency", elasticity=0.69))
    assert "at_edge" not in {r.code for r in reasons}


def test_what_would_change_the_answer_comes_nearest_first():
    """Each limit whose crossing alone changes the verdict, with its distance and the verdict beyond it."""
    found = turns(replace(GOOD, elasticity=0.77))
    assert (found[0].code, found[0].value, found[0].limit, found[0].verdict) == (
        "elasticity_low", 0.77, 0.70, "guard",
    )  # fmt: skip
    assert found[0].distance == pytest.approx(0.1)
    assert [turn.distance for turn in found] == sorted(turn.distance for turn in found)
    assert {turn.code for turn in found} >= {"drift", "noise", "no_innovation_link", "elasticity_high"}


def test_a_verdict_that_two_checks_hold_turns_on_neither():
    """Of two failures that each make it unusable, mending one changes nothing."""
    assert turns(replace(GOOD, drift=0.3, snr=2.0)) == ()
    (only,) = turns(replace(GOOD, drift=0.3))
    assert (only.code, only.verdict) == ("drift", "proportional")


def test_what_was_not_tested_turns_on_its_gates():
    """A gate stands with its value and limit, and promises no verdict."""
    gate = Reason("load_range", "not tested", 1.2, 1.6)
    (turn,) = turns(replace(GOOD, gates=(gate, Reason("no_reference", "no load"))))
    assert (turn.code, turn.limit, turn.verdict) == ("load_range", 1.6, None)
    assert turn.distance == pytest.approx(0.25)


def test_what_would_change_the_recommendation_is_a_sentence():
    """The number by its name, from where it has to move and past which limit, and what is lost then."""
    stats = replace(GOOD, spearman=0.93, elasticity=1.3)
    best = SignalVerdict(
        signal="decode_tps", role="decode", source="made", verdict="proportional", turns=turns(stats)
    )
    assert recommend(None, (best,)).changes == (
        "decode_tps@decode would be only a guard if its elasticity rose from 1.3 to over 1.4",
        "decode_tps@decode would be only a guard if its Spearman correlation fell from 0.93 to under 0.82",
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"history": "pressure_test", "spearman": 0.93},
            "decode_tps@decode would be unusable if its Spearman correlation fell from 0.93 to under 0.85",
        ),
        (
            {"snr": 5.2},
            "decode_tps@decode would be only a guard if its signal to noise fell from 5.2 to under 5",
        ),
    ],
)
def test_one_number_is_named_once(change, expected):
    """Of two limits of one number that it meets on its way the nearer one is named."""
    best = SignalVerdict(
        signal="decode_tps",
        role="decode",
        source="made",
        verdict="proportional",
        turns=turns(replace(GOOD, **change)),
    )
    first, second = recommend(None, (best,)).changes
    assert first == expected
    number = expected.partition(" if its ")[2].partition(" fell")[0]
    assert number not in second
