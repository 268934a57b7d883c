"""Tables the user described: long and wide, samples, requests and benchmark points."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime

import polars as pl
import pytest
from ingest.mappings import tables
from ingest.reading import frame, read, series

from hs_analysis.errors import InputError, UsageError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.readers.table import is_described, read_table
from hs_analysis.schema.settings import Reading

T = 1_764_072_000_000_000  # 2025-11-25 12:00:00 UTC
S = 1_000_000

WIDE = """
[tables.fleet]
match = "fleet*.csv"
time = "ts"
labels = { pod = "pod", model = "model_name" }
fixed = { role = "mixed", host = "{file}" }
skip_where = { state = ["down"] }
columns.ttft_ms = { signal = "ttft", unit = "ms" }
columns.rpm = { signal = "request_rate", unit = "rpm" }
"""


def wide(text: str, name: str = "in/fleet-1.csv.gz", settings: str = WIDE, **how: object):  # type: ignore[no-untyped-def]
    return read(read_table, text.encode(), name, Reading(tables=tables(settings), **how))  # type: ignore[arg-type]


def test_a_wide_table_gives_a_series_a_column_and_pod() -> None:
    """Named like the column, in the file's unit; an empty cell is null, an empty label is no label."""
    pieces, notes = wide(
        "ts,pod,model,ttft_ms,rpm,state,cost\n"
        "2025-11-25T12:00:00Z,a,m,200,60,up,1\n"
        "2025-11-25T12:00:15Z,b,,,0,up,1\n"
        "2025-11-25T12:00:15Z,a,m,x,90,up,1\n"
        "2025-11-25T12:00:30Z,a,m,250,,down,1\n"
    )
    common = 'host="fleet-1", '
    assert series(pieces) == {
        f'ttft_ms{{{common}model_name="m", pod="a", role="mixed"}}': [(T, 200.0, "")],
        f'ttft_ms{{{common}pod="b", role="mixed"}}': [(T + 15 * S, None, "null")],
        f'rpm{{{common}model_name="m", pod="a", role="mixed"}}': [(T, 60.0, ""), (T + 15 * S, 90.0, "")],
        f'rpm{{{common}pod="b", role="mixed"}}': [(T + 15 * S, 0.0, "")],
    }
    assert [(r.position, r.reason, r.path) for r in notes.rejections] == [
        (5, "skip_where", ""), (4, "bad_value", "ttft_ms"),
    ]  # fmt: skip
    assert notes.rejections[1].raw == "2025-11-25T12:00:15Z,a,m,x,90,up,1"
    assert notes.infos == ["columns that [tables.fleet] does not read: cost"]


LONG = """
[tables.pods]
match = "pods.csv"
time = "when"
time_unit = "ms"
metric = "name"
value = "v"
labels = { run = "capture", pod = "pod" }
"""


def test_a_long_table_gives_a_series_a_metric_and_a_capture_a_run() -> None:
    text = (
        "when,run,pod,name,v\n1764072000000,r1,a,kv,0.5\n1764072000000,r2,a,kv,0.6\n1764072000000,r1,a,,3\n"
    )
    pieces, notes = wide(text, "pods.csv", LONG)
    assert [(p.capture, p.labels, p.values.tolist()) for p in pieces] == [
        ("r1", {"pod": "a", "__name__": "kv"}, [0.5]), ("r2", {"pod": "a", "__name__": "kv"}, [0.6]),
    ]  # fmt: skip
    assert [(r.position, r.reason) for r in notes.rejections] == [(4, "bad_value")]


def test_every_description_that_fits_reads_the_file() -> None:
    """So a column may be left out under a condition that does not hold for the others."""
    both = WIDE + LONG.replace("pods.csv", "fleet*.csv").replace('"when"', '"ts"').replace("ms", "s").replace(
        "name = ", "x = "
    ).replace('metric = "name"', 'metric = "state"').replace('value = "v"', 'value = "cost"').replace(
        'run = "capture", ', ""
    )
    pieces, _ = wide("ts,pod,model,ttft_ms,rpm,state,cost\n1764072000,a,m,1,2,up,3\n", settings=both)
    assert sorted(p.labels["__name__"] for p in pieces) == ["rpm", "ttft_ms", "up"]


def test_times_without_a_zone() -> None:
    """Row by row where some have one; refused where none has; the table's zone goes before the run's."""
    head = "ts,pod,model,ttft_ms,rpm,state\n"
    mixed = head + "2025-11-25 12:00:00,a,m,1,2,up\n2025-11-25 12:00:00Z,a,m,1,2,up\n"
    _, notes = wide(mixed)
    assert [(r.position, r.reason) for r in notes.rejections] == [(2, "naive_ts")]
    with pytest.raises(InputError, match=r"no zone \(first: 2025-11-25 12:00:00\)"):
        wide(head + "2025-11-25 12:00:00,a,m,1,2,up\n")
    zoned = WIDE.replace('time = "ts"', 'time = "ts"\ntz = "Asia/Kolkata"')
    pieces, notes = wide(head + "2025-11-25 17:30:00,a,m,1,2,up\n", settings=zoned, tz="UTC")
    assert {int(p.t_us[0]) for p in pieces} == {T}
    assert "read as Asia/Kolkata" in " ".join(notes.infos)


def test_relative_times_need_a_start() -> None:
    relative = WIDE.replace('time = "ts"', 'time = "ts"\ntime_relative = true')
    text = "ts,pod,model,ttft_ms,rpm,state\n60,a,m,1,2,up\n"
    pieces, notes = wide(text, settings=relative)
    assert int(pieces[0].t_us[0]) == 60 * S
    assert "placed at 1970-01-01: --epoch" in notes.warnings[0]
    pieces, notes = wide(text, settings=relative, epoch="2025-11-25T12:00:00Z")
    assert int(pieces[0].t_us[0]) == T + 60 * S
    assert notes.warnings == []


def test_what_the_description_gets_wrong_is_told_with_the_columns_there_are() -> None:
    with pytest.raises(InputError, match=r"\[tables.fleet\] names 'pod', .* but the columns are 'ts', 'x'"):
        wide("ts,x\n1,2\n")
    with pytest.raises(InputError, match=r"no mapping for its columns ts, x; describe its columns"):
        wide("ts,x\n1,2\n", "other.csv")
    with pytest.raises(UsageError, match="no time zone"):
        wide("ts,x\n1,2\n", tz="Nowhere")


def test_a_parquet_table_is_read_like_a_csv() -> None:
    """Its times and numbers keep their types; what is no text is no label mistake."""
    table = pl.DataFrame(
        {
            "ts": [datetime(2025, 11, 25, 12, tzinfo=UTC), None],
            "pod": pl.Series(["a", "a"], dtype=pl.Categorical),
            "model": ["m ", "m"],
            "ttft_ms": [200, None],
            "rpm": [1.5, math.nan],
            "state": ["up", "up"],
            "nested": [[1], [2]],
        }
    )
    out = io.BytesIO()
    table.write_parquet(out)
    pieces, notes = read(read_table, out.getvalue(), "fleet.csv", Reading(tables=tables(WIDE)))
    label = 'host="fleet", model_name="m", pod="a", role="mixed"'
    assert series(pieces) == {f"ttft_ms{{{label}}}": [(T, 200.0, "")], f"rpm{{{label}}}": [(T, 1.5, "")]}
    assert [(r.position, r.reason) for r in notes.rejections] == [(2, "bad_ts")]
    with pytest.raises(InputError, match="no Parquet file that can be read"):
        read(read_table, out.getvalue()[:-30], "fleet.csv", Reading(tables=tables(WIDE)))


REQUEST_LOG = """
[tables.log]
match = "log.csv"
holds = "requests"
time = "at"
labels = { outcome = "status", run = "capture" }
fixed = { service = "chat/{file}" }
columns.in = { signal = "prompt_tokens" }
columns.ttft_ms = { signal = "ttft_s", unit = "ms" }
"""


def test_requests_with_their_units_and_faults() -> None:
    text = (
        "at,in,ttft_ms,outcome,run\n1764072000.5,100,250,ok,a\n1764072002.5,,,timeout,b\n"
        "1764072003,-1,1,ok,a\nnever,1,1,ok,a\n1764072003,1,fast,ok,a\n"
    )
    pieces, notes = wide(text, "log.csv", REQUEST_LOG)
    got = frame(pieces)
    assert got["arrival"].dt.epoch("us").to_list() == [T + 500_000, T + 2_500_000]
    assert got["arrival_s"].to_list() == [0.0, 2.0]
    assert got["prompt_tokens"].to_list() == [100.0, None]
    assert got["ttft_s"].to_list() == [0.25, None]
    assert got["status"].to_list() == ["ok", "timeout"]
    assert got["service"].to_list() == ["chat/log"] * 2
    assert got["capture"].to_list() == ["a", "b"]
    reasons = [(r.position, r.reason, r.detail) for r in notes.rejections]
    assert reasons == [
        (5, "bad_ts", "no time that can be read"),
        (4, "bad_value", "in is below 0"),
        (6, "bad_value", "ttft_ms is 'fast', no number"),
    ]


def test_relative_requests_have_no_arrival_until_a_start_is_given() -> None:
    relative = REQUEST_LOG.replace('time = "at"', 'time = "at"\ntime_relative = true\ntime_unit = "ms"')
    text = "at,in,ttft_ms,outcome,run\n1500,100,250,ok,a\n"
    got = frame(wide(text, "log.csv", relative)[0])
    assert got["arrival"].to_list() == [None]
    assert got["arrival_s"].to_list() == [1.5]
    got = frame(wide(text, "log.csv", relative, epoch="2025-11-25T12:00:00Z")[0])
    assert got["arrival"].dt.epoch("us").to_list() == [T + 1_500_000]
    assert got["arrival_s"].to_list() == [1.5]


BENCH = """
[tables.points]
match = "points.csv"
holds = "bench"
labels = { gpu = "decode_gpu_type", batch = "concurrency", flags = "flags" }
fixed = { model = "m", decode_instances = "1" }
columns.gpu = { signal = "decode_gpus" }
columns.isl = { signal = "isl" }
columns.osl = { signal = "osl" }
columns.prompt_ms = { signal = "ttft_mean_s", unit = "ms" }
columns.token_ms = { signal = "tbt_mean_s", unit = "ms" }
"""


def test_benchmark_points_say_how_their_throughput_came_about() -> None:
    """The count before the card is the number of GPUs; concurrency / (TTFT + TPOT × (osl − 1)) estimates."""
    head = "gpu,batch,isl,osl,prompt_ms,token_ms,flags\n"
    text = head + "8xH100 fp8 ,4,1024,101,500,5,x\n8xH100 fp8,8,1024,101,500,-5,\n"
    pieces, notes = wide(text, "points.csv", BENCH)
    row = frame(pieces).row(0, named=True)
    assert (row["decode_gpus"], row["decode_gpu_type"], row["concurrency"]) == (8.0, "H100 fp8", 4.0)
    assert row["series"] == "m · 8×H100 fp8 · isl 1024 · osl 101 · flags x"
    assert row["request_throughput"] == pytest.approx(4.0)
    assert row["decode_tps"] == pytest.approx(404.0)
    assert row["prefill_tps"] == pytest.approx(4096.0)
    assert row["throughput_basis"].startswith("estimated: concurrency / (TTFT + TPOT")
    assert [r.detail for r in notes.rejections] == ["token_ms is below 0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"isl"', '"input"'), "maps 'isl' to 'input', which is no column of bench; columns: format"),
        (('"1"', '"one"'), "fixes decode_instances to 'one', which is no number"),
        (('unit = "ms"', 'unit = "bananas"'), "no unit 'bananas'"),
        (('unit = "ms"', 'unit = "tokens"'), "tokens does not measure a signal in s"),
    ],
)
def test_mistakes_in_a_bench_mapping(change: tuple[str, str], message: str) -> None:
    text = "gpu,batch,isl,osl,prompt_ms,token_ms,flags\n8xH100,4,1024,101,500,5,x\n"
    with pytest.raises((InputError, UsageError), match=message):
        wide(text, "points.csv", BENCH.replace(*change))


def test_a_described_file_is_a_table_whatever_its_content(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """The description is by name; the ending of an archive and the folder don't count."""
    reading = Reading(tables=tables(WIDE))
    assert is_described("a/b/fleet-7.csv.zst", reading)
    assert not is_described("fleet.parquet", reading)
    (tmp_path / "fleet.csv").write_text("Time,a\n1,2\n")
    assert [f.format.id for f in discover([tmp_path], reading).files] == ["table"]
    assert [f.format.id for f in discover([tmp_path]).files] == ["grafana-csv"]
