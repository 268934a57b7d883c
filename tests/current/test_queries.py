"""Queries and metric names: which signal they read, in which unit, and what is not read."""

import pytest

from hs_analysis.catalogue import load_catalogue
from hs_analysis.current.model import Known
from hs_analysis.current.queries import Query, read_query
from hs_analysis.current.targets import TWICE_DIVIDED, metric_read, quantity

CATALOGUE = load_catalogue()
KNOWN = Known(
    ("prefill", "decode"),
    {
        ("decode_tps", "decode"): "sum",
        ("prefill_tps", "prefill"): "sum",
        ("prefill_tps_effective", "prefill"): "sum",
        ("queue_length", "prefill"): "sum",
        ("queue_length", "decode"): "sum",
        ("kv_usage", "decode"): "mean",
        ("gpu_util", "decode"): "mean",
        ("request_rate", "service"): "sum",
        ("ttft", "service"): "ratio",
    },
)


def read(text, pool="decode", labels=""):
    return read_query(text, pool, KNOWN, CATALOGUE, labels)


PREFILL_PODS = 'sum(vllm:num_requests_waiting{pod=~"x-prefill.*"})'
OF_DECODE = 'sum(service:hs_decode_tps:rate5m{role="decode"})'
INCREASE = "sum(increase(vllm:generation_tokens_total[5m]))"
OF_ADAPTER = "hs_prefill_tps_effective_rate5m_prod_chat"


@pytest.mark.parametrize(
    ("text", "pool", "signal", "over", "scale", "span_s"),
    [
        ("sum(rate(vllm:generation_tokens_total[2m]))", "decode", "decode_tps@decode", "sum", 1, 120),
        (INCREASE, "decode", "decode_tps@decode", "sum", 1 / 300, 300),
        ("sum(rate(vllm:generation_tokens_total[1m])) / 1000", "decode", "decode_tps@decode", "sum", 1e3, 60),
        ("avg(vllm:kv_cache_usage_perc) * 100", "decode", "kv_usage@decode", "avg", 0.01, 60),
        ("avg(DCGM_FI_DEV_GPU_UTIL)", "decode", "gpu_util@decode", "avg", 0.01, 60),
        ("sum(vllm:num_requests_waiting)", "prefill", "queue_length@prefill", "sum", 1, 60),
        (PREFILL_PODS, "decode", "queue_length@prefill", "sum", 1, 60),
        (OF_DECODE, "prefill", "decode_tps@decode", "sum", 1, 300),
        (OF_ADAPTER, "prefill", "prefill_tps_effective@prefill", "sum", 1, 300),
        ("sum(service:hs_gpu_util_total:avg5m)", "decode", "gpu_util@decode", "sum", 1, 300),
    ],
)  # fmt: skip
def test_what_is_read(text, pool, signal, over, scale, span_s):
    """Signal, the pool it speaks of, what is made of the instances, unit, range."""
    found = read(text, pool)
    assert isinstance(found, Query), found
    assert (f"{found.signal}@{found.role}", found.over, found.averaging_s) == (signal, over, span_s)
    assert found.scale == pytest.approx(scale)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sum(rate(http_requests_total[1m]))", "no metric of the catalogue"),
        ("sum(vllm:generation_tokens_total)", "no one signal"),
        ("sum(rate(vllm:generation_tokens_total[1m])) / count(up)", "count is not read"),
        ("sum(rate(vllm:generation_tokens_total[1m])) - 5", "arithmetic around -"),
        ("sum(rate(vllm:generation_tokens_total[1m])) + sum(vllm:num_requests_waiting)", "no one signal"),
        ("sum(vllm:num_requests_running)", "is not in this history"),
        ("hs_nonsense_rate5m", "no signal is named nonsense"),
    ],
)
def test_what_is_not_read_says_why(text, says):
    """Nothing is guessed."""
    found = read(text)
    assert isinstance(found, str)
    assert says in found


def test_what_is_only_nearly_so_is_noted():
    """A maximum, a quantile, a query that leaves the sum to chance."""
    assert "highest instance" in read("max(vllm:kv_cache_usage_perc)").notes[0]
    assert "how instances add up" in read("rate(vllm:generation_tokens_total[1m])").notes[0]
    text = "histogram_quantile(0.95, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[5m])))"
    found = read(text)
    assert isinstance(found, Query)
    assert found.signal == "ttft"
    assert any("quantile" in note for note in found.notes)


def test_a_target_meets_the_signal_in_its_unit():
    """A percent threshold on a share, and a sum over instances of a share."""
    made, notes = metric_read(read("avg(vllm:kv_cache_usage_perc) * 100"), "Value", 70.0, "q")
    assert (made.kind, made.target, notes) == ("Value", pytest.approx(0.7), ())
    made, _ = metric_read(read("sum(vllm:kv_cache_usage_perc)"), "AverageValue", 0.7, "q")
    assert made.kind == "Pods"
    made, notes = metric_read(read("avg(vllm:kv_cache_usage_perc)"), "AverageValue", 0.7, "q")
    assert (made.kind, notes) == ("AverageValue", (TWICE_DIVIDED,))
    made, notes = metric_read(read("avg(rate(vllm:generation_tokens_total[1m]))"), "AverageValue", 900.0, "q")
    assert made is None
    assert "not read" in notes[-1]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3800", 3800.0), ("45m", 0.045), ("2k", 2000.0), ("1Ki", 1024.0), ("x", None), (7, 7.0)],
)
def test_quantities(text, value):
    """Kubernetes' suffixes."""
    assert quantity(text) == value
