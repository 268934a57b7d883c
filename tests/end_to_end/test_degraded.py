"""Histories that lack what clusters often do not export leave with an object, and say what they rest on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from derive.synthetic import with_columns
from end_to_end import degraded
from end_to_end.histories import Seeded, seeded, summary_of
from end_to_end.histories import answered as behind_alignment
from end_to_end.runs import run
from simulator import history, kind_of, write

from hs_analysis.schema.aligned import ServiceFrame, SignalInfo

WRITTEN = ("apply", "keep")


def service_of(folder: Path) -> dict[str, Any]:
    """Return the only service of a run."""
    services: Any = summary_of(folder)["services"]
    (service,) = services
    return dict(service)


def without(frame: ServiceFrame, *names: str) -> ServiceFrame:
    """Return a frame without some columns."""
    kept = tuple(info for info in frame.signals if f"{info.signal}@{info.role}" not in names)
    return replace(frame, table=frame.table.drop(names), signals=kept)


def test_a_fleet_without_a_cache_counter_leaves_with_two_primaries(tmp_path: Path) -> None:
    """Prefill by all its prompt tokens, decode by its own; no ratio, and the doubt is a reason."""
    made = seeded(0)
    raw = made.frame.values("offered_tps", "prefill") * 1.3
    frame = without(with_columns(made.frame, {"offered_tps@prefill": raw}), "prefill_tps_effective@prefill")
    folder = behind_alignment(Seeded(frame, made.settings), tmp_path / "run")
    service = service_of(folder)
    decision = service["decision"]
    assert decision["recommend"] in WRITTEN
    assert decision["confidence"] != "high"
    assert "hit_rate_unknown" in {reason["code"] for reason in decision["confidence_reasons"]}
    assert {pool["role"] for pool in decision["pools"] if pool["recommended"]} == {"prefill", "decode"}
    assert service["pd_ratio"]["status"] == "refused"
    assert "hit_rate_unknown" in (folder / "policy.yaml").read_text("utf-8")


def test_a_pool_that_counts_only_requests_leaves_with_an_object(tmp_path: Path) -> None:
    """Its GPU utilisation sizes it, and amounts are requests."""
    made = seeded(6)
    rate = made.frame.values("request_rate", "service") * 0.1
    rng = np.random.default_rng(1)
    util = 0.8 * rate / np.nanmax(rate) * np.exp(0.02 * rng.standard_normal(rate.size))
    tokens = [
        f"{info.signal}@{info.role}"
        for info in made.frame.signals
        if info.role == "mixed" and info.signal not in ("instances", "backlog_age_s", "saturated")
    ]
    frame = without(made.frame, *tokens)
    columns = {"request_rate@service": rate, "offered_tps@mixed": rate, "gpu_util@mixed": util}
    infos = (
        SignalInfo("offered_tps", "mixed", "derived", "requests/s", "sum", "auxiliary", 60.0, 1.0),
        SignalInfo("gpu_util", "mixed", "dcgm", "ratio", "mean", "hardware", 30.0, 1.0),
    )
    frame = replace(with_columns(frame, columns), signals=(*frame.signals, *infos))
    service = service_of(behind_alignment(Seeded(frame, made.settings), tmp_path / "run"))
    assert service["decision"]["recommend"] in WRITTEN
    assert service["recommended"]["signal"] == "gpu_util"
    (capacity,) = service["capacity"]
    assert (capacity["signal"], capacity["status"]) == ("request_rate", "floor")
    assert capacity["per_instance"] < np.nanmax(rate)
    assert service["demand"]["decode_tps"] is None


@pytest.mark.slow
@pytest.mark.parametrize("name", degraded.CLASSES)
def test_every_class_leaves_with_an_object(tmp_path: Path, name: str) -> None:
    """Whatever is missing beside the load and some counter of tokens or requests."""
    for kind in degraded.kinds():
        found = degraded.answered(kind, 41, tmp_path, degraded.CLASSES[name]).service["decision"]
        assert found["recommend"] in WRITTEN, (kind.name, found["why"])


@pytest.mark.slow
@pytest.mark.parametrize("seed", [41, 42, 43])
def test_utilisation_is_found_in_proportion_where_it_is_so(tmp_path: Path, seed: int) -> None:
    """A pool that makes images, one at a time on each instance: busy time is work; a latency never is."""
    made = history("image_pool", seed)
    write(made, tmp_path / "dumps")
    done = run(tmp_path / "dumps", tmp_path / "run", "--startup", "240s")
    verdicts = done.verdicts()
    assert verdicts["gpu_util@mixed"] == "proportional"
    assert verdicts["sm_activity@mixed"] == "proportional"
    assert verdicts["e2e_latency@service"] != "proportional"
    assert done.service["recommended"]["role"] == "mixed"
    assert done.service["decision"]["recommend"] in WRITTEN


@pytest.mark.slow
@pytest.mark.parametrize("seed", [41, 42, 43])
def test_nothing_is_recommended_of_anothers_signals(tmp_path: Path, seed: int) -> None:
    """Requests are this pool's, everything else is an independent pool's with the same day."""
    made = history(kind_of("foreign_images"), seed)
    write(made, tmp_path / "dumps")
    done = run(tmp_path / "dumps", tmp_path / "run", "--startup", "240s")
    assert done.service["recommended"] is None
    assert not {"proportional", "guard"} & set(done.verdicts().values())
