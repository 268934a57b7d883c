"""Contracts of frames: empty ones, checks, and the way to Arrow."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pyarrow as pa
import pytest

from hs_analysis.errors import ContractError
from hs_analysis.schema.frames import CONTRACTS, REJECTED, SAMPLES, SERIES, check, empty, label_map, to_table

ROW = {
    "series_id": 0, "metric": "m", "labels": {"a": "b", "": 'x"{'}, "signal": None, "emitter_role": "unknown",
    "role_evidence": "none", "service": None, "instance": None, "unit_kind": None, "gpu_type": None,
    "unit": None, "kind": "gauge", "interval_s": None, "capture": "", "source": None,
}  # fmt: skip


def series(*rows: dict[str, object]) -> pl.DataFrame:
    """Return a frame of contract SERIES."""
    return pl.DataFrame(list(rows), schema=empty(SERIES).schema)


@pytest.mark.parametrize("name", sorted(CONTRACTS))
def test_an_empty_frame_keeps_its_contract(name: str) -> None:
    """It has the columns in order, passes the check, and goes to Arrow with units, map columns too."""
    frame = empty(CONTRACTS[name])
    assert frame.columns == CONTRACTS[name].names
    table = to_table(check(frame, CONTRACTS[name]), CONTRACTS[name])
    assert table.num_rows == 0
    assert table.schema.equals(CONTRACTS[name], check_metadata=True)


def test_map_columns_survive_the_way_to_arrow_and_back() -> None:
    """Labels come back as they were, an empty map too."""
    frame = check(series(ROW, {**ROW, "series_id": 1, "labels": {}}), SERIES)
    table = to_table(frame, SERIES)
    assert pa.types.is_map(table.schema.field("labels").type)
    back = pl.from_arrow(table)
    assert [label_map(one) for one in back["labels"].to_list()] == [{"a": "b", "": 'x"{'}, {}]


def test_labels_are_read_in_both_forms() -> None:
    """A map cell is a dict, or a list of pairs in older releases of polars."""
    assert label_map({"a": "b"}) == label_map([{"key": "a", "value": "b"}]) == {"a": "b"}


def test_columns_are_put_in_order_and_others_left_out() -> None:
    """Order does not matter on the way in; what the contract does not name is dropped."""
    frame = series(ROW).select(pl.lit(1).alias("other"), *reversed(SERIES.names))
    assert check(frame, SERIES).columns == SERIES.names


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.drop("flag"), "samples: column flag is missing"),
        (lambda f: f.with_columns(pl.col("series_id").cast(pl.Int32)), "samples: column series_id is Int32"),
        (
            lambda f: f.with_columns(pl.lit(None, pl.Int64).alias("series_id")),
            "column series_id holds 1 nulls",
        ),
        (lambda f: f.with_columns(pl.col("t").dt.replace_time_zone(None)), "samples: column t is Datetime"),
    ],
)
def test_a_broken_contract_names_table_and_column(change, says: str) -> None:
    """A missing column, another type, a null where none may be, a time without a zone."""
    good = pl.DataFrame(
        {"series_id": [0], "t": [datetime(2026, 1, 1, tzinfo=UTC)], "value": [None], "flag": ["nan"]},
        schema=empty(SAMPLES).schema,
    )
    check(good, SAMPLES)
    with pytest.raises(ContractError, match=says):
        check(change(good), SAMPLES)


def test_a_column_of_nulls_may_have_no_type() -> None:
    """A nullable column that holds nothing takes the contract's type."""
    frame = series(ROW).with_columns(pl.lit(None).alias("interval_s"))
    assert check(frame, SERIES).schema["interval_s"] == pl.Float64
    assert check(pl.DataFrame(schema=REJECTED.names), REJECTED).is_empty()
