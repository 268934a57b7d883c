"""Benchmark points as frames of the contract `bench`: made by hand, the paper's ratio test, public files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from hs_analysis.schema.frames import BENCH, check, empty

PAPER = {
    # Splits of 16 instances: prefill and decode tokens/s of two services, arXiv:2508.19559, figure 4.
    "A": [(7, 137.0, 21.0), (8, 177.0, 25.5), (9, 197.0, 26.7), (10, 182.0, 26.4), (11, 189.0, 26.3),
          (12, 136.0, 20.3)],
    "B": [(7, 120.0, 11.2), (8, 146.0, 13.8), (9, 176.0, 16.1), (10, 194.0, 18.2), (11, 186.0, 18.0),
          (12, 150.0, 14.9)],
}  # fmt: skip


def points(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return benchmark points from the columns that matter; the rest is null."""
    base: dict[str, Any] = dict.fromkeys(BENCH.names)
    base |= {"capture": "", "file": "made", "format": "made", "series": "made", "kind": "point"}
    return check(pl.DataFrame([base | dict(row) for row in rows], schema=empty(BENCH).schema), BENCH)


def paper() -> pl.DataFrame:
    """Return the paper's ratio test as benchmark points."""
    return points(
        [
            {"series": f"service {name}", "model": f"service {name}", "prefill_instances": p,
             "decode_instances": 16 - p, "prefill_tps": 1e3 * prefill, "decode_tps": 1e3 * decode}
            for name, rows in PAPER.items()
            for p, prefill, decode in rows
        ]
    )  # fmt: skip


def silicon(folder: Path) -> pl.DataFrame:
    """Return the disaggregated points of aiconfigurator's measurements that say their worker counts."""
    raw = pl.read_csv(folder / "aiconfigurator-silicon" / "silicon_sample.csv.gz", infer_schema_length=None)
    raw = raw.filter((pl.col("mode") == "disagg") & pl.col("prefill_num_workers").is_not_null())
    concurrency = pl.col("silicon_data_source").str.extract(r"silicon_concurrency=(\d+)").cast(pl.Float64)
    raw = raw.with_columns(concurrency.alias("concurrency"))
    rows = []
    for row in raw.iter_rows(named=True):
        ttft, tbt = row["silicon_ttft_ms"] / 1e3, row["silicon_tpot_ms"] / 1e3
        served = row["concurrency"] / (ttft + tbt * (row["osl"] - 1)) if row["concurrency"] else None
        gpus = {
            role: row[f"{role}_num_workers"] * row[f"{role}_tp_size"] * (row[f"{role}_pp_size"] or 1)
            * (row[f"{role}_attention_dp_size"] or 1)
            for role in ("prefill", "decode")
        }  # fmt: skip
        rows.append(
            {"series": row["id"], "model": row["model_path"], "precision": row["precision"],
             "engine": f"{row['backend']} {row['backend_version'] or ''}".strip(), "disaggregated": True,
             "prefill_instances": row["prefill_num_workers"], "decode_instances": row["decode_num_workers"],
             "prefill_gpus": gpus["prefill"], "decode_gpus": gpus["decode"],
             "prefill_gpu_type": row["system"], "decode_gpu_type": row["system"], "isl": row["isl"],
             "osl": row["osl"], "concurrency": row["concurrency"], "request_throughput": served,
             "prefill_tps": served and served * row["isl"], "decode_tps": served and served * row["osl"],
             "ttft_mean_s": ttft, "tbt_mean_s": tbt}
        )  # fmt: skip
    return points(rows)
