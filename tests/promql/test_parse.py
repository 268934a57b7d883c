"""What is read of PromQL, and how what is not read is refused: by name, with its place, in one sentence."""

import pytest

from hs_analysis.catalogue import load_catalogue
from hs_analysis.promql import Refused, parse, require_kinds, selectors
from hs_analysis.promql.forms import (
    Aggregate,
    AsVector,
    Binary,
    Clamp,
    CopiedLabel,
    HistogramQuantile,
    Matcher,
    Matching,
    Number,
    OverTime,
    Selector,
    Subquery,
    Union,
)

CATALOGUE = load_catalogue()


def kind_of(selector):
    """Return what the catalogue says of a metric that is named."""
    return CATALOGUE.kind_of(selector.metric) if selector.metric else None


def metric(name, *matchers):
    return Selector((Matcher("__name__", "=", name), *(Matcher(*one) for one in matchers)))


M, C = metric("m"), metric("c_total")
SUM = Aggregate("sum", M)
RATE = OverTime("rate", C, 120.0)
JOINED = 'm * on (namespace, pod) group_left () max by (namespace, pod) (k{label_role="decode"})'


@pytest.mark.parametrize(
    ("text", "form"),
    [
        (
            'm{a="1",b!="2",c=~"x.*",d!~"y|z"}',
            metric("m", ("a", "=", "1"), ("b", "!=", "2"), ("c", "=~", "x.*"), ("d", "!~", "y|z")),
        ),
        ("{__name__=~\"a|b\"}", Selector((Matcher("__name__", "=~", "a|b"),))),
        ("{__name__=\"a.b\"}", metric("a.b")),
        ("m{p=~`a-\\d+`}", metric("m", ("p", "=~", "a-\\d+"))),
        ('m{p="a\\"b\\\\c"}', metric("m", ("p", "=", 'a"b\\c'))),
        ("sum(rate(c_total[2m])) by (pod)", Aggregate("sum", RATE, ("pod",))),
        ("avg without (pod) (m)", Aggregate("avg", M, ("pod",), without=True)),
        ("SUM(m)", Aggregate("sum", M)),
        ("irate(c_total[1m30s])", OverTime("irate", C, 90.0)),
        ("max_over_time(sum(m)[1h:30s])", OverTime("max_over_time", Subquery(SUM, 30.0), 3600.0)),
        ("avg_over_time((m)[5m:])", OverTime("avg_over_time", Subquery(M, None), 300.0)),
        ("histogram_quantile(0.95, rate(c_total[2m]))", HistogramQuantile(0.95, RATE)),
        ("m / 2", Binary("/", M, Number(2.0))),
        ("-m", Binary("*", Number(-1.0), M)),
        ("-1.5e3", Number(-1500.0)),
        ("m > bool 2", Binary(">", M, Number(2.0), as_bool=True)),
        ("m / on (pod) c_total", Binary("/", M, C, matching=Matching(("pod",), on=True))),
        ("m - ignoring (pod) c_total", Binary("-", M, C, matching=Matching(("pod",)))),
        ("m or vector(0)", Union(M, AsVector(Number(0.0)))),
        ("clamp_min(m, 1)", Clamp(M, 1.0, float("inf"))),
        ("clamp(m, -1, 2)", Clamp(M, -1.0, 2.0)),
        ('label_replace(m, "a", "$1", "b", "(.+)")', CopiedLabel(M, "a", "b", also_empty=False)),
        ('label_replace(m, "a", "$1", "b", "(.*)")', CopiedLabel(M, "a", "b", also_empty=True)),
        (
            JOINED,
            Binary(
                "*",
                M,
                Aggregate("max", metric("k", ("label_role", "=", "decode")), ("namespace", "pod")),
                matching=Matching(("namespace", "pod"), on=True, group_left=True),
            ),
        ),
        ("sum(m) # the queue\n  / 2", Binary("/", Aggregate("sum", M), Number(2.0))),
    ],
)  # fmt: skip
def test_what_is_read(text, form):
    """Each form, whatever the way it is written; its place in the text is no part of it."""
    assert parse(text) == form


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sum(m offset 1d)", "column 7: offset is not read"),
        ("sum(rate(c_total[5m] offset 1h))", "column 22: offset is not read"),
        ("max_over_time(m[1h:1m] offset 1d)", "column 24: offset is not read"),
        ("sum(m @ 1700000000)", "column 7: @ is not read"),
        ("sum(m @ end())", "column 7: @ is not read"),
        ("m unless k", "column 3: unless is not read"),
        ("m and on (pod) k", "column 3: and on is not read"),
        ("m or on (pod) k", "column 3: or on is not read"),
        ("m atan2 k", "column 3: atan2 is not read"),
        ("sum(m) * on (pod) group_right () k", "column 8: group_right is not read"),
        ("m / on (pod) group_left () k", "column 3: group_left other than `* on (…) group_left` is not read"),
        ("2 * topk(3, m)", "column 5: topk is not read"),
        ("quantile(0.9, m)", "column 1: quantile is not read"),
        ("count_values('v', m)", "column 1: count_values is not read"),
        ("predict_linear(m[1h], 3600)", "column 1: predict_linear is not read"),
        ("holt_winters(m[1h], 0.5, 0.5)", "column 1: holt_winters is not read"),
        ("1 - absent(m)", "column 5: absent is not read"),
        ("delta(m[5m])", "column 1: delta is not read"),
        ("stddev by (pod) (m)", "column 1: stddev is not read"),
        ("time() - m", "column 1: time is not read"),
        (
            'label_replace(m, "a", "x-$1", "b", "(.+)")',
            "column 1: a label_replace that does not just copy a label is not read",
        ),
        (
            'label_replace(m, "a", "$1", "b", "(.+)-.*")',
            "column 1: a label_replace that does not just copy a label is not read",
        ),
        ('m{a="1" or b="2"}', "column 1: `or` between matchers is not read"),
        ("m[5m]", "column 1: a range without a function over it is not read"),
        ('"text"', "column 1: a text is not read"),
        ("max_over_time(vector(1)[5m:])", None),
        ("clamp_max(m, scalar(k))", "column 1: an argument of clamp_max that is no plain number is not read"),
        ("sum(m\n  offset 5m)", "line 2, column 3: offset is not read"),
        ("sum(m", "this is not valid PromQL: unclosed left parenthesis"),
        ("rate(m)", "this is not valid PromQL: expected type matrix in call to function 'rate', got vector"),
        ("", "this is not valid PromQL: no expression found in input"),
        ('m{a=~"(?=x)"}', "this is not valid PromQL: illegal regex for (?=x)"),
        (
            "sum(rate(m[$__rate_interval]))",
            "this is not valid PromQL: unexpected character inside brackets: '$'",
        ),
    ],
)
def test_what_is_not_read_is_refused_by_name_and_place(text, says):
    """One sentence; a subquery over a series without labels is still read."""
    if says is None:
        parse(text)
        return
    with pytest.raises(Refused) as refused:
        parse(text)
    assert refused.value.line() == says


@pytest.mark.parametrize("text", ["(" * 20_000 + "1" + ")" * 20_000, "1" + "+1" * 20_000, "-" * 3000 + "m"])
def test_a_nest_that_would_end_the_process_is_refused(text):
    """The parser is recursive: without a limit it overflows the stack of the process."""
    with pytest.raises(Refused, match="words and signs, more than 500"):
        parse(text)


@pytest.mark.parametrize("text", ["(" * 240 + "1" + ")" * 240, "1" + "+1" * 240])
def test_a_long_expression_is_read(text):
    """As long as the limit allows, nested or in a row."""
    parse(text)


def test_the_place_of_a_word_is_not_that_of_a_label_or_a_text():
    """Labels, matchers and texts that look like what is refused are passed over."""
    text = 'sum by (offset, unless) (m{offset="offset 1d @ 3"}) + k unless g'
    with pytest.raises(Refused) as refused:
        parse(text)
    assert refused.value.where == f"column {text.rindex('unless') + 1}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sum(rate(vllm:num_requests_waiting[1m]))", "column 5: .*_waiting is a gauge, and rate is for"),
        ("increase(vllm:kv_cache_usage_perc[5m])", "is a gauge, and increase is for counters"),
        (
            "sum(vllm:generation_tokens_total)",
            "vllm:generation_tokens_total is a counter and is read without rate or increase",
        ),
        (
            "avg_over_time(vllm:generation_tokens_total[5m])",
            "vllm:generation_tokens_total is a counter and is read without rate or increase",
        ),
        (
            "sum(vllm:num_requests_waiting) + sum(my_requests_total)",
            "my_requests_total is a counter and is read without rate or increase",
        ),
        ("histogram_quantile(0.9, vllm:inter_token_latency_seconds_bucket)", "is a counter and is read"),
        ("max_over_time(sum(vllm:generation_tokens_total)[5m:1m])", "is a counter and is read without"),
        ("rate(sum(rate(vllm:num_requests_waiting[1m]))[5m:])", "is a gauge, and rate is for counters"),
        ("rate((vllm:num_requests_waiting)[5m:])", "is a gauge, and rate is for counters"),
    ],
)  # fmt: skip
def test_a_metric_is_read_as_what_it_is(text, says):
    """A rate of a gauge and a counter without a rate are answers to other questions."""
    with pytest.raises(Refused, match=says):
        require_kinds(parse(text), kind_of)


@pytest.mark.parametrize(
    "text",
    [
        "sum(rate(vllm:generation_tokens_total[1m])) / sum(vllm:num_requests_running)",
        "max_over_time(sum(rate(vllm:generation_tokens_total[1m]))[1h:1m])",
        "rate((sum(vllm:generation_tokens_total))[5m:])",
        "count(vllm:generation_tokens_total)",
        'rate({__name__=~"a|b"}[5m])',
        'avg_over_time({__name__=~"a|b"}[5m])',
    ],
)
def test_metrics_read_as_what_they_are_pass(text):
    """A subquery of a counter too, and metrics that only a pattern names."""
    require_kinds(parse(text), kind_of)


def test_selectors_are_told_once_in_the_order_of_the_text():
    """What must be looked up in a history."""
    assert selectors(parse("sum(m) / (sum(m) + rate(c_total[5m]) + max_over_time(k[5m:1m]))")) == (
        M,
        C,
        metric("k"),
    )
    assert str(selectors(parse('sum(m{a!="x",b=~"\\\\d"})'))[0]) == 'm{a!="x",b=~"\\\\d"}'
