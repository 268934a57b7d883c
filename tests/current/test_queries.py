"""Queries and metric names: which signal of which pool they read, in which unit, and what is refused."""

from dataclasses import replace

import pytest
from current.histories import READABLE, known, of_pods

from hs_analysis.catalogue import load_catalogue
from hs_analysis.controllers.hpa import Surge
from hs_analysis.current.documents import definitions_in
from hs_analysis.current.kubernetes import TWICE_DIVIDED, metric_read, quantity
from hs_analysis.current.queries import EMPTY_IS_ZERO, FOLLOWS_LOAD, Query, read_query
from hs_analysis.promql.forms import HistogramQuantile

CATALOGUE = load_catalogue()
KNOWN = known()
OURS = 'model_name="m-large"'
DECODE = f'{OURS},pod=~"m-large-decode-.*"'
PREFILL = f'{OURS},job="vllm-prefill"'
TOKENS = f"vllm:generation_tokens_total{{{OURS}}}"
JOIN = 'on (namespace, pod) group_left () max by (namespace, pod) (kube_pod_labels{label_role="decode"})'
GPU = 'DCGM_FI_DEV_GPU_UTIL{exported_pod=~"m-large-decode-.*"}'
W, K = "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"
RUNNING = f"vllm:num_requests_running{{{DECODE}}}"
TTFT = "dynamo_frontend_time_to_first_token_seconds"
MEAN = f"sum(rate({TTFT}_sum[5m])) / sum(rate({TTFT}_count[5m]))"


RULES = [
    {
        "groups": [
            {
                "rules": [
                    {
                        "record": "pool:tokens:rate5m",
                        "expr": f"sum(rate({TOKENS}[5m]))",
                        "labels": {"role": "decode"},
                    },
                    {
                        "record": "pool:tokens:rate5m",
                        "expr": "sum(rate(vllm:prompt_tokens_total[5m]))",
                        "labels": {"role": "prefill"},
                    },
                    {"record": "pool:usage:avg2m", "expr": f"avg(avg_over_time({K}{{{DECODE}}}[2m]))"},
                ]
            }
        ]
    }
]


def read(text, pool="decode", of=KNOWN, rules=RULES):
    return read_query(text, pool, of, CATALOGUE, definitions_in(rules))


@pytest.mark.parametrize(
    ("text", "signal", "over", "scale", "span_s"),
    [
        (f"sum(rate({TOKENS}[2m]))", "decode_tps@decode", "sum", 1, 120),
        (f"sum(increase({TOKENS}[5m]))", "decode_tps@decode", "sum", 1 / 300, 300),
        (f"sum(rate({TOKENS}[1m])) / 1000", "decode_tps@decode", "sum", 1e3, 60),
        (f"2 * (sum(rate({TOKENS}[1m])) / 1000)", "decode_tps@decode", "sum", 500, 60),
        (f"avg(vllm:kv_cache_usage_perc{{{DECODE}}}) * 100", "kv_usage@decode", "avg", 0.01, 60),
        (f"sum(vllm:num_requests_waiting{{{PREFILL}}})", "queue_length@prefill", "sum", 1, 60),
        (f"sum(vllm:num_requests_waiting{{{DECODE}}})", "queue_length@decode", "sum", 1, 60),
        (f'sum({W}{{{OURS},job!="vllm-prefill"}})', "queue_length@decode", "sum", 1, 60),
        (f'sum(vllm:num_requests_waiting{{{OURS},pod!~".*prefill.*"}})', "queue_length@decode", "sum", 1, 60),
        (f"sum by (model_name) (vllm:num_requests_waiting{{{DECODE}}})", "queue_length@decode", "sum", 1, 60),
        (f"sum(avg_over_time(vllm:num_requests_running{{{DECODE}}}[5m]))", "running@decode", "sum", 1, 300),
        (
            f"sum({RUNNING}) / count({RUNNING})",
            "running@decode", "avg", 1, 60,
        ),
        (f"sum({RUNNING}) / (64 * count({RUNNING}))", "running@decode", "avg", 64, 60),
        (f"sum({W}{{{OURS}}} * {JOIN})", "queue_length@decode", "sum", 1, 60),
        (f"sum(rate({TOKENS}[2m]) * {JOIN})", "decode_tps@decode", "sum", 1, 120),
        (f"avg(avg by (exported_pod) (avg_over_time({GPU}[5m]))) / 100", "gpu_util@decode", "avg", 1, 300),
        (f"sum(avg by (exported_pod) ({GPU}))", "gpu_util@decode", "sum", 0.01, 60),
        (f"sum(rate({TTFT}_sum[5m])) / sum(rate({TTFT}_count[5m]))", "ttft@service", "avg", 1, 300),
        (f"1000 * rate({TTFT}_sum[5m]) / rate({TTFT}_count[5m])", "ttft@service", "avg", 1e-3, 300),
        ("sum(rate(dynamo_frontend_requests_started_total[1m]))", "request_rate@service", "sum", 1, 60),
        (f"sum(avg_over_time(({W}{{{DECODE}}})[5m:]))", "queue_length@decode", "sum", 1, 300),
        ('sum(pool:tokens:rate5m{role="decode"})', "decode_tps@decode", "sum", 1, 300),
        ('pool:tokens:rate5m{role="prefill"} / 2', "prefill_tps@prefill", "sum", 2, 300),
        ("avg(pool:usage:avg2m)", "kv_usage@decode", "avg", 1, 120),
        (f"sum(rate({TOKENS}[1m]) * 60)", "decode_tps@decode", "sum", 1 / 60, 60),
        (f"max(sum(rate({TOKENS}[1m])))", "decode_tps@decode", "sum", 1, 60),
        ("max(rate(dynamo_frontend_requests_started_total[1m]))", "request_rate@service", "sum", 1, 60),
    ],
)  # fmt: skip
def test_what_is_read(text, signal, over, scale, span_s):
    """Signal, the pool it speaks of, what is made of the instances, unit, range."""
    found = read(text)
    assert isinstance(found, Query), found
    assert (f"{found.signal}@{found.role}", found.over, found.averaging_s) == (signal, over, span_s)
    assert found.scale == pytest.approx(scale)


USUAL = f"sum(rate({TOKENS}[3m]))"
HIGHER = f"sum(rate({TOKENS}[1m])) > 1.1 * {USUAL} or {USUAL}"


@pytest.mark.parametrize(
    ("text", "surge"),
    [
        (HIGHER, Surge(60.0, 1.1)),
        (f"(sum(rate({TOKENS}[1m])) > {USUAL} * 2 or {USUAL}) / 1000", Surge(60.0, 2.0)),
        (f"sum(rate({TOKENS}[1m])) > {USUAL} or {USUAL}", Surge(60.0, 1.0)),
        (f"({HIGHER}) + sum({W}{{{PREFILL}}}) * 3", Surge(60.0, 1.1)),
    ],
)
def test_a_range_that_is_shorter_while_the_load_grows_is_read(text, surge):
    """The usual range, and when which other one is read in its place; what is added has none."""
    found = read(text)
    assert isinstance(found, Query), found
    assert (f"{found.signal}@{found.role}", found.averaging_s) == ("decode_tps@decode", 180)
    assert found.surge == surge
    assert [one.surge for one in found.others] == [None] * len(found.others)


@pytest.mark.parametrize(
    "text",
    [
        f"({{}}) > 1.1 * ({MEAN}) or ({MEAN})".format(MEAN.replace("5m", "1m")),
        f"{MEAN} + sum({RUNNING})",
    ],
)
def test_a_factor_around_a_ratio_counts_once(text):
    """Milliseconds of a mean: once for the ratio, not for what is below it too."""
    found = read(f"1000 * ({text})")
    assert isinstance(found, Query), found
    assert (found.signal, found.scale) == ("ttft", pytest.approx(1e-3))


@pytest.mark.parametrize(
    ("text", "signal", "span_s", "highest_s"),
    [
        (f"max_over_time(sum({W}{{{DECODE}}})[1h:1m])", "queue_length@decode", 60, 3600),
        ('sum(max_over_time(pool:tokens:rate5m{role="decode"}[5m]))', "decode_tps@decode", 300, 300),
        (f"max_over_time(({HIGHER})[5m:15s])", "decode_tps@decode", 180, 300),
    ],
)
def test_the_highest_value_of_a_whole_query_is_read(text, signal, span_s, highest_s):
    """Of one series alone: the highest values of instances are of many times."""
    found = read(text)
    assert isinstance(found, Query), found
    assert (f"{found.signal}@{found.role}", found.averaging_s, found.highest_s) == (signal, span_s, highest_s)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"sum(rate({TOKENS}[1m])) > 1.1 * sum(rate({TOKENS}[5m])) or {USUAL}", "or has no value"),
        (f"sum(rate({TOKENS}[1m])) >= 1.1 * {USUAL} or {USUAL}", "or has no value"),
        (f"sum(rate({TOKENS}[1m])) > bool 1.1 * {USUAL} or {USUAL}", "or has no value"),
        (f"2 * sum(rate({TOKENS}[1m])) > 1.1 * {USUAL} or {USUAL}", "or has no value"),
        (f"avg(rate({TOKENS}[1m])) > 1.1 * {USUAL} or {USUAL}", "differ in more than the range"),
        (f"sum({W}{{{DECODE}}}) > 1.1 * {USUAL} or {USUAL}", "or has no value"),
    ],
)
def test_an_or_of_anything_else_is_not_read(text, says):
    """Another factor of the compared side, another comparison, another metric or aggregation."""
    found = read(text)
    assert isinstance(found, str), found
    assert says in found


def parts(query):
    """Return the signals of a query, with their weight in units of the first and their ranges [s]."""
    return [
        (f"{one.signal}@{one.role}", pytest.approx(query.scale / one.scale), one.averaging_s)
        for one in (query, *query.others)
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            f"sum({W}{{{DECODE}}}) + sum({RUNNING})",
            [("queue_length@decode", 1, 60), ("running@decode", 1, 60)],
        ),
        (f"sum({W}{{{DECODE}}} + {RUNNING})", [("queue_length@decode", 1, 60), ("running@decode", 1, 60)]),
        (
            f"(2 * sum({W}{{{DECODE}}}) + sum(avg_over_time({RUNNING}[5m]))) / 10",
            [("queue_length@decode", 1, 60), ("running@decode", 0.5, 300)],
        ),
        (
            f"sum({W}{{{PREFILL}}}) + sum({W}{{{DECODE}}})",
            [("queue_length@prefill", 1, 60), ("queue_length@decode", 1, 60)],
        ),
        (f"sum({W}{{{OURS}}}) / 2", [("queue_length@decode", 1, 60), ("queue_length@prefill", 1, 60)]),
    ],
)
def test_a_sum_of_metrics_is_the_sum_of_their_signals(text, wanted):
    """Each in its own unit and range, of its own pool."""
    found = read(text)
    assert isinstance(found, Query), found
    assert parts(found) == wanted


SOURCES = ("local_compute", "local_cache_hit", "external_kv_transfer")
BY_SOURCE = "vllm:prompt_tokens_by_source_total"


def test_values_of_a_label_that_are_quantities_of_their_own_are_not_added_up():
    """Prompt tokens by where they come from: which values there are, and which signal each one is."""
    series = (one for source in SOURCES for one in of_pods(BY_SOURCE, "prefill", source=source))
    of = known(
        series=(*KNOWN.series, *series), readable={**READABLE, ("prefill_tps_effective", "prefill"): "sum"}
    )
    assert read(f"sum(rate({BY_SOURCE}[1m]))", pool="prefill", of=of) == (
        f"{BY_SOURCE}: it adds up 3 values of source (external_kv_transfer, local_cache_hit, local_compute), "
        'and each is another quantity: choose source="local_compute" (prefill_tps_effective) or '
        'source="local_cache_hit" (cached_prompt_tps)'
    )
    found = read(f'sum(rate({BY_SOURCE}{{source="local_compute"}}[1m]))', pool="prefill", of=of)
    assert (found.signal, found.role) == ("prefill_tps_effective", "prefill")


def test_pools_without_a_label_of_their_own_are_told_apart_by_the_beginning_of_their_pods():
    """The last resort: such a matcher lives as long as the pods' names."""
    series = tuple(
        replace(one, labels={n: v for n, v in one.labels.items() if n != "job"}) for one in KNOWN.series
    )
    said = read(f"avg({K}{{{OURS}}})", of=known(series=series))
    assert said.endswith('such as pod=~"m-large-decode-.*" for decode')


def test_series_without_their_like_beside_them_are_no_sum():
    """A pod that only one of both metrics has is not in Prometheus' sum of series."""
    lone = tuple(
        one
        for one in KNOWN.series
        if "m-large-decode-1" not in one.labels.values()
        or "num_requests_running" not in one.labels["__name__"]
    )
    assert "+ of series has no value" in read(
        f"sum({W}{{{DECODE}}} + {RUNNING})", of=replace(KNOWN, series=lone)
    )


BUCKETS = f"rate({TTFT}_bucket[5m])"
P95 = f"histogram_quantile(0.95, sum by (le) ({BUCKETS}))"
NOT_MODELLED = {("ttft_p95_300s", "service"): "it does not follow the load of prefill"}


@pytest.mark.parametrize(
    ("text", "name", "scale"),
    [
        (P95, "ttft_p95_300s@service", 1.0),
        (f"1000 * {P95}", "ttft_p95_300s@service", 1e-3),
        (f"max({P95}) or vector(0)", "ttft_p95_300s@service", 1.0),
        (f"histogram_quantile(0.99, sum by (le, model) ({BUCKETS}))", "ttft_p99_300s@service", 1.0),
        (f"histogram_quantile(0.5, {BUCKETS})", "ttft_p50_300s@service", 1.0),
        (
            f"histogram_quantile(0.95, sum without (namespace) (increase({TTFT}_bucket[1m])))",
            "ttft_p95_60s@service",
            1.0,
        ),
        (
            "histogram_quantile(0.9, sum by (le) "
            "(rate(dynamo_frontend_inter_token_latency_seconds_bucket[2m])))",
            "tbt_p90_120s@service",
            1.0,
        ),
    ],
)
def test_a_quantile_is_a_signal_of_its_own(text, name, scale):
    """Its latency, share and range are in its name; its values are the query's own, without the factor."""
    found = read(text, pool="prefill")
    assert isinstance(found, Query), found
    assert (f"{found.signal}@{found.role}", found.scale) == (name, pytest.approx(scale))
    assert isinstance(found.answer.form, HistogramQuantile)
    assert FOLLOWS_LOAD in found.notes


def test_a_quantile_that_a_replay_does_not_know_says_why_and_names_the_mean():
    """The mean only where that one is read."""
    why = "the 0.95 quantile of ttft over 300 s has no value at counts that never ran: it does not follow"
    mean = f"; its mean has one, with a threshold of its own: sum(rate({TTFT}_sum[5m])) / sum(rate("
    found = read(P95, of=known(unmodelled=NOT_MODELLED))
    assert found.startswith(why)
    assert mean in found
    readable = {key: adds for key, adds in READABLE.items() if key[0] != "ttft"}
    found = read(P95, of=known(readable=readable, unmodelled=NOT_MODELLED))
    assert found.startswith(why)
    assert "its mean" not in found


GPU_0 = 'DCGM_FI_DEV_GPU_UTIL{exported_pod=~"m-large-decode-.*",gpu="0"}'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        # The selectors pick nothing.
        (
            f'sum({W}{{pod=~"m-huge-decode-.*"}})',
            f'column 5: not in this history: no series of {W} has pod=~"m-huge-decode-.*", its pod is '
            "m-large-decode-0, m-large-decode-1, m-large-decode-2, m-large-prefill-0, m-large-prefill-1 "
            "and 1 more; nearest is m-large-decode-2",
        ),
        (
            'sum(rate(vllm:generation_tokens_total{job="vllm-prefill"}[1m]))',
            'no series of vllm:generation_tokens_total has job="vllm-prefill", its job is vllm-decode',
        ),
        (f'sum({W}{{role="decode"}})', "has a label role, only job, model_name, namespace, pod"),
        (f'sum({W}{{pod=~".*decode.*",job="vllm-prefill"}})', f"no series of {W} has all of {W}{{pod=~"),
        ("sum(vllm_num_requests_waiting)", f"it holds no vllm_num_requests_waiting; nearest is {W}"),
        ("avg(vllm:gpu_cache_usage_perc)", "it holds no vllm:gpu_cache_usage_perc; nearest is"),
        (f"sum(rate({TOKENS}[1m]) * {JOIN.replace('decode', 'router')})", 'has label_role="router"'),
        # They pick something else than one pool.
        (f'sum({W}{{pod="m-small-0"}})', 'are of no or another service, such as model_name="m-small"'),
        (f"sum({W})", f"{W}: 1 of the 6 series it picks are of no or another"),
        (
            f"avg({W}{{{OURS}}})",
            f"{W}: it picks series of decode and prefill together, and a replay knows each by itself: add a "
            'matcher, such as job="vllm-decode" for decode',
        ),
        (f'sum({W}{{{OURS},pod!="m-large-decode-1"}})', f"{W}: it picks 2 of 3 instances of decode"),
        (f'sum({W}{{pod="m-large-decode-1"}})', f"{W}: it picks 1 of 3 instances of decode"),
        (f'sum({W}{{{DECODE},pod!="m-large-decode-1"}})', f"{W}: it picks 2 of 3 instances of decode"),
        (f"avg({GPU_0})", "it picks 3 of the 6 series of decode"),
        # Several series are no answer.
        (f"{W}{{{DECODE}}}", "column 1: it gives 3 series, and an autoscaler takes one"),
        (f"sum by (pod) ({W}{{{DECODE}}})", "column 1: it gives 3 series, and an autoscaler takes one"),
        # Forms that have no value at other counts.
        (f"max({K}{{{DECODE}}})", "column 1: the max over instances has no value at counts that never ran"),
        (f"sum(irate({TOKENS}[1m]))", "column 5: irate has no value"),
        (f"sum(max_over_time({W}{{{DECODE}}}[1h]))", "column 5: max_over_time has no value"),
        (f"sum({W}{{{PREFILL}}}) + max_over_time(sum({W}{{{DECODE}}})[1h:1m])", "max_over_time has no value"),
        (f"avg_over_time(sum({W}{{{DECODE}}})[1h:1m])", "column 1: a subquery of an expression has no value"),
        (f"histogram_quantile(0.95, sum({BUCKETS}))", "a quantile of sum without its buckets' edges (le)"),
        (f"histogram_quantile(0.95, max by (le) ({BUCKETS}))", "a quantile of max without its buckets'"),
        (f"histogram_quantile(1, sum by (le) ({BUCKETS}))", "the 1 quantile has no value"),
        (f"histogram_quantile(0.95, sum by (le) ({TTFT}_bucket))", "is read without rate or increase"),
        (f"histogram_quantile(0.95, sum by (le) (irate({TTFT}_bucket[5m])))", "irate has no value"),
        (f'histogram_quantile(0.95, sum by (le) (rate({TTFT}_bucket{{le="1"}}[5m])))', "picks 1 of the 3"),
        (f"{P95} - 1", "a number has no value"),
        (f"clamp_max({P95}, 1)", "clamp has no value"),
        (f"{P95} / {P95}", "the 0.95 quantile has no value"),
        (f"clamp_max(avg({K}{{{DECODE}}}), 1)", "column 1: clamp has no value"),
        (f"sum({W}{{{DECODE}}}) > 5", "a comparison (>) has no value"),
        (f"sum({W}{{{DECODE}}} > bool 0)", "a comparison (>) has no value"),
        (f"sum({W}{{{DECODE}}}) - 5", "a number has no value"),
        (f"sum({W}{{{DECODE}}}) / count({RUNNING})", "no one signal is read from"),
        (f"count({W}{{{DECODE}}})", "a count of series has no value"),
        (f"rate({TTFT}_sum[5m]) / rate({TTFT}_sum[5m])", f"{TTFT}_sum divided by itself is 1, whatever"),
        (f"max(rate({TOKENS}[1m]))", "the max over instances has no value at counts that never ran"),
        (f"sum({W}{{{DECODE}}}) + sum(rate(http_requests_total[1m]))", "it holds no http_requests_total"),
        (f"sum({W}{{{DECODE}}}) - sum({RUNNING})", "no one signal is read from"),
        (f"sum by (pod) ({W}{{{DECODE},pod=~'.*-0'}}) + sum({RUNNING})", "sides of + have other labels, so"),
        (f"sum by (job) (rate({TTFT}_sum[5m])) / sum by (model) (rate({TTFT}_count[5m]))", "sides of / have"),
        (f"sum({W}{{{DECODE}}}) or sum({W}{{{PREFILL}}})", "or has no value"),
        (f"sum({W}{{{DECODE}}}) * 0", "the factor 0 makes no signal of it"),
        # Another time, other joins.
        (f"sum({W}{{{DECODE}}} offset 1d)", "offset is not read"),
        (f"sum({W} @ 1700000000)", "@ is not read"),
        (f"sum({W} unless on (pod) {K})", "unless on is not read"),
        (f"sum({W} and on (pod) {K})", "and on is not read"),
        # Not what the metric is.
        (f"sum(rate({W}{{{DECODE}}}[1m]))", f"{W} is a gauge, and rate is for counters"),
        (f"sum(increase({W}{{{DECODE}}}[1m]))", f"{W} is a gauge, and increase is for counters"),
        (f"sum({TOKENS})", "is a counter and is read without rate or increase"),
        # Not of the catalogue, or not aligned.
        ("sum(rate(http_requests_total[1m]))", "it holds no http_requests_total"),
        (f"sum(rate(vllm:prompt_tokens_total{{{OURS}}}[1m]", "this is not valid PromQL"),
        # Names that only a rule explains.
        ("service:hs_decode_tps:rate5m", "service:hs_decode_tps:rate5m is a recorded name: give the file"),
        ("sum(pool:tokens:rate5m)", "2 of 2 rules that record pool:tokens:rate5m have the"),
        ('pool:tokens:rate5m{role="router"}', "0 of 2 rules that record pool:tokens:rate5m have the"),
        ('pool:tokens:rate5m{pod="a"}', "its rule sets no label pod"),
        ("avg_over_time(pool:usage:avg2m[1h])", "a subquery of an expression has no value"),
    ],
)  # fmt: skip
def test_what_is_not_read_says_why(text, says):
    """Nothing is guessed, and nothing falls through to another pool."""
    found = read(text)
    assert isinstance(found, str), found
    assert says in found


def test_another_services_pool_of_the_same_role_is_not_ours():
    """Neither alone nor together with ours."""
    theirs = tuple(
        replace(one, labels={**one.labels, "model_name": "m-other", "pod": f"other-{number}"}, ours=False)
        for number, one in enumerate(of_pods("vllm:generation_tokens_total", "decode"))
    )
    both = replace(KNOWN, series=KNOWN.series + theirs)
    alone = read('sum(rate(vllm:generation_tokens_total{model_name="m-other"}[1m]))', of=both)
    assert "3 of the 3 series it picks are of no or another service" in alone
    together = read('sum(rate(vllm:generation_tokens_total{job="vllm-decode"}[1m]))', of=both)
    assert "3 of the 6 series it picks are of no or another service" in together


def test_a_pool_without_the_metric_is_not_read_as_the_other():
    """A decode object on decode's queue, where only prefill exports one, and where decode does."""
    series = tuple(one for one in KNOWN.series if one.emitter != "decode" or W not in one.labels.values())
    text = f'sum({W}{{pod=~"m-large-decode-.*"}})'
    assert "not in this history" in read(text, of=known(series=series))
    found = read(text)
    assert (found.signal, found.role) == ("queue_length", "decode")


def test_a_signal_that_a_replay_does_not_know_is_not_in_the_history():
    """The series are there, but the signal could not be aligned or fitted."""
    readable = {key: adds for key, adds in READABLE.items() if key != ("queue_length", "decode")}
    text = f"sum({W}{{{DECODE}}})"
    assert read(text, of=known(readable=readable)) == "queue_length of decode is not in this history"


def test_an_empty_answer_that_counts_as_zero_is_noted():
    """The one thing about it that a replay does otherwise."""
    assert read(f"sum({W}{{{DECODE}}}) or vector(0)").notes == (EMPTY_IS_ZERO,)


def test_a_lone_series_needs_no_sum():
    """A pool of one instance: the bare metric is its total."""
    one = replace(KNOWN, series=(of_pods(W, "prefill")[0], *of_pods(W, "decode")))
    found = read(f"{W}{{{PREFILL}}}", of=one)
    assert (found.signal, found.role, found.over) == ("queue_length", "prefill", "sum")


def test_a_target_meets_the_signal_in_its_unit():
    """A percent threshold on a share, and a sum over instances of a share."""
    used = f"{K}{{{DECODE}}}"
    made, notes = metric_read(read(f"avg({used}) * 100"), "Value", 70.0, "q", "decode")
    assert (made.kind, made.target, notes) == ("Value", pytest.approx(0.7), ())
    made, notes = metric_read(read(f"sum({used}) + sum({RUNNING})"), "AverageValue", 5.0, "q", "decode")
    assert made is None
    assert notes == ("sum of kv_usage@decode and sum of running@decode do not add up over instances alike",)
    made, _ = metric_read(
        read(f"2 * sum({W}{{{DECODE}}}) + sum({RUNNING})"), "AverageValue", 8.0, "q", "decode"
    )
    assert (made.target, made.kind, made.name) == (
        4.0,
        "AverageValue",
        "queue_length@decode + running@decode",
    )
    made, _ = metric_read(read(f"sum({used})"), "AverageValue", 0.7, "q", "decode")
    assert made.kind == "Pods"
    made, notes = metric_read(read(f"avg({used})"), "AverageValue", 0.7, "q", "decode")
    assert (made.kind, notes) == ("AverageValue", (TWICE_DIVIDED,))
    made, notes = metric_read(read(f"avg(rate({TOKENS}[1m]))"), "AverageValue", 900.0, "q", "decode")
    assert made is None
    assert "not read" in notes[-1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3800", 3800.0), ("45m", 0.045), ("2k", 2000.0), ("1Ki", 1024.0), ("x", None), (7, 7.0),
        ("500u", 5e-4), ("5n", 5e-9), ("1P", 1e15), ("2Ei", 2.0**61), (".5", 0.5), ("5.", 5.0), ("1e3", 1e3),
    ],
)  # fmt: skip
def test_quantities(text, value):
    """Kubernetes' suffixes."""
    assert quantity(text) == value


COPIES = replace(
    KNOWN, series=tuple(replace(one, copies=({"replica": "a"}, {"replica": "b"})) for one in KNOWN.series)
)
"""The same history on a server that keeps what two scrapers delivered."""


@pytest.mark.parametrize(
    ("text", "signal", "scale", "noted"),
    [
        # The signal's unit per unit of the answer: a sum over both copies is twice the load.
        (f"sum(rate({TOKENS}[2m]))", "decode_tps", 0.5, True),
        (f"sum(max without (replica) (rate({TOKENS}[2m])))", "decode_tps", 1.0, False),
        (f"sum(max by (pod) (rate({TOKENS}[2m])))", "decode_tps", 1.0, False),
        (f"sum(sum by (pod) (rate({TOKENS}[2m])))", "decode_tps", 0.5, True),
        (f'sum(rate(vllm:generation_tokens_total{{{OURS},replica="b"}}[2m]))', "decode_tps", 1.0, False),
        (f"avg(avg_over_time({K}{{{DECODE}}}[2m]))", "kv_usage", 1.0, False),
        (f"sum({RUNNING}) / count({RUNNING})", "running", 1.0, False),
        (MEAN, "ttft", 1.0, False),
    ],
)
def test_copies_of_two_scrapers_are_counted_as_often_as_the_query_does(text, signal, scale, noted):
    found = read(text, of=COPIES)
    assert (found.signal, found.scale) == (signal, pytest.approx(scale))
    assert any("2 copies of each series" in note for note in found.notes) == noted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"rate({TTFT}_count[2m])", "it gives 2 series"),
        (
            f"sum(rate({TOKENS.replace('{', '{replica=' + chr(34) + 'c' + chr(34) + ',')}[2m]))",
            "replica is a",
        ),
    ],
)
def test_copies_that_a_query_does_not_put_together_are_not_read(text, says):
    assert says in read(text, of=COPIES)


def test_a_quantile_of_one_copy_is_answered_by_the_one_that_is_stored():
    buckets = f'{TTFT}_bucket{{replica="b"}}'
    found = read(f"histogram_quantile(0.9, sum by (le) (rate({buckets}[5m])))", of=COPIES)
    assert (
        found.answer.form
        == read(f"histogram_quantile(0.9, sum by (le) (rate({TTFT}_bucket[5m])))", of=COPIES).answer.form
    )
