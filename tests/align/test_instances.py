"""Which instances a service has."""

from __future__ import annotations

import polars as pl

from hs_analysis.align.instances import gpu_types, gpus_per_instance, reporters
from hs_analysis.catalogue import load_catalogue
from hs_analysis.schema.frames import SERIES, check, empty

CATALOGUE = load_catalogue()


def series(*rows: dict[str, object]) -> pl.DataFrame:
    """Return a frame of contract SERIES."""
    full = [
        {
            "series_id": number, "metric": "m", "labels": {}, "emitter_role": "decode",
            "role_evidence": "test", "service": "s", "instance": "a", "kind": "gauge", "interval_s": 15.0,
            "capture": "", "source": "vllm", **row,
        }
        for number, row in enumerate(rows)
    ]  # fmt: skip
    return check(pl.DataFrame(full, schema=empty(SERIES).schema), SERIES)


def proof(*rows: dict[str, object]) -> list[tuple[object, ...]]:
    """Return (series_id, gpu_group) of the reporters."""
    return (
        reporters(series(*rows), 30.0, CATALOGUE)
        .select("series_id", "gpu_group")
        .sort("series_id", "gpu_group")
        .rows()
    )


def test_engines_prove_an_instance_and_bystanders_do_not() -> None:
    """Prometheus' own series go on for a dead target, and so does Kubernetes; front ends are no instances."""
    assert proof(
        {}, {"source": "prometheus"}, {"source": "ksm"}, {"emitter_role": "frontend"},
        {"emitter_role": "unknown"}, {"instance": None}, {"service": None}, {"metric": "x_bucket"},
    ) == [(0, None)]  # fmt: skip


def test_a_gpu_exporter_counts_only_where_no_engine_reports() -> None:
    """It reports on while the engine is down; for a pool without engine metrics it is all there is."""
    assert proof({"source": "dcgm"}, {"instance": "b"}) == [(1, None)]
    assert proof({"source": "dcgm"}, {"instance": "b", "emitter_role": "prefill"}) == [(0, None), (1, None)]


def test_several_gpu_types_are_counted_together_and_apart() -> None:
    """One type is no group of its own."""
    assert proof({"gpu_type": "H20"}, {"gpu_type": "L20", "instance": "b"}) == [
        (0, None), (0, "H20"), (1, None), (1, "L20"),
    ]  # fmt: skip
    assert proof({"gpu_type": "H20"}, {"instance": "b"}) == [(0, None), (1, None)]


def test_a_series_with_a_single_sample_has_the_usual_interval() -> None:
    """Its own is unknown."""
    assert reporters(series({"interval_s": None}), 30.0, CATALOGUE)["interval_s"].to_list() == [30.0]


def gpu(instance: str, uuid: str, role: str = "decode") -> dict[str, object]:
    """Return a series of the GPU exporter."""
    return {"source": "dcgm", "instance": instance, "labels": {"UUID": uuid}, "emitter_role": role}


def test_gpus_per_instance_are_distinct_identifiers() -> None:
    """Several series of a GPU count once, the median over instances stands, without identifiers none."""
    found = series(gpu("a", "1"), gpu("a", "1"), gpu("a", "2"), gpu("b", "3"), gpu("b", "4"), gpu("c", "5"),
                   gpu("p", "6", "prefill"))  # fmt: skip
    assert gpus_per_instance(found, "s", CATALOGUE, {}) == {"decode": 2.0, "prefill": 1.0}
    assert gpus_per_instance(found, "other", CATALOGUE, {}) == {}
    assert gpus_per_instance(series({}), "s", CATALOGUE, {}) == {}
    assert gpus_per_instance(series({"source": "dcgm"}), "s", CATALOGUE, {}) == {}
    amd = {"source": "amd_dme", "instance": "a", "emitter_role": "mixed"}
    boards = [{**amd, "labels": {"serial_number": number}} for number in ("x", "x", "y")]
    assert gpus_per_instance(series(*boards), "s", CATALOGUE, {}) == {"mixed": 2.0}


def test_gpus_that_the_dump_does_not_count_are_the_users() -> None:
    """By role, else for every role; what is counted wins, and no role is invented."""
    found = series(gpu("a", "x"), {"emitter_role": "prefill"}, {"emitter_role": "mixed"})
    told = {"*": 8.0, "mixed": 4.0, "encode": 1.0}
    assert gpus_per_instance(found, "s", CATALOGUE, told) == {"decode": 1.0, "prefill": 8.0, "mixed": 4.0}


def test_gpu_types_are_listed_per_role() -> None:
    """Sorted, without those that are unknown."""
    found = series(
        {"gpu_type": "L20"}, {"gpu_type": "H20"}, {"gpu_type": None}, {"gpu_type": "H20", "service": "x"}
    )
    assert gpu_types(found, "s") == {"decode": ("H20", "L20")}
