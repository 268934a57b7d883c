"""Releases inside the window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import polars as pl

from hs_analysis.catalogue import load_catalogue
from hs_analysis.ingest.versions import CHANGES, version_changes, version_spans
from hs_analysis.schema.frames import SERIES, check, empty

START = datetime(2026, 3, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """Return a moment of the window."""
    return START + timedelta(minutes=minutes)


def spans(*rows: tuple[str, dict[str, str], float, float], role: str = "decode") -> pl.DataFrame:
    """Return the versions that series tell, given by metric, labels, first and last minute."""
    full = [
        {
            "series_id": number, "metric": metric,
            "labels": [{"key": k, "value": v} for k, v in labels.items()], "emitter_role": role,
            "role_evidence": "test", "service": "ns/m", "kind": "gauge", "capture": "",
        }
        for number, (metric, labels, _, _) in enumerate(rows)
    ]  # fmt: skip
    series = check(pl.DataFrame(full, schema=empty(SERIES).schema), SERIES)
    quality = pl.DataFrame(
        {
            "series_id": range(len(rows)),
            "first_t": [at(first) for _, _, first, _ in rows],
            "last_t": [at(last) for _, _, _, last in rows],
        },
        schema_overrides=dict.fromkeys(("first_t", "last_t"), pl.Datetime("us", "UTC")),
    )
    return version_spans(series, quality, load_catalogue())


def changes(
    *rows: tuple[str, dict[str, str], float, float], role: str = "decode"
) -> list[tuple[object, ...]]:
    """Return (what, t, until, from, to) of series given by metric, labels, first and last minute."""
    found = version_changes(spans(*rows, role=role))
    assert dict(found.schema) == CHANGES
    return found.select("what", "t", "until", "from", "to").rows()


def image(tag: str, container: str = "engine") -> dict[str, str]:
    """Return labels of kube_pod_container_info."""
    return {"container": container, "image": f"registry/vllm:{tag}", "pod": tag}


def test_a_new_image_is_a_release() -> None:
    """First seen here, the old one last seen there: a rollout takes a while."""
    info = "kube_pod_container_info"
    assert changes((info, image("v1"), 0, 70), (info, image("v2"), 60, 120)) == [
        ("image of engine", at(60), at(70), "registry/vllm:v1", "registry/vllm:v2"),
    ]  # fmt: skip


def test_what_is_there_from_the_start_is_no_change() -> None:
    """Two versions side by side, a pod that was scraped late, a proxy that was updated."""
    info = "kube_pod_container_info"
    assert changes((info, image("v1"), 0, 90), (info, image("v2"), 4, 90)) == []
    assert changes((info, image("v1"), 0, 90), (info, {**image("v1"), "pod": "late"}, 60, 90)) == []
    proxy = "istio-proxy"
    assert changes((info, image("1", proxy), 0, 90), (info, image("2", proxy), 60, 90)) == []


def test_names_that_an_exporter_writes_tell_its_version() -> None:
    """The old name ends and the new one begins: one change, however many metrics show it."""
    found = changes(
        ("vllm:gpu_cache_usage_perc", {}, 0, 60), ("vllm:kv_cache_usage_perc", {}, 61, 120),
        ("vllm:time_per_output_token_seconds_sum", {}, 0, 60),
        ("vllm:inter_token_latency_seconds_sum", {}, 61, 120),
    )  # fmt: skip
    assert found == [("metric names of vllm at 0.10", at(61), at(60), "0.10 or older", "newer than 0.10")]
    both = changes(("vllm:gpu_cache_usage_perc", {}, 0, 60), ("vllm:kv_cache_usage_perc", {}, 0, 60))
    assert both == []
    monitor = [(f"kserve_vllm:{name}", {}, 0, 60) for name in ("kv_cache_usage_perc", "num_requests_waiting")]
    assert spans(*monitor).is_empty(), "what renames them tells no version"


def test_drivers_templates_and_build_infos_count() -> None:
    """Any label that changes with a release."""
    gpu = "DCGM_FI_DEV_GPU_UTIL"
    found = changes(
        (gpu, {"DCGM_FI_DRIVER_VERSION": "550"}, 0, 60), (gpu, {"DCGM_FI_DRIVER_VERSION": "570"}, 60, 90),
        ("kube_pod_labels", {"label_pod_template_hash": "aa"}, 0, 60),
        ("kube_pod_labels", {"label_pod_template_hash": "bb"}, 50, 90),
        ("dynamo_build_info", {"version": "1.5"}, 0, 30), ("dynamo_build_info", {"version": "1.6"}, 30, 90),
    )  # fmt: skip
    assert [(row[0], row[3], row[4]) for row in found] == [
        ("version", "1.5", "1.6"), ("pod_template_hash", "aa", "bb"),
        ("DCGM_FI_DRIVER_VERSION", "550", "570"),
    ]  # fmt: skip


def test_other_roles_and_nothing_at_all() -> None:
    """Prometheus' own version is nobody's release; an input without versions has none."""
    info = "prometheus_build_info"
    assert changes((info, {"version": "2"}, 0, 30), (info, {"version": "3"}, 30, 60), role="unknown") == []
    assert changes(("vllm:num_requests_running", {}, 0, 60)) == []
