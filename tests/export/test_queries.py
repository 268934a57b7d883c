import polars as pl
import pytest
from export.scenes import UTIL_PROMQL, series_frame
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.catalogue import Signal, Source, Term
from hs_analysis.export.queries import (
    PromqlMatcher,
    duration,
    escaped,
    expression,
    pool_total,
    quoted,
    range_window,
    surging,
)


def recipe(*terms, read="rate", scale=1.0, emitters=("prefill", "decode", "mixed"), role_label=None):
    return Source("vllm", read, scale, tuple(emitters), role_label or {}, terms, None)


def signal(pool="sum"):
    return Signal("x", "", "tokens/s", "throughput", pool, "emitter", (), "")


def num(metric, sign=1.0, **where):
    return Term(metric, {label: (value,) for label, value in where.items()}, sign, "num")


def den(metric):
    return Term(metric, {}, 1.0, "den")


def pods(metric, role, count=2, service="prod/chat", **labels):
    """Return series of a pool; `{i}` in a label is the pod's number."""
    return [
        {
            "metric": metric,
            "emitter_role": role,
            "service": service,
            "labels": {name: value.format(i=i) for name, value in labels.items()},
        }
        for i in range(count)
    ]


def build(rows, role="decode", *, pool="sum", window_s=60.0, source=None, service="prod/chat"):
    source = source or recipe(num("m_total"))
    return expression(signal(pool), source, role, series_frame(rows), service=service, window_s=window_s)


def test_a_label_that_names_the_role_wins_over_everything_else():
    """engine_type is taken although job and pod name would do; model and namespace bound the service."""
    common = {"namespace": "prod", "model_name": "chat"}
    found = build(
        pods("m_total", "decode", pod="decode-{i}", job="vllm-decode", engine_type="decode", **common)
        + pods("m_total", "prefill", pod="prefill-{i}", job="vllm-prefill", engine_type="prefill", **common)
    )
    assert found.expr == 'sum(rate(m_total{namespace="prod",model_name="chat",engine_type="decode"}[1m]))'
    assert found.exact
    assert found.warnings == ()


def test_a_workload_label_is_next_and_needs_the_other_role_to_prove_it():
    """job separates when the other role's series, of any metric, carry another value."""
    found = build(
        pods("m_total", "decode", pod="a-{i}", job="gen") + pods("other", "prefill", pod="b-{i}", job="ctx")
    )
    assert found.expr == 'sum(rate(m_total{job="gen"}[1m]))'
    assert found.warnings == ()


def test_a_label_shared_by_both_roles_is_not_taken():
    """A job that both roles have separates nothing; the pod name does."""
    found = build(
        pods("m_total", "decode", pod="chat-decode-{i}", job="vllm")
        + pods("m_total", "prefill", pod="chat-prefill-{i}", job="vllm")
    )
    assert found.expr == 'sum(rate(m_total{pod=~"chat-decode-.*"}[1m]))'
    assert found.exact


def test_a_workload_label_that_names_the_pod_is_not_taken():
    """A label that repeats the pod's name would not pick the next pod."""
    rows = pods("m_total", "decode", 1, pod="chat-decode-{i}", app="chat-decode-{i}")
    found = build(rows + pods("m_total", "prefill", pod="chat-prefill-{i}", app="chat-prefill-{i}"))
    assert found.expr == 'sum(rate(m_total{pod=~"chat-decode-.*"}[1m]))'


def test_pod_names_of_different_stems_are_matched_by_the_word():
    """Two deployments of one role share only the word; capital letters need the case flag."""
    rows = pods("m_total", "decode", 1, pod="a-Decode-{i}") + pods("m_total", "decode", 1, pod="b-decode-{i}")
    found = build(rows + pods("m_total", "prefill", pod="a-prefill-{i}"))
    assert found.expr == 'sum(rate(m_total{pod=~"(?i).*decode.*"}[1m]))'
    assert found.exact


def test_a_pod_name_with_both_words_is_no_hit():
    """`prefill-decode-w0` says nothing of its role."""
    rows = pods("m_total", "decode", pod="prefill-decode-w{i}", gpu_type="A")
    found = build(rows + pods("m_total", "prefill", pod="other-{i}", gpu_type="B"))
    assert "gpu_type" in found.expr
    assert "GPU type" in found.warnings[0]


def test_another_service_in_the_namespace_is_left_out_by_the_stem():
    """GPU series carry no model; the pod's stem tells two services of one namespace apart."""
    rows = pods("g", "decode", exported_namespace="prod", exported_pod="chat-decode-{i}")
    rows += pods("g", "prefill", exported_namespace="prod", exported_pod="chat-prefill-{i}")
    rows += pods(
        "g", "decode", service="prod/code", exported_namespace="prod", exported_pod="code-decode-{i}"
    )
    found = build(rows, source=recipe(num("g"), read="gauge"))
    assert found.expr == 'sum(avg_over_time(g{exported_namespace="prod",exported_pod=~"chat-decode-.*"}[1m]))'
    assert found.exact


def test_workers_without_a_model_are_told_by_the_dynamo_namespace_of_their_service():
    """The role's label is every service's; the discovery's namespace is asked for only where it has to be."""
    label = {"dynamo_component": "prefill", "pod": "ctx-{i}-x"}
    ours = pods("m_total", "prefill", dynamo_namespace="chat", **label)
    theirs = pods("m_total", "prefill", service="prod/code", dynamo_namespace="code", **label)
    found = build(ours + theirs, "prefill")
    assert found.expr == 'sum(rate(m_total{dynamo_namespace="chat",dynamo_component="prefill"}[1m]))'
    assert (found.exact, found.warnings) == (True, ())
    assert build(ours, "prefill").expr == 'sum(rate(m_total{dynamo_component="prefill"}[1m]))'


def test_opaque_pods_are_told_by_their_kubernetes_labels():
    """The join names the pod label, says that it must be allow-listed, and aligns exported_ names."""
    rows = pods("g", "decode", exported_namespace="n", exported_pod="w{i}", job="dcgm")
    rows += pods("g", "prefill", exported_namespace="n", exported_pod="v{i}", job="dcgm")
    for pod, role in (("w0", "decode"), ("w1", "decode"), ("v0", "prefill"), ("v1", "prefill")):
        labels = {"namespace": "n", "pod": pod, "label_app": "x", "label_llm_d_ai_role": role}
        rows.append({"metric": "kube_pod_labels", "emitter_role": role, "labels": labels})
    found = build(rows, source=recipe(num("g"), read="gauge"))
    assert 'kube_pod_labels{label_llm_d_ai_role="decode"}' in found.expr
    assert "label_replace(" in found.expr
    assert '"pod", "$1", "exported_pod"' in found.expr
    assert "allow-list" in found.warnings[0]
    assert found.exact


def test_a_metric_that_only_this_role_exports_needs_no_role_but_says_so():
    """Nothing names the role and the others do not export the metric: the bare name with a warning."""
    rows = pods("m_total", "decode", pod="w{i}", job="all", model_name="chat")
    found = build(rows + pods("other", "prefill", pod="v{i}", job="all"))
    assert found.expr == 'sum(rate(m_total{model_name="chat"}[1m]))'
    assert "no other role exports" in found.warnings[0]


@pytest.mark.parametrize(
    ("ours", "theirs", "pattern"),
    [
        (
            "a.gen-6d4cf5b7d8-bx2z{i}",
            "a.ctx-6d4cf5b7d8-bx2z{i}",
            "a\\\\.gen-[a-z0-9]{6,10}-[a-z0-9]{5}",
        ),
        ("gen-{i}", "ctx-{i}", "gen-[0-9]+"),
    ],
)
def test_pods_of_a_workload_are_matched_by_how_it_names_them(ours, theirs, pattern):
    """No role in names or labels: today's pods and tomorrow's of the Deployment or StatefulSet."""
    rows = [
        {"metric": "m_total", "emitter_role": role, "labels": {"pod": name.replace("{i}", number)}}
        for role, name in (("decode", ours), ("prefill", theirs))
        for number in "45"
    ]
    found = build(rows)
    assert found.expr == f'sum(rate(m_total{{pod=~"{pattern}"}}[1m]))'
    assert (found.exact, found.warnings) == (True, ())


def test_a_list_of_pods_is_the_last_resort_and_warns():
    """Two roles on opaque pods with the same labels: today's names, escaped, and a warning."""
    rows = pods("m_total", "decode", pod="w.{i}") + pods("m_total", "prefill", pod="v.{i}")
    found = build(rows)
    assert found.expr == 'sum(rate(m_total{pod=~"w\\\\.0|w\\\\.1"}[1m]))'
    assert "new instances are not seen" in found.warnings[0]
    assert found.exact


def test_what_no_label_can_tell_apart_is_not_called_exact():
    """The same labels with two roles, as in two captures: an expression, exact false, a warning."""
    found = build(pods("m_total", "decode", pod="w{i}") + pods("m_total", "prefill", pod="w{i}"))
    assert not found.exact
    assert "no label tells" in found.warnings[0]


def test_front_end_counters_need_no_role():
    """A counter of the front end carries the pool's total; a second model on it is left out."""
    rows = pods("f_total", "frontend", 1, model="chat", pod="front-{i}", namespace="prod")
    rows += pods(
        "f_total", "frontend", 1, service="prod/code", model="code", pod="front-{i}", namespace="prod"
    )
    found = build(rows, source=recipe(num("f_total"), emitters=()))
    assert found.expr == 'sum(rate(f_total{namespace="prod",model="chat"}[1m]))'
    assert found.warnings == ()


def test_a_label_with_the_roles_phase_belongs_to_the_quantity():
    """A front-end gauge split by phase is narrowed to the phases of the role, beside its own where."""
    rows = pods("stage", "frontend", 1, stage="dispatch", phase="decode")
    rows += pods("stage", "frontend", 1, stage="dispatch", phase="prefill")
    rows += pods("stage", "frontend", 1, stage="preprocess")
    phases = {"phase": {"prefill": "prefill", "decode": "decode"}}
    source = recipe(num("stage", stage="dispatch"), read="gauge", emitters=(), role_label=phases)
    found = build(rows, source=source)
    assert found.expr == 'sum(avg_over_time(stage{stage="dispatch",phase="decode"}[1m]))'
    assert found.exact


def test_a_service_signal_read_from_one_pool_selects_that_pool():
    """Finished requests are read from decode engines only, although the signal speaks of the service."""
    rows = pods("m_total", "decode", pod="d-decode-{i}") + pods("m_total", "prefill", pod="d-prefill-{i}")
    found = build(rows, "service", source=recipe(num("m_total"), emitters=("decode", "mixed")))
    assert found.expr == 'sum(rate(m_total{pod=~"d-decode-.*"}[1m]))'


@pytest.mark.parametrize(
    ("source", "pool", "expected"),
    [
        (recipe(num("a"), num("b", -1.0)), "sum", "sum(rate(a{job=J}[1m])) - sum(rate(b{job=J}[1m]))"),
        (recipe(num("b", -1.0), num("a")), "sum", "sum(rate(a{job=J}[1m])) - sum(rate(b{job=J}[1m]))"),
        (recipe(num("a"), den("b")), "ratio", "sum(rate(a{job=J}[1m])) / sum(rate(b{job=J}[1m]))"),
        (
            recipe(num("a"), num("b", -1.0), den("a")),
            "ratio",
            "(sum(rate(a{job=J}[1m])) - sum(rate(b{job=J}[1m]))) / sum(rate(a{job=J}[1m]))",
        ),
        (
            recipe(num("a"), num("b", -1.0), scale=0.001),
            "sum",
            "(sum(rate(a{job=J}[1m])) - sum(rate(b{job=J}[1m]))) / 1000",
        ),
        (
            recipe(num("a"), read="gauge", scale=0.01),
            "mean",
            "avg(avg by (pod) (avg_over_time(a{job=J}[1m]))) / 100",
        ),
        (
            recipe(num("a", 4.0), num("b")),
            "sum",
            "sum(rate(a{job=J}[1m])) * 4 + sum(rate(b{job=J}[1m]))",
        ),
        (recipe(num("a"), read="gauge", scale=3.0), "sum", "sum(avg_over_time(a{job=J}[1m])) * 3"),
    ],
)
def test_formulas_are_written_in_the_order_of_arithmetic(source, pool, expected):
    """Differences, ratios, weights, factors and means; each term is aggregated before it is combined."""
    rows = pods("a", "decode", pod="w{i}", job="d") + pods("b", "decode", pod="w{i}", job="d")
    rows += pods("other", "prefill", pod="v{i}", job="p")
    found = build(rows, pool=pool, source=source)
    assert found.expr == expected.replace("J", '"d"')


def test_several_gpus_of_an_instance_weigh_as_one():
    """The mean is taken per instance first; a label that equals the instance is found whatever its name."""
    rows = []
    for i, gpus in ((0, 1), (1, 3)):
        for gpu in range(gpus):
            labels = {"Group": f"g{i}", "gpu": str(gpu), "job": "d"}
            rows.append({"metric": "u", "emitter_role": "decode", "labels": labels, "instance": f"lws/{i}"})
    rows += pods("other", "prefill", job="p")
    found = build(rows, pool="mean", source=recipe(num("u"), read="gauge"))
    assert found.expr == 'avg(avg by (Group) (avg_over_time(u{job="d"}[1m])))'


def test_the_window_is_at_least_four_scrapes():
    """A 60-s window over 30-s scrapes is widened; unknown intervals change nothing."""
    assert range_window(60, [30.0, 15.0, None]) == 120
    assert range_window(60, [None, float("nan")]) == 60
    assert range_window(60, [15.3]) == 62
    assert [duration(s) for s in (60, 90, 300, 3600, 62)] == ["1m", "90s", "5m", "1h", "62s"]
    rows = [{**row, "interval_s": 30.0} for row in pods("m_total", "decode", job="d")]
    assert "[2m]" in build(rows).expr


def test_a_fresh_range_is_read_where_it_is_so_much_higher():
    """A formula is compared as a whole; where the scrapes make both ranges the same, one is asked for."""
    one, other = "sum(rate(a[1m]))", "sum(rate(a[3m]))"
    assert surging(one, other, 1.1) == f"({one} > 1.1 * {other} or {other})"
    longer = f"{other} - sum(rate(b[3m]))"
    assert surging(one, longer, 1.25) == f"({one} > 1.25 * ({longer}) or {longer})"
    assert surging(other, other, 1.1) == other


def test_a_signal_without_series_has_no_expression():
    """Nothing is invented where the input carries nothing."""
    found = build(pods("other", "decode", pod="w{i}"))
    assert found.expr == ""
    assert found.warnings == ("no series of m_total for decode",)


def test_a_metric_name_with_dots_is_matched_by_its_name_label():
    """Names outside the classic form are valid in Prometheus only as a matcher."""
    found = build(pods("m.total", "decode", job="d"), source=recipe(num("m.total")))
    assert found.expr == 'sum(rate({__name__="m.total"}[1m]))'


def test_a_recorded_answer_is_asked_for_by_its_query():
    """It has no name on the server; what it picks can't be narrowed, and that is said where it would be."""
    query = 'sum by (pod) (rate(m_total{job="d"}[1m]))'
    alone = build([*pods(query, "decode")], source=recipe(num(query), read="gauge"))
    assert alone.expr == f"sum(avg_over_time(({query})[1m:]))"
    rows = [*pods(query, "decode", job="d"), *pods(query, "prefill", job="p")]
    found = build(rows, source=recipe(num(query), read="gauge"))
    assert found.expr == alone.expr
    assert not found.exact
    assert "is a query of yours, taken as it is" in found.warnings[0]


@pytest.mark.parametrize(
    ("mean", "total"),
    [
        (UTIL_PROMQL, "sum" + UTIL_PROMQL[3:]),
        ("avg(a)", "sum(a)"),
        ("avg(a) * 0.5", "sum(a) * 0.5"),
        ("avg(a) + avg(b)", None),
        ("avg(a) / avg(b)", None),
        ("max(a)", None),
        ("", None),
    ],
)
def test_a_mean_becomes_a_pool_total_only_where_it_is_one_mean(mean, total):
    """avg(…) with a factor turns into sum(…); anything else is refused."""
    assert pool_total(mean) == total


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=12)


@given(TEXT, TEXT)
def test_a_matcher_picks_its_value_and_no_other(value, other):
    """An escaped list matches exactly its members, however odd the characters."""
    import re

    assert (re.fullmatch(escaped(value), other) is not None) == (value == other)
    assert PromqlMatcher("a", (value,)).matches({"a": other}) == (value == other)
    assert quoted(value).startswith('"')
    assert "\n" not in quoted(value)


@given(st.data())
def test_any_selector_called_exact_picks_exactly_the_role(data):
    """Whatever labels the two roles have, `exact` is never wrong: the written matchers are tried again."""
    label = st.dictionaries(
        st.sampled_from(["job", "pod", "engine_type", "gpu_type"]), st.sampled_from("ab"), max_size=4
    )
    rows = [
        {"metric": "m_total", "emitter_role": role, "labels": data.draw(label)}
        for role in ("decode", "decode", "prefill", "prefill")
    ]
    found = build(rows)
    inside = found.expr.partition("{")[2].partition("}")[0]
    picked = [row["emitter_role"] for row in rows if _matches(inside, row["labels"])]
    assert found.exact == (picked == ["decode", "decode"])


def _matches(text, labels):
    import re

    found = re.findall(r'(\w+)(=~|=)"([^"]*)"', text)
    return all(
        re.fullmatch(value if op == "=~" else re.escape(value), labels.get(name, ""))
        for name, op, value in found
    )


def test_one_warning_speaks_for_all_metrics_it_concerns():
    """A ratio of two counters does not say the same thing twice."""
    rows = (
        pods("a", "decode", pod="w{i}") + pods("b", "decode", pod="w{i}") + pods("c", "prefill", pod="v{i}")
    )
    found = build(rows, pool="ratio", source=recipe(num("a"), den("b")))
    assert found.warnings == (
        "a, b: no label says decode, but in this input no other role exports the metric",
    )


def test_the_frame_itself_is_not_changed():
    """Building an expression leaves the series frame as it was."""
    frame = series_frame(pods("m_total", "decode", job="d"))
    before = frame.clone()
    expression(signal(), recipe(num("m_total")), "decode", frame, service="prod/chat", window_s=60)
    assert frame.equals(before)
    assert isinstance(frame, pl.DataFrame)
