"""The user's own metrics and tables as sources."""

from __future__ import annotations

import pytest

from hs_analysis.catalogue import MAPPING, load_catalogue, with_user_rows
from hs_analysis.errors import ManyErrors, UsageError
from hs_analysis.schema.settings import MetricRow, Reading, TableRow

SHIPPED = load_catalogue()


def test_nothing_mapped_changes_nothing() -> None:
    """The shipped catalogue is handed back as it is."""
    assert with_user_rows(SHIPPED, Reading()) is SHIPPED


def test_a_users_metric_is_the_first_source_whatever_it_is_called() -> None:
    """gateway_ is another exporter's prefix; a claimed name goes before any prefix."""
    qps = MetricRow("request_rate", "gauge", "req/min", {"type": "chat"})
    found = with_user_rows(SHIPPED, Reading(metrics={"gateway_qps": qps}))
    assert found.exporter_of("gateway_qps").name == MAPPING
    assert found.exporter_of("gateway_qps_total").name == "aibrix"
    rate = found.signal("request_rate")
    assert rate is not None
    source = rate.sources[0]
    assert (source.source, source.read, source.emitters) == (MAPPING, "gauge", ())
    assert source.scale == pytest.approx(1 / 60)
    assert source.terms[0].where == {"type": ("chat",)}
    assert found.first_signal("gateway_qps") == "request_rate"
    assert found.kind_of("gateway_qps") == "gauge"
    assert [s.source for s in rate.sources[1:]] == [s.source for s in SHIPPED.signal("request_rate").sources]


def test_a_shipped_metric_can_be_read_as_something_else() -> None:
    """What the user says of a name wins over what the catalogue says."""
    told = MetricRow("queue_length")
    found = with_user_rows(SHIPPED, Reading(metrics={"vllm:num_requests_running": told}))
    assert found.exporter_of("vllm:num_requests_running").name == MAPPING
    assert found.first_signal("vllm:num_requests_running") == "queue_length"
    assert "vllm" not in [source.source for source in found.signal("running").sources]


def test_columns_of_tables_are_metrics_and_a_latency_given_as_a_number_is_a_mean() -> None:
    """A column has no sum and no count; tables of requests are none of this."""
    fleet = TableRow("*.csv", columns={"ttft_ms": MetricRow("ttft", unit="ms")})
    log = TableRow("*.log", holds="requests", columns={"in": MetricRow("prompt_tokens")})
    found = with_user_rows(SHIPPED, Reading(tables={"fleet": fleet, "log": log}))
    ttft = found.signal("ttft")
    assert ttft is not None
    assert (ttft.sources[0].pool, ttft.sources[0].scale, ttft.sources[0].histogram) == ("mean", 1e-3, None)
    assert found.exporter_of("in").name != MAPPING


def test_a_histogram_is_named_by_its_family_and_its_edges_are_in_its_unit() -> None:
    """Its mean is a ratio of totals; whoever exports it counts, and edges come out in the signal's unit."""
    row = MetricRow("tbt", "histogram", "ms", {"type": "chat"})
    found = with_user_rows(SHIPPED, Reading(metrics={"gap_ms": row}))
    tbt = found.signal("tbt")
    assert tbt is not None
    source = tbt.sources[0]
    assert (source.histogram, source.read, source.pool, source.emitters) == ("gap_ms", "rate", None, ())
    assert [(term.metric, term.side) for term in source.terms] == [
        ("gap_ms_sum", "num"),
        ("gap_ms_count", "den"),
    ]
    assert {one.where["type"] for one in source.terms} == {("chat",)}
    assert [source.edge(written) for written in (25.0, 50.0, 300.0, 700.0)] == [0.025, 0.05, 0.3, 0.7]
    for metric in ("gap_ms_bucket", "gap_ms_sum", "gap_ms_count"):
        assert (found.kind_of(metric), found.exporter_of(metric).name) == ("counter", MAPPING)


@pytest.mark.parametrize(
    ("name", "row", "says"),
    [
        ("a", MetricRow("decode_tps", "histogram"), "a histogram can't carry decode_tps, which is a sum"),
        ("gap_ms_bucket", MetricRow("tbt", "histogram", "ms"), "name the histogram: gap_ms"),
        ("gap", MetricRow("tbt", "histogram", "tokens"), "tokens does not measure a signal in s"),
    ],
)
def test_what_is_no_histogram_of_a_signal_is_refused(name: str, row: MetricRow, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        with_user_rows(SHIPPED, Reading(metrics={name: row}))
    assert says in str(raised.value) + str(raised.value.hint)


def test_a_pools_signal_counts_that_pools_series() -> None:
    """Decode's counts decode and mixed pods, a gauge of the exporting pod every pool."""
    found = with_user_rows(
        SHIPPED,
        Reading(metrics={"a": MetricRow("decode_tps", "counter", "tokens"), "b": MetricRow("kv_usage")}),
    )
    assert found.signal("decode_tps").sources[0].emitters == ("decode", "mixed")
    assert found.signal("decode_tps").sources[0].read == "rate"
    assert found.signal("kv_usage").sources[0].emitters == ("prefill", "decode", "mixed")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (MetricRow("request_rat"), ["no signal 'request_rat'", "did you mean request_rate?"]),
        (MetricRow("ttft", unit="parsecs"), ["no unit 'parsecs'", "known units"]),
        (MetricRow("ttft", unit="percent"), ["does not measure a signal in s", "ms"]),
        (MetricRow("ttft", "counter", "ms"), ["a counter can't carry ttft", "gauge"]),
    ],
)
def test_a_wrong_row_names_the_setting_and_what_there_is(row: MetricRow, words: list[str]) -> None:
    """One line that is enough to repair it."""
    with pytest.raises(UsageError) as raised:
        with_user_rows(SHIPPED, Reading(metrics={"mine": row}))
    assert raised.value.where == 'metrics."mine"'
    assert all(word in raised.value.line() for word in words)


def test_several_wrong_rows_are_all_named() -> None:
    """Metrics and columns."""
    table = TableRow("*.csv", columns={"x": MetricRow("ttft", unit="y")})
    with pytest.raises(ManyErrors) as raised:
        with_user_rows(SHIPPED, Reading(metrics={"m": MetricRow("nothing")}, tables={"t": table}))
    assert [error.where for error in raised.value.errors] == ['metrics."m"', "tables.t.columns.x"]


def test_requests_of_different_sizes_count_by_their_weights() -> None:
    """One term a size, each with what one counts, on top of what the series must have anyway."""
    row = MetricRow("request_work", "counter", where={"kind": "chat"}, weights={"size": {"S": 1.0, "L": 4.0}})
    signal = with_user_rows(load_catalogue(), Reading(metrics={"asked_total": row})).signal("request_work")
    assert signal is not None
    (source,) = signal.sources
    assert [(term.where, term.sign) for term in source.terms] == [
        ({"kind": ("chat",), "size": ("L",)}, 4.0),
        ({"kind": ("chat",), "size": ("S",)}, 1.0),
    ]
