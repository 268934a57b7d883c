"""Selection: the cheapest candidate that holds the SLO, whatever the order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from replay.services import SETTINGS, VERDICTS, built, derived, pd_day, plain_policy, policy_replay, primary

from hs_analysis.policy.candidates import candidate_primaries
from hs_analysis.policy.constants import SAME_HOURS, SAME_MODELLED_HOURS
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import Hysteresis, Policy, SignalReading, Waiting
from hs_analysis.policy.ratio_costs import SAME_WINDOWS
from hs_analysis.policy.waiting import QUEUE, WITHIN_S
from hs_analysis.replay.backtest import CandidateOutcome, score_policies
from hs_analysis.replay.baselines import recorded
from hs_analysis.replay.demand import demands
from hs_analysis.replay.fleet import fit_fleet
from hs_analysis.replay.score import score
from hs_analysis.replay.simulate import simulate_all
from hs_analysis.report.derivations import DERIVATIONS
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.replays import PolicyReplay
from hs_analysis.schema.results import CandidateScore, Derived
from hs_analysis.schema.settings import Settings
from hs_analysis.select.candidates import Knobs, candidate_of, with_knobs
from hs_analysis.select.choose import FRAIL, HARDLY, select_service
from hs_analysis.select.constants import (
    FLAT_ACTIONS_MAX,
    SAME_RISK,
)

FRAME = pd_day()


@dataclass(frozen=True)
class Figures:
    """Set figures, undisturbed."""

    row: PolicyReplay
    strain_ratio: float | None


@dataclass(frozen=True)
class Outcome:
    """A simulated candidate with set figures."""

    score: Figures
    fault_ratio: Mapping[str, float]
    flat_actions: float | None = None


def outcome(
    row: PolicyReplay,
    strain: float | None,
    faults: Mapping[str, float] | None = None,
    flat: float | None = None,
) -> Outcome:
    """Return set figures, by default of a simulation that knows nothing of faults and of flat load."""
    return Outcome(Figures(row, strain), faults or {}, flat)


def choose(
    candidates: dict[str, tuple[float, float | None, float]],
    recorded: tuple[float, float] = (100.0, 0.0),
    faults: Mapping[str, tuple[float, float]] | None = None,
    default_hours: float = 80.0,
) -> dict[str, CandidateScore]:
    """Select among candidates of (hours, strain, actions a day), and return the scores by name.

    ``faults`` are the chances of violating under each of two faults (alike) and under bursts, by name; the
    one of ``hpa`` is that of a default HPA on the same targets.
    """
    borne = {
        name: {"metric_gap": fault, "no_stock": fault, "burst": burst}
        for name, (fault, burst) in (faults or {}).items()
    }

    def row(name: str, hours: float, actions: float = 0.0) -> PolicyReplay:
        return policy_replay(name, instance_hours=hours, actions_per_day=actions)

    table = {name: outcome(row(name, h, a), s, borne.get(name)) for name, (h, s, a) in candidates.items()}
    table["recorded"] = outcome(row("recorded", recorded[0]), recorded[1])
    if "hpa" in borne:
        table["hpa"] = outcome(row("hpa", default_hours, 9.0), 0.01, borne["hpa"])
    policies = {name: plain_policy(service=name) for name in candidates}
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    return {score.policy: score for score in scores}


def simulated(
    frame: ServiceFrame, numbers: Derived, policies: Mapping[str, Policy], settings: Settings
) -> Mapping[str, CandidateOutcome]:
    """Simulate policies by their controllers."""
    return score_policies(frame, numbers, {n: control_of(one) for n, one in policies.items()}, settings)


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
    assert scores["c"].reason == ("not feasible: 20 % of windows expected over capacity, the SLO allows 5 %")


def test_a_history_that_broke_the_slo_gives_no_licence() -> None:
    """While a candidate holds the SLO, being no worse than a broken past does not count."""
    scores = choose({"good": (150.0, 0.04, 9.0), "cheap": (90.0, 0.40, 9.0)}, recorded=(100.0, 0.5))
    assert chosen(scores) == "good"


def test_no_worse_than_what_ran_is_the_second_best() -> None:
    """Without one that holds the SLO, at most a point above the recorded counts is feasible."""
    scores = choose({"a": (80.0, 0.105, 9.0), "b": (70.0, 0.12, 9.0)}, recorded=(100.0, 0.10))
    assert chosen(scores) == "a"
    assert "one point above what ran allows 11 %" in scores["b"].reason


def test_least_violating_when_nothing_is_feasible() -> None:
    """One is chosen all the same, and says what it is."""
    scores = choose({"a": (80.0, 0.3, 9.0), "b": (70.0, 0.4, 9.0)})
    assert chosen(scores) == "a"
    assert scores["a"].score is None
    assert scores["a"].reason.startswith("no candidate is shown to be feasible; chosen: it violates least")


def test_hours_too_close_to_call_go_to_the_safer_and_then_to_the_calmer() -> None:
    """Within 0.2 % of the fewest hours: fewer violations, then fewer actions, fewer hours, and the name."""
    within, beyond = 60.0 * (1 + 0.9 * SAME_HOURS), 60.0 * (1 + 1.1 * SAME_HOURS)
    as_safe, less_safe = 0.01 * (1 + 0.9 * SAME_RISK), 0.01 * (1 + 1.1 * SAME_RISK)
    for a, b, wins in (
        ((60.0, 0.04, 9.0), (within, 0.01, 30.0), "b"),
        ((60.0, 0.04, 9.0), (beyond, 0.01, 30.0), "a"),
        ((60.0, 0.01, 30.0), (within, as_safe, 9.0), "b"),
        ((60.0, 0.01, 30.0), (within, less_safe, 9.0), "a"),
        ((within, 0.01, 9.0), (60.0, 0.01, 9.0), "b"),
        ((60.0, 0.01, 9.0), (60.0, 0.01, 9.0), "a"),
    ):
        assert chosen(choose({"a": a, "b": b})) == wins, (a, b)
        assert chosen(choose({"b": b, "a": a})) == wins, (a, b)


def test_the_reason_and_the_method_name_the_same_order() -> None:
    """Hours first, then safety, then calm; neither skips a step."""
    told = choose({"a": (60.0, 0.01, 9.0), "b": (70.0, 0.01, 9.0)})["a"].reason
    near = f"within {100 * SAME_HOURS:g} % of the fewest hours the safest"
    for text in (told, DERIVATIONS["selection"].method):
        words = text.lower()
        assert near in words
        assert words.index("safest") < words.index("of those as safe") < words.index("calmest")


def test_what_counts_waiting_work_wins_before_the_calmer_and_the_reason_says_so() -> None:
    """Of two as cheap and as safe, though it acts more; without one the reason speaks of none."""
    calm = plain_policy(service="calm")
    waiting = Waiting(QUEUE, "prefill", 600.0, WITHIN_S, 60.0)
    waits = replace(calm, primaries=tuple(replace(one, waiting=waiting) for one in calm.primaries))
    table = {
        name: outcome(policy_replay(name, instance_hours=70.0, actions_per_day=acts), 0.01)
        for name, acts in (("calm", 2.0), ("waits", 9.0), ("recorded", 0.0))
    }
    for policies, best in (({"calm": calm, "waits": waits}, "waits"), ({"calm": calm}, "calm")):
        scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
        (row,) = (score for score in scores if score.chosen)
        assert (row.policy, "that counts waiting work" in row.reason) == (best, best == "waits")


def test_safety_counts_what_faults_and_bursts_break_as_well() -> None:
    """Of equal hours and violations undisturbed, the one that bears faults, or bursts, better wins."""
    rows = {"a": (60.0, 0.01, 9.0), "b": (60.0, 0.01, 30.0)}
    hpa = (0.05, 0.05)
    for a, b, wins in (
        ((0.04, 0.02), (0.02, 0.02), "b"),
        ((0.02, 0.04), (0.02, 0.02), "b"),
        ((0.02, 0.02), (0.02, 0.02), "a"),
        ((0.02, 0.04), (0.04, 0.02), "a"),
    ):
        assert chosen(choose(rows, faults={"a": a, "b": b, "hpa": hpa})) == wins, (a, b)


def test_what_is_safer_costs_hardly_more_than_a_default_hpa() -> None:
    """The tie is cut at 0.1 % more than the hours of the default HPA, or than the fewest there are."""
    within = 60.0 * (1 + 0.9 * SAME_HOURS)
    rows = {"cheap": (60.0, 0.01, 9.0), "safe": (within, 0.01, 9.0)}
    borne = {"cheap": (0.05, 0.05), "safe": (0.02, 0.02), "hpa": (0.05, 0.05)}
    for hours, wins in ((80.0, "safe"), (within, "safe"), (60.0, "cheap"), (55.0, "cheap")):
        assert chosen(choose(rows, faults=borne, default_hours=hours)) == wins, hours


@pytest.mark.parametrize(
    ("hours", "share", "floor", "wins"),
    [
        (0.991, 0.004, False, "usual"),
        (0.989, 0.004, False, "mine"),
        (1.0005, 0.0034, False, "mine"),
        (1.0005, 0.0037, False, "usual"),
        (1.0005, 0.0001, True, "usual"),
        (0.989, 0.004, True, "mine"),
    ],
)
def test_what_hardly_beats_kubernetes_own_settings_gives_way_to_them(
    hours: float, share: float, floor: bool, wins: str
) -> None:
    """1 % of the hours, or 0.05 points of windows; behind a floor those are bounds and say nothing."""
    plain = plain_policy(primaries=OWN, pd_ratio=None, reading=SignalReading(60.0, 300.0))
    mine = floored(plain) if floor else plain
    band = dict.fromkeys(mine.hysteresis, Hysteresis(1.1, 0.9, "set"))
    policies = {"mine": mine, "usual": replace(mine, hysteresis=band)}
    row = policy_replay("x", instance_hours=60.0, actions_per_day=5.0)
    table = {
        "mine": outcome(replace(row, instance_hours=60.0 * hours), share),
        "usual": outcome(row, 0.004),
        "hpa": outcome(row, 0.004),
    }
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    assert chosen({score.policy: score for score in scores}) == wins
    (why,) = [score.reason for score in scores if score.chosen]
    assert ("Kubernetes' own settings" in why) == (wins == "usual")
    passed = next(score.reason for score in scores if score.policy == "mine")
    assert passed.endswith(HARDLY) == (wins == "usual")


def test_a_candidate_bears_faults_and_bursts_as_a_default_hpa_does() -> None:
    """One that is more than 5 % worse under either is not feasible, however cheap; one within that is."""
    candidates = {"a": (60.0, 0.01, 9.0), "b": (65.0, 0.01, 9.0), "c": (70.0, 0.01, 9.0)}
    over, at_most = 1 + 1.1 * SAME_RISK, 1 + 0.9 * SAME_RISK
    borne = {"a": (0.05 * over, 0.01), "b": (0.04, 0.02 * over), "c": (0.05 * at_most, 0.02 * at_most)}
    scores = choose(candidates, faults=borne | {"hpa": (0.05, 0.02)})
    assert chosen(scores) == "c"
    for name in ("a", "b"):
        assert scores[name].score is None
        assert scores[name].reason.endswith(FRAIL)
    found = (scores["c"].fault_violation_ratio, scores["c"].burst_violation_ratio)
    assert found == pytest.approx((0.05 * at_most, 0.02 * at_most))


def test_a_candidate_that_breaks_more_undisturbed_than_a_default_hpa_is_not_feasible() -> None:
    """However cheap, and although the SLO would allow it; as many windows as count as none more may be."""
    rows = {"a": (60.0, 0.02, 9.0), "b": (70.0, 0.01 + 0.9 * SAME_WINDOWS, 9.0)}
    scores = choose(rows, faults={"a": (0.01, 0.01), "b": (0.01, 0.01), "hpa": (0.05, 0.05)})
    assert chosen(scores) == "b"
    assert scores["a"].reason.endswith(FRAIL)


def test_behind_a_floor_undisturbed_windows_count_as_those_under_faults_do() -> None:
    """They are bounds, too: up to 5 % more than with a default HPA are no more."""
    floor = floored(plain_policy(primaries=OWN, pd_ratio=None))
    for share, known in ((0.02 * (1 + 0.9 * SAME_RISK), True), (0.02 * (1 + 1.1 * SAME_RISK), False)):
        table = {
            "mine": outcome(policy_replay("x", instance_hours=60.0, actions_per_day=5.0), share),
            "hpa": outcome(policy_replay("x", instance_hours=70.0, actions_per_day=5.0), 0.02),
        }
        (found, *_) = select_service(FRAME, derived(), {"mine": floor}, SETTINGS, lambda *_, t=table: t)
        assert (found.score is not None or not found.reason.endswith(FRAIL)) == known


def test_the_default_hpa_is_a_row_that_is_never_chosen_by_that_name() -> None:
    """It stands last, for comparison, with its own figures."""
    scores = choose({"a": (90.0, 0.01, 9.0)}, faults={"a": (0.01, 0.01), "hpa": (0.05, 0.02)})
    assert list(scores) == ["a", "hpa"]
    hpa = scores["hpa"]
    assert (hpa.instance_hours, hpa.fault_violation_ratio, hpa.burst_violation_ratio) == (80.0, 0.05, 0.02)
    assert (hpa.chosen, hpa.controller, hpa.score) == (False, "hpa", pytest.approx(0.2))
    assert hpa.reason.startswith("comparison: an HPA with Kubernetes' defaults")
    assert chosen(scores) == "a"
    assert list(choose({"a": (90.0, 0.01, 9.0)})) == ["a"]


def test_faults_that_are_not_known_bar_nobody() -> None:
    """Neither a candidate of which nothing is known, nor one beside an HPA of which nothing is."""
    borne = {"b": (0.9, 0.9), "hpa": (0.05, 0.02)}
    scores = choose({"a": (60.0, 0.01, 9.0), "b": (50.0, 0.01, 9.0)}, faults=borne)
    assert chosen(scores) == "a"
    assert chosen(choose({"a": (60.0, 0.01, 9.0), "b": (50.0, 0.01, 9.0)}, faults={"b": (0.9, 0.9)})) == "b"


def test_a_candidate_acts_at_flat_load_no_more_than_is_allowed_or_a_default_hpa_does() -> None:
    """An HPA may act as often as that one; HeteroScale's rule keeps its own limit. Others are out."""

    def pick(flats: dict[str, float | None], controller: str) -> dict[str, CandidateScore]:
        rows = {
            name: policy_replay(name, instance_hours=50.0 + n, actions_per_day=1.0)
            for n, name in enumerate(flats)
        }
        table = {name: outcome(rows[name], 0.01, None, flat) for name, flat in flats.items()}
        policies = {name: plain_policy(controller=controller) for name in flats if name != "hpa"}
        return {s.policy: s for s in select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)}

    flats = {"a": 9.01, "b": 9.0, "c": FLAT_ACTIONS_MAX, "d": None, "hpa": 9.0}
    assert chosen(pick(flats, "hpa")) == "b"
    assert "noise alone makes it act at flat load" in pick(flats, "hpa")["a"].reason
    assert pick(flats, "hpa")["a"].score is None
    assert chosen(pick(flats, "heteroscale")) == "c"
    assert chosen(pick({"a": 12.0, "b": 10.0, "hpa": 9.0}, "hpa")) == "a"
    assert chosen(pick({"a": FLAT_ACTIONS_MAX + 0.01, "b": FLAT_ACTIONS_MAX}, "hpa")) == "b"
    assert chosen(pick({"a": 2 * FLAT_ACTIONS_MAX, "b": FLAT_ACTIONS_MAX, "hpa": 0.0}, "hpa")) == "b"
    assert pick(flats, "hpa")["hpa"].flat_actions_per_day == 9.0


def test_when_none_bears_faults_the_one_that_holds_the_slo_best_is_chosen_and_says_so() -> None:
    """All break it more often than the default HPA under faults: none has a score."""
    borne = {"a": (0.06, 0.02), "b": (0.07, 0.02), "hpa": (0.05, 0.02)}
    scores = choose({"a": (60.0, 0.02, 9.0), "b": (50.0, 0.01, 9.0)}, faults=borne)
    assert chosen(scores) == "b"
    assert scores["b"].score is None
    assert scores["b"].reason.startswith(
        "chosen: no candidate is shown to be feasible, and it violates least"
    )
    assert FRAIL in scores["b"].reason
    assert "fewest hours" not in scores["b"].reason


def test_the_front_is_what_no_other_beats_in_hours_violations_and_faults_at_once() -> None:
    """Cheaper at the same violations is better; dearer stays while it has fewer of either kind."""

    def row(name: str, hours: float, violations: float) -> PolicyReplay:
        return policy_replay(name, instance_hours=hours, slo_violation_ratio=violations, actions_per_day=1.0)

    figures = {
        "cheap": (50.0, 0.03, 0.20), "calm": (70.0, 0.01, 0.20), "firm": (70.0, 0.03, 0.05),
        "beaten": (71.0, 0.03, 0.05), "same": (50.0, 0.03, 0.20),
    }  # fmt: skip
    table = {
        name: outcome(row(name, hours, share), share, {"no_stock": fault})
        for name, (hours, share, fault) in figures.items()
    }
    policies = {name: plain_policy() for name in figures}
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    assert {score.policy for score in scores if score.front} == {"cheap", "same", "calm", "firm"}


def test_over_floors_counted_tokens_come_before_fewer_violations() -> None:
    """A share over a floor is an upper bound, so that not even being feasible speaks for a gauge."""
    floor = primary("running", "decode", 20.0)
    floor = replace(floor, target_per_instance=replace(floor.target_per_instance, status="floor"))
    policies = {"gauge": plain_policy(primaries=(floor,)), "tokens": plain_policy()}
    row = policy_replay("x", instance_hours=60.0, actions_per_day=5.0)
    for strains in ((0.5, 0.6), (0.01, 0.02), (0.01, 0.6)):
        table = {name: outcome(row, s) for name, s in zip(policies, strains, strict=True)}
        scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_, t=table: t)
        assert [s.policy for s in scores if s.chosen] == ["tokens"]
        assert ("counted tokens" in scores[0].reason) == (strains[0] <= 0.05)


def test_counted_tokens_win_over_other_signals_when_too_close_to_call() -> None:
    """What a utilisation reads at counts that never ran is a model; a total is not."""
    mean = plain_policy(primaries=(primary("gpu_util", "prefill", 0.6, "mean"),))
    policies = {"a_mean": mean, "b_total": plain_policy()}
    row = policy_replay("x", instance_hours=60.0, actions_per_day=5.0)
    table = {"a_mean": outcome(replace(row, actions_per_day=1.0), 0.0), "b_total": outcome(row, 0.0)}
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    assert [s.policy for s in scores if s.chosen] == ["b_total"]


UTIL = primary("gpu_util", "prefill", 0.6, "mean")
OWN = (primary("prefill_tps_effective", "prefill", 1.0), primary("decode_tps", "decode", 1.0))


@pytest.mark.parametrize(
    ("modelled", "plain"),
    [
        (plain_policy(primaries=(UTIL,)), plain_policy()),
        (plain_policy(primaries=(UTIL, OWN[1]), pd_ratio=None), plain_policy(primaries=OWN, pd_ratio=None)),
        (plain_policy(), plain_policy(primaries=OWN, pd_ratio=None)),
    ],
    ids=["gauge", "gauge beside tokens", "ratio"],
)
@pytest.mark.parametrize(("saved", "wins"), [(0.9, "plain"), (1.1, "modelled"), (-1.0, "plain")])
def test_a_model_wins_by_more_than_its_replay_may_be_off(
    modelled: Policy, plain: Policy, saved: float, wins: str
) -> None:
    """A gauge, and a pool that follows the ratio, have to save 6 % of hours, whatever their violations."""
    hours = 60.0 * (1 - saved * SAME_MODELLED_HOURS)
    row = policy_replay("x", instance_hours=60.0, actions_per_day=5.0)
    table = {"modelled": outcome(replace(row, instance_hours=hours), 0.0), "plain": outcome(row, 0.01)}
    policies = {"modelled": modelled, "plain": plain}
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    assert [s.policy for s in scores if s.chosen] == [wins]
    reasons = {s.policy: s.reason for s in scores}
    fewer_but_close = saved == 0.9
    assert ("less than the 6 % of hours" in reasons["modelled"]) == fewer_but_close
    assert ("candidates whose pools follow their own counted tokens" in reasons["plain"]) == fewer_but_close


def floored(one: Policy) -> Policy:
    """Return a policy whose targets are loads that were only carried."""
    floors = tuple(
        replace(p, target_per_instance=replace(p.target_per_instance, status="floor")) for p in one.primaries
    )
    return replace(one, primaries=floors)


def test_over_floors_loads_may_rise_as_far_as_with_a_default_hpa() -> None:
    """Above all that was seen nothing is known to break; known capacities keep the SLO's share."""

    def pick(policy: Policy, default: float | None) -> CandidateScore:
        row = policy_replay("x", instance_hours=60.0, actions_per_day=5.0)
        table = {"mine": outcome(row, 0.3), "recorded": outcome(row, 0.0)}
        if default is not None:
            table["hpa"] = outcome(row, default)
        found = select_service(FRAME, derived(), {"mine": policy}, SETTINGS, lambda *_: table)
        return found[0]

    own = plain_policy(primaries=OWN, pd_ratio=None)
    for policy, default, rule in (
        (
            floored(own),
            0.29,
            "at most 30 % of windows expected over capacity, 5 % above a default HPA's are 30.4 %",
        ),
        (
            floored(own),
            0.28,
            "not known: at most 30 % of windows expected over capacity, 5 % above a default",
        ),
        (floored(own), 0.04, "expected over capacity, one point above what ran allows 1 %"),
        (floored(own), None, "expected over capacity, one point above what ran allows 1 %"),
        (own, 0.31, "it violates least: 30 % of windows expected over capacity, one point above what ran"),
    ):
        found = pick(policy, default)
        assert rule in found.reason, default
        assert (found.score is not None) == (default == 0.29 and policy is not own)


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
    table = {name: outcome(row, 0.0) for name, row in rows.items()}
    scores = select_service(FRAME, derived(), policies, SETTINGS, lambda *_: table)
    assert [s.policy for s in scores if s.chosen] == ["many"]
    assert next(s.score for s in scores if s.policy == "few") == pytest.approx(0.1)


def test_candidates_that_could_not_be_simulated_are_kept_with_the_reason() -> None:
    """Nothing vanishes; without any figures nothing is chosen."""
    scores = select_service(FRAME, derived(), {"a": plain_policy()}, SETTINGS, lambda *_: {})
    assert [(s.policy, s.chosen, s.score) for s in scores] == [("a", False, None)]
    assert "could not be simulated" in scores[0].reason
    assert select_service(FRAME, derived(), {}, SETTINGS, simulated) == ()


def candidates_of(controller: str, settings: tuple[Knobs, ...]) -> dict[str, Policy]:
    """Return every candidate of a controller on a simulated day, with some of its settings."""
    keys = candidate_primaries(VERDICTS, derived())
    named = {candidate_of(signals, knobs): (signals, knobs) for signals in keys for knobs in settings}
    return {
        name: with_knobs(built(FRAME, keys[signals]), knobs, controller, name)
        for name, (signals, knobs) in named.items()
    }


@pytest.fixture(scope="module")
def scored() -> dict[str, CandidateOutcome]:
    """Every candidate of an HPA with three of its settings, simulated once."""
    return dict(simulated(FRAME, derived(), candidates_of("hpa", THREE), SETTINGS))


DEFAULTS = Knobs(60.0, 1.1, 300.0, 0.9)
"""Kubernetes' own, on as fresh a reading as scrapes allow."""
THREE = (DEFAULTS, Knobs(60.0, 1.05, 600.0, 0.9), Knobs(120.0, 1.05, 300.0, 0.8))


def test_order_of_candidates_changes_nothing(scored: dict[str, CandidateOutcome]) -> None:
    """Any order of the real candidates on a simulated day gives the same scores."""
    candidates = candidates_of("hpa", THREE)
    rng = np.random.default_rng(0)
    orders = [list(candidates), list(candidates)[::-1], list(rng.permutation(list(candidates)))]
    found = [
        select_service(FRAME, derived(), {n: candidates[n] for n in order}, SETTINGS, lambda *_: scored)
        for order in orders
    ]
    assert all(scores == found[0] for scores in found)
    (winner,) = [score for score in found[0] if score.chosen]
    assert winner.score is not None
    assert winner.score > 0.1


def test_kubernetes_own_settings_are_the_default_hpa(scored: dict[str, CandidateOutcome]) -> None:
    """The candidate that sets nothing has the figures of the comparison, faults and bursts included."""
    (name,) = [name for name in scored if "+" in name and DEFAULTS.name in name]
    one, default = scored[name], scored["hpa"]
    assert one.fault_ratio == pytest.approx(default.fault_ratio, abs=1e-12)
    assert one.score.row.instance_hours == pytest.approx(default.score.row.instance_hours)


def undisturbed(
    frame: ServiceFrame, numbers: Derived, policies: Mapping[str, Policy], settings: Settings
) -> Mapping[str, Outcome]:
    """Simulate policies by their controllers, without faults and without a default HPA beside them."""
    model, (part,) = fit_fleet(frame, numbers, settings), demands(frame)
    controls = {name: control_of(one) for name, one in policies.items()} | {"recorded": recorded(model, part)}
    results = simulate_all(tuple(controls.values()), part, model)
    scores = {name: score(name, [one], model) for name, one in zip(controls, results, strict=True)}
    return {name: outcome(one.row, one.strain_ratio) for name, one in scores.items()}


def test_a_tighter_slo_never_makes_a_selection_cheaper() -> None:
    """Allowing fewer violations can only cost more."""
    lean = {name: built(FRAME, keys, derived(headroom=h)) for h, (name, keys) in zip(
        (0.8, 1.0, 1.1), candidate_primaries(VERDICTS, derived()).items(), strict=True)}  # fmt: skip
    hours = []
    for allowed in (0.9, 0.2, 0.05, 0.0001):
        settings = replace(SETTINGS, slo=replace(SETTINGS.slo, allowed_window_share=allowed))
        scores = select_service(FRAME, derived(), lean, settings, undisturbed)
        hours += [s.instance_hours for s in scores if s.chosen and s.score is not None]
    assert len(set(hours)) > 1
    assert hours == sorted(hours)


def test_without_an_slo_no_candidate_breaks_one() -> None:
    """Neither a share nor a reason: over a capacity that no limit gave nothing is broken."""
    bare = replace(SETTINGS, slo=replace(SETTINGS.slo, ttft_s=None, tbt_s=None))
    table = {
        name: outcome(policy_replay(name, instance_hours=h, actions_per_day=1.0), 0.01, {"no_stock": fault})
        for name, (h, fault) in {"a": (50.0, 0.05), "b": (40.0, 0.4), "hpa": (55.0, 0.05)}.items()
    }
    policies = {name: plain_policy(service=name) for name in ("a", "b")}
    for settings, known in ((SETTINGS, True), (bare, False)):
        found = {
            one.policy: one for one in select_service(FRAME, derived(), policies, settings, lambda *_: table)
        }
        assert found["a"].chosen
        assert all((one.fault_violation_ratio is not None) == known for one in found.values())
        assert (FRAIL in found["b"].reason) == known
        assert known or not any("breaks the SLO" in one.reason for one in found.values())
    assert "under faults or in bursts it goes over capacity" in found["b"].reason
