"""Kthena AutoscalingPolicies of a policy: what the CRD and the webhook take, the ratio, what is lost."""

import json
import math
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from export.scenes import full_policy, renamed_keys
from export.test_keda import POLICIES, two_primaries

from hs_analysis.controllers import Autoscaler
from hs_analysis.controllers.hpa import Metric, RatePolicy, Rules
from hs_analysis.controllers.kthena import Kthena, RatioBand, RatioConstraint, within_ratio
from hs_analysis.export import ExportOptions, export, kubernetes
from hs_analysis.export.kthena import has_whole_pair, keepable_high, lint_kthena, parameters
from hs_analysis.export.model import Measured, load_documents
from hs_analysis.policy.model import Bounds, Cooldown

SCHEMA = json.loads((Path(__file__).parent / "kthena.schema.json").read_text("utf-8"))
SCALED = [name for name, policy in POLICIES.items() if policy.mode == "metric" and policy.bounds]
BAND = ExportOptions(measured=Measured(ratio_band=(0.45, 0.56)))


def written(policy, options=None):
    texts = export(policy, "kthena", options).files
    return next((text for name, text in texts.items() if name.endswith("autoscalingpolicy.yaml")), "")


def body_of(policy, options=None):
    (body,) = load_documents(written(policy, options))
    return body


def target(body):
    return body["spec"]["disaggregatedTarget"]


def seconds(text):
    return float(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def read(body):
    """Return the controller's parameters as an object says them, with the signal of `parameters`."""

    def rules(side):
        if not side["instances"] and not side["percent"]:
            return None
        kinds = (("Percent", side["percent"]), ("Pods", side["instances"]))
        policies = tuple(RatePolicy(kind, value, seconds(side["period"])) for kind, value in kinds)
        return Rules(seconds(side["stabilizationWindow"]), policies)

    spec = body["spec"]
    up, down = rules(spec["behavior"]["scaleUp"]["stablePolicy"]), rules(spec["behavior"]["scaleDown"])
    roles = {
        role: Kthena(
            (Metric("", float(one["metrics"][0]["targetValue"])),),
            one["minReplicas"],
            one["maxReplicas"],
            spec["tolerancePercent"] / 100,
            up,
            down,
            None,
            0,
            0.0,
        )
        for role, one in target(body)["roles"].items()
    }
    ratio = target(body).get("ratioConstraint")
    if ratio is None:
        return Autoscaler("kthena", roles)
    pair = [(roles[r].min_replicas, roles[r].max_replicas) for r in ("prefill", "decode")]
    return Autoscaler(
        "kthena", roles, RatioConstraint(float(ratio["minRatio"]), float(ratio["maxRatio"]), *pair)
    )


@pytest.mark.parametrize("name", SCALED)
def test_every_object_passes_the_strict_schema_and_the_lint(name):
    """No field that the CRD of 1.0.0 does not know, none missing."""
    body = body_of(POLICIES[name], BAND)
    jsonschema.validate(body, SCHEMA)
    assert lint_kthena(body) == []


def test_a_mutated_key_fails_the_lint():
    """Renaming any single key is caught by our own check alone."""
    body = body_of(full_policy())
    for path, broken in renamed_keys(body):
        if path != ("metadata", "namespace"):
            assert lint_kthena(broken), path


def ratio_of(body):
    return target(body)["ratioConstraint"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: b["spec"].update(tolerancePercent=101), "tolerancePercent"),
        (lambda b: target(b)["roles"]["decode"].update(minReplicas=25), "min ≤ max"),
        (lambda b: target(b)["roles"]["decode"].update(minReplicas=0), "may go to 0"),
        (lambda b: target(b)["roles"]["decode"].update(metricSources={}), "metricSources"),
        (lambda b: target(b)["roles"]["decode"]["metrics"][0].update(targetValue=3800), "quantity"),
        (lambda b: target(b)["targetRef"].update(kind="Deployment"), "ModelServing"),
        (lambda b: ratio_of(b).update(minRatio="0.6"), "no range"),
        (lambda b: ratio_of(b).update(minRatio="0.501", maxRatio="0.502"), "no whole counts"),
        (lambda b: ratio_of(b).update(denominatorRole="prefill"), "two of the roles"),
        (lambda b: b["spec"]["behavior"]["scaleDown"].update(period="31m"), "more than 1800"),
        (lambda b: b["spec"]["behavior"]["scaleDown"].pop("percent"), "percent is missing"),
        (lambda b: b.update(kind="AutoscalingPolicyBinding"), "apiVersion and kind"),
    ],
)
def test_the_lint_repeats_crd_and_webhook(change, says):
    """What the webhook refuses, and a band without whole counts, which it takes, are found and named."""
    body = body_of(full_policy())
    change(body)
    assert any(says in problem for problem in lint_kthena(body)), lint_kthena(body)


def test_the_ratio_constraint_is_the_interval_of_the_ratio():
    """The policy's own interval where it keeps a ratio, else the run's; targets hold the value."""
    body = body_of(full_policy(), ExportOptions(measured=Measured(ratio_band=(9.0, 10.0))))
    assert ratio_of(body) == {
        "numeratorRole": "prefill",
        "denominatorRole": "decode",
        "minRatio": "0.45",
        "maxRatio": "0.56",
    }
    targets = {role: one["metrics"][0]["targetValue"] for role, one in target(body)["roles"].items()}
    assert targets == {"prefill": "7600", "decode": "3800"}
    own = body_of(two_primaries(), BAND)
    assert (ratio_of(own)["minRatio"], ratio_of(own)["maxRatio"]) == ("0.45", "0.56")


@pytest.mark.parametrize(
    ("policy", "options", "says"),
    [
        (two_primaries(), ExportOptions(), "no interval"),
        (two_primaries(), ExportOptions(measured=Measured(ratio_band=(40.0, 50.0))), "no whole counts"),
        (full_policy(pd_ratio=replace(full_policy().pd_ratio, low=None)), BAND, "no interval"),
        (full_policy(bounds={"decode": Bounds(3, 24)}), BAND, "one role only"),
    ],
)
def test_a_band_that_can_not_be_kept_is_left_out_and_said(policy, options, says):
    """No interval is made up, and none is written that the controller would break without a word."""
    made = export(policy, "kthena", options)
    assert "ratioConstraint" not in target(body_of(policy, options))
    assert any(loss.item == "primaries" and says in loss.text for loss in made.losses)


@pytest.mark.parametrize(
    ("band", "prefill", "decode", "high"),
    [
        ((0.45, 0.56), (1, 20), (1, 40), 0.56),  # a decode count without a partner has a neighbour with one
        ((0.874, 0.912), (3, 18), (2, 20), 1.0),  # 7 to 8 is the first pair, and 3 to 3 are asked for
        ((0.874, 0.912), (7, 18), (2, 11), 0.912),  # 7 to 8, 8 to 9, 9 to 10 and 10 to 11 are all
        ((1.02, 1.04), (5, 60), (5, 60), 1.16667),
        ((40.0, 50.0), (1, 12), (1, 24), 50.0),
    ],
)
def test_a_band_is_as_wide_as_whole_counts_need_it(band, prefill, decode, high):
    """From any counts that the bounds allow the repair ends in the band, at most one instance further on."""
    found = keepable_high(*band, prefill, decode)
    assert found == pytest.approx(high)
    held = RatioBand.of([RatioConstraint(band[0], found, prefill, decode)])
    for count in range(*decode):
        start = math.ceil(band[0] * count - 1e-9)
        if not prefill[0] <= start <= prefill[1] - 2:
            continue
        counts = {"prefill": np.array([float(start)]), "decode": np.array([float(count)])}
        for _ in range(4):
            counts = within_ratio(counts, held)
        assert band[0] <= counts["prefill"][0] / counts["decode"][0] <= found
        assert counts["decode"][0] <= count + 1


def test_an_interval_narrower_than_whole_counts_is_written_wider_and_said():
    """Kthena takes the narrow one and leaves it, or grows both roles to the next pair, 26 to 25."""
    policy = full_policy(bounds={"prefill": Bounds(5, 60), "decode": Bounds(5, 60)})
    narrow = replace(policy, pd_ratio=replace(policy.pd_ratio, value=1.03, low=1.02, high=1.04))
    assert (ratio_of(body_of(narrow))["minRatio"], ratio_of(body_of(narrow))["maxRatio"]) == (
        "1.02",
        "1.16667",
    )
    told = {loss.item: loss.text for loss in export(narrow, "kthena").losses}
    assert "1.16667 instead of 1.04" in told["pd_ratio.high"]
    assert "pd_ratio.high" not in {loss.item for loss in export(policy, "kthena").losses}


@pytest.mark.parametrize("name", SCALED)
def test_what_is_written_reads_back_as_the_controllers_parameters(name):
    """Targets, bounds, tolerance, windows, limits and ratio: the object is the parameters, no more."""
    policy = POLICIES[name]
    pools = [one for one in kubernetes.sizings(policy, "hpa")[0] if one.role in policy.bounds]
    body = body_of(policy, BAND)
    ratio = target(body).get("ratioConstraint")
    band = (float(ratio["minRatio"]), float(ratio["maxRatio"])) if ratio else None
    wanted, found = parameters(policy, pools, band), read(body)
    assert found.together == wanted.together
    for role, one in wanted.pools.items():
        held = found.pools[role]
        assert (held.min_replicas, held.max_replicas) == (one.min_replicas, one.max_replicas)
        assert held.metrics[0].target == pytest.approx(one.metrics[0].target, rel=1e-5)
        assert held.tolerance == one.tolerance
        assert (held.up.stabilization_s, held.down) == (
            one.up.stabilization_s,
            None if one.down.select == "Disabled" else one.down,
        )
        assert set(held.up.policies) == set(one.up.policies)


def test_one_behavior_serves_both_roles_and_says_so():
    """The smaller band, the faster growth, the slower removal; the other role's numbers are losses."""
    policy = full_policy()
    made, spec = export(policy, "kthena"), body_of(policy)["spec"]
    up, down = spec["behavior"]["scaleUp"]["stablePolicy"], spec["behavior"]["scaleDown"]
    assert spec["tolerancePercent"] == 5
    assert (up["percent"], up["instances"], up["period"]) == (25, 1, "4m")
    assert (down["percent"], down["instances"], down["period"]) == (10, 1, "700s")
    texts = {loss.item: loss.text for loss in made.losses}
    assert "240 for prefill instead of 300" in texts["cooldown.prefill.scale_out_s"]
    assert "700 for decode instead of 600" in texts["cooldown.decode.scale_in_s"]
    assert "one tolerance" in texts["hysteresis"]


def test_scale_in_is_off_where_its_rest_is_unknown():
    """Both limits are 0: left out they would be one instance or all of them every 15 s."""
    policy = full_policy(cooldown={"decode": Cooldown(None, None)})
    down = body_of(policy)["spec"]["behavior"]["scaleDown"]
    assert (down["instances"], down["percent"]) == (0, 0)


def test_panic_is_off():
    """A hold of 0 s never panics; the defaults would grow past every limit for a minute."""
    panic = body_of(full_policy())["spec"]["behavior"]["scaleUp"]["panicPolicy"]
    assert panic["panicModeHold"] == "0s"


@pytest.mark.parametrize(("mode", "says"), [("hold", "too few episodes"), ("periodic", "no timetable")])
def test_what_kthena_can_not_hold_is_refused(mode, says):
    """No object, and the reason is the loss."""
    made = export(full_policy(mode=mode), "kthena")
    assert not written(full_policy(mode=mode))
    assert [loss.kind for loss in made.losses] == ["refused"]
    assert says in made.losses[0].text


def test_the_file_starts_with_at_most_six_lines():
    """Also where the first of them is that it is not recommended."""
    text = written(full_policy(recommended=False), BAND)
    assert sum(line.startswith("#") for line in text.splitlines()) <= 6


@pytest.mark.parametrize(
    ("band", "counts", "fits"),
    [
        ((0.45, 0.56), ((1, 4), (1, 8)), True),
        ((0.45, 0.49), ((1, 2), (1, 3)), False),
        ((2.0, 2.0), ((1, 3), (2, 9)), False),
        ((0.1, 0.1), ((3, 3), (30, 30)), True),
    ],
)
def test_a_band_is_kept_only_where_whole_counts_lie_in_it(band, counts, fits):
    """1 ÷ 2 lies in 0.45 to 0.56; nothing up to 2 ÷ 3 lies in 0.45 to 0.49; 0.1 × 30 is 3."""
    assert has_whole_pair(*band, *counts) is fits
