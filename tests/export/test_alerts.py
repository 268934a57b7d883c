import copy
import json
import math
import re
from dataclasses import replace

import pytest
from export.scenes import full_policy, series_frame
from export.test_losses import METADATA, ONE_VALUE, bodies, changed, leaves
from export.test_queries import pods, recipe, signal
from export.watching import OPTIONS, WATCHED, over, watched_policy

from hs_analysis.catalogue import Term
from hs_analysis.export import TARGETS, ExportOptions, WatchedLimit, export, expression
from hs_analysis.export.alerts import ALERTS, ratio_band
from hs_analysis.export.model import load_documents
from hs_analysis.export.queries import instance_count, share_over
from hs_analysis.export.rules import lint_rules
from hs_analysis.policy.model import Hysteresis, Ratio
from hs_analysis.schema.limit_edges import LimitEdges

RUNBOOK = "http://wiki.internal/serving"


def groups_of(policy, options=OPTIONS):
    files = export(policy, "rules", options).files
    texts = [text for name, text in files.items() if name.endswith(".alerts.yaml")]
    return [group for text in texts for group in load_documents(text)[0]["groups"]]


def alerts_of(policy, options=OPTIONS):
    return [rule for group in groups_of(policy, options) for rule in group["rules"] if "alert" in rule]


def names_of(policy, options=OPTIONS):
    return {rule["alert"] for rule in alerts_of(policy, options)}


def losses_of(policy, options=OPTIONS):
    made = export(policy, "rules", options)
    return {loss.item: loss.text for loss in made.losses if loss.item.startswith("alerts.")}


def lacking(**changes):
    return replace(OPTIONS, watched=replace(WATCHED, **changes))


def without_promql(policy, **which):
    """Return a policy whose primaries or guards have no query."""
    items = {kind: tuple(replace(item, promql="") for item in getattr(policy, kind)) for kind in which}
    return replace(policy, **items)


def test_alerts_refer_to_recorded_names_only():
    """What an alert asks is recorded in one of the two files, by the very labels that it asks for."""
    policy = watched_policy()
    files = export(policy, "rules", OPTIONS).files
    rules = [
        rule
        for name, text in files.items()
        if name.endswith(".yaml")
        for group in load_documents(text)[0]["groups"]
        for rule in group["rules"]
    ]
    recorded = {
        rule["record"] + "{" + ",".join(f'{k}="{v}"' for k, v in rule["labels"].items()) + "}"
        for rule in rules
        if "record" in rule
    }
    asked = {
        found
        for rule in rules
        if "alert" in rule
        for found in re.findall(r"[a-z]+:[\w:]+{[^}]*}", rule["expr"])
    }
    assert asked
    assert asked <= recorded
    bare = [re.sub(r"[a-z]+:[\w:]+{[^}]*}", "X", rule["expr"]) for rule in rules if "alert" in rule]
    assert not [expr for expr in bare if "{" in expr or "rate(" in expr]


def test_every_alert_says_what_it_means_and_what_to_do_in_a_sentence_each():
    """Summary, description and action are one sentence each; severity and `for` are set."""
    for rule in alerts_of(watched_policy()):
        said = rule["annotations"]
        assert set(said) == {"summary", "description", "action"}
        for text in said.values():
            assert text[0].isupper() or text.startswith("{{"), text
            assert re.fullmatch(r"[^.]*(\d\.\d+[^.]*)*\.", text), text
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert re.fullmatch(r"\d+[mh]", rule["for"])


def test_a_runbook_is_named_only_where_one_was_given():
    """Nothing is made up: without the setting no alert names a page."""
    assert not [rule for rule in alerts_of(watched_policy()) if "runbook_url" in rule["annotations"]]
    found = alerts_of(watched_policy(), replace(OPTIONS, runbook_url=RUNBOOK))
    assert {rule["annotations"]["runbook_url"] for rule in found} == {RUNBOOK}


def test_groups_fit_every_managed_server():
    """No group holds more than twenty rules, and each is evaluated once a minute."""
    decode = watched_policy().primaries[0]
    two = watched_policy(pd_ratio=None)
    two = replace(two, primaries=(decode, replace(decode, signal="prefill_tps", role="prefill")))
    for policy in (watched_policy(), two):
        groups = groups_of(policy)
        assert len(groups) == 2
        assert all(len(group["rules"]) <= 20 for group in groups)
        assert {group["interval"] for group in groups} == {"1m"}


WITHOUT = {
    "no limit given": (
        lacking(limits=()),
        {},
        ("HsTtftOverSlo", "HsTbtOverSlo", "HsTargetDrifted of decode"),
    ),
    "no histogram of ttft": (
        lacking(limits=WATCHED.limits[1:], lacking={"ttft": "the history has no histogram of TTFT"}),
        {},
        ("HsTtftOverSlo",),
    ),
    "no quantile": (ExportOptions(watched=WATCHED), {}, ("HsTtftOverSlo", "HsTbtOverSlo")),
    "no count of decode instances": (
        lacking(instances={"prefill": WATCHED.instances["prefill"], "decode": ""}),
        {},
        ("HsRatioOutOfBand", "HsTargetDrifted of decode"),
    ),
    "no ratio": (OPTIONS, {"pd_ratio": None}, ("HsRatioOutOfBand",)),
    "a timetable": (OPTIONS, {"mode": "periodic"}, ("HsRatioOutOfBand",)),
    "no lengths": (
        lacking(lengths=()),
        {},
        ("HsMixDrifted of prompt_tokens", "HsMixDrifted of output_tokens"),
    ),
}


@pytest.mark.parametrize("name", WITHOUT)
def test_an_alert_that_cant_be_written_is_a_loss_by_its_name(name):
    """What the history lacks costs exactly the alerts that need it; each loss says why."""
    options, changes, missing = WITHOUT[name]
    losses = losses_of(watched_policy(**changes), options)
    assert {f"alerts.{alert}" for alert in missing} <= set(losses)
    assert all(text.startswith("the alert is not written: ") and len(text) > 30 for text in losses.values())
    gone = {alert.partition(" ")[0] for alert in missing} - {"HsMixDrifted", "HsTargetDrifted"}
    assert not gone & names_of(watched_policy(**changes), options)
    files = export(watched_policy(**changes), "rules", options).files
    (listed,) = [json.loads(text) for file, text in files.items() if file.endswith("losses.json")]
    assert set(losses) <= {one["item"] for one in listed}


@pytest.mark.parametrize(("seen", "below"), [(None, "3800"), (4000.0, "3800"), (2000.0, "1960")])
def test_a_drifted_target_is_not_told_of_what_the_history_did_itself(seen, below):
    """Where the history broke the SLO below the target, the alert speaks of loads below that, and says so."""
    options = lacking(broken_at={} if seen is None else {"decode_tps@decode": seen})
    policy = watched_policy()
    target = policy.primaries[0].target_per_instance.value
    assert target == 3800.0
    (alert,) = [one for one in alerts_of(policy, options) if one["alert"] == "HsTargetDrifted"]
    assert f" < {below} and " in alert["expr"]
    made = [one for one in export(policy, "rules", options).losses if one.item.startswith("alerts.")]
    if below == "3800":
        assert made == []
        return
    assert [(one.item, one.kind) for one in made] == [("alerts.HsTargetDrifted of decode", "approximated")]
    assert "broke the SLO for 15m at 2000" in made[0].text
    assert alert["annotations"]["description"].endswith("limit 1960.")


def test_only_an_alert_of_the_file_is_said_never_to_fire():
    """The first lines speak of what stands below them."""
    for options, written in ((OPTIONS, True), (lacking(limits=()), False)):
        files = export(watched_policy(), "rules", options).files
        (text,) = [text for name, text in files.items() if name.endswith(".alerts.yaml")]
        assert ("alert: HsTargetDrifted" in text) is written
        assert ("HsTargetDrifted never fires" in text.replace("\n# ", " ")) is written


def test_signals_without_a_query_lose_their_alerts_by_name():
    """Neither their absence nor a guard can be watched."""
    losses = losses_of(without_promql(watched_policy(), primaries=1, guards=1))
    assert {
        "alerts.HsSignalMissing of decode_tps",
        "alerts.HsSignalMissing of ttft",
        "alerts.HsGuardReached of tbt",
        "alerts.HsTargetDrifted of decode",
    } <= set(losses)


def test_everything_watched_leaves_no_alert_out():
    """A policy and a history that have it all get every alert, and no loss of one."""
    policy = watched_policy()
    assert names_of(policy) == set(ALERTS) - {"HsTtftMayBeOverSlo"}  # an edge lies at that limit
    assert losses_of(policy) == {}


@pytest.mark.parametrize(
    ("edges", "sure", "perhaps"),
    [
        (LimitEdges("ttft", "x", 1.0, 1.0, 1.0), True, False),
        (LimitEdges("ttft", "x", 2.0, 1.0, 2.2), True, True),
        (LimitEdges("ttft", "x", 0.01, None, 0.05), True, False),
        (LimitEdges("ttft", "x", 90.0, 60.0, math.inf), False, True),
    ],
)
def test_between_edges_one_alert_is_sure_and_one_is_not(edges, sure, perhaps):
    """The edge above the limit shows for sure that it is broken, the edge below that it may be."""
    low, high = edges.low_s, edges.high_s
    limit = WatchedLimit(
        "prefill",
        edges,
        "" if low is None else over("ttft_bucket", f"{low:g}"),
        over("ttft_bucket", f"{high:g}") if math.isfinite(high) else "",
    )
    options = lacking(limits=(limit,))
    found = {rule["alert"]: rule for rule in alerts_of(watched_policy(), options)}
    assert ("HsTtftOverSlo" in found, "HsTtftMayBeOverSlo" in found) == (sure, perhaps)
    assert ("alerts.HsTtftOverSlo" in losses_of(watched_policy(), options)) == (not sure)
    if sure and perhaps:
        assert found["HsTtftOverSlo"]["labels"]["severity"] == "critical"
        assert found["HsTtftMayBeOverSlo"]["labels"]["severity"] == "info"
        assert all(
            "add an edge at 2 s" in found[name]["annotations"]["description"]
            for name in found
            if "Ttft" in name and "Slo" in name
        )
        assert 'edge_s="2.2"' in found["HsTtftOverSlo"]["expr"]
        assert 'edge_s="1"' in found["HsTtftMayBeOverSlo"]["expr"]


def test_the_band_of_a_ratio_holds_what_its_rules_leave():
    """Interval and allowed deviation, widened by both dead bands; the bound where one is held."""
    policy = full_policy(hysteresis={})
    ratio = Ratio(1, 2, 0.5, 0.45, 0.56, 0.1, "ok")
    assert ratio_band(policy, ratio) == (0.4, 0.6)
    assert ratio_band(policy, replace(ratio, one_primary_bound=0.9)) == (0.45, 1.0)
    low, high = ratio_band(full_policy(), ratio)
    assert (low, high) == pytest.approx((0.4 * 0.9 / 1.08, 0.6 * 1.05 / 0.85))
    assert ratio_band(policy, replace(ratio, value=None)) is None


def test_a_pool_that_never_shrinks_by_its_signal_leaves_the_band_open_above():
    """Noise of a pool of one may ask for any count below: no prefill is too much then."""
    policy = watched_policy()
    bands = {**policy.hysteresis, "prefill": Hysteresis(1.08, 0.0)}
    found = {rule["alert"]: rule for rule in alerts_of(replace(policy, hysteresis=bands))}
    rule = found["HsRatioOutOfBand"]
    assert "ceil(" not in rule["expr"]
    assert "floor(" in rule["expr"]
    assert " and more fit." in rule["annotations"]["description"]


def test_what_an_alert_watches_is_not_called_dropped():
    """Change any field of a fully watched policy: what changes a file is no loss of kind dropped."""
    policy = watched_policy()
    before = bodies(TARGETS["rules"].build(policy, OPTIONS))
    for path, _ in leaves(policy):
        if path in ONE_VALUE or path.partition(".")[0] in METADATA:
            continue
        made = TARGETS["rules"].build(changed(policy, "", path), OPTIONS)
        if bodies(made) != before:
            assert [loss for loss in made.losses if loss.kind == "dropped" and loss.covers(path)] == [], path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda rule: rule.update(alert="TtftHigh"), "CamelCase"),
        (lambda rule: rule.pop("for"), "not a duration"),
        (lambda rule: rule["labels"].update(severity="page"), "severity 'page'"),
        (lambda rule: rule["annotations"].pop("action"), "annotation action is missing"),
        (lambda rule: rule.update(expr=" "), "expr is missing"),
        (lambda rule: rule.update(fors="1m"), "'fors' is no key of a rule"),
        (lambda rule: rule["labels"].update({"a-b": "c"}), "no label name"),
    ],
)
def test_a_broken_alert_is_found(change, says):
    """Each fault of an alert is named; without one there is none."""
    groups = {"groups": copy.deepcopy(groups_of(watched_policy()))}
    assert lint_rules(groups) == []
    change(groups["groups"][1]["rules"][0])
    (problem,) = lint_rules(groups)
    assert says in problem


def test_an_edge_is_asked_for_as_it_is_written_and_as_prometheus_3_writes_it():
    """An edge of 1 s is `1` in one exposition and `1.0` in the other; 0.05 has one form."""
    rows = [
        row for le in ("1", "0.05", "+Inf") for row in pods("h_bucket", "frontend", 1, le=le, model="chat")
    ]
    mean = recipe(Term("h_sum", {}, 1.0, "num"), Term("h_count", {}, 1.0, "den"))
    family = replace(mean, histogram="h", emitters=())
    frame = series_frame(rows)

    def asked(edge):
        share = share_over(family, edge, frame)
        return expression(signal("ratio"), share, "service", frame, service="prod/chat", window_s=60).expr

    everything = 'sum(rate(h_bucket{le="+Inf",model="chat"}[1m]))'
    assert asked(0.05) == f'({everything} - sum(rate(h_bucket{{le="0.05",model="chat"}}[1m]))) / {everything}'
    assert 'le=~"1|1\\\\.0"' in asked(1.0)


def test_instances_are_counted_once_whatever_they_export():
    """Two series of a pod are one instance; without a label for it nothing is counted."""
    rows = pods("m_total", "decode", 3, pod="decode-{i}", job="d", rank="0")
    rows += pods("m_total", "decode", 3, pod="decode-{i}", job="d", rank="1")
    rows += pods("m_total", "prefill", 2, pod="prefill-{i}", job="p", rank="0")
    source = recipe(Term("m_total", {}, 1.0, "num"))
    found = instance_count(source, "decode", series_frame(rows), service="prod/chat", window_s=60)
    assert found.expr == 'count(count by (pod) (rate(m_total{job="d"}[1m])))'
    nameless = [{**row, "instance": f"{row['labels']['rank']}"} for row in rows]
    for row in nameless:
        row["labels"] = {"job": row["labels"]["job"]}
    lost = instance_count(source, "decode", series_frame(nameless), service="prod/chat", window_s=60)
    assert (lost.expr, lost.warnings) == ("", ("m_total: no label names the instance",))
    none = instance_count(source, "mixed", series_frame(rows), service="prod/chat", window_s=60)
    assert none.warnings == ("no series of m_total for mixed",)
