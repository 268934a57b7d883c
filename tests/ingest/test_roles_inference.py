"""Roles from what engines count: right, or unknown."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from simulator import shortened
from simulator.dumps import write_dumps
from simulator.scrapes import Series

from hs_analysis.catalogue import load_catalogue
from hs_analysis.ingest import roles as shown
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.roles import infer_from_samples, infer_roles, role_counters
from hs_analysis.ingest.stage import ingest
from hs_analysis.schema.frames import SERIES, check, empty
from hs_analysis.store import Database

METRICS = {
    "output": "vllm:generation_tokens_total", "finished": "vllm:request_success_total",
    "prompt": "vllm:prompt_tokens_total", "computed": "vllm:prompt_tokens_by_source_total",
    "received": "vllm:prompt_tokens_by_source_total",
}  # fmt: skip
SOURCES = {"computed": {"source": "local_compute"}, "received": {"source": "external_kv_transfer"}}

PREFILL = {"output": 1000.0, "finished": 1000.0, "prompt": 5e5, "computed": 4e5, "received": 0.0}
DECODE = {"output": 2e5, "finished": 1000.0, "prompt": 5e5, "computed": 1000.0, "received": 4.9e5}
MIXED = {"output": 2e5, "finished": 1000.0, "prompt": 5e5, "computed": 4e5, "received": 0.0}


def judged(*workers: dict[str, float], roles: Iterable[str] | None = None) -> list[tuple[str, str]]:
    """Return role and evidence of the workers a, b, … that counted so much."""
    known = list(roles or ["unknown"] * len(workers))
    rows = [
        {
            "metric": METRICS[quantity], "labels": SOURCES.get(quantity, {}), "emitter_role": known[number],
            "role_evidence": "none", "service": "s", "instance": "abcdef"[number], "kind": "counter",
            "capture": "", "source": "vllm", "total": total,
        }
        for number, worker in enumerate(workers)
        for quantity, total in worker.items()
    ]  # fmt: skip
    totals = [row.pop("total") for row in rows]
    numbered = [{"series_id": i, **row} for i, row in enumerate(rows)]
    series = check(pl.DataFrame(numbered, schema=empty(SERIES).schema), SERIES)
    counters = role_counters(series)
    told = pl.DataFrame({"series_id": range(len(rows)), "total": totals})
    shown = infer_roles(series, counters.join(told, "series_id"))
    found = shown.select("instance", "emitter_role", "role_evidence").unique().sort("instance")
    return [row[1:] for row in found.iter_rows()]


def roles(*workers: dict[str, float], known: Iterable[str] | None = None) -> list[str]:
    """Return the roles only."""
    return [role for role, _ in judged(*workers, roles=known)]


def without(worker: dict[str, float], *quantities: str) -> dict[str, float]:
    """Return a worker that does not count some of it."""
    return {name: value for name, value in worker.items() if name not in quantities}


OLD_PREFILL, OLD_DECODE = (without(w, "computed", "received") for w in (PREFILL, DECODE))


def test_a_pair_shows_itself_by_the_tokens_that_arrive() -> None:
    """One token per request here, as many prompt tokens received there."""
    assert judged(PREFILL, DECODE) == [
        ("prefill", "behaviour:answers_with_one_token"), ("decode", "behaviour:receives_its_prompts"),
    ]  # fmt: skip


def test_engines_that_do_not_count_sources_show_it_by_their_requests() -> None:
    """Both sides finish the same requests over the same prompts; within 5 %."""
    assert judged(OLD_PREFILL, OLD_DECODE)[1] == ("decode", "behaviour:finishes_what_prefill_began")
    busier = {**OLD_DECODE, "finished": 1060.0}
    assert roles(OLD_PREFILL, busier) == ["unknown", "unknown"]


def test_a_pool_that_computes_its_prompts_is_mixed() -> None:
    """Each of its workers, and none that is half fed from elsewhere."""
    assert judged(MIXED, MIXED)[0] == ("mixed", "behaviour:computes_its_prompts")
    assert roles(MIXED, {**MIXED, "computed": 3e5, "received": 1e5}) == ["mixed", "unknown"]


@pytest.mark.parametrize(
    "workers",
    [
        [PREFILL],  # a scoring service asks for one token too
        [DECODE],  # a KV store sends prompts to workers that do both
        [OLD_DECODE],  # nothing says where its prompts come from
        [PREFILL, MIXED],  # a scoring worker beside a mixed one
        [PREFILL, {**DECODE, "received": 4e4}],  # too little arrives of what was made
        [PREFILL, {**DECODE, "received": 9e5}],  # more arrives than was made
        [{**PREFILL, "finished": 99.0, "output": 99.0}, DECODE],  # too few requests
        [without(PREFILL, "finished"), DECODE],
    ],
)
def test_half_a_proof_is_none(workers: list[dict[str, float]]) -> None:
    """Unknown is an answer, wrong is not."""
    assert set(roles(*workers)) == {"unknown"}


def test_what_is_known_stays_and_helps() -> None:
    """A label on one side is as good as its behaviour; beside known decoders nobody is called mixed."""
    assert roles(PREFILL, DECODE, known=["prefill", "unknown"]) == ["prefill", "decode"]
    assert roles(PREFILL, DECODE, known=["unknown", "decode"]) == ["prefill", "decode"]
    assert roles(MIXED, DECODE, known=["unknown", "decode"]) == ["unknown", "decode"]
    assert judged(MIXED, roles=["mixed"]) == [("mixed", "none")]


STRIPPED = ("dynamo_component", "label_llm_d_ai_role", "worker_type", "engine_type")
NEUTRAL = ("pod", "exported_pod", "deployment", "instance", "exported_instance", "created_by_name")


def stripped(labels: dict[str, str], names: dict[str, str]) -> dict[str, str]:
    """Return labels without roles, with names that tell nothing; ``names`` remembers them."""
    return {
        key: names.setdefault(value, f"w{len(names)}") if key in NEUTRAL else value
        for key, value in labels.items()
        if key not in STRIPPED
    }


def shown_roles(source: Path, folder: Path) -> dict[str, str]:
    """Return role by instance, from the dumps alone, a few counters at a time."""
    found = ingest(discover([source]), folder / "data", lambda _: None)
    with Database(threads=1) as database, pytest.MonkeyPatch.context() as patch:
        patch.setattr(shown, "COUNTERS_AT_ONCE", 5)

        def query(name: str, params: Mapping[str, Any], inputs: Mapping[str, Any]) -> pl.DataFrame:
            assert "counters" not in inputs or inputs["counters"].height <= 5
            return database.query(name, params, inputs)

        samples = folder / "data" / "samples" / "*.parquet"
        series = infer_from_samples(found.series, samples, load_catalogue(), query)
    return dict(series.drop_nulls("instance").select("instance", "emitter_role").unique().iter_rows())


@pytest.mark.parametrize(
    ("kind", "hours", "counts_sources"),
    [
        ("vllm_engines_only", 1.0, True),
        ("compute_bound_pool", 1.0, False),
        ("release", 1.0, True),
        ("autoscaled", 2.0, False),
        pytest.param("vllm_engines_only", 1.0, False, marks=pytest.mark.slow),
        pytest.param("compute_bound_pool", 1.0, True, marks=pytest.mark.slow),
        pytest.param("release", 1.0, False, marks=pytest.mark.slow),
        pytest.param("autoscaled", 2.0, True, marks=pytest.mark.slow),
    ],
)
def test_generated_histories_without_labels_and_names(
    kind: str, hours: float, counts_sources: bool, tmp_path: Path
) -> None:
    """Every worker gets its true role, or none."""
    made = shortened(kind, hours)
    truth = {life.pod: role for role, lives in made.trace.service.lives.items() for life in lives}
    names: dict[str, str] = {}
    rows = [
        Series(stripped(one.labels, names), one.values)
        for one in made.series()
        if counts_sources or "_by_source" not in one.labels["__name__"]
    ]
    write_dumps(rows, made.grid_unix_s, tmp_path / "dumps")
    found = shown_roles(tmp_path / "dumps", tmp_path)
    given = {pod: found[names[pod]] for pod in truth if names.get(pod) in found}
    assert {pod: role for pod, role in given.items() if role != "unknown"}.items() <= truth.items()
    if counts_sources:
        assert sorted(set(given.values()) - {"unknown"}) == sorted(set(truth.values()))


@pytest.mark.parametrize("capture", ["pd-cycles", "pd-diurnal", "pd-sweep/decodeheavy-3p2d"])
def test_recorded_captures_without_labels_and_names(capture: str, real_data: Path, tmp_path: Path) -> None:
    """The recorded engines count too little to show a role: none is guessed."""
    (source,) = (real_data / "dynamo-mocker" / capture).glob("query_range.core.json.gz")
    document = json.loads(gzip.decompress(source.read_bytes()))
    names: dict[str, str] = {}
    truth: dict[str, str] = {}
    for one in document["data"]["result"]:
        component = one["metric"].get("dynamo_component")
        if component and one["metric"]["job"] == "dynamo-worker":
            truth[one["metric"]["pod"]] = {"backend": "decode"}.get(component, component)
        one["metric"] = stripped(one["metric"], names)
    (tmp_path / "in.json").write_text(json.dumps(document))
    found = shown_roles(tmp_path / "in.json", tmp_path)
    assert truth
    assert all(found[names[pod]] in ("unknown", role) for pod, role in truth.items())
