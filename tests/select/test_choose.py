"""Selection: the cheapest candidate that holds the SLO, whatever the order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
from replay.services import SETTINGS, VERDICTS, built, derived, pd_day, plain_policy, policy_replay, primary

from hs_analysis.policy.candidates import candidate_primaries
from hs_analysis.replay.backtest import score_policies
from hs_analysis.schema.results import CandidateScore, PolicyReplay
from hs_analysis.select.choose import select_service

FRAME = pd_day()


@dataclass(frozen=True)
class Outcome:
    """A simulated candidate with set figures."""

    row: PolicyReplay
    strain_ratio: float | None


def choose(
    candidates: dict[str, tuple[float, float | None, float]], recorded: tuple[float, float] = (100.0, 0.0)
):
    """Select among candidates of (hours, strain, actions a day), and return the scores by name."""

    def row(name: str, hours: float, actions: float = 0.0) -> PolicyReplay:
        return policy_replay(name, instance_hours=hours, actions_per_day=actions)

    table = {name: Outcome(row(name, h, a), s) for name, (h, s, a) in candidates.items()}
    table["recorded"] = Outcome(row("recorded", recorded[0]), recorded[1])
    policies = {name: plain_policy(service=name) for name in candidates}
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    return {score.policy: score for score in scores}


def chosen(scores: dict[str, CandidateScore]) -> str:
    """Return the one chosen candidate."""
    (name,) = [score.policy for score in scores.values() if score.chosen]
    return name


def test_fewest_hours_among_feasible_candidates() -> None:
    """A cheaper candidate that breaks the SLO loses, and has no score."""
    scores = choose({"a": (70.0, 0.01, 9.0), "b": (60.0, 0.02, 9.0), "c": (40.0, 0.20, 9.0)})
    assert chosen(scores) == "b"
    assert scores["b"].score == pytest.approx(0.4)
    assert scores["c"].score is None
    assert scores["c"].reason == (
        "not feasible: 20.00% of windows expected over capacity, the SLO allows 5.00%"
    )


def test_a_history_that_broke_the_slo_gives_no_licence() -> None:
    """While a candidate holds the SLO, being no worse than a broken past does not count."""
    scores = choose({"good": (150.0, 0.04, 9.0), "cheap": (90.0, 0.40, 9.0)}, recorded=(100.0, 0.5))
    assert chosen(scores) == "good"


def test_no_worse_than_what_ran_is_the_second_best() -> None:
    """Without one that holds the SLO, at most a point above the recorded counts is feasible."""
    scores = choose({"a": (80.0, 0.105, 9.0), "b": (70.0, 0.12, 9.0)}, recorded=(100.0, 0.10))
    assert chosen(scores) == "a"
    assert "one point above what ran allows 11.00%" in scores["b"].reason


def test_least_violating_when_nothing_is_feasible() -> None:
    """One is chosen all the same, and says what it is."""
    scores = choose({"a": (80.0, 0.3, 9.0), "b": (70.0, 0.4, 9.0)})
    assert chosen(scores) == "a"
    assert scores["a"].score is None
    assert scores["a"].reason.startswith("no candidate is shown to be feasible; chosen: it violates least")


def test_hours_too_close_to_call_go_to_the_safer_then_the_calmer() -> None:
    """Within 2 % of the cheapest fewer violations win, then fewer actions, then the name."""
    assert chosen(choose({"a": (60.0, 0.03, 9.0), "b": (60.5, 0.01, 9.0)})) == "b"
    assert chosen(choose({"a": (60.0, 0.0101, 30.0), "b": (60.5, 0.0104, 9.0)})) == "b"
    assert chosen(choose({"a": (60.0, 0.01, 9.0), "b": (60.0, 0.01, 9.0)})) == "a"
    assert chosen(choose({"a": (60.0, 0.03, 9.0), "b": (61.3, 0.01, 9.0)})) == "a"


def test_over_floors_counted_tokens_come_before_fewer_violations() -> None:
    """A share over a floor is an upper bound, so that not even being feasible speaks for a gauge."""
    floor = primary("running", "decode", 20.0)
    floor = replace(floor, target_per_instance=replace(floor.target_per_instance, status="floor"))
    policies = {"gauge": plain_policy(primaries=(floor,)), "tokens": plain_policy()}
    row = policy_replay("x", instance_hours=60.0, actions_per_day=5.0)
    for strains in ((0.5, 0.6), (0.01, 0.02), (0.01, 0.6)):
        table = {name: Outcome(row, s) for name, s in zip(policies, strains, strict=True)}
        scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_, t=table: t)
        assert [s.policy for s in scores if s.chosen] == ["tokens"]
        assert ("counted tokens" in scores[0].reason) == (strains[0] <= 0.05)


def test_counted_tokens_win_over_other_signals_when_too_close_to_call() -> None:
    """What a utilisation reads at counts that never ran is a model; a total is not."""
    mean = plain_policy(primaries=(primary("gpu_util", "prefill", 0.6, "mean"),))
    policies = {"a_mean": mean, "b_total": plain_policy()}
    row = policy_replay("x", instance_hours=60.0, actions_per_day=5.0)
    table = {"a_mean": Outcome(replace(row, actions_per_day=1.0), 0.0), "b_total": Outcome(row, 0.0)}
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    assert [s.policy for s in scores if s.chosen] == ["b_total"]


@pytest.mark.parametrize(("hours", "wins"), [(57.0, "tokens"), (55.0, "gauge"), (63.0, "tokens")])
def test_another_signal_wins_by_more_than_its_replay_may_be_off(hours: float, wins: str) -> None:
    """Against 60 hours of counted tokens a gauge has to save 6 %, whatever its violations."""
    mean = plain_policy(primaries=(primary("gpu_util", "prefill", 0.6, "mean"),))
    policies = {"gauge": mean, "tokens": plain_policy()}
    row = policy_replay("x", instance_hours=60.0, actions_per_day=5.0)
    table = {"gauge": Outcome(replace(row, instance_hours=hours), 0.0), "tokens": Outcome(row, 0.01)}
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    assert [s.policy for s in scores if s.chosen] == [wins]
    reasons = {s.policy: s.reason for s in scores}
    fewer_but_close = hours == 57.0
    assert ("less than the 6 % of hours" in reasons["gauge"]) == fewer_but_close
    assert ("feasible candidates that follow the most counted tokens" in reasons["tokens"]) == fewer_but_close


def test_unknown_capacity_is_said_and_not_held_against_a_candidate() -> None:
    """Without a capacity hours alone decide."""
    scores = choose({"a": (60.0, None, 9.0), "b": (50.0, None, 9.0)})
    assert chosen(scores) == "b"
    assert "no capacity is known" in scores["b"].reason


def test_gpu_hours_decide_where_they_are_known() -> None:
    """Fewer instances of a larger kind may cost more."""
    rows = {
        "few": policy_replay("few", gpu_hours=90.0, instance_hours=10.0, actions_per_day=0.0),
        "many": policy_replay("many", gpu_hours=60.0, instance_hours=30.0, actions_per_day=0.0),
        "recorded": policy_replay("recorded", gpu_hours=100.0, instance_hours=40.0, actions_per_day=0.0),
    }
    policies = {name: plain_policy() for name in ("few", "many")}
    table = {name: Outcome(row, 0.0) for name, row in rows.items()}
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    assert [s.policy for s in scores if s.chosen] == ["many"]
    assert next(s.score for s in scores if s.policy == "few") == pytest.approx(0.1)


def test_candidates_that_could_not_be_simulated_are_kept_with_the_reason() -> None:
    """Nothing vanishes; without any figures nothing is chosen."""
    scores = select_service(FRAME, derived(), {"a": plain_policy()}, SETTINGS, lambda *_: {})
    assert [(s.policy, s.chosen, s.score) for s in scores] == [("a", False, None)]
    assert "could not be simulated" in scores[0].reason
    assert select_service(FRAME, derived(), {}, SETTINGS, score_policies) == ()


def test_order_of_candidates_changes_nothing() -> None:
    """Every order of the real candidates on a simulated day gives the same scores."""
    candidates = {name: built(FRAME, keys) for name, keys in candidate_primaries(VERDICTS, derived()).items()}
    found = [
        select_service(FRAME, derived(), dict(order), SETTINGS, score_policies)
        for order in itertools.permutations(candidates.items())
    ]
    assert all(scores == found[0] for scores in found)
    assert sum(score.chosen for score in found[0]) == 1
    winner = next(score for score in found[0] if score.chosen)
    assert winner.score is not None
    assert winner.score > 0.1


def test_a_tighter_slo_never_makes_a_selection_cheaper() -> None:
    """Allowing fewer violations can only cost more."""
    lean = {name: built(FRAME, keys, derived(headroom=h)) for h, (name, keys) in zip(
        (0.8, 1.0, 1.1), candidate_primaries(VERDICTS, derived()).items(), strict=True)}  # fmt: skip
    hours = []
    for allowed in (0.5, 0.05, 0.0001):
        settings = replace(SETTINGS, slo=replace(SETTINGS.slo, allowed_window_share=allowed))
        scores = select_service(FRAME, derived(), lean, settings, score_policies)
        feasible = [s.instance_hours for s in scores if s.chosen and s.score is not None]
        hours += feasible
    assert hours == sorted(hours)
