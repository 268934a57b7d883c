"""Offered work per role against a slow, obvious reference."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from seeds import first

from hs_analysis.align.demand import ENOUGH_REQUESTS, add_demand, prefill_at_arrival

START = datetime(2026, 1, 1, tzinfo=UTC)
NAN = np.nan
HALVES = (60, 120, 300, 600, 1800)


def table(window_s: float = 60.0, capture: str = "", **columns: object) -> pl.DataFrame:
    """Return a service table; names are signal__role."""
    size = max(np.size(values) for values in columns.values())
    return pl.DataFrame(
        {"capture": [capture] * size, "t": [START + timedelta(seconds=window_s * i) for i in range(size)]},
        schema_overrides={"t": pl.Datetime("us", "UTC")},
    ).with_columns(
        pl.Series(name.replace("__", "@"), np.broadcast_to(np.asarray(v, float), (size,))).fill_nan(None)
        for name, v in columns.items()
    )


def demand(frame: pl.DataFrame, window_s: float = 60.0, kind: str = "production") -> tuple[pl.DataFrame, str]:
    """Run the stage."""
    return add_demand(frame, window_s, kind)


def numbers(frame: pl.DataFrame, name: str) -> np.ndarray:
    """Return a column with NaN for null."""
    return frame[name].cast(pl.Float64).fill_null(NAN).to_numpy()


def obvious(frame: pl.DataFrame, window_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return offered work of both roles, row by row and width by width.

    Prompts are counted where they came by the function itself, whose tests are in test_demand_at_arrival.
    """
    known = {name: numbers(frame, name) for name in frame.columns if name not in ("capture", "t")}
    behind_queue = {
        "capture": "capture", "request_rate@service": "started", "queue_length@prefill": "waiting_prefill",
        "first_token_rate@service": "first_token_rate", "prompt_tps@service": "prompt_tps",
        "prefill_tps_effective@prefill": "effective_tps",
    }  # fmt: skip
    came = prefill_at_arrival(frame.select(*behind_queue).rename(behind_queue), window_s)
    shifted = {
        name: numbers(came, behind_queue[name])
        for name in ("prefill_tps_effective@prefill", "prompt_tps@service", "first_token_rate@service")
    }
    first_tokens = known["first_token_rate@service"]
    known |= shifted
    seconds, captures = frame["t"].dt.epoch("s").to_list(), frame["capture"].to_list()

    def near(row: int, half: int) -> list[int]:
        here = (captures[row], seconds[row])
        return [i for i, at in enumerate(zip(captures, seconds, strict=True))
                if at[0] == here[0] and abs(at[1] - here[1]) <= half]  # fmt: skip

    def mean(row: int, above: str, below: str, count: str) -> float:
        for half in HALVES:
            rows = near(row, half)
            requests = np.nansum(known[count][rows]) * window_s
            if requests >= ENOUGH_REQUESTS or half == HALVES[-1]:
                both = [i for i in rows if np.isfinite(known[above][i]) and np.isfinite(known[below][i])]
                total = sum(known[below][i] for i in both)
                return sum(known[above][i] for i in both) / total if total else NAN
        raise AssertionError

    prefill, decode = [], []
    for row in range(frame.height):
        started = known["request_rate@service"][row]
        arrived = known["arrived_prompt_tps@service"][row]
        share = mean(row, "prefill_tps_effective@prefill", "prompt_tps@service", "first_token_rate@service")
        tokens = mean(
            row, "prefill_tps_effective@prefill", "first_token_rate@service", "first_token_rate@service"
        )
        prefill.append(arrived * share if np.isfinite(arrived * share) else started * tokens)
        age = known["queue_length@prefill"] / first_tokens
        around = [
            i for i in (row - 1, row, row + 1) if 0 <= i < frame.height and captures[i] == captures[row]
        ]
        behind = any(age[i] > 1.0 for i in around) and np.isfinite(first_tokens[row])
        behind = behind and np.isfinite(known["queue_length@prefill"][row])
        arrivals = first_tokens[row] if behind else started
        work = arrivals * mean(
            row, "finished_output_tps@service", "finished_rate@service", "finished_rate@service"
        )
        decode.append(work)
    return np.array(prefill), np.array(decode)


@pytest.mark.parametrize("seed", first(2, range(6)))
@pytest.mark.parametrize("window_s", [60.0, 20.0, 120.0])
def test_equals_the_slow_reference(seed: int, window_s: float) -> None:
    """Any mixture of quiet, busy and missing windows, in two captures."""
    rng = np.random.default_rng(seed)
    parts = []
    for capture in ("a", "b"):
        size = 45
        rate = rng.gamma(2.0, 2.0, size) * rng.choice([0.05, 1.0], size, p=[0.3, 0.7])
        columns = {
            "request_rate__service": rate,
            "first_token_rate__service": rate * rng.uniform(0.8, 1.1, size),
            "finished_rate__service": rate * rng.uniform(0.8, 1.1, size),
            "finished_output_tps__service": rate * rng.uniform(100, 300, size),
            "prefill_tps_effective__prefill": rate * rng.uniform(500, 900, size),
            "prompt_tps__service": rate * 1000,
            "arrived_prompt_tps__service": np.where(rng.random(size) < 0.5, NAN, rate * 1000),
            "queue_length__prefill": rng.gamma(1.0, 2.0, size),
            "instances__prefill": 2.0,
        }  # fmt: skip
        holes = {
            name: np.where(rng.random(size) < 0.1, NAN, values) if "instances" not in name else values
            for name, values in columns.items()
        }
        parts.append(table(window_s, capture, **holes))
    frame = pl.concat(parts)
    found, reference = demand(frame, window_s)
    prefill, decode = obvious(frame, window_s)
    np.testing.assert_allclose(numbers(found, "offered_tps@prefill"), prefill, rtol=1e-9)
    np.testing.assert_allclose(numbers(found, "offered_tps@decode"), decode, rtol=1e-9)
    assert reference == "offered"
    assert found.select("capture", "t").equals(frame.select("capture", "t"))


BASE = {
    "request_rate__service": [8.0] * 12,
    "first_token_rate__service": [8.0] * 12,
    "finished_rate__service": [8.0] * 12,
    "finished_output_tps__service": [800.0] * 12,
    "prefill_tps_effective__prefill": [4000.0] * 12,
    "decode_tps__decode": [810.0] * 12,
    "queue_length__prefill": [0.0] * 12,
    "instances__decode": [3.0] * 12,
}


def test_a_served_rate_stands_in_for_a_missing_one_but_not_where_it_hides_demand() -> None:
    """Unsaturated windows may use what was served; saturated ones stay unknown."""
    rate = [8.0, NAN, *[8.0] * 6, NAN, 8.0, 8.0, 8.0]
    queue = [0.0] * 7 + [200.0, 200.0, 200.0] + [0.0] * 2
    changes = {
        "request_rate__service": rate,
        "queue_length__prefill": queue,
        "first_token_rate__service": [8.0] * 8 + [NAN] + [8.0] * 3,
    }
    found, reference = demand(table(**{**BASE, **changes}))
    offered = numbers(found, "offered_tps@decode")
    assert offered[1] == 810.0
    assert np.isnan(offered[8])
    assert reference == "offered"


def test_without_lengths_of_finished_requests_the_reference_is_served() -> None:
    """Arrivals alone are no work: the served rate is used throughout, and said to be one."""
    bare = {name: values for name, values in BASE.items() if not name.startswith("finished")}
    found, reference = demand(table(**bare))
    assert reference == "served"
    assert numbers(found, "offered_tps@decode").tolist() == [810.0] * 12


def test_started_requests_are_rebuilt_from_queues_and_unknown_where_these_are() -> None:
    """First tokens plus the growth of what waits and runs; a missing queue is not an empty one."""
    queue = [0.0, 60.0, 120.0, NAN, 240.0, 240.0, *[240.0] * 6]
    bare = {n: v for n, v in BASE.items() if n != "request_rate__service"}
    found, reference = demand(table(**{**bare, "queue_length__prefill": queue}))
    prefill = numbers(found, "offered_tps@prefill")
    assert reference == "offered"
    np.testing.assert_allclose(prefill[:3], [4000.0, 4500.0, 4500.0])
    assert np.isnan(prefill[3:5]).all()
    np.testing.assert_allclose(prefill[5:], 4000.0)


def test_behind_a_prefill_backlog_decode_is_offered_first_tokens() -> None:
    """Requests that wait for prefill do not reach decode yet: one row either side of an age over 1 s."""
    queue = [0.0] * 5 + [8.1] + [0.0] * 6
    first = [6.0] * 12
    found, _ = demand(table(**{**BASE, "queue_length__prefill": queue, "first_token_rate__service": first}))
    decode = numbers(found, "offered_tps@decode")
    assert decode.tolist() == [800.0] * 4 + [600.0] * 3 + [800.0] * 5


def test_a_single_pool_has_decode_columns_of_its_own_role() -> None:
    """No prefill load, no ratio."""
    mixed = {
        name.replace("__decode", "__mixed").replace("__prefill", "__mixed"): v for name, v in BASE.items()
    }
    found, _ = demand(table(**mixed))
    assert [c for c in found.columns if c.startswith(("offered", "saturated", "backlog"))] == [
        "backlog_age_s@mixed", "saturated@mixed", "offered_tps@mixed", "offered_tps_trailing@mixed",
    ]  # fmt: skip
    assert numbers(found, "offered_tps@mixed").tolist() == [800.0] * 12


def test_captures_do_not_see_each_other() -> None:
    """The same times in two captures: means, growth and backlog stay inside."""
    one = table(capture="a", **BASE)
    double = {name: list(2 * np.asarray(v)) if "tps" in name else v for name, v in BASE.items()}
    both, _ = demand(pl.concat([one, table(capture="b", **double)]))
    alone, _ = demand(one)
    np.testing.assert_array_equal(
        numbers(both.filter(pl.col("capture") == "a"), "offered_tps@prefill"),
        numbers(alone, "offered_tps@prefill"),
    )
    np.testing.assert_array_equal(
        numbers(both.filter(pl.col("capture") == "b"), "offered_tps@decode"), [1600.0] * 12
    )


def test_the_trailing_form_knows_nothing_of_later_rows() -> None:
    """Another future leaves the trailing work of earlier rows as it was; the centred work may move."""
    rng = np.random.default_rng(5)
    columns = {
        "request_rate__service": rng.uniform(8, 12, 60), "first_token_rate__service": rng.uniform(8, 12, 60),
        "finished_rate__service": rng.uniform(8, 12, 60),
        "finished_output_tps__service": rng.uniform(800, 1200, 60),
        "prefill_tps_effective__prefill": rng.uniform(8000, 12000, 60),
        "instances__prefill": 2.0, "instances__decode": 2.0,
    }  # fmt: skip
    later = {k: np.where(np.arange(60) >= 40, 5 * np.asarray(v), v) for k, v in columns.items()}
    before, after = demand(table(**columns))[0], demand(table(**later))[0]
    for role in ("prefill", "decode"):
        name = f"offered_tps_trailing@{role}"
        assert numbers(before, name)[:40].tolist() == numbers(after, name)[:40].tolist()
    moved = later | {"finished_output_tps__service": np.where(np.arange(60) >= 40, 9e4, 1e3)}
    centred = [numbers(demand(table(**one))[0], "offered_tps@decode")[39] for one in (moved, later)]
    assert centred[0] > 2 * centred[1]


def test_prefill_work_behind_a_backlog_is_that_of_the_requests_that_came() -> None:
    """Requests wait two minutes; prompts double in row 10 and are prefilled from row 12 on."""
    rows = np.arange(24)
    came, read = (np.where(rows < turn, 1000.0, 2000.0) for turn in (10, 12))
    flow = {"request_rate__service": 10.0, "first_token_rate__service": 10.0, "finished_rate__service": 10.0}
    found, _ = demand(
        table(
            **flow, finished_output_tps__service=1000.0, prefill_tps_effective__prefill=10.0 * read,
            queue_length__prefill=np.full(24, 1200.0), instances__prefill=2.0,
        )
    )  # fmt: skip
    inner = [7, 8, 11, 12, 13, 14]
    np.testing.assert_allclose(numbers(found, "offered_tps@prefill")[inner], 10.0 * came[inner], rtol=0.02)


IMAGES = {
    "request_rate__service": [2.0, 3.0, 4.0],
    "completion_rate__service": [2.0, 2.5, 4.0],
    "running__mixed": [4.0, 6.0, 8.0],
    "queue_length__mixed": [0.0, 1.0, 1.0],
    "instances__mixed": [3.0] * 3,
}


def test_a_single_pool_that_counts_only_requests_has_them_as_its_work() -> None:
    """Those that start are offered work; a counter of tokens that never moves changes nothing."""
    for extra in ({}, {"decode_tps__mixed": [0.0] * 3, "finished_output_tps__service": [0.0] * 3}):
        found, reference = demand(table(**IMAGES, **extra))
        assert reference == "offered"
        assert numbers(found, "offered_tps@mixed").tolist() == [2.0, 3.0, 4.0]
        assert numbers(found, "offered_tps_trailing@mixed").tolist() == [2.0, 3.0, 4.0]


def test_requests_weighed_by_their_size_are_the_work_where_that_is_told() -> None:
    """They come first, and never stand beside tokens."""
    found, reference = demand(table(**IMAGES, request_work__service=[8.0, 3.0, 10.0]))
    assert reference == "offered"
    assert numbers(found, "offered_tps@mixed").tolist() == [8.0, 3.0, 10.0]


def test_finished_requests_stand_for_those_that_started() -> None:
    """With levels of requests the offered ones are rebuilt; without any the load is what was served."""
    bare = {name: values for name, values in IMAGES.items() if name != "request_rate__service"}
    found, reference = demand(table(**bare))
    assert reference == "offered"
    np.testing.assert_allclose(numbers(found, "offered_tps@mixed"), [2.0, 2.5 + 3 / 60, 4.0 + 2 / 60])
    alone = {name: bare[name] for name in ("completion_rate__service", "instances__mixed")}
    found, reference = demand(table(**alone))
    assert reference == "served"
    assert numbers(found, "offered_tps@mixed").tolist() == [2.0, 2.5, 4.0]


def test_a_single_pool_that_gives_no_output_tokens_has_its_prompts_as_its_work() -> None:
    """Embedding: started requests times the prompt tokens of one."""
    prompts = {"prefill_tps__mixed": [200.0, 250.0, 400.0], "first_token_rate__service": [2.0, 2.5, 4.0]}
    found, reference = demand(table(**IMAGES, **prompts))
    assert reference == "offered"
    np.testing.assert_allclose(numbers(found, "offered_tps@mixed"), [200.0, 300.0, 400.0])


def test_raw_prompt_tokens_stand_for_cache_missed_ones() -> None:
    """Only where nothing counts those."""
    raw = {name: values for name, values in BASE.items() if "effective" not in name}
    raw["prefill_tps__prefill"] = [5000.0] * 12
    found, _ = demand(table(**raw))
    np.testing.assert_allclose(numbers(found, "offered_tps@prefill"), 5000.0)
    found, _ = demand(table(**raw, prefill_tps_effective__prefill=[4000.0] * 12))
    np.testing.assert_allclose(numbers(found, "offered_tps@prefill"), 4000.0)
