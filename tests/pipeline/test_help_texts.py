"""HELP texts of the input decide the unit where values fit either."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from hs_analysis.pipeline.chain import STAGES
from hs_analysis.pipeline.session import run_inputs
from hs_analysis.pipeline.stages import Silent
from hs_analysis.schema.settings import Settings

METRIC = "vllm:kv_cache_usage_perc"


@pytest.mark.parametrize(
    ("help_text", "repair", "evidence"),
    [
        ("KV-cache usage, 0-100.", 0.01, "help: 0.1 to 0.8, percent where ratio is documented"),
        ("KV-cache usage. 1 means 100 percent usage.", None, "help: 0.1 to 0.8"),
        (None, None, "assumed: 0.1 to 0.8, ratio as documented"),
    ],
)
def test_a_help_text_tells_the_unit(
    tmp_path: Path, help_text: str | None, repair: float | None, evidence: str
) -> None:
    """An idle cache at 0.8 is a ratio or a percentage; the exporter knows."""
    lines = [] if help_text is None else [f"# HELP {METRIC} {help_text}"]
    lines += [
        f'{METRIC}{{pod="decode-0",model_name="m"}} {0.1 + 0.1 * (i % 8):.1f} {1_764_000_000 + 30 * i}.0'
        for i in range(120)
    ]
    (tmp_path / "kv.om").write_text("\n".join([*lines, "# EOF", ""]))
    run_inputs(
        [tmp_path / "kv.om"], "ingest", Settings(), stages=STAGES, progress=Silent(), run_dir=tmp_path / "run"
    )
    series = pl.read_parquet(tmp_path / "run" / "data" / "series.parquet")
    assert series.select("repair", "scale_evidence").rows() == [(repair, evidence)]
