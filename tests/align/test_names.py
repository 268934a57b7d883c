"""Names, ranks and GPUs that look like several series and are one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from align.service import START, Element, aligned, scene
from polars.testing import assert_frame_equal

from hs_analysis.align import Aligned
from hs_analysis.schema.aligned import ServiceFrame

MADE = scene()
MINUTE = 60


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Aligned:
    """The service as it is."""
    return aligned(tmp_path_factory.mktemp("whole"), MADE.elements)


def frame_of(found: Aligned) -> ServiceFrame:
    """Return the only service."""
    (frame,) = found.frames
    return frame


def equal(found: Aligned, other: Aligned) -> None:
    """Hold two alignments equal."""
    assert_frame_equal(frame_of(found).table, frame_of(other).table, rel_tol=1e-12, abs_tol=1e-12)
    assert found.facts == other.facts
    assert found.edges == other.edges


def renamed_from(elements: list[Element], name: str, old: str, at: int) -> list[Element]:
    """Return the series with a metric called ``old`` until a moment."""
    found: list[Element] = []
    for one in elements:
        if one["metric"]["__name__"] != name:
            found.append(one)
            continue
        before, after = ([v for v in one["values"] if (v[0] < at) is early] for early in (True, False))
        found += [
            {"metric": {**one["metric"], "__name__": old}, "values": before},
            {**one, "values": after},
        ]
    return found


def test_series_under_the_names_that_rules_record_are_the_same_service(
    tmp_path: Path, whole: Aligned
) -> None:
    """Recorded alone they give what the exporters' give; next to those they count once."""
    recorded = [
        {**one, "metric": {**one["metric"], "__name__": f"hs_{one['metric']['__name__']}"}}
        for one in MADE.elements
    ]
    assert_frame_equal(frame_of(aligned(tmp_path / "a", recorded)).table, frame_of(whole).table)
    both = frame_of(aligned(tmp_path / "b", [*MADE.elements, *recorded])).table
    assert_frame_equal(both, frame_of(whole).table, rel_tol=1e-12, abs_tol=1e-12)


def test_a_metric_that_is_renamed_halfway_changes_nothing(tmp_path: Path, whole: Aligned) -> None:
    """One source with one coverage; only the window in which it happens may stand on half its samples."""
    old = renamed_from(
        MADE.elements, "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", START + 60 * MINUTE + 15
    )
    found = aligned(tmp_path, old)
    equal(found, whole)
    info = frame_of(found).info("kv_usage", "decode")
    assert info is not None
    assert (info.source, info.coverage) == ("vllm", frame_of(whole).info("kv_usage", "decode").coverage)


def test_a_counter_under_two_names_counts_once(tmp_path: Path) -> None:
    """Routers write old and new names side by side, whole histories long or between two releases."""
    new = {
        "dynamo_frontend_requests_started_total": "llm_d_epp_request_total",
        "dynamo_frontend_requests_total": "llm_d_epp_request_duration_seconds_count",
    }
    old = {
        "llm_d_epp_request_total": "inference_objective_request_total",
        "llm_d_epp_request_duration_seconds_count": "inference_objective_request_duration_seconds_count",
    }
    single, double, handed_over = [], [], []
    for one in MADE.elements:
        name = new.get(one["metric"]["__name__"])
        if name is None:
            parts: list[list[Element]] = [[one]] * 3
        else:
            today = {**one, "metric": {**one["metric"], "__name__": name}}
            before = {**one, "metric": {**one["metric"], "__name__": old[name]}}
            early = [v for v in one["values"] if v[0] < START + 80 * MINUTE]
            late = [v for v in one["values"] if v[0] >= START + 40 * MINUTE]
            parts = [[today], [today, before], [{**today, "values": late}, {**before, "values": early}]]
        for target, part in zip((single, double, handed_over), parts, strict=True):
            target += part
    once = aligned(tmp_path / "single", single)
    (facts,) = once.facts
    assert facts.requests == MADE.started.sum()
    for name, elements in (("double", double), ("handed_over", handed_over)):
        equal(aligned(tmp_path / name, elements), once)


def test_ranks_and_gpus_of_one_instance_are_one(tmp_path: Path, whole: Aligned) -> None:
    """Data-parallel ranks add up or average inside their pod; GPUs average, their power adds up."""
    elements: list[Element] = []
    for one in MADE.elements:
        labels = one["metric"]
        if labels["__name__"].startswith("vllm:"):
            shared = labels["__name__"] != "vllm:kv_cache_usage_perc"
            values = [[t, repr(float(v) / 2)] for t, v in one["values"]] if shared else one["values"]
            elements += [{"metric": {**labels, "engine": rank}, "values": values} for rank in ("0", "1")]
        elif labels["__name__"] == "DCGM_FI_DEV_GPU_UTIL":
            for gpu, level in (("a", "70.0"), ("b", "90.0")):
                board = {**labels, "UUID": f"{labels['UUID']}-{gpu}"}
                elements.append({"metric": board, "values": [[t, level] for t, _ in one["values"]]})
                watts = {**board, "__name__": "DCGM_FI_DEV_POWER_USAGE"}
                elements.append({"metric": watts, "values": [[t, "300"] for t, _ in one["values"]]})
        else:
            elements.append(one)
    found = frame_of(aligned(tmp_path, elements))
    both = [c for c in found.table.columns if c in frame_of(whole).table.columns]
    assert_frame_equal(
        found.table.select(both), frame_of(whole).table.select(both), rel_tol=1e-9, abs_tol=1e-9
    )
    np.testing.assert_allclose(found.values("gpu_power", "decode")[1:], 3 * 2 * 300.0)
    assert found.gpus_per_instance == {"prefill": 2.0, "decode": 2.0}
