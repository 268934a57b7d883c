"""Ratios and percentages are told apart by values, or not at all."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hs_analysis.catalogue import MAPPING, load_catalogue, with_user_rows
from hs_analysis.ingest.quality import OVER_ONE, bounded_series, infer_scales, unit_in_help
from hs_analysis.schema.frames import SERIES, check, empty
from hs_analysis.schema.settings import MetricRow, Reading
from hs_analysis.store import Database

CATALOGUE = load_catalogue()
RATIO, PERCENT = "vllm:kv_cache_usage_perc", "DCGM_FI_DEV_GPU_UTIL"
BLOCKS = "nv_trt_llm_kv_cache_block_metrics"

Values = list[float]


def verdicts(
    *series: tuple[str, Values],
    help_texts: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
) -> list[tuple[float | None, str | None]]:
    """Return (repair, first word of the evidence) of series given by metric and values."""
    rows = [
        {
            "series_id": number, "metric": metric, "labels": labels or {}, "emitter_role": "decode",
            "role_evidence": "test", "kind": "gauge", "capture": "",
        }
        for number, (metric, _) in enumerate(series)
    ]  # fmt: skip
    frame = check(pl.DataFrame(rows, schema=empty(SERIES).schema), SERIES)
    samples = [(i, 1e6 * t, v) for i, (_, values) in enumerate(series) for t, v in enumerate(values)]
    kept = pl.DataFrame(samples, schema=["series_id", "t", "value"], orient="row").with_columns(
        pl.from_epoch(pl.col("t").cast(pl.Int64), time_unit="us").dt.replace_time_zone("UTC")
    )
    with Database(threads=1) as database:
        ranges = database.query(
            "ingest/value_ranges",
            {"over_one": OVER_ONE},
            {"samples": kept, "bounded": bounded_series(frame, CATALOGUE)},
        )
    found = check(infer_scales(frame, ranges, CATALOGUE, help_texts), SERIES)
    return [
        (repair, evidence and evidence.partition(":")[0])
        for repair, evidence in found.select("repair", "scale_evidence").iter_rows()
    ]


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        (RATIO, [0.0, 0.4, 0.97], (None, "assumed")),
        (RATIO, [0.0, 40.0, 97.0, 63.0], (0.01, "values")),
        (RATIO, [0.2, 1.2, 0.3], (None, "doubtful")),
        (RATIO, [0.2, 50.0, 0.3], (None, "doubtful")),
        (RATIO, [0.2, 4000.0, 3.0, 4.0], (None, "mismatch")),
        (RATIO, [-1.0, 0.5], (None, "mismatch")),
        (PERCENT, [0.0, 40.0, 97.0, 100.0], (None, "values")),
        (PERCENT, [0.0, 1.0, 0.0], (None, "assumed")),
        (PERCENT, [0.0, 0.4, 0.97, 0.33], (100.0, "values")),
        ("sglang:fwd_occupancy", [0.1, 0.4, 0.97, 0.33], (None, "assumed")),
        ("vllm:num_requests_running", [0.0, 50.0], (None, None)),
        ("vllm:generation_tokens_total", [0.0, 50.0], (None, None)),
    ],
)
def test_one_series(metric: str, values: Values, expected: tuple[float | None, str | None]) -> None:
    """Repaired only where one unit fits; what rounds to whole percents proves a ratio by its fractions."""
    assert verdicts((metric, values)) == [expected]


def test_an_idle_instance_beside_percentages_is_left_out_unless_it_is_alike() -> None:
    """0.9 may be 0.9 % or 90 %: of a busy pool nobody knows, of a pool that peaks at 4 % it is plain."""
    busy, idle = [20.0, 40.0, 60.0], [0.1, 0.9, 0.4]
    assert verdicts((RATIO, busy), (RATIO, idle)) == [(0.01, "values"), (None, "mismatch")]
    assert verdicts((RATIO, [2.0, 3.0, 4.0]), (RATIO, idle)) == [(0.01, "values"), (0.01, "siblings")]
    assert verdicts((RATIO, busy), (RATIO, [0.0, 0.0])) == [(0.01, "values"), (None, "assumed")]


def test_the_exporters_text_decides_where_values_do_not() -> None:
    """It never overrules them."""
    said = {RATIO: "KV-cache usage in percent (0-100)."}
    assert verdicts((RATIO, [0.1, 0.9]), help_texts=said) == [(0.01, "help")]
    assert verdicts((RATIO, [0.1, 0.9]), help_texts={RATIO: "1 means 100 percent usage."}) == [(None, "help")]
    assert verdicts((PERCENT, [0.3, 0.4, 0.9]), help_texts={PERCENT: "GPU utilization (in %)."}) == [
        (100.0, "values")
    ]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("KV-cache usage. 1 means 100 percent usage.", "ratio"), ("GPU utilization (in %).", "percent"),
        ("Usage as a fraction", "ratio"), ("GPU cache usage (0.0-1.0)", "ratio"),
        ("utilization, 0 to 100", "percent"), ("Number of requests", None), ("share in percent, 0-1", None),
    ],
)  # fmt: skip
def test_words_of_a_help_text(text: str, unit: str | None) -> None:
    """A text that says both says nothing."""
    assert unit_in_help(text) == unit


def test_other_series_of_the_metric_are_not_asked() -> None:
    """Blocks of a metric whose fraction is KV usage are counts: no mismatch."""
    assert verdicts((BLOCKS, [4000.0]), labels={"kv_cache_block_type": "used"}) == [(None, None)]
    assert verdicts((BLOCKS, [0.5]), labels={"kv_cache_block_type": "fraction"}) == [(None, "assumed")]


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=20))
def test_a_ratio_within_its_range_is_never_touched(values: Values) -> None:
    """Whatever it is, its scale stays as documented."""
    assert verdicts((RATIO, values)) == [(None, "assumed")]


@given(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=20))
def test_a_repaired_ratio_is_the_same_ratio(values: Values) -> None:
    """Times a hundred and back: nothing, or exactly this."""
    ((repair, evidence),) = verdicts((RATIO, [100.0 * v for v in values]))
    assert (repair, evidence) in [(0.01, "values"), (None, "doubtful"), (None, "assumed")]
    if min(sorted(values)[-3:]) > 0.0106 and max(values) >= 0.02:
        assert repair == 0.01


def test_the_users_unit_is_taken_as_documented() -> None:
    """A metric that the user mapped is judged by the unit the user gave."""
    mapped = with_user_rows(CATALOGUE, Reading(metrics={"usage": MetricRow("kv_usage", unit="percent")}))
    assert mapped.exporter_of("usage").name == MAPPING
    frame = pl.DataFrame({"series_id": [0], "metric": ["usage"], "labels": [{}]}, strict=False)
    frame = frame.with_columns(pl.Series("labels", [[]], dtype=empty(SERIES).schema["labels"]))
    assert bounded_series(frame, mapped).rows() == [(0, 0.0)]
