"""Samples that contradict each other: any number of them, all on disk, none in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import duckdb
import numpy as np
import pytest
from robustness.machine import hsa

from hs_analysis.ingest import staging
from hs_analysis.ingest.staging import Samples


def test_any_number_of_contradictions_is_written_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to disk as the rows that readers refuse do; none is lost, none of a broken file kept."""
    monkeypatch.setattr(staging, "REJECTED_BATCH", 7)
    size = 1000
    t_us = np.repeat(np.arange(size // 2), 2)
    values = np.where(np.arange(size) % 3 == 0, np.nan, np.arange(size, dtype=float))
    torn = Samples(t_us, values, np.zeros(size, np.uint8), np.arange(size) % 3)
    with tempfile.TemporaryFile() as scratch, staging.Quarantine(scratch) as aside:
        aside.contradictions(torn, 'm{a="b"}', ["x", "y", "z"])
        batches = list(aside.batches([0, 2]))
    assert max(batch.num_rows for batch in batches) <= 7
    rows = [row for batch in batches for row in batch.to_pylist()]
    kept = np.flatnonzero(np.arange(size) % 3 != 1)
    assert [row["position"] for row in rows] == t_us[kept].tolist()
    assert [row["file"] for row in rows] == ["xyz"[i % 3] for i in kept]
    assert [row["raw"] for row in rows[:2]] == ["[0.0,None]", "[1e-06,2.0]"]


@pytest.mark.slow
def test_the_memory_of_contradictions_does_not_grow_with_them(tmp_path: Path) -> None:
    """Two files that contradict each other in every sample: a hundred bytes each would show."""
    peaks = {}
    for series in (10, 160):
        folder = tmp_path / str(series)
        folder.mkdir()
        for name, value in (("a.json", "1"), ("b.json", "2")):
            pairs = ",".join(f'[{1_764_000_000 + i},"{value}"]' for i in range(10_000))
            result = ",".join(
                f'{{"metric":{{"__name__":"vllm:num_requests_waiting","pod":"{i}"}},"values":[{pairs}]}}'
                for i in range(series)
            )
            answer = f'{{"status":"success","data":{{"resultType":"matrix","result":[{result}]}}}}'
            (folder / name).write_text(answer)
        done = hsa("ingest", folder, "--run-dir", folder / "run")
        assert done.code in (0, 1), done.err
        peaks[series] = done.peak_mb
        with duckdb.connect() as connection:
            rejected = connection.execute(
                f"SELECT count(*) FROM '{folder / 'run' / 'data' / 'rejected.parquet'}'"
            ).fetchone()
        assert rejected == (2 * series * 10_000,)
    assert peaks[160] < peaks[10] + 150, peaks
