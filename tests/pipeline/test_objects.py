"""The object that a policy becomes: written, read back, and what is replayed where that can't be done."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from export.scenes import series_frame
from replay.services import SETTINGS, built, derived, pd_day

from hs_analysis.controllers import Autoscaler, HeteroScale
from hs_analysis.controllers.hpa import Operand
from hs_analysis.current import CurrentAutoscaler
from hs_analysis.pipeline import objects
from hs_analysis.pipeline.objects import Deployed, deployed, deployed_as
from hs_analysis.policy import Policy
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.rounding import rounded
from hs_analysis.policy.waiting import QUEUE, with_waiting
from hs_analysis.select import knobs_of, with_knobs

FRAME = pd_day(240)
KNOBS = knobs_of(60.0, waits=False)
PAIR = (("prefill_tps_effective", "prefill"), ("decode_tps", "decode"))
QUERIES = {
    "decode": "sum(rate(vllm:generation_tokens_total[2m]))",
    "prefill": 'sum(rate(vllm:prompt_tokens_by_source_total{source="local_compute"}[2m]))',
}
QUEUE_QUERY = 'sum(avg_over_time(vllm:num_requests_waiting{pod=~"m-prefill-.*"}[2m]))'


def series_of(*metrics: tuple[str, str, dict[str, str]]) -> pl.DataFrame:
    """Return series of two pods each of (role, metric, labels)."""
    return series_frame(
        [
            {"metric": metric, "labels": {"pod": pod, **of}, "emitter_role": role, "service": FRAME.service}
            for role, metric, of in metrics
            for pod in (f"m-{role}-0", f"m-{role}-1")
        ]
    )


COUNTERS = (
    ("decode", "vllm:generation_tokens_total", {}),
    ("prefill", "vllm:prompt_tokens_by_source_total", {"source": "local_compute"}),
)
SERIES = series_of(*COUNTERS)
WAITING_SERIES = series_of(*COUNTERS, *((role, "vllm:num_requests_waiting", {}) for role in QUERIES))


def policy_for(controller: str, keys: tuple[tuple[str, str], ...] = PAIR, setting: int = -1) -> Policy:
    """Return the policy of a service for a controller, with the queries of its signals."""
    policy = with_knobs(built(FRAME, keys), KNOBS[setting], controller, "mine")
    queried = tuple(replace(one, promql=QUERIES[one.role]) for one in policy.primaries)
    return replace(policy, primaries=queried)


def become(policy: Policy) -> Deployed:
    """Return the object that a policy becomes."""
    return deployed(policy, FRAME, derived(), SETTINGS, SERIES)


@pytest.mark.parametrize("controller", ["keda", "hpa"])
@pytest.mark.parametrize("keys", [PAIR, PAIR[1:]], ids=["pair", "ratio"])
def test_what_is_read_back_is_the_policys_own_control(
    controller: str, keys: tuple[tuple[str, str], ...]
) -> None:
    """Targets, bounds, windows, tolerances and fallback of every setting; also of a pool that follows."""
    for setting in range(len(KNOBS)):
        policy = policy_for(controller, keys, setting)
        found = become(policy)
        assert (found.why_not, found.differs) == ("", ())
        own = control_of(rounded(policy))
        assert isinstance(found.control, Autoscaler)
        assert isinstance(own, Autoscaler)
        assert found.control.pools == own.pools
        assert set(found.control.pools) == {"prefill", "decode"}


def test_what_the_object_holds_otherwise_is_named() -> None:
    """A query over five minutes reads five minutes, whatever the policy was selected with."""
    policy = policy_for("keda")
    slow = tuple(replace(one, promql=one.promql.replace("[2m]", "[5m]")) for one in policy.primaries[1:])
    found = become(replace(policy, primaries=(policy.primaries[0], *slow)))
    assert (found.why_not, found.differs) == ("", ("decode",))
    assert isinstance(found.control, Autoscaler)
    assert found.control.pools["decode"].hpa.metrics[0].averaging_s == 300.0


@pytest.mark.parametrize(("version", "tolerance"), [("1.32", None), ("1.33", 0.1), (None, 0.1)])
def test_what_is_replayed_is_the_object_as_its_kubernetes_takes_it(
    version: str | None, tolerance: float | None
) -> None:
    """Before 1.33 no object has a tolerance of its own: the cluster's 10 % is what acts."""
    settings = replace(SETTINGS, kube_version=version)
    found = deployed(policy_for("keda"), FRAME, derived(), settings, SERIES)
    assert (found.why_not, bool(found.differs)) == ("", tolerance is None)
    assert isinstance(found.control, Autoscaler)
    assert {one.hpa.up.tolerance for one in found.control.pools.values()} == {tolerance}


@pytest.mark.parametrize("controller", ["keda", "hpa"])
def test_without_queries_the_policys_own_parameters_are_replayed_and_it_says_why(controller: str) -> None:
    """A file that can't be read back is not what was replayed."""
    policy = policy_for(controller)
    blank = replace(policy, primaries=tuple(replace(one, promql="") for one in policy.primaries))
    found = become(blank)
    assert found.control == control_of(rounded(blank))
    assert found.why_not
    half = replace(policy, primaries=(policy.primaries[0], blank.primaries[1]))
    assert become(half).why_not
    assert become(half).control == control_of(rounded(half))


@pytest.mark.parametrize("target", ["keda", "kserve"])
def test_a_reason_that_comes_twice_is_told_once(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a controller's own objects and of any other target's."""
    twice = CurrentAutoscaler(None, (), ("no query", "no pool", "no query"))
    monkeypatch.setattr(objects, "current_autoscaler", lambda *_, **__: twice)
    policy = policy_for("keda")
    found = deployed_as(target, policy, FRAME, derived(), SETTINGS, SERIES)
    assert found == Deployed(control_of(rounded(policy)), "no query; no pool")


def test_queries_that_find_nothing_are_told() -> None:
    """A metric that no series of the run has can't be read back."""
    policy = policy_for("keda")
    named = tuple(replace(one, promql="sum(rate(nobody_total[2m]))") for one in policy.primaries)
    found = become(replace(policy, primaries=named))
    assert "nobody_total" in found.why_not


def test_heteroscales_rule_is_read_back_from_its_policy() -> None:
    """The controller reads policy.yaml itself: with the digits that are written there."""
    policy = policy_for("heteroscale")
    found = become(policy)
    assert isinstance(found.control, HeteroScale)
    assert found == Deployed(control_of(rounded(policy)))


@pytest.mark.parametrize(
    ("mode", "why"), [("hold", "a policy on hold has no object"), ("periodic", "it keeps no timetable")]
)
def test_a_policy_that_follows_no_metric_is_no_object(mode: str, why: str) -> None:
    """On hold, and without a timetable to keep: it says so, and its own control is what runs."""
    policy = replace(policy_for("keda"), mode=mode)
    assert become(policy) == Deployed(control_of(rounded(policy)), why)


WAITING_FRAME = pd_day(
    240,
    request_rate__service=np.full(240, 17.3),
    queue_length__prefill=np.zeros(240),
)
"""Of which it is known what waits: some thousand tokens a request."""


@pytest.mark.parametrize("controller", ["keda", "hpa", "heteroscale"])
@pytest.mark.parametrize("keys", [PAIR, PAIR[:1]], ids=["pair", "ratio"])
def test_what_waits_is_written_and_read_back(controller: str, keys: tuple[tuple[str, str], ...]) -> None:
    """The query of the primary adds it, and the object that is read has the policy's own weight and range."""
    made = built(WAITING_FRAME, keys)
    asked = replace(made, primaries=tuple(replace(one, promql=QUERIES[one.role]) for one in made.primaries))
    counted = with_waiting(asked, WAITING_FRAME, {(QUEUE, "prefill"): QUEUE_QUERY})
    policy = with_knobs(counted, KNOBS[1], controller, "mine")
    found = deployed(policy, WAITING_FRAME, derived(), SETTINGS, WAITING_SERIES)
    assert (found.why_not, found.differs) == ("", ())
    own = control_of(rounded(policy))
    assert found.control.pools == own.pools
    if controller == "heteroscale":
        found_others = {role: one.others for role, one in found.control.pools.items() if one.others}
    else:
        hpas = {role: getattr(one, "hpa", one) for role, one in found.control.pools.items()}
        found_others = {role: one.metrics[0].others for role, one in hpas.items() if one.metrics[0].others}
    leads = {one.role: one.waiting.weight for one in counted.primaries}
    assert set(leads) == {role for _, role in keys}
    assert min(leads.values()) > 0
    weights = leads if controller == "heteroscale" else dict.fromkeys(("prefill", "decode"), leads["prefill"])
    name = {"prefill": QUEUE, "decode": f"{QUEUE}@prefill"}
    assert found_others == {
        role: (Operand(name[role], 120.0, value),) for role, value in (weights | leads).items()
    }
