"""Objects written for a policy and read back as today's: the same parameters."""

from __future__ import annotations

from dataclasses import replace

from current.histories import known as of_service
from export.scenes import as_written, full_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from hs_analysis.catalogue import load_catalogue
from hs_analysis.controllers.hpa import Surge
from hs_analysis.current import Definitions, read_definitions, read_manifests, translate
from hs_analysis.export import ExportOptions, export, surging
from hs_analysis.policy.controls import control_of
from hs_analysis.policy.model import (
    Bounds,
    Cooldown,
    Hysteresis,
    Primary,
    Ratio,
    SignalReading,
    Step,
    Target,
    Waiting,
)
from hs_analysis.policy.waiting import QUEUE, WITHIN_S

CATALOGUE = load_catalogue()
DECODE = ("decode_tps", "decode", 'sum(rate(vllm:generation_tokens_total{job="vllm-decode"}[1m]))', "sum")
PREFILL = ("prefill_tps", "prefill", 'sum(rate(vllm:prompt_tokens_total{job="vllm-prefill"}[1m]))', "sum")
USAGE = (
    "kv_usage", "decode",
    'avg(avg by (pod) (avg_over_time(vllm:kv_cache_usage_perc{job="vllm-decode"}[1m])))', "mean",
)  # fmt: skip
QUEUED = 'sum(avg_over_time(vllm:num_requests_waiting{{job="vllm-prefill"}}[{minutes}m]))'
LED = ((DECODE,), (PREFILL,), (PREFILL, DECODE), (PREFILL, USAGE))
"""Signals of the primaries: one that sizes both pools by the ratio, or one a pool."""

percents = st.none() | st.integers(1, 100).map(lambda percent: percent / 100.0)
whole = st.integers(1, 1800).map(float)
surges = st.none() | st.builds(Surge, st.sampled_from([30.0, 45.0]), st.sampled_from([1.05, 1.1, 2.0]))


def _surging(promql, surge):
    """Return a query whose first signal is read over a shorter range while the load grows."""
    usual, sign, more = promql.partition(" + ")
    return surging(usual.replace("[1m]", f"[{surge.window_s:g}s]"), usual, surge.above_ratio) + sign + more


def digits(least, most):
    """Return numbers with the digits that policy.yaml keeps."""
    return st.floats(least, most).map(lambda value: float(f"{value:.5g}"))


@st.composite
def waits(draw, primary):
    """Draw whether what waits counts beside the work of prefill, with what weight and over what range."""
    if primary.role != "prefill" or draw(st.booleans()):
        return primary
    minutes, tokens = draw(st.integers(1, 5)), draw(digits(0.01, 1e6))
    waiting = Waiting(QUEUE, "prefill", tokens, WITHIN_S, 60.0 * minutes)
    promql = f"{primary.promql} + {QUEUED.format(minutes=minutes)} * {waiting.weight:g}"
    return replace(primary, promql=promql, waiting=waiting)


@st.composite
def policies(draw, controller):
    """Draw a policy that a controller follows: targets, bounds, bands, windows and limits of a step."""
    primaries = tuple(
        draw(waits(Primary(signal, role, "", promql, "vllm", Target(draw(digits(0.05, 5e4))), pool)))
        for signal, role, promql, pool in draw(st.sampled_from(LED))
    )
    surge = None if any(one.pool == "mean" for one in primaries) else draw(surges)
    if surge:
        primaries = tuple(replace(one, promql=_surging(one.promql, surge)) for one in primaries)
    value = draw(digits(0.1, 10.0))
    least = {role: draw(st.integers(0, 5)) for role in ("prefill", "decode")}
    return full_policy(
        service="demo/m-large",
        controller=controller,
        primaries=primaries,
        pd_ratio=Ratio(1, 1, value, value, value, 0.1, "ok") if len(primaries) == 1 else None,
        reading=SignalReading(60.0, float(draw(st.integers(0, 3600))), surge),
        hysteresis={
            role: Hysteresis(round(1.0 + draw(digits(0.0, 0.9)), 4), round(1.0 - draw(digits(0.0, 0.9)), 4))
            for role in least
        },
        cooldown={role: Cooldown(draw(whole), draw(st.none() | whole)) for role in least},
        step=Step(1.0, draw(percents), draw(percents)),
        bounds={role: Bounds(low, low + draw(st.integers(1, 60))) for role, low in least.items()},
    )


def back(policy, controller, version):
    """Return the autoscaler that the written files set up."""
    files = export(policy, controller, ExportOptions(kubernetes=version)).files
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    rules = sum((read_definitions(text, "f") for text in texts), Definitions())
    manifests = [(one, "") for text in texts for one in read_manifests(text, "f")]
    return translate(manifests, of_service(), CATALOGUE, rules)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["keda", "hpa"]).flatmap(lambda name: st.tuples(st.just(name), policies(name))),
    st.sampled_from([(1, 32), (1, 35)]),
)
def test_what_is_written_is_read_back_as_the_controllers_parameters(drawn, version):
    """Bounds, targets, windows, rate policies, tolerances and fallback; below 1.33 all but the tolerances."""
    controller, policy = drawn
    found = back(policy, controller, version)
    assert found.notes == ()
    assert found.scaler.pools == as_written(control_of(policy).pools, version)


def test_a_pool_tied_to_the_mean_of_another_is_written_and_not_replayed():
    """The object divides the total over the leader's instances, whose number no rule of the pool sees."""
    policy = full_policy(
        service="demo/m-large",
        controller="hpa",
        primaries=(Primary(*USAGE[:2], "", USAGE[2], "vllm", Target(0.6), "mean"),),
        reading=SignalReading(60.0, 300.0),
    )
    found = back(policy, "hpa", (1, 35))
    assert found.scaler.pools == {"decode": control_of(policy).pools["decode"]}
    assert "a sum of kv_usage over the instances of decode moves with" in found.notes[0]
