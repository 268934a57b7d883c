"""Ratio tests drawn as in arXiv:2508.19559, figure 4: what each split served, the best and its 3 % marked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from hs_analysis.report.chart_templates import BEST, FAILS, NEAR, OTHER
from hs_analysis.report.charts import Chart, make
from hs_analysis.report.choice import mapping, records
from hs_analysis.report.sweeps import judged_text, mix_text, pair_text
from hs_analysis.report.thinning import csv_number
from hs_analysis.report.wording import is_number, number

DRAWN = 8
"""Most ratio tests that are drawn; the table lists them all."""

SAME_LENGTH = 1e-9
"""Lengths of one token mix differ by less than this, as a share [ratio]."""

LEVEL_RATIO = 1.15
"""Loads up to this ratio apart are one load level of captures, as where the test was answered."""


def asked(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the ratio tests under the limits that were given; on decode TPS alone where none was."""
    slo = mapping(summary.get("slo"))
    given = any(slo.get(name) is not None for name in ("ttft_s", "tbt_s"))
    return [
        sweep
        for sweep in records(summary.get("sweeps"))
        if (sweep["judged_on"] == "slo" and sweep.get("tbt_s") == slo.get("tbt_s"))
        or (sweep["judged_on"] == "decode_tps" and not given)
    ]


def draw(summary: Mapping[str, Any], splits: pl.DataFrame) -> list[Chart]:
    """Return a chart per ratio test under the limits that were given, at most eight."""
    found = [chart(sweep, splits, place) for place, sweep in enumerate(asked(summary)[:DRAWN])]
    return [one for one in found if one is not None]


def trials(sweep: Mapping[str, Any], splits: pl.DataFrame) -> pl.DataFrame:
    """Return the trials of a ratio test (contract ``splits``) that served something, by ratio and load.

    Captures compete within one load level: only trials near the load of the best one are kept.
    """
    same = [pl.col("name") == sweep["name"], pl.col("source") == sweep["source"]]
    for key in ("isl", "osl"):  # a summary has twelve digits of them
        value = sweep.get(key)
        near = (pl.col(key) / value - 1.0).abs() < SAME_LENGTH if is_number(value) and value else None
        same.append(pl.col(key).is_null() if near is None else near)
    if sweep["source"] == "captures" and is_number(sweep.get("load")):
        same.append(pl.col("load").is_between(sweep["load"] / LEVEL_RATIO, sweep["load"] * LEVEL_RATIO))
    return splits.filter(*same, pl.col("decode_tps").is_finite()).sort("ratio", "load", nulls_last=True)


def per_split(sweep: Mapping[str, Any], splits: pl.DataFrame) -> list[dict[str, Any]]:
    """Return each split's best trial by what the test was judged on, from least to most prefill.

    Rows of ``splits`` with ``pair`` and ``kind``. A split that surely breaks a limit at every load is the
    kind that says so, at the load at which it served most.
    """
    limits = [f for f in ("ttft", "tbt") if sweep["judged_on"] == "slo" and is_number(sweep.get(f"{f}_s"))]
    best: dict[tuple[int, int], dict[str, Any]] = {}
    for row in trials(sweep, splits).iter_rows(named=True):
        pair = (round(row["prefill_instances"]), round(row["decode_instances"]))
        fails = any(row[limit] == "fails" for limit in limits)
        inside = row["within_ratio"] if limits and is_number(row["within_ratio"]) else 1.0
        found = row | {"pair": pair, "fails": fails, "score": row["decode_tps"] * inside}
        other = best.get(pair)
        if other is None or (not fails, found["score"]) > (not other["fails"], other["score"]):
            best[pair] = found
    winner, near = sweep.get("best"), [tuple(pair) for pair in sweep.get("near") or []]
    for pair, row in best.items():
        row["kind"] = FAILS if row["fails"] else OTHER
        row["kind"] = NEAR if pair in near else row["kind"]
        row["kind"] = BEST if winner and pair == tuple(winner) else row["kind"]
    return sorted(best.values(), key=lambda row: row["ratio"])


def chart(sweep: Mapping[str, Any], splits: pl.DataFrame, place: int) -> Chart | None:
    """Draw one ratio test; None with fewer than two splits that served something."""
    found = per_split(sweep, splits)
    if len(found) < 2:
        return None
    length = sweep["osl"] if is_number(sweep.get("osl")) else None
    rows = []
    roles = (("prefill_rps", "prefill_instances"), ("decode_rps", "decode_instances"))
    for order, row in enumerate(found):
        lines = [
            csv_number(sweep[key] * row[n] * length) if length and is_number(sweep.get(key)) else ""
            for key, n in roles
        ]
        load = csv_number(row["load"]) if is_number(row["load"]) else ""
        rows.append(
            [pair_text(row["pair"]), str(order), csv_number(row["decode_tps"]), row["kind"],
             row["limited"] or "", load, *lines]
        )  # fmt: skip
    named = f"{sweep['name']} ({mix_text(sweep)})" if mix_text(sweep) else str(sweep["name"])
    title = f"{named}: {_answer(sweep)}"
    reading = (
        "Splits from least to most prefill, each at the load at which it did best"
        f" ({judged_text(sweep)}); a diamond is the best, squares lie within 3 % of it."
    )
    if any(row[-2] or row[-1] for row in rows):
        reading += (
            " Dashed: what prefill alone could serve (α · P), dotted: what decode alone could (β · D); a"
            " split serves the smaller of the two."
        )
    header = ["split", "order", "tps", "kind", "limited", "load", "prefill_line", "decode_line"]
    places = {"Y": "output served (tokens/s)"}
    return make("sweep", f"sweep-{place}", (title, reading, title + "."), (header, rows), places=places)


def _answer(sweep: Mapping[str, Any]) -> str:
    if not sweep.get("best"):
        return "no split holds the limits"
    near = [pair_text(pair) for pair in sweep.get("near") or [] if pair != sweep["best"]]
    more = f", {' and '.join(near)} within 3 %" if near else ""
    return f"{pair_text(sweep['best'])} serves most, ratio {number(sweep.get('ratio'))}{more}"
