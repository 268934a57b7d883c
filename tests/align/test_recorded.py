"""Recorded and simulated captures, judged by what is known of them."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from align.service import put_on_grid

from hs_analysis.align import Aligned
from hs_analysis.ingest.stage import Ingested
from hs_analysis.schema.aligned import ServiceFrame
from hs_analysis.schema.settings import Settings, Slo

Grid = tuple[Ingested, Aligned]


@pytest.fixture(scope="module")
def diurnal(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """A recorded day of real serving components: one restart, one scrape gap."""
    source = real_data / "dynamo-mocker" / "pd-diurnal" / "query_range.core.json.gz"
    settings = Settings(slo=Slo(ttft_s=1.0, tbt_s=0.05), history_kind="pressure_test")
    return put_on_grid(tmp_path_factory.mktemp("diurnal"), source, settings)


def simulated(case: str, real_data: Path, folder: Path) -> tuple[ServiceFrame, dict[str, object]]:
    """Return the aligned service of a simulated case, and its truth."""
    source = real_data / "simulated" / case
    _, found = put_on_grid(folder, source, Settings(slo=Slo(ttft_s=2.5, tbt_s=0.05)))
    (frame,) = found.frames
    return frame, json.loads((source / "truth.json").read_text())


def test_roles_are_right_without_a_mapping(diurnal: Grid) -> None:
    """All five workers and the front end, from the workers' role label; Prometheus itself is none of them."""
    found, _ = diurnal
    roles = dict(found.series.drop_nulls("instance").select("instance", "emitter_role").unique().rows())
    assert roles == {
        "llama8b-0": "prefill", "llama8b-1": "prefill", "llama8b-2": "decode", "llama8b-3": "decode",
        "llama8b-4": "decode", "llama8b-frontend-0": "frontend", "127.0.0.1:9090": "unknown",
    }  # fmt: skip
    evidence = set(found.series.filter(pl.col("emitter_role") == "decode")["role_evidence"])
    assert evidence == {"label:dynamo_component"}


def test_totals_agree_with_the_clients_log(diurnal: Grid) -> None:
    """Prompt and output tokens within 2 %, requests too, scrape gap and restart included."""
    (facts,) = diurnal[1].facts
    assert facts.prompt_tokens == pytest.approx(5_064_984, rel=0.02)
    assert facts.output_tokens == pytest.approx(1_044_737, rel=0.02)
    assert facts.requests == pytest.approx(4250, rel=0.02)
    assert facts.instance_hours == pytest.approx(5 * 1208 / 3600, rel=0.03)


def test_the_scrape_gap_is_found_and_no_line_is_drawn_over_it(diurnal: Grid) -> None:
    """Prometheus was down from 12:30:36 to 12:31:14: its repeats are null, windows inside have no rate."""
    found, aligned = diurnal
    assert found.frozen.select("first_t", "last_t").rows() == [
        (datetime(2026, 11, 24, 12, 30, 40, tzinfo=UTC), datetime(2026, 11, 24, 12, 31, 15, tzinfo=UTC))
    ]
    (frame,) = aligned.frames
    seconds = frame.seconds()
    inside = (seconds >= datetime(2026, 11, 24, 12, 30, 40, tzinfo=UTC).timestamp()) & (
        seconds + frame.window_s <= datetime(2026, 11, 24, 12, 31, 15, tzinfo=UTC).timestamp()
    )
    assert inside.sum() == 1
    for signal, role in (("request_rate", "service"), ("decode_tps", "decode"), ("kv_usage", "decode")):
        assert np.isnan(frame.values(signal, role)[inside]).all()


def test_rates_follow_the_clients_log(diurnal: Grid, real_data: Path) -> None:
    """Offered requests per minute: at most a few per cent off where no gap is near."""
    rows = _arrivals(real_data / "dynamo-mocker" / "pd-diurnal" / "requests.csv.gz")
    (frame,) = diurnal[1].frames
    start, rate = frame.seconds(), frame.values("request_rate", "service")
    logged = np.array([((rows >= s) & (rows < s + frame.window_s)).sum() for s in start]) / frame.window_s
    known = np.isfinite(rate) & (logged > 0)
    assert known.sum() > 40
    assert np.nanmedian(np.abs(np.log(rate[known] / logged[known]))) < 0.06
    assert np.nanmax(rate[known] / logged[known]) < 1.5, "what came in the gap is no rate of a window"


def _arrivals(path: Path) -> np.ndarray:
    with gzip.open(path, "rb") as file:
        return pl.read_csv(file.read())["arrival_unix"].to_numpy()


def test_saturated_windows_of_an_overload(real_data: Path, tmp_path: Path) -> None:
    """Recall at least 0.9, precision at least 0.8; offered work within 3 % where served work is far below."""
    frame, truth = simulated("dev_overload", real_data, tmp_path)
    t = frame.seconds()
    true = np.zeros(t.size, bool)
    for window in truth["saturated_windows"]:
        true |= (t >= window["start"]) & (t < window["end"])
    found = (frame.values("saturated", "decode") > 0) | (frame.values("saturated", "prefill") > 0)
    assert (found & true).sum() / true.sum() >= 0.9
    assert (found & true).sum() / found.sum() >= 0.8
    for role, name in (("prefill", "prefill_tps_effective"), ("decode", "decode_tps")):
        error, hot = _errors(frame, truth, role, name), _hot(frame, true)
        assert np.nanmedian(error[hot]) <= 0.03
        assert np.nanmedian(error[~hot]) <= 0.03
    assert frame.reference == "offered"


@pytest.mark.parametrize("case", ["dev_diurnal", "dev_days"])
def test_days_without_an_overload_have_no_saturated_window(
    real_data: Path, tmp_path: Path, case: str
) -> None:
    """And offered work within 3 % of what was truly offered."""
    frame, truth = simulated(case, real_data, tmp_path)
    assert truth["saturated_windows"] == []
    assert not (frame.values("saturated", "prefill") > 0).any()
    assert not (frame.values("saturated", "decode") > 0).any()
    for role, name in (("prefill", "prefill_tps_effective"), ("decode", "decode_tps")):
        assert np.nanmedian(_errors(frame, truth, role, name)) <= 0.03


def _errors(frame: ServiceFrame, truth: dict[str, object], role: str, name: str) -> np.ndarray:
    """Return the absolute log error of offered work per 5 minutes."""
    true = np.array(truth["offered_300s"][name])
    offered = frame.values("offered_tps", role)[: 5 * true.size].reshape(-1, 5)
    known = np.isfinite(offered)
    means = np.where(known.any(1), np.where(known, offered, 0).sum(1) / np.maximum(known.sum(1), 1), np.nan)
    return np.abs(np.log(means / true))


def _hot(frame: ServiceFrame, true: np.ndarray) -> np.ndarray:
    return true[: true.size // 5 * 5].reshape(-1, 5).mean(1) > 0.5


@pytest.mark.slow
def test_a_sweep_of_splits_is_one_capture_per_split(real_data: Path, tmp_path: Path) -> None:
    """Eight runs of one service; the counts of instances are those in the names, and no rate crosses runs."""
    settings = Settings(slo=Slo(ttft_s=1.0, tbt_s=0.05), history_kind="pressure_test")
    _, found = put_on_grid(tmp_path, real_data / "dynamo-mocker" / "pd-sweep", settings)
    (frame,) = found.frames
    assert len(frame.captures()) == 8
    for capture in frame.captures():
        part = frame.table.filter(pl.col("capture") == capture)
        split = capture.rsplit("-", 1)[1]
        assert (part["instances@prefill"].max(), part["instances@decode"].max()) == (
            float(split[0]), float(split[2]),
        )  # fmt: skip
        assert part["t"].diff().drop_nulls().n_unique() == 1


def test_demand_of_every_minute_follows_the_clients_log(real_data: Path, tmp_path: Path) -> None:
    """Five cycles whose mix turns at once: requests, prefill's and decode's work within 10 % in each minute.

    Prefill's comes with a request, decode's with its first token. The minutes of the scrape gap have none.
    """
    source = real_data / "dynamo-mocker" / "pd-cycles"
    settings = Settings(slo=Slo(ttft_s=2.0, tbt_s=0.05), history_kind="pressure_test")
    _, found = put_on_grid(tmp_path, source / "tsdb_dump.txt.gz", settings)
    (frame,) = found.frames
    log = pl.read_csv(gzip.decompress((source / "requests.csv.gz").read_bytes()))
    came, first = log["arrival_unix"], log["arrival_unix"] + log["ttft_s"].fill_null(0.0)
    missed = log["prompt_tokens"].fill_null(log["req_prompt"]) - log["cached_tokens"].fill_null(0)
    output = log["output_tokens"].fill_null(log["req_output"])
    for signal, role, tokens, when in (
        ("request_rate", "service", pl.Series(np.ones(log.height)), came),
        ("offered_tps", "prefill", missed, came), ("offered_tps", "decode", output, first),
    ):  # fmt: skip
        start, rate = frame.seconds(), frame.values(signal, role)
        edges = np.r_[start, start[-1] + frame.window_s]
        true = np.histogram(when.to_numpy(), edges, weights=tokens.to_numpy())[0] / frame.window_s
        whole = (start >= came.min()) & (start + frame.window_s <= came.max()) & np.isfinite(rate)
        assert frame.window_s == 60.0
        assert whole.sum() == 72
        assert np.abs(rate[whole] / true[whole] - 1.0).max() <= 0.10, (signal, role)
