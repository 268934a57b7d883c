"""One real capture in every form it can be kept in: the answer does not depend on the form."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from end_to_end.forms import (
    WRITERS,
    Line,
    aligned,
    dump_lines,
    metric_of,
    ten_minutes_of,
)
from end_to_end.runs import here
from export.prometheus_server import instant, prometheus_over

KEYS = ["service", "capture", "role", "gpu_type", "signal", "source", "t"]
GAP = (pl.datetime(2026, 11, 24, 12, 30, time_zone="UTC"), pl.datetime(2026, 11, 24, 12, 32, time_zone="UTC"))
"""The windows in which nothing was scraped for 50 s."""

QUICK = (("openmetrics", "by metric"), ("vm", "by ten minutes"), ("array", "whole"))
"""Every form once and every way to split once; all pairs are swept in the slow run."""

SPLITS: dict[str, Callable[[Line], str]] = {
    "whole": lambda _line: "all", "by metric": metric_of, "by ten minutes": ten_minutes_of,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(real_data: Path) -> Path:
    """Twenty minutes of a compressed day, with one restart and one scrape gap."""
    return real_data / "dynamo-mocker" / "pd-diurnal"


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[Line]:
    """The capture's dump, sample by sample."""
    return dump_lines(folder / "tsdb_dump.txt.gz")


@pytest.fixture(scope="module")
def answer(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The aligned frame of the dump."""
    _, signals = aligned([folder / "tsdb_dump.txt.gz"], tmp_path_factory.mktemp("dump"))
    assert signals["value"].drop_nulls().len() > 400
    return signals


def differences(one: pl.DataFrame, other: pl.DataFrame) -> pl.DataFrame:
    """Join two aligned frames; ``ratio`` is the relative difference of the values."""
    both = one.join(other, on=KEYS, how="full", nulls_equal=True, suffix="_other", coalesce=True)
    assert both.height == one.height == other.height
    scale = pl.col("value").abs().clip(1e-9)
    return both.with_columns(((pl.col("value") - pl.col("value_other")).abs() / scale).alias("ratio"))


def assert_same(one: pl.DataFrame, other: pl.DataFrame) -> None:
    """Hold two aligned frames to the same values within float tolerance."""
    both = differences(one, other)
    assert both.filter(pl.col("value").is_null() != pl.col("value_other").is_null()).is_empty()
    assert both["ratio"].max() < 1e-9  # type: ignore[operator]


def written(lines: list[Line], form: str, split: str, packed: bool, folder: Path) -> Path:
    """Write the capture in a form, one file a part, names in no order of time."""
    parts: dict[str, list[Line]] = {}
    for line in lines:
        parts.setdefault(SPLITS[split](line), []).append(line)
    folder.mkdir(parents=True)
    for number, (_, part) in enumerate(sorted(parts.items())):
        raw = WRITERS[form](part).encode()
        path = folder / f"{(number * 7) % 10}-{number}"
        path.write_bytes(gzip.compress(raw, 1) if packed else raw)
    return folder


@pytest.mark.parametrize(("form", "split"), QUICK)
def test_every_form_gives_the_answer_of_the_dump(
    form: str, split: str, lines: list[Line], answer: pl.DataFrame, tmp_path: Path
) -> None:
    """OpenMetrics, VictoriaMetrics' lines, a bare array: whole, by metric or by time, packed or not."""
    found, signals = aligned(
        [written(lines, form, split, split != "whole", tmp_path / "in")], tmp_path / "out"
    )
    assert sum(file.rows_stored for file in found.files) == len(lines)
    assert found.rejected.is_empty()
    assert_same(answer, signals)


@pytest.mark.slow
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("split", sorted(SPLITS))
@pytest.mark.parametrize("form", sorted(WRITERS))
def test_every_form_split_and_packing_gives_the_same(
    form: str, split: str, packed: bool, lines: list[Line], answer: pl.DataFrame, tmp_path: Path
) -> None:
    """The whole grid, in two orders of the files."""
    source = written(lines, form, split, packed, tmp_path / "in")
    _, signals = aligned([source], tmp_path / "out")
    assert_same(answer, signals)
    turned = sorted(source.iterdir(), reverse=True)
    _, signals = aligned(turned, tmp_path / "turned")
    assert_same(answer, signals)


@pytest.mark.outside("promtool")
def test_a_snapshot_gives_the_answer_of_the_dump(folder: Path, answer: pl.DataFrame, tmp_path: Path) -> None:
    """Signals that the dump's metrics give are the same; its further metrics may give more or better ones."""
    _, signals = aligned([folder / "tsdb_snapshot.tar.gz"], tmp_path)
    of_dump = answer.filter(pl.col("signal") != "router_queue")  # the snapshot has the router's own gauge
    shared = of_dump.select("signal", "role").unique()
    assert shared.height > 25
    assert_same(of_dump, signals.join(shared, on=["signal", "role"], how="semi"))


@pytest.fixture(scope="module")
def shifted(folder: Path, answer: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Whole windows outside the gap, from the dump and from the server's answer on a grid of 5 s."""
    _, signals = aligned([folder / "query_range.core.json.gz"], tmp_path_factory.mktemp("grid"))
    outside = differences(answer, signals).filter(~pl.col("t").is_between(*GAP))
    return outside.filter((pl.col("coverage") > 0.99) & (pl.col("coverage_other") > 0.99))


def test_query_range_agrees_but_for_the_shift_of_its_grid(shifted: pl.DataFrame) -> None:
    """A grid of 5 s shifts each scrape by up to 5 s of a 60 s window: totals agree, single windows nearly."""
    inner = shifted
    by_signal = inner.group_by("signal", "role").agg(
        pl.col("ratio").median().alias("typical"),
        (pl.col("value_other").mean() / pl.col("value").mean() - 1).abs().fill_nan(0.0).alias("total"),
    )
    assert inner["ratio"].median() < 0.02  # type: ignore[operator]
    assert by_signal.filter(pl.col("typical") > 0.035).is_empty()
    assert by_signal.filter(pl.col("total") > 0.02).is_empty()
    gauges = ["running", "queue_length", "kv_usage", "in_flight", "router_queue"]
    assert inner.filter(pl.col("signal").is_in(gauges))["ratio"].max() < 0.002  # type: ignore[operator]


RATES = {
    ("decode_tps", "decode"): "sum(rate(dynamo_frontend_output_tokens_total{span}))",
    ("request_rate", "service"): "sum(rate(dynamo_frontend_requests_started_total{span}))",
    ("prompt_tps", "service"): "sum(rate(dynamo_frontend_input_sequence_tokens_sum{span}))",
    ("ttft", "service"): "sum(rate(dynamo_frontend_time_to_first_token_seconds_sum{span})) / "
    "sum(rate(dynamo_frontend_time_to_first_token_seconds_count{span}))",
}
"""Signals of counters, and the same quantity in PromQL; gauges agree."""


@pytest.mark.outside("prometheus")
def test_no_reader_of_the_grid_can_know_more_than_prometheus(
    folder: Path, shifted: pl.DataFrame, tmp_path: Path
) -> None:
    """The answer on a grid does not say when a value was scraped, so counters move over window edges.

    Prometheus, which has the true times, gives other windows itself once it goes over the same grid (a
    subquery): by more than ours differ, in every signal.
    """
    with tarfile.open(folder / "tsdb_snapshot.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    blocks = next(tmp_path.rglob("chunks")).parent.parent
    starts = shifted["t"].dt.epoch("s").unique().sort().to_list()
    theirs: dict[tuple[str, str], float] = {}
    with prometheus_over(blocks) as url:
        for key, query in RATES.items():
            worst = 0.0
            for start in starts:
                true, grid = (
                    instant(url, query.format(span=span), start + 60) for span in ("[60s]", "[60s:5s]")
                )
                if true and grid:
                    worst = max(worst, abs(grid[0][1] / true[0][1] - 1))
            theirs[key] = worst
    ours = {
        (signal, role): ratio
        for signal, role, ratio in shifted.group_by("signal", "role").agg(pl.col("ratio").max()).iter_rows()
    }
    assert all(0.01 < ours[key] < theirs[key] for key in RATES), (ours, theirs)
    assert max(ours.values()) < max(theirs.values())


WIDE_S = 300
"""Windows that agree whatever the grid hides: the rates of this service move little over the ends of five
minutes."""


def test_what_a_grid_leaves_open_is_an_interval_of_the_window(shifted: pl.DataFrame) -> None:
    """Of each rate over a minute scraped every 5 s nine windows in ten are within 5 ÷ 60 of the dump's."""
    off = (pl.col("value") / pl.col("value_other") - 1).abs().alias("off")
    judged = shifted.filter(pl.col("gpu_type").is_null()).with_columns(off).filter(pl.col("off").is_finite())
    counted = pl.col("signal").str.contains("_tps|_rate") & (pl.col("source") != "derived")
    rates = judged.filter(counted)
    within = rates.group_by("signal", "role").agg((pl.col("off") <= 5 / 60).mean())
    assert within.height > 5
    assert within["off"].min() >= 0.9  # type: ignore[operator]


def test_a_wider_window_agrees(answer: pl.DataFrame, folder: Path, tmp_path: Path) -> None:
    """Over five minutes every rate is within 2 % of the dump's, over one and two minutes not."""
    _, signals = aligned([folder / "query_range.core.json.gz"], tmp_path)

    def totals(frame: pl.DataFrame, width_s: int) -> pl.DataFrame:
        whole = frame.filter((pl.col("coverage") > 0.99) & ~pl.col("t").is_between(*GAP))
        counted = pl.col("signal").str.contains("_tps|_rate") & (pl.col("source") != "derived")
        summed = whole.filter(counted, pl.col("gpu_type").is_null())
        own = summed.group_by("signal", "role", "source", pl.col("t").dt.truncate(f"{width_s}s"))
        return own.agg(pl.col("value").sum(), pl.len()).filter(pl.col("len") == width_s / 60).drop("len")

    def worst(width_s: int) -> float:
        both = totals(answer, width_s).join(
            totals(signals, width_s), ["signal", "role", "source", "t"], suffix="_grid"
        )
        off = (both["value"] / both["value_grid"] - 1).abs()
        assert both.height > 10
        return off.filter(off.is_finite()).max()  # type: ignore[return-value]

    assert worst(WIDE_S) < 0.02
    assert worst(60) > worst(120) > 0.02


def test_the_doctor_names_what_is_open(folder: Path, tmp_path: Path) -> None:
    """File, step, how far and the window that is wide enough; nothing of the kind for the dump."""
    said: dict[str, list[str]] = {}
    for name in ("query_range.core.json.gz", "tsdb_dump.txt.gz"):
        done = here("doctor", folder / name, "--run-dir", tmp_path / name, "-q", "-o", "json")
        rows = json.loads(done.stdout)["findings"]
        said[name] = [row["text"] for row in rows if row["check"] == "query_grid"]
    (text,) = said["query_range.core.json.gz"]
    assert "of 1 file (query_range.core.json.gz) lie on a query's grid of 5 s" in text
    assert "over a window of 60 s may be off by 8.3 % (one scrape interval, 5 s, of the window)" in text
    assert "by 2 % from 250 s on" in text
    assert "`metric[1d]`" in text
    assert said["tsdb_dump.txt.gz"] == []


def test_all_forms_in_one_folder_give_the_dumps_answer(
    folder: Path, lines: list[Line], answer: pl.DataFrame, tmp_path: Path
) -> None:
    """The dump is kept, the less faithful forms and undated pages are listed as superseded."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    for name in ("tsdb_dump.txt.gz", "openmetrics.om.gz", "query_range.core.json.gz"):
        shutil.copy(folder / name, inputs / name)
    (inputs / "vm.jsonl").write_text(WRITERS["vm"](lines), encoding="utf-8")
    shutil.copytree(folder / "metrics_pages", inputs / "metrics_pages")
    found, signals = aligned([inputs], tmp_path / "out")
    assert_same(answer, signals)
    stored = {file.name: file.rows_stored for file in found.files if file.rows_stored}
    assert stored == {"tsdb_dump.txt.gz": len(lines)}
    assert all(file.rows_read == file.superseded for file in found.files if not file.rows_stored)
    by = {file.name: file.superseded_by for file in found.files}
    assert by.pop("tsdb_dump.txt.gz") == ()
    assert all("tsdb_dump.txt.gz" in better for better in by.values())
    assert by["openmetrics.om.gz"] == ("tsdb_dump.txt.gz",)
    assert by["query_range.core.json.gz"] == ("openmetrics.om.gz", "tsdb_dump.txt.gz", "vm.jsonl")
    assert found.series["capture"].unique().to_list() == [""]


def test_superseded_files_are_named_to_the_user(folder: Path, tmp_path: Path) -> None:
    """`hsa ingest` says which files added nothing and why."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    for name in ("tsdb_dump.txt.gz", "openmetrics.om.gz"):
        shutil.copy(folder / name, inputs / name)
    said = here("ingest", inputs, "--run-dir", tmp_path / "run", "-q").stdout
    assert "superseded by a more faithful form: openmetrics.om.gz (by tsdb_dump.txt.gz)" in said
    said = here("doctor", tmp_path / "run", "-q").stdout
    assert "others hold their samples more faithfully: openmetrics.om.gz by tsdb_dump.txt.gz" in said
