"""The catalogue's rows: what each exporter metric means."""

from __future__ import annotations

import pytest

from hs_analysis.catalogue import load_catalogue
from hs_analysis.schema.aligned import POOL_ROLES

CATALOGUE = load_catalogue()
SOURCES = [(signal, source) for signal in CATALOGUE.signals for source in signal.sources]


@pytest.mark.parametrize(
    ("metric", "kind"),
    [
        ("vllm:num_requests_waiting", "gauge"),
        ("vllm:generation_tokens_total", "counter"),
        ("dynamo_frontend_input_sequence_tokens_sum", "counter"),
        ("dynamo_frontend_time_to_first_token_seconds_bucket", "counter"),
        ("kube_deployment_status_replicas_ready", "gauge"),
        ("someone_else_total", "counter"),
        ("someone_else", "gauge"),
        ("", "gauge"),
    ],
)
def test_the_catalogue_knows_what_counts_up_and_names_tell_of_others(metric: str, kind: str) -> None:
    """A source's way of reading decides; an unknown metric is judged by its ending."""
    assert CATALOGUE.kind_of(metric) == kind


@pytest.mark.parametrize(
    ("metric", "exporter"),
    [
        ("vllm:prompt_tokens_total", "vllm"),
        ("dynamo_component_router_requests_total", "dynamo_router"),
        ("dynamo_component_uptime_seconds", "dynamo_worker"),
        ("dynamo_frontend_requests_total", "dynamo_frontend"),
        ("DCGM_FI_DEV_GPU_UTIL", "dcgm"),
        ("gpu_gfx_activity", "amd_dme"),
        ("amd_gpu_package_power", "amd_dme"),
        ("trtllm:request_success_total", "trtllm"),
        ("inference_model_request_total", "llmd_epp"),
        ("llm_d_epp_request_total", "llmd_epp"),
        ("node_time_seconds", "node"),
        ("kube_pod_labels", "ksm"),
        ("up", "prometheus"),
        ("", "prometheus"),
    ],
)
def test_every_metric_has_an_exporter(metric: str, exporter: str) -> None:
    """The longest matching prefix wins; what nobody claims is Prometheus' own."""
    assert CATALOGUE.exporter_of(metric).name == exporter


def test_no_two_exporters_have_the_same_prefix() -> None:
    """The longest prefix wins, in whatever order the rows stand."""
    prefixes = [prefix for exporter in CATALOGUE.exporters for prefix in exporter.prefixes]
    assert len(prefixes) == len(set(prefixes))


@pytest.mark.parametrize(("signal", "source"), SOURCES, ids=lambda row: getattr(row, "id", ""))
def test_a_source_can_be_read(signal: object, source: object) -> None:
    """Its exporter is known, its metrics are that exporter's, its formula and its roles make sense."""
    exporters = {exporter.name: exporter for exporter in CATALOGUE.exporters}
    assert source.source in exporters
    assert all(CATALOGUE.exporter_of(term.metric).name == source.source for term in source.terms)
    assert any(term.side == "num" for term in source.terms)
    pool = source.pool or signal.pool
    assert (pool == "ratio") == any(term.side == "den" for term in source.terms)
    assert set(source.emitters) <= set(POOL_ROLES)
    assert source.scale > 0
    if pool == "mean":
        assert signal.unit not in ("requests/s", "tokens/s")


def test_a_signal_has_one_row_and_belongs_to_a_family_and_role() -> None:
    """Ids are unique; families and roles are those that results know."""
    assert len({signal.id for signal in CATALOGUE.signals}) == len(CATALOGUE.signals)
    families = {"throughput", "hardware", "latency", "queue", "memory", "load", "auxiliary"}
    assert {signal.family for signal in CATALOGUE.signals} <= families
    assert {signal.role for signal in CATALOGUE.signals} <= {"emitter", "prefill", "decode", "service"}
    assert all(signal.enable and signal.meaning and signal.unit for signal in CATALOGUE.signals)


def test_a_histogram_is_its_sum_over_its_count() -> None:
    """The mean of a latency comes from _sum and _count, in this order."""
    ttft = CATALOGUE.signal("ttft")
    assert ttft is not None
    first = ttft.sources[0]
    assert [(term.metric, term.side) for term in first.terms] == [
        (f"{first.histogram}_sum", "num"), (f"{first.histogram}_count", "den"),
    ]  # fmt: skip


def test_minus_and_where_are_kept() -> None:
    """A term may be subtracted and narrowed by labels; one value and a list are both lists."""
    effective = CATALOGUE.signal("prefill_tps_effective")
    assert effective is not None
    by_source = {source.source: source for source in reversed(effective.sources)}
    assert [term.sign for term in by_source["dynamo_frontend"].terms] == [1.0, -1.0]
    assert by_source["vllm"].terms[0].where == {"source": ("local_compute",)}


@pytest.mark.parametrize(
    ("metric", "signal"),
    [
        ("vllm:generation_tokens_total", "decode_tps"),
        ("dynamo_frontend_time_to_first_token_seconds_bucket", "ttft"),
        ("dynamo_frontend_time_to_first_token_seconds_sum", "ttft"),
        ("dynamo_frontend_input_sequence_tokens_sum", "prefill_tps"),
        ("up", None),
    ],
)
def test_the_first_signal_of_a_metric(metric: str, signal: str | None) -> None:
    """Buckets count to their histogram; a metric that serves several signals names the first."""
    assert CATALOGUE.first_signal(metric) == signal


def test_unknown_signals_are_none() -> None:
    """Asking for one is no error."""
    assert CATALOGUE.signal("nonsense") is None


@pytest.mark.parametrize("metric", ["process_start_time_seconds", "scrape_samples_scraped", "up"])
def test_a_constant_is_no_clock(metric: str) -> None:
    """A value that stands still while it is scraped would make every idle hour look like a scrape gap."""
    assert metric not in CATALOGUE.clock_like
    assert "scrape_duration_seconds" in CATALOGUE.clock_like
