"""Grafana dashboards of a policy: what Grafana's own model takes, what each chart asks, what is lost."""

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
from export import grafana_models
from export.scenes import UTIL_PROMQL, full_policy, renamed_keys
from export.test_keda import POLICIES

from hs_analysis.export import ExportOptions, Measured, Watched, WatchedLimit, export
from hs_analysis.export.grafana import lint_dashboard
from hs_analysis.policy.model import Primary, Target
from hs_analysis.schema.limit_edges import LimitEdges

SCHEMA = json.loads((Path(__file__).parent / "dashboard.schema.json").read_text("utf-8"))
CORE_PANELS = {
    "alertlist", "annolist", "barchart", "bargauge", "candlestick", "canvas", "dashlist", "datagrid", "gauge",
    "geomap", "heatmap", "histogram", "logs", "news", "nodeGraph", "piechart", "stat", "state-timeline",
    "status-history", "table", "text", "timeseries", "traces", "trend", "xychart",
}  # fmt: skip
"""Panel plugins that Grafana 13 brings."""

COUNTS = {role: f'count(count by (pod) (count_over_time(m{{namespace="prod",role="{role}"}}[1m])))'
          for role in ("prefill", "decode", "mixed")}  # fmt: skip
LIMITS = (
    WatchedLimit("prefill", LimitEdges("ttft", "vllm", 1.0, 1.0, 1.0), "sum(a) / sum(b)", "sum(a) / sum(b)"),
    WatchedLimit("decode", LimitEdges("tbt", "vllm", 0.06, 0.05, 0.1), "sum(e) / sum(d)", "sum(c) / sum(d)"),
)
FULL = ExportOptions(
    watched=Watched(LIMITS, instances=COUNTS), measured=Measured(slo_quantile=0.95), notes=("check it",)
)


def body_of(policy, options=FULL):
    files = export(policy, "grafana", options).files
    (text,) = [text for name, text in files.items() if name.endswith(".dashboard.json")]
    return json.loads(text)


def chart(body, title):
    """Return the one panel of a title."""
    (found,) = [panel for panel in body["panels"] if panel["title"] == title]
    return found


def queries(panel):
    return {one["legendFormat"]: one["expr"] for one in panel["targets"]}


def levels(panel):
    return [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]


@pytest.mark.parametrize("options", [ExportOptions(), FULL], ids=["nothing of the run", "all of it"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_dashboard_is_one_that_grafana_takes(name, options):
    """Its model without an unknown field, panels that Grafana brings, and queries that parse."""
    body = body_of(POLICIES[name], options)
    jsonschema.validate(body, SCHEMA)
    assert grafana_models.problems(body) == []
    assert {panel["type"] for panel in body["panels"]} <= CORE_PANELS
    for panel in body["panels"]:
        for expr in queries(panel).values() if "targets" in panel else ():
            promql_parser.parse(expr)


@pytest.fixture(scope="module")
def one_of_each() -> dict[str, Any]:
    """A dashboard with one panel of each kind."""
    body = body_of(full_policy())
    kinds = [panel["type"] for panel in body["panels"]]
    body["panels"] = [body["panels"][kinds.index(kind)] for kind in dict.fromkeys(kinds)]
    return body


def test_no_field_of_a_dashboard_is_free(one_of_each: dict[str, Any]) -> None:
    """Rename any key: our list of the fields that are written refuses it, and so do Grafana's own models."""
    renamed = [(path, broken) for path, broken in renamed_keys(one_of_each) if path[-1] not in ("1", "2")]
    checked = jsonschema.Draft202012Validator(SCHEMA)
    assert checked.is_valid(one_of_each)
    assert len(renamed) > 100
    assert [path for path, broken in renamed if checked.is_valid(broken)] == []
    assert [path for path, broken in renamed if not grafana_models.problems(broken)] == []


def test_each_value_has_the_type_of_grafanas_models(one_of_each: dict[str, Any]) -> None:
    """Text for a number, a number for text or a switch: the models refuse it."""
    wrong = list(mistyped(one_of_each))
    assert len(wrong) > 80
    passed = [path for path, broken in wrong if not grafana_models.problems(broken)]
    # Gaps are drawn never, always, or up to so many milliseconds.
    assert {path[-1] for path in passed} == {"spanNulls"}


def mistyped(body: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the path of each value that is no list or map, and a copy in which its type is another."""
    for path, value in leaves(body):
        broken = copy.deepcopy(body)
        place = broken
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = 3 if isinstance(value, str | bool) else "text"
        yield path, broken


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield path and value of all that is no list or map."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not isinstance(value, dict | list):
        yield path, value
    for key, one in below:
        yield from leaves(one, (*path, key))


def test_a_pool_is_drawn_against_what_the_policy_wants():
    """Instances that report beside total ÷ target within the bounds; the load beside target and band."""
    body = body_of(full_policy(service="chat"), FULL)
    counts = chart(body, "Instances: decode")
    wanted = f"clamp_max(clamp_min(ceil(({full_policy().primaries[0].promql}) / 3800), 3), 24)"
    assert queries(counts) == {"instances that report": COUNTS["decode"], "the policy wants": wanted}
    assert levels(counts) == [None, 3, 24]
    load = chart(body, "decode TPS per decode instance")
    assert queries(load)["target"] == "vector(3800)"
    assert queries(load)["per instance"] == f"({full_policy().primaries[0].promql}) / ({COUNTS['decode']})"
    assert levels(load) == [None, 3420, 3990]
    assert load["fieldConfig"]["defaults"]["unit"] == "suffix:tokens/s"
    follower = chart(body, "Instances: prefill")  # by the ratio: half a prefill instance for each decode one
    assert "/ 7600), 2), 12)" in queries(follower)["the policy wants"]


def test_the_ratio_is_drawn_within_its_bounds():
    """Prefill ÷ decode of the instances that report, what the policy keeps, and its interval."""
    panel = chart(body_of(full_policy(service="chat")), "P/D ratio")
    assert queries(panel) == {
        "prefill ÷ decode": f"({COUNTS['prefill']}) / ({COUNTS['decode']})", "the policy keeps": "vector(0.5)"
    }  # fmt: skip
    assert levels(panel) == [None, 0.45, 0.56]
    banded = replace(FULL, measured=Measured(ratio_band=(0.4, 0.9)))
    free = chart(body_of(full_policy(service="chat", pd_ratio=None), banded), "P/D ratio")
    assert list(queries(free)) == ["prefill ÷ decode"]
    assert levels(free) == [None, 0.4, 0.9]


def test_a_mean_over_instances_is_drawn_as_it_is():
    """Utilisation is no total: its query is the chart, its total divided by the target is what is wanted."""
    primary = Primary("gpu_util", "decode", "ratio", UTIL_PROMQL, "dcgm", Target(0.7), "mean")
    body = body_of(full_policy(primaries=(primary,)))
    assert queries(chart(body, "gpu util per decode instance"))["per instance"] == UTIL_PROMQL
    assert "ceil((sum(" in queries(chart(body, "Instances: decode"))["the policy wants"]
    assert chart(body, "gpu util per decode instance")["fieldConfig"]["defaults"]["unit"] == "percentunit"


def test_what_is_over_the_limit_is_drawn_against_the_slo():
    """An edge at the limit is one line; without one the share lies between two."""
    body = body_of(full_policy())
    exact, between = chart(body, "SLO: TTFT over 1 s (prefill)"), chart(body, "SLO: TBT over 60 ms (decode)")
    assert queries(exact) == {"over the limit": "sum(a) / sum(b)"}
    assert queries(between) == {
        "over the limit, at most": "sum(e) / sum(d)", "over the limit, at least": "sum(c) / sum(d)"
    }  # fmt: skip
    assert levels(exact) == [None, 0.05]
    assert "5 % may be over" in exact["description"]


def test_the_namespace_is_a_variable_where_the_queries_name_it():
    """Its own value is the first one; a service without a namespace has the data source alone."""
    body = body_of(full_policy())
    source, namespace = body["templating"]["list"]
    assert (source["type"], namespace["current"]["value"]) == ("datasource", "prod")
    assert namespace["query"] == "label_values(m, namespace)"
    exprs = [expr for panel in body["panels"][1:] for expr in queries(panel).values()]
    assert not [expr for expr in exprs if 'namespace="prod"' in expr]
    assert sum('namespace="$namespace"' in expr for expr in exprs) >= 6
    assert [one["name"] for one in body_of(full_policy(service="chat"))["templating"]["list"]] == [
        "datasource"
    ]


def test_alerts_are_those_of_the_service():
    """Firing is more than pending, and each alert is one row of its own."""
    body = body_of(full_policy())
    panel = chart(body, "Alerts")
    ((legend, expr),) = queries(panel).items()
    assert legend == "{{alertname}} {{role}} {{signal}}"
    assert len(re.findall(r'ALERTS\{service="prod/chat",alertstate="(firing|pending)"\}', expr)) == 2
    states = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert (states["1"]["text"], states["2"]["text"]) == ("pending", "firing")


@pytest.mark.parametrize(("mode", "word"), [("hold", "hold"), ("periodic", "periodic")])
def test_a_policy_that_follows_no_signal_wants_nothing(mode, word):
    """Instances, latencies and shares are drawn all the same; no target, and the loss says why."""
    made = export(full_policy(mode=mode), "grafana", FULL)
    body = body_of(full_policy(mode=mode))
    assert list(queries(chart(body, "Instances: decode"))) == ["instances that report"]
    assert not [panel for panel in body["panels"] if "per decode instance" in panel["title"]]
    assert f"in mode {word} no signal sizes a pool" in next(
        x.text for x in made.losses if x.item == "primaries"
    )


def test_a_pool_without_a_count_is_a_loss():
    """The wanted count needs no recorded one; load and ratio do."""
    made = export(full_policy(), "grafana", ExportOptions())
    body = body_of(full_policy(), ExportOptions())
    assert list(queries(chart(body, "Instances: decode"))) == ["the policy wants"]
    assert "P/D ratio" not in {panel["title"] for panel in body["panels"]}
    assert any(loss.item == "hysteresis.decode" and "how many decode" in loss.text for loss in made.losses)


BROKEN = {
    "a panel of no known type": (("panels", 1, "type"), "graph"),
    "steps out of order": (("panels", 1, "fieldConfig", "defaults", "thresholds", "steps", 1, "value"), 99.0),
    "a first step with a value": (
        ("panels", 1, "fieldConfig", "defaults", "thresholds", "steps", 0, "value"),
        1,
    ),
    "a level as text": (("panels", 1, "fieldConfig", "defaults", "thresholds", "steps", 1, "value"), "3"),
    "an id used twice": (("panels", 1, "id"), 1),
    "a panel over the edge": (("panels", 1, "gridPos", "x"), 20),
    "a chart without a query": (("panels", 1, "targets"), []),
    "a short uid": (("uid",), "hsa"),
    "another data source": (("panels", 1, "datasource", "uid"), "prometheus"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_check_of_the_file_finds(name):
    """What Grafana would draw as nothing, or as something else, without a word."""
    body = body_of(full_policy())
    assert lint_dashboard(body) == []
    (*path, last), value = BROKEN[name]
    place = body
    for step in path:
        place = place[step]
    place[last] = value
    assert lint_dashboard(body)
