"""The ingest stage: files in, series, samples and rejected rows out."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ingest.bodies import body, element
from polars.testing import assert_frame_equal

from hs_analysis.errors import InputError
from hs_analysis.ingest.discovery import discover
from hs_analysis.ingest.stage import Ingested, ingest
from hs_analysis.schema.frames import REJECTED, SAMPLES, SERIES, check, label_map

T0 = 1764000000
TOKENS = "vllm:generation_tokens_total"
QUEUE = "vllm:num_requests_waiting"


def run(folder: Path, files: Mapping[str, bytes], *, named: bool = False) -> tuple[Ingested, pl.DataFrame]:
    """Write the files, ingest them, and return the result with the stored samples."""
    inputs = folder / "in"
    for name, raw in files.items():
        (inputs / name).parent.mkdir(parents=True, exist_ok=True)
        (inputs / name).write_bytes(raw)
    arguments = [inputs / name for name in files] if named else [inputs]
    found = ingest(discover(arguments), folder / "out", lambda _name: None)
    return found, pl.read_parquet(folder / "out" / "samples" / "part-0.parquet")


def adds_up(found: Ingested) -> bool:
    """Whether rows read = stored + duplicates + rejected, for every file."""
    return all(f.rows_read == f.rows_stored + f.duplicates + f.rows_rejected for f in found.files)


def steps(*values: object, start: int = T0, step: int = 15) -> list[tuple[float, Any]]:
    """Return (time, value) pairs on a grid."""
    return [(start + i * step, v) for i, v in enumerate(values)]


def test_tables_keep_their_contracts_and_carry_units(tmp_path: Path) -> None:
    """What is on disk is what was returned; Parquet fields carry unit and meaning."""
    found, samples = run(tmp_path, {"a.json": body(element(QUEUE, steps(1, 2, 3), pod="m-decode-0"))})
    check(found.series, SERIES)
    check(samples, SAMPLES)
    schema = pq.read_schema(tmp_path / "out" / "samples" / "part-0.parquet")
    assert schema.field("t").metadata[b"unit"] == b"UTC"
    assert not (tmp_path / "out" / "series.parquet").exists()  # written once, when the samples were looked at
    assert pl.read_parquet(tmp_path / "out" / "rejected.parquet").height == 0
    row = found.series.row(0, named=True)
    kept = [row[name] for name in ("metric", "signal", "kind", "emitter_role", "unit", "interval_s")]
    assert kept == [QUEUE, "queue_length", "gauge", "decode", "requests", 15.0]
    assert label_map(row["labels"]) == {"pod": "m-decode-0"}
    assert not list((tmp_path / "out").glob("staged*"))
    assert not list((tmp_path / "out").glob("judged*"))


def test_rows_read_are_stored_duplicate_or_rejected(tmp_path: Path) -> None:
    """Copies, contradictions, bad values, sentinels and negative counters: every row has one fate."""
    first = body(
        element(TOKENS, steps(10, 20, -5, "x", None), pod="a"),
        element("DCGM_FI_DEV_GPU_UTIL", steps(50, 9223372036854775794, "NaN"), exported_pod="a"),
        element(QUEUE, steps(1, 2), pod="a"),
    )
    second = body(element(TOKENS, steps(10, 21), pod="a"), element(QUEUE, steps(1), pod="a"))
    found, samples = run(tmp_path, {"1.json": first, "2.json.gz": gzip.compress(second)})
    assert adds_up(found)
    counts = {f.name: (f.rows_read, f.rows_stored, f.duplicates, f.rows_rejected) for f in found.files}
    assert counts == {"1.json": (10, 7, 0, 3), "2.json.gz": (3, 0, 2, 1)}
    assert samples.height == sum(f.rows_stored for f in found.files)
    reasons = Counter(found.rejected["reason"])
    assert reasons == {"dup_conflict": 2, "bad_value": 1, "negative_counter": 1}
    conflict = found.rejected.filter(pl.col("reason") == "dup_conflict").row(0, named=True)
    assert (conflict["series"], conflict["position"]) == (f'{TOKENS}{{pod="a"}}', (T0 + 15) * 1_000_000)
    assert samples["flag"].drop_nulls().sort().to_list() == ["nan", "null", "sentinel"]


def test_negative_gauges_and_huge_values_of_others_are_kept(tmp_path: Path) -> None:
    """Only a counter can't be below zero, and only the GPU exporter writes that sentinel."""
    raw = body(element(QUEUE, steps(-1, 2), pod="a"), element("node_x", steps(9.3e18), pod="a"))
    found, samples = run(tmp_path, {"a.json": raw})
    assert samples["value"].to_list() == [9.3e18, -1.0, 2.0]
    assert found.rejected.is_empty()


def test_a_broken_file_in_a_folder_leaves_nothing(tmp_path: Path) -> None:
    """Neither its samples nor its series count; the others go on."""
    whole = body(element(QUEUE, steps(1, 2), pod="a"))
    cut = body(element(QUEUE, steps(5, 6), pod="0-ghost"), element(TOKENS, steps(1), pod="0-ghost"))[:-30]
    found, samples = run(tmp_path, {"a.json": whole, "0-cut.json": cut})
    assert found.series["instance"].to_list() == ["a"]
    assert found.series["series_id"].to_list() == [0]
    assert samples["value"].to_list() == [1.0, 2.0]
    assert [name for name, _ in found.broken] == ["0-cut.json"]
    assert "ends in the middle at byte" in found.broken[0][1]
    assert found.broken[0][1].endswith("or keep the complete series with --salvage")
    assert [f.name for f in found.files] == ["a.json"]


def test_a_broken_file_that_was_named_is_an_error(tmp_path: Path) -> None:
    """A file named on the command line must be readable; nothing but broken files is an error too."""
    cut = body(element(QUEUE, steps(5, 6), pod="a"))[:-10]
    with pytest.raises(InputError, match=r"cut\.json: the JSON ends in the middle at byte"):
        run(tmp_path / "1", {"cut.json": cut}, named=True)
    with pytest.raises(InputError, match=r"cut\.json: the JSON ends in the middle at byte"):
        run(tmp_path / "2", {"cut.json": cut})


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (body(element("a", steps(1)), element("b", steps(1))), r"among 2 names \(a, b\).*hsa signals"),
        (body(*[element(f"m{i}", steps(1)) for i in range(5)]), r"among 5 names \(m0, m1, m2 and 2 more\)"),
        (body(), "no series in the answers"),
    ],
)
def test_without_a_known_metric_it_says_what_it_saw(tmp_path: Path, raw: bytes, says: str) -> None:
    """Names are shown, and where the list of known ones is."""
    with pytest.raises(InputError, match=says):
        run(tmp_path, {"a.json": raw})


def test_the_order_of_files_and_series_does_not_matter(tmp_path: Path) -> None:
    """Series are numbered by capture, name and labels; samples are sorted by series and time."""
    one = element(QUEUE, steps(1, 2), pod="b")
    two = element(QUEUE, steps(3, 4), pod="a")
    late = element(QUEUE, steps(5, start=T0 + 30), pod="b")
    straight = run(tmp_path / "1", {"a.json": body(one, two), "b.json": body(late)})
    turned = run(tmp_path / "2", {"a.json": body(late), "b.json": body(two, one)})
    assert_frame_equal(straight[0].series, turned[0].series)
    assert_frame_equal(straight[1], turned[1])
    assert straight[1]["series_id"].to_list() == [0, 0, 1, 1, 1]


def test_two_runs_give_equal_bytes(tmp_path: Path) -> None:
    """The same input gives the same files."""
    files = {"a.json": body(*[element(QUEUE, steps(*range(50)), pod=f"p{i}") for i in range(20)])}
    once, twice = run(tmp_path / "1", files)[0], run(tmp_path / "2", files)[0]
    assert_frame_equal(once.series, twice.series)
    for name in ("samples/part-0.parquet", "rejected.parquet"):
        assert (tmp_path / "1/out" / name).read_bytes() == (tmp_path / "2/out" / name).read_bytes()


def test_captures_are_kept_apart(tmp_path: Path) -> None:
    """The same series in two sub-folders is two series, not a contradiction."""
    files = {
        f"{run}/a.json": body(element(QUEUE, steps(value), pod="a")) for run, value in (("x", 1), ("y", 2))
    }
    found, samples = run(tmp_path, files)
    assert found.series["capture"].to_list() == ["x", "y"]
    assert samples["value"].to_list() == [1.0, 2.0]


def test_a_gap_hidden_by_repeats_is_null_with_a_flag(tmp_path: Path) -> None:
    """All series and a clock repeat four times: those samples are null, the ones around are kept."""
    moving = [1, 2, 3, 4, 4, 4, 4, 4, 9, 10]
    raw = body(
        element("scrape_duration_seconds", steps(*[v / 7 for v in moving]), pod="a"),
        element(TOKENS, steps(*[100 * v for v in moving]), pod="a"),
    )
    found, samples = run(tmp_path, {"a.json": raw})
    assert found.frozen.height == 1
    nulls = samples.filter(pl.col("flag") == "lookback")
    assert nulls.height == 8
    assert nulls["t"].min() == found.frozen["first_t"][0]
    assert found.quality["lookback"].to_list() == [4, 4]
    assert found.quality["longest_gap_s"].to_list() == [75.0, 75.0]


def test_warnings_of_the_server_come_with_their_file(tmp_path: Path) -> None:
    """They mean that data may be missing."""
    found, _ = run(tmp_path, {"a.json": body(element(QUEUE, steps(1)), warnings=["store down"])})
    assert found.warnings == (("a.json", "store down"),)


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)


@settings(max_examples=15)
@given(st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"), max_size=8), max_size=3), NAMES)
def test_any_label_survives_to_parquet(
    tmp_path_factory: pytest.TempPathFactory, labels: dict[str, str], name: str
) -> None:
    """Unicode, quotes, backslashes, NUL bytes and braces come back as they were."""
    labels = {key: value for key, value in labels.items() if key != "__name__"}
    other = {"metric": {**labels, "__name__": name}, "values": [[T0, "1"]]}
    raw = body(element(QUEUE, steps(1), pod="a"), other)
    found, _ = run(tmp_path_factory.mktemp("labels"), {"a.json": raw})
    stored = {r["metric"]: label_map(r["labels"]) for r in found.series.iter_rows(named=True)}
    assert stored[name] == labels


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 4),
            st.sampled_from(["1", "2", "-1", "NaN", "oops", None]),
            st.integers(0, 1),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_fate_agrees_with_the_obvious_count(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int, str | None, int]]
) -> None:
    """Stored samples, duplicates and quarantined rows equal a count by hand, for any mix of two files."""
    files: dict[str, bytes] = {"z.json": body(element(QUEUE, steps(1), pod="keeps the run alive"))}
    kept: dict[tuple[str, int], list[float | None]] = {}
    bad = 0
    for number in (0, 1):
        own = [(pod, T0 + 15 * t, value) for pod, t, value, file in rows if file == number]
        files[f"{number}.json"] = body(*[element(TOKENS, [(t, v)], pod=pod) for pod, t, v in own])
        for pod, t, value in own:
            if value in ("-1", "oops"):
                bad += 1
            else:
                kept.setdefault((pod, t), []).append(None if value in (None, "NaN") else float(value))
    found, samples = run(tmp_path_factory.mktemp("fates"), files)
    agreed = {key: values for key, values in kept.items() if len(set(values)) == 1}
    assert adds_up(found)
    assert samples.height - 1 == len(agreed)
    assert sum(f.duplicates for f in found.files) == sum(len(v) - 1 for v in agreed.values())
    conflicts = sum(len(v) for v in kept.values()) - sum(len(v) for v in agreed.values())
    assert sum(f.rows_rejected for f in found.files) == bad + conflicts == found.rejected.height
    check(found.rejected, REJECTED)


def test_damaged_archives_are_broken_files(tmp_path: Path) -> None:
    """A flipped byte in a gzip file, half a zstd file: findings, never a traceback."""
    raw = body(*[element(QUEUE, steps(*range(200)), pod=f"p{i}") for i in range(50)])
    flipped = bytearray(gzip.compress(raw))
    flipped[len(flipped) // 2] ^= 0xFF
    half = pa.compress(raw, codec="zstd", asbytes=True)
    files = {
        "a.gz": bytes(flipped),
        "b.zst": half[: len(half) // 2],
        "good.json": body(element(QUEUE, steps(1), pod="good")),
    }
    found, samples = run(tmp_path, files)
    assert sorted(name for name, _ in found.broken) == ["a.gz", "b.zst"]
    assert samples.height == 1


def test_the_slow_reference_gives_the_same_samples(tmp_path: Path) -> None:
    """A sample folder read value by value with the json module equals what is stored."""
    raw = body(
        element(TOKENS, steps(*[i * 1.1 for i in range(40)]), pod="a", model_name="m"),
        element(QUEUE, steps(*[math.sin(i) for i in range(40)]), pod="b"),
    )
    _, samples = run(tmp_path, {"a.json": raw})
    expected = [
        (number, round(t * 1e6), float(v))
        for number, one in enumerate(
            sorted(json.loads(raw)["data"]["result"], key=lambda e: e["metric"]["__name__"])
        )
        for t, v in one["values"]
    ]
    assert samples.select("series_id", pl.col("t").dt.epoch("us"), "value").rows() == expected


def test_increases_are_stored_as_totals_over_all_files(tmp_path: Path) -> None:
    """Two files that follow each other, one of them read again in part: no restart, nothing counted twice."""
    from ingest.readers.test_otlp import counter, lines, request

    first = lines(
        *(request(counter(v, T0 + 15 * i, T0 + 15 * (i - 1), temporality=1)) for i, v in ((1, 5), (2, 7)))
    )
    second = lines(
        *(request(counter(v, T0 + 15 * i, T0 + 15 * (i - 1), temporality=1)) for i, v in ((2, 7), (3, 2)))
    )
    found, samples = run(tmp_path, {"a.jsonl": first, "b.jsonl": second})
    by_time = {(t.timestamp() - T0): v for t, v in samples.select("t", "value").iter_rows()}
    assert {t: by_time[t] for t in (15, 30, 45)} == {15: 5.0, 30: 12.0, 45: 14.0}
    assert samples["value"].is_sorted()
    assert sum(f.duplicates for f in found.files) == 1
    assert adds_up(found)


def test_increases_and_totals_of_one_series_are_not_joined(tmp_path: Path) -> None:
    """What was read first decides; the samples of the other kind are set aside, each with its reason."""
    from ingest.readers.test_otlp import counter, lines, request

    totals = lines(request(counter(100, T0)), request(counter(105, T0 + 15)))
    increases = lines(request(counter(7, T0 + 45, T0 + 30, temporality=1)))
    found, samples = run(tmp_path, {"a.jsonl": totals, "b.jsonl": increases})
    assert samples["value"].to_list() == [100.0, 105.0]
    assert found.rejected["reason"].to_list() == ["bad_value"] * 2
    assert "the two can't be joined" in found.rejected["detail"][0]
    assert adds_up(found)
