"""llm-d's SLO-aware ScaledObjects of today: what is read, what is refused and why, and what a gap does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from current.test_translate import KNOWN
from export.test_slo_aware import FULL, full_policy, objects

from hs_analysis.catalogue import load_catalogue
from hs_analysis.controllers.hpa import RatePolicy, Rules
from hs_analysis.controllers.slo_aware import SloAware
from hs_analysis.current import CurrentAutoscaler, read_definitions, read_manifests, translate
from hs_analysis.current.slo_aware import AS_RECORDED
from hs_analysis.export.model import dump_documents
from hs_analysis.export.slo_aware import parameters

P90S = {("ttft_p90_60s", "service"): "ratio", ("tbt_p90_60s", "decode"): "ratio"}
SIGNALS = {"ttft": "ttft_p90_60s@service", "tbt": "tbt_p90_60s@decode"}
RECORDED = replace(KNOWN, readable={**KNOWN.readable, **P90S})
GUIDE = """
groups:
  - name: epp-saturation
    interval: 15s
    rules:
      - record: epp:saturation:raw
        expr: >
          clamp_max((histogram_quantile(0.9, sum by (le)
          (rate(llm_d_epp_request_ttft_seconds_bucket[1m]))) or vector(0)) / 3, 2)
      - {record: epp:saturation:smoothed, expr: 'avg_over_time(epp:saturation:raw[45s])'}
"""


def read(body: dict[str, Any], known: Any = RECORDED, rules: str = "") -> CurrentAutoscaler:
    """Return what one object sets up."""
    manifests = [(one, "") for one in read_manifests(dump_documents([body]), "today.yaml")]
    return translate(manifests, known, load_catalogue(), read_definitions(rules, "rules.yaml"))


def modifiers(body: dict[str, Any]) -> dict[str, Any]:
    """Return the formula of an object and what goes with it."""
    found: dict[str, Any] = body["spec"]["advanced"]["scalingModifiers"]
    return found


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_an_exported_object_reads_back_as_the_controller_that_was_written(role: str) -> None:
    """Thresholds, limits, clamp, smoothing, bounds and behaviour, and that a gap holds the count."""
    found = read(objects()[role])
    wanted = parameters(full_policy(), FULL, role)
    latencies = tuple(replace(one, signal=SIGNALS[one.signal]) for one in wanted.latencies)
    assert found.scaler is not None
    assert found.scaler.pools == {role: replace(wanted, latencies=latencies)}
    assert any(AS_RECORDED in note for note in found.notes)
    (one,) = found.objects
    assert (one.unread, [read.name for read in one.metrics]) == (
        0,
        [SIGNALS["ttft" if role == "prefill" else "tbt"]],
    )


def test_other_thresholds_bounds_and_behaviour_are_those_of_the_object() -> None:
    """However the formula is spaced."""
    body = objects()["prefill"]
    formula = (
        modifiers(body)["formula"].replace("0.55", "0.7").replace("0.4)", "0.25)").replace("0.4 ", "0.25 ")
    )
    modifiers(body)["formula"] = formula.replace(" ", "  ").replace("1.0", "1")
    body["spec"] |= {"minReplicaCount": 5, "maxReplicaCount": 9}
    behaviour = {"scaleUp": {"policies": [{"type": "Pods", "value": 2, "periodSeconds": 90}]}}
    body["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] = behaviour
    scaler = read(body).scaler
    assert scaler is not None
    found = scaler.pools["prefill"]
    assert isinstance(found, SloAware)
    assert (found.up, found.down) == (0.7, 0.25)
    assert (found.scaler.min_replicas, found.scaler.max_replicas) == (5, 9)
    assert found.scaler.up == Rules(0.0, (RatePolicy("Pods", 2, 90.0),))


def test_the_guides_own_rules_are_read_where_they_are_given() -> None:
    """Its recorded names, and that a latency without series is an idle pool to it."""
    body = objects()["prefill"]
    body["spec"]["triggers"][0]["metadata"]["query"] = "max(epp:saturation:smoothed)"
    scaler = read(body, rules=GUIDE).scaler
    assert scaler is not None
    found = scaler.pools["prefill"]
    assert (found.latencies[0].slo_s, found.most, found.smoothing_s) == (3.0, 2.0, 45.0)
    assert found.missing_is_idle
    assert "epp:saturation:smoothed is a recorded name" in " ".join(read(body).notes)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("ceil(", "floor(", "word 7 is floor where llm-d's SLO-aware formula has ceil"),
        ("/ 0.55 - 1", "/ 0.6 - 1", "is 0.6 where llm-d's SLO-aware formula has 0.55"),
        (" : replicas)", " : replicas + 1)", "is + where llm-d's SLO-aware formula has )"),
        (
            "saturation > 0.55",
            "saturation > replicas",
            "is replicas where llm-d's SLO-aware formula has a threshold",
        ),
    ],
)
def test_an_edited_formula_is_refused_in_a_line(old: str, new: str, says: str) -> None:
    """The first word that differs; only the thresholds may."""
    body = objects()["prefill"]
    assert old in modifiers(body)["formula"]
    modifiers(body)["formula"] = modifiers(body)["formula"].replace(old, new, 1)
    found = read(body)
    assert found.scaler is None
    (why,) = (note for note in found.notes if "scalingModifiers.formula" in note)
    assert says in why
    assert why.endswith("only its two thresholds may differ")
    assert "\n" not in why


@pytest.mark.parametrize(
    ("trigger", "old", "new", "says"),
    [
        (0, "0.9,", "0.99,", "the 0.99 quantile in place of 0.9 is not replayed"),
        (0, "/ 1,", "* 2,", "* in it is not read"),
        (0, "[1m]", "[5m]", "the P90 of TTFT over 300 s is not recorded"),
        (0, "avg_over_time", "max_over_time", "max_over_time in it is not read"),
        (1, "_replicas{", "_replicas_ready{", "a count is read of kube_deployment_status_replicas"),
    ],
)
def test_an_edited_query_is_refused(trigger: int, old: str, new: str, says: str) -> None:
    """Quantile, divisor, range and smoothing; a count of pods that is another one."""
    body = objects()["prefill"]
    metadata = body["spec"]["triggers"][trigger]["metadata"]
    assert old in metadata["query"]
    metadata["query"] = metadata["query"].replace(old, new)
    found = read(body)
    assert found.scaler is None
    assert says in " ".join(found.notes)


def test_what_is_not_the_count_or_not_recorded_is_refused() -> None:
    """A target other than 1; a history without the P90, or in which it follows no load."""
    body = objects()["prefill"]
    assert "is not recorded" in " ".join(read(body, KNOWN).notes)
    flat = replace(KNOWN, unmodelled={("ttft_p90_60s", "service"): "it follows no load"})
    assert "at counts that never ran: it follows no load" in " ".join(read(body, flat).notes)
    modifiers(body)["target"] = "2"
    assert "the formula gives a count" in " ".join(read(body).notes)
